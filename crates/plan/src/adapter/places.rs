//! On which nodes a pod may run, whatever is free there.

use super::NodeOf;
use crate::judge::fleet::{self, CapacityType};
use crate::model::Problem;
use crate::snapshot::cluster::{self as seen, NodeExpression, PodPlacement, Toleration};
use std::collections::BTreeMap;
use std::ops::Range;

/// Sets of one cluster's nodes, each made once.
pub(super) struct Places {
    nodes: Range<usize>,
    known: BTreeMap<String, usize>,
}

impl Places {
    pub(super) fn new(nodes: Range<usize>) -> Self {
        Self {
            nodes,
            known: BTreeMap::new(),
        }
    }

    pub(super) fn of(
        &mut self,
        problem: &mut Problem,
        nodes: &[NodeOf<'_>],
        pod: &seen::Pod,
        own: &fleet::Pod,
        node: Option<usize>,
    ) -> usize {
        let on_gpus = own.wanted() > 0 || own.claims;
        let home = node.map(|n| (problem.nodes[n].group, nodes[n].joined));
        let spot = home.is_some_and(|(_, n)| n.capacity_type == CapacityType::Spot);
        let group = home.filter(|_| on_gpus).map(|(group, _)| group);
        let arch = home.and_then(|(_, n)| n.labels.get("kubernetes.io/arch"));
        let key = format!("{:?} {group:?} {on_gpus} {spot} {arch:?}", pod.placement);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let anywhere = PodPlacement::default();
        let placement = pod.placement.as_ref().unwrap_or(&anywhere);
        let mut set = vec![false; nodes.len()];
        for n in self.nodes.clone() {
            let joined = nodes[n].joined;
            let same_gpu = group.is_none_or(|g| problem.nodes[n].group == g);
            // Spot may be taken away: nobody is put there who is not there already.
            let as_safe = home.is_none() || spot || joined.capacity_type != CapacityType::Spot;
            let whole = !on_gpus || !(joined.shares_devices() || joined.custom_sharing);
            let same_arch = home.is_none() || joined.labels.get("kubernetes.io/arch") == arch;
            set[n] = same_gpu && as_safe && whole && same_arch && may_run(placement, joined);
        }
        problem.places.push(set);
        self.known.insert(key, problem.places.len() - 1);
        problem.places.len() - 1
    }
}

/// Nodes of a tier that a pod with this placement may run on, seen from its present node.
pub(super) fn of_tier(nodes: &[NodeOf<'_>], placement: &PodPlacement, home: usize, gpu: &str) -> Vec<bool> {
    let (cluster, now) = (nodes[home].cluster, nodes[home].joined);
    let is_one = |n: &NodeOf<'_>| {
        let joined = n.joined;
        // Of an instance the card's name stands before the profile's.
        let named = joined.gpu.is_some_and(|g| {
            gpu.strip_prefix(g.name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("-MIG-"))
        });
        let as_safe = now.capacity_type == CapacityType::Spot || joined.capacity_type != CapacityType::Spot;
        let arch = |n: &fleet::Node| n.labels.get("kubernetes.io/arch").cloned();
        n.cluster == cluster
            && named
            && as_safe
            && !(joined.shares_devices() || joined.custom_sharing)
            && arch(joined) == arch(now)
            && may_run(placement, joined)
    };
    nodes.iter().map(is_one).collect()
}

fn tolerates(t: &Toleration, taint: &seen::Taint) -> bool {
    t.key.as_ref().is_none_or(|k| *k == taint.key)
        && (t.exists || t.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""))
        && t.effect.as_ref().is_none_or(|e| *e == taint.effect)
}

/// Where the scheduler itself would put it, as far as nodes and labels go.
pub(crate) fn may_be_scheduled(placement: Option<&PodPlacement>, node: &fleet::Node) -> bool {
    let anywhere = PodPlacement::default();
    node.is_ready() && !node.unschedulable && may_run(placement.unwrap_or(&anywhere), node)
}

/// As the scheduler's filters do: taints, nodeSelector, required node affinity. Labels that are not in the snapshot are not
/// there: those that pods name were kept.
pub(super) fn may_run(placement: &PodPlacement, node: &fleet::Node) -> bool {
    let hard = |t: &&seen::Taint| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute");
    let mut taints = node.taints.iter().filter(hard);
    taints.all(|taint| placement.tolerations.iter().any(|t| tolerates(t, taint))) && is_selected(placement, node)
}

/// nodeSelector and required node affinity alone.
pub(super) fn is_selected(placement: &PodPlacement, node: &fleet::Node) -> bool {
    let label = |key: &str| node.labels.get(key).map(String::as_str);
    let expression = |e: &NodeExpression| {
        let value = label(&e.key);
        let listed = value.is_some_and(|v| e.values.iter().any(|w| w == v));
        match e.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" | "Lt" => value
                .and_then(|v| v.parse::<i64>().ok())
                .zip(e.values.first().and_then(|w| w.parse::<i64>().ok()))
                .is_some_and(|(v, w)| if e.operator == "Gt" { v > w } else { v < w }),
            _ => false,
        }
    };
    // A term without expressions matches nothing.
    let term = |t: &Vec<NodeExpression>| !t.is_empty() && t.iter().all(expression);
    placement.node_selector.iter().all(|(k, v)| label(k) == Some(v))
        && (placement.affinity_terms.is_empty() || placement.affinity_terms.iter().any(term))
}
