//! Who is where while a plan is made: every question "does it fit there now" is answered here.

use crate::model::{Headroom, Problem};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Nodes that may take pods, by group: those with the fewest free GPUs first, then those that stay, then those that go latest.
#[derive(Clone, Default)]
struct Index {
    groups: Vec<BTreeSet<Entry>>,
    /// When each node goes, in the order that is tried; `usize::MAX`: it stays.
    rank: Rc<Vec<usize>>,
    /// Not in the index.
    out: Vec<bool>,
}

/// Free GPUs, whether the node goes, how late, which one it is.
pub(crate) type Entry = (u64, bool, std::cmp::Reverse<usize>, usize);

#[derive(Clone)]
pub(crate) struct State<'p> {
    pub(crate) problem: &'p Problem,
    /// Below nothing where more is held than there is (a card that fell ill).
    free: Vec<i64>,
    free_gpus: Vec<u64>,
    index: Index,
    /// How often it was asked whether a pod fits a node.
    pub(crate) looked: Cell<u64>,
    pub(crate) place: Vec<Option<usize>>,
    pub(crate) on: Vec<Vec<usize>>,
    /// Members of each selection on a node.
    members: Vec<BTreeMap<usize, u32>>,
    /// Pods on a node that keep apart from a selection.
    keepers: Vec<BTreeMap<usize, u32>>,
    ports: Vec<BTreeMap<u16, u32>>,
    pub(crate) gone: Vec<bool>,
    /// Pods that have ended.
    pub(crate) ended: Vec<bool>,
}

/// Amounts are far below what it holds; one that is not has no room anywhere.
fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    *counts.entry(key).or_insert(0) += 1;
}

fn remove<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let std::collections::btree_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

impl<'p> State<'p> {
    pub(crate) fn new(problem: &'p Problem) -> Self {
        let n = problem.nodes.len();
        let mut state = Self {
            problem,
            free: problem
                .nodes
                .iter()
                .flat_map(|n| n.allocatable.iter().map(|a| signed(*a)))
                .collect(),
            free_gpus: vec![0; n],
            index: Index::default(),
            looked: Cell::new(0),
            place: vec![None; problem.pods.len()],
            on: vec![Vec::new(); n],
            members: vec![BTreeMap::new(); n],
            keepers: vec![BTreeMap::new(); n],
            ports: vec![BTreeMap::new(); n],
            gone: vec![false; n],
            ended: vec![false; problem.pods.len()],
        };
        for node in 0..n {
            state.free_gpus[node] = state.count_free(node);
        }
        for (i, pod) in problem.pods.iter().enumerate() {
            if let Some(node) = pod.node {
                state.put(i, node);
            }
        }
        state
    }

    /// From here on nodes are found by what is free; those of `avoid` are not.
    pub(crate) fn arrange(&mut self, rank: Vec<usize>, avoid: &BTreeSet<usize>) {
        let nodes = 0..self.problem.nodes.len();
        self.index = Index {
            groups: vec![BTreeSet::new(); self.problem.groups.len()],
            rank: Rc::new(rank),
            out: nodes
                .clone()
                .map(|n| avoid.contains(&n) || !self.problem.nodes[n].open)
                .collect(),
        };
        for node in nodes.filter(|n| !self.index.out[*n]).collect::<Vec<_>>() {
            let entry = self.entry(node);
            self.index.groups[self.problem.nodes[node].group].insert(entry);
        }
    }

    fn entry(&self, node: usize) -> Entry {
        let rank = self.index.rank[node];
        (self.free_gpus[node], rank != usize::MAX, std::cmp::Reverse(rank), node)
    }

    /// Nodes of a group with at least so many free GPUs, in the index's order.
    pub(crate) fn with_free(&self, group: usize, gpus: u64) -> impl DoubleEndedIterator<Item = &Entry> {
        let from = (gpus, false, std::cmp::Reverse(usize::MAX), 0);
        self.index.groups[group].range(from..)
    }

    /// It takes no pods: it is closed, cordoned or gone.
    pub(crate) fn is_out(&self, node: usize) -> bool {
        self.index.out[node]
    }

    pub(crate) fn leave(&mut self, node: usize) {
        let entry = self.entry(node);
        self.index.groups[self.problem.nodes[node].group].remove(&entry);
        self.index.out[node] = true;
        self.gone[node] = true;
    }

    fn count_free(&self, node: usize) -> u64 {
        let group = &self.problem.groups[self.problem.nodes[node].group];
        group.gpus.iter().map(|&r| self.free(node, r)).sum()
    }

