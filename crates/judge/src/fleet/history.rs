//! History onto workloads, replicas and slots: the window instead of a moment.
//!
//! A workload gets what its dead pods did too, by the stem of their names; a pod and a device get only what happened in
//! that pod's own time. What is younger than the window is judged on its own life.

use super::{Bins, Fleet, GpuActivity, Observed, ObservedBy, SlotId, WorkloadId, history_usage};
use crate::settings::Settings;
use crate::snapshot::Gap;
use crate::snapshot::cluster::{Cluster, Scheduler};
use crate::snapshot::engine::Histogram;
use crate::snapshot::history::{BinLimits, Figure, GpuHistory, History, LoadHistory, stem};
use gpuwaste_facts::limits::{Says, divisor};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Share of the judged time that samples must cover to be believed over other evidence (R6).
pub const COVERED: f64 = 0.8;
const DAY: f64 = 86_400.0;

pub(super) fn attach(fleet: &mut Fleet, cluster: &Cluster, index: usize, settings: &Settings) {
    let Some(history) = cluster.history.as_deref() else {
        return;
    };
    let owners = owners(fleet, index);
    let shared: Vec<&(String, String)> = owners.iter().filter(|(_, w)| w.len() > 1).map(|(k, _)| k).collect();
    for (namespace, name) in shared {
        fleet.gaps.push(Gap {
            source: format!("prometheus {}", history.store),
            what: format!("history of {namespace}/{name}"),
            reason: "pods of several workloads have names that differ only in what their controllers made up".into(),
            effect: "their loads cannot be told apart and are not attributed".into(),
            remedy: "rename one of them".into(),
        });
    }
    other_limits(fleet, history, &settings.thresholds.bin_limits());
    holes(fleet, history, index);
    loads(fleet, history, index, settings, &owners);
    // Hosts without a scheduler and Slurm's jobs are told by other figures.
    let asked = cluster.scheduler == Scheduler::Kubernetes && !cluster.metrics_only;
    devices(fleet, history, index, asked);
    free(fleet, history, index);
    history_usage::attach(fleet, history, index, &owners);
}

/// Families of series that are missing, or that cover less than most of their own life: an outage is told, not guessed from
/// what is not found.
fn holes(fleet: &mut Fleet, history: &History, index: usize) {
    let share = |bins: Option<f64>, first: Option<Timestamp>| {
        let (_, expected) = life(history, first, None);
        bins.map(|n| (n / expected).min(1.0))
    };
    let devices = history.gpus.iter().filter_map(|g| {
        let figures = [g.gr_engine, g.gpu_util, g.power_watts, g.busy];
        let bins = figures.into_iter().flatten().filter_map(|f| f.bins).reduce(f64::max);
        share(bins, g.first.or(Some(history.end)))
    });
    let engines = history.workloads.iter().filter(|l| has_load(l)).filter_map(|l| {
        let main = l.requests.or(l.output_tokens).or(l.prompt_tokens).or(l.running);
        share(main.and_then(|f| f.bins), l.first)
    });
    let has_servers = fleet
        .workloads
        .iter()
        .any(|w| w.cluster == index && w.engine().is_some());
    let has_nodes = fleet.nodes.iter().any(|n| n.cluster == index);
    let families: [(&str, &str, bool, Vec<f64>, &str); 3] = [
        (
            "device series (DCGM, AMD or Gaudi exporter)",
            "GPUs that are idle without a server's counters are not found, and free ones are never measured",
            has_nodes,
            devices.collect(),
            "let Prometheus scrape the GPU exporter",
        ),
        (
            "series of serving engines",
            "servers are judged by their live counters alone: no week of load, no schedule, no measured size",
            has_servers,
            engines.collect(),
            "let Prometheus scrape the servers' metrics (a PodMonitor or annotations)",
        ),
        (
            "what nodes handed out (kube-state-metrics)",
            "that GPUs were free for a day is told by devices alone",
            has_nodes && !fleet.clusters[index].metrics_only,
            history
                .nodes
                .iter()
                .map(|n| n.bins / (DAY / history.bin_seconds.max(1) as f64))
                .collect(),
            "let Prometheus scrape kube-state-metrics",
        ),
    ];
    for (what, effect, expected, covered, remedy) in families {
        let middle = middle(covered);
        let reason = match middle {
            None if expected => "the store has none of this cluster".to_string(),
            Some(share) if share < COVERED => {
                format!(
                    "they cover {:.0} % of the time that is judged: an outage, or scrapes that fail",
                    share * 100.0
                )
            }
            _ => continue,
        };
        fleet.gaps.push(Gap {
            source: format!("prometheus {}", history.store),
            what: what.into(),
            reason,
            effect: effect.into(),
            remedy: remedy.into(),
        });
    }
}

