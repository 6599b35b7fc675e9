//! Which GPU a node has, its cloud and how it is paid for, by the labels of clouds and operators.

use super::{Around, vgpu};
use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::{instances, mig};
use crate::fleet::CapacityType;
use crate::fleet::dra::NodeDevices;
use crate::snapshot::cluster::Node as Seen;

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
    // The type of Slurm's GRES.
    ("slurm/gpu-type", None),
];

/// GKE's oldest names do not tell the memory: machine types a2-highgpu and n1 have these (GKE's list of GPU platforms).
const GKE_NAMES: &[(&str, &str)] = &[
    ("nvidia-tesla-a100", "A100-SXM4-40GB"),
    ("nvidia-tesla-v100", "V100-SXM2-16GB"),
];

/// What stands for a GPU's name where nothing names it.
pub(in crate::fleet) const UNNAMED: &str = "no label names it";

pub(super) const POOL_LABELS: &[&str] = &[
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
    "slurm/partitions",
];

/// The profile that all of the node's devices have under MIG's single strategy ("1g.10gb"), as GFD or GKE labels it.
pub(super) fn single_mig(seen: &Seen) -> Option<&str> {
    let product = seen.labels.get("nvidia.com/gpu.product");
    let of_product = product
        .and_then(|p| p.split_once("-MIG-"))
        .map(|(_, profile)| profile.trim_end_matches("-SHARED"))
        .filter(|p| mig::slices(p).is_some());
    let of_gke = || {
        seen.labels
            .get(GKE_PARTITION)
            .map(String::as_str)
            .filter(|p| !p.is_empty())
    };
    of_product.or_else(of_gke)
}

/// GKE advertises the instances of a node pool that it cuts as whole GPUs, and labels their profile ("1g.5gb").
const GKE_PARTITION: &str = "cloud.google.com/gke-gpu-partition-size";

/// The MIG manager or GFD says that the layout does not suit the strategy, or is being changed: nothing is advertised, and
/// the cards are sound.
pub(super) fn mig_trouble(seen: &Seen) -> Option<MigTrouble> {
    let label = |key: &str| seen.labels.get(key).map_or("", String::as_str);
    if label("nvidia.com/gpu.product").ends_with("-MIG-INVALID") {
        return Some(MigTrouble::Invalid);
    }
    match label("nvidia.com/mig.config.state") {
        "failed" => Some(MigTrouble::Failed),
        "pending" | "rebooting" => Some(MigTrouble::Changing),
        _ => None,
    }
}

/// Why a node with MIG advertises nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MigTrouble {
    Invalid,
    Failed,
    Changing,
}

