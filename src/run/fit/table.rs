//! The tables for a terminal: memory alone, or a load.

use super::holds::{AT, Answer as MemoryAnswer, Held};
use super::json::{answer, sureness};
use super::load::{Answer as LoadAnswer, Question, Told};
use super::subject::Subject;
use crate::catalog::models::{self, ModelSource};
use crate::cli::FitArgs;
use crate::fit::Parallelism;
use crate::fit::load::{Demand, Verdict};
use crate::fit::speed::{Class, Seconds};
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use std::fmt::Write;

/// Columns of the table where no terminal tells.
const WIDTH: usize = 120;
/// Columns from which weights and KV tokens have room beside the reason.
const WIDE: usize = 104;
/// Rows of the default list of a load.
const ROWS: usize = 10;
/// Rows shown where nothing serves.
const NEAREST: usize = 5;

pub(super) fn width() -> usize {
    let told = terminal_size::terminal_size().map_or(WIDTH, |(w, _)| usize::from(w.0));
    told.clamp(60, 200)
}

fn right(text: impl Into<String>) -> Cell {
    Cell::new(text.into()).set_alignment(CellAlignment::Right)
}

fn dash() -> String {
    "–".into()
}

fn table(header: Vec<&str>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width()).unwrap_or(120))
        .set_header(header);
    table
}

/// Names and figures stay whole; the last column takes what is left.
pub(super) fn whole(table: &mut Table) {
    let last = table.column_count().saturating_sub(1);
    for column in table.column_iter_mut().take(last) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
}

/// "12", "4.3": milliseconds.
pub(super) fn ms(seconds: f64) -> String {
    let ms = seconds * 1e3;
    if ms < 9.95 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}

/// "19 (≤ 29)": the value and the bad end; "6 (?)" where nothing was measured.
pub(super) fn itl(s: Seconds) -> String {
    match s.ends {
        Some((_, high)) => format!("{} (≤ {})", ms(s.value), ms(high)),
        None => format!("{} (?)", ms(s.value)),
    }
}

/// "0.1–0.6 s"; nothing where no range is known.
pub(super) fn range(s: Option<Seconds>) -> String {
    let figure = |v: f64| {
        if v < 0.095 {
            format!("{v:.2}")
        } else {
            format!("{v:.1}")
        }
    };
    s.and_then(|s| s.ends)
        .map_or_else(dash, |(low, high)| format!("{}–{} s", figure(low), figure(high)))
}

pub(super) fn money(usd: Option<f64>) -> String {
    usd.map_or_else(dash, |u| if u < 0.1 { format!("{u:.3}") } else { format!("{u:.2}") })
}

pub(super) fn thousands(n: u64) -> String {
    match n {
        0..=9_999 => n.to_string(),
        10_000..=9_999_999 => format!("{}k", n / 1000),
        _ => format!("{:.1}M", n as f64 / 1e6),
    }
}

fn ranks(p: Parallelism) -> String {
    match (p.tensor, p.pipeline) {
        (1, 1) => String::new(),
        (t, 1) => format!(" (TP{t})"),
        (t, s) => format!(" (TP{t} PP{s})"),
    }
}

fn by_name_alone(subject: &Subject) -> Option<String> {
    if let Some(base) = &subject.model.base {
        return Some(format!(
            "Not in the catalogue: its architecture is assumed to be that of {base}, and nothing is said to fit.\n--models DIR reads its config.json.\n\n"
        ));
    }
    (subject.model.source == ModelSource::Name).then(|| {
        let near = models::nearest(&subject.model.id);
        let hint = if near.is_empty() {
            String::new()
        } else {
            format!(" Nearest names: {}.", near.join(", "))
        };
        format!(
            "Not in the catalogue: the size is read from the name, and nothing is said to fit.{hint}\n--models DIR reads its config.json.\n\n"
        )
    })
}

pub(super) fn memory(subject: &Subject, told: &MemoryAnswer) -> String {
    let mut out = String::new();
    let length = told.found.iter().find_map(|h| h.candidate.placement.max_model_len);
    let length = length.map_or_else(String::new, |l| format!(" · {l} tokens a request"));
    let wanted = told
        .tokens
        .map_or_else(String::new, |t| format!(" · {t} tokens to hold at once"));
    let _ = writeln!(
        out,
        "{}  {} · {}{length}{wanted}\n",
        subject.model.id,
        subject.size(),
        subject.quantization()
    );
    out.extend(by_name_alone(subject));
    // One sentence said once: where nothing is known of a model, no card tells more than another.
    if told.found.len() > 1 && (subject.model.source == ModelSource::Name || subject.model.base.is_some()) {
        let _ = writeln!(
            out,
            "{}",
            wrapped("No placement is judged; --format json lists them, and --gpu NAME tells one card's weights.")
        );
        return out;
    }
    let wide = width() >= WIDE;
    let (fits, rest): (Vec<&Held>, Vec<&Held>) = told.found.iter().partition(|h| answer(&h.candidate).0 == "fits");
    for (part, last) in [(&fits, Last::Speed), (&rest, Last::Why)] {
        if !part.is_empty() {
            let _ = writeln!(out, "{}\n", held_rows(part, last));
        }
    }
    let speed = if wide {
        format!(
            " ms: between tokens with {} and {} requests of {} + {} tokens running, in brackets the bad end (?: nothing like it was measured).",
            AT[0], AT[1], told.lengths.0, told.lengths.1
        )
    } else {
        String::new()
    };
    let note = format!(
        "Weights are per GPU. KV tokens and requests (of full length) are of one engine; requests may share the KV cache better when they are shorter.{speed} Prices: {}.",
        told.prices
    );
    let _ = writeln!(out, "{}", wrapped(&note));
    out
}

