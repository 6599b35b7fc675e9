//! cost-growth: spend that grew faster than the work it pays for, between the window before and the judged one.

use super::finding::{ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix, Subject};
use super::support::{self, Judged};
use super::{Check, Context, Outcome, documented};
use crate::fleet::{ClusterUsage, Fleet, SlotId, UsageItem, Used, unit_cost};
use crate::settings::Thresholds;
use crate::units::UsdPerHour;
use std::collections::BTreeMap;

documented! {
    since "0.1.0";
    /// What it finds. A workload, namespace or cluster whose spend grew faster than its work between the window before and this one, also
    /// when the work fell and the spend stayed.
    ///
    /// Why it costs. It is the part of the bill that use does not explain.
    ///
    /// How the dollars are computed. Spend is GPUs held x today's prices of their models (free GPUs too, for the cluster); work is output
    /// tokens + 0.25 x prompt tokens, else requests, else GPU-busy time: the finest known in both windows. Excess = spend now - spend then x
    /// work now / work then; reported from 10 % of spend and $0.50/h. A trend claims nothing and is in no total. The change of spend is split
    /// exactly (LMDI): price (dearer GPUs), capacity (free GPUs), efficiency (GPUs per work), mix (which workloads), volume (all work), new,
    /// gone.
    ///
    /// When it is wrong. Holidays: both windows' dates are printed. A new model or tokenizer changes what a token is. Prices of then are not
    /// known: a price list's change is not seen.
    ///
    /// What to do. Look at the largest part, then at that workload's other findings.
    pub(crate) struct CostGrowth;
}

const ID: &str = "cost-growth";

impl Check for CostGrowth {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Spend that grew faster than the work it pays for, split into price, capacity, efficiency, mix and volume."
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[Some("workload"), Some("namespace"), Some("fleet")]
    }

    fn needs_activity(&self) -> bool {
        true
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        for cluster in 0..fleet.clusters.len() {
            let slots: Vec<SlotId> = (0..fleet.slots.len())
                .map(SlotId)
                .filter(|s| fleet.node(fleet.slot(*s).node).cluster == cluster)
                .collect();
            let Some(usage) = fleet.usage.iter().find(|u| u.cluster == cluster) else {
                out.not_assessed(
                    "no history of two windows: what was held and done before is not known",
                    "give Prometheus with DCGM and engine metrics that keeps twice the --window",
                    slots,
                );
                continue;
            };
            let covered = crate::fleet::history::COVERED;
            if usage.before.coverage < covered || usage.now.coverage < covered {
                out.not_assessed(
                    "history covers less than 80 % of one of the two windows",
                    "ask for a shorter --window, or wait until the store has twice the window",
                    slots,
                );
                continue;
            }
            out.assessed.extend(&slots);
            judge(context, usage, out);
        }
    }
}

fn judge(context: &Context<'_>, usage: &ClusterUsage, out: &mut Outcome) {
    let (fleet, t) = (context.fleet, &context.settings.thresholds);
    let scoped = fleet.clusters[usage.cluster].scoped;
    let parties: Vec<Party> = usage.items.iter().map(|i| Party::of(i, t)).collect();
    for (item, party) in usage.items.iter().zip(&parties) {
        let in_scope = item
            .workload
            .is_some_and(|w| support::in_scope(fleet, fleet.workload(w)));
        if in_scope {
            out.findings.extend(of_workload(fleet, t, usage, item, party));
        }
    }
    if scoped {
        return;
    }
    let mut namespaces: BTreeMap<&str, Vec<&Party>> = BTreeMap::new();
    for (item, party) in usage.items.iter().zip(&parties) {
        namespaces.entry(&item.namespace).or_default().push(party);
    }
    if namespaces.len() > 1 {
        for (namespace, parties) in namespaces {
            let subject = Subject {
                kind: Some("Namespace".into()),
                namespace: Some(namespace.into()),
                name: Some(namespace.into()),
                ..of_cluster(fleet, usage)
            };
            out.findings
                .extend(together(fleet, t, usage, &parties, None, "namespace", subject));
        }
    }
    let all: Vec<&Party> = parties.iter().collect();
    let subject = Subject {
        kind: Some("Cluster".into()),
        name: Some(fleet.clusters[usage.cluster].name.clone()),
        ..of_cluster(fleet, usage)
    };
    let free = Some((usage.free_before, usage.free_now));
    if let Some(mut finding) = together(fleet, t, usage, &all, free, "fleet", subject) {
        finding.evidence.extend(come_and_gone(usage));
        out.findings.push(finding);
    }
}

