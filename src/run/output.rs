//! Where a report goes: formats to stdout and files, gates and gaps to stderr.

use super::recorded::Lost;
use crate::cli::{ColorArg, ReportArgs};
use crate::report::document::{Fixed, Report, Status, SuppressionState};
use crate::report::lines::{self, same_gaps};
use crate::report::text::{self, plain};
use crate::report::{Format, RenderOptions};
use crate::snapshot::Gap;
use crate::units::sum_known;
use crate::verdict::Verdict;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Columns where there is no terminal.
const PIPE_WIDTH: usize = 120;
/// Gaps named on stderr without -v.
const GAPS: usize = 8;

/// FORMAT or FORMAT=FILE; at most one goes to stdout.
pub(super) fn parse(args: &ReportArgs) -> Result<Vec<(Format, Option<PathBuf>)>> {
    if args.format.is_empty() {
        return Ok(vec![(Format::Table, None)]);
    }
    let mut outputs: Vec<(Format, Option<PathBuf>)> = Vec::new();
    for text in &args.format {
        let (name, file) = text
            .split_once('=')
            .map_or((text.as_str(), None), |(n, f)| (n, Some(PathBuf::from(f))));
        let Some(format) = Format::parse(name) else {
            let known: Vec<&str> = Format::ALL.iter().map(|(_, n)| *n).collect();
            bail!("--format {name}: known are {}", known.join(", "));
        };
        if file.as_ref().is_some_and(|f| f.as_os_str().is_empty()) {
            bail!(
                "--format {text}: a file is expected behind the '=', such as {name}=FILE; without '=' it goes to stdout"
            );
        }
        if file.is_none() && outputs.iter().any(|(_, f)| f.is_none()) {
            bail!("two formats for stdout: give all but one a file (--format json=report.json)");
        }
        outputs.push((format, file));
    }
    Ok(outputs)
}

/// Columns of stdout: the terminal's, else what COLUMNS says.
pub(crate) fn width() -> usize {
    terminal_size::terminal_size()
        .filter(|_| io::stdout().is_terminal())
        .map(|(w, _)| usize::from(w.0))
        .or_else(|| std::env::var("COLUMNS").ok()?.parse().ok())
        .unwrap_or(PIPE_WIDTH)
        .clamp(60, 240)
}

/// Lines of the terminal that stdout is.
pub(super) fn height() -> Option<usize> {
    let size = terminal_size::terminal_size().filter(|_| io::stdout().is_terminal());
    size.map(|(_, h)| usize::from(h.0))
}

pub(super) fn color(wanted: ColorArg) -> bool {
    match wanted {
        ColorArg::Always => true,
        ColorArg::Never => false,
        ColorArg::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    }
}

pub(super) fn write(
    report: &Report,
    outputs: &[(Format, Option<PathBuf>)],
    args: &ReportArgs,
    verbose: bool,
) -> Result<()> {
    let options = RenderOptions {
        width: width(),
        height: height(),
        color: color(args.color),
        top: args.top,
        verbose,
        hints: args.hints,
    };
    for (format, file) in outputs {
        match file {
            None => unless_closed(to_stdout(*format, report, &options))?,
            Some(path) => {
                let name = path.display();
                let mut out = BufWriter::new(File::create(path).with_context(|| format!("could not write {name}"))?);
                format
                    .render(
                        report,
                        &RenderOptions {
                            color: false,
                            ..options.clone()
                        },
                        &mut out,
                    )
                    .with_context(|| format!("could not write {name}"))?;
                out.flush().with_context(|| format!("could not write {name}"))?;
            }
        }
    }
    Ok(())
}

fn to_stdout(format: Format, report: &Report, options: &RenderOptions) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    format.render(report, options, &mut out)?;
    Ok(out.flush()?)
}

