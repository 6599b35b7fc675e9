//! The report as a document: what `--format json` prints (schema 1), and what every other format renders.

use crate::analyze::finding::{Confidence, Evidence, FindingKind, FixPlacement, Subject};
use crate::snapshot::{Gap, Source};
use crate::units::UsdPerHour;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(crate) const SCHEMA: u32 = 1;

/// A finished report. Numbers are plain JSON numbers, money is USD per hour; `null` is not known, never 0.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) tool: Tool,
    #[schemars(with = "String")]
    pub(crate) taken_at: Timestamp,
    pub(crate) window_seconds: Option<u64>,
    pub(crate) sources: Vec<Source>,
    pub(crate) totals: Totals,
    /// Sorted: recoverable, then at-risk, then trend; inside by `usd_per_hour` descending, unpriced ones last.
    pub(crate) findings: Vec<ReportFinding>,
    pub(crate) checks: Vec<CheckCoverage>,
    pub(crate) gates: Vec<Gate>,
    pub(crate) workloads: Vec<ReportWorkload>,
    pub(crate) nodes: Vec<ReportNode>,
    pub(crate) gaps: Vec<Gap>,
    /// `--group-by`; `null` without.
    #[serde(default)]
    pub(crate) groups: Option<Groups>,
    /// Findings of the baseline that are gone, with their money; `null` without `--baseline`.
    #[serde(default)]
    pub(crate) fixed: Option<Vec<Fixed>>,
    #[serde(default)]
    pub(crate) policy: PolicyUse,
}

/// The policy that the report was judged by.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PolicyUse {
    /// `null`: built in.
    pub(crate) file: Option<String>,
    pub(crate) suppressions: Vec<SuppressionUse>,
}

/// A suppression of the policy file, and whether it is still needed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SuppressionUse {
    pub(crate) check: String,
    pub(crate) subject: String,
    pub(crate) cluster: Option<String>,
    pub(crate) reason: String,
    /// The last day it holds.
    pub(crate) expires: Option<String>,
    /// In the policy file.
    pub(crate) line: u64,
    /// Findings that it suppressed.
    pub(crate) findings: u64,
    pub(crate) state: SuppressionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SuppressionState {
    Used,
    /// It matches no finding although everything was read and its check was run.
    Unused,
    /// Its last day is over: it suppresses nothing.
    Expired,
    /// It matches no finding, but its check was not run or a part of the fleet was not read.
    NotJudged,
}

/// Sums by one property; they add up to the totals.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Groups {
    /// namespace, workload, model, gpu, node, cluster, or a label's key.
    pub(crate) by: String,
    pub(crate) rows: Vec<Group>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) gpus: f64,
    pub(crate) spend_usd_per_hour: UsdPerHour,
    pub(crate) waste_usd_per_hour: UsdPerHour,
    pub(crate) at_risk_usd_per_hour: UsdPerHour,
}

/// A finding that the baseline has and this report has not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Fixed {
    pub(crate) id: String,
    pub(crate) check: String,
    pub(crate) title: String,
    /// As the baseline recorded it; `null`: had no price.
    pub(crate) usd_per_hour: Option<UsdPerHour>,
    /// Why nobody can say whether it is fixed; `null`: what it is about was judged, and it is gone.
    #[serde(default)]
    pub(crate) not_assessed: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// GPU counts are physical GPUs; MIG instances count as their fraction. The states add up to `gpus`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Totals {
    pub(crate) spend_usd_per_hour: UsdPerHour,
    /// now + reusable.
    pub(crate) waste_usd_per_hour: UsdPerHour,
    pub(crate) waste_now_usd_per_hour: UsdPerHour,
    pub(crate) waste_reusable_usd_per_hour: UsdPerHour,
    pub(crate) at_risk_usd_per_hour: UsdPerHour,
    /// Of priced spend; `null` without any.
    pub(crate) waste_percent: Option<f64>,
    /// R9; `null` where nodes could not be read.
    pub(crate) coverage_percent: Option<f64>,
    pub(crate) nodes: u64,
    pub(crate) workloads: u64,
    pub(crate) gpus: f64,
    pub(crate) gpus_allocated: f64,
    /// free + unhealthy + stuck + idle.
    pub(crate) gpus_dark: f64,
    pub(crate) gpus_free: f64,
    pub(crate) gpus_unhealthy: f64,
    pub(crate) gpus_stuck: f64,
    pub(crate) gpus_idle: f64,
    pub(crate) gpus_working: f64,
    pub(crate) gpus_unknown: f64,
    pub(crate) gpus_unpriced: f64,
    /// GPUs held by idle or stuck workloads ÷ allocated GPUs: the headline.
    pub(crate) allocated_without_traffic_percent: Option<f64>,
    /// Share of spend per price source; "unknown" is the share of GPUs without a price.
    pub(crate) price_sources: BTreeMap<String, f64>,
    /// The oldest catalogue date in use.
    pub(crate) prices_as_of: Option<String>,
}

