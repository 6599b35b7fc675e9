//! `gpuwaste diff`: what is new, gone and changed between two reports, and what the money paid for.

#![allow(clippy::float_cmp, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{run, same};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

/// The demo's report, and the same with one finding gone, one on its GPUs, one new at $5, one twice as dear, one a little dearer, and half of
/// the tokens.
fn reports() -> (TempDir, Value, Value) {
    let dir = tempdir().unwrap();
    let old = run(dir.path(), &["scan", "--demo", "--format", "json"])
        .expect(0, &[])
        .json();
    let mut new = old.clone();
    let findings = new["findings"].as_array_mut().unwrap();
    findings.retain(|f| f["kind"] == "recoverable" && f["usd_per_hour"].is_number());
    let kept = findings.clone();
    let mut made_up = kept[0].clone();
    (made_up["id"], made_up["usd_per_hour"], made_up["claims"]) = (json!("made-up"), json!(5.0), json!([]));
    // The same GPUs as the one that is gone: its dollars moved.
    let mut moved = kept[0].clone();
    moved["id"] = json!("moved");
    findings.push(made_up);
    findings.push(moved);
    findings.remove(0);
    findings[0]["usd_per_hour"] = json!(findings[0]["usd_per_hour"].as_f64().unwrap() * 2.0);
    // Less than the tolerance.
    findings[1]["usd_per_hour"] = json!(findings[1]["usd_per_hour"].as_f64().unwrap() * 1.05);
    for workload in new["workloads"].as_array_mut().unwrap() {
        for name in ["output_tokens_per_second", "prompt_tokens_per_second"] {
            if let Some(mean) = workload["observed"][name]["mean"].as_f64() {
                workload["observed"][name]["mean"] = json!(mean / 2.0);
            }
        }
    }
    let mut old = old;
    old["findings"] = json!(kept);
    for (name, report) in [("old.json", &old), ("new.json", &new)] {
        std::fs::write(dir.path().join(name), report.to_string()).unwrap();
    }
    (dir, old, new)
}

fn diff(more: &[&str]) -> Vec<String> {
    let args = ["diff", "old.json", "new.json"].into_iter().chain(more.iter().copied());
    args.map(String::from).collect()
}

fn args(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

#[test]
fn findings_and_work_are_told_then_and_now() {
    let (dir, old, _) = reports();
    let json = run(dir.path(), &args(&diff(&["--format", "json"])))
        .expect(0, &[])
        .json();
    let ids = |list: &str| -> Vec<&str> {
        let list = json[list].as_array().unwrap();
        list.iter().map(|f| f["id"].as_str().unwrap()).collect()
    };
    assert_eq!(ids("new_findings").len(), 2);
    assert_eq!(json["gone_findings"][0]["became"], "moved");
    assert_eq!(ids("gone_findings"), [old["findings"][0]["id"].as_str().unwrap()]);
    assert_eq!(ids("changed_findings")[0], old["findings"][1]["id"].as_str().unwrap());
    let then = old["findings"][1]["usd_per_hour"].as_f64().unwrap();
    let number = |pointer: &str| json.pointer(pointer).and_then(Value::as_f64).unwrap();
    assert!(same(number("/changed_findings/0/usd_per_hour/delta"), then));
    let work = &json["work"]["usd_per_million_tokens"];
    let (then, now) = (work["old"].as_f64().unwrap(), work["new"].as_f64().unwrap());
    assert!(then > 0.0 && (now / then - 2.0).abs() < 1e-4, "{then} {now}");
    assert_eq!(number("/spend_usd_per_hour/delta"), 0.0);
    assert!(!json["workloads"].as_array().unwrap().is_empty());
    let table = run(dir.path(), &args(&diff(&[]))).expect(0, &[]).out;
    for words in [
        "New: 2 findings\n",
        "Gone: 1 finding\n",
        "Changed: 2 findings\n",
        "(moved: their GPUs carry another finding)",
        "USD per 1M tokens",
        "Workloads with other spend or work",
    ] {
        assert!(table.contains(words), "{words}\n{table}");
    }
}

#[test]
fn the_gate_counts_what_is_new_or_grew() {
    let (dir, old, _) = reports();
    let grown = 5.0 + old["findings"][1]["usd_per_hour"].as_f64().unwrap();
    let gate = |limit: f64| args(&diff(&["--max-new-waste", &limit.to_string()])).join(" ");
    let run_gate = |limit: f64| run(dir.path(), &gate(limit).split(' ').collect::<Vec<_>>());
    run_gate(grown - 0.1).expect(1, &["max-new-waste", &format!("{grown:.2}")]);
    run_gate(grown + 0.1).expect(0, &[]);
    run(dir.path(), &args(&diff(&["--max-new-waste=-1"]))).expect(2, &["at least 0"]);
}

#[test]
fn the_gate_passes_over_nothing_that_was_not_read() {
    let (dir, _, new) = reports();
    let gate = diff(&["--max-new-waste", "100000"]).join(" ");
    let with = |key: &str, value: Value| {
        let mut less = new.clone();
        less["totals"][key] = value;
        std::fs::write(dir.path().join("new.json"), less.to_string()).unwrap();
        run(dir.path(), &gate.split(' ').collect::<Vec<_>>())
    };
    with("doubted_usd_per_hour", json!(17.0)).expect(0, &[]);
    with("coverage_percent", json!(79.0)).expect(3, &["max-new-waste: no verdict", "coverage is 79.0 %"]);
    with("coverage_percent", Value::Null).expect(3, &["coverage is unknown"]);
    with("doubted_usd_per_hour", json!(200_000.0)).expect(3, &["no verdict", "reads failed"]);
    with("doubted_usd_per_hour", Value::Null).expect(0, &[]);
    with("gpus_uncounted", json!(true)).expect(3, &["could tell of more GPUs"]);
}

#[test]
fn a_report_of_before_failed_reads_were_told_passes_no_gate() {
    let (dir, mut old, mut new) = reports();
    let gate = ["diff", "old.json", "new.json", "--max-new-waste", "100000"];
    run(dir.path(), &gate).expect(0, &[]);
    for (name, report) in [("old.json", &mut old), ("new.json", &mut new)] {
        let totals = report["totals"].as_object_mut().unwrap();
        assert!(totals.remove("gpus_uncounted").is_some());
        totals.remove("doubted_usd_per_hour");
        report["tool"]["version"] = json!("0.1.0");
        std::fs::write(dir.path().join(name), report.to_string()).unwrap();
    }
    run(dir.path(), &gate).expect(3, &["no verdict", "new.json is a report of gpuwaste 0.1.0"]);
    // Where nothing failed there is nothing that it could hide.
    new["gaps"] = json!([]);
    for source in new["sources"].as_array_mut().unwrap() {
        source["status"] = json!("ok");
    }
    std::fs::write(dir.path().join("new.json"), new.to_string()).unwrap();
    run(dir.path(), &gate).expect(0, &[]);
}

#[test]
fn what_is_no_report_is_named() {
    let (dir, ..) = reports();
    std::fs::write(dir.path().join("other.json"), r#"{"schema":9,"totals":{}}"#).unwrap();
    run(dir.path(), &["diff", "other.json", "new.json"]).expect(2, &["other.json", "newer gpuwaste"]);
    std::fs::write(dir.path().join("other.json"), r#"{"hello":1}"#).unwrap();
    run(dir.path(), &["diff", "other.json", "new.json"]).expect(2, &["other.json", "neither a report"]);
    run(dir.path(), &["diff", "missing.json", "new.json"]).expect(2, &["could not read missing.json"]);
}
