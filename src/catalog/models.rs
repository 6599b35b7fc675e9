//! Model facts: one row a model in `data/models.csv`, found by any name that manifests and servers use.

use serde::Deserialize;
use std::collections::HashMap;
use std::sync::LazyLock;

mod name;

const ROWS: &str = include_str!("data/models.csv");

/// Where the facts come from; decides the confidence of everything built on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ModelSource {
    /// A size in its name: never enough to recommend a smaller card.
    #[default]
    Name,
    /// A catalogue row that nobody could check against the model's own files.
    Recalled,
    Catalog,
    /// config.json read with `--models`.
    Config,
    /// Safetensors or GGUF headers.
    Weights,
}

impl ModelSource {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Recalled | Self::Catalog => "catalog",
            Self::Config => "config",
            Self::Weights => "weights",
        }
    }
}

/// State kept per sequence by recurrent layers (fit.md's formulas take these).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct StateSpec {
    /// "mamba1", "mamba2", "gdn", "kda", "lightning", "short-conv".
    #[serde(rename = "t")]
    pub(crate) kind: String,
    pub(crate) heads: f64,
    pub(crate) hd: f64,
    pub(crate) groups: f64,
    pub(crate) d_state: f64,
    pub(crate) conv: f64,
    pub(crate) hk: f64,
    pub(crate) dk: f64,
    pub(crate) hv: f64,
    pub(crate) dv: f64,
    pub(crate) inner: f64,
    pub(crate) dim: f64,
    pub(crate) ssm_bytes: f64,
}

/// What a model is made of. Counts are of the whole model; each `None`: not known, or the model has no such part.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ModelFacts {
    /// Hugging Face id, or the name as given where only a name is known.
    pub(crate) id: String,
    pub(crate) source: ModelSource,
    pub(crate) architecture: String,
    /// Parameters that are loaded (without MTP heads).
    pub(crate) parameters: f64,
    /// Parameters that one token passes through.
    pub(crate) active_parameters: f64,
    pub(crate) layers: Option<f64>,
    pub(crate) hidden: Option<f64>,
    pub(crate) intermediate: Option<f64>,
    pub(crate) heads: Option<f64>,
    pub(crate) kv_heads: Option<f64>,
    pub(crate) head_dim: Option<f64>,
    pub(crate) v_head_dim: Option<f64>,
    pub(crate) vocab: Option<f64>,
    pub(crate) tied_embeddings: bool,
    /// Tokens the model was made for: an engine's default length.
    pub(crate) max_position: Option<u64>,
    pub(crate) attention: String,
    pub(crate) sliding_window: Option<f64>,
    pub(crate) full_layers: Option<f64>,
    pub(crate) swa_layers: f64,
    pub(crate) linear_layers: f64,
    pub(crate) kv_shared_layers: f64,
    pub(crate) kv_lora_rank: Option<f64>,
    pub(crate) rope_head_dim: Option<f64>,
    pub(crate) q_lora_rank: Option<f64>,
    pub(crate) nope_head_dim: Option<f64>,
    pub(crate) index_head_dim: Option<f64>,
    pub(crate) experts: Option<f64>,
    pub(crate) experts_per_token: Option<f64>,
    pub(crate) expert_intermediate: Option<f64>,
    pub(crate) dense_layers: f64,
    pub(crate) state: Option<StateSpec>,
    /// Bytes per sequence of recurrent state on one GPU.
    pub(crate) state_bytes: Option<f64>,
    /// KV bytes per token at 16 bit on one GPU: layers with full attention; layers with a window.
    pub(crate) kv_bytes_per_token: Option<f64>,
    pub(crate) kv_window_bytes_per_token: Option<f64>,
    pub(crate) dtype: String,
    /// As its files are quantized: "fp8 block128", "awq-int4 g128"; `None`: not quantized.
    pub(crate) quantization: Option<String>,
    /// generate, embed, rerank, asr, diffusion.
    pub(crate) task: String,
    pub(crate) modality: String,
    /// Bytes of the files, where they were read.
    pub(crate) file_bytes: Option<f64>,
}

impl ModelFacts {
    /// Bytes of the weights as loaded: what a start-up has to read. `None` without a parameter count.
    pub(crate) fn weight_bytes_estimate(&self) -> Option<f64> {
        if let Some(bytes) = self.file_bytes {
            return Some(bytes);
        }
        (self.parameters > 0.0).then(|| self.parameters * name::bits(self.quantization.as_deref(), &self.dtype) / 8.0)
    }

    pub(crate) fn is_mla(&self) -> bool {
        self.kv_lora_rank.is_some() && self.attention.contains("MLA")
    }
}

struct Catalog {
    models: Vec<ModelFacts>,
    names: HashMap<String, usize>,
}

static CATALOG: LazyLock<Catalog> = LazyLock::new(load);

