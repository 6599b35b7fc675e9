//! What cards cost and how they are sold: medians over clouds, or the whole instances of a cloud and region.

use super::NODE_GPUS;
use crate::analyze::ServerLoad;
use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::instances::{self, InstanceRow};
use crate::catalog::prices::{CapacityType, PriceSource};
use crate::cli::FitArgs;
use crate::fit::load::Offer;
use crate::fit::search::Tier;
use crate::units::UsdPerHour;
use anyhow::{Result, bail};

/// Clouds that resell machines of many owners, by the GPU: no node sizes, no promise of the same machine.
const MARKETPLACES: [&str; 2] = ["vast", "runpod"];

/// How a card is sold, apart from its price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sold {
    pub(super) marketplace_only: bool,
    /// GPUs of the largest node that anybody sells; `None`: nobody is known to.
    pub(super) largest: Option<u32>,
}

fn rows_of(gpu: &GpuFacts) -> impl Iterator<Item = &'static InstanceRow> {
    let name = gpu.instance.as_ref().map_or(&gpu.name, |own| &own.card).clone();
    instances::all()
        .iter()
        .filter(move |r| gpus::find(&r.gpu).is_some_and(|g| g.name == name))
}

pub(super) fn sold(gpu: &GpuFacts) -> Sold {
    let clouds: Vec<&str> = rows_of(gpu).map(|r| r.cloud.as_str()).collect();
    Sold {
        marketplace_only: !clouds.is_empty() && clouds.iter().all(|c| MARKETPLACES.contains(c)),
        largest: rows_of(gpu).filter_map(|r| r.gpus).max(),
    }
}

/// The fewest GPUs that anybody sells together.
fn least(gpu: &GpuFacts) -> u32 {
    let parts = rows_of(gpu).any(|r| r.gpus.is_none());
    let smallest = rows_of(gpu).filter_map(|r| r.gpus).min();
    if parts || gpu.instance.is_some() {
        1
    } else {
        smallest.unwrap_or(1)
    }
}

/// Region and cloud that the catalogue has prices of.
pub(super) fn check(args: &FitArgs) -> Result<()> {
    let here = |r: &&InstanceRow| is_here(args, r);
    if let Some(region) = args.region.as_deref() {
        let rows = || {
            instances::all()
                .iter()
                .filter(|r| r.region.eq_ignore_ascii_case(region))
        };
        if rows().next().is_none() {
            bail!("no price is known for the region '{region}'; 'gpuwaste catalog instances' lists the regions");
        }
        if args.cloud.is_none() && !rows().any(|r| r.can_be_rented() && price(args, r).is_some()) {
            let (kind, other) = if args.spot {
                ("spot", "on-demand")
            } else {
                ("on-demand", "spot")
            };
            bail!(
                "the catalogue has no {kind} price of an instance in '{region}', only {other} ones or offers of other kinds ({} rows); leave --region out for medians over clouds",
                rows().count()
            );
        }
    }
    if let Some(cloud) = args.cloud.as_deref() {
        if !instances::all().iter().any(|r| r.cloud.eq_ignore_ascii_case(cloud)) {
            let mut clouds: Vec<&str> = instances::all().iter().map(|r| r.cloud.as_str()).collect();
            clouds.sort_unstable();
            clouds.dedup();
            bail!(
                "no price is known of the cloud '{cloud}'; known are {}",
                clouds.join(", ")
            );
        }
        if !instances::all().iter().any(|r| here(&r)) {
            bail!(
                "{cloud} has no region '{}' with a price; 'gpuwaste catalog instances {cloud}' lists them",
                args.region.as_deref().unwrap_or_default()
            );
        }
    }
    Ok(())
}

fn is_here(args: &FitArgs, row: &InstanceRow) -> bool {
    let cloud = args.cloud.as_deref().is_none_or(|c| row.cloud.eq_ignore_ascii_case(c));
    // One price everywhere holds in any region of that cloud, if the cloud is named.
    let everywhere = args.cloud.is_some() && matches!(row.region.as_str(), "all" | "any");
    let region = args
        .region
        .as_deref()
        .is_none_or(|r| row.region.eq_ignore_ascii_case(r) || everywhere);
    cloud && region && row.can_be_rented()
}

