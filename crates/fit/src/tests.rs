//! Vectors worked by hand or logged by servers, and what must hold for any settings.

mod property_tests;

use super::search::{Need, Tier, search};
use super::*;
use crate::catalog::gpus;
use crate::catalog::mig;
use crate::catalog::models;
use crate::snapshot::server::EngineKind;
use crate::units::UsdPerHour;
use proptest::prelude::*;

fn vllm() -> EngineSettings {
    EngineSettings {
        engine: Some(EngineKind::Vllm),
        ..EngineSettings::default()
    }
}

fn on(model: &str, gpu: &str, tensor: u32, settings: &EngineSettings) -> Placement {
    let facts = models::find(model).unwrap();
    let parallelism = Parallelism {
        tensor,
        ..Parallelism::ONE
    };
    place(&facts, settings, gpus::find(gpu).unwrap(), parallelism, None)
}

/// Growth of a long sequence by one token, per GPU.
fn growth(model: &str, tensor: u32) -> f64 {
    on(model, "B200", tensor, &vllm())
        .roofline
        .unwrap()
        .kv_bytes_per_token_per_gpu
}

/// layers · max(1, KV ÷ T) · 2 · head dim · 2 bytes, from each model's config.json.
#[test]
fn kv_bytes_are_those_worked_by_hand() {
    for (model, tensor, bytes) in [
        ("meta-llama/Llama-3.1-8B-Instruct", 1, 131_072.0),
        ("meta-llama/Llama-3.1-8B-Instruct", 8, 16_384.0),
        // Eight KV heads on sixteen ranks: each holds a copy.
        ("meta-llama/Llama-3.1-8B-Instruct", 16, 16_384.0),
        ("meta-llama/Llama-3.1-70B-Instruct", 2, 163_840.0),
        ("meta-llama/Llama-3.1-405B-Instruct", 8, 64_512.0),
        // 8.11 GiB for 178,880 tokens logged (vllm#21348).
        ("Qwen/Qwen3-235B-A22B-FP8", 4, 48_128.0),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 1, 131_072.0),
        // 61 · 576 · 2 on every rank.
        ("deepseek-ai/DeepSeek-V3", 1, 70_272.0),
        ("deepseek-ai/DeepSeek-R1", 16, 70_272.0),
        // Ten full layers of 62; 12 of 48; 12 of 24; 8 of 32.
        ("google/gemma-3-27b-it", 1, 81_920.0),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 1, 49_152.0),
        ("openai/gpt-oss-20b", 1, 24_576.0),
        ("Qwen/Qwen3.5-4B", 1, 32_768.0),
    ] {
        assert_eq!(growth(model, tensor), bytes, "{model} at T={tensor}");
    }
}

/// "Loading model weights took … GiB" of real servers; sources in tests/fit/groundtruth.csv.
#[test]
fn weights_are_those_that_servers_logged() {
    for (model, tensor, logged) in [
        ("meta-llama/Llama-3.1-8B-Instruct", 1, 14.99),
        ("deepseek-ai/DeepSeek-V3", 16, 40.32),
        ("hugging-quants/Meta-Llama-3.1-405B-Instruct-AWQ-INT4", 4, 51.15),
        ("openai/gpt-oss-20b", 1, 13.47),
        ("openai/gpt-oss-120b", 1, 64.38),
        ("Qwen/Qwen3-32B", 2, 30.59),
        ("Qwen/Qwen3-30B-A3B", 4, 14.25),
        ("Qwen/Qwen3.5-4B", 1, 8.61),
    ] {
        let gib = on(model, "B200", tensor, &vllm()).weights_per_gpu.unwrap().gib();
        assert!((gib / logged - 1.0).abs() < 0.02, "{model}: {gib} GiB, logged {logged}");
    }
}

/// Of a model whose layers nobody knows a stage has an even share.
#[test]
fn a_model_known_by_its_size_is_cut_into_stages_too() {
    let facts = models::from_name("acme/New-600B-Instruct").unwrap();
    let of = |pipeline| {
        let parallelism = Parallelism {
            tensor: 2,
            pipeline,
            ..Parallelism::ONE
        };
        let placement = place(&facts, &vllm(), gpus::find("H100").unwrap(), parallelism, None);
        placement.weights_per_gpu.unwrap().gib()
    };
    assert!((of(1) / of(3) - 3.0).abs() < 0.01, "{} {}", of(1), of(3));
}

