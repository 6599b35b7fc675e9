//! What a store calls things: which metric names it has in the window, and under which labels owners stand.

use super::tag::DeviceStat;
use crate::engine::ENGINES;
use crate::engine::metrics::figures::LoadFigure;
use std::collections::{BTreeMap, BTreeSet};

/// Who makes a device, which says how its exporter names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    Nvidia,
    /// AMD's device-metrics-exporter, with or without its usual prefix.
    Amd,
    /// Intel's Prometheus metric exporter for Gaudi.
    Gaudi,
    /// NVIDIA's, as jobstats' exporter names them, with the job that Slurm's prolog wrote down in the label `jobid`
    /// (plazonic/nvidia_gpu_prometheus_exporter, main.go).
    Jobstats,
    /// NVIDIA's, as slurm-job-exporter finds them in jobs' cgroups, with the job in `slurmjobid` (guilbaults/slurm-job-exporter,
    /// slurm-job-exporter.py): there while a job runs.
    SlurmJob,
}

impl Maker {
    /// Its series name Slurm's jobs: read of hosts alone.
    pub(super) const fn names_jobs(self) -> bool {
        matches!(self, Self::Jobstats | Self::SlurmJob)
    }

    /// Matchers that every selector of its devices has, ended with a comma: an instance's figures are those of its whole card, or none.
    pub(super) const fn matcher(self) -> &'static str {
        match self {
            // A partitioned AMD card shows its activity on partition 0 only: whose it is cannot be told.
            Self::Amd => "gpu_compute_partition_type!~\"(?i:dpx|tpx|qpx|cpx)\",",
            Self::Jobstats => "GPU_I_ID=\"\",",
            Self::SlurmJob => "gpu!~\"MIG-.+\",",
            Self::Nvidia | Self::Gaudi => "",
        }
    }
}

/// One exporter's name for a figure.
pub(super) struct DeviceName {
    pub(super) name: &'static str,
    /// To the snapshot's unit.
    pub(super) scale: &'static str,
    pub(super) maker: Maker,
}

/// A figure under all its names: a store may have both of DCGM's generations in one window (dcgm-exporter 4.9 renamed
/// them: GPU_UTIL was percent and is 0–1, memory was MiB and is bytes), and devices of several makers.
pub(super) struct DeviceFigure {
    pub(super) id: DeviceStat,
    pub(super) names: &'static [DeviceName],
}

const fn of(maker: Maker, name: &'static str, scale: &'static str) -> DeviceName {
    DeviceName { name, scale, maker }
}

