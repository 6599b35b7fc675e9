use super::*;
use crate::catalog::{gpus, mig, models};
use crate::snapshot::server::{EngineKind, EngineSettings};
use crate::units::Tokens;
use crate::{Current, Parallelism, place};
use proptest::prelude::*;

const SLO: Slo = Slo {
    kv_headroom: 1.3,
    throughput_headroom: 1.5,
    latency_growth: 1.2,
    inter_token_latency: 0.05,
    time_to_first_token: 2.0,
};

fn vllm() -> EngineSettings {
    EngineSettings {
        engine: Some(EngineKind::Vllm),
        engine_version: Some("0.19.0".into()),
        max_model_len: Some(8192),
        quantization: Some("fp8".into()),
        ..EngineSettings::default()
    }
}

/// Llama-3.1-70B in FP8.
fn on(gpu: &str, tensor: u32) -> Placement {
    let model = models::find("meta-llama/Llama-3.1-70B-Instruct").expect("a row");
    let parallelism = Parallelism {
        tensor,
        ..Parallelism::ONE
    };
    let card = mig::named(gpu).or_else(|| gpus::find(gpu)).expect(gpu);
    place(&model, &vllm(), card, parallelism, None)
}

fn load(output: f64) -> Load {
    Load {
        prompt_tokens_per_second: output,
        output_tokens_per_second: output,
        peak_running: output / 25.0,
        peak_kv_tokens: output / 25.0 * 1500.0,
        prompt_length: Some(1000.0),
        output_length: Some(1000.0),
        current: None,
        own: std::sync::Arc::default(),
    }
}

fn measured(placement: Placement, seconds: f64, share: f64) -> Current {
    Current {
        placement,
        measured_share: share,
        inter_token_latency: Some(seconds),
        time_to_first_token: Some(0.2),
    }
}

#[test]
fn light_load_is_served_and_heavy_load_is_not() {
    let mut light = load(60.0);
    light.prompt_length = Some(100.0);
    let slow_start = Slo {
        time_to_first_token: 20.0,
        ..SLO
    };
    let answer = serves(&on("H100", 4), &light, &slow_start);
    assert_eq!(answer.serves, Some(true), "{}", answer.reason);
    assert!(!answer.by_ratio);
    let (expected, bad) = (answer.expected_inter_token_latency, answer.inter_token_latency);
    assert!(expected < bad, "held at the bad end: {expected:?} {bad:?}");
    assert_eq!(serves(&on("H100", 4), &load(20_000.0), &SLO).serves, Some(false));
}

#[test]
fn a_measurement_replaces_the_absolute_level() {
    let mut now = load(200.0);
    now.current = Some(measured(on("H200", 2), 0.018, 1.0));
    let same = serves(&on("H200", 2), &now, &SLO);
    assert!(same.by_ratio && (same.inter_token_latency.unwrap_or_default() - 0.018).abs() < 1e-9);
    let smaller = serves(&on("H100", 2), &now, &SLO);
    let expected = smaller.expected_inter_token_latency.unwrap_or_default();
    assert!(
        expected > 0.018 && expected < 0.018 * 4.8 / 3.35 + 1e-9,
        "{expected}: between the same and the ratio of the bandwidths"
    );
    let bad = smaller.inter_token_latency.unwrap_or_default();
    assert!(bad > expected * 1.1, "{bad}: with the margin of such ratios");
    assert!(
        smaller.slower && smaller.serves == Some(true),
        "under 50 ms: a trade, printed: {}",
        smaller.reason
    );
    // The same step, measured three times slower than predicted: over the limit, whatever the model says.
    now.current = Some(measured(on("H200", 2), 0.045, 1.0));
    assert_eq!(serves(&on("H100", 2), &now, &SLO).serves, Some(false));
}

