//! settle: what was done and what it saved, from a series of reports, into the ledger of decisions.

use super::{diff, output, policy, recorded};
use crate::cli::SettleArgs;
use crate::report::text::{money, plain};
use anyhow::{Result, anyhow};
use gpuwaste_decisions::entry::Told;
use gpuwaste_decisions::settle::Settler;
use gpuwaste_decisions::store::{Append, Folder};
use std::io::{self, Write};
use std::process::ExitCode;

pub(super) fn settle(args: &SettleArgs) -> Result<ExitCode> {
    let mut settings = policy::judge(&args.judge)?;
    output::unless_closed(output::gaps(&policy::models(
        args.judge.models.as_deref(),
        &mut settings,
    )?))?;
    let folder = Folder::new(&args.ledger);
    let mut settler = Settler::new(folder.read_or_empty().map_err(|why| anyhow!(why))?);
    // Two at a time: a series of a thousand fits where two reports do.
    let lost = recorded::named(&args.series)?.in_time().each_judged(
        |name, bytes| diff::report_from(name, bytes, &settings),
        |one, report| settler.step(&report).map_err(|why| anyhow!("{}: {why}", one.name)),
    )?;
    let reports = settler.reports;
    let mut out = io::stdout().lock();
    let appends = settler.finish();
    for add in &appends {
        if !args.dry_run {
            folder.append(add).map_err(|why| anyhow!(why))?;
        }
        for line in lines(add) {
            writeln!(out, "{}", plain(&line))?;
        }
    }
    if appends.is_empty() {
        writeln!(out, "nothing new to settle in {reports} reports")?;
    }
    output::lost(&lost)
}

fn lines(add: &Append) -> Vec<String> {
    let known = &add.entry.finding;
    let what = format!("{} of {} [{}]", add.entry.check(), known.subject, known.id);
    let mut lines = Vec::new();
    for event in add.events.iter().filter(|e| e.state == Told::Applied) {
        let note = event.note.as_ref().map(|n| format!(", {n}")).unwrap_or_default();
        lines.push(format!(
            "{:<10} {what}: seen on {}{note}",
            "applied",
            gpuwaste_decisions::state::day(event.at)
        ));
    }
    let ends = add.events.iter().filter(|e| e.state != Told::Applied);
    for (event, o) in ends.zip(&add.outcomes) {
        let hours: Vec<String> = o
            .gpu_hours
            .iter()
            .map(|(c, h)| format!("{h:.0} {}", c.name()))
            .collect();
        let hours = if hours.is_empty() {
            "none".into()
        } else {
            hours.join(", ")
        };
        lines.push(format!(
            "{:<10} {what}: predicted {}, realised {}; GPU-hours {hours}",
            event.state.name(),
            money(o.predicted_usd_per_hour),
            money(o.realised_usd_per_hour)
        ));
        lines.extend(
            o.watched
                .iter()
                .filter(|w| w.starts_with("seen"))
                .map(|w| format!("{:<10} {w}", "")),
        );
    }
    lines
}
