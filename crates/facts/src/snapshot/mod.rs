//! The seam: what the sources said, when they said it. Parsed facts only, versioned, stable on disk.
//!
//! A snapshot is the offline mode, the test fixture, the bug report and the CI artefact. It never holds a raw command
//! line, script, environment, annotation, ConfigMap, URL with credentials or response body: secrets live in all of them.
//! What could not be seen is `None` or a [`Gap`], never a zero.

pub mod bounds;
pub mod clock;
pub mod cluster;
pub mod constraints;
pub mod dra;
pub mod engine;
pub mod figure;
pub mod gpu;
pub mod history;
pub mod owners;
pub mod past;
pub mod resources;
pub mod secrets;
pub mod server;

use cluster::Cluster;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of this format; readers refuse a newer one.
pub const SCHEMA: u32 = 1;

/// On a planned node: its pod runs now and then, not always.
pub const RUNS_LABEL: &str = "gpuwaste.dev/runs";

/// Everything one run of `collect` saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    pub schema: u32,
    /// Version of the gpuwaste that recorded it.
    pub tool_version: String,
    /// The one reading of the clock; everything later is judged against it.
    #[schemars(with = "String")]
    pub taken_at: Timestamp,
    /// History asked of Prometheus; `None`: none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u64>,
    /// Time between the two live passes; `None`: one pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<Cluster>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// One thing that was read, or should have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    pub kind: SourceKind,
    /// A context, URL without credentials, or file name.
    pub name: String,
    pub status: SourceStatus,
    pub detail: String,
    /// The user named this source on the command line: its failure is exit code 3.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    Kubernetes,
    Prometheus,
    Exporter,
    Engine,
    Nvml,
    Slurm,
    Snapshot,
    Manifest,
    Demo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceStatus {
    Ok,
    Partial,
    Failed,
}

/// Something that could not be read, wholly or in part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The source that failed: "kubernetes prod-eu", "exporter gpu-operator/nvidia-dcgm-exporter-x7x".
    pub source: String,
    /// What is missing: "pods in namespace ml", "DCGM_FI_PROF_SM_ACTIVE".
    pub what: String,
    /// Why: "403 Forbidden", "timed out after 30 s".
    pub reason: String,
    /// What cannot be judged because of it.
    pub effect: String,
    /// The way out: a command, a flag, a right to ask for.
    pub remedy: String,
}
