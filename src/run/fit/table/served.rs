//! A load: which layouts serve it within the limits, and what they cost.

use super::super::json::sureness;
use super::super::load::{Answer as LoadAnswer, Question, Told};
use super::super::offers;
use super::super::subject::Subject;
use super::{
    WIDE, by_name_alone, dash, figure, itl, money, ms, range, ranks, right, table, thousands, whole, width, wrapped,
};
use crate::cli::FitArgs;
use crate::fit::load::{Demand, Verdict};
use crate::fit::speed::{Class, Seconds};
use crate::units::UsdPerHour;
use comfy_table::{Cell, Table};
use std::fmt::Write;

/// Rows of the default list of a load.
const ROWS: usize = 10;
/// Rows shown where nothing serves.
const NEAREST: usize = 5;

/// "5 requests/s of 1024 + 256 tokens · ≤ 50 ms between tokens".
pub(in crate::run::fit) fn asked(question: &Question) -> String {
    let t = &question.traffic;
    let load = match t.demand {
        Demand::Rate(r) => format!("{} requests/s", figure(r)),
        Demand::Clients(n) => format!("{n:.0} clients"),
        Demand::Running(n) => format!("{n:.0} sequences running in one engine"),
    };
    let mut text = format!("{load} of {:.0} + {:.0} tokens", t.input, t.output);
    let limits = &question.limits;
    if let Some(itl) = limits.inter_token_latency {
        let _ = write!(text, " · at most {} ms between tokens", ms(itl));
        if question.default_itl {
            text.push_str(" (default)");
        }
    }
    if let Some(ttft) = limits.time_to_first_token {
        let _ = write!(text, " · {} ms to the first", ms(ttft));
    }
    if let Some(max) = limits.max_gpus {
        let _ = write!(text, " · at most {max} GPUs");
    }
    text
}

/// "4 × TP1", "2 × TP8 PP2".
pub(in crate::run::fit) fn layout(told: &Told) -> String {
    let p = told.row.parallelism;
    let stages = if p.pipeline > 1 {
        format!(" PP{}", p.pipeline)
    } else {
        String::new()
    };
    let data = if p.data > 1 {
        format!(" DP{}", p.data)
    } else {
        String::new()
    };
    let replicas = match told.row.replicas {
        0 => "–".to_string(),
        n => n.to_string(),
    };
    format!("{replicas} × TP{}{stages}{data}", p.tensor)
}

/// What stands behind a row's speed.
pub(in crate::run::fit) fn evidence(told: &Told) -> String {
    let row = &told.row;
    let e = &row.evidence;
    let plural = |n: u32| if n == 1 { "" } else { "s" };
    match (row.by_ratio, e.class) {
        (true, _) => format!("{}: scaled from this server's own time", sureness(told)),
        (_, Class::NotSeen) => "assumed: nothing measured of this card with this engine".into(),
        (_, class) => {
            let new = if class == Class::NewModel {
                " of other models"
            } else {
                ""
            };
            format!(
                "{}: {} point{}{new}, {} source{}",
                sureness(told),
                e.points,
                plural(e.points),
                e.sources,
                plural(e.sources)
            )
        }
    }
}

/// Marks of a row, explained under the table: sold only by marketplaces, more ranks than a node that is sold has, a length
/// that must be set.
fn marks(told: &Told) -> String {
    let mut marks = String::new();
    if told.sold.marketplace_only {
        marks.push('*');
    }
    if is_odd(told) {
        marks.push('†');
    }
    if told.row.max_model_len.is_some() {
        marks.push('‡');
    }
    marks
}

fn is_odd(told: &Told) -> bool {
    told.sold.largest.is_some_and(|n| told.row.gpus_per_replica > n)
}

/// The rows of the default list: what serves, or what comes nearest; everything where cards were named or --all is given.
pub(in crate::run::fit) fn shown(all: bool, answer: &LoadAnswer) -> Vec<&Told> {
    let serving: Vec<&Told> = answer
        .rows
        .iter()
        .filter(|t| t.row.verdict == Verdict::Serves)
        .collect();
    if all {
        return answer.rows.iter().collect();
    }
    if serving.is_empty() {
        let mut rest: Vec<&Told> = answer.rows.iter().collect();
        let bad_end = |t: &Told| {
            t.row
                .inter_token_latency
                .and_then(Seconds::bad_end)
                .unwrap_or(f64::INFINITY)
        };
        // Stable: what is equally far stays cheapest first.
        rest.sort_by(|a, b| {
            a.row
                .verdict
                .cmp(&b.row.verdict)
                .then(bad_end(a).total_cmp(&bad_end(b)))
        });
        rest.truncate(NEAREST);
        return rest;
    }
    serving.into_iter().take(ROWS).collect()
}

