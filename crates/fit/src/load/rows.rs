//! What one layout does: at a given batch, or in as many replicas as a load asks for.

use super::clock::Clock;
use super::{Ask, Demand, Limit, Limits, Offer, Row, Traffic, Verdict};
use crate::speed::{Arrivals, At, Class, Seconds};
use crate::throughput::Curve;

/// One engine at a given batch.
pub(super) fn at_batch(ask: &Ask<'_>, clock: &Clock<'_>, running: f64, most: Option<f64>, row: &mut Row) {
    let at = At::new(running, ask.traffic.input, ask.traffic.output);
    let step = clock.at(at);
    let engines = engines(ask, row);
    row.running = Some(running);
    row.inter_token_latency = Some(step);
    row.time_to_first_token = Some(clock.model().first_token(at, Arrivals::Open));
    let rate = engines * running / step.value;
    row.requests_at_load = Some(rate / ask.traffic.output.max(1.0));
    row.output_tokens_per_second = Some(rate);
    row.input_tokens_per_second = Some(rate * at.mix);
    row.requests_per_second = Some(rate / ask.traffic.output.max(1.0));
    row.bound = Some(clock.model().bound(at));
    row.verdict = Verdict::Serves;
    row.reason = String::new();
    if let Some(most) = most.filter(|m| running > *m) {
        row.limit = Some(Limit::KvCache);
        row.reason = format!("{running:.0} sequences are more than the {most:.0} that surely find room at once");
        row.verdict = Verdict::Unknown;
    }
    if let Some((limit, which, bad)) = broken(ask, step, row.time_to_first_token) {
        row.verdict = Verdict::TooSlow;
        row.limit = Some(which);
        row.reason = too_slow(which, bad, limit);
    }
}

/// Replicas for a load.
pub(super) fn for_load(offer: &Offer<'_>, ask: &Ask<'_>, clock: &Clock<'_>, most: Option<f64>, row: &mut Row) {
    let Traffic { input, output, .. } = ask.traffic;
    let Some(most) = most.filter(|m| *m >= 1.0) else {
        row.verdict = Verdict::DoesNotFit;
        row.limit = Some(Limit::KvCache);
        row.reason = format!("not one request of {:.0} tokens surely finds room", input + output);
        return;
    };
    let engine = Engine::new(ask, clock, most);
    let (batch, held_by) = engine.largest_batch(ask.limits, row);
    row.limit = Some(held_by);
    if batch < 1.0 {
        engine.alone(ask.limits, held_by, row);
        return;
    }
    let engines = engines(ask, row);
    let (replicas, rate) = engine.replicas(ask.traffic, batch, engines);
    row.replicas = replicas;
    row.requests_per_second = Some(rate * replicas as f64);
    row.usd_per_hour = offer.price(row.gpus_per_replica, replicas);
    engine.under_load(ask.traffic, replicas as f64 * engines, rate, row);
    if let Some(max) = ask.limits.max_gpus.filter(|m| row.gpus() > u64::from(*m)) {
        row.verdict = Verdict::TooSlow;
        row.limit = Some(Limit::MaxGpus);
        row.reason = format!("needs {} GPUs, at most {max} are allowed", row.gpus());
    }
}

/// Engines of a replica that take requests of their own.
fn engines(ask: &Ask<'_>, row: &Row) -> f64 {
    if ask.settings.dp_attention == Some(true) {
        1.0
    } else {
        f64::from(row.parallelism.data.max(1))
    }
}

/// One engine of a layout over the sequences that run in it.
struct Engine<'c> {
    clock: &'c Clock<'c>,
    arrivals: Arrivals,
    input: f64,
    output: f64,
    /// Sequences that it admits at once.
    most: f64,
    /// Seconds of a step: what is expected, and the bad end.
    expected: Curve<'c>,
    bad: Curve<'c>,
}

impl<'c> Engine<'c> {
    fn new(ask: &Ask<'_>, clock: &'c Clock<'c>, most: f64) -> Self {
        let Traffic {
            demand, input, output, ..
        } = ask.traffic;
        let at = move |running: f64| At::new(running, input, output);
        Self {
            clock,
            arrivals: match demand {
                Demand::Clients(_) => Arrivals::Closed,
                Demand::Rate(_) | Demand::Running(_) => Arrivals::Open,
            },
            input,
            output,
            most,
            expected: Curve::new(most, move |b| clock.at(at(b)).value),
            bad: Curve::new(most, move |b| clock.at(at(b)).bad_end().unwrap_or(f64::INFINITY)),
        }
    }

    fn at(&self, running: f64) -> At {
        At::new(running, self.input, self.output)
    }

    fn first_token(&self, running: f64) -> Seconds {
        self.clock.model().first_token(self.at(running), self.arrivals)
    }

