//! What several checks need: subjects, confidence of prices, scope, claims on a workload's GPUs.

use super::finding::{Claim, ClaimRank, Confidence, Finding, FindingKind, Fix, Subject};
use super::{Doubt, Outcome, opt_out};
use crate::analyze::rights;
use crate::fleet::{Fleet, Node, PriceSource, SlotId, SlotState, Workload, WorkloadId};
use crate::snapshot::server::UnreadSetting;
use crate::units::UsdPerHour;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Why something is not assessed, and what would let it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    pub(super) reason: Cow<'static, str>,
    pub(super) remedy: Cow<'static, str>,
    /// It is stated, and stands where it could not be read: with it more might have been found.
    pub(super) unread: bool,
}

pub(super) const fn lack(reason: &'static str, remedy: &'static str) -> Lack {
    Lack {
        reason: Cow::Borrowed(reason),
        remedy: Cow::Borrowed(remedy),
        unread: false,
    }
}

pub(super) const LET_IT_BE_READ: &str = "let it be read (grant the ConfigMap, render the template, check the file in the same run), or state it in the arguments";

/// What a setting decides that stands where it could not be read.
pub(super) fn unread(what: &str, setting: &UnreadSetting, remedy: &'static str) -> Lack {
    Lack {
        reason: format!("{what} is stated where it could not be read: {}", setting.place).into(),
        remedy: Cow::Borrowed(remedy),
        unread: true,
    }
}

/// The command that says what decides whether its model fits.
pub(super) fn see_fit(workload: &Workload) -> String {
    let model = workload.model_label().map(crate::report::act::quoted);
    format!("see 'gpuwaste fit {}'", model.as_deref().unwrap_or("MODEL"))
}

impl Outcome {
    pub(super) fn lacks(&mut self, lack: &Lack, slots: impl IntoIterator<Item = SlotId>) {
        self.not_assessed(&lack.reason, &lack.remedy, slots);
    }

    /// More might have been found of these slots of the workload, had a setting been read that stands where it could not be.
    pub(super) fn doubts(&mut self, kind: FindingKind, workload: WorkloadId, slots: impl IntoIterator<Item = SlotId>) {
        let slots: Vec<SlotId> = slots.into_iter().collect();
        if !slots.is_empty() {
            self.in_doubt.push(Doubt { kind, workload, slots });
        }
    }
}

/// A window of history begins at its first whole bin, so that up to one bin of what was asked for is not in it.
pub(super) fn lasts(window_seconds: f64, bin_seconds: Option<f64>, needed: u64) -> bool {
    window_seconds + bin_seconds.unwrap_or(0.0) >= needed as f64
}

/// A confidence under construction: the worst input decides, and says why (R6).
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) level: Confidence,
    pub(super) reasons: Vec<String>,
}

impl Judged {
    pub(super) fn measured(why: &str) -> Self {
        Self {
            level: Confidence::Measured,
            reasons: vec![why.into()],
        }
    }

    pub(super) fn at(level: Confidence, why: &str) -> Self {
        Self {
            level,
            reasons: vec![why.into()],
        }
    }

    /// Lowers to `level` where it is worse; the reason goes in front.
    pub(super) fn cap(&mut self, level: Confidence, why: &str) {
        if level < self.level {
            self.level = level;
            self.reasons.insert(0, why.into());
        }
    }

    /// As [`Self::cap`], and said even where something else is as bad.
    pub(super) fn note(&mut self, level: Confidence, why: &str) {
        self.level = self.level.min(level);
        self.reasons.insert(0, why.into());
    }

    /// A recoverable finding of this confidence; what it says, claims and advises is the check's own.
    pub(super) fn recoverable(
        self,
        check: &'static str,
        part: &'static str,
        rank: ClaimRank,
        subject: Subject,
    ) -> Finding {
        Finding {
            check,
            part: Some(part),
            kind: FindingKind::Recoverable,
            rank,
            title: String::new(),
            subject,
            workload: None,
            confidence: self.level,
            confidence_reasons: self.reasons,
            evidence: Vec::new(),
            claims: Vec::new(),
            fix: Fix::default(),
            ignored: None,
            trend_usd_per_hour: None,
        }
    }

