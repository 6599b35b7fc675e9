//! One plan a workload, which over-replicated and oversized-tier both speak from (R4): first how many replicas stay, then
//! the cheapest tier that carries the load each of them then has. The plan passes the fit test as a whole.

mod demand;
mod market;
mod patch;
mod replicas;

pub(super) use demand::Demand;
pub(super) use market::{HostNeed, Market, Quote, Tier};
pub(super) use patch::of_plan as patch;
pub(super) use replicas::Cut;

use super::finding::FixPlacement;
use super::support;
use crate::catalog::gpus::GpuFacts;
use crate::catalog::mig;
use crate::catalog::models::{ModelFacts, ModelSource, Task};
use crate::engine::{self, LoadFigure, Tells, Width};
use crate::fit::{self, Calibration, FitVerdict, Parallelism, Placement, Service, Slo};
use crate::fleet::{Fleet, Node, Slot, SlotId, SlotState, WHOLE_GPU, Workload, WorkloadClass};
use crate::settings::Thresholds;
use crate::snapshot::Gap;
use crate::snapshot::server::EngineSettings;
use crate::units::{Bytes, MilliCores, UsdPerHour};

/// Why something is not assessed, and what would let it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    pub(super) reason: &'static str,
    pub(super) remedy: &'static str,
}

pub(super) const fn lack(reason: &'static str, remedy: &'static str) -> Lack {
    Lack { reason, remedy }
}

/// Share of the judged time over which a history must be known (R6, R9).
const KNOWN_LOAD: f64 = 0.8;

pub(super) const SCRAPE: &str = "grant pods/proxy ('gpuwaste rbac --with scrape --namespace NS')";

/// What a workload is, in the fit engine's words.
pub(super) struct Held<'a> {
    pub(super) model: &'a ModelFacts,
    pub(super) settings: &'a EngineSettings,
    /// A card, or the MIG instance of one.
    pub(super) gpu: &'static GpuFacts,
    pub(super) parallelism: Parallelism,
    pub(super) calibration: Option<Calibration>,
}

/// The joint plan.
pub(super) struct Plan {
    /// Indices into [`Workload::replicas`].
    pub(super) stay: Vec<usize>,
    pub(super) leave: Vec<usize>,
    pub(super) cut: Result<Cut, Lack>,
    pub(super) demand: Demand,
    pub(super) current: Placement,
    /// A card, or the MIG instance of one.
    pub(super) gpu: &'static GpuFacts,
    pub(super) parallelism: Parallelism,
    /// What the staying replicas' GPUs cost; `None`: one of them has no price.
    pub(super) held: Option<UsdPerHour>,
    pub(super) target: Result<Option<Target>, Lack>,
}

/// A cheaper home for the replicas that stay.
pub(super) struct Target {
    pub(super) gpu: &'static GpuFacts,
    pub(super) parallelism: Parallelism,
    pub(super) placement: Placement,
    pub(super) service: Service,
    pub(super) quote: Quote,
    pub(super) selector: Option<(String, String)>,
    pub(super) resource: String,
    pub(super) price_source: crate::fleet::PriceSource,
    pub(super) stale: bool,
    pub(super) same_tier: bool,
    /// It is there, or to be rented. Otherwise a card must be cut anew for it.
    pub(super) offered: bool,
}

/// What the plan of one workload came to.
pub(super) enum Judgement {
    /// No server: it can be dark, not mis-sized.
    NoServer,
    /// Idle or stuck as a whole: dark-capacity has its GPUs.
    Dark,
    Lacks(Lack),
    Planned(Box<Plan>),
}

/// Plans of all workloads, and where the memory model contradicts a running server.
pub(super) struct Sizing {
    pub(super) judgements: Vec<Judgement>,
    pub(super) gaps: Vec<Gap>,
    pub(super) market: Market,
}

impl Sizing {
    pub(super) fn new(fleet: &Fleet, t: &Thresholds) -> Self {
        let market = Market::new(fleet);
        let mut gaps = Vec::new();
        let judgements = fleet
            .workloads
            .iter()
            .map(|w| judge(fleet, &market, w, t, &mut gaps))
            .collect();
        Self {
            judgements,
            gaps,
            market,
        }
    }
}

pub(super) fn slo(t: &Thresholds) -> Slo {
    Slo {
        kv_headroom: t.kv_headroom,
        throughput_headroom: t.throughput_headroom,
        latency_growth: t.latency_growth,
        inter_token_latency: t.slo_itl_seconds,
        time_to_first_token: t.slo_ttft_seconds,
    }
}

