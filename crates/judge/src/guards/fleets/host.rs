//! Nodes of generated fleets: what they cost, how their GPUs are cut, and whose each part is.

use super::rows::{Cut, Layout, ROWS, Row};
use super::{DAY, HOUR, Life, Maker, ago, ready};
use crate::snapshot::cluster::{Node, Resources, Taint};
use crate::snapshot::gpu::PodName;
use crate::units::{Bytes, MilliCores};
use std::collections::BTreeMap;

/// The user's own price of reserved and owned GPUs, USD per GPU and hour.
pub(super) const OWN_PRICE: f64 = 2.15;

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

/// What the pods of a shared GPU do: they decide its state together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Busy,
    Idle,
    Mixed,
}

/// A node while pods are put on it.
pub(super) struct Host {
    pub(super) node: Node,
    pub(super) pool: String,
    pub(super) cut: Cut,
    /// Of one whole GPU; `None`: unknown.
    pub(super) gpu_usd: Option<f64>,
    pub(super) returnable: bool,
    pub(super) estimated_price: bool,
    /// Physical ones.
    pub(super) gpus: u64,
    pub(super) places: Vec<Place>,
    /// GPUs in no instance, and that nobody can ask for.
    pub(super) rest: f64,
    pub(super) amd: bool,
    pub(super) tdp: f64,
    pub(super) watched: bool,
    pub(super) mood: Mood,
    pub(super) jobs: Vec<Job>,
    /// Something else lives here.
    pub(super) occupied: bool,
}

/// A GPU or a part of one, as pods can ask for it.
pub(super) struct Place {
    pub(super) resource: String,
    /// MIG profile or partition mode.
    pub(super) profile: Option<String>,
    /// The physical GPU it is of.
    pub(super) device: u64,
    /// How much of that.
    pub(super) share: f64,
    /// It fell off the bus.
    pub(super) lost: bool,
    /// One a pod: the index into [`Host::jobs`].
    pub(super) holders: Vec<usize>,
    pub(super) pods: Vec<PodName>,
    pub(super) hot: bool,
}

/// A workload on the host.
pub(super) struct Job {
    pub(super) name: String,
    pub(super) life: Life,
    /// Of one pod.
    pub(super) gpus: u64,
}

impl Host {
    pub(super) fn shared(&self) -> bool {
        self.cut.sharers() > 1
    }

    /// Pods that still find room for one of `resource`.
    pub(super) fn left(&self, resource: &str) -> u64 {
        let sharers = self.cut.sharers();
        let room = |p: &Place| (sharers - p.holders.len()) as u64;
        let of = |p: &&Place| p.resource == resource && !p.lost;
        self.places.iter().filter(of).map(room).sum()
    }

    /// A place for one more pod, the emptiest first: that is how device plugins share GPUs.
    pub(super) fn take(&mut self, resource: &str) -> usize {
        let open = |p: &Place| p.resource == resource && !p.lost && p.holders.len() < self.cut.sharers();
        let places = self.places.iter().enumerate().filter(|(_, p)| open(p));
        places.min_by_key(|(i, p)| (p.holders.len(), *i)).unwrap().0
    }

    /// GPUs in places of which `which` is true.
    pub(super) fn share(&self, which: impl Fn(&Place) -> bool) -> f64 {
        self.places.iter().filter(|p| which(p)).map(|p| p.share).sum()
    }
}

