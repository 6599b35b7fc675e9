//! Cost over load, a curve a card: for the terminal and for the page.

use super::load::{Answer, Question};
use super::table::figure;
use crate::fit::load::Verdict;
use std::fmt::Write;

/// Curves that stay apart to the eye.
const CURVES: usize = 5;
/// Rows of the terminal's chart.
const HEIGHT: usize = 12;

/// A card's cost per million output tokens over requests a second.
pub(super) struct Curve {
    pub(super) name: String,
    /// (requests a second, USD per million output tokens), ascending.
    pub(super) points: Vec<(f64, f64)>,
}

/// The cheapest cards that serve, each with its curve.
pub(super) fn curves(question: &Question, answer: &Answer) -> Vec<Curve> {
    answer
        .rows
        .iter()
        .filter(|t| t.row.verdict == Verdict::Serves && !t.curve.is_empty())
        .take(CURVES)
        .map(|told| Curve {
            name: told.row.gpu.clone(),
            points: told
                .curve
                .iter()
                .filter_map(|(rate, usd)| Some((*rate, usd.per_million(rate * question.traffic.output)?)))
                .collect(),
        })
        .collect()
}

/// Logarithmic axes: costs fall with the load until the first replica is full, and then stay.
pub(super) struct Axes {
    pub(super) x: (f64, f64),
    pub(super) y: (f64, f64),
}

impl Axes {
    pub(super) fn of(curves: &[Curve]) -> Option<Self> {
        let all = || curves.iter().flat_map(|c| c.points.iter().copied());
        let range = |pick: fn((f64, f64)) -> f64| {
            let values = || all().map(pick).filter(|v| *v > 0.0);
            let (low, high) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
            Some(if high > low * 1.01 {
                (low, high)
            } else {
                (low / 1.5, high * 1.5)
            })
        };
        Some(Self {
            x: range(|p| p.0)?,
            y: range(|p| p.1)?,
        })
    }

    /// 0 to 1 along each axis.
    pub(super) fn place(&self, point: (f64, f64)) -> (f64, f64) {
        let along = |v: f64, (low, high): (f64, f64)| ((v / low).ln() / (high / low).ln()).clamp(0.0, 1.0);
        (along(point.0, self.x), along(point.1, self.y))
    }
}

/// A small chart of letters; empty where nothing serves.
pub(super) fn terminal(curves: &[Curve], width: usize) -> String {
    let Some(axes) = Axes::of(curves) else {
        return String::new();
    };
    let columns = width.saturating_sub(14).clamp(30, 90);
    let mut grid = vec![vec![' '; columns]; HEIGHT];
    // The cheapest is drawn last: it stays visible where curves meet.
    for (i, curve) in curves.iter().enumerate().rev() {
        let letter = char::from(b'a' + i as u8);
        for point in &curve.points {
            let (x, y) = axes.place(*point);
            let column = (x * (columns - 1) as f64).round() as usize;
            let row = HEIGHT - 1 - (y * (HEIGHT - 1) as f64).round() as usize;
            grid[row][column] = letter;
        }
    }
    let mut out = String::from("\n$ per million output tokens, over requests/s\n");
    for (i, line) in grid.iter().enumerate() {
        let label = match i {
            0 => super::table::money(Some(axes.y.1)),
            i if i == HEIGHT - 1 => super::table::money(Some(axes.y.0)),
            _ => String::new(),
        };
        let text: String = line.iter().collect();
        let _ = writeln!(out, "{label:>9} │{}", text.trim_end());
    }
    let _ = writeln!(out, "{:>9} └{}", "", "─".repeat(columns));
    let (low, high) = (figure(axes.x.0), figure(axes.x.1));
    let gap = columns.saturating_sub(low.chars().count() + high.chars().count());
    let _ = writeln!(out, "{:>10} {low}{}{high}", "", " ".repeat(gap));
    for (i, curve) in curves.iter().enumerate() {
        let _ = writeln!(out, "  {} {}", char::from(b'a' + i as u8), curve.name);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(name: &str, points: &[(f64, f64)]) -> Curve {
        Curve {
            name: name.into(),
            points: points.to_vec(),
        }
    }

    #[test]
    fn a_chart_has_its_ends_and_every_card() {
        let text = terminal(
            &[
                curve("L40S", &[(1.0, 8.0), (4.0, 2.0), (16.0, 1.0)]),
                curve("H100", &[(1.0, 16.0), (4.0, 4.0), (16.0, 1.1)]),
            ],
            80,
        );
        for word in ["16.00", "1.00", "a L40S", "b H100"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        let top = text.lines().nth(2).unwrap_or_default();
        assert!(
            top.contains('b') && !top.contains('a'),
            "the dearest point is on top: {text}"
        );
    }

    #[test]
    fn nothing_that_serves_is_no_chart_and_one_point_is_no_panic() {
        assert_eq!(terminal(&[], 80), "");
        assert!(terminal(&[curve("L4", &[(1.0, 1.0)])], 60).contains("a L4"));
        assert!(terminal(&[curve("L4", &[])], 60).is_empty());
    }
}
