//! The table: what a person reads first. It fits the width it is given.

mod after;
mod first;
mod list;

use super::RenderOptions;
use super::document::Report;
use super::lines;
use super::terminal::{Paint, wrap, wrapped};
use super::text::{self, plain};
use std::io::{self, Write};

pub(super) fn render(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    title(report, options, out)?;
    if report.totals.gpus == 0.0 {
        no_gpus(report, out)?;
        return after::gates(report, options, out);
    }
    if !options.verbose {
        first::render(report, options, out)?;
        return after::short(report, options, out);
    }
    header(report, options, out)?;
    not_assessed(report, options, out)?;
    list::findings(report, options, out)?;
    list::fixes(report, options, out)?;
    after::render(report, options, out)
}

fn title(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let t = &report.totals;
    let paint = Paint(options.color);
    let clusters: std::collections::BTreeSet<_> = report.nodes.iter().filter_map(|n| n.cluster.as_deref()).collect();
    let what = format!(
        "{} · {} · {} · {}",
        text::plural(clusters.len() as u64, "cluster"),
        text::plural(t.nodes, "GPU node"),
        text::gpus(t.gpus),
        report.taken_at.strftime("%Y-%m-%d %H:%M UTC")
    );
    for (i, line) in wrap(&what, options.width.saturating_sub(10)).into_iter().enumerate() {
        writeln!(
            out,
            "{}  {line}",
            if i == 0 { paint.bold("gpuwaste") } else { " ".repeat(8) }
        )?;
    }
    Ok(())
}

/// `-v`: every figure with its words.
fn header(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let t = &report.totals;
    let paint = Paint(options.color);
    writeln!(
        out,
        "\n{}\n",
        paint.bold(&wrap(&lines::headline(report), options.width).join("\n"))
    )?;
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
    let month = t.spend_usd_per_hour.map_or_else(
        || "no GPU has a known price".into(),
        |usd| format!("{} a month{unpriced}", text::per_month(usd)),
    );
    row(out, "Spend", &text::known(t.spend_usd_per_hour), false, &month)?;
    let split = match (t.waste_now_usd_per_hour, t.waste_reusable_usd_per_hour) {
        (Some(now), Some(reusable)) => format!(
            "{} of spend: {} now (whole nodes can go), {} reusable (GPUs for others; the bill stays)",
            text::percent(t.waste_percent),
            text::money(now),
            text::money(reusable)
        ),
        _ if t.spend_usd_per_hour.is_none() => "no GPU has a known price".into(),
        _ => "nothing could be judged".into(),
    };
    row(out, "Waste", &text::known(t.waste_usd_per_hour), true, &split)?;
    if let Some(plan) = &report.plan {
        let moves = text::plural(plan.moves, "move");
        let told = format!("of the reusable becomes money by a plan of {moves}: gpuwaste plan");
        row(out, "Plan", &text::money(plan.usd_per_hour), false, &told)?;
    }
    for (name, money, what) in super::decision::lines(report) {
        row(out, name, &money, false, &what)?;
    }
    row(
        out,
        "At risk",
        &text::known(t.at_risk_usd_per_hour),
        false,
        "spend whose work is failing",
    )?;
    if let Some((cost, of)) = text::token_costs(t) {
        row(out, "Tokens", &cost, false, &of)?;
    }
    let states = lines::states(t);
    let states: Vec<String> = states
        .iter()
        .filter(|(_, n)| *n > 0.0)
        .map(|(name, n)| format!("{} {name}", text::count(*n)))
        .collect();
    row(out, "GPUs", &text::count(t.gpus), false, &states.join(", "))?;
    if t.gpus_allocated > 0.0 {
        let share = t.allocated_without_traffic_percent;
        let share = share.map_or_else(|| "unknown".into(), |s| format!("{s:.1} %"));
        row(out, "Dark", &share, false, &text::of_allocated(t))?;
    }
    let coverage = t
        .coverage_percent
        .map_or_else(|| "unknown".to_string(), |c| format!("{c:.0} %"));
    row(out, "Coverage", &coverage, false, "of the fleet's cost could be judged")
}

fn no_gpus(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let read: Vec<String> = report
        .sources
        .iter()
        .map(|s| format!("{} ({})", plain(&s.name), plain(&s.detail)))
        .collect();
    writeln!(out, "\n{} Read: {}.", lines::no_gpus(&report.totals), read.join("; "))?;
    if lines::of_manifests(report) {
        let why = if report.gaps.is_empty() {
            "None of these objects asks for a GPU; a workload of 0 replicas asks for none, whatever its pods say."
        } else {
            "None of these objects asks for a GPU in a form that is counted; what could not be read is named below."
        };
        writeln!(out, "{why}")?;
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
    let missing = lines::unassessed(report);
    if missing.reasons.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "  Not assessed:")?;
    for (check, reason, gpus, usd) in missing.reasons.iter().take(3) {
        wrapped(
            out,
            &format!("{check}: {}: {}", text::extent(*gpus, *usd), plain(reason)),
            options.width,
            "    ",
            "      ",
        )?;
    }
    if let Some((remedy, gpus, usd)) = missing.remedy {
        wrapped(
            out,
            &format!("{} (would assess most: {})", plain(remedy), text::extent(gpus, usd)),
            options.width,
            "  → ",
            "    ",
        )?;
    }
    Ok(())
}
