//! Kinds that nobody wrote a reader for: pod templates are found by their shape.

use super::count::Count;
use super::kinds::{Member, Unit, member, number, role_of, text};
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

/// A set of pods that belong together.
struct Found {
    members: Vec<Member>,
    /// Of all levels above it.
    replicas: Count,
    name: Option<String>,
}

/// One workload for each pod template below `spec`, with the replicas of all levels above it; a leader's and its workers'
/// templates side by side are one.
pub(super) fn units(object: &Value) -> Vec<Unit> {
    let mut found = Vec::new();
    let top = Above {
        replicas: Count::Known(1),
        group: Count::Known(1),
        name: None,
    };
    walk(&object["spec"], "spec", &top, 0, &mut found);
    let single = found.len() == 1;
    found
        .into_iter()
        .enumerate()
        .map(|(i, f)| Unit {
            role: f.name.as_deref().and_then(role_of),
            part: (!single).then(|| f.name.unwrap_or_else(|| format!("template-{i}"))),
            replicas: f.replicas,
            members: f.members,
            ..Unit::default()
        })
        .collect()
}

/// What the levels above say of a template.
#[derive(Clone)]
struct Above<'a> {
    replicas: Count,
    group: Count,
    name: Option<&'a str>,
}

/// How many pods one replica of a role is: AIBrix' roles, and those that RoleBasedGroup makes a `LeaderWorkerSet` of
/// (sgl-project/rbg, api/workloads).
fn pods_of_one(role: &Value) -> &Value {
    [
        &role["podGroupSize"],
        &role["leaderWorkerSet"]["size"],
        &role["leaderWorkerPattern"]["size"],
    ]
    .into_iter()
    .find(|v| !v.is_null())
    .unwrap_or(&Value::Null)
}

fn is_template(value: &Value) -> bool {
    value["spec"]["containers"].as_array().is_some_and(|c| !c.is_empty())
}

fn walk(value: &Value, path: &str, above: &Above<'_>, depth: usize, found: &mut Vec<Found>) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) => {
            if is_template(value) {
                found.push(Found {
                    members: vec![member(above.group.clone(), value.clone(), &format!("{path}.spec"))],
                    replicas: above.replicas.clone(),
                    name: above.name.map(String::from),
                });
                return;
            }
            let own_name = text(&value["name"]).or_else(|| text(&value["groupName"]));
            let here = Above {
                replicas: above.replicas.clone().times(Count::of(&value["replicas"], 1)),
                group: match pods_of_one(value) {
                    Value::Null => above.group.clone(),
                    size => Count::of(size, 1).map(|n| n.max(1)),
                },
                name: own_name.as_deref().or(above.name),
            };
            let group = group(value, path);
            if let Some(group) = &group {
                found.push(Found {
                    members: group.members.clone(),
                    replicas: here.replicas.clone(),
                    name: here.name.map(String::from),
                });
            }
            let taken = |key: &String| group.as_ref().is_some_and(|g| g.keys.contains(key));
            for (key, below) in map.iter().filter(|(key, _)| !taken(key)) {
                walk(below, &format!("{path}.{key}"), &here, depth + 1, found);
            }
        }
        Value::Array(items) => {
            let group = listed_group(items, path);
            if let Some(group) = &group {
                found.push(Found {
                    members: group.members.clone(),
                    replicas: above.replicas.clone(),
                    name: above.name.map(String::from),
                });
            }
            let taken = |i: &usize| group.as_ref().is_some_and(|g| g.keys.contains(&i.to_string()));
            for (i, item) in items.iter().enumerate().filter(|(i, _)| !taken(i)) {
                walk(item, &format!("{path}[{i}]"), above, depth + 1, found);
            }
        }
        _ => {}
    }
}

/// A leader and its workers, side by side in one mapping.
struct Group {
    members: Vec<Member>,
    keys: Vec<String>,
}

/// Words for the one pod of a group that the others join, and for those.
const LEADERS: &[&str] = &[
    "leader",
    "head",
    "master",
    "entry",
    "primary",
    "launcher",
    "coordinator",
    "driver",
];
const WORKERS: &[&str] = &["worker", "follower", "secondary", "executor"];
/// How many pods a group has, the leader among them; and how many workers.
const SIZES: &[&str] = &[
    "size",
    "groupSize",
    "group_size",
    "podGroupSize",
    "nodes",
    "nodeCount",
    "numNodes",
    "nnodes",
];
const WORKER_COUNTS: &[&str] = &["workerReplicas", "workers", "workerCount", "numWorkers", "workerSize"];

