//! R3: every slot is in exactly one state, decided here once, so that findings and totals never disagree.
//!
//! Order of decision: lost device or silent node → unhealthy; no holder → free (or unknown where holders may be
//! invisible, or where the device itself computes); holder not Ready past its grace → stuck; holder's workload without any
//! work → idle; work seen → working; else unknown. Unknown is what cannot be judged, never a polite word for idle.

use super::history::COVERED;
use super::witness::{self, Device};
use super::{
    Fleet, GpuActivity, Node, ObservedBy, Pod, PodId, SlotId, SlotState, Stuck, StuckReason, Workload, WorkloadClass,
};
use crate::engine::{self, LoadFigure, Tells};
use crate::settings::{Settings, Thresholds};
use crate::snapshot::cluster::Outage;
use crate::snapshot::server::Setting;
use jiff::Timestamp;

/// Why a slot is in its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    #[default]
    NotJudged,
    /// Its device plugin calls it unhealthy, or the driver no longer shows it.
    LostDevice,
    /// The machine has it, and nothing hands it out: a plugin that is down or configured otherwise.
    NotAdvertised,
    /// The MIG layout does not suit the strategy, or could not be made: nothing is handed out, and the card is sound.
    MigLayout,
    /// The MIG layout is being changed right now.
    MigChanging,
    NodeNotReady,
    Cordoned,
    /// Taken out of service by somebody, or something, that says why.
    Drained,
    /// A monitor of the node's health calls its GPUs broken.
    CalledBroken,
    /// Its exporter tells of a fault after which a card is of no use until it is reset or replaced.
    SaidBroken,
    /// Its node's exporter shows fewer cards than the node hands out: this one may be the one that is lost.
    NotShown,
    /// Free, and spoken for: a reservation, a planned job, a node that is being powered.
    Kept,
    /// Its job is paused: that is somebody's decision.
    Suspended,
    NoHolder,
    /// Pods were refused: somebody unseen may hold it.
    HoldersInvisible,
    /// Its node could not be read: it may be part of a shared GPU, with holders that nobody sees.
    NodeUnread,
    /// Its node is no machine: simulated, another cluster's, or billed by the pod.
    NotAMachine,
    /// Nobody has its node yet.
    Planned,
    /// HAMi, Volcano, run:ai or claims that were not read: holders cannot be told.
    CustomSharing,
    /// Which of the node's shared cards its pods are on is not told, and another of these pods works.
    SharerUnknown,
    /// DRA hands it out, and claims were refused: one unseen may hold it.
    ClaimsInvisible,
    /// A claim holds it that no pod uses.
    UnusedClaim,
    /// Its DRA driver tainted it.
    Tainted,
    NotReady,
    /// Not Ready, but within the time that starting may take.
    Starting,
    NoRequests,
    NoActivity,
    Requests,
    Activity,
    /// Its node's or its holder's object was not what the API serves.
    Unread,
    /// Capacity kept on purpose by a placeholder pod.
    Placeholder,
    /// Counters say idle, power and activity say otherwise.
    Contradicted,
    /// Counters say idle, and the exporter that could object was not read.
    WitnessUnread,
    /// Not every server of its pods was read: data-parallel ranks and API servers have pages of their own.
    ServersUnread,
    /// Nobody holds it, as the API server lists pods and claims, and it computes.
    Unmanaged,
    /// Nobody holds it, nothing computes, and its memory is taken: what is left of processes that died.
    MemoryHeld,
    /// Its pod's other GPUs work, this one does not.
    PartlyIdle,
    /// No counters, or too short a life.
    TooLittleSeen,
}

pub(super) fn decide(fleet: &mut Fleet, settings: &Settings) {
    let verdicts: Vec<(SlotState, Reason, Option<Timestamp>)> = (0..fleet.slots.len())
        .map(|i| of_slot(fleet, SlotId(i), &settings.thresholds))
        .collect();
    for (slot, (state, reason, since)) in fleet.slots.iter_mut().zip(verdicts) {
        slot.state = state;
        slot.reason = reason;
        slot.since = since;
    }
}

