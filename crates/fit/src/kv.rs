//! What a sequence holds: KV cache that grows with it, windows that do not, recurrent state.
//!
//! Per layer and GPU: grouped attention `max(1, KV ÷ T) · (d_k + d_v) · b`; latent attention `(kv_lora + rope) · b` on
//! every rank [vLLM `get_num_kv_heads`, `MLAAttentionSpec`]. Layers of different kinds share one pool: they are cut into
//! groups of equal size, padded where they do not divide [vLLM `kv_cache_utils`].

use super::defaults::{Engine, Rules, Version};
use super::quantization::Scheme;
use super::weights::Spread;
use crate::catalog::models::{Attention, LayerKind, ModelFacts, State};
use crate::snapshot::server::EngineSettings;

/// One kind of layer on the fullest GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Holds {
    /// Bytes per token, for all of the context.
    All(f64),
    /// Bytes per token, for the window's tokens.
    Window { bytes: f64, window: u64 },
    /// Bytes per sequence.
    State(f64),
}

/// A sequence's memory on the fullest GPU, as the engine allocates it.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    /// (layers, what one layer holds).
    layers: Vec<(f64, Holds)>,
    /// Tokens of one block.
    pub(super) block: u64,
    in_flight: u64,
    /// State blocks a sequence takes.
    state_slots: f64,
    /// vLLM before the hybrid cache manager, and engines without one: windows cost the full context.
    windows_as_full: bool,
    /// Tokens are counted as if all layers were full (vLLM's log before 0.20.2).
    counts_layers: bool,
    /// Blocks are shared between kinds of layers (vLLM's hybrid manager).
    pooled: bool,
    /// What the formats' bytes may be off by: (low, high).
    pub(super) doubt: (f64, f64),
}

/// Bytes of one cache element; `None`: a dtype that is not known.
pub(super) fn element_bytes(settings: &EngineSettings, scheme: &Scheme) -> Option<f64> {
    let full = settings
        .dtype
        .as_deref()
        .is_some_and(|d| matches!(d, "float32" | "float" | "fp32"));
    dtype_bytes(
        settings.kv_cache_dtype.as_deref().unwrap_or("auto"),
        full,
        scheme.kv_fp8,
    )
}

/// A value of `--kv-cache-dtype` whose size is known.
pub fn is_known_dtype(text: &str) -> bool {
    dtype_bytes(text, false, false).is_some()
}

fn dtype_bytes(stated: &str, full: bool, checkpoint_fp8: bool) -> Option<f64> {
    Some(match stated.to_ascii_lowercase().as_str() {
        "auto" | "" if checkpoint_fp8 => 1.0,
        "auto" | "" => {
            if full {
                4.0
            } else {
                2.0
            }
        }
        "bfloat16" | "bf16" | "float16" | "fp16" | "half" | "f16" => 2.0,
        "float32" | "fp32" | "f32" => 4.0,
        // llama.cpp: 32 elements with one 16-bit scale.
        "q8_0" => 1.0625,
        "q4_0" | "iq4_nl" | "nvfp4" => 0.5625,
        "q4_1" => 0.625,
        "q5_0" => 0.6875,
        "q5_1" => 0.75,
        s if s.starts_with("fp8") || s.starts_with("int8") => 1.0,
        s if ["fp4", "mxfp4", "int4"].iter().any(|p| s.starts_with(p)) => 0.53125,
        _ => return None,
    })
}

/// Bytes a token of one layer, per GPU.
fn attention_bytes(attention: Attention, tensor: f64, element: f64, packed: bool, engine: &Engine) -> f64 {
    match attention {
        Attention::Grouped {
            kv_heads,
            head_dim,
            v_head_dim,
            ..
        } => (f64::from(kv_heads) / tensor).ceil().max(1.0) * f64::from(head_dim + v_head_dim) * element,
        Attention::Latent {
            kv_lora_rank,
            rope_dim,
            index_head_dim,
            ..
        } => {
            // The indexer's keys are fp8 with one fp32 scale per 128 elements.
            let index = index_head_dim.map_or(0.0, |d| f64::from(d) + f64::from(d.div_ceil(128)) * 4.0);
            let latent = f64::from(kv_lora_rank + rope_dim) * element;
            // fp8 latent, four fp32 scales, 16-bit rope: 656 bytes.
            let layout = f64::from(kv_lora_rank) + 16.0 + 2.0 * f64::from(rope_dim);
            if packed { layout + index } else { latent + index }
        }
        // SGLang gives encoders a KV pool of full width; other engines none.
        Attention::Bidirectional { heads, head_dim } if engine.rules == Rules::Sglang => {
            (f64::from(heads) / tensor).ceil() * 2.0 * f64::from(head_dim) * element
        }
        Attention::Bidirectional { .. } => 0.0,
    }
}

