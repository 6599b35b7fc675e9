//! Dynamic resource allocation (resource.k8s.io): which GPUs drivers publish, and which claims hold them.

use super::cluster::Taint;
use crate::units::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of resource.k8s.io was read; devices of GPU drivers only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Dra {
    /// The version that was read: "v1", "v1beta2", "v1beta1".
    pub(crate) version: String,
    /// Each pool's newest generation. `None`: `ResourceSlices` could not be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pools: Option<Vec<DevicePool>>,
    /// `None`: could not be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) classes: Option<Vec<DeviceClass>>,
    /// `None`: could not be listed at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) claims: Option<Vec<ResourceClaim>>,
    /// Claims of every namespace are in `claims`. A device whose claim may be invisible is not free (R2).
    pub(crate) claims_complete: bool,
}

/// The devices of one driver and pool (normally a node), from the slices of its highest generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct DevicePool {
    pub(crate) driver: String,
    pub(crate) name: String,
    pub(crate) generation: i64,
    /// As many slices were seen as the pool is said to have. The devices of an incomplete pool are not all there is.
    pub(crate) complete: bool,
    pub(crate) devices: Vec<Device>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Device {
    pub(crate) name: String,
    /// `None`: reachable from several nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    /// Attribute `type`: gpu, mig, vfio, amdgpu, amdgpu-partition, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uuid: Option<String>,
    /// The card that a MIG device is cut from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent_uuid: Option<String>,
    /// MIG profile or partition mode: "1g.10gb", "`cpx_nps4`".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<String>,
    /// As the driver names it: "NVIDIA H100 80GB HBM3".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pci_bus_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Bytes>,
    /// Counter sets that it takes from: devices that share one are alternatives or parts of one card.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) counter_sets: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct DeviceClass {
    pub(crate) name: String,
    /// The GPU driver that its selectors or its name tell; `None`: no GPUs, or not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) driver: Option<String>,
    /// Pods that ask for this resource get devices of the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) extended_resource: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ResourceClaim {
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) deleted_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) requests: Vec<DeviceRequest>,
    /// status.allocation is set.
    pub(crate) allocated: bool,
    /// What it was given of GPU drivers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<AllocatedDevice>,
    /// Pods that may use it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) pods: Vec<PodRef>,
    /// Something that is no pod has reserved it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) reserved_otherwise: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct DeviceRequest {
    pub(crate) name: String,
    /// The first alternative's, where several are acceptable.
    pub(crate) class: String,
    /// `None`: all that match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
    /// For monitoring: it takes nothing from anybody.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) admin: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct AllocatedDevice {
    pub(crate) driver: String,
    pub(crate) pool: String,
    pub(crate) device: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) admin: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct PodRef {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Drivers whose devices are GPUs or other accelerators, by their published names: NVIDIA, AMD, Intel GPU and Gaudi,
/// Google TPU. (`compute-domain.nvidia.com` publishes fabric channels, no GPUs.)
pub(crate) const GPU_DRIVERS: &[&str] = &[
    "gpu.nvidia.com",
    "gpu.amd.com",
    "gpu.intel.com",
    "gaudi.intel.com",
    "tpu.google.com",
];

pub(crate) fn is_gpu_driver(driver: &str) -> bool {
    GPU_DRIVERS.contains(&driver)
}
