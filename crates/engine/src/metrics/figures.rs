//! The figures of a serving engine's load: what each is, and where it stands in a reading. Names are in the engines' own
//! vocabularies, limits of what can be true in `facts::limits`.

use crate::snapshot::engine::{EngineReading, Histogram};
use gpuwaste_facts::limits::Quantity;

/// A figure of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoadFigure {
    /// Requests in execution.
    Running,
    Waiting,
    /// The fullest engine's KV cache, 0–1.
    KvUsage,
    /// Requests finished, whatever the reason.
    Requests,
    PromptTokens,
    OutputTokens,
    /// Requests thrown out of the cache, to be computed again.
    Preemptions,
    /// Prompt tokens looked up in the prefix cache, and found there.
    PrefixQueries,
    PrefixHits,
    /// Seconds from arrival to the last token.
    RequestLatency,
    TimeToFirstToken,
    InterTokenLatency,
    /// Tokens of a request.
    PromptLength,
    OutputLength,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadKind {
    /// A number of now: summed over engines.
    Gauge,
    /// A share of now, 0–1: the largest of all engines.
    Share,
    /// Since the process started: summed over engines.
    Counter,
    /// Observations since the process started, by size.
    Histogram,
}

/// Where a figure stands in a reading: to look at it, and to change it.
#[derive(Clone, Copy)]
pub enum Place {
    Number(
        fn(&EngineReading) -> Option<f64>,
        fn(&mut EngineReading) -> &mut Option<f64>,
    ),
    Histogram(
        fn(&EngineReading) -> Option<&Histogram>,
        fn(&mut EngineReading) -> &mut Option<Histogram>,
    ),
}

impl Place {
    /// Takes the figure out.
    pub fn clear(self, reading: &mut EngineReading) {
        match self {
            Self::Number(_, place) => *place(reading) = None,
            Self::Histogram(_, place) => *place(reading) = None,
        }
    }
}

macro_rules! number {
    ($field:ident) => {
        Place::Number(|r| r.$field, |r| &mut r.$field)
    };
}

macro_rules! histogram {
    ($field:ident) => {
        Place::Histogram(|r| r.$field.as_ref(), |r| &mut r.$field)
    };
}

/// One figure.
pub struct LoadRow {
    pub figure: LoadFigure,
    /// For people.
    pub name: &'static str,
    pub kind: LoadKind,
    /// What it is a number of; of a histogram, what it has observations of.
    pub quantity: Quantity,
    /// What its growth a second is a number of; a counter's alone.
    pub rate: Option<Quantity>,
    pub place: Place,
}

const fn number(figure: LoadFigure, name: &'static str, kind: LoadKind, quantity: Quantity, place: Place) -> LoadRow {
    LoadRow {
        figure,
        name,
        kind,
        quantity,
        rate: None,
        place,
    }
}

const fn counter(figure: LoadFigure, name: &'static str, rate: Quantity, place: Place) -> LoadRow {
    LoadRow {
        rate: Some(rate),
        ..number(figure, name, LoadKind::Counter, Quantity::Count, place)
    }
}

const fn observed(figure: LoadFigure, name: &'static str, quantity: Quantity, place: Place) -> LoadRow {
    LoadRow {
        figure,
        name,
        kind: LoadKind::Histogram,
        quantity,
        rate: None,
        place,
    }
}

use LoadFigure as F;
use LoadKind::{Gauge, Share};
use Quantity as Q;

/// Every figure of load.
pub const LOAD: &[LoadRow] = &[
    number(F::Running, "requests running", Gauge, Q::Requests, number!(running)),
    number(F::Waiting, "requests waiting", Gauge, Q::Requests, number!(waiting)),
    number(F::KvUsage, "use of the KV cache", Share, Q::Share, number!(kv_usage)),
    counter(F::Requests, "requests", Q::RequestRate, number!(requests)),
    counter(F::PromptTokens, "prompt tokens", Q::PromptRate, number!(prompt_tokens)),
    counter(F::OutputTokens, "output tokens", Q::OutputRate, number!(output_tokens)),
    counter(F::Preemptions, "preemptions", Q::RequestRate, number!(preemptions)),
    counter(
        F::PrefixQueries,
        "prefix cache queries",
        Q::PromptRate,
        number!(prefix_queries),
    ),
    counter(F::PrefixHits, "prefix cache hits", Q::PromptRate, number!(prefix_hits)),
    observed(
        F::RequestLatency,
        "request latency",
        Q::Latency,
        histogram!(e2e_latency),
    ),
    observed(
        F::TimeToFirstToken,
        "time to first token",
        Q::Latency,
        histogram!(time_to_first_token),
    ),
    observed(
        F::InterTokenLatency,
        "inter-token latency",
        Q::Latency,
        histogram!(inter_token_latency),
    ),
    observed(F::PromptLength, "prompt length", Q::Length, histogram!(prompt_length)),
    observed(F::OutputLength, "output length", Q::Length, histogram!(output_length)),
];

impl LoadFigure {
    pub fn row(self) -> &'static LoadRow {
        // Every figure has a row: a test holds it.
        LOAD.iter().find(|row| row.figure == self).unwrap_or(&LOAD[0])
    }

    pub fn kind(self) -> LoadKind {
        self.row().kind
    }
}

/// Fills what `own` does not tell with what `other` does.
pub(super) fn complete(own: &mut EngineReading, mut other: EngineReading) {
    for row in LOAD {
        match row.place {
            Place::Number(get, place) => {
                let value = get(&other);
                let own = place(own);
                *own = own.or(value);
            }
            Place::Histogram(_, place) => {
                let value = place(&mut other).take();
                let own = place(own);
                *own = own.take().or(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn every_figure_has_one_row_and_a_place_of_its_own() {
        let mut reading = EngineReading::nothing(Timestamp::UNIX_EPOCH);
        for (i, row) in LOAD.iter().enumerate() {
            assert_eq!(row.figure.row().figure, row.figure);
            assert_eq!(row.figure as usize, i, "one row a figure, in their order");
            assert_eq!(row.rate.is_some(), row.kind == LoadKind::Counter, "{}", row.name);
            match row.place {
                Place::Number(_, place) => assert!(place(&mut reading).replace(1.0).is_none()),
                Place::Histogram(_, place) => assert!(place(&mut reading).replace(Histogram::default()).is_none()),
            }
        }
        assert_eq!(LoadFigure::OutputLength as usize + 1, LOAD.len());
        let mut empty = EngineReading::nothing(Timestamp::UNIX_EPOCH);
        complete(&mut empty, reading.clone());
        assert_eq!(empty, reading);
    }
}
