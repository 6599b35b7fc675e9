//! The file's laws, what never goes into it, and the guards of what it may change.

use super::*;
use crate::book::{Book, Refusal};
use crate::{FitConfidence, Placement};
use proptest::prelude::*;
use serde_json::Value;

const CARDS: [&str; 3] = ["L40S", "H100-SXM5-80GB", "A100-SXM4-80GB"];
const MODELS: [(&str, Option<&str>, u32); 4] = [
    ("meta-llama/Llama-3.1-8B-Instruct", None, 1),
    ("Qwen/Qwen2.5-7B-Instruct", None, 1),
    ("meta-llama/Llama-3.3-70B-Instruct", Some("awq-int4 g128"), 2),
    ("meta-llama/Llama-3.3-70B-Instruct", Some("fp8"), 4),
];

fn settings() -> EngineSettings {
    EngineSettings {
        engine: Some(crate::snapshot::server::EngineKind::Vllm),
        engine_version: Some("0.11.2".into()),
        gpu_memory_utilization: Some(0.9),
        max_model_len: Some(8192),
        ..EngineSettings::default()
    }
}

fn fact(model: usize, card: usize, server: u8) -> Fact {
    let (id, quantization, tensor) = MODELS[model];
    Fact {
        combination: Combination {
            model: id.into(),
            quantization: quantization.map(String::from),
            gpu: CARDS[card].into(),
            tensor_parallel: tensor,
            pipeline_parallel: 1,
            data_parallel: 1,
            settings: settings(),
        },
        server: format!("{server:016x}"),
        seen_at: Timestamp::UNIX_EPOCH,
        kv_capacity_tokens: None,
        speed: None,
        restarts: Some(0),
    }
}

fn placed(fact: &Fact, book: &Book) -> Placement {
    let (model, gpu, parallelism) = fact.resolved().unwrap();
    let s = &fact.combination.settings;
    let told = book.calibration(&model, s, gpu, parallelism);
    place(&model, s, gpu, parallelism, told.as_ref())
}

fn bare(fact: &Fact) -> Placement {
    placed(fact, &Book::default())
}

fn with_pool(mut fact: Fact, times: f64) -> Fact {
    let pool = bare(&fact).kv_per_gpu.unwrap().0 as f64 * times;
    fact.kv_capacity_tokens = Some((pool / bare(&fact).kv_bytes_per_token_per_gpu.unwrap()) as u64);
    fact
}

fn book(facts: &[Fact]) -> Book {
    let mut book = Book::default();
    for fact in facts {
        let _ = book.learn_fact(fact, "facts.json");
    }
    book
}

fn any_fact() -> impl Strategy<Value = Fact> {
    (
        0..MODELS.len(),
        0..CARDS.len(),
        0_u8..6,
        0_i64..3,
        1_u64..2_000_000,
        any::<bool>(),
    )
        .prop_map(|(model, card, server, at, tokens, other)| {
            let mut fact = fact(model, card, server);
            fact.seen_at = Timestamp::from_second(at).unwrap();
            fact.kv_capacity_tokens = Some(tokens);
            if other {
                fact.combination.settings.engine_version = Some("0.12.0".into());
            }
            fact
        })
}

fn text(facts: &Facts) -> String {
    serde_json::to_string_pretty(facts).unwrap()
}

type Set = &'static dyn Fn(&mut EngineSettings, String);

