//! One plan a workload, which over-replicated and oversized-tier both speak from (R4): first how many replicas stay, then
//! the cheapest tier that carries the load each of them then has. The plan passes the fit test as a whole.

mod candidates;
mod demand;
mod held;
mod host;
#[cfg(test)]
mod learned_tests;
mod market;
mod measured;
mod patch;
mod present;
mod replicas;

pub(super) use candidates::{Target, smallest_that_fits};
pub(super) use demand::{Admitted, Demand};
pub(super) use held::{Held, held, hides_its_model, known_by_name, memory_unread};
pub(super) use host::{Host, HostNeed};
pub(super) use market::Market;
pub use measured::{LeftOut, of as facts};
pub(super) use patch::of_plan as patch;
pub use present::{ServerLoad, placed, server_load};
pub(super) use replicas::Cut;

use super::finding::FixPlacement;
use super::support::{self, Lack, lack};
use super::{Context, kv_pressure};
use crate::analyze::rights;
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::Task;
use crate::engine::{self, LoadFigure, Tells};
use crate::fit::book::Book;
use crate::fit::speed::Measured;
use crate::fit::{self, FitVerdict, Placement};
use crate::fleet::{Fleet, ObservedBy, SlotId, SlotState, Workload, WorkloadClass, WorkloadId};
use crate::snapshot::Gap;
use crate::snapshot::figure::Figure;
use crate::snapshot::server::{EngineSettings, Setting};
use crate::units::UsdPerHour;
use candidates::{Wanted, target};
use std::sync::Arc;

/// Share of the judged time over which a history must be known (R6, R9).
const KNOWN_LOAD: f64 = 0.8;

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
    pub(super) parallelism: fit::Parallelism,
    /// GPUs that one replica uses.
    pub(super) gpus: u32,
    /// The server told how many tokens its cache holds.
    pub(super) calibrated: bool,
    /// Else what servers like it told of theirs.
    pub(super) like: Option<Like>,
    /// What the staying replicas' GPUs cost; `None`: one of them has no price.
    pub(super) held: Option<UsdPerHour>,
    pub(super) target: Result<Option<Target>, Lack>,
}

/// What servers like this one told of their memory.
pub(super) struct Like {
    pub(super) reason: String,
    /// Some of them are of other fleets.
    pub(super) elsewhere: bool,
}

/// What the plan of one workload came to.
pub(super) enum Judgement {
    /// No server: it can be dark, not mis-sized.
    NoServer,
    /// Idle or stuck as a whole: dark-capacity has its GPUs.
    Dark,
    Lacks(Lack),
    Sized(Box<Plan>),
}

/// Plans of all workloads, and where the memory model contradicts a running server.
pub(super) struct Sizing {
    pub(super) judgements: Vec<Judgement>,
    pub(super) gaps: Vec<Gap>,
    pub(super) market: Market,
}

/// What the fleet's servers tell that holds for others of their kind.
struct Known {
    /// Their memory.
    book: Book,
    /// Their times between tokens.
    timed: Arc<[Measured]>,
}

impl Sizing {
    pub(super) fn new(context: &Context<'_>) -> Self {
        let market = Market::new(context.fleet, context.settings);
        let mut gaps = Vec::new();
        let known = Known {
            book: measured::book(context.fleet, context.settings, &mut gaps),
            timed: present::all_timed(context.fleet, &context.settings.thresholds),
        };
        let judgements = (0..context.fleet.workloads.len())
            .map(|w| judge(context, (&market, &known), WorkloadId(w), &mut gaps))
            .collect();
        Self {
            judgements,
            gaps,
            market,
        }
    }
}

