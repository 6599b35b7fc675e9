//! What other objects of the same input tell of one: ConfigMaps, device claims, serving runtimes, bases, autoscalers. Of
//! several of one name the nearest counts; where two are as near and differ, none does.

use super::claims::{Devices, devices_of_claim};
use super::kinds::{number, text};
use super::yaml::{self, Document};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

type Key = (String, String);

/// Objects of one name, each with its file.
type Named<T> = HashMap<Key, Vec<(String, T)>>;

/// Everything that others may refer to.
#[derive(Default)]
pub(super) struct Store<'a> {
    config_maps: Named<&'a Value>,
    /// Devices that a claim of this template gets.
    claims: Named<Devices>,
    /// KServe's serving runtimes; those of the cluster under an empty namespace.
    runtimes: Named<&'a Value>,
    /// Kubeflow's training runtimes; those of the cluster under an empty namespace.
    trainings: Named<&'a Value>,
    /// `LLMInferenceServiceConfig`s, by name: the well-known ones live in the operator's namespace.
    bases: Named<&'a Value>,
    /// The least replicas that an autoscaler keeps, by "kind name".
    scaled: Named<u64>,
}

/// The store as one object sees it.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    store: &'a Store<'a>,
    file: &'a str,
    /// The same object stands elsewhere too, with other contents: what lies in another folder may be for that one.
    twin: bool,
}

pub(super) fn namespace(object: &Value) -> String {
    text(&object["metadata"]["namespace"]).unwrap_or_else(|| "default".into())
}

pub(super) fn name(object: &Value) -> String {
    text(&object["metadata"]["name"])
        .or_else(|| text(&object["metadata"]["generateName"]))
        .unwrap_or_else(|| "unnamed".into())
}

impl<'a> Store<'a> {
    pub(super) fn of(documents: &'a [Document]) -> Self {
        let mut store = Self::default();
        for document in documents {
            let object = &document.value;
            let key = (namespace(object), name(object));
            let cluster = (String::new(), key.1.clone());
            let file = || document.file.clone();
            match object["kind"].as_str().unwrap_or_default() {
                "ConfigMap" => add(&mut store.config_maps, key, file(), &object["data"]),
                "ResourceClaimTemplate" => {
                    add(
                        &mut store.claims,
                        key,
                        file(),
                        devices_of_claim(&object["spec"]["spec"]),
                    );
                }
                "ResourceClaim" => add(&mut store.claims, key, file(), devices_of_claim(&object["spec"])),
                "ServingRuntime" => add(&mut store.runtimes, key, file(), &object["spec"]),
                "ClusterServingRuntime" => add(&mut store.runtimes, cluster, file(), &object["spec"]),
                "TrainingRuntime" => add(&mut store.trainings, key, file(), &object["spec"]),
                "ClusterTrainingRuntime" => add(&mut store.trainings, cluster, file(), &object["spec"]),
                "LLMInferenceServiceConfig" => add(&mut store.bases, cluster, file(), &object["spec"]),
                "HorizontalPodAutoscaler" | "ScaledObject" => {
                    let spec = &object["spec"];
                    let target = &spec["scaleTargetRef"];
                    let kind = text(&target["kind"]).unwrap_or_else(|| "Deployment".into());
                    let least = if object["kind"] == "ScaledObject" {
                        // KEDA's own default is 0; the idle count holds while none of its triggers is active.
                        [&spec["idleReplicaCount"], &spec["minReplicaCount"]]
                            .into_iter()
                            .find(|v| !v.is_null())
                            .map_or(Some(0), number)
                    } else {
                        number(&spec["minReplicas"])
                    };
                    if let (Some(of), Some(least)) = (text(&target["name"]), least) {
                        add(&mut store.scaled, (key.0, format!("{kind} {of}")), file(), least);
                    }
                }
                _ => {}
            }
        }
        store
    }

    pub(super) fn around(&'a self, document: &'a Document, twin: bool) -> Around<'a> {
        Around {
            store: self,
            file: &document.file,
            twin,
        }
    }
}

fn add<T>(to: &mut Named<T>, key: Key, file: String, value: T) {
    to.entry(key).or_default().push((file, value));
}

impl<'a> Around<'a> {
    /// The one of `all` that is meant.
    fn pick<T: Clone + PartialEq>(&self, all: &Named<T>, namespace: &str, name: &str) -> Option<T> {
        let found = all.get(&(namespace.to_string(), name.to_string()))?;
        let nearest = found.iter().map(|(file, _)| distance(self.file, file)).min()?;
        if nearest == Distance::Elsewhere && self.twin {
            return None;
        }
        let mut near = found.iter().filter(|(file, _)| distance(self.file, file) == nearest);
        let (_, first) = near.next()?;
        near.all(|(_, other)| other == first).then(|| first.clone())
    }

