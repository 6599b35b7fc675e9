//! The lists of the page: findings with their tools, groups, what is fixed, and everything behind the figures.

use super::super::decision::Decision;
use super::super::document::{Report, ReportFinding, Status};
use super::super::text::{self, money, plain};
use maud::{Markup, html};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io;

/// Claims listed in a finding's details; the JSON report has all.
const CLAIMS: usize = 64;

const COLUMNS: [(&str, &str); 6] = [
    ("rank", "#"),
    ("usd", "$/h"),
    ("money", "money"),
    ("sure", "sure"),
    ("title", "finding and fix"),
    ("check", "check"),
];

pub(super) fn findings(report: &Report) -> Markup {
    if report.findings.is_empty() {
        return html! {
            h2 #findings { "Findings" }
            @if report.totals.gpus > 0.0 { p { (text::nothing_found(&report.totals)) } }
        };
    }
    html! {
        h2 #findings { "Findings" }
        (tools(report))
        table #list {
            caption.skip { "Findings, by dollars per hour" }
            thead { tr { @for (key, name) in COLUMNS {
                th.n[key == "usd"] scope="col" data-key=(key) aria-sort=(if key == "rank" { "ascending" } else { "none" }) {
                    button type="button" { (name) }
                }
            } } }
            tbody #rows { @for (i, f) in report.findings.iter().enumerate() { (row(i, f)) } }
        }
        p.js { button #more type="button" hidden { "Show more" } }
    }
}

fn row(index: usize, f: &ReportFinding) -> Markup {
    let ledger = text::ledger_name(f);
    let status = text::status_name(f.status);
    let decision = f.decision.as_ref().map(|d| d.state.name()).unwrap_or_default();
    let number = |usd: Option<crate::units::UsdPerHour>| usd.map(|u| u.usd().to_string()).unwrap_or_default();
    let title = plain(&f.title);
    html! {
        tr.f.{ (status) } id={ "f-" (f.id) } data-rank=(index + 1) data-usd=(number(f.usd_per_hour)) data-waste=(number(f.waste_usd_per_hour))
            data-money=(ledger) data-sure=(f.confidence.name()) data-title=(title) data-check=(text::check_name(f)) data-status=(status) data-decision=(decision)
            data-cluster=(f.subject.cluster.as_deref().map(plain).unwrap_or_default())
            data-namespace=(f.subject.namespace.as_deref().map(plain).unwrap_or_default()) {
            td.n { (index + 1) }
            td.n { (f.usd_per_hour.map_or_else(|| "–".to_owned(), text::amount)) }
            td { span class={ "tag t-" (ledger.replace(' ', "-")) } { (ledger) } }
            td { span class={ "tag t-" (f.confidence.name()) } { (f.confidence.name()) } }
            td.c-title {
                button.title type="button" aria-expanded="false" { (title) }
                @if f.status != Status::New { " " span class={ "tag t-" (status) } { (status) } }
                @if let Some(said) = f.decision.as_ref().and_then(Decision::said) { " " span class={ "tag t-" (decision) } { (plain(&said)) } }
                div.where {
                    (plain(&text::subject_place(&f.subject)))
                    @if let Some(model) = &f.subject.model { " · " (plain(model)) }
                    @if let Some(cluster) = &f.subject.cluster { " · " (plain(cluster)) }
                    @if let Some(owner) = &f.owner { " · " (plain(owner)) }
                }
                div.fix { (plain(&f.fix.summary)) }
                @if let Some(why) = &f.status_reason { small { (plain(why)) } }
            }
            td.c-check { (text::check_name(f)) }
        }
    }
}

fn tools(report: &Report) -> Markup {
    let values = |of: fn(&ReportFinding) -> Option<String>| {
        let all: BTreeSet<String> = report.findings.iter().filter_map(of).collect();
        all
    };
    let choices: [(&str, &str, BTreeSet<String>); 7] = [
        ("money", "money", values(|f| Some(text::ledger_name(f).to_owned()))),
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
            small #count role="status" aria-live="polite" {}
        }
    }
}

