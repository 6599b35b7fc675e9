//! `gpuwaste fit` for a load, from outside: the contract's JSON, layouts, limits, prices, a running server, bad input.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Done, run};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::tempdir;

const LLAMA: &str = "meta-llama/Llama-3.1-8B-Instruct";

fn fit(folder: &Path, args: &[&str]) -> Done {
    let mut all = vec!["fit"];
    all.extend(args);
    run(folder, &all)
}

fn json_of(folder: &Path, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["--format", "json"]);
    fit(folder, &all).expect(0, &[]).json()
}

fn rows(answer: &Value) -> &[Value] {
    answer["placements"].as_array().expect("placements")
}

fn row<'a>(answer: &'a Value, gpu: &str) -> &'a Value {
    rows(answer)
        .iter()
        .find(|r| r["gpu"] == gpu)
        .unwrap_or_else(|| panic!("{gpu}: {answer}"))
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key}: {row}"))
}

/// 5 requests a second of 1024 + 256 tokens.
fn asked<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![
        LLAMA,
        "--requests-per-second",
        "5",
        "--input",
        "1024",
        "--output",
        "256",
    ];
    args.extend(more);
    args
}

#[test]
fn a_row_says_what_the_contract_says_and_its_figures_agree() {
    let dir = tempdir().unwrap();
    let answer = json_of(dir.path(), &asked(&["--itl", "50ms", "--ttft", "2s"]));
    assert_eq!(answer["load"]["requests_per_second"], 5.0);
    assert_eq!(answer["limits"]["itl_seconds"], 0.05);
    let serving: Vec<&Value> = rows(&answer).iter().filter(|r| r["verdict"] == "serves").collect();
    assert!(serving.len() > 5, "{}", serving.len());
    for r in &serving {
        let (itl, ttft) = (&r["itl_seconds"], &r["ttft_seconds"]);
        assert!(
            number(itl, "low") < number(itl, "value") && number(itl, "value") < number(itl, "high"),
            "{r}"
        );
        assert!(number(itl, "high") <= 0.05 + 1e-9, "promised at the bad end: {r}");
        assert!(number(ttft, "high") <= 2.0 + 1e-9, "{r}");
        assert!(number(r, "requests_per_second") >= 5.0, "{r}");
        assert_ne!(r["evidence"]["class"], "not-seen", "{r}");
        assert!(
            number(&r["evidence"], "points") >= 1.0 && number(&r["evidence"], "sources") >= 1.0,
            "{r}"
        );
        let each = number(r, "tensor_parallel") * number(r, "pipeline_parallel") * number(r, "data_parallel");
        assert!((number(r, "gpus") - each * number(r, "replicas")).abs() < 1e-9, "{r}");
        // The whole bill over the load's tokens.
        let per_hour = 5.0 * 3600.0 / 1e6;
        let out = number(r, "usd_per_hour") / (per_hour * 256.0);
        assert!(
            (number(r, "usd_per_million_output_tokens") / out - 1.0).abs() < 1e-6,
            "{r}"
        );
        assert!(
            (number(r, "usd_per_million_input_tokens") * 4.0 / out - 1.0).abs() < 1e-6,
            "{r}"
        );
    }
    let prices: Vec<f64> = serving.iter().map(|r| number(r, "usd_per_hour")).collect();
    assert!(prices.is_sorted(), "cheapest first: {prices:?}");
    let after: Vec<&Value> = rows(&answer)
        .iter()
        .skip(serving.len())
        .map(|r| &r["verdict"])
        .collect();
    assert!(after.iter().all(|v| *v != "serves"), "what serves comes first");
}

