//! MIG: how instances lie on cards, and what is left of each card.

use super::SlotPlan;
use crate::catalog::gpus::GpuFacts;
use crate::catalog::mig;
use crate::fleet::WHOLE_GPU;
use crate::fleet::state::Reason;
use crate::units::UsdPerHour;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

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

/// What instances take of a card: compute slices, and memory units (the smallest profile's memory is one).
pub(in crate::fleet) struct MigShape {
    pieces: u32,
    /// GB of one unit, and units of a card; `None`: the card is unknown, and memory no bound.
    memory: Option<(f64, u32)>,
}

impl MigShape {
    pub(in crate::fleet) fn of(gpu: Option<&GpuFacts>) -> Self {
        Self {
            pieces: gpu.map_or(7, GpuFacts::mig_slices),
            memory: gpu.and_then(mig::units),
        }
    }

    /// Slices and units of a profile.
    pub(in crate::fleet) fn needs(&self, profile: &str) -> (u32, u32) {
        let slices = mig::slices(profile).unwrap_or(1).clamp(1, self.pieces);
        let units = self
            .memory
            .zip(mig::gigabytes(profile))
            .map(|((unit, all), gb)| ((gb / unit).round() as u32).clamp(1, all));
        (slices, units.unwrap_or(0))
    }

    pub(in crate::fleet) fn card(&self) -> (u32, u32) {
        (self.pieces, self.memory.map_or(0, |(_, all)| all))
    }

    /// Slices that another instance could have. It needs memory too: what that leaves no room for belongs to the instances.
    pub(in crate::fleet) fn room(&self, (slices, units): (u32, u32)) -> u32 {
        if self.memory.is_some() && units == 0 { 0 } else { slices }
    }
}

/// A card while instances are put on it: slices and memory units left, instances.
type MigCard = ((u32, u32), Vec<(u32, SlotPlan)>);

/// First fit, largest first, on as many cards as it takes.
fn pack(instances: &[((u32, u32), SlotPlan)], shape: &MigShape) -> Vec<MigCard> {
    let mut cards: Vec<MigCard> = Vec::new();
    for ((slices, units), plan) in instances {
        if let Some((left, held)) = cards.iter_mut().find(|c| c.0.0 >= *slices && c.0.1 >= *units) {
            *left = (left.0 - slices, left.1 - units);
            held.push((*slices, plan.clone()));
        } else {
            let whole = shape.card();
            let left = (whole.0.saturating_sub(*slices), whole.1.saturating_sub(*units));
            cards.push((left, vec![(*slices, plan.clone())]));
        }
    }
    cards
}

/// Steps that looking for a layout may take (ours: a search that succeeds takes one an instance).
const MAX_STEPS: u32 = 10_000;

/// Puts the instances, largest first, on so many cards, the emptiest first; `None`: they do not fit there.
fn spread(instances: &[((u32, u32), SlotPlan)], shape: &MigShape, cards: u64) -> Option<Vec<MigCard>> {
    let needs: Vec<(u32, u32)> = instances.iter().map(|(n, _)| *n).collect();
    let all: u64 = needs.iter().map(|(slices, _)| u64::from(*slices)).sum();
    if all > cards * u64::from(shape.pieces) {
        return None;
    }
    let mut left = vec![shape.card(); usize::try_from(cards).ok()?];
    let mut places = Vec::new();
    let mut search = Search {
        needs: &needs,
        steps: MAX_STEPS,
        dead: HashSet::new(),
    };
    if !search.place(&mut left, &mut places) {
        return None;
    }
    let mut cards: Vec<MigCard> = left.into_iter().map(|l| (l, Vec::new())).collect();
    for (((slices, _), plan), card) in instances.iter().zip(places) {
        cards[card].1.push((*slices, plan.clone()));
    }
    cards.retain(|(_, held)| !held.is_empty());
    Some(cards)
}

struct Search<'a> {
    needs: &'a [(u32, u32)],
    steps: u32,
    /// How many were placed, and what room that left: from there the rest has no place. Full cards are reached by many ways.
    dead: HashSet<(usize, Vec<(u32, u32)>)>,
}

impl Search<'_> {
    fn place(&mut self, left: &mut [(u32, u32)], places: &mut Vec<usize>) -> bool {
        let Some((slices, units)) = self.needs.get(places.len()).copied() else {
            return true;
        };
        let mut room = left.to_vec();
        room.sort_unstable();
        let here = (places.len(), room);
        if self.dead.contains(&here) {
            return false;
        }
        let mut order: Vec<usize> = (0..left.len())
            .filter(|c| left[*c].0 >= slices && left[*c].1 >= units)
            .collect();
        order.sort_by_key(|c| Reverse(left[*c]));
        // Cards with equal room are one choice.
        order.dedup_by_key(|c| left[*c]);
        for card in order {
            self.steps = self.steps.saturating_sub(1);
            if self.steps == 0 {
                return false;
            }
            let before = left[card];
            left[card] = (before.0 - slices, before.1 - units);
            places.push(card);
            if self.place(left, places) {
                return true;
            }
            places.pop();
            left[card] = before;
        }
        self.dead.insert(here);
        false
    }
}

/// Packs instances into cards; each card's rest becomes a slot nobody can ask for. `owned`: cards there are for them.
pub(super) fn mig_slots(mig: &BTreeMap<String, Amount>, shape: &MigShape, owned: Option<u64>) -> Vec<SlotPlan> {
    let mut instances: Vec<((u32, u32), SlotPlan)> = Vec::new();
    for (profile, of) in mig {
        let needs = shape.needs(profile);
        for index in 0..of.instances {
            let plan = SlotPlan {
                mig_profile: Some(profile.clone()),
                resource: Some(of.resource.clone()),
                sharers: of.sharers,
                healthy: index < of.usable,
                cause: Reason::LostDevice,
                ..SlotPlan::default()
            };
            instances.push((needs, plan));
        }
    }
    instances.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.mig_profile.cmp(&b.1.mig_profile)));
    let mut cards = pack(&instances, shape);
    let tight = cards.len() as u64;
    let roomy = cards.iter().any(|c| shape.room(c.0) > 0);
    // Where that leaves cards over, they do have instances: they are not lost, but cut in part. Where it takes more cards
    // than there are, they are cut otherwise.
    if let Some(found) = owned
        .filter(|n| (*n > tight && roomy) || (1..tight).contains(n))
        .and_then(|n| spread(&instances, shape, n))
    {
        cards = found;
    }
    let mut slots = Vec::new();
    for (left, held) in cards {
        let left = shape.room(left);
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
