//! What can be rented where a workload runs, at prices of the kind that it is paid by.

use super::{Cost, Offer, Place, PriceKind, Prices, Tier, resource};
use crate::analyze::sizing::host;
use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::instances::{self, InstanceRow};
use crate::catalog::prices::{PriceQuery, price_of};
use crate::fleet::{CapacityType, PriceSource};
use crate::units::{Bytes, UsdPerHour};
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// Clouds among which a plan that names none may choose.
const LARGE: &[&str] = &["aws", "gcp", "azure", "oci"];

pub(super) fn of(prices: &Prices<'_>, place: &Place) -> Vec<Tier> {
    match place.prices {
        PriceKind::Own => of_rows(place, |row| own(prices, place, row)),
        PriceKind::List => of_rows(place, |row| listed(place, row)),
        // Nothing is saved that has no price; what a misfit needs is worth knowing all the same.
        PriceKind::Unknown if place.cloud.is_some() => of_rows(place, |row| listed(place, row)),
        PriceKind::Median | PriceKind::Unknown => at_median(place),
    }
}

/// Of a cloud's types the cheapest price is a row's own; and how it is known.
struct Priced {
    usd: UsdPerHour,
    source: PriceSource,
    stale: bool,
}

/// Rows of the place's cloud that are sold in its region; of a plan that tells none, in the cloud's main one.
fn rows(place: &Place) -> impl Iterator<Item = &'static InstanceRow> {
    let cloud = place.cloud.as_deref();
    let main = cloud.filter(|_| place.planned).and_then(instances::main_region);
    let region = place.region.as_deref().or(main);
    let here = move |row: &&InstanceRow| {
        let everywhere = region.is_some() || place.planned;
        let everywhere = everywhere && matches!(row.region.as_str(), "all" | "any");
        cloud == Some(row.cloud.as_str()) && (region == Some(row.region.as_str()) || everywhere) && row.can_be_rented()
    };
    instances::all().iter().filter(here)
}

/// Instance types as whole instances. On one's own machines there is nothing to rent.
fn of_rows(place: &Place, price: impl Fn(&InstanceRow) -> Option<Priced>) -> Vec<Tier> {
    let mut by_gpu: BTreeMap<&str, Tier> = BTreeMap::new();
    for row in rows(place) {
        let (Some(gpu), Some(priced), Some((count, cores, memory))) = (gpus::find(&row.gpu), price(row), shape(row))
        else {
            continue;
        };
        let tier = by_gpu
            .entry(&gpu.name)
            .or_insert_with(|| empty(gpu, priced.source, priced.stale));
        tier.price_source = tier.price_source.max(priced.source);
        tier.stale |= priced.stale;
        tier.offers.push(Offer {
            instance_type: row.instance_type.clone(),
            gpus: count,
            single: false,
            cores,
            memory,
            full: false,
            arch: host::arch_beside(&gpu.name),
            cost: Cost::Whole(priced.usd),
        });
    }
    by_gpu.into_values().collect()
}

fn empty(gpu: &'static GpuFacts, price_source: PriceSource, stale: bool) -> Tier {
    Tier {
        gpu,
        offers: Vec::new(),
        price_source,
        stale,
        selector: None,
        resource: resource(gpu),
        offered: true,
        here: false,
    }
}

/// GPUs, and what pods get beside them.
fn shape(row: &InstanceRow) -> Option<(u32, f64, f64)> {
    let (cores, memory) = host::allocatable(row.vcpus?, row.memory_gib? * Bytes::GIB);
    Some((row.gpus.filter(|n| *n > 0)?, cores, memory))
}

/// The list price of the same kind of capacity.
fn listed(place: &Place, row: &InstanceRow) -> Option<Priced> {
    // What a commitment for another type would cost is not in any list.
    let usd = row.price(place.capacity_type);
    let sure = place.region.is_some() && place.capacity_type != CapacityType::Unknown;
    let source = if sure {
        PriceSource::Catalog
    } else {
        PriceSource::RegionGuess
    };
    Some(Priced {
        usd: usd?,
        source,
        stale: false,
    })
}

/// What the user says that such an instance costs.
fn own(prices: &Prices<'_>, place: &Place, row: &InstanceRow) -> Option<Priced> {
    let query = PriceQuery {
        cluster: &prices.fleet.clusters[place.cluster].name,
        node: "",
        pool: "",
        cloud: Some(&row.cloud),
        instance_type: Some(&row.instance_type),
        region: place.region.as_deref(),
        capacity_type: place.capacity_type,
        flex_start: false,
        gpu: gpus::find(&row.gpu),
        gpus: row.gpus?,
        machine: None,
    };
    let (price, _) = price_of(&query, &prices.book, prices.at, prices.stale_days);
    (price.source == PriceSource::User).then_some(())?;
    Some(Priced {
        usd: price.usd_per_hour?,
        source: PriceSource::User,
        stale: price.stale,
    })
}

/// GPUs, cores, memory; as bits, since they are a key.
type Shape = (u32, u64, u64);

/// By cloud and GPU: the shapes that it is sold in. The catalogue is thousands of rows, and plans come by the thousand too.
static SHAPES: LazyLock<HashMap<&str, BTreeMap<&str, Vec<Shape>>>> = LazyLock::new(|| {
    let mut all: HashMap<&str, BTreeMap<&str, Vec<Shape>>> = HashMap::new();
    let sold = |r: &&InstanceRow| r.list.is_some() && r.can_be_rented();
    for row in instances::all().iter().filter(sold) {
        let (Some(gpu), Some((count, cores, memory))) = (gpus::find(&row.gpu), shape(row)) else {
            continue;
        };
        let shapes = all.entry(&row.cloud).or_default().entry(&gpu.name).or_default();
        let shape = (count, cores.to_bits(), memory.to_bits());
        if !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    all
});

/// Cards that the place's cloud rents out, one by one at their median over clouds. A plan that names no cloud may go to any
/// of the large ones; what stands on somebody's own floor goes nowhere.
fn at_median(place: &Place) -> Vec<Tier> {
    let clouds: Vec<&str> = match &place.cloud {
        Some(cloud) => vec![cloud.as_str()],
        None if place.planned => LARGE.to_vec(),
        None => return Vec::new(),
    };
    let mut tiers = Vec::new();
    for gpu in gpus::all() {
        let Some(median) = instances::gpu_median(gpu) else {
            continue;
        };
        let mut tier = empty(gpu, PriceSource::GpuMedian, false);
        let shapes = clouds.iter().filter_map(|c| SHAPES.get(c)?.get(gpu.name.as_str()));
        tier.offers.extend(shapes.flatten().map(|(count, cores, memory)| Offer {
            instance_type: String::new(),
            gpus: *count,
            single: false,
            cores: f64::from_bits(*cores),
            memory: f64::from_bits(*memory),
            full: false,
            arch: host::arch_beside(&gpu.name),
            cost: Cost::Share(median),
        }));
        if !tier.offers.is_empty() {
            tiers.push(tier);
        }
    }
    tiers
}
