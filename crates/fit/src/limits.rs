//! What forbids a placement whatever its memory: heads and blocks that do not divide, missing units, lengths beyond the model.

use super::defaults::{Engine, Rules, Version};
use super::memory::Case;
use super::quantization;
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::{self, Attention, LayerKind, ModelFacts, Task};
use crate::snapshot::server::EngineSettings;

/// The first limit that is broken, in words.
pub(super) fn broken(case: &Case<'_>) -> Option<String> {
    engine(case)
        .or_else(|| gone(case))
        .or_else(|| quantization::unsupported(&case.scheme, &case.engine, case.settings, case.gpu))
        .or_else(|| half_precision(case))
        .or_else(|| heads(case))
        .or_else(|| steps(case))
        .or_else(|| adapters(case))
        .or_else(|| stages(case))
        .or_else(|| blocks(case))
        .or_else(|| cut_group(case).filter(|c| c.sure).map(|c| c.reason))
        .or_else(|| length(case))
}

/// Cards that the engine has no kernels for: vLLM's installation guide asks for compute capability 7.0 (7.5 since its
/// wheels moved to CUDA 13 in 0.20, which dropped Volta) or ROCm's gfx90a, gfx942, gfx950, gfx11xx and gfx12xx; SGLang
/// and TGI for 7.5, TensorRT-LLM for 8.0. llama.cpp runs on all.
fn engine(case: &Case<'_>) -> Option<String> {
    let (name, nvidia) = match case.engine.rules {
        Rules::VllmV1 if case.engine.version.is_some() && case.engine.since(0, 20) => ("vLLM since 0.20", (7, 5)),
        Rules::VllmV0 | Rules::VllmV1 => ("vLLM", (7, 0)),
        Rules::Sglang => ("SGLang", (7, 5)),
        Rules::Tgi => ("TGI", (7, 5)),
        Rules::Trtllm => ("TensorRT-LLM", (8, 0)),
        Rules::LlamaCpp | Rules::Plain => return None,
    };
    if let Some((major, minor)) = case.gpu.compute_capability {
        let told = format!(
            "{name} needs compute capability {}.{}, {} has {major}.{minor}",
            nvidia.0, nvidia.1, case.gpu.name
        );
        return ((major, minor) < nvidia).then_some(told);
    }
    if case.gpu.vendor != "amd" {
        return None;
    }
    let architecture = case.gpu.architecture.as_str();
    let served = architecture.starts_with("CDNA") && architecture != "CDNA1"
        || case.engine.is_vllm() && ["RDNA3", "RDNA4"].contains(&architecture);
    let missing = !served || case.engine.rules == Rules::Trtllm;
    missing.then(|| format!("{name} has no kernels for {} ({architecture})", case.gpu.name))
}

/// Models that vLLM no longer runs, and the last release that did (`_PREVIOUSLY_SUPPORTED_MODELS`, vllm/model_executor/models/registry.py).
const GONE: &[(&str, Version)] = &[
    ("mllama", Version(0, 10, 2)),
    ("phi4flash", Version(0, 10, 2)),
    ("phi3small", Version(0, 9, 2)),
];

fn gone(case: &Case<'_>) -> Option<String> {
    let version = case.engine.version.filter(|_| case.engine.is_vllm())?;
    let (model, Version(major, minor, patch)) = GONE
        .iter()
        .find(|(m, last)| *m == case.model.model_type && version > *last)?;
    Some(format!(
        "vLLM ran {model} until {major}.{minor}.{patch}, and no longer does"
    ))
}

fn heads(case: &Case<'_>) -> Option<String> {
    let ranks = case.spread.attention_ranks as u32;
    case.model.groups.iter().find_map(|group| {
        let attention = match &group.kind {
            LayerKind::Full(a)
            | LayerKind::Sliding { attention: a, .. }
            | LayerKind::Chunked { attention: a, .. }
            | LayerKind::Compressed { attention: a, .. }
            | LayerKind::Parallel { attention: a, .. } => a,
            LayerKind::SharedKv | LayerKind::Recurrent(_) | LayerKind::None => return None,
        };
        let (Attention::Grouped { heads, .. }
        | Attention::Latent { heads, .. }
        | Attention::Bidirectional { heads, .. }) = *attention;
        if ranks > 0 && heads > 0 && heads % ranks != 0 {
            return Some(format!(
                "{heads} attention heads are not divisible by tensor parallelism {ranks}"
            ));
        }
        let Attention::Grouped { kv_heads, .. } = *attention else {
            return None;
        };
        let whole =
            case.engine.rules == Rules::LlamaCpp || case.engine.rules == Rules::Plain || ranks == 0 || kv_heads == 0;
        // Fewer than ranks are replicated, more are divided: vLLM's and SGLang's attention asserts that either comes out even
        // (`vllm/model_executor/models/llama.py`, `sglang/srt/models/llama.py`), TGI and TensorRT-LLM refuse the same.
        (!whole && !kv_heads.is_multiple_of(ranks) && !ranks.is_multiple_of(kv_heads)).then(|| {
            format!("{kv_heads} KV heads can neither be divided nor replicated over tensor parallelism {ranks}")
        })
    })
}

