//! Nothing is believed on one witness: beside every GPU that is truly free, idle or unused, one independent witness of work
//! is put at a time, and the GPU loses its dollars.

use super::{Dice, Judged, fleets, judge};
use crate::analyze::finding::FindingKind;
use crate::fleet::SlotId;
use crate::snapshot::Snapshot;
use crate::snapshot::gpu::{GpuReading, GpuScrape};
use crate::units::{Bytes, Ratio, Watts};
use std::collections::BTreeMap;

const FLEETS: u64 = 500;
/// GPUs of each fleet that get a witness.
const TRIES: usize = 4;

/// What can show that a device works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Witness {
    /// Tensor units, memory and utilization.
    Everything,
    Utilization,
    Tensor,
    /// As of a card at its limit.
    Power,
    /// The server's own request counter.
    Counter,
}

const WITNESSES: [Witness; 5] = [
    Witness::Everything,
    Witness::Utilization,
    Witness::Tensor,
    Witness::Power,
    Witness::Counter,
];

/// Checks that say of a GPU that nobody uses it.
const UNUSED: &[&str] = &[
    "dark-capacity/unallocated",
    "dark-capacity/idle",
    "stranded-gpu/host",
    "stranded-gpu/scatter",
];

/// What findings of unused GPUs claim: slots, by what is said of them.
fn claimed(judged: &Judged) -> BTreeMap<SlotId, String> {
    let findings = judged.outcomes.iter().flat_map(|(_, o)| &o.findings);
    let unused = findings.filter(|f| f.kind == FindingKind::Recoverable && f.ignored.is_none());
    let named = unused.map(|f| (format!("{}/{}", f.check, f.part.unwrap_or_default()), f));
    let of = |(name, f): (String, &crate::analyze::finding::Finding)| {
        f.claims.iter().map(|c| (c.slot, name.clone())).collect::<Vec<_>>()
    };
    named
        .filter(|(name, _)| UNUSED.contains(&name.as_str()))
        .flat_map(of)
        .collect()
}

/// Claims on one node, by what is said of its GPUs.
fn on_node(judged: &Judged, cluster: &str, node: &str) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for (slot, what) in claimed(judged) {
        let place = judged.fleet.node(judged.fleet.slot(slot).node);
        if place.name == node && judged.fleet.clusters[place.cluster].name == cluster {
            *all.entry(what).or_default() += 1;
        }
    }
    all
}

fn reading(witness: Witness, tdp: f64, at: jiff::Timestamp) -> GpuReading {
    let all = witness == Witness::Everything;
    let share = |own: Witness, value: f64| (all || witness == own).then_some(Ratio(value));
    GpuReading {
        at,
        gpu_util: share(Witness::Utilization, 1.0),
        gr_engine: share(Witness::Utilization, 0.97),
        sm_active: None,
        tensor: share(Witness::Tensor, 0.6),
        dram: all.then_some(Ratio(0.5)),
        power: (all || witness == Witness::Power).then_some(Watts(0.93 * tdp)),
        memory_used: all.then_some(Bytes(60 << 30)),
        memory_total: None,
        energy_joules: None,
    }
}

/// Puts the witness into the snapshot; `false`: there is none of this kind for this GPU.
fn add(snapshot: &mut Snapshot, judged: &Judged, slot: SlotId, witness: Witness) -> bool {
    let fleet = &judged.fleet;
    let place = fleet.slot(slot);
    let node = fleet.node(place.node);
    let taken_at = snapshot.taken_at;
    let cluster = &mut snapshot.clusters[node.cluster];
    let holders: Vec<_> = place.holders.iter().map(|p| fleet.pod(*p)).collect();
    if witness == Witness::Counter {
        let own = |e: &&mut crate::snapshot::engine::EngineScrape| {
            holders.iter().any(|p| p.namespace == e.namespace && p.name == e.pod)
        };
        let Some(engine) = cluster.engines.iter_mut().find(own) else {
            return false;
        };
        for reading in &mut engine.readings {
            (reading.requests, reading.output_tokens) = (Some(5e5), Some(5e7));
        }
        return true;
    }
    // Power of an instance or a shared card is the card's, and says nothing of one of them.
    let Some(tdp) = node.gpu.and_then(|g| g.tdp).filter(|_| place.mig_profile.is_none()) else {
        return false;
    };
    if place.holders.len() > 1 || place.sharers > 1 {
        return false;
    }
    let row = reading(witness, tdp.0, taken_at);
    if let Some(known) = cluster
        .gpus
        .iter_mut()
        .find(|g| g.node == node.name && g.uuid.as_deref() == Some(&place.name))
    {
        // The same exporter shows the figure as it is; the others stay at rest.
        for own in &mut known.readings {
            own.gpu_util = row.gpu_util.or(own.gpu_util);
            own.gr_engine = row.gr_engine.or(own.gr_engine);
            own.tensor = row.tensor.or(own.tensor);
            own.dram = row.dram.or(own.dram);
            own.power = row.power.or(own.power);
        }
        return true;
    }
    cluster.gpus.push(GpuScrape {
        node: node.name.clone(),
        uuid: Some(format!("GPU-{}-shown", node.name)),
        index: Some(0),
        maps_pods: true,
        holders: holders
            .iter()
            .map(|p| crate::snapshot::gpu::PodName {
                namespace: p.namespace.clone(),
                name: p.name.clone(),
                container: None,
            })
            .collect(),
        readings: vec![row],
        ..GpuScrape::default()
    });
    true
}

#[test]
fn one_witness_of_work_takes_a_gpus_dollars() {
    let mut dice = Dice(31);
    let mut done: BTreeMap<(String, Witness), u64> = BTreeMap::new();
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let whole = judge(&made.snapshot, &made.prices);
        let slots: Vec<(SlotId, String)> = claimed(&whole).into_iter().collect();
        for _ in 0..TRIES.min(slots.len()) {
            let (slot, what) = dice.pick(&slots).clone();
            let witness = *dice.pick(&WITNESSES);
            let mut contradicted = made.snapshot.clone();
            if !add(&mut contradicted, &whole, slot, witness) {
                continue;
            }
            let place = whole.fleet.node(whole.fleet.slot(slot).node);
            let cluster = &whole.fleet.clusters[place.cluster].name;
            let before = on_node(&whole, cluster, &place.name);
            let then = judge(&contradicted, &made.prices);
            let after = on_node(&then, cluster, &place.name);
            let count = |all: &BTreeMap<String, usize>| all.get(&what).copied().unwrap_or(0);
            assert!(
                count(&after) < count(&before),
                "fleet {seed}: {what} of {} on {} beside {witness:?}: {before:?} → {after:?}",
                whole.fleet.slot(slot).name,
                place.name
            );
            *done.entry((what, witness)).or_default() += 1;
        }
    }
    println!("{done:?}");
    for (what, witness) in [
        ("dark-capacity/unallocated", Witness::Everything),
        ("dark-capacity/unallocated", Witness::Utilization),
        ("dark-capacity/unallocated", Witness::Tensor),
        ("dark-capacity/unallocated", Witness::Power),
        ("dark-capacity/idle", Witness::Power),
        ("dark-capacity/idle", Witness::Tensor),
        ("dark-capacity/idle", Witness::Counter),
        ("stranded-gpu/host", Witness::Everything),
    ] {
        let times = done.get(&(what.to_string(), witness)).copied().unwrap_or(0);
        assert!(times >= 10, "{what} beside {witness:?}: {times} times");
    }
}
