//! Free GPUs in pieces: pods wait for several on one node, and which move would let them in.

#[cfg(test)]
#[path = "scatter_tests.rs"]
mod tests;

use super::{ID, free_slots, may_run};
use crate::analyze::Outcome;
use crate::analyze::finding::{ClaimRank, Evidence, Finding, Fix};
use crate::analyze::support::{self, Judged, gpus};
use crate::fleet::{Fleet, Node, NodeId, Pod, PodId, SlotId, SlotState, StuckReason, WHOLE_GPU, WorkloadClass};
use crate::settings::Thresholds;
use crate::snapshot::cluster::PodPhase;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that are tried as the one to clear, those with the most free GPUs first (ours: each further one needs more moves).
const TARGETS: usize = 64;

/// Pods of one workload that wait for GPUs on one node while as many are free, but never together.
struct Scattered<'a> {
    pods: Vec<&'a Pod>,
    /// Free GPUs they could have, by node, the most first.
    free: Vec<(NodeId, Vec<SlotId>)>,
    total: usize,
    /// GPUs that they would take.
    blocked: Vec<SlotId>,
    plan: Option<Plan>,
}

/// What to move where, so that the first of the waiting pods fits on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    target: NodeId,
    moves: Vec<(PodId, NodeId)>,
}

pub(super) fn findings(fleet: &Fleet, t: &Thresholds, taken: &mut BTreeSet<SlotId>, out: &mut Outcome) {
    let found = scattered(fleet, t, taken);
    out.findings.extend(found.iter().map(|s| finding(fleet, s)));
}

fn scattered<'a>(fleet: &'a Fleet, t: &Thresholds, taken: &mut BTreeSet<SlotId>) -> Vec<Scattered<'a>> {
    let mut waiting: BTreeMap<(usize, usize), Vec<&Pod>> = BTreeMap::new();
    for pod in fleet.pods.iter().filter(|p| waits(fleet, p, t)) {
        waiting
            .entry((pod.cluster, pod.workload.map_or(usize::MAX, |w| w.0)))
            .or_default()
            .push(pod);
    }
    let mut all = Vec::new();
    for pods in waiting.into_values() {
        let pod = pods[0];
        let need = pod.wanted();
        let mut free: Vec<(NodeId, Vec<SlotId>)> = nodes_of(fleet, pod.cluster)
            .filter(|(_, n)| may_run(pod, n))
            .map(|(id, n)| {
                let mut slots = free_slots(fleet, n);
                slots.retain(|s| !taken.contains(s) && fleet.gives(fleet.slot(*s), pod));
                (id, slots)
            })
            .collect();
        let total: usize = free.iter().map(|(_, f)| f.len()).sum();
        let most = free.iter().map(|(_, f)| f.len()).max().unwrap_or(0);
        if total < need || most >= need {
            continue;
        }
        // The fullest nodes first: those are the cheapest to clear.
        free.sort_by_key(|(_, f)| Reverse(f.len()));
        let plan = plan(fleet, &free, pod, taken);
        let blocked: Vec<SlotId> = free
            .iter()
            .flat_map(|(_, f)| f.iter().copied())
            .take((need * pods.len()).min(total))
            .collect();
        taken.extend(&blocked);
        all.push(Scattered {
            pods,
            free,
            total,
            blocked,
            plan,
        });
    }
    all
}

fn nodes_of(fleet: &Fleet, cluster: usize) -> impl Iterator<Item = (NodeId, &Node)> {
    let all = fleet.nodes.iter().enumerate().map(|(i, n)| (NodeId(i), n));
    all.filter(move |(_, n)| n.cluster == cluster)
}

/// Unschedulable for long enough, and for want of GPUs: quota, volumes and queues are somebody else's matter.
fn waits(fleet: &Fleet, pod: &Pod, t: &Thresholds) -> bool {
    let condition = pod.scheduled.as_ref();
    let since = condition.and_then(|c| c.since);
    let long =
        since.is_some_and(|s| fleet.now(pod.cluster).duration_since(s).as_secs_f64() >= t.pending_wait_seconds as f64);
    let unschedulable =
        condition.is_some_and(|c| c.status == Some(false) && c.reason.as_deref() == Some("Unschedulable"));
    pod.node.is_none()
        && pod.phase == PodPhase::Pending
        && pod.wanted() > 0
        && long
        && unschedulable
        && pod.waits_for_gpus == Some(true)
        && !other_constraints(pod)
}

fn other_constraints(pod: &Pod) -> bool {
    pod.placement.as_ref().is_some_and(|p| p.other_constraints)
}