    /// The prices behind the slots.
    pub(super) fn cap_by_price(&mut self, fleet: &Fleet, slots: &[SlotId]) {
        for slot in slots {
            if fleet.slot(*slot).guessed {
                let why = "which shared card its pods are on is not told: counted is the least that their share can be";
                self.cap(Confidence::Estimated, why);
            }
            let node = fleet.node(fleet.slot(*slot).node);
            if node.unseen {
                self.cap(
                    Confidence::Assumed,
                    "nodes could not be read: what it holds may be shared, and has no price",
                );
            }
            let price = &node.price;
            match price.source {
                PriceSource::Catalog if price.stale => {
                    self.cap(Confidence::Estimated, "the list price is older than stale_price_days");
                }
                PriceSource::User | PriceSource::Unknown | PriceSource::Catalog => {}
                PriceSource::RegionGuess => self.cap(
                    Confidence::Estimated,
                    "the price is another region's or another capacity type's",
                ),
                PriceSource::GpuMedian => {
                    self.cap(Confidence::Assumed, "the price is the GPU model's median over clouds");
                }
            }
        }
    }
}

/// As said of one workload and nothing that could be written as more: the rest by struct update.
pub(super) fn of_one(
    fleet: &Fleet,
    check: &'static str,
    part: Option<&'static str>,
    (id, workload): (WorkloadId, &Workload),
    judged: Judged,
) -> Finding {
    Finding {
        check,
        part,
        kind: FindingKind::AtRisk,
        rank: ClaimRank::None,
        title: String::new(),
        subject: of_workload(fleet, workload),
        workload: Some(id),
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence: Vec::new(),
        claims: Vec::new(),
        fix: Fix::default(),
        ignored: None,
        trend_usd_per_hour: None,
    }
}

/// Nothing of how large, how shared or how dear its GPUs are was read.
pub(super) fn on_unseen_nodes(fleet: &Fleet, slots: &[SlotId]) -> bool {
    slots.iter().any(|s| fleet.node(fleet.slot(*s).node).unseen)
}

/// Why such GPUs are not judged, and the way out.
pub(super) const UNSEEN: (&str, &str) = ("its nodes could not be read", rights::READ);

/// Why bins of a history are not judged, and the way out.
pub(super) const BY_OTHER_LIMITS: (&str, &str) = (
    "its bins of history were counted by other thresholds than this policy's",
    "record again with this policy (collect --policy), or judge with the thresholds of then",
);

/// R6 for figures of a window: measured where samples cover most of it.
pub(super) fn of_history(observed: &crate::fleet::Observed) -> Judged {
    if observed.coverage.is_some_and(|c| c >= crate::fleet::history::COVERED) {
        Judged::measured("history covers the window")
    } else {
        Judged::at(Confidence::Estimated, "samples cover less than 80 % of the window")
    }
}

pub(super) fn of_workload(fleet: &Fleet, workload: &Workload) -> Subject {
    let cluster = &fleet.clusters[workload.cluster];
    Subject {
        cluster: Some(cluster.name.clone()),
        kind: Some(workload.kind.clone()),
        namespace: Some(workload.namespace.clone()),
        name: Some(workload.name.clone()),
        pool: pool_of(fleet, workload),
        gpu: workload.gpu.map(|g| g.name.clone()),
        model: workload.model_label().map(String::from),
        engine: workload.engine().map(|e| e.name().to_string()),
        location: workload.origin.as_ref().map(|o| super::finding::Location {
            file: o.file.clone(),
            line: o.line,
            path: o.path.clone(),
        }),
        cluster_key: cluster.key.clone(),
    }
}

fn pool_of(fleet: &Fleet, workload: &Workload) -> Option<String> {
    let mut pools: Vec<&str> = workload
        .replicas
        .iter()
        .flat_map(|r| &r.slots)
        .map(|s| fleet.node(fleet.slot(*s).node).pool.as_str())
        .collect();
    pools.sort_unstable();
    pools.dedup();
    match pools.as_slice() {
        [one] if !one.is_empty() => Some((*one).to_string()),
        _ => None,
    }
}

