//! The contract seen from outside: exit codes, streams, files, bad input.

#![allow(clippy::float_cmp, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{command, demo, finish, run, same, save, scan, total, two_nodes};
use serde_json::{Value, json};
use std::io::Read;
use std::process::Stdio;
use tempfile::tempdir;

/// p5.48xlarge in us-east-1 on demand, as the catalogue has it.
const NODE_USD: f64 = 55.04;

#[test]
fn a_scan_without_gates_is_0_whatever_it_finds() {
    let dir = tempdir().unwrap();
    let report = run(dir.path(), &["scan", "--demo", "--format", "json"])
        .expect(0, &[])
        .json();
    assert!(total(&report, "waste_usd_per_hour") > 100.0);
    assert_eq!(report["schema"], 1);
}

#[test]
fn a_breached_gate_is_1_and_says_which_and_by_how_much() {
    let dir = tempdir().unwrap();
    run(dir.path(), &["scan", "--demo", "--max-waste", "1"]).expect(1, &["max-waste", "over the limit of $1.00/h by"]);
    run(dir.path(), &["scan", "--demo", "--max-waste-percent", "1"]).expect(1, &["max-waste-percent"]);
    run(dir.path(), &["scan", "--demo", "--max-at-risk", "0"]).expect(1, &["max-at-risk", "KV cache full"]);
    run(dir.path(), &["scan", "--demo", "--max-waste", "100000"]).expect(0, &[]);
    // A breach wins over coverage that is too low.
    run(
        dir.path(),
        &["scan", "--demo", "--max-waste", "1", "--min-coverage", "100"],
    )
    .expect(1, &["max-waste", "coverage"]);
}

#[test]
fn a_gate_that_leaves_findings_out_says_so() {
    let dir = tempdir().unwrap();
    // One free node, seen once: estimated.
    let done = scan(dir.path(), &two_nodes(), &["--max-waste", "1", "--min-coverage", "0"]);
    let done = done.expect(0, &["were left out", "--gate-confidence estimated"]);
    let gate = &done.json()["gates"][0];
    assert!(
        same(gate["left_out_usd_per_hour"].as_f64().unwrap(), NODE_USD),
        "{gate}"
    );
    scan(
        dir.path(),
        &two_nodes(),
        &[
            "--max-waste",
            "1",
            "--min-coverage",
            "0",
            "--gate-confidence",
            "estimated",
        ],
    )
    .expect(1, &["max-waste"]);
}

#[test]
fn too_little_read_is_3_only_under_a_gate() {
    let dir = tempdir().unwrap();
    // Nobody has read the server on the second node: half of the fleet's cost cannot be judged.
    let report = scan(dir.path(), &two_nodes(), &[]).expect(0, &[]).json();
    assert!(total(&report, "coverage_percent") < 80.0);
    scan(dir.path(), &two_nodes(), &["--max-waste", "1000"]).expect(3, &["coverage"]);
    run(dir.path(), &["scan", "--demo", "--min-coverage", "100"]).expect(3, &["coverage", "--min-coverage 100"]);
    // No gate beside it is shown as held, nor is one over what was not asked for.
    for more in [["--min-coverage", "100"], ["--timeout", "9s"]] {
        let args = ["scan", "--demo", "--max-waste", "100000", "--format", "markdown"];
        let done = run(dir.path(), &[&args[..], &more[..]].concat()).expect(3, &[]);
        assert!(done.out.contains("**no verdict**: max-waste"), "{}", done.out);
        assert!(!done.out.contains("✅"), "{}", done.out);
    }
}

