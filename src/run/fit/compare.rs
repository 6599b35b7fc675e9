//! Two models, or two quantizations of one, side by side.

use super::holds::{AT, Answer as MemoryAnswer};
use super::load::{Answer as LoadAnswer, Question};
use super::subject::Subject;
use super::table::{self, itl, money, thousands};
use super::{html, json};
use crate::cli::{FitArgs, FitFormat};
use crate::fit::is_known_quantization;
use crate::fit::load::Verdict;
use crate::run::print;
use crate::units::UsdPerHour;
use anyhow::{Result, bail};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::json;
use std::fmt::Write;
use std::process::ExitCode;

/// Words for "as it was published", which no engine takes.
const PLAIN: [&str; 4] = ["none", "bf16", "fp16", "unquantized"];

fn is_quantization(text: &str) -> bool {
    PLAIN.contains(&text) || is_known_quantization(text)
}

/// (label, what it is).
fn subjects(args: &FitArgs) -> Result<[(String, Subject); 2]> {
    let model = args.model.as_deref();
    let one = |entry: &str| -> Result<(String, Subject)> {
        if !is_quantization(entry) {
            return Ok((entry.to_string(), Subject::named(args, entry)?));
        }
        let Some(model) = model else {
            bail!("--compare {entry}: a quantization needs a model: gpuwaste fit MODEL --compare A,B");
        };
        if args.quantization.is_some() {
            bail!("--quantization and --compare {entry} both say how the model is quantized: leave one out");
        }
        let asked = Some(entry).filter(|e| !PLAIN.contains(e));
        Ok((format!("{model} {entry}"), Subject::quantized(args, model, asked)?))
    };
    let entries: Vec<&str> = args
        .compare
        .iter()
        .map(|e| e.trim())
        .filter(|e| !e.is_empty())
        .collect();
    match (model, entries.as_slice()) {
        (Some(model), [other]) => Ok([(model.to_string(), Subject::named(args, model)?), one(other)?]),
        (None, [only]) => bail!("--compare {only}: two are compared: --compare A,B, or gpuwaste fit A --compare B"),
        (Some(model), [a, b]) if !is_quantization(a) || !is_quantization(b) => {
            bail!("{model}, {a} and {b} are three: name two models, or two quantizations of one")
        }
        (_, [a, b]) => Ok([one(a)?, one(b)?]),
        (_, other) => bail!("--compare takes two, not {}", other.len()),
    }
}

pub(super) fn compare(args: &FitArgs) -> Result<ExitCode> {
    let [a, b] = subjects(args)?;
    let book = &crate::run::facts::book(&args.learned)?;
    let Some(question) = Question::of(args, None)? else {
        let answers = [MemoryAnswer::of(args, &a.1, book)?, MemoryAnswer::of(args, &b.1, book)?];
        return match args.format {
            FitFormat::Json => {
                let both = [json::memory(&a.1, &answers[0]), json::memory(&b.1, &answers[1])];
                print(serde_json::to_string_pretty(&json!({"schema": 1, "comparison": both}))? + "\n")
            }
            FitFormat::Table => print(memory(&a.0, &b.0, &answers)),
            FitFormat::Html => print(html::memory(&a.1, &answers[0]) + &html::memory(&b.1, &answers[1])),
        };
    };
    let answers = [question.answer(args, &a.1, book)?, question.answer(args, &b.1, book)?];
    match args.format {
        FitFormat::Json => {
            let both = [
                json::load(&a.1, &question, &answers[0]),
                json::load(&b.1, &question, &answers[1]),
            ];
            print(serde_json::to_string_pretty(&json!({"schema": 1, "comparison": both}))? + "\n")
        }
        FitFormat::Table => print(load(args, &a.0, &b.0, &question, &answers)),
        FitFormat::Html => print(html::load(&a.1, &question, &answers[0]) + &html::load(&b.1, &question, &answers[1])),
    }
}

fn right(text: impl Into<String>) -> Cell {
    Cell::new(text.into()).set_alignment(CellAlignment::Right)
}

fn dash() -> String {
    "–".into()
}

fn start(a: &str, b: &str, header: Vec<&str>) -> (String, Table) {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(table::width()).unwrap_or(120))
        .set_header(header);
    (format!("A  {a}\nB  {b}\n\n"), table)
}

