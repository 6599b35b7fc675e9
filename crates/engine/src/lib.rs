//! Serving engines: how each is recognised in a container, how its settings are read, which metrics it has.
//!
//! One file an engine, one line in [`ENGINES`]. Nothing here does I/O, and nothing raw leaves it: what a container's
//! command, arguments and environment hold goes in, settings by name come out.

// Tests compare figures that must be exact.
#![cfg_attr(test, allow(clippy::float_cmp))]

mod command;
mod flags;
mod image;
mod llamacpp;
mod memory_flags;
pub mod metrics;
mod names;
mod others;
mod role;
mod several;
mod sglang;
mod shell;
mod tgi;
mod triton;
mod trtllm;
mod unread;
mod unsaid;
mod uri;
mod vllm;
pub mod width;

pub use image::Image;
pub use unread::{has_placeholder, has_stand_in, is_to_be_replaced, placeholder_in};
pub use uri::{model_of_uri, mounted};

use gpuwaste_facts::{snapshot, units};

use crate::snapshot::cluster::ContainerRole;
use crate::snapshot::server::{EngineKind, EngineSettings, Setting, UnreadSetting};
use command::Launch;
use flags::Flags;
use serde_json::Value;
use shell::Ran;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use unread::{Place, Places};

/// What a container says of itself. Transient: it is read and dropped, never stored.
#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    pub image: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    /// `None`: the value comes from a Secret, ConfigMap or field and was not read.
    pub env: Vec<(String, Option<String>)>,
    /// Configuration files by path, as far as they were read.
    pub files: Vec<(String, String)>,
    /// Where a variable comes from, for people, where that is elsewhere: "key tp of ConfigMap serving".
    pub places: Vec<(String, String)>,
    /// Whole sets of variables that were not read ("a Secret"): any name may be among them.
    pub open: Vec<String>,
}

impl ContainerSpec {
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.as_deref())
    }

    fn place_of(&self, variable: &str) -> String {
        let known = self.places.iter().find(|(name, _)| name == variable);
        known.map_or(format!("the variable {variable}"), |(_, place)| {
            format!("the variable {variable}, from {place}")
        })
    }

    fn open_place(&self) -> Option<Place> {
        self.open.first().map(|place| Place::new(place.clone()))
    }
}

/// A container as the engines look at it: the image taken apart, the command line as words.
pub struct Candidate<'a> {
    pub spec: &'a ContainerSpec,
    pub image: Image,
    /// Each simple command that would run; without a program's name where only `args` are given.
    pub commands: Vec<Vec<String>>,
    /// Only `args`: the image's entry point is the program.
    pub entrypoint: bool,
    /// What its script writes, and what could not be read of anything.
    files: &'a BTreeMap<String, Option<String>>,
    places: &'a Places,
    unread: RefCell<Vec<UnreadSetting>>,
    /// Where the first word without a flag stands, if that was not read.
    first: RefCell<Option<String>>,
}

/// A serving engine.
pub trait Engine: Sync {
    fn kind(&self) -> EngineKind;

    /// The settings, where this container runs the engine; `None` otherwise.
    fn recognise(&self, candidate: &Candidate<'_>) -> Option<EngineSettings>;

    /// Where metrics are where the command does not say: the engine's own default port.
    fn default_port(&self) -> Option<u16>;

    /// Path of the Prometheus metrics. Reading it must have no side effect. `None`: the engine has none.
    fn metrics_path(&self) -> Option<&'static str>;

    /// Where other versions have them, tried in turn where there is nothing at [`Engine::metrics_path`].
    fn other_metrics_paths(&self) -> &'static [&'static str] {
        &[]
    }

    /// Further side-effect-free GET paths that tell what the server loaded.
    fn identity_paths(&self) -> &'static [&'static str] {
        &[]
    }
}

/// The registry, most specific first: the first engine that recognises a container has it.
pub const ENGINES: &[&dyn Engine] = &[
    &others::Nim,
    &trtllm::Trtllm,
    &triton::Triton,
    &sglang::Sglang,
    &vllm::Vllm,
    &tgi::Tgi,
    &others::Tei,
    &others::Infinity,
    &others::Lmdeploy,
    &llamacpp::Llamacpp,
    &others::Ollama,
    &others::Whisper,
    &others::Diffusion,
    &others::TorchServe,
    &others::RayServe,
];

