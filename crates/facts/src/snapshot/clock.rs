//! Times of a cluster's objects, moved from its own clock to that of the machine that read it.

use super::cluster::{Cluster, ContainerState};
use jiff::{SignedDuration, Timestamp};

/// Every time that the API server's objects tell.
fn each(cluster: &mut Cluster, mut with: impl FnMut(&mut Timestamp)) {
    let mut all: Vec<&mut Option<Timestamp>> = Vec::new();
    for node in cluster.nodes.iter_mut().flatten() {
        all.push(&mut node.created_at);
        all.extend(node.ready.iter_mut().map(|c| &mut c.since));
        all.extend(node.taints.iter_mut().map(|t| &mut t.since));
    }
    for pod in &mut cluster.pods {
        all.extend([&mut pod.created_at, &mut pod.started_at, &mut pod.deleted_at]);
        all.extend(pod.ready.iter_mut().chain(&mut pod.scheduled).map(|c| &mut c.since));
        for container in &mut pod.containers {
            if let Some(ContainerState::Running { since }) = &mut container.state {
                all.push(since);
            }
            all.extend(container.last_exit.iter_mut().map(|e| &mut e.finished_at));
        }
    }
    for controller in &mut cluster.controllers {
        all.extend([&mut controller.created_at, &mut controller.completed_at]);
    }
    for claim in cluster.dra.iter_mut().flat_map(|d| d.claims.iter_mut().flatten()) {
        all.extend([&mut claim.created_at, &mut claim.deleted_at]);
    }
    all.into_iter().flatten().for_each(&mut with);
}

/// The latest time of any object: nothing in it can be later than the clock that wrote it.
pub fn latest(cluster: &mut Cluster) -> Option<Timestamp> {
    let mut latest = None;
    each(cluster, |at| latest = latest.max(Some(*at)));
    latest
}

/// Writes all times by a clock that is `ahead` seconds behind the one that wrote them, and says so.
pub fn settle(cluster: &mut Cluster, ahead: i64) {
    each(cluster, |at| {
        if let Ok(moved) = at.checked_sub(SignedDuration::from_secs(ahead)) {
            *at = moved;
        }
    });
    cluster.clock_ahead_seconds = Some(ahead);
}

/// Moves what a node's kubelet and processes wrote by `ahead` seconds, where its clock is another than the API server's.
pub fn settle_node(cluster: &mut Cluster, node: &str, ahead: i64) {
    let moved = |at: &mut Option<Timestamp>| {
        *at = at.map(|t| t.checked_sub(SignedDuration::from_secs(ahead)).unwrap_or(t));
    };
    for pod in cluster.pods.iter_mut().filter(|p| p.node.as_deref() == Some(node)) {
        moved(&mut pod.started_at);
        pod.ready.iter_mut().for_each(|c| moved(&mut c.since));
        for container in &mut pod.containers {
            if let Some(ContainerState::Running { since }) = &mut container.state {
                moved(since);
            }
            container.last_exit.iter_mut().for_each(|e| moved(&mut e.finished_at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::cluster::{Condition, Pod};

    #[test]
    fn a_duration_is_the_servers_own() {
        let at = |text: &str| text.parse::<Timestamp>().ok();
        let mut cluster = Cluster {
            pods: vec![Pod {
                created_at: at("2026-11-24T11:00:00Z"),
                ready: Some(Condition {
                    since: at("2026-11-24T11:30:00Z"),
                    ..Condition::default()
                }),
                ..Pod::default()
            }],
            ..Cluster::default()
        };
        assert_eq!(latest(&mut cluster), at("2026-11-24T11:30:00Z"));
        settle(&mut cluster, -3600);
        assert_eq!(
            cluster.pods[0].ready.as_ref().unwrap().since,
            at("2026-11-24T12:30:00Z")
        );
        assert_eq!(
            (cluster.pods[0].created_at, cluster.clock_ahead_seconds),
            (at("2026-11-24T12:00:00Z"), Some(-3600))
        );
        // The kubelet of the one node writes by another clock; who made the pod does not.
        cluster.pods[0].node = Some("a".into());
        settle_node(&mut cluster, "b", 3600);
        settle_node(&mut cluster, "a", 1800);
        let pod = &cluster.pods[0];
        assert_eq!(pod.ready.as_ref().unwrap().since, at("2026-11-24T12:00:00Z"));
        assert_eq!(pod.created_at, at("2026-11-24T12:00:00Z"));
    }
}
