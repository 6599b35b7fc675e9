//! The container part of a pod spec: requests, ports, and what runs in it. Command lines and environments are read here,
//! handed to the engines, and dropped.

use super::quantity;
use super::raw::lenient;
use crate::engine::{self, ContainerSpec};
use crate::snapshot::cluster::{Container, ContainerKind, Port, Resources, is_device};
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
    value_from: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawPort {
    name: Option<String>,
    container_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRequirements {
    #[serde(deserialize_with = "lenient")]
    requests: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    limits: BTreeMap<String, String>,
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
        requests.cpu = requests.cpu.or(limits.cpu);
        requests.memory = requests.memory.or(limits.memory);
        let spec = ContainerSpec {
            image: self.image.clone().unwrap_or_default(),
            command: self.command,
            args: self.args,
            env: self
                .env
                .into_iter()
                .map(|e| {
                    (
                        e.name,
                        if e.value_from.is_some() {
                            None
                        } else {
                            Some(e.value.unwrap_or_default())
                        },
                    )
                })
                .collect(),
        };
        Container {
            name: self.name,
            kind,
            image: self.image.map(|i| without_credentials(&i)),
            requests,
            limits,
            ports: self
                .ports
                .into_iter()
                .map(|p| Port {
                    name: p.name,
                    number: p.container_port,
                })
                .collect(),
            server: engine::recognise(&spec).map(Box::new),
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

pub(super) fn resources(map: &BTreeMap<String, String>) -> Resources {
    let number = |name: &str| map.get(name).and_then(|q| quantity::parse(q));
    Resources {
        cpu: number("cpu")
            .filter(|c| *c < 1e6)
            .map(|c| MilliCores((c * 1000.0).ceil() as u64)),
        memory: number("memory").filter(|m| *m < 1e18).map(|m| Bytes(m as u64)),
        pods: number("pods").filter(|p| *p < 1e6).map(|p| p as u64),
        devices: map
            .iter()
            .filter(|(name, _)| is_device(name))
            .filter_map(|(name, q)| Some((name.clone(), quantity::count(q)?)))
            .collect(),
    }
}
