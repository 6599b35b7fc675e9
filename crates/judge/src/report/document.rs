//! The report as a document: what `--format json` prints (schema 1), and what every other format renders.

use super::decision::{Decision, OfState};
use crate::analyze::finding::{Confidence, Evidence, FindingKind, FixPlacement, Subject};
use crate::fleet::unit_cost::{Sum, per_million};
use crate::snapshot::figure::Figure;
use crate::snapshot::{Gap, Source};
use crate::units::UsdPerHour;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const SCHEMA: u32 = 1;

/// A finished report. Numbers are plain JSON numbers, money is USD per hour; `null` is not known, never 0.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub schema: u32,
    pub tool: Tool,
    #[schemars(with = "String")]
    pub taken_at: Timestamp,
    pub window_seconds: Option<u64>,
    pub sources: Vec<Source>,
    pub totals: Totals,
    /// Sorted: recoverable, then at-risk, then trend; inside by `usd_per_hour` descending, unpriced ones last.
    pub findings: Vec<ReportFinding>,
    pub checks: Vec<CheckCoverage>,
    pub gates: Vec<Gate>,
    pub workloads: Vec<ReportWorkload>,
    pub nodes: Vec<ReportNode>,
    pub gaps: Vec<Gap>,
    /// `--group-by`; `null` without.
    #[serde(default)]
    pub groups: Option<Groups>,
    /// Findings of the baseline that are gone, with their money; `null` without `--baseline`.
    #[serde(default)]
    pub fixed: Option<Vec<Fixed>>,
    #[serde(default)]
    pub policy: PolicyUse,
    /// What moves alone would turn into money (`gpuwaste plan`); `null`: no plan was made, or no move stops a bill.
    #[serde(default)]
    pub plan: Option<PlanBrief>,
    /// `--rank expected`: what is expected of a finding comes before what it was found to waste.
    #[serde(default)]
    pub ranked_by_expected: bool,
}

/// What a plan of moves alone brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanBrief {
    pub moves: u64,
    /// Of the reusable waste, what stops being paid after them.
    pub usd_per_hour: UsdPerHour,
}

/// The policy that the report was judged by.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PolicyUse {
    /// `null`: built in.
    pub file: Option<String>,
    pub suppressions: Vec<SuppressionUse>,
}

/// A suppression of the policy file, and whether it is still needed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SuppressionUse {
    pub check: String,
    pub subject: String,
    pub cluster: Option<String>,
    pub reason: String,
    /// The last day it holds.
    pub expires: Option<String>,
    /// In the policy file.
    pub line: u64,
    /// Findings that it suppressed.
    pub findings: u64,
    pub state: SuppressionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SuppressionState {
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
pub struct Groups {
    /// namespace, workload, model, gpu, node, cluster, or a label's key.
    pub by: String,
    pub rows: Vec<Group>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    pub name: String,
    pub gpus: f64,
    /// Of its priced GPUs; `null`: none has a known price.
    pub spend_usd_per_hour: Option<UsdPerHour>,
    /// `null`: there is waste without any known price, or nothing of the group has a price or could be judged.
    pub waste_usd_per_hour: Option<UsdPerHour>,
    pub at_risk_usd_per_hour: Option<UsdPerHour>,
    #[serde(flatten)]
    pub unit_costs: UnitCosts,
    /// GPU-hours of jobs of the last days, where a scheduler keeps accounts and tells whose they were: over, and in none of the rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<GroupPast>,
}

/// What a group's jobs had of GPUs over the accounted days, ended ones included. Dollars: `null` where a machine has no price.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GroupPast {
    pub window_seconds: u64,
    pub jobs: u64,
    pub gpu_hours: f64,
    pub usd: Option<f64>,
    /// Of these hours, those of which a summary tells what the GPUs did.
    pub known_gpu_hours: f64,
    /// Of the known ones, on GPUs that did nothing for their job's whole life.
    pub idle_gpu_hours: f64,
    pub idle_usd: Option<f64>,
    /// Of the known ones, weighted by the time in which nothing ran; idle ones included.
    pub unused_gpu_hours: f64,
    pub unused_usd: Option<f64>,
}

