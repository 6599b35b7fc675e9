//! What each layer of a model holds on the fullest GPU.
//!
//! Grouped attention `max(1, KV ÷ T) · (d_k + d_v) · b`; latent attention `(kv_lora + rope) · b` on every rank
//! [vLLM `get_num_kv_heads`, `MLAAttentionSpec`; SGLang `DefaultPoolConfigurator`].

use super::{Holds, compressed, element};
use crate::catalog::models::{Attention, LayerGroup, LayerKind, ModelFacts, State};
use crate::defaults::{Engine, Rules, Version};
use crate::memory::Case;

type Layers = Vec<(f64, Holds)>;

/// One list for each layout that the engine may have, the likeliest first, with what its formats may be off by.
pub(super) fn of(case: &Case<'_>) -> Option<Vec<(Layers, (f64, f64))>> {
    let element = element::bytes(case.settings, &case.scheme)?;
    let latents = latent_bytes(case, element);
    let all = latents.iter().map(|latent| one(case, element, *latent));
    Some(all.collect())
}

/// Where layers of sparse latent attention hold their entries: (bytes an entry, or `None` for elements of the cache's type).
///
/// vLLM packs an fp8 cache of sparse attention (`fp8_ds_mla`): fp8 latent, four fp32 scales, 16-bit rope, 656 bytes. SGLang
/// does so with its own kernels on Hopper, and keeps plain elements with TensorRT-LLM's on Blackwell and, since 0.5.12, with
/// TileLang on AMD (`calculate_mla_kv_cache_dim`).
fn latent_bytes(case: &Case<'_>, element: f64) -> Vec<bool> {
    let sparse = case.model.groups.iter().any(|g| is_indexed(&g.kind));
    if !sparse || element >= 2.0 {
        return vec![false];
    }
    match case.engine.rules {
        Rules::VllmV0 | Rules::VllmV1 => vec![true],
        Rules::Sglang if case.gpu.vendor == "amd" => match case.engine.version {
            Some(v) if v >= Version(0, 5, 12) => vec![false],
            Some(v) if v < Version(0, 5, 9) => vec![true],
            _ => vec![false, true],
        },
        Rules::Sglang => match case.gpu.compute_capability {
            Some(c) if c >= (10, 0) => vec![false],
            Some(_) => vec![true],
            None => vec![true, false],
        },
        _ => vec![false],
    }
}

fn is_indexed(kind: &LayerKind) -> bool {
    matches!(
        kind,
        LayerKind::Full(Attention::Latent {
            index_head_dim: Some(_),
            ..
        })
    )
}

fn one(case: &Case<'_>, element: f64, packed: bool) -> (Layers, (f64, f64)) {
    let mut out = Layers::new();
    let mut doubt = (1.0, 1.0);
    let full = super::windows_as_full(case);
    let tensor = case.spread.attention_ranks;
    let stages = case.spread.pipeline;
    let bytes = |a: Attention| attention_bytes(a, tensor, element, packed, &case.engine);
    // V0 sizes Whisper's cache by `num_hidden_layers`, which counts the encoder's layers, not the decoder's.
    let by_encoder = case.engine.rules == Rules::VllmV0 && case.model.model_type == "whisper";
    // It gives the cross-attention layers of Llama-Vision blocks like all others.
    let every_layer = case.engine.rules == Rules::VllmV0 && case.model.model_type == "mllama";
    let own = case.model.groups.iter().find_map(|g| match g.kind {
        LayerKind::Full(a) => Some(bytes(a)),
        _ => None,
    });
    for group in &case.model.groups {
        let layers = on_fullest_stage(group, case.model, stages);
        if by_encoder {
            if let LayerKind::Full(Attention::Bidirectional { heads, head_dim }) = group.kind {
                let heads = (f64::from(heads) / tensor).ceil();
                add(
                    &mut out,
                    full,
                    layers,
                    Holds::All(heads * 2.0 * f64::from(head_dim) * element),
                );
            }
            continue;
        }
        let mut hold = |holds: Holds| add(&mut out, full, layers, holds);
        match &group.kind {
            LayerKind::Full(a) => hold(Holds::All(bytes(*a))),
            // vLLM and SGLang store DeepSeek-V4's window layers in the same entries as its compressed ones.
            LayerKind::Sliding { window, .. } if case.model.model_type.starts_with("deepseek_v4") => {
                hold(compressed::window(case, *window));
            }
            LayerKind::Sliding { attention, window } => {
                hold(Holds::Window {
                    bytes: bytes(*attention),
                    window: *window,
                });
            }
            LayerKind::Chunked { attention, window } => {
                hold(Holds::Chunk {
                    bytes: bytes(*attention),
                    chunk: *window,
                });
            }
            LayerKind::Compressed {
                ratio,
                window,
                index_head_dim,
                ..
            } => {
                add(&mut out, false, layers, compressed::window(case, *window));
                for held in compressed::layer(case, *ratio, *index_head_dim) {
                    add(&mut out, false, layers, held);
                }
                doubt = compressed::doubt(&case.engine);
            }
            LayerKind::Parallel { attention, state } => {
                hold(Holds::All(bytes(*attention)));
                hold(Holds::State(state_bytes(case, state, tensor)));
            }
            LayerKind::Recurrent(own_state) => hold(Holds::State(state_bytes(case, own_state, tensor))),
            LayerKind::None if every_layer => hold(Holds::All(own.unwrap_or(0.0))),
            LayerKind::SharedKv | LayerKind::None => {}
        }
    }
    draft(case, &mut out);
    (out, doubt)
}

