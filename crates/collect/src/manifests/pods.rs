//! From objects to the pods they would make, read by the engines as live pods are.

use super::around::{Around, name, namespace};
use super::kinds::{self, Unit};
use super::yaml::Document;
use super::{Manifests, shape};
use crate::engine::{self, ContainerSpec};
use crate::kube::pod_of_template;
use crate::snapshot::Gap;
use crate::snapshot::cluster::{Container, ContainerKind, Controller, Note, Origin, OwnerRef, Pod, Unread, UnreadKind};
use crate::snapshot::resources::is_device;
use crate::snapshot::server::{EngineKind, ServerRole};
use serde_json::Value;
use std::collections::BTreeSet;

/// More pods of one workload say nothing new, and a mistyped number must not fill the memory.
const MAX_PODS: u64 = 2_000;
/// Nor does a folder of manifests describe more than the largest cluster runs (Kubernetes' own limit is 150,000 pods).
const MAX_ALL: u64 = 150_000;

pub(super) fn build(documents: &[Document], all: &mut Manifests) {
    let around = Around::of(documents);
    for document in documents {
        let before = (all.pods.len(), all.gaps.len());
        let units = kinds::units(document, &around);
        for unit in &units {
            workload(document, unit, &around, all);
        }
        let object = &document.value;
        let kind = object["kind"].as_str().unwrap_or_default();
        let silent = (all.pods.len(), all.gaps.len()) == before && units.iter().all(|u| u.replicas > 0);
        if silent && !shape::makes_nothing(kind) && shape::asks_for_gpus(object, is_device, 0) {
            let reason = "it asks for GPUs in a form that is not known";
            all.gaps
                .push(gap(document, &format!("{kind} {}", name(object)), reason));
        }
    }
    all.pods
        .sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
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
    let mut per_replica: u64 = unit.members.iter().map(|m| m.count).fold(0, u64::saturating_add);
    let left = MAX_ALL.saturating_sub(all.pods.len() as u64).min(MAX_PODS);
    let mut replicas = unit.replicas.min(left / per_replica.clamp(1, MAX_PODS));
    let mut stated = unit.replicas;
    let mut first = true;
    let mut missing = BTreeSet::new();
    if let Some(lacks) = &unit.lacks {
        all.gaps
            .push(lacking_object(document, &format!("{kind} {name}"), lacks));
    }
    let mut cut = replicas < unit.replicas;
    let mut made = 0;
    for (index, member) in unit.members.iter().enumerate() {
        let mut template = member.template.clone();
        let shared = kinds::text(&template["metadata"]["annotations"]["gpu-fraction"]);
        normalise(&mut template, &namespace, around);
        let map = |name: &str| around.text_map(&namespace, name);
        let Some((mut pod, lacking)) = pod_of_template(template.clone(), map) else {
            all.gaps.push(gap(
                document,
                &format!("{kind} {name}"),
                "its pod template has parts of the wrong shape",
            ));
            continue;
        };
        if let Some(resource) = odd_amount(&pod) {
            let what = format!("{kind} {name}: {resource}");
            all.gaps.push(gap(
                document,
                &what,
                "its amount is no quantity that the API server takes",
            ));
            all.unread.push(Unread {
                what: UnreadKind::Amount,
                namespace: Some(namespace.clone()),
                name: Some(format!("{kind}/{name}")),
            });
        }
        if let Some(share) = shared {
            let what = format!("{kind} {name}: GPU share {share}");
            all.gaps.push(gap(
                document,
                &what,
                "GPUs are shared by annotation, which only its scheduler can account for",
            ));
        }
        let strange: Vec<(String, &str)> = pod
            .containers
            .iter()
            .flat_map(|c| c.requests.devices.iter().filter(|(_, n)| **n > 0))
            .filter_map(|(resource, _)| Some((resource.clone(), not_judged(resource)?)))
            .collect();
        if let Some((resource, reason)) = strange.first() {
            let what = format!("{kind} {name}: {resource}");
            all.gaps.push(gap(document, &what, reason));
            for container in &mut pod.containers {
                container.requests.devices.retain(|r, _| not_judged(r).is_none());
                container.limits.devices.retain(|r, _| not_judged(r).is_none());
            }
            if !asks(&pod) {
                continue;
            }
        }
        if let Some(unknown) = claims(&mut pod, &template, &namespace, around) {
            all.gaps
                .push(lacking_object(document, &format!("{kind} {name}"), &unknown));
        }
        if !asks(&pod) && unit.gpus_unstated {
            unstated(document, &format!("{kind} {name}"), &mut pod, all);
        }
        if !asks(&pod) && pod.resource_claims.is_empty() {
            continue;
        }
        for map in lacking {
            if missing.insert(map.clone()) {
                all.gaps.push(unread_map(document, &format!("{kind} {name}"), &map));
            }
        }
        serve(&mut pod, unit, &template, first);
        first = false;
        pod.origin = Some(origin(document, &member.path, &template, &pod));
        pod.namespace.clone_from(&namespace);
        pod.owner = Some(owner.clone()).filter(|_| kind != "Pod");
        let labels = std::mem::take(&mut pod.labels);
        pod.labels = labels.into_iter().filter(|(k, _)| !k.starts_with("ray.io/")).collect();
        let mut count = member.count.min(left);
        cut |= count < member.count;
        if let Some(nodes) = spans(&pod, unit) {
            (count, replicas, per_replica, stated) = (nodes, replicas / nodes, nodes, stated / nodes);
        }
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
            replicas: Some(stated),
            group_size: (per_replica > 1).then_some(per_replica),
            ..Controller::default()
        });
    }
}

