//! How many replicas the busiest time needs (docs/definitions.md, over-replicated).

use super::candidates::slo;
use super::{Demand, Lack, lack};
use crate::analyze::rights;
use crate::fit::{self, Placement};
use crate::fleet::{Fleet, Workload};
use crate::settings::Thresholds;
use crate::units::UsdPerHour;
use std::cmp::Reverse;

/// The outcome: all that decided, so that the finding can show it.
#[derive(Clone, Debug)]
pub(in crate::analyze) struct Cut {
    /// Replicas there at the quietest: what autoscaling already gives back is not waste.
    pub(in crate::analyze) low: usize,
    pub(in crate::analyze) stay: usize,
    pub(in crate::analyze) by_tokens: u64,
    pub(in crate::analyze) by_sequences: u64,
    pub(in crate::analyze) by_kv: u64,
    pub(in crate::analyze) floor: Floor,
    /// Output tokens/s of one replica.
    pub(in crate::analyze) capacity: f64,
    /// What was observed of it decides, without a model.
    pub(in crate::analyze) capacity_observed: bool,
}

/// What forbids fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::analyze) struct Floor {
    pub(in crate::analyze) replicas: u64,
    pub(in crate::analyze) why: &'static str,
}

/// KV tokens of one replica: all its data-parallel ranks.
pub(super) fn capacity(workload: &Workload, current: &Placement, ranks: u32) -> Option<f64> {
    let told = workload.kv_capacity.map(|c| c.0 as f64);
    let modelled = current.kv_capacity.map(|b| b.low.0 as f64);
    told.or(modelled).map(|c| c * f64::from(ranks))
}

/// Replicas that are Ready past their grace and of the newest revision: a rollout's surge is about to go.
pub(super) fn current(fleet: &Fleet, workload: &Workload, t: &Thresholds) -> Vec<usize> {
    let pod = |r: usize| fleet.pod(workload.replicas[r].pods[0]);
    let newest = (0..workload.replicas.len())
        .max_by_key(|r| (pod(*r).created_at, Reverse(*r)))
        .and_then(|r| pod(r).revision.clone());
    (0..workload.replicas.len())
        .filter(|r| {
            let since = workload.replicas[*r].ready_since;
            let settled = since.is_some_and(|s| {
                fleet.now(workload.cluster).duration_since(s).as_secs_f64() >= t.pod_grace_seconds as f64
            });
            settled && pod(*r).revision == newest
        })
        .collect()
}

