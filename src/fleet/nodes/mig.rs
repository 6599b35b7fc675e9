//! MIG: how instances lie on cards, and what is left of each card.

use super::SlotPlan;
use crate::catalog::gpus::GpuFacts;
use crate::catalog::mig;
use crate::fleet::WHOLE_GPU;
use crate::units::UsdPerHour;
use std::collections::BTreeMap;

/// What instances take of a card: compute slices, and memory units (the smallest profile's memory is one).
pub(super) struct MigShape {
    pieces: u32,
    /// GB of one unit, and units of a card; `None`: the card is unknown, and memory no bound.
    memory: Option<(f64, u32)>,
}

impl MigShape {
    pub(super) fn of(gpu: Option<&GpuFacts>) -> Self {
        Self {
            pieces: gpu.map_or(7, GpuFacts::mig_slices),
            memory: gpu.and_then(mig::units),
        }
    }

    /// Slices and units of a profile.
    fn needs(&self, profile: &str) -> (u32, u32) {
        let slices = mig::slices(profile).unwrap_or(1).clamp(1, self.pieces);
        let units = self
            .memory
            .zip(mig::gigabytes(profile))
            .map(|((unit, all), gb)| ((gb / unit).round() as u32).clamp(1, all));
        (slices, units.unwrap_or(0))
    }

    fn card(&self) -> (u32, u32) {
        (self.pieces, self.memory.map_or(0, |(_, all)| all))
    }
}

/// A card while instances are put on it: slices and memory units left, instances.
type MigCard = ((u32, u32), Vec<(u32, SlotPlan)>);

/// First fit, largest first, on as many cards as it takes; with `spread`, on the emptiest of that many cards.
fn pack(instances: &[((u32, u32), SlotPlan)], shape: &MigShape, spread: Option<u64>) -> Vec<MigCard> {
    let mut cards: Vec<MigCard> = (0..spread.unwrap_or(0)).map(|_| (shape.card(), Vec::new())).collect();
    for ((slices, units), plan) in instances {
        let fits = |c: &&mut MigCard| c.0.0 >= *slices && c.0.1 >= *units;
        let open = if spread.is_some() {
            cards.iter_mut().filter(fits).max_by_key(|c| c.0)
        } else {
            cards.iter_mut().find(fits)
        };
        if let Some((left, held)) = open {
            *left = (left.0 - slices, left.1 - units);
            held.push((*slices, plan.clone()));
        } else {
            let whole = shape.card();
            let left = (whole.0.saturating_sub(*slices), whole.1.saturating_sub(*units));
            cards.push((left, vec![(*slices, plan.clone())]));
        }
    }
    cards.retain(|(_, held)| !held.is_empty());
    cards
}

/// Instances of one profile that a node advertises.
pub(super) struct Amount {
    resource: String,
    instances: u64,
    usable: u64,
    /// Pods that one of them is advertised to.
    sharers: u64,
}

impl Amount {
    pub(super) fn new(resource: &str, advertised: u64, usable: u64, sharers: u64) -> Self {
        Self {
            resource: resource.into(),
            instances: advertised.div_ceil(sharers),
            usable: usable.div_ceil(sharers),
            sharers,
        }
    }
}

/// Packs instances into cards; each card's rest becomes a slot nobody can ask for. `owned`: cards there are for them.
pub(super) fn mig_slots(mig: &BTreeMap<String, Amount>, shape: &MigShape, owned: Option<u64>) -> Vec<SlotPlan> {
    let mut instances: Vec<((u32, u32), SlotPlan)> = Vec::new();
    for (profile, amount) in mig {
        let needs = shape.needs(profile);
        for index in 0..amount.instances {
            instances.push((
                needs,
                SlotPlan {
                    mig_profile: Some(profile.clone()),
                    resource: Some(amount.resource.clone()),
                    sharers: amount.sharers,
                    healthy: index < amount.usable,
                    ..SlotPlan::default()
                },
            ));
        }
    }
    instances.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.mig_profile.cmp(&b.1.mig_profile)));
    // Room for another instance needs a slice and memory; what memory leaves no room for belongs to the instances.
    let room = |(slices, units): (u32, u32)| {
        if shape.memory.is_some() && units == 0 {
            0
        } else {
            slices
        }
    };
    let mut cards = pack(&instances, shape, None);
    // As tight as can be, cards are left over that do have instances: those are not lost, but cut in part.
    if let Some(owned) = owned.filter(|n| *n > cards.len() as u64 && cards.iter().any(|c| room(c.0) > 0)) {
        cards = pack(&instances, shape, Some(owned));
    }
    let mut slots = Vec::new();
    for (left, held) in cards {
        let left = room(left);
        let mut weights: Vec<u64> = held.iter().map(|(s, _)| u64::from(*s)).collect();
        if left > 0 {
            weights.push(u64::from(left));
        }
        let shares = UsdPerHour::from_micros(WHOLE_GPU as i64).split_by(&weights);
        let rest = SlotPlan {
            mig_profile: Some("unpartitioned".into()),
            sharers: 1,
            healthy: true,
            ..SlotPlan::default()
        };
        let plans = held.into_iter().map(|(_, p)| p).chain((left > 0).then_some(rest));
        slots.extend(plans.zip(shares).map(|(plan, share)| SlotPlan {
            weight: share.micros() as u64,
            ..plan
        }));
    }
    slots
}
