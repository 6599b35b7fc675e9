//! A solution as steps: what is done, by which commands, at which risk, with which way back, and the bill after it.

mod words;

use crate::adapter::Input;
use crate::adapter::leaving::Leaving;
use crate::adapter::places::may_be_scheduled;
use crate::document::{Step, StepKind};
use crate::model::{Action, Solution};
use crate::snapshot::cluster::Scheduler;
use crate::state::{As, State};
use crate::units::UsdPerHour;
use std::collections::{BTreeMap, BTreeSet};
use words::{Kubectl, plural};

/// Nodes that are cordoned for the time of one move, so that the scheduler takes the one that the plan counts on (ours:
/// beyond, it is left to the scheduler, and the plan says so).
const GUARDS: usize = 16;

pub(crate) struct Steps<'i, 'a> {
    input: &'i Input<'a>,
    state: State<'i>,
    /// Nodes that take no more pods from the first step on.
    cordoned: BTreeSet<usize>,
    /// Replicas that owners ask for now: ("Deployment", namespace, name) of a cluster.
    replicas: BTreeMap<(&'a str, String), u64>,
    bill: Option<UsdPerHour>,
    done: Vec<Step>,
}

/// The steps, and who is where after them.
pub(crate) fn steps<'i>(
    input: &'i Input<'_>,
    solution: &Solution,
    spend: Option<UsdPerHour>,
) -> (Vec<Step>, State<'i>) {
    let mut steps = Steps {
        input,
        state: State::new(&input.problem),
        cordoned: solution.returned.union(&solution.kept_for_queue).copied().collect(),
        replicas: BTreeMap::new(),
        bill: spend,
        done: Vec::new(),
    };
    steps.cordon(solution);
    for action in &solution.actions {
        match action {
            Action::Move { pod, from, to } => steps.moved(*pod, *from, *to),
            Action::End { change, pods } => steps.ended(*change, pods),
            Action::Tier { tier, to } => steps.tiered(*tier, to),
            Action::Return { node } => steps.returned(*node),
            Action::Open { node } => steps.opened(*node),
        }
    }
    for (i, step) in steps.done.iter_mut().enumerate() {
        step.number = i as u64 + 1;
    }
    (steps.done, steps.state)
}

impl Steps<'_, '_> {
    fn name(&self, node: usize) -> &str {
        &self.input.nodes[node].joined.name
    }

    fn push(&mut self, step: Step) {
        self.done.push(Step {
            bill_after_usd_per_hour: self.bill,
            ..step
        });
    }

    /// So that it takes nobody more, and the way back.
    fn closed(&self, node: usize, closed: bool) -> String {
        let of = &self.input.nodes[node];
        let name = of.joined.name.as_str();
        match (of.scheduler, closed) {
            (Scheduler::Slurm, true) => words::scontrol(name, &["State=DRAIN", "Reason=gpuwaste-plan"]),
            (Scheduler::Slurm, false) => words::scontrol(name, &["State=RESUME"]),
            (Scheduler::Kubernetes, closed) => {
                Kubectl(of.cluster).of(&[if closed { "cordon" } else { "uncordon" }, name])
            }
        }
    }

    /// One step a cluster: nobody is put onto a node that goes later.
    fn cordon(&mut self, solution: &Solution) {
        let mut clusters: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for &node in &self.cordoned {
            if !self.input.nodes[node].joined.unschedulable {
                clusters.entry(self.input.nodes[node].cluster).or_default().push(node);
            }
        }
        if solution.actions.is_empty() {
            return;
        }
        for (cluster, nodes) in clusters {
            let slurm = nodes.iter().any(|n| self.input.nodes[*n].scheduler == Scheduler::Slurm);
            self.push(Step {
                kind: StepKind::Cordon,
                cluster: cluster.into(),
                what: format!(
                    "{} {} that {} empty at the end",
                    if slurm { "Drain" } else { "Cordon" },
                    plural(nodes.len(), "node"),
                    if nodes.len() == 1 { "is" } else { "are" }
                ),
                commands: nodes.iter().map(|n| self.closed(*n, true)).collect(),
                undo: nodes.iter().map(|n| self.closed(*n, false)).collect(),
                risk: if slurm {
                    "no job starts on them until they are resumed".into()
                } else {
                    "new pods find no room on them until they are uncordoned".into()
                },
                nodes: nodes.iter().map(|n| self.name(*n).to_string()).collect(),
                ..Step::default()
            });
        }
    }

