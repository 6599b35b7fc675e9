//! Which pods are read: all pods that could hold a GPU, at a cost that follows the GPU nodes.

use super::api::{Api, List, Listed, ReadError};
use super::config_maps::Wants;
use super::path::{Name, Resource};
use super::raw::{RawPod, Unresolved};
use super::selectors::{Labelled, Query, Selections};
use super::{Gaps, Nodes, some};
use crate::options::CollectOptions;
use crate::snapshot::Gap;
use crate::snapshot::cluster::{Container, Pod, PodsRead, UnreadKind};
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

pub(super) const PODS: Resource<'_> = Resource::new("", "v1", "pods", "Pod");

/// Below one GPU node in this many nodes, pods are read node by node instead of all.
const SPARSE: usize = 4;
/// Node-by-node reads at once.
const AT_ONCE: usize = 8;

#[expect(clippy::struct_field_names, reason = "the pods, and what is known of reading them")]
pub(super) struct Pods {
    pub(super) pods: Vec<Pod>,
    /// Of them, containers with settings in ConfigMaps.
    pub(super) wants: Vec<Wants>,
    pub(super) scope: PodsRead,
    /// Whom selectors match among them.
    pub(super) selections: Selections,
}

impl Pods {
    /// Where namespaced lists must be asked for one by one: what was read of the pods tells which.
    pub(super) fn namespaces(&self) -> Vec<Name> {
        let read = |ns: &&String| !self.scope.complete && !self.scope.refused.contains(ns);
        let names = self.scope.namespaces.iter().filter(read);
        names.filter_map(|n| Name::parse(n).ok()).collect()
    }

    /// Neither the whole list nor one namespace's could be read.
    pub(super) fn is_nothing(&self) -> bool {
        !self.scope.complete && self.scope.refused.len() == self.scope.namespaces.len()
    }
}

/// Reads the pods; a refused read is a gap, and the scope says so.
pub(super) async fn read(
    api: &Api,
    nodes: Option<&Nodes>,
    namespaces: &[Name],
    options: &CollectOptions,
    gaps: &mut Gaps,
) -> Result<Pods, ReadError> {
    let gpu_nodes = nodes.map(|n| Arc::new(n.gpu.iter().map(|n| n.name.clone()).collect::<HashSet<String>>()));
    let mut scope = PodsRead {
        namespaces: options.namespaces.clone(),
        selector: options.selector.clone(),
        ..PodsRead::default()
    };
    let sparse = nodes.is_some_and(|n| n.gpu.len() * SPARSE <= n.total && !n.gpu.is_empty());
    let everything = match (nodes, sparse) {
        (Some(nodes), _) if nodes.gpu.is_empty() => Ok(Listed::new()),
        (Some(nodes), true) => by_node(api, nodes, gpu_nodes.as_ref(), options).await,
        _ => some_pods(api, &List::all(PODS), gpu_nodes.as_ref(), options).await,
    };
    let listed = match everything {
        Ok(listed) => {
            scope.complete = true;
            listed
        }
        // Nobody who is not known, or not there, will answer the next question better.
        Err(error) if error.is_fatal() => return Err(error),
        Err(error) => {
            if namespaces.is_empty() {
                gaps.add(
                    &error,
                    "pods of all namespaces",
                    "who holds which GPU is unknown: nothing is called free, idle or oversized",
                );
                Listed::new()
            } else {
                gaps.add(
                    &error,
                    "pods outside the given namespaces",
                    "a GPU without a visible holder is not called free; spend is that of the visible pods",
                );
                // Rights on some namespaces are asked for; a list that fails otherwise was to be read.
                if !error.is_forbidden() {
                    gaps.unread(UnreadKind::Pods, None, None);
                }
                by_namespace(api, gpu_nodes.as_ref(), namespaces, options, &mut scope, gaps).await
            }
        }
    };
    told_apart(&listed, &mut scope, gaps);
    let (mut pods, mut wants) = (Vec::new(), Vec::new());
    let (mut labelled, mut unresolved) = (Vec::new(), Vec::new());
    for found in listed.items {
        labelled.push(Labelled {
            namespace: found.pod.namespace.clone(),
            name: found.pod.name.clone(),
            labels: found.labels,
        });
        unresolved.push(found.constraints);
        pods.push(found.pod);
        wants.extend(found.wants);
    }
    let mut selections = Selections::new(labelled);
    for (pod, constraints) in pods.iter_mut().zip(unresolved) {
        pod.constraints = Some(Box::new(constraints.resolve(&mut selections)));
    }
    if scope.complete {
        look_elsewhere(api, &pods, &mut selections).await;
    }
    if let Some(selector) = &options.selector {
        mark_selected(api, selector, namespaces, &mut pods, gaps).await;
    }
    pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    pods.dedup_by(|a, b| a.namespace == b.namespace && a.name == b.name);
    Ok(Pods {
        pods,
        wants,
        scope,
        selections,
    })
}

