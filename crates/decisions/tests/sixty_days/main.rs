//! Sixty days of many small fleets, whose truth this file knows by its own arithmetic: who acted, when the nodes left, who took
//! the GPUs, what came back. Settling sees only the reports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::too_many_arguments,
    clippy::similar_names,
    clippy::match_same_arms
)]

mod learning;
mod world;

use gpuwaste_decisions::entry::{Outcome, Told};
use gpuwaste_decisions::settle::Settler;
use gpuwaste_decisions::standing::Book;
use gpuwaste_decisions::store::Append;
use std::collections::BTreeMap;
use world::{Case, HOURS, STEP, add, cases, claims, report, settle};

#[test]
fn sixty_days_are_settled_as_they_were() {
    let cases = cases(60);
    let book = claims(&cases);
    let all = || (0..HOURS).step_by(STEP as usize);
    let appends = settle(book.clone(), &cases, all());
    let by_id: BTreeMap<&str, &Append> = appends.iter().map(|a| (a.entry.finding.id.as_str(), a)).collect();
    let (mut right, mut hours, mut off, mut dollars, mut judged) = (0.0, 0.0, 0.0, 0.0, 0);
    let mut wrong = Vec::new();
    for case in &cases {
        let got = by_id.get(case.id().as_str());
        let Some((state, truth, usd)) = case.truth() else {
            assert!(
                got.is_none_or(|a| a.outcomes.is_empty()),
                "{case:?}: nobody acted: {got:?}"
            );
            continue;
        };
        let Some(outcome) = got.and_then(|a| a.outcomes.first()) else {
            hours += truth.values().sum::<f64>();
            (off, dollars) = (off + usd.abs(), dollars + usd.abs());
            wrong.push(format!("{case:?}: not settled"));
            continue;
        };
        judged += 1;
        let same: f64 = truth
            .iter()
            .map(|(c, h)| h.min(outcome.gpu_hours.get(c).copied().unwrap_or(0.0)))
            .sum();
        let total = truth.values().sum::<f64>();
        (right, hours) = (right + same, hours + total.max(outcome.gpu_hours.values().sum()));
        let realised = outcome.realised_usd_per_hour.usd();
        (off, dollars) = (off + (realised - usd).abs(), dollars + usd.abs());
        let told = got
            .unwrap()
            .events
            .iter()
            .rev()
            .find(|e| e.state != Told::Applied)
            .map(|e| e.state);
        if same < total * 0.9 || (realised - usd).abs() > 0.5 || told != Some(state) {
            wrong.push(format!(
                "{case:?}: {truth:?} {usd} {state:?}; got {:?} {realised} {told:?}",
                outcome.gpu_hours
            ));
        }
    }
    eprintln!(
        "60 days, {} fleets, {judged} settled: class of {:.2} % of {hours:.0} GPU-hours right, realised dollars off by {:.2} % of ${dollars:.0}/h",
        cases.len(),
        right / hours * 100.0,
        off / dollars * 100.0
    );
    wrong.iter().take(12).for_each(|w| eprintln!("{w}"));
    assert!(judged > 45 && right / hours >= 0.98 && off / dollars <= 0.05);

    // Run twice: nothing changes.
    let mut after = book.clone();
    add(&mut after, appends.clone());
    let again = settle(after, &cases, all());
    assert!(again.is_empty(), "{:?}", again.first());
}

/// A series that is settled week by week comes to the same as one that is settled whole.
#[test]
fn a_series_in_parts_is_the_series() {
    let cases: Vec<Case> = cases(36).into_iter().filter(|c| c.claimed).collect();
    let book = claims(&cases);
    let whole = settle(book.clone(), &cases, (0..HOURS).step_by(STEP as usize));
    let mut parts = book;
    // Each part begins with the last report of the one before, so that what was there is known.
    for week in 0..4 {
        let from = (week * 15 * 24 - STEP).max(0);
        let more = settle(
            parts.clone(),
            &cases,
            (from..(week + 1) * 15 * 24).step_by(STEP as usize),
        );
        add(&mut parts, more);
    }
    let realised = |outcomes: &[Outcome]| outcomes.first().map(|o| o.realised_usd_per_hour.usd());
    let (mut same, mut all) = (0, 0);
    for a in whole.iter().filter(|a| !a.outcomes.is_empty()) {
        all += 1;
        let part = parts
            .entries
            .get(&a.entry.finding.id)
            .map(|e| e.outcomes.as_slice())
            .unwrap_or_default();
        same += usize::from(realised(part) == realised(&a.outcomes));
    }
    eprintln!("in parts: {same} of {all} outcomes the same");
    assert!(all > 15 && same * 10 >= all * 9, "{same} of {all}");
}

#[test]
fn reports_out_of_order_are_refused() {
    let cases = cases(12);
    let mut settler = Settler::new(Book::default());
    settler.step(&report(&cases, 12)).unwrap();
    settler.step(&report(&cases, 12)).unwrap();
    assert!(settler.step(&report(&cases, 6)).unwrap_err().contains("order of time"));
    assert_eq!(settler.reports, 1);
}

/// Each cluster's own snapshot, of the same moment as another's: each counts once.
#[test]
fn clusters_that_are_recorded_at_one_moment_all_count() {
    let one = report(&cases(12), 12);
    let mut other = one.clone();
    for node in &mut other.nodes {
        node.cluster = Some("another".into());
    }
    let mut settler = Settler::new(Book::default());
    for told in [&one, &other, &one, &other] {
        settler.step(told).unwrap();
    }
    assert_eq!(settler.reports, 2);
    settler.step(&report(&cases(12), 13)).unwrap();
    assert_eq!(settler.reports, 3);
}
