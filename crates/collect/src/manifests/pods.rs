//! From objects to the pods they would make, read by the engines as live pods are.

use super::amounts::{self, not_judged};
use super::around::{Around, Store, name, namespace};
use super::claims::{Lack, claims};
use super::count::Count;
use super::environments::{self, Place};
use super::kinds::{self, Unit};
use super::yaml::Document;
use super::{Manifests, planned, shape, spark};
use crate::engine::{self, ContainerSpec};
use crate::kube::{parse_ignore, pod_of_template};
use crate::snapshot::cluster::{
    Condition, Container, ContainerKind, Controller, Note, NoteAbout, Origin, OwnerRef, Pod, Unread, UnreadKind,
};
use crate::snapshot::resources::is_device;
use crate::snapshot::server::{EngineKind, EngineSettings, ServerRole, Setting};
use crate::snapshot::{Gap, RUNS_LABEL};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};

/// More pods of one workload say nothing new, and a mistyped number must not fill the memory.
const MAX_PODS: u64 = 2_000;
/// Of all manifests together: as many take half of the memory that a scan may have (600 MiB).
const MAX_ALL: u64 = 40_000;

pub(super) fn build(documents: &[Document], all: &mut Manifests) {
    let store = Store::of(documents);
    let places = environments::of(documents, all);
    let makers = makers(documents, &store);
    for (document, place) in documents.iter().zip(&places) {
        let Some(place) = place else { continue };
        if made_by(&document.value).is_some_and(|owner| makers.contains(&owner)) {
            continue;
        }
        let around = store.around(document, place.twin);
        let before = (all.made(), all.gaps.len());
        let units = kinds::units(document, &around);
        for unit in &units {
            workload(document, unit, &around, place, all);
        }
        let object = &document.value;
        let kind = object["kind"].as_str().unwrap_or_default();
        let silent = (all.made(), all.gaps.len()) == before && units.iter().all(|u| u.replicas != Count::Known(0));
        if !silent || shape::makes_nothing(kind) {
            continue;
        }
        let reason = if shape::asks_for_gpus(object, is_device, 0) {
            "it asks for GPUs in a form that is not known"
        } else if units.is_empty() && shape::serves_by_name(object) {
            "it serves a model, and its pods stand where its operator keeps them"
        } else {
            continue;
        };
        all.gaps
            .push(gap(document, &format!("{kind} {}", name(object)), reason));
        // How many it asks for is in no total, and no total without it is whole.
        all.environments[place.environment].unread.push(Unread {
            what: UnreadKind::Amount,
            namespace: Some(namespace(object)),
            name: Some(format!("{kind}/{}", name(object))),
            refused: false,
        });
    }
    for environment in &mut all.environments {
        environment
            .pods
            .sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    }
}

/// Kind, namespace and name.
type Maker = (String, String, String);

/// Objects that make pods: what is read from a cluster has these pods, and the sets between, beside them.
fn makers(documents: &[Document], store: &Store<'_>) -> HashSet<Maker> {
    if !documents.iter().any(|d| made_by(&d.value).is_some()) {
        return HashSet::new();
    }
    let makes = |d: &&Document| !kinds::units(d, &store.around(d, false)).is_empty();
    let of = |d: &Document| {
        let kind = d.value["kind"].as_str().unwrap_or_default().to_string();
        (kind, namespace(&d.value), name(&d.value))
    };
    documents.iter().filter(makes).map(of).collect()
}

/// The object that made this one, as its owner reference says.
fn made_by(object: &Value) -> Option<Maker> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|o| o["controller"] == true)?;
    let text = |key: &str| Some(owner[key].as_str()?.to_string());
    Some((text("kind")?, namespace(object), text("name")?))
}

/// One workload while it is made into pods.
struct Making<'a> {
    document: &'a Document,
    /// "Deployment chat", for messages.
    title: String,
    namespace: String,
    around: &'a Around<'a>,
    /// Maps and settings that were already said to be missing.
    said: BTreeSet<String>,
    /// How many GPUs it asks for nobody can tell.
    uncounted: bool,
}

