//! Every number that the checks judge by (R10), as one table: a row is a field, its default, its key in the policy
//! file, its line in `--print-policy` and its entry in the policy's JSON Schema.

use super::raw::Misfit;
use crate::snapshot::history::BinLimits;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

/// What a threshold counts, which says what values make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Count,
    Seconds,
    Days,
    /// 0 to 1.
    Share,
    /// At least 1.
    Factor,
    Usd,
    PerHour,
    BytesPerSecond,
    Cores,
    /// A fraction of a second, or more.
    Time,
}

impl Unit {
    /// Why `value` cannot be one; `None`: it can.
    fn refuses(self, value: f64) -> Option<&'static str> {
        let fits = value.is_finite()
            && match self {
                Self::Share => (0.0..=1.0).contains(&value),
                Self::Factor => value >= 1.0,
                Self::BytesPerSecond | Self::Time | Self::Cores => value > 0.0,
                Self::Count | Self::Seconds | Self::Days | Self::Usd | Self::PerHour => value >= 0.0,
            };
        (!fits).then_some(match self {
            Self::Share => "a share from 0 to 1",
            Self::Factor => "a factor of at least 1",
            Self::BytesPerSecond | Self::Time | Self::Cores => "a number above 0",
            Self::Count | Self::Seconds | Self::Days | Self::Usd | Self::PerHour => "a number of at least 0",
        })
    }
}

/// A row of the table.
pub(crate) struct Key {
    /// The check, or "shared".
    pub section: &'static str,
    pub name: &'static str,
    /// What it means and where the default comes from; "ours" = no published source.
    pub doc: &'static [&'static str],
    pub get: fn(&Thresholds) -> f64,
}

macro_rules! field_type {
    (Count) => {
        u64
    };
    (Seconds) => {
        u64
    };
    (Days) => {
        u64
    };
    ($other:ident) => {
        f64
    };
}

