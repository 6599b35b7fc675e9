//! Which cluster is which: one that was read by several contexts, or stands in several snapshots, counts once; a machine
//! that two node objects name is one machine; and a store's history is a cluster's only where it knows that cluster.

use crate::snapshot::cluster::{Cluster, Node, Pod, Unread, UnreadKind};
use crate::snapshot::history::History;
use crate::snapshot::{Gap, Snapshot};
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Reads further apart may see all nodes of a cluster replaced.
const ONE_MOMENT: i64 = 3600;
/// Bins back from its end in which a store's series are of now.
const RECENT_BINS: f64 = 3.0;
/// Series of pods that the cluster does not have: pods end while a scan runs, but not so many of them.
const FOREIGN_SHARE: f64 = 1.0 / 3.0;
const FOREIGN_PODS: usize = 3;

/// The snapshot's clusters, each once, with the history that is theirs.
pub(super) fn once<'s>(snapshot: &'s Snapshot, gaps: &mut Vec<Gap>) -> Vec<Cow<'s, Cluster>> {
    let mut kept: Vec<Cow<'s, Cluster>> = Vec::new();
    for cluster in &snapshot.clusters {
        let known = kept.iter().position(|k| is_same(k, cluster, snapshot.taken_at));
        let Some(at) = known else {
            kept.push(Cow::Borrowed(cluster));
            continue;
        };
        let better = worth(cluster, snapshot.taken_at) > worth(&kept[at], snapshot.taken_at);
        let (left, stays) = if better {
            (kept[at].name.clone(), cluster.name.clone())
        } else {
            (cluster.name.clone(), kept[at].name.clone())
        };
        gaps.push(Gap {
            source: format!("cluster {left}"),
            what: "the whole cluster, once more".into(),
            reason: format!(
                "it is the same cluster as '{stays}': read by another context, or recorded at another time"
            ),
            effect: format!("it is counted once, as '{stays}'"),
            remedy: "name each cluster by one context, or by its newest snapshot".into(),
        });
        if better {
            kept[at] = Cow::Borrowed(cluster);
        }
    }
    claimants(&kept, gaps);
    machines(&mut kept, gaps);
    stores(&mut kept, gaps);
    kept
}

fn read_at(cluster: &Cluster, taken_at: Timestamp) -> Timestamp {
    cluster.read_at.unwrap_or(taken_at)
}

/// The newest first, then the one of which more was read.
fn worth(cluster: &Cluster, taken_at: Timestamp) -> (Timestamp, bool, bool, bool, std::cmp::Reverse<usize>) {
    (
        read_at(cluster, taken_at),
        cluster.nodes.is_some(),
        cluster.pods_read.complete,
        cluster.history.is_some(),
        std::cmp::Reverse(cluster.unread.len()),
    )
}

fn is_same(a: &Cluster, b: &Cluster, taken_at: Timestamp) -> bool {
    let shared = shares_objects(a, b);
    match (&a.uid, &b.uid) {
        (Some(x), Some(y)) if x == y => {
            let apart = read_at(a, taken_at)
                .duration_since(read_at(b, taken_at))
                .as_secs()
                .abs();
            // At one moment a cluster has one set of nodes: two that share none only claim to be one.
            shared || apart > ONE_MOMENT || !have_nodes(a, b)
        }
        (Some(_), Some(_)) => false,
        // Whose uid could not be read is known by what it holds: uids are made up by each API server, and never twice.
        _ => shares_uids(a, b),
    }
}

fn have_nodes(a: &Cluster, b: &Cluster) -> bool {
    let some = |c: &Cluster| c.nodes.as_ref().is_some_and(|n| !n.is_empty());
    some(a) && some(b)
}

fn shares_objects(a: &Cluster, b: &Cluster) -> bool {
    let names = |c: &'_ Cluster| -> HashSet<String> {
        c.nodes
            .iter()
            .flatten()
            .map(|n| n.uid.clone().unwrap_or_else(|| n.name.clone()))
            .collect()
    };
    !names(a).is_disjoint(&names(b)) || shares_uids(a, b)
}

fn shares_uids(a: &Cluster, b: &Cluster) -> bool {
    let of = |c: &Cluster| -> HashSet<String> {
        let nodes = c.nodes.iter().flatten().filter_map(|n| n.uid.clone());
        let pods = c.pods.iter().map(|p: &Pod| p.uid.clone());
        nodes.chain(pods).filter(|u| is_uuid(u)).collect()
    };
    !of(a).is_disjoint(&of(b))
}

