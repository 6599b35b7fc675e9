//! Thresholds and intent: built in ← policy file ← flags, validated into one type that the checks read.

/// Everything that can be tuned. Every number here is a key of the policy file (R10); the defaults and their sources
/// are those of the check definitions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) thresholds: Thresholds,
}

/// The checks' numbers. "ours" = no published source.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Thresholds {
    /// Free GPUs per pool that are kept on purpose (ours: 0).
    pub(crate) free_gpu_allowance: u64,
    /// A node younger than this is not judged, seconds (ours: 60 min).
    pub(crate) node_grace_seconds: u64,
    /// A pod Ready for less than this is not judged, seconds (ours: 60 min).
    pub(crate) pod_grace_seconds: u64,
    /// A pending pod that fits a free GPU excuses it for this long, seconds (ours: 10 min).
    pub(crate) pending_wait_seconds: u64,
    /// Lost devices and NotReady nodes count after this, seconds (ours: 1 h).
    pub(crate) unhealthy_seconds: u64,
    /// Cordons count after this, seconds (ours: 24 h).
    pub(crate) cordon_seconds: u64,
    /// A bound pod that is not Ready counts as stuck after this, seconds (ours: 60 min).
    pub(crate) stuck_seconds: u64,
    /// CrashLoopBackOff counts from this many restarts (ours: 5).
    pub(crate) stuck_restarts: u64,
    /// Weights load at this rate at worst, bytes per second (ours: 0.2 GB/s); raises the floor of "stuck".
    pub(crate) load_bytes_per_second: f64,
    /// Inactivity and sizing need this much life, seconds (24 h).
    pub(crate) minimum_window_seconds: u64,
    /// Idleness shorter than the minimum window but at least this is estimated, seconds (1 h).
    pub(crate) short_window_seconds: u64,
    /// Sizing is measured from this much history, seconds (7 d).
    pub(crate) measured_sizing_seconds: u64,
    /// Requests per hour that still count as no work; 0, never raised silently.
    pub(crate) idle_max_requests_per_hour: f64,
    /// Power p95 above this share of TDP vetoes idleness (gpu-pruner: 150 W of 400 W).
    pub(crate) idle_power_share: f64,
    /// The same for L4 and T4, whose idle power is a larger share of their TDP.
    pub(crate) idle_power_share_small: f64,
    /// Tensor or DRAM activity above this backs the power veto.
    pub(crate) idle_activity: f64,
    /// Non-servers: engine activity at or under this is idle (1 %).
    pub(crate) idle_gpu_activity: f64,
    /// A candidate must save at least this share of the cost held (ours: 20 %).
    pub(crate) min_saving_share: f64,
    /// and at least this, USD/h (ours: $0.25).
    pub(crate) min_saving_usd: f64,
    /// KV capacity ≥ this × the observed peak (ours: 1.3).
    pub(crate) kv_headroom: f64,
    /// Throughput ≥ this × p95 (ours: 1.5).
    pub(crate) throughput_headroom: f64,
    /// Inter-token latency may grow to this × the observed p95, or to `slo_itl_seconds`.
    pub(crate) latency_growth: f64,
    /// 50 ms (ours, of the order of MLPerf's server limits).
    pub(crate) slo_itl_seconds: f64,
    /// 2 s (ours).
    pub(crate) slo_ttft_seconds: f64,
    /// Replicas kept for load: this × the busiest time (ours: 1.3).
    pub(crate) replica_headroom: f64,
    /// Never advise fewer replicas than this where there are at least as many now (ours: 2).
    pub(crate) min_replicas: u64,
    /// KV use above which a replica's throughput is not its capacity (llm-d: 0.80).
    pub(crate) capacity_kv_usage: f64,
    /// A bin is bad from this KV use (0.84–1.0 seen under real pressure).
    pub(crate) kv_pressure_usage: f64,
    /// Bad bins needed (ours: 3).
    pub(crate) kv_pressure_bins: u64,
    /// Share of bins with traffic that must be bad (ours: 5 %).
    pub(crate) kv_pressure_share: f64,
    /// or preemptions per finished request (ours: 1 %).
    pub(crate) preemption_share: f64,
    /// Throttled periods ÷ periods (kubernetes-mixin CPUThrottlingHigh: 25 %).
    pub(crate) cpu_throttled_share: f64,
    /// CPU use ÷ limit (SageMaker Debugger: 90 %).
    pub(crate) cpu_saturated_share: f64,
    /// GPU busy under this while requests run (ours: 0.35).
    pub(crate) gpu_starved: f64,
    /// Prices older than this are estimated, days (R6: 180).
    pub(crate) stale_price_days: u64,
    /// Stranding: vCPU one GPU's server needs where the tier's own pods do not tell (vLLM: 2 × (2 + 1)).
    pub(crate) stranded_vcpu_per_gpu: f64,
    /// Pods of a tier needed before its own requests are believed (ours: 5).
    pub(crate) stranded_min_pods: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            free_gpu_allowance: 0,
            node_grace_seconds: HOUR,
            pod_grace_seconds: HOUR,
            pending_wait_seconds: 600,
            unhealthy_seconds: HOUR,
            cordon_seconds: 24 * HOUR,
            stuck_seconds: HOUR,
            stuck_restarts: 5,
            load_bytes_per_second: 0.2e9,
            minimum_window_seconds: 24 * HOUR,
            short_window_seconds: HOUR,
            measured_sizing_seconds: 7 * 24 * HOUR,
            idle_max_requests_per_hour: 0.0,
            idle_power_share: 0.4,
            idle_power_share_small: 0.6,
            idle_activity: 0.02,
            idle_gpu_activity: 0.01,
            min_saving_share: 0.20,
            min_saving_usd: 0.25,
            kv_headroom: 1.3,
            throughput_headroom: 1.5,
            latency_growth: 1.2,
            slo_itl_seconds: 0.050,
            slo_ttft_seconds: 2.0,
            replica_headroom: 1.3,
            min_replicas: 2,
            capacity_kv_usage: 0.80,
            kv_pressure_usage: 0.95,
            kv_pressure_bins: 3,
            kv_pressure_share: 0.05,
            preemption_share: 0.01,
            cpu_throttled_share: 0.25,
            cpu_saturated_share: 0.90,
            gpu_starved: 0.35,
            stale_price_days: 180,
            stranded_vcpu_per_gpu: 6.0,
            stranded_min_pods: 5,
        }
    }
}
