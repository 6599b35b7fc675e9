//! Exporters that ask the driver what `nvidia-smi` shows: utkuozdemir's nvidia_gpu_exporter and lablup's all-smi.
//!
//! They tell how long any kernel ran, memory and power; neither knows pods, and of a whole card nothing of SMs, tensor
//! cores or DRAM: what needs those stays unknown.

use super::exporter::{Device, Key, Labels, get};
use super::page::{Page, Series};
use crate::snapshot::gpu::{Generation, GpuReading};
use crate::units::{Bytes, Ratio, Watts};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// `power.draw` first; newer drivers tell the mean of a second and the instant apart, and some cards only one of them.
const POWER: &[&str] = &[
    "nvidia_smi_power_draw_watts",
    "nvidia_smi_power_draw_average_watts",
    "nvidia_smi_power_draw_instant_watts",
];

/// A figure of `nvidia_smi_*`: percent, MiB and mW became ratios, bytes and watts in the exporter.
type Figure = (&'static str, fn(&mut GpuReading, f64));

const NVIDIA_SMI: &[Figure] = &[
    ("nvidia_smi_utilization_gpu_ratio", |r, v| r.gpu_util = ratio(v)),
    ("nvidia_smi_memory_used_bytes", |r, v| r.memory_used = bytes(v)),
    ("nvidia_smi_memory_total_bytes", |r, v| r.memory_total = bytes(v)),
    // Of its NVML backend.
    ("nvidia_smi_energy_joules_total", |r, v| r.energy_joules = Some(v)),
    // Of MIG instances, by the same backend from Hopper on: means between its last two looks.
    ("nvidia_smi_mig_memory_used_bytes", |r, v| r.memory_used = bytes(v)),
    ("nvidia_smi_mig_memory_total_bytes", |r, v| r.memory_total = bytes(v)),
    ("nvidia_smi_mig_graphics_activity_ratio", |r, v| r.gr_engine = ratio(v)),
    ("nvidia_smi_mig_sm_activity_ratio", |r, v| r.sm_active = ratio(v)),
    ("nvidia_smi_mig_tensor_activity_ratio", |r, v| r.tensor = ratio(v)),
];

const NVIDIA_SMI_INFO: &[&str] = &["nvidia_smi_gpu_info", "nvidia_smi_mig_info"];
const NVIDIA_SMI_MIG_MODE: &str = "nvidia_smi_mig_mode_current";
const NVIDIA_SMI_SUCCESS: &str = "nvidia_smi_last_collect_success";

const ALL_SMI_MIG_MODE: &str = "all_smi_gpu_mig_mode";

const ALL_SMI: &[&str] = &[
    "all_smi_gpu_utilization",
    "all_smi_gpu_memory_used_bytes",
    "all_smi_gpu_memory_total_bytes",
    "all_smi_gpu_power_consumption_watts",
    "all_smi_mig_instance_memory_used_bytes",
    "all_smi_mig_instance_memory_total_bytes",
    ALL_SMI_MIG_MODE,
];

pub(super) fn is_wanted(name: &str) -> bool {
    if name.starts_with("nvidia_smi_") {
        NVIDIA_SMI.iter().any(|(n, _)| *n == name)
            || POWER.contains(&name)
            || NVIDIA_SMI_INFO.contains(&name)
            || [NVIDIA_SMI_MIG_MODE, NVIDIA_SMI_SUCCESS].contains(&name)
    } else {
        name.starts_with("all_smi_") && ALL_SMI.contains(&name)
    }
}

fn ratio(value: f64) -> Option<Ratio> {
    (0.0..=1.0).contains(&value).then_some(Ratio(value))
}

fn bytes(value: f64) -> Option<Bytes> {
    (0.0..1e15).contains(&value).then_some(Bytes(value as u64))
}

fn watts(value: f64) -> Option<Watts> {
    (0.0..=5000.0).contains(&value).then_some(Watts(value))
}

/// Adds the devices of either exporter; which of them it was.
pub(super) fn read(page: &Page, devices: &mut BTreeMap<Key, Device>, at: Timestamp) -> Option<Generation> {
    let before = devices.len();
    nvidia_smi(page, devices, at);
    if devices.len() > before {
        return Some(Generation::NvidiaSmi);
    }
    all_smi(page, devices, at);
    (devices.len() > before).then_some(Generation::AllSmi)
}

/// Why a page of theirs holds no device, and the way out.
pub(super) fn nothing(page: &Page) -> Option<(&'static str, &'static str)> {
    if collection_failed(page) {
        return Some((
            "nvidia-smi failed in the exporter's last collection",
            "look at the exporter's log; its pod needs the NVIDIA runtime (runtimeClassName: nvidia)",
        ));
    }
    let cut = [NVIDIA_SMI_MIG_MODE, ALL_SMI_MIG_MODE]
        .iter()
        .any(|name| page.series(name).iter().any(is_on));
    cut.then_some((
        "its GPUs are cut into MIG instances, of which nvidia-smi tells nothing",
        "dcgm-exporter tells each instance's activity and holder",
    ))
}

fn is_on((_, value): &Series) -> bool {
    *value > 0.0
}

/// What then stands on the page is of an earlier time.
fn collection_failed(page: &Page) -> bool {
    let told = page.series(NVIDIA_SMI_SUCCESS);
    !told.is_empty() && !told.iter().any(is_on)
}

fn nvidia_smi(page: &Page, devices: &mut BTreeMap<Key, Device>, at: Timestamp) {
    if collection_failed(page) {
        return;
    }
    let mut rows = Rows::new(page, devices, at, nvidia_smi_labels, NVIDIA_SMI_MIG_MODE);
    for (name, set) in NVIDIA_SMI {
        rows.each(name, set);
    }
    for name in POWER {
        rows.each(name, &|r, v| r.power = r.power.or(watts(v)));
    }
    for name in NVIDIA_SMI_INFO {
        rows.each(name, &|_, _| ());
    }
}

fn all_smi(page: &Page, devices: &mut BTreeMap<Key, Device>, at: Timestamp) {
    let mut rows = Rows::new(page, devices, at, all_smi_labels, ALL_SMI_MIG_MODE);
    // It writes 0 for what the driver would not tell. No card has no memory and no powered card draws 0 W, so those are
    // no readings, and neither are zeros beside them.
    for name in [
        "all_smi_gpu_memory_total_bytes",
        "all_smi_mig_instance_memory_total_bytes",
    ] {
        rows.each(name, &|r, v| r.memory_total = bytes(v).filter(|b| b.0 > 0));
    }
    for name in [
        "all_smi_gpu_memory_used_bytes",
        "all_smi_mig_instance_memory_used_bytes",
    ] {
        rows.each(name, &|r, v| {
            r.memory_used = bytes(v).filter(|b| b.0 > 0 || r.memory_total.is_some());
        });
    }
    rows.each("all_smi_gpu_power_consumption_watts", &|r, v| {
        r.power = watts(v).filter(|w| w.0 > 0.0);
    });
    rows.each("all_smi_gpu_utilization", &|r, v| {
        r.gpu_util = ratio(v / 100.0).filter(|u| u.0 > 0.0 || r.power.is_some());
    });
}

/// One exporter's rows, under DCGM's names for their labels.
struct Rows<'a> {
    page: &'a Page,
    devices: &'a mut BTreeMap<Key, Device>,
    at: Timestamp,
    own: fn(&Labels) -> Labels,
    /// UUIDs of the cards in MIG mode.
    cut: BTreeSet<String>,
}

