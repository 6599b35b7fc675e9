//! Files: read up to a bound, and waited for only where somebody named them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What people write by hand: policies, prices, bands.
pub const WRITTEN: u64 = 16 << 20;
/// What gpuwaste itself writes for others: reports of the largest fleets stay far below.
pub const PRINTED: u64 = 512 << 20;

/// The whole of a file that was named. It may be a pipe, whose writer is waited for.
///
/// # Errors
/// What the system says, and where it is larger than `limit` bytes.
pub fn named(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read(File::open(path)?, limit)
}

/// The same of text.
///
/// # Errors
/// Also where it is not UTF-8.
pub fn named_text(path: &Path, limit: u64) -> io::Result<String> {
    let bytes = named(path, limit)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// The whole of what lies in a folder that was named: nobody waits there for a pipe or reads a device.
///
/// # Errors
/// As [`named`], and where it is no plain file.
pub fn found(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read(open_found(path)?, limit)
}

/// Opens it, if it is a plain file (or a link to one).
///
/// # Errors
/// What the system says, and where it is something else.
pub fn open_found(path: &Path) -> io::Result<File> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    File::open(path)
}

/// All that a source has.
///
/// # Errors
/// What the system says, and where it is more than `limit` bytes.
pub fn read(source: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {} MiB", limit >> 20)));
    }
    Ok(bytes)
}