#[test]
fn usage_is_2_with_the_way_out() {
    let dir = tempdir().unwrap();
    let folder = dir.path();
    for (args, words) in [
        (
            vec!["scan", "--demo", "--check", "dark-capacty"],
            vec!["dark-capacty", "did you mean 'dark-capacity'"],
        ),
        (vec!["scan", "--demo", "--format", "yaml"], vec!["yaml", "json"]),
        (
            vec!["scan", "--demo", "--format", "json", "--format", "csv"],
            vec!["two formats for stdout"],
        ),
        (
            vec!["scan", "--demo", "--format", "json=no/such/folder/report.json"],
            vec!["could not write", "no/such/folder"],
        ),
        (vec!["scan", "--snapshot", "nowhere.json"], vec!["nowhere.json"]),
        (vec!["scan", "--demo", "--prices", "nowhere.toml"], vec!["nowhere.toml"]),
        (
            vec!["scan", "--demo", "--max-waste", "lots"],
            vec!["lots", "--max-waste"],
        ),
        (vec!["scan", "--demo", "--observe", "soon"], vec!["soon"]),
        (vec!["scan", "--demo", "--context", "x"], vec!["--demo", "--context"]),
        (vec!["explain", "no-such-check"], vec!["no-such-check", "dark-capacity"]),
        (vec!["rbac", "--with", "everything"], vec!["everything", "scrape"]),
        (vec!["rbac", "--namespace", "a b"], vec!["'a b'"]),
        (vec!["catalog", "gpus", "no-such-gpu"], vec!["no-such-gpu"]),
        (vec!["scan"], vec!["kubeconfig"]),
        (vec!["frobnicate"], vec!["frobnicate"]),
    ] {
        let done = run(folder, &args).expect(2, &words);
        assert_eq!(done.out, "", "{args:?}: nothing on stdout");
    }
}

#[test]
fn a_closed_pipe_is_nobodys_problem() {
    let dir = tempdir().unwrap();
    for args in [
        &["scan", "--demo", "--format", "json"][..],
        &["catalog", "instances"],
        &["schema", "report"],
        &["scan", "--demo", "--format", "csv"],
    ] {
        let mut child = command(dir.path(), args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 1];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut first).unwrap();
        drop(out);
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}: {text}");
        assert!(!text.contains("panicked") && !text.contains("Broken pipe"), "{text}");
    }
}

#[test]
fn colour_only_where_it_was_asked_for() {
    let dir = tempdir().unwrap();
    assert!(
        !run(dir.path(), &["scan", "--demo"]).out.contains('\x1b'),
        "a pipe has no colour"
    );
    assert!(
        run(dir.path(), &["scan", "--demo", "--color", "always"])
            .out
            .contains('\x1b')
    );
    let mut none = command(dir.path(), &["scan", "--demo", "--color", "auto"]);
    none.env("NO_COLOR", "1");
    assert!(!finish(none, None).out.contains('\x1b'));
}

#[test]
fn the_table_fits_its_width() {
    let dir = tempdir().unwrap();
    for width in [60, 80, 100, 120, 160, 200, 240] {
        let mut at = command(dir.path(), &["scan", "--demo", "--top", "100"]);
        at.env("COLUMNS", width.to_string());
        let done = finish(at, None).expect(0, &[]);
        for line in done.out.lines() {
            let columns = line.chars().count();
            assert!(columns <= width, "{columns} columns at {width}: {line}");
        }
        assert!(
            done.out.contains("→ scale the StatefulSet to 0") || width < 80,
            "{}",
            done.out
        );
    }
    let wide = run(dir.path(), &["scan", "--demo"]).out;
    let longest = wide.lines().map(|l| l.chars().count()).max().unwrap();
    assert!((100..=120).contains(&longest), "a pipe has 120 columns, not {longest}");
}

#[test]
fn two_runs_are_byte_identical_in_every_format() {
    let dir = tempdir().unwrap();
    demo(dir.path());
    for format in ["table", "json", "csv", "markdown", "prometheus"] {
        let once = run(dir.path(), &["scan", "--snapshot", "demo.json", "--format", format]).expect(0, &[]);
        let twice = run(dir.path(), &["scan", "--snapshot", "demo.json", "--format", format]).expect(0, &[]);
        assert!(once.out.len() > 500, "{format}");
        assert_eq!(once.out, twice.out, "{format}");
    }
}

#[test]
fn a_snapshot_is_read_from_stdin_and_from_every_compression() {
    let dir = tempdir().unwrap();
    let folder = dir.path();
    for name in ["demo.json", "demo.json.gz", "demo.json.zst"] {
        run(folder, &["collect", "--demo", "-o", name]).expect(0, &[]);
    }
    let findings = |done: common::Done| done.expect(0, &[]).json()["findings"].clone();
    let plain = findings(run(folder, &["scan", "--snapshot", "demo.json", "--format", "json"]));
    assert!(plain.as_array().unwrap().len() > 10);
    for name in ["demo.json.gz", "demo.json.zst"] {
        assert_eq!(
            findings(run(folder, &["scan", "--snapshot", name, "--format", "json"])),
            plain,
            "{name}"
        );
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let piped = finish(
            command(folder, &["scan", "--snapshot", "-", "--format", "json"]),
            Some(&bytes),
        );
        assert_eq!(findings(piped), plain, "{name} on stdin");
    }
    let printed = run(folder, &["collect", "--demo", "-o", "-"]).expect(0, &[]);
    assert_eq!(printed.out, std::fs::read_to_string(folder.join("demo.json")).unwrap());
}

