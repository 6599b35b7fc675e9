//! vLLM: V0, V1 and today's; alone, under KServe, llm-d, Dynamo and the production stack.

use super::prelude::*;
use crate::memory_flags;
use crate::units::Bytes;

pub(super) struct Vllm;

static FACTS: Facts = Facts {
    kind: EngineKind::Vllm,
    // As of 2026-11.
    versions: Versions::Own {
        images: &[
            "vllm/vllm-openai",
            "vllm/vllm-openai-rocm",
            "vllm/vllm-openai-cpu",
            "vllm/vllm-tpu",
            "rocm/vllm",
            "rocm/vllm-dev",
            // AWS deep learning containers.
            "deep-learning-containers/vllm",
        ],
        newest: 1,
    },
    started_by_name: true,
    set_by_arguments: true,
    routers: Routers {
        images: &[
            "lmstack-router",
            "vllm-router",
            "production-stack-router",
            "vllm-simulator",
        ],
        programs: &["vllm-router"],
        modules: &["vllm_router"],
        serving_modules: &[],
        commands: &[],
        // vLLM's proxies for disaggregated prefill.
        scripts: &["proxy_server.py"],
    },
    variables: &[
        // KServe's: a line of arguments.
        reads("VLLM_ADDITIONAL_ARGS", Setting::Any, Form::Settings),
        reads("MODEL_ID", Setting::Model, Form::Model),
        reads("MODEL_NAME", Setting::Model, Form::Model),
        reads("VLLM_ALLOW_LONG_MAX_MODEL_LEN", Setting::MaxModelLen, Form::Word),
        reads("KV_ROLE", Setting::Role, Form::Word),
    ],
    // `EngineArgs.tensor_parallel_size`, `pipeline_parallel_size`, `data_parallel_size`: 1.
    width: Width::One,
    memory: MemoryRules::Vllm,
    keeps_float32: false,
    longest_request: None,
    cuts_its_context: false,
    // `CacheConfig.gpu_memory_utilization` before 0.20; the newer 0.92 only makes it worse.
    card_share: Some(Ratio(0.9)),
    apis_of_ranks: true,
    cpu_need_published: true,
    own_model_names: false,
    language_models: true,
    endpoints: Endpoints {
        port: Some(8000),
        metrics: Some("/metrics"),
        other_metrics: &[],
        metrics_flag: None,
        identity: &[
            path("/v1/models", identity::models),
            path("/version", identity::version),
        ],
    },
    vocabulary: Vocabulary {
        // Ray's metrics agent writes its own prefix before them.
        prefixes: &["vllm:", "ray_vllm_"],
        markers: &["num_requests_running", "prompt_tokens_total"],
        figures: &[
            told(Load::Running, &[named("num_requests_running")]),
            told(Load::Waiting, &[named("num_requests_waiting")]),
            // V1 renamed it; between 0.9.2 and 0.10 both are there.
            told(
                Load::KvUsage,
                &[named("kv_cache_usage_perc"), named("gpu_cache_usage_perc")],
            ),
            told(Load::Requests, &[named("request_success_total")]),
            told(Load::PromptTokens, &[named("prompt_tokens_total")]),
            told(Load::OutputTokens, &[named("generation_tokens_total")]),
            told(Load::Preemptions, &[named("num_preemptions_total")]),
            // 0.8–0.9.1 count in blocks under the gpu_ names: a ratio all the same.
            told(
                Load::PrefixQueries,
                &[
                    named("prefix_cache_queries_total"),
                    named("gpu_prefix_cache_queries_total"),
                ],
            ),
            told(
                Load::PrefixHits,
                &[named("prefix_cache_hits_total"), named("gpu_prefix_cache_hits_total")],
            ),
            told(Load::RequestLatency, &[named("e2e_request_latency_seconds")]),
            told(Load::TimeToFirstToken, &[named("time_to_first_token_seconds")]),
            told(
                Load::InterTokenLatency,
                &[
                    named("inter_token_latency_seconds"),
                    named("time_per_output_token_seconds"),
                ],
            ),
            told(Load::PromptLength, &[named("request_prompt_tokens")]),
            told(Load::OutputLength, &[named("request_generation_tokens")]),
        ],
        ..Vocabulary::SILENT
    },
};

