//! What a node costs (R1): what was paid for it, else the user's price, else the catalogue's row, else a marked guess, else unknown.

mod book;
mod template;
#[cfg(test)]
mod tests;

pub use book::{PriceBook, PriceEntry, glob, toml_words};
pub use template::template;

use super::gpus::GpuFacts;
use super::instances::{self, InstanceRow};
use crate::units::UsdPerHour;
use jiff::Timestamp;
use jiff::civil::Date;

/// How a node is paid for (R5: only on-demand and spot nodes can be handed back at once).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CapacityType {
    OnDemand,
    Spot,
    /// Reservation, committed use, savings plan.
    Reserved,
    CapacityBlock,
    /// Bare metal of one's own.
    Owned,
    #[default]
    Unknown,
}

impl CapacityType {
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::OnDemand => Some("on-demand"),
            Self::Spot => Some("spot"),
            Self::Reserved => Some("reserved"),
            Self::CapacityBlock => Some("capacity-block"),
            Self::Owned => Some("owned"),
            Self::Unknown => None,
        }
    }

    /// The bill stops when the node is empty.
    pub const fn can_be_returned(self) -> bool {
        matches!(self, Self::OnDemand | Self::Spot)
    }
}

/// Where a node's price comes from, best first (R1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PriceSource {
    /// `--focus` (what was paid), `--prices` or the policy file.
    User,
    /// Exact catalogue row: cloud, type, region, capacity type.
    Catalog,
    /// Same type in the cloud's main region.
    RegionGuess,
    /// The GPU model's median × GPUs.
    GpuMedian,
    #[default]
    Unknown,
}

impl PriceSource {
    pub const ALL: [Self; 5] = [
        Self::User,
        Self::Catalog,
        Self::RegionGuess,
        Self::GpuMedian,
        Self::Unknown,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Catalog => "catalog",
            Self::RegionGuess => "region-guess",
            Self::GpuMedian => "gpu-median",
            Self::Unknown => "unknown",
        }
    }
}

/// P(n): what the whole node costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePrice {
    /// `None`: unknown, never 0.
    pub usd_per_hour: Option<UsdPerHour>,
    pub source: PriceSource,
    /// The price row's date as written in the catalogue ("2026-07-20", "2026-07"); `None` for user prices without one.
    pub as_of: Option<String>,
    /// The row is older than 180 days at `taken_at` (R6: then estimated). False for user prices.
    pub stale: bool,
}

/// What the price look-up needs to know of a node.
#[derive(Clone, Debug, Default)]
pub struct PriceQuery<'a> {
    pub cluster: &'a str,
    pub node: &'a str,
    /// The node's pool; of Slurm its partitions, with commas between.
    pub pool: &'a str,
    pub cloud: Option<&'a str>,
    pub instance_type: Option<&'a str>,
    pub region: Option<&'a str>,
    pub capacity_type: CapacityType,
    /// It was waited for (GCP's DWS: flex-start, queued provisioning): it has prices of its own, below those of who asks and gets.
    pub flex_start: bool,
    pub gpu: Option<&'a GpuFacts>,
    pub gpus: u32,
    /// What names the machine on a bill.
    pub machine: Option<&'a str>,
}

impl CapacityType {
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::OnDemand,
            Self::Spot,
            Self::Reserved,
            Self::CapacityBlock,
            Self::Owned,
        ]
        .into_iter()
        .find(|c| c.name() == Some(text))
    }
}

