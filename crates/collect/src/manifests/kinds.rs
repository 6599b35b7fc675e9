//! Kubernetes' own kinds and the operators' that wrap pod templates: what pods each would make.

use super::around::{self, Around};
use super::count::Count;
use super::yaml::Document;
use super::{serving, shape, spark, training};
use crate::snapshot::server::UnreadSetting;
use serde_json::{Map, Value, json};

/// One replica's pods of one template.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) count: Count,
    /// metadata and spec, as in a pod template.
    pub(super) template: Value,
    /// Where its pod spec stands in the document; of a template that is made up what it is made from.
    pub(super) path: String,
}

/// A workload as the manifest asks for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Unit {
    /// Behind the object's name where one object makes several workloads (Dynamo's services, prefill and decode).
    pub(super) part: Option<String>,
    pub(super) replicas: Count,
    pub(super) members: Vec<Member>,
    /// A server that the object describes apart from its pods, as a container: Ray Serve's configuration, a preset.
    pub(super) serves: Option<Value>,
    /// An autoscaler takes it to none while nobody asks it: its replicas are those of a time when somebody does.
    pub(super) to_zero: bool,
    /// "prefill" or "decode".
    pub(super) role: Option<&'static str>,
    /// The model as the object names it, where a container only sees a mount.
    pub(super) model: Option<String>,
    /// The manifest leaves the GPUs to an operator.
    pub(super) gpus_unstated: bool,
    /// The operator spreads the model over all GPUs of a node (KAITO sets the tensor parallelism so).
    pub(super) spread: bool,
    /// An object that it refers to and the input lacks, as "kind name".
    pub(super) lacks: Option<String>,
    /// What of its server's settings stands where the object does not show it.
    pub(super) unread: Vec<UnreadSetting>,
}

pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Sets a key of an object; nothing else has keys (serde_json's `value[key] = …` panics there).
pub(super) fn set(value: &mut Value, key: &str, to: Value) {
    if value.is_null() {
        *value = json!({});
    }
    if let Some(map) = value.as_object_mut() {
        map.insert(key.into(), to);
    }
}

/// The list at a JSON pointer, to be changed; empty where there is none.
pub(super) fn list_mut<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = value.pointer_mut(pointer).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// The values of the map at a JSON pointer, to be changed.
pub(super) fn values_mut<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    let map = value.pointer_mut(pointer).and_then(Value::as_object_mut);
    map.into_iter().flat_map(Map::values_mut)
}

pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|s| !s.is_empty()).map(String::from)
}

pub(super) fn member(count: impl Into<Count>, template: Value, path: &str) -> Member {
    Member {
        count: count.into(),
        template,
        path: path.into(),
    }
}

fn simple(replicas: &Value, template: &Value, path: &str) -> Vec<Unit> {
    if template["spec"]["containers"].as_array().is_none() {
        return Vec::new();
    }
    vec![Unit {
        replicas: Count::of(replicas, 1),
        members: vec![member(1, template.clone(), &format!("{path}.spec"))],
        ..Unit::default()
    }]
}

/// How many Knative keeps at least, by the annotation on what it makes revisions of.
pub(super) fn least_scale(annotations: &Value) -> Option<u64> {
    ["autoscaling.knative.dev/min-scale", "autoscaling.knative.dev/minScale"]
        .iter()
        .find_map(|k| number(&annotations[*k]))
}

/// Pods of a Job that run at once: never more than it has to complete.
fn at_once(job: &Value) -> Value {
    match (number(&job["parallelism"]), number(&job["completions"])) {
        (Some(parallel), Some(all)) if all < parallel => all.into(),
        _ => job["parallelism"].clone(),
    }
}

/// Its status, where it was read from a cluster, says that it completed or failed.
fn has_ended(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| {
        let ends = matches!(c["type"].as_str(), Some("Complete" | "Failed"));
        ends && c["status"].as_str() == Some("True")
    })
}

