//! SGLang.

use super::prelude::*;
use crate::memory_flags;
use crate::units::Bytes;

pub(super) struct Sglang;

static FACTS: Facts = Facts {
    kind: EngineKind::Sglang,
    // As of 2026-11.
    versions: Versions::Own {
        images: &["lmsysorg/sglang", "lmsysorg/sglang-rocm", "rocm/sgl-dev"],
        newest: 1,
    },
    started_by_name: true,
    set_by_arguments: true,
    routers: Routers {
        images: &["sglang-router", "sgl-model-gateway", "sglang-gateway"],
        programs: &[],
        modules: &[
            "sglang_router",
            "sglang.srt.disaggregation.mini_lb",
            "sglang.srt.disaggregation.launch_lb",
        ],
        serving_modules: &["sglang_router.launch_server"],
        commands: &[],
        scripts: &[],
    },
    variables: &[reads(
        "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN",
        Setting::MaxModelLen,
        Form::Word,
    )],
    // `ServerArgs.tp_size`, `pp_size`, `dp_size`: 1.
    width: Width::One,
    memory: MemoryRules::Sglang,
    keeps_float32: false,
    longest_request: None,
    cuts_its_context: false,
    card_share: None,
    apis_of_ranks: false,
    cpu_need_published: false,
    own_model_names: false,
    language_models: true,
    endpoints: Endpoints {
        port: Some(30000),
        metrics: Some("/metrics"),
        other_metrics: &[],
        metrics_flag: Some("--enable-metrics"),
        identity: &[
            path("/get_server_info", identity::sglang),
            path("/get_model_info", identity::sglang),
            path("/v1/models", identity::models),
        ],
    },
    vocabulary: Vocabulary {
        prefixes: &["sglang:"],
        markers: &[
            "num_running_reqs",
            "num_requests_total",
            "token_usage",
            "prompt_tokens_total",
        ],
        figures: &[
            told(Load::Running, &[named("num_running_reqs")]),
            told(Load::Waiting, &[named("num_queue_reqs")]),
            told(Load::KvUsage, &[named("token_usage")]),
            // Before there was a counter, a finished request was one observation.
            told(
                Load::Requests,
                &[named("num_requests_total"), named("e2e_request_latency_seconds_count")],
            ),
            told(Load::PromptTokens, &[named("prompt_tokens_total")]),
            told(Load::OutputTokens, &[named("generation_tokens_total")]),
            told(Load::RequestLatency, &[named("e2e_request_latency_seconds")]),
            told(Load::TimeToFirstToken, &[named("time_to_first_token_seconds")]),
            told(
                Load::InterTokenLatency,
                &[
                    named("inter_token_latency_seconds"),
                    named("time_per_output_token_seconds"),
                ],
            ),
        ],
        ..Vocabulary::SILENT
    },
};

const SWITCHES: &[&str] = &[
    "enable-metrics",
    "trust-remote-code",
    "disable-radix-cache",
    "enable-dp-attention",
    "disable-cuda-graph",
    "encoder-only",
    "enable-ep-moe",
    "enable-lora",
    "enable-torch-compile",
    "skip-tokenizer-init",
    "enable-mixed-chunk",
    "enable-deepep-moe",
    "log-requests",
    "disable-overlap-schedule",
    "enable-p2p-check",
    "enable-two-batch-overlap",
    "enable-memory-saver",
    "disable-hybrid-swa-memory",
    "language-only",
    "enable-multimodal",
];

