//! What machines really cost, as a bill says it (`--focus`).

use super::prices::CapacityType;
use crate::units::UsdPerHour;
use std::collections::BTreeMap;

/// What one machine cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Billed {
    /// The effective cost: discounts taken off, what was paid upfront spread over its term.
    pub usd_per_hour: UsdPerHour,
    /// How it was paid, as far as the bill tells.
    pub paid: CapacityType,
    /// The last day that was charged, UTC: "2026-11-24".
    pub as_of: String,
    /// The instance type, where the bill's words name one that has GPUs.
    pub gpu_type: Option<&'static str>,
    /// It was charged until the end of the bill, or a day before.
    pub lasts: bool,
}

/// A bill's machines, by what names them there and on the API (`Node::billed_as` of the snapshot).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// Of its files, for messages.
    pub name: String,
    pub machines: BTreeMap<String, Billed>,
    /// Machines of the bill whose hours it does not tell well enough for a price of one, with why.
    pub unpriced: BTreeMap<String, &'static str>,
    /// Commitments that were paid and not used, of machines with GPUs: US dollars per hour by instance type.
    pub unused: BTreeMap<&'static str, UsdPerHour>,
    /// Rows that stand in it once more, and count once.
    pub repeated: u64,
    /// Rows that could not be read, and why the first could not.
    pub bad_rows: Option<(u64, String)>,
}
