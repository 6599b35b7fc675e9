//! cpu-pods-on-gpu-node: pods without a GPU that sit on GPU nodes.

use super::finding::{ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::support;
use super::{Check, Context, Outcome, documented};
use crate::analyze::rights;
use crate::fleet::{Fleet, Node, Pod};
use crate::settings::Thresholds;
use std::collections::BTreeMap;

documented! {
    since "0.1.0";
    /// What it finds. Pods without a GPU on GPU nodes that ask for a quarter of its CPU or memory, or that are alone on it, so that no
    /// autoscaler can remove it. DaemonSets, mirror pods, GPU infrastructure and kube-system are left out.
    ///
    /// Why it costs. GPUs beside them cannot be used for want of CPU, and an empty GPU node stays up for a pod that any node could run.
    ///
    /// How the dollars are computed. None of its own: the GPUs are in stranded-gpu and dark-capacity.
    ///
    /// When it is wrong. Front ends of a model sometimes belong beside it.
    ///
    /// What to do. Taint GPU pools for GPU pods.
    pub(crate) struct CpuPodsOnGpuNode;
}

const ID: &str = "cpu-pods-on-gpu-node";

impl Check for CpuPodsOnGpuNode {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Pods without a GPU that take a GPU node's CPU or memory, or alone keep it from being scaled down."
    }

    fn needs_activity(&self) -> bool {
        true
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        let mut pools: BTreeMap<PoolKey<'_>, Vec<(&Node, Guests<'_>)>> = BTreeMap::new();
        for node in &fleet.nodes {
            if !fleet.clusters[node.cluster].pods_known {
                out.not_assessed(
                    "pods of all namespaces could not be read",
                    rights::READ,
                    node.slot_ids(),
                );
                continue;
            }
            out.assessed.extend(node.slot_ids());
            if let Some(guests) = guests(fleet, node, &context.settings.thresholds) {
                let key = (node.cluster, node.pool.as_str(), node.gpu_name.as_str());
                pools.entry(key).or_default().push((node, guests));
            }
        }
        out.findings.extend(
            pools
                .into_values()
                .filter_map(|nodes| finding(fleet, &context.settings.thresholds, &nodes)),
        );
    }
}

/// Cluster, pool, GPU.
type PoolKey<'a> = (usize, &'a str, &'a str);

/// What pods without GPUs take of one node.
struct Guests<'a> {
    pods: Vec<&'a Pod>,
    /// The larger of their shares of allocatable CPU and memory.
    share: f64,
    /// No pod with a GPU is on the node.
    alone: bool,
}

/// Pods without a GPU that would have to run elsewhere were the node gone. Agents come with every node, and system pods have to
/// run somewhere.
pub(super) fn others<'a>(fleet: &'a Fleet, node: &Node) -> Vec<&'a Pod> {
    let bound = node.pods.iter().map(|p| fleet.pod(*p));
    bound
        .filter(|p| {
            p.slots.is_empty()
                && p.devices.is_empty()
                && !p.claims
                && !p.node_bound
                && !p.infrastructure
                && !p.placeholder
        })
        .filter(|p| p.namespace != "kube-system")
        .collect()
}

fn guests<'a>(fleet: &'a Fleet, node: &Node, t: &Thresholds) -> Option<Guests<'a>> {
    let bound = || node.pods.iter().map(|p| fleet.pod(*p));
    let pods = others(fleet, node);
    let cpu: f64 = pods.iter().map(|p| p.cpu.cores()).sum();
    let memory: f64 = pods.iter().map(|p| p.memory.0 as f64).sum();
    let share =
        (cpu / node.allocatable_cpu?.cores().max(1.0)).max(memory / (node.allocatable_memory?.0 as f64).max(1.0));
    let alone = !bound().any(|p| !p.slots.is_empty() || p.claims);
    (!pods.is_empty() && (share >= t.cpu_pods_share || alone)).then_some(Guests { pods, share, alone })
}

fn finding(fleet: &Fleet, t: &Thresholds, nodes: &[(&Node, Guests<'_>)]) -> Option<Finding> {
    let (first, _) = nodes.first()?;
    let subject = support::of_pool(fleet, first);
    let pods: usize = nodes.iter().map(|(_, g)| g.pods.len()).sum();
    let alone = nodes.iter().filter(|(_, g)| g.alone).count();
    let largest = nodes
        .iter()
        .flat_map(|(_, g)| &g.pods)
        .max_by(|a, b| a.cpu.cmp(&b.cpu).then(b.name.cmp(&a.name)))?;
    let share = nodes.iter().map(|(_, g)| g.share).fold(0.0, f64::max);
    let noun = if pods == 1 { "pod" } else { "pods" };
    let what = if alone > 0 {
        format!(
            "{} {alone} empty GPU {} up",
            if pods == 1 { "keeps" } else { "keep" },
            if alone == 1 { "node" } else { "nodes" }
        )
    } else {
        let verb = if pods == 1 { "takes" } else { "take up to" };
        format!("{verb} {:.0} % of a GPU node", share * 100.0)
    };
    Some(Finding {
        check: ID,
        part: None,
        kind: FindingKind::AtRisk,
        rank: ClaimRank::None,
        title: format!(
            "{pods} {noun} without a GPU {what} in pool {}",
            subject.name.as_deref().unwrap_or("?")
        ),
        subject,
        workload: None,
        confidence: Confidence::Estimated,
        confidence_reasons: vec!["one look at requests; what it costs is in stranded-gpu and dark-capacity".into()],
        evidence: vec![
            Evidence::number("pods_without_gpu", pods as f64, "pods", "kubernetes").expected(0.0),
            Evidence::number("largest_share_of_a_node", share, "ratio", "kubernetes").expected(t.cpu_pods_share),
            Evidence::number("nodes_with_only_such_pods", alone as f64, "nodes", "kubernetes").expected(0.0),
            Evidence::text(
                "largest",
                &format!("{}/{}", largest.namespace, largest.name),
                "kubernetes",
            ),
        ],
        claims: Vec::new(),
        fix: Fix {
            summary: format!(
                "Taint the pool for GPU pods only (nvidia.com/gpu:NoSchedule) and let {}/{} and its like run elsewhere than on {}.",
                largest.namespace,
                largest.name,
                support::named(&nodes.iter().map(|(n, _)| n.name.as_str()).collect())
            ),
            ..Fix::default()
        },
        ignored: None,
        trend_usd_per_hour: None,
    })
}
