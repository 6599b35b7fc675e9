//! GPUs that nobody holds.

use super::{ID, PoolKey, age, ailments, gpus_weighted, node_names, pool_key, weight, witnesses};
use crate::analyze::finding::{ClaimRank, Confidence, Evidence, Finding, Fix};
use crate::analyze::support::{self, Judged};
use crate::analyze::{Outcome, cpu_pods, stranded, words};
use crate::fleet::state::Reason;
use crate::fleet::{CapacityType, Fleet, Node, NodeId, Pod, SlotId, SlotState};
use crate::settings::Thresholds;
use crate::snapshot::cluster::PodPhase;
use gpuwaste_facts::text::plural;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn unallocated(fleet: &Fleet, t: &Thresholds, out: &mut Outcome) {
    let mut pools: BTreeMap<PoolKey, Vec<SlotId>> = BTreeMap::new();
    let mut placeholders: BTreeMap<PoolKey, u64> = BTreeMap::new();
    for (index, slot) in fleet.slots.iter().enumerate() {
        let node = fleet.node(slot.node);
        if slot.reason == Reason::Placeholder {
            *placeholders.entry(pool_key(fleet, SlotId(index))).or_default() += 1;
        }
        let young = age(fleet.now(node.cluster), node.created_at).is_none_or(|a| a < t.node_grace_seconds as f64);
        if slot.state == SlotState::Free && !young && !node.being_removed {
            pools
                .entry(pool_key(fleet, SlotId(index)))
                .or_default()
                .push(SlotId(index));
        }
    }
    let mut waiting = wanted_by_waiting(fleet, t);
    // Whoever has waited for longer is kept from there by something else, and takes the GPUs once that is mended.
    let wanted: BTreeMap<SlotId, &Pod> = waiting
        .iter()
        .filter(|(_, w)| w.long)
        .map(|(s, w)| (*s, w.pod))
        .collect();
    waiting.retain(|_, w| !w.long);
    for (key, mut slots) in pools {
        // A pod that has just begun to wait and fits here will take them: leave it ten minutes.
        slots.retain(|s| waiting.remove(s).is_none());
        let kept = usize::try_from(t.free_gpu_allowance)
            .unwrap_or(usize::MAX)
            .min(slots.len());
        slots.drain(..kept);
        if slots.is_empty() {
            continue;
        }
        let node = fleet.node(fleet.slot(slots[0]).node);
        let nodes: BTreeSet<usize> = slots.iter().map(|s| fleet.slot(*s).node.0).collect();
        let wholly = |n: &&usize| {
            let of_node = || fleet.nodes[**n].slot_ids();
            of_node().all(|s| slots.contains(&s)) && !of_node().any(|s| wanted.contains_key(&s))
        };
        let empty: BTreeSet<&str> = nodes
            .iter()
            .filter(wholly)
            .map(|n| fleet.nodes[*n].name.as_str())
            .collect();
        let whole = empty.len();
        let mut judged = if slots.iter().all(|s| fleet.slot(*s).free_for_a_day) {
            Judged::measured(
                "they were free for at least 80 % of the last 24 h, as history or the scheduler's own since-time tells",
            )
        } else {
            Judged::at(
                Confidence::Estimated,
                "one look: the GPUs are free now; nothing tells for how long",
            )
        };
        if !slots.iter().all(|s| fleet.slot(*s).facts.works.denied()) {
            judged.cap(
                Confidence::Estimated,
                "no exporter tells whether anything computes on them: that no pod holds them is said by the scheduler alone",
            );
        }
        judged.cap_by_price(fleet, &slots);
        let subject = support::of_pool(fleet, node);
        let title = format!(
            "{} of {} free in pool {}",
            gpus_weighted(fleet, &slots),
            fleet.gpu_name(slots[0]),
            subject.name.as_deref().unwrap_or("?")
        );
        let mut evidence = vec![
            Evidence::number("free_gpus", weight(fleet, &slots), "gpus", "kubernetes")
                .expected(t.free_gpu_allowance as f64),
            Evidence::number("nodes_with_free_gpus", nodes.len() as f64, "nodes", "kubernetes"),
            Evidence::number("nodes_wholly_free", whole as f64, "nodes", "kubernetes"),
        ];
        if let Some(held) = placeholders.get(&key) {
            evidence.push(Evidence::number(
                "gpus_held_by_placeholders",
                *held as f64,
                "gpus",
                "kubernetes",
            ));
        }
        evidence.extend(witnesses(fleet, &slots));
        let closed = closed_by(fleet, &slots);
        if let Some(taints) = &closed {
            evidence.push(Evidence::text("taints", taints, "kubernetes"));
        }
        let removable = |s: &SlotId| wholly(&&fleet.slot(*s).node.0);
        let empty: Vec<SlotId> = slots.iter().copied().filter(removable).collect();
        let waits: BTreeSet<String> = slots
            .iter()
            .filter_map(|s| wanted.get(s))
            .map(|p| format!("{}/{}", p.namespace, p.name))
            .collect();
        if !waits.is_empty() {
            let number = Evidence::number("pods_that_wait_and_fit", waits.len() as f64, "pods", "kubernetes");
            evidence.push(number.expected(0.0));
        }
        let summary = if let Some(told) = words::unallocated(fleet, &slots, &empty) {
            told
        } else if is_paid_anyway(fleet, &slots) {
            format!(
                "Give the free GPUs of {} to work that waits: what is reserved or owned is paid until it ends, whether its nodes stand or not.",
                node_names(fleet, &slots)
            )
        } else if whole > 0 {
            format!(
                "Scale the pool down by {} ({}: wholly free){}, or give the GPUs to work that waits.",
                plural(whole, "node"),
                node_names(fleet, &empty),
                guests(fleet, &empty)
            )
        } else if waits.is_empty() {
            format!(
                "Give the free GPUs of {} to work that waits, or drain a node and scale the pool down: a part-empty node is paid in full.",
                node_names(fleet, &slots)
            )
        } else {
            format!(
                "Give the free GPUs of {} to what waits for them.",
                node_names(fleet, &slots)
            )
        };
        let summary = match waits.iter().next() {
            Some(first) => format!(
                "{} waits and fits on {}: find out what keeps it from there (kubectl describe pod) before a node is removed. {summary}",
                match waits.len() {
                    1 => format!("Pod {first}"),
                    n => format!("Pod {first} and {} more of {n}", n - 1),
                },
                node_names(
                    fleet,
                    &slots
                        .iter()
                        .copied()
                        .filter(|s| wanted.contains_key(s))
                        .collect::<Vec<_>>()
                )
            ),
            None => summary,
        };
        let ill = ailments(fleet, &slots);
        if let Some(told) = &ill {
            evidence.push(Evidence::text("health", told, "exporter"));
        }
        let summary = match ill {
            Some(told) => format!("{summary} Look at their health first, reset what waits for it: {told}."),
            None => summary,
        };
        let summary = match closed {
            Some(taints) => format!("{summary} Only pods that tolerate {taints} can get them."),
            None => summary,
        };
        let mut claims = support::claims(fleet, &slots, true);
        for claim in &mut claims {
            claim.vacates &= !wanted.contains_key(&claim.slot);
        }
        out.findings.push(Finding {
            title,
            evidence,
            claims,
            fix: Fix::told(summary),
            ..judged.recoverable(ID, "unallocated", ClaimRank::Unallocated, subject)
        });
    }
}

