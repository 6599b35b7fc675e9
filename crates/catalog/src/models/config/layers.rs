//! Which layer attends how: lists of layer types, periods and patterns of each architecture.

use super::super::{Attention, LayerGroup, LayerKind, State, state};
use super::count;
use super::fields::Fields;
use super::{MAX_LAYERS, MAX_WIDTH, Shape};
use serde_json::Value;

/// A run of layers with the parameters of what mixes tokens in one of them.
pub(super) struct Layers {
    pub(super) group: LayerGroup,
    pub(super) mixer: u64,
}

/// Kinds of layers as configs and patterns name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Full,
    Sliding,
    Chunked,
    Recurrent,
    Parallel,
    Shared,
    Nothing,
}

const ORDER: [Kind; 7] = [
    Kind::Full,
    Kind::Sliding,
    Kind::Chunked,
    Kind::Parallel,
    Kind::Recurrent,
    Kind::Shared,
    Kind::Nothing,
];

/// Feed-forward layers of width 4 × hidden where the config states none.
pub(super) fn four_times(model_type: &str) -> bool {
    matches!(
        model_type,
        "gpt2" | "gpt_bigcode" | "bloom" | "falcon" | "mpt" | "gptj" | "codegen" | "RefinedWebModel" | "RefinedWeb"
    )
}

/// Defaults of the transformers config classes (5.23): the base class says true, these say so or say nothing.
pub(super) fn tied_by_default(model_type: &str) -> bool {
    let families = [
        "gemma",
        "cohere",
        "gpt2",
        "gpt_bigcode",
        "bloom",
        "opt",
        "mpt",
        "falcon",
        "mamba",
        "starcoder2",
        "bert",
        "roberta",
        "lfm2",
        "t5",
        "whisper",
        "smollm3",
        "granitemoehybrid",
        "xlm-roberta",
        "mpnet",
        "modernbert",
        "minicpm",
    ];
    model_type != "mamba2" && !model_type.starts_with("falcon_h1") && families.iter().any(|f| model_type.starts_with(f))
}

pub(super) fn is_encoder(model_type: &str) -> bool {
    matches!(
        model_type,
        "bert"
            | "roberta"
            | "xlm-roberta"
            | "distilbert"
            | "mpnet"
            | "modernbert"
            | "nomic_bert"
            | "new"
            | "electra"
            | "deberta-v2"
            | "camembert"
    )
}

/// Layers that hold experts.
pub(super) fn with_experts(fields: &Fields<'_>, model_type: &str, layers: u32) -> u32 {
    let number = |name: &'static str| fields.small(&[name], MAX_LAYERS).ok().flatten();
    if let Some(pattern) = fields.text(&["hybrid_override_pattern"]) {
        return pattern.matches('E').count() as u32;
    }
    if let Some(kinds) = fields.list("mlp_layer_types") {
        return kinds.iter().filter(|k| k.as_str() == Some("sparse")).count() as u32;
    }
    if let Some(listed) = fields.list("moe_layers") {
        return listed.len() as u32;
    }
    if let Some(listed) = fields.get("moe_layers_enum").and_then(Value::as_str) {
        return listed.split(',').filter(|n| !n.trim().is_empty()).count() as u32;
    }
    if let Some(frequency) = fields.list("moe_layer_freq") {
        return frequency.iter().filter(|f| f.as_u64() == Some(1)).count() as u32;
    }
    if let Some(period) = number("expert_layer_period") {
        let offset = fields.count(&["expert_layer_offset"]).unwrap_or(0) as u32;
        return (0..layers).filter(|i| i % period == offset % period).count() as u32;
    }
    if let Some(step) = number("interleave_moe_layer_step") {
        return layers / step;
    }
    if let Some(start) = fields.count(&["moe_layer_start_index"]) {
        return layers.saturating_sub(start.min(u64::from(layers)) as u32);
    }
    let dense = fields
        .count(&["first_k_dense_replace", "num_dense_layers"])
        .unwrap_or(0)
        .min(u64::from(layers)) as u32;
    let listed = fields.list("mlp_only_layers").map_or(0, |l| l.len() as u32);
    let step = if model_type.contains("qwen") {
        number("decoder_sparse_step").unwrap_or(1)
    } else {
        1
    };
    (layers - dense).saturating_sub(listed) / step
}

