//! The checks over generated fleets whose truth the generator knows by its own arithmetic, and one firing and one silent
//! fixture for each check.

use super::{CHECKS, Context, Outcome};
use crate::catalog::prices::PriceBook;
use crate::fleet;
use crate::report::document::{Report, Status};
use crate::report::ledger::Ledger;
use crate::report::{self, Input};
use crate::settings::Settings;
use crate::snapshot::cluster::{
    Cluster, Condition, Container, ContainerState, Exit, Node, Note, NoteAbout, Origin, OwnerRef, Pod, PodPhase,
    PodsRead, Resources,
};
use crate::snapshot::engine::{EngineReading, EngineScrape, Histogram, ServerIdentity};
use crate::snapshot::server::{EngineKind, EngineSettings};
use crate::snapshot::{SCHEMA, Snapshot};
use crate::units::{Bytes, MilliCores, Tokens};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

pub(super) const HOUR: i64 = 3600;
pub(super) const DAY: i64 = 24 * HOUR;

pub(super) fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

#[allow(clippy::unnecessary_wraps, reason = "every time in a snapshot is optional")]
pub(super) fn ago(seconds: i64) -> Option<Timestamp> {
    Some(now() - SignedDuration::from_secs(seconds))
}

/// A p5.48xlarge: 8 × H100, $55.04/h in us-east-1.
pub(super) fn node(name: &str, age: i64, ready: bool) -> Node {
    let amounts = Resources {
        cpu: Some(MilliCores(192_000)),
        memory: Some(Bytes(2048 << 30)),
        pods: Some(110),
        devices: [("nvidia.com/gpu".to_string(), 8)].into(),
        ..Resources::default()
    };
    let label = |k: &str, v: &str| (k.to_string(), v.to_string());
    Node {
        name: name.into(),
        created_at: ago(age),
        labels: [
            label("node.kubernetes.io/instance-type", "p5.48xlarge"),
            label("topology.kubernetes.io/region", "us-east-1"),
            label("karpenter.sh/capacity-type", "on-demand"),
            label("karpenter.sh/nodepool", "h100"),
        ]
        .into(),
        provider: Some("aws".into()),
        ready: Some(Condition {
            status: Some(ready),
            since: ago(age.min(3 * HOUR)),
            reason: None,
        }),
        capacity: amounts.clone(),
        allocatable: amounts,
        ..Node::default()
    }
}

const GPU_PRICE: f64 = 55.04 / 8.0;

pub(super) fn server(name: &str, on: &str, gpus: u64, age: i64) -> Pod {
    Pod {
        namespace: "ml".into(),
        name: name.into(),
        uid: name.into(),
        node: Some(on.into()),
        phase: PodPhase::Running,
        created_at: ago(age),
        started_at: ago(age),
        owner: Some(OwnerRef {
            group: "apps".into(),
            kind: "StatefulSet".into(),
            name: name.into(),
        }),
        ready: Some(Condition {
            status: Some(true),
            since: ago(age),
            reason: None,
        }),
        containers: vec![Container {
            name: "server".into(),
            requests: Resources {
                cpu: Some(MilliCores(32_000)),
                memory: Some(Bytes(64 << 30)),
                devices: [("nvidia.com/gpu".to_string(), gpus)].into(),
                ..Resources::default()
            },
            server: Some(Box::new(EngineSettings {
                engine: Some(EngineKind::Vllm),
                model: Some("acme/model".into()),
                tensor_parallel: Some(gpus as u32),
                ..EngineSettings::default()
            })),
            state: Some(ContainerState::Running { since: ago(age) }),
            ready: true,
            ..Container::default()
        }],
        ..Pod::default()
    }
}

pub(super) fn reading(requests: f64) -> EngineReading {
    EngineReading {
        at: now(),
        running: Some(if requests > 0.0 { 2.0 } else { 0.0 }),
        waiting: Some(0.0),
        kv_usage: Some(0.2),
        requests: Some(requests),
        prompt_tokens: Some(requests * 100.0),
        output_tokens: Some(requests * 50.0),
        preemptions: Some(0.0),
        prefix_queries: None,
        prefix_hits: None,
        e2e_latency: None,
        time_to_first_token: None,
        inter_token_latency: None,
        prompt_length: None,
        output_length: None,
    }
}

