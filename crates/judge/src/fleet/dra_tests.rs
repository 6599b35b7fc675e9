//! DRA: shapes that drivers publish, as slots, prices and states.

use super::{Fleet, SlotState, WHOLE_GPU, join, state::Reason};
use crate::catalog::prices::PriceBook;
use crate::settings::Settings;
use crate::snapshot::cluster::{Cluster, Condition, Container, Node, Pod, PodPhase, PodsRead, Resources, Taint};
use crate::snapshot::dra::{AllocatedDevice, Device, DevicePool, Dra, PodRef, ResourceClaim};
use crate::snapshot::{SCHEMA, Snapshot};
use crate::units::UsdPerHour;
use jiff::Timestamp;

fn at(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[allow(clippy::unnecessary_wraps, reason = "every condition in a snapshot is optional")]
fn ready() -> Option<Condition> {
    Some(Condition {
        status: Some(true),
        since: at("2026-11-01T00:00:00Z"),
        reason: None,
    })
}

/// A p5.48xlarge; `plugin` GPUs are advertised by the device plugin.
fn node(name: &str, plugin: u64, typed: bool) -> Node {
    let mut labels = vec![
        ("topology.kubernetes.io/region", "us-east-1"),
        ("karpenter.sh/capacity-type", "on-demand"),
    ];
    if typed {
        labels.push(("node.kubernetes.io/instance-type", "p5.48xlarge"));
    }
    let amounts = Resources {
        devices: (plugin > 0)
            .then(|| ("nvidia.com/gpu".to_string(), plugin))
            .into_iter()
            .collect(),
        ..Resources::default()
    };
    Node {
        name: name.into(),
        created_at: at("2026-11-01T00:00:00Z"),
        labels: labels.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
        provider: Some("aws".into()),
        ready: ready(),
        capacity: amounts.clone(),
        allocatable: amounts,
        ..Node::default()
    }
}

fn gpu(index: usize) -> Device {
    Device {
        name: format!("gpu-{index}"),
        node: Some("n".into()),
        kind: Some("gpu".into()),
        uuid: Some(format!("GPU-{index}")),
        product: Some("NVIDIA H100 80GB HBM3".into()),
        ..Device::default()
    }
}

fn mig(index: usize, profile: &str, place: usize) -> Device {
    Device {
        name: format!("gpu-{index}-mig-{profile}-{place}"),
        kind: Some("mig".into()),
        uuid: Some(format!("MIG-{index}-{profile}-{place}")),
        parent_uuid: Some(format!("GPU-{index}")),
        profile: Some(profile.into()),
        ..gpu(index)
    }
}

fn pool(driver: &str, devices: Vec<Device>) -> DevicePool {
    DevicePool {
        driver: driver.into(),
        name: "n".into(),
        generation: 1,
        complete: true,
        devices,
    }
}

fn claim(name: &str, devices: &[&str], pods: &[&str]) -> ResourceClaim {
    ResourceClaim {
        namespace: "ml".into(),
        name: name.into(),
        created_at: at("2026-11-20T00:00:00Z"),
        allocated: true,
        devices: devices
            .iter()
            .map(|d| AllocatedDevice {
                driver: "gpu.nvidia.com".into(),
                pool: "n".into(),
                device: (*d).into(),
                admin: false,
            })
            .collect(),
        pods: pods
            .iter()
            .map(|p| PodRef {
                name: (*p).into(),
                uid: (*p).into(),
            })
            .collect(),
        ..ResourceClaim::default()
    }
}

fn pod(name: &str, plugin: u64, claims: &[&str]) -> Pod {
    let requests = Resources {
        devices: (plugin > 0)
            .then(|| ("nvidia.com/gpu".to_string(), plugin))
            .into_iter()
            .collect(),
        ..Resources::default()
    };
    Pod {
        namespace: "ml".into(),
        name: name.into(),
        uid: name.into(),
        node: Some("n".into()),
        phase: PodPhase::Running,
        ready: ready(),
        resource_claims: claims.iter().map(|c| (*c).into()).collect(),
        containers: vec![Container {
            name: "c".into(),
            requests,
            uses_claims: !claims.is_empty(),
            ..Container::default()
        }],
        ..Pod::default()
    }
}

fn fleet(node: Node, pods: Vec<Pod>, dra: Option<Dra>) -> Fleet {
    let cluster = Cluster {
        name: "c".into(),
        nodes: Some(vec![node]),
        pods,
        pods_read: PodsRead {
            complete: true,
            ..PodsRead::default()
        },
        dra: dra.map(Box::new),
        ..Cluster::default()
    };
    let snapshot = Snapshot {
        schema: SCHEMA,
        tool_version: "t".into(),
        taken_at: at("2026-11-24T12:00:00Z").unwrap(),
        window_seconds: None,
        observe_seconds: None,
        clusters: vec![cluster],
        sources: Vec::new(),
        gaps: Vec::new(),
    };
    let fleet = join(&snapshot, &PriceBook::default(), &Settings::default());
    for node in &fleet.nodes {
        let slots = || node.slot_ids().map(|s| fleet.slot(s));
        assert_eq!(
            slots().map(|s| s.weight).sum::<u64>(),
            u64::from(node.gpus) * WHOLE_GPU,
            "whole GPUs"
        );
        assert_eq!(
            slots().filter_map(|s| s.price).sum::<UsdPerHour>(),
            node.price.usd_per_hour.unwrap_or_default()
        );
    }
    fleet
}

fn dra(pools: Vec<DevicePool>, claims: Vec<ResourceClaim>) -> Dra {
    Dra {
        version: "v1".into(),
        pools: Some(pools),
        classes: Some(Vec::new()),
        claims: Some(claims),
        claims_complete: true,
    }
}

fn count(fleet: &Fleet, state: SlotState) -> f64 {
    fleet
        .slots
        .iter()
        .filter(|s| s.state == state)
        .map(|s| s.weight)
        .sum::<u64>() as f64
        / WHOLE_GPU as f64
}

fn gpus(n: usize) -> Vec<Device> {
    (0..n).map(gpu).collect()
}

#[test]
fn whole_devices_are_slots_with_their_uuids() {
    let f = fleet(
        node("n", 0, true),
        vec![pod("a", 0, &["two"])],
        Some(dra(
            vec![pool("gpu.nvidia.com", gpus(8))],
            vec![claim("two", &["gpu-3", "gpu-5"], &["a"])],
        )),
    );
    assert_eq!((f.nodes[0].gpus, count(&f, SlotState::Free)), (8, 6.0));
    let held: Vec<&str> = f
        .slots
        .iter()
        .filter(|s| !s.holders.is_empty())
        .map(|s| s.name.as_str())
        .collect();
    assert_eq!(held, ["GPU-3", "GPU-5"]);
    assert_eq!(f.pods[0].slots.len(), 2);
}

#[test]
fn a_device_that_several_pods_share_is_one_gpu() {
    let claims = vec![claim("s", &["gpu-0"], &["a", "b"]), claim("t", &["gpu-0"], &["c"])];
    let pods = vec![pod("a", 0, &["s"]), pod("b", 0, &["s"]), pod("c", 0, &["t"])];
    let f = fleet(
        node("n", 0, true),
        pods,
        Some(dra(vec![pool("gpu.nvidia.com", gpus(8))], claims)),
    );
    assert_eq!(
        f.slots[0].holders.len(),
        3,
        "two pods of one claim, one of another (consumable capacity)"
    );
    assert_eq!(count(&f, SlotState::Free), 7.0);
}

#[test]
fn administrative_access_holds_nothing() {
    let mut all = claim("watch", &["gpu-0", "gpu-1"], &["m"]);
    for device in &mut all.devices {
        device.admin = true;
    }
    let f = fleet(
        node("n", 0, true),
        vec![pod("m", 0, &["watch"])],
        Some(dra(vec![pool("gpu.nvidia.com", gpus(8))], vec![all])),
    );
    assert_eq!(count(&f, SlotState::Free), 8.0);
}

#[test]
fn a_claim_without_a_pod_is_idle_once_it_is_old() {
    let old = claim("old", &["gpu-0"], &[]);
    let ended = claim("ended", &["gpu-1"], &["gone"]);
    let young = ResourceClaim {
        created_at: at("2026-11-24T11:50:00Z"),
        ..claim("young", &["gpu-2"], &[])
    };
    let by_group = ResourceClaim {
        reserved_otherwise: true,
        ..claim("group", &["gpu-3"], &[])
    };
    let f = fleet(
        node("n", 0, true),
        Vec::new(),
        Some(dra(
            vec![pool("gpu.nvidia.com", gpus(8))],
            vec![old, ended, young, by_group],
        )),
    );
    let states: Vec<(SlotState, Reason)> = f.slots.iter().take(5).map(|s| (s.state, s.reason)).collect();
    assert_eq!(
        states,
        [
            (SlotState::Idle, Reason::UnusedClaim),
            (SlotState::Idle, Reason::UnusedClaim),
            (SlotState::Unknown, Reason::Starting),
            (SlotState::Unknown, Reason::HoldersInvisible),
            (SlotState::Free, Reason::NoHolder),
        ]
    );
}

#[test]
fn fixed_mig_devices_are_shares_of_their_card() {
    let mut devices = vec![mig(0, "3g.40gb", 0), mig(0, "2g.20gb", 4), mig(0, "1g.10gb", 6)];
    devices.extend((1..8).map(gpu));
    let claims = vec![claim("m", &["gpu-0-mig-3g.40gb-0"], &["a"])];
    let f = fleet(
        node("n", 0, true),
        vec![pod("a", 0, &["m"])],
        Some(dra(vec![pool("gpu.nvidia.com", devices)], claims)),
    );
    assert_eq!(f.nodes[0].gpus, 8, "the parent of MIG devices is no device of its own");
    let held = f.slots.iter().find(|s| !s.holders.is_empty()).unwrap();
    assert_eq!(
        (held.mig_profile.as_deref(), held.weight),
        (Some("3g.40gb"), WHOLE_GPU / 7 * 3)
    );
}

#[test]
fn cards_that_are_cut_on_demand_are_whole_until_a_claim_cuts_them() {
    let partitionable = |index: usize| {
        let set = |d: Device| Device {
            counter_sets: vec![format!("gpu-{index}-counter-set")],
            ..d
        };
        let parts = (0..7).map(move |p| set(mig(index, "1g.10gb", p)));
        std::iter::once(set(gpu(index))).chain(parts.collect::<Vec<_>>())
    };
    let devices: Vec<Device> = (0..8).flat_map(partitionable).collect();
    let claims = vec![
        claim("s", &["gpu-0-mig-1g.10gb-2"], &["a"]),
        claim("w", &["gpu-1"], &["b"]),
    ];
    let pods = vec![pod("a", 0, &["s"]), pod("b", 0, &["w"])];
    let f = fleet(
        node("n", 0, true),
        pods,
        Some(dra(vec![pool("gpu.nvidia.com", devices)], claims)),
    );
    assert_eq!((f.nodes[0].gpus, f.slots.len()), (8, 9));
    assert!((count(&f, SlotState::Free) - (6.0 + 6.0 / 7.0)).abs() < 1e-5);
    assert!(
        f.slots.iter().all(|s| !s.unpartitioned),
        "what is left can still be asked for"
    );
}

#[test]
fn partitions_without_profiles_that_name_slices_are_equal_parts() {
    let part = |card: usize, p: usize| Device {
        name: format!("gpu-{card}-{p}"),
        node: Some("n".into()),
        kind: Some("amdgpu-partition".into()),
        profile: Some("cpx_nps4".into()),
        product: Some("AMD_Instinct_MI300X_OAM".into()),
        pci_bus_id: Some(format!("0000:{card}:00.0")),
        ..Device::default()
    };
    let devices = (0..2).flat_map(|c| (0..8).map(move |p| part(c, p))).collect();
    let mut held = claim("p", &["gpu-0-3"], &["a"]);
    held.devices[0].driver = "gpu.amd.com".into();
    let f = fleet(
        node("n", 0, false),
        vec![pod("a", 0, &["p"])],
        Some(dra(vec![pool("gpu.amd.com", devices)], vec![held])),
    );
    assert_eq!(
        (f.nodes[0].gpus, f.nodes[0].gpu_name.as_str(), f.slots.len()),
        (2, "MI300X", 16)
    );
    assert!((count(&f, SlotState::Free) - 15.0 / 8.0).abs() < 1e-5);
}

#[test]
fn plugin_and_dra_on_one_node_are_counted_once() {
    let claims = || vec![claim("c", &["gpu-0", "gpu-1", "gpu-2"], &["d"])];
    let pods = || vec![pod("d", 0, &["c"]), pod("p", 4, &[])];
    // (advertised, published, instance type known) → GPUs: the same eight, four beside four, and two views of one unknown box.
    for (plugin, published, typed, all) in [
        (8, 8, true, 8),
        (4, 4, true, 8),
        (8, 8, false, 8),
        (6, 4, false, 6),
        (5, 5, true, 8),
    ] {
        let f = fleet(
            node("n", plugin, typed),
            pods(),
            Some(dra(vec![pool("gpu.nvidia.com", gpus(published))], claims())),
        );
        assert_eq!(f.nodes[0].gpus, all, "{plugin} advertised, {published} published");
        let held = f.slots.iter().filter(|s| !s.holders.is_empty()).count();
        assert_eq!(held, 7.min(all as usize), "{plugin} advertised, {published} published");
        assert!(f.slots.iter().all(|s| s.holders.len() <= 2));
    }
}

#[test]
fn what_was_not_read_is_unknown() {
    let whole = || dra(vec![pool("gpu.nvidia.com", gpus(8))], Vec::new());
    let claims_refused = Dra {
        claims: None,
        claims_complete: false,
        ..whole()
    };
    let slices_refused = Dra { pools: None, ..whole() };
    let half = DevicePool {
        complete: false,
        ..pool("gpu.nvidia.com", gpus(4))
    };
    let gone = dra(
        vec![pool("gpu.nvidia.com", gpus(8))],
        vec![claim("x", &["gpu-77"], &["a"])],
    );
    for (what, dra, pods) in [
        ("claims refused", claims_refused, Vec::new()),
        ("slices refused", slices_refused, Vec::new()),
        ("half a pool", dra(vec![half], Vec::new()), Vec::new()),
        ("a device that no slice publishes", gone, vec![pod("a", 0, &["x"])]),
    ] {
        let f = fleet(node("n", 0, true), pods, Some(dra));
        assert_eq!((count(&f, SlotState::Unknown), f.nodes[0].gpus), (8.0, 8), "{what}");
    }
    // Nothing of this touches a node that has a device plugin and no claims.
    let f = fleet(
        node("n", 8, true),
        Vec::new(),
        Some(Dra {
            claims: None,
            pools: None,
            ..whole()
        }),
    );
    assert_eq!(count(&f, SlotState::Free), 8.0);
}

#[test]
fn a_tainted_device_is_unhealthy_since_its_taint() {
    let mut devices = gpus(8);
    devices[2].taints.push(Taint {
        key: "gpu.nvidia.com/xid".into(),
        effect: "NoExecute".into(),
        since: at("2026-11-23T00:00:00Z"),
        value: None,
    });
    let f = fleet(
        node("n", 0, true),
        Vec::new(),
        Some(dra(vec![pool("gpu.nvidia.com", devices)], Vec::new())),
    );
    let slot = &f.slots[2];
    assert_eq!(
        (slot.state, slot.reason, slot.since),
        (SlotState::Unhealthy, Reason::Tainted, at("2026-11-23T00:00:00Z"))
    );
    assert_eq!(count(&f, SlotState::Free), 7.0);
}

#[test]
fn extended_resources_that_a_claim_provides_are_not_asked_of_the_plugin() {
    let mut by_name = pod("a", 1, &["a-extended-resources-x"]);
    by_name.claimed_resources = vec!["nvidia.com/gpu".into()];
    let claims = vec![claim("a-extended-resources-x", &["gpu-4"], &["a"])];
    let f = fleet(
        node("n", 0, true),
        vec![by_name],
        Some(dra(vec![pool("gpu.nvidia.com", gpus(8))], claims)),
    );
    assert_eq!((count(&f, SlotState::Free), f.pods[0].slots.len()), (7.0, 1));
    assert!(f.gaps.is_empty(), "{:?}", f.gaps);
}
