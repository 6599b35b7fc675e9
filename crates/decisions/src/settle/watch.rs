//! One finding that is watched: what it was, whether it was done, and how it ended.

use super::{HALF_A_GPU, hours_between, round};
use crate::entry::{Class, Entry, Event, Outcome, Seen, Told};
use crate::report::document::Report;
use crate::scene::{Placed, Pool, PoolKey, Scene, Subject};
use crate::units::UsdPerHour;
use gpuwaste_judge::analyze::finding::FindingKind;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A finding that is watched.
pub(super) struct Watch {
    pub(super) entry: Entry,
    /// Nobody decided about it: it is written down only if somebody did it.
    pub(super) seen_only: bool,
    /// Where its GPUs are, or were.
    pub(super) pool: PoolKey,
    pub(super) subject: Option<Subject>,
    /// The frozen prediction.
    pub(super) told: Seen,
    /// When it was decided: reports before it show what was there then.
    pub(super) since: Timestamp,
    pub(super) before: Option<Before>,
    pub(super) applied: Option<Applied>,
    pub(super) events: Vec<Event>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) last: Told,
}

/// The last report in which it was as it was found.
#[derive(Clone)]
pub(super) struct Before {
    pub(super) pool: Rc<Pool>,
    pub(super) pools: Vec<Rc<Pool>>,
    pub(super) placed: Option<Placed>,
    pub(super) workloads: Rc<BTreeMap<Subject, Placed>>,
}

#[derive(Clone)]
pub(super) struct Applied {
    pub(super) at: Timestamp,
    /// The last report that was counted.
    pub(super) counted: Timestamp,
    pub(super) gpu_hours: BTreeMap<Class, f64>,
    /// USD per hour × hours.
    pub(super) money: f64,
    pub(super) hours: f64,
    /// As of the last report.
    pub(super) rate: f64,
    pub(super) fates: Option<Fates>,
    pub(super) watched: BTreeSet<String>,
}

/// Where the GPUs that were let go are now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fates {
    pub(super) released: f64,
    pub(super) saved: f64,
    pub(super) freed: f64,
    pub(super) moved: f64,
    pub(super) vanished: f64,
}

impl Watch {
    pub(super) fn new(entry: Entry, told: Seen, since: Timestamp, last: Told, seen_only: bool) -> Self {
        let k = &entry.finding;
        let cluster = k.cluster.clone().unwrap_or_default();
        let subject = k
            .namespace
            .clone()
            .zip(k.name.clone())
            .map(|(ns, name)| (cluster.clone(), ns, name));
        Self {
            pool: (cluster, told.gpu.clone().unwrap_or_default()),
            subject,
            told,
            since,
            before: None,
            applied: None,
            events: Vec::new(),
            outcomes: Vec::new(),
            last,
            seen_only,
            entry,
        }
    }

