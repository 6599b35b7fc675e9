//! TensorRT-LLM's own server, `trtllm-serve`, and Dynamo's worker of it. Its `/metrics` drains a queue when read, so it is
//! never asked for it.

use super::flags::{Flags, of_yaml};
use super::{Candidate, Engine, behind_module, behind_program};
use crate::snapshot::server::{EngineKind, EngineSettings, ServerRole};
use serde_json::Value;

pub(crate) struct Trtllm;

const SWITCHES: &[&str] = &[
    "trust-remote-code",
    "enable-attention-dp",
    "publish-events-and-metrics",
    "publish-kv-events",
];

/// Variables of Dynamo's worker, each a flag (`DYN_TRTLLM_TENSOR_PARALLEL_SIZE`).
const VARIABLES: &str = "DYN_TRTLLM_";

fn of_variables(candidate: &Candidate<'_>) -> Vec<String> {
    let given = candidate.spec.env.iter().filter_map(|(name, value)| {
        let flag = name.strip_prefix(VARIABLES)?.to_ascii_lowercase();
        let value = value.as_deref().filter(|v| !v.is_empty())?;
        Some(format!("--{}={value}", flag.replace('_', "-")))
    });
    given.collect()
}

/// `--override-engine-args '{"tensor_parallel_size": 8}'`, and `--trtllm.tensor_parallel_size 8`: both win over the file.
fn overrides(words: &[String], given: &Flags) -> Vec<String> {
    let written = given.text(&["override-engine-args"]);
    let parsed: Option<Value> = written.and_then(|text| serde_json::from_str(text).ok());
    let mut all = parsed.as_ref().map(of_yaml).unwrap_or_default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let Some(path) = word.strip_prefix("--trtllm.") else {
            continue;
        };
        let (path, value) = match path.split_once('=') {
            Some((path, value)) => (path, value),
            None => (path, rest.next().map_or("", String::as_str)),
        };
        // Of nested settings only the KV cache's are read, as in the file.
        let name = path.strip_prefix("kv_cache_config.").unwrap_or(path);
        if !name.contains('.') {
            all.push(format!("--{name}={value}"));
        }
    }
    all
}

impl Engine for Trtllm {
    fn kind(&self) -> EngineKind {
        EngineKind::Trtllm
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let words = candidate.after(|words| {
            behind_program(words, "trtllm-serve")
                .or_else(|| behind_module(words, |m| m == "dynamo.trtllm" || m == "tensorrt_llm.commands.serve"))
        })?;
        let words = words.strip_prefix(&["serve".to_string()]).unwrap_or(words);
        // `trtllm-serve disaggregated` only routes.
        if words.first().is_some_and(|w| w.starts_with("disaggregated")) {
            return None;
        }
        let mut all = of_variables(candidate);
        all.extend(words.iter().cloned());
        let given = Flags::parse(&all, SWITCHES);
        let file = ["extra-llm-api-options", "config", "extra-engine-args"]
            .iter()
            .find_map(|f| given.text(&[*f]));
        // Its options file wins over the command line.
        all.extend(candidate.config_words(file, None));
        all.extend(overrides(words, &given));
        let flags = Flags::parse(&all, SWITCHES);
        let tensor_parallel = flags.small(&["tp-size", "tensor-parallel-size"]);
        let attention_dp = flags.switch("enable-attention-dp");
        let role = match flags.text(&["disaggregation-mode"]) {
            Some("prefill") => Some(ServerRole::Prefill),
            Some("decode") => Some(ServerRole::Decode),
            _ => None,
        };
        Some(EngineSettings {
            model: flags
                .owned(&["model-path", "model"])
                .or_else(|| flags.positional(0).map(String::from)),
            served_names: flags.list(&["served-model-name"]),
            role,
            kv_cache_dtype: flags
                .json_field("kv-cache-config", "dtype")
                .or_else(|| flags.owned(&["kv-cache-dtype"]))
                .filter(|d| d != "auto"),
            block_size: flags.count(&["tokens-per-block", "kv-block-size"]),
            prefix_caching: flags.switch("enable-block-reuse"),
            lora: flags.has(&["lora-config"]).then_some(true),
            speculative: flags.has(&["speculative-config"]).then_some(true),
            tensor_parallel,
            pipeline_parallel: flags.small(&["pp-size", "pipeline-parallel-size"]),
            // "When enabled, attention_dp_size equals tensor_parallel_size."
            data_parallel: tensor_parallel.filter(|_| attention_dp == Some(true)),
            dp_attention: attention_dp,
            expert_parallel: flags
                .small(&["moe-expert-parallel-size", "ep-size", "expert-parallel-size"])
                .map(|n| n > 1),
            max_model_len: flags.count(&["max-seq-len"]),
            max_num_seqs: flags.count(&["max-batch-size"]),
            max_num_batched_tokens: flags.count(&["max-num-tokens"]),
            mem_fraction_static: flags.share(&["kv-cache-free-gpu-memory-fraction", "free-gpu-memory-fraction"]),
            port: flags.small(&["port"]).and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }

    fn default_port(&self) -> Option<u16> {
        Some(8000)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        Some("/prometheus/metrics")
    }

    fn identity_paths(&self) -> &'static [&'static str] {
        &["/v1/models"]
    }
}
