//! What servers and devices did, as far as readings tell: lifetime counters with a known start, gauges of the passes.

mod health;

use super::{Device, Fleet, GpuActivity, Observed, ObservedBy, Pass, Pod, PodId, SlotId, Workload, workloads};
use crate::catalog::models::{self, ModelFacts, ModelSource};
use crate::engine::{self, exporters};
use crate::snapshot::Gap;
use crate::snapshot::cluster::{Cluster, ContainerState, Pod as Seen, UnreadKind};
use crate::snapshot::engine::{EngineReading, EngineScrape, Histogram, ServerIdentity};
use crate::snapshot::figure::Figure;
use crate::snapshot::gpu::{Generation, GpuReading, GpuScrape, PodName, each_once};
use crate::snapshot::server::{EngineSettings, Setting};
use gpuwaste_facts::limits::{self, Card, Quantity};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Seconds over which the growth of an energy counter tells a mean power: exporters collect every 30 s (dcgm-exporter's
/// default), so that two reads of one a few seconds apart tell of none or of thirty.
const ENERGY_SPAN: f64 = 240.0;

/// Attaches readings to replicas, workloads and slots.
pub(super) fn attach(fleet: &mut Fleet, cluster: &Cluster, index: usize, first_pod: usize) {
    let mut by_pod: HashMap<(&str, &str), Vec<&EngineScrape>> = HashMap::new();
    for scrape in &cluster.engines {
        by_pod.entry((&scrape.namespace, &scrape.pod)).or_default().push(scrape);
    }
    let mut skewed = 0;
    for w in 0..fleet.workloads.len() {
        if fleet.workloads[w].cluster != index {
            continue;
        }
        let mut told: Vec<&ServerIdentity> = Vec::new();
        let mut unread = None;
        for r in 0..fleet.workloads[w].replicas.len() {
            let mut parts = Vec::new();
            let mut engines = 0;
            for pod in fleet.workloads[w].replicas[r].pods.clone() {
                let seen = &cluster.pods[pod.0 - first_pod];
                for scrape in by_pod
                    .get(&(seen.namespace.as_str(), seen.name.as_str()))
                    .into_iter()
                    .flatten()
                {
                    if !scrape.pod_uid.is_empty() && scrape.pod_uid != seen.uid {
                        continue;
                    }
                    told.push(&scrape.identity);
                    engines += scrape.identity.engines.unwrap_or(1).max(1);
                    parts.extend(of_scrape(scrape, seen, fleet.now(index), &mut skewed));
                }
            }
            unread = unread.or_else(|| servers_unread(&fleet.workloads[w], engines));
            if let Some(observed) = merge(&parts, 1) {
                fleet.workloads[w].replicas[r].observed = observed;
            }
        }
        fleet.workloads[w].servers_unread = unread;
        let parts: Vec<Observed> = fleet.workloads[w]
            .replicas
            .iter()
            .map(|r| r.observed.clone())
            .filter(|o| o.by != ObservedBy::Nothing)
            .collect();
        if let Some(observed) = merge(&parts, fleet.workloads[w].replicas.len()) {
            fleet.workloads[w].observed = observed;
        }
        fleet.workloads[w].identity_unread = told.iter().any(|i| i.unread);
        correct(fleet, w, &told);
    }
    if skewed > 0 {
        fleet.gaps.push(Gap {
            source: format!("cluster {}", cluster.name),
            what: format!("clocks of {skewed} servers"),
            reason: "they are ahead of this machine's clock by more than two minutes".into(),
            effect: "their age is counted from this machine's clock, so it may be short by that much".into(),
            remedy: "check NTP on both sides".into(),
        });
    }
    activity(fleet, cluster, index);
    health::attach(fleet, cluster, index);
    busy(fleet, index);
}

/// What of one replica's servers was not read, where `engines` ranks told something. A page speaks for the ranks on it, and
/// for no others.
fn servers_unread(workload: &Workload, engines: u32) -> Option<String> {
    let settings = workload.settings.as_ref()?;
    if !engine::facts(settings.engine).is_some_and(|f| f.apis_of_ranks) {
        return None;
    }
    if let Some(unread) = settings.unread(Setting::DataParallel) {
        return Some(format!(
            "how many data-parallel ranks it runs stands in {}",
            unread.place
        ));
    }
    // Where each pod has an API of its own, its page speaks for its part of the ranks.
    let pods = settings.nodes.filter(|_| settings.api_per_node).unwrap_or(1).max(1);
    let ranks = settings.data_parallel.unwrap_or(1).div_ceil(pods);
    // Without a live look a store may have them all; ranks with ports of their own are seldom all scraped.
    let apart = settings.apis.is_some_and(|n| n > 1);
    (engines < ranks && (engines > 0 || apart)).then(|| format!("{engines} of {ranks} data-parallel ranks were read"))
}

/// Counters over the process's life, gauges over the passes.
fn of_scrape(scrape: &EngineScrape, seen: &Seen, taken_at: Timestamp, skewed: &mut u32) -> Option<Observed> {
    let (first, last) = (scrape.readings.first()?, scrape.readings.last()?);
    let container = seen.containers.iter().find(|c| c.name == scrape.container);
    let running_since = container.and_then(|c| match c.state {
        Some(ContainerState::Running { since }) => since,
        _ => None,
    });
    let start = scrape.process_started_at.or(running_since);
    if [Some(last.at), start]
        .into_iter()
        .flatten()
        .any(|t| limits::check(Quantity::ClockLead, seconds(taken_at, t).max(0.0), &Card::UNKNOWN).is_err())
    {
        *skewed += 1;
    }
    let life = start.map(|s| seconds(s, last.at.min(taken_at)).max(0.0));
    let mut observed = Observed {
        asleep: scrape.identity.asleep,
        running: gauge(&scrape.readings, |r| r.running),
        waiting: gauge(&scrape.readings, |r| r.waiting),
        kv_usage: gauge(&scrape.readings, |r| r.kv_usage),
        passes: scrape.readings.iter().filter_map(pass).collect(),
        coverage: Some(1.0),
        ..Observed::default()
    };
    let lengths = |h: &Option<Histogram>, q: f64| h.as_ref().and_then(|h| h.quantile(q));
    observed.prompt_length_p50 = lengths(&last.prompt_length, 0.5);
    observed.prompt_length_p95 = lengths(&last.prompt_length, 0.95);
    observed.output_length_p50 = lengths(&last.output_length, 0.5);
    observed.output_length_p95 = lengths(&last.output_length, 0.95);
    let time = |h: &Option<Histogram>| h.as_ref().and_then(|h| h.time(0.95));
    observed.time_to_first_token_p95 = time(&last.time_to_first_token);
    observed.inter_token_latency_p95 = time(&last.inter_token_latency);
    observed.latency_by_mean = last.inter_token_latency.as_ref().is_some_and(Histogram::is_mean_only);
    observed.prefix_hit_rate = match (last.prefix_hits, last.prefix_queries) {
        (Some(hits), Some(queries)) if queries > 0.0 => Some((hits / queries).clamp(0.0, 1.0)),
        _ => None,
    };
    if let Some(life) = life.filter(|l| *l > 0.0) {
        fill_counters(&mut observed, ObservedBy::LifetimeCounters, life, last, None);
    } else {
        let between = seconds(first.at, last.at);
        // Without a start only what happened between two passes is known, and a reset in between hides it.
        if between > 0.0 {
            fill_counters(&mut observed, ObservedBy::Live, between, last, Some(first));
        } else {
            observed.by = ObservedBy::Live;
        }
    }
    Some(observed)
}

fn pass(reading: &EngineReading) -> Option<Pass> {
    Some(Pass {
        kv_usage: reading.kv_usage?,
        waiting: reading.waiting?,
        running: reading.running?,
    })
}

fn fill_counters(
    observed: &mut Observed,
    by: ObservedBy,
    window: f64,
    last: &EngineReading,
    first: Option<&EngineReading>,
) {
    let increase = |of: fn(&EngineReading) -> Option<f64>| {
        let now = of(last)?;
        let before = match first {
            Some(first) => of(first)?,
            None => 0.0,
        };
        (now >= before).then_some(now - before)
    };
    let rate = |increase: Option<f64>| {
        increase.map(|i| Figure {
            mean: Some(i / window),
            coverage: Some(1.0),
            ..Figure::default()
        })
    };
    observed.by = by;
    observed.window_seconds = window;
    observed.requests = increase(|r| r.requests);
    observed.prompt_tokens = increase(|r| r.prompt_tokens);
    observed.output_tokens = increase(|r| r.output_tokens);
    observed.preemptions = increase(|r| r.preemptions);
    observed.e2e_latency_sum = increase(|r| r.e2e_latency.as_ref().map(|h| h.sum));
    observed.requests_per_second = rate(observed.requests);
    observed.prompt_tokens_per_second = rate(observed.prompt_tokens);
    observed.output_tokens_per_second = rate(observed.output_tokens);
    observed.preemptions_per_hour = rate(observed.preemptions).map(|s| Figure {
        mean: s.mean.map(|m| m * 3600.0),
        ..s
    });
}

fn gauge(readings: &[EngineReading], of: fn(&EngineReading) -> Option<f64>) -> Option<Figure> {
    stat(&readings.iter().filter_map(of).collect::<Vec<_>>())
}

/// The distribution of a few samples; percentiles only where there are enough to speak of (20 for a p95).
fn stat(values: &[f64]) -> Option<Figure> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = *sorted.last()?;
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize];
    Some(Figure {
        mean: Some(sorted.iter().sum::<f64>() / sorted.len() as f64),
        p50: (sorted.len() >= 3).then(|| at(0.5)),
        p95: (sorted.len() >= 20).then(|| at(0.95)),
        p99: (sorted.len() >= 100).then(|| at(0.99)),
        max: Some(last),
        coverage: None,
        bins: None,
    })
}

