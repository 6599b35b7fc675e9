//! The baseline: findings that were there before, so that CI fails on new waste only.

use super::gone::{self, Was};
use super::growth::{Money, growth, within};
use super::{Place, held_gpus, money};
use crate::analyze::Outcome;
use crate::analyze::finding::FindingKind;
use crate::fleet::SlotId;
use crate::report::document::{Fixed, Report, ReportFinding, Status};
use crate::report::ledger::Ledger;
use crate::settings::Tolerance;
use crate::units::UsdPerHour;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The version of the baseline file; a report of `--format json` can be read as one too.
const SCHEMA: u32 = 1;

/// What `--write-baseline` writes. Figures are kept to tell when a finding got worse, names to read the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Baseline {
    schema: u32,
    taken_at: Timestamp,
    findings: Vec<Known>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spend_usd_per_hour: Option<UsdPerHour>,
    /// Only in reports.
    #[serde(default, skip_serializing)]
    totals: Option<KnownTotals>,
    /// Only in reports.
    #[serde(default, skip_serializing)]
    workloads: Vec<KnownWorkload>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct KnownTotals {
    spend_usd_per_hour: Option<UsdPerHour>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct KnownWorkload {
    namespace: String,
    name: String,
    replicas: Option<u64>,
    gpus_per_replica: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    /// The finding's fingerprint.
    id: String,
    check: String,
    part: Option<String>,
    kind: FindingKind,
    title: String,
    subject: KnownSubject,
    usd_per_hour: Option<UsdPerHour>,
    /// GPUs that its subject holds in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_gpus: Option<f64>,
    /// The GPUs that its money is on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    claims: Vec<KnownClaim>,
    /// Only in reports: suppressed findings are not part of a baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KnownClaim {
    node: String,
    gpu: String,
    usd_per_hour: Option<UsdPerHour>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct KnownSubject {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    pool: Option<String>,
    gpu: Option<String>,
}

impl Baseline {
    /// Of everything that is not suppressed.
    pub fn of(report: &Report) -> Self {
        let findings = report
            .findings
            .iter()
            .filter(|f| f.status != Status::Suppressed)
            .map(|f| Known {
                id: f.id.clone(),
                check: f.check.clone(),
                part: f.part.clone(),
                kind: f.kind,
                title: f.title.clone(),
                held_gpus: held_gpus(report, f.subject.namespace.as_deref(), f.subject.name.as_deref()),
                claims: f
                    .claims
                    .iter()
                    .map(|c| KnownClaim {
                        node: c.node.clone(),
                        gpu: c.gpu.clone(),
                        usd_per_hour: c.usd_per_hour,
                    })
                    .collect(),
                subject: KnownSubject {
                    cluster: f.subject.cluster.clone(),
                    kind: f.subject.kind.clone(),
                    namespace: f.subject.namespace.clone(),
                    name: f.subject.name.clone(),
                    pool: f.subject.pool.clone(),
                    gpu: f.subject.gpu.clone(),
                },
                usd_per_hour: f.usd_per_hour,
                status: None,
            });
        let mut findings: Vec<Known> = findings.collect();
        // By name, not by money: a baseline under version control then shows what came and went.
        findings.sort_by(|a, b| (&a.check, &a.part, &a.id).cmp(&(&b.check, &b.part, &b.id)));
        Self {
            schema: SCHEMA,
            taken_at: report.taken_at,
            findings,
            spend_usd_per_hour: report.totals.spend_usd_per_hour,
            totals: None,
            workloads: Vec::new(),
        }
    }

    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("it is empty: write one with --write-baseline".into());
        }
        let baseline: Self = serde_json::from_str(text)
            .map_err(|e| format!("it is neither a baseline nor a JSON report: {e}; write one with --write-baseline"))?;
        if baseline.schema != SCHEMA {
            return Err(format!(
                "it has schema {}, this gpuwaste reads schema {SCHEMA}: write it again with --write-baseline",
                baseline.schema
            ));
        }
        Ok(baseline)
    }

    /// Whether it lists a finding of this id.
    pub fn has(&self, id: &str) -> bool {
        self.findings
            .iter()
            .any(|k| k.id == id && k.status != Some(Status::Suppressed))
    }

    fn counted(&self) -> impl Iterator<Item = &Known> {
        self.findings.iter().filter(|k| k.status != Some(Status::Suppressed))
    }

    fn spend(&self) -> Option<UsdPerHour> {
        let of_report = self.totals.as_ref().and_then(|t| t.spend_usd_per_hour);
        self.spend_usd_per_hour.or(of_report)
    }

    fn was<'a>(&'a self, known: &'a Known) -> Was<'a> {
        let s = &known.subject;
        let workload = self
            .workloads
            .iter()
            .find(|w| Some(&w.namespace) == s.namespace.as_ref() && Some(&w.name) == s.name.as_ref());
        let of_report = workload.and_then(|w| Some(w.replicas? as f64 * w.gpus_per_replica? as f64));
        Was {
            id: &known.id,
            check: &known.check,
            namespace: s.namespace.as_deref(),
            name: s.name.as_deref(),
            held: known.held_gpus.or(of_report),
            claims: known.places().collect(),
        }
    }

    /// Its recoverable findings, as money on GPUs.
    pub fn money(&self) -> Vec<Money> {
        self.counted()
            .filter(|k| k.kind == FindingKind::Recoverable)
            .map(|k| Money::new(&k.id, k.usd_per_hour, k.places()))
            .collect()
    }

    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Marks findings the baseline has, unless they got worse, and lists what is gone.
    pub fn apply(
        &self,
        report: &mut Report,
        ledger: &Ledger<'_>,
        outcomes: &[(&'static str, Outcome)],
        tolerance: Tolerance,
    ) {
        let known: BTreeMap<&str, &Known> = self.counted().map(|k| (k.id.as_str(), k)).collect();
        let now = money(report, |_| true);
        let grown = growth(&self.money(), &now, tolerance);
        let moved: BTreeSet<&str> = now
            .iter()
            .zip(grown)
            .filter(|(m, grown)| {
                !known.contains_key(m.id.as_str())
                    && m.usd_per_hour.is_some_and(UsdPerHour::is_positive)
                    && *grown == Some(UsdPerHour::ZERO)
            })
            .map(|(m, _)| m.id.as_str())
            .collect();
        for finding in report.findings.iter_mut().filter(|f| f.status == Status::New) {
            if let Some(known) = known.get(finding.id.as_str()) {
                match worse(known, finding, tolerance) {
                    Some(why) => finding.status_reason = Some(why),
                    None => finding.status = Status::Baseline,
                }
            } else if moved.contains(finding.id.as_str()) {
                finding.status = Status::Baseline;
                finding.status_reason = Some("its GPUs carry another finding in the baseline".into());
            }
        }
        // Findings whose money went to others of a higher rank are still there.
        let present: BTreeSet<&str> = ledger.ids.iter().map(String::as_str).collect();
        let (mut gone, mut unjudged) = (Vec::new(), Vec::new());
        for known in known.values().filter(|k| !present.contains(k.id.as_str())) {
            match unseen(known, ledger, outcomes) {
                Some(why) => unjudged.push((*known, Some(why), None)),
                None => gone.push(*known),
            }
        }
        let was: Vec<Was<'_>> = gone.iter().map(|k| self.was(k)).collect();
        let classes = gone::classes(&was, self.spend(), report).into_iter().map(Some);
        let gone = gone.into_iter().zip(classes).map(|(k, became)| (k, None, became));
        let mut fixed: Vec<Fixed> = gone
            .chain(unjudged)
            .map(|(k, not_assessed, became)| Fixed {
                id: k.id.clone(),
                check: k.check.clone(),
                title: k.title.clone(),
                usd_per_hour: k.usd_per_hour,
                not_assessed,
                became,
            })
            .collect();
        fixed.sort_by(|a, b| (b.usd_per_hour, &a.check, &a.id).cmp(&(a.usd_per_hour, &b.check, &b.id)));
        report.fixed = Some(fixed);
    }
}

impl Known {
    fn places(&self) -> impl Iterator<Item = (Place, Option<UsdPerHour>)> {
        let cluster = self.subject.cluster.as_deref();
        self.claims
            .iter()
            .map(move |c| (Place::new(cluster, &c.node, &c.gpu), c.usd_per_hour))
    }
}

/// Why it counts as new although the baseline has it; `None`: it is no worse than it was.
fn worse(known: &Known, now: &ReportFinding, tolerance: Tolerance) -> Option<String> {
    let (before, after) = (known.usd_per_hour?, now.usd_per_hour?);
    (!within(before.micros(), after.micros(), tolerance))
        .then(|| format!("worse than its baseline: {before} then, {after} now"))
}

/// Why nobody can say that it is fixed; `None`: what it is about was judged, and it is gone.
fn unseen(known: &Known, ledger: &Ledger<'_>, outcomes: &[(&'static str, Outcome)]) -> Option<String> {
    let Some((_, outcome)) = outcomes.iter().find(|(id, _)| *id == known.check) else {
        return Some(format!("{} was not run", known.check));
    };
    let fleet = ledger.fleet;
    if fleet.clusters.is_empty()
        || fleet
            .clusters
            .iter()
            .any(|c| !c.nodes_known || !c.pods_known || c.scoped)
    {
        return Some("a part of the fleet was not read".into());
    }
    let subject = &known.subject;
    let is_meant = |slot: SlotId| {
        let slot = fleet.slot(slot);
        let node = fleet.node(slot.node);
        match (&subject.namespace, &subject.name) {
            (Some(namespace), Some(name)) => slot.holders.iter().any(|&pod| {
                let workload = fleet.pod(pod).workload.map(|w| fleet.workload(w));
                workload.is_some_and(|w| w.namespace == *namespace && w.name == *name)
            }),
            _ => subject.pool.as_ref().is_none_or(|p| *p == node.pool) && subject.gpu.as_ref() == Some(&node.gpu_name),
        }
    };
    outcome
        .not_assessed
        .iter()
        .find(|n| n.slots.iter().any(|&s| is_meant(s)))
        .map(|n| n.reason.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_baseline_says_what_to_do() {
        for (text, words) in [
            ("", "empty"),
            ("{\"schema\": 1", "neither a baseline nor a JSON report"),
            (
                "{\"schema\": 2, \"taken_at\": \"2026-11-24T12:00:00Z\", \"findings\": []}",
                "schema 2",
            ),
        ] {
            let error = Baseline::parse(text).unwrap_err();
            assert!(error.contains(words) && error.contains("--write-baseline"), "{error}");
        }
    }
}
