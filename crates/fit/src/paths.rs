//! Code paths that an engine takes by version, model, card and what is installed. What cannot be told is [`Path::Either`]:
//! the band then covers both.

use super::defaults::{Engine, Rules, Version};
use super::memory::Case;
use crate::catalog::models::{LayerKind, ModelFacts, Task};

/// One of two paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    Old,
    New,
    Either,
}

impl Path {
    fn of(known: Option<bool>) -> Self {
        match known {
            Some(true) => Self::New,
            Some(false) => Self::Old,
            None => Self::Either,
        }
    }
}

/// Architectures that 0.24 ran on the second model runner (`DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES`).
const SECOND_IN_0_24: &[&str] = &["qwen3", "deepseek_v2", "qwen2_moe", "granitemoe", "llama", "mistral"];
/// Mixtures that 0.26 to 0.28 ran on it; dense models all.
const SECOND_IN_0_26: &[&str] = &["deepseek_v2", "granitemoe", "qwen2_moe", "longcat_flash"];

/// vLLM's model runner: the second (`vllm/v1/worker/gpu/`) keeps counters for penalties on the card and samples without
/// sorting (`VllmConfig.use_v2_model_runner`; read in 0.22.1, 0.24.0, 0.26.0, 0.28.0, 0.30.0, 0.33.0).
pub(super) fn runner(case: &Case<'_>) -> Path {
    let engine = &case.engine;
    if engine.rules != Rules::VllmV1 {
        return Path::Old;
    }
    let model = case.model;
    let named = |list: &[&str]| list.contains(&model.model_type.as_str());
    let generates = model.task == Task::Generate;
    let Some(version) = engine.version else {
        return Path::Either;
    };
    match version {
        v if v < Version(0, 21, 0) => Path::Old,
        v if v < Version(0, 22, 0) => Path::of((!named(&["qwen3"])).then_some(false)),
        v if v < Version(0, 24, 0) => Path::of(Some(
            generates && named(&["qwen3"]) && model.quantization.is_none() && case.settings.quantization.is_none(),
        )),
        v if v < Version(0, 25, 0) => Path::of(Some(generates && named(SECOND_IN_0_24))),
        v if v < Version(0, 26, 0) => Path::Either,
        v if v < Version(0, 29, 0) => {
            let dense = model.experts.is_none() && !is_hybrid(model);
            Path::of(Some(generates && (dense || named(SECOND_IN_0_26))))
        }
        v if v < Version(0, 30, 0) => Path::Either,
        _ => Path::New,
    }
}

/// How vLLM's first runner (and V0) cuts logits to top-k and top-p: by sorting them in torch, or without
/// (`vllm/v1/sample/ops/topk_topp_sampler.py`). New: FlashInfer's sampler or the Triton kernel.
///
/// 0.8 to 0.11.0 took FlashInfer where it was installed (the images have it, pip does not install it); from then on it was
/// off by default; 0.17 brought the Triton kernel for eight sequences and more; 0.22 turned FlashInfer on again.
pub(super) fn sampler(case: &Case<'_>) -> Path {
    match (case.engine.rules, case.engine.version) {
        (Rules::VllmV0, _) => Path::Old,
        (_, Some(v)) if v >= Version(0, 17, 0) => {
            if case.step.sequences >= 8 || v >= Version(0, 21, 0) {
                Path::New
            } else {
                Path::Old
            }
        }
        (_, Some(v)) if v >= Version(0, 11, 1) => Path::Old,
        (_, Some(_)) if case.gpu.vendor == "amd" => Path::Old,
        (_, _) => Path::Either,
    }
}

/// Graphs are measured before the pool and taken from the budget (`VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS`: off in 0.18
/// to 0.19.1, on in what became 0.20).
pub(super) fn graphs_counted(engine: &Engine) -> bool {
    engine.version.is_none_or(|v| v >= Version(0, 19, 2))
}

/// The budget counts all that is gone from the card since the engine's start, not only what grew while profiling
/// (`MemoryProfilingResult.total_consumed`: in 0.28, not in 0.26).
pub(super) fn counts_consumed(engine: &Engine) -> bool {
    engine.since(0, 28)
}

/// Whether recurrent state is kept for prefix caching, two blocks a request instead of one. Off by default for hybrids up to
/// 0.24, on from 0.26 (`ModelConfig.is_prefix_caching_supported`).
pub(super) fn caches_state(case: &Case<'_>) -> Path {
    match case.settings.prefix_caching {
        Some(stated) => Path::of(Some(stated)),
        None => Path::of(case.engine.between((0, 25), (0, 26))),
    }
}

/// Tokens that may be in flight at once, in steps: 0.26 counts both batches of asynchronous scheduling against a window, 0.24
/// counted one (`VllmConfig.max_in_flight_tokens`).
pub(super) fn counts_both_batches(engine: &Engine) -> Path {
    Path::of(engine.between((0, 25), (0, 26)))
}

/// Recurrent layers beside attention.
pub(super) fn is_hybrid(model: &ModelFacts) -> bool {
    model
        .groups
        .iter()
        .any(|g| matches!(g.kind, LayerKind::Recurrent(_) | LayerKind::Parallel { .. }))
}