impl Maker {
    pub(super) fn bare(&mut self) -> Host {
        let row = *self.dice.pick(ROWS);
        let aws = row.provider == "aws";
        let paid = match self.dice.below(12) {
            5..7 => Paid::Spot,
            7 if aws => Paid::Reserved,
            8 => Paid::Owned,
            9 if aws => Paid::Abroad,
            10 => Paid::Mystery,
            _ => Paid::OnDemand,
        };
        let cut = if paid != Paid::Mystery && self.dice.chance(50) {
            *self.dice.pick(row.cuts)
        } else {
            Cut::Whole
        };
        let amd = row.label.starts_with("AMD") && paid != Paid::Mystery;
        let name = self.name("node");
        let (places, rest) = places(&row, cut, amd);
        // One way of cutting a node a pool, so that a pool has one price.
        let pool = format!("{}-{paid:?}-{cut:?}", row.kind.to_lowercase());
        let mut labels = match paid {
            Paid::Mystery => BTreeMap::new(),
            _ => cut_labels(&row, cut, &places),
        };
        let mut set = |k: &str, v: &str| drop(labels.insert(k.into(), v.into()));
        set("nodepool", &pool);
        if paid == Paid::Mystery {
            set("nvidia.com/gpu.product", "NVIDIA-X9000");
            set("node.kubernetes.io/instance-type", "mystery.8xlarge");
        } else if paid != Paid::Owned {
            set("node.kubernetes.io/instance-type", row.kind);
        }
        let region = if paid == Paid::Abroad {
            "mars-north-1"
        } else {
            row.region
        };
        set("topology.kubernetes.io/region", region);
        match (paid, row.provider) {
            (Paid::Spot, "aws") => set("karpenter.sh/capacity-type", "spot"),
            (Paid::Spot, "azure") => set("kubernetes.azure.com/scalesetpriority", "spot"),
            (Paid::Spot, _) => set("cloud.google.com/gke-spot", "true"),
            (Paid::Reserved, _) => set("karpenter.sh/capacity-type", "reserved"),
            (Paid::OnDemand | Paid::Abroad | Paid::Mystery, _) => set("karpenter.sh/capacity-type", "on-demand"),
            (Paid::Owned, _) => {}
        }
        let mut devices: BTreeMap<String, u64> = BTreeMap::new();
        for place in &places {
            *devices.entry(place.resource.clone()).or_default() += cut.sharers() as u64;
        }
        let amounts = Resources {
            cpu: Some(MilliCores(row.cores * 1000)),
            memory: Some(Bytes(row.gib << 30)),
            pods: Some(110),
            devices,
            ..Resources::default()
        };
        let gpu_usd = match paid {
            Paid::OnDemand | Paid::Abroad => Some(row.on_demand / row.gpus as f64),
            Paid::Spot => Some(row.spot / row.gpus as f64),
            Paid::Reserved | Paid::Owned => Some(OWN_PRICE),
            Paid::Mystery => None,
        };
        Host {
            node: Node {
                name,
                created_at: ago(40 * DAY),
                labels,
                provider: (paid != Paid::Owned).then(|| row.provider.into()),
                ready: ready(true, 40 * DAY),
                capacity: amounts.clone(),
                allocatable: amounts,
                ..Node::default()
            },
            pool,
            cut,
            gpu_usd,
            returnable: !matches!(paid, Paid::Reserved | Paid::Owned),
            estimated_price: paid == Paid::Abroad,
            gpus: row.gpus,
            places,
            rest,
            amd,
            tdp: row.tdp,
            // Partitions but the first tell nothing of their power.
            watched: cut.mode() != "amd-partitions" && self.dice.chance(70),
            mood: Mood::Busy,
            jobs: Vec::new(),
            occupied: false,
        }
    }

    pub(super) fn not_ready(&mut self, host: &mut Host, since: i64) {
        host.node.ready = ready(false, since);
        host.watched = false;
        self.truth.unhealthy += host.gpus as f64;
        if since >= HOUR {
            self.pool(host, "dark-capacity/unhealthy", host.gpus as f64, true);
        }
    }

    pub(super) fn cordoned(&mut self, host: &mut Host, since: i64) {
        host.node.unschedulable = true;
        host.node.taints.push(Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            since: ago(since),
            ..Taint::default()
        });
        self.truth.unhealthy += host.gpus as f64;
        // It works and is empty: it can go today, where the bill stops with it.
        self.truth.now += host.gpu_usd.filter(|_| host.returnable).unwrap_or(0.0) * host.gpus as f64;
        self.pool(host, "dark-capacity/unhealthy", host.gpus as f64, true);
    }

    /// The last GPU, instance or partition is no longer there.
    pub(super) fn lose_one(&mut self, host: &mut Host) {
        let Some(place) = host.places.last_mut() else {
            return;
        };
        place.lost = true;
        let (resource, share) = (place.resource.clone(), place.share);
        host.watched = false;
        if let Some(left) = host.node.allocatable.devices.get_mut(&resource) {
            *left -= host.cut.sharers() as u64;
        }
        self.truth.unhealthy += share;
        // Since when it is lost, no object tells.
        self.pool(host, "dark-capacity/unhealthy", share, false);
    }

    pub(super) fn young(&mut self, host: &mut Host) {
        host.node.created_at = ago(HOUR / 3);
        host.node.ready = ready(true, HOUR / 4);
        self.truth.free += host.gpus as f64;
    }
}