/// Settings in a `ConfigMap` that is elsewhere.
fn unread_map(document: &Document, of: &str, map: &str) -> Gap {
    Gap {
        effect: "what it sets is unknown: the model, its length or its parallelism may be missing or a default".into(),
        remedy: "check the ConfigMap in the same run".into(),
        ..gap(
            document,
            &format!("{of}: settings in ConfigMap {map}"),
            "it is not in the input",
        )
    }
}

/// Something else that the object builds on.
fn lacking_object(document: &Document, of: &str, object: &str) -> Gap {
    Gap {
        effect: "the pods, GPUs and node selectors that only it states are not in the report".into(),
        remedy: "check both in one run".into(),
        ..gap(document, &format!("{of}: {object}"), "it is not in the input")
    }
}

/// Pods of a plain set that are one server, by its own `--nnodes`.
fn spans(pod: &Pod, unit: &Unit) -> Option<u64> {
    let nodes = pod.containers.iter().find_map(|c| c.server.as_ref()?.nodes);
    let nodes = u64::from(nodes.filter(|n| *n > 1)?);
    let plain = unit.members.len() == 1 && unit.members[0].count == 1;
    (plain && unit.replicas.is_multiple_of(nodes)).then_some(nodes)
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

/// A resource of devices whose amount is negative, absurd, a fraction, or no number.
fn odd_amount(pod: &Pod) -> Option<&str> {
    let odd = pod.containers.iter().flat_map(|c| &c.requests.unread);
    odd.map(String::as_str).find(|name| is_device(name))
}

fn asks(pod: &Pod) -> bool {
    pod.containers.iter().any(|c| !c.requests.devices.is_empty())
}

/// Accelerators and shares that nothing here can size or price.
fn not_judged(resource: &str) -> Option<&'static str> {
    const SHARES: &[&str] = &[
        "aliyun.com/gpu",
        "volcano.sh/vgpu",
        "tencent.com/vcuda",
        "nvidia.com/gpumem",
        "nvidia.com/gpucores",
    ];
    let starts = |prefix: &str| resource.starts_with(prefix);
    if starts("google.com/tpu") || starts("cloud-tpus.google.com/") {
        Some("TPUs are no GPUs: they are not judged")
    } else if starts("habana.ai/") {
        Some("Gaudi accelerators are not judged: no engine's memory need on them is known here")
    } else if starts("aws.amazon.com/neuron") {
        Some("Inferentia and Trainium accelerators are not judged")
    } else if SHARES.iter().any(|s| starts(s)) {
        Some("shares of GPUs by a scheduler of its own are not judged")
    } else if starts("nvidia.com/") || starts("amd.com/") || starts("gpu.intel.com/") {
        None
    } else {
        Some("accelerators of this vendor are not judged")
    }
}

