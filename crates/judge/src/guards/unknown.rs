//! What is not known is nowhere written as 0: no total, list, row or heading, in any format.

use super::{Judged, fleets, judge_fleet};
use crate::catalog::prices::PriceBook;
use crate::fleet::{self, Fleet, PriceSource};
use crate::report::rows::GroupBy;
use crate::report::{Format, RenderOptions};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use serde_json::Value;

const FLEETS: u64 = 120;

fn joined(snapshot: &Snapshot, prices: &PriceBook) -> Fleet {
    fleet::join(snapshot, prices, &Settings::default())
}

/// Takes the prices of the nodes that `lost` names.
fn without_prices(mut fleet: Fleet, lost: impl Fn(usize) -> bool) -> Fleet {
    for index in (0..fleet.nodes.len()).filter(|i| lost(*i)) {
        fleet.nodes[index].price.usd_per_hour = None;
        fleet.nodes[index].price.source = PriceSource::Unknown;
        let slots: Vec<_> = fleet.nodes[index].slot_ids().collect();
        for slot in slots {
            fleet.slots[slot.0].price = None;
        }
    }
    fleet
}

fn text(judged: &Judged, format: Format) -> String {
    let mut out = Vec::new();
    format
        .render(&judged.report, &RenderOptions::default(), &mut out)
        .unwrap();
    String::from_utf8(out).unwrap()
}

/// Every money figure of a JSON document, with the object it stands in.
fn money<'v>(value: &'v Value, path: &str, found: &mut Vec<(String, &'v Value, &'v Value)>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let path = format!("{path}/{key}");
                if key.ends_with("usd_per_hour") {
                    found.push((path, inner, value));
                } else {
                    money(inner, &path, found);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| money(inner, path, found)),
        _ => {}
    }
}

fn judged(snapshot: &Snapshot, fleet: Fleet, seed: u64) -> (Judged, Value) {
    let by = [GroupBy::Namespace, GroupBy::Node, GroupBy::Workload, GroupBy::Model];
    let judged = judge_fleet(snapshot, fleet, Some(&by[(seed % 4) as usize]));
    let json = serde_json::to_value(&judged.report).unwrap();
    (judged, json)
}

const TEXTS: [Format; 5] = [
    Format::Table,
    Format::Markdown,
    Format::Html,
    Format::Junit,
    Format::Csv,
];

#[test]
fn a_fleet_without_prices_costs_nothing_that_is_zero() {
    let mut findings = 0;
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let (judged, json) = judged(
            &made.snapshot,
            without_prices(joined(&made.snapshot, &made.prices), |_| true),
            seed,
        );
        findings += judged.report.findings.len();
        if judged.report.totals.gpus == 0.0 {
            continue;
        }
        let mut all = Vec::new();
        money(&json, "", &mut all);
        for (path, value, of) in all {
            // A check that looked at no GPU looked at no dollars.
            let none = path == "/checks/assessed_usd_per_hour" && of["assessed_gpus"] == 0.0;
            assert!(value.is_null() || none, "fleet {seed}: {path} is {value}");
        }
        for format in TEXTS {
            let text = text(&judged, format);
            for zero in ["$0.00", "> 0.00", "| 0.00 |", " 0.00 of ", "· 0.00<"] {
                assert!(!text.contains(zero), "fleet {seed} {format:?}: {zero}\n{text}");
            }
        }
        let samples = text(&judged, Format::Prometheus);
        let sample = samples
            .lines()
            .find(|l| !l.starts_with('#') && l.contains("usd_per_hour"));
        assert_eq!(sample, None, "fleet {seed}");
    }
    assert!(findings as u64 >= 4 * FLEETS, "{findings}");
}

#[test]
fn what_has_a_price_in_a_half_priced_fleet_keeps_it() {
    let (mut known, mut unknown) = (0, 0);
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let fleet = without_prices(joined(&made.snapshot, &made.prices), |i| {
            (i as u64 + seed).is_multiple_of(2)
        });
        let priced: f64 = fleet
            .slots
            .iter()
            .filter_map(|s| s.price)
            .map(crate::units::UsdPerHour::usd)
            .sum();
        let some = fleet.slots.iter().any(|s| s.price.is_some());
        let (judged, json) = judged(&made.snapshot, fleet, seed);
        let t = &judged.report.totals;
        if some {
            assert!(
                (t.spend_usd_per_hour.unwrap().usd() - priced).abs() < 1e-3,
                "fleet {seed}"
            );
        }
        for gap in json["checks"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|c| c["not_assessed"].as_array().unwrap())
        {
            match gap["usd_per_hour"].as_f64() {
                Some(usd) => {
                    assert!(usd > 0.0, "fleet {seed}: {gap}");
                    known += 1;
                }
                None => unknown += 1,
            }
        }
        for row in json["groups"]["rows"].as_array().unwrap() {
            let (spend, waste) = (&row["spend_usd_per_hour"], &row["waste_usd_per_hour"]);
            assert!(spend.as_f64().is_none_or(|usd| usd > 0.0), "fleet {seed}: {row}");
            assert!(!spend.is_null() || waste.is_null(), "fleet {seed}: {row}");
        }
    }
    assert!(known > 100 && unknown > 100, "{known} {unknown}");
}

#[test]
fn a_fleet_that_could_not_be_judged_has_no_zero_waste() {
    let mut blind = 0;
    for seed in 0..FLEETS {
        let mut made = fleets::make(seed);
        for cluster in &mut made.snapshot.clusters {
            cluster.pods_read.complete = false;
            cluster.pods.clear();
            cluster.gpus.clear();
            cluster.engines.clear();
            cluster.history = None;
        }
        let (judged, _) = judged(&made.snapshot, joined(&made.snapshot, &made.prices), seed);
        let t = &judged.report.totals;
        if t.gpus == 0.0 || t.gpus_unknown < t.gpus || !judged.report.findings.is_empty() {
            continue;
        }
        blind += 1;
        assert_eq!(
            (t.waste_usd_per_hour, t.waste_percent, t.at_risk_usd_per_hour),
            (None, None, None),
            "fleet {seed}"
        );
        assert_eq!(t.allocated_without_traffic_percent, None, "fleet {seed}");
        let table = text(&judged, Format::Table);
        assert!(
            table.contains("waste unknown") && table.contains("could be saved is unknown") && !table.contains("$0 "),
            "{table}"
        );
        let markdown = text(&judged, Format::Markdown);
        assert!(
            markdown.starts_with("## GPU waste: unknown of ") && !markdown.contains("\\$0.00"),
            "{markdown}"
        );
        assert!(!text(&judged, Format::Prometheus).contains("gpuwaste_total_waste_usd_per_hour 0"));
    }
    assert!(blind > 10, "{blind}");
}

#[test]
fn unread_nodes_are_not_zero_nodes() {
    let mut made = fleets::make(3);
    for cluster in &mut made.snapshot.clusters {
        cluster.nodes = None;
        cluster.pods.clear();
        cluster.gpus.clear();
        cluster.engines.clear();
        cluster.history = None;
    }
    let (judged, _) = judged(&made.snapshot, joined(&made.snapshot, &made.prices), 1);
    assert_eq!(judged.report.totals.spend_usd_per_hour, None);
    for format in [Format::Table, Format::Markdown, Format::Html] {
        let text = text(&judged, format);
        assert!(text.contains("No GPU node could be read"), "{format:?}: {text}");
        assert!(!text.contains("$0.00"), "{format:?}: {text}");
    }
}
