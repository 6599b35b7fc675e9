//! How a pod can leave its node, or why it does not.

use super::Options;
use super::rules::{HOSTNAME, Modelled};
use crate::judge::fleet::{self, Fleet, StuckReason, WorkloadClass};
use crate::model::How;
use crate::snapshot::cluster::{self as seen, OwnerRef, PodPhase, UnreadKind};
use crate::snapshot::constraints::PodTerm;
use std::collections::{BTreeMap, BTreeSet};

/// Whoever admits it is Kueue (<https://kueue.sigs.k8s.io/docs/tasks/run/deployment/>).
const QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// How it leaves; a reason where it stays, and whether somebody who knows it could move it all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    WithNode,
    Raise { deployment: String, replicas: u64 },
    Evict { owner: OwnerRef, ready: u64 },
    Person(Tie, String),
    Stays(String),
}

/// What the plan does not model or does not decide: it moves nothing that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tie {
    Claims,
    Domains,
    Beside,
    Group,
    Queue,
    Volume,
    Scheduler,
    Other,
    Shared,
    Work,
    Owner,
    Alone,
    Budget,
    Wish,
    Placeholder,
}

impl Tie {
    /// "N pods …"
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Claims => "hold devices by resource claims (DRA)",
            Self::Domains => "are kept apart or spread over zones or other domains, of which not all is known",
            Self::Beside => "must run beside other pods",
            Self::Group => "are of a group that starts and ends together (a gang)",
            Self::Queue => "are admitted by a queue (Kueue), whose quota is not known",
            Self::Volume => "have a volume that is in one place",
            Self::Scheduler => "are placed by another scheduler",
            Self::Other => "ask for something else that decides where they run",
            Self::Shared => "are on GPUs that are shared",
            Self::Work => "are jobs or notebooks",
            Self::Owner => "have no owner that is known to make them anew",
            Self::Alone => "are the only Ready pod of what cannot be raised",
            Self::Budget => "have a disruption budget that does not allow it now",
            Self::Wish => "are not to be disrupted, as their owners ask",
            Self::Placeholder => "keep capacity on purpose",
        }
    }
}

impl Leaving {
    pub(super) fn how(&self, persons: bool) -> How {
        match self {
            Self::WithNode => How::WithNode,
            Self::Raise { .. } => How::Raise,
            Self::Evict { .. } => How::Evict,
            Self::Person(..) if persons => How::Evict,
            Self::Person(..) | Self::Stays(_) => How::Stays,
        }
    }

    /// Pods on GPUs that are handed out in shares stay: what else is on the card that they would get is not known.
    pub(super) fn or_shared(self, node: &fleet::Node) -> Self {
        let shared = node.shares_devices() || node.custom_sharing;
        match self {
            Self::Raise { .. } | Self::Evict { .. } if shared => Self::Person(
                Tie::Shared,
                "its GPU is shared: with whom it would share another is not planned".into(),
            ),
            other => other,
        }
    }
}

/// What stands above a cluster's pods, by name.
pub(super) struct Owners<'a> {
    cluster: &'a seen::Cluster,
    modelled: &'a Modelled<'a>,
    controllers: BTreeMap<(&'a str, &'a str, &'a str), &'a seen::Controller>,
    /// Ready pods and all pods of one owner and revision.
    siblings: BTreeMap<(&'a str, OwnerRef), Siblings<'a>>,
    /// Pods that somebody keeps apart from over more than a node.
    avoided: BTreeSet<&'a str>,
    /// Budgets that select a pod.
    budgets: BTreeMap<&'a str, Vec<&'a seen::DisruptionBudget>>,
    /// Namespaces with a budget of which it is not known whom it selects.
    unresolved: BTreeSet<&'a str>,
    /// Namespaces of which budgets or autoscalers could not be read as a whole; `None` in it: all.
    unread: BTreeSet<Option<&'a str>>,
}

#[derive(Default)]
struct Siblings<'a> {
    all: u64,
    ready: u64,
    revisions: BTreeSet<&'a str>,
}

