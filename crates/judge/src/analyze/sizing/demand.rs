//! What a workload is asked to do at its busiest: from history where there is one, else from counters since start, and for
//! what nobody has seen at work from what it may be asked at most.

use crate::analyze::Expected;
use crate::analyze::support;
use crate::fit::{Current, Load, Placement};
use crate::fleet::{Observed, ObservedBy, Workload};
use crate::settings::Thresholds;
use crate::snapshot::figure::Figure;
use crate::snapshot::server::EngineSettings;

/// Mean length of answers of one token each, with a few that the engine counted at the window's edges (ours).
const ONE_TOKEN: f64 = 1.5;

/// Tokens that one engine may be asked to hold at once, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::analyze) struct Admitted {
    pub(in crate::analyze) tokens: u64,
    pub(in crate::analyze) by: &'static str,
}

impl Admitted {
    /// As the user expects, else as the settings limit both ways.
    pub(in crate::analyze) fn of(settings: &EngineSettings, expected: Expected, ranks: u32) -> Option<Self> {
        if let (Some(context), Some(concurrency)) = (expected.context_tokens, expected.concurrency) {
            let tokens = context.saturating_mul(concurrency).div_ceil(u64::from(ranks.max(1)));
            return Some(Self {
                tokens,
                by: "--context-tokens x --concurrency",
            });
        }
        Some(Self {
            tokens: settings.max_model_len?.saturating_mul(settings.max_num_seqs?),
            by: "max_model_len x max_num_seqs",
        })
    }
}

/// Of the whole workload, all replicas together.
#[derive(Clone, Debug, Default)]
pub(in crate::analyze) struct Demand {
    pub(in crate::analyze) window_seconds: f64,
    pub(in crate::analyze) coverage: Option<f64>,
    /// Length of a bin of history, seconds.
    pub(in crate::analyze) bin_seconds: Option<f64>,
    /// Distributions over time; otherwise means since start, raised to peaks by rule.
    pub(in crate::analyze) history: bool,
    /// Nothing was seen: what it may be asked to hold is all that is known, its speed cannot be judged.
    pub(in crate::analyze) on_paper: bool,
    pub(in crate::analyze) prompt_tokens_per_second: f64,
    pub(in crate::analyze) output_tokens_per_second: f64,
    /// Busiest time's output tokens/s.
    pub(in crate::analyze) peak_output_tokens_per_second: f64,
    pub(in crate::analyze) peak_running: f64,
    pub(in crate::analyze) peak_kv_tokens: f64,
    pub(in crate::analyze) hit_rate: Option<f64>,
    pub(in crate::analyze) inter_token_latency: Option<f64>,
    pub(in crate::analyze) time_to_first_token: Option<f64>,
    /// They are made of a mean, where nothing tells how times are spread.
    pub(in crate::analyze) latency_by_mean: bool,
    prompt_length: Option<f64>,
    output_length: Option<f64>,
    /// Engines (replicas × data-parallel ranks) among which the load was spread while it was measured.
    engines: f64,
}

impl Demand {
    /// `None`: the load is not known. `capacity`: KV tokens of one replica.
    pub(in crate::analyze) fn of(
        workload: &Workload,
        capacity: Option<f64>,
        ranks: u32,
        t: &Thresholds,
    ) -> Option<Self> {
        let o = &workload.observed;
        let mut demand = match o.by {
            ObservedBy::History => from_history(o, capacity)?,
            ObservedBy::LifetimeCounters => from_counters(workload, capacity, t)?,
            ObservedBy::Nothing | ObservedBy::Live => return None,
        };
        demand.window_seconds = o.window_seconds;
        demand.coverage = o.coverage;
        demand.bin_seconds = o.bins.as_ref().map(|b| b.bin_seconds);
        demand.engines = workload.replicas.len() as f64 * f64::from(ranks);
        demand.hit_rate = o.prefix_hit_rate;
        demand.inter_token_latency = o.inter_token_latency_p95;
        demand.time_to_first_token = o.time_to_first_token_p95;
        demand.latency_by_mean = o.latency_by_mean;
        let each = |tokens: Option<f64>| tokens.zip(o.requests.filter(|r| *r > 0.0)).map(|(t, r)| t / r);
        demand.prompt_length = each(o.prompt_tokens);
        demand.output_length = each(o.output_tokens);
        Some(demand)
    }

    /// Of one engine that was never seen at work: a smaller home must hold what it admits, with headroom, but no more than
    /// the present one does.
    pub(in crate::analyze) fn on_paper(admitted: Admitted, current: &Placement, t: &Thresholds) -> Option<Self> {
        let capacity = current.kv_capacity.as_ref()?.value.0;
        let wanted = (admitted.tokens as f64 * t.kv_headroom).ceil() as u64;
        Some(Self {
            on_paper: true,
            peak_kv_tokens: wanted.min(capacity) as f64,
            ..Self::default()
        })
    }

