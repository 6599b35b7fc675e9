//! explain and catalog.

use super::print;
use super::source::demo;
use crate::analyze::CHECKS;
use crate::analyze::examples::EXAMPLES;
use crate::catalog::{gpus, instances, models, prices};
use crate::cli::{CatalogArgs, CatalogKind};
use crate::engine::ENGINES;
use crate::judge::report_of;
use crate::report::columns::{self, Column, column};
use crate::report::terminal::wrap;
use crate::report::{RenderOptions, example};
use crate::settings::Settings;
use anyhow::{Result, bail};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

pub(super) fn explain(check: Option<&str>) -> Result<ExitCode> {
    let Some(name) = check else {
        let mut text = String::new();
        for check in CHECKS {
            writeln!(text, "{:<22} {}", check.id(), check.summary())?;
        }
        text.push_str("\nWords\n\n");
        let width = super::output::width().min(PROSE);
        for (word, meaning) in words() {
            for (i, line) in wrap(&meaning, width.saturating_sub(4)).iter().enumerate() {
                if i == 0 {
                    writeln!(text, "{word}")?;
                }
                writeln!(text, "    {line}")?;
            }
        }
        text.push_str("\n'gpuwaste explain CHECK' or 'explain WORD' tells one.\n");
        return print(text);
    };
    let id = name.split('/').next().unwrap_or(name);
    let asked = name.to_lowercase();
    if let Some((word, meaning)) = words().find(|(w, _)| w.to_lowercase().split(", ").any(|w| w == asked)) {
        return print(reflowed(
            &format!("{word}\n\n{meaning}\n"),
            super::output::width().min(PROSE),
        ));
    }
    if let Some(check) = CHECKS.iter().find(|c| c.id() == id) {
        let examples = examples(check.id())?;
        let text = format!("{}\n{}\n\n{}\n{examples}", check.id(), check.summary(), check.explain());
        print(reflowed(&text, super::output::width().min(PROSE)))
    } else {
        let near = near(&asked);
        if near.is_empty() {
            let known: Vec<&str> = CHECKS.iter().map(|c| c.id()).collect();
            bail!(
                "'{name}' is no check and no word of the glossary: 'gpuwaste explain' lists them all; checks are {}",
                known.join(", ")
            );
        }
        bail!(
            "'{name}' is no check and no word of the glossary: did you mean {}? 'gpuwaste explain' lists them all",
            near.join(" or ")
        )
    }
}

/// As alike as a slip is (Jaro-Winkler).
const ALIKE: f64 = 0.82;

/// Checks and words that somebody may have meant: what has it within, then what is written alike.
fn near(asked: &str) -> Vec<String> {
    const FEW: usize = 3;
    let words = words().flat_map(|(w, _)| w.split(", ").map(str::to_lowercase).collect::<Vec<_>>());
    let mut all: Vec<(f64, String)> = CHECKS
        .iter()
        .map(|c| c.id().to_string())
        .chain(words)
        .map(|known| {
            let part = if asked.len() > 2 && known.contains(asked) {
                1.0
            } else {
                0.0
            };
            (part + strsim::jaro_winkler(asked, &known), known)
        })
        .filter(|(alike, _)| *alike > ALIKE)
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    all.into_iter()
        .take(FEW)
        .map(|(_, known)| format!("'{known}'"))
        .collect()
}

