//! Text that came from a cluster, made safe for a terminal; small helpers shared by the formats people read.

use super::document::{Report, ReportFinding, Totals};
use crate::analyze::finding::{Evidence, FindingKind, Subject};
use crate::report::document::{Grade, Status};
use crate::units::UsdPerHour;
pub use gpuwaste_facts::text::plural;
use std::collections::BTreeSet;

/// Hours of a month, as cloud price lists count them (365 × 24 ÷ 12).
pub const HOURS_PER_MONTH: f64 = 730.0;

/// Text for people: see [`gpuwaste_facts::text::harmless`].
pub fn plain(text: &str) -> String {
    gpuwaste_facts::text::harmless(text)
}

/// "$1,234.50/h".
pub fn money(usd: UsdPerHour) -> String {
    format!("{}/h", dollars(usd.usd(), 2))
}

/// "1.47", "0.032": dollars a million tokens; a dash where they are not known.
pub fn per_million(usd: Option<f64>) -> String {
    usd.map_or_else(
        || "–".to_owned(),
        |u| {
            if u < 0.1 {
                format!("{u:.3}")
            } else {
                dollars(u, 2).replace('$', "")
            }
        },
    )
}

/// What tokens cost in the whole fleet, where they are known of any of it: (a million output tokens, of what and what else).
pub fn token_costs(t: &Totals) -> Option<(String, String)> {
    let costs = &t.unit_costs;
    let output = costs.usd_per_million_output_tokens?;
    let mut more = String::from("per million output tokens");
    if costs.usd_per_million_output_tokens_used.is_some() {
        let used = per_million(costs.usd_per_million_output_tokens_used);
        more.push_str(&format!(", ${used} of it while the GPUs are busy"));
    }
    if costs.usd_per_million_input_tokens.is_some() {
        let input = per_million(costs.usd_per_million_input_tokens);
        more.push_str(&format!("; ${input} per million input tokens"));
    }
    if let Some(known) = costs.token_spend_usd_per_hour {
        more.push_str(&format!(": of the {} whose tokens are known", money(known)));
    }
    Some((format!("${}", per_million(Some(output))), more))
}

/// "$300,979".
pub fn per_month(usd: UsdPerHour) -> String {
    dollars(usd.usd() * HOURS_PER_MONTH, 0)
}

fn dollars(value: f64, decimals: usize) -> String {
    let digits = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{}${grouped}{fraction}", if value < 0.0 { "-" } else { "" })
}

/// "1,234.50": an amount where the column says what it is.
pub fn amount(usd: UsdPerHour) -> String {
    dollars(usd.usd(), 2).replace('$', "")
}

