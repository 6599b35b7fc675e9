//! One cluster, machine and store each counts once, and as itself.

#![allow(clippy::unnecessary_wraps, reason = "what snapshots hold is optional")]

use super::{Fleet, join};
use crate::catalog::prices::PriceBook;
use crate::settings::Settings;
use crate::snapshot::cluster::{
    Cluster, Condition, Container, ContainerState, Node, OwnerRef, Pod, PodPhase, PodsRead, Resources, UnreadKind,
};
use crate::snapshot::gpu::{GpuScrape, PodName};
use crate::snapshot::history::{Figure, GpuHistory, History, LoadHistory};
use crate::snapshot::{SCHEMA, Snapshot};
use jiff::{SignedDuration, Timestamp};

const DAY: i64 = 86_400;

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

fn ready() -> Option<Condition> {
    Some(Condition {
        status: Some(true),
        since: Some(ago(20 * DAY)),
        reason: None,
    })
}

fn gpus(n: u64) -> Resources {
    Resources {
        devices: [("nvidia.com/gpu".to_string(), n)].into(),
        ..Resources::default()
    }
}

fn node(name: &str, provider: &str) -> Node {
    Node {
        name: name.into(),
        uid: Some(format!(
            "{:0>8}-0000-4000-8000-000000000000",
            name.len() * 7919 + name.as_bytes()[0] as usize
        )),
        machine: Some(format!("machine-{name}")),
        provider: Some(provider.into()),
        created_at: Some(ago(20 * DAY)),
        labels: [
            (
                "node.kubernetes.io/instance-type".to_string(),
                "p5.48xlarge".to_string(),
            ),
            ("topology.kubernetes.io/region".to_string(), "us-east-1".to_string()),
        ]
        .into(),
        ready: ready(),
        capacity: gpus(8),
        allocatable: gpus(8),
        ..Node::default()
    }
}

fn pod(name: &str, node: &str) -> Pod {
    Pod {
        namespace: "ml".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        node: Some(node.into()),
        phase: PodPhase::Running,
        created_at: Some(ago(20 * DAY)),
        owner: Some(OwnerRef {
            group: "apps".into(),
            kind: "StatefulSet".into(),
            name: "serve".into(),
        }),
        ready: ready(),
        containers: vec![Container {
            name: "server".into(),
            requests: gpus(8),
            ready: true,
            state: Some(ContainerState::Running {
                since: Some(ago(20 * DAY)),
            }),
            ..Container::default()
        }],
        ..Pod::default()
    }
}

fn cluster(name: &str, uid: &str, nodes: &[&str]) -> Cluster {
    Cluster {
        name: name.into(),
        uid: Some(uid.into()),
        nodes: Some(nodes.iter().map(|n| node(n, "aws")).collect()),
        pods_read: PodsRead {
            complete: true,
            ..PodsRead::default()
        },
        autoscalers: Some(Vec::new()),
        disruption_budgets: Some(Vec::new()),
        ..Cluster::default()
    }
}

fn snapshot(clusters: Vec<Cluster>) -> Snapshot {
    Snapshot {
        schema: SCHEMA,
        tool_version: String::new(),
        taken_at: now(),
        window_seconds: Some(604_800),
        observe_seconds: None,
        clusters,
        sources: Vec::new(),
        gaps: Vec::new(),
    }
}

fn joined(clusters: Vec<Cluster>) -> Fleet {
    join(&snapshot(clusters), &PriceBook::default(), &Settings::default())
}

fn said(fleet: &Fleet, word: &str) -> bool {
    fleet.gaps.iter().any(|g| g.reason.contains(word))
}

#[test]
fn a_cluster_by_three_contexts_is_paid_once() {
    let one = |name: &str| cluster(name, "u", &["n1", "node2"]);
    let mut best = one("b");
    best.unread.clear();
    let mut worse = one("a");
    worse.pods_read.complete = false;
    let fleet = joined(vec![worse, best, one("c")]);
    assert_eq!((fleet.clusters.len(), fleet.nodes.len()), (1, 2));
    assert_eq!(fleet.clusters[0].name, "b", "the one of which most was read");
    assert!(said(&fleet, "the same cluster as 'b'"));
    // Without its uid it is known by its objects.
    let mut nameless = one("d");
    nameless.uid = None;
    let fleet = joined(vec![one("a"), nameless]);
    assert_eq!(fleet.nodes.len(), 2);
}

