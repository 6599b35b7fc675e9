//! The same pods as manifests and as a fleet: `check` and `scan` say the same of them. Every generated fleet is written as
//! YAML and read back by the collector.

use super::fleets::{self, Made};
use super::{Dice, judge};
use crate::catalog::instances;
use crate::report::document::{Report, ReportFinding};
use crate::snapshot::cluster::{
    Cluster, Condition, ContainerRole, ContainerState, Node, Note, NoteAbout, Origin, Pod, PodPhase, PodPlacement,
};
use crate::snapshot::server::{EngineSettings, ServerRole};
use crate::snapshot::{Snapshot, Source};
use gpuwaste_collect::manifests::{self, Asked};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Real ones, whose memory and speed can be worked out, and one that nobody knows.
const MODELS: &[&str] = &[
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen3-32B",
    "meta-llama/Llama-3.3-70B-Instruct",
    "acme/Secret-9B",
];
const IMAGE: &str = "vllm/vllm-openai:v0.11.0";
/// What pods can say of their node, as far as these fleets label it.
const SELECTED: &[&str] = &[
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "karpenter.sh/capacity-type",
    "kubernetes.azure.com/scalesetpriority",
    "cloud.google.com/gke-spot",
    "cloud.google.com/gke-accelerator",
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
];
/// Checks that ask nothing of what a server does: they judge a plan and what runs alike.
const OF_THE_SPECIFICATION: &[(&str, Option<&str>)] =
    &[("parallelism-mismatch", None), ("cpu-gpu-imbalance", Some("spec"))];

/// One cluster of a generated fleet at rest: every pod runs and is Ready, on nodes that work, and nothing was read of what
/// they do. Its servers are of real models, and some ask for less, or for nothing, beside their GPUs.
fn at_rest(made: &Made, cluster: usize, dice: &mut Dice) -> Snapshot {
    let mut snapshot = made.snapshot.clone();
    let mut one = snapshot.clusters.swap_remove(cluster);
    // Of how many cards shares are, their node tells and no manifest: its reader counts none, and says so.
    let of_node = |p: &Pod| made.nodes.get(&(one.name.clone(), p.node.clone().unwrap_or_default()));
    let shared = |p: &Pod| of_node(p).is_some_and(|n| matches!(n.mode, "time-slicing" | "mps" | "gke-sharing"));
    let kept: Vec<Pod> = one
        .pods
        .iter()
        .filter(|p| !p.requests().devices.is_empty() && !shared(p))
        .cloned()
        .collect();
    one.pods = kept;
    let whole = Some(Condition {
        status: Some(true),
        since: fleets::ago(20 * fleets::DAY),
        reason: None,
    });
    // Pods of one owner are alike.
    let mut written: BTreeMap<String, EngineSettings> = BTreeMap::new();
    let mut beside: BTreeMap<String, u64> = BTreeMap::new();
    for pod in &mut one.pods {
        let owner = owner(pod);
        pod.phase = PodPhase::Running;
        pod.ready.clone_from(&whole);
        pod.priority = None;
        let beside = *beside.entry(owner.clone()).or_insert_with(|| dice.below(6));
        let container = &mut pod.containers[0];
        container.image = Some(IMAGE.into());
        container.role = None;
        container.restarts = 0;
        container.last_exit = None;
        container.startup_seconds = None;
        container.ready = true;
        container.state = Some(ContainerState::Running {
            since: fleets::ago(20 * fleets::DAY),
        });
        match beside {
            0 => container.requests.cpu = None,
            1 => container.requests.memory = None,
            2 => container.requests.cpu = container.requests.cpu.map(|c| crate::units::MilliCores(c.0 / 4)),
            _ => {}
        }
        let before = container.server.take().map(|s| *s).unwrap_or_default();
        let settings = written.entry(owner).or_insert_with(|| {
            let mut settings = EngineSettings {
                engine: Some(crate::snapshot::server::EngineKind::Vllm),
                engine_version: Some("0.11.0".into()),
                model: Some((*dice.pick(MODELS)).to_string()),
                max_model_len: Some(8192),
                max_num_seqs: Some(*dice.pick(&[8, 64])),
                tensor_parallel: before.tensor_parallel.filter(|_| dice.chance(80)),
                nodes: before.nodes,
                role: before.role,
                ..EngineSettings::default()
            };
            settings.kv_transfer = settings.role.is_some();
            settings
        });
        container.server = Some(Box::new(settings.clone()));
    }
    for node in one.nodes.iter_mut().flatten() {
        node.ready.clone_from(&whole);
        node.unschedulable = false;
        node.taints.clear();
        node.created_at = fleets::ago(40 * fleets::DAY);
        node.allocatable = node.capacity.clone();
    }
    one.engines.clear();
    one.gpus.clear();
    one.history = None;
    one.pod_usage = None;
    snapshot.clusters = vec![one];
    snapshot.gaps.clear();
    snapshot
}

