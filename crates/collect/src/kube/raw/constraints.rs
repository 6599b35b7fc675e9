//! What ties a pod to its node or keeps it off others, beside its requests and its node selection.

use super::lenient;
use super::placement::{RawAffinity, RawPodTerm};
use crate::kube::selectors::{Query, Selections, Selector};
use crate::snapshot::constraints::{Constraints, PodTerm, Spread};
use crate::snapshot::resources::is_device;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawSpread {
    topology_key: String,
    max_skew: u32,
    when_unsatisfiable: String,
    label_selector: Option<Selector>,
    min_domains: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    match_label_keys: Vec<String>,
    node_affinity_policy: Option<String>,
    node_taints_policy: Option<String>,
}

/// A pod's constraints, of which the selectors are still to be matched.
#[derive(Default)]
pub(in crate::kube) struct Unresolved {
    known: Constraints,
    anti_affinity: Vec<Term>,
    affinity: Vec<Term>,
    spread: Vec<(Spread, Query)>,
}

/// `None`: namespaces are chosen by their labels, which are not read.
type Term = (String, Option<Vec<Query>>);

/// Volumes that any node can have.
const ANYWHERE: &[&str] = &["configMap", "secret", "projected", "downwardAPI", "emptyDir", "name"];

/// What of a specification decides where the pod can run.
pub(super) struct Told<'a> {
    pub(super) namespace: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) scheduler: Option<String>,
    pub(super) affinity: Option<&'a RawAffinity>,
    pub(super) spread: Vec<RawSpread>,
    /// The kinds of its volumes.
    pub(super) volumes: Vec<String>,
    pub(super) host_ports: Vec<u16>,
    /// Resources that its containers ask for, by name.
    pub(super) resources: Vec<String>,
    pub(super) do_not_disrupt: bool,
    /// Parts that are there and not read.
    pub(super) other: Vec<String>,
}

fn terms(namespace: &str, terms: &[RawPodTerm]) -> Vec<Term> {
    let of = |t: &RawPodTerm| {
        let own = [namespace.to_string()];
        let namespaces: &[String] = if t.namespaces.is_empty() { &own } else { &t.namespaces };
        let query = |ns: &String| Query {
            namespace: ns.clone(),
            selector: t.label_selector.clone(),
        };
        let known = t.namespace_selector.is_none() && !t.by_own_labels();
        (
            t.topology_key.clone(),
            known.then(|| namespaces.iter().map(query).collect()),
        )
    };
    terms.iter().map(of).collect()
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all.dedup();
    all
}

pub(super) fn constraints(told: Told<'_>) -> Unresolved {
    let modelled = |r: &String| matches!(r.as_str(), "cpu" | "memory" | "ephemeral-storage") || is_device(r);
    let mut other = told.other;
    other.extend(told.resources.into_iter().filter(|r| !modelled(r)));
    let hard = |s: &RawSpread| s.when_unsatisfiable != "ScheduleAnyway";
    let spread = told.spread.into_iter().filter(hard).map(|s| {
        // Without a selector the keys are not looked at.
        let own = s.match_label_keys.iter().filter_map(|k| Some((k, told.labels.get(k)?)));
        let query = Query {
            namespace: told.namespace.into(),
            selector: s.label_selector.map(|selector| selector.and(own)),
        };
        let spread = Spread {
            topology_key: s.topology_key,
            max_skew: s.max_skew,
            selection: None,
            min_domains: s.min_domains,
            honors_taints: s.node_taints_policy.as_deref() == Some("Honor"),
            ignores_affinity: s.node_affinity_policy.as_deref() == Some("Ignore"),
            whole: true,
        };
        (spread, query)
    });
    let of =
        |part: fn(&RawAffinity) -> &[RawPodTerm]| told.affinity.map_or(Vec::new(), |a| terms(told.namespace, part(a)));
    Unresolved {
        anti_affinity: of(RawAffinity::anti),
        affinity: of(RawAffinity::together),
        spread: spread.collect(),
        known: Constraints {
            scheduler: told.scheduler.filter(|s| !s.is_empty() && s != "default-scheduler"),
            volumes: sorted(
                told.volumes
                    .into_iter()
                    .filter(|v| !ANYWHERE.contains(&v.as_str()))
                    .collect(),
            ),
            host_ports: sorted(told.host_ports),
            do_not_disrupt: told.do_not_disrupt,
            other: sorted(other),
            ..Constraints::default()
        },
    }
}

