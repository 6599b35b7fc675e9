//! Metrics pages: what an engine or a GPU exporter says, in the snapshot's units.
//!
//! A page is cut down to the wanted metric names byte by byte, then prometheus-parse reads what is left.

pub(crate) mod exporter;
pub(crate) mod identity;
pub(crate) mod names;
mod page;

use crate::snapshot::engine::{EngineReading, Histogram, ServerIdentity};
use crate::snapshot::server::EngineKind;
use crate::units::Tokens;
use jiff::Timestamp;
use names::{Names, TABLES};
pub(crate) use page::Page;

/// What one engine's page told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EnginePage {
    pub(crate) engine: EngineKind,
    pub(crate) reading: EngineReading,
    pub(crate) identity: ServerIdentity,
    pub(crate) process_started_at: Option<Timestamp>,
}

/// Reads an engine's metrics page; `None`: it holds none of the engines' metrics (HTML, another program, cut off before them).
///
/// `expected` decides between engines that use the same bare names (NIM).
pub(crate) fn engine_page(text: &[u8], at: Timestamp, expected: Option<EngineKind>) -> Option<EnginePage> {
    let page = Page::parse(text, names::is_wanted);
    // The engine the spec names is looked for first: Triton with vLLM's backend shows both vocabularies.
    let mut tables: Vec<&Names> = TABLES
        .iter()
        .filter(|t| !t.only_if_expected || Some(t.engine) == expected)
        .collect();
    tables.sort_by_key(|t| Some(t.engine) != expected);
    let table = tables.into_iter().find(|t| t.markers.iter().any(|m| page.has(m)))?;
    let engine = if table.engine == EngineKind::Vllm {
        expected
            .filter(|e| *e == EngineKind::Nim || *e == EngineKind::RayServe)
            .unwrap_or(EngineKind::Vllm)
    } else {
        table.engine
    };
    Some(EnginePage {
        engine,
        reading: reading(&page, table, at),
        identity: identity_of(&page, table),
        process_started_at: process_start(&page),
    })
}

/// Which of the figures that make idleness an engine's pages tell at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) running: bool,
    pub(crate) prompt_tokens: bool,
    pub(crate) output_tokens: bool,
}

/// What `engine`'s vocabulary has; Ray Serve speaks vLLM's.
pub(crate) fn told(engine: EngineKind) -> Told {
    let speaks = if engine == EngineKind::RayServe {
        EngineKind::Vllm
    } else {
        engine
    };
    TABLES
        .iter()
        .find(|t| t.engine == speaks)
        .map_or_else(Told::default, |t| Told {
            running: !t.running.is_empty(),
            prompt_tokens: !t.prompt_tokens.is_empty(),
            output_tokens: !t.output_tokens.is_empty(),
        })
}

fn process_start(page: &Page) -> Option<Timestamp> {
    let seconds = page.max(&["process_start_time_seconds"])?;
    (seconds > 1e9 && seconds < 1e11).then(|| Timestamp::from_microsecond((seconds * 1e6) as i64).ok())?
}

fn reading(page: &Page, names: &Names, at: Timestamp) -> EngineReading {
    let histogram = |of: &[&str]| of.iter().find_map(|name| histogram(page, name));
    let sum_of = |of: &[&str]| page.sum(of);
    EngineReading {
        at,
        running: sum_of(names.running),
        waiting: sum_of(names.waiting),
        kv_usage: page
            .max(names.kv_usage)
            .map(|v| if v > 1.5 { v / 100.0 } else { v })
            .or_else(|| triton_kv(page)),
        requests: sum_of(names.requests),
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
        let info = "vllm_cache_config_info";
        let told = |key: &str| label(info, key).filter(|v| v != "None");
        let number = |key: &str| told(key).and_then(|v| v.parse::<u64>().ok());
        identity.kv_blocks = number("num_gpu_blocks");
        identity.block_size = number("block_size");
        identity.kv_capacity = number("kv_cache_size_tokens")
            .or_else(|| Some(identity.kv_blocks? * identity.block_size?))
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
    if names.engine == EngineKind::Triton {
        let of = |kind: &str| {
            page.max_where("nv_trt_llm_kv_cache_block_metrics", |l| {
                l("kv_cache_block_type").as_deref() == Some(kind)
            })
        };
        identity.kv_blocks = of("max").map(|v| v as u64);
        identity.block_size = of("tokens_per").map(|v| v as u64);
        identity.kv_capacity = identity
            .kv_blocks
            .zip(identity.block_size)
            .map(|(b, s)| Tokens(b * s))
            .filter(|t| t.0 > 0);
    }
    let model = names.markers.iter().find_map(|m| {
        label(m, "model_name")
            .or_else(|| label(m, "model"))
            .or_else(|| label(m, "name"))
    });
    identity.served_names = model.into_iter().filter(|m| !m.is_empty()).collect();
    identity
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod traps;