/// Sums of loads, the fullest cache, the slowest latency, the shortest window. A figure that one part lacks is lacking in all.
fn merge(parts: &[Observed], expected: usize) -> Option<Observed> {
    let first = parts.first()?;
    let all = |of: fn(&Observed) -> Option<f64>| parts.iter().map(of).sum::<Option<f64>>();
    let worst = |of: fn(&Observed) -> Option<f64>| {
        parts
            .iter()
            .filter_map(of)
            .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))))
    };
    let summed = |of: fn(&Observed) -> Option<Figure>| {
        let stats: Option<Vec<Figure>> = parts.iter().map(of).collect();
        stats.filter(|s| !s.is_empty()).map(|stats| {
            let sum = |f: fn(&Figure) -> Option<f64>| stats.iter().map(f).sum::<Option<f64>>();
            Figure {
                mean: sum(|s| s.mean),
                p50: sum(|s| s.p50),
                p95: sum(|s| s.p95),
                p99: sum(|s| s.p99),
                max: sum(|s| s.max),
                coverage: stats.iter().filter_map(|s| s.coverage).min_by(f64::total_cmp),
                bins: None,
            }
        })
    };
    let fullest = parts
        .iter()
        .filter_map(|o| o.kv_usage)
        .max_by(|a, b| a.max.unwrap_or(0.0).total_cmp(&b.max.unwrap_or(0.0)));
    // Each part for itself: a part that tells little never hides behind one that is missing.
    let counted = parts.iter().filter(|o| o.by >= ObservedBy::LifetimeCounters);
    let covered: f64 = counted.filter_map(|o| o.coverage).sum();
    Some(Observed {
        by: parts.iter().map(|o| o.by).min().unwrap_or(first.by),
        window_seconds: parts.iter().map(|o| o.window_seconds).fold(f64::INFINITY, f64::min),
        coverage: Some((covered / expected.max(parts.len()).max(1) as f64).min(1.0)),
        requests: all(|o| o.requests),
        prompt_tokens: all(|o| o.prompt_tokens),
        output_tokens: all(|o| o.output_tokens),
        preemptions: all(|o| o.preemptions),
        requests_per_second: summed(|o| o.requests_per_second),
        prompt_tokens_per_second: summed(|o| o.prompt_tokens_per_second),
        output_tokens_per_second: summed(|o| o.output_tokens_per_second),
        running: summed(|o| o.running),
        waiting: summed(|o| o.waiting),
        kv_usage: fullest,
        passes: parts.iter().flat_map(|o| o.passes.iter().copied()).collect(),
        preemptions_per_hour: summed(|o| o.preemptions_per_hour),
        gpu_busy: None,
        time_to_first_token_p95: worst(|o| o.time_to_first_token_p95),
        inter_token_latency_p95: worst(|o| o.inter_token_latency_p95),
        latency_by_mean: parts.iter().any(|o| o.latency_by_mean),
        e2e_latency_sum: all(|o| o.e2e_latency_sum),
        prompt_length_p50: worst(|o| o.prompt_length_p50),
        prompt_length_p95: worst(|o| o.prompt_length_p95),
        output_length_p50: worst(|o| o.output_length_p50),
        output_length_p95: worst(|o| o.output_length_p95),
        prefix_hit_rate: worst(|o| o.prefix_hit_rate),
        cpu_share: None,
        cpu_throttled: None,
        asleep: parts
            .iter()
            .map(|o| o.asleep)
            .reduce(|a, b| if a == b { a } else { None })
            .flatten(),
        bins: None,
    })
}

