//! A GPU node: what it is, what it costs, and what is left of it.

use super::{CapacityType, GpuActivity, NodePrice, PodId, SlotId};
use crate::catalog::gpus::GpuFacts;
use crate::snapshot::cluster::{Condition, Ignore, Kept, Outage, Taint};
use crate::units::{Bytes, MilliCores};
use jiff::Timestamp;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
#[allow(
    dead_code,
    reason = "joined here, read by the sizing checks that come with the fit engine"
)]
pub struct Node {
    /// Index into [`super::Fleet::clusters`].
    pub cluster: usize,
    pub name: String,
    /// Node pool or group name; empty where no label tells.
    pub pool: String,
    pub cloud: Option<String>,
    pub instance_type: Option<String>,
    pub region: Option<String>,
    pub zone: Option<String>,
    pub capacity_type: CapacityType,
    /// The catalogue's row; `None`: unknown GPU (named in the gaps).
    pub gpu: Option<&'static GpuFacts>,
    /// Canonical name where known, else as the labels say; "unknown" where nothing says.
    pub gpu_name: String,
    /// G(n): physical GPUs.
    pub gpus: u32,
    pub price: NodePrice,
    pub created_at: Option<Timestamp>,
    pub ready: Option<Condition>,
    pub unschedulable: bool,
    /// Since when it is cordoned, where a taint tells.
    pub unschedulable_since: Option<Timestamp>,
    /// An autoscaler is removing or replacing it (ToBeDeleted…, karpenter.sh/disrupted).
    pub being_removed: bool,
    pub taints: Vec<Taint>,
    pub labels: BTreeMap<String, String>,
    /// Its object was not what the API serves: nothing is known of its GPUs' state.
    pub unread: bool,
    /// By what it is known to be no machine: simulated, another cluster's, or billed by the pod.
    pub not_a_machine: Option<String>,
    /// Its clock is more than a minute from ours: since when its pods are what they are is in doubt.
    pub clock_in_doubt: bool,
    /// A pod on it was not, or asks for nobody knows how much: it may hold any GPU here.
    pub holders_unread: bool,
    /// HAMi, Volcano vGPU, run:ai, Intel's virtual functions: GPUs are handed out in ways gpuwaste cannot attribute.
    pub custom_sharing: bool,
    /// The cluster's nodes could not be read: it has what visible pods hold there, whoever else may share that.
    pub unseen: bool,
    /// Nobody has it yet: it is as large, and as dear, as what a manifest's pods ask for.
    pub planned: bool,
    pub allocatable_cpu: Option<MilliCores>,
    pub allocatable_memory: Option<Bytes>,
    pub allocatable_pods: Option<u64>,
    /// Requests of all bound pods, as Kubernetes counts them.
    pub requested_cpu: MilliCores,
    pub requested_memory: Bytes,
    /// This node's slots are `slots[first_slot .. first_slot + slot_count]`.
    pub first_slot: usize,
    pub slot_count: usize,
    /// Bound, not finished pods.
    pub pods: Vec<PodId>,
    pub ignore: Option<Ignore>,
    /// Who took it out of service, and why, as far as somebody said.
    pub outage: Option<Outage>,
    /// What is free there is spoken for.
    pub kept: Option<Kept>,
    /// Since when its scheduler has given nothing of it to anybody.
    pub unused_since: Option<Timestamp>,
    /// A GPU exporter runs here: what it could not tell is unread, not absent.
    pub has_exporter: bool,
    /// One of its exporters was read and another was not: the one that was not may have seen work.
    pub exporter_lost: bool,
    /// Whole devices as the exporter shows them, in whosever hands.
    pub devices: Vec<Device>,
}

/// A whole device as its node's exporter shows it.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// Empty: the exporter names none.
    pub uuid: String,
    pub activity: GpuActivity,
    /// The exporter tells holders, and of this device none.
    pub unheld: bool,
    /// The pods that the exporter names as its holders; empty: it names none that is known.
    pub named: Vec<PodId>,
}

impl Node {
    /// Its labels say that one device is handed to several pods (time-slicing, MPS).
    pub fn shares_devices(&self) -> bool {
        self.labels.contains_key("cloud.google.com/gke-gpu-sharing-strategy")
            || self
                .labels
                .get("nvidia.com/gpu.replicas")
                .is_some_and(|n| n.parse::<u64>().is_ok_and(|n| n > 1))
    }

    pub fn slot_ids(&self) -> impl Iterator<Item = SlotId> + use<> {
        (self.first_slot..self.first_slot + self.slot_count).map(SlotId)
    }
}
