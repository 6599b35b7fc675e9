//! Pages of GPU exporters, read by the table of figures (`devices`) and of labels (`exporters`).

use super::devices::{DEVICES, DeviceFigure, DeviceSeries, Of};
use super::page::{Page, Series};
use crate::exporters::{self, DeviceKey, EXPORTERS, Exporter, ExporterKind};
use crate::snapshot::gpu::{DeviceHealth, Generation, GpuReading, GpuScrape, MigInstance, PodName};
use crate::units::{Bytes, Ratio, Watts};
use gpuwaste_facts::limits::{self, Card, Impossible};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

type Labels = BTreeMap<String, String>;

/// What an exporter writes beside its figures, where one does.
struct Signs {
    exporter: ExporterKind,
    /// Rows that name devices and tell nothing of them.
    info: &'static [&'static str],
    /// 1 where a card is cut into instances: its own rows are then not a device's.
    mig_mode: &'static str,
    /// 0: what stands on the page is of an earlier time.
    success: &'static str,
    /// It writes 0 for what the driver would not tell.
    zero_is_unread: bool,
}

const SIGNS: &[Signs] = &[
    Signs {
        exporter: ExporterKind::NvidiaSmi,
        info: &["nvidia_smi_gpu_info", "nvidia_smi_mig_info"],
        mig_mode: "nvidia_smi_mig_mode_current",
        success: "nvidia_smi_last_collect_success",
        zero_is_unread: false,
    },
    Signs {
        exporter: ExporterKind::AllSmi,
        info: &[],
        mig_mode: "all_smi_gpu_mig_mode",
        success: "",
        zero_is_unread: true,
    },
];

/// Writes a row's value into what is known of a card's health.
type Sets = fn(&mut DeviceHealth, f64);

/// What of a card's health dcgm-exporter tells (etc/default-counters.csv; the first is of the 1.x names). They make no device: a
/// card without any figure is none that could be judged.
const HEALTH: &[(&str, Sets)] = &[
    ("dcgm_xid_errors", |h, v| h.last_xid = xid(v)),
    ("DCGM_FI_DEV_XID_ERRORS", |h, v| h.last_xid = xid(v)),
    ("DCGM_FI_DEV_ROW_REMAP_FAILURE", |h, v| h.remap_failed = Some(v > 0.0)),
    ("DCGM_FI_DEV_ROW_REMAP_PENDING", |h, v| h.remap_pending = Some(v > 0.0)),
];

/// More than any XID there is (NVIDIA's catalogue ends below 200).
const MOST_XID: f64 = 1_000.0;

fn xid(value: f64) -> Option<u32> {
    (1.0..MOST_XID).contains(&value).then_some(value as u32)
}

pub fn is_wanted(name: &str) -> bool {
    // Most lines of a page are of DCGM's other fields.
    let first = |prefix: &str| name.starts_with(prefix);
    let may = ["DCGM_", "dcgm_", "gpu_", "amd_", "habana", "nvidia_smi_", "all_smi_"];
    may.iter().any(|p| first(p))
        && (DEVICES.iter().any(|s| s.name == name)
            || HEALTH.iter().any(|(n, _)| *n == name)
            || SIGNS
                .iter()
                .any(|s| s.info.contains(&name) || s.mig_mode == name || s.success == name))
}

/// Devices of one node's page, parts of cut cards included: sixteen cards of seven instances are 112.
const MOST_DEVICES: usize = 1_024;

/// What an exporter's page told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DevicePage {
    /// Empty: the page holds no GPU figures.
    pub gpus: Vec<GpuScrape>,
    /// What can be no reading, and whose it would be; it is in no reading.
    pub impossible: Vec<(String, DeviceFigure, Impossible)>,
}

/// [`read`], without what was dropped.
pub fn page(text: &[u8], at: Timestamp, node: &str) -> Vec<GpuScrape> {
    read(text, at, node).gpus
}