fn workload(document: &Document, unit: &Unit, around: &Around<'_>, place: &Place, all: &mut Manifests) {
    let object = &document.value;
    let (namespace, base) = (namespace(object), name(object));
    let kind = object["kind"].as_str().unwrap_or("Pod").to_string();
    let group = object["apiVersion"]
        .as_str()
        .and_then(|v| v.split_once('/'))
        .map_or("", |(g, _)| g);
    let name = unit.part.as_ref().map_or(base.clone(), |part| format!("{base}-{part}"));
    let owner = OwnerRef {
        group: group.into(),
        kind: kind.clone(),
        name: name.clone(),
    };
    let mut making = Making {
        document,
        title: format!("{kind} {name}"),
        namespace: namespace.clone(),
        around,
        said: BTreeSet::new(),
        uncounted: false,
    };
    let whole = unit
        .members
        .iter()
        .fold(Count::Known(0), |all, m| all.plus(m.count.clone()));
    // Of what is not stated one pod stands for the rest, and nobody says what it costs.
    let unplaced = unplaced(&making, unit, all);
    let mut per_replica = whole.known().filter(|_| unplaced.is_none()).unwrap_or(1);
    let left = MAX_ALL.saturating_sub(all.made() as u64).min(MAX_PODS);
    let mut stated = unit.replicas.known();
    let wanted = stated.filter(|_| unplaced.is_none()).unwrap_or(1);
    let mut replicas = wanted.min(left / per_replica.clamp(1, MAX_PODS));
    if let Some(lacks) = &unit.lacks {
        all.gaps.push(lacking_object(document, &making.title, lacks));
    }
    let mut cut = replicas < wanted;
    let mut made = 0;
    for (index, member) in unit.members.iter().enumerate() {
        let Some((mut pod, template)) = making.pod(unit, member, all) else {
            continue;
        };
        making.serve(&mut pod, unit, &template, made == 0, all);
        pod.origin = Some(origin(document, &member.path, &template, &pod));
        pod.namespace.clone_from(&namespace);
        pod.owner = Some(owner.clone()).filter(|_| kind != "Pod");
        pod.scheduled.clone_from(&unplaced);
        let labels = std::mem::take(&mut pod.labels);
        pod.labels = labels.into_iter().filter(|(k, _)| !k.starts_with("ray.io/")).collect();
        if unit.to_zero || planned::NOW_AND_THEN.contains(&kind.as_str()) {
            pod.labels.insert(RUNS_LABEL.into(), "now-and-then".into());
        }
        for key in &all.keep_labels {
            if let Some(value) = told(key, &template["metadata"], &object["metadata"]) {
                pod.labels.entry(key.clone()).or_insert(value);
            }
        }
        let own = member.count.known().filter(|_| unplaced.is_none()).unwrap_or(1);
        let mut count = own.min(left);
        cut |= count < own;
        if let Some(nodes) = spans(&pod, unit) {
            (count, replicas, per_replica, stated) = (nodes, replicas / nodes, nodes, stated.map(|n| n / nodes));
        }
        for replica in 0..replicas {
            for i in 0..count {
                let mut one = pod.clone();
                one.name = if kind == "Pod" {
                    name.clone()
                } else {
                    format!("{name}-{replica}-{index}-{i}")
                };
                one.uid = format!("{}:{}:{namespace}/{}", document.file, document.line, one.name);
                if per_replica > 1 {
                    one.labels
                        .insert("leaderworkerset.sigs.k8s.io/group-index".into(), replica.to_string());
                }
                all.environments[place.environment].pods.push(one);
                made += 1;
            }
        }
    }
    if making.uncounted {
        all.environments[place.environment].unread.push(Unread {
            what: UnreadKind::Amount,
            namespace: Some(namespace.clone()),
            name: Some(format!("{kind}/{name}")),
            refused: false,
        });
    }
    if made > 0
        && let Some((reason, effect)) = uncertain(&kind, unit.to_zero)
    {
        all.gaps.push(Gap {
            effect: effect.into(),
            remedy: "scan the cluster that it runs in".into(),
            ..gap(document, &making.title, reason)
        });
    }
    if cut {
        let reason = if wanted > MAX_PODS {
            format!("it asks for more pods than {MAX_PODS}: only so many are counted")
        } else {
            format!("all manifests together ask for more pods than {MAX_ALL}: only so many are counted")
        };
        all.gaps.push(gap(document, &making.title, &reason));
    }
    if made > 0 && kind != "Pod" {
        all.environments[place.environment].controllers.push(Controller {
            group: owner.group,
            kind,
            namespace,
            name,
            replicas: stated,
            group_size: (per_replica > 1).then_some(per_replica),
            ignore: kinds::text(&object["metadata"]["annotations"]["gpuwaste.dev/ignore"])
                .as_deref()
                .and_then(parse_ignore),
            ..Controller::default()
        });
    }
}

