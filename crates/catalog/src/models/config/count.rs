//! The count of parameters (docs/data.md), within 0.5 % of the hub's for the architectures that the tests list.

use super::super::{Attention, LayerKind, Tower, towers as families};
use super::fields::Fields;
use super::layers::Layers;
use super::{MAX_WIDTH, Shape};
use serde_json::Value;

/// Attention of one layer. `gated`: an output gate as wide as the queries (Qwen3-Next). `biased`: on Q, K and V.
pub(super) fn attention(a: &Attention, hidden: u32, gated: bool, biased: bool) -> u64 {
    let h = u64::from(hidden);
    match *a {
        Attention::Grouped {
            heads,
            kv_heads,
            head_dim,
            v_head_dim,
        } => {
            let (heads, kv) = (u64::from(heads), u64::from(kv_heads));
            let (d, v) = (u64::from(head_dim), u64::from(v_head_dim));
            let bias = if biased { heads * d + kv * (d + v) } else { 0 };
            let gate = if gated { h * heads * d } else { 0 };
            h * heads * d + h * kv * (d + v) + heads * v * h + bias + gate
        }
        Attention::Latent {
            heads,
            kv_lora_rank,
            rope_dim,
            nope_dim,
            v_head_dim,
            q_lora_rank,
            index_head_dim,
        } => {
            let heads = u64::from(heads);
            let (lora, rope, nope, v) = (
                u64::from(kv_lora_rank),
                u64::from(rope_dim),
                u64::from(nope_dim),
                u64::from(v_head_dim),
            );
            let queries = q_lora_rank.map_or(h * heads * (nope + rope), |q| {
                u64::from(q) * (h + heads * (nope + rope))
            });
            // The indexer of sparse attention has 64 heads (DeepSeek-V3.2; GLM-5's 32 differ by 0.05 % of the model).
            let index = index_head_dim
                .zip(q_lora_rank)
                .map_or(0, |(d, q)| u64::from(q) * 64 * u64::from(d) + h * u64::from(d) + h * 64);
            queries + h * (lora + rope) + lora * heads * (nope + v) + heads * v * h + index
        }
        Attention::Bidirectional { heads, head_dim } => 4 * h * u64::from(heads) * u64::from(head_dim),
    }
}

/// Layers that read another layer's keys and values have queries and an output projection.
pub(super) fn queries(a: &Attention, hidden: u32) -> u64 {
    match *a {
        Attention::Grouped { heads, head_dim, .. } => 2 * u64::from(hidden) * u64::from(heads) * u64::from(head_dim),
        _ => attention(a, hidden, false, false),
    }
}

/// Projections of a recurrent layer.
pub(super) fn recurrent(kind: &str, of: &dyn Fn(&str) -> Option<u64>, h: u64) -> u64 {
    let d = |name: &str| of(name).unwrap_or(0);
    match kind {
        "mamba1" => {
            let (inner, state, rank) = (d("inner"), d("d_state"), d("rank"));
            2 * h * inner + inner * d("conv") + inner * (rank + 2 * state) + rank * inner + inner * state + inner * h
        }
        "mamba2" => {
            let inner = d("heads") * d("hd");
            let mixed = inner + 2 * d("groups") * d("d_state");
            h * (inner + mixed + d("heads")) + mixed * d("conv") + inner * h
        }
        "gdn" => {
            let (keys, values) = (d("hk") * d("dk"), d("hv") * d("dv"));
            h * (2 * keys + 2 * values) + h * 2 * d("hv") + (2 * keys + values) * d("conv") + values * h
        }
        "kda" => {
            let inner = d("heads") * d("hd");
            4 * h * inner + 2 * d("hd") * (h + inner) + h * d("heads") + 3 * inner * d("conv")
        }
        // Q, K, V, output gate and output.
        "lightning" => 5 * h * d("heads") * d("hd"),
        "shortconv" => 4 * h * d("dim") + d("dim") * d("conv"),
        _ => 0,
    }
}

/// Two matrices (up, down) instead of three (gate, up, down).
pub(super) const PLAIN_MLP: [&str; 22] = [
    "gpt2",
    "opt",
    "bloom",
    "mpt",
    "gpt_neox",
    "starcoder2",
    "gpt_bigcode",
    "phi",
    "nemotron",
    "nemotron_h",
    "apertus",
    "arcee",
    "gptj",
    "codegen",
    "bert",
    "roberta",
    "xlm-roberta",
    "mpnet",
    "distilbert",
    "falcon",
    "RefinedWeb",
    "persimmon",
];

