//! `--format markdown`: for pull requests and step summaries. What matters first, the rest folded, all of it within
//! what one GitHub comment takes.

use super::RenderOptions;
use super::decision::{self, Decision};
use super::document::{GateResult, Report, ReportFinding, Status, SuppressionState};
use super::lines;
use super::order;
use super::text::{self, plain};
use std::fmt::Write as _;
use std::io::{self, Write};

/// A GitHub comment holds 65,536 characters; the rest is for what people write around it.
const BUDGET: usize = 60_000;
/// Findings that are not folded.
const TOP: usize = 10;

/// Text with everything escaped that could end a table cell, become markup or call somebody.
fn md(value: &str) -> String {
    let mut out = String::new();
    for c in plain(value).chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '~' | '!' | '$' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("@\u{2060}"),
            c => out.push(c),
        }
    }
    // "https://" would become a link.
    out.replace("://", ":\u{2060}//").replace("www.", "www\u{2060}.")
}

pub(super) fn render(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut page = summary(report);
    let all = order::all(report);
    // Against a baseline what is new comes first: the rest was there before this pull request.
    let compared = report.fixed.is_some();
    let (mut findings, known): (Vec<&ReportFinding>, Vec<&ReportFinding>) =
        all.iter().partition(|f| !compared || f.status == Status::New);
    if compared {
        page.push_str(&against_baseline(&findings, &known));
    }
    let news = findings.len();
    findings.extend(known);
    let top = options.top.unwrap_or(if compared { TOP.min(news) } else { TOP });
    let head: Vec<String> = rows(&findings, 0, top);
    if findings.is_empty()
        && report.totals.gpus > 0.0
        && let Some(line) = lines::nothing_listed(report)
    {
        let _ = writeln!(page, "\n{line}");
    }
    let mut sections: Vec<(String, Vec<String>, &str)> = Vec::new();
    if !head.is_empty() {
        page.push_str(HEADER);
        page.push_str(&fill(head, BUDGET / 2));
    }
    let what = findings
        .iter()
        .take(top)
        .enumerate()
        .map(|(i, f)| advice(i, f))
        .collect();
    let same = lines::same_gaps(report);
    let gaps = same.iter().map(|g| {
        let [source, what, reason, remedy] = [&*g.sources, g.what, g.reason, g.remedy].map(md);
        format!("- {source}: {what} ({reason}); {remedy}\n")
    });
    let title = format!("{} in what could be read", text::plural(same.len() as u64, "gap"));
    // Before the fixes: where space ends, what was not read outlives them.
    sections.push((title, gaps.collect(), ""));
    sections.push(("What to do".into(), what, ""));
    if options.top.is_none() && findings.len() > top {
        let rest = summary_text(&text::monthly_waste(&findings[top..]));
        let n = findings.len() - top;
        let title = if compared {
            format!("{n} more, in the baseline or without dollars ({rest})")
        } else {
            format!("{} ({rest})", text::plural(n as u64, "more finding"))
        };
        sections.push((title, rows(&findings, top, findings.len()), HEADER));
    }
    sections.extend(hidden(report));
    sections.extend(baseline(report));
    sections.extend(groups(report));
    sections.extend(past(report));
    sections.extend(lines(report));
    sections.extend(policy(report));
    for (title, rows, header) in sections.into_iter().filter(|s| !s.1.is_empty()) {
        let left = BUDGET.saturating_sub(page.chars().count() + title.len() + header.len() + 100);
        let body = fill(rows, left);
        let _ = write!(
            page,
            "\n<details><summary>{title}</summary>\n\n{header}{body}\n</details>\n"
        );
    }
    out.write_all(page.as_bytes())
}

const HEADER: &str = "\n| # | $/month | money | confidence | finding | where |\n|---:|---:|---|---|---|---|\n";