/// What a pod, else the object that makes it, says of itself under a key: a label, else an annotation.
fn told(key: &str, template: &Value, object: &Value) -> Option<String> {
    let of = |metadata: &Value| {
        ["labels", "annotations"]
            .iter()
            .find_map(|kind| kinds::text(&metadata[*kind][key]))
    };
    of(template).or_else(|| of(object))
}

/// What of a kind's use no manifest says, and what that means for the report.
fn uncertain(kind: &str, to_zero: bool) -> Option<(&'static str, &'static str)> {
    match kind {
        _ if to_zero => Some((
            "its autoscaler takes it to none while nobody asks it: how many hours a day it runs the manifest does not say",
            "its GPUs are those of a time when it is asked, and have no price",
        )),
        _ if planned::NOW_AND_THEN.contains(&kind) => Some((
            "it runs now and then, by a schedule or for what waits in a queue: how long, and how many at once, the manifest does not say",
            "its GPUs are those of one run, and have no price",
        )),
        "DaemonSet" => Some((
            "one of it runs on each node that it matches: how many those are the manifest does not say",
            "it is counted once",
        )),
        _ => None,
    }
}

/// Where the number of replicas, or of pods in one, is not stated: the condition that its pods wait in.
fn unplaced(making: &Making<'_>, unit: &Unit, all: &mut Manifests) -> Option<Condition> {
    let of_group = unit.members.iter().map(|m| ("the size of its group", &m.count));
    let counts = std::iter::once(("its replicas", &unit.replicas)).chain(of_group);
    let unknown: Vec<(&str, &String)> = counts
        .filter_map(|(what, count)| match count {
            Count::Unknown(why) => Some((what, why)),
            Count::Known(_) => None,
        })
        .collect();
    for (what, why) in unknown.iter().collect::<BTreeSet<_>>() {
        all.gaps.push(Gap {
            effect: "how many GPUs it gets, and what they cost, is unknown: they are in no total".into(),
            remedy: "check the manifest as it is rendered".into(),
            ..gap(
                making.document,
                &format!("{}: {what}", making.title),
                &format!("it is {why}"),
            )
        });
    }
    (!unknown.is_empty()).then(|| Condition {
        status: Some(false),
        since: None,
        reason: Some("CountNotStated".into()),
    })
}

