//! Lines that say what a report is as a whole: headline, spend, coverage, what was not read or not judged.

use super::document::{Report, Totals};
use super::text::{gpus, money, per_month, plural, price_sources};
use crate::analyze::finding::FindingKind;
use crate::snapshot::SourceKind;
use crate::units::UsdPerHour;
use std::collections::BTreeSet;

/// "saved: 2 findings, $27.45/h (…)", a line a class; what could not be judged is in none.
pub fn gone(fixed: &[super::document::Fixed]) -> Vec<String> {
    let classed = fixed.iter().filter_map(|f| Some((f.became?, f.usd_per_hour)));
    let sums = crate::verdict::gone::sums(classed);
    let line = |(became, (n, usd)): (super::document::Became, (u64, Option<UsdPerHour>))| {
        let usd = usd.map_or_else(|| "no known price".into(), money);
        format!(
            "{}: {}, {usd} ({})",
            became.name(),
            plural(n, "finding"),
            became.explain()
        )
    };
    sums.into_iter().map(line).collect()
}

/// What stands where nothing is listed: nothing found is not the same as nothing judged.
pub fn nothing_found(t: &Totals) -> &'static str {
    if t.gpus > 0.0 && t.gpus_unknown >= t.gpus && t.waste_usd_per_hour.is_none() {
        "Nothing could be judged: what no GPU was found to waste is unknown, not zero."
    } else {
        "No waste was found in what could be judged."
    }
}

/// The same below a headline, unless that has said so.
pub fn nothing_listed(report: &Report) -> Option<&'static str> {
    Some(nothing_found(&report.totals)).filter(|line| headline(report) != *line)
}

/// What stands where there is no GPU to speak of.
pub fn no_gpus(t: &Totals) -> &'static str {
    if t.spend_usd_per_hour.is_none() {
        "No GPU node could be read, so nothing was judged: how many GPUs there are is unknown."
    } else {
        "No GPUs were found, so nothing was judged."
    }
}

/// Written, and not running yet.
pub fn of_manifests(report: &Report) -> bool {
    !report.sources.is_empty() && report.sources.iter().all(|s| s.kind == SourceKind::Manifest)
}

/// What stops being paid, what can be given to others, and the ids of all findings to act on for the first. Of what people work
/// through: what somebody snoozed or dismissed gives nothing, nor does a bill stop that needs it to be done.
pub fn promise(report: &Report) -> (UsdPerHour, UsdPerHour, BTreeSet<&str>) {
    let shown = super::order::ranked(report);
    let ids: BTreeSet<&str> = shown.iter().map(|f| f.id.as_str()).collect();
    let (mut now, mut waste, mut things) = (UsdPerHour::ZERO, UsdPerHour::ZERO, BTreeSet::new());
    for f in shown {
        waste += f.waste_usd_per_hour.unwrap_or_default();
        let stops = f.waste_now_usd_per_hour.filter(|u| u.is_positive());
        let Some(usd) = stops.filter(|_| f.now_with.iter().all(|w| ids.contains(w.as_str()))) else {
            continue;
        };
        now += usd;
        things.insert(f.id.as_str());
        things.extend(f.now_with.iter().map(String::as_str));
    }
    (now, waste - now, things)
}

/// What to do and what it gives: "$126,581 a month stops if 9 things are done; $159,666 more can be reused."
pub fn headline(report: &Report) -> String {
    let t = &report.totals;
    let Some(waste) = t.waste_usd_per_hour else {
        return if t.spend_usd_per_hour.is_none() {
            "What could be saved is unknown: no GPU has a known price.".into()
        } else {
            let unpriced = super::order::ranked(report)
                .iter()
                .any(|f| f.kind == FindingKind::Recoverable);
            let why = if unpriced {
                "nothing of what was found has a known price"
            } else {
                "nothing could be judged"
            };
            format!("What could be saved is unknown: {why}.")
        };
    };
    if of_manifests(report) {
        return if waste.is_positive() {
            format!("{} a month could be saved before it is deployed.", per_month(waste))
        } else {
            nothing_found(t).into()
        };
    }
    let (now, reusable, things) = promise(report);
    let things = things.len() as u64;
    let things = format!(
        "{} {} done",
        plural(things, "thing"),
        if things == 1 { "is" } else { "are" }
    );
    match (now.is_positive(), reusable.is_positive()) {
        (true, true) => format!(
            "{} a month stops if {things}; {} more can be reused.",
            per_month(now),
            per_month(reusable)
        ),
        (true, false) => format!("{} a month stops if {things}.", per_month(now)),
        (false, true) => format!(
            "{} a month of GPUs can be reused; no bill stops by itself.",
            per_month(reusable)
        ),
        // Somebody decided about all of it.
        (false, false) if waste.is_positive() => {
            format!(
                "{} a month of waste was put off or dismissed; nothing else was found.",
                per_month(waste)
            )
        }
        (false, false) => nothing_found(t).into(),
    }
}