    fn change_free(&mut self, node: usize, request: &[u64], sign: i64) {
        for (r, amount) in request.iter().enumerate() {
            self.free[node * self.problem.resources + r] += sign * signed(*amount);
        }
        let (now, group) = (self.count_free(node), self.problem.nodes[node].group);
        if now == self.free_gpus[node] {
            return;
        }
        if self.index.out.get(node) == Some(&false) {
            let entry = self.entry(node);
            self.index.groups[group].remove(&entry);
            self.index.groups[group].insert((now, entry.1, entry.2, node));
        }
        self.free_gpus[node] = now;
    }

    /// What is left of a resource; a node that is over-committed has nothing.
    pub(crate) fn free(&self, node: usize, resource: usize) -> u64 {
        u64::try_from(self.free[node * self.problem.resources + resource]).unwrap_or(0)
    }

    pub(crate) fn put(&mut self, pod: usize, node: usize) {
        let p = &self.problem.pods[pod];
        self.change_free(node, &p.request, -1);
        self.place[pod] = Some(node);
        self.on[node].push(pod);
        p.member.iter().for_each(|s| add(&mut self.members[node], *s));
        p.apart.iter().for_each(|s| add(&mut self.keepers[node], *s));
        p.ports.iter().for_each(|s| add(&mut self.ports[node], *s));
    }

    pub(crate) fn take(&mut self, pod: usize) -> Option<usize> {
        let node = self.place[pod].take()?;
        let p = &self.problem.pods[pod];
        self.change_free(node, &p.request, 1);
        self.on[node].retain(|other| *other != pod);
        p.member.iter().for_each(|s| remove(&mut self.members[node], *s));
        p.apart.iter().for_each(|s| remove(&mut self.keepers[node], *s));
        p.ports.iter().for_each(|s| remove(&mut self.ports[node], *s));
        Some(node)
    }

    /// The node is there, takes pods, and the pod may run on it.
    pub(crate) fn may(&self, pod: usize, node: usize) -> bool {
        let p = &self.problem.pods[pod];
        self.problem.nodes[node].open && !self.gone[node] && self.problem.places[p.places][node]
    }

    pub(crate) fn has_room(&self, pod: usize, node: usize) -> bool {
        let request = &self.problem.pods[pod].request;
        let first = node * self.problem.resources;
        let free = &self.free[first..first + self.problem.resources];
        request
            .iter()
            .zip(free)
            .all(|(amount, free)| *amount == 0 || *free >= signed(*amount))
    }

    pub(crate) fn gets_along(&self, pod: usize, node: usize) -> bool {
        let p = &self.problem.pods[pod];
        let here = |s: usize| self.members[node].get(&s).copied().unwrap_or(0);
        let apart = p.apart.iter().all(|s| here(*s) == 0);
        let kept = p.member.iter().all(|s| !self.keepers[node].contains_key(s));
        let spread = p.spread.iter().all(|(s, most)| {
            let own = u32::from(p.member.contains(s));
            here(*s) + own <= *most
        });
        apart && kept && spread && p.ports.iter().all(|port| !self.ports[node].contains_key(port))
    }

    /// It could be bound there now, as a second one of itself.
    pub(crate) fn fits(&self, pod: usize, node: usize) -> bool {
        self.looked.set(self.looked.get() + 1);
        self.may(pod, node) && self.has_room(pod, node) && self.gets_along(pod, node)
    }

    pub(crate) fn move_to(&mut self, pod: usize, node: usize) {
        self.take(pod);
        self.put(pod, node);
    }

    /// The group would still have the GPUs that must be free if `node` went now.
    pub(crate) fn has_headroom_without(&self, node: usize) -> bool {
        let group = self.problem.nodes[node].group;
        let gpus = &self.problem.groups[group].gpus;
        let (mut free, mut all, mut largest) = (0u64, 0u64, 0u64);
        for (i, n) in self.problem.nodes.iter().enumerate() {
            if n.group == group && i != node && !self.gone[i] && n.open {
                let own: u64 = gpus.iter().map(|r| n.allocatable[*r]).sum();
                (free, all, largest) = (free + self.free_gpus[i], all + own, largest.max(own));
            }
        }
        match self.problem.headroom {
            Headroom::None => true,
            Headroom::Percent(p) => u128::from(free) * 100 >= u128::from(all) * u128::from(p),
            Headroom::OneNode => free >= largest,
        }
    }
}
