//! The plots: tables with bars in them, so that every figure is also text, to a reader and to a screen reader.

use super::super::document::{Hourly, Report, ReportFinding, ReportNode, ReportWorkload, Status, Totals};
use super::super::lines;
use super::super::text::{self, money, plain};
use super::anchor;
use crate::analyze::finding::FindingKind;
use crate::analyze::idle_schedule::quiet;
use crate::units::UsdPerHour;
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

/// Rows of a plot; the rest is one row.
const ROWS: usize = 16;
/// GPUs that no workload of the report holds.
const NOBODY: &str = "(unallocated)";
/// KV use that counts as full (the check's own threshold).
const FULL: f64 = 0.95;

pub(super) fn all(report: &Report) -> Markup {
    html! {
        h2 { "Where the money goes" }
        div.grid {
            (by_model(report))
            (by_check(report))
            (ranking(report))
            (capacity(report))
            (map(report))
        }
        (history(report))
    }
}

/// Segments (class, value) on a scale up to `max`; the rest of the width stays empty.
fn bar(segments: &[(&str, f64)], max: f64) -> Markup {
    let mut at = 0.0;
    let placed: Vec<(&str, f64, f64)> = segments
        .iter()
        .filter(|(_, value)| *value > 0.0 && max > 0.0)
        .map(|(class, value)| {
            let start = at;
            at += value / max * 100.0;
            (*class, start, value / max * 100.0)
        })
        .collect();
    html! {
        svg.bar aria-hidden="true" {
            @for (class, x, width) in placed {
                rect class=(class) x={ (format!("{x:.3}")) "%" } width={ (format!("{width:.3}")) "%" } height="100%" {}
            }
        }
    }
}

fn legend(items: &[(&str, &str)]) -> Markup {
    html! {
        ul.legend { @for (class, name) in items { li { i class=(class) {} (name) } } }
    }
}

/// The colour of a GPU's state.
fn class(state: &str) -> &'static str {
    match state {
        "free" => "s-reusable",
        "unhealthy" => "s-sick",
        "idle" => "s-now",
        "stuck" => "s-stuck",
        "working" => "s-load",
        _ => "s-rest",
    }
}

/// Nodes of the map; more are no picture any more.
const MAPPED: usize = 400;

/// Each node as wide as it has GPUs, coloured by what they do.
fn map(report: &Report) -> Markup {
    let order = lines::states(&report.totals).map(|(state, _)| state);
    let mut clusters: BTreeMap<&str, Vec<&ReportNode>> = BTreeMap::new();
    for node in report.nodes.iter().take(MAPPED) {
        clusters
            .entry(node.cluster.as_deref().unwrap_or_default())
            .or_default()
            .push(node);
    }
    html! {
        figure.card {
            h3 { "Nodes and what their GPUs do" }
            (legend(&order.map(|state| (class(state), state))))
            @for (cluster, nodes) in &clusters {
                p { (plain(cluster)) }
                div.nodes { @for node in nodes {
                    @let told: Vec<String> = order.iter().filter_map(|s| node.states.get(*s).filter(|n| **n > 0.0).map(|n| format!("{} {s}", text::count(*n)))).collect();
                    @let label = plain(&format!("{}: {}", node.name, told.join(", ")));
                    svg role="img" aria-label=(label) width=(node.gpus.max(1) * 9) height="12" {
                        title { (label) }
                        @let all: f64 = node.states.values().sum();
                        @let mut at = 0.0;
                        @for state in order { @if let Some(n) = node.states.get(state).filter(|n| **n > 0.0 && all > 0.0) {
                            rect class=(class(state)) x={ (format!("{:.2}", at / all * 100.0)) "%" } width={ (format!("{:.2}", n / all * 100.0)) "%" } height="100%" {}
                            ({ at += n; "" })
                        } }
                    }
                } }
            }
            @if report.nodes.len() > MAPPED { p { (report.nodes.len() - MAPPED) " more nodes are in the table below." } }
        }
    }
}

pub(super) fn states(t: &Totals) -> Markup {
    let states: Vec<(&str, f64)> = lines::states(t).into_iter().filter(|(_, n)| *n > 0.0).collect();
    let segments: Vec<(&str, f64)> = states.iter().map(|(state, n)| (class(state), *n)).collect();
    html! {
        (bar(&segments, t.gpus))
        ul.legend { @for (state, n) in &states { li { i class=(class(state)) {} (text::count(*n)) " " (state) } } }
    }
}