/// What the details of a finding show, by id: JSON that cannot end its script element.
pub(super) fn data(report: &Report) -> io::Result<String> {
    let all: serde_json::Map<String, Value> = report.findings.iter().map(|f| (f.id.clone(), details(f))).collect();
    let json = serde_json::to_string(&all)?;
    Ok(json
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029"))
}

fn details(f: &ReportFinding) -> Value {
    let mut claims: Vec<String> = f
        .claims
        .iter()
        .take(CLAIMS)
        .map(|c| {
            let usd = c.usd_per_hour.map_or_else(|| "no known price".into(), money);
            let leaves = if c.vacates { ", becomes free" } else { "" };
            plain(&format!("{} {}: {usd}{leaves}", c.node, c.gpu))
        })
        .collect();
    if f.claims.len() > CLAIMS {
        claims.push(format!("… and {} more: see the JSON report", f.claims.len() - CLAIMS));
    }
    let placement = f.fix.placement.as_ref().map(|p| {
        let usd = p.usd_per_hour.map_or_else(|| "no known price".into(), money);
        let tp = p.tensor_parallel;
        format!(
            "{} × {} {} a replica, tensor parallel {tp}, {usd} together",
            p.replicas,
            p.gpus,
            plain(&p.gpu)
        )
    });
    json!({
        "check": f.check,
        "confidence": f.confidence,
        "reasons": f.confidence_reasons.iter().map(|r| plain(r)).collect::<Vec<_>>(),
        "evidence": f.evidence.iter().map(|e| plain(&text::evidence(e))).collect::<Vec<_>>(),
        "claims": claims,
        "placement": placement,
        "patch": f.fix.patch.as_ref().map(|p| p.lines().map(plain).collect::<Vec<_>>().join("\n")),
        "owner": f.owner.as_deref().map(plain),
        "status": f.status_reason.as_deref().map(plain),
        "decision": f.decision.as_ref().map(Decision::justification).filter(|d| !d.is_empty()),
        "record": f.record.as_deref().map(plain),
    })
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
        } }
    }
}

pub(super) fn fixed(report: &Report) -> Markup {
    let Some(fixed) = report.fixed.as_ref().filter(|f| !f.is_empty()) else {
        return html! {};
    };
    html! {
        h2 { "Gone since the baseline" }
        ul { @for line in text::gone(fixed) { li { (line) } } }
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
    html! {
        h2 { "Behind the figures" }
        details { summary { "What each check could judge" } div.scroll { table {
            thead { tr { th { "check" } th.n { "GPUs judged" } th { "not judged" } } }
            tbody { @for c in &report.checks { tr { td { (c.id) } td.n { (text::count(c.assessed_gpus)) }
                td { @for gap in &c.not_assessed { div { (text::extent(gap.gpus, gap.usd_per_hour)) ": " (plain(&gap.reason)) " → " (plain(&gap.remedy)) } } } } } }
        } } }
        details { summary { (text::plural(report.workloads.len() as u64, "workload")) } div.scroll { (workloads(report)) } }
        details { summary { (text::plural(report.nodes.len() as u64, "node")) } div.scroll { (nodes(report)) } }
        details { summary { (text::plural(report.sources.len() as u64, "source")) ", " (text::plural(report.gaps.len() as u64, "gap")) }
            ul { @for s in &report.sources { li { (plain(&s.name)) ": " (plain(&s.detail)) } } }
            ul { @for g in &report.gaps { li { (plain(&g.source)) ": " (plain(&g.what)) " (" (plain(&g.reason)) "); " (plain(&g.effect)) " → " (plain(&g.remedy)) } } }
        }
    }
}

fn workloads(report: &Report) -> Markup {
    let p95 = |f: &Option<crate::snapshot::figure::Figure>| {
        let value = f.as_ref().and_then(|f| f.p95.or(f.max).or(f.p50));
        value.map_or_else(|| "–".to_owned(), |v| format!("{v:.2}"))
    };
    html! { table {
        thead { tr { th { "workload" } th { "model" } th { "engine" } th { "GPU" } th.n { "replicas" } th.n { "GPUs each" } th.n { "$/h" } th { "state" } th.n { "requests/s" } th.n { "KV use" } th.n { "$/1M output tokens" } th.n { "the busy share" } } }
        tbody { @for w in &report.workloads { tr {
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
        tbody { @for n in &report.nodes { tr {
            td { (plain(&n.name)) } td { (n.pool.as_deref().map(plain).unwrap_or_default()) } td { (n.instance_type.as_deref().map(plain).unwrap_or_default()) }
            td { (n.region.as_deref().map(plain).unwrap_or_default()) } td { (n.capacity_type.as_deref().unwrap_or("unknown")) } td { (n.gpu.as_deref().map(plain).unwrap_or_default()) }
            td.n { (n.gpus) } td.n { (n.price.usd_per_hour.map_or_else(|| "–".to_owned(), text::amount)) } td { (n.price.source) }
            td { (n.states.iter().filter(|(_, g)| **g > 0.0).map(|(s, g)| format!("{} {s}", text::count(*g))).collect::<Vec<_>>().join(", ")) }
        } } }
    } }
}
