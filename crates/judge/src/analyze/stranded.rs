//! stranded-gpu: free GPUs that nobody can use where they are.

mod asked;
mod scatter;

use super::finding::{ClaimRank, Confidence, Evidence, Finding, Fix};
use super::support::{self, Judged, gpus};
use super::{Check, Context, Outcome, documented};
use crate::analyze::rights;
use crate::fleet::{Fleet, Node, NodeId, Pod, SlotId, SlotState, WHOLE_GPU};
use crate::settings::Thresholds;
use crate::snapshot::cluster::{NodeExpression, PodPlacement, Taint};
use std::collections::{BTreeMap, BTreeSet};

documented! {
    since "0.1.0";
    /// What it finds. Free GPUs that nobody can use where they are: the node's CPU, memory or pod slots are requested away (host), or
    /// a pod has waited ten minutes for k GPUs on one node while at least k are free, but never k together (scatter). And of Slurm's jobs of the last days, by owner: those
    /// that took half as many CPUs a GPU again as their node has (asked-cpus), more than its share of memory of which a fifth or more was not
    /// used (asked-memory), or more nodes than their GPUs need (asked-nodes), with the GPU-hours that nobody else could use beside them.
    ///
    /// Why it costs. The scheduler sees a free GPU and can give it to nobody; dashboards show capacity that does not exist.
    ///
    /// How the dollars are computed. host: (free - usable) GPUs of the node, where usable is what the CPU and memory that are left
    /// would feed; a GPU's need is the middle of the requests of this tier's own pods (five at least), else 6 vCPU (vLLM's rule
    /// 2 x (2 + N) for one GPU) and as much memory as the GPU has. scatter: the GPUs that the waiting pods would take. Taken from
    /// 'unallocated', never added to it. What jobs asked for in the past has no dollars: whether somebody waited then is not known.
    ///
    /// When it is wrong. Servers of small models need less than the rule. Taints, selectors and node affinity of waiting pods are
    /// respected; pods with pod affinity or spread constraints are left out. A move is named only where everything that moves, and the
    /// pod that waits, then has GPUs (of the same kind), CPU, memory and a pod slot; priorities and volumes are not looked at.
    ///
    /// What to do. Keep CPU-only pods off GPU nodes with a taint, lower requests nobody uses, pack small pods together.
    pub(crate) struct StrandedGpu;
}

const ID: &str = "stranded-gpu";

impl Check for StrandedGpu {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Free GPUs nobody can use: their node's CPU or memory is requested away, or they are too scattered for any waiting pod."
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[
            Some("host"),
            Some("scatter"),
            Some(asked::CPUS),
            Some(asked::MEMORY),
            Some(asked::NODES),
        ]
    }

    fn needs_activity(&self) -> bool {
        true
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        let mut taken = BTreeSet::new();
        host(fleet, &context.settings.thresholds, &mut taken, out);
        scatter::findings(fleet, &context.settings.thresholds, &mut taken, out);
        asked::findings(context, out);
    }
}

fn free_slots(fleet: &Fleet, node: &Node) -> Vec<SlotId> {
    node.slot_ids()
        .filter(|s| fleet.slot(*s).state == SlotState::Free && fleet.slot(*s).weight == WHOLE_GPU)
        .collect()
}

/// What one GPU's pod needs beside the GPU: the middle of what this tier's pods ask for, else vLLM's rule and 1 × GPU memory.
struct PerGpu {
    cores: f64,
    memory: f64,
    from_pods: usize,
}