/// It is switched off: suspended (Jobs, JobSets, Kubeflow's and Ray's), or stopped by an annotation (Kubeflow's notebooks, KServe).
/// What waits in a queue of Kueue's is suspended until it is admitted, and then runs.
fn is_off(object: &Value) -> bool {
    let (spec, metadata) = (&object["spec"], &object["metadata"]);
    let yes = |v: &Value| v == true || v.as_str() == Some("true");
    let queued = metadata["labels"]["kueue.x-k8s.io/queue-name"].is_string();
    let suspended = yes(&spec["suspend"]) || yes(&spec["runPolicy"]["suspend"]);
    let annotations = &metadata["annotations"];
    let stopped = !annotations["kubeflow-resource-stopped"].is_null() || yes(&annotations["serving.kserve.io/stop"]);
    suspended && !queued || stopped
}

/// The workloads of one object; empty for what runs no pods.
pub(super) fn units(document: &Document, around: &Around<'_>) -> Vec<Unit> {
    let mut units = described(document, around);
    if is_off(&document.value) {
        for unit in &mut units {
            unit.replicas = 0.into();
        }
    }
    units
}

fn described(document: &Document, around: &Around<'_>) -> Vec<Unit> {
    let object = &document.value;
    let spec = &object["spec"];
    // Items of a live list do not repeat their API version.
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let of = |group: &str| version.is_empty() || version.starts_with(group);
    match object["kind"].as_str().unwrap_or_default() {
        // Of what was read from a cluster: what has ended holds nothing.
        "Pod" => vec![Unit {
            replicas: u64::from(!matches!(
                object["status"]["phase"].as_str(),
                Some("Succeeded" | "Failed")
            ))
            .into(),
            members: vec![member(1, json!({"metadata": object["metadata"], "spec": spec}), "spec")],
            ..Unit::default()
        }],
        "Job" if of("batch/") && has_ended(object) => vec![Unit {
            replicas: 0.into(),
            ..Unit::default()
        }],
        "Job" if of("batch/") => simple(&at_once(spec), &spec["template"], "spec.template"),
        "CronJob" => {
            let job = &spec["jobTemplate"]["spec"];
            simple(&at_once(job), &job["template"], "spec.jobTemplate.spec.template")
        }
        "LeaderWorkerSet" => vec![leader_worker(spec, "spec")],
        "DisaggregatedSet" => disaggregated(spec),
        "ModelServing" => model_serving(spec),
        // AIBrix: a fleet's template holds a Ray cluster.
        "RayClusterFleet" | "RayClusterReplicaSet" => {
            let mut units = ray(&spec["template"]["spec"], "spec.template.spec", None);
            for unit in &mut units {
                unit.replicas = Count::of(&spec["replicas"], 1);
            }
            units
        }
        "RayCluster" => ray(spec, "spec", None),
        "RayService" => {
            let served = serving::ray_serve(spec);
            let mut units = ray(&spec["rayClusterConfig"], "spec.rayClusterConfig", served.server);
            for unit in &mut units {
                unit.unread.clone_from(&served.unread);
            }
            if let Some(accelerator) = serving::ray_accelerator(spec) {
                for member in units.iter_mut().flat_map(|u| &mut u.members) {
                    if let Some(spec) = member.template.get_mut("spec").filter(|s| s["nodeSelector"].is_null()) {
                        set(spec, "nodeSelector", json!({"ray.io/accelerator-type": accelerator}));
                    }
                }
            }
            units
        }
        "RayJob" => ray(&spec["rayClusterSpec"], "spec.rayClusterSpec", None),
        "JobSet" => job_set(spec),
        "PyTorchJob" | "TFJob" | "MPIJob" | "XGBoostJob" | "PaddleJob" | "JAXJob" => replica_specs(spec),
        "TrainJob" => training::train_job(object, around),
        "InferenceService" if of("serving.kserve.io/") => serving::inference_service(object, around),
        "LLMInferenceService" => serving::llm_inference_service(object, around),
        "NIMService" => serving::nim_service(object, "spec", None),
        "NIMPipeline" => nim_pipeline(object),
        "DynamoGraphDeployment" => serving::dynamo_graph(object),
        "DynamoComponentDeployment" => serving::dynamo_component(spec, "spec", None),
        "Workspace" if of("kaito.sh/") => serving::workspace(object, "", 1.into(), around),
        "InferenceSet" => serving::workspace(object, "spec.template.", Count::of(&spec["replicas"], 1), around),
        "Model" if of("kubeai.org/") => shape::kubeai_model(spec),
        "VLLMRuntime" => shape::vllm_runtime(spec),
        "SparkApplication" | "SparkConnect" => spark::application(spec, "spec"),
        "ScheduledSparkApplication" => spark::application(&spec["template"], "spec.template"),
        kind if shape::makes_nothing(kind) => Vec::new(),
        // Deployment, StatefulSet, ReplicaSet, DaemonSet, Notebook, Rollout, CloneSet, …: all hold a pod template there.
        _ if spec["template"]["spec"]["containers"].is_array() => {
            let fixed = &spec["template"]["metadata"]["annotations"];
            // A Knative Service has no replicas: its least number stands in an annotation.
            let kept = least_scale(fixed);
            let least = kept.filter(|n| *n > 0).map_or(Value::Null, Value::from);
            let kind = object["kind"].as_str().unwrap_or_default();
            let autoscaler = around.least_replicas(&around::namespace(object), kind, &around::name(object));
            let scaled = || autoscaler.filter(|n| *n > 0).map_or(Value::Null, Value::from);
            // Knative keeps none where nothing else is said (config-autoscaler: min-scale 0, enable-scale-to-zero true).
            let to_zero = autoscaler == Some(0) || of("serving.knative.dev/") && kept.unwrap_or(0) == 0;
            let replicas = match (&spec["replicas"], &least) {
                (Value::Null, Value::Null) => scaled(),
                (Value::Null, least) => least.clone(),
                // An autoscaler keeps its least, whatever stands in the object; at 0 it is switched off.
                (stated, _) => match (number(stated), number(&scaled())) {
                    (Some(own @ 1..), Some(least)) if least > own => least.into(),
                    _ => stated.clone(),
                },
            };
            let mut units = simple(&replicas, &spec["template"], "spec.template");
            for unit in &mut units {
                unit.to_zero = to_zero;
            }
            units
        }
        _ => shape::units(object),
    }
}