fn is_indexed(kind: &LayerKind) -> bool {
    matches!(
        kind,
        LayerKind::Full(Attention::Latent {
            index_head_dim: Some(_),
            ..
        })
    )
}

fn state_bytes(state: &State, tensor: f64, element: f64) -> f64 {
    (state.conv_elements as f64 * element + state.recurrent_elements as f64 * state.recurrent_element_bytes) / tensor
}

/// What a DeepSeek-V4 layer holds in vLLM: page bytes of its cache specifications (0.22), each padded to a multiple of
/// 576 bytes, over the tokens of a page.
mod compressed {
    use super::Holds;

    /// One latent entry: 448 fp8 + 64 bf16 + 8 scales.
    const ENTRY: f64 = 584.0;
    /// Tokens of a block, whatever their compression.
    const BLOCK: f64 = 256.0;
    /// Packing the kinds of a layer into one layout: three logged starts need 1.04 to 1.05 of the pages' sum (262,144 and
    /// 131,072 tokens in 32.08 GiB at 8.30 and 9.52 requests; 256,000 in 37.93 GiB at 9.76).
    const PACKING: f64 = 1.045;

    fn page(bytes: f64) -> f64 {
        (bytes / 576.0).ceil() * 576.0 * PACKING
    }

    /// Every layer, compressed or not, keeps a window of all tokens, 64 a page.
    pub(super) fn window(window: u64) -> Holds {
        let bytes = page(64.0 * ENTRY) / 64.0;
        Holds::Window { bytes, window }
    }

    /// Entries of a layer that compresses `ratio` tokens into one, its index keys (fp8 and one fp32 scale), and the fp32
    /// keys and scores of the compressors, a window of 2 × ratio tokens at ratio 4 and of one ratio above.
    pub(super) fn layer(ratio: u32, index: Option<u32>) -> Vec<Holds> {
        let r = f64::from(ratio.max(1));
        let (overlap, tokens) = if ratio <= 4 { (2.0, 4.0) } else { (1.0, 8.0) };
        let state = |dim: f64| 2.0 * overlap * dim * 4.0;
        let sliding = u64::from(ratio) * overlap as u64;
        // All compressors of the latent share one page size.
        let compressor = page((tokens * state(512.0)).max(64.0 * ENTRY)) / tokens;
        let mut held = vec![
            Holds::All(page(BLOCK / r * ENTRY) / BLOCK),
            Holds::Window {
                bytes: compressor,
                window: sliding,
            },
        ];
        if let Some(dim) = index.map(f64::from) {
            held.push(Holds::All(page(BLOCK / r * (dim + 4.0)) / BLOCK));
            let bytes = page(tokens * state(dim)) / tokens;
            held.push(Holds::Window { bytes, window: sliding });
        }
        held
    }
}

