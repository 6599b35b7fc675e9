//! Which card, how many, in which layout, for a load and a latency promise.

use super::offers::{self, Sold};
use super::subject::{Subject, cards};
use crate::analyze::ServerLoad;
use crate::catalog::gpus::GpuFacts;
use crate::catalog::prices::PriceSource;
use crate::cli::FitArgs;
use crate::fit::book::Book;
use crate::fit::load::{Ask, Demand, Limits, Offer, Row, Traffic, Verdict, cost_at, search};
use crate::fit::speed::{At, Measured};
use crate::settings::Thresholds;
use crate::units::UsdPerHour;
use anyhow::{Result, bail};
use std::io::{self, Write as _};

/// Tokens of a request where only rates are asked for (ours).
const REQUEST_TOKENS: u64 = 2048;

/// A load, its limits, and the server it was read from.
pub(super) struct Question {
    pub(super) traffic: Traffic,
    pub(super) limits: Limits,
    pub(super) server: Option<ServerLoad>,
    /// The limit between tokens is the policy's, not the user's.
    pub(super) default_itl: bool,
}

/// A row with how its card is sold, and what other loads cost on it.
pub(super) struct Told {
    pub(super) row: Row,
    /// Where its dollars are from (R1).
    pub(super) price: PriceSource,
    pub(super) sold: Sold,
    /// (requests a second, USD an hour), ascending; empty: no rate or no price.
    pub(super) curve: Vec<(f64, UsdPerHour)>,
}

pub(super) struct Answer {
    pub(super) rows: Vec<Told>,
    pub(super) prices: String,
}

impl Told {
    /// Beside a price that a server really has, one of another region or the median is a guess.
    pub(super) fn is_guess(&self) -> bool {
        matches!(self.price, PriceSource::RegionGuess | PriceSource::GpuMedian)
    }
}

impl Question {
    /// `None`: no load is asked for.
    pub(super) fn of(args: &FitArgs, server: Option<ServerLoad>) -> Result<Option<Self>> {
        let lengths = args.input.zip(args.output);
        let traffic = if let Some(server) = &server {
            Some(Traffic {
                demand: Demand::Rate(server.requests_per_second),
                input: args.input.map_or(server.input, |n| n as f64),
                output: args.output.map_or(server.output, |n| n as f64),
                held: None,
            })
        } else if let Some((input, output)) = lengths {
            let demand = match (args.requests_per_second, args.running, args.output_tps) {
                (Some(rate), ..) => Some(Demand::Rate(rate)),
                (_, Some(running), _) => Some(Demand::Running(running as f64)),
                (.., Some(tokens)) => Some(Demand::Rate(tokens / output as f64)),
                _ => args.concurrency.map(|n| Demand::Clients(n as f64)),
            };
            demand.map(|demand| Traffic {
                demand,
                input: input as f64,
                output: output as f64,
                held: args.concurrency.filter(|_| args.output_tps.is_some()).map(|n| n as f64),
            })
        } else {
            by_rates(args)
        };
        let Some(traffic) = traffic else { return Ok(None) };
        let promised = args.itl.map(|t| t.as_secs_f64());
        let usual = || match (&server, traffic.demand) {
            (Some(server), _) => Some(server.itl_limit),
            // The speed alone is asked for.
            (None, Demand::Running(_)) => None,
            _ => Some(Thresholds::default().slo_itl_seconds),
        };
        let limits = Limits {
            inter_token_latency: promised.or_else(usual),
            time_to_first_token: args.ttft.map(|t| t.as_secs_f64()),
            max_gpus: args.max_gpus,
        };
        if let (Some(itl), Some(ttft)) = (limits.inter_token_latency, limits.time_to_first_token)
            && ttft < itl
        {
            bail!(
                "--ttft {:.0} ms is shorter than the {:.0} ms between tokens: the first token takes a step, too",
                ttft * 1e3,
                itl * 1e3
            );
        }
        Ok(Some(Self {
            traffic,
            limits,
            default_itl: promised.is_none(),
            server,
        }))
    }