/// R5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Grade {
    /// The node can go: the bill stops.
    Now,
    /// Somebody else can use the GPU; the bill stays.
    Reusable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    New,
    Baseline,
    Suppressed,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReportFinding {
    /// Stable fingerprint: no figures, no pod hashes, no node or context names.
    pub(crate) id: String,
    pub(crate) check: String,
    pub(crate) part: Option<String>,
    pub(crate) title: String,
    pub(crate) kind: FindingKind,
    /// `null` unless recoverable.
    pub(crate) grade: Option<Grade>,
    pub(crate) subject: Subject,
    /// The ranking figure; `null` where no price is known.
    pub(crate) usd_per_hour: Option<UsdPerHour>,
    pub(crate) waste_usd_per_hour: Option<UsdPerHour>,
    /// The part of the waste on nodes that can go; the rest is reusable. `grade` is `now` only where it is all of it.
    #[serde(default)]
    pub(crate) waste_now_usd_per_hour: Option<UsdPerHour>,
    pub(crate) at_risk_usd_per_hour: Option<UsdPerHour>,
    pub(crate) confidence: Confidence,
    pub(crate) confidence_reasons: Vec<String>,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) claims: Vec<ReportClaim>,
    pub(crate) fix: ReportFix,
    pub(crate) status: Status,
    /// Why it is suppressed, or new although the baseline has it.
    #[serde(default)]
    pub(crate) status_reason: Option<String>,
    /// Who owns the subject, by the policy's ownership labels.
    #[serde(default)]
    pub(crate) owner: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReportClaim {
    pub(crate) node: String,
    /// UUID, else "slot-0".
    pub(crate) gpu: String,
    pub(crate) usd_per_hour: Option<UsdPerHour>,
    pub(crate) vacates: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReportFix {
    pub(crate) summary: String,
    pub(crate) placement: Option<FixPlacement>,
    pub(crate) patch: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CheckCoverage {
    pub(crate) id: String,
    pub(crate) assessed_gpus: f64,
    pub(crate) assessed_usd_per_hour: UsdPerHour,
    pub(crate) not_assessed: Vec<CheckGap>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CheckGap {
    pub(crate) reason: String,
    pub(crate) gpus: f64,
    pub(crate) usd_per_hour: UsdPerHour,
    pub(crate) remedy: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Gate {
    /// The flag without dashes: "max-waste".
    pub(crate) name: String,
    pub(crate) limit: f64,
    /// `null`: could not be computed; then the exit code is 3.
    pub(crate) actual: Option<f64>,
    pub(crate) breached: bool,
    /// Dollars of findings under the gate's confidence, which it did not count.
    pub(crate) left_out_usd_per_hour: UsdPerHour,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReportWorkload {
    pub(crate) cluster: Option<String>,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) engine: Option<String>,
    pub(crate) engine_version: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) replicas: Option<u64>,
    pub(crate) gpus_per_replica: Option<u64>,
    pub(crate) gpu: Option<String>,
    pub(crate) tensor_parallel: Option<u64>,
    pub(crate) pipeline_parallel: Option<u64>,
    pub(crate) data_parallel: Option<u64>,
    pub(crate) max_model_len: Option<u64>,
    pub(crate) max_num_seqs: Option<u64>,
    pub(crate) quantization: Option<String>,
    pub(crate) dtype: Option<String>,
    pub(crate) kv_cache_dtype: Option<String>,
    pub(crate) gpu_memory_utilization: Option<f64>,
    /// prefill or decode, of a server that does one of them.
    #[serde(default)]
    pub(crate) role: Option<String>,
    /// What serves one model together, and is idle only together: the sides of a prefill/decode split.
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[serde(default)]
    pub(crate) prefix_caching: Option<bool>,
    #[serde(default)]
    pub(crate) lora: Option<bool>,
    #[serde(default)]
    pub(crate) speculative: Option<bool>,
    #[serde(default)]
    pub(crate) sleep_mode: Option<bool>,
    /// The server says that its weights are out of the GPU.
    #[serde(default)]
    pub(crate) asleep: Option<bool>,
    /// Kueue's, Volcano's or KAI's.
    #[serde(default)]
    pub(crate) queue: Option<String>,
    pub(crate) usd_per_hour: Option<UsdPerHour>,
    /// working, idle, stuck, pending, mixed or unknown.
    pub(crate) state: String,
    /// server, notebook, job, placeholder, infrastructure or unknown.
    pub(crate) class: String,
    pub(crate) observed: ObservedFigures,
    /// Work of each hour where history tells it; `null` without.
    #[serde(default)]
    pub(crate) hourly: Option<Hourly>,
}

/// Requests (tokens where requests are not counted) of each hour.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Hourly {
    /// The last hour ends here.
    #[schemars(with = "String")]
    pub(crate) end: Timestamp,
    /// Oldest first; `null`: no sample in that hour.
    pub(crate) values: Vec<Option<f64>>,
}

impl Hourly {
    /// When the hour of `values[index]` begins, in hours since the Unix epoch.
    fn begins(&self, index: usize) -> i64 {
        self.end.as_second().div_euclid(3600) - (self.values.len() - index) as i64
    }

    /// The mean of each hour of the week, Monday 00:00 UTC first; `None`: that hour was never seen.
    pub(crate) fn cells(&self) -> [Option<f64>; 168] {
        let mut sums = [(0.0, 0u32); 168];
        for (i, value) in self.values.iter().enumerate() {
            if let Some(value) = value {
                // 1970-01-01 was a Thursday.
                let cell = &mut sums[(self.begins(i) + 72).rem_euclid(168) as usize];
                *cell = (cell.0 + value, cell.1 + 1);
            }
        }
        sums.map(|(sum, n)| (n > 0).then(|| sum / f64::from(n)))
    }

    /// Work of each whole 24 hours, counted back from the end; `None`: nothing was seen.
    pub(crate) fn days(&self) -> Vec<Option<f64>> {
        let mut days: Vec<Option<f64>> = self
            .values
            .rchunks_exact(24)
            .map(|day| {
                day.iter()
                    .copied()
                    .flatten()
                    .fold(None, |sum: Option<f64>, v| Some(sum.unwrap_or(0.0) + v))
            })
            .collect();
        days.reverse();
        days
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ObservedFigures {
    pub(crate) requests_per_second: Option<Figure>,
    pub(crate) prompt_tokens_per_second: Option<Figure>,
    pub(crate) output_tokens_per_second: Option<Figure>,
    pub(crate) running: Option<Figure>,
    pub(crate) waiting: Option<Figure>,
    pub(crate) kv_usage: Option<Figure>,
    pub(crate) preemptions_per_hour: Option<Figure>,
    pub(crate) gpu_busy: Option<Figure>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Figure {
    #[serde(default)]
    pub(crate) mean: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p95: Option<f64>,
    #[serde(default)]
    pub(crate) p99: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) coverage: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReportNode {
    pub(crate) cluster: Option<String>,
    pub(crate) name: String,
    pub(crate) pool: Option<String>,
    pub(crate) instance_type: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) capacity_type: Option<String>,
    pub(crate) gpu: Option<String>,
    pub(crate) gpus: u64,
    pub(crate) price: ReportPrice,
    /// GPUs in each state; MIG instances count as their fraction.
    pub(crate) states: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReportPrice {
    pub(crate) usd_per_hour: Option<UsdPerHour>,
    /// user, catalog, region-guess, gpu-median or unknown.
    pub(crate) source: String,
    pub(crate) as_of: Option<String>,
}
