//! Measurements of servers, for others of their kind.

use super::*;
use crate::catalog::{gpus, models};
use crate::{Band, FitConfidence, Placement};

const MODEL: &str = "meta-llama/Llama-3.1-8B-Instruct";

fn settings(version: &str, share: f64) -> EngineSettings {
    EngineSettings {
        engine: Some(EngineKind::Vllm),
        engine_version: Some(version.into()),
        gpu_memory_utilization: Some(share),
        max_model_len: Some(8192),
        ..EngineSettings::default()
    }
}

fn placed(model: &str, s: &EngineSettings, gpu: &str, calibration: Option<&Calibration>) -> Placement {
    let gpu = gpus::find(gpu).unwrap();
    place(&models::find(model).unwrap(), s, gpu, Parallelism::ONE, calibration)
}

/// A book with one server, whose pool is `less` of the card smaller than estimated.
fn book(model: &str, s: &EngineSettings, gpu: &str, less: f64) -> Book {
    let bare = placed(model, s, gpu, None);
    let card = gpus::find(gpu).unwrap();
    let total = card.memory_cuda.or(card.memory_usable).unwrap_or(card.memory).0 as f64;
    let pool = bare.kv_per_gpu.unwrap().0 as f64 - less * total;
    let tokens = Tokens((pool / bare.kv_bytes_per_token_per_gpu.unwrap()) as u64);
    let mut book = Book::default();
    learn(&mut book, model, s, gpu, tokens).unwrap();
    book
}

fn learn(book: &mut Book, model: &str, s: &EngineSettings, gpu: &str, kv_capacity: Tokens) -> Result<(), Refusal> {
    book.learn(&Told {
        model: &models::find(model).unwrap(),
        settings: s,
        gpu: gpus::find(gpu).unwrap(),
        parallelism: Parallelism::ONE,
        kv_capacity,
        whose: "deployment ml/chat",
    })
}

fn asked(book: &Book, model: &str, s: &EngineSettings, gpu: &str) -> Option<Calibration> {
    let facts = models::find(model).unwrap();
    book.calibration(&facts, s, gpus::find(gpu).unwrap(), Parallelism::ONE)
}

fn width(band: Band<Bytes>) -> u64 {
    band.high.0 - band.low.0
}

#[test]
fn the_same_kind_is_measured_whatever_its_share_and_length() {
    let book = book(MODEL, &settings("0.11.2", 0.9), "L40S", 0.02);
    let other = EngineSettings {
        max_model_len: Some(32_768),
        ..settings("0.11.2", 0.8)
    };
    let bare = placed(MODEL, &other, "L40S", None);
    let calibration = asked(&book, MODEL, &other, "L40S").unwrap();
    let told = placed(MODEL, &other, "L40S", Some(&calibration));
    assert_eq!(told.confidence, FitConfidence::Measured);
    assert!(
        told.confidence_reasons[0].contains("deployment ml/chat"),
        "{:?}",
        told.confidence_reasons
    );
    let moved = bare.kv_per_gpu.unwrap().0 as f64 - told.kv_per_gpu.unwrap().0 as f64;
    let card = gpus::find("L40S").unwrap();
    let total = card.memory_cuda.or(card.memory_usable).unwrap().0 as f64;
    assert!((moved / total - 0.02).abs() < 1e-3, "{}", moved / total);
    assert!(width(told.kv_band.unwrap()) < width(bare.kv_band.unwrap()));
}

#[test]
fn all_but_one_thing_the_same_moves_the_estimate_and_leaves_the_band() {
    let s = settings("0.11.2", 0.9);
    let book = book(MODEL, &s, "L40S", 0.02);
    for (model, other, gpu, what) in [
        (MODEL, s.clone(), "A100-SXM4-80GB", "card"),
        (MODEL, settings("0.12.0", 0.9), "L40S", "engine version"),
        ("Qwen/Qwen3-8B", s.clone(), "L40S", "architecture"),
        (
            MODEL,
            EngineSettings {
                max_num_seqs: Some(16),
                ..s.clone()
            },
            "L40S",
            "size of a step",
        ),
    ] {
        let bare = placed(model, &other, gpu, None);
        let calibration = asked(&book, model, &other, gpu).unwrap();
        assert!(calibration.reason.contains(what), "{}", calibration.reason);
        let told = placed(model, &other, gpu, Some(&calibration));
        assert_eq!(told.confidence, bare.confidence, "{what}");
        assert!(told.kv_per_gpu < bare.kv_per_gpu, "{what}");
        let (a, b) = (width(told.kv_band.unwrap()), width(bare.kv_band.unwrap()));
        assert!(a.abs_diff(b) <= 2, "{what}: {a} {b}");
    }
}

#[test]
fn two_things_apart_say_nothing() {
    let s = settings("0.11.2", 0.9);
    let book = book(MODEL, &s, "L40S", 0.02);
    assert_eq!(asked(&book, MODEL, &settings("0.12.0", 0.9), "A100-SXM4-80GB"), None);
    assert_eq!(asked(&book, "Qwen/Qwen3-8B", &s, "A100-SXM4-80GB"), None);
    assert_eq!(asked(&Book::default(), MODEL, &s, "L40S"), None);
}

#[test]
fn of_several_of_one_kind_the_least_is_taken() {
    let s = settings("0.11.2", 0.9);
    let mut both = book(MODEL, &s, "L40S", 0.02);
    both.facts.extend(book(MODEL, &s, "L40S", 0.05).facts);
    let least = asked(&both, MODEL, &s, "L40S").unwrap();
    assert_eq!(least, asked(&book(MODEL, &s, "L40S", 0.05), MODEL, &s, "L40S").unwrap());
}

#[test]
fn what_no_card_could_hold_is_refused() {
    let s = settings("0.11.2", 0.9);
    for tokens in [0, 10_000_000, u64::MAX] {
        let refused = learn(&mut Book::default(), MODEL, &s, "L40S", Tokens(tokens));
        assert!(matches!(refused, Err(Refusal::Impossible(_))), "{tokens}: {refused:?}");
    }
}

#[test]
fn what_says_nothing_about_others_is_left_out() {
    let s = settings("0.11.2", 0.9);
    for other in [
        EngineSettings {
            engine_version: None,
            ..s.clone()
        },
        EngineSettings {
            kv_cache_memory: Some(Bytes(8 << 30)),
            ..s.clone()
        },
        EngineSettings {
            gpu_blocks_override: Some(1000),
            ..s.clone()
        },
    ] {
        let refused = learn(&mut Book::default(), MODEL, &other, "L40S", Tokens(100_000));
        assert!(matches!(refused, Err(Refusal::Silent(_))), "{refused:?}");
    }
}
