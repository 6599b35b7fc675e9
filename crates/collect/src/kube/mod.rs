//! Kubernetes: nodes, pods and owners of one cluster. Only get and list.

pub(crate) mod answer;
pub mod api;
pub(crate) mod clock;
mod config_maps;
pub mod connect;
mod described;
mod dra;
mod labels;
mod owners;
pub mod path;
pub mod plan;
mod pods;
pub(crate) mod quantity;
pub(crate) mod raw;
pub mod rights;
mod selectors;
mod spec;

use super::options::CollectOptions;
use super::prometheus::{self, HistoryRead};
use super::scrape;
use crate::engine::metrics::plausible;
use crate::options::StoreMode;
use crate::progress;
use crate::snapshot::clock as clock_times;
use crate::snapshot::cluster::{Cluster, Node, Pod, Unread, UnreadKind};
use crate::snapshot::{Gap, Source};
use answer::{ApiObject, Odd};
use api::{Api, List, Listed, ReadError};
use connect::Target;
use gpuwaste_facts::text::plural;
use path::{ApiPath, Name, Resource, is_name};
use raw::{RawAutoscaler, RawBudget, RawNode, RawPodMetrics};
pub use raw::{parse_ignore, pod_of_template};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

pub(crate) const NODES: Resource<'_> = Resource::new("", "v1", "nodes", "Node");
const NAMESPACES: Resource<'_> = Resource::new("", "v1", "namespaces", "Namespace");
const AUTOSCALERS: Resource<'_> = Resource::new(
    "autoscaling",
    "v2",
    "horizontalpodautoscalers",
    "HorizontalPodAutoscaler",
);
const BUDGETS: Resource<'_> = Resource::new("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget");
const POD_METRICS: Resource<'_> = Resource::new("metrics.k8s.io", "v1beta1", "pods", "PodMetrics");

/// What one cluster gave.
pub struct ClusterRead {
    pub cluster: Cluster,
    pub gaps: Vec<Gap>,
    /// Exporters and engines.
    pub sources: Vec<Source>,
    /// What its store told of history, or did not.
    pub history: HistoryRead,
    /// One line for the report: version and counts.
    pub detail: String,
}

