//! What was done, and what it saved: a series of reports in order of time, one at a time.
//!
//! A claimed (or told, or seen) finding is *applied* where its subject changed towards its fix. From then on each report says where
//! the GPUs are that were let go: their node is gone (*saved*), others work on them (*freed*), they carry a finding (*moved*), or
//! nothing says so (*vanished*). After the waiting period of its kind the finding is *verified*, or *regressed* where harm was seen,
//! or *reverted* where the old placement is back. Only what left the bill is realised.

use crate::entry::{Class, Entry, Event, Outcome, Seen, Told};
use crate::report::document::Report;
use crate::scene::{Placed, Pool, PoolKey, Scene, Subject};
use crate::standing::Book;
use crate::state::waiting_days;
use crate::store::Append;
use crate::units::UsdPerHour;
use gpuwaste_judge::analyze::finding::FindingKind;
use gpuwaste_judge::analyze::{Bill, lmdi};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Work below this share of what it was: the work went, not the waste (ours).
const GONE_WORK: f64 = 0.1;
/// A latency that is more than this beyond what it was is harm, unless the finding's own trade was larger (the sizing rule's 1.2).
const SLOWER: f64 = 1.2;
/// GPUs are whole but for MIG instances.
const HALF_A_GPU: f64 = 0.5;

/// A finding that is watched.
struct Watch {
    entry: Entry,
    /// Nobody decided about it: it is written down only if somebody did it.
    seen_only: bool,
    /// Where its GPUs are, or were.
    pool: PoolKey,
    subject: Option<Subject>,
    /// The frozen prediction.
    told: Seen,
    /// When it was decided: reports before it show what was there then.
    since: Timestamp,
    before: Option<Before>,
    applied: Option<Applied>,
    events: Vec<Event>,
    outcomes: Vec<Outcome>,
    last: Told,
}

/// The last report in which it was as it was found.
#[derive(Clone)]
struct Before {
    pool: Rc<Pool>,
    pools: Vec<Rc<Pool>>,
    placed: Option<Placed>,
    workloads: Rc<BTreeMap<Subject, Placed>>,
}

#[derive(Clone)]
struct Applied {
    at: Timestamp,
    /// The last report that was counted.
    counted: Timestamp,
    gpu_hours: BTreeMap<Class, f64>,
    /// USD per hour × hours.
    money: f64,
    hours: f64,
    /// As of the last report.
    rate: f64,
    fates: Option<Fates>,
    watched: BTreeSet<String>,
}

/// Where the GPUs that were let go are now.
#[derive(Clone, Copy, Debug, Default)]
struct Fates {
    released: f64,
    saved: f64,
    freed: f64,
    moved: f64,
    vanished: f64,
}

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

