//! kv-pressure: KV caches that run full, so that requests are thrown back or the server dies.

use super::finding::{Claim, ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::support::{self, Judged};
use super::{Check, Context, Outcome, explain};
use crate::engine::{self, LoadFigure, Tells};
use crate::fleet::{Fleet, ObservedBy, Pass, Replica, SlotId, SlotState, Workload, WorkloadClass, WorkloadId};
use crate::settings::Thresholds;
use crate::snapshot::figure::Figure;

pub(crate) struct KvPressure;

const ID: &str = "kv-pressure";

impl Check for KvPressure {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "KV caches near full with requests waiting, preemptions, or a configuration whose admitted load cannot fit."
    }

    fn explain(&self) -> &'static str {
        explain::KV_PRESSURE
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[None, Some("config"), Some("oom"), Some("gpu-oom")]
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let t = &context.settings.thresholds;
        for (id, workload) in support::workloads(context.fleet).filter(|(_, w)| w.class == WorkloadClass::Server) {
            let slots = support::slots_of(workload);
            // Figures without the GPUs they are of: nodes or pods could not be read.
            if slots.is_empty() && workload.origin.is_none() {
                continue;
            }
            if has_no_kv_metric(workload) {
                out.not_assessed(
                    "the engine exports neither KV use nor preemptions",
                    "watch its latency and restarts instead",
                    slots,
                );
            } else if workload.observed.by == ObservedBy::Nothing
                || (workload.observed.kv_usage.is_none() && workload.observed.preemptions.is_none())
            {
                out.not_assessed(
                    "the server's metrics could not be read",
                    "grant pods/proxy ('gpuwaste rbac --with scrape --namespace NS')",
                    slots,
                );
            } else if workload.observed.bins.as_ref().is_some_and(|b| b.kv_by_other_limits) {
                out.not_assessed(support::BY_OTHER_LIMITS.0, support::BY_OTHER_LIMITS.1, slots);
            } else {
                out.assessed.extend(&slots);
                out.findings.extend(pressure(context.fleet, t, id, workload));
            }
            out.findings.extend(config(context.fleet, t, id, workload));
            out.findings.extend(oom(context.fleet, t, id, workload));
            out.findings.extend(gpu_oom(context.fleet, t, id, workload));
        }
    }
}

fn has_no_kv_metric(workload: &Workload) -> bool {
    let known = workload.observed.kv_usage.is_some() || workload.observed.preemptions.is_some();
    let told = |figure| engine::tells(workload.engine(), figure) == Tells::Always;
    !known && workload.engine().is_some() && !told(LoadFigure::KvUsage) && !told(LoadFigure::Preemptions)
}

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

fn pressure(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let o = &workload.observed;
    if o.by == ObservedBy::History
        && o.bins
            .as_ref()
            .is_some_and(|b| b.kv_bad.is_some() || o.kv_usage.is_some())
    {
        return by_bins(fleet, t, id, workload);
    }
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
        .flat_map(|l| l.slots.iter().map(|s| (*s, l.share)))
        .map(|(slot, share)| Claim {
            slot,
            usd_per_hour: fleet.slot(slot).price.map(|p| p.scale(share)),
            vacates: false,
        })
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
        check: ID,
        part: None,
        kind: FindingKind::AtRisk,
        rank: ClaimRank::AtRisk,
        title,
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence,
        claims,
        fix: Fix {
            summary: "Lower max-num-seqs or max-model-len, use an FP8 KV cache, add a replica, or move to cards with more memory: preempted requests are computed twice.".into(),
            ..Fix::default()
        },
        ignored: None,
        trend_usd_per_hour: None,
    })
}

/// History: bins in which the cache was full and requests waited or were thrown back, among those with requests at all.
fn by_bins(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let o = &workload.observed;
    let bins = o.bins.as_ref()?;
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
    let claims = slots
        .iter()
        .map(|s| Claim {
            slot: *s,
            usd_per_hour: fleet.slot(*s).price.map(|p| p.scale(share)),
            vacates: false,
        })
        .collect();
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
        check: ID,
        part: None,
        kind: FindingKind::AtRisk,
        rank: ClaimRank::AtRisk,
        title: format!(
            "{}: KV cache full with requests waiting or thrown back in {:.0} % of its busy time",
            workload.name,
            share * 100.0
        ),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence,
        claims,
        fix: Fix {
            summary: "Lower max-num-seqs or max-model-len, use an FP8 KV cache, add a replica, or move to cards with more memory: preempted requests are computed twice.".into(),
            ..Fix::default()
        },
        ignored: None,
        trend_usd_per_hour: None,
    })
}

