//! Of jobs that have ended: what an owner's GPUs did, by the summaries that their epilogues left.

use super::super::finding::{Evidence, Fix};
use super::super::owners_past::{OfOwner, SECONDS_PER_HOUR, hours, owners};
use super::super::support::span;
use super::super::{Context, Outcome};
use super::ID;
use crate::catalog::mig;
use crate::fleet::past::PARTITION;
use crate::fleet::{Fleet, WHOLE_GPU};
use crate::settings::Thresholds;
use crate::snapshot::past::PastUse;
use crate::units::UsdPerHour;
use std::collections::BTreeMap;

pub(super) const IDLE: &str = "idle-hours";
pub(super) const LOW: &str = "low-hours";
pub(super) const SMALLER: &str = "smaller-gpu";
pub(super) const LIMIT: &str = "time-limit";

const SUMMARIES: &str = "summaries of jobs that have ended";

pub(super) fn findings(context: &Context<'_>, out: &mut Outcome) {
    let (fleet, t) = (context.fleet, &context.settings.thresholds);
    let mut held: BTreeMap<(usize, &str), f64> = BTreeMap::new();
    for row in &fleet.past {
        let partition = row.used.labels.get(PARTITION).map_or("", String::as_str);
        *held.entry((row.cluster, partition)).or_default() += row.used.gpu_hours;
    }
    for owner in owners(fleet, context.settings) {
        if owner.sum(|p| p.idle_gpu_hours) >= t.past_idle_gpu_hours.max(1) as f64 {
            out.findings.push(idle(fleet, &owner));
        }
        let all: f64 = owner
            .partitions()
            .iter()
            .filter_map(|p| held.get(&(owner.cluster, *p)))
            .sum();
        let share = owner.sum(|p| p.gpu_hours) / all.max(f64::MIN_POSITIVE);
        let (open, unused) = (owner.sum(|p| p.open_gpu_hours), owner.sum(|p| p.open_unused_gpu_hours));
        let enough = open > 0.0 && open >= t.low_utilization_gpu_hours as f64 && share >= t.past_share;
        if enough && 1.0 - unused / open <= t.low_utilization_mean {
            out.findings.push(low(fleet, &owner, share));
        }
        if owner.sum(|p| p.small_gpu_hours) >= t.past_smaller_gpu_hours.max(1) as f64 {
            out.findings.extend(smaller(fleet, &owner));
        }
        out.findings.extend(limit(fleet, t, &owner));
    }
}

fn idle(fleet: &Fleet, of: &OfOwner<'_>) -> super::Finding {
    let idle = |p: &PastUse| p.idle_gpu_hours;
    let (sum, watched) = (of.sum(idle), of.sum(|p| p.watched_gpu_hours));
    let partly = of.sum(|p| p.partly_idle_gpu_hours);
    let judged = of.judged(fleet, SUMMARIES, idle);
    let owner = &of.owner;
    let mut evidence = vec![
        Evidence::number("gpu_hours_idle", sum, "gpu-hours", "slurm").window(of.window(), None),
        Evidence::number("gpu_hours_known", watched, "gpu-hours", "slurm"),
        Evidence::number("gpu_hours_idle_beside_others_at_work", partly, "gpu-hours", "slurm"),
        Evidence::number("jobs_with_idle_gpus", of.count(|p| p.idle_jobs) as f64, "jobs", "slurm"),
    ];
    evidence.extend(cost(of, idle));
    let way = if partly > sum / 2.0 {
        "ask for the GPUs that a job uses (--gpus, --gpus-per-task, --ntasks), or give each task one of its own (--gpu-bind=single:1)"
    } else {
        "look at one of them (jobstats JOBID): code that does not find its GPU, or needs none, belongs in a partition without"
    };
    super::Finding {
        title: format!(
            "{owner}: {} of {} GPU-hours of ended jobs on GPUs that did nothing, in {}{}",
            hours(sum),
            hours(watched),
            span(of.window()),
            dollars(of.usd(idle)),
        ),
        evidence,
        fix: Fix::told(format!("With {owner}: {way}.")),
        trend_usd_per_hour: of.rate(idle),
        ..of.finding(fleet, (ID, IDLE), judged)
    }
}

fn low(fleet: &Fleet, of: &OfOwner<'_>, share: f64) -> super::Finding {
    let unused = |p: &PastUse| p.open_unused_gpu_hours;
    let (open, lost) = (of.sum(|p| p.open_gpu_hours), of.sum(unused));
    let mean = 1.0 - lost / open;
    let judged = of.judged(fleet, SUMMARIES, unused);
    let owner = &of.owner;
    let mut evidence = vec![
        Evidence::number("gpu_activity_mean", mean, "ratio", "slurm").window(of.window(), None),
        Evidence::number("gpu_hours", open, "gpu-hours", "slurm"),
        Evidence::number("gpu_hours_unused", lost, "gpu-hours", "slurm"),
        Evidence::number("share_of_partitions", share, "ratio", "slurm"),
    ];
    evidence.extend(cost(of, unused));
    super::Finding {
        title: format!(
            "{owner}: {:.0} % mean activity over {} GPU-hours of ended jobs, in {}{}",
            mean * 100.0,
            hours(open),
            span(of.window()),
            dollars(of.usd(unused)),
        ),
        evidence,
        fix: Fix::told(format!(
            "Look with {owner} at what the jobs wait for (data loading, one process a GPU, small batches); then fewer GPUs, MIG instances or a smaller card do the same work."
        )),
        trend_usd_per_hour: of.rate(unused),
        ..of.finding(fleet, (ID, LOW), judged)
    }
}

