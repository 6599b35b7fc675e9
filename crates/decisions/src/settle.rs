//! What was done, and what it saved: a series of reports in order of time, one at a time.
//!
//! A claimed (or told, or seen) finding is *applied* where its subject changed towards its fix. From then on each report says where
//! the GPUs are that were let go: their node is gone (*saved*), others work on them (*freed*), they carry a finding (*moved*), or
//! nothing says so (*vanished*). After the waiting period of its kind the finding is *verified*, or *regressed* where harm was seen,
//! or *reverted* where the old placement is back. Only what left the bill is realised.

mod measure;
mod watch;

use crate::entry::{Entry, Seen, Told};
use crate::report::document::Report;
use crate::scene::{PoolKey, Scene};
use crate::standing::Book;
use crate::store::Append;
use gpuwaste_judge::analyze::finding::FindingKind;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use watch::Watch;

/// GPUs are whole but for MIG instances.
const HALF_A_GPU: f64 = 0.5;

/// A series being settled.
pub struct Settler {
    watches: BTreeMap<String, Watch>,
    book: Book,
    last: Option<Timestamp>,
    /// Clusters that reports of this moment told of.
    told: BTreeSet<String>,
    /// Reports that were read.
    pub reports: u64,
}

impl Settler {
    pub fn new(book: Book) -> Self {
        let watches = book
            .entries
            .values()
            .filter_map(|e| Some((e.finding.id.clone(), Watch::of(e)?)));
        Self {
            watches: watches.collect(),
            book,
            last: None,
            told: BTreeSet::new(),
            reports: 0,
        }
    }

    /// Takes the next report.
    ///
    /// # Errors
    /// It is older than the one before it.
    pub fn step(&mut self, report: &Report) -> Result<(), String> {
        match self.last {
            Some(last) if report.taken_at < last => {
                return Err(format!(
                    "it is of {}, and the one before it of {last}: give them in order of time",
                    report.taken_at
                ));
            }
            _ => {}
        }
        // The same report twice says nothing new; clusters may be recorded at the same moment, each in a snapshot of its own.
        if self.last != Some(report.taken_at) {
            self.told.clear();
        }
        let again = !self.told.is_empty();
        let mut new = false;
        for cluster in clusters(report) {
            new |= self.told.insert(cluster);
        }
        if again && !new {
            return Ok(());
        }
        self.last = Some(report.taken_at);
        self.reports += 1;
        let scene = Scene::of(report);
        let workloads = Rc::new(scene.workloads.clone());
        let listed: BTreeMap<&str, f64> = report
            .findings
            .iter()
            .map(|f| (f.id.as_str(), f.claims.len() as f64))
            .collect();
        // Who lets GPUs go on a gone node that it claimed comes first; of the others the oldest.
        let mut order: Vec<(bool, bool, Timestamp, String)> = Vec::new();
        for (id, watch) in &mut self.watches {
            watch.look(&scene, &listed, report, &workloads);
            if let Some(applied) = watch.applied.as_ref().filter(|_| watch.is_open()) {
                // What nobody decided about may be what another one let go.
                let own = !watch.seen_only && watch.claims_gone(&scene) >= HALF_A_GPU;
                order.push((watch.seen_only, !own, applied.at, id.clone()));
            }
        }
        order.sort();
        let mut taken: BTreeMap<PoolKey, f64> = BTreeMap::new();
        for (.., id) in order {
            if let Some(watch) = self.watches.get_mut(&id) {
                let used = taken.entry(watch.pool.clone()).or_default();
                watch.count(&scene, &listed, used);
            }
        }
        self.discover(report);
        Ok(())
    }

    /// Recoverable findings that nobody decided about are watched, too: what is done outside of the ledger is done.
    fn discover(&mut self, report: &Report) {
        // What an open one let go may carry a finding now: it is settled there.
        let open = self.watches.values().filter(|w| w.applied.is_some() && w.is_open());
        let mut busy: BTreeSet<PoolKey> = open.map(|w| w.pool.clone()).collect();
        // An earlier run settled others over this time.
        busy.extend(
            self.book
                .entries
                .values()
                .filter_map(|e| settled_pool(e, report.taken_at)),
        );
        for f in report.findings.iter().filter(|f| f.kind == FindingKind::Recoverable) {
            let pool = (
                f.subject.cluster.clone().unwrap_or_default(),
                f.subject.gpu.clone().unwrap_or_default(),
            );
            if busy.contains(&pool) {
                continue;
            }
            if self.watches.contains_key(&f.id) || self.book.entries.contains_key(&f.id) || f.claims.is_empty() {
                continue;
            }
            let entry = Entry::new(report, f);
            let told = Seen::of(report, f);
            if told.usd_per_hour.is_none_or(|u| !u.is_positive()) {
                continue;
            }
            let watch = Watch::new(entry, told, report.taken_at, Told::Open, true);
            self.watches.insert(f.id.clone(), watch);
        }
    }

    /// What is to be appended to the ledger.
    pub fn finish(self) -> Vec<Append> {
        let new = self
            .watches
            .into_values()
            .filter(|w| !w.events.is_empty() || !w.outcomes.is_empty());
        new.map(|w| Append {
            entry: w.entry,
            events: w.events,
            outcomes: w.outcomes,
        })
        .collect()
    }
}

/// What a report is about. One without nodes is told by its sources, or by nothing.
fn clusters(report: &Report) -> BTreeSet<String> {
    let of_nodes: BTreeSet<String> = report
        .nodes
        .iter()
        .map(|n| n.cluster.clone().unwrap_or_default())
        .collect();
    if of_nodes.is_empty() {
        return report
            .sources
            .iter()
            .map(|s| s.name.clone())
            .chain([String::new()])
            .collect();
    }
    of_nodes
}

/// Where the GPUs of an entry were, if `at` is within a time that is settled.
fn settled_pool(entry: &Entry, at: Timestamp) -> Option<PoolKey> {
    entry.outcomes.iter().find(|o| o.applied <= at && at < o.at)?;
    let seen = entry.events.iter().rev().find_map(|e| e.seen.as_ref())?;
    let cluster = entry.finding.cluster.clone().unwrap_or_default();
    Some((cluster, seen.gpu.clone().unwrap_or_default()))
}

fn hours_between(a: Timestamp, b: Timestamp) -> f64 {
    (b.as_millisecond() - a.as_millisecond()) as f64 / 3.6e6
}

fn round(hours: f64) -> f64 {
    (hours * 100.0).round() / 100.0
}
