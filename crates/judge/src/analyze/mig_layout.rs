//! mig-layout: MIG slices that nobody can ask for, or that nobody asks for while pods wait for another size.

use super::finding::{ClaimRank, Confidence, Evidence, Finding, Fix};
use super::support::{self, Judged, span};
use super::{Check, Context, Outcome, documented};
use crate::catalog::mig;
use crate::fleet::{Fleet, Node, Pod, SlotId, SlotState, WHOLE_GPU};
use crate::settings::Thresholds;
use crate::snapshot::cluster::PodPhase;
use std::collections::BTreeMap;

documented! {
    since "0.1.0";
    /// What it finds. MIG slices that are paid for and cannot be used as they lie: parts of a card that are in no instance although one
    /// would fit (unpartitioned), and free instances of other sizes while a pod waits for one that is not there (mismatch).
    ///
    /// Why it costs. A slice in no instance cannot be asked for at all, and a free 1g instance is no use to a pod that needs 3g.
    ///
    /// How the dollars are computed. A slice costs its share of its card: 1/7 (A30 1/4). Unpartitioned: all such slices. Mismatch: as many
    /// free slices as the waiting pods need, in whole profiles a node. They are taken off unallocated.
    ///
    /// When it is wrong. Where instances lie is not told: free ones on one card cannot always be merged. Slices that the card's memory
    /// leaves no room for (3g + 3g on 7) are no waste, and belong to the instances that are there.
    ///
    /// What to do. Change the node's layout (label nvidia.com/mig.config), or let pods ask for what is free.
    pub(crate) struct MigLayout;
}

const ID: &str = "mig-layout";

/// Prefix of the resources that the device plugin's mixed strategy hands MIG instances out by.
const MIG: &str = "nvidia.com/mig-";

impl Check for MigLayout {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "MIG layouts that waste slices: parts of a card in no instance, or free instances of a size nobody waits for."
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[Some("unpartitioned"), Some("mismatch")]
    }

    fn needs_activity(&self) -> bool {
        true
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        unpartitioned(fleet, &context.settings.thresholds, out);
        mismatch(fleet, &context.settings.thresholds, out);
    }
}

fn age(fleet: &Fleet, node: &Node) -> Option<f64> {
    node.created_at
        .map(|c| fleet.now(node.cluster).duration_since(c).as_secs_f64())
}

fn slices(fleet: &Fleet, slots: &[SlotId]) -> u64 {
    slots
        .iter()
        .map(|s| {
            let slot = fleet.slot(*s);
            let pieces = fleet
                .node(slot.node)
                .gpu
                .map_or(7, crate::catalog::gpus::GpuFacts::mig_slices);
            (slot.weight * u64::from(pieces) + WHOLE_GPU / 2) / WHOLE_GPU
        })
        .sum()
}

/// What is left of cards that were cut: room for another instance that nobody made.
fn unpartitioned(fleet: &Fleet, t: &Thresholds, out: &mut Outcome) {
    let mut pools: BTreeMap<(usize, &str, &str), Vec<SlotId>> = BTreeMap::new();
    for (index, slot) in fleet.slots.iter().enumerate().filter(|(_, s)| s.mig_profile.is_some()) {
        let node = fleet.node(slot.node);
        let settled = age(fleet, node).is_some_and(|a| a >= t.node_grace_seconds as f64) && !node.being_removed;
        if slot.state != SlotState::Unknown {
            out.assessed.push(SlotId(index));
        }
        if slot.unpartitioned && slot.state == SlotState::Free && settled {
            let key = (node.cluster, node.pool.as_str(), node.gpu_name.as_str());
            pools.entry(key).or_default().push(SlotId(index));
        }
    }
    for slots in pools.into_values() {
        let node = fleet.node(fleet.slot(slots[0]).node);
        let count = slices(fleet, &slots);
        let mut judged = Judged::at(
            Confidence::Estimated,
            "one look at what is advertised; how instances lie on the cards is not told",
        );
        judged.cap_by_price(fleet, &slots);
        let subject = support::of_pool(fleet, node);
        let place = subject.name.as_deref().unwrap_or("?");
        out.findings.push(Finding {
            title: format!(
                "{count} MIG slices of {} are in no instance in pool {place}",
                node.gpu_name
            ),
            evidence: vec![
                Evidence::number("slices_in_no_instance", count as f64, "slices", "kubernetes").expected(0.0),
                Evidence::number("cards_not_cut_in_full", slots.len() as f64, "gpus", "kubernetes").expected(0.0),
            ],
            claims: support::claims(fleet, &slots, false),
            fix: Fix::told(format!(
                "Choose a layout that uses the whole card on {} (label nvidia.com/mig.config, MIG manager): {}.",
                support::nodes_of(fleet, &slots),
                fitting(fleet, &slots)
            )),
            // Nobody can ask for them: more than free.
            ..judged.recoverable(ID, "unpartitioned", ClaimRank::Stranded, subject)
        });
    }
}