/// A reader that has seen enough is no failure: what else there is to write is still written, and the verdict stands.
pub(super) fn unless_closed(written: Result<()>) -> Result<()> {
    match written {
        Err(error) if super::is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

/// Gates first, then what the policy and the baseline have to say, then what could not be read.
pub(super) fn tell(
    report: &Report,
    verdict: &Verdict,
    outputs: &[(Format, Option<PathBuf>)],
    quiet: bool,
    verbose: bool,
) -> Result<()> {
    let mut err = io::stderr().lock();
    // A table on the same screen has said what follows, as has one with -v wherever it goes: each gap stands once.
    let table = outputs.iter().any(|(f, file)| *f == Format::Table && file.is_none());
    let seen = table && (verbose || io::stdout().is_terminal() && err.is_terminal());
    if seen && !verdict.lines.is_empty() {
        writeln!(err)?;
    }
    for line in &verdict.lines {
        writeln!(err, "gpuwaste: {}", plain(line))?;
    }
    if quiet || seen {
        return Ok(());
    }
    for s in &report.policy.suppressions {
        let what = match s.state {
            SuppressionState::Unused => "matches nothing: remove it, or it will hide the next finding of that name",
            SuppressionState::Expired => "has expired and suppresses nothing: decide again, or remove it",
            SuppressionState::Used | SuppressionState::NotJudged => continue,
        };
        let file = report.policy.file.as_deref().unwrap_or_default();
        let subject = plain(&s.subject);
        writeln!(
            err,
            "gpuwaste: {file}:{}: the suppression of {} for '{subject}' {what}",
            s.line, s.check
        )?;
    }
    if report.totals.decisions.is_some() {
        tell_suppressed(&mut err, report)?;
    }
    if let Some(fixed) = &report.fixed {
        tell_fixed(&mut err, fixed)?;
    }
    same(&mut err, report, verbose)
}

/// [`tell`] for what shows no report of its own: warnings, sources that failed, what could not be read.
pub(super) fn tell_reads(report: &Report, verdict: &Verdict, quiet: bool, verbose: bool) -> Result<()> {
    let mut err = io::stderr().lock();
    for line in &verdict.lines {
        writeln!(err, "gpuwaste: {}", plain(line))?;
    }
    let kinds = same_gaps(report).len() as u64;
    if quiet || kinds == 0 {
        return Ok(());
    }
    if verbose {
        return same(&mut err, report, true);
    }
    let gaps = text::plural(kinds, "gap");
    Ok(writeln!(
        err,
        "gpuwaste: not read: {gaps}; -v lists them, 'gpuwaste doctor' says how to mend them"
    )?)
}

/// Gaps of what belongs to no report.
pub(super) fn gaps(gaps: &[Gap]) -> Result<()> {
    let mut err = io::stderr().lock();
    for gap in gaps {
        let line = format!(
            "not read: {}: {} ({}); {}",
            gap.source, gap.what, gap.reason, gap.remedy
        );
        writeln!(err, "gpuwaste: {}", plain(&line))?;
    }
    Ok(())
}

/// Snapshots of a folder or a store that could not be read, where there is no report that tells it; the exit code of that.
pub(super) fn lost(lost: &[Lost]) -> Result<ExitCode> {
    let mut err = io::stderr().lock();
    for one in lost {
        let line = format!("not read: {}: {}", one.name, one.reason());
        unless_closed(writeln!(err, "gpuwaste: {}", plain(&line)).map_err(Into::into))?;
    }
    Ok(ExitCode::from(if lost.is_empty() { 0 } else { 3 }))
}

/// Suppressions go on working; with a ledger they can become decisions, which expire and are counted.
fn tell_suppressed(err: &mut impl Write, report: &Report) -> Result<()> {
    let suppressed: Vec<_> = report
        .findings
        .iter()
        .filter(|f| f.status == Status::Suppressed)
        .collect();
    if let Some(first) = suppressed.first() {
        let count = text::plural(suppressed.len() as u64, "finding");
        writeln!(
            err,
            "gpuwaste: {count} suppressed by the policy or an annotation, in no total; 'gpuwaste decide {} dismiss --reason …' makes one a decision, which is counted and expires",
            first.id
        )?;
    }
    Ok(())
}

fn tell_fixed(err: &mut impl Write, fixed: &[Fixed]) -> Result<()> {
    for line in lines::gone(fixed) {
        writeln!(err, "gpuwaste: gone since the baseline, {line}")?;
    }
    let unknown: Vec<&Fixed> = fixed.iter().filter(|f| f.not_assessed.is_some()).collect();
    if !unknown.is_empty() {
        let priced = unknown.iter().any(|f| f.usd_per_hour.is_some());
        let held = sum_known(unknown.iter().map(|f| f.usd_per_hour));
        let held = text::known(priced.then_some(held));
        writeln!(
            err,
            "gpuwaste: {} findings of the baseline ({held}) could not be judged this time",
            unknown.len()
        )?;
    }
    Ok(())
}

/// One line a kind of gap, however many sources have it.
fn same(err: &mut impl Write, report: &Report, all: bool) -> Result<()> {
    let same = same_gaps(report);
    let shown = if all { same.len() } else { GAPS };
    for gap in same.iter().take(shown) {
        let line = format!(
            "not read: {}: {} ({}); {}",
            gap.sources, gap.what, gap.reason, gap.remedy
        );
        writeln!(err, "gpuwaste: {}", plain(&line))?;
    }
    if same.len() > shown {
        writeln!(err, "gpuwaste: … and {} more gaps (-v lists all)", same.len() - shown)?;
    }
    Ok(())
}