impl Making<'_> {
    /// The pod of a member, and its template as Kubernetes would take it; `None`: it has no GPUs.
    fn pod(&mut self, unit: &Unit, member: &kinds::Member, all: &mut Manifests) -> Option<(Pod, Value)> {
        let document = self.document;
        let mut template = member.template.clone();
        normalise(&mut template, &self.namespace, self.around);
        let map = |name: &str| self.around.text_map(&self.namespace, name);
        let Some((mut pod, lacking)) = pod_of_template(template.clone(), &all.keep_labels, map) else {
            all.gaps.push(gap(
                document,
                &self.title,
                "its pod template has parts of the wrong shape",
            ));
            return None;
        };
        let mut uncounted = false;
        for remark in amounts::remarks(&template, &pod) {
            uncounted |= remark.uncounted;
            all.gaps.push(Gap {
                effect: remark.effect.into(),
                remedy: remark.remedy.into(),
                ..gap(document, &format!("{}: {}", self.title, remark.what), &remark.reason)
            });
        }
        if uncounted {
            self.uncounted = true;
            for container in &mut pod.containers {
                container.requests.devices.clear();
                container.limits.devices.clear();
            }
            pod.resource_claims.push("not-counted".into());
        }
        self.strange(&mut pod, all)?;
        match claims(&mut pod, &template, &self.namespace, self.around) {
            Some(Lack::Object(object)) => all.gaps.push(lacking_object(document, &self.title, &object)),
            Some(Lack::Number(claim, why)) => all.gaps.push(Gap {
                effect: "how many GPUs it gets, and what they cost, is unknown before it is placed".into(),
                remedy: "ask for a number of devices, where it is known".into(),
                ..gap(
                    document,
                    &format!("{}: {claim}", self.title),
                    &format!("it claims {why}"),
                )
            }),
            None => {}
        }
        if !asks(&pod) && unit.gpus_unstated && pod.resource_claims.is_empty() {
            unstated(document, &self.title, &mut pod, all);
        }
        let submits = template["spec"]["containers"].as_array().into_iter().flatten();
        if submits.into_iter().any(spark::submits_gpus) {
            let reason = "it submits a Spark application whose executors ask for GPUs in pods of their own";
            all.gaps.push(gap(document, &self.title, reason));
        }
        if !asks(&pod) && pod.resource_claims.is_empty() {
            return None;
        }
        for map in lacking {
            if self.said.insert(map.clone()) {
                all.gaps.push(unread_map(document, &self.title, &map));
            }
        }
        Some((pod, template))
    }

    /// Accelerators that are not judged are taken out; `None`: there are no others.
    fn strange(&self, pod: &mut Pod, all: &mut Manifests) -> Option<()> {
        let devices = pod.containers.iter().flat_map(|c| c.requests.devices.iter());
        let strange = devices
            .filter(|(_, n)| **n > 0)
            .find_map(|(resource, _)| Some((resource.clone(), not_judged(resource)?)));
        let Some((resource, reason)) = strange else {
            return Some(());
        };
        let what = format!("{}: {resource}", self.title);
        all.gaps.push(gap(self.document, &what, reason));
        for container in &mut pod.containers {
            container.requests.devices.retain(|r, _| not_judged(r).is_none());
            container.limits.devices.retain(|r, _| not_judged(r).is_none());
        }
        (asks(pod) || !pod.resource_claims.is_empty()).then_some(())
    }

    /// What the object says beside its containers, and what of it could not be read. Only the first member of a group serves.
    fn serve(&mut self, pod: &mut Pod, unit: &Unit, template: &Value, first: bool, all: &mut Manifests) {
        serve(pod, unit, template, first);
        let holder = pod.containers.iter_mut().filter(|c| c.kind == ContainerKind::Main);
        let servers = holder.filter_map(|c| c.server.as_deref_mut());
        for settings in servers {
            engine::leave_unread(settings, &unit.unread);
            let place = |s: &EngineSettings| {
                let effective = s.unread.iter().filter(|u| {
                    let by_path = u.setting == Setting::Model && s.model.is_some();
                    !by_path && !matches!(u.setting, Setting::Other | Setting::EngineVersion)
                });
                let mut all: Vec<(&str, &str)> =
                    effective.map(|u| (setting_name(u.setting), u.place.as_str())).collect();
                all.dedup_by(|a, b| a.1 == b.1 && a.0 == b.0);
                all.into_iter()
                    .map(|(a, b)| (a.to_string(), b.to_string()))
                    .collect::<Vec<_>>()
            };
            for (what, place) in place(settings) {
                if self.said.insert(format!("{what} {place}")) {
                    all.gaps.push(Gap {
                        effect: "it is unknown, not the engine's default: what depends on it is not assessed".into(),
                        remedy: "check what states it in the same run: the file, the ConfigMap, the manifest as it is rendered".into(),
                        ..gap(self.document, &format!("{}: {what}", self.title), &format!("it was not read: {place}"))
                    });
                }
            }
        }
        let image = pod
            .containers
            .iter()
            .find(|c| !c.requests.devices.is_empty())
            .and_then(|c| c.image.as_deref());
        if let Some(image) = image.filter(|i| is_placeholder(i))
            && self.said.insert("image".into())
        {
            let what = engine::placeholder_in(image).unwrap_or_else(|| "a placeholder".into());
            all.gaps.push(Gap {
                effect: "what runs in it, and in which version, is not known by its image".into(),
                remedy: "check the manifest as it is rendered".into(),
                ..gap(
                    self.document,
                    &format!("{}: its image", self.title),
                    &format!("it is {what}"),
                )
            });
        }
    }
}