macro_rules! thresholds {
    ($( $raw:ident $section:ident $id:literal { $( $(#[doc = $doc:literal])+ $key:ident: $unit:ident = $default:expr, )* } )*) => {
        /// The checks' numbers. "ours" = no published source.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Thresholds {
            $($( $(#[doc = $doc])+ pub $key: field_type!($unit), )*)*
        }

        impl Default for Thresholds {
            fn default() -> Self {
                Self { $($( $key: $default, )*)* }
            }
        }

        /// All rows, in the order of the policy file.
        pub(crate) const KEYS: &[Key] = &[
            $($( Key {
                section: $id,
                name: stringify!($key),
                doc: &[$($doc),+],
                #[allow(clippy::redundant_closure_call, clippy::unnecessary_cast)]
                get: |t| t.$key as f64,
            }, )*)*
        ];

        /// `[thresholds]` as written: every key optional.
        #[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct RawThresholds {
            $( #[serde(rename = $id)] $section: $raw, )*
        }

        $(
            #[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
            #[serde(default, deny_unknown_fields)]
            #[allow(clippy::struct_field_names, reason = "keys are named as people say them, in whatever table")]
            struct $raw {
                $( $(#[doc = $doc])+ #[schemars(schema_with = "optional_number")] $key: Option<Spanned<field_type!($unit)>>, )*
            }
        )*

        impl RawThresholds {
            /// Overlays what is written; tells `seen` each key that was.
            pub(super) fn apply(self, to: &mut Thresholds, mut seen: impl FnMut(&'static str, &'static str)) -> Result<(), Misfit> {
                $($(
                    if let Some(written) = self.$section.$key {
                        let (span, value) = (written.span(), written.into_inner());
                        #[allow(clippy::unnecessary_cast)]
                        if let Some(expected) = Unit::$unit.refuses(value as f64) {
                            return Err(Misfit { span, why: format!("{} = {value}: {expected} is expected", stringify!($key)) });
                        }
                        to.$key = value;
                        seen($id, stringify!($key));
                    }
                )*)*
                Ok(())
            }
        }
    };
}

impl Thresholds {
    /// Those that joint bins of a history are counted by.
    pub fn bin_limits(&self) -> BinLimits {
        BinLimits {
            kv_full: self.kv_pressure_usage,
            kv_calm: self.capacity_kv_usage,
            throttled: self.cpu_throttled_share,
            saturated: self.cpu_saturated_share,
            starved: self.gpu_starved,
            loaded: self.starved_running_share,
            crash_seconds: self.gpu_oom_seconds,
        }
    }
}

fn optional_number(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": ["number", "null"], "minimum": 0 })
}

thresholds! {
    Shared shared "shared" {
        /// A node younger than this is not judged, seconds (ours: 60 min).
        node_grace_seconds: Seconds = 3600,
        /// A pod Ready for less than this is not judged, seconds (ours: 60 min).
        pod_grace_seconds: Seconds = 3600,
        /// Inactivity and sizing need this much life, seconds (24 h).
        minimum_window_seconds: Seconds = 24 * 3600,
        /// Idleness shorter than the minimum window but at least this is estimated, seconds (1 h).
        short_window_seconds: Seconds = 3600,
        /// Sizing is measured from this much history, seconds (7 d).
        measured_sizing_seconds: Seconds = 7 * 24 * 3600,
        /// Prices older than this are estimated, days (R6: 180).
        stale_price_days: Days = 180,
        /// Weights load at this rate at worst, bytes per second (ours: 0.2 GB/s); raises the floor of "stuck".
        load_bytes_per_second: BytesPerSecond = 0.2e9,
    }
    DarkCapacity dark_capacity "dark-capacity" {
        /// Free GPUs per pool that are kept on purpose (ours: 0).
        free_gpu_allowance: Count = 0,
        /// A pending pod that fits a free GPU excuses it for this long, seconds (ours: 10 min).
        pending_wait_seconds: Seconds = 600,
        /// Lost devices and NotReady nodes count after this, seconds (ours: 1 h).
        unhealthy_seconds: Seconds = 3600,
        /// Cordons count after this, seconds (ours: 24 h).
        cordon_seconds: Seconds = 24 * 3600,
        /// A bound pod that is not Ready counts as stuck after this, seconds (ours: 60 min).
        stuck_seconds: Seconds = 3600,
        /// CrashLoopBackOff counts from this many restarts (ours: 5).
        stuck_restarts: Count = 5,
        /// Requests per hour that still count as no work; 0, never raised silently.
        idle_max_requests_per_hour: PerHour = 0.0,
        /// Power p95 above this share of TDP vetoes idleness (gpu-pruner: 150 W of 400 W).
        idle_power_share: Share = 0.4,
        /// The same for cards of up to 150 W (T4, L4, A10), whose idle power is a larger share of their TDP.
        idle_power_share_small: Share = 0.6,
        /// Tensor or DRAM activity above this backs the power veto.
        idle_activity: Share = 0.02,
        /// Non-servers: engine activity at or under this is idle (1 %).
        idle_gpu_activity: Share = 0.01,
        /// Jobs that were given their GPUs by index, and have not used any since they began, are idle after this (Job Defense Shield
        /// cancels at 120 min).
        idle_from_start_seconds: Seconds = 7200,
        /// The same of those that worked before (Job Defense Shield: 300 min).
        idle_sliding_seconds: Seconds = 18_000,
        /// A person in front of one GPU is left alone for so long (Job Defense Shield: 8 h).
        idle_interactive_seconds: Seconds = 28_800,
        /// Jobs and unknown pods that worked before are idle after this without activity, seconds (ours: 24 h).
        idle_stretch_seconds: Seconds = 24 * 3600,
        /// Servers and notebooks, which people leave over a weekend, after this, seconds (ours: 96 h).
        idle_stretch_of_people_seconds: Seconds = 96 * 3600,
        /// Memory that nobody holds is what is left of dead processes after so long without activity, seconds (ours: 1 h).
        memory_held_seconds: Seconds = 3600,
    }
    StrandedGpu stranded_gpu "stranded-gpu" {
        /// Stranding: vCPU one GPU's server needs where the tier's own pods do not tell (vLLM: 2 × (2 + 1)).
        stranded_vcpu_per_gpu: Cores = 6.0,
        /// Pods of a tier needed before its own requests are believed (ours: 5).
        stranded_min_pods: Count = 5,
        /// GPU-hours beside an owner's jobs that what these asked for left unusable (ours: 24, as of idle ones).
        past_asked_gpu_hours: Count = 24,
    }
    OversizedTier oversized_tier "oversized-tier" {
        /// A candidate must save at least this share of the cost held (ours: 20 %).
        min_saving_share: Share = 0.20,
        /// and at least this, USD/h (ours: $0.25).
        min_saving_usd: Usd = 0.25,
        /// KV capacity ≥ this × the observed peak (ours: 1.3).
        kv_headroom: Factor = 1.3,
        /// Throughput ≥ this × p95 (ours: 1.5).
        throughput_headroom: Factor = 1.5,
        /// Inter-token latency may grow to this × the observed p95, or to `slo_itl_seconds`.
        latency_growth: Factor = 1.2,
        /// 50 ms (ours, of the order of MLPerf's server limits).
        slo_itl_seconds: Time = 0.050,
        /// 2 s (ours).
        slo_ttft_seconds: Time = 2.0,
        /// Without history: peak concurrency and rates are this × their mean since start (ours: 3),
        peak_factor: Factor = 3.0,
        /// and concurrency this many requests more (ours: 3).
        peak_extra: Count = 3,
        /// Prefix cache hits ÷ queries above this: spare KV is the cache, so a smaller one is only estimated (ours: 0.3).
        prefix_hit_rate: Share = 0.3,
        /// Host memory a replica needs beside its weights, GiB (ours: 8, for the runtime and page cache).
        host_memory_gib: Count = 8,
    }
    OverReplicated over_replicated "over-replicated" {
        /// Replicas kept for load: this × the busiest time (ours: 1.3).
        replica_headroom: Factor = 1.3,
        /// Never advise fewer replicas than this where there are at least as many now (ours: 2).
        min_replicas: Count = 2,
        /// Replicas needed from which a failed one is inside the headroom; below, one more is kept (ours: 4).
        failover_replicas: Count = 4,
        /// KV use above which a replica's throughput is not its capacity (llm-d: 0.80).
        capacity_kv_usage: Share = 0.80,
    }
    KvPressure kv_pressure "kv-pressure" {
        /// A bin is bad from this KV use (0.84–1.0 seen under real pressure).
        kv_pressure_usage: Share = 0.95,
        /// Bad bins needed (ours: 3).
        kv_pressure_bins: Count = 3,
        /// Share of bins with traffic that must be bad (ours: 5 %).
        kv_pressure_share: Share = 0.05,
        /// or preemptions per finished request (ours: 1 %).
        preemption_share: Share = 0.01,
        /// A restart in error this soon after a full cache or a queue is a likely GPU out-of-memory, seconds (ours: 5 min).
        gpu_oom_seconds: Seconds = 300,
        /// Such restarts in the window (ours: 1).
        gpu_oom_restarts: Count = 1,
    }
    CpuGpuImbalance cpu_gpu_imbalance "cpu-gpu-imbalance" {
        /// Throttled periods ÷ periods (kubernetes-mixin CPUThrottlingHigh: 25 %).
        cpu_throttled_share: Share = 0.25,
        /// CPU use ÷ limit (SageMaker Debugger: 90 %).
        cpu_saturated_share: Share = 0.90,
        /// GPU busy under this while requests run (ours: 0.35).
        gpu_starved: Share = 0.35,
        /// and requests queue, or at least this share of the p95 of running ones run (ours: half): no load is no starvation.
        starved_running_share: Share = 0.5,
        /// Bins of history in which that must be so (ours: 12, an hour of 5-minute bins).
        starved_bins: Count = 12,
        /// and their share of the bins with requests (ours: 10 %).
        starved_share: Share = 0.10,
    }
    IdleSchedule idle_schedule "idle-schedule" {
        /// Hours without a request that must follow one another (ours: 2 h).
        idle_run_hours: Count = 2,
        /// Hours of the week in such runs (ours: 20 h).
        idle_hours_per_week: Count = 20,
        /// Seconds from start to the first answer, beside loading the weights (ours: 130 s): taken off each run.
        cold_start_seconds: Seconds = 130,
    }
    CostGrowth cost_growth "cost-growth" {
        /// Spend above what the work would have cost before, as a share of spend (ours: 10 %).
        growth_share: Share = 0.10,
        /// and in USD/h (ours: $0.50).
        growth_usd: Usd = 0.50,
        /// A prompt token's work in output tokens (price ratio of public APIs; ours).
        prompt_token_weight: Share = 0.25,
    }
    SharingMismatch sharing_mismatch "sharing-mismatch" {
        /// A card that several pods share is crowded from this mean activity (ours: 0.9).
        shared_card_busy: Share = 0.9,
        /// Sharers are put together as long as their cards' activity adds up to this a card (ours: 0.7).
        shared_card_room: Share = 0.7,
    }
    CpuPods cpu_pods "cpu-pods-on-gpu-node" {
        /// Pods without a GPU that ask for this share of a GPU node's CPU or memory, or more, are named (ours: 25 %).
        cpu_pods_share: Share = 0.25,
    }
    LowUtilization low_utilization "low-utilization" {
        /// GPUs of jobs and notebooks with a mean activity up to this are named (Princeton's Job Defense Shield: 25 %).
        low_utilization_mean: Share = 0.25,
        /// GPU-hours of the window below which it does not matter (Job Defense Shield: 50).
        low_utilization_gpu_hours: Count = 50,
        /// Cards with this share of their memory taken are left out (ours: 0.8).
        low_utilization_memory: Share = 0.8,
        /// Of ended jobs: GPU-hours of an owner on GPUs that did nothing (Job Defense Shield: 24).
        past_idle_gpu_hours: Count = 24,
        /// and the part of its partitions' GPU-hours below which little use does not matter (Job Defense Shield: 2 %).
        past_share: Share = 0.02,
        /// GPU-hours of jobs that a smaller GPU would have carried (Job Defense Shield: 24).
        past_smaller_gpu_hours: Count = 24,
        /// Unused GPU-hours of time limits (Job Defense Shield: 1,000) and more,
        past_limit_gpu_hours: Count = 1000,
        /// of which at most this was used (Job Defense Shield: 0.2).
        past_limit_used: Share = 0.2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_without_limits_was_counted_by_the_defaults() {
        assert_eq!(Thresholds::default().bin_limits(), BinLimits::default());
    }
}