/// The model, settings and card, or what is missing to say so.
pub(super) fn held<'a>(fleet: &Fleet, workload: &'a Workload) -> Result<Held<'a>, Lack> {
    let Some(settings) = workload.settings.as_ref() else {
        return Err(lack(
            "no serving engine was recognised",
            "see 'gpuwaste catalog engines'",
        ));
    };
    let Some(model) = workload.model.as_ref() else {
        return Err(lack(
            "the model is not in the catalogue",
            "give its config.json with --models DIR",
        ));
    };
    if model.source == ModelSource::Name || model.groups.is_empty() {
        return Err(lack(
            "the model is known by its name only: its KV cache is not",
            "give its config.json with --models DIR",
        ));
    }
    if support::on_unseen_nodes(fleet, &support::slots_of(workload)) {
        return Err(lack(support::UNSEEN.0, support::UNSEEN.1));
    }
    let gpu = card(fleet, workload)?;
    let whole = support::slots_of(workload).iter().map(|s| fleet.slot(*s)).all(|s| {
        let own = s.weight == WHOLE_GPU || gpu.instance.is_some();
        own && s.holders.len() == 1
    });
    let alone = workload
        .replicas
        .iter()
        .all(|r| r.pods.len() == 1 && fleet.pod(r.pods[0]).device_containers == 1);
    if !whole || !alone {
        return Err(lack("it shares GPUs, or spans several pods", "nothing to do"));
    }
    let Some(parallelism) = parallelism(workload, settings) else {
        return Err(lack(
            "its parallelism does not match the GPUs it holds",
            "look at parallelism-mismatch, or write the parallelism in the arguments",
        ));
    };
    let calibration = workload.kv_capacity.map(|kv_capacity| Calibration {
        gpu: gpu.name.clone(),
        parallelism,
        kv_capacity,
    });
    Ok(Held {
        model,
        settings,
        gpu,
        parallelism,
        calibration,
    })
}

/// The card that all its replicas hold, or the MIG instance of one.
pub(super) fn card(fleet: &Fleet, workload: &Workload) -> Result<&'static GpuFacts, Lack> {
    let Some(gpu) = workload.gpu else {
        return Err(lack("its GPUs are mixed or unknown", "label the nodes with their GPU"));
    };
    let slots = support::slots_of(workload);
    let profile = |s: &SlotId| fleet.slot(*s).mig_profile.as_deref();
    let first = slots.first().and_then(profile);
    if slots.iter().any(|s| profile(s) != first) {
        return Err(lack(
            "its replicas hold parts of GPUs of different sizes",
            "ask for one profile",
        ));
    }
    let Some(profile) = first else {
        return Ok(gpu);
    };
    if gpu.vendor != "nvidia" {
        return Err(lack(
            "it holds partitions of a GPU, whose memory depends on the memory mode",
            "compare the partition's memory with 'gpuwaste fit MODEL --gpu-memory-gib'",
        ));
    }
    let Some(instance) = mig::find(gpu, profile) else {
        return Err(lack(
            "its MIG profile is not one that the catalogue knows of this GPU",
            "compare its memory with 'gpuwaste fit MODEL --gpu-memory-gib'",
        ));
    };
    let known = |s: &SlotId| {
        let node = fleet.node(fleet.slot(*s).node);
        instance
            .instance
            .as_ref()
            .is_some_and(|i| market::parts::agrees(node, i))
    };
    if !slots.iter().all(known) {
        return Err(lack(
            "its node labels another memory for its MIG profile than drivers were seen to report",
            "compare it with 'gpuwaste fit MODEL --gpu-memory-gib'",
        ));
    }
    if workload.gpus_per_replica.is_some_and(|n| n > 1) {
        return Err(lack(
            "it holds several MIG instances, and an engine spans one only",
            "ask for one instance, or for a profile that is as large",
        ));
    }
    Ok(instance)
}

/// What the arguments say; engines that take every GPU they see are as wide as what they hold.
fn parallelism(workload: &Workload, settings: &EngineSettings) -> Option<Parallelism> {
    let held = workload.gpus_per_replica?;
    let stated = Parallelism {
        tensor: settings.tensor_parallel.unwrap_or(1).max(1),
        pipeline: settings.pipeline_parallel.unwrap_or(1).max(1),
        data: settings.data_parallel.unwrap_or(1).max(1),
    };
    if settings.tensor_parallel.is_none() && engine::width(settings.engine) != Width::One {
        let rest = stated.pipeline * stated.data;
        return (held >= rest && held.is_multiple_of(rest)).then_some(Parallelism {
            tensor: held / rest,
            ..stated
        });
    }
    (stated.gpus() <= held).then_some(stated)
}