/// A setting in words.
fn setting_name(setting: Setting) -> &'static str {
    match setting {
        Setting::Any => "settings of its server, the parallelism among them",
        Setting::Engine => "its engine",
        Setting::EngineVersion => "its engine's version",
        Setting::Model => "its model",
        Setting::TensorParallel => "its tensor parallelism",
        Setting::PipelineParallel => "its pipeline parallelism",
        Setting::DataParallel => "its data parallelism",
        Setting::FurtherParallel => "its parallelism",
        Setting::MaxModelLen => "its context length",
        Setting::MaxNumSeqs => "its number of sequences at once",
        Setting::MaxNumBatchedTokens => "its tokens in a batch",
        Setting::MemoryShare => "its share of the GPU's memory",
        Setting::Quantization => "its quantization",
        Setting::Dtype => "its dtype",
        Setting::KvCacheDtype => "the dtype of its KV cache",
        Setting::Role => "its role beside other servers",
        Setting::Sizing => "a setting that its memory and speed hang on",
        Setting::Other => "a setting of its server",
    }
}

/// Settings in a `ConfigMap` that is elsewhere.
fn unread_map(document: &Document, of: &str, map: &str) -> Gap {
    Gap {
        effect: "what it sets is unknown: the model, its length or its parallelism may be missing or a default".into(),
        remedy: "check the ConfigMap in the same run".into(),
        ..gap(
            document,
            &format!("{of}: settings in ConfigMap {map}"),
            "it is not in the input",
        )
    }
}

/// Something else that the object builds on.
fn lacking_object(document: &Document, of: &str, object: &str) -> Gap {
    Gap {
        effect: "the pods, GPUs and node selectors that only it states are not in the report".into(),
        remedy: "check both in one run".into(),
        ..gap(document, &format!("{of}: {object}"), "it is not in the input")
    }
}

/// Pods of a plain set that are one server, by its own `--nnodes`.
fn spans(pod: &Pod, unit: &Unit) -> Option<u64> {
    let nodes = pod.containers.iter().find_map(|c| c.server.as_ref()?.nodes);
    let nodes = u64::from(nodes.filter(|n| *n > 1)?);
    let plain = unit.members.len() == 1 && unit.members[0].count == Count::Known(1);
    let replicas = unit.replicas.known()?;
    (plain && replicas.is_multiple_of(nodes)).then_some(nodes)
}

fn gap(document: &Document, what: &str, reason: &str) -> Gap {
    Gap {
        source: format!("{}:{}", document.file, document.line),
        what: what.into(),
        reason: reason.into(),
        effect: "its GPUs are not, or not all, in the report".into(),
        remedy: "check it by hand".into(),
    }
}

fn asks(pod: &Pod) -> bool {
    pod.containers.iter().any(|c| !c.requests.devices.is_empty())
}

/// GPUs that an operator will ask for: an instance type tells how many, otherwise nobody knows yet.
fn unstated(document: &Document, what: &str, pod: &mut Pod, all: &mut Manifests) {
    let kind = pod
        .placement
        .as_ref()
        .and_then(|p| p.node_selector.get("node.kubernetes.io/instance-type"));
    let gpus = kind.and_then(|k| (all.gpus_of_type)(k));
    if let (Some(gpus), Some(container)) = (gpus, pod.containers.first_mut()) {
        container
            .requests
            .devices
            .insert("nvidia.com/gpu".into(), u64::from(gpus));
    } else {
        let mut gap = gap(document, what, "it leaves the number of GPUs to its operator");
        gap.remedy = "state the GPUs under resources.limits, or an instance type of the catalogue".into();
        all.gaps.push(gap);
        pod.resource_claims.push("unstated".into());
    }
}

