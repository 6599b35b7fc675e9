//! Speeds that files tell, and what no card could do.

use super::facts::Speed;
use super::{Refusal, Told};
use crate::Roofline;
use crate::place;
use crate::speed::{At, Measured, Predictor};
use crate::throughput::usable;

/// What is seen in less time says little of the busiest (docs/decisions.md, learned).
const LEAST_SECONDS: f64 = 86_400.0;
/// Weights may be lighter than estimated, and a p95 of latencies is read off the buckets of a histogram (ours).
const SLACK: f64 = 0.8;

/// What a server's speed says of others like it.
pub(super) fn measured(told: &Told<'_>, speed: &Speed) -> Result<Measured, Refusal> {
    let silent = |why: &str| Err(Refusal::Silent(why.to_string()));
    if speed.window_seconds < LEAST_SECONDS {
        return silent("its speed was seen for less than a day");
    }
    if told.settings.speculative == Some(true) {
        return silent("it drafts: its time between tokens is not a step's");
    }
    let seen = speed.inter_token_latency > 0.0 && speed.output_tokens_per_second > 0.0 && speed.output_tokens >= 1.0;
    let bare = place(told.model, told.settings, told.gpu, told.parallelism, None);
    let Some(roofline) = usable(&bare).filter(|_| seen) else {
        return silent("its speed cannot be held against a model");
    };
    possible(roofline, speed).map_err(Refusal::Impossible)?;
    Ok(Measured {
        roofline: roofline.clone(),
        at: at(speed),
        seconds: speed.inter_token_latency,
    })
}

/// Little's law, at the rate that belongs to the p95 of the latency.
fn at(speed: &Speed) -> At {
    let running = (speed.output_tokens_per_second * speed.inter_token_latency).max(1.0);
    At::new(running, speed.input_tokens, speed.output_tokens)
}

/// Nothing reads its weights faster than the card's memory, or multiplies them faster than its peak.
fn possible(r: &Roofline, speed: &Speed) -> Result<(), String> {
    let ranks = f64::from(r.tensor.max(1)) * f64::from(r.pipeline.max(1));
    let chosen = if r.experts > 0.0 {
        (r.experts_per_token / r.experts).min(1.0)
    } else {
        0.0
    };
    let read =
        r.dense_bytes / r.attention_ranks.max(1.0) + r.expert_bytes * chosen / (ranks * r.expert_engines.max(1.0));
    let least = read / r.bandwidth * SLACK;
    if speed.inter_token_latency < least {
        return Err(format!(
            "{:.2} ms between tokens, and reading the weights alone takes {:.2} ms",
            speed.inter_token_latency * 1e3,
            least * 1e3
        ));
    }
    let most = r.flops * ranks / (2.0 * (r.dense_parameters + r.expert_parameters)) / SLACK;
    let told = speed.output_tokens_per_second.max(speed.peak_output_tokens_per_second);
    if told > most {
        return Err(format!(
            "{told:.0} output tokens/s, and the card multiplies for {most:.0} at most"
        ));
    }
    Ok(())
}

/// Not faster than the model of speeds believes possible: one witness that another contradicts promises nothing.
pub(super) fn is_believed(measured: &Measured) -> bool {
    let known = Predictor::new(&measured.roofline, &[]).at(measured.at).ends;
    known.is_none_or(|(low, _)| measured.seconds >= low)
}
