//! The border: figures that cannot be (negative, absurd, of another age) become unread, whoever told them, and are named.
//! What is within bounds may still be wrong, but no sum of it wraps and no product of it is infinite.

use super::cluster::{Cluster, Condition, Container, ContainerState, Node, Pod, Resources};
use super::engine::{EngineReading, EngineScrape, Histogram, ServerIdentity};
use super::gpu::{GpuReading, GpuScrape};
use super::history::{Figure, History, LoadHistory};
use super::{Gap, Snapshot};
use crate::units::{Bytes, Ratio, Watts};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// Kubernetes' first commit is of June 2014; nothing that is scanned is older.
const FIRST: i64 = 1_402_000_000;
/// No object is of a later time than a day after the scan: clocks differ by less.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Devices of one resource on one node: shares of memory are counted in megabytes.
const DEVICES: u64 = 1_000_000;
/// A million cores.
const MILLI_CORES: u64 = 1_000_000_000;
/// An exabyte.
const BYTES: u64 = 1 << 60;
/// Pods of one controller: Kubernetes is tested to 150,000 pods in all.
const REPLICAS: u64 = 1_000_000;
/// Tokens that one request may hold; models have been shown to 10⁷.
const CONTEXT: u64 = 1_000_000_000;
/// Tokens of one KV cache: 10¹¹ tokens of the smallest known cache row (about 1 kB) are 100 TB.
const KV_TOKENS: u64 = 100_000_000_000;
/// Tokens of one block: hybrid models pad theirs to a few thousand.
const BLOCK: u64 = 1 << 20;
/// What counters reach: 10¹⁵ tokens are 30 years of a million a second.
const COUNTED: f64 = 1e15;
/// Requests at once on one server.
const AT_ONCE: f64 = 1e9;
/// One card draws 1.4 kW at most today.
const WATTS: f64 = 10_000.0;

/// What is odd, by what it is of.
#[derive(Default)]
struct Odd(BTreeMap<String, Vec<&'static str>>);

/// The things one object's figures are checked with.
struct Checker<'a> {
    odd: &'a mut Odd,
    who: String,
    latest: Timestamp,
}

impl<'a> Checker<'a> {
    fn new(odd: &'a mut Odd, latest: Timestamp, who: String) -> Self {
        Self { odd, who, latest }
    }

    fn say(&mut self, what: &'static str) {
        let all = self.odd.0.entry(self.who.clone()).or_default();
        if !all.contains(&what) {
            all.push(what);
        }
    }

    fn keep<T>(&mut self, value: &mut Option<T>, what: &'static str, is: impl Fn(&T) -> bool) {
        if value.as_ref().is_some_and(|v| !is(v)) {
            *value = None;
            self.say(what);
        }
    }

    fn count(&mut self, value: &mut Option<u64>, most: u64, what: &'static str) {
        self.keep(value, what, |v| *v <= most);
    }

    fn number(&mut self, value: &mut Option<f64>, most: f64, what: &'static str) {
        self.keep(value, what, |v| (0.0..=most).contains(v));
    }

    fn share(&mut self, value: &mut Option<Ratio>, what: &'static str) {
        // Counters of one moment may be a little above 1.
        self.keep(value, what, |v| (0.0..=1.5).contains(&v.0));
    }

    fn time(&mut self, value: &mut Option<Timestamp>, what: &'static str) {
        let latest = self.latest;
        self.keep(value, what, |at| at.as_second() >= FIRST && *at <= latest);
    }

    fn condition(&mut self, condition: &mut Option<Condition>, what: &'static str) {
        if let Some(condition) = condition {
            self.time(&mut condition.since, what);
        }
    }
}

/// Unreads what cannot be, everywhere.
pub fn check(snapshot: &mut Snapshot) -> Vec<Gap> {
    let latest = snapshot.taken_at.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
    let mut gaps = Vec::new();
    for cluster in &mut snapshot.clusters {
        let mut odd = Odd::default();
        of_cluster(cluster, latest, &mut odd);
        gaps.extend(odd.gaps(&cluster.name));
    }
    gaps
}

