//! Kubernetes objects, trimmed to what gpuwaste reads. A bare host is a cluster of one node without pods.

mod controller;
mod node;
mod pod;

pub use controller::{Autoscaler, Controller, DisruptionBudget, Rollout};
pub use node::{Condition, Kept, Node, Outage, RegisteredGpu, Resources, Taint};
pub use pod::{
    Container, ContainerKind, ContainerRole, ContainerState, Exit, Ignore, NodeExpression, Note, NoteAbout, Origin,
    OwnerRef, Pod, PodPhase, PodPlacement, PodUsage, Port, SELECTED, Toleration,
};

use super::constraints::Selection;
use super::dra::Dra;
use super::engine::EngineScrape;
use super::gpu::GpuScrape;
use super::history::History;
use super::past::PastUse;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Of nodes without GPUs: the values of the labels that pods are spread over or kept apart by (but not hostnames), at most 65 of
    /// each. `None`: not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_domains: Option<BTreeMap<String, Vec<String>>>,
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
