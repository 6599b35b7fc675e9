//! What an engine is to gpuwaste: a trait that one file implements, and the facts that this file states.

use super::Candidate;
use crate::metrics::page::Page;
use crate::metrics::vocabulary::Vocabulary;
use crate::snapshot::engine::{EngineReading, ServerIdentity};
use crate::snapshot::server::{EngineKind, EngineSettings, Setting};
use crate::units::Ratio;

/// A serving engine. Everything that gpuwaste knows of it is behind this trait; no other file names it.
pub trait Engine: Sync {
    fn facts(&self) -> &'static Facts;

    /// The settings, where this container runs the engine; `None` otherwise. Of the environment it sees the variables that
    /// its facts declare, and no others.
    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings>;

    /// What its metrics page tells of load in a shape that no vocabulary can say.
    fn complete(&self, _page: &Page, _reading: &mut EngineReading) {}

    /// What its metrics page tells of the server itself, the served name apart.
    fn identify(&self, _page: &Page, _identity: &mut ServerIdentity) {}
}

/// What is said of an engine. No field has a default: an engine's file states each, or does not compile.
#[derive(Debug)]
pub struct Facts {
    pub kind: EngineKind,
    /// Images whose tags count the engine's own versions.
    pub versions: Versions,
    /// A command starts it by its name: as many of them in one script are as many servers.
    pub started_by_name: bool,
    /// Nothing that matters comes from its environment but what its command names; an image of somebody's own that is given
    /// no arguments may start it with any.
    pub set_by_arguments: bool,
    /// Commands of the same product that only route: they are no server.
    pub routers: Routers,
    /// Variables that it reads itself, whatever the command line says.
    pub variables: &'static [Variable],
    /// How many GPUs it takes where no setting says so.
    pub width: Width,
    pub memory: MemoryRules,
    /// It keeps weights of 32 bits as they are; the others cast them to 16 unless told otherwise.
    pub keeps_float32: bool,
    /// Tokens that a request may hold where neither the settings nor the model say less.
    pub longest_request: Option<u64>,
    /// Where no length is stated it starts with whatever is left for its cache, and cuts its context to that; the others refuse.
    pub cuts_its_context: bool,
    /// The share of the card's whole memory that it takes unless told otherwise, whoever else is on the card. `None`: it takes
    /// what it needs, or a share of what is free.
    pub card_share: Option<Ratio>,
    /// Data-parallel ranks may have APIs, and pages, of their own: one page need not speak for all of them.
    pub apis_of_ranks: bool,
    /// It publishes how many CPU cores its processes need (vLLM, docs/configuration/optimization.md).
    pub cpu_need_published: bool,
    /// It calls models by names of its own, of the same shape as Hugging Face's.
    pub own_model_names: bool,
    /// A server process of a language model: the runtime takes host memory in each process.
    pub language_models: bool,
    pub endpoints: Endpoints,
    pub vocabulary: Vocabulary,
}

/// Whose versions an image's tag counts.
#[derive(Debug)]
pub enum Versions {
    /// The product's own image: whatever its tag says.
    Tag,
    /// Of these images alone, which the engine's project builds, up to its newest major version: a larger number in a tag is
    /// another's.
    Own {
        /// From the project's documentation.
        images: &'static [&'static str],
        newest: u32,
    },
}

/// Parts of a product that route requests to its servers.
#[derive(Debug)]
pub struct Routers {
    /// Parts of image names.
    pub images: &'static [&'static str],
    /// Programs among the first words of a command.
    pub programs: &'static [&'static str],
    /// Beginnings of Python modules behind `-m`.
    pub modules: &'static [&'static str],
    /// Of those modules the ones that start the servers behind them.
    pub serving_modules: &'static [&'static str],
    /// A program's subcommand: (program, next word).
    pub commands: &'static [(&'static str, &'static str)],
    /// Ends of a script's name among the first words.
    pub scripts: &'static [&'static str],
}

impl Routers {
    pub const NONE: Self = Self {
        images: &[],
        programs: &[],
        modules: &[],
        serving_modules: &[],
        commands: &[],
        scripts: &[],
    };
}

/// An environment variable, and the setting it is for.
#[derive(Debug)]
pub struct Variable {
    /// Its name; with a `*` behind, the beginning of several.
    pub name: &'static str,
    /// One of a variable's several settings: it has a row for each. [`Setting::Any`]: it may set whatever the engine has.
    pub sets: Setting,
    pub form: Form,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A whole number: "4", "32k".
    Count,
    /// A whole number above 0 in digits alone: what is written otherwise ("4.0", "four", "auto") is no value, and no default.
    Plain,
    /// Between 0 and 1.
    Share,
    /// A model: an id, a path.
    Model,
    /// One of the engine's own words, or JSON.
    Word,
    /// More GPUs for each engine, where it is not 1.
    Factor,
    /// Any settings at all.
    Settings,
}

impl Variable {
    pub const fn new(name: &'static str, sets: Setting, form: Form) -> Self {
        Self { name, sets, form }
    }

    pub fn is(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => self.name == name,
        }
    }
}

/// How many of the GPUs it sees an engine takes where no setting says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One, until it is told: more are left idle.
    One,
    /// All that it sees.
    All,
    /// As many as the model needs, or as a profile or file that cannot be seen says: one, all, or between.
    Chosen,
}

/// By whose rules it lays out memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryRules {
    Vllm,
    Sglang,
    Trtllm,
    Tgi,
    /// llama.cpp and what is built on it: the context is allocated as asked.
    LlamaCpp,
    /// Encoders, pipelines: weights and a working set, no pool.
    Plain,
    /// It runs one of several backends, or its rules were not read.
    Unknown,
}

/// Where it answers.
#[derive(Debug)]
pub struct Endpoints {
    /// Its own default port. `None`: it has none.
    pub port: Option<u16>,
    /// Path of the Prometheus metrics. Reading it must have no side effect. `None`: the engine has none.
    pub metrics: Option<&'static str>,
    /// Where other versions have them, tried in turn where there is nothing at `metrics`.
    pub other_metrics: &'static [&'static str],
    /// The flag without which it has no metrics.
    pub metrics_flag: Option<&'static str>,
    /// Further side-effect-free GET paths that tell what the server loaded, and how their answers are read.
    pub identity: &'static [IdentityPath],
}

#[derive(Debug)]
pub struct IdentityPath {
    pub path: &'static str,
    pub read: fn(&serde_json::Value, &mut ServerIdentity),
}

impl Endpoints {
    pub fn identity_paths(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.identity.iter().map(|i| i.path)
    }
}
