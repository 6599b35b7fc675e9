//! Snapshots of several clusters and moments as one fleet.

use super::{Recorded, named};
use crate::snapshot::cluster::Cluster;
use crate::snapshot::{Gap, Snapshot, Source, SourceKind, SourceStatus};
use anyhow::{Context, Result};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Seconds within which snapshots tell of one moment.
const ONE_MOMENT: i64 = 3600;

/// Several snapshots are one fleet; the report is dated by the newest. Of a cluster that a folder or a prefix holds several times
/// the newest counts.
pub(in crate::run) fn fleet(paths: &[PathBuf], cluster_name: Option<&str>) -> Result<Snapshot> {
    let series = named(paths)?;
    let mut newest = Newest::default();
    let lost = series.each(Recorded::snapshot, |one, mut snapshot| {
        if let Some(name) = cluster_name {
            snapshot.clusters.iter_mut().for_each(|c| name.clone_into(&mut c.name));
        }
        snapshot.sources.push(Source {
            kind: SourceKind::Snapshot,
            name: one.name.clone(),
            status: SourceStatus::Ok,
            detail: format!(
                "recorded {} by gpuwaste {}",
                snapshot.taken_at.strftime("%Y-%m-%d %H:%M UTC"),
                snapshot.tool_version
            ),
            named: true,
        });
        newest.take(snapshot, !one.is_needed());
        Ok(())
    })?;
    let held = newest.held.into_iter().filter(|s| !s.sources.is_empty()).collect();
    let mut all = whole(held).context("no snapshot was named")?;
    for one in lost {
        let (source, gap) = one.told();
        all.sources.push(source);
        all.gaps.push(gap);
    }
    Ok(all)
}

/// Snapshots that are read one by one, of which what is newest is held.
#[derive(Default)]
struct Newest {
    held: Vec<Snapshot>,
    /// Of each cluster: whose is held, when it was taken.
    newest: BTreeMap<String, (usize, Timestamp)>,
}

/// Two of one name and moment that share no node only claim to be one: the join tells them apart.
fn share_nodes(a: &Cluster, b: &Cluster) -> bool {
    let names = |c: &Cluster| -> BTreeSet<String> { c.nodes.iter().flatten().map(|n| n.name.clone()).collect() };
    !names(a).is_disjoint(&names(b))
}

fn identity(cluster: &Cluster) -> String {
    cluster.uid.clone().unwrap_or_else(|| cluster.name.clone())
}

impl Newest {
    /// `by_time`: a cluster that is held already counts once.
    fn take(&mut self, mut snapshot: Snapshot, by_time: bool) {
        let (at, own) = (snapshot.taken_at, self.held.len());
        let had_some = !snapshot.clusters.is_empty();
        if by_time {
            let mut kept = Vec::new();
            for cluster in snapshot.clusters {
                let id = identity(&cluster);
                if let Some((whose, known)) = self.newest.get(&id).copied().filter(|(whose, _)| *whose != own) {
                    let old = &mut self.held[whose];
                    let same = |c: &Cluster| {
                        identity(c) == id
                            && (known.duration_since(at).as_secs().abs() > ONE_MOMENT || share_nodes(c, &cluster))
                    };
                    if old.clusters.iter().any(same) {
                        if known >= at {
                            continue;
                        }
                        old.clusters.retain(|c| !same(c));
                        if old.clusters.is_empty() {
                            // Of it nothing counts any more.
                            (old.sources, old.gaps) = (Vec::new(), Vec::new());
                        }
                    }
                }
                self.newest.insert(id, (own, at));
                kept.push(cluster);
            }
            snapshot.clusters = kept;
            if snapshot.clusters.is_empty() && had_some {
                return;
            }
        }
        self.held.push(snapshot);
    }
}

/// What was read one by one, as one fleet, dated by the newest. `None`: nothing was read.
pub(in crate::run) fn whole(mut all: Vec<Snapshot>) -> Option<Snapshot> {
    if all.len() < 2 {
        return all.pop();
    }
    let moments = || all.iter().map(|s| s.taken_at);
    let (oldest, newest) = (moments().min()?, moments().max()?);
    let dated = all.into_iter().map(|mut one| {
        // When each cluster was read, before it stands beside others.
        let at = one.taken_at;
        one.clusters.iter_mut().for_each(|c| _ = c.read_at.get_or_insert(at));
        one
    });
    let mut whole = dated.reduce(|mut whole, one| {
        whole.clusters.extend(one.clusters);
        whole.sources.extend(one.sources);
        whole.gaps.extend(one.gaps);
        whole
    })?;
    whole.taken_at = newest;
    whole.gaps.extend(apart(oldest, newest));
    Some(whole)
}

/// Snapshots that do not tell of one moment.
fn apart(a: Timestamp, b: Timestamp) -> Option<Gap> {
    let apart = a.duration_since(b).as_secs().abs();
    (apart > ONE_MOMENT).then(|| Gap {
        source: "snapshots".into(),
        what: "one moment for the whole fleet".into(),
        reason: format!("the snapshots were taken {} h apart", apart / 3600),
        effect: "each cluster is told of as it was then: what moved between them meanwhile is in none or in two".into(),
        remedy: "record them together".into(),
    })
}
