//! Which pods are read: all pods that could hold a GPU, at a cost that follows the GPU nodes.

use super::api::{Api, ReadError};
use super::config_maps::Wants;
use super::raw::RawPod;
use super::{Gaps, Nodes};
use crate::options::CollectOptions;
use crate::snapshot::cluster::{Container, Pod, PodsRead};
use futures::{StreamExt, stream};
use std::collections::HashSet;

/// Below one GPU node in this many nodes, pods are read node by node instead of all.
const SPARSE: usize = 4;
/// Node-by-node reads at once.
const AT_ONCE: usize = 8;

#[expect(clippy::struct_field_names, reason = "the pods, and what is known of reading them")]
pub(super) struct Pods {
    pub(super) pods: Vec<Pod>,
    /// Of them, containers with settings in ConfigMaps.
    pub(super) wants: Vec<Wants>,
    pub(super) scope: PodsRead,
}

impl Pods {
    /// Where namespaced lists must be asked for one by one: what was read of the pods tells which.
    pub(super) fn namespaces(&self) -> Vec<String> {
        let read = |ns: &&String| !self.scope.complete && !self.scope.refused.contains(ns);
        self.scope.namespaces.iter().filter(read).cloned().collect()
    }

    /// Neither the whole list nor one namespace's could be read.
    pub(super) fn is_nothing(&self) -> bool {
        !self.scope.complete && self.scope.refused.len() == self.scope.namespaces.len()
    }
}

/// Reads the pods; a refused read is a gap, and the scope says so.
pub(super) async fn read(
    api: &Api,
    nodes: Option<&Nodes>,
    options: &CollectOptions,
    gaps: &mut Gaps,
) -> Result<Pods, ReadError> {
    let gpu_nodes: Option<HashSet<&str>> = nodes.map(|n| n.gpu.iter().map(|n| n.name.as_str()).collect());
    let mut scope = PodsRead {
        namespaces: options.namespaces.clone(),
        selector: options.selector.clone(),
        ..PodsRead::default()
    };
    let sparse = nodes.is_some_and(|n| n.gpu.len() * SPARSE <= n.total && !n.gpu.is_empty());
    let everything = match (nodes, sparse) {
        (Some(nodes), _) if nodes.gpu.is_empty() => Ok(Vec::new()),
        (Some(nodes), true) => by_node(api, nodes, options).await,
        _ => some_pods(api, "/api/v1/pods", gpu_nodes.as_ref(), options).await,
    };
    let pods = match everything {
        Ok(pods) => {
            scope.complete = true;
            pods
        }
        // Nobody who is not known, or not there, will answer the next question better.
        Err(error) if error.is_fatal() => return Err(error),
        Err(error) => {
            if options.namespaces.is_empty() {
                gaps.add(
                    &error,
                    "pods of all namespaces",
                    "who holds which GPU is unknown: nothing is called free, idle or oversized",
                );
                Vec::new()
            } else {
                gaps.add(
                    &error,
                    "pods outside the given namespaces",
                    "a GPU without a visible holder is not called free; spend is that of the visible pods",
                );
                by_namespace(api, gpu_nodes.as_ref(), options, &mut scope, gaps).await
            }
        }
    };
    let (mut pods, wants): (Vec<Pod>, Vec<Vec<Wants>>) = pods.into_iter().unzip();
    let wants = wants.into_iter().flatten().collect();
    if let Some(selector) = &options.selector {
        mark_selected(api, selector, options, &mut pods, gaps).await;
    }
    pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    pods.dedup_by(|a, b| a.uid == b.uid && !a.uid.is_empty());
    Ok(Pods { pods, wants, scope })
}

/// Bound to a GPU node, or asking for a device: the others are dropped as they come.
fn relevant(pod: &RawPod, gpu_nodes: Option<&HashSet<&str>>) -> Option<bool> {
    match (pod.node(), gpu_nodes) {
        (Some(node), Some(gpu_nodes)) => Some(gpu_nodes.contains(node)),
        _ => None,
    }
}