/// The server's own word replaces what the spec says; where they disagree about the model it is a gap.
fn correct(fleet: &mut Fleet, w: usize, told: &[&ServerIdentity]) {
    let workload = &mut fleet.workloads[w];
    let Some(settings) = workload.settings.as_mut() else {
        return;
    };
    workload.kv_capacity = told.iter().filter_map(|i| i.kv_capacity).min();
    let mut contradiction = None;
    for identity in told {
        apply(settings, identity);
        let root = identity
            .model_root
            .as_deref()
            .or(identity.served_names.first().map(String::as_str));
        let Some(root) = root else { continue };
        workload.settings_confirmed = true;
        let book = &fleet.models;
        let found = book
            .find(root)
            .or_else(|| identity.served_names.iter().find_map(|n| book.find(n)))
            .or_else(|| models::from_name(root));
        let known = |m: &ModelFacts| m.source != ModelSource::Name;
        if let (Some(old), Some(new)) = (&workload.model, &found)
            && old.id != new.id
            && known(old)
            && known(new)
        {
            contradiction = Some((old.id.clone(), new.id.clone()));
        }
        let another = identity.model_root.as_deref().filter(|r| is_another(settings, r));
        if let Some(root) = another {
            // Nothing that the spec's model is known for holds for it, known or not.
            let new = book.find(root).or_else(|| models::from_name(root));
            let same = |old: &&ModelFacts| new.as_ref().is_some_and(|n| n.id == old.id);
            if let Some(old) = workload.model.as_ref().filter(|m| known(m) && !same(m)) {
                contradiction = Some((old.id.clone(), root.to_string()));
            }
            workload.model = new;
        } else if let Some(found) = found
            // A name's size never replaces what a row or a config says.
            && (known(&found) || workload.model.as_ref().is_none_or(|m| !known(m)))
        {
            workload.model = Some(found);
        }
        if workload.model_name.is_none() || !root.starts_with('/') {
            workload.model_name = Some(root.to_string());
            settings.model = Some(root.to_string());
        }
    }
    if let Some((one, other)) = unlike(told) {
        workloads::several_models(settings, &one, &other);
        workload.model = None;
        workload.model_name = None;
        return;
    }
    if let Some((spec, server)) = contradiction {
        let what = format!("model of {} {}/{}", workload.kind, workload.namespace, workload.name);
        fleet.gaps.push(Gap {
            source: format!("cluster {}", fleet.clusters[workload.cluster].name),
            what,
            reason: format!("the spec names {spec}, the server says {server}"),
            effect: "the server's word is taken".into(),
            remedy: "check the served name and the arguments".into(),
        });
    }
}