#[test]
fn of_two_snapshots_of_a_cluster_the_newest_counts() {
    let mut old = cluster("old", "u", &["n1", "node2"]);
    old.read_at = Some(ago(30 * DAY));
    let mut new = cluster("new", "u", &["node-three", "node-four-x"]);
    new.read_at = Some(now());
    for clusters in [vec![old.clone(), new.clone()], vec![new, old]] {
        let fleet = joined(clusters);
        assert_eq!((fleet.clusters.len(), fleet.nodes.len()), (1, 2));
        assert_eq!(fleet.clusters[0].name, "new");
    }
}

#[test]
fn two_clusters_that_claim_one_identity_are_both_counted() {
    let fleet = joined(vec![cluster("a", "u", &["n1"]), cluster("b", "u", &["node2"])]);
    assert_eq!((fleet.clusters.len(), fleet.nodes.len()), (2, 2));
    assert!(said(&fleet, "one identity"));
    let fleet = joined(vec![cluster("a", "u", &["n1"]), cluster("b", "v", &["node2"])]);
    assert!(fleet.nodes.len() == 2 && !said(&fleet, "one identity"));
}

#[test]
fn a_machine_with_two_node_objects_is_paid_once() {
    let twice = |provider: &str| {
        let mut cluster = cluster("a", "u", &[]);
        let mut gone = node("n1", provider);
        gone.ready = gone.ready.map(|r| Condition {
            status: Some(false),
            ..r
        });
        let mut back = node("node2", provider);
        back.machine.clone_from(&gone.machine);
        cluster.nodes = Some(vec![gone, back]);
        joined(vec![cluster])
    };
    let fleet = twice("aws");
    assert_eq!(
        fleet.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(),
        ["node2"]
    );
    assert!(said(&fleet, "the same machine"));
    assert_eq!(
        twice("k3s").nodes.len(),
        2,
        "host names repeat where no cloud makes them"
    );
}

fn figure(value: f64) -> Option<Figure> {
    Some(Figure {
        mean: Some(value),
        max: Some(value),
        bins: Some(2016.0),
        ..Figure::default()
    })
}

/// A week in which nobody asked anything of `pod`.
fn idle(store: &str, pods: &[&str], node: &str) -> Option<Box<History>> {
    let holder = |name: &str| {
        Some(PodName {
            namespace: "ml".into(),
            name: name.into(),
            container: None,
        })
    };
    let device = |(i, name): (usize, &&str)| GpuHistory {
        uuid: format!("GPU-{i}"),
        node: Some(node.into()),
        holder: holder(name),
        first: Some(ago(7 * DAY)),
        last: Some(now()),
        gpu_util: figure(0.0),
        gr_engine: figure(0.0),
        ..GpuHistory::default()
    };
    let load = |name: &str| LoadHistory {
        namespace: "ml".into(),
        name: name.into(),
        first: Some(ago(7 * DAY)),
        requests: figure(0.0),
        requests_total: Some(0.0),
        ..LoadHistory::default()
    };
    Some(Box::new(History {
        store: store.into(),
        flavour: "prometheus".into(),
        end: now(),
        window_seconds: 604_800,
        bin_seconds: 300,
        gpus: pods.iter().enumerate().map(device).collect(),
        pods: pods.iter().map(|p| load(p)).collect(),
        ..History::default()
    }))
}

fn with(name: &str, uid: &str, pods: &[&str], history: Option<Box<History>>) -> Cluster {
    let mut cluster = cluster(name, uid, &["n1"]);
    cluster.pods = pods.iter().map(|p| pod(p, "n1")).collect();
    for (i, node) in cluster.nodes.iter_mut().flatten().enumerate() {
        // The same names in each cluster, on machines and with uids of their own.
        node.machine = Some(format!("{name}-{i}"));
        node.uid = Some(format!("{name}-{i}"));
    }
    cluster.history = history;
    cluster
}

