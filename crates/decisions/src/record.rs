//! The record: what became of findings of each check and part. One vote a subject, however often it was scanned; what nobody
//! decided is no vote; votes lose half of their weight in 180 days; others' count half. It only ever makes careful: it caps how
//! sure a finding is said to be, and says what such findings really saved.

use crate::entry::{Entry, Reason, Told};
use crate::standing::Book;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Days in which a vote loses half of its weight.
const HALF_LIFE: f64 = 180.0;
/// What a vote of another fleet counts.
const OTHERS: f64 = 0.5;
/// The two-sided 90 % quantile of the normal distribution.
const Z90: f64 = 1.644_853_6;
/// Subjects that a precision needs, and below which lower end it caps.
const SUBJECTS: f64 = 10.0;
const PRECISE: f64 = 0.9;
/// Outcomes that an expectation needs.
const OUTCOMES: usize = 8;

/// What a subject's last decision says of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Accepted,
    /// Intended, cannot, not worth it: true, and not acted on.
    Declined,
    Wrong,
}

/// One vote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    #[schemars(with = "String")]
    pub at: Timestamp,
    pub verdict: Verdict,
    /// Realised ÷ predicted; `None`: not settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realised: Option<f64>,
    /// It was reverted or did harm.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub regretted: bool,
    /// From the decision to its application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<f64>,
}

impl Vote {
    /// `None`: nothing was decided, or only put off.
    fn of(entry: &Entry) -> Option<Self> {
        let events = entry.in_time();
        let decided = events
            .iter()
            .rev()
            .find(|e| !matches!(e.state, Told::Open | Told::Snoozed))?;
        // Opened again by somebody: what was decided does not hold.
        let last = events.last()?;
        if last.state == Told::Open && decided.state == Told::Dismissed {
            return None;
        }
        let verdict = match (decided.state, decided.reason) {
            (Told::Dismissed, Some(Reason::Wrong)) => Verdict::Wrong,
            (Told::Dismissed, _) => Verdict::Declined,
            _ => Verdict::Accepted,
        };
        let outcome = entry.outcomes.last().filter(|o| o.predicted_usd_per_hour.is_positive());
        let realised = outcome.map(|o| o.realised_usd_per_hour.usd() / o.predicted_usd_per_hour.usd());
        let first = events.iter().find(|e| matches!(e.state, Told::Claimed | Told::Applied));
        let applied = events.iter().find(|e| e.state == Told::Applied);
        let between =
            |(a, f): (&&crate::entry::Event, &&crate::entry::Event)| (a.at.as_second() - f.at.as_second()) as f64;
        let days = applied.zip(first).map(|pair| (between(pair) / 86_400.0).max(0.0));
        Some(Self {
            at: decided.at,
            verdict,
            realised: realised.map(|r| (r.max(0.0) * 1e4).round() / 1e4),
            regretted: events
                .iter()
                .any(|e| matches!(e.state, Told::Reverted | Told::Regressed)),
            days,
        })
    }

    /// Of two votes of one subject the later one; of one time one that does not depend on who asks.
    fn joined(&self, other: &Self) -> Self {
        let key = |v: &Self| {
            let micros = |f: Option<f64>| f.map(|f| (f * 1e4) as i64);
            (v.at, v.verdict, v.regretted, micros(v.realised), micros(v.days))
        };
        if key(self) >= key(other) {
            self.clone()
        } else {
            other.clone()
        }
    }
}

/// Votes by check ("dark-capacity/idle") and by the finding's fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Record {
    pub checks: BTreeMap<String, BTreeMap<String, Vote>>,
}

impl Record {
    pub fn of(book: &Book) -> Self {
        let mut record = Self::default();
        for (id, entry) in &book.entries {
            if let Some(vote) = Vote::of(entry) {
                record.checks.entry(entry.check()).or_default().insert(id.clone(), vote);
            }
        }
        record
    }

    /// Associative, commutative, idempotent.
    pub fn merge(&mut self, other: &Self) {
        for (check, votes) in &other.checks {
            let mine = self.checks.entry(check.clone()).or_default();
            for (id, vote) in votes {
                let joined = mine.get(id).map_or_else(|| vote.clone(), |own| own.joined(vote));
                mine.insert(id.clone(), joined);
            }
        }
    }
}

/// The version of the file that fleets exchange; readers refuse a newer one.
const SCHEMA: u32 = 1;

/// A record for others: checks, fingerprints, times and shares; no names, no prices, no cluster ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    pub schema: u32,
    /// Votes by check and by the finding's fingerprint.
    pub record: Record,
}

impl Shared {
    pub const SCHEMA: u32 = SCHEMA;

    pub fn new(record: Record) -> Self {
        Self { schema: SCHEMA, record }
    }

