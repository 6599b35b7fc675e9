//! A model on a MIG instance: what is sure whatever its driver and its engine's defaults are.

use super::defaults::{self, Engine, Rules};
use super::{Band, Calibration, FitVerdict, Parallelism, Placement, memory};
use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::models::ModelFacts;
use crate::snapshot::server::EngineSettings;

/// On a MIG instance at every memory that it may have and with every default that the engine may take: what all agree on
/// is sure, the rest is tight.
pub(super) fn place(
    model: &ModelFacts,
    settings: &EngineSettings,
    gpu: &GpuFacts,
    parallelism: Parallelism,
    calibration: Option<&Calibration>,
) -> Placement {
    let placed = memory::place(model, settings, gpu, parallelism, calibration);
    let Some(instance) = &gpu.instance else {
        return placed;
    };
    if parallelism.gpus() > 1 {
        return Placement {
            verdict: FitVerdict::DoesNotFit,
            reason: "MIG instances have no path to one another: an engine spans one only".into(),
            forbidden: true,
            ..placed
        };
    }
    let large = card_defaults(model, settings, gpu, &instance.card);
    let mut all = placed;
    for memory in [instance.memory.0, instance.memory.1] {
        let facts = GpuFacts {
            memory_cuda: Some(memory),
            ..gpu.clone()
        };
        for settings in [Some(settings), large.as_ref()].into_iter().flatten() {
            all = both(all, memory::place(model, settings, &facts, parallelism, calibration));
        }
    }
    if !instance.logged {
        all.confidence_reasons.push(format!(
            "no driver's figure is known for the memory of a {}",
            instance.profile
        ));
    }
    all
}

/// vLLM asks NVML for the card's memory to choose its defaults. In a container that has an instance only, that is refused
/// and the small card's defaults hold (vllm-project/vllm#55381); where it is not, NVML tells the whole card's
/// (vllm-project/vllm#39874). `None`: everything is stated, or the card's defaults are the small ones too.
fn card_defaults(model: &ModelFacts, settings: &EngineSettings, gpu: &GpuFacts, card: &str) -> Option<EngineSettings> {
    let card = gpus::all().iter().find(|g| g.name == card)?;
    let engine = Engine::of(settings, model, card);
    if engine.rules != Rules::VllmV1 {
        return None;
    }
    let length = defaults::max_model_len(&engine, settings, model).unwrap_or(4096);
    let told = EngineSettings {
        max_num_seqs: Some(defaults::max_num_seqs(&engine, settings, card)),
        max_num_batched_tokens: Some(defaults::max_num_batched_tokens(&engine, settings, card, length)),
        ..settings.clone()
    };
    let own = (
        Some(defaults::max_num_seqs(&engine, settings, gpu)),
        Some(defaults::max_num_batched_tokens(&engine, settings, gpu, length)),
    );
    ((told.max_num_seqs, told.max_num_batched_tokens) != own).then_some(told)
}

/// What holds in both cases.
fn both(a: Placement, b: Placement) -> Placement {
    let kv_capacity = a.kv_capacity.zip(b.kv_capacity).map(|(a, b)| Band {
        low: a.low.min(b.low),
        value: a.value,
        high: a.high.max(b.high),
    });
    let kv_band = a.kv_band.zip(b.kv_band).map(|(a, b)| Band {
        low: a.low.min(b.low),
        value: a.value,
        high: a.high.max(b.high),
    });
    let overhead_per_gpu = a.overhead_per_gpu.zip(b.overhead_per_gpu).map(|(a, b)| Band {
        low: a.low.min(b.low),
        value: a.value,
        high: a.high.max(b.high),
    });
    // The worse case says why it is not sure.
    let (verdict, reason) = match (a.verdict, b.verdict) {
        (x, y) if x == y => (x, a.reason),
        (FitVerdict::Unknown, _) => (FitVerdict::Unknown, a.reason),
        (_, FitVerdict::Unknown) => (FitVerdict::Unknown, b.reason),
        (FitVerdict::Fits, _) => (FitVerdict::Tight, b.reason),
        _ => (FitVerdict::Tight, a.reason),
    };
    Placement {
        verdict,
        reason,
        kv_band,
        kv_capacity,
        overhead_per_gpu,
        forbidden: a.forbidden && b.forbidden,
        ..a
    }
}