pub(super) fn scrape(pod: &Pod, life: i64, reading: EngineReading) -> EngineScrape {
    EngineScrape {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        container: "server".into(),
        port: 8000,
        engine: Some(EngineKind::Vllm),
        process_started_at: ago(life),
        readings: vec![reading],
        ..EngineScrape::default()
    }
}

pub(super) fn snapshot(nodes: Vec<Node>, pods: Vec<Pod>, engines: Vec<EngineScrape>) -> Snapshot {
    Snapshot {
        schema: SCHEMA,
        tool_version: "test".into(),
        taken_at: now(),
        window_seconds: None,
        observe_seconds: None,
        clusters: vec![Cluster {
            name: "c".into(),
            uid: Some("uid".into()),
            nodes: Some(nodes),
            pods,
            pods_read: PodsRead {
                complete: true,
                ..PodsRead::default()
            },
            autoscalers: Some(Vec::new()),
            engines,
            ..Cluster::default()
        }],
        sources: Vec::new(),
        gaps: Vec::new(),
    }
}

fn outcomes(snapshot: &Snapshot) -> Vec<(&'static str, Outcome)> {
    let settings = Settings::default();
    let fleet = fleet::join(snapshot, &PriceBook::default(), &settings);
    super::run(&Context::new(&fleet, &settings), |_| true)
}

pub(super) fn report(snapshot: &Snapshot) -> Report {
    report_by(snapshot, &Settings::default())
}

pub(super) fn report_by(snapshot: &Snapshot, settings: &Settings) -> Report {
    let fleet = fleet::join(snapshot, &PriceBook::default(), settings);
    let outcomes = super::run(&Context::new(&fleet, settings), |_| true);
    let ledger = Ledger::new(&fleet, &outcomes);
    let suppressed: Vec<Option<String>> = ledger.findings.iter().map(|f| f.ignored.clone()).collect();
    report::build(
        &ledger,
        &Input {
            outcomes: &outcomes,
            sources: &[],
            gaps: &[],
            group_by: None,
            suppressed: &suppressed,
            policy: report::document::PolicyUse::default(),
            owner_labels: &[],
        },
    )
}

/// (check, part) of all findings.
pub(super) fn fired(snapshot: &Snapshot) -> Vec<(&'static str, Option<&'static str>)> {
    outcomes(snapshot)
        .iter()
        .flat_map(|(_, o)| o.findings.iter().map(|f| (f.check, f.part)))
        .collect()
}

/// For each check and part: a snapshot on which it fires and one that differs in a single figure, on which it does not.
/// A check with its part, a fleet where it fires, and one where it stays silent.
pub(super) type Case = ((&'static str, Option<&'static str>), Snapshot, Snapshot);

