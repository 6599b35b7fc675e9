//! Bytes of weights on the fullest GPU of a placement.

use super::Parallelism;
use super::defaults::{Engine, Rules};
use super::quantization::{Family, Scheme};
use crate::catalog::models::{Attention, LayerKind, ModelFacts, Task};
use crate::engine::{MemoryRules, memory_rules};
use crate::snapshot::server::EngineSettings;
use crate::units::Bytes;

/// Parameters by the way they are cut and quantized.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts {
    /// One of embedding and head; a tied model has one copy.
    pub(super) vocab: f64,
    pub(super) vocab_copies: f64,
    /// Routed experts.
    pub(super) experts: f64,
    /// Expert routers: 16 bit, on every rank.
    router: f64,
    /// K and V projections, which cannot be cut finer than the KV heads.
    kv_projections: f64,
    kv_heads: f64,
    /// MLA's down-projections, on every rank.
    replicated: f64,
    /// Attention's other parameters; data-parallel attention repeats them.
    attention: f64,
    /// Dense layers, shared experts, everything else.
    rest: f64,
    towers: f64,
    /// Recurrent layers' projections, inside `rest`.
    recurrent: f64,
    /// MLA's up-projections, which engines keep a second time, absorbed, at 16 bit.
    absorbed: f64,
}

/// Weights as loaded, per GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    pub(super) low: Bytes,
    pub(super) value: Bytes,
    pub(super) high: Bytes,
}

/// `None`: the number of parameters is not known.
pub(super) fn parts(model: &ModelFacts) -> Option<Parts> {
    let total = model.parameters.filter(|p| *p > 0)? as f64;
    let hidden = f64::from(model.hidden.unwrap_or(0));
    let vocab = (hidden * model.vocab.unwrap_or(0) as f64).min(total * 0.49);
    // Encoders and embedders have no output head.
    let one_copy = model.tied_embeddings.unwrap_or(false) || model.task != Task::Generate;
    let mut p = Parts {
        vocab,
        vocab_copies: if one_copy { 1.0 } else { 2.0 },
        towers: model.tower_parameters as f64,
        kv_heads: f64::INFINITY,
        ..Parts::default()
    };
    let room = (total - p.vocab * p.vocab_copies - p.towers).max(0.0);
    if let Some(e) = model.experts {
        let layers = f64::from(e.layers);
        p.router = (layers * hidden * f64::from(e.count)).min(room * 0.05);
        // Gated experts have three matrices; ungated (Nemotron-H) two; latent ones are narrower than the model.
        let matrix = layers * f64::from(e.count) * hidden * f64::from(e.intermediate);
        p.experts = [3.0, 2.0]
            .into_iter()
            .map(|n| n * matrix)
            .find(|n| *n <= room * 1.005)
            .unwrap_or(room * 0.9)
            .min(room - p.router);
    }
    for group in &model.groups {
        let layers = f64::from(group.layers);
        let attention = match &group.kind {
            LayerKind::Full(a)
            | LayerKind::Sliding { attention: a, .. }
            | LayerKind::Chunked { attention: a, .. }
            | LayerKind::Compressed { attention: a, .. }
            | LayerKind::Parallel { attention: a, .. } => *a,
            LayerKind::Recurrent(state) => {
                // Three taps of convolution over the projected width; the output projection is of its order.
                p.recurrent += layers * hidden * state.conv_elements as f64 / 3.0 * 2.0;
                continue;
            }
            LayerKind::SharedKv | LayerKind::None => continue,
        };
        match attention {
            Attention::Grouped {
                heads,
                kv_heads,
                head_dim,
                v_head_dim,
            } => {
                p.attention += layers * hidden * f64::from(heads) * f64::from(head_dim + v_head_dim);
                p.kv_projections += layers * hidden * f64::from(kv_heads) * f64::from(head_dim + v_head_dim);
                p.kv_heads = p.kv_heads.min(f64::from(kv_heads.max(1)));
            }
            Attention::Latent {
                heads,
                kv_lora_rank,
                rope_dim,
                nope_dim,
                v_head_dim,
                q_lora_rank,
                ..
            } => {
                let down = f64::from(q_lora_rank.unwrap_or(0) + kv_lora_rank + rope_dim);
                p.replicated += layers * hidden * down;
                let query = f64::from(heads) * f64::from(nope_dim + rope_dim);
                let out = f64::from(heads) * f64::from(v_head_dim);
                p.attention += layers * (query * q_lora_rank.map_or(hidden, f64::from) + out * hidden);
                p.attention += layers * f64::from(kv_lora_rank) * f64::from(heads) * f64::from(nope_dim + v_head_dim);
                p.absorbed += layers * f64::from(kv_lora_rank) * f64::from(heads) * f64::from(nope_dim + v_head_dim);
            }
            Attention::Bidirectional { .. } => {}
        }
    }
    let rest = room - p.experts - p.router;
    if p.kv_projections + p.replicated > rest {
        p.kv_projections = 0.0;
        p.replicated = 0.0;
    }
    let rest = (rest - p.kv_projections - p.replicated).max(0.0);
    p.attention = p.attention.min(rest);
    p.rest = rest - p.attention;
    Some(p)
}

