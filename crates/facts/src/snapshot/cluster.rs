//! Kubernetes objects, trimmed to what gpuwaste reads. A bare host is a cluster of one node without pods.

use super::constraints::{Constraints, Selection};
use super::dra::Dra;
use super::engine::EngineScrape;
use super::gpu::GpuScrape;
use super::history::History;
use super::past::PastUse;
use super::server::EngineSettings;
use crate::units::{Bytes, MilliCores};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One cluster, or what of it could be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cluster {
    /// The context's name, or `--cluster-name`.
    pub name: String,
    /// uid of the namespace kube-system: the same from every laptop and CI job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// When it was read, where that is not when the snapshot was taken: of snapshots that were put together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub read_at: Option<Timestamp>,
    /// Seconds that the API server's clock is ahead of the machine's that read it (negative: behind), where that is more than a
    /// minute: its objects' times are written here by this machine's clock, and are in doubt by as much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_ahead_seconds: Option<i64>,
    /// The same of the other servers that write times.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clocks: Vec<ServerClock>,
    /// As /version says: "v1.34.2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Nodes. `None`: could not be listed at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<Node>>,
    /// Who hands its GPUs out.
    #[serde(skip_serializing_if = "Scheduler::is_default")]
    pub scheduler: Scheduler,
    /// No cluster at all: hosts and devices as a store's series tell them. Who holds what, nobody says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub metrics_only: bool,
    /// GPU-relevant pods: all pods bound to GPU nodes (whatever they request), and unbound pods that ask for GPUs.
    pub pods: Vec<Pod>,
    pub pods_read: PodsRead,
    /// Owners above pods, where they could be read: Deployments, StatefulSets, Jobs, CronJobs, LeaderWorkerSets, …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<Controller>,
    /// Kinds of owners that were refused: one that is missing from `controllers` was not read, rather than gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owners_refused: Vec<String>,
    /// Reads that failed beside those that other fields tell of, and whom they would have told about: what is found without
    /// them may be less than there is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Unread>,
    /// `None`: could not be listed, so minimum replicas are unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscalers: Option<Vec<Autoscaler>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruption_budgets: Option<Vec<DisruptionBudget>>,
    /// Whom the label selectors of pods and budgets match; they are named by index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub selections: Vec<Selection>,
    /// metrics.k8s.io, where served: one instant per pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_usage: Option<Vec<PodUsage>>,
    /// Dynamic resource allocation; `None`: the API server does not serve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dra: Option<Box<Dra>>,
    /// GPU-hours of jobs of the last days, by who answers for them and on which machines, where the scheduler keeps accounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<PastUse>,
    /// GPU exporters and NVML, one entry a device (or MIG instance) and reading.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuScrape>,
    /// Serving engines, one entry an endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<EngineScrape>,
    /// What a Prometheus-compatible store told of the window; `None`: none was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Box<History>>,
}

/// Who hands a cluster's GPUs out. Nothing is judged by it: it is what objects and ways out are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduler {
    #[default]
    Kubernetes,
    /// A node is a node; a job is a workload, and a pod on each of its nodes.
    Slurm,
}

impl Scheduler {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Slurm => "slurm",
        }
    }
}

/// A server whose clock is more than a minute from that of the machine that read it: the times that it writes are in doubt.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServerClock {
    pub of: ClockOf,
    /// Of a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of a node or pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Seconds that it is ahead (negative: behind).
    pub ahead_seconds: i64,
}

/// Whose clock it is, and so which times are in doubt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClockOf {
    /// The store's: of when its series are.
    #[default]
    Store,
    /// A node's, as its exporter tells: since when its pods are what they are.
    Node,
    /// A server's, as its own page tells: since when its process runs.
    Pod,
}

/// How much of the cluster's pods was read. A GPU whose holder may be invisible is not free (R2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PodsRead {
    /// Pods of every namespace that could hold a GPU are in `pods`.
    pub complete: bool,
    /// `-n`: findings are limited to these namespaces. Empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// `-l` as given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Namespaces that were asked for and refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// Nodes with a pod that was not what the API serves, and is not in `pods`: it may hold any GPU there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread_on: Vec<String>,
}

