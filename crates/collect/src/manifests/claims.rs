//! Devices that pods ask for by claim (dynamic resource allocation).

use super::around::Around;
use super::kinds::{number, text};
use crate::snapshot::cluster::{Container, ContainerKind, Pod};
use serde_json::Value;

/// What the claims of one template give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Devices {
    /// Whole GPUs, as far as they are counted.
    pub(super) gpus: u64,
    /// As an extended resource they would be these.
    resource: Option<&'static str>,
    /// Why they cannot be counted: all of a node, one of several choices, parts of cards, a class that says nothing.
    pub(super) uncounted: Option<String>,
}

/// Devices of a claim: v1 and v1beta2 nest under `exactly`, v1beta1 is flat; `firstAvailable` is a list of choices.
pub(super) fn devices_of_claim(spec: &Value) -> Devices {
    let requests = spec["devices"]["requests"].as_array().into_iter().flatten();
    let mut all = Devices::default();
    for request in requests {
        let choices = request["firstAvailable"].as_array().map_or(&[][..], Vec::as_slice);
        let one = match choices {
            [] if request["exactly"].is_object() => of_request(&request["exactly"]),
            [] => of_request(request),
            [first, others @ ..] => {
                let one = of_request(first);
                if others.iter().all(|o| of_request(o) == one) {
                    one
                } else {
                    Devices {
                        uncounted: Some("the first that is available of several choices (firstAvailable)".into()),
                        ..Devices::default()
                    }
                }
            }
        };
        all.gpus = all.gpus.saturating_add(one.gpus);
        all.resource = all.resource.or(one.resource);
        all.uncounted = all.uncounted.or(one.uncounted);
    }
    all
}

fn of_request(request: &Value) -> Devices {
    let class = request["deviceClassName"]
        .as_str()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let uncounted = |why: &str| Devices {
        uncounted: Some(why.to_string()),
        ..Devices::default()
    };
    let counted = |gpus: u64| Devices {
        gpus,
        resource: Some(match &class {
            c if c.contains("amd") => "amd.com/gpu",
            c if c.contains("intel") => "gpu.intel.com/i915",
            _ => "nvidia.com/gpu",
        }),
        uncounted: None,
    };
    // Other devices of a pod: network functions, storage, TPUs.
    if [
        "rdma",
        "nic",
        "dranet",
        "sriov",
        "net.",
        "compute-domain",
        "imex",
        "tpu",
        "cpu",
        "memory",
    ]
    .iter()
    .any(|w| class.contains(w))
    {
        return Devices::default();
    }
    if request["adminAccess"] == true {
        return Devices::default();
    }
    if class.contains("mig") {
        return uncounted("MIG devices, whose profile the class or a selector says (deviceClassName)");
    }
    if !class.contains("gpu") {
        return uncounted("devices of a class of which nobody knows here what it gives (deviceClassName)");
    }
    if request["allocationMode"] == "All" {
        return uncounted("all devices of a node (allocationMode: All)");
    }
    if request["capacity"].is_object() {
        return uncounted("parts of devices (capacity)");
    }
    let count = &request["count"];
    match (count.is_null(), number(count)) {
        (true, _) => counted(1),
        (false, Some(gpus)) => counted(gpus),
        (false, None) => uncounted("a number of devices that is not there yet (count)"),
    }
}

/// What of a pod's claims is missing.
pub(super) enum Lack {
    /// An object that the input lacks, as "kind name".
    Object(String),
    /// A claim, and why its devices cannot be counted.
    Number(String, String),
}

/// Claims of templates in the same input become devices, where nothing else says how many GPUs the pod gets.
pub(super) fn claims(pod: &mut Pod, template: &Value, namespace: &str, around: &Around<'_>) -> Option<Lack> {
    if pod.containers.iter().any(|c| !c.requests.devices.is_empty()) {
        return None;
    }
    let mut found = 0_u64;
    let mut resource = None;
    let mut lack = None;
    for claim in template["spec"]["resourceClaims"].as_array().into_iter().flatten() {
        let of = |key: &str| text(&claim[key]);
        let (kind, name) = match (of("resourceClaimTemplateName"), of("resourceClaimName")) {
            (Some(name), _) => ("ResourceClaimTemplate", name),
            (_, Some(name)) => ("ResourceClaim", name),
            _ => continue,
        };
        match around.devices_claimed(namespace, &name) {
            Some(devices) => {
                found = found.saturating_add(devices.gpus);
                resource = resource.or(devices.resource);
                let why = devices.uncounted.map(|why| Lack::Number(format!("{kind} {name}"), why));
                lack = lack.or(why);
            }
            None => lack = lack.or(Some(Lack::Object(format!("{kind} {name}")))),
        }
    }
    // A part that is not counted leaves the whole unknown.
    if found == 0 || lack.is_some() {
        return lack;
    }
    if let Some(at) = position(pod) {
        pod.containers[at]
            .requests
            .devices
            .insert(resource.unwrap_or("nvidia.com/gpu").into(), found);
        pod.resource_claims.clear();
    }
    None
}

/// The container that uses the pod's claims, else the first.
fn position(pod: &Pod) -> Option<usize> {
    let main = |c: &Container| c.kind == ContainerKind::Main;
    let uses = pod.containers.iter().position(|c| main(c) && c.uses_claims);
    uses.or_else(|| pod.containers.iter().position(main))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn devices_of_claims_in_each_api_version() {
        let of = |requests: Value| {
            let devices = devices_of_claim(&json!({"devices": {"requests": requests}}));
            (devices.gpus, devices.uncounted.is_some())
        };
        for (requests, expected) in [
            (
                json!([{"name": "g", "exactly": {"deviceClassName": "gpu.nvidia.com", "count": 2}}]),
                (2, false),
            ),
            (
                json!([{"name": "g", "deviceClassName": "gpu.nvidia.com"}, {"name": "n", "deviceClassName": "rdma"}]),
                (1, false),
            ),
            (
                json!([{"exactly": {"deviceClassName": "gpu.nvidia.com", "allocationMode": "All"}}]),
                (0, true),
            ),
            (
                json!([{"deviceClassName": "gpu.nvidia.com", "allocationMode": "All"}]),
                (0, true),
            ),
            (json!([{"exactly": {"deviceClassName": "mig.nvidia.com"}}]), (0, true)),
            (json!([{"exactly": {"deviceClassName": "h100-nvl"}}]), (0, true)),
            (
                json!([{"exactly": {"deviceClassName": "gpu.nvidia.com", "count": "${N}"}}]),
                (0, true),
            ),
            (
                json!([{"exactly": {"deviceClassName": "gpu.nvidia.com", "capacity": {"requests": {"memory": "10Gi"}}}}]),
                (0, true),
            ),
            (
                json!([{"firstAvailable": [{"deviceClassName": "gpu.nvidia.com", "count": 1}, {"deviceClassName": "gpu.nvidia.com", "count": 2}]}]),
                (0, true),
            ),
            (
                json!([{"firstAvailable": [{"deviceClassName": "gpu.nvidia.com", "count": 2}, {"deviceClassName": "gpu.nvidia.com", "count": 2, "selectors": []}]}]),
                (2, false),
            ),
        ] {
            assert_eq!(of(requests.clone()), expected, "{requests}");
        }
    }
}