fn judge(context: &Context<'_>, (market, known): (&Market, &Known), id: WorkloadId, gaps: &mut Vec<Gap>) -> Judgement {
    let (fleet, workload) = (context.fleet, context.fleet.workload(id));
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
    let planned = whole(fleet, workload).and_then(|mut held| {
        let told = held.calibration.is_some();
        if !told {
            held.calibration = known
                .book
                .calibration(held.model, held.settings, held.gpu, held.parallelism());
        }
        let current = place(fleet, workload, &held, gaps)?;
        let mut plan = plan(context, (market, known), id, &held, current)?;
        plan.calibrated = told;
        plan.like = held.calibration.filter(|_| !told).map(|c| Like {
            reason: c.reason,
            elsewhere: c.elsewhere > 0,
        });
        Ok(plan)
    });
    match planned {
        Ok(plan) => Judgement::Sized(Box::new(plan)),
        Err(lack) => Judgement::Lacks(lack),
    }
}

/// A server whose own load is the model's, on GPUs that are its alone.
fn whole<'a>(fleet: &Fleet, workload: &'a Workload) -> Result<Held<'a>, Lack> {
    let held = held(fleet, workload)?;
    if held.is_by_name() {
        return Err(known_by_name(workload));
    }
    if held.spread.floating {
        return Err(super::spread::FLOATING);
    }
    if !held.is_one_pod {
        return Err(lack(
            "a replica spans several pods, or several servers",
            "nothing to do",
        ));
    }
    if held.settings.role.is_some() {
        return Err(lack(
            "prefill and decode are separate: one role's load is not the model's",
            "nothing to do",
        ));
    }
    for (setting, what) in [
        (Setting::Role, "whether it is one side of a prefill/decode split"),
        (Setting::EngineVersion, "the engine's release"),
    ] {
        if let Some(unread) = held.settings.unread(setting) {
            let remedy = "let it be read, or state it in the arguments";
            return Err(support::unread(what, unread, remedy));
        }
    }
    let cuts = engine::facts(held.settings.engine).is_some_and(|f| f.cuts_its_context);
    if held.settings.length_by_memory || cuts && held.settings.max_model_len.is_none() {
        return Err(lack(
            "its context is as long as its memory holds (none is stated, or auto): less memory is a shorter one",
            "state the length that is needed",
        ));
    }
    if held.settings.kv_transfer {
        return Err(lack(
            "a connector carries its KV cache to or from other servers, and its role is not told (kv_both): it may be half of a split server",
            "say kv_producer or kv_consumer where it is one",
        ));
    }
    if held.model.task != Task::Generate {
        return Err(lack("only generating models are sized by their load", "nothing to do"));
    }
    if held.settings.lora == Some(true) && held.settings.max_loras.is_none() {
        return Err(lack("the number of LoRA adapters is unknown", "set --max-loras"));
    }
    Ok(held)
}

/// Where it stands now. A server that is Ready fits by definition: a memory model that says otherwise is wrong about it, and
/// says nothing.
fn place(fleet: &Fleet, workload: &Workload, held: &Held<'_>, gaps: &mut Vec<Gap>) -> Result<Placement, Lack> {
    let bare = held.placed();
    let ready = workload.replicas.iter().any(|r| r.ready_since.is_some());
    if bare.verdict == FitVerdict::DoesNotFit && ready {
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
        return Err(lack(
            "fit model disagrees: it says that a running server does not fit",
            "see the gaps",
        ));
    }
    if workload.planned && bare.verdict != FitVerdict::Fits {
        return Err(Lack {
            remedy: support::see_fit(workload).into(),
            ..lack("whether the model fits as it is depends on what no source states", "")
        });
    }
    Ok(fit::place(
        held.model,
        held.settings,
        held.gpu,
        held.parallelism(),
        held.calibration.as_ref(),
    ))
}

/// Requests that wait, as a share of those that run, at the busiest twentieth of the time: fewer come and go with every burst (ours).
const QUEUE: f64 = 0.25;

