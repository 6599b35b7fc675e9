//! `--format github`: annotations of GitHub Actions (workflow commands), beside SARIF: what a gate fails is an error, what is new a
//! warning, the rest a notice. They stand at file and line where manifests tell them.

use super::document::{GateResult, Report, ReportFinding, Status};
use super::lines;
use super::text::{self, plain};
use super::{order, text::per_month};
use crate::verdict::counted;
use std::io::{self, Write};

/// GitHub shows at most ten annotations of each kind of a step; what is behind them is in the log, and no log needs more.
const MOST: usize = 50;

/// What follows "::": GitHub's own escapes, after everything that could steer a terminal is gone.
fn data(text: &str) -> String {
    plain(text)
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn level(report: &Report, f: &ReportFinding) -> &'static str {
    if report.gates.iter().any(|g| g.breached && counted(g, f)) {
        "error"
    } else if f.status == Status::New && !order::is_hint(f) {
        "warning"
    } else {
        "notice"
    }
}

pub(super) fn render(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "::notice title=GPU waste::{}",
        data(&format!("{} {}", lines::headline(report), lines::spend_line(report)))
    )?;
    for gate in report.gates.iter().filter(|g| g.result() != GateResult::Passed) {
        let line = format!("{}: {}", gate.result().name(), text::gate_figures(gate));
        writeln!(
            out,
            "::error title={}::{}",
            property(&format!("gate {}", gate.name)),
            data(&line)
        )?;
    }
    let mut all: Vec<(&str, &ReportFinding)> = order::all(report).into_iter().map(|f| (level(report, f), f)).collect();
    // Stable: by rank inside of each.
    all.sort_by_key(|(level, _)| match *level {
        "error" => 0,
        "warning" => 1,
        _ => 2,
    });
    for (level, f) in all.iter().take(MOST) {
        let place = f
            .subject
            .location
            .as_ref()
            .map(|l| format!("file={},line={},", property(&l.file), l.line));
        let month = f
            .usd_per_hour
            .map_or_else(|| "no dollars".into(), |u| format!("{} a month", per_month(u)));
        let title = format!(
            "{}: {month}, {}, {}",
            text::check_name(f),
            text::saving(f),
            f.confidence.name()
        );
        let action = f.fix.action.as_deref().unwrap_or_default();
        let line = format!("{} ({}) → {action} [{}]", f.title, text::subject_name(&f.subject), f.id);
        writeln!(
            out,
            "::{level} {}title={}::{}",
            place.unwrap_or_default(),
            property(&title),
            data(&line)
        )?;
    }
    if all.len() > MOST {
        writeln!(
            out,
            "::notice title=GPU waste::{} more findings: see the report",
            all.len() - MOST
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_its_command() {
        let shown = data("50 %\n::error::x");
        assert!(shown.starts_with("50 %25 "), "{shown}");
        assert!(!shown.contains('\n') && !shown.contains("::error"), "{shown}");
        assert_eq!(property("a:b,c"), "a%3Ab%2Cc");
    }
}
