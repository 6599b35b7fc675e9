//! AMD's partitions: one GPU as several devices.

use super::count::{MOST_CARDS, Physical};
use super::{Doubt, SlotPlan};
use crate::catalog::gpus::GpuFacts;
use crate::fleet::WHOLE_GPU;
use crate::fleet::state::Reason;
use crate::snapshot::cluster::Node as Seen;
use crate::units::UsdPerHour;

/// The partition mode of AMD devices in a resource, and how many of them make one GPU: "cpx" is one a compute die.
/// The device plugin names the mode in the resource (mixed strategy) or counts partitions as amd.com/gpu (single).
pub(super) fn partition(
    seen: &Seen,
    resource: &str,
    amount: u64,
    gpu: Option<&GpuFacts>,
    of_type: Option<u32>,
) -> Option<(String, u64)> {
    let name = resource.strip_prefix("amd.com/")?;
    let label = [
        "amd.com/compute-memory-partition",
        "amd.com/gpu.compute-memory-partition",
    ]
    .iter()
    .find_map(|k| seen.labels.get(*k).map(String::as_str));
    let mode = if name == "gpu" { label? } else { name };
    let dies = match gpu.map(|g| g.name.as_str()) {
        // Compute dies: AMD CDNA 3 and CDNA 4 white papers.
        Some("MI300A") => Some(6),
        Some("MI300X" | "MI325X" | "MI350X" | "MI355X") => Some(8),
        _ => None,
    };
    let parts = match mode.split('_').next()? {
        "spx" => 1,
        "dpx" => 2,
        "tpx" => 3,
        "qpx" => 4,
        "cpx" => dies.or_else(|| {
            of_type
                .map(u64::from)
                .filter(|n| *n > 0 && amount.is_multiple_of(*n))
                .map(|n| amount / n)
        })?,
        _ => return None,
    };
    (parts > 1 || name != "gpu").then(|| (mode.to_string(), parts))
}

/// Under the single strategy `amd.com/gpu` counts partitions, in older plugins cards, and the labels are alike: unless
/// something counts fewer cards than it advertises devices, how many there are is not certain.
pub(super) fn doubt(seen: &Seen, resource: &str, amount: u64, parts: u64, physical: Physical) -> Option<Doubt> {
    let told = amount > MOST_CARDS || physical.most.or(physical.shown).is_some_and(|cards| cards < amount);
    (resource == "amd.com/gpu" && parts > 1 && !told).then(|| Doubt {
        what: format!("partitions on node {}", seen.name),
        reason: format!(
            "its label says that each card is cut in {parts}, and it advertises {amount} {resource}: whether these are partitions or cards is not told"
        ),
        effect: format!("counted are {} cards, the least that it can be", amount.div_ceil(parts)),
        remedy: "let AMD's exporter be read, or give the instance type's label".into(),
    })
}

pub(super) fn slots(resource: &str, mode: &str, parts: u64, amount: u64, usable: u64) -> Vec<SlotPlan> {
    let shares = UsdPerHour::from_micros(WHOLE_GPU as i64).split_by(&vec![1; parts as usize]);
    // A card of which partitions are missing is whole all the same.
    let all = amount.div_ceil(parts) * parts;
    (0..all)
        .map(|index| SlotPlan {
            weight: shares[(index % parts) as usize].micros() as u64,
            mig_profile: (parts > 1).then(|| mode.to_string()),
            resource: Some(resource.to_string()),
            sharers: 1,
            healthy: index < usable,
            cause: Reason::LostDevice,
            ..SlotPlan::default()
        })
        .collect()
}