/// Two models that servers of one workload say they serve: unlike roots, or, where these are not told, no name in common.
fn unlike(told: &[&ServerIdentity]) -> Option<(String, String)> {
    let differ = |a: &ServerIdentity, b: &ServerIdentity| {
        if let (Some(a), Some(b)) = (&a.model_root, &b.model_root) {
            return (!a.eq_ignore_ascii_case(b)).then(|| (a.clone(), b.clone()));
        }
        let (first, second) = (a.served_names.first()?, b.served_names.first()?);
        let common = a.served_names.iter().any(|n| b.served_names.contains(n));
        (!common).then(|| (first.clone(), second.clone()))
    };
    let (first, others) = told.split_first()?;
    others.iter().find_map(|other| differ(first, other))
}

/// Whether `root`, a hub's id and no path, is not the model that the spec names.
#[expect(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "llama.cpp writes the extension in small letters"
)]
fn is_another(settings: &EngineSettings, root: &str) -> bool {
    let hub_id = |name: &str| {
        name.split_once('/').is_some_and(|(owner, rest)| {
            !owner.is_empty() && !owner.starts_with('.') && !rest.is_empty() && !rest.contains(['/', ':'])
        }) && !name.ends_with(".gguf")
    };
    let spec = settings.model.as_deref().filter(|m| hub_id(m));
    hub_id(root) && spec.is_some_and(|spec| !spec.eq_ignore_ascii_case(root))
}

