//! Instance types and the ways their GPUs are handed out.

/// One instance type: AWS, Google and Azure price pages of June and July 2026; TDPs of the cards' data sheets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) provider: &'static str,
    pub(super) kind: &'static str,
    pub(super) region: &'static str,
    /// As the vendor's node labeller names the GPU.
    pub(super) label: &'static str,
    pub(super) gpus: u64,
    pub(super) tdp: f64,
    pub(super) cores: u64,
    pub(super) gib: u64,
    /// USD per hour.
    pub(super) on_demand: f64,
    pub(super) spot: f64,
    /// The ways its GPUs are shared here, beside not at all.
    pub(super) cuts: &'static [Cut],
}

/// How a node's GPUs are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Whole,
    /// NVIDIA's device plugin, time-slicing: pods a GPU.
    TimeSliced(u64),
    /// The same with renameByDefault: nvidia.com/gpu.shared.
    Renamed(u64),
    Mps(u64),
    /// GKE's own sharing, by its name.
    Gke(&'static str, u64),
    /// MIG, strategy mixed: so many whole GPUs, the others in one layout.
    Mixed(u64, Layout),
    /// MIG, strategy mixed, and each instance shared by so many pods.
    MixedShared(Layout, u64),
    /// MIG, strategy single: every GPU in equal instances.
    Single(Layout),
    /// AMD's partition mode, GPUs in so many parts, counted as amd.com/gpu.
    Partitions(&'static str, u64),
    /// The same, the resource named after the mode.
    NamedPartitions(&'static str, u64),
}

/// The instances of one card: compute slices of seven, memory units of eight (NVIDIA's MIG user guide, A100 and H100 profiles).
pub(super) type Layout = &'static [(u64, u64)];

const SEVEN: Layout = &[(1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1)];
const BALANCED: Layout = &[(3, 4), (2, 2), (1, 1), (1, 1)];
const TWOS: Layout = &[(2, 2), (2, 2), (2, 2), (1, 1)];
const LARGE: Layout = &[(4, 4), (3, 4)];
const FOUR_TWO_ONE: Layout = &[(4, 4), (2, 2), (1, 1)];
/// Six slices, and no memory for the seventh: it belongs to the two.
const HALVES: Layout = &[(3, 4), (3, 4)];
/// Four instances of double memory: three slices are out of reach.
const WIDE: Layout = &[(1, 2), (1, 2), (1, 2), (1, 2)];
/// A slice and memory are left over.
const THREE_TWOS: Layout = &[(2, 2), (2, 2), (2, 2)];
const THREE_ONE: Layout = &[(3, 4), (1, 1)];
const FOUR: Layout = &[(4, 4)];
const ALL: Layout = &[(7, 8)];

const MIG: &[Cut] = &[
    Cut::Mixed(0, SEVEN),
    Cut::Mixed(4, SEVEN),
    Cut::Mixed(0, BALANCED),
    Cut::Mixed(5, BALANCED),
    Cut::Mixed(6, TWOS),
    Cut::Mixed(3, LARGE),
    Cut::Mixed(4, FOUR_TWO_ONE),
    Cut::Mixed(6, HALVES),
    Cut::Mixed(5, WIDE),
    Cut::Mixed(6, THREE_TWOS),
    Cut::Mixed(2, THREE_ONE),
    Cut::Mixed(7, FOUR),
    Cut::Mixed(6, ALL),
    Cut::MixedShared(HALVES, 2),
    Cut::MixedShared(SEVEN, 2),
    Cut::MixedShared(THREE_TWOS, 3),
    Cut::Single(SEVEN),
    Cut::Single(HALVES),
    Cut::Single(THREE_TWOS),
    Cut::Single(WIDE),
];
const SHARED: &[Cut] = &[Cut::TimeSliced(4), Cut::Mps(3), Cut::Renamed(2)];
const AMD: &[Cut] = &[
    Cut::Partitions("cpx_nps4", 8),
    Cut::NamedPartitions("cpx_nps1", 8),
    Cut::NamedPartitions("dpx_nps2", 2),
    Cut::Partitions("qpx_nps1", 4),
];

impl Cut {
    pub(super) fn mode(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::TimeSliced(_) | Self::Renamed(_) => "time-slicing",
            Self::Mps(_) => "mps",
            Self::Gke(..) => "gke-sharing",
            Self::Mixed(..) => "mig-mixed",
            Self::MixedShared(..) => "mig-shared",
            Self::Single(_) => "mig-single",
            Self::Partitions(..) | Self::NamedPartitions(..) => "amd-partitions",
        }
    }

    /// Pods that each GPU or instance may hold at once.
    pub(super) fn sharers(self) -> usize {
        match self {
            Self::TimeSliced(n) | Self::Renamed(n) | Self::Mps(n) | Self::Gke(_, n) | Self::MixedShared(_, n) => {
                n as usize
            }
            _ => 1,
        }
    }
}

pub(super) const ROWS: &[Row] = &[
    Row {
        provider: "aws",
        kind: "p5.48xlarge",
        region: "us-east-1",
        label: "NVIDIA-H100-80GB-HBM3",
        gpus: 8,
        tdp: 700.0,
        cores: 192,
        gib: 2048,
        on_demand: 55.04,
        spot: 19.4933,
        cuts: MIG,
    },
    Row {
        provider: "aws",
        kind: "p4de.24xlarge",
        region: "us-east-1",
        label: "NVIDIA-A100-SXM4-80GB",
        gpus: 8,
        tdp: 400.0,
        cores: 96,
        gib: 1152,
        on_demand: 27.44705,
        spot: 21.8259,
        cuts: MIG,
    },
    Row {
        provider: "aws",
        kind: "g6e.12xlarge",
        region: "us-east-1",
        label: "NVIDIA-L40S",
        gpus: 4,
        tdp: 350.0,
        cores: 48,
        gib: 384,
        on_demand: 10.49264,
        spot: 3.1479,
        cuts: SHARED,
    },
    Row {
        provider: "aws",
        kind: "g6.2xlarge",
        region: "us-east-1",
        label: "NVIDIA-L4",
        gpus: 1,
        tdp: 72.0,
        cores: 8,
        gib: 32,
        on_demand: 0.9776,
        spot: 0.8792,
        cuts: SHARED,
    },
    Row {
        provider: "azure",
        kind: "Standard_ND96isr_H100_v5",
        region: "eastus",
        label: "NVIDIA-H100-80GB-HBM3",
        gpus: 8,
        tdp: 700.0,
        cores: 96,
        gib: 1900,
        on_demand: 98.32,
        spot: 18.984,
        cuts: MIG,
    },
    Row {
        provider: "gce",
        kind: "a3-highgpu-8g",
        region: "us-central1",
        label: "NVIDIA-H100-80GB-HBM3",
        gpus: 8,
        tdp: 700.0,
        cores: 208,
        gib: 1872,
        on_demand: 88.49,
        spot: 50.6095,
        cuts: MIG,
    },
    Row {
        provider: "gce",
        kind: "a2-highgpu-8g",
        region: "us-central1",
        label: "NVIDIA-A100-SXM4-40GB",
        gpus: 8,
        tdp: 400.0,
        cores: 96,
        gib: 680,
        on_demand: 29.3871,
        spot: 15.4242,
        cuts: MIG,
    },
    Row {
        provider: "gce",
        kind: "g2-standard-24",
        region: "us-central1",
        label: "NVIDIA-L4",
        gpus: 2,
        tdp: 72.0,
        cores: 24,
        gib: 96,
        on_demand: 2.0008,
        spot: 1.1248,
        cuts: &[Cut::Gke("time-sharing", 3), Cut::Gke("mps", 4)],
    },
    Row {
        provider: "azure",
        kind: "Standard_ND96is_MI300X_v5",
        region: "eastus2",
        label: "AMD_Instinct_MI300X_OAM",
        gpus: 8,
        tdp: 750.0,
        cores: 96,
        gib: 1850,
        on_demand: 48.0,
        spot: 8.872,
        cuts: AMD,
    },
];
