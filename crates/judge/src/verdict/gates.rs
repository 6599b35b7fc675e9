//! Gates and exit codes (R8).

use super::{Baseline, Place, decided, growth};
use crate::analyze::finding::{Confidence, FindingKind};
use crate::report::decision::DecisionState;
use crate::report::document::{Gate, GateResult, Report, ReportFinding, Status};
use crate::report::ledger::{Ledger, Resolution};
use crate::report::totals::could_judge;
use crate::settings::{Gates, Tolerance};
use crate::snapshot::{SourceKind, SourceStatus};
use crate::units::{Ratio, UsdPerHour, sum_known};

/// Default coverage that a verdict needs (interface contract).
pub const DEFAULT_COVERAGE: f64 = 80.0;

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

impl Counts {
    fn kind(self) -> FindingKind {
        match self {
            Self::Waste | Self::NewWaste => FindingKind::Recoverable,
            Self::AtRisk => FindingKind::AtRisk,
        }
    }
}

/// A gate on money: its flag, its limit, what it adds up, and whether the limit is a share of spend.
struct Limit {
    name: &'static str,
    max: Option<f64>,
    counts: Counts,
    percent: bool,
}

/// Judges the report and writes the gates into it. `statuses` and `decided` are those of all findings of the ledger, listed or
/// not; `decided` is empty without a ledger of decisions.
pub fn judge(
    report: &mut Report,
    ledger: &Ledger<'_>,
    statuses: &[Status],
    decided: &[DecisionState],
    gates: &Gates,
    baseline: Option<(&Baseline, Tolerance)>,
) -> Verdict {
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
    for limit in &limits {
        let Some(max) = limit.max else { continue };
        let counted = Money {
            statuses,
            decided,
            baseline,
        };
        let mut gate = money_gate(report, ledger, &counted, limit, max, level, &mut verdict.lines);
        if let Some(why) = in_doubt(report, ledger, limit, &gate) {
            verdict
                .lines
                .push(format!("gate {} gives no verdict: {why}", limit.name));
            gate.doubt(&why);
        }
        report.gates.push(gate);
    }
    if let Some(max) = gates.max_dismissed {
        let gate = decided::gate(report, max, &mut verdict.lines);
        report.gates.push(gate);
    }
    let needed = gates.min_coverage.or(gates.any().then_some(DEFAULT_COVERAGE));
    let short = needed.and_then(|needed| coverage_gate(report, needed));
    verdict.lines.extend(short.clone());
    let failed: Vec<String> = report
        .sources
        .iter()
        .filter(|s| s.named && s.status == SourceStatus::Failed)
        .map(|s| format!("source '{}' was named and could not be read: {}", s.name, s.detail))
        .collect();
    let breached = report.gates.iter().any(|g| g.breached && g.name != "min-coverage");
    for gate in &mut report.gates {
        for why in short.iter().chain(&failed) {
            gate.doubt(why);
        }
    }
    let undecided = report.gates.iter().any(|g| g.result() == GateResult::NoVerdict);
    verdict.code = if breached {
        1
    } else if short.is_some() || undecided || !failed.is_empty() {
        3
    } else {
        0
    };
    verdict.lines.extend(failed);
    verdict
}

/// Why a gate that is not breached gives no verdict: a read failed that could have told of so much more that it would be.
fn in_doubt(report: &Report, ledger: &Ledger<'_>, limit: &Limit, gate: &Gate) -> Option<String> {
    if gate.breached {
        return None;
    }
    let doubted = ledger.doubted(limit.counts.kind());
    let why = doubt_of(report, doubted, gate.actual?, limit.max?, limit.percent)?;
    let why = match ledger.hidden(limit.counts.kind()) {
        Some(whose) if !report.totals.gpus_uncounted => format!("{why}; of {whose}"),
        _ => why,
    };
    let lost = report.sources.iter().filter(|s| {
        let whole = matches!(s.kind, SourceKind::Kubernetes | SourceKind::Slurm);
        whole && s.status == SourceStatus::Failed
    });
    let lost = lost.map(|s| format!("all of {}", s.name));
    let what = ledger.fleet.uncounted.iter().cloned().chain(lost).next();
    Some(what.map_or_else(|| why.clone(), |what| format!("{why}: {what}")))
}

