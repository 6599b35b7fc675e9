//! Each number of the policy file changes what the report of some fleet says: a key without effect would be a lie.

use super::{history_tests, sizing_tests, tests};
use crate::settings::{self, KEYS, Settings};
use crate::snapshot::Snapshot;

/// What the store counts by; the collector's tests show that it reaches the queries.
const ASKED_OF_THE_STORE: &[&str] = &["capacity_kv_usage"];

fn fleets() -> Vec<Snapshot> {
    let mut all: Vec<Snapshot> = tests::cases()
        .into_iter()
        .chain(history_tests::cases())
        .flat_map(|(_, fires, silent)| [fires, silent])
        .collect();
    all.push(crate::run::demo().expect("the demo"));
    let small = "Qwen/Qwen2.5-7B-Instruct";
    all.push(sizing_tests::with_history(sizing_tests::served(1, small, 1e5), |_| {}));
    all.push(sizing_tests::with_history(sizing_tests::served(6, small, 1e5), |_| {}));
    // Nobody says how much host memory it takes.
    let mut bare = sizing_tests::served(1, small, 1e5);
    for container in bare.clusters[0].pods.iter_mut().flat_map(|p| &mut p.containers) {
        (container.requests.memory, container.limits.memory) = (None, None);
    }
    all.push(bare);
    // Warm, with a little activity; warm for an L4, and not for what it may draw.
    let warm = |watts: f64, activity: Option<f64>, card: Option<&str>| {
        let mut snap = history_tests::notebook(0.0);
        if let Some(card) = card {
            let labels = &mut snap.clusters[0].nodes.as_mut().expect("nodes")[0].labels;
            labels.insert("nvidia.com/gpu.product".into(), card.into());
            labels.remove("node.kubernetes.io/instance-type");
        }
        for gpu in &mut snap.clusters[0].history.as_mut().expect("a history").gpus {
            gpu.power_watts = history_tests::figure(watts);
            (gpu.tensor, gpu.dram) = (
                activity.and_then(history_tests::figure),
                activity.and_then(history_tests::figure),
            );
        }
        snap
    };
    all.push(warm(600.0, Some(0.01), None));
    all.push(warm(50.0, None, Some("NVIDIA-L4")));
    // As much output for half the prompts.
    let mut shorter = history_tests::work(0.89);
    if let Some(history) = shorter.clusters[0].history.as_mut() {
        let work = &mut history.usage[0].work[0];
        work.prompt_tokens = work.prompt_tokens.map(|t| t / 2.0);
    }
    all.push(shorter);
    all
}

#[test]
fn every_threshold_changes_some_report() {
    let said = |settings: &Settings, fleet: &Snapshot| {
        serde_json::to_string(&tests::report_by(fleet, settings)).expect("a report is JSON")
    };
    let fleets = fleets();
    let plain: Vec<String> = fleets.iter().map(|f| said(&Settings::default(), f)).collect();
    let without: Vec<String> = KEYS
        .iter()
        .filter(|key| !ASKED_OF_THE_STORE.contains(&key.name))
        .filter(|key| {
            let values = ["0", "1", "3", "100", "1000000000", "0.000001", "0.5"];
            let changed = values
                .iter()
                .filter_map(|value| {
                    let text = format!("[thresholds.{}]\n{} = {value}\n", key.section, key.name);
                    settings::parse(&text, "policy", &[]).ok()
                })
                .any(|settings| {
                    let set = (key.get)(&settings.thresholds) != (key.get)(&Settings::default().thresholds);
                    set && fleets
                        .iter()
                        .zip(&plain)
                        .any(|(fleet, before)| said(&settings, fleet) != *before)
                });
            !changed
        })
        .map(|key| format!("{}.{}", key.section, key.name))
        .collect();
    assert!(without.is_empty(), "these keys change nothing: {without:?}");
}
