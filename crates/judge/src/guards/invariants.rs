//! Sums that hold for every fleet.

use super::{Judged, fleets, judge};
use crate::analyze::finding::FindingKind;
use crate::report::document::Status;
use crate::report::{Format, RenderOptions};
use crate::units::UsdPerHour;
use std::collections::BTreeMap;

/// Fleets that every guard looks at (200 at least).
pub(super) const FLEETS: u64 = 240;

/// What must hold of one report; `seed` only names it in messages.
pub(super) fn hold(judged: &Judged, seed: &str) {
    let (report, fleet) = (&judged.report, &judged.fleet);
    let t = &report.totals;
    let micros = |usd: Option<UsdPerHour>| usd.map_or(0, UsdPerHour::micros);
    assert!(
        t.waste_usd_per_hour <= t.spend_usd_per_hour,
        "fleet {seed}: waste over spend"
    );
    assert_eq!(
        t.waste_usd_per_hour,
        t.waste_now_usd_per_hour + t.waste_reusable_usd_per_hour,
        "fleet {seed}: grades"
    );
    let states = t.gpus_free + t.gpus_unhealthy + t.gpus_stuck + t.gpus_idle + t.gpus_working + t.gpus_unknown;
    assert!(
        (states - t.gpus).abs() < 1e-9,
        "fleet {seed}: {states} GPUs in states of {}",
        t.gpus
    );
    assert!(t.gpus_allocated <= t.gpus + 1e-9 && t.gpus_unpriced <= t.gpus + 1e-9);
    assert!(
        t.coverage_percent.is_none_or(|c| (0.0..=100.0).contains(&c)),
        "fleet {seed}"
    );
    let counted = || report.findings.iter().filter(|f| f.status != Status::Suppressed);
    let sum = |of: fn(&crate::report::document::ReportFinding) -> Option<UsdPerHour>| -> i64 {
        counted().map(|f| micros(of(f))).sum()
    };
    assert_eq!(
        sum(|f| f.waste_usd_per_hour),
        t.waste_usd_per_hour.micros(),
        "fleet {seed}: Σ waste"
    );
    assert_eq!(
        sum(|f| f.at_risk_usd_per_hour),
        t.at_risk_usd_per_hour.micros(),
        "fleet {seed}: Σ at risk"
    );
    let mut claimed: BTreeMap<(&Option<String>, &str, &str), i64> = BTreeMap::new();
    for finding in &report.findings {
        let claims: i64 = finding.claims.iter().map(|c| micros(c.usd_per_hour)).sum();
        if finding.kind != FindingKind::Trend {
            assert_eq!(
                claims,
                micros(finding.usd_per_hour),
                "fleet {seed}: claims of {}",
                finding.title
            );
        }
        for claim in finding.claims.iter().filter(|_| finding.kind != FindingKind::Trend) {
            let key = (&finding.subject.cluster, claim.node.as_str(), claim.gpu.as_str());
            *claimed.entry(key).or_default() += micros(claim.usd_per_hour);
        }
    }
    for slot in &fleet.slots {
        let node = fleet.node(slot.node);
        let cluster = Some(fleet.clusters[node.cluster].name.clone());
        let taken = claimed
            .get(&(&cluster, node.name.as_str(), slot.name.as_str()))
            .copied();
        assert!(
            taken.unwrap_or(0) <= micros(slot.price),
            "fleet {seed}: {} on {} is claimed twice",
            slot.name,
            node.name
        );
    }
    for node in &fleet.nodes {
        let slots: i64 = node.slot_ids().map(|s| micros(fleet.slot(s).price)).sum();
        assert_eq!(
            slots,
            micros(node.price.usd_per_hour),
            "fleet {seed}: Σ p(g) of {}",
            node.name
        );
    }
    let order: Vec<_> = report
        .findings
        .iter()
        .map(|f| {
            (
                f.kind,
                f.usd_per_hour.is_none(),
                std::cmp::Reverse(micros(f.usd_per_hour)),
            )
        })
        .collect();
    assert!(order.is_sorted(), "fleet {seed}: ranking");
    let ids: std::collections::BTreeSet<&str> = report.findings.iter().map(|f| f.id.as_str()).collect();
    assert_eq!(ids.len(), report.findings.len(), "fleet {seed}: ids");
}

fn rendered(judged: &Judged) -> Vec<u8> {
    let mut out = Vec::new();
    for (format, _) in Format::ALL {
        format
            .render(&judged.report, &RenderOptions::default(), &mut out)
            .unwrap();
    }
    out
}

#[test]
fn sums_hold_on_every_generated_fleet_and_on_the_demo() {
    let mut findings = 0;
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let judged = judge(&made.snapshot, &made.prices);
        hold(&judged, &seed.to_string());
        findings += judged.report.findings.len() as u64;
    }
    assert!(
        findings >= 5 * FLEETS,
        "an empty report keeps every promise: {findings}"
    );
    let demo = crate::guards::recorded_demo();
    let judged = judge(&demo, &crate::catalog::prices::PriceBook::default());
    hold(&judged, "demo");
    assert!(judged.report.findings.len() >= 20);
}

#[test]
fn two_runs_are_the_same_to_the_byte() {
    for seed in 0..20 {
        let (a, b) = (fleets::make(seed), fleets::make(seed));
        let first = rendered(&judge(&a.snapshot, &a.prices));
        assert_eq!(first, rendered(&judge(&b.snapshot, &b.prices)), "fleet {seed}");
        // What a snapshot file holds is all there is.
        let text = serde_json::to_vec(&a.snapshot).unwrap();
        let back = serde_json::from_slice(&text).unwrap();
        assert_eq!(first, rendered(&judge(&back, &a.prices)), "fleet {seed} through a file");
    }
}
