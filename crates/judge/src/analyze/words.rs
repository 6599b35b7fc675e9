//! What is advised in each scheduler's own words. What is found does not depend on it; who has to do something, and by which
//! command, does.

use super::Outcome;
use crate::fleet::state::Reason;
use crate::fleet::{Fleet, Pod, SlotId, StuckReason, Workload};
use crate::snapshot::cluster::Scheduler;
use std::collections::BTreeSet;

/// Nodes named in one command.
const NAMED: usize = 8;

pub(super) fn is_slurm(fleet: &Fleet, cluster: usize) -> bool {
    fleet.clusters[cluster].scheduler == Scheduler::Slurm
}

fn of_slots(fleet: &Fleet, slots: &[SlotId]) -> bool {
    slots
        .first()
        .is_some_and(|s| is_slurm(fleet, fleet.node(fleet.slot(*s).node).cluster))
}

/// "gpu1,gpu2": as scontrol takes them. Node names are the scheduler's own, and are none of a shell's signs.
fn list(fleet: &Fleet, slots: &[SlotId]) -> String {
    let names: BTreeSet<&str> = slots
        .iter()
        .map(|s| fleet.node(fleet.slot(*s).node).name.as_str())
        .collect();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    let first: Vec<&str> = names.into_iter().take(NAMED).collect();
    format!("{}{more}", first.join(","))
}

/// What somebody said of why nodes are out of service; several reasons by their nodes.
pub(super) fn outages(fleet: &Fleet, slots: &[SlotId]) -> Option<String> {
    let nodes: BTreeSet<usize> = slots.iter().map(|s| fleet.slot(*s).node.0).collect();
    let mut told: BTreeSet<String> = BTreeSet::new();
    for node in nodes.iter().map(|n| &fleet.nodes[*n]) {
        if let Some(reason) = node.outage.as_ref().and_then(|o| o.reason.as_deref()) {
            told.insert(format!("{}: {reason}", node.name));
        }
    }
    let more = match told.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!("; and {n} more"),
    };
    let first: Vec<String> = told.into_iter().take(NAMED).collect();
    (!first.is_empty()).then(|| format!("{}{more}", first.join("; ")))
}

pub(super) fn unallocated(fleet: &Fleet, slots: &[SlotId], wholly: &[SlotId]) -> Option<String> {
    if !of_slots(fleet, slots) {
        return None;
    }
    Some(if wholly.is_empty() {
        format!(
            "Let jobs that wait use them: look at the limits of the partition (scontrol show partition), of QOS and of accounts, and at jobs that took the CPUs or the memory of {} (DefCpuPerGPU, DefMemPerGPU).",
            list(fleet, slots)
        )
    } else {
        format!(
            "Let jobs that wait use them: look at the limits of the partition (scontrol show partition), of QOS and of accounts; or power {} down (SuspendProgram) until jobs come.",
            list(fleet, wholly)
        )
    })
}

pub(super) fn unhealthy(fleet: &Fleet, reason: Reason, slots: &[SlotId], used: &str) -> Option<String> {
    if !of_slots(fleet, slots) {
        return None;
    }
    let nodes = list(fleet, slots);
    let told = outages(fleet, slots).map_or_else(String::new, |o| format!(" The reason that was given: {o}."));
    let first = if used.is_empty() {
        String::new()
    } else {
        format!(" In use there: {used}.")
    };
    Some(match reason {
        Reason::NodeNotReady => {
            format!("Repair {nodes} and start slurmd there, then: scontrol update NodeName={nodes} State=RESUME.{told}")
        }
        Reason::Drained | Reason::Cordoned => format!(
            "Find out whether the reason still holds: repair what is broken, then scontrol update NodeName={nodes} State=RESUME.{told}{first}"
        ),
        Reason::MemoryHeld => format!(
            "Look at {nodes} for processes that outlived their jobs (nvidia-smi, fuser /dev/nvidia*): end them, or reset the GPU in the epilog.{first}"
        ),
        _ => format!("Repair or reset the drained GPUs of {nodes}, and let slurmd register them again.{told}{first}"),
    })
}

