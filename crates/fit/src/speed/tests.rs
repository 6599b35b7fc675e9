use super::*;
use crate::catalog::{gpus, models};
use crate::snapshot::server::{EngineKind, EngineSettings};
use crate::{Parallelism, place};

fn settings(quantization: Option<&str>) -> EngineSettings {
    EngineSettings {
        engine: Some(EngineKind::Vllm),
        engine_version: Some("0.19.0".into()),
        max_model_len: Some(16_384),
        quantization: quantization.map(String::from),
        ..EngineSettings::default()
    }
}

fn with(model: &str, gpu: &str, tensor: u32, settings: &EngineSettings) -> Roofline {
    let facts = models::find(model).expect(model);
    let parallelism = Parallelism {
        tensor,
        ..Parallelism::ONE
    };
    place(&facts, settings, gpus::find(gpu).expect(gpu), parallelism, None)
        .roofline
        .expect("a roofline")
}

const LLAMA: &str = "meta-llama/Llama-3.1-8B-Instruct";

/// By hand, with constants that are easy to reckon with.
#[test]
fn the_step_time_is_the_formula() {
    let mut r = with(LLAMA, "H100", 2, &settings(None));
    // 8.03e9 − 0.525e9 of the input embedding, 2 bytes each.
    assert!((r.dense_bytes / 15.0098e9 - 1.0).abs() < 1e-3, "{}", r.dense_bytes);
    r.kernels = 320.0;
    let c = Resolved {
        bandwidth: 0.8,
        expert_bandwidth: 1.0,
        compute: 0.5,
        expert_compute: 0.1,
        attention_compute: 0.5,
        kernel: 4e-6,
        step: 1e-3,
        sequence: 2e-5,
        hop: 5e-6,
        link: 0.5,
    };
    let t = step::terms(&r, At::new(10.0, 1000.0, 500.0), &c);
    // 15.0098e9/2 + 10 · 1250 · 65,536 = 8.3241e9 bytes at 0.8 · 3.352e12 bytes/s.
    assert!((t.memory / 3.1042e-3 - 1.0).abs() < 1e-3, "{t:?}");
    // 28 tokens of 2 · 7.5049e9 FLOP at 0.5 · 2 · 989.5e12, and the prompts' attention: 18 · 500 · 2 · 32 · 32 · 256.
    let attention = 18.0 * 500.0 * 2.0 * 262_144.0 / (989.5e12 * 2.0 * 0.5);
    assert!(
        (t.arithmetic / (28.0 * 2.0 * 7.5049e9 / 989.5e12 + attention) - 1.0).abs() < 1e-3,
        "{t:?}"
    );
    // 2 · 32 layers · 28 tokens · 4096 · 2 bytes · 2 · ½ at 0.5 · 450e9, and 64 hops of 5 µs.
    assert!(
        (t.link / (64.0 * 28.0 * 4096.0 * 2.0 / 225e9 + 64.0 * 5e-6) - 1.0).abs() < 1e-3,
        "{t:?}"
    );
    assert!((t.launches - 1.28e-3).abs() < 1e-9 && (t.host - 1.2e-3).abs() < 1e-9);
}

#[test]
fn weights_are_multiplied_in_what_the_kernel_computes_in() {
    let bits = |gpu: &str, q: &str| with(LLAMA, gpu, 1, &settings(Some(q))).compute_bits;
    assert_eq!(bits("H100", "fp8"), 8);
    assert_eq!(
        bits("A100 80GB", "fp8"),
        16,
        "Marlin widens it: Ampere has no fp8 units"
    );
    assert_eq!(bits("A100 80GB", "int8"), 8);
    assert_eq!(bits("A100 80GB", "int8-weight-only"), 16, "W8A16");
    assert_eq!(bits("H100", "awq"), 16);
    assert_eq!(bits("H100", "nvfp4"), 16);
    assert_eq!(bits("B200", "nvfp4"), 4);
    let peak = |gpu: &str| with(LLAMA, gpu, 1, &settings(Some("fp8"))).flops;
    assert!(peak("A100 80GB") < 320e12, "bf16's peak, not int8's");
}

