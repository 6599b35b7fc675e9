//! Kinds that nobody wrote a reader for: pod templates are found by their shape.

use super::kinds::{Unit, member, number, role_of, text};
use serde_json::{Value, json};

/// Objects nest their templates some ten levels deep.
const MAX_DEPTH: usize = 24;

/// Kinds that describe pods for others to make, or quotas: they run none themselves.
const MAKE_NOTHING: &[&str] = &[
    "CustomResourceDefinition",
    "ResourceQuota",
    "LimitRange",
    "ClusterQueue",
    "LocalQueue",
    "ResourceFlavor",
    "NodePool",
    "Provisioner",
    "ConfigMap",
    "Secret",
    "ValidatingAdmissionPolicy",
    "ClusterPolicy",
    "Policy",
    "TrainingRuntime",
    "ClusterTrainingRuntime",
    "ServingRuntime",
    "ClusterServingRuntime",
    "LLMInferenceServiceConfig",
    "PodTemplate",
    "Workload",
    "Node",
];

/// Whether objects of this kind never run pods of their own.
pub(super) fn makes_nothing(kind: &str) -> bool {
    MAKE_NOTHING.contains(&kind) || kind.ends_with("Template") || kind.ends_with("Class")
}

struct Found<'a> {
    template: &'a Value,
    path: String,
    /// Of all levels above it.
    replicas: u64,
    /// Pods that are one replica.
    group: u64,
    name: Option<String>,
}

/// One workload for each pod template below `spec`, with the replicas of all levels above it.
pub(super) fn units(object: &Value) -> Vec<Unit> {
    let mut found = Vec::new();
    let top = Above {
        replicas: 1,
        group: 1,
        name: None,
    };
    walk(&object["spec"], "spec", top, 0, &mut found);
    let single = found.len() == 1;
    found
        .into_iter()
        .enumerate()
        .map(|(i, f)| Unit {
            role: f.name.as_deref().and_then(role_of),
            part: (!single).then(|| f.name.unwrap_or_else(|| format!("template-{i}"))),
            replicas: f.replicas,
            members: vec![member(f.group, f.template.clone(), &f.path)],
            ..Unit::default()
        })
        .collect()
}

/// What the levels above say of a template.
#[derive(Clone, Copy)]
struct Above<'a> {
    replicas: u64,
    group: u64,
    name: Option<&'a str>,
}

fn walk<'a>(value: &'a Value, path: &str, above: Above<'_>, depth: usize, found: &mut Vec<Found<'a>>) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) => {
            if value["spec"]["containers"].as_array().is_some_and(|c| !c.is_empty()) {
                found.push(Found {
                    template: value,
                    path: format!("{path}.spec"),
                    replicas: above.replicas,
                    group: above.group,
                    name: above.name.map(String::from),
                });
                return;
            }
            let own = number(&value["replicas"]).unwrap_or(1);
            let own_name = text(&value["name"]).or_else(|| text(&value["groupName"]));
            let here = Above {
                replicas: above.replicas.saturating_mul(own),
                // AIBrix: a role's replica is so many pods.
                group: number(&value["podGroupSize"]).unwrap_or(above.group).max(1),
                name: own_name.as_deref().or(above.name),
            };
            for (key, below) in map {
                walk(below, &format!("{path}.{key}"), here, depth + 1, found);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                walk(item, &format!("{path}[{i}]"), above, depth + 1, found);
            }
        }
        _ => {}
    }
}

/// GPUs asked for anywhere in the object, in the words of Kubernetes' resources: of such an object nothing may be lost silently.
pub(super) fn asks_for_gpus(value: &Value, is_device: fn(&str) -> bool, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    match value {
        Value::Object(map) => map.iter().any(|(key, below)| {
            let amounts = matches!(key.as_str(), "limits" | "requests");
            let devices = |m: &serde_json::Map<String, Value>| {
                m.iter().any(|(k, v)| is_device(k) && number(v).is_some_and(|n| n > 0))
            };
            amounts && below.as_object().is_some_and(devices) || asks_for_gpus(below, is_device, depth + 1)
        }),
        Value::Array(items) => items.iter().any(|v| asks_for_gpus(v, is_device, depth + 1)),
        _ => false,
    }
}