pub(super) fn of(fields: &Fields<'_>, shape: &Shape) -> Result<Vec<Layers>, String> {
    if let Some(blocks) = fields.list("block_configs") {
        return Ok(searched(blocks, shape));
    }
    if let Some(ratios) = fields.list("compress_ratios") {
        return compressed(ratios, fields, shape);
    }
    if is_encoder(&shape.model_type) || is_bidirectional(fields) {
        return Ok(encoder(shape));
    }
    let kinds = kinds(fields, shape)?;
    let window = fields
        .count(&["sliding_window", "attention_chunk_size", "sliding_window_size"])
        .filter(|w| *w > 0);
    let mut out = Vec::new();
    for kind in ORDER {
        let layers = kinds.iter().filter(|k| **k == kind).count() as u32;
        if layers > 0 {
            let (kind, mixer) = built(kind, fields, shape, window)?;
            out.push(Layers {
                group: LayerGroup { layers, kind },
                mixer,
            });
        }
    }
    Ok(out)
}

fn is_bidirectional(fields: &Fields<'_>) -> bool {
    fields.truth(&["is_causal"]) == Some(false) || fields.truth(&["use_bidirectional_attention"]) == Some(true)
}

fn encoder(shape: &Shape) -> Vec<Layers> {
    let Some(Attention::Grouped { heads, head_dim, .. }) = shape.attention else {
        return Vec::new();
    };
    vec![Layers {
        mixer: shape
            .attention
            .map_or(0, |a| count::attention(&a, shape.hidden, false, false)),
        group: LayerGroup {
            layers: shape.layers,
            kind: LayerKind::Full(Attention::Bidirectional { heads, head_dim }),
        },
    }]
}

/// One kind for each layer.
fn kinds(fields: &Fields<'_>, shape: &Shape) -> Result<Vec<Kind>, String> {
    let n = shape.layers;
    let shared = fields.small(&["num_kv_shared_layers"], MAX_LAYERS)?.unwrap_or(0);
    let mut kinds = match listed(fields)? {
        Some(kinds) => kinds,
        None => (0..n).map(|i| periodic(fields, shape, i)).collect(),
    };
    if kinds.len() != n as usize {
        return Err(format!("field 'layer_types': {} entries for {n} layers", kinds.len()));
    }
    for kind in kinds.iter_mut().skip(n.saturating_sub(shared) as usize) {
        *kind = Kind::Shared;
    }
    Ok(kinds)
}

