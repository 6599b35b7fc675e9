//! Rows into the history: pure.

use super::answer::Row;
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
        let tag = row.label("s").to_string();
        match tag.split('.').collect::<Vec<_>>().as_slice() {
            ["use", what] => self.used(row, what, value, scale, before),
            ["w", what, "total"] if before => self.worked(row, what, value, 1),
            _ if before => {}
            ["w", what, stat] => {
                if *stat == "total" {
                    self.worked(row, what, value, 0);
                }
                let load = entry(&mut self.workloads, row, words);
                workload_stat(load, what, stat, value, scale);
            }
            ["w", what] => workload_value(entry(&mut self.workloads, row, words), what, value, scale),
            ["p", "first"] => entry(&mut self.pods, row, words).first = time(value),
            ["p", what, stat] => {
                let load = entry(&mut self.pods, row, words);
                if let Some(figure) = load_figure(load, what) {
                    set(figure.get_or_insert_default(), stat, value, scale);
                }
            }
            ["h", what] => self.bucket(row, words, what, value),
            ["n", what] => {
                let node = self.nodes.entry(row.label("node").to_string()).or_default();
                match *what {
                    "p80" => node.allocated_p80 = value,
                    _ => node.bins = value * scale,
                }
            }
            ["dev", what] => self.device_life(row, words, what, value, scale),
            [figure, stat] => self.device_figure(row, words, figure, stat, value, scale),
            _ => {}
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

    fn device_life(&mut self, row: &Row, words: &Words, what: &str, value: f64, scale: f64) {
        let node = first(row, &["node", "Hostname", "hostname"]).to_string();
        let device = self.device(row, words);
        if !node.is_empty() {
            device.node = Some(node);
        }
        // The renamed host label splits a device's rows: they are one life.
        match what {
            "first" => device.first = device.first.into_iter().chain(time(value)).min(),
            "last" => device.last = device.last.into_iter().chain(time(value)).max(),
            "active" => device.last_active = device.last_active.into_iter().chain(time(value)).max(),
            _ => *device.day_bins.get_or_insert(0.0) += value * scale,
        }
    }

    fn device_figure(&mut self, row: &Row, words: &Words, figure: &str, stat: &str, value: f64, scale: f64) {
        let device = self.device(row, words);
        let place = match figure {
            "util" => &mut device.gpu_util,
            "gr" => &mut device.gr_engine,
            "sm" => &mut device.sm_active,
            "tensor" => &mut device.tensor,
            "dram" => &mut device.dram,
            "busy" => &mut device.busy,
            "power" => &mut device.power_watts,
            "fb" => &mut device.memory_used_bytes,
            _ => return,
        };
        set(place.get_or_insert_default(), stat, value, scale);
    }

    fn bucket(&mut self, row: &Row, words: &Words, what: &str, value: f64) {
        let load = entry(&mut self.workloads, row, words);
        let (kind, part) = what.split_once('_').unwrap_or((what, ""));
        let histogram = match kind {
            "ttft" => &mut load.time_to_first_token,
            "itl" => &mut load.inter_token_latency,
            "e2e" => &mut load.e2e_latency,
            "plen" => &mut load.prompt_length,
            "olen" => &mut load.output_length,
            _ => return,
        }
        .get_or_insert_default();
        match (part, row.label("le").parse::<f64>()) {
            ("sum", _) => histogram.sum = value,
            (_, Ok(le)) if le.is_finite() => histogram.buckets.push((le, value)),
            (_, Ok(_)) => histogram.count = value,
            _ => {}
        }
    }

    fn used(&mut self, row: &Row, what: &str, value: f64, scale: f64, before: bool) {
        let usage = &mut self.usage[usize::from(before)];
        if what == "bins" {
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
            "gpus" => place.gpu_bins += value * scale,
            "busy" => *place.busy_bins.get_or_insert(0.0) += value * scale,
            _ => {}
        }
    }

    fn worked(&mut self, row: &Row, what: &str, value: f64, window: usize) {
        let key = pod_key(row);
        let work = self.usage[window].work.entry(key.clone()).or_default();
        (work.namespace, work.name) = key;
        match what {
            "req" => work.requests = Some(value),
            "in" => work.prompt_tokens = Some(value),
            "out" => work.output_tokens = Some(value),
            _ => {}
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

fn load_figure<'a>(load: &'a mut LoadHistory, what: &str) -> Option<&'a mut Option<Figure>> {
    Some(match what {
        "run" => &mut load.running,
        "wait" => &mut load.waiting,
        "kv" => &mut load.kv_usage,
        "kvsum" => &mut load.kv_usage_sum,
        "req" => &mut load.requests,
        "in" => &mut load.prompt_tokens,
        "out" => &mut load.output_tokens,
        "pre" => &mut load.preemptions,
        "cpu" => &mut load.cpu_share,
        "thr" => &mut load.cpu_throttled,
        "busy" => &mut load.gpu_busy,
        "eng" => &mut load.gpu_engine,
        "rep" => &mut load.replicas,
        _ => return None,
    })
}

fn workload_stat(load: &mut LoadHistory, what: &str, stat: &str, value: f64, scale: f64) {
    match (what, stat) {
        ("rep", "low") => load.replicas_low = Some(value),
        ("req", "total") => load.requests_total = Some(value),
        ("in", "total") => load.prompt_tokens_total = Some(value),
        ("out", "total") => load.output_tokens_total = Some(value),
        ("pre", "total") => load.preemptions_total = Some(value),
        _ => {
            if let Some(figure) = load_figure(load, what) {
                set(figure.get_or_insert_default(), stat, value, scale);
            }
        }
    }
}

fn workload_value(load: &mut LoadHistory, what: &str, value: f64, scale: f64) {
    match what {
        "first" => load.first = time(value),
        "engfirst" => load.first = load.first.or(time(value)),
        "traffic" => load.traffic_bins = Some(value * scale),
        "kvbad" => load.kv_bad_bins = Some(value * scale),
        "cap" => load.replica_capacity = Some(value),
        "starved" => load.starved_bins = Some(value * scale),
        "starvedbusy" => load.starved_busy = Some(value),
        "fed" => load.fed_bins = Some(value * scale),
        "fedbusy" => load.fed_busy = Some(value),
        "restarts" => load.restarts = Some(value),
        "oom" => load.oom_kills = Some(value),
        "crash" => load.crashes_under_pressure = Some(value),
        _ => {}
    }
}

/// Rows of one figure may come in parts (a holder behind two labels): the part with more bins speaks, peaks of all.
fn set(figure: &mut Figure, stat: &str, value: f64, scale: f64) {
    match stat {
        "mean" => figure.mean = Some(value),
        "p50" => figure.p50 = Some(value),
        "p95" => figure.p95 = Some(figure.p95.map_or(value, |v| v.max(value))),
        "p99" => figure.p99 = Some(figure.p99.map_or(value, |v| v.max(value))),
        "max" => figure.max = Some(figure.max.map_or(value, |v| v.max(value))),
        "n" => figure.bins = Some(figure.bins.unwrap_or(0.0) + value * scale),
        _ => {}
    }
}
