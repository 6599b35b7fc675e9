//! A node as slots: what its device plugin advertises, what DRA publishes, and what it was bought with.

use super::count::{self, Physical, Sharing};
use super::labels::{MigTrouble, mig_trouble, single_mig};
use super::{Around, Doubt, SlotPlan, amd, intel, mig, vgpu};
use crate::catalog::gpus::GpuFacts;
use crate::fleet::WHOLE_GPU;
use crate::fleet::dra::{self, DeviceKey, NodeDevices};
use crate::fleet::state::Reason;
use crate::snapshot::cluster::Node as Seen;
use crate::snapshot::resources::{self, ResourceKind};
use std::collections::{BTreeMap, HashSet};

/// More devices than any node advertises, shared 64-fold on 16 cards included: the count is an error of whoever wrote it.
pub(super) const MAX_DEVICES: u64 = 4096;

pub(super) fn absurd(seen: &Seen) -> bool {
    seen.capacity.devices.values().any(|n| *n > MAX_DEVICES)
}

/// A node cut into slots, and what could not be told of it.
#[derive(Debug, Default)]
pub(super) struct Cut {
    pub(super) slots: Vec<SlotPlan>,
    /// How many cards there are is not certain, and why.
    pub(super) doubt: Option<Doubt>,
}

/// Cuts a node into slots: whole GPUs, shared GPUs, vGPU profiles, MIG instances with the rest of their card.
pub(super) fn cut(seen: &Seen, gpu: Option<&'static GpuFacts>, of_type: Option<u32>, around: &Around<'_>) -> Cut {
    let dra = &around.dra;
    let free = &seen.allocatable.devices;
    // A plan is for what it asks, whatever the node is bought with.
    let physical = if seen.planned {
        Physical::default()
    } else {
        count::physical(seen, of_type, around)
    };
    let mut cut = Cut::default();
    let mut mig: BTreeMap<String, mig::Amount> = BTreeMap::new();
    let replicas = sharing_replicas(seen);
    let amounts = seen.capacity.devices.iter();
    let mut parts = false;
    for (resource, amount) in amounts.filter(|(_, n)| (1..=MAX_DEVICES).contains(*n)) {
        let usable = free.get(resource).copied().unwrap_or(0).min(*amount);
        let again = resources::NEURON_OTHERWISE.contains(&resource.as_str())
            && seen.capacity.devices.contains_key(resources::NEURON);
        if resources::kind(resource) != ResourceKind::Device || again {
            continue;
        }
        if let Some((mode, parts_of_one)) = amd::partition(seen, resource, *amount, gpu, of_type) {
            cut.doubt = cut
                .doubt
                .or_else(|| amd::doubt(seen, resource, *amount, parts_of_one, physical));
            cut.slots
                .extend(amd::slots(resource, &mode, parts_of_one, *amount, usable));
        } else if let Some(profile) = resource.strip_prefix("nvidia.com/mig-") {
            let plain = profile.trim_end_matches(".shared");
            let sharers = mig_replicas(seen, plain, profile != plain);
            mig.insert(plain.to_string(), mig::Amount::new(resource, *amount, usable, sharers));
        } else if let Some(profile) = single_mig(seen).filter(|_| whole_name(resource)) {
            let own = mig::Amount::new(resource, *amount, usable, replicas);
            mig.insert(profile.to_string(), own);
        } else if let Some(profile) = vgpu_of(seen, resource) {
            parts = true;
            if resource.as_str() != "nvidia.com/gpu" {
                cut.doubt = cut.doubt.or(Some(Doubt::vgpu(resource)));
            }
            cut.slots.extend(vgpu_slots(resource, profile, *amount, usable));
        } else if is_whole(resource) {
            let labelled = if resource.starts_with("nvidia.com/") || resource == "gres/gpu" {
                replicas
            } else if intel::RESOURCES.contains(&resource.as_str()) {
                intel::sharers(seen).unwrap_or(1)
            } else {
                1
            };
            let (sharers, doubt) = match labelled {
                1 => match count::sharing(seen, resource, *amount, physical, around) {
                    Sharing::Whole => (1, None),
                    Sharing::Shares(sharers) => (sharers, None),
                    Sharing::Unknown => (*amount, Some(Doubt::shares(resource, *amount))),
                },
                sharers => (sharers, None),
            };
            cut.doubt = cut.doubt.or(doubt);
            cut.slots.extend(whole(resource, *amount, usable, sharers));
        }
    }
    let shape = mig::MigShape::of(gpu);
    let for_mig = physical.owned.map(|n| n.saturating_sub(cards(&cut.slots)));
    cut.slots.extend(mig::mig_slots(&mig, &shape, for_mig));
    if let Some(devices) = dra.devices {
        cut.slots = with_dra(cut.slots, devices, dra.taken, &shape, physical.owned);
    }
    if !parts {
        cut.slots
            .extend(unadvertised(seen, cards(&cut.slots), physical, around));
    }
    cut
}

