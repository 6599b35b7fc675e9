//! Where a fleet is read from: the same for all commands that read one.

use super::duration::{duration, timeout, window};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, Args)]
pub(crate) struct SourceArgs {
    /// Kubernetes context to read (repeatable; default: the current one).
    #[arg(long, value_name = "NAME", help_heading = "Sources")]
    pub(crate) context: Vec<String>,
    /// Read every context of the kubeconfig; one that fails is a gap.
    #[arg(long, conflicts_with = "context", help_heading = "Sources")]
    pub(crate) all_contexts: bool,
    /// Kubeconfig file (default: $KUBECONFIG with its list of files, ~/.kube/config, the pod's service account).
    #[arg(long, value_name = "FILE", help_heading = "Sources", hide_short_help = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Limit findings to this namespace (repeatable).
    #[arg(short, long, value_name = "NS", help_heading = "Sources")]
    pub(crate) namespace: Vec<String>,
    /// Limit findings to pods with these labels.
    #[arg(short = 'l', long, value_name = "SELECTOR", help_heading = "Sources")]
    pub(crate) selector: Option<String>,
    /// Read a recorded snapshot instead, or all of a folder or of s3://, gs://, az:// (repeatable; `-` is stdin).
    #[arg(long, value_name = "FILE|URL", conflicts_with_all = ["context", "all_contexts", "kubeconfig", "demo"], help_heading = "Sources")]
    pub(crate) snapshot: Vec<PathBuf>,
    /// Scan the built-in demo fleet.
    #[arg(long, conflicts_with_all = ["context", "all_contexts", "kubeconfig"], help_heading = "Sources")]
    pub(crate) demo: bool,
    /// Read the GPUs of this host through NVML, the processes on them, and their servers' metrics.
    #[arg(long, conflicts_with_all = ["context", "all_contexts", "kubeconfig", "demo", "snapshot", "namespace", "selector"], help_heading = "Sources", hide_short_help = true)]
    pub(crate) local: bool,
    /// Read Slurm by its commands on this login node (sinfo, squeue, scontrol, sacct), with your rights.
    #[arg(long, conflicts_with_all = ["demo", "local", "selector"], help_heading = "Sources")]
    pub(crate) slurm: bool,
    /// Read Slurm's outputs that an administrator saved in this folder (repeatable; see the docs for the files' names).
    #[arg(long, value_name = "DIR", conflicts_with_all = ["demo", "local", "selector"], help_heading = "Sources")]
    pub(crate) slurm_dir: Vec<PathBuf>,
    /// Read Slurm through slurmrestd at this URL (needs --slurm-token-file).
    #[arg(long, value_name = "URL", requires = "slurm_token_file", conflicts_with_all = ["demo", "local", "selector"], help_heading = "Sources", hide_short_help = true)]
    pub(crate) slurm_rest: Option<String>,
    /// File with a token for slurmrestd, as 'scontrol token' prints it.
    #[arg(
        long,
        value_name = "FILE",
        requires = "slurm_rest",
        help_heading = "Sources",
        hide_short_help = true
    )]
    pub(crate) slurm_token_file: Option<PathBuf>,
    /// Do not read exporters and engines through the API server's pod proxy.
    #[arg(long, help_heading = "Sources", hide_short_help = true)]
    pub(crate) no_scrape: bool,
    /// Time for reading exporters and engines.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration, help_heading = "Sources", hide_short_help = true)]
    pub(crate) scrape_budget: Duration,
    /// Where history is read: a URL, `auto` (looked for in the cluster by its labels) or `none`.
    #[arg(long, value_name = "URL|auto|none", default_value = "auto", help_heading = "Sources")]
    pub(crate) prometheus: String,
    /// Header of every request to --prometheus URL (repeatable), such as 'X-Scope-OrgID: team'.
    #[arg(long, value_name = "NAME: VALUE", help_heading = "Sources", hide_short_help = true)]
    pub(crate) prometheus_header: Vec<String>,
    /// File with a bearer token.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "prometheus_user",
        help_heading = "Sources",
        hide_short_help = true
    )]
    pub(crate) prometheus_token_file: Option<PathBuf>,
    /// User of basic authentication (Grafana Cloud: the instance's number).
    #[arg(
        long,
        value_name = "USER",
        requires = "prometheus_password_file",
        help_heading = "Sources",
        hide_short_help = true
    )]
    pub(crate) prometheus_user: Option<String>,
    /// File with the password (or API key) of --prometheus-user.
    #[arg(
        long,
        value_name = "FILE",
        requires = "prometheus_user",
        help_heading = "Sources",
        hide_short_help = true
    )]
    pub(crate) prometheus_password_file: Option<PathBuf>,
    /// Certificates (PEM) to trust beside the system's.
    #[arg(long, value_name = "FILE", help_heading = "Sources", hide_short_help = true)]
    pub(crate) prometheus_ca_file: Option<PathBuf>,
    /// Client certificate (PEM).
    #[arg(
        long,
        value_name = "FILE",
        requires = "prometheus_client_key",
        help_heading = "Sources",
        hide_short_help = true
    )]
    pub(crate) prometheus_client_cert: Option<PathBuf>,
    /// Key (PEM) of the client certificate.
    #[arg(
        long,
        value_name = "FILE",
        requires = "prometheus_client_cert",
        help_heading = "Sources",
        hide_short_help = true
    )]
    pub(crate) prometheus_client_key: Option<PathBuf>,
    /// Sign requests for Amazon Managed Service for Prometheus, with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
    #[arg(long, value_name = "REGION", conflicts_with_all = ["prometheus_user", "prometheus_token_file"], help_heading = "Sources", hide_short_help = true)]
    pub(crate) prometheus_sigv4_region: Option<String>,
    /// Matchers for a store of several clusters, such as 'cluster="prod"' (default: the label `cluster` with the cluster's name).
    #[arg(long, value_name = "MATCHERS", help_heading = "Sources", hide_short_help = true)]
    pub(crate) prometheus_match: Option<String>,
    /// Name the cluster in the report (default: the context's name).
    #[arg(long, value_name = "NAME", help_heading = "Sources", hide_short_help = true)]
    pub(crate) cluster_name: Option<String>,
    /// List every URL and verb that would be used; read nothing.
    #[arg(long, help_heading = "Sources")]
    pub(crate) dry_run: bool,
    /// History asked of Prometheus.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = window, help_heading = "Time")]
    pub(crate) window: Duration,
    /// Time between the two live passes over exporters and engines; 0 = one pass.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = "Time", hide_short_help = true)]
    pub(crate) observe: Duration,
    /// Time limit of one request (connecting: at most 5 s).
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout, help_heading = "Time", hide_short_help = true)]
    pub(crate) timeout: Duration,
    /// Say less on stderr.
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,
    /// Say more: the table with everything it rests on, and on stderr what is read.
    #[arg(short, long, help_heading = "Output")]
    pub(crate) verbose: bool,
    /// Options that stood on the command line, by their names: which of them a source has no use for.
    #[arg(skip)]
    pub(crate) given: Vec<String>,
}
