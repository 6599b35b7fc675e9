//! `gpuwaste decide`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub(crate) struct DecideArgs {
    /// Ids of findings (their beginnings do), then what is decided: claim, applied, dismiss, snooze or reopen.
    #[arg(required = true, value_name = "ID… STATE")]
    pub(crate) words: Vec<String>,
    /// The report (scan --format json) or snapshot that the findings are in; `-` is stdin. Without it: findings that the ledger
    /// has already.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// The ledger's folder.
    #[arg(long, value_name = "DIR", default_value = gpuwaste_decisions::store::DEFAULT)]
    pub(crate) ledger: PathBuf,
    /// Why it is dismissed. `wrong`: gpuwaste errs (30 days); `intended`: standby, launch, burst; `cannot`: contract, licence,
    /// quota; `not-worth`: too little money (90 days each); `later`: a snooze.
    #[arg(long, value_enum, value_name = "REASON", help_heading = "Decision")]
    pub(crate) reason: Option<ReasonArg>,
    /// The last day it holds: 2027-01-31, or 14d [default: a claim and a snooze 30 days; a dismissal 90, `wrong` 30].
    #[arg(long, value_name = "DATE", help_heading = "Decision")]
    pub(crate) until: Option<String>,
    /// What others should know.
    #[arg(long, value_name = "TEXT", help_heading = "Decision")]
    pub(crate) note: Option<String>,
    /// A pull request or a ticket.
    #[arg(long = "ref", value_name = "URL", help_heading = "Decision")]
    pub(crate) reference: Option<String>,
    /// Who decides; nobody is named unless this does.
    #[arg(long, value_name = "WHO", help_heading = "Decision")]
    pub(crate) by: Option<String>,
    /// Instead of ids: all findings of this check, or of a part of one (dark-capacity/idle).
    #[arg(long, value_name = "CHECK", requires = "report", help_heading = "Which findings")]
    pub(crate) check: Option<String>,
    /// Instead of ids: all findings of these subjects: NAMESPACE/NAME or a pool's name; `*` matches any run of characters.
    #[arg(long, value_name = "SUBJECT", requires = "report", help_heading = "Which findings")]
    pub(crate) subject: Option<String>,
    /// Do not ask before deciding about what --check and --subject find.
    #[arg(long, help_heading = "Which findings")]
    pub(crate) yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReasonArg {
    Wrong,
    Intended,
    Cannot,
    NotWorth,
    Later,
}