/// How the parts are spread.
pub(super) struct Spread {
    pub(super) tensor: f64,
    pub(super) pipeline: f64,
    /// Ranks that share the experts.
    pub(super) expert_ranks: f64,
    /// Ranks that share attention and dense layers.
    pub(super) attention_ranks: f64,
}

/// Expert and attention ranks: EP spreads experts over TP × DP (vLLM) or over TP (SGLang, whose DP ranks of
/// data-parallel attention are TP ranks).
pub(super) fn spread(engine: &Engine, settings: &EngineSettings, parallelism: Parallelism) -> Spread {
    let tensor = f64::from(parallelism.tensor.max(1));
    let data = f64::from(parallelism.data.max(1));
    let dp_attention = settings.dp_attention == Some(true);
    let sglang = engine.rules == Rules::Sglang;
    let expert_ranks = if settings.expert_parallel == Some(true) && !sglang && !dp_attention {
        tensor * data
    } else {
        tensor
    };
    Spread {
        tensor,
        pipeline: f64::from(parallelism.pipeline.max(1)),
        expert_ranks,
        attention_ranks: if dp_attention { (tensor / data).max(1.0) } else { tensor },
    }
}

/// Bytes on the fullest GPU, with their band.
pub(super) fn per_gpu(
    model: &ModelFacts,
    scheme: &Scheme,
    engine: &Engine,
    settings: &EngineSettings,
    parallelism: Parallelism,
) -> Option<Weights> {
    let p = parts(model)?;
    let s = spread(engine, settings, parallelism);
    let layers = f64::from(model.layers().unwrap_or(1).max(1));
    // The largest stage.
    let stage = (layers / s.pipeline).ceil().min(layers) / layers;
    let linear = scheme.linear_bits / 8.0;
    let wide = if scheme.family == Family::None { linear } else { 2.0 };
    let experts = p.experts * scheme.expert_bits / 8.0 * padding(model, scheme, s.expert_ranks.min(s.tensor));
    // NVFP4 repositories keep linear attention at 16 bit (all of the mixtures', 21.9 GiB logged for a 35B), or quantize it:
    // of dense models a third of the difference is expected, all of it is in the band.
    let kept = if model.experts.is_some() { 1.0 } else { 0.3 };
    let wider = scheme.state_layers_bits.map_or(0.0, |bits| {
        p.recurrent.min(p.rest) * (bits / 8.0 - linear).max(0.0) / s.tensor
    });
    let absorbs = engine.rules == Rules::Sglang || engine.is_vllm() && engine.since(0, 7);
    let absorbed = if absorbs { p.absorbed * 2.0 } else { 0.0 };
    let body = experts / s.expert_ranks
        + p.attention * linear / s.attention_ranks
        + p.rest * linear / s.tensor
        + p.kv_projections * linear / s.attention_ranks.min(p.kv_heads)
        + p.replicated * linear
        + p.router * wide
        + absorbed / s.attention_ranks;
    // Data-parallel attention repeats the embedding, not the head.
    let vocab = p.vocab * scheme.vocab_bits / 8.0;
    let (embedding, head) = (vocab / s.attention_ranks, vocab / s.tensor * (p.vocab_copies - 1.0));
    let ends = if s.pipeline > 1.0 {
        embedding.max(head)
    } else {
        embedding + head
    };
    let gguf_towers = if scheme.family == Family::Gguf {
        0.0
    } else {
        p.towers * wide / s.tensor
    };
    let mut value = body * stage + ends + gguf_towers + wider * kept * stage;
    let mut spread = scheme.spread;
    if let Some(file) = model
        .file_bytes
        .filter(|_| settings.quantization.is_none() || model.quantization.is_some())
    {
        // The files' exact bytes; the formula only says how they are cut.
        let whole = p.experts * scheme.expert_bits / 8.0
            + (p.rest + p.attention + p.kv_projections + p.replicated) * linear
            + p.router * wide
            + p.vocab * scheme.vocab_bits / 8.0 * p.vocab_copies
            + p.towers * wide;
        if whole > 0.0 {
            value *= (file.0 as f64 / whole).clamp(0.25, 4.0);
            spread = 1.02;
        }
    }
    value += lora(model, settings, &p) / s.tensor;
    if settings.speculative == Some(true) {
        value += draft(model, &p, linear) / s.tensor;
        spread += 0.05;
    }
    let offloaded = settings.cpu_offload.map_or(0.0, |b| b.0 as f64);
    let on_gpu = layers_on_gpu(model, settings);
    let value = (value * on_gpu - offloaded).max(0.0);
    // SGLang tells how much less is free: tensors rounded up by the allocator, and the modules that loading pulls in
    // (0.74 logged where a model's tensors are 0.70 GiB, 1.10 where they are 1.06, 14.98 for 14.96).
    let value = if engine.rules == Rules::Sglang {
        value + 0.04 * Bytes::GIB
    } else {
        value
    };
    let spread = spread + (1.0 - kept) * wider * stage / value.max(1.0);
    let doubt = if model.verified { 1.0 } else { 2.0 };
    // DeepSeek-V4 loads heavier than its formats say, for a cause that is not known.
    let spread = if model.model_type.starts_with("deepseek_v4") {
        spread.max(1.10)
    } else {
        spread
    };
    Some(Weights {
        low: Bytes((value * (1.0 - 0.015 * doubt)) as u64),
        value: Bytes(value as u64),
        high: Bytes((value * (1.0 + (spread - 1.0) * doubt)) as u64),
    })
}