/// Pods without a GPU on these nodes, which have to run elsewhere first.
fn guests(fleet: &Fleet, slots: &[SlotId]) -> String {
    const FEW: usize = 3;
    let nodes: BTreeSet<NodeId> = slots.iter().map(|s| fleet.slot(*s).node).collect();
    let pods: BTreeSet<String> = nodes
        .iter()
        .flat_map(|n| cpu_pods::others(fleet, fleet.node(*n)))
        .map(|p| format!("{}/{}", p.namespace, p.name))
        .collect();
    let named: Vec<&str> = pods.iter().take(FEW).map(String::as_str).collect();
    match pods.len() {
        0 => String::new(),
        n if n > FEW => format!(" once {} and {} more run elsewhere", named.join(", "), n - FEW),
        1 => format!(" once {} runs elsewhere", named[0]),
        _ => format!(" once {} run elsewhere", named.join(", ")),
    }
}

/// Removing these nodes ends no bill.
fn is_paid_anyway(fleet: &Fleet, slots: &[SlotId]) -> bool {
    let committed = |s: &SlotId| {
        matches!(
            fleet.node(fleet.slot(*s).node).capacity_type,
            CapacityType::Reserved | CapacityType::CapacityBlock | CapacityType::Owned
        )
    };
    slots.iter().all(committed)
}

