//! oversized-tier: a cheaper GPU tier, or fewer GPUs, would carry what the server is seen to do.

use super::finding::{Claim, ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::sizing::{self, Judgement, Plan, Target};
use super::support::{self, Judged};
use super::{Check, Context, Outcome, documented};
use crate::catalog::mig;
use crate::fit::{FitConfidence, Placement, Service};
use crate::fleet::{Fleet, PriceSource, Slot, SlotId, SlotState, Workload, WorkloadId};
use crate::settings::Thresholds;
use crate::units::{Bytes, UsdPerHour};

documented! {
    since "0.1.0";
    /// What it finds. Servers that a cheaper GPU tier, or fewer GPUs, would carry: same engine, weights, precision and context length.
    /// A candidate must hold the model at the bad end of the memory model's band, 1.3 x the peak of KV tokens, 1.5 x the p95 of tokens
    /// per second, tokens within 1.2 x today's latency or 50 ms, the first one within 1.2 x or 2 s, with enough CPU and memory beside
    /// it, and save 20 % and $0.25/h at least.
    ///
    /// Why it costs. An H100 costs several times an L4 or L40S; a 7B model with little traffic uses neither its memory nor its speed.
    ///
    /// How the dollars are computed. What the replicas that stay hold now, minus what the cheapest candidate costs: the share price
    /// where the cluster has the tier, else whole instances of this cloud's region. Free GPUs are never taken as free of charge.
    /// tier_ratio in the evidence is cost held / cost needed. Replicas that over-replicated sends away are not counted again.
    /// MIG instances are tiers of their own, at the price of their compute slices: for a whole card only those that the cluster
    /// hands out. A server on an instance may also be told a smaller profile of its card that nobody made yet; then the card must be cut
    /// anew, no patch is given, and only slices that keep memory of their own are counted. Slices are reusable: the card stays.
    ///
    /// When it is wrong. Without history the busiest time is a rule (3 x the mean, and 3 requests): estimated. The time on a card
    /// that the server does not run on is scaled from the latencies that it tells (a MIG instance's as its share of the card), and must hold
    /// at the end of a margin that one such scaling in twenty exceeds. To AMD's cards, and to cards that nobody measured with such a
    /// model (dense, or a mixture of experts), it is not scaled: they stay unknown, unless a server of this fleet runs such a model
    /// there. A prefix cache uses what looks like spare KV: estimated above 30 % hits.
    /// Only the load that was seen counts: a launch next week is not in it. What servers of other fleets told of just this placement
    /// (--learned) measures its memory and its speed, unless they contradict each other, the models, or what this server measures;
    /// the evidence has it as learned_memory and learned_speed.
    ///
    /// What to do. Move one replica, put load on it, then the rest. The patch is given where it is complete.
    pub(crate) struct OversizedTier;
}

const ID: &str = "oversized-tier";

impl Check for OversizedTier {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Servers on GPUs far above their need: a cheaper tier, or fewer GPUs, would hold the model, its KV peak and its load."
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let sizing = context.sizing();
        out.gaps.extend(sizing.gaps.iter().cloned());
        for (id, workload) in support::workloads(context.fleet) {
            let slots = support::slots_of(workload);
            match &sizing.judgements[id.0] {
                Judgement::NoServer | Judgement::Dark => {}
                Judgement::Lacks(lack) => {
                    if lack.unread || sizing::hides_its_model(workload) {
                        out.doubts(FindingKind::Recoverable, id, sizing::doubted(context, workload));
                    }
                    out.lacks(lack, slots);
                }
                Judgement::Sized(plan) => match &plan.target {
                    Err(lack) => out.lacks(lack, slots),
                    Ok(target) => {
                        out.assessed.extend(slots);
                        if let Some(target) = target {
                            if sizing::unconfirmed(workload) {
                                out.doubts(FindingKind::Recoverable, id, support::slots_of(workload));
                            }
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
            let kept = if target.same_tier { target.gpus as usize } else { 0 };
            sizing::used(workload, *r, plan.gpus).into_iter().skip(kept)
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
    let now = count(replicas * plan.gpus, &plan.gpu.name);
    let then = count(replicas * target.gpus, &target.gpu.name);
    let title = if plan.demand.on_paper {
        format!("{name}: {now} where {then} hold what it admits ({ratio:.1}× the cost it needs)")
    } else {
        format!("{name}: {now} do the work of {then} ({ratio:.1}× the cost it needs)")
    };
    let judged = confidence(fleet, t, workload, plan, target);
    Some(Finding {
        kind: FindingKind::Recoverable,
        rank: ClaimRank::Oversized,
        title,
        evidence: evidence(t, workload, plan, target, held, ratio),
        claims: claims(fleet, workload, plan, target, held - cost),
        fix: Fix {
            summary: summary(fleet, workload, plan, target),
            placement: Some(plan.placement()),
            patch: sizing::patch(fleet, workload, plan),
        },
        ..support::of_one(fleet, ID, None, (id, workload), judged)
    })
}

fn count(gpus: u32, name: &str) -> String {
    format!("{gpus} × {name}")
}

/// R6: measured only with a calibrated fit, a measured latency and a week of history.
fn confidence(fleet: &Fleet, t: &Thresholds, workload: &Workload, plan: &Plan, target: &Target) -> Judged {
    let mut judged = match &target.service {
        Some(service) => of_load(t, plan, service),
        None => Judged::at(
            Confidence::Assumed,
            "no load is known before it runs: memory was judged, speed was not",
        ),
    };
    match target.placement.confidence {
        FitConfidence::Measured => {}
        FitConfidence::Estimated => judged.cap(
            Confidence::Estimated,
            "the memory model is not calibrated for this card",
        ),
        FitConfidence::Assumed => judged.cap(Confidence::Assumed, "settings of the engine's version are assumed"),
    }
    judged.reasons.extend(target.learned.iter().map(|l| l.said.clone()));
    if !workload.settings_confirmed {
        judged.cap(
            Confidence::Estimated,
            "the arguments as written; the server itself was not asked",
        );
    }
    if target.lowered.is_some() {
        judged.note(
            Confidence::Estimated,
            "it must ask for less CPU or memory than now: what it uses of them was not judged",
        );
    }
    if target.gpu.instance.is_some() && target.service.is_some() {
        judged.note(
            Confidence::Estimated,
            "no step times of MIG instances are known: speed is its share of the card's",
        );
    }
    if !target.offered && !workload.planned {
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
        PriceSource::RegionGuess => judged.cap(
            Confidence::Estimated,
            "the target's price is another region's or another capacity type's",
        ),
        PriceSource::GpuMedian | PriceSource::Unknown => {
            judged.cap(
                Confidence::Assumed,
                "the target's price is the GPU model's median over clouds",
            );
        }
    }
    judged
}

/// What was seen of its load, and how its speed elsewhere is known.
fn of_load(t: &Thresholds, plan: &Plan, service: &Service) -> Judged {
    let mut judged = Judged::measured("its load over the window is known");
    if plan.calibrated {
        judged
            .reasons
            .push("the memory model is calibrated by the server's own KV capacity".into());
    }
    judged
        .reasons
        .extend(plan.like.iter().map(|l| format!("its own KV capacity: {}", l.reason)));
    if let Some(why) = plan.demand.doubt(t) {
        judged.cap(Confidence::Estimated, &why);
    }
    if !service.by_ratio {
        judged.cap(
            Confidence::Estimated,
            "throughput by the roofline, not scaled from a measurement",
        );
    }
    if plan.demand.latency_by_mean {
        judged.cap(
            Confidence::Estimated,
            "of how long its tokens take only the mean is told: the p95 is taken as 3 × it",
        );
    }
    if service.slower {
        judged.cap(Confidence::Estimated, "tokens come slower than now, within the limit");
    }
    if plan.demand.hit_rate.is_some_and(|h| h > t.prefix_hit_rate) {
        judged.note(Confidence::Estimated, "the spare KV cache is your prefix cache");
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
    let cost = target.quote.usd_per_hour.usd();
    let mut all = vec![
        Evidence::number("tier_ratio", ratio, "ratio", "catalog").expected(1.0),
        Evidence::number("cost_held", held.usd(), "usd/h", "catalog").expected(cost),
    ];
    let peak = plan.demand.peak_kv_tokens;
    // On paper of one engine, headroom included; else of all replicas together.
    let (wanted, ranks) = if plan.demand.on_paper {
        all.push(Evidence::number("kv_tokens_needed", peak, "tokens", "manifest"));
        (peak, 1)
    } else {
        all.extend(of_demand(t, workload, plan, target));
        let each = peak / f64::from(plan.stay.len() as u32);
        (t.kv_headroom * each, target.parallelism.data)
    };
    all.extend(
        plan.like
            .iter()
            .filter(|l| l.elsewhere)
            .map(|l| Evidence::text("learned_memory_now", &l.reason, "learned")),
    );
    all.extend(
        target
            .learned
            .iter()
            .map(|l| Evidence::text(l.name, &l.said, "learned")),
    );
    if let Some(capacity) = tokens(&target.placement, ranks) {
        all.push(Evidence::number("target_kv_capacity_tokens", capacity, "tokens", "fit").expected(wanted));
    }
    all
}

fn tokens(placement: &Placement, ranks: u32) -> Option<f64> {
    placement.kv_capacity.map(|b| b.low.0 as f64 * f64::from(ranks))
}

/// What it was seen to do, and what the target would do of it.
fn of_demand(t: &Thresholds, workload: &Workload, plan: &Plan, target: &Target) -> Vec<Evidence> {
    let d = &plan.demand;
    let n = f64::from(plan.stay.len() as u32);
    let source = if d.history { "prometheus" } else { "engine" };
    let seen = |name: &str, value: f64, unit: &str| {
        Evidence::number(name, value, unit, source).window(d.window_seconds, d.coverage)
    };
    let mut all = vec![
        seen("peak_kv_tokens_per_replica", d.peak_kv_tokens / n, "tokens"),
        seen("peak_running_per_replica", d.peak_running / n, "requests"),
        seen("output_tokens_per_second_p95", d.output_tokens_per_second, "tokens/s"),
        seen("prompt_tokens_per_second_p95", d.prompt_tokens_per_second, "tokens/s"),
    ];
    let ranks = plan.parallelism.data;
    let told = workload.kv_capacity.map(|c| c.0 as f64 * f64::from(ranks));
    let capacity = told.or_else(|| tokens(&plan.current, ranks));
    if let Some(capacity) = capacity.filter(|c| *c > 0.0) {
        all.push(seen("kv_cache_peak", d.peak_kv_tokens / n / capacity, "ratio").expected(1.0 / t.kv_headroom));
    }
    let service = target.service.as_ref();
    if let Some(capacity) = service.and_then(|s| s.output_capacity) {
        let capacity = capacity * f64::from(target.parallelism.data);
        all.push(
            Evidence::number("target_output_tokens_per_second", capacity, "tokens/s", "fit")
                .expected(t.throughput_headroom * d.output_tokens_per_second / n),
        );
    }
    if let Some(now) = d.inter_token_latency {
        all.push(seen("inter_token_latency_p95", now, "seconds"));
    }
    if let Some(then) = service.and_then(|s| s.inter_token_latency) {
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
    let each = if target.gpus == 1 {
        format!("one {}", target.gpu.name)
    } else {
        format!("{} × {}", target.gpus, target.gpu.name)
    };
    let mut text = format!(
        "Move {} {}/{} to {replicas} {} on {each}{}",
        workload.kind,
        workload.namespace,
        workload.name,
        if replicas == 1 { "replica" } else { "replicas" },
        place(fleet, workload, target)
    );
    if target.parallelism.tensor != plan.parallelism.tensor {
        text.push_str(&format!(
            ", tensor parallelism {} instead of {}",
            target.parallelism.tensor, plan.parallelism.tensor
        ));
    }
    if let Some(need) = &target.lowered {
        text.push_str(&format!(
            ", once its requests are lowered to {:.0} vCPU and {:.0} GiB in all, which its processes need",
            need.cores,
            need.memory / Bytes::GIB
        ));
    }
    let then = target.service.as_ref().and_then(|s| s.inter_token_latency);
    if let (Some(now), Some(then)) = (plan.demand.inter_token_latency, then) {
        // The value and the end that the limits were held against: a promise must not rest on the middle.
        let expected = target
            .service
            .as_ref()
            .and_then(|s| s.expected_inter_token_latency)
            .unwrap_or(then);
        text.push_str(&format!(
            "; tokens then come every {:.0} ms (at most {:.0}) instead of {:.0}",
            expected * 1e3,
            then * 1e3,
            now * 1e3
        ));
    }
    text.push_str(match target.service {
        Some(_) => ". Try one replica under load first.",
        None => ". It holds the model and what it admits; measure its speed before moving.",
    });
    text
}

/// Where the target is to be had.
fn place(fleet: &Fleet, workload: &Workload, target: &Target) -> String {
    if let Some(rent) = &target.quote.rent {
        return format!(" (rent {rent})");
    }
    let part = target.gpu.instance.is_some();
    if !target.here {
        return match (part, workload.planned) {
            (false, _) => String::new(),
            (true, true) => format!(" (ask for {})", target.resource),
            (true, false) => format!(
                ": ask for {}, which no node hands out yet, so that a card must be cut anew first (nvidia.com/mig.config)",
                target.resource
            ),
        };
    }
    let is_free = |s: &&Slot| {
        let node = fleet.node(s.node);
        let meant = if part {
            is_one(fleet, s, target)
        } else {
            s.mig_profile.is_none() && node.gpu.is_some_and(|g| g.name == target.gpu.name)
        };
        node.cluster == workload.cluster && s.state == SlotState::Free && meant
    };
    let free = fleet.slots.iter().filter(is_free).count();
    if part {
        format!(" of this cluster (ask for {}; {free} free now)", target.resource)
    } else {
        format!(" of this cluster ({free} free now)")
    }
}
