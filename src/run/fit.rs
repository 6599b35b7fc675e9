//! `gpuwaste fit`: which tiers hold a model, what each costs.

mod memory;

use super::print;
use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::models::{self, ModelFacts};
use crate::catalog::prices::CapacityType;
use crate::catalog::{instances, mig};
use crate::cli::{FitArgs, FitEngine, FitFormat};
use crate::fit::search::{Candidate, Need, Tier, search};
use crate::fit::{
    BandSource, FitConfidence, FitVerdict, Load, Parallelism, Slo, is_known_dtype, is_known_quantization,
};
use crate::settings::Thresholds;
use crate::snapshot::server::{EngineKind, EngineSettings};
use crate::units::{Bytes, UsdPerHour};
use anyhow::{Result, bail};
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// GPUs of one node where no instance tells (HGX and DGX boards).
const NODE_GPUS: u32 = 8;
/// Columns of the table where no terminal tells.
const WIDTH: usize = 120;
/// Columns from which weights and KV tokens have room beside the reason.
const WIDE: usize = 104;

pub(super) fn fit(args: &FitArgs) -> Result<ExitCode> {
    check(args)?;
    if let Some(path) = &args.memory.bands {
        memory::bands(path)?;
    }
    let model = model(args)?;
    let settings = settings(args);
    let cards = cards(args)?;
    let tiers = tiers(&cards, args)?;
    let thresholds = Thresholds::default();
    let load = load(args);
    let slo = Slo {
        kv_headroom: thresholds.kv_headroom,
        throughput_headroom: thresholds.throughput_headroom,
        latency_growth: thresholds.latency_growth,
        inter_token_latency: thresholds.slo_itl_seconds,
        time_to_first_token: thresholds.slo_ttft_seconds,
    };
    let need = Need {
        load: load.as_ref(),
        slo: load.as_ref().map(|_| &slo),
        calibration: None,
        tokens: args
            .context_tokens
            .zip(args.concurrency)
            .map(|(t, n)| t.saturating_mul(n)),
        only: args.tp.map(|tensor| Parallelism {
            tensor,
            pipeline: args.pp.unwrap_or(1),
            data: args.dp.unwrap_or(1),
        }),
    };
    let found = search(&model, &settings, &tiers, &need);
    match args.format {
        FitFormat::Json => print(serde_json::to_string_pretty(&document(&model, &found))? + "\n"),
        FitFormat::Table => print(table(&model, &found, need.tokens)),
    }
}

/// Values that no engine takes.
fn check(args: &FitArgs) -> Result<()> {
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
    if args.tp.is_none() && args.pp.is_some_and(|p| p > 1) {
        bail!("--pp needs --tp: say how many GPUs a stage has");
    }
    if args.max_model_len == Some(0) || args.max_num_seqs == Some(0) || args.block_size == Some(0) {
        bail!("--max-model-len, --max-num-seqs and --block-size must be above 0");
    }
    memory::check(&args.memory)
}

fn model(args: &FitArgs) -> Result<ModelFacts> {
    let name = args.model.as_str();
    let (book, gaps) = match &args.models {
        Some(folder) => crate::collect::models::read(folder)?,
        None => Default::default(),
    };
    let bare = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let own_gap = gaps.iter().find(|g| g.what.to_ascii_lowercase().contains(&bare));
    if let Some(facts) = book.resolve(name) {
        // A file of this model that could not be read must not be passed over for a row or a guess in silence.
        if let Some(gap) = own_gap {
            bail!("{}: {}; {}", gap.what, gap.reason, gap.remedy);
        }
        return Ok(facts);
    }
    if let Some(gap) = own_gap.or(gaps.first()) {
        bail!(
            "no model is known by the name '{name}', and {}: {}",
            gap.what,
            gap.reason
        );
    }
    if args.models.is_some() {
        let own: Vec<&str> = book.ids().collect();
        bail!(
            "no model is known by the name '{name}'; the folder has {}",
            own.join(", ")
        );
    }
    let near = models::nearest(name);
    let own = "--models DIR reads its config.json";
    if near.is_empty() {
        bail!("no model is known by the name '{name}'; {own}, 'gpuwaste catalog models' lists what is known");
    }
    bail!(
        "no model is known by the name '{name}'; {own}; nearest: {}",
        near.join(", ")
    )
}

