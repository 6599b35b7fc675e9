//! The library under the `gpuwaste` binary. It exports one function.
//!
//! The flow: `collect` (I/O) → `snapshot` (what was seen) → `fleet` (what it means) → `analyze` (findings) →
//! `report` (ranked, each GPU-hour claimed at most once) → `verdict` (gates, exit code). Each is in a crate under `crates/`.
//! The layers, and where new things go: docs/architecture.md and docs/adding.md.

mod cli;
mod run;

use gpuwaste_catalog as catalog;
use gpuwaste_collect as collect;
use gpuwaste_engine as engine;
use gpuwaste_facts::{snapshot, text, units};
use gpuwaste_fit as fit;
use gpuwaste_judge::{self as judge, analyze, report, settings, verdict};

use gpuwaste_plan as plan;

use std::process::ExitCode;

/// Parses the command line, runs the command, prints the error once and returns the exit code of the contract.
pub fn main() -> ExitCode {
    run::main()
}
