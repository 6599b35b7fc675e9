//! kv-pressure: KV caches that run full, so that requests are thrown back or the server dies.

mod config;
mod history;
mod live;
mod oom;

use super::finding::Finding;
use super::support::{self, Lack, lack};
use super::{Check, Context, Outcome, documented};
use crate::analyze::rights;
use crate::engine::{self, LoadFigure, Tells};
use crate::fleet::{Fleet, ObservedBy, Workload, WorkloadClass, WorkloadId};
use crate::settings::Thresholds;

documented! {
    since "0.1.0";
    /// What it finds. Servers whose KV cache is full while requests wait, or that preempt requests: 1 % of the finished ones and more.
    ///   config       an explicit max-num-seqs that the cache cannot hold at the usual request length
    ///   oom          a server that the kernel killed for host memory within the last day, and that runs again
    ///   gpu-oom      with history: restarts in error within five minutes after a full cache or a queue
    ///
    /// Why it costs. A preempted request is computed again from its beginning; a full cache turns into timeouts and, in some engines,
    /// into out-of-memory restarts.
    ///
    /// How the dollars are computed. At risk, not recoverable: the GPUs' price times the share of work thrown back (preemptions per
    /// finished request, or the share of requests that wait). With history: bins of 5 minutes in which the cache was at 95 % or more and
    /// requests waited or were preempted / bins with requests; from three such bins and 5 % of them (or 1 % preempted). config claims
    /// no dollars: engines queue, they do not fail; nor do oom and gpu-oom: what a restart lost is not known.
    ///
    /// When it is wrong. A queue at low KV use is the sequence limit, not the cache, and does not fire. An offline batch wants a full
    /// cache: there only preemptions count. A warm prefix cache reads 0 in vLLM V1 and is no pressure. gpu-oom is a likely cause, never more
    /// than estimated: a liveness probe that fails under load looks the same.
    ///
    /// What to do. FP8 KV cache, a lower max-num-seqs or max-model-len, another replica, or cards with more memory.
    pub(crate) struct KvPressure;
}

const ID: &str = "kv-pressure";

impl Check for KvPressure {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "KV caches near full with requests waiting, preemptions, or a configuration whose admitted load cannot fit."
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[None, Some("config"), Some("oom"), Some("gpu-oom")]
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let (fleet, t) = (context.fleet, &context.settings.thresholds);
        for (id, workload) in support::workloads(fleet).filter(|(_, w)| w.class == WorkloadClass::Server) {
            let slots = support::slots_of(workload);
            if workload.planned {
                planned(context, id, workload, out);
                continue;
            }
            // Figures without the GPUs they are of: nodes or pods could not be read.
            if slots.is_empty() {
                continue;
            }
            if has_no_kv_metric(workload) {
                out.not_assessed(
                    "the engine exports neither KV use nor preemptions",
                    "watch its latency and restarts instead",
                    slots,
                );
            } else if workload.observed.by == ObservedBy::Nothing
                || (workload.observed.kv_usage.is_none() && workload.observed.preemptions.is_none())
            {
                out.not_assessed("the server's metrics could not be read", rights::PAGES, slots);
            } else if workload.observed.bins.as_ref().is_some_and(|b| b.kv_by_other_limits) {
                out.not_assessed(support::BY_OTHER_LIMITS.0, support::BY_OTHER_LIMITS.1, slots);
            } else {
                out.assessed.extend(&slots);
                out.findings.extend(pressure(fleet, t, id, workload));
            }
            out.findings.extend(config::seen(fleet, t, id, workload));
            out.findings.extend(oom::of_host(fleet, t, id, workload));
            out.findings.extend(oom::of_gpu(fleet, t, id, workload));
        }
    }
}

/// Before it runs, its limits and its memory are all there is.
fn planned(context: &Context<'_>, id: WorkloadId, workload: &Workload, out: &mut Outcome) {
    match config::admitted(context, id) {
        Ok(finding) => {
            out.assessed.extend(support::slots_of(workload));
            out.findings.extend(finding);
        }
        Err(lack) => out.lacks(&lack, support::slots_of(workload)),
    }
}

/// Whether GPU memory is what this server lacks: less of it, or fewer of its kind, is then no advice. What its engine would
/// tell and was not read may say so.
pub(super) fn is_short(context: &Context<'_>, id: WorkloadId) -> Result<bool, Lack> {
    let (fleet, t) = (context.fleet, &context.settings.thresholds);
    let workload = fleet.workload(id);
    if workload.planned {
        return config::admitted(context, id).map(|finding| finding.is_some());
    }
    let o = &workload.observed;
    let by_other_limits = o.bins.as_ref().is_some_and(|b| b.kv_by_other_limits);
    let is_full = || !has_no_kv_metric(workload) && !by_other_limits && pressure(fleet, t, id, workload).is_some();
    if is_full() || config::seen(fleet, t, id, workload).is_some() || oom::of_gpu(fleet, t, id, workload).is_some() {
        return Ok(true);
    }
    let limited = workload.settings.as_ref().is_some_and(|s| s.max_num_seqs.is_some());
    let lengths = o.prompt_length_p50.is_some() && o.output_length_p50.is_some();
    let told = [LoadFigure::PromptLength, LoadFigure::OutputLength];
    let lengths_told = told.into_iter().all(|figure| tells(workload, figure));
    if tells(workload, LoadFigure::Preemptions) && o.preemptions.is_none() || lengths_told && limited && !lengths {
        return Err(lack(
            "whether its KV cache is large enough could not be read (preemptions, lengths of requests)",
            rights::PAGES,
        ));
    }
    Ok(false)
}

/// By history where there is one, else by what is seen live.
fn pressure(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let o = &workload.observed;
    let bins = o.bins.as_ref().filter(|_| o.by == ObservedBy::History);
    match bins.filter(|b| b.kv_bad.is_some() || o.kv_usage.is_some()) {
        Some(bins) => history::pressure(fleet, t, id, workload, bins),
        None => live::pressure(fleet, t, id, workload),
    }
}

const RELIEF: &str = "Lower max-num-seqs or max-model-len, use an FP8 KV cache, add a replica, or move to cards with more memory: preempted requests are computed twice.";

fn has_no_kv_metric(workload: &Workload) -> bool {
    let known = workload.observed.kv_usage.is_some() || workload.observed.preemptions.is_some();
    let told = |figure| tells(workload, figure);
    !known && workload.engine().is_some() && !told(LoadFigure::KvUsage) && !told(LoadFigure::Preemptions)
}

fn tells(workload: &Workload, figure: LoadFigure) -> bool {
    engine::tells(workload.engine(), figure) == Tells::Always
}
