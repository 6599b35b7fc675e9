//! Two reports, compared: money, findings new, gone and changed, and the work that the money paid for.

use super::document::{Became, Report, ReportFinding, ReportWorkload, Status};
use super::text::{money, plain};
use crate::analyze::finding::FindingKind;
use crate::snapshot::figure::Figure;
use crate::units::{Confidence, UsdPerHour, sum_known};
use crate::verdict::gone;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// What `gpuwaste diff --format json` prints (schema 1). `delta` is new − old; `null` is not known, never 0.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Difference {
    pub schema: u32,
    #[schemars(with = "String")]
    pub old_taken_at: Timestamp,
    #[schemars(with = "String")]
    pub new_taken_at: Timestamp,
    pub spend_usd_per_hour: Change<UsdPerHour>,
    pub waste_usd_per_hour: Change<UsdPerHour>,
    pub at_risk_usd_per_hour: Change<UsdPerHour>,
    pub gpus: Change<f64>,
    pub coverage_percent: Change<f64>,
    pub new_findings: Vec<Entry>,
    pub gone_findings: Vec<Entry>,
    pub changed_findings: Vec<Entry>,
    /// Σ over workloads; `null` where no workload tells.
    pub work: Work,
    pub workloads: Vec<WorkloadChange>,
}

/// One figure in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Change<T> {
    pub old: Option<T>,
    pub new: Option<T>,
    pub delta: Option<T>,
}

impl<T: Copy + std::ops::Sub<Output = T>> Change<T> {
    fn of(old: Option<T>, new: Option<T>) -> Self {
        Self {
            old,
            new,
            delta: old.zip(new).map(|(old, new)| new - old),
        }
    }
}

/// A finding of either report, by its stable id.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Entry {
    pub id: String,
    pub check: String,
    pub part: Option<String>,
    pub kind: FindingKind,
    /// As the newer report that has it puts it.
    pub title: String,
    pub usd_per_hour: Change<UsdPerHour>,
    pub old_confidence: Option<Confidence>,
    pub new_confidence: Option<Confidence>,
    /// Gone findings: the new report could not judge this check at all, so nothing is known to be fixed.
    pub not_judged: bool,
    /// Gone findings that were judged: what became of their GPUs.
    pub became: Option<Became>,
}

#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Work {
    pub requests_per_second: Change<f64>,
    pub prompt_tokens_per_second: Change<f64>,
    pub output_tokens_per_second: Change<f64>,
    /// Spend of the workloads whose tokens are known ÷ those tokens (prompt and output).
    pub usd_per_million_tokens: Change<f64>,
}

/// A workload whose cost or work changed, came or went.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct WorkloadChange {
    pub cluster: Option<String>,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub usd_per_hour: Change<UsdPerHour>,
    pub work: Work,
}

/// Compares two reports.
pub fn between(old: &Report, new: &Report) -> Difference {
    let (findings_old, findings_new) = (by_id(old), by_id(new));
    let mut difference = Difference {
        schema: super::document::SCHEMA,
        old_taken_at: old.taken_at,
        new_taken_at: new.taken_at,
        spend_usd_per_hour: Change::of(old.totals.spend_usd_per_hour, new.totals.spend_usd_per_hour),
        waste_usd_per_hour: Change::of(old.totals.waste_usd_per_hour, new.totals.waste_usd_per_hour),
        at_risk_usd_per_hour: Change::of(old.totals.at_risk_usd_per_hour, new.totals.at_risk_usd_per_hour),
        gpus: both(old, new, |r| r.totals.gpus),
        coverage_percent: Change::of(old.totals.coverage_percent, new.totals.coverage_percent),
        new_findings: Vec::new(),
        gone_findings: Vec::new(),
        changed_findings: Vec::new(),
        work: work(
            &old.workloads.iter().collect::<Vec<_>>(),
            &new.workloads.iter().collect::<Vec<_>>(),
        ),
        workloads: workloads(old, new),
    };
    let ids: BTreeSet<&str> = findings_old.keys().chain(findings_new.keys()).copied().collect();
    for id in ids {
        let (was, is) = (findings_old.get(id).copied(), findings_new.get(id).copied());
        let entry = entry(was, is, new);
        match (was, is) {
            (None, Some(_)) => difference.new_findings.extend(entry),
            (Some(_), None) => difference.gone_findings.extend(entry),
            (Some(a), Some(b)) if a.usd_per_hour != b.usd_per_hour || a.confidence != b.confidence => {
                difference.changed_findings.extend(entry);
            }
            _ => {}
        }
    }
    classify(old, new, &mut difference.gone_findings);
    for list in [
        &mut difference.new_findings,
        &mut difference.gone_findings,
        &mut difference.changed_findings,
    ] {
        list.sort_by(|a, b| (a.kind, -size(a), &a.id).cmp(&(b.kind, -size(b), &b.id)));
    }
    difference
}

