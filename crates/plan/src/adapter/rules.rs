//! What pods ask over domains that are larger than a node, as the scheduler counts it: topology spread and anti-affinity over zones,
//! racks or whatever a label tells nodes apart by.

use super::NodeOf;
use super::places::is_selected;
use crate::model::{Problem, Rule, RuleKind};
use crate::snapshot::cluster::{self as seen, PodPlacement};
use crate::snapshot::constraints::{Constraints, Spread};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";
/// Domains of one label that are told apart (ours: each question looks at all of them).
const DOMAINS: usize = 64;

/// Which rules of a cluster's pods can be modelled: whom they count is known as a whole, and so are the domains.
pub(super) struct Modelled<'a> {
    cluster: &'a seen::Cluster,
    /// Selections all of whose pods are on nodes that are known.
    whole: BTreeSet<usize>,
    /// Values of each label that a rule names, of all nodes.
    domains: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Modelled<'a> {
    pub(super) fn of(cluster: &'a seen::Cluster) -> Self {
        let nodes: BTreeSet<&str> = cluster.nodes.iter().flatten().map(|n| n.name.as_str()).collect();
        let lost: BTreeSet<String> = cluster
            .pods
            .iter()
            .filter(|p| p.unread || p.holds() && p.node.as_deref().is_some_and(|n| !nodes.contains(n)))
            .map(|p| format!("{}/{}", p.namespace, p.name))
            .collect();
        let selections = cluster.selections.iter().enumerate();
        // Of a pod that could not be read nobody knows who counts it.
        let all_read = cluster.pods_read.unread_on.is_empty();
        let whole = selections
            .filter(|(_, s)| all_read && s.elsewhere == Some(false) && !s.pods.iter().any(|p| lost.contains(p)));
        let mut modelled = Self {
            cluster,
            whole: whole.map(|(i, _)| i).collect(),
            domains: BTreeMap::new(),
        };
        let constraints = cluster.pods.iter().filter_map(|p| p.constraints.as_deref());
        let keys: BTreeSet<&str> = constraints
            .flat_map(|c| {
                let apart = c.anti_affinity.iter().map(|t| t.topology_key.as_str());
                apart.chain(c.spread.iter().map(|s| s.topology_key.as_str()))
            })
            .filter(|k| *k != HOSTNAME)
            .collect();
        for key in keys {
            let own = cluster.nodes.iter().flatten().filter_map(|n| n.labels.get(key));
            let others = cluster.other_domains.iter().filter_map(|d| d.get(key)).flatten();
            let all: BTreeSet<&str> = own.chain(others).map(String::as_str).collect();
            modelled.domains.insert(key, all);
        }
        modelled
    }

    /// `false`: pods that have it, or whom it keeps off, stay where they are.
    pub(super) fn knows(&self, key: &str, selection: Option<usize>) -> bool {
        selection.is_some_and(|s| key == HOSTNAME || self.whole.contains(&s) && self.knows_domains(key))
    }

    pub(super) fn knows_spread(&self, spread: &Spread) -> bool {
        let over_nodes = spread.topology_key == HOSTNAME;
        self.knows(&spread.topology_key, spread.selection) && (over_nodes || spread.whole)
    }

    fn knows_domains(&self, key: &str) -> bool {
        self.cluster.other_domains.is_some() && self.domains.get(key).is_some_and(|d| d.len() <= DOMAINS)
    }
}

