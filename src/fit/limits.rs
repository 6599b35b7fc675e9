//! What forbids a placement whatever its memory: heads and blocks that do not divide, missing units, lengths beyond the model.

use super::memory::Case;
use super::quantization;
use crate::catalog::models::{Attention, LayerKind};

/// The first limit that is broken, in words.
pub(super) fn broken(case: &Case<'_>) -> Option<String> {
    quantization::unsupported(&case.scheme, case.settings, case.gpu)
        .or_else(|| heads(case))
        .or_else(|| stages(case))
        .or_else(|| blocks(case))
        .or_else(|| length(case))
}

fn heads(case: &Case<'_>) -> Option<String> {
    let ranks = case.spread.attention_ranks as u32;
    case.model.groups.iter().find_map(|group| {
        let attention = match &group.kind {
            LayerKind::Full(a)
            | LayerKind::Sliding { attention: a, .. }
            | LayerKind::Chunked { attention: a, .. }
            | LayerKind::Compressed { attention: a, .. }
            | LayerKind::Parallel { attention: a, .. } => a,
            LayerKind::SharedKv | LayerKind::Recurrent(_) | LayerKind::None => return None,
        };
        let (Attention::Grouped { heads, .. }
        | Attention::Latent { heads, .. }
        | Attention::Bidirectional { heads, .. }) = *attention;
        (ranks > 0 && heads > 0 && heads % ranks != 0)
            .then(|| format!("{heads} attention heads are not divisible by tensor parallelism {ranks}"))
    })
}

fn stages(case: &Case<'_>) -> Option<String> {
    let layers = case.model.layers()?;
    let stages = case.parallelism.pipeline;
    (stages > layers).then(|| format!("{layers} layers cannot be cut into {stages} pipeline stages"))
}

/// fp8 blocks and integer groups may not be cut across ranks (vLLM refuses; expert parallelism cuts whole experts).
fn blocks(case: &Case<'_>) -> Option<String> {
    let tensor = case.parallelism.tensor;
    if tensor == 1 {
        return None;
    }
    let experts_whole = case.settings.expert_parallel == Some(true);
    let width = match case.model.experts {
        Some(_) if experts_whole => return None,
        Some(e) => e.intermediate,
        None => case.model.intermediate?,
    };
    let quantized = case.model.experts.is_none() || case.scheme.expert_bits < 16.0;
    let block = case.scheme.block.filter(|_| quantized)?;
    let cut = width % (tensor * block) != 0;
    cut.then(|| {
        format!("the intermediate size {width} cut by tensor parallelism {tensor} is no multiple of the fp8 block of {block}; use expert parallelism or a smaller one")
    })
}

/// Engines refuse a longer context than the model's own.
fn length(case: &Case<'_>) -> Option<String> {
    let (stated, own) = (case.settings.max_model_len?, case.model.max_positions?);
    let strict = case.engine.is_vllm() && case.model.verified;
    (strict && stated > own).then(|| format!("max_model_len {stated} is beyond the model's {own} positions"))
}
