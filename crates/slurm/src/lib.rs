//! What Slurm's own commands print, as facts of a fleet: nodes with their GPUs, jobs as what holds them. Pure: whoever runs
//! the commands, or opens the files, hands the text over.
//!
//! Two generations of JSON are read (Slurm 22.05's, and that of 23.02 and later, where numbers are objects and states are
//! lists), and the text of `scontrol` and `sacct`. No output is believed to be whole: what is odd is counted and named.

// Tests compare figures that must be exact.
#![cfg_attr(test, allow(clippy::float_cmp))]

pub mod account;
pub mod activity;
pub mod cluster;
pub mod config;
pub mod gres;
pub mod hostlist;
pub mod job;
pub mod jobstats;
mod lenient;
pub mod node;
pub mod past;
pub mod rest;
pub mod steps;
mod text;

/// What was read of one output.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// Entries that are not what Slurm prints.
    pub odd: usize,
    /// When the controller last changed what it told, or said that it was asked; seconds since 1970.
    pub at: Option<i64>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            odd: 0,
            at: None,
        }
    }
}
