//! `--focus`: machines cost what their bill says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Done, run, save, two_nodes};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use tempfile::{TempDir, tempdir};

/// The digests that `collect` keeps of aws:///us-west-2a/i-0abc12def34567890 and …/i-0fff12def34567890: what their names on AWS' bill are.
const HELD: &str = "bc2d4a0d019ad9f8";

/// A week of hours of one machine of AWS, and another of which no node is.
fn bill(currency: &str, status: &str) -> String {
    let mut text = String::from(
        "BillingCurrency,ChargeCategory,ChargeDescription,ChargePeriodEnd,ChargePeriodStart,CommitmentDiscountStatus,ConsumedQuantity,ConsumedUnit,EffectiveCost,PricingCategory,ResourceId,SkuId\n",
    );
    for hour in 0..24 * 7 {
        let time = |hour: u32| format!("2026-11-{:02}T{:02}:00:00Z", 17 + hour / 24, hour % 24);
        let (from, to) = (time(hour), time(hour + 1));
        let words = "$55.04 per On Demand Linux p5.48xlarge Instance Hour";
        for id in ["i-0abc12def34567890", "i-0ddd12def34567890"] {
            writeln!(
                text,
                "{currency},Usage,{words},{to},{from},{status},1,Hours,31.5,Standard,{id},S1"
            )
            .unwrap();
        }
        writeln!(
            text,
            "{currency},Usage,{words},{to},{from},Unused,NULL,NULL,4,Committed,arn:aws:ec2:us-west-2:1:reserved-instances/b5e8,S1"
        )
        .unwrap();
    }
    text
}

fn scanned(bill: &str, more: &[&str]) -> (TempDir, Done) {
    let folder = tempdir().unwrap();
    let mut fleet = two_nodes();
    fleet["clusters"][0]["nodes"][1]["billed_as"] = HELD.into();
    save(folder.path(), "fleet.json", &fleet);
    fs::write(folder.path().join("bill.csv"), bill).unwrap();
    let mut args = vec![
        "scan",
        "--snapshot",
        "fleet.json",
        "--format",
        "json",
        "--focus",
        "bill.csv",
    ];
    args.extend_from_slice(more);
    let done = run(folder.path(), &args);
    (folder, done)
}

fn node<'r>(report: &'r Value, name: &str) -> &'r Value {
    let nodes = report["nodes"].as_array().unwrap();
    nodes.iter().find(|n| n["name"] == name).unwrap()
}

fn gap<'r>(report: &'r Value, words: &str) -> &'r Value {
    let gaps = report["gaps"].as_array().unwrap();
    let said = |g: &&Value| g["what"].as_str().unwrap_or_default().contains(words);
    gaps.iter()
        .find(said)
        .unwrap_or_else(|| panic!("no gap says '{words}': {gaps:#?}"))
}

/// What a spreadsheet of another country writes is the same bill.
#[test]
fn semicolons_and_tabs_stand_for_commas() {
    let plain = bill("USD", "NULL");
    let whole = scanned(&plain, &[]).1.expect(0, &[]).json();
    for separator in [";", "\t"] {
        let other = scanned(&plain.replace(',', separator), &[]).1.expect(0, &[]).json();
        assert_eq!(other["totals"], whole["totals"], "{separator:?}");
    }
}

#[test]
fn dollars_are_what_was_paid() {
    let (_folder, done) = scanned(&bill("USD", "NULL"), &[]);
    let report = done.expect(0, &[]).json();
    let held = node(&report, "held-1");
    assert_eq!(held["price"]["usd_per_hour"], 31.5);
    assert_eq!(
        (&held["price"]["source"], &held["price"]["as_of"]),
        (&"user".into(), &"2026-11-23".into())
    );
    // The other node tells no machine: it keeps the catalogue's price, and is named.
    assert_eq!(node(&report, "free-1")["price"]["usd_per_hour"], 55.04);
    assert_eq!(report["totals"]["spend_usd_per_hour"], 86.54);
    let missing = gap(&report, "what 1 node with GPUs cost (one/free-1)");
    assert!(missing["effect"].as_str().unwrap().contains("priced as without a bill"));
    // What is paid for and no node is, and what was committed for nothing.
    gap(&report, "1 machine with GPUs (p5.48xlarge), $31.50/h");
    gap(&report, "commitments of p5.48xlarge that nothing used, $4.00/h");
}

#[test]
fn a_commitment_is_paid_on() {
    let free = |status: &str| {
        let folder = tempdir().unwrap();
        let mut fleet = two_nodes();
        fleet["clusters"][0]["nodes"][0]["billed_as"] = HELD.into();
        save(folder.path(), "fleet.json", &fleet);
        fs::write(folder.path().join("bill.csv"), bill("USD", status)).unwrap();
        let args = [
            "scan",
            "--snapshot",
            "fleet.json",
            "--format",
            "json",
            "--focus",
            "bill.csv",
        ];
        let report = run(folder.path(), &args).expect(0, &[]).json();
        let node = node(&report, "free-1");
        let now = report["totals"]["waste_now_usd_per_hour"].as_f64().unwrap();
        (node["capacity_type"].as_str().unwrap().to_owned(), now)
    };
    let (kind, now) = free("NULL");
    assert_eq!((kind.as_str(), now), ("on-demand", 31.5));
    let (kind, now) = free("Used");
    assert_eq!(
        (kind.as_str(), now),
        ("reserved", 0.0),
        "an empty node of a commitment stops no bill"
    );
}

#[test]
fn another_currency_needs_its_rate_and_mistakes_are_told() {
    let euros = bill("EUR", "NULL");
    scanned(&euros, &[])
        .1
        .expect(2, &["bill.csv", "EUR", "--currency-rate EUR=1.08"]);
    let (_folder, done) = scanned(&euros, &["--currency-rate", "eur=2"]);
    assert_eq!(
        node(&done.expect(0, &[]).json(), "held-1")["price"]["usd_per_hour"],
        63.0
    );
    scanned(&euros, &["--currency-rate", "1.08"])
        .1
        .expect(2, &["'1.08'", "EUR=1.08"]);
    scanned("a,b\n1,2\n", &[])
        .1
        .expect(2, &["bill.csv", "ResourceId", "FOCUS 1.0 to 1.2"]);
    let folder = tempdir().unwrap();
    run(folder.path(), &["scan", "--demo", "--focus", "nowhere.csv"]).expect(2, &["nowhere.csv", "No such file"]);
    run(folder.path(), &["scan", "--demo", "--currency-rate", "EUR=1"]).expect(2, &["--focus"]);
}
