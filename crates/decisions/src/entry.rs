//! One file of the ledger: a finding, and what happened to it.

use crate::report::document::{Grade, Report, ReportFinding};
use crate::units::{Confidence, UsdPerHour};
use gpuwaste_judge::analyze::finding::{EvidenceValue, FindingKind, FixPlacement};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of this format; readers refuse a newer one.
pub const SCHEMA: u32 = 1;

/// A file of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub schema: u32,
    pub finding: Known,
    /// In the order they were written.
    #[serde(default, rename = "event")]
    pub events: Vec<Event>,
    /// What was measured of it.
    #[serde(default, rename = "outcome")]
    pub outcomes: Vec<Outcome>,
}

/// The finding as it was when somebody first decided about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The finding's fingerprint, which is the file's name.
    pub id: String,
    pub check: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    pub kind: FindingKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// "ml/chat" of a workload, else the pool's name.
    pub subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grade: Option<Grade>,
    pub confidence: Confidence,
    /// The report's own time.
    pub decided_on: Timestamp,
    pub tool: String,
    /// The figures it rests on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<String, Value>,
}

/// A figure of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Number(f64),
    Text(String),
}

/// What somebody decided, or what was inferred.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub at: Timestamp,
    pub state: Told,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The last day it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
    /// A pull request, a ticket.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Inferred from what changed between two reports; nobody said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inferred: bool,
    /// What was seen when it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    Claimed,
    Applied,
    Dismissed,
    Snoozed,
    Open,
    /// By measuring: its waiting period is over, and nothing speaks against it.
    Verified,
    /// The old placement is back.
    Reverted,
    /// Harm was seen within the waiting period.
    Regressed,
}

impl Told {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Applied => "applied",
            Self::Dismissed => "dismissed",
            Self::Snoozed => "snoozed",
            Self::Open => "open",
            Self::Verified => "verified",
            Self::Reverted => "reverted",
            Self::Regressed => "regressed",
        }
    }
}

/// Why a finding was dismissed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The tool erred: teaches about the check.
    Wrong,
    /// Standby, launch, burst: teaches about the subject.
    Intended,
    /// Contract, licence, quota: teaches about the subject.
    Cannot,
    /// Too little money.
    NotWorth,
    /// A snooze.
    Later,
}

impl Reason {
    pub const ALL: [Self; 5] = [Self::Wrong, Self::Intended, Self::Cannot, Self::NotWorth, Self::Later];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Intended => "intended",
            Self::Cannot => "cannot",
            Self::NotWorth => "not-worth",
            Self::Later => "later",
        }
    }
}

/// What was decided on: the prediction that is settled, and the evidence whose change reopens a dismissal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seen {
    /// The report's own time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Timestamp>,
    /// `None`: it had no known price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<UsdPerHour>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus_per_replica: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor_parallel: Option<u64>,
    /// What the fix would make of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The GPUs that its money is on: "node/gpu", USD per hour of each; 0 where none is known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, f64>,
}

/// The fix, as the report says it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    pub gpu: String,
    pub gpus: u32,
    pub tensor_parallel: u32,
    pub replicas: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<UsdPerHour>,
}

impl Placement {
    fn of(p: &FixPlacement) -> Self {
        Self {
            gpu: p.gpu.clone(),
            gpus: p.gpus,
            tensor_parallel: p.tensor_parallel,
            replicas: p.replicas,
            usd_per_hour: p.usd_per_hour,
        }
    }
}

/// What was measured between two reports of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Of the last report of the waiting period.
    pub at: Timestamp,
    /// When it was applied.
    pub applied: Timestamp,
    pub window_seconds: u64,
    pub predicted_usd_per_hour: UsdPerHour,
    /// What really stopped being paid, a mean over the window.
    pub realised_usd_per_hour: UsdPerHour,
    /// Of all that was settled, the largest part.
    pub class: Class,
    /// GPU-hours of each class.
    pub gpu_hours: BTreeMap<Class, f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_before: Option<UsdPerHour>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_after: Option<UsdPerHour>,
    /// Output and prompt tokens, else requests, per hour; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_before: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_after: Option<f64>,
    /// What else moved the bill, USD per hour: prices, other work.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub confounders: BTreeMap<String, f64>,
    /// What was looked at for harm, and what was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watched: Vec<String>,
}

