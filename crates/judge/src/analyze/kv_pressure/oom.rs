//! Servers that were killed for memory, or that died right after their cache was full.

use super::ID;
use crate::analyze::finding::{Confidence, Evidence, Finding, Fix};
use crate::analyze::support::{self, Judged};
use crate::fleet::{Fleet, Workload, WorkloadId};
use crate::settings::Thresholds;

/// Killed for host memory, while it is up again: what was lost is not known, so no dollars.
pub(super) fn of_host(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let recent = |at: jiff::Timestamp| {
        fleet.now(workload.cluster).duration_since(at).as_secs_f64() <= t.minimum_window_seconds as f64
    };
    let killed: Vec<u64> = workload
        .pods
        .iter()
        .map(|p| fleet.pod(*p))
        .filter(|p| p.stuck.is_none() && p.oom_killed_at.is_some_and(recent))
        .map(|p| p.restarts)
        .collect();
    let restarts = killed.iter().max()?;
    let judged = Judged::measured("the container's own last state says OOMKilled");
    Some(Finding {
        title: format!(
            "{}: killed for host memory, {restarts} {}",
            workload.name,
            if *restarts == 1 { "restart" } else { "restarts" }
        ),
        evidence: vec![
            Evidence::number("pods_killed_in_a_day", killed.len() as f64, "pods", "kubernetes").expected(0.0),
            Evidence::number("restarts", *restarts as f64, "restarts", "kubernetes"),
            Evidence::text("last_exit_reason", "OOMKilled", "kubernetes"),
        ],
        fix: Fix::told(
            "Raise the container's memory limit (the host's, not the GPU's): swap space, prefix offloading and the model's files live there.",
        ),
        ..support::of_one(fleet, ID, Some("oom"), (id, workload), judged)
    })
}

/// Restarts in error right after a full cache or a queue: the GPU's memory is the likely cause, but no exit code names it.
pub(super) fn of_gpu(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let o = &workload.observed;
    let bins = o.bins.as_ref()?;
    let crashes = bins
        .crashes_under_pressure
        .filter(|n| *n > 0.0 && *n >= t.gpu_oom_restarts as f64)?;
    let number = |name: &str, value: f64, unit: &str| {
        Evidence::number(name, value, unit, "prometheus").window(o.window_seconds, o.coverage)
    };
    let mut evidence = vec![number("restarts_after_pressure", crashes, "restarts").expected(0.0)];
    if let Some(all) = bins.restarts {
        evidence.push(number("restarts", all.round().max(crashes), "restarts"));
    }
    if let Some(peak) = o.kv_usage.and_then(|s| s.max) {
        evidence.push(number("kv_cache_usage", peak, "ratio").expected(t.kv_pressure_usage));
    }
    if let Some(most) = o.waiting.and_then(|s| s.max) {
        evidence.push(number("waiting", most, "requests").expected(0.0));
    }
    let times = if crashes <= 1.0 {
        "once".into()
    } else {
        format!("{crashes:.0} times")
    };
    let judged = Judged::at(
        Confidence::Estimated,
        "no exit code names GPU memory: a liveness probe that lost patience under load looks the same",
    );
    Some(Finding {
        title: format!(
            "{}: restarted in error {times} right after a full KV cache or a queue: likely out of GPU memory",
            workload.name
        ),
        evidence,
        fix: Fix::told(
            "Look for 'out of memory' in the log before the restart (kubectl logs --previous); then lower gpu-memory-utilization, max-num-seqs or max-num-batched-tokens, or give the liveness probe more patience.",
        ),
        ..support::of_one(fleet, ID, Some("gpu-oom"), (id, workload), judged)
    })
}