proptest! {
    /// In any order, in any grouping, any number of times: the same bytes.
    #[test]
    fn joining_is_associative_commutative_and_idempotent(
        a in prop::collection::vec(any_fact(), 0..12),
        b in prop::collection::vec(any_fact(), 0..12),
        c in prop::collection::vec(any_fact(), 0..12),
    ) {
        let of = |parts: &[&[Fact]]| Facts::of(parts.iter().flat_map(|p| p.iter().cloned()));
        let whole = text(&of(&[&a, &b, &c]));
        prop_assert_eq!(&whole, &text(&of(&[&c, &a, &b])));
        let ab = of(&[&a, &b]).facts;
        prop_assert_eq!(&whole, &text(&of(&[&ab, &c])));
        let bc = of(&[&b, &c]).facts;
        prop_assert_eq!(&whole, &text(&of(&[&a, &bc])));
        prop_assert_eq!(&whole, &text(&of(&[&a, &b, &c, &a, &b])));
        let again: Facts = serde_json::from_str(&whole).unwrap();
        prop_assert!(again.check().is_ok());
        prop_assert_eq!(whole, text(&again));
    }

    /// Whatever a file says, true or not: the bad end of memory, which every claim is held against, never rises, except where five
    /// servers agree with each other and the model has room for it; and nothing is measured that the model has no room for.
    #[test]
    fn no_file_promises_more_memory_than_the_model_allows(
        facts in prop::collection::vec((0..MODELS.len(), 0_usize..2, 0_u8..8, 0.05_f64..4.0, any::<bool>()), 1..10),
        model in 0..MODELS.len(),
        card in 0_usize..2,
    ) {
        let told: Vec<Fact> = facts
            .into_iter()
            .map(|(m, c, server, times, other)| {
                let mut told = fact(m, c, server);
                if other {
                    told.combination.settings.engine_version = Some("0.12.0".into());
                }
                with_pool(told, times)
            })
            .collect();
        let asked = fact(model, card, 0);
        let (now, was) = (placed(&asked, &book(&told)), bare(&asked));
        let low = |p: &Placement| p.kv_band.unwrap().low.0;
        let alike = told.iter().filter(|f| f.combination == asked.combination).count();
        let value = now.kv_per_gpu.unwrap().0;
        if alike < 5 {
            prop_assert!(low(&now) <= low(&was) + 1, "{now:?} {was:?}");
        }
        prop_assert!(value <= was.kv_band.unwrap().high.0 + 1, "{now:?} {was:?}");
        if now.confidence > was.confidence {
            prop_assert!(alike > 0, "measured where nothing was");
        }
        // One's own floor: no band is narrower than what restarts differ by.
        let band = now.kv_band.unwrap();
        prop_assert!((band.high.0 - band.low.0) as f64 >= 0.039 * value as f64);
    }

    /// Nothing that a tenant can write gets into a file: it is refused, or left out.
    #[test]
    fn only_known_words_are_shared(word in "[a-zA-Z0-9_./:-]{1,30}") {
        let word = format!("acme{word}");
        let with = |set: &dyn Fn(&mut EngineSettings, String)| {
            let mut s = settings();
            set(&mut s, word.clone());
            shared(&s).map(|s| serde_json::to_string(&s).unwrap())
        };
        let each: [Set; 7] = [
            &|s, w| s.engine_version = Some(w),
            &|s, w| s.dtype = Some(w),
            &|s, w| s.kv_cache_dtype = Some(w),
            &|s, w| s.speculative_method = Some(w),
            &|s, w| s.mamba_cache_dtype = Some(w),
            &|s, w| s.mamba_ssm_dtype = Some(w),
            &|s, w| { s.model = Some(w.clone()); s.served_names = vec![w]; },
        ];
        for set in each {
            let told = with(set);
            prop_assert!(told.as_ref().map_or(true, |t| !t.contains("acme")), "{told:?}");
        }
    }
}

/// Every text of the settings, those of tomorrow, too.
#[test]
fn no_text_of_the_settings_is_passed_on_unseen() {
    let schema = serde_json::to_value(schemars::schema_for!(EngineSettings)).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let mut texts = 0;
    for (name, of) in properties {
        let kind = of["type"].to_string();
        let value = match () {
            () if kind.contains("\"string\"") => Value::from("acme-secret"),
            () if name == "unread" => serde_json::json!([{"setting": "other", "place": "acme-secret"}]),
            () if kind.contains("\"array\"") => serde_json::json!(["acme-secret"]),
            () => continue,
        };
        texts += 1;
        let mut all = serde_json::to_value(settings()).unwrap();
        all[name] = value;
        let Ok(told) = serde_json::from_value::<EngineSettings>(all) else {
            continue;
        };
        let shared = shared(&told).map(|s| serde_json::to_string(&s).unwrap());
        assert!(
            shared.as_ref().map_or(true, |t| !t.contains("acme")),
            "{name}: {shared:?}"
        );
    }
    assert!(texts >= 9, "{texts}: {properties:?}");
}

