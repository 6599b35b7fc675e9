//! `gpuwaste scan`, and what `check` has in common with it: how findings are judged, and where the report goes.

use super::number::{coverage, dollars, percent, rows};
use super::{ColorArg, ConfidenceArg, JudgeArgs, RankArg, SourceArgs};
use crate::report::Format;
use clap::Args;
use std::path::PathBuf;

const SCAN_EXAMPLES: &str = "Examples:
  gpuwaste scan                          the current context of your kubeconfig
  gpuwaste scan --demo                   a recorded fleet: no cluster needed
  gpuwaste scan -n ml --format html=report.html
  gpuwaste scan --baseline base.json --max-new-waste 5     exit code 1 where it is exceeded

'--help' has all options; 'gpuwaste explain' the checks and a glossary.";

#[derive(Clone, Debug, Args)]
#[command(after_help = SCAN_EXAMPLES)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
    /// List what there is, workload by workload, and judge nothing (as `gpuwaste ls`).
    #[arg(long, help_heading = "Output", hide_short_help = true)]
    pub(crate) list: bool,
    /// Print the policy in force, each value with its source, and scan nothing.
    #[arg(long, help_heading = "Judgement", hide_short_help = true)]
    pub(crate) print_policy: bool,
}

/// What `--format` takes: the formats there are.
fn formats() -> String {
    let names: Vec<&str> = Format::ALL.iter().map(|(_, name)| *name).collect();
    format!("Output format, or FORMAT=FILE (repeatable): {}", names.join(", "))
}

/// How findings are judged and where the report goes: the same for a fleet and for manifests.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
    /// Run only this check (repeatable).
    #[arg(long, value_name = "CHECK", help_heading = "Judgement", hide_short_help = true)]
    pub(crate) check: Vec<String>,
    /// Leave this check out (repeatable).
    #[arg(long, value_name = "CHECK", help_heading = "Judgement", hide_short_help = true)]
    pub(crate) skip: Vec<String>,
    /// Findings of this baseline (or JSON report) are not new; those that are gone are listed.
    #[arg(long, value_name = "FILE", help_heading = "Gates")]
    pub(crate) baseline: Option<PathBuf>,
    /// Ledger of decisions (`gpuwaste decide`): findings carry their state, and gates count what is undecided.
    #[arg(long, value_name = "DIR", help_heading = "Gates")]
    pub(crate) ledger: Option<PathBuf>,
    /// Rank by what was found, or by what such findings really saved, where the ledger's record tells.
    #[arg(
        long,
        value_enum,
        default_value = "found",
        value_name = "BY",
        requires = "ledger",
        help_heading = "Output",
        hide_short_help = true
    )]
    pub(crate) rank: RankArg,
    /// Write a baseline of what this scan finds.
    #[arg(long, value_name = "FILE", help_heading = "Gates", hide_short_help = true)]
    pub(crate) write_baseline: Option<PathBuf>,
    /// Fail (1) when waste is above this.
    #[arg(long, value_name = "USD_PER_HOUR", allow_negative_numbers = true, value_parser = dollars, help_heading = "Gates")]
    pub(crate) max_waste: Option<f64>,
    /// Fail (1) when waste is above this share of priced spend.
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true, value_parser = percent, help_heading = "Gates", hide_short_help = true)]
    pub(crate) max_waste_percent: Option<f64>,
    /// Fail (1) when waste that the baseline does not have, or that nobody decided about in the ledger, is above this.
    #[arg(long, value_name = "USD_PER_HOUR", allow_negative_numbers = true, value_parser = dollars, help_heading = "Gates", hide_short_help = true)]
    pub(crate) max_new_waste: Option<f64>,
    /// Fail (1) when spend at risk is above this.
    #[arg(long, value_name = "USD_PER_HOUR", allow_negative_numbers = true, value_parser = dollars, help_heading = "Gates", hide_short_help = true)]
    pub(crate) max_at_risk: Option<f64>,
    /// Fail (1) when findings that were snoozed or dismissed in the ledger are together above this.
    #[arg(
        long,
        value_name = "USD_PER_HOUR",
        requires = "ledger",
        help_heading = "Gates",
        hide_short_help = true
    )]
    pub(crate) max_dismissed: Option<f64>,
    /// Fail (3) when less of the fleet could be judged (80 as soon as any gate is given).
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true, value_parser = coverage, help_heading = "Gates")]
    pub(crate) min_coverage: Option<f64>,
    /// Gates count findings of at least this confidence [default: measured].
    #[arg(long, value_enum, value_name = "LEVEL", help_heading = "Gates")]
    pub(crate) gate_confidence: Option<ConfidenceArg>,
    #[arg(long, value_name = "FORMAT[=FILE]", help = formats(), help_heading = "Output")]
    pub(crate) format: Vec<String>,
    /// Sum up by namespace, workload, model, gpu, node, cluster, owner (the policy's ownership labels), Slurm's user, account or
    /// partition, or a label.
    #[arg(long, value_name = "KEY", help_heading = "Output")]
    pub(crate) group_by: Option<String>,
    /// Show this many findings in the table [default: what the screen holds, 5 to 10] and in markdown [default: 10].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = rows, help_heading = "Output")]
    pub(crate) top: Option<usize>,
    /// List findings that have no dollars of their own, too.
    #[arg(long, help_heading = "Output", hide_short_help = true)]
    pub(crate) hints: bool,
    /// Colour in the table.
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        value_name = "WHEN",
        help_heading = "Output",
        hide_short_help = true
    )]
    pub(crate) color: ColorArg,
}
