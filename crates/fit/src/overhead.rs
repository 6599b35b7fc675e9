//! Memory beside weights and KV cache: the activation peak, the runtime, CUDA graphs.
//!
//! Constants are fitted to logged start-ups of servers (weights, non-torch and activation peak in GiB as vLLM prints
//! them); each has its band, since no log states everything.

use super::Parallelism;
use super::defaults::{Engine, Rules, Version};
use crate::catalog::models::{Attention, LayerKind, ModelFacts};
use crate::snapshot::server::EngineSettings;
use crate::units::Bytes;

/// Bytes with a band.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Estimate {
    pub(super) low: f64,
    pub(super) value: f64,
    pub(super) high: f64,
}

impl Estimate {
    fn around(value: f64, low: f64, high: f64) -> Self {
        Self {
            low: value * low,
            value,
            high: value * high,
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            low: self.low + other.low,
            value: self.value + other.value,
            high: self.high + other.high,
        }
    }
}

/// A step's size: what the profile runs with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) sequences: u64,
    pub(super) tokens: u64,
}

/// What of the step is known rather than defaulted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stated {
    pub(super) sequences: bool,
    pub(super) version: bool,
}

/// fp32 logits, their sorted copy, probabilities and masks of the sampler, in bytes per sequence and vocabulary entry:
/// logged 1.26 GiB at 256 × 128,256 and 5.6 at 1024 × 151,936 before 0.12, 1.06 at 256 × 151,936 in 0.26, and at most
/// 1.44 at 1024 × 128,256 in the newest, which sort no more.
fn sampler_bytes(engine: &Engine) -> f64 {
    let known = engine.version.is_some() && engine.rules == Rules::VllmV1;
    match () {
        () if known && engine.since(0, 28) => 20.0,
        () if known && engine.since(0, 12) => 29.0,
        () => 40.0,
    }
}
/// The allocator's smallest peak.
const ACTIVATION_FLOOR: f64 = 70.0 * Bytes::MIB;

/// The peak of one profiled step.
pub(super) fn activation(
    model: &ModelFacts,
    engine: &Engine,
    step: Step,
    parallelism: Parallelism,
    stated: Stated,
) -> Estimate {
    let vocab = model.vocab.unwrap_or(0) as f64;
    let logits = sampler_bytes(engine) * step.sequences as f64 * vocab;
    let tokens = step.tokens as f64 * bytes_per_token(model, parallelism.tensor);
    // Many servers run with fewer sequences than the default; a few versions with four times as many. The step's tokens
    // are what the profile runs with, so their term is surer.
    let newer = stated.version && engine.rules == Rules::VllmV1 && engine.since(0, 12);
    let (low, high) = match (stated.sequences, stated.version) {
        (true, _) if newer => (0.5, 1.4),
        (true, _) => (0.7, 1.3),
        (false, _) if newer => (0.45, 1.4),
        (false, false) if engine.rules == Rules::VllmV1 && step.sequences < 1024 => (0.4, 3.0),
        (false, false) if engine.rules == Rules::VllmV1 => (0.4, 1.3),
        (false, _) => (0.55, 1.3),
    };
    let images = encoder(model, engine);
    let peak = |sampler: f64, layer: f64, tower: f64| {
        (logits * sampler)
            .max(tokens * layer)
            .max(images * tower)
            .max(ACTIVATION_FLOOR)
    };
    let mut estimate = Estimate {
        low: peak(low, 0.75, 0.0),
        value: peak(1.0, 1.0, 1.0),
        high: peak(high, 1.2, 1.3),
    };
    if engine.rules == Rules::VllmV0 && model.model_type == "mllama" {
        // V0 profiles every sequence with an image: 36.6 GiB logged at 128 sequences.
        let images = step.sequences as f64 * 0.286 * Bytes::GIB;
        estimate = estimate.plus(Estimate::around(images, 0.6, 1.5));
    } else if engine.rules == Rules::VllmV0 && model.tower_parameters > 0 {
        // Images per sequence in the profile differ by model; their tokens are part of the step.
        estimate.high = estimate.value * 2.5;
    }
    if engine.rules == Rules::VllmV0 && TILED.contains(&model.model_type.as_str()) {
        // About ten tiles an image, 1,024 patches each, at the tower's inner width of 4,304.
        let tiles = step.sequences as f64 * Bytes::GIB;
        estimate.value += tiles * 0.05;
        estimate.high += tiles * 0.2;
    }
    estimate
}