/// "catalog 100 %, oldest of 2026-06-18".
pub fn price_sources(report: &Report) -> String {
    let t = &report.totals;
    // GPUs without a price have no share of the spend.
    let shares = t
        .price_sources
        .iter()
        .filter(|(name, share)| **share > 0.0 && *name != UNPRICED);
    let (names, shares): (Vec<&String>, Vec<f64>) = shares.unzip();
    let shares: Vec<String> = names
        .iter()
        .zip(whole_percents(&shares))
        .map(|(name, share)| match share {
            0 => format!("{name} under 1 %"),
            share => format!("{name} {share} %"),
        })
        .collect();
    let dated = t.prices_as_of.as_deref().filter(|_| !shares.is_empty());
    let dated = dated.map(|d| format!(", oldest of {d}")).unwrap_or_default();
    let unpriced = (t.gpus_unpriced > 0.0).then(|| format!("{} without a price", gpus(t.gpus_unpriced)));
    let told = [shares.join(", ") + &dated, unpriced.unwrap_or_default()];
    told.into_iter()
        .filter(|s| !s.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// As [`PriceSource::Unknown`](crate::fleet::PriceSource) is named.
const UNPRICED: &str = "unknown";

/// Shares as percents that add up as the shares do: what is left by rounding down goes to the largest remainders.
fn whole_percents(shares: &[f64]) -> Vec<u64> {
    let exact: Vec<f64> = shares.iter().map(|s| s * 100.0).collect();
    let mut percents: Vec<u64> = exact.iter().map(|e| e.floor() as u64).collect();
    let all = exact.iter().sum::<f64>().round() as u64;
    let left = all.saturating_sub(percents.iter().sum());
    let mut order: Vec<usize> = (0..exact.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    for i in order.into_iter().take(left as usize) {
        percents[i] += 1;
    }
    percents
}

/// "31.1 %", "–" where unknown.
pub fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.1} %"))
}

/// "8", "0.57": whole GPUs without decimals.
pub fn count(gpus: f64) -> String {
    if (gpus - gpus.round()).abs() < 1e-9 {
        format!("{gpus:.0}")
    } else {
        format!("{gpus:.2}")
    }
}

/// "$1.50/h", "unknown": what is not known is no $0.00.
pub fn known(usd: Option<UsdPerHour>) -> String {
    usd.map_or_else(|| "unknown".into(), money)
}

/// "1.50", "–" where unknown.
pub fn known_amount(usd: Option<UsdPerHour>) -> String {
    usd.map_or_else(|| "–".into(), amount)
}

/// "$4.50/h of waste", "no known price": of findings that are left out of a list.
pub fn of_waste(findings: &[&ReportFinding]) -> String {
    let mut recoverable = findings
        .iter()
        .filter(|f| f.kind == FindingKind::Recoverable)
        .peekable();
    if recoverable.peek().is_none() {
        return "none of them waste".into();
    }
    match super::totals::any_known(recoverable.map(|f| f.waste_usd_per_hour)) {
        Some(usd) => format!("{} of waste", money(usd)),
        None => "no known price".into(),
    }
}

/// "freed", "not judged: …".
pub fn became(fixed: &super::document::Fixed) -> String {
    match (&fixed.not_assessed, fixed.became) {
        (Some(why), _) => format!("not judged: {}", plain(why)),
        (None, Some(became)) => became.name().into(),
        (None, None) => "gone".into(),
    }
}

/// "limit 400.00, actual 290.08", and of a gate without a verdict why.
pub fn gate_figures(gate: &super::document::Gate) -> String {
    let actual = gate.actual.map_or_else(|| "unknown".to_owned(), |a| format!("{a:.2}"));
    let why = gate.undecided_because.as_ref().map(|w| format!("; {}", plain(w)));
    format!("limit {:.2}, actual {actual}{}", gate.limit, why.unwrap_or_default())
}

/// What the share of silent GPUs is of, and of how many nobody can say whether they work.
pub fn of_allocated(t: &Totals) -> String {
    if t.gpus_unknown > 0.0 {
        format!(
            "of the allocated GPUs serve nothing (idle or stuck); {} GPUs could not be judged",
            count(t.gpus_unknown)
        )
    } else {
        "of the allocated GPUs serve nothing (idle or stuck)".into()
    }
}

/// "3 GPUs, $4.50/h", "3 GPUs without a known price", "no known GPU".
pub fn extent(gpus: f64, usd: Option<UsdPerHour>) -> String {
    let n = count(gpus);
    let s = if n == "1" { "" } else { "s" };
    match usd {
        Some(usd) => format!("{n} GPU{s}, {}", money(usd)),
        None if gpus > 0.0 => format!("{n} GPU{s} without a known price"),
        None => "no GPU yet".into(),
    }
}

/// "64,598": of a month, where the column says so.
pub fn monthly(usd: UsdPerHour) -> String {
    per_month(usd).replace('$', "")
}

/// "$28,410 a month of waste": of findings left out of a list.
pub fn monthly_waste(findings: &[&ReportFinding]) -> String {
    let waste = findings.iter().filter(|f| f.kind == FindingKind::Recoverable);
    match super::totals::any_known(waste.map(|f| f.waste_usd_per_hour)) {
        Some(usd) if usd.is_positive() => format!("{} a month of waste", per_month(usd)),
        _ => "no waste".into(),
    }
}

/// "now", "part now", "reusable", "at risk", "trend": what doing it saves. "part now": some of its nodes can go, others are still
/// needed.
pub fn saving(f: &ReportFinding) -> &'static str {
    let some = f.waste_now_usd_per_hour.is_some_and(UsdPerHour::is_positive);
    match ledger_name(f) {
        "reusable" if some => "part now",
        name => name,
    }
}

/// "1 GPU", "0.71 GPUs".
pub fn gpus(n: f64) -> String {
    let n = count(n);
    format!("{n} GPU{}", if n == "1" { "" } else { "s" })
}

/// "dark-capacity/idle".
pub fn check_name(finding: &ReportFinding) -> String {
    match &finding.part {
        Some(part) => format!("{}/{part}", finding.check),
        None => finding.check.clone(),
    }
}

/// "Deployment ml/llama-70b", "pool a100 (A100-SXM4-80GB)".
pub fn subject_name(subject: &Subject) -> String {
    let owned = subject
        .name
        .as_deref()
        .filter(|_| subject.kind.as_deref() != Some("NodePool"));
    let name = match (owned, &subject.namespace) {
        (Some(name), Some(namespace)) => format!("{} {namespace}/{name}", subject.kind.as_deref().unwrap_or("Pod")),
        (Some(name), None) => format!("{} {name}", subject.kind.as_deref().unwrap_or("Pod")),
        (None, _) => {
            let pool = subject
                .pool
                .as_deref()
                .or(subject.name.as_deref())
                .map(|p| format!("pool {p}"));
            match (pool, &subject.gpu) {
                (Some(pool), Some(gpu)) => format!("{pool} ({gpu})"),
                (Some(one), None) => one,
                (None, Some(gpu)) => gpu.clone(),
                (None, None) => "nodes".to_owned(),
            }
        }
    };
    name.trim().to_owned()
}

