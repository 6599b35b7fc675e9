//! Medians of the fit engine's two figures: one model over all tiers (at most 15 ms wanted), 10,000 placements (1 s).
//! Prints; asserts no times. `cargo bench -p gpuwaste-fit`.

use gpuwaste_catalog::{gpus, models};
use gpuwaste_facts::snapshot::server::{EngineKind, EngineSettings};
use gpuwaste_fit::search::{Need, Tier, search};
use gpuwaste_fit::{Parallelism, place};
use std::hint::black_box;
use std::time::{Duration, Instant};

fn settings() -> EngineSettings {
    EngineSettings {
        engine: Some(EngineKind::Vllm),
        max_model_len: Some(8192),
        ..EngineSettings::default()
    }
}

/// One model over every tier of the catalogue, as `gpuwaste fit` does; how many were accepted.
fn all_tiers(model: &str) -> usize {
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
fn placements(count: usize) -> usize {
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

fn median(runs: usize, mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[runs / 2]
}

#[allow(clippy::print_stdout, reason = "a bench prints its figures")]
fn main() {
    // The catalogues are parsed once.
    black_box(placements(1));
    let fit = median(51, || {
        black_box(all_tiers("meta-llama/Llama-3.3-70B-Instruct"));
    });
    let many = median(11, || {
        black_box(placements(10_000));
    });
    println!("fit over all tiers   median {:>9.3} ms", fit.as_secs_f64() * 1e3);
    println!("10,000 placements    median {:>9.3} ms", many.as_secs_f64() * 1e3);
}
