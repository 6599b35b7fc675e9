//! Logits of the last tokens and what the sampler makes of them, in bytes a sequence and entry of the vocabulary.

use super::super::amount::{Amount, Logged};
use super::super::defaults::{Rules, Version};
use super::super::memory::Case;
use super::super::paths::{self, Path};
use super::forward;

/// 16-bit logits, their fp32 copy, the sorted copy with 64-bit indices, and the buffers of torch's segmented sort. Logged
/// peaks: 38.4 to 39.4 (eleven starts of V0, 0.8 to 0.16 on T4, A10G, H100; five threads).
const SORTED: Logged = Logged::new(37.0, 39.0, 41.0, 5);
/// 16-bit logits, their fp32 copy, probabilities and exponential noise, or FlashInfer's masked copy: logged 13 to 15 (six
/// starts of 0.10 to 0.28; four threads), 22 with AITER's sampler on an MI300X.
const UNSORTED: Logged = Logged::new(10.0, 14.0, 16.0, 4);
/// The second runner's profile samples with the model's own logits, since 0.31 with the fp32 pipeline of its warm-up.
const SECOND: Logged = Logged::new(2.0, 4.0, 14.0, 3);
const SECOND_PROFILED: Logged = Logged::new(6.0, 8.0, 14.0, 2);
/// Counters of output tokens (int32) and a bit a token of the prompt, kept for each sequence and entry of the vocabulary
/// (`PenaltiesState`).
const COUNTERS: f64 = 4.125;
/// The fp32 copy that the second runner's warm-up asks for and its profile did not; more where top-k and top-p need a copy.
const WARM_UP: Logged = Logged::new(0.0, 4.0, 8.0, 2);
/// Drafting samples the rejected and the bonus tokens, twice the rows (`_dummy_sampler_run` with a rejection sampler).
const DRAFTING: Logged = Logged::new(1.0, 1.9, 2.6, 1);
/// TensorRT-LLM's decoder: fp32 logits of all sequences, and the workspaces of top-k and top-p (one start, 20 bytes logged
/// beside the weights).
const TRTLLM: Logged = Logged::new(8.0, 18.0, 24.0, 1);

/// Sequences × vocabulary: rows of logits are not cut by the ranks, they are gathered.
fn entries(case: &Case<'_>) -> f64 {
    let sequences = case.step.sequences.min(case.step.tokens.max(1));
    sequences as f64 * case.model.vocab.unwrap_or(0) as f64
}

fn samples(case: &Case<'_>) -> bool {
    case.model.task == crate::catalog::models::Task::Generate || case.engine.rules == Rules::VllmV0
}

pub(super) fn peak(case: &Case<'_>) -> Amount {
    if !samples(case) {
        return Amount::ZERO;
    }
    let first = match paths::sampler(case) {
        Path::Old => SORTED.amount(),
        Path::New => UNSORTED.amount(),
        Path::Either => SORTED.amount().either(UNSORTED.amount()),
    };
    let second = match case.engine.version {
        Some(v) if v < Version(0, 31, 0) => SECOND.amount(),
        Some(v) if v >= Version(0, 33, 0) => SECOND_PROFILED.amount(),
        _ => SECOND.amount().either(SECOND_PROFILED.amount()),
    };
    let bytes = match paths::runner(case) {
        Path::Old => first,
        Path::New => second,
        Path::Either => first.either(second),
    };
    let drafting = case.settings.speculative == Some(true) && case.engine.rules == Rules::VllmV1;
    let bytes = if drafting { bytes.by(DRAFTING.amount()) } else { bytes };
    // The step's hidden states are still there.
    let hidden = forward::hidden_states(case);
    defaulted(case, bytes.times(entries(case))).plus(Amount::exact(hidden))
}

/// Many servers run with fewer sequences than the default. Where the number is not stated the low end says so; the high end is
/// the default's.
fn defaulted(case: &Case<'_>, amount: Amount) -> Amount {
    if case.settings.max_num_seqs.is_some() {
        return amount;
    }
    Amount {
        low: amount.low * 0.5,
        ..amount
    }
}

/// Counters that the budget counts.
pub(super) fn counters(case: &Case<'_>) -> Amount {
    if paths::counts_consumed(&case.engine) {
        held(case)
    } else {
        Amount::ZERO
    }
}

/// Counters that were taken before the profile and are in no sum of it.
pub(super) fn uncounted_counters(case: &Case<'_>) -> Amount {
    if paths::counts_consumed(&case.engine) {
        Amount::ZERO
    } else {
        held(case)
    }
}

fn held(case: &Case<'_>) -> Amount {
    let all = Amount::exact(COUNTERS * entries(case));
    match paths::runner(case) {
        _ if !samples(case) => Amount::ZERO,
        Path::Old => Amount::ZERO,
        Path::New => defaulted(case, all),
        Path::Either => defaulted(case, all).either(Amount::ZERO),
    }
}

/// What the warm-up after the pool asks for beyond the profiled peak. The first runner's repeats the profile's own.
pub(super) fn warm_up(case: &Case<'_>) -> Amount {
    let profiled = case.engine.version.is_some_and(|v| v >= Version(0, 33, 0));
    if profiled || !samples(case) {
        return Amount::ZERO;
    }
    let second = WARM_UP.amount().times(entries(case));
    match paths::runner(case) {
        Path::Old => Amount::ZERO,
        Path::New => second,
        Path::Either => second.either(Amount::ZERO),
    }
}

pub(super) fn trtllm(case: &Case<'_>) -> Amount {
    TRTLLM
        .amount()
        .times(entries(case).min(2048.0 * case.model.vocab.unwrap_or(0) as f64))
}
