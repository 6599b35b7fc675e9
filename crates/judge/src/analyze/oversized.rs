//! oversized-tier: a cheaper GPU tier, or fewer GPUs, would carry what the server is seen to do.

use super::finding::{Claim, ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::sizing::{self, Judgement, Plan, Target};
use super::support::{self, Judged};
use super::{Check, Context, Outcome, explain};
use crate::catalog::mig;
use crate::fit::{FitConfidence, Placement};
use crate::fleet::{Fleet, PriceSource, Slot, SlotId, SlotState, Workload, WorkloadId};
use crate::settings::Thresholds;
use crate::units::UsdPerHour;

pub(crate) struct OversizedTier;

const ID: &str = "oversized-tier";

impl Check for OversizedTier {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Servers on GPUs far above their need: a cheaper tier, or fewer GPUs, would hold the model, its KV peak and its load."
    }

    fn explain(&self) -> &'static str {
        explain::OVERSIZED_TIER
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let sizing = context.sizing();
        out.gaps.extend(sizing.gaps.iter().cloned());
        for (id, workload) in support::workloads(context.fleet) {
            let slots = support::slots_of(workload);
            match &sizing.judgements[id.0] {
                Judgement::NoServer | Judgement::Dark => {}
                Judgement::Lacks(lack) => out.not_assessed(lack.reason, lack.remedy, slots),
                Judgement::Planned(plan) => match &plan.target {
                    Err(lack) => out.not_assessed(lack.reason, lack.remedy, slots),
                    Ok(target) => {
                        out.assessed.extend(slots);
                        if let Some(target) = target {
                            let thresholds = &context.settings.thresholds;
                            out.findings
                                .extend(finding(context.fleet, thresholds, id, workload, plan, target));
                        }
                    }
                },
            }
        }
    }
}

/// The saving on the GPUs that are left: on the same cards those that go, else a part of each GPU's price.
fn claims(fleet: &Fleet, workload: &Workload, plan: &Plan, target: &Target, saved: UsdPerHour) -> Vec<Claim> {
    let slots: Vec<SlotId> = plan
        .stay
        .iter()
        .flat_map(|r| {
            let kept = if target.same_tier {
                target.parallelism.gpus() as usize
            } else {
                0
            };
            sizing::used(workload, *r, plan.parallelism).into_iter().skip(kept)
        })
        .collect();
    let weights: Vec<u64> = slots
        .iter()
        .map(|s| fleet.slot(*s).price.map_or(0, |p| p.micros().max(0) as u64))
        .collect();
    slots
        .into_iter()
        .zip(saved.split_by(&weights))
        .map(|(slot, usd)| Claim {
            slot,
            usd_per_hour: Some(usd),
            vacates: leaves(fleet, slot, target),
        })
        .collect()
}

/// A server that moves to another instance of a card of its own node stays there: the node cannot go for that.
fn leaves(fleet: &Fleet, slot: SlotId, target: &Target) -> bool {
    let node = fleet.node(fleet.slot(slot).node);
    let here = || node.slot_ids().any(|s| is_one(fleet, fleet.slot(s), target));
    target.gpu.instance.is_none() || target.offered && !here()
}

/// An instance of the target's profile and card.
fn is_one(fleet: &Fleet, slot: &Slot, target: &Target) -> bool {
    let profile = slot.mig_profile.as_deref();
    let own = fleet
        .node(slot.node)
        .gpu
        .zip(profile)
        .and_then(|(card, p)| mig::find(card, p));
    own.is_some_and(|g| g.name == target.gpu.name)
}