fn plain_mlp(fields: &Fields<'_>, model_type: &str) -> bool {
    PLAIN_MLP.contains(&model_type) || (model_type == "chatglm" && fields.has("inner_hidden_size"))
}

/// Matrices of one feed-forward block or expert.
fn matrices(fields: &Fields<'_>, model_type: &str) -> u64 {
    if plain_mlp(fields, model_type) { 2 } else { 3 }
}

/// Parameters of the decoder; `None` where a part of it is not described.
pub(super) fn decoder(fields: &Fields<'_>, shape: &Shape, layers: &[Layers]) -> Option<u64> {
    let h = u64::from(shape.hidden);
    let count = u64::from(shape.layers);
    let is_compressed = |l: &Layers| matches!(l.group.kind, LayerKind::Compressed { .. });
    let mixers: u64 = if layers.iter().any(is_compressed) {
        count * compressed(fields, shape)?
    } else {
        layers.iter().map(|l| u64::from(l.group.layers) * l.mixer).sum()
    };
    let with_experts = shape.experts.map_or(0, |e| u64::from(e.layers));
    let own = shape.model_type.as_str();
    let dense_layers = match own {
        // One thing a layer: attention, state, or feed-forward.
        "nemotron_h" => fields.text(&["hybrid_override_pattern"])?.matches('-').count() as u64,
        "mamba" | "mamba2" | "falcon_mamba" => 0,
        _ if fields.has("block_configs") => 0,
        // Dense feed-forward beside the experts of every layer.
        t if t.starts_with("gemma4") => count,
        _ => count - with_experts.min(count),
    };
    let per_matrix = matrices(fields, own);
    let dense = match (dense_layers, shape.intermediate) {
        (0, _) => 0,
        (n, Some(width)) => n * per_matrix * h * u64::from(width),
        (_, None) => return None,
    };
    let experts = shape.experts.map_or(0, |e| {
        let (width, n) = (u64::from(shape.expert_width), u64::from(e.intermediate));
        let latent = if shape.expert_width == shape.hidden {
            0
        } else {
            2 * h * width
        };
        let routed = u64::from(e.count) * per_matrix * width * n;
        let shared = u64::from(e.shared) * per_matrix * h * n;
        u64::from(e.layers) * (routed + shared + latent + u64::from(e.count) * h)
    });
    let tables = if shape.tied || super::layers::is_encoder(own) {
        1
    } else {
        2
    } * shape.vocab
        * h;
    Some(mixers + dense + experts + tables + extra(fields, shape) + 2 * count * h)
}

/// Attention of a layer of DeepSeek-V4: low-rank queries, one latent for keys and values, outputs of low rank by groups of heads
/// (`modeling_deepseek_v4.py`). Compressors and indexers, under 2 % of a layer's attention, are not counted.
fn compressed(fields: &Fields<'_>, shape: &Shape) -> Option<u64> {
    let h = u64::from(shape.hidden);
    let small = |name: &'static str| fields.small(&[name], 1 << 24).ok().flatten().map(u64::from);
    let (q_rank, o_rank, groups) = (small("q_lora_rank")?, small("o_lora_rank")?, small("o_groups")?);
    let (heads, head_dim) = (small("num_attention_heads")?, small("head_dim")?);
    let queries = h * q_rank + q_rank * heads * head_dim;
    let outputs = heads * head_dim * o_rank + groups * o_rank * h;
    Some(queries + h * head_dim + outputs)
}

/// Learned positions, and gemma-3n's embeddings of each layer.
fn extra(fields: &Fields<'_>, shape: &Shape) -> u64 {
    let h = u64::from(shape.hidden);
    let learned = matches!(
        shape.model_type.as_str(),
        "gpt2" | "opt" | "gpt_bigcode" | "bert" | "roberta" | "xlm-roberta" | "mpnet"
    );
    let positions = if learned {
        super::positions(fields).unwrap_or(0).min(1 << 20) * h
    } else {
        0
    };
    let small = |name: &'static str| fields.small(&[name], 1 << 24).ok().flatten().map(u64::from);
    let per_layer = small("hidden_size_per_layer_input").map_or(0, |width| {
        let vocab = small("vocab_size_per_layer_input").unwrap_or(shape.vocab);
        u64::from(shape.layers) * width * (vocab + 3 * h)
    });
    positions + per_layer
}

/// Parameters that one token meets.
pub(super) fn active(decoder: u64, shape: &Shape) -> u64 {
    shape.experts.map_or(decoder, |e| {
        let matrices = if shape.model_type == "nemotron_h" { 2 } else { 3 };
        let one = matrices * u64::from(shape.expert_width) * u64::from(e.intermediate);
        decoder.saturating_sub(u64::from(e.layers) * u64::from(e.count - e.per_token) * one)
    })
}

