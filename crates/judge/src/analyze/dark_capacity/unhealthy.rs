//! GPUs that nobody can use: lost, tainted, or on nodes that are not Ready or cordoned.

use super::{ID, PoolKey, age, gpus_weighted, pool_key, weight};
use crate::analyze::Outcome;
use crate::analyze::finding::{ClaimRank, Confidence, Evidence, Finding, Fix};
use crate::analyze::support::{self, Judged, span};
use crate::fleet::state::Reason;
use crate::fleet::{Fleet, SlotId, SlotState};
use crate::settings::Thresholds;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn unhealthy(fleet: &Fleet, t: &Thresholds, out: &mut Outcome) {
    let mut pools: BTreeMap<(PoolKey, &'static str), Vec<SlotId>> = BTreeMap::new();
    for (index, slot) in fleet.slots.iter().enumerate() {
        let node = fleet.node(slot.node);
        if slot.state != SlotState::Unhealthy || node.being_removed {
            continue;
        }
        if !fleet.clusters[node.cluster].pods_known {
            // R2: the spend of GPUs whose holders are invisible is not counted, nor is its waste.
            out.not_assessed(
                "pods of all namespaces could not be read: somebody unseen may hold it",
                "grant what 'gpuwaste rbac' prints",
                [SlotId(index)],
            );
            continue;
        }
        let young = age(fleet.taken_at, node.created_at).is_none_or(|a| a < t.node_grace_seconds as f64);
        let since = age(fleet.taken_at, slot.since);
        let (why, fires) = match slot.reason {
            Reason::NodeNotReady => ("node not ready", since.is_some_and(|s| s >= t.unhealthy_seconds as f64)),
            Reason::Cordoned => ("node cordoned", since.is_some_and(|s| s >= t.cordon_seconds as f64)),
            Reason::Tainted => (
                "device tainted by its driver",
                since.map_or(!young, |s| s >= t.unhealthy_seconds as f64),
            ),
            _ => ("device lost", !young),
        };
        if fires && !young {
            pools.entry((pool_key(node), why)).or_default().push(SlotId(index));
        } else if since.is_none() && !matches!(slot.reason, Reason::LostDevice | Reason::Tainted) {
            out.not_assessed(
                "since when a node is unhealthy is not told",
                "scan again later, or look at the node's conditions",
                [SlotId(index)],
            );
        }
    }
    for ((_, why), slots) in pools {
        let node = fleet.node(fleet.slot(slots[0]).node);
        let since = slots
            .iter()
            .filter_map(|s| age(fleet.taken_at, fleet.slot(*s).since))
            .fold(0.0, f64::max);
        let mut judged = if since > 0.0 {
            Judged::measured("the API tells since when")
        } else {
            Judged::at(
                Confidence::Estimated,
                "the API does not tell since when a device is missing",
            )
        };
        judged.cap_by_price(fleet, &slots);
        let mut evidence = vec![
            Evidence::text("cause", why, "kubernetes"),
            Evidence::number("unhealthy_gpus", weight(fleet, &slots), "gpus", "kubernetes").expected(0.0),
        ];
        if since > 0.0 {
            evidence.push(Evidence::number("longest", since, "seconds", "kubernetes"));
        }
        let names: BTreeSet<&str> = slots
            .iter()
            .map(|s| fleet.node(fleet.slot(*s).node).name.as_str())
            .collect();
        let lasting = if since > 0.0 {
            format!(" for {}", span(since))
        } else {
            String::new()
        };
        out.findings.push(Finding {
            title: format!(
                "{} of {} unusable, {why}{lasting}",
                gpus_weighted(fleet, &slots),
                node.gpu_name
            ),
            evidence,
            claims: support::claims(fleet, &slots, false),
            fix: Fix::told(format!(
                "Repair or replace {}: the nodes are paid for while nothing can run there.",
                names.into_iter().collect::<Vec<_>>().join(", ")
            )),
            ..judged.recoverable(ID, "unhealthy", ClaimRank::Unhealthy, support::of_pool(fleet, node))
        });
    }
}