/// `NIMPipeline`: a `NIMService`'s spec for each service that is switched on.
fn nim_pipeline(object: &Value) -> Vec<Unit> {
    let services = object["spec"]["services"].as_array().into_iter().flatten().enumerate();
    services
        .filter(|(_, s)| s["enabled"] != Value::Bool(false))
        .flat_map(|(i, service)| {
            let one = json!({"metadata": object["metadata"], "spec": service["spec"]});
            let part = text(&service["name"]).unwrap_or_else(|| format!("service-{i}"));
            serving::nim_service(&one, &format!("spec.services[{i}].spec"), Some(part))
        })
        .collect()
}

/// Roles of a disaggregated server, each a `LeaderWorkerSet` (kubernetes-sigs/lws, docs/examples/disaggregatedset).
fn disaggregated(spec: &Value) -> Vec<Unit> {
    let roles = spec["roles"].as_array().into_iter().flatten().enumerate();
    let slices = Count::of(&spec["slices"], 1);
    let units = roles.map(|(i, role)| {
        let name = text(&role["name"]).unwrap_or_else(|| format!("role-{i}"));
        let group = leader_worker(&role["spec"], &format!("spec.roles[{i}].spec"));
        Unit {
            role: role_of(&name),
            part: Some(name),
            replicas: group.replicas.clone().times(slices.clone()),
            ..group
        }
    });
    units.collect()
}

/// Kthena: each replica of a role is an entry pod and its workers (volcano-sh/kthena, docs on multi-node inference).
fn model_serving(spec: &Value) -> Vec<Unit> {
    let groups = Count::of(&spec["replicas"], 1);
    let roles = spec["template"]["roles"].as_array().into_iter().flatten().enumerate();
    let units = roles.map(|(i, role)| {
        let name = text(&role["name"]).unwrap_or_else(|| format!("role-{i}"));
        let path = |of: &str| format!("spec.template.roles[{i}].{of}.spec");
        let mut members = vec![member(1, role["entryTemplate"].clone(), &path("entryTemplate"))];
        let workers = Count::of(&role["workerReplicas"], 0);
        if workers.known() != Some(0) {
            members.push(member(workers, role["workerTemplate"].clone(), &path("workerTemplate")));
        }
        Unit {
            role: role_of(&name),
            part: Some(name),
            replicas: Count::of(&role["replicas"], 1).times(groups.clone()),
            members,
            ..Unit::default()
        }
    });
    units.collect()
}