fn of_slot(fleet: &Fleet, id: SlotId, t: &Thresholds) -> (SlotState, Reason, Option<Timestamp>) {
    let slot = fleet.slot(id);
    let node = fleet.node(slot.node);
    let cluster = &fleet.clusters[node.cluster];
    if node.unread {
        return (SlotState::Unknown, Reason::Unread, None);
    }
    if node.planned {
        return (SlotState::Unknown, Reason::Planned, None);
    }
    if node.not_a_machine.is_some() {
        return (SlotState::Unknown, Reason::NotAMachine, None);
    }
    if !node.is_ready() {
        return (
            SlotState::Unhealthy,
            Reason::NodeNotReady,
            node.ready.as_ref().and_then(|r| r.since),
        );
    }
    // A device plugin that restarts shows no device at all for a while: what a Ready pod holds is not lost.
    let in_use = slot.holders.iter().any(|p| fleet.pod(*p).stuck.is_none());
    if slot.state == SlotState::Unhealthy && !in_use {
        return match slot.cause {
            _ if slot.facts.works.claimed() => (SlotState::Unknown, Reason::Unmanaged, None),
            Reason::MigChanging => (SlotState::Unknown, Reason::MigChanging, None),
            cause => (SlotState::Unhealthy, cause, slot.since),
        };
    }
    if node.unseen {
        let mut verdicts = slot.holders.iter().map(|p| of_pod(fleet, id, fleet.pod(*p), t));
        let working = verdicts.find(|(state, ..)| *state == SlotState::Working);
        return working.unwrap_or((SlotState::Unknown, Reason::NodeUnread, None));
    }
    if slot.holders.is_empty() {
        return of_nobody(fleet, id, t);
    }
    let of_holders = slot.holders.iter().map(|p| of_pod(fleet, id, fleet.pod(*p), t));
    // Shared: one sharer at work means the device works; it is idle or stuck only if all are.
    let order = |s: SlotState| match s {
        SlotState::Working => 0,
        SlotState::Unknown => 1,
        SlotState::Idle => 2,
        _ => 3,
    };
    let verdict = of_holders.min_by_key(|(state, ..)| order(*state)).unwrap_or_default();
    let settled = |state: SlotState| matches!(state, SlotState::Idle | SlotState::Stuck);
    // Room for a sharer that was not seen: it may be the one that works.
    let unseen = !cluster.pods_known || node.holders_unread;
    if settled(verdict.0) && unseen && (slot.holders.len() as u64) < slot.sharers {
        return (SlotState::Unknown, Reason::HoldersInvisible, None);
    }
    let neighbours = node.slot_ids().map(|s| fleet.slot(s));
    let mut others = neighbours.filter(|s| slot.guessed && s.resource == slot.resource);
    let at_rest = |p: &PodId| settled(of_pod(fleet, id, fleet.pod(*p), t).0);
    if settled(verdict.0) && !others.all(|s| s.holders.iter().all(at_rest)) {
        return (SlotState::Unknown, Reason::SharerUnknown, None);
    }
    verdict
}

/// No exporter of the node names a pod, so that which cards its pods were given is not known: as many as they hold may be theirs.
fn may_be_a_holders(fleet: &Fleet, node: &Node) -> bool {
    if node.devices.iter().any(|d| !d.named.is_empty()) {
        return false;
    }
    let slots = || node.slot_ids().map(|s| fleet.slot(s));
    let calm = slots()
        .filter(|s| !s.holders.is_empty() && !s.facts.works.claimed())
        .count();
    let busy = slots()
        .filter(|s| s.holders.is_empty() && s.facts.works.claimed())
        .count();
    busy <= calm
}

