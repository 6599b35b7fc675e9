//! Nodes of every kind: what they are cut into, and that the parts add up.

use super::*;
use crate::catalog::prices::PriceEntry;
use crate::fleet::CapacityType;
use crate::snapshot::cluster::Resources;
use crate::units::UsdPerHour;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn node(capacity: &[(&str, u64)], labels: &[(&str, &str)]) -> Seen {
    let devices: BTreeMap<String, u64> = capacity.iter().map(|(k, v)| ((*k).into(), *v)).collect();
    Seen {
        name: "n".into(),
        labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        capacity: Resources {
            devices: devices.clone(),
            ..Resources::default()
        },
        allocatable: Resources {
            devices,
            ..Resources::default()
        },
        ..Seen::default()
    }
}

fn described(seen: &Seen) -> Described {
    priced(seen, &PriceBook::default())
}

fn priced(seen: &Seen, prices: &PriceBook) -> Described {
    let around = Around {
        cluster: 0,
        cluster_name: "c",
        at: "2026-11-24T00:00:00Z".parse().unwrap(),
        prices,
        stale_days: 180,
        exporter: &[],
        sharing_layer: false,
        unseen: false,
        dra: DraView {
            devices: None,
            taken: &HashSet::new(),
            refused: false,
        },
    };
    describe(seen, &around)
}

const P5: &[(&str, &str)] = &[
    ("node.kubernetes.io/instance-type", "p5.48xlarge"),
    ("topology.kubernetes.io/region", "us-east-1"),
    ("karpenter.sh/capacity-type", "on-demand"),
    ("karpenter.sh/nodepool", "h100"),
];

#[test]
fn a_plain_node_is_priced_by_its_row() {
    let found = described(&Seen {
        provider: Some("aws".into()),
        ..node(&[("nvidia.com/gpu", 8)], P5)
    });
    assert_eq!(
        (found.node.gpu_name.as_str(), found.node.gpus, found.node.pool.as_str()),
        ("H100-SXM5-80GB", 8, "h100")
    );
    assert_eq!(found.node.price.usd_per_hour, UsdPerHour::from_usd(55.04));
    assert_eq!(found.node.capacity_type, CapacityType::OnDemand);
    let slots = slots_of(&found.node, NodeId(0), &found.slots);
    assert_eq!(
        slots.iter().filter_map(|s| s.price).sum::<UsdPerHour>(),
        UsdPerHour::from_usd(55.04).unwrap()
    );
}

#[test]
fn a_node_whose_device_plugin_is_down_keeps_its_gpus() {
    let found = described(&node(&[], P5));
    assert_eq!(found.node.gpus, 8);
    assert!(found.slots.iter().all(|s| !s.healthy && s.resource.is_none()));
    let partly = described(&node(&[("nvidia.com/gpu", 7)], P5));
    assert_eq!(
        (partly.node.gpus, partly.slots.iter().filter(|s| s.healthy).count()),
        (8, 7)
    );
}

#[test]
fn shared_gpus_are_counted_once() {
    let labels = [
        ("nvidia.com/gpu.product", "NVIDIA-L4-SHARED"),
        ("nvidia.com/gpu.replicas", "4"),
        ("nvidia.com/gpu.sharing-strategy", "time-slicing"),
        ("nvidia.com/gpu.count", "2"),
    ];
    let found = described(&node(&[("nvidia.com/gpu", 8)], &labels));
    assert_eq!((found.node.gpus, found.slots.len(), found.slots[0].sharers), (2, 2, 4));
    let gke = [
        ("cloud.google.com/gke-accelerator", "nvidia-l4"),
        ("cloud.google.com/gke-gpu-sharing-strategy", "time-sharing"),
        ("cloud.google.com/gke-max-shared-clients-per-gpu", "3"),
    ];
    assert_eq!(described(&node(&[("nvidia.com/gpu", 3)], &gke)).node.gpus, 1);
}

