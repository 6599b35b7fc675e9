//! For a terminal: the bill, the picture, the steps, and what stays.

use super::{STATES, count, letter, read_at, summary};
use crate::document::Plan;
use crate::judge::report::terminal::wrap;
use crate::judge::report::text::{known, money, per_month, plain};
use std::io::{self, Write};

/// Nodes that stay, and are shown with what holds them.
const STAYS: usize = 12;

struct Paint(bool);

impl Paint {
    fn cell(&self, state: &str) -> String {
        let letter = letter(state);
        let code = match state {
            "working" => "32",
            "idle" | "stuck" => "33",
            "unhealthy" => "31",
            _ => "2",
        };
        if self.0 {
            format!("\u{1b}[{code}m{letter}\u{1b}[0m")
        } else {
            letter.to_string()
        }
    }

    fn bold(&self, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[1m{text}\u{1b}[0m")
        } else {
            text.to_string()
        }
    }
}

pub(super) fn render(plan: &Plan, width: usize, color: bool, out: &mut dyn Write) -> io::Result<()> {
    let paint = Paint(color);
    let t = &plan.totals;
    writeln!(
        out,
        "{}  {} · {}",
        paint.bold("gpuwaste plan"),
        count(t.nodes, "GPU node"),
        read_at(plan)
    )?;
    writeln!(out)?;
    let mut row = |name: &str, value: &str, text: &str| -> io::Result<()> {
        for (i, line) in wrap(text, width.saturating_sub(28)).into_iter().enumerate() {
            let (name, value) = if i == 0 { (name, value) } else { ("", "") };
            writeln!(out, "{}", format!("  {name:<9} {value:>13}   {line}").trim_end())?;
        }
        Ok(())
    };
    row(
        "Bill",
        &known(t.spend_usd_per_hour),
        &t.spend_usd_per_hour.map_or(String::new(), per_a_month),
    )?;
    row("After", &known(t.spend_after_usd_per_hour), &summary(t))?;
    if let Some(empty) = t.empty_already_usd_per_hour.filter(|e| e.is_positive()) {
        row("", "", &format!("{} of it: nodes that hold nobody today", money(empty)))?;
    }
    if let Some(more) = t.with_person_usd_per_hour {
        row(
            "",
            "",
            &format!("{} with moves that only a person can make (below)", money(more)),
        )?;
    }
    for refused in &plan.refused {
        row(
            "No plan",
            "",
            &plain(&format!("{}: {}; {}", refused.cluster, refused.reason, refused.remedy)),
        )?;
    }
    picture(plan, &paint, width, out)?;
    steps(plan, width, out)?;
    stays(plan, width, out)?;
    others(plan, width, out)
}

fn per_a_month(usd: crate::units::UsdPerHour) -> String {
    format!("{} a month", per_month(usd))
}

/// Nodes that change, a row each; the others only counted.
fn picture(plan: &Plan, paint: &Paint, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let changed: Vec<_> = plan
        .nodes
        .iter()
        .filter(|n| n.returned || n.before != n.after)
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let legend: Vec<String> = STATES.iter().map(|s| format!("{} {s}", letter(s))).collect();
    writeln!(out, "\n{}  {}\n", paint.bold("Nodes"), legend.join("  "))?;
    let cells = changed.iter().map(|n| n.before.len()).max().unwrap_or(0).min(32);
    let room = width.saturating_sub(2 * cells + 22).clamp(12, 48);
    for node in changed {
        let name: String = plain(&node.name).chars().take(room).collect();
        let shown = |states: &[String]| {
            let cells: String = states.iter().take(32).map(|s| paint.cell(s)).collect();
            let pad = cells_short(states.len().min(32), cells_max(plan));
            format!("{cells}{}", " ".repeat(pad))
        };
        let after = if node.returned {
            "goes".to_string()
        } else {
            shown(&node.after)
        };
        let price = known(node.usd_per_hour);
        writeln!(
            out,
            "{}",
            format!(
                "  {name:<room$}  {}  →  {after}  {}",
                shown(&node.before),
                if node.returned { price } else { String::new() }
            )
            .trim_end()
        )?;
    }
    let same = plan.nodes.iter().filter(|n| !n.returned && n.before == n.after).count();
    if same > 0 {
        writeln!(out, "  {} as they are", count(same as u64, "other node"))?;
    }
    Ok(())
}

fn cells_max(plan: &Plan) -> usize {
    let changed = plan.nodes.iter().filter(|n| n.returned || n.before != n.after);
    changed.map(|n| n.before.len()).max().unwrap_or(0).min(32)
}

fn cells_short(has: usize, most: usize) -> usize {
    most.saturating_sub(has)
}

fn steps(plan: &Plan, width: usize, out: &mut dyn Write) -> io::Result<()> {
    if plan.steps.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\nSteps  (the bill after each; stop anywhere and keep what you have)\n"
    )?;
    for step in &plan.steps {
        let bill = known(step.bill_after_usd_per_hour);
        for (i, line) in wrap(&plain(&step.what), width.saturating_sub(22))
            .into_iter()
            .enumerate()
        {
            let (number, bill) = if i == 0 {
                (step.number.to_string(), bill.as_str())
            } else {
                (String::new(), "")
            };
            writeln!(out, "{}", format!("  {number:>3}  {bill:>13}  {line}").trim_end())?;
        }
        for finding in &step.findings {
            writeln!(out, "{:22}finding {}", "", plain(finding))?;
        }
    }
    writeln!(
        out,
        "\n  --format commands prints them for a shell, with each one's risk and way back; gpuwaste runs none of it."
    )
}

