//! `scan --local` against a stand-in for NVIDIA's library and real processes of this machine.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp, reason = "tests")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// The folder with `libnvidia-ml.so.1` and the program that looks like vLLM, built once.
fn standin() -> &'static Path {
    static FOLDER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &FOLDER
        .get_or_init(|| {
            let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
            let target = Path::new(env!("CARGO_BIN_EXE_gpuwaste"))
                .ancestors()
                .nth(2)
                .unwrap()
                .to_path_buf();
            let built = Command::new(cargo)
                .args(["build", "--quiet", "-p", "nvml-standin", "--target-dir"])
                .arg(&target)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .unwrap();
            assert!(built.success(), "the stand-in does not build");
            let folder = tempfile::tempdir().unwrap();
            std::fs::copy(
                target.join("debug/libnvidia_ml.so"),
                folder.path().join("libnvidia-ml.so.1"),
            )
            .unwrap();
            std::fs::copy(target.join("debug/vllm"), folder.path().join("vllm")).unwrap();
            let path = folder.path().to_path_buf();
            (folder, path)
        })
        .1
}

fn run(scenario: &Value, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.json");
    std::fs::write(&file, scenario.to_string()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_gpuwaste"))
        .args(arguments)
        .env("LD_LIBRARY_PATH", standin())
        .env("NVML_STANDIN", &file)
        .current_dir(folder.path())
        .output()
        .unwrap()
}

/// What a scan says of this host, had it been up for two days: one that was booted within the hour has no free GPU yet.
fn report(scenario: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.json").display().to_string();
    let out = run(scenario, &["collect", "--local", "--observe", "1s", "-o", &file]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let mut snapshot: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let taken: jiff::Timestamp = snapshot["taken_at"].as_str().unwrap().parse().unwrap();
    let booted = &mut snapshot["clusters"][0]["nodes"][0]["created_at"];
    assert!(booted.is_string(), "the host tells when it was booted");
    *booted = json!((taken - jiff::SignedDuration::from_hours(48)).to_string());
    std::fs::write(&file, snapshot.to_string()).unwrap();
    let out = run(scenario, &["scan", "--snapshot", &file, "--format", "json"]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sleeper() -> Running {
    Running(Command::new("sleep").arg("300").spawn().unwrap())
}

fn vllm(port: u16) -> Running {
    let mut child = Command::new(standin().join("vllm"))
        .args([
            "serve",
            "Qwen/Qwen2.5-7B-Instruct",
            "--port",
            &port.to_string(),
            "--api-key",
            "CANARY-KEY",
        ])
        .env("HF_TOKEN", "CANARY-TOKEN")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line.trim(), "ready");
    Running(child)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn h100(index: u32, pids: &[u32]) -> Value {
    json!({"name": "NVIDIA H100 80GB HBM3", "uuid": format!("GPU-{index}"), "gpu_percent": 0, "memory_total": 85_520_809_984_u64,
           "memory_used": 1_000_000_000, "power_milliwatts": 71_000, "energy_millijoules": 5_000_000, "pids": pids})
}

fn findings<'a>(report: &'a Value, part: &str) -> Vec<&'a Value> {
    report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["part"] == part)
        .collect()
}

#[test]
fn a_host_with_an_idle_server_a_free_gpu_and_a_lost_one() {
    let port = free_port();
    let (server, job) = (vllm(port), sleeper());
    let mut lost = h100(2, &[]);
    lost["error"] = json!(15);
    let scenario = json!({"driver": "570.86.15", "devices": [h100(0, &[server.0.id()]), h100(1, &[]), lost, h100(3, &[job.0.id()])]});
    let report = report(&scenario);
    let totals = &report["totals"];
    assert_eq!(totals["gpus"], 4.0);
    assert_eq!(
        (&totals["gpus_idle"], &totals["gpus_free"], &totals["gpus_unhealthy"]),
        (&json!(1.0), &json!(1.0), &json!(1.0))
    );
    let idle = findings(&report, "idle");
    assert_eq!(idle.len(), 1);
    assert_eq!(idle[0]["subject"]["name"], "vllm-Qwen2.5-7B-Instruct");
    assert_eq!(idle[0]["subject"]["model"], "Qwen/Qwen2.5-7B-Instruct");
    assert_eq!(idle[0]["claims"][0]["gpu"], "GPU-0");
    let free = findings(&report, "unallocated");
    assert_eq!(free.len(), 1);
    assert_eq!(free[0]["claims"][0]["gpu"], "GPU-1");
    let gaps = report["gaps"].to_string();
    let direct = run(&scenario, &["scan", "--local", "--observe", "1s", "--format", "json"]);
    let direct: Value = serde_json::from_slice(&direct.stdout).unwrap();
    assert_eq!(
        direct["totals"]["gpus_idle"], 1.0,
        "the same without a snapshot between"
    );
    assert!(gaps.contains("GPU 2") && gaps.contains("fell off the bus"), "{gaps}");
    let text = report.to_string();
    assert!(
        !text.contains("CANARY"),
        "a secret of a command line or environment is in the report"
    );
}

#[test]
fn mig_devices_share_their_cards_price() {
    let job = sleeper();
    let instance = |slot: u32, profile: &str, pids: &[u32]| json!({"slot": slot, "name": format!("NVIDIA A100-SXM4-80GB MIG {profile}"), "uuid": format!("MIG-{slot}"), "memory_total": 10_000_000_000_u64, "pids": pids});
    let card = json!({"name": "NVIDIA A100-SXM4-80GB", "uuid": "GPU-0", "memory_total": 85_899_345_920_u64, "power_milliwatts": 90_000,
                      "mig": [instance(0, "3g.40gb", &[job.0.id()]), instance(3, "1g.10gb", &[]), instance(5, "2g.20gb", &[])]});
    let report = report(&json!({"driver": "570.86.15", "devices": [card]}));
    assert_eq!(report["totals"]["gpus"], 1.0);
    let free = report["totals"]["gpus_free"].as_f64().unwrap();
    // 1g and 2g of seven slices; the rest of the card, one slice, is in no instance and free too.
    assert!((free - 4.0 / 7.0).abs() < 1e-5, "{free}");
    let spend = report["totals"]["spend_usd_per_hour"].as_f64().unwrap();
    let waste = |part: &str| -> f64 {
        findings(&report, part)
            .iter()
            .map(|f| f["waste_usd_per_hour"].as_f64().unwrap())
            .sum()
    };
    assert!((waste("unallocated") - spend * 3.0 / 7.0).abs() < 1e-4, "{report}");
    assert!((waste("unpartitioned") - spend / 7.0).abs() < 1e-4, "{report}");
}

#[test]
fn programs_that_share_a_card_pay_for_it_once() {
    let (a, b) = (sleeper(), sleeper());
    let mut shared = h100(0, &[a.0.id()]);
    shared["mps_pids"] = json!([b.0.id()]);
    let report = report(&json!({"driver": "570.86.15", "devices": [shared, h100(1, &[])]}));
    assert_eq!(report["totals"]["gpus"], 2.0);
    assert_eq!(report["totals"]["gpus_free"], 1.0, "the other card");
    let spend = report["totals"]["spend_usd_per_hour"].as_f64().unwrap();
    let of_workloads: f64 = report["workloads"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|w| w["usd_per_hour"].as_f64())
        .sum();
    assert!((of_workloads - spend / 2.0).abs() < 1e-4, "{of_workloads} of {spend}");
}

#[test]
fn what_the_driver_hides_is_not_free() {
    let mut hidden = h100(0, &[]);
    hidden["processes_error"] = json!(4);
    let report = report(&json!({"driver": "570.86.15", "devices": [hidden]}));
    assert_eq!(report["totals"]["gpus_free"], 0.0);
    assert_eq!(report["totals"]["gpus_unknown"], 1.0);
    assert!(findings(&report, "unallocated").is_empty());
    assert!(report["gaps"].to_string().contains("run as root"));
}

#[test]
fn a_process_of_another_namespace_holds_its_gpu_without_a_name() {
    let report = report(&json!({"driver": "570.86.15", "devices": [h100(0, &[4_000_000])]}));
    assert_eq!(report["totals"]["gpus_free"], 0.0);
    assert!(report["gaps"].to_string().contains("--pid=host"));
}

#[test]
fn a_driver_that_does_not_answer_is_an_error_with_a_way_out() {
    for (init, words) in [(9, "modprobe nvidia"), (18, "without a reboot"), (4, "run as root")] {
        let out = run(&json!({"init": init}), &["scan", "--local"]);
        assert_eq!(out.status.code(), Some(2));
        assert!(out.stdout.is_empty(), "nothing is a clean report");
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn hosts_recorded_apart_are_one_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = json!({"driver": "570.86.15", "devices": [h100(0, &[])]});
    let files: Vec<String> = ["a", "b"]
        .iter()
        .map(|n| folder.path().join(format!("{n}.json.zst")).display().to_string())
        .collect();
    for (name, file) in ["host-a", "host-b"].iter().zip(&files) {
        let out = run(
            &scenario,
            &["collect", "--local", "--no-scrape", "--cluster-name", name, "-o", file],
        );
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let out = run(
        &scenario,
        &[
            "scan",
            "--snapshot",
            &files[0],
            "--snapshot",
            &files[1],
            "--format",
            "json",
        ],
    );
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&report["totals"]["gpus"], &report["totals"]["nodes"]),
        (&json!(2.0), &json!(2))
    );
}

#[test]
fn a_dry_run_reads_nothing() {
    let out = Command::new(env!("CARGO_BIN_EXE_gpuwaste"))
        .args(["scan", "--local", "--dry-run"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "it needs no driver");
    assert!(String::from_utf8_lossy(&out.stdout).contains("libnvidia-ml.so.1"));
}
