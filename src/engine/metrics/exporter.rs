//! GPU exporters: dcgm-exporter of every generation, AMD's device-metrics-exporter.

use super::page::Page;
use crate::snapshot::gpu::{GpuReading, GpuScrape, MigInstance, PodName};
use crate::units::{Bytes, Ratio, Watts};
use jiff::Timestamp;
use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

/// Old and new names of one figure. dcgm-exporter 4.9 changed names and units; a suffix alone is not believed (traps 1 and 9).
struct Field {
    old: &'static str,
    new: &'static str,
    /// What one unit of the new name is in units of the old one's base (percent, MiB, W, mJ).
    set: fn(&mut GpuReading, f64, bool),
}

const FIELDS: &[Field] = &[
    Field {
        old: "DCGM_FI_DEV_GPU_UTIL",
        new: "DCGM_FI_DEV_GPU_UTIL_RATIO",
        set: |r, v, new| r.gpu_util = ratio(v, new),
    },
    Field {
        old: "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        new: "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO",
        set: |r, v, _| r.gr_engine = unit(v),
    },
    Field {
        old: "DCGM_FI_PROF_SM_ACTIVE",
        new: "DCGM_FI_PROF_SM_UTIL_RATIO",
        set: |r, v, _| r.sm_active = unit(v),
    },
    Field {
        old: "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        new: "DCGM_FI_PROF_TENSOR_UTIL_RATIO",
        set: |r, v, _| r.tensor = unit(v),
    },
    Field {
        old: "DCGM_FI_PROF_DRAM_ACTIVE",
        new: "DCGM_FI_PROF_DRAM_UTIL_RATIO",
        set: |r, v, _| r.dram = unit(v),
    },
    Field {
        old: "DCGM_FI_DEV_POWER_USAGE",
        new: "DCGM_FI_DEV_BOARD_POWER_WATTS",
        set: |r, v, _| r.power = (v < 5000.0).then_some(Watts(v)),
    },
    Field {
        old: "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        new: "DCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL",
        set: |r, v, new| r.energy_joules = Some(if new { v } else { v / 1000.0 }),
    },
];

/// A share that may be written 0–1 or 0–100. Above 1 it is percent, whatever its name; at or under 1 the name decides.
fn ratio(value: f64, new: bool) -> Option<Ratio> {
    match value {
        v if !(0.0..=100.0).contains(&v) => None,
        v if v > 1.0 => Some(Ratio(v / 100.0)),
        v if new || v.fract() != 0.0 => Some(Ratio(v)),
        v => Some(Ratio(v / 100.0)),
    }
}

/// A share from 0 to 1; MIG rows show slightly more, blanks (9.2e18) show far more.
fn unit(value: f64) -> Option<Ratio> {
    (0.0..=2.0).contains(&value).then_some(Ratio(value))
}

pub(crate) fn is_wanted(name: &str) -> bool {
    FIELDS.iter().any(|f| f.old == name || f.new == name)
        || name.starts_with("DCGM_FI_DEV_FB_")
        || AMD.iter().any(|n| strip_amd(name) == *n)
}

const AMD: &[&str] = &[
    "gpu_gfx_activity",
    "gpu_umc_activity",
    "gpu_package_power",
    "gpu_average_package_power",
    "gpu_used_vram",
    "gpu_total_vram",
];

fn strip_amd(name: &str) -> &str {
    name.strip_prefix("amd_").unwrap_or(name)
}

/// Reads an exporter's page. `node` is where the exporter runs: its own host label may be its pod's name (trap 2).
/// Empty: the page holds no GPU figures.
pub(crate) fn page(text: &[u8], at: Timestamp, node: &str) -> Vec<GpuScrape> {
    let page = Page::parse(text, is_wanted);
    let mut devices: BTreeMap<(String, String), Device> = BTreeMap::new();
    for field in FIELDS {
        for (name, new) in [(field.old, false), (field.new, true)] {
            for (labels, value) in page.series(name) {
                let device = Device::of(&mut devices, labels, at);
                (field.set)(&mut device.reading, *value, new);
            }
        }
    }
    memory(&page, &mut devices, at);
    amd(&page, &mut devices, at);
    finish(devices, node)
}

struct Device {
    labels: Labels,
    holders: Vec<PodName>,
    maps_pods: bool,
    reading: GpuReading,
}

impl Device {
    fn of<'a>(devices: &'a mut BTreeMap<(String, String), Self>, labels: &Labels, at: Timestamp) -> &'a mut Self {
        let get = |keys: &[&str]| {
            keys.iter()
                .find_map(|k| labels.get(*k))
                .filter(|v| !v.is_empty())
                .cloned()
        };
        let id = get(&["UUID", "uuid", "gpu_uuid"])
            .or_else(|| get(&["serial_number"]))
            .or_else(|| get(&["gpu", "gpu_id", "device"]))
            .unwrap_or_default();
        let instance = get(&["GPU_I_ID"])
            .or_else(|| get(&["gpu_partition_id"]).filter(|p| p != "0"))
            .unwrap_or_default();
        let device = devices.entry((id, instance)).or_insert_with(|| Self {
            labels: labels.clone(),
            holders: Vec::new(),
            maps_pods: false,
            reading: blank(at),
        });
        device.maps_pods |= ["pod", "exported_pod", "pod_name"]
            .iter()
            .any(|k| labels.contains_key(*k));
        if let Some(holder) = holder(labels)
            && !device.holders.contains(&holder)
        {
            device.holders.push(holder);
        }
        device
    }
}

fn blank(at: Timestamp) -> GpuReading {
    GpuReading {
        at,
        gpu_util: None,
        gr_engine: None,
        sm_active: None,
        tensor: None,
        dram: None,
        power: None,
        memory_used: None,
        memory_total: None,
        energy_joules: None,
    }
}

