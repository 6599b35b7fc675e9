//! A store without a cluster: GPU exporters on bare metal. Hosts, devices and what they do are told by their series; who holds
//! what is not, so that nothing of it is free or idle.

use super::answer::{AskError, Row};
use super::client::Store;
use super::tag::DeviceStat;
use super::words::{DEVICE_FIGURES, Maker, Words};
use super::{HistoryRead, gap, open, record, remedy, source, stamp};
use crate::engine::ENGINES;
use crate::engine::metrics::figures::LoadFigure;
use crate::engine::metrics::vocabulary::Vocabulary;
use crate::options::{CollectOptions, StoreMode};
use crate::snapshot::cluster::{
    Cluster, Condition, Container, Node, OwnerRef, Pod, PodPhase, PodsRead, Resources, UnreadKind,
};
use crate::snapshot::gpu::{GpuReading, GpuScrape, MigInstance};
use crate::snapshot::server::{EngineKind, EngineSettings};
use crate::snapshot::{Gap, SCHEMA, Snapshot, SourceStatus};
use crate::units::{Bytes, Ratio, Watts};
use anyhow::{Result, bail};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What only a scheduler tells.
pub const HOLDERS: &str = "who holds which GPU";

/// A device or server that was not scraped for so long is not there now.
const RECENT: &str = "[15m]";

/// Labels that tell one device from another, and what it is.
const LABELS: [&str; 20] = [
    "UUID",
    "uuid",
    "gpu_uuid",
    "GPU_I_ID",
    "GPU_I_PROFILE",
    "modelName",
    "model_name",
    "card_model",
    "card_series",
    "gpu",
    "gpu_id",
    "node",
    "Hostname",
    "hostname",
    "instance",
    "serial_number",
    // jobstats' exporter and slurm-job-exporter.
    "minor_number",
    "ordinal",
    "name",
    "gpu_type",
];

/// Reads the fleet that the named store tells.
///
/// # Errors
/// When the store cannot be read, or has no GPU exporter's series of the last minutes.
pub async fn collect(options: &CollectOptions) -> Result<Snapshot> {
    let at = Timestamp::now();
    let StoreMode::Url(url) = &options.store.mode else {
        bail!("--prometheus URL is expected");
    };
    let mut out = HistoryRead::default();
    let Some((store, words, flavour)) = open::named(url, true, options, at, &mut out).await else {
        let reasons: Vec<String> = out.gaps.iter().map(|g| format!("{}; {}", g.reason, g.remedy)).collect();
        bail!(
            "the store {} could not be read: {}",
            super::without_credentials(url),
            reasons.join("; ")
        );
    };
    let hosts = match inventory(&store, &words, at).await {
        Ok(hosts) => hosts,
        Err(error) => bail!(
            "the store {} could not be read: {error}; {}",
            store.name,
            remedy(&error)
        ),
    };
    if hosts.is_empty() {
        bail!(
            "the store {} has no device of a GPU exporter in the last 15 minutes, and there is no cluster to read beside it\n  \
             let it scrape dcgm-exporter (or AMD's, Gaudi's) of each host, or give a kubeconfig",
            store.name
        );
    }
    let name = options
        .cluster_name
        .clone()
        .unwrap_or_else(|| plain_host(&store.name).to_owned());
    let mut cluster = Cluster {
        name,
        metrics_only: true,
        nodes: Some(hosts.iter().map(|(name, host)| node(name, host)).collect()),
        gpus: hosts.iter().flat_map(|(name, host)| scrapes(name, host)).collect(),
        // Nobody told who holds what.
        pods_read: PodsRead::default(),
        ..Cluster::default()
    };
    match servers(&store, &words, &hosts, at).await {
        Ok((pods, elsewhere)) => {
            cluster.pods = pods;
            if elsewhere > 0 {
                out.gaps.push(Gap {
                    effect: "they are not in the report".into(),
                    ..gap(
                        &store.name,
                        &format!("where {elsewhere} servers run"),
                        "no GPU exporter of their host is known by the address that they are scraped at".into(),
                        "give exporters and servers of one host the same host in 'instance'".into(),
                    )
                });
            }
        }
        Err(error) => out
            .gaps
            .push(gap(&store.name, "which servers run", error.to_string(), remedy(&error))),
    }
    out.gaps.push(Gap {
        effect: "no GPU is called free or idle: what each does is told, whose it is not".into(),
        ..gap(
            &store.name,
            HOLDERS,
            "there is no cluster to ask, and exporters of hosts do not say".into(),
            "give a kubeconfig, or run 'gpuwaste scan --local' on the hosts".into(),
        )
    });
    cluster.clocks.extend(super::store_clock(&store, &mut out.gaps));
    match record::record(&store, words, &flavour, &cluster, options, at, &mut out.gaps).await {
        Ok(history) => {
            let detail = record::detail(&store, &flavour, &history);
            out.sources
                .push(source(&store.name, SourceStatus::Partial, detail, options));
            cluster.history = Some(Box::new(history.history));
        }
        Err((gap, lost)) => {
            if lost {
                cluster.unread.push(super::whole(UnreadKind::History));
            }
            out.sources
                .push(source(&store.name, SourceStatus::Failed, gap.reason.clone(), options));
            out.gaps.push(gap);
        }
    }
    out.gaps.sort();
    out.gaps.dedup();
    Ok(Snapshot {
        schema: SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        taken_at: at,
        window_seconds: cluster.history.as_ref().map(|_| options.window.as_secs()),
        observe_seconds: options.observe_seconds(),
        clusters: vec![cluster],
        sources: out.sources,
        gaps: out.gaps,
    })
}

