//! The figures above the list: spend (R2), states (R3), coverage (R9), where prices come from.

use super::document::{CheckCoverage, CheckGap, Totals, UnitCosts};
use crate::analyze::{Outcome, finding::NotAssessed};
use crate::fleet::unit_cost::{Sum, UnitCost};
use crate::fleet::{Fleet, ObservedBy, PriceSource, Slot, SlotId, SlotState, WHOLE_GPU, WorkloadClass};
use crate::units::{Ratio, UsdPerHour, sum_known};
use std::collections::{BTreeMap, BTreeSet};

/// Share of its window over which a server's activity must be known (R9).
const KNOWN_ACTIVITY: f64 = 0.8;

/// Physical GPUs of so many parts.
pub(crate) fn gpus(weight: u64) -> f64 {
    weight as f64 / WHOLE_GPU as f64
}

/// Percentages and shares are printed with four decimals.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

pub(crate) fn percent(part: f64, whole: f64) -> Option<f64> {
    // An empty sum of floats is -0.0.
    Ratio::of(part, whole).map(|r| rounded(r.percent()) + 0.0)
}

/// Everything but the money of the findings.
pub(crate) fn of(fleet: &Fleet, costs: &[Option<UnitCost>]) -> Totals {
    let mut tokens = Sum::default();
    for cost in costs.iter().flatten() {
        tokens.add(cost, 1.0);
    }
    let state = |state: SlotState| weight(fleet, |s| s.state == state);
    let held = Slot::is_allocated;
    let allocated = weight(fleet, held);
    let silent = weight(fleet, |s| {
        held(s) && matches!(s.state, SlotState::Idle | SlotState::Stuck)
    });
    let [free, unhealthy, stuck, idle] =
        [SlotState::Free, SlotState::Unhealthy, SlotState::Stuck, SlotState::Idle].map(state);
    Totals {
        spend_usd_per_hour: spend(fleet),
        coverage_percent: coverage(fleet),
        nodes: fleet.nodes.len() as u64,
        workloads: fleet
            .workloads
            .iter()
            .filter(|w| w.class != WorkloadClass::Infrastructure)
            .count() as u64,
        gpus: gpus(weight(fleet, |_| true)),
        gpus_allocated: gpus(allocated),
        gpus_dark: gpus(free + unhealthy + stuck + idle),
        gpus_free: gpus(free),
        gpus_unhealthy: gpus(unhealthy),
        gpus_stuck: gpus(stuck),
        gpus_idle: gpus(idle),
        gpus_working: gpus(state(SlotState::Working)),
        gpus_unknown: gpus(state(SlotState::Unknown)),
        gpus_unpriced: gpus(weight(fleet, |s| s.price.is_none())),
        allocated_without_traffic_percent: percent(silent as f64, allocated as f64),
        price_sources: price_sources(fleet),
        prices_as_of: fleet.nodes.iter().filter_map(|n| n.price.as_of.clone()).min(),
        unit_costs: UnitCosts::of(&tokens),
        ..Totals::default()
    }
}

fn weight(fleet: &Fleet, which: impl Fn(&Slot) -> bool) -> u64 {
    fleet.slots.iter().filter(|s| which(s)).map(|s| s.weight).sum()
}

/// R2: what nodes cost is known without their pods; where the user asked for some pods and others were refused, the GPUs of
/// the visible pods.
fn spend(fleet: &Fleet) -> UsdPerHour {
    fleet
        .slots
        .iter()
        .filter(|s| is_spent(fleet, s))
        .filter_map(|s| s.price)
        .sum()
}

pub(crate) fn is_spent(fleet: &Fleet, slot: &Slot) -> bool {
    let cluster = fleet.clusters.get(fleet.node(slot.node).cluster);
    cluster.is_none_or(|c| c.pods_known || !c.scoped) || !slot.holders.is_empty()
}

fn price_sources(fleet: &Fleet) -> BTreeMap<String, f64> {
    let all = weight(fleet, |_| true) as f64;
    let spend = spend(fleet).micros() as f64;
    PriceSource::ALL
        .into_iter()
        .map(|source| {
            let share = if source == PriceSource::Unknown {
                Ratio::of(weight(fleet, |s| s.price.is_none()) as f64, all)
            } else {
                let of_source = |s: &&Slot| fleet.node(s.node).price.source == source && is_spent(fleet, s);
                let part = sum_known(fleet.slots.iter().filter(of_source).map(|s| s.price));
                Ratio::of(part.micros() as f64, spend)
            };
            (source.name().to_owned(), share.map_or(0.0, |r| rounded(r.0)))
        })
        .collect()
}