pub(super) const DEVICE_FIGURES: &[DeviceFigure] = &[
    DeviceFigure {
        id: DeviceStat::Utilization,
        names: &[
            of(Maker::Nvidia, "DCGM_FI_DEV_GPU_UTIL", "/100"),
            of(Maker::Nvidia, "DCGM_FI_DEV_GPU_UTIL_RATIO", ""),
            of(Maker::Amd, "gpu_gfx_activity", "/100"),
            of(Maker::Amd, "amd_gpu_gfx_activity", "/100"),
            of(Maker::Gaudi, "habanalabs_utilization", "/100"),
            of(Maker::Jobstats, "nvidia_gpu_duty_cycle", "/100"),
            of(Maker::SlurmJob, "slurm_job_utilization_gpu", "/100"),
        ],
    },
    DeviceFigure {
        id: DeviceStat::Engine,
        names: &[
            of(Maker::Nvidia, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", ""),
            of(Maker::Nvidia, "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO", ""),
        ],
    },
    DeviceFigure {
        id: DeviceStat::Sm,
        names: &[
            of(Maker::Nvidia, "DCGM_FI_PROF_SM_ACTIVE", ""),
            of(Maker::Nvidia, "DCGM_FI_PROF_SM_UTIL_RATIO", ""),
        ],
    },
    DeviceFigure {
        id: DeviceStat::Tensor,
        names: &[
            of(Maker::Nvidia, "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", ""),
            of(Maker::Nvidia, "DCGM_FI_PROF_TENSOR_UTIL_RATIO", ""),
        ],
    },
    DeviceFigure {
        id: DeviceStat::Dram,
        names: &[
            of(Maker::Nvidia, "DCGM_FI_PROF_DRAM_ACTIVE", ""),
            of(Maker::Nvidia, "DCGM_FI_PROF_DRAM_UTIL_RATIO", ""),
            of(Maker::Amd, "gpu_umc_activity", "/100"),
            of(Maker::Amd, "amd_gpu_umc_activity", "/100"),
        ],
    },
    DeviceFigure {
        id: DeviceStat::Power,
        names: &[
            of(Maker::Nvidia, "DCGM_FI_DEV_POWER_USAGE", ""),
            of(Maker::Nvidia, "DCGM_FI_DEV_BOARD_POWER_WATTS", ""),
            of(Maker::Amd, "gpu_package_power", ""),
            of(Maker::Amd, "amd_gpu_package_power", ""),
            of(Maker::Amd, "gpu_average_package_power", ""),
            of(Maker::Amd, "amd_gpu_average_package_power", ""),
            of(Maker::Gaudi, "habanalabs_power_mW", "/1000"),
            of(Maker::Jobstats, "nvidia_gpu_power_usage_milliwatts", "/1000"),
            of(Maker::SlurmJob, "slurm_job_power_gpu", "/1000"),
        ],
    },
    DeviceFigure {
        id: DeviceStat::Memory,
        names: &[
            of(Maker::Nvidia, "DCGM_FI_DEV_FB_USED", "*1048576"),
            of(Maker::Nvidia, "DCGM_FI_DEV_FB_USED_BYTES", ""),
            of(Maker::Amd, "gpu_used_vram", "*1000000"),
            of(Maker::Amd, "amd_gpu_used_vram", "*1000000"),
            of(Maker::Gaudi, "habanalabs_memory_used_bytes", ""),
            of(Maker::Jobstats, "nvidia_gpu_memory_used_bytes", ""),
            of(Maker::SlurmJob, "slurm_job_memory_usage_gpu", ""),
        ],
    },
];

/// The video engines of NVIDIA's cards: no kernel runs while they work, so that they count beside utilization.
pub(super) const VIDEO: &[DeviceName] = &[
    of(Maker::Nvidia, "DCGM_FI_DEV_ENC_UTIL", "/100"),
    of(Maker::Nvidia, "DCGM_FI_DEV_ENC_UTIL_RATIO", ""),
    of(Maker::Nvidia, "DCGM_FI_DEV_DEC_UTIL", "/100"),
    of(Maker::Nvidia, "DCGM_FI_DEV_DEC_UTIL_RATIO", ""),
];

/// Matches the devices' names; anchored by the store.
pub(super) fn device_names_pattern() -> String {
    let others = DEVICE_FIGURES
        .iter()
        .flat_map(|f| f.names)
        .filter(|n| n.maker != Maker::Nvidia)
        .map(|n| n.name);
    std::iter::once("DCGM_FI_(DEV|PROF)_.+")
        .chain(others)
        .collect::<Vec<_>>()
        .join("|")
}

/// Exporters whose series do not say who holds a device, by a figure that they always have: they are read live, from their
/// pods.
const WITHOUT_HOLDERS: &[(&str, &str)] = &[
    ("nvidia_gpu_exporter", "nvidia_smi_utilization_gpu_ratio"),
    ("all-smi", "all_smi_gpu_utilization"),
];

/// Names outside of the engines' vocabularies that a scan asks for.
const OTHERS: &[&str] = &[
    "container_cpu_usage_seconds_total",
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_spec_cpu_quota",
    "container_spec_cpu_period",
    "machine_cpu_cores",
    "kube_pod_container_resource_limits",
    "kube_pod_container_resource_requests",
    "kube_pod_status_phase",
    "kube_pod_container_status_restarts_total",
    "kube_pod_container_status_last_terminated_reason",
    "kube_pod_container_status_last_terminated_exitcode",
];

/// Matches every name that a scan may ask for; anchored by the store.
pub(super) fn names_pattern() -> String {
    let mut parts = vec![device_names_pattern(), ENGINES.store_pattern()];
    let without_holders = WITHOUT_HOLDERS.iter().map(|(_, name)| name);
    parts.extend(OTHERS.iter().chain(without_holders).map(|n| (*n).to_string()));
    parts.join("|")
}

/// How a device's holder stands in its labels (honorLabels of the scrape).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// `pod`, `namespace` are the workload's.
    Plain,
    /// The workload's were moved to `exported_pod`, `exported_namespace`.
    Exported,
    /// Both are found: several exporters or clusters in one store.
    Both,
    /// Devices are not mapped to pods.
    Nobody,
}

/// What one store has.
#[derive(Clone, Debug)]
pub(super) struct Words {
    /// As the store writes them.
    pub(super) names: BTreeSet<String>,
    pub(super) gpu_labels: BTreeSet<String>,
    pub(super) engine_labels: BTreeSet<String>,
    pub(super) owner: Owner,
    /// Matchers that every selector gets: the cluster's label, or what the user gave. Empty, or ends with a comma.
    pub(super) scope: String,
    /// Containers that hold GPUs, to keep cAdvisor's thousands of others out; empty: not known.
    pub(super) containers: Vec<String>,
    pub(super) namespaces: Vec<String>,
    /// CPU limits as the pods' specifications have them, for stores without a metric of them.
    pub(super) cpu_limits: Vec<CpuLimit>,
    /// Whether it knows the `@` modifier (Prometheus since 2.33).
    pub(super) pins: bool,
    /// Hosts of devices are told by the address that they are scraped at alone.
    pub(super) hosts_by_address: bool,
}

/// Labels that tell copies of one series apart, not different things: two Prometheis of an HA pair, two monitors of one
/// pod, the ranks of one tensor-parallel group.
const COPIES: &[&str] = &[
    "job",
    "endpoint",
    "service",
    "prometheus",
    "prometheus_replica",
    "replica",
    "receive",
    "__replica__",
    "tp_rank",
    "pp_rank",
    "moe_ep_rank",
    "pid",
];