    /// Other nodes that the scheduler could choose for the pod now.
    fn others(&self, pod: usize, to: usize) -> Vec<usize> {
        let seen = self.input.pods[pod].seen;
        let cluster = self.input.nodes[to].cluster;
        (0..self.input.nodes.len())
            .filter(|&n| {
                n != to
                    && self.input.nodes[n].cluster == cluster
                    && !self.state.gone[n]
                    && !self.cordoned.contains(&n)
                    && self.state.place[pod] != Some(n)
                    && may_be_scheduled(seen.placement.as_ref(), self.input.nodes[n].joined)
                    && self.state.has_room(pod, n, As::Now)
                    && self.state.gets_along(pod, n)
            })
            .collect()
    }

    fn moved(&mut self, pod: usize, from: usize, to: usize) {
        let input = self.input;
        let of = &input.pods[pod];
        let kubectl = Kubectl(input.nodes[from].cluster);
        let (namespace, name) = (of.seen.namespace.as_str(), of.seen.name.as_str());
        let others = self.others(pod, to);
        let guards: Vec<&str> = if others.len() <= GUARDS {
            others.iter().map(|n| input.nodes[*n].joined.name.as_str()).collect()
        } else {
            Vec::new()
        };
        let mut commands: Vec<String> = guards.iter().map(|n| kubectl.of(&["cordon", n])).collect();
        let mut undo: Vec<String> = guards.iter().map(|n| kubectl.of(&["uncordon", n])).collect();
        let (workload, how, mut risk);
        match &of.leaving {
            Leaving::Raise { deployment, replicas } => {
                let key = (kubectl.0, format!("{namespace}/{deployment}"));
                let now = *self.replicas.entry(key).or_insert(*replicas);
                commands.extend(kubectl.raise(namespace, deployment, name, now));
                undo.insert(0, kubectl.scale(namespace, "deployment", deployment, now + 1, now));
                undo.insert(
                    0,
                    kubectl.of(&["-n", namespace, "annotate", "pod", name, words::COST_OFF]),
                );
                workload = format!("Deployment {namespace}/{deployment}");
                how = "a second one is raised and Ready first";
                risk = "for a while one replica more runs; what the old one holds in memory (KV cache, requests in flight) ends with it".to_string();
            }
            Leaving::Evict { owner, ready } => {
                commands.extend(kubectl.evict(namespace, name, &owner.kind, &owner.name, *ready));
                workload = format!("{} {namespace}/{}", owner.kind, owner.name);
                how = "it is evicted, as its disruption budget allows, and made anew";
                risk = format!(
                    "{} of {ready} replicas serve until it is Ready again",
                    ready.saturating_sub(1)
                );
            }
            Leaving::WithNode | Leaving::Person(..) | Leaving::Stays(_) => return,
        }
        commands.extend(guards.iter().map(|n| kubectl.of(&["uncordon", n])));
        if others.len() > GUARDS {
            risk.push_str("; the scheduler may choose another node: if the next move finds no room, plan again");
        }
        let gpus = input.problem.pods[pod].milli_gpus as f64 / 1000.0;
        self.push(Step {
            kind: StepKind::Move,
            cluster: kubectl.0.into(),
            what: format!(
                "Move {namespace}/{name} ({}) from {} to {}: {how}",
                words::gpus(gpus),
                self.name(from),
                self.name(to)
            ),
            pod: Some(format!("{namespace}/{name}")),
            workload: Some(workload),
            from: Some(self.name(from).into()),
            to: Some(self.name(to).into()),
            gpus,
            commands,
            undo,
            risk,
            ..Step::default()
        });
        self.state.move_to(pod, to);
    }

