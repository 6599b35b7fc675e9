//! cpu-gpu-imbalance over a window: bins with a queue or the usual load in which the CPU was short and the GPU not busy.

use super::finding::{ClaimRank, Evidence, Finding, FindingKind, Fix};
use super::support;
use crate::fleet::{Fleet, SlotId, SlotState, Workload, WorkloadId};
use crate::settings::Thresholds;

/// GPU busy of well-fed bins where there are too few of them to tell (ours).
const USUAL_BUSY: f64 = 0.6;
/// Well-fed bins needed for their middle to be believed (ours).
const ENOUGH_FED: f64 = 20.0;

/// History told of CPU, of requests and of the GPU together.
pub(super) fn known(workload: &Workload) -> bool {
    let o = &workload.observed;
    let cpu = o.cpu_throttled.is_some() || o.cpu_share.is_some();
    // Profiling counters can stick at 0 for weeks: a GPU that was never busy, under requests, tells nothing.
    let busy = o.gpu_busy.is_some_and(|s| s.max.is_none_or(|m| m > 0.0));
    cpu && busy
        && o.bins
            .as_ref()
            .is_some_and(|b| b.traffic.is_some() && !b.starved_by_other_limits)
}

/// The store counted its bins by other thresholds than the policy's.
pub(super) fn by_other_limits(workload: &Workload) -> bool {
    let bins = workload.observed.bins.as_ref();
    bins.is_some_and(|b| b.starved_by_other_limits)
}

/// Only what has a limit is throttled; a container without one waits for what its machine has left.
fn advice(limited: bool) -> &'static str {
    if limited {
        "Raise the container's CPU limit (or remove it) and keep other pods off its cores: the engine's core loop starves first, and the GPU then waits while it looks busy."
    } else {
        "Keep other pods off its cores, and raise its CPU limit if it has one: its share of the CPU, or without a limit its whole node, is full; the engine's core loop starves first, and the GPU then waits while it looks busy."
    }
}

pub(super) fn starved(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let o = &workload.observed;
    let bins = o.bins.as_ref()?;
    let (bad, traffic) = (bins.starved?, bins.traffic.filter(|n| *n > 0.0)?);
    let share = (bad / traffic).min(1.0);
    if bad < t.starved_bins as f64 || share < t.starved_share {
        return None;
    }
    let busy = bins.starved_busy?;
    let reference = bins
        .fed_busy
        .filter(|_| bins.fed.is_some_and(|n| n >= ENOUGH_FED))
        .unwrap_or(USUAL_BUSY);
    let lost = share * (1.0 - busy / reference.max(busy).max(1e-9));
    let slots: Vec<SlotId> = support::slots_of(workload)
        .into_iter()
        .filter(|s| fleet.slot(*s).state == SlotState::Working)
        .collect();
    // History without the GPUs it was on: their node or pods could not be read.
    if slots.is_empty() {
        return None;
    }
    let mut judged = support::of_history(o);
    judged.cap_by_price(fleet, &slots);
    let claims = support::part_of(fleet, workload, &slots, lost);
    let number = |name: &str, value: f64, unit: &str| {
        Evidence::number(name, value, unit, "prometheus").window(o.window_seconds, o.coverage)
    };
    let mut evidence = vec![
        number("starved_bins", bad, "bins").expected(t.starved_bins as f64),
        number("starved_share_of_traffic", share, "ratio").expected(t.starved_share),
        number("gpu_busy_starved", busy, "ratio").expected(t.gpu_starved),
        number("gpu_busy_fed", reference, "ratio"),
    ];
    if let Some(throttled) = o.cpu_throttled.and_then(|s| s.p95) {
        evidence.push(number("cpu_throttled_p95", throttled, "ratio").expected(t.cpu_throttled_share));
    }
    if let Some(used) = o.cpu_share.and_then(|s| s.p95) {
        evidence.push(number("cpu_used_p95", used, "ratio").expected(t.cpu_saturated_share));
    }
    Some(Finding {
        check: "cpu-gpu-imbalance",
        part: None,
        kind: FindingKind::AtRisk,
        rank: ClaimRank::AtRisk,
        title: format!(
            "{}: GPUs wait for CPU in {:.0} % of its busy time ({:.0} % busy under load)",
            workload.name,
            share * 100.0,
            busy * 100.0
        ),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence,
        claims,
        fix: Fix {
            summary: advice(o.cpu_throttled.is_some()).into(),
            ..Fix::default()
        },
        ignored: None,
        trend_usd_per_hour: None,
    })
}