fn finding(
    fleet: &Fleet,
    t: &Thresholds,
    id: WorkloadId,
    workload: &Workload,
    plan: &Plan,
    target: &Target,
) -> Option<Finding> {
    let held = plan.held?;
    let cost = target.quote.usd_per_hour;
    let ratio = held.usd() / cost.usd();
    let replicas = plan.stay.len() as u32;
    let name = &workload.name;
    let now = count(replicas * plan.parallelism.gpus(), &plan.gpu.name);
    let then = count(replicas * target.parallelism.gpus(), &target.gpu.name);
    let placement = Some(plan.placement());
    let judged = confidence(fleet, t, workload, plan, target);
    Some(Finding {
        check: ID,
        part: None,
        kind: FindingKind::Recoverable,
        rank: ClaimRank::Oversized,
        title: format!("{name}: {now} do the work of {then} ({ratio:.1}× the cost it needs)"),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence: evidence(t, workload, plan, target, held, ratio),
        claims: claims(fleet, workload, plan, target, held - cost),
        fix: Fix {
            summary: summary(fleet, workload, plan, target),
            placement,
            patch: sizing::patch(fleet, workload, plan),
        },
        ignored: None,
        trend_usd_per_hour: None,
    })
}

fn count(gpus: u32, name: &str) -> String {
    format!("{gpus} × {name}")
}

/// R6: measured only with a calibrated fit, a measured latency and a week of history.
fn confidence(fleet: &Fleet, t: &Thresholds, workload: &Workload, plan: &Plan, target: &Target) -> Judged {
    let demand = &plan.demand;
    let mut judged = Judged::measured("a week of load, a fit calibrated by the server, latency scaled from its own");
    if let Some(why) = support::little_history(demand, t) {
        judged.cap(Confidence::Estimated, &why);
    }
    if !target.service.by_ratio {
        judged.cap(
            Confidence::Estimated,
            "throughput by the roofline, not scaled from a measurement",
        );
    }
    match target.placement.confidence {
        FitConfidence::Measured => {}
        FitConfidence::Estimated => judged.cap(
            Confidence::Estimated,
            "the memory model is not calibrated for this card",
        ),
        FitConfidence::Assumed => judged.cap(Confidence::Assumed, "settings of the engine's version are assumed"),
    }
    if target.service.slower {
        judged.cap(Confidence::Estimated, "tokens come slower than now, within the limit");
    }
    if demand.hit_rate.is_some_and(|h| h > t.prefix_hit_rate) {
        judged.note(Confidence::Estimated, "the spare KV cache is your prefix cache");
    }
    if !workload.settings_confirmed {
        judged.cap(
            Confidence::Estimated,
            "the arguments as written; the server itself was not asked",
        );
    }
    if target.gpu.instance.is_some() {
        judged.note(
            Confidence::Estimated,
            "no step times of MIG instances are known: speed is its share of the card's",
        );
    }
    if !target.offered {
        judged.note(
            Confidence::Estimated,
            "no node offers this profile: it saves once the card's layout is changed",
        );
    }
    judged.cap_by_price(fleet, &support::slots_of(workload));
    match target.price_source {
        PriceSource::User => {}
        PriceSource::Catalog if !target.stale => {}
        PriceSource::Catalog => judged.cap(
            Confidence::Estimated,
            "the target's list price is older than stale_price_days",
        ),
        PriceSource::RegionGuess => judged.cap(Confidence::Estimated, "the target's price is another region's"),
        PriceSource::GpuMedian | PriceSource::Unknown => {
            judged.cap(
                Confidence::Assumed,
                "the target's price is the GPU model's median over clouds",
            );
        }
    }
    judged
}

