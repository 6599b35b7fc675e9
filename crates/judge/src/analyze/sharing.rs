//! sharing-mismatch: time-sliced and MPS-shared GPUs that are asked for as if they were cards of their own.

use super::finding::{ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::support;
use super::{Check, Context, Outcome, documented};
use crate::engine;
use crate::fleet::{Fleet, PodId, Slot, SlotId, Workload, WorkloadClass, WorkloadId};
use crate::settings::Thresholds;
use std::collections::{BTreeMap, BTreeSet};

documented! {
    since "0.1.0";
    /// What it finds. Time-sliced or MPS-shared GPUs asked for as if they were whole: a pod with several shares of one card (shares),
    /// or vLLM servers on one card whose --gpu-memory-utilization adds up to more than 1 (memory); cards so busy that their sharers wait
    /// for one another (crowded); and cards with few sharers each that together would do on fewer cards (spread).
    ///
    /// Why it costs. Two shares of a card are not two cards: they bring neither memory nor time, and keep others out. Servers that ask
    /// for more memory than the card has fail when they start. Two sharers of a card that is busy all the time each get half of it; a card
    /// cut in eight for one sharer is a whole card for a small job.
    ///
    /// How the dollars are computed. None are claimed: who is kept out is not known, and whether sharers fit on one card in memory is not
    /// either. The price of the cards that could go is in the evidence.
    ///
    /// When it is wrong. A server with --kv-cache-memory-bytes ignores its utilization, and is left out. Utilization is the device's, not
    /// a sharer's: crowded says that the card is full, not whose work fills it.
    ///
    /// What to do. One share a pod; utilizations that add up to less than 1, or MIG slices; fewer sharers for a busy card, more for a calm
    /// one.
    pub(crate) struct SharingMismatch;
}

const ID: &str = "sharing-mismatch";

impl Check for SharingMismatch {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Shared GPUs used as if they were whole: several shares for one pod, memory shares beyond the card, too many sharers or too few."
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[Some("shares"), Some("memory"), Some("crowded"), Some("spread")]
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        for (id, workload) in support::workloads(fleet).filter(|(_, w)| w.class == WorkloadClass::Server) {
            let slots = support::slots_of(workload);
            out.assessed.extend(&slots);
            out.findings.extend(shares(fleet, id, workload));
            out.findings.extend(memory(fleet, id, workload, &slots));
        }
        let t = &context.settings.thresholds;
        for (id, workload) in support::workloads(fleet) {
            out.findings.extend(crowded(fleet, t, id, workload));
        }
        spread(fleet, t, out);
    }
}

/// Shares are turns on one card: two of them are not two cards, and not twice the time either.
fn shares(fleet: &Fleet, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let held = |pod: &PodId| -> (usize, usize) {
        let slots = &fleet.pod(*pod).slots;
        let times = slots
            .iter()
            .map(|s| fleet.slot(*s).holders.iter().filter(|h| *h == pod).count())
            .sum();
        (times, slots.len())
    };
    let (shares, cards) = workload.pods.iter().map(held).find(|(shares, cards)| shares > cards)?;
    Some(Finding {
        part: Some("shares"),
        title: format!("{}: asks for {shares} shares and gets {cards} shared {}", workload.name, card(cards)),
        evidence: vec![
            Evidence::number("shares", shares as f64, "shares", "kubernetes").expected(cards as f64),
            Evidence::number("cards", cards as f64, "gpus", "kubernetes"),
        ],
        fix: Fix {
            summary: "Ask for one share: more of them bring neither memory nor time, and keep others out. For more power ask for a whole card.".into(),
            ..Fix::default()
        },
        ..listed(fleet, id, workload)
    })
}

fn card(cards: usize) -> &'static str {
    if cards == 1 { "card" } else { "cards" }
}

