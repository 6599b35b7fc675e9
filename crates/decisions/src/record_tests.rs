#![allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp)]

use crate::entry::{Class, Entry, Outcome, Reason, Told, Value};
use crate::propose::smallest_step;
use crate::record::{Learned, Record, Shared, Verdict, Vote, figures, wilson};
use crate::standing::Book;
use crate::tests::{at, entry, event, usd};
use jiff::Timestamp;
use proptest::prelude::*;

fn decided(id: usize, told: Told, reason: Option<Reason>) -> Entry {
    let mut e = entry(&format!("id{id:04}"));
    e.finding.subject = format!("ml/s{id}");
    e.events = vec![event("2026-11-01", told)];
    e.events[0].reason = reason;
    e
}

fn settled(id: usize, predicted: f64, realised: f64) -> Entry {
    let mut e = decided(id, Told::Claimed, None);
    e.events.push(event("2026-11-04", Told::Applied));
    e.events.push(event("2026-11-06", Told::Verified));
    e.outcomes = vec![Outcome {
        at: at("2026-11-06"),
        applied: at("2026-11-04"),
        window_seconds: 172_800,
        predicted_usd_per_hour: usd(predicted),
        realised_usd_per_hour: usd(realised),
        class: Class::Saved,
        gpu_hours: [(Class::Saved, 48.0)].into(),
        spend_before: None,
        spend_after: None,
        work_before: None,
        work_after: None,
        confounders: std::collections::BTreeMap::default(),
        watched: Vec::new(),
    }];
    e
}

fn book(entries: impl IntoIterator<Item = Entry>) -> Book {
    Book {
        entries: entries.into_iter().map(|e| (e.finding.id.clone(), e)).collect(),
    }
}

#[test]
fn wilsons_interval_is_the_published_one() {
    // Brown, Cai, DasGupta 2001: the score interval; 9 of 10 at 90 %, by hand.
    let share = wilson(9.0, 10.0).unwrap();
    assert!(
        (share.low - 0.651).abs() < 0.005 && (share.high - 0.978).abs() < 0.005,
        "{share:?}"
    );
    assert_eq!(wilson(0.0, 0.0), None);
    let none = wilson(0.0, 20.0).unwrap();
    assert!(none.low == 0.0 && none.high < 0.13, "{none:?}");
}

#[test]
fn what_was_saved_is_the_median_of_what_was_said() {
    let now = at("2026-11-07");
    let seven = Record::of(&book((0..7).map(|i| settled(i, 10.0, 4.0))));
    let few = figures(&seven, &Record::default(), "dark-capacity/idle", now);
    assert_eq!((few.settled, few.expected()), (7, None), "eight are needed");
    let eight = Record::of(&book((0..9).map(|i| settled(i, 10.0, 1.0 + i as f64))));
    let figures = figures(&eight, &Record::default(), "dark-capacity/idle", now);
    assert_eq!(figures.expected(), Some(0.5));
    assert_eq!((figures.realised_p10, figures.realised_p90), (Some(0.1), Some(0.9)));
    assert_eq!(figures.median_days_to_act, Some(3.0));
    let said = figures.said().unwrap();
    assert!(
        said.contains("of 9 like this, 9 were accepted and saved 50 %") && said.contains("0 regretted"),
        "{said}"
    );
    // More than was said makes no more money.
    let more = Record::of(&book((0..9).map(|i| settled(i, 10.0, 20.0))));
    assert_eq!(
        super::record::figures(&more, &Record::default(), "dark-capacity/idle", now).expected(),
        Some(1.0)
    );
}

