//! The policy file as written, and how it becomes [`Settings`]: every refusal names the line and the way out.

use super::thresholds::{KEYS, RawThresholds};
use super::{Gates, Settings, Suppression};
use crate::catalog::prices::{PriceEntry, toml_words};
use crate::units::Confidence;
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Deserialize;
use std::ops::Range;
use toml::Spanned;

/// A value that is well-formed and makes no sense.
pub(super) struct Misfit {
    pub(super) span: Range<usize>,
    pub(super) why: String,
}

/// The policy file gpuwaste.toml. Every key is optional; what is not written is built in.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Policy")]
pub struct RawPolicy {
    /// The checks' numbers, a table a check; "shared" holds those that several checks use.
    thresholds: RawThresholds,
    checks: RawChecks,
    gates: RawGates,
    baseline: RawTolerance,
    ownership: RawOwnership,
    /// Findings to live with, each with a reason. The first that matches wins.
    #[schemars(with = "Vec<RawSuppression>")]
    suppress: Vec<Spanned<RawSuppression>>,
    /// Your prices. The first entry that matches a node wins.
    #[schemars(with = "Vec<PriceEntry>")]
    price: Vec<Spanned<PriceEntry>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawChecks {
    /// Checks that are not run.
    #[schemars(with = "Vec<String>")]
    skip: Vec<Spanned<String>>,
}

/// Limits that fail a run with exit code 1 (`min_coverage`: 3). A flag of the same name wins.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawGates {
    /// USD per hour of recoverable waste.
    #[schemars(with = "Option<f64>")]
    max_waste: Option<Spanned<f64>>,
    /// Percent of priced spend.
    #[schemars(with = "Option<f64>")]
    max_waste_percent: Option<Spanned<f64>>,
    /// USD per hour of recoverable waste that the baseline does not have.
    #[schemars(with = "Option<f64>")]
    max_new_waste: Option<Spanned<f64>>,
    /// USD per hour of spend at risk.
    #[schemars(with = "Option<f64>")]
    max_at_risk: Option<Spanned<f64>>,
    /// USD per hour of findings that were snoozed or dismissed in the ledger.
    #[schemars(with = "Option<f64>")]
    max_dismissed: Option<Spanned<f64>>,
    /// Percent of the fleet's cost that must have been judged; 80 as soon as any gate is given.
    #[schemars(with = "Option<f64>")]
    min_coverage: Option<Spanned<f64>>,
    /// Findings under this confidence do not count: measured (built in), estimated or assumed.
    confidence: Option<Confidence>,
}