/// A read that failed. Without a namespace and a name it would have told about the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Unread {
    pub what: UnreadKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of the object that it is about, as [`UnreadKind`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The API server's own refusal of a right that is granted only where it is asked for (pods/proxy, services/proxy): what
    /// is known stays covered, and gates give no verdict that it could change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnreadKind {
    /// "Deployment/web": whether it opted out, and what stands above it.
    Owner,
    /// "InferenceService/web": what a custom resource says of its servers beside their pods.
    Described,
    /// Some autoscalers of the namespace were not what the API serves.
    Autoscalers,
    Budgets,
    /// CPU use of pods (metrics.k8s.io is served, and failed).
    Usage,
    /// A pod's settings in ConfigMaps; `name` is the pod's.
    ConfigMap,
    /// A pod's metrics page; `name` is the pod's.
    Engine,
    /// A node's exporter; `name` is the node's.
    Exporter,
    /// A store was found or named, and the window's history could not be read.
    History,
    /// A part of it could not.
    HistoryPart,
    /// Which API groups there are.
    #[default]
    Groups,
    /// Which pods `-l` selects.
    Selector,
    /// "Deployment/web" of a manifest: how many GPUs it asks for.
    Amount,
    /// Nodes of the list were not what the API serves.
    Node,
    /// Pods outside the namespaces that were named: not a want of rights, but a read that failed.
    Pods,
    /// What DRA drivers publish, its classes or its claims: the same.
    Devices,
}

/// A node. Capacity and allocatable keep every extended resource by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Node {
    pub name: String,
    /// metadata.uid: the same machine under one name made anew has another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// A digest of spec.providerID, which names one machine of its cloud (and, in clear, accounts and projects).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// A digest of what names the machine on its cloud's bill: an instance, or the scale set that it is one of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billed_as: Option<String>,
    /// Parts that the API always has were not there: nothing is known of its GPUs' state.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<Timestamp>,
    /// Labels of the allow-list in `labels.rs` of the collector: instance type, region, zone, pool, GPU product, MIG, sharing, capacity type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// "aws", "gce", "azure", "oci", … : the scheme of spec.providerID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    pub unschedulable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// The Ready condition; `None`: the node reports none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Condition>,
    pub capacity: Resources,
    pub allocatable: Resources,
    /// Nobody has it: what a manifest's pods would be placed on, as far as they say, with just the devices that they ask for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub planned: bool,
    /// Cards as a sharing layer registered them (annotations `hami.io/node-…-register`, `volcano.sh/node-vgpu-register`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registered: Vec<RegisteredGpu>,
    /// Taken out of service, and why: the words of whoever, or whatever, did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage: Option<Outage>,
    /// What nobody holds there is spoken for: kept by a reservation, or for a job that the scheduler has planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// Since when nothing has been allocated on it, as the scheduler tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub unused_since: Option<Timestamp>,
    /// Annotation `gpuwaste.dev/ignore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore: Option<Ignore>,
}

impl Outage {
    /// The state that a monitor of the node's health (EKS' and AKS' agents, node-problem-detector, NVSentinel) gives to its GPUs.
    pub const GPUS_BROKEN: &'static str = "gpus-broken";
}

/// A node that an administrator or the scheduler took out of service, or whose GPUs a monitor of its health calls broken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Outage {
    /// In the scheduler's own word: "drain", "down", "fail", "maint".
    pub state: String,
    /// As somebody typed it; escaped wherever it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
}

/// Why what is free cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// By a reservation of an administrator's.
    Reserved,
    /// For a job that waits, and will start there.
    Planned,
    /// The node is being powered or rebooted.
    Changing,
}

/// A physical card of which a sharing layer hands out shares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RegisteredGpu {
    pub uuid: String,
    /// As the layer names it, without its vendor prefix: "NVIDIA A100-PCIE-40GB".
    pub model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Shares that it is handed out in.
    pub shares: u64,
}

