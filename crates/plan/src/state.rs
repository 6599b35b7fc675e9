//! Who is where while a plan is made: every question "does it fit there now" is answered here.

use crate::model::{Headroom, Pod, Problem, Rule, RuleKind};
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
    /// Tier changes that are made.
    pub(crate) tiered: Vec<bool>,
    /// By rule and domain: pods that it counts, and pods that it binds.
    counted: Vec<Vec<(u32, u32)>>,
}

/// As what a pod is asked about: as it is now, or as its tier change makes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    Now,
    Tier,
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
            tiered: vec![false; problem.tiers.len()],
            counted: problem.rules.iter().map(|r| vec![(0, 0); r.domains]).collect(),
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

    /// What it is once its tier change is made, or what it is now.
    fn ask(&self, pod: usize, of: As) -> &'p Pod {
        let p = &self.problem.pods[pod];
        match p.tier {
            Some(tier) if of == As::Tier || self.tiered[tier] => &self.problem.tiers[tier].after,
            _ => p,
        }
    }

    pub(crate) fn put(&mut self, pod: usize, node: usize) {
        self.count(pod, node, As::Now, true);
        self.place[pod] = Some(node);
        self.on[node].push(pod);
    }

    pub(crate) fn take(&mut self, pod: usize) -> Option<usize> {
        let node = self.place[pod].take()?;
        self.count(pod, node, As::Now, false);
        self.on[node].retain(|other| *other != pod);
        Some(node)
    }

    /// What it holds there, and whom it keeps off.
    fn count(&mut self, pod: usize, node: usize, of: As, comes: bool) {
        let p = &self.problem.pods[pod];
        self.change_free(node, &self.ask(pod, of).request, if comes { -1 } else { 1 });
        let one = if comes { add } else { remove };
        p.member.iter().for_each(|s| one(&mut self.members[node], *s));
        p.apart.iter().for_each(|s| one(&mut self.keepers[node], *s));
        let one = if comes { add } else { remove };
        p.ports.iter().for_each(|s| one(&mut self.ports[node], *s));
        let step = |n: &mut u32| *n = if comes { *n + 1 } else { n.saturating_sub(1) };
        for rule in &p.counted_by {
            if let Some(domain) = self.problem.rules[*rule].domain[node] {
                step(&mut self.counted[*rule][domain].0);
            }
        }
        for rule in &p.bound_by {
            if let Some(domain) = self.problem.rules[*rule].domain[node] {
                step(&mut self.counted[*rule][domain].1);
            }
        }
    }

    /// All pods of the tier on these nodes, the old ones still there; `None`: one finds no room, and nothing has changed.
    pub(crate) fn raise_tier(
        &mut self,
        tier: usize,
        mut target: impl FnMut(&Self, usize) -> Option<usize>,
    ) -> Option<Vec<usize>> {
        let pods = &self.problem.tiers[tier].pods;
        let mut to = Vec::new();
        for &pod in pods {
            let Some(node) = target(self, pod) else { break };
            self.count(pod, node, As::Tier, true);
            to.push(node);
        }
        for (pod, node) in pods.iter().zip(&to) {
            self.count(*pod, *node, As::Tier, false);
        }
        (to.len() == pods.len()).then_some(to)
    }

    /// The old ones go, the new ones are there. The other way round with `made: false`.
    pub(crate) fn tier(&mut self, tier: usize, to: &[usize], made: bool) {
        let pods = &self.problem.tiers[tier].pods;
        for pod in pods {
            self.take(*pod);
        }
        self.tiered[tier] = made;
        for (pod, node) in pods.iter().zip(to) {
            self.put(*pod, *node);
        }
    }

    /// It takes no more pods, although it stays, or it does again.
    pub(crate) fn seal(&mut self, node: usize, sealed: bool) {
        let (entry, group) = (self.entry(node), self.problem.nodes[node].group);
        if sealed {
            self.index.groups[group].remove(&entry);
        } else {
            self.index.groups[group].insert(entry);
        }
        self.index.out[node] = sealed;
    }

    /// The node is there, takes pods, and the pod may run on it.
    pub(crate) fn may(&self, pod: usize, node: usize) -> bool {
        self.may_as(pod, node, As::Now)
    }

    fn may_as(&self, pod: usize, node: usize, of: As) -> bool {
        let places = self.ask(pod, of).places;
        self.problem.nodes[node].open && !self.gone[node] && self.problem.places[places][node]
    }

    pub(crate) fn has_room(&self, pod: usize, node: usize, of: As) -> bool {
        let request = &self.ask(pod, of).request;
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
        self.fits_as(pod, node, As::Now)
    }

    pub(crate) fn fits_as(&self, pod: usize, node: usize, of: As) -> bool {
        self.looked.set(self.looked.get() + 1);
        self.may_as(pod, node, of)
            && self.has_room(pod, node, of)
            && self.gets_along(pod, node)
            && self.keeps_rules(pod, node)
    }

    /// The scheduler lets it in by what it asks over domains, and no spread becomes worse than it may be or is.
    fn keeps_rules(&self, pod: usize, node: usize) -> bool {
        let p = &self.problem.pods[pod];
        let all = p.bound_by.iter().chain(&p.counted_by);
        all.into_iter().all(|rule| self.keeps(*rule, pod, node))
    }

    fn keeps(&self, index: usize, pod: usize, node: usize) -> bool {
        let (p, rule) = (&self.problem.pods[pod], &self.problem.rules[index]);
        let (binds, counts) = (p.bound_by.contains(&index), p.counted_by.contains(&index));
        let counted = &self.counted[index];
        let Some(to) = rule.domain[node] else {
            // Without the label anti-affinity does not look, and spread does not let in.
            return rule.kind == RuleKind::Apart || !binds;
        };
        match rule.kind {
            RuleKind::Apart => (!binds || counted[to].0 == 0) && (!counts || counted[to].1 == 0),
            RuleKind::Spread { max_skew, min_domains } => {
                let own = u32::from(counts);
                let from = self.place[pod].filter(|_| counts).and_then(|n| rule.domain[n]);
                let without = |d: usize| counted[d].0.saturating_sub(u32::from(from == Some(d)));
                let few = self.sure_domains(rule, min_domains) < min_domains;
                let fewest = |of: &dyn Fn(usize) -> u32| {
                    if few {
                        0
                    } else {
                        (0..rule.domains).map(of).min().unwrap_or(0)
                    }
                };
                // While both are there (raised first), and once the old one has gone.
                let both = p.how != crate::model::How::Raise
                    || counted[to].0 + own <= fewest(&|d| counted[d].0).saturating_add(max_skew);
                let after = |d: usize| without(d) + if d == to { own } else { 0 };
                let most = (0..rule.domains).map(after).max().unwrap_or(0);
                let now = (0..rule.domains).map(|d| counted[d].0).max().unwrap_or(0);
                let skew = now - fewest(&|d| counted[d].0).min(now);
                !binds && own == 0
                    || (!binds || both && without(to) + own <= fewest(&without).saturating_add(max_skew))
                        && most - fewest(&after).min(most) <= skew.max(max_skew)
            }
        }
    }

    /// Domains that the scheduler counts, as far as `min_domains` asks for them. A node that has gone may still be listed for a
    /// while: it makes no domain sure, and that nobody is there counts all the same.
    fn sure_domains(&self, rule: &Rule, wanted: u32) -> u32 {
        if wanted <= 1 || rule.honors_taints {
            return 1;
        }
        let there = rule.domain.iter().zip(&self.gone).filter(|(_, gone)| !**gone);
        let there: BTreeSet<usize> = there.filter_map(|(d, _)| *d).collect();
        u32::try_from(there.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn move_to(&mut self, pod: usize, node: usize) {
        self.take(pod);
        self.put(pod, node);
    }

    /// The group would still have the GPUs that must be free if `node` went now.
    pub(crate) fn has_headroom_without(&self, node: usize) -> bool {
        self.has_headroom(self.problem.nodes[node].group, Some(node))
    }

    pub(crate) fn has_headroom(&self, group: usize, without: Option<usize>) -> bool {
        let gpus = &self.problem.groups[group].gpus;
        let (mut free, mut all, mut largest) = (0u64, 0u64, 0u64);
        for (i, n) in self.problem.nodes.iter().enumerate() {
            if n.group == group && without != Some(i) && !self.gone[i] && n.open {
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
