//! What a workload could run on instead, and what that would cost: the tiers of its own cluster at the share price they
//! have there, and the instance types of its cloud's region as whole instances (checks.md, oversized-tier).

pub(in crate::analyze) mod parts;

use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::instances::{self, InstanceRow};
use crate::fleet::{CapacityType, Fleet, Node, PriceSource, WHOLE_GPU};
use crate::units::UsdPerHour;
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
}

/// A node shape: one that the fleet has (paid by the share), or one that would have to be rented as a whole.
struct Offer {
    /// Name of the instance type; empty for a fleet's own nodes without one.
    instance_type: String,
    /// GPUs among which its CPU and memory are shared.
    gpus: u32,
    /// A MIG instance: one is all that an engine can have.
    single: bool,
    cores: f64,
    memory: f64,
    cost: Cost,
}

#[derive(Clone, Copy)]
enum Cost {
    /// Of one GPU.
    Share(UsdPerHour),
    /// Of the whole instance.
    Whole(UsdPerHour),
}

/// What one replica needs of its host.
#[derive(Clone, Copy, Debug)]
pub(in crate::analyze) struct HostNeed {
    pub(in crate::analyze) cores: f64,
    pub(in crate::analyze) memory: f64,
}

/// The cheapest way to have `replicas` on a tier.
#[derive(Clone, Debug)]
pub(in crate::analyze) struct Quote {
    pub(in crate::analyze) usd_per_hour: UsdPerHour,
    /// The instance type to rent; `None`: nodes of this tier are in the fleet already.
    pub(in crate::analyze) rent: Option<String>,
}

impl Tier {
    /// Cost of `replicas` × `gpus` GPUs, or `None` where no shape of this tier hosts one replica. Shares of nodes that the
    /// fleet has, else whole instances: free GPUs are never free of charge.
    pub(in crate::analyze) fn quote(&self, gpus: u32, replicas: u32, need: HostNeed) -> Option<Quote> {
        let cost = |offer: &Offer| {
            let per_node = if offer.single && gpus > 1 {
                0
            } else {
                offer.gpus / gpus.max(1)
            };
            let share = f64::from(gpus) / f64::from(offer.gpus.max(1));
            if per_node == 0 || offer.cores * share < need.cores || offer.memory * share < need.memory {
                return None;
            }
            Some(match offer.cost {
                Cost::Share(usd) => Quote {
                    usd_per_hour: usd.times(u64::from(gpus) * u64::from(replicas)),
                    rent: None,
                },
                Cost::Whole(usd) => Quote {
                    usd_per_hour: usd.times(u64::from(replicas.div_ceil(per_node))),
                    rent: Some(offer.instance_type.clone()),
                },
            })
        };
        self.offers
            .iter()
            .filter_map(cost)
            .min_by(|a, b| a.usd_per_hour.cmp(&b.usd_per_hour).then_with(|| a.rent.cmp(&b.rent)))
    }

    /// GPUs of the largest node.
    pub(in crate::analyze) fn most_gpus(&self) -> u32 {
        self.offers
            .iter()
            .map(|o| if o.single { 1 } else { o.gpus })
            .max()
            .unwrap_or(0)
    }
}

/// Where a workload runs decides what is within reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    cluster: usize,
    cloud: Option<String>,
    region: Option<String>,
    capacity_type: CapacityType,
}

impl Place {
    fn of(node: &Node) -> Self {
        Self {
            cluster: node.cluster,
            cloud: node.cloud.clone(),
            region: node.region.clone(),
            capacity_type: node.capacity_type,
        }
    }
}

/// All tiers, by place; made once a run.
pub(in crate::analyze) struct Market {
    places: BTreeMap<Place, Vec<Tier>>,
}

impl Market {
    pub(in crate::analyze) fn new(fleet: &Fleet) -> Self {
        let mut places: BTreeMap<Place, Vec<Tier>> = BTreeMap::new();
        for node in &fleet.nodes {
            let place = Place::of(node);
            let make = || tiers(fleet, &place);
            places.entry(place.clone()).or_insert_with(make);
        }
        Self { places }
    }

