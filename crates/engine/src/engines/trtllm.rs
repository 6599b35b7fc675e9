//! TensorRT-LLM's own server, `trtllm-serve`, and Dynamo's worker of it. Its `/metrics` drains a queue when read, so it is
//! never asked for it.

use super::prelude::*;
use crate::flags::of_yaml;
use serde_json::Value;

pub(super) struct Trtllm;

static FACTS: Facts = Facts {
    kind: EngineKind::Trtllm,
    // As of 2026-11.
    versions: Versions::Own {
        images: &["tensorrt-llm/release", "nvidia/tensorrt-llm"],
        newest: 2,
    },
    started_by_name: true,
    set_by_arguments: false,
    routers: Routers {
        commands: &[("trtllm-serve", "disaggregated")],
        ..Routers::NONE
    },
    // Of Dynamo's worker, each a flag (`DYN_TRTLLM_TENSOR_PARALLEL_SIZE`).
    variables: &[
        reads("DYN_TRTLLM_MODEL", Setting::Model, Form::Model),
        reads("DYN_TRTLLM_MODEL_PATH", Setting::Model, Form::Model),
        reads("DYN_TRTLLM_TENSOR_PARALLEL_SIZE", Setting::TensorParallel, Form::Plain),
        reads(
            "DYN_TRTLLM_PIPELINE_PARALLEL_SIZE",
            Setting::PipelineParallel,
            Form::Count,
        ),
        reads("DYN_TRTLLM_MAX_SEQ_LEN", Setting::MaxModelLen, Form::Count),
        reads("DYN_TRTLLM_MAX_BATCH_SIZE", Setting::MaxNumSeqs, Form::Count),
        reads("DYN_TRTLLM_MAX_NUM_TOKENS", Setting::MaxNumBatchedTokens, Form::Count),
        reads("DYN_TRTLLM_FREE_GPU_MEMORY_FRACTION", Setting::MemoryShare, Form::Share),
        reads("DYN_TRTLLM_EXTRA_ENGINE_ARGS", Setting::Any, Form::Settings),
        reads("DYN_TRTLLM_OVERRIDE_ENGINE_ARGS", Setting::Any, Form::Settings),
        // The flags of Dynamo's worker, each of which it also takes from a variable.
        reads("DYN_TRTLLM_*", Setting::Other, Form::Word),
    ],
    // `LlmArgs.tensor_parallel_size`, `pipeline_parallel_size`: 1.
    width: Width::One,
    memory: MemoryRules::Trtllm,
    keeps_float32: false,
    longest_request: None,
    // Windows are clamped to the pool, unless `--fail_fast_on_attention_window_too_large` (NVIDIA/TensorRT-LLM#5880, #5974).
    cuts_its_context: true,
    card_share: None,
    apis_of_ranks: false,
    cpu_need_published: false,
    own_model_names: false,
    language_models: true,
    endpoints: Endpoints {
        port: Some(8000),
        metrics: Some("/prometheus/metrics"),
        other_metrics: &[],
        metrics_flag: None,
        identity: &[path("/v1/models", identity::models)],
    },
    vocabulary: Vocabulary {
        prefixes: &["trtllm_"],
        markers: &["num_requests_running", "request_success_total"],
        figures: &[
            told(Load::Running, &[named("num_requests_running")]),
            told(Load::Waiting, &[named("num_requests_waiting")]),
            told(Load::KvUsage, &[named("kv_cache_utilization")]),
            told(Load::Requests, &[named("request_success_total")]),
            told(Load::RequestLatency, &[named("e2e_request_latency_seconds")]),
            told(Load::TimeToFirstToken, &[named("time_to_first_token_seconds")]),
            told(Load::InterTokenLatency, &[named("time_per_output_token_seconds")]),
        ],
        ..Vocabulary::SILENT
    },
};

const SWITCHES: &[&str] = &[
    "trust-remote-code",
    "enable-attention-dp",
    "publish-events-and-metrics",
    "publish-kv-events",
];

fn of_variables(candidate: &Candidate<'_>) -> Vec<String> {
    let given = candidate.variables().filter_map(|(name, value)| {
        let flag = name.strip_prefix("DYN_TRTLLM_")?.to_ascii_lowercase();
        (!value.is_empty()).then(|| format!("--{}={value}", flag.replace('_', "-")))
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
    fn facts(&self) -> &'static Facts {
        &FACTS
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
        let flags = candidate.flags(&all, SWITCHES);
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

    fn identify(&self, page: &Page, identity: &mut ServerIdentity) {
        let number = |name: &str| page.max(&[name]).filter(|v| *v >= 1.0).map(|v| v as u64);
        super::blocks(
            identity,
            number("trtllm_kv_cache_max_blocks"),
            number("trtllm_kv_cache_tokens_per_block"),
        );
    }
}
