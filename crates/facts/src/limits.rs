//! What physics and arithmetic allow: one table for every reader of figures, live, of a store and of recordings. A figure
//! that breaks its limit is no reading: it is dropped with a gap, and is no witness for or against anything.

use crate::units::{Bytes, Watts};
use std::fmt;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Of a device, watts; also as the mean that an energy counter's growth tells.
    Power,
    /// Joules since the driver was loaded.
    Energy,
    /// Bytes of a device, used or in all.
    DeviceMemory,
    /// Of a whole: activity, utilization, use of a cache.
    Share,
    /// Requests running or waiting at once, of one server.
    Requests,
    /// Requests of one server a second.
    RequestRate,
    /// Tokens that one server reads a second, those of its prefix cache included.
    PromptRate,
    /// Tokens that one server writes a second.
    OutputRate,
    /// Tokens of one request.
    Length,
    /// Since a process started.
    Count,
    /// Seconds that a clock is ahead of this machine's.
    ClockLead,
    /// Seconds of one request, or between two tokens.
    Latency,
}

/// What is known of the card that a figure is of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Card {
    /// Its power limit as sold.
    pub tdp: Option<Watts>,
    pub memory: Option<Bytes>,
}

impl Card {
    pub const UNKNOWN: Self = Self {
        tdp: None,
        memory: None,
    };
}

/// One row: how much there can be at most. Nothing of it is ever below 0.
struct Limit {
    quantity: Quantity,
    most: f64,
    unit: &'static str,
    /// Why no more: with how many independent sources.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "each row says where it comes from, and a test demands it")
    )]
    source: &'static str,
}

/// The largest TDP and memory of any card that is sold (NVIDIA GB300, AMD MI355X: two vendors' data sheets). The catalogue's
/// rows are held against them.
pub const LARGEST_TDP: Watts = Watts(1400.0);
pub const LARGEST_MEMORY: Bytes = Bytes(288 << 30);

/// Cards run over their limit for moments; drivers of different age report memory up to 7 % apart (see `gpus`).
const POWER_MARGIN: f64 = 1.3;
const MEMORY_MARGIN: f64 = 1.07;

/// Where the card is not known, the limits of the largest that is sold.
const LIMITS: &[Limit] = &[
    Limit {
        quantity: Quantity::Power,
        most: LARGEST_TDP.0 * POWER_MARGIN,
        unit: "W",
        source: "1.3 x the largest TDP of the catalogue (data sheets; the margin is ours)",
    },
    Limit {
        quantity: Quantity::Energy,
        most: 1e12,
        unit: "J",
        source: "arithmetic: thirty years at a kilowatt",
    },
    Limit {
        quantity: Quantity::DeviceMemory,
        most: LARGEST_MEMORY.0 as f64 * MEMORY_MARGIN,
        unit: "bytes",
        source: "the largest memory of the catalogue (data sheets; 7 % as drivers differ)",
    },
    Limit {
        quantity: Quantity::Share,
        most: 1.05,
        unit: "",
        source: "arithmetic; MIG rows of DCGM are said to show slightly more than 1",
    },
    Limit {
        quantity: Quantity::Requests,
        most: 1e6,
        unit: "requests",
        source: "ours: a queue of a million holds gigabytes of prompts; engines' own limits are below 10,000",
    },
    Limit {
        quantity: Quantity::RequestRate,
        most: 1e6,
        unit: "requests/s",
        source: "ours: HTTP servers of one process stay below a tenth of it",
    },
    Limit {
        quantity: Quantity::PromptRate,
        most: 1e8,
        unit: "tokens/s",
        source: "arithmetic: 8 GPUs of 5 PFLOPS at 2 FLOP a parameter of 0.1 billion read 2e8 with nothing else to do",
    },
    Limit {
        quantity: Quantity::OutputRate,
        most: 1e7,
        unit: "tokens/s",
        source: "ours: far above any published result of eight GPUs; no source was read",
    },
    Limit {
        quantity: Quantity::Length,
        most: 1e9,
        unit: "tokens",
        source: "ours: the longest contexts that are served are 1e7",
    },
    Limit {
        quantity: Quantity::Count,
        most: 1e15,
        unit: "",
        source: "arithmetic: thirty years at a million a second",
    },
    Limit {
        quantity: Quantity::ClockLead,
        most: 120.0,
        unit: "s",
        source: "ours: hosts with NTP are milliseconds apart",
    },
    Limit {
        quantity: Quantity::Latency,
        most: 7.0 * 86_400.0,
        unit: "s",
        source: "ours: no client waits a week for an answer",
    },
];

