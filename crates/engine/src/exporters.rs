//! GPU exporters: how their pods are known, where they answer, and how they name devices. Which figures they have is in
//! `metrics::devices`.

use crate::snapshot::cluster::{Container, ContainerRole};

/// A program that shows what GPUs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExporterKind {
    Dcgm,
    /// AMD's device-metrics-exporter.
    Amd,
    /// Intel's metric exporter for Gaudi.
    Gaudi,
    /// utkuozdemir's nvidia_gpu_exporter.
    NvidiaSmi,
    /// lablup's all-smi.
    AllSmi,
}

/// What is said of an exporter, beside its figures.
#[derive(Debug)]
pub struct Exporter {
    pub kind: ExporterKind,
    /// As reports call it.
    pub title: &'static str,
    /// Parts of the names of its images and of its charts' containers, `-` for `_`.
    pub names: &'static [&'static str],
    /// Its own program, in an image of one's own.
    pub program: &'static str,
    /// Where it listens unless told otherwise.
    pub port: u16,
    /// Parts of its pods' names, by which those that are gone are known.
    pub pods: &'static [&'static str],
    /// Its series say who holds a device. Of the others, a store tells nothing that could be judged.
    pub names_holders: bool,
    pub labels: DeviceLabels,
}

/// Where a device's identity stands in its rows: of several labels the first that is there.
#[derive(Debug)]
pub struct DeviceLabels {
    /// The device's own id.
    pub uuid: &'static [&'static str],
    /// Where there is none: of these sets the first of which anything is there, joined by `/`.
    pub places: &'static [&'static [&'static str]],
    /// What stands before the id in every other source, and not here.
    pub uuid_prefix: &'static str,
    pub index: &'static [&'static str],
    pub model: &'static [&'static str],
    /// A MIG instance or another part of the card.
    pub instance: &'static [&'static str],
    /// Part 0, or what is no number, is the card itself (AMD's partitions; MIG has an instance 0).
    pub part_0_is_the_card: bool,
    pub profile: &'static [&'static str],
    /// The workload's (namespace, pod, container), in the order of trust.
    pub holders: &'static [[&'static str; 3]],
}

/// `exported_*` first: a scrape without honorLabels moves the workload's labels there and leaves its target's.
const KUBERNETES: &[[&str; 3]] = &[
    ["exported_namespace", "exported_pod", "exported_container"],
    ["namespace", "pod", "container"],
    ["pod_namespace", "pod_name", "container_name"],
];

/// Every exporter (each project's own documentation).
pub static EXPORTERS: &[Exporter] = &[
    Exporter {
        kind: ExporterKind::Dcgm,
        title: "dcgm-exporter",
        names: &["dcgm-exporter"],
        program: "dcgm-exporter",
        port: 9400,
        pods: &["dcgm"],
        names_holders: true,
        labels: DeviceLabels {
            uuid: &["UUID", "uuid", "gpu_uuid"],
            places: &[&["gpu"], &["device"]],
            uuid_prefix: "",
            index: &["gpu"],
            model: &["modelName", "model_name"],
            instance: &["GPU_I_ID"],
            part_0_is_the_card: false,
            profile: &["GPU_I_PROFILE"],
            holders: KUBERNETES,
        },
    },
    Exporter {
        kind: ExporterKind::Amd,
        title: "AMD's device-metrics-exporter",
        names: &["device-metrics-exporter"],
        program: "amd-metrics-exporter",
        port: 5000,
        pods: &["metrics-exporter"],
        names_holders: true,
        labels: DeviceLabels {
            // The serial number may be empty, the UUID is optional.
            uuid: &["gpu_uuid", "GPU_UUID", "serial_number", "SERIAL_NUMBER"],
            places: &[&["hostname", "gpu_id"]],
            uuid_prefix: "",
            index: &["gpu_id"],
            model: &["card_series", "card_model"],
            instance: &["gpu_partition_id"],
            part_0_is_the_card: true,
            profile: &[],
            holders: KUBERNETES,
        },
    },
    Exporter {
        kind: ExporterKind::Gaudi,
        title: "Gaudi's metric exporter",
        names: &["habana-metric-exporter", "gaudi-metric-exporter"],
        program: "metric-exporter",
        port: 41_611,
        pods: &["metric-exporter"],
        names_holders: true,
        labels: DeviceLabels {
            uuid: &["UUID"],
            places: &[&["device"]],
            uuid_prefix: "",
            index: &["id"],
            model: &[],
            instance: &[],
            part_0_is_the_card: false,
            profile: &[],
            holders: &[
                ["exported_namespace", "exported_pod", "exported_container"],
                ["pod_namespace", "pod_name", "container_name"],
            ],
        },
    },
    Exporter {
        kind: ExporterKind::NvidiaSmi,
        title: "nvidia_gpu_exporter",
        names: &["nvidia-gpu-exporter"],
        program: "nvidia_gpu_exporter",
        port: 9835,
        pods: &["gpu-exporter"],
        names_holders: false,
        labels: DeviceLabels {
            // The driver's, in small letters without its prefix.
            uuid: &["uuid"],
            places: &[],
            uuid_prefix: "GPU-",
            index: &["index"],
            model: &["name"],
            instance: &["gpu_instance_id"],
            part_0_is_the_card: false,
            profile: &["profile"],
            holders: &[],
        },
    },
    Exporter {
        kind: ExporterKind::AllSmi,
        title: "all-smi",
        names: &["all-smi"],
        program: "all-smi",
        port: 9090,
        pods: &["all-smi"],
        names_holders: false,
        labels: DeviceLabels {
            uuid: &["gpu_uuid", "uuid"],
            places: &[],
            uuid_prefix: "",
            index: &["gpu_index", "index"],
            model: &["gpu"],
            instance: &["gpu_instance_id", "mig_instance"],
            part_0_is_the_card: false,
            profile: &["mig_profile"],
            holders: &[],
        },
    },
];

