//! The plan as a patch that `kubectl patch` takes: only where it can be written exactly.

use super::{Plan, Target};
use crate::fleet::{Fleet, Pod, Workload};
use std::fmt::Write;

/// A strategic-merge patch for a Deployment or StatefulSet; `None` where it would be incomplete: a changed tensor
/// parallelism is one argument among others, and a list of arguments is replaced as a whole.
pub(in crate::analyze) fn of_plan(fleet: &Fleet, workload: &Workload, plan: &Plan) -> Option<String> {
    if !matches!(workload.kind.as_str(), "Deployment" | "StatefulSet") {
        return None;
    }
    let fewer = !plan.leave.is_empty();
    let mut yaml = String::from("spec:\n");
    if fewer {
        // An autoscaler would undo a number of replicas written beside it.
        if workload.autoscaler_min.is_some() {
            return None;
        }
        writeln!(yaml, "  replicas: {}", plan.stay.len()).ok()?;
    }
    if let Ok(Some(target)) = &plan.target {
        yaml.push_str(&template(fleet, workload, plan, target)?);
    } else if !fewer {
        return None;
    }
    Some(yaml)
}

fn template(fleet: &Fleet, workload: &Workload, plan: &Plan, target: &Target) -> Option<String> {
    // What no node hands out would leave the pod Pending.
    if target.parallelism != plan.parallelism || !target.offered {
        return None;
    }
    let pod = fleet.pod(*workload.replicas.first()?.pods.first()?);
    let container = pod.device_container.as_deref()?;
    let (key, value) = match (&target.selector, &target.quote.rent) {
        (Some(selector), None) => selector.clone(),
        (_, Some(rent)) => ("node.kubernetes.io/instance-type".into(), rent.clone()),
        (None, None) => return None,
    };
    // Instances that are handed out as GPUs are told from them by the product's label alone.
    if target.gpu.instance.is_some() && target.resource == "nvidia.com/gpu" && key != "nvidia.com/gpu.product" {
        return None;
    }
    let mut text = String::from("  template:\n    spec:\n      nodeSelector:\n");
    for old in keys_in_the_way(pod, &key)? {
        writeln!(text, "        {old}: null").ok()?;
    }
    writeln!(text, "        {key}: {}", quoted(&value)).ok()?;
    let count = target.parallelism.gpus();
    let resource = &target.resource;
    let mut amounts = String::new();
    for old in pod.devices.keys().filter(|d| *d != resource) {
        // Other kinds of devices would be asked for as well; the present card or instance is given up.
        if !is_gpu(old) || !is_gpu(resource) {
            return None;
        }
        write!(amounts, "\n              {old}: null").ok()?;
    }
    write!(amounts, "\n              {resource}: \"{count}\"").ok()?;
    write!(
        text,
        "      containers:\n        - name: {container}\n          resources:\n            limits:{amounts}\n            requests:{amounts}\n"
    )
    .ok()?;
    // Claims name their devices elsewhere.
    (!pod.claims).then_some(text)
}

/// Handed out by NVIDIA's device plugin, as a card or an instance of one.
fn is_gpu(resource: &str) -> bool {
    resource == "nvidia.com/gpu" || resource.starts_with("nvidia.com/mig-")
}

/// Selectors that pin the pod to its present tier must go. `None`: affinity does it, which a merge cannot undo.
fn keys_in_the_way<'a>(pod: &'a Pod, new: &str) -> Option<Vec<&'a str>> {
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
    let pins = |key: &&str| *key != new && TIER.iter().any(|t| key.contains(t));
    Some(
        placement
            .node_selector
            .keys()
            .map(String::as_str)
            .filter(pins)
            .collect(),
    )
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}