/// Names behind the terms "new" and "gone".
fn come_and_gone(usage: &ClusterUsage) -> Vec<Evidence> {
    let names = |which: fn(&UsageItem) -> bool| {
        let all: Vec<String> = usage
            .items
            .iter()
            .filter(|i| which(i))
            .map(|i| format!("{}/{}", i.namespace, i.name))
            .collect();
        (!all.is_empty()).then(|| all.join(", "))
    };
    let new = names(|i| i.before.gpus <= 0.0 && i.now.gpus > 0.0);
    let gone = names(|i| i.before.gpus > 0.0 && i.now.gpus <= 0.0);
    [("new_workloads", new), ("gone_workloads", gone)]
        .into_iter()
        .filter_map(|(name, all)| Some(Evidence::text(name, &all?, "prometheus")))
        .collect()
}

fn of_cluster(fleet: &Fleet, usage: &ClusterUsage) -> Subject {
    let cluster = &fleet.clusters[usage.cluster];
    Subject {
        cluster: Some(cluster.name.clone()),
        cluster_key: cluster.key.clone(),
        ..Subject::default()
    }
}

/// What work is counted in: the finest unit known in both windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    /// Output tokens, prompt tokens at their weight.
    Tokens,
    Requests,
    BusyGpus,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens/h",
            Self::Requests => "requests/h",
            Self::BusyGpus => "busy gpus",
        }
    }

    fn of(self, used: &Used, t: &Thresholds) -> Option<f64> {
        match self {
            Self::Tokens => {
                let (out, prompt) = (used.work.output_tokens, used.work.prompt_tokens);
                out.is_some()
                    .then(|| out.unwrap_or(0.0) + t.prompt_token_weight * prompt.unwrap_or(0.0))
            }
            Self::Requests => used.work.requests,
            Self::BusyGpus => used.work.busy_gpus,
        }
    }
}

/// A workload's two windows in numbers.
#[derive(Clone, Copy, Debug)]
struct Party {
    unit: Option<Unit>,
    before: Side,
    now: Side,
}

#[derive(Clone, Copy, Debug, Default)]
struct Side {
    spend: UsdPerHour,
    gpus: f64,
    work: f64,
}

impl Party {
    fn of(item: &UsageItem, t: &Thresholds) -> Self {
        let held = |u: &Used| u.gpus > 0.0;
        let unit = [Unit::Tokens, Unit::Requests, Unit::BusyGpus].into_iter().find(|unit| {
            [&item.before, &item.now]
                .into_iter()
                .filter(|u| held(u))
                .all(|u| unit.of(u, t).is_some())
        });
        let side = |used: &Used| Side {
            spend: used.usd_per_hour,
            gpus: used.gpus,
            work: unit.and_then(|u| u.of(used, t)).unwrap_or(0.0),
        };
        Self {
            unit,
            before: side(&item.before),
            now: side(&item.now),
        }
    }

    fn stays(&self) -> bool {
        self.before.spend.is_positive() && self.now.spend.is_positive()
    }
}

/// What the work of now would have cost at the price of then, and how far spend is above it.
fn excess(before: Side, now: Side) -> Option<UsdPerHour> {
    if !before.spend.is_positive() || before.work <= 0.0 {
        return None;
    }
    let fair = before.spend.scale(now.work / before.work);
    Some((now.spend - fair).max(UsdPerHour::ZERO))
}

fn fires(excess: UsdPerHour, spend: UsdPerHour, t: &Thresholds) -> bool {
    excess.usd() >= t.growth_usd && excess.usd() >= t.growth_share * spend.usd()
}

