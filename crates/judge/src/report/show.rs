//! A finding whole: what it rests on, how its dollars come about, what to do and with which commands.

use super::RenderOptions;
use super::document::{Report, ReportFinding, Status};
use super::terminal::{Paint, wrapped};
use super::text::{self, HOURS_PER_MONTH, money, plain};
use super::{order, people};
use crate::analyze::finding::FindingKind;
use crate::units::UsdPerHour;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Nodes named in the sum; the rest is one line.
const NODES: usize = 12;

/// The finding that somebody means: its id or the beginning of it, or its rank in the table. `Err`: what they could mean.
pub fn find<'r>(report: &'r Report, wanted: &str) -> Result<&'r ReportFinding, String> {
    let wanted = wanted.trim().trim_start_matches('#');
    let all = order::all(report);
    if let Some(rank) = wanted.parse::<usize>().ok().filter(|n| (1..=all.len()).contains(n)) {
        return Ok(all[rank - 1]);
    }
    let begins: Vec<&ReportFinding> = report.findings.iter().filter(|f| f.id.starts_with(wanted)).collect();
    match begins.as_slice() {
        [one] if !wanted.is_empty() => return Ok(one),
        [_, _, ..] if !wanted.is_empty() => {
            let ids: Vec<&str> = begins.iter().map(|f| f.id.as_str()).take(5).collect();
            return Err(format!("'{wanted}' begins {} ids: {}", begins.len(), ids.join(", ")));
        }
        _ => {}
    }
    // A workload's or pool's name, where it has one finding.
    let named: Vec<&ReportFinding> = all
        .iter()
        .copied()
        .filter(|f| {
            let name = f.subject.name.as_deref();
            let full = f
                .subject
                .namespace
                .as_deref()
                .zip(name)
                .map(|(ns, n)| format!("{ns}/{n}"));
            !wanted.is_empty() && (name == Some(wanted) || full.as_deref() == Some(wanted))
        })
        .collect();
    match named.as_slice() {
        [one] => Ok(one),
        [] => Err(format!(
            "no finding '{wanted}': give an id of the report, the beginning of one, a rank from 1 to {}, or a name",
            all.len()
        )),
        several => {
            let told: Vec<String> = several
                .iter()
                .map(|f| format!("{} ({})", f.id, text::check_name(f)))
                .collect();
            Err(format!(
                "'{wanted}' has {} findings: {}",
                several.len(),
                told.join(", ")
            ))
        }
    }
}

pub fn render(report: &Report, f: &ReportFinding, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let paint = Paint(options.color);
    wrapped(out, &paint.bold(&plain(&f.title)), options.width, "", "")?;
    let rank = order::all(report).iter().position(|o| o.id == f.id);
    let rank = rank.map_or_else(String::new, |n| format!(" · {} of {}", n + 1, order::all(report).len()));
    let status = match f.status {
        Status::New => String::new(),
        other => format!(" · {}", text::status_name(other)),
    };
    writeln!(
        out,
        "{}\n",
        paint.dim(&format!("{} · {}{rank}{status}", f.id, text::check_name(f)))
    )?;
    facts(f, options, out)?;
    evidence(f, options, out)?;
    dollars(f, options, out)?;
    todo(f, options, out)?;
    writeln!(out)?;
    let check = &f.check;
    let line = format!("'gpuwaste explain {check}' says how this is judged and when it is wrong.");
    wrapped(out, &line, options.width, "", "")
}

fn facts(f: &ReportFinding, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut row = |name: &str, value: &str| {
        let first = format!("  {name:<12}");
        wrapped(out, &plain(value), options.width, &first, &" ".repeat(14))
    };
    let s = &f.subject;
    let cluster = s.cluster.as_deref().map(|c| format!(" in {c}")).unwrap_or_default();
    row("Where", &format!("{}{cluster}", text::subject_place(s)))?;
    if let Some(model) = &s.model {
        let engine = s.engine.as_deref().map(|e| format!(" on {e}")).unwrap_or_default();
        row("Model", &format!("{model}{engine}"))?;
    }
    if let Some(gpu) = &s.gpu {
        row("GPU", gpu)?;
    }
    if let Some(owner) = &f.owner {
        row("Owner", owner)?;
    }
    if let Some(decision) = f
        .decision
        .as_ref()
        .map(super::decision::Decision::justification)
        .filter(|d| !d.is_empty())
    {
        row("Decision", &decision)?;
    }
    if let Some(record) = &f.record {
        row("Record", record)?;
    }
    let (what, usd) = gives(f);
    row(what, &usd)?;
    let mut reasons = f.confidence_reasons.iter();
    row(
        "Confidence",
        &format!(
            "{}{}",
            f.confidence.name(),
            reasons.next().map(|r| format!(": {r}")).unwrap_or_default()
        ),
    )?;
    for reason in reasons {
        row("", reason)?;
    }
    if let Some(why) = &f.status_reason {
        row("Status", why)?;
    }
    Ok(())
}

/// What doing it gives, in words and dollars. What is only at risk saves nothing, nor does growth.
fn gives(f: &ReportFinding) -> (&'static str, String) {
    let what = match f.kind {
        FindingKind::Recoverable => "Saving",
        FindingKind::AtRisk => "At risk",
        FindingKind::Trend => "Growth",
    };
    (what, gained(f))
}