/// One device, or an instance of one.
#[derive(Clone, Debug, Default, PartialEq)]
struct Device {
    model: Option<String>,
    index: Option<u32>,
    maker: &'static str,
    reading: Option<GpuReading>,
}

type DeviceKey = (String, Option<MigInstance>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Host {
    devices: BTreeMap<DeviceKey, Device>,
    /// Hosts of the addresses that its exporters are scraped at.
    addresses: BTreeSet<String>,
}

const RESOURCES: [(Maker, &str, &str); 5] = [
    (Maker::Nvidia, "nvidia", "nvidia.com/gpu"),
    (Maker::Amd, "amd", "amd.com/gpu"),
    (Maker::Gaudi, "gaudi", "habana.ai/gaudi"),
    (Maker::Jobstats, "jobstats", "nvidia.com/gpu"),
    (Maker::SlurmJob, "slurm-job", "nvidia.com/gpu"),
];

/// Every device as it was last seen. `None`: the store has no device's figure.
fn devices_asked(words: &Words) -> Option<String> {
    let by: Vec<&str> = LABELS.into_iter().filter(|l| words.gpu_labels.contains(*l)).collect();
    let by = by.join(",");
    let parts: Vec<String> = DEVICE_FIGURES
        .iter()
        .flat_map(|f| f.names.iter().map(move |n| (f.id, n)))
        .filter(|(_, n)| words.has(n.name))
        .map(|(id, n)| {
            let maker = RESOURCES
                .iter()
                .find(|(m, ..)| *m == n.maker)
                .map_or("", |(_, name, _)| name);
            let read = format!(
                "max by({by})(last_over_time({}{RECENT}){})",
                words.selector(n.name, if n.maker.names_jobs() { n.maker.matcher() } else { "" }),
                n.scale
            );
            format!("label_replace({read},\"s\",\"{}.{maker}\",\"\",\"\")", id.text())
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join(" or "))
}

/// Every server that is there now, by what names it. `None`: the store has no engine's figure.
fn servers_asked(words: &Words) -> Option<String> {
    let mut selectors = words.groups(LoadFigure::Running);
    selectors.extend(words.groups(LoadFigure::Requests));
    let each = selectors
        .iter()
        .map(|s| format!("count by(__name__,instance,namespace,job,model_name,model,model_id)({s})"));
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| each.join(" or "))
}

#[cfg(test)]
pub(super) fn asked(words: &Words) -> Vec<String> {
    devices_asked(words).into_iter().chain(servers_asked(words)).collect()
}

async fn inventory(store: &Store, words: &Words, at: Timestamp) -> Result<BTreeMap<String, Host>, AskError> {
    let Some(query) = devices_asked(words) else {
        return Ok(BTreeMap::new());
    };
    let time = stamp(store.by_its_clock(at));
    let told = store
        .query("/api/v1/query", &[("query", &query), ("time", &time)])
        .await?;
    Ok(hosts(&told.data.result, at))
}

fn first<'r>(row: &'r Row, labels: &[&str]) -> Option<&'r str> {
    labels.iter().map(|l| row.label(l)).find(|v| !v.is_empty())
}

