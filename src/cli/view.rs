//! Arguments of `gpuwaste show` and `gpuwaste ls`.

use super::{ColorArg, JudgeArgs, SourceArgs};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub(crate) struct ShowArgs {
    /// A finding's id or the beginning of one, its rank in the table, or the name of a workload or pool with one finding.
    #[arg(value_name = "ID|RANK|NAME")]
    pub(crate) finding: String,
    /// Look it up in this report (scan --format json) instead of scanning.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["snapshot", "demo", "local", "context", "all_contexts"], help_heading = "Sources")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    /// Output format.
    #[arg(
        long,
        value_enum,
        default_value = "table",
        value_name = "FORMAT",
        help_heading = "Output"
    )]
    pub(crate) format: ShowFormat,
    /// Colour.
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        value_name = "WHEN",
        help_heading = "Output"
    )]
    pub(crate) color: ColorArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowFormat {
    Table,
    Json,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LsArgs {
    /// What to list.
    #[arg(value_enum, default_value = "workloads")]
    pub(crate) level: LsLevel,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    /// Output format; JSON has all levels at once.
    #[arg(
        long,
        value_enum,
        default_value = "table",
        value_name = "FORMAT",
        help_heading = "Output"
    )]
    pub(crate) format: LsFormat,
    /// Colour.
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        value_name = "WHEN",
        help_heading = "Output"
    )]
    pub(crate) color: ColorArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LsLevel {
    /// Engine, model, GPUs, whether it fits, activity, price, age, owner of each.
    Workloads,
    Nodes,
    /// One row a GPU, MIG instance or part.
    Gpus,
    /// Cluster, node, GPU and pod, each below the other.
    Tree,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LsFormat {
    Table,
    Json,
    Csv,
}
