//! What could be read, with which rights, in which metrics' words, and what each check lacks.

use super::source;
use crate::cli::{DiffFormat, DoctorArgs};
use crate::judge::{self, report_on};
use crate::report::document::{CheckCoverage, Report, Tool};
use crate::report::lines::same_gaps;
use crate::report::text;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{Cluster, Scheduler, UnreadKind};
use crate::snapshot::engine::EngineReading;
use crate::snapshot::gpu::Generation;
use crate::snapshot::{Gap, Source};
use crate::text::message;
use anyhow::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::ExitCode;

pub(super) fn doctor(args: &DoctorArgs) -> Result<ExitCode> {
    if args.source.dry_run {
        super::dry_run::dry_run(&args.source)?;
        return Ok(ExitCode::SUCCESS);
    }
    let settings = Settings::default();
    let snapshot = source::snapshot(&args.source, Vec::new(), settings.thresholds.bin_limits())?;
    let fleet = judge::join(&snapshot, &settings);
    let (report, verdict) = report_on(&snapshot, &fleet, &settings);
    if args.format == DiffFormat::Json {
        let told = Told::of(&report, &snapshot)?;
        super::print(serde_json::to_string_pretty(&told)? + "\n")?;
        return Ok(ExitCode::from(verdict.code));
    }
    // What servers and tenants said is in it everywhere: it is made harmless as a whole.
    let mut out: Vec<u8> = Vec::new();
    sources(&mut out, &report)?;
    for cluster in &snapshot.clusters {
        writeln!(out, "\nRights in {}", cluster.name)?;
        for (right, what, answer) in rights(cluster) {
            writeln!(out, "  {:<3} {right:<34} {what}", answer.name())?;
        }
    }
    metrics(&mut out, &snapshot)?;
    missing(&mut out, &report)?;
    let shown = message(&String::from_utf8_lossy(&out));
    let mut out = io::stdout().lock();
    out.write_all(shown.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::from(verdict.code))
}

/// `--format json`: the same, as data.
#[derive(Serialize)]
struct Told {
    schema: u32,
    tool: Tool,
    sources: Vec<Source>,
    clusters: Vec<Rights>,
    metrics: Vec<Vocabulary>,
    gaps: Vec<Gap>,
    checks: Vec<CheckCoverage>,
}

#[derive(Serialize)]
struct Rights {
    cluster: String,
    rights: Vec<Access>,
}

#[derive(Serialize)]
struct Access {
    right: String,
    /// yes, no, or "-" where nothing asked for it.
    granted: &'static str,
    read: String,
}

/// Whose words the figures came in.
#[derive(Serialize)]
struct Vocabulary {
    name: String,
    count: usize,
    of: &'static str,
    figures: Vec<&'static str>,
}

impl Told {
    fn of(report: &Report, snapshot: &Snapshot) -> Result<Self> {
        let rights = |cluster: &Cluster| Rights {
            cluster: cluster.name.clone(),
            rights: rights(cluster)
                .into_iter()
                .map(|(right, read, answer)| Access {
                    right,
                    granted: answer.name(),
                    read,
                })
                .collect(),
        };
        Ok(Self {
            schema: report.schema,
            tool: report.tool.clone(),
            sources: report.sources.clone(),
            clusters: snapshot.clusters.iter().map(rights).collect(),
            metrics: vocabularies(snapshot)?,
            gaps: report.gaps.clone(),
            checks: report.checks.clone(),
        })
    }
}

fn word(value: impl Serialize) -> Result<String> {
    Ok(serde_json::to_value(value)?.as_str().unwrap_or_default().to_string())
}

fn sources(out: &mut impl Write, report: &Report) -> Result<()> {
    writeln!(out, "Sources")?;
    for source in &report.sources {
        let (status, kind) = (word(source.status)?, word(source.kind)?);
        writeln!(out, "  {status:<8} {kind:<10} {}: {}", source.name, source.detail)?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    /// Nothing asked for it.
    Unused,
}

impl Answer {
    fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unused => "-",
        }
    }

    fn of(read: bool) -> Self {
        if read { Self::Yes } else { Self::No }
    }
}

