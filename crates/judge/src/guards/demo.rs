//! The demo shows every check at work, on a fleet that could be somebody's.

use crate::analyze::CHECKS;
use crate::report::document::{Report, Status};
use crate::settings::Settings;
use std::collections::BTreeSet;

fn report() -> Report {
    crate::report_of(&crate::guards::recorded_demo(), &Settings::default())
}

/// Checks and parts that the demo does not show, and why.
const NOT_SHOWN: &[(&str, Option<&str>, &str)] = &[
    (
        "spec-hygiene",
        None,
        "it judges manifests, and the demo is a running fleet",
    ),
    (
        "parallelism-mismatch",
        Some("too-few"),
        "a server with more ranks than GPUs does not start: that is found before it runs",
    ),
    ("dark-capacity", Some("unmanaged"), "built after the recording"),
    ("low-utilization", None, "built after the recording"),
    ("stranded-gpu", Some("asked-cpus"), "of Slurm's accounts"),
    ("stranded-gpu", Some("asked-memory"), "of Slurm's accounts"),
    ("stranded-gpu", Some("asked-nodes"), "of Slurm's accounts"),
];

#[test]
fn every_part_of_every_check_fires() {
    let report = report();
    let fired: BTreeSet<(&str, Option<&str>)> = report
        .findings
        .iter()
        .filter(|f| f.status != Status::Suppressed)
        .map(|f| (f.check.as_str(), f.part.as_deref()))
        .collect();
    for check in CHECKS {
        for part in check.parts() {
            let excused = NOT_SHOWN
                .iter()
                .any(|(id, which, _)| *id == check.id() && which.is_none_or(|w| Some(w) == *part));
            assert_eq!(
                fired.contains(&(check.id(), *part)),
                !excused,
                "{}{}{}: make it fire in tests/demo/fleet.py and record it again, or name the reason here",
                check.id(),
                if part.is_some() { "/" } else { "" },
                part.unwrap_or_default(),
            );
        }
    }
    assert!(fired.len() >= 20, "{fired:?}");
}

#[test]
fn it_is_a_mid_size_fleet_with_healthy_workloads() {
    let report = report();
    assert!((35..=50).contains(&report.totals.nodes));
    let clouds: BTreeSet<&str> = report
        .nodes
        .iter()
        .filter_map(|n| Some(&n.instance_type.as_deref()?[..2]))
        .collect();
    for cloud in ["p5", "a3", "St"] {
        assert!(clouds.contains(cloud), "{clouds:?}");
    }
    // Spec notes without dollars are no illness.
    let ill: BTreeSet<(Option<&str>, Option<&str>)> = report
        .findings
        .iter()
        .filter(|f| f.usd_per_hour.is_some())
        .map(|f| (f.subject.namespace.as_deref(), f.subject.name.as_deref()))
        .collect();
    let healthy: Vec<_> = report
        .workloads
        .iter()
        .filter(|w| w.state == "working" && !ill.contains(&(Some(w.namespace.as_str()), Some(w.name.as_str()))))
        .collect();
    assert!(healthy.len() >= 12, "{} of {}", healthy.len(), report.workloads.len());
    let models: BTreeSet<_> = report.workloads.iter().filter_map(|w| w.model.as_deref()).collect();
    assert!(models.len() >= 8, "{models:?}");
    let waste = report.totals.waste_percent.unwrap();
    assert!((25.0..50.0).contains(&waste), "{waste} %");
    // Some of it is not read, so that the report shows what it does not know.
    let coverage = report.totals.coverage_percent.unwrap();
    assert!((90.0..100.0).contains(&coverage), "{coverage} %");
}
