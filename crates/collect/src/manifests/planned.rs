//! Manifests as a snapshot: each pod on a node that nobody has yet, with just the devices that it asks for.

use super::{Environment, Manifests};
use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::instances;
use crate::snapshot::cluster::{Cluster, Node, NodeExpression, Pod, PodPhase, PodPlacement, PodsRead};
use crate::snapshot::{RUNS_LABEL, SCHEMA, Snapshot};
use jiff::Timestamp;
use std::collections::BTreeMap;

const INSTANCE_TYPE: &[&str] = &[
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "karpenter.azure.com/sku-name",
];
const PRODUCT: &str = "nvidia.com/gpu.product";
const REGION: &str = "topology.kubernetes.io/region";
/// Labels by which pods choose a GPU, that describe a node in turn.
const CHOICES: &[&str] = &[
    PRODUCT,
    "nvidia.com/gpu.memory",
    "karpenter.k8s.aws/instance-gpu-memory",
    "eks.amazonaws.com/instance-gpu-memory",
    "cloud.google.com/gke-accelerator",
    "cloud.google.com/gke-gpu-partition-size",
    "gpu.nvidia.com/class",
    "gpu.nvidia.com/model",
    "karpenter.k8s.aws/instance-gpu-name",
    "eks.amazonaws.com/instance-gpu-name",
    "karpenter.azure.com/sku-gpu-name",
    "amd.com/gpu.product-name",
    "k8s.amazonaws.com/accelerator",
    "skypilot.co/accelerator",
    "karpenter.sh/capacity-type",
    "eks.amazonaws.com/capacityType",
    "kubernetes.azure.com/scalesetpriority",
    "cloud.google.com/gke-spot",
    "cloud.google.com/gke-preemptible",
    "cloud.google.com/gke-provisioning",
    "cloud.google.com/gke-flex-start",
    "cloud.google.com/gke-queued",
    "cloud.google.com/reservation-name",
    "oci.oraclecloud.com/oke-is-preemptible",
    "lifecycle",
    "node-lifecycle",
    "node.kubernetes.io/lifecycle",
    "spotinst.io/node-lifecycle",
    "scheduling.cast.ai/spot",
    REGION,
    "kubernetes.io/arch",
    "karpenter.sh/nodepool",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "agentpool",
];

/// Kinds whose pods exist for as long as a run lasts, as often as there is one: an hour of theirs is no hour of the fleet's.
pub(super) const NOW_AND_THEN: &[&str] = &["CronJob", "ScaledJob", "ScheduledSparkApplication"];

/// Clouds by the labels that only their nodes have.
const CLOUDS: &[(&str, &str)] = &[
    ("cloud.google.com/", "gce"),
    ("karpenter.k8s.aws/", "aws"),
    ("eks.amazonaws.com/", "aws"),
    ("karpenter.azure.com/", "azure"),
    ("kubernetes.azure.com/", "azure"),
];

/// What the user says of all that the manifests leave open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The GPU of workloads that do not say which.
    pub gpu: Option<&'static GpuFacts>,
    /// The region whose prices count.
    pub region: Option<&'a str>,
}

/// The snapshot that manifests make. Nothing runs, so no activity is in it; of nodes it has what the pods say of theirs.
/// Environments are clusters of their own.
pub fn snapshot(read: Manifests, asked: Asked<'_>, at: Timestamp) -> Snapshot {
    let mut first = 0;
    let mut clusters = Vec::new();
    for environment in read.environments {
        let pods = environment.pods.len();
        if pods > 0 || environment.name.is_none() {
            clusters.push(cluster(environment, asked, first));
        }
        first += pods;
    }
    Snapshot {
        schema: SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        taken_at: at,
        window_seconds: None,
        observe_seconds: None,
        clusters,
        sources: read.sources,
        gaps: read.gaps,
    }
}