pub(super) fn cases() -> Vec<Case> {
    let full = |pods: Vec<Pod>| snapshot(vec![node("n", 9 * DAY, true)], pods, Vec::new());
    let busy = |name: &str, gpus: u64| server(name, "n", gpus, 9 * DAY);
    let stuck = |restarts: u64| {
        let mut pod = busy("s", 8);
        pod.ready = Some(Condition {
            status: Some(false),
            since: ago(5 * HOUR),
            reason: None,
        });
        pod.containers[0].state = Some(ContainerState::Waiting {
            reason: Some("CrashLoopBackOff".into()),
        });
        pod.containers[0].restarts = restarts;
        pod.containers[0].last_exit = Some(Exit {
            code: 1,
            ..Exit::default()
        });
        full(vec![pod])
    };
    let idle = |requests: f64| {
        let pod = busy("i", 8);
        let engine = scrape(&pod, 2 * DAY, reading(requests));
        snapshot(vec![node("n", 9 * DAY, true)], vec![pod], vec![engine])
    };
    let hog = |cores: u64| {
        let mut pod = busy("hog", 0);
        pod.containers[0].requests = Resources {
            cpu: Some(MilliCores(cores * 1000)),
            memory: Some(Bytes(1 << 30)),
            ..Resources::default()
        };
        pod.containers[0].server = None;
        full(vec![pod])
    };
    let pressure = |preemptions: f64| {
        let pod = busy("k", 8);
        let mut r = reading(1000.0);
        r.preemptions = Some(preemptions);
        let engine = scrape(&pod, 2 * DAY, r);
        snapshot(vec![node("n", 9 * DAY, true)], vec![pod], vec![engine])
    };
    let limit = |blocks: u64| {
        let mut pod = busy("l", 8);
        if let Some(s) = pod.containers[0].server.as_mut() {
            s.max_num_seqs = Some(100);
        }
        let lengths = Histogram {
            sum: 1e5,
            count: 1e3,
            buckets: vec![(100.0, 500.0), (200.0, 1000.0)],
        };
        let mut r = reading(1000.0);
        (r.prompt_length, r.output_length) = (Some(lengths.clone()), Some(lengths));
        let mut engine = scrape(&pod, 2 * DAY, r);
        engine.identity = ServerIdentity {
            kv_capacity: Some(Tokens(blocks)),
            ..ServerIdentity::default()
        };
        snapshot(vec![node("n", 9 * DAY, true)], vec![pod], vec![engine])
    };
    let cpu = |cores: u64| {
        let mut pod = busy("c", 8);
        pod.containers[0].requests.cpu = Some(MilliCores(cores * 1000));
        full(vec![pod])
    };
    let parallel = |tp: u32| {
        let mut pod = busy("p", 8);
        if let Some(s) = pod.containers[0].server.as_mut() {
            s.tensor_parallel = Some(tp);
        }
        full(vec![pod])
    };
    let waiting = |need: u64| {
        let mut pod = server("w", "n", need, 2 * HOUR);
        pod.node = None;
        pod.phase = PodPhase::Pending;
        pod.waits_for_gpus = Some(true);
        pod.scheduled = Some(Condition {
            status: Some(false),
            since: ago(HOUR),
            reason: Some("Unschedulable".into()),
        });
        let (a, b) = (server("a", "n", 5, 9 * DAY), server("b", "m", 5, 9 * DAY));
        snapshot(
            vec![node("m", 9 * DAY, true), node("n", 9 * DAY, true)],
            vec![pod, a, b],
            Vec::new(),
        )
    };
    let mut cases = vec![
        (
            ("dark-capacity", Some("unallocated")),
            full(vec![busy("a", 7)]),
            full(vec![busy("a", 8)]),
        ),
        (
            ("dark-capacity", Some("unallocated")),
            full(vec![]),
            snapshot(vec![node("n", HOUR / 2, true)], vec![], vec![]),
        ),
        (
            ("dark-capacity", Some("unhealthy")),
            snapshot(vec![node("n", 9 * DAY, false)], vec![], vec![]),
            snapshot(vec![node("n", 9 * DAY, true)], vec![], vec![]),
        ),
        (("dark-capacity", Some("stuck")), stuck(5), stuck(4)),
        (("dark-capacity", Some("idle")), idle(0.0), idle(1.0)),
        (("stranded-gpu", Some("host")), hog(180), hog(100)),
        (("stranded-gpu", Some("scatter")), waiting(6), waiting(3)),
        (("kv-pressure", None), pressure(10.0), pressure(9.0)),
        (("kv-pressure", Some("config")), limit(25_000), limit(27_000)),
        (("cpu-gpu-imbalance", Some("spec")), cpu(19), cpu(20)),
        (("parallelism-mismatch", None), parallel(7), parallel(8)),
    ];
    cases.extend(super::sizing_tests::cases());
    cases.extend(super::sharing_tests::cases());
    cases.extend(super::mig_tests::cases());
    cases
}

/// A Deployment that a manifest asks for: Qwen2.5-7B on one L4 of AWS's us-east-1, four requests of 4096 tokens at once.
pub(super) fn planned(change: impl FnOnce(&mut Pod)) -> Snapshot {
    let mut pod = Pod {
        phase: PodPhase::Pending,
        ready: None,
        created_at: None,
        started_at: None,
        owner: Some(OwnerRef {
            group: "apps".into(),
            kind: "Deployment".into(),
            name: "a".into(),
        }),
        origin: Some(Origin {
            file: "deploy.yaml".into(),
            line: 12,
            path: "spec.template.spec.containers[0]".into(),
            notes: Vec::new(),
        }),
        ..server("a-0", "for-a-0", 1, 0)
    };
    let container = &mut pod.containers[0];
    (container.state, container.ready) = (None, false);
    container.requests.cpu = Some(MilliCores(6_000));
    container.requests.memory = Some(Bytes(24 << 30));
    if let Some(settings) = container.server.as_deref_mut() {
        settings.model = Some("Qwen/Qwen2.5-7B-Instruct".into());
        settings.engine_version = Some("0.11.0".into());
        settings.max_model_len = Some(4096);
        settings.max_num_seqs = Some(4);
    }
    change(&mut pod);
    snapshot(vec![planned_node(&pod, "g6.xlarge")], vec![pod], Vec::new())
}

