//! What a scheduler says of a pod that it found no node for, as causes: its words name volumes, taints and claims of devices
//! alike.

use crate::snapshot::resources::is_device;

/// One cause of several; a message has one for each way in which nodes were ruled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// "Insufficient nvidia.com/gpu": the nodes' devices are taken.
    Devices,
    /// DRA: "cannot allocate all claims", "resourceclaim not available on the node".
    ResourceClaim,
    /// Volumes, taints, affinity, CPU, quotas of queues: whatever else, known or not.
    Other,
}

/// The causes in a message of kube-scheduler or of one that keeps its words:
/// "0/5 nodes are available: 3 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {…}. preemption: …".
pub(super) fn causes(message: &str) -> Vec<Cause> {
    let plain = without_names(message);
    // What preemption could do is no cause.
    let told = plain.split("preemption:").next().unwrap_or_default();
    let reasons = told.split_once("available:").map_or(told, |(_, reasons)| reasons);
    reasons
        .split([',', ';'])
        .map(|reason| reason.trim().trim_end_matches('.'))
        .filter(|reason| !reason.is_empty())
        .map(cause)
        .collect()
}

fn cause(reason: &str) -> Cause {
    let mut words = reason.split_whitespace();
    if words.any(|w| w.eq_ignore_ascii_case("insufficient")) {
        let short_of_devices = words.next().is_some_and(is_device);
        return if short_of_devices { Cause::Devices } else { Cause::Other };
    }
    let lower = reason.to_ascii_lowercase();
    if lower.contains("resourceclaim") || lower.contains("cannot allocate all claims") {
        Cause::ResourceClaim
    } else {
        Cause::Other
    }
}

/// Objects, taints and labels may be called anything: what stands in quotes or braces says nothing.
fn without_names(message: &str) -> String {
    let (mut quoted, mut depth) = (false, 0_u32);
    let mut plain = String::with_capacity(message.len());
    for c in message.chars() {
        match c {
            '"' => quoted = !quoted,
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if !quoted && depth == 0 => plain.push(c),
            _ => (),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use Cause::{Devices, Other, ResourceClaim};

    #[test]
    fn each_cause_is_told_apart() {
        for (message, expected) in [
            (
                "0/5 nodes are available: 5 Insufficient nvidia.com/gpu.",
                &[Devices][..],
            ),
            (
                "0/5 nodes are available: 1 Insufficient cpu, 2 Insufficient nvidia.com/mig-1g.10gb, 2 node(s) had untolerated taint {nvidia.com/gpu: present}. preemption: 0/5 nodes are available: 2 No preemption victims found for incoming pod, 3 Preemption is not helpful for scheduling.",
                &[Other, Devices, Other],
            ),
            ("0/3 nodes are unavailable: 3 Insufficient amd.com/gpu.", &[Devices]),
            (
                "0/3 nodes are available: 3 cannot allocate all claims.",
                &[ResourceClaim],
            ),
            (
                "0/3 nodes are available: 1 resourceclaim not available on the node, 2 node(s) didn't match Pod's node affinity/selector.",
                &[ResourceClaim, Other],
            ),
            (
                "waiting for dynamic resource controller to create the resourceclaim \"gpu\"",
                &[ResourceClaim],
            ),
            // A volume's claim is no GPU's, whatever it is called.
            (
                "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
                &[Other],
            ),
            (
                "persistentvolumeclaim \"resourceclaim-insufficient nvidia.com/gpu\" not found",
                &[Other],
            ),
            (
                "0/2 nodes are available: 2 node(s) had untolerated taint {nvidia.com/gpu: true}.",
                &[Other],
            ),
            ("0/2 nodes are available: 2 Insufficient rdma/hca.", &[Other]),
            ("", &[]),
        ] {
            assert_eq!(causes(message), expected, "{message}");
        }
    }
}
