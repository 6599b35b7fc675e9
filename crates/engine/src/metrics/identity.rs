//! What servers say of themselves in JSON: /v1/models, /version, /get_server_info, /info, /props, /api/ps.

use crate::snapshot::engine::ServerIdentity;
use crate::units::Tokens;
use serde_json::Value;

/// `version`, where an answer has nothing else of interest.
pub(crate) fn version(value: &Value, identity: &mut ServerIdentity) {
    identity.version = text(value, "version").or(identity.version.take());
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().filter(|s| !s.is_empty()).map(String::from)
}

/// Base models name a root; LoRA adapters name a parent.
pub(crate) fn models(value: &Value, identity: &mut ServerIdentity) {
    for model in value.get("data").and_then(Value::as_array).into_iter().flatten() {
        let Some(id) = text(model, "id") else { continue };
        if text(model, "parent").is_some() {
            identity.lora_names.push(id);
            continue;
        }
        identity.model_root = identity.model_root.take().or_else(|| text(model, "root"));
        identity.max_model_len = model
            .get("max_model_len")
            .and_then(Value::as_u64)
            .or(identity.max_model_len);
        if !identity.served_names.contains(&id) {
            identity.served_names.push(id);
        }
    }
}

pub(crate) fn sglang(value: &Value, identity: &mut ServerIdentity) {
    identity.model_root = text(value, "model_path").or(identity.model_root.take());
    identity.version = text(value, "version").or(identity.version.take());
    identity.max_model_len = value
        .get("context_length")
        .and_then(Value::as_u64)
        .or(identity.max_model_len);
    identity.kv_capacity = value
        .get("max_total_num_tokens")
        .and_then(Value::as_u64)
        .map(Tokens)
        .or(identity.kv_capacity);
}

/// TGI and TEI.
pub(crate) fn info(value: &Value, identity: &mut ServerIdentity) {
    identity.model_root = text(value, "model_id").or(identity.model_root.take());
    identity.version = text(value, "version").or(identity.version.take());
    identity.max_model_len = ["max_total_tokens", "max_input_length"]
        .iter()
        .find_map(|k| value.get(*k)?.as_u64())
        .or(identity.max_model_len);
}

pub(crate) fn props(value: &Value, identity: &mut ServerIdentity) {
    identity.model_root = text(value, "model_path").or(identity.model_root.take());
    identity.version = text(value, "build_info").or(identity.version.take());
    identity.max_model_len = value
        .pointer("/default_generation_settings/n_ctx")
        .and_then(Value::as_u64)
        .or(identity.max_model_len);
}

pub(crate) fn ollama(value: &Value, identity: &mut ServerIdentity) {
    for model in value.get("models").and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = text(model, "name") else { continue };
        identity.model_root.get_or_insert_with(|| name.clone());
        identity.max_model_len = model
            .get("context_length")
            .and_then(Value::as_u64)
            .or(identity.max_model_len);
        identity.served_names.push(name);
    }
}