/// A finding that the baseline has and this report has not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fixed {
    pub id: String,
    pub check: String,
    pub title: String,
    /// As the baseline recorded it; `null`: had no price.
    pub usd_per_hour: Option<UsdPerHour>,
    /// Why nobody can say whether it is fixed; `null`: what it is about was judged, and it is gone.
    #[serde(default)]
    pub not_assessed: Option<String>,
    /// What became of its GPUs; `null` where nobody can say whether it is gone.
    #[serde(default)]
    pub became: Option<Became>,
}

/// What became of the GPUs of a finding that is gone. Only what stops a bill is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Became {
    /// Their nodes are gone, and spend fell by it.
    Saved,
    /// They are used now; the bill is as it was.
    Freed,
    /// They carry another finding.
    Moved,
    /// The finding is gone, and neither its bill nor its GPUs say why.
    Vanished,
}

impl Became {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::Freed => "freed",
            Self::Moved => "moved",
            Self::Vanished => "vanished",
        }
    }

    /// For people.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Saved => "their nodes are gone and spend fell by it",
            Self::Freed => "their GPUs are used now, the bill is as it was",
            Self::Moved => "their GPUs carry another finding",
            Self::Vanished => "gone, and neither spend nor their GPUs say why: nothing is known to be saved",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

/// What tokens cost, of workloads whose tokens and prices are known over most of the time that was read. Allocation is the
/// whole bill of the GPUs that were held; use (`…_used`) is the share of it that they were busy. A bill is not split between
/// prompt and output tokens: each price is the bill over the number of those. Every field is `null` where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UnitCosts {
    pub output_tokens_per_hour: Option<f64>,
    pub input_tokens_per_hour: Option<f64>,
    /// What stands behind the prices: of a group or the totals, the part of the spend whose tokens are known.
    pub token_spend_usd_per_hour: Option<UsdPerHour>,
    pub token_spend_used_usd_per_hour: Option<UsdPerHour>,
    pub usd_per_million_output_tokens: Option<f64>,
    pub usd_per_million_input_tokens: Option<f64>,
    pub usd_per_million_output_tokens_used: Option<f64>,
    pub usd_per_million_input_tokens_used: Option<f64>,
}

impl UnitCosts {
    pub(super) fn of(sum: &Sum) -> Self {
        if !sum.any {
            return Self::default();
        }
        let (used, input) = (sum.used(), sum.input_tokens());
        let price =
            |usd: Option<UsdPerHour>, tokens: Option<f64>| per_million(usd?, tokens?).map(|p| (p * 1e6).round() / 1e6);
        let (held, output) = (Some(sum.held), Some(sum.output_tokens));
        let tokens = |n: f64| (n * 10.0).round() / 10.0;
        Self {
            output_tokens_per_hour: output.map(tokens),
            input_tokens_per_hour: input.map(tokens),
            token_spend_usd_per_hour: held,
            token_spend_used_usd_per_hour: used,
            usd_per_million_output_tokens: price(held, output),
            usd_per_million_input_tokens: price(held, input),
            usd_per_million_output_tokens_used: price(used, output),
            usd_per_million_input_tokens_used: price(used, input),
        }
    }
}

