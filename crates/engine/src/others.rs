//! Engines of which a pod spec tells little: the image is the name, a few variables are the settings.

use super::flags::Flags;
use super::{Candidate, Engine, behind_module, behind_program, human_count};
use crate::snapshot::server::{EngineKind, EngineSettings, ServerRole};

/// NVIDIA NIM for LLMs: `nvcr.io/nim/<org>/<model>`.
pub(crate) struct Nim;

impl Engine for Nim {
    fn kind(&self) -> EngineKind {
        EngineKind::Nim
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let name = candidate.image.repository.split_once("/nim/")?.1;
        // The image for any model names none.
        let name = Some(name).filter(|n| !n.ends_with("/llm-nim"));
        let spec = candidate.spec;
        let on = |value: &str| !matches!(value, "" | "0" | "false" | "False");
        let number = |key: &str| spec.env(key).and_then(|v| v.parse().ok());
        // Profiles name the parallelism: "vllm-bf16-tp2", "tensorrt_llm-h100-fp8-tp4-pp1-throughput".
        let profile = spec.env("NIM_MODEL_PROFILE").unwrap_or_default();
        let of_profile = |key: &str| profile.split('-').find_map(|w| w.strip_prefix(key)?.parse().ok());
        Some(EngineSettings {
            model: spec
                .env("NIM_MODEL_NAME")
                .filter(|m| !m.starts_with('/'))
                .or(name)
                .map(super::model_of_uri),
            served_names: spec
                .env("NIM_SERVED_MODEL_NAME")
                .map(|n| n.split(',').map(String::from).collect())
                .unwrap_or_default(),
            tensor_parallel: number("NIM_TENSOR_PARALLEL_SIZE").or_else(|| of_profile("tp")),
            pipeline_parallel: number("NIM_PIPELINE_PARALLEL_SIZE").or_else(|| of_profile("pp")),
            max_model_len: spec.env("NIM_MAX_MODEL_LEN").and_then(human_count),
            gpu_memory_utilization: spec.env("NIM_KVCACHE_PERCENT").and_then(|v| v.parse().ok()),
            quantization: profile
                .split('-')
                .find(|w| matches!(*w, "fp8" | "nvfp4" | "int4" | "awq"))
                .map(String::from),
            enforce_eager: spec.env("NIM_DISABLE_CUDA_GRAPH").map(on),
            prefix_caching: spec.env("NIM_ENABLE_KV_CACHE_REUSE").map(on),
            lora: spec.env("NIM_PEFT_SOURCE").map(|source| !source.is_empty()),
            max_loras: number("NIM_MAX_GPU_LORAS").map(u64::from),
            port: ["NIM_SERVER_PORT", "NIM_HTTP_API_PORT"]
                .iter()
                .find_map(|k| spec.env(k)?.parse().ok()),
            ..EngineSettings::default()
        })
    }

    fn default_port(&self) -> Option<u16> {
        Some(8000)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        Some("/v1/metrics")
    }

    fn other_metrics_paths(&self) -> &'static [&'static str] {
        &["/metrics"]
    }

    fn identity_paths(&self) -> &'static [&'static str] {
        &["/v1/models", "/v1/metadata"]
    }
}

/// Hugging Face Text Embeddings Inference.
pub(crate) struct Tei;

