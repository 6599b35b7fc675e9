//! `gpuwaste learned`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub(crate) struct LearnedArgs {
    /// The ledger's folder.
    #[arg(long, value_name = "DIR", default_value = gpuwaste_decisions::store::DEFAULT)]
    pub(crate) ledger: PathBuf,
    /// Measured facts instead of decisions: what the servers of these snapshots (files, folders, s3://, gs://, az://) told of their memory
    /// and speed.
    #[arg(long, value_name = "SNAPSHOT", num_args = 1.., conflicts_with_all = ["ledger", "replay"], help_heading = "Sharing")]
    pub(crate) from: Vec<PathBuf>,
    /// What others wrote with -o, joined: records, whose votes count half, or measured facts (repeatable).
    #[arg(long, value_name = "FILE", help_heading = "Sharing")]
    pub(crate) learned: Vec<PathBuf>,
    /// Write the record, or with --from the measured facts, for others, joined with --learned: no names, no prices, no cluster ids.
    #[arg(short, long, value_name = "FILE", help_heading = "Sharing")]
    pub(crate) output: Option<PathBuf>,
    /// Say what proposals would have changed in this snapshot (repeatable).
    #[arg(long, value_name = "SNAPSHOT", help_heading = "Judgement")]
    pub(crate) replay: Vec<PathBuf>,
    /// Policy that proposals are laid over (default: ./gpuwaste.toml, else built in).
    #[arg(long, value_name = "FILE", help_heading = "Judgement")]
    pub(crate) policy: Option<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) format: LearnedFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LearnedFormat {
    Table,
    Json,
    /// One page: predicted against realised over time, by check and by owner.
    Html,
}

/// What findings are ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RankArg {
    Found,
    Expected,
}
