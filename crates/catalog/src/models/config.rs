//! Facts from a `config.json` (Hugging Face transformers) of any architecture that the memory model covers (docs/memory-model.md).

mod count;
mod fields;
mod layers;
mod quantization;

pub use quantization::of_modelopt;

use super::{Attention, Experts, LayerGroup, LayerKind, ModelFacts, ModelSource, Task};
use fields::Fields;
use serde_json::Value;

/// Facts of a model from its configuration. The error names the field that is missing or makes no sense.
///
/// The count of parameters is the formula of `config/count.rs`; exact bytes of weight files replace it in the fit where they
/// were read.
pub fn parse(id: &str, text: &str) -> Result<ModelFacts, String> {
    let root: Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    if !root.is_object() {
        return Err("not a JSON object".into());
    }
    let fields = Fields::new(&root);
    let model_type = fields.text(&["model_type"]).unwrap_or_default();
    let mut facts = ModelFacts {
        id: id.to_string(),
        source: ModelSource::Config,
        verified: true,
        model_type: model_type.clone(),
        task: task(&fields, &model_type),
        dtype: fields
            .text(&["torch_dtype", "dtype"])
            .map(|d| d.trim_start_matches("torch.").to_string()),
        quantization: quantization::of(&root),
        ..ModelFacts::default()
    };
    if model_type.is_empty()
        && fields.text(&["architectures"]).is_none()
        && !fields.has("hidden_size")
        && !fields.has("n_embd")
    {
        return Err("field 'model_type' is missing: is this the config.json of a model?".into());
    }
    if matches!(
        model_type.as_str(),
        "whisper" | "t5" | "mt5" | "bart" | "mbart" | "m2m_100" | "marian"
    ) {
        encoder_decoder(&fields, &mut facts)?;
        return Ok(facts);
    }
    let shape = Shape::of(&fields, &model_type)?;
    let layers = layers::of(&fields, &shape)?;
    facts.hidden = Some(shape.hidden);
    facts.intermediate = shape.intermediate;
    facts.vocab = Some(shape.vocab);
    facts.tied_embeddings = Some(shape.tied);
    facts.max_positions = positions(&fields);
    facts.experts = shape.experts;
    facts.tower_parameters = count::towers(&root);
    facts.tower = count::profiled_tower(&root, &model_type, id);
    facts.mtp_parameters = count::drafts(&fields, &shape);
    facts.table_parameters = count::tables(&fields);
    if facts.model_type != shape.model_type {
        // "gemma3" of the whole, "gemma3_text" of its decoder: the whole names the engine's class.
        facts.model_type = model_type;
    }
    if let Some(decoder) = count::decoder(&fields, &shape, &layers) {
        facts.parameters = Some(decoder + facts.tower_parameters + facts.table_parameters);
        facts.active_parameters = Some(count::active(decoder, &shape));
    }
    facts.groups = layers.into_iter().map(|l| l.group).filter(|g| g.layers > 0).collect();
    Ok(facts)
}

/// Dimensions of the decoder (or encoder) that every architecture has.
struct Shape {
    model_type: String,
    hidden: u32,
    layers: u32,
    intermediate: Option<u32>,
    vocab: u64,
    tied: bool,
    experts: Option<Experts>,
    /// Input width of the routed experts, where it is not the hidden size (Nemotron-3's latent mixture).
    expert_width: u32,
    /// `None`: no attention at all (Mamba).
    attention: Option<Attention>,
}

/// Values above these make no sense, and would overflow the arithmetic on counts.
const MAX_WIDTH: u32 = 1 << 20;
const MAX_LAYERS: u32 = 4096;
const MAX_EXPERTS: u32 = 1 << 14;