/// The subject, behind the file and line of its manifest where it has one.
pub fn subject_place(subject: &Subject) -> String {
    let name = subject_name(subject);
    match &subject.location {
        Some(l) => format!("{}:{} · {name}", l.file, l.line),
        None => name,
    }
}

/// "ml/llama-70b", "pool a100 (A100-SXM4-80GB)".
pub fn subject_short(subject: &Subject) -> String {
    let full = subject_name(subject);
    match (&subject.kind, &subject.namespace) {
        (Some(kind), Some(_)) => full
            .strip_prefix(kind.as_str())
            .map_or(full.clone(), |s| s.trim().to_owned()),
        _ => full,
    }
}

/// "now", "reusable", "at risk", "trend".
pub fn ledger_name(finding: &ReportFinding) -> &'static str {
    match (finding.kind, finding.grade) {
        (FindingKind::AtRisk, _) => "at risk",
        (FindingKind::Trend, _) => "trend",
        (FindingKind::Recoverable, Some(Grade::Now)) => "now",
        (FindingKind::Recoverable, _) => "reusable",
    }
}

/// "recoverable", "at-risk", "trend", as in the JSON.
pub fn kind_name(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Recoverable => "recoverable",
        FindingKind::AtRisk => "at-risk",
        FindingKind::Trend => "trend",
    }
}

/// Distinct GPUs that a finding claims; `None`: it claims none.
pub fn claimed_gpus(finding: &ReportFinding) -> Option<usize> {
    let gpus: BTreeSet<_> = finding.claims.iter().map(|c| (&c.node, &c.gpu)).collect();
    (!gpus.is_empty()).then_some(gpus.len())
}

/// A figure with at most four significant digits after the point, large ones grouped.
pub(super) fn figure(value: f64) -> String {
    if value.abs() >= 1000.0 || (value.fract() == 0.0 && value.abs() < 1e15) {
        dollars(value, 0).replace('$', "")
    } else if value.abs() >= 0.01 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// "KV cache peak 12 % (expected 80 %, prometheus)".
pub fn evidence(e: &Evidence) -> String {
    let expected = super::people::expected(e)
        .map(|x| format!("expected {x}, "))
        .unwrap_or_default();
    format!(
        "{} {} ({expected}{})",
        super::people::name(&e.name),
        super::people::value(e),
        e.source
    )
}

pub fn status_name(status: Status) -> &'static str {
    match status {
        Status::New => "new",
        Status::Baseline => "baseline",
        Status::Suppressed => "suppressed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn shares_of_the_spend_add_up_and_unpriced_gpus_have_none() {
        let mut report = super::super::gate_tests::demo();
        let t = &mut report.totals;
        t.prices_as_of = Some("2026-06-18".into());
        let shares = [
            ("catalog", 0.667),
            ("gpu-median", 0.331),
            ("region-guess", 0.002),
            ("user", 0.0),
            ("unknown", 0.4),
        ];
        t.price_sources = shares.iter().map(|(n, s)| ((*n).to_string(), *s)).collect();
        t.gpus_unpriced = 3.0;
        assert_eq!(
            price_sources(&report),
            "catalog 67 %, gpu-median 33 %, region-guess under 1 %, oldest of 2026-06-18; 3 GPUs without a price"
        );
        report.totals.price_sources = BTreeMap::from([("unknown".to_string(), 1.0)]);
        report.totals.prices_as_of = None;
        assert_eq!(price_sources(&report), "3 GPUs without a price");
        for shares in [[0.333, 0.333, 0.334], [0.995, 0.003, 0.002], [0.5, 0.25, 0.25]] {
            assert_eq!(whole_percents(&shares).iter().sum::<u64>(), 100, "{shares:?}");
        }
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mred\u{7}\nb\u{202e}c\u{9b}2J"), "a[31mred bc2J");
    }

    #[test]
    fn what_tokens_cost_is_told_as_far_as_it_is_known() {
        let mut t = Totals::default();
        assert_eq!(token_costs(&t), None);
        t.unit_costs.usd_per_million_output_tokens = Some(8.822);
        let told = |t: &Totals| token_costs(t).map(|(cost, of)| format!("{cost} {of}"));
        assert_eq!(told(&t).as_deref(), Some("$8.82 per million output tokens"));
        t.unit_costs.usd_per_million_output_tokens_used = Some(0.05);
        t.unit_costs.token_spend_usd_per_hour = UsdPerHour::from_usd(532.09);
        let whole = "$8.82 per million output tokens, $0.050 of it while the GPUs are busy: of the $532.09/h whose tokens are known";
        assert_eq!(told(&t).as_deref(), Some(whole));
    }

    #[test]
    fn money_reads_like_money() {
        let usd = UsdPerHour::from_micros(1_234_567_891_000);
        assert_eq!(money(usd), "$1,234,567.89/h");
        assert_eq!(per_month(UsdPerHour::from_micros(98_320_000)), "$71,774");
        assert_eq!(money(UsdPerHour::from_micros(50_000)), "$0.05/h");
    }
}