    /// `None`: there is nothing to settle.
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        if entry.finding.kind != FindingKind::Recoverable {
            return None;
        }
        let events = entry.in_time();
        let last = events.last()?;
        let applied = match last.state {
            Told::Claimed => None,
            Told::Applied | Told::Verified | Told::Regressed | Told::Reverted => {
                events.iter().rev().find(|e| e.state == Told::Applied).map(|e| e.at)
            }
            Told::Dismissed | Told::Snoozed | Told::Open => return None,
        };
        // From the claim on the prediction is frozen: what was accepted is what is settled.
        let begun = events
            .iter()
            .rposition(|e| !matches!(e.state, Told::Claimed | Told::Applied | Told::Verified));
        let chain = &events[begun.map_or(0, |i| i + 1).min(events.len() - 1)..];
        let first = chain.iter().find(|e| e.seen.is_some())?;
        let told = first.seen.clone()?;
        let since = told.on.unwrap_or(first.at);
        let mut watch = Self::new(entry.clone(), told, since, last.state, false);
        watch.applied = applied.map(Applied::new);
        Some(watch)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.last, Told::Claimed | Told::Applied | Told::Open)
    }

    pub(super) fn look(
        &mut self,
        scene: &Scene,
        listed: &BTreeMap<&str, f64>,
        report: &Report,
        workloads: &Rc<BTreeMap<Subject, Placed>>,
    ) {
        if !scene.read.contains(&self.pool.0) {
            return;
        }
        let Some(released) = self.released(scene, listed) else {
            return;
        };
        let here = released < HALF_A_GPU;
        if self.last == Told::Verified {
            self.reverted_late(scene, here);
            return;
        }
        if !self.is_open() {
            return;
        }
        if self.applied.is_none() {
            if here {
                self.stay(scene, report, workloads);
            } else if scene.at > self.since && self.was_done(scene, report) {
                self.apply(scene.at, released);
            }
        } else if self.before.is_none() && self.applied.as_ref().is_some_and(|a| scene.at <= a.at) {
            self.stay(scene, report, workloads);
        }
    }

    /// It is as it was found: what is there now is what a change is told from. What nobody claimed is worth what it is worth now.
    pub(super) fn stay(&mut self, scene: &Scene, report: &Report, workloads: &Rc<BTreeMap<Subject, Placed>>) {
        if self.seen_only {
            let Some(f) = report.findings.iter().find(|f| f.id == self.entry.finding.id) else {
                return;
            };
            self.told = Seen::of(report, f);
            self.entry = Entry::new(report, f);
            self.since = scene.at;
        }
        self.before = Some(Before {
            pool: scene.pool(&self.pool),
            pools: scene.pools_of(&self.pool.0).cloned().collect(),
            placed: self.subject.as_ref().and_then(|s| scene.workloads.get(s)).cloned(),
            workloads: workloads.clone(),
        });
    }

    /// A change that somebody made: its subject holds less, or its nodes are gone. That traffic came back, or that a report
    /// does not list it, is none.
    pub(super) fn was_done(&self, scene: &Scene, report: &Report) -> bool {
        let judged = report.checks.iter().any(|c| c.id == self.entry.finding.check);
        let by_workload = self.subject.is_some() && self.told.replicas.is_some();
        if by_workload {
            return true;
        }
        judged && (!self.seen_only || self.claims_gone(scene) >= HALF_A_GPU)
    }

    pub(super) fn apply(&mut self, at: Timestamp, released: f64) {
        let target = self.target();
        let part = (released + HALF_A_GPU < target).then(|| format!("in part: {released:.0} of {target:.0} GPUs"));
        self.events.push(Event {
            at,
            state: Told::Applied,
            reason: None,
            note: part,
            until: None,
            reference: None,
            by: None,
            inferred: true,
            seen: self.seen_only.then(|| self.told.clone()),
        });
        self.last = Told::Applied;
        self.applied = Some(Applied::new(at));
    }

    pub(super) fn end(&mut self, told: Told, scene: &Scene) {
        let Some(applied) = self.applied.clone() else { return };
        let looked = ["kv-pressure", "undersized-tier", "restarts", "latency"];
        let seen: Vec<String> = applied.watched.iter().map(|w| format!("seen: {w}")).collect();
        let watched = if self.subject.is_none() {
            Vec::new()
        } else if seen.is_empty() {
            vec![format!("looked for {}: nothing seen", looked.join(", "))]
        } else {
            seen
        };
        // A schedule saves some of the time; all else what it saves in the end.
        let mean = if applied.hours > 0.0 {
            applied.money / applied.hours
        } else {
            0.0
        };
        let rate = if self.entry.finding.check == "idle-schedule" {
            mean
        } else {
            applied.rate
        };
        let placed = self.before.as_ref().and_then(|b| b.placed.as_ref());
        let now = self.subject.as_ref().and_then(|s| scene.workloads.get(s));
        let largest = applied
            .gpu_hours
            .iter()
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map(|(c, _)| *c);
        self.outcomes.push(Outcome {
            at: scene.at,
            applied: applied.at,
            window_seconds: (hours_between(applied.at, scene.at) * 3600.0).max(0.0) as u64,
            predicted_usd_per_hour: self.told.usd_per_hour.unwrap_or_default(),
            realised_usd_per_hour: UsdPerHour::from_usd(if told == Told::Reverted { 0.0 } else { rate })
                .unwrap_or_default(),
            class: largest.unwrap_or(Class::Moved),
            gpu_hours: applied.gpu_hours.iter().map(|(c, h)| (*c, round(*h))).collect(),
            spend_before: self.before.as_ref().and_then(|b| b.pool.spend),
            spend_after: scene.pool(&self.pool).spend,
            work_before: placed.and_then(|p| p.work),
            work_after: now.and_then(|p| p.work),
            confounders: self.confounders(scene),
            watched,
        });
        self.events.push(Event {
            at: scene.at,
            state: told,
            reason: None,
            note: None,
            until: None,
            reference: None,
            by: None,
            inferred: true,
            seen: None,
        });
        self.last = told;
    }

    /// After the period: the old placement is back.
    pub(super) fn reverted_late(&mut self, scene: &Scene, back: bool) {
        let after = self.applied.as_ref().is_some_and(|a| scene.at > a.at)
            && self
                .entry
                .outcomes
                .iter()
                .chain(&self.outcomes)
                .all(|o| scene.at > o.at);
        if back
            && after
            && self.subject.is_some()
            && self.told.replicas.is_some()
            && self.entry.finding.check != "idle-schedule"
        {
            if let Some(applied) = &mut self.applied {
                applied.rate = 0.0;
            }
            self.end(Told::Reverted, scene);
        }
    }
}

impl Applied {
    pub(super) fn new(at: Timestamp) -> Self {
        Self {
            at,
            counted: at,
            gpu_hours: BTreeMap::new(),
            money: 0.0,
            hours: 0.0,
            rate: 0.0,
            fates: None,
            watched: BTreeSet::new(),
        }
    }
}