/// What vLLM's scheduler refuses: a step that holds fewer tokens than sequences, or, without chunked prefill, than a prompt may
/// have (`SchedulerConfig`, 0.4 to 0.33). Its first engine chunks only where told, or above 32,768 tokens.
fn steps(case: &Case<'_>) -> Option<String> {
    if !case.engine.is_vllm() {
        return None;
    }
    let tokens = case.settings.max_num_batched_tokens?;
    if let Some(sequences) = case.settings.max_num_seqs.filter(|s| *s > tokens) {
        return Some(format!(
            "max_num_batched_tokens {tokens} is below max_num_seqs {sequences}"
        ));
    }
    let length = case
        .settings
        .max_model_len
        .or(case.model.max_positions.filter(|_| case.model.verified))?;
    let generates = case.model.task == Task::Generate;
    let chunked = case.settings.chunked_prefill.unwrap_or(match case.engine.rules {
        // Never by itself where images come in between.
        Rules::VllmV0 => length > 32_768 && case.model.tower_parameters == 0 && case.model.model_type != "mllama",
        _ => true,
    });
    (generates && !chunked && tokens < length).then(|| {
        format!("max_num_batched_tokens {tokens} is below max_model_len {length}, and prompts are not chunked: use --enable-chunked-prefill, or more tokens")
    })
}

/// Models that vLLM does not run in float16, whose range their activations leave (`_FLOAT16_NOT_SUPPORTED_MODELS`).
const NO_FLOAT16: &[&str] = &["gemma2", "gemma3", "gemma3_text", "plamo2", "glm4"];

/// The element that weights get where nothing is said, on cards before Ampere, which have no bfloat16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OldCard {
    /// float16, or whatever the model has.
    Half,
    /// float32: the model does not run in float16 (`_resolve_auto_dtype`, 0.9 to 0.33).
    Full,
    /// vLLM asks for `--dtype half` (before vllm-project/vllm#17265, in 0.8.5 or the next).
    Refused,
}

pub(super) fn on_old_card(engine: &Engine, model: &ModelFacts, settings: &EngineSettings, gpu: &GpuFacts) -> OldCard {
    let old = gpu.compute_capability.is_some_and(|c| c < (8, 0));
    let stated = settings.dtype.as_deref().is_some_and(|d| d != "auto");
    let brain = model.verified && model.dtype.as_deref() == Some("bfloat16");
    if !engine.is_vllm() || !old || stated {
        OldCard::Half
    } else if engine.since(0, 9) && NO_FLOAT16.contains(&model.model_type.as_str()) {
        OldCard::Full
    } else if engine.version.is_some_and(|v| v < Version(0, 8, 5)) && brain && model.quantization.is_none() {
        OldCard::Refused
    } else {
        OldCard::Half
    }
}

fn half_precision(case: &Case<'_>) -> Option<String> {
    let (gpu, model) = (&case.gpu.name, &case.model.model_type);
    let half = matches!(case.settings.dtype.as_deref(), Some("half" | "float16" | "fp16"));
    if half && case.engine.is_vllm() && case.engine.since(0, 9) && NO_FLOAT16.contains(&model.as_str()) {
        return Some(format!("vLLM does not run {model} in float16"));
    }
    let quantized = case.scheme.family != quantization::Family::None;
    match on_old_card(&case.engine, case.model, case.settings, case.gpu) {
        OldCard::Refused => Some(format!(
            "{gpu} has no bfloat16, which the model is stored in: use --dtype half"
        )),
        // Kernels for quantized weights want 16 bit.
        OldCard::Full if quantized => Some(format!(
            "{gpu} has no bfloat16, and vLLM does not run {model} in float16"
        )),
        _ => None,
    }
}

