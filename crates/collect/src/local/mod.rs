//! GPUs of this host: NVML for the devices, /proc for what runs on them, loopback for what the servers say.
//!
//! A host is a cluster of one node. What Kubernetes calls a pod is here a server, job or program with its processes.

mod nvml;
mod process;

use super::options::CollectOptions;
use super::scrape;
use crate::engine::metrics::plausible;
use crate::snapshot::cluster::{Cluster, Condition, Node, PodsRead, Resources};
use crate::snapshot::gpu::PodName;
use crate::snapshot::{Gap, SCHEMA, Snapshot, Source, SourceKind, SourceStatus};
use crate::units::Bytes;
use anyhow::{Result, bail};
use jiff::Timestamp;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use process::{Group, Processes};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Readings over `--observe`: utilization is an average over the driver's own last sample (up to a second), so a few
/// tell spinning from idling better than two.
const READINGS: u32 = 5;

/// Reads this host.
///
/// # Errors
/// When the driver's library is missing or refuses; a single device that does not answer is a gap.
pub async fn collect(options: &CollectOptions) -> Result<Snapshot> {
    let taken_at = Timestamp::now();
    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        Err(error) => bail!(
            "could not read the GPUs of this host through NVML: {}",
            nvml::unavailable(&error)
        ),
    };
    let name = hostname();
    let mut inventory = match nvml::inventory(&nvml, &name, taken_at) {
        Ok(inventory) => inventory,
        Err(error) => bail!("could not count the GPUs of this host: {}", nvml::unavailable(&error)),
    };
    let processes = Processes::at(Path::new("/proc"));
    let (groups, gaps) = attribute(&mut inventory, &processes, &name);
    let mut cluster = host(&inventory, groups, &processes, &name, options);
    let mut host_gaps = gaps;
    host_gaps.extend(gaps_of(&inventory, &cluster.name));
    let mut sources = vec![source(&inventory, &name, &host_gaps)];
    let origin = format!("host {}", cluster.name);
    if options.scrape {
        let readings = observe(&nvml, &mut inventory, options.observe);
        let (told, ()) = tokio::join!(scrape::scrape_host(&origin, &mut cluster, options), readings);
        sources.extend(told.0);
        host_gaps.extend(told.1);
    }
    cluster.gpus = inventory.devices.into_iter().map(|d| d.scrape).collect();
    if let Some((sifted, missing)) = plausible::sift(&cluster) {
        cluster = sifted;
        host_gaps.extend(missing);
    }
    host_gaps.sort();
    host_gaps.dedup();
    Ok(Snapshot {
        schema: SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        taken_at,
        window_seconds: None,
        observe_seconds: options.observe_seconds(),
        clusters: vec![cluster],
        sources,
        gaps: host_gaps,
    })
}

/// Says what would be read (`--dry-run`).
pub fn dry_run() -> [&'static str; 3] {
    [
        "NVML (libnvidia-ml.so.1): devices, MIG instances, utilization, memory, power, processes; read only",
        "/proc/PID/{stat,cmdline,cgroup,environ,ns/net} of the processes on GPUs, of their parents, and of Slurm's jobs",
        "GET http://127.0.0.1:PORT (or the container's own address): metrics and identity of the servers found",
    ]
}

async fn observe(nvml: &Nvml, inventory: &mut nvml::Inventory, over: Duration) {
    if over.is_zero() {
        return;
    }
    for _ in 1..READINGS {
        tokio::time::sleep(over / (READINGS - 1)).await;
        nvml::read_again(nvml, inventory, Timestamp::now());
    }
}

