//! What other objects of the same input tell of one: ConfigMaps, device claims, serving runtimes, bases.

use super::kinds::{number, text};
use super::yaml::{self, Document};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

type Key = (String, String);

#[derive(Default)]
pub(super) struct Around<'a> {
    config_maps: HashMap<Key, &'a Value>,
    /// Devices that a claim of this template gets.
    claims: HashMap<Key, u64>,
    /// KServe's serving runtimes; those of the cluster under an empty namespace.
    runtimes: HashMap<Key, &'a Value>,
    /// Kubeflow's training runtimes; those of the cluster under an empty namespace.
    trainings: HashMap<Key, &'a Value>,
    /// `LLMInferenceServiceConfig`s, by name: the well-known ones live in the operator's namespace.
    bases: HashMap<String, &'a Value>,
}

pub(super) fn namespace(object: &Value) -> String {
    text(&object["metadata"]["namespace"]).unwrap_or_else(|| "default".into())
}

pub(super) fn name(object: &Value) -> String {
    text(&object["metadata"]["name"])
        .or_else(|| text(&object["metadata"]["generateName"]))
        .unwrap_or_else(|| "unnamed".into())
}

impl<'a> Around<'a> {
    pub(super) fn of(documents: &'a [Document]) -> Self {
        let mut around = Self::default();
        for document in documents {
            let object = &document.value;
            let key = (namespace(object), name(object));
            match object["kind"].as_str().unwrap_or_default() {
                "ConfigMap" => {
                    around.config_maps.insert(key, &object["data"]);
                }
                "ResourceClaimTemplate" => {
                    around.claims.insert(key, devices_of_claim(&object["spec"]["spec"]));
                }
                "ResourceClaim" => {
                    around.claims.insert(key, devices_of_claim(&object["spec"]));
                }
                "ServingRuntime" => {
                    around.runtimes.insert(key, &object["spec"]);
                }
                "ClusterServingRuntime" => {
                    around.runtimes.insert((String::new(), key.1), &object["spec"]);
                }
                "TrainingRuntime" => {
                    around.trainings.insert(key, &object["spec"]);
                }
                "ClusterTrainingRuntime" => {
                    around.trainings.insert((String::new(), key.1), &object["spec"]);
                }
                "LLMInferenceServiceConfig" => {
                    around.bases.insert(key.1, &object["spec"]);
                }
                _ => {}
            }
        }
        around
    }

    pub(super) fn config_map(&self, namespace: &str, name: &str) -> Option<&'a Value> {
        self.config_maps
            .get(&(namespace.to_string(), name.to_string()))
            .copied()
    }

    /// The texts of a `ConfigMap`.
    pub(super) fn text_map(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, String>> {
        let data = self.config_map(namespace, name)?.as_object().into_iter().flatten();
        let texts = data.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string())));
        Some(texts.collect())
    }

    /// YAML in a key of a `ConfigMap`.
    pub(super) fn config(&self, namespace: &str, name: &str, key: &str) -> Option<Value> {
        let written = self.config_map(namespace, name)?[key].as_str()?;
        let parsed = yaml::parse(key, written.as_bytes()).ok()?;
        Some(parsed.into_iter().next()?.value)
    }

    pub(super) fn devices_claimed(&self, namespace: &str, claim: &str) -> Option<u64> {
        self.claims.get(&(namespace.to_string(), claim.to_string())).copied()
    }

    pub(super) fn runtime(&self, namespace: &str, name: &str) -> Option<&'a Value> {
        let of = |namespace: &str| self.runtimes.get(&(namespace.to_string(), name.to_string())).copied();
        of(namespace).or_else(|| of(""))
    }

    /// The runtime that KServe would pick by itself: one of the service's own namespace that takes this format.
    pub(super) fn runtime_for(&self, namespace: &str, format: &str) -> Option<&'a Value> {
        let takes = |spec: &Value| {
            let formats = spec["supportedModelFormats"].as_array().into_iter().flatten();
            formats.filter(|f| f["autoSelect"] == true).any(|f| f["name"] == format)
        };
        let mut fitting: Vec<_> = self
            .runtimes
            .iter()
            .filter(|((n, _), spec)| (n == namespace || n.is_empty()) && takes(spec))
            .collect();
        // The namespace's own before the cluster's, then by name.
        fitting.sort_by_key(|((n, name), _)| (n.is_empty(), name.clone()));
        fitting.first().map(|(_, spec)| **spec)
    }

    /// `namespace`: empty for a runtime of the cluster.
    pub(super) fn training(&self, namespace: &str, name: &str) -> Option<&'a Value> {
        self.trainings.get(&(namespace.to_string(), name.to_string())).copied()
    }

    pub(super) fn base(&self, name: &str) -> Option<&'a Value> {
        self.bases.get(name).copied()
    }
}

/// Devices of a claim: v1 and v1beta2 nest under `exactly`, v1beta1 is flat. All of a node's are not a number.
fn devices_of_claim(spec: &Value) -> u64 {
    let requests = spec["devices"]["requests"].as_array().into_iter().flatten();
    requests
        .filter_map(|r| {
            let of = if r["exactly"].is_object() { &r["exactly"] } else { r };
            let gpu = of["deviceClassName"].as_str().is_some_and(|c| c.contains("gpu"));
            (gpu && of["allocationMode"] != "All").then(|| number(&of["count"]).unwrap_or(1))
        })
        .fold(0, u64::saturating_add)
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
    fn devices_of_claims_in_each_api_version() {
        let v1 = json!({"devices": {"requests": [{"name": "g", "exactly": {"deviceClassName": "gpu.nvidia.com", "count": 2}}]}});
        let v1beta1 = json!({"devices": {"requests": [{"name": "g", "deviceClassName": "gpu.nvidia.com"}, {"name": "n", "deviceClassName": "rdma"}]}});
        let all = json!({"devices": {"requests": [{"exactly": {"deviceClassName": "gpu.nvidia.com", "allocationMode": "All"}}]}});
        assert_eq!(
            (
                devices_of_claim(&v1),
                devices_of_claim(&v1beta1),
                devices_of_claim(&all)
            ),
            (2, 1, 0)
        );
    }
}
