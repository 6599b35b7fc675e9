//! What the fleet's servers tell of their own memory, as measurements for each other.

use super::held::held;
use crate::fit::book::{Book, Refusal, Told};
use crate::fleet::{Fleet, WorkloadClass};
use crate::snapshot::Gap;

/// The book of all servers that tell their capacity; what no card could hold is refused, and told.
pub(super) fn book(fleet: &Fleet, gaps: &mut Vec<Gap>) -> Book {
    let mut book = Book::default();
    for workload in fleet.workloads.iter().filter(|w| w.class == WorkloadClass::Server) {
        let Some(kv_capacity) = workload.kv_capacity else {
            continue;
        };
        let Ok(held) = held(fleet, workload) else { continue };
        let whose = format!("{} {}/{}", workload.kind, workload.namespace, workload.name);
        let learned = book.learn(&Told {
            model: held.model,
            settings: held.settings,
            gpu: held.gpu,
            parallelism: held.parallelism(),
            kv_capacity,
            whose: &whose,
        });
        if let Err(Refusal::Impossible(reason)) = learned {
            gaps.push(Gap {
                source: format!("cluster {}", fleet.clusters[workload.cluster].name),
                what: format!("KV capacity of {whose}"),
                reason: format!("the server's figure cannot be: {reason}"),
                effect: "its capacity is estimated, and it measures no other server".into(),
                remedy: "check that its model and parallelism are those of the running server".into(),
            });
        }
    }
    book
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
