//! low-utilization: GPUs that are at work, and little of the time: by owner, with what they cost. It claims nothing.

mod past;
mod steps;

use super::finding::{ClaimRank, Evidence, Finding, FindingKind, Fix, Subject};
use super::support::{self, Judged, gpus, span};
use super::{Check, Context, Outcome, documented};
use crate::fleet::history::COVERED;
use crate::fleet::{Fleet, GpuActivity, SlotId, SlotState, WHOLE_GPU, Workload, WorkloadClass};
use crate::settings::{Settings, Thresholds};
use crate::snapshot::owners::USER;
use crate::units::UsdPerHour;
use std::collections::BTreeMap;

documented! {
    since "0.2.0";
    /// What it finds. Jobs, notebooks and unknown pods whose GPUs are at work, and little of the time: a mean activity of a quarter or less
    /// (low_utilization_mean) over at least 50 GPU-hours of the window (low_utilization_gpu_hours), on cards whose memory is not nearly full
    /// (low_utilization_memory). One finding an owner: the owner label, else the namespace (of Slurm the job's user).
    ///
    /// Of jobs that have ended (Slurm's accounts of seven days), by owner: GPU-hours of GPUs that did nothing for their job's whole life
    /// (idle-hours, from past_idle_gpu_hours); a mean activity as above of the others, in jobs of more than half an hour and by who held
    /// at least 2 % of the partitions' GPU-hours (low-hours); jobs with so little activity and memory that a smaller GPU or MIG instance
    /// of this cluster would have carried them (smaller-gpu); and time limits of which a fifth or less was used (time-limit).
    /// Of running ones: GPUs on which no step of the job runs for an hour of its life and more (no-step), where nothing tells what they did.
    ///
    /// Why it costs. These GPUs are allocated, look busy on a dashboard, and could do several times the work: what fleet studies find most of.
    ///
    /// How the dollars are computed. The price of the time that nothing ran: price x (1 - mean activity). It claims nothing and is in no total:
    /// nobody can take those minutes away. What is past is told as the mean rate over its days; idle-hours: the whole price of these
    /// hours, low-hours: of what was not used of the others, so that no hour is told twice. smaller-gpu, time-limit and no-step have no dollars.
    ///
    /// When it is wrong. Activity is the share of time with any kernel running: low activity is real, high activity may still be little work.
    /// Debugging, checkpointing and work that waits for other machines are not waste of their owner's making. What ended jobs did is
    /// known where jobstats' epilogue has left a summary of this very run; of the others nothing is said.
    ///
    /// What to do. Data loading, batch size, one process a GPU; then fewer GPUs, a MIG instance or a smaller card.
    pub(crate) struct LowUtilization;
}

const ID: &str = "low-utilization";
const SECONDS_PER_HOUR: f64 = 3600.0;
/// Workloads of one owner that the evidence names.
const NAMED: usize = 5;

impl Check for LowUtilization {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "GPUs that work little of the time, by owner: occupied, not idle, and inefficient."
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[
            None,
            Some(past::IDLE),
            Some(past::LOW),
            Some(past::SMALLER),
            Some(past::LIMIT),
            Some(steps::STEPS),
        ]
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let (fleet, t) = (context.fleet, &context.settings.thresholds);
        let mut owners: BTreeMap<(usize, String), Vec<Occupied<'_>>> = BTreeMap::new();
        for (_, workload) in support::workloads(fleet) {
            // What serves is sized by its load, not by how busy its GPUs look: decode waits for memory.
            if matches!(workload.class, WorkloadClass::Server | WorkloadClass::Placeholder) {
                continue;
            }
            let slots: Vec<SlotId> = support::slots_of(workload)
                .into_iter()
                .filter(|s| fleet.slot(*s).state == SlotState::Working)
                .collect();
            let (known, unknown): (Vec<SlotId>, Vec<SlotId>) =
                slots.iter().partition(|s| watched(fleet, **s, t).is_some());
            out.assessed.extend(&known);
            out.not_assessed(
                "how busy the GPU was over the window is not known",
                "give Prometheus with DCGM metrics",
                unknown,
            );
            if let Some(occupied) = occupied(fleet, t, workload, &known) {
                owners
                    .entry(owner(workload, context.settings))
                    .or_default()
                    .push(occupied);
            }
        }
        for ((cluster, owner), mut low) in owners {
            low.sort_by(|a, b| {
                b.unused_hours
                    .total_cmp(&a.unused_hours)
                    .then_with(|| a.workload.name.cmp(&b.workload.name))
            });
            out.findings.push(finding(fleet, cluster, &owner, &low));
        }
        past::findings(context, out);
        steps::findings(context, out);
    }
}

/// One workload's GPUs of which little was used.
struct Occupied<'a> {
    workload: &'a Workload,
    slots: Vec<SlotId>,
    /// Of the window, on all its GPUs.
    gpu_hours: f64,
    unused_hours: f64,
    /// Dollars per hour of the time that nothing ran; `None`: a price is not known.
    unused_usd: Option<UsdPerHour>,
    spent: Option<UsdPerHour>,
    window: f64,
}

/// The cluster, and who answers for the workload: the first of the owner labels that it has, else its namespace.
fn owner(workload: &Workload, settings: &Settings) -> (usize, String) {
    let label = settings.owner_labels.iter().find_map(|k| workload.labels.get(k));
    let label = label.or_else(|| workload.labels.get(USER));
    (workload.cluster, label.unwrap_or(&workload.namespace).clone())
}

