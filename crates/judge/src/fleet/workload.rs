//! The owners above pods: what is judged, sized and advised.

use super::{Observed, PodId, SlotId};
use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::ModelFacts;
use crate::engine;
use crate::snapshot::cluster::{Ignore, Origin};
use crate::snapshot::server::{EngineKind, EngineSettings};
use crate::units::Tokens;
use jiff::Timestamp;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadClass {
    /// A recognised serving engine on GPUs.
    Server,
    Notebook,
    /// Job, training operator, launcher.
    Job,
    Placeholder,
    /// Exporters, plugins, drivers.
    Infrastructure,
    /// A GPU pod nobody recognised: it can be dark, not mis-sized.
    #[default]
    Unknown,
}

impl WorkloadClass {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Notebook => "notebook",
            Self::Job => "job",
            Self::Placeholder => "placeholder",
            Self::Infrastructure => "infrastructure",
            Self::Unknown => "unknown",
        }
    }
}

/// The top owner and all its pods.
#[derive(Clone, Debug, Default)]
#[allow(
    dead_code,
    reason = "joined here, read by the sizing checks that come with the fit engine"
)]
pub struct Workload {
    pub cluster: usize,
    /// Deployment, StatefulSet, LeaderWorkerSet, InferenceService, Pod, …
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub class: WorkloadClass,
    pub labels: BTreeMap<String, String>,
    pub pods: Vec<PodId>,
    /// Its owner could not be read: whether it opted out, and what else it owns, is unknown.
    pub owner_unread: bool,
    /// Nobody knows what it runs: its program is named where it could not be read.
    pub command_unread: bool,
    /// One of its servers did not answer what it is: its model, its length or its release may be told there.
    pub identity_unread: bool,
    /// Bound replicas; a multi-node group (LWS) is one replica with several pods.
    pub replicas: Vec<Replica>,
    /// spec.replicas where the owner could be read.
    pub desired_replicas: Option<u64>,
    pub created_at: Option<Timestamp>,
    /// Spec's settings corrected by the server's own word; `None`: no engine recognised.
    pub settings: Option<EngineSettings>,
    /// True where at least one server confirmed its model and length itself.
    pub settings_confirmed: bool,
    pub model: Option<ModelFacts>,
    /// As the manifest or server calls the model, where no facts were found.
    pub model_name: Option<String>,
    /// The one GPU tier that all its slots have; `None`: mixed or unknown.
    pub gpu: Option<&'static GpuFacts>,
    pub gpus_per_replica: Option<u32>,
    /// KV capacity that the servers themselves tell, per engine (data-parallel rank), the smallest replica's.
    pub kv_capacity: Option<Tokens>,
    pub autoscaler_min: Option<u64>,
    pub autoscaler_max: Option<u64>,
    /// Pods a disruption budget demands; `None`: none selects it.
    pub budget_min: Option<u64>,
    /// Workloads that serve one model together (prefill and decode roles): idle only if all of them are.
    pub group: Option<String>,
    /// The queue that admitted it (Kueue, Volcano, KAI); `None`: none.
    pub queue: Option<String>,
    pub observed: Observed,
    /// Written, and not there yet: nothing of what it does can be known.
    pub planned: bool,
    /// Servers of its pods whose metrics were not read, in words ("5 of 8 data-parallel ranks"); `None`: all were, as far as is told.
    pub servers_unread: Option<String>,
    /// Its counters stand the same on both sides of every hole of the history, and no process of it began in between.
    pub unbroken: bool,
    /// Manifests only: where it stands.
    pub origin: Option<Origin>,
    pub ignore: Option<Ignore>,
}

impl Workload {
    pub fn engine(&self) -> Option<EngineKind> {
        self.settings.as_ref().and_then(|s| s.engine)
    }

    /// The Hugging Face id that the server loads where it is written, else the one of the model that was recognised,
    /// else what the manifest or server calls it. A re-upload keeps its own id: its weights differ from its base's.
    pub fn model_label(&self) -> Option<&str> {
        let named = self.model_name.as_deref();
        let mut served = self.settings.iter().flat_map(|s| &s.served_names).map(String::as_str);
        // NIM and Ollama have names of their own, of the same shape.
        let own_names = engine::facts(self.engine()).is_some_and(|f| f.own_model_names);
        let written = named
            .filter(|n| !own_names && is_hub_id(n))
            .or_else(|| self.model.as_ref().map(|m| m.id.as_str()));
        written
            .or_else(|| served.find(|n| !own_names && is_hub_id(n)))
            .or(named)
    }
}

/// "org/name", as Hugging Face writes its ids; no path, no URL.
fn is_hub_id(text: &str) -> bool {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    text.split_once('/')
        .is_some_and(|(org, name)| plain(org) && plain(name))
}

#[derive(Clone, Debug, Default)]
pub struct Replica {
    pub pods: Vec<PodId>,
    pub slots: Vec<SlotId>,
    /// All its pods are Ready, since when (the youngest).
    pub ready_since: Option<Timestamp>,
    pub observed: Observed,
}
