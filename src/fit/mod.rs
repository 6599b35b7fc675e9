//! What a model needs: weights, KV cache, memory and throughput of a placement. Arithmetic with sources; no I/O.
//!
//! The seam with the analyzer: [`place`] says whether a model with these settings holds on a card and how much KV cache
//! is left, [`serves`] whether a placement carries a load within its latency limits.
#[cfg(feature = "internals")]
#[allow(unreachable_pub, reason = "re-exported by the feature")]
pub mod bench;
mod amount;
mod bands;
mod defaults;
mod instance;
mod judge;
mod kv;
mod limits;
mod memory;
mod paths;
mod pool;
mod quantization;
mod roofline;
pub(crate) mod search;
mod sglang;
mod steps;
mod throughput;
mod weights;

pub(crate) use kv::is_known_dtype;
pub(crate) use quantization::is_known as is_known_quantization;
pub(crate) use throughput::serves;

use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelFacts;
use crate::snapshot::server::EngineSettings;
use crate::units::{Bytes, Ratio, Tokens};

/// How one replica is spread over GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Parallelism {
    pub(crate) tensor: u32,
    pub(crate) pipeline: u32,
    pub(crate) data: u32,
}

impl Default for Parallelism {
    fn default() -> Self {
        Self::ONE
    }
}

impl Parallelism {
    pub(crate) const ONE: Self = Self {
        tensor: 1,
        pipeline: 1,
        data: 1,
    };

    /// GPUs of one replica.
    pub(crate) fn gpus(self) -> u32 {
        self.tensor.saturating_mul(self.pipeline).saturating_mul(self.data)
    }
}

/// What a live server told of its own memory, with the placement it told it for: replaces the estimate of the overhead
/// for this engine, GPU and parallelism, or moves it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Calibration {
    /// Catalogue name of the GPU it holds for.
    pub(crate) gpu: String,
    pub(crate) parallelism: Parallelism,
    /// KV capacity of one engine (data-parallel rank), as the server says.
    pub(crate) kv_capacity: Tokens,
    /// Set where the server is like this one but for one thing: how much more of the card its pool had than estimated. The
    /// estimate moves by it, the band stays.
    pub(crate) moved: Option<Ratio>,
    /// Where it comes from, in one sentence; empty: from the server itself.
    pub(crate) reason: String,
}

/// The answer of the memory model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum FitVerdict {
    /// Even at the band's bad end.
    Fits,
    /// Inside the band: it depends on what no source states.
    Tight,
    /// Not even at the band's good end, or a hard limit forbids it.
    DoesNotFit,
    #[default]
    Unknown,
}

/// How sure a placement is; R6's words, kept apart from the analyzer's type since `fit` does not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FitConfidence {
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
pub(crate) struct Band<T> {
    pub(crate) low: T,
    pub(crate) value: T,
    pub(crate) high: T,
}

/// A model on cards. Each `None`: not modelled for this model or engine, never 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Placement {
    pub(crate) verdict: FitVerdict,
    /// One sentence with the figures that decided.
    pub(crate) reason: String,
    pub(crate) confidence: FitConfidence,
    pub(crate) confidence_reasons: Vec<String>,
    pub(crate) weights_per_gpu: Option<Bytes>,
    pub(crate) overhead_per_gpu: Option<Band<Bytes>>,
    /// Left for the KV cache.
    pub(crate) kv_per_gpu: Option<Bytes>,
    /// Its band.
    pub(crate) kv_band: Option<Band<Bytes>>,
    /// Growth of a long sequence by one token (full-attention layers), on the fullest GPU.
    pub(crate) kv_bytes_per_token_per_gpu: Option<f64>,
    /// Tokens one engine (data-parallel rank) can hold; the band's low end is the bad one.
    pub(crate) kv_capacity: Option<Band<Tokens>>,
    /// Sequences of `max_model_len` at once.
    pub(crate) max_concurrency: Option<f64>,
    /// Settings as resolved: stated, else the engine's default for its version.
    pub(crate) max_model_len: Option<u64>,
    pub(crate) max_num_seqs: Option<u64>,
    /// Not memory but a limit of the card, the engine or the model forbids it.
    pub(crate) forbidden: bool,
    /// What the throughput model needs; `None`: no roofline for this model or card.
    pub(crate) roofline: Option<Roofline>,
}

