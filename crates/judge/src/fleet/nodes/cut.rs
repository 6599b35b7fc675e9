//! A node as slots: what its device plugin advertises, what DRA publishes, and what it was bought with.

use super::{DraView, SlotPlan, amd, intel, mig};
use crate::catalog::gpus::GpuFacts;
use crate::fleet::WHOLE_GPU;
use crate::fleet::dra::{self, DeviceKey, NodeDevices};
use crate::snapshot::cluster::Node as Seen;
use std::collections::{BTreeMap, HashSet};

/// HAMi, Volcano and Alibaba hand out parts of GPUs in resources whose holders cannot be told apart.
pub(super) const CUSTOM_SHARING: &[&str] = &[
    "nvidia.com/gpumem",
    "nvidia.com/gpucores",
    "nvidia.com/vgpu",
    "volcano.sh/vgpu",
    "aliyun.com/gpu-mem",
    "tencent.com/vcuda",
];

/// More devices than any node advertises, shared 64-fold on 16 cards included: the count is an error of whoever wrote it.
pub(super) const MAX_DEVICES: u64 = 4096;

pub(super) fn absurd(seen: &Seen) -> bool {
    seen.capacity.devices.values().any(|n| *n > MAX_DEVICES)
}

/// Cuts a node into slots: whole GPUs, shared GPUs, MIG instances with the rest of their card.
pub(super) fn cut(
    seen: &Seen,
    gpu: Option<&'static GpuFacts>,
    of_type: Option<u32>,
    dra: &DraView<'_>,
) -> Vec<SlotPlan> {
    let capacity = &seen.capacity.devices;
    let free = &seen.allocatable.devices;
    let mut slots = Vec::new();
    let label_count = |key: &str| {
        seen.labels
            .get(key)
            .and_then(|v| v.parse::<u64>().ok())
            .filter(|n| (1..=64).contains(n))
    };
    let replicas = sharing_replicas(seen);
    let single_mig = seen
        .labels
        .get("nvidia.com/gpu.product")
        .and_then(|p| p.split_once("-MIG-"))
        .map(|(_, profile)| profile.trim_end_matches("-SHARED"))
        .or_else(|| {
            seen.labels
                .get(GKE_PARTITION)
                .map(String::as_str)
                .filter(|p| !p.is_empty())
        });
    let mut mig: BTreeMap<String, mig::Amount> = BTreeMap::new();
    for (resource, amount) in capacity.iter().filter(|(_, n)| (1..=MAX_DEVICES).contains(*n)) {
        let usable = free.get(resource).copied().unwrap_or(0).min(*amount);
        if CUSTOM_SHARING.iter().any(|c| resource.starts_with(c)) {
            continue;
        }
        if let Some((mode, parts)) = amd::partition(seen, resource, *amount, gpu, of_type) {
            slots.extend(amd::slots(resource, &mode, parts, *amount, usable));
            continue;
        }
        if let Some(profile) = resource.strip_prefix("nvidia.com/mig-") {
            let plain = profile.trim_end_matches(".shared");
            let sharers = mig_replicas(seen, plain, profile != plain);
            mig.insert(plain.to_string(), mig::Amount::new(resource, *amount, usable, sharers));
        } else if let Some(profile) = single_mig.filter(|_| whole_name(resource)) {
            let own = mig::Amount::new(resource, *amount, usable, replicas);
            mig.insert(profile.to_string(), own);
        } else if is_whole(resource) {
            let sharers = if resource.starts_with("nvidia.com/") {
                replicas
            } else if intel::RESOURCES.contains(&resource.as_str()) {
                intel::sharers(seen).unwrap_or(1)
            } else {
                1
            };
            let cards = amount.div_ceil(sharers);
            for index in 0..cards {
                slots.push(SlotPlan {
                    weight: WHOLE_GPU,
                    resource: Some(resource.clone()),
                    sharers,
                    healthy: index < usable.div_ceil(sharers),
                    ..SlotPlan::default()
                });
            }
        }
    }
    let shape = mig::MigShape::of(gpu);
    let owned = of_type.map(u64::from).or_else(|| {
        [
            "karpenter.k8s.aws/instance-gpu-count",
            "eks.amazonaws.com/instance-gpu-count",
            "karpenter.azure.com/sku-gpu-count",
            "cloud.google.com/gke-accelerator-count",
            "gpu.nvidia.com/count",
        ]
        .iter()
        .find_map(|k| label_count(k))
        .or_else(|| label_count("nvidia.com/gpu.count").filter(|_| single_mig.is_none()))
    });
    let for_mig = owned.map(|n| n.saturating_sub(cards(&slots)));
    slots.extend(mig::mig_slots(&mig, &shape, for_mig));
    // A device plugin that is down, or GPUs that fell off the bus: the node still has, and costs, what it was bought with.
    if let Some(devices) = dra.devices {
        slots = with_dra(slots, devices, dra.taken, &shape, owned);
    }
    let seen_gpus = cards(&slots);
    for _ in seen_gpus..owned.unwrap_or(seen_gpus) {
        slots.push(SlotPlan {
            weight: WHOLE_GPU,
            sharers: 1,
            // An unbelievable count, or one that was not read, says nothing about the cards' health.
            healthy: absurd(seen) || dra.is_blind(seen),
            ..SlotPlan::default()
        });
    }
    slots
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

/// GKE advertises the instances of a node pool that it cuts as whole GPUs, and labels their profile ("1g.5gb").
const GKE_PARTITION: &str = "cloud.google.com/gke-gpu-partition-size";

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
