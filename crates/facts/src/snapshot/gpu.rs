//! Readings of GPU exporters (DCGM, AMD, …) and NVML.

use crate::units::{Bytes, Ratio, Watts};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// One device or MIG instance as an exporter shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GpuScrape {
    /// Node name. Where the exporter's host label is its own pod's name, the collector put the pod's node here.
    pub node: String,
    /// GPU-… of the physical device; `None` where the exporter names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Index on its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// As the driver names it: "NVIDIA H100 80GB HBM3".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// MIG profile "1g.10gb" and instance id; `None`: the whole device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mig: Option<MigInstance>,
    /// Which pod holds it, as far as the exporter says; several under sharing. Empty: nobody, or not said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<PodName>,
    /// The exporter maps devices to pods at all: then empty `holders` means unallocated.
    pub maps_pods: bool,
    /// Whose names and units were read; `None`: recorded before this was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// One per pass, oldest first.
    pub readings: Vec<GpuReading>,
    /// Of the last pass that told any.
    #[serde(skip_serializing_if = "DeviceHealth::is_unsaid")]
    pub health: DeviceHealth,
}

/// What an exporter says of a card's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeviceHealth {
    /// The last XID that the driver logged since the exporter began; it stays there whatever was done since. `None`: none, or not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_xid: Option<u32>,
    /// A row of the memory could not be remapped: the card is to be replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remap_failed: Option<bool>,
    /// A row is remapped once the card is reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remap_pending: Option<bool>,
}

impl DeviceHealth {
    /// XIDs after which the card is of no use until it is reset or replaced, or its machine restarted, and what they mean (NVIDIA's XID
    /// catalogue, docs.nvidia.com/deploy/xid-errors: immediate action `RESET_GPU`, `RESTART_BM` or the workflow of XID 48).
    pub const FATAL_XIDS: [(u32, &str); 10] = [
        (46, "it stopped processing"),
        (48, "uncorrectable memory error"),
        (62, "a microcontroller of it halted"),
        (64, "a row of its memory could not be remapped"),
        (79, "it has fallen off the bus"),
        (95, "uncontained memory error"),
        (119, "its GSP does not answer"),
        (120, "its GSP failed"),
        (140, "unrecovered ECC error"),
        (143, "it could not be initialized"),
    ];
    /// XIDs that programs cause, and that say nothing of the card (NVIDIA/k8s-device-plugin, internal/rm/health.go).
    pub const APPLICATION_XIDS: [u32; 6] = [13, 31, 43, 45, 68, 109];

    pub fn is_unsaid(&self) -> bool {
        *self == Self::default()
    }

    fn fatal(&self) -> Option<(u32, &'static str)> {
        Self::FATAL_XIDS
            .into_iter()
            .find(|(xid, _)| Some(*xid) == self.last_xid)
    }

    /// Nobody can rely on the card until it is reset or replaced.
    pub fn is_broken(&self) -> bool {
        self.remap_failed == Some(true) || self.fatal().is_some()
    }

    /// What is wrong with it; `None`: nothing that is said.
    pub fn words(&self) -> Option<String> {
        if self.remap_failed == Some(true) {
            return Some("row remapping failed".into());
        }
        if let Some((xid, meaning)) = self.fatal() {
            return Some(format!("the last XID is {xid} ({meaning})"));
        }
        if self.remap_pending == Some(true) {
            return Some("a row remapping waits for a reset".into());
        }
        let xid = self.last_xid.filter(|xid| !Self::APPLICATION_XIDS.contains(xid))?;
        Some(format!("the last XID is {xid}"))
    }

    /// What either of two says; the later one's word where both speak.
    #[must_use]
    pub fn or(self, earlier: Self) -> Self {
        Self {
            last_xid: self.last_xid.or(earlier.last_xid),
            remap_failed: self.remap_failed.or(earlier.remap_failed),
            remap_pending: self.remap_pending.or(earlier.remap_pending),
        }
    }
}

/// A device of which more is shown is in use (ours: drivers at rest show none).
const IN_USE: f64 = 0.01;

