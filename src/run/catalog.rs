//! explain and catalog.

use super::print;
use super::source::demo;
use crate::analyze::CHECKS;
use crate::analyze::examples::EXAMPLES;
use crate::catalog::{gpus, instances, models, prices};
use crate::cli::{CatalogArgs, CatalogKind};
use crate::engine::ENGINES;
use crate::judge::report_of;
use crate::report::example;
use crate::report::terminal::wrap;
use crate::settings::Settings;
use anyhow::{Result, bail};
use std::fmt::Write;
use std::process::ExitCode;

pub(super) fn explain(check: Option<&str>) -> Result<ExitCode> {
    let Some(name) = check else {
        let mut text = String::new();
        for check in CHECKS {
            writeln!(text, "{:<22} {}", check.id(), check.summary())?;
        }
        return print(text);
    };
    let id = name.split('/').next().unwrap_or(name);
    if let Some(check) = CHECKS.iter().find(|c| c.id() == id) {
        let examples = examples(check.id())?;
        let text = format!("{}\n{}\n\n{}\n{examples}", check.id(), check.summary(), check.explain());
        print(reflowed(&text, super::output::width().min(PROSE)))
    } else {
        let known: Vec<&str> = CHECKS.iter().map(|c| c.id()).collect();
        bail!("there is no check '{name}': known are {}", known.join(", "))
    }
}

/// What the demo shows of a check, worked out.
fn examples(check: &str) -> Result<String> {
    let wanted = || EXAMPLES.iter().filter(|e| e.check == check);
    if wanted().next().is_none() {
        return Ok(String::new());
    }
    let report = report_of(&demo()?, &Settings::default());
    let mut text = String::from("\nFor example, in 'gpuwaste scan --demo':\n");
    for filled in wanted().filter_map(|e| example::fill(&report, e)) {
        writeln!(text, "\n{filled}")?;
    }
    Ok(text)
}

/// Longer lines are hard to read.
const PROSE: usize = 100;

/// Paragraphs in lines of this width; what is indented stays as it is.
fn reflowed(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut paragraph = String::new();
    let flush = |paragraph: &mut String, out: &mut String| {
        if !paragraph.is_empty() {
            for line in wrap(paragraph, width) {
                out.push_str(&line);
                out.push('\n');
            }
            paragraph.clear();
        }
    };
    for line in text.lines() {
        if line.is_empty() || line.starts_with(' ') {
            flush(&mut paragraph, &mut out);
            out.push_str(line);
            out.push('\n');
        } else {
            paragraph.push_str(line);
            paragraph.push(' ');
        }
    }
    flush(&mut paragraph, &mut out);
    out
}

pub(super) fn catalog(args: &CatalogArgs) -> Result<ExitCode> {
    if args.template {
        if args.what != CatalogKind::Prices {
            bail!("--template is for 'gpuwaste catalog prices'");
        }
        let types = args
            .query
            .iter()
            .map(|t| (t.clone(), None, prices::CapacityType::Unknown))
            .collect::<Vec<_>>();
        return print(prices::template(&types));
    }
    let query = args.query.as_deref().unwrap_or_default().to_ascii_lowercase();
    let lines: Vec<String> = rows(args.what)
        .into_iter()
        .filter(|l| l.to_ascii_lowercase().contains(&query))
        .collect();
    if lines.is_empty() {
        let near = match args.what {
            CatalogKind::Models => models::nearest(&query),
            CatalogKind::Gpus => gpus::nearest(&query),
            _ => Vec::new(),
        };
        if near.is_empty() {
            bail!("nothing in the catalogue contains '{query}'");
        }
        bail!(
            "nothing in the catalogue contains '{query}'; nearest: {}",
            near.join(", ")
        );
    }
    print(lines.join("\n") + "\n")
}

fn rows(what: CatalogKind) -> Vec<String> {
    match what {
        CatalogKind::Gpus => gpus::all().iter().map(gpu).collect(),
        CatalogKind::Instances => instances::all().iter().map(instance).collect(),
        CatalogKind::Models => models::all().iter().map(model).collect(),
        CatalogKind::Engines => ENGINES
            .engines()
            .iter()
            .map(|e| e.facts())
            .map(|f| {
                format!(
                    "{:<14} metrics {}",
                    f.kind.name(),
                    f.endpoints.metrics.unwrap_or("none")
                )
            })
            .collect(),
        CatalogKind::Checks => CHECKS
            .iter()
            .map(|c| format!("{:<22} {}", c.id(), c.summary()))
            .collect(),
        CatalogKind::Prices => gpus::all()
            .iter()
            .filter_map(|g| {
                let median = instances::median(g)?;
                Some(format!(
                    "{:<24} {:>10}  median over clouds of each cloud's cheapest on-demand price, {}",
                    g.name,
                    median.usd_per_hour.to_string(),
                    median.as_of
                ))
            })
            .collect(),
    }
}

fn gpu(gpu: &gpus::GpuFacts) -> String {
    let number = |n: Option<f64>, unit: &str| n.map_or_else(|| "–".to_string(), |n| format!("{n:.0} {unit}"));
    format!(
        "{:<22} {:<9} {:>9}  {:>10}  {:>14} bf16  {:>6}  {} (as of {})",
        gpu.name,
        gpu.architecture,
        gpu.memory.to_string(),
        number(gpu.bandwidth_gb_s, "GB/s"),
        number(gpu.bf16_tflops, "TFLOPS"),
        number(gpu.tdp.map(|t| t.0), "W"),
        gpu.source,
        gpu.as_of
    )
}

fn model(row: &models::Row) -> String {
    let m = &row.facts;
    let billions = |n: Option<u64>| n.map_or_else(|| "?".to_string(), |n| format!("{:.1}B", n as f64 / 1e9));
    let names = if row.aliases.is_empty() {
        String::new()
    } else {
        format!("  also {}", row.aliases.join(", "))
    };
    format!(
        "{:<48} {:>8} {:>8} active  {:>9} tokens  {:<16} {}: {}{names}",
        m.id,
        billions(m.parameters),
        billions(m.active_parameters),
        m.max_positions.map_or_else(|| "?".to_string(), |n| n.to_string()),
        m.quantization.as_deref().or(m.dtype.as_deref()).unwrap_or("?"),
        row.confidence,
        row.source,
    )
}

fn instance(row: &instances::InstanceRow) -> String {
    let usd = |p: Option<crate::units::UsdPerHour>| p.map_or_else(|| "–".to_string(), |p| p.to_string());
    format!(
        "{:<10} {:<36} {:<14} {:<16} {} x {:<18} {:>10}  spot {:>9}  {} ({})",
        row.cloud,
        row.instance_type,
        row.offer.name(),
        row.region,
        row.gpus.map_or_else(|| "?".to_string(), |n| n.to_string()),
        row.gpu,
        usd(row.list),
        usd(row.spot),
        row.as_of,
        instances::source(&row.source_id).unwrap_or("unknown source")
    )
}
