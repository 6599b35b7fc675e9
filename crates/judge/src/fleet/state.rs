//! R3: every slot is in exactly one state, decided here once, so that findings and totals never disagree.
//!
//! Order of decision: lost device or silent node → unhealthy; no holder → free (or unknown where holders may be
//! invisible); holder not Ready past its grace → stuck; holder's workload without any work → idle; work seen → working;
//! else unknown. Unknown is what cannot be judged, never a polite word for idle.

use super::history::COVERED;
use super::{
    Fleet, GpuActivity, ObservedBy, Pod, PodId, SlotId, SlotState, Stuck, StuckReason, Workload, WorkloadClass,
};
use crate::engine::metrics;
use crate::settings::{Settings, Thresholds};
use jiff::Timestamp;

/// Why a slot is in its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    #[default]
    NotJudged,
    LostDevice,
    NodeNotReady,
    Cordoned,
    NoHolder,
    /// Pods were refused: somebody unseen may hold it.
    HoldersInvisible,
    /// Its node could not be read: it may be part of a shared GPU, with holders that nobody sees.
    NodeUnread,
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
        let reason = if slot.dra { Reason::Tainted } else { Reason::LostDevice };
        return (SlotState::Unhealthy, reason, slot.since);
    }
    if node.unseen {
        let mut verdicts = slot.holders.iter().map(|p| of_pod(fleet, fleet.pod(*p), t));
        let working = verdicts.find(|(state, ..)| *state == SlotState::Working);
        return working.unwrap_or((SlotState::Unknown, Reason::NodeUnread, None));
    }
    if slot.holders.is_empty() {
        if let Some(verdict) = of_claims(fleet, slot, t) {
            return verdict;
        }
        let claims = node.pods.iter().any(|p| fleet.pod(*p).unresolved_claims);
        return if !cluster.pods_known || node.holders_unread {
            (SlotState::Unknown, Reason::HoldersInvisible, None)
        } else if node.custom_sharing || claims {
            (SlotState::Unknown, Reason::CustomSharing, None)
        } else if slot.dra && !cluster.claims_known {
            (SlotState::Unknown, Reason::ClaimsInvisible, None)
        } else if node.unschedulable {
            (SlotState::Unhealthy, Reason::Cordoned, node.unschedulable_since)
        } else {
            (SlotState::Free, Reason::NoHolder, None)
        };
    }
    let of_holders = slot.holders.iter().map(|p| of_pod(fleet, fleet.pod(*p), t));
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
    let at_rest = |p: &PodId| settled(of_pod(fleet, fleet.pod(*p), t).0);
    if settled(verdict.0) && !others.all(|s| s.holders.iter().all(at_rest)) {
        return (SlotState::Unknown, Reason::SharerUnknown, None);
    }
    verdict
}

