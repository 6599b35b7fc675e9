//! Aggregates of a Prometheus-compatible store over the judged window: what a query gave, by device, pod and workload.
//!
//! Everything is computed on the server in bins (5 minutes, coarser for large fleets): no raw points are kept.

use super::engine::Histogram;
pub use super::figure::Figure;
use super::gpu::{MigInstance, PodName};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One cluster's history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct History {
    /// "monitoring/thanos-query:9090", or the host of the URL that the user gave; never credentials.
    pub store: String,
    /// prometheus, thanos, victoriametrics, mimir, … as the store says.
    pub flavour: String,
    /// The matcher that every question had (`cluster="prod"`); `None`: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The window is `[end - window_seconds, end]`.
    #[schemars(with = "String")]
    pub end: Timestamp,
    pub window_seconds: u64,
    pub bin_seconds: u64,
    /// What a bad bin was when they were counted.
    pub limits: BinLimits,
    /// Devices, one entry for each holder in the window: a dead pod's time is not its successor's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuHistory>,
    /// Pods by their own name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<LoadHistory>,
    /// Pods together with their dead predecessors, by the name without the part that a controller makes up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<LoadHistory>,
    /// Devices handed out by node, as kube-state-metrics tells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeHistory>,
    /// Spend's quantity and work in this window, then in the one before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<UsageWindow>,
}

/// Limits that the store counted joint bins by: aggregates cannot be counted again by others. The policy's thresholds
/// when the history was read; a history without them was counted by the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BinLimits {
    /// A cache is full from this use.
    pub kv_full: f64,
    /// A replica's capacity is read in bins at or under this use.
    pub kv_calm: f64,
    /// CPU is short from this share of throttled periods,
    pub throttled: f64,
    /// or from this use ÷ limit.
    pub saturated: f64,
    /// A GPU waits under this activity,
    pub starved: f64,
    /// while requests queue, or at least this share of the p95 of those running run.
    pub loaded: f64,
    /// Seconds from pressure to the restart that it explains.
    pub crash_seconds: u64,
}

impl Default for BinLimits {
    fn default() -> Self {
        Self {
            kv_full: 0.95,
            kv_calm: 0.80,
            throttled: 0.25,
            saturated: 0.90,
            starved: 0.35,
            loaded: 0.5,
            crash_seconds: 300,
        }
    }
}

/// A device or MIG instance while one pod held it, or while nobody did. Ratios are 0–1 whatever the exporter's generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GpuHistory {
    pub uuid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mig: Option<MigInstance>,
    /// The node, where a label names one that the cluster has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<PodName>,
    /// The first and the last bin with a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub first: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last: Option<Timestamp>,
    /// The last bin in which anything computed (GR_ENGINE, else GPU_UTIL, above 1 %). `None`: not asked, or never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_active: Option<Timestamp>,
    /// Bins with a value in the last 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_bins: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_util: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gr_engine: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sm_active: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dram: Option<Figure>,
    /// max(SM, tensor, DRAM) of each bin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_watts: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<Figure>,
}

/// A pod's, or a workload's, load. Rates are per second and summed over engines and replicas bin by bin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LoadHistory {
    pub namespace: String,
    /// The pod's name, or the workload's stem ("chat" of "chat-6d5f7c8b9d-x7k2p").
    pub name: String,
    /// The first bin with a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub first: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Figure>,
    /// Fullest engine, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_usage: Option<Figure>,
    /// Σ over replicas of their KV use: 1.0 = one replica's cache full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_usage_sum: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preemptions: Option<Figure>,
    /// Increase over the window, resets allowed for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_total: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_total: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens_total: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preemptions_total: Option<f64>,
    /// Observations of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2e_latency: Option<Histogram>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_first_token: Option<Histogram>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inter_token_latency: Option<Histogram>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_length: Option<Histogram>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_length: Option<Histogram>,
    /// Bins (pod by pod) with a request running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_bins: Option<f64>,
    /// Of those, with the cache full and requests waiting or preempted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_bad_bins: Option<f64>,
    /// Replicas that answered, over time; `replicas_low` is the 5th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas_low: Option<f64>,
    /// Most output tokens/s that one replica served in a bin without a queue and with its cache not near full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_capacity: Option<f64>,
    /// CPU used ÷ limit of the GPU containers; of a pod without a limit how full its whole machine is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_share: Option<Figure>,
    /// Throttled periods ÷ periods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_throttled: Option<Figure>,
    /// Bins with requests in which the CPU was short and the GPU not busy, and how busy it was then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starved_bins: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starved_busy: Option<f64>,
    /// Other bins with requests, and the middle of how busy the GPU was in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fed_bins: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fed_busy: Option<f64>,
    /// max(SM, tensor, DRAM), mean over the GPUs held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_busy: Option<Figure>,
    /// GR_ENGINE (else GPU_UTIL) of the busiest GPU held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_engine: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<f64>,
    /// Restarts that ended in an error, not for host memory, soon after a full cache or a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crashes_under_pressure: Option<f64>,
    /// Requests (tokens where requests are not counted) of each hour, oldest first; the last ends at the window's end.
    /// `None` inside: no sample in that hour.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hourly: Vec<Option<f64>>,
}