fn per_gpu(fleet: &Fleet, node: &Node, t: &Thresholds) -> Option<PerGpu> {
    // What beside a part of a GPU, or a turn on one, says nothing of a whole one's.
    let whole = |s: &SlotId| fleet.slot(*s).weight == WHOLE_GPU && fleet.slot(*s).sharers <= 1;
    let same = |p: &&Pod| {
        p.cluster == node.cluster
            && p.node.is_some_and(|n| fleet.node(n).gpu_name == node.gpu_name)
            && !p.slots.is_empty()
            && p.slots.iter().all(whole)
            && !p.node_bound
            && p.cpu.0 > 0
    };
    let pods: Vec<&Pod> = fleet.pods.iter().filter(same).collect();
    if pods.len() as u64 >= t.stranded_min_pods.max(1) {
        let middle = |of: &dyn Fn(&Pod) -> f64| {
            let mut values: Vec<f64> = pods.iter().map(|p| of(p) / p.slots.len() as f64).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        return Some(PerGpu {
            cores: middle(&|p| p.cpu.cores()),
            memory: middle(&|p| p.memory.0 as f64),
            from_pods: pods.len(),
        });
    }
    Some(PerGpu {
        cores: t.stranded_vcpu_per_gpu,
        memory: node.gpu?.memory.0 as f64,
        from_pods: 0,
    })
}

fn host(fleet: &Fleet, t: &Thresholds, taken: &mut BTreeSet<SlotId>, out: &mut Outcome) {
    let mut pools: BTreeMap<(usize, String, String), Vec<Blocked>> = BTreeMap::new();
    for (index, node) in fleet.nodes.iter().enumerate() {
        let free = free_slots(fleet, node);
        let cluster = &fleet.clusters[node.cluster];
        // A node that has just come, or is about to go, strands nothing.
        let age = node
            .created_at
            .map(|c| fleet.now(node.cluster).duration_since(c).as_secs_f64());
        let settled = age.is_some_and(|a| a >= t.node_grace_seconds as f64) && !node.being_removed;
        if free.is_empty() || !settled {
            continue;
        }
        if !cluster.pods_known {
            out.not_assessed(
                "not every pod is visible: what CPU and memory are left is unknown",
                rights::READ,
                free,
            );
            continue;
        }
        let (Some(cpu), Some(memory), Some(need)) =
            (node.allocatable_cpu, node.allocatable_memory, per_gpu(fleet, node, t))
        else {
            out.not_assessed(
                "the node's allocatable CPU or memory, or its GPU, is unknown",
                "look at the node's status",
                free,
            );
            continue;
        };
        out.assessed.extend(&free);
        let cpu_left = (cpu.cores() - node.requested_cpu.cores()).max(0.0);
        let memory_left = memory.saturating_sub(node.requested_memory).0 as f64;
        let pods_left = node
            .allocatable_pods
            .map_or(usize::MAX, |p| (p as usize).saturating_sub(node.pods.len()));
        let room = |left: f64, need: f64| {
            if need > 0.0 {
                (left / need).floor() as usize
            } else {
                usize::MAX
            }
        };
        let usable = free
            .len()
            .min(room(cpu_left, need.cores))
            .min(room(memory_left, need.memory))
            .min(pods_left);
        // An empty node that is too small by this rule was built that way: only requests can strand a GPU.
        let held_by_others = node.pods.iter().any(|p| !fleet.pod(*p).node_bound);
        if usable >= free.len() || !held_by_others {
            continue;
        }
        let stranded: Vec<SlotId> = free[usable..].to_vec();
        taken.extend(&stranded);
        pools
            .entry((node.cluster, node.pool.clone(), node.gpu_name.clone()))
            .or_default()
            .push(Blocked {
                node: NodeId(index),
                stranded,
                free: free.len(),
                usable,
                cpu_left,
                memory_left,
                need,
            });
    }
    out.findings
        .extend(pools.into_values().filter_map(|nodes| host_finding(fleet, &nodes)));
}

/// A node whose free GPUs lack CPU, memory or pod slots.
struct Blocked {
    node: NodeId,
    stranded: Vec<SlotId>,
    free: usize,
    usable: usize,
    cpu_left: f64,
    memory_left: f64,
    need: PerGpu,
}

/// One finding a pool: nodes come and go.
fn host_finding(fleet: &Fleet, nodes: &[Blocked]) -> Option<Finding> {
    let first = nodes.first()?;
    let node = fleet.node(first.node);
    let stranded: Vec<SlotId> = nodes.iter().flat_map(|b| b.stranded.iter().copied()).collect();
    let mut judged = Judged::at(
        Confidence::Estimated,
        "one look at requests; what a GPU's pod needs is the middle of this tier's pods, or a rule",
    );
    let day = 86_400.0;
    let old = |b: &Blocked| {
        let pods = &fleet.node(b.node).pods;
        let age = |p: &Pod| {
            p.created_at
                .map(|c| fleet.now(p.cluster).duration_since(c).as_secs_f64())
        };
        let placed = pods.iter().map(|p| fleet.pod(*p)).filter(|p| !p.node_bound);
        placed.into_iter().all(|p| age(p).is_some_and(|a| a >= day))
    };
    // Free for a day, beside the same requests for a day, measured against what this tier's own pods ask for.
    if stranded.iter().all(|s| fleet.slot(*s).free_for_a_day) && nodes.iter().all(|b| b.need.from_pods > 0 && old(b)) {
        judged = Judged::measured(
            "history shows them free for 80 % of the last 24 h, and the node's pods are older than that",
        );
    }
    judged.cap_by_price(fleet, &stranded);
    let sum = |of: &dyn Fn(&Blocked) -> f64| nodes.iter().map(of).sum::<f64>();
    let free = sum(&|b| b.free as f64);
    let evidence = vec![
        Evidence::number("free_gpus", free, "gpus", "kubernetes"),
        Evidence::number("usable_gpus", sum(&|b| b.usable as f64), "gpus", "kubernetes").expected(free),
        Evidence::number("cpu_left", sum(&|b| b.cpu_left), "cores", "kubernetes")
            .expected(sum(&|b| b.need.cores * b.free as f64)),
        Evidence::number("memory_left", sum(&|b| b.memory_left), "bytes", "kubernetes")
            .expected(sum(&|b| b.need.memory * b.free as f64)),
        Evidence::number(
            "pods_behind_the_rule",
            first.need.from_pods as f64,
            "pods",
            "kubernetes",
        ),
    ];
    let place = if nodes.len() == 1 {
        node.name.clone()
    } else {
        format!("{} nodes", nodes.len())
    };
    Some(Finding {
        title: format!(
            "{} of {} free on {place} without CPU or memory left to use them",
            gpus(stranded.len()),
            node.gpu_name,
        ),
        evidence,
        claims: support::claims(fleet, &stranded, false),
        fix: Fix::told(match blocker(fleet, first.node) {
            Some(pod) => format!(
                "Move {pod} off {} (taint it for GPU pods only), or lower its requests.",
                fleet.node(first.node).name
            ),
            None => format!(
                "Lower the CPU and memory requests of the GPU pods on {} to what they use: they leave nothing for the GPUs that are free.",
                support::nodes_of(fleet, &stranded)
            ),
        }),
        ..judged.recoverable(ID, "host", ClaimRank::Stranded, support::of_pool(fleet, node))
    })
}

/// The largest requester without a GPU on the node.
fn blocker(fleet: &Fleet, node: NodeId) -> Option<String> {
    let mut pods: Vec<&Pod> = fleet
        .node(node)
        .pods
        .iter()
        .map(|p| fleet.pod(*p))
        .filter(|p| p.slots.is_empty() && !p.node_bound)
        .collect();
    pods.sort_by(|a, b| b.cpu.cmp(&a.cpu).then(a.name.cmp(&b.name)));
    pods.first().map(|pod| {
        format!(
            "{}/{} ({:.0} cores, {})",
            pod.namespace,
            pod.name,
            pod.cpu.cores(),
            pod.memory
        )
    })
}

/// The scheduler's own filters, as far as gpuwaste models them: readiness, cordon, taints, selectors, affinity.
pub(super) fn may_run(pod: &Pod, node: &Node) -> bool {
    if !node.is_ready() || node.unschedulable {
        return false;
    }
    let anywhere = PodPlacement::default();
    let placement = pod.placement.as_ref().unwrap_or(&anywhere);
    let tolerated = |taint: &Taint| {
        !matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            || placement.tolerations.iter().any(|t| {
                t.key.as_ref().is_none_or(|k| *k == taint.key)
                    && (t.exists || t.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""))
                    && t.effect.as_ref().is_none_or(|e| *e == taint.effect)
            })
            // The admission plugin ExtendedResourceToleration adds this one where it is on.
            || pod.devices.contains_key(&taint.key)
    };
    let label = |key: &str| {
        node.labels
            .get(key)
            .map(String::as_str)
            .or((key == "kubernetes.io/hostname").then_some(node.name.as_str()))
    };
    let expression = |e: &NodeExpression| {
        let value = label(&e.key);
        match e.operator.as_str() {
            "In" => value.is_some_and(|v| e.values.iter().any(|w| w == v)),
            "NotIn" => !value.is_some_and(|v| e.values.iter().any(|w| w == v)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" | "Lt" => value
                .and_then(|v| v.parse::<i64>().ok())
                .zip(e.values.first().and_then(|w| w.parse::<i64>().ok()))
                .is_some_and(|(v, w)| if e.operator == "Gt" { v > w } else { v < w }),
            _ => false,
        }
    };
    node.taints.iter().all(tolerated)
        && placement.node_selector.iter().all(|(k, v)| label(k) == Some(v))
        && (placement.affinity_terms.is_empty()
            || placement.affinity_terms.iter().any(|term| term.iter().all(expression)))
}