/// V1 profiles the vision tower with one image of the largest size before the decoder. Qwen's towers take 16,384 tokens
/// of four patches; at 1,152 wide their layers' inner width holds about 2 GiB (logged: 3.3 GiB beside the weights of a
/// server of one sequence and 4,096 tokens). The low end leaves it out: `--language-model-only` and limits on images do.
fn encoder(model: &ModelFacts, engine: &Engine) -> f64 {
    const WIDE: f64 = 0.45e9;
    let takes_any_size = model.model_type.starts_with("qwen") && model.tower_parameters > 0;
    if engine.rules != Rules::VllmV1 || !takes_any_size {
        return 0.0;
    }
    let width = (model.tower_parameters as f64 / WIDE).sqrt().clamp(0.5, 1.5);
    2.0 * Bytes::GIB * width
}

/// Families that cut an image into tiles: vLLM V0 profiles all sequences with images of most tiles.
const TILED: &[&str] = &[
    "minicpmv",
    "minicpmo",
    "internvl",
    "internvl_chat",
    "phi3_v",
    "llava_next",
    "llava_onevision",
    "molmo",
    "interns1",
];

/// Bytes that a token of the step holds at the worst layer.
fn bytes_per_token(model: &ModelFacts, tensor: u32) -> f64 {
    let hidden = f64::from(model.hidden.unwrap_or(4096));
    let t = f64::from(tensor.max(1));
    // DeepSeek-V4's hyper-connections carry four residual streams.
    let streams: f64 = if model.model_type.starts_with("deepseek_v4") {
        4.0
    } else {
        1.0
    };
    if model.experts.is_some() {
        // Gathered and scattered expert inputs; aiconfigurator's table for MoE and DeepSeek, times two bytes.
        let c = match tensor {
            0 | 1 => 22.0,
            2 => 13.0,
            _ => 10.0,
        };
        return 2.0 * c * attention_width(model).unwrap_or(hidden).max(hidden) * streams.sqrt();
    }
    let inner = f64::from(model.intermediate.unwrap_or(0));
    // Gate, up and their product (cut by T), the residual stream and the attention's inputs.
    2.0 * (3.0 * inner / t + 3.5 * hidden * streams)
}

/// Heads × head dim of most attention layers. DeepSeek-V4's latent is no wider than the model.
fn attention_width(model: &ModelFacts) -> Option<f64> {
    if model.model_type.starts_with("deepseek_v4") {
        return None;
    }
    let width = |kind: &LayerKind| match kind {
        LayerKind::Full(a) | LayerKind::Sliding { attention: a, .. } | LayerKind::Chunked { attention: a, .. } => {
            Some(match *a {
                Attention::Grouped { heads, head_dim, .. } | Attention::Bidirectional { heads, head_dim } => {
                    f64::from(heads) * f64::from(head_dim)
                }
                Attention::Latent { heads, v_head_dim, .. } => f64::from(heads) * f64::from(v_head_dim),
            })
        }
        _ => None,
    };
    let most = model.groups.iter().filter_map(|g| Some((g.layers, width(&g.kind)?)));
    most.max_by_key(|(layers, _)| *layers).map(|(_, width)| width)
}

