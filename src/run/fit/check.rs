//! Values that no engine takes, and questions that contradict themselves: each error names the flag and the way out.

use crate::cli::FitArgs;
use crate::fit::{is_known_dtype, is_known_quantization};
use anyhow::{Result, bail};

/// More than the busiest services do, or a slip of the hand.
const MOST_RATE: f64 = 1e6;
const MOST_TOKENS: u64 = 100_000_000;
/// Tokens a second, prompt and output: a thousand times what a large provider serves.
const MOST_TOKENS_PER_SECOND: f64 = 1e9;

/// What vLLM and SGLang take for weights and activations, and the names of checkpoints.
const DTYPES: [&str; 8] = [
    "auto", "half", "float16", "fp16", "bfloat16", "bf16", "float", "float32",
];

pub(super) fn arguments(args: &FitArgs) -> Result<()> {
    engine(args)?;
    load(args)?;
    lengths(args)?;
    limits(args)?;
    source(args)
}

fn engine(args: &FitArgs) -> Result<()> {
    for (flag, value) in [
        ("--gpu-memory-utilization", args.gpu_memory_utilization),
        ("--mem-fraction-static", args.mem_fraction_static),
    ] {
        if let Some(v) = value.filter(|v| !(*v > 0.0 && *v <= 1.0)) {
            bail!("{flag} {v}: a share between 0 and 1 is needed, such as 0.9");
        }
    }
    for (flag, value) in [
        ("--gpu-memory-gib", args.gpu_memory_gib),
        ("--prompt-tps", args.prompt_tps),
        ("--output-tps", args.output_tps),
    ] {
        if let Some(v) = value.filter(|v| !(*v > 0.0 && *v < 1e9)) {
            bail!("{flag} {v}: a number above 0 is needed");
        }
    }
    if let Some(q) = args.quantization.as_deref().filter(|q| !is_known_quantization(q)) {
        bail!(
            "--quantization {q} is not known; known are fp8, awq, gptq, bitsandbytes, nvfp4, mxfp4, int8, w8a8, w4a16, compressed-tensors, modelopt and GGUF types such as Q4_K_M"
        );
    }
    if let Some(dtype) = args.kv_cache_dtype.as_deref().filter(|d| !is_known_dtype(d)) {
        bail!(
            "--kv-cache-dtype {dtype}: its size is not known; known are auto, bfloat16, float16, float32, fp8 (and its variants), int8, nvfp4, int4, q8_0 and q4_0"
        );
    }
    if let Some(dtype) = args.dtype.as_deref().filter(|d| !DTYPES.contains(d)) {
        bail!("--dtype {dtype} is not known; known are {}", DTYPES.join(", "));
    }
    if args.tp.is_none() && args.pp.is_some_and(|p| p > 1) {
        bail!("--pp needs --tp: say how many GPUs a stage has");
    }
    if args.max_model_len == Some(0) || args.max_num_seqs == Some(0) || args.block_size == Some(0) {
        bail!("--max-model-len, --max-num-seqs and --block-size must be above 0");
    }
    super::memory::check(&args.memory)
}

/// Some load is asked for, or the speed at one.
fn is_load(args: &FitArgs) -> bool {
    let clients = args.concurrency.is_some() && args.context_tokens.is_none();
    args.requests_per_second.is_some()
        || args.running.is_some()
        || args.output_tps.is_some()
        || clients
        || args.from.is_some()
}

fn load(args: &FitArgs) -> Result<()> {
    if let Some(r) = args.requests_per_second.filter(|r| !(*r > 0.0 && *r <= MOST_RATE)) {
        bail!("--requests-per-second {r}: a rate above 0 and up to {MOST_RATE} is needed");
    }
    for (flag, value) in [
        ("--running", args.running),
        ("--concurrency", args.concurrency),
        ("--input", args.input),
        ("--output", args.output),
        ("--context-tokens", args.context_tokens),
    ] {
        if let Some(n) = value.filter(|n| *n == 0 || *n > MOST_TOKENS) {
            bail!("{flag} {n}: a number from 1 to {MOST_TOKENS} is needed");
        }
    }
    let request = args.input.unwrap_or(0) as f64 + args.output.unwrap_or(0) as f64;
    let rate = args.requests_per_second.unwrap_or(0.0) * request;
    if rate > MOST_TOKENS_PER_SECOND {
        bail!(
            "--requests-per-second {} of {request:.0} tokens each is {rate:.0} tokens a second, more than any fleet serves: ask for a part of it",
            args.requests_per_second.unwrap_or(0.0)
        );
    }
    Ok(())
}

