//! What a check says: structured facts, claims on GPU-hours, and a way out. Prose is rendered last.

use crate::fleet::{SlotId, WorkloadId};
pub use crate::units::Confidence;
use crate::units::UsdPerHour;
use serde::{Deserialize, Serialize};

/// The ledger a finding is in; the two are never added up, and a trend claims nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// Money that can stop being paid.
    Recoverable,
    /// Spend whose work is failing.
    AtRisk,
    /// Spend grew faster than work.
    Trend,
}

/// Order of claims on one slot (R4): lower claims first. The states are exclusive (R3), the sizing checks are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimRank {
    Stuck,
    Unhealthy,
    Stranded,
    Unallocated,
    Idle,
    /// parallelism-mismatch and sharing-mismatch: GPUs that the server itself does not use.
    Unused,
    OverReplicated,
    /// Computed for the replicas that stay.
    Oversized,
    /// Hours of the week, of what stays.
    IdleSchedule,
    AtRisk,
    /// Claims nothing.
    None,
}

/// One finding, before the report resolves claims.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Check id: "dark-capacity".
    pub check: &'static str,
    /// "idle", "unallocated"; `None` where the check has no parts.
    pub part: Option<&'static str>,
    pub kind: FindingKind,
    pub rank: ClaimRank,
    /// One line a person reads first; names the subject and the figure that matters.
    pub title: String,
    pub subject: Subject,
    /// Set where the finding is about one workload.
    pub workload: Option<WorkloadId>,
    pub confidence: Confidence,
    /// Why not better (or why measured), most limiting first.
    pub confidence_reasons: Vec<String>,
    pub evidence: Vec<Evidence>,
    /// Empty: claims no money (listed with `usd_per_hour: null`).
    pub claims: Vec<Claim>,
    pub fix: Fix,
    /// The owner opted out by annotation, with this reason: listed as suppressed, in no total.
    pub ignored: Option<String>,
    /// A trend's dollars per hour: it claims nothing, but it is ranked.
    pub trend_usd_per_hour: Option<UsdPerHour>,
}

/// What the finding is about. Each `None`: does not apply or is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Subject {
    pub cluster: Option<String>,
    /// Owner kind ("Deployment"), or "NodePool" for node-level findings.
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub pool: Option<String>,
    pub gpu: Option<String>,
    pub model: Option<String>,
    pub engine: Option<String>,
    /// Where a manifest says it; `null` for what runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// What the fingerprint carries instead of the context's name.
    #[serde(skip)]
    pub cluster_key: String,
}

/// A place in a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Location {
    pub file: String,
    pub line: u64,
    /// `spec.template.spec.containers[0].image`.
    pub path: String,
}

/// A figure that the finding rests on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Evidence {
    /// snake_case, stable: "kv_cache_peak".
    pub name: String,
    pub value: EvidenceValue,
    /// "ratio", "tokens/s", "bytes", "gpus", "seconds", "usd/h", …
    pub unit: Option<String>,
    /// The threshold or the value that would be all right.
    pub expected: Option<f64>,
    /// "prometheus", "exporter", "engine", "kubernetes", "fit", "catalog", "policy".
    pub source: String,
    pub window_seconds: Option<u64>,
    pub coverage: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum EvidenceValue {
    Number(f64),
    Text(String),
    #[default]
    Unknown,
}

impl Evidence {
    /// A number with its unit and source; the rest by struct update.
    pub fn number(name: &str, value: f64, unit: &str, source: &str) -> Self {
        Self {
            name: name.into(),
            value: if value.is_finite() {
                EvidenceValue::Number(value)
            } else {
                EvidenceValue::Unknown
            },
            unit: Some(unit.into()),
            source: source.into(),
            ..Self::default()
        }
    }

    pub fn text(name: &str, value: &str, source: &str) -> Self {
        Self {
            name: name.into(),
            value: EvidenceValue::Text(value.into()),
            source: source.into(),
            ..Self::default()
        }
    }

    pub fn expected(mut self, expected: f64) -> Self {
        self.expected = Some(expected);
        self
    }

    pub fn window(mut self, seconds: f64, coverage: Option<f64>) -> Self {
        self.window_seconds = Some(seconds.max(0.0) as u64);
        self.coverage = coverage;
        self
    }
}

/// A claim on a share of one slot's price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub slot: SlotId,
    /// What is asked for; the report caps it at what is left of the slot's price. `None`: the price is unknown.
    pub usd_per_hour: Option<UsdPerHour>,
    /// After the fix nobody holds this slot (R5).
    pub vacates: bool,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fix {
    /// One or two sentences, imperative.
    pub summary: String,
    pub placement: Option<FixPlacement>,
    /// A YAML patch for `kubectl patch`/kustomize, or a whole object (it begins with `apiVersion:`) for `kubectl apply`, where one can be
    /// written exactly.
    pub patch: Option<String>,
}

impl Fix {
    /// Words alone: nothing that could be written as a plan or a patch.
    pub fn told(summary: impl Into<String>) -> Self {
        Self {
            summary: summary.into(),
            ..Self::default()
        }
    }
}

/// The joint plan of the sizing checks for one workload: it passes the fit test as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FixPlacement {
    /// Catalogue name; of a MIG instance with its profile: "H100-SXM5-80GB-MIG-1g.10gb".
    pub gpu: String,
    /// GPUs of one replica; a MIG instance counts as one.
    pub gpus: u32,
    pub tensor_parallel: u32,
    pub replicas: u32,
    /// Of all replicas together.
    pub usd_per_hour: Option<UsdPerHour>,
}

/// What a check could not judge, and what would let it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotAssessed {
    pub reason: String,
    pub remedy: String,
    pub slots: Vec<SlotId>,
}
