//! `--format junit`: for CI servers that show tests. A suite for the gates and one a check. Only what a breached gate counts is a
//! failure: a job that passes shows no red. What is suppressed, in the baseline or not assessed is skipped, and says why.

use super::decision::DecisionState;
use super::document::{CheckCoverage, Gate, GateResult, Group, Report, ReportFinding, Status};
use super::text::{self, plain};
use crate::verdict::counted;
use maud::{Markup, html};
use std::io::{self, Write};

/// A test case, before it is markup.
struct Case {
    class: String,
    name: String,
    result: Outcome,
    output: Option<String>,
}

enum Outcome {
    Passed,
    Failed {
        kind: &'static str,
        message: String,
        text: String,
    },
    Skipped(String),
    /// Nobody knows whether it would pass: neither a failure nor, least of all, a success.
    NoVerdict(String),
}

pub(super) fn render(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut suites: Vec<(String, Vec<Case>)> = Vec::new();
    if !report.gates.is_empty() {
        suites.push(("gates".into(), report.gates.iter().map(gate).collect()));
    }
    for check in &report.checks {
        let found = report.findings.iter().filter(|f| f.check == check.id);
        suites.push((
            check.id.clone(),
            found.map(|f| finding(report, f)).chain(coverage(check)).collect(),
        ));
    }
    if let Some(groups) = &report.groups {
        let name = plain(&format!("by {}", groups.by));
        suites.push((name, groups.rows.iter().map(group).collect()));
    }
    let failures: usize = suites.iter().map(|(_, cases)| failed(cases)).sum();
    let errors: usize = suites.iter().map(|(_, cases)| undecided(cases)).sum();
    let tests: usize = suites.iter().map(|(_, cases)| cases.len()).sum();
    let page = html! {
        testsuites name="gpuwaste" tests=(tests) failures=(failures) errors=(errors) {
            @for (name, cases) in &suites { "\n" (suite(name, cases, report)) }
            "\n"
        }
    };
    writeln!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}",
        page.into_string()
    )
}

fn failed(cases: &[Case]) -> usize {
    cases
        .iter()
        .filter(|c| matches!(c.result, Outcome::Failed { .. }))
        .count()
}

fn undecided(cases: &[Case]) -> usize {
    let errors = cases.iter().filter(|c| matches!(c.result, Outcome::NoVerdict(_)));
    errors.count()
}

fn suite(name: &str, cases: &[Case], report: &Report) -> Markup {
    let skipped = cases.iter().filter(|c| matches!(c.result, Outcome::Skipped(_))).count();
    let at = report.taken_at.strftime("%Y-%m-%dT%H:%M:%S");
    html! {
        testsuite name=(name) tests=(cases.len()) failures=(failed(cases)) errors=(undecided(cases)) skipped=(skipped) timestamp=(at) {
            @for case in cases { "\n  "
                testcase classname=(case.class) name=(case.name) {
                    @match &case.result {
                        Outcome::Passed => {}
                        Outcome::Failed { kind, message, text } => { failure type=(kind) message=(message) { (text) } }
                        Outcome::NoVerdict(why) => { error type="no-verdict" message=(why) { (why) } }
                        Outcome::Skipped(why) => { skipped message=(why) {} }
                    }
                    @if let Some(output) = &case.output { system-out { (output) } }
                }
            }
            "\n"
        }
    }
}

fn gate(gate: &Gate) -> Case {
    let message = text::gate_figures(gate);
    let left_out = text::known(gate.left_out_usd_per_hour);
    Case {
        class: "gpuwaste.gates".into(),
        name: format!("--{} {}", gate.name, gate.limit),
        output: Some(format!("{message}, left out by confidence {left_out}")),
        result: match gate.result() {
            GateResult::Passed => Outcome::Passed,
            GateResult::Breached => Outcome::Failed {
                kind: "gate",
                text: message.clone(),
                message,
            },
            GateResult::NoVerdict => Outcome::NoVerdict(message),
        },
    }
}

fn group(row: &Group) -> Case {
    Case {
        class: "gpuwaste.groups".into(),
        name: plain(&row.name),
        result: Outcome::Passed,
        output: Some(format!(
            "{} GPUs, spend {}, waste {}, at risk {}",
            text::count(row.gpus),
            text::known(row.spend_usd_per_hour),
            text::known(row.waste_usd_per_hour),
            text::known(row.at_risk_usd_per_hour)
        )),
    }
}

fn finding(report: &Report, f: &ReportFinding) -> Case {
    let dollars = f.usd_per_hour.map_or_else(|| "no known price".into(), text::money);
    let place = plain(&text::subject_place(&f.subject));
    let fails = report.gates.iter().any(|g| g.breached && counted(g, f));
    let mut output = None;
    let decided = f.decision.as_ref().filter(|d| d.state != DecisionState::Open);
    let result = if let Some(decision) = decided.filter(|_| f.status != Status::Suppressed) {
        Outcome::Skipped(decision.justification())
    } else if fails || f.status == Status::New {
        let mut lines = vec![format!("where: {place}")];
        lines.extend(f.evidence.iter().map(|e| plain(&text::evidence(e))));
        let sure = f.confidence.name();
        lines.extend(f.confidence_reasons.iter().map(|r| format!("{sure}: {}", plain(r))));
        lines.push(format!("fix: {}", plain(&f.fix.summary)));
        let message = format!("{} ({dollars}, {sure})", plain(&f.title));
        if fails {
            Outcome::Failed {
                kind: text::saving(f),
                message,
                text: lines.join("\n"),
            }
        } else {
            lines.insert(0, message);
            output = Some(lines.join("\n"));
            Outcome::Passed
        }
    } else {
        let why = f.status_reason.as_deref().map(|r| format!(": {}", plain(r)));
        Outcome::Skipped(format!("{}{}", text::status_name(f.status), why.unwrap_or_default()))
    };
    Case {
        class: format!("gpuwaste.{}", text::check_name(f).replace('/', ".")),
        name: format!("{place} [{}]", f.id),
        result,
        output,
    }
}

fn coverage(check: &CheckCoverage) -> Vec<Case> {
    let case = |name: String, result: Outcome| Case {
        class: format!("gpuwaste.{}", check.id),
        name,
        result,
        output: None,
    };
    let judged = case(
        format!("{} GPUs judged", text::count(check.assessed_gpus)),
        Outcome::Passed,
    );
    let missing = check.not_assessed.iter().map(|gap| {
        let reason = plain(&gap.reason);
        let name = format!("{} GPUs not judged: {reason}", text::count(gap.gpus));
        case(name, Outcome::Skipped(format!("{reason}; {}", plain(&gap.remedy))))
    });
    std::iter::once(judged).chain(missing).collect()
}