impl Shape {
    fn of(fields: &Fields<'_>, model_type: &str) -> Result<Self, String> {
        let own = fields.decoder_type().unwrap_or_else(|| model_type.to_string());
        let hidden = fields.need(&["hidden_size", "n_embd", "d_model", "dim", "model_dim"], MAX_WIDTH)?;
        let blocks = fields.list("block_configs").map(|b| b.len() as u32);
        let layers = match blocks {
            Some(n) => n.min(MAX_LAYERS),
            None => fields.need(&["num_hidden_layers", "n_layer", "num_layers", "n_layers"], MAX_LAYERS)?,
        };
        let vocab = u64::from(fields.need(&["vocab_size", "padded_vocab_size"], 1 << 24)?);
        let intermediate = fields
            .small(
                &[
                    "intermediate_size",
                    "ffn_hidden_size",
                    "inner_hidden_size",
                    "n_inner",
                    "ffn_dim",
                    "inner_dim",
                    "d_ff",
                ],
                MAX_WIDTH,
            )?
            .or_else(|| layers::four_times(&own).then(|| hidden.saturating_mul(4)));
        let attention = attention(fields, &own, hidden)?;
        let experts = experts(fields, &own, layers, intermediate)?;
        // Llama-4 gives its experts `intermediate_size`, its dense layers another.
        let intermediate = fields.small(&["intermediate_size_mlp"], MAX_WIDTH)?.or(intermediate);
        Ok(Self {
            tied: fields
                .truth(&["tie_word_embeddings"])
                .unwrap_or_else(|| layers::tied_by_default(&own)),
            expert_width: fields.small(&["moe_latent_size"], MAX_WIDTH)?.unwrap_or(hidden),
            model_type: own,
            hidden,
            layers,
            intermediate,
            vocab,
            experts,
            attention,
        })
    }
}

fn attention(fields: &Fields<'_>, model_type: &str, hidden: u32) -> Result<Option<Attention>, String> {
    if matches!(model_type, "mamba" | "mamba2" | "falcon_mamba") {
        return Ok(None);
    }
    let heads = fields.need(&["num_attention_heads", "n_head", "n_heads", "num_heads"], MAX_WIDTH)?;
    if let Some(kv_lora_rank) = fields.small(&["kv_lora_rank"], MAX_WIDTH)? {
        return Ok(Some(Attention::Latent {
            heads,
            kv_lora_rank,
            rope_dim: fields.need_or_zero("qk_rope_head_dim", MAX_WIDTH)?,
            nope_dim: fields.need(&["qk_nope_head_dim"], MAX_WIDTH)?,
            v_head_dim: fields.need(&["v_head_dim"], MAX_WIDTH)?,
            q_lora_rank: fields.small(&["q_lora_rank"], MAX_WIDTH)?,
            index_head_dim: fields.small(&["index_head_dim"], MAX_WIDTH)?,
        }));
    }
    let head_dim = fields
        .small(&["head_dim", "kv_channels", "attention_head_dim"], MAX_WIDTH)?
        .unwrap_or((hidden / heads).max(1));
    let one = fields.truth(&["multi_query"]).unwrap_or(false)
        && !fields.truth(&["new_decoder_architecture"]).unwrap_or(false);
    let grouped = fields.small(
        &[
            "num_key_value_heads",
            "num_kv_heads",
            "n_head_kv",
            "multi_query_group_num",
            "attn_config.kv_n_heads",
        ],
        MAX_WIDTH,
    )?;
    let kv_heads = match (one && model_type != "chatglm", grouped) {
        (true, _) => 1,
        (_, Some(kv)) => kv,
        _ => heads,
    };
    if kv_heads > heads || heads % kv_heads != 0 {
        return Err(format!(
            "field 'num_key_value_heads': {kv_heads} does not divide {heads} attention heads"
        ));
    }
    Ok(Some(Attention::Grouped {
        heads,
        kv_heads,
        head_dim,
        v_head_dim: fields.small(&["v_head_dim"], MAX_WIDTH)?.unwrap_or(head_dim),
    }))
}

fn experts(
    fields: &Fields<'_>,
    model_type: &str,
    layers: u32,
    intermediate: Option<u32>,
) -> Result<Option<Experts>, String> {
    let count = fields.small(
        &[
            "num_local_experts",
            "n_routed_experts",
            "num_experts",
            "moe_num_experts",
            "ffn_config.moe_num_experts",
        ],
        MAX_EXPERTS,
    )?;
    let Some(count) = count.filter(|n| *n > 1) else {
        return Ok(None);
    };
    let per_token = fields.need(
        &[
            "num_experts_per_tok",
            "num_experts_per_token",
            "experts_per_token",
            "top_k_experts",
            "moe_top_k",
            "moe_topk",
            "moe_k",
            "ffn_config.moe_top_k",
        ],
        MAX_EXPERTS,
    )?;
    if per_token > count {
        return Err(format!("field 'num_experts_per_tok': {per_token} of {count} experts"));
    }
    let own = fields.small(
        &[
            "moe_intermediate_size",
            "expert_ffn_hidden_size",
            "moe_ffn_hidden_size",
            "ffn_config.ffn_hidden_size",
        ],
        MAX_WIDTH,
    )?;
    let intermediate = own
        .or(intermediate)
        .ok_or_else(|| "field 'moe_intermediate_size' is missing".to_string())?;
    let width = fields.small(
        &[
            "shared_expert_intermediate_size",
            "moe_shared_expert_intermediate_size",
            "shared_intermediate_size",
        ],
        MAX_WIDTH,
    )?;
    let shared = match width {
        Some(width) => width.div_ceil(intermediate.max(1)),
        None => fields
            .small(
                &[
                    "n_shared_experts",
                    "num_shared_experts",
                    "moe_num_shared_experts",
                    "num_shared_expert",
                ],
                MAX_EXPERTS,
            )?
            .unwrap_or(u32::from(model_type.starts_with("llama4"))),
    };
    Ok(Some(Experts {
        count,
        per_token,
        intermediate,
        shared,
        layers: layers::with_experts(fields, model_type, layers),
    }))
}