pub fn of(kind: ExporterKind) -> &'static Exporter {
    // Every kind has a row: a test holds it.
    EXPORTERS.iter().find(|e| e.kind == kind).unwrap_or(&EXPORTERS[0])
}

/// Whether an image's or container's name is one of a GPU exporter's.
fn named(name: &str) -> Option<&'static Exporter> {
    let name = name.replace('_', "-");
    EXPORTERS.iter().find(|e| e.names.iter().any(|n| name.contains(n)))
}

/// Whether an image is a GPU exporter's, or a command its program.
pub(crate) fn is_image(repository: &str) -> bool {
    named(repository).is_some()
}

pub fn is_program(name: &str) -> bool {
    EXPORTERS.iter().any(|e| e.program == name)
}

/// The exporter that a container is, where its image or its own name says so: not plugins and drivers, which have nothing to
/// tell.
pub fn of_container(container: &Container) -> Option<&'static Exporter> {
    if container.role != Some(ContainerRole::GpuInfrastructure) {
        return None;
    }
    let image = container.image.as_deref().unwrap_or_default();
    named(image).or_else(|| named(&container.name))
}

/// Whether a pod that nobody can look up is an exporter by its name, and by its container's where that is told: honorLabels
/// leaves the scrape's own target on devices that nobody holds.
pub fn is_pod(pod: &str, container: &str) -> bool {
    EXPORTERS.iter().any(|e| e.pods.iter().any(|p| pod.contains(p)))
        || container == "exporter"
        || named(container).is_some()
}

/// A device, and its MIG instance or partition (empty: the whole card).
pub type DeviceKey = (String, String);

impl DeviceLabels {
    /// Which device a row is of; `label` gives a label's value, empty where it is not there.
    pub fn key<'a>(&self, label: impl Fn(&str) -> &'a str) -> DeviceKey {
        let place = |set: &&[&str]| {
            let parts: Vec<&str> = set.iter().map(|l| label(l)).filter(|v| !v.is_empty()).collect();
            parts.join("/")
        };
        let uuid = first(self.uuid, &label).map(|id| {
            let bare = id.strip_prefix(self.uuid_prefix).unwrap_or(id);
            format!("{}{bare}", self.uuid_prefix)
        });
        let id = uuid.or_else(|| self.places.iter().map(place).find(|id| !id.is_empty()));
        let part = first(self.instance, &label);
        let part = part.filter(|p| !self.part_0_is_the_card || p.parse::<u32>().is_ok_and(|n| n > 0));
        (id.unwrap_or_default(), part.unwrap_or_default().to_string())
    }

    /// The workload that a row names as holder: (namespace, pod, container). Never the exporter's own pod, which the scrape's
    /// target labels leave on devices that nobody holds; `exporter` tells which those are.
    pub fn holder<'a>(
        &self,
        label: impl Fn(&str) -> &'a str,
        exporter: impl Fn(&str, &str, &str) -> bool,
    ) -> Option<(&'a str, &'a str, &'a str)> {
        let mut named = self
            .holders
            .iter()
            .map(|l| (label(l[0]), label(l[1]), label(l[2]), l[1]));
        let (namespace, pod, container, under) = named.find(|(_, pod, ..)| !pod.is_empty())?;
        // What was moved is always the workload's.
        let own = !under.starts_with("exported_") && exporter(namespace, pod, container);
        (!own).then_some((namespace, pod, container))
    }

    /// Every label that is read.
    pub fn all(&self) -> impl Iterator<Item = &'static str> {
        let own = [self.uuid, self.index, self.model, self.instance, self.profile];
        own.into_iter()
            .flatten()
            .chain(self.places.iter().copied().flatten())
            .chain(self.holders.iter().flatten())
            .copied()
    }
}

fn first<'a>(labels: &[&str], label: &impl Fn(&str) -> &'a str) -> Option<&'a str> {
    labels.iter().map(|l| label(l)).find(|v| !v.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exporter_has_a_row_and_names_of_its_own() {
        for exporter in EXPORTERS {
            assert_eq!(of(exporter.kind).title, exporter.title);
            for name in exporter.names {
                let image = format!("registry/{}:1", name.replace('-', "_"));
                assert_eq!(named(&image).map(|e| e.kind), Some(exporter.kind), "{name}");
                assert!(is_pod(&format!("x-{name}-k2p7x"), ""), "{name}");
            }
        }
        for pod in ["vllm-6d5f7c8b9d-x7k2p", "trainer-0", "exporter-of-goods-0"] {
            assert!(!is_pod(pod, "server"), "{pod}");
        }
    }

    #[test]
    fn a_plugin_is_no_exporter() {
        let container = |image: &str, role| Container {
            image: Some(image.into()),
            role,
            ..Container::default()
        };
        let infrastructure = Some(ContainerRole::GpuInfrastructure);
        let of = |image: &str, role| of_container(&container(image, role)).map(|e| e.port);
        assert_eq!(of("nvcr.io/nvidia/k8s/dcgm-exporter:4", infrastructure), Some(9400));
        assert_eq!(of("nvcr.io/nvidia/k8s-device-plugin:v0.17", infrastructure), None);
        assert_eq!(
            of("nvcr.io/nvidia/k8s/dcgm-exporter:4", None),
            None,
            "not by its name alone"
        );
    }
}
