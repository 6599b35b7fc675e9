//! Nodes with cards of several models: labels name the first, exporters all of them.

use super::{Around, PriceQuery, SlotPlan, price_of};
use crate::catalog::gpus;
use crate::catalog::prices::{NodePrice, PriceSource};
use crate::fleet::slot::SlotModel;
use crate::units::UsdPerHour;
use std::collections::BTreeSet;

/// What takes the place of "the node's GPU".
pub(super) struct Mixed {
    /// All models, by name: "GTX 1080 Ti + V100-PCIE-16GB".
    pub(super) name: String,
    /// A model that the catalogue lacks.
    pub(super) unknown: Option<String>,
    pub(super) price: NodePrice,
}

/// Gives each slot its own card, where the node's cards are of several models and an exporter shows each of them.
pub(super) fn models(
    slots: &mut [SlotPlan],
    around: &Around<'_>,
    query: &PriceQuery<'_>,
    price: &NodePrice,
) -> Option<Mixed> {
    let name_of = |told: &str| gpus::find(told).map_or_else(|| told.to_string(), |g| g.name.clone());
    let models: Option<Vec<&str>> = around.exporter.iter().map(|d| d.model).collect();
    let names: BTreeSet<String> = models?.into_iter().map(name_of).collect();
    if names.len() < 2 || slots.len() != around.exporter.len() || slots.iter().any(|s| s.mig_profile.is_some()) {
        return None;
    }
    // The whole machine's price is split over its cards; a card's median is its own.
    let of_machine = matches!(
        price.source,
        PriceSource::User | PriceSource::Catalog | PriceSource::RegionGuess
    );
    let mut unknown = None;
    let mut sum = Some(UsdPerHour::from_micros(0));
    let mut of_cards = None;
    for (slot, device) in slots.iter_mut().zip(around.exporter) {
        let told = device.model.unwrap_or_default();
        let facts = gpus::find(told);
        if facts.is_none() {
            unknown = Some(told.to_string());
        }
        let one = PriceQuery {
            gpu: facts,
            gpus: 1,
            machine: None,
            ..query.clone()
        };
        let own = price_of(&one, around.prices, around.at, around.stale_days).0;
        sum = sum.zip(own.usd_per_hour).map(|(a, b)| a + b);
        slot.name = Some(device.uuid.to_string());
        slot.model = Some(Box::new(SlotModel {
            facts,
            name: name_of(told),
            own_price: !of_machine,
            price: own.usd_per_hour,
        }));
        if own.usd_per_hour.is_some() {
            of_cards = Some(own);
        }
    }
    let price = if of_machine {
        price.clone()
    } else {
        NodePrice {
            usd_per_hour: sum,
            ..of_cards.unwrap_or_default()
        }
    };
    Some(Mixed {
        name: names.into_iter().collect::<Vec<_>>().join(" + "),
        unknown,
        price,
    })
}