impl<'a> Rows<'a> {
    fn new(
        page: &'a Page,
        devices: &'a mut BTreeMap<Key, Device>,
        at: Timestamp,
        own: fn(&Labels) -> Labels,
        mig_mode: &str,
    ) -> Self {
        let on = page.series(mig_mode).iter().filter(|s| is_on(s));
        let cut = on.filter_map(|(labels, _)| own(labels).remove(UUID)).collect();
        Self {
            page,
            devices,
            at,
            own,
            cut,
        }
    }

    fn each(&mut self, name: &str, set: &dyn Fn(&mut GpuReading, f64)) {
        for (labels, value) in self.page.series(name) {
            let labels = (self.own)(labels);
            let Some(uuid) = labels.get(UUID) else { continue };
            // A card in MIG mode is none to hand out, and its memory is its instances'.
            if !labels.contains_key(INSTANCE) && self.cut.contains(uuid) {
                continue;
            }
            let key = Device::of(self.devices, &labels, self.at);
            if let Some(device) = self.devices.get_mut(&key) {
                set(&mut device.reading, *value);
            }
        }
    }
}

const UUID: &str = "UUID";
const INSTANCE: &str = "GPU_I_ID";

/// DCGM's names for the labels of `nvidia_smi_*`. Its `uuid` is the driver's in small letters without "GPU-".
fn nvidia_smi_labels(labels: &Labels) -> Labels {
    let uuid = get(labels, &["uuid"]).map(|u| match u.strip_prefix("GPU-") {
        Some(_) => u,
        None => format!("GPU-{u}"),
    });
    renamed([
        (UUID, uuid),
        ("gpu", get(labels, &["index"])),
        ("modelName", get(labels, &["name"])),
        (INSTANCE, get(labels, &["gpu_instance_id"])),
        ("GPU_I_PROFILE", get(labels, &["profile"])),
    ])
}

/// The same for `all_smi_*`, where `gpu` is the model; `uuid` and `index` are its older names.
fn all_smi_labels(labels: &Labels) -> Labels {
    renamed([
        (UUID, get(labels, &["gpu_uuid", "uuid"])),
        ("gpu", get(labels, &["gpu_index", "index"])),
        ("modelName", get(labels, &["gpu"])),
        (INSTANCE, get(labels, &["gpu_instance_id", "mig_instance"])),
        ("GPU_I_PROFILE", get(labels, &["mig_profile"])),
    ])
}

fn renamed(labels: [(&str, Option<String>); 5]) -> Labels {
    let told = labels
        .into_iter()
        .filter_map(|(name, value)| Some((name.into(), value?)));
    told.collect()
}