/// GPUs that an operator will ask for: an instance type tells how many, otherwise nobody knows yet.
fn unstated(document: &Document, what: &str, pod: &mut Pod, all: &mut Manifests) {
    let kind = pod
        .placement
        .as_ref()
        .and_then(|p| p.node_selector.get("node.kubernetes.io/instance-type"));
    let gpus = kind.and_then(|k| (all.gpus_of_type)(k));
    if let (Some(gpus), Some(container)) = (gpus, pod.containers.first_mut()) {
        container
            .requests
            .devices
            .insert("nvidia.com/gpu".into(), u64::from(gpus));
    } else {
        let mut gap = gap(document, what, "it leaves the number of GPUs to its operator");
        gap.remedy = "state the GPUs under resources.limits, or an instance type of the catalogue".into();
        all.gaps.push(gap);
        pod.resource_claims.push("unstated".into());
    }
}

/// Claims of templates in the same input become devices. Tells the first that is not there, where nothing else says how many
/// GPUs the pod gets.
fn claims(pod: &mut Pod, template: &Value, namespace: &str, around: &Around<'_>) -> Option<String> {
    if asks(pod) {
        return None;
    }
    let mut found = 0_u64;
    let mut unknown = None;
    for claim in template["spec"]["resourceClaims"].as_array().into_iter().flatten() {
        let of = |key: &str| kinds::text(&claim[key]);
        let (kind, name) = match (of("resourceClaimTemplateName"), of("resourceClaimName")) {
            (Some(name), _) => ("ResourceClaimTemplate", name),
            (_, Some(name)) => ("ResourceClaim", name),
            _ => continue,
        };
        match around.devices_claimed(namespace, &name) {
            Some(devices) => found = found.saturating_add(devices),
            None => unknown = unknown.or(Some(format!("{kind} {name}"))),
        }
    }
    if found == 0 {
        return unknown;
    }
    if let Some(at) = position_of_claims(pod) {
        pod.containers[at]
            .requests
            .devices
            .insert("nvidia.com/gpu".into(), found);
        pod.resource_claims.clear();
    }
    None
}

/// The container that uses the pod's claims, else the first.
fn position_of_claims(pod: &Pod) -> Option<usize> {
    let main = |c: &Container| c.kind == ContainerKind::Main;
    let uses = pod.containers.iter().position(|c| main(c) && c.uses_claims);
    uses.or_else(|| pod.containers.iter().position(main))
}

/// What the object says beside its containers. Only the first member of a group serves.
fn serve(pod: &mut Pod, unit: &Unit, template: &Value, first: bool) {
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
    let name = container.name.clone();
    let holds: u64 = container
        .requests
        .devices
        .values()
        .copied()
        .fold(0, u64::saturating_add);
    let Some(settings) = &mut container.server else { return };
    if unit.spread && settings.tensor_parallel.is_none() {
        settings.tensor_parallel = u32::try_from(holds).ok().filter(|n| *n > 0);
    }
    if settings.engine == Some(EngineKind::Ollama) && settings.model.is_none() {
        settings.model = pulled(template, &name);
    }
    // "s3://bucket/models/Llama-3.1-8B-Instruct", "oci://registry/cars:granite-3.1-8b": what it is may be known by its last word.
    let last = unit
        .model
        .as_deref()
        .filter(|m| m.contains("://"))
        .and_then(|m| m.rsplit(['/', ':']).next());
    if let Some(last) = last.filter(|l| !l.is_empty() && !settings.served_names.iter().any(|n| n == l)) {
        settings.served_names.push(last.into());
    }
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

/// The model that an Ollama container pulls behind its start.
fn pulled(template: &Value, container: &str) -> Option<String> {
    let containers = template["spec"]["containers"].as_array()?;
    let own = containers.iter().find(|c| c["name"] == container)?;
    let command = own["lifecycle"]["postStart"]["exec"]["command"].as_array()?;
    let script: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
    let serve = ContainerSpec {
        image: "ollama/ollama".into(),
        command: vec!["sh".into(), "-c".into(), format!("ollama serve\n{}", script.last()?)],
        ..ContainerSpec::default()
    };
    engine::recognise(&serve)?.model
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
        kinds::set(template, "metadata", serde_json::json!({}));
    }
    for list in ["/spec/containers", "/spec/initContainers"] {
        for container in kinds::list_mut(template, list).filter(|c| c.is_object()) {
            for key in ["command", "args"] {
                if let Some(one) = container[key].as_str().map(String::from) {
                    kinds::set(container, key, serde_json::json!([one]));
                }
                kinds::list_mut(container, &format!("/{key}")).for_each(to_text);
            }
            for amounts in ["/resources/requests", "/resources/limits"] {
                kinds::values_mut(container, amounts).for_each(to_text);
            }
            variables(container, namespace, around);
        }
    }
    for map in ["/spec/nodeSelector", "/metadata/labels"] {
        kinds::values_mut(template, map).for_each(to_text);
    }
}

