//! Gates and exit codes (R8).

use crate::analyze::finding::{Confidence, FindingKind};
use crate::report::document::{Gate, Report, Status};
use crate::report::ledger::Ledger;
use crate::report::text::money;
use crate::settings::Gates;
use crate::snapshot::{SourceKind, SourceStatus};
use crate::units::{UsdPerHour, sum_known};

/// Default coverage that a verdict needs (interface contract).
const DEFAULT_COVERAGE: f64 = 80.0;

/// Findings named under a breached gate.
const NAMED: usize = 5;

/// What the scan ends with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub code: u8,
    /// For stderr: which gate, by how much, the findings that did it, what was left out.
    pub lines: Vec<String>,
}

/// Which findings a gate adds up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Waste,
    NewWaste,
    AtRisk,
}

/// A gate on money: its flag, its limit, what it adds up, and whether the limit is a share of spend.
struct Limit {
    name: &'static str,
    max: Option<f64>,
    counts: Counts,
    percent: bool,
}

/// Judges the report and writes the gates into it. `statuses` are those of all findings of the ledger, listed or not.
pub fn judge(report: &mut Report, ledger: &Ledger<'_>, statuses: &[Status], gates: &Gates) -> Verdict {
    let level = gates.confidence.unwrap_or(Confidence::Measured);
    let mut verdict = Verdict::default();
    let limits = [
        ("max-waste", gates.max_waste, Counts::Waste, false),
        ("max-waste-percent", gates.max_waste_percent, Counts::Waste, true),
        ("max-new-waste", gates.max_new_waste, Counts::NewWaste, false),
        ("max-at-risk", gates.max_at_risk, Counts::AtRisk, false),
    ]
    .map(|(name, max, counts, percent)| Limit {
        name,
        max,
        counts,
        percent,
    });
    let mut undecided = false;
    for limit in &limits {
        let Some(max) = limit.max else { continue };
        let gate = money_gate(report, ledger, statuses, limit, max, level, &mut verdict.lines);
        if !gate.breached {
            undecided |= in_doubt(report, ledger, limit, &gate, &mut verdict.lines);
        }
        report.gates.push(gate);
    }
    let needed = gates.min_coverage.or(gates.any().then_some(DEFAULT_COVERAGE));
    let short = needed.is_some_and(|needed| coverage_gate(report, needed, &mut verdict.lines));
    let failed: Vec<String> = report
        .sources
        .iter()
        .filter(|s| s.named && s.status == SourceStatus::Failed)
        .map(|s| format!("source '{}' was named and could not be read: {}", s.name, s.detail))
        .collect();
    let breached = report.gates.iter().any(|g| g.breached && g.name != "min-coverage");
    verdict.code = if breached {
        1
    } else if short || undecided || !failed.is_empty() {
        3
    } else {
        0
    };
    verdict.lines.extend(failed);
    verdict
}

/// True where a read that failed could have told of so much more that the gate would be breached: it gives no verdict.
fn in_doubt(report: &Report, ledger: &Ledger<'_>, limit: &Limit, gate: &Gate, lines: &mut Vec<String>) -> bool {
    let fleet = ledger.fleet;
    let lost = report.sources.iter().filter(|s| {
        let whole = matches!(s.kind, SourceKind::Kubernetes);
        whole && s.status == SourceStatus::Failed
    });
    let lost = lost.map(|s| format!("all of {}", s.name));
    if let Some(what) = fleet.uncounted.iter().cloned().chain(lost).next() {
        lines.push(format!(
            "gate {} gives no verdict: a read failed that could tell of more GPUs: {what}",
            limit.name
        ));
        return true;
    }
    let doubted: UsdPerHour = sum_known(fleet.slots.iter().filter(|s| s.doubted).map(|s| s.price));
    let more = if limit.percent {
        let spend = report.totals.spend_usd_per_hour;
        if spend.is_positive() {
            doubted.usd() / spend.usd() * 100.0
        } else {
            0.0
        }
    } else {
        doubted.usd()
    };
    let flips = doubted.is_positive() && gate.actual.unwrap_or(0.0) + more > limit.max.unwrap_or(f64::MAX);
    if flips {
        lines.push(format!(
            "gate {} gives no verdict: reads failed that could tell more of GPUs for {}, and the gaps name them",
            limit.name,
            money(doubted)
        ));
    }
    flips
}

