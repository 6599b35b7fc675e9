//! The seam: what the sources said, when they said it. Parsed facts only, versioned, stable on disk.
//!
//! A snapshot is the offline mode, the test fixture, the bug report and the CI artefact. It never holds a raw command
//! line, script, environment, annotation, ConfigMap, URL with credentials or response body: secrets live in all of them.
//! What could not be seen is `None` or a [`Gap`], never a zero.

pub(crate) mod cluster;
pub(crate) mod dra;
pub(crate) mod engine;
pub(crate) mod gpu;
pub(crate) mod history;
pub(crate) mod owners;
pub(crate) mod server;

use cluster::Cluster;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of this format; readers refuse a newer one.
pub(crate) const SCHEMA: u32 = 1;

/// Everything one run of `collect` saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Snapshot {
    pub(crate) schema: u32,
    /// Version of the gpuwaste that recorded it.
    pub(crate) tool_version: String,
    /// The one reading of the clock; everything later is judged against it.
    #[schemars(with = "String")]
    pub(crate) taken_at: Timestamp,
    /// History asked of Prometheus; `None`: none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window_seconds: Option<u64>,
    /// Time between the two live passes; `None`: one pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) observe_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) clusters: Vec<Cluster>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sources: Vec<Source>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) gaps: Vec<Gap>,
}

/// One thing that was read, or should have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Source {
    pub(crate) kind: SourceKind,
    /// A context, URL without credentials, or file name.
    pub(crate) name: String,
    pub(crate) status: SourceStatus,
    pub(crate) detail: String,
    /// The user named this source on the command line: its failure is exit code 3.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourceKind {
    Kubernetes,
    Prometheus,
    Exporter,
    Engine,
    Nvml,
    Snapshot,
    Manifest,
    Demo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourceStatus {
    Ok,
    Partial,
    Failed,
}

/// Something that could not be read, wholly or in part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Gap {
    /// The source that failed: "kubernetes prod-eu", "exporter gpu-operator/nvidia-dcgm-exporter-x7x".
    pub(crate) source: String,
    /// What is missing: "pods in namespace ml", "DCGM_FI_PROF_SM_ACTIVE".
    pub(crate) what: String,
    /// Why: "403 Forbidden", "timed out after 30 s".
    pub(crate) reason: String,
    /// What cannot be judged because of it.
    pub(crate) effect: String,
    /// The way out: a command, a flag, a right to ask for.
    pub(crate) remedy: String,
}
