//! llama.cpp's server.

use super::prelude::*;
use crate::memory_flags;

pub(super) struct Llamacpp;

static FACTS: Facts = Facts {
    kind: EngineKind::Llamacpp,
    // As of 2026-11.
    versions: Versions::Own {
        images: &["ggml-org/llama.cpp", "ggerganov/llama.cpp"],
        newest: 0,
    },
    started_by_name: true,
    set_by_arguments: false,
    routers: Routers::NONE,
    variables: &[
        reads("LLAMA_ARG_HF_REPO", Setting::Model, Form::Model),
        reads("LLAMA_ARG_MODEL", Setting::Model, Form::Model),
        reads("LLAMA_ARG_ALIAS", Setting::Other, Form::Word),
        reads("LLAMA_ARG_CTX_SIZE", Setting::MaxModelLen, Form::Count),
        reads("LLAMA_ARG_N_PARALLEL", Setting::MaxNumSeqs, Form::Count),
        reads("LLAMA_ARG_SPLIT_MODE", Setting::TensorParallel, Form::Word),
        reads("LLAMA_ARG_N_GPU_LAYERS", Setting::Sizing, Form::Word),
        reads("LLAMA_ARG_DEVICE", Setting::TensorParallel, Form::Word),
        reads("LLAMA_ARG_CPU_MOE", Setting::Sizing, Form::Word),
        reads("LLAMA_ARG_N_CPU_MOE", Setting::Sizing, Form::Word),
        reads("LLAMA_ARG_OVERRIDE_TENSOR", Setting::Sizing, Form::Word),
        reads("LLAMA_ARG_NO_KV_OFFLOAD", Setting::Sizing, Form::Word),
        reads("LLAMA_ARG_TENSOR_SPLIT", Setting::Sizing, Form::Word),
        reads("LLAMA_ARG_RPC", Setting::Sizing, Form::Word),
        reads("LLAMA_ARG_PORT", Setting::Other, Form::Count),
    ],
    // `--split-mode layer`: layers over all devices (tools/server/README.md).
    width: Width::All,
    memory: MemoryRules::LlamaCpp,
    keeps_float32: false,
    longest_request: None,
    cuts_its_context: false,
    card_share: None,
    apis_of_ranks: false,
    cpu_need_published: false,
    own_model_names: false,
    language_models: false,
    endpoints: Endpoints {
        port: Some(8080),
        metrics: Some("/metrics"),
        other_metrics: &[],
        // Without it the server answers 501.
        metrics_flag: Some("--metrics"),
        identity: &[path("/props", identity::props), path("/v1/models", identity::models)],
    },
    vocabulary: Vocabulary {
        prefixes: &["llamacpp:"],
        markers: &["requests_processing", "prompt_tokens_total"],
        figures: &[
            told(Load::Running, &[named("requests_processing")]),
            told(Load::Waiting, &[named("requests_deferred")]),
            // Gone since 2025-05.
            told(Load::KvUsage, &[named("kv_cache_usage_ratio").sometimes()]),
            // Requests are not counted; decode calls are work all the same.
            told(Load::Requests, &[named("n_decode_total")]),
            told(Load::PromptTokens, &[named("prompt_tokens_total")]),
            told(Load::OutputTokens, &[named("tokens_predicted_total")]),
        ],
        ..Vocabulary::SILENT
    },
};

impl Engine for Llamacpp {
    fn facts(&self) -> &'static Facts {
        &FACTS
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
        let flags = candidate.flags(
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
                "cpu-moe",
                "cmoe",
                "no-kv-offload",
                "nkvo",
            ],
        );
        let env = |name: &str| candidate.env(name).map(String::from);
        let count = |names: &[&str], name: &str| flags.count(names).or_else(|| candidate.env(name)?.parse().ok());
        let layers = |text: &str| text.parse().ok();
        memory_flags::llamacpp(&flags, candidate);
        let devices = flags
            .text(&["device", "dev"])
            .or_else(|| candidate.env("LLAMA_ARG_DEVICE"))
            .filter(|d| *d != "none")
            .map(|d| d.split(',').count());
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
            // "--split-mode none": one GPU alone (tools/server/README.md).
            tensor_parallel: flags
                .owned(&["split-mode", "sm"])
                .or_else(|| env("LLAMA_ARG_SPLIT_MODE"))
                .filter(|m| m == "none")
                .map(|_| 1)
                // "--device CUDA0": the others are not used.
                .or_else(|| devices.filter(|n| *n == 1).map(|_| 1)),
            max_model_len: count(&["ctx-size", "c", "n-ctx"], "LLAMA_ARG_CTX_SIZE"),
            kv_cache_dtype: flags.owned(&["cache-type-k", "ctk"]),
            slots: count(&["parallel", "np"], "LLAMA_ARG_N_PARALLEL"),
            gpu_layers: flags
                .text(&["n-gpu-layers", "ngl", "gpu-layers"])
                .or_else(|| candidate.env("LLAMA_ARG_N_GPU_LAYERS"))
                .and_then(layers),
            lora: flags.has(&["lora", "lora-scaled"]).then_some(true),
            speculative: flags
                .has(&["model-draft", "md", "hf-repo-draft", "hfd"])
                .then_some(true),
            port: flags
                .small(&["port"])
                .or_else(|| candidate.env("LLAMA_ARG_PORT")?.parse().ok())
                .and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }
}

/// "…-Q4_K_M.gguf", "repo:Q8_0" → the quantization's name.
fn gguf_type(model: &str) -> Option<String> {
    let name = model.strip_suffix(".gguf").unwrap_or(model);
    let word = name.rsplit(['-', ':', '.', '/']).next()?;
    let upper = word.to_ascii_uppercase();
    let body = upper.strip_prefix('I').unwrap_or(&upper);
    let known = (body.starts_with('Q') && body[1..].starts_with(|c: char| c.is_ascii_digit()))
        || matches!(upper.as_str(), "F16" | "BF16" | "F32" | "MXFP4");
    known.then_some(upper)
}