#[test]
fn windows_hold_more_than_full_attention_would() {
    let gemma = on("google/gemma-3-27b-it", "H200", 1, &vllm());
    // All 62 layers at full length: 507,904 B a token.
    assert!(gemma.kv_bytes_per_token_per_gpu.unwrap() < 0.35 * 507_904.0);
    let old = EngineSettings {
        engine_version: Some("0.8.4".into()),
        ..vllm()
    };
    let full = on("google/gemma-3-27b-it", "H200", 1, &old);
    assert_eq!(full.kv_bytes_per_token_per_gpu, Some(507_904.0));
}

/// "max_num_seqs (256) exceeds available Mamba cache blocks": 17.3 MB a block of Qwen3.5's smaller models.
#[test]
fn hybrids_need_a_state_block_for_every_sequence() {
    let settings = |seqs: u64| EngineSettings {
        max_num_seqs: Some(seqs),
        max_model_len: Some(8192),
        gpu_memory_utilization: Some(0.9),
        ..vllm()
    };
    assert_eq!(
        on("Qwen/Qwen3.5-9B", "L4", 1, &settings(256)).verdict,
        FitVerdict::DoesNotFit
    );
    let few = on("Qwen/Qwen3.5-4B", "L4", 1, &settings(64));
    assert_eq!(few.verdict, FitVerdict::Fits, "{}", few.reason);
}

#[test]
fn hard_limits_are_told() {
    let told = |model: &str, gpu: &str, tensor: u32, settings: EngineSettings, word: &str| {
        let p = on(model, gpu, tensor, &settings);
        assert_eq!(p.verdict, FitVerdict::DoesNotFit, "{}", p.reason);
        assert!(p.reason.contains(word), "{}", p.reason);
    };
    let quantized = |q: &str| EngineSettings {
        quantization: Some(q.into()),
        ..vllm()
    };
    told("meta-llama/Llama-3.1-8B-Instruct", "H100", 3, vllm(), "heads");
    told("Qwen/Qwen3-30B-A3B-FP8", "H100", 4, vllm(), "fp8 block");
    told(
        "Qwen/Qwen2.5-7B-Instruct-AWQ",
        "H100",
        1,
        quantized("bitsandbytes"),
        "told",
    );
    told(
        "meta-llama/Llama-3.1-8B-Instruct",
        "T4",
        2,
        EngineSettings {
            engine_version: Some("0.11.0".into()),
            ..quantized("fp8")
        },
        "capability",
    );
    let long = EngineSettings {
        max_model_len: Some(200_000),
        ..vllm()
    };
    told("meta-llama/Llama-3.1-8B-Instruct", "H200", 1, long, "beyond");
}

#[test]
fn a_servers_own_count_replaces_the_estimate() {
    let facts = models::find("meta-llama/Llama-3.1-8B-Instruct").unwrap();
    let gpu = gpus::find("L40S").unwrap();
    let told = Calibration {
        gpu: "L40S".into(),
        parallelism: Parallelism::ONE,
        kv_capacity: Tokens(158_656),
        ..Calibration::default()
    };
    let settings = EngineSettings {
        max_model_len: Some(32_768),
        ..vllm()
    };
    let p = place(&facts, &settings, gpu, Parallelism::ONE, Some(&told));
    assert_eq!(p.confidence, FitConfidence::Measured);
    assert!(p.kv_capacity.unwrap().value.0.abs_diff(158_656) <= 1);
    // On another card it says nothing.
    let other = place(
        &facts,
        &settings,
        gpus::find("L4").unwrap(),
        Parallelism::ONE,
        Some(&told),
    );
    assert_eq!(other.confidence, FitConfidence::Assumed);
}

#[test]
fn the_search_names_the_cheapest_that_fits_and_why_others_do_not() {
    let facts = models::find("Qwen/Qwen2.5-32B-Instruct").unwrap();
    let settings = EngineSettings {
        max_model_len: Some(8192),
        max_num_seqs: Some(128),
        gpu_memory_utilization: Some(0.92),
        ..vllm()
    };
    let tier = |name: &str, usd: f64| Tier {
        gpu: gpus::find(name).unwrap(),
        usd_per_gpu_hour: UsdPerHour::from_usd(usd),
        sizes: Vec::new(),
        max_gpus_per_node: 1,
    };
    let tiers = [tier("B200", 7.0), tier("H200", 4.0), tier("L4", 0.7)];
    let found = search(&facts, &settings, &tiers, &Need::default());
    let names: Vec<(&str, bool)> = found.iter().map(|c| (c.gpu.as_str(), c.accepted)).collect();
    assert_eq!(names[2], ("L4", false));
    assert!(found[2].reason.contains("nothing is left"), "{}", found[2].reason);
    assert!(found[0].accepted && found[0].usd_per_hour <= found[1].usd_per_hour);
    // More tokens than a card can hold.
    let need = Need {
        tokens: Some(10_000_000),
        ..Need::default()
    };
    assert!(search(&facts, &settings, &tiers, &need).iter().all(|c| !c.accepted));
}

