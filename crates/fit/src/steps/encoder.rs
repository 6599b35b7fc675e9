//! Towers: vLLM profiles as many images (or videos) of the largest size as its encoder budget holds, in one batch.

use super::super::amount::Amount;
use super::super::defaults::Version;
use super::super::memory::Case;
use crate::catalog::models::{Task, Tower};
use crate::units::Bytes;

/// Elements a patch at the widest layer: both sides of the activation and the stream with its norm, queries, keys and values.
const STREAMS: f64 = 4.0;
/// Outputs of a tower's token beside the decoder's width: deep features of three layers in Qwen3-VL and later.
const DEEP: f64 = 4.0;

/// Items of the largest size that one batch of the profile has (`MultiModalBudget`, 0.8 to 0.33): the budget is a step's
/// tokens, or one item where that is more. Before 0.10 a request had one item.
fn items(case: &Case<'_>, tower: &Tower) -> f64 {
    let item = tower.tokens_per_item.max(1);
    let fit = (case.step.tokens.max(item) / item) as f64;
    let one_each = case.engine.version.is_some_and(|v| v < Version(0, 10, 0));
    let limit = match case.settings.images_per_prompt {
        Some(0) => return 0.0,
        Some(n) => n as f64 * case.step.sequences as f64,
        None if one_each => case.step.sequences as f64,
        None => f64::INFINITY,
    };
    fit.min(limit).max(1.0)
}

fn tower<'a>(case: &'a Case<'_>) -> Option<&'a Tower> {
    let off = case.settings.language_model_only == Some(true) || !case.engine.is_v1();
    case.model
        .tower
        .as_ref()
        .filter(|_| !off && case.model.tower_parameters > 0)
}

/// One batch through the tower. Its kernels are not compiled, so that copies stay; where attention has no fused kernel they
/// are more. A server may be told to take smaller images (`--mm-processor-kwargs`), or fewer.
pub(super) fn peak(case: &Case<'_>) -> Amount {
    let Some(tower) = tower(case) else {
        return Amount::ZERO;
    };
    let patches = items(case, tower) * tower.tokens_per_item as f64 * tower.patches_per_token;
    let a_patch = 2.0 * (2.0 * f64::from(tower.inner) + STREAMS * f64::from(tower.hidden));
    Amount::around(patches * a_patch, 0.3, 1.6)
}

/// Outputs of the profiled batch, kept while the decoder is profiled.
pub(super) fn outputs(case: &Case<'_>) -> Amount {
    let Some(tower) = tower(case) else {
        return Amount::ZERO;
    };
    let hidden = f64::from(case.model.hidden.unwrap_or(4096));
    let tokens = items(case, tower) * tower.tokens_per_item as f64;
    Amount::new(0.0, 1.0, DEEP).times(tokens * hidden * 2.0)
}

/// Families that cut an image into tiles: vLLM V0 profiles all sequences with images of most tiles.
const TILED: &[&str] = &[
    "minicpmv",
    "minicpmo",
    "internvl",
    "internvl_chat",
    "phi3_v",
    "llava_next",
    "llava_onevision",
    "molmo",
    "interns1",
];

/// MiniCPM-V 2.6 in the releases that had no fused attention for its tower (`na_vit.py`, 0.5.4 to 0.6.2): one slice of 32 × 32
/// patches a sequence, whose 16 heads keep all scores at 16 bit, their softmax in fp32 and its 16-bit copy, at once for all
/// sequences.
const SLICE_SCORES: f64 = 16.0 * 1024.0 * 1024.0 * (2.0 + 4.0 + 2.0);
/// Tokens of its image in the decoder (`query_num`): a step has no more images than fit.
const SLICE_TOKENS: u64 = 64;

fn unfused_slices(case: &Case<'_>) -> Option<Amount> {
    let unfused = case.engine.version.is_some_and(|v| v < Version(0, 6, 3));
    let qwen = case.model.vocab.is_some_and(|v| v > 151_000);
    (unfused && qwen && case.model.model_type == "minicpmv").then(|| {
        let sequences = case.step.sequences.min((case.step.tokens / SLICE_TOKENS).max(1));
        Amount::around(sequences as f64 * SLICE_SCORES, 0.75, 1.15)
    })
}

/// Llama-Vision: four tiles of 1,601 patches (padded to 1,608) a sequence; at the widest point five of the tower's layers, the
/// result of them all with the last one, and their projection are there, with the last layer's inner width
/// (`vllm/model_executor/models/mllama.py`, 0.6.2 to 0.10; hidden 1,280, inner 5,120). 36.6 GiB logged at 128 sequences (one
/// thread), where this says 36.
fn llama_vision(case: &Case<'_>) -> f64 {
    let hidden = f64::from(case.model.hidden.unwrap_or(4096));
    let inner = 5120.0 / case.spread.tensor;
    4.0 * 1608.0 * 2.0 * (5.0 * 1280.0 + 6.0 * 1280.0 + hidden + inner)
}

/// Whisper: 30 s of audio a sequence, 1,500 frames through the encoder (`WhisperForConditionalGeneration`, whose towers are the
/// model's own width). 10.9 GiB more than without them were taken at 256 sequences (one thread).
fn speech(case: &Case<'_>) -> f64 {
    let hidden = f64::from(case.model.hidden.unwrap_or(1280));
    let inner = f64::from(case.model.intermediate.unwrap_or(5120));
    1500.0 * 2.0 * (2.0 * inner + STREAMS * hidden)
}

/// V0 profiles every sequence with an image or a sound; ten tiles an image in the families that cut one, 1,024 patches each, at
/// the tower's inner width of 4,304.
pub(super) fn first_engine(case: &Case<'_>) -> Amount {
    let sequences = case.step.sequences as f64;
    let model = case.model;
    if model.model_type == "mllama" {
        return Amount::around(sequences * llama_vision(case), 0.85, 1.2);
    }
    if model.task == Task::Asr {
        return Amount::around(sequences * speech(case), 0.6, 1.2);
    }
    if let Some(slices) = unfused_slices(case) {
        return slices;
    }
    if TILED.contains(&model.model_type.as_str()) {
        return Amount::new(0.0, 0.05, 0.25).times(sequences * Bytes::GIB);
    }
    if model.tower_parameters > 0 {
        // Images per sequence in the profile differ by model; their tokens are part of the step.
        let decoder = super::forward::peak(case).larger(super::sampler::peak(case));
        return Amount::new(0.0, 0.0, decoder.value * 2.5);
    }
    Amount::ZERO
}
