//! DRA devices as cards and slots, and claims as holders of them.

use super::nodes::{MigShape, SlotPlan};
use super::state::Reason;
use super::{Claim, Fleet, PodId, SlotId, WHOLE_GPU};
use crate::snapshot::Gap;
use crate::snapshot::cluster::{Cluster, PodPhase};
use crate::snapshot::dra::{AllocatedDevice, Device, Dra};
use crate::units::UsdPerHour;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Driver, pool, device: unique in a cluster.
pub(super) type DeviceKey = (String, String, String);

fn key_of(device: &AllocatedDevice) -> DeviceKey {
    (device.driver.clone(), device.pool.clone(), device.device.clone())
}

/// What drivers publish for one node.
#[derive(Debug, Default)]
pub(super) struct NodeDevices<'a> {
    /// Devices that are alternatives to, or parts of, one physical GPU.
    pub(super) cards: Vec<Vec<(DeviceKey, &'a Device)>>,
    /// A pool of this node lacks slices: there may be more.
    pub(super) incomplete: bool,
}

impl NodeDevices<'_> {
    /// The driver's name of the GPUs, and their memory.
    pub(super) fn product(&self) -> Option<(&str, Option<f64>)> {
        let whole = self.cards.iter().flatten().find(|(_, d)| d.product.is_some())?.1;
        let memory = whole
            .memory
            .filter(|_| !is_part(whole))
            .map(|m| m.0 as f64 / crate::units::Bytes::MIB);
        Some((whole.product.as_deref()?, memory))
    }
}

/// Devices by node, and what stands in the way of reading them.
pub(super) fn inventory<'a>(cluster: &'a Cluster, gaps: &mut Vec<Gap>) -> HashMap<&'a str, NodeDevices<'a>> {
    let mut nodes: HashMap<&str, NodeDevices<'_>> = HashMap::new();
    let Some(dra) = cluster.dra.as_deref() else {
        return nodes;
    };
    for pool in dra.pools.iter().flatten() {
        let mut elsewhere = 0;
        for device in &pool.devices {
            let Some(node) = device.node.as_deref() else {
                elsewhere += 1;
                continue;
            };
            let key = (pool.driver.clone(), pool.name.clone(), device.name.clone());
            let entry = nodes.entry(node).or_default();
            entry.incomplete |= !pool.complete;
            add(&mut entry.cards, key, device);
        }
        let mut gap = |what: String, reason: &str, effect: &str, remedy: &str| {
            gaps.push(Gap {
                source: format!("cluster {}", cluster.name),
                what,
                reason: reason.into(),
                effect: effect.into(),
                remedy: remedy.into(),
            });
        };
        if !pool.complete {
            // A pool that has published nothing yet is named after its node.
            nodes.entry(&pool.name).or_default().incomplete = true;
            gap(
                format!("DRA pool {} of {}", pool.name, pool.driver),
                "not all of its ResourceSlices are there",
                "GPUs of the node without a holder are of unknown state",
                "the driver is updating it: scan again; if it stays so, look at the driver's pod on that node",
            );
        }
        if elsewhere > 0 {
            gap(
                format!("{elsewhere} devices of DRA pool {}", pool.name),
                "they belong to no single node",
                "they are not counted: a price belongs to a node",
                "none: gpuwaste does not model devices that several nodes reach",
            );
        }
    }
    nodes
}

/// Puts a device with the others of its physical GPU: by the card's UUID, its PCI address, or a shared counter set.
fn add<'a>(cards: &mut Vec<Vec<(DeviceKey, &'a Device)>>, key: DeviceKey, device: &'a Device) {
    let same = |other: &(DeviceKey, &Device)| {
        let (a, b) = (device, other.1);
        let card = |d: &'_ Device| d.parent_uuid.clone().or_else(|| d.uuid.clone());
        other.0.0 == key.0
            && (card(a).is_some() && card(a) == card(b)
                || a.pci_bus_id.is_some() && a.pci_bus_id == b.pci_bus_id
                || a.counter_sets.iter().any(|s| b.counter_sets.contains(s)))
    };
    let (mut own, others): (Vec<_>, Vec<_>) = std::mem::take(cards).into_iter().partition(|c| c.iter().any(same));
    *cards = others;
    let mut card: Vec<(DeviceKey, &Device)> = own.drain(..).flatten().collect();
    card.push((key, device));
    cards.push(card);
    cards.sort_by(|a, b| a[0].0.cmp(&b[0].0));
}

fn is_part(device: &Device) -> bool {
    device.parent_uuid.is_some()
        || device
            .kind
            .as_deref()
            .is_some_and(|k| k == "mig" || k.ends_with("-partition"))
}

