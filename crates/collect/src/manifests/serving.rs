//! Operators that serve models: Ray Serve, KServe, NIM, Dynamo, KAITO. Each object is turned into the containers its
//! operator would make, so that the engines read them as they read a live pod.

use super::around::{Around, namespace, overlay};
use super::claims::devices_of_claim;
use super::count::Count;
use super::kinds::{Member, Unit, list_mut, member, number, set, text};
use crate::engine;
use crate::snapshot::server::{Setting, UnreadSetting};
use serde_json::{Map, Value, json};

fn flag(name: &str, value: &Value) -> Option<String> {
    let name = name.replace('_', "-");
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Bool(true) => Some(format!("--{name}")),
        Value::String(s) => Some(format!("--{name}={s}")),
        other => Some(format!("--{name}={other}")),
    }
}

/// What a Ray application serves.
#[derive(Default)]
pub(super) struct Served {
    /// As a container.
    pub(super) server: Option<Value>,
    pub(super) unread: Vec<UnreadSetting>,
}

pub(super) fn unread(setting: Setting, place: &str) -> UnreadSetting {
    UnreadSetting {
        setting,
        place: place.into(),
    }
}

fn ray_applications(spec: &Value) -> Option<Vec<Value>> {
    let config = text(&spec["serveConfigV2"])?;
    let parsed = super::yaml::parse("serveConfigV2", config.as_bytes()).ok()?;
    parsed.documents.into_iter().next()?.value["applications"]
        .as_array()
        .cloned()
}

/// Ray Serve LLM: `serveConfigV2` is YAML in a string.
pub(super) fn ray_serve(spec: &Value) -> Served {
    let Some(applications) = ray_applications(spec) else {
        return Served::default();
    };
    let llms = || {
        applications
            .iter()
            .flat_map(|a| a["args"]["llm_configs"].as_array().into_iter().flatten())
    };
    let several = unread(Setting::Any, "the Ray application, which serves several models");
    let Some(llm) = llms().find(|c| c.is_object()) else {
        let mut served = of_program(&applications);
        // Models by the names of files that only the image has.
        if llms().next().is_some() {
            served.unread.push(unread(Setting::Any, "the files of llm_configs"));
        }
        return served;
    };
    let loading = &llm["model_loading_config"];
    let mut args = Vec::new();
    if let Some(model) = text(&loading["model_source"]).or_else(|| text(&loading["model_id"])) {
        args.push(format!("--model={model}"));
    }
    if let Some(id) = text(&loading["model_id"]) {
        args.push(format!("--served-model-name={id}"));
    }
    let empty = Map::new();
    let engine = llm["engine_kwargs"].as_object().unwrap_or(&empty);
    args.extend(engine.iter().filter_map(|(k, v)| flag(k, v)));
    args.extend(ray_copies(
        &llm["deployment_config"],
        &llm["engine_kwargs"]["data_parallel_size"],
    ));
    Served {
        server: Some(json!({"image": "vllm/vllm-openai", "args": args})),
        unread: if llms().count() > 1 { vec![several] } else { Vec::new() },
    }
}

/// Copies of the model in one cluster are as many ranks of data parallelism: `num_replicas`, or where it is scaled, what is
/// there at the least and the most if those are the same.
fn ray_copies(deployment: &Value, ranks: &Value) -> Option<String> {
    let scaled = &deployment["autoscaling_config"];
    let copies = match (&deployment["num_replicas"], scaled.is_object()) {
        (Value::Null, true) if scaled["min_replicas"] == scaled["max_replicas"] => &scaled["max_replicas"],
        (_, true) => &Value::Bool(true),
        (Value::Null, false) => return None,
        (stated, false) => stated,
    };
    match (number(copies), number(ranks).or_else(|| ranks.is_null().then_some(1))) {
        (Some(1), _) => None,
        (Some(copies), Some(ranks)) => Some(format!("--data-parallel-size={}", copies.saturating_mul(ranks))),
        // "auto": as many as the load needs.
        _ => Some("--data-parallel-size=auto".into()),
    }
}