/// What the last columns of a list of placements say: how fast those are that hold, why the others do not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Speed,
    Why,
}

fn held_rows(rows: &[&Held], last: Last) -> Table {
    let wide = width() >= WIDE;
    let mut header = vec!["GPU", "GPUs", "verdict", "$/h"];
    if wide {
        header.extend(["weights", "KV tokens"]);
    }
    header.push("requests");
    let at: Vec<String> = AT.iter().map(|n| format!("ms at {n}")).collect();
    match last {
        Last::Speed if wide => header.extend(at.iter().map(String::as_str)),
        Last::Speed => {}
        Last::Why => header.push("why"),
    }
    let mut table = table(header);
    for held in rows {
        let c = &held.candidate;
        let p = &c.placement;
        let (verdict, reason) = answer(c);
        let mut row = vec![
            Cell::new(&c.gpu),
            right(format!("{}{}", c.gpus, ranks(c.parallelism))),
            Cell::new(verdict),
            right(c.usd_per_hour.map_or_else(dash, |u| format!("{:.2}", u.usd()))),
        ];
        if wide {
            row.push(right(p.weights_per_gpu.map_or_else(dash, |b| b.to_string())));
            row.push(right(p.kv_capacity.map_or_else(dash, |k| thousands(k.value.0))));
        }
        row.push(right(p.max_concurrency.map_or_else(dash, |n| format!("{n:.1}"))));
        match last {
            Last::Speed if wide => {
                row.extend((0..AT.len()).map(|i| right(held.speed.map_or_else(dash, |s| itl(s[i])))));
            }
            Last::Speed => {}
            Last::Why => row.push(Cell::new(reason)),
        }
        table.add_row(row);
    }
    whole(&mut table);
    table
}

/// Lines of the terminal's width, broken at spaces.
pub(super) fn wrapped(text: &str) -> String {
    let most = width();
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines.join("\n")
}

/// "5 requests/s of 1024 + 256 tokens · ≤ 50 ms between tokens".
pub(super) fn asked(question: &Question) -> String {
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

pub(super) fn figure(n: f64) -> String {
    match n {
        n if n >= 99.5 => format!("{n:.0}"),
        n if n >= 0.995 => format!("{n:.1}").trim_end_matches(".0").to_string(),
        n => format!("{n:.2}"),
    }
}

/// "4 × TP1", "2 × TP8 PP2".
pub(super) fn layout(told: &Told) -> String {
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
pub(super) fn evidence(told: &Told) -> String {
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
pub(super) fn shown(all: bool, answer: &LoadAnswer) -> Vec<&Told> {
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
pub(super) fn left_out(answer: &LoadAnswer, shown: &[&Told]) -> String {
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

pub(super) fn load(args: &FitArgs, subject: &Subject, question: &Question, answer: &LoadAnswer) -> String {
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
            .map_or_else(String::new, |u| format!(", {:.2} $/h", u.usd()));
        let _ = writeln!(
            out,
            "now: {}, {} replica{} on {}{}{now}{cost}",
            server.name,
            server.replicas,
            if server.replicas == 1 { "" } else { "s" },
            server.gpu.name,
            ranks(server.parallelism)
        );
    }
    out.push('\n');
    out.extend(by_name_alone(subject));
    let rows = shown(args.all || !args.gpu.is_empty(), answer);
    if !rows.iter().any(|t| t.row.verdict == Verdict::Serves) && !matches!(question.traffic.demand, Demand::Running(_))
    {
        out.push_str("Nothing surely serves this load within these limits. Nearest:\n\n");
    }
    let _ = writeln!(out, "{}", load_rows(&rows));
    let left = left_out(answer, &rows);
    if !left.is_empty() {
        let _ = writeln!(out, "\n{}", wrapped(&left));
    }
    out.push_str(&notes(&rows, answer));
    out
}

fn load_rows(rows: &[&Told]) -> Table {
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
        cells.push(right(row.usd_per_hour.map_or_else(dash, |u| format!("{:.2}", u.usd()))));
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
