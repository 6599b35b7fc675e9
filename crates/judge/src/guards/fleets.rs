//! Fleets whose truth is known because it was decided before the snapshot was written: prices, states and dollars are
//! this file's own arithmetic, from the clouds' published prices, and never the product's.

mod host;
mod pods;
mod rows;

use super::Dice;
use crate::catalog::prices::PriceBook;
use crate::snapshot::cluster::{Cluster, Condition, PodsRead};
use crate::snapshot::{SCHEMA, Snapshot, Source, SourceKind, SourceStatus};
use crate::units::MilliCores;
use host::{Host, Mood, OWN_PRICE};
use jiff::{SignedDuration, Timestamp};
use rows::Cut;
use std::collections::BTreeMap;

pub(super) const HOUR: i64 = 3600;
pub(super) const DAY: i64 = 24 * HOUR;

/// What every server asks for beside each GPU, and beside a part of one its part: enough for any engine's processes.
const CORES_PER_GPU: u64 = 6;
const GIB_PER_GPU: u64 = 24;

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
    /// How the GPUs are handed out.
    pub(super) mode: &'static str,
}

/// What is so, whatever a scan finds.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    pub(super) expected: Vec<Expected>,
    pub(super) spend: f64,
    pub(super) now: f64,
    /// Physical ones.
    pub(super) gpus: f64,
    /// Held by a pod.
    pub(super) allocated: f64,
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
    /// By cluster and node.
    pub(super) nodes: BTreeMap<(String, String), Cards>,
}

/// A node's physical GPUs.
#[derive(Clone, Debug)]
pub(super) struct Cards {
    pub(super) mode: &'static str,
    pub(super) gpus: u64,
    /// What pods can ask for: resource, MIG profile or partition mode, the GPU it is of.
    pub(super) places: Vec<(String, Option<String>, u64)>,
}

pub(super) fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

#[allow(clippy::unnecessary_wraps, reason = "every time in a snapshot is optional")]
pub(super) fn ago(seconds: i64) -> Option<Timestamp> {
    Some(now() - SignedDuration::from_secs(seconds))
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
    (Life::HalfUsed, 8),
    (Life::Thrashing, 4),
    (Life::Placeholder, 2),
    (Life::Notebook, 4),
];

