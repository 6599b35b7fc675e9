//! Checks on history: each fires on one side of its threshold and is silent on the other, and holes in the history
//! never make anything surer.

use super::tests::{Case, DAY, HOUR, ago, fired, node, now, report, server, snapshot};
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::ContainerRole;
use crate::snapshot::gpu::PodName;
use crate::snapshot::history::{
    Figure, GpuHistory, HeldGpus, History, LoadHistory, NodeHistory, UsageWindow, WorkDone,
};
use jiff::SignedDuration;

const WEEK: i64 = 7 * DAY;
const BINS: f64 = 2016.0;

#[allow(clippy::unnecessary_wraps, reason = "every figure of a history is optional")]
fn figure(value: f64) -> Option<Figure> {
    Some(Figure {
        mean: Some(value),
        p50: Some(value),
        p95: Some(value),
        p99: Some(value),
        max: Some(value),
        bins: Some(BINS),
    })
}

/// A server on a full node, seen for the whole window.
fn seen(change: impl Fn(&mut History)) -> Snapshot {
    let mut snap = snapshot(
        vec![node("n", 30 * DAY, true)],
        vec![server("s-0", "n", 8, 30 * DAY)],
        vec![],
    );
    let load = |name: &str| LoadHistory {
        namespace: "ml".into(),
        name: name.into(),
        first: ago(WEEK),
        running: figure(2.0),
        waiting: figure(1.0),
        kv_usage: figure(0.5),
        requests: figure(1.0),
        output_tokens: figure(50.0),
        prompt_tokens: figure(100.0),
        preemptions: figure(0.0),
        requests_total: Some(600_000.0),
        output_tokens_total: Some(3e7),
        prompt_tokens_total: Some(6e7),
        preemptions_total: Some(0.0),
        traffic_bins: Some(BINS),
        replicas: figure(1.0),
        replicas_low: Some(1.0),
        ..LoadHistory::default()
    };
    let mut history = History {
        store: "test".into(),
        end: now(),
        window_seconds: WEEK as u64,
        bin_seconds: 300,
        pods: vec![load("s-0")],
        workloads: vec![load("s")],
        ..History::default()
    };
    change(&mut history);
    snap.clusters[0].history = Some(Box::new(history));
    snap
}

fn quiet_hours(hours: usize) -> Snapshot {
    seen(|h| h.workloads[0].hourly = (0..168).map(|i| Some(f64::from(u8::from(i >= hours)))).collect())
}

fn bad_bins(bad: f64) -> Snapshot {
    seen(|h| (h.workloads[0].traffic_bins, h.workloads[0].kv_bad_bins) = (Some(60.0), Some(bad)))
}

fn starved_bins(bad: f64) -> Snapshot {
    seen(|h| {
        let load = &mut h.workloads[0];
        load.traffic_bins = Some(120.0);
        (load.starved_bins, load.starved_busy) = (Some(bad), Some(0.1));
        (load.fed_bins, load.fed_busy) = (Some(100.0), Some(0.6));
        (load.cpu_throttled, load.gpu_busy) = (figure(0.5), figure(0.3));
    })
}

fn requests(count: f64) -> Snapshot {
    seen(|h| {
        for load in h.pods.iter_mut().chain(&mut h.workloads) {
            (load.running, load.requests) = (figure(0.0), figure(0.0));
            load.requests_total = Some(count);
            (load.output_tokens_total, load.prompt_tokens_total) = (Some(0.0), Some(0.0));
            load.traffic_bins = Some(0.0);
        }
    })
}

fn work(share: f64) -> Snapshot {
    seen(|h| {
        let window = |share: f64, end: jiff::Timestamp| UsageWindow {
            start: end - SignedDuration::from_secs(WEEK),
            end,
            bins: BINS,
            held: vec![HeldGpus {
                namespace: "ml".into(),
                name: "s".into(),
                model: "NVIDIA H100 80GB HBM3".into(),
                gpu_bins: 8.0 * BINS,
                ..HeldGpus::default()
            }],
            work: vec![WorkDone {
                namespace: "ml".into(),
                name: "s".into(),
                requests: Some(1e6 * share),
                prompt_tokens: Some(4e8 * share),
                output_tokens: Some(1e8 * share),
            }],
        };
        h.usage = vec![
            window(share, now()),
            window(1.0, now() - SignedDuration::from_secs(WEEK)),
        ];
    })
}

fn notebook(active: f64) -> Snapshot {
    let mut snap = seen(|h| {
        (h.pods, h.workloads) = (Vec::new(), Vec::new());
        h.gpus = (0..8)
            .map(|i| GpuHistory {
                uuid: format!("GPU-{i}"),
                holder: Some(PodName {
                    namespace: "ml".into(),
                    name: "s-0".into(),
                    container: None,
                }),
                first: ago(WEEK),
                last: ago(60),
                gr_engine: figure(active),
                power_watts: figure(80.0),
                ..GpuHistory::default()
            })
            .collect();
    });
    let container = &mut snap.clusters[0].pods[0].containers[0];
    (container.server, container.role) = (None, Some(ContainerRole::Notebook));
    snap
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        (("idle-schedule", None), quiet_hours(21), quiet_hours(20)),
        (("kv-pressure", None), bad_bins(3.0), bad_bins(2.0)),
        (("cpu-gpu-imbalance", None), starved_bins(12.0), starved_bins(11.0)),
        (("dark-capacity", Some("idle")), requests(0.0), requests(1.0)),
        (("dark-capacity", Some("idle")), notebook(0.01), notebook(0.011)),
        (("cost-growth", Some("workload")), work(0.89), work(0.91)),
        (("cost-growth", Some("fleet")), work(0.89), work(0.91)),
    ]
}