/// Devices that a claim holds, administrative access aside.
pub(super) fn allocated(dra: Option<&Dra>) -> HashSet<DeviceKey> {
    dra.iter()
        .flat_map(|d| d.claims.iter().flatten())
        .flat_map(|c| &c.devices)
        .filter(|d| !d.admin)
        .map(key_of)
        .collect()
}

/// The slots of one physical GPU: the whole card, its fixed partitions, or the partitions that claims have made of it.
pub(super) fn cut(card: &[(DeviceKey, &Device)], taken: &HashSet<DeviceKey>, shape: &MigShape) -> Vec<SlotPlan> {
    let (parts, whole): (Vec<_>, Vec<_>) = card.iter().partition(|(_, d)| is_part(d));
    // Partitions on offer beside the whole card are alternatives: they exist once a claim holds them. So do those that
    // cannot all exist at once.
    let slices = |(_, d): &&(DeviceKey, &Device)| {
        let profile = d.profile.as_deref()?;
        crate::catalog::mig::slices(profile).map(|_| shape.needs(profile).0)
    };
    let all: Option<u32> = parts.iter().map(slices).sum();
    let on_demand = !whole.is_empty() || all.is_some_and(|n| n > shape.card().0);
    let made: Vec<_> = parts
        .iter()
        .filter(|(key, _)| !on_demand || taken.contains(key))
        .collect();
    let name = whole
        .iter()
        .find_map(|(_, d)| d.uuid.clone())
        .or_else(|| card.iter().find_map(|(_, d)| d.parent_uuid.clone()))
        .unwrap_or_else(|| card[0].0.2.clone());
    if made.is_empty() {
        let whole = if whole.is_empty() { &parts } else { &whole };
        return vec![SlotPlan {
            weight: WHOLE_GPU,
            sharers: 1,
            healthy: whole.iter().all(|(_, d)| d.taints.is_empty()),
            cause: Reason::Tainted,
            tainted_since: whole.iter().find_map(|(_, d)| d.taints.first()).and_then(|t| t.since),
            dra: whole.iter().map(|(key, _)| key.clone()).collect(),
            name: Some(name),
            ..SlotPlan::default()
        }];
    }
    // Profiles that name their slices ("3g.40gb") weigh them; other partitions are equal parts.
    let needs: Option<Vec<(u32, u32)>> = made
        .iter()
        .map(|(_, d)| {
            let profile = d.profile.as_deref()?;
            crate::catalog::mig::slices(profile).map(|_| shape.needs(profile))
        })
        .collect();
    let mut weights: Vec<u64> = match &needs {
        Some(needs) => needs.iter().map(|(slices, _)| u64::from(*slices)).collect(),
        None => vec![1; made.len()],
    };
    let left = match &needs {
        Some(needs) => {
            let left = needs.iter().fold(shape.card(), |left, (slices, units)| {
                (left.0.saturating_sub(*slices), left.1.saturating_sub(*units))
            });
            u64::from(shape.room(left))
        }
        None if on_demand => parts.len().saturating_sub(made.len()) as u64,
        None => 0,
    };
    if left > 0 {
        weights.push(left);
    }
    let shares = UsdPerHour::from_micros(WHOLE_GPU as i64).split_by(&weights);
    let mut plans: Vec<SlotPlan> = made
        .iter()
        .map(|(key, d)| SlotPlan {
            mig_profile: Some(d.profile.clone().unwrap_or_else(|| "partition".into())),
            sharers: 1,
            healthy: d.taints.is_empty(),
            cause: Reason::Tainted,
            tainted_since: d.taints.first().and_then(|t| t.since),
            dra: vec![key.clone()],
            name: Some(format!("{name}/{}", key.2)),
            ..SlotPlan::default()
        })
        .collect();
    if left > 0 {
        plans.push(SlotPlan {
            mig_profile: Some(if on_demand { "rest" } else { "unpartitioned" }.into()),
            sharers: 1,
            healthy: true,
            // What is left of a card that is cut on demand can still be asked for.
            dra: if on_demand {
                let left = parts.iter().filter(|(key, _)| !taken.contains(key));
                whole.iter().chain(left).map(|(key, _)| key.clone()).collect()
            } else {
                Vec::new()
            },
            rest: on_demand,
            name: Some(format!("{name}/{}", if on_demand { "rest" } else { "unpartitioned" })),
            ..SlotPlan::default()
        });
    }
    for (plan, share) in plans.iter_mut().zip(shares) {
        plan.weight = share.micros() as u64;
    }
    plans
}