#[derive(Default)]
struct Money {
    spend: UsdPerHour,
    /// Any of it has a price, or could be judged: nothing found is 0 there.
    known: bool,
    now: UsdPerHour,
    reusable: UsdPerHour,
    at_risk: UsdPerHour,
}

impl Money {
    fn add(&mut self, f: &ReportFinding) {
        let now = f.waste_now_usd_per_hour.unwrap_or_default();
        self.known |= f.waste_usd_per_hour.or(f.at_risk_usd_per_hour).is_some();
        self.now += now;
        self.reusable += f.waste_usd_per_hour.unwrap_or_default() - now;
        self.at_risk += f.at_risk_usd_per_hour.unwrap_or_default();
    }

    fn merge(&mut self, other: &Self) {
        self.spend += other.spend;
        self.known |= other.known;
        self.now += other.now;
        self.reusable += other.reusable;
        self.at_risk += other.at_risk;
    }

    fn bad(&self) -> UsdPerHour {
        self.now + self.reusable + self.at_risk
    }

    fn segments(&self) -> [(&'static str, f64); 4] {
        let rest = self.spend - self.bad();
        [
            ("s-now", self.now.usd()),
            ("s-reusable", self.reusable.usd()),
            ("s-risk", self.at_risk.usd()),
            ("s-rest", rest.usd()),
        ]
    }
}

const MONEY: [(&str, &str); 4] = [
    ("s-now", "waste, now"),
    ("s-reusable", "waste, reusable"),
    ("s-risk", "at risk"),
    ("s-rest", "rest of the spend"),
];

fn counted(report: &Report) -> impl Iterator<Item = &ReportFinding> {
    report.findings.iter().filter(|f| f.status != Status::Suppressed)
}

/// Who a workload is in this plot: its model, else its name.
fn model(w: &ReportWorkload) -> String {
    w.model.clone().unwrap_or_else(|| format!("{}/{}", w.namespace, w.name))
}

fn by_model(report: &Report) -> Markup {
    let unknown = || "unknown GPU".to_owned();
    // Nothing runs of what is written, and it is judged.
    let planned = lines::of_manifests(report) && report.totals.waste_usd_per_hour.is_some();
    let some = |n: &&ReportNode| n.states.iter().any(|(state, gpus)| state != "unknown" && *gpus > 0.0);
    let judged: BTreeSet<&str> = report
        .nodes
        .iter()
        .filter(some)
        .filter_map(|n| n.gpu.as_deref())
        .collect();
    let mut rows: BTreeMap<(String, String), Money> = BTreeMap::new();
    let mut left: BTreeMap<String, UsdPerHour> = BTreeMap::new();
    for node in &report.nodes {
        let price = node.price.usd_per_hour.unwrap_or_default();
        *left.entry(node.gpu.clone().unwrap_or_else(unknown)).or_default() += price;
    }
    let mut names: BTreeMap<(String, String), String> = BTreeMap::new();
    for w in &report.workloads {
        let gpu = w.gpu.clone().unwrap_or_else(unknown);
        names.insert((w.namespace.clone(), w.name.clone()), model(w));
        let spend = w.usd_per_hour.unwrap_or_default();
        if let Some(rest) = left.get_mut(&gpu) {
            *rest = *rest - spend;
        }
        let row = rows.entry((model(w), gpu)).or_default();
        row.spend += spend;
        row.known |= w.waste_usd_per_hour.is_some() || planned;
    }
    for (gpu, rest) in left {
        let row = rows.entry((NOBODY.to_owned(), gpu.clone())).or_default();
        row.spend += rest;
        row.known |= planned || judged.contains(gpu.as_str());
    }
    for f in counted(report) {
        let s = &f.subject;
        let workload = s.namespace.clone().zip(s.name.clone()).and_then(|key| names.get(&key));
        let who = workload.cloned().unwrap_or_else(|| NOBODY.to_owned());
        rows.entry((who, s.gpu.clone().unwrap_or_else(unknown)))
            .or_default()
            .add(f);
    }
    let mut rows: Vec<((String, String), Money)> = rows
        .into_iter()
        .filter(|(_, m)| m.spend.is_positive() || m.bad().is_positive())
        .collect();
    rows.sort_by(|a, b| b.1.spend.cmp(&a.1.spend).then_with(|| a.0.cmp(&b.0)));
    if rows.len() > ROWS {
        let mut rest = Money::default();
        let others = rows.split_off(ROWS - 1);
        for (_, m) in &others {
            rest.merge(m);
        }
        rows.push(((format!("{} others", others.len()), "all tiers".to_owned()), rest));
    }
    let max = rows
        .iter()
        .map(|r| r.1.spend.usd().max(r.1.bad().usd()))
        .fold(0.0, f64::max);
    html! {
        figure.card {
            h3 { "Spend and waste by model and GPU tier" }
            (legend(&MONEY))
            table.bars {
                thead { tr { th.l { "model · tier" } th { span.muted { "$ per hour" } } th.n { "waste of spend" } } }
                tbody { @for ((model, gpu), m) in &rows {
                    tr { td.l { (plain(model)) " " small { (plain(gpu)) } } td { (bar(&m.segments(), max)) }
                        td.n { (text::known_amount(m.known.then(|| m.now + m.reusable))) " of " (text::amount(m.spend)) } }
                } }
            }
        }
    }
}

fn by_check(report: &Report) -> Markup {
    let mut rows: BTreeMap<String, (Money, u64)> = BTreeMap::new();
    for f in counted(report) {
        let row = rows.entry(text::check_name(f)).or_default();
        row.0.add(f);
        row.1 += 1;
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by(|a, b| b.1.0.bad().cmp(&a.1.0.bad()).then_with(|| a.0.cmp(&b.0)));
    let max = rows.iter().map(|r| r.1.0.bad().usd()).fold(0.0, f64::max);
    html! {
        figure.card {
            h3 { "Waste by check" }
            (legend(&MONEY[..3]))
            table.bars {
                thead { tr { th.l { "check" } th { span.muted { "$ per hour" } } th.n { "findings · $/h" } } }
                tbody { @for (check, (m, n)) in &rows {
                    tr { td.l { (check) } td { (bar(&m.segments()[..3], max)) } td.n { (n) " · " (text::known_amount(m.known.then(|| m.bad()))) } }
                } }
            }
        }
    }
}

fn ranking(report: &Report) -> Markup {
    let rows: Vec<&ReportFinding> = counted(report)
        .filter(|f| f.kind == FindingKind::Recoverable && f.waste_usd_per_hour.is_some_and(UsdPerHour::is_positive))
        .take(ROWS)
        .collect();
    let max = rows
        .first()
        .and_then(|f| f.waste_usd_per_hour)
        .unwrap_or_default()
        .usd();
    let total = report.totals.waste_usd_per_hour.unwrap_or_default().usd();
    let mut sum = 0.0;
    let rows: Vec<(&ReportFinding, f64)> = rows
        .into_iter()
        .map(|f| {
            sum += f.waste_usd_per_hour.unwrap_or_default().usd();
            (f, if total > 0.0 { sum / total * 100.0 } else { 0.0 })
        })
        .collect();
    html! {
        figure.card {
            h3 { "The ranking: what to mend first" }
            (legend(&MONEY[..2]))
            table.bars {
                thead { tr { th.l { "finding" } th { span.muted { "$ per hour" } } th.n { "$/h · so far" } } }
                tbody { @for (f, share) in &rows {
                    @let mut m = Money::default();
                    ({ m.add(f); "" })
                    tr { td.l { a href=(anchor(f)) { (plain(&text::subject_short(&f.subject))) } " " small { (text::check_name(f)) } } td { (bar(&m.segments()[..2], max)) }
                        td.n { (text::amount(f.waste_usd_per_hour.unwrap_or_default())) " · " (format!("{share:.0} %")) } }
                } }
            }
        }
    }
}

fn capacity(report: &Report) -> Markup {
    let mut rows: Vec<&ReportWorkload> = report
        .workloads
        .iter()
        .filter(|w| w.observed.kv_usage.is_some() || w.observed.running.is_some())
        .collect();
    rows.sort_by(|a, b| {
        let kv = |w: &ReportWorkload| w.observed.kv_usage.as_ref().and_then(|k| k.max).unwrap_or(-1.0);
        kv(b).total_cmp(&kv(a)).then_with(|| a.name.cmp(&b.name))
    });
    let hidden = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    if rows.is_empty() {
        return html! {};
    }
    html! {
        figure.card {
            h3 { "KV cache and load against capacity" }
            (legend(&[("s-load", "peak use"), ("s-now", "full"), ("s-rest", "free")]))
            table.bars {
                thead { tr { th.l { "server" } th { "KV cache" } th { "load" } th.n { "KV · sequences" } } }
                tbody { @for w in &rows {
                    @let kv = w.observed.kv_usage.as_ref().and_then(|k| k.max);
                    @let running = w.observed.running.as_ref().and_then(|k| k.max);
                    @let slots = w.max_num_seqs.map(|n| n as f64 * w.replicas.unwrap_or(1).max(1) as f64);
                    @let load = running.zip(slots).filter(|(_, s)| *s > 0.0).map(|(r, s)| r / s);
                    tr { td.l { (plain(&w.name)) " " small { (plain(w.gpu.as_deref().unwrap_or_default())) } }
                        td { (level(kv)) } td { (level(load)) }
                        td.n { (share(kv)) " · " @match (running, slots) {
                            (Some(r), Some(s)) => { (format!("{r:.0} of {s:.0}")) }
                            (Some(r), None) => { (format!("{r:.0}")) }
                            _ => { "–" }
                        } }
                    }
                } }
            }
            @if hidden > 0 { small { (hidden) " more are in the workloads below." } }
        }
    }
}

fn share(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |v| format!("{:.0} %", v * 100.0))
}

/// A share of 1; nothing at all where it is not known.
fn level(value: Option<f64>) -> Markup {
    let Some(value) = value else { return html! {} };
    let value = value.clamp(0.0, 1.0);
    let class = if value >= FULL { "s-now" } else { "s-load" };
    bar(&[(class, value), ("s-rest", 1.0 - value)], 1.0)
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Hour-of-week profiles and the trend over days of the workloads with history, the dearest first.
fn history(report: &Report) -> Markup {
    let mut rows: Vec<&ReportWorkload> = report.workloads.iter().filter(|w| w.hourly.is_some()).collect();
    rows.sort_by(|a, b| b.usd_per_hour.cmp(&a.usd_per_hour).then_with(|| a.name.cmp(&b.name)));
    rows.truncate(12);
    if rows.is_empty() {
        return html! {};
    }
    html! {
        h2 { "When the work comes (UTC)" }
        div.grid { @for w in rows { @if let Some(hourly) = &w.hourly {
            figure.card {
                h3 { (plain(&w.name)) " " small { (plain(w.gpu.as_deref().unwrap_or_default())) @if let Some(usd) = w.usd_per_hour { " · " (money(usd)) } } }
                (week(hourly))
                (trend(&hourly.days()))
            }
        } } }
    }
}

/// 7 × 24 cells of the mean work in each hour of the week; an outline is an hour without any, an empty place one without data.
fn week(hourly: &Hourly) -> Markup {
    let cells = hourly.cells();
    let max = cells.iter().flatten().copied().fold(0.0, f64::max);
    // As the check counts them.
    let quiet = quiet(&hourly.values).into_iter().filter(|q| *q).count();
    let label = format!("{quiet} of 168 hours of the week have no request");
    html! {
        svg role="img" aria-label=(label) viewBox="0 0 270 78" width="100%" {
            @for (day, name) in DAYS.iter().enumerate() {
                text.s-tick x="0" y=(day * 10 + 8) font-size="7" { (name) }
                @for hour in 0..24 {
                    @if let Some(value) = cells[day * 24 + hour] {
                        @if value == 0.0 { rect.s-none x=(hour * 10 + 24) y=(day * 10 + 1) width="8" height="8" {} }
                        @else { rect.s-load x=(hour * 10 + 24) y=(day * 10 + 1) width="9" height="9" opacity=(format!("{:.2}", 0.15 + 0.85 * value / max)) {} }
                    }
                }
            }
            @for hour in (0..24).step_by(6) { text.s-tick x=(hour * 10 + 24) y="77" font-size="6" { (hour) ":00" } }
        }
        small { (label) }
    }
}

/// A bar a day.
fn trend(days: &[Option<f64>]) -> Markup {
    if days.len() < 2 {
        return html! {};
    }
    let max = days.iter().flatten().copied().fold(0.0, f64::max);
    let width = 100.0 / days.len() as f64;
    html! {
        svg role="img" aria-label={ "work a day over " (days.len()) " days" } width="100%" height="36" {
            @for (i, value) in days.iter().enumerate() { @if let Some(value) = value { @if max > 0.0 {
                rect.s-load x={ (format!("{:.2}", i as f64 * width)) "%" } y={ (format!("{:.2}", 100.0 - value / max * 100.0)) "%" }
                    width={ (format!("{:.2}", width * 0.8)) "%" } height={ (format!("{:.2}", value / max * 100.0)) "%" } {}
            } } }
        }
        small { "work a day, oldest first" }
    }
}
