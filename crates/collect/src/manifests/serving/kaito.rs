//! KAITO: workspaces and inference sets.

use super::{flag, unread};
use crate::engine;
use crate::manifests::around::{Around, namespace};
use crate::manifests::count::Count;
use crate::manifests::kinds::{Unit, member, set, text};
use crate::snapshot::server::Setting;
use serde_json::{Value, json};

/// KAITO: a preset names the model; the instance type names the GPUs, over all of which the operator spreads it.
/// `at`: where resource and inference stand ("" in a Workspace, "spec.template." in an `InferenceSet`).
pub(in crate::manifests) fn workspace(object: &Value, at: &str, replicas: Count, around: &Around<'_>) -> Vec<Unit> {
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
