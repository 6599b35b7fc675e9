//! One source against another: what is free, idle or broken by one of them alone.

use super::tests::{ago, node, now, report, scrape, server, snapshot};
use crate::report::document::Report;
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{ContainerRole, Pod};
use crate::snapshot::gpu::{GpuReading, GpuScrape, PodName};
use crate::snapshot::server::{EngineSettings, Setting, UnreadSetting};
use crate::units::{Bytes, Ratio, Watts};

const DAY: i64 = 24 * 3600;

/// A device of node `n` as its exporter shows it; `holder`: the pod that it names.
fn shown(index: u32, holder: Option<&str>, util: f64, watts: f64, gib: u64) -> GpuScrape {
    GpuScrape {
        node: "n".into(),
        uuid: Some(format!("GPU-{index}")),
        index: Some(index),
        model: Some("NVIDIA H100 80GB HBM3".into()),
        maps_pods: true,
        holders: holder
            .map(|name| PodName {
                namespace: "ml".into(),
                name: name.into(),
                container: None,
            })
            .into_iter()
            .collect(),
        readings: vec![GpuReading {
            at: now(),
            gpu_util: Some(Ratio(util)),
            gr_engine: Some(Ratio(util)),
            sm_active: None,
            tensor: Some(Ratio(util * 0.6)),
            dram: Some(Ratio(util * 0.5)),
            power: Some(Watts(watts)),
            memory_used: Some(Bytes(gib << 30)),
            memory_total: None,
            energy_joules: None,
        }],
        ..GpuScrape::default()
    }
}

fn fleet(pods: Vec<Pod>, gpus: Vec<GpuScrape>) -> Snapshot {
    let mut snap = snapshot(vec![node("n", 30 * DAY, true)], pods, Vec::new());
    snap.clusters[0].gpus = gpus;
    snap
}

fn part<'r>(report: &'r Report, part: &str) -> Vec<&'r crate::report::document::ReportFinding> {
    let found = report.findings.iter();
    found.filter(|f| f.part.as_deref() == Some(part)).collect()
}

#[test]
fn a_node_at_work_that_no_pod_holds_is_unmanaged_and_never_free() {
    let all = |util: f64, watts: f64| (0..8).map(|i| shown(i, None, util, watts, 0)).collect::<Vec<_>>();
    let found = report(&fleet(Vec::new(), all(1.0, 650.0)));
    assert_eq!((found.totals.gpus_free, found.totals.gpus_unknown), (0.0, 8.0));
    assert_eq!(found.totals.waste_usd_per_hour.micros(), 0);
    let [unmanaged] = part(&found, "unmanaged")[..] else {
        panic!("{:?}", found.findings)
    };
    assert!(unmanaged.usd_per_hour.is_none() && unmanaged.title.starts_with("8 GPUs"));
    assert!(!unmanaged.fix.summary.contains("cale the pool down"));
    // One of eight: the others are as free as they were.
    let mut one = all(0.0, 70.0);
    one[3] = shown(3, None, 1.0, 650.0, 60);
    let found = report(&fleet(Vec::new(), one));
    assert_eq!((found.totals.gpus_free, found.totals.gpus_unknown), (7.0, 1.0));
    // At rest, all agree.
    let found = report(&fleet(Vec::new(), all(0.0, 70.0)));
    assert_eq!(found.totals.gpus_free, 8.0);
    assert!(part(&found, "unmanaged").is_empty());
}

#[test]
fn more_devices_at_work_than_pods_hold_are_not_free_either() {
    // The exporter tells no holders: two pods' worth of GPUs are held, three devices work.
    let devices = |working: u32| {
        (0..8)
            .map(|i| {
                let busy = i < working;
                let row = shown(
                    i,
                    None,
                    if busy { 1.0 } else { 0.0 },
                    if busy { 600.0 } else { 70.0 },
                    0,
                );
                GpuScrape {
                    maps_pods: false,
                    uuid: None,
                    ..row
                }
            })
            .collect::<Vec<_>>()
    };
    let free = |working| {
        report(&fleet(vec![server("s-0", "n", 2, 9 * DAY)], devices(working)))
            .totals
            .gpus_free
    };
    assert_eq!(free(2), 6.0);
    assert_eq!(free(3), 5.0);
    assert_eq!(free(8), 0.0);
}

#[test]
fn memory_that_nobody_holds_is_no_free_gpu() {
    let gpus = (0..8)
        .map(|i| shown(i, None, 0.0, 70.0, if i < 2 { 40 } else { 0 }))
        .collect();
    let found = report(&fleet(Vec::new(), gpus));
    // One look: it may be a program that waits.
    assert_eq!((found.totals.gpus_free, found.totals.gpus_unknown), (6.0, 2.0));
    assert!(part(&found, "unhealthy").is_empty());
}

#[test]
fn figures_that_no_card_reaches_are_no_witness() {
    let gpus = (0..8).map(|i| shown(i, None, 0.0, 675_928.0, 0)).collect();
    let found = report(&fleet(Vec::new(), gpus));
    assert_eq!(found.totals.gpus_free, 8.0);
    assert!(
        found.gaps.iter().any(|g| g.what.starts_with("power of GPU-0")),
        "{:?}",
        found.gaps
    );
}