/// Against the fastest of a card's links: what is sent grows with the batch, so that wide ranks over PCIe stop paying.
#[test]
fn wide_ranks_over_pcie_do_not_pay() {
    let at = |gpu: &str, tensor: u32| {
        let r = with("Qwen/Qwen2.5-14B-Instruct", gpu, tensor, &settings(None));
        56.0 / step_seconds(&r, At::new(56.0, 208.0, 208.0))
    };
    let gain = at("RTX-4090", 8) / at("RTX-4090", 4);
    assert!(gain < 1.1, "{gain}: measured, TP8 gives no more than TP4");
    assert!(at("H100", 8) > 1.2 * at("H100", 4));
}

#[test]
fn few_sequences_read_few_experts() {
    let r = with("openai/gpt-oss-120b", "B200", 1, &settings(None));
    let c = resolve(&r);
    let read = |n: f64| step::terms(&r, At::new(n, 1.0, 1.0), &c).memory;
    assert!(read(1.0) < 0.25 * read(512.0), "4 of 128 experts a token");
}

#[test]
fn data_parallel_attention_reads_its_own_cache_only() {
    let facts = models::find("deepseek-ai/DeepSeek-R1").expect("a row");
    let mut engine = settings(None);
    engine.engine = Some(EngineKind::Sglang);
    let of = |data: u32| {
        let own = EngineSettings {
            dp_attention: (data > 1).then_some(true),
            data_parallel: Some(data),
            ..engine.clone()
        };
        let parallelism = Parallelism {
            tensor: 8,
            pipeline: 1,
            data,
        };
        place(&facts, &own, gpus::find("H200").expect("a card"), parallelism, None)
            .roofline
            .expect("a roofline")
    };
    let (plain, split) = (of(1), of(8));
    assert_eq!((plain.data_ranks, split.data_ranks), (1.0, 8.0));
    let far = At::new(256.0, 8192.0, 1024.0);
    let memory = |r: &Roofline| step::terms(r, far, &resolve(r)).memory;
    assert!(
        memory(&split) < memory(&plain),
        "the latent cache is on every rank otherwise"
    );
}

#[test]
fn evidence_is_by_card_engine_and_kind() {
    let class = |model: &str, gpu: &str, tensor: u32, s: &EngineSettings| {
        let r = with(model, gpu, tensor, s);
        Predictor::new(&r, &[]).evidence
    };
    let plain = settings(None);
    let seen = class(LLAMA, "RTX-4090", 1, &plain);
    assert!(
        seen.class == Class::Seen && seen.sources >= 2 && seen.of_model > 0,
        "{seen:?}"
    );
    assert_eq!(class(LLAMA, "L40", 1, &plain).class, Class::NotSeen);
    // Experts were never timed on an L4, dense models were.
    assert_eq!(class("openai/gpt-oss-20b", "L4", 1, &plain).class, Class::NotSeen);
    assert_eq!(class(LLAMA, "L4", 1, &plain).class, Class::Seen);
    // Precision, attention or a link that is new to it.
    assert_eq!(class(LLAMA, "T4", 1, &settings(Some("awq"))).class, Class::NewModel);
    let other = EngineSettings {
        engine: Some(EngineKind::Tgi),
        ..plain.clone()
    };
    assert_eq!(class(LLAMA, "H100", 1, &other).class, Class::NotSeen);
    let two_stages = {
        let mut r = with(LLAMA, "H100", 1, &plain);
        r.pipeline = 2;
        Predictor::new(&r, &[]).evidence.class
    };
    assert_eq!(two_stages, Class::NotSeen);
}

#[test]
fn an_interval_holds_the_value_and_what_is_not_seen_has_none() {
    for (gpu, known) in [("H100", true), ("RTX-4090", true), ("L40", false), ("MI325X", false)] {
        let r = with(LLAMA, gpu, 1, &settings(None));
        let p = Predictor::new(&r, &[]);
        for running in [1.0, 8.0, 64.0, 256.0] {
            let s = p.at(At::new(running, 1000.0, 300.0));
            assert!(s.value > 1e-3 && s.value < 1.0, "{gpu} {running}: {s:?}");
            assert_eq!(s.ends.is_some(), known, "{gpu}");
            if let Some((low, high)) = s.ends {
                assert!(low < s.value && s.value < high, "{s:?}");
            }
            let first = p.first_token(At::new(running, 1000.0, 300.0), Arrivals::Open);
            assert_eq!(first.ends.is_some(), known);
        }
    }
}

