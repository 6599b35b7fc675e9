//! The answer as one page: the same rows as the table, and the curves. No scripts, nothing from elsewhere.

use super::chart::{Axes, Curve, curves};
use super::holds::{AT, Answer as MemoryAnswer};
use super::json::answer;
use super::load::{Answer as LoadAnswer, Question, Told};
use super::subject::Subject;
use super::table::{self, asked, evidence, figure, itl, layout, money, range, thousands};
use crate::fit::load::Verdict;
use crate::units::UsdPerHour;
use maud::{Markup, html};

const STYLE: &str = "
:root{color-scheme:light dark;--line:#8886;--soft:#8882}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem}
h1{font-size:1.35rem;margin:0}p{margin:.4rem 0}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{padding:.3rem .6rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.serves td:first-child,tr.fits td:first-child{font-weight:600}tr.not td{opacity:.75}
svg{width:100%;height:auto;max-width:60rem}svg text{font:12px system-ui,sans-serif;fill:currentColor}
.axis{stroke:currentColor;stroke-width:1}.grid{stroke:var(--line);stroke-width:.5}
.curve{fill:none;stroke-width:2}.c0{stroke:#0b6bcb}.c1{stroke:#c2410c}.c2{stroke:#15803d}.c3{stroke:#7e22ce}.c4{stroke:#b91c1c}
.now{stroke-dasharray:4 3}.note{color:#777}";

fn page(title: &str, body: &Markup) -> String {
    crate::run::page::page(title, STYLE, body)
}

fn heading(subject: &Subject) -> Markup {
    html! {
        h1 { (subject.model.id) }
        p { (subject.size()) " · " (subject.quantization()) }
    }
}

pub(super) fn memory(subject: &Subject, told: &MemoryAnswer) -> String {
    let body = html! {
        (heading(subject))
        div.scroll { table {
            thead { tr {
                th { "GPU" } th.n { "GPUs" } th { "verdict" } th.n { "$/h" } th.n { "weights per GPU" } th.n { "KV tokens" } th.n { "requests" }
                @for n in AT { th.n { "ms at " (n) } }
                th { "why" }
            } }
            tbody { @for held in &told.found {
                @let c = &held.candidate;
                @let (verdict, reason) = answer(c);
                tr class=(if verdict == "fits" { "fits" } else { "not" }) {
                    td { (c.gpu) } td.n { (c.gpus) } td { (verdict) }
                    td.n { (money(c.usd_per_hour.map(UsdPerHour::usd))) }
                    td.n { @if let Some(b) = c.placement.weights_per_gpu { (b) } }
                    td.n { @if let Some(k) = c.placement.kv_capacity { (thousands(k.value.0)) } }
                    td.n { @if let Some(n) = c.placement.max_concurrency { (figure(n)) } }
                    @for i in 0..AT.len() { td.n { @if let Some(s) = held.speed { (itl(s[i])) } } }
                    td { @if verdict != "fits" { (reason) } }
                }
            } }
        } }
        p.note { "ms: between tokens with that many requests of " (told.lengths.0) " + " (told.lengths.1) " tokens running; in brackets the bad end. Prices: " (told.prices) "." }
    };
    page(&format!("{}: which GPUs hold it", subject.model.id), &body)
}

pub(super) fn load(subject: &Subject, question: &Question, told: &LoadAnswer) -> String {
    let drawn = curves(question, told);
    let shown = table::shown(true, told);
    let body = html! {
        (heading(subject))
        p { (asked(question)) }
        @if let Some(server) = &question.server {
            p { "Read from " (server.name) ": " (server.replicas) " on " (server.gpu.name) @if let Some(s) = server.inter_token_latency { ", " (table::ms(s)) " ms between tokens (p95)" } }
        }
        (plot(&drawn, question))
        (rows(&shown))
        p.note {
            "req/s: what the layout carries within the limits. ITL in ms; in brackets the end that a promise holds at (?: nothing like it was measured). "
            "$/1M: the whole bill over these tokens. Prices: " (told.prices) "."
        }
    };
    page(&format!("{}: which GPUs serve it", subject.model.id), &body)
}

fn rows(shown: &[&Told]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th { "GPU" } th.n { "GPUs" } th { "layout" } th { "verdict" } th.n { "req/s" } th.n { "tok/s" } th.n { "TTFT" } th.n { "ITL ms" }
                th.n { "$/h" } th.n { "$/1M out" } th.n { "$/1M in" } th { "why" }
            } }
            tbody { @for told in shown {
                @let row = &told.row;
                @let serves = row.verdict == Verdict::Serves;
                tr class=(if serves { "serves" } else { "not" }) {
                    td { (row.gpu) @if told.sold.marketplace_only { " (marketplaces only)" } }
                    td.n { @if row.replicas > 0 { (row.gpus()) } }
                    td { (layout(told)) @if let Some(n) = row.max_model_len { ", --max-model-len " (n) } }
                    td { (row.verdict.name()) }
                    td.n { @if let Some(r) = row.requests_per_second { (figure(r)) } }
                    td.n { @if let Some(t) = row.output_tokens_per_second { (thousands(t as u64)) } }
                    td.n { (range(row.time_to_first_token)) }
                    td.n { @if let Some(s) = row.inter_token_latency { (itl(s)) } }
                    td.n { (money(row.usd_per_hour.map(UsdPerHour::usd))) }
                    td.n { (money(row.usd_per_million_output_tokens().filter(|_| serves))) }
                    td.n { (money(row.usd_per_million_input_tokens().filter(|_| serves))) }
                    td { @if serves { (evidence(told)) } @else { (row.reason) } }
                }
            } }
        } }
    }
}

