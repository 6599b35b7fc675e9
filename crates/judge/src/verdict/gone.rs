//! What became of a finding that is gone: only what stops a bill is saved.

use super::Place;
use crate::report::document::{Became, Report, Status};
use crate::units::UsdPerHour;
use std::collections::{BTreeMap, BTreeSet};

/// A finding that was there, as far as it is told.
pub struct Was<'a> {
    pub id: &'a str,
    pub check: &'a str,
    pub namespace: Option<&'a str>,
    pub name: Option<&'a str>,
    /// GPUs that its subject held in all; `None`: not told, or it holds none.
    pub held: Option<f64>,
    pub claims: Vec<(Place, Option<UsdPerHour>)>,
}

/// Checks that say of a GPU at work that it need not be: that it works still is no end of it.
const AT_WORK: [&str; 7] = [
    "oversized-tier",
    "over-replicated",
    "idle-schedule",
    "low-utilization",
    "parallelism-mismatch",
    "sharing-mismatch",
    "mig-layout",
];

/// What the new report says of one GPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Its node is not there any more.
    Left,
    Works,
    Claimed,
    /// Nobody can say.
    Unknown,
}

/// The class of each, parallel to `gone`. `old_spend`: of the report they come from; `None`: not told.
pub fn classes(gone: &[Was<'_>], old_spend: Option<UsdPerHour>, new: &Report) -> Vec<Became> {
    let fates = Fates::of(gone, new);
    // Bills that stopped: no more than the spend fell by can have been saved.
    let fell = old_spend
        .zip(new.totals.spend_usd_per_hour)
        .map(|(old, new)| (old - new).micros());
    let mut left = fell.unwrap_or(0);
    gone.iter()
        .map(|was| {
            let mut money: BTreeMap<Fate, i64> = BTreeMap::new();
            for (place, usd) in &was.claims {
                *money.entry(fates.fate(place)).or_default() += usd.map_or(1, UsdPerHour::micros);
            }
            let Some((fate, usd)) = money.into_iter().max_by_key(|(fate, usd)| (*usd, *fate)) else {
                return Became::Vanished;
            };
            match fate {
                Fate::Claimed => Became::Moved,
                // A hundredth: prices round.
                Fate::Left if left as f64 >= usd as f64 * 0.99 => {
                    left -= usd;
                    Became::Saved
                }
                Fate::Works if !AT_WORK.contains(&was.check) || has_shrunk(was, new) => Became::Freed,
                Fate::Left | Fate::Works | Fate::Unknown => Became::Vanished,
            }
        })
        .collect()
}

/// The workload holds fewer GPUs than it did.
fn has_shrunk(was: &Was<'_>, new: &Report) -> bool {
    was.held
        .is_some_and(|held| super::held_gpus(new, was.namespace, was.name).unwrap_or(0.0) < held)
}

struct Fates<'r> {
    claimed: BTreeSet<Place>,
    /// By cluster and node: every GPU there that no finding claims is at work.
    nodes: BTreeMap<(Option<&'r str>, &'r str), bool>,
    read: bool,
    /// Nothing runs yet: what is planned has no state, and its bill alone says what became of it.
    planned: bool,
}

impl<'r> Fates<'r> {
    fn of(gone: &[Was<'_>], new: &'r Report) -> Self {
        let claimed: BTreeSet<Place> = new
            .findings
            .iter()
            .filter(|f| f.kind == crate::analyze::finding::FindingKind::Recoverable)
            .flat_map(|f| {
                f.claims
                    .iter()
                    .map(|c| Place::new(f.subject.cluster.as_deref(), &c.node, &c.gpu))
            })
            .collect();
        let asked: BTreeSet<&Place> = gone.iter().flat_map(|w| w.claims.iter().map(|(p, _)| p)).collect();
        let nodes = new
            .nodes
            .iter()
            .map(|node| {
                let cluster = node.cluster.as_deref();
                let here = |p: &&Place| p.node == node.name && p.cluster.as_deref() == cluster;
                let unclaimed = asked
                    .iter()
                    .copied()
                    .filter(here)
                    .filter(|p| !claimed.contains(p))
                    .count() as f64;
                let state = |name: &str| node.states.get(name).copied().unwrap_or(0.0);
                let works = state("unknown") == 0.0 && state("working") + 1e-6 >= unclaimed.min(node.gpus as f64);
                ((cluster, node.name.as_str()), works)
            })
            .collect();
        // Without the nodes nobody can say that one of them left.
        let read =
            new.totals.coverage_percent.is_some() || new.totals.gpus == 0.0 && new.totals.spend_usd_per_hour.is_some();
        let manifests = |s: &crate::snapshot::Source| s.kind == crate::snapshot::SourceKind::Manifest;
        Self {
            claimed,
            nodes,
            read,
            planned: !new.sources.is_empty() && new.sources.iter().all(manifests),
        }
    }

    fn fate(&self, place: &Place) -> Fate {
        if self.claimed.contains(place) {
            return Fate::Claimed;
        }
        if self.planned {
            return Fate::Left;
        }
        match self.nodes.get(&(place.cluster.as_deref(), place.node.as_str())) {
            Some(true) => Fate::Works,
            None if self.read => Fate::Left,
            Some(false) | None => Fate::Unknown,
        }
    }
}

/// Money of what is gone, by what became of it; what could not be judged is in none.
pub fn sums<'f>(
    gone: impl Iterator<Item = (Became, Option<UsdPerHour>)> + 'f,
) -> BTreeMap<Became, (u64, Option<UsdPerHour>)> {
    let mut all: BTreeMap<Became, (u64, Option<UsdPerHour>)> = BTreeMap::new();
    for (became, usd) in gone {
        let sum = all.entry(became).or_default();
        sum.0 += 1;
        if let Some(usd) = usd {
            *sum.1.get_or_insert_default() += usd;
        }
    }
    all
}

/// Findings that count, of a report.
pub fn was(report: &Report) -> Vec<Was<'_>> {
    let counted = report.findings.iter().filter(|f| f.status != Status::Suppressed);
    counted
        .map(|f| Was {
            id: &f.id,
            check: &f.check,
            namespace: f.subject.namespace.as_deref(),
            name: f.subject.name.as_deref(),
            held: super::held_gpus(report, f.subject.namespace.as_deref(), f.subject.name.as_deref()),
            claims: super::places(f),
        })
        .collect()
}
