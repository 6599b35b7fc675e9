//! The peak of one step through the decoder, in bytes a token of the step.

use super::super::amount::Amount;
use super::super::defaults::{Rules, Version};
use super::super::memory::Case;
use crate::catalog::models::{Attention, LayerKind, ModelFacts};
use crate::units::Bytes;

/// The allocator's smallest peak.
const FLOOR: f64 = 70.0 * Bytes::MIB;
/// Copies of the residual stream beside a layer's own tensors: the stream, its norm and the layer's output.
const STREAMS: f64 = 3.5;

/// Hidden states of all tokens of a step, which stay until the sampler is done.
pub(super) fn hidden_states(case: &Case<'_>) -> f64 {
    case.step.tokens as f64 * f64::from(case.model.hidden.unwrap_or(4096)) * 2.0
}

/// A step of the profiled size. The step's tokens are what the profile runs with: where no flag states them, an engine that is
/// used as a library runs with more.
pub(super) fn peak(case: &Case<'_>) -> Amount {
    let tokens = case.step.tokens as f64;
    let tensors = tokens * dense(case);
    // One thread speaks for what is reserved: the band holds what the tensors alone take, too.
    let held = tensors * reserved(case);
    let dense = Amount::new(tensors * 0.75, held, held * 1.25);
    let bytes = match case.model.experts {
        None => dense,
        Some(_) => Amount::around(mixture(case), 0.6, 1.5).larger(dense),
    };
    bytes.larger(Amount::exact(FLOOR))
}

/// Until 0.6.3 the first engine took the peak from what was gone from the card, segments of PyTorch's allocator with what was
/// free in them (`determine_num_available_blocks`, read in 0.5.4 and 0.6.2), not what tensors held: 171 kB a token where the
/// tensors are 143 (one thread, two lengths).
const RESERVED: f64 = 1.2;

fn reserved(case: &Case<'_>) -> f64 {
    let by_card = case.engine.rules == Rules::VllmV0 && case.engine.version.is_some_and(|v| v < Version(0, 6, 4));
    if by_card { RESERVED } else { 1.0 }
}

/// Gate, up and their product (cut by the ranks), or the attention's inputs and output where they are wider, and the
/// residual stream. DeepSeek-V4's hyper-connections carry four streams.
fn dense(case: &Case<'_>) -> f64 {
    let model = case.model;
    let hidden = f64::from(model.hidden.unwrap_or(4096));
    let ranks = case.spread.tensor;
    let streams = if model.model_type.starts_with("deepseek_v4") {
        4.0
    } else {
        1.0
    };
    let inner = if model.experts.is_some() {
        0
    } else {
        model.intermediate.unwrap_or(0)
    };
    let mlp = 3.0 * f64::from(inner) / ranks;
    let mixer = 2.5 * attention_width(model).unwrap_or(hidden) / case.spread.attention_ranks;
    2.0 * (mlp.max(mixer) + STREAMS * hidden * streams)
}

/// The tokens of a step through the experts. With data parallelism each rank gathers those of all of them
/// (`all2all_backend` naive, since 0.11 allgather_reducescatter: the defaults, read in 0.10.2 to 0.33); the experts' own buffers
/// were chunked by `VLLM_FUSED_MOE_CHUNK_SIZE`, 32,768 tokens to 0.10, 16,384 in 0.12 to 0.16, not in 0.20.
pub(super) fn mixture(case: &Case<'_>) -> f64 {
    let tokens = case.step.tokens as f64;
    if case.engine.rules != Rules::VllmV1 || case.parallelism.data <= 1 {
        return tokens * experts(case);
    }
    let gathered = tokens * f64::from(case.parallelism.data);
    let chunk = match case.engine.version {
        Some(v) if v < Version(0, 11, 0) => 32_768.0,
        Some(v) if v < Version(0, 19, 0) => 16_384.0,
        _ => f64::INFINITY,
    };
    // Inputs of all ranks, and the sums that go back to them.
    let states = gathered * f64::from(case.model.hidden.unwrap_or(4096)) * 2.0 * 2.0;
    gathered.min(chunk) * experts(case) + states
}

/// Bytes of a token sent to its experts: inputs and outputs of all chosen experts share a buffer, the gated product has another
/// (`vllm/model_executor/layers/fused_moe`: `intermediate_cache13`, `intermediate_cache2`), and the tokens themselves.
fn experts(case: &Case<'_>) -> f64 {
    let Some(e) = case.model.experts else { return 0.0 };
    let hidden = f64::from(case.model.hidden.unwrap_or(4096));
    // Expert parallelism keeps whole experts: its buffers have the full width, for all tokens (`w1.shape`, 0.8.4 to 0.33).
    let whole = case.engine.is_v1() && case.settings.expert_parallel == Some(true);
    let cut = if whole {
        1.0
    } else {
        case.spread.expert_ranks.min(case.spread.tensor)
    };
    let inner = f64::from(e.intermediate) / cut;
    let chosen = f64::from(e.per_token.max(1));
    let shared = f64::from(e.shared) * 3.0 * f64::from(e.intermediate) / case.spread.tensor;
    2.0 * (chosen * (hidden.max(2.0 * inner) + inner) + shared + (STREAMS + 1.5) * hidden)
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
