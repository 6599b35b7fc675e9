//! What the snapshot means: pods joined with GPUs, nodes, prices and models. Free to change from version to version.

mod dra;
#[cfg(test)]
mod dra_tests;
pub(crate) mod history;
mod history_usage;
mod join;
#[cfg(test)]
mod labels_tests;
#[cfg(test)]
mod mig_tests;
mod nodes;
mod observed;
pub(crate) mod state;
mod workloads;

pub(crate) use history_usage::{ClusterUsage, Span, UsageItem, Used};
pub(crate) use join::join;

use crate::catalog::gpus::GpuFacts;
use crate::catalog::models::{ModelBook, ModelFacts};
pub(crate) use crate::catalog::prices::{CapacityType, NodePrice, PriceSource};
use crate::snapshot::Gap;
use crate::snapshot::cluster::{Condition, Ignore, PodPhase, PodPlacement};
use crate::snapshot::server::{EngineKind, EngineSettings};
use crate::units::{Bytes, MilliCores, Tokens, UsdPerHour};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Index into [`Fleet::nodes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) usize);
/// Index into [`Fleet::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId(pub(crate) usize);
/// Index into [`Fleet::pods`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PodId(pub(crate) usize);
/// Index into [`Fleet::workloads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkloadId(pub(crate) usize);

/// The joined fleet: GPU nodes, their slots, the pods on them, and the workloads above the pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) taken_at: Timestamp,
    pub(crate) window_seconds: Option<u64>,
    /// Live looks that the scan meant to take: two with `--observe`, else one.
    pub(crate) looks: u32,
    pub(crate) clusters: Vec<ClusterInfo>,
    /// Nodes with at least one GPU, whatever their state.
    pub(crate) nodes: Vec<Node>,
    /// Physical GPUs, or MIG instances and unpartitioned remainders, in node order. Each is in exactly one state (R3).
    pub(crate) slots: Vec<Slot>,
    /// Pods bound to GPU nodes, and unbound pods that ask for GPUs.
    pub(crate) pods: Vec<Pod>,
    pub(crate) workloads: Vec<Workload>,
    /// DRA claims that hold at least one of the slots.
    pub(crate) claims: Vec<Claim>,
    /// The user's own models, asked before the catalogue.
    pub(crate) models: ModelBook,
    /// What was paid for and what was done in two windows, one entry a cluster with history.
    pub(crate) usage: Vec<ClusterUsage>,
    /// What the join itself could not resolve: unknown GPU names, unpriced nodes, contradictions.
    pub(crate) gaps: Vec<Gap>,
}

#[derive(Clone, Debug, Default)]
#[allow(
    dead_code,
    reason = "joined here, read by the sizing checks that come with the fit engine"
)]
pub(crate) struct ClusterInfo {
    pub(crate) name: String,
    /// What fingerprints carry: the uid of kube-system, else the name.
    pub(crate) key: String,
    /// Nodes were listed. When false, node-level checks are not assessed and coverage is unknown.
    pub(crate) nodes_known: bool,
    /// Every pod that could hold a GPU was listed. When false, a GPU without a visible holder is `Unknown`, not free.
    pub(crate) pods_known: bool,
    /// Every DRA claim was listed. When false, a DRA device without a visible holder is `Unknown`, not free.
    pub(crate) claims_known: bool,
    /// Extended resources that a GPU `DeviceClass` provides.
    pub(crate) by_class: BTreeSet<String>,
    /// `-n`/`-l`: findings are limited to these pods' workloads.
    pub(crate) scoped: bool,
    /// `-n`; empty: all.
    pub(crate) namespaces: Vec<String>,
    /// `-l` was given.
    pub(crate) selected_only: bool,
    pub(crate) autoscalers_known: bool,
    pub(crate) budgets_known: bool,
}

