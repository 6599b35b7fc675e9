//! Where a pod may go: node selectors, affinities, tolerations.

use super::lenient;
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
