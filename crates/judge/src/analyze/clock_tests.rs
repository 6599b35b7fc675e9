//! A clock that is not ours takes `measured` from what rests on it, and from nothing else.

use super::finding::{Confidence, Finding};
use super::{Context, run};
use crate::catalog::prices::PriceBook;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{ClockOf, ServerClock};
use std::collections::BTreeMap;

type Told = BTreeMap<String, (Confidence, Option<String>, bool)>;

/// Of each finding: how sure, whose cluster, and whether a store's series decided.
fn told(snapshot: &Snapshot) -> (Told, Vec<Finding>) {
    let settings = Settings::default();
    let fleet = crate::fleet::join(snapshot, &PriceBook::default(), &settings);
    let outcomes = run(&Context::new(&fleet, &settings), |_| true);
    let all: Vec<Finding> = outcomes.into_iter().flat_map(|(_, o)| o.findings).collect();
    let told = |f: &Finding| {
        let by_history = f.evidence.iter().any(|e| e.source == "prometheus");
        let key = format!("{} {:?} {:?}", f.check, f.part, f.subject);
        (key, (f.confidence, f.subject.cluster.clone(), by_history))
    };
    (all.iter().map(told).collect(), all)
}

fn with(clock: &ServerClock, cluster: usize) -> Told {
    let mut snapshot = crate::guards::recorded_demo();
    snapshot.clusters[cluster].clocks.push(clock.clone());
    told(&snapshot).0
}

#[test]
fn only_what_rests_on_the_clock_loses_measured() {
    let demo = crate::guards::recorded_demo();
    let (before, findings) = told(&demo);
    let measured = |of: &Told, cluster: &str, history: bool| {
        let sure = of
            .values()
            .filter(|(sure, of, by)| *sure == Confidence::Measured && of.as_deref() == Some(cluster) && *by == history);
        sure.count()
    };
    // The store's: all of its cluster that history tells, and nothing of another.
    let store = ServerClock {
        ahead_seconds: -3600,
        ..ServerClock::default()
    };
    let names: Vec<&str> = demo.clusters.iter().map(|c| c.name.as_str()).collect();
    let after = with(&store, 0);
    assert!(measured(&before, names[0], true) >= 3 && measured(&before, names[0], false) >= 1);
    assert_eq!(measured(&after, names[0], true), 0);
    assert_eq!(measured(&after, names[0], false), measured(&before, names[0], false));
    for other in &names[1..] {
        for history in [true, false] {
            assert_eq!(measured(&after, other, history), measured(&before, other, history));
        }
    }
    // A node's: what claims it, or runs there.
    let stuck = findings
        .iter()
        .find(|f| f.part == Some("stuck") && f.confidence == Confidence::Measured);
    let stuck = stuck.unwrap();
    let at = names
        .iter()
        .position(|n| Some(*n) == stuck.subject.cluster.as_deref())
        .unwrap();
    let pods = &demo.clusters[at].pods;
    let name = stuck.subject.name.as_deref().unwrap();
    let pod = pods
        .iter()
        .find(|p| p.name.starts_with(name) && p.node.is_some())
        .unwrap();
    let node = ServerClock {
        of: ClockOf::Node,
        name: pod.node.clone(),
        ahead_seconds: 3600,
        ..ServerClock::default()
    };
    let own = ServerClock {
        of: ClockOf::Pod,
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        ahead_seconds: 3600,
    };
    for clock in [node, own] {
        let after = with(&clock, at);
        let capped: Vec<&String> = before
            .iter()
            .filter(|(k, v)| after[*k].0 < v.0)
            .map(|(k, _)| k)
            .collect();
        assert!(capped.iter().any(|k| k.contains(name)), "{capped:?}");
        let elsewhere = |k: &&&String| before[**k].1.as_deref() != Some(names[at]);
        assert_eq!(capped.iter().find(elsewhere), None);
        if clock.of == ClockOf::Pod {
            assert_eq!(capped.len(), 1, "{capped:?}");
        }
        assert!(before.iter().all(|(k, v)| after[k].0 <= v.0));
    }
}
