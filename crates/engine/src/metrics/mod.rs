//! Metrics pages: what an engine or a GPU exporter says, in the snapshot's units.
//!
//! A page is cut down to the wanted metric names byte by byte, then prometheus-parse reads what is left.

pub mod exporter;
pub mod identity;
pub mod names;
mod page;
mod smi;

use crate::snapshot::engine::{EngineReading, Histogram, ServerIdentity};
use crate::snapshot::server::EngineKind;
use crate::units::Tokens;
use jiff::Timestamp;
use names::{Names, TABLES};
pub use page::{Page, filter};

/// What one engine's page told.
#[derive(Clone, Debug, PartialEq)]
pub struct EnginePage {
    pub engine: EngineKind,
    pub reading: EngineReading,
    pub identity: ServerIdentity,
    pub process_started_at: Option<Timestamp>,
}

/// Reads an engine's metrics page; `None`: it holds none of the engines' metrics (HTML, another program, cut off before them).
///
/// `expected` decides between engines that use the same bare names (NIM).
pub fn engine_page(text: &[u8], at: Timestamp, expected: Option<EngineKind>) -> Option<EnginePage> {
    let page = Page::parse(text, names::is_wanted);
    // The engine the spec names is looked for first: Triton with vLLM's backend shows both vocabularies.
    let mut tables: Vec<&Names> = TABLES
        .iter()
        .filter(|t| !t.only_if_expected || Some(t.engine) == expected)
        .collect();
    // Ray Serve says little beside the engine in it.
    let speaks = expected.map(speaks);
    tables.sort_by_key(|t| Some(t.engine) != speaks);
    // NIM's bare names are an engine's only with a model beside them.
    let shown = |t: &Names| {
        let labelled = |m: &&&str| t.engine != EngineKind::Nim || page.label(m, "model_name").is_some();
        t.markers.iter().filter(labelled).any(|m| page.has(m))
    };
    let table = tables
        .iter()
        .copied()
        .find(|t| shown(t))
        .or_else(|| tables.first().copied().filter(|_| page.has(DYNAMO_REQUESTS)))?;
    let engine = if table.engine == EngineKind::Vllm {
        expected
            .filter(|e| *e == EngineKind::Nim || *e == EngineKind::RayServe)
            .unwrap_or(EngineKind::Vllm)
    } else {
        table.engine
    };
    let mut reading = reading(&page, table, at);
    // Triton with vLLM's backend shows both vocabularies; Dynamo's own say what an engine without metrics of its own does.
    if table.engine == EngineKind::Triton
        && let Some(vllm) = TABLES.iter().find(|t| t.engine == EngineKind::Vllm)
    {
        complete(&mut reading, self::reading(&page, vllm, at));
    }
    complete(&mut reading, dynamo(&page, at));
    Some(EnginePage {
        engine,
        reading,
        identity: identity_of(&page, table),
        process_started_at: process_start(&page),
    })
}

/// Which of the figures that idleness and sizes are judged by an engine's pages tell at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub running: bool,
    pub prompt_tokens: bool,
    pub output_tokens: bool,
    /// Seconds to the first token and between tokens.
    pub latencies: bool,
    pub preemptions: bool,
    /// Tokens of requests, prompt and output.
    pub lengths: bool,
}

/// Ray Serve speaks vLLM's vocabulary.
fn speaks(engine: EngineKind) -> EngineKind {
    if engine == EngineKind::RayServe {
        EngineKind::Vllm
    } else {
        engine
    }
}

/// What `engine`'s vocabulary has.
pub fn told(engine: EngineKind) -> Told {
    TABLES
        .iter()
        .find(|t| t.engine == speaks(engine))
        .map_or_else(Told::default, |t| Told {
            running: !t.running.is_empty(),
            prompt_tokens: !t.prompt_tokens.is_empty(),
            output_tokens: !t.output_tokens.is_empty(),
            latencies: !t.ttft.is_empty() && !t.itl.is_empty(),
            preemptions: !t.preemptions.is_empty(),
            lengths: !t.prompt_length.is_empty() && !t.output_length.is_empty(),
        })
}

fn process_start(page: &Page) -> Option<Timestamp> {
    let seconds = page.max(&["process_start_time_seconds"])?;
    (seconds > 1e9 && seconds < 1e11).then(|| Timestamp::from_microsecond((seconds * 1e6) as i64).ok())?
}

