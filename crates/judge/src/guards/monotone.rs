//! A read that fails, or a series that is not there, never makes a scan surer, dearer or better covered.

use super::invariants::{FLEETS, hold};
use super::{Dice, Judged, fleets, judge};
use crate::analyze::finding::{Confidence, Finding, Subject};
use crate::catalog::prices::PriceBook;
use crate::fleet::Fleet;
use crate::snapshot::cluster::{ClockOf, Cluster, ServerClock, Unread, UnreadKind};
use crate::snapshot::engine::{EngineReading, EngineScrape};
use crate::snapshot::gpu::{Generation, GpuReading, GpuScrape};
use crate::snapshot::{Gap, Snapshot, Source, SourceKind, SourceStatus};
use crate::units::{Ratio, UsdPerHour};
use std::collections::{BTreeMap, BTreeSet};

/// Reads that can fail, as the collector records it when they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lost {
    Cluster,
    Nodes,
    Pods,
    /// All pods but those of some namespaces that the caller may read.
    OtherNamespaces,
    /// One of the namespaces that `-n` names, under namespaced rights.
    Namespace,
    Owners,
    Autoscalers,
    Budgets,
    Uid,
    PodUsage,
    /// An exporter's page.
    Exporter,
    /// One device on it.
    Device,
    /// A label: who holds a device.
    Holders,
    DeviceSeries,
    DeviceSample,
    /// A server's endpoint.
    Engine,
    /// What a server says of itself, beside its metrics.
    Identity,
    EngineSeries,
    EngineSample,
    ProcessStart,
    History,
    /// Some of the store's answers.
    HistoryPart,
    /// pods/proxy in one namespace, by the API server's own refusal: pages of engines and exporters.
    Proxy,
    /// services/proxy: the store's.
    Store,
    /// Under `-n`, the list of all pods fails, and those of the namespaces are read.
    Outside,
    /// A clock is an hour from ours: the API server's, the store's, a node's, a server's.
    Clock,
    StoreClock,
    NodeClock,
    PodClock,
    /// What custom resources say beside pods, groups that are served, pods of `-l`, settings in ConfigMaps.
    Described,
    Groups,
    Selector,
    ConfigMap,
}

/// Where exporters run.
const EXPORTERS: &str = "gpu-operator";

pub(super) const ALL: &[Lost] = &[
    Lost::Cluster,
    Lost::Nodes,
    Lost::Pods,
    Lost::OtherNamespaces,
    Lost::Namespace,
    Lost::Owners,
    Lost::Autoscalers,
    Lost::Budgets,
    Lost::Uid,
    Lost::PodUsage,
    Lost::Exporter,
    Lost::Device,
    Lost::Holders,
    Lost::DeviceSeries,
    Lost::DeviceSample,
    Lost::Engine,
    Lost::Identity,
    Lost::EngineSeries,
    Lost::EngineSample,
    Lost::ProcessStart,
    Lost::History,
    Lost::HistoryPart,
    Lost::Proxy,
    Lost::Store,
    Lost::Outside,
    Lost::Clock,
    Lost::StoreClock,
    Lost::NodeClock,
    Lost::PodClock,
    Lost::Described,
    Lost::Groups,
    Lost::Selector,
    Lost::ConfigMap,
];

fn gap(what: &str) -> Gap {
    Gap {
        source: "kubernetes".into(),
        what: what.into(),
        reason: "403 Forbidden".into(),
        effect: "not judged".into(),
        remedy: "grant it".into(),
    }
}

fn skewed(cluster: &mut Cluster, of: ClockOf, namespace: Option<String>, name: Option<String>) -> bool {
    cluster.clocks.push(ServerClock {
        of,
        namespace,
        name,
        ahead_seconds: 3600,
    });
    true
}

