//! Metrics pages: what an engine or a GPU exporter says, in the snapshot's units.
//!
//! A page is cut down to the wanted metric names byte by byte, then prometheus-parse reads what is left.

pub mod devices;
pub mod exporter;
pub mod figures;
pub mod identity;
pub mod page;
pub mod plausible;
pub mod vocabulary;

use crate::engine::Engine;
use crate::engines::ENGINES;
use crate::registry::Registry;
use crate::snapshot::engine::{EngineReading, Histogram, ServerIdentity};
use crate::snapshot::server::EngineKind;
use figures::{LOAD, LoadFigure, LoadKind, Place, complete};
use gpuwaste_facts::limits::{self, Card, Impossible, Quantity, Says, divisor};
use jiff::Timestamp;
pub use page::{Page, filter};
use vocabulary::{Series, Vocabulary};

/// What one engine's page told.
#[derive(Clone, Debug, PartialEq)]
pub struct EnginePage {
    pub engine: EngineKind,
    pub reading: EngineReading,
    pub identity: ServerIdentity,
    pub process_started_at: Option<Timestamp>,
    /// What can be no reading; it is not in `reading`.
    pub impossible: Vec<(LoadFigure, Impossible)>,
}

/// Reads an engine's metrics page; `None`: it holds none of the engines' metrics (HTML, another program, cut off before them).
///
/// `expected` decides between engines that use the same bare names (NIM).
pub fn engine_page(text: &[u8], at: Timestamp, expected: Option<EngineKind>) -> Option<EnginePage> {
    ENGINES.page(text, at, expected)
}

impl Registry<'_> {
    /// [`engine_page`] among these engines.
    pub fn page(&self, text: &[u8], at: Timestamp, expected: Option<EngineKind>) -> Option<EnginePage> {
        let page = Page::parse(text, |name| self.is_wanted(name));
        let shown = |v: &Vocabulary| {
            let mut markers = v.markers.iter().flat_map(|m| v.names(m));
            markers.any(|m| {
                let name = page_name(&m);
                page.has(&name) && v.label.is_none_or(|label| page.label(&name, label).is_some())
            })
        };
        let vocabularies = self.vocabularies(expected);
        let found = vocabularies.iter().find(|(_, v)| shown(v));
        // A worker without metrics of its own is known by what its platform counts.
        let counted = || self.platforms().iter().any(|p| shown(p));
        let (engine, vocabulary) = *found.or_else(|| vocabularies.first().filter(|_| counted()))?;
        let kind = engine.facts().kind;
        let wraps = |own: EngineKind| {
            let own = self.of(own).map(Engine::facts);
            own.is_some_and(|f| f.vocabulary.instead.contains(&kind))
        };
        let mut reading = reading(&page, vocabulary, at);
        engine.complete(&page, &mut reading);
        for beside in vocabulary.beside.iter().filter_map(|k| self.of(*k)) {
            complete(&mut reading, self::reading(&page, &beside.facts().vocabulary, at));
        }
        for platform in self.platforms() {
            complete(&mut reading, self::reading(&page, platform, at));
        }
        answered(&page, &mut reading);
        let impossible = drop_impossible(&mut reading);
        let mut identity = ServerIdentity::default();
        engine.identify(&page, &mut identity);
        identity.served_names = served_name(&page, vocabulary).into_iter().collect();
        Some(EnginePage {
            engine: expected.filter(|own| wraps(*own)).unwrap_or(kind),
            reading,
            identity,
            process_started_at: process_start(&page),
            impossible,
        })
    }

    /// Reads one answer of a server about itself into its identity. What is not understood changes nothing.
    pub fn identify(&self, engine: EngineKind, path: &str, body: &[u8], identity: &mut ServerIdentity) {
        let known = self.of(engine).map_or(&[][..], |e| e.facts().endpoints.identity);
        if let Some(answer) = known.iter().find(|i| i.path == path)
            && let Ok(value) = serde_json::from_slice(body)
        {
            (answer.read)(&value, identity);
        }
    }
}

pub(crate) const PROCESS_START: &str = "process_start_time_seconds";

/// Requests that the server's HTTP front answered (prometheus-fastapi-instrumentator; vLLM and others run it).
pub(crate) const ANSWERED: &str = "http_requests_total";

