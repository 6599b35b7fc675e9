//! Nodes that have GPUs.

use super::{GPU, Gaps, GpuNode, Input, at, devices, word};
use crate::gres::Gres;
use crate::node::Node;
use gpuwaste_facts::snapshot::cluster::{Condition, Kept, Node as Seen, Outage, Resources};
use gpuwaste_facts::snapshot::gpu::GpuScrape;
use gpuwaste_facts::units::{Bytes, MilliCores};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn inventory<'a>(input: &'a Input, gaps: &mut Gaps) -> Vec<GpuNode<'a>> {
    let listed = &input.nodes;
    if listed.odd > 0 {
        gaps.push(
            format!("{} nodes", listed.odd),
            "they are not what Slurm prints",
            "they are not in the report",
            "look at the output of 'scontrol show nodes'",
        );
    }
    let mut all = Vec::new();
    let mut away = 0_usize;
    for node in &listed.items {
        if node.is("FUTURE") || node.gpus() == 0 && !node.gres_unread {
            continue;
        }
        // A cloud's node that is not there costs nothing.
        if node.is("CLOUD") && (node.is("POWERED_DOWN") || node.is("POWERING_DOWN")) {
            away += 1;
            continue;
        }
        all.push(GpuNode {
            told: node,
            seen: seen(node, input),
        });
    }
    if away > 0 {
        gaps.push(
            format!("{away} cloud nodes with GPUs"),
            "they are powered down: they do not exist now",
            "they cost nothing and are not counted",
            "none is needed",
        );
    }
    let list = |of: &dyn Fn(&Node) -> bool| all.iter().filter(|n| of(n.told)).count();
    let unread = list(&|n| n.gres_unread);
    if unread > 0 {
        gaps.push(
            format!("GRES of {unread} nodes"),
            "it is written in a way that is not known",
            "they are not in the report",
            "look at 'Gres' in 'scontrol show node'",
        );
    }
    all.retain(|n| !n.told.gres_unread);
    let silent = all.iter().filter(|n| n.told.used.is_none()).count();
    if silent > 0 {
        gaps.push(
            format!("which GPUs of {silent} nodes are allocated"),
            "the output does not tell GresUsed",
            "none of them is called free",
            "save 'scontrol -d show nodes --json' (before Slurm 23.02 'sinfo --json'): sinfo's groups do not tell it",
        );
    }
    let timeless = all.iter().filter(|n| n.seen.created_at.is_none()).count();
    if timeless > 0 {
        gaps.push(
            format!("since when {timeless} nodes are up"),
            "the output tells no boot time",
            "nothing of them is called free or unhealthy",
            "save 'scontrol -d show nodes --json' (before Slurm 23.02 'sinfo --json')",
        );
    }
    all
}

fn seen(node: &Node, input: &Input) -> Seen {
    let whole: Vec<&Gres> = node.gres.iter().filter(|g| g.is_gpu() && g.mig().is_none()).collect();
    let cards: u64 = whole.iter().map(|g| g.count).fold(0, u64::saturating_add);
    let mut labels = labels(node, input);
    let mut capacity = devices(node.gres.iter());
    // Shards are turns on whole cards.
    let shards: u64 = node
        .gres
        .iter()
        .filter(|g| g.is_shard())
        .map(|g| g.count)
        .fold(0, u64::saturating_add);
    let sharers = shards.checked_div(cards).unwrap_or(0).clamp(1, 64);
    if sharers > 1 {
        labels.insert("nvidia.com/gpu.replicas".into(), sharers.to_string());
        labels.insert("nvidia.com/gpu.count".into(), cards.to_string());
        labels.insert("nvidia.com/gpu.sharing-strategy".into(), "mps".into());
        if let Some(count) = capacity.get_mut(GPU) {
            *count = count.saturating_mul(sharers);
        }
    }
    let mut allocatable = capacity.clone();
    for (resource, count) in devices(node.drained.iter()) {
        if let Some(left) = allocatable.get_mut(&resource) {
            *left = left.saturating_sub(count.saturating_mul(sharers));
        }
    }
    let amounts = |devices: BTreeMap<String, u64>| Resources {
        cpu: node.cpus.and_then(|c| c.checked_mul(1000)).map(MilliCores),
        memory: node.memory.map(Bytes),
        devices,
        ..Resources::default()
    };
    let base_unknown = node.states.is_empty() || node.is("UNKNOWN") || node.is("UNK");
    let down = [
        "DOWN",
        "FAIL",
        "FAILING",
        "ERROR",
        "NOT_RESPONDING",
        "NO_RESPOND",
        "INVAL",
        "INVALID_REG",
    ]
    .iter()
    .find(|s| node.is(s));
    let drain = ["DRAIN", "DRAINED", "DRAINING"].iter().any(|s| node.is(s));
    let maint = node.is("MAINT") || node.is("MAINTENANCE");
    let since = at(node.reason_at);
    let outage = match (down, drain, maint) {
        (Some(_), ..) => Some("down"),
        (None, true, _) => Some("drain"),
        (None, false, true) => Some("maint"),
        _ => None,
    };
    let idle = node.is("IDLE") && node.used.as_ref().is_some_and(|used| used.iter().all(|g| g.count == 0));
    Seen {
        name: node.name.clone(),
        // A grouped or garbled state is no state.
        unread: base_unknown && down.is_none(),
        // One that never came up has been there since somebody said so.
        created_at: at(node.boot_at).or(since.filter(|_| outage.is_some())),
        labels,
        unschedulable: down.is_none() && (drain || maint),
        ready: Some(Condition {
            status: Some(down.is_none()),
            since: if down.is_some() { since } else { at(node.boot_at) },
            reason: down.map(ToString::to_string),
        }),
        capacity: amounts(capacity),
        allocatable: amounts(allocatable),
        outage: outage.map(|state| Outage {
            state: state.into(),
            reason: node.reason.clone(),
            // A reservation's maintenance has its times elsewhere.
            since: since.filter(|_| state != "maint"),
        }),
        kept: kept(node),
        unused_since: at(node.last_busy).filter(|_| idle),
        ..Seen::default()
    }
}

