//! The plan as a patch that `kubectl patch` takes: only where it can be written exactly, and only once a pod with the patch
//! applied was seen to find a node, and the model to fit there.

use super::{Plan, Target};
use crate::analyze::stranded;
use crate::fleet::{Fleet, Node, Pod, Workload};
use crate::snapshot::cluster::{Condition, PodPlacement};
use crate::units::{Bytes, MilliCores};
use std::collections::BTreeMap;
use std::fmt::Write;

const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// What is changed, as data.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Patch {
    pub(super) replicas: Option<u64>,
    pub(super) pod: Option<PodPatch>,
}

/// Of the pod template.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PodPatch {
    /// The container that holds GPUs.
    container: String,
    /// Selectors; `None`: removed.
    selector: BTreeMap<String, Option<String>>,
    /// Devices; `None`: removed.
    devices: BTreeMap<String, Option<u64>>,
    /// Requests of the container, where they are lowered.
    cpu: Option<MilliCores>,
    memory: Option<Bytes>,
}

/// A strategic-merge patch for a Deployment or StatefulSet; `None` where it would be incomplete: a changed tensor
/// parallelism is one argument among others, and a list of arguments is replaced as a whole.
pub(in crate::analyze) fn of_plan(fleet: &Fleet, workload: &Workload, plan: &Plan) -> Option<String> {
    patch(fleet, workload, plan)?.yaml().ok()
}

fn patch(fleet: &Fleet, workload: &Workload, plan: &Plan) -> Option<Patch> {
    if !matches!(workload.kind.as_str(), "Deployment" | "StatefulSet") {
        return None;
    }
    let fewer = !plan.leave.is_empty();
    // An autoscaler would undo a number of replicas written beside it.
    if fewer && workload.autoscaler_min.is_some() {
        return None;
    }
    let replicas = fewer.then_some(plan.stay.len() as u64);
    let Ok(Some(target)) = &plan.target else {
        return fewer.then_some(Patch { replicas, pod: None });
    };
    let pod = fleet.pod(*workload.replicas.first()?.pods.first()?);
    let change = PodPatch::of(pod, plan, target)?;
    finds_a_node(fleet, pod, &change, target).then_some(Patch {
        replicas,
        pod: Some(change),
    })
}

impl PodPatch {
    fn of(pod: &Pod, plan: &Plan, target: &Target) -> Option<Self> {
        // What no node hands out would leave the pod Pending; claims name their devices elsewhere.
        if target.parallelism != plan.parallelism || !target.offered || pod.claims {
            return None;
        }
        let (key, value) = match (&target.selector, &target.quote.rent) {
            (Some(selector), None) => selector.clone(),
            (_, Some(rent)) => (INSTANCE_TYPE.into(), rent.clone()),
            (None, None) => return None,
        };
        // Instances that are handed out as GPUs are told from them by the product's label alone.
        if target.gpu.instance.is_some() && target.resource == "nvidia.com/gpu" && key != "nvidia.com/gpu.product" {
            return None;
        }
        let mut selector: BTreeMap<String, Option<String>> =
            keys_in_the_way(pod, &key)?.into_iter().map(|old| (old, None)).collect();
        selector.insert(key, Some(value));
        let mut devices = BTreeMap::new();
        for old in pod.devices.keys().filter(|d| **d != target.resource) {
            // Other kinds of devices would be asked for as well; the present card or instance is given up.
            if !is_gpu(old) || !is_gpu(&target.resource) {
                return None;
            }
            devices.insert(old.clone(), None);
        }
        devices.insert(target.resource.clone(), Some(u64::from(target.gpus)));
        let (cpu, memory) = match &target.lowered {
            Some(need) => lowered(pod, need.cores, need.memory)?,
            None => (None, None),
        };
        Some(Self {
            container: pod.device_container.clone()?,
            selector,
            devices,
            cpu,
            memory,
        })
    }

    /// The pod as it would be.
    fn applied(&self, pod: &Pod) -> Pod {
        let mut pod = pod.clone();
        let placement = pod.placement.get_or_insert_with(PodPlacement::default);
        for (key, value) in &self.selector {
            placement.node_selector.remove(key);
            placement.node_selector.extend(value.clone().map(|v| (key.clone(), v)));
        }
        for (resource, count) in &self.devices {
            pod.devices.remove(resource);
            pod.devices.extend(count.map(|n| (resource.clone(), n)));
        }
        if let (Some(new), Some(old)) = (self.cpu, pod.device_request_cpu) {
            pod.cpu = MilliCores(pod.cpu.0.saturating_sub(old.0) + new.0);
        }
        if let (Some(new), Some(old)) = (self.memory, pod.device_request_memory) {
            pod.memory = Bytes(pod.memory.0.saturating_sub(old.0) + new.0);
        }
        pod
    }
}

