//! dark-capacity: GPUs that are paid for and do nothing.

mod idle;
mod stuck;
mod unallocated;
mod unhealthy;

use super::support::gpus;
use super::{Check, Context, Outcome, explain};
use crate::fleet::state::Reason;
use crate::fleet::{Fleet, Node, SlotId, SlotState, WorkloadClass};
use jiff::Timestamp;
use std::collections::BTreeSet;

pub(crate) struct DarkCapacity;

const ID: &str = "dark-capacity";

impl Check for DarkCapacity {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "GPUs that are paid for and do nothing: free, broken, held by something stuck, or held by something idle."
    }

    fn explain(&self) -> &'static str {
        explain::DARK_CAPACITY
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[Some("unallocated"), Some("unhealthy"), Some("stuck"), Some("idle")]
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        let t = &context.settings.thresholds;
        unallocated::unallocated(fleet, t, out);
        unhealthy::unhealthy(fleet, t, out);
        stuck::stuck(context, out);
        idle::idle(fleet, t, out);
        coverage(fleet, out);
    }
}

fn age(at: Timestamp, since: Option<Timestamp>) -> Option<f64> {
    since.map(|s| at.duration_since(s).as_secs_f64())
}

/// Pool-level findings: nodes come and go, pools stay.
type PoolKey = (usize, String, String);

fn pool_key(node: &Node) -> PoolKey {
    (
        node.cluster,
        if node.pool.is_empty() {
            node.instance_type.clone().unwrap_or_default()
        } else {
            node.pool.clone()
        },
        node.gpu_name.clone(),
    )
}

fn weight(fleet: &Fleet, slots: &[SlotId]) -> f64 {
    slots.iter().map(|s| fleet.slot(*s).weight).sum::<u64>() as f64 / crate::fleet::WHOLE_GPU as f64
}

fn gpus_weighted(fleet: &Fleet, slots: &[SlotId]) -> String {
    let whole = weight(fleet, slots);
    if whole.fract() == 0.0 {
        gpus(whole as usize)
    } else {
        format!("{whole:.2} GPUs")
    }
}

/// Every slot is either judged, or not with the reason.
fn coverage(fleet: &Fleet, out: &mut Outcome) {
    let left_out: BTreeSet<SlotId> = out.not_assessed.iter().flat_map(|n| n.slots.iter().copied()).collect();
    for (index, slot) in fleet.slots.iter().enumerate() {
        let id = SlotId(index);
        if left_out.contains(&id) {
            continue;
        }
        if slot.state != SlotState::Unknown {
            out.assessed.push(id);
            continue;
        }
        let class = slot
            .holders
            .first()
            .and_then(|p| fleet.pod(*p).workload)
            .map(|w| fleet.workload(w).class);
        let (reason, remedy) = match (slot.reason, class) {
            (Reason::HoldersInvisible, _) => (
                "pods of all namespaces could not be read: somebody unseen may hold it",
                "grant what 'gpuwaste rbac' prints",
            ),
            (Reason::NodeUnread, _) => (
                "nodes could not be read: others may share the GPU, and what it costs is unknown",
                "grant what 'gpuwaste rbac' prints",
            ),
            (Reason::ClaimsInvisible, _) => (
                "resource claims could not be listed: one of them may hold it",
                "grant what 'gpuwaste rbac' prints",
            ),
            (Reason::CustomSharing, _) => (
                "GPUs are handed out by DRA claims or a sharing layer whose holders cannot be told",
                "read its exporter through Prometheus",
            ),
            (Reason::SharerUnknown, _) => (
                "which of its node's shared cards it is on is not told, and another pod on them works",
                "let a GPU exporter that names pods be scraped (pods/proxy), or give Prometheus",
            ),
            (Reason::Unread, _) => (
                "its node or its pod is not told of as the API tells it: parts are missing or impossible",
                "look at what stands between you and the API server",
            ),
            (Reason::Starting, _) => (
                "its pod is not Ready, but within the time that starting may take",
                "scan again in an hour",
            ),
            (Reason::Contradicted, _) => (
                "counters say idle, but the device draws power or computes",
                "look at what runs there besides the server",
            ),
            (_, Some(WorkloadClass::Server)) => (
                "what the server did could not be read for long enough",
                "grant pods/proxy ('gpuwaste rbac --with scrape --namespace NS')",
            ),
            (_, Some(_)) => (
                "a notebook, job or unknown pod can be called idle only by a day of GPU history",
                "give Prometheus with DCGM metrics",
            ),
            (_, None) => ("its holder is not known", "scan again"),
        };
        out.not_assessed(reason, remedy, [id]);
    }
}
