//! A gate without a verdict reads as passed in no format.

use super::document::{Gate, GateResult, PolicyUse, Report};
use super::ledger::Ledger;
use super::{Format, Input, RenderOptions, build};
use crate::analyze::{self, Context};
use crate::settings::Settings;
use crate::units::Confidence;

pub(super) fn demo() -> Report {
    let snapshot = crate::guards::recorded_demo();
    let settings = Settings::default();
    let fleet = crate::fleet::join(&snapshot, &crate::catalog::prices::PriceBook::default(), &settings);
    let outcomes = analyze::run(&Context::new(&fleet, &settings), |_| true);
    let ledger = Ledger::new(&fleet, &outcomes);
    let none = vec![None; ledger.findings.len()];
    let input = Input {
        outcomes: &outcomes,
        sources: &snapshot.sources,
        gaps: &snapshot.gaps,
        group_by: None,
        suppressed: &none,
        policy: PolicyUse::default(),
        owner_labels: &[],
    };
    build(&ledger, &input)
}

fn gate(actual: Option<f64>, breached: bool) -> Gate {
    Gate {
        name: "max-waste".into(),
        limit: 4321.0,
        actual,
        breached,
        undecided: false,
        undecided_because: None,
        confidence: Some(Confidence::Measured),
        left_out_usd_per_hour: None,
    }
}

fn shown(report: &Report, format: Format, gate: Option<&Gate>, verbose: bool) -> String {
    let mut report = report.clone();
    report.gates = gate.cloned().into_iter().collect();
    let options = RenderOptions {
        verbose,
        ..RenderOptions::default()
    };
    let mut out = Vec::new();
    format.render(&report, &options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn no_format_shows_a_gate_without_a_verdict_as_passed() {
    let mut report = demo();
    let mut doubted = gate(Some(4000.0), false);
    doubted.doubt("one read failed");
    doubted.doubt("another did");
    assert_eq!(doubted.result(), GateResult::NoVerdict);
    let uncomputed = gate(None, false);
    let (passed, breached) = (gate(Some(4000.0), false), gate(Some(5000.0), true));
    for gpus in [report.totals.gpus, 0.0] {
        report.totals.gpus = gpus;
        for (format, verbose) in Format::ALL.iter().flat_map(|(f, _)| [(*f, false), (*f, true)]) {
            let show = |gate: Option<&Gate>| shown(&report, format, gate, verbose);
            let tells = show(Some(&breached)) != show(None);
            // Rows of findings and of workloads hold no verdict, so that none is missed.
            assert_eq!(tells, !matches!(format, Format::Csv | Format::Chargeback), "{format:?}");
            if !tells {
                continue;
            }
            for undecided in [&doubted, &uncomputed] {
                let text = show(Some(undecided));
                assert!(
                    text != show(Some(&passed)) && text != show(Some(&breached)),
                    "{format:?}"
                );
                for said in text.lines().filter(|l| l.contains("max-waste")) {
                    // A page of HTML is one line.
                    let at = said.find("max-waste").unwrap();
                    let before: String = said[..at]
                        .chars()
                        .rev()
                        .take(90)
                        .collect::<Vec<_>>()
                        .iter()
                        .rev()
                        .collect();
                    let near = before + &said[at..].chars().take(90).collect::<String>();
                    let green = ["passed", "✅", "note good", "gate_breached"];
                    assert!(!green.iter().any(|w| near.contains(w)), "{format:?}: {near}");
                }
            }
            // Numbers alone have no words.
            if format != Format::Prometheus {
                let text = show(Some(&doubted));
                assert!(
                    text.contains("one read failed") && !text.contains("another did"),
                    "{format:?}"
                );
            }
        }
    }
}

#[test]
fn what_others_read_says_that_there_is_no_verdict() {
    let report = demo();
    let mut doubted = gate(Some(1.0), false);
    doubted.doubt("a read failed");
    let show = |format: Format, gate: &Gate| shown(&report, format, Some(gate), false);
    let junit = show(Format::Junit, &doubted);
    assert!(
        junit.contains("errors=\"1\"") && junit.contains("<error type=\"no-verdict\""),
        "{junit}"
    );
    let sarif = show(Format::Sarif, &doubted);
    assert!(sarif.contains("\"executionSuccessful\": false"), "{sarif}");
    let passed = show(Format::Sarif, &gate(Some(1.0), false));
    assert!(passed.contains("\"executionSuccessful\": true"));
    let prometheus = show(Format::Prometheus, &doubted);
    assert!(
        prometheus.contains("gate_undecided{gate=\"max-waste\"} 1"),
        "{prometheus}"
    );
    assert!(show(Format::Github, &doubted).contains("::error title=gate max-waste::no verdict"));
    // A breach is a breach, whatever was not read beside it.
    let mut breached = gate(Some(5000.0), true);
    breached.doubt("a read failed");
    assert_eq!((breached.result(), breached.undecided), (GateResult::Breached, false));
}