/// The workload that a pod of these fleets is of.
fn owner(pod: &Pod) -> String {
    pod.name
        .rsplit_once("-5d9c-")
        .map_or(&*pod.name, |(o, _)| o)
        .to_string()
}

fn is_group(pod: &Pod) -> bool {
    pod.labels.contains_key("leaderworkerset.sigs.k8s.io/name")
}

fn selector(node: &Node) -> BTreeMap<String, String> {
    let chosen = |key: &&str| Some(((*key).to_string(), node.labels.get(*key)?.clone()));
    SELECTED.iter().filter_map(chosen).collect()
}

fn node_of<'c>(cluster: &'c Cluster, pod: &Pod) -> &'c Node {
    let nodes = cluster.nodes.iter().flatten();
    nodes
        .into_iter()
        .find(|n| Some(&n.name) == pod.node.as_ref())
        .expect("its node is there")
}

/// The same pods before they are placed: what the collector should make of their manifests, worked out without it.
fn planned(running: &Snapshot) -> Snapshot {
    let mut plan = running.clone();
    let cluster = &mut plan.clusters[0];
    let mut nodes = Vec::new();
    for (index, pod) in cluster.pods.iter_mut().enumerate() {
        let host = node_of(&running.clusters[0], pod);
        let selector = selector(host);
        let devices = pod.requests().devices;
        let mut node = Node {
            name: format!("plan-{index}"),
            labels: selector.clone(),
            provider: host.provider.clone(),
            planned: true,
            ..Node::default()
        };
        node.capacity.devices.clone_from(&devices);
        node.allocatable.devices = devices;
        pod.node = Some(node.name.clone());
        pod.placement = Some(PodPlacement {
            node_selector: selector.into_iter().collect(),
            ..PodPlacement::default()
        });
        pod.phase = PodPhase::Pending;
        (pod.ready, pod.started_at, pod.created_at) = (None, None, None);
        (pod.containers[0].state, pod.containers[0].ready) = (None, false);
        let asked = &pod.containers[0].requests;
        let left_open = [
            (asked.cpu.is_none(), NoteAbout::CpuRequest),
            (asked.memory.is_none(), NoteAbout::MemoryRequest),
        ];
        let note = |about: NoteAbout| Note {
            about,
            line: 0,
            path: String::new(),
            text: String::new(),
        };
        let notes = left_open.into_iter().filter(|(open, _)| *open);
        pod.origin = Some(Origin {
            notes: notes.map(|(_, about)| note(about)).collect(),
            ..Origin::default()
        });
        nodes.push(node);
    }
    cluster.nodes = Some(nodes);
    cluster.autoscalers = None;
    cluster.disruption_budgets = None;
    plan
}

fn arguments(settings: &EngineSettings) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let mut say = |flag: &str, value: Option<String>| args.extend(value.map(|v| format!("--{flag}={v}")));
    let number = |value: Option<u64>| value.map(|v| v.to_string());
    say("model", settings.model.clone());
    say("max-model-len", number(settings.max_model_len));
    say("max-num-seqs", number(settings.max_num_seqs));
    say("tensor-parallel-size", number(settings.tensor_parallel.map(u64::from)));
    say("nnodes", number(settings.nodes.map(u64::from)));
    let connector = settings.role.map(|role| {
        let kv_role = match role {
            ServerRole::Prefill => "kv_producer",
            ServerRole::Decode => "kv_consumer",
        };
        json!({"kv_connector": "NixlConnector", "kv_role": kv_role}).to_string()
    });
    say("kv-transfer-config", connector);
    args
}