/// Joins the processes on each device with what /proc tells of them.
fn attribute(inventory: &mut nvml::Inventory, processes: &Processes, node: &str) -> (Vec<Group>, Vec<Gap>) {
    let mut found: Vec<(Group, String)> = Vec::new();
    let mut hidden = 0;
    for device in &mut inventory.devices {
        let mut on_device: BTreeMap<(u32, u64), Group> = BTreeMap::new();
        for pid in &device.pids {
            let group = processes.group(*pid, node);
            on_device.entry(group.key()).or_insert(group);
        }
        for group in on_device.into_values() {
            hidden += u32::from(group.hidden);
            device.scrape.holders.push(PodName {
                namespace: group.pod.namespace.clone(),
                name: group.pod.name.clone(),
                container: None,
            });
            found.push((group, device.resource.clone()));
        }
    }
    of_jobs(inventory, processes, node, &mut found);
    let mut gaps = Vec::new();
    if hidden > 0 {
        gaps.push(Gap {
            source: format!("host {node}"),
            what: format!("{hidden} processes on GPUs"),
            reason: "/proc does not show them: they belong to another process namespace".into(),
            effect: "their GPUs are held by a program without a name; its engine and model are unknown".into(),
            remedy: "run as root on the host, or in a container with the host's process namespace (--pid=host)".into(),
        });
    }
    (process::pods(found), gaps)
}

/// GPUs without a process that a Slurm job was given: nobody else can have them.
fn of_jobs(inventory: &mut nvml::Inventory, processes: &Processes, node: &str, found: &mut Vec<(Group, String)>) {
    // With instances, Slurm's numbers are theirs and no longer the GPUs'.
    if inventory.devices.iter().any(|d| d.scrape.mig.is_some()) {
        return;
    }
    for (id, job) in processes.jobs() {
        let owned = |g: &&Group| {
            g.pod
                .owner
                .as_ref()
                .is_some_and(|o| o.kind == "SlurmJob" && o.name == id)
        };
        let own: Vec<&Group> = found.iter().map(|(g, _)| g).filter(owned).collect();
        // What runs on its other GPUs holds these too, where that is one thing.
        let group = match own.split_first() {
            Some((first, rest)) if rest.iter().all(|g| g.key() == first.key()) => (*first).clone(),
            _ => processes.group(job.pid, node),
        };
        for device in &mut inventory.devices {
            let given = device.scrape.index.is_some_and(|i| job.gpus.contains(&i));
            if given && device.scrape.holders.is_empty() {
                device.scrape.holders.push(PodName {
                    namespace: group.pod.namespace.clone(),
                    name: group.pod.name.clone(),
                    container: None,
                });
                found.push((group.clone(), device.resource.clone()));
            }
        }
    }
}

fn host(
    inventory: &nvml::Inventory,
    groups: Vec<Group>,
    processes: &Processes,
    name: &str,
    options: &CollectOptions,
) -> Cluster {
    let mut devices: BTreeMap<String, u64> = BTreeMap::new();
    let mut sharers = 1;
    for device in &inventory.devices {
        *devices.entry(device.resource.clone()).or_insert(0) += 1;
        sharers = sharers.max(device.scrape.holders.len() as u64);
    }
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    if let Some(model) = inventory.devices.iter().find_map(|d| d.scrape.model.as_ref()) {
        // As GPU feature discovery writes it.
        labels.insert("nvidia.com/gpu.product".into(), model.replace(' ', "-"));
    }
    labels.insert("nvidia.com/gpu.count".into(), inventory.physical.to_string());
    let whole = inventory.devices.iter().find(|d| d.scrape.mig.is_none());
    if let Some(total) = whole.and_then(|d| d.scrape.readings.first()?.memory_total) {
        labels.insert(
            "nvidia.com/gpu.memory".into(),
            format!("{:.0}", total.0 as f64 / Bytes::MIB),
        );
    }
    let mut allocatable = devices.clone();
    let lost = inventory.lost.len() as u64;
    if lost > 0 {
        *devices.entry("nvidia.com/gpu".into()).or_insert(0) += lost;
    }
    if sharers > 1 {
        // Several programs on one card: the driver slices its time, as the device plugin's time-slicing does.
        labels.insert("nvidia.com/gpu.replicas".into(), sharers.to_string());
        labels.insert("nvidia.com/gpu.sharing-strategy".into(), "time-slicing".into());
        for amounts in [&mut devices, &mut allocatable] {
            if let Some(count) = amounts.get_mut("nvidia.com/gpu") {
                *count *= sharers;
            }
        }
    }
    let provider = machine(&mut labels);
    // No CPU and memory: nobody requests shares of them here, so what is left for a free GPU cannot be told.
    let amounts = |devices: BTreeMap<String, u64>| Resources {
        devices,
        ..Resources::default()
    };
    Cluster {
        name: options.cluster_name.clone().unwrap_or_else(|| name.into()),
        nodes: Some(vec![Node {
            name: name.into(),
            created_at: processes.booted_at(),
            labels,
            provider,
            ready: Some(Condition {
                status: Some(true),
                since: processes.booted_at(),
                reason: None,
            }),
            capacity: amounts(devices),
            allocatable: amounts(allocatable),
            ..Node::default()
        }]),
        pods: groups.into_iter().map(|g| g.pod).collect(),
        pods_read: PodsRead {
            // Where the driver hides processes, a card without a visible one is not free.
            complete: inventory.refused.is_empty(),
            ..PodsRead::default()
        },
        ..Cluster::default()
    }
}