fn judge(fleet: &Fleet, market: &Market, workload: &Workload, t: &Thresholds, gaps: &mut Vec<Gap>) -> Judgement {
    if workload.class != WorkloadClass::Server {
        return Judgement::NoServer;
    }
    let slots = support::slots_of(workload);
    let dark = |s: &SlotId| {
        matches!(
            fleet.slot(*s).state,
            SlotState::Idle | SlotState::Stuck | SlotState::Unhealthy
        )
    };
    if !slots.is_empty() && slots.iter().all(dark) {
        return Judgement::Dark;
    }
    match plan(fleet, market, workload, t, gaps) {
        Ok(plan) => Judgement::Planned(Box::new(plan)),
        Err(lack) => Judgement::Lacks(lack),
    }
}

fn plan(
    fleet: &Fleet,
    market: &Market,
    workload: &Workload,
    t: &Thresholds,
    gaps: &mut Vec<Gap>,
) -> Result<Plan, Lack> {
    let held = held(fleet, workload)?;
    if held.settings.role.is_some() {
        return Err(lack(
            "prefill and decode are separate: one role's load is not the model's",
            "nothing to do",
        ));
    }
    if held.model.task != Task::Generate {
        return Err(lack("only generating models are sized by their load", "nothing to do"));
    }
    if held.settings.lora == Some(true) && held.settings.max_loras.is_none() {
        return Err(lack("the number of LoRA adapters is unknown", "set --max-loras"));
    }
    let current = fit::place(
        held.model,
        held.settings,
        held.gpu,
        held.parallelism,
        held.calibration.as_ref(),
    );
    contradiction(fleet, workload, &held, gaps)?;
    let ranks = held.parallelism.data;
    let capacity = replicas::capacity(workload, &current, ranks);
    let Some(demand) = Demand::of(workload, capacity, ranks, t) else {
        return Err(lack(
            "its load over time is not known",
            "give Prometheus, or grant pods/proxy ('gpuwaste rbac --with scrape --namespace NS')",
        ));
    };
    if demand.window_seconds < t.minimum_window_seconds as f64 {
        return Err(lack("its load was seen for less than 24 h", "scan again tomorrow"));
    }
    // Replicas that nobody read would make the load look smaller than it is.
    let needed = if demand.history { KNOWN_LOAD } else { 1.0 };
    if demand.coverage.is_none_or(|c| c < needed) {
        return Err(lack("the load of some replicas or times could not be read", SCRAPE));
    }
    let ready = replicas::current(fleet, workload, t);
    if ready.is_empty() {
        return Err(lack("no replica has been Ready for an hour", "scan again in an hour"));
    }
    let cut = replicas::cut(fleet, workload, &ready, &demand, &current, ranks, t);
    let count = cut.as_ref().map_or(ready.len(), |c| c.stay).min(ready.len());
    let (stay, leave) = replicas::choose(fleet, workload, &ready, count);
    let slots: Vec<SlotId> = stay.iter().flat_map(|r| used(workload, *r, held.parallelism)).collect();
    let price: Option<UsdPerHour> = slots.iter().map(|s| fleet.slot(*s).price).sum();
    let first = slots.first().map(|s| fleet.slot(*s));
    let target = match (price, first, &cut) {
        // The tier is for the replicas that stay: how many do is unknown, and a missing read must not raise a claim.
        (_, _, Err(lack)) if *lack == replicas::FLOOR_UNREAD => Err(*lack),
        // Where the engine tells it: without it a slow server would be taken for as fast as the model of its card.
        _ if lacks(held.settings, LoadFigure::InterTokenLatency, demand.inter_token_latency)
            || lacks(held.settings, LoadFigure::TimeToFirstToken, demand.time_to_first_token) =>
        {
            Err(lack("how long its tokens take could not be read", SCRAPE))
        }
        (Some(price), Some(slot), _) => {
            let node = fleet.node(slot.node);
            let wanted = Wanted {
                held: &held,
                current: &current,
                demand: &demand,
                replicas: count as u32,
                price,
                need: host_need(fleet, workload, &current, &held),
            };
            let tiers = market.tiers(node);
            // Slices that are left free another bill only in the end: to rent for that comes last, cutting anew before it.
            let here = || {
                cheapest(tiers, false, &wanted, t)
                    .or_else(|| cheapest(&market::parts::recut(node, slot), false, &wanted, t))
            };
            let part = held.gpu.instance.is_some();
            Ok(part.then(here).flatten().or_else(|| cheapest(tiers, true, &wanted, t)))
        }
        _ => Err(lack("the price of its GPUs is unknown", "give it with --prices")),
    };
    Ok(Plan {
        stay,
        leave,
        cut,
        demand,
        current,
        gpu: held.gpu,
        parallelism: held.parallelism,
        held: price,
        target,
    })
}

