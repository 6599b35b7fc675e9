//! Who gets which GPU-hour (R4) and whether the bill stops (R5). A GPU's price is claimed once, however many checks
//! judge it: claims are served in the order of their rank and capped at what is left of the price.

use super::fingerprint;
use crate::analyze::Outcome;
use crate::analyze::finding::{Claim, Finding, FindingKind};
use crate::fleet::{Fleet, Node, Slot, SlotId, WorkloadId};
use crate::units::UsdPerHour;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Every finding of every check with its stable id; claims are resolved among any subset of them.
pub struct Ledger<'a> {
    pub fleet: &'a Fleet,
    pub findings: Vec<&'a Finding>,
    /// Fingerprints, one a finding, unique.
    pub ids: Vec<String>,
}

/// What each finding of the ledger gets. Findings outside the resolved subset get nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Parallel to [`Ledger::findings`].
    pub findings: Vec<Resolved>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Parallel to the finding's claims; `None`: the GPU's price is unknown.
    pub claims: Vec<Option<UsdPerHour>>,
    /// Σ of the priced claims; `None`: none is priced, or the finding claims nothing.
    pub usd_per_hour: Option<UsdPerHour>,
    /// The part of it on nodes that can go (R5).
    pub now: UsdPerHour,
}

impl<'a> Ledger<'a> {
    pub fn new(fleet: &'a Fleet, outcomes: &'a [(&'static str, Outcome)]) -> Self {
        let findings: Vec<&Finding> = outcomes.iter().flat_map(|(_, o)| &o.findings).collect();
        let ids = fingerprint::ids(&findings);
        Self { fleet, findings, ids }
    }

    /// R4 and R5 among the findings whose `tier` is set. Lower tiers are served first: suppressed findings are put in
    /// a later one, so that they never take money from those that count.
    pub fn resolve(&self, tier: impl Fn(usize) -> Option<u8>) -> Resolution {
        let mut order: Vec<(u8, usize)> = (0..self.findings.len()).filter_map(|i| Some((tier(i)?, i))).collect();
        order.sort_by_key(|&(tier, i)| {
            let finding = self.findings[i];
            let at_risk = finding.kind != FindingKind::Recoverable;
            (tier, at_risk, finding.rank, Reverse(finding.confidence), &self.ids[i])
        });
        let mut left: Vec<Option<UsdPerHour>> = self.fleet.slots.iter().map(|s| s.price).collect();
        let mut findings = vec![Resolved::default(); self.findings.len()];
        for &(_, i) in &order {
            if self.findings[i].kind != FindingKind::Trend {
                findings[i] = take(&self.findings[i].claims, &mut left);
            }
        }
        // Suppressed findings vacate nothing: the user said that they stay.
        let counted: BTreeSet<usize> = order.iter().filter(|(tier, _)| *tier == 0).map(|(_, i)| *i).collect();
        let returnable = self.returnable_nodes(&counted);
        for (i, resolved) in findings.iter_mut().enumerate() {
            let finding = self.findings[i];
            if finding.kind == FindingKind::Recoverable && counted.contains(&i) {
                resolved.now = finding
                    .claims
                    .iter()
                    .zip(&resolved.claims)
                    .filter(|(claim, _)| returnable[self.fleet.slot(claim.slot).node.0])
                    .filter_map(|(_, usd)| *usd)
                    .sum();
            }
        }
        Resolution { findings }
    }

    /// R5: nodes that are empty once the counted findings are acted on, and whose bill then stops.
    fn returnable_nodes(&self, counted: &BTreeSet<usize>) -> Vec<bool> {
        let mut leaving: BTreeMap<SlotId, BTreeSet<Option<WorkloadId>>> = BTreeMap::new();
        for &i in counted {
            let finding = self.findings[i];
            if finding.kind == FindingKind::Recoverable {
                for claim in finding.claims.iter().filter(|c| c.vacates) {
                    leaving.entry(claim.slot).or_default().insert(finding.workload);
                }
            }
        }
        let vacated: Vec<bool> = (0..self.fleet.slots.len())
            .map(|slot| self.is_vacated(SlotId(slot), &leaving))
            .collect();
        self.fleet.nodes.iter().map(|n| self.can_go(n, &vacated)).collect()
    }

    /// Every holder of a shared GPU must leave, not just one of them.
    fn is_vacated(&self, slot: SlotId, leaving: &BTreeMap<SlotId, BTreeSet<Option<WorkloadId>>>) -> bool {
        let Some(workloads) = leaving.get(&slot) else {
            return false;
        };
        let holders = &self.fleet.slot(slot).holders;
        holders.len() <= 1
            || workloads.contains(&None)
            || holders
                .iter()
                .all(|&pod| workloads.contains(&self.fleet.pod(pod).workload))
    }

    fn can_go(&self, node: &Node, vacated: &[bool]) -> bool {
        node.capacity_type.can_be_returned()
            && node.slot_count > 0
            && node.slot_ids().all(|slot| vacated[slot.0])
            && node
                .pods
                .iter()
                .map(|&pod| self.fleet.pod(pod))
                .all(|pod| pod.node_bound || (!pod.slots.is_empty() && pod.slots.iter().all(|slot| vacated[slot.0])))
    }

    /// The slot a claim is on, with its node.
    pub fn place(&self, claim: &Claim) -> (&'a Node, &'a Slot) {
        let slot = self.fleet.slot(claim.slot);
        (self.fleet.node(slot.node), slot)
    }
}

fn take(claims: &[Claim], left: &mut [Option<UsdPerHour>]) -> Resolved {
    let mut resolved = Resolved::default();
    for claim in claims {
        let granted = match (claim.usd_per_hour, left[claim.slot.0]) {
            (Some(asked), Some(rest)) => Some(asked.min(rest).max(UsdPerHour::ZERO)),
            _ => None,
        };
        if let (Some(granted), Some(rest)) = (granted, &mut left[claim.slot.0]) {
            *rest = *rest - granted;
            *resolved.usd_per_hour.get_or_insert(UsdPerHour::ZERO) += granted;
        }
        resolved.claims.push(granted);
    }
    resolved
}