fn evidence(
    t: &Thresholds,
    workload: &Workload,
    plan: &Plan,
    target: &Target,
    held: UsdPerHour,
    ratio: f64,
) -> Vec<Evidence> {
    let d = &plan.demand;
    let n = f64::from(plan.stay.len() as u32);
    let source = if d.history { "prometheus" } else { "engine" };
    let seen = |name: &str, value: f64, unit: &str| {
        Evidence::number(name, value, unit, source).window(d.window_seconds, d.coverage)
    };
    let tokens = |p: &Placement, ranks: u32| p.kv_capacity.map(|b| b.low.0 as f64 * f64::from(ranks));
    let mut all = vec![
        Evidence::number("tier_ratio", ratio, "ratio", "catalog").expected(1.0),
        Evidence::number("cost_held", held.usd(), "usd/h", "catalog").expected(target.quote.usd_per_hour.usd()),
        seen("peak_kv_tokens_per_replica", d.peak_kv_tokens / n, "tokens"),
        seen("peak_running_per_replica", d.peak_running / n, "requests"),
        seen("output_tokens_per_second_p95", d.output_tokens_per_second, "tokens/s"),
        seen("prompt_tokens_per_second_p95", d.prompt_tokens_per_second, "tokens/s"),
    ];
    let told = workload
        .kv_capacity
        .map(|c| c.0 as f64 * f64::from(plan.parallelism.data));
    if let Some(capacity) = told
        .or_else(|| tokens(&plan.current, plan.parallelism.data))
        .filter(|c| *c > 0.0)
    {
        all.push(seen("kv_cache_peak", d.peak_kv_tokens / n / capacity, "ratio").expected(1.0 / t.kv_headroom));
    }
    if let Some(capacity) = tokens(&target.placement, target.parallelism.data) {
        all.push(
            Evidence::number("target_kv_capacity_tokens", capacity, "tokens", "fit")
                .expected(t.kv_headroom * d.peak_kv_tokens / n),
        );
    }
    if let Some(capacity) = target.service.output_capacity {
        let capacity = capacity * f64::from(target.parallelism.data);
        all.push(
            Evidence::number("target_output_tokens_per_second", capacity, "tokens/s", "fit")
                .expected(t.throughput_headroom * d.output_tokens_per_second / n),
        );
    }
    if let Some(now) = d.inter_token_latency {
        all.push(seen("inter_token_latency_p95", now, "seconds"));
    }
    if let Some(then) = target.service.inter_token_latency {
        let limit = d
            .inter_token_latency
            .map_or(t.slo_itl_seconds, |now| (t.latency_growth * now).max(t.slo_itl_seconds));
        all.push(Evidence::number("target_inter_token_latency", then, "seconds", "fit").expected(limit));
    }
    if let Some(hits) = d.hit_rate {
        all.push(seen("prefix_cache_hit_rate", hits, "ratio").expected(t.prefix_hit_rate));
    }
    all
}

fn summary(fleet: &Fleet, workload: &Workload, plan: &Plan, target: &Target) -> String {
    let replicas = plan.stay.len();
    let each = if target.parallelism.gpus() == 1 {
        format!("one {}", target.gpu.name)
    } else {
        format!("{} × {}", target.parallelism.gpus(), target.gpu.name)
    };
    let place = match (&target.quote.rent, &target.gpu.instance) {
        (Some(rent), _) => format!(" (rent {rent})"),
        (None, Some(_)) if target.offered => {
            let is_free = |s: &&Slot| {
                let here = fleet.node(s.node).cluster == workload.cluster;
                here && s.state == SlotState::Free && is_one(fleet, s, target)
            };
            let free = fleet.slots.iter().filter(is_free).count();
            format!(" of this cluster (ask for {}; {free} free now)", target.resource)
        }
        (None, Some(_)) => format!(
            ": ask for {}, which no node hands out yet, so that a card must be cut anew first (nvidia.com/mig.config)",
            target.resource
        ),
        (None, None) => " of this cluster".to_string(),
    };
    let mut text = format!(
        "Move {} {}/{} to {replicas} {} on {each}{place}",
        workload.kind,
        workload.namespace,
        workload.name,
        if replicas == 1 { "replica" } else { "replicas" },
    );
    if target.parallelism.tensor != plan.parallelism.tensor {
        text.push_str(&format!(
            ", tensor parallelism {} instead of {}",
            target.parallelism.tensor, plan.parallelism.tensor
        ));
    }
    if let (Some(now), Some(then)) = (plan.demand.inter_token_latency, target.service.inter_token_latency) {
        // The value and the end that the limits were held against: a promise must not rest on the middle.
        let expected = target.service.expected_inter_token_latency.unwrap_or(then);
        text.push_str(&format!(
            "; tokens then come every {:.0} ms (at most {:.0}) instead of {:.0}",
            expected * 1e3,
            then * 1e3,
            now * 1e3
        ));
    }
    text.push_str(". Try one replica under load first.");
    text
}
