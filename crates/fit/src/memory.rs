//! The memory model: weights, the engine's own steps, what they leave for the cache, and the verdict.

use super::amount::Amount;
use super::bands;
use super::defaults::{self, Engine, Rules};
use super::judge;
use super::kv::{self, Context};
use super::quantization::{self, Scheme};
use super::steps::{self, Ledger};
use super::weights::{self, Spread};
use super::{Band, Calibration, FitConfidence, FitVerdict, Parallelism, Placement, limits, pool, roofline};
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::{ModelFacts, ModelSource, Task};
use crate::snapshot::server::EngineSettings;
use crate::units::{Bytes, Tokens};

/// A calibrated capacity differs between restarts by about this.
pub(crate) const CALIBRATED_SHARE: f64 = 0.02;

/// A step's size: what the profile runs with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) sequences: u64,
    pub(super) tokens: u64,
}

/// All that a placement is computed from.
pub(super) struct Case<'a> {
    pub(super) model: &'a ModelFacts,
    pub(super) settings: &'a EngineSettings,
    pub(super) gpu: &'a GpuFacts,
    pub(super) parallelism: Parallelism,
    pub(super) engine: Engine,
    pub(super) scheme: Scheme,
    pub(super) spread: Spread,
    pub(super) total: Bytes,
    pub(super) step: Batch,
    pub(super) length: Option<u64>,
}

pub(super) fn place(
    model: &ModelFacts,
    settings: &EngineSettings,
    gpu: &GpuFacts,
    parallelism: Parallelism,
    calibration: Option<&Calibration>,
) -> Placement {
    let parallelism = Parallelism {
        tensor: parallelism.tensor.clamp(1, 4096),
        pipeline: parallelism.pipeline.clamp(1, 4096),
        data: parallelism.data.clamp(1, 4096),
    };
    let engine = Engine::of(settings, model, gpu);
    let in_full = EngineSettings {
        dtype: Some("float32".into()),
        ..settings.clone()
    };
    let unquantized = model.quantization.is_none() && settings.quantization.is_none();
    let settings = match limits::on_old_card(&engine, model, settings, gpu) {
        limits::OldCard::Full if unquantized => &in_full,
        _ => settings,
    };
    let scheme = match quantization::scheme(model, settings) {
        Ok(scheme) => scheme.as_loaded(&engine),
        Err(contradiction) => {
            return Placement {
                verdict: FitVerdict::DoesNotFit,
                reason: contradiction.0,
                forbidden: true,
                ..Placement::default()
            };
        }
    };
    let length = defaults::max_model_len(&engine, settings, model);
    let step = Batch {
        sequences: defaults::max_num_seqs(&engine, settings, gpu),
        tokens: defaults::max_num_batched_tokens(&engine, settings, gpu, length.unwrap_or(4096)),
    };
    let case = Case {
        spread: weights::spread(&engine, settings, parallelism),
        total: defaults::cuda_total(gpu),
        model,
        settings,
        gpu,
        parallelism,
        engine,
        scheme,
        step,
        length,
    };
    case.place(calibration)
}

