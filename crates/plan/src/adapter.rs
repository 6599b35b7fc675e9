//! From a snapshot, its fleet and its report to a [`Problem`]. What is not known becomes "it stays", with the reason.

pub(crate) mod changes;
pub(crate) mod leaving;
pub(crate) mod places;
mod rules;
pub(crate) mod tiers;

use crate::judge::fleet::{self, Fleet, SlotState};
use crate::judge::report::document::Report;
use crate::model::{Group, Headroom, How, Node, Pod, Problem};
use crate::snapshot::Snapshot;
use crate::snapshot::cluster as seen;
use crate::snapshot::constraints::PodTerm;
use crate::snapshot::resources::{ResourceKind, kind};
use changes::Ending;
use leaving::{Leaving, Owners};
use rules::{HOSTNAME, Modelled, Rules};
use std::collections::{BTreeMap, BTreeSet};

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub max_moves: Option<u64>,
    /// Namespaces, or "namespace/name" of workloads, that may move or end; empty: all.
    pub only: Vec<String>,
    pub headroom: Headroom,
    pub now: bool,
    pub reusable: bool,
    pub tier: bool,
    pub replicas: bool,
}

impl Options {
    /// Whether a workload of this namespace and name, or a pod without one, is among those that may be touched.
    pub fn concerns(&self, namespace: &str, name: Option<&str>) -> bool {
        let is = |only: &String| match only.split_once('/') {
            None => only == namespace,
            Some((own, "…" | "*")) => own == namespace,
            Some((own, wanted)) => own == namespace && name == Some(wanted),
        };
        self.only.is_empty() || self.only.iter().any(is)
    }
}

/// The problem, and what its indices stand for.
pub(crate) struct Input<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) problem: Problem,
    /// Parallel to the problem's nodes: which cluster, its object.
    pub(crate) nodes: Vec<NodeOf<'a>>,
    /// Parallel to the problem's pods.
    pub(crate) pods: Vec<PodOf<'a>>,
    /// Parallel to the problem's changes.
    pub(crate) changes: Vec<Ending>,
    /// Parallel to the problem's tiers.
    pub(crate) tiers: Vec<tiers::Smaller>,
    /// Findings that no step acts on although they are allowed, and why.
    pub(crate) left: Vec<(String, String)>,
    pub(crate) refused: Vec<(String, &'static str, &'static str)>,
}

pub(crate) struct NodeOf<'a> {
    pub(crate) scheduler: seen::Scheduler,
    pub(crate) cluster: &'a str,
    pub(crate) joined: &'a fleet::Node,
    pub(crate) id: fleet::NodeId,
    /// Why the node itself cannot go, although its bill would stop.
    pub(crate) reason: Option<String>,
}

pub(crate) struct PodOf<'a> {
    pub(crate) seen: &'a seen::Pod,
    pub(crate) joined: &'a fleet::Pod,
    pub(crate) id: fleet::PodId,
    pub(crate) leaving: Leaving,
}