/// The slot's own history, where it covers enough of a long enough time.
fn watched<'a>(fleet: &'a Fleet, slot: SlotId, t: &Thresholds) -> Option<&'a GpuActivity> {
    let activity = fleet.slot(slot).activity.as_ref()?;
    let mean = activity.engine_active.filter(|s| s.mean.is_some())?;
    let long = activity.window_seconds >= t.minimum_window_seconds as f64;
    let own = activity.history && activity.attributed && !activity.shared;
    (long && own && mean.coverage.is_some_and(|c| c >= COVERED)).then_some(activity)
}

/// `None`: its GPUs were used well enough, hold much in memory, or were held for too short to matter.
fn occupied<'a>(fleet: &Fleet, t: &Thresholds, workload: &'a Workload, slots: &[SlotId]) -> Option<Occupied<'a>> {
    let mut low = Occupied {
        workload,
        slots: Vec::new(),
        gpu_hours: 0.0,
        unused_hours: 0.0,
        unused_usd: Some(UsdPerHour::from_micros(0)),
        spent: Some(UsdPerHour::from_micros(0)),
        window: f64::INFINITY,
    };
    for id in slots {
        let (slot, activity) = (fleet.slot(*id), watched(fleet, *id, t)?);
        let mean = activity.engine_active?.mean?.clamp(0.0, 1.0);
        // A card whose memory is full could be no smaller one, however little it computes.
        let memory = fleet
            .gpu_of(*id)
            .map(|g| g.memory.0 as f64 * slot.weight as f64 / WHOLE_GPU as f64);
        let full = activity.memory_used.and_then(|s| s.mean).zip(memory);
        if full.is_some_and(|(used, all)| used >= t.low_utilization_memory * all) {
            continue;
        }
        let hours = activity.window_seconds / SECONDS_PER_HOUR * slot.weight as f64 / WHOLE_GPU as f64;
        low.gpu_hours += hours;
        low.unused_hours += hours * (1.0 - mean);
        low.unused_usd = low.unused_usd.zip(slot.price).map(|(sum, p)| sum + p.scale(1.0 - mean));
        low.spent = low.spent.zip(slot.price).map(|(sum, p)| sum + p);
        low.window = low.window.min(activity.window_seconds);
        low.slots.push(*id);
    }
    let used = 1.0 - low.unused_hours / low.gpu_hours.max(f64::MIN_POSITIVE);
    (low.gpu_hours >= t.low_utilization_gpu_hours as f64 && used <= t.low_utilization_mean).then_some(low)
}

fn finding(fleet: &Fleet, cluster: usize, owner: &str, low: &[Occupied<'_>]) -> Finding {
    let slots: Vec<SlotId> = low.iter().flat_map(|o| o.slots.iter().copied()).collect();
    let sum = |of: fn(&Occupied<'_>) -> f64| low.iter().map(of).sum::<f64>();
    let (hours, unused) = (sum(|o| o.gpu_hours), sum(|o| o.unused_hours));
    let mean = 1.0 - unused / hours.max(f64::MIN_POSITIVE);
    let window = low.iter().map(|o| o.window).fold(f64::INFINITY, f64::min);
    let usd = |of: fn(&Occupied<'_>) -> Option<UsdPerHour>| low.iter().map(of).sum::<Option<UsdPerHour>>();
    let mut judged = Judged::measured("device history covers the window");
    judged.cap_by_price(fleet, &slots);
    let info = &fleet.clusters[cluster];
    let first = low[0].workload;
    let subject = Subject {
        cluster: Some(info.name.clone()),
        kind: Some("Owner".into()),
        namespace: low
            .iter()
            .all(|o| o.workload.namespace == first.namespace)
            .then(|| first.namespace.clone()),
        name: Some(owner.to_string()),
        cluster_key: info.key.clone(),
        ..Subject::default()
    };
    let names: Vec<&str> = low.iter().map(|o| o.workload.name.as_str()).collect();
    let listed = match names.as_slice() {
        all if all.len() <= NAMED => all.join(", "),
        all => format!("{} and {} more", all[..NAMED].join(", "), all.len() - NAMED),
    };
    let mut evidence = vec![
        Evidence::number("gpu_activity_mean", mean, "ratio", "prometheus").window(window, None),
        Evidence::number("gpu_hours", hours, "gpu-hours", "prometheus"),
        Evidence::number("gpu_hours_unused", unused, "gpu-hours", "prometheus"),
        Evidence::text("workloads", &listed, "kubernetes"),
    ];
    if let Some(spent) = usd(|o| o.spent) {
        evidence.push(Evidence::number("spend", spent.usd(), "usd/h", "catalog"));
    }
    Finding {
        check: ID,
        part: None,
        kind: FindingKind::Trend,
        rank: ClaimRank::None,
        title: format!(
            "{owner}: {} at {:.0} % mean activity in {}",
            gpus(slots.len()),
            mean * 100.0,
            span(window)
        ),
        subject,
        workload: (low.len() == 1)
            .then(|| {
                fleet
                    .workloads
                    .iter()
                    .position(|w| std::ptr::eq(w, first))
                    .map(crate::fleet::WorkloadId)
            })
            .flatten(),
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence,
        claims: Vec::new(),
        fix: Fix::told(format!(
            "Look with {owner} at what {listed} waits for (data loading, one process a GPU, small batches); then fewer GPUs, MIG instances or a smaller card do the same work."
        )),
        ignored: None,
        trend_usd_per_hour: usd(|o| o.unused_usd),
    }
}
