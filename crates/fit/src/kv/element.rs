//! Bytes of one element of the cache.

use crate::quantization::Scheme;
use crate::snapshot::server::EngineSettings;

/// `None`: a dtype that is not known.
pub(super) fn bytes(settings: &EngineSettings, scheme: &Scheme) -> Option<f64> {
    let full = settings
        .dtype
        .as_deref()
        .is_some_and(|d| matches!(d, "float32" | "float" | "fp32"));
    of(
        settings.kv_cache_dtype.as_deref().unwrap_or("auto"),
        full,
        scheme.kv_fp8,
    )
}

/// A value of `--kv-cache-dtype` whose size is known.
pub fn is_known_dtype(text: &str) -> bool {
    of(text, false, false).is_some()
}

fn of(stated: &str, full: bool, checkpoint_fp8: bool) -> Option<f64> {
    Some(match stated.to_ascii_lowercase().as_str() {
        "auto" | "" if checkpoint_fp8 => 1.0,
        "auto" | "" => {
            if full {
                4.0
            } else {
                2.0
            }
        }
        "bfloat16" | "bf16" | "float16" | "fp16" | "half" | "f16" => 2.0,
        "float32" | "fp32" | "f32" => 4.0,
        // llama.cpp: 32 elements with one 16-bit scale.
        "q8_0" => 1.0625,
        "q4_0" | "iq4_nl" | "nvfp4" => 0.5625,
        "q4_1" => 0.625,
        "q5_0" => 0.6875,
        "q5_1" => 0.75,
        s if s.starts_with("fp8") || s.starts_with("int8") => 1.0,
        s if ["fp4", "mxfp4", "int4"].iter().any(|p| s.starts_with(p)) => 0.53125,
        _ => return None,
    })
}

/// Bytes of an element of recurrent state by its flag (`--mamba-ssm-cache-dtype`); `None`: not stated, "auto" or not known.
pub(super) fn state(stated: Option<&str>) -> Option<f64> {
    match stated?.to_ascii_lowercase().as_str() {
        "float32" | "fp32" => Some(4.0),
        "float16" | "bfloat16" | "fp16" | "bf16" | "half" => Some(2.0),
        _ => None,
    }
}

/// A value of `--mamba-cache-dtype` whose size is known.
pub fn is_known_state_dtype(text: &str) -> bool {
    text.eq_ignore_ascii_case("auto") || state(Some(text)).is_some()
}
