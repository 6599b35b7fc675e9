//! A gate is a promise: a read that fails never turns one green. What it breached before it breaches, or it gives no verdict.

use super::invariants::FLEETS;
use super::monotone::{Lost, lose};
use super::{Dice, Judged, fleets, judge};
use crate::analyze::finding::Confidence;
use crate::catalog::prices::PriceBook;
use crate::report::ledger::Ledger;
use crate::settings::{Gates, Settings};
use crate::snapshot::Snapshot;
use crate::verdict;
use std::collections::BTreeMap;

/// Reads that the collector knows to have failed. A series that is not on a page may never have been there, and rights on
/// some namespaces only are asked for: neither is a lost read.
const READS: &[Lost] = &[
    Lost::Cluster,
    Lost::Nodes,
    Lost::Pods,
    Lost::Owners,
    Lost::Autoscalers,
    Lost::Budgets,
    Lost::PodUsage,
    Lost::Exporter,
    Lost::Engine,
    Lost::History,
];

fn verdict_of(judged: &Judged, gates: &Gates) -> (u8, Option<f64>) {
    let settings = Settings::default();
    let ledger = Ledger::new(&judged.fleet, &judged.outcomes);
    let suppressed = verdict::suppress(&ledger, &settings, |_| true);
    let statuses = verdict::statuses(&judged.report, &ledger, &suppressed.reasons, None);
    let mut report = judged.report.clone();
    report.gates.clear();
    let verdict = verdict::judge(&mut report, &ledger, &statuses, &[], gates, None);
    (verdict.code, report.gates.first().and_then(|g| g.actual))
}

/// Gates that `judged` breaches: each kind at each confidence, from far below to a cent below what it counts.
fn breached(judged: &Judged) -> Vec<Gates> {
    let mut all = Vec::new();
    for confidence in [Confidence::Assumed, Confidence::Estimated, Confidence::Measured] {
        for kind in 0..3 {
            let gates = |limit: f64| {
                let mut gates = Gates {
                    confidence: Some(confidence),
                    ..Gates::default()
                };
                match kind {
                    0 => gates.max_waste = Some(limit),
                    1 => gates.max_waste_percent = Some(limit),
                    _ => gates.max_at_risk = Some(limit),
                }
                gates
            };
            let Some(actual) = verdict_of(judged, &gates(0.0)).1.filter(|a| *a > 0.02) else {
                continue;
            };
            all.extend([0.0, actual / 2.0, actual - 0.01].map(gates));
        }
    }
    all
}

fn hold(snapshot: &Snapshot, prices: &PriceBook, name: &str, dice: &mut Dice) -> BTreeMap<Lost, u64> {
    let whole = judge(snapshot, prices);
    let gates = breached(&whole);
    let mut held = BTreeMap::new();
    for lost in READS.iter().filter(|_| !gates.is_empty()) {
        let mut less = snapshot.clone();
        if !lose(&mut less, *lost, dice) {
            continue;
        }
        let part = judge(&less, prices);
        for gates in &gates {
            assert_eq!(verdict_of(&whole, gates).0, 1, "{name}: {gates:?}");
            // Without nodes it is the coverage that is unknown; elsewhere it must not be needed.
            let gates = Gates {
                min_coverage: (*lost != Lost::Nodes).then_some(0.0),
                ..*gates
            };
            let (code, actual) = verdict_of(&part, &gates);
            assert_ne!(
                code, 0,
                "{name} without {lost:?}: {gates:?} counts {actual:?} now, and passes"
            );
            *held.entry(*lost).or_default() += 1;
        }
    }
    held
}

#[test]
fn no_failed_read_turns_a_gate_green() {
    let mut dice = Dice(23);
    let mut held: BTreeMap<Lost, u64> = BTreeMap::new();
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        for (lost, n) in hold(&made.snapshot, &made.prices, &format!("fleet {seed}"), &mut dice) {
            *held.entry(lost).or_default() += n;
        }
    }
    let demo = super::recorded_demo();
    for round in 0..6 {
        for (lost, n) in hold(&demo, &PriceBook::default(), &format!("the demo, {round}"), &mut dice) {
            *held.entry(lost).or_default() += n;
        }
    }
    // No generated fleet has use of CPU by metrics.k8s.io.
    for lost in READS.iter().filter(|l| **l != Lost::PodUsage) {
        assert!(held.get(lost).is_some_and(|n| *n >= 20), "{lost:?}: {held:?}");
    }
}
