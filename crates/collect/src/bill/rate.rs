//! From charges to what an hour of a machine costs.

use super::row::{Charge, Commitment, Unit};
use crate::catalog::bill::Billed;
use crate::catalog::instances;
use crate::catalog::prices::CapacityType;
use crate::units::UsdPerHour;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Of one machine for an hour; price files take no more either.
const MOST_USD: f64 = 100_000.0;
const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;
/// A machine costs the median of its last days: one day more is kept while reading, which may turn out to be cut.
const DAYS: usize = 7;
/// Where a bill counts parts of machines, the first and the last hour of each may be cut; over fewer hours that shows.
const FEW_HOURS: u32 = 6;
/// With what rounding adds.
const HOURS_OF_A_DAY: f64 = 24.5;

/// What is kept of one machine, or scale set of machines.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// By days since 1970, UTC.
    days: BTreeMap<i64, Day>,
    pub(super) gpu_type: Option<&'static str>,
    /// The resources of the bill that have this name: two are none.
    resource: u64,
    ambiguous: bool,
    /// Several machines stand behind it.
    set: bool,
}

#[derive(Debug, Default)]
struct Day {
    usd: f64,
    committed_usd: f64,
    dynamic_usd: f64,
    /// Hours of machines, by what was sold.
    hours: BTreeMap<u64, f64>,
    /// The hours of the day in which something was charged.
    clock: u32,
    /// Charged by the day, or longer: which hours of it is not told.
    coarse: bool,
    /// Rows that it is made of: exports that are delivered again have them again.
    rows: BTreeSet<u64>,
}

pub(super) fn hash(text: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Machine {
    /// Takes a charge of so many US dollars; `false`: it had the very row already.
    pub(super) fn add(&mut self, charge: &Charge<'_>, usd: f64, row: u64) -> bool {
        let resource = hash(charge.resource);
        if self.days.is_empty() {
            self.resource = resource;
            self.set = crate::machine::is_set(charge.resource);
        }
        // Only Google's machines are known by a name that two may have.
        self.ambiguous |= self.resource != resource && charge.resource.contains("googleapis.com/");
        self.gpu_type = self.gpu_type.or_else(|| gpu_type(&charge.words));
        let (from, to) = (charge.from.as_second(), charge.to.as_second());
        let day = self.days.entry(from.div_euclid(DAY)).or_default();
        if !day.rows.insert(row) {
            return false;
        }
        day.usd += usd;
        if charge.commitment == Commitment::Used {
            day.committed_usd += usd;
        }
        if charge.dynamic {
            day.dynamic_usd += usd;
        }
        if let (Unit::Hours, Some(hours)) = (charge.unit, charge.quantity) {
            *day.hours.entry(hash(charge.sku)).or_default() += hours;
        }
        day.coarse |= to - from > HOUR;
        let first = from.rem_euclid(DAY) / HOUR;
        let last = ((to - 1).min(from - from.rem_euclid(DAY) + DAY - 1)).rem_euclid(DAY) / HOUR;
        for hour in first..=last {
            day.clock |= 1 << hour;
        }
        while self.days.len() > DAYS + 1 {
            self.days.pop_first();
        }
        true
    }

    /// # Errors
    /// Its hours, or which machine it is, cannot be told; says why.
    pub(super) fn billed(&self, ends: i64) -> Result<Billed, &'static str> {
        if self.ambiguous {
            return Err("two resources of the bill have their name");
        }
        let (last, _) = self.days.last_key_value().ok_or("their machines are not on it")?;
        let rates = self.rates()?;
        let recent = || self.days.values().rev().take(DAYS);
        let sum = |of: fn(&Day) -> f64| recent().map(of).sum::<f64>();
        let usd = sum(|d| d.usd);
        let paid = if sum(|d| d.committed_usd) > 0.5 * usd {
            CapacityType::Reserved
        } else if sum(|d| d.dynamic_usd) > 0.5 * usd {
            CapacityType::Spot
        } else {
            CapacityType::OnDemand
        };
        let rate = rates[rates.len() / 2];
        let usd_per_hour = UsdPerHour::from_usd(rate)
            .filter(|p| p.micros() > 0 && p.usd() <= MOST_USD)
            .ok_or("the bill says that they cost nothing, or more than any machine does")?;
        Ok(Billed {
            usd_per_hour,
            paid,
            as_of: date(*last),
            gpu_type: self.gpu_type,
            lasts: ends - last <= 1,
        })
    }

    /// US dollars of one machine for an hour, a day each, lowest first.
    fn rates(&self) -> Result<Vec<f64>, &'static str> {
        const UNTOLD: &str = "the bill does not tell how many hours they ran: export it by the hour";
        let counted = self.days.values().all(|d| d.hours.values().any(|h| *h > 0.0));
        let mut rates: Vec<f64> = Vec::new();
        if counted {
            for day in self.days.values().rev().take(DAYS) {
                let sold = day.hours.values().copied().fold(0.0, f64::max);
                if !self.set && !day.coarse && sold > HOURS_OF_A_DAY {
                    return Err(
                        "the bill charges more hours of them than a day has: leave out what tells the same days again",
                    );
                }
                rates.push(day.usd / sold);
            }
        } else {
            if self.set || self.days.values().any(|d| d.coarse) {
                return Err(UNTOLD);
            }
            let hours: u32 = self.days.values().map(|d| d.clock.count_ones()).sum();
            if hours < FEW_HOURS {
                return Err("the bill has them for a few hours only, of which the first and the last may be cut");
            }
            // The first and the last of them are cut somewhere: what is left of them is small where whole days are between.
            for day in self.days.values().rev().take(DAYS) {
                rates.push(day.usd / f64::from(day.clock.count_ones()));
            }
        }
        rates.retain(|r| r.is_finite());
        rates.sort_by(f64::total_cmp);
        if rates.is_empty() { Err(UNTOLD) } else { Ok(rates) }
    }
}

