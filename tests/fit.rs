//! `gpuwaste fit` from outside: the contract's JSON, every flag, models of one's own, bad input.

#![allow(clippy::float_cmp, clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Done, run};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// The configurations that the catalogue's own tests count.
const CONFIGS: &str = include_str!("../crates/catalog/src/models/config/configs.json");

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

fn first(folder: &Path, args: &[&str]) -> Value {
    json_of(folder, args)["placements"][0].clone()
}

#[test]
fn the_json_has_the_contracts_fields_and_types() {
    let dir = tempdir().unwrap();
    let one = json_of(
        dir.path(),
        &[
            "meta-llama/Llama-3.1-8B-Instruct",
            "--gpu",
            "H100",
            "--tp",
            "1",
            "--max-model-len",
            "8192",
        ],
    );
    assert_eq!(one["schema"], 1);
    assert_eq!(one["model"]["id"], "meta-llama/Llama-3.1-8B-Instruct");
    assert_eq!(one["model"]["parameters"], 8_030_261_248_u64);
    assert_eq!(one["model"]["source"], "catalog");
    let placements = one["placements"].as_array().unwrap();
    assert_eq!(placements.len(), 1, "--gpu and --tp name exactly one");
    let p = &placements[0];
    for key in [
        "gpus",
        "tensor_parallel",
        "pipeline_parallel",
        "data_parallel",
        "weights_bytes_per_gpu",
        "overhead_bytes_per_gpu",
        "kv_bytes_per_gpu",
        "kv_bytes_per_token_per_gpu",
        "kv_capacity_tokens",
        "max_concurrency",
        "usd_per_hour",
    ] {
        assert!(p[key].is_number(), "{key}: {}", p[key]);
    }
    for key in ["gpu", "verdict", "reason", "confidence"] {
        assert!(p[key].is_string(), "{key}: {}", p[key]);
    }
    for key in ["overhead_band_bytes_per_gpu", "kv_capacity_band_tokens"] {
        let ends = p[key].as_array().unwrap();
        assert!(ends.len() == 2 && ends[0].as_u64() <= ends[1].as_u64(), "{key}");
    }
    assert_eq!(p["kv_bytes_per_token_per_gpu"], 131_072.0);
    assert!(p["output_tokens_per_second"].is_null(), "nothing was asked for");

    // Every tier at its smallest parallelism: those that fit first, cheapest first.
    let all = json_of(dir.path(), &["Qwen/Qwen3-32B", "--max-model-len", "8192"]);
    let all = all["placements"].as_array().unwrap();
    assert!(all.len() > 30, "{}", all.len());
    let fits = |p: &&Value| p["verdict"] == "fits";
    let count = all.iter().filter(fits).count();
    assert!(count > 5 && all.iter().take(count).all(|p| fits(&p)));
    let prices: Vec<f64> = all[..count].iter().filter_map(|p| p["usd_per_hour"].as_f64()).collect();
    assert!(prices.is_sorted() && prices.len() > 5, "{prices:?}");
}

