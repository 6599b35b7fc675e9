//! cpu-gpu-imbalance: GPUs that wait for CPU, over a window ([`super::starved`]) and by the specification.

use super::finding::{Confidence, Evidence, Finding, Fix};
use super::support::{self, Judged, gpus};
use super::{Check, Context, Outcome, documented};
use crate::engine;
use crate::fleet::{Fleet, Workload, WorkloadClass, WorkloadId};

documented! {
    since "0.1.0";
    /// What it finds. With history: bins of 5 minutes with a queue, or with at least half as many requests running as in the busiest
    /// times (p95), in which CPU was throttled in 25 % of periods or used to 90 % of its limit while SM, tensor cores and DRAM were all
    /// under 35 %. Twelve such bins and 10 % of those with requests are reported.
    ///   spec         less CPU than the engine's processes need: vLLM's documented minimum is 2 x (A + DP + N + 1 if DP > 1) vCPU for A
    ///                API servers, DP data-parallel ranks and N GPUs
    ///
    /// Why it costs. The engine's core loop starves first; the GPU then waits between kernels while GPU utilization looks high.
    ///
    /// How the dollars are computed. At risk: the GPUs' price x the share of such bins x the part of the GPU that lay idle for it
    /// (1 - how busy it was then / the middle of how busy it is in its other bins with requests, 60 % where there are fewer than 20).
    /// spec claims none: it is listed so that it can be mended.
    ///
    /// When it is wrong. A light load needs less than the rule; a GPU whose profiling counters never leave 0 is not judged. For other
    /// engines the formula is borrowed and the finding 'assumed'. Throttling is in cAdvisor's metrics, which a scan reads only from
    /// Prometheus.
    ///
    /// What to do. Raise the CPU request and limit of the GPU container.
    pub(crate) struct CpuGpuImbalance;
}

const ID: &str = "cpu-gpu-imbalance";

impl Check for CpuGpuImbalance {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "GPUs that wait for CPU: less CPU than the engine's processes need beside the GPUs they feed."
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
                    if workload.planned {
                        // The specification is all there is.
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
    let title = format!(
        "{}: {cores:.1} vCPU beside {}, {needed:.0} needed",
        workload.name,
        gpus(asked.gpus)
    );
    Some(Finding {
        title,
        evidence: vec![Evidence::number("vcpu", cores, "cores", "kubernetes").expected(needed)],
        fix: Fix::told(format!(
            "Give the container at least {needed:.0} vCPU: the engine's core loop starves first, and the GPU then waits while it looks busy."
        )),
        ..support::of_one(fleet, ID, Some("spec"), (id, workload), judged)
    })
}