/// Fourteen shares of seven instances of one card, under the mixed and the single strategy, and GKE's instances, which
/// are advertised as GPUs.
#[test]
fn shared_instances_and_those_in_the_name_of_gpus_are_counted_once() {
    let h100 = ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3");
    let counted = |devices: &[(&str, u64)], labels: &[(&str, &str)]| {
        let found = described(&node(devices, labels));
        let first = &found.slots[0];
        let profile = first.mig_profile.clone().unwrap_or_default();
        (found.node.gpus, found.slots.len(), first.sharers, profile)
    };
    let seven = |sharers: u64| (1, 7, sharers, "1g.10gb".to_string());
    let mixed = [
        h100,
        ("nvidia.com/mig-1g.10gb.replicas", "2"),
        ("nvidia.com/mig-1g.10gb.sharing-strategy", "time-slicing"),
    ];
    assert_eq!(counted(&[("nvidia.com/mig-1g.10gb", 14)], &mixed), seven(2));
    assert_eq!(counted(&[("nvidia.com/mig-1g.10gb.shared", 14)], &mixed[..2]), seven(2));
    let older = [
        mixed[1],
        (
            "nvidia.com/mig-1g.10gb.product",
            "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED",
        ),
        h100,
    ];
    assert_eq!(counted(&[("nvidia.com/mig-1g.10gb", 14)], &older), seven(2));
    // Replicas of one: nothing is shared.
    let plain = [h100, ("nvidia.com/mig-1g.10gb.replicas", "1")];
    assert_eq!(counted(&[("nvidia.com/mig-1g.10gb", 7)], &plain), seven(1));
    let single = [
        ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED"),
        ("nvidia.com/gpu.replicas", "2"),
        ("nvidia.com/gpu.sharing-strategy", "time-slicing"),
    ];
    assert_eq!(counted(&[("nvidia.com/gpu", 14)], &single), seven(2));
    let gke = [
        ("cloud.google.com/gke-accelerator", "nvidia-h100-80gb"),
        ("cloud.google.com/gke-gpu-partition-size", "1g.10gb"),
    ];
    assert_eq!(counted(&[("nvidia.com/gpu", 7)], &gke), seven(1));
}

#[test]
fn mig_instances_are_fractions_and_the_rest_is_kept() {
    let labels = [
        ("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB"),
        ("nvidia.com/gpu.count", "2"),
    ];
    let found = described(&node(
        &[
            ("nvidia.com/gpu", 1),
            ("nvidia.com/mig-3g.40gb", 1),
            ("nvidia.com/mig-1g.10gb", 2),
        ],
        &labels,
    ));
    assert_eq!(found.node.gpus, 2);
    assert_eq!(found.slots.iter().map(|s| s.weight).sum::<u64>(), 2 * WHOLE_GPU);
    let rest = found
        .slots
        .iter()
        .find(|s| s.mig_profile.as_deref() == Some("unpartitioned"))
        .unwrap();
    assert!(rest.resource.is_none() && rest.weight > WHOLE_GPU / 4);
    let single = [
        ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"),
        ("nvidia.com/gpu.count", "7"),
        ("nvidia.com/gpu.memory", "9984"),
    ];
    let found = described(&node(&[("nvidia.com/gpu", 7)], &single));
    assert_eq!(
        (found.node.gpus, found.node.gpu_name.as_str(), found.slots.len()),
        (1, "H100-SXM5-80GB", 7)
    );
}

/// Instances of one card, A100 or H100 of 80 GB (NVIDIA's MIG user guide, supported configurations).
const LAYOUTS: &[&[&str]] = &[
    &["7g.80gb"],
    &["4g.40gb", "3g.40gb"],
    &["4g.40gb", "2g.20gb", "1g.10gb"],
    &["4g.40gb", "1g.10gb", "1g.10gb", "1g.10gb"],
    &["3g.40gb", "3g.40gb"],
    &["3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"],
    &["3g.40gb", "1g.20gb", "1g.10gb"],
    &["2g.20gb", "2g.20gb", "3g.40gb"],
    &["2g.20gb", "2g.20gb", "2g.20gb", "1g.10gb"],
    &["2g.20gb", "2g.20gb", "1g.20gb", "1g.10gb"],
    &["1g.20gb", "1g.20gb", "1g.20gb", "1g.20gb"],
    &[
        "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.10gb",
    ],
    &["2g.20gb"],
];

