//! Pressure over a window of bins.

use super::{ID, RELIEF};
use crate::analyze::finding::{ClaimRank, Evidence, Finding, Fix};
use crate::analyze::support;
use crate::fleet::{Bins, Fleet, SlotId, SlotState, Workload, WorkloadId};
use crate::settings::Thresholds;

/// History: bins in which the cache was full and requests waited or were thrown back, among those with requests at all.
pub(super) fn pressure(
    fleet: &Fleet,
    t: &Thresholds,
    id: WorkloadId,
    workload: &Workload,
    bins: &Bins,
) -> Option<Finding> {
    let o = &workload.observed;
    let (bad, traffic) = (bins.kv_bad?, bins.traffic.filter(|n| *n > 0.0)?);
    let share = (bad / traffic).min(1.0);
    let preempted = o.preemptions.zip(o.requests.filter(|r| *r > 0.0)).map(|(p, r)| p / r);
    let often = share >= t.kv_pressure_share || preempted.is_some_and(|p| p >= t.preemption_share);
    if bad < t.kv_pressure_bins as f64 || !often {
        return None;
    }
    let mut judged = support::of_history(o);
    let slots: Vec<SlotId> = support::slots_of(workload)
        .into_iter()
        .filter(|s| fleet.slot(*s).state == SlotState::Working)
        .collect();
    // History without the GPUs it was on: their node or pods could not be read.
    if slots.is_empty() {
        return None;
    }
    judged.cap_by_price(fleet, &slots);
    let number = |name: &str, value: f64, unit: &str| {
        Evidence::number(name, value, unit, "prometheus").window(o.window_seconds, o.coverage)
    };
    let mut evidence = vec![
        number("bad_bins", bad, "bins").expected(t.kv_pressure_bins as f64),
        number("bad_share_of_traffic", share, "ratio").expected(t.kv_pressure_share),
    ];
    if let Some(peak) = o.kv_usage.and_then(|s| s.max) {
        evidence.push(number("kv_cache_usage", peak, "ratio").expected(t.kv_pressure_usage));
    }
    if let Some(preempted) = preempted {
        evidence.push(number("preemptions_per_request", preempted, "ratio").expected(t.preemption_share));
    }
    if let Some(kills) = bins.oom_kills.filter(|k| *k > 0.0) {
        evidence.push(number("containers_oom_killed", kills, "containers"));
    }
    if let Some(restarts) = bins.restarts.filter(|r| *r >= 1.0) {
        evidence.push(number("restarts", restarts.round(), "restarts"));
    }
    Some(Finding {
        rank: ClaimRank::AtRisk,
        title: format!(
            "{}: KV cache full with requests waiting or thrown back in {:.0} % of its busy time",
            workload.name,
            share * 100.0
        ),
        evidence,
        claims: support::part_of(fleet, workload, &slots, share),
        fix: Fix::told(RELIEF),
        ..support::of_one(fleet, ID, None, (id, workload), judged)
    })
}
