//! Instance types with their list prices: one row a cloud, type and region in `data/instances.csv`.
//!
//! Prices are USD per whole instance-hour, Linux, pay-as-you-go list price, without tax; each row has its source and date.

use super::gpus::{self, GpuFacts};
use super::prices::CapacityType;
use crate::units::UsdPerHour;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

const ROWS: &str = include_str!("data/instances.csv");
const SOURCES: &str = include_str!("data/instance-sources.csv");

/// How a row's price is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// Whoever asks gets it, by the hour.
    #[default]
    OnDemand,
    /// Of a type that is sold on demand, too, bought as a block for some days.
    CapacityBlock,
    /// A type that is sold in blocks alone: their rate is its price, whatever a node's labels say.
    BlockOnly,
    /// Queued until there is room (GCP's DWS).
    FlexStart,
    /// A card alone, to be added to a machine that costs, too.
    AddOn,
}

impl Offer {
    pub const ALL: [Self; 5] = [
        Self::OnDemand,
        Self::CapacityBlock,
        Self::BlockOnly,
        Self::FlexStart,
        Self::AddOn,
    ];

    /// As the column `offer` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::CapacityBlock => "capacity-block",
            Self::BlockOnly => "block-only",
            Self::FlexStart => "flex-start",
            Self::AddOn => "add-on",
        }
    }
}

/// One instance type in one region.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstanceRow {
    /// aws, azure, gcp, oci, coreweave, …
    pub cloud: String,
    pub instance_type: String,
    pub offer: Offer,
    /// "all" or "any" where the cloud has one price everywhere.
    pub region: String,
    pub gpu: String,
    /// `None` for fractions of a GPU and where the source does not say.
    pub gpus: Option<u32>,
    pub vcpus: Option<f64>,
    pub memory_gib: Option<f64>,
    /// The offer's list price; `None`: none was found (reservation only, or spot only).
    pub list: Option<UsdPerHour>,
    pub spot: Option<UsdPerHour>,
    /// Key of [`source`].
    pub source_id: String,
    /// "2026-07-20", "2026-08", "2026" or "unknown".
    pub as_of: String,
}

impl InstanceRow {
    /// What the row says that an instance costs which is paid for so: the one place that decides it.
    pub fn price(&self, capacity: CapacityType) -> Option<UsdPerHour> {
        match (capacity, self.offer) {
            (CapacityType::OnDemand | CapacityType::Unknown, Offer::OnDemand | Offer::BlockOnly | Offer::AddOn)
            | (CapacityType::CapacityBlock, Offer::CapacityBlock | Offer::BlockOnly) => self.list,
            (CapacityType::Spot, Offer::OnDemand | Offer::BlockOnly | Offer::AddOn) => self.spot,
            // What a reservation costs is nobody's list price; the on-demand price would overstate it, so only the user knows.
            _ => None,
        }
    }

    /// What it costs where it was waited for (GCP's flex-start and queued provisioning).
    pub fn flex_start_price(&self) -> Option<UsdPerHour> {
        self.list.filter(|_| self.offer == Offer::FlexStart)
    }

    /// Whoever asks for one can rent it: with its cards' machine in the price, and no block to wait for.
    pub fn can_be_rented(&self) -> bool {
        self.offer == Offer::OnDemand
    }

    /// It is offered there.
    pub fn is_in(&self, region: &str) -> bool {
        self.region.eq_ignore_ascii_case(region) || matches!(self.region.as_str(), "all" | "any")
    }
}

struct Catalog {
    rows: Vec<InstanceRow>,
    by_type: HashMap<String, Vec<usize>>,
    sources: HashMap<String, String>,
    /// By a GPU's canonical name.
    medians: HashMap<String, Median>,
    spot_medians: HashMap<String, Median>,
}

