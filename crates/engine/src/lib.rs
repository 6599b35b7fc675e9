//! Serving engines: how each is recognised in a container, how its settings are read, which metrics it has.
//!
//! One file an engine, one line in [`ENGINES`]. Nothing here does I/O, and nothing raw leaves it: what a container's
//! command, arguments and environment hold goes in, settings by name come out.

// Tests compare figures that must be exact.
#![cfg_attr(test, allow(clippy::float_cmp))]

mod command;
mod engine;
mod engines;
pub mod exporters;
mod flags;
mod image;
mod memory_flags;
pub mod metrics;
mod names;
mod registry;
mod role;
mod several;
mod shell;
mod unread;
mod unsaid;
mod uri;

pub use image::{Image, built_for};
pub use unread::{has_placeholder, has_stand_in, is_to_be_replaced, placeholder_in};
pub use uri::{model_of_uri, mounted};

use gpuwaste_facts::{snapshot, units};

use crate::snapshot::cluster::ContainerRole;
use crate::snapshot::server::{EngineKind, EngineSettings, Setting, UnreadSetting};
use command::Launch;
pub use engine::{Endpoints, Engine, Facts, Form, IdentityPath, MemoryRules, Routers, Variable, Versions, Width};
pub use engines::ENGINES;
pub use flags::Flags;
pub use metrics::figures::LoadFigure;
pub use metrics::vocabulary::Tells;
pub use registry::{Name, Registry};
use serde_json::Value;
use shell::Ran;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
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
    fn env(&self, name: &str) -> Option<&str> {
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

/// A container as an engine looks at it: the image taken apart, the command line as words, its own variables.
pub struct Candidate<'a> {
    spec: &'a ContainerSpec,
    pub image: Image,
    /// Each simple command that would run; without a program's name where only `args` are given.
    pub commands: Vec<Vec<String>>,
    /// Only `args`: the image's entry point is the program.
    pub entrypoint: bool,
    /// The variables of the engine that looks.
    variables: Cell<&'static [Variable]>,
    /// What its script writes, and what could not be read of anything.
    files: &'a BTreeMap<String, Option<String>>,
    places: &'a Places,
    unread: RefCell<Vec<UnreadSetting>>,
    /// Where the first word without a flag stands, if that was not read.
    first: RefCell<Option<String>>,
}

/// Where NVIDIA Dynamo puts a worker's metrics, whatever engine is in it.
const DYNAMO_PORT: Variable = Variable::new("DYN_SYSTEM_PORT", Setting::Other, Form::Count);

pub fn of(kind: EngineKind) -> Option<&'static dyn Engine> {
    ENGINES.of(kind)
}

/// What is said of an engine; `None`: of one that is not known.
pub fn facts(kind: Option<EngineKind>) -> Option<&'static Facts> {
    Some(of(kind?)?.facts())
}

/// How many GPUs a server takes where no setting says so; of an unknown engine nobody knows.
pub fn width(kind: Option<EngineKind>) -> Width {
    facts(kind).map_or(Width::Chosen, |f| f.width)
}

/// By whose rules a server lays out memory.
pub fn memory_rules(kind: Option<EngineKind>) -> MemoryRules {
    facts(kind).map_or(MemoryRules::Unknown, |f| f.memory)
}

/// Whether an engine tells a figure of load; an unknown one never does.
pub fn tells(kind: Option<EngineKind>, figure: LoadFigure) -> Tells {
    kind.map_or(Tells::Never, |kind| ENGINES.tells(kind, figure))
}

/// The engine that a container runs, with its settings, and what of them could not be read; `None`: not a known server.
pub fn recognise(spec: &ContainerSpec) -> Option<EngineSettings> {
    ENGINES.recognise(spec)
}

/// Where the program stands that a container starts, if that could not be read and nothing else tells what it is.
pub fn unread_program(spec: &ContainerSpec) -> Option<String> {
    ENGINES.unread_program(spec)
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

/// Whether an engine reads this environment variable itself, whatever the command line says.
pub fn reads_variable(name: &str) -> bool {
    ENGINES.variable(name).is_some()
}

/// What a container is when it is no server: exporter, notebook, trainer, router, placeholder.
pub fn role(spec: &ContainerSpec) -> Option<ContainerRole> {
    ENGINES.role(spec)
}

impl<'a> Candidate<'a> {
    fn new(spec: &'a ContainerSpec, launch: &'a Launch, places: &'a Places, ran: &[Ran]) -> Self {
        Self {
            spec,
            image: Image::parse(&spec.image),
            commands: ran.iter().map(|r| r.words.clone()).collect(),
            entrypoint: spec.command.is_empty(),
            variables: Cell::new(&[]),
            files: &launch.files,
            places,
            unread: RefCell::default(),
            first: RefCell::default(),
        }
    }

    /// The flags of a server's command line, of which is kept what could not be read.
    pub fn flags(&self, words: &[String], switches: &[&str]) -> Flags {
        let flags = Flags::parse(words, switches);
        unsaid::of_flags(self, &flags);
        flags
    }

    /// The words of a server that Python's `argparse` parses: abbreviated flags are written out.
    pub fn written_out(words: &[String], switches: &[&'static str]) -> Vec<String> {
        let mut all = words.to_vec();
        for word in &mut all {
            let Some(body) = word.strip_prefix("--") else { continue };
            let (name, value) = body
                .split_once('=')
                .map_or((body, None), |(name, value)| (name, Some(value)));
            if let Some(full) = names::abbreviated(&name.replace('_', "-"), switches) {
                *word = value.map_or_else(|| format!("--{full}"), |value| format!("--{full}={value}"));
            }
        }
        all
    }

    /// A setting is stated there, and could not be read.
    pub fn is_unread(&self, setting: Setting, place: impl Into<String>) {
        self.unread.borrow_mut().push(UnreadSetting {
            setting,
            place: place.into(),
        });
    }

    /// The value of one of the engine's own variables, where it was read.
    pub fn env(&self, name: &str) -> Option<&'a str> {
        self.is_own(name).then(|| self.spec.env(name)).flatten()
    }

    /// All of the engine's own variables whose values were read.
    pub fn variables(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let read = self.spec.env.iter().filter(|(name, _)| self.is_own(name));
        read.filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)))
    }

    fn is_own(&self, name: &str) -> bool {
        self.variables.get().iter().any(|v| v.is(name))
    }

    /// The words after the program, for the first command that `is_program` accepts.
    pub fn after(&self, is_program: impl Fn(&[String]) -> Option<usize>) -> Option<&[String]> {
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
    pub fn config_words(&self, path: Option<&str>, section: Option<&str>) -> Vec<String> {
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
    pub fn entrypoint_args(&self) -> Option<&[String]> {
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
mod made_up_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unread_tests;