/// Cards that a plugin advertises `sharers` times each.
fn whole(resource: &str, amount: u64, usable: u64, sharers: u64) -> impl Iterator<Item = SlotPlan> {
    (0..amount.div_ceil(sharers)).map(move |index| SlotPlan {
        weight: WHOLE_GPU,
        resource: Some(resource.to_string()),
        sharers,
        healthy: index < usable.div_ceil(sharers),
        cause: Reason::LostDevice,
        ..SlotPlan::default()
    })
}

/// A device plugin that is down, or GPUs that fell off the bus: the node still has, and costs, what it was bought with.
fn unadvertised(seen: &Seen, advertised: u64, physical: Physical, around: &Around<'_>) -> Vec<SlotPlan> {
    let driver = around.exporter.len() as u64;
    let owned = physical.owned.unwrap_or(advertised);
    let cause = |index: u64| match mig_trouble(seen) {
        Some(MigTrouble::Changing) => Reason::MigChanging,
        Some(MigTrouble::Invalid | MigTrouble::Failed) => Reason::MigLayout,
        // The driver shows these: they are on the bus, and only the plugin does not hand them out.
        None if index < driver => Reason::NotAdvertised,
        None if driver > 0 => Reason::LostDevice,
        // Something is advertised, so that the plugin runs; without any, nobody can tell plugin from cards.
        None if advertised > 0 => Reason::LostDevice,
        None => Reason::NotAdvertised,
    };
    (advertised..owned)
        .map(|index| SlotPlan {
            weight: WHOLE_GPU,
            sharers: 1,
            // An unbelievable count, or one that was not read, says nothing about the cards' health.
            healthy: absurd(seen) || around.dra.is_blind(seen),
            cause: cause(index),
            ..SlotPlan::default()
        })
        .collect()
}

fn vgpu_of(seen: &Seen, resource: &str) -> Option<vgpu::Profile> {
    let product = seen
        .labels
        .get("nvidia.com/gpu.product")
        .filter(|_| whole_name(resource));
    vgpu::of_product(resource).or_else(|| vgpu::of_product(product?))
}

fn vgpu_slots(resource: &str, profile: vgpu::Profile, amount: u64, usable: u64) -> impl Iterator<Item = SlotPlan> {
    let name = resource.rsplit('/').next().unwrap_or(resource).to_string();
    let resource = resource.to_string();
    (0..amount).map(move |index| SlotPlan {
        weight: profile.weight(amount),
        mig_profile: (profile.per_card != Some(1)).then(|| name.clone()),
        resource: Some(resource.clone()),
        sharers: 1,
        healthy: index < usable,
        cause: Reason::LostDevice,
        ..SlotPlan::default()
    })
}

fn cards(slots: &[SlotPlan]) -> u64 {
    slots.iter().map(|s| s.weight).sum::<u64>().div_ceil(WHOLE_GPU)
}

