//! Owners above the pods that matter, and nothing else: each is fetched by name, or by one list where there are many.

use super::Gaps;
use super::api::{Api, ReadError};
use super::raw::RawController;
use crate::collect::options::CollectOptions;
use crate::snapshot::cluster::{Controller, OwnerRef, Pod};
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};

/// More owners of one kind than this are read by one list.
const BY_NAME: usize = 60;
const AT_ONCE: usize = 12;

/// Kinds that are read: (group, kind, API path prefix, plural).
pub(super) const KINDS: &[(&str, &str, &str, &str)] = &[
    ("apps", "ReplicaSet", "/apis/apps/v1", "replicasets"),
    ("apps", "Deployment", "/apis/apps/v1", "deployments"),
    ("apps", "StatefulSet", "/apis/apps/v1", "statefulsets"),
    ("batch", "Job", "/apis/batch/v1", "jobs"),
    ("batch", "CronJob", "/apis/batch/v1", "cronjobs"),
    (
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        "/apis/leaderworkerset.x-k8s.io/v1",
        "leaderworkersets",
    ),
];

/// What was read, and what was refused.
pub(super) struct Owners {
    controllers: Vec<Controller>,
    errors: BTreeMap<&'static str, ReadError>,
}

impl Owners {
    /// The owners, and the kinds that were refused.
    pub(super) fn collect(self, gaps: &mut Gaps) -> (Vec<Controller>, Vec<String>) {
        let mut refused = Vec::new();
        for (plural, error) in self.errors {
            gaps.add(
                &error,
                plural,
                "whether their workloads opted out, and what else they own, is unknown: nothing is found on them",
            );
            let kinds = KINDS.iter().filter(|(.., p)| *p == plural);
            refused.extend(kinds.map(|(_, kind, ..)| (*kind).to_string()));
        }
        (self.controllers, refused)
    }
}

type Key = (String, OwnerRef);

/// Climbs from the pods to the top, one level at a time.
pub(super) async fn read(api: &Api, pods: &[Pod], within: &[String], options: &CollectOptions) -> Owners {
    let mut owners = Owners {
        controllers: Vec::new(),
        errors: BTreeMap::new(),
    };
    let mut seen: BTreeSet<Key> = BTreeSet::new();
    let mut level: BTreeSet<Key> = pods
        .iter()
        .filter(|p| holds_or_wants(p))
        .filter_map(|p| Some((p.namespace.clone(), p.owner_above()?)))
        .collect();
    // Pod → ReplicaSet → Deployment → custom resource → … : longer chains do not exist.
    for _ in 0..6 {
        level.retain(|key| seen.insert(key.clone()));
        if level.is_empty() {
            break;
        }
        let read = one_level(api, &level, within, options, &mut owners.errors).await;
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
    !pod.resource_claims.is_empty() || pod.containers.iter().any(|c| !c.requests.devices.is_empty())
}

async fn one_level(
    api: &Api,
    keys: &BTreeSet<Key>,
    within: &[String],
    options: &CollectOptions,
    errors: &mut BTreeMap<&'static str, ReadError>,
) -> Vec<Controller> {
    let mut found = Vec::new();
    for (group, kind, prefix, plural) in KINDS {
        let wanted: BTreeSet<(&str, &str)> = keys
            .iter()
            .filter(|(_, o)| o.kind == *kind && o.group == *group)
            .map(|(ns, o)| (ns.as_str(), o.name.as_str()))
            .collect();
        if wanted.is_empty() || errors.contains_key(plural) {
            continue;
        }
        let read = if wanted.len() > BY_NAME {
            api.list_in(prefix, plural, within).await
        } else {
            named(api, prefix, plural, &wanted).await
        };
        match read {
            Ok(read) => found.extend(
                read.into_iter()
                    .map(|c| c.into_controller(group, kind, &options.keep_labels))
                    .filter(|c| wanted.contains(&(c.namespace.as_str(), c.name.as_str()))),
            ),
            Err(error) => {
                errors.insert(plural, error);
            }
        }
    }
    found
}

async fn named(
    api: &Api,
    prefix: &str,
    plural: &str,
    wanted: &BTreeSet<(&str, &str)>,
) -> Result<Vec<RawController>, ReadError> {
    let paths: Vec<String> = wanted
        .iter()
        .map(|(ns, name)| format!("{prefix}/namespaces/{ns}/{plural}/{name}"))
        .collect();
    let mut reads = stream::iter(
        paths
            .into_iter()
            .map(|path| async move { api.get_json::<RawController>(&path).await }),
    )
    .buffer_unordered(AT_ONCE);
    let mut found = Vec::new();
    while let Some(read) = reads.next().await {
        match read {
            Ok(controller) => found.push(controller),
            // Gone between two reads, or the resource is not served: the pod's own words are all there is.
            Err(ReadError::Status { code: 404, .. } | ReadError::NotServed(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