#[derive(Clone, Debug, Default)]
#[allow(
    dead_code,
    reason = "joined here, read by the sizing checks that come with the fit engine"
)]
pub(crate) struct Node {
    /// Index into [`Fleet::clusters`].
    pub(crate) cluster: usize,
    pub(crate) name: String,
    /// Node pool or group name; empty where no label tells.
    pub(crate) pool: String,
    pub(crate) cloud: Option<String>,
    pub(crate) instance_type: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) capacity_type: CapacityType,
    /// The catalogue's row; `None`: unknown GPU (named in the gaps).
    pub(crate) gpu: Option<&'static GpuFacts>,
    /// Canonical name where known, else as the labels say; "unknown" where nothing says.
    pub(crate) gpu_name: String,
    /// G(n): physical GPUs.
    pub(crate) gpus: u32,
    pub(crate) price: NodePrice,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) ready: Option<Condition>,
    pub(crate) unschedulable: bool,
    /// Since when it is cordoned, where a taint tells.
    pub(crate) unschedulable_since: Option<Timestamp>,
    /// An autoscaler is removing or replacing it (ToBeDeleted…, karpenter.sh/disrupted).
    pub(crate) being_removed: bool,
    pub(crate) taints: Vec<crate::snapshot::cluster::Taint>,
    pub(crate) labels: BTreeMap<String, String>,
    /// HAMi, Volcano vGPU, run:ai, Intel's virtual functions: GPUs are handed out in ways gpuwaste cannot attribute.
    pub(crate) custom_sharing: bool,
    pub(crate) allocatable_cpu: Option<MilliCores>,
    pub(crate) allocatable_memory: Option<Bytes>,
    pub(crate) allocatable_pods: Option<u64>,
    /// Requests of all bound pods, as Kubernetes counts them.
    pub(crate) requested_cpu: MilliCores,
    pub(crate) requested_memory: Bytes,
    /// This node's slots are `slots[first_slot .. first_slot + slot_count]`.
    pub(crate) first_slot: usize,
    pub(crate) slot_count: usize,
    /// Bound, not finished pods.
    pub(crate) pods: Vec<PodId>,
    pub(crate) ignore: Option<Ignore>,
    /// A GPU exporter runs here: what it could not tell is unread, not absent.
    pub(crate) has_exporter: bool,
    /// Whole devices as the exporter shows them, in whosever hands.
    pub(crate) devices: Vec<Device>,
}

/// A whole device as its node's exporter shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Device {
    pub(crate) activity: GpuActivity,
    /// The pods that the exporter names as its holders; empty: it names none that is known.
    pub(crate) named: Vec<PodId>,
}

impl Node {
    /// Its labels say that one device is handed to several pods (time-slicing, MPS).
    pub(crate) fn shares_devices(&self) -> bool {
        self.labels.contains_key("cloud.google.com/gke-gpu-sharing-strategy")
            || self
                .labels
                .get("nvidia.com/gpu.replicas")
                .is_some_and(|n| n.parse::<u64>().is_ok_and(|n| n > 1))
    }

    pub(crate) fn slot_ids(&self) -> impl Iterator<Item = SlotId> + use<> {
        (self.first_slot..self.first_slot + self.slot_count).map(SlotId)
    }
}

/// Parts of a physical GPU: divisible by 1 to 8, so that instances and partitions of several cards add up exactly.
pub(crate) const WHOLE_GPU: u64 = 8_400_000;