/// The middle value; `None`: there is none.
fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Bins that were counted by other limits than the policy's are no answer to its question.
fn other_limits(fleet: &mut Fleet, history: &History, wanted: &BinLimits) {
    let then = &history.limits;
    let mut differ: Vec<String> = Vec::new();
    for (key, was, is) in [
        ("kv_pressure_usage", then.kv_full, wanted.kv_full),
        ("capacity_kv_usage", then.kv_calm, wanted.kv_calm),
        ("cpu_throttled_share", then.throttled, wanted.throttled),
        ("cpu_saturated_share", then.saturated, wanted.saturated),
        ("gpu_starved", then.starved, wanted.starved),
        ("starved_running_share", then.loaded, wanted.loaded),
        (
            "gpu_oom_seconds",
            then.crash_seconds as f64,
            wanted.crash_seconds as f64,
        ),
    ] {
        if !equal(was, is) {
            differ.push(format!("{key} {was}, not {is}"));
        }
    }
    if !differ.is_empty() {
        fleet.gaps.push(Gap {
            source: format!("prometheus {}", history.store),
            what: "how many bins were bad, by this policy".into(),
            reason: format!(
                "the store counted them when the snapshot was recorded, with {}",
                differ.join("; ")
            ),
            effect: "what depends on these thresholds is not judged by history".into(),
            remedy: "record again with this policy (collect --policy), or judge with the thresholds of then".into(),
        });
    }
}