impl Case<'_> {
    fn place(&self, calibration: Option<&Calibration>) -> Placement {
        let mut placement = Placement {
            max_model_len: self.length,
            max_num_seqs: Some(self.step.sequences),
            ..Placement::default()
        };
        self.confidence(&mut placement);
        if let Some(own) = quantization::unsized_of(self.model, self.settings) {
            placement.reason = format!("how many bits '{own}' takes is not known");
            return placement;
        }
        let Some(weights) = weights::per_gpu(self) else {
            placement.reason = "the model's size is not known".into();
            return placement;
        };
        placement.weights_per_gpu = Some(Bytes(weights.value as u64));
        let contexts = kv::contexts(self).unwrap_or_default();
        let ledger = steps::replay(self);
        placement.overhead_per_gpu = Some(band(ledger.overhead));
        let (mut left, source) = bands::widened(self, pool::of(self, weights, &ledger));
        placement.confidence_reasons.push(format!(
            "memory model without a measurement of this server; its band is the steps' own times {:.2}, by start-ups of {} threads",
            source.factor, source.threads
        ));
        placement.kv_band_source = self.pooled().then_some(source);
        if let Some(context) = contexts.first() {
            placement.roofline = roofline::of(self, context);
            // The pool may be larger by tables in the host's memory; the verdict is that of the default.
            left.high += weights::tables(self);
            self.fill_cache(&mut placement, &contexts, &mut left, calibration);
        }
        placement.kv_per_gpu = self
            .pooled()
            .then(|| Bytes(left.value.max(0.0) as u64))
            .filter(|_| contexts.first().is_some_and(|c| !c.is_empty()));
        placement.kv_band = placement.kv_per_gpu.map(|_| band(left));
        if !contexts.is_empty() && placement.confidence != FitConfidence::Measured {
            left.high -= weights::tables(self);
        }
        self.judge(&mut placement, &contexts, left, &ledger, weights);
        self.load(&mut placement);
        if let Some(cut) = limits::cut_group(self).filter(|c| !c.sure && placement.verdict == FitVerdict::Fits) {
            placement.verdict = FitVerdict::Tight;
            placement.reason = cut.reason;
        }
        if let Some(why) = limits::cache_by_backend(self).filter(|_| placement.verdict == FitVerdict::Fits) {
            placement.verdict = FitVerdict::Tight;
            placement.reason = why;
        }
        if let Some(limit) = limits::broken(self) {
            placement.verdict = FitVerdict::DoesNotFit;
            placement.reason = limit;
            placement.forbidden = true;
        }
        placement
    }

    fn judge(&self, placement: &mut Placement, contexts: &[Context], left: Amount, ledger: &Ledger, weights: Amount) {
        let judged = judge::Judged {
            case: self,
            contexts,
            left,
            ledger,
            weights,
            measured: placement.confidence == FitConfidence::Measured,
        };
        (placement.verdict, placement.reason) = judged.verdict();
        // An architecture that a name only suggests is never enough to say that it fits.
        if self.model.assumed() && placement.verdict == FitVerdict::Fits {
            placement.verdict = FitVerdict::Tight;
            placement.reason.push_str("; ");
            placement.reason.push_str(&self.assumption());
        }
    }

    /// Weights that are quantized while loading stand on the card at 16 bit first: in vLLM until 0.15 (vllm-project/vllm#7200,
    /// #31914, #32773), in SGLang (sgl-project/sglang#2895; since which release no more is not known).
    fn load(&self, placement: &mut Placement) {
        let sglang = self.engine.rules == Rules::Sglang;
        let whole = sglang || self.engine.is_vllm() && !self.engine.since(0, 15);
        let Some(bytes) = weights::before_quantizing(self).filter(|_| whole) else {
            return;
        };
        let total = self.total.0 as f64;
        if bytes.high <= total || placement.verdict == FitVerdict::DoesNotFit {
            return;
        }
        let surely = bytes.low > total && !sglang;
        placement.verdict = if surely {
            FitVerdict::DoesNotFit
        } else {
            FitVerdict::Tight
        };
        placement.reason = format!(
            "weights are loaded at 16 bit before they are quantized: {} of {}",
            pool::gib(bytes.value),
            pool::gib(total)
        );
    }

    fn assumption(&self) -> String {
        match &self.model.base {
            Some(base) => format!("the architecture is assumed to be that of {base}"),
            None => "the model is known by its name only".into(),
        }
    }

    /// The engine keeps a KV pool for this model.
    pub(super) fn pooled(&self) -> bool {
        let generates =
            matches!(self.model.task, Task::Generate) || self.engine.is_vllm() || self.engine.rules == Rules::Sglang;
        !matches!(self.engine.rules, Rules::Plain | Rules::LlamaCpp) && self.model.task != Task::Diffusion && generates
    }

    fn fill_cache(
        &self,
        placement: &mut Placement,
        contexts: &[Context],
        left: &mut Amount,
        calibration: Option<&Calibration>,
    ) {
        let Some(context) = contexts.first().filter(|c| !c.is_empty() && self.holds_tokens()) else {
            return;
        };
        let Some(length) = self.length else {
            placement.kv_bytes_per_token_per_gpu = Some(context.per_token()).filter(|b| *b > 0.0);
            return;
        };
        let per_token = context.counted_per_token(length);
        if per_token <= 0.0 || !per_token.is_finite() {
            return;
        }
        placement.kv_bytes_per_token_per_gpu = Some(per_token);
        let told = calibration.filter(|c| c.gpu == self.gpu.name && c.parallelism == self.parallelism);
        match told {
            Some(told) => self.calibrate(placement, told, per_token, left),
            None => self.override_blocks(per_token, left),
        }
        let exact = told.is_some_and(|t| t.moved.is_none() && t.ends.is_none());
        let ends = |c: &Context| if exact { (1.0, 1.0) } else { c.doubt };
        let at = |bytes: f64| {
            let of = |c: &Context, doubt: f64| c.capacity(bytes / doubt, length).tokens;
            let low = contexts.iter().map(|c| of(c, ends(c).1)).fold(f64::INFINITY, f64::min);
            let high = contexts.iter().map(|c| of(c, ends(c).0)).fold(0.0, f64::max);
            (low, high)
        };
        let capacity = context.capacity(left.value, length);
        let tokens = |n: f64| Tokens(n.clamp(0.0, 1e15) as u64);
        let value = tokens(capacity.tokens);
        placement.kv_capacity = Some(Band {
            low: tokens(at(left.low).0).min(value),
            value,
            high: tokens(at(left.high).1).max(value),
        });
        placement.max_concurrency = Some(capacity.requests).filter(|r| r.is_finite());
    }

    /// Whether a capacity in tokens can be told: engines with a pool, and llama.cpp, whose context is allocated as asked.
    fn holds_tokens(&self) -> bool {
        self.pooled() || self.engine.rules == Rules::LlamaCpp && matches!(self.model.task, Task::Generate)
    }

    /// A measurement of the same kind of server. An exact one replaces the estimate: what is missing from the budget is its
    /// overhead. Of a like server the difference to its own estimate moves ours, and the band stays.
    fn calibrate(&self, placement: &mut Placement, told: &Calibration, per_token: f64, left: &mut Amount) {
        if let Some(moved) = told.moved {
            let by = moved.0 * self.total.0 as f64;
            // Upwards one that is unlike this one promises nothing: the bad end stays, and no more is expected than the good one.
            *left = if by > 0.0 {
                Amount {
                    value: (left.value + by).min(left.high),
                    ..*left
                }
            } else {
                Amount {
                    low: left.low + by,
                    value: left.value + by,
                    high: left.high + by,
                }
            };
            placement.confidence_reasons.push(told.reason.clone());
            return;
        }
        let bytes = told.kv_capacity.0 as f64 * per_token;
        let overhead = (left.value - bytes) + placement.overhead_per_gpu.map_or(0.0, |o| o.value.0 as f64);
        *left = match told.ends {
            None => Amount::around(bytes, 1.0 - CALIBRATED_SHARE, 1.0 + CALIBRATED_SHARE),
            Some((low, high)) => Amount {
                low: (low.0 as f64 * per_token).min(bytes),
                value: bytes,
                high: (high.0 as f64 * per_token).max(bytes),
            },
        };
        // What the pool lacks at its bad end is overhead at its own.
        let at = |pool: f64| Bytes((overhead + bytes - pool).max(0.0) as u64);
        let around = |f: f64| Bytes((overhead * f).max(0.0) as u64);
        placement.overhead_per_gpu = Some(if told.ends.is_some() {
            Band {
                low: at(left.high),
                value: at(bytes),
                high: at(left.low),
            }
        } else {
            Band {
                low: around(1.0 - CALIBRATED_SHARE),
                value: around(1.0),
                high: around(1.0 + CALIBRATED_SHARE),
            }
        });
        let reason = if told.reason.is_empty() {
            "calibrated by the server's own capacity".to_string()
        } else {
            told.reason.clone()
        };
        if told.doubted || self.model.assumed() || placement.weights_per_gpu.is_none_or(|w| w.0 == 0) {
            placement.confidence_reasons.push(reason);
        } else {
            placement.confidence = FitConfidence::Measured;
            placement.confidence_reasons = vec![reason];
        }
    }

    /// `--num-gpu-blocks-override` caps the pool.
    fn override_blocks(&self, per_token: f64, left: &mut Amount) {
        if let Some(blocks) = self.settings.gpu_blocks_override {
            let bytes = blocks as f64 * defaults::block_size(&self.engine, self.settings) as f64 * per_token;
            for end in [&mut left.low, &mut left.value, &mut left.high] {
                *end = end.min(bytes);
            }
        }
        if let Some(tokens) = self
            .settings
            .max_total_tokens
            .filter(|_| self.engine.rules == Rules::Sglang)
        {
            let bytes = tokens as f64 * per_token;
            for end in [&mut left.low, &mut left.value, &mut left.high] {
                *end = end.min(bytes);
            }
        }
    }

    fn confidence(&self, placement: &mut Placement) {
        let mut reasons = Vec::new();
        if self.model.assumed() {
            reasons.push(self.assumption());
        }
        if self.engine.assumed {
            reasons.push("no engine with known memory rules: vLLM's are assumed".to_string());
        } else if self.engine.version.is_none() && self.engine.is_vllm() {
            reasons.push("the engine's version is not known: the newest defaults are assumed".to_string());
        }
        placement.confidence = if reasons.is_empty() {
            FitConfidence::Estimated
        } else {
            FitConfidence::Assumed
        };
        if !self.model.verified && self.model.source != ModelSource::Name {
            reasons.push("the model's facts are recalled or approximate".to_string());
        }
        placement.confidence_reasons = reasons;
    }
}

fn band(amount: Amount) -> Band<Bytes> {
    let bytes = |b: f64| Bytes(b.max(0.0) as u64);
    Band {
        low: bytes(amount.low),
        value: bytes(amount.value),
        high: bytes(amount.high),
    }
}
