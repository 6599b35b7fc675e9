//! Slurm: what its commands print on a login node, or printed when an administrator saved it, or slurmrestd tells. Read only, a few
//! calls, never one a job.

mod commands;
mod folder;
mod rest;

use crate::options::{CollectOptions, StoreMode};
use crate::prometheus;
use crate::snapshot::cluster::{Cluster, Node};
use crate::snapshot::past::PastUse;
use crate::snapshot::{Gap, SCHEMA, Snapshot, Source, SourceKind, SourceStatus};
use anyhow::{Result, anyhow, bail};
use gpuwaste_slurm::account::{self, Accounting};
use gpuwaste_slurm::cluster::{Built, Input, build};
use gpuwaste_slurm::config::Config;
use gpuwaste_slurm::{Listed, activity, job, node, steps};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::path::PathBuf;

pub use commands::dry_run;
pub use folder::NAMES;
pub use rest::Rest;

/// Why what is hidden is not known.
const NO_CONFIG: &str = "'scontrol show config' was not read";
/// Outputs older than this do not meet a store that is asked now.
const TOGETHER: i64 = 3600;

/// Where Slurm is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The commands of this host.
    Commands,
    /// A folder of saved outputs.
    Folder(PathBuf),
    Rest(Rest),
}

impl Place {
    pub fn name(&self) -> String {
        match self {
            Self::Commands => "this host's commands".into(),
            Self::Folder(folder) => folder.display().to_string(),
            Self::Rest(rest) => rest.name(),
        }
    }
}

/// The texts of one cluster, as they were printed. `Err`: why one was not.
struct Outputs {
    at: Timestamp,
    /// Why that is not certain.
    at_unsure: Option<String>,
    config: Config,
    /// Why `config` does not tell what is hidden, where it does not.
    hidden: &'static str,
    nodes: Result<Output, String>,
    jobs: Result<Output, String>,
    /// Steps that run; `None`: they were not listed.
    steps: Option<String>,
    /// One text a day, and why the others are missing.
    accounting: Vec<Result<Output, String>>,
    /// Local times are of this zone.
    zone: TimeZone,
}

/// One output, in one of two forms.
enum Output {
    Json(String),
    Text(String),
}

/// Reads a Slurm cluster.
///
/// # Errors
/// When its nodes could not be read; anything else that is missing is a gap.
pub async fn collect(place: &Place, options: &CollectOptions) -> Result<Snapshot> {
    let known = options.clone();
    let outputs = match place.clone() {
        Place::Commands => tokio::task::spawn_blocking(move || commands::read(&known)).await??,
        Place::Folder(folder) => tokio::task::spawn_blocking(move || folder::read(&folder)).await??,
        Place::Rest(rest) => rest::read(&rest, options.timeout).await?,
    };
    let taken_at = outputs.at;
    let mut gaps = Vec::new();
    let mut built = joined(&outputs, options, &mut gaps)?;
    let name = built.cluster.name.clone();
    built.cluster.pods_read.namespaces.clone_from(&options.namespaces);
    let mut sources = Vec::new();
    let mut window_seconds = None;
    if let StoreMode::Url(_) = options.store.mode {
        let apart = Timestamp::now().duration_since(taken_at).as_secs().abs();
        if apart > TOGETHER {
            gaps.push(gap(
                &name,
                "what its GPUs did",
                format!("the outputs are {} h old, and a store is asked of now", apart / 3600),
                "jobs are not judged idle or at work",
                "save the outputs again, or scan with --slurm on a login node",
            ));
        } else if let Err(error) = measured(&mut built.cluster, options, &mut sources, &mut gaps).await {
            gaps.push(gap(
                &name,
                "what its GPUs did",
                format!("{error:#}"),
                "jobs are not judged idle or at work",
                "give the URL of a store that scrapes dcgm-exporter on the nodes",
            ));
        }
        window_seconds = built.cluster.history.as_ref().map(|_| options.window.as_secs());
    } else {
        gaps.push(gap(
            &name,
            "what its GPUs did",
            "no store of metrics was named: Slurm knows who holds a GPU, not what it does".into(),
            "jobs are not judged idle or at work; what is free or out of service is",
            "give --prometheus URL",
        ));
    }
    gaps.extend(built.gaps);
    sources.push(Source {
        kind: SourceKind::Slurm,
        name: name.clone(),
        status: if outputs.jobs.is_ok() {
            SourceStatus::Ok
        } else {
            SourceStatus::Partial
        },
        detail: format!(
            "{}{}, from {}",
            built
                .cluster
                .version
                .as_ref()
                .map_or(String::new(), |v| format!("Slurm {v}, ")),
            built.detail,
            place.name()
        ),
        named: true,
    });
    gaps.sort();
    gaps.dedup();
    Ok(Snapshot {
        schema: SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        taken_at,
        window_seconds,
        observe_seconds: None,
        clusters: vec![built.cluster],
        sources,
        gaps,
    })
}

/// What could not be read at all, as a source that failed beside others.
pub fn failed(place: &Place, error: &anyhow::Error) -> (Source, Gap) {
    let source = Source {
        kind: SourceKind::Slurm,
        name: place.name(),
        status: SourceStatus::Failed,
        detail: format!("{error:#}"),
        named: true,
    };
    let gap = gap(
        &place.name(),
        "the whole cluster",
        format!("{error:#}"),
        "nothing of this cluster is in the report",
        "see 'gpuwaste doctor --slurm'",
    );
    (source, gap)
}

fn gap(source: &str, what: &str, reason: String, effect: &str, remedy: &str) -> Gap {
    Gap {
        source: format!("slurm {source}"),
        what: what.into(),
        reason,
        effect: effect.into(),
        remedy: remedy.into(),
    }
}