/// Cards where A or B serves, cheapest first; a load decides on dollars, so each pair ends with B's cost against A's.
fn load(args: &FitArgs, a: &str, b: &str, question: &Question, answers: &[LoadAnswer; 2]) -> String {
    let (mut out, mut table) = start(
        a,
        b,
        vec![
            "GPU", "A", "GPUs", "ITL ms", "$/h", "$/1M out", "B", "GPUs", "ITL ms", "$/h", "$/1M out", "B ÷ A",
        ],
    );
    let _ = writeln!(out, "{}\n", table::asked(question));
    let find = |answer: &LoadAnswer, gpu: &str| answer.rows.iter().position(|t| t.row.gpu == gpu);
    let mut cards: Vec<&str> = Vec::new();
    for told in answers.iter().flat_map(|x| &x.rows) {
        let serves = told.row.verdict == Verdict::Serves || args.all || !args.gpu.is_empty();
        if serves && !cards.contains(&told.row.gpu.as_str()) {
            cards.push(&told.row.gpu);
        }
    }
    let cost = |answer: &LoadAnswer, gpu: &str| {
        let row = &answer.rows[find(answer, gpu)?].row;
        row.usd_per_hour.filter(|_| row.verdict == Verdict::Serves)
    };
    cards.sort_by_key(|gpu| {
        let usd = answers.iter().filter_map(|x| cost(x, gpu)).min();
        (usd.is_none(), usd, (*gpu).to_string())
    });
    let limit = if args.all || !args.gpu.is_empty() {
        usize::MAX
    } else {
        10
    };
    for gpu in cards.into_iter().take(limit) {
        let mut cells = vec![Cell::new(gpu)];
        for answer in answers {
            let Some(told) = find(answer, gpu).map(|i| &answer.rows[i]) else {
                cells.extend((0..5).map(|_| right(dash())));
                continue;
            };
            let row = &told.row;
            let serves = row.verdict == Verdict::Serves;
            cells.push(Cell::new(row.verdict.name()));
            cells.push(right(if serves { row.gpus().to_string() } else { dash() }));
            cells.push(right(row.inter_token_latency.map_or_else(dash, itl)));
            cells.push(right(money(row.usd_per_hour.filter(|_| serves).map(UsdPerHour::usd))));
            cells.push(right(money(row.usd_per_million_output_tokens().filter(|_| serves))));
        }
        let ratio = cost(&answers[1], gpu)
            .zip(cost(&answers[0], gpu))
            .filter(|(_, a)| a.is_positive());
        cells.push(right(
            ratio.map_or_else(dash, |(b, a)| format!("{:.2}", b.usd() / a.usd())),
        ));
        table.add_row(cells);
    }
    table::whole(&mut table);
    let _ = writeln!(
        out,
        "{table}\n\n{}",
        table::wrapped(&format!("Prices: {}.", answers[0].prices))
    );
    out
}

fn memory(a: &str, b: &str, answers: &[MemoryAnswer; 2]) -> String {
    let eight = format!("ms at {}", AT[1]);
    let wide = table::width() >= table::WIDE;
    let half: Vec<&str> = ["GPUs", "KV tokens", eight.as_str(), "$/h"]
        .into_iter()
        .filter(|name| wide || *name != "KV tokens")
        .collect();
    let mut header = vec!["GPU", "A"];
    header.extend(&half);
    header.push("B");
    header.extend(&half);
    let (mut out, mut table) = start(a, b, header);
    let mut cards: Vec<&str> = Vec::new();
    for held in answers.iter().flat_map(|x| &x.found) {
        if json::answer(&held.candidate).0 == "fits" && !cards.contains(&held.candidate.gpu.as_str()) {
            cards.push(&held.candidate.gpu);
        }
    }
    for gpu in cards {
        let mut cells = vec![Cell::new(gpu)];
        for answer in answers {
            let Some(held) = answer.found.iter().find(|h| h.candidate.gpu == gpu) else {
                cells.extend((0..=half.len()).map(|_| right(dash())));
                continue;
            };
            let c = &held.candidate;
            cells.push(Cell::new(json::answer(c).0));
            cells.push(right(c.gpus.to_string()));
            if wide {
                let tokens = c.placement.kv_capacity.as_ref();
                cells.push(right(tokens.map_or_else(dash, |k| thousands(k.value.0))));
            }
            cells.push(right(held.speed.map_or_else(dash, |s| itl(s[1]))));
            cells.push(right(money(c.usd_per_hour.map(UsdPerHour::usd))));
        }
        table.add_row(cells);
    }
    table::whole(&mut table);
    let note = format!(
        "ms: between tokens with {} requests of {} + {} tokens running, in brackets the bad end. Prices: {}.",
        AT[1], answers[0].lengths.0, answers[0].lengths.1, answers[0].prices
    );
    let _ = writeln!(out, "{table}\n\n{}", table::wrapped(&note));
    out
}