/// The snapshot that the collector would have written had this read failed; `false`: there was nothing to lose.
pub(super) fn lose(snapshot: &mut Snapshot, lost: Lost, dice: &mut Dice) -> bool {
    let at = dice.below(snapshot.clusters.len() as u64) as usize;
    snapshot.gaps.push(gap(&format!("{lost:?}")));
    if lost == Lost::Cluster {
        if snapshot.clusters.len() < 2 {
            return false;
        }
        let gone = snapshot.clusters.remove(at);
        snapshot.sources.push(Source {
            kind: SourceKind::Kubernetes,
            name: gone.name.clone(),
            status: SourceStatus::Failed,
            detail: "connection refused".into(),
            named: false,
        });
        for source in snapshot.sources.iter_mut().filter(|s| s.name == gone.name) {
            source.status = SourceStatus::Failed;
        }
        return true;
    }
    let cluster = &mut snapshot.clusters[at];
    match lost {
        Lost::Cluster => false,
        Lost::Nodes => {
            cluster
                .pods
                .retain(|p| p.containers.iter().any(|c| !c.requests.devices.is_empty()));
            cluster.nodes.take().is_some()
        }
        Lost::Pods => {
            cluster.pods_read.complete = false;
            forget_pods(cluster, |_| false);
            true
        }
        Lost::OtherNamespaces => {
            let kept = namespaces(cluster, dice);
            cluster.pods_read.complete = false;
            cluster.pods_read.namespaces.clone_from(&kept);
            forget_pods(cluster, |namespace| kept.iter().any(|k| k == namespace));
            true
        }
        Lost::Namespace => {
            if cluster.pods_read.namespaces.is_empty() {
                cluster.pods_read.namespaces = namespaces(cluster, dice);
                cluster.pods_read.complete = false;
                let kept = cluster.pods_read.namespaces.clone();
                forget_pods(cluster, |namespace| kept.iter().any(|k| k == namespace));
            }
            let Some(refused) = cluster.pods_read.namespaces.iter().find(|n| *n != EXPORTERS).cloned() else {
                return false;
            };
            cluster.pods_read.refused.push(refused.clone());
            forget_pods(cluster, |namespace| namespace != refused);
            true
        }
        Lost::Owners => {
            let kinds = ["Deployment", "StatefulSet", "LeaderWorkerSet", "Job", "CronJob"];
            let kind = *dice.pick(&kinds);
            cluster.owners_refused.push(kind.into());
            let before = cluster.controllers.len();
            cluster.controllers.retain(|c| c.kind != kind);
            cluster.controllers.len() < before
        }
        Lost::Autoscalers => {
            unread(cluster, UnreadKind::Autoscalers, None, None);
            cluster.autoscalers.take().is_some()
        }
        Lost::Budgets => {
            unread(cluster, UnreadKind::Budgets, None, None);
            cluster.disruption_budgets.take().is_some()
        }
        Lost::Uid => cluster.uid.take().is_some(),
        Lost::PodUsage => {
            unread(cluster, UnreadKind::Usage, None, None);
            cluster.pod_usage.take().is_some()
        }
        Lost::History => {
            unread(cluster, UnreadKind::History, None, None);
            cluster.history.take().is_some()
        }
        Lost::HistoryPart => {
            unread(cluster, UnreadKind::HistoryPart, None, None);
            match &mut cluster.history {
                Some(history) => {
                    history.pods.clear();
                    true
                }
                None => false,
            }
        }
        Lost::Store => {
            cluster.unread.push(Unread {
                what: UnreadKind::History,
                refused: true,
                ..Unread::default()
            });
            cluster.history.take().is_some()
        }
        Lost::Proxy => refuse_proxy(cluster, dice),
        Lost::Outside => {
            if cluster.pods_read.namespaces.is_empty() || !cluster.pods_read.complete {
                return false;
            }
            unread(cluster, UnreadKind::Pods, None, None);
            cluster.pods_read.complete = false;
            let kept = cluster.pods_read.namespaces.clone();
            forget_pods(cluster, |namespace| {
                namespace == EXPORTERS || kept.iter().any(|k| k == namespace)
            });
            true
        }
        Lost::Clock => {
            // The collector has moved its objects' times to this machine's clock.
            cluster.clock_ahead_seconds = Some(if dice.chance(50) { -3600 } else { 3600 });
            true
        }
        Lost::StoreClock => {
            let known = cluster.history.is_some();
            known && skewed(cluster, ClockOf::Store, None, None)
        }
        Lost::NodeClock => {
            let nodes: Vec<String> = cluster.nodes.iter().flatten().map(|n| n.name.clone()).collect();
            !nodes.is_empty() && skewed(cluster, ClockOf::Node, None, Some(dice.pick(&nodes).clone()))
        }
        Lost::PodClock => {
            let pods = cluster.engines.iter().map(|e| (e.namespace.clone(), e.pod.clone()));
            let pods: Vec<(String, String)> = pods.collect();
            !pods.is_empty() && {
                let (namespace, pod) = dice.pick(&pods).clone();
                skewed(cluster, ClockOf::Pod, Some(namespace), Some(pod))
            }
        }
        Lost::Groups => {
            unread(cluster, UnreadKind::Groups, None, None);
            true
        }
        Lost::Selector => {
            if cluster.pods_read.selector.is_none() {
                return false;
            }
            unread(cluster, UnreadKind::Selector, None, None);
            for pod in &mut cluster.pods {
                pod.labels.remove(crate::snapshot::cluster::SELECTED);
            }
            true
        }
        Lost::Described | Lost::ConfigMap => {
            let servers = |p: &crate::snapshot::cluster::Pod| p.containers.iter().any(|c| c.server.is_some());
            let found: Vec<usize> = (0..cluster.pods.len()).filter(|i| servers(&cluster.pods[*i])).collect();
            let Some(i) = pick(&found, dice) else { return false };
            let pod = &mut cluster.pods[found[i]];
            for server in pod.containers.iter_mut().filter_map(|c| c.server.as_mut()) {
                server.unread.push(crate::snapshot::server::UnreadSetting {
                    setting: crate::snapshot::server::Setting::Any,
                    place: "key X of a ConfigMap".into(),
                });
            }
            let (namespace, name) = (Some(pod.namespace.clone()), Some(pod.name.clone()));
            let what = if lost == Lost::Described {
                UnreadKind::Described
            } else {
                UnreadKind::ConfigMap
            };
            unread(cluster, what, namespace, name);
            true
        }
        Lost::Exporter => {
            let Some(node) = pick(&cluster.gpus, dice).map(|i| cluster.gpus[i].node.clone()) else {
                return false;
            };
            cluster.gpus.retain(|g| g.node != node);
            unread(cluster, UnreadKind::Exporter, None, Some(node));
            true
        }
        Lost::Device => pick(&cluster.gpus, dice).map(|i| cluster.gpus.remove(i)).is_some(),
        Lost::Holders => {
            let Some(node) = pick(&cluster.gpus, dice).map(|i| cluster.gpus[i].node.clone()) else {
                return false;
            };
            for gpu in cluster.gpus.iter_mut().filter(|g| g.node == node) {
                gpu.holders.clear();
                gpu.maps_pods = false;
            }
            true
        }
        Lost::DeviceSeries | Lost::DeviceSample => {
            let Some(i) = pick(&cluster.gpus, dice) else {
                return false;
            };
            let field = dice.below(8);
            let readings = &mut cluster.gpus[i].readings;
            let only = (lost == Lost::DeviceSample).then(|| dice.below(readings.len() as u64) as usize);
            for (_, reading) in readings
                .iter_mut()
                .enumerate()
                .filter(|(n, _)| only.is_none_or(|o| o == *n))
            {
                drop_device(reading, field);
            }
            true
        }
        Lost::Engine => {
            let gone = pick(&cluster.engines, dice).map(|i| cluster.engines.remove(i));
            let Some(gone) = gone else { return false };
            unread(cluster, UnreadKind::Engine, Some(gone.namespace), Some(gone.pod));
            true
        }
        Lost::Identity => {
            let Some(i) = pick(&cluster.engines, dice) else {
                return false;
            };
            cluster.engines[i].identity = crate::snapshot::engine::ServerIdentity::default();
            true
        }
        Lost::ProcessStart => {
            let Some(i) = pick(&cluster.engines, dice) else {
                return false;
            };
            cluster.engines[i].process_started_at.take().is_some()
        }
        Lost::EngineSeries | Lost::EngineSample => {
            let Some(i) = pick(&cluster.engines, dice) else {
                return false;
            };
            let field = dice.below(15);
            let readings = &mut cluster.engines[i].readings;
            let only = (lost == Lost::EngineSample).then(|| dice.below(readings.len() as u64) as usize);
            for (_, reading) in readings
                .iter_mut()
                .enumerate()
                .filter(|(n, _)| only.is_none_or(|o| o == *n))
            {
                drop_engine(reading, field);
            }
            true
        }
    }
}

