//! The book of measured facts as fleets exchange it: what servers told of themselves, without names, prices and cluster ids.
//!
//! A fact is told raw, with the settings that memory and speed hang on: whoever reads it holds it against an estimate of their
//! own. Models and cards are those of the catalogue, versions are releases, words are those that engines take: nothing that a
//! tenant can name goes in or comes out.

use super::Told;
use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::mig;
use crate::catalog::models::{self, ModelFacts};
use crate::snapshot::server::{EngineSettings, Setting};
use crate::units::Tokens;
use crate::{Parallelism, is_known_dtype, is_known_quantization, is_known_state_dtype, place};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// The version of the file; readers refuse a newer one.
pub const SCHEMA: u32 = 1;

/// More than a thousand clusters tell; a longer file is a mistake.
const MOST: usize = 1_000_000;

/// The file: `gpuwaste learned --from SNAPSHOT -o FILE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    pub schema: u32,
    /// One a server and combination, in order of combination and server.
    pub facts: Vec<Fact>,
}

/// What one server told of one combination of engine version, card, model, parallelism and settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    pub combination: Combination,
    /// 16 hex digits that tell servers apart: one counts once, however often it was recorded.
    pub server: String,
    #[schemars(with = "String")]
    pub seen_at: Timestamp,
    /// KV cache that one engine (data-parallel rank) told, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_capacity_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// Restarts of its containers after their first start. Absent: not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
}

/// What the fact holds for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Combination {
    /// A model of the catalogue, and the quantization that it was loaded in.
    pub model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// A card of the catalogue, or a MIG instance of one.
    pub gpu: String,
    pub tensor_parallel: u32,
    pub pipeline_parallel: u32,
    pub data_parallel: u32,
    /// Engine, version, and what memory and speed hang on.
    pub settings: EngineSettings,
}

/// What one engine was seen to do at its busiest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    pub window_seconds: f64,
    /// p95 over the window.
    pub output_tokens_per_second: f64,
    /// The most that it gave.
    pub peak_output_tokens_per_second: f64,
    /// p95, seconds.
    pub inter_token_latency: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_first_token: Option<f64>,
    /// Mean tokens of a request: prompt, output.
    pub input_tokens: f64,
    pub output_tokens: f64,
}

impl Combination {
    pub fn key(&self, server: String) -> (String, String) {
        (serde_json::to_string(self).unwrap_or_default(), server)
    }
}

impl Facts {
    /// Joins what several files and snapshots told: in any order, any number of times, with the same result.
    pub fn of(all: impl IntoIterator<Item = Fact>) -> Self {
        let mut joined: BTreeMap<(String, String), Fact> = BTreeMap::new();
        for fact in all {
            joined
                .entry(fact.key())
                .and_modify(|known| {
                    if known.is_older(&fact) {
                        known.clone_from(&fact);
                    }
                })
                .or_insert(fact);
        }
        Self {
            schema: SCHEMA,
            facts: joined.into_values().collect(),
        }
    }

    /// What no gpuwaste writes is refused whole: one file must not bend what all others say.
    ///
    /// Errors: which fact, and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if self.facts.len() > MOST {
            return Err(format!("it has more than {MOST} facts, which no fleet tells"));
        }
        for (i, fact) in self.facts.iter().enumerate() {
            fact.check().map_err(|why| format!("fact {}: {why}", i + 1))?;
        }
        Ok(())
    }
}

impl Fact {
    /// Combination and server.
    pub fn key(&self) -> (String, String) {
        self.combination.key(self.server.clone())
    }

    /// Of two facts of one key the later one counts; of one time one that does not depend on who asks.
    pub fn is_older(&self, than: &Self) -> bool {
        self.order() < than.order()
    }

    fn order(&self) -> (Timestamp, String) {
        (self.seen_at, serde_json::to_string(self).unwrap_or_default())
    }

    fn check(&self) -> Result<(), String> {
        let hex = self.server.len() == 16 && self.server.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex {
            return Err("'server' is not 16 hex digits".into());
        }
        let c = &self.combination;
        for (name, text) in [("model", &c.model), ("gpu", &c.gpu)] {
            let plain = text.len() <= 120
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_./+ ".contains(&b));
            if !plain || text.is_empty() {
                return Err(format!("'{name}' is no name of the catalogue"));
            }
        }
        let ranks = [c.tensor_parallel, c.pipeline_parallel, c.data_parallel];
        if ranks.iter().any(|n| !(1..=1024).contains(n)) {
            return Err("a parallelism is from 1 to 1024".into());
        }
        // The catalogue's own words are longer; a newer catalogue's are not known here.
        let row = ROWS.get(c.model.as_str());
        let own = |q: &str| row.map_or(q.len() <= 80 && q.is_ascii(), |r| r.quantization.as_deref() == Some(q));
        if c.quantization
            .as_deref()
            .is_some_and(|q| !own(q) && !is_quantization(q))
        {
            return Err("'quantization' is none that is known".into());
        }
        if shared(&c.settings).as_ref() != Ok(&c.settings) {
            return Err("'settings' has what gpuwaste never writes there".into());
        }
        let speed = self.speed.iter().flat_map(Speed::figures);
        if speed
            .clone()
            .any(|(_, v)| !(v.is_finite() && (0.0..=1e12).contains(&v)))
        {
            return Err("'speed' has a figure that cannot be".into());
        }
        Ok(())
    }

