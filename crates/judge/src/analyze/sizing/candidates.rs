//! The cheapest home that passes everything, and the smallest that holds a model at all.

mod speed;

use super::host::{AMD64, arch_beside};
use super::market::{Quote, Tier, parts};
use super::{Demand, Held, Host, HostNeed, Known, Market};
use crate::analyze::finding::FixPlacement;
use crate::catalog::gpus::GpuFacts;
use crate::fit::{self, FitVerdict, Parallelism, Placement, Service, Slo};
use crate::fleet::{Fleet, Node, Slot, Workload};
use crate::settings::Thresholds;
use crate::snapshot::server::EngineSettings;
use crate::units::UsdPerHour;

/// A cheaper home for the replicas that stay.
pub(in crate::analyze) struct Target {
    pub(in crate::analyze) gpu: &'static GpuFacts,
    pub(in crate::analyze) parallelism: Parallelism,
    /// Of one replica.
    pub(in crate::analyze) gpus: u32,
    pub(in crate::analyze) placement: Placement,
    /// `None`: no load was seen, so that its speed was not judged.
    pub(in crate::analyze) service: Option<Service>,
    /// What servers of other fleets told of it.
    pub(in crate::analyze) learned: Vec<Learned>,
    pub(in crate::analyze) quote: Quote,
    pub(in crate::analyze) selector: Option<(String, String)>,
    pub(in crate::analyze) resource: String,
    pub(in crate::analyze) price_source: crate::fleet::PriceSource,
    pub(in crate::analyze) stale: bool,
    pub(in crate::analyze) same_tier: bool,
    /// It is there, or to be rented. Otherwise a card must be cut anew for it.
    pub(in crate::analyze) offered: bool,
    /// Nodes of this cluster have it.
    pub(in crate::analyze) here: bool,
    /// What the pod asks for at most, where it has to ask for less CPU or memory than now to find room.
    pub(in crate::analyze) lowered: Option<HostNeed>,
}

/// What a candidate is measured by.
pub(super) struct Wanted<'a> {
    pub(super) held: &'a Held<'a>,
    pub(super) current: &'a Placement,
    pub(super) demand: &'a Demand,
    pub(super) known: &'a Known,
    pub(super) host: &'a Host,
    pub(super) replicas: u32,
    /// What these replicas cost now.
    pub(super) price: UsdPerHour,
    pub(super) thresholds: &'a Thresholds,
}

/// What a pod asks for on its new host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    AsNow,
    /// No more than its processes need.
    Less,
}

pub(super) fn slo(t: &Thresholds) -> Slo {
    Slo {
        kv_headroom: t.kv_headroom,
        throughput_headroom: t.throughput_headroom,
        latency_growth: t.latency_growth,
        inter_token_latency: t.slo_itl_seconds,
        time_to_first_token: t.slo_ttft_seconds,
    }
}

/// Widths of tensor parallelism that engines accept on one node: powers of two, since heads must divide.
const WIDTHS: [u32; 5] = [1, 2, 4, 8, 16];

/// Where the server may go: first what leaves its card's node as it is, then other nodes of the fleet, then what has to be
/// cut anew or rented. A pod that has to ask for less moves only where no other can.
pub(super) fn target(market: &Market, node: &Node, slot: &Slot, wanted: &Wanted<'_>) -> Option<Target> {
    let tiers = market.tiers(node);
    let place = |asks: Asks| {
        // Slices that are left free another bill only in the end: to rent for that comes last, cutting anew before it.
        let here = || {
            cheapest(tiers, false, asks, wanted).or_else(|| cheapest(&parts::recut(node, slot), false, asks, wanted))
        };
        let part = wanted.held.gpu.instance.is_some();
        part.then(here)
            .flatten()
            .or_else(|| cheapest(tiers, true, asks, wanted))
    };
    place(Asks::AsNow).or_else(|| place(Asks::Less))
}

