//! No documented key of the policy file is dead: for each there is a value that changes what is judged of some fleet.

use super::history_tests::{figure, requests};
use super::sizing_tests::{served, with_history};
use super::slurm_past_tests;
use super::tests::{ago, planned, report_by};
use crate::settings::{KEYS, Settings, parse};
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::ContainerRole;
use crate::snapshot::gpu::PodName;
use crate::snapshot::history::GpuHistory;
use serde_json::{Value, json};

const DAY: i64 = 24 * 3600;
const SMALL: &str = "Qwen/Qwen2.5-7B-Instruct";

/// A key of `[thresholds]`, and a value that somebody might write.
const CASES: &[(&str, &str, &str)] = &[
    ("shared", "node_grace_seconds", "864000"),
    ("shared", "pod_grace_seconds", "8640000"),
    ("shared", "minimum_window_seconds", "8640000"),
    ("shared", "short_window_seconds", "8640000"),
    ("shared", "measured_sizing_seconds", "2592000"),
    ("shared", "stale_price_days", "1"),
    ("shared", "load_bytes_per_second", "1e6"),
    ("dark-capacity", "free_gpu_allowance", "1"),
    ("dark-capacity", "pending_wait_seconds", "864000"),
    ("dark-capacity", "unhealthy_seconds", "8640000"),
    ("dark-capacity", "cordon_seconds", "8640000"),
    ("dark-capacity", "stuck_seconds", "360000"),
    ("dark-capacity", "stuck_restarts", "6"),
    ("dark-capacity", "idle_max_requests_per_hour", "1"),
    ("dark-capacity", "idle_power_share", "0.05"),
    ("dark-capacity", "idle_power_share_small", "0.5"),
    ("dark-capacity", "idle_activity", "0.005"),
    ("dark-capacity", "idle_gpu_activity", "0.001"),
    ("dark-capacity", "idle_from_start_seconds", "72000"),
    ("dark-capacity", "idle_sliding_seconds", "72000"),
    ("dark-capacity", "idle_interactive_seconds", "18000"),
    ("dark-capacity", "idle_stretch_seconds", "600000"),
    ("dark-capacity", "idle_stretch_of_people_seconds", "600000"),
    ("dark-capacity", "memory_held_seconds", "700000"),
    ("stranded-gpu", "stranded_vcpu_per_gpu", "600"),
    ("stranded-gpu", "stranded_min_pods", "10"),
    ("stranded-gpu", "past_asked_gpu_hours", "1000"),
    ("oversized-tier", "min_saving_share", "0.99"),
    ("oversized-tier", "min_saving_usd", "25"),
    ("oversized-tier", "kv_headroom", "1"),
    ("oversized-tier", "throughput_headroom", "150"),
    ("oversized-tier", "latency_growth", "120"),
    ("oversized-tier", "slo_itl_seconds", "5"),
    ("oversized-tier", "slo_ttft_seconds", "0.02"),
    ("oversized-tier", "peak_factor", "300"),
    ("oversized-tier", "peak_extra", "10000"),
    ("oversized-tier", "prefix_hit_rate", "0.9"),
    ("oversized-tier", "host_memory_gib", "100"),
    ("over-replicated", "replica_headroom", "130"),
    ("over-replicated", "min_replicas", "4"),
    ("over-replicated", "failover_replicas", "0"),
    ("over-replicated", "capacity_kv_usage", "0.5"),
    ("kv-pressure", "kv_pressure_usage", "0.5"),
    ("kv-pressure", "kv_pressure_bins", "6"),
    ("kv-pressure", "kv_pressure_share", "1"),
    ("kv-pressure", "preemption_share", "1"),
    ("kv-pressure", "gpu_oom_seconds", "60"),
    ("kv-pressure", "gpu_oom_restarts", "2"),
    ("cpu-gpu-imbalance", "cpu_throttled_share", "0.5"),
    ("cpu-gpu-imbalance", "cpu_saturated_share", "0.5"),
    ("cpu-gpu-imbalance", "gpu_starved", "0.1"),
    ("cpu-gpu-imbalance", "starved_running_share", "0.1"),
    ("cpu-gpu-imbalance", "starved_bins", "13"),
    ("cpu-gpu-imbalance", "starved_share", "1"),
    ("idle-schedule", "idle_run_hours", "100"),
    ("idle-schedule", "idle_hours_per_week", "22"),
    ("idle-schedule", "cold_start_seconds", "0"),
    ("cost-growth", "growth_share", "1"),
    ("cost-growth", "growth_usd", "50"),
    ("cost-growth", "prompt_token_weight", "0"),
    ("sharing-mismatch", "shared_card_busy", "1"),
    ("sharing-mismatch", "shared_card_room", "0"),
    ("cpu-pods-on-gpu-node", "cpu_pods_share", "1"),
    ("low-utilization", "low_utilization_mean", "0.05"),
    ("low-utilization", "low_utilization_gpu_hours", "100000"),
    ("low-utilization", "low_utilization_memory", "0.1"),
    ("low-utilization", "past_idle_gpu_hours", "1000"),
    ("low-utilization", "past_share", "0.5"),
    ("low-utilization", "past_smaller_gpu_hours", "1000"),
    ("low-utilization", "past_limit_gpu_hours", "10000"),
    ("low-utilization", "past_limit_used", "0.05"),
];

