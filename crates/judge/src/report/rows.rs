//! Workloads, nodes and groups of the report.

use super::document::{Group, Groups, Hourly, ObservedFigures, ReportNode, ReportPrice, ReportWorkload, UnitCosts};
use super::ledger::{Ledger, Resolution};
use super::totals;
use crate::analyze;
use crate::analyze::finding::{Finding, FindingKind};
use crate::fleet::past::PARTITION;
use crate::fleet::unit_cost::{Sum, UnitCost};
use crate::fleet::{Fleet, Node, Observed, PodId, Slot, SlotState, Workload, WorkloadClass, WorkloadId};
use crate::snapshot::owners::USER;
use crate::units::UsdPerHour;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// `--group-by`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Namespace,
    Workload,
    Model,
    Gpu,
    Node,
    Cluster,
    /// The policy's ownership labels.
    Owner,
    /// Of Slurm's jobs their user, account or partition; of others a label of that name.
    User,
    Account,
    Partition,
    /// A label of the workload, else of the node.
    Label(String),
}

impl FromStr for GroupBy {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "namespace" => Self::Namespace,
            "workload" => Self::Workload,
            "model" => Self::Model,
            "gpu" => Self::Gpu,
            "node" => Self::Node,
            "cluster" => Self::Cluster,
            "owner" => Self::Owner,
            "user" => Self::User,
            "account" => Self::Account,
            "partition" => Self::Partition,
            label => Self::Label(label.to_owned()),
        })
    }
}

impl fmt::Display for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespace => "namespace",
            Self::Workload => "workload",
            Self::Model => "model",
            Self::Gpu => "gpu",
            Self::Node => "node",
            Self::Cluster => "cluster",
            Self::Owner => "owner",
            Self::User => "user",
            Self::Account => "account",
            Self::Partition => "partition",
            Self::Label(label) => label,
        })
    }
}

impl GroupBy {
    /// The labels that it asks of a workload, the first that there is; `None`: it is told otherwise.
    pub fn labels(&self, owner_labels: &[String]) -> Option<Vec<String>> {
        let named = |names: [&str; 2]| Some(names.map(str::to_owned).to_vec());
        match self {
            Self::Owner => Some(owner_labels.to_vec()),
            Self::User => named([USER, "user"]),
            Self::Account => named(["slurm/account", "account"]),
            Self::Partition => named([PARTITION, "partition"]),
            Self::Label(label) => Some(vec![label.clone()]),
            _ => None,
        }
    }
}

/// GPUs that nobody holds.
const NOBODY: &str = "(unallocated)";
/// GPUs whose holder nobody could read.
const UNREAD: &str = "(holder not known)";
/// Held, but the holder has no such property.
pub(super) const NONE: &str = "(none)";

pub fn cluster_name(fleet: &Fleet, cluster: usize) -> Option<String> {
    fleet
        .clusters
        .get(cluster)
        .map(|c| c.name.clone())
        .filter(|n| !n.is_empty())
}

pub fn nodes(fleet: &Fleet) -> Vec<ReportNode> {
    let mut rows: Vec<ReportNode> = fleet.nodes.iter().map(|node| node_row(fleet, node)).collect();
    rows.sort_by(|a, b| (&a.cluster, &a.name).cmp(&(&b.cluster, &b.name)));
    rows
}

pub(super) fn node_row(fleet: &Fleet, node: &Node) -> ReportNode {
    let mut states: BTreeMap<String, u64> = SlotState::ALL.iter().map(|s| (s.name().to_owned(), 0)).collect();
    for slot in node.slot_ids().map(|s| fleet.slot(s)) {
        *states.entry(slot.state.name().to_owned()).or_default() += slot.weight;
    }
    ReportNode {
        cluster: cluster_name(fleet, node.cluster),
        name: node.name.clone(),
        pool: Some(node.pool.clone()).filter(|p| !p.is_empty()),
        instance_type: node.instance_type.clone(),
        region: node.region.clone(),
        capacity_type: node.capacity_type.name().map(str::to_owned),
        gpu: Some(node.gpu_name.clone()).filter(|g| !g.is_empty() && g != "unknown"),
        gpus: u64::from(node.gpus),
        price: ReportPrice {
            usd_per_hour: node.price.usd_per_hour,
            source: node.price.source.name().to_owned(),
            as_of: node.price.as_of.clone(),
        },
        states: states
            .into_iter()
            .map(|(state, weight)| (state, totals::gpus(weight)))
            .collect(),
    }
}

