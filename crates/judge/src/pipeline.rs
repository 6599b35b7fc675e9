//! The one way from a snapshot to a report and its verdict, whatever the snapshot was made of.

use crate::analyze::{self, Context, Outcome};
use crate::catalog::prices::PriceBook;
use crate::fleet::{self, Fleet};
use crate::report::document::{PolicyUse, Report};
use crate::report::ledger::Ledger;
use crate::report::rows::GroupBy;
use crate::report::{self, Input};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::verdict::{self, Baseline, Decisions, Verdict};

/// What the snapshot means, with the prices of the settings.
pub fn join(snapshot: &Snapshot, settings: &Settings) -> Fleet {
    let prices = PriceBook {
        entries: settings.prices.clone(),
        bill: settings.bill.clone(),
    };
    fleet::join(snapshot, &prices, settings)
}

/// A snapshot's report by the settings alone: no baseline, no decisions, nothing grouped.
pub fn report_of(snapshot: &Snapshot, settings: &Settings) -> Report {
    report_on(snapshot, &join(snapshot, settings), settings).0
}

/// [`report_of`] of a fleet that is joined already, with its verdict.
pub fn report_on(snapshot: &Snapshot, fleet: &Fleet, settings: &Settings) -> (Report, Verdict) {
    let outcomes = analyze::run(&Context::new(fleet, settings), |id| {
        !settings.skip.iter().any(|c| c == id)
    });
    let case = Case {
        snapshot,
        fleet,
        outcomes: &outcomes,
        settings,
        group_by: None,
        baseline: None,
        decisions: None,
    };
    case.judge()
}

/// What is judged, and by what.
pub struct Case<'a> {
    pub snapshot: &'a Snapshot,
    pub fleet: &'a Fleet,
    pub outcomes: &'a [(&'static str, Outcome)],
    pub settings: &'a Settings,
    pub group_by: Option<&'a GroupBy>,
    pub baseline: Option<&'a Baseline>,
    pub decisions: Option<&'a dyn Decisions>,
}

impl Case<'_> {
    /// Ranks, suppresses, compares with the baseline, and asks the gates.
    pub fn judge(&self) -> (Report, Verdict) {
        let mut ledger = Ledger::new(self.fleet, self.outcomes);
        if let Some(decisions) = self.decisions {
            let cap = |f: &&analyze::finding::Finding| decisions.cap(f.check, f.part);
            ledger.caps = ledger.findings.iter().map(cap).collect();
        }
        let ledger = ledger;
        let ran = |check: &str| {
            let id = check.split('/').next().unwrap_or(check);
            self.outcomes.iter().any(|(known, _)| *known == id)
                || (id == "all" && self.outcomes.len() == analyze::CHECKS.len())
        };
        let suppressed = verdict::suppress(&ledger, self.settings, ran);
        let input = Input {
            outcomes: self.outcomes,
            sources: &self.snapshot.sources,
            gaps: &self.snapshot.gaps,
            group_by: self.group_by,
            suppressed: &suppressed.reasons,
            policy: PolicyUse {
                file: self.settings.file.clone(),
                suppressions: suppressed.uses,
            },
            owner_labels: &self.settings.owner_labels,
        };
        let mut report = report::build(&ledger, &input);
        if let Some(baseline) = self.baseline {
            baseline.apply(&mut report, &ledger, self.outcomes, self.settings.tolerance);
        }
        let statuses = verdict::statuses(&report, &ledger, &suppressed.reasons, self.baseline);
        let decided = self.decisions.map(|d| verdict::decide(&mut report, &ledger, d));
        let verdict = verdict::judge(
            &mut report,
            &ledger,
            &statuses,
            &decided.unwrap_or_default(),
            &self.settings.gates,
            self.baseline.map(|b| (b, self.settings.tolerance)),
        );
        (report, verdict)
    }
}