/// What a GPU is worth: of each cloud's cheapest price for one GPU-hour, the one in the middle.
#[derive(Clone, Debug, PartialEq)]
pub struct Median {
    pub usd_per_hour: UsdPerHour,
    /// The date of the newest row that went in.
    pub as_of: String,
}

static CATALOG: LazyLock<Catalog> = LazyLock::new(load);

fn records(text: &str) -> (csv::StringRecord, Vec<csv::StringRecord>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    (
        reader.headers().cloned().unwrap_or_default(),
        reader.records().flatten().collect(),
    )
}

fn load() -> Catalog {
    let (headers, records_) = records(ROWS);
    let column = |name: &str| headers.iter().position(|h| h == name).unwrap_or(usize::MAX);
    let columns = [
        "cloud",
        "instance_type",
        "offer",
        "region",
        "gpu_name",
        "gpu_count",
        "vcpus",
        "memory_gib",
        "price_per_hour_usd",
        "spot_price_per_hour_usd",
        "source",
        "as_of",
    ]
    .map(column);
    let mut rows = Vec::with_capacity(records_.len());
    let mut by_type: HashMap<String, Vec<usize>> = HashMap::new();
    for record in &records_ {
        let cell = |i: usize| record.get(columns[i]).unwrap_or_default();
        let number = |i: usize| cell(i).parse::<f64>().ok().filter(|n| *n > 0.0);
        let row = InstanceRow {
            cloud: cell(0).into(),
            instance_type: cell(1).into(),
            offer: Offer::ALL.into_iter().find(|o| o.name() == cell(2)).unwrap_or_default(),
            region: cell(3).into(),
            gpu: cell(4).into(),
            gpus: number(5).filter(|n| n.fract() == 0.0).map(|n| n as u32),
            vcpus: number(6),
            memory_gib: number(7),
            list: number(8).and_then(UsdPerHour::from_usd),
            spot: number(9).and_then(UsdPerHour::from_usd),
            source_id: cell(10).into(),
            as_of: cell(11).into(),
        };
        by_type
            .entry(row.instance_type.to_ascii_lowercase())
            .or_default()
            .push(rows.len());
        rows.push(row);
    }
    let sources = records(SOURCES)
        .1
        .iter()
        .filter_map(|r| Some((r.get(0)?.into(), r.get(1)?.into())))
        .collect();
    Catalog {
        medians: medians(&rows, |r| r.list),
        spot_medians: medians(&rows, |r| r.spot),
        rows,
        by_type,
        sources,
    }
}

/// Each cloud counts once, however many regions it has; a price of a whole machine is divided by its GPUs.
fn medians(rows: &[InstanceRow], price: fn(&InstanceRow) -> Option<UsdPerHour>) -> HashMap<String, Median> {
    let mut minima: BTreeMap<&str, BTreeMap<&str, i64>> = BTreeMap::new();
    let mut dates: BTreeMap<&str, &str> = BTreeMap::new();
    for row in rows.iter().filter(|r| r.can_be_rented()) {
        let (Some(usd), Some(gpus)) = (price(row), row.gpus.filter(|n| *n > 0)) else {
            continue;
        };
        let each = usd.scale(1.0 / f64::from(gpus)).micros();
        let own = minima.entry(&row.gpu).or_default().entry(&row.cloud).or_insert(each);
        *own = each.min(*own);
        if row.as_of.starts_with(|c: char| c.is_ascii_digit()) {
            let newest = dates.entry(&row.gpu).or_default();
            *newest = row.as_of.as_str().max(newest);
        }
    }
    let middle = |clouds: BTreeMap<&str, i64>| {
        let mut prices: Vec<i64> = clouds.into_values().collect();
        prices.sort_unstable();
        let half = prices.len() / 2;
        // Of an even number the mean of the two in the middle.
        i64::midpoint(prices[half], prices[(prices.len() - 1) / 2])
    };
    let medians = minima.into_iter().map(|(gpu, clouds)| {
        let median = Median {
            usd_per_hour: UsdPerHour::from_micros(middle(clouds)),
            as_of: dates.get(gpu).copied().unwrap_or("unknown").to_string(),
        };
        (gpu.to_string(), median)
    });
    medians.collect()
}