/// What tokens cost, workload by workload.
pub(super) fn unit_costs(fleet: &Fleet) -> Vec<Option<UnitCost>> {
    let ids = (0..fleet.workloads.len()).map(WorkloadId);
    ids.map(|id| UnitCost::of(fleet, id, price(fleet, fleet.workload(id))))
        .collect()
}

pub(super) fn workloads(
    ledger: &Ledger<'_>,
    resolution: &Resolution,
    counted: impl Fn(usize) -> bool,
    costs: &[Option<UnitCost>],
    owner_labels: &[String],
) -> Vec<ReportWorkload> {
    let fleet = ledger.fleet;
    // Dollars found, where any of them is known.
    let mut waste: BTreeMap<usize, Option<UsdPerHour>> = BTreeMap::new();
    for (i, finding) in ledger.findings.iter().enumerate().filter(|(i, _)| counted(*i)) {
        if let Some(id) = finding.workload.filter(|_| finding.kind == FindingKind::Recoverable) {
            let sum = waste.entry(id.0).or_default();
            for usd in resolution.findings[i].claims.iter().flatten() {
                *sum.get_or_insert_default() += *usd;
            }
        }
    }
    let mut rows: Vec<ReportWorkload> = fleet
        .workloads
        .iter()
        .enumerate()
        .filter(|(_, w)| w.class != WorkloadClass::Infrastructure)
        .map(|(id, w)| {
            let mut row = workload_row(fleet, w);
            // Nothing found is 0 only where it has a price, and could be judged.
            let judged = row.state != SlotState::Unknown.name();
            let nothing = row.usd_per_hour.filter(|_| judged).map(|_| UsdPerHour::ZERO);
            row.waste_usd_per_hour = waste.get(&id).copied().unwrap_or(nothing);
            row.owner = label_of(Some(w), None, owner_labels, false);
            if let Some(cost) = &costs[id] {
                let mut sum = Sum::default();
                sum.add(cost, 1.0);
                row.counted_hours = Some(totals::rounded(cost.hours));
                row.mean_gpus = Some(totals::rounded(cost.gpus));
                row.unit_costs = UnitCosts::of(&sum);
            }
            row
        })
        .collect();
    rows.sort_by(|a, b| {
        (&a.cluster, &a.namespace, &a.name, &a.kind).cmp(&(&b.cluster, &b.namespace, &b.name, &b.kind))
    });
    rows
}

