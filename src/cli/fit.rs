//! `gpuwaste fit`.

use super::duration::latency;
use super::number::tokens;
use super::{MemoryArgs, SourceArgs};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct FitArgs {
    /// Hugging Face id, NIM or Ollama name, or the name of a quantized copy (with --from: the server's own).
    #[arg(required_unless_present_any = ["from", "compare"])]
    pub(crate) model: Option<String>,
    /// Models of your own: a folder of config.json or .gguf files, or a Hugging Face cache; they win over the catalogue.
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<PathBuf>,
    /// Measured facts that servers told (`gpuwaste learned --from SNAPSHOT -o FILE`), for the same engine version (repeatable).
    #[arg(long, value_name = "FILE")]
    pub(crate) learned: Vec<PathBuf>,
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
    #[arg(long, value_name = "N", value_parser = tokens, help_heading = "Engine")]
    pub(crate) max_model_len: Option<u64>,
    /// Sequences that run at once (default: the engine's).
    #[arg(long, value_name = "N", help_heading = "Engine")]
    pub(crate) max_num_seqs: Option<u64>,
    /// Tokens of one step (default: the engine's).
    #[arg(long, value_name = "N", value_parser = tokens, help_heading = "Engine")]
    pub(crate) max_num_batched_tokens: Option<u64>,
    /// vLLM: share of the GPU's memory that the engine may take, such as 0.9.
    #[arg(long, value_name = "SHARE", help_heading = "Engine")]
    pub(crate) gpu_memory_utilization: Option<f64>,
    /// SGLang: share of the GPU's memory for weights and KV cache, such as 0.88.
    #[arg(long, value_name = "SHARE", help_heading = "Engine")]
    pub(crate) mem_fraction_static: Option<f64>,
    /// SGLang: prompt tokens of one step.
    #[arg(long, value_name = "N", value_parser = tokens, help_heading = "Engine")]
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
    #[arg(long, value_name = "N", value_parser = tokens, help_heading = "Load")]
    pub(crate) input: Option<u64>,
    /// Output tokens of a request.
    #[arg(long, value_name = "N", value_parser = tokens, help_heading = "Load")]
    pub(crate) output: Option<u64>,
    /// Prompt tokens per second to take in, with --output-tps.
    #[arg(long, value_name = "N", requires = "output_tps", help_heading = "Load")]
    pub(crate) prompt_tps: Option<f64>,
    /// Output tokens per second to give.
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub(crate) output_tps: Option<f64>,
    /// Tokens of each request to hold at once, with --concurrency.
    #[arg(long, value_name = "N", value_parser = tokens, requires = "concurrency", help_heading = "Load")]
    pub(crate) context_tokens: Option<u64>,
    /// The load, lengths and measured latency of a running server, read as `scan` reads a fleet.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["requests_per_second", "running", "concurrency", "output_tps", "compare"], help_heading = "Load")]
    pub(crate) from: Option<String>,
    /// Limit of the time between tokens, such as 50ms [default with a load: 50ms].
    #[arg(long, value_name = "TIME", value_parser = latency, help_heading = "Limits")]
    pub(crate) itl: Option<Duration>,
    /// Limit of the time to the first token, such as 2s.
    #[arg(long, value_name = "TIME", value_parser = latency, help_heading = "Limits")]
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
