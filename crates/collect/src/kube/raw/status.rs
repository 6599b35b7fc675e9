//! What the kubelet and the scheduler say of a pod: states of containers, claims made for it.

use super::{RawCondition, lenient, time};
use crate::snapshot::cluster::{Container, ContainerState, Exit};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawPodStatus {
    pub(super) phase: Option<String>,
    #[serde(deserialize_with = "time")]
    pub(super) start_time: Option<Timestamp>,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) conditions: Vec<RawCondition>,
    #[serde(deserialize_with = "lenient")]
    pub(super) container_statuses: Vec<RawStatus>,
    #[serde(deserialize_with = "lenient")]
    pub(super) init_container_statuses: Vec<RawStatus>,
    #[serde(deserialize_with = "lenient")]
    pub(super) resource_claim_statuses: Vec<RawClaim>,
    pub(super) extended_resource_claim_status: Option<RawExtendedClaim>,
}

/// The claim that the scheduler made for extended resources which a `DeviceClass` provides.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawExtendedClaim {
    resource_claim_name: String,
    #[serde(deserialize_with = "lenient")]
    request_mappings: Vec<RawMapping>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawMapping {
    resource_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawStatus {
    pub(super) name: String,
    ready: bool,
    restart_count: u64,
    state: Option<RawState>,
    last_state: Option<RawState>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawState {
    waiting: Option<RawWaiting>,
    running: Option<RawRunning>,
    terminated: Option<RawTerminated>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawWaiting {
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawRunning {
    #[serde(deserialize_with = "time")]
    started_at: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawTerminated {
    reason: Option<String>,
    exit_code: i64,
    #[serde(deserialize_with = "time")]
    finished_at: Option<Timestamp>,
}

impl RawTerminated {
    fn exit(self) -> Exit {
        Exit {
            reason: self.reason,
            code: self.exit_code,
            finished_at: self.finished_at,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RawClaim {
    name: String,
    resource_claim_name: Option<String>,
}

/// The claims a pod holds by their own names, and the extended resources that one of them stands for.
pub(super) fn claims_of(
    spec: Vec<RawClaim>,
    made: &[RawClaim],
    extended: Option<RawExtendedClaim>,
) -> (Vec<String>, Vec<String>) {
    // Made from a template: the status tells the name.
    let generated = |name: &str| made.iter().find(|m| m.name == name)?.resource_claim_name.clone();
    let mut names: Vec<String> = spec
        .into_iter()
        .map(|c| c.resource_claim_name.or_else(|| generated(&c.name)).unwrap_or(c.name))
        .collect();
    let Some(extended) = extended.filter(|e| !e.resource_claim_name.is_empty()) else {
        return (names, Vec::new());
    };
    names.push(extended.resource_claim_name);
    let mut resources: Vec<String> = extended.request_mappings.into_iter().map(|m| m.resource_name).collect();
    resources.sort_unstable();
    resources.dedup();
    (names, resources)
}

pub(super) fn fill(container: &mut Container, raw: RawStatus) {
    container.ready = raw.ready;
    container.restarts = raw.restart_count;
    container.last_exit = raw.last_state.and_then(|s| s.terminated).map(RawTerminated::exit);
    container.state = raw.state.and_then(|s| match s {
        RawState { waiting: Some(w), .. } => Some(ContainerState::Waiting { reason: w.reason }),
        RawState { running: Some(r), .. } => Some(ContainerState::Running { since: r.started_at }),
        RawState {
            terminated: Some(t), ..
        } => Some(ContainerState::Terminated(t.exit())),
        RawState { .. } => None,
    });
}
