//! Fixtures of the checks on MIG layouts and shared cards.

use super::tests::{Case, DAY, ago, fired, node, now, report, server, snapshot};
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{Condition, Node, Pod, PodPhase};
use crate::snapshot::gpu::{GpuReading, GpuScrape, PodName};
use crate::units::Ratio;
use jiff::SignedDuration;

/// A p4de.24xlarge: 8 × A100 80 GB, $27.44705/h in us-east-1.
fn cut(devices: &[(&str, u64)]) -> Node {
    let mut node = node("n", 9 * DAY, true);
    node.labels
        .insert("node.kubernetes.io/instance-type".into(), "p4de.24xlarge".into());
    let devices: std::collections::BTreeMap<String, u64> = devices.iter().map(|(k, v)| ((*k).into(), *v)).collect();
    node.capacity.devices.clone_from(&devices);
    node.allocatable.devices = devices;
    node
}

fn waits_for(resource: &str, seconds: i64) -> Pod {
    let mut pod = server("w", "n", 0, DAY);
    pod.node = None;
    pod.phase = PodPhase::Pending;
    pod.ready = None;
    pod.containers[0].requests.devices = [(resource.to_string(), 1)].into();
    pod.waits_for_gpus = Some(true);
    pod.scheduled = Some(Condition {
        status: Some(false),
        since: ago(seconds),
        reason: Some("Unschedulable".into()),
    });
    pod
}

/// `pods` on cards that two, four, … pods may share; each card as busy as told.
fn shared(pods: usize, cards: u64, each: u64, busy: f64) -> Snapshot {
    let mut host = node("n", 9 * DAY, true);
    for (key, value) in [
        ("node.kubernetes.io/instance-type", "none.of-the-catalogue".to_string()),
        ("nvidia.com/gpu.product", "NVIDIA-L4-SHARED".into()),
        ("nvidia.com/gpu.replicas", each.to_string()),
        ("nvidia.com/gpu.sharing-strategy", "mps".into()),
        ("nvidia.com/gpu.count", cards.to_string()),
    ] {
        host.labels.insert(key.into(), value);
    }
    for amounts in [&mut host.capacity, &mut host.allocatable] {
        amounts.devices = [("nvidia.com/gpu".to_string(), cards * each)].into();
    }
    let names: Vec<String> = (0..pods).map(|i| format!("p{i}")).collect();
    let servers = names.iter().map(|name| server(name, "n", 1, 9 * DAY)).collect();
    let mut snap = snapshot(vec![host], servers, Vec::new());
    let reading = |seconds: i64| GpuReading {
        at: now() - SignedDuration::from_secs(seconds),
        gpu_util: None,
        gr_engine: Some(Ratio(busy)),
        sm_active: None,
        tensor: None,
        dram: None,
        power: None,
        memory_used: None,
        memory_total: None,
        energy_joules: None,
    };
    snap.clusters[0].gpus = (0..cards)
        .map(|index| GpuScrape {
            node: "n".into(),
            uuid: Some(format!("GPU-{index}")),
            index: Some(index as u32),
            // In turn, as the device plugin spreads them.
            holders: names
                .iter()
                .skip(index as usize)
                .step_by(cards as usize)
                .map(|name| PodName {
                    namespace: "ml".into(),
                    name: name.clone(),
                    container: None,
                })
                .collect(),
            maps_pods: true,
            readings: vec![reading(10), reading(0)],
            ..GpuScrape::default()
        })
        .collect();
    snap
}

pub(super) fn cases() -> Vec<Case> {
    let layout = |ones: u64| {
        snapshot(
            vec![cut(&[("nvidia.com/gpu", 7), ("nvidia.com/mig-1g.10gb", ones)])],
            Vec::new(),
            Vec::new(),
        )
    };
    let mismatch = |seconds: i64| {
        let pod = waits_for("nvidia.com/mig-3g.40gb", seconds);
        snapshot(
            vec![cut(&[("nvidia.com/gpu", 7), ("nvidia.com/mig-1g.10gb", 7)])],
            vec![pod],
            Vec::new(),
        )
    };
    vec![
        (("mig-layout", Some("unpartitioned")), layout(6), layout(7)),
        (("mig-layout", Some("mismatch")), mismatch(601), mismatch(599)),
        (
            ("sharing-mismatch", Some("crowded")),
            shared(2, 1, 4, 0.9),
            shared(2, 1, 4, 0.89),
        ),
        (
            ("sharing-mismatch", Some("spread")),
            shared(2, 2, 4, 0.35),
            shared(2, 2, 4, 0.36),
        ),
    ]
}

