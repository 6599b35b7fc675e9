//! The table: what a person reads first. It fits the width it is given.

use super::RenderOptions;
use super::document::{Report, ReportFinding, Status, SuppressionState};
use super::text::{self, plain};
use crate::analyze::finding::Confidence;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use std::io::{self, Write};

/// Below this many columns the confidence stands under the title.
const NARROW: usize = 100;
/// From this many columns on the place has its own column.
const WIDE: usize = 160;
/// Findings without `--top`: with the figures above and the fixes below they fill a screen.
const TOP: usize = 12;

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
    fixed(report, options, out)?;
    policy(report, options, out)?;
    footer(report, options, out)
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
    let month = format!("{} a month{unpriced}", text::per_month(t.spend_usd_per_hour));
    row(out, "Spend", &text::money(t.spend_usd_per_hour), false, &month)?;
    let split = format!(
        "{} of spend: {} now, {} reusable",
        text::percent(t.waste_percent),
        text::money(t.waste_now_usd_per_hour),
        text::money(t.waste_reusable_usd_per_hour)
    );
    row(out, "Waste", &text::money(t.waste_usd_per_hour), true, &split)?;
    let at_risk = text::money(t.at_risk_usd_per_hour);
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

/// Columns before the title.
const MARGIN: usize = 2;

/// A line of the list: fixed columns, then text that wraps under itself.
struct Layout {
    /// Columns left of the title.
    left: usize,
    /// Columns for the title; the place has its own column right of it, or stands below.
    title: usize,
    place: Option<usize>,
    /// The confidence has a column.
    sure: bool,
}

impl Layout {
    fn of(width: usize, amounts: usize) -> Self {
        let sure = width >= NARROW;
        let left = MARGIN + 3 + 2 + amounts + 2 + 8 + 2 + if sure { 11 } else { 0 };
        let rest = width.saturating_sub(left);
        if width >= WIDE {
            let title = rest * 11 / 20;
            Self {
                left,
                title: title - 2,
                place: Some(rest - title),
                sure,
            }
        } else {
            Self {
                left,
                title: rest,
                place: None,
                sure,
            }
        }
    }
}

fn findings(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let all = shown(report);
    if all.is_empty() {
        return writeln!(out, "\nNo waste was found in what could be judged.");
    }
    let top = options.top.unwrap_or(TOP);
    let paint = Paint(options.color);
    let amount = |f: &ReportFinding| f.usd_per_hour.map_or_else(|| "–".to_owned(), text::amount);
    let widest = all
        .iter()
        .take(top)
        .map(|f| width_of(&amount(f)))
        .max()
        .unwrap_or(0)
        .max(4);
    let layout = Layout::of(options.width, widest);
    let sure = if layout.sure { "sure       " } else { "" };
    let head = format!(
        "{:MARGIN$}{:>3}  {:>widest$}  {:<8}  {sure}finding",
        "", "#", "$/h", "money"
    );
    writeln!(out, "\n{}", paint.bold(&head))?;
    writeln!(out, "{:MARGIN$}{}", "", paint.dim(&"─".repeat(options.width - MARGIN)))?;
    for (index, f) in all.iter().take(top).enumerate() {
        let ledger = text::ledger_name(f);
        let money = format!("{ledger:<8}");
        let money = match ledger {
            "now" => paint.red(&money),
            "at risk" => paint.yellow(&money),
            _ => money,
        };
        let confidence = f.confidence.name();
        let sure = match (layout.sure, f.confidence) {
            (false, _) => String::new(),
            (true, Confidence::Measured) => paint.green(&format!("{confidence:<9}")) + "  ",
            (true, _) => format!("{confidence:<9}  "),
        };
        write!(
            out,
            "{:MARGIN$}{:>3}  {}  {money}  {sure}",
            "",
            index + 1,
            paint.bold(&format!("{:>widest$}", amount(f)))
        )?;
        finding_text(f, &layout, &paint, out)?;
    }
    if all.len() > top {
        let rest = crate::units::sum_known(all[top..].iter().map(|f| f.waste_usd_per_hour));
        writeln!(
            out,
            "{:MARGIN$}{}",
            "",
            paint.dim(&format!(
                "… and {} more ({} of waste): --top {} shows all",
                all.len() - top,
                text::money(rest),
                all.len()
            ))
        )?;
    }
    Ok(())
}

