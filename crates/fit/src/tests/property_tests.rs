//! What must hold for any model, card and settings.

use super::*;

fn rank(v: FitVerdict) -> u8 {
    match v {
        FitVerdict::DoesNotFit => 0,
        FitVerdict::Tight => 1,
        FitVerdict::Fits => 2,
        FitVerdict::Unknown => 3,
    }
}

fn any_settings() -> impl Strategy<Value = EngineSettings> {
    use EngineKind::{Llamacpp, Nim, Ollama, Sglang, Tei, Tgi, Trtllm, Vllm};
    let engine = prop::sample::select(vec![Vllm, Sglang, Tgi, Trtllm, Llamacpp, Ollama, Nim, Tei]);
    let version = prop::sample::select(vec![
        "",
        "V0",
        "0.6.3",
        "0.8.5",
        "0.11.0",
        "0.33.0",
        "nonsense",
        "1.2.3.4.5",
    ]);
    let quantization = prop::sample::select(vec!["", "fp8", "awq", "bitsandbytes", "Q4_K_M", "nvfp4", "what"]);
    let numbers = (
        any::<Option<u64>>(),
        any::<Option<u64>>(),
        any::<Option<u64>>(),
        any::<Option<u64>>(),
    );
    let switches = (
        any::<Option<bool>>(),
        any::<Option<bool>>(),
        any::<Option<bool>>(),
        any::<Option<bool>>(),
    );
    (engine, version, quantization, numbers, switches, any::<Option<f64>>()).prop_map(
        |(engine, version, quantization, n, b, share)| {
            let text = |t: &str| Some(t.to_string()).filter(|t| !t.is_empty());
            EngineSettings {
                engine: Some(engine),
                engine_version: text(version),
                quantization: text(quantization),
                max_model_len: n.0,
                max_num_seqs: n.1,
                max_num_batched_tokens: n.2,
                block_size: n.3,
                expert_parallel: b.0,
                dp_attention: b.1,
                speculative: b.2,
                lora: b.3,
                gpu_memory_utilization: share,
                mem_fraction_static: share,
                ..EngineSettings::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_panics_and_bands_are_in_order(
        model in 0_usize..500, gpu in 0_usize..70, tensor in any::<u32>(), pipeline in 0_u32..9, data in 0_u32..9, settings in any_settings(),
    ) {
        let all = models::all();
        let facts = &all[model % all.len()].facts;
        let gpu = &gpus::all()[gpu % gpus::all().len()];
        let p = place(facts, &settings, gpu, Parallelism { tensor: tensor % 33, pipeline, data }, None);
        if let Some(kv) = p.kv_capacity {
            prop_assert!(kv.low <= kv.value && kv.value <= kv.high);
        }
        if let Some(o) = p.overhead_per_gpu {
            prop_assert!(o.low <= o.value && o.value <= o.high);
        }
        prop_assert!(p.max_concurrency.is_none_or(f64::is_finite));
        prop_assert!(!p.reason.is_empty());
    }

    #[test]
    fn more_memory_and_shorter_requests_never_hurt(
        model in 0_usize..500, gib in 8.0_f64..200.0, more in 0.0_f64..100.0, length in 512_u64..32_768, longer in 0_u64..100_000,
    ) {
        let all = models::all();
        let facts = &all[model % all.len()].facts;
        let at = |gib: f64, length: u64| {
            let gpu = GpuFacts { memory_cuda: Some(Bytes::from_gib(gib)), ..gpus::find("H100").unwrap().clone() };
            let settings = EngineSettings {
                max_model_len: Some(length), max_num_seqs: Some(64), max_num_batched_tokens: Some(2048), ..vllm()
            };
            rank(place(facts, &settings, &gpu, Parallelism::ONE, None).verdict)
        };
        prop_assert!(at(gib + more, length) >= at(gib, length));
        prop_assert!(at(gib, length + longer) <= at(gib, length));
    }
}

/// A figure of a table against the others of its row: how far `found` is beyond `most`, in their own unit.
fn beyond(found: f64, most: f64) -> f64 {
    found - most * (1.0 + 1e-9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Tokens × bytes is the pool, and the requests at once hold no more tokens than there are.
    #[test]
    fn the_columns_of_a_row_do_not_contradict_each_other(
        model in 0_usize..models::all().len(), gpu in 0_usize..gpus::all().len(), tensor in 0_u32..5, pipeline in 1_u32..4, settings in any_settings(),
        length in 1_u64..1_000_000, sequences in prop::option::of(1_u64..2048), stated in any::<bool>(), kv in prop::sample::select(vec!["auto", "fp8"]), prefix_caching in any::<Option<bool>>(),
    ) {
        let facts = &models::all()[model].facts;
        let settings = EngineSettings {
            max_model_len: stated.then_some(length), max_num_seqs: sequences, max_num_batched_tokens: None, block_size: None,
            kv_cache_dtype: Some(kv.into()), gpu_memory_utilization: None, mem_fraction_static: None, prefix_caching, ..settings
        };
        let p = place(facts, &settings, &gpus::all()[gpu], Parallelism { tensor: 1 << tensor, pipeline, data: 1 }, None);
        let (Some(tokens), Some(bytes)) = (p.kv_capacity, p.kv_bytes_per_token_per_gpu) else { return Ok(()) };
        let tokens = tokens.value.0 as f64;
        // llama.cpp allocates the context that it is told: it has no pool.
        if let Some(pool) = p.kv_per_gpu.map(|b| b.0 as f64) {
            prop_assert!(beyond(tokens * bytes, pool + 1.0) <= 0.0, "{}: {tokens} tokens of {bytes} bytes in {pool}", facts.id);
            // What the tokens leave is less than one of them, but for state slots that are set aside.
            let set_aside = settings.prefix_caching == Some(false);
            prop_assert!(set_aside || beyond(pool, (tokens + 1.0) * bytes + 1.0) <= 0.0, "{}: {pool} of {tokens} × {bytes}", facts.id);
        }
        let (Some(requests), Some(length)) = (p.max_concurrency, p.max_model_len) else { return Ok(()) };
        let asked = requests * length as f64;
        // vLLM until 0.20.1 tells its tokens as if every group of layers held all of them: fewer than it serves.
        if !tells_all_groups(&settings) {
            prop_assert!(beyond(asked, tokens + 1.0) <= 0.0, "{}: {requests} requests of {length} in {tokens} tokens", facts.id);
        }
    }
}

fn tells_all_groups(settings: &EngineSettings) -> bool {
    let version = settings.engine_version.as_deref().and_then(defaults::version);
    settings.engine == Some(EngineKind::Vllm) && version.is_some_and(|v| v < defaults::Version(0, 20, 2))
}
