//! CUDA graphs: by how many sizes are captured, and over how many layers.

use super::super::amount::Amount;
use super::super::defaults::{Rules, Version};
use super::super::memory::Case;
use super::super::paths;
use crate::units::Bytes;

/// GiB a layer of all sizes of a start: logged 0.016 to 0.05 on V1 (0.5 for 28 layers, 1.88 for 36, 2.37 for 48, 1.13 for 32
/// before 0.20; nine threads; the ends hold eight of ten), 0.01 to 0.03 on V0.
const A_LAYER: Amount = Amount {
    low: 0.005,
    value: 0.024,
    high: 0.036,
};
/// As measured before the pool since 0.18: the first capture, and one more for each size (0.53 for 28 layers, 1.58 for 32
/// hybrid layers; four threads).
const A_LAYER_ESTIMATED: Amount = Amount {
    low: 0.006,
    value: 0.02,
    high: 0.05,
};
/// Hybrids' recurrent kernels keep more (1.58 GiB estimated for 32 layers, 2.44 for 42; two threads).
const HYBRID: f64 = 1.7;
/// Sizes up to 512 of vLLM's default list.
const ALL_SIZES: f64 = 51.0;
/// GiB that a capture takes whatever its sizes.
const FIRST: f64 = 0.05;

fn eager(case: &Case<'_>) -> bool {
    case.settings.enforce_eager == Some(true)
}

/// Share of the default sizes that are captured: up to twice the sequences, 512 at most
/// (`VllmConfig._set_cudagraph_sizes`).
fn sizes(case: &Case<'_>) -> f64 {
    let largest = case.step.sequences.saturating_mul(2).min(512) as f64;
    let count = match largest {
        n if n <= 8.0 => n.log2().ceil() + 1.0,
        n if n <= 256.0 => 3.0 + n / 8.0,
        n => 35.0 + (n - 256.0) / 16.0,
    };
    (count / ALL_SIZES).clamp(0.04, 1.0)
}

fn layers(case: &Case<'_>) -> f64 {
    f64::from(case.model.layers().unwrap_or(32)) / case.spread.pipeline
}

fn all(case: &Case<'_>, a_layer: Amount) -> Amount {
    if eager(case) {
        return Amount::ZERO;
    }
    let kind = if paths::is_hybrid(case.model) { HYBRID } else { 1.0 };
    let graphs = a_layer.times(layers(case) * kind * sizes(case));
    graphs.plus(Amount::around(FIRST, 0.2, 3.0)).times(Bytes::GIB)
}

/// Captured after the pool, outside the budget.
pub(super) fn captured(case: &Case<'_>) -> Amount {
    let rate = match case.engine.rules {
        Rules::VllmV0 => A_LAYER.times(0.6),
        _ => A_LAYER,
    };
    all(case, rate)
}

/// Measured before the pool and taken from the budget.
pub(super) fn estimated(case: &Case<'_>) -> Amount {
    all(case, A_LAYER_ESTIMATED)
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
