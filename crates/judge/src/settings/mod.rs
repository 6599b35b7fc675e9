//! Thresholds and intent: built in ← policy file ← flags, validated into one type that the checks read.

mod print;
mod raw;
mod thresholds;

pub use print::print;
pub use raw::{RawPolicy, laid_over, parse};
#[cfg(test)]
pub(crate) use thresholds::KEYS;
pub use thresholds::Thresholds;

use crate::catalog::bill::Bill;
use crate::catalog::models::ModelBook;
use crate::catalog::prices::PriceEntry;
use crate::units::Confidence;
use jiff::civil::Date;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that can be tuned. Every number here is a key of the policy file (R10); the defaults and their sources
/// are those of the check definitions.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub thresholds: Thresholds,
    /// Checks that are not run.
    pub skip: Vec<String>,
    pub gates: Gates,
    pub tolerance: Tolerance,
    pub suppressions: Vec<Suppression>,
    /// Labels that name an owner, the first that a workload has wins.
    pub owner_labels: Vec<String>,
    /// In the order they are tried.
    pub prices: Vec<PriceEntry>,
    /// What was really paid (`--focus`).
    pub bill: Option<Arc<Bill>>,
    /// Models of the user's own (`--models`), in front of the catalogue.
    pub models: ModelBook,
    /// What servers of other fleets told (`--learned`).
    pub learned: Vec<LearnedFact>,
    /// The policy file in force; `None`: built in.
    pub file: Option<String>,
    /// Where a key's value comes from, by its dotted path; keys that are missing are built in.
    pub origins: BTreeMap<String, String>,
}

/// A measured fact, and the file that told it.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnedFact {
    pub fact: crate::fit::book::facts::Fact,
    pub file: String,
}

/// What the user asked to be failed for (R8).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gates {
    /// USD per hour.
    pub max_waste: Option<f64>,
    /// Of priced spend.
    pub max_waste_percent: Option<f64>,
    /// USD per hour that the baseline does not have.
    pub max_new_waste: Option<f64>,
    /// USD per hour.
    pub max_at_risk: Option<f64>,
    /// USD per hour of findings that were snoozed or dismissed.
    pub max_dismissed: Option<f64>,
    /// Percent; 80 as soon as any other gate is given.
    pub min_coverage: Option<f64>,
    /// Findings under this confidence do not count.
    pub confidence: Option<Confidence>,
}

impl Gates {
    /// The keys of the policy file, which are the flags with underscores.
    pub fn limits(&self) -> [(&'static str, Option<f64>); 6] {
        [
            ("max_waste", self.max_waste),
            ("max_waste_percent", self.max_waste_percent),
            ("max_new_waste", self.max_new_waste),
            ("max_at_risk", self.max_at_risk),
            ("max_dismissed", self.max_dismissed),
            ("min_coverage", self.min_coverage),
        ]
    }

    pub fn any(&self) -> bool {
        self.limits().iter().any(|(_, limit)| limit.is_some())
    }
}

/// How much worse than its baseline a finding may get before it counts as new: both must be exceeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Share of the baseline's figure (ours: 10 %, more than prices and rounding move).
    pub share: f64,
    /// USD per hour (ours: $0.25, what a sizing finding must save at least).
    pub usd_per_hour: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            share: 0.10,
            usd_per_hour: 0.25,
        }
    }
}

/// Findings that somebody decided to live with, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Suppression {
    /// "dark-capacity", "dark-capacity/idle" or "all".
    pub check: String,
    /// "namespace/name" of a workload, a pool's name, or a finding's id; `*` matches any run of characters.
    pub subject: String,
    /// Only in clusters of this name; `*` matches any run of characters.
    pub cluster: Option<String>,
    pub reason: String,
    /// The last day it holds.
    pub expires: Option<Date>,
    /// In the policy file.
    pub line: usize,
}
