//! A known base inside a longer name: "gpt-oss-120b-long-context", "Hermes-Qwen3-32B-v2".
//!
//! A fine-tune or a re-upload has its base's architecture in nearly every case, but only its configuration says so: what is
//! taken from here is assumed.

use super::rows::{CATALOG, Row};
use super::{Task, name, quantization};
use std::sync::LazyLock;

/// Words that say how a model was tuned or packed, not what it is.
const TUNING: &[&str] = &["instruct", "chat", "it", "hf", "base", "meta", "gguf", "nvidia"];
/// A size beside the base's own may differ by rounding.
const ROUNDING: f64 = 0.06;

/// Releases of one size differ by less (vocabularies, adapters' heads).
const ONE_SIZE: f64 = 0.02;

struct Base {
    words: Vec<String>,
    row: usize,
}

/// Bases by their words, those of most words first.
static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| {
    let mut all: Vec<Base> = CATALOG
        .rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.facts.task != Task::Diffusion)
        .map(|(index, row)| {
            let tail = row.facts.id.rsplit('/').next().unwrap_or(&row.facts.id);
            // Of "…-30B-A3B-NVFP4" the model, not the copy.
            let (bare, _) = quantization::split(&tail.to_ascii_lowercase());
            Base {
                words: words(&bare),
                row: index,
            }
        })
        .filter(|base| is_telling(&base.words))
        .collect();
    // Of rows with the same words the unquantized one.
    all.sort_by_key(|b| {
        (
            usize::MAX - b.words.len(),
            CATALOG.rows[b.row].facts.quantization.is_some(),
        )
    });
    all
});

/// One word alone ("bloom", "starcoder") is in too many names.
fn is_telling(words: &[String]) -> bool {
    let letters = |w: &String| w.len() > 1 && w.bytes().any(|b| b.is_ascii_alphabetic());
    words.len() > 1 && words.iter().any(letters)
}

/// "Llama3.1-8B_Instruct" → llama, 3.1, 8b: cut at punctuation and between a letter and the digit behind it, without words of
/// tuning.
fn words(name: &str) -> Vec<String> {
    let lower = name.to_ascii_lowercase();
    let bytes = lower.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let mut out = vec![String::new()];
    for (i, c) in lower.char_indices() {
        let decimal = matches!(c, '.' | '_') && i > 0 && digit(i - 1) && digit(i + 1);
        let starts_number = c.is_ascii_digit() && i > 0 && bytes[i - 1].is_ascii_alphabetic();
        if !c.is_ascii_alphanumeric() && !decimal {
            out.push(String::new());
            continue;
        }
        if starts_number {
            out.push(String::new());
        }
        if let Some(last) = out.last_mut() {
            last.push(if decimal { '.' } else { c });
        }
    }
    out.retain(|w| !w.is_empty() && !TUNING.contains(&w.as_str()));
    // "L3.3-70B-Euryale": fine-tuners' short form.
    if let [first, version, ..] = out.as_mut_slice()
        && first == "l"
        && version.starts_with('3')
    {
        *first = "llama".into();
    }
    out
}

/// The row whose words stand together in `name`, the one of most words; none where another size beside them contradicts.
pub(super) fn of(name: &str) -> Option<&'static Row> {
    let wanted = words(name);
    BASES.iter().find_map(|base| {
        let at = wanted
            .windows(base.words.len())
            .position(|w| w == base.words.as_slice())?;
        let row = &CATALOG.rows[base.row];
        let rest = wanted[..at].iter().chain(&wanted[at + base.words.len()..]);
        agrees(row, rest).then_some(row)
    })
}

/// A later release of a base: its name but for the date at the end ("devstral-small-2507" of 2505). Only where the
/// whole family has one size: Mistral-Small's releases have 22, 24 and 119 billion parameters.
pub(super) fn released_later(name: &str) -> Option<&'static Row> {
    let date = |word: &String| word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit());
    let wanted = words(name);
    let (last, rest) = wanted.split_last()?;
    if !date(last) || !is_telling(rest) {
        return None;
    }
    let family = BASES.iter().filter(|base| base.words.starts_with(rest));
    let release = family
        .clone()
        .find(|base| base.words.len() == wanted.len() && base.words.last().is_some_and(date))?;
    let row = &CATALOG.rows[release.row];
    let size = |base: &Base| CATALOG.rows[base.row].facts.parameters.unwrap_or(0) as f64;
    let alike = |base: &Base| (size(base) / size(release) - 1.0).abs() < ONE_SIZE;
    family.into_iter().all(alike).then_some(row)
}

/// No word beside the base's tells another size: "GLM-4.5-Air-REAP-82B" has lost a quarter of its experts.
fn agrees<'a>(row: &Row, mut rest: impl Iterator<Item = &'a String>) -> bool {
    let own = row.facts.parameters.unwrap_or(0) as f64;
    rest.all(|word| {
        let Some(size) = name::size_word(word) else { return true };
        let near = |of: f64| of > 0.0 && (size / of - 1.0).abs() <= ROUNDING;
        near(own) || row.facts.active_parameters.is_some_and(|a| near(a as f64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: &str) -> Option<&'static str> {
        of(name).map(|row| row.facts.id.as_str())
    }

    #[test]
    fn bases_are_found_inside_names() {
        for (name, id) in [
            ("gpt-oss-120b-long-context", "openai/gpt-oss-120b"),
            ("Qwen3.8-27B-RTX5090", "Qwen/Qwen3.8-27B"),
            ("Dolphin-Llama3.1-8B-abliterated", "meta-llama/Llama-3.1-8B-Instruct"),
            ("my-qwen3-32b-finetune-v2", "Qwen/Qwen3-32B"),
            ("L3.3-70B-Euryale-v2.3", "meta-llama/Llama-3.3-70B-Instruct"),
            (
                "Nemotron-3.5-Lightning-30B-A3B-mine",
                "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4",
            ),
            (
                "DeepSeek-R1-Distill-Qwen-7B-Japanese",
                "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
            ),
        ] {
            assert_eq!(base(name), Some(id), "{name}");
        }
    }

    #[test]
    fn a_later_release_has_the_shape_of_its_base() {
        let later = |name: &str| released_later(name).map(|row| row.facts.id.as_str());
        assert_eq!(later("devstral-small-2507"), Some("mistralai/Devstral-Small-2505"));
        // Releases of 22 and 24 billion parameters: nobody knows which a third would be.
        assert_eq!(
            later("mistral-small-24b-2603"),
            Some("mistralai/Mistral-Small-24B-Instruct-2501")
        );
        assert_eq!(later("mistral-small-2603"), None);
        assert_eq!(later("my-model-2507"), None);
        assert_eq!(later("2507"), None);
    }

    #[test]
    fn another_size_is_no_base() {
        for name in [
            "GLM-4.5-Air-REAP-82B-A12B",
            "DeepSeek-V3-Lite-16B",
            "bloom-chat-7b",
            "opt-in",
            "my-model",
            "Qwen3-9B",
            "",
        ] {
            assert_eq!(base(name), None, "{name}");
        }
    }
}