/// Makes the pods that claims are reserved for the holders of their devices.
pub(super) fn assign(fleet: &mut Fleet, cluster: &Cluster, first_pod: usize, first_slot: usize, plans: &[SlotPlan]) {
    let mut by_device: HashMap<&DeviceKey, SlotId> = HashMap::new();
    for (offset, plan) in plans.iter().enumerate().filter(|(_, p)| !p.rest) {
        for key in &plan.dra {
            by_device.insert(key, SlotId(first_slot + offset));
        }
    }
    let mut pods: HashMap<(&str, &str, &str), PodId> = HashMap::new();
    for (offset, seen) in cluster.pods.iter().enumerate() {
        pods.insert((&seen.namespace, &seen.name, &seen.uid), PodId(first_pod + offset));
    }
    let dra = cluster.dra.as_deref();
    let index = fleet.clusters.len() - 1;
    // Claims by name: whether all they hold is in the inventory.
    let mut resolved: HashMap<(&str, &str), bool> = HashMap::new();
    let mut unplaced: BTreeMap<&str, u64> = BTreeMap::new();
    for claim in dra.iter().flat_map(|d| d.claims.iter().flatten()) {
        let held: BTreeSet<DeviceKey> = claim.devices.iter().filter(|d| !d.admin).map(key_of).collect();
        let slots: Vec<SlotId> = held.iter().filter_map(|key| by_device.get(key).copied()).collect();
        let whole = claim.allocated && slots.len() == held.len();
        resolved.insert((&claim.namespace, &claim.name), whole);
        for device in claim
            .devices
            .iter()
            .filter(|d| !d.admin && !by_device.contains_key(&key_of(d)))
        {
            *unplaced.entry(&device.pool).or_default() += 1;
        }
        let holders: Vec<PodId> = claim
            .pods
            .iter()
            .filter_map(|p| {
                pods.get(&(claim.namespace.as_str(), p.name.as_str(), p.uid.as_str()))
                    .copied()
            })
            .collect();
        let ended = |id: PodId| matches!(fleet.pods[id.0].phase, PodPhase::Succeeded | PodPhase::Failed);
        let live: Vec<PodId> = holders.iter().copied().filter(|id| !ended(*id)).collect();
        let unseen = holders.len() < claim.pods.len() && !cluster.pods_read.complete;
        if slots.is_empty() {
            continue;
        }
        let id = fleet.claims.len();
        fleet.claims.push(Claim {
            cluster: index,
            namespace: claim.namespace.clone(),
            name: claim.name.clone(),
            created_at: claim.created_at,
            ending: claim.deleted_at.is_some(),
            unused: live.is_empty() && !unseen && !claim.reserved_otherwise,
        });
        for slot in slots {
            fleet.slots[slot.0].claims.push(id);
            for pod in &live {
                if !fleet.slots[slot.0].holders.contains(pod) {
                    fleet.slots[slot.0].holders.push(*pod);
                }
                if !fleet.pods[pod.0].slots.contains(&slot) {
                    fleet.pods[pod.0].slots.push(slot);
                }
            }
        }
    }
    for (pool, count) in unplaced.into_iter().filter(|_| dra.is_some_and(|d| d.pools.is_some())) {
        fleet.gaps.push(Gap {
            source: format!("cluster {}", cluster.name),
            what: format!("{count} devices of DRA pool {pool} that claims hold"),
            reason: "no ResourceSlice publishes them".into(),
            effect: "their pods' GPUs are unknown, and free GPUs of their nodes are not called free".into(),
            remedy: "the driver is down or changed the pool while it was read: scan again".into(),
        });
    }
    let classes: HashSet<&str> = dra
        .iter()
        .flat_map(|d| d.classes.iter().flatten())
        .filter(|c| c.driver.is_some())
        .map(|c| c.name.as_str())
        .collect();
    for (offset, seen) in cluster.pods.iter().enumerate() {
        let pod = &mut fleet.pods[first_pod + offset];
        pod.unresolved_claims = seen
            .resource_claims
            .iter()
            .any(|name| resolved.get(&(seen.namespace.as_str(), name.as_str())) != Some(&true));
        if pod.node.is_some() || seen.resource_claims.is_empty() {
            continue;
        }
        let claims = dra.iter().flat_map(|d| d.claims.iter().flatten());
        pod.claimed_gpus = claims
            .filter(|c| c.namespace == seen.namespace && !c.allocated && seen.resource_claims.contains(&c.name))
            .flat_map(|c| &c.requests)
            .filter(|r| !r.admin && classes.contains(r.class.as_str()))
            .filter_map(|r| r.count)
            .fold(0, u64::saturating_add);
    }
}
