//! Files that people name, read no further than any such file is long: a pipe or a device has no end.

use anyhow::{Result, bail};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What people write: a policy, prices, bands. The longest price list of a cloud is a few MB.
pub(super) const WRITTEN: u64 = 32 << 20;
/// A report or baseline: 50,000 findings take about 100 MB.
pub(super) const REPORT: u64 = 1 << 30;

/// Text of at most `most` bytes.
pub(super) fn text(path: &Path, most: u64) -> Result<String> {
    let bytes = bytes(path, most)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => bail!("it is no text (UTF-8)"),
    }
}

/// The file, or stdin for `-`, up to `most` bytes. What is longer is an error, never a part of a file.
pub(super) fn bytes(path: &Path, most: u64) -> Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        return up_to(io::stdin().lock(), most);
    }
    up_to(File::open(path)?, most)
}

fn up_to(source: impl Read, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        bail!("it is larger than {} MiB, which no such file is", most >> 20);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_an_error() {
        assert_eq!(up_to(&b"abc"[..], 3).unwrap(), b"abc");
        let long = up_to(io::repeat(b' '), 2 << 20).unwrap_err().to_string();
        assert!(long.contains("larger than 2 MiB"), "{long}");
        assert!(up_to(&b"abcd"[..], 3).is_err());
    }
}
