//! Intel's GPUs: how many cards stand behind what the plugin advertises (its README, and the rules that it ships for NFD).

use super::cut::MAX_DEVICES;
use crate::snapshot::cluster::Node as Seen;

/// Resources of Intel's GPU plugin, one a kernel driver; `…_monitoring` beside them hands out nothing.
pub(super) const RESOURCES: [&str; 2] = ["gpu.intel.com/i915", "gpu.intel.com/xe"];

/// Intel's GPUs as its plugin advertises them, and as NFD's rules count their PCI functions.
fn counts(seen: &Seen) -> Option<(u64, u64)> {
    let advertised = RESOURCES.iter().filter_map(|r| seen.capacity.devices.get(*r)).sum();
    let number = |v: &String| v.parse::<u64>().ok().filter(|n| (1..=MAX_DEVICES).contains(n));
    let of_products = seen.labels.get("gpu.intel.com/device.count").and_then(number);
    // Cards that no rule names: one label a PCI class.
    let of_classes = || {
        let counts = seen.labels.iter().filter(|(k, _)| {
            let id = k.strip_prefix("gpu.intel.com/device-id.");
            id.is_some_and(|id| id.strip_suffix(".count").is_some())
        });
        counts.filter_map(|(_, v)| number(v)).reduce(|a, b| a + b)
    };
    Some((advertised, of_products.or_else(of_classes)?))
}

/// How often Intel's plugin advertises each card (`-shared-dev-num`, which no label tells); `None`: once, or not known.
pub(super) fn sharers(seen: &Seen) -> Option<u64> {
    let (advertised, cards) = counts(seen)?;
    (advertised > cards && advertised.is_multiple_of(cards)).then(|| advertised / cards)
}

/// Whether Intel's plugin advertises fewer than there are PCI functions. Of cards with virtual functions it hands out those
/// and keeps the card itself, which NFD counts like them: how many cards there are cannot be told.
pub(super) fn has_functions(seen: &Seen) -> bool {
    counts(seen).is_some_and(|(advertised, counted)| (1..counted).contains(&advertised))
}