/// Selectors of rules over more than a node that are asked about, at most (ours: they are few where there are any).
const FAR: usize = 64;

/// Pods on nodes without GPUs are not in the snapshot; rules over zones count them all the same. An answer that did not come leaves
/// it unknown, and such a pod where it is.
async fn look_elsewhere(api: &Api, pods: &[Pod], selections: &mut Selections) {
    let asked = selections.far();
    if asked.is_empty() || asked.len() > FAR {
        return;
    }
    let here: HashSet<(&str, &str)> = pods.iter().map(|p| (p.namespace.as_str(), p.name.as_str())).collect();
    let one = |(query, index): (Query, usize)| {
        let here = &here;
        async move {
            // Without a selector it matches nobody.
            let Some(selector) = &query.selector else {
                return Some((index, false));
            };
            let text = selector.text().filter(|_| selector.narrows())?;
            let list = List::all(PODS).matching("labelSelector", &text);
            let read = api.list(&list, |pod: RawPod| Some(pod.into_name())).await.ok()?;
            let other =
                |(ns, name): &(String, String)| *ns == query.namespace && !here.contains(&(ns.as_str(), name.as_str()));
            Some((index, !read.odd.is_empty() || read.items.iter().any(other)))
        }
    };
    let mut answers = stream::iter(asked.into_iter().map(one)).buffer_unordered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        if let Some((index, elsewhere)) = answer
            && let Some(selection) = selections.all.get_mut(index)
        {
            selection.elsewhere = Some(elsewhere);
        }
    }
}

/// Names what is not what the API serves. A pod that could not be read holds nobody knows what on its node; where not
/// even that is told, on any.
fn told_apart(listed: &Listed<Found>, scope: &mut PodsRead, gaps: &mut Gaps) {
    let mut gap = |what: &str, names: &[String], reason: &str, effect: &str| {
        if !names.is_empty() {
            gaps.push(Gap {
                source: String::new(),
                what: format!("{what} {}", some(names)),
                reason: reason.into(),
                effect: effect.into(),
                remedy: "look at the objects, and at what stands between you and the API server".into(),
            });
        }
    };
    let mut odd: Vec<String> = listed.odd.iter().map(|o| format!("{} ({})", o.name, o.why)).collect();
    odd.sort();
    let on: BTreeSet<String> = listed.odd.iter().filter_map(|o| o.node.clone()).collect();
    let effect = if listed.odd.iter().all(|o| o.node.is_some()) {
        "what they hold is unknown: no GPU without a holder is called free on their nodes"
    } else {
        "what they hold is unknown, and on which nodes: no GPU without a holder is called free"
    };
    gap("pods", &odd, "they are not what the API serves", effect);
    scope.complete &= listed.odd.iter().all(|o| o.node.is_some());
    scope.unread_on = on.into_iter().collect();
    let names = |which: fn(&Found) -> bool| {
        let found = listed.items.iter().filter(|f| which(f));
        let mut names: Vec<String> = found.map(|f| format!("{}/{}", f.pod.namespace, f.pod.name)).collect();
        names.sort();
        names
    };
    gap(
        "the state of pods",
        &names(|f| f.pod.unread),
        "their phase, conditions or creation time are missing or impossible",
        "what they hold is held, and whether it works is unknown",
    );
    gap(
        "the owners of pods",
        &names(|f| f.orphan),
        "they name owners that no object can be called",
        "each of them is judged by itself",
    );
    gap(
        "what is requested by pods",
        &names(|f| f.pod.containers.iter().any(|c| !c.requests.unread.is_empty())),
        "its amount is no quantity that a pod can have",
        "what they hold is unknown: no GPU without a holder is called free on their nodes",
    );
}

