//! The one order in which people are shown findings: by dollars, whatever kind they are of; what claims nothing is a hint.
//!
//! The JSON keeps its own (recoverable, at risk, trend), which scripts rely on.

use super::document::{Report, ReportFinding, Status};
use crate::analyze::finding::FindingKind;
use std::cmp::Reverse;

/// Findings that cost something: those with dollars, largest first, GPUs whose price is not known, then trends, which are the growth
/// of spend that is in other findings already. Suppressed, snoozed and dismissed ones are left out.
pub fn ranked(report: &Report) -> Vec<&ReportFinding> {
    let mut all: Vec<&ReportFinding> = counted(report).filter(|f| !is_hint(f)).collect();
    // Stable: what costs the same stays in the document's order.
    let expected = |f: &ReportFinding| f.expected_usd_per_hour.filter(|_| report.ranked_by_expected);
    all.sort_by_key(|f| (f.kind == FindingKind::Trend, Reverse(expected(f).or(f.usd_per_hour))));
    all
}

/// Advice without a dollar or a GPU of its own.
pub fn hints(report: &Report) -> Vec<&ReportFinding> {
    counted(report).filter(|f| is_hint(f)).collect()
}

/// Everything that counts: ranked, then hints. A finding's rank is its place here, in every format.
pub fn all(report: &Report) -> Vec<&ReportFinding> {
    let mut all = ranked(report);
    all.extend(hints(report));
    all
}

pub fn is_hint(f: &ReportFinding) -> bool {
    f.usd_per_hour.is_none() && f.claims.is_empty()
}

fn counted(report: &Report) -> impl Iterator<Item = &ReportFinding> {
    let hidden = super::decision::is_hidden;
    report
        .findings
        .iter()
        .filter(move |f| f.status != Status::Suppressed && !hidden(f))
}
