//! `--format junit`: for CI servers that show tests. A suite for the gates and one a check; a new finding is a failure,
//! one that is suppressed, in the baseline or not assessed is skipped, and says why.

use super::document::{CheckCoverage, Gate, Report, ReportFinding, Status};
use super::text::{self, plain};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use std::io::{self, Write};

pub(super) fn render(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut junit = quick_junit::Report::new("gpuwaste");
    if !report.gates.is_empty() {
        let mut suite = TestSuite::new("gates");
        suite.add_test_cases(report.gates.iter().map(gate));
        junit.add_test_suite(suite);
    }
    for check in &report.checks {
        let mut suite = TestSuite::new(check.id.as_str());
        let found = report.findings.iter().filter(|f| f.check == check.id);
        suite.add_test_cases(found.map(finding));
        suite.add_test_cases(coverage(check));
        junit.add_test_suite(suite);
    }
    if let Some(groups) = &report.groups {
        let mut suite = TestSuite::new(plain(&format!("by {}", groups.by)));
        suite.add_test_cases(groups.rows.iter().map(|row| {
            let mut case = TestCase::new(plain(&row.name), TestCaseStatus::success());
            case.set_classname("gpuwaste.groups");
            case.set_system_out(format!(
                "{} GPUs, spend {}, waste {}, at risk {}",
                text::count(row.gpus),
                text::money(row.spend_usd_per_hour),
                text::money(row.waste_usd_per_hour),
                text::money(row.at_risk_usd_per_hour)
            ));
            case
        }));
        junit.add_test_suite(suite);
    }
    let xml = junit.to_string().map_err(io::Error::other)?;
    out.write_all(xml.as_bytes())?;
    if xml.ends_with('\n') { Ok(()) } else { writeln!(out) }
}

fn gate(gate: &Gate) -> TestCase {
    let actual = gate.actual.map_or_else(|| "unknown".into(), |a| format!("{a:.2}"));
    let mut status = TestCaseStatus::success();
    if gate.breached {
        status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_message(format!("{actual}, limit {:.2}", gate.limit));
        status.set_type("gate");
    }
    let mut case = TestCase::new(format!("--{} {}", gate.name, gate.limit), status);
    case.set_classname("gpuwaste.gates");
    case.set_system_out(format!(
        "actual {actual}, limit {:.2}, left out by confidence {}",
        gate.limit,
        text::money(gate.left_out_usd_per_hour)
    ));
    case
}

fn finding(f: &ReportFinding) -> TestCase {
    let dollars = f.usd_per_hour.map_or_else(|| "no known price".into(), text::money);
    let reason = f.status_reason.as_deref().map(plain);
    let mut status = match f.status {
        Status::New => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(text::ledger_name(f));
            status.set_message(format!("{} ({dollars}, {})", plain(&f.title), f.confidence.name()));
            status
        }
        Status::Baseline | Status::Suppressed => {
            let mut status = TestCaseStatus::skipped();
            let state = text::status_name(f.status);
            status.set_message(
                reason
                    .as_deref()
                    .map_or_else(|| state.to_owned(), |r| format!("{state}: {r}")),
            );
            status
        }
    };
    if f.status == Status::New {
        let mut lines = vec![format!("where: {}", plain(&text::subject_name(&f.subject)))];
        lines.extend(f.evidence.iter().map(|e| plain(&text::evidence(e))));
        lines.extend(
            f.confidence_reasons
                .iter()
                .map(|r| format!("{}: {}", f.confidence.name(), plain(r))),
        );
        lines.push(format!("fix: {}", plain(&f.fix.summary)));
        status.set_description(lines.join("\n"));
    }
    let mut case = TestCase::new(format!("{} [{}]", plain(&text::subject_name(&f.subject)), f.id), status);
    case.set_classname(format!("gpuwaste.{}", text::check_name(f).replace('/', ".")));
    case
}

fn coverage(check: &CheckCoverage) -> Vec<TestCase> {
    let class = format!("gpuwaste.{}", check.id);
    let mut judged = TestCase::new(
        format!("{} GPUs judged", text::count(check.assessed_gpus)),
        TestCaseStatus::success(),
    );
    judged.set_classname(class.clone());
    let missing = check.not_assessed.iter().map(|gap| {
        let mut status = TestCaseStatus::skipped();
        status.set_message(format!("{}; {}", plain(&gap.reason), plain(&gap.remedy)));
        let mut case = TestCase::new(
            format!("{} GPUs not judged: {}", text::count(gap.gpus), plain(&gap.reason)),
            status,
        );
        case.set_classname(class.clone());
        case
    });
    std::iter::once(judged).chain(missing).collect()
}
