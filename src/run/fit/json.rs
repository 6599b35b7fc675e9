//! What `--format json` prints.

use super::holds::{AT, Answer as MemoryAnswer, Held};
use super::load::{Answer as LoadAnswer, Question, Told};
use super::subject::Subject;
use crate::catalog::models::ModelSource;
use crate::fit::load::{Demand, Limit, Verdict};
use crate::fit::search::Candidate;
use crate::fit::speed::{Bound, Class, Evidence, Seconds};
use crate::fit::{BandSource, FitConfidence, FitVerdict, Placement};
use serde_json::{Map, Value, json};

fn verdict(v: FitVerdict) -> &'static str {
    v.name()
}

fn confidence(c: FitConfidence) -> &'static str {
    match c {
        FitConfidence::Assumed => "assumed",
        FitConfidence::Estimated => "estimated",
        FitConfidence::Measured => "measured",
    }
}

/// The verdict over all that was asked: a placement that holds the model but not the tokens does not fit the need.
pub(super) fn answer(c: &Candidate) -> (&'static str, &str) {
    let fits = c.placement.verdict == FitVerdict::Fits;
    if !fits || c.accepted {
        return (verdict(c.placement.verdict), &c.placement.reason);
    }
    ("does-not-fit", &c.reason)
}

fn source(subject: &Subject) -> &'static str {
    match subject.model.source {
        ModelSource::Name => "name",
        ModelSource::Catalog => "catalog",
        ModelSource::Config => "config",
        ModelSource::Weights => "weights",
    }
}

fn model(subject: &Subject) -> Value {
    let m = &subject.model;
    json!({
        "id": m.id,
        "parameters": m.parameters,
        "active_parameters": m.active_parameters.or(m.parameters.filter(|_| m.experts.is_none())),
        "quantization": m.quantization.as_deref().or(subject.settings.quantization.as_deref()),
        "source": source(subject),
        "base": m.base,
        "confidence": if m.verified { "verified" } else if source(subject) == "name" { "assumed" } else { "reported" },
    })
}

fn seconds(s: Option<Seconds>) -> Value {
    s.map_or(
        Value::Null,
        |s| json!({"value": s.value, "low": s.ends.map(|e| e.0), "high": s.ends.map(|e| e.1)}),
    )
}

/// Where nothing can be said of a range, nothing is said.
fn range(s: Option<Seconds>) -> Value {
    seconds(s.filter(|s| s.ends.is_some()))
}

fn evidence(e: Evidence) -> Value {
    json!({"class": e.class.name(), "points": e.points, "sources": e.sources, "points_of_this_model": e.of_model})
}

fn band_source(source: &BandSource) -> Value {
    json!({
        "engine": source.engine,
        "version_known": source.version_known,
        "hybrid": source.hybrid,
        "several_gpus": source.several_gpus,
        "threads": source.threads,
        "factor": source.factor,
        "own_bytes_per_gpu": [source.below as u64, source.above as u64],
    })
}

fn memory_fields(p: &Placement) -> Map<String, Value> {
    let Value::Object(map) = json!({
        "weights_bytes_per_gpu": p.weights_per_gpu.map(|b| b.0),
        "overhead_bytes_per_gpu": p.overhead_per_gpu.map(|o| o.value.0),
        "overhead_band_bytes_per_gpu": p.overhead_per_gpu.map(|o| [o.low.0, o.high.0]),
        "kv_bytes_per_gpu": p.kv_per_gpu.map(|b| b.0),
        "kv_band_bytes_per_gpu": p.kv_band.map(|k| [k.low.0, k.high.0]),
        "kv_band_source": p.kv_band_source.as_ref().map(band_source),
        "kv_bytes_per_token_per_gpu": p.kv_bytes_per_token_per_gpu,
        "kv_capacity_tokens": p.kv_capacity.map(|k| k.value.0),
        "kv_capacity_band_tokens": p.kv_capacity.map(|k| [k.low.0, k.high.0]),
        "max_concurrency": p.max_concurrency,
        "memory_verdict": verdict(p.verdict),
        "confidence_reasons": p.confidence_reasons,
    }) else {
        return Map::new();
    };
    map
}

fn with(mut a: Map<String, Value>, b: Value) -> Value {
    if let Value::Object(more) = b {
        a.extend(more);
    }
    Value::Object(a)
}