impl Watch {
    fn new(entry: Entry, told: Seen, since: Timestamp, last: Told, seen_only: bool) -> Self {
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
    fn of(entry: &Entry) -> Option<Self> {
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

    fn is_open(&self) -> bool {
        matches!(self.last, Told::Claimed | Told::Applied | Told::Open)
    }

    /// GPUs that the fix lets go at most: by the placement where there is one of this card, else as many as are claimed.
    fn target(&self) -> f64 {
        let claims = self.told.claims.len() as f64;
        let held = self
            .told
            .replicas
            .zip(self.told.gpus_per_replica)
            .map(|(r, g)| r as f64 * g as f64);
        match (&self.told.placement, held) {
            (Some(p), Some(held)) if Some(&p.gpu) == self.told.gpu.as_ref() => {
                (held - f64::from(p.replicas) * f64::from(p.gpus)).clamp(0.0, held)
            }
            // Another card: all of the old ones go.
            (Some(_), Some(held)) => held,
            // Hours of the week: all that is held, some of the time.
            (None, Some(held)) if self.entry.finding.check == "idle-schedule" => held,
            _ => claims,
        }
    }

    /// GPUs that its subject let go, of the kind that was claimed; `None`: not to be told.
    fn released(&self, scene: &Scene, listed: &BTreeMap<&str, f64>) -> Option<f64> {
        let held_then = self
            .told
            .replicas
            .zip(self.told.gpus_per_replica)
            .map(|(r, g)| r as f64 * g as f64);
        if let (Some(subject), Some(then)) = (&self.subject, held_then) {
            let now = match scene.workloads.get(subject) {
                // Another card: nothing of the old kind is held.
                Some(placed) if placed.gpu.is_some() && placed.gpu != self.told.gpu => 0.0,
                Some(placed) => placed.held()?,
                None => 0.0,
            };
            return Some((then - now).clamp(0.0, self.target()));
        }
        // Of nodes: what is not claimed any more.
        let now = listed.get(self.entry.finding.id.as_str()).copied().unwrap_or(0.0);
        Some((self.told.claims.len() as f64 - now).max(0.0))
    }

    fn look(
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
    fn stay(&mut self, scene: &Scene, report: &Report, workloads: &Rc<BTreeMap<Subject, Placed>>) {
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
    fn was_done(&self, scene: &Scene, report: &Report) -> bool {
        let judged = report.checks.iter().any(|c| c.id == self.entry.finding.check);
        let by_workload = self.subject.is_some() && self.told.replicas.is_some();
        if by_workload {
            return true;
        }
        judged && (!self.seen_only || self.claims_gone(scene) >= HALF_A_GPU)
    }

    fn apply(&mut self, at: Timestamp, released: f64) {
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

    /// Of its claims, those on nodes that are gone.
    fn claims_gone(&self, scene: &Scene) -> f64 {
        let pool = scene.pool(&self.pool);
        let node = |place: &String| place.split_once('/').map_or(String::new(), |(n, _)| n.to_owned());
        self.told
            .claims
            .keys()
            .filter(|p| !pool.nodes.contains_key(&node(p)))
            .count() as f64
    }

    /// `used`: GPUs of this pool whose leaving others have counted already.
    fn fates(&self, scene: &Scene, listed: &BTreeMap<&str, f64>, used: &mut f64) -> Option<Fates> {
        let released = self.released(scene, listed)?;
        let now = scene.pool(&self.pool);
        let mut fates = Fates {
            released,
            ..Fates::default()
        };
        let own = self.claims_gone(scene).min(released);
        let Some(before) = &self.before else {
            // Nothing tells what was there then: only its own nodes say something.
            fates.saved = own;
            fates.moved = (released - own).min(now.claimed_by_others(&self.entry.finding.id));
            fates.vanished = released - fates.saved - fates.moved;
            return Some(fates);
        };
        let new: f64 = now
            .nodes
            .iter()
            .filter(|(n, _)| !before.pool.nodes.contains_key(*n))
            .map(|(_, g)| g)
            .sum();
        let gone: f64 = before
            .pool
            .nodes
            .iter()
            .filter(|(n, _)| !now.nodes.contains_key(*n))
            .map(|(_, g)| g)
            .sum();
        let growth: f64 = now
            .held
            .iter()
            .filter(|(s, _)| Some(*s) != self.subject.as_ref())
            .map(|(s, held)| (held - before.pool.held.get(s).copied().unwrap_or(0.0)).max(0.0))
            .sum();
        // New nodes that others' growth explains would have come anyway; the others stand in for those that went.
        let explained = new.min(growth);
        let left = (gone - (new - explained)).max(0.0);
        fates.saved = released.min((left - *used).max(0.0));
        *used += fates.saved;
        let rest = released - fates.saved;
        let id = &self.entry.finding.id;
        let claimed = (now.claimed_by_others(id) - before.pool.claimed_by_others(id)).max(0.0);
        fates.moved = rest.min(claimed);
        let rest = rest - fates.moved;
        fates.freed = rest.min((growth - explained).max(0.0));
        fates.vanished = rest - fates.freed;
        if self.work_went(scene) {
            fates.vanished = released;
            (fates.saved, fates.freed, fates.moved) = (0.0, 0.0, 0.0);
        }
        Some(fates)
    }

    /// The work that it served is gone: less is held because less is asked for.
    fn work_went(&self, scene: &Scene) -> bool {
        let Some(subject) = &self.subject else { return false };
        let Some(then) = self
            .before
            .as_ref()
            .and_then(|b| b.placed.as_ref()?.work)
            .filter(|w| *w > 0.0)
        else {
            return false;
        };
        match scene.workloads.get(subject) {
            Some(placed) => placed.work.is_some_and(|w| w < then * GONE_WORK),
            None => true,
        }
    }

    /// Adds the time since the last report to the classes, and ends the waiting period.
    fn count(&mut self, scene: &Scene, listed: &BTreeMap<&str, f64>, used: &mut f64) {
        if !scene.read.contains(&self.pool.0) {
            return;
        }
        let Some(fates) = self.fates(scene, listed, used) else {
            return;
        };
        let rate = self.rate(scene, &fates);
        let harm = self.harm(scene);
        let Some(applied) = &mut self.applied else { return };
        if scene.at < applied.counted {
            return;
        }
        let hours = hours_between(applied.counted, scene.at);
        // When it changed between two reports nobody saw: half of the time each.
        let mean = |of: fn(&Fates) -> f64| f64::midpoint(of(applied.fates.as_ref().unwrap_or(&fates)), of(&fates));
        for (class, gpus) in [
            (Class::Saved, mean(|f| f.saved)),
            (Class::Freed, mean(|f| f.freed)),
            (Class::Moved, mean(|f| f.moved)),
            (Class::Vanished, mean(|f| f.vanished)),
        ] {
            if gpus > 0.0 && hours > 0.0 {
                *applied.gpu_hours.entry(class).or_default() += gpus * hours;
            }
        }
        let rate_then = if applied.fates.is_some() { applied.rate } else { rate };
        applied.money += f64::midpoint(rate_then, rate) * hours;
        applied.hours += hours;
        applied.rate = rate;
        applied.fates = Some(fates);
        applied.counted = scene.at;
        applied.watched.extend(harm.iter().cloned());
        let waited = hours_between(applied.at, scene.at) >= f64::from(waiting_days(&self.entry.finding.check)) * 24.0;
        let back = fates.released < HALF_A_GPU && hours > 0.0 && self.entry.finding.check != "idle-schedule";
        let end = if !harm.is_empty() {
            Told::Regressed
        } else if back {
            Told::Reverted
        } else if waited {
            Told::Verified
        } else {
            return;
        };
        self.end(end, scene);
    }

    /// USD per hour that is not paid any more: what left, less what came for it on another card.
    fn rate(&self, scene: &Scene, fates: &Fates) -> f64 {
        let per_gpu = self.usd_per_gpu();
        let mut rate = fates.saved * per_gpu;
        let target = self
            .told
            .placement
            .as_ref()
            .filter(|p| Some(&p.gpu) != self.told.gpu.as_ref());
        if let (Some(target), Some(before), Some(subject)) = (target, &self.before, &self.subject) {
            let key = (self.pool.0.clone(), target.gpu.clone());
            let now = scene.pool(&key);
            let then = before
                .pools
                .iter()
                .find(|p| p.nodes.keys().any(|n| now.nodes.contains_key(n)));
            let came = now.gpus() - then.map_or(0.0, |p| p.gpus());
            let cost = scene
                .workloads
                .get(subject)
                .and_then(|w| w.spend)
                .map_or(0.0, UsdPerHour::usd);
            let bought = came.max(0.0) * now.price().unwrap_or(0.0);
            // At the prices of then, as far as the old card tells them.
            let then_now = before.pool.price().zip(scene.pool(&self.pool).price());
            let deflated = then_now
                .filter(|(_, now)| *now > 0.0)
                .map_or(1.0, |(then, now)| then / now);
            rate -= cost.min(bought) * deflated;
        }
        rate
    }

    /// Of the time when it was decided: prices that changed since save nothing.
    fn usd_per_gpu(&self) -> f64 {
        let placed = self.before.as_ref().and_then(|b| b.placed.as_ref());
        let of_bill = placed.and_then(|p| Some(p.spend?.usd() / p.held().filter(|h| *h > 0.0)?));
        let of_pool = self.before.as_ref().and_then(|b| b.pool.price());
        let claims = self.told.claims.len() as f64;
        let of_claims = (claims > 0.0).then(|| self.told.claims.values().sum::<f64>() / claims);
        of_bill.or(of_pool).or(of_claims).unwrap_or(0.0)
    }

    /// Harm that was not there when it was decided.
    fn harm(&self, scene: &Scene) -> BTreeSet<String> {
        let Some(subject) = &self.subject else {
            return BTreeSet::new();
        };
        let mut harm = scene.harm.get(subject).cloned().unwrap_or_default();
        // What a stuck server is freed of is no harm of freeing it.
        if self.entry.finding.part.as_deref() == Some("stuck") {
            harm.clear();
        }
        let then = self
            .before
            .as_ref()
            .and_then(|b| b.placed.as_ref()?.inter_token_latency);
        let now = scene.workloads.get(subject).and_then(|w| w.inter_token_latency);
        let promised = match self.entry.finding.evidence.get("target_inter_token_latency") {
            Some(crate::entry::Value::Number(seconds)) => *seconds,
            _ => 0.0,
        };
        if let (Some(then), Some(now)) = (then, now)
            && now > promised.max(then) * SLOWER
        {
            harm.insert(format!(
                "tokens came every {:.0} ms, and come every {:.0} ms",
                then * 1e3,
                now * 1e3
            ));
        }
        harm
    }

    fn end(&mut self, told: Told, scene: &Scene) {
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

    /// What moved the cluster's bill since, by the split that cost-growth has.
    fn confounders(&self, scene: &Scene) -> BTreeMap<String, f64> {
        let Some(before) = &self.before else {
            return BTreeMap::new();
        };
        let cluster = &self.pool.0;
        let mine = |s: &&Subject| s.0 == *cluster;
        let all: BTreeSet<&Subject> = before
            .workloads
            .keys()
            .chain(scene.workloads.keys())
            .filter(mine)
            .collect();
        let pair = |s: &Subject| (before.workloads.get(s), scene.workloads.get(s));
        let bills: Vec<Bill> = all
            .into_iter()
            .filter_map(|s| {
                let (then, now) = pair(s);
                let spend = |p: Option<&Placed>| p.map_or(Some(UsdPerHour::ZERO), |p| p.spend);
                let gpus = |p: Option<&Placed>| p.map_or(Some(0.0), Placed::held);
                Some(Bill {
                    spend: (spend(then)?, spend(now)?),
                    gpus: (gpus(then)?, gpus(now)?),
                    work: then.and_then(|p| p.work).zip(now.and_then(|p| p.work)),
                })
            })
            .collect();
        let spend = |pools: &mut dyn Iterator<Item = &Rc<Pool>>| pools.map(|p| p.spend).sum::<Option<UsdPerHour>>();
        let Some((then, now)) = spend(&mut before.pools.iter()).zip(spend(&mut scene.pools_of(cluster))) else {
            return BTreeMap::new();
        };
        let held = |side: fn(&Bill) -> UsdPerHour| bills.iter().map(side).sum::<UsdPerHour>();
        let free = (then - held(|b| b.spend.0), now - held(|b| b.spend.1));
        let parts = lmdi(&bills, free);
        let named = parts.into_iter().filter(|(_, usd)| usd.micros() != 0);
        named.map(|(name, usd)| (name.to_owned(), usd.usd())).collect()
    }

    /// After the period: the old placement is back.
    fn reverted_late(&mut self, scene: &Scene, back: bool) {
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
    fn new(at: Timestamp) -> Self {
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