fn equal(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// (namespace, stem) → workloads. More than one: not attributable.
pub(super) type Owners = BTreeMap<(String, String), BTreeSet<WorkloadId>>;

fn owners(fleet: &Fleet, index: usize) -> Owners {
    let mut owners = Owners::new();
    for (w, workload) in fleet.workloads.iter().enumerate().filter(|(_, w)| w.cluster == index) {
        for pod in &workload.pods {
            let key = (workload.namespace.clone(), stem(&fleet.pod(*pod).name).to_string());
            owners.entry(key).or_default().insert(WorkloadId(w));
        }
    }
    owners
}

fn loads(fleet: &mut Fleet, history: &History, index: usize, settings: &Settings, owners: &Owners) {
    let pods: HashMap<(&str, &str), &LoadHistory> = history
        .pods
        .iter()
        .map(|l| ((l.namespace.as_str(), l.name.as_str()), l))
        .collect();
    for w in 0..fleet.workloads.len() {
        if fleet.workloads[w].cluster != index {
            continue;
        }
        let stems: Vec<&LoadHistory> = history
            .workloads
            .iter()
            .filter(|l| {
                owners
                    .get(&(l.namespace.clone(), l.name.clone()))
                    .is_some_and(|o| o.len() == 1 && o.contains(&WorkloadId(w)))
            })
            .collect();
        let mut seen = 0_u32;
        for r in 0..fleet.workloads[w].replicas.len() {
            let of_pod = fleet.workloads[w].replicas[r].pods.iter().find_map(|p| {
                let pod = fleet.pod(*p);
                let load = pods.get(&(pod.namespace.as_str(), pod.name.as_str()))?;
                let own = own_life(load.first?, pod.created_at, history);
                (has_load(load) && own).then_some(*load)
            });
            if let Some(load) = of_pod {
                seen += 1;
                let live = fleet.workloads[w].replicas[r].observed.clone();
                fleet.workloads[w].replicas[r].observed = observed(load, history, None, 1.0, live, settings);
            }
        }
        let replicas = fleet.workloads[w].replicas.len();
        if let Some(load) = stems.iter().find(|l| has_load(l)) {
            let share = f64::from(seen) / replicas.max(1) as f64;
            let live = std::mem::take(&mut fleet.workloads[w].observed);
            let created = fleet.workloads[w].created_at;
            fleet.workloads[w].observed = observed(load, history, created, share.min(1.0), live, settings);
        }
        fleet.workloads[w].unbroken = unbroken(fleet, WorkloadId(w), &stems, history);
        // Device and CPU figures stand on their own: an engine without metrics has them too.
        for load in stems {
            let since = load.first.or(fleet.workloads[w].created_at);
            extras(
                &mut fleet.workloads[w].observed,
                load,
                history,
                since,
                &settings.thresholds.bin_limits(),
            );
        }
    }
}

/// Whether counters prove what holes of the history hide: the same processes ran through all of it, and there are samples
/// at both ends, between which nothing was counted.
fn unbroken(fleet: &Fleet, id: WorkloadId, stems: &[&LoadHistory], history: &History) -> bool {
    let workload = fleet.workload(id);
    let start = history.end.as_second() - i64::try_from(history.window_seconds).unwrap_or(i64::MAX);
    let old = |p: &super::PodId| fleet.pod(*p).started_at.is_some_and(|at| at.as_second() <= start);
    let [load] = stems else { return false };
    let ends = |hours: &[Option<f64>]| {
        let near = hours.len().min(2);
        near > 0 && hours[..near].iter().any(Option::is_some) && hours[hours.len() - near..].iter().any(Option::is_some)
    };
    workload.pods.iter().all(old)
        && load.restarts == Some(0.0)
        && load.requests_total == Some(0.0)
        && load.output_tokens_total == Some(0.0)
        && ends(&load.hourly)
}

/// Nothing of the series is older than the pod: a StatefulSet gives its pods their predecessors' names.
fn own_life(first: Timestamp, created: Option<Timestamp>, history: &History) -> bool {
    created.is_some_and(|c| seconds(first, c) <= history.bin_seconds as f64)
}

fn has_load(load: &LoadHistory) -> bool {
    load.requests.is_some() || load.output_tokens.is_some() || load.prompt_tokens.is_some() || load.running.is_some()
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// The time that is judged, and the bins it has: the window, cut to the life of the series and of the workload.
fn life(history: &History, first: Option<Timestamp>, created: Option<Timestamp>) -> (f64, f64) {
    let window = history.window_seconds as f64;
    let since = |t: Option<Timestamp>| t.map_or(window, |t| seconds(t, history.end).clamp(0.0, window));
    // A workload cannot have lived less than its series: stems outlive a Deployment that was made anew.
    let life = since(first).min(since(created).max(since(first)));
    (life, (life / history.bin_seconds.max(1) as f64).floor().max(1.0))
}

/// With how much of the judged time it covers.
fn stat(figure: Option<Figure>, bins: f64) -> Option<Figure> {
    let figure = figure?;
    Some(Figure {
        coverage: figure.bins.map(|n| (n / bins).min(1.0)),
        bins: None,
        ..figure
    })
}

fn observed(
    load: &LoadHistory,
    history: &History,
    created: Option<Timestamp>,
    replicas_seen: f64,
    live: Observed,
    settings: &Settings,
) -> Observed {
    let (window, bins) = life(history, load.first, created);
    let main = load
        .requests
        .or(load.output_tokens)
        .or(load.prompt_tokens)
        .or(load.running);
    let coverage = main.and_then(|f| f.bins).map(|n| (n / bins).min(1.0) * replicas_seen);
    let long = window >= settings.thresholds.minimum_window_seconds as f64 || window >= live.window_seconds;
    let counted = live.by == ObservedBy::LifetimeCounters && live.coverage.is_some_and(|c| c >= COVERED);
    if counted && !(coverage.is_some_and(|c| c >= COVERED) && long) {
        // Counters with a known start say more than a history full of holes.
        return live;
    }
    // A scrape may miss what happened before a counter's first sample: the live counter, if it is younger, does not.
    let inside = counted && live.window_seconds <= window;
    let at_least = |history: Option<f64>, live: Option<f64>| match (history, live.filter(|_| inside)) {
        (Some(h), Some(l)) => Some(h.max(l)),
        (h, l) => h.or(l),
    };
    let quantile = |h: &Option<Histogram>, q: f64| h.as_ref().and_then(|h| h.quantile(q));
    let time = |h: &Option<Histogram>| h.as_ref().and_then(|h| h.time(0.95));
    let kv = stat(load.kv_usage.map(as_ratio), bins);
    Observed {
        by: ObservedBy::History,
        window_seconds: window,
        coverage,
        requests: at_least(load.requests_total, live.requests),
        prompt_tokens: at_least(load.prompt_tokens_total, live.prompt_tokens),
        output_tokens: at_least(load.output_tokens_total, live.output_tokens),
        preemptions: at_least(load.preemptions_total, live.preemptions),
        requests_per_second: stat(load.requests, bins),
        prompt_tokens_per_second: stat(load.prompt_tokens, bins),
        output_tokens_per_second: stat(load.output_tokens, bins),
        running: stat(load.running, bins).or(live.running),
        waiting: stat(load.waiting, bins).or(live.waiting),
        kv_usage: kv.or(live.kv_usage),
        preemptions_per_hour: stat(load.preemptions, bins).map(|s| s.scaled(3600.0)),
        time_to_first_token_p95: time(&load.time_to_first_token).or(live.time_to_first_token_p95),
        inter_token_latency_p95: time(&load.inter_token_latency).or(live.inter_token_latency_p95),
        latency_by_mean: match load.inter_token_latency.as_ref().filter(|h| h.time(0.95).is_some()) {
            Some(h) => h.is_mean_only(),
            None => live.latency_by_mean,
        },
        e2e_latency_sum: load.e2e_latency.as_ref().map(|h| h.sum),
        prompt_length_p50: quantile(&load.prompt_length, 0.5).or(live.prompt_length_p50),
        prompt_length_p95: quantile(&load.prompt_length, 0.95).or(live.prompt_length_p95),
        output_length_p50: quantile(&load.output_length, 0.5).or(live.output_length_p50),
        output_length_p95: quantile(&load.output_length, 0.95).or(live.output_length_p95),
        ..live
    }
}

/// Some engines write percent.
fn as_ratio(figure: Figure) -> Figure {
    let values: Vec<f64> = figure.max.into_iter().collect();
    match divisor(Says::Ratio, values) {
        Some(by) if by > 1.0 => figure.scaled(1.0 / by),
        _ => figure,
    }
}

/// GPU, CPU and bin counts of a workload's stem.
fn extras(
    observed: &mut Observed,
    load: &LoadHistory,
    history: &History,
    since: Option<Timestamp>,
    wanted: &BinLimits,
) {
    let then = &history.limits;
    let same_kv = equal(then.kv_full, wanted.kv_full);
    let same_calm = equal(then.kv_calm, wanted.kv_calm);
    let same_cpu = equal(then.throttled, wanted.throttled)
        && equal(then.saturated, wanted.saturated)
        && equal(then.starved, wanted.starved)
        && equal(then.loaded, wanted.loaded);
    let same_crash = same_kv && then.crash_seconds == wanted.crash_seconds;
    let (_, bins) = life(history, since, None);
    observed.gpu_busy = stat(load.gpu_busy, bins).or(observed.gpu_busy);
    observed.cpu_share = stat(load.cpu_share, bins).or(observed.cpu_share);
    observed.cpu_throttled = stat(load.cpu_throttled, bins).or(observed.cpu_throttled);
    let told = observed.bins.take().map(|b| *b).unwrap_or_default();
    observed.bins = Some(Box::new(Bins {
        bin_seconds: history.bin_seconds as f64,
        traffic: load.traffic_bins.or(told.traffic),
        kv_bad: load.kv_bad_bins.or(told.kv_bad).filter(|_| same_kv),
        kv_by_other_limits: !same_kv,
        starved_by_other_limits: !same_cpu,
        replicas: stat(load.replicas, bins).or(told.replicas),
        replicas_low: load.replicas_low.or(told.replicas_low),
        kv_usage_sum: stat(load.kv_usage_sum, bins).or(told.kv_usage_sum),
        replica_capacity: load.replica_capacity.or(told.replica_capacity).filter(|_| same_calm),
        starved: load.starved_bins.or(told.starved).filter(|_| same_cpu),
        starved_busy: load.starved_busy.or(told.starved_busy),
        fed: load.fed_bins.or(told.fed),
        fed_busy: load.fed_busy.or(told.fed_busy),
        gpu_engine: stat(load.gpu_engine, bins).or(told.gpu_engine),
        restarts: load.restarts.or(told.restarts),
        oom_kills: load.oom_kills.or(told.oom_kills),
        crashes_under_pressure: load
            .crashes_under_pressure
            .or(told.crashes_under_pressure)
            .filter(|_| same_crash),
        hourly: if load.hourly.is_empty() {
            told.hourly
        } else {
            load.hourly.clone()
        },
        hourly_end: history.end,
    }));
}

/// Device rows onto slots, by who held them: the device's name may be unknown where no exporter was scraped.
fn devices(fleet: &mut Fleet, history: &History, index: usize, asked: bool) {
    let mut by_holder: HashMap<(&str, &str), Vec<&GpuHistory>> = HashMap::new();
    for row in &history.gpus {
        if let Some(holder) = &row.holder {
            by_holder
                .entry((&holder.namespace, &holder.name))
                .or_default()
                .push(row);
        }
    }
    // Two pods on one device now: its value is nobody's own, whatever slots the pods were put on.
    let recent = |r: &GpuHistory| {
        r.last
            .is_some_and(|l| seconds(l, history.end) <= 3.0 * history.bin_seconds as f64)
    };
    let mut sharers: HashMap<(&str, &str), usize> = HashMap::new();
    for row in history.gpus.iter().filter(|r| r.holder.is_some() && recent(r)) {
        *sharers.entry(device_of(row)).or_default() += 1;
    }
    unheld(fleet, history, index, asked);
    for p in 0..fleet.pods.len() {
        let pod = &fleet.pods[p];
        if pod.cluster != index || pod.slots.is_empty() {
            continue;
        }
        let mut rows: Vec<&GpuHistory> = by_holder
            .get(&(pod.namespace.as_str(), pod.name.as_str()))
            .into_iter()
            .flatten()
            // A pod keeps its devices for life; rows that ended long ago are a restart's on other devices.
            .filter(|r| match r.first {
                Some(first) => own_life(first, pod.created_at, history) && recent(r),
                None => all_along(r, pod.created_at, history),
            })
            .copied()
            .collect();
        // The store did not tell its profile: the pod's only instance is the one.
        let only = pod.slots.len() == 1 && rows.len() == 1;
        for slot in pod.slots.clone() {
            let place = fleet.slot(slot);
            let named = rows.iter().position(|r| r.mig.is_none() && r.uuid == place.name);
            let fits = |r: &&GpuHistory| {
                let profile = r.mig.as_ref().map(|m| m.profile.as_str());
                profile == place.mig_profile.as_deref() || only && profile == Some("") && place.mig_profile.is_some()
            };
            let Some(at) = named.or_else(|| rows.iter().position(fits)) else {
                continue;
            };
            let row = rows.remove(at);
            let shared = fleet.slot(slot).holders.len() > 1 || sharers.get(&device_of(row)).is_some_and(|n| *n > 1);
            let live = fleet.slots[slot.0].activity.take().filter(|a| !a.history);
            fleet.slots[slot.0].live = live.map(Box::new);
            fleet.slots[slot.0].activity = Some(activity(row, history, shared, asked));
        }
    }
}

/// What devices did while nobody held them, onto the slots that nobody holds: by the device's name where an exporter gave
/// it, else by its node, where as many devices as slots are without a holder.
fn unheld(fleet: &mut Fleet, history: &History, index: usize, asked: bool) {
    let mut by_node: HashMap<&str, Vec<&GpuHistory>> = HashMap::new();
    let recent = |r: &&GpuHistory| {
        r.last
            .is_some_and(|l| seconds(l, history.end) <= 3.0 * history.bin_seconds as f64)
    };
    for row in history
        .gpus
        .iter()
        .filter(|r| r.holder.is_none() && r.mig.is_none())
        .filter(recent)
    {
        by_node
            .entry(row.node.as_deref().unwrap_or_default())
            .or_default()
            .push(row);
    }
    for n in (0..fleet.nodes.len())
        .filter(|n| fleet.nodes[*n].cluster == index)
        .collect::<Vec<_>>()
    {
        let Some(mut rows) = by_node.remove(fleet.nodes[n].name.as_str()) else {
            continue;
        };
        let mut slots: Vec<SlotId> = fleet.nodes[n].slot_ids().collect();
        slots.retain(|s| !fleet.slot(*s).is_allocated() && fleet.slot(*s).mig_profile.is_none());
        let mut found: Vec<(SlotId, &GpuHistory)> = Vec::new();
        slots.retain(|s| {
            let at = rows.iter().position(|r| r.uuid == fleet.slot(*s).name);
            found.extend(at.map(|at| (*s, rows.remove(at))));
            at.is_none()
        });
        // Slots without names: any order will do, for nobody holds any of them.
        let unnamed = slots.iter().all(|s| fleet.slot(*s).name.starts_with("slot-"));
        if unnamed && rows.len() == slots.len() {
            found.extend(slots.into_iter().zip(rows));
        }
        for (slot, row) in found {
            let live = fleet.slots[slot.0].activity.take().filter(|a| !a.history);
            fleet.slots[slot.0].live = live.map(Box::new);
            fleet.slots[slot.0].activity = Some(activity(row, history, false, asked));
        }
    }
}

/// Since when a row is there is told by one figure, which not every device has: one whose other figures cover most of the
/// window was there all along, and is a pod's own where that is older than the window.
fn all_along(row: &GpuHistory, created: Option<Timestamp>, history: &History) -> bool {
    let (window, bins) = life(history, None, None);
    let figures = [row.gr_engine, row.gpu_util, row.memory_used_bytes, row.busy];
    let most = figures.into_iter().flatten().filter_map(|f| f.bins).reduce(f64::max);
    most.is_some_and(|n| n >= COVERED * bins) && created.is_some_and(|c| seconds(c, history.end) >= window)
}

fn device_of(row: &GpuHistory) -> (&str, &str) {
    (&row.uuid, row.mig.as_ref().map_or("", |m| m.id.as_str()))
}

fn activity(row: &GpuHistory, history: &History, shared: bool, asked: bool) -> GpuActivity {
    let (window, bins) = life(history, row.first, None);
    let max = |f: Option<Figure>| f.and_then(|f| f.max).unwrap_or(0.0);
    // Profiling counters can stick at 0 for weeks on busy GPUs: then they say nothing.
    // GPU_UTIL is not told for MIG instances: a 0 there is no idleness.
    let util = row.gpu_util.filter(|_| row.mig.is_none());
    let stuck = max(row.gr_engine) <= 0.0 && max(util) > 0.0;
    let engine = row.gr_engine.filter(|_| !stuck).or(util);
    let profiled = |f: Option<Figure>| stat(f.filter(|_| !stuck), bins);
    GpuActivity {
        window_seconds: window,
        history: true,
        engine_active: stat(engine, bins).filter(|s| s.coverage.is_some_and(|c| c >= COVERED) || s.max > Some(0.0)),
        gpu_util: stat(util, bins),
        busy: profiled(row.busy),
        tensor: profiled(row.tensor),
        dram: profiled(row.dram),
        power_watts: stat(row.power_watts, bins),
        memory_used: stat(row.memory_used_bytes, bins),
        held: Some(row.holder.is_some()),
        at_rest_seconds: at_rest(row, history, window, asked),
        shared,
        attributed: true,
    }
}

/// Seconds from the last bin in which the device computed to the last that was seen. Where much of the last day was not seen,
/// nobody knows that it rests still. `asked`: how much was, the store is asked here, so that no answer is a lost one.
fn at_rest(row: &GpuHistory, history: &History, window: f64, asked: bool) -> Option<f64> {
    let day = DAY / history.bin_seconds.max(1) as f64;
    let seen = row.day_bins.map_or(!asked, |bins| bins >= COVERED * day);
    let until = row.last.map_or(history.end, |l| l.min(history.end));
    let last = row.last_active.filter(|_| seen)?;
    Some(seconds(last, until).clamp(0.0, window))
}

/// Free slots that were free most of the last day: by device rows without a holder, else by the node's count.
fn free(fleet: &mut Fleet, history: &History, index: usize) {
    let day_bins = DAY / history.bin_seconds.max(1) as f64;
    // A device is free where its unheld rows cover most of the day.
    let mut unheld: BTreeMap<(&str, &str, &str), f64> = BTreeMap::new();
    for row in history.gpus.iter().filter(|r| r.holder.is_none()) {
        let mig = row.mig.as_ref().map_or("", |m| m.id.as_str());
        let node = row.node.as_deref().unwrap_or_default();
        *unheld.entry((node, &row.uuid, mig)).or_default() += row.day_bins.unwrap_or(0.0);
    }
    // Only where exporters name holders is a device without one free.
    let told: BTreeSet<&str> = history
        .gpus
        .iter()
        .filter(|r| r.holder.is_some())
        .map(|r| r.node.as_deref().unwrap_or_default())
        .collect();
    for n in 0..fleet.nodes.len() {
        if fleet.nodes[n].cluster != index {
            continue;
        }
        let slots: Vec<SlotId> = fleet.nodes[n].slot_ids().collect();
        let held = slots.iter().any(|s| !fleet.slot(*s).holders.is_empty());
        let free: Vec<SlotId> = slots
            .iter()
            .copied()
            .filter(|s| fleet.slot(*s).holders.is_empty())
            .collect();
        let name = fleet.nodes[n].name.as_str();
        let tells = told.contains(name) || (!held && !told.is_empty());
        // Exporters and kube-state-metrics may not know DRA's holders: what they show without one need not be free.
        if slots.iter().any(|s| fleet.slot(*s).dra) {
            continue;
        }
        let by_device = unheld
            .iter()
            .filter(|((node, ..), bins)| tells && *node == name && **bins >= COVERED * day_bins)
            .count();
        let by_count = history
            .nodes
            .iter()
            .find(|h| h.node == name && h.bins >= COVERED * day_bins)
            .map_or(0, |h| slots.len().saturating_sub(h.allocated_p80.ceil() as usize));
        if by_device.max(by_count) >= free.len() {
            for slot in free {
                fleet.slots[slot.0].free_for_a_day = true;
            }
        }
    }
}
