//! Questions to all engines together. Every one of them takes the list of engines from here, so that an engine is known
//! everywhere or nowhere.

use super::command::{self, Launch};
use super::engine::{Engine, Facts};
use super::image::Image;
use super::unread::Places;
use super::{Candidate, ContainerSpec, role, several, unsaid};
use crate::metrics::figures::LoadFigure;
use crate::metrics::vocabulary::{Series, Tells, Vocabulary};
use crate::snapshot::cluster::ContainerRole;
use crate::snapshot::server::{EngineKind, EngineSettings, Setting, UnreadSetting};
use std::borrow::Cow;

/// Engines, most specific first: the first that recognises a container has it.
#[derive(Clone, Copy)]
pub struct Registry<'a> {
    engines: &'a [&'a dyn Engine],
    /// Platforms that count the requests of whatever engine is in them; their word is the last.
    platforms: &'a [&'a Vocabulary],
}

/// One name of a figure, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    pub vocabulary: &'a Vocabulary,
    pub series: &'a Series,
}

/// The word that names what is started: an interpreter's script or module, else the first one.
fn program(words: &[String]) -> Option<&str> {
    let mut rest = words.iter().map(String::as_str);
    let first = rest.next()?;
    let name = first.rsplit('/').next().unwrap_or(first);
    let interprets = name.starts_with("python") || matches!(name, "exec" | "env" | "nohup" | "tini" | "uv");
    if !interprets {
        return Some(first);
    }
    rest.find(|w| !w.starts_with('-') && *w != "run")
}

