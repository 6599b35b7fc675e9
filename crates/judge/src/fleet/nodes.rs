//! GPU nodes: which GPU, how many, what they cost, how they are cut.

mod amd;
mod count;
mod cut;
mod intel;
mod labels;
mod mig;
mod mixed;
mod planned;
#[cfg(test)]
mod tests;
mod vgpu;

pub(super) use mig::MigShape;

use super::dra::{DeviceKey, NodeDevices};
use super::{Node, NodeId, Slot, WHOLE_GPU};
use crate::catalog::instances;
use crate::catalog::prices::{CapacityType, NodePrice, PriceBook, PriceQuery, PriceSource, price_of};
use crate::fleet::slot::SlotModel;
use crate::fleet::state::Reason;
use crate::snapshot::RUNS_LABEL;
use crate::snapshot::cluster::{Node as Seen, Outage};
use crate::snapshot::resources::is_device;
use cut::{Cut, absurd, cut};
use jiff::Timestamp;
pub(super) use labels::UNNAMED;
use labels::{POOL_LABELS, capacity_type, cloud_of, gpu_of, is_virtual, is_waited_for};
use std::collections::HashSet;

/// A slot under construction, with the resource name that pods ask for to get it.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotPlan {
    pub(super) weight: u64,
    pub(super) mig_profile: Option<String>,
    /// `None`: the unpartitioned rest of a MIG GPU, which nobody can ask for.
    pub(super) resource: Option<String>,
    /// How many pods may share it.
    pub(super) sharers: u64,
    pub(super) healthy: bool,
    /// Why it is not, where it is not.
    pub(super) cause: Reason,
    /// Its driver tainted it: since when, as far as that is told.
    pub(super) tainted_since: Option<Timestamp>,
    /// DRA devices that are this slot.
    pub(super) dra: Vec<DeviceKey>,
    /// Left over on a card that claims have cut: no device of its own, but new ones can be made of it.
    pub(super) rest: bool,
    /// As the source calls it: the UUID.
    pub(super) name: Option<String>,
    /// Which card it is, where not all of the node are of one model.
    pub(super) model: Option<Box<SlotModel>>,
}

/// How many cards a node has is not certain.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    pub(super) what: String,
    pub(super) reason: String,
    pub(super) effect: String,
    pub(super) remedy: String,
}

impl Doubt {
    fn shares(resource: &str, amount: u64) -> Self {
        Self {
            what: format!("how many cards stand behind {amount} {resource}"),
            reason:
                "a sharing layer (time slices, MPS, HAMi, Volcano vGPU) hands out shares, and nothing counts the cards"
                    .into(),
            effect: "they are counted as one card without a price, and none of it is called free".into(),
            remedy: "let GPU feature discovery label the node (nvidia.com/gpu.count), or let its exporter be read"
                .into(),
        }
    }

    fn vgpu(resource: &str) -> Self {
        Self {
            what: format!("the cards behind {resource}"),
            reason: "it is a vGPU profile: a share of a card, and the host does not say of how many".into(),
            effect: "counted are the shares that it advertises, without a price, and none of them is called free"
                .into(),
            remedy: "give the node's price with --prices".into(),
        }
    }
}

/// A whole device as the node's exporters show it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    pub(super) uuid: &'a str,
    /// The driver's name of it.
    pub(super) model: Option<&'a str>,
}

/// What the labels and the catalogue say of a node.
pub(super) struct Described {
    pub(super) node: Node,
    pub(super) slots: Vec<SlotPlan>,
    /// A GPU name nobody knows, for the gaps.
    pub(super) unknown_gpu: Option<String>,
    /// The user's price entry that matched.
    pub(super) price_entry: Option<usize>,
    /// Others of the user's that match, too, and come too late.
    pub(super) price_entries_behind: Vec<usize>,
    pub(super) doubt: Option<Doubt>,
}

pub(super) struct Around<'a> {
    pub(super) cluster: usize,
    pub(super) cluster_name: &'a str,
    pub(super) at: Timestamp,
    pub(super) prices: &'a PriceBook,
    pub(super) stale_days: u64,
    /// Whole devices that exporters show on this node, each once, in the order of their indices.
    pub(super) exporter: &'a [Shown<'a>],
    /// A pod there asks for parts of GPUs by a sharing layer's resources.
    pub(super) sharing_layer: bool,
    /// The node itself was not read: it has what visible pods hold there.
    pub(super) unseen: bool,
    pub(super) dra: DraView<'a>,
}

