//! Rows in columns that fit a width.

use super::RenderOptions;
use super::terminal::{Paint, cut, width_of};
use super::text::plain;
use std::io::{self, Write};

/// A column: its head, whether it stands right, the fewest columns it may be cut to, and from which width on it is there.
pub struct Column {
    pub head: &'static str,
    pub right: bool,
    pub least: usize,
    pub from: usize,
}

/// Columns that a word keeps on the narrowest screen.
const NARROWEST: usize = 6;

pub const fn column(head: &'static str, right: bool, least: usize, from: usize) -> Column {
    Column {
        head,
        right,
        least,
        from,
    }
}

/// Rows under their heads, columns as wide as what is in them; where the width is too small the widest give way.
pub fn table(columns: &[Column], rows: &[Vec<String>], options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let shown: Vec<usize> = (0..columns.len())
        .filter(|i| options.width >= columns[*i].from)
        .collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|r| r.iter().map(|c| plain(c)).collect()).collect();
    let mut widths: Vec<usize> = shown
        .iter()
        .map(|&i| {
            rows.iter()
                .map(|r| width_of(&r[i]))
                .max()
                .unwrap_or(0)
                .max(width_of(columns[i].head))
        })
        .collect();
    while widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1) > options.width {
        let spare = |at: usize| widths[at].saturating_sub(columns[shown[at]].least);
        let Some(widest) = (0..widths.len())
            .filter(|at| spare(*at) > 0)
            .max_by_key(|at| spare(*at))
        else {
            break;
        };
        widths[widest] -= 1;
    }
    // A screen narrower than what every column wants: names and words give way further, figures stay whole.
    while widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1) > options.width {
        let words = (0..widths.len()).filter(|at| !columns[shown[*at]].right && widths[*at] > NARROWEST);
        let Some(widest) = words.max_by_key(|at| widths[*at]) else {
            break;
        };
        widths[widest] -= 1;
    }
    let line = |cells: &[String]| {
        let mut text = String::new();
        for (at, &i) in shown.iter().enumerate() {
            let cell = cut(&cells[i], widths[at]);
            let pad = " ".repeat(widths[at].saturating_sub(width_of(&cell)));
            if at > 0 {
                text.push_str("  ");
            }
            text.push_str(&if columns[i].right {
                format!("{pad}{cell}")
            } else {
                format!("{cell}{pad}")
            });
        }
        text.trim_end().to_owned()
    };
    let heads: Vec<String> = columns.iter().map(|c| c.head.to_owned()).collect();
    writeln!(out, "{}", Paint(options.color).bold(&line(&heads)))?;
    rows.iter().try_for_each(|r| writeln!(out, "{}", line(r)))
}