/// The glossary of the docs: each word that has to be learned, with what it means.
fn words() -> impl Iterator<Item = (String, String)> {
    let page = include_str!("../../docs/glossary.md");
    page.lines().filter_map(|line| {
        let (word, meaning) = line.strip_prefix("- **")?.split_once("**")?;
        let meaning = meaning.trim_start_matches(": ").replace("**", "").replace('`', "'");
        // Links are for the book.
        let mut plain = String::new();
        let mut rest = meaning.as_str();
        while let Some((before, after)) = rest.split_once('[') {
            plain.push_str(before);
            let (text, behind) = after.split_once("](")?;
            plain.push_str(text);
            rest = behind.split_once(')')?.1;
        }
        plain.push_str(rest);
        Some((word.to_owned(), plain.trim().trim_start_matches('(').to_owned()))
    })
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
        if let Some(path) = &args.snapshot {
            return print(prices::template(&types_of(path)?));
        }
        let types = args
            .query
            .iter()
            .map(|t| (t.clone(), None, prices::CapacityType::Unknown))
            .collect::<Vec<_>>();
        return print(prices::template(&types));
    }
    let query = args.query.as_deref().unwrap_or_default().to_ascii_lowercase();
    let (columns, rows) = rows(args.what);
    let has = |r: &&Vec<String>, wanted: &str| r.join("  ").to_ascii_lowercase().contains(wanted);
    let mut found: Vec<Vec<String>> = rows.iter().filter(|r| has(r, &query)).cloned().collect();
    if let Some(name) = another_name(args.what, &query).filter(|_| found.is_empty()) {
        found = rows
            .iter()
            .filter(|r| has(r, &name.to_ascii_lowercase()))
            .cloned()
            .collect();
    }
    let rows = found;
    if rows.is_empty() {
        return nothing(args.what, &query);
    }
    let shown = columns.len();
    let mut out = Vec::new();
    if args.verbose {
        // Whole, with where it comes from: for grep.
        for row in rows {
            writeln!(out, "{}", row.join("  ").trim_end())?;
        }
    } else {
        let options = RenderOptions {
            width: super::output::width(),
            ..RenderOptions::default()
        };
        let rows: Vec<Vec<String>> = rows.into_iter().map(|r| r.into_iter().take(shown).collect()).collect();
        columns::table(columns, &rows, &options, &mut out)?;
    }
    print(out)
}

/// What the catalogue calls what others call so: "NVIDIA H100 80GB HBM3", "a100-80", "nvidia-l4".
fn another_name(what: CatalogKind, query: &str) -> Option<String> {
    match what {
        CatalogKind::Gpus | CatalogKind::Instances | CatalogKind::Prices => Some(gpus::find(query)?.name.clone()),
        CatalogKind::Models => models::find(query)
            .filter(|m| m.source == models::ModelSource::Catalog)
            .map(|m| m.id),
        CatalogKind::Engines | CatalogKind::Checks => None,
    }
}

type Priced = (String, Option<String>, prices::CapacityType);

/// Instance types of a snapshot's nodes, each once, with region and capacity type.
fn types_of(path: &std::path::Path) -> Result<Vec<Priced>> {
    let report = report_of(&super::recorded::fleet(&[path.into()], None)?, &Settings::default());
    let of = |n: &crate::report::document::ReportNode| {
        let capacity = n.capacity_type.as_deref().and_then(prices::CapacityType::parse);
        Some((n.instance_type.clone()?, n.region.clone(), capacity.unwrap_or_default()))
    };
    let all: std::collections::BTreeSet<Priced> = report.nodes.iter().filter_map(of).collect();
    if all.is_empty() {
        bail!(
            "{}: no node of it tells its instance type: price such nodes by node or gpu",
            path.display()
        );
    }
    Ok(all.into_iter().collect())
}

fn nothing(what: CatalogKind, query: &str) -> Result<ExitCode> {
    let near = match what {
        CatalogKind::Models => models::nearest(query),
        CatalogKind::Gpus => gpus::nearest(query),
        _ => Vec::new(),
    };
    if near.is_empty() {
        bail!("nothing in the catalogue contains '{query}'");
    }
    bail!(
        "nothing in the catalogue contains '{query}'; nearest: {}",
        near.join(", ")
    )
}