struct Maker {
    dice: Dice,
    truth: Truth,
    cluster: Cluster,
    /// (what, pool) → dollars of free and broken GPUs, whether for certain, and how they are handed out.
    pools: BTreeMap<(&'static str, String), (Option<f64>, bool, &'static str)>,
    nodes: BTreeMap<(String, String), Cards>,
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
    let mut nodes = BTreeMap::new();
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
            nodes: std::mem::take(&mut nodes),
            serial: 0,
        };
        for _ in 0..2 + maker.dice.below(5) {
            maker.host();
        }
        for ((what, pool), (usd, measured, mode)) in std::mem::take(&mut maker.pools) {
            maker.truth.expected.push(Expected {
                what,
                cluster: name.clone(),
                name: pool,
                usd,
                measured,
                mode,
            });
        }
        truth = maker.truth;
        nodes = maker.nodes;
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
        nodes,
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
        let gpus = host.gpus as f64;
        self.truth.spend += host.gpu_usd.unwrap_or(0.0) * gpus;
        self.truth.gpus += gpus;
        let parts = host.places.iter();
        let cards = Cards {
            mode: host.cut.mode(),
            gpus: host.gpus,
            places: parts
                .map(|p| (p.resource.clone(), p.profile.clone(), p.device))
                .collect(),
        };
        self.nodes
            .insert((self.cluster.name.clone(), host.node.name.clone()), cards);
        match self.dice.below(20) {
            0 => self.not_ready(&mut host, 5 * HOUR),
            1 => self.not_ready(&mut host, HOUR / 2),
            2 => self.cordoned(&mut host, 3 * DAY),
            3 => self.young(&mut host),
            chance => {
                if chance == 4 && host.places.len() > 1 {
                    self.lose_one(&mut host);
                }
                self.fill(&mut host);
                self.rest(&mut host);
                self.settle(&host);
            }
        }
        self.exporter(&host);
        self.cluster.nodes.get_or_insert_default().push(host.node);
    }

    fn pool(&mut self, host: &Host, what: &'static str, gpus: f64, measured: bool) {
        let measured = measured && !host.estimated_price;
        let entry = self
            .pools
            .entry((what, host.pool.clone()))
            .or_insert((Some(0.0), true, host.cut.mode()));
        entry.0 = entry.0.zip(host.gpu_usd).map(|(sum, usd)| sum + usd * gpus);
        entry.1 &= measured;
    }

    /// Free GPUs, after the pods: nobody can use those of a node whose CPU is requested away, nor what no instance covers.
    fn rest(&mut self, host: &mut Host) {
        if host.rest > 0.0 {
            self.truth.free += host.rest;
            self.pool(host, "mig-layout/unpartitioned", host.rest, false);
        }
        let free = host.share(|p| !p.lost && p.holders.is_empty());
        self.truth.free += free;
        if free == 0.0 {
            return;
        }
        // Of a GPU that nobody knows, nobody knows either what its pods need beside it.
        if host.cut == Cut::Whole && host.gpu_usd.is_some() && self.dice.chance(25) {
            let cores = host.node.allocatable.cpu.map_or(0, |c| c.0 / 1000);
            let held = host.places.iter().filter(|p| !p.holders.is_empty()).count() as u64;
            let hog = self.name("hog");
            let mut pod = Self::pod(host, &hog, None, 0);
            pod.containers[0].requests.cpu = Some(MilliCores((cores - held * CORES_PER_GPU - 2) * 1000));
            self.cluster.pods.push(pod);
            host.occupied = true;
            self.pool(host, "stranded-gpu/host", free, false);
            return;
        }
        self.pool(host, "dark-capacity/unallocated", free, false);
    }

    fn fill(&mut self, host: &mut Host) {
        host.mood = match self.dice.below(3) {
            0 => Mood::Idle,
            1 => Mood::Mixed,
            _ => Mood::Busy,
        };
        // Who sits beside whom, only an exporter tells where there are several, and of whole GPUs alone.
        if host.places.len() > 1 && (!host.watched || host.places.iter().any(|p| p.profile.is_some())) {
            host.mood = Mood::Busy;
        }
        loop {
            let open: Vec<String> = host
                .places
                .iter()
                .map(|p| p.resource.clone())
                .filter(|r| host.left(r) > 0)
                .collect();
            if open.is_empty() || self.dice.chance(25) {
                break;
            }
            let resource = self.dice.pick(&open).clone();
            let left = host.left(&resource);
            let whole = host
                .places
                .iter()
                .any(|p| p.resource == resource && p.profile.is_none());
            let wanted = if whole && !host.shared() {
                *self.dice.pick(&[1, 1, 2, 4, 8])
            } else {
                1
            };
            let gpus = wanted.min(left);
            let life = self.life();
            let life = match life {
                _ if host.shared() => match host.mood {
                    Mood::Busy => Life::Busy,
                    Mood::Idle => Life::Idle,
                    Mood::Mixed => *self.dice.pick(&[Life::Busy, Life::Idle]),
                },
                Life::HalfUsed if gpus < 2 => Life::Busy,
                // Without a witness nobody could know: that is no truth to hold a scan to.
                Life::BrokenCounters if !whole || !host.watched => Life::Busy,
                other => other,
            };
            self.workload(host, life, &resource, gpus);
        }
    }

    fn life(&mut self) -> Life {
        let total: u64 = LIVES.iter().map(|(_, w)| w).sum();
        let mut at = self.dice.below(total);
        LIVES
            .iter()
            .find(|(_, weight)| {
                let here = at < *weight;
                at = at.saturating_sub(*weight);
                here
            })
            .map_or(Life::Busy, |(l, _)| *l)
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
