//! The ledger of decisions: what people decided about findings, what that saved, and what it teaches.
//!
//! A folder in the user's repository, a TOML file a finding, events only ever appended: [`entry`] is such a file, [`state`] says
//! what stands on a day, [`store`] is the folder (the only I/O here), [`standing`] puts states on a report. The money ledger,
//! which says who gets which GPU-hour, is another thing: it is in `gpuwaste_judge::report::ledger`.

pub mod entry;
pub mod exchange;
mod propose;
pub mod record;
#[cfg(test)]
mod record_tests;
pub mod scene;
pub mod select;
pub mod settle;
pub mod standing;
pub mod state;
pub mod store;
#[cfg(test)]
mod tests;

use gpuwaste_facts::units;
use gpuwaste_judge::{report, verdict};
