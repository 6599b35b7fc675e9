//! What an engine does where nothing is said: its generation, and the defaults of that version.

use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelFacts;
use crate::engine::{MemoryRules, memory_rules};
use crate::snapshot::server::EngineSettings;
use crate::units::Bytes;

/// Below it SGLang takes a card as small: A10, L4, RTX 4090 and 5090 (`server_args.py`), GiB.
pub(super) const SMALL_CARD: f64 = 35.0;

/// A vLLM or SGLang version, as far as defaults depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32, pub(super) u32);

/// "0.8.5.post1", "v0.6.1.dev238+ge2c6e0a82", "vllm-0.11.0". `None`: no version.
pub(super) fn version(text: &str) -> Option<Version> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    // "V1" is a generation, no version.
    let mut parts = text[start..].split('.').map(|p| {
        let digits: String = p.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    let major = parts.next()??;
    let minor = parts.next()??;
    Some(Version(major, minor, parts.next().flatten().unwrap_or(0)))
}

/// The memory rules that apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// vLLM's first engine (before 0.8).
    VllmV0,
    /// vLLM's present engine; the version decides between its ages.
    VllmV1,
    Sglang,
    Trtllm,
    Tgi,
    /// llama.cpp and Ollama: the context is allocated as asked.
    LlamaCpp,
    /// Encoders, pipelines: weights and a working set, no pool.
    Plain,
}

/// Engine, version and what follows from them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Engine {
    pub(super) rules: Rules,
    /// `None`: not known; the newest rules apply.
    pub(super) version: Option<Version>,
    /// No engine was recognised: vLLM's rules are an assumption.
    pub(super) assumed: bool,
}

impl Engine {
    pub(super) fn of(settings: &EngineSettings, model: &ModelFacts, gpu: &GpuFacts) -> Self {
        let text = settings.engine_version.as_deref().unwrap_or_default();
        let number = version(text);
        let first_generation = text.eq_ignore_ascii_case("v0")
            || number.is_some_and(|v| v < Version(0, 8, 0))
            || !text.eq_ignore_ascii_case("v1") && falls_back(number, model, gpu);
        let vllm = if first_generation { Rules::VllmV0 } else { Rules::VllmV1 };
        let (rules, assumed) = match memory_rules(settings.engine) {
            MemoryRules::Vllm => (vllm, false),
            MemoryRules::Sglang => (Rules::Sglang, false),
            MemoryRules::Trtllm => (Rules::Trtllm, false),
            MemoryRules::Tgi => (Rules::Tgi, false),
            MemoryRules::LlamaCpp => (Rules::LlamaCpp, false),
            MemoryRules::Plain => (Rules::Plain, false),
            // NIM runs vLLM, SGLang or TensorRT-LLM; its own version says nothing about the backend's.
            MemoryRules::Unknown => (Rules::VllmV1, true),
        };
        Self {
            rules,
            version: number.filter(|_| !assumed),
            assumed,
        }
    }

    /// The version is at least this; unknown versions count as the newest.
    pub(super) fn since(&self, major: u32, minor: u32) -> bool {
        self.version.is_none_or(|v| v >= Version(major, minor, 0))
    }

    /// Whether the version is at least `known`, or surely below `doubtful`; `None` where it is not told, or lies between the
    /// releases that were read.
    pub(super) fn between(&self, doubtful: (u32, u32), known: (u32, u32)) -> Option<bool> {
        match self.version? {
            v if v >= Version(known.0, known.1, 0) => Some(true),
            v if v < Version(doubtful.0, doubtful.1, 0) => Some(false),
            _ => None,
        }
    }

    /// Whether SGLang reserves as much on cards of 24 and 32 GB as 0.5.23 does. Which release before it raised that is not
    /// known: the older rule holds until then.
    pub(super) fn sglang_small_card_raised(&self) -> bool {
        self.version.is_none_or(|v| v >= Version(0, 5, 23))
    }

    pub(super) fn is_vllm(&self) -> bool {
        matches!(self.rules, Rules::VllmV0 | Rules::VllmV1)
    }

    pub(super) fn is_v1(&self) -> bool {
        self.rules == Rules::VllmV1
    }
}

