//! Which setting a flag states, and in which form: one table for all engines, since the same name never means two
//! things in two of them.

use crate::engine::Form;
use crate::snapshot::server::Setting;

/// Flags without their dashes, `_` as `-`.
const FLAGS: &[(&[&str], Setting, Form)] = &[
    (
        &["tensor-parallel-size", "tp-size", "tp", "num-shard", "world-size"],
        Setting::TensorParallel,
        Form::Plain,
    ),
    (&["sharded", "split-mode", "sm"], Setting::TensorParallel, Form::Word),
    (
        &["pipeline-parallel-size", "pp-size", "pp"],
        Setting::PipelineParallel,
        Form::Plain,
    ),
    (
        &["data-parallel-size", "dp-size", "dp"],
        Setting::DataParallel,
        Form::Plain,
    ),
    (&["nnodes"], Setting::FurtherParallel, Form::Plain),
    // Ranks of this pod alone, and which of all it is: with them the pod's own GPUs are not TP × PP × DP.
    (
        &["data-parallel-size-local", "dpl"],
        Setting::FurtherParallel,
        Form::Count,
    ),
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
        &[
            "quantization",
            "q",
            "quantize",
            "model-format",
            "load-format",
            "torchao-config",
        ],
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

/// The flag that an abbreviation stands for, as Python's `argparse` takes it: the one name that begins so. Of several it is
/// none, and the engine refuses it.
pub(crate) fn abbreviated(name: &str, switches: &[&'static str]) -> Option<&'static str> {
    let known = FLAGS.iter().flat_map(|(names, ..)| names.iter());
    let all = || known.clone().chain(VALUED).chain(switches).copied();
    if name.len() < MIN_ABBREVIATION || all().any(|full| full == name) {
        return None;
    }
    let mut found = all().filter(|full| full.starts_with(name));
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

/// Shorter ones begin many names.
const MIN_ABBREVIATION: usize = 6;

/// What follows is its value, whatever it is.
pub(crate) fn takes_value(name: &str) -> bool {
    VALUED.contains(&name) || of_flag(name).is_some()
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
