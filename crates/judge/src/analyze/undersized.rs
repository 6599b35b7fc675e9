//! undersized-tier: a placement that cannot hold the model, so that it fails.

use super::finding::{ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix, FixPlacement};
use super::sizing::{self, Held};
use super::support::{self, Judged};
use super::{Check, Context, Outcome, documented};
use crate::catalog::mig;
use crate::fit::{self, FitConfidence, FitVerdict, Placement};
use crate::fleet::{Fleet, SlotId, SlotState, StuckReason, Workload, WorkloadClass, WorkloadId};
use crate::snapshot::server::{EngineSettings, Setting};

documented! {
    since "0.1.0";
    /// What it finds. Servers that are not Ready, or restart, or of a manifest, and whose weights and configured context cannot fit
    /// their GPUs, or their MIG instance, even at the good end of the memory model's band.
    ///
    /// Why it costs. The GPUs are held by something that cannot start.
    ///
    /// How the dollars are computed. At risk: the GPUs of the replicas that fail. Once the pod counts as stuck in dark-capacity, that
    /// finding has the dollars and names this cause.
    ///
    /// When it is wrong. A server that is Ready fits by definition: a contradicting model is a gap, never a finding. Unknown models
    /// and borderline cases are not assessed, nor are partitions of AMD GPUs, whose memory depends on the memory mode. What a MIG
    /// instance has is what drivers were seen to report for its profile; where none was, a wide band of its part of the card.
    ///
    /// What to do. Use the placement that the finding names, quantized weights, or a shorter --max-model-len.
    pub(crate) struct UndersizedTier;
}

const ID: &str = "undersized-tier";

impl Check for UndersizedTier {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Servers whose GPUs cannot hold the model and its configured context: they fail to start."
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        for (id, workload) in support::workloads(fleet).filter(|(_, w)| w.class == WorkloadClass::Server) {
            let slots = support::slots_of(workload);
            if !may_fail(workload) {
                out.assessed.extend(slots);
                continue;
            }
            let held = match sizing::held(fleet, workload) {
                Ok(held) => held,
                Err(lack) => {
                    if lack.unread || sizing::hides_its_model(workload) {
                        out.doubts(FindingKind::AtRisk, id, failing(fleet, workload));
                    }
                    out.lacks(&lack, slots);
                    continue;
                }
            };
            let placement = held.placed();
            match placement.verdict {
                FitVerdict::Tight | FitVerdict::Unknown if sizing::hides_its_model(workload) => {
                    out.doubts(FindingKind::AtRisk, id, failing(fleet, workload));
                    out.lacks(&sizing::known_by_name(workload), slots);
                }
                FitVerdict::Tight | FitVerdict::Unknown => out.not_assessed(
                    "whether the model fits depends on what no source states",
                    &support::see_fit(workload),
                    slots,
                ),
                FitVerdict::Fits => out.assessed.extend(slots),
                FitVerdict::DoesNotFit => {
                    out.assessed.extend(slots);
                    // With the engine's release it might be surer.
                    if held.settings.unread(Setting::EngineVersion).is_some() {
                        out.doubts(FindingKind::AtRisk, id, failing(fleet, workload));
                    }
                    out.findings.extend(finding(context, id, workload, &held, &placement));
                }
            }
        }
    }
}

/// Ready servers fit by definition.
fn may_fail(workload: &Workload) -> bool {
    workload.planned || workload.replicas.iter().any(|r| r.ready_since.is_none())
}

/// It is not known to run, and its model does not fit the GPUs that it uses.
pub(super) fn is_misfit(fleet: &Fleet, workload: &Workload) -> bool {
    may_fail(workload)
        && sizing::held(fleet, workload).is_ok_and(|held| held.placed().verdict == FitVerdict::DoesNotFit)
}

/// The cause of a pod that is stuck, where it is that its model does not fit: dark-capacity tells it, and has the dollars.
pub(super) fn cause(context: &Context<'_>, workload: &Workload) -> Option<(String, Option<FixPlacement>)> {
    let held = sizing::held(context.fleet, workload).ok().filter(|h| !h.is_by_name())?;
    let placement = held.placed();
    (placement.verdict == FitVerdict::DoesNotFit).then(|| (placement.reason, remedy(context, workload, &held)))
}

fn remedy(context: &Context<'_>, workload: &Workload, held: &Held<'_>) -> Option<FixPlacement> {
    let market = &context.sizing().market;
    sizing::smallest_that_fits(context.fleet, market, workload, held, &context.settings.thresholds)
}

pub(super) fn advice(fix: Option<&FixPlacement>) -> String {
    let Some(fix) = fix else {
        return "No tier within reach holds it: use quantized weights, a shorter context, or several nodes.".into();
    };
    if let Some(instance) = mig::named(&fix.gpu).and_then(|g| g.instance.as_ref()) {
        return format!(
            "It fits one {} (nvidia.com/mig-{}), or a smaller profile with quantized weights or a shorter context.",
            fix.gpu, instance.profile
        );
    }
    // Without a price of its own: GPUs that it holds already.
    if fix.usd_per_hour.is_none() {
        return format!(
            "It fits {} of the GPUs that it holds: raise the tensor parallelism to {}.",
            fix.gpus, fix.tensor_parallel
        );
    }
    format!(
        "It fits {} × {} (tensor parallelism {}), or fewer with quantized weights or a shorter context.",
        fix.gpus, fix.gpu, fix.tensor_parallel
    )
}