impl<'a> Input<'a> {
    /// `persons`: also with what only a person can move, to see what it would bring.
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        fleet: &'a Fleet,
        report: &Report,
        options: &Options,
        persons: bool,
    ) -> Self {
        let mut input = Self {
            fleet,
            problem: Problem {
                headroom: options.headroom,
                max_moves: options.max_moves.map(|m| usize::try_from(m).unwrap_or(usize::MAX)),
                ..Problem::default()
            },
            nodes: Vec::new(),
            pods: Vec::new(),
            changes: Vec::new(),
            tiers: Vec::new(),
            left: Vec::new(),
            refused: Vec::new(),
        };
        let resources = Resources::of(snapshot);
        input.problem.resources = resources.names.len();
        for (index, info) in fleet.clusters.iter().enumerate() {
            let same = |c: &&seen::Cluster| c.name == info.name && c.uid.as_ref().is_none_or(|uid| *uid == info.key);
            let Some(cluster) = snapshot.clusters.iter().find(same) else {
                continue;
            };
            match refusal(info, cluster, fleet, index) {
                Some((reason, remedy)) => input.refused.push((cluster.name.clone(), reason, remedy)),
                None => input.cluster(index, cluster, &resources, (options, persons)),
            }
        }
        let all = input.nodes.len();
        input.problem.places.iter_mut().for_each(|set| set.resize(all, false));
        for rule in &mut input.problem.rules {
            rule.domain.resize(all, None);
        }
        changes::find(&mut input, snapshot, report, options);
        tiers::find(&mut input, &resources, snapshot, report, options);
        input
    }

    fn cluster(
        &mut self,
        index: usize,
        cluster: &'a seen::Cluster,
        resources: &Resources,
        (options, persons): (&Options, bool),
    ) {
        let first = self.nodes.len();
        let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
        let known: BTreeMap<&str, &seen::Node> = cluster.nodes.iter().flatten().map(|n| (n.name.as_str(), n)).collect();
        let mut groups: BTreeMap<String, usize> = BTreeMap::new();
        for (i, joined) in self.fleet.nodes.iter().enumerate().filter(|(_, n)| n.cluster == index) {
            let Some(seen) = known.get(joined.name.as_str()) else {
                continue;
            };
            let id = fleet::NodeId(i);
            let group = self.group(cluster, joined, seen, resources, &mut groups);
            let reason = self.node_reason(joined, seen);
            by_name.insert(&joined.name, self.nodes.len());
            let stops = joined.capacity_type.can_be_returned();
            let price = joined.price.usd_per_hour.map(crate::units::UsdPerHour::micros);
            self.problem.nodes.push(Node {
                group,
                allocatable: resources.amounts(&seen.allocatable, true),
                price,
                returnable: stops && reason.is_none() && price.is_some(),
                open: joined.is_ready()
                    && !joined.unschedulable
                    && !joined.being_removed
                    && reason.is_none()
                    && !is_control(joined),
            });
            self.nodes.push(NodeOf {
                scheduler: cluster.scheduler,
                cluster: &cluster.name,
                joined,
                id,
                reason,
            });
        }
        let joined: BTreeMap<(&str, &str), usize> = self
            .fleet
            .pods
            .iter()
            .enumerate()
            .filter(|(_, p)| p.cluster == index)
            .map(|(i, p)| ((p.namespace.as_str(), p.name.as_str()), i))
            .collect();
        let modelled = Modelled::of(cluster);
        let owners = Owners::of(cluster, &modelled);
        let mut rules = Rules::new(&modelled, first..self.nodes.len());
        let first_pod = self.pods.len();
        let mut selections = Selections::of(cluster, self.problem.selections.len());
        let mut places = places::Places::new(first..self.nodes.len());
        for pod in &cluster.pods {
            let Some(&id) = joined.get(&(pod.namespace.as_str(), pod.name.as_str())) else {
                continue;
            };
            let own = &self.fleet.pods[id];
            let node = pod.node.as_deref().and_then(|n| by_name.get(n).copied());
            let waits = pod.node.is_none()
                && pod.phase == seen::PodPhase::Pending
                && pod.deleted_at.is_none()
                && own.wanted() > 0;
            if (!pod.holds() || node.is_none()) && !waits {
                continue;
            }
            let requests = pod.requests();
            let mut leaving = owners.leaving(pod, own, self.fleet, options);
            if let (Some(node), true) = (node, !own.devices.is_empty()) {
                leaving = leaving.or_shared(self.nodes[node].joined);
            }
            let constraints = pod.constraints.as_deref();
            let set = places.of(&mut self.problem, &self.nodes, pod, own, node);
            let bound_by = rules.of(&mut self.problem, &self.nodes, pod);
            let index = self.problem.pods.len();
            let milli = own
                .slots
                .iter()
                .map(|s| self.fleet.slot(*s).weight * 1000 / fleet::WHOLE_GPU)
                .sum();
            self.problem.pods.push(Pod {
                node,
                request: resources.amounts(&requests, false),
                milli_gpus: milli,
                places: set,
                how: if waits { How::Stays } else { leaving.how(persons) },
                apart: constraints.map_or(Vec::new(), |c| {
                    let rule =
                        |t: &&PodTerm| t.topology_key != HOSTNAME && modelled.knows(&t.topology_key, t.selection);
                    selections.terms(c.anti_affinity.iter().filter(|t| !rule(t)).map(|t| t.selection))
                }),
                spread: constraints.map_or(Vec::new(), |c| {
                    c.spread
                        .iter()
                        .filter(|s| s.topology_key == HOSTNAME || !modelled.knows_spread(s))
                        .filter_map(|s| Some((selections.first + s.selection?, s.max_skew)))
                        .collect()
                }),
                member: selections.member(pod, index),
                ports: constraints.map_or(Vec::new(), |c| c.host_ports.clone()),
                bound_by,
                counted_by: Vec::new(),
                change: None,
                tier: None,
            });
            self.pods.push(PodOf {
                seen: pod,
                joined: own,
                id: fleet::PodId(id),
                leaving,
            });
        }
        let own: Vec<(usize, &seen::Pod)> = (first_pod..self.pods.len()).map(|i| (i, self.pods[i].seen)).collect();
        rules.count(&mut self.problem, &own);
        self.problem.selections.extend(selections.pods);
    }

    /// Nodes with one kind of GPU; a node whose cards are not all of one known kind stands for itself.
    fn group(
        &mut self,
        cluster: &seen::Cluster,
        joined: &fleet::Node,
        node: &seen::Node,
        resources: &Resources,
        groups: &mut BTreeMap<String, usize>,
    ) -> usize {
        let mixed = joined.slot_ids().any(|s| self.fleet.slot(s).model.is_some());
        let name = match joined.gpu {
            Some(gpu) if !mixed => gpu.name.clone(),
            _ => format!("{} of {}", joined.gpu_name, joined.name),
        };
        let all = &mut self.problem.groups;
        let group = *groups.entry(name.clone()).or_insert_with(|| {
            all.push(Group {
                name: format!("{} in {}", name, cluster.name),
                gpus: Vec::new(),
            });
            all.len() - 1
        });
        let devices = node.allocatable.devices.keys();
        for r in devices
            .filter(|d| kind(d) == ResourceKind::Device)
            .filter_map(|d| resources.index.get(d))
        {
            let gpus = &mut self.problem.groups[group].gpus;
            if !gpus.contains(r) {
                gpus.push(*r);
                gpus.sort_unstable();
            }
        }
        group
    }

    /// Why nothing is done with a node; `None`: nothing speaks against it.
    fn node_reason(&self, joined: &fleet::Node, seen: &seen::Node) -> Option<String> {
        let claimed = joined.slot_ids().any(|s| {
            let slot = self.fleet.slot(s);
            !slot.claims.is_empty() && slot.holders.is_empty()
        });
        let unmanaged = joined
            .slot_ids()
            .any(|s| self.fleet.slot(s).reason == fleet::state::Reason::Unmanaged);
        let reasons = [
            (joined.unread || seen.unread, "its object was not read as a whole"),
            (
                joined.holders_unread,
                "a pod on it was not read: who holds what here is unknown",
            ),
            (joined.unseen, "the cluster's nodes could not be read"),
            (joined.planned, "nobody has it yet"),
            (
                !seen.allocatable.unread.is_empty(),
                "an amount of what it has could not be read",
            ),
            (
                !joined.is_ready(),
                "it is not Ready: whether its pods still run is unknown",
            ),
            (joined.being_removed, "an autoscaler is removing it"),
            (joined.ignore.is_some(), "its owner opted out by annotation"),
            (claimed, "a resource claim without a pod holds a device of it"),
            (unmanaged, "a GPU of it works for nobody that the API server knows"),
            (is_control(joined), "it is a control-plane node"),
            (
                joined.kept.is_some(),
                "what is free on it is kept: by a reservation, for a job that will start there, or while it is being powered",
            ),
        ];
        reasons.iter().find(|r| r.0).map(|r| r.1.to_string())
    }

    /// States of a node's slots, in order.
    pub(crate) fn states(&self, node: fleet::NodeId) -> Vec<(fleet::SlotId, SlotState)> {
        let slots = self.fleet.node(node).slot_ids();
        slots.map(|s| (s, self.fleet.slot(s).state)).collect()
    }
}

