//! What stands above pods: controllers, autoscalers, disruption budgets.

use super::{Ignore, OwnerRef};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Of a Deployment; `None`: something else, or an older recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// How a Deployment takes a new template, and who writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Rollout {
    /// strategy: Recreate: all old pods go before the first new one comes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recreate: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// maxUnavailable as written: "1", "25%" (Kubernetes' default).
    pub max_unavailable: String,
    /// What applies its manifest, as its labels and annotations say: "Argo CD", "Flux", "Fleet", "Helm".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_by: Option<String>,
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