/// How much worse than its baseline a finding may get before it counts as new; both must be exceeded.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawTolerance {
    #[schemars(with = "Option<f64>")]
    tolerance_share: Option<Spanned<f64>>,
    #[schemars(with = "Option<f64>")]
    tolerance_usd_per_hour: Option<Spanned<f64>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawOwnership {
    /// Labels that name an owner; the first that a workload (else its node) has wins.
    labels: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawSuppression {
    /// A check ("dark-capacity"), a part of one ("dark-capacity/idle"), or "all".
    check: Option<String>,
    /// "namespace/name" of a workload, a pool's name, or a finding's id; `*` matches any run of characters.
    subject: Option<String>,
    /// Only in clusters of this name; `*` matches any run of characters.
    cluster: Option<String>,
    /// Required.
    reason: Option<String>,
    /// The last day it holds: 2027-03-31.
    #[schemars(with = "Option<String>")]
    expires: Option<toml::Value>,
}

/// Reads a policy file. `checks` are the known check ids, and their parts ("dark-capacity/idle"); `file` is its name as the user gave it.
///
/// # Errors
/// Names the line, the key and the nearest known one, or the value and what would be accepted.
pub fn parse(text: &str, file: &str, checks: &[&str]) -> Result<Settings, String> {
    let raw: RawPolicy = toml::from_str(text).map_err(|e| explain(text, &e))?;
    let mut settings = Settings {
        file: Some(file.to_owned()),
        ..Settings::default()
    };
    overlay(raw, &mut settings, text, checks)
        .map_err(|misfit| format!("line {}: {}", line_of(text, misfit.span.start), misfit.why))?;
    Ok(settings)
}

/// A policy's text with another one laid over it: its values win, its lists are added.
pub fn laid_over(policy: &str, other: &str) -> Result<String, String> {
    let table = |text: &str| text.parse::<toml::Table>().map_err(|e| explain(text, &e));
    let mut whole = table(policy)?;
    lay(&mut whole, table(other)?);
    toml::to_string(&whole).map_err(|e| e.to_string())
}

fn lay(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => lay(under, over),
            (Some(toml::Value::Array(under)), toml::Value::Array(over)) => under.extend(over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn overlay(raw: RawPolicy, to: &mut Settings, text: &str, checks: &[&str]) -> Result<(), Misfit> {
    let mut seen = Vec::new();
    raw.thresholds.apply(&mut to.thresholds, |section, key| {
        seen.push(format!("thresholds.{section}.{key}"));
    })?;
    for skip in raw.checks.skip {
        known_check(skip.get_ref(), checks).map_err(|why| Misfit { span: skip.span(), why })?;
        if skip.get_ref().contains('/') {
            let why = format!("skip takes whole checks; write a [[suppress]] for '{}'", skip.get_ref());
            return Err(Misfit { span: skip.span(), why });
        }
        seen.push("checks.skip".into());
        to.skip.push(skip.into_inner());
    }
    to.gates = gates(raw.gates, &mut seen)?;
    for (key, written, value) in [
        ("tolerance_share", raw.baseline.tolerance_share, &mut to.tolerance.share),
        (
            "tolerance_usd_per_hour",
            raw.baseline.tolerance_usd_per_hour,
            &mut to.tolerance.usd_per_hour,
        ),
    ] {
        if let Some(amount) = amount(key, written)? {
            *value = amount;
            seen.push(format!("baseline.{key}"));
        }
    }
    if !raw.ownership.labels.is_empty() {
        seen.push("ownership.labels".into());
        to.owner_labels = raw.ownership.labels;
    }
    for written in raw.suppress {
        let span = written.span();
        let line = line_of(text, span.start);
        let one = suppression(written.into_inner(), line, checks).map_err(|why| Misfit { span, why })?;
        to.suppressions.push(one);
    }
    for written in raw.price {
        let span = written.span();
        let entry = written.into_inner();
        entry.check().map_err(|why| Misfit { span, why })?;
        to.prices.push(entry);
    }
    let file = to.file.clone().unwrap_or_default();
    to.origins.extend(seen.into_iter().map(|key| (key, file.clone())));
    Ok(())
}

fn gates(raw: RawGates, seen: &mut Vec<String>) -> Result<Gates, Misfit> {
    let mut read = |key: &str, written: Option<Spanned<f64>>| {
        let value = amount(key, written)?;
        if value.is_some() {
            seen.push(format!("gates.{key}"));
        }
        Ok(value)
    };
    let gates = Gates {
        max_waste: read("max_waste", raw.max_waste)?,
        max_waste_percent: read("max_waste_percent", raw.max_waste_percent)?,
        max_new_waste: read("max_new_waste", raw.max_new_waste)?,
        max_at_risk: read("max_at_risk", raw.max_at_risk)?,
        max_dismissed: read("max_dismissed", raw.max_dismissed)?,
        min_coverage: read("min_coverage", raw.min_coverage)?,
        confidence: raw.confidence,
    };
    if gates.confidence.is_some() {
        seen.push("gates.confidence".into());
    }
    Ok(gates)
}

fn amount(key: &str, written: Option<Spanned<f64>>) -> Result<Option<f64>, Misfit> {
    match written {
        Some(w) if !w.get_ref().is_finite() || *w.get_ref() < 0.0 => Err(Misfit {
            why: format!("{key} = {}: a number of at least 0 is expected", w.get_ref()),
            span: w.span(),
        }),
        written => Ok(written.map(Spanned::into_inner)),
    }
}

fn known_check(name: &str, checks: &[&str]) -> Result<(), String> {
    if checks.contains(&name) {
        return Ok(());
    }
    // A part that its check does not have: the others of it are meant.
    let of_check = name.split_once('/').map(|(id, _)| format!("{id}/"));
    let parts = checks
        .iter()
        .copied()
        .filter(|c| of_check.as_deref().is_some_and(|id| c.starts_with(id)));
    let near = nearest(name, parts).or_else(|| nearest(name, checks.iter().copied()));
    Err(format!(
        "there is no check '{name}': did you mean '{}'?",
        near.unwrap_or_default()
    ))
}

fn suppression(raw: RawSuppression, line: usize, checks: &[&str]) -> Result<Suppression, String> {
    let text = |value: Option<String>| value.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
    let Some(check) = text(raw.check) else {
        return Err("this suppression has no check: name one (\"dark-capacity/idle\"), or write \"all\"".into());
    };
    if check != "all" {
        known_check(&check, checks)?;
    }
    let Some(subject) = text(raw.subject) else {
        return Err("this suppression has no subject: write \"namespace/name\", a pool's name, or \"*\"".into());
    };
    let Some(reason) = text(raw.reason) else {
        return Err(format!(
            "the suppression of {check} for '{subject}' needs a reason: say why the money is well spent"
        ));
    };
    Ok(Suppression {
        check,
        subject,
        cluster: text(raw.cluster),
        reason,
        expires: raw.expires.map(|value| date(&value)).transpose()?,
        line,
    })
}

/// A TOML date, or the same in quotes.
fn date(value: &toml::Value) -> Result<Date, String> {
    let written = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Datetime(date) => date.to_string(),
        other => other.to_string(),
    };
    written
        .parse()
        .map_err(|_| format!("expires = {written}: a date is expected, such as 2027-03-31"))
}

fn line_of(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count() + 1
}

/// toml's message with the line in front; for unknown keys the nearest known one, or the table it belongs to.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let line = line_of(text, at);
    let message = error.message();
    // serde names the alternatives only in its message: `unknown field `x`, expected one of `a`, `b``.
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((key, known)) if message.starts_with("unknown field") => {
            if let Some(home) = KEYS.iter().find(|k| k.name == *key) {
                return format!("line {line}: '{key}' belongs into [thresholds.{}]", home.section);
            }
            if let Some((_, ours)) = OTHER_WORDS
                .iter()
                .find(|(theirs, ours)| theirs == key && known.contains(ours))
            {
                return format!("line {line}: unknown key '{key}': did you mean '{ours}'?");
            }
            let everywhere = KEYS.iter().map(|k| k.name).filter(|_| known.len() < 2);
            let near = nearest(key, known.iter().copied().chain(everywhere)).unwrap_or_default();
            format!("line {line}: unknown key '{key}': did you mean '{near}'?")
        }
        _ => format!("line {line}: {}", toml_words(text, at, message)),
    }
}