    /// All replicas go to the smaller tier, the new ones first.
    fn tiered(&mut self, tier: usize, to: &[usize]) {
        let input = self.input;
        let smaller = &input.tiers[tier];
        let workload = input.fleet.workload(smaller.workload);
        let cluster = input.fleet.clusters[workload.cluster].name.as_str();
        let kubectl = Kubectl(cluster);
        let (namespace, name) = (workload.namespace.as_str(), workload.name.as_str());
        let targets: BTreeSet<usize> = to.iter().copied().collect();
        let pods = &input.problem.tiers[tier].pods;
        let could = |n: &usize| {
            let others = pods.first().is_some_and(|p| self.state.has_room(*p, *n, As::Tier));
            !targets.contains(n)
                && input.nodes[*n].cluster == cluster
                && !self.state.gone[*n]
                && !self.cordoned.contains(n)
                && may_be_scheduled(Some(&smaller.placement), input.nodes[*n].joined)
                && others
        };
        let others: Vec<usize> = (0..input.nodes.len()).filter(could).collect();
        let guards: Vec<&str> = if others.len() <= GUARDS {
            others.iter().map(|n| input.nodes[*n].joined.name.as_str()).collect()
        } else {
            Vec::new()
        };
        let names: Vec<&str> = pods.iter().map(|p| input.pods[*p].seen.name.as_str()).collect();
        let mut commands: Vec<String> = guards.iter().map(|n| kubectl.of(&["cordon", n])).collect();
        commands.extend(kubectl.tier(namespace, name, smaller.replicas, &smaller.patch, &names));
        commands.extend(guards.iter().map(|n| kubectl.of(&["uncordon", n])));
        let mut undo = vec![kubectl.of(&["-n", namespace, "rollout", "undo", "deployment", name])];
        undo.extend(guards.iter().map(|n| kubectl.of(&["uncordon", n])));
        let mut risk = match &smaller.doubt {
            Some(why) => format!(
                "that the smaller tier carries it is estimated, not measured ({why}): try one replica under load first"
            ),
            None => "a load above what was seen meets a smaller tier".into(),
        };
        risk.push_str(&match smaller.away {
            0 => "; there are never fewer Ready replicas than now".to_string(),
            n => format!(
                "; by its own rollout rule up to {n} of {} replicas are away at a time",
                smaller.replicas
            ),
        });
        risk.push_str(if smaller.helm {
            "; its Helm chart must say the same, or its next upgrade undoes this"
        } else {
            "; the manifest that it was made of must say the same, or the next apply undoes this"
        });
        if others.len() > GUARDS {
            risk.push_str("; the scheduler may choose another node: if the next move finds no room, plan again");
        }
        let gpus: f64 = pods
            .iter()
            .map(|p| input.problem.pods[*p].milli_gpus as f64 / 1000.0)
            .sum();
        let nodes: Vec<String> = targets.iter().map(|n| self.name(*n).to_string()).collect();
        self.push(Step {
            kind: StepKind::Tier,
            cluster: cluster.into(),
            what: format!(
                "Move Deployment {namespace}/{name} ({}, {}) to a smaller tier, on {}: {}",
                plural(pods.len(), "replica"),
                words::gpus(gpus),
                nodes.join(", "),
                smaller.title
            ),
            workload: Some(format!("Deployment {namespace}/{name}")),
            nodes,
            gpus,
            commands,
            undo,
            risk,
            findings: vec![smaller.finding.clone()],
            ..Step::default()
        });
        self.state.tier(tier, to, true);
    }

