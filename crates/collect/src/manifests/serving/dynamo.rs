//! NVIDIA Dynamo.

use crate::manifests::count::Count;
use crate::manifests::kinds::{Member, Unit, set, text};
use serde_json::{Map, Value, json};

/// `DynamoGraphDeployment`, v1alpha1 (spec.services) and v1beta1 (spec.components): each service is a workload.
pub(in crate::manifests) fn dynamo_graph(object: &Value) -> Vec<Unit> {
    let spec = &object["spec"];
    let empty = Map::new();
    let services = spec["services"].as_object().unwrap_or(&empty);
    let mut units: Vec<Unit> = services
        .iter()
        .flat_map(|(name, of)| dynamo_component(of, &format!("spec.services.{name}"), Some(name)))
        .collect();
    for (i, of) in spec["components"].as_array().into_iter().flatten().enumerate() {
        let name = text(&of["name"]).unwrap_or_else(|| format!("component-{i}"));
        units.extend(dynamo_component(of, &format!("spec.components[{i}]"), Some(&name)));
    }
    units
}

pub(in crate::manifests) fn dynamo_component(of: &Value, path: &str, name: Option<&str>) -> Vec<Unit> {
    let role = [&of["subComponentType"], &of["type"], &of["componentType"]]
        .into_iter()
        .find_map(|t| match t.as_str()? {
            "prefill" => Some("prefill"),
            "decode" => Some("decode"),
            _ => None,
        });
    let (mut template, at) = if of["podTemplate"].is_object() {
        (of["podTemplate"].clone(), format!("{path}.podTemplate.spec"))
    } else {
        let mut pod = of["extraPodSpec"].clone();
        if !pod.is_object() {
            pod = json!({});
        }
        let mut main = pod["mainContainer"].take();
        if !main.is_object() {
            main = json!({});
        }
        main["name"] = json!("main");
        for key in ["envs", "env"] {
            if main["env"].is_null() && of[key].is_array() {
                main["env"] = of[key].clone();
            }
        }
        pod["containers"] = json!([main]);
        (json!({"spec": pod}), format!("{path}.extraPodSpec.mainContainer"))
    };
    // Dynamo's own "gpu" beside cpu and memory; the container's own resources win.
    let mut resources = json!({});
    for kind in ["limits", "requests"] {
        for (key, value) in of["resources"][kind].as_object().into_iter().flatten() {
            let resource = match key.as_str() {
                "gpu" => text(&of["resources"][kind]["gpuType"]).unwrap_or_else(|| "nvidia.com/gpu".into()),
                "gpuType" => continue,
                // Any other resource by its own name (RDMA devices).
                "custom" => {
                    for (name, amount) in value.as_object().into_iter().flatten() {
                        resources[kind][name.as_str()] = amount.clone();
                    }
                    continue;
                }
                other => other.to_string(),
            };
            resources[kind][resource.as_str()] = value.clone();
        }
    }
    let silent = |r: &Value| r.is_null() || r.as_object().is_some_and(Map::is_empty);
    let container = template.pointer_mut("/spec/containers/0");
    if let Some(container) = container.filter(|c| c.is_object() && silent(&c["resources"])) {
        set(container, "resources", resources);
    }
    let nodes = Count::of(&of["multinode"]["nodeCount"], 1).map(|n| n.max(1));
    vec![Unit {
        part: name.map(String::from),
        replicas: Count::of(&of["replicas"], 1),
        members: vec![Member {
            count: nodes,
            template,
            path: at,
        }],
        role,
        ..Unit::default()
    }]
}