pub fn of(kind: EngineKind) -> Option<&'static dyn Engine> {
    ENGINES.iter().copied().find(|e| e.kind() == kind)
}

/// The engine that a container runs, with its settings, and what of them could not be read; `None`: not a known server.
pub fn recognise(spec: &ContainerSpec) -> Option<EngineSettings> {
    let places = Places::default();
    let launch = command::launch(spec, &places);
    let image = Image::parse(&spec.image);
    if role::of(&image, &launch.ran).is_some() {
        return None;
    }
    let spec = &*with_known_variables(spec, &launch);
    let whole = Candidate::new(spec, &launch, &places, &launch.ran);
    let all = settings(&whole)?;
    let mut found = match several::servers(spec, &launch, &places) {
        Some(several) => several,
        None => all,
    };
    if !launch.whole {
        found.unread.push(UnreadSetting {
            setting: Setting::Any,
            place: "a part of the start script that was not understood".into(),
        });
    }
    found.unread.sort();
    found.unread.dedup();
    Some(found)
}

/// What of the settings stands elsewhere too, where nobody read it: it may be otherwise than the container says.
pub fn leave_unread(settings: &mut EngineSettings, places: &[UnreadSetting]) {
    if places.is_empty() {
        return;
    }
    let mut all = std::mem::take(&mut settings.unread);
    all.extend_from_slice(places);
    unsaid::apply(settings, all);
}

/// The container with its variables filled in; a mark is in each of which a part was not read.
fn with_known_variables<'s>(spec: &'s ContainerSpec, launch: &Launch) -> Cow<'s, ContainerSpec> {
    let same = |(name, value): &(String, Option<String>)| value.is_none() || launch.env.get(name) == value.as_ref();
    if spec.env.iter().all(same) {
        return Cow::Borrowed(spec);
    }
    let mut own = spec.clone();
    for (name, value) in own.env.iter_mut().filter(|(_, value)| value.is_some()) {
        *value = launch.env.get(name).cloned();
    }
    Cow::Owned(own)
}

/// The settings of the first engine that recognises the candidate.
fn settings(candidate: &Candidate<'_>) -> Option<EngineSettings> {
    ENGINES.iter().find_map(|engine| {
        candidate.unread.borrow_mut().clear();
        candidate.first.borrow_mut().take();
        let mut settings = engine.recognise(candidate)?;
        settings.engine = Some(engine.kind());
        if candidate.runs_in_dynamo() {
            settings.dynamo = true;
            settings.port = candidate.spec.env("DYN_SYSTEM_PORT").and_then(|p| p.parse().ok());
        }
        settings.engine_version = settings
            .engine_version
            .or_else(|| candidate.image.version_of(engine.kind()));
        unsaid::settle(&mut settings, candidate, engine.kind());
        Some(settings)
    })
}

/// Prefixes of variables that engines read themselves, whatever the command line says.
const VARIABLES: &[&str] = &[
    "MODEL_ID",
    "MODEL_NAME",
    "MODEL_PATH",
    "NUM_SHARD",
    "MAX_TOTAL_TOKENS",
    "MAX_BATCH",
    "QUANTIZE",
    "DTYPE",
    "CUDA_MEMORY_FRACTION",
    "VLLM_ADDITIONAL_ARGS",
    "NIM_",
    "LLAMA_ARG_",
    "OLLAMA_",
    "INFINITY_",
    "DYN_SYSTEM_PORT",
    "DYN_TRTLLM_",
];

pub fn reads_variable(name: &str) -> bool {
    VARIABLES.iter().any(|v| name.starts_with(v))
}

/// What a container is when it is no server: exporter, notebook, trainer, router, placeholder.
pub fn role(spec: &ContainerSpec) -> Option<ContainerRole> {
    let launch = command::launch(spec, &Places::default());
    role::of(&Image::parse(&spec.image), &launch.ran)
}

