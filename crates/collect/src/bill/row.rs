//! One charge of a FOCUS export (FinOps Open Cost and Usage Specification 1.0–1.2, its "Cost and Usage" columns).

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// Columns without which nothing can be told.
const NEEDED: [&str; 5] = [
    "ResourceId",
    "EffectiveCost",
    "ChargeCategory",
    "ChargePeriodStart",
    "ChargePeriodEnd",
];
/// Columns that name the instance type somewhere in their words: of Azure the meter, of AWS the description or its details.
const WORDS: [&str; 4] = ["SkuMeter", "ChargeDescription", "SkuPriceDetails", "x_SkuMeterName"];

/// Where each column stands.
#[derive(Debug)]
pub(super) struct Columns {
    needed: [usize; 5],
    name: Option<usize>,
    class: Option<usize>,
    quantity: Option<usize>,
    unit: Option<usize>,
    currency: Option<usize>,
    commitment: Option<usize>,
    pricing: Option<usize>,
    sku: Option<usize>,
    words: Vec<usize>,
}

impl Columns {
    /// # Errors
    /// Columns are missing; says which, and of what the file rather looks like.
    pub(super) fn of<'a>(header: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let names: Vec<&str> = header.map(|h| h.trim_start_matches('\u{feff}').trim()).collect();
        let at = |name: &str| names.iter().position(|n| n.eq_ignore_ascii_case(name));
        let missing: Vec<&str> = NEEDED.into_iter().filter(|n| at(n).is_none()).collect();
        if !missing.is_empty() {
            let other = names.iter().find_map(|n| match n.to_ascii_lowercase().as_str() {
                "line_item_resource_id" | "lineitem/resourceid" => Some("an AWS Cost and Usage Report"),
                "costinbillingcurrency" | "costinusd" => Some("Azure's own cost details"),
                _ => None,
            });
            let looks = other.map(|o| format!("it looks like {o}; ")).unwrap_or_default();
            return Err(format!(
                "it lacks {}: {looks}an export in the form of FOCUS 1.0 to 1.2 is expected",
                missing.join(", ")
            ));
        }
        Ok(Self {
            needed: NEEDED.map(|n| at(n).unwrap_or_default()),
            name: at("ResourceName"),
            class: at("ChargeClass"),
            quantity: at("ConsumedQuantity"),
            unit: at("ConsumedUnit"),
            currency: at("BillingCurrency"),
            commitment: at("CommitmentDiscountStatus"),
            pricing: at("PricingCategory"),
            sku: at("SkuId"),
            words: WORDS.iter().filter_map(|w| at(w)).collect(),
        })
    }
}

/// A charge for use over some time.
#[derive(Debug)]
pub(super) struct Charge<'a> {
    pub(super) resource: &'a str,
    pub(super) name: Option<&'a str>,
    /// Effective cost in the currency.
    pub(super) cost: f64,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) unit: Unit,
    /// Of the unit.
    pub(super) quantity: Option<f64>,
    pub(super) currency: Option<&'a str>,
    pub(super) commitment: Commitment,
    /// Its price moves with the market (spot).
    pub(super) dynamic: bool,
    pub(super) sku: &'a str,
    pub(super) words: Vec<&'a str>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Hours of machines.
    Hours,
    /// Time of parts of a machine: its cores, its memory, its GPUs.
    Parts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commitment {
    None,
    Used,
    Unused,
}

