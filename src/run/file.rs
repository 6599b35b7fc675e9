//! Files that are written.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Replaces a file whole or not at all: who reads it meanwhile has the old one. A pipe or a device is written as it is.
pub(super) fn replace<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let special = fs::metadata(path).is_ok_and(|m| !m.is_file());
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    let part = path.with_file_name(format!(".{}.part", name.unwrap_or_default()));
    let mut out = BufWriter::new(if special {
        File::options().write(true).open(path)?
    } else {
        File::create(&part)?
    });
    write(&mut out)?;
    out.flush()?;
    if !special {
        fs::rename(&part, path)?;
    }
    Ok(())
}
