//! The lists of the page: findings with their tools, groups, what is fixed, and everything behind the figures.

use super::super::decision::{self, Decision};
use super::super::document::{Report, ReportFinding, Status};
use super::super::lines;
use super::super::text::{self, money, plain};
use super::super::{order, show};
use maud::{Markup, html};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::io;

/// Findings that stand in the page itself, with their details, for readers without scripts; the others are built when they are shown.
const WRITTEN: usize = 100;
/// Of these the details, too.
const DETAILED: usize = 40;
/// Rows of the tables behind the figures; the JSON report has all.
const BEHIND: usize = 250;

const COLUMNS: [(&str, &str); 6] = [
    ("rank", "#"),
    ("usd", "$/month"),
    ("money", "money"),
    ("sure", "confidence"),
    ("title", "finding and what to do"),
    ("check", "check"),
];

/// Ranked, then hints, then what is suppressed: a finding's number is its rank in every format.
fn listed(report: &Report) -> Vec<&ReportFinding> {
    let mut all = order::all(report);
    let aside = |f: &&ReportFinding| f.status == Status::Suppressed || decision::is_hidden(f);
    all.extend(report.findings.iter().filter(aside));
    all
}

pub(super) fn findings(report: &Report) -> Markup {
    if report.findings.is_empty() {
        return html! {
            h2 #findings { "Findings" }
            @if report.totals.gpus > 0.0 { p { (lines::nothing_found(&report.totals)) } }
        };
    }
    let all = listed(report);
    html! {
        h2 #findings { "Findings" }
        (tools(report))
        table #list {
            caption.skip { "Findings, by dollars per month" }
            thead { tr { @for (key, name) in COLUMNS {
                th.n[key == "usd"] scope="col" data-key=(key) aria-sort=(if key == "rank" { "ascending" } else { "none" }) {
                    button type="button" { (name) }
                }
            } } }
            tbody #rows { @for (i, f) in all.iter().take(WRITTEN).enumerate() { (row(i, f)) } }
        }
        @if all.len() > WRITTEN {
            p.nojs { (all.len() - WRITTEN) " more findings are shown with scripts; they are in the JSON and CSV reports, too." }
        }
        p.js { button #more type="button" hidden { "Show more" } }
    }
}

/// As report.js builds the rows that do not stand in the page.
fn row(index: usize, f: &ReportFinding) -> Markup {
    let saving = text::saving(f);
    let status = text::status_name(f.status);
    let decision = f.decision.as_ref().map(|d| d.state.name()).unwrap_or_default();
    html! {
        tr.f.{ (status) } id={ "f-" (f.id) } {
            td.n { (index + 1) }
            td.n { (f.usd_per_hour.map_or_else(|| "–".to_owned(), text::monthly)) }
            td { span class={ "tag t-" (saving.replace(' ', "-")) } { (saving) } }
            td { span class={ "tag t-" (f.confidence.name()) } { (f.confidence.name()) } }
            td.c-title {
                button.title type="button" aria-expanded="false" { (plain(&f.title)) }
                @if f.status != Status::New { " " span class={ "tag t-" (status) } { (status) } }
                @if let Some(said) = f.decision.as_ref().and_then(Decision::said) { " " span class={ "tag t-" (decision) } { (plain(&said)) } }
                div.where {
                    (plain(&text::subject_place(&f.subject)))
                    @for part in [&f.subject.model, &f.subject.cluster, &f.owner].into_iter().flatten() { " · " (plain(part)) }
                }
                div.fix { (plain(f.fix.action.as_deref().unwrap_or(&f.fix.summary))) }
                @if index < DETAILED { (written(f)) }
            }
            td.c-check { (text::check_name(f)) }
        }
    }
}

/// Details that need no script.
fn written(f: &ReportFinding) -> Markup {
    html! {
        details.nojs {
            summary { "Evidence, dollars, commands" }
            p { (plain(&f.fix.summary)) }
            @for command in &f.fix.commands { pre tabindex="0" { (shell(command)) } }
            ul {
                @for e in &f.evidence { li { (plain(&text::evidence(e))) } }
                @for r in &f.confidence_reasons { li { (f.confidence.name()) ": " (plain(r)) } }
                @for line in show::sums(f) { li { (line) } }
            }
            p { code { (f.id) } }
        }
    }
}

