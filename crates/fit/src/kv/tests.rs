//! What layers hold and how pools are shared, worked by hand from the shapes and the engines' rules that the code names.

use super::*;
use crate::catalog::{gpus, models};
use crate::defaults::Engine;
use crate::memory::Batch;
use crate::snapshot::server::EngineKind::{self, Sglang, Vllm};
use crate::snapshot::server::EngineSettings;
use crate::{Parallelism, defaults, quantization, weights};

/// The first way, of a step of 2,048 tokens.
fn context(model: &str, gpu: &str, tensor: u32, pipeline: u32, settings: &EngineSettings) -> Context {
    ways(model, gpu, tensor, pipeline, settings).swap_remove(0)
}

fn ways(model: &str, gpu: &str, tensor: u32, pipeline: u32, settings: &EngineSettings) -> Vec<Context> {
    let (model, gpu) = (models::find(model).unwrap(), gpus::find(gpu).unwrap());
    let parallelism = Parallelism {
        tensor,
        pipeline,
        ..Parallelism::ONE
    };
    let engine = Engine::of(settings, &model, gpu);
    contexts(&Case {
        spread: weights::spread(&engine, settings, parallelism),
        total: defaults::cuda_total(gpu),
        scheme: quantization::scheme(&model, settings).ok().unwrap(),
        step: Batch {
            sequences: 256,
            tokens: 2048,
        },
        length: None,
        model: &model,
        settings,
        gpu,
        parallelism,
        engine,
    })
    .unwrap()
}

fn of(engine: EngineKind, version: &str) -> EngineSettings {
    EngineSettings {
        engine: Some(engine),
        engine_version: Some(version.into()),
        ..EngineSettings::default()
    }
}

fn fp8(engine: EngineKind, version: &str) -> EngineSettings {
    EngineSettings {
        kv_cache_dtype: Some("fp8".into()),
        ..of(engine, version)
    }
}

#[test]
fn an_element_has_the_bytes_of_its_name() {
    for (name, bytes) in [
        ("auto", 2.0),
        ("bfloat16", 2.0),
        ("fp16", 2.0),
        ("Half", 2.0),
        ("float32", 4.0),
        ("f32", 4.0),
        ("fp8", 1.0),
        ("FP8_E4M3", 1.0),
        ("int8", 1.0),
        // 32 elements of 4 bits and a scale of 8.
        ("mxfp4", 0.53125),
        // ggml: blocks of 32 elements in 34, 18, 20, 22 and 24 bytes.
        ("q8_0", 34.0 / 32.0),
        ("q4_0", 18.0 / 32.0),
        ("q4_1", 20.0 / 32.0),
        ("q5_0", 22.0 / 32.0),
        ("q5_1", 24.0 / 32.0),
    ] {
        let settings = EngineSettings {
            kv_cache_dtype: Some(name.into()),
            ..of(Vllm, "0.11.0")
        };
        let held = context("meta-llama/Llama-3.1-8B-Instruct", "H100", 1, 1, &settings);
        assert_eq!(held.per_token(), 32.0 * 8.0 * 256.0 * bytes, "{name}");
        assert!(is_known_dtype(name), "{name}");
    }
    assert!(!is_known_dtype("turbo"));
    let full = EngineSettings {
        dtype: Some("float32".into()),
        ..of(Vllm, "0.11.0")
    };
    assert_eq!(
        context("meta-llama/Llama-3.1-8B-Instruct", "H100", 1, 1, &full).per_token(),
        262_144.0
    );
    for (name, known) in [
        ("auto", true),
        ("Auto", true),
        ("float32", true),
        ("bf16", true),
        ("fp8", false),
        ("", false),
    ] {
        assert_eq!(is_known_state_dtype(name), known, "{name}");
    }
}