fn dollars(snap: &Snapshot, check: &str, part: &str) -> f64 {
    let found = report(snap);
    let finding = found
        .findings
        .iter()
        .find(|f| f.check == check && f.part.as_deref() == Some(part))
        .unwrap();
    finding.usd_per_hour.unwrap().usd()
}

const SLICE: f64 = 27.44705 / 8.0 / 7.0;

#[test]
fn slices_cost_their_share_of_the_card_and_once() {
    let two_left = snapshot(
        vec![cut(&[("nvidia.com/gpu", 7), ("nvidia.com/mig-1g.10gb", 5)])],
        Vec::new(),
        Vec::new(),
    );
    assert!((dollars(&two_left, "mig-layout", "unpartitioned") - 2.0 * SLICE).abs() < 1e-4);
    let found = report(&two_left);
    assert!(
        (found.totals.waste_usd_per_hour.unwrap_or_default().usd() - 27.44705).abs() < 1e-4,
        "all of it is free, and counted once"
    );
    let wants = snapshot(
        vec![cut(&[("nvidia.com/gpu", 7), ("nvidia.com/mig-1g.10gb", 7)])],
        vec![waits_for("nvidia.com/mig-3g.40gb", 3600)],
        Vec::new(),
    );
    assert!((dollars(&wants, "mig-layout", "mismatch") - 3.0 * SLICE).abs() < 1e-4);
}

#[test]
fn what_the_cards_memory_leaves_no_room_for_is_no_layout_waste() {
    // Two 3g.40gb take all eight memory units: the seventh slice can be in no instance.
    let halves = snapshot(
        vec![cut(&[("nvidia.com/gpu", 7), ("nvidia.com/mig-3g.40gb", 2)])],
        Vec::new(),
        Vec::new(),
    );
    assert!(!fired(&halves).iter().any(|(check, _)| *check == "mig-layout"));
    assert!((report(&halves).totals.gpus_free - 8.0).abs() < 1e-9);
    // Four 1g.20gb likewise, where slices alone would leave room for three more.
    let quarters = snapshot(
        vec![cut(&[("nvidia.com/gpu", 7), ("nvidia.com/mig-1g.20gb", 4)])],
        Vec::new(),
        Vec::new(),
    );
    assert!(!fired(&quarters).iter().any(|(check, _)| *check == "mig-layout"));
}

#[test]
fn cards_that_are_cut_in_part_are_not_lost() {
    // Eight cards with one 2g.20gb each: packed tight they would be three, and five "lost".
    let snap = snapshot(vec![cut(&[("nvidia.com/mig-2g.20gb", 8)])], Vec::new(), Vec::new());
    let totals = report(&snap).totals;
    assert!((totals.gpus_unhealthy, totals.gpus) == (0.0, 8.0), "{totals:?}");
    assert!((dollars(&snap, "mig-layout", "unpartitioned") - 8.0 * 5.0 * SLICE).abs() < 1e-3);
    // Seven cards cut in full, and nothing of the eighth: that one is missing.
    let seven = snapshot(vec![cut(&[("nvidia.com/mig-1g.10gb", 49)])], Vec::new(), Vec::new());
    assert!((report(&seven).totals.gpus_unhealthy - 1.0).abs() < 1e-9);
}

#[test]
fn sharers_pay_one_card_between_them() {
    let mut snap = shared(5, 2, 4, 0.2);
    snap.clusters[0].gpus.clear();
    let found = report(&snap);
    let spend = found.totals.spend_usd_per_hour.unwrap_or_default().usd();
    let paid: f64 = found
        .workloads
        .iter()
        .filter_map(|w| w.usd_per_hour)
        .map(crate::units::UsdPerHour::usd)
        .sum();
    assert!(spend > 0.0 && (paid - spend).abs() < 1e-5, "{paid} of {spend}");
    assert!(
        (found.totals.gpus_allocated - 2.0).abs() < 1e-9,
        "which card a pod shares is not told: none is called free"
    );
    assert!(
        !fired(&snap).contains(&("sharing-mismatch", Some("spread"))),
        "without activity nothing is judged"
    );
    // Both may sit on one of the two cards already.
    let mut untold = shared(2, 2, 4, 0.3);
    assert!(fired(&untold).contains(&("sharing-mismatch", Some("spread"))));
    for gpu in &mut untold.clusters[0].gpus {
        gpu.holders.clear();
    }
    assert!(!fired(&untold).contains(&("sharing-mismatch", Some("spread"))));
}