/// "left out: 3 that serve for more, 12 too slow, …; --all lists them". Empty: nothing was.
pub(in crate::run::fit) fn left_out(answer: &LoadAnswer, shown: &[&Told]) -> String {
    let of = |v: Verdict| {
        let all = answer.rows.iter().filter(|t| t.row.verdict == v).count();
        all - shown.iter().filter(|t| t.row.verdict == v).count()
    };
    let parts: Vec<String> = [
        (of(Verdict::Serves), "that serve for more"),
        (of(Verdict::TooSlow), "too slow"),
        (of(Verdict::DoesNotFit), "that cannot hold it"),
        (
            of(Verdict::Unknown),
            "unknown (nothing measured of them, or memory not sure)",
        ),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("Left out: {}; --all lists them.", parts.join(", "))
    }
}

/// What the server costs, and that the rows are at other prices where they were asked for.
fn dollars(usd: UsdPerHour, args: &FitArgs) -> String {
    let other = if offers::differs(args) {
        " (as it is priced itself; the rows are not)"
    } else {
        ""
    };
    format!("${:.2}/h{other}", usd.usd())
}

pub(in crate::run::fit) fn load(args: &FitArgs, subject: &Subject, question: &Question, answer: &LoadAnswer) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}  {} · {}\n{}",
        subject.model.id,
        subject.size(),
        subject.quantization(),
        asked(question)
    );
    if let Some(server) = &question.server {
        let now = server
            .inter_token_latency
            .map_or_else(String::new, |s| format!(", {} ms between tokens (p95)", ms(s)));
        let cost = server
            .usd_per_hour
            .map_or_else(String::new, |u| format!(", {}", dollars(u, args)));
        let now = format!(
            "now: {}, {} replica{} on {}{}{now}{cost}",
            server.name,
            server.replicas,
            if server.replicas == 1 { "" } else { "s" },
            server.gpu.name,
            ranks(server.parallelism)
        );
        let _ = writeln!(out, "{}", wrapped(&now));
    }
    out.push('\n');
    out.extend(by_name_alone(subject));
    let rows = shown(args.all || !args.gpu.is_empty(), answer);
    if !rows.iter().any(|t| t.row.verdict == Verdict::Serves) && !matches!(question.traffic.demand, Demand::Running(_))
    {
        out.push_str("Nothing surely serves this load within these limits. Nearest:\n\n");
    }
    let _ = writeln!(
        out,
        "{}",
        load_rows(&rows, question.server.is_some() && !offers::differs(args))
    );
    let left = left_out(answer, &rows);
    if !left.is_empty() {
        let _ = writeln!(out, "\n{}", wrapped(&left));
    }
    out.push_str(&notes(&rows, answer));
    out
}

fn load_rows(rows: &[&Told], beside: bool) -> Table {
    let wide = width() >= WIDE;
    let mut header = vec!["GPU", "GPUs", "layout", "verdict"];
    if wide {
        header.extend(["req/s", "tok/s", "TTFT"]);
    }
    header.extend(["ITL ms", "$/h", "$/1M out", "why"]);
    let mut table = table(header);
    for told in rows {
        let row = &told.row;
        let serves = row.verdict == Verdict::Serves;
        let mut cells = vec![
            Cell::new(format!("{}{}", row.gpu, marks(told))),
            right(if row.replicas == 0 {
                dash()
            } else {
                row.gpus().to_string()
            }),
            Cell::new(layout(told)),
            Cell::new(row.verdict.name()),
        ];
        if wide {
            cells.push(right(row.requests_per_second.map_or_else(dash, figure)));
            cells.push(right(
                row.output_tokens_per_second.map_or_else(dash, |t| thousands(t as u64)),
            ));
            cells.push(right(range(row.time_to_first_token)));
        }
        cells.push(right(row.inter_token_latency.map_or_else(dash, itl)));
        let guess = if beside && told.is_guess() { "~" } else { "" };
        cells.push(right(
            row.usd_per_hour.map_or_else(dash, |u| format!("{guess}{:.2}", u.usd())),
        ));
        cells.push(right(money(row.usd_per_million_output_tokens().filter(|_| serves))));
        cells.push(Cell::new(if serves { evidence(told) } else { row.reason.clone() }));
        table.add_row(cells);
    }
    whole(&mut table);
    table
}

fn notes(rows: &[&Told], answer: &LoadAnswer) -> String {
    let mut out = String::from("\n");
    out.push_str(&wrapped(&format!(
        "req/s: what the layout carries within the limits; tok/s, TTFT and ITL at the load; in brackets the end that a promise holds at (?: nothing like it was measured). $/1M out: the whole bill over the output tokens. Prices: {}.",
        answer.prices
    )));
    if rows.iter().any(|t| t.sold.marketplace_only) {
        out.push_str("\n* only marketplaces sell this card.");
    }
    if rows.iter().any(|t| is_odd(t)) {
        out.push_str("\n† no cloud is known to sell a node with as many of this card.");
    }
    let lengths: Vec<u64> = rows.iter().filter_map(|t| t.row.max_model_len).collect();
    if let Some(length) = lengths.first() {
        let _ = write!(
            out,
            "\n‡ holds requests of this length, not the model's own: --max-model-len {length}."
        );
    }
    out.push('\n');
    out
}