fn believed(fleet: &Fleet) -> usize {
    fleet
        .slots
        .iter()
        .filter(|s| s.activity.as_ref().is_some_and(|a| a.history))
        .count()
}

#[test]
fn a_store_that_does_not_know_the_cluster_is_not_believed() {
    let own = joined(vec![with("a", "u", &["serve-0"], idle("mon/prom", &["serve-0"], "n1"))]);
    assert!(believed(&own) > 0, "nodes and pods of these names are its own");
    let mut clusters = vec![with("a", "u", &["serve-0"], idle("mon/prom", &["other-0"], "n9"))];
    let fleet = joined(clusters.clone());
    assert!(believed(&fleet) == 0 && said(&fleet, "no node, no pod and no GPU"));
    // A single label value that is another cluster's changes nothing of that.
    clusters[0].history.as_mut().unwrap().scope = Some("cluster=\"prod-b\"".into());
    assert!(said(&joined(clusters), "no node, no pod and no GPU"));
}

#[test]
fn one_store_asked_for_two_clusters_needs_a_matcher_each() {
    let url = "http://prom:9090";
    let both = |a: Option<Box<History>>, b: Option<Box<History>>| {
        let a = with("prod-a", "u", &["serve-0"], a);
        let b = with("prod-b", "v", &["serve-0"], b);
        vec![a, b]
    };
    let history = || idle(url, &["serve-0"], "n1");
    let fleet = joined(both(history(), history()));
    assert!(believed(&fleet) == 0 && said(&fleet, "does not tell them apart"));
    // Whose GPUs' UUIDs are in it is told apart by them.
    let mut told = both(history(), history());
    told[0].gpus.push(GpuScrape {
        node: "n1".into(),
        uuid: Some("GPU-0".into()),
        ..GpuScrape::default()
    });
    let fleet = joined(told);
    assert!(believed(&fleet) > 0 && said(&fleet, "does not tell them apart"));
    let scoped = |value: &str| {
        let mut h = history();
        h.as_mut().unwrap().scope = Some(format!("cluster=\"{value}\""));
        h
    };
    let fleet = joined(both(scoped("a"), scoped("b")));
    assert!(!said(&fleet, "does not tell them apart"), "each has its own matcher");
    // Inside its own cluster a name is another store in each.
    let inside = || idle("monitoring/prom:9090", &["serve-0"], "n1");
    assert!(!said(&joined(both(inside(), inside())), "does not tell them apart"));
}

#[test]
fn a_store_of_several_clusters_is_seen_by_the_pods_it_has() {
    let pods = ["serve-0", "serve-1", "serve-2", "serve-3"];
    let fleet = joined(vec![with("a", "u", &["serve-0"], idle("mon/prom", &pods, "n1"))]);
    assert!(believed(&fleet) == 0 && said(&fleet, "several clusters'"));
    // One that ended a moment ago says nothing.
    let fleet = joined(vec![with("a", "u", &["serve-0"], idle("mon/prom", &pods[..2], "n1"))]);
    assert!(believed(&fleet) > 0);
    // Whoever may not see all pods cannot know.
    let mut narrow = with("a", "u", &["serve-0"], idle("mon/prom", &pods, "n1"));
    narrow.pods_read.complete = false;
    assert!(!said(&joined(vec![narrow]), "several clusters'"));
}

#[test]
fn what_was_dropped_is_known_as_unread() {
    let lost = with("a", "u", &["serve-0"], idle("mon/prom", &["other-0"], "n9"));
    let mut gaps = Vec::new();
    let taken = snapshot(vec![lost]);
    let kept = super::identity::once(&taken, &mut gaps);
    assert!(kept[0].history.is_none());
    assert!(kept[0].unread.iter().any(|u| u.what == UnreadKind::History));
}
