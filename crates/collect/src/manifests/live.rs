//! Custom resources of a live cluster that say what their pods do not: read as manifests are.

use super::around::Around;
use super::kinds::{self, text};
use super::pods::spec_of;
use super::yaml::Document;
use crate::engine;
use crate::snapshot::server::EngineSettings;
use serde_json::Value;

/// What an object tells of the servers in its pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Described {
    /// A server that no container shows: Ray Serve's configuration.
    pub server: Option<EngineSettings>,
    /// The model behind a mount.
    pub model: Option<String>,
}

/// Reads a RayService, InferenceService, LLMInferenceService or Workspace.
pub fn described(object: &Value) -> Described {
    let preset = ["/inference/preset/name", "/spec/inference/preset/name"]
        .iter()
        .find_map(|at| text(object.pointer(at)?));
    let document = Document {
        value: object.clone(),
        ..Document::default()
    };
    let around = Around::default();
    let unit = kinds::units(&document, &around).into_iter().next().unwrap_or_default();
    Described {
        server: unit
            .serves
            .as_ref()
            .filter(|_| object["kind"] == "RayService")
            .and_then(|c| engine::recognise(&spec_of(c))),
        model: preset.or(unit.model).map(|m| engine::model_of_uri(&m)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_ray_service_names_its_model_and_settings() {
        let config = "applications:\n- name: llm\n  import_path: ray.serve.llm:build_openai_app\n  args:\n    llm_configs:\n    - model_loading_config:\n        model_id: qwen\n        model_source: Qwen/Qwen2.5-7B-Instruct\n      engine_kwargs:\n        tensor_parallel_size: 2\n        max_model_len: 8192\n";
        let object = json!({"kind": "RayService", "spec": {"serveConfigV2": config, "rayClusterConfig": {}}});
        let server = described(&object).server.expect("a server");
        assert_eq!(
            (server.model.as_deref(), server.tensor_parallel, server.max_model_len),
            (Some("Qwen/Qwen2.5-7B-Instruct"), Some(2), Some(8192))
        );
        assert_eq!(server.served_names, ["qwen"]);
    }

    #[test]
    fn models_behind_mounts_are_named() {
        let model = |object: Value| described(&object).model;
        let llm = json!({"kind": "LLMInferenceService", "metadata": {"name": "m"}, "spec": {"model": {"uri": "hf://org/m", "name": "m"}}});
        assert_eq!(model(llm).as_deref(), Some("org/m"));
        let kaito = json!({"kind": "Workspace", "resource": {"instanceType": "x"}, "inference": {"preset": {"name": "phi-4-mini-instruct"}}});
        assert_eq!(model(kaito).as_deref(), Some("phi-4-mini-instruct"));
        let service = json!({"kind": "InferenceService", "spec": {"predictor": {"model": {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://org/s"}}}});
        assert_eq!(model(service).as_deref(), Some("org/s"));
        for odd in [
            json!(null),
            json!({"kind": "RayService"}),
            json!({"kind": "Workspace", "inference": 5}),
        ] {
            assert_eq!(described(&odd), Described::default(), "{odd}");
        }
    }
}
