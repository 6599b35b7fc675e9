//! Workloads: the top owner above pods, its replicas, what it serves.

use super::{Fleet, PodId, Replica, Workload, WorkloadClass, WorkloadId};
use crate::catalog::models::{self, ModelBook, ModelFacts};
use crate::snapshot::cluster::{Autoscaler, Cluster, Container, ContainerRole, Controller, OwnerRef, Pod as Seen};
use crate::snapshot::server::{EngineSettings, ServerRole};
use std::collections::{BTreeMap, HashMap};

/// Labels that name a custom resource above a pod, for owners whose chain could not be climbed.
const NAMED_BY_LABEL: &[(&str, &str)] = &[
    ("serving.kserve.io/inferenceservice", "InferenceService"),
    ("nvidia.com/dynamo-graph-deployment-name", "DynamoGraphDeployment"),
    ("kaito.sh/workspace", "Workspace"),
    ("notebook-name", "Notebook"),
    ("training.kubeflow.org/job-name", "PyTorchJob"),
    ("jobset.sigs.k8s.io/jobset-name", "JobSet"),
    ("ray.io/cluster", "RayCluster"),
];

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
    let label = |name: &str| seen.labels.get(name).cloned();
    if let (Some(kind), Some(name)) = (
        label("ray.io/originated-from-crd"),
        label("ray.io/originated-from-cr-name"),
    ) {
        chain.push(OwnerRef {
            group: "ray.io".into(),
            kind,
            name,
        });
    } else if let Some((kind, name)) = NAMED_BY_LABEL
        .iter()
        .find_map(|(key, kind)| Some(((*kind).to_string(), label(key)?)))
        && chain.iter().all(|o| o.kind != kind)
    {
        chain.push(OwnerRef {
            group: String::new(),
            kind,
            name,
        });
    }
    chain
}

/// Adds the cluster's workloads to the fleet.
pub(super) fn build(fleet: &mut Fleet, cluster: &Cluster, cluster_index: usize, first_pod: usize) {
    let controllers: HashMap<(&str, &str, &str), &Controller> = cluster
        .controllers
        .iter()
        .map(|c| ((c.kind.as_str(), c.namespace.as_str(), c.name.as_str()), c))
        .collect();
    let mut groups: BTreeMap<Key, (Vec<usize>, Vec<OwnerRef>)> = BTreeMap::new();
    for (offset, seen) in cluster.pods.iter().enumerate() {
        let pod = &fleet.pods[first_pod + offset];
        let wants = !pod.devices.is_empty() || pod.claims;
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
        let top = chain.last().cloned().unwrap_or_else(|| OwnerRef {
            group: String::new(),
            kind: "Pod".into(),
            name: seen.name.clone(),
        });
        let key = Key {
            kind: top.kind,
            namespace: seen.namespace.clone(),
            name: top.name,
        };
        let entry = groups.entry(key).or_default();
        entry.0.push(offset);
        if entry.1.is_empty() {
            entry.1 = chain;
        }
    }
    for (key, (members, chain)) in groups {
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
            cluster.owners_refused.contains(&o.kind)
                && !controllers.contains_key(&(o.kind.as_str(), key.namespace.as_str(), o.name.as_str()))
        });
        workload.model = model(&fleet.models, &workload);
        workload.replicas = replicas(fleet, &pods, &seen);
        workload.pods = pods;
        place(fleet, &mut workload);
        fleet.workloads.push(workload);
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
    let holds_gpu = |c: &&Container| !c.requests.devices.is_empty() || c.server.is_some();
    let server = containers()
        .filter(holds_gpu)
        .find_map(|c| c.server.as_deref().cloned());
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
    ];
    let placeholder = seen.iter().all(|p| p.priority.is_some_and(|p| p < 0)) || role(ContainerRole::Placeholder);
    let class = if placeholder {
        WorkloadClass::Placeholder
    } else if server.is_some() && !jobs.contains(&key.kind.as_str()) {
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
        group: settings.as_ref().and_then(|s| group_of(&labels, s, &key.namespace)),
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

/// Prefill and decode workers of one model stand and fall together.
fn group_of(labels: &BTreeMap<String, String>, settings: &EngineSettings, namespace: &str) -> Option<String> {
    let named = [
        "nvidia.com/dynamo-graph-deployment-name",
        "llm-d.ai/model",
        "llm-d.ai/inferenceServing",
    ]
    .iter()
    .find_map(|k| labels.get(*k));
    let split: Option<ServerRole> = settings.role;
    split.and_then(|_| {
        Some(format!(
            "{namespace}/{}",
            named.map(String::as_str).or(settings.model.as_deref())?
        ))
    })
}

/// One replica a pod; the pods of one group of a LeaderWorkerSet, and all pods of a RayCluster, are one replica.
fn replicas(fleet: &Fleet, pods: &[PodId], seen: &[&Seen]) -> Vec<Replica> {
    let mut groups: BTreeMap<String, Replica> = BTreeMap::new();
    for (id, seen) in pods.iter().zip(seen) {
        let pod = fleet.pod(*id);
        if pod.node.is_none() {
            continue;
        }
        let label = |name: &str| seen.labels.get(name).map(String::as_str);
        let group = match (
            label("leaderworkerset.sigs.k8s.io/group-index"),
            label("ray.io/cluster"),
        ) {
            (Some(index), _) => format!("lws-{index:0>6}"),
            (None, Some(cluster)) => format!("ray-{cluster}"),
            (None, None) => format!("pod-{}", pod.name),
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

fn place(fleet: &Fleet, workload: &mut Workload) {
    let gpus: Vec<_> = workload
        .replicas
        .iter()
        .flat_map(|r| &r.slots)
        .map(|s| fleet.node(fleet.slot(*s).node).gpu)
        .collect();
    workload.gpu = match gpus.first() {
        Some(Some(first)) if gpus.iter().all(|g| g.is_some_and(|g| g.name == first.name)) => Some(first),
        _ => None,
    };
    workload.gpus_per_replica = workload.replicas.iter().map(|r| r.slots.len() as u32).max();
}