fn price(args: &FitArgs, row: &InstanceRow) -> Option<UsdPerHour> {
    row.price(if args.spot {
        CapacityType::Spot
    } else {
        CapacityType::OnDemand
    })
}

/// Whole instances with this GPU, each size at its cheapest.
fn sizes(args: &FitArgs, gpu: &GpuFacts) -> Vec<(u32, UsdPerHour)> {
    let mut sizes: Vec<(u32, UsdPerHour)> = rows_of(gpu)
        .filter(|r| is_here(args, r))
        .filter_map(|r| Some((r.gpus?, price(args, r)?)))
        .collect();
    sizes.sort_unstable();
    sizes.dedup_by_key(|s| s.0);
    sizes
}

/// What a GPU costs in the middle of all clouds; a MIG instance its compute slices of that.
fn median(args: &FitArgs, gpu: &GpuFacts) -> Option<UsdPerHour> {
    median_of(gpu, args.spot)
}

fn median_of(gpu: &GpuFacts, spot: bool) -> Option<UsdPerHour> {
    let card = match &gpu.instance {
        Some(own) => gpus::all().iter().find(|g| g.name == own.card)?,
        None => gpu,
    };
    let whole = if spot {
        spot_median(card)
    } else {
        instances::gpu_median(card)
    };
    Some(whole?.scale(share(gpu)?))
}

/// The median over clouds of each cloud's cheapest spot price of a GPU.
fn spot_median(gpu: &GpuFacts) -> Option<UsdPerHour> {
    let mut cheapest: Vec<(&str, UsdPerHour)> = Vec::new();
    for row in rows_of(gpu) {
        if let (Some(spot), Some(count)) = (row.spot, row.gpus.filter(|n| *n > 0)) {
            let each = spot.scale(1.0 / f64::from(count));
            match cheapest.iter_mut().find(|(cloud, _)| *cloud == row.cloud) {
                Some((_, known)) => *known = each.min(*known),
                None => cheapest.push((&row.cloud, each)),
            }
        }
    }
    let mut prices: Vec<UsdPerHour> = cheapest.into_iter().map(|(_, p)| p).collect();
    prices.sort_unstable();
    prices.get(prices.len() / 2).copied()
}

fn is_local(args: &FitArgs) -> bool {
    args.region.is_some() || args.cloud.is_some()
}

/// Tiers of the memory question.
pub(super) fn tiers<'a>(cards: &'a [GpuFacts], args: &FitArgs) -> Vec<Tier<'a>> {
    cards
        .iter()
        .map(|gpu| Tier {
            gpu,
            usd_per_gpu_hour: (!is_local(args)).then(|| median(args, gpu)).flatten(),
            sizes: if is_local(args) { sizes(args, gpu) } else { Vec::new() },
            max_gpus_per_node: if gpu.instance.is_some() { 1 } else { NODE_GPUS },
        })
        .collect()
}

/// Prices that were asked for by a flag.
fn is_asked(args: &FitArgs) -> bool {
    is_local(args) || args.spot
}

/// An offer, and where its price is from.
pub(super) struct Priced<'a> {
    pub(super) offer: Offer<'a>,
    pub(super) source: PriceSource,
}

/// A part of a card as a share of its compute slices.
fn share(gpu: &GpuFacts) -> Option<f64> {
    let Some(own) = &gpu.instance else { return Some(1.0) };
    let card = gpus::all().iter().find(|g| g.name == own.card)?;
    Some(f64::from(own.slices) / f64::from(card.mig_slices()))
}