/// What became of the recoverable findings that are gone.
fn classify(old: &Report, new: &Report, entries: &mut [Entry]) {
    let judged = |e: &Entry| !e.not_judged && e.kind == FindingKind::Recoverable;
    let ids: BTreeSet<String> = entries.iter().filter(|e| judged(e)).map(|e| e.id.clone()).collect();
    let was: Vec<gone::Was<'_>> = gone::was(old).into_iter().filter(|w| ids.contains(w.id)).collect();
    let classes = gone::classes(&was, old.totals.spend_usd_per_hour, new);
    let classes: BTreeMap<&str, Became> = was.iter().map(|w| w.id).zip(classes).collect();
    for entry in entries {
        entry.became = classes.get(entry.id.as_str()).copied();
    }
}

fn both<T: Copy + std::ops::Sub<Output = T>>(old: &Report, new: &Report, of: fn(&Report) -> T) -> Change<T> {
    Change::of(Some(of(old)), Some(of(new)))
}

fn by_id(report: &Report) -> BTreeMap<&str, &ReportFinding> {
    report
        .findings
        .iter()
        .filter(|f| f.status != Status::Suppressed)
        .map(|f| (f.id.as_str(), f))
        .collect()
}

/// Micro-dollars of what changed; for sorting.
fn size(entry: &Entry) -> i64 {
    let c = &entry.usd_per_hour;
    c.delta.or(c.new).or(c.old).map_or(0, |u| u.micros().abs())
}

fn entry(was: Option<&ReportFinding>, is: Option<&ReportFinding>, new: &Report) -> Option<Entry> {
    let shown = is.or(was)?;
    let judged = new.checks.iter().any(|c| c.id == shown.check && c.assessed_gpus > 0.0);
    Some(Entry {
        id: shown.id.clone(),
        check: shown.check.clone(),
        part: shown.part.clone(),
        kind: shown.kind,
        title: shown.title.clone(),
        usd_per_hour: Change::of(was.and_then(|f| f.usd_per_hour), is.and_then(|f| f.usd_per_hour)),
        old_confidence: was.map(|f| f.confidence),
        new_confidence: is.map(|f| f.confidence),
        not_judged: is.is_none() && !judged,
        became: None,
    })
}

type Key<'a> = (&'a Option<String>, &'a str, &'a str, &'a str);

