//! NVIDIA NIM for LLMs: `nvcr.io/nim/<org>/<model>`. It runs vLLM, SGLang or TensorRT-LLM.

use super::prelude::*;

pub(super) struct Nim;

static FACTS: Facts = Facts {
    kind: EngineKind::Nim,
    versions: Versions::Tag,
    started_by_name: false,
    set_by_arguments: false,
    routers: Routers::NONE,
    variables: &[
        reads("NIM_MODEL_NAME", Setting::Model, Form::Model),
        reads("NIM_SERVED_MODEL_NAME", Setting::Other, Form::Word),
        // Names precision and parallelism: "vllm-bf16-tp2", "tensorrt_llm-h100-fp8-tp4-pp1-throughput".
        reads("NIM_MODEL_PROFILE", Setting::TensorParallel, Form::Word),
        reads("NIM_MODEL_PROFILE", Setting::PipelineParallel, Form::Word),
        reads("NIM_MODEL_PROFILE", Setting::Quantization, Form::Word),
        reads("NIM_TENSOR_PARALLEL_SIZE", Setting::TensorParallel, Form::Plain),
        reads("NIM_PIPELINE_PARALLEL_SIZE", Setting::PipelineParallel, Form::Plain),
        reads("NIM_MAX_MODEL_LEN", Setting::MaxModelLen, Form::Count),
        reads("NIM_KVCACHE_PERCENT", Setting::MemoryShare, Form::Share),
        reads("NIM_DISABLE_CUDA_GRAPH", Setting::Other, Form::Word),
        reads("NIM_ENABLE_KV_CACHE_REUSE", Setting::Other, Form::Word),
        reads("NIM_PEFT_SOURCE", Setting::Sizing, Form::Word),
        reads("NIM_MAX_GPU_LORAS", Setting::Sizing, Form::Count),
        reads("NIM_SERVER_PORT", Setting::Other, Form::Count),
        reads("NIM_HTTP_API_PORT", Setting::Other, Form::Count),
    ],
    // It selects a profile for the GPUs that it is given, and may not start on more (docs.nvidia.com/nim, "Automatic Profile
    // Selection").
    width: Width::All,
    memory: MemoryRules::Unknown,
    keeps_float32: false,
    longest_request: None,
    cuts_its_context: false,
    card_share: None,
    apis_of_ranks: false,
    cpu_need_published: false,
    own_model_names: true,
    language_models: true,
    endpoints: Endpoints {
        port: Some(8000),
        metrics: Some("/v1/metrics"),
        other_metrics: &["/metrics"],
        metrics_flag: None,
        identity: &[
            path("/v1/models", identity::models),
            path("/v1/metadata", identity::version),
        ],
    },
    vocabulary: Vocabulary {
        prefixes: &[""],
        // Bare names are an engine's only with a model beside them.
        label: Some("model_name"),
        only_if_expected: true,
        markers: &["num_requests_running", "prompt_tokens_total"],
        figures: &[
            told(Load::Running, &[named("num_requests_running")]),
            told(Load::Waiting, &[named("num_requests_waiting")]),
            told(Load::KvUsage, &[named("gpu_cache_usage_perc")]),
            told(
                Load::Requests,
                &[named("request_finish_total"), named("request_success_total")],
            ),
            told(Load::PromptTokens, &[named("prompt_tokens_total")]),
            told(Load::OutputTokens, &[named("generation_tokens_total")]),
            told(Load::RequestLatency, &[named("e2e_request_latency_seconds")]),
            told(Load::TimeToFirstToken, &[named("time_to_first_token_seconds")]),
            told(Load::InterTokenLatency, &[named("time_per_output_token_seconds")]),
            told(Load::PromptLength, &[named("request_prompt_tokens")]),
            told(Load::OutputLength, &[named("request_generation_tokens")]),
        ],
        instead: &[EngineKind::Vllm, EngineKind::Sglang, EngineKind::Trtllm],
        ..Vocabulary::SILENT
    },
};

impl Engine for Nim {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let name = candidate.image.repository.split_once("/nim/")?.1;
        // The image for any model names none.
        let name = Some(name).filter(|n| !n.ends_with("/llm-nim"));
        let on = |value: &str| !matches!(value, "" | "0" | "false" | "False");
        let number = |key: &str| candidate.env(key).and_then(|v| v.parse().ok());
        let profile = candidate.env("NIM_MODEL_PROFILE").unwrap_or_default();
        let of_profile = |key: &str| profile.split('-').find_map(|w| w.strip_prefix(key)?.parse().ok());
        Some(EngineSettings {
            model: candidate
                .env("NIM_MODEL_NAME")
                .filter(|m| !m.starts_with('/'))
                .or(name)
                .and_then(crate::model_of_uri),
            served_names: candidate
                .env("NIM_SERVED_MODEL_NAME")
                .map(|n| n.split(',').map(String::from).collect())
                .unwrap_or_default(),
            tensor_parallel: number("NIM_TENSOR_PARALLEL_SIZE").or_else(|| of_profile("tp")),
            pipeline_parallel: number("NIM_PIPELINE_PARALLEL_SIZE").or_else(|| of_profile("pp")),
            max_model_len: candidate.env("NIM_MAX_MODEL_LEN").and_then(human_count),
            gpu_memory_utilization: candidate.env("NIM_KVCACHE_PERCENT").and_then(|v| v.parse().ok()),
            quantization: profile
                .split('-')
                .find(|w| matches!(*w, "fp8" | "nvfp4" | "int4" | "awq"))
                .map(String::from),
            enforce_eager: candidate.env("NIM_DISABLE_CUDA_GRAPH").map(on),
            prefix_caching: candidate.env("NIM_ENABLE_KV_CACHE_REUSE").map(on),
            lora: candidate.env("NIM_PEFT_SOURCE").map(|source| !source.is_empty()),
            max_loras: number("NIM_MAX_GPU_LORAS").map(u64::from),
            port: ["NIM_SERVER_PORT", "NIM_HTTP_API_PORT"]
                .iter()
                .find_map(|k| candidate.env(k)?.parse().ok()),
            ..EngineSettings::default()
        })
    }
}