/// Inputs of the step-time model (fit.md §4.1) for one engine (data-parallel rank).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Roofline {
    pub(crate) tensor: u32,
    pub(crate) layers: u32,
    /// Bytes read each step whatever the batch: dense weights without the input embedding, whole model.
    pub(crate) dense_bytes: f64,
    /// Bytes of all routed experts, whole model; 0 for dense models.
    pub(crate) expert_bytes: f64,
    /// Share of the experts one token uses; 0 for dense models.
    pub(crate) expert_share: f64,
    pub(crate) active_parameters: f64,
    pub(crate) kv_bytes_per_token_per_gpu: f64,
    /// Windowed layers: bytes per token per GPU, and the window in tokens.
    pub(crate) windowed_bytes_per_token_per_gpu: f64,
    pub(crate) window: f64,
    /// Recurrent state per sequence per GPU.
    pub(crate) state_bytes: f64,
    /// Peak of the card, bytes per second.
    pub(crate) bandwidth: f64,
    /// Peak dense FLOPS of the precision the weights compute in.
    pub(crate) flops: f64,
    /// NVLink between the ranks of this placement.
    pub(crate) nvlink: bool,
    /// The card's efficiency was fitted on measured points (Hopper, Blackwell); others are low-confidence.
    pub(crate) measured_architecture: bool,
}

/// What a workload is observed to do. Totals of one engine: a replica's, divided by its data-parallel ranks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// p95 over the window.
    pub(crate) prompt_tokens_per_second: f64,
    /// p95 over the window.
    pub(crate) output_tokens_per_second: f64,
    /// Requests running at once, at the peak.
    pub(crate) peak_running: f64,
    /// KV tokens held at the peak.
    pub(crate) peak_kv_tokens: f64,
    /// Mean tokens of a request, prompt and output.
    pub(crate) prompt_length: Option<f64>,
    pub(crate) output_length: Option<f64>,
    /// The present placement and its measured latency: the ratio method.
    pub(crate) current: Option<Current>,
}

/// Measured on the present placement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Current {
    pub(crate) placement: Placement,
    /// How much of the load one engine carried while it was measured: 1 where the replicas stay as many, ¾ where the load
    /// is that of three replicas which four carried. Without it fewer replicas would look as fast as before.
    pub(crate) measured_share: f64,
    /// Seconds between output tokens, p95.
    pub(crate) inter_token_latency: Option<f64>,
    /// Seconds, p95.
    pub(crate) time_to_first_token: Option<f64>,
}

/// Latency limits and headroom; the policy's numbers (checks.md, oversized-tier).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slo {
    /// KV capacity ≥ this × the peak.
    pub(crate) kv_headroom: f64,
    /// Throughput ≥ this × p95.
    pub(crate) throughput_headroom: f64,
    /// Latency may grow to this × the observed, or to the limits below, whichever is more.
    pub(crate) latency_growth: f64,
    /// Seconds.
    pub(crate) inter_token_latency: f64,
    /// Seconds.
    pub(crate) time_to_first_token: f64,
}

/// Does the placement carry the load?
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Service {
    /// `None`: no throughput model, so it cannot be said.
    pub(crate) serves: Option<bool>,
    /// The first limit that fails, or the tightest that holds, with figures.
    pub(crate) reason: String,
    /// Output tokens per second at the load's mix of prompt and output.
    pub(crate) output_capacity: Option<f64>,
    /// Predicted at the load, seconds.
    pub(crate) inter_token_latency: Option<f64>,
    pub(crate) time_to_first_token: Option<f64>,
    /// Predicted ITL is worse than the growth limit allows, but under the absolute limit: the trade must be printed.
    pub(crate) slower: bool,
    /// By the ratio to a measurement; otherwise the absolute roofline (R6: estimated).
    pub(crate) by_ratio: bool,
}

/// Where `model` with `settings` stands on `gpu`: memory, hard limits, and the inputs of the throughput model.
pub(crate) fn place(
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
