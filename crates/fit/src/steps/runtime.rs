//! The CUDA context, NCCL and what else is not PyTorch's.

use super::super::amount::{Amount, Logged};
use super::super::defaults::Version;
use super::super::memory::Case;
use crate::units::Bytes;

/// GiB, and the independent threads that told.
const fn gib(low: f64, value: f64, high: f64, threads: u32) -> Logged {
    Logged::new(low, value, high, threads)
}

/// A process's context on the card: 0.35 to 0.6 GiB by card and driver (seen as what is gone from a card when SGLang begins
/// on one GPU, and as what vLLM 0.8 counted).
const CONTEXT: Logged = gib(0.3, 0.45, 0.65, 6);
/// V1's growth beside PyTorch on one GPU: logged 0.00 to 0.13 before 0.18.
const ONE: Logged = gib(0.0, 0.1, 0.35, 10);
/// The captures of the graphs' estimate leave something behind since 0.18.
const ONE_LATER: Logged = gib(0.05, 0.3, 0.9, 4);
/// A part of the context that V0 counted before 0.7.
const FIRST_ENGINE: Logged = gib(0.1, 0.26, 0.4, 8);
/// FlashInfer's workspace (`VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE`, 394 MiB), where its attention is the first choice: Turing
/// and data-centre Blackwell (`CudaPlatform._get_backend_priorities`, 0.19 to 0.33).
const WORKSPACE: f64 = 0.385;
/// Buffers of NCCL and of the engine's own all-reduce at two ranks, where NVSwitch reduces (NVLS: Hopper and data-centre
/// Blackwell, multicast buffers for each channel), and where symmetric memory and FlashInfer's fused all-reduce have
/// workspaces: 0.54 (0.11), 1.38 (0.10.2), 2.07 (0.19).
const SEVERAL: Logged = gib(0.15, 0.7, 1.6, 5);
/// The first engine had neither: 0.35 more than one rank needs at two H100 (0.5.4, one thread, three lengths).
const SWITCH_FIRST: Logged = gib(0.15, 0.35, 0.9, 1);
/// Other cards have NCCL's plain rings: 0.11 logged at eight T4, 0.1 more than one rank at two and four A100, two L4 and two
/// RTX 5090; once 1.1 at two A100-40.
const RINGS: Logged = gib(0.05, 0.2, 0.9, 5);
/// Each doubling of the ranks adds about this, to each of the two.
const DOUBLING: Logged = gib(0.0, 0.25, 0.5, 3);
const DOUBLING_RINGS: Logged = gib(0.0, 0.05, 0.3, 3);
/// The share is of all memory, and what the operating system gives back or takes meanwhile is counted: 3.4 GiB between two
/// starts of one model.
const UNIFIED: Logged = gib(-0.3, 0.9, 3.0, 2);

fn workspace(case: &Case<'_>) -> Amount {
    let first = matches!(case.gpu.compute_capability, Some((7, 5) | (10, _)));
    match case.engine.version {
        Some(v) if v < Version(0, 11, 0) => Amount::ZERO,
        _ if first => Amount::new(0.0, WORKSPACE, WORKSPACE),
        _ => Amount::ZERO,
    }
}

fn several(case: &Case<'_>) -> bool {
    case.parallelism.tensor.saturating_mul(case.parallelism.pipeline) > 1
}

/// NVLS and what engines build on it: data-centre cards from Hopper on, over NVLink. Unknown cards and AMD's may have as much.
fn reduces_in_switch(case: &Case<'_>) -> bool {
    match case.gpu.compute_capability {
        Some((9 | 10, _)) => case.gpu.nvlink_gb_s.is_some(),
        Some(_) => false,
        None => true,
    }
}

pub(super) fn context(_: &Case<'_>) -> Amount {
    CONTEXT.amount().times(Bytes::GIB)
}

/// What vLLM counts beside the weights and PyTorch's peak.
pub(super) fn vllm(case: &Case<'_>) -> Amount {
    let later = case.engine.is_v1() && case.engine.version.is_none_or(|v| v >= Version(0, 18, 0));
    let mut own = if later { ONE_LATER } else { ONE }.amount();
    if case.engine.is_v1() {
        own = own.plus(workspace(case));
    }
    if !case.engine.is_v1() && case.engine.version.is_none_or(|v| v < Version(0, 7, 0)) {
        own = own.plus(FIRST_ENGINE.amount());
    }
    if several(case) {
        let doublings = f64::from(case.parallelism.tensor.max(2)).log2() - 1.0;
        let (two, more) = match (reduces_in_switch(case), case.engine.is_v1()) {
            (true, true) => (SEVERAL, DOUBLING),
            (true, false) => (SWITCH_FIRST, DOUBLING),
            (false, _) => (RINGS, DOUBLING_RINGS),
        };
        own = own.plus(two.amount()).plus(more.amount().times(doublings));
    }
    if case.gpu.is_unified() {
        own = own.plus(UNIFIED.amount());
    }
    own.times(Bytes::GIB)
}