/// Cores that a container of this name may use, where all pods of its namespace agree on it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CpuLimit {
    pub(super) namespace: String,
    pub(super) container: String,
    pub(super) cores: f64,
}

impl Words {
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(super) fn has_devices(&self) -> bool {
        let makers = [
            Maker::Nvidia,
            Maker::Amd,
            Maker::Gaudi,
            Maker::Jobstats,
            Maker::SlurmJob,
        ];
        makers.iter().any(|m| self.makes(*m))
    }

    /// Its devices are those of exporters that name Slurm's jobs.
    pub(super) fn of_jobs(&self) -> bool {
        self.makes(Maker::Jobstats) || self.makes(Maker::SlurmJob)
    }

    /// Series that name jobs are read of hosts, and where nothing tells more of the same devices.
    pub(super) fn settle(&mut self, hosts: bool) {
        if !hosts || self.makes(Maker::Nvidia) {
            let of_jobs = |n: &&DeviceName| n.maker.names_jobs();
            for name in DEVICE_FIGURES.iter().flat_map(|f| f.names).filter(of_jobs) {
                self.names.remove(name.name);
            }
        }
        let hosts = ["node", "Hostname", "hostname"];
        self.hosts_by_address = self.of_jobs() && !hosts.iter().any(|l| self.gpu_labels.contains(*l));
        if self.hosts_by_address {
            self.gpu_labels.insert("Hostname".into());
        }
    }

    /// Whether it has a maker's devices.
    pub(super) fn makes(&self, maker: Maker) -> bool {
        DEVICE_FIGURES
            .iter()
            .flat_map(|f| f.names)
            .any(|n| n.maker == maker && self.has(n.name))
    }

    /// Devices that other exporters than dcgm-exporter name.
    pub(super) fn foreign(&self) -> bool {
        self.makes(Maker::Amd) || self.makes(Maker::Gaudi)
    }

    /// Exporters whose devices it has, and nobody's holders.
    pub(super) fn without_holders(&self) -> Vec<&'static str> {
        let found = WITHOUT_HOLDERS.iter().filter(|(_, name)| self.has(name));
        found.map(|(exporter, _)| *exporter).collect()
    }

    pub(super) fn has_engines(&self) -> bool {
        [LoadFigure::Running, LoadFigure::Requests, LoadFigure::OutputTokens]
            .into_iter()
            .any(|f| !self.groups(f).is_empty())
    }

    pub(super) fn uuid(&self) -> &'static str {
        ["UUID", "uuid", "gpu_uuid"]
            .into_iter()
            .find(|l| self.gpu_labels.contains(*l))
            .unwrap_or("UUID")
    }

    /// The labels of an engine's pod: annotation-based scrapes have names of their own.
    pub(super) fn pod_labels(&self) -> (&'static str, &'static str) {
        let find = |names: &[&'static str]| {
            names
                .iter()
                .copied()
                .find(|l| self.engine_labels.contains(*l))
                .unwrap_or(names[0])
        };
        (
            find(&["namespace", "kubernetes_namespace"]),
            // Outside of Kubernetes a server is its address.
            find(&["pod", "kubernetes_pod_name", "instance"]),
        )
    }

    pub(super) fn copies(&self) -> String {
        let found: Vec<&str> = COPIES
            .iter()
            .copied()
            .filter(|l| self.engine_labels.contains(*l))
            .collect();
        if found.is_empty() {
            "job".into()
        } else {
            found.join(",")
        }
    }

    /// Selectors of one figure over all engines: the first has each engine's preferred name, the next their older ones.
    /// Names of one group never stand on one pod together; those of different groups may.
    pub(super) fn groups(&self, figure: LoadFigure) -> Vec<String> {
        self.groups_with(figure, "")
    }

    pub(super) fn groups_with(&self, figure: LoadFigure, suffix: &str) -> Vec<String> {
        let mut selectors = Vec::new();
        for group in ENGINES.store_names(figure) {
            // By what further matchers the names need.
            let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for name in group {
                let model = name.vocabulary.bare().flatten();
                let more = model.map_or(String::new(), |label| format!("{label}!=\"\",")) + &name.series.rows.matcher();
                for wanted in name.vocabulary.names(name.series.name) {
                    let wanted = format!("{wanted}{suffix}").replace(':', "_");
                    let known = self.names.iter().find(|n| n.replace(':', "_") == wanted);
                    found.entry(more.clone()).or_default().extend(known.map(String::as_str));
                }
            }
            let found = found.into_iter().filter(|(_, names)| !names.is_empty());
            selectors.extend(
                found.map(|(more, names)| format!("{{__name__=~\"{}\",{more}{}}}", names.join("|"), self.scope)),
            );
        }
        selectors
    }

    pub(super) fn selector(&self, name: &str, more: &str) -> String {
        if self.scope.is_empty() && more.is_empty() {
            name.to_string()
        } else {
            format!("{name}{{{}{more}}}", self.scope)
        }
    }
}
