//! Bytes of weights on the fullest GPU of a placement, as loaded.

mod parts;

pub(super) use parts::{Parts, parts};

use super::Parallelism;
use super::amount::Amount;
use super::defaults::{Engine, Rules};
use super::memory::Case;
use super::quantization::{Family, Scheme};
use crate::catalog::models::ModelFacts;
use crate::engine::{MemoryRules, memory_rules};
use crate::snapshot::server::EngineSettings;
use crate::units::Bytes;

/// How the parts are spread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    pub(super) tensor: f64,
    pub(super) pipeline: f64,
    /// Ranks that share the experts.
    pub(super) expert_ranks: f64,
    /// Ranks that share attention and dense layers.
    pub(super) attention_ranks: f64,
}

/// Expert and attention ranks. vLLM cuts experts by TP × DP, whole ones with EP and parts of each without
/// (`FusedMoEParallelConfig.make`, `flatten_tp_across_dp`, 0.8.5 to 0.33); SGLang by TP, whose ranks its data-parallel
/// attention divides.
pub(super) fn spread(engine: &Engine, settings: &EngineSettings, parallelism: Parallelism) -> Spread {
    let tensor = f64::from(parallelism.tensor.max(1));
    let data = f64::from(parallelism.data.max(1));
    let dp_attention = settings.dp_attention == Some(true);
    let across = engine.rules == Rules::VllmV1 || settings.expert_parallel == Some(true);
    let expert_ranks = if across && engine.rules != Rules::Sglang && !dp_attention {
        tensor * data
    } else {
        tensor
    };
    Spread {
        tensor,
        pipeline: f64::from(parallelism.pipeline.max(1)),
        expert_ranks,
        attention_ranks: if dp_attention { (tensor / data).max(1.0) } else { tensor },
    }
}

/// Share of a checkpoint that its tensors may be below the estimate: of plain text models at their own precision, whose logged
/// weights are −0.1 to +0.5 % (fourteen threads), and of all others.
const LESS_PLAIN: f64 = 0.005;
const LESS: f64 = 0.015;
/// Share that they may be above it, towers and recurrent layers apart.
const MORE_PLAIN: f64 = 1.01;
/// Of the parts that a 4-bit repository may hold at 16 bit, what is expected: 19.75 GiB logged of a 27B hybrid between 18.3
/// and 23 (two threads).
const LEFT_OUT: f64 = 0.3;
/// Twice that where the row is recalled or approximate.
const UNVERIFIED: f64 = 2.0;

/// Bytes on the fullest GPU. `None`: the number of parameters is not known.
pub(super) fn per_gpu(case: &Case<'_>) -> Option<Amount> {
    let (model, scheme, settings) = (case.model, &case.scheme, case.settings);
    let p = parts(model)?;
    let value = bytes(case, &p, scheme);
    let mut spread = scheme.spread;
    let mut value = match model
        .file_bytes
        .filter(|_| settings.quantization.is_none() || model.quantization.is_some())
    {
        Some(file) => {
            spread = 1.02;
            value * of_files(case, &p, file)
        }
        None => value,
    };
    value += lora(model, settings, &p) / case.spread.tensor;
    let drafted = draft(case, &p);
    value += drafted.value / case.spread.tensor;
    let offloaded = settings.cpu_offload.map_or(0.0, |b| b.0 as f64);
    let value = (value * layers_on_gpu(model, settings) - offloaded).max(0.0) + loader(case);
    let doubt = if model.verified { 1.0 } else { UNVERIFIED };
    let plain = scheme.family == Family::None && p.towers <= 0.0 && p.recurrent <= 0.0 && !model.assumed();
    let (less, spread) = if plain {
        (LESS_PLAIN, MORE_PLAIN)
    } else {
        (LESS, spread)
    };
    let spread = spread.max(heavier(case));
    let unstated = unstated_parts(case, &p);
    let value = value + LEFT_OUT * unstated;
    Some(Amount::new(
        value * (1.0 - less * doubt) - LEFT_OUT * unstated - quantized_head(case, &p),
        value,
        value * (1.0 + (spread - 1.0) * doubt) + unstated + (drafted.high - drafted.value) / case.spread.tensor,
    ))
}

/// Bytes on the fullest GPU of 16-bit weights that the engine itself quantizes, all of them loaded; `None`: it makes none.
/// The high end has room for the CUDA context.
pub(super) fn before_quantizing(case: &Case<'_>) -> Option<Amount> {
    let sglang = case.engine.rules == Rules::Sglang;
    let made = match case.scheme.family {
        Family::Fp8 => true,
        Family::Int8 | Family::Int4 => sglang,
        _ => false,
    };
    if !made || case.model.quantization.is_some() {
        return None;
    }
    let whole = bytes(case, &parts(case.model)?, &Scheme::plain(16.0));
    let whole = (whole - case.settings.cpu_offload.map_or(0.0, |b| b.0 as f64)).max(0.0);
    Some(Amount::new(whole * (1.0 - LESS), whole, whole + 0.5 * Bytes::GIB))
}