/// DeepSeek-V3.2: 61 layers of 512 + 64 elements, or 656 bytes packed, and 132 of the indexer.
#[test]
fn sparse_latents_are_packed_where_the_engine_packs_them() {
    let model = "deepseek-ai/DeepSeek-V3.2";
    let (wide, plain, packed) = (61.0 * (1152.0 + 132.0), 61.0 * (576.0 + 132.0), 61.0 * (656.0 + 132.0));
    let told = |settings: &EngineSettings, gpu: &str| -> Vec<f64> {
        ways(model, gpu, 8, 1, settings)
            .iter()
            .map(Context::per_token)
            .collect()
    };
    for (settings, gpu, bytes) in [
        (of(Vllm, "0.13.0"), "H200", vec![wide]),
        (fp8(Vllm, "0.13.0"), "H200", vec![packed]),
        (fp8(Vllm, "0.13.0"), "B200", vec![packed]),
        (of(Sglang, "0.5.9"), "H200", vec![wide]),
        (fp8(Sglang, "0.5.9"), "H200", vec![packed]),
        (fp8(Sglang, "0.5.9"), "B200", vec![plain]),
        (fp8(Sglang, "0.5.8"), "MI300X", vec![packed]),
        (fp8(Sglang, "0.5.9"), "MI300X", vec![plain, packed]),
        (fp8(Sglang, "0.5.11"), "MI300X", vec![plain, packed]),
        (fp8(Sglang, "0.5.12"), "MI300X", vec![plain]),
    ] {
        let mut told = told(&settings, gpu);
        told.dedup();
        assert_eq!(told, bytes, "{:?} on {gpu}", settings.engine_version);
    }
    // Latent attention that is not sparse is never packed.
    let v3 = context("deepseek-ai/DeepSeek-V3", "H200", 8, 1, &fp8(Vllm, "0.13.0"));
    assert_eq!(v3.per_token(), 61.0 * 576.0);
}

/// V0 counts Whisper's 32 encoder layers, and gives Llama-Vision's 8 cross-attention layers blocks as well.
#[test]
fn v0_counts_layers_that_v1_does_not() {
    let per_token =
        |model: &str, version: &str, tensor: u32| context(model, "H100", tensor, 1, &of(Vllm, version)).per_token();
    let whisper = "openai/whisper-large-v3-turbo";
    assert_eq!(per_token(whisper, "0.7.3", 1), 32.0 * 20.0 * 128.0 * 2.0);
    // 20 heads on 8 ranks: 3 on the fullest.
    assert_eq!(per_token(whisper, "0.7.3", 8), 32.0 * 3.0 * 128.0 * 2.0);
    assert_eq!(per_token(whisper, "0.11.0", 1), 4.0 * 20.0 * 128.0 * 2.0);
    let vision = "meta-llama/Llama-3.2-11B-Vision-Instruct";
    assert_eq!(per_token(vision, "0.7.3", 1), 40.0 * 8.0 * 256.0 * 2.0);
    assert_eq!(per_token(vision, "0.11.0", 1), 32.0 * 8.0 * 256.0 * 2.0);
    // SGLang gives encoders a pool of full width.
    let encoder = context(whisper, "H100", 2, 1, &of(Sglang, "0.5.9")).per_token();
    assert_eq!(encoder, (32.0 * 10.0 + 4.0 * 10.0) * 128.0 * 2.0);
}

