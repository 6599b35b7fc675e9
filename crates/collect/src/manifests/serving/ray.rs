//! Ray Serve: applications of LLMs, and programs that serve by themselves.

use super::{flag, unread};
use crate::manifests::kinds::{number, text};
use crate::snapshot::server::{Setting, UnreadSetting};
use serde_json::{Map, Value, json};

/// What a Ray application serves.
#[derive(Default)]
pub(in crate::manifests) struct Served {
    /// As a container.
    pub(in crate::manifests) server: Option<Value>,
    pub(in crate::manifests) unread: Vec<UnreadSetting>,
}

fn ray_applications(spec: &Value) -> Option<Vec<Value>> {
    let config = text(&spec["serveConfigV2"])?;
    let parsed = crate::manifests::yaml::parse("serveConfigV2", config.as_bytes()).ok()?;
    parsed.documents.into_iter().next()?.value["applications"]
        .as_array()
        .cloned()
}

/// Ray Serve LLM: `serveConfigV2` is YAML in a string.
pub(in crate::manifests) fn ray_serve(spec: &Value) -> Served {
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
pub(in crate::manifests) fn ray_accelerator(spec: &Value) -> Option<String> {
    ray_applications(spec)?
        .iter()
        .flat_map(|a| a["args"]["llm_configs"].as_array().into_iter().flatten())
        .find_map(|c| text(&c["accelerator_type"]))
        // Ray writes "A100-80G" (ray.util.accelerators).
        .map(|name| if name.ends_with("0G") { name + "B" } else { name })
}