/// vLLM's flags without a value (vllm 0.33 `serve --help`); a word behind one of them is not its value.
const SWITCHES: &[&str] = &[
    "enforce-eager",
    "trust-remote-code",
    "enable-expert-parallel",
    "enable-lora",
    "enable-prefix-caching",
    "enable-chunked-prefill",
    "enable-sleep-mode",
    "disable-log-requests",
    "disable-log-stats",
    "enable-auto-tool-choice",
    "disable-custom-all-reduce",
    "enable-reasoning",
    "headless",
    "disable-hybrid-kv-cache-manager",
    "async-scheduling",
    "disable-sliding-window",
    "use-v2-block-manager",
    "enable-log-requests",
    "enable-eplb",
    "disable-uvicorn-access-log",
    "disable-frontend-multiprocessing",
    "data-parallel-hybrid-lb",
    "data-parallel-external-lb",
    "data-parallel-multi-port-external-lb",
    "enable-prompt-tokens-details",
    "allow-credentials",
    "ray-workers-use-nsight",
    "skip-tokenizer-init",
    "is-prefill-worker",
    "is-decode-worker",
    "ep",
    "omni",
    "language-model-only",
    "mm-encoder-only",
    "fully-sharded-loras",
    "enable-mm-embeds",
];

impl Engine for Vllm {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let image = &candidate.image;
        let by_program = candidate.after(launched_at);
        let known_image = image.contains("vllm") || image.contains("llm-d-cuda") || image.base().starts_with("llm-d");
        let huggingface = image.contains("huggingfaceserver");
        let words = match by_program {
            Some(words) => words,
            None if known_image || huggingface => candidate.entrypoint_args()?,
            None => return None,
        };
        // `vllm serve` as the entry point's own words: "serve MODEL".
        let words = words.strip_prefix(&["serve".to_string()]).unwrap_or(words);
        let extra: Vec<String> = candidate
            .env("VLLM_ADDITIONAL_ARGS")
            .and_then(shlex::split)
            .unwrap_or_default();
        let words = &Candidate::written_out(words, SWITCHES);
        // What the command line says wins over its configuration file.
        let given = Flags::parse(words, SWITCHES);
        let mut all = candidate.config_words(given.text(&["config"]), None);
        all.extend(candidate.config_words(given.text(&["kaito-config-file"]), Some("vllm")));
        all.extend(words.iter().cloned().chain(extra));
        let flags = candidate.flags(&all, SWITCHES);
        let mut settings = settings(&flags, candidate);
        if let Some(overrides) = flags.text(&["hf-overrides"])
            && reshapes(overrides)
        {
            candidate.is_unread(Setting::Sizing, "the overrides of its configuration");
        }
        // A wrapper that takes the model from a variable may take anything from variables.
        if words.is_empty() && settings.model.is_some() && flags.text(&["config"]).is_none() {
            candidate.is_unread(Setting::Any, "the entry point of its image, which reads variables");
        }
        if image.contains("vllm-omni") || flags.has(&["omni", "stage-configs-path"]) {
            in_stages(&mut settings, candidate);
        }
        if huggingface && not_served_by_vllm(&flags) {
            candidate.is_unread(
                Setting::Engine,
                "the backend of KServe's Hugging Face server, which is not vLLM",
            );
        }
        Some(settings)
    }

    fn identify(&self, page: &Page, identity: &mut ServerIdentity) {
        let info = ["vllm_cache_config_info", "ray_vllm_cache_config_info"]
            .into_iter()
            .find(|n| page.has(n))
            .unwrap_or_default();
        let told = |key: &str| page.label(info, key).filter(|v| v != "None");
        let number = |key: &str| told(key).and_then(|v| v.parse::<u64>().ok());
        identity.kv_blocks = number("num_gpu_blocks");
        identity.block_size = number("block_size");
        identity.kv_capacity = number("kv_cache_size_tokens")
            .or_else(|| identity.kv_blocks?.checked_mul(identity.block_size?))
            .filter(|t| *t > 0)
            .map(Tokens);
        identity.gpu_memory_utilization = told("gpu_memory_utilization").and_then(|v| v.parse().ok());
        identity.kv_cache_dtype = told("cache_dtype");
        identity.prefix_caching = told("enable_prefix_caching").map(|v| v == "True");
        identity.engines = page.distinct("vllm_num_requests_running", "engine");
        identity.asleep = asleep(page);
        identity.max_model_len = number("kv_cache_size_tokens")
            .zip(told("kv_cache_max_concurrency").and_then(|v| v.parse::<f64>().ok()))
            .filter(|(_, c)| *c > 0.0)
            .map(|(tokens, concurrency)| (tokens as f64 / concurrency).round() as u64);
    }
}