/// The cheapest candidate that passes all of: memory at the band's bad end, throughput, latency, host, saving.
fn cheapest(tiers: &[Tier], elsewhere: bool, asks: Asks, wanted: &Wanted<'_>) -> Option<Target> {
    let (held, t) = (wanted.held, wanted.thresholds);
    let enough = |cost: UsdPerHour| {
        let saved = wanted.price - cost;
        saved.usd() >= t.min_saving_usd && saved.usd() >= t.min_saving_share * wanted.price.usd()
    };
    let mut quotes: Vec<(Quote, Parallelism, HostNeed, &Tier)> = Vec::new();
    for tier in tiers.iter().filter(|tier| runs_alike(held, tier.gpu)) {
        for tensor in WIDTHS {
            let parallelism = Parallelism {
                tensor,
                ..held.parallelism()
            };
            let gpus = held.gpus_of(parallelism);
            // The same tier is a saving only where less of it would do.
            let same = tier.gpu.name == held.gpu.name;
            if gpus > tier.most_gpus() || (same && gpus >= held.spread.gpus) {
                continue;
            }
            let need = match asks {
                Asks::AsNow => wanted.host.asked(held, parallelism, t),
                Asks::Less => wanted.host.least(held, parallelism, t),
            };
            let quote = tier.quote(gpus, wanted.replicas, need);
            let quote = quote.filter(|_| elsewhere || tier.here || !tier.offered);
            if let Some(quote) = quote.filter(|q| enough(q.usd_per_hour)) {
                quotes.push((quote, parallelism, need, tier));
            }
        }
    }
    quotes.sort_by(|a, b| {
        let key = |q: &(Quote, Parallelism, HostNeed, &Tier)| (q.0.usd_per_hour, held.gpus_of(q.1));
        key(a).cmp(&key(b)).then_with(|| a.3.gpu.name.cmp(&b.3.gpu.name))
    });
    quotes.into_iter().find_map(|(quote, parallelism, need, tier)| {
        let Carried {
            placement,
            service,
            learned,
        } = carries(wanted, tier, parallelism)?;
        Some(Target {
            gpu: tier.gpu,
            parallelism,
            gpus: held.gpus_of(parallelism),
            placement,
            service,
            learned,
            quote,
            selector: tier.selector.clone(),
            resource: tier.resource.clone(),
            price_source: tier.price_source,
            stale: tier.stale,
            same_tier: tier.gpu.name == held.gpu.name,
            offered: tier.offered,
            here: tier.here,
            lowered: (asks == Asks::Less).then_some(need),
        })
    })
}

/// What is built for one vendor's cards does not run on another's, and what a server is told to compute in (an fp8 cache,
/// fp8 or fp4 weights) must be the card's own as much as it is the present one's: engines that lack it refuse, or change.
fn runs_alike(held: &Held<'_>, gpu: &GpuFacts) -> bool {
    let has = |peak: Option<f64>, now: Option<f64>| peak.is_some() || now.is_none();
    let fp8 = !computes_in(held.settings, "fp8") || has(gpu.fp8_tflops, held.gpu.fp8_tflops);
    let fp4 = !computes_in(held.settings, "fp4") || has(gpu.fp4_tflops, held.gpu.fp4_tflops);
    // Images for arm64 have no kernels for older cards: vLLM's are built for "8.7 8.9 9.0 10.0+PTX 12.0" (its release pipeline
    // and the images' own TORCH_CUDA_ARCH_LIST), later ones for 8.0, too.
    let kernels = arch_beside(&gpu.name) == AMD64 || gpu.compute_capability.is_none_or(|c| c >= (8, 0));
    gpu.vendor == held.gpu.vendor && fp8 && fp4 && kernels
}

fn computes_in(settings: &EngineSettings, format: &str) -> bool {
    [&settings.kv_cache_dtype, &settings.quantization, &settings.dtype]
        .iter()
        .any(|s| s.as_deref().is_some_and(|s| s.to_ascii_lowercase().contains(format)))
}

/// What servers of other fleets told, as evidence and as a reason.
pub(in crate::analyze) struct Learned {
    pub(in crate::analyze) name: &'static str,
    pub(in crate::analyze) said: String,
}

/// What a candidate was found to do.
struct Carried {
    placement: Placement,
    service: Option<Service>,
    learned: Vec<Learned>,
}

