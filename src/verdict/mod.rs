//! Gates and exit codes, over a finished report (R8).

use crate::analyze::finding::{Confidence, FindingKind};
use crate::report::document::{Gate, Report, Status};
use crate::report::ledger::Ledger;
use crate::snapshot::SourceStatus;
use crate::units::UsdPerHour;

/// What the user asked to be failed for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// USD per hour.
    pub(crate) max_waste: Option<f64>,
    /// Of priced spend.
    pub(crate) max_waste_percent: Option<f64>,
    pub(crate) max_at_risk: Option<f64>,
    /// Percent; 80 as soon as any other gate is given.
    pub(crate) min_coverage: Option<f64>,
    /// Findings under this confidence do not count.
    pub(crate) confidence: Option<Confidence>,
}

/// Default coverage that a verdict needs (interface contract).
const DEFAULT_COVERAGE: f64 = 80.0;

impl Limits {
    fn any(&self) -> bool {
        self.max_waste.is_some()
            || self.max_waste_percent.is_some()
            || self.max_at_risk.is_some()
            || self.min_coverage.is_some()
    }
}

/// What the scan ends with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) code: u8,
    /// For stderr: which gate, by how much, the findings that did it, what was left out.
    pub(crate) lines: Vec<String>,
}

/// Judges the report and writes the gates into it.
pub(crate) fn judge(report: &mut Report, ledger: &Ledger<'_>, limits: &Limits) -> Verdict {
    let level = limits.confidence.unwrap_or(Confidence::Measured);
    let (waste, at_risk) = counted(ledger, Some(level));
    let (all_waste, all_at_risk) = counted(ledger, None);
    let spend = report.totals.spend_usd_per_hour;
    let mut verdict = Verdict::default();
    let mut gate = |name: &str, limit: Option<f64>, actual: Option<f64>, left_out: UsdPerHour| {
        if let Some(limit) = limit {
            let breached = actual.is_some_and(|a| a > limit);
            report.gates.push(Gate {
                name: name.into(),
                limit,
                actual,
                breached,
                left_out_usd_per_hour: left_out,
            });
        }
    };
    gate("max-waste", limits.max_waste, Some(waste.usd()), all_waste - waste);
    let percent = |w: UsdPerHour| spend.is_positive().then(|| w.usd() / spend.usd() * 100.0);
    gate(
        "max-waste-percent",
        limits.max_waste_percent,
        percent(waste),
        all_waste - waste,
    );
    gate(
        "max-at-risk",
        limits.max_at_risk,
        Some(at_risk.usd()),
        all_at_risk - at_risk,
    );
    for gate in &report.gates {
        explain_gate(report, gate, level, &mut verdict.lines);
    }
    let needed = limits.min_coverage.or(limits.any().then_some(DEFAULT_COVERAGE));
    let mut short = false;
    if let Some(needed) = needed {
        // Unreadable nodes: coverage is unknown, so no verdict can be given.
        short = report.totals.coverage_percent.is_none_or(|c| c < needed);
        if short {
            let actual = report
                .totals
                .coverage_percent
                .map_or_else(|| "unknown".to_string(), |c| format!("{c:.1} %"));
            verdict.lines.push(format!(
                "coverage is {actual}, under --min-coverage {needed}: too little could be read for a verdict"
            ));
        }
    }
    let failed: Vec<&str> = report
        .sources
        .iter()
        .filter(|s| s.named && s.status == SourceStatus::Failed)
        .map(|s| s.name.as_str())
        .collect();
    for name in &failed {
        verdict
            .lines
            .push(format!("source '{name}' was named and could not be read"));
    }
    verdict.code = if report.gates.iter().any(|g| g.breached) {
        1
    } else if short || !failed.is_empty() {
        3
    } else {
        0
    };
    verdict
}

/// Waste and money at risk of findings at or above a confidence, with claims resolved among just those (R8).
fn counted(ledger: &Ledger<'_>, level: Option<Confidence>) -> (UsdPerHour, UsdPerHour) {
    let counts = |i: usize| {
        let finding = ledger.findings[i];
        finding.ignored.is_none() && level.is_none_or(|l| finding.confidence >= l)
    };
    let resolution = ledger.resolve(|i| counts(i).then_some(0));
    let sum = |kind: FindingKind| {
        crate::units::sum_known(
            (0..ledger.findings.len())
                .filter(|i| ledger.findings[*i].kind == kind && counts(*i))
                .map(|i| resolution.findings[i].usd_per_hour),
        )
    };
    (sum(FindingKind::Recoverable), sum(FindingKind::AtRisk))
}

fn explain_gate(report: &Report, gate: &Gate, level: Confidence, lines: &mut Vec<String>) {
    let unit = if gate.name.ends_with("percent") { "%" } else { "$/h" };
    match gate.actual {
        None => lines.push(format!("gate {}: could not be computed, no price is known", gate.name)),
        Some(actual) if gate.breached => {
            lines.push(format!(
                "gate {}: {actual:.2} {unit} is over the limit of {:.2} by {:.2}",
                gate.name,
                gate.limit,
                actual - gate.limit
            ));
            let kind = if gate.name == "max-at-risk" {
                FindingKind::AtRisk
            } else {
                FindingKind::Recoverable
            };
            for finding in report
                .findings
                .iter()
                .filter(|f| f.kind == kind && f.status == Status::New && f.confidence >= level)
                .take(5)
            {
                lines.push(format!(
                    "  {:>10}  {}",
                    finding.usd_per_hour.map_or_else(|| "–".into(), |u| u.to_string()),
                    crate::report::plain_title(finding)
                ));
            }
        }
        Some(_) => {}
    }
    if !gate.breached && gate.left_out_usd_per_hour.is_positive() {
        lines.push(format!(
            "gate {} passed without {} of findings less sure than '{}': --gate-confidence estimated counts them",
            gate.name,
            gate.left_out_usd_per_hour,
            level.name()
        ));
    }
}