fn settings(args: &FitArgs) -> EngineSettings {
    let mut settings = EngineSettings {
        engine: Some(match args.engine {
            FitEngine::Vllm => EngineKind::Vllm,
            FitEngine::Sglang => EngineKind::Sglang,
            FitEngine::Tgi => EngineKind::Tgi,
            FitEngine::Trtllm => EngineKind::Trtllm,
            FitEngine::Nim => EngineKind::Nim,
            FitEngine::Llamacpp => EngineKind::Llamacpp,
            FitEngine::Ollama => EngineKind::Ollama,
        }),
        engine_version: args.engine_version.clone(),
        model: Some(args.model.clone()),
        data_parallel: args.dp,
        expert_parallel: args.expert_parallel.then_some(true),
        dp_attention: args.dp_attention.then_some(true),
        max_model_len: args.max_model_len,
        max_num_seqs: args.max_num_seqs,
        max_num_batched_tokens: args.max_num_batched_tokens,
        gpu_memory_utilization: args.gpu_memory_utilization,
        mem_fraction_static: args.mem_fraction_static,
        chunked_prefill_size: args.chunked_prefill_size,
        quantization: args.quantization.clone(),
        dtype: args.dtype.clone(),
        kv_cache_dtype: args.kv_cache_dtype.clone(),
        block_size: args.block_size,
        enforce_eager: args.enforce_eager.then_some(true),
        ..EngineSettings::default()
    };
    memory::apply(&args.memory, &mut settings);
    settings
}

/// The cards to judge: those named, else every one that runs these engines.
fn cards(args: &FitArgs) -> Result<Vec<GpuFacts>> {
    let told = args.gpu_memory_gib.map(Bytes::from_gib);
    let with_memory = |gpu: &GpuFacts| GpuFacts {
        memory_cuda: told.or(gpu.memory_cuda),
        instance: gpu.instance.clone().map(|own| mig::Instance {
            memory: told.map_or(own.memory, |t| (t, t)),
            ..own
        }),
        ..gpu.clone()
    };
    if args.gpu.is_empty() {
        // A memory without a card is a card of that memory, not every tier with it.
        if let Some(told) = told {
            return Ok(vec![unnamed(told)]);
        }
        return Ok(gpus::all()
            .iter()
            .filter(|g| g.vendor != "intel" && instances::gpu_median(g).is_some())
            .map(with_memory)
            .collect());
    }
    args.gpu
        .iter()
        .map(|name| card(name, args.gpu_memory_gib).map(|g| with_memory(&g)))
        .collect()
}

/// A card of which only the memory is told.
fn unnamed(memory: Bytes) -> GpuFacts {
    GpuFacts {
        name: format!("{memory} GPU"),
        memory,
        memory_cuda: Some(memory),
        ..GpuFacts::default()
    }
}