fn workload_row(fleet: &Fleet, workload: &Workload) -> ReportWorkload {
    let settings = workload.settings.clone().unwrap_or_default();
    let placed = analyze::placed(fleet, workload);
    let modelled = placed
        .as_ref()
        .and_then(|p| p.kv_capacity.as_ref())
        .map(|band| band.value.0);
    let bound = workload.replicas.len() as u64;
    ReportWorkload {
        cluster: cluster_name(fleet, workload.cluster),
        kind: workload.kind.clone(),
        namespace: workload.namespace.clone(),
        name: workload.name.clone(),
        engine: settings.engine.map(|e| e.name().to_owned()),
        engine_version: settings.engine_version,
        model: workload.model_label().map(str::to_owned),
        replicas: (bound > 0).then_some(bound).or(workload.desired_replicas),
        gpus_per_replica: workload.gpus_per_replica.map(u64::from),
        gpu: workload.gpu.map(|g| g.name.clone()),
        tensor_parallel: settings.tensor_parallel.map(u64::from),
        pipeline_parallel: settings.pipeline_parallel.map(u64::from),
        data_parallel: settings.data_parallel.map(u64::from),
        max_model_len: settings.max_model_len,
        max_num_seqs: settings.max_num_seqs,
        quantization: settings.quantization,
        dtype: settings.dtype,
        kv_cache_dtype: settings.kv_cache_dtype,
        gpu_memory_utilization: settings.gpu_memory_utilization,
        role: settings.role.map(|r| r.name().to_owned()),
        group: workload.group.clone(),
        prefix_caching: settings.prefix_caching,
        lora: settings.lora,
        speculative: settings.speculative,
        sleep_mode: settings.sleep_mode,
        asleep: workload.observed.asleep,
        queue: workload.queue.clone(),
        usd_per_hour: price(fleet, workload),
        waste_usd_per_hour: None,
        owner: None,
        counted_hours: None,
        mean_gpus: None,
        unit_costs: UnitCosts::default(),
        state: state(fleet, workload).to_owned(),
        class: workload.class.name().to_owned(),
        fits: placed.map(|p| p.verdict.name().to_owned()),
        kv_capacity_tokens: workload.kv_capacity.map(|t| t.0).or(modelled),
        created_at: workload.created_at,
        observed: observed(&workload.observed),
        hourly: workload
            .observed
            .bins
            .as_ref()
            .filter(|b| !b.hourly.is_empty())
            .map(|bins| Hourly {
                end: bins.hourly_end,
                values: bins.hourly.clone(),
            }),
    }
}

/// Its pods' shares of their GPUs; `None` where one of them has no price, and for what has no GPU yet: a job that waits, or
/// a manifest that leaves its GPUs open, is not free of charge.
fn price(fleet: &Fleet, workload: &Workload) -> Option<UsdPerHour> {
    let waits = |p: &PodId| fleet.pod(*p).slots.is_empty() && fleet.pod(*p).node.is_none();
    if workload.gpus_per_replica.is_none() && workload.pods.iter().all(waits) {
        return None;
    }
    let pods: BTreeSet<_> = workload.pods.iter().copied().collect();
    let slots: BTreeSet<_> = pods.iter().flat_map(|&p| fleet.pod(p).slots.iter().copied()).collect();
    if slots.is_empty() && fleet.clusters[workload.cluster].metrics_only {
        // It runs on some GPU of its host, and nobody says on which.
        return None;
    }
    slots
        .into_iter()
        .map(|id| {
            let slot = fleet.slot(id);
            let parts = slot.price?.split(slot.holders.len().max(1));
            Some(
                slot.holders
                    .iter()
                    .zip(parts)
                    .filter(|(p, _)| pods.contains(p))
                    .map(|(_, part)| part)
                    .sum(),
            )
        })
        .sum()
}

fn state(fleet: &Fleet, workload: &Workload) -> &'static str {
    let states: BTreeSet<SlotState> = workload
        .pods
        .iter()
        .flat_map(|&p| &fleet.pod(p).slots)
        .map(|&s| fleet.slot(s).state)
        .collect();
    match states.iter().collect::<Vec<_>>()[..] {
        [] if workload.pods.iter().any(|&p| fleet.pod(p).node.is_none()) => "pending",
        [] => "unknown",
        [one] => one.name(),
        _ => "mixed",
    }
}

fn observed(observed: &Observed) -> ObservedFigures {
    ObservedFigures {
        requests_per_second: observed.requests_per_second,
        prompt_tokens_per_second: observed.prompt_tokens_per_second,
        output_tokens_per_second: observed.output_tokens_per_second,
        running: observed.running,
        waiting: observed.waiting,
        kv_usage: observed.kv_usage,
        preemptions_per_hour: observed.preemptions_per_hour,
        gpu_busy: observed.gpu_busy,
        inter_token_latency_p95: observed.inter_token_latency_p95,
        time_to_first_token_p95: observed.time_to_first_token_p95,
    }
}