fn finding(fleet: &Fleet, scattered: &Scattered<'_>) -> Finding {
    let Scattered {
        pods,
        free,
        total,
        blocked,
        plan,
    } = scattered;
    let pod = pods[0];
    let need = pod.wanted();
    let most = free.first().map_or(0, |(_, f)| f.len());
    let mut judged = Judged::measured("the pod's own condition tells since when it waits");
    judged.cap_by_price(fleet, blocked);
    let node = fleet.node(fleet.slot(blocked[0]).node);
    let since = pod
        .scheduled
        .as_ref()
        .and_then(|c| c.since)
        .map_or(0.0, |s| fleet.now(pod.cluster).duration_since(s).as_secs_f64());
    let name = pod.workload.map_or(&pod.name, |w| &fleet.workload(w).name);
    let summary = match plan {
        Some(plan) => {
            let moves: Vec<String> = plan.moves.iter().map(|m| told(fleet, m)).collect();
            let target = &fleet.node(plan.target).name;
            format!("Move {}: then {name} fits on {target}.", moves.join(", "))
        }
        None => format!(
            "Move small pods together (bin-packing score, descheduler) until one node has {need} free GPUs for {name}."
        ),
    };
    Finding {
        title: format!("{total} GPUs free in pieces while {name} waits for {need} on one node"),
        evidence: vec![
            Evidence::number("free_gpus_on_matching_nodes", *total as f64, "gpus", "kubernetes").expected(need as f64),
            Evidence::number("most_free_on_one_node", most as f64, "gpus", "kubernetes").expected(need as f64),
            Evidence::number("waiting_pods", pods.len() as f64, "pods", "kubernetes"),
            Evidence::number("waits_for", since, "seconds", "kubernetes"),
        ],
        claims: support::claims(fleet, blocked, false),
        fix: Fix::told(summary),
        ..judged.recoverable(ID, "scatter", ClaimRank::Stranded, support::of_pool(fleet, node))
    }
}

/// "ml/trainer-0 (2 GPUs) to node-3"
fn told(fleet: &Fleet, (pod, to): &(PodId, NodeId)) -> String {
    let pod = fleet.pod(*pod);
    let size = gpus(pod.slots.len());
    format!("{}/{} ({size}) to {}", pod.namespace, pod.name, fleet.node(*to).name)
}

/// What is left on a node while a plan is made.
#[derive(Clone)]
struct Room {
    gpus: Vec<SlotId>,
    cpu: u64,
    memory: u64,
    pods: usize,
}

impl Room {
    /// `None`: what the node has, or what is asked of it, is not known.
    fn of(fleet: &Fleet, node: &Node, gpus: Vec<SlotId>) -> Option<Self> {
        let known = fleet.clusters[node.cluster].pods_known;
        Some(Self {
            gpus,
            cpu: node
                .allocatable_cpu
                .filter(|_| known)?
                .0
                .saturating_sub(node.requested_cpu.0),
            memory: node.allocatable_memory?.saturating_sub(node.requested_memory).0,
            pods: node
                .allocatable_pods
                .map_or(usize::MAX, |p| (p as usize).saturating_sub(node.pods.len())),
        })
    }

    fn holds(&self, pod: &Pod, gpus: usize) -> bool {
        self.gpus.len() >= gpus && self.cpu >= pod.cpu.0 && self.memory >= pod.memory.0 && self.pods > 0
    }
}

/// The fewest GPUs to move so that one node has room for `pod`: GPUs, CPU, memory and pod slots, for it and for what moves.
fn plan(fleet: &Fleet, free: &[(NodeId, Vec<SlotId>)], pod: &Pod, taken: &BTreeSet<SlotId>) -> Option<Plan> {
    let rooms: BTreeMap<NodeId, Room> = nodes_of(fleet, pod.cluster)
        .filter_map(|(id, node)| {
            let mut slots = free_slots(fleet, node);
            slots.retain(|s| !taken.contains(s));
            Some((id, Room::of(fleet, node, slots)?))
        })
        .collect();
    let plans = free
        .iter()
        .take(TARGETS)
        .filter_map(|(target, have)| clear(fleet, *target, have, pod, &rooms));
    plans.min_by_key(|p| {
        let moved = |(id, _): &(PodId, NodeId)| fleet.pod(*id).slots.len();
        (p.moves.iter().map(moved).sum::<usize>(), p.moves.len())
    })
}