/// As people write it: "NVIDIA H100 80GB", "A10 24GB", "RTX 4090".
fn card(name: &str, gib: Option<f64>) -> Result<GpuFacts> {
    if let Some((card, profile)) = name.split_once("-MIG-").or_else(|| name.split_once(" MIG ")) {
        if let Some(gpu) = mig::named(name) {
            return Ok(gpu.clone());
        }
        let known: Vec<&str> = gpus::find(card)
            .iter()
            .flat_map(|g| &g.mig_profiles)
            .map(|p| p.name.as_str())
            .collect();
        match known.as_slice() {
            [] => {
                bail!("--gpu {name}: no GPU with MIG is known by the name '{card}'; 'gpuwaste catalog gpus' lists them")
            }
            known => bail!(
                "--gpu {name}: {card} has no MIG profile {profile}; it has {}",
                known.join(", ")
            ),
        }
    }
    if let Some(gpu) = gpus::find_with_memory(name, gib.map(|g| g * 1024.0)).or_else(|| gpus::find(name)) {
        return Ok(gpu.clone());
    }
    if let Some(gpu) = gpus::vgpu(name) {
        return Ok(gpu);
    }
    let near = gpus::nearest(name);
    let told = gib.map(Bytes::from_gib);
    if let Some(memory) = told.or_else(|| gpus::memory_in_name(name).map(gpus::reported_of_name)) {
        // An unknown card whose memory is told, by the flag or by its name, can still be judged for memory.
        return Ok(GpuFacts {
            name: name.to_string(),
            ..unnamed(memory)
        });
    }
    if near.is_empty() {
        bail!("no GPU is known by the name '{name}'; 'gpuwaste catalog gpus' lists them, --gpu-memory-gib judges any");
    }
    bail!(
        "no GPU is known by the name '{name}', or it does not tell two memory sizes apart; nearest: {}",
        near.join(", ")
    )
}

fn tiers<'a>(cards: &'a [GpuFacts], args: &FitArgs) -> Result<Vec<Tier<'a>>> {
    if let Some(region) = args.region.as_deref() {
        let rows = || {
            instances::all()
                .iter()
                .filter(|r| r.region.eq_ignore_ascii_case(region))
        };
        if rows().next().is_none() {
            bail!("no price is known for the region '{region}'; 'gpuwaste catalog instances' lists the regions");
        }
        if !rows().any(|r| r.can_be_rented() && r.list.is_some()) {
            bail!(
                "the catalogue has no on-demand price of an instance in '{region}', only offers of other kinds ({} rows); leave --region out for medians over clouds",
                rows().count()
            );
        }
    }
    Ok(cards
        .iter()
        .map(|gpu| Tier {
            gpu,
            usd_per_gpu_hour: args.region.is_none().then(|| median(gpu)).flatten(),
            sizes: args.region.as_deref().map(|r| sizes(gpu, r)).unwrap_or_default(),
            max_gpus_per_node: if gpu.instance.is_some() { 1 } else { NODE_GPUS },
        })
        .collect())
}

/// What a GPU costs in the middle of all clouds; a MIG instance its compute slices of that.
fn median(gpu: &GpuFacts) -> Option<UsdPerHour> {
    let Some(own) = &gpu.instance else {
        return instances::gpu_median(gpu);
    };
    let card = gpus::all().iter().find(|g| g.name == own.card)?;
    Some(instances::gpu_median(card)?.scale(f64::from(own.slices) / f64::from(card.mig_slices())))
}

/// On-demand instances of a region that have this GPU.
fn sizes(gpu: &GpuFacts, region: &str) -> Vec<(u32, UsdPerHour)> {
    instances::all()
        .iter()
        .filter(|r| r.region.eq_ignore_ascii_case(region) && r.can_be_rented())
        .filter(|r| gpus::find(&r.gpu).is_some_and(|g| g.name == gpu.name))
        .filter_map(|r| Some((r.gpus?, r.price(CapacityType::OnDemand)?)))
        .collect()
}

/// Tokens of a request where only rates are asked for (ours).
const REQUEST_TOKENS: u64 = 2048;

/// The load asked for, as one replica would see it.
fn load(args: &FitArgs) -> Option<Load> {
    let output = args.output_tps?;
    let prompt = args.prompt_tps.unwrap_or(0.0);
    let tokens = args.context_tokens.unwrap_or_else(|| {
        let _ = writeln!(
            io::stderr(),
            "requests of {REQUEST_TOKENS} tokens are assumed; --context-tokens N --concurrency N says otherwise"
        );
        REQUEST_TOKENS
    }) as f64;
    let running = args.concurrency.unwrap_or(0) as f64;
    // Prompt and output share a request as the rates do.
    let prompt_length = tokens * prompt / (prompt + output);
    Some(Load {
        prompt_tokens_per_second: prompt,
        output_tokens_per_second: output,
        peak_running: running,
        peak_kv_tokens: running * tokens,
        prompt_length: Some(prompt_length),
        output_length: Some((tokens - prompt_length).max(1.0)),
        ..Load::default()
    })
}

