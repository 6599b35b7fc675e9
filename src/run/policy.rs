//! The policy in force: built in ← policy file ← flags.

use crate::analyze;
use crate::catalog::prices::PriceBook;
use crate::cli::{ConfidenceArg, JudgeArgs, ReportArgs};
use crate::collect::{self, input};
use crate::settings::{self, Settings};
use crate::snapshot::Gap;
use crate::units::Confidence;
use anyhow::{Context, Result, anyhow, bail};
use gpuwaste_decisions::record::Record;
use std::io;
use std::path::Path;

/// Read where `--policy` names none.
const DEFAULT_FILE: &str = "gpuwaste.toml";

/// Reads the policy file and overlays the flags; each flag that decides is remembered as the source of its value.
/// With them what `--learned` has of decisions; its facts are among the settings.
pub(super) fn settings(args: &ReportArgs) -> Result<(Settings, Record)> {
    let mut settings = file(args.judge.policy.as_deref())?;
    checks_exist(args.check.iter().chain(&args.skip))?;
    if !args.skip.is_empty() {
        settings.skip.extend(args.skip.iter().cloned());
        settings
            .origins
            .insert("checks.skip".into(), "policy file and --skip".into());
    }
    if !analyze::CHECKS
        .iter()
        .any(|c| super::scan::wanted(c.id(), args, &settings))
    {
        bail!("no check is left to run: what --check names is skipped, by --skip or by the policy's checks.skip");
    }
    gates(args, &mut settings)?;
    prices(args.judge.prices.as_deref(), &mut settings)?;
    bill(&args.judge, &mut settings)?;
    let others = super::learned::read(&args.judge.learned)?;
    if others.record.is_some() && args.ledger.is_none() {
        bail!("--learned: a record of decisions needs a ledger of one's own to stand beside: give --ledger DIR");
    }
    settings.learned = others.facts;
    Ok((settings, others.record.unwrap_or_default()))
}

/// The policy file with the prices laid over it.
pub(super) fn judge(args: &JudgeArgs) -> Result<Settings> {
    let mut settings = file(args.policy.as_deref())?;
    prices(args.prices.as_deref(), &mut settings)?;
    bill(args, &mut settings)?;
    settings.learned = super::learned::facts_of(&args.learned)?;
    Ok(settings)
}

/// Models of `--models`, and what of them could not be read.
pub(super) fn models(folder: Option<&Path>, settings: &mut Settings) -> Result<Vec<Gap>> {
    let Some(folder) = folder else { return Ok(Vec::new()) };
    let (book, gaps) = collect::models::read(folder)?;
    settings.models = book;
    Ok(gaps)
}

/// The policy file that is named, else ./gpuwaste.toml, else what is built in.
pub(super) fn file(named: Option<&Path>) -> Result<Settings> {
    match text(named)? {
        Some(text) => parsed(&text, named.unwrap_or(Path::new(DEFAULT_FILE))),
        None => Ok(Settings::default()),
    }
}

/// Its text; `None`: none is named, and there is none.
pub(super) fn text(named: Option<&Path>) -> Result<Option<String>> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match input::named_text(path, input::WRITTEN) {
        Ok(text) => Ok(Some(text)),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("could not read the policy file {}", path.display())),
    }
}

pub(super) fn parsed(text: &str, path: &Path) -> Result<Settings> {
    let known: Vec<String> = analyze::opt_out::names().collect();
    let checks: Vec<&str> = known.iter().map(String::as_str).collect();
    settings::parse(text, &path.display().to_string(), &checks)
        .map_err(|why| anyhow!("policy file {}, {why}", path.display()))
}

fn gates(args: &ReportArgs, settings: &mut Settings) -> Result<()> {
    let gates = &mut settings.gates;
    for (flag, value, gate) in [
        ("max-waste", args.max_waste, &mut gates.max_waste),
        (
            "max-waste-percent",
            args.max_waste_percent,
            &mut gates.max_waste_percent,
        ),
        ("max-new-waste", args.max_new_waste, &mut gates.max_new_waste),
        ("max-at-risk", args.max_at_risk, &mut gates.max_at_risk),
        ("max-dismissed", args.max_dismissed, &mut gates.max_dismissed),
        ("min-coverage", args.min_coverage, &mut gates.min_coverage),
    ] {
        let Some(value) = value else { continue };
        if !value.is_finite() || value < 0.0 {
            bail!("--{flag} {value}: a number of at least 0 is expected");
        }
        *gate = Some(value);
        settings
            .origins
            .insert(format!("gates.{}", flag.replace('-', "_")), format!("--{flag}"));
    }
    if let Some(level) = args.gate_confidence {
        gates.confidence = Some(match level {
            ConfidenceArg::Measured => Confidence::Measured,
            ConfidenceArg::Estimated => Confidence::Estimated,
            ConfidenceArg::Assumed => Confidence::Assumed,
        });
        settings
            .origins
            .insert("gates.confidence".into(), "--gate-confidence".into());
    }
    Ok(())
}

/// Prices of `--prices` are tried before the policy's.
fn prices(path: Option<&Path>, settings: &mut Settings) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let name = path.display();
    let text =
        input::named_text(path, input::WRITTEN).with_context(|| format!("could not read the price file {name}"))?;
    let book = PriceBook::parse(&text).map_err(|why| anyhow!("price file {name}, {why}"))?;
    let origin = |i: usize| (format!("price.{i}"), format!("--prices {name}"));
    settings.origins.extend((0..book.entries.len()).map(origin));
    settings.prices.splice(0..0, book.entries);
    Ok(())
}

/// What was really paid.
fn bill(args: &JudgeArgs, settings: &mut Settings) -> Result<()> {
    if args.focus.is_empty() {
        return Ok(());
    }
    let rates = args.currency_rate.iter().map(|told| {
        let pair = told.split_once('=').and_then(|(currency, rate)| {
            let rate = rate.trim().parse::<f64>().ok().filter(|r| r.is_finite() && *r > 0.0)?;
            let currency = currency.trim().to_ascii_uppercase();
            (!currency.is_empty()).then_some((currency, rate))
        });
        pair.ok_or_else(|| {
            anyhow!("--currency-rate '{told}': a currency and its US dollars are expected, such as EUR=1.08")
        })
    });
    let rates = rates.collect::<Result<_>>()?;
    settings.bill = Some(collect::bill::read(&args.focus, &rates)?.into());
    Ok(())
}

/// Refuses names that are no checks, with the nearest one.
pub(super) fn checks_exist<'a>(names: impl Iterator<Item = &'a String>) -> Result<()> {
    for name in names {
        if !analyze::CHECKS.iter().any(|c| c.id() == name) {
            let known: Vec<&str> = analyze::CHECKS.iter().map(|c| c.id()).collect();
            let near = known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)))
                .copied()
                .unwrap_or_default();
            bail!(
                "there is no check '{name}': did you mean '{near}'? Known are {}",
                known.join(", ")
            );
        }
    }
    Ok(())
}
