//! The tables for a terminal: what memory holds, or what a load needs.

mod held;
mod served;

pub(super) use held::memory;
pub(super) use served::{asked, evidence, layout, load, shown};

use super::subject::Subject;
use crate::catalog::models::{self, ModelSource};
use crate::fit::Parallelism;
use crate::fit::speed::Seconds;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

/// Columns from which weights and KV tokens have room beside the reason.
pub(super) const WIDE: usize = 104;

pub(super) fn width() -> usize {
    crate::run::output::width().min(200)
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

pub(super) fn figure(n: f64) -> String {
    match n {
        n if n >= 99.5 => format!("{n:.0}"),
        n if n >= 0.995 => format!("{n:.1}").trim_end_matches(".0").to_string(),
        n => format!("{n:.2}"),
    }
}