/// A thing that can be held: a physical GPU or a MIG instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) node: NodeId,
    /// UUID where an exporter tells it, else "slot-0", "slot-1", … ; MIG: `GPU/PROFILE-N`.
    pub(crate) name: String,
    /// Of [`WHOLE_GPU`] parts; a node's slots add up to gpus × [`WHOLE_GPU`].
    pub(crate) weight: u64,
    /// MIG profile; `None`: the whole GPU.
    pub(crate) mig_profile: Option<String>,
    /// p(g); `None`: unknown.
    pub(crate) price: Option<UsdPerHour>,
    pub(crate) state: SlotState,
    /// Why it is in this state, and how sure that is.
    pub(crate) reason: state::Reason,
    /// Since when it is in this state, as far as an API object tells.
    pub(crate) since: Option<Timestamp>,
    /// Who holds it; several under time-slicing, MPS or a shared claim: then the price is split equally over them (R1).
    pub(crate) holders: Vec<PodId>,
    /// DRA claims that hold it, whoever uses them: indices into [`Fleet::claims`].
    pub(crate) claims: Vec<usize>,
    /// DRA hands it out.
    pub(crate) dra: bool,
    /// How many pods may hold it at once: 1 without time-slicing or MPS.
    pub(crate) sharers: u64,
    /// Which of the node's shared cards its pods are on is a guess: several could be, and no exporter tells.
    pub(crate) guessed: bool,
    /// What pods ask a device plugin for to get it; `None`: no plugin hands it out.
    pub(crate) resource: Option<String>,
    /// The rest of a MIG card that is in no instance: it costs, and nobody can ask for it.
    pub(crate) unpartitioned: bool,
    /// Activity of the device over what was read; `None`: no exporter row.
    pub(crate) activity: Option<GpuActivity>,
    /// Nobody has held it for at least 80 % of the last 24 hours, as history tells.
    pub(crate) free_for_a_day: bool,
}

impl Slot {
    /// Nobody else can get it: a pod holds it, or a claim does.
    pub(crate) fn is_allocated(&self) -> bool {
        !self.holders.is_empty() || !self.claims.is_empty()
    }
}

/// A DRA claim that holds devices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim {
    pub(crate) cluster: usize,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) created_at: Option<Timestamp>,
    /// It is being deleted.
    pub(crate) ending: bool,
    /// Reserved for nobody, or for pods that have ended or are gone.
    pub(crate) unused: bool,
}

/// R3: exactly one state per slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SlotState {
    /// Unallocated.
    Free,
    Unhealthy,
    Stuck,
    Idle,
    Working,
    #[default]
    Unknown,
}

impl SlotState {
    pub(crate) const ALL: [Self; 6] = [
        Self::Free,
        Self::Working,
        Self::Idle,
        Self::Stuck,
        Self::Unhealthy,
        Self::Unknown,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Unhealthy => "unhealthy",
            Self::Stuck => "stuck",
            Self::Idle => "idle",
            Self::Working => "working",
            Self::Unknown => "unknown",
        }
    }
}

/// What a device did over the judged time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GpuActivity {
    /// Seconds between the first and the last sample; 0: one sample.
    pub(crate) window_seconds: f64,
    pub(crate) history: bool,
    /// GR_ENGINE where there is one, else GPU_UTIL.
    pub(crate) engine_active: Option<Stat>,
    pub(crate) gpu_util: Option<Stat>,
    /// max(SM, tensor, DRAM) per sample.
    pub(crate) busy: Option<Stat>,
    pub(crate) tensor: Option<Stat>,
    pub(crate) dram: Option<Stat>,
    pub(crate) power_watts: Option<Stat>,
    /// The value is the device's and several pods share it: it is nobody's own.
    pub(crate) shared: bool,
    /// The exporter names the slot's holder, or nobody else could hold the device. Otherwise it may be a neighbour's.
    pub(crate) attributed: bool,
}

/// A distribution over time. Each `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stat {
    pub(crate) mean: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) max: Option<f64>,
    /// Samples seen ÷ samples expected over the judged window, 0–1.
    pub(crate) coverage: Option<f64>,
}