/// GPU counts are physical GPUs; MIG instances count as their fraction. The states add up to `gpus`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Of the priced GPUs (`gpus_unpriced` are not in it); `null`: no price is known, or no node could be read.
    pub spend_usd_per_hour: Option<UsdPerHour>,
    /// now + reusable; `null`: no waste has a known price, or nothing could be judged.
    pub waste_usd_per_hour: Option<UsdPerHour>,
    pub waste_now_usd_per_hour: Option<UsdPerHour>,
    pub waste_reusable_usd_per_hour: Option<UsdPerHour>,
    /// What can stop being paid once pods have moved as `gpuwaste plan` says, too; `null`: no plan was made (a large fleet, or
    /// one of which too little is known).
    #[serde(default)]
    pub now_after_plan_usd_per_hour: Option<UsdPerHour>,
    /// `null`: nothing that is at risk has a known price, or nothing that works could be judged.
    pub at_risk_usd_per_hour: Option<UsdPerHour>,
    /// Of priced spend; `null` without any.
    pub waste_percent: Option<f64>,
    /// R9; `null` where nodes could not be read.
    pub coverage_percent: Option<f64>,
    /// What GPUs cost of which a read that failed could have told more; `null`: none of them has a known price.
    #[serde(default)]
    pub doubted_usd_per_hour: Option<UsdPerHour>,
    /// A read failed that could have told of more GPUs.
    #[serde(default)]
    pub gpus_uncounted: bool,
    pub nodes: u64,
    pub workloads: u64,
    pub gpus: f64,
    pub gpus_allocated: f64,
    /// free + unhealthy + stuck + idle.
    pub gpus_dark: f64,
    pub gpus_free: f64,
    pub gpus_unhealthy: f64,
    pub gpus_stuck: f64,
    pub gpus_idle: f64,
    pub gpus_working: f64,
    pub gpus_unknown: f64,
    pub gpus_unpriced: f64,
    /// GPUs held by idle or stuck workloads ÷ allocated GPUs: the headline. `null`: none is allocated, or of none could be said
    /// whether it works.
    pub allocated_without_traffic_percent: Option<f64>,
    /// Share of spend per price source; "unknown" is the share of GPUs without a price.
    pub price_sources: BTreeMap<String, f64>,
    /// The oldest catalogue date in use.
    pub prices_as_of: Option<String>,
    /// The money of each state of decision, which adds up to the waste and the at-risk money; `null` without `--ledger`.
    #[serde(default)]
    pub decisions: Option<Vec<OfState>>,
    #[serde(flatten)]
    pub unit_costs: UnitCosts,
}

