//! A GPU node: what it is, what it costs, and what is left of it.

use super::{CapacityType, GpuActivity, NodePrice, PodId, SlotId};
use crate::catalog::gpus::GpuFacts;
use crate::snapshot::cluster::{Condition, Ignore, Taint};
use crate::units::{Bytes, MilliCores};
use jiff::Timestamp;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
#[allow(
    dead_code,
    reason = "joined here, read by the sizing checks that come with the fit engine"
)]
pub(crate) struct Node {
    /// Index into [`super::Fleet::clusters`].
    pub(crate) cluster: usize,
    pub(crate) name: String,
    /// Node pool or group name; empty where no label tells.
    pub(crate) pool: String,
    pub(crate) cloud: Option<String>,
    pub(crate) instance_type: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) capacity_type: CapacityType,
    /// The catalogue's row; `None`: unknown GPU (named in the gaps).
    pub(crate) gpu: Option<&'static GpuFacts>,
    /// Canonical name where known, else as the labels say; "unknown" where nothing says.
    pub(crate) gpu_name: String,
    /// G(n): physical GPUs.
    pub(crate) gpus: u32,
    pub(crate) price: NodePrice,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) ready: Option<Condition>,
    pub(crate) unschedulable: bool,
    /// Since when it is cordoned, where a taint tells.
    pub(crate) unschedulable_since: Option<Timestamp>,
    /// An autoscaler is removing or replacing it (ToBeDeleted…, karpenter.sh/disrupted).
    pub(crate) being_removed: bool,
    pub(crate) taints: Vec<Taint>,
    pub(crate) labels: BTreeMap<String, String>,
    /// HAMi, Volcano vGPU, run:ai, Intel's virtual functions: GPUs are handed out in ways gpuwaste cannot attribute.
    pub(crate) custom_sharing: bool,
    /// The cluster's nodes could not be read: it has what visible pods hold there, whoever else may share that.
    pub(crate) unseen: bool,
    pub(crate) allocatable_cpu: Option<MilliCores>,
    pub(crate) allocatable_memory: Option<Bytes>,
    pub(crate) allocatable_pods: Option<u64>,
    /// Requests of all bound pods, as Kubernetes counts them.
    pub(crate) requested_cpu: MilliCores,
    pub(crate) requested_memory: Bytes,
    /// This node's slots are `slots[first_slot .. first_slot + slot_count]`.
    pub(crate) first_slot: usize,
    pub(crate) slot_count: usize,
    /// Bound, not finished pods.
    pub(crate) pods: Vec<PodId>,
    pub(crate) ignore: Option<Ignore>,
    /// A GPU exporter runs here: what it could not tell is unread, not absent.
    pub(crate) has_exporter: bool,
    /// Whole devices as the exporter shows them, in whosever hands.
    pub(crate) devices: Vec<Device>,
}

/// A whole device as its node's exporter shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Device {
    pub(crate) activity: GpuActivity,
    /// The pods that the exporter names as its holders; empty: it names none that is known.
    pub(crate) named: Vec<PodId>,
}

impl Node {
    /// Its labels say that one device is handed to several pods (time-slicing, MPS).
    pub(crate) fn shares_devices(&self) -> bool {
        self.labels.contains_key("cloud.google.com/gke-gpu-sharing-strategy")
            || self
                .labels
                .get("nvidia.com/gpu.replicas")
                .is_some_and(|n| n.parse::<u64>().is_ok_and(|n| n > 1))
    }

    pub(crate) fn slot_ids(&self) -> impl Iterator<Item = SlotId> + use<> {
        (self.first_slot..self.first_slot + self.slot_count).map(SlotId)
    }
}