pub(super) fn planned_node(pod: &Pod, kind: &str) -> Node {
    let amounts = Resources {
        devices: pod.requests().devices,
        ..Resources::default()
    };
    let label = |k: &str, v: &str| (k.to_string(), v.to_string());
    Node {
        name: pod.node.clone().unwrap_or_default(),
        labels: [
            label("node.kubernetes.io/instance-type", kind),
            label("topology.kubernetes.io/region", "us-east-1"),
            label("karpenter.sh/capacity-type", "on-demand"),
        ]
        .into(),
        capacity: amounts.clone(),
        allocatable: amounts,
        planned: true,
        ..Node::default()
    }
}

/// A manifest whose image has no version, and one that names it; and the like.
fn manifest_cases() -> Vec<Case> {
    let noted = |about: NoteAbout, part: &'static str| {
        let note = Note {
            line: 14,
            path: "spec.template.spec.containers[0].image".into(),
            text: "something is left open".into(),
            about,
        };
        let told = planned(|p| p.origin.as_mut().unwrap().notes = vec![note]);
        (("spec-hygiene", Some(part)), told, planned(|_| {}))
    };
    let memory = |gib: u64| planned(|p| p.containers[0].requests.memory = Some(Bytes(gib << 30)));
    let set = |change: fn(&mut EngineSettings)| planned(|p| change(p.containers[0].server.as_deref_mut().unwrap()));
    let devices = |count: u64| {
        planned(|p| {
            p.containers[0].requests.devices = [("nvidia.com/gpu".to_string(), count)].into();
            p.containers[0].requests.cpu = Some(MilliCores(8_000));
        })
    };
    let on = |kind: &str| {
        let mut snap = planned(|_| {});
        let node = planned_node(&snap.clusters[0].pods[0], kind);
        snap.clusters[0].nodes = Some(vec![node]);
        snap
    };
    vec![
        noted(NoteAbout::Image, "image"),
        noted(NoteAbout::CpuRequest, "cpu-request"),
        noted(NoteAbout::MemoryRequest, "memory-request"),
        (("spec-hygiene", Some("memory")), memory(7), memory(8)),
        (
            ("undersized-tier", None),
            set(|s| s.model = Some("Qwen/Qwen2.5-14B-Instruct".into())),
            set(|_| {}),
        ),
        (
            ("parallelism-mismatch", Some("too-few")),
            set(|s| s.tensor_parallel = Some(2)),
            set(|_| {}),
        ),
        (("parallelism-mismatch", None), devices(2), devices(1)),
        (
            ("kv-pressure", Some("config")),
            set(|s| s.max_num_seqs = Some(64)),
            set(|_| {}),
        ),
        (("oversized-tier", None), on("p5.48xlarge"), on("g6.2xlarge")),
    ]
}

#[test]
fn each_check_fires_on_one_side_of_its_threshold_and_is_silent_on_the_other() {
    for (what, firing, silent) in cases()
        .into_iter()
        .chain(manifest_cases())
        .chain(super::history_tests::cases())
    {
        assert!(
            fired(&firing).contains(&what),
            "{what:?} does not fire: {:?}",
            fired(&firing)
        );
        assert!(!fired(&silent).contains(&what), "{what:?} fires: {:?}", fired(&silent));
    }
}

#[test]
fn every_registered_check_has_a_case_and_a_text() {
    for check in CHECKS {
        assert!(
            cases()
                .iter()
                .chain(&manifest_cases())
                .chain(&super::history_tests::cases())
                .any(|((id, _), ..)| *id == check.id()),
            "{} has no fixture",
            check.id()
        );
        let text = check.explain();
        for heading in [
            "What it finds.",
            "Why it costs.",
            "How the dollars are computed.",
            "When it is wrong.",
            "What to do.",
        ] {
            assert!(text.contains(heading), "{}: {heading}", check.id());
        }
        assert!(check.id().chars().all(|c| c.is_ascii_lowercase() || c == '-'));
    }
}

