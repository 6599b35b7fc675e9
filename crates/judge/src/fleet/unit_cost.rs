//! What tokens cost: the one definition, for workloads, groups, totals and cost-growth.
//!
//! On two bases: what the GPUs that were held cost (allocation: the whole bill), and the share of it that they were busy (use).
//! The bill is never split between prompt and output tokens: dollars per million of either are the bill over their number.

use super::history::COVERED;
use super::{Fleet, Observed, ObservedBy, SlotId, UsageItem, Used, WHOLE_GPU, Workload, WorkloadId};
use crate::snapshot::figure::Figure;
use crate::units::UsdPerHour;
use std::collections::BTreeSet;

/// Per hour of the time over which it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UnitCost {
    /// Hours over which it was counted.
    pub hours: f64,
    /// GPUs held on average; parts as fractions.
    pub gpus: f64,
    /// What they cost: the allocation basis.
    pub held: UsdPerHour,
    /// The share of it that they were busy: the use basis. `None`: activity is not known.
    pub used: Option<UsdPerHour>,
    pub output_tokens: f64,
    pub input_tokens: Option<f64>,
}

/// USD per million tokens. `None`: no tokens.
pub fn per_million(usd: UsdPerHour, tokens_per_hour: f64) -> Option<f64> {
    usd.per_million(tokens_per_hour / 3600.0)
}

impl UnitCost {
    /// Of one workload; `None`: its tokens, or the price of what it held, are not known over most of the time.
    pub fn of(fleet: &Fleet, id: WorkloadId, price: Option<UsdPerHour>) -> Option<Self> {
        let usage = fleet.usage.iter().find_map(|u| {
            let item = u.items.iter().find(|i| i.workload == Some(id))?;
            (u.now.coverage >= COVERED).then(|| {
                let hours = u.now.end.duration_since(u.now.start).as_secs_f64() / 3600.0;
                Self::of_usage(item, hours)
            })?
        });
        usage.or_else(|| Self::of_observed(fleet, fleet.workload(id), price?))
    }

    fn of_usage(item: &UsageItem, hours: f64) -> Option<Self> {
        let used = &item.now;
        let priced = used.unpriced_gpus <= 0.0 && used.gpus > 0.0;
        let busy = used.work.busy_gpus.map(|b| (b / used.gpus).clamp(0.0, 1.0));
        Some(Self {
            hours,
            gpus: used.gpus,
            held: used.usd_per_hour,
            used: busy.map(|b| used.usd_per_hour.scale(b)),
            output_tokens: used.work.output_tokens?,
            input_tokens: used.work.prompt_tokens,
        })
        .filter(|_| priced)
    }

    /// Of what it holds now, over the time that its counters tell.
    fn of_observed(fleet: &Fleet, workload: &Workload, price: UsdPerHour) -> Option<Self> {
        let o = &workload.observed;
        let known = o.coverage.is_some_and(|c| c >= COVERED) && o.window_seconds > 0.0;
        let (output, input) = rates(o).filter(|_| known)?;
        let gpus = held(fleet, workload);
        let now = workload.replicas.len() as f64;
        // Of a workload that was scaled, the mean of what it held: its bill was not today's all the time.
        let then = o.bins.as_ref().and_then(|b| b.replicas).and_then(|r| r.mean);
        let scale = then.filter(|_| now > 0.0).map_or(1.0, |then| then / now);
        let held = price.scale(scale);
        Some(Self {
            hours: o.window_seconds / 3600.0,
            gpus: gpus * scale,
            held,
            used: busy(o).map(|b| held.scale(b)),
            output_tokens: output,
            input_tokens: input,
        })
    }
}

/// Of prompt and output tokens alike, in a window of cost-growth.
pub fn per_million_of_both(used: &Used) -> Option<f64> {
    let tokens = used.work.output_tokens? + used.work.prompt_tokens.unwrap_or(0.0);
    per_million(used.usd_per_hour, tokens)
}

/// Output and prompt tokens an hour. The lives of replicas differ, so that of counters only their own rates add up; two looks a
/// few seconds apart tell nothing of a bill.
fn rates(o: &Observed) -> Option<(f64, Option<f64>)> {
    match o.by {
        ObservedBy::History => {
            let hours = o.window_seconds / 3600.0;
            Some((o.output_tokens? / hours, o.prompt_tokens.map(|t| t / hours)))
        }
        ObservedBy::LifetimeCounters => {
            let rate = |s: Option<Figure>| s.and_then(|s| s.mean).map(|m| m * 3600.0);
            Some((rate(o.output_tokens_per_second)?, rate(o.prompt_tokens_per_second)))
        }
        ObservedBy::Nothing | ObservedBy::Live => None,
    }
}

/// Share of the time, 0–1; a look of a few seconds is none of a bill.
fn busy(o: &Observed) -> Option<f64> {
    let told = o.gpu_busy.filter(|b| b.coverage.is_some_and(|c| c >= COVERED))?;
    Some(told.mean?.clamp(0.0, 1.0))
}

/// GPUs that it holds now; of a shared one, its part.
fn held(fleet: &Fleet, workload: &Workload) -> f64 {
    let pods: BTreeSet<_> = workload.pods.iter().copied().collect();
    let slots: BTreeSet<SlotId> = pods.iter().flat_map(|p| fleet.pod(*p).slots.iter().copied()).collect();
    slots
        .into_iter()
        .map(|s| {
            let slot = fleet.slot(s);
            let own = slot.holders.iter().filter(|h| pods.contains(h)).count();
            slot.weight as f64 / WHOLE_GPU as f64 * own as f64 / slot.holders.len().max(1) as f64
        })
        .sum()
}

/// Sums over workloads whose tokens are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    pub any: bool,
    pub held: UsdPerHour,
    used: UsdPerHour,
    unused: bool,
    pub output_tokens: f64,
    input_tokens: f64,
    no_input: bool,
}

impl Sum {
    /// `share`: the part of it that falls on this sum, 0–1.
    pub fn add(&mut self, cost: &UnitCost, share: f64) {
        self.any = true;
        self.held += cost.held.scale(share);
        match cost.used {
            Some(used) => self.used += used.scale(share),
            None => self.unused = true,
        }
        self.output_tokens += cost.output_tokens * share;
        match cost.input_tokens {
            Some(tokens) => self.input_tokens += tokens * share,
            None => self.no_input = true,
        }
    }

    /// `None`: of one part it is not known.
    pub fn used(&self) -> Option<UsdPerHour> {
        (self.any && !self.unused).then_some(self.used)
    }

    pub fn input_tokens(&self) -> Option<f64> {
        (self.any && !self.no_input).then_some(self.input_tokens)
    }
}
