//! KServe: runtimes, their overlays, and servers of LLMs.

use super::{scalar, unread};
use crate::engine;
use crate::manifests::around::{Around, namespace, overlay};
use crate::manifests::count::Count;
use crate::manifests::kinds::{Unit, least_scale, list_mut, member, set, text};
use crate::snapshot::server::Setting;
use serde_json::{Value, json};

/// `InferenceService`: a custom predictor's containers, or a model format with its runtime.
pub(in crate::manifests) fn inference_service(object: &Value, around: &Around<'_>) -> Vec<Unit> {
    const FRAMEWORKS: &[&str] = &[
        "huggingface",
        "triton",
        "pytorch",
        "onnx",
        "tensorflow",
        "sklearn",
        "xgboost",
    ];
    let predictor = &object["spec"]["predictor"];
    // One is what it needs when it is asked. KServe leaves an annotation of Knative's as it is where the service has one.
    let annotated = [&predictor["annotations"], &object["metadata"]["annotations"]];
    let least = match (&predictor["minReplicas"], annotated.into_iter().find_map(least_scale)) {
        (Value::Null, Some(least)) => least.into(),
        (stated, _) => Count::of(stated, 1),
    };
    let to_zero = least.known() == Some(0);
    let replicas = least.map(|n| n.max(1));
    let mut lacks = None;
    let mut unsaid = Vec::new();
    let pod_spec = |container: Option<Value>| {
        let mut spec = predictor.clone();
        if let (Some(map), Some(container)) = (spec.as_object_mut(), container) {
            map.insert("containers".into(), json!([container]));
        }
        json!({"metadata": {"labels": object["metadata"]["labels"]}, "spec": spec})
    };
    let framework = FRAMEWORKS.iter().find(|f| predictor[**f].is_object());
    let (template, path, model) = if predictor["model"].is_object() || framework.is_some() {
        let key = framework
            .filter(|_| !predictor["model"].is_object())
            .map_or("model", |f| *f);
        let model = &predictor[key];
        let format = text(&model["modelFormat"]["name"]).unwrap_or_else(|| key.to_string());
        let runtime = text(&model["runtime"]).unwrap_or_default();
        let mut container = model.clone();
        let own = namespace(object);
        let of_runtime = if runtime.is_empty() {
            around.runtime_for(&own, &format)
        } else {
            around.runtime(&own, &runtime)
        };
        if let Some(base) = of_runtime.and_then(|r| r["containers"].as_array()?.first()) {
            container = on_runtime(base, model);
        } else if !runtime.is_empty() && !KSERVES_OWN.contains(&runtime.as_str()) {
            lacks = Some(format!("ServingRuntime {runtime}"));
            unsaid.push(unread(Setting::Any, &format!("ServingRuntime {runtime}")));
        }
        if let Some(map) = container.as_object_mut() {
            map.insert("name".into(), json!("kserve-container"));
            if map.get("image").is_none()
                && let Some(image) = runtime_image(&format, &runtime)
            {
                map.insert("image".into(), json!(image));
            }
            if lacks.is_some()
                && map.get("image").is_none()
                && let Some(image) = nim_image(&format, &runtime)
            {
                map.insert("image".into(), json!(image));
            }
        }
        let worker = &predictor["workerSpec"];
        let mut split = Vec::new();
        for (key, flag) in [
            ("tensorParallelSize", "--tensor-parallel-size"),
            ("pipelineParallelSize", "--pipeline-parallel-size"),
        ] {
            split.extend(scalar(&worker[key]).map(|n| json!(format!("{flag}={n}"))));
        }
        if !split.is_empty() {
            split.extend(container["args"].as_array().cloned().unwrap_or_default());
            set(&mut container, "args", json!(split));
        }
        let uri = text(&model["storageUri"]).or_else(|| text(&model["storage"]["path"]));
        (
            pod_spec(Some(container)),
            format!("spec.predictor.{key}"),
            uri.and_then(|u| engine::model_of_uri(&u)),
        )
    } else if predictor["containers"].is_array() {
        (pod_spec(None), "spec.predictor".to_string(), None)
    } else {
        return Vec::new();
    };
    let mut members = vec![member(1, template.clone(), &path)];
    let worker = &predictor["workerSpec"];
    if worker.is_object() {
        let others = match (&worker["pipelineParallelSize"], &worker["size"]) {
            (Value::Null, size) => Count::of(size, 1),
            (nodes, _) => Count::of(nodes, 2).map(|n| n.saturating_sub(1)),
        };
        let template = if worker["containers"].is_array() {
            json!({"spec": worker})
        } else {
            template
        };
        members.push(member(others, template, "spec.predictor.workerSpec"));
    }
    vec![Unit {
        replicas,
        to_zero,
        members,
        model,
        lacks,
        unread: unsaid,
        ..Unit::default()
    }]
}

