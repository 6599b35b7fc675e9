//! Medians of the fit engine's figures: one model over all tiers (at most 15 ms wanted), a load with limits over all cards (50 ms),
//! each of a dense model, of a hybrid and of a large mixture, and 10,000 placements (1 s).
//! Prints; asserts no times. `cargo bench -p gpuwaste-fit`.

use gpuwaste_catalog::{gpus, models};
use gpuwaste_facts::snapshot::server::{EngineKind, EngineSettings};
use gpuwaste_facts::units::UsdPerHour;
use gpuwaste_fit::load::{self, Ask, Demand, Limits, Offer, Traffic};
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

/// Five requests a second of 1,024 and 256 tokens within 50 ms a token over every card; how many rows.
fn a_load(model: &str) -> usize {
    let Some(facts) = models::find(model) else { return 0 };
    let offers: Vec<Offer<'_>> = gpus::all()
        .iter()
        .map(|gpu| Offer {
            gpu,
            usd_per_gpu_hour: UsdPerHour::from_usd(2.0),
            sizes: Vec::new(),
            least: 1,
            most: 8,
        })
        .collect();
    let ask = Ask {
        model: &facts,
        settings: &settings(),
        traffic: Traffic {
            demand: Demand::Rate(5.0),
            input: 1024.0,
            output: 256.0,
            held: None,
        },
        limits: Limits {
            inter_token_latency: Some(0.05),
            time_to_first_token: Some(2.0),
            max_gpus: None,
        },
        only: None,
        present: None,
        own: &[],
        book: None,
    };
    load::search(&offers, &ask).len()
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
    for model in [
        "meta-llama/Llama-3.3-70B-Instruct",
        "Qwen/Qwen3.6-27B",
        "deepseek-ai/DeepSeek-V3",
    ] {
        let fit = median(51, || {
            black_box(all_tiers(model));
        });
        let load = median(51, || {
            black_box(a_load(model));
        });
        println!(
            "fit over all tiers   median {:>9.3} ms   {model}",
            fit.as_secs_f64() * 1e3
        );
        println!(
            "a load on all cards  median {:>9.3} ms   {model}",
            load.as_secs_f64() * 1e3
        );
    }
    let many = median(11, || {
        black_box(placements(10_000));
    });
    println!("10,000 placements    median {:>9.3} ms", many.as_secs_f64() * 1e3);
}