/// Held by claims, but by no pod that was seen. Pods come and go between uses: a young claim is none of this yet.
fn of_claims(fleet: &Fleet, slot: &super::Slot, t: &Thresholds) -> Option<(SlotState, Reason, Option<Timestamp>)> {
    let claims = || slot.claims.iter().map(|c| &fleet.claims[*c]);
    claims().next()?;
    let old = |c: &super::Claim| {
        c.created_at
            .is_some_and(|at| fleet.taken_at.duration_since(at).as_secs_f64() >= t.stuck_seconds as f64)
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
fn of_pod(fleet: &Fleet, pod: &Pod, t: &Thresholds) -> (SlotState, Reason, Option<Timestamp>) {
    if pod.unread {
        return (SlotState::Unknown, Reason::Unread, None);
    }
    let workload = pod.workload.map(|w| fleet.workload(w));
    if pod.placeholder {
        return (SlotState::Working, Reason::Placeholder, None);
    }
    if let Some(stuck) = &pod.stuck {
        // Clients that bypass the readiness gate are served all the same.
        if stuck.reason == StuckReason::NotReady && serves_now(workload, pod) {
            return (SlotState::Working, Reason::Requests, None);
        }
        return match stuck_for(stuck, fleet.taken_at).filter(|s| *s >= allowed(stuck, workload, t)) {
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
            of_server(fleet, workload, t)
        }
        _ => of_other(fleet, pod, t),
    }
}

/// Seconds since it last was Ready; `None`: no object tells.
pub fn stuck_for(stuck: &Stuck, at: Timestamp) -> Option<u64> {
    let seconds = at.duration_since(stuck.since?).as_secs();
    u64::try_from(seconds).ok()
}

/// Seconds that starting may take: the floor, the startup probe's own patience, and loading the weights.
pub fn allowed(stuck: &Stuck, workload: Option<&Workload>, t: &Thresholds) -> u64 {
    let loading = workload
        .and_then(|w| weight_bytes(w.model.as_ref()?))
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

/// A server: counters of its whole group decide, the devices' power and activity can only contradict idleness.
fn of_server(fleet: &Fleet, workload: &Workload, t: &Thresholds) -> (SlotState, Reason, Option<Timestamp>) {
    let group = group(fleet, workload);
    let worked = |w: &Workload| did_work(w, t);
    if group.iter().any(|w| worked(w) == Some(true)) {
        return (SlotState::Working, Reason::Requests, None);
    }
    if group.iter().all(|w| idle_window(w, t).is_some()) {
        if group.iter().any(|w| contradicted(fleet, w, t)) {
            return (SlotState::Unknown, Reason::Contradicted, None);
        }
        return (SlotState::Idle, Reason::NoRequests, None);
    }
    (SlotState::Unknown, Reason::TooLittleSeen, None)
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
    let running = workload.observed.running.and_then(|s| s.max).is_some_and(|r| r > 0.0);
    if running || counted.iter().copied().chain(parts).any(|n| n > allowed) {
        return Some(true);
    }
    (!counted.is_empty()).then_some(false)
}

/// Seconds without any work, where every replica's counters are known over at least the short window; else `None`.
pub fn idle_window(workload: &Workload, t: &Thresholds) -> Option<f64> {
    let o = &workload.observed;
    // No request, no token and none running: each must be known where the engine tells it at all.
    let told = workload.engine().map(metrics::told).unwrap_or_default();
    let zero = |figure: Option<f64>, told: bool| figure.or((!told).then_some(0.0));
    let requests = o.requests?;
    let tokens = zero(o.output_tokens, told.output_tokens)? + zero(o.prompt_tokens, told.prompt_tokens)?;
    zero(o.running.and_then(|s| s.max), told.running)?;
    let hours = (o.window_seconds / 3600.0).max(1.0);
    let nothing = requests <= t.idle_max_requests_per_hour * hours && (tokens <= 0.0 || requests > 0.0);
    // Lifetime counters know every request; samples have gaps, of which R6 allows a fifth.
    let needed = if o.by == ObservedBy::History { COVERED } else { 1.0 };
    let covered = o.coverage.is_some_and(|c| c >= needed) && workload.replicas.iter().all(|r| r.ready_since.is_some());
    let known = matches!(o.by, ObservedBy::LifetimeCounters | ObservedBy::History);
    (nothing && covered && known && o.window_seconds >= t.short_window_seconds as f64).then_some(o.window_seconds)
}

/// What a device says of a server whose counters say nothing was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Witness {
    Calm,
    /// Power and real work: something runs, whatever the counters say.
    Works,
    /// It is there, but does not tell enough.
    Blind,
}

/// Every GPU of the workload must be calm. Where no exporter runs there is no witness, and counters stand alone (R6);
/// where one runs and could not be read, nobody can say that it would not have objected.
fn contradicted(fleet: &Fleet, workload: &Workload, t: &Thresholds) -> bool {
    let slots = || workload.replicas.iter().flat_map(|r| &r.slots);
    slots().any(|s| {
        let slot = fleet.slot(*s);
        let node = fleet.node(slot.node);
        // A MIG instance or a shared device has no power of its own.
        if slot.mig_profile.is_some() || slot.holders.len() > 1 {
            return false;
        }
        if let Some(own) = slot.activity.as_ref().filter(|a| a.attributed) {
            return witness(own, node, t) != Witness::Calm;
        }
        if !node.has_exporter && node.devices.is_empty() {
            return false;
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
        left.len() + theirs.len() < healthy || left.iter().any(|d| witness(&d.activity, node, t) != Witness::Calm)
    })
}

fn witness(activity: &GpuActivity, node: &super::Node, t: &Thresholds) -> Witness {
    let share = if matches!(node.gpu_name.as_str(), "L4" | "T4" | "T4G") {
        t.idle_power_share_small
    } else {
        t.idle_power_share
    };
    let value = |s: Option<super::Stat>| s.and_then(|s| s.p95.or(s.mean).or(s.max));
    let tdp = node.gpu.and_then(|g| g.tdp).map(|w| w.0);
    let hot = tdp
        .zip(value(activity.power_watts))
        .map(|(tdp, watts)| watts > share * tdp);
    let work = [activity.tensor, activity.dram].map(|s| value(s).map(|v| v > t.idle_activity));
    // Tensor and DRAM at rest is proof enough; so is low power. High power with either of them unknown is none.
    if hot == Some(false) || work == [Some(false), Some(false)] {
        Witness::Calm
    } else if work.contains(&Some(true)) || hot == Some(true) {
        Witness::Works
    } else {
        Witness::Blind
    }
}

/// Anything but a server: a device at work is working; only history can say it is idle.
fn of_other(fleet: &Fleet, pod: &Pod, t: &Thresholds) -> (SlotState, Reason, Option<Timestamp>) {
    let activity: Vec<&GpuActivity> = pod
        .slots
        .iter()
        .filter_map(|s| fleet.slot(*s).activity.as_ref())
        .filter(|a| a.attributed)
        .collect();
    // Either may stick at 0: the larger counts.
    let max = |a: &&GpuActivity| {
        [a.engine_active, a.gpu_util]
            .into_iter()
            .filter_map(|s| s?.max)
            .reduce(f64::max)
    };
    if activity.iter().any(|a| max(a).is_some_and(|m| m > t.idle_gpu_activity)) {
        return (SlotState::Working, Reason::Activity, None);
    }
    let long = |a: &&GpuActivity| {
        let covered = a.engine_active.and_then(|s| s.coverage).is_some_and(|c| c >= COVERED);
        a.history && a.window_seconds >= t.minimum_window_seconds as f64 && !a.shared && max(a).is_some() && covered
    };
    let calm = |a: &&GpuActivity| pod.node.is_some_and(|n| witness(a, fleet.node(n), t) == Witness::Calm);
    if !activity.is_empty() && activity.len() == pod.slots.len() && activity.iter().all(long) {
        if !activity.iter().all(calm) {
            return (SlotState::Unknown, Reason::Contradicted, None);
        }
        return (SlotState::Idle, Reason::NoActivity, None);
    }
    (SlotState::Unknown, Reason::TooLittleSeen, None)
}
