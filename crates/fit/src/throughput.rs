//! Whether a placement carries a load: the step-time model of docs/speed-model.md, and the ratio to a measured latency.
//!
//! One decode step reads the weights and the KV cache of its sequences, computes their tokens and the prompt tokens that
//! come in with them, and pays a fixed price a layer:
//!
//! `t(B) = (W(B)/T + B·context)/(η·BW) + (B·(1 + in/out))·2·P/(MFU·FLOPS·T) + L·c(T)`

use super::{FitVerdict, Load, Placement, Roofline, Service, Slo};

/// Constants of the step-time model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Constants {
    /// Share of the card's peak bandwidth that decoding reaches.
    pub(super) bandwidth: f64,
    /// Share of the card's peak FLOPS that prompt and decode tokens reach.
    pub(super) compute: f64,
    /// Seconds a layer at tensor-parallel size 1, 2, 4, 8: launches and, above 1, all-reduces.
    pub(super) layer: [f64; 4],
}

/// Fitted on the 1,681 measured points of aiconfigurator-core 0.12.0's
/// `silicon_sample.csv` (Apache-2.0; Hopper and Blackwell SXM, vLLM and TensorRT-LLM). Mean absolute error 19 %.
pub(super) const FITTED: Constants = Constants {
    bandwidth: 0.77,
    compute: 0.45,
    layer: [41e-6, 72e-6, 81e-6, 85e-6],
};

/// Cards without measured step times (L4, L40S, A10, A100, T4 …): 0.6–0.7 of the bandwidth is what such cards reach.
const UNMEASURED_BANDWIDTH: f64 = 0.65;
/// Ranks that talk over PCIe pay 2–3 times the fixed price a layer.
const PCIE_LAYER_FACTOR: f64 = 2.5;
/// Prompt processing reaches `0.40/T^0.25` of the peak for dense models and 0.10 for mixtures (from times to first token).
const PREFILL_DENSE: f64 = 0.40;
const PREFILL_EXPERTS: f64 = 0.10;
/// Honest error of the absolute model (p10..p90 −31..+27 %, docs/speed-model.md).
const ABSOLUTE_MARGIN: f64 = 0.35;
/// Errors of the ratio method: within a generation, and across generations or to a card without measurements.
const RATIO_MARGIN_NEAR: f64 = 0.15;
const RATIO_MARGIN_FAR: f64 = 0.30;
/// Cards of one generation share their peak FLOPS (H100, H200; B200, B300), so a peak that differs by more is another one.
const SAME_GENERATION: f64 = 1.25;

/// The mix of a load: what one request holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mix {
    /// Tokens of context that a decode step reads a sequence, on average over the output.
    pub(super) context: f64,
    /// Prompt tokens that come in for every output token.
    pub(super) prompt_per_output: f64,
}

/// Seconds of one decode step of `batch` sequences, prompt tokens of the same rate included.
pub(super) fn step_time(r: &Roofline, batch: f64, mix: Mix, c: &Constants) -> f64 {
    let tensor = f64::from(r.tensor.max(1));
    let distinct = 1.0 - (1.0 - r.expert_share.clamp(0.0, 1.0)).powf(batch);
    let weights = (r.dense_bytes + r.expert_bytes * distinct) / tensor;
    let sequence = mix.context * r.kv_bytes_per_token_per_gpu
        + mix.context.min(r.window) * r.windowed_bytes_per_token_per_gpu
        + 2.0 * r.state_bytes;
    let bandwidth = if r.measured_architecture {
        c.bandwidth
    } else {
        c.bandwidth.min(UNMEASURED_BANDWIDTH)
    };
    let memory = (weights + batch * sequence) / (bandwidth * r.bandwidth);
    let tokens = batch * (1.0 + mix.prompt_per_output);
    let compute = tokens * 2.0 * r.active_parameters / (c.compute * r.flops * tensor);
    memory + compute + f64::from(r.layers) * layer_seconds(r, c)
}

fn layer_seconds(r: &Roofline, c: &Constants) -> f64 {
    let fixed = match r.tensor {
        0 | 1 => return c.layer[0],
        2 => c.layer[1],
        3 | 4 => c.layer[2],
        _ => c.layer[3],
    };
    if r.nvlink { fixed } else { fixed * PCIE_LAYER_FACTOR }
}

/// Prompt tokens a second when nothing else runs.
fn prefill_rate(r: &Roofline) -> f64 {
    let tensor = f64::from(r.tensor.max(1));
    let share = if r.expert_bytes > 0.0 {
        PREFILL_EXPERTS
    } else {
        PREFILL_DENSE / tensor.powf(0.25)
    };
    share * r.flops * tensor / (2.0 * r.active_parameters)
}

/// A roofline with nothing missing that a division needs.
fn usable(placement: &Placement) -> Option<&Roofline> {
    placement
        .roofline
        .as_ref()
        .filter(|r| r.bandwidth > 0.0 && r.flops > 0.0 && r.active_parameters > 0.0 && r.layers > 0)
}

