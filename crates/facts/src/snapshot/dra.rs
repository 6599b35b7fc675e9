//! Dynamic resource allocation (resource.k8s.io): which GPUs drivers publish, and which claims hold them.

use super::cluster::Taint;
use crate::units::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of resource.k8s.io was read; devices of GPU drivers only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Dra {
    /// The version that was read: "v1", "v1beta2", "v1beta1".
    pub version: String,
    /// Each pool's newest generation. `None`: `ResourceSlices` could not be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<DevicePool>>,
    /// `None`: could not be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<DeviceClass>>,
    /// `None`: could not be listed at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Vec<ResourceClaim>>,
    /// Claims of every namespace are in `claims`. A device whose claim may be invisible is not free (R2).
    pub claims_complete: bool,
}

/// The devices of one driver and pool (normally a node), from the slices of its highest generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DevicePool {
    pub driver: String,
    pub name: String,
    pub generation: i64,
    /// As many slices were seen as the pool is said to have. The devices of an incomplete pool are not all there is.
    pub complete: bool,
    pub devices: Vec<Device>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Device {
    pub name: String,
    /// `None`: reachable from several nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Attribute `type`: gpu, mig, vfio, amdgpu, amdgpu-partition, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The card that a MIG device is cut from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_uuid: Option<String>,
    /// MIG profile or partition mode: "1g.10gb", "`cpx_nps4`".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// As the driver names it: "NVIDIA H100 80GB HBM3".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci_bus_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Counter sets that it takes from: devices that share one are alternatives or parts of one card.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counter_sets: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeviceClass {
    pub name: String,
    /// The GPU driver that its selectors or its name tell; `None`: no GPUs, or not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Pods that ask for this resource get devices of the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended_resource: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ResourceClaim {
    pub namespace: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deleted_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<DeviceRequest>,
    /// status.allocation is set.
    pub allocated: bool,
    /// What it was given of GPU drivers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<AllocatedDevice>,
    /// Pods that may use it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodRef>,
    /// Something that is no pod has reserved it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reserved_otherwise: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeviceRequest {
    pub name: String,
    /// The first alternative's, where several are acceptable.
    pub class: String,
    /// `None`: all that match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// For monitoring: it takes nothing from anybody.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AllocatedDevice {
    pub driver: String,
    pub pool: String,
    pub device: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PodRef {
    pub name: String,
    pub uid: String,
}

/// Drivers whose devices are GPUs or other accelerators, by their published names: NVIDIA, AMD, Intel GPU and Gaudi,
/// Google TPU. (`compute-domain.nvidia.com` publishes fabric channels, no GPUs.)
pub const GPU_DRIVERS: &[&str] = &[
    "gpu.nvidia.com",
    "gpu.amd.com",
    "gpu.intel.com",
    "gaudi.intel.com",
    "tpu.google.com",
];

pub fn is_gpu_driver(driver: &str) -> bool {
    GPU_DRIVERS.contains(&driver)
}