/// The allocator's fragments and workspaces of kernels that run for the first time.
const LATE: Logged = gib(0.05, 0.2, 0.35, 3);
/// NCCL's later channels: 1.57 GiB beside the budget of eight ranks were too little by 1.37.
const LATE_RANKS: Logged = gib(0.0, 0.3, 0.42, 1);
const LATE_RANK: Logged = gib(0.0, 0.05, 0.08, 1);
/// Drafts capture and warm up apart.
const LATE_DRAFT: Logged = gib(0.0, 0.3, 0.7, 0);

/// Buffers of the first steps that no profile sees.
pub(super) fn late(case: &Case<'_>) -> Amount {
    let ranks = case.parallelism.tensor;
    let mut own = LATE.amount();
    if ranks > 1 {
        let each = LATE_RANK.amount().times(f64::from(ranks.min(16)));
        own = own.plus(LATE_RANKS.amount()).plus(each);
    }
    if case.settings.speculative == Some(true) {
        own = own.plus(LATE_DRAFT.amount());
    }
    own.times(Bytes::GIB)
}

/// Steps' worth of the experts' buffers that FlashInfer's tuner takes: it repeats a step of the profiled size with inputs of its
/// own for each kernel that it tries, after the pool. On Hopper and later only; 1.9 GiB beside the budget were too little for
/// a start of gpt-oss-120b on one H100 that captured two sizes, and enough for one of an earlier release.
const TUNED: Logged = Logged::new(0.0, 1.0, 2.5, 1);

pub(super) fn tuning(case: &Case<'_>) -> Amount {
    let old = case.engine.version.is_some_and(|v| v < Version(0, 10, 2));
    let hopper = case.gpu.compute_capability.is_none_or(|c| c >= (9, 0)) && case.gpu.vendor != "amd";
    if old || !hopper || case.model.experts.is_none() {
        return Amount::ZERO;
    }
    TUNED.amount().times(super::forward::mixture(case))
}

/// What SGLang finds taken before it loads: 0.45 GiB at one rank, 0.7 at two, 1.0 at four and 2.4 at eight over NVLink, over
/// PCIe 0.4 at any; on AMD 4.5 to 9. On unified memory the operating system and all other processes are in it.
const SGLANG_UNIFIED: Logged = gib(3.0, 7.4, 13.0, 2);
const SGLANG_AMD: Logged = gib(1.0, 5.5, 9.0, 2);
const SGLANG_ONE: Logged = gib(0.35, 0.5, 0.9, 4);
const SGLANG_PCIE: Logged = gib(0.35, 0.5, 1.0, 3);
const SGLANG_TWO: Logged = gib(0.5, 0.7, 1.0, 2);
const SGLANG_FOUR: Logged = gib(0.6, 1.0, 1.7, 2);
const SGLANG_EIGHT: Logged = gib(1.2, 2.4, 3.4, 3);
/// Others use the card, too, as a share of it: logged up to 4.2 GiB of 79 more, 7 of 93.
const OTHERS: Logged = Logged::new(0.0, 0.003, 0.055, 3);

pub(super) fn sglang(case: &Case<'_>) -> Amount {
    let own = match case.parallelism.tensor {
        _ if case.gpu.is_unified() => SGLANG_UNIFIED,
        _ if case.gpu.vendor == "amd" => SGLANG_AMD,
        0 | 1 => SGLANG_ONE,
        _ if case.gpu.nvlink_gb_s.is_none() => SGLANG_PCIE,
        2 => SGLANG_TWO,
        3..=4 => SGLANG_FOUR,
        _ => SGLANG_EIGHT,
    };
    let others = OTHERS.amount().times(case.total.gib());
    own.amount().plus(others).times(Bytes::GIB)
}

/// TensorRT-LLM's context and cuBLAS; NCCL and its own all-reduce.
const TRTLLM: Logged = gib(0.6, 1.1, 2.0, 1);
const TRTLLM_SEVERAL: Logged = gib(0.4, 0.8, 1.5, 1);

pub(super) fn trtllm(case: &Case<'_>) -> Amount {
    let more = if several(case) {
        TRTLLM_SEVERAL.amount()
    } else {
        Amount::ZERO
    };
    TRTLLM.amount().plus(more).times(Bytes::GIB)
}

/// Lumps of aiconfigurator 0.12 for engines whose accounting is not known.
const PLAIN: Logged = gib(0.3, 0.6, 1.0, 1);
const PLAIN_SEVERAL: Logged = gib(0.2, 0.4, 0.8, 1);

/// Engines whose own accounting is not known.
pub(super) fn plain(case: &Case<'_>) -> Amount {
    let more = if several(case) {
        PLAIN_SEVERAL.amount()
    } else {
        Amount::ZERO
    };
    PLAIN.amount().plus(more).times(Bytes::GIB)
}
