//! `gpuwaste plan` from outside: what is unread pins, what is refused is said, and no name does anything but name.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(
    clippy::semicolon_if_nothing_returned,
    reason = "tables of changes, an assignment each"
)]

mod common;

use common::{Done, demo, run, save, two_nodes};
use serde_json::{Value, json};
use tempfile::tempdir;

/// Two nodes, one with a server of two GPUs in two replicas, the other with one of one GPU; all of Deployments.
fn scattered() -> Value {
    let mut snapshot = two_nodes();
    let cluster = &mut snapshot["clusters"][0];
    let server = cluster["pods"][0].clone();
    let mut pods = Vec::new();
    let mut add = |name: &str, index: usize, node: &str, gpus: u64| {
        let mut pod = server.clone();
        pod["name"] = format!("{name}-5d9c-{index}").into();
        pod["uid"] = format!("{name}{index}").into();
        pod["node"] = node.into();
        pod["labels"] = json!({"pod-template-hash": "5d9c"});
        pod["owner"] = json!({"group": "apps", "kind": "ReplicaSet", "name": format!("{name}-5d9c")});
        pod["constraints"] = json!({});
        let amounts = json!({"cpu": 4000, "memory": 16_000_000_000_u64, "devices": {"nvidia.com/gpu": gpus}});
        pod["containers"][0]["requests"] = amounts.clone();
        pod["containers"][0]["limits"] = amounts;
        pods.push(pod);
    };
    add("chat", 0, "held-1", 2);
    add("chat", 1, "held-1", 2);
    add("solo", 0, "free-1", 1);
    let owner = |name: &str, replicas: u64| json!({"group": "apps", "kind": "Deployment", "namespace": "ml", "name": name, "replicas": replicas});
    cluster["pods"] = pods.into();
    cluster["controllers"] = json!([owner("chat", 2), owner("solo", 1)]);
    snapshot
}

fn plan(snapshot: &Value, more: &[&str]) -> Done {
    let dir = tempdir().unwrap();
    save(dir.path(), "case.json", snapshot);
    let mut args = vec!["plan", "--snapshot", "case.json", "--format", "json"];
    args.extend_from_slice(more);
    run(dir.path(), &args)
}

fn saved(plan: &Value) -> f64 {
    plan["totals"]["saved_usd_per_hour"].as_f64().unwrap_or(-1.0)
}

