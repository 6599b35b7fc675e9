//! The fitted constants: `data/speed-constants.csv`, written by tests/fit/fit_speed.py with the points and the independent
//! sources behind each. A constant has a common value and deviations (in log units, shrunk towards 0) of architectures,
//! engines and precisions.

use super::card::{Architecture, Path};
use crate::Roofline;
use std::collections::HashMap;
use std::sync::LazyLock;

const ROWS: &str = include_str!("../data/speed-constants.csv");

/// Nothing reads faster than the memory is; the fit is held below this share of the peak, too.
const MOST_BANDWIDTH: f64 = 0.95;

/// parameter → scope → value.
static TABLE: LazyLock<HashMap<&'static str, HashMap<&'static str, f64>>> = LazyLock::new(|| {
    let mut table: HashMap<&'static str, HashMap<&'static str, f64>> = HashMap::new();
    // The first three columns are words and numbers without commas.
    for line in ROWS.lines().skip(1) {
        let mut cells = line.split(',');
        if let (Some(parameter), Some(scope), Some(Ok(value))) =
            (cells.next(), cells.next(), cells.next().map(str::parse::<f64>))
        {
            table.entry(parameter).or_default().insert(scope, value);
        }
    }
    table
});

/// A row of the file; 0 where it has none (a deviation that nobody measured).
pub(super) fn value(parameter: &str, scope: &str) -> f64 {
    TABLE.get(parameter).and_then(|s| s.get(scope)).copied().unwrap_or(0.0)
}

/// Constants of the errors, which hold everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fixed {
    /// Spreads by which the value leans to the slow side.
    pub(super) lean: f64,
    /// Correlation of residuals of one model, card and engine.
    pub(super) same_source: f64,
    pub(super) other_source: f64,
    /// Sizes of the errors: a floor, then memory, arithmetic, link, launches, host.
    pub(super) floor: f64,
    pub(super) causes: [f64; 5],
}

pub(super) fn fixed() -> &'static Fixed {
    static FIXED: LazyLock<Fixed> = LazyLock::new(|| Fixed {
        lean: value("lean", ""),
        same_source: value("correlation", "same-source"),
        other_source: value("correlation", "other-source"),
        floor: value("error", "floor"),
        causes: ["memory", "arithmetic", "link", "launches", "host"].map(|c| value("error", c)),
    });
    &FIXED
}

/// The constants as they hold for one placement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Resolved {
    /// Share of the card's peak bandwidth; of that, what experts reach.
    pub(super) bandwidth: f64,
    pub(super) expert_bandwidth: f64,
    /// Shares of the peak FLOPS.
    pub(super) compute: f64,
    pub(super) expert_compute: f64,
    pub(super) attention_compute: f64,
    /// Seconds of a kernel, of a step, of a sequence in it, of an all-reduce.
    pub(super) kernel: f64,
    pub(super) step: f64,
    pub(super) sequence: f64,
    pub(super) hop: f64,
    /// Share of the link's nominal rate.
    pub(super) link: f64,
}

pub(super) fn resolve(r: &Roofline) -> Resolved {
    let engine = r.engine.name();
    let weights = match r.weight_bits {
        b if b < 6.0 => "weights-4",
        b if b < 12.0 => "weights-8",
        _ => "weights-16",
    };
    let compute = match r.compute_bits {
        4 => "compute-4",
        8 => "compute-8",
        _ => "compute-16",
    };
    let mixture = r.experts > 0.0 && r.card.architecture == Architecture::Cdna;
    let kind = if mixture { "cdna-mixture" } else { "" };
    let scopes = [r.card.architecture.name(), engine, weights, compute, kind];
    // A constant's own row has the empty scope.
    let deviations = || scopes.iter().filter(|s| !s.is_empty());
    let log = |parameter: &str| deviations().map(|scope| value(parameter, scope)).sum::<f64>().exp();
    let of = |parameter: &str| value(parameter, "") * log(parameter);
    let held = r
        .card
        .tflops_per_watt
        .unwrap_or(1.0)
        .max(f64::MIN_POSITIVE)
        .powf(-value("power", ""));
    let path = r.card.path(r.tensor).path;
    Resolved {
        bandwidth: of("bandwidth").min(MOST_BANDWIDTH),
        expert_bandwidth: log("expert_bandwidth"),
        compute: of("compute") * held,
        expert_compute: of("expert_compute") * held,
        attention_compute: of("attention_compute") * held,
        kernel: of("kernel"),
        step: of("step"),
        sequence: of("sequence"),
        hop: of(if matches!(path, Path::Pcie | Path::Host) {
            "hop_pcie"
        } else {
            "hop"
        }),
        link: match path {
            Path::Switch => value("link_switch", ""),
            Path::Mesh => value("link_mesh", ""),
            Path::Pcie => value("link_pcie", ""),
            Path::Host => value("link_host", ""),
            Path::None => 1.0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speed::{Card, Engine};

    #[test]
    fn every_constant_is_there_and_in_its_range() {
        for name in [
            "bandwidth",
            "compute",
            "expert_compute",
            "attention_compute",
            "link_switch",
            "link_mesh",
            "link_pcie",
            "link_host",
        ] {
            let v = value(name, "");
            assert!(v > 0.01 && v < 1.0, "{name}: {v}");
        }
        for name in ["kernel", "step", "sequence", "hop", "hop_pcie"] {
            let v = value(name, "");
            assert!(v > 1e-7 && v < 0.01, "{name}: {v} s");
        }
        for kind in ["dense", "mixture"] {
            let of = |end: &str, class: &str| value(&format!("interval_{end}"), &format!("{class}/{kind}"));
            assert!(of("low", "seen") < 0.0 && of("high", "seen") > 0.0, "{kind}");
            assert!(of("low", "new-model") <= of("low", "seen"), "{kind}");
            assert!(of("high", "new-model") >= of("high", "seen"), "{kind}");
        }
        assert!(value("ratio", "far") > 0.0 && value("first_token_open", "high") > 0.0);
    }

    #[test]
    fn every_row_says_what_is_behind_it() {
        let mut reader = csv::Reader::from_reader(ROWS.as_bytes());
        for row in reader.records() {
            let row = row.expect("a row");
            let (points, sources) = (row[3].parse::<u32>(), row[4].parse::<u32>());
            let prior = row[6].starts_with("prior");
            assert!(
                points.is_ok_and(|n| n > 0) != prior && sources.is_ok_and(|n| n > 0) != prior,
                "{row:?}"
            );
            assert!(!row[6].is_empty(), "{row:?}");
        }
    }

    #[test]
    fn an_architecture_that_nobody_measured_has_the_common_constants() {
        let r = Roofline {
            tensor: 1,
            weight_bits: 16.0,
            compute_bits: 16,
            engine: Engine::Vllm,
            card: Card {
                architecture: Architecture::Other,
                ..Card::default()
            },
            ..Roofline::default()
        };
        let c = resolve(&r);
        assert_eq!((c.bandwidth, c.kernel), (value("bandwidth", ""), value("kernel", "")));
        assert_eq!(c.expert_bandwidth, 1.0);
    }
}