    /// A load or a limit is asked for, not the speed alone.
    pub(super) fn promises(&self) -> bool {
        let limits = &self.limits;
        !matches!(self.traffic.demand, Demand::Running(_))
            || limits.inter_token_latency.is_some()
            || limits.time_to_first_token.is_some()
    }

    pub(super) fn answer(&self, args: &FitArgs, subject: &Subject, book: &Book) -> Result<Answer> {
        offers::check(args)?;
        let cards: Vec<GpuFacts> = cards(args)?;
        let priced = offers::offers(&cards, args, self.server.as_ref());
        let sources: Vec<PriceSource> = priced.iter().map(|p| p.source).collect();
        let offers: Vec<Offer<'_>> = priced.into_iter().map(|p| p.offer).collect();
        if offers.is_empty() {
            bail!("no GPU is sold there at such prices: {}", offers::said(args));
        }
        // What the present server is measured at tells nothing of another model.
        let same = self.server.as_ref().filter(|s| s.model.id == subject.model.id);
        let own: &[Measured] = same.map_or(&[], |s| &s.measured);
        let ask = Ask {
            book: Some(book),
            model: &subject.model,
            settings: &subject.settings,
            traffic: self.traffic,
            limits: self.limits,
            only: super::holds::only(args),
            present: same.and_then(|s| s.present.as_ref()),
            own,
        };
        let rows = search(&offers, &ask)
            .into_iter()
            .map(|row| {
                let at = offers.iter().position(|o| o.gpu.name == row.gpu);
                let offer = at.map(|i| &offers[i]);
                Told {
                    price: at
                        .map(|i| sources[i])
                        .filter(|_| row.usd_per_hour.is_some())
                        .unwrap_or_default(),
                    sold: offer.map(|o| offers::sold(o.gpu)).unwrap_or_default(),
                    curve: offer.map(|o| self.curve(o, &row)).unwrap_or_default(),
                    row,
                }
            })
            .collect();
        Ok(Answer {
            rows,
            prices: offers::said_of(args, self.server.as_ref()),
        })
    }

    /// The load asked for, requests a second; `None`: the speed of one engine is.
    pub(super) fn rate(&self, row: Option<&Row>) -> Option<f64> {
        match self.traffic.demand {
            Demand::Rate(rate) => Some(rate),
            Demand::Clients(_) => Some(row?.output_tokens_per_second? / self.traffic.output),
            Demand::Running(_) => None,
        }
    }

    /// From a sixteenth of the load to sixteen times of it.
    fn curve(&self, offer: &Offer<'_>, row: &Row) -> Vec<(f64, UsdPerHour)> {
        const STEPS: i32 = 32;
        let Some(rate) = self.rate(Some(row)).filter(|_| row.verdict == Verdict::Serves) else {
            return Vec::new();
        };
        (-STEPS..=STEPS)
            .filter_map(|i| {
                let at = rate * 16_f64.powf(f64::from(i) / f64::from(STEPS));
                Some((at, cost_at(offer, row, at)?))
            })
            .collect()
    }

    /// Where the present server stands on this question's axes.
    pub(super) fn present_at(&self) -> Option<At> {
        self.server.as_ref()?.present.as_ref().map(|p| p.at)
    }
}

/// --prompt-tps and --output-tps: prompt and output share a request as the rates do.
fn by_rates(args: &FitArgs) -> Option<Traffic> {
    let output_tps = args.output_tps?;
    let prompt_tps = args.prompt_tps.unwrap_or(0.0);
    let tokens = args.context_tokens.unwrap_or_else(|| {
        let _ = writeln!(
            io::stderr(),
            "requests of {REQUEST_TOKENS} tokens are assumed; --input N --output N (or --context-tokens N --concurrency N) says otherwise"
        );
        REQUEST_TOKENS
    }) as f64;
    let input = tokens * prompt_tps / (prompt_tps + output_tps);
    let output = (tokens - input).max(1.0);
    Some(Traffic {
        demand: Demand::Rate(output_tps / output),
        input,
        output,
        held: args.concurrency.map(|n| n as f64),
    })
}