/// Reads an exporter's page. `node` is where the exporter runs: its own host label may be its pod's name (trap 2).
pub fn read(text: &[u8], at: Timestamp, node: &str) -> DevicePage {
    let page = Page::parse(text, is_wanted);
    let mut impossible = Vec::new();
    let mut generation = None;
    let mut devices: BTreeMap<DeviceKey, Device> = BTreeMap::new();
    for exporter in EXPORTERS {
        let signs = SIGNS.iter().find(|s| s.exporter == exporter.kind);
        if signs.is_some_and(|s| collection_failed(&page, s)) {
            continue;
        }
        let cut = signs.map(|s| cut_cards(&page, exporter, s)).unwrap_or_default();
        let own = &mut Reader {
            exporter,
            cut,
            devices: &mut devices,
            impossible: &mut impossible,
        };
        for name in signs.map_or(&[][..], |s| s.info) {
            for (labels, _) in page.series(name) {
                own.device(labels);
            }
        }
        for series in DEVICES.iter().filter(|s| s.exporter == exporter.kind) {
            if own.figure(series, page.series(series.name)) {
                generation = generation.max(Some(series.generation));
            }
        }
        if exporter.kind == ExporterKind::Dcgm {
            own.health(&page);
        }
        if signs.is_some_and(|s| s.zero_is_unread) {
            devices.values_mut().for_each(Device::forget_zeros);
        }
        // Of several exporters on one page the first is whose page it is.
        if !devices.is_empty() {
            break;
        }
    }
    if devices.len() > MOST_DEVICES {
        devices.clear();
    }
    DevicePage {
        gpus: finish(devices, at, node, generation),
        impossible,
    }
}

/// Why `read` found nothing, and the way out.
pub fn nothing(text: &[u8]) -> (&'static str, &'static str) {
    let page = Page::parse(text, is_wanted);
    if DEVICES.iter().any(|s| page.series(s.name).len() > MOST_DEVICES) {
        return (
            "the page tells of more GPUs than a node can have",
            "look at the pod: an exporter tells of its own node's GPUs",
        );
    }
    if SIGNS.iter().any(|s| collection_failed(&page, s)) {
        return (
            "nvidia-smi failed in the exporter's last collection",
            "look at the exporter's log; its pod needs the NVIDIA runtime (runtimeClassName: nvidia)",
        );
    }
    if SIGNS.iter().any(|s| page.series(s.mig_mode).iter().any(is_on)) {
        return (
            "its GPUs are cut into MIG instances, of which nvidia-smi tells nothing",
            "dcgm-exporter tells each instance's activity and holder",
        );
    }
    (
        "the page holds no GPU figures",
        "check the exporter's counters file and that it answers with text",
    )
}

fn is_on((_, value): &Series) -> bool {
    *value > 0.0
}

fn collection_failed(page: &Page, signs: &Signs) -> bool {
    let told = page.series(signs.success);
    !told.is_empty() && !told.iter().any(is_on)
}

/// A card in MIG mode is none to hand out, and its memory is its instances'.
fn cut_cards(page: &Page, exporter: &Exporter, signs: &Signs) -> BTreeSet<String> {
    let on = page.series(signs.mig_mode).iter().filter(|s| is_on(s));
    on.map(|(labels, _)| exporter.labels.key(value_of(labels)).0).collect()
}

fn value_of<'a>(labels: &'a Labels) -> impl Fn(&str) -> &'a str {
    move |name| labels.get(name).map_or("", String::as_str)
}

/// DCGM's words for "no value" of 64-bit integers, of doubles and of 32-bit integers (dcgm_structs.h, `DCGM_INT64_BLANK`,
/// `DCGM_FP64_BLANK`, `DCGM_INT32_BLANK`, each with fifteen shades above it).
fn is_blank(value: f64) -> bool {
    let shades = |first: f64| value >= first && value < first + 16.0;
    value >= 9.2e18 || shades(140_737_488_355_328.0) || shades(2_147_483_632.0)
}

