//! The guard against lost reads as a fuzz target (fuzz/targets/faults.rs): the fuzzer chooses the fleet and what is lost.

use super::invariants::hold;
use super::monotone::{ALL, assert_not_better, lose};
use super::{Dice, fleets, judge};

/// Eight bytes for the fleet, then two a lost read: which, and where. Each read is lost from what the former left.
///
/// # Panics
/// Where a lost read makes anything surer, dearer or better covered.
pub fn faults(data: &[u8]) {
    let Some((seed, rest)) = data.split_first_chunk::<8>() else {
        return;
    };
    let made = fleets::make(u64::from_le_bytes(*seed));
    let mut snapshot = made.snapshot;
    let mut before = judge(&snapshot, &made.prices);
    hold(&before, "whole");
    for step in rest.chunks_exact(2).take(6) {
        let lost = ALL[usize::from(step[0]) % ALL.len()];
        if lose(&mut snapshot, lost, &mut Dice(u64::from(step[1]))) {
            let after = judge(&snapshot, &made.prices);
            let what = format!("without {lost:?} ({})", step[1]);
            hold(&after, &what);
            assert_not_better(&before, &after, &what);
            before = after;
        }
    }
}
