//! The figures of a serving engine's load: what each is, and where it stands in a reading. Names are in the engines' own
//! vocabularies, limits of what can be true in `facts::limits`.

use crate::snapshot::engine::{EngineReading, Histogram};

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

/// Where a figure stands in a reading.
#[derive(Clone, Copy)]
pub enum Place {
    Number(fn(&mut EngineReading) -> &mut Option<f64>),
    Histogram(fn(&mut EngineReading) -> &mut Option<Histogram>),
}

/// One figure.
pub struct LoadRow {
    pub figure: LoadFigure,
    pub kind: LoadKind,
    pub place: Place,
}

const fn number(figure: LoadFigure, kind: LoadKind, place: fn(&mut EngineReading) -> &mut Option<f64>) -> LoadRow {
    let place = Place::Number(place);
    LoadRow { figure, kind, place }
}

const fn histogram(figure: LoadFigure, place: fn(&mut EngineReading) -> &mut Option<Histogram>) -> LoadRow {
    let (kind, place) = (LoadKind::Histogram, Place::Histogram(place));
    LoadRow { figure, kind, place }
}

/// Every figure of load.
pub const LOAD: &[LoadRow] = &[
    number(LoadFigure::Running, LoadKind::Gauge, |r| &mut r.running),
    number(LoadFigure::Waiting, LoadKind::Gauge, |r| &mut r.waiting),
    number(LoadFigure::KvUsage, LoadKind::Share, |r| &mut r.kv_usage),
    number(LoadFigure::Requests, LoadKind::Counter, |r| &mut r.requests),
    number(LoadFigure::PromptTokens, LoadKind::Counter, |r| &mut r.prompt_tokens),
    number(LoadFigure::OutputTokens, LoadKind::Counter, |r| &mut r.output_tokens),
    number(LoadFigure::Preemptions, LoadKind::Counter, |r| &mut r.preemptions),
    number(LoadFigure::PrefixQueries, LoadKind::Counter, |r| &mut r.prefix_queries),
    number(LoadFigure::PrefixHits, LoadKind::Counter, |r| &mut r.prefix_hits),
    histogram(LoadFigure::RequestLatency, |r| &mut r.e2e_latency),
    histogram(LoadFigure::TimeToFirstToken, |r| &mut r.time_to_first_token),
    histogram(LoadFigure::InterTokenLatency, |r| &mut r.inter_token_latency),
    histogram(LoadFigure::PromptLength, |r| &mut r.prompt_length),
    histogram(LoadFigure::OutputLength, |r| &mut r.output_length),
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
            Place::Number(place) => {
                let value = *place(&mut other);
                let own = place(own);
                *own = own.or(value);
            }
            Place::Histogram(place) => {
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
            match row.place {
                Place::Number(place) => assert!(place(&mut reading).replace(1.0).is_none()),
                Place::Histogram(place) => assert!(place(&mut reading).replace(Histogram::default()).is_none()),
            }
        }
        assert_eq!(LoadFigure::OutputLength as usize + 1, LOAD.len());
        let mut empty = EngineReading::nothing(Timestamp::UNIX_EPOCH);
        complete(&mut empty, reading.clone());
        assert_eq!(empty, reading);
    }
}