/// `None`: nothing that a machine costs by time (taxes, purchases, corrections of earlier bills, data transfer).
///
/// # Errors
/// A value that is none of its kind, with its column.
pub(super) fn charge<'a>(
    columns: &Columns,
    field: impl Fn(usize) -> Option<&'a str>,
) -> Result<Option<Charge<'a>>, String> {
    let text = |at: usize| {
        field(at)
            .map(str::trim)
            .filter(|t| !t.is_empty() && !t.eq_ignore_ascii_case("null"))
    };
    let maybe = |at: Option<usize>| at.and_then(text);
    let [resource, cost, category, from, to] = columns.needed;
    let is_use = text(category).is_some_and(|c| c.eq_ignore_ascii_case("usage"));
    let corrects = maybe(columns.class).is_some_and(|c| c.eq_ignore_ascii_case("correction"));
    let (Some(id), true, false) = (text(resource), is_use, corrects) else {
        return Ok(None);
    };
    let number = |what: &str, told: &str| {
        let number = told.parse::<f64>().ok().filter(|n| n.is_finite());
        number.ok_or_else(|| format!("{what} '{}' is no number", short(told)))
    };
    let time = |what: &str, at: usize| {
        let told = text(at).ok_or_else(|| format!("it has no {what}"))?;
        time(told).ok_or_else(|| format!("{what} '{}' is no time", short(told)))
    };
    let commitment = match maybe(columns.commitment) {
        Some(c) if c.eq_ignore_ascii_case("used") => Commitment::Used,
        Some(c) if c.eq_ignore_ascii_case("unused") => Commitment::Unused,
        _ => Commitment::None,
    };
    let unit = match maybe(columns.unit).and_then(unit) {
        Some(unit) => unit,
        // What was not used was not consumed in any unit.
        None if commitment == Commitment::Unused => Unit::Parts,
        None => return Ok(None),
    };
    let told = text(cost).ok_or("it has no EffectiveCost")?;
    let (from, to) = (time("ChargePeriodStart", from)?, time("ChargePeriodEnd", to)?);
    if from >= to {
        return Err("its charge period ends before it begins".into());
    }
    Ok(Some(Charge {
        resource: id,
        name: maybe(columns.name),
        cost: number("EffectiveCost", told)?,
        from,
        to,
        unit,
        quantity: maybe(columns.quantity)
            .map(|q| number("ConsumedQuantity", q))
            .transpose()?,
        currency: maybe(columns.currency),
        commitment,
        dynamic: maybe(columns.pricing).is_some_and(|p| p.eq_ignore_ascii_case("dynamic")),
        sku: maybe(columns.sku).unwrap_or_default(),
        words: columns.words.iter().filter_map(|w| text(*w)).collect(),
    }))
}

/// Units as providers write them: "Hours", "Hrs" (AWS), "Units/Hour", "1 Hour" (Azure), "OCPU Hours", "GB Hours" (Oracle), "seconds",
/// "byte-seconds" (Google). `None`: no time is in it.
fn unit(told: &str) -> Option<Unit> {
    let told = told.to_ascii_lowercase();
    let own = told.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    match own {
        "hours" | "hour" | "hrs" | "hr" | "h" | "units/hour" | "instance hours" | "vm hours" => Some(Unit::Hours),
        _ if ["hour", "hrs", "second", "minute"].iter().any(|w| own.contains(w)) => Some(Unit::Parts),
        _ => None,
    }
}

/// "2026-11-24T19:00:00Z", as FOCUS has it; with a space, with " UTC" behind it (BigQuery), or a day alone, as exports have it. Without
/// a zone it is UTC, as FOCUS says.
fn time(told: &str) -> Option<Timestamp> {
    if let Ok(time) = told.parse() {
        return Some(time);
    }
    let own = told.trim_end_matches("UTC").trim();
    let civil = own
        .parse::<DateTime>()
        .ok()
        .or_else(|| own.parse::<Date>().ok().map(DateTime::from))?;
    TimeZone::UTC.to_timestamp(civil).ok()
}

/// Of what stands in a file, as much as a message needs.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_exports_write_them() {
        let at = "2026-11-24T19:00:00Z".parse::<Timestamp>().ok();
        for told in [
            "2026-11-24T19:00:00Z",
            "2026-11-24T19:00:00.000Z",
            "2026-11-24 19:00:00",
            "2026-11-24 19:00:00 UTC",
            "2026-11-24T20:00:00+01:00",
        ] {
            assert_eq!(time(told), at, "{told}");
        }
        assert!(time("2026-11-24").is_some() && time("11/24/2026").is_none() && time("").is_none());
    }

    #[test]
    fn only_time_is_a_machines_cost() {
        for told in ["Hours", "Hrs", "1 Hour", "Units/Hour"] {
            assert_eq!(unit(told), Some(Unit::Hours), "{told}");
        }
        for told in ["OCPU Hours", "GB Hours", "seconds", "byte-seconds", "vCPU-Hours"] {
            assert_eq!(unit(told), Some(Unit::Parts), "{told}");
        }
        for told in ["GB", "Requests", "GB-Mo", "Units/Month"] {
            assert_eq!(unit(told), None, "{told}");
        }
    }

    #[test]
    fn another_export_is_named() {
        let why = Columns::of(["line_item_resource_id", "line_item_unblended_cost"].into_iter()).unwrap_err();
        assert!(
            why.contains("Cost and Usage Report") && why.contains("ResourceId"),
            "{why}"
        );
        let why = Columns::of(["a"].into_iter()).unwrap_err();
        assert!(why.contains("FOCUS 1.0 to 1.2"), "{why}");
    }
}
