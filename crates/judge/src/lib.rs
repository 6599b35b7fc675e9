//! From a snapshot to a verdict: `settings` → `fleet` (what was seen means) → `analyze` (findings) → `report` (ranked,
//! each GPU-hour claimed at most once) → `verdict` (gates, exit code). Pure: no I/O, no clock, no environment.
//!
//! The rules that comments cite as R1 to R12 are in docs/rules.md, what each check fires on in docs/definitions.md.

// Tests compare figures that must be exact.
#![cfg_attr(test, allow(clippy::float_cmp))]

pub mod analyze;
pub mod fleet;
#[cfg(any(test, fuzzing))]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "as in tests, which clippy does not take this for"
)]
#[cfg_attr(
    fuzzing,
    allow(
        dead_code,
        unused_imports,
        clippy::missing_panics_doc,
        reason = "the tests' part is not built"
    )
)]
mod guards;
mod pipeline;
pub mod report;
pub mod settings;
pub mod verdict;

use gpuwaste_catalog as catalog;
use gpuwaste_engine as engine;
use gpuwaste_facts::{snapshot, units};
use gpuwaste_fit as fit;

pub use catalog::prices::glob;
#[cfg(fuzzing)]
pub use guards::fuzz as fuzzing;
pub use pipeline::{Case, join, report_of, report_on};