/// The pod that the exporter names; never the exporter's own (trap 6).
fn holder(labels: &Labels) -> Option<PodName> {
    let get = |keys: &[&str]| {
        keys.iter()
            .find_map(|k| labels.get(*k))
            .filter(|v| !v.is_empty())
            .cloned()
    };
    let container = get(&["exported_container", "container", "container_name"]);
    let name = get(&["exported_pod", "pod", "pod_name"])?;
    let own = container
        .as_deref()
        .is_some_and(|c| matches!(c, "nvidia-dcgm-exporter" | "dcgm-exporter" | "exporter"))
        || name.contains("dcgm-exporter");
    (!own).then(|| PodName {
        namespace: get(&["exported_namespace", "namespace", "pod_namespace"]).unwrap_or_default(),
        name,
        container,
    })
}

fn memory(page: &Page, devices: &mut BTreeMap<(String, String), Device>, at: Timestamp) {
    /// Used, free, reserved, total, in bytes.
    type Parts = (Option<f64>, Option<f64>, f64, Option<f64>);
    let mut parts: BTreeMap<(String, String), Parts> = BTreeMap::new();
    let kinds = [
        ("FB_USED", 0),
        ("FB_FREE", 1),
        ("FB_RESERVED", 2),
        ("FB_TOTAL", 3),
        ("FB_CAPACITY", 3),
    ];
    for (kind, place) in kinds {
        for (name, scale) in [
            (format!("DCGM_FI_DEV_{kind}"), Bytes::MIB),
            (format!("DCGM_FI_DEV_{kind}_BYTES"), 1.0),
        ] {
            for (labels, value) in page.series(&name).iter().filter(|(_, v)| *v >= 0.0 && *v < 1e15) {
                let device = Device::of(devices, labels, at);
                let key = key_of(&device.labels);
                let own = parts.entry(key).or_default();
                let bytes = value * scale;
                match place {
                    0 => own.0 = Some(bytes),
                    1 => own.1 = Some(bytes),
                    2 => own.2 = bytes,
                    _ => own.3 = Some(bytes),
                }
            }
        }
    }
    for device in devices.values_mut() {
        let Some((used, free, reserved, total)) = parts.get(&key_of(&device.labels)) else {
            continue;
        };
        device.reading.memory_used = used.map(|u| Bytes(u as u64));
        device.reading.memory_total = total
            .or_else(|| Some(used.as_ref()? + free.as_ref()? + reserved))
            .map(|t| Bytes(t as u64));
    }
}

fn key_of(labels: &Labels) -> (String, String) {
    let get = |keys: &[&str]| keys.iter().find_map(|k| labels.get(*k)).cloned().unwrap_or_default();
    (
        get(&["UUID", "uuid", "gpu_uuid", "serial_number", "gpu", "gpu_id"]),
        get(&["GPU_I_ID", "gpu_partition_id"]),
    )
}

/// AMD: percent, megabytes, watts. In partitioned mode only partition 0 shows activity: the others are not idle, they are unknown.
fn amd(page: &Page, devices: &mut BTreeMap<(String, String), Device>, at: Timestamp) {
    for prefix in ["", "amd_"] {
        let mut each = |name: &str, set: &dyn Fn(&mut GpuReading, f64)| {
            for (labels, value) in page
                .series(&format!("{prefix}{name}"))
                .iter()
                .filter(|(_, v)| *v >= 0.0 && *v < 1e12)
            {
                let part = labels
                    .get("gpu_partition_id")
                    .is_some_and(|p| !p.is_empty() && p != "0");
                let device = Device::of(devices, labels, at);
                if !part || name.ends_with("vram") {
                    set(&mut device.reading, *value);
                }
            }
        };
        each("gpu_gfx_activity", &|r, v| {
            r.gpu_util = (v <= 100.0).then_some(Ratio(v / 100.0));
        });
        each("gpu_umc_activity", &|r, v| {
            r.dram = (v <= 100.0).then_some(Ratio(v / 100.0));
        });
        each("gpu_average_package_power", &|r, v| r.power = Some(Watts(v)));
        each("gpu_package_power", &|r, v| r.power = Some(Watts(v)));
        each("gpu_used_vram", &|r, v| r.memory_used = Some(Bytes((v * 1e6) as u64)));
        each("gpu_total_vram", &|r, v| r.memory_total = Some(Bytes((v * 1e6) as u64)));
    }
}

/// Parent rows beside MIG rows are dropped: never add parent and children.
fn finish(devices: BTreeMap<(String, String), Device>, node: &str) -> Vec<GpuScrape> {
    let has_instances: Vec<String> = devices
        .keys()
        .filter(|(_, i)| !i.is_empty())
        .map(|(u, _)| u.clone())
        .collect();
    let maps_pods = devices.values().any(|d| d.maps_pods);
    devices
        .into_iter()
        .filter(|((uuid, instance), _)| !instance.is_empty() || !has_instances.contains(uuid))
        .map(|((uuid, instance), device)| {
            let get = |keys: &[&str]| {
                keys.iter()
                    .find_map(|k| device.labels.get(*k))
                    .filter(|v| !v.is_empty())
                    .cloned()
            };
            GpuScrape {
                node: node.to_string(),
                uuid: Some(uuid).filter(|u| !u.is_empty()),
                index: get(&["gpu", "gpu_id"]).and_then(|i| i.parse().ok()),
                model: get(&["modelName", "model_name", "card_model"]),
                mig: (!instance.is_empty()).then(|| MigInstance {
                    profile: get(&["GPU_I_PROFILE"]).unwrap_or_default(),
                    id: instance,
                }),
                holders: device.holders,
                maps_pods,
                readings: vec![device.reading],
            }
        })
        .collect()
}