/// What commitments cost that were not used, of one instance type.
#[derive(Debug, Default)]
pub(super) struct Unused {
    days: BTreeMap<i64, (f64, i64, i64)>,
    rows: BTreeSet<(i64, u64)>,
}

impl Unused {
    /// `false`: it had the very row already.
    pub(super) fn add(&mut self, charge: &Charge<'_>, usd: f64, row: u64) -> bool {
        let (from, to) = (charge.from.as_second(), charge.to.as_second());
        if !self.rows.insert((from.div_euclid(DAY), row)) {
            return false;
        }
        let day = self.days.entry(from.div_euclid(DAY)).or_insert((0.0, from, to));
        *day = (day.0 + usd, day.1.min(from), day.2.max(to));
        while self.days.len() > DAYS {
            if let Some((gone, _)) = self.days.pop_first() {
                self.rows.retain(|(day, _)| *day > gone);
            }
        }
        true
    }

    /// Over the last days of the bill; `None`: nothing, or not lately.
    pub(super) fn usd_per_hour(&self, ends: i64) -> Option<UsdPerHour> {
        let recent: Vec<_> = self.days.iter().filter(|(day, _)| ends - **day < DAYS as i64).collect();
        let usd: f64 = recent.iter().map(|(_, (usd, ..))| usd).sum();
        let from = recent.iter().map(|(_, (_, from, _))| *from).min()?;
        // Hours without a charge are hours in which all was used.
        let to = recent.iter().map(|(_, (.., to))| *to).max()?.max(ends * DAY);
        let rate = UsdPerHour::from_usd(usd / ((to - from) as f64 / HOUR as f64))?;
        (rate.micros() > 0).then_some(rate)
    }
}

/// An instance type with GPUs among a bill's words: "$98.32 per On Demand Linux p5.48xlarge Instance Hour", "NC24ads A100 v4".
pub(super) fn gpu_type(words: &[&str]) -> Option<&'static str> {
    let known = |name: &str| {
        let row = instances::of_type(name).next()?;
        row.gpus.is_some().then_some(row.instance_type.as_str())
    };
    let in_words = |text: &&str| {
        let text: String = text.chars().take(400).collect();
        let apart = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        text.split(apart)
            .filter(|t| t.len() > 4)
            .find_map(known)
            .or_else(|| known(&format!("Standard_{}", text.trim().replace(' ', "_"))))
    };
    words.iter().find_map(in_words)
}

fn date(day: i64) -> String {
    Timestamp::from_second(day * DAY).map_or_else(|_| String::new(), |t| t.strftime("%Y-%m-%d").to_string())
}