fn apply(settings: &mut EngineSettings, identity: &ServerIdentity) {
    settings.engine_version = identity.version.clone().or(settings.engine_version.take());
    settings.max_model_len = identity.max_model_len.or(settings.max_model_len);
    settings.block_size = identity.block_size.or(settings.block_size);
    settings.gpu_memory_utilization = identity.gpu_memory_utilization.or(settings.gpu_memory_utilization);
    settings.kv_cache_dtype = identity
        .kv_cache_dtype
        .clone()
        .filter(|d| d != "auto")
        .or(settings.kv_cache_dtype.take());
    settings.prefix_caching = identity.prefix_caching.or(settings.prefix_caching);
    if !identity.lora_names.is_empty() {
        settings.lora = Some(true);
    }
    if settings.served_names.is_empty() {
        settings.served_names.clone_from(&identity.served_names);
    }
}

/// Device readings onto slots, by name.
fn activity(fleet: &mut Fleet, cluster: &Cluster, index: usize) {
    let shown: Vec<&GpuScrape> = each_once(&cluster.gpus)
        .into_iter()
        .filter(|g| g.mig.is_none())
        .collect();
    let mut by_device: HashMap<(&str, &str), &GpuScrape> = HashMap::new();
    for scrape in shown.iter().copied() {
        if let Some(uuid) = &scrape.uuid {
            by_device.insert((&scrape.node, uuid), scrape);
        }
    }
    let pods: HashMap<(&str, &str), PodId> = (0..fleet.pods.len())
        .filter(|p| fleet.pods[*p].cluster == index)
        .map(|p| {
            (
                (fleet.pods[p].namespace.as_str(), fleet.pods[p].name.as_str()),
                PodId(p),
            )
        })
        .collect();
    let mut by_node: HashMap<&str, Vec<Device>> = HashMap::new();
    for scrape in shown {
        let named = scrape
            .holders
            .iter()
            .filter_map(|h| pods.get(&(h.namespace.as_str(), h.name.as_str())).copied());
        let device = of_device(scrape).map(|activity| Device {
            uuid: scrape.uuid.clone().unwrap_or_default(),
            unheld: scrape.maps_pods && scrape.holders.is_empty(),
            activity,
            named: named.collect(),
        });
        by_node.entry(&scrape.node).or_default().extend(device);
    }
    let exporters: HashSet<&str> = cluster
        .pods
        .iter()
        .filter(|p| p.holds() && p.containers.iter().any(|c| exporters::of_container(c).is_some()))
        .filter_map(|p| p.node.as_deref())
        .collect();
    let unread = cluster.unread.iter().filter(|u| u.what == UnreadKind::Exporter);
    let lost: HashSet<&str> = unread.filter_map(|u| u.name.as_deref()).collect();
    for n in (0..fleet.nodes.len())
        .filter(|n| fleet.nodes[*n].cluster == index)
        .collect::<Vec<_>>()
    {
        let name = fleet.nodes[n].name.clone();
        fleet.nodes[n].devices = by_node.remove(name.as_str()).unwrap_or_default();
        fleet.nodes[n].has_exporter = exporters.contains(name.as_str());
        fleet.nodes[n].exporter_lost = lost.contains(name.as_str()) && cluster.gpus.iter().any(|g| g.node == name);
        let slots: Vec<SlotId> = fleet.nodes[n].slot_ids().collect();
        let whole = || slots.iter().map(|s| fleet.slot(*s)).filter(|s| s.mig_profile.is_none());
        let alone = whole().all(|s| whole().all(|other| other.holders == s.holders));
        for slot in slots {
            let place = &fleet.slots[slot.0];
            let Some(scrape) = by_device.get(&(name.as_str(), place.name.as_str())) else {
                continue;
            };
            let told = place.holders.iter().all(|p| {
                let pod = &fleet.pods[p.0];
                // The scheduler gave it the device of this number.
                let given = scrape.index.is_some_and(|i| pod.gpu_indices.contains(&i));
                given
                    || scrape
                        .holders
                        .iter()
                        .any(|h| h.namespace == pod.namespace && h.name == pod.name)
            });
            let shared = place.holders.len() > 1;
            // A pod that the API server lists, and that was put on another device: which is whose is not told.
            let known = |h: &PodName| pods.contains_key(&(h.namespace.as_str(), h.name.as_str()));
            let elsewhere = place.holders.is_empty() && scrape.holders.iter().all(known);
            let whole = place.mig_profile.is_none();
            fleet.slots[slot.0].activity = of_device(scrape).map(|a| GpuActivity {
                shared,
                attributed: told || alone,
                held: a.held.filter(|held| whole && !(*held && elsewhere)),
                ..a
            });
        }
    }
    instances(fleet, cluster, index);
}