fn of_workload(
    fleet: &Fleet,
    t: &Thresholds,
    usage: &ClusterUsage,
    item: &UsageItem,
    party: &Party,
) -> Option<Finding> {
    let unit = party.unit?;
    let excess = excess(party.before, party.now).filter(|e| fires(*e, party.now.spend, t))?;
    let id = item.workload?;
    let workload = fleet.workload(id);
    let split = split(&[party], None);
    let work = if party.before.work > 0.0 {
        (party.now.work / party.before.work - 1.0) * 100.0
    } else {
        0.0
    };
    let slots = support::slots_of(workload);
    let mut evidence = common(usage, &split, party.before, party.now);
    evidence.push(Evidence::number(
        "work_before",
        party.before.work,
        unit.name(),
        "prometheus",
    ));
    evidence.push(Evidence::number("work_now", party.now.work, unit.name(), "prometheus"));
    evidence.extend(per_million(item));
    Some(finding(
        fleet,
        usage,
        "workload",
        format!(
            "{}: spend {}, work {work:+.0} %: {excess} more than its work would have cost before",
            workload.name,
            change(party.before.spend, party.now.spend)
        ),
        support::of_workload(fleet, workload),
        Some(id),
        excess,
        evidence,
        &slots,
    ))
}

/// A group of workloads: what each unit's work would cost at the price of then, added up.
fn together(
    fleet: &Fleet,
    t: &Thresholds,
    usage: &ClusterUsage,
    parties: &[&Party],
    free: Option<(UsdPerHour, UsdPerHour)>,
    part: &'static str,
    subject: Subject,
) -> Option<Finding> {
    let total = |of: fn(&Party) -> UsdPerHour| parties.iter().map(|p| of(p)).sum::<UsdPerHour>();
    let (free_before, free_now) = free.unwrap_or_default();
    let before = total(|p| p.before.spend) + free_before;
    let now = total(|p| p.now.spend) + free_now;
    // Workloads without counted work are taken to be worth what they cost then.
    let mut units: BTreeMap<Option<Unit>, (UsdPerHour, f64, f64)> = BTreeMap::new();
    for party in parties {
        let sum = units.entry(party.unit).or_default();
        sum.0 += party.before.spend;
        sum.1 += party.before.work;
        sum.2 += party.now.work;
    }
    let fair: UsdPerHour = units
        .into_iter()
        .map(|(unit, (spend, then, now))| match unit {
            Some(_) if then > 0.0 => spend.scale(now / then),
            _ => spend,
        })
        .sum();
    // Free capacity may grow with the work, not faster.
    let held_before = total(|p| p.before.spend);
    let fair_free = if held_before.is_positive() {
        free_before.scale(fair.usd() / held_before.usd())
    } else {
        free_before
    };
    let excess = (now - fair - fair_free).max(UsdPerHour::ZERO);
    if !before.is_positive() || !fires(excess, now, t) {
        return None;
    }
    let split = split(parties, free);
    let side = |spend| Side {
        spend,
        ..Side::default()
    };
    let evidence = common(usage, &split, side(before), side(now));
    let name = subject.name.clone().unwrap_or_default();
    Some(finding(
        fleet,
        usage,
        part,
        format!(
            "{name}: spend {}: {excess} more than its work would have cost before",
            change(before, now)
        ),
        subject,
        None,
        excess,
        evidence,
        &[],
    ))
}

fn change(before: UsdPerHour, now: UsdPerHour) -> String {
    format!("{before} to {now}")
}

fn per_million(item: &UsageItem) -> Vec<Evidence> {
    [
        ("usd_per_million_tokens_before", &item.before),
        ("usd_per_million_tokens_now", &item.now),
    ]
    .into_iter()
    .filter_map(|(name, used)| {
        let usd = unit_cost::per_million_of_both(used)?;
        Some(Evidence::number(name, usd, "usd/1M tokens", "prometheus"))
    })
    .collect()
}

fn common(usage: &ClusterUsage, split: &Split, before: Side, now: Side) -> Vec<Evidence> {
    let dates = |span: crate::fleet::Span| {
        let day = |t: jiff::Timestamp| t.strftime("%Y-%m-%d %H:%M UTC").to_string();
        format!("{} to {}", day(span.start), day(span.end))
    };
    let mut evidence = vec![
        Evidence::text("window_before", &dates(usage.before), "prometheus"),
        Evidence::text("window_now", &dates(usage.now), "prometheus"),
        Evidence::number("spend_before", before.spend.usd(), "usd/h", "prometheus"),
        Evidence::number("spend_now", now.spend.usd(), "usd/h", "prometheus"),
    ];
    for (name, value) in split.named() {
        evidence.push(Evidence::number(name, value.usd(), "usd/h", "prometheus"));
    }
    evidence
}