/// The host of "10.0.0.7:9400", "http://gpu-01:9400/metrics" or "gpu-01".
fn plain_host(address: &str) -> &str {
    let address = address.split_once("://").map_or(address, |(_, rest)| rest);
    let address = address.split('/').next().unwrap_or(address);
    match address.rsplit_once(':') {
        Some((host, port))
            if port.chars().all(|c| c.is_ascii_digit()) && (!host.contains(':') || host.starts_with('[')) =>
        {
            host
        }
        _ => address,
    }
}

/// An exporter in a container without a host name of its own tells the container's id.
fn is_container(host: &str) -> bool {
    host.len() == 12 && host.chars().all(|c| c.is_ascii_hexdigit())
}

fn host_of(row: &Row) -> Option<String> {
    let told = first(row, &["node", "Hostname", "hostname"]).filter(|h| !is_container(h));
    told.map(str::to_owned).or_else(|| {
        let instance = row.label("instance");
        (!instance.is_empty()).then(|| plain_host(instance).to_owned())
    })
}

/// Rows of the inventory: pure.
fn hosts(rows: &[Row], at: Timestamp) -> BTreeMap<String, Host> {
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    for row in rows {
        let (Some(value), Some(name)) = (row.number(), host_of(row)) else {
            continue;
        };
        let Some((figure, maker)) = row
            .label("s")
            .split_once('.')
            .and_then(|(figure, maker)| Some((DeviceStat::parse(figure)?, maker)))
        else {
            continue;
        };
        let uuid = match first(row, &["UUID", "uuid", "gpu_uuid"]) {
            Some(uuid) => uuid.to_owned(),
            None => format!("{name}/{}", first(row, &["gpu_id", "gpu"]).unwrap_or("0")),
        };
        let mig = first(row, &["GPU_I_ID"]).map(|id| MigInstance {
            profile: row.label("GPU_I_PROFILE").to_owned(),
            id: id.to_owned(),
        });
        let host = hosts.entry(name).or_default();
        host.addresses.insert(plain_host(row.label("instance")).to_owned());
        let device = host.devices.entry((uuid, mig)).or_default();
        device.maker = RESOURCES
            .iter()
            .find(|(_, name, _)| *name == maker)
            .map_or("", |(_, _, resource)| resource);
        let model = first(
            row,
            &[
                "modelName",
                "model_name",
                "card_model",
                "card_series",
                "name",
                "gpu_type",
            ],
        );
        device.model = device.model.take().or_else(|| model.map(str::to_owned));
        // GRES counts devices in the order of their files, whose number is the minor one.
        device.index = first(row, &["gpu", "gpu_id", "minor_number", "ordinal"])
            .and_then(|i| i.parse().ok())
            .or(device.index);
        let reading = device.reading.get_or_insert(GpuReading {
            at,
            gpu_util: None,
            gr_engine: None,
            sm_active: None,
            tensor: None,
            dram: None,
            power: None,
            memory_used: None,
            memory_total: None,
            energy_joules: None,
        });
        match figure {
            DeviceStat::Utilization => reading.gpu_util = Some(Ratio(value)),
            DeviceStat::Engine => reading.gr_engine = Some(Ratio(value)),
            DeviceStat::Sm => reading.sm_active = Some(Ratio(value)),
            DeviceStat::Tensor => reading.tensor = Some(Ratio(value)),
            DeviceStat::Dram => reading.dram = Some(Ratio(value)),
            DeviceStat::Power => reading.power = Some(Watts(value)),
            DeviceStat::Memory => reading.memory_used = (value >= 0.0).then_some(Bytes(value as u64)),
            // Of a window, not of an instant: not asked for here.
            DeviceStat::Busy => {}
        }
    }
    for host in hosts.values_mut() {
        let cut: BTreeSet<String> = host
            .devices
            .keys()
            .filter(|(_, mig)| mig.is_some())
            .map(|(uuid, _)| uuid.clone())
            .collect();
        // A card's own row beside its instances': never both.
        host.devices
            .retain(|(uuid, mig), _| mig.is_some() || !cut.contains(uuid));
    }
    hosts
}