/// Readings of MIG instances onto the slots of the pods that the exporter names: instances have no order by which a slot
/// could be told without one. Rows of the whole card beside them are never an instance's.
fn instances(fleet: &mut Fleet, cluster: &Cluster, index: usize) {
    let mut pods: HashMap<(&str, &str), &Pod> = HashMap::new();
    for pod in fleet.pods.iter().filter(|p| p.cluster == index && !p.slots.is_empty()) {
        pods.insert((&pod.namespace, &pod.name), pod);
    }
    let mut found: BTreeMap<SlotId, GpuActivity> = BTreeMap::new();
    for scrape in each_once(&cluster.gpus) {
        let Some(mig) = scrape.mig.as_ref().filter(|m| !m.profile.is_empty()) else {
            continue;
        };
        let mut named: Vec<&[SlotId]> = Vec::new();
        for holder in &scrape.holders {
            let pod = pods.get(&(holder.namespace.as_str(), holder.name.as_str()));
            named.extend(pod.map(|p| p.slots.as_slice()).filter(|s| !named.contains(s)));
        }
        for slots in &named {
            let is_own = |slot: &SlotId| {
                let place = fleet.slot(*slot);
                fleet.node(place.node).name == scrape.node
                    && place
                        .mig_profile
                        .as_deref()
                        .is_some_and(|p| same_profile(p, &mig.profile))
            };
            // A pod with several equal instances: one row each, in whatever order.
            let slot = slots.iter().find(|s| is_own(s) && !found.contains_key(*s));
            let (Some(slot), Some(activity)) = (slot, of_device(scrape)) else {
                continue;
            };
            let shared = named.len() > 1 || fleet.slot(*slot).holders.len() > 1;
            found.insert(
                *slot,
                GpuActivity {
                    shared,
                    attributed: true,
                    // The row repeats the card's power: an instance has none of its own.
                    power_watts: None,
                    gpu_util: None,
                    ..activity
                },
            );
        }
    }
    for (slot, activity) in found {
        fleet.slots[slot.0].activity = Some(activity);
    }
}

