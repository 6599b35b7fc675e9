//! Checks on history: each fires on one side of its threshold and is silent on the other, and holes in the history
//! never make anything surer.

use super::tests::{Case, DAY, HOUR, ago, fired, node, now, report, server, snapshot};
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::ContainerRole;
use crate::snapshot::gpu::PodName;
use crate::snapshot::history::{
    BinLimits, Figure, GpuHistory, HeldGpus, History, LoadHistory, NodeHistory, UsageWindow, WorkDone,
};
use jiff::SignedDuration;

const WEEK: i64 = 7 * DAY;
const BINS: f64 = 2016.0;

#[allow(clippy::unnecessary_wraps, reason = "every figure of a history is optional")]
pub(super) fn figure(value: f64) -> Option<Figure> {
    Some(Figure {
        mean: Some(value),
        p50: Some(value),
        p95: Some(value),
        p99: Some(value),
        max: Some(value),
        bins: Some(BINS),
        coverage: None,
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

fn crashes(count: f64) -> Snapshot {
    seen(|h| h.workloads[0].crashes_under_pressure = Some(count))
}

pub(super) fn requests(count: f64) -> Snapshot {
    seen(|h| {
        for load in h.pods.iter_mut().chain(&mut h.workloads) {
            (load.running, load.requests) = (figure(0.0), figure(0.0));
            load.requests_total = Some(count);
            (load.output_tokens_total, load.prompt_tokens_total) = (Some(0.0), Some(0.0));
            load.traffic_bins = Some(0.0);
        }
    })
}

pub(super) fn work(share: f64) -> Snapshot {
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

pub(super) fn notebook(active: f64) -> Snapshot {
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

/// A job whose GPUs were busy for this share of the week.
pub(super) fn little_used(share: f64) -> Snapshot {
    let mut snap = notebook(share);
    snap.clusters[0].pods[0].containers[0].role = Some(ContainerRole::Training);
    for gpu in &mut snap.clusters[0].history.as_mut().unwrap().gpus {
        gpu.memory_used_bytes = figure(2e10);
    }
    snap
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        (("idle-schedule", None), quiet_hours(21), quiet_hours(20)),
        (("kv-pressure", None), bad_bins(3.0), bad_bins(2.0)),
        (("cpu-gpu-imbalance", None), starved_bins(12.0), starved_bins(11.0)),
        (("kv-pressure", Some("gpu-oom")), crashes(1.0), crashes(0.0)),
        (("dark-capacity", Some("idle")), requests(0.0), requests(1.0)),
        (("dark-capacity", Some("idle")), notebook(0.01), notebook(0.011)),
        (("low-utilization", None), little_used(0.25), little_used(0.26)),
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
    // Free for a day is a measurement, where devices are seen at rest; free now is one look, and so is the scheduler's word.
    let free = |allocated: f64, shown: bool| {
        let mut snap = seen(|h| {
            h.gpus = (6..8).filter(|_| shown).map(|i| at_rest(i, None)).collect();
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
    assert_eq!(of(&free(6.0, true), "unallocated"), Some("measured"));
    assert_eq!(of(&free(6.0, false), "unallocated"), Some("estimated"));
    assert_eq!(of(&free(7.0, true), "unallocated"), Some("estimated"));
}

/// Rest since the last use is believed only where the last day was seen, and how much of it was seen is known.
#[test]
fn rest_needs_a_day_that_was_seen() {
    let rests = |seen: Option<f64>| {
        let mut snap = notebook(0.5);
        snap.clusters[0].pods[0].containers[0].role = Some(ContainerRole::Training);
        for gpu in &mut snap.clusters[0].history.as_mut().unwrap().gpus {
            (gpu.last_active, gpu.day_bins) = (ago(5 * 24 * 3600), seen);
        }
        report(&snap)
            .findings
            .iter()
            .any(|f| f.check == "dark-capacity" && f.part.as_deref() == Some("idle"))
    };
    assert!(rests(Some(288.0)));
    assert!(!rests(Some(100.0)), "hours that nobody saw");
    assert!(!rests(None), "a lost answer");
}

/// A device of node `n` that computed nothing all week.
pub(super) fn at_rest(index: usize, holder: Option<&str>) -> GpuHistory {
    GpuHistory {
        uuid: format!("GPU-{index}"),
        node: Some("n".into()),
        holder: holder.map(|name| PodName {
            namespace: "ml".into(),
            name: name.into(),
            container: None,
        }),
        first: ago(WEEK),
        last: ago(60),
        day_bins: Some(288.0),
        gr_engine: figure(0.0),
        power_watts: figure(80.0),
        ..GpuHistory::default()
    }
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
fn gpu_util_of_an_instance_is_no_idleness() {
    use crate::snapshot::gpu::MigInstance;
    let of = |gr: Option<Figure>, util: Option<Figure>, mig: bool| {
        let mut snap = notebook(0.0);
        for (i, gpu) in snap.clusters[0].history.as_mut().unwrap().gpus.iter_mut().enumerate() {
            (gpu.gr_engine, gpu.gpu_util) = (gr, util);
            gpu.mig = mig.then(|| MigInstance {
                profile: "7g.80gb".into(),
                id: i.to_string(),
            });
        }
        if mig {
            let cluster = &mut snap.clusters[0];
            let node = &mut cluster.nodes.as_mut().unwrap()[0];
            let container = &mut cluster.pods[0].containers[0];
            for devices in [
                &mut node.capacity.devices,
                &mut node.allocatable.devices,
                &mut container.requests.devices,
                &mut container.limits.devices,
            ] {
                *devices = [("nvidia.com/mig-7g.80gb".to_string(), 8)].into();
            }
        }
        fired(&snap).contains(&("dark-capacity", Some("idle")))
    };
    assert!(of(None, figure(0.0), false), "a whole card's GPU_UTIL tells");
    assert!(of(figure(0.0), figure(0.0), true), "an instance's GR_ENGINE tells");
    assert!(!of(None, figure(0.0), true), "an instance's GPU_UTIL does not");
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

#[test]
fn bins_counted_by_other_thresholds_are_not_judged() {
    type Change = fn(&mut BinLimits);
    let checks: [(&str, Snapshot, Change); 4] = [
        ("kv-pressure", bad_bins(20.0), |l| l.kv_full = 0.9),
        ("kv-pressure", crashes(3.0), |l| l.crash_seconds = 60),
        ("cpu-gpu-imbalance", starved_bins(60.0), |l| l.throttled = 0.5),
        ("cpu-gpu-imbalance", starved_bins(60.0), |l| l.loaded = 0.1),
    ];
    for (check, mut snap, change) in checks {
        let has = |snap: &Snapshot| fired(snap).iter().any(|(c, _)| *c == check);
        assert!(has(&snap), "{check}");
        change(&mut snap.clusters[0].history.as_mut().unwrap().limits);
        assert!(!has(&snap), "{check}");
        let told = report(&snap);
        assert!(
            told.gaps.iter().any(|g| g.reason.contains("counted them when")),
            "{:?}",
            told.gaps
        );
    }
    // The rest of the history is judged as before.
    let mut snap = requests(0.0);
    snap.clusters[0].history.as_mut().unwrap().limits.kv_full = 0.9;
    assert!(fired(&snap).contains(&("dark-capacity", Some("idle"))));
}

fn free_finding(snap: &Snapshot, part: &str) -> Option<&'static str> {
    let found = report(snap);
    let finding = found.findings.iter().find(|f| f.part.as_deref() == Some(part));
    finding.map(|f| f.confidence.name())
}

#[test]
fn a_device_without_a_holder_is_free_only_where_exporters_name_holders() {
    let rows = |held: usize| {
        let mut snap = seen(|h| {
            h.gpus = (0..8).map(|i| at_rest(i, (i < held).then_some("s-0"))).collect();
        });
        let requests = &mut snap.clusters[0].pods[0].containers[0].requests;
        requests.devices.insert("nvidia.com/gpu".into(), 6);
        snap
    };
    assert_eq!(free_finding(&rows(6), "unallocated"), Some("measured"));
    assert_eq!(free_finding(&rows(7), "unallocated"), Some("estimated"));
    assert_eq!(free_finding(&rows(0), "unallocated"), Some("estimated"));
}

#[test]
fn stranding_is_measured_by_a_day_of_history_and_pods_as_old() {
    let stranded = |allocated: f64, youngest: i64| {
        let pods = ["a", "b", "c", "d", "e"].map(|name| {
            let age = if name == "e" { youngest } else { 9 * DAY };
            server(name, "n", 1, age)
        });
        let mut snap = snapshot(vec![node("n", 9 * DAY, true)], pods.to_vec(), vec![]);
        snap.clusters[0].history = Some(Box::new(History {
            end: now(),
            window_seconds: WEEK as u64,
            bin_seconds: 300,
            nodes: vec![NodeHistory {
                node: "n".into(),
                allocated_p80: allocated,
                bins: 288.0,
            }],
            gpus: (5..8).map(|i| at_rest(i, None)).collect(),
            ..History::default()
        }));
        snap
    };
    assert_eq!(free_finding(&stranded(5.0, 2 * DAY), "host"), Some("measured"));
    assert_eq!(free_finding(&stranded(6.0, 2 * DAY), "host"), Some("estimated"));
    assert_eq!(free_finding(&stranded(5.0, 3 * HOUR), "host"), Some("estimated"));
}

/// An idle server's devices, as the store saw them.
fn idle_with(change: impl Fn(&mut GpuHistory)) -> Snapshot {
    let mut snap = requests(0.0);
    let mut other = notebook(0.0);
    let rows = std::mem::take(&mut other.clusters[0].history.as_mut().unwrap().gpus);
    let history = snap.clusters[0].history.as_mut().unwrap();
    history.gpus = rows;
    history.gpus.iter_mut().for_each(change);
    snap
}

#[test]
fn power_and_real_work_break_ties_between_counters() {
    let idle = ("dark-capacity", Some("idle"));
    // Kernels that spin: 100 % by both counters, at idle power.
    let spinning = idle_with(|g| {
        (g.gpu_util, g.gr_engine) = (figure(1.0), figure(1.0));
        (g.tensor, g.dram) = (figure(0.0), figure(0.001));
        g.power_watts = figure(95.0);
    });
    assert!(
        !fired(&spinning).contains(&idle),
        "counters and the device contradict each other"
    );
    assert_eq!(report(&spinning).totals.gpus_unknown, 8.0);
    let calm = idle_with(|g| {
        (g.gpu_util, g.gr_engine) = (figure(0.0), figure(0.0));
        g.power_watts = figure(95.0);
    });
    assert!(fired(&calm).contains(&idle));
    // Power of real work with memory traffic, and no request counted: something else runs there.
    let works = idle_with(|g| {
        (g.gpu_util, g.gr_engine) = (figure(1.0), figure(1.0));
        (g.tensor, g.dram) = (figure(0.2), figure(0.4));
        g.power_watts = figure(600.0);
    });
    assert!(!fired(&works).contains(&idle));
    assert_eq!(report(&works).totals.gpus_unknown, 8.0);
    // A hot device whose profiling counters are stuck at 0 while GPU_UTIL is not: their zeros prove nothing.
    let stuck = idle_with(|g| {
        (g.gpu_util, g.gr_engine) = (figure(0.9), figure(0.0));
        (g.tensor, g.dram) = (figure(0.0), figure(0.0));
        g.power_watts = figure(600.0);
    });
    assert!(!fired(&stuck).contains(&idle));
    // The same of a job without GPU_UTIL: power alone speaks.
    let mut job = notebook(0.0);
    for gpu in &mut job.clusters[0].history.as_mut().unwrap().gpus {
        gpu.power_watts = figure(600.0);
    }
    assert!(!fired(&job).contains(&idle));
}

#[test]
fn a_gpu_that_was_never_busy_under_requests_starves_nobody() {
    let starved = ("cpu-gpu-imbalance", None);
    assert!(fired(&starved_bins(60.0)).contains(&starved));
    let mut snap = starved_bins(60.0);
    let load = &mut snap.clusters[0].history.as_mut().unwrap().workloads[0];
    (load.gpu_busy, load.starved_busy) = (figure(0.0), Some(0.0));
    assert!(!fired(&snap).contains(&starved));
}
