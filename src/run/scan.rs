//! scan, collect, doctor.

use super::{group, ignored, output, policy, slips, snapshot_file, source};
use crate::analyze::{self, Context as CheckContext, Expected};
use crate::cli::{CollectArgs, RankArg, ReportArgs, ScanArgs, SourceArgs};
use crate::collect::input;
use crate::judge::{self, Case};
use crate::plan;
use crate::report::Format;
use crate::report::document::PlanBrief;
use crate::report::rows::GroupBy;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::verdict::{Baseline, Decisions};
use anyhow::{Context, Result, anyhow, bail};
use gpuwaste_decisions::record::Record;
use gpuwaste_decisions::standing::Standing;
use gpuwaste_decisions::store::Folder;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn scan(args: &ScanArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        super::dry_run::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let outputs = output::parse(&args.report)?;
    let (settings, record) = policy::settings(&args.report)?;
    if args.print_policy {
        return super::print(crate::settings::print(&settings));
    }
    if args.list {
        return super::view::listed(&args.source, &args.report.judge, settings, args.report.color);
    }
    let known = args.report.baseline.as_deref().map(baseline).transpose()?;
    let group_by = group_by(&args.report, &outputs)?;
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
        record,
        expected: Expected::default(),
        asked: Some(&args.source),
    };
    judged.conclude(&outputs, &args.report, args.source.quiet, args.source.verbose)
}

/// `--group-by`; a sheet bills somebody: owners, where nothing else is said.
pub(super) fn group_by(args: &ReportArgs, outputs: &[(Format, Option<PathBuf>)]) -> Result<Option<GroupBy>> {
    let named = args.group_by.as_deref().map(group::parse).transpose()?;
    let bills = outputs.iter().any(|(f, _)| *f == Format::Chargeback);
    Ok(named.or_else(|| bills.then_some(GroupBy::Owner)))
}

/// `--check` and `--skip`.
pub(super) fn wanted(id: &str, args: &ReportArgs, settings: &Settings) -> bool {
    (args.check.is_empty() || args.check.iter().any(|c| c == id)) && !settings.skip.iter().any(|c| c == id)
}

/// What is judged, and by what.
pub(super) struct Judged<'a> {
    pub(super) snapshot: Snapshot,
    pub(super) settings: Settings,
    pub(super) group_by: Option<GroupBy>,
    pub(super) baseline: Option<Baseline>,
    /// Of other fleets' decisions (`--learned`).
    pub(super) record: Record,
    pub(super) expected: Expected,
    /// Which fleet was asked for; `None`: manifests.
    pub(super) asked: Option<&'a SourceArgs>,
}

impl Judged<'_> {
    /// The one way to a report, wherever it goes, and to the exit code: that is the verdict's, whoever reads the report.
    pub(super) fn conclude(
        mut self,
        outputs: &[(Format, Option<PathBuf>)],
        args: &ReportArgs,
        quiet: bool,
        verbose: bool,
    ) -> Result<ExitCode> {
        let gaps = policy::models(args.judge.models.as_deref(), &mut self.settings)?;
        self.snapshot.gaps.extend(gaps);
        let at = self.snapshot.taken_at;
        let decisions = args
            .ledger
            .as_deref()
            .map(|folder| ledger(folder, &self.record, at))
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
        let (mut report, mut verdict) = case.judge();
        if let Some(brief) = plan::brief(&self.snapshot, &fleet, &report) {
            report.totals.now_after_plan_usd_per_hour = Some(brief.now_after_plan);
            // What it frees is told of as a part of what was found: without that check it is none.
            let found = wanted("dark-capacity", args, &self.settings);
            let told = found && brief.moves > 0 && brief.turned.is_positive();
            report.plan = told.then_some(PlanBrief {
                moves: brief.moves,
                usd_per_hour: brief.turned,
            });
        }
        if args.rank == RankArg::Expected {
            crate::report::rank_by_expected(&mut report);
        }
        let mut doubts = self.asked.map(|a| ignored::doubts(a, &fleet)).unwrap_or_default();
        doubts.extend(self.group_by.as_ref().and_then(|by| group::doubt(by, &report)));
        ignored::apply(&mut verdict, &mut report, doubts);
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
pub(super) fn keep_labels(settings: &Settings, group_by: Option<&GroupBy>) -> Vec<String> {
    let mut keep = settings.owner_labels.clone();
    keep.extend(group_by.and_then(|by| by.labels(&[])).unwrap_or_default());
    keep
}

/// What was decided, with the record of what became of it as of the snapshot.
fn ledger(path: &Path, others: &Record, at: jiff::Timestamp) -> Result<Standing> {
    let book = Folder::new(path).read().map_err(|why| anyhow!(why))?;
    Ok(Standing::new(book, others, at))
}

pub(super) fn baseline(path: &Path) -> Result<Baseline> {
    let name = path.display();
    let bytes = input::named(path, input::PRINTED)
        .with_context(|| format!("could not read the baseline {name} (--write-baseline {name} writes one)"))?;
    if let Some(what) = slips::instead(&bytes) {
        bail!("baseline {name}: {what}");
    }
    let text = String::from_utf8_lossy(slips::without_mark(&bytes)).into_owned();
    if slips::document(text.as_bytes()) == slips::Document::Snapshot {
        bail!(
            "baseline {name}: it is a snapshot, not a baseline: 'gpuwaste scan --snapshot {name} --write-baseline FILE' makes one of it"
        );
    }
    Baseline::parse(&text).map_err(|why| anyhow!("baseline {name}: {why}"))
}

pub(super) fn collect(args: &CollectArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        super::dry_run::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let limits = policy::file(args.policy.as_deref())?.thresholds.bin_limits();
    let snapshot = source::snapshot(&args.source, Vec::new(), limits)?;
    snapshot_file::write(&snapshot, &args.output)?;
    if !args.source.quiet {
        output::gaps(&snapshot.gaps)?;
    }
    let failed = snapshot
        .sources
        .iter()
        .any(|s| s.named && s.status == crate::snapshot::SourceStatus::Failed);
    Ok(ExitCode::from(if failed { 3 } else { 0 }))
}