/// Layers of a kind on the stage that has most of them. Kinds alternate, so that each stage gets its share of every kind.
fn on_fullest_stage(group: &LayerGroup, model: &ModelFacts, stages: f64) -> f64 {
    let all = f64::from(model.layers().unwrap_or(group.layers).max(1));
    let fullest = (all / stages).ceil().min(all);
    (f64::from(group.layers) * fullest / all).ceil()
}

fn add(out: &mut Layers, full: bool, layers: f64, holds: Holds) {
    let holds = match holds {
        Holds::Window { bytes, .. } | Holds::Chunk { bytes, .. } if full => Holds::All(bytes),
        other => other,
    };
    if let Some((count, _)) = out.iter_mut().find(|(_, h)| *h == holds) {
        *count += layers;
    } else {
        out.push((layers, holds));
    }
}

/// Layers that a draft keeps in the same pool: one of the model's own attention (MTP, EAGLE: `num_nextn_predict_layers` 1);
/// n-grams and suffixes have none.
fn draft(case: &Case<'_>, out: &mut Layers) {
    let settings = case.settings;
    if settings.speculative != Some(true) {
        return;
    }
    let method = settings.speculative_method.as_deref().unwrap_or_default();
    if ["ngram", "suffix", "medusa"].iter().any(|m| method.contains(m)) {
        return;
    }
    if let Some((layers, _)) = out.iter_mut().find(|(_, h)| matches!(h, Holds::All(_))) {
        *layers += 1.0;
    }
}

/// Bytes a token of one layer, per GPU.
fn attention_bytes(attention: Attention, tensor: f64, element: f64, packed: bool, engine: &Engine) -> f64 {
    match attention {
        Attention::Grouped {
            kv_heads,
            head_dim,
            v_head_dim,
            ..
        } => (f64::from(kv_heads) / tensor).ceil().max(1.0) * f64::from(head_dim + v_head_dim) * element,
        Attention::Latent {
            kv_lora_rank,
            rope_dim,
            index_head_dim,
            ..
        } => {
            // The indexer's keys are fp8 with one fp32 scale per 128 elements.
            let index = index_head_dim.map_or(0.0, |d| f64::from(d) + f64::from(d.div_ceil(128)) * 4.0);
            let latent = if packed {
                f64::from(kv_lora_rank) + 16.0 + 2.0 * f64::from(rope_dim)
            } else {
                f64::from(kv_lora_rank + rope_dim) * element
            };
            latent + index
        }
        // SGLang gives encoders a KV pool of full width; other engines none.
        Attention::Bidirectional { heads, head_dim } if engine.rules == Rules::Sglang => {
            (f64::from(heads) / tensor).ceil() * 2.0 * f64::from(head_dim) * element
        }
        Attention::Bidirectional { .. } => 0.0,
    }
}

/// Convolution and recurrent state of one layer: shapes of vLLM's `MambaStateShapeCalculator`, both cut by the ranks.
fn state_bytes(case: &Case<'_>, state: &State, tensor: f64) -> f64 {
    let settings = case.settings;
    let conv = element::state(settings.mamba_cache_dtype.as_deref()).unwrap_or(2.0);
    // `--mamba-cache-dtype` holds for both parts unless the second flag names its own.
    let recurrent = element::state(settings.mamba_ssm_dtype.as_deref())
        .or_else(|| element::state(settings.mamba_cache_dtype.as_deref()))
        .unwrap_or(state.recurrent_element_bytes);
    (state.conv_elements as f64 * conv + state.recurrent_elements as f64 * recurrent) / tensor
}