/// What is behind the proxy of one namespace is not read: its servers' pages, or the exporters'.
fn refuse_proxy(cluster: &mut Cluster, dice: &mut Dice) -> bool {
    let mut places: Vec<String> = cluster.engines.iter().map(|e| e.namespace.clone()).collect();
    places.extend((!cluster.gpus.is_empty()).then(|| EXPORTERS.to_string()));
    let Some(i) = pick(&places, dice) else { return false };
    let refused = |what, namespace: Option<String>, name: String| Unread {
        what,
        namespace,
        name: Some(name),
        refused: true,
    };
    let lost: Vec<Unread> = if places[i] == EXPORTERS {
        let nodes: BTreeSet<String> = cluster.gpus.drain(..).map(|g| g.node).collect();
        nodes
            .into_iter()
            .map(|n| refused(UnreadKind::Exporter, None, n))
            .collect()
    } else {
        let (gone, kept) = std::mem::take(&mut cluster.engines)
            .into_iter()
            .partition(|e| e.namespace == places[i]);
        cluster.engines = kept;
        let gone: Vec<EngineScrape> = gone;
        gone.into_iter()
            .map(|e| refused(UnreadKind::Engine, Some(e.namespace), e.pod))
            .collect()
    };
    cluster.unread.extend(lost);
    true
}