/// No pod that was seen holds it. It is free only where every source that was read agrees: a device that computes, or whose
/// memory is taken, is used by something outside of the scheduler, or by what is left of it.
fn of_nobody(fleet: &Fleet, id: SlotId, t: &Thresholds) -> (SlotState, Reason, Option<Timestamp>) {
    let slot = fleet.slot(id);
    let node = fleet.node(slot.node);
    let cluster = &fleet.clusters[node.cluster];
    let working = slot.facts.works.claimed();
    if let Some(verdict) = of_claims(fleet, slot, t) {
        let idle = verdict.0 == SlotState::Idle;
        return if idle && (working || node.exporter_lost || slot.facts.works.doubted_by.is_some()) {
            (SlotState::Unknown, Reason::Contradicted, None)
        } else {
            verdict
        };
    }
    let claims = node.pods.iter().any(|p| fleet.pod(*p).unresolved_claims);
    if cluster.metrics_only && working {
        // There is no scheduler that it could run outside of.
        return (SlotState::Working, Reason::Activity, None);
    }
    if !cluster.pods_known || node.holders_unread {
        return (SlotState::Unknown, Reason::HoldersInvisible, None);
    }
    if node.custom_sharing || claims {
        return (SlotState::Unknown, Reason::CustomSharing, None);
    }
    if slot.dra && !cluster.claims_known {
        return (SlotState::Unknown, Reason::ClaimsInvisible, None);
    }
    if working && may_be_a_holders(fleet, node) {
        return (SlotState::Unknown, Reason::SharerUnknown, None);
    }
    if working || (slot.facts.works.says.is_empty() && at_work_unnamed(fleet, id, t)) {
        return (SlotState::Unknown, Reason::Unmanaged, None);
    }
    if node.exporter_lost {
        return (SlotState::Unknown, Reason::WitnessUnread, None);
    }
    if slot.facts.works.doubted_by.is_some() {
        return (SlotState::Unknown, Reason::Contradicted, None);
    }
    if slot.facts.held.says.iter().any(|w| w.says) {
        // An exporter names a pod that the API server did not list: it began or ended while both were read.
        return (SlotState::Unknown, Reason::Contradicted, None);
    }
    if slot.facts.memory.claimed() {
        let rested = slot.facts.works.denied_for() >= t.memory_held_seconds as f64;
        let state = if rested {
            SlotState::Unhealthy
        } else {
            SlotState::Unknown
        };
        return (state, Reason::MemoryHeld, None);
    }
    if let Some(outage) = node.outage.as_ref().filter(|o| o.state == Outage::GPUS_BROKEN) {
        return (SlotState::Unhealthy, Reason::CalledBroken, outage.since);
    }
    if slot.health.is_broken() {
        return (SlotState::Unhealthy, Reason::SaidBroken, None);
    }
    if not_shown(fleet, id) {
        return (SlotState::Unknown, Reason::NotShown, None);
    }
    if node.unschedulable {
        let reason = if node.outage.is_some() {
            Reason::Drained
        } else {
            Reason::Cordoned
        };
        return (SlotState::Unhealthy, reason, node.unschedulable_since);
    }
    if node.kept.is_some() {
        return (SlotState::Unknown, Reason::Kept, None);
    }
    (SlotState::Free, Reason::NoHolder, None)
}

/// The slot's own device is not told, and more of its node's devices compute than pods hold there: of the slots without a
/// holder and a device of their own, so many are not free.
fn at_work_unnamed(fleet: &Fleet, id: SlotId, t: &Thresholds) -> bool {
    let node = fleet.node(fleet.slot(id).node);
    let slots = || node.slot_ids().filter(|s| fleet.slot(*s).mig_profile.is_none());
    let own = |s: &SlotId| !fleet.slot(*s).facts.works.says.is_empty();
    let named: std::collections::BTreeSet<&str> = slots().filter(own).map(|s| fleet.slot(s).name.as_str()).collect();
    let works = |d: &&super::Device| {
        !named.contains(d.uuid.as_str()) && witness::device(&d.activity, node.gpu, t) == Device::Works
    };
    let at_work = node.devices.iter().filter(works).count();
    let unheld = node.devices.iter().filter(works).filter(|d| d.unheld).count();
    let held = slots().filter(|s| !own(s) && fleet.slot(*s).is_allocated()).count();
    let open = |s: &SlotId| !fleet.slot(*s).is_allocated() && fleet.slot(*s).state != SlotState::Unhealthy;
    let nobodys: Vec<SlotId> = slots().filter(|s| !own(s) && open(s)).collect();
    let place = nobodys.iter().rev().position(|s| *s == id);
    place.is_some_and(|p| p < unheld.max(at_work.saturating_sub(held)))
}