/// What a GPU would cost where the server stands, found as R1 finds what the server's own costs: its share of a node there,
/// else in its cloud's main region, else the median. The server's own card costs what it costs.
fn beside(server: &ServerLoad, args: &FitArgs, gpu: &GpuFacts) -> (Option<UsdPerHour>, PriceSource) {
    let place = &server.place;
    if gpu.name == server.gpu.name {
        return (place.usd_per_gpu_hour, place.source);
    }
    let share = share(gpu);
    let cheapest = |region: &str| {
        let of = |r: &&InstanceRow| r.can_be_rented() && place.cloud.as_ref() == Some(&r.cloud) && r.is_in(region);
        let each = |r: &InstanceRow| {
            let gpus = r.gpus.filter(|n| *n > 0)?;
            Some(r.price(place.capacity_type)?.scale(share? / f64::from(gpus)))
        };
        rows_of(gpu).filter(of).filter_map(each).min()
    };
    let here = place.region.as_deref().and_then(cheapest);
    let main = || {
        place
            .cloud
            .as_deref()
            .and_then(instances::main_region)
            .and_then(cheapest)
    };
    // As of the server's node: how it is paid decides whether a row is exact.
    let exact = if place.capacity_type == CapacityType::Unknown {
        PriceSource::RegionGuess
    } else {
        PriceSource::Catalog
    };
    if let Some(usd) = here {
        return (Some(usd), exact);
    }
    if let Some(usd) = main() {
        return (Some(usd), PriceSource::RegionGuess);
    }
    let median = match place.capacity_type {
        CapacityType::Spot => median_of(gpu, true),
        _ => median(args, gpu),
    };
    let source = if median.is_some() {
        PriceSource::GpuMedian
    } else {
        PriceSource::Unknown
    };
    (median, source)
}

/// Offers of the load question; cards that are not sold where prices were asked for are left out unless they are named.
pub(super) fn offers<'a>(cards: &'a [GpuFacts], args: &FitArgs, server: Option<&ServerLoad>) -> Vec<Priced<'a>> {
    let local = is_local(args);
    let server = server.filter(|_| !is_asked(args));
    let price = |gpu: &GpuFacts| match server {
        Some(server) => beside(server, args, gpu),
        None if local => (None, PriceSource::Catalog),
        None => {
            let usd = median(args, gpu);
            (usd, usd.map_or(PriceSource::Unknown, |_| PriceSource::GpuMedian))
        }
    };
    let offer = |gpu: &'a GpuFacts| {
        let (usd_per_gpu_hour, source) = price(gpu);
        let sizes = if local { sizes(args, gpu) } else { Vec::new() };
        let node = sizes.iter().map(|s| s.0).max().unwrap_or(NODE_GPUS).min(NODE_GPUS);
        let offer = Offer {
            gpu,
            usd_per_gpu_hour,
            sizes,
            least: least(gpu),
            most: if gpu.instance.is_some() { 1 } else { node },
        };
        Priced { offer, source }
    };
    cards
        .iter()
        .map(offer)
        .filter(|p| !local || !p.offer.sizes.is_empty() || !args.gpu.is_empty())
        .collect()
}

/// Where prices beside a running server's are from, in words.
pub(super) fn said_of(args: &FitArgs, server: Option<&ServerLoad>) -> String {
    let Some(server) = server.filter(|_| !is_asked(args)) else {
        return said(args);
    };
    let place = &server.place;
    let kind = place.capacity_type.name().unwrap_or("on-demand");
    let own = format!("{} as this server's ({})", server.gpu.name, place.source.name());
    match (&place.cloud, &place.region) {
        (Some(cloud), Some(region)) => {
            format!(
                "{own}; other cards their share of a node, {kind}, of {cloud} in {region}; ~ where it sells none: its main region, else the median over clouds"
            )
        }
        _ => format!("{own}; ~ other cards the median over clouds, since it is not told where it stands"),
    }
}

/// What a running server costs is no price of these rows.
pub(super) fn differs(args: &FitArgs) -> bool {
    is_asked(args)
}

/// Where prices are from, in words.
pub(super) fn said(args: &FitArgs) -> String {
    let kind = if args.spot { "spot" } else { "on-demand" };
    match (args.cloud.as_deref(), args.region.as_deref()) {
        (None, None) => format!(
            "medians of {kind} prices over clouds as of {}",
            instances::medians_as_of()
        ),
        (Some(cloud), None) => format!("{kind} list prices of whole instances of {cloud}, in its cheapest region"),
        (None, Some(region)) => format!("{kind} list prices of whole instances in {region}"),
        (Some(cloud), Some(region)) => format!("{kind} list prices of whole instances of {cloud} in {region}"),
    }
}