/// An explicit sequence limit that the cache cannot hold at the lengths seen. Engines queue then: no dollars.
fn config(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let settings = workload.settings.as_ref()?;
    let limit = settings.max_num_seqs? as f64;
    // Told by the server, else by the memory model at its bad end.
    let modelled = || {
        let held = super::sizing::held(fleet, workload).ok()?;
        let placement = crate::fit::place(held.model, held.settings, held.gpu, held.parallelism, None);
        Some(placement.kv_capacity?.low.0 as f64)
    };
    let told = workload.kv_capacity.map(|c| c.0 as f64);
    let source = if told.is_some() { "engine" } else { "fit" };
    let capacity = told.or_else(modelled).filter(|c| *c > 0.0)?;
    let o = &workload.observed;
    let length = o.prompt_length_p50? + o.output_length_p50?;
    let wanted = t.kv_headroom * limit * length;
    (capacity < wanted && length > 0.0).then(|| Finding {
        check: ID,
        part: Some("config"),
        kind: FindingKind::AtRisk,
        rank: ClaimRank::None,
        title: format!("{}: max-num-seqs {limit:.0} asks for {:.1} × the KV cache at the usual length", workload.name, limit * length / capacity),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: Confidence::Estimated,
        confidence_reasons: vec!["the middle request is short of the longest; engines queue, they do not fail".into()],
        evidence: vec![
            Evidence::number("kv_capacity", capacity, "tokens", source).expected(wanted),
            Evidence::number("max_num_seqs", limit, "sequences", "kubernetes"),
            Evidence::number("usual_length", length, "tokens", "engine"),
        ],
        claims: Vec::new(),
        fix: Fix { summary: format!("Requests will queue before {limit:.0} run together: set max-num-seqs to about {:.0}, or give the cache more memory.", (capacity / t.kv_headroom / length).floor()), ..Fix::default() },
        ignored: None,
        trend_usd_per_hour: None,
    })
}

/// Killed for host memory, while it is up again: what was lost is not known, so no dollars.
fn oom(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let recent =
        |at: jiff::Timestamp| fleet.taken_at.duration_since(at).as_secs_f64() <= t.minimum_window_seconds as f64;
    let killed: Vec<u64> = workload
        .pods
        .iter()
        .map(|p| fleet.pod(*p))
        .filter(|p| p.stuck.is_none() && p.oom_killed_at.is_some_and(recent))
        .map(|p| p.restarts)
        .collect();
    let restarts = killed.iter().max()?;
    Some(Finding {
        check: ID,
        part: Some("oom"),
        kind: FindingKind::AtRisk,
        rank: ClaimRank::None,
        title: format!(
            "{}: killed for host memory, {restarts} {}",
            workload.name,
            if *restarts == 1 { "restart" } else { "restarts" }
        ),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: Confidence::Measured,
        confidence_reasons: vec!["the container's own last state says OOMKilled".into()],
        evidence: vec![
            Evidence::number("pods_killed_in_a_day", killed.len() as f64, "pods", "kubernetes").expected(0.0),
            Evidence::number("restarts", *restarts as f64, "restarts", "kubernetes"),
            Evidence::text("last_exit_reason", "OOMKilled", "kubernetes"),
        ],
        claims: Vec::new(),
        fix: Fix {
            summary: "Raise the container's memory limit (the host's, not the GPU's): swap space, prefix offloading and the model's files live there.".into(),
            ..Fix::default()
        },
        ignored: None,
        trend_usd_per_hour: None,
    })
}

/// Restarts in error right after a full cache or a queue: the GPU's memory is the likely cause, but no exit code names it.
fn gpu_oom(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
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
    Some(Finding {
        check: ID,
        part: Some("gpu-oom"),
        kind: FindingKind::AtRisk,
        rank: ClaimRank::None,
        title: format!(
            "{}: restarted in error {times} right after a full KV cache or a queue: likely out of GPU memory",
            workload.name
        ),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: Confidence::Estimated,
        confidence_reasons: vec![
            "no exit code names GPU memory: a liveness probe that lost patience under load looks the same".into(),
        ],
        evidence,
        claims: Vec::new(),
        fix: Fix {
            summary: "Look for 'out of memory' in the log before the restart (kubectl logs --previous); then lower gpu-memory-utilization, max-num-seqs or max-num-batched-tokens, or give the liveness probe more patience.".into(),
            ..Fix::default()
        },
        ignored: None,
        trend_usd_per_hour: None,
    })
}
