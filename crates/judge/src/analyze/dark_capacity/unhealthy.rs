//! GPUs that nobody can use: lost, tainted, not handed out, or on nodes that are not Ready or cordoned.

use super::{ID, PoolKey, age, ailments, gpus_weighted, node_names, pool_key, weight, witnesses};
use crate::analyze::finding::{ClaimRank, Confidence, Evidence, Finding, Fix};
use crate::analyze::rights;
use crate::analyze::support::{self, Judged, span};
use crate::analyze::{Outcome, words};
use crate::fleet::state::Reason;
use crate::fleet::{Fleet, PodId, SlotId, SlotState};
use crate::settings::Thresholds;
use std::collections::{BTreeMap, BTreeSet};

/// Why GPUs cannot be used, in the words of the title.
fn cause(reason: Reason) -> &'static str {
    match reason {
        Reason::NodeNotReady => "node not ready",
        Reason::Cordoned => "node cordoned",
        Reason::Drained => "node drained",
        Reason::CalledBroken => "called broken by the node's health monitor",
        Reason::SaidBroken => "broken, as its exporter says",
        Reason::Tainted => "device tainted by its driver",
        Reason::NotAdvertised => "not handed out by a device plugin",
        Reason::MigLayout => "MIG layout does not suit its strategy",
        Reason::MemoryHeld => "memory taken by processes that are gone",
        _ => "device lost",
    }
}

pub(super) fn unhealthy(fleet: &Fleet, t: &Thresholds, out: &mut Outcome) {
    let mut pools: BTreeMap<(PoolKey, Reason), Vec<SlotId>> = BTreeMap::new();
    for (index, slot) in fleet.slots.iter().enumerate() {
        let node = fleet.node(slot.node);
        if slot.state != SlotState::Unhealthy || node.being_removed {
            continue;
        }
        if !fleet.clusters[node.cluster].pods_known {
            // R2: the spend of GPUs whose holders are invisible is not counted, nor is its waste.
            out.not_assessed(
                "pods of all namespaces could not be read: somebody unseen may hold it",
                rights::READ,
                [SlotId(index)],
            );
            continue;
        }
        let young = age(fleet.now(node.cluster), node.created_at).is_none_or(|a| a < t.node_grace_seconds as f64);
        let since = age(fleet.now(node.cluster), slot.since);
        let long = |seconds: u64| since.is_some_and(|s| s >= seconds as f64);
        let fires = match slot.reason {
            Reason::NodeNotReady | Reason::Drained | Reason::CalledBroken => long(t.unhealthy_seconds),
            Reason::Cordoned => long(t.cordon_seconds),
            Reason::Tainted => since.is_none() || long(t.unhealthy_seconds),
            _ => true,
        };
        if fires && !young {
            pools
                .entry((pool_key(fleet, SlotId(index)), slot.reason))
                .or_default()
                .push(SlotId(index));
        } else if since.is_none()
            && matches!(
                slot.reason,
                Reason::NodeNotReady | Reason::Cordoned | Reason::Drained | Reason::CalledBroken
            )
        {
            out.not_assessed(
                "since when a node is unhealthy is not told",
                "scan again later, or look at the node's conditions",
                [SlotId(index)],
            );
        }
    }
    for ((_, reason), slots) in pools {
        out.findings.push(finding(fleet, reason, &slots));
    }
}

