//! SGLang's `mem_fraction_static` where nothing is said: what its own reserve for activations and graphs leaves of the card.

use super::defaults::{self, Version};
use super::memory::Case;

/// Share of the card for weights and pools. `raised`: as SGLang reserves on small cards today.
pub(super) fn fraction(case: &Case<'_>, raised: bool) -> f64 {
    if let Some(stated) = case.settings.mem_fraction_static {
        return stated.clamp(0.0, 1.0);
    }
    // NVML's total, as `nvidia-smi` shows it.
    let shown = case.gpu.memory_usable.unwrap_or(case.total).max(case.total);
    let mib = shown.gib() * 1024.0;
    let reserved = match case.engine.version {
        Some(v) if v < Version(0, 4, 7) => mib * (1.0 - by_ranks(case)),
        Some(v) if v < Version(0, 5, 0) => by_card(case, mib),
        _ => by_step(case, mib, raised),
    };
    let own = (1.0 - reserved / mib).clamp(0.1, 0.95);
    (own * towers(case)).clamp(0.1, 0.95)
}

/// Fixed shares by the number of ranks (`server_args.py` of 0.4.3; which release changed it is not known: 0.4.9 has).
fn by_ranks(case: &Case<'_>) -> f64 {
    match case.parallelism.tensor {
        0 | 1 => 0.88,
        2..=3 => 0.87,
        4..=7 => 0.85,
        8..=15 => 0.81,
        _ => 0.79,
    }
}

/// `server_args.py` of 0.4.9.
fn by_card(case: &Case<'_>, mib: f64) -> f64 {
    let ranks = f64::from(case.parallelism.tensor.saturating_mul(case.parallelism.pipeline));
    let mut gib = match mib / 1024.0 {
        g if g < 35.0 => 2.8 + ranks / 10.0,
        g if g < 90.0 => 9.5 + ranks / 2.0,
        g if g < 160.0 => 12.0 + ranks / 2.0,
        _ => 32.0,
    };
    if case.settings.speculative == Some(true) {
        gib += 2.0;
    }
    if case.settings.dp_attention == Some(true) {
        gib += 4.0;
    }
    gib * 1024.0
}

/// `_handle_gpu_memory_settings` of 0.5.5 and 0.5.12, `memory_hook.py` of 0.5.23.
fn by_step(case: &Case<'_>, mib: f64, raised: bool) -> f64 {
    let attention = case.settings.dp_attention == Some(true);
    let data = f64::from(case.parallelism.data.max(1));
    // Data-parallel attention divides the prefill chunk among its ranks.
    let stated = case.settings.chunked_prefill_size;
    let chunk = stated.unwrap_or_else(|| defaults::chunked_prefill(mib / 1024.0, raised)) as f64;
    let chunk = (if attention { chunk / data } else { chunk }).max(2048.0);
    let graphs = largest_graph(case, mib / 1024.0, raised);
    let ranks = f64::from(case.parallelism.tensor) * f64::from(case.parallelism.pipeline);
    let mut reserved = 512.0 + 1.5 * chunk + ranks / 8.0 * 1024.0 + 2.0 * graphs;
    if attention {
        reserved += graphs * data * if graphs > 300.0 { 4.5 } else { 3.0 };
    }
    if mib > 60.0 * 1024.0 {
        reserved = reserved.max(10_240.0);
    }
    // Drafts are reserved for until 0.5.12; 0.5.23 measures them.
    let drafts = case.engine.version.is_some_and(|v| v < Version(0, 5, 23));
    if drafts && case.settings.speculative == Some(true) {
        reserved += 2048.0;
    }
    reserved
}

/// Sequences of the largest captured decode graph.
fn largest_graph(case: &Case<'_>, gib: f64, raised: bool) -> f64 {
    let wide = case.parallelism.tensor >= 4;
    let own = match gib {
        g if g < 20.0 => 8.0,
        // 0.5.5: 80 sizes of graphs, 24 below four ranks.
        g if g < defaults::SMALL_CARD && !raised => {
            if wide {
                80.0
            } else {
                24.0
            }
        }
        g if g < defaults::SMALL_CARD => {
            if wide {
                160.0
            } else {
                48.0
            }
        }
        g if g < 60.0 => {
            if wide {
                160.0
            } else {
                32.0
            }
        }
        g if g < 160.0 && !wide => 256.0,
        _ => 512.0,
    };
    case.settings.max_num_seqs.map_or(own, |n| own.min(n as f64))
}

/// Models with a vision tower leave more (`adjust_mem_fraction_for_vlm`): 5 %, and a tenth more for each size of ViT-L.
fn towers(case: &Case<'_>) -> f64 {
    let off = case.settings.language_model_only == Some(true) || case.model.tower_parameters == 0;
    let Some(tower) = case.model.tower.as_ref().filter(|_| !off) else {
        return 1.0;
    };
    let size = (f64::from(tower.hidden) / 1024.0).powi(2);
    let factor = (1.0 - 0.1 * (size - 1.0)).clamp(0.8, 1.05);
    0.95 * factor
}
