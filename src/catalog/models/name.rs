//! What a model's name tells: its quantization, and, as the last resort, its size.

use super::{ModelFacts, ModelSource};

/// Lower case; paths, cache folders, schemes and revisions taken off.
pub(super) fn clean(text: &str) -> String {
    let mut text = text.trim().to_ascii_lowercase();
    for scheme in [
        "hf://",
        "huggingface://",
        "oci://",
        "pvc://",
        "s3://",
        "gs://",
        "file://",
        "ollama://",
    ] {
        if let Some(rest) = text.strip_prefix(scheme) {
            text = rest.to_string();
        }
    }
    if let Some(at) = text.find("models--") {
        let folder = text[at + 8..].split('/').next().unwrap_or_default();
        return folder.replacen("--", "/", 1);
    }
    if let Some((front, revision)) = text.rsplit_once('@') {
        if !revision.contains('/') {
            text = front.to_string();
        }
    }
    text.trim_matches('/').to_string()
}

/// Quantization words at the end of a name, longest first, with their canonical form.
const QUANTIZATIONS: &[(&str, &str)] = &[
    ("-unsloth-bnb-4bit", "bnb-nf4 double"),
    ("-bnb-4bit", "bnb-nf4 double"),
    ("-bnb-8bit", "int8"),
    ("-quantized.w4a16", "gptq-int4 g128"),
    ("-quantized.w8a8", "int8"),
    ("-quantized.w8a16", "int8"),
    ("-gptq-int4", "gptq-int4 g128"),
    ("-gptq-int8", "gptq-int8 g128"),
    ("-gptq-4bit", "gptq-int4 g128"),
    ("-awq-int4", "awq-int4 g128"),
    ("-awq-4bit", "awq-int4 g128"),
    ("-fp8-dynamic", "fp8"),
    ("-fp8-block", "fp8 block128"),
    ("-int4-awq", "awq-int4 g128"),
    ("-w4a16-g128", "gptq-int4 g128"),
    ("-w4a16", "gptq-int4 g128"),
    ("-w8a8", "int8"),
    ("-w8a16", "int8"),
    ("-nvfp4", "nvfp4"),
    ("-mxfp4", "mxfp4"),
    ("-fp4", "nvfp4"),
    ("-gptq", "gptq-int4 g128"),
    ("-awq", "awq-int4 g128"),
    ("-fp8-kv", "fp8"),
    ("-fp8", "fp8"),
    ("-int8", "int8"),
    ("-int4", "gptq-int4 g128"),
    ("-4bit", "gptq-int4 g128"),
    ("-8bit", "int8"),
];

/// The base name and the canonical quantization; `None` where the name ends in neither a scheme nor a GGUF type.
pub(super) fn split_quantization(cleaned: &str) -> Option<(String, String)> {
    let name = cleaned.strip_suffix(".gguf").unwrap_or(cleaned);
    if let Some((front, kind)) = name.rsplit_once([':', '-', '.']) {
        if gguf_bits(kind).is_some() {
            let base = front.strip_suffix("-gguf").unwrap_or(front);
            return Some((base.to_string(), kind.to_string()));
        }
    }
    let (word, canonical) = QUANTIZATIONS.iter().find(|(word, _)| name.ends_with(word))?;
    let base = &name[..name.len() - word.len()];
    // Two words at once: "…-quantized-fp8".
    Some((
        base.trim_end_matches("-quantized").to_string(),
        (*canonical).to_string(),
    ))
}

/// Bits per weight of a whole GGUF file (Llama-3.1-8B, llama.cpp's quantize README); `None`: no such type.
pub(super) fn gguf_bits(kind: &str) -> Option<f64> {
    const MIXES: &[(&str, f64)] = &[
        ("iq1_s", 2.0),
        ("iq1_m", 2.15),
        ("iq2_xxs", 2.38),
        ("iq2_xs", 2.59),
        ("iq2_s", 2.74),
        ("iq2_m", 2.93),
        ("q2_k_s", 2.97),
        ("q2_k", 3.16),
        ("iq3_xxs", 3.25),
        ("iq3_xs", 3.5),
        ("q3_k_s", 3.64),
        ("iq3_s", 3.66),
        ("iq3_m", 3.76),
        ("q3_k_m", 4.0),
        ("q3_k_l", 4.3),
        ("iq4_xs", 4.46),
        ("q4_0", 4.66),
        ("q4_k_s", 4.67),
        ("iq4_nl", 4.68),
        ("q4_k_m", 4.89),
        ("q4_k", 4.89),
        ("q4_1", 5.1),
        ("q5_0", 5.6),
        ("q5_k_s", 5.57),
        ("q5_k_m", 5.7),
        ("q5_1", 6.06),
        ("q6_k", 6.56),
        ("q8_0", 8.5),
        ("f16", 16.0),
        ("bf16", 16.0),
        ("f32", 32.0),
    ];
    let kind = kind.to_ascii_lowercase();
    MIXES.iter().find(|(name, _)| *name == kind).map(|(_, bits)| *bits)
}

