//! Text Generation Inference.

use super::prelude::*;

pub(super) struct Tgi;

static FACTS: Facts = Facts {
    kind: EngineKind::Tgi,
    // As of 2026-11.
    versions: Versions::Own {
        images: &["huggingface/text-generation-inference"],
        newest: 4,
    },
    started_by_name: true,
    set_by_arguments: false,
    routers: Routers::NONE,
    variables: &[
        reads("MODEL_ID", Setting::Model, Form::Model),
        reads("SERVED_MODEL_NAME", Setting::Other, Form::Word),
        reads("SHARDED", Setting::TensorParallel, Form::Word),
        reads("NUM_SHARD", Setting::TensorParallel, Form::Plain),
        reads("MAX_TOTAL_TOKENS", Setting::MaxModelLen, Form::Count),
        reads("MAX_BATCH_SIZE", Setting::MaxNumSeqs, Form::Count),
        reads("MAX_BATCH_PREFILL_TOKENS", Setting::MaxNumBatchedTokens, Form::Count),
        reads("CUDA_MEMORY_FRACTION", Setting::MemoryShare, Form::Share),
        reads("QUANTIZE", Setting::Quantization, Form::Word),
        reads("DTYPE", Setting::Dtype, Form::Word),
        reads("KV_CACHE_DTYPE", Setting::KvCacheDtype, Form::Word),
        reads("LORA_ADAPTERS", Setting::Sizing, Form::Word),
        reads("SPECULATE", Setting::Sizing, Form::Word),
        reads("PREFIX_CACHING", Setting::Other, Form::Word),
        reads("USE_PREFIX_CACHING", Setting::Other, Form::Word),
        reads("PORT", Setting::Other, Form::Count),
    ],
    // The launcher's `find_num_shards`: every visible device.
    width: Width::All,
    memory: MemoryRules::Tgi,
    keeps_float32: false,
    longest_request: None,
    // "tgi will now set its default to 4096" (2.0, launcher/src/main.rs); since 3.0 by its warm-up (`max_total_tokens: None`).
    cuts_its_context: true,
    card_share: None,
    apis_of_ranks: false,
    cpu_need_published: false,
    own_model_names: false,
    language_models: true,
    endpoints: Endpoints {
        port: Some(80),
        metrics: Some("/metrics"),
        other_metrics: &[],
        metrics_flag: None,
        identity: &[path("/info", identity::info)],
    },
    vocabulary: Vocabulary {
        prefixes: &["tgi_"],
        markers: &["request_count", "queue_size", "batch_current_size"],
        figures: &[
            told(Load::Running, &[named("batch_current_size")]),
            told(Load::Waiting, &[named("queue_size")]),
            told(Load::Requests, &[named("request_count"), named("request_count_total")]),
            told(Load::PromptTokens, &[named("request_input_length_sum")]),
            told(Load::OutputTokens, &[named("request_generated_tokens_sum")]),
            told(Load::RequestLatency, &[named("request_duration")]),
            told(
                Load::InterTokenLatency,
                &[named("request_mean_time_per_token_duration")],
            ),
            told(Load::PromptLength, &[named("request_input_length")]),
            told(Load::OutputLength, &[named("request_generated_tokens")]),
        ],
        ..Vocabulary::SILENT
    },
};

const SWITCHES: &[&str] = &["trust-remote-code", "json-output", "disable-custom-kernels"];

impl Engine for Tgi {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let known = candidate.image.contains("text-generation-inference");
        let words = match candidate.after(|words| behind_program(words, "text-generation-launcher")) {
            Some(words) => words,
            None if known => candidate.entrypoint_args()?,
            None => return None,
        };
        let flags = candidate.flags(words, SWITCHES);
        let either = |flag: &str, env: &str| flags.owned(&[flag]).or_else(|| candidate.env(env).map(String::from));
        let small = |flag: &str, env: &str| either(flag, env)?.parse().ok();
        let count = |flag: &str, env: &str| human_count(&either(flag, env)?);
        Some(EngineSettings {
            model: either("model-id", "MODEL_ID"),
            served_names: either("served-model-name", "SERVED_MODEL_NAME").into_iter().collect(),
            // "--sharded false": one shard, whatever it sees (launcher, `find_num_shards`).
            tensor_parallel: small("num-shard", "NUM_SHARD")
                .or_else(|| (either("sharded", "SHARDED").as_deref() == Some("false")).then_some(1)),
            max_model_len: count("max-total-tokens", "MAX_TOTAL_TOKENS"),
            max_num_seqs: count("max-batch-size", "MAX_BATCH_SIZE"),
            max_num_batched_tokens: count("max-batch-prefill-tokens", "MAX_BATCH_PREFILL_TOKENS"),
            gpu_memory_utilization: flags
                .share(&["cuda-memory-fraction"])
                .or_else(|| candidate.env("CUDA_MEMORY_FRACTION")?.parse().ok()),
            // Without a suffix it is LLM.int8() (launcher, `Quantization`).
            quantization: either("quantize", "QUANTIZE").map(|q| match q.as_str() {
                "bitsandbytes" => "bitsandbytes-int8".into(),
                _ => q,
            }),
            dtype: either("dtype", "DTYPE"),
            kv_cache_dtype: either("kv-cache-dtype", "KV_CACHE_DTYPE"),
            lora: either("lora-adapters", "LORA_ADAPTERS").map(|_| true),
            speculative: either("speculate", "SPECULATE").map(|n| n != "0"),
            prefix_caching: candidate
                .env("PREFIX_CACHING")
                .or_else(|| candidate.env("USE_PREFIX_CACHING"))
                .map(|v| !matches!(v, "0" | "false" | "False")),
            port: small("port", "PORT").and_then(|p: u32| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }
}