    pub(in crate::analyze) fn tiers(&self, node: &Node) -> &[Tier] {
        self.places.get(&Place::of(node)).map_or(&[], Vec::as_slice)
    }
}

fn tiers(fleet: &Fleet, place: &Place) -> Vec<Tier> {
    let mut tiers = of_fleet(fleet, place);
    tiers.extend(parts::of_fleet(fleet, place));
    let known: Vec<&str> = tiers.iter().map(|t| t.gpu.name.as_str()).collect();
    let rented: Vec<Tier> = of_region(place)
        .into_iter()
        .filter(|t| !known.contains(&t.gpu.name.as_str()))
        .collect();
    tiers.extend(rented);
    tiers
}

/// Nodes of the same cluster, since a pod cannot be scheduled elsewhere, and paid for in the same way: a spot node is no
/// substitute for an on-demand one.
fn of_fleet(fleet: &Fleet, place: &Place) -> Vec<Tier> {
    let mut by_gpu: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in &fleet.nodes {
        let whole = node.slot_ids().all(|s| fleet.slot(s).weight == WHOLE_GPU);
        let alike = node.cluster == place.cluster && node.capacity_type == place.capacity_type;
        if let Some(gpu) = node
            .gpu
            .filter(|_| whole && alike && !node.custom_sharing && node.gpus > 0)
        {
            by_gpu.entry(&gpu.name).or_default().push(node);
        }
    }
    by_gpu.into_values().filter_map(|nodes| fleet_tier(&nodes)).collect()
}

fn fleet_tier(nodes: &[&Node]) -> Option<Tier> {
    let gpu = nodes.first()?.gpu?;
    let shares: Option<Vec<UsdPerHour>> = nodes
        .iter()
        .map(|n| {
            Some(UsdPerHour::from_micros(
                n.price.usd_per_hour?.micros() / i64::from(n.gpus),
            ))
        })
        .collect();
    // The middle of what this tier's GPUs cost here: the cheapest node may have no room.
    let mut shares = shares?;
    shares.sort_unstable();
    let share = shares[shares.len() / 2];
    let offers = nodes
        .iter()
        .filter_map(|n| {
            Some(Offer {
                instance_type: n.instance_type.clone().unwrap_or_default(),
                gpus: n.gpus,
                single: false,
                cores: n.allocatable_cpu?.cores(),
                memory: n.allocatable_memory?.0 as f64,
                cost: Cost::Share(share),
            })
        })
        .collect();
    Some(Tier {
        gpu,
        offers,
        price_source: nodes.iter().map(|n| n.price.source).max()?,
        stale: nodes.iter().any(|n| n.price.stale),
        selector: selector(nodes),
        resource: resource(gpu),
        offered: true,
    })
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

/// Instance types of this cloud's region at the list price of the same kind of capacity. On one's own machines there is
/// nothing to rent.
fn of_region(place: &Place) -> Vec<Tier> {
    let (Some(cloud), Some(region)) = (place.cloud.as_deref(), place.region.as_deref()) else {
        return Vec::new();
    };
    // What a commitment for another type would cost is not in any list.
    let price = |row: &InstanceRow| row.price(place.capacity_type);
    let here = |row: &&InstanceRow| row.cloud == cloud && row.is_in(region) && row.can_be_rented();
    let mut by_gpu: BTreeMap<&str, Tier> = BTreeMap::new();
    for row in instances::all().iter().filter(here) {
        let (Some(gpu), Some(usd), Some(count), Some(cores), Some(memory)) =
            (gpus::find(&row.gpu), price(row), row.gpus, row.vcpus, row.memory_gib)
        else {
            continue;
        };
        by_gpu
            .entry(&gpu.name)
            .or_insert_with(|| Tier {
                gpu,
                offers: Vec::new(),
                price_source: PriceSource::Catalog,
                stale: false,
                selector: None,
                resource: resource(gpu),
                offered: true,
            })
            .offers
            .push(Offer {
                instance_type: row.instance_type.clone(),
                gpus: count,
                single: false,
                cores,
                memory: memory * crate::units::Bytes::GIB,
                cost: Cost::Whole(usd),
            });
    }
    by_gpu.into_values().collect()
}
