//! Workloads: the top owner above pods, its replicas, what it serves.

use super::{Fleet, PodId, Replica, Workload, WorkloadClass, WorkloadId};
use crate::catalog::models::{self, ModelBook, ModelFacts};
use crate::snapshot::cluster::{
    Autoscaler, Cluster, Container, ContainerRole, Controller, OwnerRef, Pod as Seen, UnreadKind,
};
use crate::snapshot::owners;
use crate::snapshot::server::{EngineSettings, ServerRole, Setting, UnreadSetting};
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    kind: String,
    namespace: String,
    name: String,
}

/// The owners from the pod upwards, the last one is the top.
fn chain(seen: &Seen, controllers: &HashMap<(&str, &str, &str), &Controller>) -> Vec<OwnerRef> {
    let mut chain: Vec<OwnerRef> = seen.owner_above().into_iter().collect();
    while let Some(last) = chain.last() {
        let Some(above) = controllers
            .get(&(last.kind.as_str(), seen.namespace.as_str(), last.name.as_str()))
            .and_then(|c| c.owner.clone())
        else {
            break;
        };
        if chain.len() > 8 || chain.contains(&above) {
            break;
        }
        chain.push(above);
    }
    let above = seen.owners_by_label(&chain);
    chain.extend(above);
    chain
}

/// The workload of a pod: its top owner, and which part of it.
fn key_of(seen: &Seen, chain: &[OwnerRef]) -> Key {
    let top = chain.last();
    let kind = top.map_or("Pod", |o| o.kind.as_str());
    let mut name = top.map_or_else(|| seen.name.clone(), |o| o.name.clone());
    if let Some(part) = seen.part(kind)
        && !name.ends_with(&format!("-{part}"))
    {
        name = format!("{name}-{part}");
    }
    Key {
        kind: kind.into(),
        namespace: seen.namespace.clone(),
        name,
    }
}

/// A custom resource that nobody knows here, with several deployments below it, is not one workload: each of them is.
fn split(groups: BTreeMap<Key, Vec<(usize, Vec<OwnerRef>)>>) -> BTreeMap<Key, Vec<(usize, Vec<OwnerRef>)>> {
    let mut out: BTreeMap<Key, Vec<(usize, Vec<OwnerRef>)>> = BTreeMap::new();
    for (key, members) in groups {
        let below = |chain: &[OwnerRef]| chain.len().checked_sub(2).map(|at| chain[at].clone());
        let children: std::collections::BTreeSet<_> = members.iter().map(|(_, chain)| below(chain)).collect();
        if owners::WHOLE.contains(&key.kind.as_str()) || children.len() < 2 || children.contains(&None) {
            out.entry(key).or_default().extend(members);
            continue;
        }
        for (offset, mut chain) in members {
            chain.pop();
            let Some(last) = chain.last() else { continue };
            let key = Key {
                kind: last.kind.clone(),
                namespace: key.namespace.clone(),
                name: last.name.clone(),
            };
            out.entry(key).or_default().push((offset, chain));
        }
    }
    out
}