/// `first`: pods of the environments before, so that no two nodes have one name.
fn cluster(environment: Environment, asked: Asked<'_>, first: usize) -> Cluster {
    let mut pods = environment.pods;
    let mut nodes = Vec::new();
    for (index, pod) in pods.iter_mut().enumerate() {
        pod.phase = PodPhase::Pending;
        let devices = pod.requests().devices;
        let unplaced = pod.scheduled.as_ref().is_some_and(|s| s.status == Some(false));
        if devices.is_empty() || unplaced {
            continue;
        }
        let name = format!("for-{}-{}", pod.name, first + index);
        pod.node = Some(name.clone());
        nodes.push(node(name, pod, devices, asked));
    }
    Cluster {
        name: environment.name.unwrap_or_else(|| "manifests".into()),
        nodes: Some(nodes),
        pods,
        pods_read: PodsRead {
            complete: true,
            ..PodsRead::default()
        },
        controllers: environment.controllers,
        unread: environment.unread,
        ..Cluster::default()
    }
}

/// What the pod demands of its node, and what the user says where it demands nothing.
fn node(name: String, pod: &Pod, devices: BTreeMap<String, u64>, asked: Asked<'_>) -> Node {
    let (mut labels, kind) = chosen(pod);
    if let Some(kind) = &kind {
        if let Some((facts, _)) = instances::gpu_of_type(kind) {
            // A product that the pod asks for says more: of which profile the instances of a card are.
            labels.entry(PRODUCT.into()).or_insert_with(|| facts.name.clone());
        }
        labels.insert(INSTANCE_TYPE[0].into(), kind.clone());
    }
    if let Some(gpu) = asked
        .gpu
        .filter(|gpu| !names_a_gpu(&labels) && hands_out(gpu, &devices) && admits(pod, gpu))
    {
        labels.insert(PRODUCT.into(), gpu.name.clone());
    }
    if let Some(region) = asked.region {
        labels.entry(REGION.into()).or_insert_with(|| region.into());
    }
    if let Some(runs) = pod.labels.get(RUNS_LABEL) {
        labels.insert(RUNS_LABEL.into(), runs.clone());
    }
    let provider = CLOUDS
        .iter()
        .find(|(prefix, _)| labels.keys().any(|k| k.starts_with(prefix)));
    let mut node = Node {
        name,
        labels,
        provider: provider.map(|(_, cloud)| (*cloud).into()),
        planned: true,
        ..Node::default()
    };
    node.capacity.devices.clone_from(&devices);
    node.allocatable.devices = devices;
    node
}

/// Such devices may be parts of this GPU: what asks for another vendor's says so.
fn hands_out(gpu: &GpuFacts, devices: &BTreeMap<String, u64>) -> bool {
    let prefix = match gpu.vendor.as_str() {
        "amd" => "amd.com/",
        "intel" => "gpu.intel.com/",
        _ => "nvidia.com/",
    };
    let whole = |resource: &str| !resource.contains("/mig-");
    let parts = gpu.mig_slices() > 0;
    devices
        .keys()
        .all(|resource| resource.starts_with(prefix) && (parts || whole(resource)))
}

/// The pod may be on a node with this GPU: its affinity lists others, or excludes it, elsewhere.
fn admits(pod: &Pod, gpu: &GpuFacts) -> bool {
    let Some(placement) = &pod.placement else { return true };
    let allowed = |e: &NodeExpression| {
        let mut named = e.values.iter().filter_map(|v| named_gpu(v)).peekable();
        match e.operator.as_str() {
            "In" => named.peek().is_none() || named.any(|g| g.name == gpu.name),
            "NotIn" => named.all(|g| g.name != gpu.name),
            _ => true,
        }
    };
    let terms = &placement.affinity_terms;
    terms.is_empty() || terms.iter().any(|t| t.iter().all(allowed))
}