#[test]
fn one_move_empties_a_node() {
    let plan = plan(&scattered(), &[]).expect(0, &[]).json();
    assert!(saved(&plan) > 50.0, "{plan:#}");
    let kinds: Vec<&str> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|s| s["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["cordon", "move", "return"]);
    assert_eq!(plan["steps"][1]["pod"], "ml/solo-5d9c-0");
    assert_eq!(plan["steps"][1]["to"], "held-1");
    assert_eq!(plan["steps"][2]["nodes"], json!(["free-1"]));
    let bill = |i: usize| plan["steps"][i]["bill_after_usd_per_hour"].as_f64().unwrap();
    assert!((bill(1) - bill(2) - saved(&plan)).abs() < 1e-6);
    assert_eq!(plan["nodes"][0]["after"], json!([]));
}

/// Jobs are not moved; a node without one goes by Slurm's own tools, and one that a reservation keeps does not.
#[test]
fn slurms_jobs_stay_and_its_free_nodes_are_counted() {
    let mut snapshot = scattered();
    let cluster = &mut snapshot["clusters"][0];
    cluster["scheduler"] = "slurm".into();
    let mut pods = cluster["pods"].as_array().unwrap().clone();
    pods.truncate(1);
    for pod in &mut pods {
        drop(pod.as_object_mut().unwrap().remove("constraints"));
        pod["owner"] = json!({"group": "slurm", "kind": "Job", "name": "16"});
    }
    cluster["pods"] = pods.into();
    cluster["controllers"] = json!([]);
    let made = plan(&snapshot, &[]).expect(0, &[]).json();
    assert!(saved(&made) > 50.0 && made["refused"] == json!([]), "{made:#}");
    let commands: Vec<&Value> = made["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["commands"])
        .collect();
    assert_eq!(
        commands,
        [
            &json!(["scontrol update 'NodeName=free-1' State=DRAIN Reason=gpuwaste-plan"]),
            &json!(["jobs=$(squeue --noheader --nodelist free-1) && test -z \"$jobs\""]),
        ]
    );
    assert!(!made.to_string().contains("kubectl"), "{made:#}");
    assert!(made["stays"].to_string().contains("jobs are not moved"), "{made:#}");

    let nodes = snapshot["clusters"][0]["nodes"].as_array_mut().unwrap();
    let free = nodes.iter_mut().find(|n| n["name"] == "free-1").unwrap();
    free["kept"] = "reserved".into();
    let made = plan(&snapshot, &[]).expect(0, &[]).json();
    assert!(saved(&made).abs() < 1e-9, "{made:#}");
    assert!(made["stays"].to_string().contains("reservation"), "{made:#}");
}

/// What ties a pod is counted, for the whole fleet.
#[test]
fn what_is_tied_is_counted() {
    let mut snapshot = scattered();
    let pods = &mut snapshot["clusters"][0]["pods"];
    pods[0]["constraints"]["volumes"] = json!(["persistentVolumeClaim"]);
    pods[1]["constraints"]["volumes"] = json!(["persistentVolumeClaim"]);
    pods[2]["labels"]["kueue.x-k8s.io/queue-name"] = "team".into();
    let made = plan(&snapshot, &[]).expect(0, &[]).json();
    assert_eq!(
        made["pinned"],
        json!([
            {"what": "have a volume that is in one place", "pods": 2, "gpus": 4.0},
            {"what": "are admitted by a queue (Kueue), whose quota is not known", "pods": 1, "gpus": 1.0},
        ])
    );
    let dir = tempdir().unwrap();
    save(dir.path(), "case.json", &snapshot);
    let done = run(dir.path(), &["plan", "--snapshot", "case.json"]).expect(0, &[]);
    assert!(
        done.out.contains("Not moved: 2 pods (4 GPUs) have a volume"),
        "{}",
        done.out
    );
}

/// What, how, and a word of the reason.
type Change = (&'static str, fn(&mut Value), &'static str);

/// Each of these is one thing unread, or one that speaks against a move; nothing else changes.
#[test]
fn whatever_is_unread_or_tied_stays() {
    let changes: [Change; 12] = [
        (
            "an old recording of one pod",
            |c| drop(c["pods"][2].as_object_mut().unwrap().remove("constraints")),
            "record it again",
        ),
        ("autoscalers", |c| c["autoscalers"] = Value::Null, "only Ready pod"),
        ("its owner", |c| c["controllers"] = json!([]), "only Ready pod"),
        (
            "a pod that was not read",
            |c| c["pods_read"]["unread_on"] = json!(["free-1"]),
            "not read",
        ),
        (
            "a volume",
            |c| c["pods"][2]["constraints"]["volumes"] = json!(["persistentVolumeClaim"]),
            "volume",
        ),
        (
            "another scheduler",
            |c| c["pods"][2]["constraints"]["scheduler"] = "volcano".into(),
            "volcano",
        ),
        (
            "its owner's word",
            |c| c["pods"][2]["constraints"]["do_not_disrupt"] = true.into(),
            "not disrupted",
        ),
        (
            "zones",
            |c| {
                c["pods"][2]["constraints"]["anti_affinity"] =
                    json!([{"topology_key": "topology.kubernetes.io/zone", "selection": 0}])
            },
            "zones",
        ),
        (
            "what is not modelled",
            |c| c["pods"][2]["constraints"]["other"] = json!(["rdma/hca"]),
            "rdma/hca",
        ),
        (
            "not Ready",
            |c| c["pods"][2]["ready"]["status"] = false.into(),
            "not Ready",
        ),
        (
            "an autoscaler",
            |c| c["autoscalers"] = json!([{"namespace": "ml", "name": "a", "target": {"group": "apps", "kind": "Deployment", "name": "solo"}, "min_replicas": 1, "max_replicas": 2}]),
            "only Ready pod",
        ),
        (
            "no room",
            |c| c["nodes"][1]["allocatable"]["cpu"] = 9000.into(),
            "no room",
        ),
    ];
    for (what, change, why) in changes {
        let mut snapshot = scattered();
        // The other node's pods have nowhere to go either: they are two replicas that keep apart.
        let cluster = &mut snapshot["clusters"][0];
        for i in 0..2 {
            cluster["pods"][i]["constraints"]["volumes"] = json!(["hostPath"]);
        }
        change(cluster);
        let plan = plan(&snapshot, &[]).expect(0, &[]).json();
        assert!(saved(&plan).abs() < 1e-9, "{what}: {plan:#}");
        assert_eq!(plan["steps"], json!([]), "{what}");
        assert!(plan["stays"].to_string().contains(why), "{what}: {}", plan["stays"]);
    }
}

/// Two zones; what solo asks over them, of whom: everything that the scheduler counts is known.
fn zoned(ask: impl Fn(&mut Value)) -> Value {
    let mut snapshot = scattered();
    let cluster = &mut snapshot["clusters"][0];
    for (i, zone) in ["a", "b"].iter().enumerate() {
        cluster["nodes"][i]["labels"]["topology.kubernetes.io/zone"] = (*zone).into();
    }
    for i in 0..2 {
        cluster["pods"][i]["constraints"]["volumes"] = json!(["hostPath"]);
    }
    cluster["selections"] = json!([
        {"pods": ["ml/solo-5d9c-0"], "elsewhere": false},
        {"pods": ["ml/chat-5d9c-0", "ml/chat-5d9c-1"], "elsewhere": false},
    ]);
    cluster["other_domains"] = json!({});
    cluster["pods"][2]["constraints"]["spread"] =
        json!([{"topology_key": "topology.kubernetes.io/zone", "max_skew": 1, "selection": 0, "whole": true}]);
    ask(cluster);
    snapshot
}

/// What is changed.
type Ask<'a> = &'a dyn Fn(&mut Value);

/// Spread and anti-affinity over zones, as the scheduler counts them; what of it is unread pins.
#[test]
fn zones_are_kept_and_what_is_unread_of_them_pins() {
    const ZONE: &str = "topology.kubernetes.io/zone";
    let one = |c: &mut Value| c["nodes"][1]["labels"][ZONE] = "a".into();
    let apart = |c: &mut Value, from: u64| {
        c["pods"][2]["constraints"] = json!({"anti_affinity": [{"topology_key": ZONE, "selection": from}]})
    };
    let cases: [(&str, Ask<'_>, Option<&str>); 13] = [
        ("one more in a zone without one", &|_| {}, None),
        ("the only zone", &one, None),
        (
            "the only zone, of two that there must be",
            &|c| {
                one(c);
                c["pods"][2]["constraints"]["spread"][0]["min_domains"] = 2.into()
            },
            Some("no room"),
        ),
        (
            "a second one, with a zone without GPUs that has none",
            &|c| {
                one(c);
                c["other_domains"][ZONE] = json!(["c"])
            },
            Some("no room"),
        ),
        (
            "zones unread",
            &|c| drop(c.as_object_mut().unwrap().remove("other_domains")),
            Some("not known"),
        ),
        (
            "pods elsewhere unread",
            &|c| c["selections"][0]["elsewhere"] = Value::Null,
            Some("not known"),
        ),
        (
            "pods elsewhere",
            &|c| c["selections"][0]["elsewhere"] = true.into(),
            Some("not known"),
        ),
        (
            "an older recording",
            &|c| c["pods"][2]["constraints"]["spread"][0]["whole"] = false.into(),
            Some("not known"),
        ),
        (
            "a node without the label",
            &|c| drop(c["nodes"][1]["labels"].as_object_mut().unwrap().remove(ZONE)),
            Some("no room"),
        ),
        (
            "a skew that nobody satisfies today stays as it is",
            &|c| {
                c["pods"][2]["constraints"]["spread"][0]["selection"] = 1.into();
                c["selections"][1]["pods"]
                    .as_array_mut()
                    .unwrap()
                    .push("ml/solo-5d9c-0".into());
            },
            Some("no room"),
        ),
        (
            "kept apart from who is in the other zone",
            &|c| apart(c, 1),
            Some("no room"),
        ),
        ("kept apart from itself alone", &|c| apart(c, 0), None),
        (
            "kept off by somebody in that zone",
            &|c| {
                c["pods"][2]["constraints"] = json!({});
                c["pods"][0]["constraints"]["anti_affinity"] = json!([{"topology_key": ZONE, "selection": 0}])
            },
            Some("no room"),
        ),
    ];
    for (what, ask, why) in cases {
        let plan = plan(&zoned(ask), &[]).expect(0, &[]).json();
        match why {
            None => assert!(saved(&plan) > 50.0, "{what}: {plan:#}"),
            Some(why) => {
                assert!(saved(&plan).abs() < 1e-9, "{what}: {plan:#}");
                assert!(plan["stays"].to_string().contains(why), "{what}: {}", plan["stays"]);
            }
        }
    }
}

/// The demo, with a node of the tier that a finding names, and its present node to itself.
fn with_smaller_tier(folder: &std::path::Path) -> Value {
    const HELD: &str = "ip-10-0-1-15.ec2.internal";
    let mut snapshot = demo(folder);
    let clusters = snapshot["clusters"].as_array_mut().unwrap();
    let cluster = clusters.iter_mut().find(|c| c["name"] == "prod-aws-us-east-1").unwrap();
    let nodes = cluster["nodes"].as_array_mut().unwrap();
    let kind = "node.kubernetes.io/instance-type";
    let mut node = nodes
        .iter()
        .find(|n| n["labels"][kind] == "g6e.12xlarge")
        .unwrap()
        .clone();
    node["name"] = "g7e-1".into();
    node["labels"][kind] = "g7e.12xlarge".into();
    node["labels"]["nvidia.com/gpu.product"] = "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition".into();
    node["labels"]["nvidia.com/gpu.count"] = "2".into();
    for part in ["capacity", "allocatable"] {
        node[part]["devices"]["nvidia.com/gpu"] = 2.into();
    }
    nodes.push(node);
    let own = |p: &Value| p["name"].as_str().is_some_and(|n| n.starts_with("gpt-oss"));
    let kept = |p: &Value| p["node"] != HELD || own(p) || p["owner"]["kind"] == "DaemonSet";
    cluster["pods"].as_array_mut().unwrap().retain(|p| kept(p));
    cluster["gpus"].as_array_mut().unwrap().retain(|g| g["node"] != HELD);
    for owner in cluster["controllers"].as_array_mut().unwrap() {
        if owner["kind"] == "Deployment" {
            owner["rollout"] = json!({"max_unavailable": "25%"});
        }
    }
    snapshot
}

fn controller<'s>(snapshot: &'s mut Value, name: &str) -> &'s mut Value {
    let clusters = snapshot["clusters"].as_array_mut().unwrap();
    let owners = clusters
        .iter_mut()
        .flat_map(|c| c["controllers"].as_array_mut().unwrap());
    owners.into_iter().find(|o| o["name"] == name).unwrap()
}

fn tier_steps(plan: &Value) -> Vec<Value> {
    let steps = plan["steps"].as_array().unwrap();
    steps.iter().filter(|s| s["kind"] == "tier").cloned().collect()
}

#[test]
fn a_smaller_tier_is_taken_where_it_is_allowed() {
    let dir = tempdir().unwrap();
    let snapshot = with_smaller_tier(dir.path());
    let without = plan(&snapshot, &[]).json();
    assert!(
        tier_steps(&without).is_empty() && without["by_person"] == json!([]),
        "{without:#}"
    );
    let made = plan(&snapshot, &["--allow", "tier"]).json();
    let steps = tier_steps(&made);
    let step = &steps[0];
    assert_eq!(steps.len(), 1, "{made:#}");
    assert_eq!(step["workload"], "Deployment agents/gpt-oss-120b");
    assert_eq!(step["nodes"], json!(["g7e-1"]));
    assert_eq!(step["gpus"], 4.0);
    assert!(saved(&made) - saved(&without) > 40.0, "{made:#}");
    let risk = step["risk"].as_str().unwrap();
    assert!(
        risk.contains("estimated, not measured") && risk.contains("never fewer"),
        "{risk}"
    );
    assert!(
        step["undo"]
            .to_string()
            .contains("rollout undo deployment gpt-oss-120b"),
        "{step:#}"
    );
    // What the finding prints is what the step carries.
    let report = common::scan(dir.path(), &snapshot, &[]).json();
    let found = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["id"] == step["findings"][0])
        .unwrap();
    assert_eq!(found["check"], "oversized-tier");
    let said = found["fix"]["patch"].as_str().unwrap();
    let command = step["commands"][1].as_str().unwrap();
    let quoted = command.split_once(" -p '").unwrap().1.strip_suffix('\'').unwrap();
    let patch: Value = serde_json::from_str(quoted).unwrap();
    let container = &patch["spec"]["template"]["spec"]["containers"][0];
    let named = format!("name: {}", container["name"].as_str().unwrap());
    let product = patch["spec"]["template"]["spec"]["nodeSelector"]["nvidia.com/gpu.product"]
        .as_str()
        .unwrap();
    let count = container["resources"]["limits"]["nvidia.com/gpu"].as_str().unwrap();
    for part in [named.as_str(), product, &format!("nvidia.com/gpu: \"{count}\"")] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // The picture: the card that it takes, and the node that goes.
    let node = |name: &str| {
        made["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|n| n["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(node("g7e-1")["after"], json!(["working", "working"]));
    assert_eq!(node("ip-10-0-1-15.ec2.internal")["returned"], true);
    let still = plan(&snapshot, &["--allow", "tier", "--max-moves", "0"]).json();
    assert!(tier_steps(&still).is_empty(), "{still:#}");
    let other = plan(&snapshot, &["--allow", "tier", "--only", "docs"]).json();
    assert!(
        tier_steps(&other).is_empty() && !other["by_person"].to_string().contains("gpt-oss"),
        "{other:#}"
    );
    for format in ["table", "markdown", "html", "commands"] {
        save(dir.path(), "case.json", &snapshot);
        let out = run(
            dir.path(),
            &["plan", "--snapshot", "case.json", "--allow", "tier", "--format", format],
        )
        .out;
        let out: Vec<&str> = out.split_whitespace().collect();
        let out = out.join(" ");
        assert!(out.contains("smaller tier"), "{format}: {out}");
        // A reason that no step is made of stands in all but the script.
        assert_eq!(out.contains("Not a step"), format != "commands", "{format}: {out}");
    }
}

/// Each of these is one thing that speaks against a tier change, or is not known of it.
#[test]
fn a_tier_that_cannot_be_changed_is_a_persons() {
    let dir = tempdir().unwrap();
    let snapshot = with_smaller_tier(dir.path());
    let name = "gpt-oss-120b";
    let changes: [Change; 8] = [
        (
            "an older recording",
            |o| drop(o.as_object_mut().unwrap().remove("rollout")),
            "record it again",
        ),
        (
            "Argo CD",
            |o| o["rollout"]["applied_by"] = "Argo CD".into(),
            "Argo CD applies its manifest",
        ),
        ("Recreate", |o| o["rollout"]["recreate"] = true.into(), "Recreate"),
        ("paused", |o| o["rollout"]["paused"] = true.into(), "paused"),
        (
            "an operator",
            |o| o["owner"] = json!({"group": "example.com", "kind": "ModelService", "name": "gpt"}),
            "a ModelService is not raised first",
        ),
        ("replicas unread", |o| o["replicas"] = Value::Null, "autoscaler"),
        (
            "more asked for than there are",
            |o| o["replicas"] = 2.into(),
            "takes replicas away",
        ),
        (
            "opted out",
            |o| o["ignore"] = json!({"checks": ["all"], "reason": "no"}),
            "",
        ),
    ];
    for (what, change, why) in changes {
        let mut snapshot = snapshot.clone();
        change(controller(&mut snapshot, name));
        let made = plan(&snapshot, &["--allow", "tier"]).json();
        assert!(tier_steps(&made).is_empty(), "{what}: {made:#}");
        let told = made["by_person"].to_string();
        assert!(why.is_empty() || told.contains(why), "{what}: {told}");
    }
    let mut helm = snapshot.clone();
    controller(&mut helm, name)["rollout"]["applied_by"] = "Helm".into();
    let made = plan(&helm, &["--allow", "tier"]).json();
    assert!(
        tier_steps(&made)[0]["risk"].to_string().contains("Helm chart"),
        "{made:#}"
    );
    // No container of a patch is anything but its name.
    let mut odd = snapshot.clone();
    for cluster in odd["clusters"].as_array_mut().unwrap() {
        for pod in cluster["pods"].as_array_mut().unwrap() {
            if pod["name"].as_str().is_some_and(|n| n.starts_with("gpt-oss")) {
                pod["containers"][0]["name"] =
                    "x\n          image: evil; touch CANARY\n          y: $(touch CANARY)".into();
            }
        }
    }
    let made = plan(&odd, &["--allow", "tier"]).json();
    assert!(!made["steps"].to_string().contains("evil"), "{made:#}");
}

/// What is allowed and not done says why.
#[test]
fn what_is_allowed_and_not_done_says_why() {
    let dir = tempdir().unwrap();
    let snapshot = demo(dir.path());
    let report = common::scan(dir.path(), &snapshot, &[]).json();
    let made = plan(&snapshot, &["--allow", "now,reusable"]).json();
    let dark = report["findings"].as_array().unwrap().iter().filter(|f| {
        f["check"] == "dark-capacity"
            && (f["part"] == "idle" || f["part"] == "stuck")
            && f["status"] != "suppressed"
            && f["kind"] == "recoverable"
    });
    let done = made["steps"].to_string();
    let mut told = 0;
    for finding in dark {
        let id = finding["id"].as_str().unwrap();
        let other = made["by_person"]
            .as_array()
            .unwrap()
            .iter()
            .find(|b| b["finding"] == id);
        assert!(done.contains(id) != other.is_some(), "{id}: {:#}", made["by_person"]);
        told += u32::from(other.is_some_and(|b| b["what"].as_str().unwrap().contains("Not a step: ")));
    }
    assert!(told > 0, "{:#}", made["by_person"]);
}

/// What was not read, and a word of the reason.
type Refusal = (fn(&mut Value), &'static str);

#[test]
fn a_cluster_that_was_not_read_gets_no_plan_and_the_reason() {
    let refusals: [Refusal; 3] = [
        (|c| c["nodes"] = Value::Null, "nodes"),
        (|c| c["pods_read"]["complete"] = false.into(), "pods"),
        (
            |c| {
                for pod in c["pods"].as_array_mut().unwrap() {
                    pod.as_object_mut().unwrap().remove("constraints");
                }
            },
            "record it again",
        ),
    ];
    for (change, why) in refusals {
        let mut snapshot = scattered();
        change(&mut snapshot["clusters"][0]);
        let done = plan(&snapshot, &[]).expect(3, &["no plan for one", why]);
        let plan = done.json();
        assert_eq!(plan["totals"]["saved_usd_per_hour"], Value::Null);
        assert_eq!(plan["steps"], json!([]));
        let scan = common::scan(tempdir().unwrap().path(), &snapshot, &[]).json();
        assert_eq!(scan["totals"]["now_after_plan_usd_per_hour"], Value::Null);
    }
}

#[test]
fn limits_are_kept() {
    let of = |more: &[&str]| plan(&scattered(), more).expect(0, &[]).json();
    assert!(saved(&of(&["--max-moves", "0"])).abs() < 1e-9);
    plan(&scattered(), &["--only", "other"]).expect(2, &["--only other", "no namespace or workload"]);
    assert!(saved(&of(&["--only", "ml/solo"])) > 50.0);
    assert!(saved(&of(&["--headroom", "30"])) > 50.0, "3 of 8 stay free");
    assert!(saved(&of(&["--headroom", "40"])).abs() < 1e-9);
    assert!(saved(&of(&["--headroom", "node"])).abs() < 1e-9);
    plan(&scattered(), &["--headroom", "much"]).expect(2, &["--headroom much", "'node'"]);
    plan(&scattered(), &["--only", "a/b/c"]).expect(2, &["--only 'a/b/c'"]);
}

#[test]
fn scan_says_what_moves_would_bring() {
    let dir = tempdir().unwrap();
    let report = common::scan(dir.path(), &scattered(), &[]).json();
    let turned = report["plan"]["usd_per_hour"].as_f64().unwrap();
    assert_eq!(report["plan"]["moves"], 1);
    let total = |name: &str| report["totals"][name].as_f64().unwrap();
    assert!((total("now_after_plan_usd_per_hour") - total("waste_now_usd_per_hour") - turned).abs() < 1e-6);
    let table = run(dir.path(), &["scan", "--snapshot", "case.json"]).out;
    assert!(table.contains("A plan of 1 move turns"), "{table}");
}

#[test]
fn the_same_bytes_twice_in_every_format() {
    let dir = tempdir().unwrap();
    for format in ["table", "json", "markdown", "html", "commands"] {
        let of = || {
            run(
                dir.path(),
                &[
                    "plan",
                    "--demo",
                    "--allow",
                    "now,reusable,replicas,tier",
                    "--format",
                    format,
                ],
            )
            .expect(0, &[])
            .out
        };
        let once = of();
        assert!(once.len() > 500 && once == of(), "{format}");
        assert!(!once.contains('\u{1b}'), "{format}");
    }
}

#[test]
fn the_demos_plan_is_of_its_schema_and_acts_on_findings() {
    let dir = tempdir().unwrap();
    let plan = run(
        dir.path(),
        &["plan", "--demo", "--allow", "now,reusable", "--format", "json"],
    )
    .expect(0, &[])
    .json();
    let schema = run(dir.path(), &["schema", "plan"]).expect(0, &[]).json();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&plan));
    let report = run(dir.path(), &["scan", "--demo", "--format", "json"]).json();
    let known: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|f| f["id"].as_str())
        .collect();
    let steps = plan["steps"].as_array().unwrap();
    let named: Vec<&str> = steps
        .iter()
        .flat_map(|s| s["findings"].as_array().unwrap())
        .filter_map(Value::as_str)
        .collect();
    assert!(named.len() >= 3 && named.iter().all(|f| known.contains(f)), "{named:?}");
    let without = run(dir.path(), &["plan", "--demo", "--format", "json"]).json();
    assert!(saved(&plan) > saved(&without) + 80.0);
    let only = |s: &&Value| s["kind"] == "change";
    assert!(
        !without["steps"].as_array().unwrap().iter().any(|s| only(&s)),
        "nobody is ended who was not allowed to"
    );
    demo(dir.path());
    // Whom somebody did not name is neither moved nor ended.
    let args = [
        "plan",
        "--demo",
        "--allow",
        "now,reusable",
        "--only",
        "tagging",
        "--format",
        "commands",
    ];
    let tagging = run(dir.path(), &args).expect(0, &[]).out;
    assert!(!tagging.contains(" scale "), "{tagging}");
    let args = [
        "plan",
        "--demo",
        "--allow",
        "now",
        "--only",
        "eval/llama-405b-eval",
        "--format",
        "commands",
    ];
    let one = run(dir.path(), &args).expect(0, &[]).out;
    assert_eq!(
        one.matches(" scale ").count(),
        one.matches(" scale statefulset llama-405b-eval ").count(),
        "{one}"
    );
    assert!(one.contains(" scale "), "{one}");
}

