//! Nodes: which of them have GPUs, and what of them is kept.

use super::{RawCondition, RawMeta, condition, lenient, time};
use crate::kube::answer::ApiObject;
use crate::kube::labels;
use crate::kube::quantity;
use crate::kube::spec::resources;
use crate::machine::{self, digest};
use crate::snapshot::cluster::{Node, Outage, Taint};
use crate::snapshot::resources::is_device;
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

impl ApiObject for RawNode {
    const NAMESPACED: bool = false;

    fn meta(&self) -> &RawMeta {
        &self.metadata
    }
}

/// What a monitor of the node's health says of its GPUs. There is no standard of these conditions: names that speak of GPUs
/// count, by whether they name what is right ("AcceleratedHardwareReady") or what is wrong ("GPUMissing", "XIDErrors").
fn broken(conditions: &[RawCondition]) -> Option<Outage> {
    const OF_GPUS: &[&str] = &["gpu", "xid", "nvlink", "acceleratedhardware"];
    const WRONG: &[&str] = &[
        "unhealthy",
        "missing",
        "error",
        "fail",
        "fault",
        "lost",
        "inactive",
        "problem",
        "degraded",
        "watch",
    ];
    const RIGHT: &[&str] = &["ready", "healthy", "ok"];
    let says_broken = |c: &&RawCondition| {
        let name = c.kind.to_ascii_lowercase();
        if !OF_GPUS.iter().any(|w| name.contains(w)) {
            return false;
        }
        let status = |s: &str| c.status == s;
        if WRONG.iter().any(|w| name.contains(w)) {
            status("True")
        } else {
            RIGHT.iter().any(|w| name.ends_with(w)) && status("False")
        }
    };
    let found = conditions
        .iter()
        .filter(says_broken)
        .min_by_key(|c| c.last_transition_time)?;
    let reason = found.reason.as_deref().filter(|r| !r.is_empty());
    Some(Outage {
        state: Outage::GPUS_BROKEN.into(),
        reason: Some(reason.map_or_else(|| found.kind.clone(), |r| format!("{}: {r}", found.kind))),
        since: found.last_transition_time,
    })
}

/// Amazon's ids end in an instance's ("i-0abc"); where the end is another word, it names no machine (Fargate, virtual nodes).
fn names_a_machine(provider_id: &str) -> bool {
    let last = provider_id.rsplit('/').next().unwrap_or_default();
    !last.is_empty() && (!provider_id.starts_with("aws:") || last.starts_with("i-"))
}

impl RawNode {
    pub(in crate::kube) fn name(&self) -> &str {
        &self.metadata.name
    }

    pub(in crate::kube) fn labels(&self) -> &BTreeMap<String, String> {
        &self.metadata.labels
    }

    pub(in crate::kube) fn has_gpus(&self, is_gpu_instance: fn(&str) -> bool) -> bool {
        let capacity = self
            .status
            .capacity
            .iter()
            .any(|(name, amount)| is_device(name) && quantity::count(amount) != Some(0));
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
        // Every kubelet reports these; a node without them, or with a time that none can have, was not read.
        let ready = condition(&self.status.conditions, "Ready");
        let unread = ready.is_none() || self.status.capacity.is_empty() || self.metadata.creation_timestamp.is_none();
        let registered = self.metadata.annotations.registered;
        Node {
            name: self.metadata.name,
            uid: self.metadata.uid.filter(|u| !u.is_empty()),
            machine: self
                .spec
                .provider_id
                .as_deref()
                .filter(|id| names_a_machine(id))
                .map(digest),
            billed_as: self.spec.provider_id.as_deref().and_then(machine::of_provider_id),
            unread,
            created_at: self.metadata.creation_timestamp,
            labels: labels::of_node(self.metadata.labels, keep),
            provider: self
                .spec
                .provider_id
                .and_then(|id| id.split_once("://").map(|(scheme, _)| scheme.to_string())),
            unschedulable: self.spec.unschedulable,
            taints: self.spec.taints.into_iter().map(RawTaint::into_taint).collect(),
            ready,
            capacity: resources(&self.status.capacity),
            allocatable: resources(&self.status.allocatable),
            planned: false,
            registered,
            outage: broken(&self.status.conditions),
            kept: None,
            unused_since: None,
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
        let node = node.into_node(&[]);
        assert!(node.capacity.devices.is_empty());
        assert_eq!(
            node.capacity.unread,
            ["cpu", "nvidia.com/gpu"],
            "and what it has is unread"
        );
    }

    #[test]
    fn a_node_without_what_kubelets_report_is_unread() {
        let node = |meta: &str, status: &str| {
            let text = format!(
                r#"{{"metadata":{{"name":"n"{meta}}},"spec":{{"providerID":"aws:///a/i-0abc12def"}},"status":{{{status}}}}}"#
            );
            serde_json::from_str::<RawNode>(&text).unwrap().into_node(&[])
        };
        let born = r#","creationTimestamp":"2026-01-01T00:00:00Z""#;
        let ready = r#""conditions":[{"type":"Ready","status":"True"}]"#;
        let capacity = r#""capacity":{"nvidia.com/gpu":"8"}"#;
        let whole = node(born, &format!("{ready},{capacity}"));
        assert!(!whole.unread);
        assert_eq!(whole.machine.as_deref(), Some(digest("aws:///a/i-0abc12def").as_str()));
        assert_eq!(
            whole.billed_as,
            machine::of_resource("i-0abc12def", None),
            "as its bill calls it"
        );
        let told = [
            ("aws:///x/y", false),
            ("aws:///", false),
            ("gce://p/z/n", true),
            ("", false),
        ];
        assert!(told.iter().all(|(id, is)| names_a_machine(id) == *is));
        for (meta, status) in [
            (born, ready),
            (born, capacity),
            (born, ""),
            ("", &*format!("{ready},{capacity}")),
            (
                r#","creationTimestamp":"1969-12-31T23:59:59Z""#,
                &*format!("{ready},{capacity}"),
            ),
            (
                r#","creationTimestamp":"9999-01-01T00:00:00Z""#,
                &*format!("{ready},{capacity}"),
            ),
        ] {
            assert!(node(meta, status).unread, "{meta} {status}");
        }
    }
}
