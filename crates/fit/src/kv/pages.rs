//! vLLM's pool: blocks of one size, shared by groups of layers that have the same number of layers
//! (`vllm/v1/core/kv_cache_utils.py`, 0.9 to 0.33; from 0.28 on in part `kv_cache_planning.py`).

use super::Holds;
use crate::catalog::models::{Attention, LayerKind};
use crate::defaults::{self, Rules, Version};
use crate::memory::Case;

/// Groups of layers that hold alike.
#[derive(Clone, Copy, Debug)]
struct Group {
    /// Groups of this kind, each with a block table of its own.
    tables: f64,
    holds: Holds,
    /// Tokens of one block of this kind.
    block: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Pages {
    groups: Vec<Group>,
    /// One block over all layers of a group.
    block_bytes: f64,
    /// Tokens that are scheduled and not yet settled.
    in_flight: u64,
    /// State blocks a sequence takes.
    slots: f64,
    /// Tokens are counted as if all groups held them for good (the log before 0.20.2).
    counts_groups: bool,
}

impl Pages {
    /// `cached`: recurrent state is kept for prefix caching. `doubled`: two steps are in flight.
    pub(super) fn of(case: &Case<'_>, layers: &[(f64, Holds)], cached: bool, doubled: bool) -> Self {
        let engine = &case.engine;
        let block = attention_block(case, layers);
        let in_flight = case.step.tokens.saturating_mul(if doubled { 2 } else { 1 });
        let mut pages = Self {
            groups: Vec::new(),
            block_bytes: 0.0,
            in_flight,
            slots: slots(case, cached),
            counts_groups: engine.version.is_some_and(|v| v < Version(0, 20, 2)),
        };
        if layers.iter().any(|(_, h)| matches!(h, Holds::Window { .. })) && is_compressed(layers, case) {
            pages.compressed(layers, block);
        } else if one_table(layers) {
            // Layers that need the same slots of tokens share one table, pages side by side (`UniformTypeKVCacheSpecs`).
            pages.block_bytes = layers.iter().map(|(n, h)| n * page(*h, block)).sum();
            pages.groups = layers.first().map_or_else(Vec::new, |(_, holds)| {
                vec![Group {
                    tables: 1.0,
                    holds: *holds,
                    block,
                }]
            });
        } else {
            pages.grouped(layers, block);
        }
        pages
    }

    /// Kinds are cut into groups of as many layers as the smallest kind has, or the largest where they are close
    /// (`_get_kv_cache_groups_uniform_page_size`); the pages of all kinds are made equal by larger blocks, or by padding where
    /// they do not divide (`unify_kv_cache_spec_page_size`).
    fn grouped(&mut self, layers: &[(f64, Holds)], block: u64) {
        let counts = layers.iter().map(|(n, _)| *n).filter(|n| *n > 0.0);
        let small = counts.clone().fold(f64::INFINITY, f64::min);
        let large = counts.fold(0.0, f64::max);
        let size = if large < 1.5 * small { large } else { small }.max(1.0);
        let widest = layers.iter().map(|(_, h)| page(*h, block)).fold(0.0, f64::max);
        self.block_bytes = widest * size;
        self.groups = layers
            .iter()
            .filter(|(n, _)| *n > 0.0)
            .map(|(n, holds)| {
                let own = page(*holds, block);
                let fits = if own > 0.0 { widest / own } else { 1.0 };
                let whole = (fits - fits.round()).abs() < 1e-9;
                let times = if whole && !matches!(holds, Holds::State(_)) {
                    fits.round() as u64
                } else {
                    1
                };
                Group {
                    tables: (n / size).ceil(),
                    holds: *holds,
                    block: block.saturating_mul(times.max(1)),
                }
            })
            .collect();
    }

    /// DeepSeek-V4's kinds are packed into one layout whose padding the bytes contain: no groups, each kind for itself.
    fn compressed(&mut self, layers: &[(f64, Holds)], block: u64) {
        self.counts_groups = false;
        self.block_bytes = 0.0;
        self.groups = layers
            .iter()
            .map(|(n, holds)| Group {
                tables: *n,
                holds: *holds,
                block,
            })
            .collect();
    }

    fn blocks(&self, group: &Group, length: u64) -> f64 {
        let block = group.block.max(1);
        match group.holds {
            Holds::All(_) => length.div_ceil(block) as f64,
            // The window may begin inside a block.
            Holds::Window { window, .. } => {
                let tokens = length.min((window.max(1) - 1).saturating_add(self.in_flight));
                (tokens.div_ceil(block) + 1) as f64
            }
            Holds::Chunk { chunk, .. } => length.min(chunk.saturating_add(self.in_flight)).div_ceil(block) as f64,
            Holds::State(_) => self.slots,
        }
    }