/// Amounts by resource. `devices` holds extended resources: nvidia.com/gpu, nvidia.com/mig-1g.10gb, amd.com/gpu, …
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Resources {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCores>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<u64>,
    /// ephemeral-storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Bytes>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, u64>,
    /// Names of further resources of which there are any: "vpc.amazonaws.com/efa", "rdma/hca", "hugepages-1Gi".
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub extended: BTreeSet<String>,
    /// Resources that are named with an amount that is none (negative, absurd, a fraction of a device, no number).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Taint {
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    pub effect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
}

/// A condition of a node or pod, with its own since-time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Condition {
    /// `None`: "Unknown" (the kubelet does not answer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// CamelCase word, never the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `gpuwaste.dev/ignore: "check[,check] reason"`, or a bare reason: which of the two it is, only who knows the checks can say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ignore {
    /// The words of the list in front: check ids, "all", or the first words of a bare reason.
    pub checks: Vec<String>,
    /// What stands behind them; may be empty.
    pub reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// spec.nodeName; `None`: unbound, so it holds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub phase: PodPhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<Timestamp>,
    /// status.startTime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// metadata.deletionTimestamp: Terminating.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deleted_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Parts that the API always has were not there: it holds what its specification asks for, and what it does is unknown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    /// Static pod (annotation kubernetes.io/config.mirror): leaves with its node.
    pub mirror: bool,
    /// Which of its node's whole GPUs it was given, by index, where the scheduler tells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpu_indices: Vec<u32>,
    /// Somebody paused it, and it keeps what it holds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// The most GPUs of its node that its steps which run can have; `None`: all, or it is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_gpus: Option<u64>,
    /// How long it may run, from its start; `None`: without end, or not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit_seconds: Option<u64>,
    /// Labels of the allow-list: pod-template-hash, LWS, Ray, KServe, Kueue, app.kubernetes.io/*, llm-d.ai/*, and ownership labels asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The controlling owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Condition>,
    /// The PodScheduled condition: reason "Unschedulable" and since when it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Condition>,
    /// The scheduler's words on an unbound pod name GPUs ("Insufficient nvidia.com/gpu"); `None`: bound, or it gave no message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for_gpus: Option<bool>,
    /// status.podIP, to reach it from inside a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Where it may run (older recordings: of servers, and of pods that wait, only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<PodPlacement>,
    /// What else decides where it may run; `None`: not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Box<Constraints>>,
    pub containers: Vec<Container>,
    /// `ResourceClaims` in its namespace, by name where the object is known, else as the pod calls them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_claims: Vec<String>,
    /// Extended resources that a claim of `resource_claims` provides instead of a device plugin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claimed_resources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore: Option<Ignore>,
    /// Manifests only: where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Where a manifest asks for a pod, and what it leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Origin {
    pub file: String,
    pub line: u64,
    /// `spec.template.spec.containers[0]`.
    pub path: String,
    pub notes: Vec<Note>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Note {
    pub line: u64,
    pub path: String,
    pub text: String,
    pub about: NoteAbout,
}

/// What a manifest leaves open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoteAbout {
    /// The version of the image.
    #[default]
    Image,
    CpuRequest,
    MemoryRequest,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    #[default]
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OwnerRef {
    /// API group without version: "apps", "batch", "leaderworkerset.x-k8s.io", "" for core.
    pub group: String,
    pub kind: String,
    pub name: String,
}