#[test]
fn a_release_is_told_from_a_name() {
    for good in [
        "0.11.2",
        "v0.8.5.post1",
        "25.03",
        "0.20.0rc1+cu129",
        "b4567",
        "1.8.4-rtx",
    ] {
        let is = is_release(good);
        assert_eq!(is, good != "1.8.4-rtx", "{good}");
    }
    for bad in ["", "latest", "acme-7", "0.11.2-prod", "v", "../1"] {
        assert!(!is_release(bad), "{bad}");
    }
}

#[test]
fn a_quantized_copy_is_told_by_the_catalogues_model() {
    for name in [
        "meta-llama/Llama-3.3-70B-Instruct",
        "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4",
        "RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic",
        "openai/gpt-oss-120b",
    ] {
        let model = models::find(name).unwrap();
        let s = settings();
        let told = Told {
            model: &model,
            settings: &s,
            gpu: gpus::find("H100-SXM5-80GB").unwrap(),
            parallelism: Parallelism {
                tensor: 4,
                ..Parallelism::ONE
            },
            kv_capacity: Tokens(100_000),
            whose: "",
        };
        let combination = combination(&told).unwrap();
        let fact = Fact {
            combination,
            ..fact(0, 0, 1)
        };
        assert_eq!(fact.resolved().unwrap().0, model, "{name}");
        assert_eq!(Facts::of([fact]).check(), Ok(()), "{name}");
    }
}

#[test]
fn a_model_of_ones_own_and_settings_that_were_not_read_stay_here() {
    let mut model = models::find(MODELS[0].0).unwrap();
    let (s, gpu) = (settings(), gpus::find("L40S").unwrap());
    let of = |model: &ModelFacts, settings: &EngineSettings| {
        combination(&Told {
            model,
            settings,
            gpu,
            parallelism: Parallelism::ONE,
            kv_capacity: Tokens(1),
            whose: "",
        })
    };
    assert!(of(&model, &s).is_ok());
    let unread = EngineSettings {
        unread: vec![crate::snapshot::server::UnreadSetting {
            setting: Setting::Sizing,
            place: "a file".into(),
        }],
        ..s.clone()
    };
    assert!(of(&model, &unread).unwrap_err().contains("could not be read"));
    model.id = "acme/tuned-8b".into();
    assert!(of(&model, &s).unwrap_err().contains("catalogue"));
}

#[test]
fn what_no_gpuwaste_writes_is_refused() {
    let good = || with_pool(fact(0, 0, 1), 1.0);
    let refused = |change: &dyn Fn(&mut Fact)| {
        let mut told = good();
        change(&mut told);
        Facts {
            schema: SCHEMA,
            facts: vec![good(), told],
        }
        .check()
        .unwrap_err()
    };
    for (change, word) in [
        (
            (&|f: &mut Fact| f.server = "ml/chat".into()) as &dyn Fn(&mut Fact),
            "server",
        ),
        (&|f| f.combination.model = "<script>".into(), "model"),
        (&|f| f.combination.gpu = "\u{1b}[31m".into(), "gpu"),
        (&|f| f.combination.tensor_parallel = 0, "parallelism"),
        (&|f| f.combination.settings.model = Some("acme/x".into()), "settings"),
        (
            &|f| f.combination.settings.engine_version = Some("acme".into()),
            "settings",
        ),
        (
            &|f| f.combination.settings.gpu_memory_utilization = Some(f64::NAN),
            "settings",
        ),
        (
            &|f| f.combination.quantization = Some("::warning::".into()),
            "quantization",
        ),
    ] {
        let why = refused(change);
        assert!(why.starts_with("fact 2: ") && why.contains(word), "{why}");
    }
}

fn speed(itl: f64, tokens: f64) -> Speed {
    Speed {
        window_seconds: 7.0 * 86_400.0,
        output_tokens_per_second: tokens,
        peak_output_tokens_per_second: tokens,
        inter_token_latency: itl,
        time_to_first_token: Some(0.2),
        input_tokens: 600.0,
        output_tokens: 60.0,
    }
}