/// What the object says beside its containers. Only the first member of a group serves.
fn serve(pod: &mut Pod, unit: &Unit, template: &Value, first: bool) {
    let described = unit
        .serves
        .as_ref()
        .filter(|_| first)
        .and_then(|c| engine::recognise(&spec_of(c)));
    let unbound = !asks(pod);
    let target = pod
        .containers
        .iter_mut()
        .find(|c| c.kind == ContainerKind::Main && (unbound || !c.requests.devices.is_empty()));
    let Some(container) = target else { return };
    if let Some(settings) = described {
        container.server = Some(Box::new(settings));
        container.role = None;
    } else if container.server.is_none() && unit.model.is_some() && container.role.is_none() {
        // A model server all the same, of an engine nobody knows here.
        container.server = Some(Box::default());
    }
    let name = container.name.clone();
    let holds: u64 = container
        .requests
        .devices
        .values()
        .copied()
        .fold(0, u64::saturating_add);
    let Some(settings) = &mut container.server else { return };
    if unit.spread && settings.tensor_parallel.is_none() && settings.unread_parallelism().is_none() {
        settings.tensor_parallel = u32::try_from(holds).ok().filter(|n| *n > 0);
    }
    if settings.engine == Some(EngineKind::Ollama) && settings.model.is_none() {
        settings.model = pulled(template, &name);
    }
    // "s3://bucket/models/Llama-3.1-8B-Instruct", "oci://registry/cars:granite-3.1-8b": what it is may be known by its last word.
    let last = unit
        .model
        .as_deref()
        .filter(|m| m.contains("://"))
        .and_then(|m| m.rsplit(['/', ':']).next());
    if let Some(last) = last.filter(|l| !l.is_empty() && !settings.served_names.iter().any(|n| n == l)) {
        settings.served_names.push(last.into());
    }
    if let Some(model) = &unit.model {
        let mounted = settings
            .model
            .as_deref()
            .is_none_or(|m| m.starts_with('/') || m == "dir");
        if mounted {
            settings.model = Some(model.clone());
        }
    }
    settings.role = match unit.role {
        Some("prefill") => Some(ServerRole::Prefill),
        Some("decode") => Some(ServerRole::Decode),
        _ => settings.role,
    };
}

/// The model that an Ollama container pulls behind its start.
fn pulled(template: &Value, container: &str) -> Option<String> {
    let containers = template["spec"]["containers"].as_array()?;
    let own = containers.iter().find(|c| c["name"] == container)?;
    let command = own["lifecycle"]["postStart"]["exec"]["command"].as_array()?;
    let script: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
    let serve = ContainerSpec {
        image: "ollama/ollama".into(),
        command: vec!["sh".into(), "-c".into(), format!("ollama serve\n{}", script.last()?)],
        ..ContainerSpec::default()
    };
    engine::recognise(&serve)?.model
}

pub(super) fn spec_of(container: &Value) -> ContainerSpec {
    let words = |key: &str| {
        container[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|w| w.as_str().map(String::from))
            .collect()
    };
    ContainerSpec {
        image: kinds::text(&container["image"]).unwrap_or_default(),
        command: words("command"),
        args: words("args"),
        ..ContainerSpec::default()
    }
}

/// Scalars that YAML reads as numbers are text to Kubernetes; variables of ConfigMaps in the same input are filled in.
fn normalise(template: &mut Value, namespace: &str, around: &Around<'_>) {
    if !template.is_object() {
        return;
    }
    without_nulls(template, 0);
    if !template["metadata"].is_object() {
        kinds::set(template, "metadata", serde_json::json!({}));
    }
    let metadata = template["metadata"].clone();
    for list in ["/spec/containers", "/spec/initContainers"] {
        for container in kinds::list_mut(template, list).filter(|c| c.is_object()) {
            for key in ["command", "args"] {
                if let Some(one) = container[key].as_str().map(String::from) {
                    kinds::set(container, key, serde_json::json!([one]));
                }
                kinds::list_mut(container, &format!("/{key}")).for_each(to_text);
            }
            for amounts in ["/resources/requests", "/resources/limits"] {
                kinds::values_mut(container, amounts).for_each(to_text);
            }
            variables(container, &metadata, namespace, around);
        }
    }
    for map in ["/spec/nodeSelector", "/metadata/labels", "/metadata/annotations"] {
        kinds::values_mut(template, map).for_each(to_text);
    }
    without_placeholders(template);
}

