//! scan, collect, doctor.

use super::{output, policy, snapshot_file, source};
use crate::analyze::{self, Context as CheckContext, Expected};
use crate::cli::{CollectArgs, RankArg, ReportArgs, ScanArgs};
use crate::collect;
use crate::judge::{self, Case};
use crate::plan;
use crate::report::Format;
use crate::report::document::PlanBrief;
use crate::report::rows::GroupBy;
use crate::report::text::plain;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::verdict::{Baseline, Decisions};
use anyhow::{Context, Result, anyhow};
use gpuwaste_decisions::standing::Standing;
use gpuwaste_decisions::store::Folder;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn scan(args: &ScanArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        source::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let outputs = output::parse(&args.report)?;
    let settings = policy::settings(&args.report)?;
    if args.print_policy {
        return super::print(crate::settings::print(&settings));
    }
    if args.list {
        let models = args.report.models.as_deref();
        return super::view::listed(&args.source, models, settings, args.report.color);
    }
    let known = args.report.baseline.as_deref().map(baseline).transpose()?;
    let group_by: Option<GroupBy> = args.report.group_by.as_deref().and_then(|g| g.parse().ok());
    let snapshot = source::snapshot(
        &args.source,
        keep_labels(&settings, group_by.as_ref()),
        settings.thresholds.bin_limits(),
    )?;
    let judged = Judged {
        snapshot,
        settings,
        group_by,
        baseline: known,
        expected: Expected::default(),
    };
    judged.conclude(&outputs, &args.report, args.source.quiet, args.source.verbose)
}

/// `--check` and `--skip`.
fn wanted(id: &str, args: &ReportArgs, settings: &Settings) -> bool {
    (args.check.is_empty() || args.check.iter().any(|c| c == id)) && !settings.skip.iter().any(|c| c == id)
}

/// What is judged, and by what.
pub(super) struct Judged {
    pub(super) snapshot: Snapshot,
    pub(super) settings: Settings,
    pub(super) group_by: Option<GroupBy>,
    pub(super) baseline: Option<Baseline>,
    pub(super) expected: Expected,
}

impl Judged {
    /// The one way to a report, wherever it goes, and to the exit code: that is the verdict's, whoever reads the report.
    pub(super) fn conclude(
        mut self,
        outputs: &[(Format, Option<PathBuf>)],
        args: &ReportArgs,
        quiet: bool,
        verbose: bool,
    ) -> Result<ExitCode> {
        if let Some(folder) = &args.models {
            let (book, gaps) = collect::models::read(folder)?;
            self.settings.models = book;
            self.snapshot.gaps.extend(gaps);
        }
        let at = self.snapshot.taken_at;
        let decisions = args
            .ledger
            .as_deref()
            .map(|folder| ledger(folder, args, at))
            .transpose()?;
        let fleet = judge::join(&self.snapshot, &self.settings);
        let context = CheckContext::new(&fleet, &self.settings).expecting(self.expected);
        let outcomes = analyze::run(&context, |id| wanted(id, args, &self.settings));
        let case = Case {
            snapshot: &self.snapshot,
            fleet: &fleet,
            outcomes: &outcomes,
            settings: &self.settings,
            group_by: self.group_by.as_ref(),
            baseline: self.baseline.as_ref(),
            decisions: decisions.as_ref().map(|d| d as &dyn Decisions),
        };
        let (mut report, verdict) = case.judge();
        if let Some(brief) = plan::brief(&self.snapshot, &fleet, &report) {
            report.totals.now_after_plan_usd_per_hour = Some(brief.now_after_plan);
            report.plan = brief.turned.is_positive().then_some(PlanBrief {
                moves: brief.moves,
                usd_per_hour: brief.turned,
            });
        }
        if args.rank == RankArg::Expected {
            crate::report::rank_by_expected(&mut report);
        }
        output::write(&report, outputs, args, verbose)?;
        if let Some(path) = &args.write_baseline {
            let text = Baseline::of(&report).to_json()?;
            std::fs::write(path, text).with_context(|| format!("could not write the baseline {}", path.display()))?;
        }
        output::unless_closed(output::tell(&report, &verdict, outputs, quiet, verbose))?;
        Ok(ExitCode::from(verdict.code))
    }
}

/// Labels that the snapshot must keep beside its own list.
fn keep_labels(settings: &Settings, group_by: Option<&GroupBy>) -> Vec<String> {
    let mut keep = settings.owner_labels.clone();
    if let Some(GroupBy::Label(label)) = group_by {
        keep.push(label.clone());
    }
    keep
}

/// What was decided, with the record of what became of it as of the snapshot.
fn ledger(path: &Path, args: &ReportArgs, at: jiff::Timestamp) -> Result<Standing> {
    let book = Folder::new(path).read().map_err(|why| anyhow!(why))?;
    Ok(Standing::new(book, &super::learned::read(&args.learned)?, at))
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
            "gpuwaste: not read: {}",
            plain(&format!(
                "{}: {} ({}); {}",
                gap.source, gap.what, gap.reason, gap.remedy
            ))
        )?;
    }
    let failed = snapshot
        .sources
        .iter()
        .any(|s| s.named && s.status == crate::snapshot::SourceStatus::Failed);
    Ok(ExitCode::from(if failed { 3 } else { 0 }))
}
