//! plan: which moves, in which order, give which bill. It prints; nothing is carried out.

use super::fleet::Read;
use super::output;
use crate::cli::{AllowArg, PlanArgs, PlanFormat};
use crate::plan::{self, Format, Options, model::Headroom};
use crate::report::text::plain;
use anyhow::{Result, bail};
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

pub(super) fn plan(args: &PlanArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        super::dry_run::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = options(args)?;
    let read = Read::of(&args.source, &args.judge)?;
    let mut judged = read.judged();
    for only in &options.only {
        let one = Options {
            only: vec![only.clone()],
            ..Options::default()
        };
        let all = &judged.fleet.workloads;
        if !all.iter().any(|w| one.concerns(&w.namespace, Some(&w.name))) {
            bail!(
                "--only {}: no namespace or workload that was read is called so; 'gpuwaste ls workloads' lists them",
                only.escape_debug()
            );
        }
    }
    let made = plan::plan(&read.snapshot, &judged.fleet, &judged.report, &options);
    let format = match args.format {
        PlanFormat::Table => Format::Table,
        PlanFormat::Json => Format::Json,
        PlanFormat::Markdown => Format::Markdown,
        PlanFormat::Html => Format::Html,
        PlanFormat::Commands => Format::Commands,
    };
    let written = || -> Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        format.render(&made, output::width(), output::color(args.color), &mut out)?;
        Ok(out.flush()?)
    };
    output::unless_closed(written())?;
    if !args.source.quiet {
        let mut err = io::stderr().lock();
        for refused in made.refused.iter().filter(|_| args.format != PlanFormat::Table) {
            let line = format!(
                "no plan for {}: {}; {}",
                refused.cluster, refused.reason, refused.remedy
            );
            output::unless_closed(writeln!(err, "gpuwaste: {}", plain(&line)).map_err(Into::into))?;
        }
    }
    let code = judged.tell(&args.source)?;
    let nothing = made.totals.saved_usd_per_hour.is_none();
    Ok(if nothing { ExitCode::from(3) } else { code })
}

fn options(args: &PlanArgs) -> Result<Options> {
    let headroom = match args.headroom.trim_end_matches('%') {
        "node" => Headroom::OneNode,
        text => match text.parse::<u32>() {
            Ok(0) => Headroom::None,
            Ok(p) if p < 100 => Headroom::Percent(p),
            _ => bail!(
                "--headroom {}: a percentage below 100, or 'node', is expected",
                args.headroom.escape_debug()
            ),
        },
    };
    if let Some(odd) = args.only.iter().find(|o| o.is_empty() || o.matches('/').count() > 1) {
        bail!("--only '{}': write NAMESPACE or NAMESPACE/NAME", odd.escape_debug());
    }
    let allows = |what: AllowArg| args.allow.contains(&what);
    Ok(Options {
        max_moves: args.max_moves,
        only: args.only.clone(),
        headroom,
        now: allows(AllowArg::Now),
        reusable: allows(AllowArg::Reusable),
        tier: allows(AllowArg::Tier),
        replicas: allows(AllowArg::Replicas),
    })
}