/// What others call our keys.
const OTHER_WORDS: [(&str, &str); 6] = [
    ("until", "expires"),
    ("expiry", "expires"),
    ("end", "expires"),
    ("name", "subject"),
    ("workload", "subject"),
    ("why", "reason"),
];

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)))
}

#[cfg(test)]
mod tests {
    use super::super::print;
    use super::*;

    const CHECKS: [&str; 5] = [
        "dark-capacity",
        "dark-capacity/idle",
        "dark-capacity/stuck",
        "kv-pressure",
        "oversized-tier",
    ];

    fn read(text: &str) -> Result<Settings, String> {
        parse(text, "gpuwaste.toml", &CHECKS)
    }

    #[test]
    fn what_is_not_written_is_built_in() {
        let settings = read("[thresholds.dark-capacity]\nfree_gpu_allowance = 3\n").unwrap();
        assert_eq!(settings.thresholds.free_gpu_allowance, 3);
        assert_eq!(settings.thresholds.stuck_restarts, 5);
        assert_eq!(
            settings.origins["thresholds.dark-capacity.free_gpu_allowance"],
            "gpuwaste.toml"
        );
        assert_eq!(settings.origins.len(), 1);
    }

    #[test]
    fn refusals_name_the_line_and_the_way_out() {
        for (text, line, words) in [
            (
                "\n[thresholds.dark-capacity]\nfree_gpu_alowance = 1\n",
                3,
                "did you mean 'free_gpu_allowance'",
            ),
            (
                "[thresholds.dark-capacty]\nfree_gpu_allowance = 1\n",
                1,
                "did you mean 'dark-capacity'",
            ),
            (
                "[thresholds.dark-capacity]\nkv_headroom = 1.2\n",
                2,
                "belongs into [thresholds.oversized-tier]",
            ),
            ("[gate]\nmax_waste = 1\n", 1, "did you mean 'gates'"),
            ("[gates]\nmax_wast = 1\n", 2, "did you mean 'max_waste'"),
            ("[gates]\nmax_waste = -1\n", 2, "at least 0"),
            ("[gates]\nmax_waste = nan\n", 2, "at least 0"),
            ("[gates]\nmax_waste = \"5\"\n", 2, "without quotes: max_waste = 5"),
            ("[gates]\nconfidence = \"sure\"\n", 2, "measured"),
            ("[thresholds.kv-pressure]\nkv_pressure_usage = 95\n", 2, "from 0 to 1"),
            ("[thresholds.dark-capacity]\nstuck_restarts = -1\n", 2, "-1"),
            ("[checks]\nskip = [\"dark\"]\n", 2, "did you mean 'dark-capacity'"),
            ("[[suppress]]\ncheck = \"all\"\nsubject = \"*\"\n", 1, "needs a reason"),
            ("[[suppress]]\nsubject = \"*\"\nreason = \"r\"\n", 1, "no check"),
            ("\n\n[[suppress]]\ncheck = \"all\"\nreason = \"r\"\n", 3, "no subject"),
            (
                "[[suppress]]\ncheck = \"idle\"\nsubject = \"*\"\nreason = \"r\"\n",
                1,
                "no check 'idle'",
            ),
            (
                "[[suppress]]\ncheck = \"dark-capacity/idel\"\nsubject = \"*\"\nreason = \"r\"\n",
                1,
                "did you mean 'dark-capacity/idle'",
            ),
            (
                "[[suppress]]\ncheck = \"all\"\nsubject = \"*\"\nreason = \"r\"\nexpires = \"soon\"\n",
                1,
                "2027-03-31",
            ),
            (
                "[[price]]\nnode = \"a\"\nusd_per_hour = 1\n\n[[price]]\nnode = \"b\"\n",
                5,
                "no amount",
            ),
            ("[gates\n", 1, ""),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                error.starts_with(&format!("line {line}: ")) && error.contains(words),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn the_printed_policy_is_the_policy() {
        let built_in = Settings::default();
        let again = read(&print(&built_in)).unwrap();
        assert_eq!(again.thresholds, built_in.thresholds);
        assert_eq!((again.gates, again.tolerance), (built_in.gates, built_in.tolerance));

        let text = "[thresholds.kv-pressure]\nkv_pressure_usage = 0.9\n[checks]\nskip = [\"kv-pressure\"]\n[gates]\nmax_waste = 12.5\nconfidence = \"estimated\"\n\
            [baseline]\ntolerance_share = 0.2\n[ownership]\nlabels = [\"team\", \"a\\\"b\"]\n\
            [[suppress]]\ncheck = \"dark-capacity/idle\"\nsubject = \"ml/*\"\nreason = \"it's \\\"warm\\\"\\n\"\nexpires = 2027-03-31\n\
            [[suppress]]\ncheck = \"all\"\nsubject = \"x\"\ncluster = \"dev*\"\nreason = \"dev\"\n\
            [[price]]\nnode = \"gpu-*\"\nusd_per_gpu_hour = 2.5\nas_of = \"2026-11-01\"\n";
        let written = read(text).unwrap();
        let again = read(&print(&written)).unwrap();
        assert_eq!(again.thresholds, written.thresholds);
        assert_eq!(again.skip, ["kv-pressure"]);
        assert_eq!((again.gates, again.tolerance), (written.gates, written.tolerance));
        assert_eq!(again.owner_labels, written.owner_labels);
        assert_eq!(again.prices, written.prices);
        let plain = |s: &Settings| -> Vec<Suppression> {
            s.suppressions
                .iter()
                .map(|s| Suppression { line: 0, ..s.clone() })
                .collect()
        };
        assert_eq!(plain(&again), plain(&written));
        assert_eq!(plain(&again)[0].expires, Some(Date::constant(2027, 3, 31)));
    }
}
