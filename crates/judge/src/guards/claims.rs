//! The same fleets with their GPUs handed out by claims: who hands a GPU out changes nothing of what is true of it.

use super::fleets::{self, Cards, Made};
use super::{invariants, judge};
use crate::report::document::Report;
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{Node, PodPhase};
use crate::snapshot::dra::{AllocatedDevice, Device, DevicePool, Dra, PodRef, ResourceClaim};
use std::collections::{BTreeMap, BTreeSet};

/// What a driver would publish for the node, with the resource that asked for each device until now; `None`: its device
/// plugin stays.
fn published(node: &Node, cards: &Cards) -> Option<(&'static str, Vec<(String, Device)>)> {
    // Claims of shared devices are another matter, and a device that is lost leaves no trace in slices.
    let shared = matches!(cards.mode, "time-slicing" | "mps" | "gke-sharing" | "mig-shared");
    if shared || node.capacity.devices != node.allocatable.devices {
        return None;
    }
    let amd = cards
        .places
        .iter()
        .any(|(resource, ..)| resource.starts_with("amd.com/"));
    let product = ["nvidia.com/gpu.product", "amd.com/gpu.product-name"];
    let product = product.iter().find_map(|k| node.labels.get(*k));
    let device = |(index, (resource, profile, card)): (usize, &(String, Option<String>, u64))| {
        let uuid = format!("GPU-{}-{card}", node.name);
        let common = Device {
            node: Some(node.name.clone()),
            product: product.map(|p| p.split("-MIG-").next().unwrap_or_default().to_string()),
            ..Device::default()
        };
        let device = match profile {
            Some(profile) => Device {
                name: format!("gpu-{card}-part-{index}"),
                kind: Some(if amd { "amdgpu-partition" } else { "mig" }.into()),
                parent_uuid: Some(uuid),
                profile: Some(profile.clone()),
                ..common
            },
            None => Device {
                name: format!("gpu-{card}"),
                kind: Some(if amd { "amdgpu" } else { "gpu" }.into()),
                uuid: Some(uuid),
                ..common
            },
        };
        (resource.clone(), device)
    };
    let driver = if amd { "gpu.amd.com" } else { "gpu.nvidia.com" };
    Some((driver, cards.places.iter().enumerate().map(device).collect()))
}

/// Turns the device plugin's nodes that `wanted` picks into DRA's, pods and all.
fn by_claims(made: &Made, wanted: impl Fn(usize) -> bool) -> (Snapshot, BTreeMap<&'static str, usize>) {
    let mut snapshot = made.snapshot.clone();
    let mut turned = BTreeMap::new();
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
            let cards = &made.nodes[&(before.name.clone(), node.name.clone())];
            let Some((driver, devices)) = published(node, cards) else {
                continue;
            };
            *turned.entry(cards.mode).or_default() += 1;
            let mut taken: BTreeSet<String> = BTreeSet::new();
            let on_node = |p: &&mut crate::snapshot::cluster::Pod| {
                p.node.as_ref() == Some(&node.name) && !matches!(p.phase, PodPhase::Succeeded | PodPhase::Failed)
            };
            for pod in cluster.pods.iter_mut().filter(on_node) {
                let requests = pod.requests().devices;
                let Some((resource, need)) = requests.iter().find(|(r, _)| node.capacity.devices.contains_key(*r))
                else {
                    continue;
                };
                let told = |d: &Device| {
                    before.gpus.iter().any(|g| {
                        g.mig.is_none()
                            && g.uuid == d.uuid
                            && g.holders
                                .iter()
                                .any(|h| h.namespace == pod.namespace && h.name == pod.name)
                    })
                };
                let mut mine: Vec<&Device> = devices
                    .iter()
                    .filter(|(r, d)| r == resource && !taken.contains(&d.name))
                    .map(|(_, d)| d)
                    .collect();
                mine.sort_by_key(|d| !told(d));
                mine.truncate(*need as usize);
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
                            driver: driver.into(),
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
            node.capacity.devices.clear();
            node.allocatable.devices.clear();
            let pool = DevicePool {
                driver: driver.into(),
                name: node.name.clone(),
                generation: index as i64,
                complete: true,
                devices: devices.into_iter().map(|(_, d)| d).collect(),
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
        t.spend_usd_per_hour.unwrap_or_default(),
        t.waste_usd_per_hour.unwrap_or_default(),
        t.waste_now_usd_per_hour.unwrap_or_default(),
        t.at_risk_usd_per_hour.unwrap_or_default(),
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
    let mut turned: BTreeMap<&str, usize> = BTreeMap::new();
    let mut findings = 0;
    for seed in 0..invariants::FLEETS {
        let made = fleets::make(seed);
        let plain = judge(&made.snapshot, &made.prices);
        for (what, wanted) in [("all", 1), ("every other", 2)] {
            let (claims, count) = by_claims(&made, |i| i % wanted == 0);
            for (mode, nodes) in count {
                *turned.entry(mode).or_default() += nodes;
            }
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
    for mode in ["whole", "mig-mixed", "mig-single", "amd-partitions"] {
        assert!(turned.get(mode).is_some_and(|n| *n >= 50), "{mode}: {turned:?}");
    }
    assert!(findings > 3000, "{findings} findings");
}