/// Each right that a scan uses, as it went; why not is told under "Not read".
fn rights(cluster: &Cluster) -> Vec<(String, String, Answer)> {
    if cluster.scheduler == Scheduler::Slurm {
        return of_slurm(cluster);
    }
    let row = |right: &str, what: String, answer: Answer| (right.to_string(), what, answer);
    let counted = |right: &str, what: &str, n: Option<usize>| {
        let told = n.map_or_else(|| "not read".into(), |n| format!("{n} {what}"));
        row(right, told, Answer::of(n.is_some()))
    };
    let scope = &cluster.pods_read;
    let readable = scope.namespaces.len().saturating_sub(scope.refused.len());
    let pods = if scope.complete {
        format!("{} on GPU nodes or waiting for GPUs", cluster.pods.len())
    } else if readable > 0 {
        let refused = scope.refused.join(", ");
        let but = if refused.is_empty() {
            String::new()
        } else {
            format!("; not in {refused}")
        };
        format!("{} in {readable} namespaces, not elsewhere{but}", cluster.pods.len())
    } else {
        "not read".into()
    };
    let unread = cluster.unread.iter().filter(|u| u.what == UnreadKind::Owner);
    let mut unread: Vec<String> = unread.filter_map(|u| u.name.clone()).collect();
    unread.extend(cluster.owners_refused.iter().cloned());
    let owners = if unread.is_empty() {
        format!("{} of the pods' owners", cluster.controllers.len())
    } else {
        let shown = unread[..unread.len().min(3)].join(", ");
        format!("{} read, {} not: {shown}", cluster.controllers.len(), unread.len())
    };
    let [slices, classes, claims] = dra_rights(cluster);
    let scraped: BTreeSet<&str> = cluster.gpus.iter().map(|g| g.node.as_str()).collect();
    let asked = scraped.len() + cluster.engines.len();
    vec![
        counted("list nodes", "with GPUs", cluster.nodes.as_ref().map(Vec::len)),
        row("list pods", pods, Answer::of(scope.complete || readable > 0)),
        slices,
        classes,
        claims,
        row("get/list owners", owners, Answer::of(unread.is_empty())),
        counted(
            "list horizontalpodautoscalers",
            "autoscalers",
            cluster.autoscalers.as_ref().map(Vec::len),
        ),
        counted(
            "list poddisruptionbudgets",
            "budgets",
            cluster.disruption_budgets.as_ref().map(Vec::len),
        ),
        counted(
            "list pods.metrics.k8s.io",
            "pods' CPU use",
            cluster.pod_usage.as_ref().map(Vec::len),
        ),
        row(
            "get namespace kube-system",
            cluster
                .uid
                .as_ref()
                .map_or("not read", |_| "the cluster's identity")
                .into(),
            Answer::of(cluster.uid.is_some()),
        ),
        row(
            "get pods/proxy (or pod addresses)",
            if asked == 0 {
                "nothing was read through it".into()
            } else {
                format!(
                    "exporters on {} nodes, {} servers",
                    scraped.len(),
                    cluster.engines.len()
                )
            },
            if asked > 0 { Answer::Yes } else { Answer::Unused },
        ),
        row(
            "Prometheus",
            cluster
                .history
                .as_ref()
                .map_or("not read".into(), |h| format!("{} ({})", h.store, h.flavour)),
            Answer::of(cluster.history.is_some()),
        ),
    ]
}

/// What a user of a Slurm cluster may see.
fn of_slurm(cluster: &Cluster) -> Vec<(String, String, Answer)> {
    let holding = cluster.pods.iter().filter(|p| p.node.is_some());
    let (shown, hidden): (Vec<_>, Vec<_>) = holding.partition(|p| !p.name.starts_with("not-shown"));
    let jobs = format!(
        "{} on GPU nodes, {} that wait for GPUs{}",
        shown.len(),
        cluster.pods.len() - shown.len() - hidden.len(),
        if hidden.is_empty() {
            String::new()
        } else {
            format!(
                "; on {} nodes GPUs are allocated to jobs that are not shown",
                hidden.len()
            )
        }
    );
    let silent = cluster.pods_read.unread_on.len();
    let nodes = cluster.nodes.as_ref().map_or(0, Vec::len);
    let hours: f64 = cluster.past.iter().map(|p| p.gpu_hours).sum();
    let past = if cluster.past.is_empty() {
        "not read, or nothing in it".into()
    } else {
        format!("{hours:.0} GPU-hours of {} owners", cluster.past.len())
    };
    let history = cluster.history.as_ref();
    let row = |right: &str, what: String, answer: Answer| (right.to_string(), what, answer);
    vec![
        row(
            "list nodes",
            format!("{nodes} with GPUs"),
            Answer::of(cluster.nodes.is_some()),
        ),
        row(
            "which GPUs are allocated",
            format!("of {} nodes", nodes.saturating_sub(silent)),
            Answer::of(silent == 0),
        ),
        row("list jobs", jobs, Answer::of(hidden.is_empty())),
        row("accounting (sacct)", past, Answer::of(!cluster.past.is_empty())),
        row(
            "Prometheus",
            history.map_or("not read".into(), |h| format!("{} ({})", h.store, h.flavour)),
            Answer::of(history.is_some()),
        ),
    ]
}

