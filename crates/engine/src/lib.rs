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
pub mod metrics;
mod registry;
mod role;

use gpuwaste_facts::{snapshot, units};

use crate::snapshot::cluster::ContainerRole;
use crate::snapshot::server::{EngineKind, EngineSettings, Setting};
pub use engine::{Endpoints, Engine, Facts, IdentityPath, MemoryRules, Routers, Variable, Versions, Width};
pub use engines::ENGINES;
pub use flags::Flags;
pub use metrics::figures::LoadFigure;
pub use metrics::vocabulary::Tells;
pub use registry::{Name, Registry};
use serde_json::Value;

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
}

impl ContainerSpec {
    fn env(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.as_deref())
    }
}

/// A container as an engine looks at it: the image taken apart, the command line as words, its own variables.
pub struct Candidate<'a> {
    spec: &'a ContainerSpec,
    pub image: image::Image,
    /// Each simple command that would run; without a program's name where only `args` are given.
    pub commands: Vec<Vec<String>>,
    /// Only `args`: the image's entry point is the program.
    pub entrypoint: bool,
    variables: &'static [Variable],
}

/// Where NVIDIA Dynamo puts a worker's metrics, whatever engine is in it.
const DYNAMO_PORT: Variable = Variable::new("DYN_SYSTEM_PORT", Setting::Other);

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

/// The engine that a container runs, with its settings; `None`: not a known server.
pub fn recognise(spec: &ContainerSpec) -> Option<EngineSettings> {
    ENGINES.recognise(spec)
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
    fn new(spec: &'a ContainerSpec, variables: &'static [Variable]) -> Self {
        Self {
            spec,
            image: image::Image::parse(&spec.image),
            commands: command::commands(spec),
            entrypoint: spec.command.is_empty(),
            variables,
        }
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
        self.variables.iter().any(|v| v.is(name))
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

    /// The settings of a YAML configuration file as flags; empty where it was not read or is none.
    pub fn config_words(&self, path: Option<&str>, section: Option<&str>) -> Vec<String> {
        let Some(path) = path else { return Vec::new() };
        let of = |files: &[(String, String)]| files.iter().find(|(p, _)| p == path).map(|(_, text)| text.clone());
        let content = of(&self.spec.files).or_else(|| of(&command::written(self.spec)));
        let Some(Ok(value)) = content.map(|text| serde_saphyr::from_str::<Value>(&text)) else {
            return Vec::new();
        };
        let of = section.map_or(&value, |section| &value[section]);
        flags::of_yaml(of)
    }

    /// All words, where the image's entry point is the program and only arguments are given.
    pub fn entrypoint_args(&self) -> Option<&[String]> {
        self.entrypoint
            .then(|| self.commands.first().map_or(&[][..], Vec::as_slice))
    }
}

/// The model behind a storage URI: "hf://org/model:revision" is the id; anything else as it is written, without what may
/// hold credentials.
pub fn model_of_uri(uri: &str) -> String {
    if let Some(id) = uri.strip_prefix("hf://") {
        return id.split([':', '@']).next().unwrap_or(id).to_string();
    }
    let plain = uri.split(['?', '#']).next().unwrap_or(uri);
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, None), |(h, p)| (h, Some(p)));
            let host = host.rsplit('@').next().unwrap_or(host);
            path.map_or(format!("{scheme}://{host}"), |p| format!("{scheme}://{host}/{p}"))
        }
        None => plain.to_string(),
    }
}

/// Names the model where a container knows only the place it is mounted at.
pub fn mounted(settings: &mut EngineSettings, model: &str) {
    let own = settings.model.as_deref();
    if own.is_none_or(|m| m.starts_with('/') || m == "dir") {
        settings.model = Some(model.to_string());
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