/// New requests of the GPU container, so that the pod asks for so much in all. `None`: another container's are in the way.
fn lowered(pod: &Pod, cores: f64, memory: f64) -> Option<(Option<MilliCores>, Option<Bytes>)> {
    let less = |whole: u64, own: Option<u64>, wanted: u64| -> Option<Option<u64>> {
        if whole <= wanted {
            return Some(None);
        }
        let others = whole.saturating_sub(own?);
        wanted.checked_sub(others).filter(|left| *left > 0).map(Some)
    };
    let cpu = less(
        pod.cpu.0,
        pod.device_request_cpu.map(|c| c.0),
        (cores * 1000.0).ceil() as u64,
    )?;
    let memory = less(
        pod.memory.0,
        pod.device_request_memory.map(|m| m.0),
        memory.ceil() as u64,
    )?;
    // Written in MiB.
    Some((cpu.map(MilliCores), memory.map(|m| Bytes(m >> 20 << 20))))
}

/// The patched pod is let in by a node of the target: its selectors and taints, its CPU, memory, pod slots and devices.
fn finds_a_node(fleet: &Fleet, pod: &Pod, change: &PodPatch, target: &Target) -> bool {
    let patched = change.applied(pod);
    if let Some(kind) = &target.quote.rent {
        let Some(now) = pod.node.map(|n| fleet.node(n)) else {
            return false;
        };
        // What is rented is as its labels say; of others nobody knows whether it would have them.
        return stranded::may_run(&patched, &rented(now, kind));
    }
    fleet.nodes.iter().any(|node| {
        let hands_out = |resource: &String, count: u64| {
            let of = node.slot_ids().map(|s| fleet.slot(s));
            of.filter(|s| s.resource.as_ref() == Some(resource)).count() as u64 >= count
        };
        node.cluster == pod.cluster
            && node.gpu.is_some_and(|g| target.gpu.name.starts_with(&g.name))
            && stranded::may_run(&patched, node)
            && node.allocatable_cpu.is_some_and(|c| c >= patched.cpu)
            && node.allocatable_memory.is_some_and(|m| m >= patched.memory)
            && node.allocatable_pods.is_none_or(|p| p > 0)
            && patched
                .devices
                .iter()
                .all(|(resource, count)| hands_out(resource, *count))
    })
}

/// A node of that type where the present one stands, with the labels that are known of it.
fn rented(now: &Node, kind: &str) -> Node {
    const SAME: &[&str] = &[
        "topology.kubernetes.io/region",
        "karpenter.sh/capacity-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
    ];
    let mut labels: BTreeMap<String, String> = now
        .labels
        .iter()
        .filter(|(k, _)| SAME.contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    labels.insert(INSTANCE_TYPE.into(), kind.into());
    labels
        .entry("kubernetes.io/os".into())
        .or_insert_with(|| "linux".into());
    labels
        .entry("kubernetes.io/arch".into())
        .or_insert_with(|| super::host::arch_of(now).into());
    Node {
        labels,
        ready: Some(Condition {
            status: Some(true),
            ..Condition::default()
        }),
        ..Node::default()
    }
}

/// Handed out by NVIDIA's device plugin, as a card or an instance of one.
fn is_gpu(resource: &str) -> bool {
    resource == "nvidia.com/gpu" || resource.starts_with("nvidia.com/mig-")
}

/// Selectors that pin the pod to its present tier must go. `None`: affinity does it, which a merge cannot undo.
fn keys_in_the_way(pod: &Pod, new: &str) -> Option<Vec<String>> {
    const TIER: &[&str] = &[
        "gpu",
        "instance-type",
        "accelerator",
        "nodepool",
        "agentpool",
        "nodegroup",
        "instance-",
    ];
    let Some(placement) = &pod.placement else {
        return Some(Vec::new());
    };
    if !placement.affinity_terms.is_empty() {
        return None;
    }
    let pins = |key: &&String| *key != new && TIER.iter().any(|t| key.contains(t));
    Some(placement.node_selector.keys().filter(pins).cloned().collect())
}

impl Patch {
    fn yaml(&self) -> Result<String, std::fmt::Error> {
        let mut yaml = String::from("spec:\n");
        if let Some(replicas) = self.replicas {
            writeln!(yaml, "  replicas: {replicas}")?;
        }
        let Some(pod) = &self.pod else {
            return Ok(yaml);
        };
        yaml.push_str("  template:\n    spec:\n      nodeSelector:\n");
        let removed = pod.selector.iter().filter(|(_, v)| v.is_none());
        for (key, value) in removed.chain(pod.selector.iter().filter(|(_, v)| v.is_some())) {
            let value = value.as_deref().map_or("null".into(), quoted);
            writeln!(yaml, "        {key}: {value}")?;
        }
        let mut amounts = String::new();
        let removed = pod.devices.iter().filter(|(_, n)| n.is_none());
        for (resource, count) in removed.chain(pod.devices.iter().filter(|(_, n)| n.is_some())) {
            let count = count.map_or("null".into(), |n| format!("\"{n}\""));
            write!(amounts, "\n              {resource}: {count}")?;
        }
        let mut requests = String::new();
        if let Some(cpu) = pod.cpu {
            write!(requests, "\n              cpu: {}m", cpu.0)?;
        }
        if let Some(memory) = pod.memory {
            write!(requests, "\n              memory: {}Mi", memory.0 >> 20)?;
        }
        write!(
            yaml,
            "      containers:\n        - name: {}\n          resources:\n            limits:{amounts}\n            requests:{requests}{amounts}\n",
            pod.container
        )?;
        Ok(yaml)
    }
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}