#[test]
fn intels_cards_are_counted_once_however_often_they_are_advertised() {
    let of = |advertised: &[(&str, u64)], labels: &[(&str, &str)]| {
        let found = described(&node(advertised, labels));
        let sharers: Vec<u64> = found.slots.iter().map(|s| s.sharers).collect();
        (found.node.gpus, sharers, found.node.custom_sharing)
    };
    let flex = [
        ("gpu.intel.com/product", "Flex_170"),
        ("gpu.intel.com/device.count", "2"),
    ];
    assert_eq!(of(&[("gpu.intel.com/i915", 2)], &flex), (2, vec![1, 1], false));
    // -shared-dev-num 10, and the resource that hands out nothing.
    let shared = [("gpu.intel.com/i915", 20), ("gpu.intel.com/i915_monitoring", 1)];
    assert_eq!(of(&shared, &flex), (2, vec![10, 10], false));
    let generic = [
        ("gpu.intel.com/device-id.0380-e211.count", "4"),
        ("gpu.intel.com/device-id.0380-e211.present", "true"),
    ];
    assert_eq!(of(&[("gpu.intel.com/xe", 8)], &generic), (4, vec![2; 4], false));
    // No label, or one that does not divide it: what is advertised is all there is to go by.
    assert_eq!(of(&[("gpu.intel.com/xe", 3)], &[]), (3, vec![1; 3], false));
    assert_eq!(of(&[("gpu.intel.com/xe", 3)], &flex), (3, vec![1; 3], false));
    // A card cut into seven virtual functions is eight PCI functions; so are eight cards of which one is not advertised.
    let functions = [("gpu.intel.com/device.count", "8")];
    assert_eq!(of(&[("gpu.intel.com/i915", 7)], &functions), (7, vec![1; 7], true));
    assert!(
        !of(&[("gpu.intel.com/i915_monitoring", 1)], &functions).2,
        "nothing is advertised"
    );
}

#[test]
fn an_unknown_gpu_is_named_and_not_guessed() {
    let found = described(&node(
        &[("nvidia.com/gpu", 2)],
        &[("nvidia.com/gpu.product", "NVIDIA-X9000")],
    ));
    assert_eq!(
        (found.node.gpu, found.unknown_gpu.as_deref()),
        (None, Some("NVIDIA-X9000"))
    );
    assert_eq!(found.node.price.usd_per_hour, None);
    assert_eq!(found.node.capacity_type, CapacityType::Owned);
}