/// As many rows as the budget takes; says how many were left out.
fn fill(rows: Vec<String>, budget: usize) -> String {
    let mut body = String::new();
    let (mut used, total) = (0, rows.len());
    for (i, row) in rows.into_iter().enumerate() {
        let size = row.chars().count();
        if used + size > budget {
            let _ = write!(body, "\n… and {} more: see the JSON or HTML report.\n", total - i);
            break;
        }
        used += size;
        body.push_str(&row);
    }
    body
}

fn rows(findings: &[&ReportFinding], from: usize, to: usize) -> Vec<String> {
    let shown = findings.iter().enumerate().take(to).skip(from);
    shown
        .map(|(i, f)| {
            let amount = f.usd_per_hour.map_or_else(|| "–".into(), text::monthly);
            let baseline = if f.status == Status::Baseline {
                " (in the baseline)"
            } else {
                ""
            };
            let decided = f.decision.as_ref().and_then(Decision::said);
            let decided = decided.map(|d| format!(" ({})", md(&d))).unwrap_or_default();
            let model = f
                .subject
                .model
                .as_deref()
                .map(|m| format!(" · {}", md(m)))
                .unwrap_or_default();
            format!(
                "| {} | {amount} | {} | {} | {}{baseline}{decided} | {}{model} |\n",
                i + 1,
                text::saving(f),
                f.confidence.name(),
                md(&f.title),
                md(&text::subject_place(&f.subject)),
            )
        })
        .collect()
}

/// A line a gate: where nothing was found, too, they are what decides.
fn gates(report: &Report) -> String {
    let mut page = String::new();
    if !report.gates.is_empty() {
        page.push('\n');
    }
    for gate in &report.gates {
        let mark = match gate.result() {
            GateResult::Passed => "✅ passed".to_owned(),
            GateResult::Breached => "❌ **breached**".to_owned(),
            GateResult::NoVerdict => "⚠️ **no verdict**".to_owned(),
        };
        let figures = md(&text::gate_figures(gate));
        let _ = writeln!(page, "- {mark}: {} ({figures})", md(&gate.name));
    }
    page
}

fn summary(report: &Report) -> String {
    let t = &report.totals;
    if t.gpus == 0.0 {
        let read: Vec<String> = report.sources.iter().map(|s| md(&s.name)).collect();
        return format!(
            "## GPU waste: {}\n\n{} Read: {}.\n{}",
            if t.spend_usd_per_hour.is_none() {
                "unknown"
            } else {
                "no GPUs were found"
            },
            lines::no_gpus(t),
            read.join(", "),
            gates(report)
        );
    }
    let total = |of| md(&text::known(of));
    let mut page = format!(
        "## GPU waste: {} of {} ({})\n\n**{}** {}\n\n| now | reusable | at risk | GPUs | without traffic | coverage |\n|---:|---:|---:|---:|---:|---:|\n| {} | {} | {} | {} | {} | {} |\n",
        total(t.waste_usd_per_hour),
        total(t.spend_usd_per_hour),
        text::percent(t.waste_percent),
        md(&lines::headline(report)),
        md(&lines::spend_line(report)),
        total(t.waste_now_usd_per_hour),
        total(t.waste_reusable_usd_per_hour),
        total(t.at_risk_usd_per_hour),
        text::count(t.gpus),
        text::percent(t.allocated_without_traffic_percent),
        text::percent(t.coverage_percent),
    );
    let states = decision::lines(report);
    if !states.is_empty() {
        page.push('\n');
    }
    for (name, money, what) in states {
        let _ = writeln!(page, "- {name}: {} of {}", md(&money), md(&what));
    }
    page.push_str(&gates(report));
    let missing = lines::unassessed(report);
    if let Some((check, reason, gpus, amount)) = missing.reasons.first() {
        let _ = write!(
            page,
            "\nNot assessed: {} for {}: {}.",
            md(check),
            md(&text::extent(*gpus, *amount)),
            md(reason)
        );
        if let Some((remedy, ..)) = missing.remedy {
            let _ = write!(page, " What would assess most: {}.", md(remedy));
        }
        page.push('\n');
    }
    page
}