fn load() -> Catalog {
    let mut reader = csv::Reader::from_reader(ROWS.as_bytes());
    let headers = reader.headers().cloned().unwrap_or_default();
    let columns: HashMap<&str, usize> = headers.iter().enumerate().map(|(i, h)| (h, i)).collect();
    let mut models = Vec::new();
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut tails: Vec<(String, usize)> = Vec::new();
    for record in reader.records().flatten() {
        let cell = |name: &str| {
            columns
                .get(name)
                .and_then(|i| record.get(*i))
                .map(str::trim)
                .unwrap_or_default()
        };
        let number = |name: &str| cell(name).parse::<f64>().ok();
        let text = |name: &str| Some(cell(name).to_string()).filter(|t| !t.is_empty());
        let recalled = cell("confidence").starts_with("recalled") || cell("confidence") == "approx";
        let index = models.len();
        let parameters = number("total_params").unwrap_or(0.0);
        models.push(ModelFacts {
            id: cell("hf_id").into(),
            source: if recalled {
                ModelSource::Recalled
            } else {
                ModelSource::Catalog
            },
            architecture: cell("architectures").into(),
            parameters,
            active_parameters: number("active_params").unwrap_or(parameters),
            layers: number("num_layers"),
            hidden: number("hidden_size"),
            intermediate: number("intermediate_size"),
            heads: number("num_attention_heads"),
            kv_heads: number("num_kv_heads"),
            head_dim: number("head_dim"),
            v_head_dim: number("v_head_dim"),
            vocab: number("vocab_size"),
            tied_embeddings: cell("tie_word_embeddings") == "true",
            max_position: number("max_position_embeddings").map(|n| n as u64),
            attention: cell("attention_kind").into(),
            sliding_window: number("sliding_window"),
            full_layers: number("full_attn_layers"),
            swa_layers: number("swa_layers").unwrap_or(0.0),
            linear_layers: number("linear_layers").unwrap_or(0.0),
            kv_shared_layers: number("kv_shared_layers").unwrap_or(0.0),
            kv_lora_rank: number("kv_lora_rank"),
            rope_head_dim: number("qk_rope_head_dim"),
            q_lora_rank: number("q_lora_rank"),
            nope_head_dim: number("qk_nope_head_dim"),
            index_head_dim: number("index_head_dim"),
            experts: number("num_experts"),
            experts_per_token: number("experts_per_tok"),
            expert_intermediate: number("moe_intermediate_size"),
            dense_layers: number("first_dense_layers").unwrap_or(0.0),
            state: serde_json::from_str(cell("state_spec")).ok(),
            state_bytes: number("state_bytes_per_seq"),
            kv_bytes_per_token: number("kv_bytes_per_token_bf16"),
            kv_window_bytes_per_token: number("kv_swa_bytes_per_token_bf16"),
            dtype: cell("torch_dtype").into(),
            quantization: text("native_quant"),
            task: cell("task").into(),
            modality: cell("modality").into(),
            file_bytes: None,
        });
        let id = cell("hf_id").to_ascii_lowercase();
        names.insert(id.clone(), index);
        for alias in cell("aliases").split('|').map(str::trim).filter(|a| !a.is_empty()) {
            let alias = alias.to_ascii_lowercase();
            let bare = alias
                .strip_prefix("ollama:")
                .or_else(|| alias.strip_prefix("nim:"))
                .unwrap_or(&alias);
            tails.push((bare.to_string(), index));
        }
        tails.push((id.rsplit('/').next().unwrap_or(&id).to_string(), index));
    }
    // Full ids win over tails and aliases; of two models with one tail the first row (the original) has it.
    for (tail, index) in tails {
        names.entry(tail).or_insert(index);
    }
    Catalog { models, names }
}

pub(crate) fn all() -> &'static [ModelFacts] {
    &CATALOG.models
}

/// Facts of a model by Hugging Face id, alias, NIM or Ollama name, path, or as a quantized re-upload of a known base.
/// As a last resort the name's own size, marked [`ModelSource::Name`]. `None`: the name tells nothing.
pub(crate) fn find(text: &str) -> Option<ModelFacts> {
    let cleaned = name::clean(text);
    if cleaned.is_empty() {
        return None;
    }
    exact(&cleaned)
        .or_else(|| reupload(&cleaned))
        .or_else(|| name::parse(text, &cleaned))
}

/// As [`find`], without the last resort.
pub(crate) fn find_known(text: &str) -> Option<ModelFacts> {
    find(text).filter(|m| m.source != ModelSource::Name)
}

fn exact(cleaned: &str) -> Option<ModelFacts> {
    let names = &CATALOG.names;
    let tail = cleaned.rsplit('/').next().unwrap_or(cleaned);
    let index = names.get(cleaned).or_else(|| names.get(tail))?;
    Some(CATALOG.models[*index].clone())
}

