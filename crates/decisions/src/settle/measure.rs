//! What it gave: where the GPUs are that were let go, what of that left the bill, and what harm was seen.

use super::watch::{Fates, Watch};
use super::{HALF_A_GPU, hours_between};
use crate::entry::{Class, Told};
use crate::scene::{Placed, Pool, Scene, Subject};
use crate::state::waiting_days;
use crate::units::UsdPerHour;
use gpuwaste_judge::analyze::{Bill, lmdi};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Work below this share of what it was: the work went, not the waste (ours).
const GONE_WORK: f64 = 0.1;
/// A latency that is more than this beyond what it was is harm, unless the finding's own trade was larger (the sizing rule's 1.2).
const SLOWER: f64 = 1.2;

impl Watch {
    /// GPUs that the fix lets go at most: by the placement where there is one of this card, else as many as are claimed.
    pub(super) fn target(&self) -> f64 {
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
    pub(super) fn released(&self, scene: &Scene, listed: &BTreeMap<&str, f64>) -> Option<f64> {
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

    /// Of its claims, those on nodes that are gone.
    pub(super) fn claims_gone(&self, scene: &Scene) -> f64 {
        let pool = scene.pool(&self.pool);
        let node = |place: &String| place.split_once('/').map_or(String::new(), |(n, _)| n.to_owned());
        self.told
            .claims
            .keys()
            .filter(|p| !pool.nodes.contains_key(&node(p)))
            .count() as f64
    }

    /// `used`: GPUs of this pool whose leaving others have counted already.
    pub(super) fn fates(&self, scene: &Scene, listed: &BTreeMap<&str, f64>, used: &mut f64) -> Option<Fates> {
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
    pub(super) fn work_went(&self, scene: &Scene) -> bool {
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
    pub(super) fn count(&mut self, scene: &Scene, listed: &BTreeMap<&str, f64>, used: &mut f64) {
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
    pub(super) fn rate(&self, scene: &Scene, fates: &Fates) -> f64 {
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
    pub(super) fn usd_per_gpu(&self) -> f64 {
        let placed = self.before.as_ref().and_then(|b| b.placed.as_ref());
        let of_bill = placed.and_then(|p| Some(p.spend?.usd() / p.held().filter(|h| *h > 0.0)?));
        let of_pool = self.before.as_ref().and_then(|b| b.pool.price());
        let claims = self.told.claims.len() as f64;
        let of_claims = (claims > 0.0).then(|| self.told.claims.values().sum::<f64>() / claims);
        of_bill.or(of_pool).or(of_claims).unwrap_or(0.0)
    }

    /// Harm that was not there when it was decided.
    pub(super) fn harm(&self, scene: &Scene) -> BTreeSet<String> {
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

    /// What moved the cluster's bill since, by the split that cost-growth has.
    pub(super) fn confounders(&self, scene: &Scene) -> BTreeMap<String, f64> {
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
}
