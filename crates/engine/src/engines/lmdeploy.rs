//! LMDeploy.

use super::prelude::*;

pub(super) struct Lmdeploy;

static FACTS: Facts = Facts {
    kind: EngineKind::Lmdeploy,
    versions: Versions::Tag,
    started_by_name: true,
    set_by_arguments: false,
    routers: Routers {
        // `lmdeploy serve proxy`.
        commands: &[("serve", "proxy")],
        ..Routers::NONE
    },
    variables: &[],
    // `--tp`, `--dp`: 1 by default (lmdeploy/cli/utils.py).
    width: Width::One,
    memory: MemoryRules::Unknown,
    keeps_float32: false,
    longest_request: None,
    // "No enough blocks for `session_len`, `session_len` truncated" (turbomind, LlamaBatch.cc).
    cuts_its_context: true,
    card_share: None,
    apis_of_ranks: false,
    cpu_need_published: false,
    own_model_names: false,
    language_models: true,
    endpoints: Endpoints {
        port: Some(23333),
        metrics: Some("/metrics"),
        other_metrics: &[],
        metrics_flag: Some("--enable-metrics"),
        identity: &[path("/v1/models", identity::models)],
    },
    vocabulary: Vocabulary {
        prefixes: &["lmdeploy:"],
        markers: &["num_requests_running"],
        figures: &[
            told(Load::Running, &[named("num_requests_running")]),
            told(Load::Waiting, &[named("num_requests_waiting")]),
            told(Load::KvUsage, &[named("gpu_cache_usage_perc")]),
            // `num_api_requests_routed` is a gauge of those under way: a finished request is one observation of its latency.
            told(Load::Requests, &[named("e2e_request_latency_seconds_count")]),
            told(Load::PromptTokens, &[named("prompt_tokens_total")]),
            told(Load::OutputTokens, &[named("generation_tokens_total")]),
            told(Load::RequestLatency, &[named("e2e_request_latency_seconds")]),
            told(Load::TimeToFirstToken, &[named("time_to_first_token_seconds")]),
            told(
                Load::InterTokenLatency,
                &[named("iter_token_latency"), named("time_per_output_token_seconds")],
            ),
        ],
        ..Vocabulary::SILENT
    },
};

impl Engine for Lmdeploy {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let words = candidate.after(|words| {
            let at = behind_program(words, "lmdeploy")?;
            let serves = words.get(at).map(String::as_str) == Some("serve")
                && words.get(at + 1).map(String::as_str) == Some("api_server");
            serves.then_some(at + 2)
        })?;
        let flags = candidate.flags(words, &["enable-prefix-caching", "enable-metrics", "trust-remote-code"]);
        Some(EngineSettings {
            model: flags.positional(0).map(String::from),
            served_names: flags.list(&["model-name"]),
            tensor_parallel: flags.small(&["tp"]),
            data_parallel: flags.small(&["dp"]),
            max_model_len: flags.count(&["session-len"]),
            max_num_seqs: flags.count(&["max-batch-size"]),
            quantization: flags.owned(&["model-format"]).filter(|f| f != "hf"),
            mem_fraction_static: flags.share(&["cache-max-entry-count"]),
            prefix_caching: flags.switch("enable-prefix-caching"),
            lora: flags.has(&["adapters"]).then_some(true),
            speculative: flags.has(&["speculative-algorithm"]).then_some(true),
            role: match flags.text(&["role"]).map(str::to_ascii_lowercase).as_deref() {
                Some("prefill") => Some(ServerRole::Prefill),
                Some("decode") => Some(ServerRole::Decode),
                _ => None,
            },
            port: flags.small(&["server-port"]).and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        })
    }
}