/// vLLM 0.8 to 0.10 run their first engine on cards before Ampere and for encoder-decoder models; cross-attention
/// Llama-Vision never ran on another (removed with it in 0.11).
fn falls_back(version: Option<Version>, model: &ModelFacts, gpu: &GpuFacts) -> bool {
    let old_card = gpu.compute_capability.is_some_and(|c| c < (8, 0));
    let crossed = model.model_type == "mllama";
    match version {
        None => crossed,
        Some(v) => {
            v < Version(0, 11, 0)
                && (old_card || crossed || model.task == crate::catalog::models::Task::Asr && v < Version(0, 10, 0))
        }
    }
}

/// Total memory as CUDA reports it: the driver keeps a part of what nvidia-smi shows.
///
/// Measured on logged start-ups (`total_gpu_memory` of vLLM): A100-80 79.2 of 80, cards above 100 GiB −0.7, below
/// 20 GiB −0.26 (Blackwell −0.45), others −0.45 GiB.
pub(super) fn cuda_total(gpu: &GpuFacts) -> Bytes {
    if let Some(told) = gpu.memory_cuda {
        return told;
    }
    let shown = gpu.memory_usable.unwrap_or(gpu.memory);
    let gib = shown.gib();
    let kept = if gpu.vendor == "nvidia" && gpu.architecture == "Ampere" && gib > 70.0 {
        0.8
    } else if gib > 100.0 {
        0.7
    } else if gib < 20.0 && !gpu.architecture.starts_with("Blackwell") {
        0.26
    } else {
        0.45
    };
    Bytes::from_gib(gib - kept)
}

/// Cards that get vLLM's large defaults: from 70 GiB on, but not A100 (since 0.9, vllm-project/vllm#17885) nor GB10 (not in
/// 0.30, in 0.33; `EngineArgs.get_batch_defaults`).
fn is_large(engine: &Engine, gpu: &GpuFacts) -> bool {
    let shown = gpu.memory_usable.unwrap_or(gpu.memory).max(cuda_total(gpu));
    let large = shown.gib() >= 70.0;
    let spared = gpu.name.starts_with("A100") && engine.since(0, 9)
        || gpu.compute_capability == Some((12, 1)) && engine.since(0, 31);
    large && !spared
}

/// `max_num_seqs`: 1024 on large cards in V1, else 256 (`EngineArgs.get_batch_defaults`, vllm 0.8.5 to 0.33; 0.8.2 to 0.8.4
/// took 1024 everywhere).
pub(super) fn max_num_seqs(engine: &Engine, settings: &EngineSettings, gpu: &GpuFacts) -> u64 {
    if let Some(stated) = settings.max_num_seqs {
        return stated.max(1);
    }
    match engine.rules {
        Rules::VllmV1 => {
            let everywhere = engine
                .version
                .is_some_and(|v| v >= Version(0, 8, 2) && v < Version(0, 8, 5));
            if everywhere || is_large(engine, gpu) { 1024 } else { 256 }
        }
        Rules::Trtllm => 2048,
        Rules::LlamaCpp => settings.slots.unwrap_or(1).max(1),
        _ => 256,
    }
}

/// Tokens of one step at most, which the memory profile runs with. vLLM's tier from 160 GiB on is in 0.28, not in 0.26.
pub(super) fn max_num_batched_tokens(engine: &Engine, settings: &EngineSettings, gpu: &GpuFacts, length: u64) -> u64 {
    if let Some(stated) = settings.max_num_batched_tokens.or(settings.chunked_prefill_size) {
        return stated.clamp(1, 1 << 24);
    }
    let gib = cuda_total(gpu).gib();
    match engine.rules {
        // Chunked prefill turns itself on above 32K tokens (0.5.4 to 0.7), with 512 tokens a step in 0.5.4 and 0.6.2, 2048 in 0.6.6.
        Rules::VllmV0 if length > 32_768 => {
            if engine.version.is_some_and(|v| v < Version(0, 6, 5)) {
                512
            } else {
                2048
            }
        }
        Rules::VllmV0 => length.max(2048),
        Rules::VllmV1 if gib >= 160.0 && engine.since(0, 28) => 16_384,
        Rules::VllmV1 if is_large(engine, gpu) => 8192,
        Rules::VllmV1 => 2048,
        Rules::Sglang => chunked_prefill(gib, engine.sglang_small_card_raised()),
        Rules::Tgi => 4096,
        Rules::LlamaCpp => 512,
        Rules::Trtllm | Rules::Plain => 8192,
    }
}