/// As API servers make them (RFC 4122): others are names that somebody chose, and may be chosen twice.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Clusters of one uid that are not one.
fn claimants(kept: &[Cow<'_, Cluster>], gaps: &mut Vec<Gap>) {
    let mut by_uid: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for cluster in kept {
        if let Some(uid) = &cluster.uid {
            by_uid.entry(uid).or_default().push(&cluster.name);
        }
    }
    for (_, names) in by_uid.into_iter().filter(|(_, names)| names.len() > 1) {
        gaps.push(Gap {
            source: format!("cluster {}", names.join(", ")),
            what: "which cluster is which".into(),
            reason: "they have one identity (the uid of kube-system), and no node in common".into(),
            effect: "each is counted; findings of both have the same ids".into(),
            remedy: "one was restored from the other's backup, or pretends to be it: give its namespace kube-system a uid of its own".into(),
        });
    }
}

/// Nodes that are one machine: a node that was registered anew while its old object stays, or a machine that moved. The one
/// that is Ready counts, then the younger.
fn machines(kept: &mut [Cow<'_, Cluster>], gaps: &mut Vec<Gap>) {
    let mut best: BTreeMap<String, (usize, bool, Option<Timestamp>, String)> = BTreeMap::new();
    let mut twice: Vec<(usize, String)> = Vec::new();
    let place = |n: &Node| {
        n.machine
            .clone()
            .filter(|_| n.provider.as_deref().is_some_and(is_cloud))
    };
    for (index, cluster) in kept.iter().enumerate() {
        for node in cluster.nodes.iter().flatten() {
            let Some(machine) = place(node) else { continue };
            let ready = node.ready.as_ref().is_some_and(|r| r.status == Some(true));
            let this = (index, ready, node.created_at, node.name.clone());
            match best.get(&machine) {
                Some(known) if (known.1, known.2) >= (ready, node.created_at) => twice.push((index, node.name.clone())),
                _ => {
                    if let Some(known) = best.insert(machine, this) {
                        twice.push((known.0, known.3));
                    }
                }
            }
        }
    }
    for (index, name) in twice {
        gaps.push(Gap {
            source: format!("cluster {}", kept[index].name),
            what: format!("node {name}"),
            reason: "another node is the same machine (spec.providerID)".into(),
            effect: "the machine is counted once, as the node that is Ready, or younger".into(),
            remedy: "delete the node object that is no longer there".into(),
        });
        let cluster = kept[index].to_mut();
        if let Some(nodes) = &mut cluster.nodes {
            nodes.retain(|n| n.name != name);
        }
    }
}

/// Providers whose ids name one machine in the world; on-premises ones (kind, k3s) repeat host names.
fn is_cloud(provider: &str) -> bool {
    const CLOUDS: &[&str] = &[
        "aws",
        "gce",
        "azure",
        "oci",
        "digitalocean",
        "hcloud",
        "linode",
        "openstack",
        "vsphere",
    ];
    CLOUDS.contains(&provider)
}

/// How a store shows that it knows a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    /// Nothing in it is of this cluster.
    None,
    /// Names that another cluster may have, too: nodes, pods with an ordinal.
    Names,
    /// What only this cluster has: UUIDs of its GPUs, pods whose names were made up for it.
    Own,
}

/// History that is another's is dropped, and said.
fn stores(kept: &mut [Cow<'_, Cluster>], gaps: &mut Vec<Gap>) {
    let mut by_store: BTreeMap<(String, String), Vec<(usize, Binding)>> = BTreeMap::new();
    for (index, cluster) in kept.iter().enumerate() {
        let Some(history) = cluster.history.as_deref().filter(|h| !is_empty(h)) else {
            continue;
        };
        // A name inside a cluster is another store in each.
        let place = if history.store.contains("://") {
            history.store.clone()
        } else {
            format!("{index} {}", history.store)
        };
        let scope = history.scope.clone().unwrap_or_default();
        by_store
            .entry((place, scope))
            .or_default()
            .push((index, binding(cluster, history)));
    }
    for ((_, scope), users) in by_store {
        let own = users.iter().filter(|(_, b)| *b == Binding::Own).count();
        for (index, bound) in users.iter().copied() {
            let why = if bound == Binding::None {
                Some("it knows no node, no pod and no GPU of this cluster".to_string())
            } else if users.len() > 1 && (own != 1 || bound != Binding::Own) {
                Some(format!(
                    "{} clusters were asked of it with {}, and it does not tell them apart",
                    users.len(),
                    if scope.is_empty() {
                        "no matcher".into()
                    } else {
                        format!("one matcher ({scope})")
                    }
                ))
            } else {
                foreign(&kept[index])
            };
            if let Some(reason) = why {
                drop_history(kept[index].to_mut(), reason, gaps);
            }
        }
    }
}

fn is_empty(history: &History) -> bool {
    history.gpus.is_empty() && history.pods.is_empty() && history.workloads.is_empty() && history.usage.is_empty()
}

fn drop_history(cluster: &mut Cluster, reason: String, gaps: &mut Vec<Gap>) {
    let Some(history) = cluster.history.take() else { return };
    gaps.push(Gap {
        source: format!("prometheus {}", history.store),
        what: format!("the window's history of {}", cluster.name),
        reason,
        effect: "nothing of it is believed: counters and live samples are all there is".into(),
        remedy: "name this cluster's own store with --prometheus URL, or its own series with --prometheus-match 'LABEL=\"VALUE\"', one cluster a scan".into(),
    });
    cluster.unread.push(Unread {
        what: UnreadKind::History,
        ..Unread::default()
    });
}

fn binding(cluster: &Cluster, history: &History) -> Binding {
    let uuids: HashSet<&str> = cluster.gpus.iter().filter_map(|g| g.uuid.as_deref()).collect();
    if history.gpus.iter().any(|g| uuids.contains(g.uuid.as_str())) {
        return Binding::Own;
    }
    let pods: HashSet<(&str, &str)> = cluster
        .pods
        .iter()
        .map(|p| (p.namespace.as_str(), p.name.as_str()))
        .collect();
    let held = history.gpus.iter().filter_map(|g| g.holder.as_ref());
    let seen: BTreeSet<(&str, &str)> = held
        .map(|h| (h.namespace.as_str(), h.name.as_str()))
        .chain(history.pods.iter().map(|p| (p.namespace.as_str(), p.name.as_str())))
        .filter(|p| pods.contains(p))
        .collect();
    if seen.iter().any(|(_, name)| is_made_up(name)) {
        return Binding::Own;
    }
    let nodes: HashSet<&str> = cluster.nodes.iter().flatten().map(|n| n.name.as_str()).collect();
    let of_nodes = history.gpus.iter().filter_map(|g| g.node.as_deref());
    let mut of_nodes = of_nodes.chain(history.nodes.iter().map(|n| n.node.as_str()));
    if !seen.is_empty() || of_nodes.any(|n| nodes.contains(n)) {
        Binding::Names
    } else {
        Binding::None
    }
}

/// "web-5d9c7b-x7k2p": the suffix that controllers draw (27 letters and digits, without vowels).
fn is_made_up(name: &str) -> bool {
    let drawn = |c: char| "bcdfghjklmnpqrstvwxz2456789".contains(c);
    name.rsplit_once('-')
        .is_some_and(|(_, s)| s.len() == 5 && s.chars().all(drawn))
}

/// A store in which many pods hold GPUs now that this cluster does not have is several clusters'.
fn foreign(cluster: &Cluster) -> Option<String> {
    let history = cluster.history.as_deref().filter(|_| cluster.pods_read.complete)?;
    let pods: HashSet<(&str, &str)> = cluster
        .pods
        .iter()
        .map(|p| (p.namespace.as_str(), p.name.as_str()))
        .collect();
    let recent = |last: Option<Timestamp>| {
        let back = RECENT_BINS * history.bin_seconds as f64;
        last.is_some_and(|l| history.end.duration_since(l).as_secs_f64() <= back)
    };
    let now: BTreeSet<(&str, &str)> = history
        .gpus
        .iter()
        .filter(|g| recent(g.last))
        .filter_map(|g| g.holder.as_ref())
        .map(|h| (h.namespace.as_str(), h.name.as_str()))
        .collect();
    let others = now.iter().filter(|p| !pods.contains(*p)).count();
    (others >= FOREIGN_PODS && others as f64 >= FOREIGN_SHARE * now.len() as f64).then(|| {
        format!(
            "of {} pods that hold GPUs in it now, {others} are not in this cluster: it is several clusters'",
            now.len()
        )
    })
}