/// Labels that the pod demands of its node, by selector or by affinity; its instance type apart, where there is one choice.
fn chosen(pod: &Pod) -> (BTreeMap<String, String>, Option<String>) {
    let Some(placement) = &pod.placement else {
        return (BTreeMap::new(), None);
    };
    let all = demanded(placement);
    let only = |key: &str| match all.get(key).map(Vec::as_slice) {
        Some([one]) => Some((*one).to_string()),
        _ => None,
    };
    let kind = INSTANCE_TYPE.iter().find_map(|k| only(k));
    let mut labels: BTreeMap<String, String> = CHOICES
        .iter()
        .filter_map(|k| Some(((*k).to_string(), only(k)?)))
        .collect();
    let of_kind = kind.as_deref().and_then(instances::gpu_of_type).map(|(gpu, _)| gpu);
    if of_kind.is_none() && !names_a_gpu(&labels) {
        let mut tolerated = placement.tolerations.iter().filter_map(|t| t.value.as_deref());
        // A toleration only lets the pod onto such nodes: what selects comes first.
        // "a2" is a family of Google's machines, "p4" one of Amazon's, and each the name of a card, too.
        let of_machines = |key: &str| {
            ["family", "category", "generation", "size", "zone"]
                .iter()
                .any(|w| key.ends_with(w))
        };
        let gpu = all
            .iter()
            .filter(|(key, _)| !of_machines(key))
            .find_map(|(_, values)| one_gpu(values))
            .or_else(|| family(&only))
            .or_else(|| kind.as_deref().and_then(in_words))
            .or_else(|| tolerated.find_map(gpus::find));
        if let Some(part) = kind.as_deref().and_then(instances::profile_of_type) {
            labels.insert(PRODUCT.into(), part);
        } else if let Some(gpu) = gpu {
            labels.insert(PRODUCT.into(), gpu.name.clone());
        }
    }
    (labels, kind)
}

/// The GPU of the one family of machines that is asked for.
fn family(only: &impl Fn(&str) -> Option<String>) -> Option<&'static GpuFacts> {
    let keys = ["karpenter.k8s.aws/instance-family", "eks.amazonaws.com/instance-family"];
    let family = keys.iter().find_map(|k| only(k))?;
    instances::gpu_of_family("aws", &family)
}

/// Values that a node may have by key; a key counts only where every affinity term speaks of it.
fn demanded(placement: &PodPlacement) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = placement
        .node_selector
        .iter()
        .map(|(k, v)| (k.as_str(), vec![v.as_str()]))
        .collect();
    let terms = &placement.affinity_terms;
    for expression in terms.iter().flatten().filter(|e| e.operator == "In") {
        let key = expression.key.as_str();
        let everywhere = terms
            .iter()
            .all(|t| t.iter().any(|e| e.operator == "In" && e.key == key));
        if everywhere && !placement.node_selector.contains_key(key) {
            let values = all.entry(key).or_default();
            values.extend(expression.values.iter().map(String::as_str));
            values.sort_unstable();
            values.dedup();
        }
    }
    all
}

/// The GPU that a value names, or that an instance of its name has.
fn named_gpu(value: &str) -> Option<&'static GpuFacts> {
    // Some clouds call an instance "a100", which of its two GPUs it does not say.
    let kind = || instances::gpu_of_type(value).filter(|_| value.contains(['.', '_', '-']));
    gpus::find(value).or_else(|| kind().map(|(gpu, _)| gpu))
}

/// The GPU that all values lead to, as names of GPUs or of instances.
fn one_gpu(values: &[&str]) -> Option<&'static GpuFacts> {
    let first = named_gpu(values.first()?)?;
    values
        .iter()
        .all(|v| named_gpu(v).is_some_and(|g| g.name == first.name))
        .then_some(first)
}

/// The GPU in an instance type that the catalogue lacks: "gd-8xh200ib-i128", "gpu-h100x8", "8xL40S.224V".
fn in_words(kind: &str) -> Option<&'static GpuFacts> {
    let lower = kind.to_ascii_lowercase();
    lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .flat_map(|word| word.split('x'))
        .map(|word| word.strip_suffix("ib").unwrap_or(word))
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.len() >= 2)
        .find_map(gpus::find)
}

fn names_a_gpu(labels: &BTreeMap<String, String>) -> bool {
    let memory = [
        "karpenter.k8s.aws/instance-gpu-memory",
        "eks.amazonaws.com/instance-gpu-memory",
    ]
    .iter()
    .find_map(|k| labels.get(*k)?.parse().ok());
    labels.values().any(|v| gpus::find_with_memory(v, memory).is_some())
}
