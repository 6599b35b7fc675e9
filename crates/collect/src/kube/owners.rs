//! Owners above the pods that matter, and nothing else: each is fetched by name, or by one list where there are many.

use super::Gaps;
use super::answer::{ApiObject, Served};
use super::api::{Api, List, ReadError};
use super::path::{Name, Resource};
use super::raw::{RawController, RawMeta};
use crate::options::CollectOptions;
use crate::snapshot::cluster::{Container, Controller, OwnerRef, Pod, Unread, UnreadKind};
use futures::{StreamExt, stream};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// More owners of one kind than this are read by one list.
const BY_NAME: usize = 60;
const AT_ONCE: usize = 12;

/// A kind that is read.
pub(super) struct Kind {
    pub(super) resource: Resource<'static>,
    /// A custom resource: it may not be installed, or in another version. What it tells beside the pods is a gain; without
    /// it the pods and their labels stand for themselves. An opt-out on it does not count, since it may be unreadable.
    pub(super) custom: bool,
    /// Served by every API server.
    pub(super) built_in: bool,
}

const fn kind(group: &'static str, kind: &'static str, version: &'static str, plural: &'static str) -> Kind {
    Kind {
        resource: Resource::new(group, version, plural, kind),
        custom: false,
        built_in: true,
    }
}

