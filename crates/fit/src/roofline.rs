//! The step-time model's inputs for a placement: what is read, what is multiplied, on which card, by which engine.

use super::defaults::{Engine as Defaults, Rules};
use super::kv::Context;
use super::memory::Case;
use super::quantization::Family;
use super::speed::{Card, Engine, Structure};
use super::{Roofline, weights};
use crate::catalog::models::{Attention, LayerKind, ModelFacts};
use crate::engine::{MemoryRules, memory_rules};
use crate::snapshot::server::EngineKind;

/// `None`: the card's bandwidth or peak, or the model's size, is not known.
pub(super) fn of(case: &Case<'_>, context: &Context) -> Option<Roofline> {
    let model = case.model;
    let parts = weights::parts(model)?;
    let layers = model.layers()?;
    let compute_bits = compute_bits(case);
    let (flops_16, flops) = peaks(case, compute_bits)?;
    let total = model.parameters? as f64;
    // The input embedding is looked up, not read; a tied one is read as the head. Towers run for the prompt alone.
    let embedding = if parts.vocab_copies > 1.0 { parts.vocab } else { 0.0 };
    let body = (total - parts.experts - parts.vocab - embedding - model.tower_parameters as f64).max(0.0);
    let experts = model.experts.filter(|e| e.count > 0);
    let (count, per_token) = experts.map_or((0.0, 0.0), |e| (f64::from(e.count), f64::from(e.per_token)));
    let share = if count > 0.0 { per_token / count } else { 0.0 };
    let (attention_width, windowed_width) = widths(model);
    let (windowed, window) = context.windowed();
    let inside = case.settings.dp_attention == Some(true);
    let data = f64::from(case.parallelism.data.max(1));
    let scheme = &case.scheme;
    Some(Roofline {
        tensor: case.parallelism.tensor.max(1),
        pipeline: case.parallelism.pipeline.max(1),
        attention_ranks: case.spread.attention_ranks,
        data_ranks: if inside { data.min(case.spread.tensor) } else { 1.0 },
        expert_engines: (case.spread.expert_ranks / case.spread.tensor).max(1.0),
        layers,
        hidden: f64::from(model.hidden.unwrap_or(0)),
        kernels: kernels(model, compute_bits < 16),
        dense_bytes: body * scheme.linear_bits / 8.0 + parts.vocab * scheme.vocab_bits / 8.0,
        expert_bytes: parts.experts * scheme.expert_bits / 8.0,
        experts: count,
        experts_per_token: per_token,
        dense_parameters: body + parts.vocab,
        expert_parameters: parts.experts * share,
        attention_width,
        windowed_width,
        structure: structure(model),
        kv_bytes_per_token_per_gpu: context.per_token(),
        windowed_bytes_per_token_per_gpu: windowed,
        window,
        state_bytes: context.state(),
        weight_bits: if count > 0.0 {
            scheme.expert_bits
        } else {
            scheme.linear_bits
        },
        compute_bits,
        bandwidth: case.gpu.bandwidth_gb_s? * 1e9,
        flops,
        flops_16,
        engine: engine(&case.engine, case.settings.engine),
        card: Card::of(case.gpu),
    })
}

/// Heads × (key + value width), summed over layers with full attention, and over windowed ones.
fn widths(model: &ModelFacts) -> (f64, f64) {
    let width = |a: &Attention| match *a {
        Attention::Grouped {
            heads,
            head_dim,
            v_head_dim,
            ..
        } => f64::from(heads) * f64::from(head_dim + v_head_dim),
        Attention::Latent {
            heads,
            nope_dim,
            rope_dim,
            v_head_dim,
            ..
        } => f64::from(heads) * f64::from(nope_dim + rope_dim + v_head_dim),
        Attention::Bidirectional { heads, head_dim } => f64::from(heads) * 2.0 * f64::from(head_dim),
    };
    model.groups.iter().fold((0.0, 0.0), |(full, windowed), group| {
        let layers = f64::from(group.layers);
        match &group.kind {
            LayerKind::Full(a) | LayerKind::Parallel { attention: a, .. } => (full + layers * width(a), windowed),
            LayerKind::Compressed {
                attention: a, ratio, ..
            } => (full + layers * width(a) / f64::from((*ratio).max(1)), windowed),
            LayerKind::Sliding { attention: a, .. } | LayerKind::Chunked { attention: a, .. } => {
                (full, windowed + layers * width(a))
            }
            LayerKind::SharedKv | LayerKind::Recurrent(_) | LayerKind::None => (full, windowed),
        }
    })
}

