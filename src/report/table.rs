//! The table: what a person reads first. It fits the width it is given.

use super::RenderOptions;
use super::document::{Report, ReportFinding, Status};
use super::text::{self, plain};
use crate::analyze::finding::Confidence;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, presets};
use std::io::{self, Write};

/// Below this many columns the subject goes under the title.
const NARROW: usize = 110;

pub(super) fn render(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    header(report, options, out)?;
    if report.totals.gpus == 0.0 {
        return no_gpus(report, out);
    }
    not_assessed(report, options, out)?;
    findings(report, options, out)?;
    fixes(report, options, out)?;
    if let Some(groups) = &report.groups {
        group_table(groups, options, out)?;
    }
    gates(report, out)?;
    footer(report, options, out)
}

fn header(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let t = &report.totals;
    let paint = Paint(options.color);
    let clusters: std::collections::BTreeSet<_> = report.nodes.iter().filter_map(|n| n.cluster.as_deref()).collect();
    writeln!(
        out,
        "{}  {} · {} · {} GPUs · {}",
        paint.bold("gpuwaste"),
        text::plural(clusters.len() as u64, "cluster"),
        text::plural(t.nodes, "GPU node"),
        text::count(t.gpus),
        report.taken_at.strftime("%Y-%m-%d %H:%M UTC")
    )?;
    if t.gpus == 0.0 {
        return Ok(());
    }
    writeln!(out)?;
    let unpriced = if t.gpus_unpriced > 0.0 {
        format!("  ({} GPUs have no known price)", text::count(t.gpus_unpriced))
    } else {
        String::new()
    };
    writeln!(
        out,
        "  Spend      {:>13}   {} a month{unpriced}",
        text::money(t.spend_usd_per_hour),
        text::per_month(t.spend_usd_per_hour)
    )?;
    writeln!(
        out,
        "  Waste      {}   {} of spend: {} now, {} reusable",
        paint.red(&format!("{:>13}", text::money(t.waste_usd_per_hour))),
        text::percent(t.waste_percent),
        text::money(t.waste_now_usd_per_hour),
        text::money(t.waste_reusable_usd_per_hour)
    )?;
    writeln!(
        out,
        "  At risk    {:>13}   spend whose work is failing",
        text::money(t.at_risk_usd_per_hour)
    )?;
    let states = [
        ("free", t.gpus_free),
        ("idle", t.gpus_idle),
        ("stuck", t.gpus_stuck),
        ("unhealthy", t.gpus_unhealthy),
        ("working", t.gpus_working),
        ("unknown", t.gpus_unknown),
    ];
    let states: Vec<String> = states
        .iter()
        .filter(|(_, n)| *n > 0.0)
        .map(|(name, n)| format!("{} {name}", text::count(*n)))
        .collect();
    writeln!(out, "  GPUs       {:>13}   {}", text::count(t.gpus), states.join(", "))?;
    if let Some(share) = t.allocated_without_traffic_percent {
        writeln!(
            out,
            "  Dark       {:>13}   of the allocated GPUs serve nothing (idle or stuck)",
            format!("{share:.1} %")
        )?;
    }
    let coverage = t
        .coverage_percent
        .map_or_else(|| "unknown".to_string(), |c| format!("{c:.0} %"));
    writeln!(out, "  Coverage   {coverage:>13}   of the fleet's cost could be judged")?;
    Ok(())
}

fn no_gpus(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let read: Vec<String> = report
        .sources
        .iter()
        .map(|s| format!("{} ({})", plain(&s.name), plain(&s.detail)))
        .collect();
    writeln!(
        out,
        "\nNo GPUs were found, so nothing was judged. Read: {}.",
        read.join("; ")
    )?;
    writeln!(
        out,
        "Choose another context with --context ('kubectl config get-contexts' lists them), or all of them with --all-contexts."
    )?;
    for gap in &report.gaps {
        writeln!(
            out,
            "  not read: {} ({}); {}",
            plain(&gap.what),
            plain(&gap.reason),
            plain(&gap.remedy)
        )?;
    }
    Ok(())
}

fn not_assessed(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let missing = text::unassessed(report);
    if missing.reasons.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "  Not assessed:")?;
    for (check, reason, gpus, usd) in missing.reasons.iter().take(3) {
        wrapped(
            out,
            &format!(
                "{check}: {} GPUs, {}: {}",
                text::count(*gpus),
                text::money(*usd),
                plain(reason)
            ),
            options.width,
            "    ",
            "      ",
        )?;
    }
    if let Some((remedy, gpus, usd)) = missing.remedy {
        wrapped(
            out,
            &format!(
                "{} (would assess most: {} GPUs, {})",
                plain(remedy),
                text::count(gpus),
                text::money(usd)
            ),
            options.width,
            "  → ",
            "    ",
        )?;
    }
    Ok(())
}

fn shown(report: &Report) -> Vec<&ReportFinding> {
    report
        .findings
        .iter()
        .filter(|f| f.status != Status::Suppressed)
        .collect()
}

