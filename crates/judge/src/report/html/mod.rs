//! `--format html`: one self-contained file. It works offline and without scripts; nothing comes from the network and
//! nothing in it can be executed but its own script (CSP by hash, text escaped by maud).

mod charts;
mod lists;

use super::document::{GateResult, Report, ReportFinding, SuppressionState};
use super::lines;
use super::text::{self, money, plain};
use crate::snapshot::SourceKind;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{self, Write};

const CSS: &str = include_str!("report.css");
const JS: &str = include_str!("report.js");

fn hash(text: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text.as_bytes())))
}

pub(super) fn render(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let csp = format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        hash(JS),
        hash(CSS)
    );
    let t = &report.totals;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(csp);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="generator" content={ "gpuwaste " (report.tool.version) };
                title { "GPU waste: " (text::known(t.waste_usd_per_hour)) " of " (text::known(t.spend_usd_per_hour)) }
                link rel="icon" href="data:,";
                style { (PreEscaped(CSS)) }
            }
            body {
                a.skip href="#findings" { "Skip to the findings" }
                (head(report))
                main {
                    (top(report))
                    (gates(report))
                    (lists::findings(report))
                    @if t.gpus > 0.0 { (charts::all(report)) }
                    (notes(report))
                    (lists::groups(report))
                    (lists::fixed(report))
                    (lists::rest(report))
                }
                footer {
                    p {
                        "gpuwaste " (report.tool.version) ". Prices: " (text::price_sources(report)) ". "
                        code { "gpuwaste explain CHECK" } " says how the dollars are computed."
                    }
                }
                script id="data" type="application/json" { (PreEscaped(lists::data(report)?)) }
                script { (PreEscaped(JS)) }
            }
        }
    };
    out.write_all(page.into_string().as_bytes())?;
    writeln!(out)
}

fn head(report: &Report) -> Markup {
    let clusters: BTreeSet<_> = report.nodes.iter().filter_map(|n| n.cluster.as_deref()).collect();
    let t = &report.totals;
    html! {
        header {
            h1 { "GPU waste" }
            p {
                (text::plural(clusters.len() as u64, "cluster")) " · " (text::plural(t.nodes, "GPU node")) " · "
                (text::count(t.gpus)) " GPUs · " (text::plural(t.workloads, "workload")) " · read "
                (report.taken_at.strftime("%Y-%m-%d %H:%M UTC"))
                @if let Some(seconds) = report.window_seconds { " · history of " (format!("{:.1}", seconds as f64 / 86_400.0)) " days" }
            }
            button #theme .js type="button" { "Theme: auto" }
        }
    }
}

/// What to do and what it gives, beside what is paid: the first screen has the first finding, too.
fn top(report: &Report) -> Markup {
    let t = &report.totals;
    if t.gpus == 0.0 {
        let manifests = report.sources.iter().all(|s| s.kind == SourceKind::Manifest);
        return html! {
            div.note.bad {
                p { b { (lines::no_gpus(t)) } }
                @for s in &report.sources { p { (plain(&s.name)) ": " (plain(&s.detail)) } }
                @if !manifests {
                    p { "Choose another context with " code { "--context" } ", or all of them with " code { "--all-contexts" } "." }
                }
            }
        };
    }
    html! {
        p.headline { (lines::headline(report)) }
        p.spend {
            (lines::spend_line(report)) " "
            (text::known(t.spend_usd_per_hour)) "; " (text::known(t.waste_now_usd_per_hour)) " stops, "
            (text::known(t.waste_reusable_usd_per_hour)) " can be reused. Coverage: " (text::percent(t.coverage_percent)) " of the cost judged."
            @if t.gpus_allocated > 0.0 && !lines::of_manifests(report) {
                " " (text::percent(t.allocated_without_traffic_percent)) " " (text::of_allocated(t)) "."
            }
            @if let Some((cost, of)) = text::token_costs(t) { " Tokens: " (cost) " " (of) "." }
        }
        @for (name, money, what) in super::decision::lines(report) { p.decided { b { (name) } " " (money) " " small { (what) } } }
        (charts::states(t))
    }
}

/// The verdict of a job stands above everything that explains it.
fn gates(report: &Report) -> Markup {
    html! {
        @for gate in &report.gates {
            @let passed = gate.result() == GateResult::Passed;
            div.note.bad[!passed].good[passed] {
                p { b { (gate.result().name()) } ": gate " code { "--" (gate.name) } ", " (text::gate_figures(gate))
                    @if let Some(usd) = gate.left_out_usd_per_hour.filter(|u| u.is_positive()) { ", " (money(usd)) " left out as less sure" } }
            }
        }
    }
}

fn notes(report: &Report) -> Markup {
    let missing = lines::unassessed(report);
    let stale: Vec<_> = report
        .policy
        .suppressions
        .iter()
        .filter(|s| matches!(s.state, SuppressionState::Unused | SuppressionState::Expired))
        .collect();
    html! {
        @if !missing.reasons.is_empty() {
            div.note {
                p { b { "Not assessed" } }
                @for (check, reason, gpus, usd) in missing.reasons.iter().take(3) {
                    p { (check) ": " (text::extent(*gpus, *usd)) ": " (plain(reason)) }
                }
                @if let Some((remedy, gpus, usd)) = missing.remedy {
                    p { "→ " (plain(remedy)) " " small { "(would assess most: " (text::extent(gpus, usd)) ")" } }
                }
            }
        }
        @if !stale.is_empty() {
            div.note {
                p { b { "Suppressions to clean up" } }
                @for s in stale {
                    p { (report.policy.file.as_deref().map(plain).unwrap_or_default()) ":" (s.line) ": " (plain(&s.check)) " for " (plain(&s.subject))
                        @if s.state == SuppressionState::Expired { " has expired" } @else { " matches nothing" } ": " (plain(&s.reason)) }
                }
            }
        }
    }
}

/// "#f-ID" of a finding's row.
fn anchor(f: &ReportFinding) -> String {
    format!("#f-{}", f.id)
}
