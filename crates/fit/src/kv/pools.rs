//! SGLang's pools: tokens of full attention, tokens of windows in a fixed ratio to them, and state slots
//! (`sglang/srt/model_executor/pool_configurator.py` and `model_runner_kv_cache_mixin.py`, 0.5.12; `model_runner.py` before).

use super::Holds;
use crate::defaults::Version;
use crate::memory::Case;

/// Window tokens a full token where nothing is said (`--swa-full-tokens-ratio`, 0.5.5 to 0.5.23).
const WINDOW_RATIO: f64 = 0.8;
/// DeepSeek-V4's default (`deepseek_v4_hook.py`).
const WINDOW_RATIO_V4: f64 = 0.1;
/// Where layers share their entries (V4.1), windows are a few tokens a request: 18.03 M tokens were logged where the entries
/// alone would fill the pool (one thread).
const WINDOW_RATIO_SHARED: f64 = 0.0;
/// Memory of recurrent state against that of tokens (`--mamba-full-memory-ratio`).
const STATE_RATIO: f64 = 0.9;
/// State slots that a running request needs with the radix cache (`MAMBA_CACHE_SIZE_MAX_RUNNING_REQUESTS_RATIO`).
const SLOTS_PER_REQUEST: f64 = 3.0;
/// Tokens of a window page of DeepSeek-V4; compressor state is a ring a page.
const V4_PAGE: f64 = 128.0;

#[derive(Clone, Debug)]
pub(super) struct Pools {
    /// Bytes a token of full attention, windows in their ratio included.
    cell: f64,
    /// Share of the pool that tokens get; state has the rest.
    token_share: f64,
    /// Bytes of state a slot; 0 without recurrent layers.
    slot: f64,
    slots_per_request: f64,
    /// Bytes of windows that every request holds, where they are no ratio of the full tokens.
    windows: f64,
    /// State slots that are set aside whatever the pool's size (`--max-running-requests` without a radix cache).
    fixed_slots: Option<f64>,
}

/// The ways that the pool may be shared, the likeliest first.
pub(super) fn of(case: &Case<'_>, layers: &[(f64, Holds)]) -> Vec<Pools> {
    let hybrid = windows_have_a_pool(case);
    let ratio = case
        .settings
        .swa_full_tokens_ratio
        .unwrap_or(match case.model.model_type.as_str() {
            "deepseek_v41" => WINDOW_RATIO_SHARED,
            _ if is_v4(case) => WINDOW_RATIO_V4,
            _ => WINDOW_RATIO,
        });
    hybrid
        .into_iter()
        .map(|split| Pools::new(case, layers, if split { ratio } else { 1.0 }))
        .collect()
}

fn is_v4(case: &Case<'_>) -> bool {
    case.model.model_type.starts_with("deepseek_v4")
}

/// Architectures whose window layers have a pool of their own (`is_hybrid_swa_model`); others hold windows as full layers.
fn windows_have_a_pool(case: &Case<'_>) -> Vec<bool> {
    const SPLIT: &[&str] = &[
        "llama4",
        "deepseek_v4",
        "gpt_oss",
        "mimo_v2",
        "step3p5",
        "step3p7",
        "gemma4",
        "laguna",
    ];
    let model = case.model.model_type.as_str();
    if !SPLIT.iter().any(|m| model.starts_with(m)) {
        return vec![false];
    }
    if is_v4(case) {
        return vec![true];
    }
    match case.engine.version {
        // Llama-4 alone, and only where a ratio is asked for.
        Some(v) if v < Version(0, 5, 6) => vec![case.settings.swa_full_tokens_ratio.is_some()],
        Some(v) if v >= Version(0, 5, 12) => vec![true],
        _ => vec![true, false],
    }
}

impl Pools {
    fn new(case: &Case<'_>, layers: &[(f64, Holds)], ratio: f64) -> Self {
        let v4 = is_v4(case);
        let sum = |f: &dyn Fn(Holds) -> f64| -> f64 { layers.iter().map(|(n, h)| n * f(*h)).sum() };
        let full = sum(&|h| match h {
            Holds::All(b) => b,
            _ => 0.0,
        });
        let windowed = sum(&|h| match h {
            Holds::Window { bytes, window } if v4 && window != 128 => bytes * ring(window) / V4_PAGE,
            Holds::Window { bytes, .. } | Holds::Chunk { bytes, .. } => bytes,
            _ => 0.0,
        });
        let slot = sum(&|h| match h {
            Holds::State(b) => b,
            _ => 0.0,
        });
        let per_request = sum(&|h| match h {
            Holds::Window { bytes, window } => bytes * window as f64,
            _ => 0.0,
        });
        // A model of windows alone holds only those.
        let cell = if full > 0.0 { full + ratio * windowed } else { windowed };
        let radix = case.settings.prefix_caching != Some(false);
        let share = case.settings.mamba_full_memory_ratio.unwrap_or(STATE_RATIO);
        let fixed_slots = case.settings.max_num_seqs.filter(|_| !radix).map(|n| n as f64);
        Self {
            cell,
            token_share: if slot > 0.0 && fixed_slots.is_none() {
                1.0 / (1.0 + share)
            } else {
                1.0
            },
            slot,
            windows: if full > 0.0 && ratio <= 0.0 { per_request } else { 0.0 },
            slots_per_request: if radix { SLOTS_PER_REQUEST } else { 1.0 },
            fixed_slots: fixed_slots.filter(|_| slot > 0.0),
        }
    }

    /// Bytes of the pool that a token stands for.
    pub(super) fn counted_per_token(&self) -> f64 {
        self.cell / self.token_share
    }

    pub(super) fn request(&self, length: u64) -> f64 {
        let tokens = (self.cell * length.max(1) as f64 + self.windows) / self.token_share;
        let state = self.slot * self.slots_per_request;
        match self.fixed_slots {
            Some(_) => tokens + self.slot,
            None if self.slot > 0.0 => tokens.max(state / (1.0 - self.token_share).max(1e-9)),
            None => tokens,
        }
    }

    /// Whatever runs out first: tokens or state slots.
    pub(super) fn requests(&self, bytes: f64, length: u64) -> f64 {
        let length = length.max(1) as f64;
        let held = self.fixed_slots.map_or(0.0, |n| n * self.slot);
        let each = (self.cell * length + self.windows).max(1e-9);
        let tokens = (bytes - held).max(0.0) * self.token_share / each;
        let slots = match self.fixed_slots {
            Some(n) => n,
            None if self.slot > 0.0 => bytes * (1.0 - self.token_share) / self.slot / self.slots_per_request,
            None => f64::INFINITY,
        };
        tokens.min(slots)
    }

    /// Tokens beside state slots of a fixed number.
    pub(super) fn tokens(&self, bytes: f64) -> f64 {
        let held = self.fixed_slots.map_or(0.0, |n| n * self.slot);
        (bytes - held).max(0.0) * self.token_share / self.cell.max(1e-9)
    }
}

/// Slots of the compressors' rings (`get_compress_state_ring_size`): twice the window of ratio 4, one of ratio 128.
fn ring(window: u64) -> f64 {
    window as f64
}
