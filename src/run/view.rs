//! show and ls: one finding whole, and what there is.

use super::fleet::Read;
use super::{output, policy};
use crate::cli::{ColorArg, JudgeArgs, LsArgs, LsFormat, LsLevel, ShowArgs, ShowFormat, SourceArgs};
use crate::report::inventory::{self, Level};
use crate::report::{RenderOptions, show as finding};
use crate::settings::Settings;
use anyhow::{Result, anyhow};
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

pub(super) fn show(args: &ShowArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        super::dry_run::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (report, code) = if let Some(path) = &args.report {
        let mut settings = policy::judge(&args.judge)?;
        output::gaps(&policy::models(args.judge.models.as_deref(), &mut settings)?)?;
        (super::diff::read(path, &settings)?, ExitCode::SUCCESS)
    } else {
        let mut judged = Read::of(&args.source, &args.judge)?.judged();
        let code = judged.tell(&args.source)?;
        (judged.report, code)
    };
    let found = finding::find(&report, &args.finding).map_err(|why| anyhow!("{why}; 'gpuwaste scan' lists them"))?;
    write(|out| match args.format {
        ShowFormat::Table => Ok(finding::render(&report, found, &options(args.color), out)?),
        ShowFormat::Json => Ok(writeln!(out, "{}", serde_json::to_string_pretty(found)?)?),
    })?;
    Ok(code)
}

pub(super) fn ls(args: &LsArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        super::dry_run::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let read = Read::of(&args.source, &args.judge)?;
    let level = match args.level {
        LsLevel::Workloads => Level::Workloads,
        LsLevel::Nodes => Level::Nodes,
        LsLevel::Gpus => Level::Gpus,
        LsLevel::Tree => Level::Tree,
    };
    list(&read, &args.source, level, args.format, args.color)
}

/// `scan --list`: as `ls` prints it.
pub(super) fn listed(from: &SourceArgs, by: &JudgeArgs, settings: Settings, color: ColorArg) -> Result<ExitCode> {
    let read = Read::by(from, settings, by)?;
    list(&read, from, Level::Workloads, LsFormat::Table, color)
}

fn list(read: &Read, from: &SourceArgs, level: Level, format: LsFormat, color: ColorArg) -> Result<ExitCode> {
    let mut judged = read.judged();
    let inventory = inventory::of(&judged.fleet, &judged.report);
    write(|out| match format {
        LsFormat::Table => Ok(inventory::render(&inventory, level, &options(color), out)?),
        LsFormat::Csv => Ok(inventory::csv(&inventory, level, out)?),
        LsFormat::Json => Ok(writeln!(out, "{}", serde_json::to_string_pretty(&inventory)?)?),
    })?;
    judged.tell(from)
}

fn options(color: ColorArg) -> RenderOptions {
    RenderOptions {
        width: output::width(),
        height: output::height(),
        color: output::color(color),
        ..RenderOptions::default()
    }
}

fn write(what: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    output::unless_closed(what(&mut out).and_then(|()| Ok(out.flush()?)))
}
