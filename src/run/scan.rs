//! scan, collect, doctor.

use super::{output, policy, snapshot_file, source};
use crate::analyze::{self, Context as CheckContext, Outcome};
use crate::catalog::prices::PriceBook;
use crate::cli::{CollectArgs, ReportArgs, ScanArgs};
use crate::collect;
use crate::fleet::{self, Fleet};
use crate::report::document::{PolicyUse, Report};
use crate::report::ledger::Ledger;
use crate::report::rows::GroupBy;
use crate::report::{self, Format, Input};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::verdict::{self, Baseline, Verdict};
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
    let prices = PriceBook {
        entries: settings.prices.clone(),
    };
    let fleet = fleet::join(&snapshot, &prices, &settings);
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
    let (report, verdict) = judge(case);
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

/// A snapshot's report by the settings alone: no gates, no baseline.
pub(crate) fn report_of(snapshot: &Snapshot, settings: &Settings) -> Report {
    let prices = PriceBook {
        entries: settings.prices.clone(),
    };
    let fleet = fleet::join(snapshot, &prices, settings);
    let outcomes = analyze::run(&CheckContext::new(&fleet, settings), |id| {
        !settings.skip.iter().any(|c| c == id)
    });
    judge(&Case {
        snapshot,
        fleet: &fleet,
        outcomes: &outcomes,
        settings,
        group_by: None,
        baseline: None,
    })
    .0
}

/// What is judged, and by what.
pub(super) struct Case<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) fleet: &'a Fleet,
    pub(super) outcomes: &'a [(&'static str, Outcome)],
    pub(super) settings: &'a Settings,
    pub(super) group_by: Option<&'a GroupBy>,
    pub(super) baseline: Option<&'a Baseline>,
}

pub(super) fn judge(case: &Case<'_>) -> (Report, Verdict) {
    let ledger = Ledger::new(case.fleet, case.outcomes);
    let ran = |check: &str| {
        let id = check.split('/').next().unwrap_or(check);
        case.outcomes.iter().any(|(known, _)| *known == id)
            || (id == "all" && case.outcomes.len() == analyze::CHECKS.len())
    };
    let suppressed = verdict::suppress(&ledger, case.settings, ran);
    let input = Input {
        outcomes: case.outcomes,
        sources: &case.snapshot.sources,
        gaps: &case.snapshot.gaps,
        group_by: case.group_by,
        suppressed: &suppressed.reasons,
        policy: PolicyUse {
            file: case.settings.file.clone(),
            suppressions: suppressed.uses,
        },
        owner_labels: &case.settings.owner_labels,
    };
    let mut report = report::build(&ledger, &input);
    if let Some(baseline) = case.baseline {
        baseline.apply(&mut report, &ledger, case.outcomes, case.settings.tolerance);
    }
    let statuses = verdict::statuses(&report, &ledger, &suppressed.reasons, case.baseline);
    let verdict = verdict::judge(&mut report, &ledger, &statuses, &case.settings.gates);
    (report, verdict)
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