    /// Figures that cannot be are refused: one file must not bend what all others say.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.schema > SCHEMA {
            return Err(format!(
                "it has schema {}, this gpuwaste reads up to {SCHEMA}: use the gpuwaste that wrote it, or a newer one",
                self.schema
            ));
        }
        for (check, votes) in &self.record.checks {
            for (id, vote) in votes {
                let fits = |v: Option<f64>, most: f64| v.is_none_or(|v| v.is_finite() && (0.0..=most).contains(&v));
                if !fits(vote.realised, MOST_REALISED) || !fits(vote.days, 36_500.0) {
                    return Err(format!("{check}, {id}: {vote:?} cannot be"));
                }
            }
        }
        Ok(())
    }
}

/// More than this of what was predicted nobody saves: a figure beyond it is a mistake (ours).
const MOST_REALISED: f64 = 100.0;

/// An estimate with its Wilson 90 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Share {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// Wilson's interval of `yes` of `all`, which may be weights; `None`: of nothing.
pub fn wilson(yes: f64, all: f64) -> Option<Share> {
    if all <= 0.0 {
        return None;
    }
    let (p, z2) = ((yes / all).clamp(0.0, 1.0), Z90 * Z90);
    let middle = (p + z2 / (2.0 * all)) / (1.0 + z2 / all);
    let half = Z90 * (p * (1.0 - p) / all + z2 / (4.0 * all * all)).sqrt() / (1.0 + z2 / all);
    Some(Share {
        value: p,
        low: (middle - half).max(0.0),
        high: (middle + half).min(1.0),
    })
}

/// What the record says of one check and part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Figures {
    /// Subjects that somebody decided about.
    pub decided: u64,
    pub accepted: u64,
    pub wrong: u64,
    /// Reverted, or did harm.
    pub regretted: u64,
    pub settled: u64,
    /// Accepted of decided.
    pub acceptance: Option<Share>,
    /// Accepted of accepted and wrong.
    pub precision: Option<Share>,
    pub median_days_to_act: Option<f64>,
    /// Realised ÷ predicted: median, tenth and ninetieth percentile.
    pub realised: Option<f64>,
    pub realised_p10: Option<f64>,
    pub realised_p90: Option<f64>,
    /// Subjects by their weight, with others'.
    #[serde(skip)]
    weight: f64,
}

/// Own votes and those of others, on a day.
pub fn figures(own: &Record, others: &Record, check: &str, at: Timestamp) -> Figures {
    let mine = own.checks.get(check);
    let theirs = others.checks.get(check);
    let foreign = theirs
        .into_iter()
        .flatten()
        .filter(|(id, _)| !mine.is_some_and(|m| m.contains_key(*id)))
        .map(|(_, v)| (v, OTHERS));
    let all: Vec<(&Vote, f64)> = mine
        .into_iter()
        .flatten()
        .map(|(_, v)| (v, 1.0))
        .chain(foreign)
        .collect();
    of_votes(&all, at)
}

fn of_votes(all: &[(&Vote, f64)], at: Timestamp) -> Figures {
    let weigh = |(vote, by): &(&Vote, f64)| {
        let days = (at.as_second() - vote.at.as_second()).max(0) as f64 / 86_400.0;
        by * 0.5_f64.powf(days / HALF_LIFE)
    };
    let sum = |which: &dyn Fn(&Vote) -> bool| all.iter().filter(|(v, _)| which(v)).map(weigh).sum::<f64>();
    let count = |which: &dyn Fn(&Vote) -> bool| all.iter().filter(|(v, _)| which(v)).count() as u64;
    let accepted = |v: &Vote| v.verdict == Verdict::Accepted;
    let wrong = |v: &Vote| v.verdict == Verdict::Wrong;
    let told = |of: fn(&Vote) -> Option<f64>| {
        let mut values: Vec<(f64, f64)> = all.iter().filter_map(|p| Some((of(p.0)?, weigh(p)))).collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        values
    };
    let realised = told(|v| v.realised);
    let days = told(|v| v.days);
    Figures {
        decided: all.len() as u64,
        accepted: count(&accepted),
        wrong: count(&wrong),
        regretted: count(&|v| v.regretted),
        settled: realised.len() as u64,
        acceptance: wilson(sum(&accepted), sum(&|_| true)),
        precision: wilson(sum(&accepted), sum(&accepted) + sum(&wrong)),
        median_days_to_act: weighted(&days, 0.5),
        realised: weighted(&realised, 0.5),
        realised_p10: weighted(&realised, 0.1),
        realised_p90: weighted(&realised, 0.9),
        weight: sum(&|v| accepted(v) || wrong(v)),
    }
}

