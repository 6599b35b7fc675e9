//! Owners above the pods that matter, and nothing else: each is fetched by name, or by one list where there are many.

use super::Gaps;
use super::api::{Api, ReadError};
use super::raw::RawController;
use crate::options::CollectOptions;
use crate::snapshot::cluster::{Container, Controller, OwnerRef, Pod};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// More owners of one kind than this are read by one list.
const BY_NAME: usize = 60;
const AT_ONCE: usize = 12;

/// A kind that is read.
#[expect(clippy::struct_field_names, reason = "`kind` is what Kubernetes calls it")]
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
    /// A custom resource: it may not be installed, or in another version. What it tells beside the pods is a gain; without
    /// it the pods and their labels stand for themselves. An opt-out on it does not count, since it may be unreadable.
    pub(super) custom: bool,
}

const fn kind(group: &'static str, kind: &'static str, version: &'static str, plural: &'static str) -> Kind {
    Kind {
        group,
        kind,
        version,
        plural,
        custom: false,
    }
}

const fn custom(group: &'static str, name: &'static str, version: &'static str, plural: &'static str) -> Kind {
    Kind {
        custom: true,
        ..kind(group, name, version, plural)
    }
}

/// Kinds that are read; other owners are known by reference and label alone.
pub(super) const KINDS: &[Kind] = &[
    kind("apps", "ReplicaSet", "v1", "replicasets"),
    kind("apps", "Deployment", "v1", "deployments"),
    kind("apps", "StatefulSet", "v1", "statefulsets"),
    kind("batch", "Job", "v1", "jobs"),
    kind("batch", "CronJob", "v1", "cronjobs"),
    kind("leaderworkerset.x-k8s.io", "LeaderWorkerSet", "v1", "leaderworkersets"),
    custom("argoproj.io", "Rollout", "v1alpha1", "rollouts"),
    custom("jobset.x-k8s.io", "JobSet", "v1alpha2", "jobsets"),
    custom("ray.io", "RayService", "v1", "rayservices"),
    custom("serving.kserve.io", "InferenceService", "v1beta1", "inferenceservices"),
    custom(
        "serving.kserve.io",
        "LLMInferenceService",
        "v1alpha1",
        "llminferenceservices",
    ),
    custom("kaito.sh", "Workspace", "v1beta1", "workspaces"),
];

impl Kind {
    /// Where its objects are: `/apis/apps/v1`.
    pub(super) fn prefix(&self, version: &str) -> String {
        format!("/apis/{}/{version}", self.group)
    }
}

/// What was read, and what was refused.
pub(super) struct Owners {
    controllers: Vec<Controller>,
    /// Custom resources that describe a server, as they are. Never stored: read once more for their model, and dropped.
    pub(super) described: Vec<Value>,
    errors: BTreeMap<&'static str, ReadError>,
    /// Versions of the custom resources' groups, the preferred one first; empty: not installed.
    versions: BTreeMap<&'static str, Vec<String>>,
}

impl Owners {
    /// The owners, and the kinds that were refused.
    pub(super) fn collect(self, gaps: &mut Gaps) -> (Vec<Controller>, Vec<String>) {
        let mut refused = Vec::new();
        for (plural, error) in self.errors {
            let Some(kind) = KINDS.iter().find(|k| k.plural == plural) else {
                continue;
            };
            if kind.custom {
                let effect = "what they say of their model, settings and replicas beside their pods is unknown";
                gaps.add(&error, plural, effect);
                continue;
            }
            gaps.add(
                &error,
                plural,
                "whether their workloads opted out, and what else they own, is unknown: nothing is found on them",
            );
            refused.push(kind.kind.to_string());
        }
        (self.controllers, refused)
    }
}

type Key = (String, OwnerRef);

/// Climbs from the pods to the top, one level at a time.
pub(super) async fn read(api: &Api, pods: &[Pod], within: &[String], options: &CollectOptions) -> Owners {
    let mut owners = Owners {
        controllers: Vec::new(),
        described: Vec::new(),
        errors: BTreeMap::new(),
        versions: BTreeMap::new(),
    };
    let mut seen: BTreeSet<Key> = BTreeSet::new();
    let mut level: BTreeSet<Key> = pods
        .iter()
        .filter(|p| holds_or_wants(p))
        .flat_map(|p| {
            let above: Vec<OwnerRef> = p.owner_above().into_iter().collect();
            let named = p.owners_by_label(&above);
            above.into_iter().chain(named).map(|o| (p.namespace.clone(), o))
        })
        .collect();
    // Pod → ReplicaSet → Deployment → custom resource → … : longer chains do not exist.
    for _ in 0..6 {
        level.retain(|key| seen.insert(key.clone()));
        if level.is_empty() {
            break;
        }
        let read = one_level(api, &level, within, options, &mut owners).await;
        level = read
            .iter()
            .filter_map(|c| Some((c.namespace.clone(), c.owner.clone()?)))
            .collect();
        owners.controllers.extend(read);
    }
    owners
        .controllers
        .sort_by(|a, b| (&a.namespace, &a.kind, &a.name).cmp(&(&b.namespace, &b.kind, &b.name)));
    owners
}