/// Its node's exporters show fewer cards than the node has, so that as many of those without a holder may be lost as are not shown,
/// less those that holders certainly have.
fn not_shown(fleet: &Fleet, id: SlotId) -> bool {
    let node = fleet.node(fleet.slot(id).node);
    let unhealthy = |s: &SlotId| fleet.slot(*s).state == SlotState::Unhealthy;
    let slots: Vec<SlotId> = node.slot_ids().filter(|s| !unhealthy(s)).collect();
    // Rows of instances and partitions are not counted beside cards.
    if node.devices.is_empty() || slots.iter().any(|s| fleet.slot(*s).mig_profile.is_some()) {
        return false;
    }
    let own = |s: &SlotId| node.devices.iter().any(|d| d.uuid == fleet.slot(*s).name);
    let (named, unnamed): (Vec<SlotId>, Vec<SlotId>) = slots.into_iter().partition(own);
    let others = || {
        let is_named = |uuid: &str| named.iter().any(|s| fleet.slot(*s).name == uuid);
        node.devices.iter().filter(move |d| !is_named(&d.uuid))
    };
    let missing = unnamed.len().saturating_sub(others().count());
    let nobodys: Vec<SlotId> = unnamed.into_iter().filter(|s| !fleet.slot(*s).is_allocated()).collect();
    // Where holders are told, those that are shown without one are so many of these.
    let tells = others().any(|d| d.unheld || !d.named.is_empty());
    let shown = if tells {
        others().filter(|d| d.unheld).count()
    } else {
        0
    };
    let lost = missing.min(nobodys.len().saturating_sub(shown));
    nobodys
        .iter()
        .rev()
        .position(|s| *s == id)
        .is_some_and(|place| place < lost)
}

/// Held by claims, but by no pod that was seen. Pods come and go between uses: a young claim is none of this yet.
fn of_claims(fleet: &Fleet, slot: &super::Slot, t: &Thresholds) -> Option<(SlotState, Reason, Option<Timestamp>)> {
    let claims = || slot.claims.iter().map(|c| &fleet.claims[*c]);
    claims().next()?;
    let now = fleet.now(fleet.node(slot.node).cluster);
    let old = |c: &super::Claim| {
        c.created_at
            .is_some_and(|at| now.duration_since(at).as_secs_f64() >= t.stuck_seconds as f64)
    };
    Some(if !claims().all(|c| c.unused) {
        (SlotState::Unknown, Reason::HoldersInvisible, None)
    } else if claims().all(|c| old(c) && !c.ending) {
        (SlotState::Idle, Reason::UnusedClaim, None)
    } else {
        (SlotState::Unknown, Reason::Starting, None)
    })
}

/// The state that one pod gives to what it holds.
fn of_pod(fleet: &Fleet, slot: SlotId, pod: &Pod, t: &Thresholds) -> (SlotState, Reason, Option<Timestamp>) {
    if pod.unread {
        return (SlotState::Unknown, Reason::Unread, None);
    }
    if pod.suspended {
        return (SlotState::Unknown, Reason::Suspended, None);
    }
    let workload = pod.workload.map(|w| fleet.workload(w));
    if pod.placeholder {
        return (SlotState::Working, Reason::Placeholder, None);
    }
    if pod.reservation {
        // It holds the GPU for pods that ask for parts of it in annotations: what it does itself says nothing.
        let works = fleet.slot(slot).facts.works.claimed();
        let state = if works { SlotState::Working } else { SlotState::Unknown };
        return (state, Reason::CustomSharing, None);
    }
    if let Some(stuck) = &pod.stuck {
        // Clients that bypass the readiness gate are served all the same.
        if stuck.reason == StuckReason::NotReady && serves_now(workload, pod) {
            return (SlotState::Working, Reason::Requests, None);
        }
        return match stuck_for(stuck, fleet.now(pod.cluster)).filter(|s| *s >= allowed(stuck, workload, t)) {
            Some(_) if stuck.reason != StuckReason::CrashLoop || stuck.restarts >= t.stuck_restarts => {
                (SlotState::Stuck, Reason::NotReady, stuck.since)
            }
            _ => (SlotState::Unknown, Reason::Starting, stuck.since),
        };
    }
    let Some(workload) = workload else {
        return (SlotState::Unknown, Reason::TooLittleSeen, None);
    };
    match workload.class {
        // Without counters only the devices' own history can tell.
        WorkloadClass::Server
            if !has_device_history(fleet, pod) || group(fleet, workload).iter().any(|w| did_work(w, t).is_some()) =>
        {
            of_server(fleet, slot, pod, workload, t)
        }
        _ => of_other(fleet, slot, pod, t),
    }
}

/// Seconds since it last was Ready; `None`: no object tells.
pub fn stuck_for(stuck: &Stuck, at: Timestamp) -> Option<u64> {
    let seconds = at.duration_since(stuck.since?).as_secs();
    u64::try_from(seconds).ok()
}

