//! Nodes that nobody has yet: of one, a plan pays for what its pods ask for.

use super::SlotPlan;
use crate::catalog::prices::{NodePrice, PriceEntry};
use crate::fleet::WHOLE_GPU;

/// What the pods ask for: the rest of a card of which they want an instance or a partition is somebody else's.
pub(super) fn asked_for(slots: &mut Vec<SlotPlan>) {
    slots.retain(|s| s.resource.is_some() && s.healthy);
}

/// GPUs that such a node is bought with: its instance type's, where that has enough, else those that are asked for.
pub(super) fn bought_with(of_type: Option<u32>, asked: u32) -> u32 {
    of_type.filter(|n| *n >= asked).unwrap_or(asked)
}

/// The part of the node's price that is asked for. An entry of the user's for a whole node says nothing of its part, as
/// long as nobody knows how many GPUs the node has.
pub(super) fn part(price: NodePrice, entry: Option<&PriceEntry>, sized: bool, weight: u64, gpus: u32) -> NodePrice {
    if entry.is_some_and(|e| e.usd_per_hour.is_some()) && !sized {
        return NodePrice::default();
    }
    let whole = u64::from(gpus.max(1)) * WHOLE_GPU;
    NodePrice {
        usd_per_hour: price.usd_per_hour.map(|p| p.scale(weight as f64 / whole as f64)),
        ..price
    }
}
