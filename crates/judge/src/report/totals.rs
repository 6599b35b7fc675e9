//! The figures above the list: spend (R2), states (R3), coverage (R9), where prices come from.

use super::document::{CheckCoverage, CheckGap, Report, ReportFinding, Status, Totals, UnitCosts};
use crate::analyze::Outcome;
use crate::analyze::finding::{FindingKind, NotAssessed};
use crate::analyze::rights;
use crate::fleet::unit_cost::{Sum, UnitCost};
use crate::fleet::{Fleet, ObservedBy, PriceSource, Slot, SlotId, SlotState, WHOLE_GPU, Workload, WorkloadClass};
use crate::snapshot::SourceKind;
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
    let told = weight(fleet, |s| held(s) && s.state != SlotState::Unknown);
    let [free, unhealthy, stuck, idle] =
        [SlotState::Free, SlotState::Unhealthy, SlotState::Stuck, SlotState::Idle].map(state);
    Totals {
        spend_usd_per_hour: spend(fleet),
        coverage_percent: coverage(fleet),
        gpus_uncounted: !fleet.uncounted.is_empty(),
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
        allocated_without_traffic_percent: (told > 0).then(|| percent(silent as f64, allocated as f64)).flatten(),
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
fn spend(fleet: &Fleet) -> Option<UsdPerHour> {
    if fleet.slots.is_empty() {
        // No GPU and no bill, where the nodes were read.
        let read = !fleet.clusters.is_empty() && fleet.clusters.iter().all(|c| c.nodes_known);
        // What asks for nobody knows how many costs nobody knows what.
        return (read && fleet.uncounted.is_empty()).then_some(UsdPerHour::ZERO);
    }
    any_known(fleet.slots.iter().filter(|s| is_spent(fleet, s)).map(|s| s.price))
}

/// What is known, added up; `None` where there is something and nothing of it is known.
pub(crate) fn any_known(items: impl IntoIterator<Item = Option<UsdPerHour>>) -> Option<UsdPerHour> {
    let (mut sum, mut known, mut unknown) = (UsdPerHour::ZERO, false, false);
    for item in items {
        match item {
            Some(usd) => (sum, known) = (sum + usd, true),
            None => unknown = true,
        }
    }
    (known || !unknown).then_some(sum)
}

/// Checks whose findings are at risk.
const AT_RISK: [&str; 3] = ["kv-pressure", "cpu-gpu-imbalance", "undersized-tier"];

/// Whether finding nothing says anything. Manifests run nothing yet: what is written is all that there is to judge.
pub(crate) fn could_judge(report: &Report) -> bool {
    let t = &report.totals;
    let written = !report.sources.is_empty() && report.sources.iter().all(|s| s.kind == SourceKind::Manifest);
    let looked = || report.checks.iter().any(|c| c.assessed_gpus > 0.0);
    t.gpus == 0.0 || t.gpus_unknown < t.gpus || written && looked()
}

/// The money of the findings that count. None found is 0 only where something could be judged.
pub(crate) fn add_up(report: &mut Report) {
    let counted = || report.findings.iter().filter(|f| f.status != Status::Suppressed);
    let of = |kind: FindingKind| counted().filter(move |f| f.kind == kind && !f.claims.is_empty());
    let t = &report.totals;
    let priced = t.spend_usd_per_hour.is_some();
    let judged = could_judge(report);
    let found = of(FindingKind::Recoverable).next().is_some();
    let waste = |money: fn(&ReportFinding) -> Option<UsdPerHour>| {
        (priced && (judged || found)).then(|| any_known(of(FindingKind::Recoverable).map(money)))?
    };
    let (all, now) = (waste(|f| f.waste_usd_per_hour), waste(|f| f.waste_now_usd_per_hour));
    let running = t.gpus_working + t.gpus_unknown > 0.0;
    let looked = report
        .checks
        .iter()
        .any(|c| AT_RISK.contains(&c.id.as_str()) && c.assessed_gpus > 0.0);
    let failing = of(FindingKind::AtRisk).next().is_some();
    let at_risk = (priced && (!running || looked || failing))
        .then(|| any_known(of(FindingKind::AtRisk).map(|f| f.at_risk_usd_per_hour)))
        .flatten();
    let percent = all
        .zip(t.spend_usd_per_hour)
        .and_then(|(waste, spend)| percent(waste.usd(), spend.usd()));
    let totals = &mut report.totals;
    totals.waste_usd_per_hour = all;
    totals.waste_now_usd_per_hour = now;
    totals.waste_reusable_usd_per_hour = all.zip(now).map(|(all, now)| all - now);
    totals.at_risk_usd_per_hour = at_risk;
    totals.waste_percent = percent;
}

pub(crate) fn is_spent(fleet: &Fleet, slot: &Slot) -> bool {
    let cluster = fleet.clusters.get(fleet.node(slot.node).cluster);
    cluster.is_none_or(|c| c.pods_known || !c.scoped) || !slot.holders.is_empty()
}

fn price_sources(fleet: &Fleet) -> BTreeMap<String, f64> {
    let all = weight(fleet, |_| true) as f64;
    let spend = spend(fleet).unwrap_or_default().micros() as f64;
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
                // What hides what it runs may be a server, too; and a page speaks for its own ranks alone.
                let may_serve = |w: &Workload| matches!(w.class, WorkloadClass::Server | WorkloadClass::Unknown);
                workload.is_none_or(|w| !may_serve(w) || has_activity(&w.observed) && w.servers_unread.is_none())
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

const NO_SCHEDULER: &str = "no scheduler was read, only metrics: who holds it is not known";

fn not_assessed(fleet: &Fleet, entries: &[NotAssessed]) -> Vec<CheckGap> {
    let mut merged: BTreeMap<(&str, &str), Vec<SlotId>> = BTreeMap::new();
    let bare = |s: &SlotId| fleet.clusters[fleet.node(fleet.slot(*s).node).cluster].metrics_only;
    for entry in entries {
        // Where there is no cluster nothing can be granted in it.
        let (reason, remedy) =
            if !entry.slots.is_empty() && entry.slots.iter().all(bare) && rights::grants(&entry.remedy) {
                (
                    NO_SCHEDULER,
                    "give a kubeconfig, or run 'gpuwaste scan --local' on the hosts",
                )
            } else {
                (entry.reason.as_str(), entry.remedy.as_str())
            };
        merged.entry((reason, remedy)).or_default().extend(&entry.slots);
    }
    let mut gaps: Vec<CheckGap> = merged
        .into_iter()
        .map(|((reason, remedy), slots)| {
            let (gpus, usd_per_hour) = measure(fleet, slots.iter());
            CheckGap {
                reason: reason.to_owned(),
                gpus,
                // What holds no GPU yet is not free of charge.
                usd_per_hour: usd_per_hour.filter(|_| !slots.is_empty()),
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

/// GPUs and dollars of a set of slots, each counted once.
fn measure<'s>(fleet: &Fleet, slots: impl Iterator<Item = &'s SlotId>) -> (f64, Option<UsdPerHour>) {
    let slots: BTreeSet<SlotId> = slots.copied().collect();
    let weight = slots.iter().map(|&s| fleet.slot(s).weight).sum();
    (gpus(weight), any_known(slots.iter().map(|&s| fleet.slot(s).price)))
}
