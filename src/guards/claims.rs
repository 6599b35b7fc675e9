//! The same fleets with their GPUs handed out by claims: who hands a GPU out changes nothing of what is true of it.

use super::{fleets, invariants, judge};
use crate::report::document::Report;
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{Cluster, Node, PodPhase};
use crate::snapshot::dra::{AllocatedDevice, Device, DevicePool, Dra, PodRef, ResourceClaim};
use std::collections::BTreeSet;

const WHOLE: &str = "nvidia.com/gpu";
const SLICE: &str = "nvidia.com/mig-1g.10gb";

/// What a driver would publish for the node; `None`: its device plugin stays.
fn published(cluster: &Cluster, node: &Node) -> Option<(&'static str, Vec<Device>)> {
    let shared = node.labels.contains_key("nvidia.com/gpu.replicas");
    let resource = [WHOLE, SLICE]
        .into_iter()
        .find(|r| node.capacity.devices.contains_key(*r))?;
    // A device that is lost leaves no trace in slices: only the instance type would tell.
    if shared || node.capacity.devices != node.allocatable.devices {
        return None;
    }
    let count = node.capacity.devices[resource];
    let listed = cluster.gpus.iter().filter(|g| g.node == node.name).count() as u64;
    if resource == WHOLE && listed != 0 && listed != count {
        return None;
    }
    let device = |index: u64| {
        let card = format!(
            "GPU-{}-{}",
            node.name,
            if resource == SLICE { index / 7 } else { index }
        );
        let common = Device {
            node: Some(node.name.clone()),
            product: node.labels.get("nvidia.com/gpu.product").cloned(),
            ..Device::default()
        };
        if resource == SLICE {
            Device {
                name: format!("gpu-{}-mig-{}", index / 7, index % 7),
                kind: Some("mig".into()),
                parent_uuid: Some(card),
                profile: Some("1g.10gb".into()),
                ..common
            }
        } else {
            Device {
                name: format!("gpu-{index}"),
                kind: Some("gpu".into()),
                uuid: Some(card),
                ..common
            }
        }
    };
    Some((resource, (0..count).map(device).collect()))
}

/// Turns the device plugin's nodes that `wanted` picks into DRA's, pods and all.
fn by_claims(mut snapshot: Snapshot, wanted: impl Fn(usize) -> bool) -> (Snapshot, usize) {
    let mut turned = 0;
    for cluster in &mut snapshot.clusters {
        let mut dra = Dra {
            version: "v1".into(),
            pools: Some(Vec::new()),
            classes: Some(Vec::new()),
            claims: Some(Vec::new()),
            claims_complete: true,
        };
        let before = cluster.clone();
        for (index, node) in cluster
            .nodes
            .iter_mut()
            .flatten()
            .enumerate()
            .filter(|(i, _)| wanted(*i))
        {
            let Some((resource, devices)) = published(&before, node) else {
                continue;
            };
            turned += 1;
            let mut taken: BTreeSet<String> = BTreeSet::new();
            let on_node = |p: &&mut crate::snapshot::cluster::Pod| {
                p.node.as_ref() == Some(&node.name) && !matches!(p.phase, PodPhase::Succeeded | PodPhase::Failed)
            };
            for pod in cluster.pods.iter_mut().filter(on_node) {
                let need: u64 = pod
                    .containers
                    .iter()
                    .filter_map(|c| c.requests.devices.get(resource))
                    .sum();
                if need == 0 {
                    continue;
                }
                let told = |d: &Device| {
                    before.gpus.iter().any(|g| {
                        g.uuid == d.uuid
                            && g.holders
                                .iter()
                                .any(|h| h.namespace == pod.namespace && h.name == pod.name)
                    })
                };
                let mut mine: Vec<&Device> = devices.iter().filter(|d| !taken.contains(&d.name)).collect();
                mine.sort_by_key(|d| !told(d));
                mine.truncate(need as usize);
                taken.extend(mine.iter().map(|d| d.name.clone()));
                let name = format!("{}-gpus", pod.name);
                dra.claims.get_or_insert_default().push(ResourceClaim {
                    namespace: pod.namespace.clone(),
                    name: name.clone(),
                    created_at: pod.created_at,
                    allocated: true,
                    devices: mine
                        .iter()
                        .map(|d| AllocatedDevice {
                            driver: "gpu.nvidia.com".into(),
                            pool: node.name.clone(),
                            device: d.name.clone(),
                            admin: false,
                        })
                        .collect(),
                    pods: vec![PodRef {
                        name: pod.name.clone(),
                        uid: pod.uid.clone(),
                    }],
                    ..ResourceClaim::default()
                });
                pod.resource_claims.push(name);
                for container in &mut pod.containers {
                    container.limits.devices.remove(resource);
                    if container.requests.devices.remove(resource).is_some() {
                        container.uses_claims = true;
                    }
                }
            }
            node.capacity.devices.remove(resource);
            node.allocatable.devices.remove(resource);
            let pool = DevicePool {
                driver: "gpu.nvidia.com".into(),
                name: node.name.clone(),
                generation: index as i64,
                complete: true,
                devices,
            };
            dra.pools.get_or_insert_default().push(pool);
        }
        cluster.dra = Some(Box::new(dra));
    }
    (snapshot, turned)
}

/// Everything that must not depend on who hands the GPUs out.
fn essence(report: &Report) -> (Vec<f64>, Vec<i64>, BTreeSet<String>) {
    let t = &report.totals;
    let gpus = [
        t.gpus,
        t.gpus_allocated,
        t.gpus_free,
        t.gpus_unhealthy,
        t.gpus_stuck,
        t.gpus_idle,
        t.gpus_working,
        t.gpus_unknown,
    ];
    let money = [
        t.spend_usd_per_hour,
        t.waste_usd_per_hour,
        t.waste_now_usd_per_hour,
        t.at_risk_usd_per_hour,
    ];
    let findings = report.findings.iter().map(|f| {
        let place = (&f.subject.cluster, &f.subject.namespace, &f.subject.name);
        format!(
            "{} {:?} {place:?} {:?} {:?}",
            f.check, f.part, f.usd_per_hour, f.confidence
        )
    });
    (
        gpus.iter().map(|g| (g * 1e5).round()).collect(),
        money.iter().map(|m| m.micros()).collect(),
        findings.collect(),
    )
}

#[test]
fn a_fleet_says_the_same_whoever_hands_out_its_gpus() {
    let mut turned = 0;
    let mut findings = 0;
    for seed in 0..invariants::FLEETS {
        let made = fleets::make(seed);
        let plain = judge(&made.snapshot, &made.prices);
        for (what, wanted) in [("all", 1), ("every other", 2)] {
            let (claims, count) = by_claims(made.snapshot.clone(), |i| i % wanted == 0);
            turned += count;
            let judged = judge(&claims, &made.prices);
            invariants::hold(&judged, &format!("{seed}, {what} by claims"));
            assert_eq!(
                essence(&judged.report),
                essence(&plain.report),
                "fleet {seed}, {what} nodes by claims"
            );
            findings += judged.report.findings.len();
        }
    }
    assert!(turned > 800 && findings > 3000, "{turned} nodes, {findings} findings");
}