#[test]
fn history_makes_findings_measured_and_holes_take_that_back() {
    let of = |snap: &Snapshot, part: &str| {
        let found = report(snap);
        let finding = found.findings.iter().find(|f| f.part.as_deref() == Some(part));
        finding.map(|f| f.confidence.name())
    };
    assert_eq!(of(&requests(0.0), "idle"), Some("measured"));
    // 79 % of the bins: what it did in the rest is not known.
    let holes = |share: f64| {
        let mut snap = requests(0.0);
        let history = snap.clusters[0].history.as_mut().unwrap();
        for load in history.pods.iter_mut().chain(&mut history.workloads) {
            if let Some(f) = load.requests.as_mut() {
                f.bins = Some(BINS * share);
            }
        }
        snap
    };
    assert_eq!(of(&holes(0.81), "idle"), Some("measured"));
    assert_eq!(of(&holes(0.79), "idle"), None);
    assert_eq!(report(&holes(0.79)).totals.gpus_unknown, 8.0);
    // Free for a day is a measurement; free now is one look.
    let free = |allocated: f64| {
        let mut snap = seen(|h| {
            h.nodes = vec![NodeHistory {
                node: "n".into(),
                allocated_p80: allocated,
                bins: 288.0,
            }];
        });
        snap.clusters[0].pods[0].containers[0]
            .requests
            .devices
            .insert("nvidia.com/gpu".into(), 6);
        snap
    };
    assert_eq!(of(&free(6.0), "unallocated"), Some("measured"));
    assert_eq!(of(&free(7.0), "unallocated"), Some("estimated"));
}

#[test]
fn a_young_series_is_judged_on_its_own_life() {
    let mut snap = requests(0.0);
    let history = snap.clusters[0].history.as_mut().unwrap();
    for load in history.pods.iter_mut().chain(&mut history.workloads) {
        load.first = ago(3 * HOUR);
        if let Some(f) = load.requests.as_mut() {
            f.bins = Some(36.0);
        }
    }
    // The pod is 30 days old, its series three hours: a StatefulSet's name could be a predecessor's only if older.
    let found = report(&snap);
    let idle = found
        .findings
        .iter()
        .find(|f| f.part.as_deref() == Some("idle"))
        .unwrap();
    assert_eq!(idle.confidence.name(), "estimated");
    assert!(idle.title.contains("3 h"), "{}", idle.title);
}

#[test]
fn a_predecessors_time_is_not_the_pods() {
    // The device row began before this pod did: it is the time of the pod that had its name before.
    let mut snap = notebook(0.0);
    snap.clusters[0].pods[0].created_at = ago(2 * DAY);
    assert!(!fired(&snap).contains(&("dark-capacity", Some("idle"))));
    let mut snap = notebook(0.0);
    for gpu in &mut snap.clusters[0].history.as_mut().unwrap().gpus {
        gpu.gr_engine = figure(0.0);
        (gpu.gpu_util, gpu.power_watts) = (figure(0.9), figure(600.0));
    }
    // Profiling counters stuck at 0 on a busy device.
    assert!(!fired(&snap).contains(&("dark-capacity", Some("idle"))));
}

#[test]
fn a_shared_devices_value_is_nobodys_own() {
    // Virtual GPUs repeat the device's value for each sharer; the fleet may have put the sharers on slots of their own.
    let mut snap = notebook(0.0);
    let history = snap.clusters[0].history.as_mut().unwrap();
    let other = GpuHistory {
        holder: Some(PodName {
            namespace: "ml".into(),
            name: "other-0".into(),
            container: None,
        }),
        ..history.gpus[0].clone()
    };
    history.gpus.push(other);
    assert!(!fired(&snap).contains(&("dark-capacity", Some("idle"))));
}

#[test]
fn names_that_differ_only_in_made_up_parts_are_not_told_apart() {
    let mut snap = requests(0.0);
    let mut other = server("s-bcdfg", "n", 0, 30 * DAY);
    other.containers[0].requests.devices = [("nvidia.com/gpu".to_string(), 1)].into();
    snap.clusters[0].pods[0].containers[0]
        .requests
        .devices
        .insert("nvidia.com/gpu".into(), 7);
    snap.clusters[0].pods.push(other);
    let found = report(&snap);
    assert!(found.findings.iter().all(|f| f.part.as_deref() != Some("idle")));
    assert!(
        found.gaps.iter().any(|g| g.reason.contains("made up")),
        "{:?}",
        found.gaps
    );
}
