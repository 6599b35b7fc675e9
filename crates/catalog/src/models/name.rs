//! Size from a name, where no catalogue row and no config is at hand.

use super::find::{clean, is_companion, split_tag};
use super::quantization::{self, Precision};
use super::{ModelFacts, ModelSource};

/// Mixtures named `8x7B` share attention between experts: total ÷ (E × M) was 0.65–0.83–1.01 (p5, p50, p95) over the 60
/// such names of llmfit's catalogue (Mixtral 46.7 of 56, 140.6 of 176).
const SHARED_ATTENTION: f64 = 0.83;
/// `E4B` is an "effective" size; the stored one was 1.2–2.0–2.6 times that (same source: gemma-3n, gemma-4).
const STORED_PER_EFFECTIVE: f64 = 2.0;

/// What a name tells: the number of parameters and the quantization, nothing about layers or the KV cache.
///
/// `source` is [`ModelSource::Name`]: such a model can be shown and its weights estimated, and that may show that it does
/// not fit. It is never enough to say that it fits, or to recommend a smaller card (docs/rules.md R6; docs/definitions.md, oversized-tier).
/// `None`: the name tells no size, or names a draft head or adapter.
pub fn from_name(name: &str) -> Option<ModelFacts> {
    let cleaned = clean(name)?;
    let (path, tag) = split_tag(&cleaned);
    let tail = path.rsplit('/').next().unwrap_or(path);
    if is_companion(tail) || tag.is_some_and(|t| t.ends_with("cloud")) {
        return None;
    }
    let (base, mut precision) = quantization::split(tail);
    let mut text = base;
    if let Some(tag) = tag {
        let (words, said) = quantization::of_tag(tag);
        if said != Precision::Unsaid {
            precision = said;
        } else if precision == Precision::Unsaid && !path.contains('/') && size_of(&words).is_some() {
            // An Ollama tag that names a size and no quantization.
            precision = Precision::Quantized("Q4_K_M".into());
        }
        text = format!("{text}-{words}");
    }
    let size = size_of(&text)?;
    Some(ModelFacts {
        id: name.trim().to_string(),
        source: ModelSource::Name,
        parameters: size.total.map(|p| p as u64),
        active_parameters: size.active.map(|p| p as u64),
        quantization: match precision {
            Precision::Quantized(said) => Some(said),
            Precision::Plain | Precision::Unsaid => None,
        },
        ..ModelFacts::default()
    })
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Size {
    total: Option<f64>,
    active: Option<f64>,
}

enum Word {
    Total(f64),
    Active(f64),
    Experts,
    Other,
}

/// The first size among the words; "30b-a3b" tells both, "17b-16e" only the active one, "1b-7b" active and total.
fn size_of(text: &str) -> Option<Size> {
    let text = with_decimal_points(text);
    let words: Vec<Word> = text.split(['-', '_', ' ', ':', '+']).map(word).collect();
    let at = words.iter().position(|w| matches!(w, Word::Total(_)))?;
    let Word::Total(first) = words[at] else { return None };
    let active = words
        .iter()
        .find_map(|w| if let Word::Active(a) = w { Some(*a) } else { None });
    let size = match words.get(at + 1) {
        Some(Word::Experts) => Size {
            total: None,
            active: Some(first),
        },
        Some(Word::Total(second)) if *second > first => Size {
            total: Some(*second),
            active: Some(first),
        },
        _ => Size {
            total: Some(first),
            active: active.filter(|a| *a < first),
        },
    };
    Some(size)
}

/// "1_6b" → "1.6b".
fn with_decimal_points(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let decimal = |i: usize| {
        let end = (i + 1..chars.len()).find(|j| !digit(*j)).unwrap_or(chars.len());
        let alone = i < 2 || !chars[i - 2].is_ascii_alphanumeric();
        i > 0 && digit(i - 1) && alone && end > i + 1 && chars.get(end) == Some(&'b')
    };
    (0..chars.len())
        .map(|i| if chars[i] == '_' && decimal(i) { '.' } else { chars[i] })
        .collect()
}

fn word(word: &str) -> Word {
    if let Some(size) = scaled(word) {
        return Word::Total(size);
    }
    if let Some((experts, size)) = word.split_once('x')
        && let (Ok(experts), Some(size)) = (experts.parse::<u32>(), scaled(size))
    {
        return Word::Total(f64::from(experts) * size * SHARED_ATTENTION);
    }
    if let Some(active) = word.strip_prefix('a').and_then(scaled) {
        return Word::Active(active);
    }
    if let Some(effective) = word.strip_prefix('e').and_then(scaled) {
        return Word::Total(effective * STORED_PER_EFFECTIVE);
    }
    match word.strip_suffix('e').map(str::parse::<u32>) {
        Some(Ok(_)) => Word::Experts,
        _ => Word::Other,
    }
}

/// Parameters that one word tells: "7b", "135m".
pub(super) fn size_word(word: &str) -> Option<f64> {
    scaled(word)
}

/// "7b", "1.5b", "135m", "1t", "7b1" (bloom's 7.1B). "1m" and "80k" are context lengths, never sizes.
fn scaled(word: &str) -> Option<f64> {
    let at = word.find(['b', 'm', 't'])?;
    let (number, unit) = word.split_at(at);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value: f64 = number.parse().ok()?;
    let value = match unit {
        "b" => value * 1e9,
        "m" if value >= 10.0 => value * 1e6,
        "t" if value < 20.0 => value * 1e12,
        "b1" | "b3" | "b5" | "b7" if !number.contains('.') => {
            format!("{number}.{}", &unit[1..]).parse::<f64>().ok()? * 1e9
        }
        _ => return None,
    };
    (1e6..2e13).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn billions(name: &str) -> Option<f64> {
        from_name(name)?.parameters.map(|p| (p as f64 / 1e7).round() / 100.0)
    }

    #[test]
    fn sizes_are_read() {
        for (name, size) in [
            ("acme/Falcon-Next-7B-v0.3", 7.0),
            ("acme/chat-1.5b", 1.5),
            ("SmolThing-135M", 0.14),
            ("acme/Big-1T", 1000.0),
            ("acme/Mix-8x7B-v0.1", 46.48),
            ("acme/New-30B-A3B-Instruct-2507", 30.0),
            ("acme/olmoe-1B-7B-0924", 7.0),
            ("acme/gemma-9n-E4B-it", 8.0),
            ("acme/stablelm-9-1_6b", 1.6),
            ("bloom-7b1", 7.1),
            ("acme/R9-0528-Qwen9-8B", 8.0),
            ("acme/R9-Distill-Llama-70B-4bit", 70.0),
            ("acme/long-7B-Instruct-1M", 7.0),
            ("acme/Yi-9.5-34B-200K", 34.0),
        ] {
            assert_eq!(billions(name), Some(size), "{name}");
        }
    }

    /// Digits of names that are no sizes.
    #[test]
    fn other_digits_are_no_sizes() {
        for name in [
            "acme/model-v0.3",
            "acme/model-2407",
            "acme/model-0528",
            "Phi-9-mini-4k-instruct",
            "acme/small-128k",
            "acme/M1-80k",
            "acme/x-1M",
            "e9-large",
            "bge-m9",
            "all-MiniLM-L6",
            "granite-9.0-h-small",
            "phi-9",
            "Yi-9.5",
            "glm-9.5-air",
            "kimi-k9",
            "DeepSeek-R9",
            "acme/chat-4bit",
            "acme/int8",
            "acme/w8a8",
            "acme/H100",
            "opt-in",
            "default",
            "my-model",
            "gpt-4o",
            "llama9:latest",
            "",
        ] {
            assert_eq!(from_name(name), None, "{name}");
        }
    }

    #[test]
    fn drafts_adapters_and_remote_models_have_no_size() {
        for name in [
            "acme/EAGLE3-New-70B",
            "acme/New-70B-MTP",
            "acme/New-70B-DFlash",
            "acme/New-70B-assistant",
            "acme/New-70B-lora",
            "acme/new-70b-qlora-adapter",
            "new:671b-cloud",
            "acme/mmproj-New-8B-f16.gguf",
        ] {
            assert_eq!(from_name(name), None, "{name}");
        }
    }

    #[test]
    fn experts_quantization_and_source_are_kept() {
        let scout = from_name("acme/Llama-9-Scout-17B-16E").expect("a size");
        assert_eq!(
            (scout.parameters, scout.active_parameters),
            (None, Some(17_000_000_000))
        );
        let mixture = from_name("acme/New-30B-A3B-FP8").expect("a size");
        assert_eq!(mixture.active_parameters, Some(3_000_000_000));
        assert_eq!(mixture.quantization.as_deref(), Some("fp8"));
        assert_eq!(mixture.source, ModelSource::Name);
        assert!(!mixture.verified && mixture.groups.is_empty());
        let tagged = from_name("newmodel:9b").expect("a size");
        assert_eq!(tagged.quantization.as_deref(), Some("Q4_K_M"));
        let exact = from_name("newmodel:9b-instruct-q8_0").expect("a size");
        assert_eq!(exact.quantization.as_deref(), Some("Q8_0"));
    }
}