/// What the engine refuses has to be set otherwise where no card takes it; a share of the card that is too small can be raised.
fn what_to_do(held: &Held<'_>, placement: &Placement, fix: Option<&FixPlacement>) -> String {
    if placement.forbidden && fix.is_none() {
        return "No card changes that: it has to be set otherwise.".into();
    }
    let of = held.settings;
    let free = EngineSettings {
        gpu_memory_utilization: None,
        mem_fraction_static: None,
        kv_cache_memory: None,
        gpu_blocks_override: None,
        max_total_tokens: None,
        ..of.clone()
    };
    let bounded = free != *of && !placement.forbidden;
    if bounded && fit::place(held.model, &free, held.gpu, held.parallelism(), None).verdict == FitVerdict::Fits {
        return "What its settings leave for it is too small: with the engine's own share of memory it fits this card, where nothing else is on it.".into();
    }
    advice(fix)
}

/// Slots at risk: of a plan all, live those of pods that fail and are not told as stuck.
fn failing(fleet: &Fleet, workload: &Workload) -> Vec<SlotId> {
    if workload.planned {
        return support::slots_of(workload);
    }
    let fails = |reason: StuckReason| matches!(reason, StuckReason::CrashLoop | StuckReason::NotReady);
    let pods = workload.pods.iter().map(|p| fleet.pod(*p));
    let of_pods = pods.filter(|p| p.stuck.as_ref().is_some_and(|s| fails(s.reason)));
    of_pods
        .flat_map(|p| p.slots.iter().copied())
        .filter(|s| fleet.slot(*s).state == SlotState::Unknown)
        .collect()
}

fn finding(
    context: &Context<'_>,
    id: WorkloadId,
    workload: &Workload,
    held: &Held<'_>,
    placement: &Placement,
) -> Option<Finding> {
    let fleet = context.fleet;
    let slots = failing(fleet, workload);
    if slots.is_empty() {
        return None;
    }
    let mut judged = confidence(fleet, workload, held, placement);
    judged.cap_by_price(fleet, &slots);
    let fix = remedy(context, workload, held);
    let reason = placement.reason.trim_end_matches('.');
    let used = held.spread.gpus;
    let more = workload.gpus_per_replica.filter(|n| *n > used);
    let title = format!(
        "{}: {} does not fit {used} × {}{}",
        workload.name,
        workload.model_label().unwrap_or("its model"),
        held.gpu.name,
        more.map(|n| format!(", of {n} that it holds")).unwrap_or_default()
    );
    Some(Finding {
        rank: ClaimRank::AtRisk,
        title,
        evidence: evidence(fleet, workload, held, placement),
        claims: support::part_of(fleet, workload, &slots, 1.0),
        fix: Fix {
            summary: format!("{reason}. {}", what_to_do(held, placement, fix.as_ref())),
            placement: fix,
            patch: None,
        },
        ..support::of_one(fleet, ID, None, (id, workload), judged)
    })
}

fn restarts(fleet: &Fleet, workload: &Workload) -> Option<u64> {
    let stuck = workload.pods.iter().filter_map(|p| fleet.pod(*p).stuck.as_ref());
    stuck.map(|s| s.restarts).max()
}

fn confidence(fleet: &Fleet, workload: &Workload, held: &Held<'_>, placement: &Placement) -> Judged {
    let is_looping = |p: &crate::fleet::PodId| {
        let stuck = fleet.pod(*p).stuck.as_ref();
        stuck.is_some_and(|s| s.reason == StuckReason::CrashLoop && s.restarts > 0)
    };
    let mut judged = if workload.planned {
        Judged::at(Confidence::Estimated, "the memory model, not a running server")
    } else if workload.pods.iter().any(is_looping) && held.model.verified {
        Judged::measured(
            "it restarts again and again, and its specification cannot fit even at the good end of the band",
        )
    } else {
        Judged::at(
            Confidence::Estimated,
            "it is not Ready; the memory model says that it cannot be",
        )
    };
    if held.is_by_name() {
        judged.cap(Confidence::Assumed, "the model is known by its name only");
    }
    // What a loop of crashes shows needs no defaults.
    if placement.confidence == FitConfidence::Assumed && judged.level < Confidence::Measured {
        judged.cap(
            Confidence::Assumed,
            "the model's facts, or the engine's defaults, are assumed",
        );
    }
    judged
}

fn evidence(fleet: &Fleet, workload: &Workload, held: &Held<'_>, placement: &Placement) -> Vec<Evidence> {
    let usable = held.gpu.memory_usable.unwrap_or(held.gpu.memory);
    let mut evidence = vec![
        Evidence::text("fit_verdict", "does-not-fit", "fit"),
        Evidence::text("fit_reason", &placement.reason, "fit"),
    ];
    if let Some(restarts) = restarts(fleet, workload) {
        evidence.push(Evidence::number("restarts", restarts as f64, "restarts", "kubernetes"));
    }
    evidence.push(Evidence::number("gpu_memory", usable.0 as f64, "bytes", "catalog"));
    if let Some(weights) = placement.weights_per_gpu {
        evidence.push(
            Evidence::number("weights_per_gpu", weights.0 as f64, "bytes", "fit").expected(held.gpu.memory.0 as f64),
        );
    }
    if let Some(overhead) = &placement.overhead_per_gpu {
        let value = overhead.value.0 as f64;
        evidence.push(Evidence::number("overhead_per_gpu", value, "bytes", "fit"));
    }
    if let Some(capacity) = &placement.kv_capacity {
        let value = capacity.value.0 as f64;
        evidence.push(Evidence::number("kv_capacity", value, "tokens", "fit"));
    }
    evidence
}
