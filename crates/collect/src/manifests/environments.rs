//! Objects of one kind, namespace and name that stand more than once: copies of one, or one for each of several environments.

use super::around::{name, namespace};
use super::yaml::Document;
use super::{Environment, Manifests};
use crate::snapshot::Gap;
use std::collections::{BTreeMap, HashSet};

/// Where a document's pods belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index among the environments; 0 is all that stands once.
    pub(super) environment: usize,
    /// It stands elsewhere too, with other contents.
    pub(super) twin: bool,
}

/// Identity of an object in one cluster.
type Identity = (String, String, String, String);

/// The place of each document; `None`: a copy of an earlier one, which counts once.
pub(super) fn of(documents: &[Document], all: &mut Manifests) -> Vec<Option<Place>> {
    let mut same: BTreeMap<Identity, Vec<usize>> = BTreeMap::new();
    for (index, document) in documents.iter().enumerate() {
        let object = &document.value;
        let word = |key: &str| object[key].as_str().unwrap_or_default().to_string();
        let group = word("apiVersion")
            .split_once('/')
            .map_or(String::new(), |(g, _)| g.to_string());
        // A name that the API server makes up is another one each time.
        if object["metadata"]["name"].is_string() && !super::is_slim(object) {
            let identity = (group, word("kind"), namespace(object), name(object));
            same.entry(identity).or_default().push(index);
        }
    }
    let alone = Place {
        environment: 0,
        twin: false,
    };
    let mut places = vec![Some(alone); documents.len()];
    for ((_, kind, namespace, name), of_one) in same.into_iter().filter(|(_, of_one)| of_one.len() > 1) {
        let mut different: Vec<usize> = Vec::new();
        for index in of_one {
            match different
                .iter()
                .find(|d| documents[**d].value == documents[index].value)
            {
                Some(first) => {
                    places[index] = None;
                    all.gaps.push(copy(&documents[*first], &documents[index], &kind, &name));
                }
                None => different.push(index),
            }
        }
        if different.len() < 2 {
            continue;
        }
        let names = names(&different.iter().map(|d| &documents[*d]).collect::<Vec<_>>());
        for (index, environment) in different.iter().zip(&names) {
            places[*index] = Some(Place {
                environment: all.environment(environment),
                twin: true,
            });
        }
        // What makes no pods is looked up where it is near.
        if !["ConfigMap", "Kustomization"].contains(&kind.as_str()) {
            let at = |d: &usize| format!("{}:{}", documents[*d].file, documents[*d].line);
            all.gaps.push(Gap {
                source: different.iter().map(at).collect::<Vec<_>>().join(", "),
                what: format!("{kind} {namespace}/{name}"),
                reason: "it stands several times, each time with other contents".into(),
                effect: format!(
                    "each is taken for an environment of its own, by the name of its place: {}",
                    names.join(", ")
                ),
                remedy: "check one environment at a time, where they are not to be added up".into(),
            });
        }
    }
    places
}

fn copy(first: &Document, again: &Document, kind: &str, name: &str) -> Gap {
    Gap {
        source: format!("{}:{}", again.file, again.line),
        what: format!("{kind} {name}"),
        reason: format!("it is the same as in {}:{}", first.file, first.line),
        effect: "it is counted once".into(),
        remedy: "name each file once".into(),
    }
}

/// Names by which the documents are told apart: the shortest ends of their folders, else of their files, else their lines.
fn names(documents: &[&Document]) -> Vec<String> {
    let folder = |file: &str| file.rsplit_once('/').map_or(String::new(), |(f, _)| f.to_string());
    let ways: [Vec<String>; 3] = [
        documents.iter().map(|d| folder(&d.file)).collect(),
        documents.iter().map(|d| d.file.clone()).collect(),
        documents.iter().map(|d| format!("{}:{}", d.file, d.line)).collect(),
    ];
    for paths in &ways {
        let distinct: HashSet<&String> = paths.iter().collect();
        if distinct.len() < paths.len() || paths.iter().any(String::is_empty) {
            continue;
        }
        let depth = paths.iter().map(|p| p.split('/').count()).max().unwrap_or(1);
        for parts in 1..=depth {
            let ends: Vec<String> = paths.iter().map(|p| end(p, parts)).collect();
            if ends.iter().collect::<HashSet<_>>().len() == ends.len() {
                return ends;
            }
        }
    }
    ways[2].clone()
}

/// The last parts of a path.
fn end(path: &str, parts: usize) -> String {
    let all: Vec<&str> = path.split('/').collect();
    all[all.len().saturating_sub(parts)..].join("/")
}

impl Manifests {
    /// The environment of that name, made where there is none.
    fn environment(&mut self, name: &str) -> usize {
        let known = self.environments.iter().position(|e| e.name.as_deref() == Some(name));
        known.unwrap_or_else(|| {
            self.environments.push(Environment {
                name: Some(name.to_string()),
                ..Environment::default()
            });
            self.environments.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(file: &str, line: u64, replicas: u64) -> Document {
        Document {
            file: file.into(),
            line,
            value: json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": replicas}}),
            ..Document::default()
        }
    }

    fn placed(documents: &[Document]) -> (Vec<Option<String>>, usize) {
        let mut all = Manifests::new(|_| None);
        let places = of(documents, &mut all);
        let name = |p: &Option<Place>| p.map(|p| all.environments[p.environment].name.clone().unwrap_or_default());
        (places.iter().map(name).collect(), all.gaps.len())
    }

    #[test]
    fn environments_are_named_by_what_tells_them_apart() {
        let some = |names: &[&str]| names.iter().map(|n| Some((*n).to_string())).collect::<Vec<_>>();
        for (files, expected) in [
            (&["dev/c.yaml", "prod/c.yaml"][..], &["dev", "prod"][..]),
            (&["/x/overlays/dev/c.yaml", "/x/overlays/prod/c.yaml"], &["dev", "prod"]),
            (&["a/dev/eu/c.yaml", "a/prod/eu/c.yaml"], &["dev/eu", "prod/eu"]),
            (&["c-dev.yaml", "c-prod.yaml"], &["c-dev.yaml", "c-prod.yaml"]),
            (&["c.yaml", "prod/c.yaml"], &["c.yaml", "prod/c.yaml"]),
            (&["all.yaml", "all.yaml"], &["all.yaml:1", "all.yaml:2"]),
        ] {
            let documents: Vec<Document> = (1..).zip(files).map(|(i, f)| document(f, i, i)).collect();
            assert_eq!(placed(&documents), (some(expected), 1), "{files:?}");
        }
    }

    #[test]
    fn a_copy_is_counted_once_and_said() {
        let (places, gaps) = placed(&[
            document("a.yaml", 1, 1),
            document("b.yaml", 1, 1),
            document("c.yaml", 1, 2),
        ]);
        assert_eq!(places, [Some("a.yaml".into()), None, Some("c.yaml".into())]);
        assert_eq!(gaps, 2);
        let (places, gaps) = placed(&[document("a.yaml", 1, 1), document("b.yaml", 1, 1)]);
        assert_eq!((places, gaps), (vec![Some(String::new()), None], 1));
    }
}
