//! How wide the bands are: the steps' own bands, times how far they were off on servers of other threads.
//!
//! `data/bands.csv` holds a factor for each regime, made by `tests/fit/bands.py` from logged start-ups: conformal prediction
//! with the thread as the unit, so that nine of ten servers that the model never saw lie inside.

use super::amount::Amount;
use super::defaults::Rules;
use super::memory::Case;
use super::paths;
use crate::catalog::models::LayerKind;
use crate::units::Bytes;
use std::sync::OnceLock;

const DATA: &str = include_str!("data/bands.csv");
/// What no step accounts for, whatever the card: two starts of one server differ by up to 0.3 GiB, allocators round. The half
/// GiB is the floor that makes the bands of other threads narrowest at the same coverage.
const FLOOR: f64 = 0.5 * Bytes::GIB;

static BOOK: OnceLock<Vec<Row>> = OnceLock::new();

/// One regime's factor; `None` in a column: whatever it is.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    engine: Option<String>,
    version: Option<bool>,
    hybrid: Option<bool>,
    several: Option<bool>,
    /// Threads behind the factor.
    threads: u32,
    factor: f64,
}

/// Where a band comes from: the server's regime, what the steps' own bands are, and what residuals make of them.
#[derive(Clone, Debug, PartialEq)]
pub struct BandSource {
    /// "vllm-v0", "vllm", "sglang", "trtllm" …
    pub engine: &'static str,
    pub version_known: bool,
    /// Windows, recurrent or compressed layers beside full attention.
    pub hybrid: bool,
    pub several_gpus: bool,
    /// Independent threads behind the factor; 0: none, the steps' own band.
    pub threads: u32,
    pub factor: f64,
    /// Bytes that the steps' own band reaches below and above the estimate.
    pub below: f64,
    pub above: f64,
}

/// Bands of one's own servers instead of the built-in ones, for the whole process; the first call wins.
///
/// Errors: what is wrong with which line.
pub fn replace(text: &str) -> Result<(), String> {
    let rows = parse(text)?;
    if BOOK.set(rows).is_err() {
        return Err("the bands are in use already".into());
    }
    Ok(())
}

fn parse(text: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (at, line) in text.lines().enumerate().skip(1).filter(|(_, l)| !l.trim().is_empty()) {
        let wrong = |what: &str| format!("line {}: {what}", at + 1);
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [engine, version, hybrid, several, threads, factor] = fields.as_slice() else {
            return Err(wrong(
                "six fields are needed: engine,version,hybrid,several,threads,factor",
            ));
        };
        let flag = |text: &str| match text {
            "any" => Ok(None),
            "yes" => Ok(Some(true)),
            "no" => Ok(Some(false)),
            other => Err(wrong(&format!("'{other}' is none of any, yes, no"))),
        };
        rows.push(Row {
            engine: (*engine != "any").then(|| (*engine).to_string()),
            version: flag(version)?,
            hybrid: flag(hybrid)?,
            several: flag(several)?,
            threads: threads.parse().map_err(|_| wrong("threads are a count"))?,
            factor: factor
                .parse()
                .ok()
                .filter(|f| (0.05..=20.0).contains(f))
                .ok_or_else(|| wrong("the factor is a number between 0.05 and 20"))?,
        });
    }
    if rows.is_empty() {
        return Err("no bands in it".into());
    }
    Ok(rows)
}

fn book() -> &'static [Row] {
    BOOK.get_or_init(|| parse(DATA).unwrap_or_default())
}

impl Row {
    fn holds(&self, of: &BandSource) -> bool {
        self.engine.as_deref().is_none_or(|e| e == of.engine)
            && self.version.is_none_or(|v| v == of.version_known)
            && self.hybrid.is_none_or(|h| h == of.hybrid)
            && self.several.is_none_or(|s| s == of.several_gpus)
    }
}

/// The band of a pool as residuals of other threads say, and where it comes from.
pub(super) fn widened(case: &Case<'_>, pool: Amount) -> (Amount, BandSource) {
    let total = case.total.0 as f64;
    let mut source = regime(case);
    source.below = pool.value - pool.low + FLOOR;
    source.above = pool.high - pool.value + FLOOR;
    // The file has the narrowest regimes first.
    if let Some(row) = book().iter().find(|r| r.holds(&source)) {
        (source.factor, source.threads) = (row.factor, row.threads);
    }
    let band = Amount {
        low: pool.value - source.factor * source.below,
        value: pool.value,
        high: (pool.value + source.factor * source.above).min(total).max(pool.value),
    };
    (band, source)
}

fn regime(case: &Case<'_>) -> BandSource {
    let windows = |kind: &LayerKind| {
        matches!(
            kind,
            LayerKind::Sliding { .. } | LayerKind::Chunked { .. } | LayerKind::Compressed { .. }
        )
    };
    BandSource {
        engine: match case.engine.rules {
            Rules::VllmV0 => "vllm-v0",
            Rules::VllmV1 => "vllm",
            Rules::Sglang => "sglang",
            Rules::Trtllm => "trtllm",
            Rules::Tgi => "tgi",
            Rules::LlamaCpp => "llamacpp",
            Rules::Plain => "plain",
        },
        version_known: case.engine.version.is_some(),
        hybrid: paths::is_hybrid(case.model) || case.model.groups.iter().any(|g| windows(&g.kind)),
        several_gpus: case.parallelism.gpus() > 1,
        threads: 0,
        factor: 1.0,
        below: 0.0,
        above: 0.0,
    }
}