const DYNAMO_REQUESTS: &str = "dynamo_component_requests_total";

/// What Dynamo counts of a worker, whatever engine is in it; other endpoints than `generate` are housekeeping.
fn dynamo(page: &Page, at: Timestamp) -> EngineReading {
    let generate = |name: &str| page.sum_where(name, |label| label("dynamo_endpoint").is_none_or(|e| e == "generate"));
    EngineReading {
        running: generate("dynamo_component_inflight_requests"),
        requests: generate(DYNAMO_REQUESTS),
        kv_usage: page.max(&["dynamo_component_kvstats_gpu_cache_usage_percent"]),
        ..EngineReading::nothing(at)
    }
}

/// Fills what `own` does not tell with what `other` does.
fn complete(own: &mut EngineReading, other: EngineReading) {
    own.running = own.running.or(other.running);
    own.waiting = own.waiting.or(other.waiting);
    own.kv_usage = own.kv_usage.or(other.kv_usage);
    own.requests = own.requests.or(other.requests);
    own.aborted = own.aborted.or(other.aborted);
    own.prompt_tokens = own.prompt_tokens.or(other.prompt_tokens);
    own.output_tokens = own.output_tokens.or(other.output_tokens);
    own.preemptions = own.preemptions.or(other.preemptions);
    own.prefix_queries = own.prefix_queries.or(other.prefix_queries);
    own.prefix_hits = own.prefix_hits.or(other.prefix_hits);
    own.e2e_latency = own.e2e_latency.take().or(other.e2e_latency);
    own.time_to_first_token = own.time_to_first_token.take().or(other.time_to_first_token);
    own.inter_token_latency = own.inter_token_latency.take().or(other.inter_token_latency);
    own.prompt_length = own.prompt_length.take().or(other.prompt_length);
    own.output_length = own.output_length.take().or(other.output_length);
}

/// Requests at the HTTP layer that are work: not those of probes and scrapers.
fn http_requests(page: &Page) -> Option<f64> {
    page.sum_where("http_requests_total", |label| {
        !label("handler").is_some_and(|h| matches!(h.as_str(), "/metrics" | "/health" | "/ready" | "/" | "none"))
    })
}

fn reading(page: &Page, names: &Names, at: Timestamp) -> EngineReading {
    let histogram = |of: &[&str]| of.iter().find_map(|name| histogram(page, name));
    let sum_of = |of: &[&str]| page.sum(of);
    EngineReading {
        at,
        running: sum_of(names.running).or_else(|| triton_requests(page, "active")),
        waiting: triton_requests(page, "waiting").or_else(|| sum_of(names.waiting)),
        kv_usage: page
            .max(names.kv_usage)
            .map(|v| if v > 1.5 { v / 100.0 } else { v })
            .or_else(|| triton_kv(page)),
        requests: if names.engine == EngineKind::Infinity {
            http_requests(page)
        } else {
            sum_of(names.requests)
        },
        aborted: names.aborted.and_then(|(name, label, values)| {
            page.sum_where(name, |l| l(label).is_some_and(|v| values.contains(&v.as_str())))
        }),
        prompt_tokens: sum_of(names.prompt_tokens),
        output_tokens: sum_of(names.output_tokens),
        preemptions: sum_of(names.preemptions),
        prefix_queries: sum_of(names.prefix_queries),
        prefix_hits: sum_of(names.prefix_hits),
        e2e_latency: histogram(names.e2e),
        time_to_first_token: histogram(names.ttft),
        inter_token_latency: histogram(names.itl),
        prompt_length: histogram(names.prompt_length),
        output_length: histogram(names.output_length),
    }
}

/// TensorRT-LLM's backend in Triton labels the kinds of requests.
fn triton_requests(page: &Page, kind: &str) -> Option<f64> {
    page.sum_where("nv_trt_llm_request_metrics", |l| {
        l("request_type").as_deref() == Some(kind)
    })
}