impl Engine for Sglang {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let launched = candidate.after(|words| {
            behind_module(words, |m| {
                // The router that starts the servers behind it takes their arguments.
                matches!(
                    m,
                    "sglang.launch_server" | "dynamo.sglang" | "sglang_router.launch_server"
                )
            })
            .or_else(|| {
                let at = behind_program(words, "sglang")?;
                (words.get(at).map(String::as_str) == Some("serve")).then_some(at + 1)
            })
        });
        let words = match launched {
            Some(words) => words,
            None if candidate.image.contains("sglang")
                && candidate.entrypoint_args().is_some_and(|a| !a.is_empty()) =>
            {
                candidate.entrypoint_args()?
            }
            None => return None,
        };
        let words = &Candidate::written_out(words, SWITCHES);
        let given = Flags::parse(words, SWITCHES);
        // What the command line says wins over its configuration file.
        let mut all = candidate.config_words(given.text(&["config"]), None);
        all.extend(words.iter().cloned());
        let flags = candidate.flags(&all, SWITCHES);
        if let Some(overrides) = flags.text(&["json-model-override-args"])
            && super::vllm::reshapes(overrides)
        {
            candidate.is_unread(Setting::Sizing, "the overrides of its configuration");
        }
        let role = match flags.text(&["disaggregation-mode"]) {
            Some("prefill") => Some(ServerRole::Prefill),
            Some("decode") => Some(ServerRole::Decode),
            _ => None,
        };
        let mut settings = EngineSettings {
            model: flags
                .owned(&["model-path", "model"])
                .or_else(|| flags.positional(0).map(String::from)),
            served_names: flags.list(&["served-model-name"]),
            tensor_parallel: flags.small(&["tensor-parallel-size", "tp-size", "tp"]),
            pipeline_parallel: flags.small(&["pipeline-parallel-size", "pp-size", "pp"]),
            data_parallel: flags.small(&["data-parallel-size", "dp-size", "dp"]),
            expert_parallel: flags
                .small(&["expert-parallel-size", "ep-size", "ep"])
                .map(|n| n > 1)
                .or_else(|| flags.switch("enable-ep-moe")),
            dp_attention: flags.switch("enable-dp-attention"),
            max_model_len: flags.count(&["context-length"]),
            stretched: flags
                .text(&["json-model-override-args"])
                .is_some_and(super::vllm::stretches)
                || candidate
                    .env("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN")
                    .is_some_and(on),
            max_num_seqs: flags.count(&["max-running-requests"]),
            mem_fraction_static: flags.share(&["mem-fraction-static"]),
            chunked_prefill_size: flags.count(&["chunked-prefill-size"]),
            quantization: flags
                .owned(&["quantization"])
                .or_else(|| flags.text(&["torchao-config"]).and_then(torchao)),
            cpu_offload: flags
                .text(&["cpu-offload-gb"])
                .and_then(|g| g.parse().ok())
                .filter(|g| *g > 0.0)
                .map(Bytes::from_gib),
            dtype: flags.owned(&["dtype"]).filter(|d| d != "auto"),
            kv_cache_dtype: flags.owned(&["kv-cache-dtype"]).filter(|d| d != "auto"),
            block_size: flags.count(&["page-size"]),
            enforce_eager: flags.switch("disable-cuda-graph"),
            prefix_caching: flags.switch("disable-radix-cache").map(|off| !off),
            role,
            lora: flags
                .switch("enable-lora")
                .or_else(|| flags.has(&["lora-paths"]).then_some(true)),
            max_loras: flags.count(&["max-loras-per-batch"]),
            speculative: flags
                .has(&["speculative-algorithm", "speculative-algo"])
                .then_some(true),
            sleep_mode: flags.switch("enable-memory-saver"),
            nodes: flags.small(&["nnodes"]),
            port: flags.small(&["port"]).and_then(|p| u16::try_from(p).ok()),
            ..EngineSettings::default()
        };
        memory_flags::sglang(&flags, &mut settings);
        memory_flags::sglang_elsewhere(&flags, candidate);
        memory_flags::encoder_alone(&flags, candidate);
        Some(settings)
    }

    fn identify(&self, page: &Page, identity: &mut ServerIdentity) {
        identity.kv_capacity = page
            .max(&["sglang_max_total_num_tokens"])
            .filter(|t| *t > 0.0)
            .map(|t| Tokens(t as u64));
        identity.max_model_len = page.max(&["sglang_context_len"]).map(|l| l as u64);
        identity.engines = page.distinct("sglang_num_running_reqs", "dp_rank");
    }
}

/// "int4wo-128", "int8dq", "fp8wo", "fp8dq-per_tensor": what torchao makes of 16-bit weights while loading.
fn torchao(config: &str) -> Option<String> {
    let kind = ["int4", "int8", "fp8"].into_iter().find(|k| config.starts_with(k))?;
    Some(format!("torchao {kind}"))
}

/// A variable that is switched on (`get_bool_env_var`).
fn on(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true")
}