fn structure(model: &ModelFacts) -> Structure {
    let any = |f: fn(&LayerKind) -> bool| model.groups.iter().any(|g| f(&g.kind));
    Structure {
        latent: any(|k| matches!(k, LayerKind::Full(Attention::Latent { .. }))),
        sparse: any(is_sparse),
        recurrent: any(|k| matches!(k, LayerKind::Recurrent(_) | LayerKind::Parallel { .. })),
        windowed: any(|k| matches!(k, LayerKind::Sliding { .. } | LayerKind::Chunked { .. })),
    }
}

/// An index chooses the tokens that are attended to.
fn is_sparse(kind: &LayerKind) -> bool {
    matches!(
        kind,
        LayerKind::Compressed { .. }
            | LayerKind::Full(Attention::Latent {
                index_head_dim: Some(_),
                ..
            })
    )
}

/// Kernels of one step, counted as engines launch them: norm, QKV, rope, cache write, attention and output for attention;
/// the down- and up-projections and absorbed products of latent attention besides; norm, gate-up, activation and down for
/// dense layers; norm, router, top-k, sort, two grouped products, activation and the sum for experts. Kernels that
/// multiply in 8 or 4 bit have their inputs quantized first, one kernel more each.
fn kernels(model: &ModelFacts, quantized: bool) -> f64 {
    const ATTENTION: f64 = 6.0;
    const LATENT: f64 = 11.0;
    const INDEX: f64 = 6.0;
    const RECURRENT: f64 = 10.0;
    const DENSE: f64 = 4.0;
    const EXPERTS: f64 = 9.0;
    const SHARED: f64 = 4.0;
    let more = if quantized { 2.0 } else { 0.0 };
    let layers = f64::from(model.layers().unwrap_or(0));
    let mixing: f64 = model
        .groups
        .iter()
        .map(|group| {
            let one = match &group.kind {
                LayerKind::Full(Attention::Latent { .. }) | LayerKind::Compressed { .. } => LATENT,
                LayerKind::Recurrent(_) => RECURRENT,
                LayerKind::Parallel { .. } => ATTENTION + RECURRENT,
                LayerKind::None => 0.0,
                _ => ATTENTION,
            };
            let index = if is_sparse(&group.kind) { INDEX } else { 0.0 };
            f64::from(group.layers) * (one + index)
        })
        .sum();
    let (mixtures, shared) = model
        .experts
        .map_or((0.0, false), |e| (f64::from(e.layers).min(layers), e.shared > 0));
    let experts = EXPERTS + more + if shared { SHARED } else { 0.0 };
    mixing + layers * more + (layers - mixtures) * (DENSE + more) + mixtures * experts
}

/// What a kernel multiplies in: weight-only formats are widened to 16 bit, and so is what the card has no units for
/// (Marlin kernels run fp8 and fp4 weights on older cards).
fn compute_bits(case: &Case<'_>) -> u32 {
    let gpu = case.gpu;
    match case.scheme.family {
        Family::Fp8 | Family::Mxfp8 if gpu.fp8_tflops.is_some() => 8,
        Family::Int8 if !weight_only(case) && gpu.int8_tops.is_some() => 8,
        Family::Nvfp4 if gpu.fp4_tflops.is_some() => 4,
        // MXFP4's activations stay wider: fp8 where the card has fp4 units.
        Family::Mxfp4 if gpu.fp4_tflops.is_some() => 8,
        _ => 16,
    }
}

/// W8A16: said by the flag or by the checkpoint.
fn weight_only(case: &Case<'_>) -> bool {
    let says = |text: Option<&str>| {
        let text = text.unwrap_or_default().to_ascii_lowercase();
        ["weight-only", "weight_only", "w8a16", "quanto"]
            .iter()
            .any(|w| text.contains(w))
    };
    says(case.settings.quantization.as_deref()) || says(case.model.quantization.as_deref())
}

/// Peak dense FLOPS at 16 bit, and of what the kernels compute in.
fn peaks(case: &Case<'_>, bits: u32) -> Option<(f64, f64)> {
    let gpu = case.gpu;
    let wide = gpu.bf16_tflops.or(gpu.fp16_tflops)? * 1e12;
    let own = match bits {
        4 => gpu.fp4_tflops,
        8 if case.scheme.family == Family::Int8 => gpu.int8_tops,
        8 => gpu.fp8_tflops,
        _ => None,
    };
    Some((wide, own.map_or(wide, |t| t * 1e12)))
}

fn engine(defaults: &Defaults, kind: Option<EngineKind>) -> Engine {
    match (defaults.rules, memory_rules(kind)) {
        (Rules::VllmV0, _) => Engine::VllmV0,
        // Scheduling and the step run one after the other until 0.11.
        (Rules::VllmV1, MemoryRules::Vllm) if defaults.since(0, 12) => Engine::Vllm,
        (Rules::VllmV1, MemoryRules::Vllm) => Engine::VllmEarly,
        (Rules::Sglang, _) => Engine::Sglang,
        (Rules::Trtllm, _) => Engine::Trtllm,
        _ => Engine::Other,
    }
}