#[test]
fn fewer_replicas_are_slower_than_they_were() {
    let mut fewer = load(400.0);
    fewer.current = Some(measured(on("H200", 2), 0.018, 0.5));
    let itl = serves(&on("H200", 2), &fewer, &SLO)
        .inter_token_latency
        .unwrap_or_default();
    assert!(itl > 0.0185, "{itl}: twice the load a replica");
}

#[test]
fn what_is_not_known_is_not_served_and_not_refused() {
    let mut placement = on("H100", 2);
    placement.roofline = None;
    assert_eq!(serves(&placement, &load(1.0), &SLO).serves, None);
    let mut placement = on("H100", 2);
    placement.kv_capacity = None;
    assert_eq!(serves(&placement, &load(1.0), &SLO).serves, None);
    let nothing = Load {
        output_tokens_per_second: 10.0,
        ..Load::default()
    };
    assert_eq!(serves(&on("H100", 2), &nothing, &SLO).serves, None);
    let mut placement = on("H100", 2);
    placement.verdict = FitVerdict::DoesNotFit;
    assert_eq!(serves(&placement, &load(1.0), &SLO).serves, Some(false));
}

/// Never "serves" from arithmetic alone.
#[test]
fn what_was_measured_nowhere_stays_unknown() {
    for gpu in ["MI325X", "L40", "A30", "V100-SXM2-32GB", "Gaudi3"] {
        let answer = serves(&on(gpu, 8), &load(1.0), &SLO);
        assert_ne!(answer.serves, Some(true), "{gpu}: {}", answer.reason);
    }
    let answer = serves(&on("MI325X", 8), &load(10.0), &SLO);
    assert!(
        answer.serves.is_none() && answer.reason.contains("nothing was measured of MI325X"),
        "{}",
        answer.reason
    );
    // An engine of which nothing is known.
    let mut placement = on("H100", 4);
    placement.roofline.as_mut().expect("set").engine = crate::speed::Engine::Other;
    assert_eq!(serves(&placement, &load(10.0), &SLO).serves, None);
}

/// Scaled from NVIDIA's to AMD's cards a time is off by more than it tells (−44 % where it was scored).
#[test]
fn a_measurement_does_not_scale_to_another_vendor_or_an_unmeasured_card() {
    let mut now = load(50.0);
    now.current = Some(measured(on("H200", 2), 0.018, 1.0));
    for (gpu, why) in [
        ("MI300X", "does not tell"),
        ("V100-SXM2-32GB", "was never measured"),
        ("A10G", "was never measured"),
    ] {
        let mut target = on(gpu, 8);
        target.verdict = FitVerdict::Fits;
        let answer = serves(&target, &now, &SLO);
        assert!(
            answer.serves.is_none() && answer.reason.contains(why),
            "{gpu}: {}",
            answer.reason
        );
    }
    // On its own card it does.
    now.current = Some(measured(on("MI300X", 8), 0.018, 1.0));
    assert!(serves(&on("MI300X", 8), &now, &SLO).by_ratio);
}

/// A part of a card scales from the card's own measurement, with the margin of another generation.
#[test]
fn a_mig_instance_scales_from_a_measurement_and_from_nothing_else() {
    let small = |gpu: &str| {
        let model = models::find("Qwen/Qwen3-8B").expect("a row");
        let card = mig::named(gpu).or_else(|| gpus::find(gpu)).expect(gpu);
        let settings = EngineSettings {
            quantization: None,
            ..vllm()
        };
        place(&model, &settings, card, Parallelism::ONE, None)
    };
    let mut now = load(30.0);
    now.peak_kv_tokens = 3000.0;
    let alone = serves(&small("H100-MIG-3g.40gb"), &now, &SLO);
    assert!(
        alone.serves.is_none() && alone.reason.contains("a part of H100"),
        "{}",
        alone.reason
    );
    now.current = Some(measured(small("H100"), 0.008, 1.0));
    let scaled = serves(&small("H100-MIG-3g.40gb"), &now, &SLO);
    assert!(
        scaled.by_ratio && scaled.inter_token_latency > Some(0.012),
        "{:?}",
        scaled.inter_token_latency
    );
}

