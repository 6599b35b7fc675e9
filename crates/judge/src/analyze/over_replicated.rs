//! over-replicated: more replicas than the busiest time needs.

use super::finding::{ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::sizing::{self, Cut, Judgement, Plan};
use super::support::{self, Judged};
use super::{Check, Context, Outcome, documented};
use crate::fleet::{Fleet, SlotId, Workload, WorkloadId};
use crate::settings::Thresholds;

documented! {
    since "0.1.0";
    /// What it finds. More replicas than the busiest five minutes need by tokens per second, by running requests and by KV cache, each
    /// with 1.3 x headroom, and one more for a failure where fewer than four are needed.
    ///
    /// Why it costs. A replica that is never needed costs as much as one that is.
    ///
    /// How the dollars are computed. (replicas at the quietest - needed) x the GPUs of a replica, the cheapest ones first. Never below
    /// the autoscaler's minimum, a disruption budget, or two.
    ///
    /// When it is wrong. Replicas that are not alike (one model or adapter each, routing by prefix) cannot replace each other: annotate
    /// them. StatefulSets, prefill or decode roles, and servers in whose queue requests wait are left out. Without history peaks are a rule (3 x the mean): estimated.
    ///
    /// What to do. Lower spec.replicas, or the autoscaler's target; watch the queue for a day.
    pub(crate) struct OverReplicated;
}

const ID: &str = "over-replicated";

impl Check for OverReplicated {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "More replicas than the busiest time needs, with headroom, a spare, and the autoscaler's minimum respected."
    }

    fn needs_activity(&self) -> bool {
        true
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        for (id, workload) in support::workloads(context.fleet) {
            let slots = support::slots_of(workload);
            match &context.sizing().judgements[id.0] {
                Judgement::NoServer | Judgement::Dark => {}
                Judgement::Lacks(lack) => {
                    if lack.unread && workload.replicas.len() > 1 {
                        out.doubts(FindingKind::Recoverable, id, sizing::doubted(context, workload));
                    }
                    out.lacks(lack, slots);
                }
                Judgement::Sized(plan) => match &plan.cut {
                    Err(lack) => out.lacks(lack, slots),
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
    if let Some(why) = d.doubt(t) {
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
        kind: FindingKind::Recoverable,
        rank: ClaimRank::OverReplicated,
        title: format!("{}: {now} replicas, {stay} carry its busiest time", workload.name),
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
        claims: support::claims_of(fleet, workload, &slots),
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
        ..support::of_one(fleet, ID, None, (id, workload), judged)
    }
}
