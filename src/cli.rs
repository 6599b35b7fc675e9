//! The command line, as clap sees it: raw arguments only. Defaults that depend on the policy file live in `settings`.

mod decide;
mod duration;
mod fit;
mod judge;
mod learned;
mod memory;
mod number;
mod plan;
mod report;
mod settle;
mod source;
mod view;

pub(crate) use decide::{DecideArgs, ReasonArg};
pub(crate) use fit::{FitArgs, FitEngine, FitFormat};
pub(crate) use judge::JudgeArgs;
pub(crate) use learned::{LearnedArgs, LearnedFormat, RankArg};
pub(crate) use memory::MemoryArgs;
pub(crate) use plan::{AllowArg, PlanArgs, PlanFormat};
pub(crate) use report::{ReportArgs, ScanArgs};
pub(crate) use settle::SettleArgs;
pub(crate) use source::SourceArgs;
pub(crate) use view::{LsArgs, LsFormat, LsLevel, ShowArgs, ShowFormat};

use self::number::{dollars, tokens};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes:
  0  done; no gate was breached (findings may exist)
  1  a gate was breached
  2  could not scan: usage, configuration, connection, or nothing could be read
  3  too little could be read for the verdict asked for, or a source that was named failed

gpuwaste only ever gets and lists. It sends nothing anywhere.";

