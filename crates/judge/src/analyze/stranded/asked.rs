//! What jobs asked for beside their GPUs: CPUs, memory and nodes of which other GPUs' jobs then had none. By owner, over the days that
//! accounts tell; what is stranded now has its dollars in 'host' and 'scatter'.

use super::super::finding::{Evidence, Finding, Fix};
use super::super::owners_past::{OfOwner, hours, owners};
use super::super::support::span;
use super::super::{Context, Outcome};
use super::ID;
use crate::snapshot::past::{Asked, PastUse};

pub(super) const CPUS: &str = "asked-cpus";
pub(super) const MEMORY: &str = "asked-memory";
pub(super) const NODES: &str = "asked-nodes";

/// Part, what was taken, and what to do.
type Rule = (&'static str, fn(&PastUse) -> Asked, &'static str, &'static str);

const RULES: [Rule; 3] = [
    (
        CPUS,
        |p| p.cpus,
        "took so many CPUs",
        "ask for as many CPUs a GPU as the node has (--cpus-per-gpu), and let the partition say so (DefCpuPerGPU, MaxCPUsPerNode)",
    ),
    (
        MEMORY,
        |p| p.memory,
        "took so much memory, and used less than 80 % of it,",
        "ask for the memory that such jobs use (--mem-per-gpu), and let the partition say so (DefMemPerGPU)",
    ),
    (
        NODES,
        |p| p.spread,
        "were on more nodes than their GPUs need, so",
        "ask for whole nodes (--gpus-per-node, --nodes) where a job takes as many GPUs as one has",
    ),
];

pub(super) fn findings(context: &Context<'_>, out: &mut Outcome) {
    let least = context.settings.thresholds.past_asked_gpu_hours.max(1) as f64;
    for owner in owners(context.fleet, context.settings) {
        for rule in &RULES {
            let asked = owner.asked(rule.1);
            if asked.beside_gpu_hours >= least {
                out.findings.push(finding(context, &owner, rule, asked));
            }
        }
    }
}

fn finding(context: &Context<'_>, of: &OfOwner<'_>, rule: &Rule, asked: Asked) -> Finding {
    let (part, _, took, way) = *rule;
    let owner = &of.owner;
    let judged = of.judged(context.fleet, "accounts of jobs that ran for more than an hour", |_| {
        0.0
    });
    Finding {
        title: format!(
            "{owner}: {} jobs {took} that GPUs beside theirs could not be used for {} GPU-hours, in {}",
            asked.jobs,
            hours(asked.beside_gpu_hours),
            span(of.window())
        ),
        evidence: vec![
            Evidence::number("gpu_hours_beside", asked.beside_gpu_hours, "gpu-hours", "slurm")
                .window(of.window(), None),
            Evidence::number("gpu_hours", asked.gpu_hours, "gpu-hours", "slurm"),
            Evidence::number("jobs", asked.jobs as f64, "jobs", "slurm"),
        ],
        fix: Fix::told(format!("Let {owner} {way}.")),
        ..of.finding(context.fleet, (ID, part), judged)
    }
}
