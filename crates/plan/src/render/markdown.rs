//! For a ticket or a pull request.

use super::{letter, read_at, summary};
use crate::document::Plan;
use crate::judge::report::text::{known, plain};
use std::io::{self, Write};

/// Nothing in a name is markup.
fn cell(text: &str) -> String {
    let mut shown = String::new();
    for c in plain(text).chars() {
        match c {
            '\n' | '\r' => shown.push(' '),
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' | '~' | '@' | '$' => {
                shown.push('\\');
                shown.push(c);
            }
            c => shown.push(c),
        }
    }
    shown
}

/// A code block that no line of it can end.
fn fence(lines: &[String]) -> String {
    let longest = lines
        .iter()
        .flat_map(|l| l.split(|c| c != '`'))
        .map(str::len)
        .max()
        .unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

pub(super) fn render(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    let t = &plan.totals;
    writeln!(out, "## GPU plan: {}\n", cell(&summary(t)))?;
    writeln!(out, "| | |\n|---|---|")?;
    writeln!(out, "| bill now | {} |", cell(&known(t.spend_usd_per_hour)))?;
    writeln!(out, "| bill after | {} |", cell(&known(t.spend_after_usd_per_hour)))?;
    writeln!(out, "| read at | {} |", cell(&read_at(plan)))?;
    for refused in &plan.refused {
        writeln!(
            out,
            "\nNo plan for {}: {}; {}.",
            cell(&refused.cluster),
            cell(&refused.reason),
            cell(&refused.remedy)
        )?;
    }
    if !plan.steps.is_empty() {
        writeln!(out, "\n| # | bill after | step | risk |\n|--:|--:|---|---|")?;
    }
    for step in &plan.steps {
        let bill = known(step.bill_after_usd_per_hour);
        writeln!(
            out,
            "| {} | {} | {} | {} |",
            step.number,
            cell(&bill),
            cell(&step.what),
            cell(&step.risk)
        )?;
    }
    let changed: Vec<_> = plan
        .nodes
        .iter()
        .filter(|n| n.returned || n.before != n.after)
        .collect();
    if !changed.is_empty() {
        writeln!(out, "\n| node | before | after |\n|---|---|---|")?;
    }
    for node in changed {
        let cells = |states: &[String]| states.iter().map(|s| letter(s)).collect::<String>();
        let after = if node.returned {
            "goes".into()
        } else {
            cells(&node.after)
        };
        writeln!(
            out,
            "| {} | {} | {} |",
            cell(&node.name),
            cell(&cells(&node.before)),
            cell(&after)
        )?;
    }
    if !plan.steps.is_empty() {
        let commands: Vec<String> = plan.steps.iter().flat_map(|s| s.commands.iter().cloned()).collect();
        let fence = fence(&commands);
        writeln!(out, "\n<details><summary>Commands</summary>\n\n{fence}sh")?;
        for command in commands {
            writeln!(out, "{command}")?;
        }
        writeln!(out, "{fence}\n\n</details>")?;
    }
    if !plan.pinned.is_empty() {
        writeln!(out, "\nNot moved:\n")?;
    }
    for p in &plan.pinned {
        writeln!(out, "- {}", cell(&super::pinned(p)))?;
    }
    if !plan.stays.is_empty() {
        writeln!(out, "\n| stays | $/h | why |\n|---|--:|---|")?;
    }
    for stay in &plan.stays {
        let mut why: Vec<String> = stay.reason.iter().cloned().collect();
        why.extend(stay.pods.iter().map(|p| format!("{}: {}", p.pod, p.reason)));
        writeln!(
            out,
            "| {} | {} | {} |",
            cell(&stay.node),
            cell(&known(stay.usd_per_hour)),
            cell(&why.join("; "))
        )?;
    }
    if !plan.by_person.is_empty() {
        writeln!(out, "\nAllowed, and not a step:\n")?;
    }
    for other in &plan.by_person {
        writeln!(out, "- {} ({})", cell(&other.what), cell(&known(other.usd_per_hour)))?;
    }
    Ok(())
}