/// Ranks that vLLM's adapters may have (`MaxLoRARanks`, vllm/config/lora.py; 1, 320 and 512 came later).
const LORA_RANKS: &[u64] = &[1, 8, 16, 32, 64, 128, 256, 320, 512];

fn adapters(case: &Case<'_>) -> Option<String> {
    let rank = case.settings.max_lora_rank.filter(|r| !LORA_RANKS.contains(r))?;
    (case.engine.is_vllm() && case.settings.lora == Some(true))
        .then(|| format!("max_lora_rank {rank} is none of {LORA_RANKS:?}"))
}

/// Keys and values in e4m3 on cards before Ada: FlashInfer reads them, Triton's kernels refuse ("type fp8e4nv not supported in this
/// architecture", vllm-project/vllm#26431), and which of the two vLLM takes no source states. e5m2 both read.
pub(super) fn cache_by_backend(case: &Case<'_>) -> Option<String> {
    let e4m3 = matches!(case.settings.kv_cache_dtype.as_deref(), Some("fp8" | "fp8_e4m3"));
    let old = case.gpu.compute_capability.is_some_and(|c| c < (8, 9));
    (e4m3 && old && case.engine.rules == Rules::VllmV1).then(|| {
        format!(
            "whether an attention backend reads an fp8_e4m3 cache on {} depends on which one is taken: use fp8_e5m2, or auto",
            case.gpu.name
        )
    })
}

fn stages(case: &Case<'_>) -> Option<String> {
    let layers = case.model.layers()?;
    let stages = case.parallelism.pipeline;
    (stages > layers).then(|| format!("{layers} layers cannot be cut into {stages} pipeline stages"))
}

/// Groups of integer weights that tensor parallelism cuts ("The input size is not aligned with the quantized weight shape"):
/// vLLM's, SGLang's and TGI's linear layers refuse them. Kernels for experts take smaller groups (`MoeWNA16Config`). A copy's
/// makers may have padded the width: `sure` where the width is the copy's own.
pub(super) struct CutGroup {
    pub(super) reason: String,
    pub(super) sure: bool,
}

pub(super) fn cut_group(case: &Case<'_>) -> Option<CutGroup> {
    use quantization::Family;
    let integers = matches!(case.scheme.family, Family::Awq | Family::Gptq | Family::Int4);
    let refuses = case.engine.is_vllm() || matches!(case.engine.rules, Rules::Sglang | Rules::Tgi);
    let (tensor, width) = (case.parallelism.tensor, case.model.intermediate?);
    let group = case.scheme.group?;
    if !integers || !refuses || case.model.experts.is_some() || width.is_multiple_of(tensor * group) {
        return None;
    }
    let own = models::find(&case.model.id).is_some_and(|m| m.quantization == case.model.quantization);
    Some(CutGroup {
        reason: format!(
            "the intermediate size {width} cut by tensor parallelism {tensor} is no multiple of the quantization group of {group}"
        ),
        sure: own && case.model.verified,
    })
}

/// fp8 blocks and integer groups may not be cut across ranks (vLLM refuses; expert parallelism cuts whole experts).
fn blocks(case: &Case<'_>) -> Option<String> {
    let tensor = case.parallelism.tensor;
    if tensor == 1 {
        return None;
    }
    let experts_whole = case.settings.expert_parallel == Some(true);
    let width = match case.model.experts {
        Some(_) if experts_whole => return None,
        Some(e) => e.intermediate,
        None => case.model.intermediate?,
    };
    let quantized = case.model.experts.is_none() || case.scheme.expert_bits < 16.0;
    let block = case.scheme.block.filter(|_| quantized)?;
    let cut = width % (tensor * block) != 0;
    cut.then(|| {
        format!("the intermediate size {width} cut by tensor parallelism {tensor} is no multiple of the fp8 block of {block}; use expert parallelism or a smaller one")
    })
}

/// Engines refuse a longer context than the model's own.
fn length(case: &Case<'_>) -> Option<String> {
    let (stated, own) = (case.settings.max_model_len?, case.model.max_positions?);
    let checks = case.engine.is_vllm() || case.engine.rules == Rules::Sglang;
    let strict = checks && case.model.verified && !case.settings.stretched;
    (strict && stated > own).then(|| format!("max_model_len {stated} is beyond the model's {own} positions"))
}
