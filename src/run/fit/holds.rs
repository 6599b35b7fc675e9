//! Which tiers hold the model: no load is asked for, but the speed at one and at eight sequences is told.

use super::offers;
use super::subject::{Subject, cards};
use crate::cli::FitArgs;
use crate::fit::book::Book;
use crate::fit::load::speed_of;
use crate::fit::search::{Candidate, Need, search};
use crate::fit::speed::{Evidence, Seconds};
use crate::fit::{FitVerdict, Parallelism};
use anyhow::Result;

/// Lengths whose speed is told where none are named: a short chat (ours).
const CHAT: (u64, u64) = (1024, 256);
/// Sequences running at which the speed is told.
pub(super) const AT: [u64; 2] = [1, 8];

/// A candidate with its speed at [`AT`]; `None`: it does not hold, or nothing can be timed.
pub(super) struct Held {
    pub(super) candidate: Candidate,
    pub(super) speed: Option<[Seconds; 2]>,
    pub(super) evidence: Evidence,
}

pub(super) struct Answer {
    pub(super) found: Vec<Held>,
    /// KV tokens to hold at once.
    pub(super) tokens: Option<u64>,
    /// Tokens of a request whose speed is told.
    pub(super) lengths: (u64, u64),
    pub(super) prices: String,
    /// What servers told (--learned), placement by placement.
    pub(super) learned: Vec<String>,
}

/// The parallelism that flags name.
pub(super) fn only(args: &FitArgs) -> Option<Parallelism> {
    args.tp.map(|tensor| Parallelism {
        tensor,
        pipeline: args.pp.unwrap_or(1),
        // Data-parallel attention runs inside the ranks, one group a rank unless told otherwise.
        data: args.dp.unwrap_or(if args.dp_attention { tensor } else { 1 }),
    })
}

impl Answer {
    pub(super) fn of(args: &FitArgs, subject: &Subject, book: &Book) -> Result<Self> {
        let cards = cards(args)?;
        offers::check(args)?;
        let tiers = offers::tiers(&cards, args);
        let need = Need {
            book: Some(book),
            tokens: args
                .context_tokens
                .zip(args.concurrency)
                .map(|(t, n)| t.saturating_mul(n)),
            only: only(args),
            ..Need::default()
        };
        let lengths = args.input.zip(args.output).unwrap_or(CHAT);
        let found: Vec<Held> = search(&subject.model, &subject.settings, &tiers, &need)
            .into_iter()
            .map(|candidate| {
                let holds = matches!(candidate.placement.verdict, FitVerdict::Fits | FitVerdict::Tight);
                let at = |n: u64| speed_of(&candidate.placement, n as f64, lengths.0 as f64, lengths.1 as f64);
                let told = at(AT[0]).zip(at(AT[1])).filter(|_| holds);
                Held {
                    speed: told.map(|(one, eight)| [one.0, eight.0]),
                    evidence: told.map_or_else(Evidence::default, |(one, _)| one.1),
                    candidate,
                }
            })
            .collect();
        let said = |h: &Held| {
            let (c, gpu) = (&h.candidate, cards.iter().find(|g| g.name == h.candidate.gpu)?);
            let told = book.calibration(&subject.model, &subject.settings, gpu, c.parallelism)?;
            Some(format!("{} × {}: memory {}", c.gpus, c.gpu, told.reason))
        };
        Ok(Self {
            learned: found.iter().filter_map(said).collect(),
            found,
            tokens: need.tokens,
            lengths,
            prices: offers::said(args),
        })
    }
}