    pub(super) fn config_map(&self, namespace: &str, name: &str) -> Option<&'a Value> {
        self.pick(&self.store.config_maps, namespace, name)
    }

    /// The texts of a `ConfigMap`.
    pub(super) fn text_map(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, String>> {
        let data = self.config_map(namespace, name)?.as_object().into_iter().flatten();
        let texts = data.filter_map(|(k, v)| Some((k.clone(), scalar(v)?)));
        Some(texts.collect())
    }

    /// YAML in a key of a `ConfigMap`.
    pub(super) fn config(&self, namespace: &str, name: &str, key: &str) -> Option<Value> {
        let written = self.config_map(namespace, name)?[key].as_str()?;
        Some(
            yaml::parse(key, written.as_bytes())
                .ok()?
                .documents
                .into_iter()
                .next()?
                .value,
        )
    }

    pub(super) fn devices_claimed(&self, namespace: &str, claim: &str) -> Option<Devices> {
        self.pick(&self.store.claims, namespace, claim)
    }

    pub(super) fn runtime(&self, namespace: &str, name: &str) -> Option<&'a Value> {
        let of = |namespace: &str| self.pick(&self.store.runtimes, namespace, name);
        of(namespace).or_else(|| of(""))
    }

    /// The runtime that KServe would pick by itself: one of the service's own namespace that takes this format.
    pub(super) fn runtime_for(&self, namespace: &str, format: &str) -> Option<&'a Value> {
        let takes = |spec: &Value| {
            let formats = spec["supportedModelFormats"].as_array().into_iter().flatten();
            formats.filter(|f| f["autoSelect"] == true).any(|f| f["name"] == format)
        };
        let keys = self.store.runtimes.keys();
        let mut fitting: Vec<(bool, &str, &'a Value)> = keys
            .filter(|(n, _)| n == namespace || n.is_empty())
            .filter_map(|(n, name)| Some((n.is_empty(), name.as_str(), self.pick(&self.store.runtimes, n, name)?)))
            .filter(|(.., spec)| takes(spec))
            .collect();
        // The namespace's own before the cluster's, then by name.
        fitting.sort_by_key(|(of_cluster, name, _)| (*of_cluster, *name));
        fitting.first().map(|(.., spec)| *spec)
    }

    /// `namespace`: empty for a runtime of the cluster.
    pub(super) fn training(&self, namespace: &str, name: &str) -> Option<&'a Value> {
        self.pick(&self.store.trainings, namespace, name)
    }

    pub(super) fn base(&self, name: &str) -> Option<&'a Value> {
        self.pick(&self.store.bases, "", name)
    }

    /// Replicas that an autoscaler keeps at least; 0: it takes the object to none.
    pub(super) fn least_replicas(&self, namespace: &str, kind: &str, name: &str) -> Option<u64> {
        self.pick(&self.store.scaled, namespace, &format!("{kind} {name}"))
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// How near two files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    Same,
    SameFolder,
    /// One folder is in the other.
    Above,
    Elsewhere,
}

fn distance(a: &str, b: &str) -> Distance {
    let folder = |file: &str| file.rsplit_once('/').map_or(String::new(), |(f, _)| f.to_string());
    let (of_a, of_b) = (folder(a), folder(b));
    let within =
        |inner: &str, outer: &str| outer.is_empty() || inner.strip_prefix(outer).is_some_and(|r| r.starts_with('/'));
    if a == b {
        Distance::Same
    } else if of_a == of_b {
        Distance::SameFolder
    } else if within(&of_a, &of_b) || within(&of_b, &of_a) {
        Distance::Above
    } else {
        Distance::Elsewhere
    }
}

/// `over` laid on `base`, as operators merge pod templates: objects key by key, lists of named things by name.
pub(super) fn overlay(base: &Value, over: &Value) -> Value {
    match (base, over) {
        (_, Value::Null) => base.clone(),
        (Value::Object(below), Value::Object(above)) => {
            let mut all = below.clone();
            for (key, value) in above {
                let merged = overlay(below.get(key).unwrap_or(&Value::Null), value);
                all.insert(key.clone(), merged);
            }
            Value::Object(all)
        }
        (Value::Array(below), Value::Array(above)) if above.iter().chain(below).all(|v| v["name"].is_string()) => {
            let mut all = below.clone();
            for item in above {
                match all.iter_mut().find(|v| v["name"] == item["name"]) {
                    Some(known) => *known = overlay(known, item),
                    None => all.push(item.clone()),
                }
            }
            Value::Array(all)
        }
        _ => over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_are_merged_by_name() {
        let base = json!({"containers": [{"name": "main", "image": "a", "resources": {"limits": {"nvidia.com/gpu": 1}}}], "x": [1]});
        let over = json!({"containers": [{"name": "main", "image": "b"}, {"name": "side"}], "x": [2], "y": null});
        let merged = overlay(&base, &over);
        assert_eq!(merged["containers"][0]["image"], "b");
        assert_eq!(merged["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], 1);
        assert_eq!(merged["containers"][1]["name"], "side");
        assert_eq!(merged["x"], json!([2]));
    }

    #[test]
    fn the_nearest_of_several_of_one_name_is_meant() {
        let map = |file: &str, value: &str| Document {
            file: file.into(),
            value: json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": {"tp": value}}),
            ..Document::default()
        };
        let documents = [
            map("dev/c.yaml", "1"),
            map("prod/c.yaml", "8"),
            map("prod/eu/all.yaml", "4"),
        ];
        let store = Store::of(&documents);
        let of = |file: &str, twin: bool| {
            let document = Document {
                file: file.into(),
                ..Document::default()
            };
            let found = store.around(&document, twin).config_map("n", "c").cloned();
            found.map(|f| f["tp"].as_str().unwrap_or_default().to_string())
        };
        for (file, expected) in [
            ("dev/d.yaml", Some("1")),
            ("prod/d.yaml", Some("8")),
            ("prod/eu/d.yaml", Some("4")),
            ("dev/a/d.yaml", Some("1")),
            // As far from the one as from the others.
            ("stage/d.yaml", None),
            ("d.yaml", None),
        ] {
            assert_eq!(of(file, true).as_deref(), expected, "{file}");
        }
        let one = [map("prod/c.yaml", "8")];
        let store = Store::of(&one);
        let document = map("dev/d.yaml", "");
        assert!(store.around(&document, false).config_map("n", "c").is_some());
        assert!(
            store.around(&document, true).config_map("n", "c").is_none(),
            "it may be the other's"
        );
    }
}