    /// What limits are held to. Where nothing was measured, what is expected is shown, and nothing is promised.
    fn timed(&self) -> &Curve<'c> {
        if self.clock.is_known() {
            &self.bad
        } else {
            &self.expected
        }
    }

    /// The most sequences at once within every limit, and the limit that holds them there; below 1: not one.
    fn largest_batch(&self, limits: Limits, row: &Row) -> (f64, Limit) {
        let by_step = limits
            .inter_token_latency
            .map_or(self.most, |limit| self.timed().batch_within(limit));
        let known_first = self.clock.model().evidence.class != Class::NotSeen;
        let by_first = match limits.time_to_first_token {
            Some(limit) if known_first => {
                let bad = |b: f64| self.first_token(b).bad_end().unwrap_or(f64::INFINITY);
                Curve::new(self.most, bad).batch_within(limit)
            }
            Some(_) if self.clock.is_known() => 0.0,
            _ => self.most,
        };
        let seqs = row.placement.max_num_seqs.is_some_and(|n| n as f64 <= self.most);
        let full = if seqs { Limit::MaxNumSeqs } else { Limit::KvCache };
        [
            (by_step, Limit::InterTokenLatency),
            (by_first, Limit::TimeToFirstToken),
            (self.most, full),
        ]
        .into_iter()
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or((0.0, Limit::KvCache))
    }

    /// Too slow with a single sequence.
    fn alone(&self, limits: Limits, held_by: Limit, row: &mut Row) {
        let (step, first) = (self.clock.at(self.at(1.0)), self.first_token(1.0));
        row.replicas = 0;
        row.inter_token_latency = Some(step);
        row.time_to_first_token = Some(first);
        row.bound = Some(self.clock.model().bound(self.at(1.0)));
        row.verdict = Verdict::TooSlow;
        let (limit, seconds) = match held_by {
            Limit::TimeToFirstToken => (limits.time_to_first_token, first),
            _ => (limits.inter_token_latency, step),
        };
        row.reason = match seconds.bad_end().zip(limit) {
            Some((bad, limit)) => too_slow(held_by, bad, limit) + ", with one sequence running",
            None => "how long the first token takes was not measured".into(),
        };
    }

    /// Replicas, and the requests a second of one of them at the limits.
    fn replicas(&self, traffic: Traffic, batch: f64, engines: f64) -> (u64, f64) {
        let rate = engines * batch / (self.timed().at(batch) * self.output.max(1.0));
        let replicas = match traffic.demand {
            Demand::Rate(wanted) => (wanted / rate).ceil(),
            Demand::Clients(clients) => (clients / (batch * engines)).ceil(),
            Demand::Running(_) => 1.0,
        };
        let room = traffic.held.map_or(1.0, |n| (n / (self.most * engines)).ceil());
        (replicas.max(room).clamp(1.0, 1e9) as u64, rate)
    }

    /// What `each` engines do under the load together.
    fn under_load(&self, traffic: Traffic, each: f64, rate: f64, row: &mut Row) {
        let output = self.output;
        let (wanted, running) = match traffic.demand {
            Demand::Rate(wanted) => (wanted, self.expected.batch_for(wanted * output / each).max(1.0)),
            Demand::Clients(clients) => {
                // Of those that ask, some wait for their first token: Little's law.
                let asking = (clients / each).max(1.0);
                let steps = self.expected.at(asking) * output;
                let running = (asking * steps / (steps + self.first_token(asking).value)).max(1.0);
                (each * running / (self.expected.at(running) * output.max(1.0)), running)
            }
            Demand::Running(running) => (rate, running),
        };
        let worst = match traffic.demand {
            Demand::Rate(_) => self.bad.batch_for(wanted * output / each).max(1.0),
            Demand::Clients(_) | Demand::Running(_) => running,
        };
        let mut step = self.clock.at(self.at(running));
        step.value = self.expected.at(running);
        step.ends = step
            .ends
            .map(|(low, _)| (low.min(step.value), self.bad.at(worst).max(step.value)));
        row.running = Some(running);
        row.inter_token_latency = Some(step);
        row.time_to_first_token = Some(self.first_token(running));
        row.requests_at_load = Some(wanted);
        row.output_tokens_per_second = Some(wanted * output);
        row.input_tokens_per_second = Some(wanted * self.input);
        row.bound = Some(self.clock.model().bound(self.at(running)));
        row.verdict = Verdict::Serves;
        row.reason = String::new();
    }
}

/// The limit that a bad end exceeds: (limit, which, the bad end).
fn broken(ask: &Ask<'_>, step: Seconds, first: Option<Seconds>) -> Option<(f64, Limit, f64)> {
    let over = |limit: Option<f64>, seconds: Option<Seconds>, which| {
        let (limit, bad) = limit.zip(seconds.and_then(Seconds::bad_end))?;
        (bad > limit).then_some((limit, which, bad))
    };
    over(ask.limits.inter_token_latency, Some(step), Limit::InterTokenLatency)
        .or_else(|| over(ask.limits.time_to_first_token, first, Limit::TimeToFirstToken))
}

fn too_slow(which: Limit, bad: f64, limit: f64) -> String {
    let what = match which {
        Limit::TimeToFirstToken => "to the first token",
        _ => "between tokens",
    };
    format!("up to {} ms {what}, the limit is {} ms", ms(bad), ms(limit))
}

fn ms(seconds: f64) -> String {
    let ms = seconds * 1e3;
    if ms < 9.95 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}