/// As the collector records it.
fn unread(cluster: &mut Cluster, what: UnreadKind, namespace: Option<String>, name: Option<String>) {
    cluster.unread.push(Unread {
        what,
        namespace,
        name,
        ..Unread::default()
    });
}

fn pick<T>(of: &[T], dice: &mut Dice) -> Option<usize> {
    (!of.is_empty()).then(|| dice.below(of.len() as u64) as usize)
}

fn namespaces(cluster: &Cluster, dice: &mut Dice) -> Vec<String> {
    let mut all: Vec<String> = cluster.pods.iter().map(|p| p.namespace.clone()).collect();
    all.sort();
    all.dedup();
    // The one exception: who may not see the exporters' pods does not know that there are witnesses, and under a team's own
    // rights counters alone make idleness (R6). So they stay visible here.
    all.retain(|name| name == EXPORTERS || dice.chance(50));
    all
}

/// Pods that are not seen have no owners above them that would be read, and no endpoint that would be asked.
fn forget_pods(cluster: &mut Cluster, seen: impl Fn(&str) -> bool) {
    cluster.pods.retain(|p| seen(&p.namespace));
    cluster.controllers.retain(|c| seen(&c.namespace));
    cluster.engines.retain(|e| seen(&e.namespace));
    let exporters: Vec<String> = cluster
        .pods
        .iter()
        .filter(|p| {
            p.containers
                .iter()
                .any(|c| crate::engine::exporters::of_container(c).is_some())
        })
        .filter_map(|p| p.node.clone())
        .collect();
    cluster.gpus.retain(|g| exporters.contains(&g.node));
}

fn drop_device(reading: &mut GpuReading, field: u64) {
    match field {
        0 => reading.gpu_util = None,
        1 => reading.gr_engine = None,
        2 => reading.sm_active = None,
        3 => reading.tensor = None,
        4 => reading.dram = None,
        5 => reading.power = None,
        6 => reading.energy_joules = None,
        _ => (reading.memory_used, reading.memory_total) = (None, None),
    }
}

fn drop_engine(reading: &mut EngineReading, field: u64) {
    match field {
        0 => reading.running = None,
        1 => reading.waiting = None,
        2 => reading.kv_usage = None,
        3 => reading.requests = None,
        4 => (reading.prefix_queries, reading.prefix_hits) = (None, None),
        5 => reading.prompt_tokens = None,
        6 => reading.output_tokens = None,
        7 => reading.preemptions = None,
        8 => reading.prefix_queries = None,
        9 => reading.e2e_latency = None,
        10 => reading.time_to_first_token = None,
        11 => reading.inter_token_latency = None,
        12 => reading.prompt_length = None,
        13 => reading.output_length = None,
        _ => reading.prefix_hits = None,
    }
}

