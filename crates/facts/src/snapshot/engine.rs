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

    /// A quantile of times, which no coarse bucket moves further than the sum of what was observed allows: those in its bucket
    /// have a mean of at most (sum - the lower bounds of all others) / their number, and from the bucket's lower bound on they are
    /// taken to fall off exponentially, which of all shapes with that mean says least. Without buckets all are in one.
    pub fn time(&self, q: f64) -> Option<f64> {
        let plain = self.quantile(q);
        let told = self.sum > 0.0 && self.sum.is_finite() && self.count > 0.0 && self.count.is_finite();
        if !told {
            return plain;
        }
        let rank = q.clamp(0.0, 1.0) * self.count;
        let (mut below, mut lower, mut others) = (0.0, 0.0, 0.0);
        let mut own: Option<(f64, f64, f64)> = None;
        for (bound, cumulative) in self.buckets.iter().copied().chain([(f64::INFINITY, self.count)]) {
            let inside = (cumulative - below).max(0.0);
            if own.is_none() && cumulative >= rank {
                own = Some((lower, below, inside));
            } else {
                others += inside * lower;
            }
            (below, lower) = (cumulative, bound);
        }
        let (lower, below, inside) = own.filter(|(_, _, inside)| *inside > 0.0)?;
        let beyond = ((self.sum - others) / inside - lower).max(0.0);
        // Of those in the bucket so many are below; of the last one there is no more.
        let share = ((rank - below) / inside).clamp(0.0, 1.0 - 1e-3);
        let by_sum = lower - beyond * (1.0 - share).ln();
        Some(plain.map_or(by_sum, |p| p.min(by_sum)))
    }

    /// Only how many there were and their sum: of how they are spread nothing is told.
    pub fn is_mean_only(&self) -> bool {
        self.buckets.is_empty()
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

    #[test]
    fn a_coarse_bucket_moves_no_time_further_than_the_sum_allows() {
        let of = |buckets: &[(f64, f64)], mean: f64| Histogram {
            sum: mean * 1000.0,
            count: 1000.0,
            buckets: buckets.to_vec(),
        };
        let p95 = |h: &Histogram| h.time(0.95).unwrap();
        // 11 to 12 ms in a bucket of 10 to 25: interpolated 24.25 ms.
        let coarse = of(&[(0.01, 0.0), (0.025, 1000.0), (0.05, 1000.0)], 0.0115);
        assert!((coarse.quantile(0.95).unwrap() - 0.024_25).abs() < 1e-9);
        assert!((0.012..0.0146).contains(&p95(&coarse)), "{}", p95(&coarse));
        // A mean in the bucket's upper half says nothing that interpolation does not.
        let high = of(&[(0.01, 0.0), (0.025, 1000.0)], 0.02);
        assert_eq!(p95(&high), high.quantile(0.95).unwrap());
        // What lies below and above has its share of the sum.
        let spread = of(&[(0.01, 500.0), (0.025, 990.0), (0.05, 1000.0)], 0.0125);
        assert!(p95(&spread) <= spread.quantile(0.95).unwrap() && p95(&spread) > 0.01);
        // Without a sum, and without buckets.
        assert_eq!(of(&[(0.01, 0.0), (0.025, 1000.0)], 0.0).time(0.95), Some(0.024_25));
        assert!((p95(&of(&[], 0.01)) - 0.01 * 20f64.ln()).abs() < 1e-9);
        assert_eq!(Histogram::default().time(0.95), None);
    }
}
