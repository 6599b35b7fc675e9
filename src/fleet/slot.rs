//! What can be held: a physical GPU, or a part of one.

use super::{GpuActivity, NodeId, PodId, state};
use crate::units::UsdPerHour;
use jiff::Timestamp;

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
    /// DRA claims that hold it, whoever uses them: indices into [`super::Fleet::claims`].
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
