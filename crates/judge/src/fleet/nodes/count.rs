//! How many physical GPUs a node has: what a device plugin advertises may be shares of fewer cards, and several sources
//! count the cards themselves. Where these contradict each other, the larger of what counts cards is believed; where none
//! counts them and shares are likely, the number is not known.

use super::Around;
use super::labels::single_mig;
use crate::snapshot::cluster::Node as Seen;
use crate::snapshot::resources::{self, ResourceKind};

/// More GPUs than one machine holds (HGX, DGX and OAM boards hold 8, the DGX-2 16): so many are shares or parts of fewer.
pub(super) const MOST_CARDS: u64 = 16;

/// Labels by which clouds and operators count a node's cards, best first; GFD's last, since MIG changes what it counts.
const COUNT_LABELS: &[&str] = &[
    "karpenter.k8s.aws/instance-gpu-count",
    "eks.amazonaws.com/instance-gpu-count",
    "karpenter.azure.com/sku-gpu-count",
    "cloud.google.com/gke-accelerator-count",
    "gpu.nvidia.com/count",
];

/// What counts a node's physical GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Physical {
    /// What the machine was bought with, or its labels say: GPUs beyond those that are advertised are not advertised.
    pub(super) owned: Option<u64>,
    /// The most that any source counts of the cards themselves. What DRA publishes may be a part of them: it is none.
    pub(super) most: Option<u64>,
    /// Devices that exporters show. One that was not read looks like one that is not there, so that this counts only where
    /// shares are likely anyway.
    pub(super) shown: Option<u64>,
}

/// Asks every source. `of_type`: GPUs of the instance type, as the catalogue knows it.
pub(super) fn physical(seen: &Seen, of_type: Option<u32>, around: &Around<'_>) -> Physical {
    let label = |key: &str| {
        let number = seen.labels.get(key).and_then(|v| v.parse::<u64>().ok());
        number.filter(|n| (1..=64).contains(n))
    };
    let of_type = of_type.map(u64::from).filter(|n| *n > 0);
    let of_labels = COUNT_LABELS.iter().find_map(|k| label(k));
    let of_discovery = label("nvidia.com/gpu.count").filter(|_| single_mig(seen).is_none());
    let registered = u64::try_from(seen.registered.len()).ok().filter(|n| *n > 0);
    let exporter = u64::try_from(around.exporter.len()).ok().filter(|n| *n > 0);
    Physical {
        owned: of_type.or(of_labels).or(registered).or(of_discovery),
        shown: exporter,
        most: [of_type, of_labels, of_discovery, registered]
            .into_iter()
            .flatten()
            .max(),
    }
}

/// Pods that one card is advertised to, where a plugin advertises `amount` of `resource` and no label says how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// As many devices as cards.
    Whole,
    /// More than there are cards: each is handed out so many times.
    Shares(u64),
    /// Shares of an unknown number of cards.
    Unknown,
}

pub(super) fn sharing(seen: &Seen, resource: &str, amount: u64, physical: Physical, around: &Around<'_>) -> Sharing {
    let likely = amount > 1 && !around.unseen && looks_shared(seen, resource, amount, around);
    match physical.most.or(physical.shown.filter(|_| likely)) {
        Some(cards) if amount > cards => Sharing::Shares(amount.div_ceil(cards)),
        None if likely => Sharing::Unknown,
        _ => Sharing::Whole,
    }
}

/// Something says that the devices of this name are shares, without saying of how many cards.
fn looks_shared(seen: &Seen, resource: &str, amount: u64, around: &Around<'_>) -> bool {
    let label = |key: &str| seen.labels.get(key).map_or("", String::as_str);
    let strategy = label("nvidia.com/gpu.sharing-strategy");
    resource.ends_with(".shared")
        || label("nvidia.com/gpu.product").ends_with("-SHARED")
        || !matches!(strategy, "" | "none")
        || around.sharing_layer
        || resource.starts_with("nvidia.com/") && amount > MOST_CARDS
}

/// HAMi, Volcano, Alibaba and Tencent hand out parts of GPUs in resources whose holders cannot be told apart.
pub(super) fn is_layer(seen: &Seen, around: &Around<'_>) -> bool {
    let parts = |r: &String| {
        matches!(resources::kind(r), ResourceKind::Share | ResourceKind::Amount) && !r.ends_with("_monitoring")
    };
    around.sharing_layer || !seen.registered.is_empty() || seen.capacity.devices.keys().any(parts)
}