fn shell(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

fn tools(report: &Report) -> Markup {
    let values = |of: fn(&ReportFinding) -> Option<String>| {
        let all: BTreeSet<String> = report.findings.iter().filter_map(of).collect();
        all
    };
    let choices: [(&str, &str, BTreeSet<String>); 8] = [
        ("money", "money", values(|f| Some(text::saving(f).to_owned()))),
        ("sure", "confidence", values(|f| Some(f.confidence.name().to_owned()))),
        ("check", "check", values(|f| Some(text::check_name(f)))),
        (
            "status",
            "status",
            values(|f| Some(text::status_name(f.status).to_owned())),
        ),
        (
            "decision",
            "decision",
            values(|f| f.decision.as_ref().map(|d| d.state.name().to_owned())),
        ),
        (
            "cluster",
            "cluster",
            values(|f| f.subject.cluster.as_deref().map(plain)),
        ),
        (
            "namespace",
            "namespace",
            values(|f| f.subject.namespace.as_deref().map(plain)),
        ),
        ("owner", "owner", values(|f| f.owner.as_deref().map(plain))),
    ];
    html! {
        div.tools.js role="search" {
            input #search type="search" placeholder="Search: model, namespace, node pool, fix …" aria-label="Search the findings";
            @for (key, name, values) in &choices { @if values.len() > 1 {
                select id={ "by-" (key) } aria-label={ "Filter by " (name) } {
                    option value="" { "any " (name) }
                    @for value in values { option value=(value) { (value) } }
                }
            } }
            button #reset type="button" { "Reset" }
            button #csv type="button" { "CSV" }
            small #count role="status" aria-live="polite" {}
        }
    }
}

/// What a row and its details show, in this order; "s" of [`data`] has the texts.
const KEYS: [&str; 25] = [
    "id",
    "usd",
    "waste",
    "money",
    "sure",
    "check",
    "status",
    "title",
    "where",
    "model",
    "cluster",
    "namespace",
    "owner",
    "action",
    "fix",
    "why",
    "placement",
    "patch",
    "reasons",
    "evidence",
    "claims",
    "commands",
    "decision",
    "decided",
    "record",
];

/// Each text once: findings of one kind say much alike.
#[derive(Default)]
struct Texts {
    all: Vec<String>,
    known: HashMap<String, usize>,
}

impl Texts {
    fn number(&mut self, text: String) -> Value {
        let next = self.all.len();
        let at = *self.known.entry(text.clone()).or_insert(next);
        if at == next {
            self.all.push(text);
        }
        json!(at)
    }

    fn some(&mut self, text: Option<String>) -> Value {
        text.filter(|t| !t.is_empty()).map_or(Value::Null, |t| self.number(t))
    }

    fn list(&mut self, texts: impl IntoIterator<Item = String>) -> Value {
        let all: Vec<Value> = texts.into_iter().map(|t| self.number(t)).collect();
        if all.is_empty() { Value::Null } else { Value::Array(all) }
    }
}

/// What the rows and details of all findings show: JSON that cannot end its script element.
pub(super) fn data(report: &Report) -> io::Result<String> {
    let mut texts = Texts::default();
    let found: Vec<Value> = listed(report).into_iter().map(|f| values(f, &mut texts)).collect();
    let json = serde_json::to_string(&json!({ "k": KEYS, "s": texts.all, "f": found }))?;
    Ok(json
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029"))
}

fn values(f: &ReportFinding, t: &mut Texts) -> Value {
    let text = |value: &Option<String>| value.as_deref().map(plain);
    let placement = f.fix.placement.as_ref().map(|p| {
        let usd = p.usd_per_hour.map_or_else(|| "no known price".into(), money);
        let tp = p.tensor_parallel;
        let gpu = plain(&p.gpu);
        format!(
            "{} of {} × {gpu}, tensor parallelism {tp}, {usd} together",
            text::plural(u64::from(p.replicas), "replica"),
            p.gpus
        )
    });
    let s = &f.subject;
    Value::Array(vec![
        json!(f.id),
        json!(f.usd_per_hour),
        json!(f.waste_usd_per_hour),
        t.number(text::saving(f).to_owned()),
        t.number(f.confidence.name().to_owned()),
        t.number(text::check_name(f)),
        t.number(text::status_name(f.status).to_owned()),
        t.number(plain(&f.title)),
        t.number(plain(&text::subject_place(s))),
        t.some(text(&s.model)),
        t.some(text(&s.cluster)),
        t.some(text(&s.namespace)),
        t.some(text(&f.owner)),
        t.some(text(&f.fix.action)),
        t.some(Some(plain(&f.fix.summary))),
        t.some(text(&f.status_reason)),
        t.some(placement),
        t.some(f.fix.patch.as_deref().map(shell)),
        t.list(f.confidence_reasons.iter().map(|r| plain(r))),
        t.list(f.evidence.iter().map(|e| plain(&text::evidence(e)))),
        t.list(show::sums(f)),
        t.list(f.fix.commands.iter().map(|c| shell(c))),
        t.some(f.decision.as_ref().map(|d| d.state.name().to_owned())),
        t.some(f.decision.as_ref().map(|d| plain(&d.justification()))),
        t.some(text(&f.record)),
    ])
}

pub(super) fn groups(report: &Report) -> Markup {
    let Some(groups) = &report.groups else { return html! {} };
    html! {
        h2 { "By " (plain(&groups.by)) }
        // As wide as its columns; on a phone it scrolls by itself, by keys, too.
        div.scroll tabindex="0" role="region" aria-label="By group" { table {
            thead { tr { th { (plain(&groups.by)) } th.n { "GPUs" } th.n { "spend" } th.n { "waste" } th.n { "at risk" } th.n { "$/1M output tokens" } th.n { "the busy share" } th.n { "$/1M input tokens" } } }
            tbody { @for r in &groups.rows { tr {
                td { (plain(&r.name)) } td.n { (text::count(r.gpus)) } td.n { (text::known(r.spend_usd_per_hour)) }
                td.n { (text::known(r.waste_usd_per_hour)) } td.n { (text::known(r.at_risk_usd_per_hour)) }
                td.n { (text::per_million(r.unit_costs.usd_per_million_output_tokens)) }
                td.n { (text::per_million(r.unit_costs.usd_per_million_output_tokens_used)) }
                td.n { (text::per_million(r.unit_costs.usd_per_million_input_tokens)) }
            } } }
            @let t = &report.totals;
            tfoot { tr {
                th { "all" } td.n { (text::count(t.gpus)) } td.n { (text::known(t.spend_usd_per_hour)) }
                td.n { (text::known(t.waste_usd_per_hour)) } td.n { (text::known(t.at_risk_usd_per_hour)) }
                td.n { (text::per_million(t.unit_costs.usd_per_million_output_tokens)) }
                td.n { (text::per_million(t.unit_costs.usd_per_million_output_tokens_used)) }
                td.n { (text::per_million(t.unit_costs.usd_per_million_input_tokens)) }
            } }
        } }
    }
}

pub(super) fn fixed(report: &Report) -> Markup {
    let Some(fixed) = report.fixed.as_ref().filter(|f| !f.is_empty()) else {
        return html! {};
    };
    html! {
        h2 { "Gone since the baseline" }
        ul { @for line in lines::gone(fixed) { li { (line) } } }
        table {
            thead { tr { th.n { "$/h" } th { "check" } th { "finding" } th { "" } } }
            tbody { @for f in fixed { tr {
                td.n { (f.usd_per_hour.map_or_else(|| "–".to_owned(), text::amount)) } td { (plain(&f.check)) } td { (plain(&f.title)) }
                td { (text::became(f)) }
            } } }
        }
    }
}

/// Coverage, workloads, nodes, sources and gaps, folded.
pub(super) fn rest(report: &Report) -> Markup {
    let gaps = lines::same_gaps(report);
    html! {
        h2 { "Behind the figures" }
        details { summary { "What each check could judge" } div.scroll { table {
            thead { tr { th { "check" } th.n { "GPUs judged" } th { "not judged" } } }
            tbody { @for c in &report.checks { tr { td { (c.id) } td.n { (text::count(c.assessed_gpus)) }
                td { @for gap in &c.not_assessed { div { (text::extent(gap.gpus, gap.usd_per_hour)) ": " (plain(&gap.reason)) " → " (plain(&gap.remedy)) } } } } } }
        } } }
        details { summary { (text::plural(report.workloads.len() as u64, "workload")) } div.scroll { (workloads(report)) } (more(report.workloads.len())) }
        details { summary { (text::plural(report.nodes.len() as u64, "node")) } div.scroll { (nodes(report)) } (more(report.nodes.len())) }
        details { summary { (text::plural(report.sources.len() as u64, "source")) ", " (text::plural(gaps.len() as u64, "gap")) }
            ul { @for s in &report.sources { li { (plain(&s.name)) ": " (plain(&s.detail)) } } }
            ul { @for g in &gaps { li { (plain(&g.sources)) ": " (plain(g.what)) " (" (plain(g.reason)) "); " (plain(g.effect)) " → " (plain(g.remedy)) } } }
        }
    }
}

/// Of a table that is too long for a page.
fn more(rows: usize) -> Markup {
    html! { @if rows > BEHIND { p { (rows - BEHIND) " more: 'gpuwaste ls', and the JSON report, have all." } } }
}

fn workloads(report: &Report) -> Markup {
    let p95 = |f: &Option<crate::snapshot::figure::Figure>| {
        let value = f.as_ref().and_then(|f| f.p95.or(f.max).or(f.p50));
        value.map_or_else(|| "–".to_owned(), |v| format!("{v:.2}"))
    };
    html! { table {
        thead { tr { th { "workload" } th { "model" } th { "engine" } th { "GPU" } th.n { "replicas" } th.n { "GPUs each" } th.n { "$/h" } th { "state" } th.n { "requests/s" } th.n { "KV use" } th.n { "$/1M output tokens" } th.n { "the busy share" } } }
        tbody { @for w in report.workloads.iter().take(BEHIND) { tr {
            td { (plain(&format!("{} {}/{}", w.kind, w.namespace, w.name))) } td { (w.model.as_deref().map(plain).unwrap_or_default()) }
            td { (w.engine.as_deref().map(plain).unwrap_or_default()) " " (w.engine_version.as_deref().map(plain).unwrap_or_default()) }
            td { (w.gpu.as_deref().map(plain).unwrap_or_default()) }
            td.n { (w.replicas.map_or_else(|| "–".to_owned(), |n| n.to_string())) } td.n { (w.gpus_per_replica.map_or_else(|| "–".to_owned(), |n| n.to_string())) }
            td.n { (w.usd_per_hour.map_or_else(|| "–".to_owned(), text::amount)) } td { (w.state) }
            td.n { (p95(&w.observed.requests_per_second)) } td.n { (p95(&w.observed.kv_usage)) }
            td.n { (text::per_million(w.unit_costs.usd_per_million_output_tokens)) }
            td.n { (text::per_million(w.unit_costs.usd_per_million_output_tokens_used)) }
        } } }
    } }
}

fn nodes(report: &Report) -> Markup {
    html! { table {
        thead { tr { th { "node" } th { "pool" } th { "type" } th { "region" } th { "capacity" } th { "GPU" } th.n { "GPUs" } th.n { "$/h" } th { "price from" } th { "states" } } }
        tbody { @for n in report.nodes.iter().take(BEHIND) { tr {
            td { (plain(&n.name)) } td { (n.pool.as_deref().map(plain).unwrap_or_default()) } td { (n.instance_type.as_deref().map(plain).unwrap_or_default()) }
            td { (n.region.as_deref().map(plain).unwrap_or_default()) } td { (n.capacity_type.as_deref().unwrap_or("unknown")) } td { (n.gpu.as_deref().map(plain).unwrap_or_default()) }
            td.n { (n.gpus) } td.n { (n.price.usd_per_hour.map_or_else(|| "–".to_owned(), text::amount)) } td { (n.price.source) }
            td { (n.states.iter().filter(|(_, g)| **g > 0.0).map(|(s, g)| format!("{} {s}", text::count(*g))).collect::<Vec<_>>().join(", ")) }
        } } }
    } }
}