/// Adds the cluster's workloads to the fleet.
pub(super) fn build(fleet: &mut Fleet, cluster: &Cluster, cluster_index: usize, first_pod: usize) {
    let controllers: HashMap<(&str, &str, &str), &Controller> = cluster
        .controllers
        .iter()
        .map(|c| ((c.kind.as_str(), c.namespace.as_str(), c.name.as_str()), c))
        .collect();
    let mut groups: BTreeMap<Key, Vec<(usize, Vec<OwnerRef>)>> = BTreeMap::new();
    for (offset, seen) in cluster.pods.iter().enumerate() {
        let pod = &fleet.pods[first_pod + offset];
        // Where only metrics were read nobody says which GPUs a server holds.
        let told = cluster.metrics_only && seen.containers.iter().any(|c| c.server.is_some());
        let wants = !pod.devices.is_empty() || pod.claims || told;
        if pod.infrastructure
            || !wants
            || matches!(
                pod.phase,
                crate::snapshot::cluster::PodPhase::Succeeded | crate::snapshot::cluster::PodPhase::Failed
            )
        {
            continue;
        }
        let chain = chain(seen, &controllers);
        groups.entry(key_of(seen, &chain)).or_default().push((offset, chain));
    }
    let unread: HashSet<(&str, &str)> = cluster
        .unread
        .iter()
        .filter(|u| u.what == UnreadKind::Owner)
        .filter_map(|u| Some((u.namespace.as_deref()?, u.name.as_deref()?)))
        .collect();
    let first = fleet.workloads.len();
    for (key, members) in split(groups) {
        let chain = members.first().map(|(_, chain)| chain.clone()).unwrap_or_default();
        let members: Vec<usize> = members.into_iter().map(|(offset, _)| offset).collect();
        let id = WorkloadId(fleet.workloads.len());
        let seen: Vec<&Seen> = members.iter().map(|m| &cluster.pods[*m]).collect();
        let pods: Vec<PodId> = members.iter().map(|m| PodId(first_pod + m)).collect();
        for pod in &pods {
            fleet.pods[pod.0].workload = Some(id);
        }
        let owners: Vec<&Controller> = chain
            .iter()
            .filter_map(|o| {
                controllers
                    .get(&(o.kind.as_str(), key.namespace.as_str(), o.name.as_str()))
                    .copied()
            })
            .collect();
        let mut workload = describe(&key, &seen, &owners, cluster, cluster_index, &chain);
        workload.owner_unread = chain.iter().any(|o| {
            let name = format!("{}/{}", o.kind, o.name);
            let unread = unread.contains(&(key.namespace.as_str(), name.as_str()));
            (unread || cluster.owners_refused.contains(&o.kind))
                && !controllers.contains_key(&(o.kind.as_str(), key.namespace.as_str(), o.name.as_str()))
        });
        let placed = |p: &PodId| fleet.pod(*p).node.is_some_and(|n| fleet.node(n).planned);
        workload.planned = workload.origin.is_some() || pods.iter().any(placed);
        workload.model = model(&fleet.models, &workload);
        workload.replicas = replicas(fleet, &workload, &pods, &seen);
        workload.pods = pods;
        place(fleet, &mut workload);
        fleet.workloads.push(workload);
    }
    roles_by_label(&mut fleet.workloads[first..]);
}

/// Labels name the sides of a split where arguments do not. llm-d calls every server "decode": one without a prefill side
/// beside it does both.
fn roles_by_label(workloads: &mut [Workload]) {
    let prefills: std::collections::BTreeSet<String> = workloads
        .iter()
        .filter(|w| w.settings.as_ref().is_some_and(|s| s.role == Some(ServerRole::Prefill)))
        .filter_map(|w| w.group.clone())
        .collect();
    for workload in workloads {
        let Some(settings) = workload.settings.as_mut() else {
            continue;
        };
        if settings.role.is_some() {
            continue;
        }
        match &workload.group {
            // It stands and falls with its group, whichever side it is, unless its label says which.
            Some(_)
                if settings.unread(Setting::Role).is_some() && owners::role_of_labels(&workload.labels).is_none() => {}
            Some(group) if prefills.contains(group) => settings.role = Some(ServerRole::Decode),
            _ => workload.group = None,
        }
    }
}

/// What the spec names, else what it is served as ("/mnt/models" tells nothing); a size from a name comes last.
fn model(book: &ModelBook, workload: &Workload) -> Option<ModelFacts> {
    let served = workload.settings.iter().flat_map(|s| &s.served_names);
    let names: Vec<&String> = workload.model_name.iter().chain(served).collect();
    names
        .iter()
        .find_map(|n| book.find(n))
        .or_else(|| names.iter().find_map(|n| models::from_name(n)))
}