/// `None`: the architecture, or the cache's element, is not known.
pub(super) fn context(
    model: &ModelFacts,
    engine: &Engine,
    settings: &EngineSettings,
    scheme: &Scheme,
    spread: &Spread,
    in_flight: u64,
    block: u64,
) -> Option<Context> {
    if model.groups.is_empty() {
        return None;
    }
    let element = element_bytes(settings, scheme)?;
    let tensor = spread.attention_ranks;
    let stage = |layers: u32| (f64::from(layers) / spread.pipeline).ceil();
    let mut context = Context {
        block,
        in_flight,
        state_slots: 1.0,
        doubt: (1.0, 1.0),
        windows_as_full: engine.rules == Rules::VllmV0
            || engine.rules == Rules::VllmV1 && !engine.since(0, 9)
            || engine.rules == Rules::Tgi,
        counts_layers: engine.is_vllm() && engine.version.is_some_and(|v| v < Version(0, 20, 2)),
        pooled: engine.rules == Rules::VllmV1,
        ..Context::default()
    };
    // vLLM packs the fp8 cache of sparse attention (`fp8_ds_mla`), in layers that share another's index too.
    let packed = element < 2.0 && engine.is_vllm() && model.groups.iter().any(|g| is_indexed(&g.kind));
    // V0 sizes Whisper's cache by `num_hidden_layers`, which counts the encoder's layers, not the decoder's.
    let by_encoder = engine.rules == Rules::VllmV0 && model.model_type == "whisper";
    for group in &model.groups {
        let layers = stage(group.layers);
        if by_encoder {
            if let LayerKind::Full(Attention::Bidirectional { heads, head_dim }) = group.kind {
                let heads = (f64::from(heads) / tensor).ceil();
                context.add(layers, Holds::All(heads * 2.0 * f64::from(head_dim) * element));
            }
            continue;
        }
        let bytes = |a: Attention| attention_bytes(a, tensor, element, packed, engine);
        match &group.kind {
            LayerKind::Full(a) => context.add(layers, Holds::All(bytes(*a))),
            // vLLM stores DeepSeek-V4's window layers in the same fp8 entries as its compressed ones.
            LayerKind::Sliding { window, .. } if model.model_type == "deepseek_v4" => {
                context.add(layers, compressed::window(*window));
            }
            LayerKind::Sliding { attention, window } | LayerKind::Chunked { attention, window } => {
                let bytes = bytes(*attention);
                context.add(layers, Holds::Window { bytes, window: *window });
            }
            LayerKind::Compressed {
                ratio,
                window,
                index_head_dim,
                ..
            } => {
                context.windows_as_full = false;
                context.add(layers, compressed::window(*window));
                for held in compressed::layer(*ratio, *index_head_dim) {
                    context.add(layers, held);
                }
                context.pooled = false;
                context.counts_layers = false;
                // Older layouts pad more, and the tokens of a step, which no default tells for sure, decide the windows: a
                // start that needed 6.66 GiB for 30,000 tokens had twice the step and 1.1 times the padding.
                context.doubt = match engine.rules {
                    Rules::Sglang => (0.3, 4.0),
                    _ if engine.version.is_some() && engine.since(0, 21) => (0.95, 1.2),
                    _ => (0.9, 2.5),
                };
            }
            LayerKind::Parallel { attention, state } => {
                context.add(layers, Holds::All(bytes(*attention)));
                context.add(layers, Holds::State(state_bytes(state, tensor, 2.0)));
            }
            LayerKind::Recurrent(held) => context.add(layers, Holds::State(state_bytes(held, tensor, 2.0))),
            LayerKind::SharedKv | LayerKind::None => {}
        }
    }
    if model.model_type == "deepseek_v41" {
        // Its compression ratios are not published; the order of V4's is.
        context.doubt = (0.2, 2.2);
    }
    // One layer and head more for a draft that shares the cache (MTP, EAGLE).
    if settings.speculative == Some(true)
        && let Some((layers, _)) = context.layers.first_mut()
    {
        *layers += 1.0;
    }
    context.hybrid_blocks(engine, settings);
    Some(context)
}

impl Context {
    fn add(&mut self, layers: f64, holds: Holds) {
        let holds = match holds {
            Holds::Window { bytes, .. } if self.windows_as_full => Holds::All(bytes),
            other => other,
        };
        if let Some((count, _)) = self.layers.iter_mut().find(|(_, h)| *h == holds) {
            *count += layers;
        } else {
            self.layers.push((layers, holds));
        }
    }

    /// vLLM enlarges the attention block of hybrids until one page of it holds one layer's state; with prefix caching
    /// (on by default since 0.20 for these) a sequence takes two state blocks, one more per speculated token.
    fn hybrid_blocks(&mut self, engine: &Engine, settings: &EngineSettings) {
        let state = self.layers.iter().filter_map(|(_, h)| match h {
            Holds::State(bytes) => Some(*bytes),
            _ => None,
        });
        let state = state.fold(0.0, f64::max);
        let per_token = self.full_per_layer();
        if state <= 0.0 || engine.rules != Rules::VllmV1 {
            return;
        }
        if per_token > 0.0 {
            let tokens = (state / per_token).ceil() as u64;
            let step = self.block.max(16);
            self.block = tokens.div_ceil(step).saturating_mul(step).max(self.block);
        }
        let cached = settings.prefix_caching.unwrap_or(engine.since(0, 20));
        self.state_slots = if cached { 2.0 } else { 1.0 };
        if settings.speculative == Some(true) {
            self.state_slots += 1.0;
        }
    }

