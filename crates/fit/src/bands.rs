//! Bands: how far the model's estimates were off on servers of threads that it had not seen.

use super::amount::Amount;
use super::memory::Case;

/// Share of the band inside which nothing is decided.
const DECIDING_SHARE: f64 = 0.55;
/// Share of the band of what comes after the pool that must have room.
const AFTER_SHARE: f64 = 1.0;

pub(super) fn widened(_case: &Case<'_>, pool: Amount) -> Amount {
    pool
}

/// The ends that decide.
pub(super) fn deciding(_case: &Case<'_>, pool: Amount) -> (f64, f64) {
    let at = |end: f64, share: f64| pool.value + share * (end - pool.value);
    (at(pool.low, 1.0), at(pool.high, DECIDING_SHARE))
}

pub(super) fn after_at_bad_end(after: Amount) -> f64 {
    after.value + AFTER_SHARE * (after.high - after.value)
}
