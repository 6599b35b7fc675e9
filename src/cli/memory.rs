//! Flags of `gpuwaste fit` that move memory on real servers, named as the engines name them.

use clap::Args;
use std::path::PathBuf;

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct MemoryArgs {
    /// How it drafts: mtp, eagle, eagle3, ngram, draft_model … (vLLM's method, SGLang's algorithm).
    #[arg(long, value_name = "METHOD")]
    pub(crate) speculative_method: Option<String>,
    /// Tokens drafted ahead.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) speculative_tokens: Option<u32>,
    /// Towers of a multimodal model are not loaded.
    #[arg(long)]
    pub(crate) language_model_only: bool,
    /// Images or videos that a request may hold (--limit-mm-per-prompt); 0: none are prepared for.
    #[arg(long, value_name = "N")]
    pub(crate) images_per_prompt: Option<u64>,
    /// Room for LoRA adapters.
    #[arg(long)]
    pub(crate) enable_lora: bool,
    /// Adapters in one batch.
    #[arg(long, value_name = "N", requires = "enable_lora")]
    pub(crate) max_loras: Option<u64>,
    /// Their largest rank.
    #[arg(long, value_name = "N", requires = "enable_lora")]
    pub(crate) max_lora_rank: Option<u64>,
    /// Whether prefixes are cached (default: the engine's for this model).
    #[arg(long, value_name = "BOOL")]
    pub(crate) prefix_caching: Option<bool>,
    /// Element of recurrent state.
    #[arg(long, value_name = "DTYPE")]
    pub(crate) mamba_cache_dtype: Option<String>,
    /// Element of the state-space part of it.
    #[arg(long, value_name = "DTYPE")]
    pub(crate) mamba_ssm_cache_dtype: Option<String>,
    /// Windows cost the full context.
    #[arg(long)]
    pub(crate) disable_hybrid_kv_cache_manager: bool,
    /// Free on each card when the engine starts, where others use it.
    #[arg(long, value_name = "GIB")]
    pub(crate) free_memory_gib: Option<f64>,
    /// The KV cache's own size on each card, instead of a share (--kv-cache-memory-bytes).
    #[arg(long, value_name = "GIB")]
    pub(crate) kv_cache_memory_gib: Option<f64>,
    /// SGLang: tokens of a window for one of full attention.
    #[arg(long, value_name = "RATIO")]
    pub(crate) swa_full_tokens_ratio: Option<f64>,
    /// SGLang: memory for recurrent state against that for tokens.
    #[arg(long, value_name = "RATIO")]
    pub(crate) mamba_full_memory_ratio: Option<f64>,
    /// SGLang: tokens of the pool at most.
    #[arg(long, value_name = "N", value_parser = super::number::tokens)]
    pub(crate) max_total_tokens: Option<u64>,
    /// Bands from start-ups of your own instead of the built-in ones (the CSV that tests/fit/bands.py writes).
    #[arg(long, value_name = "FILE", help_heading = "Need")]
    pub(crate) bands: Option<PathBuf>,
}