/// Nothing that is not measured anywhere is ever said to serve, by name, by --all, or scaled from another card.
#[test]
fn what_was_measured_nowhere_is_unknown() {
    let dir = tempdir().unwrap();
    for args in [
        asked(&["--all"]),
        asked(&["--engine", "sglang", "--all"]),
        asked(&["--engine", "tgi", "--all"]),
        vec!["--from", "chat-prod/chat-llama-70b", "--demo", "--all"],
        vec![
            "openai/gpt-oss-120b",
            "--requests-per-second",
            "2",
            "--input",
            "500",
            "--output",
            "500",
        ],
    ] {
        let answer = json_of(dir.path(), &args);
        for r in rows(&answer).iter().filter(|r| r["evidence"]["class"] == "not-seen") {
            assert_ne!(r["verdict"], "serves", "{args:?}: {r}");
            assert!(
                r["itl_seconds"].is_null() || r["itl_seconds"]["high"].is_null() || r["scaled_from_present"] == true,
                "{r}"
            );
        }
    }
    let l40 = json_of(dir.path(), &asked(&["--gpu", "L40"]));
    let r = row(&l40, "L40");
    assert_eq!(
        (&r["verdict"], &r["itl_seconds"]["high"]),
        (&"unknown".into(), &Value::Null),
        "{r}"
    );
    assert!(
        r["itl_seconds"]["value"].as_f64().unwrap() > 0.01,
        "what is expected is shown: {r}"
    );
    assert!(
        r["reason"].as_str().unwrap().contains("nothing was measured of L40"),
        "{r}"
    );
    let tgi = json_of(dir.path(), &asked(&["--engine", "tgi"]));
    assert!(rows(&tgi).iter().all(|r| r["verdict"] != "serves"));
}

#[test]
fn replicas_come_before_ranks_over_pcie() {
    let dir = tempdir().unwrap();
    let heavy = [
        LLAMA,
        "--quantization",
        "fp8",
        "--requests-per-second",
        "40",
        "--input",
        "500",
        "--output",
        "300",
        "--gpu",
        "L4",
        "--itl",
        "100ms",
    ];
    let r = json_of(dir.path(), &heavy)["placements"][0].clone();
    assert_eq!(
        (&r["verdict"], &r["tensor_parallel"]),
        (&"serves".into(), &1.into()),
        "{r}"
    );
    assert!(number(&r, "replicas") > 4.0, "{r}");
    // Memory needs two: then two, and no more.
    let large = [
        "Qwen/Qwen3-32B",
        "--quantization",
        "fp8",
        "--requests-per-second",
        "4",
        "--input",
        "500",
        "--output",
        "300",
        "--gpu",
        "RTX-4090",
        "--itl",
        "100ms",
    ];
    let r = json_of(dir.path(), &large)["placements"][0].clone();
    assert!(r["verdict"] != "serves" || number(&r, "tensor_parallel") <= 4.0, "{r}");
    // The rates of old do the same.
    let rates = [
        LLAMA,
        "--quantization",
        "fp8",
        "--prompt-tps",
        "20000",
        "--output-tps",
        "12000",
        "--context-tokens",
        "800",
        "--concurrency",
        "50",
        "--gpu",
        "L4",
        "--itl",
        "100ms",
    ];
    let r = json_of(dir.path(), &rates)["placements"][0].clone();
    assert_eq!(
        (&r["verdict"], &r["tensor_parallel"]),
        (&"serves".into(), &1.into()),
        "{r}"
    );
}

#[test]
fn a_larger_load_costs_more_and_a_tighter_promise_too() {
    let dir = tempdir().unwrap();
    let at = |rate: &str, itl: &str| {
        let args = [
            LLAMA,
            "--requests-per-second",
            rate,
            "--input",
            "1024",
            "--output",
            "256",
            "--itl",
            itl,
            "--gpu",
            "H100",
        ];
        let r = json_of(dir.path(), &args)["placements"][0].clone();
        assert_eq!(r["verdict"], "serves", "{r}");
        number(&r, "usd_per_hour")
    };
    assert!(at("5", "50ms") <= at("40", "50ms"));
    assert!(at("40", "50ms") < at("400", "50ms"));
    assert!(at("40", "50ms") < at("40", "20ms"));
}