/// A flag that changes nothing would be a lie: each one moves the figure beside it.
#[test]
fn every_flag_changes_what_it_names() {
    let dir = tempdir().unwrap();
    let base = [
        "Qwen/Qwen3-30B-A3B",
        "--gpu",
        "H100",
        "--engine-version",
        "0.21.0",
        "--max-model-len",
        "8200",
    ];
    let with = |more: &[&str]| {
        let mut args = base.to_vec();
        args.extend(more);
        if !more.contains(&"--tp") {
            args.extend(["--tp", "2"]);
        }
        first(dir.path(), &args)
    };
    let sglang = ["--engine", "sglang"];
    let load = ["--context-tokens", "4000", "--concurrency", "16", "--output-tps", "400"];
    let cases: Vec<(&[&str], Vec<&str>, &str)> = vec![
        (&[], vec!["--tp", "4"], "weights_bytes_per_gpu"),
        (&[], vec!["--pp", "2"], "weights_bytes_per_gpu"),
        (&[], vec!["--dp", "2"], "gpus"),
        (&[], vec!["--quantization", "fp8"], "weights_bytes_per_gpu"),
        (&[], vec!["--dtype", "float32"], "weights_bytes_per_gpu"),
        (&[], vec!["--kv-cache-dtype", "fp8"], "kv_bytes_per_token_per_gpu"),
        (&[], vec!["--max-num-seqs", "64"], "overhead_bytes_per_gpu"),
        (&[], vec!["--max-num-batched-tokens", "65536"], "overhead_bytes_per_gpu"),
        (&[], vec!["--gpu-memory-utilization", "0.6"], "kv_bytes_per_gpu"),
        (&[], vec!["--block-size", "128"], "max_concurrency"),
        (&[], vec!["--enforce-eager"], "overhead_bytes_per_gpu"),
        (&[], vec!["--gpu-memory-gib", "60"], "kv_bytes_per_gpu"),
        (&[], vec!["--region", "us-east-1"], "usd_per_hour"),
        (&[], vec!["--engine", "tgi"], "kv_bytes_per_gpu"),
        (&[], vec!["--engine", "trtllm"], "kv_bytes_per_gpu"),
        (&[], vec!["--engine", "llamacpp"], "kv_bytes_per_gpu"),
        (&[], vec!["--engine", "sglang"], "kv_bytes_per_gpu"),
        (&sglang, vec!["--dp", "2", "--dp-attention"], "weights_bytes_per_gpu"),
        (&sglang, vec!["--mem-fraction-static", "0.6"], "kv_bytes_per_gpu"),
        (&sglang, vec!["--chunked-prefill-size", "32768"], "kv_bytes_per_gpu"),
        (
            &[],
            vec!["--context-tokens", "8000", "--concurrency", "100000"],
            "verdict",
        ),
        (&[], load.to_vec(), "output_tokens_per_second"),
        (&load, vec!["--prompt-tps", "4000"], "output_tokens_per_second"),
    ];
    for (common, flags, field) in cases {
        let mut more = common.to_vec();
        let before = with(&more);
        more.extend(&flags);
        let after = with(&more);
        assert_ne!(
            before[field], after[field],
            "{flags:?} does not change {field}: {after}"
        );
    }
    // The last of two values is not taken: both are refused or the flag stands alone.
    let at = |version: &str| {
        let args = [
            "Qwen/Qwen3-8B",
            "--gpu",
            "L40S",
            "--tp",
            "1",
            "--engine-version",
            version,
        ];
        first(dir.path(), &args)["kv_capacity_tokens"].clone()
    };
    assert_ne!(at("0.6.3"), at("0.33.0"));
    let length = |n: &str| {
        let args = ["Qwen/Qwen3-8B", "--gpu", "L40S", "--tp", "1", "--max-model-len", n];
        first(dir.path(), &args)["max_concurrency"].as_f64().unwrap()
    };
    assert!(length("4096") > 3.0 * length("16384"));
}

#[test]
fn rates_without_lengths_say_what_is_assumed() {
    let dir = tempdir().unwrap();
    let args = [
        "Qwen/Qwen3-8B",
        "--gpu",
        "H100",
        "--tp",
        "1",
        "--output-tps",
        "300",
        "--format",
        "json",
    ];
    let done = fit(dir.path(), &args).expect(0, &["2048 tokens are assumed", "--context-tokens"]);
    let p = done.json()["placements"][0].clone();
    assert!(p["output_tokens_per_second"].as_f64().unwrap() > 300.0, "{p}");
}

/// `--models DIR` with a model's config.json gives what its catalogue row gives.
#[test]
fn a_config_gives_the_same_as_the_row() {
    let dir = tempdir().unwrap();
    let configs: Vec<Value> = serde_json::from_str(CONFIGS).unwrap();
    assert!(configs.len() >= 40);
    for entry in &configs {
        let folder = dir.path().join("models").join(entry["id"].as_str().unwrap());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), entry["config"].to_string()).unwrap();
    }
    let mut apart = Vec::new();
    for entry in &configs {
        let id = entry["id"].as_str().unwrap();
        let args = [
            id,
            "--gpu",
            "B300",
            "--tp",
            "2",
            "--max-model-len",
            "256",
            "--engine-version",
            "0.21.0",
        ];
        let row = json_of(dir.path(), &args);
        let mut own = args.to_vec();
        own.extend(["--models", "models"]);
        let config = json_of(dir.path(), &own);
        assert_eq!(row["model"]["source"], "catalog", "{id}");
        assert_eq!(config["model"]["source"], "config", "{id}");
        let (a, b) = (&row["placements"][0], &config["placements"][0]);
        for (key, tolerance) in [
            ("weights_bytes_per_gpu", 0.006),
            ("kv_bytes_per_token_per_gpu", 1e-9),
            ("kv_capacity_tokens", 0.02),
        ] {
            let (x, y) = (a[key].as_f64(), b[key].as_f64());
            let near = match (x, y) {
                (Some(x), Some(y)) => (x - y).abs() <= tolerance * x,
                (x, y) => x == y,
            };
            if !near {
                apart.push(format!("{id}: {key} {x:?} by the row, {y:?} by the config"));
            }
        }
        if a["verdict"] != b["verdict"] {
            apart.push(format!(
                "{id}: {} by the row, {} by the config: {}",
                a["verdict"], b["verdict"], b["reason"]
            ));
        }
    }
    assert!(apart.is_empty(), "{}", apart.join("\n"));
}