/// The workload that `pods` are of, as people write it.
fn manifest(cluster: &Cluster, name: &str, pods: &[&Pod]) -> Value {
    let pod = pods[0];
    let container = &pod.containers[0];
    let settings = container.server.as_deref().cloned().unwrap_or_default();
    let mut requests = serde_json::Map::new();
    if let Some(cpu) = container.requests.cpu {
        requests.insert("cpu".into(), format!("{}m", cpu.0).into());
    }
    if let Some(memory) = container.requests.memory {
        requests.insert("memory".into(), memory.0.to_string().into());
    }
    let mut labels = pod.labels.clone();
    labels.retain(|k, _| k == "llm-d.ai/model");
    labels.insert("app".into(), name.into());
    let template = json!({
        "metadata": {"labels": labels},
        "spec": {
            "nodeSelector": selector(node_of(cluster, pod)),
            "containers": [{
                "name": container.name,
                "image": container.image,
                "args": arguments(&settings),
                "resources": {"requests": requests, "limits": container.requests.devices},
            }],
        },
    });
    let controller = cluster
        .controllers
        .iter()
        .find(|c| c.name == name && c.namespace == pod.namespace);
    let ignore = controller.and_then(|c| c.ignore.as_ref());
    let annotations: BTreeMap<&str, String> = ignore
        .iter()
        .map(|i| ("gpuwaste.dev/ignore", format!("{} {}", i.checks.join(","), i.reason)))
        .collect();
    let metadata = json!({"name": name, "namespace": pod.namespace, "annotations": annotations});
    if is_group(pod) {
        return json!({
            "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": metadata,
            "spec": {"replicas": 1, "leaderWorkerTemplate": {"size": pods.len(), "workerTemplate": template}},
        });
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {"replicas": pods.len(), "selector": {"matchLabels": {"app": name}}, "template": template},
    })
}

/// Written as YAML and read back.
fn through_manifests(running: &Snapshot) -> Snapshot {
    let cluster = &running.clusters[0];
    let mut owned: BTreeMap<(String, String), Vec<&Pod>> = BTreeMap::new();
    for pod in &cluster.pods {
        owned.entry((pod.namespace.clone(), owner(pod))).or_default().push(pod);
    }
    let folder = tempfile::tempdir().unwrap();
    for ((namespace, name), pods) in owned {
        // JSON is YAML.
        let text = serde_json::to_string_pretty(&manifest(cluster, &name, &pods)).unwrap();
        std::fs::write(folder.path().join(format!("{namespace}-{name}.yaml")), text).unwrap();
    }
    let read = manifests::read(&[folder.path().to_path_buf()], |kind| {
        instances::gpu_of_type(kind).map(|(_, n)| n)
    });
    let failed = |s: &&Source| s.status != crate::snapshot::SourceStatus::Ok;
    assert_eq!(read.sources.iter().find(failed), None);
    manifests::snapshot(read, Asked::default(), fleets::now())
}

/// What the report says of a workload, without where it stands.
type Said = BTreeMap<(String, Option<String>, String, String), Value>;

fn said(report: &Report, all: bool) -> Said {
    let wanted = |f: &&ReportFinding| all || OF_THE_SPECIFICATION.contains(&(f.check.as_str(), f.part.as_deref()));
    let findings = report.findings.iter().filter(wanted);
    findings
        .map(|f| {
            let subject = serde_json::to_value(&f.subject).unwrap();
            let text = |key: &str| subject[key].as_str().unwrap_or_default().to_string();
            let key = (f.check.clone(), f.part.clone(), text("namespace"), text("name"));
            let figures = json!({
                "kind": subject["kind"], "title": f.title, "status": f.status, "confidence": f.confidence,
                "usd": f.usd_per_hour, "fix": f.fix,
            });
            // Where it stands, and the words for it, are the collector's.
            let figures = if f.check == "spec-hygiene" {
                Value::Null
            } else {
                figures
            };
            let whole = json!({"evidence": f.evidence, "why": f.confidence_reasons, "figures": figures});
            let short = json!({"title": f.title, "confidence": f.confidence});
            (key, if all { whole } else { short })
        })
        .collect()
}

