//! How a server is spread over GPUs: one opinion, for every check that asks.

use super::support::{self, Lack, lack};
use crate::engine::{Width, width};
use crate::fit::{Parallelism, search};
use crate::fleet::{Fleet, SlotId, Workload};
use crate::settings::Thresholds;
use crate::snapshot::server::EngineSettings;

/// What one replica uses, by its specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) parallelism: Parallelism,
    /// GPUs of it: data-parallel attention runs inside the tensor-parallel ranks.
    pub(super) gpus: u32,
    /// Ray places such replicas over its cluster's GPUs by itself: how many there are says nothing of one.
    pub(super) floating: bool,
}

pub(super) const FLOATING: Lack = lack(
    "Ray places its replicas over the cluster's GPUs by itself",
    "nothing to do",
);

/// What the settings say, else what the engine does without them; more, perhaps, than it holds.
pub(super) fn of(workload: &Workload) -> Result<Spread, Lack> {
    let Some(settings) = workload.settings.as_ref() else {
        return Err(lack(
            "no serving engine was recognised",
            "see 'gpuwaste catalog engines'",
        ));
    };
    if let Some(unread) = settings.unread_parallelism() {
        return Err(support::unread("its parallelism", unread, support::LET_IT_BE_READ));
    }
    let pods_of_one = workload.replicas.iter().map(|r| r.pods.len()).max().unwrap_or(1);
    if settings.nodes.is_some_and(|n| n > 1) && pods_of_one <= 1 {
        return Err(lack(
            "a group over several nodes: each pod uses a part of the parallelism",
            "nothing to do",
        ));
    }
    let stated = Parallelism {
        tensor: settings.tensor_parallel.unwrap_or(1).max(1),
        pipeline: settings.pipeline_parallel.unwrap_or(1).max(1),
        data: settings.data_parallel.unwrap_or(1).max(1),
    };
    let parallelism = match width(settings.engine) {
        _ if settings.tensor_parallel.is_some() => stated,
        Width::One => stated,
        Width::All => Parallelism {
            tensor: all_of(workload, settings, stated)?,
            ..stated
        },
        // One GPU leaves no choice.
        Width::Chosen if workload.gpus_per_replica == Some(1) => stated,
        Width::Chosen => {
            return Err(lack(
                "how many of its GPUs the engine uses is not in its specification",
                "nothing to do",
            ));
        }
    };
    Ok(Spread {
        parallelism,
        gpus: search::gpus_of(settings, parallelism),
        floating: is_placed_by_ray(workload, settings),
    })
}

/// Ray Serve's replicas are actors in a cluster that others share.
fn is_placed_by_ray(workload: &Workload, settings: &EngineSettings) -> bool {
    const KINDS: &[&str] = &["RayService", "RayCluster", "RayJob"];
    settings.ray || KINDS.contains(&workload.kind.as_str())
}

/// The tensor parallelism of an engine that takes every GPU it sees.
fn all_of(workload: &Workload, settings: &EngineSettings, stated: Parallelism) -> Result<u32, Lack> {
    let rest = search::gpus_of(settings, Parallelism { tensor: 1, ..stated }).max(1);
    let held = workload.gpus_per_replica.unwrap_or(0);
    if held < rest || !held.is_multiple_of(rest) {
        return Err(lack(
            "its parallelism does not match the GPUs it holds",
            "look at parallelism-mismatch, or write the parallelism in the arguments",
        ));
    }
    Ok(held / rest)
}

/// Whether the GPU is seen at work, by any source (R11); `None`: nothing is seen of it, its sources contradict each other, or
/// it may be a neighbour's work. One that works rarely works: its most counts beside what the witness tells of its usual.
pub(super) fn is_at_work(fleet: &Fleet, slot: SlotId, t: &Thresholds) -> Option<bool> {
    let slot = fleet.slot(slot);
    let activity = slot.activity.as_ref().filter(|a| a.attributed && !a.shared)?;
    let most = [activity.engine_active, activity.gpu_util, activity.busy]
        .into_iter()
        .filter_map(|s| s?.max)
        .reduce(f64::max);
    let works = &slot.facts.works;
    if works.claimed() || most.is_some_and(|m| m > t.idle_gpu_activity) {
        return Some(true);
    }
    works.denied().then_some(false)
}
