//! API objects, trimmed while they are decoded: fields that are not named here never reach memory.

use super::config_maps::Wants;
use super::labels;
use super::quantity;
use super::spec::{RawContainer, RawVolume, resources};
use crate::snapshot::cluster::{
    Autoscaler, Condition, Container, ContainerState, Controller, DisruptionBudget, Exit, Ignore, Node, NodeExpression,
    OwnerRef, Pod, PodPhase, PodPlacement, PodUsage, Taint, Toleration, is_device,
};
use crate::units::MilliCores;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// `null` and a missing field are the default; so is a value of the wrong shape, which no API server sends.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

fn time<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.and_then(|t| t.parse().ok()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    pub(super) git_version: String,
}

#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) metadata: RawMeta,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawMeta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: Option<String>,
    #[serde(deserialize_with = "time")]
    creation_timestamp: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    deletion_timestamp: Option<Timestamp>,
    #[serde(deserialize_with = "lenient")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    annotations: RawAnnotations,
    #[serde(deserialize_with = "lenient")]
    owner_references: Vec<RawOwner>,
}

/// The annotations that are read; all others are skipped.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAnnotations {
    #[serde(rename = "gpuwaste.dev/ignore")]
    ignore: Option<String>,
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<serde::de::IgnoredAny>,
    /// Where KServe's model comes from, on volumes too, which no init container fetches.
    #[serde(rename = "internal.serving.kserve.io/storage-initializer-sourceuri")]
    model_uri: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawOwner {
    api_version: String,
    kind: String,
    name: String,
    controller: Option<bool>,
}

impl RawMeta {
    pub(super) fn created_at(&self) -> Option<Timestamp> {
        self.creation_timestamp
    }

    pub(super) fn deleted_at(&self) -> Option<Timestamp> {
        self.deletion_timestamp
    }

    fn owner(&self) -> Option<OwnerRef> {
        let owner = self
            .owner_references
            .iter()
            .find(|o| o.controller == Some(true))
            .or_else(|| self.owner_references.first())?;
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        Some(OwnerRef {
            group: group.into(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        })
    }

    fn ignore(&self) -> Option<Ignore> {
        self.annotations.ignore.as_deref().and_then(parse_ignore)
    }
}

/// `"check[,check] reason"`; without a reason it is no opt-out.
fn parse_ignore(text: &str) -> Option<Ignore> {
    let (checks, reason) = text.trim().split_once(char::is_whitespace)?;
    let checks: Vec<String> = checks
        .split(',')
        .map(|c| c.trim().to_string())
        .filter(|c| !c.is_empty())
        .collect();
    let reason: String = reason.trim().chars().take(200).collect();
    (!checks.is_empty() && !reason.is_empty()).then_some(Ignore { checks, reason })
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
    #[serde(deserialize_with = "time")]
    last_transition_time: Option<Timestamp>,
}

impl RawCondition {
    fn condition(&self) -> Condition {
        let status = match self.status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        };
        Condition {
            status,
            since: self.last_transition_time,
            reason: self.reason.clone().filter(|r| !r.is_empty()),
        }
    }
}

fn condition(all: &[RawCondition], kind: &str) -> Option<Condition> {
    all.iter().find(|c| c.kind == kind).map(RawCondition::condition)
}

