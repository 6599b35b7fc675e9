//! Which setting a flag or variable states, and in which form: one table for all engines, since the same name never means two
//! things in two of them.

use crate::snapshot::server::{EngineKind, Setting};

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A whole number: "4", "32k".
    Count,
    /// Between 0 and 1.
    Share,
    /// A model: an id, a path.
    Model,
    /// One of the engine's own words, or JSON.
    Word,
    /// More GPUs for each engine, where it is not 1.
    Factor,
    /// Any settings at all.
    Settings,
}

/// Flags without their dashes, `_` as `-`.
const FLAGS: &[(&[&str], Setting, Form)] = &[
    (
        &["tensor-parallel-size", "tp-size", "tp", "num-shard", "world-size"],
        Setting::TensorParallel,
        Form::Count,
    ),
    (
        &["pipeline-parallel-size", "pp-size", "pp"],
        Setting::PipelineParallel,
        Form::Count,
    ),
    (
        &["data-parallel-size", "dp-size", "dp"],
        Setting::DataParallel,
        Form::Count,
    ),
    (&["nnodes"], Setting::FurtherParallel, Form::Count),
    // Ranks that TP × PP × DP does not count: vLLM's and SGLang's context parallelism, TensorRT-LLM's, the sequence
    // parallelism of diffusion models.
    (
        &[
            "prefill-context-parallel-size",
            "pcp",
            "context-parallel-size",
            "attention-context-parallel-size",
            "attn-cp-size",
            "cp-size",
            "cp",
            "ulysses-degree",
            "ring-degree",
            "sp-degree",
            "usp",
            "cfg-parallel-size",
            "num-gpus",
        ],
        Setting::FurtherParallel,
        Form::Factor,
    ),
    (
        &[
            "max-model-len",
            "max-length",
            "context-length",
            "max-total-tokens",
            "max-seq-len",
            "session-len",
            "ctx-size",
            "c",
            "n-ctx",
        ],
        Setting::MaxModelLen,
        Form::Count,
    ),
    (
        &["hf-overrides", "rope-scaling", "json-model-override-args"],
        Setting::MaxModelLen,
        Form::Word,
    ),
    (
        &[
            "max-num-seqs",
            "max-num-seq",
            "max-running-requests",
            "max-batch-size",
            "parallel",
            "np",
        ],
        Setting::MaxNumSeqs,
        Form::Count,
    ),
    (
        &[
            "max-num-batched-tokens",
            "max-num-tokens",
            "max-batch-prefill-tokens",
            "max-batch-tokens",
            "chunked-prefill-size",
        ],
        Setting::MaxNumBatchedTokens,
        Form::Count,
    ),
    (
        &[
            "gpu-memory-utilization",
            "mem-fraction-static",
            "cuda-memory-fraction",
            "kv-cache-free-gpu-memory-fraction",
            "free-gpu-memory-fraction",
            "cache-max-entry-count",
        ],
        Setting::MemoryShare,
        Form::Share,
    ),
    (
        &["kv-cache-memory-bytes", "kv-cache-memory", "num-gpu-blocks-override"],
        Setting::MemoryShare,
        Form::Count,
    ),
    (
        &["quantization", "q", "quantize", "model-format", "load-format"],
        Setting::Quantization,
        Form::Word,
    ),
    (&["dtype"], Setting::Dtype, Form::Word),
    (
        &["kv-cache-dtype", "cache-type-k", "ctk"],
        Setting::KvCacheDtype,
        Form::Word,
    ),
    (
        &[
            "model",
            "model-id",
            "model-tag",
            "model-path",
            "model-dir",
            "model-name-or-path",
            "hf-repo",
            "hf",
            "hfr",
            "m",
        ],
        Setting::Model,
        Form::Model,
    ),
    (
        &["kv-transfer-config", "disaggregation-mode", "role"],
        Setting::Role,
        Form::Word,
    ),
    (
        &[
            "speculative-config",
            "speculative-model",
            "spec-model",
            "speculative-algorithm",
            "speculative-algo",
            "speculate",
            "model-draft",
            "md",
            "hf-repo-draft",
            "hfd",
            "lora-modules",
            "lora-paths",
            "lora-adapters",
            "lora",
            "lora-config",
            "adapters",
            "enforce-eager",
            "enable-expert-parallel",
            "enable-lora",
            "enable-dp-attention",
            "enable-attention-dp",
            "enable-prefix-caching",
            "disable-radix-cache",
            "disable-cuda-graph",
        ],
        Setting::Sizing,
        Form::Word,
    ),
    (
        &[
            "max-loras",
            "max-loras-per-batch",
            "block-size",
            "page-size",
            "tokens-per-block",
            "kv-block-size",
            "expert-parallel-size",
            "ep-size",
            "ep",
            "moe-expert-parallel-size",
        ],
        Setting::Sizing,
        Form::Count,
    ),
    (
        &[
            "cpu-offload-gb",
            "n-gpu-layers",
            "ngl",
            "gpu-layers",
            "api-server-count",
        ],
        Setting::Sizing,
        Form::Word,
    ),
    (
        &[
            "config",
            "extra-llm-api-options",
            "extra-engine-args",
            "override-engine-args",
            "kaito-config-file",
            "stage-configs-path",
            "kv-cache-config",
        ],
        Setting::Any,
        Form::Settings,
    ),
    (&["port", "server-port", "metrics-port"], Setting::Other, Form::Count),
    (
        &["served-model-name", "model-name", "alias", "a"],
        Setting::Other,
        Form::Word,
    ),
];

