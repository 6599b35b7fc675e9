//! Model facts: one row a model, found by any name that manifests, servers and registries use.
//!
//! A name leads to facts in this order: a user's `--models` directory, the embedded rows (`find`), and as the last
//! resort the name itself ([`from_name`]). [`resolve`] is the last two; what it takes from a name alone says so.

mod base;
mod book;
mod config;
mod find;
pub mod gguf;
mod name;
mod parts;
mod quantization;
mod rows;
pub mod safetensors;
mod state;
mod towers;

pub use book::ModelBook;
pub use config::{of_modelopt, parse as parse_config};
pub use find::{find, nearest};
pub use name::from_name;
pub use rows::Row;

use crate::units::Bytes;

/// How much the facts about a model can be trusted (R6: a model from its name alone is `assumed`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModelSource {
    /// Parsed out of the name: the size, or a base's architecture, never enough to recommend a smaller card.
    #[default]
    Name,
    /// An embedded row.
    Catalog,
    /// A `config.json`.
    Config,
    /// A `config.json` with the exact bytes of its safetensors, or a GGUF header.
    Weights,
}

/// What a model is for: decides which memory model applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Task {
    #[default]
    Generate,
    Embed,
    Rerank,
    Asr,
    Diffusion,
}

/// How a layer attends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attention {
    /// MHA, GQA and MQA: `kv_heads × (head_dim + v_head_dim)` elements a token.
    Grouped {
        heads: u32,
        kv_heads: u32,
        head_dim: u32,
        v_head_dim: u32,
    },
    /// Multi-head latent attention: `kv_lora_rank + rope_dim` elements a token, on every TP rank.
    Latent {
        heads: u32,
        kv_lora_rank: u32,
        rope_dim: u32,
        nope_dim: u32,
        v_head_dim: u32,
        q_lora_rank: Option<u32>,
        /// DSA indexer's head dim, where the model has one.
        index_head_dim: Option<u32>,
    },
    /// Encoder: no KV cache.
    Bidirectional { heads: u32, head_dim: u32 },
}

/// A run of layers with one kind of context memory; a model's groups add up to its layers.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerGroup {
    pub layers: u32,
    pub kind: LayerKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum LayerKind {
    /// Every token of the context.
    Full(Attention),
    /// The last `window` tokens.
    Sliding { attention: Attention, window: u64 },
    /// The current chunk of `window` tokens (Llama-4).
    Chunked { attention: Attention, window: u64 },
    /// One cache entry per `ratio` tokens, besides the last `window` tokens (DeepSeek-V4's compressed attention).
    Compressed {
        attention: Attention,
        ratio: u32,
        window: u64,
        index_head_dim: Option<u32>,
    },
    /// Attention and recurrent state side by side in one layer (Falcon-H1).
    Parallel { attention: Attention, state: State },
    /// Reads another layer's KV cache (gemma-3n): owns none.
    SharedKv,
    /// Mamba, gated delta net, KDA, lightning, short convolution: bytes a sequence, whatever its length.
    Recurrent(State),
    /// No attention (pure feed-forward layers of Nemotron-H and the like).
    None,
}

/// Recurrent state of one layer, in elements; the formulas are vLLM's `MambaStateShapeCalculator`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Convolution state, elements of the model's dtype.
    pub conv_elements: u64,
    /// Recurrent state, elements of `recurrent_element_bytes` each.
    pub recurrent_elements: u64,
    /// Bytes of one element of the recurrent state.
    pub recurrent_element_bytes: f64,
}

/// Mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    pub count: u32,
    pub per_token: u32,
    /// Intermediate size of one expert.
    pub intermediate: u32,
    pub shared: u32,
    /// Layers that have experts.
    pub layers: u32,
}

/// A vision tower as an engine's memory profile meets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tower {
    /// Width of the stream and of the feed-forward block.
    pub hidden: u32,
    pub inner: u32,
    /// Patches that become one token of the decoder.
    pub patches_per_token: f64,
    /// Tokens of one item of the largest size.
    pub tokens_per_item: u64,
}

/// One model. Each `None`: not known; the fit engine then says unknown or widens its band, it never guesses silently.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelFacts {
    /// Hugging Face id, or the name that was parsed.
    pub id: String,
    pub source: ModelSource,
    /// The row was checked against the hub's parameter count, or comes from a config; otherwise it is recalled or approximate.
    pub verified: bool,
    pub task: Task,
    /// "llama", "qwen3_moe", "deepseek_v3": the config's `model_type`.
    pub model_type: String,
    /// All parameters that an engine loads by default (towers included, MTP layers not).
    pub parameters: Option<u64>,
    pub active_parameters: Option<u64>,
    /// Of vision and audio towers, inside `parameters`.
    pub tower_parameters: u64,
    /// Of tables that tokens look rows up in (DeepSeek-V4.1's Engram), inside `parameters`: engines keep them on the card or in
    /// the host's memory.
    pub table_parameters: u64,
    /// The vision tower's widths, where an engine profiles one.
    pub tower: Option<Tower>,
    /// Of the checkpoint's own draft layers (MTP), beside `parameters`: loaded where the engine drafts with them.
    pub mtp_parameters: u64,
    /// Set where the name only suggests this architecture: the id of the row it was taken from.
    pub base: Option<String>,
    pub hidden: Option<u32>,
    pub intermediate: Option<u32>,
    pub vocab: Option<u64>,
    pub tied_embeddings: Option<bool>,
    pub max_positions: Option<u64>,
    /// Empty: the architecture is not known, so neither is the KV cache.
    pub groups: Vec<LayerGroup>,
    pub experts: Option<Experts>,
    /// "bfloat16", "float16", "float32".
    pub dtype: Option<String>,
    /// The checkpoint's own quantization; `None`: unquantized. The first word is one of "fp8", "mxfp8", "mxfp4", "nvfp4",
    /// "int8", "int4", "awq-int4", "gptq-int4", "gptq-int8", "bnb-nf4", "bnb-int8", "hqq-int4", "aqlm", "exl", "mlx-4bit",
    /// "mlx-8bit", "experts", a llama.cpp type in capitals ("Q4_K_M"), or "gguf" where the type is not known; details
    /// follow ("g128", "block128", "w8a8", "w4a16", "mixed", "4.0bpw", "kv fp8"), and parts that are held otherwise
    /// ("attention=bf16 linear=fp8", see `parts`).
    pub quantization: Option<String>,
    /// Exact bytes of all tensors, where files were read.
    pub file_bytes: Option<Bytes>,
}

impl ModelFacts {
    /// The architecture is not this model's own: its name alone told it.
    pub fn assumed(&self) -> bool {
        self.source == ModelSource::Name || self.base.is_some()
    }

    /// Decoder or encoder layers; `None` where the architecture is not known.
    pub fn layers(&self) -> Option<u32> {
        (!self.groups.is_empty()).then(|| self.groups.iter().map(|g| g.layers).sum())
    }
}

/// Facts by any name: the catalogue's row, else those of a base that the name holds, else what the name itself tells
/// (`source` and `base` say which).
///
/// This is what the fleet holds. Facts of source [`ModelSource::Name`] may be shown and priced; nothing recommends a
/// smaller card from them.
pub fn resolve(name: &str) -> Option<ModelFacts> {
    find(name).or_else(|| find::suggested(name)).or_else(|| from_name(name))
}

/// Every row, in the file's order.
pub fn all() -> &'static [Row] {
    &rows::CATALOG.rows
}

#[cfg(test)]
mod names_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod whole_tests;