fn verdict(v: FitVerdict) -> &'static str {
    match v {
        FitVerdict::Fits => "fits",
        FitVerdict::Tight => "tight",
        FitVerdict::DoesNotFit => "does-not-fit",
        FitVerdict::Unknown => "unknown",
    }
}

fn confidence(c: FitConfidence) -> &'static str {
    match c {
        FitConfidence::Assumed => "assumed",
        FitConfidence::Estimated => "estimated",
        FitConfidence::Measured => "measured",
    }
}

/// The verdict over all that was asked: a placement that holds the model but not the load does not fit the need.
fn answer(c: &Candidate) -> (&'static str, &str) {
    let fits = c.placement.verdict == FitVerdict::Fits;
    if !fits || c.accepted {
        return (verdict(c.placement.verdict), &c.placement.reason);
    }
    let refused = c.service.as_ref().is_none_or(|s| s.serves == Some(false));
    (if refused { "does-not-fit" } else { "unknown" }, &c.reason)
}

fn document(model: &ModelFacts, found: &[Candidate]) -> Value {
    json!({
        "schema": 1,
        "model": {
            "id": model.id,
            "parameters": model.parameters,
            "active_parameters": model.active_parameters.or(model.parameters.filter(|_| model.experts.is_none())),
            "source": source(model),
            "base": model.base,
            "confidence": if model.verified { "verified" } else if source(model) == "name" { "assumed" } else { "reported" },
        },
        "placements": found.iter().map(placement).collect::<Vec<_>>(),
    })
}

fn source(model: &ModelFacts) -> &'static str {
    use crate::catalog::models::ModelSource;
    match model.source {
        ModelSource::Name => "name",
        ModelSource::Catalog => "catalog",
        ModelSource::Config => "config",
        ModelSource::Weights => "weights",
    }
}

fn placement(c: &Candidate) -> Value {
    let p = &c.placement;
    let (verdict, reason) = answer(c);
    json!({
        "gpu": c.gpu,
        "gpus": c.gpus,
        "tensor_parallel": c.parallelism.tensor,
        "pipeline_parallel": c.parallelism.pipeline,
        "data_parallel": c.parallelism.data,
        "verdict": verdict,
        "reason": reason,
        "weights_bytes_per_gpu": p.weights_per_gpu.map(|b| b.0),
        "overhead_bytes_per_gpu": p.overhead_per_gpu.map(|o| o.value.0),
        "overhead_band_bytes_per_gpu": p.overhead_per_gpu.map(|o| [o.low.0, o.high.0]),
        "kv_bytes_per_gpu": p.kv_per_gpu.map(|b| b.0),
        "kv_band_bytes_per_gpu": p.kv_band.map(|k| [k.low.0, k.high.0]),
        "kv_band_source": p.kv_band_source.as_ref().map(band_source),
        "kv_bytes_per_token_per_gpu": p.kv_bytes_per_token_per_gpu,
        "kv_capacity_tokens": p.kv_capacity.map(|k| k.value.0),
        "kv_capacity_band_tokens": p.kv_capacity.map(|k| [k.low.0, k.high.0]),
        "max_concurrency": p.max_concurrency,
        "output_tokens_per_second": c.service.as_ref().and_then(|s| s.output_capacity),
        "usd_per_hour": c.usd_per_hour,
        "confidence": confidence(p.confidence),
        "confidence_reasons": p.confidence_reasons,
    })
}

