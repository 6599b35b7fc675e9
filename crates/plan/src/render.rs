//! A plan in the formats that it is printed in. Names are other people's: each format makes them harmless in its own way.

mod html;
mod markdown;
mod table;

use crate::document::{Pinned, Plan, Totals};
use crate::judge::report::text::{money, plain};
use crate::text::is_harmful;
use std::io::{self, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Json,
    Markdown,
    Html,
    /// A script of the steps, to be read before it is run.
    Commands,
}

impl Format {
    /// `width` and `color` are the table's.
    pub fn render(self, plan: &Plan, width: usize, color: bool, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Table => table::render(plan, width, color, out),
            Self::Json => {
                serde_json::to_writer_pretty(&mut *out, plan)?;
                writeln!(out)
            }
            Self::Markdown => markdown::render(plan, out),
            Self::Html => html::render(plan, out),
            Self::Commands => commands(plan, out),
        }
    }
}

/// A cell of the picture: its letter, and its class in HTML.
fn letter(state: &str) -> char {
    match state {
        "free" => '·',
        "working" => '#',
        "idle" => 'o',
        "stuck" => '!',
        "unhealthy" => 'x',
        _ => '?',
    }
}

const STATES: [&str; 6] = ["working", "idle", "stuck", "unhealthy", "free", "unknown"];

/// "saves $212.40/h of at most $219.10/h: 6 nodes go after 14 moves (22 GPUs disturbed)"
fn summary(t: &Totals) -> String {
    let (Some(saved), Some(most)) = (t.saved_usd_per_hour, t.at_most_usd_per_hour) else {
        return "no plan could be made".into();
    };
    if !saved.is_positive() {
        return if most.is_positive() {
            format!(
                "no move found that stops a bill; no plan saves more than {}",
                money(most)
            )
        } else {
            "no node can be emptied: no move stops a bill".into()
        };
    }
    let nodes = count(t.nodes_returned, "node");
    let moves = match t.moves {
        0 => "without a move".to_string(),
        n if t.gpus_disturbed > 0.0 => format!("after {}, which disturb {} GPUs", count(n, "move"), t.gpus_disturbed),
        n => format!("after {}", count(n, "change")),
    };
    format!(
        "saves {} of at most {}: {nodes} can go {moves}",
        money(saved),
        money(most)
    )
}

/// "3 pods (6 GPUs) have a volume that is in one place"
fn pinned(p: &Pinned) -> String {
    let gpus = if p.gpus > 0.0 {
        format!(" ({} GPUs)", p.gpus)
    } else {
        String::new()
    };
    format!("{}{gpus} {}", count(p.pods, "pod"), p.what)
}

fn count(n: u64, word: &str) -> String {
    if n == 1 {
        format!("1 {word}")
    } else {
        format!("{n} {word}s")
    }
}

/// When the fleet was read, to the minute.
fn read_at(plan: &Plan) -> String {
    let at: String = plan.taken_at.chars().take(16).collect();
    plain(&format!("{} UTC", at.replace('T', " ")))
}

/// One line of a comment: nothing ends it before its end.
fn comment(text: &str) -> String {
    let one: String = text
        .chars()
        .map(|c| {
            if is_harmful(c) || c == '\n' || c == '\r' {
                ' '
            } else {
                c
            }
        })
        .collect();
    plain(&one)
}

fn commands(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "#!/bin/sh")?;
    writeln!(
        out,
        "# gpuwaste plan of a fleet as it was at {}. gpuwaste runs none of this.",
        read_at(plan)
    )?;
    writeln!(out, "# {}", comment(&summary(&plan.totals)))?;
    writeln!(
        out,
        "# Each step is valid after the one before it: stop anywhere and keep what you have. Read it first."
    )?;
    writeln!(out, "set -eu")?;
    for step in &plan.steps {
        writeln!(out)?;
        writeln!(out, "# {}. {}", step.number, comment(&step.what))?;
        writeln!(out, "#    risk: {}", comment(&step.risk))?;
        if let Some(bill) = step.bill_after_usd_per_hour {
            writeln!(out, "#    bill after it: {}", money(bill))?;
        }
        for command in &step.commands {
            writeln!(out, "{command}")?;
        }
        for undo in &step.undo {
            writeln!(out, "#    back: {}", comment(undo))?;
        }
    }
    Ok(())
}
