//! From objects to the pods they would make, read by the engines as live pods are.

use super::Manifests;
use super::kinds::{self, Unit};
use super::yaml::Document;
use crate::collect::kube::pod_of_template;
use crate::engine::{self, ContainerSpec};
use crate::snapshot::Gap;
use crate::snapshot::cluster::{Container, ContainerKind, Controller, Note, Origin, OwnerRef, Pod};
use crate::snapshot::server::ServerRole;
use serde_json::Value;
use std::collections::HashMap;

/// More pods of one workload say nothing new, and a mistyped number must not fill the memory.
const MAX_PODS: u64 = 2_000;

/// What other objects of the same input tell.
#[derive(Default)]
struct Around<'a> {
    config_maps: HashMap<(String, String), &'a Value>,
    /// Devices that a claim of this template gets.
    claims: HashMap<(String, String), u64>,
}

pub(super) fn build(documents: &[Document], all: &mut Manifests) {
    let mut around = Around::default();
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
            _ => {}
        }
    }
    for document in documents {
        for unit in kinds::units(document) {
            workload(document, &unit, &around, all);
        }
    }
    all.pods
        .sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
}

fn namespace(object: &Value) -> String {
    kinds::text(&object["metadata"]["namespace"]).unwrap_or_else(|| "default".into())
}

fn name(object: &Value) -> String {
    kinds::text(&object["metadata"]["name"])
        .or_else(|| kinds::text(&object["metadata"]["generateName"]))
        .unwrap_or_else(|| "unnamed".into())
}

/// Devices of a claim: v1 and v1beta2 nest under `exactly`, v1beta1 is flat. All of a node's are not a number.
fn devices_of_claim(spec: &Value) -> u64 {
    let requests = spec["devices"]["requests"].as_array().into_iter().flatten();
    requests
        .filter_map(|r| {
            let of = if r["exactly"].is_object() { &r["exactly"] } else { r };
            let gpu = of["deviceClassName"].as_str().is_some_and(|c| c.contains("gpu"));
            (gpu && of["allocationMode"] != "All").then(|| kinds::number(&of["count"]).unwrap_or(1))
        })
        .sum()
}

fn workload(document: &Document, unit: &Unit, around: &Around<'_>, all: &mut Manifests) {
    let object = &document.value;
    let (namespace, base) = (namespace(object), name(object));
    let kind = object["kind"].as_str().unwrap_or("Pod").to_string();
    let group = object["apiVersion"]
        .as_str()
        .and_then(|v| v.split_once('/'))
        .map_or("", |(g, _)| g);
    let name = unit.part.as_ref().map_or(base.clone(), |part| format!("{base}-{part}"));
    let owner = OwnerRef {
        group: group.into(),
        kind: kind.clone(),
        name: name.clone(),
    };
    let per_replica: u64 = unit.members.iter().map(|m| m.count).fold(0, u64::saturating_add);
    let replicas = unit.replicas.min(MAX_PODS / per_replica.clamp(1, MAX_PODS));
    let mut first = true;
    let mut cut = replicas < unit.replicas;
    let mut made = 0;
    for (index, member) in unit.members.iter().enumerate() {
        let mut template = member.template.clone();
        let shared = kinds::text(&template["metadata"]["annotations"]["gpu-fraction"]);
        normalise(&mut template, &namespace, around);
        let Some(mut pod) = pod_of_template(template.clone()) else {
            all.gaps.push(gap(
                document,
                &format!("{kind} {name}"),
                "its pod template has parts of the wrong shape",
            ));
            continue;
        };
        if let Some(share) = shared {
            let what = format!("{kind} {name}: GPU share {share}");
            all.gaps.push(gap(
                document,
                &what,
                "GPUs are shared by annotation, which only its scheduler can account for",
            ));
        }
        if let Some(tpu) = tpu_only(&pod) {
            let what = format!("{kind} {name}: {tpu}");
            all.gaps
                .push(gap(document, &what, "TPUs are no GPUs: they are not judged"));
            continue;
        }
        claims(&mut pod, &namespace, around);
        if !asks(&pod) && unit.gpus_unstated {
            unstated(&mut pod, all);
        }
        if !asks(&pod) && pod.resource_claims.is_empty() {
            continue;
        }
        serve(&mut pod, unit, first);
        first = false;
        pod.origin = Some(origin(document, &member.path, &template, &pod));
        pod.namespace.clone_from(&namespace);
        pod.owner = Some(owner.clone()).filter(|_| kind != "Pod");
        let labels = std::mem::take(&mut pod.labels);
        pod.labels = labels.into_iter().filter(|(k, _)| !k.starts_with("ray.io/")).collect();
        let count = member.count.min(MAX_PODS);
        cut |= count < member.count;
        for replica in 0..replicas {
            for i in 0..count {
                let mut one = pod.clone();
                one.name = if kind == "Pod" {
                    name.clone()
                } else {
                    format!("{name}-{replica}-{index}-{i}")
                };
                one.uid = format!("{}:{}:{namespace}/{}", document.file, document.line, one.name);
                if per_replica > 1 {
                    one.labels
                        .insert("leaderworkerset.sigs.k8s.io/group-index".into(), replica.to_string());
                }
                all.pods.push(one);
                made += 1;
            }
        }
    }
    if cut {
        let reason = format!("it asks for more pods than {MAX_PODS}: only so many are counted");
        all.gaps.push(gap(document, &format!("{kind} {name}"), &reason));
    }
    if made > 0 && kind != "Pod" {
        all.controllers.push(Controller {
            group: owner.group,
            kind,
            namespace,
            name,
            replicas: Some(unit.replicas),
            group_size: (per_replica > 1).then_some(per_replica),
            ..Controller::default()
        });
    }
}