/// `vllm:engine_sleep_state` has one row for each state and engine, and 1 at the one that holds (vllm/v1/metrics/loggers.py,
/// `record_sleep_state`: "awake", "weights_offloaded" at level 1, "discard_all" at level 2; all are 0 at level 0). The server
/// sleeps where none of its engines is awake.
fn asleep(page: &Page) -> Option<bool> {
    let rows = page.series("vllm_engine_sleep_state");
    let mut awake = rows
        .iter()
        .filter(|(labels, _)| labels.get("sleep_state").is_some_and(|s| s == "awake"))
        .peekable();
    awake.peek()?;
    Some(!awake.any(|(_, value)| *value > 0.0))
}

/// Modules that serve; others beside them work off a batch (`vllm.entrypoints.openai.run_batch`).
const SERVERS: &[&str] = &[
    "vllm.entrypoints.openai.api_server",
    "vllm.entrypoints.api_server",
    "vllm.entrypoints.grpc_server",
    "vllm.entrypoints.cli.main",
    "vllm",
    "dynamo.vllm",
];

/// Position of vLLM's own arguments.
fn launched_at(words: &[String]) -> Option<usize> {
    if let Some(at) = behind_module(words, |m| SERVERS.contains(&m)) {
        return Some(at);
    }
    if let Some(at) = behind_program(words, "vllm").or_else(|| behind_program(words, "vllm-omni")) {
        return (words.get(at).map(String::as_str) == Some("serve")).then_some(at + 1);
    }
    words
        .iter()
        .take(8)
        // The second is KAITO's.
        .position(|w| w.ends_with("vllm/entrypoints/openai/api_server.py") || w.ends_with("vllm/inference_api.py"))
        .map(|at| at + 1)
}

/// vLLM-Omni runs the stages of one model as engines of their own, on devices and with shares of memory that its stage file
/// names (vllm-project/vllm-omni, docs/configuration/stage_configs.md); its flags do not say how many GPUs that is.
fn in_stages(settings: &mut EngineSettings, candidate: &Candidate<'_>) {
    candidate.is_unread(Setting::Any, "the stages of vLLM-Omni");
    candidate.is_unread(Setting::MemoryShare, "the stages of vLLM-Omni");
    settings.tensor_parallel = None;
    settings.pipeline_parallel = None;
    settings.data_parallel = None;
    settings.max_num_seqs = None;
    settings.max_num_batched_tokens = None;
}

/// KServe's server serves with Transformers where it is told so, and what is no generation (kserve/kserve,
/// python/huggingfaceserver: `--backend`, `--task`).
fn not_served_by_vllm(flags: &Flags) -> bool {
    let backend = flags.text(&["backend"]).unwrap_or("auto");
    let task = flags.text(&["task"]).unwrap_or("text_generation");
    !matches!(backend, "auto" | "vllm") || !matches!(task, "text_generation" | "text-generation" | "generate")
}