/// Flags that take a value of which nothing here depends: what stands behind them is theirs.
const VALUED: &[&str] = &[
    "api-key",
    "backend",
    "chat-template",
    "data-parallel-address",
    "data-parallel-backend",
    "data-parallel-rank",
    "data-parallel-rpc-port",
    "data-parallel-size-local",
    "data-parallel-start-rank",
    "dist-init-addr",
    "distributed-executor-backend",
    "download-dir",
    "hf-token",
    "host",
    "hostname",
    "huggingface-hub-cache",
    "log-level",
    "master-addr",
    "master-port",
    "max-concurrent-requests",
    "max-input-length",
    "max-input-tokens",
    "model-loader-extra-config",
    "model-repository",
    "model-repo",
    "node-rank",
    "reasoning-parser",
    "revision",
    "root-path",
    "seed",
    "ssl-certfile",
    "ssl-keyfile",
    "tokenizer",
    "tokenizer-path",
    "tool-call-parser",
    "url-prefix",
];

pub(crate) fn of_flag(name: &str) -> Option<(Setting, Form)> {
    let (_, setting, form) = FLAGS.iter().find(|(names, ..)| names.contains(&name))?;
    Some((*setting, *form))
}

/// What follows is its value, whatever it is.
pub(crate) fn takes_value(name: &str) -> bool {
    VALUED.contains(&name) || of_flag(name).is_some()
}