/// What a finding is about, whatever it is called by the machine that scanned.
pub(super) type Key = (&'static str, Option<&'static str>, Subject, Option<String>);

/// Asked dollars, GPUs claimed and confidence of each finding that counts, those of one subject together.
fn findings(judged: &Judged) -> BTreeMap<Key, (i64, i64, Confidence)> {
    let mut all = BTreeMap::new();
    for finding in judged
        .outcomes
        .iter()
        .flat_map(|(_, o)| &o.findings)
        .filter(|f| f.ignored.is_none())
    {
        let entry = all.entry(key(finding)).or_insert((0, 0, finding.confidence));
        entry.0 += asked(finding);
        entry.1 += finding.claims.len() as i64;
        entry.2 = entry.2.max(finding.confidence);
    }
    all
}

pub(super) fn key(finding: &Finding) -> Key {
    let subject = Subject {
        cluster_key: String::new(),
        // What a server says of its model is one of the reads.
        model: None,
        ..finding.subject.clone()
    };
    // So is where a workload runs, which its own name does not need.
    let subject = if subject.namespace.is_some() {
        Subject {
            pool: None,
            gpu: None,
            ..subject
        }
    } else {
        subject
    };
    // Broken and cordoned nodes of one pool are two findings.
    let cause = finding
        .evidence
        .iter()
        .find(|e| e.name == "cause")
        .map(|e| format!("{:?}", e.value));
    (finding.check, finding.part, subject, cause)
}

pub(super) fn asked(finding: &Finding) -> i64 {
    let claims: i64 = finding
        .claims
        .iter()
        .filter_map(|c| c.usd_per_hour)
        .map(UsdPerHour::micros)
        .sum();
    claims + finding.trend_usd_per_hour.map_or(0, UsdPerHour::micros)
}

/// (cluster, node, place on the node) → what the report gives to findings that count, and how sure the surest is.
fn per_gpu(judged: &Judged) -> BTreeMap<(String, String, usize), (i64, Confidence)> {
    let fleet: &Fleet = &judged.fleet;
    let mut all = BTreeMap::new();
    for finding in judged
        .outcomes
        .iter()
        .flat_map(|(_, o)| &o.findings)
        .filter(|f| f.ignored.is_none())
    {
        for claim in &finding.claims {
            let slot = fleet.slot(claim.slot);
            let node = fleet.node(slot.node);
            let place = claim.slot.0 - node.first_slot;
            let key = (fleet.clusters[node.cluster].name.clone(), node.name.clone(), place);
            let entry = all.entry(key).or_insert((0, finding.confidence));
            let price = slot.price.map_or(0, UsdPerHour::micros);
            entry.0 = (entry.0 + claim.usd_per_hour.map_or(0, UsdPerHour::micros)).min(price);
            entry.1 = entry.1.max(finding.confidence);
        }
    }
    all
}

