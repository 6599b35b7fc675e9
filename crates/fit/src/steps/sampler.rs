//! Logits of the last tokens and what the sampler makes of them, in bytes a sequence and entry of the vocabulary.

use super::super::amount::Amount;
use super::super::defaults::{Rules, Version};
use super::super::memory::Case;
use super::super::paths::{self, Path};
use super::forward;

/// 16-bit logits, their fp32 copy, the sorted copy with 64-bit indices, and the buffers of torch's segmented sort. Logged
/// peaks: 38.4 to 39.4 (eleven starts of V0, 0.8 to 0.16 on T4, A10G, H100; five threads).
const SORTED: Amount = Amount {
    low: 37.0,
    value: 39.0,
    high: 41.0,
};
/// 16-bit logits, their fp32 copy, probabilities and exponential noise, or FlashInfer's masked copy: logged 13 to 15 (six
/// starts of 0.10 to 0.28; four threads), 22 with AITER's sampler on an MI300X.
const UNSORTED: Amount = Amount {
    low: 10.0,
    value: 14.0,
    high: 16.0,
};
/// The second runner's profile samples with the model's own logits, since 0.31 with the fp32 pipeline of its warm-up.
const SECOND: Amount = Amount {
    low: 2.0,
    value: 4.0,
    high: 14.0,
};
const SECOND_PROFILED: Amount = Amount {
    low: 6.0,
    value: 8.0,
    high: 14.0,
};
/// Counters of output tokens (int32) and a bit a token of the prompt, kept for each sequence and entry of the vocabulary
/// (`PenaltiesState`).
const COUNTERS: f64 = 4.125;
/// The fp32 copy that the second runner's warm-up asks for and its profile did not; more where top-k and top-p need a copy.
const WARM_UP: Amount = Amount {
    low: 0.0,
    value: 4.0,
    high: 8.0,
};
/// Drafting samples the rejected and the bonus tokens, twice the rows (`_dummy_sampler_run` with a rejection sampler).
const DRAFTING: Amount = Amount {
    low: 1.0,
    value: 1.9,
    high: 2.6,
};
/// TensorRT-LLM's decoder: fp32 logits of all sequences, and the workspaces of top-k and top-p (one start, 20 bytes logged
/// beside the weights).
const TRTLLM: Amount = Amount {
    low: 8.0,
    value: 18.0,
    high: 24.0,
};

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
        Path::Old => SORTED,
        Path::New => UNSORTED,
        Path::Either => SORTED.either(UNSORTED),
    };
    let second = match case.engine.version {
        Some(v) if v < Version(0, 31, 0) => SECOND,
        Some(v) if v >= Version(0, 33, 0) => SECOND_PROFILED,
        _ => SECOND.either(SECOND_PROFILED),
    };
    let bytes = match paths::runner(case) {
        Path::Old => first,
        Path::New => second,
        Path::Either => first.either(second),
    };
    let drafting = case.settings.speculative == Some(true) && case.engine.rules == Rules::VllmV1;
    let bytes = if drafting {
        Amount::new(
            bytes.low * DRAFTING.low,
            bytes.value * DRAFTING.value,
            bytes.high * DRAFTING.high,
        )
    } else {
        bytes
    };
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
    let second = WARM_UP.times(entries(case));
    match paths::runner(case) {
        Path::Old => Amount::ZERO,
        Path::New => second,
        Path::Either => second.either(Amount::ZERO),
    }
}

pub(super) fn trtllm(case: &Case<'_>) -> Amount {
    TRTLLM.times(entries(case).min(2048.0 * case.model.vocab.unwrap_or(0) as f64))
}