impl<'a> Owners<'a> {
    pub(super) fn of(cluster: &'a seen::Cluster, modelled: &'a Modelled<'a>) -> Self {
        let mut owners = Self {
            cluster,
            modelled,
            controllers: cluster
                .controllers
                .iter()
                .map(|c| ((c.namespace.as_str(), c.kind.as_str(), c.name.as_str()), c))
                .collect(),
            siblings: BTreeMap::new(),
            avoided: BTreeSet::new(),
            budgets: BTreeMap::new(),
            unresolved: BTreeSet::new(),
            unread: cluster
                .unread
                .iter()
                .filter(|u| matches!(u.what, UnreadKind::Budgets | UnreadKind::Autoscalers))
                .map(|u| u.namespace.as_deref())
                .collect(),
        };
        for pod in &cluster.pods {
            let finished = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
            if let Some(owner) = pod.owner_above().filter(|_| !finished) {
                let s = owners.siblings.entry((&pod.namespace, owner)).or_default();
                s.all += 1;
                s.ready += u64::from(is_ready(pod));
                s.revisions
                    .extend(pod.labels.get("pod-template-hash").map(String::as_str));
            }
            let far = pod
                .constraints
                .iter()
                .flat_map(|c| &c.anti_affinity)
                .filter(|t| t.topology_key != HOSTNAME && !modelled.knows(&t.topology_key, t.selection));
            let selected = far
                .filter_map(|t| cluster.selections.get(t.selection?))
                .flat_map(|s| &s.pods);
            owners.avoided.extend(selected.map(String::as_str));
        }
        for budget in cluster.disruption_budgets.iter().flatten() {
            match budget.selection.and_then(|s| cluster.selections.get(s)) {
                Some(selection) => {
                    for pod in &selection.pods {
                        owners.budgets.entry(pod).or_default().push(budget);
                    }
                }
                None => drop(owners.unresolved.insert(&budget.namespace)),
            }
        }
        owners
    }

    pub(super) fn leaving(&self, pod: &seen::Pod, own: &fleet::Pod, fleet: &Fleet, options: &Options) -> Leaving {
        if own.node_bound {
            return Leaving::WithNode;
        }
        if let Some(reason) = stays(pod, own, fleet, options) {
            return Leaving::Stays(reason);
        }
        if let Some((tie, reason)) = self.ties(pod, own, fleet) {
            return Leaving::Person(tie, reason);
        }
        self.by_owner(pod)
    }

    /// What ties it to where it is.
    fn ties(&self, pod: &seen::Pod, own: &fleet::Pod, fleet: &Fleet) -> Option<(Tie, String)> {
        let constraints = pod.constraints.as_deref()?;
        let say = |tie: Tie, text: &str| Some((tie, text.to_string()));
        if let Some(scheduler) = &constraints.scheduler {
            let why = format!("it is placed by the scheduler '{scheduler}', whose rules are not known");
            return Some((Tie::Scheduler, why));
        }
        if constraints.do_not_disrupt {
            return say(Tie::Wish, "its owner asks by annotation that it is not disrupted");
        }
        if !pod.resource_claims.is_empty() || own.claims {
            return say(Tie::Claims, "it holds devices by resource claims");
        }
        if let Some(volume) = constraints.volumes.first() {
            return Some((Tie::Volume, format!("it has a volume that is in one place ({volume})")));
        }
        if let Some(other) = constraints.other.first() {
            let why = format!("its specification has '{other}', which the plan does not model");
            return Some((Tie::Other, why));
        }
        if !constraints.affinity.is_empty() {
            return say(Tie::Beside, "it must run beside other pods");
        }
        let name = format!("{}/{}", pod.namespace, pod.name);
        let knows = |t: &PodTerm| self.modelled.knows(&t.topology_key, t.selection);
        if !constraints.anti_affinity.iter().all(knows)
            || !constraints.spread.iter().all(|s| self.modelled.knows_spread(s))
            || self.avoided.contains(name.as_str())
        {
            return say(
                Tie::Domains,
                "it is kept apart or spread over zones or other domains, and whom that counts, or over which domains, is not known",
            );
        }
        if own.placeholder || own.reservation {
            return say(Tie::Placeholder, "it keeps capacity on purpose");
        }
        if pod.replica_group().is_some() {
            return say(Tie::Group, "it is one of a group that starts and ends together");
        }
        if pod.labels.contains_key(QUEUE) {
            return say(
                Tie::Queue,
                "a queue (Kueue) admits its pods: whether its quota has room for one more is not known",
            );
        }
        match own.workload.map(|w| fleet.workload(w).class) {
            Some(WorkloadClass::Job) => say(
                Tie::Work,
                "it is a job: what it has computed since its last checkpoint would be lost",
            ),
            Some(WorkloadClass::Notebook) => say(Tie::Work, "it is a notebook: what is in its memory would be lost"),
            _ => None,
        }
    }