#[test]
fn several_snapshots_are_one_fleet() {
    let dir = tempdir().unwrap();
    let mut other = two_nodes();
    other["clusters"][0]["name"] = json!("two");
    other["clusters"][0]["uid"] = json!("another");
    save(dir.path(), "other.json", &other);
    let report = scan(dir.path(), &two_nodes(), &["--snapshot", "other.json"])
        .expect(0, &[])
        .json();
    assert_eq!(total(&report, "nodes"), 4.0);
    assert!(same(total(&report, "spend_usd_per_hour"), 4.0 * NODE_USD));
    assert!(same(total(&report, "waste_usd_per_hour"), 2.0 * NODE_USD));
}

/// Nobody saw the older one's pods and nodes at the newest one's time: each cluster is as old as it was when it was read.
#[test]
fn ages_are_counted_to_when_a_cluster_was_read() {
    let dir = tempdir().unwrap();
    demo(dir.path());
    let mut late = two_nodes();
    late["taken_at"] = "2026-11-29T22:00:00Z".into();
    late["clusters"][0]["name"] = "late".into();
    late["clusters"][0]["uid"] = "late".into();
    save(dir.path(), "late.json", &late);
    let of = |more: &[&str]| {
        let mut args = vec!["scan", "--snapshot", "demo.json", "--format", "json"];
        args.extend_from_slice(more);
        let report = run(dir.path(), &args).json();
        let all = report["findings"].as_array().unwrap().iter();
        let olds = all.filter(|f| f["subject"]["cluster"] != "late").cloned();
        let told = |f: Value| {
            (
                f["id"].clone(),
                f["title"].clone(),
                f["confidence"].clone(),
                f["evidence"].clone(),
            )
        };
        olds.map(told).collect::<Vec<_>>()
    };
    let (alone, beside) = (of(&[]), of(&["--snapshot", "late.json"]));
    assert!(alone.len() > 50);
    for (a, b) in alone.iter().zip(&beside) {
        assert_eq!(a, b);
    }
    assert_eq!(alone.len(), beside.len());
}

#[test]
fn a_damaged_snapshot_is_refused_in_words() {
    let dir = tempdir().unwrap();
    let folder = dir.path();
    for name in ["demo.json", "demo.json.gz", "demo.json.zst"] {
        run(folder, &["collect", "--demo", "-o", name]).expect(0, &[]);
        let bytes = std::fs::read(folder.join(name)).unwrap();
        std::fs::write(folder.join(name), &bytes[..bytes.len() / 2]).unwrap();
        let done = run(folder, &["scan", "--snapshot", name]).expect(2, &[name, "cut off"]);
        assert_eq!(done.out, "");
    }
    let mut newer = two_nodes();
    newer["schema"] = json!(99);
    newer["clusters"] = json!({"of": "another shape"});
    scan(folder, &newer, &[]).expect(2, &["schema 99", "newer"]);
    for (text, word) in [
        ("", "empty"),
        ("{}", "schema"),
        ("[1, 2]", "not a gpuwaste snapshot"),
        ("\0\u{1}\u{2}binary", "not a gpuwaste snapshot"),
        ("apiVersion: v1\n", "not a gpuwaste snapshot"),
    ] {
        std::fs::write(folder.join("odd.json"), text).unwrap();
        run(folder, &["scan", "--snapshot", "odd.json"]).expect(2, &["odd.json", word]);
    }
}

#[test]
fn every_truncation_and_flipped_byte_is_an_error_or_a_report_never_a_panic() {
    let dir = tempdir().unwrap();
    let text = two_nodes().to_string();
    let step = text.len() / 40;
    for cut in (0..text.len()).step_by(step) {
        let half = finish(
            command(dir.path(), &["scan", "--snapshot", "-"]),
            Some(&text.as_bytes()[..cut]),
        );
        half.expect(2, &["stdin"]);
        let mut flipped = text.clone().into_bytes();
        flipped[cut] ^= 0x15;
        let done = finish(command(dir.path(), &["scan", "--snapshot", "-"]), Some(&flipped));
        assert!(
            matches!(done.code, 0 | 2) && !done.err.contains("panicked"),
            "byte {cut}: {done:?}"
        );
    }
}

