//! GPU exporters: dcgm-exporter of every generation, AMD's device-metrics-exporter; others in `smi`.

use super::page::Page;
use super::smi;
use crate::snapshot::gpu::{Generation, GpuReading, GpuScrape, MigInstance, PodName};
use crate::units::{Bytes, Ratio, Watts};
use jiff::Timestamp;
use std::collections::BTreeMap;

pub(super) type Labels = BTreeMap<String, String>;

/// One figure under its names. dcgm-exporter 4.9 changed names and units; a suffix alone is not believed (traps 1 and 9).
struct Field {
    /// Of the 1.x compatibility counters, of the default counters, since 4.9.
    names: [&'static str; 3],
    set: fn(&mut GpuReading, f64),
    /// From what one page's rows under one name say, and whether the name is the new one.
    unit: fn(&[f64], bool) -> Option<Unit>,
}

/// Divisor to the snapshot's unit, and the largest value there is: blanks are about 9.2e18.
type Unit = (f64, f64);

const fn share(names: [&'static str; 3], set: fn(&mut GpuReading, f64)) -> Field {
    // MIG rows show slightly more than 1.
    let unit: fn(&[f64], bool) -> Option<Unit> = |_, _| Some((1.0, 2.0));
    Field { names, set, unit }
}

/// Of a field's names, in their order.
const GENERATIONS: [Generation; 3] = [Generation::DcgmCompatible, Generation::Dcgm, Generation::DcgmBaseUnits];

const GPU_UTIL: [&str; 3] = [
    "dcgm_gpu_utilization",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_GPU_UTIL_RATIO",
];

const FIELDS: &[Field] = &[
    Field {
        names: GPU_UTIL,
        set: |r, v| r.gpu_util = Some(Ratio(v)),
        unit: percent_or_ratio,
    },
    share(
        [
            "dcgm_fi_prof_gr_engine_active",
            "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
            "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO",
        ],
        |r, v| r.gr_engine = Some(Ratio(v)),
    ),
    share(
        [
            "dcgm_fi_prof_sm_active",
            "DCGM_FI_PROF_SM_ACTIVE",
            "DCGM_FI_PROF_SM_UTIL_RATIO",
        ],
        |r, v| r.sm_active = Some(Ratio(v)),
    ),
    share(
        [
            "dcgm_fi_prof_pipe_tensor_active",
            "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
            "DCGM_FI_PROF_TENSOR_UTIL_RATIO",
        ],
        |r, v| r.tensor = Some(Ratio(v)),
    ),
    share(
        [
            "dcgm_fi_prof_dram_active",
            "DCGM_FI_PROF_DRAM_ACTIVE",
            "DCGM_FI_PROF_DRAM_UTIL_RATIO",
        ],
        |r, v| r.dram = Some(Ratio(v)),
    ),
    Field {
        names: [
            "dcgm_power_usage",
            "DCGM_FI_DEV_POWER_USAGE",
            "DCGM_FI_DEV_BOARD_POWER_WATTS",
        ],
        set: |r, v| r.power = Some(Watts(v)),
        unit: |_, _| Some((1.0, 5000.0)),
    },
    Field {
        names: [
            "dcgm_total_energy_consumption",
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
            "DCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL",
        ],
        set: |r, v| r.energy_joules = Some(v),
        // Millijoules, then joules; 1e12 J are thirty years at a kilowatt.
        unit: |_, new| Some((if new { 1.0 } else { 1000.0 }, 1e12)),
    },
];

/// A share written 0–1 or 0–100, whatever its name: one value above 1 makes the page percent, a broken one below 1 makes it
/// a ratio. `None`: only zeros and ones, which are either.
fn percent_or_ratio(values: &[f64], _: bool) -> Option<Unit> {
    let real = || values.iter().filter(|v| (0.0..=100.0).contains(*v));
    if real().any(|v| *v > 1.0) {
        Some((100.0, 1.0))
    } else if real().any(|v| *v >= 1.0) && real().all(|v| v.fract() <= 0.0) {
        None
    } else {
        Some((1.0, 1.0))
    }
}

pub fn is_wanted(name: &str) -> bool {
    FIELDS.iter().any(|f| f.names.contains(&name))
        || name.starts_with("DCGM_FI_DEV_FB_")
        || name.starts_with("dcgm_fb_")
        || AMD.iter().any(|n| strip_amd(name) == *n)
        || smi::is_wanted(name)
}

const AMD: &[&str] = &[
    "gpu_gfx_activity",
    "gpu_usage",
    "gpu_total_memory",
    "gpu_umc_activity",
    "gpu_package_power",
    "gpu_average_package_power",
    "gpu_used_vram",
    "gpu_total_vram",
];

fn strip_amd(name: &str) -> &str {
    name.strip_prefix("amd_").unwrap_or(name)
}

/// A device, and its MIG instance or partition (empty: the whole card).
pub(super) type Key = (String, String);

pub(super) fn get(labels: &Labels, keys: &[&str]) -> Option<String> {
    keys.iter()
        .find_map(|k| labels.get(*k))
        .filter(|v| !v.is_empty())
        .cloned()
}

fn key_of(labels: &Labels) -> Key {
    let id = get(labels, &["UUID", "uuid", "gpu_uuid", "GPU_UUID"])
        .or_else(|| get(labels, &["serial_number", "SERIAL_NUMBER"]))
        .or_else(|| get(labels, &["gpu", "gpu_id", "device"]))
        .unwrap_or_default();
    let instance = get(labels, &["GPU_I_ID"])
        .or_else(|| partition(labels).map(String::from))
        .unwrap_or_default();
    (id, instance)
}

/// Reads an exporter's page. `node` is where the exporter runs: its own host label may be its pod's name (trap 2).
/// Empty: the page holds no GPU figures.
pub fn page(text: &[u8], at: Timestamp, node: &str) -> Vec<GpuScrape> {
    let page = Page::parse(text, is_wanted);
    let mut devices: BTreeMap<Key, Device> = BTreeMap::new();
    let mut generation = None;
    for field in FIELDS {
        // Sharers repeat a device's value, or show their own part of it beside the device's row: never a sum (trap 5).
        let mut largest: BTreeMap<Key, f64> = BTreeMap::new();
        for (place, name) in field.names.iter().enumerate() {
            let rows = page.series(name);
            let values: Vec<f64> = rows.iter().map(|(_, v)| *v).collect();
            let unit = (field.unit)(&values, place == 2);
            generation = generation.max((!rows.is_empty()).then_some(GENERATIONS[place]));
            for (labels, value) in rows {
                let key = Device::of(&mut devices, labels, at);
                let value = unit.map(|(divisor, most)| (value / divisor, most));
                if let Some((value, _)) = value.filter(|(v, most)| (0.0..=*most).contains(v)) {
                    let own = largest.entry(key).or_insert(value);
                    *own = own.max(value);
                }
            }
        }
        // GPU_UTIL is not told for instances: where a row shows it, its 0 is no idleness (trap 3).
        let of_cards = field.names == GPU_UTIL;
        for (key, value) in largest.into_iter().filter(|((_, i), _)| i.is_empty() || !of_cards) {
            if let Some(device) = devices.get_mut(&key) {
                (field.set)(&mut device.reading, value);
            }
        }
    }
    memory(&page, &mut devices, at);
    amd(&page, &mut devices, at);
    let other = smi::read(&page, &mut devices, at);
    finish(devices, node, generation.or(other).unwrap_or(Generation::Amd))
}

/// Why `page` found nothing, and the way out.
pub fn nothing(text: &[u8]) -> (&'static str, &'static str) {
    smi::nothing(&Page::parse(text, is_wanted)).unwrap_or((
        "the page holds no GPU figures",
        "check the exporter's counters file and that it answers with text",
    ))
}

pub(super) struct Device {
    labels: Labels,
    holders: Vec<PodName>,
    maps_pods: bool,
    pub(super) reading: GpuReading,
}

impl Device {
    pub(super) fn of(devices: &mut BTreeMap<Key, Self>, labels: &Labels, at: Timestamp) -> Key {
        let key = key_of(labels);
        let device = devices.entry(key.clone()).or_insert_with(|| Self {
            labels: Labels::new(),
            holders: Vec::new(),
            maps_pods: false,
            reading: blank(at),
        });
        // Not every row has every label.
        for (name, value) in labels {
            device.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        device.maps_pods |= ["pod", "exported_pod", "pod_name"]
            .iter()
            .any(|k| labels.contains_key(*k));
        if let Some(holder) = holder(labels)
            && !device.holders.contains(&holder)
        {
            device.holders.push(holder);
        }
        key
    }
}

/// An AMD partition other than the first; guests without partitions say "NA".
fn partition(labels: &Labels) -> Option<&str> {
    labels
        .get("gpu_partition_id")
        .map(String::as_str)
        .filter(|p| p.parse::<u32>().is_ok_and(|n| n > 0))
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

/// The pod that the exporter names; never the exporter's own, which the scrape's target labels leave on devices that
/// nobody holds (trap 6).
fn holder(labels: &Labels) -> Option<PodName> {
    if let Some(name) = get(labels, &["exported_pod"]) {
        return Some(PodName {
            namespace: get(labels, &["exported_namespace"]).unwrap_or_default(),
            name,
            container: get(labels, &["exported_container"]),
        });
    }
    let name = get(labels, &["pod", "pod_name"])?;
    let container = get(labels, &["container", "container_name"]);
    let own = container
        .as_deref()
        .is_some_and(|c| matches!(c, "nvidia-dcgm-exporter" | "dcgm-exporter" | "exporter"))
        || name.contains("dcgm");
    (!own).then(|| PodName {
        namespace: get(labels, &["namespace", "pod_namespace"]).unwrap_or_default(),
        name,
        container,
    })
}

fn memory(page: &Page, devices: &mut BTreeMap<Key, Device>, at: Timestamp) {
    /// Used, free, reserved, total, in bytes.
    type Parts = [Option<f64>; 4];
    let mut parts: BTreeMap<Key, Parts> = BTreeMap::new();
    let kinds = [("USED", 0), ("FREE", 1), ("RESERVED", 2), ("TOTAL", 3), ("CAPACITY", 3)];
    for (kind, place) in kinds {
        for (name, scale) in [
            (format!("dcgm_fb_{}", kind.to_ascii_lowercase()), Bytes::MIB),
            (format!("DCGM_FI_DEV_FB_{kind}"), Bytes::MIB),
            (format!("DCGM_FI_DEV_FB_{kind}_BYTES"), 1.0),
        ] {
            for (labels, value) in page.series(&name).iter().filter(|(_, v)| *v >= 0.0 && *v < 1e15) {
                let key = Device::of(devices, labels, at);
                // A sharer's own part stands beside the device's row: the larger is the device's.
                let own = &mut parts.entry(key).or_default()[place];
                *own = Some(own.unwrap_or(0.0).max(value * scale));
            }
        }
    }
    for (key, [used, free, reserved, total]) in parts {
        let Some(device) = devices.get_mut(&key) else { continue };
        device.reading.memory_used = used.map(|u| Bytes(u as u64));
        device.reading.memory_total = total
            .or_else(|| Some(used? + free? + reserved.unwrap_or(0.0)))
            .map(|t| Bytes(t as u64));
    }
}

/// AMD: percent, megabytes, watts. In partitioned mode only partition 0 shows activity: the others are not idle, they are unknown.
fn amd(page: &Page, devices: &mut BTreeMap<Key, Device>, at: Timestamp) {
    for prefix in ["", "amd_"] {
        let mut each = |name: &str, set: &dyn Fn(&mut GpuReading, f64)| {
            for (labels, value) in page
                .series(&format!("{prefix}{name}"))
                .iter()
                .filter(|(_, v)| *v >= 0.0 && *v < 1e12)
            {
                let part = partition(labels).is_some();
                let whole = name.ends_with("vram") || name.ends_with("memory");
                let key = Device::of(devices, labels, at);
                if let Some(device) = devices.get_mut(&key).filter(|_| !part || whole) {
                    set(&mut device.reading, *value);
                }
            }
        };
        // gpu_usage and gpu_total_memory are the names of the first releases.
        for name in ["gpu_usage", "gpu_gfx_activity"] {
            each(name, &|r, v| r.gpu_util = (v <= 100.0).then_some(Ratio(v / 100.0)));
        }
        each("gpu_total_memory", &|r, v| {
            r.memory_total = Some(Bytes((v * 1e6) as u64));
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
fn finish(devices: BTreeMap<Key, Device>, node: &str, generation: Generation) -> Vec<GpuScrape> {
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
            let get = |keys: &[&str]| get(&device.labels, keys);
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
                generation: Some(generation),
                readings: vec![device.reading],
            }
        })
        .collect()
}
