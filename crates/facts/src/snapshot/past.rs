//! What jobs had of GPUs, ended ones included, as a scheduler's accounts tell: sums, and no job by itself.

use super::cluster::Node;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the jobs of one owner had of the GPUs of one kind of machine over the accounted window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PastUse {
    /// slurm/user, slurm/account, slurm/partition, slurm/gpu-type.
    pub labels: BTreeMap<String, String>,
    /// One of the machines that it was on; the others are like it ([`like`]). `None`: which they were is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub window_seconds: u64,
    pub jobs: u64,
    pub gpu_hours: f64,
    /// Of which a summary tells what the GPUs did. Only jobs that have ended have one.
    pub watched_gpu_hours: f64,
    /// Of those, on GPUs that did nothing for the job's whole life.
    pub idle_gpu_hours: f64,
    /// Jobs with such GPUs.
    #[serde(skip_serializing_if = "is_zero")]
    pub idle_jobs: u64,
    /// Of the idle hours, those beside GPUs of the same job that worked.
    #[serde(skip_serializing_if = "is_nothing")]
    pub partly_idle_gpu_hours: f64,
    /// Of the watched hours, weighted by the time in which nothing ran.
    pub unused_gpu_hours: f64,
    /// Watched hours of jobs that ran for more than half an hour, on GPUs that did something and whose memory was not nearly full.
    #[serde(skip_serializing_if = "is_nothing")]
    pub open_gpu_hours: f64,
    /// Of those, weighted by the time in which nothing ran.
    #[serde(skip_serializing_if = "is_nothing")]
    pub open_unused_gpu_hours: f64,
    /// Watched hours of jobs that a far smaller GPU would have carried.
    #[serde(skip_serializing_if = "is_nothing")]
    pub small_gpu_hours: f64,
    #[serde(skip_serializing_if = "is_zero")]
    pub small_jobs: u64,
    /// The most GPU memory that one of these took, bytes.
    #[serde(skip_serializing_if = "is_nothing")]
    pub small_memory: f64,
    /// What jobs that were not cut short asked for by their time limits, and what they took of it.
    #[serde(skip_serializing_if = "is_nothing")]
    pub limit_gpu_hours: f64,
    #[serde(skip_serializing_if = "is_nothing")]
    pub limit_used_gpu_hours: f64,
    /// Jobs that took more CPUs a GPU than their node has, half as much again and more: theirs, and the GPUs beside them that
    /// were left without one, hours of each.
    #[serde(skip_serializing_if = "Asked::is_none")]
    pub cpus: Asked,
    /// The same of host memory, where less than four fifths of it was used.
    #[serde(skip_serializing_if = "Asked::is_none")]
    pub memory: Asked,
    /// Jobs on more nodes than their GPUs need: `beside` are the GPUs of the nodes that they need not have been on.
    #[serde(skip_serializing_if = "Asked::is_none")]
    pub spread: Asked,
}

/// Jobs that asked for more of something than their GPUs' share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Asked {
    pub jobs: u64,
    pub gpu_hours: f64,
    pub beside_gpu_hours: f64,
}

impl Asked {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_nothing(n: &f64) -> bool {
    *n == 0.0
}

/// See [`like`].
pub type Like = (String, Vec<(String, String)>);

/// What machines of one kind have in common: what they are called without their numbers, and what their labels say. Whoever prices
/// machines by their names may still price them apart.
pub fn like(name: &str, labels: &BTreeMap<String, String>) -> Like {
    let stem: String = name.chars().filter(|c| !c.is_ascii_digit()).collect();
    (stem, labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
}

impl Node {
    /// See [`like`].
    pub fn like(&self) -> Like {
        like(&self.name, &self.labels)
    }
}
