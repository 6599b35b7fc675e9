//! scan, collect, doctor.

use super::{snapshot_file, source};
use crate::analyze::finding::Confidence;
use crate::analyze::{self, Context as CheckContext, Outcome};
use crate::catalog::prices::PriceBook;
use crate::cli::{CollectArgs, ColorArg, ConfidenceArg, DoctorArgs, ScanArgs};
use crate::fleet::{self, Fleet};
use crate::report::document::Report;
use crate::report::ledger::Ledger;
use crate::report::rows::GroupBy;
use crate::report::{self, Format, Input, RenderOptions};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::verdict::{self, Limits, Verdict};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Findings in a table unless `--top` says otherwise.
const TOP: usize = 20;
/// Columns where there is no terminal.
const PIPE_WIDTH: usize = 120;

pub(super) fn scan(args: &ScanArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        source::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let outputs = outputs(args)?;
    checks_exist(args.check.iter().chain(&args.skip))?;
    let prices = prices(args)?;
    let group_by: Option<GroupBy> = args.group_by.as_deref().and_then(|g| g.parse().ok());
    let keep = match &group_by {
        Some(GroupBy::Label(label)) => vec![label.clone()],
        _ => Vec::new(),
    };
    let snapshot = source::snapshot(&args.source, keep)?;
    let settings = Settings::default();
    let fleet = fleet::join(&snapshot, &prices, &settings);
    let wanted =
        |id: &str| (args.check.is_empty() || args.check.iter().any(|c| c == id)) && !args.skip.iter().any(|c| c == id);
    let outcomes = analyze::run(
        &CheckContext {
            fleet: &fleet,
            settings: &settings,
        },
        wanted,
    );
    let (report, verdict) = judge(&snapshot, &fleet, &outcomes, group_by.as_ref(), &limits(args));
    write(&report, &outputs, args)?;
    tell(&report, &verdict, args)?;
    Ok(ExitCode::from(verdict.code))
}

fn judge(
    snapshot: &Snapshot,
    fleet: &Fleet,
    outcomes: &[(&'static str, Outcome)],
    group_by: Option<&GroupBy>,
    limits: &Limits,
) -> (Report, Verdict) {
    let ledger = Ledger::new(fleet, outcomes);
    let suppressed: Vec<bool> = ledger.findings.iter().map(|f| f.ignored.is_some()).collect();
    let input = Input {
        outcomes,
        sources: &snapshot.sources,
        gaps: &snapshot.gaps,
        group_by,
        suppressed: &suppressed,
    };
    let mut report = report::build(&ledger, &input);
    let verdict = verdict::judge(&mut report, &ledger, limits);
    (report, verdict)
}

fn limits(args: &ScanArgs) -> Limits {
    Limits {
        max_waste: args.max_waste,
        max_waste_percent: args.max_waste_percent,
        max_at_risk: args.max_at_risk,
        min_coverage: args.min_coverage,
        confidence: args.gate_confidence.map(|c| match c {
            ConfidenceArg::Measured => Confidence::Measured,
            ConfidenceArg::Estimated => Confidence::Estimated,
            ConfidenceArg::Assumed => Confidence::Assumed,
        }),
    }
}

fn prices(args: &ScanArgs) -> Result<PriceBook> {
    let Some(path) = &args.prices else {
        return Ok(PriceBook::default());
    };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("could not read the price file {}", path.display()))?;
    PriceBook::parse(&text).map_err(|why| anyhow::anyhow!("price file {}, {why}", path.display()))
}

fn checks_exist<'a>(names: impl Iterator<Item = &'a String>) -> Result<()> {
    for name in names {
        if !analyze::CHECKS.iter().any(|c| c.id() == name) {
            let known: Vec<&str> = analyze::CHECKS.iter().map(|c| c.id()).collect();
            let near = known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)))
                .copied()
                .unwrap_or_default();
            bail!(
                "there is no check '{name}': did you mean '{near}'? Known are {}",
                known.join(", ")
            );
        }
    }
    Ok(())
}

