//! What the fleet's servers tell of their own memory and speed, as measurements for each other and for other fleets.

use super::Demand;
use super::held::{Held, held};
use super::present;
use crate::fit::book::facts::{self, Fact, Facts, Speed};
use crate::fit::book::{Book, Refusal, Told};
use crate::fleet::{Fleet, Workload, WorkloadClass};
use crate::settings::{LearnedFact, Settings, Thresholds};
use crate::snapshot::Gap;
use crate::units::Tokens;
use sha2::{Digest, Sha256};
use std::collections::HashSet;

fn servers(fleet: &Fleet) -> impl Iterator<Item = &Workload> {
    fleet.workloads.iter().filter(|w| w.class == WorkloadClass::Server)
}

fn whose(workload: &Workload) -> String {
    format!("{} {}/{}", workload.kind, workload.namespace, workload.name)
}

fn told<'a>(held: &'a Held<'_>, kv_capacity: Tokens, whose: &'a str) -> Told<'a> {
    Told {
        model: held.model,
        settings: held.settings,
        gpu: held.gpu,
        parallelism: held.parallelism(),
        kv_capacity,
        whose,
    }
}

/// The book of all servers that tell their capacity, and of what files tell; what no card could hold is refused, and told.
pub(super) fn book(fleet: &Fleet, settings: &Settings, gaps: &mut Vec<Gap>) -> Book {
    let mut book = Book::default();
    for workload in servers(fleet) {
        let Some(kv_capacity) = workload.kv_capacity else {
            continue;
        };
        let Ok(held) = held(fleet, workload) else { continue };
        let whose = whose(workload);
        if let Err(Refusal::Impossible(reason)) = book.learn(&told(&held, kv_capacity, &whose)) {
            gaps.push(Gap {
                source: format!("cluster {}", fleet.clusters[workload.cluster].name),
                what: format!("KV capacity of {whose}"),
                reason: format!("the server's figure cannot be: {reason}"),
                effect: "its capacity is estimated, and it measures no other server".into(),
                remedy: "check that its model and parallelism are those of the running server".into(),
            });
        }
    }
    learn(fleet, &settings.learned, &mut book, gaps);
    book
}

/// What files tell. Of a server of this fleet its own word counts, not what was once written down of it.
fn learn(fleet: &Fleet, learned: &[LearnedFact], book: &mut Book, gaps: &mut Vec<Gap>) {
    if learned.is_empty() {
        return;
    }
    let here: HashSet<(String, String)> = servers(fleet)
        .filter_map(|w| {
            let held = held(fleet, w).ok()?;
            let combination = facts::combination(&told(&held, Tokens(0), "")).ok()?;
            Some(combination.key(hashed(&fleet.clusters[w.cluster].key, w)))
        })
        .collect();
    let mut unknown = 0;
    for LearnedFact { fact, file } in learned.iter().filter(|l| !here.contains(&l.fact.key())) {
        match book.learn_fact(fact, file) {
            Ok(()) => {}
            Err(Refusal::Silent(_)) => unknown += 1,
            Err(Refusal::Impossible(reason)) => gaps.push(Gap {
                source: file.clone(),
                what: format!("what server {} told", fact.server),
                reason: format!("it cannot be: {reason}"),
                effect: "it measures nothing".into(),
                remedy:
                    "have the file written again, from snapshots whose model and parallelism are the running servers'"
                        .into(),
            }),
        }
    }
    if unknown > 0 {
        gaps.push(Gap {
            source: "--learned".into(),
            what: format!("{unknown} of {} facts", learned.len()),
            reason: "their model or card is not in this catalogue, their pool has a size that was given, or they were seen too shortly"
                .into(),
            effect: "they measure nothing here".into(),
            remedy: "nothing to do, or use the gpuwaste that wrote them".into(),
        });
    }
}

/// A server that is left out of the book, and why.
pub struct LeftOut {
    pub whose: String,
    pub why: String,
}

/// What this fleet's servers tell to others.
pub fn of(fleet: &Fleet, settings: &Settings) -> (Facts, Vec<LeftOut>) {
    let mut all = Vec::new();
    let mut left_out = Vec::new();
    for workload in servers(fleet) {
        match fact(fleet, workload, &settings.thresholds) {
            Ok(fact) => all.push(fact),
            Err(why) => left_out.push(LeftOut {
                whose: whose(workload),
                why,
            }),
        }
    }
    (Facts::of(all), left_out)
}

fn fact(fleet: &Fleet, workload: &Workload, t: &Thresholds) -> Result<Fact, String> {
    let held = held(fleet, workload).map_err(|lack| lack.reason.into_owned())?;
    let whose = whose(workload);
    let told = told(&held, workload.kv_capacity.unwrap_or(Tokens(0)), &whose);
    let combination = facts::combination(&told)?;
    let possible = workload.kv_capacity.map(|_| told.possible());
    if let Some(Err(why)) = possible {
        return Err(format!("its KV capacity cannot be: {why}"));
    }
    let speed = present::demand(fleet, workload, t).and_then(|demand| speed(&demand));
    if workload.kv_capacity.is_none() && speed.is_none() {
        return Err("it tells neither its KV capacity nor its speed over a day".into());
    }
    let at = fleet.now(workload.cluster);
    let since_start = workload.pods.iter().map(|p| fleet.pod(*p).restarts).sum::<u64>();
    let over_time = workload.observed.bins.as_ref().and_then(|b| b.restarts);
    Ok(Fact {
        combination,
        server: hashed(&fleet.clusters[workload.cluster].key, workload),
        // To the second: more would only tell recordings apart.
        seen_at: jiff::Timestamp::from_second(at.as_second()).unwrap_or(at),
        kv_capacity_tokens: workload.kv_capacity.map(|c| c.0),
        speed,
        restarts: (!workload.pods.is_empty()).then(|| since_start.max(over_time.unwrap_or(0.0).max(0.0).ceil() as u64)),
    })
}