fn variables(container: &mut Value, namespace: &str, around: &Around<'_>) {
    let of = |map: &Value, key: &str| {
        around.config_map(namespace, map.as_str()?)?[key]
            .as_str()
            .map(String::from)
    };
    let mut env = container["env"].as_array().cloned().unwrap_or_default();
    env.retain(|v| v["name"].is_string());
    for variable in &mut env {
        if let Some(value) = variable.get_mut("value") {
            to_text(value);
        }
        let reference = &variable["valueFrom"]["configMapKeyRef"];
        if let Some(value) = reference["key"].as_str().and_then(|key| of(&reference["name"], key)) {
            *variable = serde_json::json!({"name": variable["name"], "value": value});
        }
        if variable["value"].is_null() && variable["valueFrom"].is_null() {
            kinds::set(variable, "value", serde_json::json!(""));
        }
    }
    for from in container["envFrom"].as_array().into_iter().flatten() {
        let name = from["configMapRef"]["name"].as_str().unwrap_or_default();
        let data = around.config_map(namespace, name).and_then(|d| d.as_object());
        for (key, value) in data.into_iter().flatten() {
            env.insert(0, serde_json::json!({"name": key, "value": value}));
        }
    }
    kinds::set(container, "env", Value::Array(env));
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
        let written = document.has_line(&format!("{full}.image"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::yaml;
    use serde_json::json;

    fn read(documents: &[Document]) -> Manifests {
        let mut all = Manifests {
            pods: Vec::new(),
            controllers: Vec::new(),
            sources: Vec::new(),
            gaps: Vec::new(),
            unread: Vec::new(),
            objects: documents.len(),
            gpus_of_type: |_| Some(8),
        };
        build(documents, &mut all);
        all
    }

    fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
        out.push(at.to_string());
        let below = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        match value {
            Value::Object(map) => map.iter().for_each(|(k, v)| pointers(v, &below(k), out)),
            Value::Array(items) => {
                for (i, v) in items.iter().enumerate() {
                    pointers(v, &below(&i.to_string()), out);
                }
            }
            _ => {}
        }
    }

    /// Any part of any fixture replaced by something of another shape: whatever comes of it, it is no panic.
    #[test]
    fn parts_of_the_wrong_shape_are_no_panic() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/manifests");
        let mut tried = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read(entry.unwrap().path()).unwrap();
            let documents = yaml::parse("f.yaml", &text).unwrap();
            for index in 0..documents.len() {
                let mut places = Vec::new();
                pointers(&documents[index].value, "", &mut places);
                for place in places.iter().skip(1) {
                    for other in [
                        json!("text"),
                        json!(7),
                        json!([1]),
                        json!({"a": "b"}),
                        Value::Null,
                        json!(u64::MAX),
                    ] {
                        let mut changed = documents.clone();
                        if let Some(target) = changed[index].value.pointer_mut(place) {
                            *target = other;
                        }
                        let all = read(&changed);
                        assert!(all.pods.len() <= 50_000, "{place}");
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 5_000, "{tried}");
    }

    #[test]
    fn what_asks_for_gpus_in_an_unknown_form_is_a_gap() {
        let text =
            b"apiVersion: x/v1\nkind: Odd\nmetadata: {name: o}\nspec:\n  amounts:\n    limits: {nvidia.com/gpu: 2}\n";
        let all = read(&yaml::parse("f.yaml", text).unwrap());
        assert!(all.pods.is_empty() && all.gaps.len() == 1, "{:?}", all.gaps);
        assert!(all.gaps[0].what.contains("Odd o"), "{:?}", all.gaps);
        let quota =
            b"apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {limits: {nvidia.com/gpu: 2}}}\n";
        assert!(read(&yaml::parse("f.yaml", quota).unwrap()).gaps.is_empty());
    }
}
