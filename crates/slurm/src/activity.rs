//! What exporters of the nodes show, onto jobs: the job's node and the index of the GPU that it was given are the exporter's host
//! and index. A store's figures are over its whole window: a job gets what happened in its own time, as far as that can be told. Where the
//! series name the job themselves (jobstats, slurm-job-exporter) they are its own from the first sample on.

use gpuwaste_facts::snapshot::cluster::{Cluster, Node, Pod};
use gpuwaste_facts::snapshot::figure::Figure;
use gpuwaste_facts::snapshot::gpu::{GpuScrape, PodName};
use gpuwaste_facts::snapshot::history::{GpuHistory, History};
use jiff::{SignedDuration, Timestamp};
use std::collections::{HashMap, HashSet};

/// In a bin with less than this nothing computed: what [`GpuHistory::last_active`] is told by.
const AT_REST: f64 = 0.01;
/// Bins back from the end that are now.
const NOW: i64 = 3;

/// Nodes of the cluster that the store knows, and those that it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    pub nodes: usize,
    pub unmatched: usize,
}

/// Attaches devices and history to the cluster's nodes and jobs. What is of other hosts is dropped.
pub fn attach(cluster: &mut Cluster, gpus: Vec<GpuScrape>, history: Option<Box<History>>) -> Matched {
    let names: HashMap<String, String> = cluster
        .nodes
        .iter()
        .flatten()
        .map(|n| (n.name.to_ascii_lowercase(), n.name.clone()))
        .collect();
    let node_of = |host: &str| {
        let host = host.to_ascii_lowercase();
        let short = host.split('.').next().unwrap_or_default();
        names.get(&host).or_else(|| names.get(short)).cloned()
    };
    let parts = |n: &&Node| n.capacity.devices.keys().any(|d| d.starts_with("nvidia.com/mig-"));
    let parted = cluster.nodes.iter().flatten().filter(parts);
    let told = |node: &str| {
        gpus.iter()
            .any(|g| g.mig.is_some() && node_of(&g.node).as_deref() == Some(node))
    };
    let parted: HashSet<String> = parted.map(|n| n.name.clone()).filter(|n| !told(n)).collect();
    let mut shown: Vec<GpuScrape> = Vec::new();
    for mut gpu in gpus {
        if let Some(node) = node_of(&gpu.node) {
            // A card of which instances are given away is none that anybody has, where nothing is told of the instances.
            if gpu.mig.is_none() && parted.contains(node.as_str()) {
                continue;
            }
            gpu.node = node;
            // Who holds it, the scheduler says.
            gpu.holders.clear();
            gpu.maps_pods = false;
            shown.push(gpu);
        }
    }
    let known: HashSet<&str> = shown.iter().map(|g| g.node.as_str()).collect();
    let matched = Matched {
        nodes: known.len(),
        unmatched: names.len() - known.len(),
    };
    if matched.nodes == 0 {
        return matched;
    }
    if let Some(mut history) = history {
        history.gpus = rows(&history, &shown, &cluster.pods, &node_of);
        // The store's rows of pods are of no job; what is left is of these hosts alone.
        history.pods.clear();
        history.workloads.clear();
        history.nodes.clear();
        history.usage.clear();
        let hosts = format!("hosts of {}", cluster.name);
        history.scope = Some(history.scope.map_or(hosts.clone(), |s| format!("{s}, {hosts}")));
        cluster.history = Some(history);
    }
    // An exporter's devices take the place of what GRES alone says of a node's cards.
    let told: HashSet<String> = shown.iter().map(|g| g.node.clone()).collect();
    cluster.gpus.retain(|g| !told.contains(&g.node));
    cluster.gpus.extend(shown);
    matched
}

fn rows(
    history: &History,
    shown: &[GpuScrape],
    pods: &[Pod],
    node_of: &dyn Fn(&str) -> Option<String>,
) -> Vec<GpuHistory> {
    let index: HashMap<(&str, &str), u32> = shown
        .iter()
        .filter_map(|g| Some(((g.node.as_str(), g.uuid.as_deref()?), g.index?)))
        .collect();
    let mut holders: HashMap<(&str, u32), Vec<&Pod>> = HashMap::new();
    for pod in pods {
        let Some(node) = pod.node.as_deref() else { continue };
        for index in &pod.gpu_indices {
            holders.entry((node, *index)).or_default().push(pod);
        }
    }
    let named: HashMap<(&str, &str), &Pod> = pods
        .iter()
        .filter_map(|p| Some(((p.node.as_deref()?, p.name.split('.').next()?), p)))
        .collect();
    // Devices of which the series say whose they were: what they say of nobody's time is nobody's.
    let told: HashSet<&str> = history
        .gpus
        .iter()
        .filter(|r| job_of(r).is_some())
        .map(|r| r.uuid.as_str())
        .collect();
    let mut out = Vec::new();
    for row in &history.gpus {
        let Some(node) = row.node.as_deref().and_then(node_of) else {
            continue;
        };
        let job = job_of(row);
        let mut row = GpuHistory {
            node: Some(node.clone()),
            holder: None,
            ..row.clone()
        };
        // An instance's row says which instance, and jobs are given instances by other numbers.
        let index = index
            .get(&(node.as_str(), row.uuid.as_str()))
            .filter(|_| row.mig.is_none());
        let Some(index) = index else {
            out.push(row);
            continue;
        };
        if let Some(job) = job {
            let of = holders.get(&(node.as_str(), *index)).map_or(&[][..], Vec::as_slice);
            let pod = named.get(&(node.as_str(), job.as_str()));
            // A job that has ended, a card that Slurm says it has not, or several on one card: not known.
            if let ([held], Some(pod)) = (of, pod)
                && std::ptr::eq(*held, *pod)
            {
                row.holder = Some(PodName {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                    container: None,
                });
                out.push(row);
            }
            continue;
        }
        if told.contains(row.uuid.as_str()) && holders.contains_key(&(node.as_str(), *index)) {
            continue;
        }
        let kept = match holders.get(&(node.as_str(), *index)).map_or(&[][..], Vec::as_slice) {
            [] => of_nobody(row, history),
            [pod] => {
                row.holder = Some(PodName {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                    container: None,
                });
                pod.started_at.and_then(|started| of_job(row, started, history))
            }
            // Shared: a device's figures are nobody's own.
            _ => None,
        };
        out.extend(kept);
    }
    out
}