impl<'a> Registry<'a> {
    pub const fn new(engines: &'a [&'a dyn Engine], platforms: &'a [&'a Vocabulary]) -> Self {
        Self { engines, platforms }
    }

    pub fn engines(&self) -> &'a [&'a dyn Engine] {
        self.engines
    }

    pub fn of(&self, kind: EngineKind) -> Option<&'a dyn Engine> {
        self.engines.iter().copied().find(|e| e.facts().kind == kind)
    }

    /// The engine that a container runs, with its settings, and what of them could not be read; `None`: not a known server.
    pub fn recognise(&self, spec: &ContainerSpec) -> Option<EngineSettings> {
        let places = Places::default();
        let launch = command::launch(spec, &places);
        if self.role_of(spec, &launch).is_some() {
            return None;
        }
        let spec = &*with_known_variables(spec, &launch);
        let whole = Candidate::new(spec, &launch, &places, &launch.ran);
        let (all, _) = self.settings(&whole)?;
        let mut found = several::servers(self, spec, &launch, &places).unwrap_or(all);
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

    /// Where the program stands that a container starts, if that could not be read and nothing else tells what it is.
    pub fn unread_program(&self, spec: &ContainerSpec) -> Option<String> {
        let places = Places::default();
        let launch = command::launch(spec, &places);
        let hidden = launch.ran.iter().find_map(|ran| places.of(program(&ran.words)?))?;
        (self.role_of(spec, &launch).is_none() && self.recognise(spec).is_none()).then_some(hidden.text)
    }

    /// The settings of the first engine that recognises the candidate, and what is said of it.
    pub(crate) fn settings(&self, candidate: &Candidate<'_>) -> Option<(EngineSettings, &'static Facts)> {
        self.engines.iter().find_map(|engine| {
            let facts = engine.facts();
            candidate.variables.set(facts.variables);
            candidate.unread.borrow_mut().clear();
            candidate.first.borrow_mut().take();
            let mut settings = engine.recognise(candidate)?;
            settings.engine = Some(facts.kind);
            if candidate.runs_in_dynamo() {
                settings.dynamo = true;
                settings.port = candidate.spec.env(super::DYNAMO_PORT.name).and_then(|p| p.parse().ok());
            }
            settings.engine_version = settings
                .engine_version
                .or_else(|| candidate.image.version_of(&facts.versions));
            unsaid::settle(&mut settings, candidate, facts);
            Some((settings, facts))
        })
    }

    /// What a container is when it is no server: exporter, notebook, trainer, router, placeholder.
    pub fn role(&self, spec: &ContainerSpec) -> Option<ContainerRole> {
        self.role_of(spec, &command::launch(spec, &Places::default()))
    }

    fn role_of(&self, spec: &ContainerSpec, launch: &Launch) -> Option<ContainerRole> {
        let routers = self.engines.iter().map(|e| &e.facts().routers);
        role::of(&Image::parse(&spec.image), &launch.ran, &routers.collect::<Vec<_>>())
    }

    /// The setting that an environment variable is for; `None`: no engine reads it.
    pub fn variable(&self, name: &str) -> Option<Setting> {
        let own = self.engines.iter().flat_map(|e| e.facts().variables);
        let found = own.chain([&super::DYNAMO_PORT]).find(|v| v.is(name))?;
        Some(found.sets)
    }

    /// Whether an engine tells a figure of load. One that runs other engines tells what they do.
    pub fn tells(&self, kind: EngineKind, figure: LoadFigure) -> Tells {
        let own = |vocabulary: &Vocabulary| {
            let series = vocabulary.series(figure);
            match series.iter().map(|s| s.sometimes).min() {
                None => Tells::Never,
                Some(true) => Tells::Sometimes,
                Some(false) => Tells::Always,
            }
        };
        let Some(vocabulary) = self.of(kind).map(|e| &e.facts().vocabulary) else {
            return Tells::Never;
        };
        let of = |kinds: &[EngineKind]| {
            let theirs = kinds.iter().filter_map(|k| Some(own(&self.of(*k)?.facts().vocabulary)));
            theirs.max().unwrap_or(Tells::Never)
        };
        own(vocabulary)
            .max(of(vocabulary.instead))
            .max(of(vocabulary.beside).min(Tells::Sometimes))
    }

    /// The vocabularies with the engines that they are of: those of the expected engine first.
    pub(crate) fn vocabularies(&self, expected: Option<EngineKind>) -> Vec<(&'a dyn Engine, &'a Vocabulary)> {
        let wanted = expected.and_then(|kind| self.of(kind)).map(|e| &e.facts().vocabulary);
        let instead = wanted.map_or(&[][..], |v| v.instead);
        let all = self.engines.iter().map(|e| (*e, &e.facts().vocabulary));
        let mut found: Vec<_> = all
            .filter(|(e, v)| !v.only_if_expected || Some(e.facts().kind) == expected)
            .collect();
        // What a platform says of itself is little beside the engine in it.
        found.sort_by_key(|(e, _)| {
            let kind = e.facts().kind;
            let place = instead.iter().position(|k| *k == kind);
            place.unwrap_or(if Some(kind) == expected { 100 } else { 200 })
        });
        found
    }

    pub(crate) fn platforms(&self) -> &'a [&'a Vocabulary] {
        self.platforms
    }

    /// Whether a sample's name (colons written as `_`) is one that any vocabulary reads.
    pub fn is_wanted(&self, name: &str) -> bool {
        if name.ends_with("_created") {
            return false;
        }
        [super::metrics::PROCESS_START, super::metrics::ANSWERED].contains(&name)
            || self.all().any(|v| has_name(v, name))
    }

    fn all(&self) -> impl Iterator<Item = &'a Vocabulary> + use<'a> {
        let own = self.engines.iter().map(|e| &e.facts().vocabulary);
        own.chain(self.platforms.iter().copied())
    }

    /// Matches, anchored, every name that a store is asked for.
    pub fn store_pattern(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for vocabulary in self.all().filter(|v| v.in_stores()) {
            if vocabulary.bare().is_some() {
                let names = vocabulary.figures.iter().flat_map(|t| t.series).map(|s| s.name);
                let names = names.map(without_suffix).collect::<std::collections::BTreeSet<_>>();
                let names = names.into_iter().collect::<Vec<_>>().join("|");
                parts.push(format!("({names})({})?", SUFFIXES.join("|")));
            } else {
                // Collectors between the server and the store may write `_` for `:`.
                parts.extend(
                    vocabulary
                        .prefixes
                        .iter()
                        .map(|p| format!("{}.+", p.replace(':', "[:_]"))),
                );
            }
        }
        parts.dedup();
        parts.join("|")
    }

    /// The names of one figure over all engines, by order of preference: of each engine's preferred names the first, then
    /// the older ones. Names of one group never stand on one pod together; those of different groups may.
    pub fn store_names(&self, figure: LoadFigure) -> Vec<Vec<Name<'a>>> {
        let mut groups: Vec<Vec<Name<'a>>> = Vec::new();
        for (place, vocabulary) in self.all().enumerate().filter(|(_, v)| v.in_stores()) {
            let platform = place >= self.engines.len();
            for (at, series) in vocabulary.series(figure).iter().enumerate() {
                let name = Name { vocabulary, series };
                // Bare names and a platform's are asked for themselves.
                if platform || vocabulary.bare().is_some() {
                    groups.push(vec![name]);
                } else {
                    if groups.len() <= at {
                        groups.resize_with(at + 1, Vec::new);
                    }
                    groups[at].push(name);
                }
            }
        }
        groups
    }
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

const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

fn without_suffix(name: &str) -> &str {
    let found = SUFFIXES.iter().find_map(|s| name.strip_suffix(s));
    found.unwrap_or(name)
}

fn has_name(vocabulary: &Vocabulary, name: &str) -> bool {
    if vocabulary.bare().is_none() {
        // Byte by byte, since this is asked of every name of a page.
        let starts = |prefix: &str| {
            let (prefix, name) = (prefix.as_bytes(), name.as_bytes());
            name.len() > prefix.len()
                && prefix
                    .iter()
                    .zip(name)
                    .all(|(p, n)| p == n || (*p == b':' && *n == b'_'))
        };
        return vocabulary.prefixes.iter().any(|p| starts(p));
    }
    let rest = |wanted: &str| {
        name.strip_prefix(wanted)
            .map(|rest| rest.is_empty() || SUFFIXES.contains(&rest))
    };
    let series = vocabulary.figures.iter().flat_map(|t| t.series).map(|s| s.name);
    let mut names = series.chain(vocabulary.markers.iter().copied());
    names.any(|n| rest(n) == Some(true))
}
