//! undersized-tier: a placement that cannot hold the model, so that it fails.

use super::finding::{Claim, ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix, FixPlacement};
use super::sizing::{self, Held, Market};
use super::support::{self, Judged};
use super::{Check, Context, Outcome, explain};
use crate::catalog::mig;
use crate::fit::{self, FitVerdict, Placement};
use crate::fleet::{Fleet, SlotId, SlotState, StuckReason, Workload, WorkloadClass, WorkloadId};

pub(crate) struct UndersizedTier;

const ID: &str = "undersized-tier";

impl Check for UndersizedTier {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Servers whose GPUs cannot hold the model and its configured context: they fail to start."
    }

    fn explain(&self) -> &'static str {
        explain::UNDERSIZED_TIER
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        for (id, workload) in support::workloads(fleet).filter(|(_, w)| w.class == WorkloadClass::Server) {
            let slots = support::slots_of(workload);
            // Ready servers fit by definition.
            if workload.replicas.iter().all(|r| r.ready_since.is_some()) {
                out.assessed.extend(slots);
                continue;
            }
            match sizing::held(fleet, workload) {
                Err(lack) => out.not_assessed(lack.reason, lack.remedy, slots),
                Ok(held) => match misfit(&held) {
                    Misfit::Unknown => out.not_assessed(
                        "whether the model fits depends on what no source states",
                        "see 'gpuwaste fit MODEL'",
                        slots,
                    ),
                    Misfit::Fits => out.assessed.extend(slots),
                    Misfit::TooSmall(placement) => {
                        out.assessed.extend(slots);
                        let market = &context.sizing().market;
                        out.findings
                            .extend(finding(fleet, market, id, workload, &held, &placement));
                    }
                },
            }
        }
    }
}

enum Misfit {
    Unknown,
    Fits,
    TooSmall(Box<Placement>),
}

fn misfit(held: &Held<'_>) -> Misfit {
    let placement = fit::place(held.model, held.settings, held.gpu, held.parallelism, None);
    match placement.verdict {
        FitVerdict::Fits => Misfit::Fits,
        FitVerdict::DoesNotFit => Misfit::TooSmall(Box::new(placement)),
        FitVerdict::Tight | FitVerdict::Unknown => Misfit::Unknown,
    }
}

/// The cause of a pod that is stuck, where it is that its model does not fit: dark-capacity tells it, and has the dollars.
pub(super) fn cause(fleet: &Fleet, market: &Market, workload: &Workload) -> Option<(String, Option<FixPlacement>)> {
    let held = sizing::held(fleet, workload).ok()?;
    let Misfit::TooSmall(placement) = misfit(&held) else {
        return None;
    };
    Some((placement.reason, remedy(fleet, market, workload, &held)))
}

fn remedy(fleet: &Fleet, market: &Market, workload: &Workload, held: &Held<'_>) -> Option<FixPlacement> {
    let slot = fleet.slot(*support::slots_of(workload).first()?);
    let (mut fix, _) = sizing::smallest_that_fits(market, fleet.node(slot.node), slot, held)?;
    let replicas = workload.replicas.len() as u32;
    fix.replicas = replicas;
    fix.usd_per_hour = fix.usd_per_hour.map(|u| u.times(u64::from(replicas)));
    Some(fix)
}

pub(super) fn advice(fix: Option<&FixPlacement>) -> String {
    match fix {
        Some(fix) => match mig::named(&fix.gpu).and_then(|g| g.instance.as_ref()) {
            Some(instance) => format!(
                "It fits one {} (nvidia.com/mig-{}), or a smaller profile with quantized weights or a shorter context.",
                fix.gpu, instance.profile
            ),
            None => format!(
                "It fits {} × {} (tensor parallelism {}), or fewer with quantized weights or a shorter context.",
                fix.gpus, fix.gpu, fix.tensor_parallel
            ),
        },
        None => "No tier within reach holds it: use quantized weights, a shorter context, or several nodes.".into(),
    }
}

fn finding(
    fleet: &Fleet,
    market: &Market,
    id: WorkloadId,
    workload: &Workload,
    held: &Held<'_>,
    placement: &Placement,
) -> Option<Finding> {
    let failing: Vec<_> = workload
        .pods
        .iter()
        .map(|p| fleet.pod(*p))
        .filter_map(|p| Some((p, p.stuck.as_ref()?)))
        .filter(|(_, s)| matches!(s.reason, StuckReason::CrashLoop | StuckReason::NotReady))
        .collect();
    let slots: Vec<SlotId> = failing
        .iter()
        .flat_map(|(p, _)| p.slots.iter().copied())
        .filter(|s| fleet.slot(*s).state == SlotState::Unknown)
        .collect();
    if slots.is_empty() {
        return None;
    }
    let looping = failing
        .iter()
        .any(|(_, s)| s.reason == StuckReason::CrashLoop && s.restarts > 0);
    let mut judged = if looping && held.model.verified {
        Judged::measured(
            "it restarts again and again, and its specification cannot fit even at the good end of the band",
        )
    } else {
        Judged::at(
            Confidence::Estimated,
            "it is not Ready; the memory model says that it cannot be",
        )
    };
    judged.cap_by_price(fleet, &slots);
    let fix = remedy(fleet, market, workload, held);
    let mut evidence = vec![
        Evidence::text("fit_verdict", "does-not-fit", "fit"),
        Evidence::text("fit_reason", &placement.reason, "fit"),
        Evidence::number(
            "restarts",
            failing.iter().map(|(_, s)| s.restarts).max().unwrap_or(0) as f64,
            "restarts",
            "kubernetes",
        ),
    ];
    if let Some(weights) = placement.weights_per_gpu {
        evidence.push(
            Evidence::number("weights_per_gpu", weights.0 as f64, "bytes", "fit").expected(held.gpu.memory.0 as f64),
        );
    }
    Some(Finding {
        check: ID,
        part: None,
        kind: FindingKind::AtRisk,
        rank: ClaimRank::AtRisk,
        title: format!(
            "{}: {} cannot fit {} × {}",
            workload.name,
            workload.model_label().unwrap_or("its model"),
            held.parallelism.gpus(),
            held.gpu.name
        ),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence,
        claims: slots
            .iter()
            .map(|s| Claim {
                slot: *s,
                usd_per_hour: fleet.slot(*s).price,
                vacates: false,
            })
            .collect(),
        fix: Fix {
            summary: advice(fix.as_ref()),
            placement: fix,
            patch: None,
        },
        ignored: None,
        trend_usd_per_hour: None,
    })
}
