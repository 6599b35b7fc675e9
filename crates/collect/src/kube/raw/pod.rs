//! Pods: who holds what where, and what runs in them.

use super::constraints::{RawSpread, Told, Unresolved, constraints};
use super::placement::{RawAffinity, RawToleration, placement};
use super::scheduler::{self, Cause};
use super::status::{RawClaim, RawPodStatus, claims_of, fill};
use super::{RawCondition, RawMeta, condition, lenient};
use crate::kube::answer::ApiObject;
use crate::kube::config_maps::{self, Wants};
use crate::kube::labels;
use crate::kube::spec::{RawContainer, RawVolume};
use crate::snapshot::cluster::{Container, Pod, PodPhase, PodPlacement, Toleration};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
pub(in crate::kube) struct RawPod {
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
    topology_spread_constraints: Vec<RawSpread>,
    #[serde(deserialize_with = "lenient")]
    resource_claims: Vec<RawClaim>,
    #[serde(deserialize_with = "lenient")]
    volumes: Vec<RawVolume>,
    scheduler_name: Option<String>,
    #[serde(deserialize_with = "lenient")]
    overhead: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    scheduling_gates: Vec<serde::de::IgnoredAny>,
    resources: Option<serde::de::IgnoredAny>,
    host_network: bool,
}

/// The pod that a template would make, with the labels of `keep` beside those that are always kept, and the `ConfigMap`s with its servers' settings that `map` does not know; `None`:
/// parts of it have the wrong shape.
pub fn pod_of_template(
    template: serde_json::Value,
    keep: &[String],
    map: impl Fn(&str) -> Option<BTreeMap<String, String>>,
) -> Option<(Pod, BTreeSet<String>)> {
    let mut raw: RawPod = serde_json::from_value(template).ok()?;
    raw.fill_fields();
    let wants = raw.wants();
    let mut pod = raw.into_pod(keep);
    // What does not run has no state.
    pod.unread = false;
    let lacking = config_maps::fill(&mut pod, wants, map);
    Some((pod, lacking))
}

impl ApiObject for RawPod {
    fn meta(&self) -> &RawMeta {
        &self.metadata
    }

    fn lacks(&self) -> Option<&'static str> {
        self.spec.containers.is_empty().then_some("containers")
    }
}

impl RawPod {
    /// It names an owner that no object can be.
    pub(in crate::kube) fn is_orphan(&self) -> bool {
        self.metadata.points_nowhere()
    }

    pub(in crate::kube) fn into_name(self) -> (String, String) {
        (self.metadata.namespace, self.metadata.name)
    }

    /// Whether the parts are missing that the API server (a phase, a creation time) and the kubelet (the Ready condition of
    /// what runs) always write.
    fn is_unread(&self) -> bool {
        let status = &self.status;
        let phase = status.phase.as_deref();
        let known = matches!(phase, Some("Pending" | "Running" | "Succeeded" | "Failed" | "Unknown"));
        let runs_without = phase == Some("Running") && condition(&status.conditions, "Ready").is_none();
        !known || runs_without || self.metadata.creation_timestamp.is_none()
    }

    pub(in crate::kube) fn labels(&self) -> &BTreeMap<String, String> {
        self.metadata.labels()
    }

    /// Where else it cannot run; selectors are still to be matched.
    pub(in crate::kube) fn constraints(&self) -> Unresolved {
        let spec = &self.spec;
        let containers = || spec.containers.iter().chain(&spec.init_containers);
        let affinity = spec.affinity.as_ref();
        let present = [
            (!spec.overhead.is_empty(), "overhead"),
            (!spec.scheduling_gates.is_empty(), "schedulingGates"),
            (spec.resources.is_some(), "resources of the pod"),
            (affinity.is_some_and(RawAffinity::has_match_fields), "matchFields"),
        ];
        // A port of a pod in the host's network is the host's.
        let own = |c: &RawContainer| c.port_numbers().filter(|_| spec.host_network).collect::<Vec<_>>();
        constraints(Told {
            namespace: &self.metadata.namespace,
            labels: self.metadata.labels(),
            scheduler: spec.scheduler_name.clone(),
            affinity,
            volumes: spec.volumes.iter().flat_map(RawVolume::other_kinds).cloned().collect(),
            host_ports: containers().flat_map(|c| c.host_ports().chain(own(c))).collect(),
            resources: containers().flat_map(RawContainer::resource_names).cloned().collect(),
            do_not_disrupt: self.metadata.annotations.do_not_disrupt,
            other: present.iter().filter(|p| p.0).map(|p| p.1.to_string()).collect(),
            spread: spec.topology_spread_constraints.clone(),
        })
    }

    pub(in crate::kube) fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref().filter(|n| !n.is_empty())
    }

    /// Variables that are labels of the pod get their values.
    pub(in crate::kube) fn fill_fields(&mut self) {
        for container in &mut self.spec.containers {
            container.fill_fields(self.metadata.labels());
        }
    }

    /// Containers with settings in ConfigMaps, of those that hold GPUs.
    pub(in crate::kube) fn wants(&self) -> Vec<Wants> {
        let claims = !self.spec.resource_claims.is_empty();
        self.spec
            .containers
            .iter()
            .filter(|c| claims || c.asks_for_devices())
            .filter_map(|c| c.wants(&self.metadata.namespace, &self.metadata.name, &self.spec.volumes))
            .collect()
    }

    pub(in crate::kube) fn into_pod(self, keep: &[String]) -> Pod {
        let owner = self.metadata.owner();
        let ignore = self.metadata.ignore();
        let unread = self.is_unread();
        let (spec, status) = (self.spec, self.status);
        let mut placement = placement(
            spec.node_selector,
            spec.affinity.as_ref(),
            spec.tolerations,
            !spec.topology_spread_constraints.is_empty(),
        );
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
        if let Some(model) = model_uri.as_deref().and_then(crate::engine::model_of_uri) {
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
        // Where pods may run decides whether moving one makes room. The API server gives each pod these two tolerations.
        let on_gpus =
            !spec.resource_claims.is_empty() || containers.iter().any(|c| c.server.is_some() || c.has_devices());
        if !on_gpus && !unbound {
            let given = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
            let own = |t: &Toleration| t.key.as_deref().is_none_or(|k| !given.contains(&k));
            placement.tolerations.retain(own);
        }
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
            unread,
            mirror: self.metadata.annotations.mirror,
            gpu_indices: Vec::new(),
            suspended: false,
            step_gpus: None,
            time_limit_seconds: None,
            labels: labels::of_pod(self.metadata.labels, keep),
            owner,
            ready: condition(&status.conditions, "Ready"),
            waits_for_gpus: scheduled.filter(|_| unbound).and_then(|c| {
                let causes = scheduler::causes(c.message.as_deref()?);
                Some(
                    causes
                        .iter()
                        .any(|c| matches!(c, Cause::Devices | Cause::ResourceClaim)),
                )
            }),
            scheduled: scheduled.map(RawCondition::condition),
            ip: status.pod_ip.filter(|ip| !ip.is_empty()),
            placement: Some(placement).filter(|p| *p != PodPlacement::default()),
            constraints: None,
            containers,
            resource_claims,
            claimed_resources,
            origin: None,
            ignore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MilliCores;

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
    }
}
