//! How much memory this process has in use: what bounds that count objects and bytes cannot promise.

/// Resident memory in bytes, as Linux tells it. `None`: another system, or no /proc.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// What reading may have in use while there is more to read: judging and printing take as much again and a fifth
/// (tests/armour/test_bounds.py measures it), and all of it together is to stay below 600 MiB.
const READING: u64 = 240 << 20;

/// Reading has taken its share.
pub(crate) fn is_full() -> bool {
    resident().is_some_and(|bytes| bytes > READING)
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_is_written_to_counts() {
        let before = super::resident().unwrap();
        let block = vec![1_u8; 64 << 20];
        let after = super::resident().unwrap();
        assert!(
            block.iter().all(|b| *b == 1) && after > before + (48 << 20),
            "{before} {after}"
        );
    }
}
