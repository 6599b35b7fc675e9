//! What jobs had of GPUs in the last days, as a scheduler's accounts tell, with the price of the machines that they were on.

use super::{Fleet, NodeId, Slot, SlotId};
use crate::snapshot::cluster::Cluster;
use crate::snapshot::past::{Like, PastUse, like};
use crate::units::UsdPerHour;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Partition, and the GPU's type, as accounts write it.
pub const PARTITION: &str = "slurm/partition";
pub const GPU_TYPE: &str = "slurm/gpu-type";

/// One row of the accounts.
#[derive(Clone, Debug)]
pub struct Past {
    /// Index into [`super::Fleet::clusters`].
    pub cluster: usize,
    pub used: PastUse,
    /// Of one GPU (or instance) of an hour; `None`: unknown.
    pub price: Option<UsdPerHour>,
    /// Machines that it may have been on cost more: the price is the least of them.
    pub least: bool,
    /// A slot of each kind of price that was looked at.
    pub priced_by: Vec<SlotId>,
}

/// Price, whether it is the least of several, and whose.
type Priced = (Option<UsdPerHour>, bool, Vec<SlotId>);

pub(super) fn attach(fleet: &mut Fleet, cluster: &Cluster, index: usize) {
    if cluster.past.is_empty() {
        return;
    }
    let mut alike: HashMap<Like, Vec<NodeId>> = HashMap::new();
    let mut like_of: HashMap<String, Like> = HashMap::new();
    let mut partitions: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
    for (n, node) in fleet.nodes.iter().enumerate().filter(|(_, n)| n.cluster == index) {
        let key = like(&node.name, &node.labels);
        like_of.insert(node.name.clone(), key.clone());
        alike.entry(key).or_default().push(NodeId(n));
        for partition in node
            .labels
            .get("slurm/partitions")
            .iter()
            .flat_map(|all| all.split(','))
        {
            partitions.entry(partition.to_owned()).or_default().push(NodeId(n));
        }
    }
    let mut known: HashMap<(Option<&str>, &str, &str), Priced> = HashMap::new();
    let mut rows = Vec::new();
    for used in &cluster.past {
        let label = |key: &str| used.labels.get(key).map_or("", String::as_str);
        let key = (used.node.as_deref(), label(PARTITION), label(GPU_TYPE));
        let (price, least, priced_by) = known
            .entry(key)
            .or_insert_with(|| {
                let machines: BTreeSet<NodeId> = match used.node.as_deref().and_then(|n| alike.get(like_of.get(n)?)) {
                    Some(same) => same.iter().copied().collect(),
                    None => key
                        .1
                        .split(',')
                        .filter_map(|p| partitions.get(p))
                        .flatten()
                        .copied()
                        .collect(),
                };
                priced(fleet, &machines, key.2)
            })
            .clone();
        rows.push(Past {
            cluster: index,
            used: used.clone(),
            price,
            least,
            priced_by,
        });
    }
    fleet.past.extend(rows);
}

/// What a GPU of this type costs on these machines.
fn priced(fleet: &Fleet, machines: &BTreeSet<NodeId>, kind: &str) -> Priced {
    let is_kind = |slot: &Slot| match &slot.mig_profile {
        Some(profile) => kind.is_empty() || kind.replace('+', ".").ends_with(profile.as_str()),
        // An instance is told by its type alone.
        None => !slot.unpartitioned,
    };
    let mut prices: BTreeSet<Option<UsdPerHour>> = BTreeSet::new();
    let mut priced_by = BTreeMap::new();
    for machine in machines {
        let node = fleet.node(*machine);
        let typed = node.labels.keys().any(|k| k.starts_with("slurm/gpu-type."));
        let of_kind = node.labels.contains_key(&format!("{GPU_TYPE}.{kind}"));
        let parts = node.slot_ids().any(|s| fleet.slot(s).mig_profile.is_some());
        if !kind.is_empty() && typed && !of_kind && !parts {
            continue;
        }
        for slot in node.slot_ids().filter(|s| is_kind(fleet.slot(*s))) {
            prices.insert(fleet.slot(slot).price);
            let price = &node.price;
            priced_by.entry((price.source, price.stale)).or_insert(slot);
        }
    }
    // One machine without a price, and nobody knows what it cost.
    let least = prices.len() > 1;
    let price = prices.into_iter().next().flatten();
    (price, least, priced_by.into_values().collect())
}