/// Taints that keep pods off all of these GPUs, beside those by which GPU nodes are usually kept for GPU pods, which such pods
/// tolerate.
fn closed_by(fleet: &Fleet, slots: &[SlotId]) -> Option<String> {
    const USUAL: &[&str] = &["gpu", "nvidia.com/", "amd.com/", "habana.ai/", "accelerator"];
    let of = |s: &SlotId| -> BTreeSet<String> {
        let taints = fleet.node(fleet.slot(*s).node).taints.iter();
        let keeps = taints.filter(|t| t.effect != "PreferNoSchedule" && !USUAL.iter().any(|u| t.key.contains(u)));
        keeps
            .map(|t| {
                let value = t.value.as_deref().filter(|v| !v.is_empty());
                value.map_or_else(|| t.key.clone(), |v| format!("{}={v}", t.key))
            })
            .collect()
    };
    let all = slots
        .iter()
        .map(of)
        .reduce(|a, b| a.intersection(&b).cloned().collect())?;
    (!all.is_empty()).then(|| all.into_iter().collect::<Vec<_>>().join(", "))
}

/// Who would take a free GPU.
#[derive(Clone, Copy)]
struct Waiting<'a> {
    pod: &'a Pod,
    /// It has waited for longer than a scheduler needs.
    long: bool,
}

/// Free slots that pods which wait would take, those that have just begun to first.
fn wanted_by_waiting<'a>(fleet: &'a Fleet, t: &Thresholds) -> BTreeMap<SlotId, Waiting<'a>> {
    let waits = |p: &&Pod| p.node.is_none() && p.wanted() > 0 && p.phase == PodPhase::Pending;
    let mut pods: Vec<Waiting<'_>> = fleet
        .pods
        .iter()
        .filter(waits)
        .map(|pod| {
            let since = pod.scheduled.as_ref().and_then(|c| c.since).or(pod.created_at);
            let long = age(fleet.now(pod.cluster), since).is_none_or(|a| a >= t.pending_wait_seconds as f64);
            Waiting { pod, long }
        })
        .collect();
    pods.sort_by_key(|w| w.long);
    let mut taken: BTreeMap<SlotId, Waiting<'_>> = BTreeMap::new();
    for waiting in pods {
        let pod = waiting.pod;
        let need = pod.wanted();
        let fits = fleet
            .nodes
            .iter()
            .filter(|n| n.cluster == pod.cluster && stranded::may_run(pod, n))
            .filter(|n| !waiting.long || has_room(pod, n))
            .find_map(|node| {
                let free: Vec<SlotId> = node
                    .slot_ids()
                    .filter(|s| fleet.slot(*s).state == SlotState::Free && !taken.contains_key(s))
                    .filter(|s| fleet.gives(fleet.slot(*s), pod))
                    .take(need)
                    .collect();
                (free.len() == need).then_some(free)
            });
        taken.extend(fits.into_iter().flatten().map(|s| (s, waiting)));
    }
    taken
}

/// CPU and memory of the node that are left are enough for it, as far as the node tells.
fn has_room(pod: &Pod, node: &Node) -> bool {
    let cpu = node
        .allocatable_cpu
        .is_none_or(|all| node.requested_cpu.0.saturating_add(pod.cpu.0) <= all.0);
    let memory = node
        .allocatable_memory
        .is_none_or(|all| node.requested_memory.0.saturating_add(pod.memory.0) <= all.0);
    cpu && memory
}