/// Seconds that starting may take: the floor, the startup probe's own patience, and loading the weights.
pub fn allowed(stuck: &Stuck, workload: Option<&Workload>, t: &Thresholds) -> u64 {
    // A model that nobody could read is no larger than the GPUs that are to hold it.
    let most = |w: &Workload| {
        w.settings.as_ref()?.unread(Setting::Model)?;
        Some(w.gpu?.memory.0 as f64 * f64::from(w.gpus_per_replica?))
    };
    let loading = workload
        .and_then(|w| w.model.as_ref().map_or_else(|| most(w), weight_bytes))
        .map_or(0, |b| (b / t.load_bytes_per_second) as u64);
    t.stuck_seconds.max(stuck.startup_seconds.unwrap_or(0)).max(loading)
}

/// What a start-up has to read: an upper bound is enough here.
pub fn weight_bytes(model: &crate::catalog::models::ModelFacts) -> Option<f64> {
    let bytes_per_parameter = if model.dtype.as_deref() == Some("float32") {
        4.0
    } else {
        2.0
    };
    model
        .file_bytes
        .map(|b| b.0 as f64)
        .or_else(|| model.parameters.map(|p| p as f64 * bytes_per_parameter))
}

fn has_device_history(fleet: &Fleet, pod: &Pod) -> bool {
    let told = |s: &SlotId| fleet.slot(*s).activity.as_ref().is_some_and(|a| a.history);
    !pod.slots.is_empty() && pod.slots.iter().all(told)
}

fn serves_now(workload: Option<&Workload>, pod: &Pod) -> bool {
    workload.is_some_and(|w| {
        w.replicas
            .iter()
            .filter(|r| r.slots.iter().any(|s| pod.slots.contains(s)))
            .any(|r| r.observed.running.and_then(|s| s.max).is_some_and(|n| n > 0.0))
    })
}

/// A server: counters of its whole group decide, where every server of it was read; the devices' power and activity can
/// only contradict idleness.
fn of_server(
    fleet: &Fleet,
    slot: SlotId,
    pod: &Pod,
    workload: &Workload,
    t: &Thresholds,
) -> (SlotState, Reason, Option<Timestamp>) {
    let group = group(fleet, workload);
    if group.iter().any(|w| did_work(w, t) == Some(true)) {
        if at_rest_beside_work(fleet, slot, pod, workload, t) {
            return (SlotState::Idle, Reason::PartlyIdle, None);
        }
        return (SlotState::Working, Reason::Requests, None);
    }
    // A page speaks for its own ranks: of the others only their devices tell.
    if group.iter().any(|w| w.servers_unread.is_some()) {
        let all = || group.iter().flat_map(|w| &w.replicas).flat_map(|r| &r.slots);
        if all().any(|s| fleet.slot(*s).facts.works.claimed()) {
            return (SlotState::Working, Reason::Activity, None);
        }
        if !all().all(|s| rested(fleet, *s, workload.class, t)) {
            return (SlotState::Unknown, Reason::ServersUnread, None);
        }
    }
    if group.iter().all(|w| idle_window(w, t).is_some()) {
        return match group.iter().filter_map(|w| objection(fleet, w, t)).min() {
            Some(reason) => (SlotState::Unknown, reason, None),
            None => (SlotState::Idle, Reason::NoRequests, None),
        };
    }
    (SlotState::Unknown, Reason::TooLittleSeen, None)
}

/// This device has done nothing for long while its pod's others worked. Where the server is told to use fewer GPUs than it
/// holds, that is parallelism-mismatch's to say.
fn at_rest_beside_work(fleet: &Fleet, slot: SlotId, pod: &Pod, workload: &Workload, t: &Thresholds) -> bool {
    let told = workload
        .settings
        .as_ref()
        .is_some_and(|s| s.unread_parallelism().is_none() && (s.gpus_used() as usize) < pod.slots.len());
    let others_work = pod
        .slots
        .iter()
        .any(|s| *s != slot && fleet.slot(*s).facts.works.claimed());
    !told && others_work && rested(fleet, slot, workload.class, t)
}

/// The workloads that serve one model together: prefill and decode roles.
pub fn group<'a>(fleet: &'a Fleet, workload: &'a Workload) -> Vec<&'a Workload> {
    match &workload.group {
        Some(group) => fleet
            .workloads
            .iter()
            .filter(|w| w.cluster == workload.cluster && w.group.as_ref() == Some(group))
            .collect(),
        None => vec![workload],
    }
}

