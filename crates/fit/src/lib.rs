//! What a model needs: weights, KV cache, memory and throughput of a placement. Arithmetic with sources; no I/O.
//!
//! The seam with the analyzer: [`place`] says whether a model with these settings holds on a card and how much KV cache
//! is left, [`serves`] whether a placement carries a load within its latency limits. How both reckon, and how well:
//! docs/memory-model.md and docs/speed-model.md.
// Tests compare figures that must be exact.
#![cfg_attr(test, allow(clippy::float_cmp))]

mod amount;
mod bands;
pub mod book;
pub mod copy;
mod defaults;
mod instance;
mod judge;
mod kv;
mod limits;
pub mod load;
mod memory;
mod paths;
mod pool;
mod quantization;
mod roofline;
pub mod search;
mod sglang;
pub mod speed;
mod steps;
mod throughput;
mod weights;

pub use bands::{BandSource, replace as replace_bands};
pub use kv::{is_known_dtype, is_known_state_dtype};
pub use quantization::is_known as is_known_quantization;
pub use throughput::serves;

use gpuwaste_catalog as catalog;
use gpuwaste_engine as engine;
use gpuwaste_facts::{snapshot, units};

use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelFacts;
use crate::snapshot::server::EngineSettings;
use crate::units::{Bytes, Ratio, Tokens};
use std::sync::Arc;

/// How one replica is spread over GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parallelism {
    pub tensor: u32,
    pub pipeline: u32,
    pub data: u32,
}

impl Parallelism {
    pub const ONE: Self = Self {
        tensor: 1,
        pipeline: 1,
        data: 1,
    };

    /// GPUs of one replica.
    pub fn gpus(self) -> u32 {
        self.tensor.saturating_mul(self.pipeline).saturating_mul(self.data)
    }
}

impl Default for Parallelism {
    fn default() -> Self {
        Self::ONE
    }
}

/// What a live server told of its own memory, with the placement it told it for: replaces the estimate of the overhead
/// for this engine, GPU and parallelism, or moves it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// Catalogue name of the GPU it holds for.
    pub gpu: String,
    pub parallelism: Parallelism,
    /// KV capacity of one engine (data-parallel rank), as the server says.
    pub kv_capacity: Tokens,
    /// Set where the server is like this one but for one thing: how much more of the card its pool had than estimated. The
    /// estimate moves by it, the band stays.
    pub moved: Option<Ratio>,
    /// Servers like this one told it, and too few or too different ones for a narrow band: its ends in tokens.
    pub ends: Option<(Tokens, Tokens)>,
    /// Others contradict it: it makes nothing surer.
    pub doubted: bool,
    /// Servers of other fleets among those that told it.
    pub elsewhere: u32,
    /// Where it comes from, in one sentence; empty: from the server itself.
    pub reason: String,
}

/// The answer of the memory model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FitVerdict {
    /// Even at the band's bad end.
    Fits,
    /// Inside the band: it depends on what no source states.
    Tight,
    /// Not even at the band's good end, or a hard limit forbids it.
    DoesNotFit,
    #[default]
    Unknown,
}

impl FitVerdict {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::Tight => "tight",
            Self::DoesNotFit => "does-not-fit",
            Self::Unknown => "unknown",
        }
    }
}

/// How sure a placement is; R6's words, kept apart from the analyzer's type since `fit` does not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FitConfidence {
    /// Model from its name, or settings defaulted for an unknown engine version.
    #[default]
    Assumed,
    /// Uncalibrated memory model.
    Estimated,
    /// Calibrated by the server's own block count, with a catalogue or config model.
    Measured,
}

/// A value with the ends of its band; `low <= value <= high`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Band<T> {
    pub low: T,
    pub value: T,
    pub high: T,
}

/// A model on cards. Each `None`: not modelled for this model or engine, never 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    pub verdict: FitVerdict,
    /// One sentence with the figures that decided.
    pub reason: String,
    pub confidence: FitConfidence,
    pub confidence_reasons: Vec<String>,
    pub weights_per_gpu: Option<Bytes>,
    pub overhead_per_gpu: Option<Band<Bytes>>,
    /// Left for the KV cache.
    pub kv_per_gpu: Option<Bytes>,
    /// Its band.
    pub kv_band: Option<Band<Bytes>>,
    /// Where the band comes from.
    pub kv_band_source: Option<BandSource>,
    /// Growth of a long sequence by one token (full-attention layers), on the fullest GPU.
    pub kv_bytes_per_token_per_gpu: Option<f64>,
    /// Tokens one engine (data-parallel rank) can hold; the band's low end is the bad one.
    pub kv_capacity: Option<Band<Tokens>>,
    /// Sequences of `max_model_len` at once.
    pub max_concurrency: Option<f64>,
    /// Settings as resolved: stated, else the engine's default for its version.
    pub max_model_len: Option<u64>,
    pub max_num_seqs: Option<u64>,
    /// Not memory but a limit of the card, the engine or the model forbids it.
    pub forbidden: bool,
    /// What the throughput model needs; `None`: no roofline for this model or card.
    pub roofline: Option<Roofline>,
}