/// Bytes of one request of full length, as the server counts them.
fn request(model: &str, gpu: &str, tensor: u32, settings: &EngineSettings) -> f64 {
    let p = on(model, gpu, tensor, settings);
    p.kv_per_gpu.unwrap().gib() / p.max_concurrency.unwrap()
}

fn at(version: &str, length: u64, kv: &str) -> EngineSettings {
    EngineSettings {
        engine_version: Some(version.into()),
        max_model_len: Some(length),
        kv_cache_dtype: Some(kv.into()),
        ..vllm()
    }
}

/// "Maximum concurrency for … tokens per request" of servers, and the error of one that was refused.
#[test]
fn requests_of_compressed_and_sparse_models_take_what_servers_said() {
    let flash = "deepseek-ai/DeepSeek-V4-Flash";
    for (model, gpu, tensor, settings, logged) in [
        // 32.08 GiB held 8.30 requests of 262,144 tokens, and 9.52 of 131,072.
        (flash, "H200", 2, at("0.22.1", 262_144, "fp8"), 32.08 / 8.30),
        (flash, "H200", 2, at("0.22.1", 131_072, "fp8"), 32.08 / 9.52),
        // 37.93 GiB held 9.76 of 256,000 on eight ranks: nothing of it is divided.
        (flash, "H100", 8, at("0.22.1", 256_000, "fp8"), 37.93 / 9.76),
        // "60.79 GiB KV cache is needed".
        ("zai-org/GLM-5.2-FP8", "B300", 8, at("0.30.0", 1_048_576, "fp8"), 60.79),
        // 78 · (576 · 2 + 132) B: 32.11 GiB held 1.70 of 202,752.
        (
            "zai-org/GLM-5.1-FP8",
            "H200",
            8,
            at("0.19.1", 202_752, "auto"),
            32.11 / 1.70,
        ),
    ] {
        let gib = request(model, gpu, tensor, &settings);
        assert!((gib / logged - 1.0).abs() < 0.03, "{model}: {gib} GiB, logged {logged}");
    }
}

/// A short request is its windows: 128 tokens of 40 layers of 584 bytes (2.99 MB) beside 1,790 bytes a token.
#[test]
fn short_requests_hold_their_windows_too() {
    let settings = |length| EngineSettings {
        engine: Some(EngineKind::Sglang),
        max_model_len: Some(length),
        ..vllm()
    };
    let bytes = |length| request("deepseek-ai/DeepSeek-V4.1-Flash", "H200", 8, &settings(length)) * f64::from(1 << 30);
    // Shorter ones end at the server's own limit of requests.
    let (short, long) = (bytes(8192), bytes(1_048_576));
    let by_hand = 8192.0 * 1790.0 + 128.0 * 40.0 * 584.0;
    assert!((short / by_hand - 1.0).abs() < 0.02, "{short}, by hand {by_hand}");
    // Of a long one they are nothing.
    assert!((long / (1_048_576.0 * 1790.0) - 1.0).abs() < 0.02, "{long}");
}

/// Qwen3.6-35B-A3B with fp8 keys: blocks of 2,096 tokens, four groups of ten layers; 3.07 GiB held 4.03 requests of 65,536
/// tokens (two state blocks a group), and the log counted 79,648 tokens by layers (0.20.0), by requests since 0.20.2.
#[test]
fn hybrids_count_tokens_as_their_version_does() {
    let model = "Qwen/Qwen3.6-35B-A3B";
    let settings = at("0.20.0", 65_536, "fp8");
    let settings = EngineSettings {
        prefix_caching: Some(true),
        ..settings
    };
    assert!((request(model, "H200", 1, &settings) / (3.07 / 4.03) - 1.0).abs() < 0.02);
    let tokens = |version: &str| {
        let settings = EngineSettings {
            engine_version: Some(version.into()),
            ..settings.clone()
        };
        let p = on(model, "H200", 1, &settings);
        p.kv_capacity.unwrap().value.0 as f64 / p.kv_per_gpu.unwrap().gib()
    };
    assert!(
        (tokens("0.20.0") / (79_648.0 / 3.07) - 1.0).abs() < 0.02,
        "{}",
        tokens("0.20.0")
    );
    assert!(
        (tokens("0.20.2") / (4.03 * 65_536.0 / 3.07) - 1.0).abs() < 0.02,
        "{}",
        tokens("0.20.2")
    );
}