/// One inventory of a node whose GPUs a device plugin and DRA hand out. Where the node has enough GPUs for both, they are
/// different ones; else both speak of the same GPUs, and each is counted once.
fn with_dra(
    plugin: Vec<SlotPlan>,
    devices: &NodeDevices<'_>,
    taken: &HashSet<DeviceKey>,
    shape: &mig::MigShape,
    owned: Option<u64>,
) -> Vec<SlotPlan> {
    let published = devices.cards.len() as u64;
    let of_plugin = cards(&plugin);
    // Without a count of the node's own, the larger of the two is all there is.
    let all = owned.unwrap_or(0).max(published).max(of_plugin);
    let mut twice = (published + of_plugin).saturating_sub(all) as usize;
    let mut shared: Vec<SlotPlan> = plugin;
    let mut own: Vec<Vec<SlotPlan>> = devices.cards.iter().map(|c| dra::cut(c, taken, shape)).collect();
    // The same card in the plugin's count: one slot that either may hand out. What a claim holds is the claim's, so the
    // others are taken for the plugin's first.
    let mut order: Vec<&mut Vec<SlotPlan>> = own.iter_mut().collect();
    order.sort_by_key(|card| card.iter().any(|s| s.dra.iter().any(|key| taken.contains(key))));
    for card in order {
        if twice > 0
            && let [only] = card.as_mut_slice()
            && let Some(at) = shared.iter().position(|s| s.mig_profile.is_none())
        {
            let of_plugin = shared.remove(at);
            only.resource = of_plugin.resource;
            only.sharers = of_plugin.sharers;
            only.healthy &= of_plugin.healthy;
            twice -= 1;
        }
    }
    // What is still counted twice is cut in both: the plugin's view stays, card by card, as far as DRA's has no holder.
    while twice > 0 {
        let Some(at) = shared.iter().rposition(|s| s.weight == WHOLE_GPU) else {
            break;
        };
        shared.remove(at);
        twice -= 1;
    }
    if twice > 0 && shared.iter().any(|s| s.mig_profile.is_some()) {
        shared.clear();
    }
    shared.extend(own.into_iter().flatten());
    shared
}

/// Resources that count whole devices (or, shared, replicas of them).
fn is_whole(resource: &str) -> bool {
    matches!(
        resource,
        "nvidia.com/gpu"
            | "nvidia.com/gpu.shared"
            | "amd.com/gpu"
            | "habana.ai/gaudi"
            | "google.com/tpu"
            | "gpu.intel.com/i915"
            | "gpu.intel.com/xe"
            | "aws.amazon.com/neuron"
            | "aws.amazon.com/neurondevice"
            | "gres/gpu"
    ) || [
        "nvidia.com/",
        "huawei.com/Ascend",
        "rebellions.ai/",
        "furiosa.ai/",
        "cambricon.com/",
        "metax-tech.com/",
        "mthreads.com/",
        "iluvatar.ai/",
    ]
    .iter()
    .any(|p| resource.starts_with(p) && !resource.contains("mig-"))
}

fn number(seen: &Seen, key: &str) -> Option<u64> {
    seen.labels.get(key)?.parse().ok()
}

/// Under one profile a node, instances are handed out as if they were GPUs.
fn whole_name(resource: &str) -> bool {
    matches!(resource, "nvidia.com/gpu" | "nvidia.com/gpu.shared")
}

/// How many pods an instance of a profile is advertised to, as GFD labels it under the mixed strategy. `shared`: the
/// resource's name says that it is shared at all.
fn mig_replicas(seen: &Seen, profile: &str, shared: bool) -> u64 {
    let label = |end: &str| seen.labels.get(&format!("nvidia.com/mig-{profile}.{end}"));
    let strategy = label("sharing-strategy").map_or("none", String::as_str);
    // Before GFD told a strategy for each resource, the product's name did.
    let shared = shared || label("product").is_some_and(|p| p.ends_with("-SHARED"));
    label("replicas")
        .and_then(|n| n.parse().ok())
        .filter(|n| *n > 1 && (shared || strategy != "none"))
        .unwrap_or(1)
}

/// How many pods one GPU is advertised to: GFD's replicas, or GKE's clients; 1 without sharing.
fn sharing_replicas(seen: &Seen) -> u64 {
    let strategy = seen
        .labels
        .get("nvidia.com/gpu.sharing-strategy")
        .map_or("none", String::as_str);
    let gfd = number(seen, "nvidia.com/gpu.replicas")
        .filter(|n| *n > 1 && (strategy != "none" || seen.capacity.devices.contains_key("nvidia.com/gpu.shared")));
    let gke = seen
        .labels
        .get("cloud.google.com/gke-gpu-sharing-strategy")
        .and_then(|_| number(seen, "cloud.google.com/gke-max-shared-clients-per-gpu"))
        .filter(|n| *n > 1);
    gfd.or(gke).unwrap_or(1)
}