/// Every device once: where several exporters of a node show it, by the one that sees work on it, which no other can deny, else
/// by the one that tells most. Those without a UUID cannot be told apart and stay as they are.
pub fn each_once(all: &[GpuScrape]) -> Vec<&GpuScrape> {
    let tells = |g: &GpuScrape| {
        let inside = |r: &GpuReading| [r.gr_engine, r.sm_active, r.tensor, r.dram].iter().any(Option::is_some);
        let works = |r: &GpuReading| {
            let all = [r.gr_engine, r.gpu_util, r.sm_active, r.tensor, r.dram];
            all.into_iter().flatten().any(|share| share.0 > IN_USE)
        };
        let works = g.readings.iter().any(works);
        (works, g.readings.iter().any(inside), g.maps_pods, g.readings.len())
    };
    let mut best: HashMap<(&str, &str, Option<&str>), &GpuScrape> = HashMap::new();
    for gpu in all {
        if let Some(uuid) = gpu.uuid.as_deref() {
            let known = best
                .entry((&gpu.node, uuid, gpu.mig.as_ref().map(|m| m.id.as_str())))
                .or_insert(gpu);
            if tells(gpu) > tells(known) {
                *known = gpu;
            }
        }
    }
    let kept = |gpu: &&GpuScrape| {
        let instance = gpu.mig.as_ref().map(|m| m.id.as_str());
        let Some(uuid) = gpu.uuid.as_deref() else { return true };
        best.get(&(gpu.node.as_str(), uuid, instance))
            .is_some_and(|b| std::ptr::eq(*b, *gpu))
    };
    all.iter().filter(kept).collect()
}

/// The vocabulary of a device's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Generation {
    /// dcgm-exporter with its 1.x compatibility counters.
    DcgmCompatible,
    /// dcgm-exporter to 4.8: percent, MiB, millijoules.
    Dcgm,
    /// dcgm-exporter from 4.9: ratios, bytes, joules.
    DcgmBaseUnits,
    /// AMD's device-metrics-exporter.
    Amd,
    /// Intel's metric exporter for Gaudi: percent, bytes, milliwatts.
    Gaudi,
    /// utkuozdemir's nvidia_gpu_exporter: ratios, bytes, watts.
    NvidiaSmi,
    /// lablup's all-smi: percent, bytes, watts.
    AllSmi,
    /// No exporter: the driver's own library.
    Nvml,
}

impl Generation {
    pub fn name(self) -> &'static str {
        match self {
            Self::DcgmCompatible => "dcgm-exporter, names of 1.x",
            Self::Dcgm => "dcgm-exporter before 4.9 (percent, MiB)",
            Self::DcgmBaseUnits => "dcgm-exporter from 4.9 (ratios, bytes)",
            Self::Amd => "AMD device-metrics-exporter",
            Self::Gaudi => "Gaudi's metric exporter",
            Self::NvidiaSmi => "nvidia_gpu_exporter (nvidia-smi)",
            Self::AllSmi => "all-smi",
            Self::Nvml => "NVML",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MigInstance {
    pub profile: String,
    pub id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// One instant of one device. Ratios are 0–1 whatever the exporter's generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuReading {
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Share of time with at least one kernel running. Not "how much of the chip". Absent on MIG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_util: Option<Ratio>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gr_engine: Option<Ratio>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sm_active: Option<Ratio>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<Ratio>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dram: Option<Ratio>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Watts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total: Option<Bytes>,
    /// Joules since the driver was loaded (a counter).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_joules: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_two_exporters_show_is_one() {
        let shown = |node: &str, uuid: Option<&str>, generation, gr_engine, mig: Option<&str>| GpuScrape {
            node: node.into(),
            uuid: uuid.map(String::from),
            generation: Some(generation),
            mig: mig.map(|id| MigInstance {
                profile: "1g.10gb".into(),
                id: id.into(),
            }),
            readings: vec![GpuReading {
                at: Timestamp::UNIX_EPOCH,
                gpu_util: Some(Ratio(0.0)),
                gr_engine,
                sm_active: None,
                tensor: None,
                dram: None,
                power: None,
                memory_used: None,
                memory_total: None,
                energy_joules: None,
            }],
            ..GpuScrape::default()
        };
        let (smi, dcgm) = (Generation::NvidiaSmi, Generation::Dcgm);
        let all = [
            shown("a", Some("GPU-1"), smi, None, None),
            shown("a", Some("GPU-1"), dcgm, Some(Ratio(0.0)), None),
            shown("a", Some("GPU-1"), smi, None, Some("7")),
            shown("a", None, smi, None, None),
            shown("a", None, smi, None, None),
            shown("b", Some("GPU-1"), dcgm, None, None),
            shown("b", Some("GPU-1"), smi, None, None),
        ];
        let kept: Vec<usize> = each_once(&all)
            .into_iter()
            .filter_map(|g| all.iter().position(|o| std::ptr::eq(o, g)))
            .collect();
        assert_eq!(kept, [1, 2, 3, 4, 5], "who tells more, else who came first");
    }
}
