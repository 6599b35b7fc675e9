//! Who gets which GPU-hour (R4) and whether the bill stops (R5). A GPU's price is claimed once, however many checks
//! judge it: claims are served in the order of their rank and capped at what is left of the price (docs/rules.md).

use super::fingerprint;
use super::totals::any_known;
use crate::analyze::finding::{Claim, Confidence, Finding, FindingKind};
use crate::analyze::{Doubt, Outcome};
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
    /// Parallel to the findings, or empty: why one is estimated at best, by the record of such findings. It changes how sure a
    /// finding is said to be, never who gets which GPU-hour.
    pub caps: Vec<Option<String>>,
    /// What checks might have found more, had a setting been read.
    pub in_doubt: Vec<&'a Doubt>,
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
    /// The part of it on nodes that can go (R5), as surely as the finding itself is sure.
    pub now: UsdPerHour,
    /// Other findings that must be acted on too before one of its nodes is empty: indices into [`Ledger::findings`].
    pub with: BTreeSet<usize>,
    /// Those without which not all of `now` stops, with the findings about free GPUs of the same nodes.
    pub now_with: BTreeSet<usize>,
}

/// A node that is empty once findings are acted on, and whose bill then stops.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Returnable {
    /// Those findings: every holder of every GPU leaves by one of them.
    by: BTreeSet<usize>,
    /// Findings about its free GPUs: nobody leaves by them, but who keeps such a GPU keeps its node.
    free: BTreeSet<usize>,
    /// Of the least sure of those by which somebody leaves.
    confidence: Confidence,
}

