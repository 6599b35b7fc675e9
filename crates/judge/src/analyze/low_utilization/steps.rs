//! GPUs of a job that no step of it can use now, as a batch scheduler lists steps: a second node on which nothing was started, an allocation
//! whose shell has gone. Whether they computed is not told by that, so that it is a hint.

use super::super::finding::{Confidence, Evidence, Finding, Fix};
use super::super::support::{self, Judged, gpus, span};
use super::super::{Context, Outcome};
use super::ID;
use crate::fleet::{Pod, SlotState};
use std::collections::BTreeSet;

pub(super) const STEPS: &str = "no-step";

pub(super) fn findings(context: &Context<'_>, out: &mut Outcome) {
    let (fleet, t) = (context.fleet, &context.settings.thresholds);
    for (id, workload) in support::workloads(fleet) {
        // What the devices tell, busy or idle, is told by others.
        let unknown = |p: &&Pod| p.slots.iter().all(|s| fleet.slot(*s).state == SlotState::Unknown);
        let age = |p: &Pod| {
            p.started_at
                .map(|s| fleet.now(p.cluster).duration_since(s).as_secs_f64())
        };
        let old = |p: &&Pod| age(p).is_some_and(|a| a >= t.stuck_seconds as f64);
        let spare = |p: &Pod| (p.slots.len() as u64).saturating_sub(p.step_gpus.unwrap_or(u64::MAX));
        let pods = workload.pods.iter().map(|p| fleet.pod(*p)).filter(unknown).filter(old);
        let pods: Vec<&Pod> = pods
            .filter(|p| !p.suspended && p.stuck.is_none() && spare(p) > 0)
            .collect();
        let Some(youngest) = pods.iter().filter_map(|p| age(p)).reduce(f64::min) else {
            continue;
        };
        let without: u64 = pods.iter().map(|p| spare(p)).sum();
        let held = support::slots_of(workload).len();
        let nodes: BTreeSet<&str> = pods
            .iter()
            .filter_map(|p| p.node)
            .map(|n| fleet.node(n).name.as_str())
            .collect();
        let nodes = support::named(&nodes);
        let who = workload.labels.get("slurm/user").map_or("its user", String::as_str);
        let judged = Judged::at(Confidence::Estimated, "one look: no step runs on them now");
        out.findings.push(Finding {
            title: format!(
                "{}: {} of its {held} in no step that runs, on {nodes}",
                workload.name,
                gpus(usize::try_from(without).unwrap_or(held))
            ),
            evidence: vec![
                Evidence::number("gpus_without_step", without as f64, "gpus", "slurm").expected(0.0),
                Evidence::number("running_for", youngest, "seconds", "slurm"),
            ],
            fix: Fix::told(format!(
                "Ask {who} whether job {} uses them: a script runs on its first node alone until srun starts tasks on the others, and an allocation (salloc) whose work is done can be given back. It has held them for {}.",
                workload.name,
                span(youngest)
            )),
            ..support::of_one(fleet, ID, Some(STEPS), (id, workload), judged)
        });
    }
}
