//! Whether a store knows this cluster: some of its nodes and pods must be in the series that would be believed.

use super::client::Store;
use super::stamp;
use super::words::{Words, names_pattern};
use crate::kube::path::is_name;
use crate::snapshot::cluster::{Cluster, Container};
use jiff::Timestamp;

/// Names that are asked for: one that is known is enough.
const NAMES: usize = 12;

/// Labels under which scrapes keep a pod's and a node's name.
const OF_PODS: &[&str] = &["pod", "exported_pod", "pod_name"];
const OF_NODES: &[&str] = &["node", "Hostname", "hostname", "kubernetes_node", "nodename"];

/// `Some(false)`: it was asked for the cluster's nodes and pods, and has none of them; `None`: it could not be asked, or
/// there was nothing to ask for.
pub(super) async fn knows(store: &Store, words: &Words, cluster: &Cluster, window: u64, at: Timestamp) -> Option<bool> {
    let query = question(words, cluster, window)?;
    let time = stamp(store.by_its_clock(at));
    let told = store
        .query("/api/v1/query", &[("query", &query), ("time", &time)])
        .await
        .ok()?;
    Some(told.data.result.iter().any(|r| r.number().is_some_and(|n| n > 0.0)))
}

/// How many of the series that matter carry one of the names.
fn question(words: &Words, cluster: &Cluster, window: u64) -> Option<String> {
    let holds =
        |p: &&crate::snapshot::cluster::Pod| p.node.is_some() && p.containers.iter().any(Container::has_devices);
    let pods = cluster.pods.iter().filter(holds).map(|p| p.name.as_str());
    let nodes = cluster.nodes.iter().flatten().map(|n| n.name.as_str());
    let (pods, nodes) = (pattern(pods), pattern(nodes));
    let has = |label: &&&str| words.gpu_labels.contains(**label) || words.engine_labels.contains(**label);
    let with = |label: &str, names: &str| {
        format!(
            "count(last_over_time({{__name__=~\"{}\",{label}=~\"{names}\",{}}}[{window}s]))",
            names_pattern(),
            words.scope
        )
    };
    let of_pods = OF_PODS
        .iter()
        .filter(has)
        .filter_map(|l| Some(with(l, pods.as_deref()?)));
    let of_nodes = OF_NODES
        .iter()
        .filter(has)
        .filter_map(|l| Some(with(l, nodes.as_deref()?)));
    let parts: Vec<String> = of_pods.chain(of_nodes).collect();
    (!parts.is_empty()).then(|| parts.join(" or "))
}

/// An alternative of names, from all over the list; `None`: there are none.
fn pattern<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<String> = names.filter(|n| is_name(n)).map(|n| n.replace('.', "\\\\.")).collect();
    let step = names.len().div_ceil(NAMES).max(1);
    let some: Vec<&str> = names.iter().step_by(step).map(String::as_str).collect();
    (!some.is_empty()).then(|| some.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus::words::Owner;
    use crate::snapshot::cluster::{Node, Pod, Resources};
    use std::collections::BTreeSet;

    fn words(gpu_labels: &[&str]) -> Words {
        Words {
            names: BTreeSet::new(),
            gpu_labels: gpu_labels.iter().map(|l| (*l).to_string()).collect(),
            engine_labels: BTreeSet::new(),
            owner: Owner::Nobody,
            scope: "cluster=\"a\",".into(),
            containers: Vec::new(),
            namespaces: Vec::new(),
            cpu_limits: Vec::new(),
            pins: true,
            hosts_by_address: false,
        }
    }

    #[test]
    fn it_is_asked_by_the_labels_it_has_and_by_names_alone() {
        let pod = |name: &str| Pod {
            name: name.into(),
            node: Some("n".into()),
            containers: vec![Container {
                requests: Resources {
                    devices: [("nvidia.com/gpu".to_string(), 1)].into(),
                    ..Resources::default()
                },
                ..Container::default()
            }],
            ..Pod::default()
        };
        let cluster = Cluster {
            nodes: Some(vec![Node {
                name: "n-1.ec2.internal".into(),
                ..Node::default()
            }]),
            pods: vec![pod("web-0"), pod("x\"}) or vector(1) #")],
            ..Cluster::default()
        };
        let query = question(&words(&["pod", "UUID"]), &cluster, 60).unwrap();
        assert!(query.contains(",pod=~\"web-0\",cluster=\"a\",}[60s]"), "{query}");
        assert!(!query.contains("vector(1)") && !query.contains("Hostname"), "{query}");
        let query = question(&words(&["Hostname"]), &cluster, 60).unwrap();
        assert!(query.contains("Hostname=~\"n-1\\\\.ec2\\\\.internal\""), "{query}");
        assert_eq!(question(&words(&["UUID"]), &cluster, 60), None);
        assert_eq!(question(&words(&["pod"]), &Cluster::default(), 60), None);
    }
}
