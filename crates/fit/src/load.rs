//! Which card, how many, in which layout: a model for a load within latency limits.
//!
//! Replicas come first; tensor parallelism goes as far as memory or latency need it, over PCIe not where replicas do;
//! pipeline stages over two nodes come last. A layout serves only where the limits hold at the bad end of what is known.

mod clock;
mod rows;

use super::search::gpus_of;
use super::speed::{At, Bound, Evidence, Measured, Predictor, Seconds};
use super::throughput::{admitted, not_measured, usable};
use super::{FitVerdict, Parallelism, Placement, Roofline, place};
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelFacts;
use crate::snapshot::server::EngineSettings;
use crate::units::UsdPerHour;
use clock::Clock;

/// What is asked of all replicas together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Demand {
    /// Requests a second, each by itself.
    Rate(f64),
    /// Clients that send the next request when one is answered.
    Clients(f64),
    /// Sequences running in one engine, as they are: no replicas are looked for.
    Running(f64),
}

/// A load: requests of one length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    pub demand: Demand,
    /// Tokens of a request.
    pub input: f64,
    pub output: f64,
    /// Requests that must find room at once, in all replicas together.
    pub held: Option<f64>,
}

/// Seconds; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    pub inter_token_latency: Option<f64>,
    pub time_to_first_token: Option<f64>,
    /// GPUs of all replicas together.
    pub max_gpus: Option<u32>,
}

/// What a card costs and how it is sold.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    pub gpu: &'a GpuFacts,
    /// `None`: no price is known.
    pub usd_per_gpu_hour: Option<UsdPerHour>,
    /// Whole instances that can be had: (GPUs, price). Empty: GPUs are had one by one, or `least` at a time.
    pub sizes: Vec<(u32, UsdPerHour)>,
    /// The fewest GPUs that anybody sells together.
    pub least: u32,
    /// GPUs of the largest node that tensor parallelism may span.
    pub most: u32,
}

impl Offer<'_> {
    /// What `replicas` of `each` GPUs cost: whole instances where only those are sold. A replica does not span instances
    /// unless it is larger than one.
    pub fn price(&self, each: u32, replicas: u64) -> Option<UsdPerHour> {
        let each = each.max(1);
        let whole = |(size, price): &(u32, UsdPerHour)| {
            let count = match size / each {
                0 => replicas.saturating_mul(u64::from(each.div_ceil(*size))),
                fit => replicas.div_ceil(u64::from(fit)),
            };
            price.times(count)
        };
        let single = |price: UsdPerHour| {
            let least = u64::from(self.least.max(1));
            price.times(
                (u64::from(each).saturating_mul(replicas))
                    .div_ceil(least)
                    .saturating_mul(least),
            )
        };
        let sold = self.sizes.iter().filter(|(size, _)| *size > 0).map(whole).min();
        sold.or_else(|| self.usd_per_gpu_hour.map(single))
    }
}

/// The server that runs today: what it was measured at scales to other cards.
#[derive(Clone, Debug)]
pub struct Present {
    pub roofline: Roofline,
    pub at: At,
    /// Seconds between tokens.
    pub seconds: f64,
}

/// All that a search needs.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    pub model: &'a ModelFacts,
    pub settings: &'a EngineSettings,
    pub traffic: Traffic,
    pub limits: Limits,
    /// Only this parallelism.
    pub only: Option<Parallelism>,
    pub present: Option<&'a Present>,
    /// Servers of this fleet with measured step times.
    pub own: &'a [Measured],
    /// What servers told of their memory, for placements like theirs.
    pub book: Option<&'a super::book::Book>,
}

