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
    // One server measures, and makes nothing narrower: that takes five.
    let (band, was) = (told.kv_band.unwrap(), bare.kv_band.unwrap());
    assert!(
        band.low <= was.low && band.high.0 + 131_072 >= was.high.0,
        "{band:?} {was:?}"
    );
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

/// A book of servers whose pools are these shares of the card smaller than estimated.
fn of(less: &[f64]) -> Book {
    let s = settings("0.11.2", 0.9);
    let mut all = Book::default();
    for less in less {
        let one = book(MODEL, &s, "L40S", *less);
        all.seen.clone_from(&one.seen);
        for (kind, told) in one.facts {
            all.facts.entry(kind).or_default().extend(told);
        }
    }
    all
}

fn told(book: &Book) -> (Placement, Placement) {
    let s = settings("0.11.2", 0.9);
    let calibration = asked(book, MODEL, &s, "L40S").unwrap();
    (
        placed(MODEL, &s, "L40S", Some(&calibration)),
        placed(MODEL, &s, "L40S", None),
    )
}

#[test]
fn four_that_agree_measure_the_least_and_five_narrow_the_band() {
    let (four, bare) = told(&of(&[0.02, 0.022, 0.021, 0.03]));
    assert_eq!(four.confidence, FitConfidence::Measured);
    let (five, _) = told(&of(&[0.02, 0.022, 0.021, 0.03, 0.025]));
    assert_eq!(five.confidence, FitConfidence::Measured);
    assert_eq!(four.kv_per_gpu, five.kv_per_gpu, "the least");
    assert_eq!(five.kv_per_gpu, told(&of(&[0.03])).0.kv_per_gpu);
    let widths = [five, four, bare].map(|p| width(p.kv_band.unwrap()));
    assert!(widths[0] < widths[1] && widths[1] + 131_072 >= widths[2], "{widths:?}");
}

#[test]
fn witnesses_that_contradict_each_other_make_nothing_surer_and_the_band_wider() {
    let (apart, bare) = told(&of(&[0.0, 0.0, 0.0, 0.0, 0.05]));
    assert_eq!(apart.confidence, bare.confidence);
    assert!(apart.confidence_reasons.join(" ").contains("contradict"), "{apart:?}");
    let (band, was) = (apart.kv_band.unwrap(), bare.kv_band.unwrap());
    // To a token.
    let token = Bytes(131_072);
    assert!(
        band.low < was.low && band.high.0 + token.0 >= was.high.0,
        "{band:?} {was:?}"
    );
    assert!(width(band) > width(was));
}

#[test]
fn one_that_the_model_contradicts_widens_at_once_and_promises_nothing() {
    // Five that agree on more than there can be by the model.
    let more = [-0.06; 5];
    let (told, bare) = told(&of(&more));
    assert_eq!(told.confidence, bare.confidence);
    let (band, was) = (told.kv_band.unwrap(), bare.kv_band.unwrap());
    assert!(band.high > was.high, "widened");
    assert!(
        band.low <= was.low && told.kv_capacity.unwrap().low <= bare.kv_capacity.unwrap().low,
        "{band:?} {was:?}"
    );
}

#[test]
fn a_setting_that_could_not_be_read_is_no_exact_match() {
    use crate::snapshot::server::{Setting, UnreadSetting};
    let unread = EngineSettings {
        unread: vec![UnreadSetting {
            setting: Setting::Sizing,
            place: "the file of --config".into(),
        }],
        ..settings("0.11.2", 0.9)
    };
    let calibration = asked(&of(&[0.02]), MODEL, &unread, "L40S").unwrap();
    assert!(calibration.moved.is_some(), "{calibration:?}");
    let refused = learn(&mut Book::default(), MODEL, &unread, "L40S", Tokens(100_000));
    assert!(matches!(refused, Err(Refusal::Silent(_))), "{refused:?}");
    assert_eq!(
        asked(
            &of(&[0.02]),
            MODEL,
            &EngineSettings {
                engine_version: Some("0.12.0".into()),
                ..unread
            },
            "L40S"
        ),
        None
    );
}

#[test]
fn upwards_one_that_is_unlike_promises_nothing() {
    let s = settings("0.12.0", 0.9);
    let book = of(&[-0.06]);
    let bare = placed(MODEL, &s, "L40S", None);
    let told = placed(MODEL, &s, "L40S", asked(&book, MODEL, &s, "L40S").as_ref());
    assert!(told.kv_per_gpu > bare.kv_per_gpu);
    let (band, was) = (told.kv_band.unwrap(), bare.kv_band.unwrap());
    assert_eq!((band.low, band.high), (was.low, was.high));
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