fn holds_or_wants(pod: &Pod) -> bool {
    !pod.resource_claims.is_empty() || pod.containers.iter().any(Container::has_devices)
}

async fn one_level(
    api: &Api,
    keys: &BTreeSet<Key>,
    within: &[String],
    options: &CollectOptions,
    owners: &mut Owners,
) -> Vec<Controller> {
    let mut found = Vec::new();
    for kind in KINDS {
        let wanted: BTreeSet<(&str, &str)> = keys
            .iter()
            .filter(|(_, o)| o.kind == kind.kind && o.group == kind.group)
            .map(|(ns, o)| (ns.as_str(), o.name.as_str()))
            .collect();
        if wanted.is_empty() || owners.errors.contains_key(kind.plural) {
            continue;
        }
        let read = if kind.custom {
            custom_objects(api, kind, &wanted, within, owners).await
        } else {
            objects(api, &kind.prefix(kind.version), kind.plural, &wanted, within).await
        };
        match read {
            Ok(read) => found.extend(
                read.into_iter()
                    .map(|c: RawController| c.into_controller(kind.group, kind.kind, &options.keep_labels))
                    .map(|c| {
                        if kind.custom {
                            Controller { ignore: None, ..c }
                        } else {
                            c
                        }
                    })
                    .filter(|c| wanted.contains(&(c.namespace.as_str(), c.name.as_str()))),
            ),
            // Not installed (or no longer): the pod's own words are all there is.
            Err(ReadError::NotServed(_)) => {}
            Err(error) => {
                owners.errors.insert(kind.plural, error);
            }
        }
    }
    found
}

/// Custom resources in the version that serves them: a group's preferred version need not have every kind.
async fn custom_objects(
    api: &Api,
    kind: &Kind,
    wanted: &BTreeSet<(&str, &str)>,
    within: &[String],
    owners: &mut Owners,
) -> Result<Vec<RawController>, ReadError> {
    if !owners.versions.contains_key(kind.group) {
        let versions = match api.get_json::<Group>(&format!("/apis/{}", kind.group)).await {
            Ok(group) => group.versions(),
            // Whoever may not ask what is installed is told what these rights lack by the reads themselves.
            Err(error) if error.is_forbidden() => vec![kind.version.to_string()],
            Err(ReadError::NotServed(_) | ReadError::Status { code: 404, .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        owners.versions.insert(kind.group, versions);
    }
    for version in owners.versions.get(kind.group).into_iter().flatten() {
        let read: Result<Vec<Value>, ReadError> =
            objects(api, &kind.prefix(version), kind.plural, wanted, within).await;
        if matches!(read, Err(ReadError::NotServed(_))) {
            continue;
        }
        let mut read = read?;
        for object in &mut read {
            // Items of a list do not name their kind.
            object["kind"] = kind.kind.into();
        }
        let controllers = read.iter().filter_map(|o| serde_json::from_value(o.clone()).ok());
        let controllers = controllers.collect();
        owners.described.extend(read);
        return Ok(controllers);
    }
    Ok(Vec::new())
}

/// `/apis/GROUP`: which versions there are.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Group {
    versions: Vec<GroupVersion>,
    preferred_version: GroupVersion,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GroupVersion {
    version: String,
}

impl Group {
    fn versions(self) -> Vec<String> {
        let preferred = self.preferred_version.version;
        let others = self.versions.into_iter().map(|v| v.version).filter(|v| *v != preferred);
        std::iter::once(preferred.clone())
            .chain(others)
            .filter(|v| !v.is_empty())
            .collect()
    }
}

async fn objects<T: DeserializeOwned + Send + 'static>(
    api: &Api,
    prefix: &str,
    plural: &str,
    wanted: &BTreeSet<(&str, &str)>,
    within: &[String],
) -> Result<Vec<T>, ReadError> {
    if wanted.len() > BY_NAME {
        api.list_in(prefix, plural, within).await
    } else {
        named(api, prefix, plural, wanted).await
    }
}

async fn named<T: DeserializeOwned>(
    api: &Api,
    prefix: &str,
    plural: &str,
    wanted: &BTreeSet<(&str, &str)>,
) -> Result<Vec<T>, ReadError> {
    let paths: Vec<String> = wanted
        .iter()
        .map(|(ns, name)| format!("{prefix}/namespaces/{ns}/{plural}/{name}"))
        .collect();
    let mut reads = stream::iter(
        paths
            .into_iter()
            .map(|path| async move { api.get_json::<T>(&path).await }),
    )
    .buffer_unordered(AT_ONCE);
    let mut found = Vec::new();
    let mut not_served = None;
    while let Some(read) = reads.next().await {
        match read {
            Ok(object) => found.push(object),
            // Gone between two reads.
            Err(ReadError::Status { code: 404, .. }) => {}
            Err(error @ ReadError::NotServed(_)) => not_served = Some(error),
            Err(error) => return Err(error),
        }
    }
    match not_served {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}
