//! Fleets whose truth is known because it was decided before the snapshot was written: prices, states and dollars are
//! this file's own arithmetic, from the clouds' published prices, and never the product's.

mod pods;

use super::Dice;
use crate::catalog::prices::PriceBook;
use crate::snapshot::cluster::{Cluster, Condition, Node, PodsRead, Resources, Taint};
use crate::snapshot::gpu::PodName;
use crate::snapshot::{SCHEMA, Snapshot, Source, SourceKind, SourceStatus};
use crate::units::{Bytes, MilliCores};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

pub(super) const HOUR: i64 = 3600;
pub(super) const DAY: i64 = 24 * HOUR;

/// (provider, instance type, region, GPU label, GPUs, TDP W, vCPU, GiB, on-demand USD/h, spot USD/h): AWS, Google and Azure
/// price pages of June and July 2026; TDPs of the cards' data sheets.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u64,
    f64,
    u64,
    u64,
    f64,
    f64,
);
const ROWS: &[Row] = &[
    (
        "aws",
        "p5.48xlarge",
        "us-east-1",
        "NVIDIA-H100-80GB-HBM3",
        8,
        700.0,
        192,
        2048,
        55.04,
        19.4933,
    ),
    (
        "aws",
        "p4de.24xlarge",
        "us-east-1",
        "NVIDIA-A100-SXM4-80GB",
        8,
        400.0,
        96,
        1152,
        27.44705,
        21.8259,
    ),
    (
        "aws",
        "g6e.12xlarge",
        "us-east-1",
        "NVIDIA-L40S",
        4,
        350.0,
        48,
        384,
        10.49264,
        3.1479,
    ),
    (
        "aws",
        "g6.2xlarge",
        "us-east-1",
        "NVIDIA-L4",
        1,
        72.0,
        8,
        32,
        0.9776,
        0.8792,
    ),
    (
        "azure",
        "Standard_ND96isr_H100_v5",
        "eastus",
        "NVIDIA-H100-80GB-HBM3",
        8,
        700.0,
        96,
        1900,
        98.32,
        18.984,
    ),
    (
        "gce",
        "a3-highgpu-8g",
        "us-central1",
        "NVIDIA-H100-80GB-HBM3",
        8,
        700.0,
        208,
        1872,
        88.49,
        50.6095,
    ),
    (
        "gce",
        "a2-highgpu-8g",
        "us-central1",
        "NVIDIA-A100-SXM4-40GB",
        8,
        400.0,
        96,
        680,
        29.3871,
        15.4242,
    ),
];
/// The user's own price of reserved and owned GPUs, USD per GPU and hour.
const OWN_PRICE: f64 = 2.15;
/// What every server asks for beside each GPU: enough for any engine's processes.
const CORES_PER_GPU: u64 = 6;
const GIB_PER_GPU: u64 = 24;

/// How a node is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paid {
    OnDemand,
    Spot,
    /// Priced by the user.
    Reserved,
    /// Bare metal, priced by the user.
    Owned,
    /// A region whose prices nobody published: the main region's stand in.
    Abroad,
    /// An instance type and GPU that no catalogue has.
    Mystery,
}

/// One thing that a scan should say, with the dollars it should say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expected {
    /// "dark-capacity/idle"
    pub(super) what: &'static str,
    pub(super) cluster: String,
    /// The workload's, or the pool's name.
    pub(super) name: String,
    /// `None`: nobody can know the price.
    pub(super) usd: Option<f64>,
    /// It can be known for certain.
    pub(super) measured: bool,
}

/// What is so, whatever a scan finds.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    pub(super) expected: Vec<Expected>,
    pub(super) spend: f64,
    pub(super) now: f64,
    /// GPUs by state, as R3 defines them.
    pub(super) free: f64,
    pub(super) unhealthy: f64,
    pub(super) stuck: f64,
    pub(super) idle: f64,
    pub(super) working: f64,
    pub(super) unknown: f64,
}

pub(super) struct Made {
    pub(super) snapshot: Snapshot,
    pub(super) prices: PriceBook,
    pub(super) truth: Truth,
}

pub(super) fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

#[allow(clippy::unnecessary_wraps, reason = "every time in a snapshot is optional")]
pub(super) fn ago(seconds: i64) -> Option<Timestamp> {
    Some(now() - SignedDuration::from_secs(seconds))
}