#[test]
fn limits_that_break_are_named() {
    let dir = tempdir().unwrap();
    for (more, verdict, limit, word) in [
        (
            vec!["--itl", "5ms", "--gpu", "L4"],
            "too-slow",
            "itl",
            "ms between tokens, the limit is 5.0 ms",
        ),
        (
            vec!["--ttft", "60ms", "--itl", "50ms", "--gpu", "L40S"],
            "too-slow",
            "ttft",
            "to the first token",
        ),
        (
            vec!["--max-gpus", "1", "--gpu", "RTX-4090"],
            "too-slow",
            "max-gpus",
            "at most 1 are allowed",
        ),
        (vec!["--gpu", "T4", "--tp", "1"], "does-not-fit", "memory", "GiB"),
    ] {
        let answer = json_of(dir.path(), &asked(&more));
        let r = &rows(&answer)[0];
        assert_eq!(
            (&r["verdict"], &r["limit"]),
            (&verdict.into(), &limit.into()),
            "{more:?}: {r}"
        );
        assert!(r["reason"].as_str().unwrap().contains(word), "{word}: {r}");
        assert!(
            r["usd_per_million_output_tokens"].is_null(),
            "no price of what does not serve: {r}"
        );
    }
    let long = [
        LLAMA,
        "--requests-per-second",
        "1",
        "--input",
        "120000",
        "--output",
        "20000",
        "--gpu",
        "H200",
    ];
    let r = json_of(dir.path(), &long)["placements"][0].clone();
    assert!(
        r["verdict"] == "does-not-fit" && r["reason"].as_str().unwrap().contains("longer than"),
        "{r}"
    );
}

#[test]
fn the_speed_of_one_engine_is_told_at_any_batch() {
    let dir = tempdir().unwrap();
    let at = |n: &str| {
        let args = [
            LLAMA,
            "--gpu",
            "H100",
            "--tp",
            "1",
            "--running",
            n,
            "--input",
            "1000",
            "--output",
            "300",
        ];
        let answer = json_of(dir.path(), &args);
        assert_eq!(rows(&answer).len(), 1, "--gpu and --tp name exactly one");
        let r = rows(&answer)[0].clone();
        assert_eq!(r["running"], n.parse::<f64>().unwrap());
        (
            number(&r["itl_seconds"], "value"),
            number(&r, "output_tokens_per_second"),
        )
    };
    let (one, many) = (at("1"), at("64"));
    assert!(one.0 < many.0 && many.1 > 10.0 * one.1, "{one:?} {many:?}");
    // A promise makes it a verdict.
    let slow = [
        LLAMA,
        "--gpu",
        "H100",
        "--tp",
        "1",
        "--running",
        "200",
        "--input",
        "1000",
        "--output",
        "300",
        "--itl",
        "10ms",
    ];
    assert_eq!(json_of(dir.path(), &slow)["placements"][0]["verdict"], "too-slow");
    // What would not hold its own default length is timed at the length that is asked for.
    let small = [
        "Qwen/Qwen3-8B",
        "--gpu",
        "RTX-4090",
        "--tp",
        "1",
        "--running",
        "4",
        "--input",
        "300",
        "--output",
        "300",
    ];
    let r = json_of(dir.path(), &small)["placements"][0].clone();
    assert!(number(&r["itl_seconds"], "value") > 0.01, "{r}");
}

#[test]
fn clients_that_wait_are_fewer_than_they_seem() {
    let dir = tempdir().unwrap();
    let args = [
        LLAMA,
        "--concurrency",
        "256",
        "--input",
        "4000",
        "--output",
        "200",
        "--gpu",
        "L40S",
        "--itl",
        "200ms",
    ];
    let r = json_of(dir.path(), &args)["placements"][0].clone();
    assert_eq!(r["verdict"], "serves", "{r}");
    let running = number(&r, "running") * number(&r, "replicas");
    assert!(running < 256.0, "some wait for their first token: {r}");
    assert!(
        number(&r, "replicas") >= 2.0,
        "256 sequences of 4,200 tokens do not find room in one: {r}"
    );
}

#[test]
fn a_quantized_copy_is_taken_for_one() {
    let dir = tempdir().unwrap();
    let r = json_of(
        dir.path(),
        &[
            "deepseek-ai/DeepSeek-R1",
            "--quantization",
            "nvfp4",
            "--gpu",
            "B200",
            "--tp",
            "8",
            "--running",
            "64",
            "--input",
            "1024",
            "--output",
            "1024",
        ],
    )["placements"][0]
        .clone();
    assert!(
        number(&r, "weights_bytes_per_gpu") < 60e9 && number(&r["itl_seconds"], "value") > 0.005,
        "{r}"
    );
}