/// Rules of one cluster, each made once.
pub(super) struct Rules<'a> {
    modelled: &'a Modelled<'a>,
    nodes: Range<usize>,
    known: BTreeMap<String, usize>,
    /// By rule of the problem: the selection that it counts.
    selections: BTreeMap<usize, usize>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(modelled: &'a Modelled<'a>, nodes: Range<usize>) -> Self {
        Self {
            modelled,
            nodes,
            known: BTreeMap::new(),
            selections: BTreeMap::new(),
        }
    }

    /// Those that hold where the pod is put.
    pub(super) fn of(&mut self, problem: &mut Problem, nodes: &[NodeOf<'_>], pod: &seen::Pod) -> Vec<usize> {
        let Some(constraints) = pod.constraints.as_deref() else {
            return Vec::new();
        };
        let mut all = Vec::new();
        let far = constraints.anti_affinity.iter().filter(|t| t.topology_key != HOSTNAME);
        for term in far.filter(|t| self.modelled.knows(&t.topology_key, t.selection)) {
            let anywhere = |_: usize| true;
            let key = format!("apart {} {:?}", term.topology_key, term.selection);
            let rule = (RuleKind::Apart, term.topology_key.as_str(), term.selection);
            all.extend(self.rule(problem, nodes, key, rule, &anywhere, false));
        }
        let far = constraints.spread.iter().filter(|s| s.topology_key != HOSTNAME);
        for spread in far.filter(|s| self.modelled.knows_spread(s)) {
            let is_counted = |n: usize| counts(spread, constraints, pod, &nodes[n]);
            let keys: Vec<&str> = constraints.spread.iter().map(|s| s.topology_key.as_str()).collect();
            let key = format!("{spread:?} {keys:?} {:?}", pod.placement);
            let kind = RuleKind::Spread {
                max_skew: spread.max_skew,
                min_domains: spread.min_domains.unwrap_or(1),
            };
            let rule = (kind, spread.topology_key.as_str(), spread.selection);
            all.extend(self.rule(problem, nodes, key, rule, &is_counted, spread.honors_taints));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn rule(
        &mut self,
        problem: &mut Problem,
        nodes: &[NodeOf<'_>],
        key: String,
        (kind, label, selection): (RuleKind, &str, Option<usize>),
        is_counted: &dyn Fn(usize) -> bool,
        honors_taints: bool,
    ) -> Option<usize> {
        if let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        let selection = selection?;
        let mut domain: Vec<Option<usize>> = vec![None; nodes.len()];
        let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
        for n in self.nodes.clone().filter(|n| is_counted(*n)) {
            if let Some(value) = nodes[n].joined.labels.get(label) {
                let next = ids.len();
                domain[n] = Some(*ids.entry(value).or_insert(next));
            }
        }
        // Nodes without GPUs: nobody of it is there, and whether the scheduler counts them depends on more than is known. That it does
        // is the stricter of the two.
        let others = self.modelled.cluster.other_domains.iter().filter_map(|d| d.get(label));
        for value in others.flatten() {
            let next = ids.len();
            ids.entry(value).or_insert(next);
        }
        problem.rules.push(Rule {
            kind,
            domain,
            domains: ids.len(),
            honors_taints,
        });
        let index = problem.rules.len() - 1;
        self.known.insert(key, index);
        self.selections.insert(index, selection);
        Some(index)
    }

    /// Once all pods are there: whom each rule counts. The scheduler counts no pod that is being deleted for a spread.
    pub(super) fn count(&self, problem: &mut Problem, pods: &[(usize, &seen::Pod)]) {
        let names: BTreeMap<String, (usize, &seen::Pod)> = pods
            .iter()
            .map(|(i, p)| (format!("{}/{}", p.namespace, p.name), (*i, *p)))
            .collect();
        for (rule, selection) in &self.selections {
            let selected = self.modelled.cluster.selections.get(*selection);
            let spread = matches!(problem.rules[*rule].kind, RuleKind::Spread { .. });
            for (index, pod) in selected.iter().flat_map(|s| &s.pods).filter_map(|p| names.get(p)) {
                if !spread || pod.deleted_at.is_none() {
                    problem.pods[*index].counted_by.push(*rule);
                }
            }
        }
    }
}

/// The scheduler counts pods of a node with all labels that the pod is spread over, where its selectors let it run.
fn counts(spread: &Spread, constraints: &Constraints, pod: &seen::Pod, node: &NodeOf<'_>) -> bool {
    let anywhere = PodPlacement::default();
    let labels = &node.joined.labels;
    constraints
        .spread
        .iter()
        .all(|s| s.topology_key == HOSTNAME || labels.contains_key(&s.topology_key))
        && (spread.ignores_affinity || is_selected(pod.placement.as_ref().unwrap_or(&anywhere), node.joined))
}
