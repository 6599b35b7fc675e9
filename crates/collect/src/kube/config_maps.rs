//! Settings that stand in ConfigMaps: files given with `--config`, scripts, and variables. Each map is read by name, where
//! that is granted; what it holds goes to the engines and is dropped.

use super::answer::ApiObject;
use super::api::{Api, ReadError};
use super::path::{Name, Resource};
use super::raw::RawMeta;
use super::{Gaps, some};
use crate::engine::{self, ContainerSpec};
use crate::snapshot::Gap;
use crate::snapshot::cluster::{Pod, UnreadKind};
use futures::{StreamExt, stream};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const AT_ONCE: usize = 12;
/// More maps than this are no longer the servers' own: reading them would cost more than it tells.
const MAX_MAPS: usize = 500;

/// A container with settings in ConfigMaps. Transient, and without `Debug`: it holds command lines and environments.
pub(super) struct Wants {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
    pub(super) spec: ContainerSpec,
    pub(super) mounts: Vec<MapMount>,
    pub(super) variables: Vec<VariableRef>,
    /// Maps of which every key is a variable, with a prefix of their names.
    pub(super) whole: Vec<(String, String)>,
}

/// A map whose keys are files of the container.
pub(super) struct MapMount {
    /// Where it is mounted.
    pub(super) path: String,
    pub(super) map: String,
    /// One of its files alone is mounted there.
    pub(super) file: Option<String>,
    /// Keys and what their files are called, where that is not the key.
    pub(super) items: Vec<(String, String)>,
}

impl MapMount {
    /// The files by path.
    fn files<'m>(&'m self, data: &'m BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> + 'm {
        data.iter().filter_map(|(key, text)| {
            let item = self.items.iter().find(|(of, _)| of == key);
            let name = match (item, self.items.is_empty()) {
                (Some((_, path)), _) => path,
                (None, true) => key,
                (None, false) => return None,
            };
            match &self.file {
                Some(file) => (file == name).then(|| (self.path.clone(), text.clone())),
                None => Some((format!("{}/{name}", self.path), text.clone())),
            }
        })
    }
}

/// A variable that is a key of a map.
pub(super) struct VariableRef {
    pub(super) name: String,
    pub(super) map: String,
    pub(super) key: String,
    /// It is not set where the map or the key is not there.
    pub(super) optional: bool,
}

impl Wants {
    /// One of its variables is a key of the map, and the container does not start without.
    fn requires(&self, (namespace, map): &(String, String)) -> bool {
        self.namespace == *namespace && self.variables.iter().any(|v| !v.optional && v.map == *map)
    }

    fn maps(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let files = self.mounts.iter().map(|m| &m.map);
        let variables = self.variables.iter().map(|v| &v.map);
        let whole = self.whole.iter().map(|(map, _)| map);
        files
            .chain(variables)
            .chain(whole)
            .map(|map| (self.namespace.clone(), map.clone()))
    }
}

pub(super) const CONFIG_MAPS: Resource<'_> = Resource::new("", "v1", "configmaps", "ConfigMap");

