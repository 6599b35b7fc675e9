//! `--print-policy`: the policy in force as a policy file, each value with its source.

use super::thresholds::KEYS;
use super::{Settings, Suppression};
use crate::catalog::prices::PriceEntry;
use std::fmt::Display;

/// The whole policy as TOML. Reading it back gives the same settings.
pub fn print(settings: &Settings) -> String {
    let mut out = format!(
        "# The gpuwaste policy in force: built in, then {}, then flags. Keep the lines you mean to change;\n\
         # 'gpuwaste schema policy' is its JSON Schema.\n",
        settings.file.as_deref().unwrap_or("gpuwaste.toml (there is none)")
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            out.push_str(&format!("\n[thresholds.{section}]\n"));
        }
        for line in key.doc {
            out.push_str(&format!("#{line}\n"));
        }
        let path = format!("thresholds.{section}.{}", key.name);
        line(&mut out, settings, &path, &(key.get)(&settings.thresholds));
    }
    out.push_str("\n[checks]\n# Checks that are not run.\n");
    line(&mut out, settings, "checks.skip", &strings(&settings.skip));
    out.push_str("\n[gates]\n# Limits that fail a run: USD per hour, or percent.\n");
    for (key, limit) in settings.gates.limits() {
        match limit {
            Some(limit) => line(&mut out, settings, &format!("gates.{key}"), &limit),
            None => out.push_str(&format!("# {key} =  # not set\n")),
        }
    }
    match settings.gates.confidence {
        Some(level) => line(&mut out, settings, "gates.confidence", &quoted(level.name())),
        None => out.push_str("# confidence = \"measured\"  # built in\n"),
    }
    out.push_str("\n[baseline]\n# A finding that got worse than its baseline by more than both counts as new.\n");
    line(
        &mut out,
        settings,
        "baseline.tolerance_share",
        &settings.tolerance.share,
    );
    line(
        &mut out,
        settings,
        "baseline.tolerance_usd_per_hour",
        &settings.tolerance.usd_per_hour,
    );
    out.push_str("\n[ownership]\n# Labels that name an owner; the first that a workload (else its node) has wins.\n");
    line(&mut out, settings, "ownership.labels", &strings(&settings.owner_labels));
    settings.suppressions.iter().for_each(|s| suppression(&mut out, s));
    for (i, entry) in settings.prices.iter().enumerate() {
        let from = settings.origins.get(&format!("price.{i}")).or(settings.file.as_ref());
        price(&mut out, entry, from.map_or("built in", String::as_str));
    }
    out
}

fn line(out: &mut String, settings: &Settings, path: &str, value: &impl Display) {
    let key = path.rsplit('.').next().unwrap_or(path);
    let origin = settings.origins.get(path).map_or("built in", String::as_str);
    out.push_str(&format!("{key} = {value}  # {}\n", comment(origin)));
}

fn suppression(out: &mut String, s: &Suppression) {
    out.push_str(&format!(
        "\n[[suppress]]\ncheck = {}\nsubject = {}\n",
        quoted(&s.check),
        quoted(&s.subject)
    ));
    if let Some(cluster) = &s.cluster {
        out.push_str(&format!("cluster = {}\n", quoted(cluster)));
    }
    out.push_str(&format!("reason = {}\n", quoted(&s.reason)));
    if let Some(day) = s.expires {
        out.push_str(&format!("expires = {day}\n"));
    }
}

fn price(out: &mut String, entry: &PriceEntry, origin: &str) {
    out.push_str(&format!("\n[[price]]  # {}\n", comment(origin)));
    let texts = [
        ("cluster", &entry.cluster),
        ("node", &entry.node),
        ("instance_type", &entry.instance_type),
        ("region", &entry.region),
        ("capacity_type", &entry.capacity_type),
        ("gpu", &entry.gpu),
        ("as_of", &entry.as_of),
        ("currency", &entry.currency),
        ("committed_until", &entry.committed_until),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            out.push_str(&format!("{key} = {}\n", quoted(value)));
        }
    }
    for (key, value) in [
        ("usd_per_hour", entry.usd_per_hour),
        ("usd_per_gpu_hour", entry.usd_per_gpu_hour),
        ("discount", entry.discount),
        ("rate", entry.rate),
    ] {
        if let Some(value) = value {
            out.push_str(&format!("{key} = {value}\n"));
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn strings(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|i| quoted(i)).collect();
    format!("[{}]", items.join(", "))
}

/// A file name may hold anything; a comment ends with its line.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
