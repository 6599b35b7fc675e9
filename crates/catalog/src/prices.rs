//! What a node costs (R1): the user's price, else the catalogue's row, else a marked guess, else unknown.

use super::bill::{Bill, Billed};
use super::gpus::GpuFacts;
use super::instances::{self, InstanceRow};
use crate::units::UsdPerHour;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use std::sync::Arc;
use wildmatch::WildMatchPattern;

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
    pub gpu: Option<&'a GpuFacts>,
    pub gpus: u32,
    /// What names the machine on a bill.
    pub machine: Option<&'a str>,
}

/// The user's prices: `--prices FILE` and the policy file's `[[price]]` tables. The first entry that matches wins.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceBook {
    #[serde(default, rename = "price")]
    pub entries: Vec<PriceEntry>,
    /// What was really paid (`--focus`): of a machine that is on it, nothing else is asked.
    #[serde(skip)]
    pub bill: Option<Arc<Bill>>,
}

/// One price of the user's own. Every key that is given must match; `*` matches any run of characters.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PriceEntry {
    pub cluster: Option<String>,
    pub node: Option<String>,
    /// Of Kubernetes a node pool, of Slurm a partition: one of the node's.
    #[serde(alias = "partition")]
    pub pool: Option<String>,
    pub instance_type: Option<String>,
    pub region: Option<String>,
    /// on-demand, spot, reserved, capacity-block, owned.
    pub capacity_type: Option<String>,
    /// Any spelling of a GPU.
    pub gpu: Option<String>,
    /// Of the whole node.
    pub usd_per_hour: Option<f64>,
    /// Of one GPU; the node costs this times its GPUs.
    pub usd_per_gpu_hour: Option<f64>,
    /// Share taken off the amount, or off the catalogue's price where no amount is given: 0.4 is 40 % off.
    pub discount: Option<f64>,
    /// When the price was looked up: 2026-11-01.
    #[serde(deserialize_with = "day")]
    pub as_of: Option<String>,
    /// "USD" where it is not said; another one needs a rate.
    pub currency: Option<String>,
    /// US dollars of one unit of the currency.
    pub rate: Option<f64>,
    /// The last day of a reservation or commitment: until then emptying such a node saves nothing at once.
    #[serde(deserialize_with = "day")]
    pub committed_until: Option<String>,
}

/// A date as TOML writes it, or as text.
fn day<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    match toml::Value::deserialize(from)? {
        toml::Value::String(text) => Ok(Some(text)),
        toml::Value::Datetime(date) => Ok(Some(date.to_string())),
        other => Err(serde::de::Error::custom(format!(
            "{other} is no date: write as_of = 2026-11-01 (committed_until likewise)"
        ))),
    }
}

const PRICE_KEYS: [&str; 15] = [
    "cluster",
    "node",
    "pool",
    "partition",
    "instance_type",
    "region",
    "capacity_type",
    "gpu",
    "usd_per_hour",
    "usd_per_gpu_hour",
    "discount",
    "as_of",
    "currency",
    "rate",
    "committed_until",
];

impl PriceBook {
    /// Reads a price file (TOML).
    ///
    /// # Errors
    /// Names the line, the key and the nearest known one; refuses other currencies, amounts that are not above 0,
    /// entries with two amounts or none, and entries that match every node.
    pub fn parse(text: &str) -> Result<Self, String> {
        let book: Self = toml::from_str(text).map_err(|e| explain(text, &e))?;
        for (index, entry) in book.entries.iter().enumerate() {
            entry
                .check()
                .map_err(|why| format!("line {}: {why}", entry_line(text, index)))?;
        }
        if book.entries.is_empty() {
            return Err("it has no [[price]] entry; 'gpuwaste catalog prices --template' writes an example".into());
        }
        Ok(book)
    }

    /// The machine on the bill.
    pub fn billed(&self, machine: Option<&str>) -> Option<&Billed> {
        self.bill.as_ref()?.machines.get(machine?)
    }

    /// The first entry that matches, with its index.
    fn find(&self, query: &PriceQuery<'_>) -> Option<(usize, &PriceEntry)> {
        self.entries.iter().enumerate().find(|(_, e)| e.matches(query))
    }
}

