//! Readings of serving engines: what a server says of itself and of its work.

use super::server::EngineKind;
use crate::units::Tokens;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One metrics endpoint of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EngineScrape {
    pub namespace: String,
    pub pod: String,
    pub pod_uid: String,
    pub container: String,
    pub port: u16,
    /// The engine whose metric names were seen (may differ from the spec's: the server's own word wins).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// What the server says of itself.
    pub identity: ServerIdentity,
    /// When the server process started (process_start_time_seconds); `None`: not told, use the container's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub process_started_at: Option<Timestamp>,
    /// One per pass, oldest first. Empty: the endpoint gave no usable metrics.
    pub readings: Vec<EngineReading>,
}

/// The server's own word: /v1/models, /version, cache_config_info, /get_server_info, /info, /props, /api/ps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServerIdentity {
    /// The path or id that was loaded (`root`), base models only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_root: Option<String>,
    /// Names under which it is served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub served_names: Vec<String>,
    /// Names of LoRA adapters loaded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lora_names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u64>,
    /// KV cache capacity in tokens of one engine (one data-parallel rank): blocks × block size, or as told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_capacity: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_blocks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_memory_utilization: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache_dtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_caching: Option<bool>,
    /// Data-parallel engines behind this endpoint, by the distinct `engine`/`dp_rank` labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engines: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asleep: Option<bool>,
    /// It was asked at a path that servers of its engine have, and did not answer (an API key before /v1/models): what is not
    /// told here may be told there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
}

/// One instant of one endpoint, summed over its engines (max over tensor-parallel ranks). Counters are since process start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EngineReading {
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Requests in execution now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<f64>,
    /// Fullest engine's KV cache use, 0–1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_usage: Option<f64>,
    /// Requests finished, whatever the reason, since start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemptions: Option<f64>,
    /// Prompt tokens looked up in, and found in, the prefix cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_queries: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_hits: Option<f64>,
    /// Seconds from arrival to last token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_latency: Option<Histogram>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_first_token: Option<Histogram>,
    /// Seconds between output tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inter_token_latency: Option<Histogram>,
    /// Tokens per request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_length: Option<Histogram>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_length: Option<Histogram>,
}

impl EngineReading {
    /// A page that tells nothing.
    pub fn nothing(at: Timestamp) -> Self {
        Self {
            at,
            running: None,
            waiting: None,
            kv_usage: None,
            requests: None,
            prompt_tokens: None,
            output_tokens: None,
            preemptions: None,
            prefix_queries: None,
            prefix_hits: None,
            e2e_latency: None,
            time_to_first_token: None,
            inter_token_latency: None,
            prompt_length: None,
            output_length: None,
        }
    }
}

/// A cumulative Prometheus histogram.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Histogram {
    pub sum: f64,
    pub count: f64,
    /// (upper bound, cumulative count), ascending; the +Inf bucket is `count`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<(f64, f64)>,
}

impl Histogram {
    /// The `q` quantile by linear interpolation inside its bucket, as Prometheus's `histogram_quantile` does;
    /// the last finite bound where it falls into +Inf; `None` without observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let (last_bound, _) = self.buckets.last()?;
        if self.count <= 0.0 || !self.count.is_finite() {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * self.count;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bound, cumulative) in &self.buckets {
            if *cumulative >= rank {
                let inside = cumulative - below;
                let share = if inside > 0.0 { (rank - below) / inside } else { 1.0 };
                return Some(lower + (bound - lower) * share);
            }
            (below, lower) = (*cumulative, *bound);
        }
        Some(*last_bound)
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn quantiles_follow_prometheus() {
        let h = Histogram {
            sum: 30.0,
            count: 10.0,
            buckets: vec![(1.0, 2.0), (2.0, 8.0), (4.0, 9.0)],
        };
        assert_eq!(h.quantile(0.5), Some(1.5));
        assert_eq!(h.quantile(0.99), Some(4.0)); // beyond the last finite bound
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