/// The fleet's own measurement of the same model, card and engine draws the prediction to it and narrows the interval.
#[test]
fn a_servers_own_time_corrects_its_like() {
    let r = with(LLAMA, "H100", 1, &settings(None));
    let at = At::new(16.0, 1000.0, 300.0);
    let plain = Predictor::new(&r, &[]).at(at);
    let own = |times: f64| Measured {
        roofline: r.clone(),
        at,
        seconds: plain.value * times,
    };
    let slower = Predictor::new(&r, &[own(1.3)]).at(at);
    assert!(
        slower.value > plain.value * 1.02 && slower.value < plain.value * 1.3,
        "{slower:?}"
    );
    let width = |s: Seconds| s.ends.map_or(0.0, |(low, high)| high / low);
    assert!(width(slower) < width(plain), "{slower:?} {plain:?}");
    // Another card's says nothing here.
    let other = Measured {
        roofline: with(LLAMA, "L40S", 1, &settings(None)),
        at,
        seconds: 1.0,
    };
    assert_eq!(Predictor::new(&r, &[other]).at(at), plain);
}

#[test]
fn small_models_are_bound_by_launches_and_large_ones_by_memory() {
    let bound = |model: &str, gpu: &str, n: f64| {
        let r = with(model, gpu, 1, &settings(None));
        Predictor::new(&r, &[]).bound(At::new(n, 100.0, 300.0))
    };
    assert_eq!(bound("Qwen/Qwen2.5-0.5B-Instruct", "H100", 1.0), Bound::Launches);
    assert_eq!(bound(LLAMA, "L4", 1.0), Bound::Memory);
}

/// Measured on one card, said of another: only where both are NVIDIA's and the other was measured with such a model.
#[test]
fn ratios_have_margins_by_how_far_the_cards_are_apart() {
    let on = |gpu: &str| with(LLAMA, gpu, 1, &settings(None));
    let h200 = on("H200");
    let margin = |to: &Roofline| ratio_margin(&h200, to, &[]);
    assert_eq!(margin(&h200), Ok(0.0));
    for there in ["H100", "L4", "H100-SXM5-80GB-MIG-3g.40gb"] {
        let told = margin(&on(there)).unwrap();
        assert!(told > 0.0 && told < 0.8, "{there}: {told}");
    }
    assert_eq!(margin(&on("MI300X")), Err(Unscalable::Vendor));
    assert_eq!(ratio_margin(&on("MI300X"), &h200, &[]), Err(Unscalable::Vendor));
}

/// Other cards of its generation were measured, and others with dense models: neither speaks for this one.
#[test]
fn a_card_that_nobody_measured_with_such_a_model_takes_no_ratio() {
    let never = Err(Unscalable::NeverMeasured);
    let on = |model: &str, gpu: &str| with(model, gpu, 1, &settings(None));
    let (dense, mixture) = (on(LLAMA, "H200"), on("openai/gpt-oss-20b", "H200"));
    assert_eq!(ratio_margin(&dense, &on(LLAMA, "A10G"), &[]), never);
    assert!(ratio_margin(&dense, &on(LLAMA, "L4"), &[]).is_ok());
    assert_eq!(ratio_margin(&mixture, &on("openai/gpt-oss-20b", "L4"), &[]), never);
    // A server of this fleet that runs another such model there is a measurement of the card.
    let at = At::new(4.0, 500.0, 200.0);
    let own = |model: &str, seconds: f64| Measured {
        roofline: on(model, "A10G"),
        at,
        seconds,
    };
    let target = on(LLAMA, "A10G");
    assert!(ratio_margin(&dense, &target, &[own("Qwen/Qwen2.5-7B-Instruct", 0.03)]).is_ok());
    assert_eq!(
        ratio_margin(&dense, &target, &[own("Qwen/Qwen2.5-7B-Instruct", 0.0)]),
        never
    );
    assert_eq!(ratio_margin(&dense, &target, &[own("openai/gpt-oss-20b", 0.03)]), never);
}
