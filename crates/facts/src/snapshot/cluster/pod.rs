//! Pods and their containers: what they ask for, where they may go, what they say of themselves.

use super::{Condition, Resources};
use crate::snapshot::constraints::Constraints;
use crate::snapshot::resources;
use crate::snapshot::server::EngineSettings;
use crate::units::MilliCores;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
            || self.requests.unread.iter().any(|r| resources::is_device(r))
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