/// gpt-oss is loaded with its hidden size padded to a multiple of 256 (2880 → 3072), and each rank's share of the expert
/// width to one of 128.
fn padding(model: &ModelFacts, scheme: &Scheme, ranks: f64) -> f64 {
    let padded = |size: f64, to: f64| (size / to).ceil() * to / size;
    match (scheme.family, model.hidden, model.experts) {
        (Family::Mxfp4, Some(hidden), Some(e)) if model.model_type == "gpt_oss" && hidden > 0 && e.intermediate > 0 => {
            let share = f64::from(e.intermediate) / ranks;
            let width = if ranks > 1.0 { padded(share, 128.0) } else { 1.0 };
            padded(f64::from(hidden), 256.0) * width
        }
        _ => 1.0,
    }
}

/// vLLM's default `max_lora_rank`.
const RANK: f64 = 16.0;

/// LoRA slots: `max_loras` adapters of rank 16 (vLLM's defaults: 1 adapter, `max_lora_rank` 16) on every linear layer.
fn lora(model: &ModelFacts, settings: &EngineSettings, p: &Parts) -> f64 {
    if settings.lora != Some(true) {
        return 0.0;
    }
    let adapters = settings.max_loras.unwrap_or(1).max(1) as f64;
    let hidden = f64::from(model.hidden.unwrap_or(4096).max(1));
    // A matrix of n parameters gets rank × (rows + columns) ≈ 2 × rank × n ÷ width.
    adapters * 2.0 * RANK * (p.rest + p.attention + p.kv_projections) / hidden * 2.0
}

/// A draft beside the model: one layer and a head of the model's own shape (MTP, EAGLE); separate drafts are of that order.
fn draft(model: &ModelFacts, p: &Parts, linear: f64) -> f64 {
    let layers = f64::from(model.layers().unwrap_or(32).max(1));
    (p.rest + p.attention + p.kv_projections + p.replicated + p.experts) * linear / layers + p.vocab * 2.0 * 0.5
}

/// Share of the layers that llama.cpp keeps on the GPU (`-ngl`).
fn layers_on_gpu(model: &ModelFacts, settings: &EngineSettings) -> f64 {
    match (memory_rules(settings.engine), settings.gpu_layers, model.layers()) {
        (MemoryRules::LlamaCpp, Some(n), Some(layers)) if layers > 0 => (n as f64 / f64::from(layers)).min(1.0),
        _ => 1.0,
    }
}
