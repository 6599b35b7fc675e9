//! A fault never makes a verdict better or anything dearer: every read × every way in which it fails × many fleets × whatever was asked
//! for. A gate is a promise: what was breached before is breached still, or gives no verdict; and nothing rises (R12).

use super::monotone::{ALL, Lost, assert_not_better, lose};
use super::{Dice, Judged, fleets, judge};
use crate::analyze::finding::Confidence;
use crate::catalog::prices::PriceBook;
use crate::report::ledger::Ledger;
use crate::settings::{Gates, Settings};
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::SELECTED;
use crate::verdict;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

const FLEETS: u64 = 300;

/// Reads that the collector knows to have failed. A series that is not on a page may never have been there, and rights on
/// some namespaces only are asked for: neither is a lost read.
const READS: &[Lost] = &[
    Lost::Cluster,
    Lost::Nodes,
    Lost::Pods,
    Lost::Namespace,
    Lost::Outside,
    Lost::Owners,
    Lost::Autoscalers,
    Lost::Budgets,
    Lost::PodUsage,
    Lost::Exporter,
    Lost::Engine,
    Lost::Proxy,
    Lost::History,
    Lost::HistoryPart,
    Lost::Store,
    Lost::Clock,
    Lost::StoreClock,
    Lost::NodeClock,
    Lost::PodClock,
    Lost::Described,
    Lost::Groups,
    Lost::Selector,
    Lost::ConfigMap,
];

/// By what rights, and of whom, a scan was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Whole,
    /// `-n`, with the rights of the whole cluster.
    Named,
    /// `-n`, with rights on these namespaces only.
    Namespaced,
    /// `-l`
    Selected,
}

const SCOPES: &[Scope] = &[Scope::Whole, Scope::Named, Scope::Namespaced, Scope::Selected];

fn scoped(snapshot: &Snapshot, scope: Scope, dice: &mut Dice) -> Snapshot {
    let mut made = snapshot.clone();
    for cluster in &mut made.clusters {
        let all: BTreeSet<String> = cluster.pods.iter().map(|p| p.namespace.clone()).collect();
        let named: Vec<String> = all.into_iter().filter(|_| dice.chance(70)).collect();
        match scope {
            Scope::Whole => {}
            Scope::Named => cluster.pods_read.namespaces = named,
            Scope::Namespaced => {
                cluster.pods_read.complete = named.is_empty();
                cluster.pods_read.namespaces.clone_from(&named);
                if !named.is_empty() {
                    cluster.pods.retain(|p| named.contains(&p.namespace));
                    cluster.controllers.retain(|c| named.contains(&c.namespace));
                    cluster.engines.retain(|e| named.contains(&e.namespace));
                }
            }
            Scope::Selected => {
                cluster.pods_read.selector = Some("team=a".into());
                for pod in cluster.pods.iter_mut().filter(|_| dice.chance(70)) {
                    pod.labels.insert(SELECTED.into(), "true".into());
                }
            }
        }
    }
    made
}

/// A lost read as it is under this scope; `false`: there is none.
fn lose_in(snapshot: &mut Snapshot, scope: Scope, lost: Lost, dice: &mut Dice) -> bool {
    match (scope, lost) {
        // Who names no namespace has none refused, and who names some is read namespace by namespace; other names are another
        // question.
        (Scope::Whole | Scope::Named | Scope::Selected, Lost::Namespace)
        | (Scope::Named | Scope::Namespaced, Lost::Pods | Lost::OtherNamespaces) => false,
        _ => lose(snapshot, lost, dice),
    }
}

/// The exit code, and of each gate: what it counts, whether it is breached, whether it gives no verdict.
pub(super) fn verdict_of(judged: &Judged, gates: &Gates) -> (u8, Vec<(f64, bool, bool)>) {
    let settings = Settings::default();
    let ledger = Ledger::new(&judged.fleet, &judged.outcomes);
    let suppressed = verdict::suppress(&ledger, &settings, |_| true);
    let statuses = verdict::statuses(&judged.report, &ledger, &suppressed.reasons, None);
    let mut report = judged.report.clone();
    report.gates.clear();
    let verdict = verdict::judge(&mut report, &ledger, &statuses, &[], gates, None);
    let told = report.gates.iter();
    let told = told
        .map(|g| (g.actual.unwrap_or(0.0), g.breached, g.undecided))
        .collect();
    (verdict.code, told)
}

