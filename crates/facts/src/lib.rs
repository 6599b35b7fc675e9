//! What sources said of a fleet, as it is recorded, and the units of every number in it. Everything else builds on this
//! (docs/architecture.md).

// Tests compare figures that must be exact.
#![cfg_attr(test, allow(clippy::float_cmp))]

pub mod limits;
pub mod snapshot;
pub mod text;
pub mod units;
