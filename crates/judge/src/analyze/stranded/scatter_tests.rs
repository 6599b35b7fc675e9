//! The named moves, applied: the waiting pod then fits, by this file's own arithmetic over the objects of the snapshot.

use super::{Plan, Scattered, finding, scattered};
use crate::catalog::prices::PriceBook;
use crate::fleet::{self, Fleet};
use crate::guards::Dice;
use crate::settings::Settings;
use crate::snapshot::cluster::{
    Cluster, Condition, Container, ContainerState, Node, OwnerRef, Pod, PodPhase, PodPlacement, PodsRead, Resources,
    Taint, Toleration,
};
use crate::snapshot::server::{EngineKind, EngineSettings};
use crate::snapshot::{SCHEMA, Snapshot};
use crate::units::{Bytes, MilliCores, UsdPerHour};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

const GPU: &str = "nvidia.com/gpu";
const TAINT: &str = "team";
const USD_PER_GPU: f64 = 2.15;
const DAY: i64 = 86_400;

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn condition(status: bool, seconds: i64) -> Condition {
    Condition {
        status: Some(status),
        since: Some(now() - SignedDuration::from_secs(seconds)),
        reason: None,
    }
}

/// A node: GPUs of one kind, zone, taint, and now and then too little CPU or memory for all its GPUs.
fn node(index: u64, dice: &mut Dice) -> Node {
    let gpus = *dice.pick(&[4, 8]);
    let cores = gpus * dice.pick(&[8, 12, 16]);
    let gib = gpus * dice.pick(&[64, 128]);
    let amounts = Resources {
        cpu: Some(MilliCores(cores * 1000)),
        memory: Some(Bytes(gib << 30)),
        pods: Some(if dice.chance(10) { 3 } else { 110 }),
        devices: [(GPU.to_string(), gpus)].into(),
        ..Resources::default()
    };
    let taint = Taint {
        key: TAINT.into(),
        value: Some("red".into()),
        effect: "NoSchedule".into(),
        since: None,
    };
    let gpu = if dice.chance(85) {
        "NVIDIA-H100-80GB-HBM3"
    } else {
        "NVIDIA-A100-SXM4-80GB"
    };
    Node {
        name: format!("node-{index}"),
        created_at: Some(now() - SignedDuration::from_secs(40 * DAY)),
        labels: [("zone", *dice.pick(&["a", "a", "b"])), ("nvidia.com/gpu.product", gpu)]
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .into(),
        unschedulable: dice.chance(5),
        taints: if dice.chance(15) { vec![taint] } else { Vec::new() },
        ready: Some(condition(!dice.chance(5), 40 * DAY)),
        capacity: amounts.clone(),
        allocatable: amounts,
        ..Node::default()
    }
}

fn pod(name: &str, gpus: u64, dice: &mut Dice) -> Pod {
    let mut placement = PodPlacement::default();
    // What the API server's admission adds to every pod.
    placement.tolerations.push(Toleration {
        key: Some("node.kubernetes.io/not-ready".into()),
        exists: true,
        value: None,
        effect: Some("NoExecute".into()),
    });
    if dice.chance(40) {
        placement.tolerations.push(Toleration {
            key: Some(TAINT.into()),
            exists: false,
            value: Some("red".into()),
            effect: None,
        });
    }
    if dice.chance(20) {
        placement.node_selector = [("zone".to_string(), dice.pick(&["a", "b"]).to_string())].into();
    }
    placement.other_constraints = dice.chance(5);
    let server = dice.chance(50);
    Pod {
        namespace: "ml".into(),
        name: name.into(),
        uid: name.into(),
        phase: PodPhase::Running,
        created_at: Some(now() - SignedDuration::from_secs(9 * DAY)),
        started_at: Some(now() - SignedDuration::from_secs(9 * DAY)),
        ready: Some(condition(true, 9 * DAY)),
        // Of a pod that is no server, an older recording does not tell.
        placement: (server || dice.chance(80)).then_some(placement),
        owner: Some(OwnerRef {
            group: "apps".into(),
            kind: "StatefulSet".into(),
            name: name.into(),
        }),
        containers: vec![Container {
            name: "main".into(),
            requests: Resources {
                cpu: Some(MilliCores(gpus.max(1) * dice.pick(&[2, 6, 12]) * 1000)),
                memory: Some(Bytes((gpus.max(1) * dice.pick(&[16, 48])) << 30)),
                devices: [(GPU.to_string(), gpus)].into_iter().filter(|(_, n)| *n > 0).collect(),
                ..Resources::default()
            },
            server: server.then(|| {
                Box::new(EngineSettings {
                    engine: Some(EngineKind::Vllm),
                    ..EngineSettings::default()
                })
            }),
            state: Some(ContainerState::Running {
                since: Some(now() - SignedDuration::from_secs(9 * DAY)),
            }),
            ready: true,
            ..Container::default()
        }],
        ..Pod::default()
    }
}