pub fn all() -> &'static [InstanceRow] {
    &CATALOG.rows
}

/// Rows of a type (any region, any offer), whatever its case.
pub fn of_type(instance_type: &str) -> impl Iterator<Item = &'static InstanceRow> + use<> {
    let rows = CATALOG
        .by_type
        .get(&instance_type.to_ascii_lowercase())
        .map_or(&[][..], Vec::as_slice);
    rows.iter().map(|i| &CATALOG.rows[*i])
}

/// Where a row's facts come from, in words.
pub fn source(id: &str) -> Option<&'static str> {
    CATALOG.sources.get(id).map(String::as_str)
}

/// A GPU's worth: median over clouds of each cloud's cheapest on-demand price, per GPU-hour (R1 "gpu-median").
pub fn median(gpu: &GpuFacts) -> Option<&'static Median> {
    CATALOG.medians.get(&gpu.name)
}

/// The same of spot prices: a machine that may be taken back is never worth what one is that stays.
pub fn spot_median(gpu: &GpuFacts) -> Option<&'static Median> {
    CATALOG.spot_medians.get(&gpu.name)
}

pub fn gpu_median(gpu: &GpuFacts) -> Option<UsdPerHour> {
    Some(median(gpu)?.usd_per_hour)
}

/// The date of the newest row that went into any median.
pub fn medians_as_of() -> &'static str {
    let dates = CATALOG.medians.values().map(|m| m.as_of.as_str());
    dates.filter(|d| *d != "unknown").max().unwrap_or("unknown")
}

/// The cloud's main region, where its list price is taken for regions that the catalogue lacks (R1 "region-guess").
pub fn main_region(cloud: &str) -> Option<&'static str> {
    match cloud {
        "aws" => Some("us-east-1"),
        "azure" => Some("eastus"),
        "gcp" => Some("us-central1"),
        _ => None,
    }
}

/// The GPU an instance type has, for nodes whose labels do not tell: (row, GPU, GPUs).
pub fn gpu_of_type(instance_type: &str) -> Option<(&'static GpuFacts, u32)> {
    let row = of_type(instance_type).next()?;
    Some((gpus::find(&row.gpu)?, row.gpus?))
}

/// The GPU that all types of a family have ("g6e" of AWS); `None`: there are several, or parts of one.
pub fn gpu_of_family(cloud: &str, family: &str) -> Option<&'static GpuFacts> {
    let prefix = format!("{}.", family.to_ascii_lowercase());
    let of_family =
        |row: &&InstanceRow| row.cloud == cloud && row.instance_type.to_ascii_lowercase().starts_with(&prefix);
    let mut rows = CATALOG.rows.iter().filter(of_family);
    let first = rows.next()?;
    let same = |row: &InstanceRow| row.gpu == first.gpu && row.gpus.is_some();
    (same(first) && rows.all(same))
        .then(|| gpus::find(&first.gpu))
        .flatten()
}

