//! show and ls: one finding whole, and what there is.

use super::{output, policy, source};
use crate::analyze::{self, Context as CheckContext};
use crate::cli::{ColorArg, LsArgs, LsFormat, LsLevel, ShowArgs, ShowFormat, SourceArgs};
use crate::collect;
use crate::judge::{self, Case};
use crate::report::document::Report;
use crate::report::inventory::{self, Inventory, Level};
use crate::report::{RenderOptions, show as finding};
use crate::settings::Settings;
use anyhow::{Result, anyhow};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

pub(super) fn show(args: &ShowArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        source::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut settings = policy::file(args.policy.as_deref())?;
    policy::prices(args.prices.as_deref(), &mut settings)?;
    let report = match &args.report {
        Some(path) => super::diff::read(path, &settings)?,
        None => read(&args.source, args.models.as_deref(), settings)?.0,
    };
    let found = finding::find(&report, &args.finding).map_err(|why| anyhow!("{why}; 'gpuwaste scan' lists them"))?;
    write(|out| match args.format {
        ShowFormat::Table => Ok(finding::render(&report, found, &options(args.color), out)?),
        ShowFormat::Json => Ok(writeln!(out, "{}", serde_json::to_string_pretty(found)?)?),
    })
}

pub(super) fn ls(args: &LsArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        source::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut settings = policy::file(args.policy.as_deref())?;
    policy::prices(args.prices.as_deref(), &mut settings)?;
    let (_, inventory) = read(&args.source, args.models.as_deref(), settings)?;
    let level = match args.level {
        LsLevel::Workloads => Level::Workloads,
        LsLevel::Nodes => Level::Nodes,
        LsLevel::Gpus => Level::Gpus,
        LsLevel::Tree => Level::Tree,
    };
    list(&inventory, level, args.format, args.color)
}

/// `scan --list`: as `ls` prints it.
pub(super) fn listed(
    source: &SourceArgs,
    models: Option<&Path>,
    settings: Settings,
    color: ColorArg,
) -> Result<ExitCode> {
    let (_, inventory) = read(source, models, settings)?;
    list(&inventory, Level::Workloads, LsFormat::Table, color)
}

fn list(inventory: &Inventory, level: Level, format: LsFormat, color: ColorArg) -> Result<ExitCode> {
    write(|out| match format {
        LsFormat::Table => Ok(inventory::render(inventory, level, &options(color), out)?),
        LsFormat::Csv => Ok(inventory::csv(inventory, level, out)?),
        LsFormat::Json => Ok(writeln!(out, "{}", serde_json::to_string_pretty(inventory)?)?),
    })
}

fn options(color: ColorArg) -> RenderOptions {
    RenderOptions {
        width: output::width(),
        height: output::height(),
        color: output::color(color),
        ..RenderOptions::default()
    }
}

fn write(what: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    output::unless_closed(what(&mut out).and_then(|()| Ok(out.flush()?)))?;
    Ok(ExitCode::SUCCESS)
}

/// The fleet, judged by the settings without gates or baseline.
fn read(args: &SourceArgs, models: Option<&Path>, mut settings: Settings) -> Result<(Report, Inventory)> {
    let keep = settings.owner_labels.clone();
    let mut snapshot = source::snapshot(args, keep, settings.thresholds.bin_limits())?;
    if let Some(folder) = models {
        let (book, gaps) = collect::models::read(folder)?;
        settings.models = book;
        snapshot.gaps.extend(gaps);
    }
    settings.gates = crate::settings::Gates::default();
    let fleet = judge::join(&snapshot, &settings);
    let outcomes = analyze::run(&CheckContext::new(&fleet, &settings), |id| {
        !settings.skip.iter().any(|c| c == id)
    });
    let case = Case {
        snapshot: &snapshot,
        fleet: &fleet,
        outcomes: &outcomes,
        settings: &settings,
        group_by: None,
        baseline: None,
        decisions: None,
    };
    let (report, _) = case.judge();
    let inventory = inventory::of(&fleet, &report);
    Ok((report, inventory))
}