fn describe(
    key: &Key,
    seen: &[&Seen],
    owners: &[&Controller],
    cluster: &Cluster,
    cluster_index: usize,
    chain: &[OwnerRef],
) -> Workload {
    let containers = || seen.iter().flat_map(|p| p.containers.iter());
    let holds_gpu = |c: &&Container| c.has_devices() || c.server.is_some();
    // Followers of a group may show the leader's command; the leader's own is the better witness, one with a model the best.
    let servers = |followers: bool| {
        seen.iter()
            .filter(move |p| p.is_follower() == followers)
            .flat_map(|p| p.containers.iter())
            .filter(holds_gpu)
            .filter_map(|c| c.server.as_deref())
    };
    let mut server = servers(false)
        .find(|s| s.model.is_some())
        .or_else(|| servers(false).next())
        .or_else(|| servers(true).next())
        .cloned();
    let role_label = seen.iter().find_map(|p| p.role_label());
    if let Some(settings) = server.as_mut() {
        settings.role = settings.role.or(role_label.filter(|r| *r == ServerRole::Prefill));
    }
    if let Some(settings) = server.as_mut()
        && let Some((one, other)) = unlike(seen)
    {
        several_models(settings, &one, &other);
    }
    let role = |wanted: ContainerRole| containers().any(|c| c.role == Some(wanted));
    let jobs = [
        "Job",
        "CronJob",
        "PyTorchJob",
        "TrainJob",
        "JobSet",
        "MPIJob",
        "RayJob",
        "TFJob",
        "XGBoostJob",
        "PaddleJob",
        "JAXJob",
        "Workflow",
        "SlurmJob",
    ];
    // Before it runs, a job that starts a server is sized as one; live, its idle hours are judged as a job's. Slurm knows
    // nothing but jobs: a server in one is a server.
    let written = seen.iter().any(|p| p.origin.is_some());
    let placeholder = seen.iter().all(|p| p.priority.is_some_and(|p| p < 0));
    let class = if placeholder {
        WorkloadClass::Placeholder
    } else if server.is_some() && (written || key.kind == "SlurmJob" || !jobs.contains(&key.kind.as_str())) {
        WorkloadClass::Server
    } else if key.kind == "Notebook" || role(ContainerRole::Notebook) {
        WorkloadClass::Notebook
    } else if jobs.contains(&key.kind.as_str()) || role(ContainerRole::Training) {
        WorkloadClass::Job
    } else {
        WorkloadClass::Unknown
    };
    let settings = server.filter(|_| class == WorkloadClass::Server);
    let model_name = settings.as_ref().and_then(|s| s.model.clone());
    let target = |a: &Autoscaler| {
        a.namespace == key.namespace && chain.iter().any(|o| o.kind == a.target.kind && o.name == a.target.name)
    };
    let autoscaler = cluster.autoscalers.iter().flatten().find(|a| target(a));
    let labels = seen.first().map(|p| p.labels.clone()).unwrap_or_default();
    let budget = cluster
        .disruption_budgets
        .iter()
        .flatten()
        .filter(|b| b.namespace == key.namespace)
        .filter(|b| {
            b.match_labels
                .as_ref()
                .is_none_or(|m| !m.is_empty() && m.iter().all(|(k, v)| labels.get(k) == Some(v)))
        })
        .filter_map(|b| b.desired_healthy)
        .max();
    Workload {
        command_unread: class == WorkloadClass::Unknown && containers().any(|c| c.command_unread.is_some()),
        cluster: cluster_index,
        kind: key.kind.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        class,
        desired_replicas: owners.iter().rev().find_map(|o| o.replicas),
        created_at: owners
            .iter()
            .filter_map(|o| o.created_at)
            .min()
            .or_else(|| seen.iter().filter_map(|p| p.created_at).min()),
        group: settings.as_ref().and_then(|s| {
            // A role that stands where it could not be read may be one of a split. One object makes both sides, and need not say
            // of the decoding one that it is one (Dynamo); servers of one model alone are no group.
            let sided = s.role.or(role_label).is_some() || s.unread(Setting::Role).is_some();
            group_of(&labels, s, chain, &key.namespace, sided)
        }),
        queue: seen
            .iter()
            .find_map(|p| p.queue())
            .or_else(|| owners.iter().find_map(|o| owners::queue(&o.labels)))
            .map(String::from),
        model_name,
        settings,
        autoscaler_min: autoscaler.map(|a| a.min_replicas),
        autoscaler_max: autoscaler.map(|a| a.max_replicas),
        budget_min: budget,
        origin: seen.iter().find_map(|p| p.origin.clone()),
        ignore: owners
            .iter()
            .rev()
            .find_map(|o| o.ignore.clone())
            .or_else(|| seen.iter().find_map(|p| p.ignore.clone())),
        labels,
        ..Workload::default()
    }
}

