//! How long a decode step takes: physics with fitted constants, corrected by measured points nearby, with an interval.
//!
//! Everything fitted is in `data/speed-constants.csv`; the intervals are conformal on points whose (source, model) was left
//! out of the fit. What was measured nowhere has a value and no interval: nothing is promised from it.

mod card;
mod constants;
mod points;
mod step;

pub use card::{Architecture, Card, Link, Path};
pub use points::{Class, Evidence};
pub use step::{At, step_seconds};

use crate::Roofline;
use constants::{Resolved, fixed, resolve, value};
use points::{Neighbours, OwnResidual};
use step::Terms;

/// Engines as far as step times differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    Vllm,
    /// vLLM 0.8 to 0.11: the present engine before its scheduling overlapped the step.
    VllmEarly,
    /// vLLM's first engine (before 0.8).
    VllmV0,
    Sglang,
    Trtllm,
    /// Nothing was measured of it.
    #[default]
    Other,
}

impl Engine {
    /// As the constants' file writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::VllmEarly => "vllm-early",
            Self::VllmV0 => "vllm-v0",
            Self::Sglang => "sglang",
            Self::Trtllm => "trtllm",
            Self::Other => "other",
        }
    }

    /// The engine whatever its version, as people write it.
    pub const fn family(self) -> &'static str {
        match self {
            Self::Vllm | Self::VllmEarly | Self::VllmV0 => "vLLM",
            Self::Sglang => "SGLang",
            Self::Trtllm => "TensorRT-LLM",
            Self::Other => "this engine",
        }
    }
}

/// Kinds of layers that engines run through kernels of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Structure {
    /// Latent attention (MLA).
    pub latent: bool,
    /// An index chooses the tokens that are attended to.
    pub sparse: bool,
    /// Recurrent state.
    pub recurrent: bool,
    /// Sliding windows or chunks.
    pub windowed: bool,
}

/// A server of the fleet whose time between tokens was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub roofline: Roofline,
    pub at: At,
    /// Seconds between tokens.
    pub seconds: f64,
}

/// Seconds, with the ends of a 90 % interval; `None`: nothing like it was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seconds {
    pub value: f64,
    pub ends: Option<(f64, f64)>,
}

impl Seconds {
    /// The end that a promise must hold at.
    pub fn bad_end(self) -> Option<f64> {
        self.ends.map(|(_, high)| high)
    }
}

/// What takes most of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Bound {
    #[default]
    Memory,
    Compute,
    Link,
    Launches,
    Host,
}

impl Bound {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory bandwidth",
            Self::Compute => "compute",
            Self::Link => "the link between GPUs",
            Self::Launches => "kernel launches",
            Self::Host => "the host's scheduling",
        }
    }
}

/// How requests come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Arrivals {
    /// Each by itself, at a rate.
    #[default]
    Open,
    /// A fixed number of clients send the next request when one is answered: prompts come in bunches.
    Closed,
}

/// A prediction that can be asked at any load; `new` once a placement, `at` is cheap.
#[derive(Clone, Debug)]
pub struct Predictor<'a> {
    roofline: &'a Roofline,
    constants: Resolved,
    neighbours: Neighbours,
    pub evidence: Evidence,
}

impl<'a> Predictor<'a> {
    /// `own`: servers of this fleet; those of the same model on the same card with the same engine correct the prediction.
    pub fn new(roofline: &'a Roofline, own: &[Measured]) -> Self {
        let alike = |m: &&Measured| {
            let (a, b) = (&m.roofline, roofline);
            let model =
                (a.layers, a.hidden, a.experts, a.weight_bits) == (b.layers, b.hidden, b.experts, b.weight_bits);
            model && a.card == b.card && a.engine == b.engine && a.tensor == b.tensor && m.seconds > 0.0
        };
        let residuals: Vec<OwnResidual> = own
            .iter()
            .filter(alike)
            .map(|m| {
                let constants = resolve(&m.roofline);
                let terms = step::terms(&m.roofline, m.at, &constants);
                OwnResidual {
                    at: m.at,
                    off: (m.seconds / terms.total()).ln() / spread(&terms),
                }
            })
            .collect();
        Self {
            roofline,
            constants: resolve(roofline),
            neighbours: Neighbours::of(roofline, &residuals),
            evidence: points::evidence(roofline),
        }
    }

