//! Rows into the history: pure.

use super::answer::Row;
use super::tag::{DeviceStat, Done, Handed, Held, Life, Load, Observed, Series, Stat, Tag, Value};
use super::words::Words;
use crate::snapshot::engine::Histogram;
use crate::snapshot::gpu::{MigInstance, PodName};
use crate::snapshot::history::{
    Figure, GpuHistory, HeldGpus, History, LoadHistory, NodeHistory, UsageWindow, WorkDone,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

type DeviceKey = (String, String, Option<PodName>);
type PodKey = (String, String);

/// Collects rows of all queries.
#[derive(Default)]
pub(super) struct Reader {
    devices: BTreeMap<DeviceKey, GpuHistory>,
    pods: BTreeMap<PodKey, LoadHistory>,
    workloads: BTreeMap<PodKey, LoadHistory>,
    nodes: BTreeMap<String, NodeHistory>,
    /// This window, the one before.
    usage: [Usage; 2],
}

#[derive(Default)]
struct Usage {
    bins: Option<f64>,
    held: BTreeMap<[String; 4], HeldGpus>,
    work: BTreeMap<PodKey, WorkDone>,
}

/// An exporter's own pod is no holder: honorLabels leaves it on devices that nobody holds.
fn is_exporter(pod: &str, container: &str) -> bool {
    ["dcgm", "gpu-exporter", "metrics-exporter", "metric-exporter"]
        .iter()
        .any(|part| pod.contains(part))
        || matches!(container, "exporter")
}

fn first<'a>(row: &'a Row, labels: &[&str]) -> &'a str {
    labels
        .iter()
        .map(|l| row.label(l))
        .find(|v| !v.is_empty())
        .unwrap_or_default()
}

fn time(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond((seconds * 1000.0) as i64).ok()
}

impl Reader {
    /// One row of an instant query. `scale`: bins of a coarser question, in this history's bins.
    pub(super) fn row(&mut self, row: &Row, words: &Words, scale: f64, before: bool) {
        let Some(value) = row.number() else { return };
        // A row of nothing that was asked for says nothing.
        let Some(tag) = Tag::parse(row.label("s")) else { return };
        match tag {
            Tag::Held(what) => self.used(row, what, value, scale, before),
            Tag::WorkloadTotal(done) => {
                self.worked(row, done, value, usize::from(before));
                if !before {
                    total(entry(&mut self.workloads, row, words), done, value);
                }
            }
            _ if before => {}
            Tag::Workload(load, stat) => {
                let figure = load_figure(entry(&mut self.workloads, row, words), load);
                set(figure.get_or_insert_default(), stat, value, scale);
            }
            Tag::WorkloadLeast => entry(&mut self.workloads, row, words).replicas_low = Some(value),
            Tag::WorkloadValue(what) => workload_value(entry(&mut self.workloads, row, words), what, value, scale),
            Tag::PodFirst => entry(&mut self.pods, row, words).first = time(value),
            Tag::Pod(load, stat) => {
                let figure = load_figure(entry(&mut self.pods, row, words), load);
                set(figure.get_or_insert_default(), stat, value, scale);
            }
            Tag::Histogram(of, series) => self.bucket(row, words, of, series, value),
            Tag::Handed(what) => {
                let node = self.nodes.entry(row.label("node").to_string()).or_default();
                match what {
                    Handed::P80 => node.allocated_p80 = value,
                    Handed::Bins => node.bins = value * scale,
                }
            }
            Tag::Life(what) => self.device_life(row, words, what, value, scale),
            Tag::Device(figure, stat) => self.device_figure(row, words, figure, stat, value, scale),
            // Asked before the window is.
            Tag::Size(_) => {}
        }
    }

    fn device(&mut self, row: &Row, words: &Words) -> &mut GpuHistory {
        let pod = first(row, &["exported_pod", "pod"]);
        let namespace = first(row, &["exported_namespace", "namespace"]);
        let holder = (!pod.is_empty() && !is_exporter(pod, row.label("container"))).then(|| PodName {
            namespace: namespace.into(),
            name: pod.into(),
            container: None,
        });
        let uuid = row.label(words.uuid()).to_string();
        let instance = row.label("GPU_I_ID").to_string();
        let device = self
            .devices
            .entry((uuid.clone(), instance.clone(), holder.clone()))
            .or_default();
        device.uuid = uuid;
        device.holder = holder;
        if !instance.is_empty() {
            let profile = row.label("GPU_I_PROFILE");
            let mig = device.mig.get_or_insert_default();
            mig.id = instance;
            if !profile.is_empty() {
                mig.profile = profile.into();
            }
        }
        device
    }

