//! The last bound: whatever is sent, or lies in a file, this process stays below 600 MiB, or ends and says so.

use crate::collect::held::resident;
use std::io::{self, Write};
use std::time::Duration;

/// Where it ends: what grows between two looks is to fit below 600 MiB.
const MOST_MIB: u64 = 520;
const EVERY: Duration = Duration::from_millis(10);
/// Allows more, in MiB.
const VARIABLE: &str = "GPUWASTE_MEMORY_MIB";

/// Looks on from a thread of its own, where the system tells (Linux). A process that ends here has no verdict: exit code 2.
pub(super) fn watch() {
    let allowed = std::env::var(VARIABLE).ok().and_then(|v| v.parse::<u64>().ok());
    let most = allowed.unwrap_or(MOST_MIB);
    if resident().is_none() {
        return;
    }
    // Where no thread can be made there are other troubles than this.
    let _ = std::thread::Builder::new().name("memory".into()).spawn(move || {
        loop {
            std::thread::sleep(EVERY);
            if resident().is_some_and(|bytes| bytes > most << 20) {
                let _ = writeln!(
                    io::stderr(),
                    "gpuwaste: what was read needs more than {most} MiB of memory: there is no verdict, and what was printed is not whole\n  \
                     look at what was sent or lies in the files; read less at a time (one --context, one --snapshot); or allow more: {VARIABLE}=2048"
                );
                std::process::exit(super::COULD_NOT.into());
            }
        }
    });
}