impl<'a> Candidate<'a> {
    fn new(spec: &'a ContainerSpec, launch: &'a Launch, places: &'a Places, ran: &[Ran]) -> Self {
        Self {
            spec,
            image: Image::parse(&spec.image),
            commands: ran.iter().map(|r| r.words.clone()).collect(),
            entrypoint: spec.command.is_empty(),
            files: &launch.files,
            places,
            unread: RefCell::default(),
            first: RefCell::default(),
        }
    }

    /// The flags of a server's command line, of which is kept what could not be read.
    fn flags(&self, words: &[String], switches: &[&str]) -> Flags {
        let flags = Flags::parse(words, switches);
        unsaid::of_flags(self, &flags);
        flags
    }

    /// A setting is stated there, and could not be read.
    fn is_unread(&self, setting: Setting, place: impl Into<String>) {
        self.unread.borrow_mut().push(UnreadSetting {
            setting,
            place: place.into(),
        });
    }

    /// The words after the program, for the first command that `is_program` accepts.
    fn after(&self, is_program: impl Fn(&[String]) -> Option<usize>) -> Option<&[String]> {
        self.commands
            .iter()
            .find_map(|words| is_program(words).map(|at| &words[at.min(words.len())..]))
    }

    /// A worker of NVIDIA Dynamo: it has no API of its own.
    fn runs_in_dynamo(&self) -> bool {
        self.after(|words| behind_module(words, |m| m.starts_with("dynamo.")))
            .is_some()
    }

    /// The settings of a YAML configuration file as flags; empty where it was not read or is none: then nobody knows what it
    /// sets.
    fn config_words(&self, path: Option<&str>, section: Option<&str>) -> Vec<String> {
        let Some(path) = path else { return Vec::new() };
        // Of a file that is not read the flag itself tells ([`unsaid::of_flags`]).
        let Some(Ok(value)) = self.file(path).map(|text| serde_saphyr::from_str::<Value>(&text)) else {
            return Vec::new();
        };
        let of = section.map_or(&value, |section| &value[section]);
        let mut words = flags::of_yaml(of);
        for word in &mut words {
            if let Cow::Owned(marked) = unread::mark_placeholders(word, self.places) {
                *word = marked;
            }
        }
        words
    }

    /// The text of a file, where it is known.
    fn file(&self, path: &str) -> Option<String> {
        match self.files.get(path) {
            Some(written) => written.clone(),
            None => self
                .spec
                .files
                .iter()
                .find(|(p, _)| p == path)
                .map(|(_, text)| text.clone()),
        }
    }

    /// All words, where the image's entry point is the program and only arguments are given.
    fn entrypoint_args(&self) -> Option<&[String]> {
        self.entrypoint
            .then(|| self.commands.first().map_or(&[][..], Vec::as_slice))
    }
}

/// Position behind `-m MODULE` or a program of that name, wherever it stands ("python3 -m sglang.launch_server").
pub fn behind_module(words: &[String], is_module: impl Fn(&str) -> bool) -> Option<usize> {
    let at = words.iter().position(|w| w == "-m")?;
    words.get(at + 1).filter(|m| is_module(m)).map(|_| at + 2)
}

/// Position behind the program whose base name is `name`, in the first few words (after env, nice, numactl, uv run …).
pub fn behind_program(words: &[String], name: &str) -> Option<usize> {
    words
        .iter()
        .take(8)
        .position(|w| w.rsplit('/').next() == Some(name))
        .map(|at| at + 1)
}

/// A count as engines accept it: "32768", "32k" (10^3), "32K" (2^10), "1.5m". "auto" and negative values: not stated.
pub fn human_count(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, factor) = match text.char_indices().last()? {
        (at, 'k') => (&text[..at], 1e3),
        (at, 'K') => (&text[..at], 1024.0),
        (at, 'm') => (&text[..at], 1e6),
        (at, 'M') => (&text[..at], 1_048_576.0),
        (at, 'g') => (&text[..at], 1e9),
        (at, 'G') => (&text[..at], 1_073_741_824.0),
        _ => (text, 1.0),
    };
    let number: f64 = digits.parse().ok()?;
    (number > 0.0 && number.is_finite()).then_some((number * factor).round() as u64)
}

#[cfg(test)]
mod argument_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unread_tests;
