//! vGPU profiles: shares of a card that a hypervisor gives to machines (NVIDIA's vGPU user guide, tables of vGPU types).
//! Inside such a machine GFD names the profile as the product; a KubeVirt host advertises it as a resource.

use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::mig;
use crate::fleet::WHOLE_GPU;
use crate::units::Bytes;

/// "GRID_P40-1Q", "NVIDIA A40-48Q", "GRID A100-3-20C" (MIG slices): a card, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Profile {
    /// `None`: no such card is in the catalogue.
    pub(super) card: Option<&'static GpuFacts>,
    /// How many of them a card gives; `None`: the card is not known.
    pub(super) per_card: Option<u64>,
}

impl Profile {
    /// Of [`WHOLE_GPU`] parts, where a machine has `amount` of them and nothing tells of how many cards: the least.
    pub(super) fn weight(self, amount: u64) -> u64 {
        WHOLE_GPU / self.per_card.unwrap_or_else(|| amount.max(1))
    }
}

/// Reads a profile's name; `None`: it is none.
fn profile(name: &str) -> Option<Profile> {
    let name = name.rsplit('/').next().unwrap_or(name).trim_end_matches("-SHARED");
    let (rest, size) = name.rsplit_once('-')?;
    // Series: Q (workstation), C (compute), A (applications), B (business); ME: with media engines.
    let size = size.strip_suffix("ME").unwrap_or(size);
    let gigabytes: u64 = size.strip_suffix(['Q', 'C', 'A', 'B'])?.parse().ok()?;
    if !(1..=512).contains(&gigabytes) {
        return None;
    }
    let (card, slices) = match rest.rsplit_once('-').map(|(card, n)| (card, n.parse::<u32>())) {
        Some((card, Ok(slices))) if (1..=7).contains(&slices) => (card, Some(slices)),
        _ => (rest, None),
    };
    let vendors = ["GRID_", "GRID-", "GRID ", "NVIDIA_", "NVIDIA-", "NVIDIA "];
    let plain = vendors.iter().find_map(|p| card.strip_prefix(p)).unwrap_or(card);
    let card = find(&plain.replace('_', " "), gigabytes);
    let per_card = card.map(|card| {
        let by_memory = (card.memory.0 / Bytes::from_gib(1.0).0 / gigabytes).max(1);
        slices.map_or(by_memory, |s| u64::from(card.mig_slices() / s).clamp(1, by_memory))
    });
    Some(Profile { card, per_card })
}

/// The card; of several memory sizes the smallest that the profile fits on.
fn find(name: &str, gigabytes: u64) -> Option<&'static GpuFacts> {
    let dashed = name.replace(' ', "-");
    let exact = gpus::find(name).or_else(|| gpus::find(&dashed));
    let fits = |g: &&GpuFacts| g.memory >= Bytes::from_gib(gigabytes as f64);
    exact.filter(fits).or_else(|| {
        let of_name = |g: &&GpuFacts| {
            g.name == dashed
                || g.name
                    .strip_prefix(dashed.as_str())
                    .is_some_and(|rest| rest.starts_with('-'))
        };
        let mut found: Vec<&'static GpuFacts> = gpus::all().iter().filter(|g| of_name(g) && fits(g)).collect();
        found.sort_by_key(|g| g.memory);
        found.first().copied()
    })
}

/// A MIG profile is none: "1g.10gb" has its own ways.
pub(super) fn of_product(product: &str) -> Option<Profile> {
    mig::slices(product).is_none().then(|| profile(product)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_name_a_card_and_a_share_of_it() {
        for (name, card, per_card) in [
            ("NVIDIA-A40-48Q", "A40", 1),
            ("NVIDIA A10-4Q", "A10", 6),
            ("GRID-T4-16Q", "T4", 1),
            ("GRID T4-8C", "T4", 2),
            ("NVIDIA-L40S-24C", "L40S", 2),
        ] {
            let found = profile(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(found.card.map(|c| c.name.as_str()), Some(card), "{name}");
            assert_eq!(found.per_card, Some(per_card), "{name}");
        }
        let unknown = profile("nvidia.com/GRID_NONESUCH-1Q").unwrap();
        assert_eq!((unknown.per_card, unknown.weight(4)), (None, WHOLE_GPU / 4));
        for none in [
            "NVIDIA-H100-80GB-HBM3",
            "Tesla-T4",
            "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb",
            "Quadro-RTX-8000",
            "gpu",
            "NVIDIA-RTX-A6000",
        ] {
            assert!(of_product(none).is_none(), "{none}");
        }
    }

    #[test]
    fn a_profile_of_mig_slices_is_one_of_the_card_s_slices() {
        let found = profile("GRID-A100-3-20C").unwrap();
        assert_eq!(found.per_card, Some(2));
    }
}