fn asks_for_devices(pod: &Pod) -> bool {
    !pod.resource_claims.is_empty() || pod.containers.iter().any(Container::has_devices)
}

/// A pod, and what of it stands elsewhere.
type Found = (Pod, Vec<Wants>);

async fn some_pods(
    api: &Api,
    path: &str,
    gpu_nodes: Option<&HashSet<&str>>,
    options: &CollectOptions,
) -> Result<Vec<Found>, ReadError> {
    let mut pods = Vec::new();
    api.pages::<RawPod>(path, |restart, items| {
        if restart {
            pods.clear();
        }
        for raw in items {
            let relevant = relevant(&raw, gpu_nodes);
            if relevant == Some(false) {
                continue;
            }
            let wants = raw.wants();
            let pod = raw.into_pod(&options.keep_labels);
            if relevant == Some(true) || asks_for_devices(&pod) {
                pods.push((pod, wants));
            }
        }
    })
    .await?;
    Ok(pods)
}

/// One read a GPU node, and one for the pods that wait for a node.
async fn by_node(api: &Api, nodes: &Nodes, options: &CollectOptions) -> Result<Vec<Found>, ReadError> {
    let waiting = std::iter::once("/api/v1/pods?fieldSelector=spec.nodeName%3D".to_string());
    let paths: Vec<String> = nodes
        .gpu
        .iter()
        .map(|n| format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", n.name))
        .chain(waiting)
        .collect();
    let gpu: HashSet<&str> = nodes.gpu.iter().map(|n| n.name.as_str()).collect();
    let gpu = &gpu;
    let mut reads = stream::iter(
        paths
            .into_iter()
            .map(|path| async move { some_pods(api, &path, Some(gpu), options).await }),
    )
    .buffer_unordered(AT_ONCE);
    let mut pods = Vec::new();
    while let Some(read) = reads.next().await {
        pods.extend(read?);
    }
    Ok(pods)
}

async fn by_namespace(
    api: &Api,
    gpu_nodes: Option<&HashSet<&str>>,
    options: &CollectOptions,
    scope: &mut PodsRead,
    gaps: &mut Gaps,
) -> Vec<Found> {
    let mut pods = Vec::new();
    for namespace in &options.namespaces {
        match some_pods(api, &format!("/api/v1/namespaces/{namespace}/pods"), gpu_nodes, options).await {
            Ok(read) => pods.extend(read),
            Err(error) => {
                gaps.add(
                    &error,
                    &format!("pods in namespace {namespace}"),
                    "its workloads are not in the report",
                );
                scope.refused.push(namespace.clone());
            }
        }
    }
    pods
}

/// `-l` is the server's own matching: a second, cheap list of names. Selected pods carry a marker label.
async fn mark_selected(api: &Api, selector: &str, options: &CollectOptions, pods: &mut [Pod], gaps: &mut Gaps) {
    let encoded = percent_encoding::utf8_percent_encode(selector, percent_encoding::NON_ALPHANUMERIC);
    let paths = if options.namespaces.is_empty() {
        vec![format!("/api/v1/pods?labelSelector={encoded}")]
    } else {
        options
            .namespaces
            .iter()
            .map(|ns| format!("/api/v1/namespaces/{ns}/pods?labelSelector={encoded}"))
            .collect()
    };
    let mut selected: HashSet<String> = HashSet::new();
    for path in paths {
        match api.list::<super::raw::Named>(&path).await {
            Ok(items) => selected.extend(items.into_iter().filter_map(|i| i.metadata.uid)),
            Err(error) => gaps.add(&error, &format!("pods with -l {selector}"), "no pod is selected by it"),
        }
    }
    for pod in pods {
        if selected.contains(&pod.uid) {
            pod.labels
                .insert(crate::snapshot::cluster::SELECTED.into(), "true".into());
        }
    }
}