#[test]
fn a_curve_never_falls_and_finds_its_batches() {
    // A dip, as a correction by a measured point makes one.
    let curve = Curve::new(100.0, |b| {
        if (10.0..20.0).contains(&b) {
            0.005
        } else {
            0.01 + b * 1e-4
        }
    });
    let mut last = 0.0;
    for i in 1..=1000 {
        let here = curve.at(f64::from(i) / 10.0);
        assert!(here >= last - 0.0012, "{i}: {here} after {last}");
        last = here;
    }
    let batch = curve.batch_for(500.0);
    assert!((batch / curve.at(batch) - 500.0).abs() < 1.0);
    assert!((curve.batch_within(0.015) - 50.0).abs() < 0.1);
    assert!(curve.batch_within(0.001) < 1e-6);
    assert!((curve.capacity() - 5000.0).abs() < 1.0, "{}", curve.capacity());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// More load never starts to serve, by any of its figures; nor does a slower card.
    #[test]
    fn more_load_never_starts_to_serve(
        rate in 0.0..5000.0f64,
        running in 0.0..300.0f64,
        tokens in 0.0..400_000.0f64,
        more in 1.0..4.0f64,
        seconds in proptest::option::of(0.005..0.2f64),
        which in 0..4usize,
    ) {
        let (big, small) = (on("H200", 2), on("H100", 2));
        let with = |f: [f64; 4]| Load {
            prompt_tokens_per_second: rate * f[0],
            output_tokens_per_second: rate * f[1],
            peak_running: running * f[2],
            peak_kv_tokens: tokens * f[3],
            prompt_length: Some(1000.0),
            output_length: Some(500.0),
            current: None,
        own: std::sync::Arc::default(),
        };
        let mut grown = [1.0; 4];
        grown[which] = more;
        let before = serves(&small, &with([1.0; 4]), &SLO);
        let after = serves(&small, &with(grown), &SLO);
        prop_assert!(!(before.serves == Some(false) && after.serves == Some(true)), "{} → {}", before.reason, after.reason);
        let mut now = with([1.0; 4]);
        now.current = seconds.map(|s| measured(big.clone(), s, 1.0));
        let large = serves(&big, &now, &SLO);
        let less = serves(&small, &now, &SLO);
        prop_assert!(now.current.is_none() || !(large.serves == Some(false) && less.serves == Some(true)), "{} → {}", large.reason, less.reason);
    }
}

#[test]
fn a_cache_that_is_too_small_is_said_with_its_figures() {
    let mut placement = on("H100", 4);
    placement.kv_capacity = placement.kv_capacity.map(|mut k| {
        k.low = Tokens(1000);
        k
    });
    let mut some = load(100.0);
    some.peak_kv_tokens = 2000.0;
    let answer = serves(&placement, &some, &SLO);
    assert!(
        answer.serves == Some(false) && answer.reason.contains("holds 1000 tokens"),
        "{}",
        answer.reason
    );
}

/// A server of the fleet that stands there already tells more than a ratio from elsewhere, and of a card to which none holds.
#[test]
fn a_server_that_stands_there_tells_its_own_time() {
    use crate::speed::Measured;
    let mut now = load(100.0);
    now.current = Some(measured(on("H200", 2), 0.018, 1.0));
    let there = on("MI300X", 8);
    assert_eq!(serves(&there, &now, &SLO).serves, None);
    let roofline = there.roofline.clone().expect("set");
    let twin = |seconds: f64| Measured {
        roofline: roofline.clone(),
        at: At::new(8.0, 1000.0, 1000.0),
        seconds,
    };
    now.own = [twin(0.012)].into();
    let told = serves(&there, &now, &SLO);
    assert!(told.serves == Some(true) && told.by_ratio, "{}", told.reason);
    now.own = [twin(0.12)].into();
    assert_eq!(serves(&there, &now, &SLO).serves, Some(false), "it is slow there");
}
