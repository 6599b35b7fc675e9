//! What an engine does where nothing is said: its generation, and the defaults of that version.

use super::Parallelism;
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelFacts;
use crate::engine::{MemoryRules, memory_rules};
use crate::snapshot::server::EngineSettings;
use crate::units::Bytes;

/// Below it SGLang takes a card as small: A10, L4, RTX 4090 and 5090 (`server_args.py`), GiB.
const SMALL_CARD: f64 = 35.0;

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

    /// Whether SGLang reserves as much on cards of 24 and 32 GB as 0.5.23 does. Which release before it raised that is not
    /// known: the older rule holds until then.
    pub(super) fn sglang_small_card_raised(&self) -> bool {
        self.version.is_none_or(|v| v >= Version(0, 5, 23))
    }

    pub(super) fn is_vllm(&self) -> bool {
        matches!(self.rules, Rules::VllmV0 | Rules::VllmV1)
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
/// 20 GiB −0.26, others −0.45 GiB.
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
    } else if gib < 20.0 {
        0.26
    } else {
        0.45
    };
    Bytes::from_gib(gib - kept)
}

/// "A100" and its kin are left out of the large-card defaults (vLLM `EngineArgs._set_default_args`).
fn is_large(gpu: &GpuFacts) -> bool {
    cuda_total(gpu).gib() >= 69.5 && !gpu.name.starts_with("A100")
}

/// `max_num_seqs`: 1024 on large cards in V1 (0.8.0 to 0.8.4 everywhere), else 256 [vLLM 0.18–0.33 wheels].
pub(super) fn max_num_seqs(engine: &Engine, settings: &EngineSettings, gpu: &GpuFacts) -> u64 {
    if let Some(stated) = settings.max_num_seqs {
        return stated.max(1);
    }
    match engine.rules {
        Rules::VllmV1 => {
            let everywhere = engine
                .version
                .is_some_and(|v| v >= Version(0, 8, 0) && v < Version(0, 8, 5));
            if everywhere || is_large(gpu) { 1024 } else { 256 }
        }
        Rules::Trtllm => 2048,
        Rules::LlamaCpp => settings.slots.unwrap_or(1).max(1),
        _ => 256,
    }
}

/// Tokens of one step at most, which the memory profile runs with.
pub(super) fn max_num_batched_tokens(engine: &Engine, settings: &EngineSettings, gpu: &GpuFacts, length: u64) -> u64 {
    if let Some(stated) = settings.max_num_batched_tokens.or(settings.chunked_prefill_size) {
        return stated.clamp(1, 1 << 24);
    }
    let gib = cuda_total(gpu).gib();
    match engine.rules {
        // Chunked prefill turns itself on above 32K tokens (0.5.4 to 0.7), with 512 tokens a step.
        Rules::VllmV0 if length > 32_768 => 2048,
        Rules::VllmV0 => length.max(2048),
        Rules::VllmV1 if gib >= 160.0 && engine.since(0, 22) => 16_384,
        Rules::VllmV1 if is_large(gpu) => 8192,
        Rules::VllmV1 => 2048,
        Rules::Sglang => chunked_prefill(gib, engine.sglang_small_card_raised()),
        Rules::Tgi => 4096,
        Rules::LlamaCpp => 512,
        Rules::Trtllm | Rules::Plain => 8192,
    }
}

/// SGLang's `chunked_prefill_size` by memory (0.5.23 `memory_hook.py`; below 35 GiB 2048 in `server_args.py` of 0.5.5).
fn chunked_prefill(gib: f64, raised: bool) -> u64 {
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

/// SGLang's `mem_fraction_static` (0.5.23 `memory_hook.py`): what is left beside the reserve. `raised`: as it reserves on
/// small cards today.
pub(super) fn mem_fraction(settings: &EngineSettings, total: Bytes, parallelism: Parallelism, raised: bool) -> f64 {
    if let Some(stated) = settings.mem_fraction_static {
        return stated.clamp(0.0, 1.0);
    }
    let gib = total.gib();
    // Data-parallel attention divides the prefill chunk among its ranks.
    let shared = if settings.dp_attention == Some(true) {
        parallelism.data.max(1)
    } else {
        1
    };
    let chunk = settings
        .chunked_prefill_size
        .unwrap_or_else(|| chunked_prefill(gib, raised));
    let chunk = (chunk / u64::from(shared)).max(2048) as f64;
    let tensor = parallelism.tensor;
    let graphs = match gib {
        g if g < 20.0 => 8.0,
        // 0.5.5: 80 sizes of graphs, 24 below four ranks.
        g if g < SMALL_CARD && !raised => {
            if tensor >= 4 {
                80.0
            } else {
                24.0
            }
        }
        g if g < 60.0 => {
            if tensor >= 4 {
                160.0
            } else {
                40.0
            }
        }
        _ if tensor >= 4 => 512.0,
        _ => 256.0,
    };
    let ranks = f64::from(tensor) * f64::from(parallelism.pipeline);
    let mut reserved = 512.0 + 1.5 * chunk + ranks / 8.0 * 1024.0 + 2.0 * graphs;
    if gib > 60.0 {
        reserved = reserved.max(10_240.0);
    }
    (1.0 - reserved / (gib * 1024.0)).clamp(0.1, 0.95)
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
