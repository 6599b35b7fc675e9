//! Kubernetes: nodes, pods and owners of one cluster. Only get and list.

pub mod api;
mod config_maps;
pub mod connect;
mod described;
mod dra;
mod labels;
mod owners;
mod pods;
pub(crate) mod quantity;
mod raw;
pub mod rights;
mod spec;

use super::options::CollectOptions;
use super::prometheus::{self, HistoryRead};
use super::scrape;
use crate::engine::metrics::plausible;
use crate::snapshot::cluster::{Cluster, Node};
use crate::snapshot::{Gap, Source};
use api::{Api, ReadError};
use connect::Target;
use raw::{RawAutoscaler, RawBudget, RawNode, RawPodMetrics};
pub use raw::{parse_ignore, pod_of_template};
use std::collections::HashSet;

/// What one cluster gave.
pub struct ClusterRead {
    pub cluster: Cluster,
    pub gaps: Vec<Gap>,
    /// Exporters and engines.
    pub sources: Vec<Source>,
    /// What its store told of history, or did not.
    pub history: HistoryRead,
    /// One line for the report: version and counts.
    pub detail: String,
}

/// Reads one cluster.
///
/// # Errors
/// When the server cannot be reached or refuses the caller altogether; single refused reads are gaps.
pub async fn read_cluster(
    api: &Api,
    target: &Target,
    options: &CollectOptions,
    at: jiff::Timestamp,
) -> Result<ClusterRead, ReadError> {
    let name = options.cluster_name.clone().unwrap_or_else(|| target.name.clone());
    let mut gaps = Gaps {
        source: format!("kubernetes {name}"),
        gaps: Vec::new(),
    };
    let version = api.get_json::<raw::Version>("/version").await?.git_version;
    let (uid, dra) = futures::join!(
        api.get_json::<raw::Named>("/api/v1/namespaces/kube-system"),
        dra::read(api, options, &mut gaps)
    );
    // A node whose GPUs only DRA hands out may carry no label and no resource that tells of them.
    let published: HashSet<&str> = dra
        .iter()
        .flat_map(|d| d.pools.iter().flatten())
        .flat_map(|p| p.devices.iter().filter_map(|d| d.node.as_deref()))
        .collect();
    let nodes = all_nodes(api, options, &published).await;
    let uid = match uid {
        Ok(named) => named.metadata.uid,
        Err(error) => {
            gaps.add(
                &error,
                "the uid of namespace kube-system",
                "findings are identified by the context's name: a baseline from another machine will not match",
            );
            None
        }
    };
    let mut refused = None;
    let nodes = match nodes {
        Ok(nodes) => Some(nodes),
        Err(error) => {
            refused = Some(error.clone());
            gaps.add(
                &error,
                "nodes",
                "spend, free and unhealthy GPUs are not assessed, coverage is unknown; pods' GPUs are counted as if none were shared",
            );
            None
        }
    };
    let mut read = pods::read(api, nodes.as_ref(), options, &mut gaps).await?;
    if let Some(error) = refused.filter(|_| read.is_nothing()) {
        return Err(error);
    }
    let within = &read.namespaces();
    let (owners, autoscalers, budgets, usage) = futures::join!(
        owners::read(api, &read.pods, within, options),
        api.list_in::<RawAutoscaler>("/apis/autoscaling/v2", "horizontalpodautoscalers", within),
        api.list_in::<RawBudget>("/apis/policy/v1", "poddisruptionbudgets", within),
        api.list_in::<RawPodMetrics>("/apis/metrics.k8s.io/v1beta1", "pods", within),
    );
    config_maps::apply(api, &mut read.pods, std::mem::take(&mut read.wants), &mut gaps).await;
    described::apply(&mut read.pods, &owners.described);
    let (controllers, owners_refused) = owners.collect(&mut gaps);
    let autoscalers = gaps.optional(
        autoscalers,
        "horizontal pod autoscalers",
        "minimum replicas are unknown: over-replicated is capped at estimated",
    );
    let budgets = gaps.optional(
        budgets,
        "pod disruption budgets",
        "replicas a budget demands are unknown",
    );
    // Most clusters serve no metrics.k8s.io to speak of; a plain "not served" is no gap worth a line.
    let held: std::collections::BTreeSet<(&str, &str)> = read
        .pods
        .iter()
        .map(|p| (p.namespace.as_str(), p.name.as_str()))
        .collect();
    let pod_usage = match usage {
        Ok(items) => Some(
            items
                .into_iter()
                .map(RawPodMetrics::into_usage)
                .filter(|u| held.contains(&(u.namespace.as_str(), u.name.as_str())))
                .collect(),
        ),
        Err(error) => {
            gaps.add(
                &error,
                "metrics.k8s.io",
                "CPU use is unknown: cpu-gpu-imbalance judges specifications only",
            );
            None
        }
    };
    let (all, gpu) = nodes.as_ref().map_or((0, 0), |n| (n.total, n.gpu.len()));
    let detail = format!(
        "{version}, {gpu} GPU nodes of {all}, {} pods on them or waiting for GPUs",
        read.pods.len()
    );
    let mut cluster = Cluster {
        name,
        uid,
        version: Some(version),
        nodes: nodes.map(|n| n.gpu),
        pods: read.pods,
        pods_read: read.scope,
        controllers,
        owners_refused,
        autoscalers: autoscalers.map(|a| a.into_iter().map(RawAutoscaler::into_autoscaler).collect()),
        disruption_budgets: budgets.map(|b| b.into_iter().map(RawBudget::into_budget).collect()),
        pod_usage,
        dra: dra.map(Box::new),
        ..Cluster::default()
    };
    let mut sources = Vec::new();
    if options.scrape {
        let (read, missing) = scrape::scrape(api, target.inside, &mut cluster, options).await;
        sources = read;
        gaps.gaps.extend(missing);
    }
    let history = prometheus::read(api, &mut cluster, options, at).await;
    if let Some((sifted, missing)) = plausible::sift(&cluster) {
        cluster = sifted;
        gaps.gaps.extend(missing);
    }
    Ok(ClusterRead {
        cluster,
        history,
        gaps: gaps.gaps,
        sources,
        detail,
    })
}