/// Bound to a GPU node, or asking for a device: the others are dropped as they come.
fn relevant(pod: &RawPod, gpu_nodes: Option<&HashSet<String>>) -> Option<bool> {
    match (pod.node(), gpu_nodes) {
        (Some(node), Some(gpu_nodes)) => Some(gpu_nodes.contains(node)),
        _ => None,
    }
}

fn asks_for_devices(pod: &Pod) -> bool {
    !pod.resource_claims.is_empty() || pod.containers.iter().any(Container::has_devices)
}

/// A pod, and what of it stands elsewhere.
struct Found {
    pod: Pod,
    wants: Vec<Wants>,
    /// It names an owner that no object can be.
    orphan: bool,
    /// As they are, until selectors are matched.
    labels: BTreeMap<String, String>,
    constraints: Unresolved,
}

type GpuNodes = Arc<HashSet<String>>;

async fn some_pods(
    api: &Api,
    list: &List<'_>,
    gpu_nodes: Option<&GpuNodes>,
    options: &CollectOptions,
) -> Result<Listed<Found>, ReadError> {
    let (gpu_nodes, keep_labels) = (gpu_nodes.cloned(), options.keep_labels.clone());
    api.list(list, move |mut raw: RawPod| {
        let relevant = relevant(&raw, gpu_nodes.as_deref());
        if relevant == Some(false) {
            return None;
        }
        raw.fill_fields();
        let (wants, orphan) = (raw.wants(), raw.is_orphan());
        let (labels, constraints) = (raw.labels().clone(), raw.constraints());
        let pod = raw.into_pod(&keep_labels);
        (relevant == Some(true) || asks_for_devices(&pod)).then_some(Found {
            pod,
            wants,
            orphan,
            labels,
            constraints,
        })
    })
    .await
}

/// One read a GPU node, and one for the pods that wait for a node.
async fn by_node(
    api: &Api,
    nodes: &Nodes,
    gpu_nodes: Option<&GpuNodes>,
    options: &CollectOptions,
) -> Result<Listed<Found>, ReadError> {
    let mut selectors: Vec<String> = nodes.gpu.iter().map(|n| format!("spec.nodeName={}", n.name)).collect();
    selectors.push("spec.nodeName=".into());
    let mut reads = stream::iter(selectors.into_iter().map(|selector| async move {
        let list = List::all(PODS).matching("fieldSelector", &selector);
        some_pods(api, &list, gpu_nodes, options).await
    }))
    .buffer_unordered(AT_ONCE);
    let mut all = Listed::new();
    while let Some(read) = reads.next().await {
        all.extend(read?);
    }
    Ok(all)
}

async fn by_namespace(
    api: &Api,
    gpu_nodes: Option<&GpuNodes>,
    namespaces: &[Name],
    options: &CollectOptions,
    scope: &mut PodsRead,
    gaps: &mut Gaps,
) -> Listed<Found> {
    let mut all = Listed::new();
    for namespace in namespaces {
        match some_pods(api, &List::within(PODS, namespace), gpu_nodes, options).await {
            Ok(read) => all.extend(read),
            Err(error) => {
                gaps.add(
                    &error,
                    &format!("pods in namespace {}", namespace.as_str()),
                    "its workloads are not in the report",
                );
                scope.refused.push(namespace.as_str().into());
            }
        }
    }
    all
}

/// `-l` is the server's own matching: a second, cheap list of names. Selected pods carry a marker label.
async fn mark_selected(api: &Api, selector: &str, namespaces: &[Name], pods: &mut [Pod], gaps: &mut Gaps) {
    let lists = if namespaces.is_empty() {
        vec![List::all(PODS)]
    } else {
        namespaces.iter().map(|ns| List::within(PODS, ns)).collect()
    };
    let mut selected: HashSet<(String, String)> = HashSet::new();
    for list in lists {
        let name = |pod: RawPod| Some(pod.into_name());
        match api.list(&list.matching("labelSelector", selector), name).await {
            Ok(read) => selected.extend(read.items),
            Err(error) => gaps.lost(
                &error,
                &format!("pods with -l {selector}"),
                "no pod is selected by it",
                UnreadKind::Selector,
            ),
        }
    }
    for pod in pods {
        if selected.contains(&(pod.namespace.clone(), pod.name.clone())) {
            pod.labels
                .insert(crate::snapshot::cluster::SELECTED.into(), "true".into());
        }
    }
}