/// A figure that the engine exports was not read.
fn lacks(settings: &EngineSettings, figure: LoadFigure, read: Option<f64>) -> bool {
    read.is_none() && engine::tells(settings.engine, figure) == Tells::Always
}

/// A server that is Ready fits by definition: a memory model that says otherwise is wrong about it, and says nothing.
fn contradiction(fleet: &Fleet, workload: &Workload, held: &Held<'_>, gaps: &mut Vec<Gap>) -> Result<(), Lack> {
    let bare = fit::place(held.model, held.settings, held.gpu, held.parallelism, None);
    let ready = workload.replicas.iter().any(|r| r.ready_since.is_some());
    if bare.verdict != FitVerdict::DoesNotFit || !ready {
        return Ok(());
    }
    gaps.push(Gap {
        source: format!("cluster {}", fleet.clusters[workload.cluster].name),
        what: format!("memory of {} {}/{}", workload.kind, workload.namespace, workload.name),
        reason: format!(
            "fit model disagrees: the server is Ready, the model says: {}",
            bare.reason
        ),
        effect: "it is not sized".into(),
        remedy: "compare its settings with 'gpuwaste fit', and report the difference".into(),
    });
    Err(lack(
        "fit model disagrees: it says that a running server does not fit",
        "see the gaps",
    ))
}

/// GPUs that a replica's parallelism uses: the rest is parallelism-mismatch's.
pub(super) fn used(workload: &Workload, replica: usize, parallelism: Parallelism) -> Vec<SlotId> {
    let slots = &workload.replicas[replica].slots;
    slots.iter().copied().take(parallelism.gpus() as usize).collect()
}

/// What the host has to give: the engine's processes and the weights, but no more than the pod itself asks for.
fn host_need(
    fleet: &Fleet,
    workload: &Workload,
    current: &Placement,
    held: &Held<'_>,
) -> impl Fn(Parallelism, &Thresholds) -> HostNeed {
    let pod = workload
        .replicas
        .iter()
        .flat_map(|r| &r.pods)
        .map(|p| fleet.pod(*p))
        .next();
    let asked: Option<MilliCores> = pod.and_then(|p| p.device_cpu);
    let memory: Option<Bytes> = pod.map(|p| p.memory).filter(|m| m.0 > 0);
    let weights = current
        .weights_per_gpu
        .map(|w| w.0 as f64 * f64::from(held.parallelism.gpus()));
    let api = held.settings.api_servers;
    move |parallelism, t| {
        let rule = support::vllm_vcpu(api, parallelism.data, parallelism.gpus());
        let loading = weights.map(|w| w + t.host_memory_gib as f64 * Bytes::GIB);
        let asked_memory = memory.map(|m| m.0 as f64);
        HostNeed {
            cores: asked.map_or(rule, |a| a.cores().min(rule)),
            memory: match (asked_memory, loading) {
                (Some(a), Some(b)) => a.min(b),
                (a, b) => a.or(b).unwrap_or(0.0),
            },
        }
    }
}

struct Wanted<'a, F: Fn(Parallelism, &Thresholds) -> HostNeed> {
    held: &'a Held<'a>,
    current: &'a Placement,
    demand: &'a Demand,
    replicas: u32,
    price: UsdPerHour,
    need: F,
}

/// Widths of tensor parallelism that engines accept on one node: powers of two, since heads must divide.
const WIDTHS: [u32; 5] = [1, 2, 4, 8, 16];