impl Engine for Tei {
    fn kind(&self) -> EngineKind {
        EngineKind::Tei
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let known = candidate.image.contains("text-embeddings-inference");
        let words = match candidate.after(|words| behind_program(words, "text-embeddings-router")) {
            Some(words) => words,
            None if known => candidate.entrypoint_args()?,
            None => return None,
        };
        let flags = Flags::parse(words, &["json-output", "auto-truncate"]);
        Some(EngineSettings {
            model: flags
                .owned(&["model-id"])
                .or_else(|| candidate.spec.env("MODEL_ID").map(String::from)),
            dtype: flags.owned(&["dtype"]),
            max_num_batched_tokens: flags.count(&["max-batch-tokens"]),
            port: flags.small(&["port"]).and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }

    fn default_port(&self) -> Option<u16> {
        Some(80)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        Some("/metrics")
    }

    fn identity_paths(&self) -> &'static [&'static str] {
        &["/info"]
    }
}

/// infinity, embeddings and rerankers.
pub(crate) struct Infinity;

impl Engine for Infinity {
    fn kind(&self) -> EngineKind {
        EngineKind::Infinity
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let words = match candidate.after(|words| behind_program(words, "infinity_emb")) {
            Some(words) => words,
            None if candidate.image.base() == "infinity" || candidate.image.base() == "infinity-emb" => {
                candidate.entrypoint_args()?
            }
            None => return None,
        };
        let flags = Flags::parse(words, &[]);
        Some(EngineSettings {
            model: flags.owned(&["model-id", "model-name-or-path"]).or_else(|| {
                let named = candidate.spec.env("INFINITY_MODEL_ID")?;
                named.split(';').next().map(String::from)
            }),
            dtype: flags.owned(&["dtype"]).filter(|d| d != "auto"),
            port: flags.small(&["port"]).and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }

    fn default_port(&self) -> Option<u16> {
        Some(7997)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        Some("/metrics")
    }

    fn identity_paths(&self) -> &'static [&'static str] {
        &["/models"]
    }
}

/// LMDeploy.
pub(crate) struct Lmdeploy;

impl Engine for Lmdeploy {
    fn kind(&self) -> EngineKind {
        EngineKind::Lmdeploy
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let words = candidate.after(|words| {
            let at = behind_program(words, "lmdeploy")?;
            // `lmdeploy serve proxy` only routes.
            let serves = words.get(at).map(String::as_str) == Some("serve")
                && words.get(at + 1).map(String::as_str) == Some("api_server");
            serves.then_some(at + 2)
        })?;
        let flags = Flags::parse(words, &["enable-prefix-caching", "enable-metrics", "trust-remote-code"]);
        Some(EngineSettings {
            model: flags.positional(0).map(String::from),
            served_names: flags.list(&["model-name"]),
            tensor_parallel: flags.small(&["tp"]),
            data_parallel: flags.small(&["dp"]),
            max_model_len: flags.count(&["session-len"]),
            max_num_seqs: flags.count(&["max-batch-size"]),
            quantization: flags.owned(&["model-format"]).filter(|f| f != "hf"),
            mem_fraction_static: flags.share(&["cache-max-entry-count"]),
            prefix_caching: flags.switch("enable-prefix-caching"),
            lora: flags.has(&["adapters"]).then_some(true),
            speculative: flags.has(&["speculative-algorithm"]).then_some(true),
            role: match flags.text(&["role"]).map(str::to_ascii_lowercase).as_deref() {
                Some("prefill") => Some(ServerRole::Prefill),
                Some("decode") => Some(ServerRole::Decode),
                _ => None,
            },
            port: flags.small(&["server-port"]).and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }

    fn default_port(&self) -> Option<u16> {
        Some(23333)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        Some("/metrics")
    }

    fn identity_paths(&self) -> &'static [&'static str] {
        &["/v1/models"]
    }
}

/// Ollama: what it serves is decided by requests; it has no Prometheus metrics.
pub(crate) struct Ollama;

impl Engine for Ollama {
    fn kind(&self) -> EngineKind {
        EngineKind::Ollama
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let launched = candidate.after(|words| {
            behind_program(words, "ollama").filter(|at| words.get(*at).map(String::as_str) == Some("serve"))
        });
        let known = candidate.image.base() == "ollama" && candidate.entrypoint;
        // Models come by request; a script that pulls one names it.
        let pulled = candidate.commands.iter().find_map(|words| {
            let at = behind_program(words, "ollama")?;
            let loads = matches!(words.get(at).map(String::as_str), Some("pull" | "run"));
            words.get(at + 1).filter(|_| loads).cloned()
        });
        (launched.is_some() || known).then(|| EngineSettings {
            model: pulled.or_else(|| candidate.spec.env("OLLAMA_MODEL").map(String::from)),
            max_model_len: candidate.spec.env("OLLAMA_CONTEXT_LENGTH").and_then(human_count),
            slots: candidate.spec.env("OLLAMA_NUM_PARALLEL").and_then(|v| v.parse().ok()),
            kv_cache_dtype: candidate.spec.env("OLLAMA_KV_CACHE_TYPE").map(String::from),
            ..EngineSettings::default()
        })
    }

    fn default_port(&self) -> Option<u16> {
        Some(11434)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        None
    }

    fn identity_paths(&self) -> &'static [&'static str] {
        &["/api/ps", "/api/version"]
    }
}

/// Speech recognition servers by image.
pub(crate) struct Whisper;

impl Engine for Whisper {
    fn kind(&self) -> EngineKind {
        EngineKind::Whisper
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let image = &candidate.image;
        [
            "faster-whisper-server",
            "whisper-asr-webservice",
            "speaches",
            "whisperx-server",
        ]
        .iter()
        .any(|n| image.contains(n))
        .then(|| EngineSettings {
            model: ["WHISPER__MODEL", "ASR_MODEL"]
                .iter()
                .find_map(|k| candidate.spec.env(k))
                .map(String::from),
            ..EngineSettings::default()
        })
    }

    fn default_port(&self) -> Option<u16> {
        Some(8000)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        None
    }
}

/// Image generation servers by image.
pub(crate) struct Diffusion;

impl Engine for Diffusion {
    fn kind(&self) -> EngineKind {
        EngineKind::Diffusion
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let image = &candidate.image;
        let known = ["comfyui", "stable-diffusion-webui", "invokeai", "sdnext"]
            .iter()
            .any(|n| image.contains(n));
        known.then(|| EngineSettings {
            model: candidate.spec.env("MODEL_ID").map(String::from),
            ..EngineSettings::default()
        })
    }

    fn default_port(&self) -> Option<u16> {
        None
    }

    fn metrics_path(&self) -> Option<&'static str> {
        None
    }
}

pub(crate) struct TorchServe;

impl Engine for TorchServe {
    fn kind(&self) -> EngineKind {
        EngineKind::TorchServe
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let known = candidate.image.contains("pytorch/torchserve")
            || candidate.after(|w| behind_program(w, "torchserve")).is_some();
        known.then(EngineSettings::default)
    }

    fn default_port(&self) -> Option<u16> {
        Some(8082)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        Some("/metrics")
    }
}

/// A Ray pod. Which model a Ray Serve application loads is in the RayService, not in its pods.
pub(crate) struct RayServe;

impl Engine for RayServe {
    fn kind(&self) -> EngineKind {
        EngineKind::RayServe
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let serve = candidate.after(|words| {
            behind_program(words, "serve")
                .filter(|at| matches!(words.get(*at).map(String::as_str), Some("run" | "deploy")))
        });
        let llm = candidate.image.contains("ray-llm")
            || candidate.after(|w| behind_module(w, |m| m == "ray.serve")).is_some();
        (serve.is_some() || llm).then(EngineSettings::default)
    }

    fn default_port(&self) -> Option<u16> {
        Some(8080)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        Some("/metrics")
    }
}
