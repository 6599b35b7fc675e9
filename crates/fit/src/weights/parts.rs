//! Parameters by the way they are cut and quantized.

use crate::catalog::models::{Attention, LayerKind, ModelFacts, State, Task};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts {
    /// One of embedding and head; a tied model has one copy.
    pub(crate) vocab: f64,
    pub(crate) vocab_copies: f64,
    /// Routed experts.
    pub(crate) experts: f64,
    /// Experts that every token meets.
    pub(super) shared: f64,
    /// Expert routers: 16 bit, on every rank.
    pub(super) router: f64,
    /// K and V projections, which cannot be cut finer than the KV heads.
    pub(super) kv_projections: f64,
    pub(super) kv_heads: f64,
    /// MLA's down-projections, on every rank.
    pub(super) replicated: f64,
    /// Attention's other parameters; data-parallel attention repeats them.
    pub(super) attention: f64,
    /// Recurrent layers' projections.
    pub(super) recurrent: f64,
    /// Dense layers, everything else.
    pub(super) rest: f64,
    pub(super) towers: f64,
    /// MLA's up-projections.
    pub(super) absorbed: f64,
}

/// `None`: the number of parameters is not known.
pub(crate) fn parts(model: &ModelFacts) -> Option<Parts> {
    let total = model.parameters.filter(|p| *p > 0)? as f64;
    let hidden = f64::from(model.hidden.unwrap_or(0));
    let vocab = (hidden * model.vocab.unwrap_or(0) as f64).min(total * 0.49);
    // Encoders and embedders have no output head.
    let one_copy = model.tied_embeddings.unwrap_or(false) || model.task != Task::Generate;
    let mut p = Parts {
        vocab,
        vocab_copies: if one_copy { 1.0 } else { 2.0 },
        towers: (model.tower_parameters as f64).min(total),
        kv_heads: f64::INFINITY,
        ..Parts::default()
    };
    let room = (total - p.vocab * p.vocab_copies - p.towers).max(0.0);
    experts(model, hidden, room, &mut p);
    mixers(model, hidden, &mut p);
    let rest = (room - p.experts - p.router - p.shared).max(0.0);
    if p.kv_projections + p.replicated > rest {
        p.kv_projections = 0.0;
        p.replicated = 0.0;
    }
    let rest = rest - p.kv_projections - p.replicated;
    p.attention = p.attention.min(rest);
    p.recurrent = p.recurrent.min(rest - p.attention);
    p.rest = (rest - p.attention - p.recurrent).max(0.0);
    Some(p)
}

fn experts(model: &ModelFacts, hidden: f64, room: f64, p: &mut Parts) {
    let Some(e) = model.experts else { return };
    let layers = f64::from(e.layers);
    p.router = (layers * hidden * f64::from(e.count)).min(room * 0.05);
    // Gated experts have three matrices; ungated (Nemotron-H) two; latent ones are narrower than the model.
    let matrix = layers * hidden * f64::from(e.intermediate);
    let all = matrix * f64::from(e.count);
    let matrices = [3.0, 2.0].into_iter().find(|n| n * all <= room * 1.005);
    p.experts = matrices.map_or(room * 0.9, |n| n * all).min(room - p.router);
    let shared = matrices.unwrap_or(3.0) * matrix * f64::from(e.shared);
    p.shared = shared.min((room - p.router - p.experts).max(0.0));
}

fn mixers(model: &ModelFacts, hidden: f64, p: &mut Parts) {
    for group in &model.groups {
        let layers = f64::from(group.layers);
        let attends = match &group.kind {
            LayerKind::Full(a)
            | LayerKind::Sliding { attention: a, .. }
            | LayerKind::Chunked { attention: a, .. }
            | LayerKind::Compressed { attention: a, .. } => *a,
            LayerKind::Parallel { attention: a, state } => {
                p.recurrent += layers * projections(state, hidden);
                *a
            }
            LayerKind::Recurrent(state) => {
                p.recurrent += layers * projections(state, hidden);
                continue;
            }
            LayerKind::SharedKv | LayerKind::None => continue,
        };
        attention(attends, layers, hidden, p);
    }
}

/// Projections of a recurrent layer from its state: inputs as wide as the convolution and one gate, and the output. The
/// convolution has three taps of state; the recurrent state is 128 wide in every model that is served (16 in Mamba-1).
fn projections(state: &State, hidden: f64) -> f64 {
    let width = state.conv_elements as f64 / 3.0;
    let inner = state.recurrent_elements as f64 / 128.0;
    if state.recurrent_elements == 0 {
        return 4.0 * hidden * width;
    }
    hidden * (width + 2.0 * inner.min(width))
}

fn attention(attention: Attention, layers: f64, hidden: f64, p: &mut Parts) {
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
            let up = f64::from(kv_lora_rank) * f64::from(heads) * f64::from(nope_dim + v_head_dim);
            p.attention += layers * (query * q_lora_rank.map_or(hidden, f64::from) + out * hidden + up);
            p.absorbed += layers * up;
        }
        Attention::Bidirectional { .. } => {}
    }
}