fn node(name: &str, host: &Host) -> Node {
    let mut devices: BTreeMap<String, u64> = BTreeMap::new();
    for ((_, mig), device) in &host.devices {
        let resource = match mig {
            Some(mig) if !mig.profile.is_empty() => format!("nvidia.com/mig-{}", mig.profile.replace('+', ".")),
            _ => device.maker.to_owned(),
        };
        *devices.entry(resource).or_default() += 1;
    }
    let cards: BTreeSet<&str> = host.devices.keys().map(|(uuid, _)| uuid.as_str()).collect();
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    let first = host.devices.values().find(|d| d.model.is_some());
    if let Some((model, maker)) = first.and_then(|d| Some((d.model.as_ref()?, d.maker))) {
        let prefix = if maker == "amd.com/gpu" {
            "amd.com/gpu.product-name"
        } else {
            "nvidia.com/gpu.product"
        };
        // As GPU feature discovery writes it.
        labels.insert(prefix.into(), model.replace(' ', "-"));
        if maker == "nvidia.com/gpu" {
            labels.insert("nvidia.com/gpu.count".into(), cards.len().to_string());
        }
    }
    let amounts = Resources {
        devices,
        ..Resources::default()
    };
    Node {
        name: name.into(),
        labels,
        ready: Some(Condition {
            status: Some(true),
            ..Condition::default()
        }),
        capacity: amounts.clone(),
        allocatable: amounts,
        ..Node::default()
    }
}

fn scrapes(name: &str, host: &Host) -> Vec<GpuScrape> {
    let one = |((uuid, mig), device): (&DeviceKey, &Device)| GpuScrape {
        node: name.into(),
        uuid: Some(uuid.clone()),
        index: device.index,
        model: device.model.clone(),
        mig: mig.clone(),
        readings: device.reading.clone().into_iter().collect(),
        ..GpuScrape::default()
    };
    host.devices.iter().map(one).collect()
}

/// Servers that tell their model, on the hosts that have devices; and how many are elsewhere.
async fn servers(
    store: &Store,
    words: &Words,
    hosts: &BTreeMap<String, Host>,
    at: Timestamp,
) -> Result<(Vec<Pod>, usize), AskError> {
    let Some(query) = servers_asked(words) else {
        return Ok((Vec::new(), 0));
    };
    let time = stamp(store.by_its_clock(at));
    let told = store
        .query("/api/v1/query", &[("query", &query), ("time", &time)])
        .await?;
    Ok(pods(&told.data.result, hosts))
}

fn pods(rows: &[Row], hosts: &BTreeMap<String, Host>) -> (Vec<Pod>, usize) {
    let mut found: BTreeMap<(String, String), Pod> = BTreeMap::new();
    let mut elsewhere: BTreeSet<String> = BTreeSet::new();
    for row in rows {
        let instance = row.label("instance");
        let address = plain_host(instance);
        let host = hosts
            .iter()
            .find(|(name, host)| name.as_str() == address || host.addresses.contains(address));
        let Some((host, _)) = host else {
            elsewhere.insert(instance.to_owned());
            continue;
        };
        let metric = row.label("__name__").replace(':', "_");
        let engine = engine_of(&metric);
        let namespace = row.label("namespace").to_owned();
        let pod = found
            .entry((namespace.clone(), instance.to_owned()))
            .or_insert_with(|| Pod {
                namespace,
                name: instance.to_owned(),
                uid: instance.to_owned(),
                owner: Some(OwnerRef {
                    group: String::new(),
                    kind: "Server".into(),
                    name: instance.to_owned(),
                }),
                node: Some(host.clone()),
                phase: PodPhase::Running,
                containers: vec![Container {
                    name: "server".into(),
                    server: Some(Box::default()),
                    ready: true,
                    ..Container::default()
                }],
                ..Pod::default()
            });
        if let Some(server) = pod.containers[0].server.as_deref_mut() {
            let settings: &mut EngineSettings = server;
            settings.engine = settings.engine.or(engine);
            let model = first(row, &["model_name", "model", "model_id"]).map(str::to_owned);
            settings.model = settings.model.take().or(model);
        }
    }
    (found.into_values().collect(), elsewhere.len())
}

