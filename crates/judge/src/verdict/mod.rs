//! Suppressions, baseline, gates and exit code, over a finished report (R8).

mod baseline;
mod gates;
mod suppress;

pub use baseline::Baseline;
pub use gates::{Verdict, judge};
pub use suppress::suppress;

use crate::analyze::finding::FindingKind;
use crate::fleet::SlotId;
use crate::report::document::{Report, Status};
use crate::report::ledger::Ledger;
use std::collections::{BTreeMap, BTreeSet};

/// The status of every finding of the ledger, also of those that are not listed because all their money is in findings
/// of a higher rank: they count where a gate leaves those others out.
pub fn statuses(
    report: &Report,
    ledger: &Ledger<'_>,
    suppressed: &[Option<String>],
    baseline: Option<&Baseline>,
) -> Vec<Status> {
    let listed: BTreeMap<&str, Status> = report.findings.iter().map(|f| (f.id.as_str(), f.status)).collect();
    // GPUs whose waste the baseline has under another finding's name.
    let known: BTreeSet<SlotId> = ledger
        .ids
        .iter()
        .zip(&ledger.findings)
        .filter(|(id, _)| listed.get(id.as_str()) == Some(&Status::Baseline))
        .filter(|(_, f)| f.kind == FindingKind::Recoverable)
        .flat_map(|(_, f)| f.claims.iter().map(|c| c.slot))
        .collect();
    ledger
        .ids
        .iter()
        .zip(&ledger.findings)
        .zip(suppressed)
        .map(|((id, finding), reason)| match listed.get(id.as_str()) {
            Some(status) => *status,
            None if reason.is_some() => Status::Suppressed,
            None if baseline.is_some_and(|b| b.has(id)) => Status::Baseline,
            None if !finding.claims.is_empty() && finding.claims.iter().all(|c| known.contains(&c.slot)) => {
                Status::Baseline
            }
            None => Status::New,
        })
        .collect()
}
