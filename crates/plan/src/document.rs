//! A plan as a document: what `--format json` prints (schema 1), and what every other format renders.

use crate::units::UsdPerHour;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub const SCHEMA: u32 = 1;

/// Which moves, in which order, give which bill. Money is USD per hour; `null` is not known, never 0. Nothing of it is ever
/// carried out by gpuwaste.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    pub schema: u32,
    pub tool_version: String,
    /// RFC 3339: when the fleet was read.
    pub taken_at: String,
    /// What may be changed beside moves: now, reusable, tier, replicas.
    pub allow: Vec<String>,
    /// `--headroom`: "0", a percentage, or "node".
    pub headroom: String,
    pub max_moves: Option<u64>,
    pub totals: Totals,
    /// In an order that is valid at every point: stop anywhere and keep what you have.
    pub steps: Vec<Step>,
    pub nodes: Vec<PlanNode>,
    /// Nodes whose bill would stop, and why they stay.
    pub stays: Vec<Stay>,
    /// Pods that no step moves, by what ties them: the plan does not model it, or a person decides it.
    pub pinned: Vec<Pinned>,
    /// Pods that wait for GPUs, and the node that has room for them.
    pub waiting: Vec<Waiting>,
    /// What no plan was made for, and why.
    pub refused: Vec<Refused>,
    /// What else would save money, and only a person can decide or do.
    pub by_person: Vec<ByPerson>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// The bill now, of nodes with a known price; `null`: none has one.
    pub spend_usd_per_hour: Option<UsdPerHour>,
    pub spend_after_usd_per_hour: Option<UsdPerHour>,
    /// `null`: no plan could be made at all.
    pub saved_usd_per_hour: Option<UsdPerHour>,
    /// What no plan of these pods and constraints exceeds.
    pub at_most_usd_per_hour: Option<UsdPerHour>,
    /// Of what is saved, nodes that hold nobody today.
    pub empty_already_usd_per_hour: Option<UsdPerHour>,
    /// With what only a person can move, at most; `null`: it would bring nothing more.
    pub with_person_usd_per_hour: Option<UsdPerHour>,
    pub nodes: u64,
    pub nodes_returned: u64,
    /// Pods moved and workloads changed.
    pub moves: u64,
    /// GPUs of the pods that move; a MIG instance counts as its fraction.
    pub gpus_disturbed: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Nodes that go later take no more pods.
    #[default]
    Cordon,
    /// A workload ends or shrinks, as a finding says.
    Change,
    /// One pod goes to another node.
    Move,
    /// All pods of a workload go to a smaller tier, as a finding says: the new ones are raised first.
    Tier,
    /// A node goes.
    Return,
    /// A node was emptied for pods that wait: it takes pods again.
    Open,
}

impl StepKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cordon => "cordon",
            Self::Change => "change",
            Self::Move => "move",
            Self::Tier => "tier",
            Self::Return => "return",
            Self::Open => "open",
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// From 1.
    pub number: u64,
    pub kind: StepKind,
    pub cluster: String,
    /// What is done, in words.
    pub what: String,
    /// "namespace/name" of the pod that moves.
    pub pod: Option<String>,
    /// "Deployment namespace/name" of the workload.
    pub workload: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
    /// The nodes of a cordon or a return; of a tier change those that its new pods go to.
    pub nodes: Vec<String>,
    pub gpus: f64,
    /// For a POSIX shell, one a line, in order; no name in them can do anything but name.
    pub commands: Vec<String>,
    /// The way back.
    pub undo: Vec<String>,
    pub risk: String,
    /// Findings of the report that it acts on.
    pub findings: Vec<String>,
    pub bill_after_usd_per_hour: Option<UsdPerHour>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlanNode {
    pub cluster: String,
    pub name: String,
    pub gpu: String,
    pub usd_per_hour: Option<UsdPerHour>,
    pub bill_stops: bool,
    pub returned: bool,
    /// One a GPU (or a part of one that can be held by itself): free, working, idle, stuck, unhealthy or unknown.
    pub before: Vec<String>,
    /// Empty where it is returned.
    pub after: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Stay {
    pub cluster: String,
    pub node: String,
    pub usd_per_hour: Option<UsdPerHour>,
    /// About the node itself; `null`: only its pods hold it.
    pub reason: Option<String>,
    pub pods: Vec<StayingPod>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct StayingPod {
    /// "namespace/name"
    pub pod: String,
    pub reason: String,
    /// Somebody who knows it could move it.
    pub by_person: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Pinned {
    /// What ties them: "have a volume that is in one place".
    pub what: String,
    pub pods: u64,
    /// A MIG instance counts as its fraction.
    pub gpus: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    pub cluster: String,
    pub pod: String,
    /// `null`: there is no room for it, before or after.
    pub node: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    pub cluster: String,
    pub reason: String,
    pub remedy: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ByPerson {
    pub finding: Option<String>,
    pub what: String,
    pub usd_per_hour: Option<UsdPerHour>,
}
