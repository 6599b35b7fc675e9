//! The first screen: what to do and what it gives, the largest findings in two lines each, and a line each for everything else.

use crate::analyze::finding::Subject;
use crate::report::RenderOptions;
use crate::report::document::{Report, ReportFinding, Status};
use crate::report::lines;
use crate::report::terminal::{Paint, cut, width_of, wrap, wrapped};
use crate::report::text::{self, plain};
use crate::report::{inventory, order};
use crate::units::UsdPerHour;
use std::collections::BTreeSet;
use std::io::{self, Write};

/// Lines of a terminal that everything but the findings takes, with the command above and the prompt below.
const AROUND: usize = 14;
/// Findings without `--top`: as many as the screen holds, between these.
const FEWEST: usize = 5;
const MOST: usize = 10;
/// Columns left of a finding's text: of its first line, and of its second.
const LEFT: (usize, usize) = (26, 26);
/// The same below [`NARROW`] columns, where saving and confidence stand together in the second line.
const NARROW_LEFT: (usize, usize) = (15, 24);
const NARROW: usize = 100;
/// From this many columns on a finding is one line: its title, where it is, and what to do beside each other.
const WIDE: usize = 170;

pub(super) fn render(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    headline(report, options, out)?;
    list(report, options, out)?;
    if options.hints {
        hints(report, options, out)?;
    }
    others(report, options, out)
}

/// How many findings are listed.
fn shown(options: &RenderOptions) -> usize {
    let fits = |lines: usize| (lines.saturating_sub(AROUND) / 2).clamp(FEWEST, MOST);
    options.top.unwrap_or_else(|| options.height.map_or(MOST, fits))
}

/// What to do and what it gives, beside what is paid.
fn headline(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let paint = Paint(options.color);
    for line in wrap(&lines::headline(report), options.width) {
        writeln!(out, "{}", paint.bold(&line))?;
    }
    for line in wrap(&lines::spend_line(report), options.width) {
        writeln!(out, "{line}")?;
    }
    for (name, money, what) in super::super::decision::lines(report) {
        let line = format!("{name:<10} {money:>12}  {what}");
        writeln!(out, "{}", cut(&line, options.width))?;
    }
    if lines::of_manifests(report) {
        writeln!(out)?;
        inventory::written(&report.workloads, options, out)?;
    } else {
        let states = lines::states(&report.totals).into_iter().filter(|(_, n)| *n > 0.0);
        let states: Vec<String> = states.map(|(name, n)| format!("{} {name}", text::count(n))).collect();
        let line = format!("{}: {}.", text::gpus(report.totals.gpus), states.join(", "));
        wrapped(out, &line, options.width, "", "")?;
        if let Some(plan) = &report.plan {
            let (moves, usd) = (text::plural(plan.moves, "move"), text::money(plan.usd_per_hour));
            let line = format!("A plan of {moves} turns {usd} of the reusable into money: gpuwaste plan");
            wrapped(out, &line, options.width, "", "")?;
        }
    }
    Ok(())
}

fn list(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let all = order::ranked(report);
    if all.is_empty() {
        return lines::nothing_listed(report).map_or(Ok(()), |line| writeln!(out, "\n{line}"));
    }
    let paint = Paint(options.color);
    let many = clusters(report) > 1;
    let saving = if options.width < NARROW { "" } else { "money      " };
    writeln!(
        out,
        "\n{}",
        paint.bold(&format!("{:>3}  {:>8}  {saving}finding", "#", "$/month"))
    )?;
    let top = shown(options);
    for (i, f) in all.iter().take(top).enumerate() {
        row(i + 1, f, many, options, out)?;
    }
    // What is only written has no fleet that 'show' could look at again.
    let one = if lines::of_manifests(report) {
        "-v tells what they rest on"
    } else {
        "all of one: 'gpuwaste show 1'"
    };
    let line = if all.len() > top {
        format!(
            "… {} more ({}): --top {}; {one}",
            all.len() - top,
            text::monthly_waste(&all[top..]),
            all.len()
        )
    } else {
        one.to_owned()
    };
    writeln!(out, "{}", paint.dim(&cut(&line, options.width)))
}

fn row(rank: usize, f: &ReportFinding, many: bool, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let paint = Paint(options.color);
    let month = f.usd_per_hour.map_or_else(|| "–".to_owned(), text::monthly);
    let saving = text::saving(f);
    let colored = |word: &str| {
        let padded = format!("{word:<9}");
        match word {
            "now" | "part now" => paint.red(&padded),
            "at risk" => paint.yellow(&padded),
            _ => padded,
        }
    };
    let narrow = options.width < NARROW;
    let (left, below) = if narrow { NARROW_LEFT } else { LEFT };
    let room = |left: usize| options.width.saturating_sub(left).max(20);
    let mut title = plain(&f.title);
    if f.status == Status::Baseline {
        title.push_str(" (in the baseline)");
    }
    if let Some(said) = f.decision.as_ref().and_then(super::super::decision::Decision::said) {
        title.push_str(&format!(" ({})", plain(&said)));
    }
    let place = place(&f.subject, &title, many && !narrow);
    let action = f.fix.action.as_deref().map(plain).unwrap_or_default();
    let todo = if place.is_empty() {
        format!("→ {action}")
    } else {
        format!("{place} → {action}")
    };
    let rank = format!("{rank:>3}  {}  ", paint.bold(&format!("{month:>8}")));
    let sure = f.confidence.name();
    if narrow {
        writeln!(out, "{rank}{}", cut(&title, room(left)))?;
        let sure = paint.dim(&format!("{sure:<9}"));
        return writeln!(out, "{:4}{}{sure}  {}", "", colored(saving), cut(&todo, room(below)));
    }
    let rank = format!("{rank}{}  ", colored(saving));
    if options.width >= WIDE {
        // The confidence has a column of its own.
        let room = room(left).saturating_sub(11);
        let left = room * 9 / 20;
        let title = cut(&title, left - 2);
        let pad = " ".repeat(left.saturating_sub(width_of(&title)));
        return writeln!(out, "{rank}{sure:<9}  {title}{pad}{}", cut(&todo, room - left));
    }
    writeln!(out, "{rank}{}", cut(&title, room(left)))?;
    let sure = paint.dim(&format!("{sure:<9}"));
    writeln!(out, "{:15}{sure}  {}", "", cut(&todo, room(below)))
}