/// Bytes a GPU of lookup tables, which a server may keep in the host's memory instead (`SGLANG_DSV41_ENGRAM_HOST_TABLE`,
/// vLLM's `--engram-config`; off by default): of two logged starts one had them on the card.
pub(super) fn tables(case: &Case<'_>) -> f64 {
    case.model.table_parameters as f64 * case.scheme.linear_bits / 8.0 / case.spread.tensor
}

/// DeepSeek-V4 loads heavier than its formats say, in SGLang, which keeps the experts in another layout, by a fifth more: for
/// a cause that is not known (two threads).
fn heavier(case: &Case<'_>) -> f64 {
    match case.engine.rules {
        _ if !case.model.model_type.starts_with("deepseek_v4") => 1.0,
        // 119.83 GiB logged of 119.0 (one thread).
        _ if case.model.table_parameters > 0 => 1.10,
        Rules::Sglang => 1.25,
        _ => 1.10,
    }
}

/// Each part at its bits, cut by its ranks, on the largest stage.
fn bytes(case: &Case<'_>, p: &Parts, scheme: &Scheme) -> f64 {
    let s = &case.spread;
    // The largest stage; of layers that are not known an even share.
    let stage = case
        .model
        .layers()
        .filter(|n| *n > 0)
        .map_or(1.0 / s.pipeline, |layers| {
            let layers = f64::from(layers);
            (layers / s.pipeline).ceil().min(layers) / layers
        });
    let of = |parameters: f64, bits: f64| parameters * bits / 8.0;
    let wide = if scheme.family == Family::None {
        scheme.linear_bits
    } else {
        16.0
    };
    let experts = of(p.experts, scheme.expert_bits) * padding(case.model, scheme, s.expert_ranks.min(s.tensor));
    let body = experts / s.expert_ranks
        + of(p.shared, scheme.shared_bits) / s.tensor
        + of(p.attention, scheme.attention_bits) / s.attention_ranks
        + of(p.recurrent, scheme.state_bits) / s.attention_ranks
        + of(p.rest, scheme.linear_bits) / s.tensor
        + of(p.kv_projections, scheme.attention_bits) / s.attention_ranks.min(p.kv_heads)
        + of(p.replicated, scheme.attention_bits)
        + of(p.router, wide)
        + absorbed(case, p) / s.attention_ranks;
    // Data-parallel attention repeats the embedding, not the head.
    let embedding = of(p.vocab, scheme.vocab_bits) / s.attention_ranks;
    let head = of(p.vocab, scheme.head_bits) / s.tensor * (p.vocab_copies - 1.0);
    let ends = if s.pipeline > 1.0 {
        embedding.max(head)
    } else {
        embedding + head
    };
    body * stage + ends + towers(case, p, wide)
}

/// MLA's up-projections, which engines keep a second time, absorbed, at 16 bit.
fn absorbed(case: &Case<'_>, p: &Parts) -> f64 {
    let absorbs = case.engine.rules == Rules::Sglang || case.engine.is_vllm() && case.engine.since(0, 7);
    if absorbs { p.absorbed * 2.0 } else { 0.0 }
}

/// Vision and audio towers at 16 bit, cut like the rest; llama.cpp loads them from a file of their own, and vLLM not at all
/// with `--language-model-only`.
fn towers(case: &Case<'_>, p: &Parts, bits: f64) -> f64 {
    let left = case.scheme.family == Family::Gguf || case.settings.language_model_only == Some(true);
    if left {
        0.0
    } else {
        p.towers * bits / 8.0 / case.spread.tensor
    }
}

/// The files' exact bytes against the formula's: it only says how they are cut. Layers for drafts are in the files, and loaded
/// only where the engine drafts.
fn of_files(case: &Case<'_>, p: &Parts, file: Bytes) -> f64 {
    let scheme = &case.scheme;
    let of = |parameters: f64, bits: f64| parameters * bits / 8.0;
    let wide = if scheme.family == Family::None {
        scheme.linear_bits
    } else {
        16.0
    };
    let whole = of(p.experts, scheme.expert_bits)
        + of(p.shared, scheme.shared_bits)
        + of(p.attention + p.kv_projections + p.replicated, scheme.attention_bits)
        + of(p.recurrent, scheme.state_bits)
        + of(p.rest, scheme.linear_bits)
        + of(p.router + p.towers, wide)
        + of(p.vocab, scheme.vocab_bits)
        + of(p.vocab, scheme.head_bits) * (p.vocab_copies - 1.0);
    if whole > 0.0 {
        let drafts = case.model.mtp_parameters as f64 * scheme.expert_bits.min(scheme.linear_bits) / 8.0;
        ((file.0 as f64 - drafts) / whole).clamp(0.25, 4.0)
    } else {
        1.0
    }
}

/// What a 4-bit repository may hold at 16 bit where nobody says: attention, recurrent projections and shared experts.
fn unstated_parts(case: &Case<'_>, p: &Parts) -> f64 {
    let scheme = &case.scheme;
    if scheme.parts_stated {
        return 0.0;
    }
    let s = &case.spread;
    let more = |parameters: f64, bits: f64| parameters * (16.0 - bits).max(0.0) / 8.0;
    more(p.attention + p.kv_projections, scheme.attention_bits) / s.attention_ranks
        + more(p.replicated, scheme.attention_bits)
        + more(p.recurrent, scheme.state_bits) / s.attention_ranks
        + more(p.shared, scheme.shared_bits) / s.tensor
}