#[test]
fn unknown_names_are_errors_with_the_nearest() {
    let dir = tempdir().unwrap();
    fit(dir.path(), &["microsoft/fi-4-reasonin"]).expect(
        2,
        &["'microsoft/fi-4-reasonin'", "nearest", "microsoft/Phi-4-reasoning"],
    );
    fit(dir.path(), &["nothing-like-it"]).expect(2, &["nothing-like-it", "catalog models"]);
    fit(dir.path(), &["Qwen/Qwen3-8B", "--gpu", "H10"]).expect(2, &["'H10'", "nearest"]);
    fit(dir.path(), &["Qwen/Qwen3-8B", "--gpu", "A100"]).expect(2, &["two memory sizes", "A100-SXM4-40GB"]);
    fit(dir.path(), &["Qwen/Qwen3-8B", "--region", "mars-1"]).expect(2, &["mars-1"]);
    // A card of that name, but not of that memory.
    let h20 = first(dir.path(), &["Qwen/Qwen3-8B", "--gpu", "H20 120GB", "--tp", "1"]);
    assert_eq!(h20["gpu"], "H20 120GB");
}

#[test]
fn mig_instances_are_judged_by_name() {
    let dir = tempdir().unwrap();
    let on = |gpu: &str| {
        first(
            dir.path(),
            &[
                "Qwen/Qwen3-8B",
                "--gpu",
                gpu,
                "--max-model-len",
                "4096",
                "--max-num-seqs",
                "4",
            ],
        )
    };
    let half = on("H100-MIG-3g.40gb");
    assert_eq!(
        (&half["gpu"], &half["verdict"]),
        (&"H100-SXM5-80GB-MIG-3g.40gb".into(), &"fits".into()),
        "{half}"
    );
    // 15.3 GiB of weights.
    assert_eq!(on("NVIDIA H100 80GB HBM3 MIG 1g.10gb")["verdict"], "does-not-fit");
    // Priced by compute slices.
    let usd = |p: &Value| p["usd_per_hour"].as_f64().unwrap();
    assert!((usd(&half) * 7.0 - usd(&on("H100")) * 3.0).abs() < 1e-4, "{half}");
    fit(dir.path(), &["Qwen/Qwen3-8B", "--gpu", "H100-MIG-1g.5gb"]).expect(2, &["1g.5gb", "1g.10gb"]);
    fit(dir.path(), &["Qwen/Qwen3-8B", "--gpu", "L4-MIG-1g.5gb"]).expect(2, &["'L4'", "MIG"]);
}

#[test]
fn values_that_make_no_sense_are_errors() {
    let dir = tempdir().unwrap();
    let base = ["Qwen/Qwen3-8B", "--gpu", "H100", "--tp", "1"];
    for (more, word) in [
        (vec!["--quantization", "fp7"], "fp7"),
        (vec!["--kv-cache-dtype", "int3"], "int3"),
        (vec!["--gpu-memory-utilization", "1.5"], "1.5"),
        (vec!["--mem-fraction-static", "0"], "--mem-fraction-static 0"),
        (vec!["--gpu-memory-gib=-1"], "gpu-memory-gib"),
        (vec!["--output-tps", "NaN"], "output-tps"),
        (vec!["--max-model-len", "0"], "max-model-len"),
        (vec!["--context-tokens", "10"], "concurrency"),
        (vec!["--prompt-tps", "10"], "output-tps"),
        (vec!["--engine", "none"], "none"),
    ] {
        let mut args = base.to_vec();
        args.extend(&more);
        fit(dir.path(), &args).expect(2, &[word]);
    }
    fit(dir.path(), &["Qwen/Qwen3-8B", "--tp", "0"]).expect(2, &["--tp"]);
    fit(dir.path(), &["Qwen/Qwen3-8B", "--pp", "2"]).expect(2, &["--tp"]);
}