pub(super) fn cut(
    fleet: &Fleet,
    workload: &Workload,
    ready: &[usize],
    demand: &Demand,
    current: &Placement,
    ranks: u32,
    t: &Thresholds,
) -> Result<Cut, Lack> {
    let cluster = &fleet.clusters[workload.cluster];
    let floor = floor(
        cluster.autoscalers_known,
        cluster.budgets_known,
        workload,
        ready.len(),
        t,
    )?;
    let bins = workload.observed.bins.as_deref();
    let low = bins
        .and_then(|b| b.replicas_low)
        .map_or(ready.len(), |low| (low.floor().max(0.0) as usize).min(ready.len()));
    let load = |n: usize| demand.per_engine(n as u32 * ranks, current);
    let observed = bins.and_then(|b| b.replica_capacity).filter(|c| *c > 0.0);
    let modelled = fit::serves(current, &load(low.max(1)), &slo(t))
        .output_capacity
        .map(|c| c * f64::from(ranks));
    // The most that a calm replica served is no more than it was asked for: of one that was never loaded it is far below
    // what it can do.
    let capacity = [observed, modelled].into_iter().flatten().reduce(f64::max);
    let Some(capacity) = capacity.filter(|c| *c > 0.0) else {
        return Err(lack(
            "what one replica can serve is neither observed nor modelled for this model and card",
            "give Prometheus",
        ));
    };
    let Some(sequences) = current.max_num_seqs.map(|s| s as f64 * f64::from(ranks)) else {
        return Err(lack(
            "how many requests one replica takes at once is unknown",
            "set --max-num-seqs",
        ));
    };
    let Some(kv) = super::replicas::capacity(workload, current, ranks).filter(|k| *k > 0.0) else {
        return Err(lack("the KV capacity of one replica is unknown", rights::PAGES));
    };
    let times = |need: f64, each: f64| (t.replica_headroom * need / each).ceil().max(1.0) as u64;
    let by_tokens = times(demand.peak_output_tokens_per_second, capacity);
    // What was observed says as much without the model.
    let by_observed = observed.map(|c| times(demand.peak_output_tokens_per_second, c));
    let by_sequences = times(demand.peak_running, sequences);
    let by_kv = times(demand.peak_kv_tokens, kv);
    let by_load = by_tokens.max(by_sequences).max(by_kv);
    // One replica may fail: from four on, the headroom carries its load.
    let by_load = if by_load < t.failover_replicas {
        by_load + 1
    } else {
        by_load
    };
    let needed = usize::try_from(by_load.max(floor.replicas)).unwrap_or(usize::MAX);
    // As a whole it must still serve: where the model says no, another replica stays. An observed capacity needs no model.
    let serves = |n: usize| {
        let answer = fit::serves(current, &load(n), &slo(t)).serves;
        answer.unwrap_or(observed.is_some())
    };
    let stay = if low > needed {
        (needed..low).find(|n| serves(*n)).unwrap_or(low)
    } else {
        low
    };
    // Replicas above R_low come and go by themselves: they stay in the plan.
    Ok(Cut {
        low,
        stay: if stay < low { stay } else { ready.len() },
        by_tokens,
        by_sequences,
        by_kv,
        floor,
        capacity: observed.filter(|_| by_observed == Some(by_tokens)).unwrap_or(capacity),
        capacity_observed: by_observed.is_some_and(|n| n <= by_tokens.max(by_sequences).max(by_kv)),
    })
}

/// Nobody told the floor: it is not 0.
pub(super) const FLOOR_UNREAD: Lack = lack(
    "autoscalers or disruption budgets could not be read: the least number of replicas is unknown",
    rights::READ,
);

/// max(autoscaler's minimum, disruption budget, the policy's own); unknown ones are not 0.
fn floor(autoscalers: bool, budgets: bool, workload: &Workload, now: usize, t: &Thresholds) -> Result<Floor, Lack> {
    if now < 2 {
        return Err(lack("one replica: there is none to spare", "nothing to do"));
    }
    if workload.kind == "StatefulSet" {
        return Err(lack(
            "a StatefulSet's replicas may be addressed one by one",
            "use a Deployment where they are alike",
        ));
    }
    if !autoscalers || !budgets {
        return Err(FLOOR_UNREAD);
    }
    let mut floor = Floor {
        replicas: t.min_replicas,
        why: "the policy's min_replicas",
    };
    for (replicas, why) in [
        (workload.autoscaler_min, "the autoscaler's minimum"),
        (workload.budget_min, "the disruption budget"),
    ] {
        if let Some(replicas) = replicas.filter(|r| *r > floor.replicas) {
            floor = Floor { replicas, why };
        }
    }
    Ok(floor)
}

/// The cheapest replicas are those that leave: which ones a scale-down takes is not known, so no more is promised.
pub(super) fn choose(fleet: &Fleet, workload: &Workload, ready: &[usize], stay: usize) -> (Vec<usize>, Vec<usize>) {
    let price = |r: usize| -> (bool, UsdPerHour) {
        let known: Option<UsdPerHour> = workload.replicas[r].slots.iter().map(|s| fleet.slot(*s).price).sum();
        (known.is_some(), known.unwrap_or_default())
    };
    let mut order: Vec<usize> = ready.to_vec();
    order.sort_by_key(|r| (Reverse(price(*r)), *r));
    let leave = order.split_off(stay.min(order.len()));
    (order, leave)
}
