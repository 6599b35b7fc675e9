//! The flags that move memory: refused where no engine takes them, and put into the settings.

use crate::cli::MemoryArgs;
use crate::collect::input;
use crate::fit::is_known_state_dtype;
use crate::snapshot::server::EngineSettings;
use crate::units::Bytes;
use anyhow::{Context, Result, anyhow, bail};
use std::path::Path;

pub(super) fn check(args: &MemoryArgs) -> Result<()> {
    for (flag, value) in [
        ("--free-memory-gib", args.free_memory_gib),
        ("--kv-cache-memory-gib", args.kv_cache_memory_gib),
        ("--swa-full-tokens-ratio", args.swa_full_tokens_ratio),
        ("--mamba-full-memory-ratio", args.mamba_full_memory_ratio),
    ] {
        if let Some(v) = value.filter(|v| !(*v > 0.0 && *v < 1e6)) {
            bail!("{flag} {v}: a number above 0 is needed");
        }
    }
    for (flag, value) in [
        ("--mamba-cache-dtype", &args.mamba_cache_dtype),
        ("--mamba-ssm-cache-dtype", &args.mamba_ssm_cache_dtype),
    ] {
        if let Some(dtype) = value.as_deref().filter(|d| !is_known_state_dtype(d)) {
            bail!("{flag} {dtype}: its size is not known; known are auto, float32, float16 and bfloat16");
        }
    }
    Ok(())
}

/// Bands of one's own.
pub(super) fn bands(path: &Path) -> Result<()> {
    let text = input::named_text(path, input::WRITTEN).with_context(|| format!("--bands {}", path.display()))?;
    crate::fit::replace_bands(&text).map_err(|e| anyhow!("--bands {}: {e}", path.display()))
}

pub(super) fn apply(args: &MemoryArgs, settings: &mut EngineSettings) {
    let drafts = args.speculative_method.is_some() || args.speculative_tokens.is_some();
    settings.speculative = drafts.then_some(true);
    settings.speculative_method = args.speculative_method.as_deref().map(str::to_ascii_lowercase);
    settings.speculative_tokens = args.speculative_tokens;
    settings.language_model_only = args.language_model_only.then_some(true);
    settings.images_per_prompt = args.images_per_prompt;
    settings.lora = args.enable_lora.then_some(true);
    settings.max_loras = args.max_loras;
    settings.max_lora_rank = args.max_lora_rank;
    settings.prefix_caching = args.prefix_caching;
    settings.mamba_cache_dtype.clone_from(&args.mamba_cache_dtype);
    settings.mamba_ssm_dtype.clone_from(&args.mamba_ssm_cache_dtype);
    settings.hybrid_kv_off = args.disable_hybrid_kv_cache_manager.then_some(true);
    settings.free_memory = args.free_memory_gib.map(Bytes::from_gib);
    settings.kv_cache_memory = args.kv_cache_memory_gib.map(Bytes::from_gib);
    settings.swa_full_tokens_ratio = args.swa_full_tokens_ratio;
    settings.mamba_full_memory_ratio = args.mamba_full_memory_ratio;
    settings.max_total_tokens = args.max_total_tokens;
}
