//! Jobs as what holds GPUs, and as what waits for them.

use super::{GPU, GpuNode, at, devices, indices, word};
use crate::gres::Gres;
use crate::job::{Job, Place, State};
use crate::steps::Steps;
use gpuwaste_facts::snapshot::cluster::{
    Condition, Container, ContainerRole, ContainerState, NodeExpression, OwnerRef, Pod, PodPhase, PodPlacement,
    Resources,
};
use gpuwaste_facts::units::{Bytes, MilliCores};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Pods that stand for one job that waits: more would say nothing more.
const MOST_WAITING: u64 = 64;
/// The namespace of what has no account.
const NOBODYS: &str = "slurm";

/// One pod for each GPU node that a job is on, with GPUs or without: CPUs count, too.
pub(super) fn holders(jobs: &[Job], steps: Option<&Steps>, nodes: &[GpuNode<'_>]) -> Vec<Pod> {
    let known: BTreeSet<&str> = nodes.iter().map(|n| n.told.name.as_str()).collect();
    let mut pods = Vec::new();
    for job in jobs {
        let alone = job.places.len() == 1;
        for place in job.places.iter().filter(|p| known.contains(p.node.as_str())) {
            let told = steps.filter(|_| job.state == State::Running);
            pods.push(Pod {
                step_gpus: told.and_then(|s| s.gpus(job, &place.node)),
                ..holder(job, place, alone)
            });
        }
    }
    pods
}

fn holder(job: &Job, place: &Place, alone: bool) -> Pod {
    let mut wanted = devices(place.gres.iter());
    let given = indices(place.gres.iter());
    let on_shards = place.gres.iter().any(|g| g.is_shard() && g.count > 0);
    if on_shards && !wanted.contains_key(GPU) {
        wanted.insert(GPU.into(), (given.len() as u64).max(1));
    }
    if job.places_unread {
        let each = job.tres.gpus.unwrap_or(0).div_ceil(job.nodes.max(1));
        if each > 0 {
            wanted.insert(GPU.into(), each);
        }
    }
    let started = at(job.started_at);
    let waits = job.state == State::Configuring;
    let name = if alone {
        job.id.to_string()
    } else {
        format!("{}.{}", job.id, place.node)
    };
    let mut container = container(place.cpus, place.memory, wanted);
    container.ready = !waits;
    container.state = Some(if waits {
        ContainerState::Waiting {
            reason: Some("Configuring".into()),
        }
    } else {
        ContainerState::Running { since: started }
    });
    container.role = is_interactive(job).then_some(ContainerRole::Notebook);
    Pod {
        node: Some(place.node.clone()),
        phase: if waits { PodPhase::Pending } else { PodPhase::Running },
        started_at: started,
        created_at: started.or(at(job.submitted_at)),
        deleted_at: at(job.ended_at).filter(|_| job.state == State::Completing),
        ready: Some(Condition {
            status: Some(!waits),
            since: started,
            reason: waits.then(|| "Configuring".into()),
        }),
        unread: job.places_unread || job.state == State::Unknown,
        suspended: job.state == State::Suspended,
        gpu_indices: given.into_iter().collect(),
        containers: vec![container],
        ..of_job(job, name)
    }
}

/// What every pod of a job has.
fn of_job(job: &Job, name: String) -> Pod {
    let owner = job.het.or(job.array).unwrap_or(job.id).to_string();
    // One replica a task of an array; the components of a heterogeneous job stand and fall together.
    let replica = job.het.unwrap_or(job.id).to_string();
    let mut labels = BTreeMap::from([("slurm/job-id".to_string(), replica)]);
    let partitions = job.partitions.join(",");
    for (key, value) in [
        ("slurm/user", job.user.as_str()),
        ("slurm/account", &job.account),
        ("slurm/partition", &partitions),
        ("slurm/qos", &job.qos),
        ("slurm/job-name", &job.name),
    ] {
        let value = word(value);
        if !value.is_empty() {
            labels.insert(key.into(), value);
        }
    }
    if let Some(task) = job.task {
        labels.insert("slurm/array-task".into(), task.to_string());
    }
    let account = word(&job.account);
    Pod {
        namespace: if account.is_empty() { NOBODYS.into() } else { account },
        uid: format!("slurm/{name}"),
        name,
        owner: Some(OwnerRef {
            group: NOBODYS.into(),
            kind: "SlurmJob".into(),
            name: owner,
        }),
        labels,
        time_limit_seconds: job.limit_seconds,
        ..Pod::default()
    }
}

fn container(cpus: Option<u64>, memory: Option<u64>, devices: BTreeMap<String, u64>) -> Container {
    let amounts = Resources {
        cpu: cpus.and_then(|c| c.checked_mul(1000)).map(MilliCores),
        memory: memory.map(Bytes),
        devices,
        ..Resources::default()
    };
    Container {
        name: "job".into(),
        requests: amounts.clone(),
        limits: amounts,
        ..Container::default()
    }
}

/// Somebody sits in front of it: no script, or a portal's notebook or desktop.
fn is_interactive(job: &Job) -> bool {
    let name = job.name.to_ascii_lowercase();
    let portal = [
        "sys/dashboard",
        "jupyter",
        "ondemand",
        "rstudio",
        "vscode",
        "code-server",
    ];
    job.batch == Some(false)
        || portal.iter().any(|p| name.contains(p))
        || matches!(name.as_str(), "interactive" | "bash")
}

/// GPUs that nodes call allocated, and that no job which was shown has: somebody's who is not shown.
pub(super) fn unseen(nodes: &[GpuNode<'_>], pods: &[Pod]) -> Vec<Pod> {
    let mut shown: HashMap<&str, Vec<&Pod>> = HashMap::new();
    for pod in pods {
        shown
            .entry(pod.node.as_deref().unwrap_or_default())
            .or_default()
            .push(pod);
    }
    let mut out = Vec::new();
    for node in nodes {
        let Some(used) = &node.told.used else { continue };
        let here = shown.get(node.told.name.as_str()).map_or(&[][..], Vec::as_slice);
        let hidden = hidden(used, here);
        if hidden.1.is_empty() {
            continue;
        }
        let name = format!("not-shown.{}", node.told.name);
        out.push(Pod {
            namespace: NOBODYS.into(),
            uid: format!("slurm/{name}"),
            name,
            node: Some(node.told.name.clone()),
            phase: PodPhase::Running,
            unread: true,
            gpu_indices: hidden.0.into_iter().collect(),
            owner: Some(OwnerRef {
                group: NOBODYS.into(),
                kind: "SlurmJob".into(),
                name: "not-shown".into(),
            }),
            containers: vec![container(None, None, hidden.1)],
            ..Pod::default()
        });
    }
    out
}

/// Indices, and amounts, that are used and not shown.
fn hidden(used: &[Gres], here: &[&Pod]) -> (BTreeSet<u32>, BTreeMap<String, u64>) {
    let given: BTreeSet<u32> = here.iter().flat_map(|p| p.gpu_indices.iter().copied()).collect();
    let told = indices(used.iter());
    let left: BTreeSet<u32> = told.difference(&given).copied().collect();
    let mut amounts = devices(used.iter());
    for pod in here {
        for (resource, count) in pod.containers.iter().flat_map(|c| &c.requests.devices) {
            if let Some(sum) = amounts.get_mut(resource) {
                *sum = sum.saturating_sub(*count);
            }
        }
    }
    if !told.is_empty() {
        // Indices tell more than amounts: several may share a card.
        amounts.remove(GPU);
        if !left.is_empty() {
            amounts.insert(GPU.into(), left.len() as u64);
        }
    }
    amounts.retain(|_, count| *count > 0);
    (left, amounts)
}

/// What a job that waits asks of each node.
pub(super) fn waiting(job: &Job) -> Vec<Pod> {
    let mut wanted = devices(job.wants.iter());
    if wanted.is_empty() && job.wants.iter().any(|g| g.is_shard() && g.count > 0) {
        wanted.insert(GPU.into(), 1);
    }
    if wanted.is_empty() {
        return Vec::new();
    }
    let count = job.nodes.max(1).saturating_mul(job.tasks.max(1)).min(MOST_WAITING);
    let each = |total: Option<u64>| total.map(|t| t.div_ceil(job.nodes.max(1)));
    let since = at(job.eligible_at.or(job.submitted_at));
    let pod = |at_: u64| Pod {
        phase: PodPhase::Pending,
        created_at: at(job.submitted_at),
        scheduled: Some(Condition {
            status: Some(false),
            since,
            reason: Some("Unschedulable".into()),
        }),
        waits_for_gpus: Some(job.reason == "Resources"),
        placement: Some(placement(job)),
        containers: vec![container(each(job.tres.cpus), each(job.tres.memory), wanted.clone())],
        ..of_job(
            job,
            if count == 1 {
                job.id.to_string()
            } else {
                format!("{}.{at_}", job.id)
            },
        )
    };
    (0..count).map(pod).collect()
}

fn placement(job: &Job) -> PodPlacement {
    let term = |key: String| {
        vec![NodeExpression {
            key,
            operator: "Exists".into(),
            values: Vec::new(),
        }]
    };
    let kinds = job
        .wants
        .iter()
        .filter(|g| g.is_gpu())
        .filter_map(|g| g.kind.as_deref());
    PodPlacement {
        affinity_terms: job
            .partitions
            .iter()
            .map(|p| term(format!("slurm/partition.{}", word(p))))
            .collect(),
        node_selector: kinds
            .map(|k| (format!("slurm/gpu-type.{k}"), "true".to_string()))
            .collect(),
        other_constraints: job.constrained,
        ..PodPlacement::default()
    }
}