/// The cheapest candidate that passes all of: memory at the band's bad end, throughput, latency, host, saving.
fn cheapest<F: Fn(Parallelism, &Thresholds) -> HostNeed>(
    tiers: &[Tier],
    rent: bool,
    wanted: &Wanted<'_, F>,
    t: &Thresholds,
) -> Option<Target> {
    let held = wanted.held;
    let enough = |cost: UsdPerHour| {
        let saved = wanted.price - cost;
        saved.usd() >= t.min_saving_usd && saved.usd() >= t.min_saving_share * wanted.price.usd()
    };
    let mut quotes: Vec<(Quote, Parallelism, &Tier)> = Vec::new();
    for tier in tiers {
        for tensor in WIDTHS {
            let parallelism = Parallelism {
                tensor,
                ..held.parallelism
            };
            let same = tier.gpu.name == held.gpu.name;
            if parallelism.gpus() > tier.most_gpus() || (same && parallelism.gpus() >= held.parallelism.gpus()) {
                continue;
            }
            let quote = tier.quote(parallelism.gpus(), wanted.replicas, (wanted.need)(parallelism, t));
            let quote = quote.filter(|q| rent || q.rent.is_none());
            if let Some(quote) = quote.filter(|q| enough(q.usd_per_hour)) {
                quotes.push((quote, parallelism, tier));
            }
        }
    }
    quotes.sort_by(|a, b| {
        (a.0.usd_per_hour, a.1.gpus(), &a.2.gpu.name).cmp(&(b.0.usd_per_hour, b.1.gpus(), &b.2.gpu.name))
    });
    let load = wanted
        .demand
        .per_engine(wanted.replicas * held.parallelism.data, wanted.current);
    quotes.into_iter().find_map(|(quote, parallelism, tier)| {
        let placement = fit::place(
            held.model,
            held.settings,
            tier.gpu,
            parallelism,
            held.calibration.as_ref(),
        );
        if placement.verdict != FitVerdict::Fits {
            return None;
        }
        let service = fit::serves(&placement, &load, &slo(t));
        // No step times of instances are known: only what the server measures of itself can be scaled to one.
        let measured = service.by_ratio && wanted.demand.time_to_first_token.is_some();
        let believed = measured || tier.gpu.instance.is_none();
        (believed && service.serves == Some(true)).then(|| Target {
            gpu: tier.gpu,
            parallelism,
            placement,
            service,
            quote,
            selector: tier.selector.clone(),
            resource: tier.resource.clone(),
            price_source: tier.price_source,
            stale: tier.stale,
            same_tier: tier.gpu.name == held.gpu.name,
            offered: tier.offered,
        })
    })
}

impl Plan {
    /// What both findings advise.
    pub(super) fn placement(&self) -> FixPlacement {
        let replicas = self.stay.len() as u32;
        match &self.target {
            Ok(Some(target)) => FixPlacement {
                gpu: target.gpu.name.clone(),
                gpus: target.parallelism.gpus(),
                tensor_parallel: target.parallelism.tensor,
                replicas,
                usd_per_hour: Some(target.quote.usd_per_hour),
            },
            _ => FixPlacement {
                gpu: self.gpu.name.clone(),
                gpus: self.parallelism.gpus(),
                tensor_parallel: self.parallelism.tensor,
                replicas,
                usd_per_hour: self.held,
            },
        }
    }
}

/// The cheapest placement that holds the model at all, whatever its load: what a server that cannot start needs.
pub(super) fn smallest_that_fits(
    market: &Market,
    node: &Node,
    slot: &Slot,
    held: &Held<'_>,
) -> Option<(FixPlacement, Placement)> {
    let anew = market::parts::larger(node, slot);
    let any_host = HostNeed {
        cores: 0.0,
        memory: 0.0,
    };
    let mut options: Vec<(Quote, Parallelism, &Tier)> = market
        .tiers(node)
        .iter()
        .chain(&anew)
        .flat_map(|tier| {
            WIDTHS.map(|tensor| {
                (
                    tier,
                    Parallelism {
                        tensor,
                        ..held.parallelism
                    },
                )
            })
        })
        .filter_map(|(tier, p)| Some((tier.quote(p.gpus(), 1, any_host)?, p, tier)))
        .collect();
    options.sort_by(|a, b| {
        (a.0.usd_per_hour, !a.2.offered, &a.2.gpu.name).cmp(&(b.0.usd_per_hour, !b.2.offered, &b.2.gpu.name))
    });
    options.into_iter().find_map(|(quote, parallelism, tier)| {
        let placement = fit::place(held.model, held.settings, tier.gpu, parallelism, None);
        (placement.verdict == FitVerdict::Fits).then(|| {
            let fix = FixPlacement {
                gpu: tier.gpu.name.clone(),
                gpus: parallelism.gpus(),
                tensor_parallel: parallelism.tensor,
                replicas: 1,
                usd_per_hour: Some(quote.usd_per_hour),
            };
            (fix, placement)
        })
    })
}
