//! sharing-mismatch: time-sliced and MPS-shared GPUs that are asked for as if they were cards of their own.

use super::finding::{ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::support;
use super::{Check, Context, Outcome, explain};
use crate::fleet::{Fleet, PodId, SlotId, Workload, WorkloadClass, WorkloadId};
use crate::snapshot::server::EngineKind;

pub(crate) struct SharingMismatch;

const ID: &str = "sharing-mismatch";

/// vLLM's `gpu_memory_utilization` where none is set (fit's table of defaults: 0.9 before 0.20; the newer 0.92 only makes it worse).
const DEFAULT_UTILIZATION: f64 = 0.9;

impl Check for SharingMismatch {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Shared GPUs asked for as if they were whole: several shares for one pod, or servers whose memory shares exceed the card."
    }

    fn explain(&self) -> &'static str {
        explain::SHARING_MISMATCH
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        for (id, workload) in support::workloads(fleet).filter(|(_, w)| w.class == WorkloadClass::Server) {
            let slots = support::slots_of(workload);
            out.assessed.extend(&slots);
            out.findings.extend(shares(fleet, id, workload));
            out.findings.extend(memory(fleet, id, workload, &slots));
        }
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

/// Each vLLM takes its share of the card's whole memory, whoever else is on it.
fn memory(fleet: &Fleet, id: WorkloadId, workload: &Workload, slots: &[SlotId]) -> Option<Finding> {
    let wants = |pod: &PodId| -> Option<f64> {
        let other = fleet.workload(fleet.pod(*pod).workload?);
        let settings = other.settings.as_ref().filter(|s| s.engine == Some(EngineKind::Vllm))?;
        if settings.kv_cache_memory.is_some() {
            return None;
        }
        Some(settings.gpu_memory_utilization.unwrap_or(DEFAULT_UTILIZATION))
    };
    let total = |slot: &SlotId| -> Option<(f64, usize)> {
        let mut holders = fleet.slot(*slot).holders.clone();
        holders.sort_unstable();
        holders.dedup();
        let parts: Option<Vec<f64>> = holders.iter().map(wants).collect();
        let parts = parts.filter(|p| p.len() > 1)?;
        Some((parts.iter().sum(), parts.len()))
    };
    let (sum, servers) = slots.iter().filter_map(total).max_by(|a, b| a.0.total_cmp(&b.0))?;
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