/// What is judged: which findings, of what, at what cost and how surely; what was not; what state GPUs are in. Titles and
/// evidence are left out, and figures of reasons: a key that is only quoted there is dead.
fn judged(fleet: &Snapshot, settings: &Settings) -> Value {
    let mut all = serde_json::to_value(report_by(fleet, settings)).unwrap();
    for finding in all["findings"].as_array_mut().unwrap() {
        let finding = finding.as_object_mut().unwrap();
        for words in ["title", "evidence", "status_reason"] {
            finding.remove(words);
        }
        let reasons = finding["confidence_reasons"].to_string();
        finding.insert(
            "confidence_reasons".into(),
            reasons.replace(|c: char| c.is_ascii_digit() || c == '.', "").into(),
        );
        let placement = finding["fix"]["placement"].take();
        finding.insert("fix".into(), placement);
    }
    for check in all["checks"].as_array_mut().unwrap() {
        for missed in check["not_assessed"].as_array_mut().unwrap() {
            missed
                .as_object_mut()
                .unwrap()
                .retain(|k, _| k != "reason" && k != "remedy");
        }
    }
    json!([
        all["findings"],
        all["checks"],
        all["totals"],
        all["workloads"],
        all["nodes"]
    ])
}

/// Servers without a request whose cards draw this much power and are this active; on H100s, or on the small cards.
fn powered(watts: f64, activity: f64, small: bool) -> Snapshot {
    let mut fleet = requests(0.0);
    let cluster = &mut fleet.clusters[0];
    if small {
        let labels = &mut cluster.nodes.as_mut().unwrap()[0].labels;
        labels.insert("node.kubernetes.io/instance-type".into(), "g6.48xlarge".into());
    }
    cluster.history.as_mut().unwrap().gpus = (0..8)
        .map(|i| GpuHistory {
            uuid: format!("GPU-{i}"),
            holder: Some(PodName {
                namespace: "ml".into(),
                name: "s-0".into(),
                container: None,
            }),
            first: ago(7 * DAY),
            last: ago(60),
            power_watts: figure(watts),
            tensor: figure(activity).filter(|_| !small),
            dram: figure(activity).filter(|_| !small),
            ..GpuHistory::default()
        })
        .collect();
    fleet
}

/// A job, or a notebook, that worked once, five days ago.
fn burst(role: ContainerRole) -> Snapshot {
    let mut fleet = super::history_tests::notebook(0.5);
    let cluster = &mut fleet.clusters[0];
    cluster.pods[0].containers[0].role = Some(role);
    for gpu in &mut cluster.history.as_mut().unwrap().gpus {
        gpu.last_active = ago(5 * DAY);
        gpu.day_bins = Some(288.0);
    }
    fleet
}

