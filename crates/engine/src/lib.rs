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
mod others;
mod role;
mod sglang;
mod tgi;
mod triton;
mod trtllm;
mod vllm;

use gpuwaste_facts::{snapshot, units};

use crate::snapshot::cluster::ContainerRole;
use crate::snapshot::server::{EngineKind, EngineSettings};
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
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.as_deref())
    }
}

/// A container as the engines look at it: the image taken apart, the command line as words.
pub struct Candidate<'a> {
    pub spec: &'a ContainerSpec,
    pub image: image::Image,
    /// Each simple command that would run; without a program's name where only `args` are given.
    pub commands: Vec<Vec<String>>,
    /// Only `args`: the image's entry point is the program.
    pub entrypoint: bool,
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

/// The engine that a container runs, with its settings; `None`: not a known server.
pub fn recognise(spec: &ContainerSpec) -> Option<EngineSettings> {
    if role::role(spec).is_some() {
        return None;
    }
    let candidate = Candidate::new(spec);
    ENGINES.iter().find_map(|engine| {
        let mut settings = engine.recognise(&candidate)?;
        settings.engine = Some(engine.kind());
        if candidate.runs_in_dynamo() {
            settings.dynamo = true;
            settings.port = spec.env("DYN_SYSTEM_PORT").and_then(|p| p.parse().ok());
        }
        settings.engine_version = settings
            .engine_version
            .or_else(|| candidate.image.version_of(engine.kind()));
        // A variable that could not be resolved names nothing.
        settings.model = settings.model.filter(|m| !m.is_empty() && !m.contains("$("));
        settings.served_names.retain(|n| !n.is_empty() && !n.contains("$("));
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
    role::role(spec)
}

impl<'a> Candidate<'a> {
    fn new(spec: &'a ContainerSpec) -> Self {
        Self {
            spec,
            image: image::Image::parse(&spec.image),
            commands: command::commands(spec),
            entrypoint: spec.command.is_empty(),
        }
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

    /// The settings of a YAML configuration file as flags; empty where it was not read or is none.
    fn config_words(&self, path: Option<&str>, section: Option<&str>) -> Vec<String> {
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
    fn entrypoint_args(&self) -> Option<&[String]> {
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
mod tests;
