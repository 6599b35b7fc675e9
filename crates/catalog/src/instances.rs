//! Instance types with their list prices: one row a cloud, type and region in `data/instances.csv`.
//!
//! Prices are USD per whole instance-hour, Linux, pay-as-you-go list price, without tax; each row has its source and date.

use super::gpus::{self, GpuFacts};
use crate::units::UsdPerHour;
use std::collections::HashMap;
use std::sync::LazyLock;

const ROWS: &str = include_str!("data/instances.csv");
const SOURCES: &str = include_str!("data/instance-sources.csv");
const MEDIANS: &str = include_str!("data/gpu-prices.csv");

/// One instance type in one region.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstanceRow {
    /// aws, azure, gcp, oci, coreweave, …
    pub cloud: String,
    pub instance_type: String,
    /// "all" or "any" where the cloud has one price everywhere.
    pub region: String,
    pub gpu: String,
    /// `None` for fractions of a GPU and where the source does not say.
    pub gpus: Option<u32>,
    pub vcpus: Option<f64>,
    pub memory_gib: Option<f64>,
    /// `None`: no on-demand price was found (reservation only, or spot only).
    pub on_demand: Option<UsdPerHour>,
    pub spot: Option<UsdPerHour>,
    /// Key of [`source`].
    pub source_id: String,
    /// "2026-07-20", "2026-08", "2026" or "unknown".
    pub as_of: String,
}

impl InstanceRow {
    /// The type's name without the remark "(capacity block)" or "(DWS flex-start)".
    pub fn type_name(&self) -> &str {
        self.instance_type.split(" (").next().unwrap_or(&self.instance_type)
    }

    /// Sold as a block, by reservation or flex-start: its rate is no on-demand price.
    pub fn is_special_offer(&self) -> bool {
        self.instance_type.contains('(')
            || ["p5e.", "p6e-gb200", "u-p6e"]
                .iter()
                .any(|p| self.instance_type.starts_with(p))
    }
}

struct Catalog {
    rows: Vec<InstanceRow>,
    by_type: HashMap<String, Vec<usize>>,
    sources: HashMap<String, String>,
    /// GPU's canonical name → median of the clouds' cheapest on-demand prices, USD per GPU-hour.
    medians: HashMap<String, UsdPerHour>,
}

static CATALOG: LazyLock<Catalog> = LazyLock::new(load);

/// The day the medians were made (the newest row that went in).
pub const MEDIANS_AS_OF: &str = "2026-10-29";

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
            region: cell(2).into(),
            gpu: cell(3).into(),
            gpus: number(4).filter(|n| n.fract() == 0.0).map(|n| n as u32),
            vcpus: number(5),
            memory_gib: number(6),
            on_demand: number(7).and_then(UsdPerHour::from_usd),
            spot: number(8).and_then(UsdPerHour::from_usd),
            source_id: cell(9).into(),
            as_of: cell(10).into(),
        };
        by_type
            .entry(row.type_name().to_ascii_lowercase())
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
        rows,
        by_type,
        sources,
        medians: medians(),
    }
}

fn medians() -> HashMap<String, UsdPerHour> {
    let (headers, rows) = records(MEDIANS);
    let at = |name: &str| headers.iter().position(|h| h == name).unwrap_or(usize::MAX);
    let (name, level, worth) = (at("gpu_name"), at("level"), at("median_of_cloud_minima"));
    rows.iter()
        .filter(|r| r.get(level) == Some("model"))
        .filter_map(|r| Some((r.get(name)?.into(), UsdPerHour::from_usd(r.get(worth)?.parse().ok()?)?)))
        .collect()
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
pub fn gpu_median(gpu: &GpuFacts) -> Option<UsdPerHour> {
    CATALOG.medians.get(&gpu.name).copied()
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(of_type("p5.48xlarge").any(InstanceRow::is_special_offer));
        assert!(of_type("p5.48xlarge").any(|r| r.region == "us-east-1" && !r.is_special_offer()));
        assert!(of_type("m5.large").next().is_none());
    }

    #[test]
    fn a_gpus_worth_is_the_median_of_the_clouds() {
        let l4 = gpus::find("L4").unwrap();
        assert!(gpu_median(l4).is_some_and(|p| p.usd() > 0.3 && p.usd() < 3.0));
    }
}