/// The largest profile that the most-left card still has slices for.
fn fitting(fleet: &Fleet, slots: &[SlotId]) -> String {
    let most = slots.iter().map(|s| slices(fleet, &[*s])).max().unwrap_or(0);
    let node = fleet.node(fleet.slot(slots[0]).node);
    let profiles = node.gpu.iter().flat_map(|g| &g.mig_profiles);
    profiles
        .filter(|p| mig::slices(&p.name).is_some_and(|s| u64::from(s) <= most))
        .max_by_key(|p| (mig::slices(&p.name), std::cmp::Reverse(p.name.len())))
        .map_or_else(
            || "add instances to it".into(),
            |p| format!("a card with {most} slices left may take another {}", p.name),
        )
}

/// Pods that wait for one profile while instances of others are free.
fn mismatch(fleet: &Fleet, t: &Thresholds, out: &mut Outcome) {
    let mut waiting: BTreeMap<(usize, &str), Vec<&Pod>> = BTreeMap::new();
    for pod in fleet
        .pods
        .iter()
        .filter(|p| p.node.is_none() && p.phase == PodPhase::Pending)
    {
        let unschedulable = pod.scheduled.as_ref().filter(|c| c.status == Some(false));
        let waits = unschedulable
            .and_then(|c| c.since)
            .is_some_and(|s| fleet.now(pod.cluster).duration_since(s).as_secs_f64() >= t.pending_wait_seconds as f64);
        let wanted = pod.devices.keys().find(|r| r.starts_with(MIG));
        if let Some(wanted) = wanted.filter(|_| waits && pod.waits_for_gpus == Some(true)) {
            waiting.entry((pod.cluster, wanted.as_str())).or_default().push(pod);
        }
    }
    for ((_, resource), pods) in waiting {
        let profile = resource.trim_start_matches(MIG).trim_end_matches(".shared");
        let Some(each) = mig::slices(profile) else {
            continue;
        };
        let pod = pods[0];
        let nodes = || {
            fleet
                .nodes
                .iter()
                .filter(|n| n.cluster == pod.cluster && super::stranded::may_run(pod, n))
        };
        let free = || {
            nodes().flat_map(Node::slot_ids).filter(|s| {
                let slot = fleet.slot(*s);
                slot.state == SlotState::Free && slot.mig_profile.is_some()
            })
        };
        if free().any(|s| fleet.slot(s).resource.as_deref() == Some(resource)) {
            continue;
        }
        // Node by node: a layout is changed on one node, and its instances must be free to be cut anew.
        let mut blocked: Vec<SlotId> = Vec::new();
        let mut left = pods.len() as u64 * u64::from(each);
        for node in nodes() {
            let of_node: Vec<SlotId> = free().filter(|s| node.slot_ids().any(|n| n == *s)).collect();
            let whole = slices(fleet, &of_node) / u64::from(each) * u64::from(each);
            let mut room = whole.min(left);
            for slot in of_node {
                if room == 0 {
                    break;
                }
                let own = slices(fleet, &[slot]);
                blocked.push(slot);
                room = room.saturating_sub(own);
                left = left.saturating_sub(own);
            }
        }
        if blocked.is_empty() {
            continue;
        }
        let since = pod
            .scheduled
            .as_ref()
            .and_then(|c| c.since)
            .map_or(0.0, |s| fleet.now(pod.cluster).duration_since(s).as_secs_f64());
        let mut judged = Judged::at(
            Confidence::Estimated,
            "which free instances lie on one card is not told",
        );
        judged.cap_by_price(fleet, &blocked);
        let node = fleet.node(fleet.slot(blocked[0]).node);
        let count = slices(fleet, &blocked);
        out.findings.push(Finding {
            title: format!("{count} free MIG slices in other sizes while {} waits for a {profile} for {}", pod.name, span(since)),
            evidence: vec![
                Evidence::number("free_slices_in_other_profiles", count as f64, "slices", "kubernetes").expected(0.0),
                Evidence::text("wanted_profile", profile, "kubernetes"),
                Evidence::number("waiting_pods", pods.len() as f64, "pods", "kubernetes").expected(0.0),
                Evidence::number("waits_for", since, "seconds", "kubernetes"),
            ],
            claims: support::claims(fleet, &blocked, false),
            fix: Fix::told(format!(
                    "Cut the free part of {} into {profile} (nvidia.com/mig.config), or let {} ask for a profile that is free.",
                    node.name, pod.name
                )),
            ..judged.recoverable(ID, "mismatch", ClaimRank::Stranded, support::of_pool(fleet, node))
        });
    }
}