/// Runtimes that KServe installs itself (kserve/kserve config/runtimes): their images and arguments are known.
const KSERVES_OWN: &[&str] = &[
    "kserve-huggingfaceserver",
    "kserve-huggingfaceserver-multinode",
    "kserve-tritonserver",
    "kserve-torchserve",
    "kserve-tensorflow-serving",
    "kserve-sklearnserver",
    "kserve-xgbserver",
];

/// NVIDIA's runtimes for KServe are named after the NIM that they run ("nvidia-nim-llama3-70b-instruct-1.0.0"; NVIDIA/nim-deploy,
/// kserve/runtimes): the name is all that is known of it where the runtime is elsewhere.
fn nim_image(format: &str, runtime: &str) -> Option<String> {
    let named = [format, runtime]
        .into_iter()
        .find(|n| n.split(['-', '_', '.']).any(|w| w == "nim"))?;
    let model = named.split_once("nim-").map_or("", |(_, model)| model);
    Some(format!("nvcr.io/nim/{model}"))
}

/// A runtime's container with what the service says on top: arguments and variables are added, the rest replaces.
fn on_runtime(base: &Value, model: &Value) -> Value {
    let mut over = model.clone();
    let mut args = base["args"].as_array().cloned().unwrap_or_default();
    args.extend(model["args"].as_array().cloned().unwrap_or_default());
    if let Some(map) = over.as_object_mut() {
        map.remove("name");
        map.insert("args".into(), json!(args));
    }
    overlay(base, &over)
}

/// KServe's own serving runtimes by model format (kserve/kserve config/runtimes).
fn runtime_image(format: &str, runtime: &str) -> Option<&'static str> {
    let named = |part: &str| runtime.contains(part);
    if named("sglang") {
        Some("lmsysorg/sglang")
    } else if named("vllm") || format == "vLLM" || format == "vllm" {
        Some("vllm/vllm-openai")
    } else if named("huggingface") || format == "huggingface" {
        Some("kserve/huggingfaceserver")
    } else if named("triton") || format == "triton" {
        Some("nvcr.io/nvidia/tritonserver")
    } else if format == "pytorch" {
        Some("pytorch/torchserve")
    } else {
        None
    }
}

