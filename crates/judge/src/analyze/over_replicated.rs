//! over-replicated: more replicas than the busiest time needs.

use super::finding::{ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::sizing::{self, Cut, Judgement, Plan};
use super::support::{self, Judged};
use super::{Check, Context, Outcome, explain};
use crate::fleet::{Fleet, SlotId, Workload, WorkloadId};
use crate::settings::Thresholds;

pub(crate) struct OverReplicated;

const ID: &str = "over-replicated";

impl Check for OverReplicated {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "More replicas than the busiest time needs, with headroom, a spare, and the autoscaler's minimum respected."
    }

    fn explain(&self) -> &'static str {
        explain::OVER_REPLICATED
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        for (id, workload) in support::workloads(context.fleet) {
            let slots = support::slots_of(workload);
            match &context.sizing().judgements[id.0] {
                Judgement::NoServer | Judgement::Dark => {}
                Judgement::Lacks(lack) => out.not_assessed(lack.reason, lack.remedy, slots),
                Judgement::Planned(plan) => match &plan.cut {
                    Err(lack) => out.not_assessed(lack.reason, lack.remedy, slots),
                    Ok(cut) => {
                        out.assessed.extend(slots);
                        if !plan.leave.is_empty() {
                            let thresholds = &context.settings.thresholds;
                            out.findings
                                .push(finding(context.fleet, thresholds, id, workload, plan, cut));
                        }
                    }
                },
            }
        }
    }
}

fn finding(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload, plan: &Plan, cut: &Cut) -> Finding {
    let slots: Vec<SlotId> = plan
        .leave
        .iter()
        .flat_map(|r| workload.replicas[*r].slots.iter().copied())
        .collect();
    let d = &plan.demand;
    let mut judged = Judged::measured("a week of load, and what a replica was seen to serve");
    if let Some(why) = support::little_history(d, t) {
        judged.cap(Confidence::Estimated, &why);
    }
    if !cut.capacity_observed {
        judged.cap(
            Confidence::Estimated,
            "what a replica can serve is modelled, not observed",
        );
    }
    judged.cap_by_price(fleet, &slots);
    let source = if d.history { "prometheus" } else { "engine" };
    let seen = |name: &str, value: f64, unit: &str| {
        Evidence::number(name, value, unit, source).window(d.window_seconds, d.coverage)
    };
    let (now, stay) = (plan.stay.len() + plan.leave.len(), plan.stay.len());
    let autoscaled = workload.autoscaler_min.is_some();
    let verb = if autoscaled {
        "Let the autoscaler go down to"
    } else {
        "Run"
    };
    Finding {
        check: ID,
        part: None,
        kind: FindingKind::Recoverable,
        rank: ClaimRank::OverReplicated,
        title: format!("{}: {now} replicas, {stay} carry its busiest time", workload.name),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence: vec![
            Evidence::number(
                "replicas_low",
                cut.low as f64,
                "replicas",
                if d.history { "prometheus" } else { "kubernetes" },
            )
            .expected(stay as f64),
            Evidence::number("needed_by_tokens", cut.by_tokens as f64, "replicas", "fit"),
            Evidence::number("needed_by_sequences", cut.by_sequences as f64, "replicas", "fit"),
            Evidence::number("needed_by_kv_cache", cut.by_kv as f64, "replicas", "fit"),
            Evidence::number("floor", cut.floor.replicas as f64, "replicas", cut.floor.why),
            seen(
                "peak_output_tokens_per_second",
                d.peak_output_tokens_per_second,
                "tokens/s",
            ),
            seen("peak_running", d.peak_running, "requests"),
            Evidence::number(
                "replica_capacity",
                cut.capacity,
                "tokens/s",
                if cut.capacity_observed { source } else { "fit" },
            ),
        ],
        claims: support::claims(fleet, &slots, true),
        fix: Fix {
            summary: format!(
                "{verb} {stay} replicas of {} {}/{} instead of {now}: its busiest five minutes need {}, and one may fail.",
                workload.kind,
                workload.namespace,
                workload.name,
                cut.by_tokens.max(cut.by_sequences).max(cut.by_kv),
            ),
            placement: Some(plan.placement()),
            patch: sizing::patch(fleet, workload, plan),
        },
        ignored: None,
        trend_usd_per_hour: None,
    }
}
