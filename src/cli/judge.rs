//! By what a fleet is judged: the same for all commands that judge one.

use clap::Args;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub(crate) struct JudgeArgs {
    /// Policy file: thresholds, gates, suppressions, prices, ownership (default: ./gpuwaste.toml where there is one).
    #[arg(long, value_name = "FILE", help_heading = "Judgement")]
    pub(crate) policy: Option<PathBuf>,
    /// Your prices (`gpuwaste catalog prices --template` writes a file to fill in); they win over the policy's.
    #[arg(long, value_name = "FILE", help_heading = "Judgement")]
    pub(crate) prices: Option<PathBuf>,
    /// What was really paid: a bill in the form of FOCUS 1.0 to 1.2 (CSV, plain or .gz), or a folder of them (repeatable). Machines that are
    /// on it cost what it says; it wins over all other prices.
    #[arg(long, value_name = "FILE", help_heading = "Judgement")]
    pub(crate) focus: Vec<PathBuf>,
    /// What one unit of the bill's currency is in US dollars (repeatable).
    #[arg(
        long,
        value_name = "EUR=1.08",
        help_heading = "Judgement",
        requires = "focus",
        hide_short_help = true
    )]
    pub(crate) currency_rate: Vec<String>,
    /// Models of your own: a folder of config.json or .gguf files, or a Hugging Face cache; they win over the catalogue.
    #[arg(long, value_name = "DIR", help_heading = "Judgement", hide_short_help = true)]
    pub(crate) models: Option<PathBuf>,
    /// What other fleets told: measured facts of servers (`gpuwaste learned --from SNAPSHOT -o FILE`), or with --ledger their record
    /// of decisions, whose votes count half (repeatable).
    #[arg(long, value_name = "FILE", help_heading = "Judgement")]
    pub(crate) learned: Vec<PathBuf>,
}