#[test]
fn a_price_file_with_a_typo_names_the_line() {
    let dir = tempdir().unwrap();
    let prices = |text: &str| {
        std::fs::write(dir.path().join("prices.toml"), text).unwrap();
        scan(dir.path(), &two_nodes(), &["--prices", "prices.toml"])
    };
    prices("[[price]]\ninstance_type = \"p5.48xlarge\"\nusd_per_huor = 20\n")
        .expect(2, &["prices.toml", "line 3", "usd_per_huor"]);
    prices("[[price]]\ninstance_type = \"p5.48xlarge\"\nusd_per_hour = twenty\n").expect(2, &["prices.toml", "line 3"]);
    prices("[[price]]\ninstance_type = \"p5.48xlarge\"\nusd_per_hour = -1\n").expect(2, &["prices.toml", "line"]);
    prices("# nothing\n").expect(2, &["prices.toml", "--template"]);
    let report = prices("[[price]]\ninstance_type = \"p5.48xlarge\"\nusd_per_hour = 20.0\n")
        .expect(0, &[])
        .json();
    assert!(same(total(&report, "spend_usd_per_hour"), 40.0));
    assert_eq!(report["nodes"][0]["price"]["source"], "user");
}

/// A server of 3.2 GiB of weights on three sevenths of a card, in a snapshot as `collect` writes it.
fn on_a_mig_instance(requests: f64) -> Value {
    let mut case = two_nodes();
    let cluster = &mut case["clusters"][0];
    let (half, seventh) = ("nvidia.com/mig-3g.40gb", "nvidia.com/mig-1g.10gb");
    let node = &mut cluster["nodes"][1];
    for amounts in ["capacity", "allocatable"] {
        node[amounts]["devices"] = json!({"nvidia.com/gpu": 7, half: 1, seventh: 4});
    }
    let pod = &mut cluster["pods"][0];
    pod["owner"] = json!({"group": "apps", "kind": "Deployment", "name": "web"});
    let container = &mut pod["containers"][0];
    for amounts in ["requests", "limits"] {
        container[amounts] = json!({"cpu": 8000, "memory": 24_u64 << 30, "devices": {half: 1}});
    }
    container["server"] = json!({
        "engine": "vllm", "engine_version": "0.21.0", "model": "Qwen/Qwen3-1.7B",
        "max_model_len": 4096, "max_num_seqs": 16, "max_num_batched_tokens": 2048,
        // Its default leaves 0.3 GiB of the smallest instance to what comes after the pool.
        "gpu_memory_utilization": 0.85,
    });
    let told = |mean: f64, count: f64| json!({"sum": mean * count, "count": count, "buckets": [[mean / 2.0, 0.0], [mean, count]]});
    let reading = json!({
        "at": common::TAKEN, "running": 1.0, "waiting": 0.0, "kv_usage": 0.02, "requests": requests,
        "prompt_tokens": 600.0 * requests, "output_tokens": 60.0 * requests, "preemptions": 0.0,
        "e2e_latency": told(0.5, requests), "time_to_first_token": told(0.05, requests),
        "inter_token_latency": told(0.008, 60.0 * requests),
        "prompt_length": told(600.0, requests), "output_length": told(60.0, requests),
    });
    cluster["engines"] = json!([{
        "namespace": "ml", "pod": "web-0", "pod_uid": "u1", "container": "server", "port": 8000, "engine": "vllm",
        "identity": {"model_root": "Qwen/Qwen3-1.7B", "max_model_len": 4096},
        "process_started_at": "2026-11-14T12:00:00Z", "readings": [reading],
    }]);
    case
}