/// Two GPUs that nobody holds, at rest, with their memory taken.
fn memory_taken() -> Snapshot {
    let mut fleet = requests(0.0);
    let cluster = &mut fleet.clusters[0];
    let devices = &mut cluster.pods[0].containers[0].requests.devices;
    devices.insert("nvidia.com/gpu".into(), 6);
    cluster.history.as_mut().unwrap().gpus = (6..8)
        .map(|i| GpuHistory {
            memory_used_bytes: figure(4e10),
            ..super::history_tests::at_rest(i, None)
        })
        .collect();
    fleet
}

fn week_of_replicas() -> Snapshot {
    with_history(served(6, SMALL, 6e5), |h| {
        h.replicas = h.requests;
        h.replicas_low = Some(6.0);
        h.replica_capacity = Some(400.0);
    })
}

fn prefix_cached() -> Snapshot {
    let mut fleet = served(1, SMALL, 1e5);
    for reading in fleet.clusters[0].engines.iter_mut().flat_map(|e| &mut e.readings) {
        (reading.prefix_queries, reading.prefix_hits) = (Some(1e7), Some(5e6));
    }
    fleet
}

fn of_a_manifest() -> Snapshot {
    planned(|_| {})
}

/// The fleets of the checks' own tests, those of the check first, and the demo.
fn fleets() -> Vec<(&'static str, Snapshot)> {
    let own = [
        ("shared", week_of_replicas()),
        ("dark-capacity", powered(40.0, 0.0, true)),
        ("dark-capacity", powered(400.0, 0.01, false)),
        ("dark-capacity", powered(95.0, 0.01, false)),
        ("dark-capacity", burst(ContainerRole::Training)),
        ("dark-capacity", burst(ContainerRole::Notebook)),
        ("dark-capacity", memory_taken()),
        ("dark-capacity", slurm_past_tests::young(3 * 3600, None, None)),
        (
            "dark-capacity",
            slurm_past_tests::young(20 * 3600, Some(6 * 3600), None),
        ),
        ("dark-capacity", slurm_past_tests::alone(6 * 3600)),
        ("stranded-gpu", slurm_past_tests::everything()),
        ("low-utilization", slurm_past_tests::everything()),
        ("low-utilization", super::history_tests::little_used(0.2)),
        ("oversized-tier", prefix_cached()),
        ("oversized-tier", of_a_manifest()),
    ];
    let cases = super::tests::cases().into_iter().chain(super::history_tests::cases());
    let of_checks = cases.flat_map(|((check, _), fires, silent)| [(check, fires), (check, silent)]);
    let demo = ("shared", crate::guards::recorded_demo());
    own.into_iter().chain(of_checks).chain([demo]).collect()
}

#[test]
fn no_key_of_the_policy_is_dead() {
    let named: Vec<(&str, &str)> = CASES.iter().map(|(section, key, _)| (*section, *key)).collect();
    let known: Vec<(&str, &str)> = KEYS.iter().map(|k| (k.section, k.name)).collect();
    assert_eq!(named, known, "each key has its case here, in the policy file's order");
    let fleets = fleets();
    let plain: Vec<Value> = fleets.iter().map(|(_, f)| judged(f, &Settings::default())).collect();
    let mut dead = Vec::new();
    for (section, key, value) in CASES {
        let text = format!("[thresholds.{section}]\n{key} = {value}\n");
        let policy = parse(&text, "gpuwaste.toml", &[]).unwrap_or_else(|why| panic!("{key} = {value}: {why}"));
        let mut order: Vec<usize> = (0..fleets.len()).collect();
        order.sort_by_key(|i| fleets[*i].0 != *section);
        if !order.iter().any(|i| judged(&fleets[*i].1, &policy) != plain[*i]) {
            dead.push(format!("{section}.{key}"));
        }
    }
    assert!(dead.is_empty(), "nothing reads {dead:?}, or no fleet here shows it");
}