    fn device_life(&mut self, row: &Row, words: &Words, what: Life, value: f64, scale: f64) {
        let node = first(row, &["node", "Hostname", "hostname"]).to_string();
        let device = self.device(row, words);
        if !node.is_empty() {
            device.node = Some(node);
        }
        // The renamed host label splits a device's rows: they are one life.
        match what {
            Life::First => device.first = device.first.into_iter().chain(time(value)).min(),
            Life::Last => device.last = device.last.into_iter().chain(time(value)).max(),
            Life::Active => device.last_active = device.last_active.into_iter().chain(time(value)).max(),
            Life::Day => *device.day_bins.get_or_insert(0.0) += value * scale,
        }
    }

    fn device_figure(&mut self, row: &Row, words: &Words, figure: DeviceStat, stat: Stat, value: f64, scale: f64) {
        let device = self.device(row, words);
        let place = match figure {
            DeviceStat::Utilization => &mut device.gpu_util,
            DeviceStat::Engine => &mut device.gr_engine,
            DeviceStat::Sm => &mut device.sm_active,
            DeviceStat::Tensor => &mut device.tensor,
            DeviceStat::Dram => &mut device.dram,
            DeviceStat::Busy => &mut device.busy,
            DeviceStat::Power => &mut device.power_watts,
            DeviceStat::Memory => &mut device.memory_used_bytes,
        };
        set(place.get_or_insert_default(), stat, value, scale);
    }

    fn bucket(&mut self, row: &Row, words: &Words, of: Observed, series: Series, value: f64) {
        let load = entry(&mut self.workloads, row, words);
        let histogram = match of {
            Observed::FirstToken => &mut load.time_to_first_token,
            Observed::InterToken => &mut load.inter_token_latency,
            Observed::Request => &mut load.e2e_latency,
            Observed::PromptLength => &mut load.prompt_length,
            Observed::OutputLength => &mut load.output_length,
        }
        .get_or_insert_default();
        match (series, row.label("le").parse::<f64>()) {
            (Series::Sum, _) => histogram.sum = value,
            (Series::Bucket, Ok(le)) if le.is_finite() => histogram.buckets.push((le, value)),
            (Series::Count, _) | (Series::Bucket, Ok(_)) => histogram.count = value,
            // A bucket without its bound is no bucket.
            (Series::Bucket, Err(_)) => {}
        }
    }

    fn used(&mut self, row: &Row, what: Held, value: f64, scale: f64, before: bool) {
        let usage = &mut self.usage[usize::from(before)];
        if what == Held::Bins {
            usage.bins = Some(usage.bins.unwrap_or(0.0) + value * scale);
            return;
        }
        let pod = row.label("w");
        let held = !pod.is_empty() && !is_exporter(pod, "");
        let name = |text: &str| if held { text.to_string() } else { String::new() };
        let key = [
            name(row.label("namespace")),
            name(pod),
            first(row, &["modelName", "model_name"]).to_string(),
            row.label("GPU_I_PROFILE").to_string(),
        ];
        let place = usage.held.entry(key.clone()).or_default();
        [place.namespace, place.name, place.model, place.profile] = key;
        match what {
            Held::Gpus => place.gpu_bins += value * scale,
            Held::Busy => *place.busy_bins.get_or_insert(0.0) += value * scale,
            Held::Bins => {}
        }
    }

    fn worked(&mut self, row: &Row, done: Done, value: f64, window: usize) {
        let key = pod_key(row);
        let work = self.usage[window].work.entry(key.clone()).or_default();
        (work.namespace, work.name) = key;
        match done {
            Done::Requests => work.requests = Some(value),
            Done::Prompt => work.prompt_tokens = Some(value),
            Done::Output => work.output_tokens = Some(value),
            // No work of its own.
            Done::Preemptions => {}
        }
    }