/// Bits per quantized weight (fit.md §1.2: scales and zeros included); for `None` those of the dtype.
pub(super) fn bits(quantization: Option<&str>, dtype: &str) -> f64 {
    let Some(text) = quantization.map(str::to_ascii_lowercase) else {
        return if dtype.contains("32") { 32.0 } else { 16.0 };
    };
    let has = |word: &str| text.contains(word);
    if let Some(bits) = gguf_bits(&text) {
        bits
    } else if has("nvfp4") {
        4.5
    } else if has("mxfp4") || has("fp4") {
        4.25
    } else if has("mxfp8") {
        8.25
    } else if has("fp8") || has("fbgemm") || has("modelopt") {
        8.0
    } else if has("int8") || has("w8a8") || has("w8a16") || has("8bit") {
        8.125
    } else if has("double") {
        4.127
    } else if has("bnb") || has("bitsandbytes") || has("nf4") {
        4.5
    } else if has("g32") {
        4.5
    } else if has("g64") {
        4.31
    } else if has("awq")
        || has("gptq")
        || has("int4")
        || has("w4a16")
        || has("4bit")
        || has("marlin")
        || has("compressed")
    {
        4.156
    } else {
        16.0
    }
}

/// The size in a name, as a last resort. Dates, versions and context lengths are not sizes.
pub(super) fn parse(original: &str, cleaned: &str) -> Option<ModelFacts> {
    let (base, quantization) = split_quantization(cleaned).map_or((cleaned.to_string(), None), |(b, q)| (b, Some(q)));
    let tail = base.rsplit('/').next().unwrap_or(&base);
    let words: Vec<&str> = tail.split(['-', '_', ':', ' ']).filter(|w| !w.is_empty()).collect();
    let heads = [
        "eagle",
        "eagle3",
        "mtp",
        "dflash",
        "assistant",
        "lora",
        "adapter",
        "draft",
    ];
    if words.iter().any(|w| heads.contains(w)) {
        return None;
    }
    let experts = words.iter().find_map(|w| {
        let (count, size) = w.split_once('x')?;
        Some((count.parse::<f64>().ok()?, size_of(size)?))
    });
    let sizes: Vec<f64> = words.iter().filter_map(|w| size_of(w)).collect();
    let active = words.iter().filter_map(|w| size_of(w.strip_prefix('a')?)).next();
    let (parameters, active) = match (experts, sizes.first()) {
        // Attention is shared: 8x7B is 46.7, not 56 (p50 of the names with known counts: 0.83).
        (Some((count, size)), _) => (count * size * 0.83, None),
        (None, Some(_)) => (sizes.iter().copied().fold(0.0, f64::max), active),
        (None, None) => return None,
    };
    (1e7..5e12).contains(&parameters).then(|| ModelFacts {
        id: original.trim().to_string(),
        source: ModelSource::Name,
        parameters,
        active_parameters: active.unwrap_or(parameters),
        dtype: "bfloat16".into(),
        quantization,
        task: "generate".into(),
        ..ModelFacts::default()
    })
}

/// "7b", "1.5b", "135m", "1t" → parameters. "4k", "128k", "1m…" of a context are not sizes.
fn size_of(word: &str) -> Option<f64> {
    let (digits, factor) = match word.char_indices().last()? {
        (at, 'b') => (&word[..at], 1e9),
        (at, 't') => (&word[..at], 1e12),
        (at, 'm') if at >= 2 => (&word[..at], 1e6),
        _ => return None,
    };
    let digits_only =
        digits.starts_with(|c: char| c.is_ascii_digit()) && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    digits_only.then(|| digits.parse::<f64>().ok().map(|n| n * factor))?
}