/// A node while pods are put on it.
struct Host {
    node: Node,
    pool: String,
    /// Of one whole GPU; `None`: unknown.
    gpu_usd: Option<f64>,
    returnable: bool,
    estimated_price: bool,
    gpus: u64,
    used: u64,
    /// Pods that one GPU is shared by; MIG instances on one GPU.
    parts: u64,
    resource: &'static str,
    tdp: f64,
    watched: bool,
    /// By device: holder, and whether it works hard.
    devices: Vec<(Vec<PodName>, bool)>,
    /// GPUs (or parts) that would be empty once every finding is acted on.
    vacated: u64,
    /// Something else lives here.
    occupied: bool,
    /// GPUs that fell off the bus.
    lost: u64,
}

impl Host {
    /// GPUs (or parts) that nobody holds.
    fn left(&self) -> u64 {
        (self.gpus - self.lost) * self.parts - self.used
    }
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Busy,
    /// No request since it started, long ago.
    Idle,
    /// No request, but it started three hours ago.
    IdleSince3h,
    /// No request, but it started twenty minutes ago.
    JustStarted,
    /// An autoscaler keeps a minimum.
    Standby,
    OptedOut,
    /// Its counters stand still while its GPUs are hot.
    BrokenCounters,
    /// Its endpoint does not answer.
    Silent,
    /// It worked in its first hour and never since: counters alone cannot tell.
    Retired,
    CrashLoop,
    ImagePull,
    /// Restarting, but not often enough to call it a loop.
    Shaky,
    /// Not Ready for two hours, which its startup probe allows.
    Loading,
    /// Uses half of the GPUs it holds.
    HalfUsed,
    Thrashing,
    Placeholder,
    Notebook,
}

const LIVES: &[(Life, u64)] = &[
    (Life::Busy, 30),
    (Life::Idle, 20),
    (Life::IdleSince3h, 4),
    (Life::JustStarted, 3),
    (Life::Standby, 5),
    (Life::OptedOut, 4),
    (Life::BrokenCounters, 4),
    (Life::Silent, 5),
    (Life::Retired, 4),
    (Life::CrashLoop, 8),
    (Life::ImagePull, 5),
    (Life::Shaky, 2),
    (Life::Loading, 3),
    (Life::HalfUsed, 4),
    (Life::Thrashing, 4),
    (Life::Placeholder, 2),
    (Life::Notebook, 4),
];

struct Maker {
    dice: Dice,
    truth: Truth,
    cluster: Cluster,
    /// (what, pool) → dollars of free and broken GPUs.
    pools: BTreeMap<(&'static str, String), (Option<f64>, bool)>,
    serial: u64,
}

/// The fleet number `seed`: one to three clusters of a few nodes each.
pub(super) fn make(seed: u64) -> Made {
    let mut dice = Dice(seed);
    let mut snapshot = Snapshot {
        schema: SCHEMA,
        tool_version: "test".into(),
        taken_at: now(),
        window_seconds: None,
        observe_seconds: Some(10),
        clusters: Vec::new(),
        sources: Vec::new(),
        gaps: Vec::new(),
    };
    let mut truth = Truth::default();
    for index in 0..=dice.below(3) {
        let name = format!("cluster-{index}");
        let mut maker = Maker {
            dice: Dice(dice.roll()),
            truth: std::mem::take(&mut truth),
            cluster: Cluster {
                name: name.clone(),
                uid: Some(format!("uid-{index}")),
                nodes: Some(Vec::new()),
                pods_read: PodsRead {
                    complete: true,
                    ..PodsRead::default()
                },
                autoscalers: Some(Vec::new()),
                disruption_budgets: Some(Vec::new()),
                ..Cluster::default()
            },
            pools: BTreeMap::new(),
            serial: 0,
        };
        for _ in 0..2 + maker.dice.below(5) {
            maker.host();
        }
        for ((what, pool), (usd, measured)) in std::mem::take(&mut maker.pools) {
            maker.truth.expected.push(Expected {
                what,
                cluster: name.clone(),
                name: pool,
                usd,
                measured,
            });
        }
        truth = maker.truth;
        let mut cluster = maker.cluster;
        cluster
            .pods
            .sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        snapshot.clusters.push(cluster);
        snapshot.sources.push(Source {
            kind: SourceKind::Kubernetes,
            name,
            status: SourceStatus::Ok,
            detail: String::new(),
            named: false,
        });
    }
    let prices = format!(
        "[[price]]\ncapacity_type = \"reserved\"\nusd_per_gpu_hour = {OWN_PRICE}\n[[price]]\ncapacity_type = \"owned\"\nusd_per_gpu_hour = {OWN_PRICE}\n"
    );
    Made {
        snapshot,
        prices: PriceBook::parse(&prices).unwrap(),
        truth,
    }
}

impl Maker {
    fn name(&mut self, stem: &str) -> String {
        self.serial += 1;
        format!("{stem}-{}", self.serial)
    }

