//! GPUs that nobody holds.

use super::{ID, PoolKey, age, gpus_weighted, node_names, pool_key, weight, witnesses};
use crate::analyze::finding::{ClaimRank, Confidence, Evidence, Finding, Fix};
use crate::analyze::support::{self, Judged};
use crate::analyze::{Outcome, cpu_pods, stranded, words};
use crate::fleet::state::Reason;
use crate::fleet::{CapacityType, Fleet, NodeId, SlotId, SlotState};
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
    for (key, mut slots) in pools {
        // A pod that has just begun to wait and fits here will take them: leave it ten minutes.
        slots.retain(|s| !waiting.remove(s));
        let kept = usize::try_from(t.free_gpu_allowance)
            .unwrap_or(usize::MAX)
            .min(slots.len());
        slots.drain(..kept);
        if slots.is_empty() {
            continue;
        }
        let node = fleet.node(fleet.slot(slots[0]).node);
        let nodes: BTreeSet<usize> = slots.iter().map(|s| fleet.slot(*s).node.0).collect();
        let wholly = |n: &&usize| fleet.nodes[**n].slot_ids().all(|s| slots.contains(&s));
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
        let empty: Vec<SlotId> = slots
            .iter()
            .copied()
            .filter(|s| wholly_free(fleet, *s, &slots))
            .collect();
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
        } else {
            format!(
                "Give the free GPUs of {} to work that waits, or drain a node and scale the pool down: a part-empty node is paid in full.",
                node_names(fleet, &slots)
            )
        };
        let summary = match closed {
            Some(taints) => format!("{summary} Only pods that tolerate {taints} can get them."),
            None => summary,
        };
        out.findings.push(Finding {
            title,
            evidence,
            claims: support::claims(fleet, &slots, true),
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

/// All of the slot's node is among `slots`.
fn wholly_free(fleet: &Fleet, slot: SlotId, slots: &[SlotId]) -> bool {
    fleet.node(fleet.slot(slot).node).slot_ids().all(|s| slots.contains(&s))
}

/// Free slots that pods waiting for less than the grace would take.
fn wanted_by_waiting(fleet: &Fleet, t: &Thresholds) -> BTreeSet<SlotId> {
    let mut taken = BTreeSet::new();
    for pod in fleet
        .pods
        .iter()
        .filter(|p| p.node.is_none() && p.wanted() > 0 && p.phase == PodPhase::Pending)
    {
        let since = pod.scheduled.as_ref().and_then(|c| c.since).or(pod.created_at);
        if age(fleet.now(pod.cluster), since).is_none_or(|a| a >= t.pending_wait_seconds as f64) {
            continue;
        }
        let need = pod.wanted();
        let fits = fleet
            .nodes
            .iter()
            .filter(|n| n.cluster == pod.cluster && stranded::may_run(pod, n))
            .find_map(|node| {
                let free: Vec<SlotId> = node
                    .slot_ids()
                    .filter(|s| fleet.slot(*s).state == SlotState::Free && !taken.contains(s))
                    .filter(|s| fleet.gives(fleet.slot(*s), pod))
                    .take(need)
                    .collect();
                (free.len() == need).then_some(free)
            });
        taken.extend(fits.into_iter().flatten());
    }
    taken
}