impl Unresolved {
    pub(in crate::kube) fn resolve(self, selections: &mut Selections) -> Constraints {
        let mut terms = |all: Vec<Term>| -> Vec<PodTerm> {
            let mut found = Vec::new();
            for (topology_key, queries) in all {
                let Some(queries) = queries else {
                    found.push(PodTerm {
                        topology_key,
                        selection: None,
                    });
                    continue;
                };
                found.extend(queries.into_iter().map(|q| PodTerm {
                    topology_key: topology_key.clone(),
                    selection: selections.over(&topology_key, q),
                }));
            }
            found
        };
        let (anti_affinity, affinity) = (terms(self.anti_affinity), terms(self.affinity));
        let spread = self.spread.into_iter().map(|(spread, query)| Spread {
            selection: selections.over(&spread.topology_key, query),
            ..spread
        });
        Constraints {
            anti_affinity,
            affinity,
            spread: spread.collect(),
            ..self.known
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::kube::raw::RawPod;
    use crate::kube::selectors::{Labelled, Selections, Selector};
    use std::collections::BTreeMap;

    #[test]
    fn a_selector_that_names_nothing_is_not_asked_about() {
        for (text, narrows) in [
            ("{}", false),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"NotIn","values":["x"]}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"DoesNotExist"}]}"#,
                false,
            ),
            (r#"{"matchExpressions":[{"key":"app","operator":"Exists"}]}"#, true),
            (r#"{"matchLabels":{"app":"x"}}"#, true),
        ] {
            let selector: Selector = serde_json::from_str(text).unwrap();
            assert_eq!(selector.narrows(), narrows, "{text}");
        }
    }

    /// A spread as the scheduler takes it: matchLabelKeys narrow whom it counts, and what it counts over is all told.
    #[test]
    fn a_spread_is_read_as_a_whole() {
        let text = r#"{"metadata":{"name":"a","namespace":"ml","labels":{"app":"x","pod-template-hash":"1"}},"spec":{"topologySpreadConstraints":[
            {"topologyKey":"topology.kubernetes.io/zone","maxSkew":2,"minDomains":3,"whenUnsatisfiable":"DoNotSchedule",
             "labelSelector":{"matchLabels":{"app":"x"}},"matchLabelKeys":["pod-template-hash","missing"],"nodeTaintsPolicy":"Honor","nodeAffinityPolicy":"Ignore"},
            {"topologyKey":"rack","maxSkew":1,"whenUnsatisfiable":"ScheduleAnyway","labelSelector":{}},
            {"topologyKey":"rack","maxSkew":1,"whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"app":"x"}}}]}}"#;
        let pod: RawPod = serde_json::from_str(text).unwrap();
        let labelled = |name: &str, hash: &str| Labelled {
            namespace: "ml".into(),
            name: name.into(),
            labels: BTreeMap::from([("app".into(), "x".into()), ("pod-template-hash".into(), hash.into())]),
        };
        let mut selections = Selections::new(vec![labelled("a", "1"), labelled("b", "2")]);
        let constraints = pod.constraints().resolve(&mut selections);
        let [first, second] = &constraints.spread[..] else {
            panic!("{constraints:?}")
        };
        assert_eq!(
            (
                first.max_skew,
                first.min_domains,
                first.honors_taints,
                first.ignores_affinity,
                first.whole
            ),
            (2, Some(3), true, true, true)
        );
        assert_eq!(
            (
                second.min_domains,
                second.honors_taints,
                second.ignores_affinity,
                second.whole
            ),
            (None, false, false, true)
        );
        assert_eq!(selections.all[first.selection.unwrap()].pods, ["ml/a"]);
        assert_eq!(selections.all[second.selection.unwrap()].pods, ["ml/a", "ml/b"]);
        // Of both it is asked whom they match elsewhere, in the API's own words.
        let asked: Vec<Option<String>> = selections
            .far()
            .iter()
            .map(|(q, _)| q.selector.as_ref()?.text())
            .collect();
        assert_eq!(
            asked,
            [Some("app=x".into()), Some("app=x,pod-template-hash in (1)".into())]
        );
    }
}
