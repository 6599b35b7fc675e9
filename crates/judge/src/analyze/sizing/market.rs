//! What a workload could run on instead, and what that would cost: the tiers of its own cluster at the share price they
//! have there, and what can be rented where it runs (docs/definitions.md, oversized-tier). Prices are compared with prices of the same
//! kind only (R1): a median over clouds says nothing beside a list price, nor that beside a price of one's own.

mod fleet_tiers;
pub(in crate::analyze) mod parts;
mod rented;

use super::HostNeed;
use crate::catalog::gpus::GpuFacts;
use crate::catalog::prices::PriceBook;
use crate::fleet::{CapacityType, Fleet, Node, PriceSource};
use crate::settings::Settings;
use crate::units::UsdPerHour;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A GPU tier within reach.
pub(in crate::analyze) struct Tier {
    pub(in crate::analyze) gpu: &'static GpuFacts,
    offers: Vec<Offer>,
    /// The worst source behind the price.
    pub(in crate::analyze) price_source: PriceSource,
    /// A price behind it is older than the policy's limit.
    pub(in crate::analyze) stale: bool,
    /// Node labels that lead a pod there, where the fleet has the tier: key and value.
    pub(in crate::analyze) selector: Option<(String, String)>,
    /// The resource its device plugin hands out: nvidia.com/gpu, amd.com/gpu, nvidia.com/mig-1g.10gb.
    pub(in crate::analyze) resource: String,
    /// Nodes have it, or a cloud rents it out. Otherwise a card would have to be cut anew.
    pub(in crate::analyze) offered: bool,
    /// Nodes of this cluster have it.
    pub(in crate::analyze) here: bool,
}

/// A node shape: one that the fleet has (paid by the share), or one that would have to be rented as a whole.
struct Offer {
    /// Name of the instance type; empty for a fleet's own nodes without one.
    instance_type: String,
    /// GPUs among which its CPU and memory are shared.
    gpus: u32,
    /// A MIG instance: one is all that an engine can have.
    single: bool,
    /// What pods can have of it.
    cores: f64,
    memory: f64,
    /// Nothing more can be placed on such nodes.
    full: bool,
    arch: &'static str,
    cost: Cost,
}

#[derive(Clone, Copy)]
enum Cost {
    /// Of one GPU.
    Share(UsdPerHour),
    /// Of the whole instance.
    Whole(UsdPerHour),
}

/// The cheapest way to have `replicas` on a tier.
#[derive(Clone, Debug)]
pub(in crate::analyze) struct Quote {
    pub(in crate::analyze) usd_per_hour: UsdPerHour,
    /// The instance type to rent; `None`: nodes of this tier are in the fleet already, or no type is meant.
    pub(in crate::analyze) rent: Option<String>,
}

impl Tier {
    /// Cost of `replicas` × `gpus` GPUs, or `None` where no shape of this tier hosts one replica. Shares of nodes that the
    /// fleet has, else whole instances: free GPUs are never free of charge.
    pub(in crate::analyze) fn quote(&self, gpus: u32, replicas: u32, need: HostNeed) -> Option<Quote> {
        self.offers
            .iter()
            .filter_map(|offer| offer.quote(gpus, replicas, need))
            .min_by(|a, b| a.usd_per_hour.cmp(&b.usd_per_hour).then_with(|| a.rent.cmp(&b.rent)))
    }

    /// GPUs of the largest node.
    pub(in crate::analyze) fn most_gpus(&self) -> u32 {
        let gpus = |o: &Offer| if o.single { 1 } else { o.gpus };
        self.offers.iter().map(gpus).max().unwrap_or(0)
    }
}

impl Offer {
    fn quote(&self, gpus: u32, replicas: u32, need: HostNeed) -> Option<Quote> {
        let by_gpus = if self.single && gpus > 1 {
            0
        } else {
            self.gpus / gpus.max(1)
        };
        if by_gpus == 0 || self.full || self.arch != need.arch {
            return None;
        }
        match self.cost {
            // What is beside its GPUs is its part of the node: more would strand the others.
            Cost::Share(usd) => {
                let share = f64::from(gpus) / f64::from(self.gpus.max(1));
                let fits = self.cores * share >= need.cores && self.memory * share >= need.memory;
                fits.then(|| Quote {
                    usd_per_hour: usd.times(u64::from(gpus) * u64::from(replicas)),
                    rent: None,
                })
            }
            Cost::Whole(usd) => {
                let of = |have: f64, need: f64| {
                    if need > 0.0 {
                        (have / need).floor()
                    } else {
                        f64::INFINITY
                    }
                };
                let by_host = of(self.cores, need.cores).min(of(self.memory, need.memory));
                let each = f64::from(by_gpus).min(by_host) as u32;
                (each > 0).then(|| Quote {
                    usd_per_hour: usd.times(u64::from(replicas.div_ceil(each))),
                    rent: Some(self.instance_type.clone()),
                })
            }
        }
    }
}