fn kept(node: &Node) -> Option<Kept> {
    let any = |states: &[&str]| states.iter().any(|s| node.is(s));
    if any(&[
        "POWERING_UP",
        "POWER_UP",
        "POWERING_DOWN",
        "POWER_DOWN",
        "REBOOT_ISSUED",
        "REBOOT",
    ]) {
        Some(Kept::Changing)
    } else if any(&["RESERVED"]) {
        Some(Kept::Reserved)
    } else if any(&["PLANNED"]) {
        Some(Kept::Planned)
    } else {
        None
    }
}

fn labels(node: &Node, input: &Input) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let partitions: BTreeSet<String> = node
        .partitions
        .iter()
        .map(|p| word(p))
        .filter(|p| !p.is_empty())
        .collect();
    if !partitions.is_empty() {
        let all: Vec<&str> = partitions.iter().map(String::as_str).collect();
        labels.insert("slurm/partitions".into(), all.join(","));
    }
    for partition in partitions {
        labels.insert(format!("slurm/partition.{partition}"), "true".into());
    }
    let kinds: BTreeSet<&str> = node
        .gres
        .iter()
        .filter(|g| g.is_gpu() && g.count > 0)
        .filter_map(|g| match g.mig() {
            Some((card, _)) => Some(card).filter(|c| !c.is_empty()),
            None => g.kind.as_deref(),
        })
        .collect();
    if kinds.len() == 1 {
        labels.extend(kinds.iter().map(|k| ("slurm/gpu-type".to_string(), (*k).to_string())));
    }
    for gres in node.gres.iter().filter(|g| g.is_gpu()) {
        if let Some(kind) = &gres.kind {
            labels.insert(format!("slurm/gpu-type.{kind}"), "true".into());
        }
    }
    if let Some(kind) = node.features.iter().find(|f| (input.is_instance)(f)) {
        labels.insert("node.kubernetes.io/instance-type".into(), kind.clone());
    }
    labels
}

/// Cards of several models on one node: which is which, by their order in its GRES.
pub(super) fn mixed_devices(node: &GpuNode<'_>) -> Vec<GpuScrape> {
    let whole = || {
        node.told
            .gres
            .iter()
            .filter(|g| g.is_gpu() && g.mig().is_none() && g.count > 0)
    };
    let kinds: BTreeSet<Option<&str>> = whole().map(|g| g.kind.as_deref()).collect();
    let count: u64 = whole().map(|g| g.count).fold(0, u64::saturating_add);
    if kinds.len() < 2 || count > 64 || kinds.contains(&None) {
        return Vec::new();
    }
    let models = whole().flat_map(|g| (0..g.count).map(move |_| g.kind.clone()));
    models
        .zip(0_u32..)
        .map(|(model, index)| GpuScrape {
            node: node.told.name.clone(),
            uuid: Some(format!("gpu-{index}")),
            index: Some(index),
            model,
            ..GpuScrape::default()
        })
        .collect()
}
