//! Nodes: what they have, what they offer, what is said of their state.

use super::Ignore;
use crate::units::{Bytes, MilliCores};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A node. Capacity and allocatable keep every extended resource by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Node {
    pub name: String,
    /// metadata.uid: the same machine under one name made anew has another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// A digest of spec.providerID, which names one machine of its cloud (and, in clear, accounts and projects).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// A digest of what names the machine on its cloud's bill: an instance, or the scale set that it is one of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billed_as: Option<String>,
    /// Parts that the API always has were not there: nothing is known of its GPUs' state.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<Timestamp>,
    /// Labels of the allow-list in `labels.rs` of the collector: instance type, region, zone, pool, GPU product, MIG, sharing, capacity type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// "aws", "gce", "azure", "oci", … : the scheme of spec.providerID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    pub unschedulable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// The Ready condition; `None`: the node reports none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Condition>,
    pub capacity: Resources,
    pub allocatable: Resources,
    /// Nobody has it: what a manifest's pods would be placed on, as far as they say, with just the devices that they ask for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub planned: bool,
    /// Cards as a sharing layer registered them (annotations `hami.io/node-…-register`, `volcano.sh/node-vgpu-register`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registered: Vec<RegisteredGpu>,
    /// Taken out of service, and why: the words of whoever, or whatever, did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage: Option<Outage>,
    /// What nobody holds there is spoken for: kept by a reservation, or for a job that the scheduler has planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// Since when nothing has been allocated on it, as the scheduler tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub unused_since: Option<Timestamp>,
    /// Annotation `gpuwaste.dev/ignore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore: Option<Ignore>,
}

impl Outage {
    /// The state that a monitor of the node's health (EKS' and AKS' agents, node-problem-detector, NVSentinel) gives to its GPUs.
    pub const GPUS_BROKEN: &'static str = "gpus-broken";
}

/// A node that an administrator or the scheduler took out of service, or whose GPUs a monitor of its health calls broken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Outage {
    /// In the scheduler's own word: "drain", "down", "fail", "maint".
    pub state: String,
    /// As somebody typed it; escaped wherever it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
}

/// Why what is free cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// By a reservation of an administrator's.
    Reserved,
    /// For a job that waits, and will start there.
    Planned,
    /// The node is being powered or rebooted.
    Changing,
}

/// A physical card of which a sharing layer hands out shares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RegisteredGpu {
    pub uuid: String,
    /// As the layer names it, without its vendor prefix: "NVIDIA A100-PCIE-40GB".
    pub model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Shares that it is handed out in.
    pub shares: u64,
}

/// Amounts by resource. `devices` holds extended resources: nvidia.com/gpu, nvidia.com/mig-1g.10gb, amd.com/gpu, …
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Resources {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCores>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<u64>,
    /// ephemeral-storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Bytes>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, u64>,
    /// Names of further resources of which there are any: "vpc.amazonaws.com/efa", "rdma/hca", "hugepages-1Gi".
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub extended: BTreeSet<String>,
    /// Resources that are named with an amount that is none (negative, absurd, a fraction of a device, no number).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Taint {
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    pub effect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
}

/// A condition of a node or pod, with its own since-time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Condition {
    /// `None`: "Unknown" (the kubelet does not answer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// CamelCase word, never the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Resources {
    pub(super) fn add(&mut self, other: &Self) {
        self.combine(other, u64::saturating_add);
    }

    pub(super) fn raise_to(&mut self, other: &Self) {
        self.combine(other, u64::max);
    }

    fn combine(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        let both = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(with(a.unwrap_or(0), b.unwrap_or(0))),
        };
        self.cpu = both(self.cpu.map(|c| c.0), other.cpu.map(|c| c.0)).map(MilliCores);
        self.memory = both(self.memory.map(|m| m.0), other.memory.map(|m| m.0)).map(Bytes);
        self.storage = both(self.storage.map(|m| m.0), other.storage.map(|m| m.0)).map(Bytes);
        for (name, count) in &other.devices {
            let own = self.devices.entry(name.clone()).or_insert(0);
            *own = with(*own, *count);
        }
        self.extended.extend(other.extended.iter().cloned());
        for name in other
            .unread
            .iter()
            .filter(|n| !self.unread.contains(n))
            .cloned()
            .collect::<Vec<_>>()
        {
            self.unread.push(name);
        }
    }
}