/// Node selection of a pod: nodeSelector and required node affinity, flattened; tolerations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PodPlacement {
    /// All must match: key → value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// requiredDuringScheduling terms: any one term must match, within it all expressions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub affinity_terms: Vec<Vec<NodeExpression>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Required pod (anti-)affinity or topology spread exists, which gpuwaste does not model.
    pub other_constraints: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeExpression {
    pub key: String,
    /// In, NotIn, Exists, DoesNotExist, Gt, Lt.
    pub operator: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Toleration {
    /// `None` with operator Exists: tolerates everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub exists: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerKind {
    #[default]
    Main,
    Init,
    /// An init container with restartPolicy Always: runs beside the main containers, its requests add up.
    Sidecar,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Container {
    pub name: String,
    pub kind: ContainerKind,
    /// `repository[:tag][@digest]`, without registry credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Requests; devices are taken from limits where only limits are written.
    pub requests: Resources,
    pub limits: Resources,
    /// It uses devices of the pod's resource claims.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub uses_claims: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// The serving engine found in the image, command, arguments and environment; `None`: not a known server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Box<EngineSettings>>,
    /// What it starts is named where it could not be read ("a Secret", "the placeholder ${CMD}"): it may be a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_unread: Option<String>,
    /// What else it is, as far as the spec tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<ContainerRole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ContainerState>,
    pub ready: bool,
    pub restarts: u64,
    /// The end of the previous run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// startupProbe: failureThreshold × periodSeconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_seconds: Option<u64>,
}

impl Container {
    /// It asks for devices, of a device plugin or by claim.
    pub fn has_devices(&self) -> bool {
        self.uses_claims
            || !self.requests.devices.is_empty()
            || self.requests.unread.iter().any(|r| super::resources::is_device(r))
    }
}

/// What a container without a recognised engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerRole {
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
pub struct Port {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub number: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerState {
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
pub struct Exit {
    /// OOMKilled, Error, Completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub finished_at: Option<Timestamp>,
}

/// An owner above pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Controller {
    pub group: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerRef>,
    /// spec.replicas (groups, for a LeaderWorkerSet).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
    /// Pods in one replica of a multi-node group (LeaderWorkerSet size); `None`: one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<Timestamp>,
    /// Jobs: status.completionTime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub completed_at: Option<Timestamp>,
    /// Allow-listed labels and the ownership labels that the policy names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore: Option<Ignore>,
}

/// A HorizontalPodAutoscaler (KEDA makes one too).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Autoscaler {
    pub namespace: String,
    pub name: String,
    pub target: OwnerRef,
    pub min_replicas: u64,
    pub max_replicas: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DisruptionBudget {
    pub namespace: String,
    pub name: String,
    /// matchLabels only; `None`: matchExpressions are used, so the budget may select anything in its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// status.desiredHealthy: pods that must stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_healthy: Option<u64>,
    /// status.disruptionsAllowed: pods that may be evicted now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruptions_allowed: Option<u64>,
    /// Whom it selects: index into the cluster's `selections`; `None`: not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selection: Option<usize>,
}

/// metrics.k8s.io: one instant, no history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PodUsage {
    pub namespace: String,
    pub name: String,
    /// By container name.
    pub cpu: BTreeMap<String, MilliCores>,
}

/// Label that the collector puts on pods which `-l` selected, since only the API server can match a selector exactly.
pub const SELECTED: &str = "gpuwaste.dev/selected";

impl Pod {
    /// The owner, one step up where the name alone tells it: a ReplicaSet "web-5d9c" with template hash "5d9c" is
    /// Deployment "web"'s, and a worker of a LeaderWorkerSet names its set in a label (its StatefulSet belongs to the leader pod).
    pub fn owner_above(&self) -> Option<OwnerRef> {
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
    pub fn holds(&self) -> bool {
        self.node.is_some() && !matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// Requests as Kubernetes counts them: the larger of what runs together and of each init container's moment.
    pub fn requests(&self) -> Resources {
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
        self.storage = both(self.storage.map(|m| m.0), other.storage.map(|m| m.0)).map(Bytes);
        for (name, count) in &other.devices {
            let own = self.devices.entry(name.clone()).or_insert(0);
            *own = with(*own, *count);
        }
        self.extended.extend(other.extended.iter().cloned());
        for name in other
            .unread
            .iter()
            .filter(|n| !self.unread.contains(n))
            .cloned()
            .collect::<Vec<_>>()
        {
            self.unread.push(name);
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
