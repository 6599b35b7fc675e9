//! stranded-gpu: free GPUs that nobody can use where they are.

use super::finding::{Claim, ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::support::{self, Judged, gpus};
use super::{Check, Context, Outcome, explain};
use crate::fleet::{Fleet, Node, NodeId, Pod, SlotId, SlotState, WHOLE_GPU};
use crate::settings::Thresholds;
use crate::snapshot::cluster::{NodeExpression, PodPhase, Taint};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct StrandedGpu;

const ID: &str = "stranded-gpu";

impl Check for StrandedGpu {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Free GPUs nobody can use: their node's CPU or memory is requested away, or they are too scattered for any waiting pod."
    }

    fn explain(&self) -> &'static str {
        explain::STRANDED_GPU
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[Some("host"), Some("scatter")]
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        let mut taken = BTreeSet::new();
        host(fleet, &context.settings.thresholds, &mut taken, out);
        scatter(fleet, &context.settings.thresholds, &mut taken, out);
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
    let same = |p: &&Pod| {
        p.cluster == node.cluster
            && p.node.is_some_and(|n| fleet.node(n).gpu_name == node.gpu_name)
            && !p.slots.is_empty()
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
        let age = node.created_at.map(|c| fleet.taken_at.duration_since(c).as_secs_f64());
        let settled = age.is_some_and(|a| a >= t.node_grace_seconds as f64) && !node.being_removed;
        if free.is_empty() || !settled {
            continue;
        }
        if !cluster.pods_known {
            out.not_assessed(
                "not every pod is visible: what CPU and memory are left is unknown",
                "grant what 'gpuwaste rbac' prints",
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
        let age = |p: &Pod| p.created_at.map(|c| fleet.taken_at.duration_since(c).as_secs_f64());
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
        check: ID,
        part: Some("host"),
        kind: FindingKind::Recoverable,
        rank: ClaimRank::Stranded,
        title: format!(
            "{} of {} free on {place} without CPU or memory left to use them",
            gpus(stranded.len()),
            node.gpu_name,
        ),
        subject: support::of_pool(fleet, node),
        workload: None,
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence,
        claims: support::claims(fleet, &stranded, false),
        fix: Fix {
            summary: match blocker(fleet, first.node) {
                Some(pod) => format!("Move {pod} off the GPU node (taint it for GPU pods only), or lower its requests."),
                None => "Lower the CPU and memory requests of the GPU pods there to what they use: they leave nothing for the GPUs that are free.".into(),
            },
            ..Fix::default()
        },
        ignored: None,
        trend_usd_per_hour: None,
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

/// Pods that wait for k GPUs on one node while k are free, but never together.
fn scatter(fleet: &Fleet, t: &Thresholds, taken: &mut BTreeSet<SlotId>, out: &mut Outcome) {
    let mut waiting: BTreeMap<(usize, usize), Vec<&Pod>> = BTreeMap::new();
    for pod in fleet
        .pods
        .iter()
        .filter(|p| p.node.is_none() && p.phase == PodPhase::Pending && p.wanted() > 0)
    {
        let since = pod.scheduled.as_ref().and_then(|c| c.since);
        let waits =
            since.is_some_and(|s| fleet.taken_at.duration_since(s).as_secs_f64() >= t.pending_wait_seconds as f64);
        let unschedulable = pod
            .scheduled
            .as_ref()
            .is_some_and(|c| c.status == Some(false) && c.reason.as_deref() == Some("Unschedulable"));
        // The reason must be GPUs: quota, volumes and queues are somebody else's matter.
        if waits
            && unschedulable
            && pod.waits_for_gpus == Some(true)
            && !pod.placement.as_ref().is_some_and(|p| p.other_constraints)
        {
            waiting
                .entry((pod.cluster, pod.workload.map_or(usize::MAX, |w| w.0)))
                .or_default()
                .push(pod);
        }
    }
    for ((_, workload), pods) in waiting {
        let pod = pods[0];
        let need = pod.wanted();
        let mut free: Vec<(&Node, Vec<SlotId>)> = fleet
            .nodes
            .iter()
            .filter(|n| n.cluster == pod.cluster && may_run(pod, n))
            .map(|n| {
                let of_node = free_slots(fleet, n).into_iter();
                let usable = |s: &SlotId| !taken.contains(s) && fleet.gives(fleet.slot(*s), pod);
                (n, of_node.filter(usable).collect())
            })
            .collect();
        let total: usize = free.iter().map(|(_, f)| f.len()).sum();
        let most = free.iter().map(|(_, f)| f.len()).max().unwrap_or(0);
        if total < need || most >= need {
            continue;
        }
        // The fullest nodes first: those are the cheapest to clear.
        free.sort_by_key(|(_, f)| std::cmp::Reverse(f.len()));
        let plan = moves(fleet, &free, need);
        let blocked: Vec<SlotId> = free
            .into_iter()
            .flat_map(|(_, f)| f)
            .take((need * pods.len()).min(total))
            .collect();
        taken.extend(&blocked);
        let mut judged = Judged::measured("the pod's own condition tells since when it waits");
        judged.cap_by_price(fleet, &blocked);
        let node = fleet.node(fleet.slot(blocked[0]).node);
        let since = pod
            .scheduled
            .as_ref()
            .and_then(|c| c.since)
            .map_or(0.0, |s| fleet.taken_at.duration_since(s).as_secs_f64());
        let name = if workload == usize::MAX {
            pod.name.clone()
        } else {
            fleet.workloads[workload].name.clone()
        };
        out.findings.push(Finding {
            check: ID,
            part: Some("scatter"),
            kind: FindingKind::Recoverable,
            rank: ClaimRank::Stranded,
            title: format!("{total} GPUs free in pieces while {name} waits for {need} on one node"),
            subject: support::of_pool(fleet, node),
            workload: None,
            confidence: judged.level,
            confidence_reasons: judged.reasons,
            evidence: vec![
                Evidence::number("free_gpus_on_matching_nodes", total as f64, "gpus", "kubernetes").expected(need as f64),
                Evidence::number("most_free_on_one_node", most as f64, "gpus", "kubernetes").expected(need as f64),
                Evidence::number("waiting_pods", pods.len() as f64, "pods", "kubernetes"),
                Evidence::number("waits_for", since, "seconds", "kubernetes"),
            ],
            claims: blocked.iter().map(|s| Claim { slot: *s, usd_per_hour: fleet.slot(*s).price, vacates: false }).collect(),
            fix: Fix {
                summary: match plan {
                    Some((target, which)) => format!("Move {which}: then {name} fits on {target}."),
                    None => format!("Move small pods together (bin-packing score, descheduler) until one node has {need} free GPUs for {name}."),
                },
                ..Fix::default()
            },
            ignored: None,
            trend_usd_per_hour: None,
        });
    }
}

/// The fewest GPUs to move so that one node has `need` free ones: that node, and which pods go where.
fn moves(fleet: &Fleet, free: &[(&Node, Vec<SlotId>)], need: usize) -> Option<(String, String)> {
    free.iter().find_map(|(target, have)| {
        let mut missing = need - have.len();
        let mut left: Vec<(&Node, usize)> = free
            .iter()
            .filter(|(n, _)| n.name != target.name)
            .map(|(n, f)| (*n, f.len()))
            .collect();
        // Whole GPUs that only this pod holds; small pods first, so that each finds a place.
        let movable = |p: &&Pod| {
            let alone = |s: &SlotId| fleet.slot(*s).weight == WHOLE_GPU && fleet.slot(*s).holders.len() == 1;
            !p.node_bound && !p.slots.is_empty() && p.slots.iter().all(alone)
        };
        let mut pods: Vec<&Pod> = target.pods.iter().map(|p| fleet.pod(*p)).filter(movable).collect();
        pods.sort_by(|a, b| (a.slots.len(), &a.namespace, &a.name).cmp(&(b.slots.len(), &b.namespace, &b.name)));
        let mut moved = Vec::new();
        for pod in pods {
            if missing == 0 {
                break;
            }
            let size = pod.slots.len();
            if let Some(place) = left.iter_mut().find(|(n, room)| *room >= size && may_run(pod, n)) {
                place.1 -= size;
                missing = missing.saturating_sub(size);
                moved.push(format!(
                    "{}/{} ({}) to {}",
                    pod.namespace,
                    pod.name,
                    gpus(size),
                    place.0.name
                ));
            }
        }
        (missing == 0).then(|| (target.name.clone(), moved.join(", ")))
    })
}

/// The scheduler's own filters, as far as gpuwaste models them: readiness, cordon, taints, selectors, affinity.
pub(super) fn may_run(pod: &Pod, node: &Node) -> bool {
    if !node.is_ready() || node.unschedulable {
        return false;
    }
    let placement = pod.placement.clone().unwrap_or_default();
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