fn finding(fleet: &Fleet, reason: Reason, slots: &[SlotId]) -> Finding {
    let node = fleet.node(fleet.slot(slots[0]).node);
    let why = cause(reason);
    let rested = slots
        .iter()
        .map(|s| fleet.slot(*s).facts.works.denied_for())
        .fold(f64::INFINITY, f64::min);
    let since = if reason == Reason::MemoryHeld {
        rested
    } else {
        slots
            .iter()
            .filter_map(|s| age(fleet.now(fleet.node(fleet.slot(*s).node).cluster), fleet.slot(*s).since))
            .fold(0.0, f64::max)
    };
    let mut judged = if reason == Reason::MemoryHeld {
        Judged::at(
            Confidence::Estimated,
            "no source names the processes that took the memory",
        )
    } else if reason == Reason::SaidBroken {
        Judged::at(
            Confidence::Estimated,
            "the exporter does not tell since when, and keeps the last XID after a reset too",
        )
    } else if since > 0.0 {
        Judged::measured("the API tells since when")
    } else {
        Judged::at(
            Confidence::Estimated,
            "the API does not tell since when a device is missing",
        )
    };
    judged.cap_by_price(fleet, slots);
    let mut evidence = vec![
        Evidence::text("cause", why, "kubernetes"),
        Evidence::number("unhealthy_gpus", weight(fleet, slots), "gpus", "kubernetes").expected(0.0),
    ];
    if since > 0.0 {
        evidence.push(Evidence::number("longest", since, "seconds", "kubernetes"));
    }
    if let Some(told) = words::outages(fleet, slots) {
        evidence.push(Evidence::text("reason", &told, "kubernetes"));
    }
    if let Some(told) = ailments(fleet, slots) {
        evidence.push(Evidence::text("health", &told, "exporter"));
    }
    evidence.extend(witnesses(fleet, slots));
    let lasting = if since > 0.0 {
        format!(" for {}", span(since))
    } else {
        String::new()
    };
    Finding {
        title: format!(
            "{} of {} unusable, {why}{lasting}",
            gpus_weighted(fleet, slots),
            fleet.gpu_name(slots[0])
        ),
        evidence,
        // An empty node that works can go today; one that is broken is repaired, and goes on costing.
        claims: support::claims(fleet, slots, reason == Reason::Cordoned),
        fix: Fix::told(advice(fleet, reason, slots)),
        ..judged.recoverable(ID, "unhealthy", ClaimRank::Unhealthy, support::of_pool(fleet, node))
    }
}

fn advice(fleet: &Fleet, reason: Reason, slots: &[SlotId]) -> String {
    let nodes = node_names(fleet, slots);
    let used = pods_there(fleet, slots);
    if let Some(told) = words::unhealthy(fleet, reason, slots, &used) {
        return told;
    }
    match reason {
        Reason::NodeNotReady => format!("Repair or replace {nodes}: paid for, and the kubelet does not answer."),
        Reason::Cordoned if used.is_empty() => format!(
            "{nodes} works and is empty: uncordon it (kubectl uncordon), or delete it and scale the pool down today."
        ),
        Reason::Cordoned => format!(
            "{nodes} works, and takes no new pods: uncordon it (kubectl uncordon), or drain it ({used}) and delete it."
        ),
        Reason::CalledBroken => format!(
            "Look at the condition that {nodes} reports ({}), then repair, reboot or replace it: the GPUs are paid for, and pods that land there fail.",
            words::outages(fleet, slots).unwrap_or_default()
        ),
        Reason::SaidBroken => format!(
            "Keep pods off {nodes} ({}), and reset or replace what is broken: nvidia-smi -q -d ROW_REMAPPER, dmesg | grep Xid{}.",
            ailments(fleet, slots).unwrap_or_default(),
            beside(&used)
        ),
        Reason::NotAdvertised => format!(
            "The device plugin on {nodes} hands out fewer GPUs than the machine has: look at the plugin's pod, its configuration and the driver there{}.",
            beside(&used)
        ),
        Reason::MigLayout => format!(
            "The cards of {nodes} are sound: change their MIG layout (nvidia.com/mig.config) or the plugin's MIG strategy until the two suit each other."
        ),
        Reason::MemoryHeld => format!(
            "Look at {nodes} for processes that outlived their pods (nvidia-smi, fuser /dev/nvidia*): end them, or reset the GPU{}.",
            beside(&used)
        ),
        _ if used.is_empty() => {
            format!("Repair or replace {nodes}: the GPUs are paid for, and nobody can be given them.")
        }
        _ => format!(
            "Drain {nodes} first ({used}), then reset or replace the GPUs: they are paid for, and nobody can be given them."
        ),
    }
}

fn beside(used: &str) -> String {
    if used.is_empty() {
        String::new()
    } else {
        format!("; in use there: {used}")
    }
}

/// Pods that use other GPUs of the same nodes: they are what a repair interrupts.
fn pods_there(fleet: &Fleet, slots: &[SlotId]) -> String {
    let nodes: BTreeSet<usize> = slots.iter().map(|s| fleet.slot(*s).node.0).collect();
    let mut pods: BTreeSet<PodId> = BTreeSet::new();
    for slot in nodes.iter().flat_map(|n| fleet.nodes[*n].slot_ids()) {
        pods.extend(fleet.slot(slot).holders.iter().copied());
    }
    let names: Vec<String> = pods
        .iter()
        .map(|p| format!("{}/{}", fleet.pod(*p).namespace, fleet.pod(*p).name))
        .collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!("pod {one}"),
        [first, rest @ ..] => format!("pod {first} and {} more", rest.len()),
    }
}