fn settings(flags: &Flags, candidate: &Candidate<'_>) -> EngineSettings {
    let model = flags
        .owned(&["model", "model-id", "model-tag"])
        .or_else(|| flags.positional(0).map(String::from))
        .or_else(|| {
            candidate
                .env("MODEL_ID")
                .or_else(|| candidate.env("MODEL_NAME"))
                .map(String::from)
        })
        .or_else(|| flags.owned(&["model-dir"]));
    let served = flags.list(&["served-model-name", "model-name"]);
    let speculative = ["speculative-config", "speculative-model", "spec-model"];
    let mut settings = EngineSettings {
        model,
        served_names: served,
        tensor_parallel: flags.small(&["tensor-parallel-size", "tp"]),
        pipeline_parallel: flags.small(&["pipeline-parallel-size", "pp"]),
        data_parallel: flags.small(&["data-parallel-size", "dp"]),
        expert_parallel: flags.switch("enable-expert-parallel").or_else(|| flags.switch("ep")),
        max_model_len: flags.count(&["max-model-len", "max-length"]),
        length_by_memory: flags
            .text(&["max-model-len"])
            .is_some_and(|l| matches!(l, "auto" | "-1")),
        stretched: stretched(flags, candidate.env("VLLM_ALLOW_LONG_MAX_MODEL_LEN")),
        max_num_seqs: flags.count(&["max-num-seqs", "max-num-seq"]),
        max_num_batched_tokens: flags.count(&["max-num-batched-tokens"]),
        chunked_prefill: flags.switch("enable-chunked-prefill"),
        ranks_by_ray: flags.text(&["distributed-executor-backend"]) == Some("ray")
            || candidate.commands.iter().any(|c| joins_ray(c)),
        gpu_memory_utilization: flags.share(&["gpu-memory-utilization"]),
        quantization: flags.owned(&["quantization", "q"]).filter(|q| q != "None"),
        dtype: flags.owned(&["dtype"]).filter(|d| d != "auto"),
        kv_cache_dtype: flags.owned(&["kv-cache-dtype"]).filter(|d| d != "auto"),
        block_size: flags.count(&["block-size"]),
        kv_cache_memory: flags.count(&["kv-cache-memory-bytes", "kv-cache-memory"]).map(Bytes),
        gpu_blocks_override: flags.count(&["num-gpu-blocks-override"]),
        enforce_eager: flags.switch("enforce-eager"),
        prefix_caching: flags.switch("enable-prefix-caching"),
        role: role(flags, candidate.env("KV_ROLE")),
        kv_transfer: transfers_kv(flags),
        lora: flags
            .switch("enable-lora")
            .or_else(|| flags.has(&["lora-modules"]).then_some(true)),
        max_loras: flags.count(&["max-loras"]),
        nodes: flags.small(&["nnodes"]).or_else(|| nodes_of_ranks(flags)),
        speculative: flags.has(&speculative).then_some(true),
        sleep_mode: flags.switch("enable-sleep-mode"),
        cpu_offload: flags
            .text(&["cpu-offload-gb"])
            .and_then(|g| g.parse().ok())
            .filter(|g| *g > 0.0)
            .map(Bytes::from_gib),
        api_servers: flags.small(&["api-server-count"]),
        headless: flags.switch("headless") == Some(true),
        apis: flags
            .has(&["data-parallel-multi-port-external-lb"])
            .then(|| {
                flags
                    .small(&["data-parallel-size-local", "dpl"])
                    .or(flags.small(&["data-parallel-size", "dp"]))
            })
            .flatten(),
        // A rank by its number is behind a balancer of somebody else's.
        api_per_node: flags.has(&[
            "data-parallel-hybrid-lb",
            "data-parallel-external-lb",
            "data-parallel-rank",
            "dpr",
        ]),
        port: flags.small(&["port"]).and_then(|p| u16::try_from(p).ok()),
        ..EngineSettings::default()
    };
    memory_flags::vllm(flags, &mut settings);
    memory_flags::vllm_elsewhere(flags, candidate);
    memory_flags::encoder_alone(flags, candidate);
    settings
}