/// Devices that KServe claims by annotation (docs/samples/llmisvc/managed-dra).
struct ManagedDevices {
    container: String,
    /// As an extended resource, and how many.
    asked: Option<(&'static str, u64)>,
}

impl ManagedDevices {
    fn of(annotations: &Value) -> Self {
        let value = |key: &str| text(&annotations[format!("serving.kserve.io/exp-dra-{key}")]);
        let resource = value("device-class").and_then(|class| match class.as_str() {
            "gpu.nvidia.com" => Some("nvidia.com/gpu"),
            "gpu.amd.com" => Some("amd.com/gpu"),
            _ => None,
        });
        let count = value("device-count").and_then(|n| n.trim().parse().ok()).unwrap_or(1);
        Self {
            container: value("container-name").unwrap_or_else(|| "main".into()),
            asked: resource.map(|r| (r, count)),
        }
    }
}

/// `LLMInferenceService`: the model is in spec.model, parallelism in spec.parallelism; the container is KServe's template.
pub(in crate::manifests) fn llm_inference_service(object: &Value, around: &Around<'_>) -> Vec<Unit> {
    let own = &object["spec"];
    let bases = own["baseRefs"].as_array().into_iter().flatten();
    let mut lacks = None;
    let mut below = json!({});
    for name in bases.filter_map(|b| b["name"].as_str()) {
        match around.base(name) {
            Some(base) => below = overlay(&below, base),
            None => lacks = lacks.or(Some(format!("LLMInferenceServiceConfig {name}"))),
        }
    }
    let spec = &overlay(&below, own);
    let model = text(&spec["model"]["uri"]).and_then(|u| engine::model_of_uri(&u));
    let runtime = text(&spec["runtime"]).unwrap_or_else(|| "vllm".into());
    let devices = ManagedDevices::of(&object["metadata"]["annotations"]);
    let own_draft = spec["speculativeDecoding"].is_object();
    let mut units = Vec::new();
    for (of, path, role) in [
        (spec, "spec", None),
        (&spec["prefill"], "spec.prefill", Some("prefill")),
    ] {
        if !of.is_object() {
            continue;
        }
        let role = role.or_else(|| spec["prefill"].is_object().then_some("decode"));
        let size = |key: &str| &of["parallelism"][key];
        let nodes = match (Count::of(size("data"), 0), Count::of(size("dataLocal"), 0)) {
            (Count::Known(data), Count::Known(local)) if local > 0 && data > 0 => data.div_ceil(local).into(),
            (unknown @ Count::Unknown(_), Count::Known(1..)) | (Count::Known(1..), unknown @ Count::Unknown(_)) => {
                unknown
            }
            _ if of["worker"].is_object() => Count::of(size("pipeline"), 2),
            _ => Count::Known(1),
        };
        let mut args = vec![format!("--model={}", model.clone().unwrap_or_default())];
        args.extend(text(&spec["model"]["name"]).map(|n| format!("--served-model-name={n}")));
        for (key, name) in [
            ("tensor", "tensor-parallel-size"),
            ("pipeline", "pipeline-parallel-size"),
            ("data", "data-parallel-size"),
        ] {
            args.extend(scalar(size(key)).map(|n| format!("--{name}={n}")));
        }
        if of["parallelism"]["expert"] == Value::Bool(true) && runtime == "vllm" {
            args.push("--enable-expert-parallel".into());
        }
        let image = if runtime == "sglang" {
            "lmsysorg/sglang"
        } else {
            "vllm/vllm-openai"
        };
        let mut template = of["template"].clone();
        if !template.is_object() {
            template = json!({"containers": [{"name": "main"}]});
        }
        let names = [devices.container.as_str(), "main"];
        let containers = template["containers"].as_array().cloned().unwrap_or_default();
        let at = names
            .iter()
            .find_map(|n| containers.iter().position(|c| c["name"] == *n))
            .unwrap_or(0);
        let main = containers.get(at).cloned().unwrap_or_default();
        for word in main["args"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            args.push(word.to_string());
        }
        for variable in main["env"].as_array().into_iter().flatten() {
            if variable["name"] == "VLLM_ADDITIONAL_ARGS" {
                args.extend(variable["value"].as_str().and_then(shlex::split).unwrap_or_default());
            }
        }
        if own_draft {
            args.push(format!("--speculative-config={}", spec["speculativeDecoding"]));
        }
        // The container's own command, where there is one, is read as it stands; the object's words fill the rest.
        let own_command = main["command"].is_array();
        let serves = (!own_command).then(|| json!({"image": main["image"].as_str().unwrap_or(image), "command": if runtime == "sglang" { json!(["python3", "-m", "sglang.launch_server"]) } else { json!(["vllm", "serve"]) }, "args": args}));
        let stated = !main["resources"]["limits"].is_null() || !main["resources"]["requests"].is_null();
        if let Some((resource, count)) = &devices.asked
            && let Some(container) = list_mut(&mut template, "/containers").nth(at)
        {
            let whole = overlay(
                container,
                &json!({"resources": {"limits": {*resource: count.to_string()}}}),
            );
            *container = whole;
        }
        let mut members = vec![member(
            1,
            json!({"metadata": {"labels": object["metadata"]["labels"]}, "spec": template}),
            &format!("{path}.template"),
        )];
        if nodes.known() != Some(1) {
            let worker = if of["worker"].is_object() {
                &of["worker"]
            } else {
                &of["template"]
            };
            let others = nodes.map(|n| n.saturating_sub(1));
            members.push(member(others, json!({"spec": worker}), &format!("{path}.worker")));
        }
        units.push(Unit {
            part: (path == "spec.prefill").then(|| "prefill".into()),
            replicas: Count::of(&of["replicas"], 1),
            members,
            serves,
            role,
            model: model.clone(),
            gpus_unstated: !stated,
            unread: lacks.iter().map(|l| unread(Setting::Any, l)).collect(),
            lacks: lacks.clone(),
            ..Unit::default()
        });
    }
    units
}