/// "**New against the baseline: 2 findings, $20,090 a month.** 58 more were there before."
fn against_baseline(new: &[&ReportFinding], known: &[&ReportFinding]) -> String {
    let worse = new.iter().filter(|f| f.status_reason.is_some()).count();
    let money = |all: &[&ReportFinding]| md(&text::monthly_waste(all));
    let worse = if worse > 0 {
        format!(", {worse} of them worse than before")
    } else {
        String::new()
    };
    format!(
        "\n**New against the baseline: {}, {}{worse}.** In the baseline: {}, {}.\n",
        text::plural(new.len() as u64, "finding"),
        money(new),
        text::plural(known.len() as u64, "finding"),
        money(known)
    )
}

/// Text of an HTML block: Markdown's escapes would be shown as they are there.
fn summary_text(value: &str) -> String {
    plain(value)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('$', "&#36;")
}

/// The fix, its patch, and what it rests on.
fn advice(index: usize, f: &ReportFinding) -> String {
    let mut out = format!("**{}.** {}\n", index + 1, md(&f.fix.summary));
    let evidence: Vec<String> = f.evidence.iter().map(|e| md(&text::evidence(e))).collect();
    if !evidence.is_empty() {
        let _ = writeln!(out, "<br><sub>{}: {}</sub>", text::check_name(f), evidence.join(" · "));
    }
    if let Some(patch) = &f.fix.patch {
        let longest = patch.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        let lines: Vec<String> = patch.lines().map(plain).collect();
        let _ = write!(out, "\n{fence}yaml\n{}\n{fence}\n", lines.join("\n"));
    }
    out.push('\n');
    out
}

type Section = (String, Vec<String>, &'static str);

fn baseline(report: &Report) -> Option<Section> {
    let fixed = report.fixed.as_ref()?;
    let sums = crate::verdict::gone::sums(fixed.iter().filter_map(|f| Some((f.became?, f.usd_per_hour))));
    let sums: Vec<String> = sums
        .into_iter()
        .map(|(became, (_, sum))| {
            let sum = sum.map_or_else(|| "unknown".into(), |u| format!("{} a month", text::per_month(u)));
            summary_text(&format!("{} {sum}", became.name()))
        })
        .collect();
    let rows = fixed.iter().map(|f| {
        let amount = f.usd_per_hour.map_or_else(|| "–".into(), |u| format!("{:.2}", u.usd()));
        let state = md(&text::became(f));
        format!("| {amount} | {} | {} | {state} |\n", md(&f.check), md(&f.title))
    });
    let sums = if sums.is_empty() {
        "nothing".into()
    } else {
        sums.join(", ")
    };
    let title = format!("Gone since the baseline: {sums}");
    Some((
        title,
        rows.collect(),
        "| $/h | check | finding | |\n|---:|---|---|---|\n",
    ))
}

/// What was snoozed and dismissed, and why.
fn hidden(report: &Report) -> Option<Section> {
    let hidden: Vec<&ReportFinding> = report.findings.iter().filter(|f| decision::is_hidden(f)).collect();
    let rows = hidden.iter().map(|f| {
        let amount = f.usd_per_hour.map_or_else(|| "–".into(), |u| format!("{:.2}", u.usd()));
        let why = f.decision.as_ref().map(Decision::justification).unwrap_or_default();
        format!("| {amount} | {} | {} | `{}` |\n", md(&f.title), md(&why), f.id)
    });
    let rows: Vec<String> = rows.collect();
    let title = format!(
        "Snoozed and dismissed: {}",
        text::plural(hidden.len() as u64, "finding")
    );
    (!rows.is_empty()).then_some((title, rows, "| $/h | finding | why | id |\n|---:|---|---|---|\n"))
}

fn groups(report: &Report) -> Option<Section> {
    let groups = report.groups.as_ref()?;
    let rows = groups.rows.iter().map(|r| {
        format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            md(&r.name),
            text::count(r.gpus),
            md(&text::known(r.spend_usd_per_hour)),
            md(&text::known(r.waste_usd_per_hour)),
            md(&text::known(r.at_risk_usd_per_hour)),
            text::per_million(r.unit_costs.usd_per_million_output_tokens)
        )
    });
    let t = &report.totals;
    let all = format!(
        "| **all** | {} | {} | {} | {} | {} |\n",
        text::count(t.gpus),
        md(&text::known(t.spend_usd_per_hour)),
        md(&text::known(t.waste_usd_per_hour)),
        md(&text::known(t.at_risk_usd_per_hour)),
        text::per_million(t.unit_costs.usd_per_million_output_tokens)
    );
    let rows = rows.chain([all]);
    let header = "| | GPUs | spend | waste | at risk | $/1M output tokens |\n|---|---:|---:|---:|---:|---:|\n";
    Some((format!("By {}", summary_text(&groups.by)), rows.collect(), header))
}