/// Whose name it is, with `_` for `:`.
fn engine_of(metric: &str) -> Option<EngineKind> {
    let told = |v: &Vocabulary| {
        let series = [LoadFigure::Running, LoadFigure::Requests]
            .into_iter()
            .flat_map(|f| v.series(f));
        series
            .flat_map(|s| v.names(s.name))
            .any(|name| name.replace(':', "_") == metric)
    };
    ENGINES
        .engines()
        .iter()
        .find(|e| told(&e.facts().vocabulary))
        .map(|e| e.facts().kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(labels: &[(&str, &str)], value: &str) -> Row {
        let metric: BTreeMap<&str, &str> = labels.iter().copied().collect();
        serde_json::from_value(serde_json::json!({"metric": metric, "value": [0, value]})).unwrap()
    }

    #[test]
    fn hosts_are_named_by_what_names_them() {
        for (address, host) in [
            ("10.0.0.7:9400", "10.0.0.7"),
            ("http://gpu-01:9400/metrics", "gpu-01"),
            ("gpu-01", "gpu-01"),
            ("[fd00::7]:9400", "[fd00::7]"),
        ] {
            assert_eq!(plain_host(address), host);
        }
        let at = Timestamp::UNIX_EPOCH;
        let rows = [
            row(
                &[
                    ("s", "power.nvidia"),
                    ("UUID", "GPU-a"),
                    ("Hostname", "gpu-01"),
                    ("instance", "10.0.0.7:9400"),
                    ("modelName", "NVIDIA H100 80GB HBM3"),
                    ("gpu", "0"),
                ],
                "650",
            ),
            row(
                &[
                    ("s", "util.nvidia"),
                    ("UUID", "GPU-a"),
                    ("Hostname", "gpu-01"),
                    ("instance", "10.0.0.7:9400"),
                    ("gpu", "0"),
                ],
                "0.9",
            ),
            // The exporter's container has no host name of its own.
            row(
                &[
                    ("s", "util.nvidia"),
                    ("UUID", "GPU-b"),
                    ("Hostname", "3f2a9c01be7d"),
                    ("instance", "10.0.0.8:9400"),
                ],
                "0",
            ),
        ];
        let found = hosts(&rows, at);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["10.0.0.8", "gpu-01"]);
        let card = &found["gpu-01"].devices[&("GPU-a".to_owned(), None)];
        let reading = card.reading.as_ref().unwrap();
        assert_eq!(
            (reading.power, reading.gpu_util, card.index),
            (Some(Watts(650.0)), Some(Ratio(0.9)), Some(0))
        );
        let node = node("gpu-01", &found["gpu-01"]);
        assert_eq!(node.capacity.devices["nvidia.com/gpu"], 1);
        assert_eq!(node.labels["nvidia.com/gpu.product"], "NVIDIA-H100-80GB-HBM3");
        let servers = [
            row(
                &[
                    ("__name__", "vllm:num_requests_running"),
                    ("instance", "10.0.0.7:8000"),
                    ("job", "vllm"),
                    ("model_name", "meta-llama/Llama-3.1-8B-Instruct"),
                ],
                "1",
            ),
            row(
                &[
                    ("__name__", "vllm:num_requests_running"),
                    ("instance", "10.9.9.9:8000"),
                    ("job", "vllm"),
                ],
                "1",
            ),
        ];
        let (pods, elsewhere) = pods(&servers, &found);
        assert_eq!((pods.len(), elsewhere), (1, 1));
        assert_eq!(pods[0].node.as_deref(), Some("gpu-01"));
        let server = pods[0].containers[0].server.as_deref().unwrap();
        assert_eq!(server.model.as_deref(), Some("meta-llama/Llama-3.1-8B-Instruct"));
    }

    #[test]
    fn a_card_cut_into_instances_is_counted_by_them() {
        let at = Timestamp::UNIX_EPOCH;
        let of = |more: &[(&str, &str)]| {
            let base = [
                ("s", "power.nvidia"),
                ("UUID", "GPU-a"),
                ("Hostname", "gpu-01"),
                ("modelName", "NVIDIA A100-SXM4-80GB"),
            ];
            row(&[&base[..], more].concat(), "90")
        };
        let rows = [
            of(&[]),
            of(&[("GPU_I_ID", "1"), ("GPU_I_PROFILE", "3g.40gb")]),
            of(&[("GPU_I_ID", "2"), ("GPU_I_PROFILE", "3g.40gb")]),
        ];
        let found = hosts(&rows, at);
        let node = node("gpu-01", &found["gpu-01"]);
        assert_eq!(
            node.capacity.devices,
            BTreeMap::from([("nvidia.com/mig-3g.40gb".to_owned(), 2)])
        );
        assert_eq!(node.labels["nvidia.com/gpu.count"], "1");
    }
}
