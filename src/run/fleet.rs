//! A fleet that is read and judged by the settings alone, without gates, baseline or decisions: for the commands that show what is
//! there or what was found.

use super::{ignored, output, policy, source};
use crate::cli::{JudgeArgs, SourceArgs};
use crate::judge::fleet::Fleet;
use crate::judge::{self, report_on};
use crate::report::document::Report;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::verdict::Verdict;
use anyhow::Result;
use std::process::ExitCode;

pub(super) struct Read {
    pub(super) snapshot: Snapshot,
    settings: Settings,
}

pub(super) struct Judged {
    pub(super) fleet: Fleet,
    pub(super) report: Report,
    pub(super) verdict: Verdict,
}

impl Read {
    pub(super) fn of(from: &SourceArgs, by: &JudgeArgs) -> Result<Self> {
        Self::by(from, policy::judge(by)?, by)
    }

    /// By settings that were made before.
    pub(super) fn by(from: &SourceArgs, mut settings: Settings, by: &JudgeArgs) -> Result<Self> {
        let keep = settings.owner_labels.clone();
        let mut snapshot = source::snapshot(from, keep, settings.thresholds.bin_limits())?;
        snapshot
            .gaps
            .extend(policy::models(by.models.as_deref(), &mut settings)?);
        settings.gates = crate::settings::Gates::default();
        Ok(Self { snapshot, settings })
    }

    pub(super) fn judged(&self) -> Judged {
        let fleet = judge::join(&self.snapshot, &self.settings);
        let (report, verdict) = report_on(&self.snapshot, &fleet, &self.settings);
        Judged { fleet, report, verdict }
    }
}

impl Judged {
    /// What was not read and what was asked for in vain, on stderr; the exit code is 3 where a source that was named failed.
    pub(super) fn tell(&mut self, from: &SourceArgs) -> Result<ExitCode> {
        let doubts = ignored::doubts(from, &self.fleet);
        ignored::apply(&mut self.verdict, &mut self.report, doubts);
        output::unless_closed(output::tell_reads(
            &self.report,
            &self.verdict,
            from.quiet,
            from.verbose,
        ))?;
        Ok(ExitCode::from(self.verdict.code))
    }
}