/// Reads one cluster.
///
/// # Errors
/// When the server cannot be reached or refuses the caller altogether; single refused reads are gaps.
pub async fn read_cluster(
    api: &Api,
    target: &Target,
    options: &CollectOptions,
    at: jiff::Timestamp,
) -> Result<ClusterRead, ReadError> {
    let name = options.cluster_name.clone().unwrap_or_else(|| target.name.clone());
    let mut gaps = Gaps {
        source: format!("kubernetes {name}"),
        all: Vec::new(),
        unread: Vec::new(),
    };
    let namespaces: Vec<Name> = options.namespaces.iter().filter_map(|n| Name::parse(n).ok()).collect();
    let whose = &target.name;
    progress::at(whose, "nodes");
    let version = version(api, &mut gaps).await?;
    let (uid, served) = futures::join!(identity(api), api.served());
    let served = gaps.told(
        served,
        "which API groups are served",
        "what is missing may not be installed, or may have been refused",
        UnreadKind::Groups,
    );
    let dra = dra::read(api, served.as_ref(), &namespaces, &mut gaps).await;
    // A node whose GPUs only DRA hands out may carry no label and no resource that tells of them.
    let published: HashSet<String> = dra
        .iter()
        .flat_map(|d| d.pools.iter().flatten())
        .flat_map(|p| p.devices.iter().filter_map(|d| d.node.clone()))
        .collect();
    let nodes = all_nodes(api, options, published).await;
    let uid = match uid {
        Ok(uid) => uid,
        Err(error) => {
            gaps.add(
                &error,
                "the uid of namespace kube-system",
                "findings are identified by the context's name: a baseline from another machine will not match",
            );
            None
        }
    };
    let mut refused = None;
    let nodes = match nodes {
        Ok(nodes) => {
            gaps.odd_nodes(&nodes);
            Some(nodes)
        }
        Err(error) => {
            refused = Some(error.clone());
            gaps.add(
                &error,
                "nodes",
                "spend, free and unhealthy GPUs are not assessed, coverage is unknown; pods' GPUs are counted as if none were shared",
            );
            None
        }
    };
    let known = nodes
        .as_ref()
        .map(|n| format!(" on {}", plural(n.gpu.len() as u64, "GPU node")));
    progress::at(whose, format!("pods{}", known.unwrap_or_default()));
    let mut read = pods::read(api, nodes.as_ref(), &namespaces, options, &mut gaps).await?;
    if let Some(error) = refused.filter(|_| read.is_nothing()) {
        return Err(error);
    }
    let within = &read.namespaces();
    progress::at(whose, format!("owners of {}", plural(read.pods.len() as u64, "pod")));
    let (owners, autoscalers, budgets, usage) = futures::join!(
        owners::read(api, &read.pods, within, served.as_ref(), options),
        api.objects_in::<RawAutoscaler>(AUTOSCALERS, within),
        api.objects_in::<RawBudget>(BUDGETS, within),
        api.some_in::<RawPodMetrics>(POD_METRICS, within, of_pods(&read.pods)),
    );
    config_maps::apply(api, &mut read.pods, std::mem::take(&mut read.wants), &mut gaps).await;
    described::apply(&mut read.pods, &owners.described);
    let (controllers, unread) = owners.collect(&mut gaps);
    gaps.unread.extend(unread);
    let autoscalers = gaps.optional(
        autoscalers,
        "horizontal pod autoscalers",
        "minimum replicas are unknown: over-replicated is capped at estimated",
        UnreadKind::Autoscalers,
    );
    let budgets = gaps.optional(
        budgets,
        "pod disruption budgets",
        "replicas a budget demands are unknown",
        UnreadKind::Budgets,
    );
    let budgets = budgets.map(|b| b.into_iter().map(|b| b.into_budget(&mut read.selections)).collect());
    let mut nodes = nodes;
    let other_domains = nodes.as_mut().and_then(|nodes| {
        nodes.keep_selected(&read.pods);
        nodes.other_domains(&read.pods)
    });
    let pod_usage = pod_usage(usage, &mut gaps);
    let (all, gpu) = nodes.as_ref().map_or((0, 0), |n| (n.total, n.gpu.len()));
    let detail = format!(
        "{}, {gpu} GPU nodes of {all}, {} pods on them or waiting for GPUs",
        version.as_deref().unwrap_or("of unknown version"),
        read.pods.len()
    );
    let mut cluster = Cluster {
        name,
        uid,
        version,
        nodes: nodes.map(|n| n.gpu),
        pods: read.pods,
        pods_read: read.scope,
        controllers,
        autoscalers: autoscalers.map(|a| a.into_iter().map(RawAutoscaler::into_autoscaler).collect()),
        disruption_budgets: budgets,
        selections: read.selections.all,
        other_domains,
        pod_usage,
        dra: dra.map(Box::new),
        ..Cluster::default()
    };
    settle_clock(api, &mut cluster, at, &mut gaps);
    let mut sources = Vec::new();
    if options.scrape {
        let (pods, most) = (
            plural(cluster.pods.len() as u64, "pod"),
            options.scrape_budget.as_secs(),
        );
        progress::at(
            whose,
            format!("exporters, and servers of {pods} (at most {most} s a pass)"),
        );
        let (read, missing) = scrape::scrape(api, target.inside, &mut cluster, options).await;
        sources = read;
        gaps.all.extend(missing);
    }
    if options.store.mode != StoreMode::None {
        progress::at(whose, "its history");
    }
    let history = prometheus::read(api, &mut cluster, options, at).await;
    if let Some((sifted, missing)) = plausible::sift(&cluster) {
        cluster = sifted;
        gaps.all.extend(missing);
    }
    cluster.unread.extend(gaps.unread);
    cluster.unread.sort();
    cluster.unread.dedup();
    Ok(ClusterRead {
        cluster,
        history,
        gaps: gaps.all,
        sources,
        detail,
    })
}