/// toml's message with the line in front and the nearest known key behind.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let line = error
        .span()
        .map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = error.message();
    let unknown = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next());
    let hint = unknown.and_then(|key| {
        PRICE_KEYS
            .iter()
            .chain(&["price"])
            .max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)))
    });
    match (unknown, hint) {
        (Some(key), Some(near)) => format!("line {line}: unknown key '{key}': did you mean '{near}'?"),
        _ => format!("line {line}: {message}"),
    }
}

/// The line of the n-th `[[price]]` header.
fn entry_line(text: &str, index: usize) -> usize {
    text.lines()
        .enumerate()
        .filter(|(_, l)| l.trim_start().starts_with("[[price]]"))
        .nth(index)
        .map_or(1, |(i, _)| i + 1)
}

impl PriceEntry {
    /// Refuses what no node could be priced by.
    pub fn check(&self) -> Result<(), String> {
        self.check_amount()?;
        if let Some(until) = self.committed_until.as_deref().filter(|d| d.parse::<Date>().is_err()) {
            return Err(format!("committed_until '{until}' is no date: write 2027-06-30"));
        }
        if let Some(kind) = self
            .capacity_type
            .as_deref()
            .filter(|c| CapacityType::parse(c).is_none())
        {
            return Err(format!(
                "capacity_type '{kind}': use on-demand, spot, reserved, capacity-block or owned"
            ));
        }
        if let Some(gpu) = self.gpu.as_deref().filter(|g| super::gpus::find(g).is_none()) {
            let near = super::gpus::nearest(gpu).join(", ");
            return Err(format!(
                "gpu '{gpu}' is not in the catalogue{}",
                if near.is_empty() {
                    String::new()
                } else {
                    format!("; near: {near}")
                }
            ));
        }
        let keys = [
            &self.cluster,
            &self.node,
            &self.pool,
            &self.instance_type,
            &self.region,
            &self.capacity_type,
            &self.gpu,
        ];
        if keys.iter().all(|k| k.is_none()) {
            return Err(
                "it matches every node: give at least one of cluster, node, pool (or partition), instance_type, region, capacity_type, gpu (node = \"*\" is all of them)"
                    .into(),
            );
        }
        Ok(())
    }

    fn check_amount(&self) -> Result<(), String> {
        let foreign = self.currency.as_deref().filter(|c| !c.eq_ignore_ascii_case("usd"));
        match (foreign, self.rate) {
            (Some(currency), None) => {
                return Err(format!(
                    "currency '{currency}': say what one {currency} is in US dollars, such as rate = 1.08"
                ));
            }
            (_, Some(rate)) if !rate.is_finite() || rate <= 0.0 => {
                return Err(format!(
                    "rate {rate}: the US dollars of one unit are expected, such as 1.08"
                ));
            }
            (None, Some(_)) => return Err("a rate without a currency: say which, such as currency = \"EUR\"".into()),
            _ => {}
        }
        if let Some(off) = self.discount.filter(|d| !(*d >= 0.0 && *d < 1.0)) {
            let share = if off > 1.0 && off < 100.0 {
                format!(": {} is {off} % off", off / 100.0)
            } else {
                String::new()
            };
            return Err(format!(
                "discount {off}: a share from 0 to 1 is expected, 0.4 for 40 % off{share}"
            ));
        }
        let amount = match (self.usd_per_hour, self.usd_per_gpu_hour) {
            (Some(amount), None) | (None, Some(amount)) => amount,
            (Some(_), Some(_)) => return Err("two amounts: give usd_per_hour or usd_per_gpu_hour, not both".into()),
            (None, None) if self.discount.is_some() || self.committed_until.is_some() => return Ok(()),
            (None, None) => {
                return Err(
                    "no amount: give usd_per_hour (of the node) or usd_per_gpu_hour, or a discount on the catalogue's price".into(),
                );
            }
        };
        if !amount.is_finite() || amount <= 0.0 || amount > 100_000.0 {
            return Err(format!(
                "{amount} is no price: an amount above 0 and up to 100000 USD per hour is expected"
            ));
        }
        Ok(())
    }