fn held(h: &Held) -> Value {
    let c = &h.candidate;
    let p = &c.placement;
    let (verdict, reason) = answer(c);
    let speed = h.speed.map(|speed| {
        AT.iter()
            .zip(speed)
            .map(|(n, s)| json!({"running": n, "itl_seconds": seconds(Some(s))}))
            .collect::<Vec<_>>()
    });
    with(
        memory_fields(p),
        json!({
            "gpu": c.gpu,
            "gpus": c.gpus,
            "tensor_parallel": c.parallelism.tensor,
            "pipeline_parallel": c.parallelism.pipeline,
            "data_parallel": c.parallelism.data,
            "replicas": 1,
            "verdict": verdict,
            "reason": reason,
            "output_tokens_per_second": null,
            "requests_per_second": null,
            "itl_seconds": null,
            "ttft_seconds": null,
            "limit": null,
            "usd_per_hour": c.usd_per_hour,
            "usd_per_million_output_tokens": null,
            "usd_per_million_input_tokens": null,
            "speed": speed,
            "evidence": evidence(h.evidence),
            "confidence": confidence(p.confidence),
        }),
    )
}

pub(super) fn memory(subject: &Subject, answer: &MemoryAnswer) -> Value {
    json!({
        "schema": 1,
        "model": model(subject),
        "lengths": {"input": answer.lengths.0, "output": answer.lengths.1},
        "placements": answer.found.iter().map(held).collect::<Vec<_>>(),
    })
}

/// How sure the speed of a row is, in R6's words: scaled or read from measured points, or arithmetic alone. How sure the
/// memory is stands in `confidence_reasons`.
pub(super) fn sureness(told: &Told) -> &'static str {
    let row = &told.row;
    if row.by_ratio || row.evidence.class != Class::NotSeen {
        confidence(FitConfidence::Estimated)
    } else {
        confidence(FitConfidence::Assumed)
    }
}

fn row(told: &Told, promised: bool) -> Value {
    let row = &told.row;
    let p = row.parallelism;
    // The speed alone was asked for: whether it holds is the memory's word.
    let said = if promised {
        row.verdict.name()
    } else {
        verdict(row.placement.verdict)
    };
    let serves = row.verdict == Verdict::Serves;
    with(
        memory_fields(&row.placement),
        json!({
            "gpu": row.gpu,
            "gpus": row.gpus(),
            "gpus_per_replica": row.gpus_per_replica,
            "tensor_parallel": p.tensor,
            "pipeline_parallel": p.pipeline,
            "data_parallel": p.data,
            "replicas": row.replicas,
            "verdict": said,
            "reason": row.reason,
            "limit": row.limit.map(Limit::name),
            "running": row.running,
            "requests_per_second": row.requests_per_second,
            "output_tokens_per_second": capacity(told),
            "itl_seconds": seconds(row.inter_token_latency),
            "ttft_seconds": range(row.time_to_first_token),
            "usd_per_hour": row.usd_per_hour,
            "price_source": told.price.name(),
            "usd_per_million_output_tokens": row.usd_per_million_output_tokens().filter(|_| serves),
            "usd_per_million_input_tokens": row.usd_per_million_input_tokens().filter(|_| serves),
            "bound_by": row.bound.map(Bound::name),
            "evidence": evidence(row.evidence),
            "scaled_from_present": row.by_ratio,
            "max_model_len": row.max_model_len,
            "marketplace_only": told.sold.marketplace_only,
            "largest_node_gpus": told.sold.largest,
            "confidence": sureness(told),
        }),
    )
}

/// Output tokens a second of all replicas at the limits.
fn capacity(told: &Told) -> Option<f64> {
    let row = &told.row;
    let length = row.output_tokens_per_second? / row.requests_at_load?;
    Some(row.requests_per_second? * length)
}

pub(super) fn load(subject: &Subject, question: &Question, answer: &LoadAnswer) -> Value {
    let t = &question.traffic;
    let (kind, value) = match t.demand {
        Demand::Rate(r) => ("requests_per_second", r),
        Demand::Clients(n) => ("concurrency", n),
        Demand::Running(n) => ("running", n),
    };
    let mut load = json!({"input_tokens": t.input, "output_tokens": t.output});
    load[kind] = json!(value);
    let server = question.server.as_ref().map(|s| {
        json!({
            "name": s.name, "gpu": s.gpu.name, "replicas": s.replicas, "tensor_parallel": s.parallelism.tensor,
            "usd_per_hour": s.usd_per_hour, "price_source": s.place.source.name(), "itl_seconds_p95": s.inter_token_latency, "ttft_seconds_p95": s.time_to_first_token,
            "running": question.present_at().map(|at| at.running),
        })
    });
    json!({
        "schema": 1,
        "model": model(subject),
        "load": load,
        "limits": {
            "itl_seconds": question.limits.inter_token_latency,
            "ttft_seconds": question.limits.time_to_first_token,
            "max_gpus": question.limits.max_gpus,
        },
        "from": server,
        "prices": answer.prices,
        "placements": answer.rows.iter().map(|told| row(told, question.promises())).collect::<Vec<_>>(),
    })
}