fn of_program(applications: &[Value]) -> Served {
    let names = |a: &Value| format!("{} {}", a["import_path"], a["name"]).to_ascii_lowercase();
    if let Some(server) = applications.iter().find_map(|a| ray_program(a, &names(a))) {
        return Served {
            server: Some(server),
            unread: Vec::new(),
        };
    }
    let draws = applications.iter().any(|a| names(a).contains("diffusion"));
    // A program of the user's own: what it loads only the program knows.
    let server = if draws {
        json!({"image": "stable-diffusion-webui"})
    } else {
        json!({"command": ["serve", "run"]})
    };
    Served {
        server: Some(server),
        unread: Vec::new(),
    }
}

/// A program that starts an engine by itself, in the way of Ray's samples: the model stands in its environment.
fn ray_program(application: &Value, names: &str) -> Option<Value> {
    let packages = application["runtime_env"]["pip"].as_array().into_iter().flatten();
    let all = packages.fold(names.to_string(), |all, p| all + " " + p.as_str().unwrap_or_default());
    let environment = &application["runtime_env"]["env_vars"];
    let value = |keys: &[&str]| {
        // "$MODEL_ID", a placeholder that somebody fills in before, is for the engine to see.
        let known = keys.iter().find_map(|k| match &environment[*k] {
            Value::String(s) => Some(s.clone()),
            Value::Number(n) => Some(n.to_string()),
            _ => None,
        });
        known.filter(|v| !v.is_empty())
    };
    let (image, model_flag) = if all.contains("sglang") {
        ("lmsysorg/sglang", "model-path")
    } else if all.contains("vllm") {
        ("vllm/vllm-openai", "model")
    } else {
        return None;
    };
    let mut args = Vec::new();
    for (flag, keys) in [
        (model_flag, &["MODEL_ID", "MODEL_NAME", "MODEL", "HF_MODEL_ID"][..]),
        (
            "tensor-parallel-size",
            &["TENSOR_PARALLELISM", "TENSOR_PARALLEL_SIZE", "TP_SIZE"],
        ),
        (
            "pipeline-parallel-size",
            &["PIPELINE_PARALLELISM", "PIPELINE_PARALLEL_SIZE", "PP_SIZE"],
        ),
        ("max-model-len", &["MAX_MODEL_LEN"]),
        ("dtype", &["DTYPE"]),
    ] {
        args.extend(value(keys).map(|v| format!("--{flag}={v}")));
    }
    let deployments = application["deployments"].as_array().into_iter().flatten();
    let copied = deployments.filter(|d| !d["num_replicas"].is_null() || d["autoscaling_config"].is_object());
    // Of several deployments the others pre- or post-process.
    let served = copied.max_by_key(|d| number(&d["ray_actor_options"]["num_gpus"]).unwrap_or(0));
    args.extend(served.and_then(|d| ray_copies(d, &Value::Null)));
    Some(json!({"image": image, "args": args}))
}

/// The GPU by which Ray places the first model's workers.
pub(super) fn ray_accelerator(spec: &Value) -> Option<String> {
    ray_applications(spec)?
        .iter()
        .flat_map(|a| a["args"]["llm_configs"].as_array().into_iter().flatten())
        .find_map(|c| text(&c["accelerator_type"]))
        // Ray writes "A100-80G" (ray.util.accelerators).
        .map(|name| if name.ends_with("0G") { name + "B" } else { name })
}