/// Of one engine. `None`: not known over a day.
fn speed(demand: &Demand) -> Option<Speed> {
    const DAY: f64 = 86_400.0;
    let (input, output) = demand.lengths();
    let n = demand.engines().max(1.0);
    let complete = demand.coverage.is_some_and(|c| c >= super::KNOWN_LOAD) && demand.window_seconds >= DAY;
    let speed = Speed {
        window_seconds: demand.window_seconds,
        output_tokens_per_second: demand.output_tokens_per_second / n,
        peak_output_tokens_per_second: demand.peak_output_tokens_per_second / n,
        inter_token_latency: demand.inter_token_latency?,
        time_to_first_token: demand.time_to_first_token,
        input_tokens: input?,
        output_tokens: output?,
    };
    complete.then(|| speed.rounded())
}

/// Tells servers apart, and nothing else.
fn hashed(cluster: &str, workload: &Workload) -> String {
    let mut hash = Sha256::new();
    for field in [
        "measured fact",
        cluster,
        &workload.kind,
        &workload.namespace,
        &workload.name,
    ] {
        hash.update(field.as_bytes());
        hash.update([0]);
    }
    let mut id: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    id.truncate(16);
    id
}

#[cfg(test)]
mod tests {
    use super::super::{Judgement, Sizing};
    use crate::analyze::sizing_tests::{load, replica};
    use crate::analyze::tests::{DAY, node, scrape, snapshot};
    use crate::fit::{FitConfidence, Placement};
    use crate::fleet;
    use crate::settings::Settings;
    use crate::snapshot::Gap;
    use crate::snapshot::engine::ServerIdentity;
    use crate::units::Tokens;

    /// Two servers of one model; only the first tells its capacity. Their placements, and the gaps.
    fn placed(told: u64, change: impl FnOnce(&mut crate::snapshot::Snapshot)) -> (Vec<Placement>, Vec<Gap>) {
        let model = "Qwen/Qwen2.5-7B-Instruct";
        let pods = [replica("first", 0, 1, model), replica("second", 0, 1, model)];
        let engines = pods.iter().zip([Some(told), None]).map(|(pod, capacity)| {
            let mut engine = scrape(pod, 10 * DAY, load(1e5));
            engine.identity = ServerIdentity {
                model_root: Some(model.into()),
                max_model_len: Some(8192),
                kv_capacity: capacity.map(Tokens),
                ..ServerIdentity::default()
            };
            engine
        });
        let engines = engines.collect();
        let mut snap = snapshot(vec![node("n", 30 * DAY, true)], pods.to_vec(), engines);
        snap.clusters[0].autoscalers = Some(Vec::new());
        snap.clusters[0].disruption_budgets = Some(Vec::new());
        change(&mut snap);
        let settings = Settings::default();
        let fleet = fleet::join(&snap, &crate::catalog::prices::PriceBook::default(), &settings);
        let sizing = Sizing::new(&crate::analyze::Context::new(&fleet, &settings));
        let mut found: Vec<(String, Placement)> = Vec::new();
        for (workload, judgement) in fleet.workloads.iter().zip(sizing.judgements) {
            if let Judgement::Sized(plan) = judgement {
                found.push((workload.name.clone(), plan.current));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        (found.into_iter().map(|(_, p)| p).collect(), sizing.gaps)
    }

    #[test]
    fn a_server_measures_another_of_its_kind() {
        let (both, gaps) = placed(900_000, |_| {});
        assert_eq!(both.len(), 2, "{gaps:?}");
        assert!(gaps.is_empty(), "{gaps:?}");
        for placement in &both {
            assert_eq!(placement.confidence, FitConfidence::Measured, "{placement:?}");
            let tokens = placement.kv_capacity.unwrap().value.0;
            assert!(tokens.abs_diff(900_000) < 2_000, "{tokens}");
        }
        assert!(
            both[1].confidence_reasons[0].contains("ml/first"),
            "{:?}",
            both[1].confidence_reasons
        );
    }

    #[test]
    fn one_of_another_version_only_moves_the_estimate() {
        let (both, _) = placed(900_000, |snap| {
            snap.clusters[0].pods[1].containers[0]
                .server
                .as_mut()
                .unwrap()
                .engine_version = Some("0.10.2".into());
        });
        assert_eq!(both[1].confidence, FitConfidence::Estimated);
        let reasons = both[1].confidence_reasons.join("; ");
        assert!(
            reasons.contains("ml/first") && reasons.contains("engine version"),
            "{reasons}"
        );
    }

    #[test]
    fn a_figure_that_cannot_be_is_a_gap_and_measures_nothing() {
        let (both, gaps) = placed(50_000_000, |_| {});
        assert!(
            both.iter().all(|p| p.confidence == FitConfidence::Estimated),
            "{both:?}"
        );
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert!(
            gaps[0].what.contains("ml/first") && gaps[0].reason.contains("50000000"),
            "{gaps:?}"
        );
    }
}
