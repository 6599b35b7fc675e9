//! Limits that the cache cannot hold. Engines queue then, they do not fail: no dollars.

use super::ID;
use crate::analyze::Context;
use crate::analyze::finding::{Confidence, Evidence, Finding, Fix};
use crate::analyze::sizing::{self, Admitted, Held};
use crate::analyze::support::{self, Judged, Lack, lack};
use crate::fit::{FitConfidence, FitVerdict, Placement};
use crate::fleet::{Fleet, Workload, WorkloadId};
use crate::settings::Thresholds;
use crate::snapshot::server::Setting;

/// An explicit sequence limit that the cache cannot hold at the lengths seen.
pub(super) fn seen(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload) -> Option<Finding> {
    let settings = workload.settings.as_ref()?;
    let limit = settings.max_num_seqs? as f64;
    // Told by the server, else by the memory model at its good end: what is called too small is so at best, too.
    let modelled = || {
        let held = sizing::held(fleet, workload).ok().filter(|h| h.is_one_pod)?;
        let released = settings.unread(Setting::EngineVersion).is_none();
        Some(held.placed().kv_capacity.filter(|_| released)?.high.0 as f64)
    };
    let told = workload.kv_capacity.map(|c| c.0 as f64);
    let source = if told.is_some() { "engine" } else { "fit" };
    let capacity = told.or_else(modelled).filter(|c| *c > 0.0)?;
    let o = &workload.observed;
    let length = o.prompt_length_p50? + o.output_length_p50?;
    let wanted = t.kv_headroom * limit * length;
    if capacity >= wanted || length <= 0.0 {
        return None;
    }
    let judged = Judged::at(
        Confidence::Estimated,
        "the middle request is short of the longest; engines queue, they do not fail",
    );
    Some(Finding {
        title: format!(
            "{}: max-num-seqs {limit:.0} asks for {:.1} × the KV cache at the usual length",
            workload.name,
            limit * length / capacity
        ),
        evidence: vec![
            Evidence::number("kv_capacity", capacity, "tokens", source).expected(wanted),
            Evidence::number("max_num_seqs", limit, "sequences", "kubernetes"),
            Evidence::number("usual_length", length, "tokens", "engine"),
        ],
        fix: Fix::told(format!(
            "Requests will queue before {limit:.0} run together: set max-num-seqs to about {:.0}, or give the cache more memory.",
            (capacity / t.kv_headroom / length).floor()
        )),
        ..support::of_one(fleet, ID, Some("config"), (id, workload), judged)
    })
}

/// Of a plan: what it admits, by its limits or as the user expects, beside what its cache would hold.
pub(super) fn admitted(context: &Context<'_>, id: WorkloadId) -> Result<Option<Finding>, Lack> {
    let (fleet, workload) = (context.fleet, context.fleet.workload(id));
    let held = sizing::held(fleet, workload)?;
    let placement = held.placed();
    if placement.verdict != FitVerdict::Fits {
        // What does not fit at all is undersized-tier's.
        return Ok(None);
    }
    let capacity = placement.kv_capacity.as_ref().map(|c| c.value.0).ok_or(lack(
        "the model's KV cache is not known",
        "give its config.json with --models DIR",
    ))?;
    let ranks = held.parallelism().data;
    let admitted = Admitted::of(held.settings, context.expected, ranks);
    Ok(admitted
        .filter(|admitted| capacity < admitted.tokens)
        .map(|admitted| too_little(context, (id, workload), &held, &placement, admitted, capacity)))
}

fn too_little(
    context: &Context<'_>,
    (id, workload): (WorkloadId, &Workload),
    held: &Held<'_>,
    placement: &Placement,
    admitted: Admitted,
    capacity: u64,
) -> Finding {
    let mut judged = Judged::at(Confidence::Estimated, "the memory model, not a running server");
    if placement.confidence == FitConfidence::Assumed || held.is_by_name() {
        judged.cap(
            Confidence::Assumed,
            "the model's facts, or the engine's defaults, are assumed",
        );
    }
    let Admitted { tokens, by } = admitted;
    Finding {
        title: format!(
            "{}: KV cache of {capacity} tokens, {tokens} admitted: requests will queue",
            workload.name
        ),
        evidence: vec![Evidence::number("kv_capacity", capacity as f64, "tokens", "fit").expected(tokens as f64)],
        fix: Fix::told(format!(
            "{by} asks for more than the cache holds: engines queue, they do not fail. Lower one of them, use an fp8 KV cache, or give it more GPU memory."
        )),
        ..support::of_one(context.fleet, ID, Some("config"), (id, workload), judged)
    }
}
