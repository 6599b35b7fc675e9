//! What the snapshot means: pods joined with GPUs, nodes, prices and models. Free to change from version to version.

mod activity;
mod bill;
mod doubt;
mod dra;
#[cfg(test)]
mod dra_tests;
pub mod history;
mod history_usage;
mod identity;
#[cfg(test)]
mod identity_tests;
mod join;
#[cfg(test)]
mod labels_tests;
#[cfg(test)]
mod mig_tests;
mod node;
mod nodes;
mod observed;
pub mod past;
mod plausible;
mod pod;
mod slot;
pub mod state;
pub mod unit_cost;
pub mod witness;
mod workload;
mod workloads;

pub use activity::{Bins, GpuActivity, Observed, ObservedBy, Pass};
pub use history_usage::{ClusterUsage, Span, UsageItem, Used};
pub use join::join;
pub use node::{Device, Node};
pub use pod::{Pod, Stuck, StuckReason};
pub use slot::{Claim, Slot, SlotState, WHOLE_GPU};
pub use workload::{Replica, Workload, WorkloadClass};

use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelBook;
pub use crate::catalog::prices::{CapacityType, NodePrice, PriceSource};
use crate::snapshot::Gap;
use crate::snapshot::cluster::Scheduler;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Index into [`Fleet::nodes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);
/// Index into [`Fleet::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);
/// Index into [`Fleet::pods`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(pub usize);
/// Index into [`Fleet::workloads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId(pub usize);

/// The joined fleet: GPU nodes, their slots, the pods on them, and the workloads above the pods.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    pub taken_at: Timestamp,
    pub window_seconds: Option<u64>,
    /// Live looks that the scan meant to take: two with `--observe`, else one.
    pub looks: u32,
    pub clusters: Vec<ClusterInfo>,
    /// Nodes with at least one GPU, whatever their state.
    pub nodes: Vec<Node>,
    /// Physical GPUs, or MIG instances and unpartitioned remainders, in node order. Each is in exactly one state (R3).
    pub slots: Vec<Slot>,
    /// Pods bound to GPU nodes, and unbound pods that ask for GPUs.
    pub pods: Vec<Pod>,
    pub workloads: Vec<Workload>,
    /// DRA claims that hold at least one of the slots.
    pub claims: Vec<Claim>,
    /// The user's own models, asked before the catalogue.
    pub models: ModelBook,
    /// What was paid for and what was done in two windows, one entry a cluster with history.
    pub usage: Vec<ClusterUsage>,
    /// What jobs had of GPUs in the last days, by who answers for them.
    pub past: Vec<past::Past>,
    /// Reads that failed and could have told of GPUs that are not among the slots.
    pub uncounted: Vec<String>,
    /// What the join itself could not resolve: unknown GPU names, unpriced nodes, contradictions.
    pub gaps: Vec<Gap>,
}

#[derive(Clone, Debug, Default)]
#[allow(
    dead_code,
    reason = "joined here, read by the sizing checks that come with the fit engine"
)]
pub struct ClusterInfo {
    pub name: String,
    /// What fingerprints carry: the uid of kube-system, else the name.
    pub key: String,
    /// Nodes were listed. When false, node-level checks are not assessed and coverage is unknown.
    pub nodes_known: bool,
    /// Who hands its GPUs out: what things are called, and nothing else.
    pub scheduler: Scheduler,
    /// No cluster at all: hosts and devices as a store's series tell them.
    pub metrics_only: bool,
    /// Every pod that could hold a GPU was listed. When false, a GPU without a visible holder is `Unknown`, not free.
    pub pods_known: bool,
    /// Every DRA claim was listed. When false, a DRA device without a visible holder is `Unknown`, not free.
    pub claims_known: bool,
    /// Extended resources that a GPU `DeviceClass` provides.
    pub by_class: BTreeSet<String>,
    /// The API server's clock is more than a minute from ours: nothing that rests on since-times is measured.
    pub clock_in_doubt: bool,
    /// When it was read: what of it is how old is counted to then.
    pub read_at: Timestamp,
    /// The store's is: nothing that rests on history is measured.
    pub store_clock_in_doubt: bool,
    /// `-n`/`-l`: findings are limited to these pods' workloads.
    pub scoped: bool,
    /// `-n`; empty: all.
    pub namespaces: Vec<String>,
    /// `-l` was given.
    pub selected_only: bool,
    pub autoscalers_known: bool,
    pub budgets_known: bool,
}

impl Fleet {
    /// When the cluster was read, to which ages of what is in it are counted: snapshots of several days make one fleet.
    pub fn now(&self, cluster: usize) -> Timestamp {
        self.clusters.get(cluster).map_or(self.taken_at, |c| c.read_at)
    }

    /// Whether a pod that asks as this one does could be given the slot.
    pub fn gives(&self, slot: &Slot, pod: &Pod) -> bool {
        if pod.claimed_gpus > 0 && slot.dra {
            return true;
        }
        pod.devices.keys().any(|name| {
            slot.resource.as_ref() == Some(name) || (slot.dra && self.clusters[pod.cluster].by_class.contains(name))
        })
    }

    /// All of it is written in manifests, and nothing is there yet.
    pub fn is_a_plan(&self) -> bool {
        let some = !self.nodes.is_empty() || !self.workloads.is_empty();
        some && self.nodes.iter().all(|n| n.planned) && self.workloads.iter().all(|w| w.planned)
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id.0]
    }

    /// The catalogue's row of the slot's card (of a part: of the whole card); `None`: unknown.
    pub fn gpu_of(&self, id: SlotId) -> Option<&'static GpuFacts> {
        let slot = self.slot(id);
        slot.model.as_ref().map_or(self.node(slot.node).gpu, |m| m.facts)
    }

    /// What the slot's card is called.
    pub fn gpu_name(&self, id: SlotId) -> &str {
        let slot = self.slot(id);
        slot.model.as_ref().map_or(&self.node(slot.node).gpu_name, |m| &m.name)
    }

    pub fn pod(&self, id: PodId) -> &Pod {
        &self.pods[id.0]
    }

    pub fn workload(&self, id: WorkloadId) -> &Workload {
        &self.workloads[id.0]
    }
}