/// What DRA says of one node.
#[derive(Clone, Copy)]
pub(super) struct DraView<'a> {
    pub(super) devices: Option<&'a NodeDevices<'a>>,
    /// Devices that claims hold, in the whole cluster.
    pub(super) taken: &'a HashSet<DeviceKey>,
    /// resource.k8s.io is served, but what drivers publish could not be read.
    pub(super) refused: bool,
}

impl DraView<'_> {
    /// There may be devices that were not seen.
    fn is_blind(&self, seen: &Seen) -> bool {
        self.devices.is_some_and(|d| d.incomplete) || (self.refused && seen.capacity.devices.is_empty())
    }
}

pub(super) fn describe(seen: &Seen, around: &Around<'_>) -> Described {
    let label = |key: &str| seen.labels.get(key).map(String::as_str).filter(|v| !v.is_empty());
    let first = |keys: &[&str]| keys.iter().find_map(|k| label(k)).map(String::from);
    let instance_type = first(&[
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "karpenter.azure.com/sku-name",
    ]);
    let of_type = instance_type.as_deref().and_then(instances::gpu_of_type);
    let (gpu, gpu_name, unknown_gpu) = gpu_of(seen, of_type.map(|(g, _)| g), around);
    let Cut { mut slots, doubt } = cut(seen, gpu, of_type.map(|(_, n)| n), around);
    if seen.planned {
        planned::asked_for(&mut slots);
    }
    let weight: u64 = slots.iter().map(|s| s.weight).sum();
    let gpus = weight.div_ceil(WHOLE_GPU) as u32;
    let bought_with = if seen.planned {
        planned::bought_with(of_type.map(|(_, n)| n), gpus)
    } else {
        gpus
    };
    let cloud = cloud_of(seen, instance_type.as_deref());
    let region = first(&[
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/region",
    ]);
    let capacity_type = capacity_type(seen, cloud.as_deref());
    let pool = first(POOL_LABELS).unwrap_or_default();
    let query = PriceQuery {
        cluster: around.cluster_name,
        node: &seen.name,
        pool: &pool,
        cloud: cloud.as_deref(),
        instance_type: instance_type.as_deref(),
        region: region.as_deref(),
        capacity_type,
        flex_start: is_waited_for(seen, capacity_type),
        gpu,
        gpus: bought_with,
        machine: seen.billed_as.as_deref(),
    };
    let (price, price_entry) = price_of(&query, around.prices, around.at, around.stale_days);
    let price_entries_behind = around.prices.behind(&query, price_entry);
    // What is committed is paid until its last day, whatever the node's labels say.
    let committed = price_entry
        .and_then(|i| around.prices.entries.get(i))
        .is_some_and(|e| e.is_committed(around.at));
    let paid = around.prices.billed(seen.billed_as.as_deref()).map(|b| b.paid);
    let capacity_type = match paid {
        _ if committed => CapacityType::Reserved,
        // A commitment is paid on whatever its labels say; otherwise the bill tells where they do not.
        Some(CapacityType::Reserved) => CapacityType::Reserved,
        Some(paid) if capacity_type == CapacityType::Unknown => paid,
        _ => capacity_type,
    };
    // A machine with a part of a card is bought as it is.
    let has_part = instance_type
        .as_deref()
        .is_some_and(|t| instances::profile_of_type(t).is_some());
    let price = if seen.planned && has_part && price.source != PriceSource::GpuMedian {
        price
    } else if seen.planned {
        let sized = of_type.is_some_and(|(_, n)| n == bought_with);
        let entry = price_entry.and_then(|i| around.prices.entries.get(i));
        planned::part(price, entry, sized, weight, bought_with)
    } else {
        of_parts(price, weight, gpus, doubt.is_some())
    };
    // What runs now and then costs by the hour of a run: how many hours those are nobody says.
    let price = if seen.planned && seen.labels.contains_key(RUNS_LABEL) {
        NodePrice::default()
    } else {
        price
    };
    // Nobody pays for such a node as for a machine, unless whoever pays says so.
    let not_a_machine = is_virtual(seen);
    let price = if not_a_machine.is_some() && price.source != PriceSource::User {
        NodePrice::default()
    } else {
        price
    };
    let mixed = mixed::models(&mut slots, around, &query, &price);
    let (gpu, gpu_name, unknown_gpu, price) = match mixed {
        Some(mixed) => (None, mixed.name, mixed.unknown, mixed.price),
        None => (gpu, gpu_name, unknown_gpu, price),
    };
    let cordon = seen.taints.iter().find(|t| t.key == "node.kubernetes.io/unschedulable");
    let node = Node {
        cluster: around.cluster,
        name: seen.name.clone(),
        pool,
        cloud,
        instance_type,
        region,
        zone: first(&["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]),
        capacity_type,
        gpu,
        gpu_name,
        gpus,
        price,
        planned: seen.planned,
        created_at: seen.created_at,
        ready: seen.ready.clone(),
        unread: seen.unread || device_amounts_unread(seen),
        unschedulable: seen.unschedulable,
        unschedulable_since: cordon.and_then(|t| t.since).or(seen
            .outage
            .as_ref()
            .filter(|o| o.state != Outage::GPUS_BROKEN)
            .and_then(|o| o.since)),
        being_removed: seen
            .taints
            .iter()
            .any(|t| LEAVING.iter().any(|prefix| t.key.starts_with(prefix))),
        taints: seen.taints.clone(),
        labels: seen.labels.clone(),
        custom_sharing: count::is_layer(seen, around)
            || doubt.is_some()
            || absurd(seen)
            || intel::has_functions(seen)
            || around.dra.is_blind(seen),
        allocatable_cpu: seen.allocatable.cpu,
        allocatable_memory: seen.allocatable.memory,
        allocatable_pods: seen.allocatable.pods,
        ignore: seen.ignore.clone(),
        outage: seen.outage.clone(),
        kept: seen.kept,
        unused_since: seen.unused_since,
        not_a_machine,
        ..Node::default()
    };
    Described {
        node,
        slots,
        unknown_gpu,
        price_entry,
        price_entries_behind,
        doubt,
    }
}

/// The price of shares of cards: a card's median is theirs in part. Where nobody knows how many cards there are, only what
/// the whole machine costs is a price.
fn of_parts(price: NodePrice, weight: u64, gpus: u32, uncounted: bool) -> NodePrice {
    let whole = u64::from(gpus) * WHOLE_GPU;
    if price.source != PriceSource::GpuMedian || weight >= whole && !uncounted {
        return price;
    }
    if uncounted && weight < whole {
        return NodePrice::default();
    }
    NodePrice {
        usd_per_hour: price.usd_per_hour.map(|p| p.scale(weight as f64 / whole as f64)),
        ..price
    }
}

/// Taints, by how their keys begin, of nodes that somebody is taking away: cluster autoscaler, Karpenter, AWS' node
/// termination handler, GKE's graceful shutdown, cloud controllers (their own documentation).
const LEAVING: &[&str] = &[
    "ToBeDeleted",
    "DeletionCandidate",
    "karpenter.sh/disrupt",
    "aws-node-termination-handler/",
    "cloud.google.com/impending-node-termination",
    "node.cloudprovider.kubernetes.io/shutdown",
    "node.kubernetes.io/out-of-service",
];

fn device_amounts_unread(seen: &Seen) -> bool {
    let amounts = seen.capacity.unread.iter().chain(&seen.allocatable.unread);
    amounts.into_iter().any(|name| is_device(name))
}

/// Turns plans into priced slots. Prices and weights add up to the node's (R1).
pub(super) fn slots_of(node: &Node, node_id: NodeId, plans: &[SlotPlan]) -> Vec<Slot> {
    let weights: Vec<u64> = plans.iter().map(|p| p.weight).collect();
    let prices = node.price.usd_per_hour.map(|p| p.split_by(&weights));
    plans
        .iter()
        .enumerate()
        .map(|(index, plan)| Slot {
            node: node_id,
            name: plan.name.clone().unwrap_or_else(|| {
                let profile = plan.mig_profile.as_ref().map(|p| format!("/{p}"));
                format!("slot-{index}{}", profile.unwrap_or_default())
            }),
            dra: !plan.dra.is_empty(),
            resource: plan.resource.clone(),
            sharers: plan.sharers.max(1),
            weight: plan.weight,
            mig_profile: plan.mig_profile.clone(),
            price: match &plan.model {
                Some(model) if model.own_price => model.price,
                _ => prices.as_ref().and_then(|p| p.get(index).copied()),
            },
            cause: plan.cause,
            model: plan.model.clone(),
            ..Slot::default()
        })
        .collect()
}