/// The job that a row's own series name: Slurm's raw id, also of tasks of arrays.
fn job_of(row: &GpuHistory) -> Option<String> {
    let name = &row.holder.as_ref()?.name;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.clone())
}

fn bin(history: &History) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(history.bin_seconds.max(1)).unwrap_or(300))
}

/// Whether anything ever computed on it in the window; `None`: the store does not say.
fn ever(row: &GpuHistory) -> Option<bool> {
    let figures = [row.gr_engine, row.gpu_util];
    let most = figures.into_iter().filter_map(|f| f?.max).reduce(f64::max)?;
    Some(most > AT_REST)
}

/// What happened in the job's time, from `started` on.
fn of_job(row: GpuHistory, started: Timestamp, history: &History) -> Option<GpuHistory> {
    let first = row.first?;
    if started <= first + bin(history) {
        return Some(row);
    }
    let active = match (ever(&row), row.last_active) {
        (Some(false), _) => None,
        (Some(true), Some(at)) => Some(at),
        // It worked, and nobody says when: it may have been the job.
        _ => return None,
    };
    // The bin in which it began is the one before's as well.
    let own = active.filter(|at| *at > started + bin(history));
    Some(since(row, started, own, history))
}

/// A device that nobody holds has done nothing since it last computed; when it was given back is not told.
fn of_nobody(row: GpuHistory, history: &History) -> Option<GpuHistory> {
    let first = row.first?;
    match (ever(&row), row.last_active) {
        (Some(false), _) => Some(row),
        (Some(true), Some(at)) => {
            let now = history.end - bin(history) * i32::try_from(NOW).unwrap_or(3);
            if at > now {
                // It computes, and nobody holds it.
                return Some(row);
            }
            let free = (at + bin(history)).max(first);
            Some(since(row, free, None, history))
        }
        _ => None,
    }
}