/// R1, and the index of the user's entry that decided (so that entries nobody used can be named).
pub fn price_of(
    query: &PriceQuery<'_>,
    book: &PriceBook,
    at: Timestamp,
    stale_days: u64,
) -> (NodePrice, Option<usize>) {
    if let Some(billed) = book.billed(query.machine) {
        let price = NodePrice {
            usd_per_hour: Some(billed.usd_per_hour),
            source: PriceSource::User,
            as_of: Some(billed.as_of.clone()),
            stale: is_stale(&billed.as_of, at, stale_days),
        };
        // An entry may still say until when the machine is committed.
        return (price, book.find(query).map(|(index, _)| index));
    }
    if let Some((index, entry)) = book.find(query).filter(|(_, e)| !e.has_amount()) {
        // A discount on what the catalogue says; a commitment alone leaves the price as it is.
        let list = catalog_price(query, at, stale_days);
        let discounted = entry.discount.is_some() && list.usd_per_hour.is_some();
        let price = NodePrice {
            usd_per_hour: list
                .usd_per_hour
                .and_then(|p| UsdPerHour::from_usd(p.usd() * entry.share())),
            // How sure it is hangs on the row that it is taken off.
            source: if discounted && list.source == PriceSource::Catalog {
                PriceSource::User
            } else {
                list.source
            },
            as_of: entry.as_of.clone().or(list.as_of),
            stale: list.stale,
        };
        return (price, Some(index));
    }
    if let Some((index, entry)) = book.find(query) {
        let price = NodePrice {
            usd_per_hour: entry.amount(query.gpus),
            source: PriceSource::User,
            as_of: entry.as_of.clone(),
            stale: false,
        };
        return (price, Some(index));
    }
    (catalog_price(query, at, stale_days), None)
}

fn catalog_price(query: &PriceQuery<'_>, at: Timestamp, stale_days: u64) -> NodePrice {
    let rows: Vec<&InstanceRow> = query
        .instance_type
        .map(|t| {
            instances::of_type(t)
                .filter(|r| query.cloud.is_none_or(|c| r.cloud == c))
                .collect()
        })
        .unwrap_or_default();
    let at_price = |row: &InstanceRow, usd: UsdPerHour, source: PriceSource| NodePrice {
        usd_per_hour: Some(usd),
        source,
        as_of: Some(row.as_of.clone()),
        stale: is_stale(&row.as_of, at, stale_days),
    };
    if query.flex_start {
        // What others pay for the machine is no guess at it: the discount differs by type.
        let here = rows.iter().filter(|r| r.is_in(query.region.unwrap_or_default()));
        let listed = here.filter_map(|r| Some(at_price(r, r.flex_start_price()?, PriceSource::Catalog)));
        return listed.into_iter().next().unwrap_or_default();
    }
    let found =
        |row: &InstanceRow, source: PriceSource| row.price(query.capacity_type).map(|usd| at_price(row, usd, source));
    // An unknown capacity type is not an exact row: on-demand is then a guess.
    let exact = if query.capacity_type == CapacityType::Unknown {
        PriceSource::RegionGuess
    } else {
        PriceSource::Catalog
    };
    let here = rows
        .iter()
        .filter(|r| r.is_in(query.region.unwrap_or_default()))
        .find_map(|r| found(r, exact));
    let main = || {
        rows.iter()
            .filter(|r| instances::main_region(&r.cloud) == Some(r.region.as_str()))
            .find_map(|r| found(r, PriceSource::RegionGuess))
    };
    // For reserved and owned nodes the median of on-demand prices is only an assumption (R6); spot has one of its own.
    let median = || {
        let median = match query.capacity_type {
            CapacityType::Spot => instances::spot_median(query.gpu?)?,
            _ => instances::median(query.gpu?)?,
        };
        Some(NodePrice {
            usd_per_hour: Some(median.usd_per_hour.times(u64::from(query.gpus))),
            source: PriceSource::GpuMedian,
            as_of: Some(median.as_of.clone()),
            stale: is_stale(&median.as_of, at, stale_days),
        })
    };
    here.or_else(main).or_else(median).unwrap_or_default()
}

/// Older than `days` at `at`; a partial date counts from its end, one that is unknown is stale.
fn is_stale(as_of: &str, at: Timestamp, days: u64) -> bool {
    let mut parts = as_of.split('-').map(|p| p.parse::<i16>().ok());
    let Some(year) = parts.next().flatten() else {
        return true;
    };
    let month = parts.next().map_or(Some(12), |m| m.and_then(|m| i8::try_from(m).ok()));
    let day = parts.next().map_or(Some(28), |d| d.and_then(|d| i8::try_from(d).ok()));
    let date = month.zip(day).and_then(|(m, d)| Date::new(year, m, d).ok());
    let Some(start) = date.and_then(|d| d.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()) else {
        return true;
    };
    let age = at.as_second().saturating_sub(start.timestamp().as_second());
    age > i64::try_from(days.saturating_mul(86_400)).unwrap_or(i64::MAX)
}
