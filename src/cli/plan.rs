//! `gpuwaste plan`.

use super::{ColorArg, JudgeArgs, SourceArgs};
use clap::{Args, ValueEnum};

#[derive(Clone, Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// At most this many moves and changes.
    #[arg(long, value_name = "N", help_heading = "Plan")]
    pub(crate) max_moves: Option<u64>,
    /// Move only pods of this namespace or workload (repeatable).
    #[arg(long, value_name = "NAMESPACE[/NAME]", help_heading = "Plan")]
    pub(crate) only: Vec<String>,
    /// GPUs of each kind that must stay free: a percentage, or `node` for the loss of the largest node.
    #[arg(long, value_name = "PERCENT|node", default_value = "0", help_heading = "Plan")]
    pub(crate) headroom: String,
    /// Also act on findings: end idle and stuck workloads (`now`: where their nodes can go already; `reusable`: the others), take
    /// replicas away (`replicas`), all of them measured; move Deployments to smaller tiers (`tier`), measured or estimated.
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',', help_heading = "Plan")]
    pub(crate) allow: Vec<AllowArg>,
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    /// Output format; `commands` is a shell script to be read first.
    #[arg(
        long,
        value_enum,
        default_value = "table",
        value_name = "FORMAT",
        help_heading = "Output"
    )]
    pub(crate) format: PlanFormat,
    /// Colour in the table.
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
pub(crate) enum AllowArg {
    Now,
    Reusable,
    Tier,
    Replicas,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    Table,
    Json,
    Markdown,
    Html,
    Commands,
}