/// `leaderTemplate` beside `workerTemplate`, `leader: {template}` beside `worker: {template}`: one server over several pods.
fn group(value: &Value, path: &str) -> Option<Group> {
    let map = value.as_object()?;
    let of = |words: &[&str]| {
        map.iter().find_map(|(key, below)| {
            let lower = key.to_ascii_lowercase();
            let named = words.iter().any(|w| lower.starts_with(w));
            let inner = ["template", "podTemplate"].iter().find(|k| is_template(&below[**k]));
            match (named, is_template(below), inner) {
                (true, true, _) => Some((key, below, below, format!("{path}.{key}.spec"))),
                (true, false, Some(inner)) => Some((key, below, &below[*inner], format!("{path}.{key}.{inner}.spec"))),
                _ => None,
            }
        })
    };
    let (leader, worker) = (of(LEADERS)?, of(WORKERS)?);
    let stated = |value: &Value, keys: &[&str]| {
        keys.iter()
            .map(|k| value[*k].clone())
            .find(|v| v.is_number() || v.is_string())
    };
    let unstated = || Count::Unknown("the size of the group, which is not stated".into());
    let workers = stated(value, SIZES)
        .map(|n| Count::of(&n, 1).map(|n| n.saturating_sub(1)))
        .or_else(|| stated(value, WORKER_COUNTS).map(|n| Count::of(&n, 1)))
        .or_else(|| stated(worker.1, &["replicas", "size", "count"]).map(|n| Count::of(&n, 1)))
        .unwrap_or_else(unstated);
    let leaders = stated(leader.1, &["replicas"]).map_or(Count::Known(1), |n| Count::of(&n, 1));
    Some(Group {
        members: vec![
            member(leaders, leader.2.clone(), &leader.3),
            member(workers, worker.2.clone(), &worker.3),
        ],
        keys: vec![leader.0.clone(), worker.0.clone()],
    })
}

/// Roles in a list that are called leader and worker, each with its template and its number: one server over several pods.
fn listed_group(items: &[Value], path: &str) -> Option<Group> {
    let of = |words: &[&str]| {
        items.iter().enumerate().find_map(|(i, item)| {
            let name = ["name", "role", "groupName"]
                .iter()
                .find_map(|k| text(&item[*k]))?
                .to_ascii_lowercase();
            let key = ["template", "podTemplate"].iter().find(|k| is_template(&item[**k]))?;
            words.iter().any(|w| name == *w || name == format!("{w}s")).then(|| {
                let member = member(
                    Count::of(&item["replicas"], 1),
                    item[*key].clone(),
                    &format!("{path}[{i}].{key}.spec"),
                );
                (i.to_string(), member)
            })
        })
    };
    let (leader, worker) = (of(LEADERS)?, of(WORKERS)?);
    Some(Group {
        members: vec![leader.1, worker.1],
        keys: vec![leader.0, worker.0],
    })
}

/// GPUs asked for anywhere in the object, in the words of Kubernetes' resources or in those that operators have for them: of
/// such an object nothing may be lost silently.
pub(super) fn asks_for_gpus(value: &Value, is_device: fn(&str) -> bool, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    let asked = |v: &Value| !matches!(v, Value::Null | Value::Bool(false)) && number(v) != Some(0);
    match value {
        Value::Object(map) => map.iter().any(|(key, below)| {
            let amounts = matches!(key.as_str(), "limits" | "requests");
            let devices =
                |m: &serde_json::Map<String, Value>| m.iter().any(|(k, v)| (is_device(k) || says_gpu(k)) && asked(v));
            // KubeVirt: cards that a machine is given by name.
            let given = matches!(key.as_str(), "gpus" | "hostDevices")
                && below
                    .as_array()
                    .is_some_and(|all| all.iter().any(|g| g["deviceName"].is_string()));
            given
                || amounts && below.as_object().is_some_and(devices)
                || (says_gpu(key) && is_amount(below) && asked(below))
                || asks_for_gpus(below, is_device, depth + 1)
        }),
        Value::Array(items) => items.iter().any(|v| asks_for_gpus(v, is_device, depth + 1)),
        _ => false,
    }
}

/// A number, or one in `quantity`, or as run:ai's workloads have it, in `value`.
fn is_amount(value: &Value) -> bool {
    value.is_number() || value["quantity"].is_number() || number_like(&value["value"])
}

fn number_like(value: &Value) -> bool {
    value.is_number() || value.as_str().is_some_and(|t| t.trim().parse::<f64>().is_ok())
}

/// Names of fields that count GPUs: "gpu", "numGpus", "gpu_count", "gpusPerReplica".
fn says_gpu(key: &str) -> bool {
    let lower = key.to_ascii_lowercase().replace(['_', '-'], "");
    let known = [
        "gpu",
        "gpus",
        "gpucount",
        "numgpus",
        "numgpu",
        "ngpus",
        "gpunum",
        "gpunumber",
        "acceleratorcount",
        "gpudevices",
        "gpudevicesrequest",
        "gpuportionrequest",
        // The vLLM production stack's values.
        "requestgpu",
    ];
    known.contains(&lower.as_str()) || (lower.starts_with("gpusper") || lower.starts_with("gpuper"))
}

/// Kinds of an operator that nobody knows here, which serve models by their name: their pods stand elsewhere.
pub(super) fn serves_by_name(object: &Value) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let serves = [
        "InferenceService",
        "LLMService",
        "ModelServing",
        "ModelDeployment",
        "InferenceDeployment",
        "LLMEngine",
        "Playground",
    ];
    version.contains('.') && serves.iter().any(|s| kind.contains(s))
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
    let stated = [&spec["replicas"], &spec["minReplicas"]]
        .into_iter()
        .find(|v| !v.is_null());
    let least = Count::of(stated.unwrap_or(&Value::Null), 0);
    // KubeAI's autoscaler starts at none, and makes the first when it is asked.
    let to_zero = least.known() == Some(0) && spec["autoscalingDisabled"] != true;
    vec![Unit {
        replicas: if to_zero { 1.into() } else { least },
        to_zero,
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
        replicas: Count::of(&deploy["replicas"], 1),
        members: vec![member(1, template, "spec.deploymentConfig")],
        serves: Some(json!({"image": image, "command": ["vllm", "serve"], "args": args})),
        ..Unit::default()
    }]
}
