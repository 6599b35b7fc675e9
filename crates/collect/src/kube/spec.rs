//! The container part of a pod spec: requests, ports, and what runs in it. Command lines and environments are read here,
//! handed to the engines, and dropped.

use super::config_maps::{MapMount, VariableRef, Wants};
use super::quantity;
use super::raw::lenient;
use crate::engine::{self, ContainerSpec};
use crate::snapshot::cluster::{Container, ContainerKind, Port, Resources};
use crate::snapshot::resources::is_device;
use crate::units::{Bytes, MilliCores};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawContainer {
    pub(super) name: String,
    image: Option<String>,
    #[serde(deserialize_with = "lenient")]
    command: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    args: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    env: Vec<RawEnv>,
    #[serde(deserialize_with = "lenient")]
    env_from: Vec<RawEnvFrom>,
    #[serde(deserialize_with = "lenient")]
    volume_mounts: Vec<RawMount>,
    #[serde(deserialize_with = "lenient")]
    ports: Vec<RawPort>,
    #[serde(deserialize_with = "lenient")]
    resources: RawRequirements,
    restart_policy: Option<String>,
    startup_probe: Option<RawProbe>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawEnv {
    name: String,
    value: Option<String>,
    #[serde(rename = "valueFrom")]
    value_from: Option<RawValueFrom>,
}

/// Where a value comes from; only ConfigMaps are ever looked into, and of Secrets not even the name is kept.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawValueFrom {
    #[serde(rename = "configMapKeyRef")]
    config_map: Option<RawKey>,
    #[serde(rename = "secretKeyRef")]
    secret: Option<serde::de::IgnoredAny>,
    #[serde(rename = "fieldRef")]
    field: Option<RawField>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawKey {
    name: String,
    key: String,
    optional: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawField {
    field_path: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawEnvFrom {
    config_map_ref: Option<RawKey>,
    secret_ref: Option<serde::de::IgnoredAny>,
    prefix: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawMount {
    name: String,
    mount_path: String,
    sub_path: Option<String>,
}

/// A volume: what is in those of ConfigMaps, and the kind of the others.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawVolume {
    name: String,
    config_map: Option<RawMap>,
    #[serde(deserialize_with = "lenient")]
    projected: RawProjected,
    /// The field of any other kind, by its name.
    #[serde(flatten)]
    #[allow(
        clippy::zero_sized_map_values,
        reason = "only the names are kept: what is in a volume is nobody's business"
    )]
    kind: BTreeMap<String, serde::de::IgnoredAny>,
}

impl RawVolume {
    /// The kind of a volume that is neither of ConfigMaps nor projected: "hostPath", "persistentVolumeClaim".
    pub(super) fn other_kinds(&self) -> impl Iterator<Item = &String> {
        self.kind.keys()
    }

    fn maps(&self) -> impl Iterator<Item = &RawMap> {
        let projected = self.projected.sources.iter().filter_map(|s| s.config_map.as_ref());
        self.config_map.iter().chain(projected)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawProjected {
    #[serde(deserialize_with = "lenient")]
    sources: Vec<RawSource>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawSource {
    config_map: Option<RawMap>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawMap {
    name: String,
    #[serde(deserialize_with = "lenient")]
    items: Vec<RawItem>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawItem {
    key: String,
    path: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawPort {
    name: Option<String>,
    container_port: u16,
    host_port: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRequirements {
    #[serde(deserialize_with = "lenient")]
    requests: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    limits: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    claims: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawProbe {
    failure_threshold: u64,
    period_seconds: u64,
    initial_delay_seconds: u64,
}

impl Default for RawProbe {
    fn default() -> Self {
        // Kubernetes' own defaults.
        Self {
            failure_threshold: 3,
            period_seconds: 10,
            initial_delay_seconds: 0,
        }
    }
}

impl RawContainer {
    /// What KServe's storage initializer fetches: its first argument, a URI.
    pub(super) fn fetched(&self) -> Option<&str> {
        let own = self.name == "storage-initializer";
        self.args.first().filter(|_| own).map(String::as_str)
    }

    pub(super) fn host_ports(&self) -> impl Iterator<Item = u16> {
        self.ports.iter().filter_map(|p| p.host_port).filter(|p| *p > 0)
    }

    pub(super) fn port_numbers(&self) -> impl Iterator<Item = u16> {
        self.ports.iter().map(|p| p.container_port)
    }

    /// The names of all that it asks for.
    pub(super) fn resource_names(&self) -> impl Iterator<Item = &String> {
        self.resources.requests.keys().chain(self.resources.limits.keys())
    }

    /// Variables that are labels of the pod get their values. (Its annotations are not kept.)
    pub(super) fn fill_fields(&mut self, labels: &BTreeMap<String, String>) {
        for variable in &mut self.env {
            let path = variable.value_from.as_ref().and_then(|f| f.field.as_ref());
            let label = path.and_then(|f| f.field_path.strip_prefix("metadata.labels['")?.strip_suffix("']"));
            if let Some(value) = label.and_then(|l| labels.get(l)) {
                variable.value = Some(value.clone());
                variable.value_from = None;
            }
        }
    }

    /// What of its settings stands in ConfigMaps; `None`: nothing that an engine would read.
    pub(super) fn wants(&self, namespace: &str, pod: &str, volumes: &[RawVolume]) -> Option<Wants> {
        let mut text: String = self
            .command
            .iter()
            .chain(&self.args)
            .flat_map(|w| [w.as_str(), "\n"])
            .collect();
        // A path may stand in a variable that the command names.
        let named = |e: &&RawEnv| !e.name.is_empty() && (text.contains(&e.name) || engine::reads_variable(&e.name));
        let values: Vec<&str> = self
            .env
            .iter()
            .filter(named)
            .filter_map(|e| e.value.as_deref())
            .collect();
        let values = values.join("\n");
        text.push_str(&values);
        let mounts = self.mounts(&text, volumes);
        let scripted = mounts.iter().any(|m| self.runs_from(m));
        let read = |name: &str| scripted || text.contains(name) || engine::reads_variable(name);
        let variables: Vec<VariableRef> = self
            .env
            .iter()
            .filter(|e| read(&e.name))
            .filter_map(|e| {
                let key = e.value_from.as_ref()?.config_map.as_ref()?;
                Some(VariableRef {
                    name: e.name.clone(),
                    map: key.name.clone(),
                    key: key.key.clone(),
                    optional: key.optional == Some(true),
                })
            })
            .collect();
        let whole = self.env_from.iter().filter_map(|f| {
            let map = f.config_map_ref.as_ref().filter(|m| !m.name.is_empty())?;
            Some((map.name.clone(), f.prefix.clone().unwrap_or_default()))
        });
        let whole: Vec<(String, String)> = whole.collect();
        if mounts.is_empty() && variables.is_empty() && whole.is_empty() {
            return None;
        }
        let spec = self.spec();
        // A script of a map may start anything; variables matter only to what is a server already, or where they name what is
        // started.
        let is_told = || engine::recognise(&spec).is_some() || engine::unread_program(&spec).is_some();
        if engine::role(&spec).is_some() || (mounts.is_empty() && !is_told()) {
            return None;
        }
        Some(Wants {
            namespace: namespace.into(),
            pod: pod.into(),
            container: self.name.clone(),
            spec,
            mounts,
            variables,
            whole,
        })
    }

    /// `ConfigMap`s that `text` names a file of; all that are mounted, where a script of one is run: it may read the others.
    fn mounts(&self, text: &str, volumes: &[RawVolume]) -> Vec<MapMount> {
        let all = self.volume_mounts.iter().flat_map(|mount| {
            let maps = volumes
                .iter()
                .filter(|v| v.name == mount.name)
                .flat_map(RawVolume::maps);
            maps.filter(|m| !m.name.is_empty()).map(|map| MapMount {
                path: mount.mount_path.trim_end_matches('/').to_string(),
                map: map.name.clone(),
                file: mount.sub_path.clone(),
                items: map.items.iter().map(|i| (i.key.clone(), i.path.clone())).collect(),
            })
        });
        let all: Vec<MapMount> = all.filter(|m| !m.path.is_empty()).collect();
        let named = |mount: &MapMount| {
            text.match_indices(&mount.path).any(|(at, _)| {
                let rest = &text[at + mount.path.len()..];
                let ends = rest
                    .chars()
                    .next()
                    .is_none_or(|c| !(c.is_alphanumeric() || "-_.".contains(c)));
                ends && (mount.file.is_some() || rest.starts_with('/'))
            })
        };
        if all.iter().any(|m| named(m) && self.runs_from(m)) {
            return all;
        }
        all.into_iter().filter(named).collect()
    }

    /// One of the first words is a file of the mount: a script, or what a shell is given.
    fn runs_from(&self, mount: &MapMount) -> bool {
        let within = |word: &str| {
            let rest = word.strip_prefix(mount.path.as_str());
            rest.is_some_and(|r| r.starts_with('/') || (r.is_empty() && mount.file.is_some()))
        };
        let words = || self.command.iter().chain(&self.args);
        let script = |word: &str| {
            word.split([' ', '\n', ';', '"', '\''])
                .any(|w| within(w) && [".sh", ".bash"].iter().any(|e| w.ends_with(e)))
        };
        words().take(3).any(|w| within(w)) || words().any(|w| script(w))
    }

    pub(super) fn asks_for_devices(&self) -> bool {
        let all = self.resources.limits.keys().chain(self.resources.requests.keys());
        all.into_iter().any(|name| is_device(name))
    }

    fn spec(&self) -> ContainerSpec {
        let value = |e: &RawEnv| match e.value_from {
            Some(_) => None,
            None => Some(e.value.clone().unwrap_or_default()),
        };
        let place = |e: &RawEnv| {
            let from = e.value_from.as_ref()?;
            let place = match (&from.config_map, &from.secret, &from.field) {
                (Some(key), ..) => format!("key {} of ConfigMap {}", key.key, key.name),
                (_, Some(_), _) => "a Secret".into(),
                (.., Some(field)) => format!("the pod's field {}", field.field_path),
                _ => "elsewhere".into(),
            };
            Some((e.name.clone(), place))
        };
        let open = self
            .env_from
            .iter()
            .filter_map(|f| match (&f.config_map_ref, &f.secret_ref) {
                (Some(map), _) => Some(format!("ConfigMap {}, each key of which is a variable", map.name)),
                (None, Some(_)) => Some("a Secret, each key of which is a variable".into()),
                (None, None) => None,
            });
        ContainerSpec {
            image: self.image.clone().unwrap_or_default(),
            command: self.command.clone(),
            args: self.args.clone(),
            env: self.env.iter().map(|e| (e.name.clone(), value(e))).collect(),
            files: Vec::new(),
            places: self.env.iter().filter_map(place).collect(),
            open: open.collect(),
        }
    }

    /// The recorded container. `init`: it stands under initContainers.
    pub(super) fn into_container(self, init: bool) -> Container {
        let kind = match (init, self.restart_policy.as_deref()) {
            (false, _) => ContainerKind::Main,
            (true, Some("Always")) => ContainerKind::Sidecar,
            (true, _) => ContainerKind::Init,
        };
        let limits = resources(&self.resources.limits);
        let mut requests = resources(&self.resources.requests);
        // For devices request equals limit, and often only the limit is written; for CPU and memory the API server defaults them likewise.
        for (name, count) in &limits.devices {
            requests.devices.entry(name.clone()).or_insert(*count);
        }
        for name in limits.unread.iter().filter(|n| is_device(n)) {
            if !requests.unread.contains(name) {
                requests.unread.push(name.clone());
            }
        }
        requests.cpu = requests.cpu.or(limits.cpu);
        requests.memory = requests.memory.or(limits.memory);
        requests.storage = requests.storage.or(limits.storage);
        let spec = self.spec();
        let asks = self.asks_for_devices() || !self.resources.claims.is_empty();
        Container {
            name: self.name,
            kind,
            image: self.image.map(|i| without_credentials(&i)),
            requests,
            limits,
            uses_claims: !self.resources.claims.is_empty(),
            ports: self
                .ports
                .into_iter()
                .map(|p| Port {
                    name: p.name,
                    number: p.container_port,
                })
                .collect(),
            server: engine::recognise(&spec).map(Box::new),
            command_unread: asks.then(|| engine::unread_program(&spec)).flatten(),
            role: engine::role(&spec),
            startup_seconds: self.startup_probe.map(|p| {
                p.initial_delay_seconds
                    .saturating_add(p.failure_threshold.saturating_mul(p.period_seconds))
            }),
            ..Container::default()
        }
    }
}

/// "user:password@registry/…" never was a valid reference, but people write what they write.
fn without_credentials(image: &str) -> String {
    match image.split_once('@') {
        Some((front, back)) if !back.starts_with("sha256:") && front.contains(':') && !front.contains('/') => {
            back.to_string()
        }
        _ => image.to_string(),
    }
}

/// Rounded up, as the API server does; a quantity is no finer than a billionth, and "142m" is no more than 142.
fn millicores(cores: f64) -> MilliCores {
    let nano = (cores * 1e9).round() as u64;
    MilliCores(nano.div_ceil(1_000_000))
}

/// Amounts by name; one that no node and no pod can have is named as unread.
pub(super) fn resources(map: &BTreeMap<String, String>) -> Resources {
    let mut all = Resources::default();
    for (name, text) in map {
        let below = |most: f64| quantity::parse(text).filter(|q| *q < most);
        let read = match name.as_str() {
            "cpu" => {
                all.cpu = below(1e6).map(millicores);
                all.cpu.is_some()
            }
            "memory" => {
                all.memory = below(1e18).map(|m| Bytes(m as u64));
                all.memory.is_some()
            }
            "ephemeral-storage" => {
                all.storage = below(1e18).map(|m| Bytes(m as u64));
                all.storage.is_some()
            }
            "pods" => {
                all.pods = below(1e6).map(|p| p as u64);
                all.pods.is_some()
            }
            name if is_device(name) => {
                let count = quantity::count(text);
                all.devices.extend(count.map(|n| (name.to_string(), n)));
                count.is_some()
            }
            name => {
                let any = quantity::parse(text).is_some_and(|n| n > 0.0);
                let names = (name.contains('/') || name.starts_with("hugepages-")) && name.len() <= 120;
                if any && names && !name.starts_with("attachable-volumes-") {
                    all.extended.insert(name.to_string());
                }
                true
            }
        };
        if !read {
            all.unread.push(name.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_that_is_none_is_unread_and_no_zero() {
        let map = |amounts: &[(&str, &str)]| {
            let pairs = amounts.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string()));
            resources(&pairs.collect())
        };
        for odd in ["1Ei", "-1", "abc", "", "0.5", "500m", "NaN", "9999999999999999999"] {
            let read = map(&[("nvidia.com/gpu", odd), ("cpu", "4")]);
            assert!(read.devices.is_empty(), "{odd}");
            assert_eq!(read.unread, ["nvidia.com/gpu"], "{odd}");
        }
        let read = map(&[
            ("nvidia.com/gpu", "0"),
            ("cpu", "-4"),
            ("memory", "1e30"),
            ("hugepages-2Mi", "x"),
        ]);
        assert_eq!((read.devices.len(), read.cpu, read.memory), (1, None, None));
        assert_eq!(read.unread, ["cpu", "memory"]);
    }

    #[test]
    fn cores_are_rounded_up_to_the_milli_and_no_further() {
        for milli in 1..=20_000_u64 {
            let text = format!("{milli}m");
            let cpu = resources(&[("cpu".to_string(), text)].into()).cpu;
            assert_eq!(cpu, Some(MilliCores(milli)));
        }
        for (text, milli) in [("100u", 1), ("1500u", 2), ("0.1", 100), ("1n", 1), ("2", 2000)] {
            let cpu = resources(&[("cpu".to_string(), text.to_string())].into()).cpu;
            assert_eq!(cpu, Some(MilliCores(milli)), "{text}");
        }
    }
}
