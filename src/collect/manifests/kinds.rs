//! Kubernetes' own kinds and the operators' that wrap pod templates: what pods each would make.

use super::serving;
use super::yaml::Document;
use serde_json::{Map, Value, json};

/// One replica's pods of one template.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) count: u64,
    /// metadata and spec, as in a pod template.
    pub(super) template: Value,
    /// Where its pod spec stands in the document.
    pub(super) path: String,
}

/// A workload as the manifest asks for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Unit {
    /// Behind the object's name where one object makes several workloads (Dynamo's services, prefill and decode).
    pub(super) part: Option<String>,
    pub(super) replicas: u64,
    pub(super) members: Vec<Member>,
    /// A server that the object describes apart from its pods, as a container: Ray Serve's configuration, a preset.
    pub(super) serves: Option<Value>,
    /// "prefill" or "decode".
    pub(super) role: Option<&'static str>,
    /// The model as the object names it, where a container only sees a mount.
    pub(super) model: Option<String>,
    /// The manifest leaves the GPUs to an operator.
    pub(super) gpus_unstated: bool,
}

pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|s| !s.is_empty()).map(String::from)
}

pub(super) fn member(count: u64, template: Value, path: &str) -> Member {
    Member {
        count,
        template,
        path: path.into(),
    }
}

fn simple(replicas: &Value, template: &Value, path: &str) -> Vec<Unit> {
    if template["spec"]["containers"].as_array().is_none() {
        return Vec::new();
    }
    vec![Unit {
        replicas: number(replicas).unwrap_or(1),
        members: vec![member(1, template.clone(), &format!("{path}.spec"))],
        ..Unit::default()
    }]
}

/// The workloads of one object; empty for what runs no pods.
pub(super) fn units(document: &Document) -> Vec<Unit> {
    let object = &document.value;
    let spec = &object["spec"];
    match object["kind"].as_str().unwrap_or_default() {
        "Pod" => vec![Unit {
            replicas: 1,
            members: vec![member(1, json!({"metadata": object["metadata"], "spec": spec}), "spec")],
            ..Unit::default()
        }],
        "Job" => simple(&spec["parallelism"], &spec["template"], "spec.template"),
        "CronJob" => {
            let job = &spec["jobTemplate"]["spec"];
            simple(&job["parallelism"], &job["template"], "spec.jobTemplate.spec.template")
        }
        "LeaderWorkerSet" => leader_worker(spec),
        "RayCluster" => ray(spec, "spec", None),
        "RayService" => ray(
            &spec["rayClusterConfig"],
            "spec.rayClusterConfig",
            serving::ray_serve(spec),
        ),
        "RayJob" => ray(&spec["rayClusterSpec"], "spec.rayClusterSpec", None),
        "JobSet" => job_set(spec),
        "PyTorchJob" | "TFJob" | "MPIJob" | "XGBoostJob" | "PaddleJob" | "JAXJob" => training(spec),
        "TrainJob" => train_job(spec),
        "InferenceService" => serving::inference_service(object),
        "LLMInferenceService" => serving::llm_inference_service(object),
        "NIMService" => serving::nim_service(object),
        "DynamoGraphDeployment" => serving::dynamo_graph(object),
        "DynamoComponentDeployment" => serving::dynamo_component(spec, "spec", None),
        "Workspace" => serving::workspace(object),
        "LLMInferenceServiceConfig" | "ClusterServingRuntime" | "ServingRuntime" | "PodTemplate" => Vec::new(),
        // Deployment, StatefulSet, ReplicaSet, DaemonSet, Notebook, Rollout, CloneSet, …: all hold a pod template there.
        _ => simple(&spec["replicas"], &spec["template"], "spec.template"),
    }
}

fn leader_worker(spec: &Value) -> Vec<Unit> {
    let group = &spec["leaderWorkerTemplate"];
    let size = number(&group["size"]).unwrap_or(1).max(1);
    let worker = &group["workerTemplate"];
    let has_leader = group["leaderTemplate"]["spec"].is_object();
    let (leader, path) = if has_leader {
        (
            &group["leaderTemplate"],
            "spec.leaderWorkerTemplate.leaderTemplate.spec",
        )
    } else {
        (worker, "spec.leaderWorkerTemplate.workerTemplate.spec")
    };
    let mut members = vec![member(1, leader.clone(), path)];
    if size > 1 {
        members.push(member(
            size - 1,
            worker.clone(),
            "spec.leaderWorkerTemplate.workerTemplate.spec",
        ));
    }
    vec![Unit {
        replicas: number(&spec["replicas"]).unwrap_or(1),
        members,
        ..Unit::default()
    }]
}

/// Head and workers of a cluster are one replica.
fn ray(cluster: &Value, path: &str, serves: Option<Value>) -> Vec<Unit> {
    let mut members = Vec::new();
    if cluster["headGroupSpec"]["template"].is_object() {
        members.push(member(
            1,
            cluster["headGroupSpec"]["template"].clone(),
            &format!("{path}.headGroupSpec.template.spec"),
        ));
    }
    for (i, group) in cluster["workerGroupSpecs"].as_array().into_iter().flatten().enumerate() {
        // The autoscaler starts at the minimum where no number is given.
        let replicas = number(&group["replicas"])
            .or_else(|| number(&group["minReplicas"]))
            .unwrap_or(1);
        let hosts = number(&group["numOfHosts"]).unwrap_or(1).max(1);
        let path = format!("{path}.workerGroupSpecs[{i}].template.spec");
        members.push(member(replicas.saturating_mul(hosts), group["template"].clone(), &path));
    }
    vec![Unit {
        replicas: 1,
        members,
        serves,
        ..Unit::default()
    }]
}

fn job_set(spec: &Value) -> Vec<Unit> {
    let jobs = spec["replicatedJobs"].as_array().into_iter().flatten().enumerate();
    let members = jobs.map(|(i, job)| {
        let inner = &job["template"]["spec"];
        let pods = number(&inner["parallelism"]).unwrap_or(1);
        let path = format!("spec.replicatedJobs[{i}].template.spec.template.spec");
        member(
            number(&job["replicas"]).unwrap_or(1).saturating_mul(pods),
            inner["template"].clone(),
            &path,
        )
    });
    vec![Unit {
        replicas: 1,
        members: members.collect(),
        ..Unit::default()
    }]
}

/// Kubeflow's v1 jobs: spec.pytorchReplicaSpecs.Worker{replicas, template}.
fn training(spec: &Value) -> Vec<Unit> {
    let empty = Map::new();
    let mut members = Vec::new();
    for (key, roles) in spec.as_object().unwrap_or(&empty) {
        if !key.ends_with("ReplicaSpecs") {
            continue;
        }
        for (role, of) in roles.as_object().unwrap_or(&empty) {
            members.push(member(
                number(&of["replicas"]).unwrap_or(1),
                of["template"].clone(),
                &format!("spec.{key}.{role}.template.spec"),
            ));
        }
    }
    vec![Unit {
        replicas: 1,
        members,
        ..Unit::default()
    }]
}

fn train_job(spec: &Value) -> Vec<Unit> {
    let trainer = &spec["trainer"];
    let container = json!({
        "name": "node", "image": trainer["image"], "command": trainer["command"], "args": trainer["args"],
        "env": trainer["env"], "resources": trainer["resourcesPerNode"],
    });
    vec![Unit {
        replicas: 1,
        members: vec![member(
            number(&trainer["numNodes"]).unwrap_or(1),
            json!({"spec": {"containers": [container]}}),
            "spec.trainer",
        )],
        ..Unit::default()
    }]
}
