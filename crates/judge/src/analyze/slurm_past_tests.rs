//! What accounts tell of jobs that have ended, and GPUs that a job has not used since it began.

use super::history_tests::figure;
use super::slurm_tests::{cluster, job, machine};
use super::tests::{HOUR, ago, now, report};
use crate::report::document::{Report, ReportFinding};
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{ContainerRole, Node};
use crate::snapshot::gpu::{GpuScrape, PodName};
use crate::snapshot::history::{Figure, GpuHistory, History};
use crate::snapshot::past::{Asked, PastUse};

fn row(user: &str, account: &str, hours: f64) -> PastUse {
    let labels = [
        ("slurm/user", user),
        ("slurm/account", account),
        ("slurm/partition", "train"),
    ];
    PastUse {
        labels: labels
            .iter()
            .map(|(k, v)| ((*k).to_string(), (*v).to_string()))
            .collect(),
        node: Some("n1".into()),
        window_seconds: 7 * 86_400,
        jobs: 10,
        gpu_hours: hours,
        watched_gpu_hours: hours,
        ..PastUse::default()
    }
}

fn with(rows: Vec<PastUse>) -> Snapshot {
    let mut snap = cluster(vec![machine("n1"), machine("n2")], vec![]);
    snap.clusters[0].past = rows;
    snap
}

/// Everything that the rules look at, of one user; another has most of the hours.
pub(super) fn everything() -> Snapshot {
    let asked = Asked {
        jobs: 3,
        gpu_hours: 40.0,
        beside_gpu_hours: 60.0,
    };
    let ann = PastUse {
        idle_gpu_hours: 30.0,
        partly_idle_gpu_hours: 30.0,
        idle_jobs: 4,
        unused_gpu_hours: 140.0,
        open_gpu_hours: 120.0,
        open_unused_gpu_hours: 100.0,
        small_gpu_hours: 40.0,
        small_jobs: 3,
        small_memory: 4e9,
        limit_gpu_hours: 3000.0,
        limit_used_gpu_hours: 300.0,
        cpus: asked,
        memory: asked,
        spread: asked,
        ..row("ann", "bio", 200.0)
    };
    let mut snap = with(vec![ann, row("bob", "ml", 5000.0)]);
    // A smaller card to name.
    let small = small_machine();
    snap.clusters[0].nodes.as_mut().expect("nodes").push(small);
    snap
}

/// Eight small cards.
fn small_machine() -> Node {
    let mut small = machine("s1");
    for (key, value) in [
        ("nvidia.com/gpu.product", "NVIDIA-L4"),
        ("node.kubernetes.io/instance-type", "g6.48xlarge"),
    ] {
        small.labels.insert(key.into(), value.into());
    }
    small
}

fn part<'r>(report: &'r Report, part: &str) -> Vec<&'r ReportFinding> {
    report
        .findings
        .iter()
        .filter(|f| f.part.as_deref() == Some(part))
        .collect()
}

fn evidence(finding: &ReportFinding, name: &str) -> f64 {
    let found = finding.evidence.iter().find(|e| e.name == name);
    match found.map(|e| &e.value) {
        Some(super::finding::EvidenceValue::Number(n)) => *n,
        other => panic!("{name}: {other:?} of {:?}", finding.evidence),
    }
}

#[test]
fn hours_of_the_past_are_told_by_owner_and_claim_nothing() {
    let told = report(&everything());
    let [idle] = part(&told, "idle-hours")[..] else {
        panic!("{:?}", told.findings)
    };
    assert_eq!(
        (idle.owner.as_deref(), idle.kind),
        (Some("ann"), super::finding::FindingKind::Trend)
    );
    assert_eq!(idle.subject.namespace.as_deref(), Some("bio"));
    assert!(idle.claims.is_empty() && idle.grade.is_none() && idle.waste_usd_per_hour.is_none());
    // 30 hours at what a GPU of the node costs, over a week; all together as evidence.
    let node = told
        .nodes
        .iter()
        .find(|n| n.name == "n1")
        .and_then(|n| n.price.usd_per_hour)
        .expect("priced")
        .usd();
    let cost = 30.0 * node / 8.0;
    assert!((evidence(idle, "cost_of_the_window") - cost).abs() < 0.01 * cost);
    assert!((idle.usd_per_hour.expect("priced").usd() - cost / 168.0).abs() < 1e-4);
    assert!(idle.fix.summary.contains("--gpus-per-task"), "{}", idle.fix.summary);
    let [low] = part(&told, "low-hours")[..] else {
        panic!("{:?}", told.findings)
    };
    assert!((evidence(low, "cost_of_the_window") - 100.0 * node / 8.0).abs() < 0.1);
    let [smaller] = part(&told, "smaller-gpu")[..] else {
        panic!("{:?}", told.findings)
    };
    assert!(
        smaller.title.contains("L4") && smaller.usd_per_hour.is_none(),
        "{}",
        smaller.title
    );
    for hint in ["time-limit", "asked-cpus", "asked-memory", "asked-nodes"] {
        let [found] = part(&told, hint)[..] else {
            panic!("{hint}: {:?}", told.findings)
        };
        assert!(found.usd_per_hour.is_none() && found.claims.is_empty(), "{hint}");
        assert_eq!(found.owner.as_deref(), Some("ann"));
    }
    assert!(
        !told.findings.iter().any(|f| f.owner.as_deref() == Some("bob")),
        "{:?}",
        told.findings
    );
    // The waste of now is what it is without them.
    let mut without = everything();
    without.clusters[0].past.clear();
    assert_eq!(
        report(&without).totals.waste_usd_per_hour,
        told.totals.waste_usd_per_hour
    );
}