#[test]
fn guards_against_false_positives() {
    // An autoscaled minimum is somebody's decision: listed, but no more than estimated.
    let pod = server("s", "n", 8, 9 * DAY);
    let mut snap = snapshot(
        vec![node("n", 9 * DAY, true)],
        vec![pod.clone()],
        vec![scrape(&pod, 2 * DAY, reading(0.0))],
    );
    snap.clusters[0].autoscalers = Some(vec![crate::snapshot::cluster::Autoscaler {
        namespace: "ml".into(),
        target: OwnerRef {
            group: "apps".into(),
            kind: "StatefulSet".into(),
            name: "s".into(),
        },
        min_replicas: 1,
        max_replicas: 3,
        ..Default::default()
    }]);
    let found = report(&snap);
    assert_eq!(found.findings[0].confidence.name(), "estimated");
    assert!(
        found.findings[0].fix.patch.is_none(),
        "nobody is told to delete a standby"
    );
    // A queue at low KV use is the sequence limit.
    let mut r = reading(1000.0);
    (r.waiting, r.kv_usage) = (Some(56.0), Some(0.001));
    let snap = snapshot(
        vec![node("n", 9 * DAY, true)],
        vec![pod.clone()],
        vec![scrape(&pod, 2 * DAY, r)],
    );
    assert!(!fired(&snap).iter().any(|(c, _)| *c == "kv-pressure"));
    // A placeholder holds capacity on purpose.
    let mut placeholder = server("p", "n", 8, 9 * DAY);
    placeholder.priority = Some(-10);
    let found = report(&snapshot(vec![node("n", 9 * DAY, true)], vec![placeholder], vec![]));
    assert_eq!(
        (found.totals.gpus_free, found.totals.waste_usd_per_hour.micros()),
        (0.0, 0)
    );
    // A model that loads for longer than an hour, by its own startup probe.
    let mut loading = server("l", "n", 8, 2 * HOUR);
    loading.ready = Some(Condition {
        status: Some(false),
        since: ago(2 * HOUR),
        reason: None,
    });
    loading.containers[0].startup_seconds = Some(4 * 3600);
    let found = report(&snapshot(vec![node("n", 9 * DAY, true)], vec![loading], vec![]));
    assert_eq!(found.totals.gpus_stuck, 0.0);
    // An autoscaler is removing the node.
    let mut leaving = node("n", 9 * DAY, true);
    leaving.taints.push(crate::snapshot::cluster::Taint {
        key: "karpenter.sh/disrupted".into(),
        effect: "NoSchedule".into(),
        ..Default::default()
    });
    assert!(fired(&snapshot(vec![leaving], vec![], vec![])).is_empty());
    // The owner opted out, with a reason: listed, in no total.
    let mut ignored = pod;
    ignored.ignore = Some(crate::snapshot::cluster::Ignore {
        checks: vec!["dark-capacity".into()],
        reason: "canary".into(),
    });
    let found = report(&snapshot(
        vec![node("n", 9 * DAY, true)],
        vec![ignored.clone()],
        vec![scrape(&ignored, 2 * DAY, reading(0.0))],
    ));
    assert_eq!(
        (
            found.findings.len(),
            found.findings[0].status,
            found.totals.waste_usd_per_hour.micros()
        ),
        (1, Status::Suppressed, 0)
    );
}

#[test]
fn a_clock_that_is_ahead_is_no_negative_age() {
    let pod = server("s", "n", 8, 9 * DAY);
    let mut engine = scrape(&pod, -2 * HOUR, reading(0.0));
    engine.readings[0].at = now() + SignedDuration::from_secs(3 * HOUR);
    let snap = snapshot(vec![node("n", 9 * DAY, true)], vec![pod], vec![engine]);
    let found = report(&snap);
    assert_eq!(found.totals.gpus_idle, 0.0);
    assert!(found.gaps.iter().any(|g| g.what.contains("clocks")), "{:?}", found.gaps);
}

