//! Suppressions, baseline, gates and exit code, over a finished report (R8).

mod baseline;
mod decided;
mod gates;
pub mod gone;
pub mod growth;
mod suppress;

pub use baseline::Baseline;
pub use decided::{Decisions, apply as decide};
pub use gates::{DEFAULT_COVERAGE, Verdict, counted, doubt, judge, short_of};
pub use suppress::suppress;

use crate::analyze::finding::FindingKind;
use crate::fleet::SlotId;
use crate::report::document::{Report, ReportFinding, Status};
use crate::report::ledger::Ledger;
use crate::units::UsdPerHour;
use growth::Money;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One GPU, or a part of one, by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    pub node: String,
    pub gpu: String,
}

impl Place {
    /// GPUs without a name of their own change places between two scans: on one node they are one.
    fn new(cluster: Option<&str>, node: &str, gpu: &str) -> Self {
        let gpu = if gpu.starts_with("slot-") { "slots" } else { gpu };
        Self {
            cluster: cluster.map(str::to_owned),
            node: node.to_owned(),
            gpu: gpu.to_owned(),
        }
    }
}

fn places(f: &ReportFinding) -> Vec<(Place, Option<UsdPerHour>)> {
    let cluster = f.subject.cluster.as_deref();
    let of = |c: &crate::report::document::ReportClaim| (Place::new(cluster, &c.node, &c.gpu), c.usd_per_hour);
    f.claims.iter().map(of).collect()
}

/// The recoverable findings of a report that count, as money.
pub fn money(report: &Report, counts: impl Fn(&ReportFinding) -> bool) -> Vec<Money> {
    let counted = report.findings.iter().filter(|f| f.status != Status::Suppressed);
    counted
        .filter(|f| f.kind == FindingKind::Recoverable && counts(f))
        .map(|f| Money::new(&f.id, f.usd_per_hour, places(f).into_iter()))
        .collect()
}

/// GPUs that all replicas of a workload hold; `None`: there is no such workload, or it does not tell.
fn held_gpus(report: &Report, namespace: Option<&str>, name: Option<&str>) -> Option<f64> {
    let (namespace, name) = (namespace?, name?);
    let w = report
        .workloads
        .iter()
        .find(|w| w.namespace == namespace && w.name == name)?;
    Some(w.replicas? as f64 * w.gpus_per_replica? as f64)
}

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