/// "Spend $661,462 a month; waste 43.3 % of it; at risk $25,086 a month."
pub fn spend_line(report: &Report) -> String {
    let t = &report.totals;
    let month = |usd: Option<UsdPerHour>| usd.map_or_else(|| "unknown".into(), |u| format!("{} a month", per_month(u)));
    let waste = match (t.waste_usd_per_hour, t.waste_percent) {
        (Some(usd), Some(share)) => format!("{} ({share:.1} %)", per_month(usd)),
        (Some(usd), None) => per_month(usd),
        _ => "unknown".into(),
    };
    let unpriced = if t.gpus_unpriced > 0.0 && t.spend_usd_per_hour.is_some() {
        format!("; {} without a known price", gpus(t.gpus_unpriced))
    } else {
        String::new()
    };
    let spend = if of_manifests(report) {
        "As written it costs"
    } else {
        "Spend"
    };
    format!(
        "{spend} {}, waste {waste}; at risk {}{unpriced}.",
        month(t.spend_usd_per_hour),
        month(t.at_risk_usd_per_hour)
    )
}

/// "97 % of the cost could be judged; prices: catalog 100 %, oldest of 2026-06-18".
pub fn coverage_line(report: &Report) -> String {
    let coverage = report
        .totals
        .coverage_percent
        .map_or_else(|| "unknown".to_owned(), |c| format!("{c:.0} % of the cost judged"));
    let prices = price_sources(report);
    if prices.is_empty() {
        coverage
    } else {
        format!("{coverage}; prices: {prices}")
    }
}

/// "cpu-gpu-imbalance for 50 GPUs, and 2 more → give Prometheus …": the remedy is that which assesses most.
pub fn not_assessed_line(report: &Report) -> Option<String> {
    let missing = unassessed(report);
    let checks: BTreeSet<&str> = missing.reasons.iter().map(|r| r.0).collect();
    let (check, _, most, _) = missing.reasons.first()?;
    let others = match checks.len() - 1 {
        0 => String::new(),
        n => format!(" and {}", plural(n, "more check")),
    };
    let way = missing
        .remedy
        .map(|(remedy, ..)| format!(" → {remedy}"))
        .unwrap_or_default();
    Some(format!("{check} for {}{others}{way}", gpus(*most)))
}

/// Of manifests: what nobody can say to fit its GPUs, a line a reason, the largest first.
pub fn fit_unknown(report: &Report) -> Vec<String> {
    const NAMED: usize = 3;
    let sized = report.checks.iter().filter(|c| c.id == "undersized-tier");
    let all: Vec<_> = sized.flat_map(|c| &c.not_assessed).collect();
    if !of_manifests(report) {
        return Vec::new();
    }
    let mut lines: Vec<String> = all
        .iter()
        .take(NAMED)
        .map(|gap| format!("{}: {} → {}", gpus(gap.gpus), gap.reason, gap.remedy))
        .collect();
    if all.len() > NAMED {
        lines.push(format!("{}: -v", plural((all.len() - NAMED) as u64, "more reason")));
    }
    lines
}

