//! `gpuwaste settle`.

use super::JudgeArgs;
use clap::Args;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub(crate) struct SettleArgs {
    /// Reports (scan --format json) or snapshots (collect), in order of time, or folders of them, also s3://, gs://, az://; the first
    /// shows what was there before.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) series: Vec<PathBuf>,
    /// The ledger's folder.
    #[arg(long, value_name = "DIR", default_value = gpuwaste_decisions::store::DEFAULT)]
    pub(crate) ledger: PathBuf,
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    /// Say what would be written; write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
