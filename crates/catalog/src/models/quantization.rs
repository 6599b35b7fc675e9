//! Quantizations as names spell them: `…-AWQ`, `-GPTQ-Int4`, `-FP8-dynamic`, `.Q4_K_M.gguf`, `-unsloth-bnb-4bit`.

/// What the end of a name says about the precision of the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// Nothing.
    Unsaid,
    /// "-BF16", "-fp16": not quantized, whatever the base row says.
    Plain,
    /// In the words of [`super::ModelFacts::quantization`].
    Quantized(String),
}

/// A name without its quantization words, and what they say. The name must be lower case, without directories.
pub(super) fn split(name: &str) -> (String, Precision) {
    let file = name.strip_suffix(".gguf");
    let mut rest = without_shard(file.unwrap_or(name));
    let mut words: Vec<String> = Vec::new();
    if file.is_some() {
        words.push("gguf".into());
    }
    while let Some((before, word)) = last_word(rest) {
        rest = before;
        words.push(word.to_string());
    }
    match judge(&words) {
        Precision::Unsaid => (name.to_string(), Precision::Unsaid),
        precision => (rest.to_string(), precision),
    }
}

/// As [`split`], with words of quantization anywhere in the name: "Qwen3.8-27B-NVFP4-RTX5090", "…-qat-q4_0-unquantized".
pub(super) fn split_anywhere(name: &str) -> (String, Precision) {
    let mut rest = without_shard(name.strip_suffix(".gguf").unwrap_or(name)).to_string();
    let mut words: Vec<String> = Vec::new();
    if name.strip_suffix(".gguf").is_some() {
        words.push("gguf".into());
    }
    // From each cut between words, what ends there.
    let mut end = rest.len();
    while end > 0 {
        let head = rest[..end].to_string();
        if let Some((before, word)) = last_word(&head) {
            words.push(word.to_string());
            let cut = before.len();
            rest.replace_range(cut..end, "");
            end = cut;
        } else {
            end = head.rfind(['-', '_', '.', ':', ' ']).unwrap_or(0);
        }
    }
    match judge(&words) {
        Precision::Unsaid => (name.to_string(), Precision::Unsaid),
        precision => (rest, precision),
    }
}

/// As [`split`], for words that stand alone: a tag behind the colon ("q4_K_M", "8b-instruct-q8_0").
pub(super) fn of_tag(tag: &str) -> (String, Precision) {
    let (rest, precision) = split(&format!("-{tag}"));
    (rest.trim_start_matches('-').to_string(), precision)
}

/// "-00001-of-00003" of files in parts.
fn without_shard(name: &str) -> &str {
    let digits = |s: &str| s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
    name.rsplit_once("-of-")
        .filter(|(_, last)| digits(last))
        .and_then(|(before, _)| before.rsplit_once('-'))
        .filter(|(_, part)| digits(part))
        .map_or(name, |(before, _)| before)
}

/// Words that say a precision, a file format, or go with one. A word of the second list alone says nothing.
const PRECISIONS: &[&str] = &[
    "fp8",
    "int4",
    "int8",
    "4bit",
    "8bit",
    "4-bit",
    "8-bit",
    "w4a16",
    "w8a8",
    "w8a16",
    "w4afp8",
    "w4a8",
    "nvfp4",
    "fp4",
    "mxfp4",
    "mxfp8",
    "nf4",
    "bf16",
    "fp16",
    "f16",
    "fp32",
    "f32",
    "awq",
    "gptq",
    "bnb",
    "gguf",
    "exl2",
    "exl3",
    "hqq",
    "aqlm",
    "autoround",
    "auto-round",
    "mlx",
    "bitsandbytes",
];
const COMPANIONS: &[&str] = &[
    "dynamic",
    "block",
    "kv",
    "quantized",
    "quant",
    "unsloth",
    "sym",
    "asym",
    "inc",
    "g128",
    "g64",
    "g32",
    "128g",
    "64g",
    "32g",
    "actorder",
    "true",
    "false",
    "i1",
    "imat",
    "imatrix",
    "ud",
    "modelopt",
    "torchao",
    "marlin",
    "qat",
    "per-tensor",
    "channel",
    "static",
    "unquantized",
    "ct",
    "gs128",
    "gs64",
    "gs32",
    "mixed",
];

