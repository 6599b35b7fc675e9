//! What devices and servers did over the time that was read.

use crate::snapshot::figure::Figure;
use jiff::Timestamp;

/// What a device did over the judged time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuActivity {
    /// Seconds between the first and the last sample; 0: one sample.
    pub window_seconds: f64,
    pub history: bool,
    /// GR_ENGINE where there is one, else GPU_UTIL.
    pub engine_active: Option<Figure>,
    pub gpu_util: Option<Figure>,
    /// max(SM, tensor, DRAM) per sample.
    pub busy: Option<Figure>,
    pub tensor: Option<Figure>,
    pub dram: Option<Figure>,
    pub power_watts: Option<Figure>,
    /// Bytes.
    pub memory_used: Option<Figure>,
    /// The source says that a pod holds it, or that none does; `None`: it does not tell holders.
    pub held: Option<bool>,
    /// Seconds since anything was seen to compute; the whole window where nothing was. `None`: not told.
    pub at_rest_seconds: Option<f64>,
    /// The value is the device's and several pods share it: it is nobody's own.
    pub shared: bool,
    /// The exporter names the slot's holder, or nobody else could hold the device. Otherwise it may be a neighbour's.
    pub attributed: bool,
}

/// Where load figures come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObservedBy {
    /// No engine figures at all.
    #[default]
    Nothing,
    /// One sample, or passes seconds apart.
    Live,
    /// Counters since the process started.
    LifetimeCounters,
    /// Aggregates of a Prometheus-compatible store over the window.
    History,
}

/// One live look at a server's queue and cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pass {
    pub kv_usage: f64,
    pub waiting: f64,
    pub running: f64,
}

/// What a workload or replica did. Rates are per second, summed over the replicas' engines for a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub by: ObservedBy,
    /// Seconds judged: the window, the process's life, or the time between passes.
    pub window_seconds: f64,
    /// Share of the window, and of the replicas, that the figures cover, 0–1.
    pub coverage: Option<f64>,
    /// Increase over the window.
    pub requests: Option<f64>,
    pub prompt_tokens: Option<f64>,
    pub output_tokens: Option<f64>,
    pub preemptions: Option<f64>,
    pub requests_per_second: Option<Figure>,
    pub prompt_tokens_per_second: Option<Figure>,
    pub output_tokens_per_second: Option<Figure>,
    pub running: Option<Figure>,
    pub waiting: Option<Figure>,
    /// Fullest engine.
    pub kv_usage: Option<Figure>,
    /// The looks that told all three figures; only of a replica.
    pub passes: Vec<Pass>,
    pub preemptions_per_hour: Option<Figure>,
    /// max(SM, tensor, DRAM) over the workload's GPUs.
    pub gpu_busy: Option<Figure>,
    /// Seconds.
    pub time_to_first_token_p95: Option<f64>,
    pub inter_token_latency_p95: Option<f64>,
    /// Of a mean, where nothing tells how times are spread.
    pub latency_by_mean: bool,
    /// Σ of end-to-end latencies over the window, seconds: ÷ window = mean concurrency (Little's law).
    pub e2e_latency_sum: Option<f64>,
    /// Tokens per request, from histograms.
    pub prompt_length_p50: Option<f64>,
    pub prompt_length_p95: Option<f64>,
    pub output_length_p50: Option<f64>,
    pub output_length_p95: Option<f64>,
    /// Prefix cache hits ÷ queries.
    pub prefix_hit_rate: Option<f64>,
    /// CPU used by the GPU container ÷ its limit; without one, how full its machine is.
    pub cpu_share: Option<Figure>,
    pub cpu_throttled: Option<Figure>,
    pub asleep: Option<bool>,
    /// Only with history, and only for workloads.
    pub bins: Option<Box<Bins>>,
}

/// What only bins over a window tell. Each `None`: not known.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(dead_code, reason = "over-replicated reads the replica figures")]
pub struct Bins {
    /// Length of one bin, seconds.
    pub bin_seconds: f64,
    /// Bins (replica by replica) with a request running.
    pub traffic: Option<f64>,
    /// Of those, with the cache full and requests waiting or preempted.
    pub kv_bad: Option<f64>,
    /// Serving replicas over time; [`Observed::running`] and the rates are their sums, bin by bin.
    pub replicas: Option<Figure>,
    /// R_low: the 5th percentile of the replicas.
    pub replicas_low: Option<f64>,
    /// Σ over replicas of their KV use at the same time: × one replica's capacity = KV tokens.
    pub kv_usage_sum: Option<Figure>,
    /// C: most output tokens/s that one replica served in a bin with nothing waiting and KV use not above 0.8.
    pub replica_capacity: Option<f64>,
    /// Bins with requests in which CPU was short and the GPU not busy; how busy it was then, 0–1.
    pub starved: Option<f64>,
    pub starved_busy: Option<f64>,
    /// Other bins with requests; the middle of how busy the GPU was in them.
    pub fed: Option<f64>,
    pub fed_busy: Option<f64>,
    /// GR_ENGINE (else GPU_UTIL) of the busiest GPU, dead pods' time included.
    pub gpu_engine: Option<Figure>,
    pub restarts: Option<f64>,
    pub oom_kills: Option<f64>,
    /// Restarts in error soon after a full cache or a queue.
    pub crashes_under_pressure: Option<f64>,
    /// The bins were counted by other limits than the policy's: they do not say what it asks.
    pub kv_by_other_limits: bool,
    pub starved_by_other_limits: bool,
    /// Work of each hour, oldest first; the last hour ends at `hourly_end`. `None` inside: no sample.
    pub hourly: Vec<Option<f64>>,
    pub hourly_end: Timestamp,
}