/// R9; `None` where nodes could not be read, or where there is no GPU to cover.
fn coverage(fleet: &Fleet) -> Option<f64> {
    if fleet.clusters.iter().any(|c| !c.nodes_known) {
        return None;
    }
    let priced = weight(fleet, |s| s.price.is_some());
    let mean = Ratio::of(
        sum_known(fleet.slots.iter().map(|s| s.price)).micros() as f64,
        priced as f64,
    )
    .map_or(1.0, |r| r.0);
    let value = |s: &Slot| s.price.map_or(mean * s.weight as f64, |p| p.micros() as f64);
    let known: f64 = fleet.slots.iter().filter(|s| is_covered(fleet, s)).map(value).sum();
    let all: f64 = fleet.slots.iter().map(value).sum();
    percent(known, all)
}

/// Price, state and, for servers, activity over most of the window are known, and no read failed that could tell of more.
pub(crate) fn is_covered(fleet: &Fleet, slot: &Slot) -> bool {
    let serves = matches!(slot.state, SlotState::Working | SlotState::Idle);
    slot.price.is_some()
        && !slot.doubted
        && slot.state != SlotState::Unknown
        && (!serves
            || slot.holders.iter().all(|&pod| {
                let workload = fleet.pod(pod).workload.map(|w| fleet.workload(w));
                workload.is_none_or(|w| w.class != WorkloadClass::Server || has_activity(&w.observed))
                    || has_gpu_history(slot)
            }))
}

fn has_activity(observed: &crate::fleet::Observed) -> bool {
    matches!(observed.by, ObservedBy::History | ObservedBy::LifetimeCounters)
        && observed.coverage.is_some_and(|c| c >= KNOWN_ACTIVITY)
}

fn has_gpu_history(slot: &Slot) -> bool {
    slot.activity.as_ref().is_some_and(|a| {
        a.history
            && !a.shared
            && [a.busy, a.engine_active, a.gpu_util]
                .into_iter()
                .flatten()
                .any(|s| s.coverage.is_some_and(|c| c >= KNOWN_ACTIVITY))
    })
}

/// What each check could judge, in GPUs and dollars.
pub(crate) fn checks(fleet: &Fleet, outcomes: &[(&'static str, Outcome)]) -> Vec<CheckCoverage> {
    let mut checks: Vec<CheckCoverage> = outcomes
        .iter()
        .map(|(id, outcome)| {
            let assessed = measure(fleet, outcome.assessed.iter());
            CheckCoverage {
                id: (*id).to_owned(),
                assessed_gpus: assessed.0,
                assessed_usd_per_hour: assessed.1,
                not_assessed: not_assessed(fleet, &outcome.not_assessed),
            }
        })
        .collect();
    checks.sort_by(|a, b| a.id.cmp(&b.id));
    checks
}

fn not_assessed(fleet: &Fleet, entries: &[NotAssessed]) -> Vec<CheckGap> {
    let mut merged: BTreeMap<(&str, &str), Vec<SlotId>> = BTreeMap::new();
    for entry in entries {
        merged
            .entry((&entry.reason, &entry.remedy))
            .or_default()
            .extend(&entry.slots);
    }
    let mut gaps: Vec<CheckGap> = merged
        .into_iter()
        .map(|((reason, remedy), slots)| {
            let (gpus, usd_per_hour) = measure(fleet, slots.iter());
            CheckGap {
                reason: reason.to_owned(),
                gpus,
                usd_per_hour,
                remedy: remedy.to_owned(),
            }
        })
        .collect();
    gaps.sort_by(|a, b| {
        b.usd_per_hour
            .cmp(&a.usd_per_hour)
            .then_with(|| b.gpus.total_cmp(&a.gpus))
    });
    gaps
}

/// GPUs and dollars of a set of slots, each counted once; no dollars where there are GPUs and none has a price.
fn measure<'s>(fleet: &Fleet, slots: impl Iterator<Item = &'s SlotId>) -> (f64, Option<UsdPerHour>) {
    let slots: BTreeSet<SlotId> = slots.copied().collect();
    let weight = slots.iter().map(|&s| fleet.slot(s).weight).sum();
    let priced = slots.is_empty() || slots.iter().any(|&s| fleet.slot(s).price.is_some());
    let usd = sum_known(slots.iter().map(|&s| fleet.slot(s).price));
    (gpus(weight), priced.then_some(usd))
}