    /// The model, card and parallelism, if this gpuwaste knows them.
    pub(super) fn resolved(&self) -> Option<(ModelFacts, &'static GpuFacts, Parallelism)> {
        let c = &self.combination;
        let gpu = match mig::named(&c.gpu) {
            Some(instance) => instance,
            None => gpus::all().iter().find(|g| g.name == c.gpu)?,
        };
        let parallelism = Parallelism {
            tensor: c.tensor_parallel,
            pipeline: c.pipeline_parallel,
            data: c.data_parallel,
        };
        Some((rebuilt(&c.model, c.quantization.as_deref())?, gpu, parallelism))
    }
}

impl Speed {
    fn figures(&self) -> impl Iterator<Item = (&'static str, f64)> + Clone {
        [
            ("window_seconds", self.window_seconds),
            ("output_tokens_per_second", self.output_tokens_per_second),
            ("peak_output_tokens_per_second", self.peak_output_tokens_per_second),
            ("inter_token_latency", self.inter_token_latency),
            ("time_to_first_token", self.time_to_first_token.unwrap_or(0.0)),
            ("input_tokens", self.input_tokens),
            ("output_tokens", self.output_tokens),
        ]
        .into_iter()
    }

    /// Four digits: more says nothing, and would tell recordings apart.
    pub fn rounded(self) -> Self {
        Self {
            window_seconds: self.window_seconds.round(),
            output_tokens_per_second: round(self.output_tokens_per_second),
            peak_output_tokens_per_second: round(self.peak_output_tokens_per_second),
            inter_token_latency: round(self.inter_token_latency),
            time_to_first_token: self.time_to_first_token.map(round),
            input_tokens: round(self.input_tokens),
            output_tokens: round(self.output_tokens),
        }
    }
}

fn round(v: f64) -> f64 {
    format!("{v:.3e}").parse().unwrap_or(v)
}

/// The combination that a server's facts hold for.
///
/// Errors: why they say nothing to others.
pub fn combination(told: &Told<'_>) -> Result<Combination, String> {
    if let Some(unread) = unread(told.settings) {
        return Err(format!("a setting that matters could not be read: {unread}"));
    }
    let settings = shared(told.settings)?;
    let again = rebuilt(&told.model.id, told.model.quantization.as_deref());
    if again.as_ref() != Some(told.model) || told.model.assumed() {
        return Err("its model is not in the catalogue: its name stays here".into());
    }
    if !(mig::named(&told.gpu.name).is_some() || known_card(&told.gpu.name)) {
        return Err("its card is not in the catalogue".into());
    }
    let combination = Combination {
        model: told.model.id.clone(),
        quantization: told.model.quantization.clone(),
        gpu: told.gpu.name.clone(),
        tensor_parallel: told.parallelism.tensor,
        pipeline_parallel: told.parallelism.pipeline,
        data_parallel: told.parallelism.data,
        settings,
    };
    // What is not shared must not matter.
    let of = |s: &EngineSettings| place(told.model, s, told.gpu, told.parallelism, None).kv_per_gpu;
    if of(&combination.settings) != of(told.settings) {
        return Err("its memory hangs on settings that are not shared".into());
    }
    Ok(combination)
}

fn known_card(name: &str) -> bool {
    gpus::all().iter().any(|g| g.name == name)
}

static ROWS: LazyLock<HashMap<&str, &ModelFacts>> =
    LazyLock::new(|| models::all().iter().map(|r| (r.facts.id.as_str(), &r.facts)).collect());

/// A row's facts in a quantization.
fn rebuilt(id: &str, quantization: Option<&str>) -> Option<ModelFacts> {
    let row = *ROWS.get(id)?;
    if row.quantization.as_deref() == quantization {
        return Some(row.clone());
    }
    // As a copy of this name in that precision is read.
    Some(ModelFacts {
        quantization: quantization.map(String::from),
        file_bytes: None,
        ..row.clone()
    })
}

/// Settings that memory and speed hang on: of one that could not be read, nothing is known to be the same.
const MATTER: &[Setting] = &[
    Setting::Engine,
    Setting::EngineVersion,
    Setting::TensorParallel,
    Setting::PipelineParallel,
    Setting::DataParallel,
    Setting::FurtherParallel,
    Setting::MaxModelLen,
    Setting::MaxNumSeqs,
    Setting::MaxNumBatchedTokens,
    Setting::MemoryShare,
    Setting::Quantization,
    Setting::Dtype,
    Setting::KvCacheDtype,
    Setting::Sizing,
];