const GPUS: [Column; 6] = [
    column("GPU", false, 12, 0),
    column("architecture", false, 9, 0),
    column("memory", true, 9, 0),
    column("bandwidth", true, 9, 0),
    column("bf16", true, 8, 0),
    column("TDP", true, 5, 0),
];
const INSTANCES: [Column; 8] = [
    column("cloud", false, 5, 0),
    column("instance type", false, 16, 0),
    column("offer", false, 8, 100),
    column("region", false, 9, 0),
    column("GPUs", false, 12, 0),
    column("$/h", true, 7, 0),
    column("spot", true, 7, 90),
    column("as of", false, 10, 110),
];
const MODELS: [Column; 6] = [
    column("model", false, 24, 0),
    column("size", true, 7, 0),
    column("active", true, 7, 90),
    column("tokens", true, 7, 0),
    column("weights", false, 8, 0),
    column("also", false, 10, 120),
];
const ENGINES_: [Column; 2] = [column("engine", false, 10, 0), column("metrics", false, 10, 0)];
const CHECKS_: [Column; 2] = [column("check", false, 20, 0), column("finds", false, 30, 0)];
const PRICES: [Column; 3] = [
    column("GPU", false, 14, 0),
    column("$/h", true, 8, 0),
    column("as of", false, 10, 0),
];

/// What each row shows, and behind those columns where it comes from.
fn rows(what: CatalogKind) -> (&'static [Column], Vec<Vec<String>>) {
    match what {
        CatalogKind::Gpus => (&GPUS, gpus::all().iter().map(gpu).collect()),
        CatalogKind::Instances => (&INSTANCES, instances::all().iter().map(instance).collect()),
        CatalogKind::Models => (&MODELS, models::all().iter().map(model).collect()),
        CatalogKind::Engines => {
            let facts = ENGINES.engines().iter().map(|e| e.facts());
            let rows = facts.map(|f| {
                vec![
                    f.kind.name().to_owned(),
                    f.endpoints.metrics.unwrap_or("none").to_owned(),
                ]
            });
            (&ENGINES_, rows.collect())
        }
        CatalogKind::Checks => {
            let row = |c: &&dyn crate::analyze::Check| vec![c.id().to_owned(), c.summary().to_owned()];
            (&CHECKS_, CHECKS.iter().map(row).collect())
        }
        CatalogKind::Prices => {
            let row = |g: &gpus::GpuFacts| {
                let median = instances::median(g)?;
                Some(vec![
                    g.name.clone(),
                    median.usd_per_hour.to_string(),
                    median.as_of.clone(),
                    "median over clouds of each cloud's cheapest on-demand price".to_owned(),
                ])
            };
            (&PRICES, gpus::all().iter().filter_map(row).collect())
        }
    }
}

fn gpu(gpu: &gpus::GpuFacts) -> Vec<String> {
    let number = |n: Option<f64>, unit: &str| n.map_or_else(|| "–".to_string(), |n| format!("{n:.0} {unit}"));
    vec![
        gpu.name.clone(),
        gpu.architecture.clone(),
        gpu.memory.to_string(),
        number(gpu.bandwidth_gb_s, "GB/s"),
        number(gpu.bf16_tflops, "TFLOPS"),
        number(gpu.tdp.map(|t| t.0), "W"),
        format!("{} (as of {})", gpu.source, gpu.as_of),
    ]
}

fn model(row: &models::Row) -> Vec<String> {
    let m = &row.facts;
    let billions = |n: Option<u64>| n.map_or_else(|| "?".to_string(), |n| format!("{:.1}B", n as f64 / 1e9));
    vec![
        m.id.clone(),
        billions(m.parameters),
        billions(m.active_parameters),
        m.max_positions.map_or_else(|| "?".to_string(), |n| n.to_string()),
        m.quantization
            .as_deref()
            .or(m.dtype.as_deref())
            .unwrap_or("?")
            .to_owned(),
        row.aliases.join(", "),
        format!("{}: {}", row.confidence, row.source),
    ]
}

fn instance(row: &instances::InstanceRow) -> Vec<String> {
    let usd = |p: Option<crate::units::UsdPerHour>| p.map_or_else(|| "–".to_string(), |p| p.to_string());
    vec![
        row.cloud.clone(),
        row.instance_type.clone(),
        row.offer.name().to_owned(),
        row.region.clone(),
        format!(
            "{} × {}",
            row.gpus.map_or_else(|| "?".to_string(), |n| n.to_string()),
            row.gpu
        ),
        usd(row.list),
        usd(row.spot),
        row.as_of.clone(),
        instances::source(&row.source_id).unwrap_or("unknown source").to_owned(),
    ]
}