#[test]
fn wrong_is_learned_where_the_tool_was_wrong() {
    let now = at("2026-11-07");
    let cap = |wrong: usize, others: &[(Told, Option<Reason>, usize)]| {
        let mut all: Vec<Entry> = (0..wrong)
            .map(|i| decided(i, Told::Dismissed, Some(Reason::Wrong)))
            .collect();
        for (told, reason, n) in others {
            let from = all.len();
            all.extend((from..from + n).map(|i| decided(i, *told, *reason)));
        }
        let record = Record::of(&book(all));
        figures(&record, &Record::default(), "dark-capacity/idle", now).cap("dark-capacity/idle")
    };
    assert!(cap(4, &[(Told::Claimed, None, 8)]).is_some());
    assert!(cap(4, &[(Told::Claimed, None, 4)]).is_none(), "fewer than ten subjects");
    assert!(cap(0, &[(Told::Claimed, None, 12)]).is_none(), "nothing was wrong");
    assert!(cap(1, &[(Told::Claimed, None, 200)]).is_none(), "one of many");
    // Intended, impossible, not worth it, put off: true findings.
    let declined = [
        (Told::Dismissed, Some(Reason::Intended), 20),
        (Told::Dismissed, Some(Reason::Cannot), 20),
        (Told::Dismissed, Some(Reason::NotWorth), 20),
        (Told::Snoozed, None, 20),
        (Told::Claimed, None, 2),
    ];
    assert!(cap(0, &declined).is_none());
}

#[test]
fn proposals_have_their_decisions_behind_them() {
    let named = |id: usize, subject: &str| {
        let mut e = decided(id, Told::Dismissed, Some(Reason::Intended));
        e.finding.subject = subject.into();
        e
    };
    let two = Learned::of(
        &book([named(1, "a/x-dr"), named(2, "b/y-dr")]),
        &Record::default(),
        at("2026-11-07"),
    );
    assert!(two.proposals.is_empty(), "{:?}", two.proposals);
    let three = [
        named(1, "a/x-dr"),
        named(2, "b/y-dr"),
        named(3, "c/z-dr"),
        named(4, "c/other"),
    ];
    let three = Learned::of(&book(three), &Record::default(), at("2026-11-07"));
    assert_eq!(three.proposals.len(), 1, "{:?}", three.proposals);
    let policy = &three.proposals[0].policy;
    assert!(
        policy.contains("subject = \"*-dr\"") && policy.contains("expires = 2027-02-05"),
        "{policy}"
    );

    // The smallest step that removes four of five and loses one of ten.
    let accepted: Vec<f64> = (0..20).map(|i| 40.0 + f64::from(i)).collect();
    assert_eq!(
        smallest_step(&[20.0, 21.0, 22.0, 23.0, 60.0], &accepted, true, true),
        Some((24.0, 4, 0))
    );
    assert_eq!(
        smallest_step(&[20.0, 21.0, 22.0, 23.0], &accepted, true, true),
        None,
        "five are needed"
    );
    assert_eq!(
        smallest_step(&[50.0, 51.0, 52.0, 53.0, 54.0], &accepted, true, true),
        None,
        "it would lose too many"
    );
    let shares: Vec<f64> = (0..20).map(|i| 0.01 * f64::from(i) / 2.0).collect();
    let wrong = [0.2, 0.21, 0.22, 0.23, 0.24];
    assert_eq!(smallest_step(&wrong, &shares, false, false), Some((0.209, 4, 0)));
    // Idle hours: evidence of entries.
    let hours = |id: usize, told: Told, reason: Option<Reason>, h: f64| {
        let mut e = decided(id, told, reason);
        (e.finding.check, e.finding.part) = ("idle-schedule".into(), None);
        e.finding.evidence = [("idle_hours_per_week".to_string(), Value::Number(h))].into();
        e
    };
    let mut all: Vec<Entry> = (0..6)
        .map(|i| hours(i, Told::Dismissed, Some(Reason::Wrong), 21.0 + i as f64))
        .collect();
    all.extend((6..20).map(|i| hours(i, Told::Claimed, None, 60.0 + i as f64)));
    let learned = Learned::of(&book(all), &Record::default(), at("2026-11-07"));
    let threshold = learned
        .proposals
        .iter()
        .find(|p| p.policy.contains("idle_hours_per_week"))
        .expect("a step");
    assert_eq!(
        threshold.policy,
        "[thresholds.idle-schedule]\nidle_hours_per_week = 26\n"
    );
}