    fn full_per_layer(&self) -> f64 {
        let all = self.layers.iter().filter_map(|(_, h)| match h {
            Holds::All(bytes) => Some(*bytes),
            _ => None,
        });
        all.fold(0.0, f64::max)
    }

    pub(super) fn has_state(&self) -> bool {
        self.layers.iter().any(|(_, h)| matches!(h, Holds::State(_)))
    }

    /// Layers with context memory of any kind.
    pub(super) fn is_empty(&self) -> bool {
        self.layers.iter().all(|(n, h)| match h {
            Holds::All(b) | Holds::Window { bytes: b, .. } | Holds::State(b) => n * b <= 0.0,
        })
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
            Holds::Window { bytes, .. } => bytes,
            _ => 0.0,
        });
        let window = self.layers.iter().filter_map(|(_, h)| match h {
            Holds::Window { window, .. } => Some(*window),
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

    /// Layers of a group: all kinds are cut to the smallest kind's count, or the largest where they are close.
    fn group_size(&self) -> f64 {
        let counts = self.layers.iter().map(|(n, _)| *n);
        let small = counts.clone().fold(f64::INFINITY, f64::min);
        let large = counts.fold(0.0, f64::max);
        if large < 1.5 * small { large } else { small.max(1.0) }
    }

    fn groups(&self, count: f64) -> f64 {
        let size = self.group_size();
        if size > 0.0 { (count / size).ceil() } else { 0.0 }
    }

    fn blocks(&self, length: f64) -> f64 {
        (length / self.block.max(1) as f64).ceil().max(1.0)
    }

    fn window_tokens(&self, length: f64, window: u64) -> f64 {
        length.min((window.max(1) - 1) as f64 + self.in_flight as f64)
    }

    /// Bytes of one block over all layers of a group.
    fn block_bytes(&self) -> f64 {
        let page = self
            .layers
            .iter()
            .map(|(_, h)| match h {
                Holds::All(b) | Holds::Window { bytes: b, .. } => b * self.block.max(1) as f64,
                Holds::State(b) => *b,
            })
            .fold(0.0, f64::max);
        page * self.group_size()
    }

    /// Full attention alone, if of several widths: one block table, pages side by side [vLLM `UniformTypeKVCacheSpecs`].
    fn only_full(&self) -> bool {
        self.layers.iter().all(|(_, h)| matches!(h, Holds::All(_)))
    }

    /// Kinds share blocks of one size.
    fn shares_blocks(&self) -> bool {
        self.pooled && self.layers.len() > 1 && !self.only_full()
    }

    /// Bytes of a sequence of `length` tokens as the engine must reserve them.
    pub(super) fn sequence(&self, length: u64) -> f64 {
        let length = length.max(1) as f64;
        if self.shares_blocks() {
            let blocks: f64 = self
                .layers
                .iter()
                .map(|(count, holds)| {
                    let groups = self.groups(*count);
                    groups
                        * match holds {
                            Holds::All(_) => self.blocks(length),
                            Holds::Window { window, .. } => {
                                (self.blocks(self.window_tokens(length, *window)) + 1.0).min(self.blocks(length))
                            }
                            Holds::State(_) => self.state_slots,
                        }
                })
                .sum();
            return blocks * self.block_bytes();
        }
        let rounded = self.blocks(length) * self.block.max(1) as f64;
        self.sum(|h| match h {
            Holds::All(bytes) => bytes * rounded,
            Holds::Window { bytes, window } => bytes * self.window_tokens(length, window),
            Holds::State(bytes) => bytes * self.state_slots,
        })
    }

    /// Bytes that stand for one token where the engine tells its capacity in tokens.
    pub(super) fn counted_per_token(&self, length: u64) -> f64 {
        let length = length.max(1);
        if self.only_full() {
            return self.per_token();
        }
        if !self.shares_blocks() {
            return self.sequence(length) / length as f64;
        }
        if self.counts_layers {
            let groups: f64 = self.layers.iter().map(|(n, _)| self.groups(*n)).sum();
            return groups * self.block_bytes() / self.block.max(1) as f64;
        }
        self.sequence(length) / length as f64
    }

    /// State blocks that a pool of `bytes` gives; `None`: no recurrent layers.
    pub(super) fn state_blocks(&self, bytes: f64) -> Option<f64> {
        let block = self.block_bytes();
        (self.has_state() && block > 0.0).then(|| (bytes / block).floor())
    }
}