/// Finds waste in GPU fleets: which model runs on which GPU, what it needs, and what it costs to leave it there.
#[derive(Debug, Parser)]
#[command(name = "gpuwaste", version, propagate_version = true, max_term_width = 110, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find waste in a live fleet, in snapshots, or in the built-in demo fleet.
    Scan(Box<ScanArgs>),
    /// A finding whole: what it rests on, how its dollars come about, what to do and with which commands.
    Show(Box<ShowArgs>),
    /// What there is: workload by workload, node by node, GPU by GPU.
    Ls(Box<LsArgs>),
    /// Record a snapshot of what can be read; judge nothing.
    Collect(Box<CollectArgs>),
    /// Which GPU tiers hold this model, how many requests each takes, what each costs.
    Fit(Box<FitArgs>),
    /// Which moves, in which order, empty whole nodes, and what the bill is after each; nothing is carried out.
    Plan(Box<PlanArgs>),
    /// What changed between two reports or snapshots, in dollars per hour and in work done.
    Diff(DiffArgs),
    /// Decide about findings: claim, applied, dismiss, snooze, reopen; into a ledger of your repository.
    Decide(Box<DecideArgs>),
    /// What was done about findings, and what it saved, from a series of reports or snapshots; into the ledger.
    Settle(SettleArgs),
    /// What became of decisions: how often a check was right, what was saved of what was said, what follows for the policy.
    Learned(LearnedArgs),
    /// Find waste in manifests before they are deployed: files, folders, `-` for Helm and kustomize output.
    Check(Box<CheckArgs>),
    /// What a check means, how its dollars are computed, and when it is wrong.
    Explain {
        /// A check id; without one, all checks in a line each.
        check: Option<String>,
    },
    /// What can be read, with which rights, and what each check lacks.
    Doctor(Box<DoctorArgs>),
    /// The least rights a scan needs, as YAML for `kubectl apply -f -`.
    Rbac(RbacArgs),
    /// The facts gpuwaste judges by: GPUs, instances, models, engines, checks, prices.
    Catalog(CatalogArgs),
    /// The JSON Schema of a document that gpuwaste writes or reads.
    Schema {
        #[arg(value_enum)]
        document: SchemaDocument,
    },
    /// A completion script for your shell.
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// The manual page, in roff: of gpuwaste, or of one command.
    Man {
        /// Of this command, for example "scan".
        command: Option<String>,
        /// Write one page a command into this folder.
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
    /// The version, as --version prints it.
    #[command(hide = true)]
    Version,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CheckArgs {
    /// Manifests: files, folders, or `-` for stdin.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub(crate) manifests: Vec<PathBuf>,
    /// The GPU of workloads that do not say which ("H100", "nvidia-l4").
    #[arg(long, value_name = "NAME", help_heading = "Judgement")]
    pub(crate) gpu: Option<String>,
    /// The region whose prices count (default: the cloud's main one).
    #[arg(long, value_name = "REGION", help_heading = "Judgement")]
    pub(crate) region: Option<String>,
    /// Tokens of one request, prompt and output.
    #[arg(long, value_name = "N", value_parser = tokens, requires = "concurrency", help_heading = "Judgement")]
    pub(crate) context_tokens: Option<u64>,
    /// Requests at once on one replica.
    #[arg(long, value_name = "N", requires = "context_tokens", help_heading = "Judgement")]
    pub(crate) concurrency: Option<u64>,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
    /// Say less on stderr.
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,
    /// Say more on stderr.
    #[arg(short, long, help_heading = "Output")]
    pub(crate) verbose: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CollectArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Snapshot to write; a name ending in .gz or .zst is compressed, `-` is stdout.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Policy whose thresholds say which bins of history are counted as bad (default: ./gpuwaste.toml, else built in).
    #[arg(long, value_name = "FILE", help_heading = "Judgement")]
    pub(crate) policy: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DiffArgs {
    /// Report (scan --format json) or snapshot (collect); `-` is stdin.
    pub(crate) old: PathBuf,
    /// The later one.
    pub(crate) new: PathBuf,
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    /// Fail (1) when waste that OLD does not have is above this, counted as `scan --baseline` counts it.
    #[arg(long, value_name = "USD_PER_HOUR", allow_negative_numbers = true, value_parser = dollars, help_heading = "Gates")]
    pub(crate) max_new_waste: Option<f64>,
    /// Output format.
    #[arg(
        long,
        value_enum,
        default_value = "table",
        value_name = "FORMAT",
        help_heading = "Output"
    )]
    pub(crate) format: DiffFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffFormat {
    Table,
    Json,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Output format.
    #[arg(
        long,
        value_enum,
        default_value = "table",
        value_name = "FORMAT",
        help_heading = "Output"
    )]
    pub(crate) format: DiffFormat,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RbacArgs {
    /// Roles in these namespaces instead of a ClusterRole (repeatable).
    #[arg(short, long, value_name = "NS")]
    pub(crate) namespace: Vec<String>,
    /// Further rights: scrape, prometheus=NS/SVC:PORT, configmaps=NS/NAME (repeatable).
    #[arg(long, value_name = "WHAT")]
    pub(crate) with: Vec<String>,
    /// Also print a CronJob that scans every hour with these rights.
    #[arg(long)]
    pub(crate) cronjob: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CatalogArgs {
    #[arg(value_enum)]
    pub(crate) what: CatalogKind,
    /// Only rows that contain this.
    pub(crate) query: Option<String>,
    /// With `prices`: write a price file to fill in.
    #[arg(long)]
    pub(crate) template: bool,
    /// With --template: one entry for each instance type of this snapshot.
    #[arg(long, value_name = "FILE", requires = "template")]
    pub(crate) snapshot: Option<PathBuf>,
    /// Say where each row comes from.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CatalogKind {
    Gpus,
    Instances,
    Models,
    Engines,
    Checks,
    Prices,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaDocument {
    Diff,
    Facts,
    Plan,
    Report,
    Snapshot,
    Policy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfidenceArg {
    Measured,
    Estimated,
    Assumed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorArg {
    Auto,
    Always,
    Never,
}

impl Command {
    /// Where it reads from, of commands that read a fleet.
    pub(crate) fn source_mut(&mut self) -> Option<&mut SourceArgs> {
        match self {
            Self::Scan(a) => Some(&mut a.source),
            Self::Show(a) => Some(&mut a.source),
            Self::Ls(a) => Some(&mut a.source),
            Self::Collect(a) => Some(&mut a.source),
            Self::Doctor(a) => Some(&mut a.source),
            Self::Fit(a) => Some(&mut a.source),
            Self::Plan(a) => Some(&mut a.source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_says_what_it_is() {
        for command in Cli::command().get_subcommands() {
            for arg in command.get_arguments() {
                let positional = arg.is_positional() && !arg.get_possible_values().is_empty();
                assert!(
                    arg.get_help().is_some() || positional,
                    "{} --{}",
                    command.get_name(),
                    arg.get_id()
                );
            }
        }
    }
}
