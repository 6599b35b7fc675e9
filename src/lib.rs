//! The library under the `gpuwaste` binary. It exports one function: everything else is private, so that the
//! compiler reports what nobody uses.
//!
//! The flow: `collect` (I/O) → `snapshot` (what was seen) → `fleet` (what it means) → `analyze` (findings) →
//! `report` (ranked, each GPU-hour claimed at most once) → `verdict` (gates, exit code).

// Tests compare figures that must be exact.
#![cfg_attr(test, allow(clippy::float_cmp))]

mod analyze;
mod catalog;
mod cli;
mod collect;
mod engine;
mod fit;
mod fleet;
#[cfg(test)]
mod guards;
mod report;
mod run;
mod settings;
mod snapshot;
mod units;
mod verdict;

use std::process::ExitCode;

/// Parses the command line, runs the command, prints the error once and returns the exit code of the contract.
pub fn main() -> ExitCode {
    run::main()
}

/// Entry points for benches; not an API.
#[cfg(feature = "internals")]
pub mod internals {
    pub use crate::fit::bench::{all_tiers, placements};
}
