//! Nodes and jobs as a cluster of the snapshot: a node is a node, a job a workload with a pod on each of its nodes.

mod jobs;
mod nodes;

use crate::Listed;
use crate::config::Config;
use crate::job::{Job, State};
use crate::node::Node;
use crate::steps::Steps;
use gpuwaste_facts::snapshot::Gap;
use gpuwaste_facts::snapshot::cluster::{Cluster, Pod, PodsRead, Scheduler};
use gpuwaste_facts::text::harmless;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Slurm's own name for GPUs, whosever they are.
pub const GPU: &str = "gres/gpu";
/// A tenant's or an administrator's word is kept to this length.
const WORD: usize = 64;

/// What was read, and by which knowledge of others it is taken.
pub struct Input {
    /// `--cluster-name`.
    pub name: Option<String>,
    pub config: Config,
    pub nodes: Listed<Node>,
    /// `None`: jobs could not be listed.
    pub jobs: Option<Listed<Job>>,
    /// `None`: steps were not listed.
    pub steps: Option<Steps>,
    /// A feature that is a cloud's instance type with GPUs.
    pub is_instance: fn(&str) -> bool,
}

/// A cluster, and what of it could not be told.
#[derive(Debug)]
pub struct Built {
    pub cluster: Cluster,
    pub gaps: Vec<Gap>,
    pub detail: String,
}

/// Lays nodes and jobs together.
pub fn build(input: &Input) -> Built {
    let name = input
        .name
        .clone()
        .or_else(|| input.config.cluster.clone())
        .unwrap_or_else(|| "slurm".into());
    let mut gaps = Gaps {
        source: format!("slurm {name}"),
        all: Vec::new(),
    };
    let inventory = nodes::inventory(input, &mut gaps);
    let jobs = input.jobs.as_ref().map_or(&[][..], |j| &j.items);
    let mut pods = jobs::holders(jobs, input.steps.as_ref(), &inventory);
    let hidden = jobs::unseen(&inventory, &pods);
    told_jobs(input, &hidden, &mut gaps);
    pods.extend(hidden);
    let queued: Vec<Pod> = jobs
        .iter()
        .filter(|j| j.state == State::Pending)
        .flat_map(jobs::waiting)
        .collect();
    let detail = detail(&inventory, jobs);
    pods.extend(queued);
    let unread_on: Vec<String> = inventory
        .iter()
        .filter(|n| n.told.used.is_none())
        .map(|n| n.told.name.clone())
        .collect();
    let cluster = Cluster {
        name,
        // The same from every login node, and in every snapshot.
        uid: input.config.cluster.as_ref().map(|c| format!("slurm/{c}")),
        version: input.config.version.clone(),
        scheduler: Scheduler::Slurm,
        gpus: inventory.iter().flat_map(|n| nodes::mixed_devices(n)).collect(),
        nodes: Some(inventory.into_iter().map(|n| n.seen).collect()),
        pods,
        pods_read: PodsRead {
            // What is allocated the nodes tell themselves, whoever's it is.
            complete: true,
            unread_on,
            ..PodsRead::default()
        },
        autoscalers: Some(Vec::new()),
        disruption_budgets: Some(Vec::new()),
        ..Cluster::default()
    };
    Built {
        cluster,
        gaps: gaps.all,
        detail,
    }
}

struct Gaps {
    source: String,
    all: Vec<Gap>,
}

impl Gaps {
    fn push(&mut self, what: String, reason: &str, effect: &str, remedy: &str) {
        self.all.push(Gap {
            source: self.source.clone(),
            what,
            reason: reason.into(),
            effect: effect.into(),
            remedy: remedy.into(),
        });
    }
}

/// A node with GPUs, as Slurm told it and as the snapshot holds it.
struct GpuNode<'a> {
    told: &'a Node,
    seen: gpuwaste_facts::snapshot::cluster::Node,
}

