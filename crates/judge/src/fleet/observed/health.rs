//! What exporters say of cards' health, onto slots where it is certain which device they are; and nodes of which fewer cards are
//! shown than they hand out.

use crate::fleet::{Fleet, SlotId};
use crate::snapshot::Gap;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::gpu::{DeviceHealth, GpuScrape};
use std::collections::BTreeMap;

/// Activity must be attached.
pub(super) fn attach(fleet: &mut Fleet, cluster: &Cluster, index: usize) {
    let mut told: BTreeMap<(&str, &str), (DeviceHealth, Vec<&GpuScrape>)> = BTreeMap::new();
    for scrape in &cluster.gpus {
        if let Some(uuid) = scrape.uuid.as_deref() {
            let (health, rows) = told.entry((&scrape.node, uuid)).or_default();
            *health = scrape.health.or(*health);
            rows.push(scrape);
        }
    }
    for n in (0..fleet.nodes.len())
        .filter(|n| fleet.nodes[*n].cluster == index)
        .collect::<Vec<_>>()
    {
        let name = fleet.nodes[n].name.clone();
        let slots: Vec<SlotId> = fleet.nodes[n].slot_ids().collect();
        let nobodys = slots.iter().all(|s| !fleet.slot(*s).is_allocated());
        let mut held = Vec::new();
        for ((_, uuid), (health, rows)) in told.range((name.as_str(), "")..).take_while(|((of, _), _)| *of == name) {
            if health.words().is_none() {
                continue;
            }
            let own = slots.iter().find(|s| fleet.slot(**s).name == *uuid).copied();
            let certain = own.filter(|s| {
                let slot = fleet.slot(*s);
                if slot.is_allocated() {
                    slot.activity.as_ref().is_some_and(|a| a.attributed)
                } else {
                    nobodys || rows.iter().all(|r| r.maps_pods && r.holders.is_empty())
                }
            });
            if let Some(slot) = certain {
                fleet.slots[slot.0].health = *health;
            }
            if health.is_broken() && certain.is_none_or(|s| fleet.slot(s).is_allocated()) {
                held.push(format!("{uuid}: {}", health.words().unwrap_or_default()));
            }
        }
        if !held.is_empty() {
            fleet.gaps.push(Gap {
                source: format!("cluster {}, node {name}", cluster.name),
                what: "the health of its GPUs".into(),
                reason: format!("its exporter says of {}", held.join("; of ")),
                effect: "what runs there may fail or compute wrong; nothing is claimed for it, since it is held, or which GPU it is was not told"
                    .into(),
                remedy: "drain what is there, then reset or replace the GPU (nvidia-smi -q, dmesg | grep Xid); a reset may have been, the exporter keeps the last XID"
                    .into(),
            });
        }
        fewer(fleet, cluster, n, &slots);
    }
}

/// Cards that the node hands out and its exporter does not show.
fn fewer(fleet: &mut Fleet, cluster: &Cluster, n: usize, slots: &[SlotId]) {
    let node = &fleet.nodes[n];
    let sound = slots
        .iter()
        .filter(|s| fleet.slot(**s).state != crate::fleet::SlotState::Unhealthy);
    let whole = sound.clone().filter(|s| fleet.slot(**s).mig_profile.is_none()).count();
    let shown = node.devices.len();
    if shown == 0 || shown >= whole || whole != sound.count() || node.exporter_lost {
        return;
    }
    let gap = Gap {
        source: format!("cluster {}, node {}", cluster.name, node.name),
        what: format!("{} of its {whole} GPUs", whole - shown),
        reason: format!("the node hands out {whole}, and its exporter shows {shown}: a GPU that is lost to the driver, or one that the exporter is told to leave out"),
        effect: "none that is not shown is called free or idle".into(),
        remedy: "compare 'nvidia-smi -L' there with the node's allocatable, and look for XID 79 in dmesg; restart the device plugin where one is lost".into(),
    };
    fleet.gaps.push(gap);
}