/// Everything that may not rise. Equal GPUs may change places on a node, and the remainder of a price that does not divide
/// goes to the first of them: one micro-dollar a GPU is no rise.
pub(super) fn assert_not_better(whole: &Judged, part: &Judged, what: &str) {
    let slack = whole.fleet.slots.len() as i64;
    let (a, b) = (&whole.report.totals, &part.report.totals);
    let waste = |t: &crate::report::document::Totals| t.waste_usd_per_hour.unwrap_or_default().micros();
    assert!(
        waste(b) <= waste(a) + slack,
        "{what}: waste {} → {}",
        a.waste_usd_per_hour.unwrap_or_default(),
        b.waste_usd_per_hour.unwrap_or_default()
    );
    let coverage = |c: Option<f64>| c.unwrap_or(-1.0);
    assert!(
        // It is told with four decimals.
        coverage(b.coverage_percent) <= coverage(a.coverage_percent) + 1.5e-4,
        "{what}: coverage {:?} → {:?}",
        a.coverage_percent,
        b.coverage_percent
    );
    for (before, after) in whole.report.gates.iter().zip(&part.report.gates) {
        let (before, after) = (before.actual.unwrap_or(0.0), after.actual.unwrap_or(0.0));
        assert!(
            after <= before + slack as f64 * 1e-6,
            "{what}: a gate counts {before} → {after}"
        );
    }
    let (old, gpus) = (findings(whole), per_gpu(whole));
    let places = per_gpu(part);
    for (key, (usd, claims, confidence)) in findings(part) {
        if let Some((old_usd, old_claims, old_confidence)) = old.get(&key) {
            assert!(usd <= old_usd + slack, "{what}: {key:?} asks {old_usd} → {usd}");
            assert!(
                claims <= *old_claims,
                "{what}: {key:?} claims {old_claims} → {claims} GPUs"
            );
            assert!(
                confidence <= *old_confidence,
                "{what}: {key:?} {old_confidence:?} → {confidence:?}"
            );
        } else {
            assert!(claims > 0, "{what}: {key:?} is new");
        }
    }
    // A finding under another name (its pool, GPU or owner was told by the read) moves money, and adds none.
    let on_node = |all: &BTreeMap<(String, String, usize), (i64, Confidence)>| {
        let mut nodes: BTreeMap<(String, String), (i64, Confidence)> = BTreeMap::new();
        for ((cluster, node, _), (usd, confidence)) in all {
            let entry = nodes.entry((cluster.clone(), node.clone())).or_insert((0, *confidence));
            *entry = (entry.0 + usd, entry.1.max(*confidence));
        }
        nodes
    };
    let before = on_node(&gpus);
    for (node, (usd, confidence)) in on_node(&places) {
        let Some((old_usd, old_confidence)) = before.get(&node) else {
            panic!("{what}: {node:?} had no finding, now {usd}");
        };
        assert!(usd <= old_usd + slack, "{what}: {node:?} {old_usd} → {usd}");
        assert!(
            confidence <= *old_confidence,
            "{what}: {node:?} {old_confidence:?} → {confidence:?}"
        );
    }
}

/// Every read of `snapshot` that can fail fails, some several times; returns how many did.
fn all_lost(snapshot: &Snapshot, prices: &PriceBook, name: &str, times: u64, dice: &mut Dice) -> BTreeMap<Lost, u64> {
    let whole = judge(snapshot, prices);
    let mut done = BTreeMap::new();
    for lost in ALL {
        for _ in 0..times {
            let mut less = snapshot.clone();
            if !lose(&mut less, *lost, dice) {
                continue;
            }
            *done.entry(*lost).or_default() += 1;
            let part = judge(&less, prices);
            let what = format!("{name} without {lost:?}");
            hold(&part, &what);
            assert_not_better(&whole, &part, &what);
            // Troubles do not come alone.
            let second = *dice.pick(ALL);
            let mut still_less = less.clone();
            if lose(&mut still_less, second, dice) {
                *done.entry(second).or_default() += 1;
                // A page that shows fewer cards than its node hands out says that one may be lost. Without the page nobody says it,
                // and the scheduler's word stands alone, estimated, as on every node without an exporter.
                if *lost == Lost::Device && matches!(second, Lost::Exporter | Lost::Device | Lost::Proxy) {
                    continue;
                }
                assert_not_better(&part, &judge(&still_less, prices), &format!("{what} and {second:?}"));
            }
        }
    }
    done
}

#[test]
fn a_failed_read_never_raises_anything_on_generated_fleets() {
    let mut dice = Dice(7);
    let mut done: BTreeMap<Lost, u64> = BTreeMap::new();
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        for (lost, n) in all_lost(&made.snapshot, &made.prices, &format!("fleet {seed}"), 1, &mut dice) {
            *done.entry(lost).or_default() += n;
        }
    }
    // Of generated fleets none has a history, CPU use of metrics.k8s.io, or a scope.
    let never = |l: &&Lost| {
        matches!(
            l,
            Lost::PodUsage
                | Lost::History
                | Lost::HistoryPart
                | Lost::Store
                | Lost::StoreClock
                | Lost::Outside
                | Lost::Selector
        )
    };
    for lost in ALL.iter().filter(|l| !never(l)) {
        assert!(
            done.get(lost).is_some_and(|n| *n >= 50),
            "{lost:?} was lost {:?} times",
            done.get(lost)
        );
    }
}

