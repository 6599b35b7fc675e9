//! What a batch scheduler tells of nodes and jobs: taken out of service, spoken for, paused, stuck at their end.

use super::tests::{DAY, HOUR, ago, node, report, server, snapshot};
use crate::report::document::{Report, ReportFinding};
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{Condition, Kept, Node, Outage, OwnerRef, Pod, PodPhase, Scheduler};

pub(super) fn job(name: &str, on: &str, indices: &[u32], age: i64) -> Pod {
    let mut pod = server(name, on, indices.len() as u64, age);
    pod.namespace = "bio".into();
    pod.owner = Some(OwnerRef {
        group: "slurm".into(),
        kind: "SlurmJob".into(),
        name: name.into(),
    });
    pod.labels = [("slurm/user".to_string(), "ann".to_string())].into();
    pod.gpu_indices = indices.to_vec();
    let container = &mut pod.containers[0];
    container.server = None;
    container.requests.devices = [("gres/gpu".to_string(), indices.len() as u64)].into();
    pod
}

pub(super) fn machine(name: &str) -> Node {
    let mut node = node(name, 30 * DAY, true);
    for amounts in [&mut node.capacity, &mut node.allocatable] {
        amounts.devices = [("gres/gpu".to_string(), 8)].into();
    }
    node
}

pub(super) fn cluster(nodes: Vec<Node>, pods: Vec<Pod>) -> Snapshot {
    let mut snap = snapshot(nodes, pods, Vec::new());
    snap.clusters[0].scheduler = Scheduler::Slurm;
    snap
}

fn drained(since: i64) -> Node {
    let mut node = machine("n1");
    node.unschedulable = true;
    node.outage = Some(Outage {
        state: "drain".into(),
        reason: Some("Xid 79".into()),
        since: ago(since),
    });
    node
}

fn part<'r>(report: &'r Report, part: &str) -> Vec<&'r ReportFinding> {
    report
        .findings
        .iter()
        .filter(|f| f.part.as_deref() == Some(part))
        .collect()
}

#[test]
fn a_drained_node_is_told_after_an_hour_with_the_reason_that_was_typed() {
    assert!(part(&report(&cluster(vec![drained(HOUR - 60)], vec![])), "unhealthy").is_empty());
    let told = report(&cluster(vec![drained(HOUR + 60)], vec![job("7", "n1", &[2, 3], DAY)]));
    let [found] = part(&told, "unhealthy")[..] else {
        panic!("{:?}", told.findings)
    };
    assert!(found.title.contains("node drained"), "{}", found.title);
    assert!(
        found.fix.summary.contains("scontrol update NodeName=n1 State=RESUME"),
        "{}",
        found.fix.summary
    );
    assert!(
        found
            .evidence
            .iter()
            .any(|e| format!("{:?}", e.value).contains("n1: Xid 79"))
    );
    // Two GPUs are still a job's.
    let claimed: Vec<&str> = found.claims.iter().map(|c| c.gpu.as_str()).collect();
    assert_eq!(claimed, ["slot-0", "slot-1", "slot-4", "slot-5", "slot-6", "slot-7"]);
    let mut kubernetes = cluster(vec![drained(HOUR + 60)], vec![]);
    kubernetes.clusters[0].scheduler = Scheduler::Kubernetes;
    let text = format!("{:?}", part(&report(&kubernetes), "unhealthy"));
    assert!(!text.contains("scontrol") && !text.contains("\"slurm\""), "{text}");
}

#[test]
fn what_is_spoken_for_is_not_free() {
    for kept in [Kept::Reserved, Kept::Planned, Kept::Changing] {
        let mut node = machine("n1");
        node.kept = Some(kept);
        let told = report(&cluster(vec![node], vec![]));
        assert_eq!(
            (told.totals.gpus_free, told.totals.gpus_unknown),
            (0.0, 8.0),
            "{kept:?}"
        );
        assert!(told.findings.is_empty(), "{:?}", told.findings);
    }
    assert_eq!(report(&cluster(vec![machine("n1")], vec![])).totals.gpus_free, 8.0);
}

#[test]
fn a_node_that_was_unused_for_a_day_is_free_for_a_day() {
    let with = |hours: i64| {
        let mut node = machine("n1");
        node.unused_since = ago(hours * HOUR);
        let told = report(&cluster(vec![node], vec![]));
        part(&told, "unallocated")[0].confidence_reasons.join("; ")
    };
    assert!(with(23).contains("one look"), "{}", with(23));
    assert!(!with(25).contains("one look"), "{}", with(25));
}

#[test]
fn a_paused_job_is_neither_idle_nor_at_work() {
    let mut paused = job("7", "n1", &[0, 1], 3 * DAY);
    paused.suspended = true;
    let told = report(&cluster(vec![machine("n1")], vec![paused]));
    assert_eq!((told.totals.gpus_unknown, told.totals.gpus_free), (2.0, 6.0));
    assert!(part(&told, "idle").is_empty());
}

#[test]
fn a_job_that_does_not_finish_is_stuck_after_an_hour() {
    let ending = |since: i64| {
        let mut pod = job("7", "n1", &[0, 1], 3 * DAY);
        pod.deleted_at = ago(since);
        report(&cluster(vec![machine("n1")], vec![pod]))
    };
    assert!(part(&ending(HOUR - 60), "stuck").is_empty());
    let told = ending(HOUR + 60);
    let stuck = part(&told, "stuck");
    assert!(
        stuck[0].title.contains("does not finish completing"),
        "{}",
        stuck[0].title
    );
    assert_eq!(stuck[0].owner.as_deref(), Some("ann"));
    let mut begins = job("8", "n1", &[0], 2 * HOUR);
    begins.phase = PodPhase::Pending;
    begins.ready = Some(Condition {
        status: Some(false),
        since: ago(2 * HOUR),
        reason: None,
    });
    let told = report(&cluster(vec![machine("n1")], vec![begins]));
    let stuck = part(&told, "stuck");
    assert!(stuck[0].title.contains("do not get ready"), "{}", stuck[0].title);
    assert!(!stuck[0].fix.summary.contains("scancel"), "{}", stuck[0].fix.summary);
}

#[test]
fn a_job_has_the_gpus_of_its_indices() {
    let told = report(&cluster(
        vec![drained(2 * HOUR)],
        vec![job("7", "n1", &[7], DAY), job("8", "n1", &[0, 3], DAY)],
    ));
    let free: Vec<&str> = part(&told, "unhealthy")[0]
        .claims
        .iter()
        .map(|c| c.gpu.as_str())
        .collect();
    assert_eq!(free, ["slot-1", "slot-2", "slot-4", "slot-5", "slot-6"]);
}