/// TensorRT-LLM's backend in Triton labels the kinds of blocks.
fn triton_kv(page: &Page) -> Option<f64> {
    let of = |kind: &str| {
        page.max_where("nv_trt_llm_kv_cache_block_metrics", |l| {
            l("kv_cache_block_type").as_deref() == Some(kind)
        })
    };
    of("fraction").or_else(|| {
        let (used, max) = (of("used")?, of("max")?);
        (max > 0.0).then(|| used / max)
    })
}

/// All label sets of a histogram in one.
fn histogram(page: &Page, name: &str) -> Option<Histogram> {
    let count = page.sum(&[&format!("{name}_count")])?;
    let sum = page.sum(&[&format!("{name}_sum")])?;
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for (bound, value) in page.by_label(&format!("{name}_bucket"), "le") {
        if let Some(bound) = bound.parse::<f64>().ok().filter(|b| b.is_finite()) {
            buckets.push((bound, value));
        }
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    Some(Histogram { sum, count, buckets })
}

fn identity_of(page: &Page, names: &Names) -> ServerIdentity {
    let mut identity = ServerIdentity::default();
    let label = |name: &str, key: &str| page.label(name, key);
    if names.engine == EngineKind::Vllm {
        let info = ["vllm_cache_config_info", "ray_vllm_cache_config_info"]
            .into_iter()
            .find(|n| page.has(n))
            .unwrap_or_default();
        let told = |key: &str| label(info, key).filter(|v| v != "None");
        let number = |key: &str| told(key).and_then(|v| v.parse::<u64>().ok());
        identity.kv_blocks = number("num_gpu_blocks");
        identity.block_size = number("block_size");
        identity.kv_capacity = number("kv_cache_size_tokens")
            .or_else(|| identity.kv_blocks?.checked_mul(identity.block_size?))
            .filter(|t| *t > 0)
            .map(Tokens);
        identity.gpu_memory_utilization = told("gpu_memory_utilization").and_then(|v| v.parse().ok());
        identity.kv_cache_dtype = told("cache_dtype");
        identity.prefix_caching = told("enable_prefix_caching").map(|v| v == "True");
        identity.engines = page.distinct("vllm_num_requests_running", "engine");
        identity.asleep = page
            .label_where_positive("vllm_engine_sleep_state", "sleep_state")
            .map(|s| s != "awake");
        identity.max_model_len = number("kv_cache_size_tokens")
            .zip(told("kv_cache_max_concurrency").and_then(|v| v.parse::<f64>().ok()))
            .filter(|(_, c)| *c > 0.0)
            .map(|(tokens, concurrency)| (tokens as f64 / concurrency).round() as u64);
    }
    if names.engine == EngineKind::Sglang {
        identity.kv_capacity = page
            .max(&["sglang_max_total_num_tokens"])
            .filter(|t| *t > 0.0)
            .map(|t| Tokens(t as u64));
        identity.max_model_len = page.max(&["sglang_context_len"]).map(|l| l as u64);
        identity.engines = page.distinct("sglang_num_running_reqs", "dp_rank");
    }
    if names.engine == EngineKind::Trtllm {
        let number = |name: &str| page.max(&[name]).filter(|v| *v >= 1.0).map(|v| v as u64);
        identity.kv_blocks = number("trtllm_kv_cache_max_blocks");
        identity.block_size = number("trtllm_kv_cache_tokens_per_block");
        identity.kv_capacity = tokens(&identity);
    }
    if names.engine == EngineKind::Triton {
        let of = |kind: &str| {
            page.max_where("nv_trt_llm_kv_cache_block_metrics", |l| {
                l("kv_cache_block_type").as_deref() == Some(kind)
            })
        };
        identity.kv_blocks = of("max").map(|v| v as u64);
        identity.block_size = of("tokens_per").map(|v| v as u64);
        identity.kv_capacity = tokens(&identity).filter(|t| t.0 > 0);
    }
    let model = names.markers.iter().find_map(|m| {
        label(m, "model_name")
            .or_else(|| label(m, "model"))
            .or_else(|| label(m, "name"))
    });
    identity.served_names = model.into_iter().filter(|m| !m.is_empty()).collect();
    identity
}

/// Blocks of so many tokens; `None` where their product is no number.
fn tokens(identity: &ServerIdentity) -> Option<Tokens> {
    identity.kv_blocks?.checked_mul(identity.block_size?).map(Tokens)
}

#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod smi_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traps;