/// Durations are the API server's own: where its clock is not ours, its objects' times are moved to ours, and said to be in
/// doubt. Without a Date, an object of our future tells that its clock is ahead.
fn settle_clock(api: &Api, cluster: &mut Cluster, at: jiff::Timestamp, gaps: &mut Gaps) {
    let by_objects = |cluster: &mut Cluster| {
        let lead = clock_times::latest(cluster)?.duration_since(at).as_secs_f64();
        clock::is_doubt(lead).then_some(lead.round() as i64)
    };
    let ahead = if api.clock.is_told() {
        api.clock.ahead()
    } else {
        by_objects(cluster)
    };
    let Some(ahead) = ahead else { return };
    clock_times::settle(cluster, ahead);
    gaps.push(Gap {
        source: String::new(),
        what: "since when things are so".into(),
        reason: format!("the API server's clock is {} this machine's", clock::words(ahead)),
        effect: "durations are counted by the API server's clock; nothing that rests on them is measured, and gates that they could change give no verdict".into(),
        remedy: "set the clocks (NTP) of this machine and of the API server".into(),
    });
}

/// "v1.34.2". Everybody may ask: whoever gets no answer here gets none at all, but what stands in between may answer for it.
async fn version(api: &Api, gaps: &mut Gaps) -> Result<Option<String>, ReadError> {
    let path = ApiPath::fixed("/version");
    let told = match api.get(&path).await {
        Ok(body) => answer::decode::<raw::Version>(&body),
        Err(error) if error.is_fatal() => return Err(error),
        Err(error) => Err(error),
    };
    let plain = |v: &String| {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
        v.len() <= 60 && v.starts_with('v') && v.chars().all(word)
    };
    let version = told.map(|v| v.git_version).and_then(|v| {
        if plain(&v) {
            Ok(v)
        } else {
            Err(ReadError::Body("a version that is none".into()))
        }
    });
    if let Err(error) = &version {
        gaps.add(error, "the API server's version", "none: it is only told");
    }
    Ok(version.ok())
}

/// What names the cluster, whatever contexts call it: the uid of a namespace that every cluster has.
async fn identity(api: &Api) -> Result<Option<String>, ReadError> {
    let Ok(system) = Name::parse("kube-system") else {
        return Ok(None);
    };
    let named: raw::Named = api.object(&NAMESPACES, None, &system).await?;
    let plain = |u: &String| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=64).contains(&u.len()) && u.chars().all(word)
    };
    match named.meta().uid.clone().filter(plain) {
        Some(uid) => Ok(Some(uid)),
        None => Err(ReadError::Body("a namespace without a uid".into())),
    }
}

/// Usage of these pods alone: that of all others is dropped as it comes.
fn of_pods(pods: &[Pod]) -> impl Fn(&RawPodMetrics) -> bool + Send + Sync + 'static {
    let held: HashSet<(String, String)> = pods.iter().map(|p| (p.namespace.clone(), p.name.clone())).collect();
    move |usage| held.contains(&(usage.meta().namespace.clone(), usage.meta().name.clone()))
}

fn pod_usage(
    usage: Result<Listed<RawPodMetrics>, ReadError>,
    gaps: &mut Gaps,
) -> Option<Vec<crate::snapshot::cluster::PodUsage>> {
    let effect = "CPU use is unknown: cpu-gpu-imbalance judges specifications only";
    match usage {
        Ok(listed) => Some(listed.items.into_iter().map(RawPodMetrics::into_usage).collect()),
        // Most clusters serve no metrics.k8s.io to speak of: nothing was lost that was there.
        Err(error) if error.is_nowhere() => {
            gaps.add(&error, "metrics.k8s.io", effect);
            None
        }
        Err(error) => {
            gaps.lost(&error, "metrics.k8s.io", effect, UnreadKind::Usage);
            None
        }
    }
}

/// Values of one label that are kept (ours: one more than a plan tells apart).
const DOMAINS: usize = 65;

