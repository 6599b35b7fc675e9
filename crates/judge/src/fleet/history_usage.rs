//! What was paid for and what was done, in the window and in the one before it: the quantities of cost-growth.

use super::history::Owners;
use super::{Fleet, WHOLE_GPU, WorkloadId};
use crate::catalog::gpus;
use crate::snapshot::history::{HeldGpus, History, UsageWindow};
use crate::units::{UsdPerHour, sum_known};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// One cluster's two windows.
#[derive(Clone, Debug, Default)]
pub struct ClusterUsage {
    pub cluster: usize,
    /// Of the earlier window, then of the judged one.
    pub before: Span,
    pub now: Span,
    pub items: Vec<UsageItem>,
    /// Devices that nobody held: spend without work.
    pub free_before: UsdPerHour,
    pub free_now: UsdPerHour,
    /// GPU models that no node of this fleet has a price for: their share of the GPU-hours, 0–1.
    pub unpriced_share: f64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub start: Timestamp,
    pub end: Timestamp,
    /// Bins with data ÷ bins of the window.
    pub coverage: f64,
}

/// One workload, alive or gone, in both windows.
#[derive(Clone, Debug, Default)]
pub struct UsageItem {
    /// `None`: it is gone, or holds no GPU now.
    pub workload: Option<WorkloadId>,
    pub namespace: String,
    pub name: String,
    pub before: Used,
    pub now: Used,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// GPUs held on average over the window (MIG instances as fractions).
    pub gpus: f64,
    /// Those GPUs' price; GPUs without a price are in `unpriced_share`, not here.
    pub usd_per_hour: UsdPerHour,
    /// Of `gpus`, those without a price.
    pub unpriced_gpus: f64,
    pub work: Work,
}

/// Work per hour of the window. Each `None`: not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    pub requests: Option<f64>,
    pub prompt_tokens: Option<f64>,
    pub output_tokens: Option<f64>,
    /// GPUs busy on average: activity × GPUs.
    pub busy_gpus: Option<f64>,
}

pub(super) fn attach(fleet: &mut Fleet, history: &History, index: usize, owners: &Owners) {
    let [now, before] = history.usage.as_slice() else {
        return;
    };
    let prices = Prices::of(fleet, index);
    let mut usage = ClusterUsage {
        cluster: index,
        before: span(before, history),
        now: span(now, history),
        ..ClusterUsage::default()
    };
    let keys: BTreeSet<(&str, &str)> = [now, before]
        .iter()
        .flat_map(|w| w.held.iter().map(|h| (h.namespace.as_str(), h.name.as_str())))
        .collect();
    let (mut unpriced, mut all) = (0.0, 0.0);
    for (namespace, name) in keys {
        let of = |window: &UsageWindow, unpriced: &mut f64, all: &mut f64| {
            let mut used = Used::default();
            for held in window
                .held
                .iter()
                .filter(|h| h.namespace == namespace && h.name == name)
            {
                let gpus = gpus_of(held, window.bins);
                *all += gpus;
                used.gpus += gpus;
                if let Some(price) = prices.per_gpu(&held.model) {
                    used.usd_per_hour += price.scale(gpus);
                } else {
                    *unpriced += gpus;
                    used.unpriced_gpus += gpus;
                }
                if let Some(busy) = held.busy_bins {
                    *used.work.busy_gpus.get_or_insert(0.0) += busy / window.bins.max(1.0);
                }
            }
            let hours = seconds(window) / 3600.0;
            if let Some(work) = window.work.iter().find(|w| w.namespace == namespace && w.name == name) {
                let rate = |total: Option<f64>| total.map(|t| t / hours.max(1e-9));
                used.work.requests = rate(work.requests);
                used.work.prompt_tokens = rate(work.prompt_tokens);
                used.work.output_tokens = rate(work.output_tokens);
            }
            used
        };
        let (b, n) = (of(before, &mut unpriced, &mut all), of(now, &mut unpriced, &mut all));
        if name.is_empty() {
            (usage.free_before, usage.free_now) = (b.usd_per_hour, n.usd_per_hour);
            continue;
        }
        let owner = owners.get(&(namespace.to_string(), name.to_string()));
        usage.items.push(UsageItem {
            workload: owner.filter(|o| o.len() == 1).and_then(|o| o.first().copied()),
            namespace: namespace.into(),
            name: name.into(),
            before: b,
            now: n,
        });
    }
    usage.unpriced_share = if all > 0.0 { unpriced / all } else { 0.0 };
    fleet.usage.push(usage);
}

fn seconds(window: &UsageWindow) -> f64 {
    window.end.duration_since(window.start).as_secs_f64()
}

fn span(window: &UsageWindow, history: &History) -> Span {
    let expected = seconds(window) / history.bin_seconds.max(1) as f64;
    Span {
        start: window.start,
        end: window.end,
        coverage: (window.bins / expected.max(1.0)).min(1.0),
    }
}

/// GPUs held on average; a MIG instance is its compute slices of a card (R1).
fn gpus_of(held: &HeldGpus, bins: f64) -> f64 {
    let pieces = gpus::find(&held.model).map_or(7, gpus::GpuFacts::mig_slices);
    let slices: Option<u32> = held.profile.split('g').next().and_then(|n| n.parse().ok());
    let fraction = match slices {
        Some(slices) if !held.profile.is_empty() => f64::from(slices.min(pieces)) / f64::from(pieces),
        _ => 1.0,
    };
    held.gpu_bins * fraction / bins.max(1.0)
}

/// The mean price of one GPU of a model in this cluster: the same in both windows, since only today's prices are known.
struct Prices(BTreeMap<String, UsdPerHour>);

impl Prices {
    fn of(fleet: &Fleet, index: usize) -> Self {
        let mut by_model: BTreeMap<String, (UsdPerHour, u64)> = BTreeMap::new();
        for slot in &fleet.slots {
            let node = fleet.node(slot.node);
            if node.cluster == index && slot.price.is_some() {
                let sum = by_model.entry(node.gpu_name.clone()).or_default();
                sum.0 += sum_known([slot.price]);
                sum.1 += slot.weight;
            }
        }
        Self(
            by_model
                .into_iter()
                .filter(|(_, (_, weight))| *weight > 0)
                .map(|(name, (usd, weight))| (name, usd.scale(WHOLE_GPU as f64 / weight as f64)))
                .collect(),
        )
    }

    fn per_gpu(&self, model: &str) -> Option<UsdPerHour> {
        let name = gpus::find(model).map_or(model, |g| g.name.as_str());
        self.0.get(name).copied()
    }
}