fn workloads(old: &Report, new: &Report) -> Vec<WorkloadChange> {
    fn keyed(report: &Report) -> BTreeMap<Key<'_>, &ReportWorkload> {
        let key = |w| {
            let w: &ReportWorkload = w;
            (&w.cluster, w.namespace.as_str(), w.name.as_str(), w.kind.as_str())
        };
        report.workloads.iter().map(|w| (key(w), w)).collect()
    }
    let (before, after) = (keyed(old), keyed(new));
    let keys: BTreeSet<Key<'_>> = before.keys().chain(after.keys()).copied().collect();
    let mut rows: Vec<WorkloadChange> = keys
        .into_iter()
        .map(|key| {
            let (was, is) = (before.get(&key).copied(), after.get(&key).copied());
            WorkloadChange {
                cluster: key.0.clone(),
                namespace: key.1.into(),
                name: key.2.into(),
                kind: key.3.into(),
                usd_per_hour: Change::of(was.and_then(|w| w.usd_per_hour), is.and_then(|w| w.usd_per_hour)),
                work: work(
                    &was.into_iter().collect::<Vec<_>>(),
                    &is.into_iter().collect::<Vec<_>>(),
                ),
            }
        })
        .filter(|row| row.usd_per_hour.old != row.usd_per_hour.new || has_changed(&row.work))
        .collect();
    rows.sort_by_key(|r| {
        -r.usd_per_hour
            .delta
            .or(r.usd_per_hour.new)
            .or(r.usd_per_hour.old)
            .map_or(0, |u| u.micros().abs())
    });
    rows
}

/// By more than a hundredth: means over windows never repeat to the digit.
fn has_changed(work: &Work) -> bool {
    [
        work.requests_per_second,
        work.prompt_tokens_per_second,
        work.output_tokens_per_second,
    ]
    .iter()
    .any(|c| match (c.old, c.new) {
        (Some(a), Some(b)) => (a - b).abs() > 0.01 * a.abs().max(b.abs()),
        (a, b) => a.is_some() != b.is_some(),
    })
}

fn work(old: &[&ReportWorkload], new: &[&ReportWorkload]) -> Work {
    let rate = |workloads: &[&ReportWorkload], of: fn(&ReportWorkload) -> Option<&Figure>| {
        workloads
            .iter()
            .filter_map(|w| of(w)?.mean)
            .fold(None, |sum: Option<f64>, v| Some(sum.unwrap_or(0.0) + v))
    };
    let per_million = |workloads: &[&ReportWorkload]| {
        let known: Vec<(UsdPerHour, f64)> = workloads
            .iter()
            .filter_map(|w| {
                let out = w.observed.output_tokens_per_second.as_ref()?.mean?;
                let prompt = w.observed.prompt_tokens_per_second.as_ref().and_then(|f| f.mean);
                Some((w.usd_per_hour?, out + prompt.unwrap_or(0.0)))
            })
            .collect();
        let tokens: f64 = known.iter().map(|(_, t)| t * 3600.0).sum();
        let usd = sum_known(known.iter().map(|(u, _)| Some(*u))).usd();
        (tokens > 0.0).then(|| (usd / tokens * 1e12).round() / 1e6)
    };
    let change = |of: fn(&ReportWorkload) -> Option<&Figure>| Change::of(rate(old, of), rate(new, of));
    Work {
        requests_per_second: change(|w| w.observed.requests_per_second.as_ref()),
        prompt_tokens_per_second: change(|w| w.observed.prompt_tokens_per_second.as_ref()),
        output_tokens_per_second: change(|w| w.observed.output_tokens_per_second.as_ref()),
        usd_per_million_tokens: Change::of(per_million(old), per_million(new)),
    }
}