    /// Seconds between two tokens of a sequence.
    pub fn at(&self, at: At) -> Seconds {
        let terms = step::terms(self.roofline, at, &self.constants);
        let own = spread(&terms);
        let (expected, explained) = self.neighbours.at(at);
        let left = own * (1.0 - explained).sqrt();
        let middle = terms.total() * (expected * own + fixed().lean * left).exp();
        // Mixtures and dense models have intervals of their own.
        let kind = if self.roofline.experts > 0.0 {
            "mixture"
        } else {
            "dense"
        };
        let scope = format!("{}/{kind}", self.evidence.class.name());
        let end = |parameter: &str| middle * (value(parameter, &scope) * left).exp();
        Seconds {
            value: middle,
            ends: (self.evidence.class != Class::NotSeen).then(|| (end("interval_low"), end("interval_high"))),
        }
    }

    /// Seconds to the first token of a request that need not wait for a place, with the ends of a wide interval: it depends
    /// on how prompts meet, and nobody predicts it well.
    pub fn first_token(&self, at: At, arrivals: Arrivals) -> Seconds {
        let own = step::prompt_seconds(self.roofline, at.input, &self.constants).max(1e-6);
        let step = step::terms(self.roofline, at, &self.constants).total();
        let (word, log) = match arrivals {
            Arrivals::Open => ("first_token_open", (own + step + ENTRY_SECONDS).ln()),
            Arrivals::Closed => {
                let c = |name: &str| value("first_token_closed", name);
                let log = c("prompt") * own.ln() + c("step") * step.ln() + c("running") * at.running.max(1.0).ln();
                ("first_token_closed", log)
            }
        };
        let middle = (value(word, "constant") + log).exp();
        let end = |name: &str| middle * value(word, name).exp();
        Seconds {
            value: middle,
            ends: (self.evidence.class != Class::NotSeen).then(|| (end("low"), end("high"))),
        }
    }

    /// Prompt tokens a second when nothing else runs.
    pub fn prompt_rate(&self, length: f64) -> f64 {
        length.max(1.0) / step::prompt_seconds(self.roofline, length.max(1.0), &self.constants)
    }

    /// What takes most of a step.
    pub fn bound(&self, at: At) -> Bound {
        let t = step::terms(self.roofline, at, &self.constants);
        let causes = [
            (t.memory, Bound::Memory),
            (t.arithmetic, Bound::Compute),
            (t.link, Bound::Link),
            (t.launches, Bound::Launches),
            (t.host, Bound::Host),
        ];
        causes
            .into_iter()
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, b)| b)
            .unwrap_or_default()
    }
}

/// Receiving, tokenizing and answering a request (20 ms: the least that servers show with prompts of 100 tokens; the fit
/// takes it as given).
const ENTRY_SECONDS: f64 = 0.02;

/// By how much the physics is off, in log units: a floor, and an error of each cause in proportion to its share.
fn spread(t: &Terms) -> f64 {
    let total = t.total();
    let parts = [t.memory, t.arithmetic, t.link, t.launches, t.host];
    let causes: f64 = parts
        .iter()
        .zip(fixed().causes)
        .map(|(seconds, size)| (seconds / total * size).powi(2))
        .sum();
    (fixed().floor.powi(2) + causes).sqrt()
}

/// Why a measurement on one card tells nothing of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unscalable {
    /// One of the cards is not NVIDIA's: such ratios are off by more than not knowing is.
    Vendor,
    /// Nobody measured the other card with this kind of model (dense, mixture): neither the points nor this fleet.
    NeverMeasured,
}

/// By how much of itself a measurement that was scaled from one placement to another may be too fast, in one case of twenty.
/// The one place that says which cards a measured server may be sent to. An instance is as its card is; `own`: measured
/// servers of this fleet.
pub fn ratio_margin(from: &Roofline, to: &Roofline, own: &[Measured]) -> Result<f64, Unscalable> {
    if from == to {
        return Ok(0.0);
    }
    if from.card.name == to.card.name && from.card.instance == to.card.instance {
        return Ok(ratio_margin_same_card());
    }
    if !(from.card.nvidia && to.card.nvidia) {
        return Err(Unscalable::Vendor);
    }
    let mixture = |r: &Roofline| r.experts > 0.0;
    let seen_here =
        |m: &Measured| m.seconds > 0.0 && m.roofline.card.name == to.card.name && mixture(&m.roofline) == mixture(to);
    if from.card.name != to.card.name && !points::is_measured(&to.card.name, mixture(to)) && !own.iter().any(seen_here)
    {
        return Err(Unscalable::NeverMeasured);
    }
    let near = from.card.architecture == to.card.architecture && !from.card.instance && !to.card.instance;
    Ok(value("ratio", if near { "near" } else { "far" }))
}

/// The same for another layout, or another server, on one card.
pub fn ratio_margin_same_card() -> f64 {
    value("ratio", "same-card")
}

#[cfg(test)]
mod tests;
