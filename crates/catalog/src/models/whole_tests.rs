//! No row lacks what its kind has: a tower, what a quantized copy leaves out, the state of recurrent layers. A blank there is no
//! error when it is read, and tens of gigabytes when a server starts.

use super::{LayerKind, ModelFacts, rows, towers};

/// Types whose checkpoints hold an encoder that no row of `towers.csv` describes: audio is profiled otherwise, and of
/// DeepSeek-V4.1's tower only the size is known.
const NOT_PROFILED: &[&str] = &["voxtral", "qwen2_audio", "qwen3_asr", "deepseek_v41"];
/// Words of types that see or hear.
const SENSES: &[&str] = &[
    "_vl", "omni", "vision", "audio", "ocr", "_asr", "voxtral", "llava", "glm4v", "minicpmv", "pixtral",
];
/// Without an encoder for all their type: their configurations have no `vision_config`.
const TEXT_ONLY: &[&str] = &["XiaomiMiMo/MiMo-V2.5-Pro"];
/// Types with recurrent layers or convolutions beside attention, or alone.
const RECURRENT: &[&str] = &[
    "falcon_h1",
    "falcon_mamba",
    "glm5_next",
    "granitemoehybrid",
    "jamba",
    "kimi_k3",
    "kimi_linear",
    "lfm2",
    "lfm2_moe",
    "mamba2",
    "minimax",
    "minimax_m1",
    "nemotron_h",
    "phi4flash",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
    "qwen3_next",
    "qwen4_exp",
];
/// `layer_types` of its configuration are all attention.
const ATTENTION_ONLY: &[&str] = &["ibm-granite/granite-4.0-micro"];

fn senses(facts: &ModelFacts) -> bool {
    let of_type = &facts.model_type;
    towers::TOWERS.iter().any(|t| t.model_type == *of_type)
        || SENSES.iter().any(|w| of_type.contains(w))
        || NOT_PROFILED.contains(&of_type.as_str())
}

/// What a row lacks.
fn lacks(facts: &ModelFacts) -> Vec<&'static str> {
    let mut missing = Vec::new();
    let id = facts.id.as_str();
    if senses(facts) && !TEXT_ONLY.contains(&id) {
        if facts.tower_parameters == 0 {
            missing.push("its tower's parameters");
        } else if facts.tower.is_none() && !NOT_PROFILED.contains(&facts.model_type.as_str()) {
            missing.push("its tower's shape");
        }
    }
    let said = facts.quantization.as_deref().unwrap_or_default().to_ascii_lowercase();
    let four_bit_float = said.contains("nvfp4") || said.contains("mxfp4");
    if four_bit_float && !["=", "expert", "moe"].iter().any(|w| said.contains(w)) {
        missing.push("the parts that its quantization leaves out");
    }
    let state = |kind: &LayerKind| matches!(kind, LayerKind::Recurrent(_) | LayerKind::Parallel { .. });
    let recurrent = RECURRENT.contains(&facts.model_type.as_str()) && !ATTENTION_ONLY.contains(&id);
    // Layers that a row says it does not know leave no groups: no capacity is told then.
    if recurrent && !facts.groups.is_empty() && !facts.groups.iter().any(|g| state(&g.kind)) {
        missing.push("the state of its recurrent layers");
    }
    missing
}

#[test]
fn no_row_lacks_what_its_kind_has() {
    let all = rows::CATALOG.rows.iter().map(|r| &r.facts);
    let wrong: Vec<String> = all
        .filter_map(|facts| {
            Some(lacks(facts))
                .filter(|l| !l.is_empty())
                .map(|l| format!("{}: {}", facts.id, l.join(", ")))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_row_that_lacks_it_is_told() {
    let row = |id: &str| {
        rows::CATALOG
            .rows
            .iter()
            .map(|r| &r.facts)
            .find(|f| f.id == id)
            .unwrap()
    };
    let seeing = row("Qwen/Qwen3.8-27B");
    assert!(lacks(seeing).is_empty());
    let without = |change: fn(&mut ModelFacts)| {
        let mut facts = seeing.clone();
        change(&mut facts);
        lacks(&facts)
    };
    assert_eq!(without(|f| f.tower_parameters = 0), ["its tower's parameters"]);
    assert_eq!(without(|f| f.tower = None), ["its tower's shape"]);
    assert_eq!(
        without(|f| f.groups.retain(|g| !matches!(g.kind, LayerKind::Recurrent(_)))),
        ["the state of its recurrent layers"]
    );
    let unsaid = without(|f| f.quantization = Some("nvfp4 g16".into()));
    assert_eq!(unsaid, ["the parts that its quantization leaves out"]);
    assert!(without(|f| f.quantization = Some("nvfp4 g16 attention=bf16".into())).is_empty());
}

/// An exception that no row needs any more hides the next one.
#[test]
fn exceptions_are_rows() {
    for id in TEXT_ONLY.iter().chain(ATTENTION_ONLY) {
        assert!(rows::CATALOG.rows.iter().any(|r| r.facts.id == *id), "{id}");
    }
    for of_type in NOT_PROFILED.iter().chain(RECURRENT) {
        assert!(
            rows::CATALOG.rows.iter().any(|r| r.facts.model_type == *of_type),
            "{of_type}"
        );
    }
}