/// A server of eight data-parallel ranks of which `read` told their counters, all at zero.
fn ranks(read: u32, unread: bool) -> Snapshot {
    let mut pod = server("s-0", "n", 8, 9 * DAY);
    pod.containers[0].server = Some(Box::new(EngineSettings {
        data_parallel: (!unread).then_some(8),
        unread: unread
            .then(|| UnreadSetting {
                setting: Setting::DataParallel,
                place: "key DP of ConfigMap ml/args".into(),
            })
            .into_iter()
            .collect(),
        ..*pod.containers[0].server.clone().unwrap()
    }));
    let mut engine = scrape(&pod, 9 * DAY, super::tests::reading(0.0));
    engine.identity.engines = Some(read);
    let mut snap = fleet(vec![pod], Vec::new());
    snap.clusters[0].engines = vec![engine];
    snap
}

#[test]
fn a_server_is_idle_only_where_all_its_ranks_were_read() {
    assert_eq!(report(&ranks(8, false)).totals.gpus_idle, 8.0);
    for part in [ranks(1, false), ranks(7, false), ranks(1, true)] {
        let found = report(&part);
        assert_eq!((found.totals.gpus_idle, found.totals.gpus_unknown), (0.0, 8.0));
    }
    // The devices of the ranks that were not read speak for them.
    let mut busy = ranks(1, false);
    busy.clusters[0].gpus = (0..8).map(|i| shown(i, Some("s-0"), 1.0, 600.0, 60)).collect();
    assert_eq!(report(&busy).totals.gpus_working, 8.0);
}

#[test]
fn devices_that_are_not_handed_out_stay_with_the_pod_that_has_them() {
    let mut lost = node("n", 30 * DAY, true);
    lost.capacity.devices.insert("nvidia.com/gpu".into(), 0);
    lost.allocatable.devices.insert("nvidia.com/gpu".into(), 0);
    let mut pod = server("s-0", "n", 2, 9 * DAY);
    pod.containers[0].server = None;
    let found = report(&snapshot(vec![lost], vec![pod], Vec::new()));
    let t = &found.totals;
    assert_eq!((t.gpus, t.gpus_allocated, t.gpus_unhealthy), (8.0, 2.0, 6.0));
    let [finding] = part(&found, "unhealthy")[..] else {
        panic!("{:?}", found.findings)
    };
    assert!(finding.fix.summary.contains("ml/s-0"), "{}", finding.fix.summary);
    assert!(finding.title.contains("not handed out"), "{}", finding.title);
    assert!(!found.gaps.iter().any(|g| g.reason.contains("more than the node has")));
}

#[test]
fn a_mig_layout_that_suits_no_strategy_is_no_broken_card() {
    let mut invalid = node("n", 30 * DAY, true);
    invalid.capacity.devices.clear();
    invalid.allocatable.devices.clear();
    let product = "NVIDIA-H100-80GB-HBM3-MIG-INVALID";
    invalid.labels.insert("nvidia.com/gpu.product".into(), product.into());
    let found = report(&snapshot(vec![invalid.clone()], Vec::new(), Vec::new()));
    let [finding] = part(&found, "unhealthy")[..] else {
        panic!("{:?}", found.findings)
    };
    assert!(finding.fix.summary.contains("MIG") && !finding.fix.summary.contains("eplace"));
    invalid
        .labels
        .insert("nvidia.com/gpu.product".into(), "NVIDIA-H100-80GB-HBM3".into());
    invalid
        .labels
        .insert("nvidia.com/mig.config.state".into(), "pending".into());
    let changing = report(&snapshot(vec![invalid], Vec::new(), Vec::new()));
    assert_eq!(changing.totals.gpus_unknown, 8.0, "it is being cut right now");
}

#[test]
fn a_cordoned_node_that_works_and_is_empty_can_go_today() {
    let mut cordoned = node("n", 30 * DAY, true);
    cordoned.unschedulable = true;
    cordoned.taints.push(crate::snapshot::cluster::Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        since: ago(3 * DAY),
        ..Default::default()
    });
    let found = report(&snapshot(vec![cordoned], Vec::new(), Vec::new()));
    let [finding] = part(&found, "unhealthy")[..] else {
        panic!("{:?}", found.findings)
    };
    assert!(finding.fix.summary.contains("uncordon") && !finding.fix.summary.contains("epair"));
    assert_eq!(found.totals.waste_now_usd_per_hour, found.totals.waste_usd_per_hour);
}

#[test]
fn a_scheduler_s_reservation_is_nobody_s_idle_pod() {
    let mut pod = server("gpu-reservation-x", "n", 1, 9 * DAY);
    pod.namespace = "kai-resource-reservation".into();
    pod.containers[0].server = None;
    pod.containers[0].role = Some(ContainerRole::Training);
    let found = report(&fleet(vec![pod], Vec::new()));
    assert_eq!(found.totals.gpus_allocated, 1.0);
    assert!(part(&found, "idle").is_empty());
}