fn findings(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let all = shown(report);
    if all.is_empty() {
        return writeln!(out, "\nNo waste was found in what could be judged.");
    }
    let narrow = options.width < NARROW;
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(options.width).unwrap_or(u16::MAX));
    if options.color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let header: &[&str] = if narrow {
        &["#", "$/h", "money", "finding"]
    } else {
        &["#", "$/h", "money", "sure", "finding", "check"]
    };
    table.set_header(header.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    for (index, finding) in all.iter().take(options.top.unwrap_or(20)).enumerate() {
        let amount = finding
            .usd_per_hour
            .map_or_else(|| "–".to_string(), |u| format!("{:.2}", u.usd()));
        let place = plain(&text::subject_name(&finding.subject));
        let model = finding
            .subject
            .model
            .as_deref()
            .map(|m| format!(" · {}", plain(m)))
            .unwrap_or_default();
        let mut row = vec![
            Cell::new(index + 1),
            Cell::new(amount).set_alignment(CellAlignment::Right),
            money_cell(finding),
        ];
        let title = plain(&finding.title);
        if narrow {
            row.push(Cell::new(format!(
                "{title}\n{place}{model}\n{} · {}",
                text::check_name(finding),
                finding.confidence.name()
            )));
        } else {
            row.extend([
                sure_cell(finding.confidence),
                Cell::new(format!("{title}\n{place}{model}")),
                Cell::new(text::check_name(finding)),
            ]);
        }
        table.add_row(row);
    }
    let fixed: &[usize] = if narrow { &[0, 1, 2] } else { &[0, 1, 2, 3, 5] };
    for column in fixed {
        if let Some(column) = table.column_mut(*column) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    writeln!(out, "\n{table}")?;
    if all.len() > options.top.unwrap_or(20) {
        let rest = crate::units::sum_known(all[options.top.unwrap_or(20)..].iter().map(|f| f.waste_usd_per_hour));
        writeln!(
            out,
            "… and {} more ({} of waste): --top {} shows all",
            all.len() - options.top.unwrap_or(20),
            text::money(rest),
            all.len()
        )?;
    }
    Ok(())
}

fn money_cell(finding: &ReportFinding) -> Cell {
    let name = text::ledger_name(finding);
    let cell = Cell::new(name);
    match name {
        "now" => cell.fg(Color::Red),
        "at risk" => cell.fg(Color::Yellow),
        _ => cell,
    }
}

fn sure_cell(confidence: Confidence) -> Cell {
    let cell = Cell::new(confidence.name());
    if confidence == Confidence::Measured {
        cell.fg(Color::Green)
    } else {
        cell
    }
}

fn fixes(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let all = shown(report);
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nWhat to do:")?;
    for (index, finding) in all.iter().take(options.top.unwrap_or(20).min(10)).enumerate() {
        wrapped(
            out,
            &plain(&finding.fix.summary),
            options.width,
            &format!("{:>3}. ", index + 1),
            "     ",
        )?;
    }
    Ok(())
}

fn group_table(groups: &super::document::Groups, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(options.width).unwrap_or(u16::MAX))
        .force_no_tty();
    table.set_header([groups.by.as_str(), "GPUs", "spend", "waste", "at risk"]);
    for row in &groups.rows {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row(vec![
            Cell::new(plain(&row.name)),
            right(text::count(row.gpus)),
            right(text::money(row.spend_usd_per_hour)),
            right(text::money(row.waste_usd_per_hour)),
            right(text::money(row.at_risk_usd_per_hour)),
        ]);
    }
    writeln!(out, "\n{table}")
}

fn gates(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for gate in &report.gates {
        let actual = gate.actual.map_or_else(|| "unknown".to_string(), |a| format!("{a:.2}"));
        writeln!(
            out,
            "\nGate {}: {} (limit {:.2}, actual {actual})",
            gate.name,
            if gate.breached { "BREACHED" } else { "passed" },
            gate.limit
        )?;
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
        writeln!(
            out,
            "\n{} suppressed by their owners (in the JSON with their reasons).",
            text::plural(suppressed as u64, "finding")
        )?;
    }
    let t = &report.totals;
    let sources: Vec<String> = t
        .price_sources
        .iter()
        .filter(|(_, share)| **share > 0.0)
        .map(|(name, share)| format!("{name} {:.0} %", share * 100.0))
        .collect();
    let dated = t
        .prices_as_of
        .as_deref()
        .map(|d| format!(", oldest of {d}"))
        .unwrap_or_default();
    wrapped(
        out,
        &format!(
            "Prices: {}{dated}. 'gpuwaste explain CHECK' says how the dollars are computed; --format json has the evidence.",
            sources.join(", ")
        ),
        options.width,
        "\n",
        "",
    )?;
    if !report.gaps.is_empty() {
        writeln!(
            out,
            "\n{} in what could be read:",
            text::plural(report.gaps.len() as u64, "gap")
        )?;
        for gap in report.gaps.iter().take(8) {
            wrapped(
                out,
                &format!("{}: {}; {}", plain(&gap.what), plain(&gap.reason), plain(&gap.effect)),
                options.width,
                "  - ",
                "    ",
            )?;
        }
    }
    Ok(())
}

/// Wraps at spaces; a word longer than the line stands alone.
fn wrapped(out: &mut dyn Write, text: &str, width: usize, first: &str, rest: &str) -> io::Result<()> {
    let mut line = first.to_string();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            writeln!(out, "{line}")?;
            line = rest.to_string();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    writeln!(out, "{line}")
}

struct Paint(bool);

impl Paint {
    fn bold(&self, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[1m{text}\u{1b}[0m")
        } else {
            text.to_string()
        }
    }

    fn red(&self, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[31m{text}\u{1b}[0m")
        } else {
            text.to_string()
        }
    }
}
