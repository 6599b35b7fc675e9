//! GPUs that compute although nobody holds them: work outside of the scheduler. No dollars, and nothing to remove: the
//! scheduler may give them to somebody else at any time.

use super::{ID, PoolKey, gpus_weighted, node_names, pool_key, weight, witnesses};
use crate::analyze::Outcome;
use crate::analyze::finding::{ClaimRank, Evidence, Finding, FindingKind, Fix};
use crate::analyze::support::{self, Judged, span};
use crate::fleet::state::Reason;
use crate::fleet::witness::Verdict;
use crate::fleet::{Fleet, SlotId};
use crate::units::Confidence;
use std::collections::BTreeMap;

pub(super) fn unmanaged(fleet: &Fleet, out: &mut Outcome) {
    let mut pools: BTreeMap<PoolKey, Vec<SlotId>> = BTreeMap::new();
    for (index, slot) in fleet.slots.iter().enumerate() {
        if slot.reason == Reason::Unmanaged {
            pools
                .entry(pool_key(fleet, SlotId(index)))
                .or_default()
                .push(SlotId(index));
        }
    }
    for slots in pools.into_values() {
        let node = fleet.node(fleet.slot(slots[0]).node);
        let seconds = slots
            .iter()
            .flat_map(|s| fleet.slot(*s).facts.works.says.iter().filter(|w| w.says))
            .map(|w| w.seconds)
            .fold(0.0, f64::max);
        let agreed = slots.iter().all(|s| {
            let works = &fleet.slot(*s).facts.works;
            works.claimed() && works.verdict() == Verdict::Agreed
        });
        let judged = if agreed {
            Judged::measured("live samples and history show that something computes there")
        } else {
            Judged::at(Confidence::Estimated, "one source shows that something computes there")
        };
        let lasting = if seconds >= 3600.0 {
            format!(" for {}", span(seconds))
        } else {
            String::new()
        };
        let mut evidence =
            vec![Evidence::number("unmanaged_gpus", weight(fleet, &slots), "gpus", "exporter").expected(0.0)];
        if seconds > 0.0 {
            evidence.push(Evidence::number("seen_for", seconds, "seconds", "exporter"));
        }
        evidence.extend(witnesses(fleet, &slots));
        let mut finding = Finding {
            title: format!(
                "{} of {} at work{lasting} that no pod holds",
                gpus_weighted(fleet, &slots),
                fleet.gpu_name(slots[0])
            ),
            evidence,
            fix: Fix::told(format!(
                "Look at the processes on {}: something uses the GPUs outside of the scheduler, which will hand them out again. \
                 Give it a pod, or keep the GPUs from the scheduler (a taint).",
                node_names(fleet, &slots)
            )),
            ..judged.recoverable(ID, "unmanaged", ClaimRank::None, support::of_pool(fleet, node))
        };
        finding.kind = FindingKind::AtRisk;
        out.findings.push(finding);
    }
}