/// What one engine does under a load, by the model alone.
#[derive(Clone, Copy, Debug)]
struct Prediction {
    /// Output tokens a second at the largest batch that memory and settings admit.
    capacity: f64,
    /// Sequences at once that the load needs.
    batch: f64,
    inter_token_latency: f64,
    /// `None`: prompts come in faster than they can be processed.
    time_to_first_token: Option<f64>,
}

/// Sequences at once: the KV cache at its band's bad end, and `max_num_seqs`.
fn admitted(placement: &Placement, tokens_per_request: f64) -> Option<f64> {
    let by_memory = placement
        .kv_capacity
        .map(|band| band.low.0 as f64 / tokens_per_request.max(1.0));
    let by_settings = placement.max_num_seqs.map(|n| n as f64);
    match (by_memory, by_settings) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

fn predict(placement: &Placement, load: &Load, lengths: Lengths) -> Option<Prediction> {
    let roofline = usable(placement)?;
    let mix = lengths.mix(load);
    let most = admitted(placement, lengths.prompt + lengths.output)?;
    if most < 1.0 {
        return None;
    }
    let time = |batch: f64| step_time(roofline, batch, mix, &FITTED);
    let capacity = most / time(most);
    let needed = batch_for(&time, load.output_tokens_per_second, most);
    // At the peak as many run as are seen now; fewer only if more cannot be admitted (they queue).
    let batch = needed.max(load.peak_running).clamp(1.0, most);
    let prefill = prefill_rate(roofline);
    let used = load.prompt_tokens_per_second / prefill;
    Some(Prediction {
        capacity,
        batch,
        inter_token_latency: time(batch),
        time_to_first_token: (used < 1.0).then(|| lengths.prompt / prefill / (1.0 - used) + time(batch)),
    })
}

/// The smallest batch whose steps give `rate` output tokens a second. `batch/time` grows with the batch: the fixed part
/// of a step is shared, and experts already read cost nothing more.
fn batch_for(time: &dyn Fn(f64) -> f64, rate: f64, most: f64) -> f64 {
    let (mut low, mut high) = (0.0, most);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if middle / time(middle) < rate {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Mean tokens of a request.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    prompt: f64,
    output: f64,
}

impl Lengths {
    /// Stated, else from the KV tokens a running request holds, split as the token rates are. `None`: not known.
    fn of(load: &Load) -> Option<Self> {
        if let (Some(prompt), Some(output)) = (load.prompt_length, load.output_length) {
            return (prompt >= 0.0 && output >= 1.0).then_some(Self { prompt, output });
        }
        let held = load.peak_kv_tokens / load.peak_running;
        if !held.is_finite() || held <= 0.0 {
            return None;
        }
        // Half of the output is there on average, so this takes the prompt for longer than it is.
        let prompt = load.prompt_length.unwrap_or(held);
        let per_prompt = load.output_tokens_per_second / load.prompt_tokens_per_second.max(f64::MIN_POSITIVE);
        let output = load.output_length.unwrap_or((prompt * per_prompt).clamp(1.0, held));
        Some(Self { prompt, output })
    }

    fn mix(self, load: &Load) -> Mix {
        // The larger of what the rates and the lengths say: rates of one moment may leave prompts out, and more output
        // at the same prompts must not make the steps cheaper.
        let observed = load.prompt_tokens_per_second / load.output_tokens_per_second;
        let by_length = self.prompt / self.output;
        Mix {
            context: self.prompt + self.output / 2.0,
            prompt_per_output: if observed.is_finite() {
                observed.max(by_length)
            } else {
                by_length
            },
        }
    }
}

/// How the prediction is corrected by what is measured on the present placement.
#[derive(Clone, Copy, Debug)]
struct Correction {
    /// Measured ÷ predicted inter-token latency there.
    step: f64,
    /// The same for the time to first token; `None`: not measured.
    first: Option<f64>,
    margin: f64,
}

impl Correction {
    /// `None`: nothing measured, or no roofline there; then the absolute model with its own margin stands.
    fn of(new: &Roofline, load: &Load, lengths: Lengths) -> Option<Self> {
        let current = load.current.as_ref()?;
        let measured = current.inter_token_latency.filter(|s| *s > 0.0)?;
        let old = usable(&current.placement)?;
        let share = current.measured_share.clamp(0.0, 1.0);
        let then = Load {
            prompt_tokens_per_second: load.prompt_tokens_per_second * share,
            output_tokens_per_second: load.output_tokens_per_second * share,
            peak_running: load.peak_running * share,
            peak_kv_tokens: load.peak_kv_tokens * share,
            ..load.clone()
        };
        let there = predict(&current.placement, &then, lengths)?;
        let ratio = new.flops / old.flops;
        let near = old.measured_architecture
            && new.measured_architecture
            && (SAME_GENERATION.recip()..SAME_GENERATION).contains(&ratio);
        Some(Self {
            step: measured / there.inter_token_latency,
            first: current
                .time_to_first_token
                .filter(|s| *s > 0.0)
                .zip(there.time_to_first_token)
                .map(|(measured, predicted)| measured / predicted),
            margin: match (old == new, near) {
                (true, _) => 0.0,
                (_, true) => RATIO_MARGIN_NEAR,
                _ => RATIO_MARGIN_FAR,
            },
        })
    }
}

/// Whether one engine (data-parallel rank) on `placement` carries `load` within `slo`.
///
/// Prompts served from the prefix cache count as computed, attention over long prompts is not in the time to first
/// token beyond what the ratio to a measurement carries, and pipeline stages are not overlapped: each errs on the side of
/// "does not serve" but the second, which the headroom covers up to about 8,000 tokens.
pub fn serves(placement: &Placement, load: &Load, slo: &Slo) -> Service {
    let unknown = |reason: &str| Service {
        reason: reason.into(),
        ..Service::default()
    };
    let refused = |reason: String, service: Service| Service {
        serves: Some(false),
        reason,
        ..service
    };
    if placement.verdict == FitVerdict::DoesNotFit {
        return refused(placement.reason.clone(), Service::default());
    }
    let Some(roofline) = usable(placement) else {
        return unknown("no throughput model for this model or card");
    };
    let Some(capacity) = placement.kv_capacity else {
        return unknown("the KV capacity is not known");
    };
    let needed = load.peak_kv_tokens * slo.kv_headroom;
    if (capacity.low.0 as f64) < needed {
        let reason = format!(
            "KV cache holds {} tokens, the peak with headroom needs {needed:.0}",
            capacity.low.0
        );
        return refused(reason, Service::default());
    }
    let Some(lengths) = Lengths::of(load) else {
        return unknown("the length of requests is not known");
    };
    let Some(predicted) = predict(placement, load, lengths) else {
        return refused(
            format!(
                "not one request of {:.0} tokens fits at the bad end",
                lengths.prompt + lengths.output
            ),
            Service::default(),
        );
    };
    let correction = Correction::of(roofline, load, lengths);
    judge(&predicted, correction, load, slo)
}

fn judge(predicted: &Prediction, correction: Option<Correction>, load: &Load, slo: &Slo) -> Service {
    let step = correction.map_or(1.0 + ABSOLUTE_MARGIN, |c| c.step * (1.0 + c.margin));
    // The time to first token follows its own measurement; without one, never better than the step's correction.
    let first = match correction {
        Some(Correction {
            first: Some(first),
            margin,
            ..
        }) => first * (1.0 + margin),
        Some(c) => c.step.max(1.0) * (1.0 + ABSOLUTE_MARGIN),
        None => 1.0 + ABSOLUTE_MARGIN,
    };
    // The absolute error of capacity is covered by the throughput headroom (1.5 × of a ±35 % model).
    let capacity = predicted.capacity / correction.map_or(1.0, |c| c.step * (1.0 + c.margin));
    let itl = predicted.inter_token_latency * step;
    let ttft = predicted.time_to_first_token.map(|s| s * first);
    let measured = load.current.as_ref();
    let observed_itl = measured.and_then(|c| c.inter_token_latency);
    let observed_ttft = measured.and_then(|c| c.time_to_first_token);
    let limit = |observed: Option<f64>, floor: f64| observed.map_or(floor, |s| (s * slo.latency_growth).max(floor));
    let itl_limit = limit(observed_itl, slo.inter_token_latency);
    let ttft_limit = limit(observed_ttft, slo.time_to_first_token);
    let need = load.output_tokens_per_second * slo.throughput_headroom;
    let ms = |s: f64| s * 1e3;
    let failure = if capacity < need {
        Some(format!(
            "{capacity:.0} output tokens/s, the load with headroom needs {need:.0}"
        ))
    } else if predicted.batch > 0.0 && itl > itl_limit {
        Some(format!(
            "{:.0} ms between tokens, the limit is {:.0} ms",
            ms(itl),
            ms(itl_limit)
        ))
    } else {
        match ttft {
            None => Some("prompts come in faster than it can process them".to_string()),
            Some(s) if s > ttft_limit => Some(format!(
                "{:.0} ms to the first token, the limit is {:.0} ms",
                ms(s),
                ms(ttft_limit)
            )),
            Some(_) => None,
        }
    };
    Service {
        serves: Some(failure.is_none()),
        reason: failure.unwrap_or_else(|| {
            format!(
                "{capacity:.0} output tokens/s of {need:.0} needed, {:.0} ms between tokens (limit {:.0} ms)",
                ms(itl),
                ms(itl_limit)
            )
        }),
        output_capacity: Some(capacity),
        inter_token_latency: Some(itl),
        time_to_first_token: ttft,
        slower: observed_itl.is_some_and(|s| itl > s * slo.latency_growth),
        by_ratio: correction.is_some(),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod score_tests;
