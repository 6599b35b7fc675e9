//! What can be held: a physical GPU, or a part of one.

use super::witness::Facts;
use super::{GpuActivity, NodeId, PodId, state};
use crate::catalog::gpus::GpuFacts;
use crate::snapshot::gpu::DeviceHealth;
use crate::units::UsdPerHour;
use jiff::Timestamp;

/// Parts of a physical GPU: divisible by 1 to 8, so that instances and partitions of several cards add up exactly.
pub const WHOLE_GPU: u64 = 8_400_000;

/// A thing that can be held: a physical GPU or a MIG instance.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    pub node: NodeId,
    /// UUID where an exporter tells it, else "slot-0", "slot-1", … ; MIG: `GPU/PROFILE-N`.
    pub name: String,
    /// Of [`WHOLE_GPU`] parts; a node's slots add up to gpus × [`WHOLE_GPU`].
    pub weight: u64,
    /// MIG profile; `None`: the whole GPU.
    pub mig_profile: Option<String>,
    /// p(g); `None`: unknown.
    pub price: Option<UsdPerHour>,
    pub state: SlotState,
    /// Why it is in this state, and how sure that is.
    pub reason: state::Reason,
    /// Why nobody is given it, where that is so whoever holds it.
    pub cause: state::Reason,
    /// Since when it is in this state, as far as an API object tells.
    pub since: Option<Timestamp>,
    /// Who holds it; several under time-slicing, MPS or a shared claim: then the price is split equally over them (R1).
    pub holders: Vec<PodId>,
    /// DRA claims that hold it, whoever uses them: indices into [`super::Fleet::claims`].
    pub claims: Vec<usize>,
    /// DRA hands it out.
    pub dra: bool,
    /// How many pods may hold it at once: 1 without time-slicing or MPS.
    pub sharers: u64,
    /// Which of the node's shared cards its pods are on is a guess: several could be, and no exporter tells.
    pub guessed: bool,
    /// What pods ask a device plugin for to get it; `None`: no plugin hands it out.
    pub resource: Option<String>,
    /// The rest of a MIG card that is in no instance: it costs, and nobody can ask for it.
    pub unpartitioned: bool,
    /// Which card it is, where the node's cards are not all of one model; `None`: the node's.
    pub model: Option<Box<SlotModel>>,
    /// Activity of the device over what was read, history where there is one; `None`: no row.
    pub activity: Option<GpuActivity>,
    /// What its exporter shows now, where history has taken its place above.
    pub live: Option<Box<GpuActivity>>,
    /// What its exporter says of its health, where it is certain which device this is.
    pub health: DeviceHealth,
    /// What the sources say of it, side by side.
    pub facts: Facts,
    /// A read failed by which more might be found on it.
    pub doubted: bool,
    /// A right that is granted only where it is asked for was refused, or clocks differ: what is known of it stays, and more
    /// might be found, or surer.
    pub unsettled: bool,
    /// Nobody has held it for at least 80 % of the last 24 hours, as history tells.
    pub free_for_a_day: bool,
}

/// One card among others of its node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotModel {
    /// The catalogue's row; `None`: unknown GPU (named in the gaps).
    pub facts: Option<&'static GpuFacts>,
    /// Canonical name where known, else the driver's.
    pub name: String,
    /// It has a price of its own, or none, instead of a share of the node's.
    pub own_price: bool,
    pub price: Option<UsdPerHour>,
}

impl Slot {
    /// Nobody else can get it: a pod holds it, or a claim does.
    pub fn is_allocated(&self) -> bool {
        !self.holders.is_empty() || !self.claims.is_empty()
    }
}

/// A DRA claim that holds devices.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    pub cluster: usize,
    pub namespace: String,
    pub name: String,
    pub created_at: Option<Timestamp>,
    /// It is being deleted.
    pub ending: bool,
    /// Reserved for nobody, or for pods that have ended or are gone.
    pub unused: bool,
}

/// R3: exactly one state per slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotState {
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
    pub const ALL: [Self; 6] = [
        Self::Free,
        Self::Working,
        Self::Idle,
        Self::Stuck,
        Self::Unhealthy,
        Self::Unknown,
    ];

    pub const fn name(self) -> &'static str {
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