/// R5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// The node can go: the bill stops.
    Now,
    /// Somebody else can use the GPU; the bill stays.
    Reusable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    New,
    Baseline,
    Suppressed,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReportFinding {
    /// Stable fingerprint: no figures, no pod hashes, no node or context names.
    pub id: String,
    pub check: String,
    pub part: Option<String>,
    pub title: String,
    pub kind: FindingKind,
    /// `null` unless recoverable.
    pub grade: Option<Grade>,
    pub subject: Subject,
    /// The ranking figure; `null` where no price is known.
    pub usd_per_hour: Option<UsdPerHour>,
    pub waste_usd_per_hour: Option<UsdPerHour>,
    /// The part of the waste on nodes that can go; the rest is reusable. `grade` is `now` only where it is all of it.
    #[serde(default)]
    pub waste_now_usd_per_hour: Option<UsdPerHour>,
    /// Ids of the other findings that must be acted on, too, before that part stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub now_with: Vec<String>,
    pub at_risk_usd_per_hour: Option<UsdPerHour>,
    pub confidence: Confidence,
    pub confidence_reasons: Vec<String>,
    pub evidence: Vec<Evidence>,
    pub claims: Vec<ReportClaim>,
    pub fix: ReportFix,
    pub status: Status,
    /// Why it is suppressed, or new although the baseline has it.
    #[serde(default)]
    pub status_reason: Option<String>,
    /// Who owns the subject, by the policy's ownership labels.
    #[serde(default)]
    pub owner: Option<String>,
    /// What was decided about it; `null` without `--ledger`.
    #[serde(default)]
    pub decision: Option<Decision>,
    /// The waste times what such findings really saved of what was said; `null` without a record of enough of them.
    #[serde(default)]
    pub expected_usd_per_hour: Option<UsdPerHour>,
    /// What became of findings like this one, for people; `null` without a record.
    #[serde(default)]
    pub record: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReportClaim {
    pub node: String,
    /// UUID, else "slot-0".
    pub gpu: String,
    pub usd_per_hour: Option<UsdPerHour>,
    pub vacates: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReportFix {
    pub summary: String,
    pub placement: Option<FixPlacement>,
    pub patch: Option<String>,
    /// The one thing to do, in a few words.
    #[serde(default)]
    pub action: Option<String>,
    /// What does it, for a shell; empty where it takes a person.
    #[serde(default)]
    pub commands: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CheckCoverage {
    pub id: String,
    pub assessed_gpus: f64,
    /// `null`: none of them has a known price.
    pub assessed_usd_per_hour: Option<UsdPerHour>,
    pub not_assessed: Vec<CheckGap>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CheckGap {
    pub reason: String,
    /// 0: what it is about holds no GPU that is known, as a job that waits.
    pub gpus: f64,
    /// `null`: none of these GPUs has a known price, or none is known.
    pub usd_per_hour: Option<UsdPerHour>,
    pub remedy: String,
}

/// What a gate came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateResult {
    Passed,
    Breached,
    NoVerdict,
}

impl GateResult {
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Breached => "breached",
            Self::NoVerdict => "no verdict",
        }
    }
}

impl Gate {
    /// The one answer that is shown: a gate without a verdict has not passed.
    pub fn result(&self) -> GateResult {
        match (self.breached, self.undecided || self.actual.is_none()) {
            (true, _) => GateResult::Breached,
            (false, true) => GateResult::NoVerdict,
            (false, false) => GateResult::Passed,
        }
    }

    /// Takes a verdict back that is none. What is breached stays so, and the first reason is kept.
    pub fn doubt(&mut self, why: &str) {
        if !self.breached {
            self.undecided = true;
            self.undecided_because.get_or_insert_with(|| why.to_owned());
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// The flag without dashes: "max-waste".
    pub name: String,
    pub limit: f64,
    /// `null`: could not be computed; then the exit code is 3.
    pub actual: Option<f64>,
    pub breached: bool,
    /// It gives no verdict, exit code 3: it could not be computed, too little was read, or a read failed that could tell of
    /// so much more that it would be breached.
    #[serde(default)]
    pub undecided: bool,
    /// Why it gives no verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided_because: Option<String>,
    /// Findings of at least this confidence are counted; `null`: no gate on money.
    #[serde(default)]
    pub confidence: Option<Confidence>,
    /// Dollars of findings under the gate's confidence, which it did not count; `null`: not known, or no gate on money.
    pub left_out_usd_per_hour: Option<UsdPerHour>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReportWorkload {
    pub cluster: Option<String>,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub engine: Option<String>,
    pub engine_version: Option<String>,
    pub model: Option<String>,
    pub replicas: Option<u64>,
    pub gpus_per_replica: Option<u64>,
    pub gpu: Option<String>,
    pub tensor_parallel: Option<u64>,
    pub pipeline_parallel: Option<u64>,
    pub data_parallel: Option<u64>,
    pub max_model_len: Option<u64>,
    pub max_num_seqs: Option<u64>,
    pub quantization: Option<String>,
    pub dtype: Option<String>,
    pub kv_cache_dtype: Option<String>,
    pub gpu_memory_utilization: Option<f64>,
    /// prefill or decode, of a server that does one of them.
    #[serde(default)]
    pub role: Option<String>,
    /// What serves one model together, and is idle only together: the sides of a prefill/decode split.
    #[serde(default)]
    pub group: Option<String>,
    #[serde(default)]
    pub prefix_caching: Option<bool>,
    #[serde(default)]
    pub lora: Option<bool>,
    #[serde(default)]
    pub speculative: Option<bool>,
    #[serde(default)]
    pub sleep_mode: Option<bool>,
    /// The server says that its weights are out of the GPU.
    #[serde(default)]
    pub asleep: Option<bool>,
    /// Kueue's, Volcano's or KAI's.
    #[serde(default)]
    pub queue: Option<String>,
    pub usd_per_hour: Option<UsdPerHour>,
    /// Findings' waste in it; `null`: none of it has a price.
    #[serde(default)]
    pub waste_usd_per_hour: Option<UsdPerHour>,
    /// By the policy's ownership labels.
    #[serde(default)]
    pub owner: Option<String>,
    /// Hours over which its tokens and GPUs were counted.
    #[serde(default)]
    pub counted_hours: Option<f64>,
    /// GPUs held on average over them.
    #[serde(default)]
    pub mean_gpus: Option<f64>,
    #[serde(flatten)]
    pub unit_costs: UnitCosts,
    /// working, idle, stuck, pending, mixed or unknown.
    pub state: String,
    /// server, notebook, job, placeholder, infrastructure or unknown.
    pub class: String,
    pub observed: ObservedFigures,
    /// Whether the model fits what it holds: fits, tight, does-not-fit or unknown; `null`: no server, or too little is known.
    #[serde(default)]
    pub fits: Option<String>,
    /// Tokens that one engine's KV cache holds; the server's own word where it tells.
    #[serde(default)]
    pub kv_capacity_tokens: Option<u64>,
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<Timestamp>,
    /// Work of each hour where history tells it; `null` without.
    #[serde(default)]
    pub hourly: Option<Hourly>,
}

/// Requests (tokens where requests are not counted) of each hour.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Hourly {
    /// The last hour ends here.
    #[schemars(with = "String")]
    pub end: Timestamp,
    /// Oldest first; `null`: no sample in that hour.
    pub values: Vec<Option<f64>>,
}

impl Hourly {
    /// When the hour of `values[index]` begins, in hours since the Unix epoch.
    fn begins(&self, index: usize) -> i64 {
        self.end.as_second().div_euclid(3600) - (self.values.len() - index) as i64
    }

    /// The mean of each hour of the week, Monday 00:00 UTC first; `None`: that hour was never seen.
    pub fn cells(&self) -> [Option<f64>; 168] {
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

    /// UTC dates, their work, and the hours of them that are in here; dates that nothing was seen of are left out.
    pub fn by_date(&self) -> Vec<(String, f64, f64)> {
        let mut dates: Vec<(String, f64, f64, bool)> = Vec::new();
        for (i, value) in self.values.iter().enumerate() {
            let Ok(begin) = Timestamp::from_second(self.begins(i) * 3600) else {
                continue;
            };
            let date = begin.strftime("%Y-%m-%d").to_string();
            if dates.last().is_none_or(|d| d.0 != date) {
                dates.push((date, 0.0, 0.0, false));
            }
            if let Some(day) = dates.last_mut() {
                day.1 += value.unwrap_or(0.0);
                day.2 += 1.0;
                day.3 |= value.is_some();
            }
        }
        dates
            .into_iter()
            .filter(|d| d.3)
            .map(|(date, work, hours, _)| (date, work, hours))
            .collect()
    }

    /// Work of each whole 24 hours, counted back from the end; `None`: nothing was seen.
    pub fn days(&self) -> Vec<Option<f64>> {
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
pub struct ObservedFigures {
    pub requests_per_second: Option<Figure>,
    pub prompt_tokens_per_second: Option<Figure>,
    pub output_tokens_per_second: Option<Figure>,
    pub running: Option<Figure>,
    pub waiting: Option<Figure>,
    pub kv_usage: Option<Figure>,
    pub preemptions_per_hour: Option<Figure>,
    pub gpu_busy: Option<Figure>,
    /// Seconds between output tokens, 95th percentile.
    #[serde(default)]
    pub inter_token_latency_p95: Option<f64>,
    /// Seconds.
    #[serde(default)]
    pub time_to_first_token_p95: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReportNode {
    pub cluster: Option<String>,
    pub name: String,
    pub pool: Option<String>,
    pub instance_type: Option<String>,
    pub region: Option<String>,
    pub capacity_type: Option<String>,
    pub gpu: Option<String>,
    pub gpus: u64,
    pub price: ReportPrice,
    /// GPUs in each state; MIG instances count as their fraction.
    pub states: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReportPrice {
    pub usd_per_hour: Option<UsdPerHour>,
    /// user, catalog, region-guess, gpu-median or unknown.
    pub source: String,
    pub as_of: Option<String>,
}