/// What a head at the linear layers' bits takes less, where nobody says which parts a 4-bit floating-point repository quantizes:
/// most leave the head at 16 bit, some do not.
fn quantized_head(case: &Case<'_>, p: &Parts) -> f64 {
    let scheme = &case.scheme;
    if scheme.parts_stated || !matches!(scheme.family, Family::Nvfp4 | Family::Mxfp4) {
        return 0.0;
    }
    let less = (scheme.head_bits - scheme.linear_bits).max(0.0) / 8.0;
    p.vocab * (p.vocab_copies - 1.0) * less / case.spread.tensor
}

/// What SGLang's own figure has beside the tensors: it tells how much less is free, with tensors rounded up by the allocator
/// and the modules that loading pulls in (0.74 logged where a model's tensors are 0.70 GiB, 1.10 where they are 1.06, 14.98
/// for 14.96; three threads). On unified memory that is the process's own growth, too (3.25 for 2.88; one thread).
fn loader(case: &Case<'_>) -> f64 {
    match case.engine.rules {
        Rules::Sglang if case.gpu.is_unified() => 0.36 * Bytes::GIB,
        Rules::Sglang => 0.04 * Bytes::GIB,
        _ => 0.0,
    }
}

/// gpt-oss is loaded with its hidden size padded to a multiple of 256 (2880 → 3072), and each rank's share of the expert
/// width to one of 128.
fn padding(model: &ModelFacts, scheme: &Scheme, ranks: f64) -> f64 {
    let padded = |size: f64, to: f64| (size / to).ceil() * to / size;
    match (scheme.family, model.hidden, model.experts) {
        (Family::Mxfp4, Some(hidden), Some(e)) if model.model_type == "gpt_oss" && hidden > 0 && e.intermediate > 0 => {
            let share = f64::from(e.intermediate) / ranks;
            let width = if ranks > 1.0 { padded(share, 128.0) } else { 1.0 };
            padded(f64::from(hidden), 256.0) * width
        }
        _ => 1.0,
    }
}

/// vLLM's default `max_lora_rank`.
const RANK: f64 = 16.0;

/// LoRA slots: `max_loras` adapters of `max_lora_rank` (vLLM's defaults: 1 adapter, rank 16) on every linear layer.
fn lora(model: &ModelFacts, settings: &EngineSettings, p: &Parts) -> f64 {
    if settings.lora != Some(true) {
        return 0.0;
    }
    let adapters = settings.max_loras.unwrap_or(1).max(1) as f64;
    let rank = settings.max_lora_rank.map_or(RANK, |r| r as f64);
    let hidden = f64::from(model.hidden.unwrap_or(4096).max(1));
    // A matrix of n parameters gets rank × (rows + columns) ≈ 2 × rank × n ÷ width.
    adapters * 2.0 * rank * (p.rest + p.attention + p.kv_projections) / hidden * 2.0
}

/// What a draft adds before it is cut: the checkpoint's own layer (MTP), or a head of the model's shape (EAGLE). A method that
/// is not told may be either; n-grams load nothing.
fn draft(case: &Case<'_>, p: &Parts) -> Amount {
    let settings = case.settings;
    if settings.speculative != Some(true) {
        return Amount::ZERO;
    }
    let scheme = &case.scheme;
    let method = settings.speculative_method.as_deref().unwrap_or_default();
    let layers = f64::from(case.model.layers().unwrap_or(32).max(1));
    let one = (p.rest * scheme.linear_bits
        + (p.attention + p.kv_projections + p.replicated) * scheme.attention_bits
        + p.experts * scheme.expert_bits)
        / 8.0
        / layers;
    // MTP layers of quantized checkpoints are often left at 16 bit.
    let own = case.model.mtp_parameters as f64;
    let own = Amount::new(
        own * scheme.linear_bits / 8.0,
        own * scheme.linear_bits / 8.0,
        own * 2.0,
    );
    let head = Amount::around(one + p.vocab, 0.5, 2.0);
    match method {
        m if ["ngram", "suffix"].iter().any(|w| m.contains(w)) => Amount::ZERO,
        m if m.contains("mtp") || m.contains("nextn") => {
            if own.value > 0.0 {
                own
            } else {
                Amount::around(one, 0.5, 2.0)
            }
        }
        "" if own.value > 0.0 => own.larger(Amount::ZERO).either(head),
        _ => head,
    }
}

/// Share of the layers that llama.cpp keeps on the GPU (`-ngl`).
fn layers_on_gpu(model: &ModelFacts, settings: &EngineSettings) -> f64 {
    match (memory_rules(settings.engine), settings.gpu_layers, model.layers()) {
        (MemoryRules::LlamaCpp, Some(n), Some(layers)) if layers > 0 => (n as f64 / f64::from(layers)).min(1.0),
        _ => 1.0,
    }
}
