//! What must hold for every fleet, whatever the checks say of it: truth on generated fleets, sums, and that a read which
//! fails never makes a fleet look worse or better known than it is.

#[cfg(test)]
mod absurd;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod contradict;
#[cfg(test)]
mod demo;
mod fleets;
#[cfg(fuzzing)]
pub mod fuzz;
#[cfg(test)]
mod gates;
#[cfg(test)]
mod gone;
#[cfg(test)]
mod hidden;
mod invariants;
#[cfg(test)]
#[allow(clippy::similar_names, reason = "a node, its note and its mode")]
mod manifests;
mod monotone;
#[cfg(test)]
mod promise;
#[cfg(test)]
mod truth;
#[cfg(test)]
mod unknown;
#[cfg(test)]
mod unread;

use crate::analyze::{self, Context, Outcome};
use crate::catalog::prices::PriceBook;
use crate::fleet::{self, Fleet};
use crate::report::document::{PolicyUse, Report};
use crate::report::ledger::Ledger;
use crate::report::{self, Input};
use crate::settings::{Gates, Settings};
use crate::snapshot::Snapshot;
use crate::verdict;

/// Everything one scan makes of a snapshot.
struct Judged {
    fleet: Fleet,
    outcomes: Vec<(&'static str, Outcome)>,
    report: Report,
}

/// The pipeline as `scan` runs it, with a gate at zero for each confidence, lowest first.
fn judge(snapshot: &Snapshot, prices: &PriceBook) -> Judged {
    judge_fleet(snapshot, fleet::join(snapshot, prices, &Settings::default()), None)
}

/// The same, of a fleet that was joined before.
fn judge_fleet(snapshot: &Snapshot, fleet: Fleet, group_by: Option<&report::rows::GroupBy>) -> Judged {
    let settings = Settings::default();
    let outcomes = analyze::run(&Context::new(&fleet, &settings), |_| true);
    let ledger = Ledger::new(&fleet, &outcomes);
    let suppressed = verdict::suppress(&ledger, &settings, |_| true);
    let input = Input {
        outcomes: &outcomes,
        sources: &snapshot.sources,
        gaps: &snapshot.gaps,
        group_by,
        suppressed: &suppressed.reasons,
        policy: PolicyUse::default(),
        owner_labels: &[],
    };
    let mut report = report::build(&ledger, &input);
    let statuses = verdict::statuses(&report, &ledger, &suppressed.reasons, None);
    for confidence in [
        analyze::finding::Confidence::Assumed,
        analyze::finding::Confidence::Estimated,
        analyze::finding::Confidence::Measured,
    ] {
        let gates = Gates {
            max_waste: Some(0.0),
            confidence: Some(confidence),
            ..Gates::default()
        };
        verdict::judge(&mut report, &ledger, &statuses, &[], &gates, None);
    }
    drop(ledger);
    Judged {
        fleet,
        outcomes,
        report,
    }
}

/// SplitMix64: the same fleets on every machine and in every version of every crate.
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }

    /// True in `percent` of 100 rolls.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// The fleet of `scan --demo`, as it was recorded.
#[cfg(test)]
pub(crate) fn recorded_demo() -> Snapshot {
    let bytes = include_bytes!("../../../../fixtures/demo/snapshot.json.zst");
    serde_json::from_slice(&zstd::decode_all(&bytes[..]).unwrap()).unwrap()
}