pub(super) fn gpu_of(
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
        let name = name.strip_suffix("-MIG-INVALID").unwrap_or(name);
        if let Some(card) = vgpu::of_product(name).and_then(|p| p.card) {
            return (Some(card), card.name.clone(), None);
        }
        let name = GKE_NAMES
            .iter()
            .find(|(old, _)| *old == name)
            .map_or(name, |(_, own)| *own);
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
    let of_resource = seen.capacity.devices.keys().find_map(|r| vgpu::of_product(r)?.card);
    let exporter = around
        .exporter
        .iter()
        .find_map(|d| d.model)
        .or_else(|| seen.registered.first().map(|r| r.model.as_str()));
    let by_driver = published.and_then(|(name, memory)| gpus::find_with_memory(name, memory));
    if let Some(gpu) = by_driver
        .or(of_type)
        .or(of_resource)
        .or_else(|| exporter.and_then(gpus::find))
    {
        return (Some(gpu), gpu.name.clone(), None);
    }
    let name = named
        .or_else(|| published.map(|(name, _)| name.to_string()))
        .or_else(|| exporter.map(String::from))
        .or_else(|| accelerator_of(seen).map(String::from));
    (
        None,
        name.clone().unwrap_or_else(|| "unknown".into()),
        Some(name.unwrap_or_else(|| UNNAMED.into())),
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

pub(super) fn cloud_of(seen: &Seen, instance_type: Option<&str>) -> Option<String> {
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

/// What stands behind a node that is no machine: a simulator, another cluster, or a service that bills by the pod. By what their own
/// projects write on nodes: labels with their values (empty: any), how keys of taints begin, schemes of provider ids.
const VIRTUAL_LABELS: &[(&str, &str)] = &[
    ("type", "kwok"),
    ("type", "virtual-kubelet"),
    ("kubernetes.io/role", "virtual-kubelet"),
    ("run.ai/simulated-gpu-node-pool", ""),
    ("liqo.io/type", "virtual-node"),
    ("virtual-node.interlink/type", ""),
    ("virtual-kubelet.io/provider", ""),
];
const VIRTUAL_TAINTS: &[&str] = &[
    "kwok.x-k8s.io/",
    "virtual-kubelet.io/",
    "virtual-node.liqo.io/",
    "virtual-node.interlink/",
];

/// The label, taint or id by which a node is no machine of its own; `None`: it is one.
pub(super) fn is_virtual(seen: &Seen) -> Option<String> {
    let has = |(key, value): &&(&str, &str)| {
        seen.labels
            .get(*key)
            .is_some_and(|v| value.is_empty() || v.eq_ignore_ascii_case(value))
    };
    let label = VIRTUAL_LABELS.iter().find(has).map(|(key, _)| format!("label {key}"));
    let taint = || {
        let is = |key: &str| VIRTUAL_TAINTS.iter().any(|prefix| key.starts_with(prefix));
        let found = seen.taints.iter().find(|t| is(&t.key))?;
        Some(format!("taint {}", found.key))
    };
    let provider = || (seen.provider.as_deref() == Some("kwok")).then(|| "provider id kwok://".to_string());
    label.or_else(taint).or_else(provider)
}

/// Labels that name the reservation that a node consumes: it is paid until it ends, whether the node stands or not.
const RESERVATIONS: &[&str] = &[
    "cloud.google.com/reservation-name",
    "karpenter.k8s.aws/capacity-reservation-id",
    "eks.amazonaws.com/capacity-reservation-id",
];

/// Labels that say of a node that it is of capacity that its cloud may take back. Those of clouds: GKE's list of node labels, Oracle's of
/// preemptible workers. Others are what people and tools write on nodes of groups that no cloud labels: AWS' samples
/// (`lifecycle=Ec2Spot`), terraform-aws-eks, Spot's Ocean and CAST AI.
const SPOT: &[(&str, &str)] = &[
    ("cloud.google.com/gke-spot", "true"),
    ("cloud.google.com/gke-preemptible", "true"),
    ("cloud.google.com/gke-provisioning", "spot"),
    ("cloud.google.com/gke-provisioning", "preemptible"),
    ("oci.oraclecloud.com/oke-is-preemptible", "true"),
    ("lifecycle", "ec2spot"),
    ("lifecycle", "spot"),
    ("node-lifecycle", "spot"),
    ("node.kubernetes.io/lifecycle", "spot"),
    ("spotinst.io/node-lifecycle", "spot"),
    ("scheduling.cast.ai/spot", "true"),
];

/// GKE's capacity that is waited for and kept for some days only (flex-start, queued provisioning): it is neither on demand nor spot,
/// and has prices of its own (cloud.google.com/products/dws/pricing).
const WAITED_FOR: &[(&str, &str)] = &[
    ("cloud.google.com/gke-flex-start", "true"),
    ("cloud.google.com/gke-queued", "true"),
    ("cloud.google.com/gke-provisioning", "flex-start"),
];

/// A node of such capacity, as far as no other label says how it is paid for.
pub(super) fn is_waited_for(seen: &Seen, capacity_type: CapacityType) -> bool {
    let has = |(key, value): &(&str, &str)| seen.labels.get(*key).is_some_and(|v| v.eq_ignore_ascii_case(value));
    capacity_type == CapacityType::Unknown && WAITED_FOR.iter().any(has)
}

pub(super) fn capacity_type(seen: &Seen, cloud: Option<&str>) -> CapacityType {
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
    let names = |key: &&&str| seen.labels.get(**key).is_some_and(|v| !v.is_empty());
    if RESERVATIONS.iter().any(|key| names(&key)) {
        return CapacityType::Reserved;
    }
    let has = |(key, value): &(&str, &str)| seen.labels.get(*key).is_some_and(|v| v.eq_ignore_ascii_case(value));
    if SPOT.iter().any(has) {
        return CapacityType::Spot;
    }
    if WAITED_FOR.iter().any(has) {
        return CapacityType::Unknown;
    }
    match cloud {
        // These clouds label what is not on-demand; a missing label is the answer. Commitments are a billing matter
        // that no label shows: the price file is where they belong.
        Some("gcp" | "azure") => CapacityType::OnDemand,
        None if seen.provider.is_none() && !seen.planned => CapacityType::Owned,
        _ => CapacityType::Unknown,
    }
}