/// Spend and waste summed up by `by`. Spend of a shared GPU is split over its holders; a finding about a workload goes
/// to that workload's group, any other to the group of the GPU it claims. The groups add up to the totals.
pub fn groups(
    ledger: &Ledger<'_>,
    resolution: &Resolution,
    counted: impl Fn(usize) -> bool,
    (by, owner_labels): (&GroupBy, &[String]),
    costs: &[Option<UnitCost>],
) -> Groups {
    let fleet = ledger.fleet;
    let sizes = sizes(fleet);
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut unpriced: BTreeSet<(String, FindingKind)> = BTreeSet::new();
    let mut judged: BTreeSet<String> = BTreeSet::new();
    for slot in &fleet.slots {
        let holders = slot.holders.len().max(1);
        let weights = split_weight(slot.weight, holders);
        let prices = slot
            .price
            .filter(|_| totals::is_spent(fleet, slot))
            .map(|p| p.split(holders));
        for (i, weight) in weights.into_iter().enumerate() {
            let workload = slot.holders.get(i).and_then(|&pod| fleet.pod(pod).workload);
            let name = key(fleet, slot, workload, !slot.holders.is_empty(), by, owner_labels);
            let group = entry(&mut groups, &name);
            if let Some((cost, size)) = workload.and_then(|w| Some((costs[w.0].as_ref()?, sizes[w.0]))) {
                // Over several GPUs, nodes or clusters its tokens fall as its GPUs do.
                sums.entry(name).or_default().add(cost, weight as f64 / size as f64);
            }
            group.gpus += totals::gpus(weight);
            if slot.state != SlotState::Unknown {
                judged.insert(group.name.clone());
            }
            if let Some(prices) = &prices {
                *group.spend_usd_per_hour.get_or_insert_default() += prices[i];
            }
        }
    }
    for (i, finding) in ledger.findings.iter().enumerate().filter(|(i, _)| counted(*i)) {
        for (claim, usd) in finding.claims.iter().zip(&resolution.findings[i].claims) {
            let slot = fleet.slot(claim.slot);
            let group = entry(
                &mut groups,
                &key(
                    fleet,
                    slot,
                    finding.workload,
                    !slot.holders.is_empty(),
                    by,
                    owner_labels,
                ),
            );
            let sum = match finding.kind {
                FindingKind::Recoverable => &mut group.waste_usd_per_hour,
                FindingKind::AtRisk => &mut group.at_risk_usd_per_hour,
                FindingKind::Trend => continue,
            };
            match usd {
                Some(usd) => *sum.get_or_insert_default() += *usd,
                None => _ = unpriced.insert((group.name.clone(), finding.kind)),
            }
        }
    }
    let mut rows: Vec<Group> = groups.into_values().collect();
    for row in &mut rows {
        row.gpus = totals::rounded(row.gpus);
        // Nothing found is 0 only where something has a price, and could be judged.
        let priced = row.spend_usd_per_hour.is_some() && judged.contains(&row.name);
        let (name, waste, risk) = (&row.name, &mut row.waste_usd_per_hour, &mut row.at_risk_usd_per_hour);
        for (sum, kind) in [(waste, FindingKind::Recoverable), (risk, FindingKind::AtRisk)] {
            if sum.is_none() && priced && !unpriced.contains(&(name.clone(), kind)) {
                *sum = Some(UsdPerHour::ZERO);
            }
        }
        row.unit_costs = sums.get(&row.name).map(UnitCosts::of).unwrap_or_default();
    }
    super::past::add(fleet, (by, owner_labels), &mut rows);
    rows.sort_by(|a, b| {
        (b.waste_usd_per_hour, b.spend_usd_per_hour)
            .cmp(&(a.waste_usd_per_hour, a.spend_usd_per_hour))
            .then_with(|| a.name.cmp(&b.name))
    });
    Groups {
        by: by.to_string(),
        rows,
    }
}

