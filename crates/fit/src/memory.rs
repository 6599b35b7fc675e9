//! The memory model: weights, overhead, what is left for the KV cache, and the verdict.

use super::defaults::{self, Engine, Rules};
use super::kv::{self, Context};
use super::overhead::{self, Estimate, Step};
use super::quantization::{self, Scheme};
use super::weights::{self, Spread, Weights};
use super::{Band, Calibration, FitConfidence, FitVerdict, Parallelism, Placement, limits, roofline};
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::{ModelFacts, ModelSource, Task};
use crate::snapshot::server::EngineSettings;
use crate::units::{Bytes, Tokens};

/// Share of the band inside which nothing is decided. At the full band half of the start-ups that failed stay undecided,
/// at 55 % a third, and none that failed is called "fits".
const DECIDING_SHARE: f64 = 0.55;
/// Utilization that no source states may be off by this share of the card.
const UNSTATED_SHARE: f64 = 0.04;
/// The bad end of the graphs' size.
const GRAPHS_BAD_END: f64 = 1.25;
/// A calibrated capacity differs between restarts by about this.
const CALIBRATED_SHARE: f64 = 0.02;

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
    step: Step,
    length: Option<u64>,
}

/// Bytes for the KV cache at the band's bad end, as estimated, at its good end; negative where nothing is left.
#[derive(Clone, Copy, Debug)]
struct Pool {
    low: f64,
    value: f64,
    high: f64,
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
    let scheme = match quantization::scheme(model, settings) {
        Ok(scheme) => scheme,
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
    let step = Step {
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
        if let Some(own) = quantization::unsized_of(self.model) {
            placement.reason = format!("how many bits '{own}' takes is not known");
            return placement;
        }
        let Some(weights) = weights::per_gpu(self.model, &self.scheme, &self.engine, self.settings, self.parallelism)
        else {
            placement.reason = "the model's size is not known".into();
            return placement;
        };
        placement.weights_per_gpu = Some(weights.value);
        let context = self.context();
        let pooled = self.pooled();
        let overhead = self.overhead(pooled);
        placement.overhead_per_gpu = Some(Band {
            low: Bytes(overhead.low as u64),
            value: Bytes(overhead.value as u64),
            high: Bytes(overhead.high as u64),
        });
        let mut pool = self.pool(&weights, overhead);
        if let Some(context) = &context {
            placement.roofline = roofline::of(self, context);
            self.fill_cache(&mut placement, context, &mut pool, &weights, calibration);
        }
        placement.kv_per_gpu = pooled
            .then(|| Bytes(pool.value.max(0.0) as u64))
            .filter(|_| context.as_ref().is_some_and(|c| !c.is_empty()));
        self.judge(&mut placement, context.as_ref(), pool, &weights);
        if let Some(limit) = limits::broken(self) {
            placement.verdict = FitVerdict::DoesNotFit;
            placement.reason = limit;
            placement.forbidden = true;
        }
        placement
    }

    /// The engine keeps a KV pool for this model.
    fn pooled(&self) -> bool {
        let generates =
            matches!(self.model.task, Task::Generate) || self.engine.is_vllm() || self.engine.rules == Rules::Sglang;
        self.engine.rules != Rules::Plain && self.model.task != Task::Diffusion && generates
    }

    fn context(&self) -> Option<Context> {
        let block = defaults::block_size(&self.engine, self.settings);
        kv::context(
            self.model,
            &self.engine,
            self.settings,
            &self.scheme,
            &self.spread,
            self.step.tokens,
            block,
        )
    }

    fn overhead(&self, pooled: bool) -> Estimate {
        if !pooled || self.engine.rules == Rules::LlamaCpp {
            return overhead::working_set(self.model, &self.engine, self.step, self.parallelism);
        }
        let stated = overhead::Stated {
            sequences: self.settings.max_num_seqs.is_some(),
            version: self.engine.version.is_some(),
        };
        let activation = overhead::activation(self.model, &self.engine, self.step, self.parallelism, stated);
        if self.engine.rules == Rules::Sglang {
            // Activations live beside the static share.
            return overhead::sglang_taken(self.parallelism, self.gpu.nvlink_gb_s.is_some(), self.total);
        }
        let (inside, _) = overhead::graphs(self.model, &self.engine, self.settings);
        activation
            .plus(overhead::runtime(&self.engine, self.parallelism))
            .plus(inside)
    }

    /// What is left for the KV cache.
    fn pool(&self, weights: &Weights, overhead: Estimate) -> Pool {
        let total = self.total.0 as f64;
        let (low, value, high) = (weights.low.0 as f64, weights.value.0 as f64, weights.high.0 as f64);
        let unstated = |stated: Option<f64>| if stated.is_some() { 0.0 } else { UNSTATED_SHARE * total };
        if let Some(fixed) = self
            .settings
            .kv_cache_memory
            .filter(|_| self.engine.rules == Rules::VllmV1)
        {
            let kv = fixed.0 as f64;
            return Pool {
                low: kv.min(total - high - overhead.high),
                value: kv.min(total - value - overhead.value),
                high: kv.min(total - low - overhead.low),
            };
        }
        match self.engine.rules {
            Rules::VllmV0 | Rules::VllmV1 => {
                let share = defaults::utilization(&self.engine, self.settings) * total;
                let doubt = unstated(self.settings.gpu_memory_utilization);
                Pool {
                    low: share - doubt - high - overhead.high,
                    value: share - value - overhead.value,
                    high: (share + doubt).min(total) - low - overhead.low,
                }
            }
            Rules::Sglang => {
                let p = self.parallelism;
                let by = |raised| defaults::mem_fraction(self.settings, self.total, p, raised);
                let fraction = by(self.engine.sglang_small_card_raised());
                let most = if self.engine.version.is_none() {
                    by(false).max(fraction)
                } else {
                    fraction
                };
                let doubt = unstated(self.settings.mem_fraction_static);
                Pool {
                    low: fraction * (total - overhead.high) - doubt - high,
                    value: fraction * (total - overhead.value) - value,
                    high: (most * (total - overhead.low) + doubt).min(total) - low,
                }
            }
            // A share of what is free after loading (`free_gpu_memory_fraction`).
            Rules::Trtllm | Rules::Tgi => {
                let default = if self.engine.rules == Rules::Trtllm { 0.90 } else { 0.95 };
                let stated = self.settings.mem_fraction_static;
                let fraction = stated.unwrap_or(default).clamp(0.0, 1.0);
                let doubt = unstated(stated);
                Pool {
                    low: fraction * (total - high - overhead.high) - doubt,
                    value: fraction * (total - value - overhead.value),
                    high: fraction * (total - low - overhead.low) + doubt,
                }
            }
            Rules::LlamaCpp | Rules::Plain => Pool {
                low: total - high - overhead.high,
                value: total - value - overhead.value,
                high: total - low - overhead.low,
            },
        }
    }

    /// Share of an SGLang pool that holds tokens where recurrent layers take the rest (`mamba_full_memory_ratio` 0.9).
    fn token_share(&self, context: &Context) -> f64 {
        if self.engine.rules == Rules::Sglang && context.has_state() {
            1.0 / 1.9
        } else {
            1.0
        }
    }

    fn fill_cache(
        &self,
        placement: &mut Placement,
        context: &Context,
        pool: &mut Pool,
        weights: &Weights,
        calibration: Option<&Calibration>,
    ) {
        if context.is_empty() || !self.pooled() {
            return;
        }
        let Some(length) = self.length else {
            placement.kv_bytes_per_token_per_gpu = Some(context.per_token()).filter(|b| *b > 0.0);
            return;
        };
        let share = self.token_share(context);
        let per_token = if self.engine.rules == Rules::Sglang {
            context.per_token() + context.windowed().0
        } else {
            context.counted_per_token(length)
        };
        if per_token <= 0.0 {
            return;
        }
        placement.kv_bytes_per_token_per_gpu = Some(per_token);
        let told = calibration.filter(|c| c.gpu == self.gpu.name && c.parallelism == self.parallelism);
        if let Some(told) = told {
            // The server's own count replaces the estimate, and what is missing from the budget is its overhead.
            let bytes = told.kv_capacity.0 as f64 * per_token / share;
            let overhead = (pool.value - bytes) + placement.overhead_per_gpu.map_or(0.0, |o| o.value.0 as f64);
            let around = |f: f64| Bytes((overhead * f).max(0.0) as u64);
            placement.overhead_per_gpu = Some(Band {
                low: around(1.0 - CALIBRATED_SHARE),
                value: around(1.0),
                high: around(1.0 + CALIBRATED_SHARE),
            });
            *pool = Pool {
                low: bytes * (1.0 - CALIBRATED_SHARE),
                value: bytes,
                high: bytes * (1.0 + CALIBRATED_SHARE),
            };
            if matches!(self.model.source, ModelSource::Name) || weights.value.0 == 0 {
                placement
                    .confidence_reasons
                    .push("calibrated by the server's own capacity".into());
            } else {
                placement.confidence = FitConfidence::Measured;
                placement.confidence_reasons = vec!["calibrated by the server's own capacity".into()];
            }
        }
        if let Some(blocks) = self.settings.gpu_blocks_override.filter(|_| told.is_none()) {
            let bytes = blocks as f64 * defaults::block_size(&self.engine, self.settings) as f64 * per_token;
            for end in [&mut pool.low, &mut pool.value, &mut pool.high] {
                *end = end.min(bytes);
            }
        }
        let (good, bad) = if told.is_some() { (1.0, 1.0) } else { context.doubt };
        let tokens = |bytes: f64, doubt: f64| Tokens((bytes.max(0.0) * share / (per_token * doubt)) as u64);
        placement.kv_capacity = Some(Band {
            low: tokens(pool.low, bad),
            value: tokens(pool.value, 1.0),
            high: tokens(pool.high, good),
        });
        let sequence = context.sequence(length);
        placement.max_concurrency = (sequence > 0.0).then(|| pool.value.max(0.0) * share / sequence);
    }

    /// Bytes that must be there: one request of full length, and a state block for each sequence where the engine asks.
    fn judge(&self, placement: &mut Placement, context: Option<&Context>, pool: Pool, weights: &Weights) {
        let gib = |bytes: f64| format!("{:.1} GiB", bytes / Bytes::GIB);
        let deciding = |end: f64| pool.value + DECIDING_SHARE * (end - pool.value);
        let (low, high) = (deciding(pool.low), deciding(pool.high));
        let loaded = format!(
            "weights take {} of {}",
            gib(weights.value.0 as f64),
            gib(self.total.0 as f64)
        );
        if high <= 0.0 {
            placement.verdict = FitVerdict::DoesNotFit;
            placement.reason = format!(
                "{loaded}, the overhead {}: nothing is left",
                Self::overhead_text(placement)
            );
            return;
        }
        if !self.pooled() {
            let tight = low <= 0.0;
            placement.verdict = if tight { FitVerdict::Tight } else { FitVerdict::Fits };
            placement.reason = format!("{loaded}, the working set about {}", Self::overhead_text(placement));
            return;
        }
        let (Some(context), Some(length)) = (context, self.length) else {
            placement.verdict = FitVerdict::Unknown;
            placement.reason = format!("{loaded}; the model's KV cache is not known");
            return;
        };
        if context.is_empty() {
            placement.verdict = if low <= 0.0 {
                FitVerdict::Tight
            } else {
                FitVerdict::Fits
            };
            placement.reason = format!("{loaded}; the model keeps no KV cache");
            return;
        }
        let share = self.token_share(context);
        let need = self.needed(context, length);
        let (good, bad) = if placement.confidence == FitConfidence::Measured {
            (1.0, 1.0)
        } else {
            context.doubt
        };
        let figures = format!(
            "{loaded}, leaving {} for the KV cache; one request of {length} tokens needs {}",
            gib(pool.value.max(0.0)),
            gib(need.max(context.sequence(length)))
        );
        placement.verdict = if high * share < need * good {
            FitVerdict::DoesNotFit
        } else if low * share < need * bad || low <= 0.0 {
            FitVerdict::Tight
        } else {
            FitVerdict::Fits
        };
        placement.reason = figures;
        self.judge_slots(placement, context, pool, (low, high));
        self.judge_beside(placement);
        if matches!(self.model.source, ModelSource::Name) && placement.verdict == FitVerdict::Fits {
            placement.verdict = FitVerdict::Tight;
            placement.reason.push_str("; the model is known by its name only");
        }
    }

    /// Bytes that a start needs. SGLang starts with any pool: only a stated length counts there.
    fn needed(&self, context: &Context, length: u64) -> f64 {
        match self.engine.rules {
            Rules::Sglang if self.settings.max_model_len.is_none() => context.sequence(self.step.tokens.min(length)),
            Rules::Sglang => context.per_token() * length as f64 + context.windowed().0 * 128.0,
            // Its context is shared by the slots.
            _ => context.sequence(length),
        }
    }

    /// vLLM refuses when more sequences are admitted than the pool has state blocks.
    fn judge_slots(&self, placement: &mut Placement, context: &Context, pool: Pool, (low, high): (f64, f64)) {
        let applies =
            self.engine.rules == Rules::VllmV1 && self.engine.since(0, 18) && self.settings.enforce_eager != Some(true);
        let Some(blocks) = context.state_blocks(pool.value.max(0.0)).filter(|_| applies) else {
            return;
        };
        let wanted = self.step.sequences as f64;
        let at = |bytes: f64| context.state_blocks(bytes.max(0.0)).unwrap_or(0.0);
        let message = format!("max_num_seqs {wanted:.0} against {blocks:.0} state blocks: lower --max-num-seqs");
        // Drafting lowers the number by itself.
        if at(high) < wanted && self.settings.speculative != Some(true) {
            placement.verdict = FitVerdict::DoesNotFit;
            placement.reason = message;
        } else if at(low) < wanted && placement.verdict == FitVerdict::Fits {
            placement.verdict = FitVerdict::Tight;
            placement.reason = message;
        }
    }

    /// What vLLM does not count in its budget must find room beside it: graphs (before 0.20), NCCL's and the kernels'
    /// buffers of the first steps, more with every rank (a card overran its budget by 1.37 GiB where eight ranks had 1.57
    /// beside it).
    fn judge_beside(&self, placement: &mut Placement) {
        if !self.engine.is_vllm() || placement.verdict != FitVerdict::Fits {
            return;
        }
        let ranks = self.parallelism.tensor;
        let late = if ranks > 1 {
            0.9 + 0.1 * f64::from(ranks.min(16))
        } else {
            0.25
        } * Bytes::GIB;
        let (_, graphs) = overhead::graphs(self.model, &self.engine, self.settings);
        let outside = late.max(graphs * GRAPHS_BAD_END);
        let beside = (1.0 - defaults::utilization(&self.engine, self.settings)) * self.total.0 as f64;
        if self.settings.kv_cache_memory.is_none() && outside > beside {
            placement.verdict = FitVerdict::Tight;
            placement.reason = format!(
                "CUDA graphs and late buffers of about {:.1} GiB must fit beside the budget, which leaves {:.1} GiB",
                outside / Bytes::GIB,
                beside / Bytes::GIB
            );
        }
    }

    fn overhead_text(placement: &Placement) -> String {
        placement
            .overhead_per_gpu
            .map_or_else(|| "unknown".into(), |o| o.value.to_string())
    }

    fn confidence(&self, placement: &mut Placement) {
        let mut reasons = Vec::new();
        if matches!(self.model.source, ModelSource::Name) {
            reasons.push("the model is known by its name only".to_string());
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
        if !self.model.verified {
            reasons.push("the model's facts are recalled or approximate".to_string());
        }
        reasons.push("memory model without a measurement of this server".to_string());
        placement.confidence_reasons = reasons;
    }
}