/// What the generator decides for one node, and so knows.
#[derive(Clone, Debug)]
enum Fate {
    /// Requests each server had; the rest of the node is free.
    Servers(Vec<(u64, f64)>),
    NotReady,
    CrashLoop(u64),
    Young,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => proptest::collection::vec((1u64..4, prop_oneof![Just(0.0), 1.0..1e6f64]), 0..3).prop_map(Fate::Servers),
        1 => Just(Fate::NotReady),
        1 => (1u64..9).prop_map(Fate::CrashLoop),
        1 => Just(Fate::Young),
    ]
}

/// The truth, by arithmetic of its own: GPUs free, idle, stuck, unhealthy, and dollars.
#[derive(Debug, Default, PartialEq)]
struct Truth {
    free: f64,
    idle: f64,
    stuck: f64,
    unhealthy: f64,
    waste: f64,
    measured: f64,
    findings: usize,
}

fn generate(fates: &[Fate]) -> (Snapshot, Truth) {
    let (mut nodes, mut pods, mut engines, mut truth) = (Vec::new(), Vec::new(), Vec::new(), Truth::default());
    let (mut any_free, mut any_lost) = (false, false);
    for (index, fate) in fates.iter().enumerate() {
        let name = format!("n-{index}");
        match fate {
            Fate::Servers(servers) => {
                nodes.push(node(&name, 20 * DAY, true));
                let mut held = 0;
                for (i, (gpus, requests)) in servers.iter().enumerate() {
                    let pod = server(&format!("s-{index}-{i}"), &name, *gpus, 9 * DAY);
                    engines.push(scrape(&pod, 3 * DAY, reading(*requests)));
                    pods.push(pod);
                    held += gpus;
                    if *requests < 0.5 {
                        truth.idle += *gpus as f64;
                        truth.measured += *gpus as f64 * GPU_PRICE;
                        truth.findings += 1;
                    }
                }
                truth.free += 8.0 - held as f64;
                any_free |= held < 8;
            }
            Fate::NotReady => {
                nodes.push(node(&name, 20 * DAY, false));
                truth.unhealthy += 8.0;
                truth.measured += 8.0 * GPU_PRICE;
                any_lost = true;
            }
            Fate::CrashLoop(gpus) => {
                nodes.push(node(&name, 20 * DAY, true));
                let mut pod = server(&format!("x-{index}"), &name, *gpus, 9 * DAY);
                pod.ready = Some(Condition {
                    status: Some(false),
                    since: ago(30 * HOUR),
                    reason: None,
                });
                pod.containers[0].restarts = 40;
                pod.containers[0].state = Some(ContainerState::Waiting {
                    reason: Some("CrashLoopBackOff".into()),
                });
                pods.push(pod);
                truth.stuck += *gpus as f64;
                truth.measured += *gpus as f64 * GPU_PRICE;
                truth.free += 8.0 - *gpus as f64;
                truth.findings += 1;
                any_free |= *gpus < 8;
            }
            Fate::Young => nodes.push(node(&name, 600, true)),
        }
    }
    truth.findings += usize::from(any_free) + usize::from(any_lost);
    truth.waste = truth.measured + truth.free * GPU_PRICE;
    (snapshot(nodes, pods, engines), truth)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Dollars, GPUs and counts are the generator's own; nothing else is found.
    #[test]
    fn generated_fleets_are_told_their_truth(fates in proptest::collection::vec(fate(), 1..8)) {
        let (snap, truth) = generate(&fates);
        let found = report(&snap);
        let t = &found.totals;
        let young = fates.iter().filter(|f| matches!(f, Fate::Young)).count() as f64 * 8.0;
        prop_assert_eq!((t.gpus_free - young, t.gpus_idle, t.gpus_stuck, t.gpus_unhealthy), (truth.free, truth.idle, truth.stuck, truth.unhealthy));
        prop_assert!((t.waste_usd_per_hour.usd() - truth.waste).abs() <= 1e-4 * fates.len() as f64, "{} {}", t.waste_usd_per_hour, truth.waste);
        let listed = found.findings.iter().filter(|f| f.check == "dark-capacity").count();
        prop_assert_eq!(listed, truth.findings);
        let measured: f64 = found.findings.iter().filter(|f| f.confidence.name() == "measured").filter_map(|f| f.waste_usd_per_hour).map(super::super::units::UsdPerHour::usd).sum();
        prop_assert!((measured - truth.measured).abs() <= 1e-4 * fates.len() as f64, "{measured} {}", truth.measured);
        // Waste never exceeds spend; states add up; findings add up.
        prop_assert!(t.waste_usd_per_hour <= t.spend_usd_per_hour);
        prop_assert!((t.gpus_free + t.gpus_idle + t.gpus_stuck + t.gpus_unhealthy + t.gpus_working + t.gpus_unknown - t.gpus).abs() < 1e-9);
        let sum: i64 = found.findings.iter().filter_map(|f| f.waste_usd_per_hour).map(super::super::units::UsdPerHour::micros).sum();
        prop_assert_eq!(sum, t.waste_usd_per_hour.micros());
        for finding in &found.findings {
            let claims: i64 = finding.claims.iter().filter_map(|c| c.usd_per_hour).map(super::super::units::UsdPerHour::micros).sum();
            prop_assert_eq!(claims, finding.usd_per_hour.map_or(0, super::super::units::UsdPerHour::micros));
        }
        prop_assert_eq!(t.waste_usd_per_hour, t.waste_now_usd_per_hour + t.waste_reusable_usd_per_hour);
    }

    /// A read that fails never raises dollars or coverage.
    #[test]
    fn a_missing_read_never_makes_more_waste(fates in proptest::collection::vec(fate(), 1..6), which in 0usize..4, pick in any::<proptest::sample::Index>()) {
        let (snap, _) = generate(&fates);
        let whole = report(&snap);
        let mut less = snap.clone();
        let cluster = &mut less.clusters[0];
        match which {
            0 if !cluster.engines.is_empty() => { let at = pick.index(cluster.engines.len()); cluster.engines.remove(at); }
            1 => { cluster.pods_read.complete = false; cluster.pods.clear(); }
            2 => cluster.nodes = None,
            _ => for engine in &mut cluster.engines { engine.readings[0].requests = None; },
        }
        let part = report(&less);
        prop_assert!(part.totals.waste_usd_per_hour <= whole.totals.waste_usd_per_hour, "{} > {}", part.totals.waste_usd_per_hour, whole.totals.waste_usd_per_hour);
        prop_assert!(part.totals.coverage_percent.unwrap_or(0.0) <= whole.totals.coverage_percent.unwrap_or(0.0) + 1e-9);
    }
}