fn clusters(report: &Report) -> usize {
    let names: BTreeSet<_> = report.nodes.iter().filter_map(|n| n.cluster.as_deref()).collect();
    names.len()
}

/// Where it is, as far as the title does not say: file and line, namespace or pool, cluster.
fn place(s: &Subject, title: &str, many: bool) -> String {
    if let Some(at) = &s.location {
        // The whole path is in every other format.
        let file = if at.file.len() > 32 {
            at.file.rsplit('/').next().unwrap_or(&at.file)
        } else {
            &at.file
        };
        return plain(&format!("{file}:{}", at.line));
    }
    let pool = s.kind.as_deref() == Some("NodePool");
    let near = match (&s.namespace, &s.name, &s.pool) {
        (Some(namespace), Some(name), _) if !title.contains(name.as_str()) => Some(format!("{namespace}/{name}")),
        (Some(namespace), ..) => Some(namespace.clone()),
        (None, name, pool_name) if pool => {
            let pool = name.as_ref().or(pool_name.as_ref());
            pool.filter(|p| !title.contains(p.as_str()))
                .map(|p| format!("pool {p}"))
        }
        _ => None,
    };
    let cluster = s.cluster.clone().filter(|c| many && !title.contains(c.as_str()));
    let parts: Vec<String> = [near, cluster].into_iter().flatten().map(|p| plain(&p)).collect();
    parts.join(", ")
}

fn hints(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let hints = order::hints(report);
    let from = order::ranked(report).len();
    let many = clusters(report) > 1;
    writeln!(
        out,
        "\n{}",
        Paint(options.color).bold("Hints, without dollars of their own")
    )?;
    for (i, f) in hints.iter().enumerate() {
        let title = plain(&f.title);
        let rank = format!("{:>3}  ", from + i + 1);
        wrapped(out, &title, options.width, &rank, "     ")?;
        let place = place(&f.subject, &title, many);
        let action = f.fix.action.as_deref().map(plain).unwrap_or_default();
        wrapped(out, &format!("{place} → {action}"), options.width, "     ", "     ")?;
    }
    Ok(())
}

/// A line each: growth, hints, coverage, what was not assessed, what was not read.
fn others(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let line = |out: &mut dyn Write, name: &str, text: &str| {
        writeln!(out, "{name:<13}{}", cut(&plain(text), options.width.saturating_sub(13)))
    };
    if let Some(growth) = growth(report) {
        line(out, "Growth", &growth)?;
    }
    let hints = order::hints(report).len();
    if hints > 0 && !options.hints {
        line(out, "Hints", &format!("{hints} without dollars of their own: --hints"))?;
    }
    line(out, "Coverage", &lines::coverage_line(report))?;
    if let Some(missing) = lines::not_assessed_line(report) {
        // The way out is worth a second line.
        let room = options.width.saturating_sub(13);
        for (i, text) in wrap(&plain(&missing), room).iter().take(2).enumerate() {
            writeln!(out, "{:<13}{text}", if i == 0 { "Not assessed" } else { "" })?;
        }
    }
    for unknown in lines::fit_unknown(report) {
        for (i, text) in wrap(&plain(&unknown), options.width.saturating_sub(13))
            .iter()
            .enumerate()
        {
            writeln!(out, "{:<13}{text}", if i == 0 { "Fit unknown" } else { "" })?;
        }
    }
    let gaps = lines::same_gaps(report).len() as u64;
    if gaps > 0 {
        let way = if lines::of_manifests(report) {
            "-v"
        } else {
            "gpuwaste doctor, or -v"
        };
        line(out, "Not read", &format!("{}: {way}", text::plural(gaps, "gap")))?;
    }
    Ok(())
}

/// The largest growth of spend beyond its work.
fn growth(report: &Report) -> Option<String> {
    let all = order::ranked(report);
    let f = all
        .iter()
        .find(|f| f.check == "cost-growth" && f.usd_per_hour.is_some_and(UsdPerHour::is_positive))?;
    let rank = all.iter().position(|o| o.id == f.id)? + 1;
    let name = f
        .subject
        .name
        .as_deref()
        .or(f.subject.cluster.as_deref())
        .unwrap_or("the fleet");
    let usd = text::per_month(f.usd_per_hour?);
    Some(format!(
        "{name}: {usd} a month more than its work cost before (show {rank})"
    ))
}