/// Whether any request or token was counted; `None`: no counters.
fn did_work(workload: &Workload, t: &Thresholds) -> Option<bool> {
    let o = &workload.observed;
    let counted: Vec<f64> = [o.requests, o.prompt_tokens, o.output_tokens]
        .into_iter()
        .flatten()
        .collect();
    let parts = workload
        .replicas
        .iter()
        .flat_map(|r| [r.observed.requests, r.observed.output_tokens])
        .flatten();
    let hours = (o.window_seconds / 3600.0).max(1.0);
    let allowed = t.idle_max_requests_per_hour * hours;
    // Some engines' gauges keep their last value when they fall silent: over a window, counters that stood still beat them.
    let stood_still = o.by == ObservedBy::History && o.requests == Some(0.0) && o.output_tokens == Some(0.0);
    let running = o.running.and_then(|s| s.max).is_some_and(|r| r > 0.0) && !stood_still;
    if running || counted.iter().copied().chain(parts).any(|n| n > allowed) {
        return Some(true);
    }
    (!counted.is_empty()).then_some(false)
}

/// Seconds without any work, where every replica's counters are known over at least the short window; else `None`.
pub fn idle_window(workload: &Workload, t: &Thresholds) -> Option<f64> {
    let o = &workload.observed;
    // No request, no token and none running: each must be known where the engine tells it at all.
    let engine_unread = workload
        .settings
        .as_ref()
        .is_some_and(|s| s.unread(Setting::Engine).is_some());
    let told = |figure| engine_unread || engine::tells(workload.engine(), figure) == Tells::Always;
    let zero = |value: Option<f64>, figure| value.or((!told(figure)).then_some(0.0));
    let requests = o.requests?;
    let tokens = zero(o.output_tokens, LoadFigure::OutputTokens)? + zero(o.prompt_tokens, LoadFigure::PromptTokens)?;
    zero(o.running.and_then(|s| s.max), LoadFigure::Running)?;
    // Requests that wait now would object.
    if o.by == ObservedBy::LifetimeCounters {
        zero(o.waiting.and_then(|s| s.max), LoadFigure::Waiting)?;
    }
    // Equal on both sides of a hole, in a process that lived through it: nothing happened inside.
    let proven = o.by == ObservedBy::History && workload.unbroken;
    let hours = (o.window_seconds / 3600.0).max(1.0);
    let nothing = requests <= t.idle_max_requests_per_hour * hours && (tokens <= 0.0 || requests > 0.0);
    // Lifetime counters know every request; samples have gaps, of which R6 allows a fifth.
    let needed = if o.by == ObservedBy::History { COVERED } else { 1.0 };
    let covered = (proven || o.coverage.is_some_and(|c| c >= needed))
        && workload.replicas.iter().all(|r| r.ready_since.is_some());
    let known = matches!(o.by, ObservedBy::LifetimeCounters | ObservedBy::History);
    (nothing && covered && known && o.window_seconds >= t.short_window_seconds as f64).then_some(o.window_seconds)
}

/// What was read of it did nothing, and would be idle, had its servers' number or its role been read: its group may work, and
/// servers that nobody read.
pub fn idle_but_for_unread(fleet: &Fleet, workload: &Workload, t: &Thresholds) -> bool {
    let unread = |setting| workload.settings.as_ref().is_some_and(|s| s.unread(setting).is_some());
    let in_group = workload.group.is_some() && unread(Setting::Role);
    let of_ranks = group(fleet, workload).iter().any(|w| w.servers_unread.is_some());
    (in_group || of_ranks)
        && did_work(workload, t) != Some(true)
        && idle_window(workload, t).is_some()
        && objection(fleet, workload, t).is_none()
}

/// Why counters that say idle are not believed. Every GPU of the workload must be calm. Where no exporter runs there is no
/// witness, and counters stand alone (R6); where one runs and could not be read, nobody can say that it would not have objected.
fn objection(fleet: &Fleet, workload: &Workload, t: &Thresholds) -> Option<Reason> {
    // Requests that wait now were sent, whatever the counters of finished ones say; over a window a gauge may hang.
    let o = &workload.observed;
    if o.by == ObservedBy::LifetimeCounters && o.waiting.and_then(|s| s.max).is_some_and(|n| n > 0.0) {
        return Some(Reason::Contradicted);
    }
    let slots = || workload.replicas.iter().flat_map(|r| &r.slots);
    // The store's rows of its pods' devices, where they could be put on none of its slots: work is work wherever it was.
    let own = |s: &SlotId| {
        let slot = fleet.slot(*s);
        slot.activity.is_some() || slot.mig_profile.is_some() || slot.sharers > 1 || slot.holders.len() > 1
    };
    let busy = o.gpu_busy.and_then(|b| b.p95.or(b.mean).or(b.max));
    if o.by == ObservedBy::History && !slots().any(own) && busy.is_some_and(|b| b > t.idle_activity) {
        return Some(Reason::Contradicted);
    }
    slots().filter_map(|s| objection_of(fleet, workload, *s, t)).min()
}

