//! The step-time model's inputs for a placement.

use super::Roofline;
use super::kv::Context;
use super::memory::Case;
use super::weights;

/// `None`: the card's bandwidth or peak, or the model's size, is not known.
pub(super) fn of(case: &Case<'_>, context: &Context) -> Option<Roofline> {
    let parts = weights::parts(case.model)?;
    let layers = case.model.layers()?;
    let bandwidth = case.gpu.bandwidth_gb_s? * 1e9;
    let flops = peak(case)? * 1e12;
    let total = case.model.parameters? as f64;
    let expert_bytes = parts.experts * case.scheme.expert_bits / 8.0;
    // The input embedding is looked up, not read; a tied one is read as the head.
    let embedding = if parts.vocab_copies > 1.0 { parts.vocab } else { 0.0 };
    let head = parts.vocab * case.scheme.vocab_bits / 8.0;
    let rest = (total - parts.experts - parts.vocab - embedding).max(0.0) * case.scheme.linear_bits / 8.0;
    let share = case
        .model
        .experts
        .filter(|e| e.count > 0)
        .map_or(0.0, |e| f64::from(e.per_token) / f64::from(e.count));
    let (windowed, window) = context.windowed();
    Some(Roofline {
        tensor: case.parallelism.tensor,
        layers,
        dense_bytes: rest + head,
        expert_bytes,
        expert_share: share,
        active_parameters: case
            .model
            .active_parameters
            .map_or(total - parts.experts * (1.0 - share), |a| a as f64),
        kv_bytes_per_token_per_gpu: context.per_token(),
        windowed_bytes_per_token_per_gpu: windowed,
        window,
        state_bytes: context.state(),
        bandwidth,
        flops,
        nvlink: case.gpu.nvlink_gb_s.is_some(),
        measured_architecture: ["Hopper", "Blackwell"]
            .iter()
            .any(|a| case.gpu.architecture.starts_with(a))
            && case.gpu.nvlink_gb_s.is_some(),
    })
}

/// Dense TFLOPS at the precision the weights compute in, where the card has it, else the next wider one.
fn peak(case: &Case<'_>) -> Option<f64> {
    let gpu = case.gpu;
    let wide = gpu.bf16_tflops.or(gpu.fp16_tflops);
    match case.scheme.compute_bits {
        4 => gpu.fp4_tflops.or(wide),
        8 => gpu.fp8_tflops.or(gpu.int8_tops).or(wide),
        _ => wide,
    }
}