#[test]
fn prices_are_whole_instances_where_a_cloud_is_named() {
    let dir = tempdir().unwrap();
    let at = |more: &[&str]| json_of(dir.path(), &asked(more));
    let azure = at(&["--cloud", "azure", "--region", "eastus", "--gpu", "H100"]);
    let h100 = row(&azure, "H100-SXM5-80GB");
    assert!(
        h100["usd_per_hour"].is_null() || number(h100, "usd_per_hour") > 50.0,
        "eight at a time: {h100}"
    );
    let aws = at(&["--cloud", "aws"]);
    assert!(rows(&aws).iter().all(|r| r["gpu"] != "RTX-4090"), "not sold there");
    assert!(rows(&aws).iter().all(|r| r["usd_per_hour"].is_number()));
    let (on_demand, spot) = (at(&["--gpu", "L40S"]), at(&["--gpu", "L40S", "--spot"]));
    assert!(number(row(&spot, "L40S"), "usd_per_hour") < number(row(&on_demand, "L40S"), "usd_per_hour"));
    let market = at(&["--gpu", "RTX-4090", "--gpu", "L4"]);
    assert_eq!(
        (
            &row(&market, "RTX-4090")["marketplace_only"],
            &row(&market, "L4")["marketplace_only"]
        ),
        (&true.into(), &false.into())
    );
}

#[test]
fn the_default_list_is_short_and_says_what_it_leaves_out() {
    let dir = tempdir().unwrap();
    let short = fit(dir.path(), &asked(&[])).expect(0, &[]).out;
    let named = |text: &str| text.lines().filter(|l| l.contains(" × TP")).count();
    assert!((1..=10).contains(&named(&short)), "{short}");
    assert!(short.contains("Left out:") && short.contains("--all"), "{short}");
    assert!(
        !short.contains("too-slow") && !short.contains("does-not-fit"),
        "only what serves: {short}"
    );
    assert!(short.lines().all(|l| l.chars().count() <= 120), "{short}");
    assert!(short.contains("* only marketplaces sell this card."), "{short}");
    let all = fit(dir.path(), &asked(&["--all"])).expect(0, &[]).out;
    assert!(named(&all) > 30 && !all.contains("Left out:"), "{all}");
    let never = fit(dir.path(), &asked(&["--itl", "1ms"])).expect(0, &[]).out;
    assert!(
        never.contains("Nothing surely serves this load") && never.contains("too-slow"),
        "{never}"
    );
}

#[test]
fn without_a_load_the_speed_at_one_and_at_eight_is_told() {
    let dir = tempdir().unwrap();
    let answer = json_of(dir.path(), &[LLAMA, "--gpu", "H100", "--gpu", "A10"]);
    let speed = |gpu: &str| row(&answer, gpu)["speed"].clone();
    let h100 = speed("H100-SXM5-80GB");
    assert_eq!((&h100[0]["running"], &h100[1]["running"]), (&1.into(), &8.into()));
    assert!(number(&h100[0]["itl_seconds"], "high") > number(&h100[0]["itl_seconds"], "value"));
    assert!(speed("A10")[1]["itl_seconds"]["high"].is_null(), "never measured");
    let table = fit(dir.path(), &[LLAMA, "--gpu", "H100"]).expect(0, &[]).out;
    for column in ["weights", "KV tokens", "requests", "ms at 1", "ms at 8"] {
        assert!(table.contains(column), "{column}: {table}");
    }
}

