//! What a sequence holds, as resources: tokens of full attention, windows, recurrent state, compressed entries and the draft's
//! layers, and how each engine's allocator shares its pool among them.
//!
//! The capacity is the number of requests of the asked length; tokens follow from it.

mod compressed;
mod element;
mod layers;
mod pages;
mod pools;
#[cfg(test)]
mod tests;

pub use element::{is_known_dtype, is_known_state_dtype};

use super::defaults::Rules;
use super::memory::Case;
use super::paths::{self, Path};
use pages::Pages;
use pools::Pools;

/// One kind of layer on the fullest GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Holds {
    /// Bytes per token, for all of the context.
    All(f64),
    /// Bytes per token, for the window's tokens.
    Window { bytes: f64, window: u64 },
    /// Bytes per token, for the current chunk's tokens (Llama-4).
    Chunk { bytes: f64, chunk: u64 },
    /// Bytes per sequence.
    State(f64),
}

impl Holds {
    /// Bytes of one token, 0 for state.
    fn per_token(self) -> f64 {
        match self {
            Self::All(b) | Self::Window { bytes: b, .. } | Self::Chunk { bytes: b, .. } => b,
            Self::State(_) => 0.0,
        }
    }

    fn bytes(self) -> f64 {
        match self {
            Self::State(b) => b,
            other => other.per_token(),
        }
    }
}

/// How an engine gives its pool to the resources.
#[derive(Clone, Debug)]
enum Plan {
    /// vLLM's blocks, shared by groups of layers.
    Pages(Pages),
    /// SGLang's pools of tokens and state slots, sized in fixed proportions.
    Pools(Pools),
    /// Every layer for itself.
    Flat { tokens_in_flight: u64, block: u64 },
}

/// A sequence's memory on the fullest GPU, as the engine allocates it on one path.
#[derive(Clone, Debug)]
pub(super) struct Context {
    /// (layers, what one layer holds).
    layers: Vec<(f64, Holds)>,
    plan: Plan,
    /// What the formats' bytes may be off by: (low, high).
    pub(super) doubt: (f64, f64),
}

/// What a pool gives.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Capacity {
    /// Requests of the asked length at once.
    pub(super) requests: f64,
    /// Tokens as the engine counts them.
    pub(super) tokens: f64,
}

/// The ways that the engine may hold this model, the likeliest first. `None`: the architecture, or the cache's element, is
/// not known.
pub(super) fn contexts(case: &Case<'_>) -> Option<Vec<Context>> {
    if case.model.groups.is_empty() {
        return None;
    }
    let held = layers::of(case)?;
    let mut all = Vec::new();
    for (layers, doubt) in held {
        for plan in plans(case, &layers) {
            all.push(Context {
                layers: layers.clone(),
                plan,
                doubt,
            });
        }
    }
    Some(all)
}

/// Whether the engine counts a window layer as a full one: vLLM before its hybrid manager, TGI.
fn windows_as_full(case: &Case<'_>) -> bool {
    let engine = &case.engine;
    engine.rules == Rules::VllmV0
        || engine.rules == Rules::VllmV1 && (!engine.since(0, 9) || case.settings.hybrid_kv_off == Some(true))
        || engine.rules == Rules::Tgi
}

fn plans(case: &Case<'_>, layers: &[(f64, Holds)]) -> Vec<Plan> {
    match case.engine.rules {
        Rules::VllmV1 => {
            let both = |path: Path| match path {
                Path::Old => vec![false],
                Path::New => vec![true],
                Path::Either => vec![false, true],
            };
            let has = |f: fn(&Holds) -> bool| layers.iter().any(|(_, h)| f(h));
            // A path that decides nothing for this model is not a path.
            let cached = if has(|h| matches!(h, Holds::State(_))) {
                both(paths::caches_state(case))
            } else {
                vec![false]
            };
            let doubled = if has(|h| matches!(h, Holds::Window { .. } | Holds::Chunk { .. })) {
                both(paths::counts_both_batches(&case.engine))
            } else {
                vec![false]
            };
            let mut plans = Vec::new();
            for cached in &cached {
                for doubled in &doubled {
                    plans.push(Plan::Pages(Pages::of(case, layers, *cached, *doubled)));
                }
            }
            plans
        }
        Rules::Sglang => pools::of(case, layers).into_iter().map(Plan::Pools).collect(),
        _ => vec![Plan::Flat {
            tokens_in_flight: case.step.tokens,
            block: super::defaults::block_size(&case.engine, case.settings),
        }],
    }
}