fn objection_of(fleet: &Fleet, workload: &Workload, id: SlotId, t: &Thresholds) -> Option<Reason> {
    let slot = fleet.slot(id);
    let node = fleet.node(slot.node);
    if node.exporter_lost {
        let works = slot.facts.works.claimed();
        return Some(if works {
            Reason::Contradicted
        } else {
            Reason::WitnessUnread
        });
    }
    // A MIG instance or a shared device has no power of its own.
    if slot.mig_profile.is_some() || slot.holders.len() > 1 {
        let own = slot.mig_profile.is_some() && slot.holders.len() == 1 && slot.facts.works.claimed();
        return own.then_some(Reason::Contradicted);
    }
    let of = |device: Device| match device {
        Device::Calm => None,
        Device::Works | Device::Doubtful => Some(Reason::Contradicted),
        Device::Blind => Some(Reason::WitnessUnread),
    };
    if slot.facts.works.claimed() {
        return Some(Reason::Contradicted);
    }
    if let Some(own) = slot.activity.as_ref().filter(|a| a.attributed) {
        return of(witness::device(own, fleet.gpu_of(id), t));
    }
    if !node.has_exporter && node.devices.is_empty() {
        return None;
    }
    // Which device is whose is not told: all that are not known as another's must be calm, and all must be there.
    let healthy = node
        .slot_ids()
        .map(|s| fleet.slot(s))
        .filter(|s| s.mig_profile.is_none() && s.state != SlotState::Unhealthy)
        .count();
    let anothers = |named: &[PodId]| {
        let mine = |p: &PodId| workload.replicas.iter().any(|r| r.pods.contains(p));
        !node.shares_devices() && !named.is_empty() && !named.iter().any(mine)
    };
    let (theirs, left): (Vec<_>, Vec<_>) = node.devices.iter().partition(|d| anothers(&d.named));
    let objects = left
        .iter()
        .filter_map(|d| of(witness::device(&d.activity, node.gpu, t)))
        .min();
    objects.or_else(|| (left.len() + theirs.len() < healthy).then_some(Reason::WitnessUnread))
}

/// Anything but a server: a device at work is working; only history can say it is idle, each device for itself.
fn of_other(fleet: &Fleet, id: SlotId, pod: &Pod, t: &Thresholds) -> (SlotState, Reason, Option<Timestamp>) {
    let class = pod.workload.map_or(WorkloadClass::Unknown, |w| fleet.workload(w).class);
    let all_rest = pod.slots.iter().all(|s| rested(fleet, *s, class, t));
    let early = || pod.slots.iter().all(|s| rested_early(fleet, *s, (pod, class), true, t));
    if !pod.slots.is_empty() && (all_rest || early()) {
        return (SlotState::Idle, Reason::NoActivity, None);
    }
    let works = |s: &SlotId| fleet.slot(*s).facts.works.claimed() || moved(fleet, *s, t);
    if pod.slots.iter().any(works) {
        // What is dead in a pod at work is dead alone.
        let rests = rested(fleet, id, class, t) || rested_early(fleet, id, (pod, class), false, t);
        return if rests && !works(&id) {
            (SlotState::Idle, Reason::PartlyIdle, None)
        } else {
            (SlotState::Working, Reason::Activity, None)
        };
    }
    let long = |s: &SlotId| fleet.slot(*s).activity.as_ref().is_some_and(|a| watched(a, t));
    let reason = if !pod.slots.is_empty() && pod.slots.iter().all(long) {
        Reason::Contradicted
    } else {
        Reason::TooLittleSeen
    };
    (SlotState::Unknown, reason, None)
}

