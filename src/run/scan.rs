//! scan, collect, doctor.

use super::{output, policy, snapshot_file, source};
use crate::analyze::{self, Context as CheckContext};
use crate::cli::{CollectArgs, ReportArgs, ScanArgs};
use crate::collect;
use crate::judge::{self, Case};
use crate::report::Format;
use crate::report::rows::GroupBy;
use crate::settings::Settings;
use crate::verdict::Baseline;
use anyhow::{Context, Result, anyhow};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn scan(args: &ScanArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        source::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let outputs = output::parse(&args.report)?;
    let mut settings = policy::settings(&args.report)?;
    if args.print_policy {
        return super::print(crate::settings::print(&settings));
    }
    let known = args.report.baseline.as_deref().map(baseline).transpose()?;
    let group_by: Option<GroupBy> = args.report.group_by.as_deref().and_then(|g| g.parse().ok());
    let mut snapshot = source::snapshot(
        &args.source,
        keep_labels(&settings, group_by.as_ref()),
        settings.thresholds.bin_limits(),
    )?;
    if let Some(folder) = &args.report.models {
        let (book, gaps) = collect::models::read(folder)?;
        settings.models = book;
        snapshot.gaps.extend(gaps);
    }
    let fleet = judge::join(&snapshot, &settings);
    let outcomes = analyze::run(&CheckContext::new(&fleet, &settings), |id| {
        wanted(id, &args.report, &settings)
    });
    let case = Case {
        snapshot: &snapshot,
        fleet: &fleet,
        outcomes: &outcomes,
        settings: &settings,
        group_by: group_by.as_ref(),
        baseline: known.as_ref(),
    };
    conclude(&case, &outputs, &args.report, args.source.quiet, args.source.verbose)
}

/// `--check` and `--skip`.
pub(super) fn wanted(id: &str, args: &ReportArgs, settings: &Settings) -> bool {
    (args.check.is_empty() || args.check.iter().any(|c| c == id)) && !settings.skip.iter().any(|c| c == id)
}

/// The report, wherever it goes, and the exit code.
pub(super) fn conclude(
    case: &Case<'_>,
    outputs: &[(Format, Option<PathBuf>)],
    args: &ReportArgs,
    quiet: bool,
    verbose: bool,
) -> Result<ExitCode> {
    let (report, verdict) = case.judge();
    output::write(&report, outputs, args)?;
    if let Some(path) = &args.write_baseline {
        let text = Baseline::of(&report).to_json()?;
        std::fs::write(path, text).with_context(|| format!("could not write the baseline {}", path.display()))?;
    }
    output::tell(&report, &verdict, outputs, quiet, verbose)?;
    Ok(ExitCode::from(verdict.code))
}

/// Labels that the snapshot must keep beside its own list.
fn keep_labels(settings: &Settings, group_by: Option<&GroupBy>) -> Vec<String> {
    let mut keep = settings.owner_labels.clone();
    if let Some(GroupBy::Label(label)) = group_by {
        keep.push(label.clone());
    }
    keep
}

pub(super) fn baseline(path: &Path) -> Result<Baseline> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("could not read the baseline {name} (--write-baseline {name} writes one)"))?;
    Baseline::parse(&text).map_err(|why| anyhow!("baseline {name}: {why}"))
}

pub(super) fn collect(args: &CollectArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        source::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let limits = policy::file(args.policy.as_deref())?.thresholds.bin_limits();
    let snapshot = source::snapshot(&args.source, Vec::new(), limits)?;
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
