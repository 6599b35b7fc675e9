//! Nodes: which of them have GPUs, and what of them is kept.

use super::{RawCondition, RawMeta, condition, lenient, time};
use crate::kube::labels;
use crate::kube::quantity;
use crate::kube::spec::resources;
use crate::snapshot::cluster::{Node, Taint, is_device};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
pub(in crate::kube) struct RawNode {
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
pub(in crate::kube) struct RawTaint {
    key: String,
    value: Option<String>,
    effect: String,
    #[serde(deserialize_with = "time")]
    time_added: Option<Timestamp>,
}

impl RawTaint {
    pub(in crate::kube) fn into_taint(self) -> Taint {
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
    pub(in crate::kube) fn name(&self) -> &str {
        &self.metadata.name
    }

    pub(in crate::kube) fn has_gpus(&self, is_gpu_instance: fn(&str) -> bool) -> bool {
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

    pub(in crate::kube) fn into_node(self, keep: &[String]) -> Node {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absurd_amount_is_no_error() {
        let node = serde_json::from_str::<RawNode>(
            r#"{"metadata":{"name":"n"},"status":{"capacity":{"nvidia.com/gpu":"99999999999999999999","cpu":"-4"}}}"#,
        )
        .unwrap();
        assert!(node.has_gpus(|_| false), "an absurd amount is still a GPU node");
        assert!(node.into_node(&[]).capacity.devices.is_empty());
    }
}
