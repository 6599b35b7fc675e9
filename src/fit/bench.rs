//! What benches measure, behind the feature `internals`.

use super::search::{Need, Tier, search};
use super::{Parallelism, place};
use crate::catalog::{gpus, models};
use crate::snapshot::server::{EngineKind, EngineSettings};

fn settings() -> EngineSettings {
    EngineSettings {
        engine: Some(EngineKind::Vllm),
        max_model_len: Some(8192),
        ..EngineSettings::default()
    }
}

/// One model over every tier of the catalogue, as `gpuwaste fit` does; how many were accepted.
pub fn all_tiers(model: &str) -> usize {
    let Some(facts) = models::find(model) else { return 0 };
    let tiers: Vec<Tier<'_>> = gpus::all()
        .iter()
        .map(|gpu| Tier {
            gpu,
            usd_per_gpu_hour: None,
            sizes: Vec::new(),
            max_gpus_per_node: 8,
        })
        .collect();
    let found = search(&facts, &settings(), &tiers, &Need::default());
    found.iter().filter(|c| c.accepted).count()
}

/// `count` placements of all models on all cards in turn; how many have a KV capacity.
pub fn placements(count: usize) -> usize {
    let (models, cards) = (models::all(), gpus::all());
    let settings = settings();
    (0..count)
        .filter(|i| {
            let facts = &models[i % models.len()].facts;
            let gpu = &cards[i / 7 % cards.len()];
            place(facts, &settings, gpu, Parallelism::ONE, None)
                .kv_capacity
                .is_some()
        })
        .count()
}