/// "org/Base-AWQ", "unsloth/base-bnb-4bit", "Base-GGUF:Q4_K_M": the base's shape with the re-upload's quantization.
fn reupload(cleaned: &str) -> Option<ModelFacts> {
    let (base, quantization) = name::split_quantization(cleaned)?;
    let tail = base.rsplit('/').next().unwrap_or(&base);
    let mut model = exact(&base).or_else(|| {
        // "meta-llama-3.1-8b-instruct" is "llama-3.1-8b-instruct".
        [
            "meta-",
            "mistralai-",
            "deepseek-ai-",
            "qwen-",
            "google-",
            "microsoft-",
            "nvidia-",
        ]
        .iter()
        .find_map(|p| exact(tail.strip_prefix(p)?))
    })?;
    if model.quantization.as_deref() != Some(quantization.as_str()) {
        model.quantization = Some(quantization);
        model.file_bytes = None;
    }
    model.id = cleaned_id(cleaned, &model.id);
    Some(model)
}

/// The id as the caller wrote it where it is one, else the base's.
fn cleaned_id(cleaned: &str, base: &str) -> String {
    if cleaned.matches('/').count() == 1 && !cleaned.starts_with('/') {
        cleaned.to_string()
    } else {
        base.to_string()
    }
}

/// Catalogue ids most like `text`, nearest first, for error messages.
pub(crate) fn nearest(text: &str) -> Vec<&'static str> {
    let cleaned = name::clean(text);
    let tail = cleaned.rsplit('/').next().unwrap_or(&cleaned).to_string();
    let mut scored: Vec<(f64, &str)> = all()
        .iter()
        .map(|m| {
            let id = m.id.to_ascii_lowercase();
            let own = id.rsplit('/').next().unwrap_or(&id).to_string();
            (
                strsim::jaro_winkler(&tail, &own).max(strsim::normalized_levenshtein(&tail, &own)),
                m.id.as_str(),
            )
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored
        .into_iter()
        .filter(|(s, _)| *s > 0.75)
        .take(4)
        .map(|(_, id)| id)
        .collect()
}

/// Bits per weight of a quantization's name; for `None` those of the dtype.
pub(crate) fn bits_per_weight(quantization: Option<&str>, dtype: &str) -> f64 {
    name::bits(quantization, dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> Option<String> {
        find_known(text).map(|m| m.id)
    }

    #[test]
    fn a_model_is_found_by_every_name() {
        let llama = "meta-llama/Llama-3.1-8B-Instruct";
        for text in [
            llama,
            "META-LLAMA/llama-3.1-8b-instruct",
            "Llama-3.1-8B-Instruct",
            "/models/Llama-3.1-8B-Instruct/",
            "hf://meta-llama/Llama-3.1-8B-Instruct",
            "/root/.cache/huggingface/hub/models--meta-llama--Llama-3.1-8B-Instruct/snapshots/0e9e39f249a16976918f6564b8830bc894c89659",
            "meta/llama-3.1-8b-instruct",
        ] {
            assert_eq!(id(text).as_deref(), Some(llama), "{text}");
        }
    }

    #[test]
    fn a_reupload_keeps_the_shape_and_changes_the_bytes() {
        let base = find_known("meta-llama/Llama-3.1-8B-Instruct").unwrap();
        let awq = find_known("hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4").unwrap();
        assert_eq!((awq.layers, awq.kv_heads), (base.layers, base.kv_heads));
        assert!(awq.weight_bytes_estimate() < base.weight_bytes_estimate().map(|b| b * 0.4));
        for text in [
            "neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8",
            "unsloth/Llama-3.1-8B-Instruct-bnb-4bit",
            "x/Llama-3.1-8B-Instruct-GPTQ-Int4",
            "x/Llama-3.1-8B-Instruct-quantized.w4a16",
            "bartowski/Llama-3.1-8B-Instruct-GGUF:Q4_K_M",
        ] {
            let model = find_known(text).unwrap_or_else(|| panic!("{text}"));
            assert!(model.quantization.is_some(), "{text}");
        }
    }

    #[test]
    fn a_name_is_the_last_resort_and_says_so() {
        let model = find("acme/secret-sauce-7b-chat").unwrap();
        assert_eq!((model.source, model.parameters), (ModelSource::Name, 7e9));
        assert_eq!(
            find("acme/model-8x7b").map(|m| (m.parameters / 1e9).round()),
            Some(46.0)
        );
        assert_eq!(find("acme/big-30B-A3B").map(|m| m.active_parameters), Some(3e9));
        for text in [
            "",
            "default",
            "my-model",
            "model-v0.3",
            "phi-mini-128k",
            "thing-2407",
            "/mnt/models",
        ] {
            assert_eq!(find(text), None, "{text}");
        }
    }

    #[test]
    fn every_row_is_usable() {
        assert!(all().len() > 450);
        for model in all() {
            assert!(model.id.contains('/') || !model.id.is_empty());
            assert!(model.parameters >= 0.0 && model.parameters.is_finite(), "{}", model.id);
            assert_eq!(find(&model.id).map(|m| m.id), Some(model.id.clone()));
        }
        assert!(nearest("meta-llama/Llama-3.1-8B-Instrct").contains(&"meta-llama/Llama-3.1-8B-Instruct"));
    }

    proptest! {
        #[test]
        fn no_name_panics(text in "\\PC{0,60}") {
            let _ = (find(&text), nearest(&text));
        }
    }
}