fn asks(pod: &Pod) -> (u64, u64, u64) {
    let of = &pod.containers[0].requests;
    (
        of.devices.get(GPU).copied().unwrap_or(0),
        of.cpu.unwrap().0,
        of.memory.unwrap().0,
    )
}

/// What the scheduler asks: room for GPUs, CPU, memory and one more pod; readiness, cordon, taints, selector.
fn fits(cluster: &Cluster, pod: &Pod, node: &Node) -> bool {
    let here = || cluster.pods.iter().filter(|p| p.node.as_ref() == Some(&node.name));
    let used = here()
        .map(asks)
        .fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
    let has = &node.allocatable;
    let (gpus, cpu, memory) = asks(pod);
    used.0 + gpus <= has.devices[GPU]
        && used.1 + cpu <= has.cpu.unwrap().0
        && used.2 + memory <= has.memory.unwrap().0
        && (here().count() as u64) < has.pods.unwrap()
        && may_run(pod, node)
}

fn may_run(pod: &Pod, node: &Node) -> bool {
    let placement = pod.placement.clone().unwrap_or_default();
    let tolerates = placement.tolerations.iter().any(|t| t.key.as_deref() == Some(TAINT));
    let zone = placement.node_selector.get("zone");
    let ready = node.ready.as_ref().unwrap().status == Some(true);
    ready
        && !node.unschedulable
        && (node.taints.is_empty() || tolerates)
        && zone.is_none_or(|z| *z == node.labels["zone"])
}

/// A cluster that a scheduler has filled with pods at random, and pods that wait; some have none of it in the way.
fn cluster(seed: u64) -> Cluster {
    let mut dice = Dice(seed);
    let mut cluster = Cluster {
        name: "c".into(),
        pods_read: PodsRead {
            complete: true,
            ..PodsRead::default()
        },
        autoscalers: Some(Vec::new()),
        disruption_budgets: Some(Vec::new()),
        ..Cluster::default()
    };
    let nodes: Vec<Node> = (0..2 + dice.below(4)).map(|i| node(i, &mut dice)).collect();
    for serial in 0..nodes.len() as u64 * (2 + dice.below(5)) {
        let gpus = *dice.pick(&[0, 1, 1, 1, 2, 2, 4]);
        let mut next = pod(&format!("pod-{serial}"), gpus, &mut dice);
        let at = dice.pick(&nodes);
        if fits(&cluster, &next, at) {
            next.node = Some(at.name.clone());
            cluster.pods.push(next);
        }
    }
    let (gpus, waiters) = (*dice.pick(&[2, 3, 4, 4, 8]), 1 + dice.below(2));
    for serial in 0..waiters {
        // Of one workload: they ask for the same.
        let waiter = pod("waiter", gpus, &mut Dice(seed ^ 0xABCD));
        cluster.pods.push(Pod {
            name: format!("waiter-{serial}"),
            uid: format!("waiter-{serial}"),
            phase: PodPhase::Pending,
            ready: None,
            scheduled: Some(Condition {
                reason: Some("Unschedulable".into()),
                ..condition(false, 3600)
            }),
            waits_for_gpus: Some(true),
            ..waiter
        });
    }
    cluster.nodes = Some(nodes);
    cluster
}

fn join(cluster: &Cluster) -> Fleet {
    let snapshot = Snapshot {
        schema: SCHEMA,
        tool_version: "test".into(),
        taken_at: now(),
        window_seconds: None,
        observe_seconds: None,
        clusters: vec![cluster.clone()],
        sources: Vec::new(),
        gaps: Vec::new(),
    };
    let prices = format!("[[price]]\ncapacity_type = \"owned\"\nusd_per_gpu_hour = {USD_PER_GPU}\n");
    fleet::join(&snapshot, &PriceBook::parse(&prices).unwrap(), &Settings::default())
}

fn look(fleet: &Fleet) -> Vec<Scattered<'_>> {
    scattered(fleet, &Settings::default().thresholds, &mut BTreeSet::new())
}

fn rebind(cluster: &mut Cluster, pod: &str, to: Option<&str>) {
    let pod = cluster.pods.iter_mut().find(|p| p.name == pod).unwrap();
    pod.node = to.map(String::from);
}