/// A second exporter on each node, of the figures of `nvidia-smi`, which alone sees work on some devices; and servers without
/// a request so far, some with a queue.
fn with_second_exporters(snapshot: &mut Snapshot, dice: &mut Dice) {
    for cluster in &mut snapshot.clusters {
        let mut seen: BTreeMap<String, bool> = BTreeMap::new();
        let mut more: Vec<GpuScrape> = Vec::new();
        for first in &cluster.gpus {
            let works = *seen.entry(first.node.clone()).or_insert_with(|| dice.chance(50)) && dice.chance(60);
            let mut other = GpuScrape {
                generation: Some(Generation::NvidiaSmi),
                ..first.clone()
            };
            for reading in &mut other.readings {
                *reading = GpuReading {
                    gpu_util: Some(Ratio(if works { 0.9 } else { 0.0 })),
                    ..bare(reading)
                };
            }
            more.push(other);
        }
        cluster.gpus.extend(more);
        for engine in &mut cluster.engines {
            let queued = dice.chance(40);
            for reading in engine.readings.iter_mut().filter(|r| r.requests == Some(0.0) && queued) {
                reading.waiting = Some(3.0);
            }
        }
    }
}

fn bare(reading: &GpuReading) -> GpuReading {
    GpuReading {
        gr_engine: None,
        sm_active: None,
        tensor: None,
        dram: None,
        ..reading.clone()
    }
}

/// The page of one exporter of a node, of two.
fn lose_one_page(cluster: &mut Cluster, of_second: bool, dice: &mut Dice) -> bool {
    let is = |g: &GpuScrape| (g.generation == Some(Generation::NvidiaSmi)) == of_second;
    let nodes: BTreeSet<String> = cluster.gpus.iter().filter(|g| is(g)).map(|g| g.node.clone()).collect();
    let nodes: Vec<String> = nodes.into_iter().collect();
    let Some(node) = pick(&nodes, dice).map(|i| nodes[i].clone()) else {
        return false;
    };
    cluster.gpus.retain(|g| g.node != node || !is(g));
    unread(cluster, UnreadKind::Exporter, None, Some(node));
    true
}

/// What one witness alone objects by may be what is lost: the page of one exporter of two, the gauge of a queue.
#[test]
fn the_only_objection_may_be_lost() {
    let mut dice = Dice(29);
    let (mut pages, mut queues, mut objected) = (0, 0, 0);
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let alone = judge(&made.snapshot, &made.prices);
        let mut snapshot = made.snapshot.clone();
        with_second_exporters(&mut snapshot, &mut dice);
        let whole = judge(&snapshot, &made.prices);
        let idle = |j: &Judged| j.report.totals.gpus_idle + j.report.totals.gpus_free;
        objected += u32::from(idle(&whole) < idle(&alone));
        for of_second in [true, true, false] {
            let mut less = snapshot.clone();
            let at = dice.below(less.clusters.len() as u64) as usize;
            if lose_one_page(&mut less.clusters[at], of_second, &mut dice) {
                pages += 1;
                let part = judge(&less, &made.prices);
                assert_not_better(&whole, &part, &format!("fleet {seed} without an exporter of two"));
            }
        }
        let mut less = snapshot.clone();
        let engines = less.clusters.iter_mut().flat_map(|c| &mut c.engines);
        let waits = |e: &&mut EngineScrape| e.readings.iter().any(|r| r.waiting.is_some_and(|w| w > 0.0));
        for engine in engines.filter(waits) {
            queues += 1;
            engine.readings.iter_mut().for_each(|r| r.waiting = None);
        }
        let part = judge(&less, &made.prices);
        assert_not_better(&whole, &part, &format!("fleet {seed} without queues"));
    }
    assert!(
        pages >= 200 && queues >= 100 && objected >= 50,
        "{pages} {queues} {objected}"
    );
}

#[test]
fn a_failed_read_never_raises_anything_on_the_demo() {
    let demo = crate::guards::recorded_demo();
    let done = all_lost(&demo, &PriceBook::default(), "the demo", 6, &mut Dice(11));
    assert!(done.len() >= 15, "{done:?}");
}
