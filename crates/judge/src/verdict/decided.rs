//! Decisions of a ledger, over a finished report: they put a state on each finding and take it out of the gates that count
//! what is undecided. They move no money, and nothing leaves the totals.

use crate::report::decision::{self, Decision, DecisionState};
use crate::report::document::{Gate, Report, ReportFinding};
use crate::report::ledger::Ledger;
use crate::units::{UsdPerHour, sum_known};

/// What a ledger of decisions knows.
pub trait Decisions {
    /// What stands about this finding on the day of the report. `listed`: `None` where all its money is in findings of a higher
    /// rank.
    fn of(&self, id: &str, listed: Option<&ReportFinding>, report: &Report) -> Decision;

    /// Why findings of this check and part are estimated at best: too many of them were wrong.
    fn cap(&self, _check: &str, _part: Option<&str>) -> Option<String> {
        None
    }

    /// What became of findings like this one: for people, and which share of what was said was saved.
    fn record(&self, _finding: &ReportFinding) -> Option<(String, Option<f64>)> {
        None
    }
}

/// Writes states, records and the money of each state into the report. The states are those of all findings of the ledger,
/// listed or not.
pub fn apply(report: &mut Report, ledger: &Ledger<'_>, decisions: &dyn Decisions) -> Vec<DecisionState> {
    let found: Vec<Decision> = report
        .findings
        .iter()
        .map(|f| decisions.of(&f.id, Some(f), report))
        .collect();
    for (finding, decision) in report.findings.iter_mut().zip(found) {
        if let Some((record, share)) = decisions.record(finding) {
            finding.record = Some(record);
            // Never more than was found: a good record makes no money.
            finding.expected_usd_per_hour = share
                .zip(finding.waste_usd_per_hour)
                .map(|(share, waste)| waste.scale(share.clamp(0.0, 1.0)));
        }
        finding.decision = Some(decision);
    }
    report.totals.decisions = Some(decision::add_up(&report.findings));
    let listed: std::collections::BTreeMap<&str, DecisionState> = report
        .findings
        .iter()
        .map(|f| (f.id.as_str(), f.decision.as_ref().map(|d| d.state).unwrap_or_default()))
        .collect();
    ledger
        .ids
        .iter()
        .map(|id| {
            let state = listed.get(id.as_str()).copied();
            state.unwrap_or_else(|| decisions.of(id, None, report).state)
        })
        .collect()
}

/// The gate on what is hidden: snoozed and dismissed, waste and at-risk money, however sure.
pub(super) fn gate(report: &Report, max: f64, lines: &mut Vec<String>) -> Gate {
    let name = "max-dismissed";
    let actual = report.totals.decisions.is_some().then(|| {
        let hidden = report.findings.iter().filter(|f| decision::is_hidden(f));
        let money = |f: &ReportFinding| f.waste_usd_per_hour.or(f.at_risk_usd_per_hour);
        sum_known(hidden.map(money)).usd()
    });
    let breached = actual.is_some_and(|a| a > max);
    let uncomputed = "it could not be computed: no ledger of decisions was given (--ledger DIR)";
    match actual {
        None => lines.push(format!("gate {name} gives no verdict: {uncomputed}")),
        Some(actual) if breached => {
            lines.push(format!(
                "gate {name}: ${actual:.2}/h is over the limit of ${max:.2}/h by ${:.2}/h",
                actual - max
            ));
            let hidden = report.findings.iter().filter(|f| decision::is_hidden(f));
            lines.extend(hidden.take(5).map(|f| {
                let why = f.decision.as_ref().map(Decision::justification).unwrap_or_default();
                let usd = f.usd_per_hour.map(crate::report::text::money).unwrap_or_default();
                format!("  {usd:>12}  {} ({why})  [{}]", crate::report::plain_title(f), f.id)
            }));
        }
        Some(_) => {}
    }
    Gate {
        name: name.into(),
        confidence: None,
        limit: max,
        actual,
        breached,
        undecided: actual.is_none(),
        undecided_because: actual.is_none().then(|| uncomputed.to_owned()),
        left_out_usd_per_hour: None,
    }
}

/// Says that a gate held only because of what was decided.
pub(super) fn only_by_decision(name: &str, counted: UsdPerHour, all: UsdPerHour, limit: &str) -> String {
    format!(
        "gate {name} is not breached only because findings with a decision for {} are not counted: with them it is over the limit of {limit}; --max-dismissed limits what may be hidden",
        crate::report::text::money(all - counted)
    )
}