#[allow(clippy::too_many_arguments, reason = "a finding has that many fields")]
fn finding(
    fleet: &Fleet,
    usage: &ClusterUsage,
    part: &'static str,
    title: String,
    subject: Subject,
    workload: Option<crate::fleet::WorkloadId>,
    excess: UsdPerHour,
    evidence: Vec<Evidence>,
    slots: &[SlotId],
) -> Finding {
    let mut judged = Judged::measured("both windows are covered, at today's prices");
    judged.cap_by_price(fleet, slots);
    if usage.unpriced_share > 0.0 {
        judged.cap(
            Confidence::Estimated,
            "some GPUs of these windows have no price in this fleet",
        );
    }
    Finding {
        check: ID,
        part: Some(part),
        kind: FindingKind::Trend,
        rank: ClaimRank::None,
        title,
        subject,
        workload,
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence,
        claims: Vec::new(),
        fix: Fix {
            summary: "Look at the largest part of the split: 'efficiency' is GPUs held per unit of work (scale down what the work left behind), 'capacity' is free GPUs, 'price' is dearer GPUs, 'new' is launched workloads.".into(),
            ..Fix::default()
        },
        ignored: None,
        trend_usd_per_hour: Some(excess),
    }
}

/// Where the change of spend comes from; the parts add up to it, to the micro-dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Split {
    price: UsdPerHour,
    capacity: UsdPerHour,
    efficiency: UsdPerHour,
    mix: UsdPerHour,
    volume: UsdPerHour,
    new: UsdPerHour,
    gone: UsdPerHour,
}

