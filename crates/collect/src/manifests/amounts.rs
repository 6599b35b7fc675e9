//! Amounts of devices as containers ask for them: what cannot be counted, what is a share, what the API server refuses, and
//! what a container hides from itself.

use super::count::shown;
use super::kinds::text;
use crate::engine;
use crate::kube::quantity;
use crate::snapshot::cluster::{ContainerRole, Pod};
use crate::snapshot::resources::is_device;
use serde_json::Value;

/// Something about a pod's devices that its report has to say.
pub(super) struct Remark {
    pub(super) what: String,
    pub(super) reason: String,
    pub(super) effect: &'static str,
    pub(super) remedy: &'static str,
    /// How many GPUs the pod gets nobody can tell.
    pub(super) uncounted: bool,
}

const NOT_COUNTED: &str = "its GPUs are unknown, and so is what they cost";

/// The containers of a pod template, each with the key under which it stands.
fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| template["spec"][list].as_array().into_iter().flatten())
}

fn amounts<'c>(container: &'c Value, kind: &str) -> impl Iterator<Item = (&'c String, &'c Value)> {
    container["resources"][kind].as_object().into_iter().flatten()
}

/// Everything that is to be said of the devices of a pod.
pub(super) fn remarks(template: &Value, pod: &Pod) -> Vec<Remark> {
    let mut all = Vec::new();
    for container in containers(template) {
        all.extend(uncountable(container));
        all.extend(refused(container));
        all.extend(hidden(container));
    }
    all.extend(shares(template));
    all.extend(unasked(template, pod));
    all
}

/// Amounts that are no number yet, or no whole one; resources whose name is to be filled in.
fn uncountable(container: &Value) -> Option<Remark> {
    let remark = |what: String, reason: String| {
        Some(Remark {
            what,
            reason,
            effect: NOT_COUNTED,
            remedy: "check the manifest as it is rendered",
            uncounted: true,
        })
    };
    for (resource, amount) in amounts(container, "limits").chain(amounts(container, "requests")) {
        if let Some(placeholder) = engine::placeholder_in(resource) {
            return remark(
                "a resource whose name is a placeholder".into(),
                format!("its name is {placeholder}"),
            );
        }
        if !is_device(resource) {
            continue;
        }
        let written = text(amount);
        match written.as_deref().map(quantity::parse) {
            // "0.5": a device is whole.
            Some(Some(_)) if written.as_deref().and_then(quantity::count).is_some() => {}
            Some(Some(number)) if number.fract() == 0.0 => {
                return remark(resource.clone(), "the amount is more than any node has".into());
            }
            Some(Some(_)) => {
                return remark(
                    resource.clone(),
                    "it asks for a part of a device: only whole ones can be asked for".into(),
                );
            }
            Some(None) if is_negative(written.as_deref()) => {
                return remark(
                    resource.clone(),
                    format!(
                        "the amount is {}, below 0",
                        written.as_deref().unwrap_or_default().trim()
                    ),
                );
            }
            Some(None) => return remark(resource.clone(), format!("the amount is {}", shown(amount))),
            None if amount.is_null() => {}
            None => return remark(resource.clone(), "the amount is no number".into()),
        }
    }
    None
}

/// "-1", "-2k": a number, and none that can be asked for.
fn is_negative(written: Option<&str>) -> bool {
    let of = written.and_then(|t| t.trim().strip_prefix('-'));
    of.is_some_and(|rest| quantity::parse(rest).is_some())
}

/// An extended resource has a limit, and its request, where there is one, is the same (Kubernetes, "Extended resources").
fn refused(container: &Value) -> Option<Remark> {
    let limit = |resource: &str| {
        amounts(container, "limits")
            .find(|(r, _)| *r == resource)
            .map(|(_, v)| v)
    };
    let (resource, reason) =
        amounts(container, "requests")
            .filter(|(r, _)| is_device(r))
            .find_map(|(resource, amount)| {
                let count = |v: &Value| text(v).and_then(|t| quantity::count(&t));
                match limit(resource) {
                    None => Some((
                        resource,
                        "it is requested without a limit: the API server wants an equal limit, and refuses the pod",
                    )),
                    Some(limit)
                        if count(limit) != count(amount) && count(limit).is_some() && count(amount).is_some() =>
                    {
                        Some((
                            resource,
                            "request and limit differ: the API server wants an equal limit, and refuses the pod",
                        ))
                    }
                    Some(_) => None,
                }
            })?;
    Some(Remark {
        what: resource.clone(),
        reason: reason.into(),
        effect: "it would not start as it is written; its GPUs are counted as requested",
        remedy: "set the same number under resources.limits",
        uncounted: false,
    })
}

