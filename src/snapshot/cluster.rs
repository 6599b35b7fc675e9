//! Kubernetes objects, trimmed to what gpuwaste reads. A bare host is a cluster of one node without pods.

use super::dra::Dra;
use super::engine::EngineScrape;
use super::gpu::GpuScrape;
use super::history::History;
use super::server::EngineSettings;
use crate::units::{Bytes, MilliCores};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One cluster, or what of it could be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Cluster {
    /// The context's name, or `--cluster-name`.
    pub(crate) name: String,
    /// uid of the namespace kube-system: the same from every laptop and CI job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<String>,
    /// As /version says: "v1.34.2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// Nodes. `None`: could not be listed at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nodes: Option<Vec<Node>>,
    /// GPU-relevant pods: all pods bound to GPU nodes (whatever they request), and unbound pods that ask for GPUs.
    pub(crate) pods: Vec<Pod>,
    pub(crate) pods_read: PodsRead,
    /// Owners above pods, where they could be read: Deployments, StatefulSets, Jobs, CronJobs, LeaderWorkerSets, …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) controllers: Vec<Controller>,
    /// Kinds of owners that were refused: one that is missing from `controllers` was not read, rather than gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) owners_refused: Vec<String>,
    /// `None`: could not be listed, so minimum replicas are unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) autoscalers: Option<Vec<Autoscaler>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disruption_budgets: Option<Vec<DisruptionBudget>>,
    /// metrics.k8s.io, where served: one instant per pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod_usage: Option<Vec<PodUsage>>,
    /// Dynamic resource allocation; `None`: the API server does not serve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dra: Option<Box<Dra>>,
    /// GPU exporters and NVML, one entry a device (or MIG instance) and reading.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) gpus: Vec<GpuScrape>,
    /// Serving engines, one entry an endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) engines: Vec<EngineScrape>,
    /// What a Prometheus-compatible store told of the window; `None`: none was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) history: Option<Box<History>>,
}

/// How much of the cluster's pods was read. A GPU whose holder may be invisible is not free (R2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct PodsRead {
    /// Pods of every namespace that could hold a GPU are in `pods`.
    pub(crate) complete: bool,
    /// `-n`: findings are limited to these namespaces. Empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) namespaces: Vec<String>,
    /// `-l` as given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) selector: Option<String>,
    /// Namespaces that were asked for and refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) refused: Vec<String>,
}

/// A node. Capacity and allocatable keep every extended resource by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) created_at: Option<Timestamp>,
    /// Labels of the allow-list in `labels.rs` of the collector: instance type, region, zone, pool, GPU product, MIG, sharing, capacity type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    /// "aws", "gce", "azure", "oci", … : the scheme of spec.providerID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    pub(crate) unschedulable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) taints: Vec<Taint>,
    /// The Ready condition; `None`: the node reports none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<Condition>,
    pub(crate) capacity: Resources,
    pub(crate) allocatable: Resources,
    /// Annotation `gpuwaste.dev/ignore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ignore: Option<Ignore>,
}

/// Amounts by resource. `devices` holds extended resources: nvidia.com/gpu, nvidia.com/mig-1g.10gb, amd.com/gpu, …
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Resources {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<MilliCores>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pods: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) devices: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Taint {
    pub(crate) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    pub(crate) effect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) since: Option<Timestamp>,
}

/// A condition of a node or pod, with its own since-time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Condition {
    /// `None`: "Unknown" (the kubelet does not answer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) since: Option<Timestamp>,
    /// CamelCase word, never the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// `gpuwaste.dev/ignore: "check[,check] reason"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Ignore {
    /// Check ids, or "all".
    pub(crate) checks: Vec<String>,
    pub(crate) reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// spec.nodeName; `None`: unbound, so it holds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    pub(crate) phase: PodPhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) created_at: Option<Timestamp>,
    /// status.startTime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) started_at: Option<Timestamp>,
    /// metadata.deletionTimestamp: Terminating.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) deleted_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<i64>,
    /// Static pod (annotation kubernetes.io/config.mirror): leaves with its node.
    pub(crate) mirror: bool,
    /// Labels of the allow-list: pod-template-hash, LWS, Ray, KServe, Kueue, app.kubernetes.io/*, llm-d.ai/*, and ownership labels asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    /// The controlling owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<OwnerRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<Condition>,
    /// The PodScheduled condition: reason "Unschedulable" and since when it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scheduled: Option<Condition>,
    /// The scheduler's words on an unbound pod name GPUs ("Insufficient nvidia.com/gpu"); `None`: bound, or it gave no message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waits_for_gpus: Option<bool>,
    /// status.podIP, to reach it from inside a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<String>,
    /// Where it may run; kept for unbound pods that ask for GPUs, pods on GPUs (older recordings: servers only) and servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) placement: Option<PodPlacement>,
    pub(crate) containers: Vec<Container>,
    /// `ResourceClaims` in its namespace, by name where the object is known, else as the pod calls them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_claims: Vec<String>,
    /// Extended resources that a claim of `resource_claims` provides instead of a device plugin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) claimed_resources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ignore: Option<Ignore>,
    /// Manifests only: where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
}