/// How often each check spoke, so that the guard cannot pass by silence.
#[derive(Default)]
struct Seen(BTreeMap<String, usize>);

impl Seen {
    fn add(&mut self, said: &Said) {
        for (check, part, ..) in said.keys() {
            *self
                .0
                .entry([check.as_str(), part.as_deref().unwrap_or("")].join("/"))
                .or_default() += 1;
        }
    }

    fn assert_all(&self, names: &[&str]) {
        let missing: Vec<&&str> = names.iter().filter(|n| !self.0.contains_key(**n)).collect();
        assert!(missing.is_empty(), "{missing:?} never spoke: {:?}", self.0);
    }
}

const FLEETS: u64 = 60;

#[test]
fn manifests_are_judged_as_the_same_pods_are_before_they_are_placed() {
    let mut seen = Seen::default();
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let mut dice = Dice(seed ^ 0x6d61_6e69);
        for cluster in 0..made.snapshot.clusters.len() {
            let running = at_rest(&made, cluster, &mut dice);
            if running.clusters[0].pods.is_empty() {
                continue;
            }
            let direct = said(&judge(&planned(&running), &made.prices).report, true);
            let read = said(&judge(&through_manifests(&running), &made.prices).report, true);
            let keys = |s: &Said| s.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(&direct), keys(&read), "seed {seed}, cluster {cluster}");
            for (key, value) in &direct {
                assert_eq!(value, &read[key], "seed {seed}, cluster {cluster}: {key:?}");
            }
            seen.add(&read);
        }
    }
    seen.assert_all(&[
        "parallelism-mismatch/",
        "cpu-gpu-imbalance/spec",
        "undersized-tier/",
        "oversized-tier/",
        "kv-pressure/config",
        "spec-hygiene/cpu-request",
        "spec-hygiene/memory-request",
    ]);
}

#[test]
fn what_is_wrong_with_a_specification_is_the_same_before_and_after_it_runs() {
    let mut seen = Seen::default();
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let mut dice = Dice(seed ^ 0x7275_6e73);
        for cluster in 0..made.snapshot.clusters.len() {
            let mut running = at_rest(&made, cluster, &mut dice);
            let told = &mut running.clusters[0];
            let name = told.name.clone();
            // That a machine is one's own, or reserved, no pod says: the plan's price is then another, and as sure.
            for node in told.nodes.iter_mut().flatten() {
                let known = node.labels.contains_key("node.kubernetes.io/instance-type");
                if !known {
                    node.labels
                        .insert("karpenter.sh/capacity-type".into(), "on-demand".into());
                }
            }
            // Of how many shares a card is, or how it is cut, its node tells and no pod.
            let mode = |pod: &Pod| made.nodes[&(name.clone(), pod.node.clone().unwrap_or_default())].mode;
            told.pods.retain(|p| matches!(mode(p), "whole" | "mig-mixed"));
            if told.pods.is_empty() {
                continue;
            }
            let live = said(&judge(&running, &made.prices).report, false);
            let read = said(&judge(&through_manifests(&running), &made.prices).report, false);
            assert_eq!(live, read, "seed {seed}, cluster {cluster}");
            seen.add(&read);
        }
    }
    seen.assert_all(&["parallelism-mismatch/", "cpu-gpu-imbalance/spec"]);
}

#[test]
fn no_pod_of_a_fleet_is_lost_on_the_way_through_its_manifests() {
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let mut dice = Dice(seed);
        let running = at_rest(&made, 0, &mut dice);
        let plan = through_manifests(&running);
        let devices = |s: &Snapshot| {
            let mut all: BTreeMap<String, u64> = BTreeMap::new();
            for (resource, n) in s.clusters[0].pods.iter().flat_map(|p| p.requests().devices) {
                *all.entry(resource).or_default() += n;
            }
            (s.clusters[0].pods.len(), all)
        };
        assert_eq!(devices(&running), devices(&plan), "seed {seed}");
        let notebooks = |s: &Snapshot| {
            let containers = s.clusters[0].pods.iter().flat_map(|p| &p.containers);
            containers.filter(|c| c.role == Some(ContainerRole::Notebook)).count()
        };
        assert_eq!(notebooks(&running), notebooks(&plan), "seed {seed}");
    }
}
