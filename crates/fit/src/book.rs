//! What the fleet's own servers told of their memory, as measurements for every other server like them.

use super::{Calibration, Parallelism, Placement, defaults, place};
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelFacts;
use crate::snapshot::server::{EngineKind, EngineSettings, Setting};
use crate::units::{Bytes, Ratio, Tokens};

/// A server that tells its capacity.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    pub model: &'a ModelFacts,
    pub settings: &'a EngineSettings,
    pub gpu: &'a GpuFacts,
    pub parallelism: Parallelism,
    /// KV capacity of one engine (data-parallel rank).
    pub kv_capacity: Tokens,
    /// For people: "deployment ml/chat".
    pub whose: &'a str,
}

/// What is the same in two servers whose memory goes the same way. Shares, lengths and element types are not: arithmetic has
/// them.
#[derive(Clone, Debug, PartialEq)]
struct Kind {
    /// Engine and its version, as the server says it.
    engine: (EngineKind, String),
    gpu: String,
    /// `model_type`, hidden size, layers, vocabulary, experts.
    architecture: (String, Option<u32>, Option<u32>, Option<u64>, Option<u32>),
    /// With what spreads the experts and the attention.
    parallelism: (Parallelism, Option<bool>, Option<bool>),
    /// What a profiled step is made of, as stated.
    step: Step,
}

#[derive(Clone, Debug, PartialEq)]
struct Step {
    sequences: Option<u64>,
    tokens: Option<u64>,
    chunk: Option<u64>,
    eager: Option<bool>,
    drafts: (Option<bool>, Option<String>, Option<u32>),
    adapters: (Option<bool>, Option<u64>, Option<u64>),
    towers: (Option<bool>, Option<u64>),
    /// Kernels, and with them their workspaces, go by the format of the weights.
    quantization: Option<String>,
}

/// How much more of its card one server's pool took than was estimated.
#[derive(Clone, Debug, PartialEq)]
struct Fact {
    kind: Kind,
    more: f64,
    whose: String,
}

/// Measurements of servers, for others of their kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    facts: Vec<Fact>,
}

impl Book {
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Takes down what a server told.
    ///
    /// Errors: why it says nothing about others: it is not known well enough, its pool has a size of its own, or no card could
    /// hold it.
    pub fn learn(&mut self, told: &Told<'_>) -> Result<(), Refusal> {
        let silent = |why: &str| Err(Refusal::Silent(why.to_string()));
        let settings = told.settings;
        let Some(kind) = kind(told.model, settings, told.gpu, told.parallelism) else {
            return silent("its engine's version is not known");
        };
        if told.model.assumed() {
            return silent("its model is known by its name only");
        }
        let fixed = [
            settings.kv_cache_memory.map(|b| b.0),
            settings.gpu_blocks_override,
            settings.max_total_tokens,
        ];
        if fixed.iter().any(Option::is_some) {
            return silent("its pool has the size that it was given");
        }
        if settings.unread(Setting::MemoryShare).is_some() {
            return silent("its share of the card could not be read");
        }
        let bare = place(told.model, settings, told.gpu, told.parallelism, None);
        let Some((estimate, per_token)) = bare.kv_per_gpu.zip(bare.kv_bytes_per_token_per_gpu) else {
            return silent("its pool cannot be estimated");
        };
        within(told, &bare).map_err(Refusal::Impossible)?;
        let pool = told.kv_capacity.0 as f64 * per_token;
        self.facts.push(Fact {
            kind,
            more: (pool - estimate.0 as f64) / card(told.gpu),
            whose: told.whose.to_string(),
        });
        Ok(())
    }

    /// What the servers of this kind say of one that nobody measured: exactly the same kind is a measurement, of which the
    /// least is taken; all but one thing the same moves the estimate.
    pub fn calibration(
        &self,
        model: &ModelFacts,
        settings: &EngineSettings,
        gpu: &GpuFacts,
        parallelism: Parallelism,
    ) -> Option<Calibration> {
        if self.is_empty() || model.assumed() {
            return None;
        }
        let own = kind(model, settings, gpu, parallelism)?;
        let mut near: Vec<(usize, &'static str, &Fact)> = self
            .facts
            .iter()
            .filter_map(|f| {
                let (count, what) = own.differs(&f.kind);
                (count <= 1).then_some((count, what, f))
            })
            .collect();
        near.sort_by(|a, b| a.0.cmp(&b.0).then(a.2.more.total_cmp(&b.2.more)));
        let (count, what, first) = near.first().copied()?;
        if count == 0 {
            return exact(model, settings, gpu, parallelism, first);
        }
        let fact = near[(near.len() - 1) / 2].2;
        Some(Calibration {
            gpu: gpu.name.clone(),
            parallelism,
            moved: Some(Ratio(fact.more)),
            reason: format!(
                "moved by {:+.1} % of the card, as {} is off, which has another {what}",
                fact.more * 100.0,
                fact.whose
            ),
            ..Calibration::default()
        })
    }
}

/// Weights may be lighter than estimated by this share.
const LIGHTEST: f64 = 0.85;

impl Told<'_> {
    /// Whether a card could hold what the server says.
    ///
    /// Errors: the figures that speak against it.
    pub fn possible(&self) -> Result<(), String> {
        within(
            self,
            &place(self.model, self.settings, self.gpu, self.parallelism, None),
        )
    }
}

