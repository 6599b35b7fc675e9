//! check: manifests through the same fleet, checks and report as what runs.

use super::{clock, output, policy, scan};
use crate::analyze::Expected;
use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::instances;
use crate::cli::CheckArgs;
use crate::collect::manifests::{self, Asked, Manifests};
use crate::snapshot::{Gap, SourceStatus, secrets};
use crate::units::Confidence;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;

pub(super) fn check(args: &CheckArgs) -> Result<ExitCode> {
    let outputs = output::parse(&args.report)?;
    let (mut settings, record) = policy::settings(&args.report)?;
    // Nothing is measured before it runs, and the price of a GPU known by its name alone is a median: with the defaults of
    // a scan no gate would ever fail.
    settings.gates.confidence.get_or_insert(Confidence::Assumed);
    settings.gates.min_coverage.get_or_insert(0.0);
    let asked = Asked {
        gpu: args.gpu.as_deref().map(known_gpu).transpose()?,
        region: args.region.as_deref(),
    };
    let known = args.report.baseline.as_deref().map(scan::baseline).transpose()?;
    let group_by = scan::group_by(&args.report, &outputs)?;
    let keep = scan::keep_labels(&settings, group_by.as_ref());
    let read = manifests::read_keeping(&args.manifests, keep, |kind| {
        instances::gpu_of_type(kind).map(|(_, n)| n)
    });
    if read.objects == 0 {
        return nothing(&read, &args.manifests);
    }
    let mut snapshot = manifests::snapshot(read, asked, clock::today()?);
    snapshot.gaps.extend(asked.region.and_then(without_prices));
    secrets::scrub(&mut snapshot);
    let expected = Expected {
        context_tokens: args.context_tokens,
        concurrency: args.concurrency,
    };
    let judged = scan::Judged {
        snapshot,
        settings,
        group_by,
        baseline: known,
        record,
        expected,
        asked: None,
    };
    judged.conclude(&outputs, &args.report, args.quiet, args.verbose)
}

/// A region that is misspelt, or not in the catalogue, says nothing of prices.
fn without_prices(region: &str) -> Option<Gap> {
    let known = instances::all().iter().any(|r| r.region.eq_ignore_ascii_case(region));
    (!known).then(|| Gap {
        source: "manifests".into(),
        what: format!("prices of the region '{region}'"),
        reason: "the catalogue has none of it".into(),
        effect: "machines are priced as in another region of their cloud".into(),
        remedy: "'gpuwaste catalog instances' lists the regions; give its prices with --prices".into(),
    })
}

/// No object at all: why, as far as a source or a gap says.
fn nothing(read: &Manifests, named: &[PathBuf]) -> Result<ExitCode> {
    if let Some(source) = read.sources.iter().find(|s| s.status == SourceStatus::Failed) {
        // What failed below a folder names itself.
        if source.detail.contains(source.name.trim_end_matches('/')) {
            bail!("{}", source.detail);
        }
        bail!("{}: {}", source.name, source.detail);
    }
    if let Some(gap) = read.gaps.first() {
        bail!("{}: {}; {}", gap.source, gap.reason, gap.remedy);
    }
    if named.iter().any(|p| p.as_os_str() == "-") {
        bail!(
            "stdin: no Kubernetes object came through it: did the command before the pipe fail, or write nothing? ('helm template RELEASE CHART | gpuwaste check -')"
        );
    }
    let is_empty = |p: &&PathBuf| p.is_file() && p.metadata().is_ok_and(|m| m.len() == 0);
    if let Some(empty) = named.iter().find(is_empty) {
        bail!("{}: it is empty: a manifest was expected", empty.display());
    }
    bail!("no Kubernetes object was found: name a manifest, or a folder with .yaml, .yml or .json files")
}

fn known_gpu(name: &str) -> Result<&'static GpuFacts> {
    if let Some(gpu) = gpus::find(name) {
        return Ok(gpu);
    }
    let near = gpus::nearest(name).join(", ");
    bail!(
        "--gpu {name}: no such GPU is in the catalogue{}",
        if near.is_empty() {
            String::new()
        } else {
            format!("; near: {near}")
        }
    )
}