/// Tables that tokens look rows up in (DeepSeek-V4.1's Engram): rows × width.
pub(super) fn tables(fields: &Fields<'_>) -> u64 {
    let rows = fields.list("engram_num_embeddings").map_or(0, |list| {
        list.iter().filter_map(Value::as_u64).fold(0_u64, u64::saturating_add)
    });
    let width = fields.count(&["engram_head_dim"]).unwrap_or(0);
    // No model is larger than this many parameters: more is a broken file.
    rows.saturating_mul(width).min(1 << 44)
}

/// Vision and audio towers: transformer blocks of the usual shape. Within a tenth for CLIP, SigLIP and Qwen's; a tower is a
/// few percent of its model, and weight files, where read, tell the exact bytes.
pub(super) fn towers(root: &Value) -> u64 {
    ["vision_config", "audio_config", "visual", "vision_tower"]
        .iter()
        .filter_map(|name| {
            root.get(*name)
                .or_else(|| root.pointer(&format!("/thinker_config/{name}")))
        })
        .filter(|v| v.is_object())
        .filter_map(tower)
        .sum()
}

fn tower(config: &Value) -> Option<u64> {
    let fields = Fields::new(config);
    let hidden = u64::from(
        fields
            // Qwen2-VL's `hidden_size` is that of its outputs.
            .small(
                &["embed_dim", "hidden_size", "vt_hidden_size", "d_model", "width"],
                MAX_WIDTH,
            )
            .ok()??,
    );
    let depth = u64::from(
        fields
            .small(
                &[
                    "num_hidden_layers",
                    "depth",
                    "vt_num_hidden_layers",
                    "encoder_layers",
                    "layers",
                    "num_layers",
                ],
                4096,
            )
            .ok()??,
    );
    let wide = fields
        .small(
            &[
                "intermediate_size",
                "vt_intermediate_size",
                "encoder_ffn_dim",
                "mlp_dim",
            ],
            MAX_WIDTH,
        )
        .ok()?
        .map_or_else(
            || {
                fields
                    .number(&["mlp_ratio"])
                    .map_or(4 * hidden, |r| (r.clamp(0.5, 16.0) * hidden as f64) as u64)
            },
            u64::from,
        );
    let matrices = if fields.text(&["hidden_act"]).is_some_and(|a| a == "silu") {
        3
    } else {
        2
    };
    Some(depth * (4 * hidden * hidden + matrices * hidden * wide))
}

/// The vision tower as an engine profiles it: the configuration's widths, and what its family says of items and patches.
pub(super) fn profiled_tower(root: &Value, model_type: &str, id: &str) -> Option<Tower> {
    let config = ["/vision_config", "/thinker_config/vision_config", "/visual"]
        .iter()
        .find_map(|path| root.pointer(path))
        .filter(|v| v.is_object())?;
    let fields = Fields::new(config);
    let small = |names: &[&'static str]| fields.small(names, MAX_WIDTH).ok().flatten();
    let family = families::of(model_type, id);
    let hidden = small(&["embed_dim", "vt_hidden_size", "hidden_size", "width"]).or(family.map(|f| f.hidden))?;
    let merge = small(&["spatial_merge_size", "pooling_kernel_size"]).map(|m| f64::from(m * m));
    Some(Tower {
        hidden,
        inner: small(&["intermediate_size", "vt_intermediate_size", "mlp_dim"])
            .or(family.map(|f| f.inner))
            .unwrap_or(hidden.saturating_mul(4)),
        patches_per_token: merge.or(family.map(|f| f.patches_per_token)).unwrap_or(4.0),
        tokens_per_item: family.map_or(4096, |f| f.tokens_per_item),
    })
}

/// The checkpoint's own draft layers: each as one of the decoder's, with the projection of two streams into one.
pub(super) fn drafts(fields: &Fields<'_>, shape: &Shape) -> u64 {
    let layers = fields
        .count(&["num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers"])
        .unwrap_or(0)
        .min(16);
    if layers == 0 {
        return 0;
    }
    let h = u64::from(shape.hidden);
    let matrices = matrices(fields, &shape.model_type);
    let mixer = shape.attention.map_or(0, |a| {
        attention(&a, shape.hidden, shape.model_type.starts_with("qwen3_5"), false)
    });
    let block = shape.experts.map_or_else(
        || matrices * h * u64::from(shape.intermediate.unwrap_or(0)),
        |e| u64::from(e.count + e.shared) * matrices * h * u64::from(e.intermediate),
    );
    layers * (mixer + block + 2 * h * h)
}