/// Texts into a cluster: no I/O.
fn joined(outputs: &Outputs, options: &CollectOptions, gaps: &mut Vec<Gap>) -> Result<Built> {
    let nodes: Listed<node::Node> = match &outputs.nodes {
        Ok(Output::Json(text)) => {
            node::of_json(text).map_err(|why| anyhow!("could not read the list of nodes: {why}"))?
        }
        Ok(Output::Text(text)) => node::of_text(text, &outputs.zone),
        Err(why) => bail!("could not list the nodes: {why}"),
    };
    if nodes.items.is_empty() {
        bail!("the list of nodes names none: is it the output of 'scontrol show nodes --json' or 'sinfo --json'?");
    }
    let config = outputs.config.clone();
    let source = options
        .cluster_name
        .clone()
        .or_else(|| config.cluster.clone())
        .unwrap_or_else(|| "slurm".into());
    let mut unread =
        |what: &str, why: String, effect: &str, remedy: &str| gaps.push(gap(&source, what, why, effect, remedy));
    let jobs = match &outputs.jobs {
        Ok(Output::Json(text)) => job::of_json(text),
        Ok(Output::Text(text)) => Ok(job::of_text(text, &outputs.zone)),
        Err(why) => Err(why.clone()),
    };
    if let Err(why) = &jobs {
        unread(
            "jobs",
            why.clone(),
            "whose GPUs are allocated is not known: none of them is judged",
            "let 'squeue --all --json' be run, or save its output as jobs.json",
        );
    }
    if !config.read {
        unread(
            "what is hidden",
            outputs.hidden.into(),
            "whether PrivateData hides jobs or nodes is not known",
            "let 'scontrol show config' be run, or save its output as config.txt",
        );
    } else if config.private.iter().any(|p| p == "nodes") {
        unread(
            "nodes of hidden partitions",
            "PrivateData hides them".into(),
            "they are not in the report",
            "run as an operator",
        );
    }
    if let Some(why) = &outputs.at_unsure {
        unread(
            "when the outputs were saved",
            why.clone(),
            "ages are counted to that moment",
            "save 'date +%s' as taken.txt beside them",
        );
    }
    let mut built = build(&Input {
        name: options.cluster_name.clone(),
        config,
        nodes,
        jobs: jobs.ok(),
        steps: outputs.steps.as_deref().map(steps::of_text),
        is_instance: options.is_gpu_instance,
    });
    built.cluster.past = past(
        outputs,
        &source,
        built.cluster.nodes.as_deref().unwrap_or_default(),
        gaps,
    );
    Ok(built)
}

/// Jobs that have ended, by who answers for them.
fn past(outputs: &Outputs, source: &str, nodes: &[Node], gaps: &mut Vec<Gap>) -> Vec<PastUse> {
    let mut all = Accounting::default();
    let mut missing: Vec<String> = Vec::new();
    for day in &outputs.accounting {
        let added = match day {
            Ok(Output::Text(text)) => {
                account::add(text, &outputs.zone, &mut all);
                Ok(())
            }
            Ok(Output::Json(text)) => account::add_json(text, &mut all),
            Err(why) => Err(why.clone()),
        };
        missing.extend(added.err());
    }
    if let Some(why) = missing.first() {
        gaps.push(gap(
            source,
            "jobs that have ended",
            why.clone(),
            "GPU-hours of the past by user are not told",
            "let 'sacct' be run (it needs slurmdbd), or save its output as sacct.txt",
        ));
    }
    if all.odd > 0 {
        gaps.push(gap(
            source,
            &format!("{} lines of sacct", all.odd),
            "they are not what sacct prints".into(),
            "their GPU-hours are not counted",
            "save it with the command that 'gpuwaste collect --slurm --dry-run' lists",
        ));
    }
    let sums = all.by_owner(outputs.at.as_second(), nodes);
    let sum = |of: fn(&PastUse) -> f64| sums.iter().map(of).sum::<f64>();
    let (held, watched) = (sum(|p| p.gpu_hours), sum(|p| p.watched_gpu_hours));
    if held > 0.0 && watched <= 0.0 {
        gaps.push(gap(
            source,
            "what jobs that have ended did",
            "no summary of jobstats stands in AdminComment".into(),
            "their GPU-hours are told, and not whether they were used",
            "let jobstats' epilogue write one (docs/slurm.md)",
        ));
    }
    sums
}

/// Device series of the nodes' exporters, onto nodes and jobs.
async fn measured(
    cluster: &mut Cluster,
    options: &CollectOptions,
    sources: &mut Vec<Source>,
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    let mut hosts = prometheus::bare::collect(options).await?;
    let Some(read) = hosts.clusters.pop() else {
        bail!("the store tells of no host")
    };
    sources.append(&mut hosts.sources);
    // Who holds what, the jobs tell.
    hosts.gaps.retain(|g| g.what != prometheus::bare::HOLDERS);
    gaps.append(&mut hosts.gaps);
    let matched = activity::attach(cluster, read.gpus, read.history);
    if matched.nodes == 0 {
        bail!("it shows no GPU of a node of this cluster by its host's name (label Hostname)");
    }
    if matched.unmatched > 0 {
        gaps.push(gap(
            &cluster.name,
            &format!("what the GPUs of {} nodes did", matched.unmatched),
            "the store shows no GPU of these hosts, or another number of them".into(),
            "jobs there are not judged idle or at work",
            "let it scrape dcgm-exporter on them, under the node's name (label Hostname)",
        ));
    }
    Ok(())
}