/// Prices that can be compared with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PriceKind {
    /// The user's own.
    Own,
    /// A cloud's list, exact or of its main region.
    List,
    /// A GPU model's median over clouds.
    Median,
    Unknown,
}

impl From<PriceSource> for PriceKind {
    fn from(source: PriceSource) -> Self {
        match source {
            PriceSource::User => Self::Own,
            PriceSource::Catalog | PriceSource::RegionGuess => Self::List,
            PriceSource::GpuMedian => Self::Median,
            PriceSource::Unknown => Self::Unknown,
        }
    }
}

/// Where a workload runs, and how that is paid, decides what is within reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    cluster: usize,
    cloud: Option<String>,
    region: Option<String>,
    capacity_type: CapacityType,
    prices: PriceKind,
    planned: bool,
}

impl Place {
    fn of(node: &Node) -> Self {
        Self {
            cluster: node.cluster,
            cloud: node.cloud.clone(),
            region: node.region.clone(),
            capacity_type: node.capacity_type,
            prices: node.price.source.into(),
            planned: node.planned,
        }
    }

    /// A node of this cluster, paid for in the same way: a pod cannot be scheduled elsewhere, and a spot node is no
    /// substitute for an on-demand one.
    fn is_alike(&self, node: &Node) -> bool {
        let prices = self.prices == PriceKind::Unknown || self.prices == node.price.source.into();
        node.cluster == self.cluster
            && node.capacity_type == self.capacity_type
            && prices
            && !node.planned
            && !node.custom_sharing
            && node.gpus > 0
    }
}

/// What prices are asked of.
struct Prices<'a> {
    book: PriceBook,
    at: Timestamp,
    stale_days: u64,
    fleet: &'a Fleet,
}

/// All tiers, by place; made once a run.
pub(in crate::analyze) struct Market {
    places: BTreeMap<Place, Vec<Tier>>,
}

impl Market {
    pub(in crate::analyze) fn new(fleet: &Fleet, settings: &Settings) -> Self {
        let prices = Prices {
            book: PriceBook {
                entries: settings.prices.clone(),
                // It tells machines that are there, not what others would cost.
                bill: None,
            },
            at: fleet.taken_at,
            stale_days: settings.thresholds.stale_price_days,
            fleet,
        };
        let mut places: BTreeMap<Place, Vec<Tier>> = BTreeMap::new();
        for node in &fleet.nodes {
            let place = Place::of(node);
            let make = || tiers(&prices, &place);
            places.entry(place.clone()).or_insert_with(make);
        }
        Self { places }
    }

    pub(in crate::analyze) fn tiers(&self, node: &Node) -> &[Tier] {
        self.places.get(&Place::of(node)).map_or(&[], Vec::as_slice)
    }
}

fn tiers(prices: &Prices<'_>, place: &Place) -> Vec<Tier> {
    let mut tiers = fleet_tiers::of(prices.fleet, place);
    tiers.extend(parts::of_fleet(prices.fleet, place));
    let known: Vec<&str> = tiers.iter().map(|t| t.gpu.name.as_str()).collect();
    let rented: Vec<Tier> = rented::of(prices, place)
        .into_iter()
        .filter(|t| !known.contains(&t.gpu.name.as_str()))
        .collect();
    tiers.extend(rented);
    tiers
}

fn resource(gpu: &GpuFacts) -> String {
    match gpu.vendor.as_str() {
        "amd" => "amd.com/gpu".into(),
        "intel" => "gpu.intel.com/xe".into(),
        _ => "nvidia.com/gpu".into(),
    }
}

/// A label that all of these nodes share; the product label first, since it names the GPU.
fn selector(nodes: &[&Node]) -> Option<(String, String)> {
    const KEYS: &[&str] = &[
        "nvidia.com/gpu.product",
        "amd.com/gpu.product-name",
        "cloud.google.com/gke-accelerator",
        "karpenter.k8s.aws/instance-gpu-name",
        "node.kubernetes.io/instance-type",
    ];
    KEYS.iter().find_map(|key| {
        let value = nodes.first()?.labels.get(*key)?;
        nodes
            .iter()
            .all(|n| n.labels.get(*key) == Some(value))
            .then(|| ((*key).to_string(), value.clone()))
    })
}