/// The weight that each workload holds, of shared GPUs its parts.
fn sizes(fleet: &Fleet) -> Vec<u64> {
    let mut sizes = vec![0; fleet.workloads.len()];
    for slot in &fleet.slots {
        let weights = split_weight(slot.weight, slot.holders.len().max(1));
        for (pod, weight) in slot.holders.iter().zip(weights) {
            if let Some(id) = fleet.pod(*pod).workload {
                sizes[id.0] += weight;
            }
        }
    }
    sizes
}

fn split_weight(weight: u64, parts: usize) -> Vec<u64> {
    let parts = parts as u64;
    (0..parts)
        .map(|i| weight / parts + u64::from(i < weight % parts))
        .collect()
}

fn entry<'g>(groups: &'g mut BTreeMap<String, Group>, name: &str) -> &'g mut Group {
    groups.entry(name.to_owned()).or_insert_with(|| Group {
        name: name.to_owned(),
        ..Group::default()
    })
}

fn key(
    fleet: &Fleet,
    slot: &Slot,
    workload: Option<WorkloadId>,
    held: bool,
    by: &GroupBy,
    owner_labels: &[String],
) -> String {
    let node = fleet.node(slot.node);
    let workload = workload.map(|w| fleet.workload(w));
    let name = match by {
        GroupBy::Gpu => Some(node.gpu_name.clone()),
        GroupBy::Node => Some(node.name.clone()),
        GroupBy::Cluster => cluster_name(fleet, node.cluster),
        GroupBy::Namespace => workload.map(|w| w.namespace.clone()),
        GroupBy::Workload => workload.map(|w| format!("{}/{}", w.namespace, w.name)),
        GroupBy::Model => workload.and_then(|w| w.model_label().map(str::to_owned)),
        GroupBy::Owner | GroupBy::User | GroupBy::Account | GroupBy::Partition | GroupBy::Label(_) => {
            let keys = by.labels(owner_labels).unwrap_or_default();
            let exactly = matches!(by, GroupBy::User | GroupBy::Account | GroupBy::Partition);
            label_of(workload, Some(node), &keys, exactly)
        }
    };
    name.filter(|n| !n.is_empty()).unwrap_or_else(|| {
        let unread = slot.state == SlotState::Unknown && !slot.facts.held.denied();
        match held {
            true => NONE,
            false if unread => UNREAD,
            false => NOBODY,
        }
        .to_owned()
    })
}

/// The first of `keys` that the workload has, else the first that the node has. `exactly`: and nothing instead of these.
fn label_of(workload: Option<&Workload>, node: Option<&Node>, keys: &[String], exactly: bool) -> Option<String> {
    let of_workload = || keys.iter().find_map(|k| workload?.labels.get(k));
    let of_node = || keys.iter().find_map(|k| node?.labels.get(k));
    // Of a job the user answers, where no label was named.
    let of_job = || workload.filter(|_| !exactly)?.labels.get(USER);
    of_workload()
        .or_else(of_node)
        .or_else(of_job)
        .filter(|o| !o.is_empty())
        .cloned()
}

/// Who owns what a finding is about: its workload's label, else the one label that all nodes of its claims share.
pub fn owner(fleet: &Fleet, finding: &Finding, keys: &[String]) -> Option<String> {
    if finding.subject.kind.as_deref() == Some("Owner") {
        return finding.subject.name.clone();
    }
    let workload = finding.workload.map(|w| fleet.workload(w));
    let of_nodes: BTreeSet<Option<String>> = finding
        .claims
        .iter()
        .map(|c| label_of(None, Some(fleet.node(fleet.slot(c.slot).node)), keys, false))
        .collect();
    label_of(workload, None, keys, false).or_else(|| (of_nodes.len() == 1).then(|| of_nodes.into_iter().next())??)
}