/// A variable, what it states, and how.
pub(crate) type Variable = (&'static str, Setting, Form);

/// Variables that engines read themselves, whatever the command line says: those that state a setting, by the engine.
const VARIABLES: &[(EngineKind, &[Variable])] = &[
    (
        EngineKind::Vllm,
        &[
            ("VLLM_ADDITIONAL_ARGS", Setting::Any, Form::Settings),
            ("VLLM_ALLOW_LONG_MAX_MODEL_LEN", Setting::MaxModelLen, Form::Word),
            ("KV_ROLE", Setting::Role, Form::Word),
            ("MODEL_ID", Setting::Model, Form::Model),
            ("MODEL_NAME", Setting::Model, Form::Model),
        ],
    ),
    (
        EngineKind::Tgi,
        &[
            ("MODEL_ID", Setting::Model, Form::Model),
            ("NUM_SHARD", Setting::TensorParallel, Form::Count),
            ("MAX_TOTAL_TOKENS", Setting::MaxModelLen, Form::Count),
            ("MAX_BATCH_SIZE", Setting::MaxNumSeqs, Form::Count),
            ("MAX_BATCH_PREFILL_TOKENS", Setting::MaxNumBatchedTokens, Form::Count),
            ("CUDA_MEMORY_FRACTION", Setting::MemoryShare, Form::Share),
            ("QUANTIZE", Setting::Quantization, Form::Word),
            ("DTYPE", Setting::Dtype, Form::Word),
            ("KV_CACHE_DTYPE", Setting::KvCacheDtype, Form::Word),
            ("SPECULATE", Setting::Sizing, Form::Word),
            ("LORA_ADAPTERS", Setting::Sizing, Form::Word),
            ("SERVED_MODEL_NAME", Setting::Other, Form::Word),
            ("PORT", Setting::Other, Form::Count),
        ],
    ),
    (
        EngineKind::Nim,
        &[
            ("NIM_MODEL_NAME", Setting::Model, Form::Model),
            ("NIM_TENSOR_PARALLEL_SIZE", Setting::TensorParallel, Form::Count),
            ("NIM_PIPELINE_PARALLEL_SIZE", Setting::PipelineParallel, Form::Count),
            // A profile says how the model is cut and quantized.
            ("NIM_MODEL_PROFILE", Setting::TensorParallel, Form::Word),
            ("NIM_MODEL_PROFILE", Setting::PipelineParallel, Form::Word),
            ("NIM_MODEL_PROFILE", Setting::Quantization, Form::Word),
            ("NIM_MAX_MODEL_LEN", Setting::MaxModelLen, Form::Count),
            ("NIM_KVCACHE_PERCENT", Setting::MemoryShare, Form::Share),
            ("NIM_PEFT_SOURCE", Setting::Sizing, Form::Word),
            ("NIM_MAX_GPU_LORAS", Setting::Sizing, Form::Count),
            ("NIM_SERVED_MODEL_NAME", Setting::Other, Form::Word),
        ],
    ),
    (
        EngineKind::Llamacpp,
        &[
            ("LLAMA_ARG_MODEL", Setting::Model, Form::Model),
            ("LLAMA_ARG_HF_REPO", Setting::Model, Form::Model),
            ("LLAMA_ARG_CTX_SIZE", Setting::MaxModelLen, Form::Count),
            ("LLAMA_ARG_N_PARALLEL", Setting::MaxNumSeqs, Form::Count),
            ("LLAMA_ARG_N_GPU_LAYERS", Setting::Sizing, Form::Word),
        ],
    ),
    (
        EngineKind::Ollama,
        &[
            ("OLLAMA_MODEL", Setting::Model, Form::Model),
            ("OLLAMA_CONTEXT_LENGTH", Setting::MaxModelLen, Form::Count),
            ("OLLAMA_NUM_PARALLEL", Setting::MaxNumSeqs, Form::Count),
            ("OLLAMA_KV_CACHE_TYPE", Setting::KvCacheDtype, Form::Word),
        ],
    ),
    (EngineKind::Tei, &[("MODEL_ID", Setting::Model, Form::Model)]),
    (
        EngineKind::Infinity,
        &[("INFINITY_MODEL_ID", Setting::Model, Form::Model)],
    ),
    (
        EngineKind::Trtllm,
        &[
            ("DYN_TRTLLM_MODEL", Setting::Model, Form::Model),
            ("DYN_TRTLLM_MODEL_PATH", Setting::Model, Form::Model),
            ("DYN_TRTLLM_TENSOR_PARALLEL_SIZE", Setting::TensorParallel, Form::Count),
            (
                "DYN_TRTLLM_PIPELINE_PARALLEL_SIZE",
                Setting::PipelineParallel,
                Form::Count,
            ),
            ("DYN_TRTLLM_MAX_SEQ_LEN", Setting::MaxModelLen, Form::Count),
            ("DYN_TRTLLM_MAX_BATCH_SIZE", Setting::MaxNumSeqs, Form::Count),
            ("DYN_TRTLLM_MAX_NUM_TOKENS", Setting::MaxNumBatchedTokens, Form::Count),
            ("DYN_TRTLLM_FREE_GPU_MEMORY_FRACTION", Setting::MemoryShare, Form::Share),
            ("DYN_TRTLLM_EXTRA_ENGINE_ARGS", Setting::Any, Form::Settings),
            ("DYN_TRTLLM_OVERRIDE_ENGINE_ARGS", Setting::Any, Form::Settings),
        ],
    ),
];

/// What the variables of an engine state.
pub(crate) fn variables_of(engine: EngineKind) -> &'static [Variable] {
    VARIABLES
        .iter()
        .find(|(kind, _)| *kind == engine)
        .map_or(&[], |(_, all)| *all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_in_two_rows() {
        let mut names: Vec<&str> = FLAGS.iter().flat_map(|(names, ..)| names.iter().copied()).collect();
        let before = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), before);
        assert!(!VALUED.iter().any(|v| names.contains(v)));
    }
}