fn told_jobs(input: &Input, hidden: &[Pod], gaps: &mut Gaps) {
    let unseen: u64 = hidden
        .iter()
        .flat_map(|p| &p.containers)
        .flat_map(|c| c.requests.devices.values())
        .sum();
    let private = input.config.private.iter().any(|p| p == "jobs");
    match &input.jobs {
        Some(jobs) if jobs.odd > 0 => gaps.push(
            format!("{} jobs", jobs.odd),
            "they are not what squeue prints, or their names look like fields of its output",
            "the GPUs that they hold are somebody's, and are not judged",
            "let 'squeue --json' be read (Slurm 21.08 and later)",
        ),
        _ => {}
    }
    if private || unseen > 0 {
        let reason = if private {
            "PrivateData hides other users' jobs"
        } else {
            "nodes say that they are allocated, and no job that was listed has them"
        };
        gaps.push(
            format!("whose {unseen} GPUs are"),
            reason,
            "they are allocated, and whether they are used is not judged",
            "run as an operator or coordinator of the accounts, or let an administrator save the outputs (--slurm-dir)",
        );
    }
}

fn detail(inventory: &[GpuNode<'_>], jobs: &[Job]) -> String {
    let gpus: u64 = inventory.iter().map(|n| n.told.gpus()).fold(0, u64::saturating_add);
    let holding = jobs.iter().filter(|j| !j.places.is_empty()).count();
    let asks = |j: &&Job| j.state == State::Pending && !j.wants.is_empty();
    let queued = jobs.iter().filter(asks).fold((0_u64, 0_u64), |(jobs, gpus), j| {
        let each: u64 = j
            .wants
            .iter()
            .filter(|g| g.is_gpu())
            .map(|g| g.count)
            .fold(0, u64::saturating_add);
        (
            jobs.saturating_add(j.tasks),
            gpus.saturating_add(each.saturating_mul(j.nodes).saturating_mul(j.tasks)),
        )
    });
    format!(
        "{} nodes with {gpus} GPUs, {holding} jobs on nodes; {} queued jobs ask for {} GPUs",
        inventory.len(),
        queued.0,
        queued.1
    )
}

fn at(seconds: Option<i64>) -> Option<Timestamp> {
    Timestamp::from_second(seconds?).ok()
}

/// A word that somebody chose: without what steers, short.
fn word(text: &str) -> String {
    gpuwaste_facts::text::without_secrets(&harmless(text))
        .chars()
        .take(WORD)
        .collect::<String>()
        .trim()
        .to_string()
}

/// Amounts of GPUs by what they are asked for as: whole ones, and MIG instances by profile.
fn devices<'g>(all: impl Iterator<Item = &'g crate::gres::Gres>) -> BTreeMap<String, u64> {
    let mut out: BTreeMap<String, u64> = BTreeMap::new();
    for gres in all.filter(|g| g.is_gpu() && g.count > 0) {
        let resource = match gres.mig() {
            Some((_, profile)) => format!("nvidia.com/mig-{}", profile.replace('+', ".")),
            None => GPU.to_string(),
        };
        let sum = out.entry(resource).or_default();
        *sum = sum.saturating_add(gres.count);
    }
    out
}

