//! The fleet as the optimiser sees it: nodes with room and a price, pods that may go elsewhere or must stay, and changes that
//! findings allow. Indices, amounts and sets only; whatever could not be read has become "it stays" before it comes here.

use std::collections::BTreeSet;

/// Everything one plan is made of.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// Number of resources; each vector of amounts has that length.
    pub resources: usize,
    pub nodes: Vec<Node>,
    /// Bound pods, and unbound ones that wait for GPUs.
    pub pods: Vec<Pod>,
    pub changes: Vec<Change>,
    pub tiers: Vec<Tier>,
    /// What is asked of pods over domains that are larger than a node.
    pub rules: Vec<Rule>,
    /// Sets of nodes that pods may run on.
    pub places: Vec<Vec<bool>>,
    /// Pods that a selector matches: what anti-affinity and spread refer to.
    pub selections: Vec<BTreeSet<usize>>,
    pub groups: Vec<Group>,
    pub headroom: Headroom,
    /// At most this many moves and changes.
    pub max_moves: Option<usize>,
}

/// Nodes of one cluster with one kind of GPU: a pod on GPUs stays within them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    /// Indices of the resources that are GPUs, or parts of them, here.
    pub gpus: Vec<usize>,
}

/// GPUs of a group that must be left free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Headroom {
    #[default]
    None,
    /// Of the GPUs that stay, rounded up.
    Percent(u32),
    /// As many as the largest node that stays has: its loss finds room.
    OneNode,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub group: usize,
    /// What pods may ask for here, by resource.
    pub allocatable: Vec<u64>,
    /// Micro-dollars per hour; `None`: unknown.
    pub price: Option<i64>,
    /// The bill stops when it is empty, and nothing about it is unknown.
    pub returnable: bool,
    /// It takes pods.
    pub open: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `None`: it waits.
    pub node: Option<usize>,
    /// By resource.
    pub request: Vec<u64>,
    /// Thousandths of physical GPUs that a move disturbs.
    pub milli_gpus: u64,
    /// Index into [`Problem::places`].
    pub places: usize,
    pub how: How,
    /// It may not share a node with these: indices into [`Problem::selections`].
    pub apart: Vec<usize>,
    /// At most so many of these on one node (selection, pods).
    pub spread: Vec<(usize, u32)>,
    /// Selections that it is in.
    pub member: Vec<usize>,
    pub ports: Vec<u16>,
    /// Rules that hold where it is put: indices into [`Problem::rules`].
    pub bound_by: Vec<usize>,
    /// Rules that count it.
    pub counted_by: Vec<usize>,
    /// The change that may end it.
    pub change: Option<usize>,
    /// The tier change that it may take part in.
    pub tier: Option<usize>,
}

/// What a pod asks over domains: zones, racks, whatever a label tells nodes apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub kind: RuleKind,
    /// By node: its domain; `None`: nobody who keeps a spread goes there, and nobody there is counted.
    pub domain: Vec<Option<usize>>,
    /// Domains there are, those without any of these nodes included.
    pub domains: usize,
    /// It does not count domains whose nodes are tainted (cordoned, too): for `min_domains` only that of the pod is sure.
    pub honors_taints: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuleKind {
    /// None of those that it counts in the same domain (required anti-affinity).
    #[default]
    Apart,
    /// At most so many more of them in a domain than in that with the fewest (topology spread, DoNotSchedule). With fewer domains
    /// than `min_domains` the fewest are none.
    Spread { max_skew: u32, min_domains: u32 },
}

/// What a finding allows: all pods of a workload ask for a smaller tier. They are raised there first, then the old ones go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tier {
    pub pods: Vec<usize>,
    /// Each of them afterwards: its request and its places.
    pub after: Pod,
}

/// How a pod leaves its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// It does not.
    #[default]
    Stays,
    /// It belongs to the node and goes with it (DaemonSet, static pod).
    WithNode,
    /// A second one is raised first, then it goes.
    Raise,
    /// It is evicted, and made anew elsewhere; others of its kind serve meanwhile.
    Evict,
}

impl How {
    pub const fn moves(self) -> bool {
        matches!(self, Self::Raise | Self::Evict)
    }
}

/// What a finding allows: pods that can end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub pods: Vec<usize>,
    /// How many of them; all end together where that is all of them.
    pub most: usize,
}

impl Change {
    pub fn ends_all(&self) -> bool {
        self.most >= self.pods.len()
    }
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Move {
        pod: usize,
        from: usize,
        to: usize,
    },
    /// These pods of a change end.
    End {
        change: usize,
        pods: Vec<usize>,
    },
    /// Each pod of the tier is raised on the node of the same place in `to`, with its new request; then the old ones go.
    Tier {
        tier: usize,
        to: Vec<usize>,
    },
    Return {
        node: usize,
    },
    /// It has been emptied for pods that wait, and takes pods again.
    Open {
        node: usize,
    },
}

/// What is done, in an order that is valid at every point, and what it gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Solution {
    pub actions: Vec<Action>,
    /// Nodes that go; nobody is moved onto one.
    pub returned: BTreeSet<usize>,
    /// Nodes that are emptied for pods that wait, which get no room otherwise.
    pub kept_for_queue: BTreeSet<usize>,
    /// Micro-dollars per hour.
    pub saved: i64,
    /// Moves and changes.
    pub moves: usize,
    pub milli_gpus: u64,
}

impl Solution {
    /// More money first, then fewer moves, then fewer GPUs disturbed.
    pub fn is_better_than(&self, other: &Self) -> bool {
        let key = |s: &Self| (-s.saved, s.moves, s.milli_gpus);
        key(self) < key(other)
    }
}