impl Ask<'_> {
    fn place(&self, settings: &EngineSettings, gpu: &GpuFacts, parallelism: Parallelism) -> Placement {
        let told = self
            .book
            .and_then(|b| b.calibration(self.model, settings, gpu, parallelism));
        place(self.model, settings, gpu, parallelism, told.as_ref())
    }

    /// The fleet's own measured times, and those that others told of just this placement.
    fn timed(&self, gpu: &GpuFacts, parallelism: Parallelism) -> Vec<Measured> {
        let told = self.book.map(|b| b.timed(self.model, self.settings, gpu, parallelism));
        self.own.iter().cloned().chain(told.into_iter().flatten()).collect()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// At the bad end of what is known.
    Serves,
    TooSlow,
    #[default]
    Unknown,
    DoesNotFit,
}

impl Verdict {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serves => "serves",
            Self::TooSlow => "too-slow",
            Self::DoesNotFit => "does-not-fit",
            Self::Unknown => "unknown",
        }
    }
}

/// The limit that a layout breaks, or the one that holds its requests down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    InterTokenLatency,
    TimeToFirstToken,
    KvCache,
    MaxNumSeqs,
    MaxGpus,
    Memory,
}

impl Limit {
    pub const fn name(self) -> &'static str {
        match self {
            Self::InterTokenLatency => "itl",
            Self::TimeToFirstToken => "ttft",
            Self::KvCache => "kv-cache",
            Self::MaxNumSeqs => "max-num-seqs",
            Self::MaxGpus => "max-gpus",
            Self::Memory => "memory",
        }
    }
}

/// One card's best layout.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Catalogue name.
    pub gpu: String,
    pub parallelism: Parallelism,
    /// GPUs of one replica, and replicas; 0 replicas: no number of them serves.
    pub gpus_per_replica: u32,
    pub replicas: u64,
    pub verdict: Verdict,
    pub limit: Option<Limit>,
    /// One sentence with the figures that decided.
    pub reason: String,
    pub placement: Placement,
    /// Of all replicas, at the limits and the bad end.
    pub requests_per_second: Option<f64>,
    /// At the load, all replicas: requests, and tokens.
    pub requests_at_load: Option<f64>,
    pub output_tokens_per_second: Option<f64>,
    pub input_tokens_per_second: Option<f64>,
    /// Sequences running in one engine at the load.
    pub running: Option<f64>,
    /// At the load.
    pub inter_token_latency: Option<Seconds>,
    pub time_to_first_token: Option<Seconds>,
    pub usd_per_hour: Option<UsdPerHour>,
    pub evidence: Evidence,
    pub bound: Option<Bound>,
    /// Scaled from what the present server is measured at.
    pub by_ratio: bool,
    /// The model's own length does not hold: the server must be told this one.
    pub max_model_len: Option<u64>,
}

impl Row {
    pub fn gpus(&self) -> u64 {
        u64::from(self.gpus_per_replica).saturating_mul(self.replicas.max(1))
    }

    /// The whole bill, per million tokens of the load. `None`: no price, or no load.
    pub fn usd_per_million_output_tokens(&self) -> Option<f64> {
        self.usd_per_hour?.per_million(self.output_tokens_per_second?)
    }

    pub fn usd_per_million_input_tokens(&self) -> Option<f64> {
        self.usd_per_hour?.per_million(self.input_tokens_per_second?)
    }
}

