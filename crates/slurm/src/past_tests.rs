use super::*;
use crate::account::{add as read, add_json};
use base64::Engine;
use gpuwaste_facts::snapshot::cluster::Resources;
use gpuwaste_facts::units::{Bytes, MilliCores};
use jiff::tz::TimeZone;
use std::fmt::Write;
use std::io::Write as _;

const END: i64 = 1_796_000_000;

fn node(name: &str, gpus: u64) -> Node {
    Node {
        name: name.into(),
        labels: [("slurm/partitions".to_string(), "train".to_string())].into(),
        capacity: Resources {
            cpu: Some(MilliCores(64_000)),
            memory: Some(Bytes(512 << 30)),
            devices: [("gres/gpu".to_string(), gpus)].into(),
            ..Resources::default()
        },
        ..Node::default()
    }
}

/// As jobstats' epilogue writes it: (activity in percent, memory in use, of 80 GB) a GPU.
fn summary(seconds: i64, host: f64, gpus: &[(f64, f64)]) -> String {
    let of = |value: &dyn Fn(&(f64, f64)) -> f64| -> serde_json::Value {
        gpus.iter()
            .enumerate()
            .map(|(i, g)| (i.to_string(), value(g).into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let json = serde_json::json!({"nodes": {"gpu1": {
        "gpu_utilization": of(&|g| g.0), "gpu_used_memory": of(&|g| g.1), "gpu_total_memory": of(&|_| 80e9), "used_memory": host}},
        "total_time": seconds, "gpus": gpus.len()});
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(json.to_string().as_bytes()).expect("in memory");
    format!(
        "JS1:{}",
        base64::engine::general_purpose::STANDARD.encode(gzip.finish().expect("in memory"))
    )
}

/// One line of sacct: a job that ended at [`END`].
fn line(id: u64, (hours, limit): (i64, &str), tres: &str, nodes: &str, comment: &str) -> String {
    let seconds = hours * 3600;
    format!(
        "{id}|ann|ml|train|normal|{seconds}|{limit}|{tres}|{}|{END}|COMPLETED|{nodes}|{comment}|x\n",
        END - seconds
    )
}

fn sums(text: &str) -> Vec<PastUse> {
    let mut all = Accounting::default();
    read(text, &TimeZone::UTC, &mut all);
    assert_eq!(all.odd, 0, "{text}");
    all.by_owner(END, &[node("gpu1", 8), node("gpu2", 8), node("mig1", 0)])
}

fn one(text: &str) -> PastUse {
    let mut all = sums(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

const GPUS: &str = "cpu=4,mem=20G,node=1,gres/gpu:h100=2,gres/gpu=2";

#[test]
fn gpus_that_did_nothing_are_hours_of_theirs_alone() {
    let text = [
        line(
            1,
            (10, "1440"),
            GPUS,
            "gpu1",
            &summary(36_000, 1e9, &[(0.0, 0.0), (90.0, 70e9)]),
        ),
        line(
            2,
            (5, "1440"),
            GPUS,
            "gpu2",
            &summary(18_000, 1e9, &[(0.0, 1e9), (0.0, 0.0)]),
        ),
        line(3, (4, "1440"), GPUS, "gpu2", ""),
    ];
    let sum = one(&text.concat());
    assert_eq!((sum.jobs, sum.gpu_hours, sum.watched_gpu_hours), (3, 38.0, 30.0));
    assert_eq!(
        (sum.idle_gpu_hours, sum.partly_idle_gpu_hours, sum.idle_jobs),
        (20.0, 10.0, 2)
    );
    assert!((sum.unused_gpu_hours - (10.0 + 1.0 + 10.0)).abs() < 1e-9);
    // The card that worked was nearly full.
    assert_eq!(sum.open_gpu_hours, 0.0);
    assert_eq!(sum.node.as_deref(), Some("gpu1"), "gpu2 is like it");
}

#[test]
fn what_is_not_of_this_run_is_not_known() {
    let idle = &[(0.0, 0.0), (0.0, 0.0)];
    for (comment, why) in [
        (summary(90_000, 1e9, idle), "a run before it was requeued"),
        (summary(36_000, 1e9, &idle[..1]), "of other GPUs than it had"),
        ("JS1:Short".into(), "too short"),
    ] {
        let sum = one(&line(1, (10, "1440"), GPUS, "gpu1", &comment));
        assert_eq!(
            (sum.gpu_hours, sum.watched_gpu_hours, sum.idle_gpu_hours),
            (20.0, 0.0, 0.0),
            "{why}"
        );
    }
    let runs =
        line(1, (10, "1440"), GPUS, "gpu1", &summary(36_000, 1e9, idle)).replace(&format!("|{END}|"), "|Unknown|");
    assert_eq!(one(&runs).watched_gpu_hours, 0.0, "it runs");
}

#[test]
fn what_a_smaller_gpu_would_have_carried() {
    let small = |tres: &str, seconds: i64, host: f64, gpus: &[(f64, f64)]| {
        one(&line(
            1,
            (seconds / 3600, "1440"),
            tres,
            "gpu1",
            &summary(seconds, host, gpus),
        ))
        .small_gpu_hours
    };
    let two = [(9.0, 2e9), (12.0, 4e9)];
    assert_eq!(small(GPUS, 36_000, 3e9, &two), 20.0);
    assert_eq!(small(GPUS, 3600, 3e9, &two), 0.0, "an hour");
    assert_eq!(small(GPUS, 36_000, 300e9, &two), 0.0, "host memory");
    assert_eq!(small(GPUS, 36_000, 3e9, &[(9.0, 2e9), (12.0, 40e9)]), 0.0, "memory");
    assert_eq!(small(GPUS, 36_000, 3e9, &[(9.0, 2e9), (0.0, 0.0)]), 0.0, "one is idle");
    assert_eq!(small(&GPUS.replace("cpu=4", "cpu=32"), 36_000, 3e9, &two), 0.0, "CPUs");
    assert_eq!(
        small(
            "cpu=4,mem=20G,node=1,gres/gpu:a100_1g.10gb=2,gres/gpu=2",
            36_000,
            3e9,
            &two
        ),
        0.0,
        "it had small ones"
    );
}

#[test]
fn what_was_asked_for_beside_gpus() {
    // Eight cores a GPU: 32 cores for one GPU leave three GPUs of the node without any.
    let sum = one(&line(1, (10, "1440"), "cpu=32,mem=64G,node=1,gres/gpu=1", "gpu1", ""));
    assert_eq!(
        (sum.cpus, sum.memory.jobs, sum.spread.jobs),
        (
            Asked {
                jobs: 1,
                gpu_hours: 10.0,
                beside_gpu_hours: 30.0
            },
            0,
            0
        )
    );
    let sum = one(&line(1, (10, "1440"), "cpu=12,mem=64G,node=1,gres/gpu=1", "gpu1", ""));
    assert!(sum.cpus.is_none(), "half as much again leaves all GPUs one");
    // 64 GiB a GPU: 256 GiB of which 10 were used.
    let text = |used: f64| {
        line(
            1,
            (10, "1440"),
            "cpu=8,mem=256G,node=1,gres/gpu=1",
            "gpu1",
            &summary(36_000, used, &[(90.0, 70e9)]),
        )
    };
    assert_eq!(
        one(&text(10e9)).memory,
        Asked {
            jobs: 1,
            gpu_hours: 10.0,
            beside_gpu_hours: 30.0
        }
    );
    assert!(one(&text(250e9)).memory.is_none(), "it needed it");
    let unread = line(1, (10, "1440"), "cpu=8,mem=256G,node=1,gres/gpu=1", "gpu1", "");
    assert!(one(&unread).memory.is_none(), "nobody says what it used");
    // Four GPUs on two nodes of eight.
    let sum = one(&line(
        1,
        (10, "1440"),
        "cpu=8,mem=64G,node=2,gres/gpu=4",
        "gpu[1-2]",
        "",
    ));
    assert_eq!(
        sum.spread,
        Asked {
            jobs: 1,
            gpu_hours: 40.0,
            beside_gpu_hours: 60.0
        }
    );
    assert!(
        one(&line(
            1,
            (10, "1440"),
            "cpu=8,mem=64G,node=2,gres/gpu=16",
            "gpu[1-2]",
            ""
        ))
        .spread
        .is_none()
    );
    // Of a machine that is not there any more nothing is known.
    let gone = one(&line(1, (10, "1440"), "cpu=32,mem=64G,node=1,gres/gpu=1", "old7", ""));
    assert!(gone.cpus.is_none() && gone.node.is_none());
}

#[test]
fn limits_of_jobs_that_ended_by_themselves() {
    let mut text = line(1, (10, "6000"), GPUS, "gpu1", "");
    text += &line(2, (10, "UNLIMITED"), GPUS, "gpu1", "");
    text += &line(3, (10, "6000"), GPUS, "gpu1", "").replace("COMPLETED", "CANCELLED by 0");
    text += &line(4, (1, "6000"), GPUS, "gpu1", "");
    let sum = one(&text);
    assert_eq!((sum.limit_gpu_hours, sum.limit_used_gpu_hours), (200.0, 20.0));
}

#[test]
fn machines_that_differ_are_summed_apart() {
    let mut text = String::new();
    for (id, nodes) in [(1, "gpu1"), (2, "mig1"), (3, "gpu1,mig1"), (4, "")] {
        let _ = write!(text, "{}", line(id, (1, "60"), GPUS, nodes, ""));
    }
    let told: Vec<(Option<String>, f64)> = sums(&text).into_iter().map(|s| (s.node, s.gpu_hours)).collect();
    assert_eq!(
        told,
        [(None, 4.0), (Some("gpu1".into()), 2.0), (Some("mig1".into()), 2.0)]
    );
}

/// What slurmdbd answers through slurmrestd tells the same as sacct's line.
#[test]
fn both_ways_tell_the_same() {
    let comment = summary(36_000, 1e9, &[(0.0, 0.0), (20.0, 5e9)]);
    let text = one(&line(1, (10, "1440"), GPUS, "gpu1", &comment));
    let json = serde_json::json!({"jobs": [{"job_id": 1, "user": "ann", "account": "ml", "partition": "train", "nodes": "gpu1",
        "state": {"current": "COMPLETED"}, "time": {"elapsed": 36_000, "start": END - 36_000, "end": END, "limit": {"set": true, "number": 1440}},
        "comment": {"administrator": comment}, "tres": {"allocated": [{"type": "cpu", "count": 4}, {"type": "mem", "count": 20_480},
        {"type": "node", "count": 1}, {"type": "gres", "name": "gpu:h100", "count": 2}, {"type": "gres", "name": "gpu", "count": 2}]}}]});
    let mut all = Accounting::default();
    add_json(&json.to_string(), &mut all).expect("slurmdbd's form");
    assert_eq!(all.by_owner(END, &[node("gpu1", 8)]), [text]);
}
