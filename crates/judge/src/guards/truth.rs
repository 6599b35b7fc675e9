//! Precision, recall and dollars against fleets whose truth is decided before the snapshot is written.

use super::{fleets, judge};
use crate::analyze::finding::Confidence;
use crate::report::document::Status;
use std::collections::BTreeMap;

const FLEETS: u64 = 520;

/// (check/part, cluster, workload or pool)
type Key = (String, String, String);

#[derive(Default)]
struct Found {
    usd: Option<f64>,
    measured: bool,
}

/// Findings that a scan counts, those of one subject added up: a pool can be unhealthy for two reasons.
fn found(judged: &super::Judged) -> BTreeMap<Key, Found> {
    let mut all: BTreeMap<Key, Found> = BTreeMap::new();
    for f in judged
        .report
        .findings
        .iter()
        .filter(|f| f.status != Status::Suppressed && !f.claims.is_empty())
    {
        let what = f
            .part
            .as_ref()
            .map_or_else(|| f.check.clone(), |p| format!("{}/{p}", f.check));
        let subject = &f.subject;
        let key = (
            what,
            subject.cluster.clone().unwrap_or_default(),
            subject.name.clone().unwrap_or_default(),
        );
        let entry = all.entry(key).or_insert(Found {
            usd: None,
            measured: true,
        });
        if let Some(usd) = f.usd_per_hour {
            *entry.usd.get_or_insert(0.0) += usd.usd();
        }
        entry.measured &= f.confidence == Confidence::Measured;
    }
    all
}

/// Within 5 %, or a rounding of micro-dollars.
fn agree(found: Option<f64>, truth: Option<f64>) -> bool {
    match (found, truth) {
        (Some(a), Some(b)) => (a - b).abs() <= 0.05 * b + 1e-4,
        (None, None) => true,
        _ => false,
    }
}

#[test]
fn generated_fleets_are_told_their_truth() {
    let (mut said, mut true_said, mut so, mut seen, mut exact) = (0u32, 0u32, 0u32, 0u32, 0u32);
    let mut per_class: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let mut per_mode: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let judged = judge(&made.snapshot, &made.prices);
        let found = found(&judged);
        let truth: BTreeMap<Key, &fleets::Expected> = made
            .truth
            .expected
            .iter()
            .map(|e| ((e.what.to_string(), e.cluster.clone(), e.name.clone()), e))
            .collect();
        for (key, f) in found.iter().filter(|(_, f)| f.measured) {
            said += 1;
            if truth.get(key).is_some_and(|e| e.measured && agree(f.usd, e.usd)) {
                true_said += 1;
            } else {
                wrong.push(format!(
                    "fleet {seed}: said {key:?} {:?}, true {:?}",
                    f.usd,
                    truth.get(key)
                ));
            }
        }
        for (key, e) in &truth {
            so += 1;
            let class = per_class.entry(e.what).or_default();
            class.0 += 1;
            let shared = per_mode.entry(e.mode).or_default();
            shared.0 += 1;
            let hit = found.get(key).filter(|f| agree(f.usd, e.usd));
            if hit.is_some_and(|f| f.measured == e.measured) {
                exact += 1;
            }
            if hit.is_some() {
                seen += 1;
                class.1 += 1;
                shared.1 += 1;
            } else {
                wrong.push(format!(
                    "fleet {seed}: missed {e:?}, found {:?}",
                    found.get(key).map(|f| f.usd)
                ));
            }
        }
        // Whatever is said of anything, sure or not, is said of something true.
        for (key, f) in found.iter().filter(|(key, _)| !truth.contains_key(*key)) {
            wrong.push(format!("fleet {seed}: {key:?} {:?} is not so", f.usd));
        }
        let t = &judged.report.totals;
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.max(1.0);
        let truth = &made.truth;
        let states = [
            t.gpus_free,
            t.gpus_unhealthy,
            t.gpus_stuck,
            t.gpus_idle,
            t.gpus_working,
            t.gpus_unknown,
        ];
        let true_states = [
            truth.free,
            truth.unhealthy,
            truth.stuck,
            truth.idle,
            truth.working,
            truth.unknown,
        ];
        assert!(
            states.iter().zip(true_states).all(|(a, b)| near(*a, b)),
            "fleet {seed}: {states:?} instead of {true_states:?}"
        );
        for node in &judged.fleet.nodes {
            let cluster = judged.fleet.clusters[node.cluster].name.clone();
            let cards = &made.nodes[&(cluster, node.name.clone())];
            assert_eq!(
                u64::from(node.gpus),
                cards.gpus,
                "fleet {seed}: GPUs of {} ({})",
                node.name,
                cards.mode
            );
        }
        let known = truth.free + truth.unhealthy + truth.stuck + truth.idle + truth.working + truth.unknown;
        assert!(near(known, truth.gpus), "fleet {seed}: the generator loses GPUs");
        assert!(
            near(t.gpus, truth.gpus),
            "fleet {seed}: {} GPUs of {}",
            t.gpus,
            truth.gpus
        );
        assert!(
            near(t.gpus_allocated, truth.allocated),
            "fleet {seed}: {} allocated of {}",
            t.gpus_allocated,
            truth.allocated
        );
        assert!(
            (t.spend_usd_per_hour.unwrap_or_default().usd() - truth.spend).abs() < 1e-3,
            "fleet {seed}: spend {} instead of {}",
            t.spend_usd_per_hour.unwrap_or_default(),
            truth.spend
        );
        assert!(
            (t.waste_now_usd_per_hour.unwrap_or_default().usd() - truth.now).abs() < 1e-3,
            "fleet {seed}: now {} instead of {}",
            t.waste_now_usd_per_hour.unwrap_or_default(),
            truth.now
        );
    }
    println!(
        "measured: {true_said} of {said} true; {seen} of {so} found, {exact} with their confidence; by class {per_class:?}, by mode {per_mode:?}"
    );
    let head: Vec<&String> = wrong.iter().take(8).collect();
    assert!(true_said == said, "precision {true_said}/{said}: {head:#?}");
    assert!(f64::from(seen) >= 0.97 * f64::from(so), "recall {seen}/{so}: {head:#?}");
    assert!(
        f64::from(exact) >= 0.95 * f64::from(so),
        "confidence {exact}/{so}: {head:#?}"
    );
    for (what, at_least) in [
        ("dark-capacity/unallocated", 200),
        ("dark-capacity/unhealthy", 60),
        ("dark-capacity/stuck", 150),
        ("dark-capacity/idle", 300),
        ("stranded-gpu/host", 40),
        ("kv-pressure", 40),
        ("parallelism-mismatch", 30),
        ("mig-layout/unpartitioned", 20),
    ] {
        let (so, seen) = per_class.get(what).copied().unwrap_or_default();
        assert!(seen >= at_least, "{what}: {seen} of {so}, {at_least} wanted");
    }
    assert_eq!(per_mode.len(), 8, "{per_mode:?}");
    for (mode, (so, seen)) in per_mode {
        let recall = f64::from(seen) / f64::from(so);
        assert!(so >= 30 && recall >= 0.95, "{mode}: {seen} of {so} found: {head:#?}");
    }
}
