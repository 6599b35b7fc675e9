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
    if target.parallelism != plan.parallelism {
        return None;
    }
    let pod = fleet.pod(*workload.replicas.first()?.pods.first()?);
    let container = pod.device_container.as_deref()?;
    let (key, value) = match (&target.selector, &target.quote.rent) {
        (Some(selector), None) => selector.clone(),
        (_, Some(rent)) => ("node.kubernetes.io/instance-type".into(), rent.clone()),
        (None, None) => return None,
    };
    let mut text = String::from("  template:\n    spec:\n      nodeSelector:\n");
    for old in keys_in_the_way(pod, &key)? {
        writeln!(text, "        {old}: null").ok()?;
    }
    writeln!(text, "        {key}: {}", quoted(&value)).ok()?;
    let count = target.parallelism.gpus();
    let resource = &target.resource;
    write!(
        text,
        "      containers:\n        - name: {container}\n          resources:\n            limits:\n              {resource}: \"{count}\"\n            requests:\n              {resource}: \"{count}\"\n"
    )
    .ok()?;
    // Other kinds of devices would be asked for as well.
    let same = pod.devices.keys().all(|d| d == resource);
    same.then_some(text)
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