#[test]
fn a_server_on_a_mig_instance_is_told_the_smaller_profile_and_its_price() {
    let dir = tempdir().unwrap();
    let of = |requests: f64| {
        let report = scan(dir.path(), &on_a_mig_instance(requests), &[])
            .expect(0, &[])
            .json();
        let all = report["findings"].as_array().unwrap().clone();
        all.into_iter().find(|f| f["check"] == "oversized-tier")
    };
    let found = of(1e5).unwrap();
    // Three sevenths of a card, of which one is needed; the card stays.
    let usd = found["waste_usd_per_hour"].as_f64().unwrap();
    assert!((usd - NODE_USD / 8.0 * 2.0 / 7.0).abs() < 1e-4, "{found}");
    assert_eq!(
        (&found["grade"], &found["confidence"]),
        (&json!("reusable"), &json!("estimated"))
    );
    assert_eq!(found["fix"]["placement"]["gpu"], "H100-SXM5-80GB-MIG-1g.10gb");
    let patch = found["fix"]["patch"].as_str().unwrap();
    assert!(patch.contains("nvidia.com/mig-1g.10gb: \"1\""), "{patch}");
    assert!(patch.contains("nvidia.com/mig-3g.40gb: null"), "{patch}");
    // A load that a seventh would not carry.
    let busy = of(2e7);
    assert!(busy.is_none_or(|f| f["fix"]["placement"]["gpu"] != "H100-SXM5-80GB-MIG-1g.10gb"));
}

#[test]
fn no_nodes_and_no_gpus_are_never_a_clean_fleet() {
    let dir = tempdir().unwrap();
    let mut empty = two_nodes();
    empty["clusters"][0]["nodes"] = json!([]);
    empty["clusters"][0]["pods"] = json!([]);
    save(dir.path(), "empty.json", &empty);
    let done = run(dir.path(), &["scan", "--snapshot", "empty.json"]).expect(0, &[]);
    assert!(done.out.contains("one"), "which context was read: {}", done.out);
    assert!(done.out.contains("--context"), "how to choose another: {}", done.out);
    assert!(!done.out.to_lowercase().contains("no waste"), "{}", done.out);
    scan(dir.path(), &empty, &["--max-waste", "1"]).expect(3, &["coverage"]);
    // Refused is not empty.
    let mut refused = two_nodes();
    refused["clusters"][0]["nodes"] = Value::Null;
    let report = scan(dir.path(), &refused, &[]).expect(0, &[]).json();
    assert_eq!(report["totals"]["coverage_percent"], Value::Null);
    assert!(
        report["totals"]["waste_usd_per_hour"].is_null(),
        "nothing could be judged"
    );
    scan(dir.path(), &refused, &["--max-waste", "1000"]).expect(3, &["coverage is unknown"]);
}

#[test]
fn unknown_hardware_has_no_price_and_its_gpus_still_count() {
    let dir = tempdir().unwrap();
    let whole = scan(dir.path(), &two_nodes(), &[]).expect(0, &[]).json();
    let mut odd = two_nodes();
    odd["clusters"][0]["nodes"][0]["labels"] =
        json!({"node.kubernetes.io/instance-type": "zz9.plural", "nvidia.com/gpu.product": "NVIDIA-Z9000-999GB"});
    odd["clusters"][0]["nodes"][0]["provider"] = json!("nebula");
    let report = scan(dir.path(), &odd, &[]).expect(0, &[]).json();
    assert_eq!(total(&report, "gpus"), 16.0);
    assert_eq!(total(&report, "gpus_unpriced"), 8.0);
    assert_eq!(total(&report, "gpus_free"), 8.0, "a free GPU is free whatever it costs");
    assert!(
        same(total(&report, "spend_usd_per_hour"), NODE_USD),
        "an unknown price adds nothing and is said"
    );
    assert!(
        report["totals"]["waste_usd_per_hour"].is_null(),
        "the free GPU has no known price"
    );
    let free = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["part"] == "unallocated")
        .expect("listed all the same");
    assert_eq!(free["usd_per_hour"], Value::Null, "never $0");
    assert!(total(&report, "coverage_percent") < total(&whole, "coverage_percent") + 1e-9);
}