fn gained(f: &ReportFinding) -> String {
    let Some(usd) = f.usd_per_hour else {
        return if order::is_hint(f) {
            "nothing of its own: a hint".into()
        } else {
            "unknown: its GPUs have no known price".into()
        };
    };
    let both = |usd: UsdPerHour| format!("{} a month ({})", text::per_month(usd), money(usd));
    match text::saving(f) {
        "now" => format!("{}, now: whole nodes can go, and the bill stops", both(usd)),
        "part now" => {
            let now = f.waste_now_usd_per_hour.unwrap_or_default();
            format!(
                "{}: {} stops with its nodes, the rest others can use",
                both(usd),
                both(now)
            )
        }
        "at risk" => format!("{}: spend whose work is failing", both(usd)),
        "trend" => format!("{} more than the work would have cost before; in no total", both(usd)),
        _ => format!("{}, reusable: others can have the GPUs, the bill stays", both(usd)),
    }
}

fn evidence(f: &ReportFinding, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    if f.evidence.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", Paint(options.color).bold("What it rests on"))?;
    let names: Vec<String> = f.evidence.iter().map(|e| people::name(&e.name)).collect();
    let widest = names
        .iter()
        .map(|n| super::terminal::width_of(n))
        .max()
        .unwrap_or(0)
        .min(36);
    for (e, name) in f.evidence.iter().zip(&names) {
        let expected = people::expected(e)
            .map(|x| format!("; all right: {x}"))
            .unwrap_or_default();
        let window = e.window_seconds.filter(|s| *s > 0);
        let window = window
            .map(|s| format!(" over {}", people::duration(s as f64)))
            .unwrap_or_default();
        let line = format!("{}{expected} ({}{window})", people::value(e), plain(&e.source));
        let first = format!("  {name:<widest$}  ");
        wrapped(out, &line, options.width, &first, &" ".repeat(widest + 4))?;
    }
    Ok(())
}

/// Claims summed up by node and price: "gke-a3-01: 8 × $11.06/h = $88.49/h, becomes free".
pub(super) fn sums(f: &ReportFinding) -> Vec<String> {
    let mut nodes: BTreeMap<(&str, Option<UsdPerHour>), (usize, bool)> = BTreeMap::new();
    for c in &f.claims {
        let entry = nodes.entry((&c.node, c.usd_per_hour)).or_insert((0, true));
        entry.0 += 1;
        entry.1 &= c.vacates;
    }
    let mut lines: Vec<String> = nodes
        .iter()
        .map(|((node, usd), (n, leaves))| {
            let price = match usd {
                // What is left of the price is another finding's (R4).
                Some(usd) if usd.micros() == 0 => {
                    format!("{n} × nothing, since other findings claim their price first")
                }
                Some(usd) => format!("{n} × {} = {}", money(*usd), money((0..*n).map(|_| *usd).sum())),
                None => format!("{n} × no known price"),
            };
            let leaves = if *leaves { ", becomes free" } else { "" };
            plain(&format!("{node}: {price}{leaves}"))
        })
        .collect();
    if lines.len() > NODES {
        let rest = lines.len() - NODES;
        lines.truncate(NODES);
        lines.push(format!("… and {} more", text::plural(rest as u64, "line")));
    }
    lines
}

/// What is claimed, then made a month.
fn dollars(f: &ReportFinding, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let paint = Paint(options.color);
    if f.claims.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", paint.bold("How the dollars come about"))?;
    for line in sums(f) {
        wrapped(out, &line, options.width, "  ", "    ")?;
    }
    let Some(usd) = f.usd_per_hour.filter(|_| f.kind != FindingKind::Trend) else {
        return Ok(());
    };
    let total = format!(
        "together {}; × {HOURS_PER_MONTH:.0} hours = {} a month",
        money(usd),
        text::per_month(usd)
    );
    wrapped(out, &total, options.width, "  ", "    ")
}

fn todo(f: &ReportFinding, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let paint = Paint(options.color);
    writeln!(out, "\n{}", paint.bold("What to do"))?;
    wrapped(out, &plain(&f.fix.summary), options.width, "  ", "  ")?;
    if let Some(p) = &f.fix.placement {
        let usd = p.usd_per_hour.map_or_else(
            || "no known price".into(),
            |u| format!("{} a month", text::per_month(u)),
        );
        let line = format!(
            "Then: {} of {} × {}, tensor parallelism {}, {usd} together.",
            text::plural(u64::from(p.replicas), "replica"),
            p.gpus,
            p.gpu,
            p.tensor_parallel
        );
        wrapped(out, &plain(&line), options.width, "  ", "  ")?;
    }
    if !f.fix.commands.is_empty() {
        writeln!(out, "\n{}", paint.bold("Commands (nothing here runs them)"))?;
        // Never wrapped: they are copied.
        for line in f.fix.commands.iter().flat_map(|c| c.lines()) {
            writeln!(out, "  {}", plain(line))?;
        }
    }
    if let Some(patch) = f.fix.patch.as_ref().filter(|_| f.fix.commands.is_empty()) {
        writeln!(out, "\n{}", paint.bold("Patch"))?;
        for line in patch.lines() {
            writeln!(out, "  {}", plain(line))?;
        }
    }
    Ok(())
}