fn within(told: &Told<'_>, bare: &Placement) -> Result<(), String> {
    let Some((per_token, weights)) = bare.kv_bytes_per_token_per_gpu.zip(bare.weights_per_gpu) else {
        return Ok(());
    };
    let pool = told.kv_capacity.0 as f64 * per_token;
    let room = card(told.gpu) - weights.0 as f64 * LIGHTEST;
    if pool > 0.0 && pool <= room {
        return Ok(());
    }
    Err(format!(
        "{} tokens of {per_token:.0} bytes are {}, and the card has {} beside the weights",
        told.kv_capacity.0,
        Bytes(pool as u64),
        Bytes(room.max(0.0) as u64)
    ))
}

/// As CUDA reports it.
fn card(gpu: &GpuFacts) -> f64 {
    defaults::cuda_total(gpu).0 as f64
}

/// Why a fact is not taken down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It says nothing about other servers.
    Silent(String),
    /// No card could hold it: it is wrong, or what is known of the server is.
    Impossible(String),
}

fn exact(
    model: &ModelFacts,
    settings: &EngineSettings,
    gpu: &GpuFacts,
    parallelism: Parallelism,
    fact: &Fact,
) -> Option<Calibration> {
    let bare = place(model, settings, gpu, parallelism, None);
    let (estimate, per_token) = bare.kv_per_gpu.zip(bare.kv_bytes_per_token_per_gpu)?;
    let tokens = (estimate.0 as f64 + fact.more * card(gpu)) / per_token;
    (tokens >= 1.0 && tokens.is_finite()).then(|| Calibration {
        gpu: gpu.name.clone(),
        parallelism,
        kv_capacity: Tokens(tokens as u64),
        moved: None,
        reason: format!(
            "measured by {}, of the same version, card, architecture and parallelism",
            fact.whose
        ),
    })
}

/// `None`: the engine or its version is not known.
fn kind(model: &ModelFacts, settings: &EngineSettings, gpu: &GpuFacts, parallelism: Parallelism) -> Option<Kind> {
    let version = settings.engine_version.clone()?;
    Some(Kind {
        engine: (settings.engine?, version),
        gpu: gpu.name.clone(),
        architecture: (
            model.model_type.clone(),
            model.hidden,
            model.layers(),
            model.vocab,
            model.experts.map(|e| e.count),
        ),
        parallelism: (parallelism, settings.expert_parallel, settings.dp_attention),
        step: Step {
            sequences: settings.max_num_seqs,
            tokens: settings.max_num_batched_tokens,
            chunk: settings.chunked_prefill_size,
            eager: settings.enforce_eager,
            drafts: (
                settings.speculative,
                settings.speculative_method.clone(),
                settings.speculative_tokens,
            ),
            adapters: (settings.lora, settings.max_loras, settings.max_lora_rank),
            towers: (settings.language_model_only, settings.images_per_prompt),
            quantization: settings.quantization.clone().or(model.quantization.clone()),
        },
    })
}

impl Kind {
    /// How many of the things differ, and the last one's name.
    fn differs(&self, other: &Self) -> (usize, &'static str) {
        let pairs = [
            (self.engine != other.engine, "engine version"),
            (self.gpu != other.gpu, "card"),
            (self.architecture != other.architecture, "architecture"),
            (self.parallelism != other.parallelism, "parallelism"),
            (self.step != other.step, "size of a step"),
        ];
        let mut differing = pairs.iter().filter(|(differs, _)| *differs);
        (
            differing.clone().count(),
            differing.next_back().map_or("", |(_, what)| *what),
        )
    }
}

#[cfg(test)]
mod tests;