/// The last word, where it has to do with quantization.
fn last_word(name: &str) -> Option<(&str, &str)> {
    let bounded = |word: &str| {
        let before = name.strip_suffix(word)?;
        let cut = before.strip_suffix(['-', '_', '.', ':'])?;
        Some((cut, name.get(before.len()..)?))
    };
    PRECISIONS
        .iter()
        .chain(COMPANIONS)
        .find_map(|word| bounded(word))
        .or_else(|| gguf_word(name))
        .or_else(|| bits_word(name))
}

/// "4.0bpw", "4_25bpw" of EXL2 and EXL3.
fn bits_word(name: &str) -> Option<(&str, &str)> {
    let number = name.strip_suffix("bpw")?;
    let digits = number.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '_'));
    let cut = digits.strip_suffix('-')?;
    (digits.len() < number.len()).then(|| (cut, &name[digits.len()..]))
}

/// llama.cpp's types: "q4_k_m", "iq2_xxs", "q8_0", "tq1_0" (`llama-quantize --help`), `_xl` of Unsloth.
fn gguf_word(name: &str) -> Option<(&str, &str)> {
    (1..=4).find_map(|parts| {
        let at = name.rmatch_indices('_').nth(parts - 1)?.0;
        let start = name[..at].rfind(['-', '.', '_', ':'])?;
        let word = name.get(start + 1..)?;
        is_gguf_type(word).then(|| (&name[..start], word))
    })
}

/// A type of llama.cpp's, as [`super::ModelFacts::quantization`] has it.
pub(super) fn is_gguf(said: &str) -> bool {
    said == "gguf" || is_gguf_type(&said.to_ascii_lowercase())
}

fn is_gguf_type(word: &str) -> bool {
    let mut parts = word.split('_');
    let Some(head) = parts.next() else { return false };
    let digits = ["iq", "tq", "q"].iter().find_map(|p| head.strip_prefix(p));
    let numbered = digits.is_some_and(|d| d.len() == 1 && d.bytes().all(|b| b.is_ascii_digit()));
    let tails: Vec<&str> = parts.collect();
    let known = |t: &&str| matches!(*t, "k" | "0" | "1" | "xs" | "xxs" | "s" | "m" | "l" | "xl" | "nl");
    numbered && (1..=2).contains(&tails.len()) && tails.iter().all(known)
}

/// Group size of AWQ, GPTQ and compressed-tensors where the name states none (their tools' default).
const DEFAULT_GROUP: &str = "g128";