/// GPU nodes, and how many nodes there are in all.
pub struct Nodes {
    pub gpu: Vec<Node>,
    pub total: usize,
}

async fn all_nodes(api: &Api, options: &CollectOptions, published: &HashSet<&str>) -> Result<Nodes, ReadError> {
    let mut nodes = Nodes {
        gpu: Vec::new(),
        total: 0,
    };
    api.pages::<RawNode>("/api/v1/nodes", |restart, items| {
        if restart {
            nodes = Nodes {
                gpu: Vec::new(),
                total: 0,
            };
        }
        nodes.total += items.len();
        nodes.gpu.extend(
            items
                .into_iter()
                .filter(|n| n.has_gpus(options.is_gpu_instance) || published.contains(n.name()))
                .map(|n| n.into_node(&options.keep_labels)),
        );
    })
    .await?;
    nodes.gpu.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

/// Collects the gaps of one cluster under its name.
pub struct Gaps {
    source: String,
    gaps: Vec<Gap>,
}

impl Gaps {
    pub fn add(&mut self, error: &ReadError, what: &str, effect: &str) {
        self.gaps.push(error.gap(&self.source, what, effect));
    }

    pub fn push(&mut self, gap: Gap) {
        let source = self.source.clone();
        self.gaps.push(Gap { source, ..gap });
    }

    fn optional<T>(&mut self, read: Result<Vec<T>, ReadError>, what: &str, effect: &str) -> Option<Vec<T>> {
        read.map_err(|error| self.add(&error, what, effect)).ok()
    }
}