/// The weighted quantile of values in order.
fn weighted(values: &[(f64, f64)], q: f64) -> Option<f64> {
    let total: f64 = values.iter().map(|v| v.1).sum();
    let mut below = 0.0;
    values
        .iter()
        .find(|(_, weight)| {
            below += weight;
            below >= total * q
        })
        .or(values.last())
        .map(|(value, _)| *value)
}

impl Figures {
    /// Why findings of this check are estimated at best; `None`: nothing speaks for it.
    pub fn cap(&self, check: &str) -> Option<String> {
        let precision = self.precision?;
        let enough = self.weight >= SUBJECTS && self.wrong > 0;
        (enough && precision.low < PRECISE).then(|| {
            format!(
                "of {} subjects that {check} was decided about as right or wrong, {} were wrong (right in {:.0} to {:.0} % of cases)",
                self.accepted + self.wrong,
                self.wrong,
                precision.low * 100.0,
                precision.high * 100.0
            )
        })
    }

    /// For people; `None`: nobody decided about one like it.
    pub fn said(&self) -> Option<String> {
        if self.decided == 0 {
            return None;
        }
        let saved = self.realised.filter(|_| self.settled > 0);
        let saved = saved
            .map(|r| format!(" and saved {:.0} % of what was said", r * 100.0))
            .unwrap_or_default();
        Some(format!(
            "of {} like this, {} were accepted{saved}; {} regretted, {} wrong",
            self.decided, self.accepted, self.regretted, self.wrong
        ))
    }

    /// The share of what is said that such findings saved; `None`: too few were settled.
    pub fn expected(&self) -> Option<f64> {
        self.realised
            .filter(|_| self.settled as usize >= OUTCOMES)
            .map(|r| r.clamp(0.0, 1.0))
    }
}

/// Everything that `gpuwaste learned` says of a ledger.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Learned {
    pub schema: u32,
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// By check and part.
    pub checks: BTreeMap<String, Figures>,
    /// By owner, as the findings had one.
    pub owners: BTreeMap<String, Figures>,
    /// Predicted and realised of what was settled, by month.
    pub months: BTreeMap<String, Month>,
    /// The same one by one, in order of time.
    pub settled: Vec<Settled>,
    pub proposals: Vec<Proposal>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Month {
    pub settled: u64,
    pub predicted_usd_per_hour: f64,
    pub realised_usd_per_hour: f64,
}

/// What one finding was said to save, and what it saved.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Settled {
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// With its part.
    pub check: String,
    pub owner: Option<String>,
    pub predicted_usd_per_hour: f64,
    pub realised_usd_per_hour: f64,
}

/// A line for the policy file, printed and never applied.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Proposal {
    /// As it would stand in gpuwaste.toml.
    pub policy: String,
    /// How many decisions stand behind it, and what they say.
    pub reason: String,
    pub decisions: u64,
    /// Findings and waste that it would have changed in the snapshots given; `None`: none were given.
    pub would_change: Option<Change>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Change {
    pub findings: u64,
    pub waste_usd_per_hour: f64,
}

impl Learned {
    pub fn of(book: &Book, others: &Record, at: Timestamp) -> Self {
        let own = Record::of(book);
        let names: std::collections::BTreeSet<&String> = own.checks.keys().chain(others.checks.keys()).collect();
        let checks = names
            .into_iter()
            .map(|c| (c.clone(), figures(&own, others, c, at)))
            .collect();
        let mut by_owner: BTreeMap<String, Vec<Vote>> = BTreeMap::new();
        let mut months: BTreeMap<String, Month> = BTreeMap::new();
        let mut settled: Vec<Settled> = Vec::new();
        for entry in book.entries.values() {
            settled.extend(entry.outcomes.iter().map(|o| Settled {
                at: o.at,
                check: entry.check(),
                owner: entry.finding.owner.clone(),
                predicted_usd_per_hour: o.predicted_usd_per_hour.usd(),
                realised_usd_per_hour: o.realised_usd_per_hour.usd(),
            }));
            if let (Some(owner), Some(vote)) = (&entry.finding.owner, Vote::of(entry)) {
                by_owner.entry(owner.clone()).or_default().push(vote);
            }
            for o in &entry.outcomes {
                let month = months.entry(o.at.strftime("%Y-%m").to_string()).or_default();
                month.settled += 1;
                month.predicted_usd_per_hour += o.predicted_usd_per_hour.usd();
                month.realised_usd_per_hour += o.realised_usd_per_hour.usd();
            }
        }
        settled.sort_by_key(|s| s.at);
        let owners = by_owner.iter().map(|(owner, votes)| {
            let votes: Vec<(&Vote, f64)> = votes.iter().map(|v| (v, 1.0)).collect();
            (owner.clone(), of_votes(&votes, at))
        });
        Self {
            schema: 1,
            at,
            checks,
            owners: owners.collect(),
            months,
            settled,
            proposals: crate::propose::all(book, at),
        }
    }
}
