//! TensorRT-LLM's own server, `trtllm-serve`. Its `/metrics` drains a queue when read, so it is never asked for it.

use super::flags::Flags;
use super::{Candidate, Engine, behind_module, behind_program};
use crate::snapshot::server::{EngineKind, EngineSettings, ServerRole};

pub(crate) struct Trtllm;

const SWITCHES: &[&str] = &["trust-remote-code", "enable-attention-dp"];

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
        let given = Flags::parse(words, SWITCHES);
        let file = ["extra-llm-api-options", "config", "extra-engine-args"]
            .iter()
            .find_map(|f| given.text(&[*f]));
        // Its options file wins over the command line.
        let all: Vec<String> = words
            .iter()
            .cloned()
            .chain(candidate.config_words(file, None))
            .collect();
        let flags = Flags::parse(&all, SWITCHES);
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
            kv_cache_dtype: flags.json_field("kv-cache-config", "dtype").filter(|d| d != "auto"),
            prefix_caching: flags.switch("enable-block-reuse"),
            lora: flags.has(&["lora-config"]).then_some(true),
            speculative: flags.has(&["speculative-config"]).then_some(true),
            tensor_parallel: flags.small(&["tp-size", "tensor-parallel-size"]),
            pipeline_parallel: flags.small(&["pp-size", "pipeline-parallel-size"]),
            expert_parallel: flags.small(&["ep-size", "expert-parallel-size"]).map(|n| n > 1),
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