/// Indices of whole GPUs: an instance's index is none of a card's.
fn indices<'g>(all: impl Iterator<Item = &'g crate::gres::Gres>) -> BTreeSet<u32> {
    all.filter(|g| (g.is_gpu() && g.mig().is_none() || g.is_shard()) && g.count > 0)
        .flat_map(|g| g.indices.iter().flatten().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, job, node};
    use gpuwaste_facts::snapshot::cluster::{Kept, PodPhase};
    use jiff::tz::TimeZone;

    macro_rules! recorded {
        ($file:literal) => {
            include_str!(concat!("../../../fixtures/slurm/", $file))
        };
    }

    fn built(nodes: Listed<Node>, jobs: Option<Listed<Job>>) -> Built {
        build(&Input {
            name: None,
            config: config::parse(recorded!("22.05/config.txt")),
            nodes,
            jobs,
            steps: None,
            is_instance: |_| false,
        })
    }

    fn old_json() -> Built {
        let nodes = node::of_json(recorded!("22.05/nodes.json")).expect("recorded of Slurm 22.05.8");
        let jobs = job::of_json(recorded!("22.05/jobs.json")).expect("recorded of Slurm 22.05.8");
        assert_eq!((nodes.odd, jobs.odd), (0, 0));
        built(nodes, Some(jobs))
    }

    /// Who holds what: (node, job, indices or amounts).
    fn held(cluster: &Cluster) -> Vec<(String, String, Vec<u32>)> {
        let mut all: Vec<_> = cluster
            .pods
            .iter()
            .filter_map(|p| Some((p.node.clone()?, p.name.clone(), p.gpu_indices.clone())))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_recorded_cluster_of_every_kind_of_job() {
        let built = old_json();
        let cluster = &built.cluster;
        assert_eq!(cluster.name, "test");
        assert_eq!(built.gaps, [], "everything was told");
        let held = held(cluster);
        let expected: Vec<(&str, &str, &[u32])> = vec![
            ("gpu1", "1", &[0, 1]),
            ("gpu1", "16", &[2]),
            ("gpu1", "17", &[3]),
            ("gpu1", "2", &[4]),
            ("gpu1", "3.gpu1", &[5, 6]),
            ("gpu1", "4", &[7]),
            ("gpu2", "13", &[4]),
            ("gpu2", "15", &[5, 6, 7]),
            ("gpu2", "3.gpu2", &[0, 1]),
            ("gpu2", "5", &[2, 3]),
            // Indices of instances are no card's; three shards of one card are one holder of it.
            ("mig1", "6", &[]),
            ("shard1", "7", &[0]),
        ];
        let told: Vec<(&str, &str, &[u32])> = held
            .iter()
            .map(|(n, j, i)| (n.as_str(), j.as_str(), i.as_slice()))
            .collect();
        assert_eq!(told, expected);
        let pod = |name: &str| cluster.pods.iter().find(|p| p.name == name).expect(name);
        assert!(pod("13").suspended, "somebody paused it");
        let owner = |name: &str| pod(name).owner.as_ref().map(|o| o.name.clone());
        assert_eq!(
            (owner("16"), owner("5"), owner("3.gpu2")),
            (Some("2".into()), Some("4".into()), Some("3".into()))
        );
        assert_eq!(
            (pod("16").replica_group(), pod("5").replica_group()),
            (Some("slurm/job-id-16".into()), Some("slurm/job-id-4".into()))
        );
        assert_eq!(pod("16").labels["slurm/user"], "nobody");
        assert_eq!(pod("16").namespace, "ml");
        assert_eq!(pod("1").containers[0].requests.cpu.map(|c| c.0), Some(4000));
        assert_eq!(pod("1").containers[0].requests.memory.map(|m| m.0), Some(20_000 << 20));
        assert_eq!(
            pod("6").containers[0].requests.devices,
            [("nvidia.com/mig-1g.5gb".to_string(), 2)].into()
        );
        assert!(
            built.detail.contains("7 queued jobs") || built.detail.contains("queued jobs ask for"),
            "{}",
            built.detail
        );
    }

    #[test]
    fn states_and_reasons_of_nodes() {
        let built = old_json();
        let nodes = built.cluster.nodes.expect("listed");
        let of = |name: &str| nodes.iter().find(|n| n.name == name).expect(name);
        let (drained, down, mixed) = (of("gpu3"), of("gpu4"), of("gpu1"));
        assert!(drained.unschedulable && drained.ready.as_ref().is_some_and(|r| r.status == Some(true)));
        let outage = drained.outage.as_ref().expect("drained");
        assert_eq!(
            (outage.state.as_str(), outage.reason.as_deref()),
            ("drain", Some("GPU 3 Xid 79, ticket 123 | x"))
        );
        assert!(outage.since.is_some() && drained.created_at.is_some());
        assert_eq!(down.ready.as_ref().and_then(|r| r.status), Some(false));
        assert_eq!(
            down.created_at,
            down.outage.as_ref().and_then(|o| o.since),
            "it never came up"
        );
        assert!(mixed.outage.is_none() && mixed.unused_since.is_none());
        assert_eq!(mixed.capacity.devices, [(GPU.to_string(), 8)].into());
        assert_eq!(mixed.labels["slurm/partitions"], "long,train");
        assert_eq!(mixed.labels["slurm/gpu-type"], "h100");
        assert_eq!(
            of("mig1").capacity.devices,
            [("nvidia.com/mig-1g.5gb".to_string(), 7)].into()
        );
        assert_eq!(of("mig1").labels["slurm/gpu-type"], "a100");
        // Four turns on each of four cards.
        assert_eq!(of("shard1").capacity.devices, [(GPU.to_string(), 16)].into());
        assert_eq!(of("shard1").labels["nvidia.com/gpu.count"], "4");
    }

    #[test]
    fn all_forms_tell_the_same() {
        let old = old_json();
        let nodes = node::of_json(recorded!("24.05/nodes.json")).expect("the later form");
        let jobs = job::of_json(recorded!("24.05/jobs.json")).expect("the later form");
        assert_eq!(nodes.at, Some(1_796_004_400));
        assert_eq!((nodes.odd, jobs.odd), (0, 0));
        let new = built(nodes, Some(jobs));
        assert_eq!(new.cluster, old.cluster);
        let nodes = node::of_text(recorded!("22.05/nodes.txt"), &TimeZone::UTC);
        let text = built(nodes, Some(job::of_text(recorded!("22.05/jobs.txt"), &TimeZone::UTC)));
        assert_eq!(text.cluster.nodes, old.cluster.nodes);
        // The job whose name looks like fields of the output cannot be read from text: it waits, and holds nothing.
        assert_eq!(held(&text.cluster), held(&old.cluster));
        assert_eq!(text.gaps.len(), 1, "{:?}", text.gaps);
        let labels = |c: &Cluster| -> Vec<_> {
            let mut all: Vec<_> = c
                .pods
                .iter()
                .filter(|p| p.node.is_some())
                .map(|p| (p.name.clone(), p.labels.clone()))
                .collect();
            all.sort();
            all
        };
        assert_eq!(labels(&text.cluster), labels(&old.cluster));
    }

    #[test]
    fn what_nobody_shows_is_somebodys() {
        let nodes = node::of_json(recorded!("22.05/nodes.json")).expect("recorded");
        let mut jobs = job::of_json(recorded!("22.05/jobs.json")).expect("recorded");
        // PrivateData=jobs: one's own alone.
        jobs.items.retain(|j| j.user == "nobody");
        let own = built(nodes.clone(), Some(jobs));
        let hidden = held(&own.cluster);
        let of = |node: &str| {
            hidden
                .iter()
                .find(|(n, name, _)| n == node && name.starts_with("not-shown"))
                .map(|(_, _, i)| i.clone())
        };
        assert_eq!(of("gpu1"), Some(vec![0, 1, 7]));
        assert_eq!(of("gpu2"), Some(vec![2, 3, 4, 5, 6, 7]));
        assert_eq!(of("shard1"), Some(vec![0]));
        assert_eq!(own.gaps.len(), 1);
        let none = built(nodes, None);
        let unread = none.cluster.pods.iter().filter(|p| p.unread).count();
        assert_eq!(unread, 4, "each node's that is in use");
        assert!(none.cluster.pods.iter().all(|p| p.phase == PodPhase::Running));
    }

    #[test]
    fn states_in_which_nothing_is_free() {
        let json = |state: &str, flags: &str| {
            format!(
                r#"{{"nodes":[{{"name":"n1","state":{state},"state_flags":{flags},"gres":"gpu:h100:8","gres_used":"gpu:h100:0(IDX:N/A)","cpus":8,"real_memory":1000,"boot_time":1796000000,"last_busy":1796000000,"reason_changed_at":0,"partitions":["a"]}}]}}"#
            )
        };
        let of = |state: &str, flags: &str| {
            let nodes = node::of_json(&json(state, flags)).expect("written here");
            built(nodes, Some(Listed::default())).cluster.nodes.expect("listed")
        };
        let one = |state: &str, flags: &str| of(state, flags).remove(0);
        assert!(one("\"idle\"", "[]").unused_since.is_some());
        assert_eq!(one("[\"IDLE\",\"RESERVED\"]", "[]").kept, Some(Kept::Reserved));
        assert_eq!(one("[\"IDLE\",\"PLANNED\"]", "[]").kept, Some(Kept::Planned));
        assert_eq!(one("\"idle\"", "[\"POWERING_UP\"]").kept, Some(Kept::Changing));
        let maint = one("[\"IDLE\",\"MAINTENANCE\"]", "[]");
        assert!(maint.unschedulable && maint.outage.is_some_and(|o| o.since.is_none()));
        assert!(one("\"unknown\"", "[]").unread);
        assert_eq!(one("\"down\"", "[]").ready.and_then(|r| r.status), Some(false));
        assert!(
            of("[\"IDLE\",\"CLOUD\",\"POWERED_DOWN\"]", "[]").is_empty(),
            "it does not exist"
        );
        assert_eq!(
            of("[\"IDLE\",\"POWERED_DOWN\"]", "[]").len(),
            1,
            "one's own is paid for"
        );
        assert!(of("\"future\"", "[]").is_empty());
    }
}