/// Inputs of the step-time model for one engine (data-parallel rank); see [`speed`] and docs/speed-model.md.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roofline {
    pub tensor: u32,
    pub pipeline: u32,
    /// Ranks that share attention: fewer than `tensor` under data-parallel attention.
    pub attention_ranks: f64,
    /// Ranks of data-parallel attention inside the tensor-parallel ones, each with its part of the sequences; else 1.
    pub data_ranks: f64,
    /// Data-parallel engines that share one set of experts (vLLM's expert parallelism), each with a batch of its own; else 1.
    pub expert_engines: f64,
    pub layers: u32,
    pub hidden: f64,
    /// Kernels that one step launches, all layers together.
    pub kernels: f64,
    /// Bytes read each step whatever the batch: dense weights without the input embedding, whole model.
    pub dense_bytes: f64,
    /// Bytes of all routed experts, whole model; 0 for dense models.
    pub expert_bytes: f64,
    /// Routed experts of a layer, and how many of them a token takes; 0 for dense models.
    pub experts: f64,
    pub experts_per_token: f64,
    /// Parameters that every token meets: attention, dense layers, shared experts, head.
    pub dense_parameters: f64,
    /// Parameters of the routed experts that one token meets.
    pub expert_parameters: f64,
    /// Σ over layers with full attention of heads × (key + value width): 2 FLOP each per token of context.
    pub attention_width: f64,
    /// The same of windowed layers.
    pub windowed_width: f64,
    pub structure: speed::Structure,
    pub kv_bytes_per_token_per_gpu: f64,
    /// Windowed layers: bytes per token per GPU, and the window in tokens.
    pub windowed_bytes_per_token_per_gpu: f64,
    pub window: f64,
    /// Recurrent state per sequence per GPU.
    pub state_bytes: f64,
    /// Bits a weight takes: of the experts in a mixture, else of the linear layers.
    pub weight_bits: f64,
    /// Bits that their kernel multiplies in.
    pub compute_bits: u32,
    /// Peak of the card, bytes per second.
    pub bandwidth: f64,
    /// Peak dense FLOPS of what the kernels compute in.
    pub flops: f64,
    /// Peak dense FLOPS at 16 bit, which attention computes in.
    pub flops_16: f64,
    pub engine: speed::Engine,
    pub card: speed::Card,
}

/// What a workload is observed to do. Totals of one engine: a replica's, divided by its data-parallel ranks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// p95 over the window.
    pub prompt_tokens_per_second: f64,
    /// p95 over the window.
    pub output_tokens_per_second: f64,
    /// Requests running at once, at the peak.
    pub peak_running: f64,
    /// KV tokens held at the peak.
    pub peak_kv_tokens: f64,
    /// Mean tokens of a request, prompt and output.
    pub prompt_length: Option<f64>,
    pub output_length: Option<f64>,
    /// The present placement and its measured latency: the ratio method.
    pub current: Option<Current>,
    /// Servers of the same fleet with measured step times: one that stands where this load may go tells more than a ratio.
    pub own: Arc<[speed::Measured]>,
}

/// Measured on the present placement.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    pub placement: Placement,
    /// How much of the load one engine carried while it was measured: 1 where the replicas stay as many, ¾ where the load
    /// is that of three replicas which four carried. Without it fewer replicas would look as fast as before.
    pub measured_share: f64,
    /// Seconds between output tokens, p95.
    pub inter_token_latency: Option<f64>,
    /// Seconds, p95.
    pub time_to_first_token: Option<f64>,
}

/// Latency limits and headroom; the policy's numbers (docs/definitions.md, oversized-tier).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slo {
    /// KV capacity ≥ this × the peak.
    pub kv_headroom: f64,
    /// Throughput ≥ this × p95.
    pub throughput_headroom: f64,
    /// Latency may grow to this × the observed, or to the limits below, whichever is more.
    pub latency_growth: f64,
    /// Seconds.
    pub inter_token_latency: f64,
    /// Seconds.
    pub time_to_first_token: f64,
}

/// Does the placement carry the load?
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// `None`: no throughput model, so it cannot be said.
    pub serves: Option<bool>,
    /// The first limit that fails, or the tightest that holds, with figures.
    pub reason: String,
    /// Output tokens per second at the load's mix of prompt and output.
    pub output_capacity: Option<f64>,
    /// Expected at the load, seconds.
    pub expected_inter_token_latency: Option<f64>,
    /// At the bad end of what is known, seconds: what the limits are held against.
    pub inter_token_latency: Option<f64>,
    pub time_to_first_token: Option<f64>,
    /// Predicted ITL is worse than the growth limit allows, but under the absolute limit: the trade must be printed.
    pub slower: bool,
    /// By the ratio to a measurement; otherwise the absolute roofline (R6: estimated).
    pub by_ratio: bool,
}

/// Where `model` with `settings` stands on `gpu`: memory, hard limits, and the inputs of the throughput model.
pub fn place(
    model: &ModelFacts,
    settings: &EngineSettings,
    gpu: &GpuFacts,
    parallelism: Parallelism,
    calibration: Option<&Calibration>,
) -> Placement {
    instance::place(model, settings, gpu, parallelism, calibration)
}

#[cfg(test)]
mod tests;