/// A pod with what it asks for.
#[derive(Clone, Debug, Default)]
#[allow(
    dead_code,
    reason = "joined here, read by the sizing checks that come with the fit engine"
)]
pub(crate) struct Pod {
    pub(crate) cluster: usize,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// `None`: unbound.
    pub(crate) node: Option<NodeId>,
    pub(crate) phase: PodPhase,
    pub(crate) workload: Option<WorkloadId>,
    /// Device requests by resource name, as Kubernetes counts them.
    pub(crate) devices: BTreeMap<String, u64>,
    pub(crate) cpu: MilliCores,
    pub(crate) memory: Bytes,
    /// DaemonSet or mirror pod: leaves with the node.
    pub(crate) node_bound: bool,
    /// GPU infrastructure: holds nothing (R3).
    pub(crate) infrastructure: bool,
    /// Priority < 0 or a pause image: capacity kept on purpose.
    pub(crate) placeholder: bool,
    pub(crate) slots: Vec<SlotId>,
    /// Bound and not Ready: since when, and why.
    pub(crate) stuck: Option<Stuck>,
    pub(crate) ready: Option<Condition>,
    /// Unbound: the PodScheduled condition.
    pub(crate) scheduled: Option<Condition>,
    pub(crate) waits_for_gpus: Option<bool>,
    pub(crate) placement: Option<PodPlacement>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) restarts: u64,
    pub(crate) ignore: Option<Ignore>,
    /// Containers that ask for devices: with one, all the pod's GPUs are that server's.
    pub(crate) device_containers: usize,
    /// The first container that asks for devices: what a patch has to name.
    pub(crate) device_container: Option<String>,
    /// CPU limit of that container, else its request; `None`: neither is set.
    pub(crate) device_cpu: Option<MilliCores>,
    /// pod-template-hash or the like: replicas of an older one are about to go.
    pub(crate) revision: Option<String>,
    /// That container's last run ended as OOMKilled, then.
    pub(crate) oom_killed_at: Option<Timestamp>,
    /// It has DRA resource claims.
    pub(crate) claims: bool,
    /// One of them was not read, or holds what no slice publishes: the pod may hold more than its slots.
    pub(crate) unresolved_claims: bool,
    /// Unbound: GPUs that its claims wait for.
    pub(crate) claimed_gpus: u64,
    /// `-l` selected it.
    pub(crate) selected: bool,
}

/// Why a bound pod does no work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stuck {
    pub(crate) reason: StuckReason,
    /// Since when; `None`: no object tells.
    pub(crate) since: Option<Timestamp>,
    pub(crate) restarts: u64,
    /// Exit of the last run, where there was one.
    pub(crate) last_exit: Option<crate::snapshot::cluster::Exit>,
    /// startupProbe's failureThreshold × period: loading may take that long.
    pub(crate) startup_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum StuckReason {
    ImagePull,
    CrashLoop,
    Init,
    /// Bound, containers not created: volumes, device plugin, sandbox.
    Creating,
    /// Running but never Ready.
    NotReady,
    Terminating,
    /// The node does not answer.
    NodeLost,
}

impl StuckReason {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ImagePull => "image-pull",
            Self::CrashLoop => "crash-loop",
            Self::Init => "init",
            Self::Creating => "creating",
            Self::NotReady => "not-ready",
            Self::Terminating => "terminating",
            Self::NodeLost => "node-lost",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum WorkloadClass {
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
    pub(crate) const fn name(self) -> &'static str {
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
pub(crate) struct Workload {
    pub(crate) cluster: usize,
    /// Deployment, StatefulSet, LeaderWorkerSet, InferenceService, Pod, …
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) class: WorkloadClass,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) pods: Vec<PodId>,
    /// Its owner could not be read: whether it opted out, and what else it owns, is unknown.
    pub(crate) owner_unread: bool,
    /// Bound replicas; a multi-node group (LWS) is one replica with several pods.
    pub(crate) replicas: Vec<Replica>,
    /// spec.replicas where the owner could be read.
    pub(crate) desired_replicas: Option<u64>,
    pub(crate) created_at: Option<Timestamp>,
    /// Spec's settings corrected by the server's own word; `None`: no engine recognised.
    pub(crate) settings: Option<EngineSettings>,
    /// True where at least one server confirmed its model and length itself.
    pub(crate) settings_confirmed: bool,
    pub(crate) model: Option<ModelFacts>,
    /// As the manifest or server calls the model, where no facts were found.
    pub(crate) model_name: Option<String>,
    /// The one GPU tier that all its slots have; `None`: mixed or unknown.
    pub(crate) gpu: Option<&'static GpuFacts>,
    pub(crate) gpus_per_replica: Option<u32>,
    /// KV capacity that the servers themselves tell, per engine (data-parallel rank), the smallest replica's.
    pub(crate) kv_capacity: Option<Tokens>,
    pub(crate) autoscaler_min: Option<u64>,
    pub(crate) autoscaler_max: Option<u64>,
    /// Pods a disruption budget demands; `None`: none selects it.
    pub(crate) budget_min: Option<u64>,
    /// Workloads that serve one model together (prefill and decode roles): idle only if all of them are.
    pub(crate) group: Option<String>,
    /// The queue that admitted it (Kueue, Volcano, KAI); `None`: none.
    pub(crate) queue: Option<String>,
    pub(crate) observed: Observed,
    /// Manifests only: where it stands.
    pub(crate) origin: Option<crate::snapshot::cluster::Origin>,
    pub(crate) ignore: Option<Ignore>,
}

