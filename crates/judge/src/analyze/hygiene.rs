//! cpu-gpu-imbalance (what the specification tells) and parallelism-mismatch.

use super::finding::{Claim, ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::support::{self, Judged, gpus};
use super::{Check, Context, Outcome, explain};
use crate::engine::{self, Width};
use crate::fleet::{Fleet, SlotId, SlotState, Workload, WorkloadClass, WorkloadId};

pub(crate) struct CpuGpuImbalance;
pub(crate) struct ParallelismMismatch;

const CPU: &str = "cpu-gpu-imbalance";
const PARALLEL: &str = "parallelism-mismatch";

impl Check for CpuGpuImbalance {
    fn id(&self) -> &'static str {
        CPU
    }

    fn summary(&self) -> &'static str {
        "GPUs that wait for CPU: less CPU than the engine's processes need beside the GPUs they feed."
    }

    fn explain(&self) -> &'static str {
        explain::CPU_GPU_IMBALANCE
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[None, Some("spec")]
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        for (id, workload) in support::workloads(context.fleet).filter(|(_, w)| w.class == WorkloadClass::Server) {
            let slots = support::slots_of(workload);
            if support::on_unseen_nodes(context.fleet, &slots) {
                out.not_assessed(support::UNSEEN.0, support::UNSEEN.1, slots);
                continue;
            }
            let asked = asked(context.fleet, workload);
            if super::starved::known(workload) {
                out.assessed.extend(&slots);
                let t = &context.settings.thresholds;
                out.findings
                    .extend(super::starved::starved(context.fleet, t, id, workload));
                if let Some(asked) = asked {
                    out.findings.extend(spec(context.fleet, id, workload, &asked));
                }
                continue;
            }
            match asked {
                Some(asked) => {
                    out.findings.extend(spec(context.fleet, id, workload, &asked));
                    if workload.origin.is_some() {
                        // A manifest: the specification is all there is.
                        out.assessed.extend(&slots);
                        continue;
                    }
                    if super::starved::by_other_limits(workload) {
                        out.not_assessed(support::BY_OTHER_LIMITS.0, support::BY_OTHER_LIMITS.1, slots);
                        continue;
                    }
                    // Throttling itself is only in cAdvisor, which a scan never reads through nodes/proxy.
                    out.not_assessed(
                        "CPU throttling and GPU activity over time are not known (the specification was judged)",
                        "give Prometheus with cAdvisor and DCGM metrics",
                        slots,
                    );
                }
                None => out.not_assessed("no CPU request or limit is set", "set CPU requests on GPU pods", slots),
            }
        }
    }
}

/// The CPU of the container that holds GPUs, beside what its engine's processes need.
struct Asked {
    cores: f64,
    /// `None`: the engine's settings are not known.
    needed: Option<f64>,
    gpus: usize,
}

/// The pod with the least CPU for what it runs. In a group each pod runs its own share of the ranks; where there is one
/// rank only, API server and engine core run on the first pod.
fn asked(fleet: &Fleet, workload: &Workload) -> Option<Asked> {
    let settings = workload.settings.as_ref();
    let ranks = settings.and_then(|s| s.data_parallel).unwrap_or(1).max(1) as usize;
    let pods = workload.replicas.iter().flat_map(|r| {
        let judged = if ranks > 1 { r.pods.len() } else { 1 };
        r.pods.iter().take(judged).map(move |p| (fleet.pod(*p), r))
    });
    let each = pods.filter_map(|(pod, replica)| {
        let cores = pod.device_cpu?.cores();
        let single = replica.pods.len() == 1;
        let gpus = if single { replica.slots.len() } else { pod.slots.len() };
        let share = (ranks * gpus).div_ceil(replica.slots.len().max(1)).max(1);
        let needed = settings.map(|s| support::vllm_vcpu(s.api_servers, share as u32, gpus as u32));
        (cores > 0.0).then_some(Asked { cores, needed, gpus })
    });
    each.min_by(|a, b| {
        let lack = |x: &Asked| x.cores / x.needed.unwrap_or(1.0);
        lack(a).total_cmp(&lack(b))
    })
}

