use super::super::{Band, Current};
use super::*;
use crate::units::Tokens;
use proptest::prelude::*;

/// Llama-3.1-70B in FP8: 70.55e9 parameters, 1.05e9 of them the input embedding; 80 layers, 8 KV heads of 128.
fn llama_70b_fp8(bandwidth: f64, flops: f64, tensor: u32) -> Placement {
    Placement {
        verdict: FitVerdict::Fits,
        kv_capacity: Some(Band {
            low: Tokens(400_000),
            value: Tokens(420_000),
            high: Tokens(440_000),
        }),
        max_num_seqs: Some(256),
        roofline: Some(Roofline {
            tensor,
            layers: 80,
            dense_bytes: 69.5e9,
            active_parameters: 70.55e9,
            kv_bytes_per_token_per_gpu: 80.0 * 8.0 / f64::from(tensor) * 256.0 * 2.0,
            bandwidth,
            flops,
            nvlink: true,
            measured_architecture: true,
            ..Roofline::default()
        }),
        ..Placement::default()
    }
}

const SLO: Slo = Slo {
    kv_headroom: 1.3,
    throughput_headroom: 1.5,
    latency_growth: 1.2,
    inter_token_latency: 0.05,
    time_to_first_token: 2.0,
};

fn h100(tensor: u32) -> Placement {
    llama_70b_fp8(3.35e12, 1979e12, tensor)
}

fn h200(tensor: u32) -> Placement {
    llama_70b_fp8(4.8e12, 1979e12, tensor)
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
    }
}

#[test]
fn the_step_time_is_the_formula() {
    // By hand: weights 69.5e9/2, 10 sequences of 1000 tokens at 163,840 B: 36.3884e9 B / (0.77·3.35e12) = 14.1068 ms;
    // 20 tokens · 2 · 70.55e9 / (0.45·1979e12·2) = 1.5844 ms; 80 · 72 µs = 5.76 ms.
    let mix = Mix {
        context: 1000.0,
        prompt_per_output: 1.0,
    };
    let placement = h100(2);
    let seconds = placement
        .roofline
        .map(|r| step_time(&r, 10.0, mix, &FITTED))
        .unwrap_or_default();
    assert!((seconds - 21.4512e-3).abs() < 1e-6, "{seconds}");
}

#[test]
fn few_sequences_read_few_experts() {
    let mixture = Roofline {
        tensor: 1,
        layers: 1,
        expert_bytes: 100e9,
        expert_share: 8.0 / 128.0,
        active_parameters: 1e9,
        bandwidth: 1e12,
        flops: 1e15,
        measured_architecture: true,
        ..Roofline::default()
    };
    let mix = Mix {
        context: 0.0,
        prompt_per_output: 0.0,
    };
    let read = |batch| step_time(&mixture, batch, mix, &FITTED) * 0.77e12;
    assert!(
        (read(1.0) / 6.25e9 - 1.0).abs() < 0.02,
        "one sequence: 8 of 128 experts"
    );
    assert!(read(256.0) > 99e9, "many: all");
}

#[test]
fn light_load_is_served_and_heavy_load_is_not() {
    let light = serves(&h100(2), &load(200.0), &SLO);
    assert_eq!(light.serves, Some(true), "{}", light.reason);
    assert!(!light.by_ratio);
    let heavy = serves(&h100(2), &load(20_000.0), &SLO);
    assert_eq!(heavy.serves, Some(false));
}