impl Workload {
    pub(crate) fn engine(&self) -> Option<EngineKind> {
        self.settings.as_ref().and_then(|s| s.engine)
    }

    /// The Hugging Face id that the server loads where it is written, else the one of the model that was recognised,
    /// else what the manifest or server calls it. A re-upload keeps its own id: its weights differ from its base's.
    pub(crate) fn model_label(&self) -> Option<&str> {
        let named = self.model_name.as_deref();
        let mut served = self.settings.iter().flat_map(|s| &s.served_names).map(String::as_str);
        // NIM and Ollama have names of their own, of the same shape.
        let own_names = matches!(self.engine(), Some(EngineKind::Nim | EngineKind::Ollama));
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
pub(crate) struct Replica {
    pub(crate) pods: Vec<PodId>,
    pub(crate) slots: Vec<SlotId>,
    /// All its pods are Ready, since when (the youngest).
    pub(crate) ready_since: Option<Timestamp>,
    pub(crate) observed: Observed,
}

/// Where load figures come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ObservedBy {
    /// No engine figures at all.
    #[default]
    Nothing,
    /// One sample, or passes seconds apart.
    Live,
    /// Counters since the process started.
    LifetimeCounters,
    /// Aggregates of a Prometheus-compatible store over the window.
    History,
}

/// One live look at a server's queue and cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pass {
    pub(crate) kv_usage: f64,
    pub(crate) waiting: f64,
    pub(crate) running: f64,
}

/// What a workload or replica did. Rates are per second, summed over the replicas' engines for a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) by: ObservedBy,
    /// Seconds judged: the window, the process's life, or the time between passes.
    pub(crate) window_seconds: f64,
    /// Share of the window, and of the replicas, that the figures cover, 0–1.
    pub(crate) coverage: Option<f64>,
    /// Increase over the window.
    pub(crate) requests: Option<f64>,
    pub(crate) prompt_tokens: Option<f64>,
    pub(crate) output_tokens: Option<f64>,
    pub(crate) preemptions: Option<f64>,
    pub(crate) requests_per_second: Option<Stat>,
    pub(crate) prompt_tokens_per_second: Option<Stat>,
    pub(crate) output_tokens_per_second: Option<Stat>,
    pub(crate) running: Option<Stat>,
    pub(crate) waiting: Option<Stat>,
    /// Fullest engine.
    pub(crate) kv_usage: Option<Stat>,
    /// The looks that told all three figures; only of a replica.
    pub(crate) passes: Vec<Pass>,
    pub(crate) preemptions_per_hour: Option<Stat>,
    /// max(SM, tensor, DRAM) over the workload's GPUs.
    pub(crate) gpu_busy: Option<Stat>,
    /// Seconds.
    pub(crate) time_to_first_token_p95: Option<f64>,
    pub(crate) inter_token_latency_p95: Option<f64>,
    /// Σ of end-to-end latencies over the window, seconds: ÷ window = mean concurrency (Little's law).
    pub(crate) e2e_latency_sum: Option<f64>,
    /// Tokens per request, from histograms.
    pub(crate) prompt_length_p50: Option<f64>,
    pub(crate) prompt_length_p95: Option<f64>,
    pub(crate) output_length_p50: Option<f64>,
    pub(crate) output_length_p95: Option<f64>,
    /// Prefix cache hits ÷ queries.
    pub(crate) prefix_hit_rate: Option<f64>,
    /// CPU used by the GPU container ÷ its limit (else request).
    pub(crate) cpu_share: Option<Stat>,
    pub(crate) cpu_throttled: Option<Stat>,
    pub(crate) asleep: Option<bool>,
    /// Only with history, and only for workloads.
    pub(crate) bins: Option<Box<Bins>>,
}

