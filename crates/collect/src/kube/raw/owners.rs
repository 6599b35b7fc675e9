//! What stands above and beside pods: owners, autoscalers, budgets, CPU use.

use super::annotations::applier;
use super::{RawMeta, RawOwner, lenient, time};
use crate::kube::answer::ApiObject;
use crate::kube::labels;
use crate::kube::quantity;
use crate::kube::selectors::{Query, Selections, Selector};
use crate::snapshot::cluster::{Autoscaler, Controller, DisruptionBudget, OwnerRef, PodUsage, Rollout};
use crate::units::MilliCores;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Any object above pods: Deployment, StatefulSet, Job, LeaderWorkerSet, …
#[derive(Deserialize)]
pub(in crate::kube) struct RawController {
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
    /// Deployments' own: other kinds may have anything under these names.
    strategy: serde_json::Value,
    paused: serde_json::Value,
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

/// What is read of these is told by their names alone, or by parts that `lacks` asks for.
macro_rules! api_object {
    ($kind:ty $(, $lacks:expr)?) => {
        impl ApiObject for $kind {
            fn meta(&self) -> &RawMeta {
                &self.metadata
            }

            $(fn lacks(&self) -> Option<&'static str> {
                let lacks: fn(&Self) -> Option<&'static str> = $lacks;
                lacks(self)
            })?
        }
    };
}

api_object!(RawController);
api_object!(RawPodMetrics);
api_object!(RawBudget, |b| b.spec.is_none().then_some("spec"));
api_object!(RawAutoscaler, |a| {
    let target = a.spec.as_ref().map(|s| &s.scale_target_ref);
    target
        .is_none_or(|t| t.kind.is_empty() || t.name.is_empty())
        .then_some("scaleTargetRef")
});

/// A count; custom resources may hold anything under that name.
fn number<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<serde_json::Value>::deserialize(d)?.and_then(|v| v.as_u64()))
}

impl RawController {
    fn rollout(&self) -> Rollout {
        let strategy = &self.spec.strategy;
        let most = &strategy["rollingUpdate"]["maxUnavailable"];
        let label = self.metadata.labels.keys().find_map(|k| applier(k));
        let helm = self
            .metadata
            .labels
            .get("app.kubernetes.io/managed-by")
            .is_some_and(|v| v == "Helm");
        let by = self
            .metadata
            .annotations
            .applied_by
            .or(label)
            .or(helm.then_some("Helm"));
        Rollout {
            recreate: strategy["type"] == "Recreate",
            paused: self.spec.paused == true,
            // Kubernetes' default.
            max_unavailable: most
                .as_u64()
                .map(|n| n.to_string())
                .or(most.as_str().map(String::from))
                .unwrap_or_else(|| "25%".into()),
            applied_by: by.map(String::from),
        }
    }

    pub(in crate::kube) fn into_controller(self, group: &str, kind: &str, keep: &[String]) -> Controller {
        let rollout = (group == "apps" && kind == "Deployment").then(|| self.rollout());
        Controller {
            rollout,
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
pub(in crate::kube) struct RawAutoscaler {
    metadata: RawMeta,
    spec: Option<RawAutoscalerSpec>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawAutoscalerSpec {
    min_replicas: Option<u64>,
    max_replicas: u64,
    scale_target_ref: RawOwner,
}

impl RawAutoscaler {
    pub(in crate::kube) fn into_autoscaler(self) -> Autoscaler {
        let spec = self.spec.unwrap_or_default();
        let target = spec.scale_target_ref;
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
            min_replicas: spec.min_replicas.unwrap_or(1),
            max_replicas: spec.max_replicas,
        }
    }
}

#[derive(Deserialize)]
pub(in crate::kube) struct RawBudget {
    metadata: RawMeta,
    spec: Option<RawBudgetSpec>,
    #[serde(default)]
    status: RawBudgetStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawBudgetSpec {
    selector: Option<Selector>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawBudgetStatus {
    desired_healthy: Option<u64>,
    disruptions_allowed: Option<u64>,
}

impl RawBudget {
    pub(in crate::kube) fn into_budget(self, selections: &mut Selections) -> DisruptionBudget {
        let selector = self.spec.and_then(|s| s.selector);
        DisruptionBudget {
            selection: selections.of(Query {
                namespace: self.metadata.namespace.clone(),
                selector: selector.clone(),
            }),
            disruptions_allowed: self.status.disruptions_allowed,
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            match_labels: selector.and_then(Selector::only_labels),
            desired_healthy: self.status.desired_healthy,
        }
    }
}

#[derive(Deserialize)]
pub(in crate::kube) struct RawPodMetrics {
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
    pub(in crate::kube) fn into_usage(self) -> PodUsage {
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn how_a_deployment_rolls_out_and_who_applies_it_is_read() {
        let of = |meta: &str, spec: &str| {
            let text = format!(r#"{{"metadata":{{"name":"a","namespace":"ml"{meta}}},"spec":{{{spec}}}}}"#);
            let raw: RawController = serde_json::from_str(&text).unwrap();
            raw.into_controller("apps", "Deployment", &[]).rollout.unwrap()
        };
        let by = |meta: &str| of(meta, "").applied_by;
        assert_eq!(of("", "").max_unavailable, "25%");
        assert_eq!(by(""), None);
        let rolling = of(
            "",
            r#""strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":0}},"paused":true"#,
        );
        assert_eq!(
            (rolling.max_unavailable.as_str(), rolling.paused, rolling.recreate),
            ("0", true, false)
        );
        assert!(of("", r#""strategy":{"type":"Recreate"}"#).recreate);
        assert_eq!(
            by(r#","annotations":{"argocd.argoproj.io/tracking-id":"x"}"#).as_deref(),
            Some("Argo CD")
        );
        assert_eq!(
            by(r#","labels":{"kustomize.toolkit.fluxcd.io/name":"x"}"#).as_deref(),
            Some("Flux")
        );
        assert_eq!(
            by(r#","labels":{"app.kubernetes.io/managed-by":"Helm"}"#).as_deref(),
            Some("Helm")
        );
        assert_eq!(by(r#","labels":{"app.kubernetes.io/managed-by":"me"}"#), None);
        let odd: RawController =
            serde_json::from_str(r#"{"metadata":{"name":"a"},"spec":{"strategy":"x","paused":7}}"#).unwrap();
        assert!(odd.into_controller("example.com", "Thing", &[]).rollout.is_none());
    }
}