const fn custom(group: &'static str, name: &'static str, version: &'static str, plural: &'static str) -> Kind {
    Kind {
        custom: true,
        built_in: false,
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
    Kind {
        built_in: false,
        ..kind("leaderworkerset.x-k8s.io", "LeaderWorkerSet", "v1", "leaderworkersets")
    },
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

/// What was read, and what was not.
pub(super) struct Owners {
    controllers: Vec<Controller>,
    /// Custom resources that describe a server, as they are. Never stored: read once more for their model, and dropped.
    pub(super) described: Vec<Value>,
    /// Objects that were asked for and neither came nor are known to be gone, by the reason.
    unread: BTreeMap<(&'static str, String), (ReadError, BTreeSet<Key>)>,
}

impl Owners {
    /// The owners, and whom the unread ones are about.
    pub(super) fn collect(self, gaps: &mut Gaps) -> (Vec<Controller>, Vec<Unread>) {
        let mut unread = Vec::new();
        for ((plural, _), (error, keys)) in self.unread {
            let Some(kind) = KINDS.iter().find(|k| k.resource.plural == plural) else {
                continue;
            };
            let (what, effect) = if kind.custom {
                (
                    UnreadKind::Described,
                    "what they say of their model, settings and replicas beside their pods is unknown",
                )
            } else {
                (
                    UnreadKind::Owner,
                    "whether their workloads opted out, and what else they own, is unknown: nothing is found on them",
                )
            };
            let names: Vec<String> = keys.iter().map(|(ns, o)| format!("{ns}/{}", o.name)).collect();
            gaps.add(&error, &format!("{plural} {}", super::some(&names)), effect);
            unread.extend(keys.into_iter().map(|(namespace, owner)| Unread {
                what,
                namespace: Some(namespace),
                name: Some(format!("{}/{}", owner.kind, owner.name)),
                refused: false,
            }));
        }
        (self.controllers, unread)
    }

    fn missed(&mut self, kind: &Kind, error: &ReadError, keys: impl IntoIterator<Item = (String, String)>) {
        let place = self
            .unread
            .entry((kind.resource.plural, error.to_string()))
            .or_insert_with(|| (error.clone(), BTreeSet::new()));
        place.1.extend(keys.into_iter().map(|(namespace, name)| {
            let owner = OwnerRef {
                group: kind.resource.group.into(),
                kind: kind.resource.kind.into(),
                name,
            };
            (namespace, owner)
        }));
    }
}

type Key = (String, OwnerRef);

/// Climbs from the pods to the top, one level at a time.
pub(super) async fn read(
    api: &Api,
    pods: &[Pod],
    within: &[Name],
    served: Option<&Served>,
    options: &CollectOptions,
) -> Owners {
    let mut owners = Owners {
        controllers: Vec::new(),
        described: Vec::new(),
        unread: BTreeMap::new(),
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
        let read = one_level(api, &level, within, served, options, &mut owners).await;
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
    within: &[Name],
    served: Option<&Served>,
    options: &CollectOptions,
    owners: &mut Owners,
) -> Vec<Controller> {
    let mut found = Vec::new();
    for kind in KINDS {
        // A name that no object can have (a label may hold any word) is nobody's.
        let wanted: BTreeSet<(Name, Name)> = keys
            .iter()
            .filter(|(_, o)| o.kind == kind.resource.kind && o.group == kind.resource.group)
            .filter_map(|(ns, o)| Some((Name::parse(ns).ok()?, Name::parse(&o.name).ok()?)))
            .collect();
        let versions: Vec<&str> = match served {
            _ if kind.built_in => vec![kind.resource.version],
            Some(served) => served
                .versions(kind.resource.group)
                .iter()
                .map(String::as_str)
                .collect(),
            // Not told: as it was when this was written.
            None => vec![kind.resource.version],
        };
        if wanted.is_empty() || versions.is_empty() {
            continue;
        }
        let mut read = Read::default();
        // A group's preferred version need not have every kind.
        for version in versions {
            let resource = kind.resource.at(version);
            read = if kind.custom {
                read_kind::<Custom>(api, &resource, &wanted, within).await.map(|c| {
                    let Custom { meta: _, mut object } = c;
                    // Items of a list do not name their kind.
                    object["kind"] = kind.resource.kind.into();
                    let controller = serde_json::from_value::<RawController>(object.clone()).ok();
                    owners.described.push(object);
                    controller
                })
            } else {
                read_kind::<RawController>(api, &resource, &wanted, within)
                    .await
                    .map(Some)
            };
            if !read.is_nowhere(&wanted) {
                break;
            }
        }
        // Whoever may not ask what is installed takes the API server's own word for what is not.
        let not_installed = |e: &ReadError| served.is_none() && !kind.built_in && matches!(e, ReadError::NotServed(_));
        for (error, names) in read.missed.into_iter().filter(|(e, _)| !not_installed(e)) {
            owners.missed(kind, &error, names);
        }
        let into = |c: RawController| c.into_controller(kind.resource.group, kind.resource.kind, &options.keep_labels);
        found.extend(read.found.into_iter().flatten().map(into).map(|c| Controller {
            ignore: c.ignore.filter(|_| !kind.custom),
            ..c
        }));
    }
    found
}

/// A custom resource: whatever it holds, as it is.
struct Custom {
    meta: RawMeta,
    object: Value,
}

impl<'de> Deserialize<'de> for Custom {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(d)?;
        let meta = RawMeta::deserialize(&object["metadata"]).map_err(serde::de::Error::custom)?;
        Ok(Self { meta, object })
    }
}

impl ApiObject for Custom {
    fn meta(&self) -> &RawMeta {
        &self.meta
    }
}

/// What came of one kind.
struct Read<T> {
    found: Vec<T>,
    missed: Vec<(ReadError, Vec<(String, String)>)>,
}

impl<T> Default for Read<T> {
    fn default() -> Self {
        Self {
            found: Vec::new(),
            missed: Vec::new(),
        }
    }
}

impl<T> Read<T> {
    fn map<U>(self, of: impl FnMut(T) -> U) -> Read<U> {
        Read {
            found: self.found.into_iter().map(of).collect(),
            missed: self.missed,
        }
    }

    /// The path is not there: another version may have it.
    fn is_nowhere(&self, wanted: &BTreeSet<(Name, Name)>) -> bool {
        let nowhere = self.missed.iter().filter(|(e, _)| e.is_nowhere());
        self.found.is_empty() && nowhere.map(|(_, names)| names.len()).sum::<usize>() == wanted.len()
    }

    fn miss(&mut self, error: ReadError, name: (String, String)) {
        match self.missed.iter_mut().find(|(e, _)| *e == error) {
            Some((_, names)) => names.push(name),
            None => self.missed.push((error, vec![name])),
        }
    }
}

async fn read_kind<T: ApiObject + Send + 'static>(
    api: &Api,
    resource: &Resource<'_>,
    wanted: &BTreeSet<(Name, Name)>,
    within: &[Name],
) -> Read<T> {
    let all = |(ns, name): &(Name, Name)| (ns.as_str().to_string(), name.as_str().to_string());
    let mut read = Read::default();
    let mut left = wanted.clone();
    if wanted.len() > BY_NAME {
        let key = |o: &T| {
            Some((
                Name::parse(&o.meta().namespace).ok()?,
                Name::parse(&o.meta().name).ok()?,
            ))
        };
        let names = Arc::new(wanted.clone());
        let is_wanted = move |o: &T| key(o).is_some_and(|k| names.contains(&k));
        match api.some_in::<T>(*resource, within, is_wanted).await {
            Ok(listed) => {
                let first = |o: &T| key(o).is_some_and(|k| left.remove(&k));
                read.found.extend(listed.items.into_iter().filter(first));
            }
            Err(error) => {
                read.missed.push((error, wanted.iter().map(all).collect()));
                return read;
            }
        }
    }
    // Whom the list did not have is asked for by name, too: one witness is not enough to call somebody gone.
    let listed = wanted.len() > BY_NAME;
    let mut gone: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    let mut reads = stream::iter(left.iter().map(|key| async move {
        let (namespace, name) = key;
        (api.object::<T>(resource, Some(namespace), name).await, key)
    }))
    .buffer_unordered(AT_ONCE);
    while let Some((answer, key)) = reads.next().await {
        match answer {
            Ok(object) => read.found.push(object),
            Err(ReadError::NoSuchObject) if listed => {}
            Err(ReadError::NoSuchObject) => {
                gone.entry(key.0.clone()).or_default().insert(key.1.clone());
            }
            Err(error) => read.miss(error, all(key)),
        }
    }
    for (namespace, names) in gone {
        match api.objects::<T>(&List::within(*resource, &namespace)).await {
            Ok(listed) => {
                let there = |o: &T| Name::parse(&o.meta().name).is_ok_and(|n| names.contains(&n));
                read.found.extend(listed.items.into_iter().filter(there));
            }
            Err(error) => {
                for name in names {
                    read.miss(error.clone(), (namespace.as_str().into(), name.as_str().into()));
                }
            }
        }
    }
    read
}