struct Reader<'a> {
    exporter: &'static Exporter,
    cut: BTreeSet<String>,
    devices: &'a mut BTreeMap<DeviceKey, Device>,
    impossible: &'a mut Vec<(String, DeviceFigure, Impossible)>,
}

impl Reader<'_> {
    /// The device that a row is of; `None`: of none that can be held.
    fn device(&mut self, labels: &Labels) -> Option<DeviceKey> {
        let names = &self.exporter.labels;
        let key = names.key(value_of(labels));
        // Without a name it is nobody's, where the exporter always gives one.
        let unnamed = key.0.is_empty() && names.places.is_empty();
        if unnamed || (key.1.is_empty() && self.cut.contains(&key.0)) {
            return None;
        }
        let device = self
            .devices
            .entry(key.clone())
            .or_insert_with(|| Device::of(self.exporter));
        device.add(labels);
        Some(key)
    }

    /// What is said of the cards that are known already; of a card's instances each repeats it.
    fn health(&mut self, page: &Page) {
        let names = &self.exporter.labels;
        for (name, set) in HEALTH {
            for (labels, value) in page.series(name).iter().filter(|(_, v)| !is_blank(*v)) {
                let (card, _) = names.key(value_of(labels));
                for (_, device) in self.devices.iter_mut().filter(|((own, _), _)| *own == card) {
                    // Sharers repeat the row: what one of them says stands.
                    let mut said = DeviceHealth::default();
                    set(&mut said, *value);
                    let failed = |a: Option<bool>, b: Option<bool>| if b == Some(true) { b } else { a.or(b) };
                    device.health = DeviceHealth {
                        last_xid: device.health.last_xid.or(said.last_xid),
                        remap_failed: failed(device.health.remap_failed, said.remap_failed),
                        remap_pending: failed(device.health.remap_pending, said.remap_pending),
                    };
                }
            }
        }
    }

    /// Reads one name's rows; whether there are any.
    fn figure(&mut self, series: &DeviceSeries, rows: &[Series]) -> bool {
        let scale = series.unit.scale(rows.iter().map(|(_, v)| *v));
        // Sharers repeat a device's value, or show their own part of it beside the device's row: never a sum (trap 5).
        let mut largest: BTreeMap<DeviceKey, f64> = BTreeMap::new();
        for (labels, value) in rows {
            let Some(key) = self.device(labels) else { continue };
            let Some(scale) = scale.filter(|_| !is_blank(*value)) else {
                continue;
            };
            if series.of == Of::WholeCards && !key.1.is_empty() {
                continue;
            }
            match limits::check(series.figure.quantity(), scale.of(*value), &Card::UNKNOWN) {
                Ok(value) => {
                    let own = largest.entry(key).or_insert(value);
                    *own = own.max(value);
                }
                Err(error) => self.impossible.push((key.0, series.figure, error)),
            }
        }
        for (key, value) in largest {
            if let Some(device) = self.devices.get_mut(&key) {
                // The preferred name's value stands.
                device.values.entry(series.figure).or_insert(value);
            }
        }
        !rows.is_empty()
    }
}

struct Device {
    exporter: &'static Exporter,
    labels: Labels,
    holders: Vec<PodName>,
    maps_pods: bool,
    values: BTreeMap<DeviceFigure, f64>,
    health: DeviceHealth,
}

impl Device {
    fn of(exporter: &'static Exporter) -> Self {
        Self {
            exporter,
            labels: Labels::new(),
            holders: Vec::new(),
            maps_pods: false,
            values: BTreeMap::new(),
            health: DeviceHealth::default(),
        }
    }

