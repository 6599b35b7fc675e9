//! What sixty days teach: operators who act (late, by half, and sometimes take it back), refuse for true reasons, or do
//! nothing. Each knows the truth of their own fleet; the record knows only what they decided and what settling measured.

use crate::world::{Case, Dice, HOURS, Kind, STEP, add, claims, decided, report, settle};
use gpuwaste_decisions::entry::{Entry, Reason, Told, check_name};
use gpuwaste_decisions::record::{Figures, Learned, Record};
use gpuwaste_decisions::standing::{Book, Standing};
use gpuwaste_facts::units::UsdPerHour;
use gpuwaste_judge::report::document::Report;
use gpuwaste_judge::report::rank_by_expected;
use gpuwaste_judge::verdict::Decisions;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What happens in 20 fleets: free nodes are nearly always returned; what is idle mostly leaves its node behind, is meant to be
/// there (`Traffic`), or was working all the time (`Never`: the tool erred); half of the replicas go with their work.
const MIX: [(Kind, i64); 9] = [
    (Kind::FreeGone, 5),
    (Kind::FreeUsed, 1),
    (Kind::IdleStays, 4),
    (Kind::IdleGone, 1),
    (Kind::Never, 2),
    (Kind::Traffic, 1),
    (Kind::Over, 1),
    (Kind::OverDeleted, 3),
    (Kind::Tier, 2),
];

fn fleets(seed: u64, count: usize) -> Vec<Case> {
    let mut dice = Dice(seed);
    let all: i64 = MIX.iter().map(|m| m.1).sum();
    (0..count)
        .map(|i| {
            let mut at = dice.roll(all);
            let kind = MIX.iter().find(|(_, n)| {
                at -= n;
                at < 0
            });
            Case {
                name: format!("s{seed}-{i:03}"),
                kind: kind.unwrap().0,
                act: 48 + dice.roll(24 * 38),
                delay: dice.roll(20),
                half: dice.roll(5) == 0,
                grows: None,
                claimed: dice.roll(10) < 7,
                // Not on the day that everybody decides on.
                unread: (dice.roll(4) == 0).then(|| 8 + dice.roll(HOURS / STEP - 8)),
            }
        })
        .collect()
}

/// Operators refuse what is not so (`Never`), and what is meant to be so (`Traffic`), before anything else happens.
fn refusals(book: &mut Book, cases: &[Case]) {
    let first = report(cases, 24);
    for case in cases {
        let reason = match case.kind {
            Kind::Never => Reason::Wrong,
            Kind::Traffic => Reason::Intended,
            _ => continue,
        };
        let f = first.findings.iter().find(|f| f.id == case.id()).unwrap();
        let mut entry = Entry::new(&first, f);
        entry.events.push(decided(&first, f, Told::Dismissed, Some(reason)));
        book.entries.insert(case.id(), entry);
    }
}

/// 120 fleets, their ledger after sixty days (a report a day), and when that is.
fn lived() -> &'static (Vec<Case>, Book, Timestamp) {
    static LIVED: OnceLock<(Vec<Case>, Book, Timestamp)> = OnceLock::new();
    LIVED.get_or_init(|| {
        let cases = fleets(3, 120);
        let mut book = claims(&cases);
        refusals(&mut book, &cases);
        let appends = settle(book.clone(), &cases, (0..HOURS).step_by(24));
        add(&mut book, appends);
        let last = report(&cases[..1], HOURS).taken_at;
        (cases, book, last)
    })
}

/// What a finding's dollars come to in truth: realised, of what was said on the first day.
fn worth(case: &Case, said: f64) -> f64 {
    case.truth().map_or(0.0, |(_, _, usd)| (usd / said).max(0.0))
}

/// Findings of fleets that nobody decided about, of sizes from one to forty times, the dearest first; with what each is worth in
/// truth.
fn fresh(seed: u64) -> (Report, BTreeMap<String, f64>) {
    let cases = fleets(seed, 60);
    let mut dice = Dice(seed ^ 0xfee1);
    let mut told = report(&cases, 24);
    let mut truth = BTreeMap::new();
    told.findings.retain_mut(|f| {
        let case = cases.iter().find(|c| c.id() == f.id);
        let usd = f.waste_usd_per_hour.unwrap().usd();
        let size = 1.0 + dice.roll(40) as f64;
        let Some(case) = case else { return false };
        truth.insert(f.id.clone(), worth(case, usd) * usd * size);
        let all = UsdPerHour::from_usd(usd * size);
        (f.usd_per_hour, f.waste_usd_per_hour) = (all, all);
        true
    });
    told.findings.sort_by_key(|f| std::cmp::Reverse(f.usd_per_hour));
    (told, truth)
}

fn top_ten(told: &Report, truth: &BTreeMap<String, f64>) -> f64 {
    told.findings.iter().take(10).map(|f| truth[&f.id]).sum()
}

#[test]
fn the_top_ten_hold_more_that_is_really_saved() {
    let (_, book, last) = lived();
    let standing = Standing::new(book.clone(), &Record::default(), *last);
    let (mut without, mut with, mut better, mut worse) = (0.0, 0.0, 0, 0);
    for seed in 100..125 {
        let (mut told, truth) = fresh(seed);
        let before = top_ten(&told, &truth);
        for f in &mut told.findings {
            let (_, share) = standing.record(f).expect("each check has a record");
            let share = share.expect("each check has eight outcomes");
            f.expected_usd_per_hour = f.waste_usd_per_hour.map(|w| w.scale(share));
        }
        rank_by_expected(&mut told);
        let after = top_ten(&told, &truth);
        (without, with) = (without + before, with + after);
        (better, worse) = (better + i32::from(after > before), worse + i32::from(after < before));
    }
    eprintln!(
        "top ten of 25 fresh lists: ${without:.0}/h are really saved by dollars found, ${with:.0}/h by dollars expected ({:+.0} %); better in {better}, worse in {worse}",
        (with / without - 1.0) * 100.0
    );
    assert!(with > without && better > 18, "{without} {with} {better} {worse}");
}

#[test]
fn only_what_was_wrong_is_learned_as_wrong() {
    let (cases, book, last) = lived();
    let learned = Learned::of(book, &Record::default(), *last);
    let standing = Standing::new(book.clone(), &Record::default(), *last);
    let first = report(cases, 24);
    let mut erred: BTreeMap<String, u64> = BTreeMap::new();
    for case in cases {
        let f = first.findings.iter().find(|f| f.id == case.id()).unwrap();
        *erred.entry(check_name(&f.check, f.part.as_deref())).or_default() += u64::from(case.kind == Kind::Never);
    }
    assert!(erred["dark-capacity/idle"] >= 10 && erred.len() == 4, "{erred:?}");
    for (check, wrong) in erred {
        let figures: &Figures = &learned.checks[&check];
        assert_eq!(figures.wrong, wrong, "{check}");
        let (check, part) = check
            .split_once('/')
            .map_or((check.as_str(), None), |(c, p)| (c, Some(p)));
        assert_eq!(standing.cap(check, part).is_some(), wrong > 0, "{check}");
    }
    // What is meant to be so says nothing about the check, and one refusal a subject proposes nothing.
    assert!(cases.iter().filter(|c| c.kind == Kind::Traffic).count() >= 3);
    assert!(learned.proposals.is_empty(), "{:?}", learned.proposals);
}
