//! How fast a candidate is: as it is scaled from what the server measures of itself, or as servers that stand there were seen to be.

use super::{Learned, Wanted, slo};
use crate::analyze::sizing::market::Tier;
use crate::fit::speed::Measured;
use crate::fit::{self, Load, Parallelism, Placement, Service};

/// What servers of one kind may differ by, in their times between tokens (ours: p95s of one kind are off by less).
const AGREE: f64 = 1.25;

/// The service at what is known, and in `learned` what servers of other fleets had to do with it. What they tell replaces a
/// modelled or scaled time; where the two contradict each other the slower one counts, and one alone measures nothing.
pub(super) fn service(
    wanted: &Wanted<'_>,
    tier: &Tier,
    parallelism: Parallelism,
    placement: &Placement,
    learned: &mut Vec<Learned>,
) -> Service {
    let (held, known) = (wanted.held, wanted.known);
    let engines = wanted.replicas * held.parallelism().data;
    let asked = wanted.demand.per_engine(engines, wanted.current);
    let limits = slo(wanted.thresholds);
    let by = |own: &[Measured]| {
        let load = Load {
            own: own.into(),
            ..asked.clone()
        };
        fit::serves(placement, &load, &limits)
    };
    let itself = fit::serves(
        placement,
        &Load {
            own: known.timed.clone(),
            ..asked.clone()
        },
        &limits,
    );
    let stands = |m: &Measured| placement.roofline.as_ref() == Some(&m.roofline);
    // The fleet's own word comes first.
    if known.timed.iter().any(stands) {
        return itself;
    }
    let told: Vec<Measured> = known
        .book
        .timed(held.model, held.settings, tier.gpu, parallelism)
        .into_iter()
        .filter(stands)
        .collect();
    let services = told.iter().map(|m| by(std::slice::from_ref(m)));
    let time = |s: &Service| s.expected_inter_token_latency;
    let mut services: Vec<Service> = services.filter(|s| time(s).is_some()).collect();
    services.sort_by(|a, b| time(a).partial_cmp(&time(b)).unwrap_or(std::cmp::Ordering::Equal));
    let (Some(fastest), Some(slowest)) = (services.first().and_then(time), services.last().cloned()) else {
        return itself;
    };
    let agree = time(&slowest).is_some_and(|t| t <= fastest * AGREE);
    // In logs the interval of what is expected is as wide upwards as downwards.
    let best = time(&itself)
        .zip(itself.inter_token_latency)
        .map(|(t, bad)| t * t / bad);
    let contradicted = best.is_some_and(|best| time(&slowest).is_some_and(|t| t < best));
    let mut say = |said: String| {
        learned.push(Learned {
            name: "learned_speed",
            said: format!("the speed there: {said}"),
        });
    };
    if contradicted {
        say("servers of other fleets were faster than this one's own measurement allows, which is not taken".into());
        return itself;
    }
    say(match told.len() {
        1 => "as a server of another fleet that runs the same was seen".into(),
        n => format!("as {n} servers of other fleets that run the same were seen, the slowest of them"),
    });
    let alone = itself.expected_inter_token_latency.is_none() && services.len() < 2;
    Service {
        by_ratio: slowest.by_ratio && agree && !alone,
        ..slowest
    }
}
