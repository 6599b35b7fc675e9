//! Where a pod may go: node selectors, affinities, tolerations.

use super::lenient;
use crate::kube::selectors::Selector;
use crate::snapshot::cluster::{NodeExpression, PodPlacement, Toleration};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(clippy::struct_field_names, reason = "the API's own names")]
pub(super) struct RawAffinity {
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
    required: Vec<RawPodTerm>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawPodTerm {
    pub(super) label_selector: Option<Selector>,
    #[serde(deserialize_with = "lenient")]
    pub(super) namespaces: Vec<String>,
    pub(super) namespace_selector: Option<serde::de::IgnoredAny>,
    pub(super) topology_key: String,
    #[serde(deserialize_with = "lenient")]
    match_label_keys: Vec<serde::de::IgnoredAny>,
    #[serde(deserialize_with = "lenient")]
    mismatch_label_keys: Vec<serde::de::IgnoredAny>,
}

impl RawPodTerm {
    /// Whom it selects depends on the labels of the pod that has it.
    pub(super) fn by_own_labels(&self) -> bool {
        !self.match_label_keys.is_empty() || !self.mismatch_label_keys.is_empty()
    }
}

impl RawAffinity {
    pub(super) fn anti(&self) -> &[RawPodTerm] {
        self.pod_anti_affinity.as_ref().map_or(&[], |a| &a.required)
    }

    pub(super) fn together(&self) -> &[RawPodTerm] {
        self.pod_affinity.as_ref().map_or(&[], |a| &a.required)
    }

    /// Nodes are chosen by their fields, which `PodPlacement` does not have.
    pub(super) fn has_match_fields(&self) -> bool {
        let required = self.node_affinity.as_ref().and_then(|n| n.required.as_ref());
        required.is_some_and(|r| r.node_selector_terms.iter().any(|t| !t.match_fields.is_empty()))
    }
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
    #[serde(deserialize_with = "lenient")]
    match_fields: Vec<serde::de::IgnoredAny>,
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
pub(super) struct RawToleration {
    key: Option<String>,
    operator: Option<String>,
    value: Option<String>,
    effect: Option<String>,
}

/// `spread`: it has topology spread constraints, whose terms are not read.
pub(super) fn placement(
    node_selector: BTreeMap<String, String>,
    affinity: Option<&RawAffinity>,
    tolerations: Vec<RawToleration>,
    spread: bool,
) -> PodPlacement {
    PodPlacement {
        node_selector,
        affinity_terms: affinity_terms(affinity),
        tolerations: tolerations
            .into_iter()
            .map(|t| Toleration {
                key: t.key.filter(|k| !k.is_empty()),
                exists: t.operator.as_deref() == Some("Exists"),
                value: t.value,
                effect: t.effect.filter(|e| !e.is_empty()),
            })
            .collect(),
        other_constraints: spread
            || affinity.is_some_and(|a| {
                [&a.pod_affinity, &a.pod_anti_affinity]
                    .into_iter()
                    .flatten()
                    .any(|p| !p.required.is_empty())
            }),
    }
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