    fn ended(&mut self, change: usize, pods: &[usize]) {
        let input = self.input;
        let ending = &input.changes[change];
        let workload = input.fleet.workload(ending.workload);
        let cluster = input.fleet.clusters[workload.cluster].name.as_str();
        let kubectl = Kubectl(cluster);
        let (namespace, name) = (workload.namespace.as_str(), workload.name.as_str());
        let kind = workload.kind.to_lowercase();
        let key = (cluster, format!("{namespace}/{name}"));
        let now = *self.replicas.entry(key.clone()).or_insert(ending.replicas);
        let after = now.saturating_sub(pods.len() as u64);
        self.replicas.insert(key, after);
        let names: Vec<&str> = pods.iter().map(|p| input.pods[*p].seen.name.as_str()).collect();
        let mut commands = Vec::new();
        if after > 0 {
            commands.extend(
                names
                    .iter()
                    .map(|p| kubectl.of(&["-n", namespace, "annotate", "pod", p, words::COST_ON, "--overwrite"])),
            );
        }
        commands.push(kubectl.scale(namespace, &kind, name, now, after));
        commands.extend(
            names
                .iter()
                .map(|p| kubectl.of(&["-n", namespace, "wait", "pod", p, "--for=delete", "--timeout=10m"])),
        );
        let gpus = pods
            .iter()
            .map(|p| input.problem.pods[*p].milli_gpus as f64 / 1000.0)
            .sum();
        self.push(Step {
            kind: StepKind::Change,
            cluster: cluster.into(),
            what: format!(
                "Scale {} {namespace}/{name} from {now} to {after}: {}",
                workload.kind, ending.title
            ),
            workload: Some(format!("{} {namespace}/{name}", workload.kind)),
            gpus,
            commands,
            undo: vec![kubectl.scale(namespace, &kind, name, after, now)],
            risk: if after == 0 {
                "nothing serves it any more: whoever needs it after all waits for it to start again".into()
            } else {
                "a load above what was seen meets fewer replicas".into()
            },
            findings: vec![ending.finding.clone()],
            ..Step::default()
        });
        for &pod in pods {
            self.state.take(pod);
            self.state.ended[pod] = true;
        }
    }

    fn returned(&mut self, node: usize) {
        let of = &self.input.nodes[node];
        let kubectl = Kubectl(of.cluster);
        let name = of.joined.name.as_str();
        let price = of.joined.price.usd_per_hour.unwrap_or_default();
        let karpenter = of.joined.labels.contains_key("karpenter.sh/nodepool");
        let slurm = of.scheduler == Scheduler::Slurm;
        let mut commands = vec![if slurm {
            words::no_job_on(name)
        } else {
            kubectl.of(&[
                "drain",
                name,
                "--ignore-daemonsets",
                "--delete-emptydir-data",
                "--timeout=10m",
            ])
        }];
        let then = if slurm {
            "then end its machine with what started it (where Slurm powers its nodes it does so by itself)".to_string()
        } else if karpenter {
            commands.push(kubectl.of(&["delete", "node", name, "--wait=false"]));
            "Karpenter ends its machine".to_string()
        } else if of.joined.pool.is_empty() {
            "then end its machine with its cloud's own tool".to_string()
        } else {
            format!(
                "then let its pool '{}' shrink by one, without a new one in its place (an autoscaler does so by itself)",
                of.joined.pool
            )
        };
        self.bill = self.bill.map(|b| b - price);
        self.push(Step {
            kind: StepKind::Return,
            cluster: of.cluster.into(),
            what: format!("Return {name}: {then}; ${:.2}/h are no longer paid", price.usd()),
            nodes: vec![name.into()],
            commands,
            undo: vec![self.closed(node, false)],
            risk: "only what belongs to the node is left on it; once its machine has ended the way back is a new one"
                .into(),
            ..Step::default()
        });
        self.state.gone[node] = true;
        for pod in self.state.on[node].clone() {
            self.state.take(pod);
        }
    }

    fn opened(&mut self, node: usize) {
        self.cordoned.remove(&node);
        let of = &self.input.nodes[node];
        let kubectl = Kubectl(of.cluster);
        let name = of.joined.name.as_str();
        self.push(Step {
            kind: StepKind::Open,
            cluster: of.cluster.into(),
            what: format!("Uncordon {name}: pods that wait for GPUs have room there now"),
            nodes: vec![name.into()],
            commands: vec![kubectl.of(&["uncordon", name])],
            undo: vec![kubectl.of(&["cordon", name])],
            risk: "none".into(),
            ..Step::default()
        });
    }
}