fn lengths(args: &FitArgs) -> Result<()> {
    let both = args.input.is_some() && args.output.is_some();
    let asked = [
        ("--requests-per-second", args.requests_per_second.is_some()),
        ("--running", args.running.is_some()),
        (
            "--concurrency",
            args.concurrency.is_some() && args.context_tokens.is_none(),
        ),
    ];
    if let Some((flag, _)) = asked.iter().find(|(_, set)| *set).filter(|_| !both) {
        let or = if *flag == "--concurrency" {
            ", or --context-tokens N for requests that only have to be held"
        } else {
            ""
        };
        bail!("{flag} needs the length of requests: add --input N and --output N, in tokens{or}");
    }
    if args.input.is_some() != args.output.is_some() && args.from.is_none() {
        bail!("--input and --output belong together: a request has both");
    }
    if both && args.context_tokens.is_some() {
        bail!("--context-tokens says the length of a request as --input and --output do: leave one of them out");
    }
    if let (Some(input), Some(output), Some(length)) = (args.input, args.output, args.max_model_len)
        && input.saturating_add(output) > length
    {
        bail!("requests of {input} + {output} tokens are longer than --max-model-len {length}");
    }
    if let (Some(input), Some(output), Some(prompt_tps), Some(output_tps)) =
        (args.input, args.output, args.prompt_tps, args.output_tps)
    {
        let by_length = input as f64 / output as f64;
        let by_rate = prompt_tps / output_tps;
        if (by_rate / by_length - 1.0).abs() > 0.05 {
            bail!(
                "--prompt-tps and --output-tps say {by_rate:.2} prompt tokens for each output token, --input and --output say {by_length:.2}: leave one of them out"
            );
        }
    }
    Ok(())
}

fn limits(args: &FitArgs) -> Result<()> {
    for (flag, value, least, most) in [("--itl", args.itl, 1e-4, 60.0), ("--ttft", args.ttft, 1e-3, 3600.0)] {
        if let Some(v) = value.map(|v| v.as_secs_f64()).filter(|v| !(least..=most).contains(v)) {
            bail!("{flag} {v} s: a time from {least} s to {most} s is needed, such as 50ms");
        }
    }
    if !is_load(args) {
        let needs = [
            ("--itl", args.itl.is_some()),
            ("--ttft", args.ttft.is_some()),
            ("--max-gpus", args.max_gpus.is_some()),
            ("--plot", args.plot),
        ];
        if let Some((flag, _)) = needs.iter().find(|(_, set)| *set) {
            bail!("{flag} needs a load: add --requests-per-second R --input N --output N, or --from NAMESPACE/NAME");
        }
    }
    if args.running.is_some() && args.plot {
        bail!("--plot draws cost over load: --running asks for the speed of one engine; use --requests-per-second");
    }
    let ranks = [args.tp, args.pp, args.dp]
        .into_iter()
        .flatten()
        .fold(1_u32, u32::saturating_mul);
    let inside = args.dp_attention && args.tp.is_some();
    let gpus = if inside {
        args.tp.unwrap_or(1).saturating_mul(args.pp.unwrap_or(1))
    } else {
        ranks
    };
    if let Some(max) = args.max_gpus.filter(|m| gpus > *m) {
        bail!("one replica of this parallelism has {gpus} GPUs, --max-gpus allows {max}");
    }
    Ok(())
}

/// Sources are read for --from alone.
fn source(args: &FitArgs) -> Result<()> {
    let s = &args.source;
    let named = [
        ("--snapshot", !s.snapshot.is_empty()),
        ("--demo", s.demo),
        ("--context", !s.context.is_empty()),
        ("--kubeconfig", s.kubeconfig.is_some()),
        ("--local", s.local),
    ];
    if let Some((flag, _)) = named.iter().find(|(_, set)| *set).filter(|_| args.from.is_none()) {
        bail!("{flag} says where a running server is read: name it with --from NAMESPACE/NAME");
    }
    if let Some(from) = args
        .from
        .as_deref()
        .filter(|f| f.split('/').filter(|p| !p.is_empty()).count() != 2)
    {
        bail!("--from {from}: write NAMESPACE/NAME, such as prod/chat");
    }
    Ok(())
}