/// Where a manifest asks for a pod, and what it leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub(crate) struct Origin {
    pub(crate) file: String,
    pub(crate) line: u64,
    /// `spec.template.spec.containers[0]`.
    pub(crate) path: String,
    pub(crate) notes: Vec<Note>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub(crate) struct Note {
    pub(crate) line: u64,
    pub(crate) path: String,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    #[default]
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct OwnerRef {
    /// API group without version: "apps", "batch", "leaderworkerset.x-k8s.io", "" for core.
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// Node selection of a pod: nodeSelector and required node affinity, flattened; tolerations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct PodPlacement {
    /// All must match: key → value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) node_selector: BTreeMap<String, String>,
    /// requiredDuringScheduling terms: any one term must match, within it all expressions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) affinity_terms: Vec<Vec<NodeExpression>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tolerations: Vec<Toleration>,
    /// Required pod (anti-)affinity or topology spread exists, which gpuwaste does not model.
    pub(crate) other_constraints: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct NodeExpression {
    pub(crate) key: String,
    /// In, NotIn, Exists, DoesNotExist, Gt, Lt.
    pub(crate) operator: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) values: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Toleration {
    /// `None` with operator Exists: tolerates everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    pub(crate) exists: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) effect: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ContainerKind {
    #[default]
    Main,
    Init,
    /// An init container with restartPolicy Always: runs beside the main containers, its requests add up.
    Sidecar,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) kind: ContainerKind,
    /// `repository[:tag][@digest]`, without registry credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    /// Requests; devices are taken from limits where only limits are written.
    pub(crate) requests: Resources,
    pub(crate) limits: Resources,
    /// It uses devices of the pod's resource claims.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) uses_claims: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<Port>,
    /// The serving engine found in the image, command, arguments and environment; `None`: not a known server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<Box<EngineSettings>>,
    /// What else it is, as far as the spec tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<ContainerRole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<ContainerState>,
    pub(crate) ready: bool,
    pub(crate) restarts: u64,
    /// The end of the previous run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_exit: Option<Exit>,
    /// startupProbe: failureThreshold × periodSeconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) startup_seconds: Option<u64>,
}

impl Container {
    /// It asks for devices, of a device plugin or by claim.
    pub(crate) fn has_devices(&self) -> bool {
        self.uses_claims || !self.requests.devices.is_empty()
    }

    /// The usual port of a GPU exporter, where the image or the container is named after one: not of plugins and drivers,
    /// which have nothing to tell.
    pub(crate) fn exporter_port(&self) -> Option<u16> {
        if self.role != Some(ContainerRole::GpuInfrastructure) {
            return None;
        }
        let image = self.image.as_deref().unwrap_or_default();
        let (_, port) = EXPORTERS
            .iter()
            .find(|(name, _)| [image, &self.name].iter().any(|n| n.replace('_', "-").contains(name)))?;
        Some(*port)
    }
}

/// GPU exporters by what their images and their charts' containers are called, and the ports they listen on unless told
/// otherwise (each project's own documentation).
const EXPORTERS: &[(&str, u16)] = &[
    ("dcgm-exporter", 9400),
    ("device-metrics-exporter", 5000),
    ("nvidia-gpu-exporter", 9835),
    ("all-smi", 9090),
];

/// What a container without a recognised engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ContainerRole {
    /// DCGM or AMD exporter, device plugin, MPS daemon, driver, node feature discovery: holds nothing.
    GpuInfrastructure,
    Notebook,
    /// Training launcher: torchrun, deepspeed, accelerate, …
    Training,
    /// Router, gateway, EPP, simulator, proxy sidecar: no GPU server whatever its metrics say.
    Routing,
    /// pause and other overprovisioning placeholders.
    Placeholder,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Port {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) number: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ContainerState {
    /// CrashLoopBackOff, ImagePullBackOff, ContainerCreating, PodInitializing, …
    Waiting {
        reason: Option<String>,
    },
    Running {
        #[schemars(with = "Option<String>")]
        since: Option<Timestamp>,
    },
    Terminated(Exit),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Exit {
    /// OOMKilled, Error, Completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) finished_at: Option<Timestamp>,
}

/// An owner above pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Controller {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<OwnerRef>,
    /// spec.replicas (groups, for a LeaderWorkerSet).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replicas: Option<u64>,
    /// Pods in one replica of a multi-node group (LeaderWorkerSet size); `None`: one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) created_at: Option<Timestamp>,
    /// Jobs: status.completionTime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) completed_at: Option<Timestamp>,
    /// Allow-listed labels and the ownership labels that the policy names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ignore: Option<Ignore>,
}

/// A HorizontalPodAutoscaler (KEDA makes one too).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Autoscaler {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) target: OwnerRef,
    pub(crate) min_replicas: u64,
    pub(crate) max_replicas: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct DisruptionBudget {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// matchLabels only; `None`: matchExpressions are used, so the budget may select anything in its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) match_labels: Option<BTreeMap<String, String>>,
    /// status.desiredHealthy: pods that must stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) desired_healthy: Option<u64>,
}

/// metrics.k8s.io: one instant, no history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct PodUsage {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// By container name.
    pub(crate) cpu: BTreeMap<String, MilliCores>,
}