/// GPU states in the order people read them: what is dark first.
pub fn states(t: &Totals) -> [(&'static str, f64); 6] {
    [
        ("free", t.gpus_free),
        ("idle", t.gpus_idle),
        ("stuck", t.gpus_stuck),
        ("unhealthy", t.gpus_unhealthy),
        ("working", t.gpus_working),
        ("unknown", t.gpus_unknown),
    ]
}

/// Something that could not be read, from all sources that have it so.
pub struct SameGap<'r> {
    /// "kubernetes prod-eu, prod-us".
    pub sources: String,
    pub what: &'r str,
    pub reason: &'r str,
    pub effect: &'r str,
    pub remedy: &'r str,
}

/// Gaps, those that differ in their source alone as one.
pub fn same_gaps(report: &Report) -> Vec<SameGap<'_>> {
    let mut same: std::collections::BTreeMap<(&str, &str, &str, &str), Vec<&str>> = std::collections::BTreeMap::new();
    for gap in &report.gaps {
        same.entry((&gap.what, &gap.reason, &gap.effect, &gap.remedy))
            .or_default()
            .push(&gap.source);
    }
    same.into_iter()
        .map(|((what, reason, effect, remedy), sources)| SameGap {
            sources: named(&sources),
            what,
            reason,
            effect,
            remedy,
        })
        .collect()
}

/// "kubernetes a, b, c", "exporter x, y, z and 5 more": the kind is said once.
fn named(sources: &[&str]) -> String {
    const FEW: usize = 3;
    let mut text = String::new();
    let mut kind = "";
    for source in sources.iter().take(FEW) {
        let (this, name) = source.split_once(' ').unwrap_or(("", source));
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(if this == kind { name } else { source });
        kind = this;
    }
    if sources.len() > FEW {
        text.push_str(&format!(" and {} more", sources.len() - FEW));
    }
    text
}

/// What checks say where a limit is their own.
pub const NOTHING_TO_DO: &str = "nothing to do";

/// What was not assessed, over all checks: the largest reason of each, and the remedy that frees most dollars.
pub struct Unassessed<'r> {
    /// (check, reason, GPUs, dollars), largest first.
    pub reasons: Vec<(&'r str, &'r str, f64, Option<UsdPerHour>)>,
    /// The one thing to do, with the dollars of the check it frees most of.
    pub remedy: Option<(&'r str, f64, Option<UsdPerHour>)>,
}

pub fn unassessed(report: &Report) -> Unassessed<'_> {
    let mut entries: Vec<_> = report
        .checks
        .iter()
        .flat_map(|check| check.not_assessed.iter().map(move |gap| (check.id.as_str(), gap)))
        .collect();
    entries.sort_by(|a, b| {
        let size =
            |e: &(&str, &super::document::CheckGap)| (e.1.usd_per_hour.unwrap_or_default(), (e.1.gpus * 1e6) as u64);
        size(b).cmp(&size(a)).then_with(|| a.0.cmp(b.0))
    });
    // The same GPUs are behind several checks: dollars per remedy are the largest check's, votes the sum over checks.
    let mut votes: std::collections::BTreeMap<&str, (UsdPerHour, f64, Option<UsdPerHour>)> =
        std::collections::BTreeMap::new();
    for (_, gap) in &entries {
        let vote = votes.entry(&gap.remedy).or_default();
        vote.0 += gap.usd_per_hour.unwrap_or_default();
        vote.1 = vote.1.max(gap.gpus);
        vote.2 = vote.2.max(gap.usd_per_hour);
    }
    let remedy = votes
        .into_iter()
        .filter(|(remedy, _)| !remedy.is_empty() && *remedy != NOTHING_TO_DO)
        .max_by(|(a, x), (b, y)| x.0.cmp(&y.0).then(x.1.total_cmp(&y.1)).then_with(|| b.cmp(a)))
        .map(|(remedy, (_, gpus, usd))| (remedy, gpus, usd));
    Unassessed {
        reasons: entries
            .iter()
            .map(|(check, gap)| (*check, gap.reason.as_str(), gap.gpus, gap.usd_per_hour))
            .collect(),
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_source_is_said_once() {
        assert_eq!(
            named(&["kubernetes a", "kubernetes b", "exporter c"]),
            "kubernetes a, b, exporter c"
        );
        assert_eq!(named(&["x", "y", "z", "w", "v"]), "x, y, z and 2 more");
    }
}
