//! Memory alone: which placements hold the model, and how fast those are.

use super::super::holds::{AT, Answer as MemoryAnswer, Held};
use super::super::json::answer;
use super::super::subject::Subject;
use super::{WIDE, by_name_alone, dash, itl, ranks, right, table, thousands, whole, width, wrapped};
use crate::catalog::models::ModelSource;
use crate::report::text::plain;
use comfy_table::{Cell, Table};
use std::fmt::Write;

pub(in crate::run::fit) fn memory(subject: &Subject, told: &MemoryAnswer) -> String {
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
    for said in &told.learned {
        let _ = writeln!(out, "{}", wrapped(&plain(said)));
    }
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