    /// Bytes that one request of `length` tokens must find (`_max_memory_usage_bytes_from_groups`).
    pub(super) fn request(&self, length: u64) -> f64 {
        let length = length.max(1);
        if self.block_bytes > 0.0 {
            let blocks: f64 = self.groups.iter().map(|g| g.tables * self.blocks(g, length)).sum();
            return blocks * self.block_bytes;
        }
        let tokens = |g: &Group| match g.holds {
            Holds::All(_) => (length.div_ceil(g.block.max(1)) * g.block.max(1)) as f64,
            Holds::Window { window, .. } => length.min((window.max(1) - 1).saturating_add(self.in_flight)) as f64,
            Holds::Chunk { chunk, .. } => length.min(chunk.saturating_add(self.in_flight)) as f64,
            Holds::State(_) => 0.0,
        };
        self.groups
            .iter()
            .map(|g| match g.holds {
                Holds::State(bytes) => g.tables * bytes * self.slots,
                other => g.tables * other.per_token() * tokens(g),
            })
            .sum()
    }

    /// Bytes that stand for a token in the log: requests × length since 0.20.2, before that blocks ÷ groups × block.
    pub(super) fn counted_per_token(&self, length: u64) -> f64 {
        let smallest = self.groups.iter().map(|g| g.block).min().unwrap_or(1).max(1) as f64;
        let tables: f64 = self.groups.iter().map(|g| g.tables).sum();
        let plain = self.groups.len() == 1 && matches!(self.groups[0].holds, Holds::All(_));
        if self.block_bytes > 0.0 && (self.counts_groups || plain) {
            return tables * self.block_bytes / smallest;
        }
        self.request(length) / length.max(1) as f64
    }

    /// State blocks of a pool: each admitted sequence needs one.
    pub(super) fn state_blocks(&self, bytes: f64) -> Option<f64> {
        let recurrent = self.groups.iter().any(|g| matches!(g.holds, Holds::State(_)));
        (recurrent && self.block_bytes > 0.0).then(|| (bytes / self.block_bytes).floor())
    }
}

fn page(holds: Holds, block: u64) -> f64 {
    match holds {
        Holds::State(bytes) => bytes,
        other => other.per_token() * block.max(1) as f64,
    }
}

/// All layers need the same slots: full attention of any width, windows of one size, or state of one size.
fn one_table(layers: &[(f64, Holds)]) -> bool {
    let alike = |a: &Holds, b: &Holds| match (a, b) {
        (Holds::All(_), Holds::All(_)) => true,
        (Holds::Window { window: a, .. }, Holds::Window { window: b, .. })
        | (Holds::Chunk { chunk: a, .. }, Holds::Chunk { chunk: b, .. }) => a == b,
        (Holds::State(a), Holds::State(b)) => (a - b).abs() < f64::EPSILON,
        _ => false,
    };
    layers.windows(2).all(|pair| alike(&pair[0].1, &pair[1].1))
}

fn is_compressed(layers: &[(f64, Holds)], case: &Case<'_>) -> bool {
    case.model.model_type.starts_with("deepseek_v4") && layers.len() > 1
}

/// Tokens of an attention block: as stated or 16, enlarged until a page holds one layer's state
/// (`HybridAttentionMambaModelConfig`, 0.10 to 0.19; `Platform._align_hybrid_block_size` since 0.20). Latent attention is
/// aligned to 64 tokens.
fn attention_block(case: &Case<'_>, layers: &[(f64, Holds)]) -> u64 {
    let block = defaults::block_size(&case.engine, case.settings);
    if case.engine.rules != Rules::VllmV1 {
        return block;
    }
    let state = layers.iter().filter_map(|(_, h)| match h {
        Holds::State(bytes) => Some(*bytes),
        _ => None,
    });
    let state = state.fold(0.0, f64::max);
    let per_token = layers.iter().map(|(_, h)| h.per_token()).fold(0.0, f64::max);
    if state <= 0.0 || per_token <= 0.0 {
        return block;
    }
    let latent = case
        .model
        .groups
        .iter()
        .any(|g| matches!(g.kind, LayerKind::Full(Attention::Latent { .. })));
    let step = if latent { 64 } else { 16 };
    let needed = (state / (per_token * step as f64)).ceil().min(1e9) as u64 * step;
    needed.max(block)
}

/// State blocks that a sequence takes (`MambaSpec.max_memory_usage_bytes`): one and one a speculated token, one more where
/// states are kept for prefix caching; before 0.16 one.
fn slots(case: &Case<'_>, cached: bool) -> f64 {
    if !case.engine.since(0, 16) {
        return 1.0;
    }
    let speculated = case
        .settings
        .speculative
        .filter(|on| *on)
        .map_or(0, |_| case.settings.speculative_tokens.unwrap_or(1));
    1.0 + f64::from(u8::from(cached)) + f64::from(speculated)
}