/// SGLang's `chunked_prefill_size` by memory (0.5.23 `memory_hook.py`; below 35 GiB 2048 in `server_args.py` of 0.5.5).
pub(super) fn chunked_prefill(gib: f64, raised: bool) -> u64 {
    match gib {
        g if g < 20.0 => 2048,
        g if g < SMALL_CARD && !raised => 2048,
        g if g < 60.0 => 4096,
        g if g < 160.0 => 8192,
        _ => 16_384,
    }
}

/// vLLM's share of the card: 0.92 from 0.20.0, 0.9 before (#38284).
pub(super) fn utilization(engine: &Engine, settings: &EngineSettings) -> f64 {
    let default = if engine.rules == Rules::VllmV1 && engine.since(0, 20) {
        0.92
    } else {
        0.90
    };
    settings.gpu_memory_utilization.unwrap_or(default).clamp(0.0, 1.0)
}

/// Tokens one request may hold: stated, else what the engine takes.
pub(super) fn max_model_len(engine: &Engine, settings: &EngineSettings, model: &ModelFacts) -> Option<u64> {
    if let Some(stated) = settings.max_model_len.filter(|l| *l > 0) {
        return Some(stated);
    }
    match (
        engine.rules,
        crate::engine::facts(settings.engine).and_then(|f| f.longest_request),
    ) {
        (Rules::LlamaCpp, Some(own)) => Some(model.max_positions.unwrap_or(own).min(own)),
        _ => model.max_positions,
    }
}

/// Tokens of a KV block before hybrids enlarge it.
pub(super) fn block_size(engine: &Engine, settings: &EngineSettings) -> u64 {
    let default = match engine.rules {
        Rules::VllmV0 | Rules::VllmV1 | Rules::Tgi => 16,
        Rules::Trtllm => 32,
        _ => 1,
    };
    settings.block_size.unwrap_or(default).clamp(1, 65_536)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::gpus;
    use crate::snapshot::server::EngineKind;

    #[test]
    fn versions_are_read_as_servers_tell_them() {
        assert_eq!(version("0.8.5.post1"), Some(Version(0, 8, 5)));
        assert_eq!(version("v0.6.1.dev238+ge2c6e0a82"), Some(Version(0, 6, 1)));
        assert_eq!(version("V1"), None);
        assert_eq!(version("dev"), None);
    }

    #[test]
    fn defaults_follow_the_version() {
        let at = |v: &str| {
            let settings = EngineSettings {
                engine: Some(EngineKind::Vllm),
                engine_version: Some(v.into()),
                ..EngineSettings::default()
            };
            let h100 = gpus::find("H100").unwrap();
            let engine = Engine::of(&settings, &ModelFacts::default(), h100);
            (
                engine.rules,
                utilization(&engine, &settings),
                max_num_seqs(&engine, &settings, h100),
            )
        };
        assert_eq!(at("0.6.3"), (Rules::VllmV0, 0.90, 256));
        assert_eq!(at("0.19.1"), (Rules::VllmV1, 0.90, 1024));
        assert_eq!(at("0.20.0"), (Rules::VllmV1, 0.92, 1024));
        assert_eq!(at("V0").0, Rules::VllmV0);
    }

    #[test]
    fn totals_are_those_that_servers_logged() {
        for (gpu, logged) in [
            ("H100", 79.2),
            ("A100 80GB", 79.2),
            ("L40S", 44.5),
            ("A10", 22.05),
            ("T4", 14.74),
            ("H200", 139.72),
            ("B200", 178.36),
        ] {
            let total = cuda_total(gpus::find(gpu).unwrap()).gib();
            assert!((total - logged).abs() < 0.12, "{gpu}: {total} GiB, logged {logged}");
        }
    }
}