#[test]
fn the_generator_does_produce_findings() {
    let (snap, truth) = generate(&[
        Fate::Servers(vec![(2, 0.0), (3, 9.0)]),
        Fate::NotReady,
        Fate::CrashLoop(4),
        Fate::Young,
    ]);
    assert_eq!(
        (truth.findings, truth.idle, truth.unhealthy, truth.stuck, truth.free),
        (4, 2.0, 8.0, 4.0, 7.0)
    );
    assert!(report(&snap).findings.len() >= 4);
}

/// Rights of some namespaces only: what visible pods hold is there, and may be a share of a GPU that somebody else keeps busy.
#[test]
fn without_nodes_what_pods_hold_is_counted_and_never_called_idle() {
    let of = |requests: f64, nodes: bool| {
        let pod = server("s-0", "n", 8, 9 * DAY);
        let engine = scrape(&pod, 9 * DAY, reading(requests));
        let mut snap = snapshot(vec![node("n", 30 * DAY, true)], vec![pod], vec![engine]);
        if !nodes {
            snap.clusters[0].nodes = None;
        }
        report(&snap)
    };
    assert_eq!(of(0.0, true).totals.gpus_idle, 8.0);
    for (requests, working) in [(0.0, 0.0), (1e6, 8.0)] {
        let found = of(requests, false);
        let t = &found.totals;
        assert_eq!((t.gpus, t.gpus_allocated, t.gpus_unpriced), (8.0, 8.0, 8.0));
        assert_eq!((t.gpus_working, t.gpus_unknown), (working, 8.0 - working));
        assert_eq!((t.coverage_percent, t.spend_usd_per_hour.micros()), (None, 0));
        assert!(
            found.findings.iter().all(|f| f.usd_per_hour.is_none()),
            "{:?}",
            found.findings
        );
        assert_eq!(found.workloads[0].replicas, Some(1));
        let state = if working > 0.0 { "working" } else { "unknown" };
        assert_eq!(found.workloads[0].state, state);
    }
}