fn stays(plan: &Plan, width: usize, out: &mut dyn Write) -> io::Result<()> {
    if plan.stays.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nStays  (its bill would stop)\n")?;
    for stay in plan.stays.iter().take(STAYS) {
        let mut why: Vec<String> = stay.reason.iter().cloned().collect();
        let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
        for pod in &stay.pods {
            let reason = if pod.by_person {
                format!("{} (a person can move it)", pod.reason)
            } else {
                pod.reason.clone()
            };
            match reasons.iter_mut().find(|r| r.0 == reason) {
                Some(known) => known.1.push(&pod.pod),
                None => reasons.push((reason, vec![&pod.pod])),
            }
        }
        why.extend(reasons.into_iter().map(|(reason, pods)| match pods.len() {
            1 => format!("{}: {reason}", pods[0]),
            n => format!("{} and {} more: {reason}", pods[0], n - 1),
        }));
        let text = format!("{}: {}", stay.node, why.join("; "));
        for (i, line) in wrap(&plain(&text), width.saturating_sub(17)).into_iter().enumerate() {
            let price = if i == 0 {
                known(stay.usd_per_hour)
            } else {
                String::new()
            };
            writeln!(out, "{}", format!("  {price:>13}  {line}").trim_end())?;
        }
    }
    if plan.stays.len() > STAYS {
        writeln!(out, "  {:>13}  {} more: --format json", "", plan.stays.len() - STAYS)?;
    }
    Ok(())
}

fn others(plan: &Plan, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut lines: Vec<String> = plan
        .pinned
        .iter()
        .map(|p| format!("Not moved: {}", super::pinned(p)))
        .collect();
    for waiting in &plan.waiting {
        lines.push(match &waiting.node {
            Some(node) => format!("{} waits: there is room for it on {node}", waiting.pod),
            None => format!("{} waits: no node has room for it, before or after", waiting.pod),
        });
    }
    for other in &plan.by_person {
        lines.push(format!("{} ({})", other.what, known(other.usd_per_hour)));
    }
    if !lines.is_empty() {
        writeln!(out)?;
    }
    for line in lines {
        for (i, part) in wrap(&plain(&line), width.saturating_sub(4)).into_iter().enumerate() {
            writeln!(out, "{}{part}", if i == 0 { "  " } else { "    " })?;
        }
    }
    Ok(())
}