/// What only bins over a window tell. Each `None`: not known.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(dead_code, reason = "over-replicated reads the replica figures")]
pub(crate) struct Bins {
    /// Length of one bin, seconds.
    pub(crate) bin_seconds: f64,
    /// Bins (replica by replica) with a request running.
    pub(crate) traffic: Option<f64>,
    /// Of those, with the cache full and requests waiting or preempted.
    pub(crate) kv_bad: Option<f64>,
    /// Serving replicas over time; [`Observed::running`] and the rates are their sums, bin by bin.
    pub(crate) replicas: Option<Stat>,
    /// R_low: the 5th percentile of the replicas.
    pub(crate) replicas_low: Option<f64>,
    /// Σ over replicas of their KV use at the same time: × one replica's capacity = KV tokens.
    pub(crate) kv_usage_sum: Option<Stat>,
    /// C: most output tokens/s that one replica served in a bin with nothing waiting and KV use not above 0.8.
    pub(crate) replica_capacity: Option<f64>,
    /// Bins with requests in which CPU was short and the GPU not busy; how busy it was then, 0–1.
    pub(crate) starved: Option<f64>,
    pub(crate) starved_busy: Option<f64>,
    /// Other bins with requests; the middle of how busy the GPU was in them.
    pub(crate) fed: Option<f64>,
    pub(crate) fed_busy: Option<f64>,
    /// GR_ENGINE (else GPU_UTIL) of the busiest GPU, dead pods' time included.
    pub(crate) gpu_engine: Option<Stat>,
    pub(crate) restarts: Option<f64>,
    pub(crate) oom_kills: Option<f64>,
    /// Restarts in error soon after a full cache or a queue.
    pub(crate) crashes_under_pressure: Option<f64>,
    /// The bins were counted by other limits than the policy's: they do not say what it asks.
    pub(crate) kv_by_other_limits: bool,
    pub(crate) starved_by_other_limits: bool,
    /// Work of each hour, oldest first; the last hour ends at `hourly_end`. `None` inside: no sample.
    pub(crate) hourly: Vec<Option<f64>>,
    pub(crate) hourly_end: Timestamp,
}

impl Pod {
    /// GPUs, or parts of them, that it asks for: of device plugins and by claims that wait.
    pub(crate) fn wanted(&self) -> usize {
        let devices = self.devices.values().copied().fold(0, u64::saturating_add);
        usize::try_from(devices.saturating_add(self.claimed_gpus)).unwrap_or(usize::MAX)
    }
}

impl Fleet {
    /// Whether a pod that asks as this one does could be given the slot.
    pub(crate) fn gives(&self, slot: &Slot, pod: &Pod) -> bool {
        if pod.claimed_gpus > 0 && slot.dra {
            return true;
        }
        pod.devices.keys().any(|name| {
            slot.resource.as_ref() == Some(name) || (slot.dra && self.clusters[pod.cluster].by_class.contains(name))
        })
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    pub(crate) fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id.0]
    }

    pub(crate) fn pod(&self, id: PodId) -> &Pod {
        &self.pods[id.0]
    }

    pub(crate) fn workload(&self, id: WorkloadId) -> &Workload {
        &self.workloads[id.0]
    }
}