#[derive(Deserialize)]
struct RawConfigMap {
    metadata: RawMeta,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

impl ApiObject for RawConfigMap {
    fn meta(&self) -> &RawMeta {
        &self.metadata
    }
}

type Maps = HashMap<(String, String), BTreeMap<String, String>>;

/// Reads the maps that are wanted and the servers' settings once more with them.
pub(super) async fn apply(api: &Api, pods: &mut [Pod], wants: Vec<Wants>, gaps: &mut Gaps) {
    let names: BTreeSet<(String, String)> = wants.iter().flat_map(Wants::maps).collect();
    if names.is_empty() {
        return;
    }
    let mut maps = Maps::new();
    let mut refused: Vec<String> = Vec::new();
    // A map that no object can be called is none: what is to come of it stays unread, as in the pod.
    let parsed = |(ns, map): &(String, String)| Some((Name::parse(ns).ok()?, Name::parse(map).ok()?));
    let known: Vec<(Name, Name)> = names.iter().filter_map(parsed).take(MAX_MAPS).collect();
    let mut unread = names;
    for (namespace, map) in &known {
        unread.remove(&(namespace.as_str().to_string(), map.as_str().to_string()));
    }
    if !unread.is_empty() {
        let names: Vec<String> = unread.iter().map(|(ns, map)| format!("{ns}/{map}")).collect();
        gaps.push(Gap {
            source: String::new(),
            what: format!("ConfigMaps {}", some(&names)),
            reason: format!("no object can be called that, or they are more than {MAX_MAPS}"),
            effect: EFFECT.into(),
            remedy: "look at the pods that name them".into(),
        });
    }
    let mut reads = stream::iter(known.into_iter().map(|(namespace, map)| async move {
        let read = api.object::<RawConfigMap>(&CONFIG_MAPS, Some(&namespace), &map).await;
        (read, (namespace.as_str().to_string(), map.as_str().to_string()))
    }))
    .buffered(AT_ONCE);
    while let Some((read, key)) = reads.next().await {
        match read {
            Ok(map) => {
                maps.insert(key, map.data.unwrap_or_default());
            }
            // An optional map that is not there sets nothing; one without which no pod starts was there when they did.
            Err(ReadError::NoSuchObject) if !wants.iter().any(|w| w.requires(&key)) => {
                maps.insert(key, BTreeMap::new());
            }
            Err(error) => {
                if error.is_forbidden() {
                    refused.push(format!("{}/{}", key.0, key.1));
                } else {
                    gaps.add(&error, &format!("ConfigMap {}/{}", key.0, key.1), EFFECT);
                }
                unread.insert(key);
            }
        }
    }
    for want in wants.iter().filter(|w| w.maps().any(|key| unread.contains(&key))) {
        gaps.unread(
            UnreadKind::ConfigMap,
            Some(want.namespace.clone()),
            Some(want.pod.clone()),
        );
    }
    if let Some(first) = refused.first() {
        let shown = refused.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let more = refused.len().saturating_sub(3);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        gaps.push(Gap {
            source: String::new(),
            what: format!("settings in ConfigMaps {shown}{more}"),
            reason: "403 Forbidden".into(),
            effect: EFFECT.into(),
            remedy: format!("'gpuwaste rbac --with configmaps={first} | kubectl apply -f -'"),
        });
    }
    let mut by_pod: HashMap<(String, String), Vec<Wants>> = HashMap::new();
    for want in wants {
        by_pod
            .entry((want.namespace.clone(), want.pod.clone()))
            .or_default()
            .push(want);
    }
    for pod in pods {
        for want in by_pod
            .remove(&(pod.namespace.clone(), pod.name.clone()))
            .unwrap_or_default()
        {
            reread(pod, want, &maps);
        }
    }
}

/// The settings of the container once more, with what the maps hold.
fn reread(pod: &mut Pod, want: Wants, maps: &Maps) {
    let Some(container) = pod.containers.iter_mut().find(|c| c.name == want.container) else {
        return;
    };
    let spec = resolved(want, maps);
    container.command_unread = container.has_devices().then(|| engine::unread_program(&spec)).flatten();
    if let Some(mut settings) = engine::recognise(&spec) {
        if let Some(model) = container.server.as_ref().and_then(|s| s.model.clone()) {
            engine::mounted(&mut settings, &model);
        }
        container.server = Some(Box::new(settings));
    }
}

/// The same for a pod that does not run yet: `map` gives what is known of a map. Tells the maps that are not, and that a
/// server's settings hang on.
pub(super) fn fill(
    pod: &mut Pod,
    wants: Vec<Wants>,
    map: impl Fn(&str) -> Option<BTreeMap<String, String>>,
) -> BTreeSet<String> {
    let mut lacking = BTreeSet::new();
    for want in wants {
        let mut maps = Maps::new();
        for key in want.maps() {
            if let Some(data) = map(&key.1) {
                maps.insert(key, data);
            }
        }
        let namespace = want.namespace.clone();
        let unknown = |map: &&String| !maps.contains_key(&(namespace.clone(), (*map).clone()));
        let stated = want.mounts.iter().map(|m| &m.map);
        let stated: Vec<String> = stated
            .chain(want.variables.iter().map(|v| &v.map))
            .filter(unknown)
            .cloned()
            .collect();
        let whole: Vec<String> = want.whole.iter().map(|(map, _)| map).filter(unknown).cloned().collect();
        let container = want.container.clone();
        reread(pod, want, &maps);
        lacking.extend(stated);
        let server = pod
            .containers
            .iter()
            .find(|c| c.name == container)
            .and_then(|c| c.server.as_ref());
        if server.is_some_and(|s| {
            s.unread
                .iter()
                .any(|u| whole.iter().any(|m| u.place.contains(m.as_str())))
        }) {
            lacking.extend(whole);
        }
    }
    lacking
}

const EFFECT: &str = "what they set is unknown: the model, its length or its parallelism may be missing or a default";

/// The container with what the maps hold; the container's own variables win over whole maps, as in Kubernetes.
fn resolved(want: Wants, maps: &Maps) -> ContainerSpec {
    let get = |map: &str| maps.get(&(want.namespace.clone(), map.to_string()));
    let mut spec = want.spec;
    let mut env: Vec<(String, Option<String>)> = Vec::new();
    for (map, prefix) in &want.whole {
        let Some(data) = get(map) else { continue };
        env.extend(data.iter().map(|(k, v)| (format!("{prefix}{k}"), Some(v.clone()))));
        // It is read: nothing else can be among it.
        let own = format!("ConfigMap {map},");
        spec.open.retain(|place| !place.starts_with(&own));
    }
    env.append(&mut spec.env);
    for variable in &want.variables {
        let Some(data) = get(&variable.map) else { continue };
        match data.get(&variable.key) {
            Some(value) => {
                if let Some(own) = env.iter_mut().find(|(n, v)| *n == variable.name && v.is_none()) {
                    own.1 = Some(value.clone());
                }
            }
            None if variable.optional => env.retain(|(n, v)| *n != variable.name || v.is_some()),
            // The pod would not start so: what it is to be nobody knows.
            None => {}
        }
    }
    spec.env = env;
    let read = want.mounts.iter().filter_map(|m| Some((m, get(&m.map)?)));
    spec.files = read.flat_map(|(mount, data)| mount.files(data)).collect();
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::server::Setting;

    fn want(args: &[&str]) -> Wants {
        Wants {
            namespace: "ml".into(),
            pod: "p".into(),
            container: "c".into(),
            spec: ContainerSpec {
                image: "vllm/vllm-openai:v0.11.0".into(),
                args: args.iter().map(ToString::to_string).collect(),
                env: vec![("MODEL".into(), None)],
                ..ContainerSpec::default()
            },
            mounts: vec![MapMount {
                path: "/etc/vllm".into(),
                map: "settings".into(),
                file: None,
                items: Vec::new(),
            }],
            variables: vec![VariableRef {
                name: "MODEL".into(),
                map: "env".into(),
                key: "model".into(),
                optional: false,
            }],
            whole: vec![("all".into(), "MAX_".into())],
        }
    }

    fn maps() -> Maps {
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_string(), value.to_string())]);
        let at = |name: &str| ("ml".to_string(), name.to_string());
        Maps::from([
            (
                at("settings"),
                map(
                    "config.yaml",
                    "model: o/file\ntensor-parallel-size: 2\nmax-model-len: 4096\n",
                ),
            ),
            (at("env"), map("model", "o/variable")),
            (at("all"), map("LENGTH", "8192")),
        ])
    }

    #[test]
    fn files_and_variables_are_read_as_the_server_would() {
        let settings = |args: &[&str]| engine::recognise(&resolved(want(args), &maps())).expect("a server");
        let s = settings(&["--config", "/etc/vllm/config.yaml", "--max-model-len=1024"]);
        assert_eq!((s.model.as_deref(), s.tensor_parallel), (Some("o/file"), Some(2)));
        assert_eq!(s.max_model_len, Some(1024), "the command line wins over the file");
        let s = settings(&["--model=$(MODEL)", "--max-model-len=$(MAX_LENGTH)"]);
        assert_eq!((s.model.as_deref(), s.max_model_len), (Some("o/variable"), Some(8192)));
    }

    #[test]
    fn a_map_that_was_not_read_names_nothing() {
        let spec = resolved(
            want(&["--model=$(MODEL)", "--config=/etc/vllm/config.yaml"]),
            &Maps::new(),
        );
        let s = engine::recognise(&spec).expect("a server");
        assert!(s.unread(Setting::Model).is_some() && s.unread_parallelism().is_some());
        assert_eq!((s.model, s.tensor_parallel), (None, None));
    }
}
