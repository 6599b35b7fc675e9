//! What was decided and what it saved, as one page: predicted against realised over time, whole, by check and by owner. No scripts,
//! nothing from elsewhere.

use crate::report::text::plain;
use gpuwaste_decisions::record::{Figures, Learned, Settled};
use jiff::Timestamp;
use maud::{Markup, html};
use std::collections::BTreeMap;

const STYLE: &str = "
:root{color-scheme:light dark;--line:#8886}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem}
h1{font-size:1.35rem;margin:0}h2{font-size:1.05rem;margin:1.6rem 0 .2rem}p{margin:.4rem 0}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{padding:.3rem .6rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.parts{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}figure{margin:0}
svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:currentColor}
.axis{stroke:currentColor;stroke-width:1}.said,.done{fill:none;stroke-width:2}
.said{stroke:#c2410c;stroke-dasharray:5 4}.done{stroke:#0b6bcb}.note{color:#777}";

/// Checks and owners that are drawn: those with most money.
const PARTS: usize = 12;

pub(super) fn page(learned: &Learned) -> String {
    let all: Vec<&Settled> = learned.settled.iter().collect();
    let body = html! {
        h1 { "Predicted and realised" }
        @if let (Some(first), Some(last)) = (all.first(), all.last()) {
            p { (sums(&all)) " in " (all.len()) " settled findings, " (day(first.at)) " to " (day(last.at)) "." }
            (plot(&all, (760.0, 300.0)))
            p.note { "$/h of what was settled until then: predicted (broken line), realised (whole line)." }
            (parts("By check", &all, |s| Some(&s.check)))
            (parts("By owner", &all, |s| s.owner.as_deref()))
        } @else {
            p { "Nothing was settled yet: gpuwaste settle measures what was done." }
        }
        (table("check", &learned.checks))
        @if !learned.owners.is_empty() { (table("owner", &learned.owners)) }
        @for p in &learned.proposals {
            p { "Proposed: " (plain(&p.reason)) }
            pre { (p.policy) }
        }
    };
    crate::run::page::page("Predicted and realised", STYLE, &body)
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn sums(settled: &[&Settled]) -> String {
    let sum = |of: fn(&Settled) -> f64| settled.iter().map(|s| of(s)).sum::<f64>();
    format!(
        "${:.2}/h realised of ${:.2}/h predicted",
        sum(|s| s.realised_usd_per_hour),
        sum(|s| s.predicted_usd_per_hour)
    )
}

/// Small drawings side by side, one a part, those with most money first.
fn parts(title: &str, all: &[&Settled], of: impl Fn(&Settled) -> Option<&str>) -> Markup {
    let mut by: BTreeMap<&str, Vec<&Settled>> = BTreeMap::new();
    for settled in all {
        if let Some(name) = of(settled) {
            by.entry(name).or_default().push(settled);
        }
    }
    let mut by: Vec<(&str, Vec<&Settled>)> = by.into_iter().collect();
    let money = |s: &[&Settled]| s.iter().map(|s| s.predicted_usd_per_hour).sum::<f64>();
    by.sort_by(|a, b| money(&b.1).total_cmp(&money(&a.1)).then(a.0.cmp(b.0)));
    html! {
        @if !by.is_empty() {
            h2 { (title) }
            div.parts { @for (name, settled) in by.iter().take(PARTS) {
                figure {
                    figcaption { b { (plain(name)) } " · " (sums(settled)) }
                    (plot(settled, (380.0, 150.0)))
                }
            } }
            @if by.len() > PARTS { p.note { "and " (by.len() - PARTS) " more with less" } }
        }
    }
}

/// Sums that grow with what is settled, as steps over time.
fn plot(settled: &[&Settled], (width, height): (f64, f64)) -> Markup {
    let (left, bottom, top) = (58.0, 22.0, 8.0);
    let seconds = |s: &&Settled| s.at.as_second() as f64;
    let (Some(first), Some(last)) = (settled.first().map(seconds), settled.last().map(seconds)) else {
        return html! {};
    };
    // A day at least, so that one of them has a width.
    let (start, span) = (first - 43_200.0, (last - first).max(0.0) + 86_400.0);
    let running = |of: fn(&Settled) -> f64| {
        let mut sum = 0.0;
        let mut all = vec![(start, 0.0)];
        for s in settled {
            all.push((seconds(s), sum));
            sum += of(s);
            all.push((seconds(s), sum));
        }
        all.push((start + span, sum));
        all
    };
    let said = running(|s| s.predicted_usd_per_hour);
    let done = running(|s| s.realised_usd_per_hour);
    let highest = |line: &[(f64, f64)]| line.iter().map(|p| p.1).fold(0.0, f64::max);
    let lowest = done.iter().map(|p| p.1).fold(0.0, f64::min);
    let most = highest(&said).max(highest(&done)).max(1e-9);
    let y = |usd: f64| top + (most - usd) / (most - lowest) * (height - bottom - top);
    let x = |at: f64| left + (at - start) / span * (width - left - 8.0);
    let points = |line: &[(f64, f64)]| {
        let each: Vec<String> = line.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        each.join(" ")
    };
    html! {
        svg viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(sums(settled)) {
            line.axis x1=(left) x2=(width - 8.0) y1=(y(0.0)) y2=(y(0.0)) {}
            text x=(left - 6.0) y=(y(most) + 8.0) text-anchor="end" { "$" (format!("{most:.2}")) }
            text x=(left - 6.0) y=(y(0.0)) text-anchor="end" { "$0" }
            @if let (Some(a), Some(b)) = (settled.first(), settled.last()) {
                text x=(left) y=(height - 6.0) { (day(a.at)) }
                text x=(width - 8.0) y=(height - 6.0) text-anchor="end" { (day(b.at)) }
            }
            polyline.said points=(points(&said)) { title { "predicted" } }
            polyline.done points=(points(&done)) { title { "realised" } }
        }
    }
}

fn table(of: &str, rows: &BTreeMap<String, Figures>) -> Markup {
    let percent = |v: Option<f64>| v.map_or_else(|| "–".into(), |v| format!("{:.0} %", v * 100.0));
    html! {
        div.scroll { table {
            thead { tr {
                th { (of) } th.n { "decided" } th.n { "accepted" } th.n { "90 %" } th.n { "wrong" } th.n { "days" } th.n { "settled" }
                th.n { "realised" } th.n { "p10" } th.n { "p90" } th.n { "regretted" }
            } }
            tbody { @for (name, f) in rows { tr {
                td { (plain(name)) } td.n { (f.decided) } td.n { (f.accepted) }
                td.n { @if let Some(a) = f.acceptance { (format!("{:.0}–{:.0} %", a.low * 100.0, a.high * 100.0)) } }
                td.n { (f.wrong) } td.n { @if let Some(d) = f.median_days_to_act { (format!("{d:.1}")) } } td.n { (f.settled) }
                td.n { (percent(f.realised)) } td.n { (percent(f.realised_p10)) } td.n { (percent(f.realised_p90)) } td.n { (f.regretted) }
            } } }
        } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(day: i64, check: &str, owner: Option<&str>, predicted: f64, realised: f64) -> Settled {
        Settled {
            at: Timestamp::from_second(1_795_000_000 + day * 86_400).unwrap(),
            check: check.into(),
            owner: owner.map(String::from),
            predicted_usd_per_hour: predicted,
            realised_usd_per_hour: realised,
        }
    }

    fn learned(settled: Vec<Settled>) -> Learned {
        Learned {
            schema: 1,
            at: Timestamp::UNIX_EPOCH,
            checks: BTreeMap::new(),
            owners: BTreeMap::new(),
            months: BTreeMap::new(),
            settled,
            proposals: Vec::new(),
        }
    }

    #[test]
    fn the_page_draws_what_was_said_and_what_came_of_it() {
        let told = page(&learned(vec![
            settled(0, "oversized-tier", Some("ml"), 10.0, 8.0),
            settled(30, "dark-capacity/idle", Some("<b>x</b>"), 20.0, 5.0),
        ]));
        assert!(
            told.contains("$13.00/h realised of $30.00/h predicted in 2 settled findings"),
            "{told}"
        );
        assert_eq!(told.matches("<svg").count(), 5, "the whole, two checks, two owners");
        assert!(told.contains("$8.00/h realised of $10.00/h predicted"));
        assert!(!told.contains("<b>x</b>") && !told.contains("<script"), "{told}");
        // Both lines end at their sums: $30 at the top, $13 at 13/30 of the height.
        let ends: Vec<&str> = told
            .split("points=\"")
            .skip(1)
            .take(2)
            .filter_map(|p| p.split('"').next()?.split(' ').next_back())
            .collect();
        let y = |end: &str| end.split(',').nth(1).unwrap().parse::<f64>().unwrap();
        assert!(
            (y(ends[0]) - 8.0).abs() < 0.1 && (y(ends[1]) - (8.0 + 17.0 / 30.0 * 270.0)).abs() < 0.1,
            "{ends:?}"
        );
    }

    #[test]
    fn nothing_settled_is_said_and_one_is_no_division_by_zero() {
        assert!(page(&learned(Vec::new())).contains("Nothing was settled yet"));
        let one = page(&learned(vec![settled(0, "oversized-tier", None, 0.0, -1.0)]));
        assert!(!one.contains("NaN") && !one.contains("inf"), "{one}");
    }
}