/// The row from `start` on, of which only this is known: whether, and when last, something computed.
fn since(row: GpuHistory, start: Timestamp, active: Option<Timestamp>, history: &History) -> GpuHistory {
    let first = row.first.unwrap_or(start);
    let before = start.duration_since(first).as_secs_f64() / history.bin_seconds.max(1) as f64;
    let own = |figure: Option<Figure>| {
        let figure = figure?;
        Some(Figure {
            // The most that it can be: of a job at rest nothing, of one that worked what the device did at most.
            max: if active.is_some() {
                figure.max
            } else {
                figure.max.map(|m| m.min(AT_REST))
            },
            mean: None,
            p50: None,
            p95: None,
            p99: None,
            coverage: None,
            // Bins that are missing may be missing here.
            bins: figure.bins.map(|n| (n - before.ceil()).max(0.0)),
        })
    };
    GpuHistory {
        first: Some(start),
        last_active: active,
        gpu_util: own(row.gpu_util),
        gr_engine: own(row.gr_engine),
        day_bins: None,
        sm_active: None,
        tensor: None,
        dram: None,
        busy: None,
        power_watts: None,
        memory_used_bytes: None,
        ..row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: i64 = 1_796_000_000;
    const HOUR: i64 = 3600;

    fn at(hours_ago: i64) -> Timestamp {
        Timestamp::from_second(END - hours_ago * HOUR).expect("a time")
    }

    fn row(uuid: &str, last_active: Option<i64>) -> GpuHistory {
        GpuHistory {
            uuid: uuid.into(),
            node: Some("GPU1.cluster.example".into()),
            first: Some(at(168)),
            last: Some(at(0)),
            last_active: last_active.map(at),
            gpu_util: Some(Figure {
                max: Some(if last_active.is_some() { 0.9 } else { 0.0 }),
                mean: Some(0.3),
                bins: Some(2016.0),
                ..Figure::default()
            }),
            power_watts: Some(Figure::default()),
            ..GpuHistory::default()
        }
    }

    fn joined(pods: Vec<Pod>, rows: Vec<GpuHistory>) -> Cluster {
        let node = Node {
            name: "gpu1".into(),
            ..Node::default()
        };
        let mut cluster = Cluster {
            nodes: Some(vec![node]),
            pods,
            ..Cluster::default()
        };
        let gpus = (0..4).map(|i| GpuScrape {
            node: "gpu1.cluster.example".into(),
            uuid: Some(format!("GPU-{i}")),
            index: Some(i),
            ..GpuScrape::default()
        });
        let history = History {
            end: at(0),
            window_seconds: 168 * 3600,
            bin_seconds: 300,
            gpus: rows,
            ..History::default()
        };
        let matched = attach(&mut cluster, gpus.collect(), Some(Box::new(history)));
        assert_eq!((matched.nodes, matched.unmatched), (1, 0));
        cluster
    }

    fn pod(name: &str, index: u32, started: i64) -> Pod {
        Pod {
            namespace: "ml".into(),
            name: name.into(),
            node: Some("gpu1".into()),
            gpu_indices: vec![index],
            started_at: Some(at(started)),
            ..Pod::default()
        }
    }

    #[test]
    fn a_job_has_what_happened_in_its_own_time() {
        // Its predecessor worked until 40 h ago; it began 30 h ago. Another worked an hour ago.
        let pods = vec![pod("1", 0, 30), pod("2", 1, 30), pod("3", 2, 200)];
        let cluster = joined(
            pods,
            vec![row("GPU-0", Some(40)), row("GPU-1", Some(1)), row("GPU-2", Some(1))],
        );
        let gpus = &cluster.history.as_ref().expect("attached").gpus;
        let of = |name: &str| {
            gpus.iter()
                .find(|r| r.holder.as_ref().is_some_and(|h| h.name == name))
                .expect(name)
        };
        assert_eq!((of("1").first, of("1").last_active), (Some(at(30)), None));
        assert_eq!(of("1").gpu_util.and_then(|f| f.max), Some(0.01));
        assert_eq!(of("1").gpu_util.and_then(|f| f.bins), Some(360.0), "30 h of bins");
        assert_eq!(of("1").power_watts, None, "its predecessor's");
        assert_eq!((of("2").first, of("2").last_active), (Some(at(30)), Some(at(1))));
        assert_eq!(of("2").gpu_util.and_then(|f| f.mean), None, "over both jobs");
        assert_eq!(
            of("3").gpu_util.and_then(|f| f.mean),
            Some(0.3),
            "older than the window"
        );
    }

    #[test]
    fn series_that_name_a_job_are_its_own() {
        let named = |uuid: &str, job: &str, last_active: Option<i64>| {
            let mut of = row(uuid, last_active);
            of.holder = (!job.is_empty()).then(|| PodName {
                namespace: String::new(),
                name: job.into(),
                container: None,
            });
            of.first = Some(at(30));
            of
        };
        let pods = vec![pod("1", 0, 30), pod("2", 1, 30), pod("4", 3, 30)];
        let rows = vec![
            // Its predecessor's row, its own, and the time between the two.
            named("GPU-0", "99", Some(40)),
            named("GPU-0", "1", None),
            named("GPU-0", "", Some(31)),
            // The series say that another job has it than Slurm does.
            named("GPU-1", "1", Some(1)),
            // Older exporters name no job: by the index.
            named("GPU-3", "", Some(1)),
        ];
        let cluster = joined(pods, rows);
        let gpus = &cluster.history.as_ref().expect("attached").gpus;
        let told: Vec<(&str, Option<&str>)> = gpus
            .iter()
            .map(|r| (r.uuid.as_str(), r.holder.as_ref().map(|h| h.name.as_str())))
            .collect();
        assert_eq!(told, [("GPU-0", Some("1")), ("GPU-3", Some("4"))]);
        assert_eq!(
            gpus[0].gpu_util.and_then(|f| f.mean),
            Some(0.3),
            "the whole row is the job's"
        );
        assert!(gpus[0].last_active.is_none());
    }

    #[test]
    fn what_is_free_did_nothing_since_it_last_worked() {
        let mut unsaid = row("GPU-2", Some(5));
        unsaid.last_active = None;
        let cluster = joined(
            Vec::new(),
            vec![
                row("GPU-0", Some(40)),
                row("GPU-1", Some(0)),
                unsaid,
                row("GPU-3", None),
            ],
        );
        let gpus = &cluster.history.as_ref().expect("attached").gpus;
        let of = |uuid: &str| gpus.iter().find(|r| r.uuid == uuid);
        assert_eq!(of("GPU-0").and_then(|r| r.gpu_util?.max), Some(0.01));
        assert_eq!(
            of("GPU-1").and_then(|r| r.gpu_util?.max),
            Some(0.9),
            "it computes now, and nobody holds it"
        );
        assert!(of("GPU-2").is_none(), "when it worked is not told");
        assert_eq!(of("GPU-3").and_then(|r| r.gpu_util?.max), Some(0.0));
        assert!(
            gpus.iter()
                .all(|r| r.holder.is_none() && r.node.as_deref() == Some("gpu1"))
        );
    }
}
