//! vLLM: V0, V1 and today's; alone, under KServe, llm-d, Dynamo and the production stack.

use super::flags::Flags;
use super::{Candidate, ContainerSpec, Engine, behind_module, behind_program};
use crate::snapshot::server::{EngineKind, EngineSettings, ServerRole};
use crate::units::Bytes;

pub(crate) struct Vllm;

/// vLLM's flags without a value (vllm 0.33 `serve --help`); a word behind one of them is not its value.
pub(super) const SWITCHES: &[&str] = &[
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
];

impl Engine for Vllm {
    fn kind(&self) -> EngineKind {
        EngineKind::Vllm
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
            .spec
            .env("VLLM_ADDITIONAL_ARGS")
            .and_then(shlex::split)
            .unwrap_or_default();
        // What the command line says wins over its configuration file.
        let given = Flags::parse(words, SWITCHES);
        let mut all = candidate.config_words(given.text(&["config"]), None);
        all.extend(candidate.config_words(given.text(&["kaito-config-file"]), Some("vllm")));
        all.extend(words.iter().cloned().chain(extra));
        let flags = Flags::parse(&all, SWITCHES);
        Some(settings(&flags, candidate))
    }

    fn default_port(&self) -> Option<u16> {
        Some(8000)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        Some("/metrics")
    }

    fn identity_paths(&self) -> &'static [&'static str] {
        &["/v1/models", "/version"]
    }
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
    if let Some(at) = behind_program(words, "vllm") {
        return (words.get(at).map(String::as_str) == Some("serve")).then_some(at + 1);
    }
    words
        .iter()
        .take(8)
        // The second is KAITO's.
        .position(|w| w.ends_with("vllm/entrypoints/openai/api_server.py") || w.ends_with("vllm/inference_api.py"))
        .map(|at| at + 1)
}

fn settings(flags: &Flags, candidate: &Candidate<'_>) -> EngineSettings {
    let spec = candidate.spec;
    let model = flags
        .owned(&["model", "model-id", "model-tag"])
        .or_else(|| flags.positional(0).map(String::from))
        .or_else(|| {
            spec.env("MODEL_ID")
                .or_else(|| spec.env("MODEL_NAME"))
                .map(String::from)
        })
        .or_else(|| flags.owned(&["model-dir"]));
    let served = flags.list(&["served-model-name", "model-name"]);
    let speculative = ["speculative-config", "speculative-model", "spec-model"];
    EngineSettings {
        model,
        served_names: served,
        tensor_parallel: flags.small(&["tensor-parallel-size", "tp"]),
        pipeline_parallel: flags.small(&["pipeline-parallel-size", "pp"]),
        data_parallel: flags.small(&["data-parallel-size", "dp"]),
        expert_parallel: flags.switch("enable-expert-parallel").or_else(|| flags.switch("ep")),
        max_model_len: flags.count(&["max-model-len", "max-length"]),
        stretched: stretched(flags, spec),
        max_num_seqs: flags.count(&["max-num-seqs", "max-num-seq"]),
        max_num_batched_tokens: flags.count(&["max-num-batched-tokens"]),
        gpu_memory_utilization: flags.share(&["gpu-memory-utilization"]),
        quantization: flags.owned(&["quantization", "q"]).filter(|q| q != "None"),
        dtype: flags.owned(&["dtype"]).filter(|d| d != "auto"),
        kv_cache_dtype: flags.owned(&["kv-cache-dtype"]).filter(|d| d != "auto"),
        block_size: flags.count(&["block-size"]),
        kv_cache_memory: flags.count(&["kv-cache-memory-bytes", "kv-cache-memory"]).map(Bytes),
        gpu_blocks_override: flags.count(&["num-gpu-blocks-override"]),
        enforce_eager: flags.switch("enforce-eager"),
        prefix_caching: flags.switch("enable-prefix-caching"),
        role: role(flags, spec.env("KV_ROLE")),
        lora: flags
            .switch("enable-lora")
            .or_else(|| flags.has(&["lora-modules"]).then_some(true)),
        max_loras: flags.count(&["max-loras"]),
        nodes: flags.small(&["nnodes"]),
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
        api_per_node: flags.has(&["data-parallel-hybrid-lb", "data-parallel-external-lb"]),
        port: flags.small(&["port"]).and_then(|p| u16::try_from(p).ok()),
        ..EngineSettings::default()
    }
}

/// Whether the model may be longer than its own configuration says: vLLM takes the length from the overrides.
fn stretched(flags: &Flags, spec: &ContainerSpec) -> bool {
    let overrides = flags.text(&["hf-overrides"]).unwrap_or_default();
    let allowed = spec.env("VLLM_ALLOW_LONG_MAX_MODEL_LEN");
    overrides.contains("rope")
        || overrides.contains("max_position_embeddings")
        || flags.has(&["rope-scaling"])
        || allowed.is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "1" | "true"))
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