/// resource.k8s.io; an older API server does not serve it, and then nothing was asked for.
fn dra_rights(cluster: &Cluster) -> [(String, String, Answer); 3] {
    let rights = ["list resourceslices", "list deviceclasses", "list resourceclaims"];
    let Some(dra) = &cluster.dra else {
        return rights.map(|right| (right.into(), "resource.k8s.io is not served".into(), Answer::Unused));
    };
    let pools = dra.pools.as_ref().map(|pools| {
        let devices: usize = pools.iter().map(|p| p.devices.len()).sum();
        format!("{devices} GPU devices in {} pools", pools.len())
    });
    let classes = dra.classes.as_ref().map(|c| format!("{} device classes", c.len()));
    let claims = dra.claims.as_ref().map(|c| {
        let elsewhere = if dra.claims_complete { "" } else { ", not elsewhere" };
        format!("{} claims{elsewhere}", c.len())
    });
    let mut told = [pools, classes, claims].into_iter();
    rights.map(|right| {
        let told = told.next().flatten();
        let answer = Answer::of(told.is_some());
        (right.into(), told.unwrap_or_else(|| "not read".into()), answer)
    })
}

/// Whose vocabularies were read, and which figures they told.
fn vocabularies(snapshot: &Snapshot) -> Result<Vec<Vocabulary>> {
    let mut devices: BTreeMap<String, (usize, BTreeSet<&'static str>)> = BTreeMap::new();
    let mut engines: BTreeMap<String, (usize, BTreeSet<&'static str>)> = BTreeMap::new();
    for gpu in snapshot.clusters.iter().flat_map(|c| &c.gpus) {
        let name = gpu.generation.map_or("an exporter", Generation::name);
        let entry = devices.entry(name.into()).or_default();
        entry.0 += 1;
        for r in &gpu.readings {
            let told = [
                ("GPU_UTIL", r.gpu_util.is_some()),
                ("GR_ENGINE", r.gr_engine.is_some()),
                ("SM", r.sm_active.is_some()),
                ("tensor", r.tensor.is_some()),
                ("DRAM", r.dram.is_some()),
                ("power", r.power.is_some()),
                ("memory", r.memory_used.is_some()),
            ];
            entry.1.extend(told.iter().filter(|(_, t)| *t).map(|(n, _)| *n));
            entry.1.extend(gpu.maps_pods.then_some("holders"));
        }
    }
    for scrape in snapshot.clusters.iter().flat_map(|c| &c.engines) {
        let name = match scrape.engine {
            Some(engine) => word(engine)?,
            None => "a server without metrics".into(),
        };
        let version = scrape.identity.version.as_deref().unwrap_or("of unknown version");
        let entry = engines.entry(format!("{name} {version}")).or_default();
        entry.0 += 1;
        entry.1.extend(scrape.readings.iter().flat_map(figures));
        entry
            .1
            .extend(scrape.process_started_at.is_some().then_some("process start"));
    }
    let mut all = Vec::new();
    for (rows, of) in [(devices, "devices"), (engines, "pods")] {
        all.extend(rows.into_iter().map(|(name, (count, told))| Vocabulary {
            name,
            count,
            of,
            figures: told.into_iter().collect(),
        }));
    }
    Ok(all)
}

fn metrics(out: &mut impl Write, snapshot: &Snapshot) -> Result<()> {
    writeln!(out, "\nMetrics")?;
    let all = vocabularies(snapshot)?;
    if all.is_empty() {
        writeln!(out, "  none were read")?;
    }
    for v in all {
        let told = if v.figures.is_empty() {
            "no figure".into()
        } else {
            v.figures.join(", ")
        };
        writeln!(out, "  {}, {} {}: {told}", v.name, v.count, v.of)?;
    }
    Ok(())
}

fn figures(r: &EngineReading) -> impl Iterator<Item = &'static str> {
    [
        ("running", r.running.is_some()),
        ("waiting", r.waiting.is_some()),
        ("KV use", r.kv_usage.is_some()),
        ("requests", r.requests.is_some()),
        ("tokens", r.output_tokens.is_some()),
        ("preemptions", r.preemptions.is_some()),
        ("latencies", r.e2e_latency.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, told)| told.then_some(name))
}

fn missing(out: &mut impl Write, report: &Report) -> Result<()> {
    let gaps = same_gaps(report);
    if gaps.is_empty() {
        writeln!(out, "\nNot read\n  nothing is missing")?;
    } else {
        writeln!(out, "\nNot read: {}", text::plural(gaps.len() as u64, "gap"))?;
    }
    for gap in &gaps {
        writeln!(
            out,
            "  {}: {} ({})\n      effect: {}\n      remedy: {}",
            gap.sources, gap.what, gap.reason, gap.effect, gap.remedy
        )?;
    }
    writeln!(out, "\nChecks")?;
    for check in &report.checks {
        writeln!(out, "  {}: {} judged", check.id, text::gpus(check.assessed_gpus))?;
        for gap in &check.not_assessed {
            writeln!(
                out,
                "      {} not: {}; {}",
                text::gpus(gap.gpus),
                gap.reason,
                gap.remedy
            )?;
        }
    }
    Ok(())
}
