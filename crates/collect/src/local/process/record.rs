//! What stands in the snapshot for the processes of one server, job or program: a pod, named after what runs.

use super::Process;
use crate::snapshot::cluster::{Condition, Container, OwnerRef, Pod, PodPhase, Resources};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;

/// A server, job or program with all its processes on GPUs.
#[derive(Clone, Debug)]
pub(in crate::local) struct Group {
    /// The process that stands for it.
    pub(super) key: (u32, u64),
    pub(in crate::local) pod: Pod,
    /// /proc told nothing about it: another user's process, or one of another process namespace.
    pub(in crate::local) hidden: bool,
}

/// Joins groups of one server, and writes down how many devices of which resource each holds.
pub(in crate::local) fn pods(found: Vec<(Group, String)>) -> Vec<Group> {
    let mut groups: BTreeMap<(u32, u64), Group> = BTreeMap::new();
    for (group, resource) in found {
        let known = groups.entry(group.key).or_insert(group);
        if let Some(container) = known.pod.containers.first_mut() {
            *container.requests.devices.entry(resource).or_insert(0) += 1;
            container.limits.devices.clone_from(&container.requests.devices);
        }
    }
    groups.into_values().collect()
}

impl Group {
    pub(in crate::local) fn key(&self) -> (u32, u64) {
        self.key
    }
}

pub(super) fn hidden(pid: u32, node: &str) -> Group {
    let container = Container {
        name: "process".into(),
        ready: true,
        ..Container::default()
    };
    Group {
        key: (pid, 0),
        pod: pod("process", "Process", "not-visible", pid, 0, node, None, container),
        hidden: true,
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of one record")]
pub(super) fn pod(
    namespace: &str,
    kind: &str,
    name: &str,
    pid: u32,
    ticks: u64,
    node: &str,
    started_at: Option<Timestamp>,
    container: Container,
) -> Pod {
    Pod {
        namespace: namespace.into(),
        name: format!("{name}-{pid}"),
        uid: format!("{node}/{pid}/{ticks}"),
        node: Some(node.into()),
        phase: PodPhase::Running,
        created_at: started_at,
        started_at,
        owner: Some(OwnerRef {
            group: String::new(),
            kind: kind.into(),
            name: name.into(),
        }),
        ready: Some(Condition {
            status: Some(true),
            since: started_at,
            reason: None,
        }),
        containers: vec![Container {
            requests: Resources::default(),
            ..container
        }],
        ..Pod::default()
    }
}

pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A short name without arguments: the script, the module, else the program.
pub(super) fn program(process: &Process) -> String {
    let arguments = &process.arguments;
    let module = arguments
        .iter()
        .position(|a| a == "-m")
        .and_then(|at| arguments.get(at + 1));
    let script = arguments
        .iter()
        .take(4)
        .find(|a| Path::new(a).extension().is_some_and(|e| e == "py"));
    let first = arguments.first();
    module
        .or(script)
        .or(first)
        .map_or_else(|| process.name.clone(), |p| base(p).to_string())
}

/// Letters that a name in a report may hold; at most 63 of them, as in Kubernetes.
pub(super) fn plain(name: &str) -> String {
    let name: String = name
        .trim()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    if name.is_empty() { "unnamed".into() } else { name }
}