/// What is null is not stated: templates that are made up have many such keys.
fn without_nulls(value: &mut Value, depth: usize) {
    match value {
        _ if depth > 64 => {}
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(|v| without_nulls(v, depth + 1));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| without_nulls(v, depth + 1)),
        _ => {}
    }
}

/// A node selector that is to be filled in selects nothing yet.
fn without_placeholders(template: &mut Value) {
    let stated = |value: &Value| {
        value
            .as_str()
            .is_none_or(|v| !engine::has_placeholder(v) && !engine::is_to_be_replaced(v))
    };
    if let Some(selector) = template
        .pointer_mut("/spec/nodeSelector")
        .and_then(Value::as_object_mut)
    {
        selector.retain(|key, value| !engine::has_placeholder(key) && stated(value));
    }
    let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    for term in kinds::list_mut(template, terms) {
        let expressions = term.get_mut("matchExpressions").and_then(Value::as_array_mut);
        if let Some(expressions) = expressions {
            expressions.retain(|e| e["values"].as_array().is_none_or(|values| values.iter().all(stated)));
        }
    }
    for toleration in kinds::list_mut(template, "/spec/tolerations") {
        if !stated(&toleration["value"]) {
            kinds::set(toleration, "value", Value::Null);
        }
    }
}

/// Variables of ConfigMaps in the same input and of the pod's own labels and annotations get their values.
fn variables(container: &mut Value, metadata: &Value, namespace: &str, around: &Around<'_>) {
    let of = |map: &Value, key: &str| around.text_map(namespace, map.as_str()?)?.get(key).cloned();
    let field = |path: &str| {
        let (map, key) = path.strip_prefix("metadata.")?.strip_suffix("']")?.split_once("['")?;
        matches!(map, "labels" | "annotations").then(|| metadata[map][key].as_str().map(String::from))?
    };
    let mut env = container["env"].as_array().cloned().unwrap_or_default();
    env.retain(|v| v["name"].is_string());
    for variable in &mut env {
        if let Some(value) = variable.get_mut("value") {
            to_text(value);
        }
        let from = &variable["valueFrom"];
        let reference = &from["configMapKeyRef"];
        let of_map = || reference["key"].as_str().and_then(|key| of(&reference["name"], key));
        let of_field = || from["fieldRef"]["fieldPath"].as_str().and_then(field);
        if let Some(value) = of_map().or_else(of_field) {
            *variable = serde_json::json!({"name": variable["name"], "value": value});
        }
        if variable["value"].is_null() && variable["valueFrom"].is_null() {
            kinds::set(variable, "value", serde_json::json!(""));
        }
    }
    kinds::set(container, "env", Value::Array(env));
}

fn to_text(value: &mut Value) {
    if value.is_number() || value.is_boolean() {
        *value = Value::String(value.to_string());
    }
}

/// The path of a container, by its name, below the pod spec at `path`.
fn container_path(template: &Value, path: &str, name: &str) -> Option<String> {
    ["containers", "initContainers"].into_iter().find_map(|list| {
        let index = template["spec"][list]
            .as_array()?
            .iter()
            .position(|c| c["name"] == name)?;
        Some(format!("{path}.{list}[{index}]"))
    })
}

/// An image that is to be filled in: names of repositories are lower case, so that anything else in them is none.
fn is_placeholder(image: &str) -> bool {
    let repository = image.split('@').next().unwrap_or(image);
    let (host, path) = repository.split_once('/').unwrap_or(("", repository));
    let path = if host.is_empty() { repository } else { path };
    let name = path.split(':').next().unwrap_or(path);
    engine::has_placeholder(image) || engine::has_stand_in(image) || name.chars().any(|c| c.is_ascii_uppercase())
}