#[test]
fn a_running_server_gives_its_load_and_its_latency() {
    let dir = tempdir().unwrap();
    let answer = json_of(dir.path(), &["--from", "chat-prod/chat-llama-70b", "--demo"]);
    assert_eq!(answer["model"]["id"], "meta-llama/Llama-3.3-70B-Instruct");
    let from = &answer["from"];
    assert!(
        number(from, "itl_seconds_p95") > 0.001 && number(from, "replicas") >= 1.0,
        "{from}"
    );
    assert!(number(&answer["load"], "requests_per_second") > 0.0);
    let own = row(&answer, from["gpu"].as_str().unwrap());
    assert_eq!(own["scaled_from_present"], true, "{own}");
    // Its own card costs what it costs now, and what others cost is found where it stands, or marked.
    let each = |r: &Value, gpus: f64| number(r, "usd_per_hour") / gpus;
    let now = each(from, 16.0);
    assert!((each(own, number(own, "gpus")) - now).abs() < 1e-6, "{own}: {now}");
    assert_eq!(
        (&own["price_source"], &from["price_source"]),
        (&json!("catalog"), &json!("catalog"))
    );
    let all = json_of(dir.path(), &["--from", "chat-prod/chat-llama-70b", "--demo", "--all"]);
    let sources: Vec<&str> = rows(&all).iter().filter_map(|r| r["price_source"].as_str()).collect();
    assert!(
        sources.contains(&"catalog") && sources.contains(&"gpu-median"),
        "{sources:?}"
    );
    let told = fit(
        dir.path(),
        &["--from", "chat-prod/chat-llama-70b", "--demo", "--gpu", "MI300X"],
    )
    .expect(0, &[])
    .out;
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains('~') && told.contains("as this server's (catalog)"),
        "{told}"
    );
    // Prices that are asked for are no prices of the server.
    let spot = fit(dir.path(), &["--from", "chat-prod/chat-llama-70b", "--demo", "--spot"])
        .expect(0, &[])
        .out;
    assert!(spot.contains("the rows are not)"), "{spot}");
    assert!(own["verdict"] == "serves" || own["verdict"] == "too-slow", "{own}");
    // Another model under the same load: its latency is not this one's.
    let other = json_of(
        dir.path(),
        &["Qwen/Qwen3-32B", "--from", "chat-prod/chat-llama-70b", "--demo"],
    );
    assert_eq!(other["load"], answer["load"]);
    assert!(rows(&other).iter().all(|r| r["scaled_from_present"] == false));
    let table = fit(dir.path(), &["--from", "docs/llama-8b-awq", "--demo"])
        .expect(0, &[])
        .out;
    assert!(table.contains("now: ") && table.contains("scaled"), "{table}");
    fit(dir.path(), &["--from", "chat-prod/absent", "--demo"])
        .expect(2, &["chat-prod/absent", "such are", "chat-prod/chat-llama-70b"]);
    fit(dir.path(), &["--from", "eval/judge-nightly", "--demo"]).expect(2, &["--from"]);
}

#[test]
fn two_are_compared_side_by_side() {
    let dir = tempdir().unwrap();
    let both = json_of(dir.path(), &asked(&["--compare", "fp8,awq"]));
    let pair = both["comparison"].as_array().unwrap();
    assert_eq!(pair.len(), 2);
    let bytes = |i: usize| number(row(&pair[i], "L40S"), "weights_bytes_per_gpu");
    assert!(bytes(1) < 0.7 * bytes(0));
    let table = fit(dir.path(), &["--compare", "Qwen/Qwen3-8B,Qwen/Qwen3-14B"])
        .expect(0, &[])
        .out;
    assert!(
        table.contains("A  Qwen/Qwen3-8B") && table.contains("B  Qwen/Qwen3-14B"),
        "{table}"
    );
    assert!(table.lines().all(|l| l.chars().count() <= 120), "{table}");
    let load = fit(dir.path(), &asked(&["--compare", "none,fp8"])).expect(0, &[]).out;
    assert!(
        load.contains("B ÷ A") && load.lines().all(|l| l.chars().count() <= 120),
        "{load}"
    );
}

#[test]
fn cost_over_load_is_drawn() {
    let dir = tempdir().unwrap();
    let text = fit(dir.path(), &asked(&["--plot"])).expect(0, &[]).out;
    assert!(
        text.contains("$ per million output tokens, over requests/s") && text.contains("└──"),
        "{text}"
    );
    let page = fit(dir.path(), &asked(&["--format", "html"])).expect(0, &[]).out;
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains("<polyline") && page.contains("serves"),
        "{page}"
    );
    assert!(
        !page.contains("<script") && !page.contains("http"),
        "nothing from elsewhere"
    );
    // A name is text, whatever it holds.
    let config = r#"{"model_type":"llama","hidden_size":1024,"intermediate_size":4096,"num_hidden_layers":8,"num_attention_heads":8,"vocab_size":1000}"#;
    let folder = dir.path().join("models/acme/<b>x");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.json"), config).unwrap();
    let args = [
        "acme/<b>x",
        "--models",
        "models",
        "--requests-per-second",
        "5",
        "--input",
        "100",
        "--output",
        "100",
        "--format",
        "html",
    ];
    let page = fit(dir.path(), &args).expect(0, &[]).out;
    assert!(page.contains("&lt;b&gt;x") && !page.contains("<b>x"), "{page}");
}

