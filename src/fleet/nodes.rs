//! GPU nodes: which GPU, how many, what they cost, how they are cut.

use super::dra::{self, DeviceKey, NodeDevices};
use super::{CapacityType, Node, NodePrice, Slot, WHOLE_GPU};
use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::instances;
use crate::catalog::prices::{PriceBook, PriceQuery, price_of};
use crate::snapshot::cluster::Node as Seen;
use crate::units::UsdPerHour;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashSet};

/// A slot under construction, with the resource name that pods ask for to get it.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotPlan {
    pub(super) weight: u64,
    pub(super) mig_profile: Option<String>,
    /// `None`: the unpartitioned rest of a MIG GPU, which nobody can ask for.
    pub(super) resource: Option<String>,
    /// How many pods may share it.
    pub(super) sharers: u64,
    pub(super) healthy: bool,
    /// Its driver tainted it: since when, as far as that is told.
    pub(super) tainted_since: Option<Timestamp>,
    /// DRA devices that are this slot.
    pub(super) dra: Vec<DeviceKey>,
    /// Left over on a card that claims have cut: no device of its own, but new ones can be made of it.
    pub(super) rest: bool,
    /// As the source calls it: the UUID.
    pub(super) name: Option<String>,
}

/// What the labels and the catalogue say of a node.
pub(super) struct Described {
    pub(super) node: Node,
    pub(super) slots: Vec<SlotPlan>,
    /// A GPU name nobody knows, for the gaps.
    pub(super) unknown_gpu: Option<String>,
    /// The user's price entry that matched.
    pub(super) price_entry: Option<usize>,
}

/// GPU name labels, most exact first, with the label that tells one GPU's memory in MiB.
const GPU_LABELS: &[(&str, Option<&str>)] = &[
    ("nvidia.com/gpu.product", Some("nvidia.com/gpu.memory")),
    ("cloud.google.com/gke-accelerator", None),
    ("gpu.nvidia.com/class", None),
    ("gpu.nvidia.com/model", Some("gpu.nvidia.com/vram")),
    (
        "karpenter.k8s.aws/instance-gpu-name",
        Some("karpenter.k8s.aws/instance-gpu-memory"),
    ),
    (
        "eks.amazonaws.com/instance-gpu-name",
        Some("eks.amazonaws.com/instance-gpu-memory"),
    ),
    ("karpenter.azure.com/sku-gpu-name", None),
    ("amd.com/gpu.product-name", None),
    ("beta.amd.com/gpu.product-name", None),
    ("amd.com/gpu.device-id", None),
    ("beta.amd.com/gpu.device-id", None),
    ("k8s.amazonaws.com/accelerator", None),
    ("skypilot.co/accelerator", None),
];

/// GKE's oldest names do not tell the memory: machine types a2-highgpu and n1 have these (GKE's list of GPU platforms).
const GKE_NAMES: &[(&str, &str)] = &[
    ("nvidia-tesla-a100", "A100-SXM4-40GB"),
    ("nvidia-tesla-v100", "V100-SXM2-16GB"),
];

pub(super) struct Around<'a> {
    pub(super) cluster: usize,
    pub(super) cluster_name: &'a str,
    pub(super) at: Timestamp,
    pub(super) prices: &'a PriceBook,
    pub(super) stale_days: u64,
    /// The driver's name of the GPUs on this node, as an exporter told it.
    pub(super) exporter_model: Option<&'a str>,
    pub(super) dra: DraView<'a>,
}

/// What DRA says of one node.
#[derive(Clone, Copy)]
pub(super) struct DraView<'a> {
    pub(super) devices: Option<&'a NodeDevices<'a>>,
    /// Devices that claims hold, in the whole cluster.
    pub(super) taken: &'a HashSet<DeviceKey>,
    /// resource.k8s.io is served, but what drivers publish could not be read.
    pub(super) refused: bool,
}

impl DraView<'_> {
    /// There may be devices that were not seen.
    fn is_blind(&self, seen: &Seen) -> bool {
        self.devices.is_some_and(|d| d.incomplete) || (self.refused && seen.capacity.devices.is_empty())
    }
}