/// The cheapest GPU, or instance, of the cluster that holds so much memory and costs less than what was used; its name and price.
fn cheapest(fleet: &Fleet, cluster: usize, bytes: f64, than: UsdPerHour) -> Option<(String, UsdPerHour)> {
    let mut found: Option<(UsdPerHour, String)> = None;
    for node in fleet.nodes.iter().filter(|n| n.cluster == cluster) {
        for id in node.slot_ids() {
            let slot = fleet.slot(id);
            let Some(card) = fleet.gpu_of(id).filter(|_| !slot.unpartitioned) else {
                continue;
            };
            let (memory, name) = match slot.mig_profile.as_deref() {
                Some(profile) => match mig::find(card, profile) {
                    // A driver takes its part, and no log tells how much.
                    Some(instance) => (instance.memory.0 as f64, instance.name.clone()),
                    None => continue,
                },
                None => (
                    card.memory.0 as f64 * slot.weight as f64 / WHOLE_GPU as f64,
                    fleet.gpu_name(id).to_owned(),
                ),
            };
            if let Some(price) = slot.price.filter(|p| *p < than && memory > bytes) {
                let this = (price, name);
                if found.as_ref().is_none_or(|f| this < *f) {
                    found = Some(this);
                }
            }
        }
    }
    found.map(|(price, name)| (name, price))
}

/// `None`: the cluster has no such GPU, or what it costs is not known.
fn smaller(fleet: &Fleet, of: &OfOwner<'_>) -> Option<super::Finding> {
    let small = |p: &PastUse| p.small_gpu_hours;
    let memory = of.rows.iter().map(|r| r.used.small_memory).fold(0.0, f64::max);
    let than = of
        .rows
        .iter()
        .filter(|r| small(&r.used) > 0.0)
        .map(|r| r.price)
        .min()
        .flatten()?;
    let (name, price) = cheapest(fleet, of.cluster, memory, than)?;
    let judged = of.judged(fleet, SUMMARIES, small);
    let owner = &of.owner;
    let sum = of.sum(small);
    let mut evidence = vec![
        Evidence::number("gpu_hours", sum, "gpu-hours", "slurm").window(of.window(), None),
        Evidence::number("jobs", of.count(|p| p.small_jobs) as f64, "jobs", "slurm"),
        Evidence::number("gpu_memory_most", memory, "bytes", "slurm"),
        Evidence::text("smaller_gpu", &name, "catalog"),
        Evidence::number("price_of_smaller", price.usd(), "usd/h", "catalog"),
    ];
    evidence.extend(cost(of, small));
    Some(super::Finding {
        title: format!(
            "{owner}: {} GPU-hours of ended jobs that {name} would have carried, in {}",
            hours(sum),
            span(of.window())
        ),
        evidence,
        fix: Fix::told(format!(
            "Let {owner} try such jobs on {name} (--gres=gpu:TYPE:1): they used up to 15 % of the time and {:.1} GB of the memory.",
            memory / 1e9
        )),
        ..of.finding(fleet, (ID, SMALLER), judged)
    })
}

fn limit(fleet: &Fleet, t: &Thresholds, of: &OfOwner<'_>) -> Option<super::Finding> {
    let (asked, used) = (of.sum(|p| p.limit_gpu_hours), of.sum(|p| p.limit_used_gpu_hours));
    let unused = asked - used;
    if asked <= 0.0 || unused < t.past_limit_gpu_hours as f64 || used / asked > t.past_limit_used {
        return None;
    }
    let owner = &of.owner;
    let judged = of.judged(fleet, "accounts of jobs that ended by themselves", |_| 0.0);
    Some(super::Finding {
        title: format!(
            "{owner}: jobs took {:.0} % of the time that they asked for, in {}",
            used / asked * 100.0,
            span(of.window())
        ),
        evidence: vec![
            Evidence::number("gpu_hours_of_limits", asked, "gpu-hours", "slurm").window(of.window(), None),
            Evidence::number("gpu_hours_used", used, "gpu-hours", "slurm"),
            Evidence::number("used_of_limit", used / asked, "ratio", "slurm").expected(t.past_limit_used),
        ],
        fix: Fix::told(format!(
            "Ask {owner} for a --time of what such jobs take and a half more: short jobs are fitted into gaps (backfill), and begin sooner. No GPU is lost by it."
        )),
        ..of.finding(fleet, (ID, LIMIT), judged)
    })
}

/// What it cost in those days, all together: past, and never a rate of now.
fn cost(of: &OfOwner<'_>, hours: impl Fn(&PastUse) -> f64) -> Option<Evidence> {
    let usd = of.usd(hours)?;
    let days = of.window() / SECONDS_PER_HOUR / 24.0;
    (usd > 0.0 && days > 0.0)
        .then(|| Evidence::number("cost_of_the_window", usd, "usd", "catalog").window(of.window(), None))
}

/// " ($624)"
fn dollars(usd: Option<f64>) -> String {
    match usd {
        Some(usd) if usd >= 0.5 => format!(" (${usd:.0})"),
        _ => String::new(),
    }
}
