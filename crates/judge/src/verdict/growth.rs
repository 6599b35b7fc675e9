//! What waste is new: a GPU's dollars that the baseline has under another finding's name (idle then, free now) are not.

use super::Place;
use crate::settings::Tolerance;
use crate::units::UsdPerHour;
use std::collections::BTreeMap;

/// A recoverable finding as money on GPUs.
#[derive(Clone, Debug, Default)]
pub struct Money {
    pub id: String,
    pub usd_per_hour: Option<UsdPerHour>,
    /// Empty where an older baseline does not tell.
    pub claims: BTreeMap<Place, UsdPerHour>,
}

impl Money {
    /// Instances of one card are told by the card's name: what is on it is added up.
    pub fn new(
        id: &str,
        usd_per_hour: Option<UsdPerHour>,
        claims: impl Iterator<Item = (Place, Option<UsdPerHour>)>,
    ) -> Self {
        let mut all: BTreeMap<Place, UsdPerHour> = BTreeMap::new();
        for (place, usd) in claims {
            if let Some(usd) = usd {
                *all.entry(place).or_default() += usd;
            }
        }
        Self {
            id: id.to_owned(),
            usd_per_hour,
            claims: all,
        }
    }
}

/// By how much each of `now` is more than `old` has, parallel to `now`; `None`: it has no known price.
///
/// A finding of both grew by the difference, where that is beyond the tolerance. What a new or grown finding claims on GPUs
/// whose money the old report had under another name moved there, and is no growth; each dollar moves once.
pub fn growth(old: &[Money], now: &[Money], tolerance: Tolerance) -> Vec<Option<UsdPerHour>> {
    let before: BTreeMap<&str, &Money> = old.iter().map(|m| (m.id.as_str(), m)).collect();
    // What the old report had on each GPU, less what the same findings still have there.
    let mut left: BTreeMap<&Place, i64> = BTreeMap::new();
    for (place, usd) in old.iter().flat_map(|m| &m.claims) {
        *left.entry(place).or_default() += usd.micros();
    }
    for money in now {
        let Some(was) = before.get(money.id.as_str()) else {
            continue;
        };
        for (place, usd) in &money.claims {
            if let (Some(old), Some(left)) = (was.claims.get(place), left.get_mut(place)) {
                *left -= old.micros().min(usd.micros());
            }
        }
    }
    now.iter()
        .map(|money| {
            let usd = money.usd_per_hour?.micros();
            let was = before.get(money.id.as_str());
            let had = was.map(|w| w.usd_per_hour.map(UsdPerHour::micros));
            let grown = match had {
                None => usd,
                // It had no price then: nobody can say that it grew.
                Some(None) => return Some(UsdPerHour::ZERO),
                Some(Some(had)) if within(had, usd, tolerance) => return Some(UsdPerHour::ZERO),
                Some(Some(had)) => usd - had,
            };
            let mut moved = 0;
            for (place, usd) in &money.claims {
                let own = was.and_then(|w| w.claims.get(place)).map_or(0, |u| u.micros());
                if let Some(left) = left.get_mut(place) {
                    let part = (usd.micros() - own).min(*left).min(grown - moved).max(0);
                    *left -= part;
                    moved += part;
                }
            }
            Some(UsdPerHour::from_micros(grown - moved))
        })
        .collect()
}

/// No more than prices and rounding move.
pub(super) fn within(before: i64, after: i64, tolerance: Tolerance) -> bool {
    let growth = (after - before) as f64 / 1e6;
    growth <= tolerance.usd_per_hour || growth <= before as f64 / 1e6 * tolerance.share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(id: &str, gpus: &[(&str, i64)]) -> Money {
        let claims: BTreeMap<Place, UsdPerHour> = gpus
            .iter()
            .map(|(gpu, usd)| {
                let place = Place {
                    cluster: None,
                    node: "a".into(),
                    gpu: (*gpu).into(),
                };
                (place, UsdPerHour::from_micros(usd * 1_000_000))
            })
            .collect();
        let usd = claims.values().copied().sum();
        Money {
            id: id.into(),
            usd_per_hour: Some(usd),
            claims,
        }
    }

    fn grown(old: &[Money], now: &[Money]) -> Vec<f64> {
        growth(old, now, Tolerance::default())
            .into_iter()
            .map(|u| u.unwrap().usd())
            .collect()
    }

    #[test]
    fn what_moves_from_one_name_to_another_is_not_new() {
        let idle = money("idle", &[("0", 4), ("1", 4)]);
        // The server was scaled to 0: its GPUs are free.
        assert_eq!(
            grown(std::slice::from_ref(&idle), &[money("free", &[("0", 4), ("1", 4)])]),
            [0.0]
        );
        // They join others that were free before.
        let old = [idle.clone(), money("free", &[("2", 4)])];
        assert_eq!(grown(&old, &[money("free", &[("0", 4), ("1", 4), ("2", 4)])]), [0.0]);
        // One more is new.
        assert_eq!(
            grown(&old, &[money("free", &[("0", 4), ("1", 4), ("2", 4), ("3", 4)])]),
            [4.0]
        );
        // It moved to one finding only; on GPUs of its own the other is new.
        assert_eq!(
            grown(
                &old,
                &[
                    money("free", &[("0", 4), ("2", 4)]),
                    money("other", &[("0", 4), ("7", 2)])
                ]
            ),
            [0.0, 6.0]
        );
        // While the server is still idle, its GPUs cover nobody else's waste.
        assert_eq!(
            grown(std::slice::from_ref(&idle), &[idle.clone(), money("late", &[("1", 3)])]),
            [0.0, 3.0]
        );
    }

    #[test]
    fn the_tolerance_is_that_of_the_baseline() {
        let old = money("x", &[("0", 100)]);
        assert_eq!(grown(std::slice::from_ref(&old), &[money("x", &[("0", 109)])]), [0.0]);
        assert_eq!(grown(std::slice::from_ref(&old), &[money("x", &[("0", 112)])]), [12.0]);
        let mut unpriced = money("x", &[("0", 5)]);
        unpriced.usd_per_hour = None;
        assert_eq!(growth(&[], &[unpriced], Tolerance::default()), [None]);
    }
}