#[test]
fn hard_limits_are_verdicts_with_a_reason() {
    let dir = tempdir().unwrap();
    for (args, word) in [
        (
            vec!["meta-llama/Llama-3.1-8B-Instruct", "--gpu", "H100", "--tp", "3"],
            "32 attention heads are not divisible",
        ),
        (
            vec![
                "meta-llama/Llama-3.1-8B-Instruct",
                "--gpu",
                "H200",
                "--tp",
                "1",
                "--max-model-len",
                "200000",
            ],
            "beyond the model's 131072",
        ),
        (
            vec![
                "Qwen/Qwen2.5-7B-Instruct-AWQ",
                "--gpu",
                "H100",
                "--tp",
                "1",
                "--quantization",
                "fp8",
            ],
            "quantized as awq",
        ),
        (
            vec!["Qwen/Qwen3-8B", "--gpu", "T4", "--tp", "1", "--dtype", "bfloat16"],
            "compute capability",
        ),
        (
            vec!["deepseek-ai/DeepSeek-R1", "--gpu", "L4", "--tp", "8"],
            "nothing is left",
        ),
    ] {
        let p = first(dir.path(), &args);
        assert_eq!(p["verdict"], "does-not-fit", "{p}");
        assert!(p["reason"].as_str().unwrap().contains(word), "{word}: {}", p["reason"]);
    }
    let guess = json_of(dir.path(), &["acme/Novel-7B", "--gpu", "B200", "--tp", "1"]);
    assert_eq!(guess["model"]["source"], "name");
    assert_ne!(
        guess["placements"][0]["verdict"], "fits",
        "a name alone is never enough"
    );
}

#[test]
fn damaged_models_are_errors_that_name_the_file_and_stay_small() {
    let dir = tempdir().unwrap();
    let config = json!({"model_type": "llama", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8,
        "num_attention_heads": 8, "vocab_size": 1000});
    let put = |name: &str, file: &str, bytes: &[u8]| {
        let folder = dir.path().join("models/acme").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), bytes).unwrap();
    };
    put("Whole", "config.json", config.to_string().as_bytes());
    for field in ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"] {
        let mut less = config.clone();
        less.as_object_mut().unwrap().remove(field);
        put(&format!("Less-{field}"), "config.json", less.to_string().as_bytes());
    }
    put("Text", "config.json", b"not JSON");
    // A header that claims more than the file, or than any file.
    put("Huge", "config.json", config.to_string().as_bytes());
    put("Huge", "model.safetensors", &u64::MAX.to_le_bytes());
    put("Cut", "config.json", config.to_string().as_bytes());
    put("Cut", "model.safetensors", b"\x08\0\0");
    let mut gguf = b"GGUF\x03\0\0\0".to_vec();
    gguf.extend([0xff; 16]);
    put("files", "lies.gguf", &gguf);
    let start = Instant::now();
    let own = |name: &str| fit(dir.path(), &[name, "--models", "models", "--gpu", "L4", "--tp", "1"]);
    own("acme/Whole").expect(0, &[]);
    for field in ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"] {
        own(&format!("acme/Less-{field}")).expect(2, &[&format!("Less-{field}"), &format!("'{field}'")]);
    }
    own("acme/Text").expect(2, &["Text", "JSON"]);
    own("acme/Huge").expect(2, &["Huge", "safetensors header"]);
    own("acme/Cut").expect(2, &["Cut", "safetensors header"]);
    own("lies").expect(2, &["lies", "GGUF"]);
    fit(dir.path(), &["acme/Whole", "--models", "absent"]).expect(2, &["absent"]);
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "headers are read, not the files they claim"
    );
}

#[test]
fn the_table_fits_its_width_and_says_why() {
    let dir = tempdir().unwrap();
    let done = fit(dir.path(), &["deepseek-ai/DeepSeek-R1", "--max-model-len", "32768"]).expect(0, &[]);
    assert!(done.out.lines().all(|l| l.chars().count() <= 120), "{}", done.out);
    assert!(
        done.out.contains("671.") && done.out.contains("nothing is left"),
        "{}",
        done.out
    );
    let fits = done.out.find(" fits ").unwrap();
    assert!(fits < done.out.find("does-not-fit").unwrap(), "what fits comes first");
}