fn band_source(source: &BandSource) -> Value {
    json!({
        "engine": source.engine,
        "version_known": source.version_known,
        "hybrid": source.hybrid,
        "several_gpus": source.several_gpus,
        "threads": source.threads,
        "factor": source.factor,
        "own_bytes_per_gpu": [source.below as u64, source.above as u64],
    })
}

fn table(model: &ModelFacts, found: &[Candidate], tokens: Option<u64>) -> String {
    let mut out = String::new();
    let size = model.parameters.map_or_else(
        || "size unknown".into(),
        |p| format!("{:.1}B parameters", p as f64 / 1e9),
    );
    let quantization = model.quantization.as_deref().unwrap_or("unquantized");
    let length = found.iter().find_map(|c| c.placement.max_model_len);
    let length = length.map_or_else(String::new, |l| format!(" · {l} tokens a request"));
    let wanted = tokens.map_or_else(String::new, |t| format!(" · {t} tokens to hold at once"));
    let _ = writeln!(out, "{}  {size} · {quantization}{length}{wanted}\n", model.id);
    if let Some(base) = &model.base {
        let _ = writeln!(
            out,
            "Not in the catalogue: its architecture is assumed to be that of {base}, and nothing is said to fit.\n--models DIR reads its config.json.\n"
        );
    } else if model.source == models::ModelSource::Name {
        let near = models::nearest(&model.id);
        let hint = if near.is_empty() {
            String::new()
        } else {
            format!(" Nearest names: {}.", near.join(", "))
        };
        let _ = writeln!(
            out,
            "Not in the catalogue: the size is read from the name, and nothing is said to fit.{hint}\n--models DIR reads its config.json.\n"
        );
    }
    let width = terminal_size::terminal_size().map_or(WIDTH, |(w, _)| usize::from(w.0));
    let width = width.clamp(60, 200);
    // Narrow terminals keep what decides.
    let wide = width >= WIDE;
    let mut header = vec!["GPU", "GPUs", "verdict", "$/h"];
    if wide {
        header.extend(["weights", "KV tokens"]);
    }
    header.extend(["requests", "why"]);
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(120))
        .set_header(header);
    for c in found {
        let p = &c.placement;
        let (verdict, reason) = answer(c);
        let dash = || "–".to_string();
        let mut row = vec![
            Cell::new(&c.gpu),
            right(format!("{}{}", c.gpus, way(c))),
            Cell::new(verdict),
            right(c.usd_per_hour.map_or_else(dash, |u| format!("{:.2}", u.usd()))),
        ];
        if wide {
            row.push(right(p.weights_per_gpu.map_or_else(dash, |b| b.to_string())));
            row.push(right(p.kv_capacity.map_or_else(dash, |k| thousands(k.value.0))));
        }
        row.push(right(p.max_concurrency.map_or_else(dash, |n| format!("{n:.1}"))));
        row.push(Cell::new(if verdict == "fits" { "" } else { reason }));
        table.add_row(row);
    }
    // Names and figures stay whole; the reason takes what is left.
    let last = table.column_count().saturating_sub(1);
    for column in table.column_iter_mut().take(last) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    let _ = writeln!(out, "{table}");
    let _ = writeln!(
        out,
        "\nWeights are per GPU. KV tokens and requests (of full length) are of one engine; requests may share the KV cache\nbetter when they are shorter. Prices: medians over clouds as of {}, or the region's whole instances.",
        instances::medians_as_of()
    );
    out
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn way(c: &Candidate) -> String {
    let p = c.parallelism;
    match (p.tensor, p.pipeline) {
        (1, 1) => String::new(),
        (t, 1) => format!(" (TP{t})"),
        (t, s) => format!(" (TP{t} PP{s})"),
    }
}

fn thousands(n: u64) -> String {
    match n {
        0..=9_999 => n.to_string(),
        10_000..=9_999_999 => format!("{}k", n / 1000),
        _ => format!("{:.1}M", n as f64 / 1e6),
    }
}