    fn by_owner(&self, pod: &seen::Pod) -> Leaving {
        let Some(owner) = pod.owner_above() else {
            return Leaving::Person(Tie::Owner, "nothing would make it anew: it has no owner".into());
        };
        let key = (pod.namespace.as_str(), owner.kind.as_str(), owner.name.as_str());
        let none = Siblings::default();
        let siblings = self.siblings.get(&(&pod.namespace, owner.clone())).unwrap_or(&none);
        let controller = self.controllers.get(&key);
        match owner.kind.as_str() {
            "Deployment" if owner.group == "apps" => {
                let scaled = self.is_scaled(&pod.namespace, &owner);
                if siblings.revisions.len() > 1 {
                    return Leaving::Stays("its Deployment is being rolled out".into());
                }
                let own = controller.and_then(|c| c.replicas.filter(|_| c.owner.is_none()));
                match own {
                    // One more of it is one that its owner asks for: nobody scales it back.
                    Some(replicas)
                        if scaled == Some(false) && replicas == siblings.all && siblings.ready == replicas =>
                    {
                        Leaving::Raise {
                            deployment: owner.name,
                            replicas,
                        }
                    }
                    _ => self.evicted(pod, owner, siblings),
                }
            }
            "StatefulSet" | "ReplicaSet" if owner.group == "apps" => self.evicted(pod, owner, siblings),
            "Rollout" => self.evicted(pod, owner, siblings),
            kind => Leaving::Person(
                Tie::Owner,
                format!("how {kind} {} makes its pods anew is not known", owner.name),
            ),
        }
    }

    /// An autoscaler decides its number of replicas; `None`: not known.
    fn is_scaled(&self, namespace: &str, owner: &OwnerRef) -> Option<bool> {
        if self.is_unread(namespace) {
            return None;
        }
        let target = |a: &&seen::Autoscaler| {
            a.namespace == namespace && a.target.kind == owner.kind && a.target.name == owner.name
        };
        Some(self.cluster.autoscalers.as_ref()?.iter().any(|a| target(&a)))
    }

    fn is_unread(&self, namespace: &str) -> bool {
        self.unread.contains(&None) || self.unread.contains(&Some(namespace))
    }

    fn evicted(&self, pod: &seen::Pod, owner: OwnerRef, siblings: &Siblings<'_>) -> Leaving {
        if self.cluster.disruption_budgets.is_none() || self.is_unread(&pod.namespace) {
            return Leaving::Stays("disruption budgets could not be read".into());
        }
        if siblings.ready < 2 {
            let why = format!(
                "it is the only Ready pod of {} {}: nothing serves while it moves",
                owner.kind, owner.name
            );
            return Leaving::Person(Tie::Alone, why);
        }
        if siblings.ready < siblings.all {
            return Leaving::Stays(format!("not all pods of {} {} are Ready", owner.kind, owner.name));
        }
        if self.unresolved.contains(pod.namespace.as_str()) {
            return Leaving::Person(
                Tie::Budget,
                "whom a disruption budget of its namespace selects is not known".into(),
            );
        }
        let name = format!("{}/{}", pod.namespace, pod.name);
        let allows = |b: &&seen::DisruptionBudget| b.disruptions_allowed.is_some_and(|n| n > 0);
        match self.budgets.get(name.as_str()).map_or(&[][..], Vec::as_slice) {
            [] => {}
            [one] if allows(one) => {}
            [one] => {
                let why = format!("its disruption budget {} allows no eviction now", one.name);
                return Leaving::Person(Tie::Budget, why);
            }
            _ => {
                return Leaving::Person(
                    Tie::Budget,
                    "several disruption budgets select it: the API server refuses to evict it".into(),
                );
            }
        }
        Leaving::Evict {
            owner,
            ready: siblings.ready,
        }
    }
}

fn is_ready(pod: &seen::Pod) -> bool {
    pod.node.is_some()
        && pod.deleted_at.is_none()
        && pod.phase == PodPhase::Running
        && pod.ready.as_ref().is_some_and(|r| r.status == Some(true))
}

/// Why nobody should move it now.
fn stays(pod: &seen::Pod, own: &fleet::Pod, fleet: &Fleet, options: &Options) -> Option<String> {
    let workload = own.workload.map(|w| fleet.workload(w));
    let opted_out = own.ignore.is_some() || workload.is_some_and(|w| w.ignore.is_some());
    let asked = options.concerns(&pod.namespace, workload.map(|w| w.name.as_str()));
    let stuck = own.stuck.as_ref().map(|s| s.reason);
    let reasons = [
        (
            fleet.clusters[own.cluster].scheduler == seen::Scheduler::Slurm,
            "Slurm's jobs are not moved",
        ),
        (
            pod.constraints.is_none(),
            "where else it may run is not in this snapshot: record it again",
        ),
        (pod.unread || own.unread, "it was not read as a whole"),
        (
            own.unread_devices || own.unresolved_claims || pod.containers.iter().any(|c| !c.requests.unread.is_empty()),
            "what it asks for could not be read",
        ),
        (
            pod.deleted_at.is_some() || stuck == Some(StuckReason::Terminating),
            "it is being deleted",
        ),
        (!is_ready(pod), "it is not Ready"),
        (opted_out, "its owner opted out by annotation"),
        (
            workload.is_some_and(|w| w.owner_unread),
            "its owner could not be read: whether it opted out is unknown",
        ),
        (!asked, "it is not among --only"),
    ];
    reasons.iter().find(|r| r.0).map(|r| r.1.to_string())
}
