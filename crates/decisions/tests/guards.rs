//! Guard 1: whatever is decided, no finding is new, none is surer, no dollar is more, and the totals are the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use gpuwaste_decisions::entry::{Entry, Event, Reason, Seen, Told};
use gpuwaste_decisions::record::{Record, Verdict, Vote};
use gpuwaste_decisions::standing::{Book, Standing};
use gpuwaste_judge::analyze::{self, Context};
use gpuwaste_judge::report::document::Report;
use gpuwaste_judge::settings::{Gates, Settings};
use gpuwaste_judge::{Case, join};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn book(report: &Report, picks: &[(usize, u8, i64)]) -> Book {
    let mut book = Book::default();
    for (at, what, days) in picks {
        let f = &report.findings[at % report.findings.len()];
        let mut entry = Entry::new(report, f);
        let state = [
            Told::Claimed,
            Told::Applied,
            Told::Dismissed,
            Told::Snoozed,
            Told::Open,
            Told::Verified,
            Told::Reverted,
            Told::Regressed,
        ][usize::from(what % 8)];
        entry.events.push(Event {
            at: Timestamp::from_second(report.taken_at.as_second() - days * 86_400).unwrap(),
            state,
            reason: (state == Told::Dismissed).then_some([Reason::Wrong, Reason::Intended][usize::from(what % 2)]),
            note: None,
            until: None,
            reference: None,
            by: None,
            inferred: false,
            seen: Some(Seen::of(report, f)),
        });
        book.entries.insert(f.id.clone(), entry);
    }
    book
}

/// Votes for every check, so that caps and expectations bite.
fn others(report: &Report, wrong: usize, realised: f64) -> Record {
    let mut record = Record::default();
    for f in &report.findings {
        let votes = record
            .checks
            .entry(gpuwaste_decisions::entry::check_name(&f.check, f.part.as_deref()))
            .or_default();
        for i in 0..40 {
            let verdict = if i < wrong { Verdict::Wrong } else { Verdict::Accepted };
            let vote = Vote {
                at: report.taken_at,
                verdict,
                realised: (verdict == Verdict::Accepted).then_some(realised),
                regretted: false,
                days: None,
            };
            votes.insert(format!("v{i}"), vote);
        }
    }
    record
}

#[test]
fn no_decision_makes_a_finding_or_a_dollar() {
    let bytes = include_bytes!("../../../fixtures/demo/snapshot.json.zst");
    let snapshot = serde_json::from_slice(&zstd::decode_all(&bytes[..]).unwrap()).unwrap();
    let settings = Settings {
        gates: Gates {
            max_waste: Some(0.0),
            max_new_waste: Some(0.0),
            max_at_risk: Some(0.0),
            ..Gates::default()
        },
        ..Settings::default()
    };
    let fleet = join(&snapshot, &settings);
    let outcomes = analyze::run(&Context::new(&fleet, &settings), |_| true);
    let judged = |standing: Option<&Standing>| {
        let case = Case {
            snapshot: &snapshot,
            fleet: &fleet,
            outcomes: &outcomes,
            settings: &settings,
            group_by: None,
            baseline: None,
            decisions: standing.map(|s| s as &dyn gpuwaste_judge::verdict::Decisions),
        };
        case.judge().0
    };
    let bare = judged(None);
    assert!(bare.findings.len() > 30);
    let picks = proptest::collection::vec((0usize..200, any::<u8>(), 0i64..200), 0..60);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(48));
    let mut capped = 0;
    let seen = std::cell::Cell::new(0);
    runner
        .run(&(picks, 0usize..40, 0.0f64..3.0), |(picks, wrong, realised)| {
            let standing = Standing::new(book(&bare, &picks), &others(&bare, wrong, realised), bare.taken_at);
            let now = judged(Some(&standing));
            prop_assert_eq!(now.findings.len(), bare.findings.len());
            for (a, b) in bare.findings.iter().zip(&now.findings) {
                prop_assert_eq!(&a.id, &b.id);
                prop_assert!(b.confidence <= a.confidence);
                prop_assert_eq!(a.usd_per_hour, b.usd_per_hour);
                prop_assert_eq!(a.waste_now_usd_per_hour, b.waste_now_usd_per_hour);
                prop_assert!(b.expected_usd_per_hour.is_none_or(|e| Some(e) <= b.waste_usd_per_hour));
                seen.set(seen.get() + usize::from(b.confidence < a.confidence));
            }
            prop_assert_eq!(now.totals.waste_usd_per_hour, bare.totals.waste_usd_per_hour);
            prop_assert_eq!(now.totals.waste_now_usd_per_hour, bare.totals.waste_now_usd_per_hour);
            prop_assert_eq!(now.totals.at_risk_usd_per_hour, bare.totals.at_risk_usd_per_hour);
            // Nothing leaves the totals unseen.
            let states = now.totals.decisions.as_ref().unwrap();
            let waste = states.iter().filter_map(|s| s.waste_usd_per_hour).sum();
            prop_assert_eq!(Some(waste), now.totals.waste_usd_per_hour);
            // No gate counts more than without.
            for (a, b) in bare.gates.iter().zip(&now.gates) {
                prop_assert_eq!(&a.name, &b.name);
                prop_assert!(b.actual <= a.actual, "{}: {:?} then {:?}", a.name, a.actual, b.actual);
            }
            Ok(())
        })
        .unwrap();
    capped += seen.get();
    assert!(capped > 0, "no record ever made a finding less sure");
}