/// A finding about the nodes of one pool and GPU.
pub(super) fn of_pool(fleet: &Fleet, node: &Node) -> Subject {
    let cluster = &fleet.clusters[node.cluster];
    Subject {
        cluster: Some(cluster.name.clone()),
        kind: Some("NodePool".into()),
        name: Some(if node.pool.is_empty() {
            node.instance_type.clone().unwrap_or_else(|| "nodes".into())
        } else {
            node.pool.clone()
        }),
        pool: Some(node.pool.clone()).filter(|p| !p.is_empty()),
        gpu: Some(node.gpu_name.clone()),
        cluster_key: cluster.key.clone(),
        ..Subject::default()
    }
}

/// Nodes named before the others are counted.
const NAMED: usize = 5;

/// "gpu-1, gpu-2 and 3 more": the nodes of these slots.
pub(super) fn nodes_of(fleet: &Fleet, slots: &[SlotId]) -> String {
    let nodes = slots.iter().map(|s| fleet.node(fleet.slot(*s).node).name.as_str());
    named(&nodes.collect::<BTreeSet<_>>())
}

pub(super) fn named(names: &BTreeSet<&str>) -> String {
    let first: Vec<&str> = names.iter().take(NAMED).copied().collect();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!("{}{more}", first.join(", "))
}

/// A workload's claims on slots that it would leave: of a shared one, its pods' shares (R1); where who shares it is a guess,
/// the least that they can be.
pub(super) fn claims_of(fleet: &Fleet, workload: &Workload, slots: &[SlotId]) -> Vec<Claim> {
    let share = |slot: SlotId| -> Option<UsdPerHour> {
        let slot = fleet.slot(slot);
        let sharers = if slot.guessed { slot.sharers as usize } else { 1 };
        let parts = slot.price?.split(slot.holders.len().max(sharers).max(1));
        let own = slot
            .holders
            .iter()
            .zip(parts)
            .filter(|(p, _)| workload.pods.contains(p));
        Some(own.map(|(_, part)| part).sum())
    };
    let claim = |slot: &SlotId| Claim {
        slot: *slot,
        usd_per_hour: share(*slot),
        vacates: true,
    };
    slots.iter().map(claim).collect()
}

/// Claims on a part of what a workload pays for slots that it keeps.
pub(super) fn part_of(fleet: &Fleet, workload: &Workload, slots: &[SlotId], part: f64) -> Vec<Claim> {
    let mut claims = claims_of(fleet, workload, slots);
    for claim in &mut claims {
        claim.usd_per_hour = claim.usd_per_hour.map(|usd| usd.scale(part));
        claim.vacates = false;
    }
    claims
}

/// Full claims on slots.
pub(super) fn claims(fleet: &Fleet, slots: &[SlotId], vacates: bool) -> Vec<Claim> {
    slots
        .iter()
        .map(|s| Claim {
            slot: *s,
            usd_per_hour: fleet.slot(*s).price,
            vacates,
        })
        .collect()
}

/// `-n`/`-l`: the workload is one the user asked about.
pub(super) fn in_scope(fleet: &Fleet, workload: &Workload) -> bool {
    let cluster = &fleet.clusters[workload.cluster];
    let named = cluster.namespaces.is_empty() || cluster.namespaces.contains(&workload.namespace);
    let selected = !cluster.selected_only || workload.pods.iter().any(|p| fleet.pod(*p).selected);
    named && selected
}

/// Workloads in scope, with their ids.
pub(super) fn workloads(fleet: &Fleet) -> impl Iterator<Item = (WorkloadId, &Workload)> {
    fleet
        .workloads
        .iter()
        .enumerate()
        .map(|(i, w)| (WorkloadId(i), w))
        .filter(|(_, w)| in_scope(fleet, w))
}