/// What jobs of the last days had, the most first.
fn past(report: &Report) -> Option<Section> {
    let groups = report.groups.as_ref()?;
    let mut rows: Vec<_> = groups.rows.iter().filter_map(|r| Some((r, r.past.as_ref()?))).collect();
    rows.sort_by(|(a, x), (b, y)| y.gpu_hours.total_cmp(&x.gpu_hours).then_with(|| a.name.cmp(&b.name)));
    let window = rows.iter().map(|(_, p)| p.window_seconds).max()?;
    let usd = |usd: Option<f64>| md(&usd.map_or_else(|| "unknown".into(), |u| format!("${u:.0}")));
    let told = rows.iter().map(|(row, p)| {
        format!(
            "| {} | {} | {:.1} | {} | {:.1} | {:.1} | {} | {:.1} | {} |\n",
            md(&row.name),
            p.jobs,
            p.gpu_hours,
            usd(p.usd),
            p.known_gpu_hours,
            p.idle_gpu_hours,
            usd(p.idle_usd),
            p.unused_gpu_hours,
            usd(p.unused_usd)
        )
    });
    let header = "| | jobs | GPU-hours | cost | of these known | did nothing | cost | not used, in all | cost |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    let title = format!(
        "Jobs of the last {}, by {}",
        super::past::days(window),
        summary_text(&groups.by)
    );
    Some((title, told.collect(), header))
}

/// A line a person, as it can be sent.
fn lines(report: &Report) -> Option<Section> {
    let groups = report
        .groups
        .as_ref()
        .filter(|g| g.rows.iter().any(|r| r.past.is_some()))?;
    let lines = groups.rows.iter().filter_map(|r| super::past::mail_line(report, r));
    let lines: Vec<String> = lines.map(|l| format!("- {}\n", md(&l))).collect();
    (!lines.is_empty()).then(|| {
        (
            format!("A line for each {} to be sent", summary_text(&groups.by)),
            lines,
            "",
        )
    })
}

fn policy(report: &Report) -> Option<Section> {
    let rows: Vec<String> = report
        .policy
        .suppressions
        .iter()
        .filter_map(|s| {
            let what = match s.state {
                SuppressionState::Unused => "matches nothing",
                SuppressionState::Expired => "has expired",
                SuppressionState::Used | SuppressionState::NotJudged => return None,
            };
            Some(format!(
                "- line {}: {} for {} {what}: {}\n",
                s.line,
                md(&s.check),
                md(&s.subject),
                md(&s.reason)
            ))
        })
        .collect();
    (!rows.is_empty()).then(|| ("Suppressions to clean up".into(), rows, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_request_gets_no_markup() {
        assert_eq!(md("a|b<script>*x*"), "a\\|b&lt;script&gt;\\*x\\*");
        assert_eq!(md("@team https://x"), "@\u{2060}team https:\u{2060}//x");
        assert_eq!(md("![x](y)"), "\\!\\[x\\](y)");
    }

    #[test]
    fn rows_stop_at_the_budget() {
        let body = fill(vec!["12345\n".into(); 10], 20);
        assert!(
            body.contains("and 7 more") && body.matches("12345").count() == 3,
            "{body}"
        );
    }
}