/// Positions as vLLM derives them: RoPE scaling by a factor extends the original length (`_get_and_verify_max_len`).
fn positions(fields: &Fields<'_>) -> Option<u64> {
    let plain = fields.count(&[
        "max_position_embeddings",
        "n_positions",
        "max_sequence_length",
        "seq_length",
        "n_ctx",
        "max_seq_len",
        "model_max_length",
    ]);
    let kind = fields.text(&["rope_scaling.rope_type", "rope_scaling.type"]);
    let factor = fields
        .number(&["rope_scaling.factor"])
        .filter(|f| (1.0..=1024.0).contains(f));
    let original = fields.count(&["rope_scaling.original_max_position_embeddings"]);
    match (kind.as_deref(), factor) {
        (Some("yarn"), Some(factor)) => Some(((original.or(plain)? as f64) * factor) as u64),
        (Some("linear" | "dynamic"), Some(factor)) => Some((plain? as f64 * factor) as u64),
        _ => plain,
    }
}

fn task(fields: &Fields<'_>, model_type: &str) -> Task {
    let class = fields.text(&["architectures"]).unwrap_or_default();
    if matches!(model_type, "whisper") {
        Task::Asr
    } else if class.ends_with("ForSequenceClassification") {
        Task::Rerank
    } else if layers::is_encoder(model_type) || class.ends_with("Embedding") {
        Task::Embed
    } else {
        Task::Generate
    }
}

/// Whisper, T5, BART: encoder layers without, decoder layers with a KV cache.
fn encoder_decoder(fields: &Fields<'_>, facts: &mut ModelFacts) -> Result<(), String> {
    let hidden = fields.need(&["d_model"], MAX_WIDTH)?;
    let encoder = fields.need(&["encoder_layers", "num_layers"], MAX_LAYERS)?;
    let decoder = fields.need(&["decoder_layers", "num_decoder_layers", "num_layers"], MAX_LAYERS)?;
    let heads = fields.need(&["decoder_attention_heads", "num_heads"], MAX_WIDTH)?;
    let wide = fields.need(&["decoder_ffn_dim", "d_ff"], MAX_WIDTH)?;
    let vocab = u64::from(fields.need(&["vocab_size"], 1 << 24)?);
    let head_dim = fields.small(&["d_kv"], MAX_WIDTH)?.unwrap_or((hidden / heads).max(1));
    let (h, inner) = (u64::from(hidden), u64::from(heads) * u64::from(head_dim));
    let attention = 4 * h * inner;
    let gated = fields
        .text(&["feed_forward_proj"])
        .is_some_and(|p| p.starts_with("gated"));
    let mlp = if gated { 3 } else { 2 } * h * u64::from(wide);
    let total = u64::from(encoder) * (attention + mlp) + u64::from(decoder) * (2 * attention + mlp) + vocab * h;
    // Whisper's convolutions over 128 mel bins, and learned positions of audio frames and text.
    let front = if facts.model_type == "whisper" {
        (1500 + 448 + 3 * 128) * h + 3 * h * h
    } else {
        0
    };
    let total = total + front;
    facts.hidden = Some(hidden);
    facts.intermediate = Some(wide);
    facts.vocab = Some(vocab);
    facts.tied_embeddings = Some(true);
    facts.max_positions = fields.count(&["max_target_positions", "max_position_embeddings", "n_positions"]);
    facts.parameters = Some(total);
    facts.active_parameters = Some(total);
    facts.groups = vec![
        LayerGroup {
            layers: encoder,
            kind: LayerKind::Full(Attention::Bidirectional { heads, head_dim }),
        },
        LayerGroup {
            layers: decoder,
            kind: LayerKind::Full(Attention::Grouped {
                heads,
                kv_heads: heads,
                head_dim,
                v_head_dim: head_dim,
            }),
        },
    ];
    Ok(())
}

#[cfg(test)]
mod tests;