    /// Reserved or committed on that day.
    pub fn is_committed(&self, at: Timestamp) -> bool {
        let until = self.committed_until.as_deref().and_then(|d| d.parse::<Date>().ok());
        let begins = until.and_then(|d| d.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok());
        // The last day counts.
        begins.is_some_and(|day| at.as_second() < day.timestamp().as_second() + 86_400)
    }

    fn matches(&self, query: &PriceQuery<'_>) -> bool {
        let text = |pattern: &Option<String>, value: Option<&str>| {
            pattern.as_deref().is_none_or(|p| value.is_some_and(|v| glob(p, v)))
        };
        text(&self.cluster, Some(query.cluster))
            && text(&self.node, Some(query.node))
            && self
                .pool
                .as_deref()
                .is_none_or(|p| query.pool.split(',').any(|own| glob(p, own)))
            && text(&self.instance_type, query.instance_type)
            && text(&self.region, query.region)
            && self
                .capacity_type
                .as_deref()
                .is_none_or(|c| CapacityType::parse(c) == Some(query.capacity_type))
            && self.gpu.as_deref().is_none_or(|g| {
                super::gpus::find(g).is_some_and(|row| query.gpu.is_some_and(|own| own.name == row.name))
            })
    }

    /// US dollars of the node, its discount taken off; `None`: the entry gives no amount.
    fn amount(&self, gpus: u32) -> Option<UsdPerHour> {
        let paid = |usd: f64| UsdPerHour::from_usd(usd * self.rate.unwrap_or(1.0) * self.share());
        self.usd_per_hour
            .and_then(paid)
            .or_else(|| self.usd_per_gpu_hour.and_then(paid).map(|p| p.times(u64::from(gpus))))
    }

    /// What is left of a price.
    fn share(&self) -> f64 {
        1.0 - self.discount.unwrap_or(0.0)
    }