/// 15.26 GiB of weights and runtime, 1.44 of activations, 56.21 for the cache, of 79.25 × 0.92 (the newest);
/// 40 bytes a sequence and token of the vocabulary before 0.12: 51.38 GiB of 79.18 × 0.9.
#[test]
fn the_samplers_peak_follows_the_version() {
    let kv = |version: &str| {
        let settings = EngineSettings {
            engine_version: Some(version.into()),
            ..vllm()
        };
        on("meta-llama/Llama-3.1-8B-Instruct", "H100", 1, &settings)
            .kv_per_gpu
            .unwrap()
            .gib()
    };
    assert!((kv("0.33.0") / 56.21 - 1.0).abs() < 0.04, "{}", kv("0.33.0"));
    assert!((kv("0.11.0") / 51.38 - 1.0).abs() < 0.04, "{}", kv("0.11.0"));
}

/// Cards without kernels are refused whatever their memory, quantizations without them too.
#[test]
fn engines_refuse_cards_they_have_no_kernels_for() {
    let with = |engine: EngineKind, version: &str| EngineSettings {
        engine: Some(engine),
        engine_version: Some(version.to_string()).filter(|v| !v.is_empty()),
        max_model_len: Some(4096),
        ..EngineSettings::default()
    };
    let refused = |gpu: &str, settings: &EngineSettings| {
        let p = on("Qwen/Qwen2.5-1.5B-Instruct", gpu, 1, settings);
        p.forbidden && p.verdict == FitVerdict::DoesNotFit
    };
    for gpu in ["P100-16GB", "P4", "M60", "MI25", "V620"] {
        assert!(refused(gpu, &with(EngineKind::Vllm, "")), "{gpu}");
        assert!(!refused(gpu, &with(EngineKind::Llamacpp, "")), "{gpu}");
    }
    assert!(!refused("V100-SXM2-32GB", &with(EngineKind::Vllm, "0.11.0")));
    assert!(refused("V100-SXM2-32GB", &with(EngineKind::Vllm, "0.22.0")));
    assert!(refused("T4", &with(EngineKind::Trtllm, "")));
    for gpu in ["MI300X", "MI210", "V710", "T4", "L4"] {
        assert!(!refused(gpu, &with(EngineKind::Vllm, "")), "{gpu}");
    }
    let fp4 = EngineSettings {
        quantization: Some("nvfp4".into()),
        ..with(EngineKind::Vllm, "")
    };
    assert!(refused("MI300X", &fp4) && !refused("B200", &fp4));
}

#[test]
fn a_quantization_of_unknown_size_is_unknown() {
    let facts = ModelFacts {
        quantization: Some("novel".into()),
        ..models::find("Qwen/Qwen3-8B").unwrap()
    };
    let p = place(&facts, &vllm(), gpus::find("H100").unwrap(), Parallelism::ONE, None);
    assert_eq!((p.verdict, p.weights_per_gpu), (FitVerdict::Unknown, None));
    assert!(p.reason.contains("'novel'"), "{}", p.reason);
    let exl = ModelFacts {
        quantization: Some("exl 4.0bpw".into()),
        ..facts
    };
    let p = place(&exl, &vllm(), gpus::find("H100").unwrap(), Parallelism::ONE, None);
    assert!(p.weights_per_gpu.unwrap().gib() < 7.0);
}

/// What lacks memory tells the widest attempt, not one GPU that no one would try.
#[test]
fn the_widest_attempt_is_told() {
    let facts = models::find("deepseek-ai/DeepSeek-R1").unwrap();
    let tiers = [Tier {
        gpu: gpus::find("L4").unwrap(),
        usd_per_gpu_hour: None,
        sizes: Vec::new(),
        max_gpus_per_node: 8,
    }];
    let found = search(&facts, &vllm(), &tiers, &Need::default());
    assert_eq!((found[0].gpus, found[0].accepted), (16, false));
}

fn on_instance(model: &str, profile: &str, settings: &EngineSettings) -> Placement {
    let gpu = mig::find(gpus::find("H100").unwrap(), profile).unwrap();
    place(&models::find(model).unwrap(), settings, gpu, Parallelism::ONE, None)
}

