//! What ties a pod to its node or keeps it off others, beside its requests and its node selection.
//!
//! Label selectors are resolved while the pods are read: a snapshot holds whom they select, not the labels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Of one pod. That there is none (an older recording) says nothing: such a pod stays where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Constraints {
    /// spec.schedulerName; `None`: the default scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// Required anti-affinity: on none of these pods' topology domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub anti_affinity: Vec<PodTerm>,
    /// Required affinity: on one of these pods' topology domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<PodTerm>,
    /// Topology spread that the scheduler must keep (DoNotSchedule).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<Spread>,
    /// Kinds of volumes that are in one place: "persistentVolumeClaim", "hostPath", … ConfigMaps, secrets and emptyDirs are not named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<u16>,
    /// Its owner asked that nobody moves it (`karpenter.sh/do-not-disrupt`, `cluster-autoscaler.kubernetes.io/safe-to-evict: "false"`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub do_not_disrupt: bool,
    /// What else of its specification bears on where it can run and is not read: "overhead", "hugepages-2Mi", "rdma/hca".
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PodTerm {
    pub topology_key: String,
    /// Index into the cluster's `selections`; `None`: whom it selects is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selection: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spread {
    pub topology_key: String,
    pub max_skew: u32,
    /// As in [`PodTerm`]; what `matchLabelKeys` adds to it is in it, where `whole`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selection: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_domains: Option<u32>,
    /// nodeTaintsPolicy: Honor (Kubernetes' default: Ignore).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub honors_taints: bool,
    /// nodeAffinityPolicy: Ignore (Kubernetes' default: Honor).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignores_affinity: bool,
    /// All of it was read; older recordings have the first three fields alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// Whom a label selector matches among the pods that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Selection {
    /// "namespace/name", sorted.
    pub pods: Vec<String>,
    /// It matches pods on nodes without GPUs, too, which are not in the snapshot; `None`: nobody asked, since no rule over more than
    /// a node needs it, or the answer was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<bool>,
}