/// Where the GPU container stands, and what a deployment should not leave open.
fn origin(document: &Document, path: &str, template: &Value, pod: &Pod) -> Origin {
    let holds = |c: &&Container| !c.requests.devices.is_empty();
    let holder = pod.containers.iter().find(holds).or(pod.containers.first());
    let found = holder.and_then(|h| container_path(template, path, &h.name));
    // A container that the object does not show is where it is made from.
    let full = document.existing(&found.unwrap_or_else(|| path.to_string()));
    let at = |below: &str| (document.line_of(&format!("{full}{below}")), format!("{full}{below}"));
    let mut notes = Vec::new();
    let mut note = |about: NoteAbout, below: &str, text: String| {
        let (line, path) = at(below);
        notes.push(Note {
            line,
            path,
            text,
            about,
        });
    };
    if let Some(holder) = holder {
        let written = document.has_line(&format!("{full}.image"));
        if let Some(image) = holder.image.as_ref().filter(|i| written && !is_placeholder(i)) {
            let (digest, tag) = (
                image.contains("@sha256:"),
                image.rsplit('/').next().and_then(|n| n.split_once(':')).map(|(_, t)| t),
            );
            if !digest && matches!(tag, None | Some("latest" | "nightly" | "main" | "dev")) {
                note(
                    NoteAbout::Image,
                    ".image",
                    format!(
                        "image {image} is not pinned: a restart may bring another engine version, with another memory need"
                    ),
                );
            }
        }
        // An amount that is to be filled in is stated all the same.
        let states = |what: &str| {
            ["containers", "initContainers"].iter().any(|list| {
                let own = template["spec"][*list]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find(|c| c["name"] == holder.name.as_str());
                own.is_some_and(|c| {
                    ["requests", "limits"]
                        .iter()
                        .any(|k| !c["resources"][*k][what].is_null())
                })
            })
        };
        if !holder.requests.devices.is_empty() && path.contains("emplate") {
            if holder.requests.cpu.is_none() && !states("cpu") {
                note(
                    NoteAbout::CpuRequest,
                    ".resources",
                    "no CPU request: the scheduler may put it where the engine starves".into(),
                );
            }
            if holder.requests.memory.is_none() && !states("memory") {
                note(
                    NoteAbout::MemoryRequest,
                    ".resources",
                    "no memory request: it may be evicted, or killed, first".into(),
                );
            }
        }
    }
    let (line, _) = at("");
    Origin {
        file: document.file.clone(),
        line,
        path: full,
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::yaml;
    use serde_json::json;

    fn read(documents: &[Document]) -> Manifests {
        let mut all = Manifests::new(|_| Some(8));
        all.objects = documents.len();
        build(documents, &mut all);
        all
    }

    fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
        out.push(at.to_string());
        let below = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        match value {
            Value::Object(map) => map.iter().for_each(|(k, v)| pointers(v, &below(k), out)),
            Value::Array(items) => {
                for (i, v) in items.iter().enumerate() {
                    pointers(v, &below(&i.to_string()), out);
                }
            }
            _ => {}
        }
    }

    /// Any part of any fixture replaced by something of another shape: whatever comes of it, it is no panic.
    #[test]
    fn parts_of_the_wrong_shape_are_no_panic() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/manifests");
        let mut tried = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read(entry.unwrap().path()).unwrap();
            let documents = yaml::parse("f.yaml", &text).unwrap().documents;
            for index in 0..documents.len() {
                let mut places = Vec::new();
                pointers(&documents[index].value, "", &mut places);
                for place in places.iter().skip(1) {
                    for other in [
                        json!("text"),
                        json!(7),
                        json!([1]),
                        json!({"a": "b"}),
                        Value::Null,
                        json!(u64::MAX),
                    ] {
                        let mut changed = documents.clone();
                        if let Some(target) = changed[index].value.pointer_mut(place) {
                            *target = other;
                        }
                        let all = read(&changed);
                        assert!(all.made() <= 50_000, "{place}");
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 5_000, "{tried}");
    }

    #[test]
    fn what_asks_for_gpus_in_an_unknown_form_is_a_gap() {
        let text =
            b"apiVersion: x/v1\nkind: Odd\nmetadata: {name: o}\nspec:\n  amounts:\n    limits: {nvidia.com/gpu: 2}\n";
        let all = read(&yaml::parse("f.yaml", text).unwrap().documents);
        assert!(all.made() == 0 && all.gaps.len() == 1, "{:?}", all.gaps);
        assert!(all.gaps[0].what.contains("Odd o"), "{:?}", all.gaps);
        let quota =
            b"apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {limits: {nvidia.com/gpu: 2}}}\n";
        assert!(read(&yaml::parse("f.yaml", quota).unwrap().documents).gaps.is_empty());
    }
}
