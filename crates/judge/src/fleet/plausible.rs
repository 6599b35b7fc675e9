//! What the node's own card allows: a figure beyond it is no witness. What no card could reach is gone before (the engine
//! crate's `plausible`); the limits are the same.

use super::{Fleet, GpuActivity, SlotId};
use crate::catalog::gpus::GpuFacts;
use crate::engine::metrics::plausible::card_of;
use crate::snapshot::Gap;
use crate::snapshot::figure::Figure;
use gpuwaste_facts::limits::{self, Quantity};
use gpuwaste_facts::text::plural;
use std::collections::BTreeMap;

/// Drops what cannot be from every slot and device.
pub(super) fn keep(fleet: &mut Fleet) {
    let mut dropped: BTreeMap<(usize, &'static str), (u64, f64)> = BTreeMap::new();
    for index in 0..fleet.slots.len() {
        let id = SlotId(index);
        let whole = fleet.slots[index].mig_profile.is_none();
        let gpu = fleet.gpu_of(id).filter(|_| whole);
        let cluster = fleet.node(fleet.slots[index].node).cluster;
        let slot = &mut fleet.slots[index];
        let readings = slot.activity.as_mut().into_iter().chain(slot.live.as_deref_mut());
        for (what, value) in readings.flat_map(|a| impossible(a, gpu)) {
            let entry = dropped.entry((cluster, what)).or_default();
            *entry = (entry.0 + 1, entry.1.max(value));
        }
    }
    for node in &mut fleet.nodes {
        let gpu = node.gpu;
        for device in &mut node.devices {
            // The slots' copies are counted above.
            impossible(&mut device.activity, gpu);
        }
    }
    for ((cluster, what), (count, most)) in dropped {
        fleet.gaps.push(Gap {
            source: format!("cluster {}", fleet.clusters[cluster].name),
            what: format!("{what} of {}", plural(count, "GPU")),
            reason: format!("it reads up to {most:.0}, which no such card can reach"),
            effect: "these figures are dropped: they say nothing of work or rest".into(),
            remedy: "look at the exporter's unit and version".into(),
        });
    }
}

/// Takes impossible figures out; what they were.
fn impossible(activity: &mut GpuActivity, gpu: Option<&GpuFacts>) -> Vec<(&'static str, f64)> {
    let mut found = Vec::new();
    let mut check = |what: &'static str, stat: &mut Option<Figure>, limit: f64| {
        let Some(s) = stat.as_ref() else { return };
        let values = [s.mean, s.p50, s.p95, s.p99, s.max];
        let most = values.into_iter().flatten().fold(f64::NEG_INFINITY, f64::max);
        let least = values.into_iter().flatten().fold(f64::INFINITY, f64::min);
        if most > limit || least < 0.0 {
            found.push((what, most));
            *stat = None;
        }
    };
    let card = card_of(gpu);
    let most = |quantity| limits::most(quantity, &card);
    check("power in watts", &mut activity.power_watts, most(Quantity::Power));
    check(
        "memory used, in bytes,",
        &mut activity.memory_used,
        most(Quantity::DeviceMemory),
    );
    for stat in [
        &mut activity.engine_active,
        &mut activity.gpu_util,
        &mut activity.busy,
        &mut activity.tensor,
        &mut activity.dram,
    ] {
        check("utilization", stat, most(Quantity::Share));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::gpus;

    #[test]
    fn what_no_card_can_reach_is_dropped() {
        let of = |watts: f64, busy: f64, bytes: f64| {
            let stat = |v| {
                Some(Figure {
                    mean: Some(v),
                    ..Figure::default()
                })
            };
            let mut activity = GpuActivity {
                power_watts: stat(watts),
                busy: stat(busy),
                memory_used: stat(bytes),
                ..GpuActivity::default()
            };
            let found = impossible(&mut activity, gpus::find("H100-SXM5-80GB"));
            (
                found.len(),
                activity.power_watts.is_some(),
                activity.busy.is_some(),
                activity.memory_used.is_some(),
            )
        };
        assert_eq!(of(700.0, 1.0, 8e10), (0, true, true, true));
        assert_eq!(of(675_928.0, 1.0, 8e10), (1, false, true, true));
        assert_eq!(of(700.0, 97.0, 8e10), (1, true, false, true));
        assert_eq!(of(-1.0, 0.5, 9e12), (2, false, true, false));
    }
}