fn plan(
    context: &Context<'_>,
    (market, known): (&Market, &Known),
    id: WorkloadId,
    held: &Held<'_>,
    current: Placement,
) -> Result<Plan, Lack> {
    let (fleet, workload, t) = (context.fleet, context.fleet.workload(id), &context.settings.thresholds);
    let demand = demand(context, workload, held, &current)?;
    if demand.ends_after_one_token() {
        return Err(lack(
            "its requests end after one token: it is the prefill half of a split server, or classifies; that load is not a model's that generates",
            "say its role (kv_producer) where it has one",
        ));
    }
    if kv_pressure::is_short(context, id)? {
        return Err(lack(
            "its KV cache is too small for what it is asked (kv-pressure): less would be no saving",
            "see kv-pressure first",
        ));
    }
    if demand.history {
        let p95 = |f: Option<Figure>| f.and_then(|f| f.p95.or(f.max));
        let (waiting, running) = (p95(workload.observed.waiting), p95(workload.observed.running));
        if lacks(held.settings, LoadFigure::Waiting, waiting) {
            return Err(lack(
                "whether requests wait in its queue could not be read",
                rights::PAGES,
            ));
        }
        if waiting.is_some_and(|w| w >= (QUEUE * running.unwrap_or(0.0)).max(1.0)) {
            return Err(lack(
                "requests wait in its queue: what it is asked is more than what it was seen to do",
                "see what holds them up first: its KV cache, --max-num-seqs, one replica that gets more than the others",
            ));
        }
    }
    let ready = if workload.planned {
        (0..workload.replicas.len()).collect()
    } else {
        replicas::current(fleet, workload, t)
    };
    if ready.is_empty() {
        return Err(lack("no replica has been Ready for an hour", "scan again in an hour"));
    }
    let ranks = held.parallelism().data;
    let cut = if workload.planned {
        Err(lack("nothing of it runs yet", "scan once it does"))
    } else {
        replicas::cut(fleet, workload, &ready, &demand, &current, ranks, t)
    };
    let count = cut.as_ref().map_or(ready.len(), |c| c.stay).min(ready.len());
    let (stay, leave) = replicas::choose(fleet, workload, &ready, count);
    let slots: Vec<SlotId> = stay.iter().flat_map(|r| used(workload, *r, held.spread.gpus)).collect();
    let price: Option<UsdPerHour> = slots.iter().map(|s| fleet.slot(*s).price).sum();
    let first = slots.first().map(|s| fleet.slot(*s));
    let beside = stay
        .iter()
        .flat_map(|r| &workload.replicas[*r].pods)
        .find_map(|p| fleet.pod(*p).extended.first());
    let target = match (price, first, &cut) {
        // The tier is for the replicas that stay: how many do is unknown, and a missing read must not raise a claim.
        (_, _, Err(lack)) if *lack == replicas::FLOOR_UNREAD => Err(lack.clone()),
        // No instance of the catalogue says whether it has such things.
        _ if beside.is_some() => Err(Lack {
            reason: format!(
                "it asks for {}, too: which hosts of other cards have it is not known",
                beside.map_or("", String::as_str)
            )
            .into(),
            remedy: "look by hand at smaller cards on hosts that have it".into(),
            unread: false,
        }),
        // Where the engine tells it: without it a slow server would be taken for as fast as the model of its card.
        _ if !demand.on_paper
            && (lacks(held.settings, LoadFigure::InterTokenLatency, demand.inter_token_latency)
                || lacks(held.settings, LoadFigure::TimeToFirstToken, demand.time_to_first_token)) =>
        {
            Err(lack("how long its tokens take could not be read", rights::PAGES))
        }
        (Some(price), Some(slot), _) => {
            let wanted = Wanted {
                held,
                current: &current,
                demand: &demand,
                known,
                host: &Host::of(fleet, workload, &current, held),
                replicas: count as u32,
                price,
                thresholds: t,
            };
            Ok(target(market, fleet.node(slot.node), slot, &wanted))
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
        parallelism: held.parallelism(),
        gpus: held.spread.gpus,
        calibrated: held.calibration.is_some(),
        like: None,
        held: price,
        target,
    })
}

