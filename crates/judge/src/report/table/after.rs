//! What stands below the findings: groups, gates, the baseline, the policy, prices, gaps.

use crate::report::RenderOptions;
use crate::report::document::{GateResult, Report, Status, SuppressionState};
use crate::report::lines;
use crate::report::terminal::{Paint, width_of, wrap, wrapped};
use crate::report::text::{self, plain};
use std::io::{self, Write};

/// Groups without `--top`.
const GROUPS: usize = 20;
/// Findings named that are gone since the baseline, without `--top`.
const FIXED: usize = 12;
/// Things named that could not be read.
const GAPS: usize = 8;

pub(super) fn render(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    groups(report, options, out)?;
    gates(report, options, out)?;
    fixed(report, options, out)?;
    policy(report, options, out)?;
    footer(report, options, out)
}

/// What stands below the first screen: what was asked for, and what is wrong with policy or baseline.
pub(super) fn short(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    groups(report, options, out)?;
    gates(report, options, out)?;
    fixed(report, options, out)?;
    policy(report, options, out)
}

/// One row a group, most waste first.
fn groups(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let Some(groups) = &report.groups else {
        return Ok(());
    };
    let top = options.top.map_or(GROUPS, |t| t.max(1));
    let rows: Vec<[String; 7]> = groups
        .rows
        .iter()
        .take(top)
        .map(|row| {
            let usd = |usd| text::known_amount(usd);
            [
                plain(&row.name),
                text::count(row.gpus),
                usd(row.spend_usd_per_hour),
                usd(row.waste_usd_per_hour),
                usd(row.at_risk_usd_per_hour),
                text::per_million(row.unit_costs.usd_per_million_output_tokens),
                text::per_million(row.unit_costs.usd_per_million_output_tokens_used),
            ]
        })
        .collect();
    let t = &report.totals;
    let all = [
        "all".to_owned(),
        text::count(t.gpus),
        text::known_amount(t.spend_usd_per_hour),
        text::known_amount(t.waste_usd_per_hour),
        text::known_amount(t.at_risk_usd_per_hour),
        text::per_million(t.unit_costs.usd_per_million_output_tokens),
        text::per_million(t.unit_costs.usd_per_million_output_tokens_used),
    ];
    let head = [
        &plain(&groups.by),
        "GPUs",
        "spend $/h",
        "waste $/h",
        "at risk $/h",
        "$/1M out",
        "in use",
    ]
    .map(str::to_owned);
    let wide = |i: usize| {
        rows.iter()
            .chain([&head, &all])
            .map(|r| width_of(&r[i]))
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 7] = std::array::from_fn(wide);
    let figures: usize = widths[1..].iter().map(|w| w + 2).sum();
    let name = widths[0].min(options.width.saturating_sub(figures + 2).max(8));
    let paint = Paint(options.color);
    writeln!(out)?;
    for (at, row) in [&head].into_iter().chain(&rows).chain([&all]).enumerate() {
        let lines = wrap(&row[0], name);
        for (i, line) in lines.iter().enumerate() {
            let mut text = format!("  {line}");
            if i == 0 {
                text.push_str(&" ".repeat(name.saturating_sub(width_of(line))));
                for (cell, width) in row[1..].iter().zip(&widths[1..]) {
                    text.push_str(&format!("  {cell:>width$}"));
                }
            }
            writeln!(
                out,
                "{}",
                if at == 0 || at > rows.len() {
                    paint.bold(&text)
                } else {
                    text
                }
            )?;
        }
    }
    if groups.rows.len() > top {
        writeln!(
            out,
            "  {}",
            paint.dim(&format!(
                "… and {} more: --top {} shows all",
                groups.rows.len() - top,
                groups.rows.len()
            ))
        )?;
    }
    Ok(())
}

/// Above all they stand where there is no GPU: nothing else tells that nothing was decided.
pub(super) fn gates(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    for gate in &report.gates {
        let result = match gate.result() {
            GateResult::Passed => "passed",
            GateResult::Breached => "BREACHED",
            GateResult::NoVerdict => "NO VERDICT",
        };
        let line = format!("Gate {}: {result} ({})", gate.name, text::gate_figures(gate));
        writeln!(out)?;
        wrapped(out, &line, options.width, "", "  ")?;
    }
    Ok(())
}

fn fixed(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let Some(fixed) = report.fixed.as_ref().filter(|f| !f.is_empty()) else {
        return Ok(());
    };
    writeln!(out, "\n{}", Paint(options.color).bold("Gone since the baseline"))?;
    for line in lines::gone(fixed) {
        wrapped(out, &line, options.width, "  ", "    ")?;
    }
    for f in fixed.iter().take(options.top.unwrap_or(FIXED)) {
        let amount = f.usd_per_hour.map_or_else(|| "–".to_owned(), text::amount);
        let line = format!("{} ({})", plain(&f.title), text::became(f));
        wrapped(out, &line, options.width, &format!("  {amount:>9}  "), &" ".repeat(13))?;
    }
    Ok(())
}

fn policy(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    for s in &report.policy.suppressions {
        let what = match s.state {
            SuppressionState::Unused => "matches nothing",
            SuppressionState::Expired => "has expired",
            SuppressionState::Used | SuppressionState::NotJudged => continue,
        };
        let file = report.policy.file.as_deref().map(plain).unwrap_or_default();
        let line = format!(
            "{file}:{}: the suppression of {} for '{}' {what}",
            s.line,
            plain(&s.check),
            plain(&s.subject)
        );
        writeln!(out)?;
        wrapped(out, &line, options.width, "", "  ")?;
    }
    Ok(())
}

fn footer(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let suppressed = report
        .findings
        .iter()
        .filter(|f| f.status == Status::Suppressed)
        .count();
    if suppressed > 0 {
        let text = format!(
            "{} suppressed by their owners (in the JSON with their reasons).",
            text::plural(suppressed as u64, "finding")
        );
        writeln!(out)?;
        wrapped(out, &text, options.width, "", "")?;
    }
    writeln!(out)?;
    wrapped(
        out,
        &format!(
            "Prices: {}. 'gpuwaste explain CHECK' says how the dollars are computed; --format json has the evidence.",
            text::price_sources(report)
        ),
        options.width,
        "",
        "",
    )?;
    gaps(report, options, out)
}

/// What could not be read: each thing once, however many sources have it.
fn gaps(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let gaps = lines::same_gaps(report);
    if gaps.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nNot read:")?;
    for gap in gaps.iter().take(GAPS) {
        let line = format!(
            "{}: {} ({}): {}. → {}",
            gap.sources, gap.what, gap.reason, gap.effect, gap.remedy
        );
        wrapped(out, &plain(&line), options.width, "  - ", "    ")?;
    }
    if gaps.len() > GAPS {
        writeln!(
            out,
            "  … and {} more ('gpuwaste doctor' and --format json list all)",
            gaps.len() - GAPS
        )?;
    }
    Ok(())
}
