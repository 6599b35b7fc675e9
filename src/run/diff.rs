//! diff: two reports or snapshots, in dollars per hour and in work done.

use super::recorded::{self, Recorded};
use super::{output, policy, snapshot_file};
use crate::cli::{DiffArgs, DiffFormat};
use crate::report::difference::{self, Difference};
use crate::report::document::{Report, SCHEMA};
use crate::report::lines::of_manifests;
use crate::report::text::plain;
use crate::settings::Settings;
use crate::units::{Confidence, sum_known};
use crate::verdict;
use anyhow::{Context, Result, bail};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

pub(super) fn diff(args: &DiffArgs) -> Result<ExitCode> {
    if args.old.as_os_str() == "-" && args.new.as_os_str() == "-" {
        bail!("only one of the two can be stdin");
    }
    let mut settings = policy::judge(&args.judge)?;
    output::unless_closed(output::gaps(&policy::models(
        args.judge.models.as_deref(),
        &mut settings,
    )?))?;
    let (old, new) = (read(&args.old, &settings)?, read(&args.new, &settings)?);
    let difference = difference::between(&old, &new);
    output::unless_closed(show(&difference, args.format))?;
    gate(&old, &new, &settings, args.max_new_waste)
}

fn show(difference: &Difference, format: DiffFormat) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match format {
        DiffFormat::Table => difference::table(difference, &mut out)?,
        DiffFormat::Json => writeln!(out, "{}", serde_json::to_string_pretty(difference)?)?,
    }
    Ok(out.flush()?)
}

/// Waste that the old report did not have, counted as `scan --baseline` counts it: by the policy's tolerance and the gate's
/// confidence, without what GPUs cost under another name before.
fn gate(old: &Report, new: &Report, settings: &Settings, limit: Option<f64>) -> Result<ExitCode> {
    let Some(limit) = limit else {
        return Ok(ExitCode::SUCCESS);
    };
    if !limit.is_finite() || limit < 0.0 {
        bail!("--max-new-waste {limit}: a number of at least 0 is expected");
    }
    let level = settings.gates.confidence.unwrap_or(Confidence::Measured);
    let now = verdict::money(new, |f| f.confidence >= level);
    let before = verdict::money(old, |_| true);
    let grown = sum_known(verdict::growth::growth(&before, &now, settings.tolerance));
    let grown = grown.usd();
    let (line, code) = if grown > limit {
        let over = grown - limit;
        (
            format!("${grown:.2}/h is over the limit of ${limit:.2}/h by ${over:.2}/h"),
            1,
        )
    } else if let Some(why) = undecided(new, settings, grown, limit) {
        (format!("no verdict: {why}"), 3)
    } else {
        return Ok(ExitCode::SUCCESS);
    };
    let told = writeln!(io::stderr(), "gpuwaste: gate max-new-waste: {}", plain(&line));
    output::unless_closed(told.map_err(Into::into))?;
    Ok(ExitCode::from(code))
}

/// What was not read of the new fleet is no waste that did not grow: as `scan` decides it.
fn undecided(new: &Report, settings: &Settings, grown: f64, limit: f64) -> Option<String> {
    let needed = settings.gates.min_coverage.unwrap_or(verdict::DEFAULT_COVERAGE);
    // Manifests run nothing that could be covered.
    let short = verdict::short_of(new, needed).filter(|_| !of_manifests(new));
    short.or_else(|| verdict::doubt(new, grown, limit, false))
}

/// What tells a report from a snapshot.
#[derive(serde::Deserialize)]
struct Head {
    schema: Option<u32>,
    totals: Option<TotalsHead>,
}

#[derive(serde::Deserialize)]
struct TotalsHead {
    /// Reports of 0.1.0 have it not: they tell gaps, and not what hangs on them.
    gpus_uncounted: Option<bool>,
}

/// A report as it is, a snapshot judged by this gpuwaste; the snapshots of a folder or a prefix as one fleet.
pub(super) fn read(path: &Path, settings: &Settings) -> Result<Report> {
    let named = [path.to_path_buf()];
    if let [one] = recorded::named(&named)?.all.as_slice() {
        return report_of(one, settings);
    }
    Ok(crate::judge::report_of(&recorded::fleet(&named, None)?, settings))
}

/// A report as it is, a snapshot judged by this gpuwaste.
pub(super) fn report_of(one: &Recorded, settings: &Settings) -> Result<Report> {
    report_from(&one.name, &one.bytes()?, settings)
}

/// The same of its bytes; `name` is for what cannot be read.
pub(super) fn report_from(name: &str, bytes: &[u8], settings: &Settings) -> Result<Report> {
    if let Ok(Head {
        schema,
        totals: Some(totals),
    }) = serde_json::from_slice::<Head>(bytes)
    {
        if schema.is_none_or(|s| s > SCHEMA) {
            bail!("{name} is a report of a newer gpuwaste: use that one, or a newer one");
        }
        let mut report: Report = serde_json::from_slice(bytes)
            .with_context(|| format!("{name} is no report that this gpuwaste can read"))?;
        if totals.gpus_uncounted.is_none() {
            old_report(&mut report, name)?;
        }
        return Ok(report);
    }
    let snapshot = snapshot_file::decode(bytes)
        .with_context(|| format!("{name} is neither a report (scan --format json) nor a snapshot (collect)"))?;
    Ok(crate::judge::report_of(&snapshot, settings))
}

/// A report that does not tell what hangs on reads that failed: where one did, any GPU may, and no gate passes by it.
fn old_report(report: &mut Report, name: &str) -> Result<()> {
    use crate::snapshot::SourceStatus;
    let failed = report.sources.iter().any(|s| s.status != SourceStatus::Ok);
    if !failed && report.gaps.is_empty() {
        return Ok(());
    }
    report.totals.gpus_uncounted = true;
    let line = format!(
        "{name} is a report of gpuwaste {}, which does not tell what its gaps may hide: what is new or gone by it is no verdict; judge the snapshot again, or scan anew",
        report.tool.version
    );
    let told = writeln!(io::stderr(), "gpuwaste: {}", plain(&line));
    output::unless_closed(told.map_err(Into::into))
}