/// Prefixes of resource names that stand for accelerators, from the device plugins' documentation.
const DEVICE_PREFIXES: &[&str] = &[
    "nvidia.com/",
    "amd.com/",
    "gpu.intel.com/",
    "habana.ai/",
    "google.com/tpu",
    "aws.amazon.com/neuron",
    "huawei.com/Ascend",
    "aliyun.com/gpu",
    "volcano.sh/vgpu",
    "tencent.com/vcuda",
    "rebellions.ai/",
    "furiosa.ai/",
    "cambricon.com/",
    "metax-tech.com/",
    "mthreads.com/",
    "iluvatar.ai/",
    "kunlunxin.com/",
    "enflame.com/",
    "cloud-tpus.google.com/",
    // The API server's own name for "a device of this DeviceClass" (Kubernetes 1.34).
    "deviceclass.resource.kubernetes.io/",
];

/// A resource name that stands for GPUs or other accelerators ("nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "amd.com/gpu").
pub(crate) fn is_device(resource: &str) -> bool {
    DEVICE_PREFIXES.iter().any(|p| resource.starts_with(p)) && !resource.starts_with("nvidia.com/gpu.deploy")
}

/// Label that the collector puts on pods which `-l` selected, since only the API server can match a selector exactly.
pub(crate) const SELECTED: &str = "gpuwaste.dev/selected";

impl Pod {
    /// The owner, one step up where the name alone tells it: a ReplicaSet "web-5d9c" with template hash "5d9c" is
    /// Deployment "web"'s, and a worker of a LeaderWorkerSet names its set in a label (its StatefulSet belongs to the leader pod).
    pub(crate) fn owner_above(&self) -> Option<OwnerRef> {
        let owner = self.owner.clone()?;
        if let Some(name) = self.labels.get("leaderworkerset.sigs.k8s.io/name") {
            return Some(OwnerRef {
                group: "leaderworkerset.x-k8s.io".into(),
                kind: "LeaderWorkerSet".into(),
                name: name.clone(),
            });
        }
        let hash = self
            .labels
            .get("pod-template-hash")
            .filter(|_| owner.kind == "ReplicaSet");
        if let Some(name) = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')) {
            return Some(OwnerRef {
                group: "apps".into(),
                kind: "Deployment".into(),
                name: name.into(),
            });
        }
        Some(owner)
    }

    /// Bound and not finished: it holds what it asked for, Pending included (R3).
    pub(crate) fn holds(&self) -> bool {
        self.node.is_some() && !matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// Requests as Kubernetes counts them: the larger of what runs together and of each init container's moment.
    pub(crate) fn requests(&self) -> Resources {
        let mut together = Resources::default();
        let mut moment = Resources::default();
        for container in &self.containers {
            match container.kind {
                ContainerKind::Main | ContainerKind::Sidecar => together.add(&container.requests),
                // An init container runs beside the sidecars that stand before it.
                ContainerKind::Init => {
                    let mut now = together.clone();
                    now.add(&container.requests);
                    moment.raise_to(&now);
                }
            }
        }
        together.raise_to(&moment);
        together
    }
}

impl Resources {
    fn add(&mut self, other: &Self) {
        self.combine(other, u64::saturating_add);
    }

    fn raise_to(&mut self, other: &Self) {
        self.combine(other, u64::max);
    }

    fn combine(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        let both = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(with(a.unwrap_or(0), b.unwrap_or(0))),
        };
        self.cpu = both(self.cpu.map(|c| c.0), other.cpu.map(|c| c.0)).map(MilliCores);
        self.memory = both(self.memory.map(|m| m.0), other.memory.map(|m| m.0)).map(Bytes);
        for (name, count) in &other.devices {
            let own = self.devices.entry(name.clone()).or_insert(0);
            *own = with(*own, *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(kind: ContainerKind, gpus: u64, cores: u64) -> Container {
        let requests = Resources {
            cpu: Some(MilliCores(cores * 1000)),
            devices: [("nvidia.com/gpu".to_string(), gpus)].into(),
            ..Resources::default()
        };
        Container {
            kind,
            requests,
            ..Container::default()
        }
    }

    #[test]
    fn requests_follow_the_schedulers_arithmetic() {
        // A sidecar (1 GPU) that starts before an init container (2 GPUs), then a main container (1 GPU).
        let pod = Pod {
            containers: vec![
                container(ContainerKind::Sidecar, 1, 2),
                container(ContainerKind::Init, 2, 8),
                container(ContainerKind::Main, 1, 1),
            ],
            ..Pod::default()
        };
        let requests = pod.requests();
        assert_eq!(requests.devices["nvidia.com/gpu"], 3, "max(1 + 1, 1 + 2)");
        assert_eq!(requests.cpu, Some(MilliCores(10_000)), "max(2 + 1, 2 + 8)");
        assert_eq!(Pod::default().requests(), Resources::default());
    }
}
