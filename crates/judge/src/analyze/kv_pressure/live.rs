//! Pressure as counters since start and the gauges of a few passes show it.

use super::{ID, RELIEF};
use crate::analyze::finding::{ClaimRank, Confidence, Evidence, Finding, Fix};
use crate::analyze::support::{self, Judged};
use crate::fleet::{Fleet, ObservedBy, Pass, Replica, SlotId, SlotState, Workload, WorkloadId};
use crate::settings::Thresholds;
use crate::snapshot::figure::Figure;

/// What one replica lost, judged by its own figures alone: another's silence changes nothing.
struct Loss {
    slots: Vec<SlotId>,
    /// Of the replica's work.
    share: f64,
    /// Preemptions per finished request, where they are what fires.
    preempted: Option<f64>,
    confidence: Confidence,
}

/// Live: the cache is full while requests wait; or so many preemptions over the process's life that they cannot be
/// chance. What was lost is the share of requests thrown back.
fn loss(fleet: &Fleet, t: &Thresholds, replica: &Replica) -> Option<Loss> {
    let o = &replica.observed;
    let preempted = o.preemptions.zip(o.requests.filter(|r| *r > 0.0)).map(|(p, r)| p / r);
    let by_preemptions =
        preempted.filter(|p| *p >= t.preemption_share && o.window_seconds >= t.short_window_seconds as f64);
    // A queue at low KV use is the sequence limit, not the cache (real vLLM 0.32: 56 waiting at 0.001).
    let full = |p: &&Pass| p.kv_usage >= t.kv_pressure_usage && p.waiting > 0.0 && p.running > 0.0;
    let queued: f64 = o
        .passes
        .iter()
        .filter(full)
        .map(|p| p.waiting / (p.waiting + p.running))
        .sum();
    // Over the looks that were meant, not those that told something.
    let by_gauges = queued / f64::from(fleet.looks.max(1));
    let share = by_preemptions.map_or(by_gauges, |p| p.min(1.0));
    let sure = match o.by {
        ObservedBy::History => true,
        ObservedBy::LifetimeCounters => by_preemptions.is_some() && o.window_seconds >= t.minimum_window_seconds as f64,
        _ => false,
    };
    let slots = replica.slots.iter().copied();
    (share > 0.0).then(|| Loss {
        slots: slots.filter(|s| fleet.slot(*s).state == SlotState::Working).collect(),
        share,
        preempted: by_preemptions,
        confidence: if sure {
            Confidence::Measured
        } else {
            Confidence::Estimated
        },
    })
}

pub(super) fn pressure(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let o = &workload.observed;
    let losses: Vec<Loss> = workload.replicas.iter().filter_map(|r| loss(fleet, t, r)).collect();
    let worst = losses.iter().max_by(|a, b| a.share.total_cmp(&b.share))?;
    // The worst input decides, and each replica under pressure is one.
    let mut judged = match losses.iter().map(|l| l.confidence).min()? {
        Confidence::Measured => {
            Judged::measured("preemptions and finished requests are counted since the process started")
        }
        level => Judged::at(level, "gauges of a few passes; one moment is not a day"),
    };
    let slots: Vec<SlotId> = losses.iter().flat_map(|l| l.slots.iter().copied()).collect();
    judged.cap_by_price(fleet, &slots);
    let claims = losses
        .iter()
        .flat_map(|l| support::part_of(fleet, workload, &l.slots, l.share))
        .collect();
    let max = |s: Option<Figure>| s.and_then(|s| s.max);
    let mut evidence = Vec::new();
    let mut add = |name: &str, value: Option<f64>, unit: &str, expected: Option<f64>| {
        if let Some(value) = value {
            let item = Evidence::number(name, value, unit, "engine").window(o.window_seconds, o.coverage);
            evidence.push(match expected {
                Some(e) => item.expected(e),
                None => item,
            });
        }
    };
    add("kv_cache_usage", max(o.kv_usage), "ratio", Some(t.kv_pressure_usage));
    add("waiting", max(o.waiting), "requests", Some(0.0));
    add("running", max(o.running), "requests", None);
    add(
        "preemptions_per_request",
        worst.preempted,
        "ratio",
        Some(t.preemption_share),
    );
    add(
        "replicas_under_pressure",
        Some(losses.len() as f64),
        "replicas",
        Some(0.0),
    );
    add("kv_capacity", workload.kv_capacity.map(|c| c.0 as f64), "tokens", None);
    let title = if let Some(preempted) = worst.preempted {
        format!(
            "{}: {:.0} % as many preemptions as finished requests",
            workload.name,
            preempted * 100.0
        )
    } else {
        format!(
            "{}: KV cache {:.0} % full with {:.0} requests waiting",
            workload.name,
            max(o.kv_usage).unwrap_or(0.0) * 100.0,
            max(o.waiting).unwrap_or(0.0)
        )
    };
    Some(Finding {
        rank: ClaimRank::AtRisk,
        title,
        evidence,
        claims,
        fix: Fix::told(RELIEF),
        ..support::of_one(fleet, ID, None, (id, workload), judged)
    })
}