/// `KubeAI`'s Model: engine, URL and a resource profile ("nvidia-gpu-l4:2").
pub(super) fn kubeai_model(spec: &Value) -> Vec<Unit> {
    let Some(engine) = text(&spec["engine"]) else {
        return Vec::new();
    };
    let url = text(&spec["url"]).unwrap_or_default();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", &url));
    let model = rest.split('?').next().unwrap_or(rest);
    let named = if scheme == "hf" || scheme == "ollama" {
        model
    } else {
        &url
    };
    let own: Vec<Value> = spec["args"].as_array().cloned().unwrap_or_default();
    let with = |first: Vec<String>| {
        let words = first.into_iter().map(Value::String).chain(own.clone());
        Value::Array(words.collect())
    };
    let serves = match engine.to_ascii_lowercase().as_str() {
        "vllm" => json!({"image": "vllm/vllm-openai", "args": with(vec![format!("--model={named}")])}),
        "infinity" => json!({"image": "michaelf34/infinity", "args": with(vec![format!("--model-id={named}")])}),
        "ollama" => {
            json!({"image": "ollama/ollama", "command": ["sh", "-c"], "args": [format!("ollama serve & ollama pull {named}")]})
        }
        "fasterwhisper" => json!({"image": "fedirz/faster-whisper-server"}),
        _ => return Vec::new(),
    };
    let profile = text(&spec["resourceProfile"]).unwrap_or_default();
    let (card, count) = profile.split_once(':').unwrap_or((&profile, "1"));
    let Some(gpu) = card
        .strip_prefix("nvidia-gpu-")
        .or_else(|| card.strip_prefix("amd-gpu-"))
    else {
        return Vec::new();
    };
    let resource = if card.starts_with("amd") {
        "amd.com/gpu"
    } else {
        "nvidia.com/gpu"
    };
    let template = json!({"spec": {
        "containers": [{"name": "server", "image": serves["image"], "resources": {"limits": {resource: count}}}],
        "nodeSelector": {"gpu": gpu},
    }});
    vec![Unit {
        replicas: number(&spec["replicas"])
            .or_else(|| number(&spec["minReplicas"]))
            .unwrap_or(0),
        members: vec![member(1, template, "spec")],
        serves: Some(serves),
        ..Unit::default()
    }]
}

/// The vLLM production stack's `VLLMRuntime`.
pub(super) fn vllm_runtime(spec: &Value) -> Vec<Unit> {
    let (model, engine, deploy) = (&spec["model"], &spec["vllmConfig"], &spec["deploymentConfig"]);
    let mut args: Vec<String> = Vec::new();
    for (of, key, flag) in [
        (model, "modelURL", "model"),
        (model, "maxModelLen", "max-model-len"),
        (model, "dtype", "dtype"),
        (model, "maxNumSeqs", "max-num-seqs"),
        (engine, "tensorParallelSize", "tensor-parallel-size"),
        (engine, "gpuMemoryUtilization", "gpu-memory-utilization"),
    ] {
        match &of[key] {
            Value::String(s) => args.push(format!("--{flag}={s}")),
            Value::Number(n) => args.push(format!("--{flag}={n}")),
            _ => {}
        }
    }
    args.extend(
        engine["extraArgs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|a| a.as_str().map(String::from)),
    );
    let (amounts, image) = (&deploy["resources"], text(&deploy["image"]["name"]).unwrap_or_default());
    let gpu = text(&amounts["gpuType"]).unwrap_or_else(|| "nvidia.com/gpu".into());
    let template = json!({"spec": {
        "containers": [{"name": "vllm", "image": image, "resources": {
            "requests": {"cpu": amounts["cpu"], "memory": amounts["memory"]},
            "limits": {gpu: amounts["gpu"]},
        }}],
        "nodeSelector": deploy["nodeSelector"], "affinity": deploy["affinity"], "tolerations": deploy["tolerations"],
    }});
    vec![Unit {
        replicas: number(&deploy["replicas"]).unwrap_or(1),
        members: vec![member(1, template, "spec.deploymentConfig")],
        serves: Some(json!({"image": image, "command": ["vllm", "serve"], "args": args})),
        ..Unit::default()
    }]
}