/// DeepSeek-V4: pages of 576 bytes' multiples that packing makes 1.045 times as large, and SGLang's plain rows.
#[test]
fn compressed_entries_are_those_of_their_layout() {
    let model = "deepseek-ai/DeepSeek-V4-Flash";
    let page = |bytes: f64| (bytes / 576.0).ceil() * 576.0 * 1.045;
    let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} {b}");
    // 21 layers hold one entry of 584 bytes for 4 tokens and an index key of 132; 20 one entry for 128.
    let vllm = context(model, "B200", 1, 1, &of(Vllm, "0.22.0"));
    let entries = 21.0 * (page(64.0 * 584.0) + page(64.0 * 132.0)) + 20.0 * page(2.0 * 584.0);
    close(vllm.per_token(), entries / 256.0);
    // Windows: all 43 layers 128 tokens, 64 a page; compressors 8 tokens at ratio 4 (4 tokens of 2 × 2 × 512 × 4 bytes a
    // page, 4 × 128 for the index) and 128 at ratio 128 (8 tokens of 2 × 512 × 4 bytes, no smaller than a page of entries).
    let (bytes, window) = vllm.windowed();
    let entry = page(64.0 * 584.0);
    let windows = 43.0 * entry / 64.0
        + 21.0 * (page(f64::max(4.0 * 8192.0, 64.0 * 584.0)) / 4.0 + page(4.0 * 2048.0) / 4.0)
        + 20.0 * page(f64::max(8.0 * 4096.0, 64.0 * 584.0)) / 8.0;
    close(bytes, windows);
    assert_eq!(window, 128.0);
    let sglang = context(model, "B200", 1, 1, &of(Sglang, "0.5.14"));
    close(sglang.per_token(), 21.0 * (584.0 + 132.0) / 4.0 + 20.0 * 584.0 / 128.0);
    let (bytes, _) = sglang.windowed();
    close(bytes, 43.0 * 584.0 + 21.0 * (8192.0 + 2048.0) + 20.0 * 4096.0);
    // What the formats may be off by.
    assert_eq!(vllm.doubt, (0.95, 1.2));
    assert_eq!(context(model, "B200", 1, 1, &of(Vllm, "0.20.0")).doubt, (0.9, 2.5));
    assert_eq!(
        context(
            model,
            "B200",
            1,
            1,
            &EngineSettings {
                engine_version: None,
                ..of(Vllm, "")
            }
        )
        .doubt,
        (0.9, 2.5)
    );
    assert_eq!(sglang.doubt, (0.6, 1.5));
}

#[test]
fn the_fullest_stage_has_the_layers_that_are_left_over() {
    let vllm = of(Vllm, "0.11.0");
    let per_token = |model: &str, stages: u32| context(model, "H100", 1, stages, &vllm).per_token();
    // 80 layers in 1, 3 and 4 stages.
    let layer = 8.0 * 256.0 * 2.0;
    for (stages, layers) in [(1, 80.0), (3, 27.0), (4, 20.0)] {
        assert_eq!(per_token("meta-llama/Llama-3.1-70B-Instruct", stages), layers * layer);
    }
    // Ten of Gemma's 62 layers are full: of 31 in a stage five.
    assert_eq!(per_token("google/gemma-3-27b-it", 2), 5.0 * 16.0 * 256.0 * 2.0);
}

#[test]
fn a_draft_has_a_layer_in_the_same_pool() {
    let drafted = |on: Option<bool>, method: &str| {
        let settings = EngineSettings {
            speculative: on,
            speculative_method: Some(method.into()),
            ..of(Vllm, "0.11.0")
        };
        context("meta-llama/Llama-3.1-8B-Instruct", "H100", 1, 1, &settings).per_token() / 4096.0
    };
    for (on, method, layers) in [
        (None, "eagle3", 32.0),
        (Some(false), "eagle3", 32.0),
        (Some(true), "eagle3", 33.0),
        (Some(true), "mtp", 33.0),
        (Some(true), "ngram", 32.0),
        (Some(true), "suffix", 32.0),
    ] {
        assert_eq!(drafted(on, method), layers, "{on:?} {method}");
    }
}