#[test]
fn absurd_quantities_and_a_skewed_clock_are_no_waste() {
    let dir = tempdir().unwrap();
    let mut absurd = two_nodes();
    absurd["clusters"][0]["nodes"][0]["capacity"]["devices"]["nvidia.com/gpu"] = json!(9_000_000_000_000_000_000_u64);
    let report = scan(dir.path(), &absurd, &[]).expect(0, &[]).json();
    // The instance type says 8; nobody can say which of them are free.
    assert!(same(total(&report, "gpus"), 16.0));
    assert!(
        report["totals"]["waste_usd_per_hour"].is_null(),
        "nothing could be judged"
    );
    assert!(same(total(&report, "spend_usd_per_hour"), 2.0 * NODE_USD));
    scan(dir.path(), &absurd, &["--max-waste", "1000"]).expect(3, &["coverage"]);
    let mut greedy = two_nodes();
    greedy["clusters"][0]["pods"][0]["containers"][0]["limits"]["devices"]["nvidia.com/gpu"] = json!(u64::MAX);
    greedy["clusters"][0]["pods"][0]["containers"][0]["requests"]["devices"]["nvidia.com/gpu"] = json!(u64::MAX);
    let report = scan(dir.path(), &greedy, &[]).expect(0, &[]).json();
    assert!(
        same(total(&report, "waste_usd_per_hour"), NODE_USD),
        "the other node is free all the same"
    );
    let mut skewed = two_nodes();
    {
        let key = "created_at";
        // Both nodes are born a day after the snapshot: their age is unknown, so nothing is judged by it.
        skewed["clusters"][0]["nodes"][0][key] = json!("2026-11-25T12:00:00Z");
    }
    let report = scan(dir.path(), &skewed, &[]).expect(0, &[]).json();
    assert_eq!(
        total(&report, "waste_usd_per_hour"),
        0.0,
        "a node from the future is inside its grace"
    );
    let mut wrong = two_nodes();
    wrong["taken_at"] = json!("not a time");
    scan(dir.path(), &wrong, &[]).expect(2, &["not a gpuwaste snapshot"]);
}

#[test]
fn a_lost_read_lowers_coverage_by_its_gpus_and_moves_no_dollar() {
    let dir = tempdir().unwrap();
    let demo = demo(dir.path());
    let whole = scan(dir.path(), &demo, &[]).expect(0, &[]).json();
    // A server loses the figures that were read of it, in the cluster that has no history to replace them.
    let mut lost = demo.clone();
    let clusters = lost["clusters"].as_array_mut().unwrap();
    let bare = clusters.iter_mut().find(|c| c.get("history").is_none()).unwrap();
    let engines = bare["engines"].as_array_mut().unwrap();
    let busy = engines
        .iter()
        .position(|e| e["pod"].as_str().is_some_and(|p| p.starts_with("voice")))
        .unwrap();
    let pod = engines.remove(busy)["pod"].clone();
    let report = scan(dir.path(), &lost, &[]).expect(0, &[]).json();
    assert!(
        total(&report, "coverage_percent") < total(&whole, "coverage_percent"),
        "{pod}"
    );
    assert!(same(
        total(&report, "spend_usd_per_hour"),
        total(&whole, "spend_usd_per_hour")
    ));
    assert!(total(&report, "waste_usd_per_hour") <= total(&whole, "waste_usd_per_hour") + 1e-6);
    assert_eq!(total(&report, "gpus"), total(&whole, "gpus"));
    assert_eq!(total(&report, "gpus_free"), total(&whole, "gpus_free"));
}

#[test]
fn a_named_source_that_failed_is_3() {
    let dir = tempdir().unwrap();
    let mut half = two_nodes();
    half["sources"].as_array_mut().unwrap().push(
        json!({"kind": "kubernetes", "name": "two", "status": "failed", "detail": "no connection", "named": true}),
    );
    scan(dir.path(), &half, &[]).expect(3, &["'two'", "could not be read"]);
    // Under --all-contexts nobody named it.
    half["sources"][1]["named"] = json!(false);
    scan(dir.path(), &half, &[]).expect(0, &[]);
}

#[test]
fn dry_run_lists_reads_and_reads_nothing() {
    let dir = tempdir().unwrap();
    let done = run(dir.path(), &["scan", "--dry-run"]).expect(0, &[]);
    assert!(done.out.contains("GET /api/v1/pods"), "{}", done.out);
    for line in done.out.lines().filter(|l| !l.is_empty()) {
        assert!(
            !line.starts_with("POST")
                && !line.starts_with("PUT")
                && !line.starts_with("DELETE")
                && !line.starts_with("PATCH"),
            "{line}"
        );
    }
    assert!(
        !run(dir.path(), &["scan", "--dry-run", "--no-scrape"])
            .out
            .contains("pods/proxy")
    );
    let demo = run(dir.path(), &["collect", "--dry-run", "--demo", "-o", "never.json"]).expect(0, &[]);
    assert!(demo.out.contains("no network"));
    assert!(!dir.path().join("never.json").exists());
}