/// What the HTTP front answered is work, where the engine itself counts none: its counters are another process' or switched off.
fn answered(page: &Page, reading: &mut EngineReading) {
    let serves = |label: &page::Labels<'_>| {
        let path = label("handler").unwrap_or_default();
        // "/v1/chat/completions", "/v1/embeddings", "/generate"; no probes, lists of models or tokenizers.
        let of_models = [
            "completions",
            "embeddings",
            "responses",
            "messages",
            "generate",
            "score",
            "rerank",
            "pooling",
            "transcriptions",
        ]
        .iter()
        .any(|w| path.ends_with(w));
        of_models && label("method") == Some("POST") && label("status").is_some_and(|s| s.starts_with('2'))
    };
    if reading.requests == Some(0.0)
        && let Some(n) = page.sum_where(ANSWERED, serves).filter(|n| *n > 0.0)
    {
        reading.requests = Some(n);
    }
}

fn process_start(page: &Page) -> Option<Timestamp> {
    let seconds = page.max(&[PROCESS_START])?;
    (seconds > 1e9 && seconds < 1e11).then(|| Timestamp::from_microsecond((seconds * 1e6) as i64).ok())?
}

/// Pages are read with `_` for `:` (prometheus-parse knows no colon; Ray replaces it too).
fn page_name(name: &str) -> String {
    name.replace(':', "_")
}

fn reading(page: &Page, vocabulary: &Vocabulary, at: Timestamp) -> EngineReading {
    let mut reading = EngineReading::nothing(at);
    for row in LOAD {
        let mut found = vocabulary.series(row.figure).iter().flat_map(|series| {
            let names = vocabulary.names(series.name).map(|n| page_name(&n));
            names.map(move |name| (name, series))
        });
        match row.place {
            Place::Number(_, place) => {
                let value = found.find_map(|(name, series)| number(page, &name, series, row.kind));
                *place(&mut reading) = value;
            }
            Place::Histogram(_, place) => *place(&mut reading) = found.find_map(|(name, _)| histogram(page, &name)),
        }
    }
    reading
}

fn number(page: &Page, name: &str, series: &Series, kind: LoadKind) -> Option<f64> {
    let counts = |label: &page::Labels<'_>| series.rows.count(label);
    match kind {
        LoadKind::Share => page.max_where(name, counts).map(share),
        _ => page.sum_where(name, counts),
    }
}

/// A share of 0–1; some engines and collectors write percent.
fn share(value: f64) -> f64 {
    value / divisor(Says::Ratio, [value]).unwrap_or(1.0)
}

/// Takes out of a reading what can be none.
fn drop_impossible(reading: &mut EngineReading) -> Vec<(LoadFigure, Impossible)> {
    let mut dropped = Vec::new();
    for row in LOAD {
        let error = match row.place {
            Place::Number(get, _) => get(reading).and_then(|v| limits::check(row.quantity, v, &Card::UNKNOWN).err()),
            Place::Histogram(get, _) => get(reading).and_then(|h| impossible(row.quantity, h)),
        };
        if let Some(error) = error {
            row.place.clear(reading);
            dropped.push((row.figure, error));
        }
    }
    dropped
}

/// Why a histogram is none: its count, or the mean of what it observed.
pub fn impossible(quantity: Quantity, histogram: &Histogram) -> Option<Impossible> {
    let count = limits::check(Quantity::Count, histogram.count, &Card::UNKNOWN);
    let mean = (histogram.count > 0.0).then(|| histogram.sum / histogram.count);
    let mean = mean.map(|m| limits::check(quantity, m, &Card::UNKNOWN));
    count.err().or_else(|| mean?.err())
}

/// All label sets of a histogram in one.
fn histogram(page: &Page, name: &str) -> Option<Histogram> {
    let count = page.sum(&[&format!("{name}_count")])?;
    let sum = page.sum(&[&format!("{name}_sum")])?;
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for (bound, value) in page.by_label(&format!("{name}_bucket"), "le") {
        if let Some(bound) = bound.parse::<f64>().ok().filter(|b| b.is_finite()) {
            buckets.push((bound, value));
        }
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    Some(Histogram { sum, count, buckets })
}

/// The model as the server calls it. SGLang 0.3.5 wrote `name`.
fn served_name(page: &Page, vocabulary: &Vocabulary) -> Option<String> {
    let markers = vocabulary.markers.iter().flat_map(|m| vocabulary.names(m));
    let named = markers.map(|m| page_name(&m)).find_map(|m| {
        let mut labels = ["model_name", "model", "name"].iter();
        labels.find_map(|label| page.label(&m, label))
    });
    named.filter(|m| !m.is_empty())
}

#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod smi_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traps;