/// Gemma-3-27B on vLLM: 10 full and 52 window layers are cut into groups of ten, each of blocks of 16 tokens.
#[test]
fn groups_of_layers_share_blocks() {
    let layer = 16.0 * 256.0 * 2.0;
    let block = 16.0 * layer * 10.0;
    let gemma = |settings: &EngineSettings| context("google/gemma-3-27b-it", "H200", 1, 1, settings);
    let new = gemma(&of(Vllm, "0.22.0"));
    // 32,768 tokens: 2,048 blocks of the full group; six groups of windows: 1,023 and a step in flight, and one block more.
    let step = |steps: u64| (1023 + 2048 * steps).div_ceil(16) as f64 + 1.0;
    let of_windows: Vec<f64> = [1, 2].iter().map(|n| (2048.0 + 6.0 * step(*n)) * block).collect();
    assert!(
        of_windows.contains(&new.request(32_768)),
        "{} {of_windows:?}",
        new.request(32_768)
    );
    // No longer than the request.
    assert_eq!(new.request(16), (1.0 + 6.0 * 2.0) * block);
    assert_eq!(new.counted_per_token(32_768), new.request(32_768) / 32_768.0);
    // Before 0.20.2 the log counts tokens as if every group held them for good.
    let old = gemma(&of(Vllm, "0.20.1"));
    assert_eq!(old.counted_per_token(32_768), 7.0 * block / 16.0);
    let last = gemma(&of(Vllm, "0.20.2"));
    assert_eq!(last.counted_per_token(32_768), last.request(32_768) / 32_768.0);
    // What a pool gives: requests of that length, and tokens.
    let told = old.capacity(1e11, 32_768);
    assert_eq!(told.requests, 1e11 / old.request(32_768));
    assert_eq!(told.tokens, 1e11 / (7.0 * block / 16.0));
    assert_eq!(old.capacity(-5.0, 32_768), Capacity::default());
    // Windows are full layers before 0.9, with the hybrid manager off, and in TGI.
    let off = EngineSettings {
        hybrid_kv_off: Some(true),
        ..of(Vllm, "0.22.0")
    };
    for settings in [of(Vllm, "0.8.5"), off, of(EngineKind::Tgi, "3.3.0")] {
        assert_eq!(
            gemma(&settings).per_token(),
            62.0 * layer,
            "{:?}",
            settings.engine_version
        );
    }
    assert_eq!(gemma(&of(Vllm, "0.9.0")).per_token(), 10.0 * layer);
}

/// Qwen3.5-4B: 8 full layers (4 heads of 256) and 24 with a state of 16-bit convolutions and 32-bit recurrence.
#[test]
fn state_makes_blocks_larger_and_takes_one_a_sequence() {
    let model = "Qwen/Qwen3.5-4B";
    // 4 heads × (256 + 256) × 2 bytes a token; the state is (2 × 16 × 128 + 32 × 128) × 3 × 2 and 32 × 128 × 128 × 4.
    let (token, state) = (4096.0_f64, 8192.0 * 3.0 * 2.0 + 32.0 * 128.0 * 128.0 * 4.0);
    let tokens = (state / (token * 16.0)).ceil() * 16.0;
    // Groups of eight layers: one of attention, three of state; a page holds the state.
    let block = tokens * token * 8.0;
    let hybrid = |version: &str, more: &dyn Fn(&mut EngineSettings)| {
        let mut settings = of(Vllm, version);
        more(&mut settings);
        context(model, "L40S", 1, 1, &settings)
    };
    let none = |_: &mut EngineSettings| {};
    let held = hybrid("0.15.1", &none);
    assert_eq!(held.state(), 24.0 * state);
    let blocks = (4096.0 / tokens).ceil();
    assert_eq!(held.request(4096), (blocks + 3.0) * block);
    assert_eq!(held.state_blocks(1e10), Some((1e10 / block).floor()));
    assert_eq!(held.state_blocks(-1.0), Some(0.0));
    // Since 0.16 one more a speculated token, and one where states are cached.
    let drafted = |s: &mut EngineSettings| {
        (s.speculative, s.speculative_tokens, s.prefix_caching) = (Some(true), Some(3), Some(false));
        s.speculative_method = Some("ngram".into());
    };
    assert_eq!(hybrid("0.15.1", &drafted).request(4096), (blocks + 3.0) * block);
    assert_eq!(hybrid("0.16.0", &drafted).request(4096), (blocks + 3.0 * 4.0) * block);
    // The first flag holds for both parts, the second for its own.
    let states = |conv: Option<&str>, recurrent: Option<&str>| {
        hybrid("0.15.1", &|s: &mut EngineSettings| {
            s.mamba_cache_dtype = conv.map(String::from);
            s.mamba_ssm_dtype = recurrent.map(String::from);
        })
        .state()
    };
    let (conv, recurrent) = (24.0 * 8192.0 * 3.0, 24.0 * 32.0 * 128.0 * 128.0);
    assert_eq!(states(Some("float32"), None), conv * 4.0 + recurrent * 4.0);
    assert_eq!(states(Some("float16"), None), conv * 2.0 + recurrent * 2.0);
    assert_eq!(states(Some("float32"), Some("bfloat16")), conv * 4.0 + recurrent * 2.0);
    assert_eq!(states(Some("auto"), Some("auto")), conv * 2.0 + recurrent * 4.0);
    let plain = context("meta-llama/Llama-3.1-8B-Instruct", "L40S", 1, 1, &of(Vllm, "0.15.1"));
    assert_eq!(
        (plain.state_blocks(1e10), plain.state(), plain.windowed()),
        (None, 0.0, (0.0, 0.0))
    );
}

