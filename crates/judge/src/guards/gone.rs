//! Gone is not saved: what is done to a generated fleet between two scans decides what its findings became, and both ways
//! of comparing count the same growth.

use super::{Judged, fleets, judge, judge_fleet};
use crate::analyze::finding::{Confidence, FindingKind};
use crate::catalog::prices::PriceBook;
use crate::fleet;
use crate::report::difference;
use crate::report::document::{Became, Report, ReportFinding};
use crate::report::ledger::Ledger;
use crate::settings::{Gates, Settings, Tolerance};
use crate::snapshot::Snapshot;
use crate::verdict::{self, Baseline};

/// The snapshot's report against a baseline, and what `--max-new-waste` counts in it.
fn against(old: &Report, snapshot: &Snapshot, prices: &PriceBook) -> (Report, f64) {
    let settings = Settings::default();
    let judged = judge_fleet(snapshot, fleet::join(snapshot, prices, &settings), None);
    let ledger = Ledger::new(&judged.fleet, &judged.outcomes);
    let baseline = Baseline::parse(&Baseline::of(old).to_json().unwrap()).unwrap();
    let mut report = judged.report.clone();
    report.gates.clear();
    baseline.apply(&mut report, &ledger, &judged.outcomes, Tolerance::default());
    let suppressed = vec![None; ledger.findings.len()];
    let statuses = verdict::statuses(&report, &ledger, &suppressed, Some(&baseline));
    let gates = Gates {
        max_new_waste: Some(0.0),
        confidence: Some(Confidence::Assumed),
        ..Gates::default()
    };
    verdict::judge(
        &mut report,
        &ledger,
        &statuses,
        &[],
        &gates,
        Some((&baseline, Tolerance::default())),
    );
    let grown = report.gates[0].actual.unwrap_or(0.0);
    (report, grown)
}

fn idle(judged: &Judged) -> Option<&ReportFinding> {
    let is_idle = |f: &&ReportFinding| f.part.as_deref() == Some("idle") && f.kind == FindingKind::Recoverable;
    judged
        .report
        .findings
        .iter()
        .filter(is_idle)
        .find(|f| f.usd_per_hour.is_some())
}

/// Removes the pods that a finding is about.
fn scale_to_zero(snapshot: &mut Snapshot, finding: &ReportFinding) -> bool {
    let (Some(cluster), Some(namespace), Some(name)) = (
        &finding.subject.cluster,
        &finding.subject.namespace,
        &finding.subject.name,
    ) else {
        return false;
    };
    let Some(cluster) = snapshot.clusters.iter_mut().find(|c| c.name == *cluster) else {
        return false;
    };
    let before = cluster.pods.len();
    cluster
        .pods
        .retain(|p| !(p.namespace == *namespace && p.name.starts_with(name.as_str())));
    cluster
        .engines
        .retain(|e| !(e.namespace == *namespace && e.pod.starts_with(name.as_str())));
    for gpu in &mut cluster.gpus {
        gpu.holders
            .retain(|h| !(h.namespace == *namespace && h.name.starts_with(name.as_str())));
    }
    cluster.pods.len() < before
}

#[test]
fn what_is_scaled_to_zero_moves_and_is_not_new() {
    let (mut moved, mut tried) = (0, 0);
    for seed in 0..160 {
        let made = fleets::make(seed);
        let old = judge(&made.snapshot, &made.prices);
        let Some(finding) = idle(&old) else { continue };
        let mut later = made.snapshot.clone();
        if !scale_to_zero(&mut later, finding) {
            continue;
        }
        tried += 1;
        let (report, grown) = against(&old.report, &later, &made.prices);
        let by_diff = verdict::growth::growth(
            &verdict::money(&old.report, |_| true),
            &verdict::money(&report, |_| true),
            Tolerance::default(),
        );
        let by_diff = crate::units::sum_known(by_diff).usd();
        assert!(
            (grown - by_diff).abs() < 1e-4,
            "fleet {seed}: scan {grown}, diff {by_diff}"
        );
        let Some(gone) = report.fixed.iter().flatten().find(|f| f.id == finding.id) else {
            continue;
        };
        let diff = difference::between(&old.report, &report);
        let entry = diff.gone_findings.iter().find(|e| e.id == finding.id).unwrap();
        if gone.not_assessed.is_none() {
            assert_eq!(gone.became, entry.became, "fleet {seed}");
            assert_ne!(gone.became, Some(Became::Saved), "fleet {seed}: no bill has stopped");
        }
        moved += u32::from(gone.became == Some(Became::Moved));
        if gone.became == Some(Became::Moved) {
            // Removing one holder may let a waiting pod's GPUs be seen as scattered: never more than what moved.
            let new = diff.new_findings.iter().chain(&diff.changed_findings);
            let new: Vec<_> = new
                .map(|e| (&e.title, e.usd_per_hour.old, e.usd_per_hour.new))
                .collect();
            assert!(
                grown <= 1e-3,
                "fleet {seed}: {} moved, and {grown} is new: {new:?}",
                finding.title
            );
        }
    }
    println!("{moved} of {tried} moved");
    assert!(moved >= 40, "{moved} of {tried}");
}

#[test]
fn only_a_node_that_left_with_its_bill_is_saved() {
    let (mut saved, mut vanished) = (0, 0);
    for seed in 0..160 {
        let made = fleets::make(seed);
        let old = judge(&made.snapshot, &made.prices);
        let Some(finding) = idle(&old) else { continue };
        let nodes: std::collections::BTreeSet<&str> = finding.claims.iter().map(|c| c.node.as_str()).collect();
        let cluster = finding.subject.cluster.clone().unwrap_or_default();
        let mut later = made.snapshot.clone();
        let Some(there) = later.clusters.iter_mut().find(|c| c.name == cluster) else {
            continue;
        };
        let Some(list) = &mut there.nodes else { continue };
        list.retain(|n| !nodes.contains(n.name.as_str()));
        there
            .pods
            .retain(|p| p.node.as_deref().is_none_or(|n| !nodes.contains(n)));
        there.gpus.retain(|g| !nodes.contains(g.node.as_str()));
        let (report, _) = against(&old.report, &later, &made.prices);
        let became = |report: &Report| {
            report
                .fixed
                .iter()
                .flatten()
                .find(|f| f.id == finding.id)
                .and_then(|f| f.became)
        };
        let Some(class) = became(&report) else { continue };
        saved += u32::from(class == Became::Saved);
        // The same, where the baseline had no more spend than this: the nodes have other names now.
        let mut cheap = old.report.clone();
        cheap.totals.spend_usd_per_hour = report.totals.spend_usd_per_hour;
        let (again, _) = against(&cheap, &later, &made.prices);
        assert_ne!(
            became(&again),
            Some(Became::Saved),
            "fleet {seed}: spend is what it was"
        );
        vanished += 1;
    }
    assert!(saved >= 20 && vanished >= 20, "{saved} {vanished}");
}