/// Where the config lists its layers one by one.
fn listed(fields: &Fields<'_>) -> Result<Option<Vec<Kind>>, String> {
    if let Some(pattern) = fields.text(&["hybrid_override_pattern"]) {
        let kinds = pattern.chars().map(|c| match c {
            'M' => Kind::Recurrent,
            '*' => Kind::Full,
            _ => Kind::Nothing,
        });
        return Ok(Some(kinds.collect()));
    }
    let flags = |name: &str, one: Kind, zero: Kind| -> Option<Vec<Kind>> {
        let list = fields.list(name)?;
        Some(
            list.iter()
                .map(|v| if v.as_u64() == Some(1) { one } else { zero })
                .collect(),
        )
    };
    if let Some(kinds) = flags("hybrid_layer_pattern", Kind::Sliding, Kind::Full) {
        return Ok(Some(kinds));
    }
    if let Some(kinds) = flags("attn_type_list", Kind::Full, Kind::Recurrent) {
        return Ok(Some(kinds));
    }
    let Some(types) = fields.list("layer_types").or_else(|| fields.list("layers_block_type")) else {
        return Ok(None);
    };
    types
        .iter()
        .map(|t| match t.as_str().unwrap_or_default() {
            "full_attention" | "attention" | "global_attention" | "global" => Ok(Kind::Full),
            "sliding_attention" | "local_attention" | "sliding" | "local" => Ok(Kind::Sliding),
            "chunked_attention" => Ok(Kind::Chunked),
            "linear_attention" | "mamba" | "mamba2" | "conv" | "recurrent" | "short_conv" | "kda" => {
                Ok(Kind::Recurrent)
            }
            "mlp" | "moe" | "ffn" => Ok(Kind::Nothing),
            other => Err(format!("field 'layer_types': '{other}' is not known")),
        })
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Where a period, or the architecture itself, says it.
fn periodic(fields: &Fields<'_>, shape: &Shape, i: u32) -> Kind {
    let period =
        |names: &[&'static str], default: u32| fields.small(names, MAX_LAYERS).ok().flatten().unwrap_or(default);
    let windowed = fields.count(&["sliding_window"]).is_some_and(|w| w > 0);
    let one_full_in = |n: u32, other: Kind| if (i + 1).is_multiple_of(n) { Kind::Full } else { other };
    match shape.model_type.as_str() {
        "mamba" | "mamba2" | "falcon_mamba" => Kind::Recurrent,
        "falcon_h1" => Kind::Parallel,
        "jamba" => {
            let every = period(&["attn_layer_period"], 8);
            let offset = fields.count(&["attn_layer_offset"]).unwrap_or(4) as u32;
            if i % every == offset % every {
                Kind::Full
            } else {
                Kind::Recurrent
            }
        }
        "bamba" => {
            let attends = fields
                .list("attn_layer_indices")
                .is_some_and(|l| l.iter().any(|v| v.as_u64() == Some(u64::from(i))));
            if attends { Kind::Full } else { Kind::Recurrent }
        }
        "kimi_linear" | "kimi_k3" => {
            let full = fields
                .get("linear_attn_config.full_attn_layers")
                .and_then(Value::as_array);
            // Counted from 1 there.
            let attends = full.is_some_and(|l| l.iter().any(|v| v.as_u64() == Some(u64::from(i) + 1)));
            if attends { Kind::Full } else { Kind::Recurrent }
        }
        t if t.starts_with("qwen3_next") || t.starts_with("qwen3_5") => {
            one_full_in(period(&["full_attention_interval"], 4), Kind::Recurrent)
        }
        t if t.starts_with("llama4") => match fields.list("no_rope_layers") {
            // 1: RoPE and chunks; 0: neither.
            Some(list) if list.get(i as usize).and_then(Value::as_u64) == Some(0) => Kind::Full,
            Some(list) if !list.is_empty() => Kind::Chunked,
            _ => one_full_in(period(&["no_rope_layer_interval"], 4), Kind::Chunked),
        },
        "mllama" | "mllama_text_model" => {
            let cross = fields
                .list("cross_attention_layers")
                .is_some_and(|l| l.iter().any(|v| v.as_u64() == Some(u64::from(i))));
            if cross { Kind::Nothing } else { Kind::Full }
        }
        "gemma2" | "gpt_oss" if i.is_multiple_of(2) => Kind::Sliding,
        "gemma2" | "gpt_oss" => Kind::Full,
        t if t.starts_with("gemma3") => one_full_in(period(&["sliding_window_pattern"], 6), Kind::Sliding),
        "cohere2" | "exaone4" if windowed => one_full_in(period(&["sliding_window_pattern"], 4), Kind::Sliding),
        // Qwen2 configs name a window that they do not use.
        t if t.starts_with("qwen") => {
            let used = fields.truth(&["use_sliding_window"]).unwrap_or(false);
            let from = fields.count(&["max_window_layers"]).unwrap_or(0);
            if used && windowed && u64::from(i) >= from {
                Kind::Sliding
            } else {
                Kind::Full
            }
        }
        "mistral" | "phi3" | "starcoder2" | "mixtral" if windowed => Kind::Sliding,
        _ => Kind::Full,
    }
}

fn built(kind: Kind, fields: &Fields<'_>, shape: &Shape, window: Option<u64>) -> Result<(LayerKind, u64), String> {
    let attention = || {
        shape
            .attention
            .ok_or_else(|| "field 'num_attention_heads' is missing".to_string())
    };
    let window = || window.ok_or_else(|| "field 'sliding_window' is missing".to_string());
    let gated = fields.truth(&["attn_output_gate"]).unwrap_or(
        shape.model_type.starts_with("qwen3_next")
            || shape.model_type.starts_with("qwen3_5")
            || shape.model_type.starts_with("muse_glimmer"),
    );
    let biased =
        shape.model_type.starts_with("qwen2") || fields.truth(&["attention_bias", "add_qkv_bias"]).unwrap_or(false);
    let cost = |a: &Attention| count::attention(a, shape.hidden, gated, biased);
    Ok(match kind {
        Kind::Full => {
            let own = widened(
                attention()?,
                fields,
                &["num_global_key_value_heads"],
                &["global_head_dim"],
            );
            (LayerKind::Full(own), cost(&own))
        }
        Kind::Sliding => {
            let own = widened(attention()?, fields, &["swa_num_key_value_heads"], &["swa_head_dim"]);
            (
                LayerKind::Sliding {
                    attention: own,
                    window: window()?,
                },
                cost(&own),
            )
        }
        Kind::Chunked => {
            let own = attention()?;
            (
                LayerKind::Chunked {
                    attention: own,
                    window: window()?,
                },
                cost(&own),
            )
        }
        Kind::Recurrent => {
            let (state, parameters) = recurrent(fields, shape)?;
            (LayerKind::Recurrent(state), parameters)
        }
        Kind::Parallel => {
            let own = attention()?;
            let (state, parameters) = recurrent(fields, shape)?;
            (LayerKind::Parallel { attention: own, state }, cost(&own) + parameters)
        }
        Kind::Shared => {
            let own = attention()?;
            (LayerKind::SharedKv, count::queries(&own, shape.hidden))
        }
        Kind::Nothing if shape.model_type.starts_with("mllama") => (LayerKind::None, cost(&attention()?)),
        Kind::Nothing => (LayerKind::None, 0),
    })
}

/// Layers of one kind with KV heads and head size of their own.
fn widened(attention: Attention, fields: &Fields<'_>, kv: &[&'static str], dim: &[&'static str]) -> Attention {
    let small = |names: &[&'static str]| fields.small(names, MAX_WIDTH).ok().flatten();
    match attention {
        Attention::Grouped {
            heads,
            kv_heads,
            head_dim,
            v_head_dim,
        } => {
            let own = small(dim);
            Attention::Grouped {
                heads,
                kv_heads: small(kv).unwrap_or(kv_heads),
                head_dim: own.unwrap_or(head_dim),
                v_head_dim: if own.is_some() && head_dim == v_head_dim {
                    own.unwrap_or(v_head_dim)
                } else {
                    v_head_dim
                },
            }
        }
        other => other,
    }
}

/// State and parameters of a recurrent layer.
fn recurrent(fields: &Fields<'_>, shape: &Shape) -> Result<(State, u64), String> {
    let dims = Dims::of(fields, shape)?;
    let of = |name: &str| dims.values.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let default = match fields.text(&["torch_dtype", "dtype"]).as_deref() {
        Some("float32") => 4.0,
        _ => 2.0,
    };
    let state =
        state::of(dims.kind, &of, default).ok_or_else(|| format!("the {} layers are not described", dims.kind))?;
    Ok((state, count::recurrent(dims.kind, &of, u64::from(shape.hidden))))
}

struct Dims {
    kind: &'static str,
    values: Vec<(&'static str, u64)>,
}

impl Dims {
    fn of(fields: &Fields<'_>, shape: &Shape) -> Result<Self, String> {
        let need = |names: &[&'static str]| fields.need(names, MAX_WIDTH).map(u64::from);
        let or = |names: &[&'static str], default: u64| {
            Ok::<u64, String>(fields.small(names, MAX_WIDTH)?.map_or(default, u64::from))
        };
        let hidden = u64::from(shape.hidden);
        let four = |names: &[&'static str]| fields.text(names).is_some_and(|d| d == "float32");
        let own = shape.model_type.as_str();
        let (kind, mut values) = if fields.has("linear_num_value_heads") {
            let values = vec![
                ("hk", need(&["linear_num_key_heads"])?),
                ("dk", need(&["linear_key_head_dim"])?),
                ("hv", need(&["linear_num_value_heads"])?),
                ("dv", need(&["linear_value_head_dim"])?),
                ("conv", or(&["linear_conv_kernel_dim"], 4)?),
            ];
            ("gdn", values)
        } else if fields.has("linear_attn_config") {
            let values = vec![
                ("heads", need(&["linear_attn_config.num_heads"])?),
                ("hd", need(&["linear_attn_config.head_dim"])?),
                ("conv", or(&["linear_attn_config.short_conv_kernel_size"], 4)?),
            ];
            ("kda", values)
        } else if own.starts_with("minimax") {
            let head = hidden / fields.need(&["num_attention_heads"], MAX_WIDTH).map(u64::from)?;
            (
                "lightning",
                vec![
                    ("heads", need(&["num_attention_heads"])?),
                    ("hd", or(&["head_dim"], head)?),
                ],
            )
        } else if own.starts_with("lfm2") {
            (
                "shortconv",
                vec![("dim", or(&["conv_dim"], hidden)?), ("conv", or(&["conv_L_cache"], 3)?)],
            )
        } else if matches!(own, "mamba" | "falcon_mamba" | "jamba") {
            let expand = or(&["mamba_expand", "expand"], 2)?;
            let values = vec![
                // Jamba's `intermediate_size` is its feed-forward width.
                (
                    "inner",
                    match own {
                        "jamba" => expand * hidden,
                        _ => or(&["intermediate_size"], expand * hidden)?,
                    },
                ),
                ("d_state", or(&["mamba_d_state", "state_size"], 16)?),
                ("conv", or(&["mamba_d_conv", "conv_kernel"], 4)?),
                ("rank", or(&["mamba_dt_rank", "time_step_rank"], hidden.div_ceil(16))?),
            ];
            ("mamba1", values)
        } else {
            let values = vec![
                (
                    "heads",
                    need(&["mamba_num_heads", "mamba_n_heads", "num_heads", "n_mamba_heads"])?,
                ),
                ("hd", need(&["mamba_head_dim", "mamba_d_head", "head_dim"])?),
                ("groups", or(&["n_groups", "mamba_n_groups", "mamba_ngroups"], 1)?),
                ("d_state", need(&["ssm_state_size", "mamba_d_state", "state_size"])?),
                ("conv", or(&["conv_kernel", "mamba_d_conv"], 4)?),
            ];
            ("mamba2", values)
        };
        if four(&["mamba_ssm_dtype", "mamba_ssm_cache_dtype"]) {
            values.push(("bytes", 4));
        }
        Ok(Self { kind, values })
    }
}

/// Nemotron's searched architectures: each block says what it has.
fn searched(blocks: &[Value], shape: &Shape) -> Vec<Layers> {
    let mut out: Vec<Layers> = Vec::new();
    for block in blocks {
        let per_group = block.pointer("/attention/n_heads_in_group").and_then(Value::as_u64);
        let kind = match (shape.attention, per_group) {
            (
                Some(Attention::Grouped {
                    heads,
                    head_dim,
                    v_head_dim,
                    ..
                }),
                Some(n),
            ) if n > 0 => LayerKind::Full(Attention::Grouped {
                heads,
                kv_heads: (u64::from(heads) / n).max(1) as u32,
                head_dim,
                v_head_dim,
            }),
            _ => LayerKind::None,
        };
        let mixer = match &kind {
            LayerKind::Full(a) => count::attention(a, shape.hidden, false, false),
            _ => 0,
        };
        let ffn = block
            .pointer("/ffn/ffn_mult")
            .and_then(Value::as_f64)
            .filter(|m| (0.0..64.0).contains(m))
            .map_or(0, |mult| {
                // 2/3 of the multiple, rounded up to 256 (DeciLM's `_ffn_mult_to_intermediate_size`).
                let wide = (2.0 * mult * f64::from(shape.hidden) / 3.0) as u64;
                3 * u64::from(shape.hidden) * wide.div_ceil(256) * 256
            });
        match out.iter_mut().find(|l| l.group.kind == kind && l.mixer == mixer + ffn) {
            Some(same) => same.group.layers += 1,
            None => out.push(Layers {
                group: LayerGroup { layers: 1, kind },
                mixer: mixer + ffn,
            }),
        }
    }
    out
}

/// DeepSeek-V4: a ratio a layer; 0 keeps the window only. In V4.1 (`kv_source_layer_ids`) the layers between two sources read
/// the earlier one's entries and keep none of their own.
fn compressed(ratios: &[Value], fields: &Fields<'_>, shape: &Shape) -> Result<Vec<Layers>, String> {
    let window = fields
        .count(&["sliding_window"])
        .ok_or("field 'sliding_window' is missing")?;
    let head_dim = fields.need(&["head_dim"], MAX_WIDTH)?;
    let heads = fields.need(&["num_attention_heads"], MAX_WIDTH)?;
    let index = fields.small(&["index_head_dim"], MAX_WIDTH)?;
    // Keys and values are one latent of `head_dim`.
    let attention = Attention::Grouped {
        heads,
        kv_heads: 1,
        head_dim,
        v_head_dim: 0,
    };
    let sources: Option<Vec<u64>> = fields
        .list("kv_source_layer_ids")
        .map(|ids| ids.iter().filter_map(Value::as_u64).collect());
    let mut out: Vec<Layers> = Vec::new();
    for (layer, ratio) in ratios.iter().take(shape.layers as usize).enumerate() {
        let keeps = sources.as_ref().is_none_or(|ids| ids.contains(&(layer as u64)));
        let ratio = ratio
            .as_u64()
            .and_then(|r| u32::try_from(r).ok())
            .filter(|_| keeps)
            .unwrap_or(0);
        let kind = if ratio == 0 {
            LayerKind::Sliding { attention, window }
        } else {
            LayerKind::Compressed {
                attention,
                ratio,
                window,
                // Only the finely compressed layers choose entries by an index.
                index_head_dim: index.filter(|_| ratio <= 4),
            }
        };
        match out.iter_mut().find(|l| l.group.kind == kind) {
            Some(same) => same.group.layers += 1,
            None => out.push(Layers {
                group: LayerGroup { layers: 1, kind },
                mixer: 0,
            }),
        }
    }
    Ok(out)
}