/// FORMAT or FORMAT=FILE; at most one goes to stdout.
fn outputs(args: &ScanArgs) -> Result<Vec<(Format, Option<PathBuf>)>> {
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
        if file.is_none() && outputs.iter().any(|(_, f)| f.is_none()) {
            bail!("two formats for stdout: give all but one a file (--format json=report.json)");
        }
        outputs.push((format, file));
    }
    Ok(outputs)
}

fn write(report: &Report, outputs: &[(Format, Option<PathBuf>)], args: &ScanArgs) -> Result<()> {
    let terminal = io::stdout().is_terminal();
    let width = terminal_size::terminal_size()
        .filter(|_| terminal)
        .map(|(w, _)| usize::from(w.0))
        .or_else(|| std::env::var("COLUMNS").ok()?.parse().ok());
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let color = match args.color {
        ColorArg::Always => true,
        ColorArg::Never => false,
        ColorArg::Auto => terminal && !no_color,
    };
    let options = RenderOptions {
        width: width.unwrap_or(PIPE_WIDTH).clamp(60, 240),
        color,
        top: args.top.unwrap_or(TOP),
    };
    for (format, file) in outputs {
        match file {
            None => {
                let mut out = BufWriter::new(io::stdout().lock());
                format.render(report, &options, &mut out)?;
                out.flush()?;
            }
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

/// Gates, and gaps where stdout is not the table that shows them.
fn tell(report: &Report, verdict: &Verdict, args: &ScanArgs) -> Result<()> {
    let mut err = io::stderr().lock();
    for line in &verdict.lines {
        writeln!(err, "gpuwaste: {line}")?;
    }
    if !args.source.quiet {
        for gap in &report.gaps {
            writeln!(
                err,
                "gpuwaste: not read: {}: {} ({}); {}",
                gap.source, gap.what, gap.reason, gap.remedy
            )?;
        }
    }
    Ok(())
}

pub(super) fn collect(args: &CollectArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        source::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let snapshot = source::snapshot(&args.source, Vec::new())?;
    snapshot_file::write(&snapshot, &args.output)?;
    let mut err = io::stderr().lock();
    for gap in snapshot.gaps.iter().filter(|_| !args.source.quiet) {
        writeln!(
            err,
            "gpuwaste: not read: {}: {} ({}); {}",
            gap.source, gap.what, gap.reason, gap.remedy
        )?;
    }
    let failed = snapshot
        .sources
        .iter()
        .any(|s| s.named && s.status == crate::snapshot::SourceStatus::Failed);
    Ok(ExitCode::from(if failed { 3 } else { 0 }))
}

/// What could be read, and what each check lacks.
pub(super) fn doctor(args: &DoctorArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        source::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let snapshot = source::snapshot(&args.source, Vec::new())?;
    let settings = Settings::default();
    let fleet = fleet::join(&snapshot, &PriceBook::default(), &settings);
    let outcomes = analyze::run(
        &CheckContext {
            fleet: &fleet,
            settings: &settings,
        },
        |_| true,
    );
    let (report, verdict) = judge(&snapshot, &fleet, &outcomes, None, &Limits::default());
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "Sources")?;
    for source in &report.sources {
        let status = serde_json::to_value(source.status)?;
        writeln!(
            out,
            "  {:<8} {}: {}",
            status.as_str().unwrap_or_default(),
            source.name,
            source.detail
        )?;
    }
    writeln!(out, "\nNot read")?;
    if report.gaps.is_empty() {
        writeln!(out, "  nothing is missing")?;
    }
    for gap in &report.gaps {
        writeln!(
            out,
            "  {}: {} ({})\n      effect: {}\n      remedy: {}",
            gap.source, gap.what, gap.reason, gap.effect, gap.remedy
        )?;
    }
    writeln!(out, "\nChecks")?;
    for check in &report.checks {
        writeln!(out, "  {}: {} GPUs judged", check.id, check.assessed_gpus)?;
        for gap in &check.not_assessed {
            writeln!(out, "      {} GPUs not: {}; {}", gap.gpus, gap.reason, gap.remedy)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::from(verdict.code))
}