/// `InferenceService`: a custom predictor's containers, or a model format with its runtime.
pub(super) fn inference_service(object: &Value, around: &Around<'_>) -> Vec<Unit> {
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
    // Scaled to zero or not, one is what it needs when it is asked.
    let replicas = Count::of(&predictor["minReplicas"], 1).map(|n| n.max(1));
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

/// A number or text as the word of a command line.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

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
pub(super) fn llm_inference_service(object: &Value, around: &Around<'_>) -> Vec<Unit> {
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

/// `NIMService`: image and environment; GPUs as resources or DRA claims.
pub(super) fn nim_service(object: &Value, path: &str, part: Option<String>) -> Vec<Unit> {
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
    let mut made = super::claims::Devices::default();
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

/// `DynamoGraphDeployment`, v1alpha1 (spec.services) and v1beta1 (spec.components): each service is a workload.
pub(super) fn dynamo_graph(object: &Value) -> Vec<Unit> {
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

pub(super) fn dynamo_component(of: &Value, path: &str, name: Option<&str>) -> Vec<Unit> {
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

/// KAITO: a preset names the model; the instance type names the GPUs, over all of which the operator spreads it.
/// `at`: where resource and inference stand ("" in a Workspace, "spec.template." in an `InferenceSet`).
pub(super) fn workspace(object: &Value, at: &str, replicas: Count, around: &Around<'_>) -> Vec<Unit> {
    let below = if at.is_empty() {
        object
    } else {
        &object["spec"]["template"]
    };
    // The kind's fields stand at the top level, not under spec.
    let pick = |key: &str| {
        [&below[key], &below["spec"][key]]
            .into_iter()
            .find(|v| !v.is_null())
            .cloned()
            .unwrap_or_default()
    };
    let (resource, inference) = (pick("resource"), pick("inference"));
    if inference.is_null() {
        return Vec::new();
    }
    let mut selector = resource["labelSelector"]["matchLabels"].clone();
    if let Some(kind) = text(&resource["instanceType"]).filter(|t| !engine::has_placeholder(t)) {
        if !selector.is_object() {
            selector = json!({});
        }
        selector["node.kubernetes.io/instance-type"] = json!(kind);
    }
    let count = Count::of(&resource["count"], 1).map(|n| n.max(1));
    if inference["template"]["spec"].is_object() {
        let mut template = inference["template"].clone();
        if let Some(spec) = template.get_mut("spec") {
            set(spec, "nodeSelector", selector);
        }
        return vec![Unit {
            replicas: replicas.times(count),
            members: vec![member(1, template, &format!("{at}inference.template.spec"))],
            ..Unit::default()
        }];
    }
    let Some(preset) = text(&inference["preset"]["name"]) else {
        return Vec::new();
    };
    let mut args = vec![format!("--model={}", preset_model(&preset))];
    if count.known() != Some(1) {
        args.push(format!("--pipeline-parallel-size={}", count.text()));
    }
    // Its ConfigMap's "vllm" block is vLLM's flags.
    let named = text(&inference["config"]);
    let config = named
        .as_ref()
        .and_then(|name| around.config(&namespace(object), name, "inference_config.yaml"));
    let lacks = named
        .filter(|_| config.is_none())
        .map(|name| format!("ConfigMap {name}"));
    let config = config.unwrap_or_default();
    let flags = || config["vllm"].as_object().into_iter().flatten();
    // Its command line states the parallelism, and wins (presets/workspace/inference/vllm/inference_api.py).
    let by_operator = |key: &str| {
        ["tensor", "pipeline", "data"]
            .iter()
            .any(|p| key.replace('_', "-") == format!("{p}-parallel-size"))
    };
    args.extend(flags().filter(|(k, _)| !by_operator(k)).filter_map(|(k, v)| flag(k, v)));
    // It leaves the length to vLLM where nobody states one (pkg/model/interface.go).
    if !flags().any(|(k, _)| k.replace('_', "-") == "max-model-len") {
        args.push("--max-model-len=auto".into());
    }
    let container = json!({"name": "preset", "image": "vllm/vllm-openai", "args": args});
    vec![Unit {
        replicas,
        members: vec![member(
            count,
            json!({"spec": {"containers": [container], "nodeSelector": selector}}),
            &format!("{at}inference.preset"),
        )],
        gpus_unstated: true,
        spread: true,
        unread: lacks.iter().map(|l| unread(Setting::Any, l)).collect(),
        lacks,
        ..Unit::default()
    }]
}

/// Presets that are not called as the model on the hub is (kaito-project/kaito pkg/utils/plugin/plugin.go).
fn preset_model(preset: &str) -> &str {
    match preset {
        "gemma-3-4b-instruct" => "google/gemma-3-4b-it",
        "gemma-3-27b-instruct" => "google/gemma-3-27b-it",
        "mistral-7b" => "mistralai/Mistral-7B-v0.3",
        "mistral-7b-instruct" => "mistralai/Mistral-7B-Instruct-v0.3",
        "ministral-3-3b-instruct" => "mistralai/Ministral-3-3B-Instruct-2512",
        "ministral-3-8b-instruct" => "mistralai/Ministral-3-8B-Instruct-2512",
        "ministral-3-14b-instruct" => "mistralai/Ministral-3-14B-Instruct-2512",
        "mistral-large-3-675b-instruct" => "mistralai/Mistral-Large-3-675B-Instruct-2512",
        other => other,
    }
}
