//! Whether a placement carries a load within its latency limits: by the ratio to what is measured on the present placement,
//! else by the step-time model, at the bad end of its interval. What was measured nowhere stays unknown.

use super::speed::{At, Class, Predictor, Seconds, Unscalable, ratio_margin, ratio_margin_same_card, step_seconds};
use super::{FitVerdict, Load, Placement, Roofline, Service, Slo};

/// A roofline with nothing missing that a division needs.
pub(crate) fn usable(placement: &Placement) -> Option<&Roofline> {
    placement
        .roofline
        .as_ref()
        .filter(|r| r.bandwidth > 0.0 && r.flops > 0.0 && r.dense_parameters > 0.0 && r.layers > 0)
}

/// Sequences at once: the KV cache at its band's bad end, and `max_num_seqs`.
pub(crate) fn admitted(placement: &Placement, tokens_per_request: f64) -> Option<f64> {
    let by_memory = placement
        .kv_capacity
        .map(|band| band.low.0 as f64 / tokens_per_request.max(1.0));
    let by_settings = placement.max_num_seqs.map(|n| n as f64);
    match (by_memory, by_settings) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// Seconds of a step over the sequences running, made never to fall with more of them: what a correction by measured points
/// bends must not let more load look faster.
pub(crate) struct Curve<'a> {
    seconds: Box<dyn Fn(f64) -> f64 + 'a>,
    /// (running, the largest seconds up to there), ascending.
    knots: Vec<(f64, f64)>,
    most: f64,
}

impl<'a> Curve<'a> {
    /// `most`: sequences that are admitted at once.
    pub(crate) fn new(most: f64, seconds: impl Fn(f64) -> f64 + 'a) -> Self {
        const STEP: f64 = 1.3;
        let mut knots: Vec<(f64, f64)> = Vec::new();
        let mut running = 1.0;
        while running < most {
            let here = seconds(running).max(knots.last().map_or(0.0, |k| k.1));
            knots.push((running, here));
            running *= STEP;
        }
        Self {
            seconds: Box::new(seconds),
            knots,
            most,
        }
    }

    pub(crate) fn at(&self, running: f64) -> f64 {
        let before = self.knots.partition_point(|k| k.0 < running);
        let floor = before.checked_sub(1).map_or(0.0, |i| self.knots[i].1);
        (self.seconds)(running).max(floor)
    }

    /// The most output tokens a second that any admitted batch gives.
    pub(crate) fn capacity(&self) -> f64 {
        let of = |running: f64| running / self.at(running);
        self.knots.iter().map(|k| k.0 / k.1).fold(of(self.most), f64::max)
    }