/// Accelerators of their own schedulers: parts of cards, by memory, cores or percent. Names of what they ask for.
const PARTS: &[&str] = &[
    "nvidia.com/gpumem",
    "nvidia.com/gpucores",
    "nvidia.com/vgpu",
    "nvidia.com/gpu.shared",
    "nvidia.com/grid",
    "volcano.sh/vgpu",
    "volcano.sh/gpu-memory",
    "aliyun.com/gpu",
    "tencent.com/vcuda",
    "elasticgpu.io/",
    "hygon.com/dcu",
    "run.ai/gpu",
    "koordinator.sh/gpu",
    "tke.cloud.tencent.com/qgpu",
    "k8s.amazonaws.com/vgpu",
    "alibabacloud.com/gpu",
    "baidu.com/cgpu",
    "iluvatar.ai/vcuda",
];

/// Annotations by which schedulers cut cards (KAI, run:ai).
const PART_ANNOTATIONS: &[&str] = &["gpu-fraction", "gpu-memory", "gpu-fraction-num-devices"];

/// Node labels under which a card is handed out several times (GKE's time-sharing and MPS).
const SHARED_NODES: &[&str] = &[
    "cloud.google.com/gke-gpu-sharing-strategy",
    "cloud.google.com/gke-max-shared-clients-per-gpu",
];

/// Shares of cards: how much of one they are only their scheduler says.
fn shares(template: &Value) -> Option<Remark> {
    let remark = |what: String| Remark {
        what,
        reason: "it asks for shares of GPUs, of which only their scheduler knows how much of a card each is".into(),
        effect: "its GPUs are not counted as whole cards, and no model is sized against a share: both are unknown",
        remedy: "check it by hand",
        uncounted: true,
    };
    let of_resource = containers(template)
        .flat_map(|c| amounts(c, "limits").chain(amounts(c, "requests")))
        .map(|(resource, _)| resource)
        .find(|r| PARTS.iter().any(|p| r.to_ascii_lowercase().starts_with(p)));
    if let Some(resource) = of_resource {
        return Some(remark(resource.clone()));
    }
    let annotations = &template["metadata"]["annotations"];
    let by_annotation = PART_ANNOTATIONS.iter().find(|a| !annotations[**a].is_null());
    if let Some(annotation) = by_annotation {
        return Some(remark(format!("annotation {annotation}")));
    }
    let shared = wanted_labels(template).find(|(label, value)| is_shared(label, value));
    shared.map(|(label, _)| remark(format!("node label {label}")))
}

/// Labels of the nodes that a template asks for, with their value: by its selector, and of required affinity what names one.
fn wanted_labels(template: &Value) -> impl Iterator<Item = (&str, &str)> {
    let spec = &template["spec"];
    let selected = spec["nodeSelector"].as_object().into_iter().flatten();
    let terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        .as_array();
    let expressions = terms
        .into_iter()
        .flatten()
        .flat_map(|t| t["matchExpressions"].as_array().into_iter().flatten())
        .filter(|e| matches!(e["operator"].as_str(), Some("In" | "Exists")));
    let named = expressions.filter_map(|e| {
        let values = e["values"].as_array().map_or(&[][..], Vec::as_slice);
        Some((
            e["key"].as_str()?,
            values.first().and_then(Value::as_str).unwrap_or_default(),
        ))
    });
    selected
        .filter_map(|(label, value)| Some((label.as_str(), value.as_str()?)))
        .chain(named)
}

/// GPU Feature Discovery's labels of nodes whose device plugin hands out each card several times: "-SHARED" behind the product,
/// the strategy, the number of replicas.
fn is_shared(label: &str, value: &str) -> bool {
    match label {
        "nvidia.com/gpu.product" => value.ends_with("-SHARED"),
        "nvidia.com/gpu.sharing-strategy" => matches!(value, "time-slicing" | "mps"),
        "nvidia.com/gpu.replicas" => value.parse().is_ok_and(|n: u64| n > 1),
        _ => SHARED_NODES.contains(&label),
    }
}

/// Variables that say which of its GPUs a process sees.
const VISIBLE: &[&str] = &[
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
];