/// Whether the candidate holds and serves what is wanted.
fn carries(wanted: &Wanted<'_>, tier: &Tier, parallelism: Parallelism) -> Option<Carried> {
    let (held, demand) = (wanted.held, wanted.demand);
    let own = held.calibration.as_ref();
    let own = own.filter(|c| c.gpu == tier.gpu.name && c.parallelism == parallelism);
    let book = &wanted.known.book;
    let told = || book.calibration(held.model, held.settings, tier.gpu, parallelism);
    let calibration = own.cloned().or_else(told);
    let placement = fit::place(held.model, held.settings, tier.gpu, parallelism, calibration.as_ref());
    if placement.verdict != FitVerdict::Fits {
        return None;
    }
    let said = calibration.filter(|c| c.elsewhere > 0);
    let mut learned: Vec<Learned> = said
        .map(|c| Learned {
            name: "learned_memory",
            said: format!("the memory there: {}", c.reason),
        })
        .into_iter()
        .collect();
    if demand.on_paper {
        let capacity = placement.kv_capacity.as_ref()?.low.0 as f64;
        return (capacity >= demand.peak_kv_tokens).then_some(Carried {
            placement,
            service: None,
            learned,
        });
    }
    let service = speed::service(wanted, tier, parallelism, &placement, &mut learned);
    // No step times of instances are known: only what the server measures of itself can be scaled to one.
    let measured = service.by_ratio && demand.time_to_first_token.is_some();
    let believed = measured || tier.gpu.instance.is_none();
    (believed && service.serves == Some(true)).then_some(Carried {
        placement,
        service: Some(service),
        learned,
    })
}

/// The cheapest placement that holds the model at all, whatever its load: what a server that cannot start needs. Its own
/// GPUs come first, where it uses a part of them only.
pub(in crate::analyze) fn smallest_that_fits(
    fleet: &Fleet,
    market: &Market,
    workload: &Workload,
    held: &Held<'_>,
    t: &Thresholds,
) -> Option<FixPlacement> {
    let slot = fleet.slot(*crate::analyze::support::slots_of(workload).first()?);
    let node = fleet.node(slot.node);
    if let Some(wider) = wider(workload, held) {
        return Some(wider);
    }
    let host = Host::of(fleet, workload, &held.placed(), held);
    let anew = parts::larger(node, slot);
    let mut options: Vec<(Quote, Parallelism, &Tier)> = Vec::new();
    let tiers = || market.tiers(node).iter().chain(&anew);
    for tier in tiers().filter(|tier| tier.gpu.vendor == held.gpu.vendor) {
        for tensor in WIDTHS {
            let parallelism = Parallelism {
                tensor,
                ..held.parallelism()
            };
            let gpus = held.gpus_of(parallelism);
            let quote = tier.quote(gpus, 1, host.asked(held, parallelism, t));
            let quote = quote.or_else(|| tier.quote(gpus, 1, host.least(held, parallelism, t)));
            options.extend(quote.map(|q| (q, parallelism, tier)));
        }
    }
    options.sort_by(|a, b| {
        (a.0.usd_per_hour, !a.2.offered, &a.2.gpu.name).cmp(&(b.0.usd_per_hour, !b.2.offered, &b.2.gpu.name))
    });
    let replicas = workload.replicas.len() as u32;
    options.into_iter().find_map(|(quote, parallelism, tier)| {
        let placement = fit::place(held.model, held.settings, tier.gpu, parallelism, None);
        (placement.verdict == FitVerdict::Fits).then(|| FixPlacement {
            gpu: tier.gpu.name.clone(),
            gpus: held.gpus_of(parallelism),
            tensor_parallel: parallelism.tensor,
            replicas,
            usd_per_hour: Some(quote.usd_per_hour.times(u64::from(replicas))),
        })
    })
}

/// More of the GPUs that it holds already: they cost what they cost.
fn wider(workload: &Workload, held: &Held<'_>) -> Option<FixPlacement> {
    let most = workload.gpus_per_replica?;
    let wider = WIDTHS.into_iter().filter(|w| *w > held.parallelism().tensor);
    let mut ways = wider.map(|tensor| Parallelism {
        tensor,
        ..held.parallelism()
    });
    let fits = |p: &Parallelism| {
        held.gpus_of(*p) <= most
            && fit::place(held.model, held.settings, held.gpu, *p, None).verdict == FitVerdict::Fits
    };
    let found = ways.find(fits)?;
    Some(FixPlacement {
        gpu: held.gpu.name.clone(),
        gpus: held.gpus_of(found),
        tensor_parallel: found.tensor,
        replicas: workload.replicas.len() as u32,
        usd_per_hour: None,
    })
}
