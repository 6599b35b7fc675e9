//! llama.cpp's server.

use super::flags::Flags;
use super::{Candidate, Engine, behind_module, behind_program};
use crate::snapshot::server::{EngineKind, EngineSettings};

pub(crate) struct Llamacpp;

impl Engine for Llamacpp {
    fn kind(&self) -> EngineKind {
        EngineKind::Llamacpp
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let image = &candidate.image;
        let known = image.contains("llama.cpp") && image.tag.as_deref().is_none_or(|t| t.starts_with("server"));
        let launched = candidate.after(|words| {
            // llama-cpp-python has the same flags with underscores.
            behind_program(words, "llama-server").or_else(|| behind_module(words, |m| m == "llama_cpp.server"))
        });
        let words = match launched {
            Some(words) => words,
            None if known || image.base() == "llama-server" => candidate.entrypoint_args()?,
            None => return None,
        };
        let flags = Flags::parse(
            words,
            &[
                "metrics",
                "slots",
                "no-mmap",
                "mlock",
                "flash-attn",
                "fa",
                "jinja",
                "cont-batching",
                "embedding",
            ],
        );
        let spec = candidate.spec;
        let env = |name: &str| spec.env(name).map(String::from);
        let count = |names: &[&str], name: &str| flags.count(names).or_else(|| spec.env(name)?.parse().ok());
        let layers = |text: &str| text.parse().ok();
        let model = flags
            .owned(&["hf-repo", "hf", "hfr"])
            .or_else(|| env("LLAMA_ARG_HF_REPO"))
            .or_else(|| flags.owned(&["model", "m"]))
            .or_else(|| env("LLAMA_ARG_MODEL"));
        Some(EngineSettings {
            quantization: model.as_deref().and_then(gguf_type),
            model,
            served_names: flags
                .owned(&["alias", "a"])
                .or_else(|| env("LLAMA_ARG_ALIAS"))
                .into_iter()
                .collect(),
            max_model_len: count(&["ctx-size", "c", "n-ctx"], "LLAMA_ARG_CTX_SIZE"),
            kv_cache_dtype: flags.owned(&["cache-type-k", "ctk"]),
            slots: count(&["parallel", "np"], "LLAMA_ARG_N_PARALLEL"),
            gpu_layers: flags
                .text(&["n-gpu-layers", "ngl", "gpu-layers"])
                .or_else(|| spec.env("LLAMA_ARG_N_GPU_LAYERS"))
                .and_then(layers),
            lora: flags.has(&["lora", "lora-scaled"]).then_some(true),
            speculative: flags
                .has(&["model-draft", "md", "hf-repo-draft", "hfd"])
                .then_some(true),
            port: flags
                .small(&["port"])
                .or_else(|| spec.env("LLAMA_ARG_PORT")?.parse().ok())
                .and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }

    fn default_port(&self) -> Option<u16> {
        Some(8080)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        Some("/metrics")
    }

    fn identity_paths(&self) -> &'static [&'static str] {
        &["/props", "/v1/models"]
    }
}

/// "…-Q4_K_M.gguf", "repo:Q8_0" → the quantization's name.
pub(super) fn gguf_type(model: &str) -> Option<String> {
    let name = model.strip_suffix(".gguf").unwrap_or(model);
    let word = name.rsplit(['-', ':', '.', '/']).next()?;
    let upper = word.to_ascii_uppercase();
    let body = upper.strip_prefix('I').unwrap_or(&upper);
    let known = (body.starts_with('Q') && body[1..].starts_with(|c: char| c.is_ascii_digit()))
        || matches!(upper.as_str(), "F16" | "BF16" | "F32" | "MXFP4");
    known.then_some(upper)
}
