//! Who is where while a plan is made: every question "does it fit there now" is answered here.

use crate::model::{Headroom, Problem};
use std::collections::BTreeMap;

#[derive(Clone)]
pub(crate) struct State<'p> {
    pub(crate) problem: &'p Problem,
    free: Vec<u64>,
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
                .flat_map(|n| n.allocatable.iter().copied())
                .collect(),
            place: vec![None; problem.pods.len()],
            on: vec![Vec::new(); n],
            members: vec![BTreeMap::new(); n],
            keepers: vec![BTreeMap::new(); n],
            ports: vec![BTreeMap::new(); n],
            gone: vec![false; n],
            ended: vec![false; problem.pods.len()],
        };
        for (i, pod) in problem.pods.iter().enumerate() {
            if let Some(node) = pod.node {
                state.put(i, node);
            }
        }
        state
    }

    /// What is left of a resource; a node that is over-committed has nothing.
    pub(crate) fn free(&self, node: usize, resource: usize) -> u64 {
        self.free[node * self.problem.resources + resource]
    }

    pub(crate) fn free_gpus(&self, node: usize) -> u64 {
        let group = &self.problem.groups[self.problem.nodes[node].group];
        group.gpus.iter().map(|&r| self.free(node, r)).sum()
    }

    pub(crate) fn put(&mut self, pod: usize, node: usize) {
        let p = &self.problem.pods[pod];
        for (r, amount) in p.request.iter().enumerate() {
            let free = &mut self.free[node * self.problem.resources + r];
            *free = free.wrapping_sub(*amount);
        }
        self.place[pod] = Some(node);
        self.on[node].push(pod);
        p.member.iter().for_each(|s| add(&mut self.members[node], *s));
        p.apart.iter().for_each(|s| add(&mut self.keepers[node], *s));
        p.ports.iter().for_each(|s| add(&mut self.ports[node], *s));
    }

    pub(crate) fn take(&mut self, pod: usize) -> Option<usize> {
        let node = self.place[pod].take()?;
        let p = &self.problem.pods[pod];
        for (r, amount) in p.request.iter().enumerate() {
            let free = &mut self.free[node * self.problem.resources + r];
            *free = free.wrapping_add(*amount);
        }
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
        // Over-committed nodes have wrapped around: whatever is asked for beside nothing is not there.
        request.iter().enumerate().all(|(r, amount)| {
            let free = self.free(node, r);
            *amount == 0 || (free >= *amount && free <= self.problem.nodes[node].allocatable[r])
        })
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
                let left: u64 = gpus
                    .iter()
                    .map(|r| self.free(i, *r))
                    .zip(gpus.iter().map(|r| n.allocatable[*r]))
                    .map(|(free, all)| if free > all { 0 } else { free })
                    .sum();
                (free, all, largest) = (free + left, all + own, largest.max(own));
            }
        }
        match self.problem.headroom {
            Headroom::None => true,
            Headroom::Percent(p) => u128::from(free) * 100 >= u128::from(all) * u128::from(p),
            Headroom::OneNode => free >= largest,
        }
    }
}