#[test]
fn sglang_shares_its_pool_in_fixed_proportions() {
    let sglang = |model: &str, version: &str, more: &dyn Fn(&mut EngineSettings)| {
        let mut settings = of(Sglang, version);
        more(&mut settings);
        ways(model, "H200", 1, 1, &settings)
    };
    let none = |_: &mut EngineSettings| {};
    // gpt-oss-20b: 12 full layers and 12 windows of 8 heads of 64; windows have 0.8 tokens a full one.
    let layer = 8.0 * 128.0 * 2.0;
    let cells = |version: &str, more: &dyn Fn(&mut EngineSettings)| -> Vec<f64> {
        sglang("openai/gpt-oss-20b", version, more)
            .iter()
            .map(|c| c.counted_per_token(1) / layer)
            .collect()
    };
    let near = |told: Vec<f64>, right: &[f64]| {
        assert_eq!(told.len(), right.len(), "{told:?} {right:?}");
        assert!(
            told.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-9),
            "{told:?} {right:?}"
        );
    };
    near(cells("0.5.12", &none), &[12.0 + 0.8 * 12.0]);
    near(cells("0.5.8", &none), &[12.0 + 0.8 * 12.0, 24.0]);
    near(cells("0.5.6", &none), &[12.0 + 0.8 * 12.0, 24.0]);
    near(cells("0.5.5", &none), &[24.0]);
    let half = |s: &mut EngineSettings| s.swa_full_tokens_ratio = Some(0.5);
    near(cells("0.5.12", &half), &[18.0]);
    near(cells("0.5.5", &half), &[18.0]);
    // Gemma-3's windows have no pool of their own.
    let gemma = &sglang("google/gemma-3-27b-it", "0.5.12", &none)[0];
    assert_eq!(gemma.counted_per_token(1), 62.0 * 16.0 * 256.0 * 2.0);
    // Qwen3.5-4B: state gets 0.9 of what tokens get, three slots a request; without the radix cache a slot each of a fixed number.
    let (token, slot) = (8.0 * 4096.0, 24.0 * (8192.0 * 6.0 + 32.0 * 128.0 * 128.0 * 4.0));
    let pool = 19e9;
    let shared = &sglang("Qwen/Qwen3.5-4B", "0.5.12", &none)[0];
    let told = shared.capacity(pool, 100_000);
    assert!((told.tokens - 10e9 / token).abs() < 1.0, "{told:?}");
    assert!(
        (told.requests - f64::min(10e9 / token / 1e5, 9e9 / slot / 3.0)).abs() < 1e-6,
        "{told:?}"
    );
    let short = shared.capacity(pool, 100);
    assert!((short.requests - 9e9 / slot / 3.0).abs() < 1e-6, "{short:?}");
    let fixed = |s: &mut EngineSettings| (s.prefix_caching, s.max_num_seqs) = (Some(false), Some(32));
    let own = sglang("Qwen/Qwen3.5-4B", "0.5.12", &fixed)[0].capacity(pool, 100);
    assert!((own.tokens - (pool - 32.0 * slot) / token).abs() < 1.0, "{own:?}");
    assert_eq!(own.requests, 32.0);
    // Tokens are what runs out first beside the slots that are set aside.
    let few = sglang("Qwen/Qwen3.5-4B", "0.5.12", &fixed)[0].capacity(32.0 * slot + 1e4 * token, 1000);
    assert!((few.requests - 10.0).abs() < 1e-6, "{few:?}");
    // What one request must find.
    assert!((shared.request(1_000_000) - token * 1e6 * 1.9).abs() < 1e3);
    assert!((shared.request(1) - 3.0 * slot * 1.9 / 0.9).abs() < 1e3);
    let own = sglang("Qwen/Qwen3.5-4B", "0.5.12", &fixed)[0].request(1000);
    assert_eq!(own, token * 1000.0 + slot);
}