/// Why a figure is no reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impossible {
    pub quantity: Quantity,
    pub value: f64,
    pub most: f64,
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = row(self.quantity).unit;
        let (value, most) = (self.value, self.most);
        let space = if unit.is_empty() { "" } else { " " };
        if self.quantity == Quantity::DeviceMemory {
            let gib = |v: f64| v / Bytes::GIB;
            return write!(
                f,
                "{:.1} GiB where {:.1} GiB are the most there can be",
                gib(value),
                gib(most)
            );
        }
        match most {
            m if m < 10.0 => write!(f, "{value:.2}{space}{unit} where {m:.2} is the most there can be"),
            m => write!(f, "{value:.0}{space}{unit} where {m:.0} is the most there can be"),
        }
    }
}

fn row(quantity: Quantity) -> &'static Limit {
    // Every quantity has a row: a test holds it.
    LIMITS.iter().find(|l| l.quantity == quantity).unwrap_or(&LIMITS[0])
}

/// How much of it there can be.
pub fn most(quantity: Quantity, card: &Card) -> f64 {
    let own = match quantity {
        Quantity::Power => card.tdp.map(|t| t.0 * POWER_MARGIN),
        Quantity::DeviceMemory => card.memory.map(|m| m.0 as f64 * MEMORY_MARGIN),
        _ => None,
    };
    own.unwrap_or(row(quantity).most)
}

/// Whether a figure can be true of this card.
pub fn check(quantity: Quantity, value: f64, card: &Card) -> Result<f64, Impossible> {
    let most = most(quantity, card);
    if (0.0..=most).contains(&value) {
        Ok(value)
    } else {
        Err(Impossible { quantity, value, most })
    }
}

/// The same where only the value matters.
pub fn possible(quantity: Quantity, value: f64, card: &Card) -> Option<f64> {
    check(quantity, value, card).ok()
}

/// Whether a share is written 0–1 or 0–100, as far as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Ratio,
    /// Names that were seen with both: DCGM's GPU_UTIL before 4.9 is percent, collectors rescale it; its `_RATIO` was percent
    /// in DCGM 4.6. Percent is then a whole number.
    Either,
}

/// The divisor that makes a share of 0–1 of values under one name, all of one exporter or store. `None`: they may be either.
///
/// A value over 1.05 is no share of 1, whatever the name says; a broken one under 1 is no whole percent.
pub fn divisor(says: Says, values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let one = row(Quantity::Share).most;
    let (mut over, mut broken, mut whole) = (false, false, false);
    for value in values.into_iter().filter(|v| (0.0..=100.0 * one).contains(v)) {
        over |= value > one;
        broken |= value.fract() > 0.0;
        whole |= value >= 1.0;
    }
    match says {
        _ if over => Some(100.0),
        Says::Either if whole && !broken => None,
        Says::Either | Says::Ratio => Some(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quantity_has_a_limit_with_a_source() {
        for (place, limit) in LIMITS.iter().enumerate() {
            assert_eq!(row(limit.quantity).quantity, limit.quantity);
            assert_eq!(limit.quantity as usize, place);
            assert!(limit.most > 0.0 && limit.source.len() > 10, "{:?}", limit.quantity);
        }
        assert_eq!(Quantity::Latency as usize + 1, LIMITS.len());
    }

    #[test]
    fn a_card_draws_no_more_than_it_can() {
        let a100 = Card {
            tdp: Some(Watts(400.0)),
            memory: Some(Bytes(80 << 30)),
        };
        assert!(check(Quantity::Power, 519.0, &a100).is_ok());
        let error = check(Quantity::Power, 675_928.0, &a100).unwrap_err();
        assert_eq!(error.to_string(), "675928 W where 520 is the most there can be");
        assert!(check(Quantity::Power, 1800.0, &Card::UNKNOWN).is_ok());
        for wrong in [-1.0, f64::NAN, f64::INFINITY, 9.2e18] {
            assert!(check(Quantity::Power, wrong, &Card::UNKNOWN).is_err());
        }
        let memory = check(Quantity::DeviceMemory, 90.0 * Bytes::GIB, &a100).unwrap_err();
        assert_eq!(memory.to_string(), "90.0 GiB where 85.6 GiB are the most there can be");
        assert!(check(Quantity::Share, 1.04, &a100).is_ok() && check(Quantity::Share, 1.2, &a100).is_err());
    }

    #[test]
    fn the_unit_of_a_share_is_told_by_its_values() {
        for says in [Says::Ratio, Says::Either] {
            assert_eq!(divisor(says, [0.0, 1.0, 97.0]), Some(100.0), "{says:?}");
            assert_eq!(
                divisor(says, [250.0, 50.0]),
                Some(100.0),
                "{says:?}: absurd values tell nothing"
            );
        }
        assert_eq!(divisor(Says::Either, [0.5, 1.0, 0.0]), Some(1.0));
        assert_eq!(divisor(Says::Either, [1.0, 0.0]), None, "1 % or all of it");
        assert_eq!(
            divisor(Says::Either, [0.0, 0.0]),
            Some(1.0),
            "nothing is nothing in any unit"
        );
        assert_eq!(divisor(Says::Either, [1.02, 0.3]), Some(1.0));
        assert_eq!(divisor(Says::Ratio, [1.0, 0.0]), Some(1.0));
    }
}