#[test]
fn rules_have_two_sides() {
    let fires = |change: &dyn Fn(&mut PastUse), name: &str| {
        let mut snap = everything();
        change(&mut snap.clusters[0].past[0]);
        !part(&report(&snap), name).is_empty()
    };
    assert!(fires(&|p| p.idle_gpu_hours = 24.0, "idle-hours") && !fires(&|p| p.idle_gpu_hours = 23.9, "idle-hours"));
    assert!(
        fires(&|p| p.open_unused_gpu_hours = 90.0, "low-hours")
            && !fires(&|p| p.open_unused_gpu_hours = 89.0, "low-hours")
    );
    assert!(!fires(
        &|p| (p.open_gpu_hours, p.open_unused_gpu_hours) = (49.0, 48.0),
        "low-hours"
    ));
    // 2 % of 5,000 and its own.
    assert!(fires(&|p| p.gpu_hours = 103.0, "low-hours") && !fires(&|p| p.gpu_hours = 101.0, "low-hours"));
    assert!(!fires(&|p| p.small_gpu_hours = 23.0, "smaller-gpu"));
    assert!(
        !fires(&|p| p.small_memory = 40e9, "smaller-gpu"),
        "nothing of the cluster is so small and holds it"
    );
    assert!(!fires(&|p| p.limit_used_gpu_hours = 601.0, "time-limit"));
    assert!(!fires(
        &|p| (p.limit_gpu_hours, p.limit_used_gpu_hours) = (1050.0, 100.0),
        "time-limit"
    ));
    assert!(!fires(&|p| p.cpus.beside_gpu_hours = 23.0, "asked-cpus"));
}

/// Accounts of one user are one owner's; which machines it was on decides the price.
#[test]
fn machines_decide_the_price() {
    let idle = |node: Option<&str>| PastUse {
        node: node.map(Into::into),
        idle_gpu_hours: 20.0,
        ..row("ann", "bio", 30.0)
    };
    let rate = |rows: Vec<PastUse>| {
        let mut snap = with(rows);
        let small = small_machine();
        let nodes = snap.clusters[0].nodes.as_mut().expect("nodes");
        nodes.push(small);
        for node in nodes {
            node.labels.insert("slurm/partitions".into(), "train".into());
        }
        let told = report(&snap);
        let found = part(&told, "idle-hours");
        assert_eq!(found.len(), 1);
        (
            evidence(found[0], "gpu_hours_idle"),
            found[0].usd_per_hour.map(crate::units::UsdPerHour::usd),
            found[0].confidence_reasons.join("; "),
        )
    };
    let (large, small, unknown) = (
        rate(vec![idle(Some("n1")), idle(Some("n2"))]),
        rate(vec![idle(Some("s1")), idle(Some("s1"))]),
        rate(vec![idle(None), idle(None)]),
    );
    assert!(
        large.0 == 40.0 && large.1 > small.1 && small.1.is_some(),
        "{large:?} {small:?}"
    );
    assert!(
        unknown.1 == small.1 && unknown.2.contains("the least is taken"),
        "{unknown:?}"
    );
    let gone = rate(vec![idle(Some("gone")), idle(Some("n1"))]);
    assert!(gone.1.is_some(), "its partition's machines");
}

#[test]
fn a_scan_of_one_account_tells_of_that_alone() {
    let mut snap = everything();
    snap.clusters[0].pods_read.namespaces = vec!["ml".into()];
    assert!(part(&report(&snap), "idle-hours").is_empty());
    snap.clusters[0].pods_read.namespaces = vec!["bio".into()];
    assert_eq!(part(&report(&snap), "idle-hours").len(), 1);
}