/// What became of a GPU-hour that was claimed: the classes of a report's block of what is gone.
pub use crate::report::document::Became as Class;

/// What tells a newer file.
#[derive(Deserialize)]
struct Head {
    schema: Option<u32>,
}

impl Entry {
    /// Of a finding that nobody decided about before.
    pub fn new(report: &Report, finding: &ReportFinding) -> Self {
        let s = &finding.subject;
        let number = |v: &EvidenceValue| match v {
            EvidenceValue::Number(n) => Some(Value::Number(*n)),
            EvidenceValue::Text(t) => Some(Value::Text(t.chars().take(200).collect())),
            EvidenceValue::Unknown => None,
        };
        Self {
            schema: SCHEMA,
            finding: Known {
                id: finding.id.clone(),
                check: finding.check.clone(),
                part: finding.part.clone(),
                kind: finding.kind,
                cluster: s.cluster.clone(),
                subject: subject(finding),
                namespace: s.namespace.clone(),
                name: s.name.clone(),
                pool: s.pool.clone(),
                owner: finding.owner.clone(),
                title: finding.title.clone(),
                grade: finding.grade,
                confidence: finding.confidence,
                decided_on: report.taken_at,
                tool: report.tool.version.clone(),
                evidence: finding
                    .evidence
                    .iter()
                    .filter_map(|e| Some((e.name.clone(), number(&e.value)?)))
                    .collect(),
            },
            events: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// Why it is not what was written: with the line where there is one.
    ///
    /// # Errors
    /// Names the line, and the way out.
    pub fn parse(text: &str, id: &str) -> Result<Self, String> {
        if let Some(line) = conflict(text) {
            return Err(format!(
                "line {line}: conflict markers of a merge: keep the [[event]] blocks of both sides and remove the markers"
            ));
        }
        // Looked at alone: a newer file may have what this one cannot read.
        if let Ok(Head { schema: Some(schema) }) = toml::from_str::<Head>(text)
            && schema > SCHEMA
        {
            let line = 1 + text
                .lines()
                .position(|l| l.trim_start().starts_with("schema"))
                .unwrap_or(0);
            return Err(format!(
                "line {line}: it has schema {schema}, this gpuwaste reads up to {SCHEMA}: use the gpuwaste that wrote it, or a newer one"
            ));
        }
        let whole = text.ends_with('\n');
        let entry: Self = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(text.len(), |s| s.start);
            let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
            let cut = if whole {
                ""
            } else {
                "; it ends in the middle of a line, as a file that was cut off: restore it from version control"
            };
            format!("line {line}: {}{cut}", e.message().trim_end())
        })?;
        if !whole {
            let line = text.lines().count().max(1);
            return Err(format!(
                "line {line}: it ends in the middle of a line, as a file that was cut off: restore it from version control"
            ));
        }
        if entry.finding.id != id {
            return Err(format!(
                "it is about finding {}, and its name says {id}: a file keeps the name it was given",
                entry.finding.id
            ));
        }
        if entry.events.is_empty() && entry.outcomes.is_empty() {
            let line = text.lines().count().max(1);
            return Err(format!(
                "line {line}: it has no [[event]]: it was cut off; restore it from version control, or remove it"
            ));
        }
        Ok(entry)
    }

    /// The whole file.
    ///
    /// # Errors
    /// What cannot be written as TOML.
    pub fn print(&self) -> Result<String, String> {
        #[derive(Serialize)]
        struct Top<'a> {
            schema: u32,
            finding: &'a Known,
        }
        let head = Top {
            schema: self.schema,
            finding: &self.finding,
        };
        let mut text = toml::to_string(&head).map_err(|e| e.to_string())?;
        for event in &self.events {
            text.push_str(&block(Some(event), None)?);
        }
        for outcome in &self.outcomes {
            text.push_str(&block(None, Some(outcome))?);
        }
        Ok(text)
    }

    /// Events by their time; those of one second as they were written.
    pub fn in_time(&self) -> Vec<&Event> {
        let mut events: Vec<&Event> = self.events.iter().collect();
        events.sort_by_key(|e| e.at);
        events
    }

    /// Check and part: "dark-capacity/idle".
    pub fn check(&self) -> String {
        check_name(&self.finding.check, self.finding.part.as_deref())
    }
}

