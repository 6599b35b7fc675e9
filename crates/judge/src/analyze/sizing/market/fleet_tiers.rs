//! Whole GPUs that nodes of the cluster have.

use super::{Cost, Offer, Place, Tier, resource, selector};
use crate::analyze::sizing::host;
use crate::fleet::{Fleet, Node, WHOLE_GPU};
use crate::units::UsdPerHour;
use std::collections::BTreeMap;

pub(super) fn of(fleet: &Fleet, place: &Place) -> Vec<Tier> {
    let mut by_gpu: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in fleet.nodes.iter().filter(|n| place.is_alike(n)) {
        let whole = node.slot_ids().all(|s| fleet.slot(s).weight == WHOLE_GPU);
        if let Some(gpu) = node.gpu.filter(|_| whole) {
            by_gpu.entry(&gpu.name).or_default().push(node);
        }
    }
    by_gpu.into_values().filter_map(|nodes| tier(fleet, &nodes)).collect()
}

fn tier(fleet: &Fleet, nodes: &[&Node]) -> Option<Tier> {
    let gpu = nodes.first()?.gpu?;
    let shares: Option<Vec<UsdPerHour>> = nodes
        .iter()
        .map(|n| {
            Some(UsdPerHour::from_micros(
                n.price.usd_per_hour?.micros() / i64::from(n.gpus),
            ))
        })
        .collect();
    // The middle of what this tier's GPUs cost here: the cheapest node may have no room.
    let mut shares = shares?;
    shares.sort_unstable();
    let share = shares[shares.len() / 2];
    let offers = nodes
        .iter()
        .filter_map(|n| {
            Some(Offer {
                instance_type: n.instance_type.clone().unwrap_or_default(),
                gpus: n.gpus,
                single: false,
                cores: n.allocatable_cpu?.cores(),
                memory: n.allocatable_memory?.0 as f64,
                full: has_no_pod_slot(fleet, n),
                arch: host::arch_of(n),
                cost: Cost::Share(share),
            })
        })
        .collect();
    Some(Tier {
        gpu,
        offers,
        price_source: nodes.iter().map(|n| n.price.source).max()?,
        stale: nodes.iter().any(|n| n.price.stale),
        selector: selector(nodes),
        resource: resource(gpu),
        offered: true,
        here: true,
    })
}

/// What comes with every node leaves no slot for another pod.
pub(super) fn has_no_pod_slot(fleet: &Fleet, node: &Node) -> bool {
    let agents = node.pods.iter().filter(|p| fleet.pod(**p).node_bound).count() as u64;
    node.allocatable_pods.is_some_and(|slots| slots <= agents)
}