#[test]
fn speeds_that_physics_forbids_are_refused_and_short_looks_say_nothing() {
    let with = |speed: Speed, change: &dyn Fn(&mut Fact)| {
        let mut told = fact(0, 0, 1);
        told.speed = Some(speed);
        change(&mut told);
        Book::default().learn_fact(&told, "facts.json")
    };
    // 16 GB of weights at 864 GB/s take 18.6 ms.
    assert_eq!(with(speed(0.025, 40.0), &|_| {}), Ok(()));
    for (told, word) in [
        (speed(0.010, 40.0), "reading the weights"),
        (speed(0.03, 1e6), "multiplies"),
    ] {
        let refused = with(told, &|_| {});
        assert!(
            matches!(&refused, Err(Refusal::Impossible(why)) if why.contains(word)),
            "{refused:?}"
        );
    }
    let short = Speed {
        window_seconds: 86_399.0,
        ..speed(0.025, 40.0)
    };
    assert!(matches!(with(short, &|_| {}), Err(Refusal::Silent(_))));
    let drafts = with(speed(0.025, 40.0), &|f| f.combination.settings.speculative = Some(true));
    assert!(matches!(drafts, Err(Refusal::Silent(_))));
}

/// Another version, another dtype, another card: no time is taken for one of another combination.
#[test]
fn a_time_holds_for_its_very_combination() {
    let mut told = fact(0, 0, 1);
    told.speed = Some(speed(0.025, 40.0));
    let book = book(std::slice::from_ref(&told));
    let timed = |f: &Fact| {
        let (model, gpu, parallelism) = f.resolved().unwrap();
        book.timed(&model, &f.combination.settings, gpu, parallelism).len()
    };
    assert_eq!(timed(&told), 1);
    let mut other = told.clone();
    other.combination.settings.engine_version = Some("0.12.0".into());
    assert_eq!(timed(&other), 0);
    let mut other = told.clone();
    other.combination.settings.max_num_seqs = Some(4);
    assert_eq!(timed(&other), 0);
    assert_eq!(timed(&fact(0, 1, 1)) + timed(&fact(1, 0, 1)), 0);
}

/// The pools of twenty servers, each off from the model by what its kind is off and by its own little; from all but one of a kind
/// the one is told.
#[test]
fn a_fleet_of_twenty_tells_other_servers_of_the_same_kinds() {
    let mut errors: Vec<f64> = Vec::new();
    let mut before: Vec<f64> = Vec::new();
    let kinds: Vec<(usize, usize)> = vec![(0, 0), (1, 1), (2, 0), (3, 1)];
    // What the model does not know of each kind, of its pool; and what restarts differ by.
    let off = [-0.04, 0.01, -0.03, 0.012];
    let mut fleet: Vec<Fact> = Vec::new();
    for (k, (model, card)) in kinds.iter().enumerate() {
        for server in 0..5_u8 {
            let jitter = 0.002 * (f64::from(server) - 2.0);
            fleet.push(with_pool(
                fact(*model, *card, server + 10 * k as u8),
                1.0 + off[k] + jitter,
            ));
        }
    }
    assert_eq!(fleet.len(), 20);
    for (i, other) in fleet.iter().enumerate() {
        let known: Vec<Fact> = fleet
            .iter()
            .enumerate()
            .filter(|(j, _)| *j != i)
            .map(|(_, f)| f.clone())
            .collect();
        let truth = other.kv_capacity_tokens.unwrap() as f64;
        let error = |p: Placement| (p.kv_capacity.unwrap().value.0 as f64 / truth - 1.0).abs();
        let told = placed(other, &book(&known));
        assert_eq!(told.confidence, FitConfidence::Measured, "{told:?}");
        errors.push(error(told));
        before.push(error(bare(other)));
    }
    let median = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
    let (now, was) = (median(errors), median(before));
    println!(
        "median KV error of other servers: {:.2} % by the model, {:.2} % told",
        was * 100.0,
        now * 100.0
    );
    assert!(now <= 0.02 && now < was, "{now} {was}");
}