/// Devices that a container gets and hides from what runs in it.
fn hidden(container: &Value) -> Option<Remark> {
    let held: u64 = amounts(container, "limits")
        .filter(|(resource, _)| matches!(resource.as_str(), "nvidia.com/gpu" | "amd.com/gpu"))
        .filter_map(|(_, amount)| quantity::count(&text(amount)?))
        .sum();
    if held == 0 {
        return None;
    }
    let by_variable = VISIBLE.iter().find_map(|name| {
        let variables = container["env"].as_array().into_iter().flatten();
        let own = variables.rev().find(|v| v["name"] == *name)?;
        Some((*name, seen(own["value"].as_str()?, held)?))
    });
    let (name, visible) = by_variable.or_else(|| in_words(container, held))?;
    (visible < held).then(|| Remark {
        what: format!("{name} shows it {visible} of its {held} GPUs"),
        reason: "what the variable leaves out is hidden from every process of the container".into(),
        effect: "the other GPUs are visible to nothing and can never be used; a server whose parallelism needs more than it sees does not start",
        remedy: "leave the variable out (a container sees the GPUs that it asks for, and no others), or ask for as many as it names",
        uncounted: false,
    })
}

/// Devices that such a value names; `None`: all of them, or what only the node knows.
fn seen(value: &str, held: u64) -> Option<u64> {
    let value = value.trim();
    if value == "all" || engine::has_placeholder(value) {
        return None;
    }
    if matches!(value, "" | "none" | "void" | "NoDevFiles" | "-1") {
        return Some(0);
    }
    // What comes behind a device that is not there is not seen either.
    let there = |word: &&str| word.parse::<u64>().map_or(!word.starts_with('-'), |n| n < held);
    let mut named: Vec<&str> = value.split(',').map(str::trim).take_while(there).collect();
    named.sort_unstable();
    named.dedup();
    Some(named.len() as u64)
}

/// The same of a script: all that its words name together, where each of them is plain.
fn in_words(container: &Value, held: u64) -> Option<(&'static str, u64)> {
    let words = ["command", "args"]
        .iter()
        .flat_map(|k| container[*k].as_array().into_iter().flatten());
    let text: String = words.filter_map(Value::as_str).flat_map(|w| [w, "\n"]).collect();
    VISIBLE.iter().find_map(|name| {
        let mut named: Vec<u64> = Vec::new();
        let assigned = format!("{name}=");
        let mut parts = text.split(assigned.as_str()).skip(1).peekable();
        parts.peek()?;
        for part in parts {
            let end = part
                .find(|c: char| !c.is_ascii_digit() && c != ',')
                .unwrap_or(part.len());
            let list = &part[..end];
            let ends = part[end..]
                .chars()
                .next()
                .is_none_or(|c| c.is_whitespace() || ";&|\"'".contains(c));
            if list.is_empty() || !ends {
                return None;
            }
            named.extend(
                list.split(',')
                    .filter_map(|n| n.parse::<u64>().ok())
                    .filter(|n| *n < held),
            );
        }
        named.sort_unstable();
        named.dedup();
        Some((*name, named.len() as u64))
    })
}

/// GPUs that a pod takes without asking: the runtime shows them to every container that names them.
fn unasked(template: &Value, pod: &Pod) -> Option<Remark> {
    let asks = pod
        .containers
        .iter()
        .any(|c| c.has_devices() || !c.requests.devices.is_empty());
    let infrastructure = pod
        .containers
        .iter()
        .any(|c| c.role == Some(ContainerRole::GpuInfrastructure));
    if asks || infrastructure || !pod.resource_claims.is_empty() {
        return None;
    }
    let takes = |container: &&Value| {
        let variables = container["env"].as_array().into_iter().flatten();
        let value = variables
            .rev()
            .find(|v| v["name"] == "NVIDIA_VISIBLE_DEVICES")
            .and_then(|v| v["value"].as_str());
        value.is_some_and(|v| !matches!(v, "" | "none" | "void"))
    };
    containers(template).any(|c| takes(&c)).then(|| Remark {
        what: "NVIDIA_VISIBLE_DEVICES without a GPU request".into(),
        reason: "the container runtime shows it GPUs that it does not ask for".into(),
        effect: "it uses GPUs that the scheduler hands to others too; they are not in the report",
        remedy: "ask for the GPUs under resources.limits, and leave the variable out",
        uncounted: false,
    })
}