pub(super) fn describe(seen: &Seen, around: &Around<'_>) -> Described {
    let label = |key: &str| seen.labels.get(key).map(String::as_str).filter(|v| !v.is_empty());
    let first = |keys: &[&str]| keys.iter().find_map(|k| label(k)).map(String::from);
    let instance_type = first(&[
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "karpenter.azure.com/sku-name",
    ]);
    let of_type = instance_type.as_deref().and_then(instances::gpu_of_type);
    let (gpu, gpu_name, unknown_gpu) = gpu_of(seen, of_type.map(|(g, _)| g), around);
    let slots = cut(seen, gpu, of_type.map(|(_, n)| n), &around.dra);
    let gpus = (slots.iter().map(|s| s.weight).sum::<u64>() / WHOLE_GPU) as u32;
    let cloud = cloud_of(seen, instance_type.as_deref());
    let region = first(&[
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/region",
    ]);
    let capacity_type = capacity_type(seen, cloud.as_deref());
    let query = PriceQuery {
        cluster: around.cluster_name,
        node: &seen.name,
        cloud: cloud.as_deref(),
        instance_type: instance_type.as_deref(),
        region: region.as_deref(),
        capacity_type,
        gpu,
        gpus,
    };
    let (price, price_entry) = price_of(&query, around.prices, around.at, around.stale_days);
    let cordon = seen.taints.iter().find(|t| t.key == "node.kubernetes.io/unschedulable");
    let node = Node {
        cluster: around.cluster,
        name: seen.name.clone(),
        pool: first(POOL_LABELS).unwrap_or_default(),
        cloud,
        instance_type,
        region,
        zone: first(&["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]),
        capacity_type,
        gpu,
        gpu_name,
        gpus,
        price: NodePrice { ..price },
        created_at: seen.created_at,
        ready: seen.ready.clone(),
        unschedulable: seen.unschedulable,
        unschedulable_since: cordon.and_then(|t| t.since),
        being_removed: seen.taints.iter().any(|t| {
            t.key.starts_with("ToBeDeleted")
                || t.key.starts_with("DeletionCandidate")
                || t.key.starts_with("karpenter.sh/disrupt")
        }),
        taints: seen.taints.clone(),
        labels: seen.labels.clone(),
        custom_sharing: seen
            .capacity
            .devices
            .keys()
            .any(|r| CUSTOM_SHARING.iter().any(|c| r.starts_with(c)))
            || absurd(seen)
            || around.dra.is_blind(seen),
        allocatable_cpu: seen.allocatable.cpu,
        allocatable_memory: seen.allocatable.memory,
        allocatable_pods: seen.allocatable.pods,
        ignore: seen.ignore.clone(),
        ..Node::default()
    };
    Described {
        node,
        slots,
        unknown_gpu,
        price_entry,
    }
}

/// HAMi, Volcano and Alibaba hand out parts of GPUs in resources whose holders cannot be told apart.
const CUSTOM_SHARING: &[&str] = &[
    "nvidia.com/gpumem",
    "nvidia.com/gpucores",
    "nvidia.com/vgpu",
    "volcano.sh/vgpu",
    "aliyun.com/gpu-mem",
    "tencent.com/vcuda",
];

const POOL_LABELS: &[&str] = &[
    "karpenter.sh/nodepool",
    "eks.amazonaws.com/nodegroup",
    "alpha.eksctl.io/nodegroup-name",
    "cloud.google.com/gke-nodepool",
    "agentpool",
    "kubernetes.azure.com/agentpool",
    "oke.oraclecloud.com/pool.name",
    "doks.digitalocean.com/node-pool",
    "kops.k8s.io/instancegroup",
    "node-pool",
    "nodepool",
];

fn gpu_of(
    seen: &Seen,
    of_type: Option<&'static GpuFacts>,
    around: &Around<'_>,
) -> (Option<&'static GpuFacts>, String, Option<String>) {
    let mut named = None;
    for (key, memory_key) in GPU_LABELS {
        let Some(name) = seen.labels.get(*key).filter(|v| !v.is_empty()) else {
            continue;
        };
        // Under single-strategy MIG the memory label is an instance's: it cannot break a tie between whole cards.
        let memory = memory_key
            .filter(|_| !name.contains("-MIG-"))
            .and_then(|k| seen.labels.get(k)?.parse().ok());
        let name = GKE_NAMES
            .iter()
            .find(|(old, _)| old == name)
            .map_or(name.as_str(), |(_, own)| *own);
        if let Some(gpu) = gpus::find_with_memory(name, memory) {
            return (Some(gpu), gpu.name.clone(), None);
        }
        named.get_or_insert_with(|| name.to_string());
    }
    // The node labeller's oldest form counts devices in the value and names them in the key.
    let counted = seen.labels.keys().find_map(|key| {
        let name = key
            .strip_prefix("beta.amd.com/gpu.product-name.")
            .or_else(|| key.strip_prefix("beta.amd.com/gpu.device-id."))?;
        gpus::find(name)
    });
    if let Some(gpu) = counted {
        return (Some(gpu), gpu.name.clone(), None);
    }
    let published = around.dra.devices.and_then(NodeDevices::product);
    let exporter = around.exporter_model;
    let by_driver = published.and_then(|(name, memory)| gpus::find_with_memory(name, memory));
    if let Some(gpu) = by_driver.or(of_type).or_else(|| exporter.and_then(gpus::find)) {
        return (Some(gpu), gpu.name.clone(), None);
    }
    let name = named
        .or_else(|| published.map(|(name, _)| name.to_string()))
        .or_else(|| exporter.map(String::from))
        .or_else(|| accelerator_of(seen).map(String::from));
    (
        None,
        name.clone().unwrap_or_else(|| "unknown".into()),
        Some(name.unwrap_or_else(|| "no label names it".into())),
    )
}

/// What stands in for a name where only the resource tells: "google.com/tpu"; GKE labels which TPU it is.
fn accelerator_of(seen: &Seen) -> Option<&str> {
    if let Some(tpu) = seen.labels.get("cloud.google.com/gke-tpu-accelerator") {
        return Some(tpu);
    }
    seen.capacity
        .devices
        .keys()
        .find(|r| !r.starts_with("nvidia.com/"))
        .map(String::as_str)
}

fn cloud_of(seen: &Seen, instance_type: Option<&str>) -> Option<String> {
    let by_provider = seen.provider.as_deref().map(|p| match p {
        "gce" => "gcp",
        "oci" | "ocid1" => "oci",
        other => other,
    });
    let row = instance_type.and_then(|t| instances::of_type(t).next());
    match (by_provider, row) {
        (Some(cloud), _) if matches!(cloud, "aws" | "gcp" | "azure" | "oci") => Some(cloud.into()),
        (_, Some(row)) => Some(row.cloud.clone()),
        (Some("kind" | "k3s" | "metal3" | "baremetal" | "vsphere" | "openstack" | "proxmox" | "nutanix"), None) => None,
        (other, None) => other.map(String::from),
    }
}

fn capacity_type(seen: &Seen, cloud: Option<&str>) -> CapacityType {
    let value = |keys: &[&str]| {
        keys.iter()
            .find_map(|k| seen.labels.get(*k))
            .map(|v| v.to_ascii_lowercase())
    };
    let told = value(&[
        "karpenter.sh/capacity-type",
        "eks.amazonaws.com/capacityType",
        "kubernetes.azure.com/scalesetpriority",
        "kubernetes.azure.com/priority",
        "node.kubernetes.io/capacity-type",
    ]);
    match told.as_deref() {
        Some("spot") => return CapacityType::Spot,
        Some("on-demand" | "on_demand" | "regular") => return CapacityType::OnDemand,
        Some("reserved") => {
            let block = seen
                .labels
                .get("karpenter.k8s.aws/capacity-reservation-type")
                .is_some_and(|v| v == "capacity-block");
            return if block {
                CapacityType::CapacityBlock
            } else {
                CapacityType::Reserved
            };
        }
        Some("capacity_block") => return CapacityType::CapacityBlock,
        _ => {}
    }
    let is_true = |key: &str| seen.labels.get(key).is_some_and(|v| v == "true");
    if is_true("cloud.google.com/gke-spot")
        || is_true("cloud.google.com/gke-preemptible")
        || is_true("oci.oraclecloud.com/oke-is-preemptible")
    {
        return CapacityType::Spot;
    }
    match cloud {
        // These clouds label what is not on-demand; a missing label is the answer. Commitments are a billing matter
        // that no label shows: the price file is where they belong.
        Some("gcp" | "azure") => CapacityType::OnDemand,
        None if seen.provider.is_none() => CapacityType::Owned,
        _ => CapacityType::Unknown,
    }
}

/// More devices than any node advertises, shared 64-fold on 16 cards included: the count is an error of whoever wrote it.
const MAX_DEVICES: u64 = 4096;

fn absurd(seen: &Seen) -> bool {
    seen.capacity.devices.values().any(|n| *n > MAX_DEVICES)
}

/// Cuts a node into slots: whole GPUs, shared GPUs, MIG instances with the rest of their card.
fn cut(seen: &Seen, gpu: Option<&'static GpuFacts>, of_type: Option<u32>, dra: &DraView<'_>) -> Vec<SlotPlan> {
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
        .map(|(_, profile)| profile.trim_end_matches("-SHARED").to_string());
    let mut mig: BTreeMap<String, (String, u64, u64)> = BTreeMap::new();
    for (resource, amount) in capacity.iter().filter(|(_, n)| (1..=MAX_DEVICES).contains(*n)) {
        let usable = free.get(resource).copied().unwrap_or(0).min(*amount);
        if CUSTOM_SHARING.iter().any(|c| resource.starts_with(c)) {
            continue;
        }
        if let Some((mode, parts)) = amd_partition(seen, resource, *amount, gpu, of_type) {
            slots.extend(amd_slots(resource, &mode, parts, *amount, usable));
            continue;
        }
        if let Some(profile) = resource.strip_prefix("nvidia.com/mig-") {
            mig.insert(
                profile.trim_end_matches(".shared").to_string(),
                (resource.clone(), *amount, usable),
            );
        } else if let Some(profile) = single_mig.as_ref().filter(|_| resource == "nvidia.com/gpu") {
            mig.insert(profile.clone(), (resource.clone(), *amount, usable));
        } else if is_whole(resource) {
            let sharers = if resource.starts_with("nvidia.com/") {
                replicas
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
    let pieces = gpu.map_or(7, GpuFacts::mig_slices);
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
    slots.extend(mig_slots(&mig, &MigShape::of(gpu), for_mig));
    // A device plugin that is down, or GPUs that fell off the bus: the node still has, and costs, what it was bought with.
    if let Some(devices) = dra.devices {
        slots = with_dra(slots, devices, dra.taken, pieces, owned);
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
    pieces: u32,
    owned: Option<u64>,
) -> Vec<SlotPlan> {
    let published = devices.cards.len() as u64;
    let of_plugin = cards(&plugin);
    // Without a count of the node's own, the larger of the two is all there is.
    let all = owned.unwrap_or(0).max(published).max(of_plugin);
    let mut twice = (published + of_plugin).saturating_sub(all) as usize;
    let mut shared: Vec<SlotPlan> = plugin;
    let mut own: Vec<Vec<SlotPlan>> = devices.cards.iter().map(|c| dra::cut(c, taken, pieces)).collect();
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

/// The partition mode of AMD devices in a resource, and how many of them make one GPU: "cpx" is one a compute die.
/// The device plugin names the mode in the resource (mixed strategy) or counts partitions as amd.com/gpu (single).
fn amd_partition(
    seen: &Seen,
    resource: &str,
    amount: u64,
    gpu: Option<&GpuFacts>,
    of_type: Option<u32>,
) -> Option<(String, u64)> {
    let name = resource.strip_prefix("amd.com/")?;
    let label = [
        "amd.com/compute-memory-partition",
        "amd.com/gpu.compute-memory-partition",
    ]
    .iter()
    .find_map(|k| seen.labels.get(*k).map(String::as_str));
    let mode = if name == "gpu" { label? } else { name };
    let dies = match gpu.map(|g| g.name.as_str()) {
        // Compute dies: AMD CDNA 3 and CDNA 4 white papers.
        Some("MI300A") => Some(6),
        Some("MI300X" | "MI325X" | "MI350X" | "MI355X") => Some(8),
        _ => None,
    };
    let parts = match mode.split('_').next()? {
        "spx" => 1,
        "dpx" => 2,
        "tpx" => 3,
        "qpx" => 4,
        "cpx" => dies.or_else(|| {
            of_type
                .map(u64::from)
                .filter(|n| *n > 0 && amount.is_multiple_of(*n))
                .map(|n| amount / n)
        })?,
        _ => return None,
    };
    (parts > 1 || name != "gpu").then(|| (mode.to_string(), parts))
}

fn amd_slots(resource: &str, mode: &str, parts: u64, amount: u64, usable: u64) -> Vec<SlotPlan> {
    let shares = UsdPerHour::from_micros(WHOLE_GPU as i64).split_by(&vec![1; parts as usize]);
    // A card of which partitions are missing is whole all the same.
    let all = amount.div_ceil(parts) * parts;
    (0..all)
        .map(|index| SlotPlan {
            weight: shares[(index % parts) as usize].micros() as u64,
            mig_profile: (parts > 1).then(|| mode.to_string()),
            resource: Some(resource.to_string()),
            sharers: 1,
            healthy: index < usable,
            ..SlotPlan::default()
        })
        .collect()
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

/// How many pods one GPU is advertised to: GFD's replicas, or GKE's clients; 1 without sharing.
fn sharing_replicas(seen: &Seen) -> u64 {
    let number = |key: &str| seen.labels.get(key).and_then(|v| v.parse::<u64>().ok());
    let strategy = seen
        .labels
        .get("nvidia.com/gpu.sharing-strategy")
        .map_or("none", String::as_str);
    let gfd = number("nvidia.com/gpu.replicas")
        .filter(|n| *n > 1 && (strategy != "none" || seen.capacity.devices.contains_key("nvidia.com/gpu.shared")));
    let gke = seen
        .labels
        .get("cloud.google.com/gke-gpu-sharing-strategy")
        .and_then(|_| number("cloud.google.com/gke-max-shared-clients-per-gpu"))
        .filter(|n| *n > 1);
    gfd.or(gke).unwrap_or(1)
}

/// What instances take of a card: compute slices, and memory units (the smallest profile's memory is one).
struct MigShape {
    pieces: u32,
    /// GB of one unit, and units of a card; `None`: the card is unknown, and memory no bound.
    memory: Option<(f64, u32)>,
}

impl MigShape {
    fn of(gpu: Option<&GpuFacts>) -> Self {
        let sizes = || {
            gpu.iter()
                .flat_map(|g| &g.mig_profiles)
                .filter_map(|p| gigabytes(&p.name))
        };
        let unit = sizes().reduce(f64::min);
        let whole = sizes().reduce(f64::max);
        Self {
            pieces: gpu.map_or(7, GpuFacts::mig_slices),
            memory: unit
                .zip(whole)
                .map(|(unit, whole)| (unit, (whole / unit).round() as u32)),
        }
    }

    /// Slices and units of a profile.
    fn needs(&self, profile: &str) -> (u32, u32) {
        let slices = compute_slices(profile).unwrap_or(1).clamp(1, self.pieces);
        let units = self
            .memory
            .zip(gigabytes(profile))
            .map(|((unit, all), gb)| ((gb / unit).round() as u32).clamp(1, all));
        (slices, units.unwrap_or(0))
    }

    fn card(&self) -> (u32, u32) {
        (self.pieces, self.memory.map_or(0, |(_, all)| all))
    }
}

/// "1g.10gb" → 10; "1g.10gb.me" too.
fn gigabytes(profile: &str) -> Option<f64> {
    profile
        .split(['.', '+'])
        .find_map(|part| part.strip_suffix("gb")?.parse().ok())
}

/// A card while instances are put on it: slices and memory units left, instances.
type MigCard = ((u32, u32), Vec<(u32, SlotPlan)>);

/// First fit, largest first, on as many cards as it takes; with `spread`, on the emptiest of that many cards.
fn pack(instances: &[((u32, u32), SlotPlan)], shape: &MigShape, spread: Option<u64>) -> Vec<MigCard> {
    let mut cards: Vec<MigCard> = (0..spread.unwrap_or(0)).map(|_| (shape.card(), Vec::new())).collect();
    for ((slices, units), plan) in instances {
        let fits = |c: &&mut MigCard| c.0.0 >= *slices && c.0.1 >= *units;
        let open = if spread.is_some() {
            cards.iter_mut().filter(fits).max_by_key(|c| c.0)
        } else {
            cards.iter_mut().find(fits)
        };
        if let Some((left, held)) = open {
            *left = (left.0 - slices, left.1 - units);
            held.push((*slices, plan.clone()));
        } else {
            let whole = shape.card();
            let left = (whole.0.saturating_sub(*slices), whole.1.saturating_sub(*units));
            cards.push((left, vec![(*slices, plan.clone())]));
        }
    }
    cards.retain(|(_, held)| !held.is_empty());
    cards
}

/// Packs instances into cards; each card's rest becomes a slot nobody can ask for. `owned`: cards there are for them.
fn mig_slots(mig: &BTreeMap<String, (String, u64, u64)>, shape: &MigShape, owned: Option<u64>) -> Vec<SlotPlan> {
    let mut instances: Vec<((u32, u32), SlotPlan)> = Vec::new();
    for (profile, (resource, amount, usable)) in mig {
        let needs = shape.needs(profile);
        for index in 0..*amount {
            instances.push((
                needs,
                SlotPlan {
                    mig_profile: Some(profile.clone()),
                    resource: Some(resource.clone()),
                    sharers: 1,
                    healthy: index < *usable,
                    ..SlotPlan::default()
                },
            ));
        }
    }
    instances.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.mig_profile.cmp(&b.1.mig_profile)));
    // Room for another instance needs a slice and memory; what memory leaves no room for belongs to the instances.
    let room = |(slices, units): (u32, u32)| {
        if shape.memory.is_some() && units == 0 {
            0
        } else {
            slices
        }
    };
    let mut cards = pack(&instances, shape, None);
    // As tight as can be, cards are left over that do have instances: those are not lost, but cut in part.
    if let Some(owned) = owned.filter(|n| *n > cards.len() as u64 && cards.iter().any(|c| room(c.0) > 0)) {
        cards = pack(&instances, shape, Some(owned));
    }
    let mut slots = Vec::new();
    for (left, held) in cards {
        let left = room(left);
        let mut weights: Vec<u64> = held.iter().map(|(s, _)| u64::from(*s)).collect();
        if left > 0 {
            weights.push(u64::from(left));
        }
        let shares = UsdPerHour::from_micros(WHOLE_GPU as i64).split_by(&weights);
        let rest = SlotPlan {
            mig_profile: Some("unpartitioned".into()),
            sharers: 1,
            healthy: true,
            ..SlotPlan::default()
        };
        let plans = held.into_iter().map(|(_, p)| p).chain((left > 0).then_some(rest));
        slots.extend(plans.zip(shares).map(|(plan, share)| SlotPlan {
            weight: share.micros() as u64,
            ..plan
        }));
    }
    slots
}

/// "3g.40gb" → 3; "1g.10gb.me" → 1; "1c.3g.40gb" (compute instance) → 3.
pub(crate) fn compute_slices(profile: &str) -> Option<u32> {
    profile.split('.').find_map(|part| part.strip_suffix('g')?.parse().ok())
}

/// Turns plans into priced slots. Prices and weights add up to the node's (R1).
pub(super) fn slots_of(node: &Node, node_id: super::NodeId, plans: &[SlotPlan]) -> Vec<Slot> {
    let weights: Vec<u64> = plans.iter().map(|p| p.weight).collect();
    let prices = node.price.usd_per_hour.map(|p| split_price(p, &weights));
    plans
        .iter()
        .enumerate()
        .map(|(index, plan)| Slot {
            node: node_id,
            name: plan.name.clone().unwrap_or_else(|| {
                let profile = plan.mig_profile.as_ref().map(|p| format!("/{p}"));
                format!("slot-{index}{}", profile.unwrap_or_default())
            }),
            dra: !plan.dra.is_empty(),
            resource: plan.resource.clone(),
            sharers: plan.sharers.max(1),
            weight: plan.weight,
            mig_profile: plan.mig_profile.clone(),
            price: prices.as_ref().and_then(|p| p.get(index).copied()),
            ..Slot::default()
        })
        .collect()
}

/// Equal whole GPUs first, then each card's price over its instances, so that equal GPUs have equal prices.
fn split_price(price: UsdPerHour, weights: &[u64]) -> Vec<UsdPerHour> {
    price.split_by(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::cluster::Resources;
    use proptest::prelude::*;

    fn node(capacity: &[(&str, u64)], labels: &[(&str, &str)]) -> Seen {
        let devices: BTreeMap<String, u64> = capacity.iter().map(|(k, v)| ((*k).into(), *v)).collect();
        Seen {
            name: "n".into(),
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            capacity: Resources {
                devices: devices.clone(),
                ..Resources::default()
            },
            allocatable: Resources {
                devices,
                ..Resources::default()
            },
            ..Seen::default()
        }
    }

    fn described(seen: &Seen) -> Described {
        let around = Around {
            cluster: 0,
            cluster_name: "c",
            at: "2026-11-24T00:00:00Z".parse().unwrap(),
            prices: &PriceBook::default(),
            stale_days: 180,
            exporter_model: None,
            dra: DraView {
                devices: None,
                taken: &HashSet::new(),
                refused: false,
            },
        };
        describe(seen, &around)
    }

    const P5: &[(&str, &str)] = &[
        ("node.kubernetes.io/instance-type", "p5.48xlarge"),
        ("topology.kubernetes.io/region", "us-east-1"),
        ("karpenter.sh/capacity-type", "on-demand"),
        ("karpenter.sh/nodepool", "h100"),
    ];

    #[test]
    fn a_plain_node_is_priced_by_its_row() {
        let found = described(&Seen {
            provider: Some("aws".into()),
            ..node(&[("nvidia.com/gpu", 8)], P5)
        });
        assert_eq!(
            (found.node.gpu_name.as_str(), found.node.gpus, found.node.pool.as_str()),
            ("H100-SXM5-80GB", 8, "h100")
        );
        assert_eq!(found.node.price.usd_per_hour, UsdPerHour::from_usd(55.04));
        assert_eq!(found.node.capacity_type, CapacityType::OnDemand);
        let slots = slots_of(&found.node, super::super::NodeId(0), &found.slots);
        assert_eq!(
            slots.iter().filter_map(|s| s.price).sum::<UsdPerHour>(),
            UsdPerHour::from_usd(55.04).unwrap()
        );
    }

    #[test]
    fn a_node_whose_device_plugin_is_down_keeps_its_gpus() {
        let found = described(&node(&[], P5));
        assert_eq!(found.node.gpus, 8);
        assert!(found.slots.iter().all(|s| !s.healthy && s.resource.is_none()));
        let partly = described(&node(&[("nvidia.com/gpu", 7)], P5));
        assert_eq!(
            (partly.node.gpus, partly.slots.iter().filter(|s| s.healthy).count()),
            (8, 7)
        );
    }

    #[test]
    fn shared_gpus_are_counted_once() {
        let labels = [
            ("nvidia.com/gpu.product", "NVIDIA-L4-SHARED"),
            ("nvidia.com/gpu.replicas", "4"),
            ("nvidia.com/gpu.sharing-strategy", "time-slicing"),
            ("nvidia.com/gpu.count", "2"),
        ];
        let found = described(&node(&[("nvidia.com/gpu", 8)], &labels));
        assert_eq!((found.node.gpus, found.slots.len(), found.slots[0].sharers), (2, 2, 4));
        let gke = [
            ("cloud.google.com/gke-accelerator", "nvidia-l4"),
            ("cloud.google.com/gke-gpu-sharing-strategy", "time-sharing"),
            ("cloud.google.com/gke-max-shared-clients-per-gpu", "3"),
        ];
        assert_eq!(described(&node(&[("nvidia.com/gpu", 3)], &gke)).node.gpus, 1);
    }

    #[test]
    fn mig_instances_are_fractions_and_the_rest_is_kept() {
        let labels = [
            ("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB"),
            ("nvidia.com/gpu.count", "2"),
        ];
        let found = described(&node(
            &[
                ("nvidia.com/gpu", 1),
                ("nvidia.com/mig-3g.40gb", 1),
                ("nvidia.com/mig-1g.10gb", 2),
            ],
            &labels,
        ));
        assert_eq!(found.node.gpus, 2);
        assert_eq!(found.slots.iter().map(|s| s.weight).sum::<u64>(), 2 * WHOLE_GPU);
        let rest = found
            .slots
            .iter()
            .find(|s| s.mig_profile.as_deref() == Some("unpartitioned"))
            .unwrap();
        assert!(rest.resource.is_none() && rest.weight > 250_000);
        let single = [
            ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"),
            ("nvidia.com/gpu.count", "7"),
            ("nvidia.com/gpu.memory", "9984"),
        ];
        let found = described(&node(&[("nvidia.com/gpu", 7)], &single));
        assert_eq!(
            (found.node.gpus, found.node.gpu_name.as_str(), found.slots.len()),
            (1, "H100-SXM5-80GB", 7)
        );
    }

    #[test]
    fn an_unknown_gpu_is_named_and_not_guessed() {
        let found = described(&node(
            &[("nvidia.com/gpu", 2)],
            &[("nvidia.com/gpu.product", "NVIDIA-X9000")],
        ));
        assert_eq!(
            (found.node.gpu, found.unknown_gpu.as_deref()),
            (None, Some("NVIDIA-X9000"))
        );
        assert_eq!(found.node.price.usd_per_hour, None);
        assert_eq!(found.node.capacity_type, CapacityType::Owned);
    }

    proptest! {
        #[test]
        fn weights_and_prices_add_up(whole in 0u64..9, g1 in 0u64..9, g2 in 0u64..5, g3 in 0u64..4, replicas in 1u64..6, micros in 1i64..100_000_000) {
            let replicas_text = replicas.to_string();
            let labels = [("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"), ("nvidia.com/gpu.sharing-strategy", "time-slicing"), ("nvidia.com/gpu.replicas", replicas_text.as_str())];
            let seen = node(&[("nvidia.com/gpu", whole * replicas), ("nvidia.com/mig-1g.10gb", g1), ("nvidia.com/mig-2g.20gb", g2), ("nvidia.com/mig-3g.40gb", g3)], &labels);
            let mut found = described(&seen);
            found.node.price.usd_per_hour = Some(UsdPerHour::from_micros(micros));
            let slots = slots_of(&found.node, super::super::NodeId(0), &found.slots);
            prop_assert_eq!(slots.iter().map(|s| s.weight).sum::<u64>(), u64::from(found.node.gpus) * WHOLE_GPU);
            if !slots.is_empty() {
                prop_assert_eq!(slots.iter().filter_map(|s| s.price).sum::<UsdPerHour>(), UsdPerHour::from_micros(micros));
            }
        }
    }
}
