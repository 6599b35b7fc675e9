//! SGLang.

use super::flags::Flags;
use super::{Candidate, Engine, behind_module, behind_program, memory_flags};
use crate::snapshot::server::{EngineKind, EngineSettings, ServerRole};

pub(crate) struct Sglang;

const SWITCHES: &[&str] = &[
    "enable-metrics",
    "trust-remote-code",
    "disable-radix-cache",
    "enable-dp-attention",
    "disable-cuda-graph",
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
    fn kind(&self) -> EngineKind {
        EngineKind::Sglang
    }

    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings> {
        let launched = candidate.after(|words| {
            behind_module(words, |m| {
                m == "sglang.launch_server" || m == "dynamo.sglang" || m == "sglang_router.launch_server"
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
        let given = Flags::parse(words, SWITCHES);
        // What the command line says wins over its configuration file.
        let mut all = candidate.config_words(given.text(&["config"]), None);
        all.extend(words.iter().cloned());
        let flags = candidate.flags(&all, SWITCHES);
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
            max_num_seqs: flags.count(&["max-running-requests"]),
            mem_fraction_static: flags.share(&["mem-fraction-static"]),
            chunked_prefill_size: flags.count(&["chunked-prefill-size"]),
            quantization: flags.owned(&["quantization"]),
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
        Some(settings)
    }

    fn default_port(&self) -> Option<u16> {
        Some(30000)
    }

    fn metrics_path(&self) -> Option<&'static str> {
        Some("/metrics")
    }

    fn identity_paths(&self) -> &'static [&'static str] {
        &["/get_server_info", "/get_model_info", "/v1/models"]
    }
}