/// The vGPU profile of a type that has a part of a card, by its name: Azure's NVads A10 (v5, docs of the series), Vultr's
/// "vcg-a40-1c-5g-2gb-vram".
pub fn profile_of_type(instance_type: &str) -> Option<String> {
    let lower = instance_type.to_ascii_lowercase();
    let azure = lower
        .strip_prefix("standard_nv")
        .and_then(|rest| rest.strip_suffix("ads_a10_v5"));
    if let Some(cores) = azure {
        let gigabytes = match cores {
            "6" => 4,
            "12" => 8,
            "18" => 12,
            _ => return None,
        };
        return Some(format!("NVIDIA-A10-{gigabytes}Q"));
    }
    let mut words = lower.strip_suffix("gb-vram")?.split('-');
    let card = gpus::find(words.nth(1)?)?;
    let gigabytes: u64 = words.next_back()?.parse().ok()?;
    let part = (gigabytes as f64) * 1.05 < card.memory.gib();
    part.then(|| format!("NVIDIA-{}-{gigabytes}Q", card.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Rows against each other: one a place, prices of one type within a factor of its median over regions, of one card's hour within
    /// what marketplaces and dear machines differ by, and the part of a card's memory that the part of a card has.
    #[test]
    fn no_row_contradicts_the_others() {
        let median = |mut all: Vec<f64>| {
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let apart = |a: f64, b: f64| (a / b).max(b / a);
        let mut places = HashSet::new();
        let mut types: BTreeMap<(&str, &str, &str), Vec<f64>> = BTreeMap::new();
        let mut cards: BTreeMap<&str, Vec<(f64, &str)>> = BTreeMap::new();
        for row in all() {
            let kind = (row.cloud.as_str(), row.instance_type.as_str(), row.offer.name());
            assert!(places.insert((kind, row.region.as_str())), "twice: {row:?}");
            let Some(usd) = row.list.map(UsdPerHour::usd) else {
                continue;
            };
            types.entry(kind).or_default().push(usd);
            if let Some(gpus) = row.gpus.filter(|n| *n > 0) {
                let each = cards.entry(&row.gpu).or_default();
                each.push((usd / f64::from(gpus), &row.instance_type));
            }
        }
        for (kind, prices) in types {
            let middle = median(prices.clone());
            assert!(prices.iter().all(|p| apart(*p, middle) < 2.5), "{kind:?}: {prices:?}");
        }
        for (gpu, prices) in cards {
            let middle = median(prices.iter().map(|p| p.0).collect());
            for (usd, kind) in prices {
                assert!(
                    apart(usd, middle) < 30.0,
                    "{kind}: ${usd} for an hour of {gpu}, others ${middle}"
                );
            }
        }
        let mut reader = csv::Reader::from_reader(ROWS.as_bytes());
        for record in reader.records().map(Result::unwrap) {
            let told: Option<f64> = record[6].parse().ok();
            let part = record[5].parse().map_or(1.0, |n: f64| n.min(1.0));
            let (Some(told), Some(gpu)) = (told, gpus::find(&record[4])) else {
                continue;
            };
            assert!(apart(told, gpu.memory.gib() * part) < 1.2, "{record:?}");
        }
    }

    #[test]
    fn every_row_names_a_known_gpu_and_source() {
        assert!(all().len() > 2900);
        for row in all() {
            assert!(gpus::find(&row.gpu).is_some(), "{}", row.gpu);
            assert!(source(&row.source_id).is_some(), "{}", row.source_id);
            assert!(!row.as_of.is_empty());
        }
    }

    #[test]
    fn types_are_found_in_any_case_and_special_offers_are_known() {
        let (gpu, count) = gpu_of_type("standard_nd96isr_h100_v5").unwrap();
        assert_eq!((gpu.name.as_str(), count), ("H100-SXM5-80GB", 8));
        assert!(of_type("p5.48xlarge").any(|r| r.offer == Offer::CapacityBlock));
        assert!(of_type("p5.48xlarge").any(|r| r.region == "us-east-1" && r.can_be_rented()));
        assert!(of_type("m5.large").next().is_none());
    }

    #[test]
    fn families_and_parts_of_cards_are_known_by_their_names() {
        let of = |family: &str| gpu_of_family("aws", family).map(|g| g.name.as_str());
        assert_eq!(
            (of("g6e"), of("p5"), of("g6f"), of("m5")),
            (Some("L40S"), Some("H100-SXM5-80GB"), None, None)
        );
        let part = |kind: &str| profile_of_type(kind);
        assert_eq!(part("Standard_NV6ads_A10_v5").as_deref(), Some("NVIDIA-A10-4Q"));
        assert_eq!(part("vcg-a40-1c-5g-2gb-vram").as_deref(), Some("NVIDIA-A40-2Q"));
        for whole in ["Standard_NV36ads_A10_v5", "vcg-a40-24c-120g-48gb-vram", "p5.48xlarge"] {
            assert_eq!(part(whole), None, "{whole}");
        }
    }

    #[test]
    fn a_gpus_worth_is_the_median_of_the_clouds() {
        // By another way than `medians`: in dollars, row by row.
        for gpu in gpus::all() {
            let mut cheapest: HashMap<&str, f64> = HashMap::new();
            for row in all().iter().filter(|r| r.gpu == gpu.name && r.offer == Offer::OnDemand) {
                if let (Some(usd), Some(n)) = (row.list, row.gpus) {
                    let own = cheapest.entry(&row.cloud).or_insert(f64::INFINITY);
                    *own = own.min(usd.usd() / f64::from(n));
                }
            }
            let mut prices: Vec<f64> = cheapest.into_values().collect();
            prices.sort_by(f64::total_cmp);
            let expected = match prices.len() {
                0 => None,
                n if n % 2 == 1 => Some(prices[n / 2]),
                n => Some(f64::midpoint(prices[n / 2 - 1], prices[n / 2])),
            };
            let told = gpu_median(gpu).map(UsdPerHour::usd);
            let same = expected.zip(told).is_none_or(|(a, b)| (a - b).abs() < 2e-6);
            assert!(
                expected.is_some() == told.is_some() && same,
                "{}: {expected:?}, {told:?}",
                gpu.name
            );
        }
        let spot = |gpu: &GpuFacts| spot_median(gpu).map(|m| m.usd_per_hour);
        let both = gpus::all().iter().filter_map(|g| Some((spot(g)?, gpu_median(g)?)));
        assert!(both.clone().count() > 15);
        assert!(
            both.clone().all(|(spot, list)| spot < list),
            "{:?}",
            both.collect::<Vec<_>>()
        );
        let worth = |name: &str| gpu_median(gpus::find(name).unwrap()).unwrap().usd();
        assert_eq!((worth("MI300X"), worth("H200-SXM5-141GB")), (3.45, 5.4));
        assert!(medians_as_of() >= "2026-10");
    }

    #[test]
    fn an_ordinary_row_is_ordinary_whatever_its_name() {
        let named = all().iter().filter(|r| r.instance_type.contains('('));
        assert!(named.clone().count() > 60 && named.clone().all(InstanceRow::can_be_rented));
        assert!(
            named
                .clone()
                .any(|r| r.region == "north-america" && r.price(CapacityType::OnDemand).is_some())
        );
    }

    #[test]
    fn each_offer_is_a_price_for_what_is_paid_for_so() {
        let row = |offer| InstanceRow {
            offer,
            list: UsdPerHour::from_usd(10.0),
            spot: UsdPerHour::from_usd(4.0),
            ..InstanceRow::default()
        };
        let of = |offer, capacity| row(offer).price(capacity).map(UsdPerHour::usd);
        for offer in Offer::ALL {
            for committed in [CapacityType::Reserved, CapacityType::Owned] {
                assert_eq!(of(offer, committed), None);
            }
        }
        assert_eq!(of(Offer::OnDemand, CapacityType::Unknown), Some(10.0));
        assert_eq!(of(Offer::OnDemand, CapacityType::Spot), Some(4.0));
        assert_eq!(of(Offer::OnDemand, CapacityType::CapacityBlock), None);
        assert_eq!(of(Offer::CapacityBlock, CapacityType::OnDemand), None);
        assert_eq!(of(Offer::CapacityBlock, CapacityType::CapacityBlock), Some(10.0));
        assert_eq!(of(Offer::BlockOnly, CapacityType::Unknown), Some(10.0));
        assert_eq!(of(Offer::FlexStart, CapacityType::OnDemand), None);
    }
}