/// For people.
pub fn table(d: &Difference, out: &mut dyn Write) -> io::Result<()> {
    let at = |t: Timestamp| t.strftime("%Y-%m-%d %H:%M UTC").to_string();
    writeln!(out, "{}  to  {}\n", at(d.old_taken_at), at(d.new_taken_at))?;
    for (name, change) in [
        ("spend", &d.spend_usd_per_hour),
        ("waste", &d.waste_usd_per_hour),
        ("at risk", &d.at_risk_usd_per_hour),
    ] {
        let usd = |usd: Option<UsdPerHour>| usd.map_or_else(|| "not known".into(), money);
        writeln!(
            out,
            "{name:<22} {:>14} {:>14} {:>15}",
            usd(change.old),
            usd(change.new),
            change.delta.map(signed).unwrap_or_default()
        )?;
    }
    for (name, change) in [
        ("GPUs", &d.gpus),
        ("coverage %", &d.coverage_percent),
        ("requests/s", &d.work.requests_per_second),
        ("prompt tokens/s", &d.work.prompt_tokens_per_second),
        ("output tokens/s", &d.work.output_tokens_per_second),
        ("USD per 1M tokens", &d.work.usd_per_million_tokens),
    ] {
        let number = |v: Option<f64>| v.map_or_else(|| "not known".into(), |v| format!("{v:.2}"));
        let change_text = change.delta.map_or_else(String::new, |c| {
            // Sums in another order: less than nothing by the last bit.
            let text = format!("{c:+.2}");
            if text == "-0.00" { "+0.00".into() } else { text }
        });
        writeln!(
            out,
            "{name:<22} {:>14} {:>14} {change_text:>15}",
            number(change.old),
            number(change.new)
        )?;
    }
    for (name, list) in [
        ("New", &d.new_findings),
        ("Gone", &d.gone_findings),
        ("Changed", &d.changed_findings),
    ] {
        let noun = if list.len() == 1 { "finding" } else { "findings" };
        writeln!(out, "\n{name}: {} {noun}", list.len())?;
        for entry in list {
            let c = &entry.usd_per_hour;
            let usd = match (c.old, c.new, c.delta) {
                (_, _, Some(change)) => signed(change),
                (Some(old), None, _) => signed(UsdPerHour::ZERO - old),
                (None, Some(new), _) => signed(new),
                _ => "no price".into(),
            };
            let part = entry.part.as_deref().map(|p| format!("/{p}")).unwrap_or_default();
            let unsure = match entry.became {
                Some(became) => format!("  ({}: {})", became.name(), became.explain()),
                None if entry.not_judged => "  (not judged this time)".into(),
                None => String::new(),
            };
            writeln!(
                out,
                "  {usd:>15}  {}{part}: {}{unsure}",
                entry.check,
                plain(&entry.title)
            )?;
        }
    }
    workload_lines(&d.workloads, out)
}

/// Workloads shown to people; the JSON has them all.
const MOST_WORKLOADS: usize = 10;

/// What each paid for its work then and now.
fn workload_lines(rows: &[WorkloadChange], out: &mut dyn Write) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let number = |v: Option<f64>| v.map_or_else(|| "?".into(), |v| format!("{v:.2}"));
    writeln!(out, "\nWorkloads with other spend or work: {}", rows.len())?;
    for row in rows.iter().take(MOST_WORKLOADS) {
        let c = &row.usd_per_hour;
        let usd = match (c.old, c.new, c.delta) {
            (.., Some(change)) => signed(change),
            (Some(old), None, _) => format!("gone, {}", money(old)),
            (None, Some(new), _) => format!("new, {}", money(new)),
            _ => "no price".into(),
        };
        let mut parts = Vec::new();
        for (name, change) in [
            ("USD per 1M tokens", &row.work.usd_per_million_tokens),
            ("output tokens/s", &row.work.output_tokens_per_second),
            ("requests/s", &row.work.requests_per_second),
        ] {
            if change.old.is_some() || change.new.is_some() {
                parts.push(format!("{name} {} to {}", number(change.old), number(change.new)));
            }
        }
        writeln!(
            out,
            "  {usd:>15}  {}: {}",
            plain(&format!("{}/{}", row.namespace, row.name)),
            if parts.is_empty() {
                "work not known".into()
            } else {
                parts.join(", ")
            }
        )?;
    }
    if rows.len() > MOST_WORKLOADS {
        writeln!(out, "  and {} more (--format json)", rows.len() - MOST_WORKLOADS)?;
    }
    Ok(())
}

fn signed(usd: UsdPerHour) -> String {
    let text = money(usd);
    if usd.is_positive() { format!("+{text}") } else { text }
}
