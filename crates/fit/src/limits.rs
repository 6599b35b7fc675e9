//! What forbids a placement whatever its memory: heads and blocks that do not divide, missing units, lengths beyond the model.

use super::defaults::Rules;
use super::memory::Case;
use super::quantization;
use crate::catalog::models::{Attention, LayerKind};

/// The first limit that is broken, in words.
pub(super) fn broken(case: &Case<'_>) -> Option<String> {
    engine(case)
        .or_else(|| quantization::unsupported(&case.scheme, case.settings, case.gpu))
        .or_else(|| heads(case))
        .or_else(|| stages(case))
        .or_else(|| blocks(case))
        .or_else(|| length(case))
}

/// Cards that the engine has no kernels for: vLLM's installation guide asks for compute capability 7.0 (7.5 since its
/// wheels moved to CUDA 13 in 0.20, which dropped Volta) or ROCm's gfx90a, gfx942, gfx950, gfx11xx and gfx12xx; SGLang
/// and TGI for 7.5, TensorRT-LLM for 8.0. llama.cpp runs on all.
fn engine(case: &Case<'_>) -> Option<String> {
    let (name, nvidia) = match case.engine.rules {
        Rules::VllmV1 if case.engine.version.is_some() && case.engine.since(0, 20) => ("vLLM since 0.20", (7, 5)),
        Rules::VllmV0 | Rules::VllmV1 => ("vLLM", (7, 0)),
        Rules::Sglang => ("SGLang", (7, 5)),
        Rules::Tgi => ("TGI", (7, 5)),
        Rules::Trtllm => ("TensorRT-LLM", (8, 0)),
        Rules::LlamaCpp | Rules::Plain => return None,
    };
    if let Some((major, minor)) = case.gpu.compute_capability {
        let told = format!(
            "{name} needs compute capability {}.{}, {} has {major}.{minor}",
            nvidia.0, nvidia.1, case.gpu.name
        );
        return ((major, minor) < nvidia).then_some(told);
    }
    if case.gpu.vendor != "amd" {
        return None;
    }
    let architecture = case.gpu.architecture.as_str();
    let served = architecture.starts_with("CDNA") && architecture != "CDNA1"
        || case.engine.is_vllm() && ["RDNA3", "RDNA4"].contains(&architecture);
    let missing = !served || case.engine.rules == Rules::Trtllm;
    missing.then(|| format!("{name} has no kernels for {} ({architecture})", case.gpu.name))
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
    let strict = case.engine.is_vllm() && case.model.verified && !case.settings.stretched;
    (strict && stated > own).then(|| format!("max_model_len {stated} is beyond the model's {own} positions"))
}