/// GPU nodes, and how many nodes there are in all.
pub struct Nodes {
    pub gpu: Vec<Node>,
    pub total: usize,
    /// All labels of `gpu`, until it is known which of them pods select by.
    labels: Vec<BTreeMap<String, String>>,
    /// Values of the labels of all others, until it is known which of them pods are spread over; `None`: one could not be read.
    values: Option<BTreeMap<String, BTreeSet<String>>>,
    odd: Vec<Odd>,
    /// Names that stood in the list more than once.
    twice: Vec<String>,
}

async fn all_nodes(api: &Api, options: &CollectOptions, published: HashSet<String>) -> Result<Nodes, ReadError> {
    let (is_gpu_instance, keep) = (options.is_gpu_instance, options.keep_labels.clone());
    let values: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>> = Arc::default();
    let seen = Arc::clone(&values);
    let listed = api
        .list(&List::all(NODES), move |node: RawNode| {
            let gpus = node.has_gpus(is_gpu_instance) || published.contains(node.name());
            if let (false, Ok(mut seen)) = (gpus, seen.lock()) {
                for (key, value) in node.labels().iter().filter(|(k, _)| *k != selectors::HOSTNAME) {
                    let known = seen.entry(key.clone()).or_default();
                    if known.len() < DOMAINS && !known.contains(value) {
                        known.insert(value.clone());
                    }
                }
            }
            gpus.then(|| {
                let labels = node.labels().clone();
                (node.into_node(&keep), labels)
            })
        })
        .await?;
    let mut found = listed.items;
    found.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    let mut twice = Vec::new();
    found.dedup_by(|a, b| {
        let same = a.0.name == b.0.name;
        twice.extend(same.then(|| a.0.name.clone()));
        same
    });
    let (gpu, labels) = found.into_iter().unzip();
    Ok(Nodes {
        gpu,
        labels,
        total: listed.seen,
        values: values
            .lock()
            .ok()
            .map(|mut v| std::mem::take(&mut *v))
            .filter(|_| listed.odd.is_empty()),
        odd: listed.odd,
        twice,
    })
}

impl Nodes {
    /// Of nodes without GPUs: where else pods that are spread or kept apart could be.
    fn other_domains(&mut self, pods: &[Pod]) -> Option<BTreeMap<String, Vec<String>>> {
        let constraints = pods.iter().filter_map(|p| p.constraints.as_deref());
        let keys: BTreeSet<&String> = constraints
            .flat_map(|c| {
                let apart = c.anti_affinity.iter().map(|t| &t.topology_key);
                apart.chain(c.spread.iter().map(|s| &s.topology_key))
            })
            .filter(|k| *k != selectors::HOSTNAME)
            .collect();
        let values = self.values.take()?;
        let spread = values.into_iter().filter(|(k, _)| keys.contains(k));
        Some(spread.map(|(k, v)| (k, v.into_iter().collect())).collect())
    }

    /// Labels that a pod selects nodes by, or is spread over, decide where it may run: they are kept beside the listed ones.
    fn keep_selected(&mut self, pods: &[Pod]) {
        let mut keys: BTreeSet<&str> = BTreeSet::new();
        for pod in pods {
            if let Some(p) = &pod.placement {
                keys.extend(p.node_selector.keys().map(String::as_str));
                keys.extend(p.affinity_terms.iter().flatten().map(|e| e.key.as_str()));
            }
            if let Some(c) = &pod.constraints {
                keys.extend(
                    c.anti_affinity
                        .iter()
                        .chain(&c.affinity)
                        .map(|t| t.topology_key.as_str()),
                );
                keys.extend(c.spread.iter().map(|s| s.topology_key.as_str()));
            }
        }
        for (node, labels) in self.gpu.iter_mut().zip(std::mem::take(&mut self.labels)) {
            let selected = labels.into_iter().filter(|(key, _)| keys.contains(key.as_str()));
            node.labels.extend(selected);
        }
    }
}

