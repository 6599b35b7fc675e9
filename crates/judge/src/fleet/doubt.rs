//! What a failed read could have told: GPUs of which more might be found than is. They are not covered, and a gate that
//! passes only without them gives no verdict.

use super::{ClusterInfo, Fleet, Slot, SlotId, Workload, WorkloadClass, WorkloadId};
use crate::snapshot::cluster::{Cluster, Unread, UnreadKind};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Marks the slots in doubt, and names what may hold GPUs that nobody counted.
pub(super) fn attach(fleet: &mut Fleet, clusters: &[Cow<'_, Cluster>]) {
    // What failed, and what was refused or cannot be timed.
    let mut lost = Doubts::default();
    let mut refused = Doubts::default();
    for (index, cluster) in clusters.iter().enumerate() {
        lost.slots.extend(of_cluster(fleet, index, cluster));
        for (doubts, is_refused) in [(&mut lost, false), (&mut refused, true)] {
            let unread = || cluster.unread.iter().filter(|u| u.refused == is_refused);
            doubts.slots.extend(unread().flat_map(|u| of_unread(fleet, index, u)));
            let theirs = fleet.workloads.iter().enumerate().filter(|(_, w)| w.cluster == index);
            let about = theirs.filter(|(_, w)| {
                // What may be a server may be sized, idle, or fail.
                (!is_refused && w.owner_unread)
                    || (is_refused && w.command_unread)
                    || unread().any(|u| is_about(fleet, u, w))
            });
            doubts.workloads.extend(about.map(|(i, _)| WorkloadId(i)));
        }
        let info = &fleet.clusters[index];
        let all = info.clock_in_doubt || info.store_clock_in_doubt;
        refused.slots.extend(in_cluster(fleet, index, |s| {
            let by_pod = || s.holders.iter().any(|p| fleet.pod(*p).clock_in_doubt);
            all || fleet.node(s.node).clock_in_doubt || by_pod()
        }));
        let uncounted = uncounted(fleet, index, cluster);
        fleet.uncounted.extend(uncounted);
    }
    for slot in with_their_workloads(fleet, lost) {
        fleet.slots[slot.0].doubted = true;
    }
    for slot in with_their_workloads(fleet, refused) {
        fleet.slots[slot.0].unsettled = true;
    }
}

/// Of which slots, and of which workloads more might be told.
#[derive(Default)]
struct Doubts {
    slots: BTreeSet<SlotId>,
    workloads: BTreeSet<WorkloadId>,
}

/// Reads whose loss may hide GPUs altogether.
fn uncounted(fleet: &Fleet, index: usize, cluster: &Cluster) -> Vec<String> {
    let of_amounts = cluster.unread.iter().filter_map(|u| {
        let name = u.name.as_deref().unwrap_or("some object");
        match u.what {
            UnreadKind::Amount => Some(format!("how many GPUs {name} asks for")),
            UnreadKind::Node => Some("nodes that are not what the API serves".to_string()),
            // Under the rights of the whole cluster the inventory itself tells.
            UnreadKind::Devices if !fleet.clusters[index].namespaces.is_empty() => {
                Some("GPUs of DRA drivers, and who holds them".into())
            }
            _ => None,
        }
    });
    // Of a namespace that was named, not even the GPUs are known that its pods hold.
    let no_nodes = !fleet.clusters[index].nodes_known;
    let of_namespaces = cluster
        .pods_read
        .refused
        .iter()
        .map(|n| format!("pods in namespace {n}"));
    // Whoever may read some namespaces only is judged by what stands there.
    let whole = fleet.clusters[index].namespaces.is_empty();
    let no_slices = whole && cluster.dra.as_ref().is_some_and(|d| d.pools.is_none());
    of_amounts
        .chain(of_namespaces)
        .chain(no_nodes.then(|| "nodes".to_string()))
        .chain(no_slices.then(|| "GPUs that DRA drivers publish".to_string()))
        .map(|what| format!("{what} ({})", cluster.name))
        .collect()
}

fn in_cluster(fleet: &Fleet, index: usize, is: impl Fn(&Slot) -> bool) -> Vec<SlotId> {
    let here = |s: &Slot| fleet.node(s.node).cluster == index;
    let slots = fleet.slots.iter().enumerate().filter(|(_, s)| here(s) && is(s));
    slots.map(|(i, _)| SlotId(i)).collect()
}

/// Slots, of themselves, that an unread thing would have told of.
fn of_unread(fleet: &Fleet, index: usize, unread: &Unread) -> Vec<SlotId> {
    let name = unread.name.as_deref();
    match unread.what {
        // Whom nobody holds is free by the API server's word.
        UnreadKind::Exporter => in_cluster(fleet, index, |s| {
            let node = fleet.node(s.node);
            (s.is_allocated() || node.exporter_lost) && name.is_none_or(|n| node.name == n)
        }),
        UnreadKind::Selector | UnreadKind::Pods => in_cluster(fleet, index, |_| true),
        _ => Vec::new(),
    }
}

fn of_cluster(fleet: &Fleet, index: usize, cluster: &Cluster) -> BTreeSet<SlotId> {
    let info = &fleet.clusters[index];
    let read = &cluster.pods_read;
    let which = |is: &dyn Fn(&Slot) -> bool| in_cluster(fleet, index, is);
    let mut doubted = BTreeSet::new();
    if hides_pods(info, &read.refused) {
        doubted.extend(which(&|_| true));
    }
    doubted.extend(which(&|s| {
        let node = fleet.node(s.node);
        node.unread || node.holders_unread || s.holders.iter().any(|p| fleet.pod(*p).unread)
    }));
    if let Some(dra) = &cluster.dra
        && info.namespaces.is_empty()
        && (dra.claims.is_none() || !dra.claims_complete || dra.classes.is_none() || dra.pools.is_none())
    {
        doubted.extend(which(&|s| s.dra || dra.pools.is_none() && s.resource.is_none()));
    }
    doubted
}

/// Pods that were to be read, and were not.
fn hides_pods(info: &ClusterInfo, refused: &[String]) -> bool {
    !info.pods_known && (info.namespaces.is_empty() || !refused.is_empty())
}

/// Whether the read would have told of the workload.
fn is_about(fleet: &Fleet, unread: &Unread, workload: &Workload) -> bool {
    if unread.namespace.as_ref().is_some_and(|n| *n != workload.namespace) {
        return false;
    }
    match unread.what {
        UnreadKind::Autoscalers | UnreadKind::Budgets => {
            let several = workload.replicas.len() > 1 || workload.desired_replicas.is_some_and(|n| n > 1);
            several || workload.class == WorkloadClass::Server && unread.what == UnreadKind::Autoscalers
        }
        UnreadKind::ConfigMap | UnreadKind::Engine => {
            let named = |p: &super::PodId| unread.name.as_ref().is_none_or(|n| fleet.pod(*p).name == *n);
            workload.pods.iter().any(named)
        }
        UnreadKind::Described
        | UnreadKind::Groups
        | UnreadKind::Usage
        | UnreadKind::History
        | UnreadKind::HistoryPart => true,
        // By `owner_unread`, by their nodes, or by nobody's.
        UnreadKind::Owner
        | UnreadKind::Exporter
        | UnreadKind::Selector
        | UnreadKind::Amount
        | UnreadKind::Node
        | UnreadKind::Pods
        | UnreadKind::Devices => false,
    }
}

/// A workload is judged as a whole, and so are those that serve one model together.
fn with_their_workloads(fleet: &Fleet, of: Doubts) -> BTreeSet<SlotId> {
    let Doubts { slots, mut workloads } = of;
    let of_slot = |s: &SlotId| {
        let holders = fleet.slot(*s).holders.iter();
        holders.filter_map(|p| fleet.pod(*p).workload).collect::<Vec<_>>()
    };
    workloads.extend(slots.iter().flat_map(of_slot));
    let groups: BTreeSet<(usize, &str, &str)> = workloads
        .iter()
        .map(|w| fleet.workload(*w))
        .filter_map(|w| Some((w.cluster, w.namespace.as_str(), w.group.as_deref()?)))
        .collect();
    let in_group = |w: &Workload| {
        let group = w.group.as_deref();
        group.is_some_and(|g| groups.contains(&(w.cluster, w.namespace.as_str(), g)))
    };
    let mut all = slots;
    for (index, slot) in fleet.slots.iter().enumerate() {
        let mut theirs = slot.holders.iter().filter_map(|p| fleet.pod(*p).workload);
        if theirs.any(|w| workloads.contains(&w) || in_group(fleet.workload(w))) {
            all.insert(SlotId(index));
        }
    }
    // Where the parts of a node differ, or are shared, which of them a pod has may be a guess: all of them are in doubt.
    let guesses = |node: super::NodeId| {
        let mut parts = fleet.node(node).slot_ids().map(|s| fleet.slot(s));
        let Some(first) = parts.next() else { return false };
        first.sharers > 1 || parts.any(|s| s.sharers > 1 || (s.price, s.weight) != (first.price, first.weight))
    };
    let nodes: BTreeSet<super::NodeId> = all.iter().map(|s| fleet.slot(*s).node).collect();
    all.extend(
        nodes
            .into_iter()
            .filter(|n| guesses(*n))
            .flat_map(|n| fleet.node(n).slot_ids()),
    );
    all
}