/// Two models that pods of one workload are told to serve, each in its own arguments. Pods that take several are left as they are.
fn unlike(seen: &[&Seen]) -> Option<(String, String)> {
    let of_pod = |pod: &&&Seen| {
        let mut servers = pod.containers.iter().filter_map(|c| c.server.as_deref());
        let only = servers.next()?;
        only.model.clone().filter(|_| servers.next().is_none())
    };
    let mut told = seen.iter().filter(|p| !p.is_follower()).filter_map(|p| of_pod(&p));
    let first = told.next()?;
    let other = told.find(|m| *m != first)?;
    Some((first, other))
}

/// Its replicas serve models that differ: none of them speaks for the others, and no size, load or number of one is another's.
pub(super) fn several_models(settings: &mut EngineSettings, one: &str, other: &str) {
    settings.model = None;
    settings.served_names.clear();
    settings.unread.retain(|u| u.setting != Setting::Model);
    settings.unread.push(UnreadSetting {
        setting: Setting::Model,
        place: format!("each of its replicas, which serve different ones ({one}, {other})"),
    });
}

/// Prefill and decode workers of one model stand and fall together.
fn group_of(
    labels: &BTreeMap<String, String>,
    settings: &EngineSettings,
    chain: &[OwnerRef],
    namespace: &str,
    sided: bool,
) -> Option<String> {
    let owner = chain
        .last()
        .filter(|o| ["DynamoGraphDeployment", "LLMInferenceService"].contains(&o.kind.as_str()))
        .map(|o| o.name.as_str());
    let labelled = || ["llm-d.ai/model", "llm-d.ai/guide"].iter().find_map(|k| labels.get(*k));
    let name = owner
        .or_else(|| labelled().map(String::as_str))
        .or_else(|| settings.model.as_deref().filter(|_| sided))?;
    Some(format!("{namespace}/{name}"))
}

/// One replica a pod; a multi-node group is one replica, whoever made it.
fn replicas(fleet: &Fleet, workload: &Workload, pods: &[PodId], seen: &[&Seen]) -> Vec<Replica> {
    let mut groups: BTreeMap<String, Replica> = BTreeMap::new();
    let one = is_one_replica(workload, seen);
    for (id, seen) in pods.iter().zip(seen) {
        let pod = fleet.pod(*id);
        if pod.node.is_none() {
            continue;
        }
        let group = match (seen.replica_group(), one) {
            (Some(group), _) => group,
            (None, true) => "all".into(),
            (None, false) => format!("pod-{}", pod.name),
        };
        let replica = groups.entry(group).or_default();
        replica.pods.push(*id);
        replica.slots.extend(&pod.slots);
    }
    let mut replicas: Vec<Replica> = groups
        .into_values()
        .filter(|r| !r.slots.is_empty() || r.pods.iter().any(|p| fleet.pod(*p).claims))
        .collect();
    for replica in &mut replicas {
        let ready = |id: &PodId| fleet.pod(*id).ready.as_ref().filter(|r| r.status == Some(true));
        if replica
            .pods
            .iter()
            .all(|p| ready(p).is_some() && fleet.pod(*p).stuck.is_none())
        {
            replica.ready_since = replica.pods.iter().filter_map(|p| ready(p)?.since).max();
        }
    }
    replicas
}

/// Multi-node servers without a group's labels: KServe's head and worker deployments, KAITO's StatefulSet over several nodes.
fn is_one_replica(workload: &Workload, seen: &[&Seen]) -> bool {
    let pipeline = workload
        .settings
        .as_ref()
        .and_then(|s| s.pipeline_parallel)
        .unwrap_or(1);
    match workload.kind.as_str() {
        "InferenceService" => seen
            .iter()
            .any(|p| p.owner_above().is_some_and(|o| o.name.ends_with("-predictor-worker"))),
        "Workspace" => pipeline > 1,
        _ => false,
    }
}

fn place(fleet: &Fleet, workload: &mut Workload) {
    let gpus: Vec<_> = workload
        .replicas
        .iter()
        .flat_map(|r| &r.slots)
        .map(|s| fleet.gpu_of(*s))
        .collect();
    workload.gpu = match gpus.first() {
        Some(Some(first)) if gpus.iter().all(|g| g.is_some_and(|g| g.name == first.name)) => Some(first),
        _ => None,
    };
    workload.gpus_per_replica = workload.replicas.iter().map(|r| r.slots.len() as u32).max();
}
