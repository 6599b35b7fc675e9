//! MIG instances as tiers: those that the cluster hands out, and those that a card could be cut into instead.

use super::{Cost, Offer, Place, Tier, selector};
use crate::catalog::gpus::GpuFacts;
use crate::catalog::mig;
use crate::fleet::{Fleet, Node, Slot};
use crate::units::{Bytes, UsdPerHour};
use std::collections::BTreeMap;

/// What an instance is, and where there are some.
type Part<'a> = (&'static GpuFacts, Vec<(&'a Node, &'a Slot)>);

/// Whether the memory that GPU feature discovery labels is one that the profile is known to have; true where none is told.
pub(in crate::analyze) fn agrees(node: &Node, instance: &mig::Instance) -> bool {
    let of_profile = format!("nvidia.com/mig-{}.memory", instance.profile);
    // Where all cards are cut alike, the label of a GPU is an instance's.
    let single = node
        .labels
        .get("nvidia.com/gpu.product")
        .is_some_and(|p| p.contains("-MIG-"));
    let key = if single { "nvidia.com/gpu.memory" } else { &of_profile };
    let told = node
        .labels
        .get(key)
        .and_then(|mib| mib.parse().ok())
        .map(Bytes::from_mib);
    told.is_none_or(|told| instance.memory.0 <= told && told <= instance.memory.1)
}

/// MIG instances that device plugins of the cluster hand out: one tier a profile and GPU.
pub(super) fn of_fleet(fleet: &Fleet, place: &Place) -> Vec<Tier> {
    let mut found: BTreeMap<(&str, &str), Part<'_>> = BTreeMap::new();
    for node in &fleet.nodes {
        let alike = node.cluster == place.cluster && node.capacity_type == place.capacity_type;
        if !alike || node.custom_sharing || node.gpus == 0 {
            continue;
        }
        for slot in node.slot_ids().map(|s| fleet.slot(s)) {
            let (Some(card), Some(profile), Some(resource)) = (node.gpu, &slot.mig_profile, &slot.resource) else {
                continue;
            };
            // A shared instance is nobody's own.
            let known = |gpu: &&GpuFacts| slot.sharers <= 1 && gpu.instance.as_ref().is_some_and(|i| agrees(node, i));
            if let Some(gpu) = mig::find(card, profile).filter(known) {
                let entry = found.entry((&gpu.name, resource)).or_insert((gpu, Vec::new()));
                entry.1.push((node, slot));
            }
        }
    }
    found
        .into_iter()
        .filter_map(|((_, resource), (gpu, slots))| tier(gpu, resource, &slots))
        .collect()
}

fn tier(gpu: &'static GpuFacts, resource: &str, slots: &[(&Node, &Slot)]) -> Option<Tier> {
    let prices: Option<Vec<UsdPerHour>> = slots.iter().map(|(_, s)| s.price).collect();
    let mut prices = prices?;
    prices.sort_unstable();
    let share = prices[prices.len() / 2];
    let mut nodes: Vec<&Node> = slots.iter().map(|(n, _)| *n).collect();
    nodes.dedup_by_key(|n| n.first_slot);
    Some(Tier {
        gpu,
        offers: nodes.iter().filter_map(|n| offer(n, share)).collect(),
        price_source: nodes.iter().map(|n| n.price.source).max()?,
        stale: nodes.iter().any(|n| n.price.stale),
        selector: selector(&nodes),
        resource: resource.to_string(),
        offered: true,
    })
}

/// CPU and memory beside an instance: no more than its whole card's part of the node.
fn offer(node: &Node, share: UsdPerHour) -> Option<Offer> {
    Some(Offer {
        instance_type: node.instance_type.clone().unwrap_or_default(),
        gpus: node.gpus,
        single: true,
        cores: node.allocatable_cpu?.cores(),
        memory: node.allocatable_memory?.0 as f64,
        cost: Cost::Share(share),
    })
}

/// Profiles of the same GPU that the card could be cut into instead of `held`, where its node hands instances out by
/// profile. Each costs its compute slices (R1), and frees no more slices than memory for them: a slice without memory is
/// of no use to anybody.
pub(in crate::analyze) fn recut(node: &Node, held: &Slot) -> Vec<Tier> {
    let own = node
        .gpu
        .zip(held.mig_profile.as_deref())
        .and_then(|(card, p)| mig::find(card, p));
    let (Some(own), Some(paid)) = (own.and_then(|g| g.instance.as_ref()), held.price) else {
        return Vec::new();
    };
    profiles(node, held, |new, cost, slice| {
        let smaller = new.units < own.units && new.slices <= own.slices;
        smaller.then(|| cost.max(paid - slice(own.units - new.units)))
    })
}

/// Profiles of the same GPU that hold more than `held`, at the price of their compute slices.
pub(in crate::analyze) fn larger(node: &Node, held: &Slot) -> Vec<Tier> {
    let own = node
        .gpu
        .zip(held.mig_profile.as_deref())
        .and_then(|(card, p)| mig::find(card, p));
    let Some(own) = own.and_then(|g| g.instance.as_ref()) else {
        return Vec::new();
    };
    profiles(node, held, |new, cost, _| (new.units > own.units).then_some(cost))
}

/// Tiers that cutting a card of this node anew would make: `cost` says at which price, from that of the profile's slices.
fn profiles(
    node: &Node,
    held: &Slot,
    cost: impl Fn(&mig::Instance, UsdPerHour, &dyn Fn(u32) -> UsdPerHour) -> Option<UsdPerHour>,
) -> Vec<Tier> {
    let by_profile = held
        .resource
        .as_deref()
        .is_some_and(|r| r.starts_with("nvidia.com/mig-"));
    let (Some(card), Some(price)) = (node.gpu, node.price.usd_per_hour) else {
        return Vec::new();
    };
    let slice = |count: u32| price.scale(f64::from(count) / f64::from(node.gpus.max(1) * card.mig_slices()));
    let cut = |gpu: &'static GpuFacts| {
        let new = gpu.instance.as_ref()?;
        let cost = cost(new, slice(new.slices), &slice)?;
        Some(Tier {
            gpu,
            offers: vec![offer(node, cost)?],
            price_source: node.price.source,
            stale: node.price.stale,
            selector: selector(&[node]),
            resource: format!("nvidia.com/mig-{}", new.profile),
            offered: false,
        })
    };
    // Sharers of an instance, and single-strategy nodes whose cards are all cut alike, have no cut of their own.
    mig::of(card)
        .filter(|_| by_profile && held.sharers <= 1)
        .filter_map(cut)
        .collect()
}
