//! Kubeflow's `TrainJob`: its runtime holds the pods, the job says what differs. Merged as the operator does
//! (kubeflow/trainer pkg/runtime/core/trainingruntime.go, plugins/jobset/builder.go, plugins/mpi/mpi.go).

use super::around::{Around, namespace, overlay};
use super::kinds::{Unit, list_mut, member, number, set, text};
use serde_json::{Value, json};

/// Says which of a runtime's jobs trains.
const STEP: &str = "trainer.kubeflow.org/trainjob-ancestor-step";

pub(super) fn train_job(object: &Value, around: &Around<'_>) -> Vec<Unit> {
    let spec = &object["spec"];
    let reference = &spec["runtimeRef"];
    let kind = text(&reference["kind"]).unwrap_or_else(|| "ClusterTrainingRuntime".into());
    let name = text(&reference["name"]).unwrap_or_default();
    let own = namespace(object);
    let of = if kind == "TrainingRuntime" { own.as_str() } else { "" };
    let runtime = around.training(of, &name);
    // Without its runtime the job still says how many nodes it trains on, and mostly with which GPUs.
    let stand_in = json!({"template": {"spec": {"replicatedJobs": [{
        "name": "node",
        "template": {"metadata": {"labels": {STEP: "trainer"}}, "spec": {"template": {"spec": {"containers": [{"name": "node"}]}}}},
    }]}}});
    let base = runtime.unwrap_or(&stand_in);
    let jobs = base["template"]["spec"]["replicatedJobs"]
        .as_array()
        .into_iter()
        .flatten();
    let members = jobs.map(|job| {
        let merged = merged(job, spec, launcher_trains(base));
        let count = nodes(&merged, spec, base);
        member(count, merged["template"]["spec"]["template"].clone(), "spec.trainer")
    });
    vec![Unit {
        replicas: 1,
        members: members.collect(),
        lacks: runtime.is_none().then(|| format!("{kind} {name}")),
        ..Unit::default()
    }]
}

fn launcher_trains(runtime: &Value) -> bool {
    runtime["mlPolicy"]["mpi"]["runLauncherAsNode"] == true
}

fn trains(job: &Value) -> bool {
    job["template"]["metadata"]["labels"][STEP] == "trainer"
}

/// Pods of one job of the runtime.
fn nodes(job: &Value, spec: &Value, runtime: &Value) -> u64 {
    let (asked, policy) = (number(&spec["trainer"]["numNodes"]), &runtime["mlPolicy"]);
    let written = || {
        let pods = number(&job["template"]["spec"]["parallelism"]).unwrap_or(1);
        pods.saturating_mul(number(&job["replicas"]).unwrap_or(1))
    };
    let mpi = policy["mpi"].is_object();
    match asked {
        // The launcher is one of the nodes, where it trains too.
        Some(asked) if mpi && job["name"] == "node" => {
            let launchers = u64::from(launcher_trains(runtime));
            asked.saturating_sub(launchers).max(1)
        }
        _ if mpi && trains(job) => number(&policy["numNodes"]).unwrap_or(1),
        _ if trains(job) => asked.or_else(|| number(&policy["numNodes"])).unwrap_or(1),
        _ => written(),
    }
}

/// A job of the runtime with the `TrainJob`'s patches and its trainer's words.
fn merged(job: &Value, spec: &Value, launcher_trains: bool) -> Value {
    let mut job = job.clone();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for patch in list(&spec["runtimePatches"]) {
        for over in list(&patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]) {
            if over["name"] == job["name"] {
                let template = overlay(&job["template"], &over["template"]);
                set(&mut job, "template", template);
            }
        }
    }
    // Before Trainer 2.2.
    for over in list(&spec["podTemplateOverrides"]) {
        if list(&over["targetJobs"]).iter().any(|j| j["name"] == job["name"]) {
            let pod = json!({"spec": {"template": {"metadata": over["metadata"], "spec": over["spec"]}}});
            let template = overlay(&job["template"], &pod);
            set(&mut job, "template", template);
        }
    }
    let trainer = &spec["trainer"];
    let mut says = json!({});
    for key in ["image", "command", "args"] {
        set(&mut says, key, trainer[key].clone());
    }
    let amounts = &trainer["resourcesPerNode"];
    for container in list_mut(&mut job, "/template/spec/template/spec/containers") {
        let trains = container["name"] == "node" || (launcher_trains && container["name"] == "launcher");
        if !trains {
            continue;
        }
        let mut whole = overlay(container, &says);
        let env = overlay(&json!(list(&whole["env"])), &json!(list(&trainer["env"])));
        set(&mut whole, "env", env);
        if !amounts["limits"].is_null() || !amounts["requests"].is_null() {
            set(&mut whole, "resources", amounts.clone());
        }
        *container = whole;
    }
    job
}