#[test]
fn figures_that_cannot_be_are_refused() {
    let vote = |realised: f64| Vote {
        at: at("2026-11-01"),
        verdict: Verdict::Accepted,
        realised: Some(realised),
        regretted: false,
        days: None,
    };
    let shared = |v: Vote| {
        Shared::new(Record {
            checks: [("x".to_string(), [("a".to_string(), v)].into())].into(),
        })
    };
    assert!(shared(vote(0.8)).check().is_ok());
    for bad in [-1.0, 1e9, f64::NAN] {
        assert!(shared(vote(bad)).check().unwrap_err().contains("x, a"), "{bad}");
    }
    let newer = Shared {
        schema: 2,
        ..shared(vote(0.8))
    };
    assert!(newer.check().unwrap_err().contains("schema 2"));
    // No names, no prices, no cluster ids.
    let text = serde_json::to_string(&Shared::new(Record::of(&book([settled(1, 10.0, 4.0)])))).unwrap();
    for secret in ["ml", "chat", "one", "h100", "10", "usd", "H100"] {
        assert!(!text.contains(&format!("\"{secret}")), "{secret}: {text}");
    }
}

fn record() -> impl Strategy<Value = Record> {
    let vote = (0i64..600, 0u8..3, proptest::option::of(0.0f64..3.0), any::<bool>()).prop_map(
        |(day, verdict, realised, regretted)| Vote {
            at: Timestamp::from_second(1_793_000_000 + day * 86_400).unwrap(),
            verdict: [Verdict::Accepted, Verdict::Declined, Verdict::Wrong][verdict as usize],
            realised: realised.map(|r| (r * 1e4).round() / 1e4),
            regretted,
            days: None,
        },
    );
    let votes = proptest::collection::btree_map("[a-e]", vote, 0..6);
    proptest::collection::btree_map("[x-z]", votes, 0..4).prop_map(|checks| Record { checks })
}

fn joined(records: &[&Record]) -> Record {
    let mut all = Record::default();
    for r in records {
        all.merge(r);
    }
    all
}

proptest! {
    /// Merging is associative and commutative, and reading one twice changes nothing.
    #[test]
    fn records_join(a in record(), b in record(), c in record()) {
        let whole = joined(&[&a, &b, &c]);
        prop_assert_eq!(&joined(&[&c, &a, &b]), &whole);
        prop_assert_eq!(&joined(&[&joined(&[&a, &b]), &c]), &whole);
        prop_assert_eq!(&joined(&[&a, &joined(&[&b, &c])]), &whole);
        prop_assert_eq!(&joined(&[&whole, &a, &whole]), &whole);
    }

    /// One vote a subject: deciding the same again, or scanning again, adds none.
    #[test]
    fn one_vote_a_subject(times in 1usize..20, wrong in any::<bool>()) {
        let told = if wrong { (Told::Dismissed, Some(Reason::Wrong)) } else { (Told::Claimed, None) };
        let mut e = decided(1, told.0, told.1);
        let first = e.events[0].clone();
        e.events = vec![first; times];
        let record = Record::of(&book([e]));
        let f = figures(&record, &Record::default(), "dark-capacity/idle", at("2026-11-07"));
        prop_assert_eq!((f.decided, f.wrong), (1, u64::from(wrong)));
    }

    /// Others' votes count half of one's own, and old ones less.
    #[test]
    fn others_count_half(n in 1usize..30, days in 0i64..720) {
        let own = Record::of(&book((0..n).map(|i| decided(i, Told::Dismissed, Some(Reason::Wrong)))));
        let now = at("2026-11-01");
        let later = Timestamp::from_second(now.as_second() + days * 86_400).unwrap();
        let width = |own: &Record, others: &Record, at: Timestamp| {
            let s = figures(own, others, "dark-capacity/idle", at).precision.unwrap();
            s.high - s.low
        };
        let none = Record::default();
        prop_assert!(width(&own, &none, now) < width(&none, &own, now));
        prop_assert!(width(&own, &none, now) <= width(&own, &none, later) + 1e-12);
    }
}