    /// Rows of the range query that makes the hourly profile.
    pub(super) fn hourly(&mut self, rows: &[Row], words: &Words, end: f64, hours: usize) {
        for row in rows {
            let load = entry(&mut self.workloads, row, words);
            load.hourly = vec![None; hours];
            for (at, value) in &row.values {
                let back = ((end - at) / 3600.0).round();
                let place = (back >= 0.0 && back < hours as f64).then(|| hours - 1 - back as usize);
                if let (Some(place), Some(value)) = (place, value.parse().ok().filter(|v: &f64| v.is_finite())) {
                    load.hourly[place] = Some((value * 1000.0).round() / 1000.0);
                }
            }
        }
    }

    pub(super) fn finish(self, history: &mut History, nodes: &BTreeSet<String>) {
        let mut gpus: Vec<GpuHistory> = self.devices.into_values().collect();
        let cut: BTreeSet<String> = gpus
            .iter()
            .filter(|g| g.mig.is_some())
            .map(|g| g.uuid.clone())
            .collect();
        // A card's own rows beside its instances': never add parent and children.
        gpus.retain(|g| g.mig.is_some() || !cut.contains(&g.uuid));
        profiles(&mut gpus);
        utilization_unit(&mut gpus);
        for gpu in &mut gpus {
            // The host label may be the exporter's pod: only a node's name is one.
            gpu.node = gpu.node.take().filter(|n| nodes.contains(n));
        }
        history.gpus = gpus;
        history.pods = finished(self.pods);
        history.workloads = finished(self.workloads);
        history.nodes = self
            .nodes
            .into_iter()
            .filter(|(name, _)| nodes.contains(name))
            .map(|(node, n)| NodeHistory { node, ..n })
            .collect();
        let window = jiff::SignedDuration::from_secs(history.window_seconds as i64);
        let [now, before] = self.usage;
        if let (Some(now_bins), Some(before_bins)) = (now.bins, before.bins) {
            let middle = history.end - window;
            history.usage = [(now, now_bins, history.end), (before, before_bins, middle)]
                .into_iter()
                .map(|(usage, bins, end)| UsageWindow {
                    start: end - window,
                    end,
                    bins,
                    held: usage.held.into_values().collect(),
                    work: usage.work.into_values().collect(),
                })
                .collect();
        }
    }
}

/// The profile stands only on the rows that asked for it.
fn profiles(gpus: &mut [GpuHistory]) {
    let known: BTreeMap<(String, String), String> = gpus
        .iter()
        .filter_map(|g| {
            let mig = g.mig.as_ref().filter(|m| !m.profile.is_empty())?;
            Some(((g.uuid.clone(), mig.id.clone()), mig.profile.clone()))
        })
        .collect();
    for gpu in gpus {
        if let Some(MigInstance { profile, id }) = gpu.mig.as_mut()
            && profile.is_empty()
            && let Some(found) = known.get(&(gpu.uuid.clone(), id.clone()))
        {
            profile.clone_from(found);
        }
    }
}

/// GPU_UTIL is percent under its old name, 0–1 under its new one; recording rules and 4.6's aliases break both. It was
/// read by name: the values of the whole store say whether that was right, and where only 0 and 1 were seen nobody knows.
fn utilization_unit(gpus: &mut [GpuHistory]) {
    let max = gpus.iter().filter_map(|g| g.gpu_util?.max).fold(0.0, f64::max);
    let factor = match max {
        m if m <= 0.0 => return,
        m if m > 1.5 => 0.01,
        m if m > 0.0101 => 1.0,
        m if m < 0.0099 => 100.0,
        _ => f64::NAN,
    };
    for gpu in gpus {
        if factor.is_nan() {
            gpu.gpu_util = gpu.gpu_util.filter(|f| f.max == Some(0.0));
        } else if let Some(figure) = gpu.gpu_util.as_mut() {
            for value in [
                &mut figure.mean,
                &mut figure.p50,
                &mut figure.p95,
                &mut figure.p99,
                &mut figure.max,
            ] {
                *value = value.map(|v| v * factor);
            }
        }
    }
}