impl Split {
    const fn named(&self) -> [(&'static str, UsdPerHour); 7] {
        [
            ("change_by_price", self.price),
            ("change_by_capacity", self.capacity),
            ("change_by_efficiency", self.efficiency),
            ("change_by_mix", self.mix),
            ("change_by_volume", self.volume),
            ("change_by_new_workloads", self.new),
            ("change_by_gone_workloads", self.gone),
        ]
    }
}

/// A workload's bill and work at two times, for [`lmdi`].
#[derive(Clone, Copy, Debug)]
pub struct Bill {
    pub spend: (UsdPerHour, UsdPerHour),
    pub gpus: (f64, f64),
    /// Of one unit for all; `None`: not known at both times.
    pub work: Option<(f64, f64)>,
}

/// Where the change of a bill comes from, of what is held and what is free; the parts add up to it, to the micro-dollar.
pub fn lmdi(bills: &[Bill], free: (UsdPerHour, UsdPerHour)) -> [(&'static str, UsdPerHour); 7] {
    let party = |b: &Bill| {
        let side = |spend, gpus, work: Option<f64>| Side {
            spend,
            gpus,
            work: work.unwrap_or(0.0),
        };
        Party {
            unit: b.work.map(|_| Unit::Tokens),
            before: side(b.spend.0, b.gpus.0, b.work.map(|w| w.0)),
            now: side(b.spend.1, b.gpus.1, b.work.map(|w| w.1)),
        }
    };
    let parties: Vec<Party> = bills.iter().map(party).collect();
    split(&parties.iter().collect::<Vec<_>>(), Some(free)).named()
}

/// The logarithmic mean: (a − b) ÷ ln(a ÷ b).
fn logarithmic_mean(a: f64, b: f64) -> f64 {
    if (a - b).abs() <= 1e-12 * a.abs().max(b.abs()) {
        a
    } else {
        (a - b) / (a / b).ln()
    }
}

/// LMDI (Ang): each workload's spend is price × GPU-hours per work × share of the work × all work of its unit, and the
/// logarithmic mean of its two spends hands its change out to these factors without a rest.
fn split(parties: &[&Party], free: Option<(UsdPerHour, UsdPerHour)>) -> Split {
    let mut totals: BTreeMap<Unit, (f64, f64)> = BTreeMap::new();
    for party in parties.iter().filter(|p| p.stays()) {
        if let Some(unit) = party.unit {
            let total = totals.entry(unit).or_default();
            total.0 += party.before.work;
            total.1 += party.now.work;
        }
    }
    // price, efficiency, mix, volume, in dollars.
    let mut parts = [0.0_f64; 4];
    let mut split = Split::default();
    let mut change = UsdPerHour::ZERO;
    for party in parties {
        let (a, b) = (party.before, party.now);
        if !party.stays() {
            split.new += if a.spend.is_positive() {
                UsdPerHour::ZERO
            } else {
                b.spend
            };
            split.gone = split.gone
                - if b.spend.is_positive() {
                    UsdPerHour::ZERO
                } else {
                    a.spend
                };
            continue;
        }
        change += b.spend - a.spend;
        let mean = logarithmic_mean(b.spend.usd(), a.spend.usd());
        let price = mean * ((b.spend.usd() / b.gpus) / (a.spend.usd() / a.gpus)).ln();
        parts[0] += price;
        let totals = party.unit.and_then(|u| totals.get(&u)).copied();
        match totals {
            Some((then, now)) if a.work > 0.0 && b.work > 0.0 => {
                parts[1] += mean * ((b.gpus / b.work) / (a.gpus / a.work)).ln();
                parts[2] += mean * ((b.work / now) / (a.work / then)).ln();
                parts[3] += mean * (now / then).ln();
            }
            // Without work on one side all that is not price is GPUs held per work.
            _ => parts[1] += (b.spend - a.spend).usd() - price,
        }
    }
    let mut rounded = parts.map(|p| UsdPerHour::from_usd(p).unwrap_or_default());
    let rest = change - rounded.iter().copied().sum::<UsdPerHour>();
    if let Some(largest) = rounded.iter_mut().max_by_key(|p| p.micros().abs()) {
        *largest += rest;
    }
    [split.price, split.efficiency, split.mix, split.volume] = rounded;
    if let Some((before, now)) = free {
        split.capacity = now - before;
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(usd: f64) -> UsdPerHour {
        UsdPerHour::from_usd(usd).unwrap()
    }

    fn party(spend: (f64, f64), gpus: (f64, f64), work: (f64, f64)) -> Party {
        let side = |spend, gpus, work| Side {
            spend: usd(spend),
            gpus,
            work,
        };
        Party {
            unit: Some(Unit::Tokens),
            before: side(spend.0, gpus.0, work.0),
            now: side(spend.1, gpus.1, work.1),
        }
    }

    #[test]
    fn falling_work_on_steady_gpus_is_efficiency_and_volume() {
        let one = party((55.0, 55.0), (8.0, 8.0), (1000.0, 400.0));
        assert_eq!(excess(one.before, one.now), Some(usd(33.0)));
        let split = split(&[&one], None);
        assert_eq!(split.price, UsdPerHour::ZERO);
        assert_eq!(split.efficiency + split.volume, UsdPerHour::ZERO);
        assert!(split.efficiency.usd() > 50.0, "{split:?}");
    }

    #[test]
    fn growth_in_step_with_work_is_no_excess() {
        let one = party((10.0, 20.0), (2.0, 4.0), (100.0, 200.0));
        assert_eq!(excess(one.before, one.now), Some(UsdPerHour::ZERO));
        assert_eq!(split(&[&one], None).volume, usd(10.0));
    }

    fn amounts() -> impl Strategy<Value = Party> {
        let pair = || (0.0_f64..500.0, 0.0_f64..500.0);
        (pair(), (0.1_f64..64.0, 0.1_f64..64.0), pair()).prop_map(|(s, g, w)| {
            // Some are new, some are gone, some do nothing.
            let cut = |v: f64| if v < 40.0 { 0.0 } else { v };
            party((cut(s.0), cut(s.1)), g, (cut(w.0), cut(w.1)))
        })
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_micro_dollar(parties in proptest::collection::vec(amounts(), 1..12), a in 0i64..90_000_000, b in 0i64..90_000_000) {
            let free = (UsdPerHour::from_micros(a), UsdPerHour::from_micros(b));
            let parties: Vec<&Party> = parties.iter().collect();
            let split = split(&parties, Some(free));
            let total = |of: fn(&Party) -> UsdPerHour| parties.iter().map(|p| of(p)).sum::<UsdPerHour>();
            let change = total(|p| p.now.spend) - total(|p| p.before.spend) + free.1 - free.0;
            prop_assert_eq!(split.named().iter().map(|(_, v)| *v).sum::<UsdPerHour>(), change);
        }
    }
}