impl Odd {
    fn gaps(self, cluster: &str) -> Vec<Gap> {
        let mut by_what: BTreeMap<Vec<&'static str>, Vec<String>> = BTreeMap::new();
        for (who, what) in self.0 {
            by_what.entry(what).or_default().push(who);
        }
        let gap = |(what, who): (Vec<&'static str>, Vec<String>)| {
            const SHOWN: usize = 3;
            let shown = who[..who.len().min(SHOWN)].join(", ");
            let more = match who.len().saturating_sub(SHOWN) {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            Gap {
                source: format!("cluster {cluster}"),
                what: format!("{} of {shown}{more}", what.join(", ")),
                reason: "they are negative, absurd, or of a time that cannot be".into(),
                effect: "they count as unread".into(),
                remedy: "look at who tells them".into(),
            }
        };
        by_what.into_iter().map(gap).collect()
    }
}

fn of_cluster(cluster: &mut Cluster, latest: Timestamp, odd: &mut Odd) {
    for node in cluster.nodes.iter_mut().flatten() {
        of_node(node, &mut Checker::new(odd, latest, format!("node {}", node.name)));
    }
    for pod in &mut cluster.pods {
        of_pod(
            pod,
            &mut Checker::new(odd, latest, format!("pod {}/{}", pod.namespace, pod.name)),
        );
    }
    for controller in &mut cluster.controllers {
        let c = &mut Checker::new(
            odd,
            latest,
            format!("{} {}/{}", controller.kind, controller.namespace, controller.name),
        );
        c.count(&mut controller.replicas, REPLICAS, "replicas");
        c.count(&mut controller.group_size, REPLICAS, "group size");
        c.time(&mut controller.created_at, "creation time");
        c.time(&mut controller.completed_at, "completion time");
    }
    for autoscaler in cluster.autoscalers.iter_mut().flatten() {
        // An absurd minimum holds whatever it is the minimum of: it is cut, not dropped.
        autoscaler.min_replicas = autoscaler.min_replicas.min(REPLICAS);
        autoscaler.max_replicas = autoscaler.max_replicas.min(REPLICAS);
    }
    for budget in cluster.disruption_budgets.iter_mut().flatten() {
        budget.desired_healthy = budget.desired_healthy.map(|n| n.min(REPLICAS));
    }
    for usage in cluster.pod_usage.iter_mut().flatten() {
        usage.cpu.retain(|_, cores| cores.0 <= MILLI_CORES);
    }
    if let Some(dra) = &mut cluster.dra {
        for device in dra.pools.iter_mut().flatten().flat_map(|p| &mut p.devices) {
            let c = &mut Checker::new(odd, latest, format!("DRA device {}", device.name));
            c.keep(&mut device.memory, "memory", |m| m.0 <= BYTES);
        }
        for claim in dra.claims.iter_mut().flatten() {
            let c = &mut Checker::new(odd, latest, format!("claim {}/{}", claim.namespace, claim.name));
            c.time(&mut claim.created_at, "creation time");
            for request in &mut claim.requests {
                c.count(&mut request.count, DEVICES, "devices asked for");
            }
        }
    }
    for gpu in &mut cluster.gpus {
        let name = gpu.uuid.clone().unwrap_or_default();
        of_gpu(
            gpu,
            &mut Checker::new(odd, latest, format!("GPU {name} on {}", gpu.node)),
        );
    }
    for engine in &mut cluster.engines {
        of_engine(
            engine,
            &mut Checker::new(odd, latest, format!("server {}/{}", engine.namespace, engine.pod)),
        );
    }
    if let Some(history) = &mut cluster.history {
        of_history(
            history,
            &mut Checker::new(odd, latest, format!("history in {}", history.store)),
        );
    }
}

fn of_node(node: &mut Node, c: &mut Checker<'_>) {
    let known = node.created_at.is_some();
    c.time(&mut node.created_at, "creation time");
    // As where the collector finds it: what the API always has is not there.
    node.unread |= known && node.created_at.is_none();
    c.condition(&mut node.ready, "Ready condition");
    c.time(&mut node.unused_since, "last use");
    if let Some(outage) = &mut node.outage {
        c.time(&mut outage.since, "outage");
    }
    for taint in &mut node.taints {
        c.time(&mut taint.since, "taints");
    }
    of_resources(&mut node.capacity, c);
    of_resources(&mut node.allocatable, c);
}

fn of_resources(resources: &mut Resources, c: &mut Checker<'_>) {
    let mut lost = Vec::new();
    if resources.cpu.is_some_and(|m| m.0 > MILLI_CORES) {
        resources.cpu = None;
        lost.push("cpu".to_string());
    }
    if resources.memory.is_some_and(|m| m.0 > BYTES) {
        resources.memory = None;
        lost.push("memory".to_string());
    }
    if resources.pods.is_some_and(|p| p > REPLICAS) {
        resources.pods = None;
        lost.push("pods".to_string());
    }
    resources.devices.retain(|name, count| {
        let fits = *count <= DEVICES;
        lost.extend((!fits).then(|| name.clone()));
        fits
    });
    if !lost.is_empty() {
        c.say("resources");
        resources.unread.extend(lost);
    }
}

fn of_pod(pod: &mut Pod, c: &mut Checker<'_>) {
    let known = pod.created_at.is_some();
    c.time(&mut pod.created_at, "creation time");
    pod.unread |= known && pod.created_at.is_none();
    c.time(&mut pod.started_at, "start time");
    let most = pod.gpu_indices.len();
    pod.gpu_indices.retain(|i| u64::from(*i) < DEVICES);
    if pod.gpu_indices.len() < most {
        c.say("indices of GPUs");
        pod.unread = true;
    }
    c.condition(&mut pod.ready, "Ready condition");
    c.condition(&mut pod.scheduled, "PodScheduled condition");
    for container in &mut pod.containers {
        of_container(container, c);
    }
}

fn of_container(container: &mut Container, c: &mut Checker<'_>) {
    of_resources(&mut container.requests, c);
    of_resources(&mut container.limits, c);
    if let Some(ContainerState::Running { since }) = &mut container.state {
        c.time(since, "start of a container");
    }
    if let Some(exit) = &mut container.last_exit {
        c.time(&mut exit.finished_at, "end of a container");
    }
    // Of a startup probe that waits for years nobody waits longer than for one that waits for a year.
    container.startup_seconds = container.startup_seconds.map(|s| s.min(31_536_000));
}

fn of_gpu(gpu: &mut GpuScrape, c: &mut Checker<'_>) {
    for reading in &mut gpu.readings {
        of_gpu_reading(reading, c);
    }
}

fn of_gpu_reading(r: &mut GpuReading, c: &mut Checker<'_>) {
    for (value, what) in [
        (&mut r.gpu_util, "utilization"),
        (&mut r.gr_engine, "engine activity"),
        (&mut r.sm_active, "SM activity"),
        (&mut r.tensor, "tensor activity"),
        (&mut r.dram, "memory activity"),
    ] {
        c.share(value, what);
    }
    c.keep(&mut r.power, "power", |w: &Watts| (0.0..=WATTS).contains(&w.0));
    c.keep(&mut r.memory_used, "memory", |m: &Bytes| m.0 <= BYTES);
    c.keep(&mut r.memory_total, "memory", |m: &Bytes| m.0 <= BYTES);
    c.number(&mut r.energy_joules, 1e18, "energy");
}

fn of_engine(engine: &mut EngineScrape, c: &mut Checker<'_>) {
    // One in the future tells of a clock that is ahead, whose ages are not believed: without it the container's start would
    // stand for it.
    c.keep(&mut engine.process_started_at, "process start", |at| {
        at.as_second() >= FIRST
    });
    of_identity(&mut engine.identity, c);
    for reading in &mut engine.readings {
        of_reading(reading, c);
    }
}

fn of_identity(i: &mut ServerIdentity, c: &mut Checker<'_>) {
    c.count(&mut i.max_model_len, CONTEXT, "context length");
    c.count(&mut i.kv_blocks, KV_TOKENS, "KV blocks");
    c.count(&mut i.block_size, BLOCK, "KV block size");
    c.keep(&mut i.kv_capacity, "KV cache size", |t| t.0 <= KV_TOKENS);
    if i.kv_blocks.is_none() || i.block_size.is_none() {
        (i.kv_blocks, i.block_size) = (None, None);
    }
    c.number(&mut i.gpu_memory_utilization, 1.0, "memory share");
}

fn of_reading(r: &mut EngineReading, c: &mut Checker<'_>) {
    c.number(&mut r.running, AT_ONCE, "running requests");
    c.number(&mut r.waiting, AT_ONCE, "waiting requests");
    c.number(&mut r.kv_usage, 1.5, "KV use");
    for (value, what) in [
        (&mut r.requests, "requests"),
        (&mut r.prompt_tokens, "prompt tokens"),
        (&mut r.output_tokens, "output tokens"),
        (&mut r.preemptions, "preemptions"),
        (&mut r.prefix_queries, "prefix queries"),
        (&mut r.prefix_hits, "prefix hits"),
    ] {
        c.number(value, COUNTED, what);
    }
    for value in [
        &mut r.e2e_latency,
        &mut r.time_to_first_token,
        &mut r.inter_token_latency,
        &mut r.prompt_length,
        &mut r.output_length,
    ] {
        c.keep(value, "histograms", is_histogram);
    }
}

/// Sums and counts are counted, and buckets stand in order.
fn is_histogram(h: &Histogram) -> bool {
    let counted = |v: f64| (0.0..=COUNTED).contains(&v);
    counted(h.sum)
        && counted(h.count)
        && h.buckets.iter().all(|(bound, n)| bound.is_finite() && counted(*n))
        && h.buckets.is_sorted_by(|a, b| a.0 < b.0)
}

fn of_history(history: &mut History, c: &mut Checker<'_>) {
    for gpu in &mut history.gpus {
        c.time(&mut gpu.first, "first samples");
        c.time(&mut gpu.last, "last samples");
        c.number(&mut gpu.day_bins, 1e6, "bins");
        for figure in [
            &mut gpu.gpu_util,
            &mut gpu.gr_engine,
            &mut gpu.sm_active,
            &mut gpu.tensor,
            &mut gpu.dram,
            &mut gpu.busy,
        ] {
            of_figure(figure, 1.5, "activity", c);
        }
        of_figure(&mut gpu.power_watts, WATTS, "power", c);
        of_figure(&mut gpu.memory_used_bytes, BYTES as f64, "memory", c);
    }
    for load in history.pods.iter_mut().chain(&mut history.workloads) {
        of_load(load, c);
    }
    history.nodes.retain(|n| {
        let fits = (0.0..=DEVICES as f64).contains(&n.allocated_p80) && (0.0..=1e6).contains(&n.bins);
        if !fits {
            c.say("allocation");
        }
        fits
    });
    // One figure that cannot be makes the whole comparison one that cannot be made.
    let sound = history.usage.iter().all(|w| {
        let counted = |v: Option<f64>| v.is_none_or(|v| (0.0..=COUNTED).contains(&v));
        counted(Some(w.bins))
            && w.held.iter().all(|h| counted(Some(h.gpu_bins)) && counted(h.busy_bins))
            && w.work
                .iter()
                .all(|d| counted(d.requests) && counted(d.prompt_tokens) && counted(d.output_tokens))
    });
    if !sound {
        history.usage.clear();
        c.say("usage of two windows");
    }
}

fn of_figure(figure: &mut Option<Figure>, most: f64, what: &'static str, c: &mut Checker<'_>) {
    c.keep(figure, what, |f| {
        let values = [f.mean, f.p50, f.p95, f.p99, f.max];
        values.into_iter().flatten().all(|v| (0.0..=most).contains(&v))
            && f.bins.is_none_or(|b| (0.0..=1e6).contains(&b))
    });
}

fn of_load(load: &mut LoadHistory, c: &mut Checker<'_>) {
    c.time(&mut load.first, "first samples");
    for (figure, most) in [
        (&mut load.running, AT_ONCE),
        (&mut load.waiting, AT_ONCE),
        // Some engines write percent.
        (&mut load.kv_usage, 150.0),
        (&mut load.kv_usage_sum, 1e7),
        (&mut load.requests, COUNTED),
        (&mut load.prompt_tokens, COUNTED),
        (&mut load.output_tokens, COUNTED),
        (&mut load.preemptions, COUNTED),
        (&mut load.replicas, REPLICAS as f64),
        (&mut load.cpu_share, 1e6),
        (&mut load.cpu_throttled, 1.5),
        (&mut load.gpu_busy, 1.5),
        (&mut load.gpu_engine, 1.5),
    ] {
        of_figure(figure, most, "load", c);
    }
    for value in [
        &mut load.requests_total,
        &mut load.prompt_tokens_total,
        &mut load.output_tokens_total,
        &mut load.preemptions_total,
        &mut load.traffic_bins,
        &mut load.kv_bad_bins,
        &mut load.replicas_low,
        &mut load.replica_capacity,
        &mut load.starved_bins,
        &mut load.starved_busy,
        &mut load.fed_bins,
        &mut load.fed_busy,
        &mut load.restarts,
        &mut load.oom_kills,
        &mut load.crashes_under_pressure,
    ] {
        c.number(value, COUNTED, "load");
    }
    for value in [
        &mut load.e2e_latency,
        &mut load.time_to_first_token,
        &mut load.inter_token_latency,
        &mut load.prompt_length,
        &mut load.output_length,
    ] {
        c.keep(value, "histograms", is_histogram);
    }
    if load.hourly.iter().flatten().any(|v| !(0.0..=COUNTED).contains(v)) {
        load.hourly.clear();
        c.say("hourly work");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::SCHEMA;
    use crate::units::Tokens;

    fn snapshot(cluster: Cluster) -> Snapshot {
        Snapshot {
            schema: SCHEMA,
            tool_version: String::new(),
            taken_at: "2026-06-01T00:00:00Z".parse().unwrap(),
            window_seconds: None,
            observe_seconds: None,
            clusters: vec![cluster],
            sources: Vec::new(),
            gaps: Vec::new(),
        }
    }

    fn server(identity: ServerIdentity, reading: EngineReading) -> Cluster {
        Cluster {
            engines: vec![EngineScrape {
                namespace: "ml".into(),
                pod: "p".into(),
                pod_uid: String::new(),
                container: "c".into(),
                port: 8000,
                engine: None,
                identity,
                process_started_at: None,
                readings: vec![reading],
            }],
            ..Cluster::default()
        }
    }

    #[test]
    fn a_cache_of_two_to_the_sixtieth_blocks_is_unread() {
        let mut one = snapshot(server(
            ServerIdentity {
                kv_blocks: Some((1 << 60) + 1),
                block_size: Some(16),
                kv_capacity: Some(Tokens(1 << 62)),
                max_model_len: Some(8192),
                ..ServerIdentity::default()
            },
            EngineReading {
                requests: Some(-1.0),
                output_tokens: Some(5.0),
                ..EngineReading::nothing(Timestamp::UNIX_EPOCH)
            },
        ));
        let gaps = check(&mut one);
        let engine = &one.clusters[0].engines[0];
        assert_eq!(
            (
                engine.identity.kv_blocks,
                engine.identity.kv_capacity,
                engine.identity.max_model_len
            ),
            (None, None, Some(8192))
        );
        assert_eq!(
            (engine.readings[0].requests, engine.readings[0].output_tokens),
            (None, Some(5.0))
        );
        assert_eq!(gaps.len(), 1);
        for word in ["KV blocks", "KV cache size", "requests", "server ml/p"] {
            assert!(gaps[0].what.contains(word), "{}", gaps[0].what);
        }
    }

    #[test]
    fn times_of_another_age_are_unread() {
        for (text, reads) in [
            ("2026-05-01T00:00:00Z", true),
            ("2026-06-01T12:00:00Z", true),
            ("1969-12-31T23:59:59Z", false),
            ("0001-01-01T00:00:00Z", false),
            ("9999-01-01T00:00:00Z", false),
        ] {
            let at: Option<Timestamp> = Some(text.parse().unwrap());
            let mut one = snapshot(Cluster {
                nodes: Some(vec![Node {
                    created_at: at,
                    ..Node::default()
                }]),
                pods: vec![Pod {
                    created_at: at,
                    ..Pod::default()
                }],
                ..Cluster::default()
            });
            let gaps = check(&mut one);
            let cluster = &one.clusters[0];
            let (node, pod) = (&cluster.nodes.as_ref().unwrap()[0], &cluster.pods[0]);
            assert_eq!(
                (node.created_at.is_some(), pod.created_at.is_some()),
                (reads, reads),
                "{text}"
            );
            assert_eq!((node.unread, pod.unread), (!reads, !reads), "{text}");
            assert_eq!(gaps.is_empty(), reads);
        }
    }

    #[test]
    fn amounts_beyond_any_node_are_named() {
        let mut one = snapshot(Cluster {
            nodes: Some(vec![Node {
                capacity: Resources {
                    devices: [("nvidia.com/gpu".to_string(), u64::MAX)].into(),
                    ..Resources::default()
                },
                ..Node::default()
            }]),
            ..Cluster::default()
        });
        check(&mut one);
        let capacity = &one.clusters[0].nodes.as_ref().unwrap()[0].capacity;
        assert!(capacity.devices.is_empty());
        assert_eq!(capacity.unread, ["nvidia.com/gpu"]);
    }
}
