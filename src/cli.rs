//! The command line, as clap sees it: raw arguments only. Defaults that depend on the policy file live in `settings`.

mod decide;
mod duration;
mod learned;
mod memory;
mod number;
mod plan;
mod settle;
mod view;

pub(crate) use decide::{DecideArgs, ReasonArg};
pub(crate) use learned::{LearnedArgs, LearnedFormat, RankArg};
pub(crate) use memory::MemoryArgs;
pub(crate) use plan::{AllowArg, PlanArgs, PlanFormat};
pub(crate) use settle::SettleArgs;
pub(crate) use view::{LsArgs, LsFormat, LsLevel, ShowArgs, ShowFormat};

use self::duration::{duration, timeout, window};
use self::number::{coverage, dollars, percent, rows};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

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
    /// Read a recorded snapshot instead (repeatable; `-` is stdin).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["context", "all_contexts", "kubeconfig", "demo"], help_heading = "Sources")]
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

/// How findings are judged and where the report goes: the same for a fleet and for manifests.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// Policy file: thresholds, gates, suppressions, prices, ownership (default: ./gpuwaste.toml where there is one).
    #[arg(long, value_name = "FILE", help_heading = "Judgement")]
    pub(crate) policy: Option<PathBuf>,
    /// Your prices (`gpuwaste catalog prices --template` writes a file to fill in); they win over the policy's.
    #[arg(long, value_name = "FILE", help_heading = "Judgement")]
    pub(crate) prices: Option<PathBuf>,
    /// Models of your own: a folder of config.json or .gguf files, or a Hugging Face cache; they win over the catalogue.
    #[arg(long, value_name = "DIR", help_heading = "Judgement", hide_short_help = true)]
    pub(crate) models: Option<PathBuf>,
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
    /// Record of other fleets (`gpuwaste learned -o`), whose votes count half (repeatable).
    #[arg(long, value_name = "FILE", requires = "ledger", help_heading = "Gates")]
    pub(crate) learned: Vec<PathBuf>,
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
    /// Output format, or FORMAT=FILE (repeatable): table, json, csv, markdown, html, sarif, junit, prometheus, github, chargeback.
    #[arg(long, value_name = "FORMAT[=FILE]", help_heading = "Output")]
    pub(crate) format: Vec<String>,
    /// Sum up by namespace, workload, model, gpu, node, cluster, owner (the policy's ownership labels) or a label.
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
    #[arg(long, value_name = "N", requires = "concurrency", help_heading = "Judgement")]
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
    /// Policy by which snapshots are judged (default: ./gpuwaste.toml, else built in).
    #[arg(long, value_name = "FILE", help_heading = "Judgement")]
    pub(crate) policy: Option<PathBuf>,
    /// Your prices, for snapshots.
    #[arg(long, value_name = "FILE", help_heading = "Judgement")]
    pub(crate) prices: Option<PathBuf>,
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
pub(crate) struct FitArgs {
    /// Hugging Face id, NIM or Ollama name, or the name of a quantized copy (with --from: the server's own).
    #[arg(required_unless_present_any = ["from", "compare"])]
    pub(crate) model: Option<String>,
    /// Models of your own: a folder of config.json or .gguf files, or a Hugging Face cache; they win over the catalogue.
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
    /// Judge this GPU or MIG instance (H100-MIG-1g.10gb) (repeatable; default: every tier of the catalogue).
    #[arg(long, value_name = "NAME")]
    pub(crate) gpu: Vec<String>,
    /// Memory of one GPU as CUDA reports it, where it differs from the catalogue's.
    #[arg(long, value_name = "GIB")]
    pub(crate) gpu_memory_gib: Option<f64>,
    /// Tensor parallelism (default: the smallest that fits).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) tp: Option<u32>,
    /// Pipeline stages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) pp: Option<u32>,
    /// Data-parallel ranks.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) dp: Option<u32>,
    /// As the engine is told: awq, gptq, fp8, bitsandbytes, nvfp4, Q4_K_M … (default: the checkpoint's own).
    #[arg(long, value_name = "Q", help_heading = "Engine")]
    pub(crate) quantization: Option<String>,
    /// Type of weights and activations as the engine is told: auto, bfloat16, float16, float32 (default: the checkpoint's own).
    #[arg(long, value_name = "DTYPE", help_heading = "Engine")]
    pub(crate) dtype: Option<String>,
    /// Type of the KV cache: auto, bfloat16, fp8 … (default: as the weights').
    #[arg(long, value_name = "DTYPE", help_heading = "Engine")]
    pub(crate) kv_cache_dtype: Option<String>,
    /// Tokens one request may hold (default: the model's own).
    #[arg(long, value_name = "N", help_heading = "Engine")]
    pub(crate) max_model_len: Option<u64>,
    /// Sequences that run at once (default: the engine's).
    #[arg(long, value_name = "N", help_heading = "Engine")]
    pub(crate) max_num_seqs: Option<u64>,
    /// Tokens of one step (default: the engine's).
    #[arg(long, value_name = "N", help_heading = "Engine")]
    pub(crate) max_num_batched_tokens: Option<u64>,
    /// vLLM: share of the GPU's memory that the engine may take, such as 0.9.
    #[arg(long, value_name = "SHARE", help_heading = "Engine")]
    pub(crate) gpu_memory_utilization: Option<f64>,
    /// SGLang: share of the GPU's memory for weights and KV cache, such as 0.88.
    #[arg(long, value_name = "SHARE", help_heading = "Engine")]
    pub(crate) mem_fraction_static: Option<f64>,
    /// SGLang: prompt tokens of one step.
    #[arg(long, value_name = "N", help_heading = "Engine")]
    pub(crate) chunked_prefill_size: Option<u64>,
    /// Tokens of one block of the KV cache (default: the engine's).
    #[arg(long, value_name = "N", help_heading = "Engine")]
    pub(crate) block_size: Option<u64>,
    /// Spread whole experts over the ranks.
    #[arg(long, help_heading = "Engine")]
    pub(crate) expert_parallel: bool,
    /// SGLang's data-parallel attention.
    #[arg(long, help_heading = "Engine")]
    pub(crate) dp_attention: bool,
    /// Serving engine.
    #[arg(long, value_enum, default_value = "vllm", help_heading = "Engine")]
    pub(crate) engine: FitEngine,
    /// The engine's version, since defaults change; "V0" and "V1" name vLLM's generations (default: the newest).
    #[arg(long, value_name = "V", help_heading = "Engine")]
    pub(crate) engine_version: Option<String>,
    /// No CUDA graphs.
    #[arg(long, help_heading = "Engine")]
    pub(crate) enforce_eager: bool,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
    /// Requests a second to serve, with --input and --output.
    #[arg(long, value_name = "R", conflicts_with_all = ["running", "output_tps", "concurrency"], help_heading = "Load")]
    pub(crate) requests_per_second: Option<f64>,
    /// The speed of one engine with this many sequences running, with --input and --output.
    #[arg(long, value_name = "N", conflicts_with_all = ["output_tps", "concurrency"], help_heading = "Load")]
    pub(crate) running: Option<u64>,
    /// Requests at once: clients that wait for their answer, with --input and --output; or requests to hold, with
    /// --context-tokens.
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub(crate) concurrency: Option<u64>,
    /// Prompt tokens of a request.
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub(crate) input: Option<u64>,
    /// Output tokens of a request.
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub(crate) output: Option<u64>,
    /// Prompt tokens per second to take in, with --output-tps.
    #[arg(long, value_name = "N", requires = "output_tps", help_heading = "Load")]
    pub(crate) prompt_tps: Option<f64>,
    /// Output tokens per second to give.
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub(crate) output_tps: Option<f64>,
    /// Tokens of each request to hold at once, with --concurrency.
    #[arg(long, value_name = "N", requires = "concurrency", help_heading = "Load")]
    pub(crate) context_tokens: Option<u64>,
    /// The load, lengths and measured latency of a running server, read as `scan` reads a fleet.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["requests_per_second", "running", "concurrency", "output_tps", "compare"], help_heading = "Load")]
    pub(crate) from: Option<String>,
    /// Limit of the time between tokens, such as 50ms [default with a load: 50ms].
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub(crate) itl: Option<Duration>,
    /// Limit of the time to the first token, such as 2s.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub(crate) ttft: Option<Duration>,
    /// GPUs of all replicas together, at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Limits")]
    pub(crate) max_gpus: Option<u32>,
    /// Whole-instance list prices of this region instead of medians over clouds.
    #[arg(long, value_name = "REGION", help_heading = "Prices")]
    pub(crate) region: Option<String>,
    /// Whole-instance list prices of this cloud (in --region, else where it is cheapest).
    #[arg(long, value_name = "CLOUD", help_heading = "Prices")]
    pub(crate) cloud: Option<String>,
    /// Spot prices.
    #[arg(long, help_heading = "Prices")]
    pub(crate) spot: bool,
    /// Two models, or two quantizations of MODEL, side by side: A,B.
    #[arg(long, value_name = "A,B", value_delimiter = ',', num_args = 1..=2, help_heading = "Output")]
    pub(crate) compare: Vec<String>,
    /// Draw cost over load, a curve a card.
    #[arg(long, help_heading = "Output")]
    pub(crate) plot: bool,
    /// List what does not serve, too.
    #[arg(long, help_heading = "Output")]
    pub(crate) all: bool,
    /// Output format.
    #[arg(long, value_enum, default_value = "table", help_heading = "Output")]
    pub(crate) format: FitFormat,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitEngine {
    Vllm,
    Sglang,
    Tgi,
    Trtllm,
    Nim,
    Llamacpp,
    Ollama,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitFormat {
    Table,
    Json,
    Html,
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