/// Devices handed out on one node, over the last 24 hours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeHistory {
    pub node: String,
    /// At most so many were handed out in 80 % of the time.
    pub allocated_p80: f64,
    pub bins: f64,
}

/// What was held and what was done in one window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UsageWindow {
    #[schemars(with = "String")]
    pub start: Timestamp,
    #[schemars(with = "String")]
    pub end: Timestamp,
    /// Bins with any device row.
    pub bins: f64,
    pub held: Vec<HeldGpus>,
    pub work: Vec<WorkDone>,
}

/// GPU-bins of one kind of device under one workload; an empty name: held by nobody.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HeldGpus {
    pub namespace: String,
    pub name: String,
    /// As the exporter names it.
    pub model: String,
    /// MIG profile; empty: the whole device.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub profile: String,
    /// Devices × bins.
    pub gpu_bins: f64,
    /// Σ of activity × bins: GPU-busy time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_bins: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WorkDone {
    pub namespace: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<f64>,
}

/// Characters of the parts that controllers make up (k8s.io/apimachinery, util/rand: no vowels, no 0, 1, 3).
const MADE_UP: &str = "bcdfghjklmnpqrstvwxz2456789";

/// The pod's name without what its controller made up: "-HASH-XXXXX" of a Deployment, "-XXXXX" of a Job or DaemonSet,
/// "-N" of a StatefulSet. The store computes the same with [`STEM_PATTERN`].
pub fn stem(pod: &str) -> &str {
    let made_up = |part: &str, from: usize, to: usize| {
        (from..=to).contains(&part.len()) && part.chars().all(|c| MADE_UP.contains(c))
    };
    let Some((rest, last)) = pod.rsplit_once('-').filter(|(rest, _)| !rest.is_empty()) else {
        return pod;
    };
    let number = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    if !number && !made_up(last, 5, 5) {
        return pod;
    }
    match rest.rsplit_once('-') {
        Some((stem, hash)) if !stem.is_empty() && made_up(hash, 6, 10) => stem,
        _ => rest,
    }
}

/// [`stem`] as a regular expression of PromQL's `label_replace` (RE2, anchored at both ends): it matches every name.
/// Of the characters that a pod's name may have (RFC 1123) these are not made up: short, as it stands in many places.
pub const STEM_PATTERN: &str = "(.+?)((-[^aeiouy013.-]{6,10})?-([^aeiouy013.-]{5}|[0-9]+))?";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_lose_what_controllers_made_up() {
        for (pod, expected) in [
            ("chat-6d5f7c8b9d-x7k2p", "chat"),
            ("chat-api-6d5f7c8b9d-x7k2p", "chat-api"),
            ("llama-3-70b-0", "llama-3-70b"),
            ("train-job-x7k2p", "train-job"),
            ("notebook", "notebook"),
            ("my-notebook", "my-notebook"),
            ("web-bcdfgh-6d5f7c8b9d-x7k2p", "web-bcdfgh"),
        ] {
            assert_eq!(stem(pod), expected, "{pod}");
        }
    }
}