/// Width and height of the drawing, and its margins.
const W: f64 = 760.0;
const H: f64 = 320.0;
const LEFT: f64 = 62.0;
const BOTTOM: f64 = 34.0;

fn plot(curves: &[Curve], question: &Question) -> Markup {
    let Some(axes) = Axes::of(curves) else { return html! {} };
    let at = |p: (f64, f64)| {
        let (x, y) = axes.place(p);
        (LEFT + x * (W - LEFT - 8.0), 8.0 + (1.0 - y) * (H - BOTTOM - 8.0))
    };
    let path = |curve: &Curve| {
        let points: Vec<String> = curve
            .points
            .iter()
            .map(|p| {
                let (x, y) = at(*p);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        points.join(" ")
    };
    let ticks = |(low, high): (f64, f64)| {
        let mid = (low * high).sqrt();
        [low, (low * mid).sqrt(), mid, (mid * high).sqrt(), high]
    };
    let asked = question.rate(None);
    html! {
        h2 { "Cost over load" }
        svg viewBox={ "0 0 " (W) " " (H + 20.0 * curves.len() as f64) } role="img" aria-label="USD per million output tokens over requests a second, a curve a card" {
            @for y in ticks(axes.y) {
                @let (_, py) = at((axes.x.0, y));
                line.grid x1=(LEFT) x2=(W - 8.0) y1=(py) y2=(py) {}
                text x=(LEFT - 6.0) y=(py + 4.0) text-anchor="end" { "$" (money(Some(y))) }
            }
            @for x in ticks(axes.x) {
                @let (px, _) = at((x, axes.y.0));
                text x=(px) y=(H - BOTTOM + 16.0) text-anchor="middle" { (figure(x)) }
            }
            line.axis x1=(LEFT) x2=(W - 8.0) y1=(H - BOTTOM) y2=(H - BOTTOM) {}
            text x=(f64::midpoint(W, LEFT)) y=(H - 2.0) text-anchor="middle" { "requests/s" }
            @if let Some(rate) = asked {
                @let (px, _) = at((rate, axes.y.0));
                line.grid.now x1=(px) x2=(px) y1="8" y2=(H - BOTTOM) {}
            }
            @for (i, curve) in curves.iter().enumerate() {
                polyline class={ "curve c" (i) } points=(path(curve)) { title { (curve.name) } }
                @let y = H + 14.0 + 20.0 * i as f64;
                line class={ "curve c" (i) } x1=(LEFT) x2=(LEFT + 28.0) y1=(y - 4.0) y2=(y - 4.0) {}
                text x=(LEFT + 36.0) y=(y) { (curve.name) }
            }
        }
        p.note { "USD per million output tokens; each curve steps where a replica more is needed." }
    }
}