/// Why a gate that counts `actual` under its limit of `max` (dollars an hour, or percent of spend) decides nothing: by what the
/// report tells of reads that failed.
pub fn doubt(report: &Report, actual: f64, max: f64, percent: bool) -> Option<String> {
    doubt_of(report, report.totals.doubted_usd_per_hour, actual, max, percent)
}

fn doubt_of(report: &Report, doubted: Option<UsdPerHour>, actual: f64, max: f64, percent: bool) -> Option<String> {
    if report.totals.gpus_uncounted {
        return Some("a read failed that could tell of more GPUs".into());
    }
    // No gate counts what has no price.
    let doubted = doubted?;
    let more = if percent {
        let spend = report.totals.spend_usd_per_hour.unwrap_or_default();
        Ratio::of(doubted.usd(), spend.usd()).map_or(0.0, Ratio::percent)
    } else {
        doubted.usd()
    };
    (doubted.is_positive() && actual + more > max).then(|| {
        format!(
            "reads failed, settings stand where they could not be read, or models are not known, that could tell more of GPUs for {}: the gaps and 'not assessed' name them",
            crate::report::text::money(doubted)
        )
    })
}

fn money_gate(
    report: &Report,
    ledger: &Ledger<'_>,
    money: &Money<'_>,
    limit: &Limit,
    max: f64,
    level: Confidence,
    lines: &mut Vec<String>,
) -> Gate {
    let t = &report.totals;
    // A sum of nothing but unknown prices is no 0, nor is the waste of GPUs that nobody could judge.
    let spend = t
        .spend_usd_per_hour
        .filter(|_| could_judge(report) || !report.findings.is_empty());
    // What no check that ran could have found is unknown.
    let unknown = limit.counts == Counts::AtRisk && t.at_risk_usd_per_hour.is_none();
    let spend = spend.filter(|_| !unknown);
    let figure = |usd: UsdPerHour| {
        if limit.percent {
            let spend = spend.filter(|s| s.is_positive())?;
            Some(usd.usd() / spend.usd() * 100.0)
        } else {
            spend.map(|_| usd.usd())
        }
    };
    let counted = money.sum(ledger, limit.counts, level);
    let everything = money.sum(ledger, limit.counts, Confidence::Assumed);
    let actual = figure(counted);
    let uncomputed = "it could not be computed: no price is known, or no GPU could be judged for it";
    let gate = Gate {
        name: limit.name.into(),
        limit: max,
        actual,
        breached: actual.is_some_and(|a| a > max),
        undecided: actual.is_none(),
        undecided_because: actual.is_none().then(|| uncomputed.to_owned()),
        confidence: Some(level),
        left_out_usd_per_hour: spend.map(|_| everything - counted),
    };
    let say = |value: f64| {
        if limit.percent {
            format!("{value:.1} % of spend")
        } else {
            format!("${value:.2}/h")
        }
    };
    match actual {
        None => lines.push(format!("gate {} gives no verdict: {uncomputed}", limit.name)),
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
                .map(|l| (l, money.sum(ledger, limit.counts, l)))
                .find(|(_, usd)| figure(*usd).is_some_and(|a| a > max));
            let everyone = Money { decided: &[], ..*money }.sum(ledger, limit.counts, level);
            if figure(everyone).is_some_and(|a| a > max) {
                lines.push(decided::only_by_decision(limit.name, counted, everyone, &say(max)));
            }
            if let Some((lower, usd)) = flips {
                lines.push(format!(
                    "gate {} counts {} only because {} of findings less sure than '{}' were left out: with them it is {}, over the limit of {}; --gate-confidence {} counts them",
                    limit.name,
                    say(actual),
                    crate::report::text::money(usd - counted),
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

/// Whether a gate adds this finding up: what a job log or a test report fails because of it.
pub fn counted(gate: &Gate, f: &ReportFinding) -> bool {
    let sure = gate.confidence.is_some_and(|level| f.confidence >= level);
    let open = f.decision.as_ref().is_none_or(|d| d.state == DecisionState::Open);
    sure && open
        && f.status != Status::Suppressed
        && match gate.name.as_str() {
            "max-waste" | "max-waste-percent" => f.kind == FindingKind::Recoverable,
            "max-new-waste" => f.kind == FindingKind::Recoverable && f.status == Status::New,
            "max-at-risk" => f.kind == FindingKind::AtRisk,
            _ => false,
        }
        && !f.claims.is_empty()
}

/// Why too little could be read for a verdict.
fn coverage_gate(report: &mut Report, needed: f64) -> Option<String> {
    if needed <= 0.0 {
        return None;
    }
    let short = short_of(report, needed);
    report.gates.push(Gate {
        name: "min-coverage".into(),
        limit: needed,
        actual: report.totals.coverage_percent,
        breached: short.is_some(),
        undecided: false,
        undecided_because: None,
        confidence: None,
        left_out_usd_per_hour: None,
    });
    short
}

/// Where coverage is unknown, as with unreadable nodes, no verdict can be given either.
pub fn short_of(report: &Report, needed: f64) -> Option<String> {
    let actual = report.totals.coverage_percent;
    (needed > 0.0 && actual.is_none_or(|c| c < needed)).then(|| {
        let actual = actual.map_or_else(|| "unknown".to_string(), |c| format!("{c:.1} %"));
        format!("coverage is {actual}, under --min-coverage {needed}: too little could be read for a verdict")
    })
}

/// What decides which findings a gate adds up.
#[derive(Clone, Copy)]
struct Money<'a> {
    statuses: &'a [Status],
    /// Gates count what is undecided.
    decided: &'a [DecisionState],
    baseline: Option<(&'a Baseline, Tolerance)>,
}

impl Money<'_> {
    /// Money of the findings that a gate counts, with claims resolved among just those (R8). New waste is what GPUs cost more
    /// than the baseline has on them.
    fn sum(&self, ledger: &Ledger<'_>, what: Counts, level: Confidence) -> UsdPerHour {
        let kind = what.kind();
        let open = |i: usize| self.decided.get(i).is_none_or(|d| *d == DecisionState::Open);
        let counts = |i: usize| ledger.confidence(i) >= level && self.statuses[i] != Status::Suppressed;
        let resolution = ledger.resolve(|i| counts(i).then_some(0));
        // Who decided about a GPU's finding decided about its money: nobody else's finding gets it.
        let mine = (0..ledger.findings.len()).filter(|&i| ledger.findings[i].kind == kind && open(i));
        match self.baseline.filter(|_| what == Counts::NewWaste) {
            Some((baseline, tolerance)) => {
                let now: Vec<growth::Money> = mine
                    .filter(|&i| counts(i))
                    .map(|i| of(ledger, &resolution, i))
                    .collect();
                sum_known(growth::growth(&baseline.money(), &now, tolerance))
            }
            None => sum_known(mine.map(|i| resolution.findings[i].usd_per_hour)),
        }
    }
}

fn of(ledger: &Ledger<'_>, resolution: &Resolution, i: usize) -> growth::Money {
    let (finding, resolved) = (ledger.findings[i], &resolution.findings[i]);
    let claims = finding.claims.iter().zip(&resolved.claims).map(|(claim, usd)| {
        let (node, slot) = ledger.place(claim);
        (
            Place::new(finding.subject.cluster.as_deref(), &node.name, &slot.name),
            *usd,
        )
    });
    growth::Money::new(&ledger.ids[i], resolved.usd_per_hour, claims)
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
        .filter(|f| f.decision.as_ref().is_none_or(|d| d.state == DecisionState::Open))
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
                f.usd_per_hour.map(crate::report::text::money).unwrap_or_default(),
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