/// "1g.10gb+me" of the driver is "1g.10gb.me" in a resource's name.
fn same_profile(slot: &str, told: &str) -> bool {
    slot.replace('+', ".") == told.replace('+', ".")
}

fn of_device(scrape: &GpuScrape) -> Option<GpuActivity> {
    let (first, last) = (scrape.readings.first()?, scrape.readings.last()?);
    let over =
        |of: &dyn Fn(&GpuReading) -> Option<f64>| stat(&scrape.readings.iter().filter_map(of).collect::<Vec<_>>());
    let busy = |r: &GpuReading| {
        [r.sm_active, r.tensor, r.dram]
            .into_iter()
            .flatten()
            .map(|v| v.0)
            .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))))
    };
    let between = seconds(first.at, last.at).max(0.0);
    // Energy is a counter: between two passes it gives the mean power, which no single sample does. The driver's own is of now.
    let span = if scrape.generation == Some(Generation::Nvml) {
        1.0
    } else {
        ENERGY_SPAN
    };
    let mean_power = first
        .energy_joules
        .zip(last.energy_joules)
        .filter(|(a, b)| between > span && b >= a)
        .map(|(a, b)| (b - a) / between);
    // A pass without the figure may be the one in which the device worked.
    let complete =
        |stat: Option<Figure>, of: &dyn Fn(&GpuReading) -> bool| stat.filter(|_| scrape.readings.iter().all(of));
    let mut power = complete(over(&|r| r.power.map(|p| p.0)), &|r| r.power.is_some());
    if let (Some(power), Some(mean)) = (power.as_mut(), mean_power) {
        power.mean = Some(mean);
    }
    Some(GpuActivity {
        window_seconds: between,
        history: false,
        engine_active: over(&|r| r.gr_engine.or(r.gpu_util).map(|v| v.0)),
        gpu_util: over(&|r| r.gpu_util.map(|v| v.0)),
        busy: over(&busy),
        tensor: complete(over(&|r| r.tensor.map(|v| v.0)), &|r| r.tensor.is_some()),
        dram: complete(over(&|r| r.dram.map(|v| v.0)), &|r| r.dram.is_some()),
        power_watts: power,
        memory_used: over(&|r| r.memory_used.map(|b| b.0 as f64)),
        held: (scrape.maps_pods || !scrape.holders.is_empty()).then_some(!scrape.holders.is_empty()),
        ..GpuActivity::default()
    })
}

/// A workload's GPUs together.
fn busy(fleet: &mut Fleet, index: usize) {
    for w in 0..fleet.workloads.len() {
        if fleet.workloads[w].cluster != index {
            continue;
        }
        let slots = fleet.workloads[w].replicas.iter().flat_map(|r| r.slots.iter());
        let values: Vec<f64> = slots
            .filter_map(|s| {
                fleet.slots[s.0]
                    .activity
                    .as_ref()
                    .filter(|a| !a.shared && a.attributed)?
                    .busy?
                    .mean
            })
            .collect();
        fleet.workloads[w].observed.gpu_busy = stat(&values);
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
