//! The table: what a person reads first. It fits the width it is given.

mod after;
mod list;

use super::RenderOptions;
use super::document::Report;
use super::terminal::{Paint, wrap, wrapped};
use super::text::{self, plain};
use crate::snapshot::SourceKind;
use std::io::{self, Write};

pub(super) fn render(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    header(report, options, out)?;
    if report.totals.gpus == 0.0 {
        return no_gpus(report, out);
    }
    not_assessed(report, options, out)?;
    list::findings(report, options, out)?;
    list::fixes(report, options, out)?;
    after::render(report, options, out)
}

fn header(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let t = &report.totals;
    let paint = Paint(options.color);
    let clusters: std::collections::BTreeSet<_> = report.nodes.iter().filter_map(|n| n.cluster.as_deref()).collect();
    let what = format!(
        "{} · {} · {} GPUs · {}",
        text::plural(clusters.len() as u64, "cluster"),
        text::plural(t.nodes, "GPU node"),
        text::count(t.gpus),
        report.taken_at.strftime("%Y-%m-%d %H:%M UTC")
    );
    for (i, line) in wrap(&what, options.width.saturating_sub(10)).into_iter().enumerate() {
        writeln!(
            out,
            "{}  {line}",
            if i == 0 { paint.bold("gpuwaste") } else { " ".repeat(8) }
        )?;
    }
    if t.gpus == 0.0 {
        return Ok(());
    }
    writeln!(out)?;
    let unpriced = if t.gpus_unpriced > 0.0 {
        format!("  ({} GPUs have no known price)", text::count(t.gpus_unpriced))
    } else {
        String::new()
    };
    let row = |out: &mut dyn Write, name: &str, value: &str, red: bool, detail: &str| {
        let value = format!("{value:>13}");
        let value = if red { paint.red(&value) } else { value };
        for (i, line) in wrap(detail, options.width.saturating_sub(29)).into_iter().enumerate() {
            if i == 0 {
                writeln!(out, "  {name:<10} {value}   {line}")?;
            } else {
                writeln!(out, "{:29}{line}", "")?;
            }
        }
        io::Result::Ok(())
    };
    let spend = text::total(t, t.spend_usd_per_hour);
    let month = if spend == "unknown" {
        "no GPU has a known price".into()
    } else {
        format!("{} a month{unpriced}", text::per_month(t.spend_usd_per_hour))
    };
    row(out, "Spend", &spend, false, &month)?;
    let split = format!(
        "{} of spend: {} now (whole nodes can go), {} reusable (GPUs for others; the bill stays)",
        text::percent(t.waste_percent),
        text::total(t, t.waste_now_usd_per_hour),
        text::total(t, t.waste_reusable_usd_per_hour)
    );
    row(out, "Waste", &text::total(t, t.waste_usd_per_hour), true, &split)?;
    let at_risk = text::total(t, t.at_risk_usd_per_hour);
    row(out, "At risk", &at_risk, false, "spend whose work is failing")?;
    let states = text::states(t);
    let states: Vec<String> = states
        .iter()
        .filter(|(_, n)| *n > 0.0)
        .map(|(name, n)| format!("{} {name}", text::count(*n)))
        .collect();
    row(out, "GPUs", &text::count(t.gpus), false, &states.join(", "))?;
    if let Some(share) = t.allocated_without_traffic_percent {
        let serve_nothing = "of the allocated GPUs serve nothing (idle or stuck)";
        row(out, "Dark", &format!("{share:.1} %"), false, serve_nothing)?;
    }
    let coverage = t
        .coverage_percent
        .map_or_else(|| "unknown".to_string(), |c| format!("{c:.0} %"));
    row(out, "Coverage", &coverage, false, "of the fleet's cost could be judged")
}

fn of_manifests(report: &Report) -> bool {
    report.sources.iter().all(|s| s.kind == SourceKind::Manifest)
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
    if of_manifests(report) {
        writeln!(
            out,
            "None of these objects asks for a GPU in a form that is counted; what could not be read is named below."
        )?;
    } else {
        writeln!(
            out,
            "Choose another context with --context ('kubectl config get-contexts' lists them), or all of them with --all-contexts."
        )?;
    }
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
                text::known_money(*usd),
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
                text::known_money(usd)
            ),
            options.width,
            "  → ",
            "    ",
        )?;
    }
    Ok(())
}
