//! The first line of a report is a promise: so much stops if so many things are done.

use super::{Dice, fleets};
use crate::analyze::{self, Context};
use crate::catalog::prices::PriceBook;
use crate::report::decision::{Decision, DecisionState};
use crate::report::document::{PolicyUse, Report, ReportFinding, Status};
use crate::report::ledger::Ledger;
use crate::report::lines::{headline, promise};
use crate::report::text::per_month;
use crate::report::{self, Input};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::units::UsdPerHour;
use crate::verdict::{self, Decisions};
use std::collections::{BTreeMap, BTreeSet};

const FLEETS: u64 = 300;

/// Somebody snoozed and dismissed some, and does others.
struct Decided(BTreeMap<String, DecisionState>);

impl Decisions for Decided {
    fn of(&self, id: &str, _: Option<&ReportFinding>, _: &Report) -> Decision {
        Decision {
            state: self.0.get(id).copied().unwrap_or_default(),
            ..Decision::default()
        }
    }
}

/// How often what was looked at came up.
#[derive(Default)]
struct Seen {
    stops: u64,
    together: u64,
    hidden: u64,
    suppressed: u64,
    unpriced: u64,
}

/// Some findings suppressed, some decided; then the promise must be what doing just its things gives.
fn hold(snapshot: &Snapshot, prices: &PriceBook, (suppress, decide): (u64, u64), dice: &mut Dice, seen: &mut Seen) {
    let settings = Settings::default();
    let fleet = crate::fleet::join(snapshot, prices, &settings);
    let outcomes = analyze::run(&Context::new(&fleet, &settings), |_| true);
    let ledger = Ledger::new(&fleet, &outcomes);
    let reasons: Vec<Option<String>> = ledger
        .ids
        .iter()
        .map(|_| dice.chance(suppress).then(|| "reviewed".to_owned()))
        .collect();
    let input = Input {
        outcomes: &outcomes,
        sources: &snapshot.sources,
        gaps: &snapshot.gaps,
        group_by: None,
        suppressed: &reasons,
        policy: PolicyUse::default(),
        owner_labels: &[],
    };
    let mut report = report::build(&ledger, &input);
    let states = ledger.ids.iter().filter(|_| dice.chance(decide)).cloned();
    let states: Vec<String> = states.collect();
    let all = [DecisionState::Snoozed, DecisionState::Dismissed, DecisionState::Claimed];
    let states = states.into_iter().map(|id| (id, *dice.pick(&all))).collect();
    verdict::decide(&mut report, &ledger, &Decided(states));
    let (now, reusable, things) = promise(&report);
    let hidden = |f: &&ReportFinding| f.status == Status::Suppressed || report::decision::is_hidden(f);
    // Nothing that somebody put aside has to be done, and none of its money is in it.
    let aside: BTreeSet<&str> = report.findings.iter().filter(hidden).map(|f| f.id.as_str()).collect();
    assert!(things.is_disjoint(&aside));
    let shown = report.findings.iter().filter(|f| !hidden(f));
    let waste: UsdPerHour = shown.filter_map(|f| f.waste_usd_per_hour).sum();
    assert_eq!(now + reusable, waste);
    // Whoever does these things, and nothing else, has at least this money, counted anew.
    let done = ledger.resolve(|i| things.contains(ledger.ids[i].as_str()).then_some(0));
    let stopped: UsdPerHour = done.findings.iter().map(|f| f.now).sum();
    assert!(stopped >= now, "{now} a promise, {stopped} stop: {things:?}");
    // By itself no bill stops there, but without it others would not.
    let by_itself = |f: &&ReportFinding| f.waste_now_usd_per_hour.is_some_and(UsdPerHour::is_positive);
    let own: BTreeSet<&str> = report
        .findings
        .iter()
        .filter(by_itself)
        .map(|f| f.id.as_str())
        .collect();
    for thing in things.difference(&own) {
        seen.together += 1;
        let without = ledger.resolve(|i| {
            let id = ledger.ids[i].as_str();
            (id != *thing && things.contains(id)).then_some(0)
        });
        let rest: UsdPerHour = without.findings.iter().map(|f| f.now).sum();
        assert!(rest < stopped, "{thing} gives nothing");
    }
    let line = headline(&report);
    if now.is_positive() {
        let many = things.len();
        let plural = if many == 1 {
            "1 thing is".to_owned()
        } else {
            format!("{many} things are")
        };
        let said = format!("{} a month stops if {plural} done", per_month(now));
        assert!(line.starts_with(&said), "{line}: {said}");
        seen.stops += 1;
    } else if !reusable.is_positive() && report.totals.waste_usd_per_hour.is_some_and(UsdPerHour::is_positive) {
        assert!(!line.contains("No waste was found"), "{line}");
    }
    seen.hidden += u64::from(report.findings.iter().any(report::decision::is_hidden));
    seen.suppressed += u64::from(report.findings.iter().any(|f| f.status == Status::Suppressed));
    let unpriced = |f: &&ReportFinding| !f.claims.is_empty() && f.usd_per_hour.is_none();
    seen.unpriced += report.findings.iter().filter(unpriced).count() as u64;
}

#[test]
fn what_the_first_line_says_stops_does_if_its_things_are_done() {
    let (mut dice, mut seen) = (Dice(71), Seen::default());
    let ways = [(0, 0), (30, 0), (0, 40), (20, 20)];
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        hold(
            &made.snapshot,
            &made.prices,
            ways[(seed % 4) as usize],
            &mut dice,
            &mut seen,
        );
    }
    let demo = super::recorded_demo();
    for way in ways {
        hold(&demo, &PriceBook::default(), way, &mut dice, &mut seen);
    }
    assert!(seen.stops >= 60, "{}", seen.stops);
    let some = [seen.together, seen.hidden, seen.suppressed, seen.unpriced];
    assert!(some.iter().all(|n| *n >= 5), "{some:?}");
}