/// "dark-capacity/idle".
pub fn check_name(check: &str, part: Option<&str>) -> String {
    part.map_or_else(|| check.to_owned(), |part| format!("{check}/{part}"))
}

/// What is appended: an event or an outcome as TOML.
///
/// # Errors
/// What cannot be written as TOML.
pub fn block(event: Option<&Event>, outcome: Option<&Outcome>) -> Result<String, String> {
    #[derive(Serialize)]
    struct Blocks<'a> {
        #[serde(rename = "event", skip_serializing_if = "Vec::is_empty")]
        events: Vec<&'a Event>,
        #[serde(rename = "outcome", skip_serializing_if = "Vec::is_empty")]
        outcomes: Vec<&'a Outcome>,
    }
    let blocks = Blocks {
        events: event.into_iter().collect(),
        outcomes: outcome.into_iter().collect(),
    };
    Ok(format!("\n{}", toml::to_string(&blocks).map_err(|e| e.to_string())?))
}

/// The line of the first conflict marker.
fn conflict(text: &str) -> Option<usize> {
    let marker = |l: &str| {
        ["<<<<<<<", "=======", ">>>>>>>", "|||||||"]
            .iter()
            .any(|m| l.starts_with(m))
    };
    text.lines().position(marker).map(|i| i + 1)
}

/// "ml/chat" of a workload, else the pool's name.
pub fn subject(finding: &ReportFinding) -> String {
    let s = &finding.subject;
    match (&s.namespace, &s.name, &s.pool) {
        (Some(namespace), Some(name), _) => format!("{namespace}/{name}"),
        (_, Some(name), _) => name.clone(),
        (_, _, Some(pool)) => pool.clone(),
        _ => s.cluster.clone().unwrap_or_default(),
    }
}

impl Seen {
    /// What a report says of a finding now.
    pub fn of(report: &Report, finding: &ReportFinding) -> Self {
        let s = &finding.subject;
        let workload = report.workloads.iter().find(|w| {
            Some(&w.namespace) == s.namespace.as_ref() && Some(&w.name) == s.name.as_ref() && w.cluster == s.cluster
        });
        Self {
            on: Some(report.taken_at),
            usd_per_hour: finding.usd_per_hour,
            model: s.model.clone(),
            gpu: s.gpu.clone(),
            replicas: workload.and_then(|w| w.replicas),
            gpus_per_replica: workload.and_then(|w| w.gpus_per_replica),
            tensor_parallel: workload.and_then(|w| w.tensor_parallel),
            placement: finding.fix.placement.as_ref().map(Placement::of),
            claims: finding
                .claims
                .iter()
                .map(|c| {
                    (
                        format!("{}/{}", c.node, c.gpu),
                        c.usd_per_hour.map_or(0.0, UsdPerHour::usd),
                    )
                })
                .collect(),
        }
    }

    /// What moved so far that a dismissal on `self` does not hold of `now`; `None`: nothing did.
    pub fn moved(&self, now: &Self) -> Option<String> {
        for (what, then, now) in [("model", &self.model, &now.model), ("GPU", &self.gpu, &now.gpu)] {
            if let (Some(then), Some(now)) = (then, now)
                && then != now
            {
                return Some(format!("its {what} was {then}, and is {now}"));
            }
        }
        for (what, then, now) in [
            ("replicas", self.replicas, now.replicas),
            ("GPUs a replica", self.gpus_per_replica, now.gpus_per_replica),
        ] {
            if let (Some(then), Some(now)) = (then, now)
                && then != now
            {
                return Some(format!("it had {then} {what}, and has {now}"));
            }
        }
        match (self.usd_per_hour, now.usd_per_hour) {
            (Some(then), Some(now)) if now.micros() as f64 > then.micros() as f64 * GROWN => {
                Some(format!("it was {then}, and is {now}"))
            }
            (None, Some(now)) => Some(format!("it had no known price, and is {now}")),
            _ => None,
        }
    }
}

/// Waste that grew beyond this is other evidence (the figure: + 20 %).
const GROWN: f64 = 1.2;