/// Each vLLM, and what works as it does, takes its share of the card's whole memory, whoever else is on it.
fn memory(fleet: &Fleet, id: WorkloadId, workload: &Workload, slots: &[SlotId]) -> Option<Finding> {
    let wants = |pod: &PodId| -> Option<f64> {
        let other = fleet.workload(fleet.pod(*pod).workload?);
        let settings = other.settings.as_ref()?;
        let by_default = engine::facts(settings.engine)?.card_share?;
        if settings.kv_cache_memory.is_some() {
            return None;
        }
        Some(settings.gpu_memory_utilization.unwrap_or(by_default.0))
    };
    let total = |slot: &SlotId| -> Option<(f64, usize)> {
        let mut holders = fleet.slot(*slot).holders.clone();
        holders.sort_unstable();
        holders.dedup();
        let parts: Option<Vec<f64>> = holders.iter().map(wants).collect();
        let parts = parts.filter(|p| p.len() > 1)?;
        Some((parts.iter().sum(), parts.len()))
    };
    let placed = slots.iter().filter(|s| !fleet.slot(**s).guessed);
    let (sum, servers) = placed.filter_map(total).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (sum > 1.0).then(|| Finding {
        part: Some("memory"),
        title: format!("{}: {servers} servers on one card ask for {:.0} % of its memory", workload.name, sum * 100.0),
        evidence: vec![
            Evidence::number("gpu_memory_utilization_sum", sum, "ratio", "kubernetes").expected(1.0),
            Evidence::number("servers_on_the_card", servers as f64, "servers", "kubernetes"),
        ],
        fix: Fix {
            summary: format!("Set --gpu-memory-utilization to at most {:.2} on each, or give each a MIG slice: the last to start fails for memory.", 1.0 / servers as f64),
            ..Fix::default()
        },
        ..listed(fleet, id, workload)
    })
}

/// How busy a device was on average, as far as enough of it was seen to speak of.
fn busy(fleet: &Fleet, slot: &Slot) -> Option<f64> {
    // Another exporter of the node was not read, and may have seen more.
    let lost = fleet.node(slot.node).exporter_lost;
    let activity = slot.activity.as_ref().filter(|a| a.history || !lost)?;
    // Of two looks seconds apart both must agree: the mean of one sample is a moment.
    let stat = activity.engine_active.filter(|_| activity.window_seconds > 0.0)?;
    // GPU_UTIL and GR_ENGINE are the device's: of all its sharers together.
    stat.mean
}

fn sharers(slot: &Slot) -> BTreeSet<PodId> {
    slot.holders.iter().copied().collect()
}

/// Several pods on a card that is busy all the time: each gets a part, and nobody's utilization shows it.
fn crowded(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let (slot, mean) = support::slots_of(workload)
        .into_iter()
        .map(|s| fleet.slot(s))
        .filter(|s| !s.guessed && sharers(s).len() > 1)
        .filter_map(|s| Some((s, busy(fleet, s)?)))
        .filter(|(_, mean)| *mean >= t.shared_card_busy)
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    let window = slot.activity.as_ref().map_or(0.0, |a| a.window_seconds);
    let count = sharers(slot).len();
    Some(Finding {
        part: Some("crowded"),
        title: format!("{}: {count} pods share a card that is {:.0} % busy", workload.name, mean * 100.0),
        evidence: vec![
            Evidence::number("device_activity_mean", mean, "ratio", "exporter")
                .expected(t.shared_card_busy)
                .window(window, None),
            Evidence::number("pods_on_the_card", count as f64, "pods", "kubernetes"),
        ],
        confidence_reasons: vec!["activity is the device's: it does not tell whose work fills it".into()],
        fix: Fix {
            summary: "Let fewer pods share it (fewer replicas in the sharing config), or give the busiest a card or MIG slice of its own.".into(),
            ..Fix::default()
        },
        ..listed(fleet, id, workload)
    })
}