/// DeepSeek-V4's windows have a tenth of the tokens, its compressors' rings so many of a page of 128; V4.1's windows are of requests.
#[test]
fn sglang_gives_compressed_models_pools_of_their_own() {
    let of = |model: &str| context(model, "B200", 1, 1, &of(Sglang, "0.5.14"));
    let v4 = of("deepseek-ai/DeepSeek-V4-Flash");
    let full = 21.0 * (584.0 + 132.0) / 4.0 + 20.0 * 584.0 / 128.0;
    let rings = 43.0 * 584.0 + 20.0 * 4096.0 + 21.0 * (8192.0 + 2048.0) * 8.0 / 128.0;
    let cell = full + 0.1 * rings;
    assert!((v4.counted_per_token(1) / cell - 1.0).abs() < 1e-9);
    let told = v4.capacity(1e10, 8192);
    assert!((told.tokens / (1e10 / cell) - 1.0).abs() < 1e-9, "{told:?}");
    assert!((told.requests / (1e10 / cell / 8192.0) - 1.0).abs() < 1e-9, "{told:?}");
    let shared = of("deepseek-ai/DeepSeek-V4.1-Flash");
    let (cell, windows) = (shared.per_token(), shared.request(1) - shared.per_token());
    assert!(windows > 36.0 * 584.0 * 128.0, "{windows}");
    assert_eq!(shared.request(8192), cell * 8192.0 + windows);
    let told = shared.capacity(1e10, 8192);
    assert!(
        (told.requests / (1e10 / (cell * 8192.0 + windows)) - 1.0).abs() < 1e-9,
        "{told:?}"
    );
    // A plain model has its tokens, and nothing else.
    let plain = of("meta-llama/Llama-3.1-8B-Instruct");
    assert_eq!(
        plain.capacity(131_072e4, 100),
        Capacity {
            requests: 100.0,
            tokens: 1e4
        }
    );
    assert!(!plain.is_empty());
}

/// Llama-4's chunks and other engines' layers, each for itself.
#[test]
fn other_engines_hold_each_layer_for_itself() {
    let held = context("google/gemma-3-27b-it", "H200", 1, 1, &of(EngineKind::Trtllm, "1.0.0"));
    let layer = 16.0 * 256.0 * 2.0;
    let window = |length: f64| f64::min(length, 1024.0 + 2048.0);
    for length in [8_192_u64, 1_024] {
        let rounded = length as f64;
        let right = layer * (10.0 * rounded + 52.0 * window(rounded));
        assert_eq!(held.request(length), right, "{length}");
        assert_eq!(held.counted_per_token(length), right / rounded);
    }
    // Chunks of 8,192 tokens and a step in flight: 36 layers of Llama-4-Scout beside 12 full ones.
    let scout = context(
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "H200",
        8,
        1,
        &of(Vllm, "0.22.0"),
    );
    let block = 16.0 * 256.0 * 2.0 * 12.0;
    let requests: Vec<f64> = [1.0, 2.0]
        .iter()
        .map(|n| (2048.0 + 3.0 * (8192.0 + 2048.0 * n) / 16.0) * block)
        .collect();
    assert!(
        requests.contains(&scout.request(32_768)),
        "{} {requests:?}",
        scout.request(32_768)
    );
    assert_eq!(scout.request(1_600), 4.0 * 100.0 * block);
    assert_eq!(scout.windowed(), (36.0 * 512.0, 8192.0));
}
