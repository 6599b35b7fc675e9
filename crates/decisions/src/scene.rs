//! What one report of a series says that settling needs: nodes, what is held and claimed on each card of a cluster, and the bill.

use crate::report::document::{Report, ReportWorkload};
use crate::units::UsdPerHour;
use gpuwaste_facts::snapshot::{SourceKind, SourceStatus};
use gpuwaste_judge::analyze::finding::FindingKind;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Cluster and card.
pub type PoolKey = (String, String);
/// Cluster, namespace and name.
pub type Subject = (String, String, String);

/// GPUs of one kind in one cluster.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// GPUs of each node.
    pub nodes: BTreeMap<String, f64>,
    /// GPUs that each workload holds.
    pub held: BTreeMap<Subject, f64>,
    /// Findings that claim each GPU: "node/gpu".
    pub claimed: BTreeMap<String, BTreeSet<String>>,
    /// The nodes' bill; `None`: one of them has no price.
    pub spend: Option<UsdPerHour>,
}

impl Pool {
    pub fn gpus(&self) -> f64 {
        self.nodes.values().sum()
    }

    /// USD per hour of one GPU.
    pub fn price(&self) -> Option<f64> {
        let gpus = self.gpus();
        (gpus > 0.0).then(|| self.spend.map(|s| s.usd() / gpus)).flatten()
    }

    /// GPUs that a finding other than `id` claims.
    pub fn claimed_by_others(&self, id: &str) -> f64 {
        self.claimed.values().filter(|ids| ids.iter().any(|i| i != id)).count() as f64
    }
}

/// A workload at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placed {
    pub gpu: Option<String>,
    pub replicas: Option<u64>,
    pub gpus_per_replica: Option<u64>,
    pub tensor_parallel: Option<u64>,
    pub spend: Option<UsdPerHour>,
    /// Tokens (else requests) an hour.
    pub work: Option<f64>,
    pub inter_token_latency: Option<f64>,
}

impl Placed {
    pub fn held(&self) -> Option<f64> {
        Some(self.replicas? as f64 * self.gpus_per_replica? as f64)
    }
}

/// A report, as far as settling needs it.
#[derive(Debug)]
pub struct Scene {
    pub at: Timestamp,
    pools: BTreeMap<PoolKey, Rc<Pool>>,
    pub workloads: BTreeMap<Subject, Placed>,
    /// Clusters that were read whole: of the others nothing is known to be gone.
    pub read: BTreeSet<String>,
    /// Harm that findings tell of, by subject.
    pub harm: BTreeMap<Subject, BTreeSet<String>>,
}

impl Scene {
    pub fn of(report: &Report) -> Self {
        let name = |c: &Option<String>| c.clone().unwrap_or_default();
        let mut pools: BTreeMap<PoolKey, Pool> = BTreeMap::new();
        let mut of_node: BTreeMap<(String, &str), PoolKey> = BTreeMap::new();
        for node in &report.nodes {
            let key = (name(&node.cluster), node.gpu.clone().unwrap_or_default());
            let pool = pools.entry(key.clone()).or_insert_with(|| Pool {
                spend: Some(UsdPerHour::ZERO),
                ..Pool::default()
            });
            pool.nodes.insert(node.name.clone(), node.gpus as f64);
            pool.spend = pool.spend.zip(node.price.usd_per_hour).map(|(a, b)| a + b);
            of_node.insert((name(&node.cluster), node.name.as_str()), key);
        }
        let mut workloads = BTreeMap::new();
        for w in &report.workloads {
            let subject = (name(&w.cluster), w.namespace.clone(), w.name.clone());
            let placed = placed(w);
            if let (Some(gpu), Some(held)) = (&placed.gpu, placed.held()) {
                let pool = pools.entry((name(&w.cluster), gpu.clone())).or_default();
                pool.held.insert(subject.clone(), held);
            }
            workloads.insert(subject, placed);
        }
        let mut harm: BTreeMap<Subject, BTreeSet<String>> = BTreeMap::new();
        for f in &report.findings {
            let cluster = name(&f.subject.cluster);
            if f.kind == FindingKind::Recoverable {
                for claim in &f.claims {
                    if let Some(pool) = of_node
                        .get(&(cluster.clone(), claim.node.as_str()))
                        .and_then(|k| pools.get_mut(k))
                    {
                        let place = format!("{}/{}", claim.node, claim.gpu);
                        pool.claimed.entry(place).or_default().insert(f.id.clone());
                    }
                }
            }
            let harms = match (f.check.as_str(), f.part.as_deref()) {
                ("kv-pressure", None) => Some("kv-pressure"),
                ("undersized-tier", _) => Some("undersized-tier"),
                ("dark-capacity", Some("stuck")) => Some("restarts"),
                _ => None,
            };
            if let (Some(what), Some(ns), Some(n)) = (harms, &f.subject.namespace, &f.subject.name) {
                harm.entry((cluster, ns.clone(), n.clone()))
                    .or_default()
                    .insert(what.into());
            }
        }
        Self {
            at: report.taken_at,
            pools: pools.into_iter().map(|(k, p)| (k, Rc::new(p))).collect(),
            workloads,
            read: read(report),
            harm,
        }
    }

    pub fn pool(&self, key: &PoolKey) -> Rc<Pool> {
        self.pools.get(key).cloned().unwrap_or_default()
    }

    /// All pools of a cluster.
    pub fn pools_of<'s>(&'s self, cluster: &'s str) -> impl Iterator<Item = &'s Rc<Pool>> {
        self.pools.iter().filter(move |(k, _)| k.0 == cluster).map(|(_, p)| p)
    }
}

fn placed(w: &ReportWorkload) -> Placed {
    let costs = &w.unit_costs;
    let tokens = costs
        .output_tokens_per_hour
        .map(|o| o + costs.input_tokens_per_hour.unwrap_or(0.0));
    let requests = w
        .observed
        .requests_per_second
        .as_ref()
        .and_then(|f| Some(f.mean.or(f.p50)? * 3600.0));
    Placed {
        gpu: w.gpu.clone(),
        replicas: w.replicas,
        gpus_per_replica: w.gpus_per_replica,
        tensor_parallel: w.tensor_parallel,
        spend: w.usd_per_hour,
        work: tokens.or(requests),
        inter_token_latency: w.observed.inter_token_latency_p95,
    }
}

/// Clusters of which nothing failed: what is not in the report is not there.
fn read(report: &Report) -> BTreeSet<String> {
    let whole = report.totals.coverage_percent.is_some() || report.totals.gpus == 0.0;
    let failed: BTreeSet<&str> = report
        .sources
        .iter()
        .filter(|s| s.kind == SourceKind::Kubernetes && s.status != SourceStatus::Ok)
        .map(|s| s.name.as_str())
        .collect();
    let named = report
        .sources
        .iter()
        .filter(|s| s.kind == SourceKind::Kubernetes)
        .map(|s| s.name.clone());
    let of_nodes = report.nodes.iter().map(|n| n.cluster.clone().unwrap_or_default());
    named
        .chain(of_nodes)
        .filter(|c| whole && !failed.contains(c.as_str()))
        .collect()
}