fn spec(fleet: &Fleet, id: WorkloadId, workload: &Workload, asked: &Asked) -> Option<Finding> {
    let (cores, needed) = (asked.cores, asked.needed?);
    if cores >= needed {
        return None;
    }
    let mut judged = Judged::at(
        Confidence::Estimated,
        "the specification only: no throttling was measured",
    );
    if !engine::facts(workload.engine()).is_some_and(|f| f.cpu_need_published) {
        judged.cap(
            Confidence::Assumed,
            "the formula is vLLM's; this engine's own need is not published",
        );
    }
    Some(Finding {
        check: CPU,
        part: Some("spec"),
        kind: FindingKind::AtRisk,
        rank: ClaimRank::None,
        title: format!(
            "{}: {cores:.1} vCPU beside {}, {needed:.0} needed",
            workload.name,
            gpus(asked.gpus)
        ),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence: vec![Evidence::number("vcpu", cores, "cores", "kubernetes").expected(needed)],
        claims: Vec::new(),
        fix: Fix {
            summary: format!(
                "Give the container at least {needed:.0} vCPU: the engine's core loop starves first, and the GPU then waits while it looks busy."
            ),
            ..Fix::default()
        },
        ignored: None,
        trend_usd_per_hour: None,
    })
}

impl Check for ParallelismMismatch {
    fn id(&self) -> &'static str {
        PARALLEL
    }

    fn summary(&self) -> &'static str {
        "Servers that hold more GPUs than their tensor, pipeline and data parallelism uses."
    }

    fn explain(&self) -> &'static str {
        explain::PARALLELISM_MISMATCH
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        for (id, workload) in support::workloads(context.fleet).filter(|(_, w)| w.class == WorkloadClass::Server) {
            let slots = support::slots_of(workload);
            // Only engines whose default is one GPU: others take what they see.
            let explicit = engine::width(workload.engine()) == Width::One;
            // Ray Serve places its replicas over the cluster's GPUs by itself.
            let explicit = explicit && !workload.kind.starts_with("Ray");
            if support::on_unseen_nodes(context.fleet, &slots) {
                out.not_assessed(support::UNSEEN.0, support::UNSEEN.1, slots);
                continue;
            }
            match workload.settings.as_ref().filter(|_| explicit) {
                Some(settings) if settings.unread_parallelism().is_some() => out.not_assessed(
                    "its parallelism is stated where it could not be read",
                    "grant what the gaps name, or write it into the arguments",
                    slots,
                ),
                Some(settings) if settings.nodes.is_none_or(|n| n <= 1) => {
                    out.assessed.extend(&slots);
                    out.findings
                        .extend(mismatch(context.fleet, id, workload, settings.gpus_used() as usize));
                }
                Some(_) => out.not_assessed(
                    "a group over several nodes: each pod uses a part of the parallelism",
                    "nothing to do",
                    slots,
                ),
                None => out.not_assessed(
                    "the engine's parallelism is not in its specification",
                    "nothing to do",
                    slots,
                ),
            }
        }
    }
}

fn mismatch(fleet: &Fleet, id: WorkloadId, workload: &Workload, used: usize) -> Option<Finding> {
    let mut claims: Vec<Claim> = Vec::new();
    for replica in workload
        .replicas
        .iter()
        .filter(|r| r.pods.len() == 1 && fleet.pod(r.pods[0]).device_containers == 1)
    {
        let held: Vec<SlotId> = replica
            .slots
            .iter()
            .copied()
            .filter(|s| {
                matches!(
                    fleet.slot(*s).state,
                    SlotState::Working | SlotState::Unknown | SlotState::Idle
                )
            })
            .collect();
        if held.len() == replica.slots.len() && held.len() > used {
            claims.extend(held[used..].iter().map(|s| Claim {
                slot: *s,
                usd_per_hour: fleet.slot(*s).price,
                vacates: true,
            }));
        }
    }
    let slots: Vec<SlotId> = claims.iter().map(|c| c.slot).collect();
    let held = workload.gpus_per_replica? as usize;
    (!slots.is_empty()).then(|| {
        let mut judged = Judged::measured("the server's own arguments and the pod's own request");
        if !workload.settings_confirmed {
            judged.cap(Confidence::Estimated, "the arguments as written; the server itself was not asked");
        }
        judged.cap_by_price(fleet, &slots);
        let workload_name = &workload.name;
        Finding {
            check: PARALLEL,
            part: None,
            kind: FindingKind::Recoverable,
            rank: ClaimRank::Unused,
            title: format!("{workload_name}: holds {held} GPUs a replica and uses {used}"),
            subject: support::of_workload(fleet, workload),
            workload: Some(id),
            confidence: judged.level,
            confidence_reasons: judged.reasons,
            evidence: vec![Evidence::number("gpus_held_per_replica", held as f64, "gpus", "kubernetes").expected(used as f64), Evidence::number("gpus_used_per_replica", used as f64, "gpus", "kubernetes")],
            claims,
            fix: Fix { summary: format!("Ask for {used} GPUs, or raise the tensor parallelism if the load needs it: the others are never touched."), ..Fix::default() },
            ignored: None,
            trend_usd_per_hour: None,
        }
    })
}