/// Roles as people name them.
pub(super) fn role_of(name: &str) -> Option<&'static str> {
    match name {
        "prefill" => Some("prefill"),
        "decode" => Some("decode"),
        _ => None,
    }
}

fn leader_worker(spec: &Value, path: &str) -> Unit {
    let group = &spec["leaderWorkerTemplate"];
    let size = Count::of(&group["size"], 1).map(|n| n.max(1));
    let worker = &group["workerTemplate"];
    let has_leader = group["leaderTemplate"]["spec"].is_object();
    let of_workers = format!("{path}.leaderWorkerTemplate.workerTemplate.spec");
    let (leader, of_leader) = if has_leader {
        let of_leader = format!("{path}.leaderWorkerTemplate.leaderTemplate.spec");
        (&group["leaderTemplate"], of_leader)
    } else {
        (worker, of_workers.clone())
    };
    let sized = |template: &Value| {
        let mut template = template.clone();
        for list in ["/spec/containers", "/spec/initContainers"] {
            for container in list_mut(&mut template, list) {
                // The controller sets it in every container of the group.
                let size = json!({"name": "LWS_GROUP_SIZE", "value": size.text()});
                let mut env = container["env"].as_array().cloned().unwrap_or_default();
                env.insert(0, size);
                if container.is_object() {
                    set(container, "env", Value::Array(env));
                }
            }
        }
        template
    };
    let mut members = vec![member(1, sized(leader), &of_leader)];
    if size.known() != Some(1) {
        let others = size.clone().map(|n| n - 1);
        members.push(member(others, sized(worker), &of_workers));
    }
    Unit {
        replicas: Count::of(&spec["replicas"], 1),
        members,
        ..Unit::default()
    }
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
        let stated = ["replicas", "minReplicas"]
            .iter()
            .map(|k| &group[*k])
            .find(|v| !v.is_null());
        let replicas = Count::of(stated.unwrap_or(&Value::Null), 1);
        let replicas = if group["suspend"] == true { 0.into() } else { replicas };
        let hosts = Count::of(&group["numOfHosts"], 1).map(|n| n.max(1));
        let path = format!("{path}.workerGroupSpecs[{i}].template.spec");
        members.push(member(replicas.times(hosts), group["template"].clone(), &path));
    }
    vec![Unit {
        replicas: 1.into(),
        members,
        serves,
        ..Unit::default()
    }]
}

fn job_set(spec: &Value) -> Vec<Unit> {
    let jobs = spec["replicatedJobs"].as_array().into_iter().flatten().enumerate();
    let members = jobs.map(|(i, job)| {
        let inner = &job["template"]["spec"];
        let pods = Count::of(&inner["parallelism"], 1);
        let path = format!("spec.replicatedJobs[{i}].template.spec.template.spec");
        member(
            Count::of(&job["replicas"], 1).times(pods),
            inner["template"].clone(),
            &path,
        )
    });
    vec![Unit {
        replicas: 1.into(),
        members: members.collect(),
        ..Unit::default()
    }]
}

/// Kubeflow's v1 jobs: spec.pytorchReplicaSpecs.Worker{replicas, template}.
fn replica_specs(spec: &Value) -> Vec<Unit> {
    let empty = Map::new();
    let mut members = Vec::new();
    for (key, roles) in spec.as_object().unwrap_or(&empty) {
        if !key.ends_with("ReplicaSpecs") {
            continue;
        }
        for (role, of) in roles.as_object().unwrap_or(&empty) {
            members.push(member(
                Count::of(&of["replicas"], 1),
                of["template"].clone(),
                &format!("spec.{key}.{role}.template.spec"),
            ));
        }
    }
    vec![Unit {
        replicas: 1.into(),
        members,
        ..Unit::default()
    }]
}