/// CUDA context, NCCL and other memory that PyTorch does not hold.
pub(super) fn runtime(engine: &Engine, parallelism: Parallelism) -> Estimate {
    let several = parallelism.tensor.saturating_mul(parallelism.pipeline) > 1;
    let mut gib = if several { 0.5 } else { 0.08 };
    match engine.rules {
        Rules::VllmV0 if engine.version.is_none_or(|v| v < Version(0, 7, 0)) => gib += 0.26,
        Rules::VllmV1 if engine.version.is_some_and(|v| v < Version(0, 9, 0)) => gib += 0.45,
        // aiconfigurator's lumps for engines whose own accounting is not known.
        Rules::Trtllm => gib += 1.0,
        Rules::Tgi | Rules::Plain => gib += 0.6,
        Rules::LlamaCpp => gib += 0.5,
        _ => {}
    }
    Estimate::around(gib * Bytes::GIB, 0.3, 2.0)
}

/// Other users of the card at start: SGLang sizes its pool by what is free, logged up to 5 % less than the whole.
const OTHERS_SHARE: f64 = 0.05;

/// Memory that SGLang finds taken on the card before it loads (context, NCCL buffers): logged 0.45 GiB at T ≤ 2,
/// 1.0 at 4, 2.4 at 8 and more over NVLink; over PCIe 0.4 at any.
pub(super) fn sglang_taken(parallelism: Parallelism, nvlink: bool, total: Bytes) -> Estimate {
    let gib = match parallelism.tensor {
        _ if !nvlink => 0.45,
        0..=2 => 0.45,
        3..=4 => 1.0,
        _ => 2.4,
    };
    Estimate {
        low: gib * 0.5 * Bytes::GIB,
        value: gib * Bytes::GIB,
        high: gib * Bytes::GIB + OTHERS_SHARE * total.0 as f64,
    }
}

/// CUDA graphs: (inside the budget, outside it). vLLM counts them since 0.20.
pub(super) fn graphs(model: &ModelFacts, engine: &Engine, settings: &EngineSettings) -> (Estimate, f64) {
    if settings.enforce_eager == Some(true) || !engine.is_vllm() {
        return (Estimate::default(), 0.0);
    }
    if engine.rules == Rules::VllmV1 && engine.since(0, 20) {
        return (Estimate::around(0.5 * Bytes::GIB, 0.2, 2.0), 0.0);
    }
    // Logged: V1 0.03–0.06 GiB a layer (67 sizes), V0 0.01–0.03.
    let layers = f64::from(model.layers().unwrap_or(32));
    let a_layer = if engine.rules == Rules::VllmV0 { 0.02 } else { 0.045 };
    (Estimate::default(), a_layer * layers * Bytes::GIB)
}

/// What encoders, pipelines and llama.cpp need beside their weights.
pub(super) fn working_set(model: &ModelFacts, engine: &Engine, step: Step, parallelism: Parallelism) -> Estimate {
    use crate::catalog::models::Task;
    let hidden = f64::from(model.hidden.unwrap_or(1024));
    let inner = f64::from(model.intermediate.unwrap_or(4096));
    let work = match (engine.rules, model.task) {
        // A compute buffer of one micro-batch: logits of 512 tokens in fp32 or the widest layer.
        (Rules::LlamaCpp, _) => {
            let widest = (model.vocab.unwrap_or(128_000) as f64).max(inner) * 4.0;
            Estimate::around((512.0 * widest).max(0.3 * Bytes::GIB), 0.8, 2.0)
        }
        // Activations at 1024² in bf16: 2 to 6 GiB.
        (_, Task::Diffusion) => Estimate {
            low: 2.0 * Bytes::GIB,
            value: 4.0 * Bytes::GIB,
            high: 6.0 * Bytes::GIB,
        },
        (_, Task::Asr) => Estimate::around(1.0 * Bytes::GIB, 0.5, 3.0),
        // Encoders: about 12 · h + 2 · I elements of a token.
        _ => Estimate::around(step.tokens as f64 * 2.0 * (12.0 * hidden + 2.0 * inner), 0.5, 2.0),
    };
    work.plus(runtime(engine, parallelism))
}