    /// A node with its pods, added to the snapshot and to the truth.
    fn host(&mut self) {
        let mut host = self.bare();
        let gpu_usd = host.gpu_usd;
        self.truth.spend += gpu_usd.unwrap_or(0.0) * host.gpus as f64;
        match self.dice.below(20) {
            0 => self.not_ready(&mut host, 5 * HOUR),
            1 => self.not_ready(&mut host, HOUR / 2),
            2 => self.cordoned(&mut host, 3 * DAY),
            3 => self.young(&mut host),
            chance => {
                if chance == 4 && host.parts == 1 && host.gpus > 1 {
                    self.lose_one(&mut host);
                }
                self.fill(&mut host);
                self.rest(&mut host);
            }
        }
        self.exporter(&host);
        let all = host.gpus * host.parts;
        if host.returnable && !host.occupied && host.vacated == all {
            self.truth.now += gpu_usd.unwrap_or(0.0) * host.gpus as f64;
        }
        self.cluster.nodes.get_or_insert_default().push(host.node);
    }

    fn bare(&mut self) -> Host {
        let row = *self.dice.pick(ROWS);
        let (provider, kind, region, label, gpus, tdp, cores, memory, on_demand, spot) = row;
        let aws = provider == "aws";
        let paid = match self.dice.below(12) {
            5..7 => Paid::Spot,
            7 if aws => Paid::Reserved,
            8 => Paid::Owned,
            9 if aws => Paid::Abroad,
            10 => Paid::Mystery,
            _ => Paid::OnDemand,
        };
        let name = self.name("node");
        // One way of cutting a node a pool, so that a pool has one price.
        let parts = match (kind, self.dice.below(4)) {
            ("g6.2xlarge", 0) if paid != Paid::Mystery => 4,
            ("p4de.24xlarge", 0) if paid != Paid::Mystery => 7,
            _ => 1,
        };
        let pool = format!("{}-{paid:?}-{parts}", kind.to_lowercase());
        let resource = if parts == 7 {
            "nvidia.com/mig-1g.10gb"
        } else {
            "nvidia.com/gpu"
        };
        let mut labels: BTreeMap<String, String> = [("nodepool".to_string(), pool.clone())].into();
        let mut set = |k: &str, v: &str| drop(labels.insert(k.into(), v.into()));
        set(
            "nvidia.com/gpu.product",
            if paid == Paid::Mystery { "NVIDIA-X9000" } else { label },
        );
        if paid == Paid::Mystery {
            set("node.kubernetes.io/instance-type", "mystery.8xlarge");
        } else if paid != Paid::Owned {
            set("node.kubernetes.io/instance-type", kind);
        }
        set(
            "topology.kubernetes.io/region",
            if paid == Paid::Abroad { "mars-north-1" } else { region },
        );
        match (paid, provider) {
            (Paid::Spot, "aws") => set("karpenter.sh/capacity-type", "spot"),
            (Paid::Spot, "azure") => set("kubernetes.azure.com/scalesetpriority", "spot"),
            (Paid::Spot, _) => set("cloud.google.com/gke-spot", "true"),
            (Paid::Reserved, _) => set("karpenter.sh/capacity-type", "reserved"),
            (Paid::OnDemand | Paid::Abroad | Paid::Mystery, _) => set("karpenter.sh/capacity-type", "on-demand"),
            (Paid::Owned, _) => {}
        }
        if parts == 4 {
            set("nvidia.com/gpu.sharing-strategy", "time-slicing");
            set("nvidia.com/gpu.replicas", "4");
            set("nvidia.com/gpu.count", &gpus.to_string());
        }
        let amounts = Resources {
            cpu: Some(MilliCores(cores * 1000)),
            memory: Some(Bytes(memory << 30)),
            pods: Some(110),
            devices: [(resource.to_string(), gpus * parts)].into(),
        };
        let gpu_usd = match paid {
            Paid::OnDemand | Paid::Abroad => Some(on_demand / gpus as f64),
            Paid::Spot => Some(spot / gpus as f64),
            Paid::Reserved | Paid::Owned => Some(OWN_PRICE),
            Paid::Mystery => None,
        };
        Host {
            node: Node {
                name,
                created_at: ago(40 * DAY),
                labels,
                provider: (paid != Paid::Owned).then(|| provider.into()),
                ready: ready(true, 40 * DAY),
                capacity: amounts.clone(),
                allocatable: amounts,
                ..Node::default()
            },
            pool,
            gpu_usd,
            returnable: !matches!(paid, Paid::Reserved | Paid::Owned),
            estimated_price: paid == Paid::Abroad,
            gpus,
            used: 0,
            parts,
            resource,
            tdp,
            // A MIG instance has no power of its own.
            watched: parts != 7 && self.dice.chance(70),
            devices: vec![(Vec::new(), false); gpus as usize],
            vacated: 0,
            occupied: false,
            lost: 0,
        }
    }