/// Collects the gaps of one cluster under its name.
pub struct Gaps {
    source: String,
    all: Vec<Gap>,
    /// What of them is to be known beside their text.
    unread: Vec<Unread>,
}

impl Gaps {
    pub fn add(&mut self, error: &ReadError, what: &str, effect: &str) {
        self.all.push(error.gap(&self.source, what, effect));
    }

    pub fn push(&mut self, gap: Gap) {
        let source = self.source.clone();
        self.all.push(Gap { source, ..gap });
    }

    /// A failed read of the whole cluster.
    fn lost(&mut self, error: &ReadError, what: &str, effect: &str, kind: UnreadKind) {
        self.add(error, what, effect);
        self.unread(kind, None, None);
    }

    fn unread(&mut self, what: UnreadKind, namespace: Option<String>, name: Option<String>) {
        self.unread.push(Unread {
            what,
            namespace,
            name,
            refused: false,
        });
    }

    /// A list of DRA's that was to be read: where only some namespaces may be, a refusal is no failure.
    fn failed(&mut self, error: &ReadError) {
        if !error.is_forbidden() {
            self.unread(UnreadKind::Devices, None, None);
        }
    }

    fn told<T>(&mut self, read: Result<T, ReadError>, what: &str, effect: &str, kind: UnreadKind) -> Option<T> {
        read.map_err(|error| self.lost(&error, what, effect, kind)).ok()
    }

    /// A list, and whom its odd objects leave unknown: those of their namespaces.
    fn optional<T>(
        &mut self,
        read: Result<Listed<T>, ReadError>,
        what: &str,
        effect: &str,
        kind: UnreadKind,
    ) -> Option<Vec<T>> {
        let listed = self.told(read, what, effect, kind)?;
        if !listed.odd.is_empty() {
            let names: Vec<String> = listed.odd.iter().map(|o| format!("{} ({})", o.name, o.why)).collect();
            self.push(Gap {
                source: String::new(),
                what: format!("{what} {}", some(&names)),
                reason: "they are not what the API serves".into(),
                effect: effect.into(),
                remedy: "look at the objects, and at what stands between you and the API server".into(),
            });
        }
        for odd in listed.odd {
            self.unread(kind, odd.namespace, None);
        }
        Some(listed.items)
    }

    fn odd_nodes(&mut self, nodes: &Nodes) {
        let mut say = |names: &[String], reason: &str, effect: &str| {
            if !names.is_empty() {
                self.push(Gap {
                    source: String::new(),
                    what: format!("nodes {}", some(names)),
                    reason: reason.into(),
                    effect: effect.into(),
                    remedy: "look at the objects, and at what stands between you and the API server".into(),
                });
            }
        };
        let odd: Vec<String> = nodes.odd.iter().map(|o| format!("{} ({})", o.name, o.why)).collect();
        say(&odd, "they are not what the API serves", "they are not in the report");
        let some_odd = !odd.is_empty();
        let names = |which: fn(&Node) -> bool| -> Vec<String> {
            let found = nodes.gpu.iter().filter(|n| which(n));
            found.map(|n| n.name.clone()).collect()
        };
        say(
            &names(|n| n.unread),
            "their Ready condition, capacity or creation time is missing or impossible",
            "the state of their GPUs is unknown",
        );
        say(
            &names(|n| [&n.capacity, &n.allocatable].iter().any(|r| !r.unread.is_empty())),
            "an amount of what they have is no quantity that a node can have",
            "the state of their GPUs is unknown",
        );
        say(
            &nodes.twice,
            "they stand in the list more than once",
            "each is counted once",
        );
        if some_odd {
            self.unread(UnreadKind::Node, None, None);
        }
    }
}

/// "a, b, c and 4 more".
pub(crate) fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Names that were given on the command line must be names.
///
/// # Errors
/// The first that is none.
pub fn check_names(options: &CollectOptions) -> anyhow::Result<()> {
    match options.namespaces.iter().find(|n| !is_name(n)) {
        Some(odd) => anyhow::bail!("-n '{}': no namespace can be called that", odd.escape_debug()),
        None => Ok(()),
    }
}
