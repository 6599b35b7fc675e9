//! The CUDA context, NCCL and what else is not PyTorch's.

use super::super::amount::Amount;
use super::super::defaults::Version;
use super::super::memory::Case;
use super::super::paths;
use crate::units::Bytes;

const fn gib(low: f64, value: f64, high: f64) -> Amount {
    Amount { low, value, high }
}

/// A process's context on the card: 0.35 to 0.6 GiB by card and driver (seen as what is gone from a card when SGLang begins
/// on one GPU, and as what vLLM 0.8 counted; six threads).
const CONTEXT: Amount = gib(0.3, 0.45, 0.65);
/// V1's growth beside PyTorch on one GPU: logged 0.00 to 0.13 before 0.18 (ten threads).
const ONE: Amount = gib(0.0, 0.1, 0.35);
/// The captures of the graphs' estimate leave something behind since 0.18, and FlashInfer's workspace (394 MiB) is counted
/// where its attention runs (Blackwell, Turing).
const ONE_LATER: Amount = gib(0.05, 0.3, 0.9);
/// FlashInfer's workspace (`VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE`, 394 MiB), where its attention is the first choice: Turing
/// and data-centre Blackwell (`CudaPlatform._get_backend_priorities`, 0.19 to 0.33).
const WORKSPACE: f64 = 0.385;

fn workspace(case: &Case<'_>) -> Amount {
    let first = matches!(case.gpu.compute_capability, Some((7, 5) | (10, _)));
    match case.engine.version {
        Some(v) if v < Version(0, 11, 0) => Amount::ZERO,
        _ if first => gib(0.0, WORKSPACE, WORKSPACE),
        _ => Amount::ZERO,
    }
}

/// Buffers of NCCL and of the engine's own all-reduce: 0.54 (0.11), 1.38 (0.10.2), 0.2 over PCIe, 2.07 (0.19) at two ranks
/// (five threads).
const SEVERAL: Amount = gib(0.15, 0.7, 1.6);
/// Each doubling of the ranks adds about this.
const DOUBLING: f64 = 0.25;

fn several(case: &Case<'_>) -> bool {
    case.parallelism.tensor.saturating_mul(case.parallelism.pipeline) > 1
}

pub(super) fn context(_: &Case<'_>) -> Amount {
    CONTEXT.times(Bytes::GIB)
}

/// What vLLM counts beside the weights and PyTorch's peak.
pub(super) fn vllm(case: &Case<'_>) -> Amount {
    let later = case.engine.is_v1() && case.engine.version.is_none_or(|v| v >= Version(0, 18, 0));
    let mut own = if later { ONE_LATER } else { ONE };
    if case.engine.is_v1() {
        own = own.plus(workspace(case));
    }
    // V0 before 0.7 counted a part of the context.
    if !case.engine.is_v1() && case.engine.version.is_none_or(|v| v < Version(0, 7, 0)) {
        own = own.plus(gib(0.1, 0.26, 0.4));
    }
    if several(case) {
        let doublings = f64::from(case.parallelism.tensor.max(2)).log2() - 1.0;
        let more = doublings * DOUBLING;
        own = own.plus(SEVERAL).plus(gib(0.0, more, 2.0 * more));
    }
    if case.gpu.is_unified() {
        // The share is of all memory, and what the operating system gives back or takes meanwhile is counted: 3.4 GiB between
        // two starts of one model (one thread).
        own = own.plus(gib(-0.5, 0.9, 4.0));
    }
    own.times(Bytes::GIB)
}

/// Buffers of the first steps that no profile sees: workspaces of kernels that run for the first time, the allocator's
/// fragments, NCCL's later channels (1.57 GiB beside the budget of eight ranks were too little by 1.37; one thread).
pub(super) fn late(case: &Case<'_>) -> Amount {
    let ranks = case.parallelism.tensor;
    let mut own = gib(0.05, 0.2, 0.35);
    if ranks > 1 {
        let more = f64::from(ranks.min(16));
        own = own.plus(gib(0.0, 0.3 + 0.05 * more, 0.5 + 0.1 * more));
    }
    // Kernels of mixtures keep workspaces by the tokens of a step.
    if case.model.experts.is_some() {
        own = own.plus(gib(0.0, 0.4, 1.8));
    }
    if case.settings.speculative == Some(true) {
        own = own.plus(gib(0.0, 0.3, 1.0));
    }
    if !paths::graphs_counted(&case.engine) {
        own = own.plus(gib(0.0, 0.0, 0.1));
    }
    own.times(Bytes::GIB)
}

/// What SGLang finds taken before it loads: 0.45 GiB at one rank, 0.7 at two, 1.0 at four and 2.4 at eight over NVLink, over
/// PCIe 0.4 at any; on AMD 4.5 to 9 (nine threads, two of them AMD). On unified memory the operating system and all other
/// processes are in it.
pub(super) fn sglang(case: &Case<'_>) -> Amount {
    let ranks = case.parallelism.tensor;
    let own = match ranks {
        _ if case.gpu.is_unified() => gib(2.0, 7.4, 16.0),
        _ if case.gpu.vendor == "amd" => gib(0.6, 5.5, 10.0),
        0 | 1 => gib(0.35, 0.5, 0.9),
        _ if case.gpu.nvlink_gb_s.is_none() => gib(0.35, 0.5, 1.0),
        2 => gib(0.4, 0.7, 1.2),
        3..=4 => gib(0.5, 1.0, 2.0),
        _ => gib(1.2, 2.4, 3.4),
    };
    // Others use the card, too: logged up to 4.2 GiB of 79 more, 7 of 93 (three threads).
    let others = gib(0.0, 0.003, 0.055).times(case.total.gib());
    own.plus(others).times(Bytes::GIB)
}

/// TensorRT-LLM's context, cuBLAS, NCCL.
pub(super) fn trtllm(case: &Case<'_>) -> Amount {
    let own = gib(0.4, 1.1, 2.5);
    let more = if several(case) {
        gib(0.2, 0.8, 2.0)
    } else {
        Amount::ZERO
    };
    own.plus(more).times(Bytes::GIB)
}

/// Engines whose own accounting is not known.
pub(super) fn plain(case: &Case<'_>) -> Amount {
    let own = gib(0.2, 0.6, 1.2);
    let more = if several(case) {
        gib(0.1, 0.4, 1.0)
    } else {
        Amount::ZERO
    };
    own.plus(more).times(Bytes::GIB)
}