/// Where one of them is stated, if it could not be read.
pub(super) fn unread(settings: &EngineSettings) -> Option<&str> {
    MATTER
        .iter()
        .find_map(|s| settings.unread(*s))
        .map(|u| u.place.as_str())
}

/// What goes into a file: figures, and words of which every one is known.
fn shared(s: &EngineSettings) -> Result<EngineSettings, String> {
    let word = |text: &Option<String>, known: &dyn Fn(&str) -> bool, what: &str| match text.as_deref() {
        Some(t) if !(t.len() <= 80 && t.bytes().all(is_plain) && known(t)) => {
            Err(format!("its {what} is none that is known"))
        }
        _ => Ok(text.clone()),
    };
    let figures = [
        s.gpu_memory_utilization,
        s.mem_fraction_static,
        s.swa_full_tokens_ratio,
        s.mamba_full_memory_ratio,
    ];
    if figures.iter().flatten().any(|v| !v.is_finite()) {
        return Err("a setting is no number".into());
    }
    let version = word(&s.engine_version, &is_release, "engine's version")?;
    if s.engine.is_none() || version.is_none() {
        return Err("its engine's version is not known".into());
    }
    Ok(EngineSettings {
        engine_version: version,
        quantization: word(&s.quantization, &is_quantization, "quantization")?,
        dtype: word(&s.dtype, &|d| DTYPES.contains(&d) || is_known_dtype(d), "dtype")?,
        kv_cache_dtype: word(&s.kv_cache_dtype, &is_known_dtype, "KV cache's dtype")?,
        mamba_cache_dtype: word(&s.mamba_cache_dtype, &is_known_state_dtype, "state's dtype")?,
        mamba_ssm_dtype: word(&s.mamba_ssm_dtype, &is_known_state_dtype, "state's dtype")?,
        speculative_method: word(&s.speculative_method, &is_method, "way to draft")?,
        model: None,
        served_names: Vec::new(),
        role: None,
        kv_transfer: false,
        nodes: None,
        dynamo: false,
        ray: false,
        ranks_by_ray: false,
        headless: false,
        api_per_node: false,
        apis: None,
        port: None,
        unread: Vec::new(),
        ..s.clone()
    })
}

const DTYPES: &[&str] = &[
    "auto", "half", "float16", "fp16", "bfloat16", "bf16", "float", "float32",
];

fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.=+ ".contains(&b)
}

/// As the catalogue and engines write them: "awq-int4 g128", "fp8 block128 attention=bf16", "modelopt_fp4", "Q4_K_M".
fn is_quantization(text: &str) -> bool {
    let word = |w: &str| w.len() <= 24 && w.bytes().all(is_plain);
    text.len() <= 80 && is_known_quantization(text) && text.split(' ').all(word) && text.split(' ').count() <= 8
}

fn is_method(text: &str) -> bool {
    const KNOWN: &[&str] = &[
        "ngram",
        "eagle",
        "eagle3",
        "medusa",
        "mtp",
        "mlp_speculator",
        "draft_model",
        "nextn",
        "suffix",
        "standalone",
        "deepseek_mtp",
        "qwen3_next_mtp",
        "glm4_moe_mtp",
    ];
    KNOWN.iter().any(|k| k.eq_ignore_ascii_case(text))
}

/// A release, not a name of one's own: "0.11.2", "v0.8.5.post1", "25.03", "0.20.0rc1+cu129", "b4567".
fn is_release(text: &str) -> bool {
    const WORDS: &[&str] = &["", "v", "b", "rc", "post", "dev", "a", "cu", "rocm", "cuda", "py", "V"];
    text.bytes().any(|b| b.is_ascii_digit())
        && text.len() <= 32
        && text.split(['.', '+', '-', '_']).all(|part| {
            let mut rest = part;
            // "0rc1": figures and known words by turns.
            while !rest.is_empty() {
                let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                let word_end = digits.find(|c: char| c.is_ascii_digit()).unwrap_or(digits.len());
                if !WORDS.contains(&&digits[..word_end]) {
                    return false;
                }
                rest = &digits[word_end..];
            }
            true
        })
}

impl Fact {
    /// As a server of the reader's would tell it.
    pub(super) fn told<'a>(
        &'a self,
        (model, gpu, parallelism): (&'a ModelFacts, &'a GpuFacts, Parallelism),
        kv_capacity: u64,
        whose: &'a str,
    ) -> Told<'a> {
        Told {
            model,
            settings: &self.combination.settings,
            gpu,
            parallelism,
            kv_capacity: Tokens(kv_capacity),
            whose,
        }
    }
}

#[cfg(test)]
mod tests;
