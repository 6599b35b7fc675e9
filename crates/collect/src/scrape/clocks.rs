//! Clocks of those who were asked: the times that a page and its node's kubelet write are theirs.

use super::jobs::Job;
use crate::kube::clock::{Clock, is_doubt, words};
use crate::snapshot::Gap;
use crate::snapshot::clock::settle_node;
use crate::snapshot::cluster::{ClockOf, Cluster, ServerClock};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Names shown in a gap.
const SHOWN: usize = 3;

/// By whose they are: an exporter speaks for its node where it is more than a tenant's pod; every other for itself alone.
#[derive(Default)]
pub(super) struct Clocks {
    told: BTreeMap<(ClockOf, String, String), Vec<Clock>>,
    /// Pods whose answers have no Date, or none that is one.
    silent: BTreeSet<String>,
}

impl Clocks {
    pub(super) fn add(&mut self, job: &Job, clock: &Clock) {
        let Some(look) = clock.look() else {
            self.silent.insert(format!("{}/{}", job.namespace, job.pod));
            return;
        };
        let whose = if job.vouches {
            (ClockOf::Node, String::new(), job.node.clone())
        } else {
            (ClockOf::Pod, job.namespace.clone(), job.pod.clone())
        };
        let own = Clock::default();
        own.keep(look);
        self.told.entry(whose).or_default().push(own);
    }

    /// Moves times to this machine's clock, and says which are in doubt.
    pub(super) fn settle(self, origin: &str, cluster: &mut Cluster) -> Vec<Gap> {
        // Objects' times were moved by the API server's clock before; what kubelets wrote is not its.
        let moved = cluster.clock_ahead_seconds.unwrap_or(0);
        let mut doubted: BTreeMap<ClockOf, Vec<(String, i64)>> = BTreeMap::new();
        for ((of, namespace, name), clocks) in &self.told {
            let agreed = agreed(clocks);
            let more = agreed.unwrap_or(Some(0)).unwrap_or(0) - moved;
            if *of == ClockOf::Node && agreed.is_ok() && is_doubt(more.unsigned_abs() as f64) {
                settle_node(cluster, name, more);
            }
            let ahead = agreed.unwrap_or_else(Some);
            let Some(ahead_seconds) = ahead else { continue };
            let namespace = Some(namespace.clone()).filter(|n| !n.is_empty());
            let shown = namespace
                .as_ref()
                .map_or_else(|| name.clone(), |n| format!("{n}/{name}"));
            doubted.entry(*of).or_default().push((shown, ahead_seconds));
            cluster.clocks.push(ServerClock {
                of: *of,
                namespace,
                name: Some(name.clone()),
                ahead_seconds,
            });
        }
        self.settle_processes(cluster);
        let mut gaps: Vec<Gap> = doubted.iter().map(|(of, all)| gap(origin, *of, all)).collect();
        gaps.extend(self.untold(origin));
        gaps
    }

    /// A process' start is by the clock of its page, else by its node's.
    fn settle_processes(&self, cluster: &mut Cluster) {
        let clock = |of: ClockOf, namespace: &str, name: &str| self.told.get(&(of, namespace.into(), name.into()));
        for engine in &mut cluster.engines {
            let pod = cluster
                .pods
                .iter()
                .find(|p| p.namespace == engine.namespace && p.name == engine.pod);
            let node = pod.and_then(|p| p.node.as_deref()).unwrap_or_default();
            let own = clock(ClockOf::Pod, &engine.namespace, &engine.pod);
            let told = own.or_else(|| clock(ClockOf::Node, "", node));
            let ahead = told.and_then(|clocks| agreed(clocks).ok().flatten());
            let back = |t: Timestamp| {
                t.checked_sub(SignedDuration::from_secs(ahead.unwrap_or(0)))
                    .unwrap_or(t)
            };
            engine.process_started_at = engine.process_started_at.map(back);
        }
    }