#[test]
fn loads_that_make_no_sense_are_errors() {
    let dir = tempdir().unwrap();
    let lengths = ["--input", "100", "--output", "100"];
    for (more, words) in [
        (
            vec!["--requests-per-second", "5"],
            vec!["--requests-per-second", "--input N and --output N"],
        ),
        (vec!["--running", "5"], vec!["--running", "--input N and --output N"]),
        (vec!["--concurrency", "5"], vec!["--concurrency", "--context-tokens"]),
        (vec!["--requests-per-second", "5", "--input", "100"], vec!["--output N"]),
        (vec!["--input", "100"], vec!["belong together"]),
        (vec!["--itl", "50ms"], vec!["--itl needs a load"]),
        (vec!["--plot"], vec!["--plot needs a load"]),
        (vec!["--demo"], vec!["--demo", "--from"]),
        (vec!["--compare", "fp8,awq,int8"], vec!["two, not 3"]),
        (vec!["--compare", "Qwen/Qwen3-8B,Qwen/Qwen3-14B"], vec!["three"]),
    ] {
        let mut args = vec![LLAMA];
        args.extend(more);
        fit(dir.path(), &args).expect(2, &words);
    }
    for (more, words) in [
        (vec!["--requests-per-second", "0"], vec!["--requests-per-second 0"]),
        (vec!["--requests-per-second", "NaN"], vec!["NaN"]),
        (vec!["--requests-per-second=-1"], vec!["-1"]),
        (vec!["--requests-per-second", "1e9"], vec!["1000000000"]),
        (vec!["--requests-per-second", "5", "--running", "3"], vec!["--running"]),
        (vec!["--requests-per-second", "5", "--itl", "0ms"], vec!["--itl 0"]),
        (vec!["--requests-per-second", "5", "--itl", "5h"], vec!["--itl"]),
        (
            vec!["--requests-per-second", "5", "--itl", "50ms", "--ttft", "10ms"],
            vec!["--ttft", "shorter"],
        ),
        (vec!["--requests-per-second", "5", "--max-gpus", "0"], vec!["max-gpus"]),
        (
            vec!["--requests-per-second", "5", "--max-gpus", "2", "--tp", "4"],
            vec!["--max-gpus allows 2"],
        ),
        (
            vec!["--requests-per-second", "5", "--max-model-len", "150"],
            vec!["--max-model-len 150"],
        ),
        (
            vec!["--requests-per-second", "5", "--cloud", "mars"],
            vec!["mars", "known are"],
        ),
        (
            vec!["--requests-per-second", "5", "--cloud", "aws", "--region", "eastus"],
            vec!["eastus"],
        ),
        (
            vec!["--output-tps", "10", "--prompt-tps", "500"],
            vec!["leave one of them out"],
        ),
        (vec!["--running", "4", "--plot"], vec!["--plot"]),
    ] {
        let mut args = vec![LLAMA];
        args.extend(lengths);
        args.extend(more);
        fit(dir.path(), &args).expect(2, &words);
    }
    let zero = [LLAMA, "--requests-per-second", "5", "--input", "0", "--output", "10"];
    fit(dir.path(), &zero).expect(2, &["--input 0"]);
    let absurd = [
        LLAMA,
        "--requests-per-second",
        "900000",
        "--input",
        "90000",
        "--output",
        "10000",
    ];
    fit(dir.path(), &absurd).expect(2, &["more than any fleet serves"]);
    // Known by its name alone: nothing is said of it.
    let guess = json_of(
        dir.path(),
        &[
            "acme/Novel-7B",
            "--requests-per-second",
            "5",
            "--input",
            "100",
            "--output",
            "100",
        ],
    );
    assert!(
        rows(&guess)
            .iter()
            .all(|r| r["verdict"] == "unknown" || r["verdict"] == "does-not-fit"),
        "{guess}"
    );
    fit(
        dir.path(),
        &[
            "nothing-like-it",
            "--requests-per-second",
            "5",
            "--input",
            "100",
            "--output",
            "100",
        ],
    )
    .expect(2, &["nothing-like-it"]);
}
