//! GPUs, instances, prices, models: embedded data rows and look-ups. Where rows come from, and how they are made: docs/data.md.

// Tests compare figures that must be exact.
#![cfg_attr(test, allow(clippy::float_cmp))]

pub mod bill;
#[cfg(test)]
mod data_tests;
pub mod gpus;
pub mod instances;
pub mod mig;
pub mod models;
pub mod prices;

use gpuwaste_facts::units;