/// Cards cut for many pods that few use: together they would do on fewer.
fn spread(fleet: &Fleet, t: &Thresholds, out: &mut Outcome) {
    let mut pools: BTreeMap<(usize, &str, &str, u64), Vec<SlotId>> = BTreeMap::new();
    for (index, slot) in fleet
        .slots
        .iter()
        .enumerate()
        .filter(|(_, s)| s.sharers > 1 && s.mig_profile.is_none() && !s.holders.is_empty())
    {
        let node = fleet.node(slot.node);
        if !fleet.clusters[node.cluster].pods_known {
            continue;
        }
        let key = (node.cluster, node.pool.as_str(), node.gpu_name.as_str(), slot.sharers);
        pools.entry(key).or_default().push(SlotId(index));
    }
    for ((.., each), slots) in pools {
        let held: usize = slots.iter().map(|s| fleet.slot(*s).holders.len()).sum();
        let by_count = (held as u64).div_ceil(each);
        let activity: Option<Vec<f64>> = slots
            .iter()
            .map(|s| busy(fleet, fleet.slot(*s)).filter(|_| !fleet.slot(*s).guessed))
            .collect();
        let Some(activity) = activity else {
            out.not_assessed(
                "how busy shared cards are, or who is on which, is unknown: whether their pods would do on fewer cannot be judged",
                "let a GPU exporter be scraped (pods/proxy), or give Prometheus",
                slots.iter().copied().filter(|_| by_count < slots.len() as u64),
            );
            continue;
        };
        let total: f64 = activity.iter().sum();
        let needed = by_count.max((total / t.shared_card_room).ceil() as u64).max(1);
        let spare = (slots.len() as u64).saturating_sub(needed);
        if spare == 0 {
            continue;
        }
        let node = fleet.node(fleet.slot(slots[0]).node);
        let price = fleet.slot(slots[0]).price;
        let subject = support::of_pool(fleet, node);
        let mut evidence = vec![
            Evidence::number("shares_in_use", held as f64, "shares", "kubernetes"),
            Evidence::number(
                "shares_of_those_cards",
                slots.len() as f64 * each as f64,
                "shares",
                "kubernetes",
            ),
            Evidence::number("cards_in_use", slots.len() as f64, "gpus", "kubernetes").expected(needed as f64),
            Evidence::number("device_activity_sum", total, "ratio", "exporter"),
        ];
        if let Some(price) = price {
            evidence.push(Evidence::number(
                "price_of_cards_that_could_go",
                price.usd() * spare as f64,
                "usd/h",
                "catalog",
            ));
        }
        out.findings.push(Finding {
            check: ID,
            part: Some("spread"),
            kind: FindingKind::AtRisk,
            rank: ClaimRank::None,
            title: format!(
                "{} {} cut in {each} hold {held} pods in pool {}: {needed} would do",
                slots.len(),
                card(slots.len()),
                subject.name.as_deref().unwrap_or("?")
            ),
            subject,
            workload: None,
            confidence: Confidence::Estimated,
            confidence_reasons: vec!["whether the pods' memory fits on fewer cards is not known".into()],
            evidence,
            claims: Vec::new(),
            fix: Fix {
                summary: "Let the scheduler pack shared GPUs (one node at a time, MostAllocated), or cut the cards in fewer shares; check that the pods' memory fits together.".into(),
                ..Fix::default()
            },
            ignored: None,
            trend_usd_per_hour: None,
        });
    }
}

fn listed(fleet: &Fleet, id: WorkloadId, workload: &Workload) -> Finding {
    Finding {
        check: ID,
        part: None,
        kind: FindingKind::AtRisk,
        rank: ClaimRank::None,
        title: String::new(),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: Confidence::Estimated,
        confidence_reasons: vec!["the specification only: what it costs depends on who is kept out".into()],
        evidence: Vec::new(),
        claims: Vec::new(),
        fix: Fix::default(),
        ignored: None,
        trend_usd_per_hour: None,
    }
}
