//! Dollars a million tokens: by hand from what was held and done, and the same everywhere they are told.

use super::Context;
use super::history_tests::work;
use super::tests::report;
use crate::catalog::prices::PriceBook;
use crate::fleet;
use crate::report::document::{Report, UnitCosts};
use crate::report::ledger::Ledger;
use crate::report::rows::GroupBy;
use crate::report::{self, Format, Input, RenderOptions};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::snapshot::history::History;

const WEEK_HOURS: f64 = 168.0;
/// What [`work`] did in its window.
const OUTPUT: f64 = 1e8;
const INPUT: f64 = 4e8;

fn history(snap: &mut Snapshot) -> &mut History {
    snap.clusters[0].history.as_mut().unwrap()
}

/// Eight GPUs, a quarter of the time busy.
fn busy() -> Snapshot {
    let mut snap = work(1.0);
    let held = &mut history(&mut snap).usage[0].held[0];
    held.busy_bins = Some(held.gpu_bins / 4.0);
    snap
}

fn grouped(snap: &Snapshot, by: &GroupBy) -> Report {
    let settings = Settings::default();
    let fleet = fleet::join(snap, &PriceBook::default(), &settings);
    let outcomes = super::run(&Context::new(&fleet, &settings), |_| true);
    let ledger = Ledger::new(&fleet, &outcomes);
    let suppressed: Vec<Option<String>> = vec![None; ledger.findings.len()];
    let input = Input {
        outcomes: &outcomes,
        sources: &[],
        gaps: &[],
        group_by: Some(by),
        suppressed: &suppressed,
        policy: report::document::PolicyUse::default(),
        owner_labels: &[],
    };
    report::build(&ledger, &input)
}

fn near(told: Option<f64>, expected: f64) {
    let told = told.unwrap_or(f64::NAN);
    assert!((told / expected - 1.0).abs() < 1e-4, "{told} {expected}");
}

#[test]
fn a_million_tokens_cost_what_was_held_and_what_was_busy() {
    let found = report(&busy());
    let w = &found.workloads[0];
    let bill = w.usd_per_hour.unwrap().usd() * WEEK_HOURS;
    let costs = &w.unit_costs;
    near(costs.usd_per_million_output_tokens, bill / OUTPUT * 1e6);
    near(costs.usd_per_million_input_tokens, bill / INPUT * 1e6);
    near(costs.usd_per_million_output_tokens_used, bill / OUTPUT * 1e6 / 4.0);
    near(costs.usd_per_million_input_tokens_used, bill / INPUT * 1e6 / 4.0);
    assert_eq!((w.counted_hours, w.mean_gpus), (Some(WEEK_HOURS), Some(8.0)));
    assert_eq!(&found.totals.unit_costs, costs, "the only one that makes tokens");
}

#[test]
fn half_the_gpus_over_the_window_are_half_the_bill() {
    let whole = report(&busy()).workloads[0]
        .unit_costs
        .usd_per_million_output_tokens
        .unwrap();
    let mut snap = busy();
    history(&mut snap).usage[0].held[0].gpu_bins /= 2.0;
    near(
        report(&snap).workloads[0].unit_costs.usd_per_million_output_tokens,
        whole / 2.0,
    );
}

#[test]
fn what_is_not_known_is_null() {
    let mut snap = busy();
    history(&mut snap).usage[0].held[0].busy_bins = None;
    let costs = report(&snap).workloads[0].unit_costs.clone();
    assert!(costs.usd_per_million_output_tokens.is_some() && costs.usd_per_million_output_tokens_used.is_none());
    // Neither the windows nor the history count tokens: requests alone price none.
    let mut snap = busy();
    let h = history(&mut snap);
    for window in &mut h.usage {
        (window.work[0].prompt_tokens, window.work[0].output_tokens) = (None, None);
    }
    for load in h.pods.iter_mut().chain(&mut h.workloads) {
        (load.output_tokens, load.output_tokens_total) = (None, None);
    }
    let found = report(&snap);
    assert_eq!(found.workloads[0].unit_costs, UnitCosts::default());
    assert_eq!(found.totals.unit_costs, UnitCosts::default());
    // No tokens are known to be made: there is a bill, and no price of a million.
    let mut snap = busy();
    history(&mut snap).usage[0].work[0].output_tokens = Some(0.0);
    let costs = report(&snap).totals.unit_costs;
    assert!(costs.token_spend_usd_per_hour.is_some() && costs.usd_per_million_output_tokens.is_none());
}

#[test]
fn groups_add_up_to_the_totals_whatever_they_go_by() {
    for by in [
        GroupBy::Namespace,
        GroupBy::Workload,
        GroupBy::Model,
        GroupBy::Gpu,
        GroupBy::Node,
        GroupBy::Cluster,
    ] {
        let found = grouped(&busy(), &by);
        let rows = &found.groups.as_ref().unwrap().rows;
        let priced: Vec<_> = rows
            .iter()
            .filter(|r| r.unit_costs.usd_per_million_output_tokens.is_some())
            .collect();
        assert_eq!(priced.len(), 1, "{by}");
        assert_eq!(priced[0].unit_costs, found.totals.unit_costs, "{by}");
    }
}

#[test]
fn the_chargeback_sheet_has_days_that_add_up() {
    let mut snap = busy();
    // Two days of work in a week, the second with three times the first's.
    let day = |i: usize| match i / 24 {
        2 => 1.0,
        4 => 3.0,
        _ => 0.0,
    };
    let h = history(&mut snap);
    h.workloads[0].hourly = (0..168).map(|i| Some(day(i))).collect();
    let found = grouped(&snap, &GroupBy::Namespace);
    let mut text = Vec::new();
    Format::Csv
        .render(&found, &RenderOptions::default(), &mut text)
        .unwrap();
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let head = reader.headers().unwrap().clone();
    let at = |name: &str| head.iter().position(|h| h == name).unwrap();
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let of = |kind: &str| records.iter().filter(|r| &r[0] == kind).cloned().collect::<Vec<_>>();
    let number = |r: &csv::StringRecord, name: &str| r[at(name)].parse::<f64>().ok();
    let whole = of("workload");
    assert_eq!(whole.len(), 1);
    near(number(&whole[0], "output_tokens"), OUTPUT);
    near(number(&whole[0], "gpu_hours"), 8.0 * WEEK_HOURS);
    near(
        number(&whole[0], "usd_per_million_output_tokens"),
        number(&whole[0], "spend_usd").unwrap() / OUTPUT * 1e6,
    );
    let days = of("workload-day");
    assert!((7..=8).contains(&days.len()), "{}", days.len());
    for (column, total) in [
        ("output_tokens", OUTPUT),
        ("hours", WEEK_HOURS),
        ("gpu_hours", 8.0 * WEEK_HOURS),
    ] {
        near(Some(days.iter().filter_map(|d| number(d, column)).sum()), total);
    }
    near(
        Some(days.iter().filter_map(|d| number(d, "spend_usd")).sum()),
        number(&whole[0], "spend_usd").unwrap(),
    );
    // A day on which nothing was made has a bill, and no price of a million.
    let silent = days.iter().find(|d| number(d, "output_tokens") == Some(0.0)).unwrap();
    assert!(number(silent, "spend_usd").unwrap() > 0.0 && number(silent, "usd_per_million_output_tokens").is_none());
    assert!(
        of("group")
            .iter()
            .any(|g| number(g, "usd_per_million_output_tokens").is_some())
    );
}