/// One set of gates a confidence that `judged` breaches by a cent each, where it counts anything.
pub(super) fn breached(judged: &Judged) -> Vec<Gates> {
    let mut all = Vec::new();
    for confidence in [Confidence::Assumed, Confidence::Estimated, Confidence::Measured] {
        let mut gates = Gates {
            max_waste: Some(0.0),
            max_waste_percent: Some(0.0),
            max_at_risk: Some(0.0),
            confidence: Some(confidence),
            min_coverage: Some(0.0),
            ..Gates::default()
        };
        let (_, told) = verdict_of(judged, &gates);
        let under = |i: usize| (told[i].0 > 0.02).then(|| told[i].0 - 0.01);
        (gates.max_waste, gates.max_waste_percent, gates.max_at_risk) = (under(0), under(1), under(2));
        let some = told.iter().any(|(counted, ..)| *counted > 0.02);
        all.extend(some.then_some(gates));
    }
    all
}

/// Lost reads that were looked at, gates that were held against them, and which of them let one pass or made something rise.
#[derive(Default)]
struct Held {
    times: BTreeMap<(Scope, Lost), u64>,
    gates: BTreeMap<Lost, u64>,
    wrong: BTreeMap<(Scope, Lost), Vec<String>>,
}

fn hold(snapshot: &Snapshot, scope: Scope, prices: &PriceBook, name: &str, dice: &mut Dice, held: &mut Held) {
    let snapshot = &scoped(snapshot, scope, dice);
    let whole = judge(snapshot, prices);
    let gates = breached(&whole);
    for gates in &gates {
        let (code, told) = verdict_of(&whole, gates);
        assert!(
            code == 1 && told.iter().all(|(_, breached, _)| *breached),
            "{name}: {gates:?} {told:?}"
        );
    }
    for lost in ALL {
        let mut less = snapshot.clone();
        if !lose_in(&mut less, scope, *lost, dice) {
            continue;
        }
        let part = judge(&less, prices);
        let what = format!("{name} without {lost:?}, {scope:?}");
        let rises = AssertUnwindSafe(|| assert_not_better(&whole, &part, &what));
        if let Err(why) = catch_unwind(rises) {
            let words = why.downcast_ref::<String>().cloned().unwrap_or(what);
            held.wrong.entry((scope, *lost)).or_default().push(words);
        }
        *held.times.entry((scope, *lost)).or_default() += 1;
        for gates in gates.iter().filter(|_| READS.contains(lost)) {
            let (code, told) = verdict_of(&part, gates);
            let passes = told.iter().any(|(_, breached, undecided)| !breached && !undecided);
            if passes || code == 0 {
                let words = format!("{name}: {gates:?} now {told:?}, exit {code}");
                held.wrong.entry((scope, *lost)).or_default().push(words);
            }
            *held.gates.entry(*lost).or_default() += told.len() as u64;
        }
    }
}

#[test]
fn no_fault_makes_a_verdict_better_or_anything_dearer() {
    let mut dice = Dice(23);
    let mut held = Held::default();
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let scope = SCOPES[(seed % SCOPES.len() as u64) as usize];
        hold(
            &made.snapshot,
            scope,
            &made.prices,
            &format!("fleet {seed}"),
            &mut dice,
            &mut held,
        );
    }
    let demo = super::recorded_demo();
    for round in 0..8 {
        let scope = SCOPES[round % SCOPES.len()];
        hold(
            &demo,
            scope,
            &PriceBook::default(),
            &format!("the demo, {round}"),
            &mut dice,
            &mut held,
        );
    }
    for (what, wrong) in &held.wrong {
        println!("{what:?}: {} of {}: {}", wrong.len(), held.times[what], wrong[0]);
    }
    assert!(held.wrong.is_empty(), "{} kinds", held.wrong.len());
    // No generated fleet has use of CPU by metrics.k8s.io.
    for lost in READS.iter().filter(|l| **l != Lost::PodUsage) {
        let gates = held.gates.get(lost).copied().unwrap_or(0);
        assert!(gates >= 20, "{lost:?} was held against {gates} gates");
    }
    for lost in ALL.iter().filter(|l| **l != Lost::PodUsage) {
        let times: u64 = held.times.iter().filter(|((_, l), _)| l == lost).map(|(_, n)| n).sum();
        assert!(times >= 2, "{lost:?} was lost {times} times");
    }
    let scopes: BTreeSet<Scope> = held.times.keys().map(|(scope, _)| *scope).collect();
    assert_eq!(scopes.len(), SCOPES.len());
}