/// One pod whose move alone would do, by trying each.
fn single_move(cluster: &Cluster, waiting: &Pod, target: &Node) -> Option<(String, String)> {
    let nodes = cluster.nodes.as_deref().unwrap();
    let known = |p: &&Pod| {
        asks(p).0 > 0
            && p.placement
                .as_ref()
                .map_or(p.containers[0].server.is_some(), |p| !p.other_constraints)
            && p.node.as_ref() == Some(&target.name)
    };
    cluster.pods.iter().filter(known).find_map(|pod| {
        let mut after = cluster.clone();
        rebind(&mut after, &pod.name, None);
        let same = |n: &&Node| n.labels["nvidia.com/gpu.product"] == target.labels["nvidia.com/gpu.product"];
        let to = nodes
            .iter()
            .filter(same)
            .find(|n| n.name != target.name && fits(&after, pod, n))?;
        fits(&after, waiting, target).then(|| (pod.name.clone(), to.name.clone()))
    })
}

#[test]
fn the_named_moves_let_the_waiting_pod_in() {
    let (mut fired, mut silent, mut planned, mut several) = (0, 0, 0, 0);
    for seed in 0..6000 {
        let before = cluster(seed);
        let nodes = before.nodes.clone().unwrap();
        let fleet = join(&before);
        let waiters: Vec<&Pod> = before.pods.iter().filter(|p| p.phase == PodPhase::Pending).collect();
        let waiter = waiters[0];
        let need = asks(waiter).0;
        // Whether there is anything to say, by this file's own count.
        let free = |n: &Node| {
            let of_node = before.pods.iter().filter(|p| p.node.as_ref() == Some(&n.name));
            n.allocatable.devices[GPU] - of_node.map(|p| asks(p).0).sum::<u64>()
        };
        let free: Vec<u64> = nodes.iter().filter(|n| may_run(waiter, n)).map(free).collect();
        let (total, most) = (free.iter().sum::<u64>(), free.iter().copied().max().unwrap_or(0));
        let stranded = waiter.placement.as_ref().is_none_or(|p| !p.other_constraints) && total >= need && most < need;
        let found = look(&fleet);
        assert_eq!(found.len(), usize::from(stranded), "seed {seed}: {free:?} for {need}");
        let Some(scattered) = found.first() else {
            silent += 1;
            continue;
        };
        fired += 1;
        let said = finding(&fleet, scattered);
        let gpus = total.min(need * waiters.len() as u64);
        let asked: UsdPerHour = said.claims.iter().filter_map(|c| c.usd_per_hour).sum();
        assert_eq!(said.claims.len() as u64, gpus, "seed {seed}");
        assert_eq!(
            Some(asked),
            UsdPerHour::from_usd(USD_PER_GPU * gpus as f64),
            "seed {seed}"
        );
        let Some(Plan { target, moves }) = &scattered.plan else {
            for target in nodes.iter().filter(|n| may_run(waiter, n)) {
                let missed = single_move(&before, waiter, target);
                assert_eq!(missed, None, "seed {seed}: would do for {}", target.name);
            }
            continue;
        };
        planned += 1;
        several += usize::from(moves.len() > 1);
        let of = |name: &str| nodes.iter().find(|n| n.name == name).unwrap();
        let target = of(&fleet.node(*target).name);
        let mut after = before.clone();
        for (id, _) in moves {
            rebind(&mut after, &fleet.pod(*id).name, None);
        }
        assert!(!moves.is_empty() && !fits(&before, waiter, target), "seed {seed}");
        for (id, to) in moves {
            let (moved, to) = (fleet.pod(*id), of(&fleet.node(*to).name));
            let pod = before.pods.iter().find(|p| p.name == moved.name).unwrap();
            assert_eq!(pod.node.as_ref(), Some(&target.name), "seed {seed}: it is not there");
            assert!(
                fits(&after, pod, to),
                "seed {seed}: {} does not fit on {}",
                pod.name,
                to.name
            );
            let gpu = |n: &Node| n.labels["nvidia.com/gpu.product"].clone();
            assert_eq!(gpu(to), gpu(target), "seed {seed}: another GPU");
            rebind(&mut after, &pod.name, Some(&to.name));
            let told = format!("ml/{} ({} GPU", pod.name, asks(pod).0);
            assert!(said.fix.summary.contains(&told), "seed {seed}: {}", said.fix.summary);
        }
        assert!(
            said.fix.summary.ends_with(&format!("fits on {}.", target.name)),
            "seed {seed}"
        );
        assert!(
            fits(&after, waiter, target),
            "seed {seed}: it still does not fit on {}",
            target.name
        );
        // None of them is moved for nothing.
        for (id, _) in moves {
            let mut without = after.clone();
            rebind(&mut without, &fleet.pod(*id).name, Some(&target.name));
            assert!(!fits(&without, waiter, target), "seed {seed}: a needless move");
        }
        // And a scan of what is then there says so too.
        assert!(look(&join(&after)).is_empty(), "seed {seed}: still scattered");
    }
    assert!(fired >= 600 && silent >= 600, "{fired} scattered, {silent} not");
    assert!(
        planned >= 200 && several >= 30,
        "{planned} plans, {several} of several moves"
    );
}
