//! The last bound: whatever is sent, or lies in a file, this process stays below 600 MiB, or ends and says so.

use crate::collect::held::{VARIABLE, allowed_mib, resident};
use anyhow::{Result, anyhow};
use std::io::{self, Write};
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(10);

/// Looks on from a thread of its own, where the system tells (Linux). A process that ends here has no verdict: exit code 2.
///
/// # Errors
/// What is said of the memory is no number.
pub(super) fn watch() -> Result<()> {
    let most = allowed_mib().map_err(|why| anyhow!(why))?;
    if resident().is_none() {
        return Ok(());
    }
    // Where no thread can be made there are other troubles than this.
    let _ = std::thread::Builder::new().name("memory".into()).spawn(move || {
        loop {
            std::thread::sleep(EVERY);
            if resident().is_some_and(|bytes| bytes > most << 20) {
                let _ = writeln!(
                    io::stderr(),
                    "gpuwaste: what was read needs more than {most} MiB of memory: there is no verdict, and what was printed is not whole\n  \
                     look at what was sent or lies in the files; read less at a time (one --context, one --snapshot, fewer manifests); or allow more: {VARIABLE}=2048"
                );
                std::process::exit(super::COULD_NOT.into());
            }
        }
    });
    Ok(())
}