/// One row a card: those that serve first, cheapest first, then what is too slow, what does not fit, what is not known.
pub fn search(offers: &[Offer<'_>], ask: &Ask<'_>) -> Vec<Row> {
    let mut rows: Vec<Row> = offers.iter().filter_map(|offer| best(offer, ask)).collect();
    let dear = UsdPerHour::from_micros(i64::MAX);
    rows.sort_by(|a, b| {
        let key = |r: &Row| (r.verdict, r.usd_per_hour.unwrap_or(dear), r.gpus());
        key(a).cmp(&key(b)).then_with(|| a.gpu.cmp(&b.gpu))
    });
    rows
}

/// What a wider layout may cost of a narrower one's price to be preferred (ours).
const WIDER_PAYS: f64 = 0.9;
/// Sequences at once below which a layout is starved of cache: memory asks for more GPUs.
const STARVED: f64 = 4.0;

fn best(offer: &Offer<'_>, ask: &Ask<'_>) -> Option<Row> {
    let mut kept: Option<Row> = None;
    for parallelism in ways(offer, ask) {
        let (row, most) = evaluate(offer, ask, parallelism);
        let slow = !row
            .placement
            .roofline
            .as_ref()
            .is_some_and(|r| r.card.path(r.tensor.max(2)).path.is_fast());
        let starved = most < STARVED;
        let better = match &kept {
            None => true,
            Some(old) if old.verdict != Verdict::Serves || row.verdict != Verdict::Serves => {
                // What holds and is only too slow tells more than what does not fit; the widest tells what is lacking.
                let lacks = |r: &Row| r.placement.verdict == FitVerdict::DoesNotFit && !r.placement.forbidden;
                row.verdict < old.verdict || lacks(old) && lacks(&row)
            }
            // Wider ranks must pay: fewer, larger parts are harder to place and to lose.
            Some(old) => old
                .usd_per_hour
                .zip(row.usd_per_hour)
                .map_or(row.gpus() < old.gpus(), |(a, b)| b.usd() < a.usd() * WIDER_PAYS),
        };
        let settled = row.verdict == Verdict::Serves && slow && !starved;
        if better {
            kept = Some(row);
        }
        // Over PCIe, wider ranks are not looked at where replicas do.
        if settled {
            break;
        }
    }
    kept
}

/// Tensor parallelism in powers of two inside a node, then two nodes in a pipeline where none of these holds the model.
fn ways(offer: &Offer<'_>, ask: &Ask<'_>) -> Vec<Parallelism> {
    if let Some(only) = ask.only {
        return vec![only];
    }
    let data = ask.settings.data_parallel.unwrap_or(1).max(1);
    let inside = ask.settings.dp_attention == Some(true);
    let limit = offer
        .most
        .clamp(1, 64)
        .min(ask.limits.max_gpus.unwrap_or(u32::MAX).max(1));
    let mut ways: Vec<Parallelism> = std::iter::successors(Some(1_u32), |t| t.checked_mul(2))
        .take_while(|t| *t <= limit)
        .filter(|t| !inside || t % data == 0)
        .map(|tensor| Parallelism {
            tensor,
            pipeline: 1,
            data,
        })
        .collect();
    let held = |p: &Parallelism| {
        let placed = place(ask.model, ask.settings, offer.gpu, *p, None);
        placed.forbidden || placed.kv_per_gpu.is_some_and(|b| b.0 > 0)
    };
    if let Some(last) = ways.last().copied().filter(|w| w.tensor >= 8 && !held(w)) {
        ways.push(Parallelism { pipeline: 2, ..last });
    }
    ways
}

/// The model placed for requests of this length: with the engine's own length where it holds, else with the length needed.
fn placed(offer: &Offer<'_>, ask: &Ask<'_>, parallelism: Parallelism) -> (Placement, Option<u64>) {
    let plain = ask.place(ask.settings, offer.gpu, parallelism);
    let needed = (ask.traffic.input + ask.traffic.output).ceil() as u64;
    let own = ask.settings.max_model_len.is_some() || plain.verdict == FitVerdict::Fits || plain.forbidden;
    if own || plain.max_model_len.is_some_and(|l| l <= needed) {
        return (plain, None);
    }
    let shorter = EngineSettings {
        max_model_len: Some(needed),
        ..ask.settings.clone()
    };
    let short = ask.place(&shorter, offer.gpu, parallelism);
    if short.verdict == FitVerdict::Fits
        || plain.verdict == FitVerdict::DoesNotFit && short.verdict == FitVerdict::Tight
    {
        (short, Some(needed))
    } else {
        (plain, None)
    }
}

/// A layout's row, and the sequences that one engine admits at once.
fn evaluate(offer: &Offer<'_>, ask: &Ask<'_>, parallelism: Parallelism) -> (Row, f64) {
    let (placement, max_model_len) = placed(offer, ask, parallelism);
    let row = Row {
        gpu: offer.gpu.name.clone(),
        parallelism,
        gpus_per_replica: gpus_of(ask.settings, parallelism),
        replicas: 1,
        max_model_len,
        reason: placement.reason.clone(),
        placement,
        ..Row::default()
    };
    let row = judge(offer, ask, row);
    let most = admitted(&row.placement, ask.traffic.input + ask.traffic.output).unwrap_or(0.0);
    (row, most)
}

/// Weights that exceed the memory leave nothing to time.
fn loads(placement: &Placement, gpu: &GpuFacts) -> bool {
    placement.weights_per_gpu.is_none_or(|w| w < gpu.memory)
}

fn judge(offer: &Offer<'_>, ask: &Ask<'_>, mut row: Row) -> Row {
    let placement = row.placement.clone();
    row.usd_per_hour = offer.price(row.gpus_per_replica, 1);
    let too_long = placement
        .max_model_len
        .filter(|l| ask.traffic.input + ask.traffic.output > *l as f64);
    if let Some(length) = too_long {
        row.verdict = Verdict::DoesNotFit;
        row.limit = Some(Limit::Memory);
        row.reason = format!(
            "requests of {:.0} tokens are longer than the {length} that one request may hold",
            ask.traffic.input + ask.traffic.output
        );
        return row;
    }
    let timed = usable(&placement).filter(|_| loads(&placement, offer.gpu) && !placement.forbidden);
    let Some(roofline) = timed else {
        row.verdict = if placement.verdict == FitVerdict::DoesNotFit {
            Verdict::DoesNotFit
        } else {
            Verdict::Unknown
        };
        if row.verdict == Verdict::Unknown {
            row.reason = "no throughput model for this model or card".into();
        }
        return row;
    };
    let own = ask.timed(offer.gpu, row.parallelism);
    let clock = Clock::of(roofline, ask, &own);
    if own.len() > ask.own.len() {
        let n = own.len() - ask.own.len();
        let said = format!("speed corrected by what {n} servers on just this placement were seen to do");
        row.placement.confidence_reasons.push(said);
    }
    row.evidence = clock.model().evidence;
    row.by_ratio = matches!(clock, Clock::Scaled { .. });
    let most = admitted(&placement, ask.traffic.input + ask.traffic.output);
    match ask.traffic.demand {
        Demand::Running(running) => rows::at_batch(ask, &clock, running, most, &mut row),
        Demand::Rate(_) | Demand::Clients(_) => rows::for_load(offer, ask, &clock, most, &mut row),
    }
    match placement.verdict {
        FitVerdict::Fits => {
            if !clock.is_known() {
                row.verdict = Verdict::Unknown;
                row.reason = not_measured(roofline);
            }
        }
        FitVerdict::DoesNotFit => {
            row.verdict = Verdict::DoesNotFit;
            row.limit = Some(Limit::Memory);
            row.reason = placement.reason;
        }
        FitVerdict::Tight | FitVerdict::Unknown => {
            row.verdict = Verdict::Unknown;
            row.limit = Some(Limit::Memory);
            row.reason = format!("whether it holds is not sure: {}", placement.reason);
        }
    }
    row
}

/// What a load of other sizes costs in the layout of a row: for curves. `None`: it has no rate or no price.
pub fn cost_at(offer: &Offer<'_>, row: &Row, requests_per_second: f64) -> Option<UsdPerHour> {
    let each = row.requests_per_second? / row.replicas.max(1) as f64;
    let replicas = (requests_per_second / each).ceil().clamp(1.0, 1e9) as u64;
    offer.price(row.gpus_per_replica, replicas)
}

/// Seconds between tokens of one engine with `running` sequences, and what is behind it. `None`: nothing to time.
pub fn speed_of(placement: &Placement, running: f64, input: f64, output: f64) -> Option<(Seconds, Evidence)> {
    let roofline = usable(placement)?;
    let predictor = Predictor::new(roofline, &[]);
    Some((predictor.at(At::new(running, input, output)), predictor.evidence))
}