// --- nodes -----------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
pub(super) struct RawNode {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawNodeSpec,
    #[serde(default)]
    status: RawNodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawNodeSpec {
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
    unschedulable: bool,
    #[serde(deserialize_with = "lenient")]
    taints: Vec<RawTaint>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawTaint {
    key: String,
    value: Option<String>,
    effect: String,
    #[serde(deserialize_with = "time")]
    time_added: Option<Timestamp>,
}

impl RawTaint {
    pub(super) fn into_taint(self) -> Taint {
        Taint {
            key: self.key,
            value: self.value.filter(|v| !v.is_empty()),
            effect: self.effect,
            since: self.time_added,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawNodeStatus {
    #[serde(deserialize_with = "lenient")]
    capacity: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    allocatable: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    conditions: Vec<RawCondition>,
}

/// Labels that say "this node has GPUs" even while its device plugin is down.
const GPU_LABELS: &[&str] = &[
    "nvidia.com/gpu.present",
    "nvidia.com/gpu.product",
    "nvidia.com/gpu.count",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "karpenter.azure.com/sku-gpu-name",
    "gpu.nvidia.com/class",
    "amd.com/gpu.product-name",
    "k8s.amazonaws.com/accelerator",
];

impl RawNode {
    pub(super) fn name(&self) -> &str {
        &self.metadata.name
    }

    pub(super) fn has_gpus(&self, is_gpu_instance: fn(&str) -> bool) -> bool {
        let capacity = self
            .status
            .capacity
            .iter()
            .any(|(name, amount)| is_device(name) && quantity::count(amount).unwrap_or(1) > 0);
        let labels = &self.metadata.labels;
        let label = GPU_LABELS
            .iter()
            .any(|l| labels.get(*l).is_some_and(|v| v != "false" && v != "0"));
        let kind = labels
            .get("node.kubernetes.io/instance-type")
            .or_else(|| labels.get("beta.kubernetes.io/instance-type"));
        capacity || label || kind.is_some_and(|k| is_gpu_instance(k))
    }

    pub(super) fn into_node(self, keep: &[String]) -> Node {
        let ignore = self.metadata.ignore();
        Node {
            name: self.metadata.name,
            created_at: self.metadata.creation_timestamp,
            labels: labels::of_node(self.metadata.labels, keep),
            provider: self
                .spec
                .provider_id
                .and_then(|id| id.split_once("://").map(|(scheme, _)| scheme.to_string())),
            unschedulable: self.spec.unschedulable,
            taints: self.spec.taints.into_iter().map(RawTaint::into_taint).collect(),
            ready: condition(&self.status.conditions, "Ready"),
            capacity: resources(&self.status.capacity),
            allocatable: resources(&self.status.allocatable),
            ignore,
        }
    }
}

// --- pods ------------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
pub(super) struct RawPod {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawPodSpec,
    #[serde(default)]
    status: RawPodStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawPodSpec {
    node_name: Option<String>,
    priority: Option<i64>,
    #[serde(deserialize_with = "lenient")]
    containers: Vec<RawContainer>,
    #[serde(deserialize_with = "lenient")]
    init_containers: Vec<RawContainer>,
    #[serde(deserialize_with = "lenient")]
    node_selector: BTreeMap<String, String>,
    affinity: Option<RawAffinity>,
    #[serde(deserialize_with = "lenient")]
    tolerations: Vec<RawToleration>,
    #[serde(deserialize_with = "lenient")]
    topology_spread_constraints: Vec<serde::de::IgnoredAny>,
    #[serde(deserialize_with = "lenient")]
    resource_claims: Vec<RawClaim>,
    #[serde(deserialize_with = "lenient")]
    volumes: Vec<RawVolume>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawClaim {
    name: String,
    resource_claim_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(clippy::struct_field_names, reason = "the API's own names")]
struct RawAffinity {
    node_affinity: Option<RawNodeAffinity>,
    pod_affinity: Option<RawPodAffinity>,
    pod_anti_affinity: Option<RawPodAffinity>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawPodAffinity {
    #[serde(
        rename = "requiredDuringSchedulingIgnoredDuringExecution",
        deserialize_with = "lenient"
    )]
    required: Vec<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawNodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<RawNodeSelector>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawNodeSelector {
    #[serde(deserialize_with = "lenient")]
    node_selector_terms: Vec<RawNodeTerm>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawNodeTerm {
    #[serde(deserialize_with = "lenient")]
    match_expressions: Vec<RawExpression>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawExpression {
    key: String,
    operator: String,
    #[serde(deserialize_with = "lenient")]
    values: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawToleration {
    key: Option<String>,
    operator: Option<String>,
    value: Option<String>,
    effect: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawPodStatus {
    phase: Option<String>,
    #[serde(deserialize_with = "time")]
    start_time: Option<Timestamp>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(deserialize_with = "lenient")]
    conditions: Vec<RawCondition>,
    #[serde(deserialize_with = "lenient")]
    container_statuses: Vec<RawStatus>,
    #[serde(deserialize_with = "lenient")]
    init_container_statuses: Vec<RawStatus>,
    #[serde(deserialize_with = "lenient")]
    resource_claim_statuses: Vec<RawClaim>,
    extended_resource_claim_status: Option<RawExtendedClaim>,
}

/// The claim that the scheduler made for extended resources which a `DeviceClass` provides.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawExtendedClaim {
    resource_claim_name: String,
    #[serde(deserialize_with = "lenient")]
    request_mappings: Vec<RawMapping>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawMapping {
    resource_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawStatus {
    name: String,
    ready: bool,
    restart_count: u64,
    state: Option<RawState>,
    last_state: Option<RawState>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawState {
    waiting: Option<RawWaiting>,
    running: Option<RawRunning>,
    terminated: Option<RawTerminated>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawWaiting {
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawRunning {
    #[serde(deserialize_with = "time")]
    started_at: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawTerminated {
    reason: Option<String>,
    exit_code: i64,
    #[serde(deserialize_with = "time")]
    finished_at: Option<Timestamp>,
}

impl RawTerminated {
    fn exit(self) -> Exit {
        Exit {
            reason: self.reason,
            code: self.exit_code,
            finished_at: self.finished_at,
        }
    }
}

/// The pod that a template would make; `None`: parts of it have the wrong shape.
pub(crate) fn pod_of_template(template: serde_json::Value) -> Option<Pod> {
    let raw: RawPod = serde_json::from_value(template).ok()?;
    Some(raw.into_pod(&[]))
}

impl RawPod {
    pub(super) fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref().filter(|n| !n.is_empty())
    }

    /// Containers with settings in ConfigMaps, of those that hold GPUs.
    pub(super) fn wants(&self) -> Vec<Wants> {
        let claims = !self.spec.resource_claims.is_empty();
        self.spec
            .containers
            .iter()
            .filter(|c| claims || c.asks_for_devices())
            .filter_map(|c| c.wants(&self.metadata.namespace, &self.metadata.name, &self.spec.volumes))
            .collect()
    }

    pub(super) fn into_pod(self, keep: &[String]) -> Pod {
        let owner = self.metadata.owner();
        let ignore = self.metadata.ignore();
        let (spec, status) = (self.spec, self.status);
        let placement = PodPlacement {
            node_selector: spec.node_selector,
            affinity_terms: affinity_terms(spec.affinity.as_ref()),
            tolerations: spec
                .tolerations
                .into_iter()
                .map(|t| Toleration {
                    key: t.key.filter(|k| !k.is_empty()),
                    exists: t.operator.as_deref() == Some("Exists"),
                    value: t.value,
                    effect: t.effect.filter(|e| !e.is_empty()),
                })
                .collect(),
            other_constraints: !spec.topology_spread_constraints.is_empty()
                || spec.affinity.as_ref().is_some_and(|a| {
                    [&a.pod_affinity, &a.pod_anti_affinity]
                        .into_iter()
                        .flatten()
                        .any(|p| !p.required.is_empty())
                }),
        };
        let fetched = spec
            .init_containers
            .iter()
            .find_map(RawContainer::fetched)
            .map(String::from);
        let model_uri = fetched.or(self.metadata.annotations.model_uri);
        let mut containers: Vec<Container> = spec
            .init_containers
            .into_iter()
            .map(|c| c.into_container(true))
            .chain(spec.containers.into_iter().map(|c| c.into_container(false)))
            .collect();
        for raw in status
            .init_container_statuses
            .into_iter()
            .chain(status.container_statuses)
        {
            if let Some(container) = containers.iter_mut().find(|c| c.name == raw.name) {
                fill(container, raw);
            }
        }
        if let Some(uri) = &model_uri {
            let model = crate::engine::model_of_uri(uri);
            for settings in containers.iter_mut().filter_map(|c| c.server.as_deref_mut()) {
                crate::engine::mounted(settings, &model);
            }
        }
        // Beside GPU pods only what a pod takes from its node matters: 50,000 of them must not fill memory and snapshots.
        let plain = |c: &Container| !c.has_devices() && c.server.is_none() && c.role.is_none();
        if spec.resource_claims.is_empty() && containers.iter().all(plain) {
            for container in &mut containers {
                *container = Container {
                    name: std::mem::take(&mut container.name),
                    kind: container.kind,
                    requests: std::mem::take(&mut container.requests),
                    ..Container::default()
                };
            }
        }
        let scheduled = status.conditions.iter().find(|c| c.kind == "PodScheduled");
        let unbound = spec.node_name.as_deref().is_none_or(str::is_empty);
        let server = containers.iter().any(|c| c.server.is_some());
        let (resource_claims, claimed_resources) = claims_of(
            spec.resource_claims,
            &status.resource_claim_statuses,
            status.extended_resource_claim_status,
        );
        Pod {
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            uid: self.metadata.uid.unwrap_or_default(),
            node: spec.node_name.filter(|n| !n.is_empty()),
            phase: match status.phase.as_deref() {
                Some("Pending") => PodPhase::Pending,
                Some("Running") => PodPhase::Running,
                Some("Succeeded") => PodPhase::Succeeded,
                Some("Failed") => PodPhase::Failed,
                _ => PodPhase::Unknown,
            },
            created_at: self.metadata.creation_timestamp,
            started_at: status.start_time,
            deleted_at: self.metadata.deletion_timestamp,
            priority: spec.priority,
            mirror: self.metadata.annotations.mirror.is_some(),
            labels: labels::of_pod(self.metadata.labels, keep),
            owner,
            ready: condition(&status.conditions, "Ready"),
            waits_for_gpus: scheduled.filter(|_| unbound).and_then(|c| {
                Some(
                    c.message.as_deref()?.contains("nvidia.com/")
                        || c.message.as_deref()?.contains("amd.com/")
                        || c.message.as_deref()?.contains("resourceclaim")
                        // "cannot allocate all claims": the DRA plugin of the scheduler.
                        || c.message.as_deref()?.contains("claim"),
                )
            }),
            scheduled: scheduled.map(RawCondition::condition),
            ip: status.pod_ip.filter(|ip| !ip.is_empty()),
            placement: (unbound || server)
                .then_some(placement)
                .filter(|p| *p != PodPlacement::default()),
            containers,
            resource_claims,
            claimed_resources,
            origin: None,
            ignore,
        }
    }
}

/// The claims a pod holds by their own names, and the extended resources that one of them stands for.
fn claims_of(spec: Vec<RawClaim>, made: &[RawClaim], extended: Option<RawExtendedClaim>) -> (Vec<String>, Vec<String>) {
    // Made from a template: the status tells the name.
    let generated = |name: &str| made.iter().find(|m| m.name == name)?.resource_claim_name.clone();
    let mut names: Vec<String> = spec
        .into_iter()
        .map(|c| c.resource_claim_name.or_else(|| generated(&c.name)).unwrap_or(c.name))
        .collect();
    let Some(extended) = extended.filter(|e| !e.resource_claim_name.is_empty()) else {
        return (names, Vec::new());
    };
    names.push(extended.resource_claim_name);
    let mut resources: Vec<String> = extended.request_mappings.into_iter().map(|m| m.resource_name).collect();
    resources.sort_unstable();
    resources.dedup();
    (names, resources)
}

fn affinity_terms(affinity: Option<&RawAffinity>) -> Vec<Vec<NodeExpression>> {
    let required = affinity.and_then(|a| a.node_affinity.as_ref()?.required.as_ref());
    required
        .map(|r| {
            r.node_selector_terms
                .iter()
                .map(|t| {
                    t.match_expressions
                        .iter()
                        .map(|e| NodeExpression {
                            key: e.key.clone(),
                            operator: e.operator.clone(),
                            values: e.values.clone(),
                        })
                        .collect()
                })
                .collect()
        })
        .unwrap_or_default()
}

fn fill(container: &mut Container, raw: RawStatus) {
    container.ready = raw.ready;
    container.restarts = raw.restart_count;
    container.last_exit = raw.last_state.and_then(|s| s.terminated).map(RawTerminated::exit);
    container.state = raw.state.and_then(|s| match s {
        RawState { waiting: Some(w), .. } => Some(ContainerState::Waiting { reason: w.reason }),
        RawState { running: Some(r), .. } => Some(ContainerState::Running { since: r.started_at }),
        RawState {
            terminated: Some(t), ..
        } => Some(ContainerState::Terminated(t.exit())),
        RawState { .. } => None,
    });
}

// --- owners ----------------------------------------------------------------------------------------------------------

/// Any object above pods: Deployment, StatefulSet, Job, LeaderWorkerSet, …
#[derive(Deserialize)]
pub(super) struct RawController {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawControllerSpec,
    #[serde(default)]
    status: RawControllerStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawControllerSpec {
    #[serde(deserialize_with = "number")]
    replicas: Option<u64>,
    leader_worker_template: Option<RawGroup>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawGroup {
    #[serde(deserialize_with = "number")]
    size: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawControllerStatus {
    #[serde(deserialize_with = "time")]
    completion_time: Option<Timestamp>,
}

/// A count; custom resources may hold anything under that name.
fn number<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<serde_json::Value>::deserialize(d)?.and_then(|v| v.as_u64()))
}

impl RawController {
    pub(super) fn into_controller(self, group: &str, kind: &str, keep: &[String]) -> Controller {
        Controller {
            group: group.into(),
            kind: kind.into(),
            owner: self.metadata.owner(),
            ignore: self.metadata.ignore(),
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            replicas: self.spec.replicas,
            group_size: self.spec.leader_worker_template.and_then(|t| t.size),
            created_at: self.metadata.creation_timestamp,
            completed_at: self.status.completion_time,
            labels: labels::of_pod(self.metadata.labels, keep),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawAutoscaler {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawAutoscalerSpec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawAutoscalerSpec {
    min_replicas: Option<u64>,
    max_replicas: u64,
    scale_target_ref: RawOwner,
}

impl RawAutoscaler {
    pub(super) fn into_autoscaler(self) -> Autoscaler {
        let target = self.spec.scale_target_ref;
        Autoscaler {
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            target: OwnerRef {
                group: target
                    .api_version
                    .split_once('/')
                    .map_or(String::new(), |(g, _)| g.into()),
                kind: target.kind,
                name: target.name,
            },
            // Kubernetes' default.
            min_replicas: self.spec.min_replicas.unwrap_or(1),
            max_replicas: self.spec.max_replicas,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawBudget {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawBudgetSpec,
    #[serde(default)]
    status: RawBudgetStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawBudgetSpec {
    selector: Option<RawSelector>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSelector {
    #[serde(deserialize_with = "lenient")]
    match_labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    match_expressions: Vec<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawBudgetStatus {
    desired_healthy: Option<u64>,
}

impl RawBudget {
    pub(super) fn into_budget(self) -> DisruptionBudget {
        DisruptionBudget {
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            match_labels: self
                .spec
                .selector
                .filter(|s| s.match_expressions.is_empty())
                .map(|s| s.match_labels),
            desired_healthy: self.status.desired_healthy,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawPodMetrics {
    metadata: RawMeta,
    #[serde(default)]
    containers: Vec<RawContainerMetrics>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawContainerMetrics {
    name: String,
    #[serde(deserialize_with = "lenient")]
    usage: BTreeMap<String, String>,
}

impl RawPodMetrics {
    pub(super) fn into_usage(self) -> PodUsage {
        let cpu = self.containers.into_iter().filter_map(|c| {
            let cores = quantity::parse(c.usage.get("cpu")?)?;
            Some((c.name, MilliCores((cores * 1000.0).round() as u64)))
        });
        PodUsage {
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            cpu: cpu.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opt_out_needs_a_reason() {
        assert_eq!(
            parse_ignore("dark-capacity,kv-pressure canary until Friday"),
            Some(Ignore {
                checks: vec!["dark-capacity".into(), "kv-pressure".into()],
                reason: "canary until Friday".into()
            })
        );
        assert_eq!(parse_ignore("dark-capacity"), None);
        assert_eq!(parse_ignore(" "), None);
    }

    #[test]
    fn a_pod_is_trimmed_and_holds_no_secrets() {
        let text = r#"{"metadata":{"name":"p","namespace":"n","uid":"u","creationTimestamp":"2026-11-01T00:00:00Z",
            "annotations":{"kubectl.kubernetes.io/last-applied-configuration":"CANARY-1","gpuwaste.dev/ignore":"all test"},
            "labels":{"app":"x","api-key":"CANARY-2"},
            "ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"p-abc","controller":true}]},
          "spec":{"nodeName":"n1","containers":[{"name":"c","image":"vllm/vllm-openai:v0.11.0","command":["sh","-c","vllm serve org/m --api-key CANARY-3 --tensor-parallel-size 2"],
            "env":[{"name":"HF_TOKEN","value":"CANARY-4"},{"name":"S","valueFrom":{"secretKeyRef":{"name":"CANARY-5","key":"k"}}}],
            "resources":{"limits":{"nvidia.com/gpu":"2","cpu":"4","memory":"8Gi","ephemeral-storage":"1Gi"}}}]},
          "status":{"phase":"Running","conditions":[{"type":"Ready","status":"True","lastTransitionTime":"2026-11-02T00:00:00Z","message":"CANARY-6"}],
            "containerStatuses":[{"name":"c","ready":true,"restartCount":2,"state":{"running":{"startedAt":"2026-11-02T00:00:00Z"}},
              "lastState":{"terminated":{"exitCode":137,"reason":"OOMKilled","message":"CANARY-7"}}}]}}"#;
        let pod = serde_json::from_str::<RawPod>(text).unwrap().into_pod(&[]);
        let container = &pod.containers[0];
        assert_eq!(container.requests.devices["nvidia.com/gpu"], 2);
        assert_eq!(
            container.requests.cpu,
            Some(MilliCores(4000)),
            "a limit without a request is the request"
        );
        assert_eq!(container.server.as_ref().and_then(|s| s.tensor_parallel), Some(2));
        assert_eq!(container.last_exit.as_ref().map(|e| e.code), Some(137));
        assert_eq!(pod.ignore.as_ref().map(|i| i.checks.clone()), Some(vec!["all".into()]));
        let stored = format!("{} {pod:?}", serde_json::to_string(&pod).unwrap());
        assert!(!stored.contains("CANARY"), "{stored}");
    }

    #[test]
    fn nulls_and_missing_parts_are_no_error() {
        let pod = serde_json::from_str::<RawPod>(
            r#"{"metadata":{"name":"p","labels":null,"ownerReferences":null},"spec":{"containers":null},"status":{"conditions":null,"startTime":null}}"#,
        );
        assert!(pod.is_ok());
        let node = serde_json::from_str::<RawNode>(
            r#"{"metadata":{"name":"n"},"status":{"capacity":{"nvidia.com/gpu":"99999999999999999999","cpu":"-4"}}}"#,
        )
        .unwrap();
        assert!(node.has_gpus(|_| false), "an absurd amount is still a GPU node");
        assert!(node.into_node(&[]).capacity.devices.is_empty());
    }
}