/// Over how many pods the data-parallel ranks are spread, where each is told its part: so many of its own, one by its number,
/// or one behind a balancer that is not vLLM's (docs/serving/data_parallel_deployment.md).
fn nodes_of_ranks(flags: &Flags) -> Option<u32> {
    let ranks = flags.small(&["data-parallel-size", "dp"])?;
    let alone = flags.has(&["data-parallel-rank", "dpr", "data-parallel-external-lb"]);
    let own = flags
        .small(&["data-parallel-size-local", "dpl"])
        .or_else(|| alone.then_some(1))?;
    Some(ranks.div_ceil(own)).filter(|n| *n > 1)
}

/// `ray start`: the script makes a cluster, or joins one.
fn joins_ray(command: &[String]) -> bool {
    let at = command.iter().take(8).position(|w| w == "ray" || w.ends_with("/ray"));
    at.is_some_and(|at| command.get(at + 1).is_some_and(|w| w == "start"))
}

/// Whether the model may be longer than its own configuration says: vLLM takes the length from the overrides.
fn stretched(flags: &Flags, allowed: Option<&str>) -> bool {
    let overrides = flags.text(&["hf-overrides"]).unwrap_or_default();
    stretches(overrides)
        || flags.has(&["rope-scaling"])
        || allowed.is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "1" | "true"))
}

/// Overrides of a configuration that change the model's length.
pub(super) fn stretches(overrides: &str) -> bool {
    overrides.contains("rope") || overrides.contains("max_position_embeddings")
}

/// Whether overrides of the model's configuration may change what its weights and cache take: any but those of length and class.
pub(super) fn reshapes(overrides: &str) -> bool {
    const OF_LENGTH: &[&str] = &[
        "rope_scaling",
        "rope_parameters",
        "rope_theta",
        "max_position_embeddings",
        "original_max_position_embeddings",
        "model_max_length",
        "architectures",
    ];
    let Ok(serde_json::Value::Object(map)) = serde_json::from_str(overrides) else {
        return !overrides.trim().is_empty();
    };
    let harmless = |key: &str| OF_LENGTH.contains(&key);
    map.iter().any(|(key, value)| match value.as_object() {
        Some(part) if key.ends_with("_config") => part.keys().any(|k| !harmless(k)),
        _ => !harmless(key),
    })
}

/// Whether a connector carries KV cache to or from other servers. One that only moves blocks to the host's own memory does
/// not; LMCache may do either, by a file of its own.
fn transfers_kv(flags: &Flags) -> bool {
    let text = flags.text(&["kv-transfer-config"]).unwrap_or_default();
    let named: Vec<&str> = text
        .split('"')
        .filter(|word| word.ends_with("Connector") || word.ends_with("ConnectorV1"))
        .collect();
    let to_host = |name: &&str| name.contains("Offload") || *name == "MultiConnector";
    text.contains("kv_connector") && !(named.iter().any(|n| n.contains("Offload")) && named.iter().all(to_host))
}

/// The role in a prefill/decode split, where the arguments say it: `kv_producer` and `kv_consumer` of the transfer
/// configuration, or Dynamo's worker switches. `kv_both` says nothing.
fn role(flags: &Flags, env: Option<&str>) -> Option<ServerRole> {
    let text = flags.text(&["kv-transfer-config"]).unwrap_or_default();
    let mode = flags.text(&["disaggregation-mode"]).unwrap_or_default();
    if text.contains("kv_producer")
        || env == Some("kv_producer")
        || mode == "prefill"
        || flags.has(&["is-prefill-worker"])
    {
        Some(ServerRole::Prefill)
    } else if text.contains("kv_consumer")
        || env == Some("kv_consumer")
        || mode == "decode"
        || flags.has(&["is-decode-worker"])
    {
        Some(ServerRole::Decode)
    } else {
        None
    }
}