fn money_gate(
    report: &Report,
    ledger: &Ledger<'_>,
    statuses: &[Status],
    limit: &Limit,
    max: f64,
    level: Confidence,
    lines: &mut Vec<String>,
) -> Gate {
    let spend = report.totals.spend_usd_per_hour;
    let figure = |usd: UsdPerHour| {
        if limit.percent {
            spend.is_positive().then(|| usd.usd() / spend.usd() * 100.0)
        } else {
            Some(usd.usd())
        }
    };
    let counted = sum(ledger, statuses, limit.counts, level);
    let everything = sum(ledger, statuses, limit.counts, Confidence::Assumed);
    let actual = figure(counted);
    let gate = Gate {
        name: limit.name.into(),
        limit: max,
        actual,
        breached: actual.is_some_and(|a| a > max),
        left_out_usd_per_hour: everything - counted,
    };
    let say = |value: f64| {
        if limit.percent {
            format!("{value:.1} % of spend")
        } else {
            format!("${value:.2}/h")
        }
    };
    match actual {
        None => lines.push(format!("gate {}: could not be computed, no price is known", limit.name)),
        Some(actual) if gate.breached => {
            lines.push(format!(
                "gate {}: {} is over the limit of {} by {}",
                limit.name,
                say(actual),
                say(max),
                say(actual - max)
            ));
            lines.extend(culprits(report, limit.counts, level));
        }
        Some(actual) => {
            // Only where it decides: the gate that would have failed with them.
            let flips = [Confidence::Estimated, Confidence::Assumed]
                .into_iter()
                .filter(|l| *l < level)
                .map(|l| (l, sum(ledger, statuses, limit.counts, l)))
                .find(|(_, usd)| figure(*usd).is_some_and(|a| a > max));
            if let Some((lower, usd)) = flips {
                lines.push(format!(
                    "gate {} passed with {} only because {} of findings less sure than '{}' were left out: with them it is {}, over the limit of {}; --gate-confidence {} counts them",
                    limit.name,
                    say(actual),
                    money(usd - counted),
                    level.name(),
                    say(figure(usd).unwrap_or_default()),
                    say(max),
                    lower.name()
                ));
            }
        }
    }
    gate
}

/// True where too little could be read for a verdict.
fn coverage_gate(report: &mut Report, needed: f64, lines: &mut Vec<String>) -> bool {
    if needed <= 0.0 {
        return false;
    }
    let actual = report.totals.coverage_percent;
    // Unreadable nodes: coverage is unknown, so no verdict can be given.
    let short = actual.is_none_or(|c| c < needed);
    report.gates.push(Gate {
        name: "min-coverage".into(),
        limit: needed,
        actual,
        breached: short,
        left_out_usd_per_hour: UsdPerHour::ZERO,
    });
    if short {
        let actual = actual.map_or_else(|| "unknown".to_string(), |c| format!("{c:.1} %"));
        lines.push(format!(
            "coverage is {actual}, under --min-coverage {needed}: too little could be read for a verdict"
        ));
    }
    short
}

/// Money of the findings that a gate counts, with claims resolved among just those (R8).
fn sum(ledger: &Ledger<'_>, statuses: &[Status], what: Counts, level: Confidence) -> UsdPerHour {
    let kind = if what == Counts::AtRisk {
        FindingKind::AtRisk
    } else {
        FindingKind::Recoverable
    };
    let counts = |i: usize| {
        ledger.findings[i].confidence >= level
            && match statuses[i] {
                Status::New => true,
                Status::Baseline => what != Counts::NewWaste,
                Status::Suppressed => false,
            }
    };
    let resolution = ledger.resolve(|i| counts(i).then_some(0));
    sum_known(
        (0..ledger.findings.len())
            .filter(|&i| ledger.findings[i].kind == kind)
            .map(|i| resolution.findings[i].usd_per_hour),
    )
}

/// The findings that a breached gate counted, largest first.
fn culprits(report: &Report, what: Counts, level: Confidence) -> Vec<String> {
    let counted: Vec<_> = report
        .findings
        .iter()
        .filter(|f| match what {
            Counts::Waste => f.kind == FindingKind::Recoverable && f.status != Status::Suppressed,
            Counts::NewWaste => f.kind == FindingKind::Recoverable && f.status == Status::New,
            Counts::AtRisk => f.kind == FindingKind::AtRisk && f.status != Status::Suppressed,
        })
        .filter(|f| f.confidence >= level && f.usd_per_hour.is_some_and(UsdPerHour::is_positive))
        .collect();
    let mut lines: Vec<String> = counted
        .iter()
        .take(NAMED)
        .map(|f| {
            let why = f
                .status_reason
                .as_deref()
                .map(|w| format!(" ({w})"))
                .unwrap_or_default();
            format!(
                "  {:>12}  {}{why}  [{}]",
                f.usd_per_hour.map(money).unwrap_or_default(),
                crate::report::plain_title(f),
                f.id
            )
        })
        .collect();
    if counted.len() > NAMED {
        lines.push(format!("  … and {} more", counted.len() - NAMED));
    }
    lines
}