    fn has_amount(&self) -> bool {
        self.usd_per_hour.is_some() || self.usd_per_gpu_hour.is_some()
    }
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

/// `*` matches any run of characters; everything else itself, whatever its case.
pub fn glob(pattern: &str, text: &str) -> bool {
    // No single-character wildcard: a name may hold a question mark, and none holds NUL.
    WildMatchPattern::<'*', '\0'>::new_case_insensitive(pattern).matches(text)
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
    let found = |row: &InstanceRow, source: PriceSource| {
        row.price(query.capacity_type).map(|usd| NodePrice {
            usd_per_hour: Some(usd),
            source,
            as_of: Some(row.as_of.clone()),
            stale: is_stale(&row.as_of, at, stale_days),
        })
    };
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
    // The median is an on-demand price: for spot, reserved and owned nodes it is still only an assumption (R6).
    let median = || {
        let median = instances::median(query.gpu?)?;
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

/// A price file to fill in: the instance types given (or an example), with today's catalogue price as a comment.
pub fn template(types: &[(String, Option<String>, CapacityType)]) -> String {
    let mut text = String::from(
        "# Your prices. The first entry that matches a node wins; '*' matches any run of characters.\n\
         # Keys: cluster, node, instance_type, region, capacity_type (on-demand, spot, reserved, capacity-block, owned), gpu;\n\
         # usd_per_hour is the whole node's price, usd_per_gpu_hour one GPU's; discount = 0.4 takes 40 % off it, or off the catalogue's.\n\
         # currency = \"EUR\" needs rate (US dollars of one). as_of = 2026-11-01 is when you looked it up;\n\
         # committed_until = 2027-06-30: reserved or committed, so that emptying a node stops no bill before.\n",
    );
    let example = [(
        "p5.48xlarge".to_string(),
        Some("us-east-1".to_string()),
        CapacityType::Reserved,
    )];
    for (instance_type, region, capacity) in if types.is_empty() { &example[..] } else { types } {
        let row = instances::of_type(instance_type)
            .find(|r| r.can_be_rented() && region.as_deref().is_none_or(|x| x == r.region));
        let list = row.and_then(|r| r.price(CapacityType::OnDemand).map(|p| (p, &r.as_of)));
        text.push_str("\n[[price]]\n");
        text.push_str(&format!("instance_type = \"{instance_type}\"\n"));
        if let Some(region) = region {
            text.push_str(&format!("region = \"{region}\"\n"));
        }
        if let Some(capacity) = capacity.name() {
            text.push_str(&format!("capacity_type = \"{capacity}\"\n"));
        }
        match list {
            Some((usd, as_of)) => text.push_str(&format!(
                "usd_per_hour = {}  # on-demand list price of {as_of}: put yours\n",
                usd.usd()
            )),
            None => text.push_str("usd_per_hour = 1.00  # not in the catalogue: put yours\n"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpus;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn price(query: &PriceQuery<'_>) -> NodePrice {
        price_of(query, &PriceBook::default(), now(), 180).0
    }

    fn one(text: &str) -> PriceBook {
        PriceBook::parse(&format!("[[price]]\n{text}")).unwrap()
    }

    #[test]
    fn discounts_currencies_and_commitments_are_what_is_paid() {
        let query = PriceQuery {
            cluster: "prod",
            node: "a",
            pool: "",
            cloud: Some("aws"),
            instance_type: Some("p5.48xlarge"),
            region: Some("us-east-1"),
            capacity_type: CapacityType::OnDemand,
            gpu: gpus::find("H100-SXM5-80GB"),
            gpus: 8,
            machine: None,
        };
        let paid = |text: &str| price_of(&query, &one(text), now(), 180).0.usd_per_hour.unwrap().usd();
        assert!((paid("cluster = \"prod\"\ndiscount = 0.4") - 55.04 * 0.6).abs() < 1e-6);
        assert!((paid("node = \"*\"\nusd_per_gpu_hour = 2\ndiscount = 0.25") - 12.0).abs() < 1e-6);
        assert!((paid("node = \"*\"\nusd_per_hour = 10\ncurrency = \"EUR\"\nrate = 1.1") - 11.0).abs() < 1e-6);
        assert!((paid("node = \"*\"\ncommitted_until = 2027-06-30") - 55.04).abs() < 1e-6);
        let dated = one("node = \"a\"\nusd_per_hour = 1\nas_of = 2026-11-01\ncommitted_until = 2026-11-24");
        assert_eq!(dated.entries[0].as_of.as_deref(), Some("2026-11-01"));
        assert!(dated.entries[0].is_committed(now()), "its last day counts");
        assert!(!dated.entries[0].is_committed("2026-11-25T00:00:00Z".parse().unwrap()));
        for (text, words) in [
            ("node = \"a\"\nusd_per_hour = 1\ncurrency = \"EUR\"", "rate = 1.08"),
            ("node = \"a\"\nusd_per_hour = 1\nrate = 2", "currency"),
            ("node = \"a\"\ndiscount = 40", "0.4 is 40 % off"),
            ("node = \"a\"\nusd_per_hour = 1\nas_of = 7", "as_of = 2026-11-01"),
            (
                "node = \"a\"\nusd_per_hour = 1\ncommitted_until = \"soon\"",
                "2027-06-30",
            ),
        ] {
            let why = PriceBook::parse(&format!("[[price]]\n{text}")).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    #[test]
    fn prices_fall_from_row_to_region_to_median_to_unknown() {
        let h100 = gpus::find("H100-SXM5-80GB");
        let query = PriceQuery {
            cloud: Some("aws"),
            instance_type: Some("p5.48xlarge"),
            region: Some("us-east-1"),
            capacity_type: CapacityType::OnDemand,
            gpu: h100,
            gpus: 8,
            ..PriceQuery::default()
        };
        let exact = price(&query);
        assert_eq!(
            (exact.usd_per_hour, exact.source),
            (UsdPerHour::from_usd(55.04), PriceSource::Catalog)
        );
        let elsewhere = price(&PriceQuery {
            region: Some("mars-north-1"),
            ..query.clone()
        });
        assert_eq!(
            (elsewhere.usd_per_hour, elsewhere.source),
            (UsdPerHour::from_usd(55.04), PriceSource::RegionGuess)
        );
        let spot = price(&PriceQuery {
            capacity_type: CapacityType::Spot,
            ..query.clone()
        });
        assert_eq!(
            (spot.usd_per_hour, spot.source),
            (UsdPerHour::from_usd(19.4933), PriceSource::Catalog)
        );
        let own = price(&PriceQuery {
            cloud: None,
            instance_type: None,
            capacity_type: CapacityType::Owned,
            ..query.clone()
        });
        assert_eq!(own.source, PriceSource::GpuMedian);
        assert!(own.usd_per_hour.is_some_and(|p| p.usd() > 8.0));
        let unknown = price(&PriceQuery {
            instance_type: Some("dgx-mystery"),
            gpu: None,
            ..query
        });
        assert_eq!(unknown, NodePrice::default());
    }

    #[test]
    fn a_reservation_is_never_priced_by_the_list() {
        let query = PriceQuery {
            cloud: Some("aws"),
            instance_type: Some("p5.48xlarge"),
            region: Some("us-east-1"),
            capacity_type: CapacityType::Reserved,
            gpus: 8,
            ..PriceQuery::default()
        };
        assert_eq!(price(&query).source, PriceSource::Unknown);
    }

    #[test]
    fn the_users_price_wins() {
        let book =
            PriceBook::parse("[[price]]\nnode = \"gpu-*\"\ngpu = \"H100 80GB\"\nusd_per_gpu_hour = 2.5\n").unwrap();
        let query = PriceQuery {
            node: "gpu-07",
            gpu: gpus::find("H100-SXM5-80GB"),
            gpus: 8,
            ..PriceQuery::default()
        };
        let (price, used) = price_of(&query, &book, now(), 180);
        assert_eq!(
            (price.usd_per_hour, price.source, used),
            (UsdPerHour::from_usd(20.0), PriceSource::User, Some(0))
        );
        let other = PriceQuery { node: "cpu-1", ..query };
        assert_eq!(price_of(&other, &book, now(), 180).1, None);
    }

    #[test]
    fn a_typo_in_a_price_file_names_the_line() {
        let error = PriceBook::parse("[[price]]\ninstance_typ = \"p5.48xlarge\"\nusd_per_hour = 1.0\n").unwrap_err();
        assert!(
            error.contains("line 2") && error.contains("did you mean 'instance_type'"),
            "{error}"
        );
        let error = PriceBook::parse(
            "[[price]]\nnode = \"a\"\nusd_per_hour = 1\n\n[[price]]\nnode = \"b\"\nusd_per_hour = -3\n",
        )
        .unwrap_err();
        assert!(error.contains("line 5") && error.contains("-3"), "{error}");
        let error = PriceBook::parse("[[price]\n").unwrap_err();
        assert!(error.contains("line 1"), "{error}");
        for (text, word) in [
            ("[[price]]\nnode=\"a\"\n", "no amount"),
            ("[[price]]\nusd_per_hour=1.0\n", "every node"),
            ("[[price]]\nnode=\"a\"\nusd_per_hour=nan\n", "no price"),
            ("[[price]]\nnode=\"a\"\ncurrency=\"EUR\"\nusd_per_hour=1.0\n", "EUR"),
            ("[[price]]\ngpu=\"H100 SMX\"\nusd_per_hour=1.0\n", "H100-SXM5-80GB"),
            ("", "no [[price]]"),
        ] {
            let error = PriceBook::parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn dates_may_be_partial() {
        assert!(!is_stale("2026-07-20", now(), 180));
        assert!(is_stale("2026-01-21", now(), 180));
        assert!(!is_stale("2026-08", now(), 180));
        assert!(is_stale("unknown", now(), 180));
    }

    #[test]
    fn the_template_is_a_price_file() {
        let text = template(&[
            ("p5.48xlarge".into(), Some("us-east-1".into()), CapacityType::OnDemand),
            ("odd".into(), None, CapacityType::Unknown),
        ]);
        let book = PriceBook::parse(&text).unwrap();
        assert_eq!(book.entries.len(), 2);
        assert_eq!(book.entries[0].usd_per_hour, Some(55.04));
        assert!(PriceBook::parse(&template(&[])).is_ok());
    }

    #[test]
    fn globs_match_as_people_expect() {
        assert!(glob("gpu-*", "GPU-12"));
        assert!(glob("*h100*", "aks-h100-vmss01"));
        assert!(glob("exact", "exact"));
        assert!(!glob("exact", "exactly"));
        assert!(!glob("gpu-?", "gpu-1"), "a question mark is itself");
        assert!(glob("", "") && !glob("", "a") && glob("*", ""));
        assert!(!glob("a*b*c", "abd"));
        assert!(!glob("ab*ba", "aba"), "parts do not overlap");
    }
}
