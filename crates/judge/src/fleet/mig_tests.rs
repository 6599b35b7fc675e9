//! Activity of MIG instances from an exporter's page: each to the pod that the exporter names, never the card's.

use super::{Fleet, SlotState, join};
use crate::catalog::prices::PriceBook;
use crate::engine::metrics::exporter;
use crate::settings::Settings;
use crate::snapshot::cluster::{Cluster, Condition, Container, Node, OwnerRef, Pod, PodPhase, PodsRead, Resources};
use crate::snapshot::{SCHEMA, Snapshot};
use jiff::Timestamp;

const HALF: &str = "nvidia.com/mig-3g.40gb";

fn at() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// A notebook on `count` halves.
fn holder(name: &str, count: u64) -> Pod {
    Pod {
        namespace: "team".into(),
        name: name.into(),
        uid: name.into(),
        node: Some("n".into()),
        phase: PodPhase::Running,
        created_at: Some(at()),
        owner: Some(OwnerRef {
            group: "kubeflow.org".into(),
            kind: "Notebook".into(),
            name: name.into(),
        }),
        ready: Some(Condition {
            status: Some(true),
            since: Some(at()),
            reason: None,
        }),
        containers: vec![Container {
            name: "jupyter".into(),
            requests: Resources {
                devices: [(HALF.to_string(), count)].into(),
                ..Resources::default()
            },
            ..Container::default()
        }],
        ..Pod::default()
    }
}

/// Two H100 cut in halves; the exporter's page is what it shows.
fn joined(pods: Vec<Pod>, page: &str) -> Fleet {
    let amounts = Resources {
        devices: [(HALF.to_string(), 4)].into(),
        ..Resources::default()
    };
    let node = Node {
        name: "n".into(),
        labels: [
            (
                "nvidia.com/gpu.product".to_string(),
                "NVIDIA-H100-80GB-HBM3".to_string(),
            ),
            ("nvidia.com/gpu.count".to_string(), "2".to_string()),
        ]
        .into(),
        ready: Some(Condition {
            status: Some(true),
            since: Some(at()),
            reason: None,
        }),
        capacity: amounts.clone(),
        allocatable: amounts,
        ..Node::default()
    };
    let snapshot = Snapshot {
        schema: SCHEMA,
        tool_version: "test".into(),
        taken_at: at(),
        window_seconds: None,
        observe_seconds: None,
        clusters: vec![Cluster {
            name: "c".into(),
            nodes: Some(vec![node]),
            pods,
            pods_read: PodsRead {
                complete: true,
                ..PodsRead::default()
            },
            gpus: exporter::page(page.as_bytes(), at(), "n"),
            ..Cluster::default()
        }],
        sources: Vec::new(),
        gaps: Vec::new(),
    };
    join(&snapshot, &PriceBook::default(), &Settings::default())
}

/// A row of the card, and one of each instance: (id, activity, pod). No memory rows: H100 has none under MIG.
fn page(card: f64, instances: &[(u32, f64, &str)]) -> String {
    let mut text = format!(
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE{{gpu=\"0\",UUID=\"GPU-a\",modelName=\"NVIDIA H100 80GB HBM3\"}} {card}\n\
         DCGM_FI_DEV_POWER_USAGE{{gpu=\"0\",UUID=\"GPU-a\",modelName=\"NVIDIA H100 80GB HBM3\"}} 600\n"
    );
    for (id, value, pod) in instances {
        let labels = format!(
            "gpu=\"0\",UUID=\"GPU-a\",modelName=\"NVIDIA H100 80GB HBM3\",GPU_I_PROFILE=\"3g.40gb\",GPU_I_ID=\"{id}\",\
             namespace=\"team\",pod=\"{pod}\",container=\"jupyter\""
        );
        text += &format!("DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{labels}}} {value}\n");
        text += &format!("DCGM_FI_DEV_POWER_USAGE{{{labels}}} 600\n");
        text += &format!("DCGM_FI_DEV_GPU_UTIL{{{labels}}} 0\n");
    }
    text
}

/// Mean activity, attribution and state of each slot that `pod` holds.
fn of(fleet: &Fleet, pod: &str) -> Vec<(Option<f64>, SlotState)> {
    let pod = fleet.pods.iter().find(|p| p.name == pod).unwrap();
    let slot = |s: &super::SlotId| {
        let slot = fleet.slot(*s);
        let own = slot.activity.as_ref();
        assert!(
            own.is_none_or(|a| a.attributed && a.power_watts.is_none() && a.gpu_util.is_none()),
            "{own:?}"
        );
        (own.and_then(|a| a.engine_active?.mean), slot.state)
    };
    pod.slots.iter().map(slot).collect()
}

#[test]
fn each_instance_has_its_own_row_and_never_the_cards() {
    let pods = || vec![holder("busy", 1), holder("calm", 1), holder("unseen", 1)];
    let fleet = joined(pods(), &page(0.9, &[(1, 0.6, "busy"), (2, 0.0, "calm")]));
    assert_eq!(of(&fleet, "busy"), vec![(Some(0.6), SlotState::Working)]);
    // One look at nothing is no idleness, and what nobody told is unknown, whatever the card does.
    assert_eq!(of(&fleet, "calm"), vec![(Some(0.0), SlotState::Unknown)]);
    assert_eq!(of(&fleet, "unseen"), vec![(None, SlotState::Unknown)]);
    // The card alone: nobody's.
    let fleet = joined(pods(), &page(0.9, &[]));
    for pod in ["busy", "calm", "unseen"] {
        assert_eq!(of(&fleet, pod), vec![(None, SlotState::Unknown)], "{pod}");
    }
}

#[test]
fn rows_go_to_the_holder_of_their_profile_once_each() {
    let fleet = joined(vec![holder("two", 2)], &page(0.0, &[(1, 0.6, "two"), (2, 0.2, "two")]));
    let mut seen: Vec<Option<f64>> = of(&fleet, "two").into_iter().map(|(mean, _)| mean).collect();
    seen.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert_eq!(seen, vec![Some(0.2), Some(0.6)]);
    // Another profile than the pod holds: the exporter is a moment behind.
    let stale = page(0.0, &[(1, 0.6, "two")]).replace("3g.40gb", "1g.10gb");
    assert_eq!(
        of(&joined(vec![holder("two", 1)], &stale), "two"),
        vec![(None, SlotState::Unknown)]
    );
    // A pod that is gone holds nothing.
    let fleet = joined(vec![holder("two", 1)], &page(0.0, &[(1, 0.6, "gone")]));
    assert_eq!(of(&fleet, "two"), vec![(None, SlotState::Unknown)]);
}