impl<'a> Ledger<'a> {
    pub fn new(fleet: &'a Fleet, outcomes: &'a [(&'static str, Outcome)]) -> Self {
        let findings: Vec<&Finding> = outcomes.iter().flat_map(|(_, o)| &o.findings).collect();
        let ids = fingerprint::ids(&findings);
        Self {
            fleet,
            findings,
            ids,
            caps: Vec::new(),
            in_doubt: outcomes.iter().flat_map(|(_, o)| &o.in_doubt).collect(),
        }
    }

    /// What GPUs cost of which more of this kind might have been found: a read failed, or a setting stands where it could not be
    /// read; `None`: none of them has a known price.
    pub fn doubted(&self, kind: FindingKind) -> Option<UsdPerHour> {
        let read = (0..).zip(&self.fleet.slots).filter(|(_, s)| s.doubted || s.unsettled);
        let mut slots: BTreeSet<SlotId> = read.map(|(i, _)| SlotId(i)).collect();
        let unread = self.in_doubt.iter().filter(|d| d.kind == kind);
        slots.extend(unread.flat_map(|d| &d.slots));
        any_known(slots.into_iter().map(|s| self.fleet.slot(s).price))
    }

    /// The workloads whose settings or model hide what might be found of this kind: "ml/chat (meta-llama/Llama-3.1-8B-Instruct)".
    pub fn hidden(&self, kind: FindingKind) -> Option<String> {
        const NAMED: usize = 3;
        let of_kind = self.in_doubt.iter().filter(|d| d.kind == kind);
        let ids: BTreeSet<WorkloadId> = of_kind.map(|d| d.workload).collect();
        let mut names: Vec<String> = ids
            .iter()
            .take(NAMED)
            .map(|id| {
                let w = self.fleet.workload(*id);
                let model = w.model_label().map(|m| format!(" ({m})")).unwrap_or_default();
                format!("{}/{}{model}", w.namespace, w.name)
            })
            .collect();
        if ids.len() > NAMED {
            names.push(format!("{} more", ids.len() - NAMED));
        }
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// How sure a finding is, with what its record says of such findings.
    pub fn confidence(&self, i: usize) -> Confidence {
        let own = self.findings[i].confidence;
        match self.caps.get(i) {
            Some(Some(_)) => own.min(Confidence::Estimated),
            _ => own,
        }
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
        // Suppressed findings vacate nothing: the user said that they stay. Nor does what is not listed: nobody is told to do it.
        let listed = |i: &usize| !is_swallowed(self.findings[*i], &findings[*i]);
        let counted = order.iter().filter(|(tier, _)| *tier == 0).map(|(_, i)| *i);
        let counted: BTreeSet<usize> = counted.filter(listed).collect();
        let returnable = self.returnable_nodes(&counted);
        for (i, resolved) in findings.iter_mut().enumerate() {
            let finding = self.findings[i];
            if finding.kind != FindingKind::Recoverable || !counted.contains(&i) {
                continue;
            }
            for (claim, usd) in finding.claims.iter().zip(&resolved.claims) {
                let Some(node) = &returnable[self.fleet.slot(claim.slot).node.0] else {
                    continue;
                };
                // What is surer than what else has to be done is no bill that stops, but GPUs for others.
                let others = || node.by.iter().copied().filter(|other| *other != i);
                if node.confidence >= finding.confidence {
                    let usd = usd.unwrap_or_default();
                    resolved.now += usd;
                    let free = node.free.iter().copied().filter(|other| *other != i);
                    resolved
                        .now_with
                        .extend(others().chain(free).filter(|_| usd.is_positive()));
                }
                resolved.with.extend(others());
            }
        }
        Resolution { findings }
    }

    /// R5: nodes that are empty once the counted findings are acted on, and whose bill then stops.
    fn returnable_nodes(&self, counted: &BTreeSet<usize>) -> Vec<Option<Returnable>> {
        let mut leaving: BTreeMap<SlotId, Vec<usize>> = BTreeMap::new();
        for &i in counted {
            let finding = self.findings[i];
            if finding.kind == FindingKind::Recoverable {
                for claim in finding.claims.iter().filter(|c| c.vacates) {
                    leaving.entry(claim.slot).or_default().push(i);
                }
            }
        }
        let vacated: Vec<Option<BTreeSet<usize>>> = (0..self.fleet.slots.len())
            .map(|slot| self.vacated_by(SlotId(slot), &leaving))
            .collect();
        self.fleet
            .nodes
            .iter()
            .map(|node| {
                let goes = self.can_go(node, &vacated);
                goes.then(|| self.returnable(node, &vacated, &leaving))
            })
            .collect()
    }

    fn returnable(
        &self,
        node: &Node,
        vacated: &[Option<BTreeSet<usize>>],
        leaving: &BTreeMap<SlotId, Vec<usize>>,
    ) -> Returnable {
        let free = node.slot_ids().filter(|s| !self.fleet.slot(*s).is_allocated());
        let free = free.filter_map(|s| leaving.get(&s)?.first().copied()).collect();
        let by: BTreeSet<usize> = node
            .slot_ids()
            .filter_map(|slot| vacated[slot.0].as_ref())
            .flatten()
            .copied()
            .collect();
        let confidence = by.iter().map(|i| self.findings[*i].confidence).min();
        Returnable {
            by,
            free,
            // Nothing has to be done for it.
            confidence: confidence.unwrap_or(Confidence::Measured),
        }
    }

    /// The findings by which every holder of the GPU leaves, the surest for each; none where nobody holds it. `None`: somebody
    /// stays.
    fn vacated_by(&self, slot: SlotId, leaving: &BTreeMap<SlotId, Vec<usize>>) -> Option<BTreeSet<usize>> {
        let findings = leaving.get(&slot)?;
        let surest = |of: &dyn Fn(&Finding) -> bool| {
            let fitting = findings.iter().filter(|i| of(self.findings[**i]));
            fitting
                .max_by_key(|i| (self.findings[**i].confidence, Reverse(**i)))
                .copied()
        };
        let slot = self.fleet.slot(slot);
        if !slot.is_allocated() {
            return Some(BTreeSet::new());
        }
        // One finding about the GPU itself, or one about whoever is alone on it.
        let alone = slot.holders.len() <= 1;
        if let Some(one) = surest(&|f| alone || f.workload.is_none()) {
            return Some([one].into());
        }
        // Every holder of a shared GPU must leave, not just one of them.
        let each = slot.holders.iter().map(|&pod| {
            let workload = self.fleet.pod(pod).workload;
            surest(&|f| f.workload == workload)
        });
        each.collect()
    }

    fn can_go(&self, node: &Node, vacated: &[Option<BTreeSet<usize>>]) -> bool {
        let is_empty = |slot: SlotId| vacated[slot.0].is_some();
        !node.planned
            && node.capacity_type.can_be_returned()
            && node.slot_count > 0
            && node.slot_ids().all(is_empty)
            && node
                .pods
                .iter()
                .map(|&pod| self.fleet.pod(pod))
                .all(|pod| pod.node_bound || (!pod.slots.is_empty() && pod.slots.iter().all(|slot| is_empty(*slot))))
    }

    /// The slot a claim is on, with its node.
    pub fn place(&self, claim: &Claim) -> (&'a Node, &'a Slot) {
        let slot = self.fleet.slot(claim.slot);
        (self.fleet.node(slot.node), slot)
    }
}

/// All its money is in findings of a higher rank: listing it at $0 would say the same GPU twice.
pub(super) fn is_swallowed(finding: &Finding, resolved: &Resolved) -> bool {
    let asks = |c: &Claim| c.usd_per_hour.is_some_and(UsdPerHour::is_positive);
    finding.kind == FindingKind::Recoverable
        && finding.claims.iter().any(asks)
        && resolved.claims.iter().all(|c| c.is_some_and(|u| !u.is_positive()))
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
