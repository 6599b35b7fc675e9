//! Pods on GPU nodes, and those that wait for GPUs.

use super::{NodeId, SlotId, WorkloadId};
use crate::snapshot::cluster::{Condition, Exit, Ignore, PodPhase, PodPlacement};
use crate::units::{Bytes, MilliCores};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A pod with what it asks for.
#[derive(Clone, Debug, Default)]
#[allow(
    dead_code,
    reason = "joined here, read by the sizing checks that come with the fit engine"
)]
pub struct Pod {
    pub cluster: usize,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// `None`: unbound.
    pub node: Option<NodeId>,
    pub phase: PodPhase,
    pub workload: Option<WorkloadId>,
    /// A container's image that is built for another vendor's cards than the container asks for, and for whose.
    pub foreign_image: Option<(String, &'static str)>,
    /// Device requests by resource name, as Kubernetes counts them.
    pub devices: BTreeMap<String, u64>,
    pub cpu: MilliCores,
    pub memory: Bytes,
    /// DaemonSet or mirror pod: leaves with the node.
    pub node_bound: bool,
    /// GPU infrastructure: holds nothing (R3).
    pub infrastructure: bool,
    /// Priority < 0 or a pause image: capacity kept on purpose.
    pub placeholder: bool,
    /// A scheduler's own pod that holds a GPU for pods with parts of it (KAI, run:ai).
    pub reservation: bool,
    pub slots: Vec<SlotId>,
    /// Bound and not Ready: since when, and why.
    pub stuck: Option<Stuck>,
    pub ready: Option<Condition>,
    /// Unbound: the PodScheduled condition.
    pub scheduled: Option<Condition>,
    pub waits_for_gpus: Option<bool>,
    pub placement: Option<PodPlacement>,
    pub created_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub restarts: u64,
    pub ignore: Option<Ignore>,
    /// Containers that ask for devices: with one, all the pod's GPUs are that server's.
    pub device_containers: usize,
    /// The first container that asks for devices: what a patch has to name.
    pub device_container: Option<String>,
    /// CPU limit of that container, else its request; `None`: neither is set.
    pub device_cpu: Option<MilliCores>,
    /// Further resources that it asks for: network cards for RDMA, huge pages.
    pub extended: BTreeSet<String>,
    /// Its requests; `None`: not set.
    pub device_request_cpu: Option<MilliCores>,
    pub device_request_memory: Option<Bytes>,
    /// pod-template-hash or the like: replicas of an older one are about to go.
    pub revision: Option<String>,
    /// That container's last run ended as OOMKilled, then.
    pub oom_killed_at: Option<Timestamp>,
    /// It has DRA resource claims.
    pub claims: bool,
    /// One of them was not read, or holds what no slice publishes: the pod may hold more than its slots.
    pub unresolved_claims: bool,
    /// Unbound: GPUs that its claims wait for.
    pub claimed_gpus: u64,
    /// `-l` selected it.
    pub selected: bool,
    /// Its server's clock, by its own page, is more than a minute from ours.
    pub clock_in_doubt: bool,
    /// What it does was not told in a form that the API has.
    pub unread: bool,
    /// It asks for devices in an amount that is none: it may hold any number of them.
    pub unread_devices: bool,
    /// Which of its node's whole GPUs it was given, by index, where the scheduler tells.
    pub gpu_indices: Vec<u32>,
    /// Somebody paused it.
    pub suspended: bool,
    /// The most of its GPUs that a step of it which runs can use; `None`: all, or it is not told.
    pub step_gpus: Option<u64>,
}

/// Why a bound pod does no work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub reason: StuckReason,
    /// Since when; `None`: no object tells.
    pub since: Option<Timestamp>,
    pub restarts: u64,
    /// Exit of the last run, where there was one.
    pub last_exit: Option<Exit>,
    /// startupProbe's failureThreshold × period: loading may take that long.
    pub startup_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StuckReason {
    ImagePull,
    CrashLoop,
    Init,
    /// Bound, containers not created: volumes, device plugin, sandbox.
    Creating,
    /// Running but never Ready.
    NotReady,
    Terminating,
    /// The node does not answer.
    NodeLost,
}

impl StuckReason {
    pub const fn name(self) -> &'static str {
        match self {
            Self::ImagePull => "image-pull",
            Self::CrashLoop => "crash-loop",
            Self::Init => "init",
            Self::Creating => "creating",
            Self::NotReady => "not-ready",
            Self::Terminating => "terminating",
            Self::NodeLost => "node-lost",
        }
    }
}

impl Pod {
    /// GPUs, or parts of them, that it asks for: of device plugins and by claims that wait.
    pub fn wanted(&self) -> usize {
        let devices = self.devices.values().copied().fold(0, u64::saturating_add);
        usize::try_from(devices.saturating_add(self.claimed_gpus)).unwrap_or(usize::MAX)
    }
}
