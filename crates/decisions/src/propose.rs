//! Lines for the policy file that decisions speak for. They are printed with what stands behind them, and never applied.

use crate::entry::{Entry, Reason, Told, Value};
use crate::record::Proposal;
use crate::standing::Book;
use crate::state::{DISMISSED_DAYS, days_after};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Subjects that a pattern needs, and dismissals that a suppression of one needs.
const SUBJECTS: usize = 3;
/// Dismissals as wrong that a threshold needs.
const WRONG: usize = 5;
/// A step must remove this share of the wrong ones, and at most that of the accepted ones.
const REMOVES: f64 = 0.8;
const LOSES: f64 = 0.1;

/// A figure of evidence that a threshold of the policy is held against.
struct Held {
    check: &'static str,
    evidence: &'static str,
    key: &'static str,
    /// A larger figure fires.
    larger: bool,
    whole: bool,
}

const fn held(check: &'static str, evidence: &'static str, key: &'static str, larger: bool, whole: bool) -> Held {
    Held {
        check,
        evidence,
        key,
        larger,
        whole,
    }
}

const THRESHOLDS: [Held; 6] = [
    held(
        "idle-schedule",
        "idle_hours_per_week",
        "idle_hours_per_week",
        true,
        true,
    ),
    held(
        "low-utilization",
        "gpu_activity_mean",
        "low_utilization_mean",
        false,
        false,
    ),
    held(
        "low-utilization",
        "gpu_hours_unused",
        "low_utilization_gpu_hours",
        true,
        true,
    ),
    held("dark-capacity", "not_ready_for", "stuck_seconds", true, true),
    held("dark-capacity", "at_rest", "idle_stretch_seconds", true, true),
    held("dark-capacity", "longest", "unhealthy_seconds", true, true),
];

pub(crate) fn all(book: &Book, at: Timestamp) -> Vec<Proposal> {
    let mut all = suppressions(book, at);
    all.extend(THRESHOLDS.iter().filter_map(|row| threshold(book, row)));
    all
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Of subjects that are meant to be as they are.
fn suppressions(book: &Book, at: Timestamp) -> Vec<Proposal> {
    let is_meant = |r: Option<Reason>| matches!(r, Some(Reason::Intended | Reason::Cannot));
    let times = |e: &Entry| {
        e.events
            .iter()
            .filter(|v| v.state == Told::Dismissed && is_meant(v.reason))
            .count()
    };
    let meant: Vec<&Entry> = book
        .entries
        .values()
        .filter(|e| {
            e.in_time()
                .last()
                .is_some_and(|v| v.state == Told::Dismissed && is_meant(v.reason))
        })
        .collect();
    let Some(expires) = days_after(at, DISMISSED_DAYS) else {
        return Vec::new();
    };
    let block = |check: &str, subject: &str, reason: &str| {
        format!(
            "[[suppress]]\ncheck = {}\nsubject = {}\nreason = {}\nexpires = {expires}\n",
            quoted(check),
            quoted(subject),
            quoted(reason)
        )
    };
    let mut patterns: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    for e in &meant {
        for pattern in patterns_of(&e.finding.subject) {
            patterns
                .entry((e.check(), pattern))
                .or_default()
                .insert(&e.finding.subject);
        }
    }
    let mut proposals = Vec::new();
    let mut covered: BTreeSet<(String, &str)> = BTreeSet::new();
    for ((check, pattern), subjects) in &patterns {
        if subjects.len() < SUBJECTS || subjects.iter().all(|s| covered.contains(&(check.clone(), *s))) {
            continue;
        }
        covered.extend(subjects.iter().map(|s| (check.clone(), *s)));
        let list = subjects.iter().copied().collect::<Vec<_>>().join(", ");
        proposals.push(Proposal {
            policy: block(check, pattern, &format!("dismissed as intended or impossible: {list}")),
            reason: format!(
                "{} subjects were dismissed as intended or impossible: {list}",
                subjects.len()
            ),
            decisions: subjects.len() as u64,
            would_change: None,
        });
    }
    for e in meant {
        let subject = e.finding.subject.as_str();
        if times(e) >= SUBJECTS && !covered.contains(&(e.check(), subject)) {
            let note = e
                .in_time()
                .last()
                .and_then(|v| v.note.clone())
                .unwrap_or_else(|| "as intended".into());
            proposals.push(Proposal {
                policy: block(&e.check(), subject, &note),
                reason: format!("it was dismissed {} times", times(e)),
                decisions: times(e) as u64,
                would_change: None,
            });
        }
    }
    proposals
}

/// "ml/chat-dr": "*-dr", then "ml/*".
fn patterns_of(subject: &str) -> Vec<String> {
    let suffix = subject
        .rsplit_once('-')
        .map(|(_, s)| s)
        .filter(|s| !s.is_empty() && s.chars().any(char::is_alphabetic));
    let namespace = subject.split_once('/').map(|(ns, _)| format!("{ns}/*"));
    suffix.map(|s| format!("*-{s}")).into_iter().chain(namespace).collect()
}

/// The smallest step of a threshold that takes out most of what was wrong and little of what was accepted.
fn threshold(book: &Book, row: &Held) -> Option<Proposal> {
    let figure = |e: &Entry| match e.finding.evidence.get(row.evidence) {
        Some(Value::Number(n)) if n.is_finite() => Some(*n),
        _ => None,
    };
    let of = |which: &dyn Fn(Told, Option<Reason>) -> bool| -> Vec<f64> {
        book.entries
            .values()
            .filter(|e| e.finding.check == row.check)
            .filter(|e| e.in_time().last().is_some_and(|v| which(v.state, v.reason)))
            .filter_map(figure)
            .collect()
    };
    let wrong = of(&|s, r| s == Told::Dismissed && r == Some(Reason::Wrong));
    let accepted = of(&|s, _| matches!(s, Told::Claimed | Told::Applied | Told::Verified));
    let (step, removed, lost) = smallest_step(&wrong, &accepted, row.larger, row.whole)?;
    Some(Proposal {
        policy: format!("[thresholds.{}]\n{} = {step}\n", row.check, row.key),
        reason: format!(
            "it takes out {removed} of {} that were wrong and {lost} of {} that were accepted",
            wrong.len(),
            accepted.len()
        ),
        decisions: wrong.len() as u64,
        would_change: None,
    })
}

/// The threshold, the wrong ones that it removes and the accepted ones that it loses; `None`: no step does.
pub(crate) fn smallest_step(wrong: &[f64], accepted: &[f64], larger: bool, whole: bool) -> Option<(f64, usize, usize)> {
    if wrong.len() < WRONG {
        return None;
    }
    let sign = if larger { 1.0 } else { -1.0 };
    // A finding fires from the threshold on: it stays where its figure is at least the new one.
    let gone = |all: &[f64], limit: f64| all.iter().filter(|v| **v * sign < limit).count();
    let mut steps: Vec<f64> = wrong.iter().map(|v| v * sign).collect();
    steps.sort_by(f64::total_cmp);
    steps.iter().find_map(|&worst| {
        // Just beyond it, to three digits.
        let digits = 10f64.powi(2 - worst.abs().max(1e-9).log10().floor() as i32);
        let scale = if whole { 1.0 } else { digits };
        let limit = ((worst * scale).floor() + 1.0) / scale;
        let (removed, lost) = (gone(wrong, limit), gone(accepted, limit));
        let enough = removed as f64 >= REMOVES * wrong.len() as f64;
        let few = lost as f64 <= LOSES * accepted.len() as f64;
        (enough && few).then_some((limit * sign, removed, lost))
    })
}