/// What it does instead of working, and what to do.
pub(super) fn stuck(fleet: &Fleet, workload: &Workload, reason: StuckReason) -> Option<(&'static str, String)> {
    if !is_slurm(fleet, workload.cluster) {
        return None;
    }
    let nodes: BTreeSet<&str> = workload
        .pods
        .iter()
        .filter_map(|p| Some(fleet.node(fleet.pod(*p).node?).name.as_str()))
        .collect();
    let nodes = nodes.into_iter().take(NAMED).collect::<Vec<_>>().join(",");
    Some(match reason {
        StuckReason::Terminating => (
            "does not finish completing",
            format!(
                "Look on {nodes} at the epilog and at processes that do not die (UnkillableStepTimeout); then scontrol update NodeName={nodes} State=DOWN Reason=\"stuck completing\", and State=RESUME."
            ),
        ),
        _ => (
            "has nodes that do not get ready",
            format!(
                "Look on {nodes} at the prolog, slurmd's log and ResumeTimeout; scontrol requeue {} gives the job other nodes.",
                workload.name
            ),
        ),
    })
}

/// An idle job's way out. Whose job it is decides; cancelling is never the only way.
pub(super) fn idle(fleet: &Fleet, workload: &Workload, slots: &[SlotId], partly: bool) -> Option<String> {
    if !is_slurm(fleet, workload.cluster) {
        return None;
    }
    // Tasks of an array that do nothing at all, beside others.
    let rest = |p: &&Pod| !p.slots.is_empty() && p.slots.iter().all(|s| slots.contains(s));
    let pods = || workload.pods.iter().map(|p| fleet.pod(*p));
    let tasks: Vec<&str> = pods().filter(rest).map(|p| p.name.as_str()).collect();
    let covered = pods().filter(rest).flat_map(|p| &p.slots).count() == slots.len();
    let of_array = partly && covered && workload.replicas.len() > 1;
    let label = |key: &str| workload.labels.get(key).map(String::as_str);
    let who = label("slurm/user").unwrap_or("its user");
    let what = if of_array {
        format!(
            "{} of array job {}",
            tasks[..tasks.len().min(NAMED)].join(", "),
            workload.name
        )
    } else {
        format!("job {}", workload.name)
    };
    let account = label("slurm/account").map_or_else(String::new, |a| format!(" (account {a})"));
    Some(if partly && !of_array {
        format!(
            "Ask {who}{account} to request the GPUs that {what} uses (--gpus, --gpus-per-task, --ntasks), or to give each task one of its own (--gpu-bind=single:1)."
        )
    } else {
        format!(
            "Ask {who}{account} what {what} waits for: data, a licence, somebody at a prompt. If nobody needs it, they end it; a time limit (MaxTime, DefaultTime) or an inactivity rule of the partition ends the next one."
        )
    })
}

/// Evidence that a scheduler gave bears its own name.
pub(super) fn finish(fleet: &Fleet, out: &mut Outcome) {
    if fleet.clusters.iter().all(|c| c.scheduler == Scheduler::Kubernetes) {
        return;
    }
    for finding in &mut out.findings {
        let of_claims = finding
            .claims
            .first()
            .map(|c| fleet.node(fleet.slot(c.slot).node).cluster);
        let of_workload = finding.workload.map(|w| fleet.workload(w).cluster);
        let Some(cluster) = of_workload.or(of_claims).filter(|c| is_slurm(fleet, *c)) else {
            continue;
        };
        let name = fleet.clusters[cluster].scheduler.name();
        for evidence in finding.evidence.iter_mut().filter(|e| e.source == "kubernetes") {
            evidence.source = name.into();
        }
        if finding.subject.kind.as_deref() == Some("NodePool") {
            finding.subject.kind = Some("Partition".into());
        }
    }
}
