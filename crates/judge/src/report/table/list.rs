//! The findings, largest first, and what to do about them.

use crate::analyze::finding::{Confidence, Subject};
use crate::report::RenderOptions;
use crate::report::document::{Report, ReportFinding, Status};
use crate::report::lines;
use crate::report::order;
use crate::report::terminal::{Paint, pieces, width_of, wrap, wrapped};
use crate::report::text::{self, plain};
use std::collections::BTreeSet;
use std::io::{self, Write};

/// Below this many columns the confidence stands under the title.
const NARROW: usize = 100;
/// From this many columns on the place has its own column.
const WIDE: usize = 160;
/// Findings without `--top`: with the figures above and the fixes below they fill a screen.
const TOP: usize = 12;

pub(super) fn shown(report: &Report) -> Vec<&ReportFinding> {
    order::all(report)
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

pub(super) fn findings(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let all = shown(report);
    if all.is_empty() {
        return lines::nothing_listed(report).map_or(Ok(()), |line| writeln!(out, "\n{line}"));
    }
    let top = options.top.unwrap_or(TOP);
    let paint = Paint(options.color);
    let clusters: BTreeSet<_> = report.nodes.iter().filter_map(|n| n.cluster.as_deref()).collect();
    let many = clusters.len() > 1;
    let amount = |f: &ReportFinding| f.usd_per_hour.map_or_else(|| "–".to_owned(), text::amount);
    let widest = all
        .iter()
        .take(top)
        .map(|f| width_of(&amount(f)))
        .max()
        .unwrap_or(0)
        .max(4);
    let layout = Layout::of(options.width, widest);
    let sure = if layout.sure { "confidence " } else { "" };
    let head = format!(
        "{:MARGIN$}{:>3}  {:>widest$}  {:<8}  {sure}finding",
        "", "#", "$/h", "money"
    );
    writeln!(out, "\n{}", paint.bold(&head))?;
    writeln!(out, "{:MARGIN$}{}", "", paint.dim(&"─".repeat(options.width - MARGIN)))?;
    for (index, f) in all.iter().take(top).enumerate() {
        let ledger = text::saving(f);
        let money = format!("{ledger:<8}");
        let money = match ledger {
            "now" | "part now" => paint.red(&money),
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
        finding_text(f, &layout, many, &paint, out)?;
    }
    if all.len() > top {
        let rest = text::of_waste(&all[top..]);
        writeln!(
            out,
            "{:MARGIN$}{}",
            "",
            paint.dim(&format!(
                "… and {} more ({rest}): --top {} shows all",
                all.len() - top,
                all.len()
            ))
        )?;
    }
    Ok(())
}

/// The title, and where it is: beside it where there is room, else below.
fn finding_text(f: &ReportFinding, layout: &Layout, many: bool, paint: &Paint, out: &mut dyn Write) -> io::Result<()> {
    let mut title = plain(&f.title);
    if f.status == Status::Baseline {
        title.push_str(" (in the baseline)");
    }
    if let Some(said) = f.decision.as_ref().and_then(super::super::decision::Decision::said) {
        title.push_str(&format!(" ({})", plain(&said)));
    }
    let place = place(f, &title, layout, many);
    let indent = " ".repeat(layout.left);
    let title = wrap(&title, layout.title);
    let Some(width) = layout.place else {
        let mut lines = title
            .into_iter()
            .chain(pieces(&place, layout.title).into_iter().map(|l| paint.dim(&l)));
        writeln!(out, "{}", lines.next().unwrap_or_default())?;
        return lines.try_for_each(|l| writeln!(out, "{indent}{l}"));
    };
    let place = pieces(&place, width);
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

/// What kind of workload it is, the advice says.
fn subject_of(s: &Subject) -> String {
    match (s.kind.as_deref(), &s.name) {
        (Some("Namespace"), Some(name)) => format!("namespace {name}"),
        (Some("Cluster"), Some(name)) => format!("cluster {name}"),
        _ => text::subject_short(s),
    }
}

/// Subject, model, owner, check, and what the columns do not say.
fn place(f: &ReportFinding, title: &str, layout: &Layout, many: bool) -> Vec<String> {
    let s = &f.subject;
    // The title has the GPU's name already.
    let told = s.gpu.as_deref().is_some_and(|gpu| title.contains(gpu));
    let subject = match s.pool.as_deref().or(s.name.as_deref()) {
        Some(pool) if told && s.kind.as_deref() == Some("NodePool") => format!("pool {pool}"),
        _ => subject_of(s),
    };
    // Who published the weights is in the JSON; the name tells the model.
    let model = s.model.as_deref().map(|m| m.rsplit('/').next().unwrap_or(m).to_owned());
    let cluster = s
        .cluster
        .clone()
        .filter(|c| many && s.name.as_deref() != Some(c.as_str()));
    let sure = (!layout.sure).then(|| f.confidence.name().to_owned());
    [
        // As compilers and editors write it.
        s.location.as_ref().map(|l| format!("{}:{}", l.file, l.line)),
        Some(subject),
        cluster,
        model,
        f.owner.clone(),
        Some(text::check_name(f)),
        sure,
    ]
    .into_iter()
    .flatten()
    .map(|p| plain(&p))
    .collect()
}

/// What to do, in the order of the list; the same advice is given once.
pub(super) fn fixes(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
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