fn judge(words: &[String]) -> Precision {
    let has = |list: &[&str]| words.iter().any(|w| list.contains(&w.as_str()));
    let group = match (has(&["g32", "32g"]), has(&["g64", "64g"])) {
        (true, _) => "g32",
        (_, true) => "g64",
        _ => DEFAULT_GROUP,
    };
    let eight = has(&["int8", "8bit", "8-bit"]);
    // Trained for a quantization, and kept at 16 bit.
    if has(&["unquantized"]) {
        return Precision::Plain;
    }
    if let Some(kind) = words.iter().find(|w| is_gguf_type(w)) {
        return Precision::Quantized(kind.to_ascii_uppercase());
    }
    if has(&["gguf"]) && has(&["bf16", "f16", "fp16", "f32"]) {
        return Precision::Plain;
    }
    let bits = words.iter().find(|w| w.ends_with("bpw")).map(|w| w.replace('_', "."));
    let said = if has(&["exl2", "exl3"]) || bits.is_some() {
        bits.map_or_else(|| "exl".to_string(), |b| format!("exl {b}"))
    } else if has(&["awq", "autoround", "auto-round"]) && eight {
        // Their 8-bit copies keep activations at 16 bit.
        "int8 w8a16".into()
    } else if has(&["awq"]) {
        format!("awq-int4 {group}")
    } else if has(&["gptq"]) {
        format!("gptq-int{} {group}", if eight { 8 } else { 4 })
    } else if has(&["bnb", "bitsandbytes", "nf4"]) {
        let kind = if eight { "bnb-int8" } else { "bnb-nf4" };
        // Unsloth's dynamic quants leave some layers at 16 bit.
        format!("{kind}{}", if has(&["unsloth"]) { " mixed" } else { "" })
    } else if has(&["mxfp4"]) {
        "mxfp4".into()
    } else if has(&["mxfp8"]) {
        "mxfp8".into()
    } else if has(&["nvfp4", "fp4"]) {
        "nvfp4 g16".into()
    } else if has(&["w4afp8", "w4a8", "w4a16", "autoround", "auto-round"]) {
        format!("int4 w4a16 {group}")
    } else if has(&["fp8"]) {
        if has(&["block"]) { "fp8 block128" } else { "fp8" }.into()
    } else if has(&["w8a8"]) {
        "int8 w8a8".into()
    } else if has(&["hqq"]) {
        "hqq-int4 g64".into()
    } else if has(&["aqlm"]) {
        "aqlm".into()
    } else if has(&["mlx"]) {
        format!("mlx-{}bit", if eight { 8 } else { 4 })
    } else if has(&["w8a16"]) || eight {
        "int8 w8a16".into()
    } else if has(&["int4", "4bit", "4-bit"]) {
        format!("int4 w4a16 {group}")
    } else if has(&["gguf"]) {
        "gguf".into()
    } else if has(&["bf16", "fp16", "f16", "fp32", "f32"]) {
        return Precision::Plain;
    } else {
        return Precision::Unsaid;
    };
    Precision::Quantized(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub_are_split() {
        for (name, base, said) in [
            ("qwen2.5-7b-instruct-awq", "qwen2.5-7b-instruct", "awq-int4 g128"),
            (
                "qwen2.5-72b-instruct-gptq-int8",
                "qwen2.5-72b-instruct",
                "gptq-int8 g128",
            ),
            (
                "deepseek-r1-distill-qwen-7b_gptq-int4",
                "deepseek-r1-distill-qwen-7b",
                "gptq-int4 g128",
            ),
            ("gemma-3-12b-it-int4-awq", "gemma-3-12b-it", "awq-int4 g128"),
            (
                "meta-llama-3.1-8b-instruct-fp8-dynamic",
                "meta-llama-3.1-8b-instruct",
                "fp8",
            ),
            (
                "meta-llama-3.1-70b-instruct-quantized.w8a8",
                "meta-llama-3.1-70b-instruct",
                "int8 w8a8",
            ),
            ("llama-3.1-70b-instruct-fp8-kv", "llama-3.1-70b-instruct", "fp8"),
            (
                "qwen2.5-3b-instruct-unsloth-bnb-4bit",
                "qwen2.5-3b-instruct",
                "bnb-nf4 mixed",
            ),
            ("phi-4-bnb-4bit", "phi-4", "bnb-nf4"),
            (
                "meta-llama-3.1-8b-instruct.q4_k_m.gguf",
                "meta-llama-3.1-8b-instruct",
                "Q4_K_M",
            ),
            ("qwen3-30b-a3b-ud-q4_k_xl.gguf", "qwen3-30b-a3b", "Q4_K_XL"),
            (
                "qwen2.5-7b-instruct-q4_0-00001-of-00002.gguf",
                "qwen2.5-7b-instruct",
                "Q4_0",
            ),
            ("llama-3.2-3b-instruct-iq2_xxs", "llama-3.2-3b-instruct", "IQ2_XXS"),
            ("mixtral-8x7b-v0.1-gguf", "mixtral-8x7b-v0.1", "gguf"),
            ("qwen3-32b-nvfp4", "qwen3-32b", "nvfp4 g16"),
            ("deepseek-r1-int4-gptq-sym-inc", "deepseek-r1", "gptq-int4 g128"),
            ("llama-3-70b-4.0bpw-exl2", "llama-3-70b", "exl 4.0bpw"),
        ] {
            assert_eq!(
                split(name),
                (base.to_string(), Precision::Quantized(said.into())),
                "{name}"
            );
        }
    }

    #[test]
    fn other_names_are_left_alone() {
        for name in [
            "qwen2.5-7b-instruct",
            "phi-4",
            "gemma-3n-e4b-it",
            "foo-dynamic",
            "unsloth",
            "fp8",
            "llama-q4",
            "x_k_m",
        ] {
            assert_eq!(split(name), (name.to_string(), Precision::Unsaid), "{name}");
        }
        assert_eq!(split("deepseek-v3-bf16"), ("deepseek-v3".to_string(), Precision::Plain));
        assert_eq!(of_tag("q8_0"), (String::new(), Precision::Quantized("Q8_0".into())));
    }
}
