//! What encoders, pipelines and llama.cpp need beside their weights.

use super::super::amount::Amount;
use super::super::defaults::Rules;
use super::super::memory::Case;
use crate::catalog::models::Task;
use crate::units::Bytes;

pub(super) fn bytes(case: &Case<'_>) -> Amount {
    let model = case.model;
    let hidden = f64::from(model.hidden.unwrap_or(1024));
    let inner = f64::from(model.intermediate.unwrap_or(4096));
    match (case.engine.rules, model.task) {
        // A compute buffer of one micro-batch: logits of 512 tokens in fp32 or the widest layer.
        (Rules::LlamaCpp, _) => {
            let widest = (model.vocab.unwrap_or(128_000) as f64).max(inner) * 4.0;
            Amount::around((512.0 * widest).max(0.3 * Bytes::GIB), 0.8, 2.0)
        }
        // Activations at 1024² in bf16: 2 to 6 GiB.
        (_, Task::Diffusion) => Amount::new(2.0, 4.0, 6.0).times(Bytes::GIB),
        (_, Task::Asr) => Amount::new(0.5, 1.0, 3.0).times(Bytes::GIB),
        // Encoders: about 12 · h + 2 · I elements of a token.
        _ => Amount::around(case.step.tokens as f64 * 2.0 * (12.0 * hidden + 2.0 * inner), 0.5, 2.0),
    }
}