fn is_control(node: &fleet::Node) -> bool {
    [
        "node-role.kubernetes.io/control-plane",
        "node-role.kubernetes.io/master",
    ]
    .iter()
    .any(|l| node.labels.contains_key(*l))
}

/// Why no plan is made for a cluster, and the way out.
fn refusal(
    info: &fleet::ClusterInfo,
    cluster: &seen::Cluster,
    fleet: &Fleet,
    index: usize,
) -> Option<(&'static str, &'static str)> {
    let grant = "grant what 'gpuwaste rbac' prints, and read it again";
    if cluster.metrics_only || info.metrics_only {
        return Some((
            "only metrics were read: who holds what is unknown",
            "give a kubeconfig, so that the API server is read",
        ));
    }
    if !info.nodes_known || cluster.nodes.is_none() {
        return Some(("its nodes could not be listed", grant));
    }
    if !info.pods_known || !cluster.pods_read.complete {
        return Some(("not all pods could be read: who else is on a node is unknown", grant));
    }
    let planned = |n: &fleet::Node| n.cluster == index && n.planned;
    if fleet.nodes.iter().any(planned) {
        return Some((
            "it is written in manifests and does not run",
            "plan for a fleet that runs",
        ));
    }
    if cluster.scheduler == seen::Scheduler::Slurm {
        return None;
    }
    let old = |p: &&seen::Pod| p.holds() && p.constraints.is_none() && !p.mirror;
    if cluster.pods.iter().any(|p| old(&p)) && !cluster.pods.iter().any(|p| p.constraints.is_some()) {
        return Some((
            "it was recorded by a gpuwaste that did not read where pods may run",
            "record it again ('gpuwaste collect')",
        ));
    }
    None
}