/// What has to leave `target`; `None`: that is not enough, or finds no other place.
fn clear(
    fleet: &Fleet,
    target: NodeId,
    have: &[SlotId],
    waiting: &Pod,
    rooms: &BTreeMap<NodeId, Room>,
) -> Option<Plan> {
    let node = fleet.node(target);
    let here = Room {
        gpus: have.to_vec(),
        ..rooms.get(&target)?.clone()
    };
    // Small pods first, so that each finds a place.
    let mut pods: Vec<PodId> = node
        .pods
        .iter()
        .copied()
        .filter(|p| can_move(fleet, *p, waiting))
        .collect();
    pods.sort_by_key(|id| {
        let pod = fleet.pod(*id);
        (pod.slots.len(), &pod.namespace, &pod.name)
    });
    let fits_without = |gone: &[(PodId, NodeId)]| {
        let gone = || gone.iter().map(|(id, _)| fleet.pod(*id));
        let after = Room {
            gpus: here.gpus.iter().chain(gone().flat_map(|p| &p.slots)).copied().collect(),
            cpu: here.cpu + gone().map(|p| p.cpu.0).sum::<u64>(),
            memory: here.memory + gone().map(|p| p.memory.0).sum::<u64>(),
            pods: here.pods.saturating_add(gone().count()),
        };
        after.holds(waiting, waiting.wanted())
    };
    let mut elsewhere = rooms.clone();
    elsewhere.remove(&target);
    // One pod is less trouble than several.
    for id in &pods {
        if let Some(to) = place(fleet, *id, &elsewhere)
            && fits_without(&[(*id, to)])
        {
            return Some(Plan {
                target,
                moves: vec![(*id, to)],
            });
        }
    }
    let mut moves: Vec<(PodId, NodeId)> = Vec::new();
    for id in pods {
        if fits_without(&moves) {
            break;
        }
        let Some(to) = place(fleet, id, &elsewhere) else {
            continue;
        };
        let pod = fleet.pod(id);
        if let Some(room) = elsewhere.get_mut(&to) {
            let mut left = pod.slots.len();
            room.gpus.retain(|s| {
                let goes = left > 0 && gives_as(fleet, *s, pod);
                left -= usize::from(goes);
                !goes
            });
            room.cpu -= pod.cpu.0;
            room.memory -= pod.memory.0;
            room.pods -= 1;
        }
        moves.push((id, to));
    }
    if !fits_without(&moves) {
        return None;
    }
    // A larger one that came later may make a smaller one needless.
    let mut at = 0;
    while at < moves.len() {
        let mut fewer = moves.clone();
        fewer.remove(at);
        if fits_without(&fewer) {
            moves = fewer;
        } else {
            at += 1;
        }
    }
    Some(Plan { target, moves })
}

/// It holds whole GPUs of its own that `waiting` could have, and where else it may run is known.
fn can_move(fleet: &Fleet, id: PodId, waiting: &Pod) -> bool {
    let pod = fleet.pod(id);
    let server = pod
        .workload
        .is_some_and(|w| fleet.workload(w).class == WorkloadClass::Server);
    let own = |s: &SlotId| {
        let slot = fleet.slot(*s);
        slot.weight == WHOLE_GPU
            && slot.sharers <= 1
            && slot.holders == [id]
            && slot.state != SlotState::Unhealthy
            && fleet.gives(slot, waiting)
    };
    let ending = pod.stuck.as_ref().is_some_and(|s| s.reason == StuckReason::Terminating);
    !pod.slots.is_empty()
        && pod.slots.iter().all(own)
        && !pod.node_bound
        && !ending
        && (pod.placement.is_some() || server)
        && !other_constraints(pod)
}

/// A node for the pod, of the same GPU, the fullest that has room: the large gaps are kept.
fn place(fleet: &Fleet, id: PodId, rooms: &BTreeMap<NodeId, Room>) -> Option<NodeId> {
    let pod = fleet.pod(id);
    let gpu = &fleet.node(pod.node?).gpu_name;
    rooms
        .iter()
        .filter_map(|(to, room)| {
            let node = fleet.node(*to);
            let gpus = room.gpus.iter().filter(|s| gives_as(fleet, **s, pod)).count();
            let fits = gpus >= pod.slots.len() && room.holds(pod, pod.slots.len());
            (fits && node.gpu_name == *gpu && !node.being_removed && may_run(pod, node)).then_some((gpus, *to))
        })
        .min()
        .map(|(_, to)| to)
}

/// Handed out as the pod's own GPUs are.
fn gives_as(fleet: &Fleet, slot: SlotId, pod: &Pod) -> bool {
    let slot = fleet.slot(slot);
    let of_claims = pod
        .slots
        .iter()
        .any(|s| fleet.slot(*s).dra && !fleet.slot(*s).claims.is_empty());
    if of_claims { slot.dra } else { fleet.gives(slot, pod) }
}