fn gap(document: &Document, what: &str, reason: &str) -> Gap {
    Gap {
        source: format!("{}:{}", document.file, document.line),
        what: what.into(),
        reason: reason.into(),
        effect: "its GPUs are not, or not all, in the report".into(),
        remedy: "check it by hand".into(),
    }
}

fn asks(pod: &Pod) -> bool {
    pod.containers.iter().any(|c| !c.requests.devices.is_empty())
}

fn tpu_only(pod: &Pod) -> Option<&str> {
    let mut devices = pod.containers.iter().flat_map(|c| c.requests.devices.keys());
    let first = devices.next()?;
    (first.starts_with("google.com/tpu") && devices.all(|d| d == first)).then_some(first)
}

/// GPUs that an operator will ask for: an instance type tells how many, otherwise nobody knows yet.
fn unstated(pod: &mut Pod, all: &Manifests) {
    let kind = pod
        .placement
        .as_ref()
        .and_then(|p| p.node_selector.get("node.kubernetes.io/instance-type"));
    match (kind.and_then(|k| (all.gpus_of_type)(k)), pod.containers.first_mut()) {
        (Some(gpus), Some(container)) => {
            container
                .requests
                .devices
                .insert("nvidia.com/gpu".into(), u64::from(gpus));
        }
        _ => pod.resource_claims.push("unstated".into()),
    }
}

/// Claims of templates in the same input become devices.
fn claims(pod: &mut Pod, namespace: &str, around: &Around<'_>) {
    let found: u64 = pod
        .resource_claims
        .iter()
        .filter_map(|c| around.claims.get(&(namespace.to_string(), c.clone())))
        .sum();
    if found > 0
        && !asks(pod)
        && let Some(container) = pod.containers.iter_mut().find(|c| c.kind == ContainerKind::Main)
    {
        container.requests.devices.insert("nvidia.com/gpu".into(), found);
        pod.resource_claims.clear();
    }
}

/// What the object says beside its containers. Only the first member of a group serves.
fn serve(pod: &mut Pod, unit: &Unit, first: bool) {
    let described = unit
        .serves
        .as_ref()
        .filter(|_| first)
        .and_then(|c| engine::recognise(&spec_of(c)));
    let unbound = !asks(pod);
    let target = pod
        .containers
        .iter_mut()
        .find(|c| c.kind == ContainerKind::Main && (unbound || !c.requests.devices.is_empty()));
    let Some(container) = target else { return };
    if let Some(settings) = described {
        container.server = Some(Box::new(settings));
        container.role = None;
    } else if container.server.is_none() && unit.model.is_some() && container.role.is_none() {
        // A model server all the same, of an engine nobody knows here.
        container.server = Some(Box::default());
    }
    let Some(settings) = &mut container.server else { return };
    if let Some(model) = &unit.model {
        let mounted = settings
            .model
            .as_deref()
            .is_none_or(|m| m.starts_with('/') || m == "dir");
        if mounted {
            settings.model = Some(model.clone());
        }
    }
    settings.role = match unit.role {
        Some("prefill") => Some(ServerRole::Prefill),
        Some("decode") => Some(ServerRole::Decode),
        _ => settings.role,
    };
}

pub(super) fn spec_of(container: &Value) -> ContainerSpec {
    let words = |key: &str| {
        container[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|w| w.as_str().map(String::from))
            .collect()
    };
    ContainerSpec {
        image: kinds::text(&container["image"]).unwrap_or_default(),
        command: words("command"),
        args: words("args"),
        ..ContainerSpec::default()
    }
}