pub(super) fn slots_of(workload: &Workload) -> Vec<SlotId> {
    let mut slots: Vec<SlotId> = workload.replicas.iter().flat_map(|r| r.slots.iter().copied()).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// vLLM's documented need: `2 × (A + DP + N + [DP > 1])` vCPU, A API servers (default DP), N GPU workers.
pub(super) fn vllm_vcpu(api_servers: Option<u32>, data_parallel: u32, gpus: u32) -> f64 {
    let ranks = data_parallel.max(1);
    let coordinator = u32::from(ranks > 1);
    2.0 * f64::from(api_servers.unwrap_or(ranks) + ranks + gpus + coordinator)
}

/// Seconds in the words people use: "45 min", "6 h", "12 d".
pub(super) fn span(seconds: f64) -> String {
    let hours = seconds / 3600.0;
    if hours < 1.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if hours < 48.0 {
        format!("{hours:.0} h")
    } else {
        format!("{:.0} d", hours / 24.0)
    }
}

pub(super) fn gpus(count: usize) -> String {
    if count == 1 {
        "1 GPU".into()
    } else {
        format!("{count} GPUs")
    }
}

/// Times that were written by a clock which is not ours are in doubt by as much as the clocks differ: what rests on them is not
/// measured. A store's series rest on the store's clock alone.
pub(super) fn cap_by_clock(fleet: &Fleet, finding: &mut Finding) {
    let by_history = finding.evidence.iter().any(|e| e.source == "prometheus");
    if let Some(whose) = clock_in_doubt(fleet, finding, by_history)
        && finding.confidence > Confidence::Estimated
    {
        finding.confidence = Confidence::Estimated;
        let what = if by_history {
            "when it was so"
        } else {
            "since when it is so"
        };
        let why = format!("{whose}: {what} is in doubt");
        finding.confidence_reasons.insert(0, why);
    }
}

/// Why the times that a finding rests on are in doubt.
fn clock_in_doubt(fleet: &Fleet, finding: &Finding, by_history: bool) -> Option<String> {
    let nodes = || finding.claims.iter().map(|c| fleet.node(fleet.slot(c.slot).node));
    let workload = finding.workload.map(|w| fleet.workload(w));
    // What claims nothing is about the cluster that it names, or about all.
    let its = |index: usize| match (workload, finding.claims.is_empty(), &finding.subject.cluster) {
        (None, true, None) => true,
        (None, true, Some(name)) => fleet.clusters[index].name == *name,
        _ => nodes()
            .map(|n| n.cluster)
            .chain(workload.map(|w| w.cluster))
            .any(|c| c == index),
    };
    let clusters = || fleet.clusters.iter().enumerate().filter(|(i, _)| its(*i));
    if by_history {
        let doubted = clusters().any(|(_, c)| c.store_clock_in_doubt);
        return doubted.then(|| not_ours("the store"));
    }
    if clusters().any(|(_, c)| c.clock_in_doubt) {
        return Some(not_ours("the API server"));
    }
    let pods = || workload.into_iter().flat_map(|w| &w.pods).map(|p| fleet.pod(*p));
    let theirs = || pods().filter_map(|p| Some(fleet.node(p.node?)));
    let node = nodes().chain(theirs()).find(|n| n.clock_in_doubt);
    let of_node = node.map(|n| not_ours(&format!("node {}", n.name)));
    of_node.or_else(|| {
        let pod = pods().find(|p| p.clock_in_doubt);
        pod.map(|p| not_ours(&format!("pod {}/{}", p.namespace, p.name)))
    })
}

fn not_ours(whose: &str) -> String {
    format!("{whose}'s clock is not this machine's")
}

/// Nobody is told to change a workload whose owner could not be asked whether it opted out, or what else it owns.
pub(super) fn set_aside_unread_owners(fleet: &Fleet, out: &mut Outcome) {
    let unread = |f: &Finding| f.workload.is_some_and(|w| fleet.workload(w).owner_unread);
    let (aside, kept) = std::mem::take(&mut out.findings).into_iter().partition(unread);
    out.findings = kept;
    let aside: Vec<Finding> = aside;
    let slots: BTreeSet<SlotId> = aside
        .iter()
        .filter_map(|f| f.workload)
        .flat_map(|w| slots_of(fleet.workload(w)))
        .collect();
    out.assessed.retain(|s| !slots.contains(s));
    out.not_assessed(
        "its owner could not be read: it may have opted out, or be a part of something larger",
        rights::READ,
        slots,
    );
}

/// What its owner opted out of is counted by no gate, and so is what might be found of it.
pub(super) fn settle_doubts(fleet: &Fleet, check: &str, out: &mut Outcome) {
    out.in_doubt
        .retain(|d| !opt_out::of_check(fleet.workload(d.workload), check));
}

/// It is not claimed as a whole by what is said of its state.
pub(super) fn is_open(fleet: &Fleet, slot: SlotId) -> bool {
    matches!(fleet.slot(slot).state, SlotState::Working | SlotState::Unknown)
}