proptest! {
    #[test]
    fn however_cards_are_cut_they_are_as_many_as_there_are(layouts in prop::collection::vec(0..LAYOUTS.len(), 1..=8)) {
        let mut capacity: BTreeMap<String, u64> = BTreeMap::new();
        for profile in layouts.iter().flat_map(|l| LAYOUTS[*l]) {
            *capacity.entry(format!("nvidia.com/mig-{profile}")).or_default() += 1;
        }
        let instances: u64 = capacity.values().sum();
        let whole = 8 - layouts.len() as u64;
        if whole > 0 {
            capacity.insert("nvidia.com/gpu".into(), whole);
        }
        let capacity: Vec<(&str, u64)> = capacity.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        let found = described(&node(&capacity, P5));
        prop_assert_eq!((found.node.gpus, found.slots.iter().map(|s| s.weight).sum::<u64>()), (8, 8 * WHOLE_GPU));
        let asked = found.slots.iter().filter(|s| s.resource.is_some()).count() as u64;
        prop_assert_eq!(asked, whole + instances);
    }

    #[test]
    fn weights_and_prices_add_up(whole in 0u64..9, g1 in 0u64..9, g2 in 0u64..5, g3 in 0u64..4, replicas in 1u64..6, micros in 1i64..100_000_000) {
        let replicas_text = replicas.to_string();
        let labels = [("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"), ("nvidia.com/gpu.sharing-strategy", "time-slicing"), ("nvidia.com/gpu.replicas", replicas_text.as_str())];
        let seen = node(&[("nvidia.com/gpu", whole * replicas), ("nvidia.com/mig-1g.10gb", g1), ("nvidia.com/mig-2g.20gb", g2), ("nvidia.com/mig-3g.40gb", g3)], &labels);
        let mut found = described(&seen);
        found.node.price.usd_per_hour = Some(UsdPerHour::from_micros(micros));
        let slots = slots_of(&found.node, NodeId(0), &found.slots);
        prop_assert_eq!(slots.iter().map(|s| s.weight).sum::<u64>(), u64::from(found.node.gpus) * WHOLE_GPU);
        if !slots.is_empty() {
            prop_assert_eq!(slots.iter().filter_map(|s| s.price).sum::<UsdPerHour>(), UsdPerHour::from_micros(micros));
        }
    }
}

/// A plan of two of the eight GPUs of a p5.48xlarge.
fn two_of_eight(capacity_type: &str) -> Seen {
    let mut plan = Seen {
        planned: true,
        ..node(&[("nvidia.com/gpu", 2)], P5)
    };
    let key = "karpenter.sh/capacity-type";
    plan.labels.insert(key.into(), capacity_type.into());
    plan
}

#[test]
fn a_plan_pays_its_part_of_the_node_that_it_would_be_placed_on() {
    let cost = |seen: &Seen, prices: &PriceBook| priced(seen, prices).node.price.usd_per_hour;
    let none = PriceBook::default();
    let whole = described(&node(&[("nvidia.com/gpu", 8)], P5)).node.price.usd_per_hour;
    let part = cost(&two_of_eight("on-demand"), &none);
    assert_eq!(part, whole.map(|p| p.scale(0.25)));
    assert!(part.is_some());
    // The machine has eight, but six of them are no plan's.
    let plan = described(&two_of_eight("on-demand"));
    assert_eq!((plan.node.gpus, plan.slots.len(), plan.node.planned), (2, 2, true));
    assert!(plan.slots.iter().all(|s| s.healthy));
    // Of spot capacity no list price is taken.
    assert_ne!(cost(&two_of_eight("spot"), &none), part);

    let book = |entry: PriceEntry| PriceBook {
        entries: vec![entry],
        bill: None,
    };
    let spot = book(PriceEntry {
        capacity_type: Some("spot".into()),
        gpu: Some("H100".into()),
        usd_per_gpu_hour: Some(2.0),
        ..PriceEntry::default()
    });
    assert_eq!(cost(&two_of_eight("spot"), &spot), UsdPerHour::from_usd(4.0));
    assert_eq!(cost(&two_of_eight("on-demand"), &spot), part, "it is for spot alone");
    let node_price = book(PriceEntry {
        instance_type: Some("p5.48xlarge".into()),
        usd_per_hour: Some(40.0),
        ..PriceEntry::default()
    });
    assert_eq!(
        cost(&two_of_eight("on-demand"), &node_price),
        UsdPerHour::from_usd(10.0)
    );
    // A node of a size that nobody knows: its price says nothing of its part.
    let mut unsized_node = two_of_eight("on-demand");
    let key = "node.kubernetes.io/instance-type";
    unsized_node.labels.insert(key.into(), "acme.gpu-box".into());
    let acme = book(PriceEntry {
        instance_type: Some("acme.gpu-box".into()),
        usd_per_hour: Some(40.0),
        ..PriceEntry::default()
    });
    assert_eq!(cost(&unsized_node, &acme), None);
}