#[test]
fn a_mig_instance_holds_what_its_memory_holds() {
    // At the default share the smallest instance has 0.3 GiB beside the budget for what comes after the pool.
    let small = EngineSettings {
        engine_version: Some("0.21.0".into()),
        gpu_memory_utilization: Some(0.85),
        max_model_len: Some(4096),
        max_num_seqs: Some(16),
        max_num_batched_tokens: Some(2048),
        ..vllm()
    };
    let verdict = |model: &str, profile: &str| on_instance(model, profile, &small).verdict;
    // 14.2 GiB of weights.
    assert_eq!(verdict("Qwen/Qwen2.5-7B-Instruct", "1g.10gb"), FitVerdict::DoesNotFit);
    assert_eq!(verdict("Qwen/Qwen2.5-7B-Instruct", "3g.40gb"), FitVerdict::Fits);
    assert_eq!(verdict("Qwen/Qwen3-1.7B", "1g.10gb"), FitVerdict::Fits);
    // No rank talks to another across instances.
    let two = Parallelism {
        tensor: 2,
        ..Parallelism::ONE
    };
    let gpu = mig::named("H100-MIG-3g.40gb").unwrap();
    let across = place(&models::find("Qwen/Qwen3-1.7B").unwrap(), &small, gpu, two, None);
    assert!(
        across.verdict == FitVerdict::DoesNotFit && across.forbidden,
        "{across:?}"
    );
}

/// vLLM takes the card's defaults where NVML tells its memory, and the small ones where it is refused: then a seventh of
/// an H100 runs its profile with 256 or 1,024 sequences, and only a stated number is sure.
#[test]
fn defaults_that_depend_on_the_card_are_not_sure_on_its_instances() {
    // At the default share the smallest instance has 0.3 GiB beside the budget for what comes after the pool.
    let stated = EngineSettings {
        engine_version: Some("0.21.0".into()),
        gpu_memory_utilization: Some(0.85),
        max_model_len: Some(4096),
        max_num_seqs: Some(16),
        max_num_batched_tokens: Some(2048),
        ..vllm()
    };
    let open = EngineSettings {
        max_num_seqs: None,
        max_num_batched_tokens: None,
        ..stated.clone()
    };
    let sure = on_instance("Qwen/Qwen3-1.7B", "1g.10gb", &stated);
    let unsure = on_instance("Qwen/Qwen3-1.7B", "1g.10gb", &open);
    assert_eq!((sure.verdict, unsure.verdict), (FitVerdict::Fits, FitVerdict::Tight));
    let low = |p: &Placement| p.kv_capacity.unwrap().low;
    assert!(low(&unsure) < low(&sure), "{unsure:?}");
    // An A100 has the small defaults itself.
    let a100 = mig::named("A100 80GB-MIG-2g.20gb").unwrap();
    let facts = models::find("Qwen/Qwen3-1.7B").unwrap();
    assert_eq!(
        place(&facts, &open, a100, Parallelism::ONE, None).verdict,
        FitVerdict::Fits
    );
}

proptest! {
    /// What a part of a card holds for sure, the card and every larger part hold too.
    #[test]
    fn a_smaller_profile_never_holds_more(model in 0..models::all().len(), length in 1024..65_536_u64, seqs in 1..512_u64) {
        let facts = &models::all()[model].facts;
        let settings = EngineSettings {
            max_model_len: Some(length),
            max_num_seqs: Some(seqs),
            max_num_batched_tokens: Some(2048),
            ..vllm()
        };
        for card in ["H100", "A100 80GB", "H200", "A30"] {
            let card = gpus::find(card).unwrap();
            let whole = place(facts, &settings, card, Parallelism::ONE, None);
            for gpu in mig::of(card) {
                let own = gpu.instance.as_ref().unwrap();
                let placed = place(facts, &settings, gpu, Parallelism::ONE, None);
                if placed.verdict == FitVerdict::Fits {
                    prop_assert_eq!(whole.verdict, FitVerdict::Fits, "{} {}", gpu.name, facts.id);
                }
                for larger in mig::of(card).filter(|l| l.instance.as_ref().unwrap().units > own.units) {
                    let more = place(facts, &settings, larger, Parallelism::ONE, None);
                    if let (Some(small), Some(large)) = (placed.kv_capacity, more.kv_capacity) {
                        prop_assert!(small.low <= large.low, "{} {}: {small:?} {large:?}", gpu.name, facts.id);
                    }
                }
            }
        }
    }
}
