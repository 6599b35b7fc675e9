//! Label selectors, matched while the pods' labels are at hand: a snapshot keeps whom they select.

use super::raw::lenient;
use crate::snapshot::constraints::Selection;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Selector {
    #[serde(deserialize_with = "lenient")]
    match_labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    match_expressions: Vec<Expression>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
struct Expression {
    key: String,
    operator: String,
    #[serde(deserialize_with = "lenient")]
    values: Vec<String>,
}

impl Selector {
    /// Its labels, where it has nothing else.
    pub(super) fn only_labels(self) -> Option<BTreeMap<String, String>> {
        self.match_expressions.is_empty().then_some(self.match_labels)
    }

    /// The same, of pods that have these labels.
    pub(super) fn and<'l>(mut self, labels: impl Iterator<Item = (&'l String, &'l String)>) -> Self {
        self.match_expressions.extend(labels.map(|(key, value)| Expression {
            key: key.clone(),
            operator: "In".into(),
            values: vec![value.clone()],
        }));
        self
    }

    /// As the API takes it in a query; `None`: it has a name that no label has.
    pub(super) fn text(&self) -> Option<String> {
        let plain = |s: &String| s.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        let mut all = Vec::new();
        for (key, value) in &self.match_labels {
            (plain(key) && plain(value)).then(|| all.push(format!("{key}={value}")))?;
        }
        for e in &self.match_expressions {
            let known = plain(&e.key) && !e.key.is_empty() && e.values.iter().all(plain);
            let values = e.values.join(",");
            let one = match e.operator.as_str() {
                "In" => format!("{} in ({values})", e.key),
                "NotIn" => format!("{} notin ({values})", e.key),
                "Exists" => e.key.clone(),
                "DoesNotExist" => format!("!{}", e.key),
                _ => return None,
            };
            known.then(|| all.push(one))?;
        }
        Some(all.join(","))
    }

    /// It names something that a pod has to have. Others may match nearly all pods of a cluster, and any tenant can write one.
    pub(super) fn narrows(&self) -> bool {
        let positive = |e: &Expression| matches!(e.operator.as_str(), "In" | "Exists");
        !self.match_labels.is_empty() || self.match_expressions.iter().any(positive)
    }

    /// `None`: an operator that the API does not have.
    fn matches(&self, labels: &BTreeMap<String, String>) -> Option<bool> {
        let mut all = self.match_labels.iter().all(|(k, v)| labels.get(k) == Some(v));
        for e in &self.match_expressions {
            let value = labels.get(&e.key);
            let listed = value.is_some_and(|v| e.values.contains(v));
            all &= match e.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => return None,
            };
        }
        Some(all)
    }
}

/// Pods of a namespace that a selector matches. Without one it matches nobody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Query {
    pub(super) namespace: String,
    pub(super) selector: Option<Selector>,
}

/// One pod's labels, for as long as selectors are matched.
pub(super) struct Labelled {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
}

/// The cluster's selections, each once.
#[derive(Default)]
pub(super) struct Selections {
    by_namespace: BTreeMap<String, Vec<Labelled>>,
    known: BTreeMap<Query, Option<usize>>,
    /// Those that rules over more than a node refer to: whom they match elsewhere counts, too.
    far: BTreeSet<usize>,
    pub(super) all: Vec<Selection>,
}

impl Selections {
    pub(super) fn new(pods: Vec<Labelled>) -> Self {
        let mut by_namespace: BTreeMap<String, Vec<Labelled>> = BTreeMap::new();
        for pod in pods {
            by_namespace.entry(pod.namespace.clone()).or_default().push(pod);
        }
        Self {
            by_namespace,
            ..Self::default()
        }
    }

    /// The same of a rule over the domains of a label.
    pub(super) fn over(&mut self, topology_key: &str, query: Query) -> Option<usize> {
        let index = self.of(query)?;
        if topology_key != HOSTNAME {
            self.far.insert(index);
        }
        Some(index)
    }

    /// Of rules over more than a node: the query and its index.
    pub(super) fn far(&self) -> Vec<(Query, usize)> {
        let known = self.known.iter().filter_map(|(q, i)| Some((q.clone(), (*i)?)));
        known.filter(|(_, i)| self.far.contains(i)).collect()
    }

    /// The index of whom it selects.
    pub(super) fn of(&mut self, query: Query) -> Option<usize> {
        if let Some(known) = self.known.get(&query) {
            return *known;
        }
        let pods = self.by_namespace.get(&query.namespace).map_or(&[][..], Vec::as_slice);
        let mut found = Some(Vec::new());
        for pod in pods {
            let matches = query.selector.as_ref().map_or(Some(false), |s| s.matches(&pod.labels));
            match (matches, &mut found) {
                (Some(true), Some(found)) => found.push(format!("{}/{}", pod.namespace, pod.name)),
                (None, _) => found = None,
                _ => {}
            }
        }
        let index = found.map(|mut pods| {
            pods.sort();
            self.all.push(Selection { pods, elsewhere: None });
            self.all.len() - 1
        });
        self.known.insert(query, index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select_as_the_api_server_does() {
        let pod = |name: &str, labels: &[(&str, &str)]| Labelled {
            namespace: "ml".into(),
            name: name.into(),
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        };
        let mut selections = Selections::new(vec![
            pod("a", &[("app", "x"), ("tier", "1")]),
            pod("b", &[("app", "x")]),
            pod("c", &[("app", "y")]),
        ]);
        let mut of = |namespace: &str, selector: &str| {
            let index = selections.of(Query {
                namespace: namespace.into(),
                selector: serde_json::from_str(selector).ok()?,
            })?;
            Some(selections.all[index].pods.join(" "))
        };
        let is = |names: &str| Some(names.to_string());
        assert_eq!(of("ml", r#"{"matchLabels":{"app":"x"}}"#), is("ml/a ml/b"));
        assert_eq!(of("other", r#"{"matchLabels":{"app":"x"}}"#), is(""));
        assert_eq!(of("ml", "{}"), is("ml/a ml/b ml/c"));
        assert_eq!(of("ml", "null"), is(""));
        let with = |e: &str| format!(r#"{{"matchExpressions":[{e}]}}"#);
        assert_eq!(of("ml", &with(r#"{"key":"tier","operator":"Exists"}"#)), is("ml/a"));
        assert_eq!(
            of("ml", &with(r#"{"key":"tier","operator":"DoesNotExist"}"#)),
            is("ml/b ml/c")
        );
        assert_eq!(
            of("ml", &with(r#"{"key":"app","operator":"In","values":["y","z"]}"#)),
            is("ml/c")
        );
        assert_eq!(
            of("ml", &with(r#"{"key":"tier","operator":"NotIn","values":["1"]}"#)),
            is("ml/b ml/c")
        );
        assert_eq!(of("ml", &with(r#"{"key":"tier","operator":"Near"}"#)), None);
    }
}