    fn pool(&mut self, host: &Host, what: &'static str, gpus: f64, measured: bool) {
        let measured = measured && !host.estimated_price;
        let entry = self.pools.entry((what, host.pool.clone())).or_insert((Some(0.0), true));
        entry.0 = entry.0.zip(host.gpu_usd).map(|(sum, usd)| sum + usd * gpus);
        entry.1 &= measured;
    }

    fn not_ready(&mut self, host: &mut Host, since: i64) {
        host.node.ready = ready(false, since);
        host.watched = false;
        self.truth.unhealthy += host.gpus as f64;
        if since >= HOUR {
            self.pool(host, "dark-capacity/unhealthy", host.gpus as f64, true);
        }
    }

    fn cordoned(&mut self, host: &mut Host, since: i64) {
        host.node.unschedulable = true;
        host.node.taints.push(Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            since: ago(since),
            ..Taint::default()
        });
        self.truth.unhealthy += host.gpus as f64;
        self.pool(host, "dark-capacity/unhealthy", host.gpus as f64, true);
    }

    fn lose_one(&mut self, host: &mut Host) {
        host.lost = 1;
        host.watched = false;
        host.node
            .allocatable
            .devices
            .insert(host.resource.into(), host.gpus - 1);
        self.truth.unhealthy += 1.0;
        // Since when it is lost, no object tells.
        self.pool(host, "dark-capacity/unhealthy", 1.0, false);
    }

    fn young(&mut self, host: &mut Host) {
        host.node.created_at = ago(HOUR / 3);
        host.node.ready = ready(true, HOUR / 4);
        self.truth.free += host.gpus as f64;
    }

    /// Free GPUs, after the pods: nobody can use those of a node whose CPU is requested away.
    fn rest(&mut self, host: &mut Host) {
        let free = host.left() as f64 / host.parts as f64;
        self.truth.free += free;
        if free == 0.0 {
            return;
        }
        // Of a GPU that nobody knows, nobody knows either what its pods need beside it.
        if host.parts == 1 && host.gpu_usd.is_some() && self.dice.chance(15) {
            let cores = host.node.allocatable.cpu.map_or(0, |c| c.0 / 1000);
            let hog = self.name("hog");
            let asked = cores - host.used * CORES_PER_GPU - 2;
            let mut pod = Self::pod(host, &hog, 0);
            pod.containers[0].requests.cpu = Some(MilliCores(asked * 1000));
            self.cluster.pods.push(pod);
            host.occupied = true;
            self.pool(host, "stranded-gpu/host", free, false);
            return;
        }
        self.pool(host, "dark-capacity/unallocated", free, false);
        host.vacated += host.left();
    }

    fn fill(&mut self, host: &mut Host) {
        while host.left() > 0 && !self.dice.chance(25) {
            let left = host.left();
            let wanted = if host.parts > 1 {
                1
            } else {
                *self.dice.pick(&[1, 1, 2, 4, 8])
            };
            let gpus = wanted.min(left);
            let total: u64 = LIVES.iter().map(|(_, w)| w).sum();
            let mut at = self.dice.below(total);
            let life = LIVES
                .iter()
                .find(|(_, weight)| {
                    let here = at < *weight;
                    at = at.saturating_sub(*weight);
                    here
                })
                .map_or(Life::Busy, |(l, _)| *l);
            // Sharers decide a GPU's state together: keep those simple, all working or all idle.
            let life = match life {
                _ if host.parts == 4 => Life::Busy,
                Life::HalfUsed if gpus < 2 => Life::Busy,
                // Without a witness nobody could know: that is no truth to hold a scan to.
                Life::BrokenCounters if host.parts > 1 || !host.watched => Life::Busy,
                other => other,
            };
            self.workload(host, life, gpus);
        }
        // The last GPU of a shared node may have sharers left: those places are not free, the GPU is held.
        if host.parts == 4 && !host.used.is_multiple_of(4) {
            host.used = host.used.div_ceil(4) * 4;
        }
    }
}

#[allow(clippy::unnecessary_wraps, reason = "every condition in a snapshot is optional")]
fn ready(status: bool, seconds: i64) -> Option<Condition> {
    Some(Condition {
        status: Some(status),
        since: ago(seconds),
        reason: None,
    })
}
