//! NVIDIA NIM.

use super::scalar;
use crate::manifests::around::overlay;
use crate::manifests::claims::devices_of_claim;
use crate::manifests::count::Count;
use crate::manifests::kinds::{Unit, member, text};
use serde_json::{Value, json};

/// `NIMService`: image and environment; GPUs as resources or DRA claims.
pub(in crate::manifests) fn nim_service(object: &Value, path: &str, part: Option<String>) -> Vec<Unit> {
    let spec = &object["spec"];
    let repository = text(&spec["image"]["repository"]).unwrap_or_default();
    let image = text(&spec["image"]["tag"]).map_or(repository.clone(), |tag| format!("{repository}:{tag}"));
    let mut resources = spec["resources"].clone();
    let several = &spec["multiNode"];
    let parallelism = &several["parallelism"];
    let nodes = ["size", "lws"]
        .iter()
        .map(|k| &several[*k])
        .chain([&parallelism["pipeline"]]);
    let nodes = Count::of(nodes.into_iter().find(|n| !n.is_null()).unwrap_or(&Value::Null), 1).map(|n| n.max(1));
    if let Some(each) = scalar(&several["gpusPerPod"]) {
        resources = overlay(&resources, &json!({"limits": {"nvidia.com/gpu": each}}));
    }
    // The operator sets these two in every pod of the group (k8s-nim-operator, nimservice_types.go); what the object says of
    // its own wins.
    let mut env: Vec<Value> = Vec::new();
    for (key, name) in [
        ("tensor", "NIM_TENSOR_PARALLEL_SIZE"),
        ("pipeline", "NIM_PIPELINE_PARALLEL_SIZE"),
    ] {
        env.extend(scalar(&parallelism[key]).map(|n| json!({"name": name, "value": n})));
    }
    env.extend(spec["env"].as_array().cloned().unwrap_or_default());
    // Claims that the operator makes itself.
    let mut made = crate::manifests::claims::Devices::default();
    for claim in spec["draResources"].as_array().into_iter().flatten() {
        let devices = claim["claimCreationSpec"]["devices"].as_array().into_iter().flatten();
        let requests = devices.map(|d| overlay(&json!({"deviceClassName": "gpu.nvidia.com"}), d));
        let one = devices_of_claim(&json!({"devices": {"requests": requests.collect::<Vec<_>>()}}));
        made.gpus = made.gpus.saturating_add(one.gpus);
        made.uncounted = made.uncounted.or(one.uncounted);
    }
    if made.gpus > 0 && made.uncounted.is_none() {
        resources = overlay(
            &resources,
            &json!({"limits": {"nvidia.com/gpu": made.gpus.to_string()}}),
        );
    }
    let claims: Vec<Value> = spec["draResources"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|c| !c["claimCreationSpec"].is_object())
        .map(|c| {
            let name = c["resourceClaimTemplateName"].as_str().or_else(|| c["resourceClaimName"].as_str());
            json!({"name": name, "resourceClaimTemplateName": c["resourceClaimTemplateName"], "resourceClaimName": c["resourceClaimName"]})
        })
        .collect();
    let template = json!({
        "metadata": {"labels": object["metadata"]["labels"]},
        "spec": {
            "containers": [{"name": "nim", "image": image, "env": env, "command": spec["command"], "args": spec["args"], "resources": resources}],
            "nodeSelector": spec["nodeSelector"], "affinity": spec["affinity"], "tolerations": spec["tolerations"],
            "resourceClaims": claims,
        }
    });
    let scaled = &spec["scale"]["hpa"]["minReplicas"];
    let stated = [&spec["replicas"], scaled].into_iter().find(|v| !v.is_null());
    let replicas = Count::of(stated.unwrap_or(&Value::Null), 1);
    // Without a word on GPUs the operator asks for as many as the profile needs.
    let counted = made.gpus > 0 && made.uncounted.is_none();
    let stated = !spec["resources"]["limits"].is_null() || !claims.is_empty() || nodes.known() != Some(1) || counted;
    vec![Unit {
        replicas,
        part,
        members: vec![member(nodes, template, path)],
        gpus_unstated: !stated,
        ..Unit::default()
    }]
}
