//! The user's own prices: a price file's entries, what is refused of them, and which matches a node.

use super::{CapacityType, PriceQuery};
use crate::bill::{Bill, Billed};
use crate::gpus;
use crate::units::UsdPerHour;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use std::sync::Arc;
use wildmatch::WildMatchPattern;

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

    /// Entries that match, too, behind the one that decides.
    pub fn behind(&self, query: &PriceQuery<'_>, decides: Option<usize>) -> Vec<usize> {
        let later = self
            .entries
            .iter()
            .enumerate()
            .skip(decides.map_or(usize::MAX, |i| i + 1));
        later.filter(|(_, e)| e.matches(query)).map(|(i, _)| i).collect()
    }

    /// The first entry that matches, with its index.
    pub(super) fn find(&self, query: &PriceQuery<'_>) -> Option<(usize, &PriceEntry)> {
        self.entries.iter().enumerate().find(|(_, e)| e.matches(query))
    }
}

/// toml's message with the line in front and the nearest known key behind.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
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
        (Some(key), Some(near)) if key == *near => {
            format!("line {line}: '{key}' belongs to an entry: write [[price]] on a line before it")
        }
        (Some(key), Some(near)) => format!("line {line}: unknown key '{key}': did you mean '{near}'?"),
        _ => format!("line {line}: {}", toml_words(text, at, message)),
    }
}

/// What is wrong with a line of TOML, in words of what people write: the key, what stands there, what is expected.
pub fn toml_words(text: &str, at: usize, message: &str) -> String {
    let number = text.get(..at).unwrap_or(text).matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let (key, value) = line
        .split_once('=')
        .map_or((line.trim(), ""), |(k, v)| (k.trim(), v.trim()));
    // A comment behind the value says nothing of it.
    let value = match value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        Some(quote) => value[1..].find(quote).map_or(value, |end| &value[..end + 2]),
        None => value.split('#').next().unwrap_or(value).trim(),
    };
    let bare = value.trim_matches(['"', '\'']);
    let written = format!("{key} = {value}");
    let expected = message.split(", expected ").nth(1).unwrap_or_default();
    if message == "duplicate key" {
        return format!("the key '{key}' stands twice in one table: keep one");
    }
    if message.starts_with("key with no value") {
        return format!("'{}': KEY = VALUE is expected, with an equals sign", line.trim());
    }
    if message.starts_with("invalid type: map") && expected.contains("sequence") {
        let name = line.trim().trim_matches(['[', ']']);
        return format!("[{name}]: there may be several, so that two brackets are expected: [[{name}]]");
    }
    if message.starts_with("invalid date") || message.starts_with("invalid time") {
        return format!("{written}: there is no such day; write {key} = 2026-11-01");
    }
    let numbers = ["f64", "u64", "u32", "i64", "usize"];
    if message.starts_with("invalid type") && numbers.iter().any(|n| expected.starts_with(n)) {
        let share = bare.strip_suffix('%').and_then(|p| p.trim().parse::<f64>().ok());
        let way = match (share, bare.parse::<f64>()) {
            (Some(percent), _) => format!(": {key} = {}", percent / 100.0),
            (_, Ok(_)) => format!(", without quotes: {key} = {bare}"),
            _ => String::new(),
        };
        return format!("{written}: a number is expected{way}");
    }
    if message.starts_with("invalid type") && expected.contains("string") {
        return format!("{written}: text in quotes is expected: {key} = \"{bare}\"");
    }
    // A word without quotes is read as the beginning of true, false, a number or a date.
    if message.starts_with("invalid") && !value.is_empty() && bare.starts_with(char::is_alphabetic) {
        return format!("{written}: text stands in quotes (\"{bare}\"), a number is written bare");
    }
    message.trim_end().to_string()
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
        // Of a catalogue's row the month may be all that is known.
        let is_day = |d: &str| d.parse::<Date>().is_ok() || format!("{d}-01").parse::<Date>().is_ok();
        if let Some(day) = self.as_of.as_deref().filter(|d| !is_day(d)) {
            return Err(format!("as_of '{day}' is no date: write 2026-11-01"));
        }
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
        if let Some(gpu) = self.gpu.as_deref().filter(|g| gpus::find(g).is_none()) {
            let near = gpus::nearest(gpu).join(", ");
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

    /// What it matches by, as it is written: `node = "dgx-*", gpu = "H100"`.
    pub fn keys(&self) -> String {
        let keys = [
            ("cluster", &self.cluster),
            ("node", &self.node),
            ("pool", &self.pool),
            ("instance_type", &self.instance_type),
            ("region", &self.region),
            ("capacity_type", &self.capacity_type),
            ("gpu", &self.gpu),
        ];
        let given = keys
            .iter()
            .filter_map(|(key, value)| Some(format!("{key} = \"{}\"", value.as_ref()?)));
        given.collect::<Vec<_>>().join(", ")
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
            && self
                .gpu
                .as_deref()
                .is_none_or(|g| gpus::find(g).is_some_and(|row| query.gpu.is_some_and(|own| own.name == row.name)))
    }

    /// US dollars of the node, its discount taken off; `None`: the entry gives no amount.
    pub(super) fn amount(&self, gpus: u32) -> Option<UsdPerHour> {
        let paid = |usd: f64| UsdPerHour::from_usd(usd * self.rate.unwrap_or(1.0) * self.share());
        self.usd_per_hour
            .and_then(paid)
            .or_else(|| self.usd_per_gpu_hour.and_then(paid).map(|p| p.times(u64::from(gpus))))
    }

    /// What is left of a price.
    pub(super) fn share(&self) -> f64 {
        1.0 - self.discount.unwrap_or(0.0)
    }

    pub(super) fn has_amount(&self) -> bool {
        self.usd_per_hour.is_some() || self.usd_per_gpu_hour.is_some()
    }
}

/// `*` matches any run of characters; everything else itself, whatever its case.
pub fn glob(pattern: &str, text: &str) -> bool {
    // No single-character wildcard: a name may hold a question mark, and none holds NUL.
    WildMatchPattern::<'*', '\0'>::new_case_insensitive(pattern).matches(text)
}