/// Accelerators and shares that nothing here can size or price.
pub(super) fn not_judged(resource: &str) -> Option<&'static str> {
    let starts = |prefix: &str| resource.starts_with(prefix);
    if starts("google.com/tpu") || starts("cloud-tpus.google.com/") {
        Some("TPUs are no GPUs: they are not judged")
    } else if starts("habana.ai/") {
        Some("Gaudi accelerators are not judged: no engine's memory need on them is known here")
    } else if starts("aws.amazon.com/neuron") {
        Some("Inferentia and Trainium accelerators are not judged")
    } else if starts("nvidia.com/") || starts("amd.com/") || starts("gpu.intel.com/") {
        None
    } else {
        Some("accelerators of this vendor are not judged")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(container: &Value) -> Vec<(String, bool)> {
        let template = json!({"spec": {"containers": [container]}});
        let pod = Pod::default();
        let all = remarks(&template, &pod).into_iter();
        all.map(|r| (r.what, r.uncounted)).collect()
    }

    #[test]
    fn amounts_that_nobody_can_count() {
        for (resources, what) in [
            (json!({"limits": {"nvidia.com/gpu": "${GPUS}"}}), "nvidia.com/gpu"),
            (json!({"limits": {"nvidia.com/gpu": "<n>"}}), "nvidia.com/gpu"),
            (json!({"limits": {"nvidia.com/gpu": "0.5"}}), "nvidia.com/gpu"),
            (json!({"limits": {"nvidia.com/gpu": {"n": null}}}), "nvidia.com/gpu"),
            (
                json!({"limits": {"${GPU_RESOURCE}": "1"}}),
                "a resource whose name is a placeholder",
            ),
            (
                json!({"limits": {"nvidia.com/gpu": "2", "nvidia.com/gpumem-percentage": "30"}}),
                "nvidia.com/gpumem-percentage",
            ),
            (
                json!({"limits": {"nvidia.com/gpu.shared": "1"}}),
                "nvidia.com/gpu.shared",
            ),
            (
                json!({"limits": {"nvidia.com/GRID_T4-1Q": "1"}}),
                "nvidia.com/GRID_T4-1Q",
            ),
            (json!({"limits": {"aliyun.com/gpu-mem": "4"}}), "aliyun.com/gpu-mem"),
        ] {
            assert_eq!(
                said(&json!({"resources": resources})),
                [(what.to_string(), true)],
                "{resources}"
            );
        }
        assert_eq!(
            said(&json!({"resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "${CPU}"}}})),
            []
        );
        let shared = json!({"metadata": {"annotations": {"gpu-fraction": "0.5"}}, "spec": {"containers": [{}]}});
        assert!(remarks(&shared, &Pod::default())[0].uncounted);
        let node = json!({"spec": {"nodeSelector": {"cloud.google.com/gke-gpu-sharing-strategy": "time-sharing"}, "containers": [{}]}});
        assert!(remarks(&node, &Pod::default())[0].uncounted);
    }

    #[test]
    fn what_the_api_server_refuses_is_said() {
        let of = |resources: Value| said(&json!({"resources": resources})).len();
        assert_eq!(of(json!({"requests": {"nvidia.com/gpu": "4"}})), 1);
        assert_eq!(
            of(json!({"requests": {"nvidia.com/gpu": "2"}, "limits": {"nvidia.com/gpu": "4"}})),
            1
        );
        assert_eq!(
            of(json!({"requests": {"nvidia.com/gpu": "4"}, "limits": {"nvidia.com/gpu": "4"}})),
            0
        );
        assert_eq!(of(json!({"limits": {"nvidia.com/gpu": "4"}})), 0);
        assert_eq!(of(json!({"requests": {"cpu": "4"}})), 0);
    }

    #[test]
    fn devices_that_a_container_hides_from_itself() {
        let of = |name: &str, value: &str| {
            let env = json!([{"name": name, "value": value}]);
            said(&json!({"env": env, "resources": {"limits": {"nvidia.com/gpu": "2"}}}))
                .first()
                .map(|(what, _)| what.clone())
        };
        for (value, seen) in [
            ("0", Some(1)),
            ("0,1", None),
            ("0,5", Some(1)),
            ("all", None),
            ("", Some(0)),
            ("none", Some(0)),
            ("-1", Some(0)),
            ("GPU-1,GPU-2", None),
            ("${GPUS}", None),
        ] {
            let expected = seen.map(|n: u64| format!("CUDA_VISIBLE_DEVICES shows it {n} of its 2 GPUs"));
            assert_eq!(of("CUDA_VISIBLE_DEVICES", value), expected, "{value}");
        }
        assert!(of("HIP_VISIBLE_DEVICES", "1").is_some() && of("OTHER", "1").is_none());
        let script =
            |text: &str| said(&json!({"args": [text], "resources": {"limits": {"nvidia.com/gpu": "4"}}})).len();
        assert_eq!(script("export CUDA_VISIBLE_DEVICES=0,1; vllm serve m"), 1);
        assert_eq!(script("CUDA_VISIBLE_DEVICES=0,1 a & CUDA_VISIBLE_DEVICES=2,3 b"), 0);
        assert_eq!(script("CUDA_VISIBLE_DEVICES=$i a"), 0);
    }

    #[test]
    fn gpus_that_are_taken_without_asking() {
        let taken = |value: &str| said(&json!({"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": value}]})).len();
        assert_eq!((taken("all"), taken("0"), taken("void"), taken("none")), (1, 1, 0, 0));
    }
}
