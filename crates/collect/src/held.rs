//! How much memory this process has in use, and may: what bounds that count objects and bytes cannot promise.

use std::sync::OnceLock;

/// Where the process ends, in MiB: what grows between two looks is to fit below 600.
const MOST_MIB: u64 = 520;
/// Allows more, or less, in MiB.
pub const VARIABLE: &str = "GPUWASTE_MEMORY_MIB";

/// What the process may have in use, in MiB.
///
/// # Errors
/// The variable holds no number of MiB: with its name.
pub fn allowed_mib() -> Result<u64, String> {
    match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => parsed(&text),
        _ => Ok(MOST_MIB),
    }
}

fn parsed(text: &str) -> Result<u64, String> {
    let mib = text.trim().parse::<u64>().ok();
    mib.filter(|mib| (1..1 << 24).contains(mib))
        .ok_or_else(|| format!("{VARIABLE} is no number of MiB, such as 2048"))
}

/// So much of what is usual as may be in use: 2 where twice as much is allowed.
fn share() -> f64 {
    static SHARE: OnceLock<f64> = OnceLock::new();
    *SHARE.get_or_init(|| allowed_mib().unwrap_or(MOST_MIB) as f64 / MOST_MIB as f64)
}

/// Resident memory in bytes, as Linux tells it. `None`: another system, or no /proc.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// What reading may have in use while there is more to read: judging and printing take as much again and a fifth
/// (tests/armour/test_bounds.py measures it), and all of it together is to stay below what is allowed.
const READING: f64 = (240 << 20) as f64;
/// Objects of one list that are kept: pods on nodes with GPUs, such nodes, owners. Each takes about 9 kB until it is printed.
const MAX_KEPT: f64 = 50_000.0;

/// Reading has taken its share.
pub(crate) fn is_full() -> bool {
    resident().is_some_and(|bytes| bytes as f64 > READING * share())
}

/// Of one list.
pub(crate) fn max_kept() -> usize {
    (MAX_KEPT * share()) as usize
}

/// Bytes of one text that is read whole before it is judged. 10,000 Slurm nodes are 15 MB of JSON, 60,000 jobs 240 MB.
pub(crate) fn max_read() -> u64 {
    (READING * share()) as u64
}

/// Says that a text is longer than that.
pub(crate) fn too_much(most: u64) -> String {
    format!("it is more than {} MiB: {VARIABLE}=2048 allows more", most >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_in_use_is_a_number() {
        assert_eq!(parsed(" 2048 "), Ok(2048));
        for text in ["2 GiB", "-1", "0", "x", "99999999999999999999"] {
            assert!(parsed(text).is_err_and(|e| e.contains(VARIABLE)), "{text}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_is_written_to_counts() {
        let before = resident().unwrap();
        let block = vec![1_u8; 64 << 20];
        let after = resident().unwrap();
        assert!(
            block.iter().all(|b| *b == 1) && after > before + (48 << 20),
            "{before} {after}"
        );
    }
}