    /// The smallest batch whose steps give `rate` output tokens a second; `most` where none does.
    pub(crate) fn batch_for(&self, rate: f64) -> f64 {
        let (mut low, mut high) = (0.0, self.most);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if middle / self.at(middle) < rate {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// The largest batch whose steps stay within `limit`; 0 where not even one sequence does.
    pub(crate) fn batch_within(&self, limit: f64) -> f64 {
        if self.at(self.most) <= limit {
            return self.most;
        }
        let (mut low, mut high) = (0.0, self.most);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if self.at(middle) <= limit {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }
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

    /// The larger mix of what the rates and the lengths say: rates of one moment may leave prompts out, and more output at
    /// the same prompts must not make the steps cheaper.
    fn at(self, load: &Load, running: f64) -> At {
        let observed = load.prompt_tokens_per_second / load.output_tokens_per_second;
        let plain = At::new(running, self.prompt, self.output);
        At {
            mix: if observed.is_finite() {
                observed.max(plain.mix)
            } else {
                plain.mix
            },
            ..plain
        }
    }
}

/// What one engine does under a load, by one way to tell the time of a step.
#[derive(Clone, Copy, Debug)]
struct Prediction {
    /// Output tokens a second at the best batch that memory and settings admit.
    capacity: f64,
    inter_token_latency: f64,
    /// `None`: prompts come in faster than they can be processed.
    time_to_first_token: Option<f64>,
}

fn predict(curve: &Curve<'_>, prompt_rate: f64, prompt: f64, load: &Load) -> Prediction {
    let needed = curve.batch_for(load.output_tokens_per_second);
    // At the peak as many run as are seen now; fewer only if more cannot be admitted (they queue).
    let batch = needed.max(load.peak_running).max(1.0).min(curve.most);
    let step = curve.at(batch);
    let used = load.prompt_tokens_per_second / prompt_rate;
    Prediction {
        capacity: curve.capacity(),
        inter_token_latency: step,
        time_to_first_token: (used < 1.0).then(|| prompt / prompt_rate / (1.0 - used) + step),
    }
}

/// The prediction twice: as it is expected, and at the end at which a promise must hold.
#[derive(Clone, Copy, Debug)]
struct Both {
    expected: Prediction,
    bad: Prediction,
    by_ratio: bool,
}

/// By the physics, unadjusted.
fn plain(placement: &Placement, load: &Load, lengths: Lengths, most: f64) -> Option<Prediction> {
    let roofline = usable(placement)?;
    let curve = Curve::new(most, |running| step_seconds(roofline, lengths.at(load, running)));
    let rate = Predictor::new(roofline, &[]).prompt_rate(lengths.prompt);
    Some(predict(&curve, rate, lengths.prompt, load))
}

/// Why a measurement on the present placement does not tell this one's time.
enum NoRatio {
    /// There is none.
    NotMeasured,
    /// There is one, but from there to here nothing is known of the error.
    NotComparable(String),
}

/// What is measured on the present placement, times predicted here ÷ predicted there.
fn by_ratio(new: &Roofline, here: &Prediction, load: &Load, lengths: Lengths) -> Result<Both, NoRatio> {
    let current = load.current.as_ref().ok_or(NoRatio::NotMeasured)?;
    let measured = current
        .inter_token_latency
        .filter(|s| *s > 0.0)
        .ok_or(NoRatio::NotMeasured)?;
    let old = usable(&current.placement).ok_or(NoRatio::NotMeasured)?;
    let margin = ratio_margin(old, new, &load.own).map_err(|why| {
        let (here, there) = (&old.card.name, &new.card.name);
        NoRatio::NotComparable(match why {
            Unscalable::Vendor => format!(
                "what is measured on {here} does not tell the time on {there}: such ratios are off by more than they tell"
            ),
            Unscalable::NeverMeasured => {
                let kind = if new.experts > 0.0 { "mixtures of experts" } else { "dense models" };
                format!("the speed of {kind} on {there} was never measured: what is measured on {here} is not scaled to it")
            }
        })
    })?;
    let share = current.measured_share.clamp(0.0, 1.0);
    let then = Load {
        prompt_tokens_per_second: load.prompt_tokens_per_second * share,
        output_tokens_per_second: load.output_tokens_per_second * share,
        peak_running: load.peak_running * share,
        peak_kv_tokens: load.peak_kv_tokens * share,
        ..load.clone()
    };
    let most = admitted(&current.placement, lengths.prompt + lengths.output).filter(|m| *m >= 1.0);
    let there = most
        .and_then(|most| plain(&current.placement, &then, lengths, most))
        .ok_or(NoRatio::NotMeasured)?;
    let step = measured / there.inter_token_latency;
    // The time to first token follows its own measurement; without one, never better than the step's correction.
    let first = current
        .time_to_first_token
        .filter(|s| *s > 0.0)
        .zip(there.time_to_first_token)
        .map_or(step.max(1.0), |(measured, predicted)| measured / predicted);
    let scaled = |margin: f64| Prediction {
        capacity: here.capacity / (step * margin),
        inter_token_latency: here.inter_token_latency * step * margin,
        time_to_first_token: here.time_to_first_token.map(|s| s * first * margin),
    };
    Ok(Both {
        expected: scaled(1.0),
        bad: scaled(1.0 + margin),
        by_ratio: true,
    })
}

/// Another server of the fleet on just this placement: its own time, at this load. `None`: there is none.
fn by_twin(roofline: &Roofline, here: &Prediction, load: &Load) -> Option<Both> {
    let twin = load.own.iter().find(|m| m.roofline == *roofline && m.seconds > 0.0)?;
    let step = twin.seconds / step_seconds(roofline, twin.at);
    let margin = ratio_margin_same_card();
    let scaled = |margin: f64| Prediction {
        capacity: here.capacity / (step * margin),
        inter_token_latency: here.inter_token_latency * step * margin,
        // Its time to the first token belongs to its own prompts.
        time_to_first_token: here.time_to_first_token.map(|s| s * step.max(1.0) * margin),
    };
    Some(Both {
        expected: scaled(1.0),
        bad: scaled(1.0 + margin),
        by_ratio: true,
    })
}

/// By the step-time model and its interval; `None`: nothing of this card with this engine and kind of model was measured.
fn by_model(roofline: &Roofline, load: &Load, lengths: Lengths, most: f64) -> Option<Both> {
    let predictor = Predictor::new(roofline, &load.own);
    if predictor.evidence.class == Class::NotSeen {
        return None;
    }
    let rate = predictor.prompt_rate(lengths.prompt);
    let of = |pick: fn(Seconds) -> f64| {
        let curve = Curve::new(most, |running| pick(predictor.at(lengths.at(load, running))));
        let mut told = predict(&curve, rate, lengths.prompt, load);
        // Prompts must be processed in time; how long a request waits for its first token is only known in a wide range.
        let batch = curve.batch_for(load.output_tokens_per_second).max(load.peak_running);
        let first = pick(predictor.first_token(lengths.at(load, batch), super::speed::Arrivals::Open));
        told.time_to_first_token = told.time_to_first_token.map(|queued| queued.max(first));
        told
    };
    Some(Both {
        expected: of(|s| s.value),
        bad: of(|s| s.bad_end().unwrap_or(f64::INFINITY)),
        by_ratio: false,
    })
}

/// Whether one engine (data-parallel rank) on `placement` carries `load` within `slo`.
///
/// Prompts served from the prefix cache count as computed, and pipeline stages are not overlapped: each errs on the side of
/// "does not serve".
pub fn serves(placement: &Placement, load: &Load, slo: &Slo) -> Service {
    let unknown = |reason: String| Service {
        reason,
        ..Service::default()
    };
    let refused = |reason: String| Service {
        serves: Some(false),
        reason,
        ..Service::default()
    };
    if placement.verdict == FitVerdict::DoesNotFit {
        return refused(placement.reason.clone());
    }
    let Some(roofline) = usable(placement) else {
        return unknown("no throughput model for this model or card".into());
    };
    let Some(capacity) = placement.kv_capacity else {
        return unknown("the KV capacity is not known".into());
    };
    let needed = load.peak_kv_tokens * slo.kv_headroom;
    if (capacity.low.0 as f64) < needed {
        return refused(format!(
            "KV cache holds {} tokens, the peak with headroom needs {needed:.0}",
            capacity.low.0
        ));
    }
    let Some(lengths) = Lengths::of(load) else {
        return unknown("the length of requests is not known".into());
    };
    let Some(most) = admitted(placement, lengths.prompt + lengths.output).filter(|m| *m >= 1.0) else {
        return refused(format!(
            "not one request of {:.0} tokens fits at the bad end",
            lengths.prompt + lengths.output
        ));
    };
    let Some(here) = plain(placement, load, lengths, most) else {
        return unknown("no throughput model for this model or card".into());
    };
    // What this very server was measured at comes first, then a server of the fleet that stands there already.
    let stays = load
        .current
        .as_ref()
        .is_some_and(|c| c.placement.roofline.as_ref() == Some(roofline));
    let twin = if stays { None } else { by_twin(roofline, &here, load) };
    let both = match by_ratio(roofline, &here, load, lengths) {
        _ if twin.is_some() => twin,
        Ok(both) => Some(both),
        Err(NoRatio::NotComparable(why)) => return unknown(why),
        Err(NoRatio::NotMeasured) => by_model(roofline, load, lengths, most),
    };
    match both {
        Some(both) => judge(&both, load, slo),
        None => unknown(not_measured(roofline)),
    }
}

/// "nothing was measured of RTX-3090 with SGLang".
pub(crate) fn not_measured(r: &Roofline) -> String {
    let what = if r.experts > 0.0 {
        " and a mixture of experts"
    } else {
        ""
    };
    let part = match () {
        () if r.card.instance => "a part of ",
        () if r.pipeline > 1 => "pipeline stages on ",
        () if r.expert_engines > 1.0 => "engines that share experts on ",
        () => "",
    };
    format!(
        "nothing was measured of {part}{} with {}{what}",
        r.card.name,
        r.engine.family()
    )
}

fn judge(both: &Both, load: &Load, slo: &Slo) -> Service {
    let measured = load.current.as_ref();
    let observed_itl = measured.and_then(|c| c.inter_token_latency);
    let observed_ttft = measured.and_then(|c| c.time_to_first_token);
    let limit = |observed: Option<f64>, floor: f64| observed.map_or(floor, |s| (s * slo.latency_growth).max(floor));
    let itl_limit = limit(observed_itl, slo.inter_token_latency);
    let ttft_limit = limit(observed_ttft, slo.time_to_first_token);
    // The headroom is for the load to grow; the load itself must be carried at the bad end, too.
    let need = load.output_tokens_per_second * slo.throughput_headroom;
    let (expected, bad) = (&both.expected, &both.bad);
    let ms = |s: f64| s * 1e3;
    let failure = if expected.capacity < need {
        Some(format!(
            "{:.0} output tokens/s, the load with headroom needs {need:.0}",
            expected.capacity
        ))
    } else if bad.capacity < load.output_tokens_per_second {
        Some(format!(
            "{:.0} output tokens/s at the bad end, the load needs {:.0}",
            bad.capacity, load.output_tokens_per_second
        ))
    } else if bad.inter_token_latency > itl_limit {
        Some(format!(
            "up to {:.0} ms between tokens, the limit is {:.0} ms",
            ms(bad.inter_token_latency),
            ms(itl_limit)
        ))
    } else {
        match bad.time_to_first_token {
            None => Some("prompts come in faster than it can process them".to_string()),
            Some(s) if s > ttft_limit => Some(format!(
                "up to {:.0} ms to the first token, the limit is {:.0} ms",
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
                "{:.0} output tokens/s of {need:.0} needed, at most {:.0} ms between tokens (limit {:.0} ms)",
                expected.capacity,
                ms(bad.inter_token_latency),
                ms(itl_limit)
            )
        }),
        output_capacity: Some(expected.capacity),
        expected_inter_token_latency: Some(expected.inter_token_latency),
        inter_token_latency: Some(bad.inter_token_latency),
        time_to_first_token: bad.time_to_first_token,
        slower: observed_itl.is_some_and(|s| bad.inter_token_latency > s * slo.latency_growth),
        by_ratio: both.by_ratio,
    }
}

#[cfg(test)]
mod tests;