#[test]
fn a_measurement_replaces_the_absolute_level() {
    let mut measured = load(200.0);
    measured.current = Some(Current {
        placement: h200(2),
        measured_share: 1.0,
        inter_token_latency: Some(0.018),
        time_to_first_token: Some(0.2),
    });
    let same = serves(&h200(2), &measured, &SLO);
    assert!(same.by_ratio && (same.inter_token_latency.unwrap_or_default() - 0.018).abs() < 1e-9);
    let smaller = serves(&h100(2), &measured, &SLO);
    let itl = smaller.inter_token_latency.unwrap_or_default();
    assert!(itl > 0.018 && itl < 0.018 * 4.8 / 3.35 * 1.15 + 1e-9, "{itl}");
    assert!(
        smaller.slower && smaller.serves == Some(true),
        "under 50 ms: a trade, printed"
    );
    // The same step, measured three times slower than predicted: over the limit, whatever the model says.
    measured.current.as_mut().expect("set").inter_token_latency = Some(0.045);
    assert_eq!(serves(&h100(2), &measured, &SLO).serves, Some(false));
}

#[test]
fn fewer_replicas_are_slower_than_they_were() {
    let mut fewer = load(400.0);
    fewer.current = Some(Current {
        placement: h200(2),
        measured_share: 0.5,
        inter_token_latency: Some(0.018),
        time_to_first_token: None,
    });
    let itl = serves(&h200(2), &fewer, &SLO).inter_token_latency.unwrap_or_default();
    assert!(itl > 0.0185, "{itl}: twice the load a replica");
}

#[test]
fn what_is_not_known_is_not_served_and_not_refused() {
    let mut placement = h100(2);
    placement.roofline = None;
    assert_eq!(serves(&placement, &load(1.0), &SLO).serves, None);
    let mut placement = h100(2);
    placement.kv_capacity = None;
    assert_eq!(serves(&placement, &load(1.0), &SLO).serves, None);
    let nothing = Load {
        output_tokens_per_second: 10.0,
        ..Load::default()
    };
    assert_eq!(serves(&h100(2), &nothing, &SLO).serves, None);
    let mut placement = h100(2);
    placement.verdict = FitVerdict::DoesNotFit;
    assert_eq!(serves(&placement, &load(1.0), &SLO).serves, Some(false));
}

#[test]
fn cards_without_measurements_and_pcie_are_predicted_slower() {
    let mix = Mix {
        context: 1000.0,
        prompt_per_output: 1.0,
    };
    let measured = h100(2).roofline.expect("set");
    let plain = step_time(&measured, 8.0, mix, &FITTED);
    let unmeasured = Roofline {
        measured_architecture: false,
        ..measured
    };
    let pcie = Roofline {
        nvlink: false,
        ..measured
    };
    assert!(step_time(&unmeasured, 8.0, mix, &FITTED) > plain);
    assert!(step_time(&pcie, 8.0, mix, &FITTED) > plain);
}

proptest! {
    /// More load never starts to serve, by any of its figures; nor does a slower card.
    #[test]
    fn more_load_never_starts_to_serve(
        rate in 0.0..5000.0f64,
        running in 0.0..300.0f64,
        tokens in 0.0..400_000.0f64,
        more in 1.0..4.0f64,
        measured in proptest::option::of(0.005..0.2f64),
        which in 0..4usize,
    ) {
        let with = |f: [f64; 4]| Load {
            prompt_tokens_per_second: rate * f[0],
            output_tokens_per_second: rate * f[1],
            peak_running: running * f[2],
            peak_kv_tokens: tokens * f[3],
            prompt_length: Some(1000.0),
            output_length: Some(500.0),
            current: None,
        };
        let mut grown = [1.0; 4];
        grown[which] = more;
        let before = serves(&h100(2), &with([1.0; 4]), &SLO);
        let after = serves(&h100(2), &with(grown), &SLO);
        prop_assert!(!(before.serves == Some(false) && after.serves == Some(true)), "{} → {}", before.reason, after.reason);
        let mut with_measurement = with([1.0; 4]);
        with_measurement.current = measured.map(|s| Current { placement: h200(2), measured_share: 1.0, inter_token_latency: Some(s), time_to_first_token: None });
        let big = serves(&h200(2), &with_measurement, &SLO);
        let small = serves(&h100(2), &with_measurement, &SLO);
        prop_assert!(!(big.serves == Some(false) && small.serves == Some(true)), "{} → {}", big.reason, small.reason);
    }
}
