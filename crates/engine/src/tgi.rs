//! Text Generation Inference.

use super::flags::Flags;
use super::{Candidate, Engine, behind_program, human_count};
use crate::snapshot::server::{EngineKind, EngineSettings};

pub(crate) struct Tgi;

const SWITCHES: &[&str] = &["trust-remote-code", "json-output", "disable-custom-kernels"];

impl Engine for Tgi {
    fn kind(&self) -> EngineKind {
        EngineKind::Tgi
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let known = candidate.image.contains("text-generation-inference");
        let words = match candidate.after(|words| behind_program(words, "text-generation-launcher")) {
            Some(words) => words,
            None if known => candidate.entrypoint_args()?,
            None => return None,
        };
        let flags = Flags::parse(words, SWITCHES);
        let spec = candidate.spec;
        let either = |flag: &str, env: &str| flags.owned(&[flag]).or_else(|| spec.env(env).map(String::from));
        let small = |flag: &str, env: &str| either(flag, env)?.parse().ok();
        let count = |flag: &str, env: &str| human_count(&either(flag, env)?);
        Some(EngineSettings {
            model: either("model-id", "MODEL_ID"),
            served_names: either("served-model-name", "SERVED_MODEL_NAME").into_iter().collect(),
            tensor_parallel: small("num-shard", "NUM_SHARD"),
            max_model_len: count("max-total-tokens", "MAX_TOTAL_TOKENS"),
            max_num_seqs: count("max-batch-size", "MAX_BATCH_SIZE"),
            max_num_batched_tokens: count("max-batch-prefill-tokens", "MAX_BATCH_PREFILL_TOKENS"),
            gpu_memory_utilization: flags
                .share(&["cuda-memory-fraction"])
                .or_else(|| spec.env("CUDA_MEMORY_FRACTION")?.parse().ok()),
            quantization: either("quantize", "QUANTIZE"),
            dtype: either("dtype", "DTYPE"),
            kv_cache_dtype: either("kv-cache-dtype", "KV_CACHE_DTYPE"),
            lora: either("lora-adapters", "LORA_ADAPTERS").map(|_| true),
            speculative: either("speculate", "SPECULATE").map(|n| n != "0"),
            prefix_caching: spec
                .env("PREFIX_CACHING")
                .or_else(|| spec.env("USE_PREFIX_CACHING"))
                .map(|v| !matches!(v, "0" | "false" | "False")),
            port: small("port", "PORT").and_then(|p: u32| u16::try_from(p).ok()),
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