#[test]
fn names_are_words_and_nothing_else() {
    let odd = "x'; touch CANARY #$(touch CANARY)`touch CANARY`\n<script>alert(1)</script>\u{1b}[31m|";
    let mut snapshot = scattered();
    snapshot["clusters"][0]["name"] = odd.into();
    let cluster = &mut snapshot["clusters"][0];
    cluster["pods"][2]["namespace"] = odd.into();
    cluster["controllers"][1]["namespace"] = odd.into();
    let dir = tempdir().unwrap();
    save(dir.path(), "case.json", &snapshot);
    let of = |format: &str| {
        run(dir.path(), &["plan", "--snapshot", "case.json", "--format", format])
            .expect(0, &[])
            .out
    };
    let script = of("commands");
    assert!(script.contains("kubectl"), "{script}");
    let bin = dir.path().join("kubectl");
    std::fs::write(&bin, "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::write(dir.path().join("plan.sh"), &script).unwrap();
    let shell = std::process::Command::new("sh")
        .args(["-c", "chmod +x kubectl; PATH=.:$PATH sh plan.sh"])
        .current_dir(dir.path())
        .status()
        .unwrap();
    assert!(shell.success() && !dir.path().join("CANARY").exists(), "{script}");
    assert!(!of("html").contains("<script>alert"));
    // Commands stand in a code block that no name ends: what is in it is text, as it is copied.
    let markdown = of("markdown");
    let (before, block) = markdown.split_once("<details><summary>Commands</summary>\n\n").unwrap();
    let fence: String = block.chars().take_while(|c| *c == '`').collect();
    let (inside, after) = block[fence.len()..]
        .split_once(&format!("\n{fence}\n\n</details>"))
        .unwrap();
    assert!(fence.len() >= 3 && !inside.contains(&fence), "{block}");
    assert!(
        !before.contains("<script>alert") && !after.contains("<script>alert"),
        "{markdown}"
    );
    for format in ["table", "markdown", "html", "commands"] {
        assert!(!of(format).contains('\u{1b}'), "{format}");
    }
}