fn finished(loads: BTreeMap<PodKey, LoadHistory>) -> Vec<LoadHistory> {
    loads
        .into_iter()
        .filter(|((_, name), _)| !name.is_empty())
        .map(|((namespace, name), mut load)| {
            (load.namespace, load.name) = (namespace, name);
            for histogram in [
                &mut load.e2e_latency,
                &mut load.time_to_first_token,
                &mut load.inter_token_latency,
                &mut load.prompt_length,
                &mut load.output_length,
            ] {
                tidy(histogram);
            }
            load
        })
        .collect()
}

fn tidy(histogram: &mut Option<Histogram>) {
    if let Some(h) = histogram.as_mut() {
        h.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        h.buckets.dedup_by(|a, b| a.0.total_cmp(&b.0).is_eq());
    }
    if histogram.as_ref().is_some_and(|h| h.count <= 0.0 && h.sum <= 0.0) {
        *histogram = None;
    }
}

fn pod_key(row: &Row) -> PodKey {
    (row.label("namespace").to_string(), row.label("w").to_string())
}

fn entry<'a>(loads: &'a mut BTreeMap<PodKey, LoadHistory>, row: &Row, words: &Words) -> &'a mut LoadHistory {
    let (namespace, pod) = words.pod_labels();
    let key = (
        first(row, &["namespace", namespace]).to_string(),
        first(row, &["w", "pod", pod]).to_string(),
    );
    loads.entry(key).or_default()
}

fn load_figure(load: &mut LoadHistory, what: Load) -> &mut Option<Figure> {
    match what {
        Load::Running => &mut load.running,
        Load::Waiting => &mut load.waiting,
        Load::Kv => &mut load.kv_usage,
        Load::KvSum => &mut load.kv_usage_sum,
        Load::Requests => &mut load.requests,
        Load::Prompt => &mut load.prompt_tokens,
        Load::Output => &mut load.output_tokens,
        Load::Preemptions => &mut load.preemptions,
        Load::Cpu => &mut load.cpu_share,
        Load::Throttled => &mut load.cpu_throttled,
        Load::Busy => &mut load.gpu_busy,
        Load::Engine => &mut load.gpu_engine,
        Load::Replicas => &mut load.replicas,
    }
}

fn total(load: &mut LoadHistory, done: Done, value: f64) {
    *match done {
        Done::Requests => &mut load.requests_total,
        Done::Prompt => &mut load.prompt_tokens_total,
        Done::Output => &mut load.output_tokens_total,
        Done::Preemptions => &mut load.preemptions_total,
    } = Some(value);
}

fn workload_value(load: &mut LoadHistory, what: Value, value: f64, scale: f64) {
    match what {
        Value::First => load.first = time(value),
        Value::EngineFirst => load.first = load.first.or(time(value)),
        Value::Traffic => load.traffic_bins = Some(value * scale),
        Value::KvBad => load.kv_bad_bins = Some(value * scale),
        Value::Capacity => load.replica_capacity = Some(value),
        Value::Starved => load.starved_bins = Some(value * scale),
        Value::StarvedBusy => load.starved_busy = Some(value),
        Value::Fed => load.fed_bins = Some(value * scale),
        Value::FedBusy => load.fed_busy = Some(value),
        Value::Restarts => load.restarts = Some(value),
        Value::OomKills => load.oom_kills = Some(value),
        Value::Crashes => load.crashes_under_pressure = Some(value),
    }
}

/// Rows of one figure may come in parts (a holder behind two labels): the part with more bins speaks, peaks of all.
fn set(figure: &mut Figure, stat: Stat, value: f64, scale: f64) {
    match stat {
        Stat::Mean => figure.mean = Some(value),
        Stat::P50 => figure.p50 = Some(value),
        Stat::P95 => figure.p95 = Some(figure.p95.map_or(value, |v| v.max(value))),
        Stat::P99 => figure.p99 = Some(figure.p99.map_or(value, |v| v.max(value))),
        Stat::Max => figure.max = Some(figure.max.map_or(value, |v| v.max(value))),
        Stat::Bins => figure.bins = Some(figure.bins.unwrap_or(0.0) + value * scale),
    }
}