/// The cloud and instance type, where the firmware tells: EC2 names the type as the product.
fn machine(labels: &mut BTreeMap<String, String>) -> Option<String> {
    let read = |file: &str| fs::read_to_string(Path::new("/sys/class/dmi/id").join(file)).unwrap_or_default();
    let (vendor, product) = (read("sys_vendor"), read("product_name"));
    if vendor.trim() == "Amazon EC2" {
        labels.insert("node.kubernetes.io/instance-type".into(), product.trim().into());
        return Some("aws".into());
    }
    None
}

fn hostname() -> String {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|file| fs::read_to_string(file).ok())
        .map(|name| name.trim().to_string())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
}

fn source(inventory: &nvml::Inventory, name: &str, gaps: &[Gap]) -> Source {
    let driver = inventory
        .driver
        .as_deref()
        .map_or(String::new(), |d| format!(", driver {d}"));
    Source {
        kind: SourceKind::Nvml,
        name: name.into(),
        status: if gaps.is_empty() {
            SourceStatus::Ok
        } else {
            SourceStatus::Partial
        },
        detail: format!("{} GPUs{driver}", inventory.physical),
        named: true,
    }
}

fn gaps_of(inventory: &nvml::Inventory, cluster: &str) -> Vec<Gap> {
    let source = format!("host {cluster}");
    let lost = inventory.lost.iter().map(|(gpu, why)| Gap {
        source: source.clone(),
        what: gpu.clone(),
        reason: why.clone(),
        effect: "it is paid and does nothing; since when is not known".into(),
        remedy: "look for its Xid in 'dmesg'; it needs a reset or a reboot".into(),
    });
    let refused = inventory.refused.iter().map(|(what, why)| Gap {
        source: source.clone(),
        what: what.clone(),
        reason: why.clone(),
        effect: "a GPU without a visible process is not called free".into(),
        remedy: if *why == NvmlError::NoPermission.to_string() {
            "run as root".into()
        } else {
            "update the driver".into()
        },
    });
    let mut gaps: Vec<Gap> = lost.chain(refused).collect();
    let models: std::collections::BTreeSet<&str> = inventory
        .devices
        .iter()
        .filter_map(|d| d.scrape.model.as_deref())
        .collect();
    if models.len() > 1 {
        gaps.push(Gap {
            source,
            what: "one GPU model for the whole host".into(),
            reason: format!("it has {}", models.into_iter().collect::<Vec<_>>().join(" and ")),
            effect: "all of them are priced and sized as the first".into(),
            remedy: "give the host's own price with --prices".into(),
        });
    }
    gaps
}