/// Scalars that YAML reads as numbers are text to Kubernetes; variables of ConfigMaps in the same input are filled in.
fn normalise(template: &mut Value, namespace: &str, around: &Around<'_>) {
    if !template.is_object() {
        return;
    }
    if !template["metadata"].is_object() {
        template["metadata"] = serde_json::json!({});
    }
    for list in ["containers", "initContainers"] {
        for container in template["spec"][list].as_array_mut().into_iter().flatten() {
            for key in ["command", "args"] {
                if let Some(one) = container[key].as_str().map(String::from) {
                    container[key] = serde_json::json!([one]);
                }
                container[key].as_array_mut().into_iter().flatten().for_each(to_text);
            }
            for kind in ["requests", "limits"] {
                for (_, value) in container["resources"][kind].as_object_mut().into_iter().flatten() {
                    to_text(value);
                }
            }
            variables(container, namespace, around);
        }
    }
    for (_, value) in template["spec"]["nodeSelector"].as_object_mut().into_iter().flatten() {
        to_text(value);
    }
    for (_, value) in template["metadata"]["labels"].as_object_mut().into_iter().flatten() {
        to_text(value);
    }
}

fn variables(container: &mut Value, namespace: &str, around: &Around<'_>) {
    let of = |map: &Value, key: &str| {
        let name = map.as_str()?.to_string();
        around.config_maps.get(&(namespace.to_string(), name))?[key]
            .as_str()
            .map(String::from)
    };
    let mut env = container["env"].as_array().cloned().unwrap_or_default();
    for variable in &mut env {
        to_text(&mut variable["value"]);
        let reference = &variable["valueFrom"]["configMapKeyRef"];
        if let Some(value) = reference["key"].as_str().and_then(|key| of(&reference["name"], key)) {
            *variable = serde_json::json!({"name": variable["name"], "value": value});
        }
        if variable["value"].is_null() && variable["valueFrom"].is_null() {
            variable["value"] = serde_json::json!("");
        }
    }
    env.retain(|v| v["name"].is_string());
    for from in container["envFrom"].as_array().into_iter().flatten() {
        let name = from["configMapRef"]["name"].as_str().unwrap_or_default().to_string();
        let data = around
            .config_maps
            .get(&(namespace.to_string(), name))
            .and_then(|d| d.as_object());
        for (key, value) in data.into_iter().flatten() {
            env.insert(0, serde_json::json!({"name": key, "value": value}));
        }
    }
    container["env"] = Value::Array(env);
}

fn to_text(value: &mut Value) {
    if value.is_number() || value.is_boolean() {
        *value = Value::String(value.to_string());
    }
}

/// Where the GPU container stands, and what a deployment should not leave open.
fn origin(document: &Document, path: &str, template: &Value, pod: &Pod) -> Origin {
    let containers = template["spec"]["containers"].as_array().map_or(&[][..], Vec::as_slice);
    let holds = |c: &&Container| !c.requests.devices.is_empty();
    let holder = pod.containers.iter().find(holds).or(pod.containers.first());
    let index = holder.and_then(|h| containers.iter().position(|c| c["name"] == h.name.as_str()));
    let full = index.map_or(path.to_string(), |i| format!("{path}.containers[{i}]"));
    let at = |below: &str| (document.line_of(&format!("{full}{below}")), format!("{full}{below}"));
    let mut notes = Vec::new();
    let mut note = |below: &str, text: String| {
        let (line, path) = at(below);
        notes.push(Note { line, path, text });
    };
    if let Some(holder) = holder {
        let written = document.lines.contains_key(&format!("{full}.image"));
        if let Some(image) = holder.image.as_ref().filter(|_| written) {
            let (digest, tag) = (
                image.contains("@sha256:"),
                image.rsplit('/').next().and_then(|n| n.split_once(':')).map(|(_, t)| t),
            );
            if !digest && matches!(tag, None | Some("latest" | "nightly" | "main" | "dev")) {
                note(
                    ".image",
                    format!(
                        "image {image} is not pinned: a restart may bring another engine version, with another memory need"
                    ),
                );
            }
        }
        if !holder.requests.devices.is_empty() && path.contains("emplate") {
            if holder.requests.cpu.is_none() {
                note(
                    ".resources",
                    "no CPU request: the scheduler may put it where the engine starves".into(),
                );
            }
            if holder.requests.memory.is_none() {
                note(
                    ".resources",
                    "no memory request: it may be evicted, or killed, first".into(),
                );
            }
        }
    }
    let (line, _) = at("");
    Origin {
        file: document.file.clone(),
        line,
        path: full,
        notes,
    }
}