#[test]
fn files_get_their_formats_and_stdout_one() {
    let dir = tempdir().unwrap();
    let done = run(
        dir.path(),
        &[
            "scan",
            "--demo",
            "--format",
            "table",
            "--format",
            "json=r.json",
            "--format",
            "csv=r.csv",
        ],
    )
    .expect(0, &[]);
    assert!(done.out.contains("Spend"));
    let report: Value = serde_json::from_slice(&std::fs::read(dir.path().join("r.json")).unwrap()).unwrap();
    let rows = std::fs::read_to_string(dir.path().join("r.csv")).unwrap();
    let of = |record: &str| rows.lines().filter(|l| l.starts_with(&format!("{record},"))).count();
    assert_eq!(of("finding"), report["findings"].as_array().unwrap().len());
    assert_eq!(of("workload"), report["workloads"].as_array().unwrap().len());
}

#[test]
fn sums_hold_in_the_document_itself() {
    let dir = tempdir().unwrap();
    let report = run(dir.path(), &["scan", "--demo", "--format", "json"])
        .expect(0, &[])
        .json();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() > 10);
    let waste: f64 = findings
        .iter()
        .filter(|f| f["status"] != "suppressed")
        .filter_map(|f| f["waste_usd_per_hour"].as_f64())
        .sum();
    assert!(same(waste, total(&report, "waste_usd_per_hour")));
    assert!(waste <= total(&report, "spend_usd_per_hour"));
    assert!(same(
        total(&report, "waste_now_usd_per_hour") + total(&report, "waste_reusable_usd_per_hour"),
        waste
    ));
    for finding in findings
        .iter()
        .filter(|f| f["kind"] == "recoverable" && f["status"] != "suppressed")
    {
        let claims: f64 = finding["claims"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|c| c["usd_per_hour"].as_f64())
            .sum();
        assert!(
            same(claims, finding["waste_usd_per_hour"].as_f64().unwrap_or_default()),
            "{finding}"
        );
    }
    let states: f64 = ["free", "unhealthy", "stuck", "idle", "working", "unknown"]
        .iter()
        .map(|s| total(&report, &format!("gpus_{s}")))
        .sum();
    assert!(same(states, total(&report, "gpus")));
}

#[test]
fn documents_match_their_schemas() {
    let dir = tempdir().unwrap();
    let schema = run(dir.path(), &["schema", "report"]).expect(0, &[]).json();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for args in [
        &["scan", "--demo", "--format", "json"][..],
        &[
            "scan",
            "--demo",
            "--format",
            "json",
            "--max-waste",
            "1",
            "--group-by",
            "namespace",
        ],
    ] {
        let report = run(dir.path(), args).json();
        let errors: Vec<String> = validator
            .iter_errors(&report)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    let mut wrong = run(dir.path(), &["scan", "--demo", "--format", "json"]).json();
    wrong["totals"]["spend_usd_per_hour"] = json!("much");
    assert!(!validator.is_valid(&wrong), "the schema says something");
    let schema = run(dir.path(), &["schema", "snapshot"]).expect(0, &[]).json();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&demo(dir.path())));
    assert!(validator.is_valid(&two_nodes()));
    assert!(!validator.is_valid(&json!({"schema": 1})));
}

/// What several sources lack alike is one gap, wherever gaps are counted.
#[test]
fn gaps_are_counted_alike_wherever_they_stand() {
    let dir = tempdir().unwrap();
    let of = |args: &[&str]| run(dir.path(), args).expect(0, &[]).out;
    let plain = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(plain(of(&["scan", "--demo"])).contains("Not read 3 gaps"));
    assert!(of(&["scan", "--demo", "--format", "html"]).contains(" sources, 3 gaps"));
    assert!(of(&["scan", "--demo", "--format", "markdown"]).contains("3 gaps in what could be read"));
    let doctor = of(&["doctor", "--demo"]);
    assert!(
        doctor.contains("Not read: 3 gaps") && doctor.matches("      remedy: ").count() == 3,
        "{doctor}"
    );
}