/// The title, and where it is: beside it where there is room, else below.
fn finding_text(f: &ReportFinding, layout: &Layout, paint: &Paint, out: &mut dyn Write) -> io::Result<()> {
    let mut title = plain(&f.title);
    if f.status == Status::Baseline {
        title.push_str(" (in the baseline)");
    }
    let mut place = plain(&text::subject_name(&f.subject));
    for more in [f.subject.model.as_deref(), f.owner.as_deref()].into_iter().flatten() {
        place.push_str(" · ");
        place.push_str(&plain(more));
    }
    place.push_str(" · ");
    place.push_str(&text::check_name(f));
    if !layout.sure {
        place.push_str(" · ");
        place.push_str(f.confidence.name());
    }
    let indent = " ".repeat(layout.left);
    let title = wrap(&title, layout.title);
    let Some(width) = layout.place else {
        let mut lines = title
            .into_iter()
            .chain(wrap(&place, layout.title).into_iter().map(|l| paint.dim(&l)));
        writeln!(out, "{}", lines.next().unwrap_or_default())?;
        return lines.try_for_each(|l| writeln!(out, "{indent}{l}"));
    };
    let place = wrap(&place, width);
    for i in 0..title.len().max(place.len()) {
        let left = title.get(i).map_or("", String::as_str);
        let pad = " ".repeat(layout.title.saturating_sub(width_of(left)) + 2);
        let right = place
            .get(i)
            .map(|l| format!("{pad}{}", paint.dim(l)))
            .unwrap_or_default();
        writeln!(out, "{}{left}{right}", if i == 0 { "" } else { &indent })?;
    }
    Ok(())
}

/// What to do, in the order of the list; the same advice is given once.
fn fixes(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let all = shown(report);
    let mut advice: Vec<(String, Vec<usize>)> = Vec::new();
    for (index, f) in all.iter().take(options.top.unwrap_or(TOP)).enumerate() {
        let summary = plain(&f.fix.summary);
        if summary.is_empty() {
            continue;
        }
        match advice.iter_mut().find(|(known, _)| *known == summary) {
            Some((_, numbers)) => numbers.push(index + 1),
            None => advice.push((summary, vec![index + 1])),
        }
    }
    if advice.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", Paint(options.color).bold("What to do"))?;
    let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let widest = advice
        .iter()
        .map(|(_, n)| list(n).len())
        .max()
        .unwrap_or(0)
        .clamp(3, 12);
    for (summary, numbers) in advice {
        let first = format!("{:MARGIN$}{:>widest$}  ", "", list(&numbers));
        wrapped(out, &summary, options.width, &first, &" ".repeat(MARGIN + widest + 2))?;
    }
    Ok(())
}

fn group_table(groups: &super::document::Groups, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
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

fn fixed(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let Some(fixed) = report.fixed.as_ref().filter(|f| !f.is_empty()) else {
        return Ok(());
    };
    writeln!(out, "\n{}", Paint(options.color).bold("Gone since the baseline"))?;
    for f in fixed.iter().take(options.top.unwrap_or(TOP)) {
        let amount = f.usd_per_hour.map_or_else(|| "–".to_owned(), text::amount);
        let why = f
            .not_assessed
            .as_deref()
            .map(|w| format!(" (not judged: {})", plain(w)));
        let line = format!("{}{}", plain(&f.title), why.unwrap_or_default());
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

/// Columns that a text takes on a terminal.
fn width_of(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

/// Lines of at most `width` columns, broken at spaces; a word longer than a line is broken anywhere.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word = word.to_owned();
        let last = lines.last().map_or(0, |l| width_of(l));
        if last > 0 && last + 1 + width_of(&word) > width {
            lines.push(String::new());
        }
        while width_of(&word) > width.max(1) {
            let mut head = String::new();
            for c in word.chars() {
                if width_of(&head) + width_of(c.encode_utf8(&mut [0; 4])) > width.max(2) {
                    break;
                }
                head.push(c);
            }
            word = word[head.len()..].to_owned();
            if let Some(line) = lines.last_mut() {
                *line = head;
            }
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
    }
    lines
}

/// A paragraph with its first line's indent, then another for the rest.
fn wrapped(out: &mut dyn Write, text: &str, width: usize, first: &str, rest: &str) -> io::Result<()> {
    let room = width.saturating_sub(width_of(first).max(width_of(rest)));
    for (i, line) in wrap(text, room).into_iter().enumerate() {
        writeln!(out, "{}{line}", if i == 0 { first } else { rest })?;
    }
    Ok(())
}

/// Colours, where they are wanted.
struct Paint(bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn yellow(&self, text: &str) -> String {
        self.with("33", text)
    }

    fn green(&self, text: &str) -> String {
        self.with("32", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_never_exceed_their_width() {
        for width in [5, 10, 40] {
            for line in wrap(
                "a bb ccc 漢字漢字漢字漢字 a-word-that-is-much-longer-than-any-line end",
                width,
            ) {
                assert!(width_of(&line) <= width, "{line:?} in {width}");
            }
        }
        assert_eq!(wrap("one two", 20), ["one two"]);
    }
}