    fn add(&mut self, labels: &Labels) {
        // Not every row has every label.
        for (name, value) in labels {
            self.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let names = &self.exporter.labels;
        self.maps_pods |= names.holders.iter().any(|l| labels.contains_key(l[1]));
        let exporter = |_: &str, pod: &str, container: &str| exporters::is_pod(pod, container);
        if let Some((namespace, name, container)) = names.holder(value_of(labels), exporter) {
            let holder = PodName {
                namespace: namespace.into(),
                name: name.into(),
                container: Some(container.to_string()).filter(|c| !c.is_empty()),
            };
            if !self.holders.contains(&holder) {
                self.holders.push(holder);
            }
        }
    }

    /// No card has no memory and no powered card draws 0 W: those are no readings, and neither are zeros beside them.
    fn forget_zeros(&mut self) {
        let mut forget = |figure: DeviceFigure, unless: Option<DeviceFigure>| {
            let told = unless.is_some_and(|u| self.values.contains_key(&u));
            if !told && self.values.get(&figure).is_some_and(|v| *v <= 0.0) {
                self.values.remove(&figure);
            }
        };
        forget(DeviceFigure::MemoryTotal, None);
        forget(DeviceFigure::MemoryUsed, Some(DeviceFigure::MemoryTotal));
        forget(DeviceFigure::Power, None);
        forget(DeviceFigure::GpuUtil, Some(DeviceFigure::Power));
    }

    fn reading(&self, at: Timestamp) -> GpuReading {
        let value = |figure: DeviceFigure| self.values.get(&figure).copied();
        let ratio = |figure: DeviceFigure| value(figure).map(Ratio);
        let bytes = |v: f64| Bytes(v as u64);
        let parts = || {
            let (used, free) = (value(DeviceFigure::MemoryUsed)?, value(DeviceFigure::MemoryFree)?);
            Some(used + free + value(DeviceFigure::MemoryReserved).unwrap_or(0.0))
        };
        // A card that only transcodes runs no kernel, and works all the same. That no video is coded says nothing alone.
        let coded = [DeviceFigure::Encoder, DeviceFigure::Decoder].map(value);
        let coded = coded.into_iter().flatten().filter(|v| *v > 0.0);
        GpuReading {
            at,
            gpu_util: value(DeviceFigure::GpuUtil)
                .into_iter()
                .chain(coded)
                .reduce(f64::max)
                .map(Ratio),
            gr_engine: ratio(DeviceFigure::GrEngine),
            sm_active: ratio(DeviceFigure::SmActive),
            tensor: ratio(DeviceFigure::Tensor),
            dram: ratio(DeviceFigure::Dram),
            power: value(DeviceFigure::Power).map(Watts),
            memory_used: value(DeviceFigure::MemoryUsed).map(bytes),
            memory_total: value(DeviceFigure::MemoryTotal).or_else(parts).map(bytes),
            energy_joules: value(DeviceFigure::Energy),
        }
    }
}

/// Parent rows beside MIG rows are dropped: never add parent and children.
fn finish(
    devices: BTreeMap<DeviceKey, Device>,
    at: Timestamp,
    node: &str,
    generation: Option<Generation>,
) -> Vec<GpuScrape> {
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
            let names = &device.exporter.labels;
            let get = |keys: &[&str]| {
                let found = keys.iter().filter_map(|k| device.labels.get(*k));
                found.into_iter().find(|v| !v.is_empty()).cloned()
            };
            GpuScrape {
                node: node.to_string(),
                uuid: Some(uuid).filter(|u| !u.is_empty()),
                index: get(names.index).and_then(|i| i.parse().ok()),
                model: get(names.model),
                mig: (!instance.is_empty()).then(|| MigInstance {
                    profile: get(names.profile).unwrap_or_default(),
                    id: instance,
                }),
                maps_pods,
                generation: generation.or_else(|| {
                    let mut own = DEVICES.iter().filter(|s| s.exporter == device.exporter.kind);
                    own.next().map(|s| s.generation)
                }),
                readings: vec![device.reading(at)],
                health: device.health,
                holders: device.holders,
            }
        })
        .collect()
}