/// What it is asked to do: seen, where it was seen for long enough, and of a plan what it may be asked at most.
fn demand(context: &Context<'_>, workload: &Workload, held: &Held<'_>, current: &Placement) -> Result<Demand, Lack> {
    let t = &context.settings.thresholds;
    let ranks = held.parallelism().data;
    if workload.planned {
        return Admitted::of(held.settings, context.expected, ranks)
            .and_then(|admitted| Demand::on_paper(admitted, current, t))
            .ok_or(lack(
                "how much a server must hold at once is not said",
                "set --max-num-seqs and --max-model-len in the manifest, or give --context-tokens and --concurrency",
            ));
    }
    let capacity = replicas::capacity(workload, current, ranks);
    let Some(demand) = Demand::of(workload, capacity, ranks, t) else {
        return Err(lack("its load over time is not known", rights::PAGES_OR_STORE));
    };
    if !support::lasts(demand.window_seconds, demand.bin_seconds, t.minimum_window_seconds) {
        return Err(lack("its load was seen for less than 24 h", "scan again tomorrow"));
    }
    // Replicas that nobody read would make the load look smaller than it is.
    let needed = if demand.history { KNOWN_LOAD } else { 1.0 };
    if demand.coverage.is_none_or(|c| c < needed) {
        return Err(lack(
            "the load of some replicas or times could not be read",
            rights::PAGES,
        ));
    }
    Ok(demand)
}

/// Slots that it might have been told to do without, had its settings been read: where its load, its price and its GPUs are not
/// known either, they alone decided nothing.
pub(super) fn doubted(context: &Context<'_>, workload: &Workload) -> Vec<SlotId> {
    let (fleet, t, o) = (context.fleet, &context.settings.thresholds, &workload.observed);
    let slots = support::slots_of(workload);
    let priced = |s: &SlotId| {
        let slot = fleet.slot(*s);
        slot.price.is_some() && slot.holders.len() <= 1 && fleet.gpu_of(*s).is_some()
    };
    if support::on_unseen_nodes(fleet, &slots) || !slots.iter().all(priced) {
        return Vec::new();
    }
    let known = match o.by {
        ObservedBy::History => o.coverage.is_some_and(|c| c >= KNOWN_LOAD),
        ObservedBy::LifetimeCounters => o.coverage.is_some_and(|c| c >= 1.0),
        ObservedBy::Live | ObservedBy::Nothing => workload.planned,
    };
    let bin = o.bins.as_ref().map(|b| b.bin_seconds);
    let long = workload.planned || support::lasts(o.window_seconds, bin, t.minimum_window_seconds);
    let open = slots.into_iter().filter(|s| support::is_open(fleet, *s));
    if known && long { open.collect() } else { Vec::new() }
}

/// What is said of it would be surer by the server's own word, which was asked for and not given.
pub(super) fn unconfirmed(workload: &Workload) -> bool {
    workload.identity_unread && !workload.settings_confirmed
}

/// A figure that the engine exports was not read.
fn lacks(settings: &EngineSettings, figure: LoadFigure, read: Option<f64>) -> bool {
    read.is_none() && engine::tells(settings.engine, figure) == Tells::Always
}

/// GPUs that a replica's parallelism uses: the rest is parallelism-mismatch's.
pub(super) fn used(workload: &Workload, replica: usize, gpus: u32) -> Vec<SlotId> {
    let slots = &workload.replicas[replica].slots;
    slots.iter().copied().take(gpus as usize).collect()
}

impl Plan {
    /// What both findings advise.
    pub(super) fn placement(&self) -> FixPlacement {
        let replicas = self.stay.len() as u32;
        match &self.target {
            Ok(Some(target)) => FixPlacement {
                gpu: target.gpu.name.clone(),
                gpus: target.gpus,
                tensor_parallel: target.parallelism.tensor,
                replicas,
                usd_per_hour: Some(target.quote.usd_per_hour),
            },
            _ => FixPlacement {
                gpu: self.gpu.name.clone(),
                gpus: self.gpus,
                tensor_parallel: self.parallelism.tensor,
                replicas,
                usd_per_hour: self.held,
            },
        }
    }
}
