//! The engine's own order of taking memory, step by step: what is held, what a profiled step peaks at, what lies outside the
//! budget, and what comes after the pool. One list for each generation of an engine; each step a function of its own.

mod encoder;
mod forward;
mod graphs;
mod runtime;
mod sampler;
mod working_set;

use super::amount::Amount;
use super::defaults::{Rules, Version};
use super::memory::Case;
use super::paths;

/// When a step's memory is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Before the engine measures anything: it lies outside a budget that is a share of the card.
    Before,
    /// From loading on, for good.
    Held,
    /// While the engine profiles, the encoder first, then the decoder: of all of these the largest counts.
    Encoder,
    Decoder,
    /// After the pool is taken, beside what the profile left room for.
    After,
}

/// One step of a start.
pub(super) struct Step {
    /// What it is, in the words of the reasons.
    pub(super) name: &'static str,
    /// Repository, file and the releases that were read.
    #[allow(dead_code, reason = "the source of the figure; a test demands it")]
    pub(super) source: &'static str,
    pub(super) when: When,
    pub(super) bytes: fn(&Case<'_>) -> Amount,
}

macro_rules! step {
    ($name:literal, $when:ident, $bytes:path, $source:literal) => {
        Step {
            name: $name,
            source: $source,
            when: When::$when,
            bytes: $bytes,
        }
    };
}

/// vLLM's first engine, until 0.8 (0.10 on old cards).
const VLLM_V0: &[Step] = &[
    step!(
        "runtime",
        Held,
        runtime::vllm,
        "vllm: vllm/worker/worker.py, memory_profiling (0.6.6)"
    ),
    step!(
        "images",
        Decoder,
        encoder::first_engine,
        "vllm: vllm/worker/model_runner.py, profile_run (0.6.6)"
    ),
    step!(
        "a step's activations",
        Decoder,
        forward::peak,
        "vllm: vllm/worker/model_runner.py, profile_run (0.6.6)"
    ),
    step!(
        "the sampler",
        Decoder,
        sampler::peak,
        "vllm: vllm/model_executor/layers/sampler.py (0.6.6)"
    ),
    step!(
        "CUDA graphs",
        After,
        graphs::captured,
        "vllm: vllm/worker/model_runner.py, capture_model (0.6.6)"
    ),
    step!(
        "late buffers",
        After,
        runtime::late,
        "logs: memory beside the budget after the start"
    ),
];

/// 0.8: the card's whole use is counted, the context included.
const VLLM_0_8: &[Step] = &[
    step!(
        "the CUDA context",
        Held,
        runtime::context,
        "vllm: vllm/v1/worker/gpu_worker.py, determine_available_memory (0.8.5)"
    ),
    step!(
        "runtime",
        Held,
        runtime::vllm,
        "vllm: vllm/v1/worker/gpu_worker.py, determine_available_memory (0.8.5)"
    ),
    step!(
        "the encoder",
        Encoder,
        encoder::peak,
        "vllm: vllm/v1/worker/gpu_model_runner.py, profile_run (0.8.5)"
    ),
    step!(
        "a step's activations",
        Decoder,
        forward::peak,
        "vllm: vllm/v1/worker/gpu_model_runner.py, profile_run (0.8.5)"
    ),
    step!(
        "the sampler",
        Decoder,
        sampler::peak,
        "vllm: vllm/v1/sample/ops/topk_topp_sampler.py (0.8.5)"
    ),
    step!(
        "CUDA graphs",
        After,
        graphs::captured,
        "vllm: vllm/v1/worker/gpu_model_runner.py, capture_model (0.8.5)"
    ),
    step!(
        "late buffers",
        After,
        runtime::late,
        "vllm: vllm/v1/worker/gpu_worker.py, compile_or_warm_up_model (0.8.5)"
    ),
];

/// 0.9 to 0.19: a share of the card, measured from the engine's start; graphs come after the pool.
const VLLM_0_9: &[Step] = &[
    step!(
        "the CUDA context",
        Before,
        runtime::context,
        "vllm: vllm/v1/worker/gpu_worker.py, init_device (0.9.2 to 0.19.0)"
    ),
    step!(
        "runtime",
        Held,
        runtime::vllm,
        "vllm: vllm/utils/mem_utils.py, non_torch_increase (0.9.2 to 0.19.0)"
    ),
    step!(
        "the encoder",
        Encoder,
        encoder::peak,
        "vllm: vllm/v1/worker/gpu_model_runner.py, profile_run (0.9.2 to 0.19.0)"
    ),
    step!(
        "a step's activations",
        Decoder,
        forward::peak,
        "vllm: vllm/v1/worker/gpu_model_runner.py, _dummy_run (0.9.2 to 0.19.0)"
    ),
    step!(
        "the sampler",
        Decoder,
        sampler::peak,
        "vllm: vllm/v1/sample/ops/topk_topp_sampler.py (0.9.2 to 0.19.0)"
    ),
    step!(
        "CUDA graphs",
        After,
        graphs::captured,
        "vllm: vllm/v1/worker/gpu_model_runner.py, capture_model (0.9.2 to 0.19.0)"
    ),
    step!(
        "the sampler's warm-up",
        After,
        sampler::warm_up,
        "vllm: vllm/v1/worker/gpu_worker.py, compile_or_warm_up_model (0.9.2 to 0.19.0)"
    ),
    step!(
        "FlashInfer's tuning",
        After,
        runtime::tuning,
        "vllm: vllm/model_executor/warmup/kernel_warmup.py, flashinfer_autotune (0.10.2 to 0.19.0)"
    ),
    step!(
        "late buffers",
        After,
        runtime::late,
        "logs: memory beside the budget after the start"
    ),
];

/// From 0.20 on: graphs are measured before the pool and counted. The second model runner keeps counters of its own.
const VLLM_0_20: &[Step] = &[
    step!(
        "the CUDA context",
        Before,
        runtime::context,
        "vllm: vllm/v1/worker/gpu_worker.py, init_device (0.20.0 to 0.33.0)"
    ),
    step!(
        "runtime",
        Held,
        runtime::vllm,
        "vllm: vllm/utils/mem_utils.py, total_consumed (0.20.0 to 0.33.0)"
    ),
    step!(
        "the sampler's counters",
        Held,
        sampler::counters,
        "vllm: vllm/v1/worker/gpu/sample/penalties.py (0.22.1 to 0.33.0)"
    ),
    step!(
        "CUDA graphs",
        Held,
        graphs::estimated,
        "vllm: vllm/v1/worker/gpu_model_runner.py, profile_cudagraph_memory (0.19.0 to 0.33.0)"
    ),
    step!(
        "the encoder",
        Encoder,
        encoder::peak,
        "vllm: vllm/v1/worker/gpu_model_runner.py, profile_run (0.20.0 to 0.33.0)"
    ),
    step!(
        "a step's activations",
        Decoder,
        forward::peak,
        "vllm: vllm/v1/worker/gpu_model_runner.py, _dummy_run (0.20.0 to 0.33.0)"
    ),
    step!(
        "the sampler",
        Decoder,
        sampler::peak,
        "vllm: vllm/v1/sample/ops/topk_topp_sampler.py, vllm/v1/worker/gpu/sample/sampler.py (0.20.0 to 0.33.0)"
    ),
    step!(
        "uncounted counters",
        After,
        sampler::uncounted_counters,
        "vllm: vllm/v1/worker/gpu/sample/penalties.py (0.22.1 to 0.26.0)"
    ),
    step!(
        "the sampler's warm-up",
        After,
        sampler::warm_up,
        "vllm: vllm/v1/worker/gpu/warmup.py, warmup_kernels (0.22.1 to 0.30.0)"
    ),
    step!(
        "FlashInfer's tuning",
        After,
        runtime::tuning,
        "vllm: vllm/model_executor/warmup/kernel_warmup.py, flashinfer_autotune (0.20.0 to 0.33.0)"
    ),
    step!(
        "late buffers",
        After,
        runtime::late,
        "logs: memory beside the budget after the start"
    ),
];

/// SGLang takes its pool from what was free at start; activations, graphs and the rest must find room in what it leaves.
const SGLANG: &[Step] = &[
    step!(
        "the CUDA context and NCCL",
        Before,
        runtime::sglang,
        "sglang: srt/model_executor/model_runner.py, init_torch_distributed (0.4.9 to 0.5.23)"
    ),
    step!(
        "a step's activations",
        After,
        forward::peak,
        "sglang: srt/arg_groups/memory_hook.py, reserved_mem (0.5.23)"
    ),
    step!(
        "CUDA graphs",
        After,
        graphs::sglang,
        "sglang: srt/arg_groups/memory_hook.py, reserve_for_graph_mb (0.5.23)"
    ),
];

/// TensorRT-LLM gives a share of what is free after loading and one dummy step.
const TRTLLM: &[Step] = &[
    step!(
        "runtime",
        Held,
        runtime::trtllm,
        "TensorRT-LLM: tensorrt_llm/_torch/pyexecutor/_util.py, KvCacheCreator (0.19 to 1.3)"
    ),
    step!(
        "a step's activations",
        Held,
        forward::peak,
        "TensorRT-LLM: tensorrt_llm/_torch/pyexecutor/_util.py (0.19 to 1.3)"
    ),
    step!(
        "the decoder's buffers",
        Held,
        sampler::trtllm,
        "TensorRT-LLM: cpp/tensorrt_llm/runtime/gptDecoderBatched.cpp (0.19)"
    ),
];

const TGI: &[Step] = &[
    step!(
        "runtime",
        Held,
        runtime::plain,
        "aiconfigurator 0.12: lumps for engines without a profile"
    ),
    step!(
        "a step's activations",
        Held,
        forward::peak,
        "text-generation-inference: server/models/flash_causal_lm.py, warmup (3.0)"
    ),
    step!(
        "the sampler",
        Held,
        sampler::peak,
        "text-generation-inference: server/models/flash_causal_lm.py, warmup (3.0)"
    ),
];

/// llama.cpp and what keeps no pool: a compute buffer or a working set beside the weights.
const PLAIN: &[Step] = &[
    step!(
        "runtime",
        Held,
        runtime::plain,
        "aiconfigurator 0.12: lumps for engines without a profile"
    ),
    step!(
        "the working set",
        Held,
        working_set::bytes,
        "llama.cpp: src/llama-context.cpp, graph_reserve"
    ),
];

/// The steps of a start of this engine with this model.
pub(super) fn of(case: &Case<'_>) -> &'static [Step] {
    if !case.pooled() {
        return PLAIN;
    }
    match case.engine.rules {
        Rules::VllmV0 => VLLM_V0,
        Rules::VllmV1 => match case.engine.version {
            Some(v) if v < Version(0, 9, 0) => VLLM_0_8,
            _ if !paths::graphs_counted(&case.engine) => VLLM_0_9,
            _ => VLLM_0_20,
        },
        Rules::Sglang => SGLANG,
        Rules::Trtllm => TRTLLM,
        Rules::Tgi => TGI,
        Rules::LlamaCpp | Rules::Plain => PLAIN,
    }
}

/// What the steps add up to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ledger {
    /// Outside the budget, before it is measured.
    pub(super) before: Amount,
    /// Inside the budget: held, and the largest peak.
    pub(super) overhead: Amount,
    /// After the pool.
    pub(super) after: Amount,
}

/// The sampler runs when the step's hidden states are still there, and the encoder's outputs of the profile are kept over
/// both; where the allocator does not return the encoder's segments, its peak adds to the decoder's.
pub(super) fn replay(case: &Case<'_>) -> Ledger {
    let mut ledger = Ledger::default();
    let (mut encoder, mut decoder) = (Amount::ZERO, Amount::ZERO);
    for step in of(case) {
        let bytes = (step.bytes)(case);
        match step.when {
            When::Before => ledger.before = ledger.before.plus(bytes),
            When::Held => ledger.overhead = ledger.overhead.plus(bytes),
            When::Encoder => encoder = encoder.plus(bytes),
            When::Decoder => decoder = decoder.larger(bytes),
            When::After => ledger.after = ledger.after.plus(bytes),
        }
    }
    let kept = encoder::outputs(case);
    let peak = encoder.larger(decoder.plus(kept));
    let piled = Amount {
        high: peak.high.max(decoder.high + encoder.high),
        ..peak
    };
    ledger.overhead = ledger.overhead.plus(piled);
    ledger
}

/// The largest step after the pool, for the reasons.
pub(super) fn after_names(case: &Case<'_>) -> &'static str {
    of(case)
        .iter()
        .filter(|s| s.when == When::After)
        .map(|s| (s.name, (s.bytes)(case).high))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map_or("buffers", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_source_and_a_name_of_its_own() {
        for list in [VLLM_V0, VLLM_0_8, VLLM_0_9, VLLM_0_20, SGLANG, TRTLLM, TGI, PLAIN] {
            for (i, step) in list.iter().enumerate() {
                assert!(step.source.contains(": ") && !step.name.is_empty(), "{}", step.name);
                assert!(list[..i].iter().all(|s| s.name != step.name), "{}", step.name);
            }
        }
    }
}