impl Context {
    /// No layer has context memory of any kind.
    pub(super) fn is_empty(&self) -> bool {
        self.layers.iter().all(|(n, h)| n * h.bytes() <= 0.0)
    }

    /// Bytes of one more token in a long sequence.
    pub(super) fn per_token(&self) -> f64 {
        self.sum(|h| match h {
            Holds::All(bytes) => bytes,
            _ => 0.0,
        })
    }

    /// (bytes per token, window) of the windowed layers.
    pub(super) fn windowed(&self) -> (f64, f64) {
        let bytes = self.sum(|h| match h {
            Holds::Window { bytes, .. } | Holds::Chunk { bytes, .. } => bytes,
            _ => 0.0,
        });
        let window = self.layers.iter().filter_map(|(_, h)| match h {
            Holds::Window { window, .. } | Holds::Chunk { chunk: window, .. } => Some(*window),
            _ => None,
        });
        (bytes, window.max().unwrap_or(0) as f64)
    }

    /// Recurrent state of a sequence.
    pub(super) fn state(&self) -> f64 {
        self.sum(|h| match h {
            Holds::State(bytes) => bytes,
            _ => 0.0,
        })
    }

    fn sum(&self, f: impl Fn(Holds) -> f64) -> f64 {
        self.layers.iter().map(|(n, h)| n * f(*h)).sum()
    }

    /// Bytes of a pool that one request of `length` tokens takes, as the engine must reserve them.
    pub(super) fn request(&self, length: u64) -> f64 {
        match &self.plan {
            Plan::Pages(pages) => pages.request(length),
            Plan::Pools(pools) => pools.request(length),
            Plan::Flat {
                tokens_in_flight,
                block,
            } => self.flat(length, *tokens_in_flight, *block),
        }
    }

    fn flat(&self, length: u64, in_flight: u64, block: u64) -> f64 {
        let length = length.max(1);
        let rounded = (length.div_ceil(block.max(1)) * block.max(1)) as f64;
        let window = |w: u64| length.min(w.saturating_add(in_flight)) as f64;
        self.sum(|h| match h {
            Holds::All(bytes) => bytes * rounded,
            Holds::Window { bytes, window: w } | Holds::Chunk { bytes, chunk: w } => bytes * window(w),
            Holds::State(bytes) => bytes,
        })
    }

    /// Bytes of the pool that stand for one token where the engine tells its capacity in tokens.
    pub(super) fn counted_per_token(&self, length: u64) -> f64 {
        match &self.plan {
            Plan::Pages(pages) => pages.counted_per_token(length),
            Plan::Pools(pools) => pools.counted_per_token(),
            Plan::Flat { .. } => self.request(length) / length.max(1) as f64,
        }
    }

    /// What a pool of `bytes` gives to requests of `length` tokens.
    pub(super) fn capacity(&self, bytes: f64, length: u64) -> Capacity {
        let bytes = bytes.max(0.0);
        let (request, per_token) = (self.request(length), self.counted_per_token(length));
        let share = |of: f64| if of > 0.0 { bytes / of } else { 0.0 };
        match &self.plan {
            Plan::Pools(pools) => Capacity {
                requests: pools.requests(bytes, length),
                tokens: pools.tokens(bytes),
            },
            _ => Capacity {
                requests: share(request),
                tokens: share(per_token),
            },
        }
    }

    /// State blocks that a pool of `bytes` gives, where sequences need one each; `None`: no recurrent layers.
    pub(super) fn state_blocks(&self, bytes: f64) -> Option<f64> {
        match &self.plan {
            Plan::Pages(pages) => pages.state_blocks(bytes.max(0.0)),
            _ => None,
        }
    }
}