/// What can be asked for on a node, and the GPUs that nobody can ask for.
fn places(row: &Row, cut: Cut, amd: bool) -> (Vec<Place>, f64) {
    let whole = match cut {
        Cut::Renamed(_) => "nvidia.com/gpu.shared",
        _ if amd => "amd.com/gpu",
        _ => "nvidia.com/gpu",
    };
    let place = |resource: &str, profile: Option<String>, device: u64, share: f64| Place {
        resource: resource.into(),
        profile,
        device,
        share,
        lost: false,
        holders: Vec::new(),
        pods: Vec::new(),
        hot: false,
    };
    let mut all = Vec::new();
    let mut rest = 0.0;
    for device in 0..row.gpus {
        match cut {
            Cut::Mixed(first, _) if device < first => all.push(place(whole, None, device, 1.0)),
            Cut::Mixed(_, layout) | Cut::MixedShared(layout, _) => {
                rest += left_over(layout);
                all.extend(
                    instances(row, layout).map(|(profile, share)| {
                        place(&format!("nvidia.com/mig-{profile}"), Some(profile), device, share)
                    }),
                );
            }
            Cut::Single(layout) => {
                rest += left_over(layout);
                all.extend(instances(row, layout).map(|(profile, share)| place(whole, Some(profile), device, share)));
            }
            Cut::Partitions(mode, parts) => {
                all.extend((0..parts).map(|_| place(whole, Some(mode.into()), device, 1.0 / parts as f64)));
            }
            Cut::NamedPartitions(mode, parts) => {
                let resource = format!("amd.com/{mode}");
                all.extend((0..parts).map(|_| place(&resource, Some(mode.into()), device, 1.0 / parts as f64)));
            }
            _ => all.push(place(whole, None, device, 1.0)),
        }
    }
    (all, rest)
}

/// Compute slices of a card, and those in no instance that another instance would have memory for.
fn slices(layout: Layout) -> (u64, u64) {
    let (used, units) = layout.iter().fold((0, 0), |sum, i| (sum.0 + i.0, sum.1 + i.1));
    let room = if units < 8 { 7 - used } else { 0 };
    (used + room, room)
}

fn left_over(layout: Layout) -> f64 {
    let (all, room) = slices(layout);
    room as f64 / all as f64
}

/// Profiles of a card's instances with their part of its price: by compute slices, and what no instance can use with them.
fn instances(row: &Row, layout: Layout) -> impl Iterator<Item = (String, f64)> {
    let unit = if row.label.contains("40GB") { 5 } else { 10 };
    let all = slices(layout).0 as f64;
    layout
        .iter()
        .map(move |(slices, units)| (format!("{slices}g.{}gb", units * unit), *slices as f64 / all))
}

/// What GPU feature discovery, GKE or AMD's node labeller say of a node that is cut this way.
fn cut_labels(row: &Row, cut: Cut, places: &[Place]) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut set = |key: &str, value: String| drop(labels.insert(key.to_string(), value));
    let product = "nvidia.com/gpu.product";
    let count = row.gpus.to_string();
    match cut {
        Cut::Whole if row.label.starts_with("AMD") => set("amd.com/gpu.product-name", row.label.into()),
        Cut::Whole => set(product, row.label.into()),
        Cut::TimeSliced(n) | Cut::Renamed(n) | Cut::Mps(n) => {
            let renamed = matches!(cut, Cut::Renamed(_));
            let suffix = if renamed { "" } else { "-SHARED" };
            set(product, format!("{}{suffix}", row.label));
            set("nvidia.com/gpu.replicas", n.to_string());
            set("nvidia.com/gpu.count", count);
            let mps = matches!(cut, Cut::Mps(_));
            let strategy = if mps { "mps" } else { "time-slicing" };
            set("nvidia.com/gpu.sharing-strategy", strategy.into());
        }
        Cut::Gke(strategy, n) => {
            set("cloud.google.com/gke-accelerator", "nvidia-l4".into());
            set("cloud.google.com/gke-accelerator-count", count);
            set("cloud.google.com/gke-gpu-sharing-strategy", strategy.into());
            set("cloud.google.com/gke-max-shared-clients-per-gpu", n.to_string());
        }
        Cut::Mixed(..) | Cut::MixedShared(..) => {
            set(product, row.label.into());
            set("nvidia.com/gpu.count", count);
            set("nvidia.com/mig.strategy", "mixed".into());
            let whole = places.iter().any(|p| p.profile.is_none());
            set("nvidia.com/gpu.replicas", u8::from(whole).to_string());
            for place in places.iter().filter(|p| p.profile.is_some()) {
                let key = |what: &str| format!("{}.{what}", place.resource);
                let same = places.iter().filter(|p| p.resource == place.resource).count();
                set(&key("count"), same.to_string());
                if let Cut::MixedShared(_, n) = cut {
                    set(&key("replicas"), n.to_string());
                    set(&key("sharing-strategy"), "time-slicing".into());
                }
            }
        }
        Cut::Single(_) => {
            let profile = places.iter().find_map(|p| p.profile.clone()).unwrap_or_default();
            set(product, format!("{}-MIG-{profile}", row.label));
            set("nvidia.com/gpu.count", places.len().to_string());
            set("nvidia.com/gpu.replicas", "1".into());
            set("nvidia.com/mig.strategy", "single".into());
        }
        Cut::Partitions(mode, _) => {
            set("amd.com/gpu.product-name", row.label.into());
            set("amd.com/compute-memory-partition", mode.into());
        }
        Cut::NamedPartitions(..) => set("amd.com/gpu.product-name", row.label.into()),
    }
    labels
}
