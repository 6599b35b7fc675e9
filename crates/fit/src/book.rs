//! What the fleet's own servers told of their memory, as measurements for every other server like them.

pub mod facts;
mod speed;

use super::memory::CALIBRATED_SHARE;
use super::speed::Measured;
use super::{Calibration, Parallelism, Placement, defaults, place};
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelFacts;
use crate::snapshot::server::{EngineKind, EngineSettings};
use crate::units::{Bytes, Ratio, Tokens};
use std::collections::{BTreeMap, HashMap};

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

/// What is the same in two servers whose memory goes the same way, each thing by its number in [`Book::seen`]. Shares, lengths
/// and element types are not: arithmetic has them.
type Kind = [usize; 5];

/// Those things' names, for people.
const THINGS: [&str; 5] = [
    "engine version",
    "card",
    "architecture",
    "parallelism",
    "size of a step",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thing {
    /// Engine and its version, as the server says it.
    Engine(EngineKind, String),
    Gpu(String),
    /// `model_type`, hidden size, layers, vocabulary, experts.
    Architecture(String, Option<u32>, Option<u32>, Option<u64>, Option<u32>),
    /// With what spreads the experts and the attention.
    Parallelism(Parallelism, Option<bool>, Option<bool>),
    /// What a profiled step is made of, as stated.
    Step(Step),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// What one server said.
#[derive(Clone, Debug, PartialEq)]
struct Witness {
    /// How much more of its card its pool took than was estimated.
    more: Option<f64>,
    /// Its time between tokens; the drafts it ran with are not in the roofline, so that none with drafts has one.
    timed: Option<Measured>,
    whose: String,
    /// Told by a file, not seen in this fleet.
    elsewhere: bool,
    /// It started again after it had started: what it says of its memory may be why.
    restarted: bool,
}

/// Measurements of servers, for others of their kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    seen: HashMap<Thing, usize>,
    /// By kind: there are far fewer kinds than servers.
    facts: BTreeMap<Kind, Vec<Witness>>,
}

/// From how many servers that agree a band narrows (docs/decisions.md, learned).
const ENOUGH: usize = 5;
/// What the pools of like servers may differ by, of the card (ours: what a KV pool of half the card makes 4 % of).
const AGREE: f64 = 0.02;

impl Book {
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Takes down what a server told.
    ///
    /// Errors: why it says nothing about others: it is not known well enough, its pool has a size of its own, or no card could
    /// hold it.
    pub fn learn(&mut self, told: &Told<'_>) -> Result<(), Refusal> {
        let more = more(told)?;
        let Some(kind) = self.enter(told) else {
            return Err(Refusal::Silent("its engine's version is not known".into()));
        };
        self.facts.entry(kind).or_default().push(Witness {
            more: Some(more),
            timed: None,
            whose: told.whose.to_string(),
            elsewhere: false,
            restarted: false,
        });
        Ok(())
    }

    /// Takes down what a file tells: memory, speed, or both.
    ///
    /// Errors: as [`Book::learn`]; what is not refused is taken down.
    pub fn learn_fact(&mut self, fact: &facts::Fact, file: &str) -> Result<(), Refusal> {
        let silent = |why: &str| Refusal::Silent(why.to_string());
        let resolved = fact.resolved();
        let known = resolved
            .as_ref()
            .ok_or(silent("this gpuwaste does not know its model or card"))?;
        let (model, gpu, parallelism) = (&known.0, known.1, known.2);
        let told = fact.told((model, gpu, parallelism), fact.kv_capacity_tokens.unwrap_or(0), file);
        if facts::unread(told.settings).is_some() {
            return Err(silent("a setting that matters could not be read"));
        }
        let kind = self.enter(&told).ok_or(silent("its engine's version is not known"))?;
        let memory = fact.kv_capacity_tokens.map(|_| more(&told));
        let timed = fact.speed.map(|speed| speed::measured(&told, &speed));
        let witness = Witness {
            more: memory.as_ref().and_then(|m| m.as_ref().ok().copied()),
            timed: timed.as_ref().and_then(|t| t.as_ref().ok().cloned()),
            whose: file.to_string(),
            elsewhere: true,
            restarted: fact.restarts.is_some_and(|n| n > 0),
        };
        if witness.more.is_some() || witness.timed.is_some() {
            self.facts.entry(kind).or_default().push(witness);
        }
        // What cannot be comes before what only says nothing.
        let mut refusals: Vec<Refusal> = [memory.and_then(Result::err), timed.and_then(Result::err)]
            .into_iter()
            .flatten()
            .collect();
        refusals.sort_by_key(|r| matches!(r, Refusal::Silent(_)));
        refusals.into_iter().next().map_or(Ok(()), Err)
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
        let own = self.of(model, settings, gpu, parallelism)?;
        // Of a setting that could not be read nobody knows that it is the same.
        let unread = facts::unread(settings).is_some();
        let mut near: Vec<(usize, &'static str, f64, &Witness)> = Vec::new();
        for (kind, witnesses) in &self.facts {
            let (mut count, mut what) = differs(&own, kind);
            if unread {
                (count, what) = (count + 1, "setting, which could not be read here");
            }
            if count <= 1 {
                near.extend(witnesses.iter().filter_map(|w| Some((count, what, w.more?, w))));
            }
        }
        near.sort_by(|a, b| a.0.cmp(&b.0).then(a.2.total_cmp(&b.2)));
        if near.first()?.0 == 0 {
            let alike: Vec<&Witness> = near.iter().filter(|n| n.0 == 0).map(|n| n.3).collect();
            return exact(model, settings, gpu, parallelism, &alike);
        }
        let (_, what, more, fact) = near[(near.len() - 1) / 2];
        Some(Calibration {
            gpu: gpu.name.clone(),
            parallelism,
            moved: Some(Ratio(more)),
            reason: format!(
                "moved by {:+.1} % of the card, as {} is off, which has another {what}",
                more * 100.0,
                fact.whose
            ),
            elsewhere: u32::from(fact.elsewhere),
            ..Calibration::default()
        })
    }

    /// Times between tokens that files tell of exactly this kind, one a server. What the model of speeds contradicts as too fast
    /// is left out.
    pub fn timed(
        &self,
        model: &ModelFacts,
        settings: &EngineSettings,
        gpu: &GpuFacts,
        parallelism: Parallelism,
    ) -> Vec<Measured> {
        if self.is_empty() || model.assumed() || facts::unread(settings).is_some() {
            return Vec::new();
        }
        let own = self.of(model, settings, gpu, parallelism);
        let alike = own.and_then(|own| self.facts.get(&own)).into_iter().flatten();
        let settled = alike.filter(|w| !w.restarted);
        settled
            .filter_map(|w| w.timed.clone())
            .filter(speed::is_believed)
            .collect()
    }

    /// The kind of a server, with its things numbered.
    fn enter(&mut self, told: &Told<'_>) -> Option<Kind> {
        let things = things(told.model, told.settings, told.gpu, told.parallelism)?;
        Some(things.map(|thing| {
            let next = self.seen.len();
            *self.seen.entry(thing).or_insert(next)
        }))
    }

    /// The same of one that is asked about; what no fact has is `usize::MAX`.
    fn of(
        &self,
        model: &ModelFacts,
        settings: &EngineSettings,
        gpu: &GpuFacts,
        parallelism: Parallelism,
    ) -> Option<Kind> {
        let things = things(model, settings, gpu, parallelism)?;
        Some(things.map(|thing| self.seen.get(&thing).copied().unwrap_or(usize::MAX)))
    }
}

/// How many of the things differ, and the last one's name.
fn differs(a: &Kind, b: &Kind) -> (usize, &'static str) {
    let mut found = (0, "");
    for (i, name) in THINGS.into_iter().enumerate() {
        if a[i] != b[i] {
            found = (found.0 + 1, name);
        }
    }
    found
}

/// How much more of its card a server's pool took than was estimated.
fn more(told: &Told<'_>) -> Result<f64, Refusal> {
    let silent = |why: &str| Err(Refusal::Silent(why.to_string()));
    let settings = told.settings;
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
    if facts::unread(settings).is_some() {
        return silent("a setting that its memory hangs on could not be read");
    }
    let bare = place(told.model, settings, told.gpu, told.parallelism, None);
    let Some((estimate, per_token)) = bare.kv_per_gpu.zip(bare.kv_bytes_per_token_per_gpu) else {
        return silent("its pool cannot be estimated");
    };
    within(told, &bare).map_err(Refusal::Impossible)?;
    let pool = told.kv_capacity.0 as f64 * per_token;
    Ok((pool - estimate.0 as f64) / card(told.gpu))
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
    // What the engine was told to leave alone is not there either.
    let share = told.settings.gpu_memory_utilization.filter(|s| (0.0..=1.0).contains(s));
    let room = card(told.gpu) * share.unwrap_or(1.0) - weights.0 as f64 * LIGHTEST;
    if pool > 0.0 && pool <= room {
        return Ok(());
    }
    Err(format!(
        "{} tokens of {per_token:.0} bytes are {}, and the card has {} beside the weights{}",
        told.kv_capacity.0,
        Bytes(pool as u64),
        Bytes(room.max(0.0) as u64),
        share.map(|s| format!(" at a share of {s}")).unwrap_or_default()
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

/// Witnesses of exactly this kind, the least first. What they agree on, and the model does not hold for too much, is measured; its
/// band is the model's, widened, until five agree. Where they contradict each other or the model, or one started again, the band
/// holds them all, and nothing is said with more confidence than without them.
fn exact(
    model: &ModelFacts,
    settings: &EngineSettings,
    gpu: &GpuFacts,
    parallelism: Parallelism,
    witnesses: &[&Witness],
) -> Option<Calibration> {
    let bare = place(model, settings, gpu, parallelism, None);
    let (estimate, per_token) = bare.kv_per_gpu.zip(bare.kv_bytes_per_token_per_gpu)?;
    let band = bare.kv_band?;
    let pools: Vec<f64> = witnesses
        .iter()
        .filter_map(|w| Some(estimate.0 as f64 + w.more? * card(gpu)))
        .collect();
    let (least, most) = (*pools.first()?, *pools.last()?);
    // Less than the model says is the careful side: the band widens, and it is measured.
    let outside = most > band.high.0 as f64;
    let apart = most - least > AGREE * card(gpu);
    let again = witnesses.iter().any(|w| w.restarted);
    let doubt = match () {
        () if apart => Some("they contradict each other"),
        () if outside => Some("the memory model has room for less"),
        () if again => Some("a server restarted with it"),
        () => None,
    };
    let value = if doubt.is_some() {
        least.min(estimate.0 as f64)
    } else {
        least
    };
    let tokens = |bytes: f64| bytes / per_token;
    let told = tokens(value);
    if !(told >= 1.0 && told.is_finite()) {
        return None;
    }
    let narrow = pools.len() >= ENOUGH && doubt.is_none();
    let ends = (!narrow).then(|| {
        let floor = |v: f64, share: f64| Tokens(tokens(v * share).max(0.0) as u64);
        let low = floor(least, 1.0 - CALIBRATED_SHARE).min(floor(band.low.0 as f64, 1.0));
        let high = floor(most, 1.0 + CALIBRATED_SHARE).max(floor(band.high.0 as f64, 1.0));
        (low, high)
    });
    let elsewhere = witnesses.iter().filter(|w| w.elsewhere).count();
    let whose = match witnesses {
        [one] if one.elsewhere => format!("a server of {}", one.whose),
        [one] => one.whose.clone(),
        [first, ..] if elsewhere == witnesses.len() => format!("{} servers of {}", witnesses.len(), first.whose),
        [first, ..] => format!("{} and {} others", first.whose, witnesses.len() - 1),
        [] => return None,
    };
    let alike = "of the same version, card, architecture and parallelism";
    let reason = match doubt {
        Some(why) => format!("told by {whose}, {alike}, but {why}: the band holds both"),
        None => format!("measured by {whose}, {alike}"),
    };
    Some(Calibration {
        gpu: gpu.name.clone(),
        parallelism,
        kv_capacity: Tokens(told as u64),
        moved: None,
        ends,
        doubted: doubt.is_some(),
        elsewhere: elsewhere as u32,
        reason,
    })
}

/// `None`: the engine or its version is not known.
fn things(
    model: &ModelFacts,
    settings: &EngineSettings,
    gpu: &GpuFacts,
    parallelism: Parallelism,
) -> Option<[Thing; 5]> {
    let version = settings.engine_version.clone()?;
    Some([
        Thing::Engine(settings.engine?, version),
        Thing::Gpu(gpu.name.clone()),
        Thing::Architecture(
            model.model_type.clone(),
            model.hidden,
            model.layers(),
            model.vocab,
            model.experts.map(|e| e.count),
        ),
        Thing::Parallelism(parallelism, settings.expert_parallel, settings.dp_attention),
        Thing::Step(Step {
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
        }),
    ])
}

#[cfg(test)]
mod tests;
