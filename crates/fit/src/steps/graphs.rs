//! CUDA graphs: by how many sizes are captured, and over how many layers.

use super::super::amount::{Amount, Logged};
use super::super::defaults::{Rules, Version};
use super::super::memory::Case;
use super::super::paths;
use crate::units::Bytes;

/// GiB a layer of all sizes of a start: logged 0.016 to 0.05 on V1 (0.5 for 28 layers, 1.88 for 36, 2.37 for 48, 1.13 for 32
/// before 0.20; nine threads; the ends hold eight of ten), 0.01 to 0.03 on V0.
const A_LAYER: Logged = Logged::new(0.005, 0.024, 0.036, 9);
/// As measured before the pool since 0.18: the first capture, and one more for each size (0.43 and 0.53 for 28 layers).
const A_LAYER_ESTIMATED: Logged = Logged::new(0.006, 0.018, 0.036, 3);
/// Hybrids' recurrent kernels keep more: 2.37 GiB for 48 layers and 1.29 for 32 captured, 1.58 GiB estimated for 32, 2.44 for
/// 42; less than that for 64 layers at two ranks.
const HYBRID_LAYER: Logged = Logged::new(0.012, 0.04, 0.055, 2);
const HYBRID_LAYER_ESTIMATED: Logged = Logged::new(0.015, 0.042, 0.065, 3);
/// Sizes up to 512 of vLLM's default list since 0.11.
const ALL_SIZES: f64 = 51.0;
/// GiB that a capture takes whatever its sizes.
const FIRST: Logged = Logged::new(0.01, 0.05, 0.15, 4);

fn eager(case: &Case<'_>) -> bool {
    case.settings.enforce_eager == Some(true)
}

/// Sizes that are captured (`VllmConfig._set_cudagraph_sizes`; read in 0.8.5, 0.9.2, 0.10.2, 0.11.2, 0.14.1, 0.26.0, 0.33.0),
/// as a share of the default: V0 up to its sequences, V1 all up to 512 until 0.10.1, then twice the sequences, since 0.14 times
/// the tokens of a draft.
fn sizes(case: &Case<'_>) -> f64 {
    let sequences = case.step.sequences;
    let version = case.engine.version.unwrap_or(Version(u32::MAX, 0, 0));
    let step_of = |largest: u64, from: u64, wider: u64| {
        let (fine, coarse) = (largest.min(from), largest.saturating_sub(from));
        match fine {
            n if n <= 8 => (n.max(1) as f64).log2().ceil() + 1.0,
            n => 3.0 + (n / 8) as f64 + (coarse / wider) as f64,
        }
    };
    let drafted = u64::from(case.settings.speculative_tokens.unwrap_or(0));
    let count = match version {
        _ if case.engine.rules == Rules::VllmV0 => step_of(sequences.min(256), 8192, 8),
        v if v < Version(0, 10, 2) => step_of(512, 512, 8),
        v if v < Version(0, 11, 1) => step_of(sequences.saturating_mul(2).min(512), 512, 8),
        v => {
            let a_request = if v < Version(0, 14, 0) { 1 } else { 1 + drafted };
            let blackwell = matches!(case.gpu.compute_capability, Some((10, _)));
            let most = if blackwell && v >= Version(0, 33, 0) { 1024 } else { 512 };
            step_of(sequences.saturating_mul(2 * a_request).min(most), 256, 16)
        }
    };
    count / ALL_SIZES
}

fn layers(case: &Case<'_>) -> f64 {
    f64::from(case.model.layers().unwrap_or(32)) / case.spread.pipeline
}

fn all(case: &Case<'_>, a_layer: Amount) -> Amount {
    if eager(case) {
        return Amount::ZERO;
    }
    let graphs = a_layer.times(layers(case) * sizes(case));
    graphs.plus(FIRST.amount()).times(Bytes::GIB)
}

/// Captured after the pool, outside the budget.
pub(super) fn captured(case: &Case<'_>) -> Amount {
    let rate = match case.engine.rules {
        Rules::VllmV0 => A_LAYER.amount().times(0.6),
        _ if paths::is_hybrid(case.model) => HYBRID_LAYER.amount(),
        _ => A_LAYER.amount(),
    };
    all(case, rate)
}

/// Measured before the pool and taken from the budget.
pub(super) fn estimated(case: &Case<'_>) -> Amount {
    let rate = if paths::is_hybrid(case.model) {
        HYBRID_LAYER_ESTIMATED
    } else {
        A_LAYER_ESTIMATED
    };
    all(case, rate.amount())
}

/// SGLang captures after the pool: about 2 MiB a sequence of the largest batch by its own reserve.
pub(super) fn sglang(case: &Case<'_>) -> Amount {
    if eager(case) {
        return Amount::ZERO;
    }
    let largest = if case.total.gib() < 35.0 { 32.0 } else { 256.0 };
    let piecewise = case.engine.version.is_none_or(|v| v >= Version(0, 5, 9));
    let more = if piecewise { 0.5 } else { 0.0 };
    Amount::around(largest * 2.0 * Bytes::MIB + more * Bytes::GIB, 0.5, 2.0)
}