    fn untold(&self, origin: &str) -> Option<Gap> {
        let names: Vec<&str> = self.silent.iter().map(String::as_str).collect();
        (!names.is_empty()).then(|| Gap {
            source: origin.into(),
            what: format!("the clocks of {}", some(&names)),
            reason: "their answers have no Date, or none that is one".into(),
            effect: "since-times there are taken as if their clocks were this machine's".into(),
            remedy: "none is needed where their hosts' clocks are set (NTP)".into(),
        })
    }
}

/// What all who speak for one clock say that it is ahead, where that is in doubt.
///
/// Errors: they contradict each other, and nobody is believed; what is furthest from ours.
fn agreed(clocks: &[Clock]) -> Result<Option<i64>, i64> {
    let all = || clocks.iter().map(|c| c.ahead().unwrap_or(0));
    let (least, most) = (all().min().unwrap_or(0), all().max().unwrap_or(0));
    if is_doubt((most - least) as f64) {
        return Err(if most.abs() >= least.abs() { most } else { least });
    }
    Ok(clocks.iter().find_map(Clock::ahead))
}

fn some(names: &[&str]) -> String {
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn gap(origin: &str, of: ClockOf, all: &[(String, i64)]) -> Gap {
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let furthest = all.iter().map(|(_, ahead)| *ahead).max_by_key(|a| a.unsigned_abs());
    let whose = if of == ClockOf::Node { "nodes" } else { "pods" };
    Gap {
        source: origin.into(),
        what: format!("since when things are so on {whose} {}", some(&names)),
        reason: format!("clocks there are up to {} this machine's", words(furthest.unwrap_or(0))),
        effect: "durations are counted by their own clocks; nothing there that rests on them is measured, and gates that they could change give no verdict".into(),
        remedy: "set the clocks (NTP) of this machine and of those hosts".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::clock::Look;
    use crate::snapshot::cluster::{Condition, Pod};
    use crate::snapshot::engine::EngineScrape;
    use crate::snapshot::server::EngineKind;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_521_600 + seconds).unwrap()
    }

    fn job(node: &str, pod: &str, engine: Option<EngineKind>) -> Job {
        Job {
            namespace: "ml".into(),
            pod: pod.into(),
            uid: String::new(),
            ip: None,
            node: node.into(),
            container: "main".into(),
            port: 8000,
            path: "/metrics",
            other_paths: &[],
            other_ports: Vec::new(),
            any_of: None,
            engine,
            identity: &[],
            devices: 1,
            vouches: engine.is_none(),
        }
    }

    fn ahead(seconds: i64) -> Clock {
        let clock = Clock::default();
        clock.keep(Look::at(at(0), at(seconds), 0.0, at(0)));
        clock
    }

    /// Two nodes with a server each, made an hour ago by their own clocks.
    fn cluster() -> Cluster {
        let pod = |name: &str, node: &str| Pod {
            namespace: "ml".into(),
            name: name.into(),
            node: Some(node.into()),
            created_at: Some(at(-7200)),
            ready: Some(Condition {
                since: Some(at(-3600)),
                ..Condition::default()
            }),
            ..Pod::default()
        };
        let engine = |pod: &str| EngineScrape {
            namespace: "ml".into(),
            pod: pod.into(),
            process_started_at: Some(at(-3600)),
            ..EngineScrape::default()
        };
        Cluster {
            pods: vec![pod("p1", "n1"), pod("p2", "n2")],
            engines: vec![engine("p1"), engine("p2")],
            ..Cluster::default()
        }
    }

    fn ready(cluster: &Cluster, pod: usize) -> Option<Timestamp> {
        cluster.pods[pod].ready.as_ref().unwrap().since
    }

    #[test]
    fn a_node_whose_clock_is_another_is_moved_alone() {
        for (skew, of_pod) in [(1800, None), (-1800, Some(-1800)), (0, Some(0))] {
            let (mut clocks, mut cluster) = (Clocks::default(), cluster());
            clocks.add(&job("n1", "exporter-1", None), &ahead(skew));
            clocks.add(&job("n2", "exporter-2", None), &ahead(3));
            if let Some(of_pod) = of_pod {
                clocks.add(&job("n1", "p1", Some(EngineKind::Vllm)), &ahead(of_pod));
            }
            let gaps = clocks.settle("kubernetes c", &mut cluster);
            // A clock that is ahead wrote later times than it was.
            assert_eq!(
                (ready(&cluster, 0), ready(&cluster, 1)),
                (Some(at(-3600 - skew)), Some(at(-3600)))
            );
            let started: Vec<_> = cluster.engines.iter().map(|e| e.process_started_at).collect();
            assert_eq!(started, [Some(at(-3600 - skew)), Some(at(-3600))]);
            assert_eq!(cluster.pods[0].created_at, Some(at(-7200)));
            let doubted = if skew == 0 {
                0
            } else {
                1 + usize::from(of_pod.is_some())
            };
            assert_eq!((cluster.clocks.len(), gaps.len()), (doubted, doubted), "{gaps:?}");
            let way = if skew > 0 { "30 min ahead of" } else { "30 min behind" };
            assert!(gaps.iter().all(|g| g.reason.contains(way)), "{gaps:?}");
        }
    }

    #[test]
    fn a_tenants_exporter_moves_and_doubts_nothing_of_its_node() {
        let (mut clocks, mut cluster) = (Clocks::default(), cluster());
        let tenants = Job {
            vouches: false,
            ..job("n1", "exporter-of-a-tenant", None)
        };
        clocks.add(&tenants, &ahead(-7200));
        let before = cluster.clone();
        let gaps = clocks.settle("kubernetes c", &mut cluster);
        assert_eq!((&cluster.pods, &cluster.engines), (&before.pods, &before.engines));
        assert!(
            cluster.clocks.iter().all(|c| c.of == ClockOf::Pod),
            "{:?}",
            cluster.clocks
        );
        assert!(
            gaps.len() == 1 && gaps[0].what.contains("ml/exporter-of-a-tenant"),
            "{gaps:?}"
        );
    }

    #[test]
    fn of_two_who_contradict_each_other_nobody_moves_anything() {
        let (mut clocks, mut cluster) = (Clocks::default(), cluster());
        clocks.add(&job("n1", "exporter-1", None), &ahead(2));
        clocks.add(&job("n1", "somebody-s", None), &ahead(-86_400));
        let before = cluster.pods.clone();
        let gaps = clocks.settle("kubernetes c", &mut cluster);
        assert_eq!(cluster.pods, before);
        assert_eq!(cluster.clocks.len(), 1, "it is in doubt");
        assert_eq!(gaps.len(), 1, "{gaps:?}");
    }

    #[test]
    fn nodes_that_agree_with_us_are_not_moved_by_the_api_servers_clock() {
        let (mut clocks, mut cluster) = (Clocks::default(), cluster());
        crate::snapshot::clock::settle(&mut cluster, 3600);
        clocks.add(&job("n1", "exporter-1", None), &ahead(0));
        clocks.add(&job("n2", "exporter-2", None), &ahead(3600));
        assert_eq!(clocks.settle("kubernetes c", &mut cluster).len(), 1);
        assert_eq!(
            (ready(&cluster, 0), ready(&cluster, 1)),
            (Some(at(-3600)), Some(at(-7200)))
        );
    }

    #[test]
    fn no_date_is_a_gap_and_no_guess() {
        let (mut clocks, mut cluster) = (Clocks::default(), cluster());
        clocks.add(&job("n1", "p1", Some(EngineKind::Vllm)), &Clock::default());
        let before = cluster.clone();
        let gaps = clocks.settle("kubernetes c", &mut cluster);
        assert_eq!(cluster, before);
        assert!(gaps.len() == 1 && gaps[0].what.contains("ml/p1"), "{gaps:?}");
    }
}