/// A job on two GPUs, so many seconds old, as a store shows it; `last`: when it last computed, seconds ago.
pub(super) fn young(age: i64, last: Option<i64>, role: Option<ContainerRole>) -> Snapshot {
    let mut pod = job("7", "n1", &[0, 1], age);
    pod.containers[0].role = role;
    pod.started_at = ago(age);
    let mut snap = cluster(vec![machine("n1")], vec![pod]);
    let bins = age as f64 / 300.0;
    let gpu = |index: u32| GpuHistory {
        uuid: format!("GPU-{index}"),
        node: Some("n1".into()),
        holder: Some(PodName {
            namespace: "bio".into(),
            name: "7".into(),
            container: None,
        }),
        first: ago(age),
        last: Some(now()),
        last_active: last.and_then(ago),
        gpu_util: Some(Figure {
            max: Some(if last.is_some() { 0.9 } else { 0.0 }),
            bins: Some(bins),
            ..Figure::default()
        }),
        power_watts: figure(60.0),
        ..GpuHistory::default()
    };
    let scrape = |index: u32| GpuScrape {
        node: "n1".into(),
        uuid: Some(format!("GPU-{index}")),
        index: Some(index),
        model: Some("NVIDIA H100 80GB HBM3".into()),
        ..GpuScrape::default()
    };
    snap.window_seconds = Some(7 * 86_400);
    snap.clusters[0].gpus = (0..8).map(scrape).collect();
    snap.clusters[0].history = Some(Box::new(History {
        store: "test".into(),
        end: now(),
        window_seconds: 7 * 86_400,
        bin_seconds: 300,
        gpus: vec![gpu(0), gpu(1)],
        ..History::default()
    }));
    snap
}

#[test]
fn gpus_in_no_step_are_a_hint() {
    let with = |steps: Option<u64>, age: i64| {
        let mut pod = job("7", "n1", &[0, 1, 2, 3], age);
        pod.started_at = ago(age);
        pod.step_gpus = steps;
        let told = report(&cluster(vec![machine("n1")], vec![pod]));
        part(&told, "no-step")
            .iter()
            .map(|f| (f.title.clone(), f.usd_per_hour, f.claims.len()))
            .collect::<Vec<_>>()
    };
    assert!(with(None, 3 * HOUR).is_empty(), "not told, or all of them");
    assert!(with(Some(4), 3 * HOUR).is_empty());
    assert!(with(Some(0), HOUR - 60).is_empty(), "it may be about to begin");
    let [(title, None, 0)] = &with(Some(1), 3 * HOUR)[..] else {
        panic!("{:?}", with(Some(1), 3 * HOUR))
    };
    assert_eq!(title, "7: 3 GPUs of its 4 in no step that runs, on n1");
    // What the devices did is told: it is idle, with dollars, and no hint beside.
    let mut seen = young(3 * HOUR, None, None);
    seen.clusters[0].pods[0].step_gpus = Some(0);
    let told = report(&seen);
    assert_eq!((part(&told, "idle").len(), part(&told, "no-step").len()), (1, 0));
}

/// A person in front of one GPU.
pub(super) fn alone(age: i64) -> Snapshot {
    let mut snap = young(age, None, Some(ContainerRole::Notebook));
    let pod = &mut snap.clusters[0].pods[0];
    pod.gpu_indices = vec![0];
    pod.containers[0].requests.devices.insert("gres/gpu".into(), 1);
    snap
}

#[test]
fn gpus_that_were_not_used_since_the_job_began_are_idle_after_two_hours() {
    let idle = |snap: &Snapshot| {
        let told = report(snap);
        part(&told, "idle")
            .iter()
            .map(|f| (f.confidence, f.claims.len()))
            .collect::<Vec<_>>()
    };
    let estimated = vec![(super::finding::Confidence::Estimated, 2)];
    assert!(
        idle(&young(2 * HOUR - 300, None, None)).is_empty(),
        "it may still get ready"
    );
    assert_eq!(idle(&young(2 * HOUR + 300, None, None)), estimated);
    // It worked, and then no more.
    assert!(
        idle(&young(20 * HOUR, Some(5 * HOUR - 300), None)).is_empty(),
        "a pause"
    );
    assert_eq!(idle(&young(20 * HOUR, Some(5 * HOUR + 300), None)), estimated);
    // A person thinks; of two GPUs one would do.
    let person = Some(ContainerRole::Notebook);
    assert!(idle(&young(20 * HOUR, Some(6 * HOUR), person)).is_empty());
    assert!(
        idle(&alone(6 * HOUR)).is_empty(),
        "one GPU, for less than a working day"
    );
    assert_eq!(idle(&young(6 * HOUR, None, person)), estimated);
    // A predecessor's rows tell nothing of what came before they began.
    let mut half = young(20 * HOUR, None, None);
    for gpu in &mut half.clusters[0].history.as_mut().expect("history").gpus {
        gpu.first = ago(3 * HOUR);
        gpu.gpu_util.as_mut().expect("told").bins = Some(36.0);
    }
    assert!(idle(&half).is_empty(), "the store began to look three hours ago");
    // Nobody but a batch scheduler says which device is whose from the first second.
    let mut unnamed = young(3 * HOUR, None, None);
    unnamed.clusters[0].pods[0].gpu_indices.clear();
    assert!(idle(&unnamed).is_empty());
}