    /// What a prefill half does, whose other half writes the answers, whether or not anything names its role.
    pub(in crate::analyze) fn ends_after_one_token(&self) -> bool {
        self.output_length.is_some_and(|tokens| tokens < ONE_TOKEN)
    }

    /// Why the load is not measured.
    pub(in crate::analyze) fn doubt(&self, t: &Thresholds) -> Option<String> {
        if !self.history {
            let factor = t.peak_factor;
            return Some(format!(
                "no history: the busiest time is taken as {factor} × the mean since start"
            ));
        }
        let days = t.measured_sizing_seconds as f64 / 86_400.0;
        let long = support::lasts(self.window_seconds, self.bin_seconds, t.measured_sizing_seconds);
        (!long).then(|| format!("less than {days:.0} days of history"))
    }

    /// Mean tokens of a request: prompt, output.
    pub(in crate::analyze) fn lengths(&self) -> (Option<f64>, Option<f64>) {
        (self.prompt_length, self.output_length)
    }

    /// Engines among which the load was spread while it was measured.
    pub(in crate::analyze) fn engines(&self) -> f64 {
        self.engines
    }

    /// The part of one of `engines` engines, with what the present placement was measured to do.
    pub(in crate::analyze) fn per_engine(&self, engines: u32, current: &Placement) -> Load {
        let n = f64::from(engines.max(1));
        Load {
            prompt_tokens_per_second: self.prompt_tokens_per_second / n,
            output_tokens_per_second: self.output_tokens_per_second / n,
            peak_running: self.peak_running / n,
            peak_kv_tokens: self.peak_kv_tokens / n,
            prompt_length: self.prompt_length,
            output_length: self.output_length,
            current: Some(Current {
                placement: current.clone(),
                measured_share: (n / self.engines.max(1.0)).min(1.0),
                inter_token_latency: self.inter_token_latency,
                time_to_first_token: self.time_to_first_token,
            }),
            ..Load::default()
        }
    }
}

fn from_history(o: &Observed, capacity: Option<f64>) -> Option<Demand> {
    let p95 = |s: Option<Figure>| s.and_then(|s| s.p95.or(s.max));
    let max = |s: Option<Figure>| s.and_then(|s| s.max);
    let peak_running = max(o.running)?;
    let kv = o
        .bins
        .as_ref()
        .and_then(|b| max(b.kv_usage_sum))
        .or_else(|| max(o.kv_usage));
    let by_usage = kv.zip(capacity).map(|(usage, capacity)| usage * capacity);
    // Where the engine exports no KV use: every running request at its longest.
    let by_length = o
        .prompt_length_p95
        .zip(o.output_length_p95)
        .map(|(p, g)| peak_running * (p + g));
    Some(Demand {
        history: true,
        prompt_tokens_per_second: p95(o.prompt_tokens_per_second)?,
        output_tokens_per_second: p95(o.output_tokens_per_second)?,
        peak_output_tokens_per_second: max(o.output_tokens_per_second)?,
        peak_running,
        peak_kv_tokens: by_usage.or(by_length)?,
        ..Demand::default()
    })
}

/// Mean concurrency is Σ latency ÷ life (Little's law); its peak is taken as 3 × + 3, rates likewise as 3 × their mean
/// (docs/definitions.md, oversized-tier). The gauges of the passes can only raise that.
fn from_counters(workload: &Workload, capacity: Option<f64>, t: &Thresholds) -> Option<Demand> {
    let parts: Vec<&Observed> = workload.replicas.iter().map(|r| &r.observed).collect();
    let rate = |of: fn(&Observed) -> Option<f64>| {
        parts
            .iter()
            .map(|o| Some(of(o)? / Some(o.window_seconds).filter(|w| *w > 0.0)?))
            .sum::<Option<f64>>()
    };
    let concurrency = rate(|o| o.e2e_latency_sum)?;
    let o = &workload.observed;
    let now = |s: Option<Figure>| s.and_then(|s| s.max).unwrap_or(0.0);
    let peak_running = (t.peak_factor * concurrency + t.peak_extra as f64).max(now(o.running) + now(o.waiting));
    let length = o.prompt_length_p95? + o.output_length_p95?;
    let held = now(o.kv_usage) * capacity.unwrap_or(0.0) * workload.replicas.len() as f64;
    let output = rate(|o| o.output_tokens)?;
    Some(Demand {
        prompt_tokens_per_second: t.peak_factor * rate(|o| o.prompt_tokens)?,
        output_tokens_per_second: t.peak_factor * output,
        peak_output_tokens_per_second: t.peak_factor * output,
        peak_running,
        peak_kv_tokens: (peak_running * length).max(held),
        ..Demand::default()
    })
}