/// The amounts that there are, by index.
pub(crate) struct Resources {
    names: Vec<String>,
    index: BTreeMap<String, usize>,
}

/// In front of all devices.
const PLAIN: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pods"];

impl Resources {
    fn of(snapshot: &Snapshot) -> Self {
        let mut devices: BTreeSet<&String> = BTreeSet::new();
        for cluster in &snapshot.clusters {
            devices.extend(
                cluster
                    .nodes
                    .iter()
                    .flatten()
                    .flat_map(|n| n.allocatable.devices.keys()),
            );
            let requested = cluster.pods.iter().flat_map(|p| &p.containers);
            devices.extend(requested.flat_map(|c| c.requests.devices.keys()));
        }
        let names: Vec<String> = PLAIN
            .iter()
            .map(|p| (*p).to_string())
            .chain(devices.into_iter().cloned())
            .collect();
        let index = names.iter().enumerate().map(|(i, n)| (n.clone(), i)).collect();
        Self { names, index }
    }

    /// Of a node: what it does not tell, it does not have. Of a pod: one slot for itself.
    fn amounts(&self, r: &seen::Resources, node: bool) -> Vec<u64> {
        let mut amounts = vec![0; self.names.len()];
        amounts[0] = r.cpu.map_or(0, |c| c.0);
        amounts[1] = r.memory.map_or(0, |m| m.0);
        amounts[2] = r.storage.map_or(0, |s| s.0);
        amounts[3] = if node { r.pods.unwrap_or(0) } else { 1 };
        for (name, count) in &r.devices {
            if let Some(i) = self.index.get(name) {
                amounts[*i] = *count;
            }
        }
        amounts
    }
}

/// A cluster's selections, as indices of the problem's pods.
struct Selections {
    /// Index of the cluster's first one in the problem.
    first: usize,
    of_pod: BTreeMap<String, Vec<usize>>,
    pods: Vec<BTreeSet<usize>>,
}

impl Selections {
    fn of(cluster: &seen::Cluster, first: usize) -> Self {
        // Those that only budgets refer to are not asked here.
        let used: BTreeSet<usize> = cluster
            .pods
            .iter()
            .filter_map(|p| p.constraints.as_deref())
            .flat_map(|c| {
                c.anti_affinity
                    .iter()
                    .map(|t| t.selection)
                    .chain(c.spread.iter().map(|s| s.selection))
            })
            .flatten()
            .collect();
        let mut of_pod: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, selection) in cluster.selections.iter().enumerate().filter(|(i, _)| used.contains(i)) {
            for pod in &selection.pods {
                of_pod.entry(pod.clone()).or_default().push(i);
            }
        }
        Self {
            first,
            of_pod,
            pods: vec![BTreeSet::new(); cluster.selections.len()],
        }
    }

    fn terms(&self, terms: impl Iterator<Item = Option<usize>>) -> Vec<usize> {
        let mut all: Vec<usize> = terms.flatten().map(|s| self.first + s).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn member(&mut self, pod: &seen::Pod, index: usize) -> Vec<usize> {
        let own = self.of_pod.get(&format!("{}/{}", pod.namespace, pod.name));
        for s in own.into_iter().flatten() {
            if let Some(pods) = self.pods.get_mut(*s) {
                pods.insert(index);
            }
        }
        own.map_or(Vec::new(), |all| all.iter().map(|s| self.first + s).collect())
    }
}