/// The device was seen to compute at some time of what was read, however short.
fn moved(fleet: &Fleet, id: SlotId, t: &Thresholds) -> bool {
    let activity = fleet.slot(id).activity.as_ref().filter(|a| a.attributed);
    activity.is_some_and(|a| most(a).is_some_and(|m| m > t.idle_gpu_activity))
}

/// The most that its engines were seen active. Either counter may stick at 0: the larger counts.
fn most(activity: &GpuActivity) -> Option<f64> {
    let all = [activity.engine_active, activity.gpu_util];
    all.into_iter().filter_map(|s| s?.max).reduce(f64::max)
}

/// Its own history covers most of a time that is long enough to judge by.
fn watched(activity: &GpuActivity, t: &Thresholds) -> bool {
    is_told(activity) && activity.window_seconds >= t.minimum_window_seconds as f64
}

/// Its own history covers most of the time that it is of.
fn is_told(activity: &GpuActivity) -> bool {
    let covered = activity
        .engine_active
        .and_then(|s| s.coverage)
        .is_some_and(|c| c >= COVERED);
    activity.history && activity.attributed && !activity.shared && covered && most(activity).is_some()
}

/// Seconds since the device last computed, where its history tells; the present stretch, not the whole window: one short
/// burst days ago makes nobody busy.
pub fn rest_of(activity: &GpuActivity, t: &Thresholds) -> Option<f64> {
    if most(activity)? <= t.idle_gpu_activity {
        return Some(activity.window_seconds);
    }
    activity.at_rest_seconds
}

/// A store's first bin of a job may be one that began before it, and its last one that has not ended.
const SLACK: f64 = 900.0;

/// A batch scheduler gave the job this very device, by index, and the job has not used it since it began; `slides`: or it has not for
/// hours, as it did before. Waiting for images, data and neighbours is done by then; such GPUs are idle, and nobody calls it measured.
fn rested_early(fleet: &Fleet, id: SlotId, (pod, class): (&Pod, WorkloadClass), slides: bool, t: &Thresholds) -> bool {
    let slot = fleet.slot(id);
    let told = slot.activity.as_ref().filter(|a| is_told(a));
    let (Some(activity), Some(started)) = (told, pod.started_at) else {
        return false;
    };
    let age = fleet.now(pod.cluster).duration_since(started).as_secs_f64();
    let person = class == WorkloadClass::Notebook;
    let alone = person && pod.slots.len() == 1 && age < t.idle_interactive_seconds as f64;
    if pod.gpu_indices.is_empty() || class == WorkloadClass::Server || alone {
        return false;
    }
    let whole = most(activity).is_some_and(|m| m <= t.idle_gpu_activity);
    let from_start = whole && activity.window_seconds + SLACK >= age;
    let rest = rest_of(activity, t).unwrap_or(0.0);
    let long = from_start && rest >= t.idle_from_start_seconds as f64
        || slides && !person && rest >= t.idle_sliding_seconds as f64;
    long && calm(fleet, id, activity, whole, t)
}

/// The device has done nothing for long enough to be called idle: servers and notebooks rest over nights and weekends, and
/// are used again.
fn rested(fleet: &Fleet, id: SlotId, class: WorkloadClass, t: &Thresholds) -> bool {
    let slot = fleet.slot(id);
    let Some(activity) = slot.activity.as_ref().filter(|a| watched(a, t)) else {
        return false;
    };
    let whole = most(activity).is_some_and(|m| m <= t.idle_gpu_activity);
    let needed = match class {
        _ if whole => t.minimum_window_seconds,
        WorkloadClass::Server | WorkloadClass::Notebook => t.idle_stretch_of_people_seconds,
        _ => t.idle_stretch_seconds,
    };
    let stretch = rest_of(activity, t).is_some_and(|s| s >= needed as f64);
    stretch && calm(fleet, id, activity, whole, t)
}

/// Neither its power nor what is seen now says otherwise.
fn calm(fleet: &Fleet, id: SlotId, activity: &GpuActivity, whole: bool, t: &Thresholds) -> bool {
    let live = fleet.slot(id).live.as_deref();
    let live_calm = live.is_none_or(|l| !l.attributed || witness::device(l, fleet.gpu_of(id), t) != Device::Works);
    // After a burst the window's own percentiles still show it: the stretch decides, beside what is seen now.
    let calm = !whole || witness::device(activity, fleet.gpu_of(id), t) == Device::Calm;
    calm && live_calm && !fleet.node(fleet.slot(id).node).exporter_lost
}
