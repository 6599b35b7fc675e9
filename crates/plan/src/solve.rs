//! The search for the cheapest fleet. Whole solutions are made by one procedure, the *decoder*: it empties nodes in a given
//! order, each pod moving into room that is free at that moment, so that every solution is valid at every step by
//! construction. What is searched is the order. Deterministic: a fixed sequence of pseudo-random orders, a number of tries
//! that depends on the fleet's size alone.

use crate::bound;
use crate::model::{Action, Problem, Solution};
use crate::state::{As, Entry, State};
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Pods that are moved aside on a node to make room for one more (ours: each is a further move).
const ASIDE: usize = 3;
/// Nodes that are tried for that, those with the most free GPUs first.
const ASIDE_NODES: usize = 48;
/// Times that one search may ask whether a pod fits a node, a node of the fleet, and in all (ours: about a third of a second
/// on one core for 100 nodes, two for 1,000).
const WORK: (u64, u64) = (30_000, 30_000_000);
/// Tries at most.
const TRIES: usize = 600;

/// The best plan found, and the most that any plan could save.
pub fn solve(problem: &Problem) -> (Solution, i64) {
    let bound = bound::most(problem);
    let mut order = first_order(problem);
    let start = Start::new(problem);
    let work = (problem.nodes.len() as u64 * WORK.0).min(WORK.1);
    // Changes, then tiers, that are made first, to have their room, whether or not their nodes go.
    let mut early = vec![false; problem.changes.len() + problem.tiers.len()];
    let mut best = evaluate(&start, &order, &early, Style::Tight);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut idle = 0;
    for turn in 0..TRIES {
        // All the money is found: a few more turns may need fewer moves.
        if idle > TRIES / 2 || (best.saved >= bound && idle > 24) || start.looked.get() > work {
            break;
        }
        let style = if turn % 2 == 0 { Style::Fixed } else { Style::Tight };
        let (next, first) = match turn {
            0 => (order.clone(), early.clone()),
            1 | 2 => (order.clone(), vec![true; early.len()]),
            _ => (neighbour(&order, &best, &mut random), toggled(&early, &mut random)),
        };
        let found = evaluate(&start, &next, &first, style);
        idle += 1;
        if found.is_better_than(&best) {
            (best, order, early, idle) = (found, next, first, 0);
        } else if found.saved == best.saved {
            (order, early) = (next, first);
        }
    }
    // A tier that brings nothing stays as it is.
    for tier in problem.changes.len()..early.len() {
        if std::mem::take(&mut early[tier]) {
            let without = evaluate(&start, &order, &early, Style::Tight);
            if without.is_better_than(&best) {
                best = without;
            } else {
                early[tier] = true;
            }
        }
    }
    if best.saved == 0 {
        best = Solution::default();
    }
    let bound = if best.saved < bound {
        bound::most_by_packing(problem, &best, bound)
    } else {
        bound
    };
    (best, bound)
}

/// Which of the nodes with room is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// The one that it fills best.
    Tight,
    /// One that stays whatever happens, before one that might go.
    Fixed,
}

/// A fixed sequence (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

/// Nodes that could go: the most money for the fewest GPUs to move first.
fn first_order(problem: &Problem) -> Vec<usize> {
    let mut load = vec![(0u64, 0u64, false); problem.nodes.len()];
    for pod in &problem.pods {
        if let Some(node) = pod.node {
            let l = &mut load[node];
            let ends = pod.change.is_some();
            if pod.how == crate::model::How::Stays && !ends {
                l.2 = true;
            }
            if pod.how.moves() && !ends {
                l.0 += pod.milli_gpus;
                l.1 += 1;
            }
        }
    }
    let mut order: Vec<usize> = (0..problem.nodes.len())
        .filter(|&i| problem.nodes[i].returnable && problem.nodes[i].price.is_some_and(|p| p > 0) && !load[i].2)
        .collect();
    order.sort_by_key(|&i| {
        let price = problem.nodes[i].price.unwrap_or(0);
        let (gpus, pods, _) = load[i];
        let cost = i128::from(gpus) + i128::from(pods) * 200 + 1;
        (Reverse(i128::from(price) * 1_000_000 / cost), i)
    });
    order
}

/// Now and then one change is made first, or no longer.
fn toggled(early: &[bool], random: &mut Random) -> Vec<bool> {
    let mut next = early.to_vec();
    if !next.is_empty() && random.below(4) == 0 {
        let change = random.below(next.len());
        next[change] = !next[change];
    }
    next
}

fn neighbour(order: &[usize], best: &Solution, random: &mut Random) -> Vec<usize> {
    let mut next = order.to_vec();
    if next.len() < 2 {
        return next;
    }
    for _ in 0..=random.below(3) {
        let n = next.len();
        match random.below(4) {
            // A node that stayed comes first.
            0 => {
                let staying: Vec<usize> = (0..n).filter(|i| !best.returned.contains(&next[*i])).collect();
                if !staying.is_empty() {
                    let at = staying[random.below(staying.len())];
                    let node = next.remove(at);
                    next.insert(0, node);
                }
            }
            // One that went comes last.
            1 => {
                let going: Vec<usize> = (0..n).filter(|i| best.returned.contains(&next[*i])).collect();
                if !going.is_empty() {
                    let at = going[random.below(going.len())];
                    let node = next.remove(at);
                    next.push(node);
                }
            }
            2 => next.swap(random.below(n), random.below(n)),
            _ => {
                let (from, to) = (random.below(n), random.below(n));
                let node = next.remove(from);
                next.insert(to, node);
            }
        }
    }
    next
}

/// What every try begins with.
struct Start<'p> {
    state: State<'p>,
    /// By set of places: groups with nodes in it.
    groups_of: Vec<Vec<usize>>,
    /// How often a try asked whether a pod fits a node, all of them together: the same on every machine.
    looked: Cell<u64>,
}

impl<'p> Start<'p> {
    fn new(problem: &'p Problem) -> Self {
        let of = |set: &Vec<bool>| {
            let nodes = problem.nodes.iter().enumerate();
            let groups: BTreeSet<usize> = nodes.filter(|(n, _)| set[*n]).map(|(_, n)| n.group).collect();
            groups.into_iter().collect()
        };
        Self {
            state: State::new(problem),
            groups_of: problem.places.iter().map(of).collect(),
            looked: Cell::new(0),
        }
    }
}

/// What the order gives, done so that nobody moves onto a node that goes later: those are cordoned from the start.
fn evaluate(start: &Start<'_>, order: &[usize], early: &[bool], style: Style) -> Solution {
    let mut found = decode(start, order, &BTreeSet::new(), early, style);
    loop {
        let avoid: BTreeSet<usize> = found.returned.union(&found.kept_for_queue).copied().collect();
        let sequence: Vec<usize> = order.iter().copied().filter(|n| avoid.contains(n)).collect();
        let again = decode(start, &sequence, &avoid, early, style);
        if again.returned.len() + again.kept_for_queue.len() == avoid.len() {
            return again;
        }
        found = again;
        if found.returned.is_empty() {
            return found;
        }
    }
}

fn decode(start: &Start<'_>, order: &[usize], avoid: &BTreeSet<usize>, early: &[bool], style: Style) -> Solution {
    let problem = start.state.problem;
    let mut rank = vec![usize::MAX; problem.nodes.len()];
    for (i, node) in order.iter().enumerate() {
        rank[*node] = i;
    }
    let mut state = start.state.clone();
    state.arrange(rank.clone(), avoid);
    let mut run = Run {
        state,
        problem,
        groups_of: &start.groups_of,
        rank,
        style,
        emptying: None,
        left: problem.changes.iter().map(|c| c.most).collect(),
        log: Vec::new(),
        found: Solution::default(),
        queue: Vec::new(),
    };
    run.admit();
    for change in (0..early.len()).filter(|c| early[*c]) {
        match change.checked_sub(problem.changes.len()) {
            None => run.end_early(change),
            Some(tier) => drop(run.tier(tier)),
        }
    }
    for &node in order {
        run.try_to_return(node);
    }
    start.looked.set(start.looked.get() + run.state.looked.get());
    run.found
}

/// Enough to take a step back.
enum Undo {
    Place {
        pod: usize,
        was: Option<usize>,
    },
    End {
        pod: usize,
        change: usize,
    },
    /// It waits again.
    Admit {
        pod: usize,
    },
    Tier {
        tier: usize,
        was: Vec<usize>,
    },
    Seal {
        node: usize,
    },
}

struct Run<'p> {
    problem: &'p Problem,
    state: State<'p>,
    groups_of: &'p [Vec<usize>],
    /// When each node goes, in the order that is tried; `usize::MAX`: it stays.
    rank: Vec<usize>,
    style: Style,
    /// It is cordoned.
    emptying: Option<usize>,
    /// Pods that each change may still end.
    left: Vec<usize>,
    log: Vec<Undo>,
    found: Solution,
    /// Pods that wait and have no room yet.
    queue: Vec<usize>,
}

impl Run<'_> {
    /// Pods that wait get the room that there is, before anybody else.
    fn admit(&mut self) {
        let waiting: Vec<usize> = (0..self.problem.pods.len())
            .filter(|&p| self.problem.pods[p].node.is_none())
            .collect();
        for pod in waiting {
            match self.target(pod, usize::MAX) {
                Some(node) => self.state.put(pod, node),
                None => self.queue.push(pod),
            }
        }
    }

    /// Room that has come free is taken by who waits for it, at once, unless the node is cordoned.
    fn settle(&mut self, node: usize) {
        for pod in self.queue.clone() {
            if self.emptying != Some(node) && !self.state.is_out(node) && self.state.fits(pod, node) {
                self.state.put(pod, node);
                self.queue.retain(|p| *p != pod);
                self.log.push(Undo::Admit { pod });
            }
        }
    }

    /// Pods of the change on nodes that stay; all of them where it ends all.
    fn end_early(&mut self, change: usize) {
        let ends = &self.problem.changes[change];
        for &pod in &ends.pods {
            let stays = self.problem.pods[pod].node.is_some_and(|n| self.rank[n] == usize::MAX);
            if (stays || ends.ends_all()) && !self.state.ended[pod] && self.found.moves < self.most() {
                self.end(pod);
            }
        }
    }

    fn most(&self) -> usize {
        self.problem.max_moves.unwrap_or(usize::MAX)
    }

    fn try_to_return(&mut self, node: usize) {
        let (log, actions) = (self.log.len(), self.found.actions.len());
        let (moves, gpus) = (self.found.moves, self.found.milli_gpus);
        let within = |run: &Self| run.found.moves <= run.most();
        self.emptying = Some(node);
        let done = self.empty(node) && within(self) && self.state.has_headroom_without(node);
        if !done {
            self.back_to(log);
            self.found.actions.truncate(actions);
            (self.found.moves, self.found.milli_gpus) = (moves, gpus);
            return;
        }
        // Who waits comes first: the node is theirs.
        let served: Vec<usize> = self.queue.clone();
        for pod in served {
            if self.state.fits(pod, node) {
                self.state.put(pod, node);
                self.queue.retain(|p| *p != pod);
                self.found.kept_for_queue.insert(node);
            }
        }
        if self.found.kept_for_queue.contains(&node) {
            // Now, lest they take room elsewhere that comes free later and is counted on.
            self.found.actions.push(Action::Open { node });
            return;
        }
        self.state.leave(node);
        self.found.saved += self.problem.nodes[node].price.unwrap_or(0);
        self.found.returned.insert(node);
        self.found.actions.push(Action::Return { node });
    }

    fn back_to(&mut self, length: usize) {
        while self.log.len() > length {
            match self.log.pop() {
                Some(Undo::Place { pod, was }) => {
                    self.state.take(pod);
                    if let Some(node) = was {
                        self.state.put(pod, node);
                    }
                }
                Some(Undo::End { pod, change }) => {
                    self.state.ended[pod] = false;
                    self.left[change] += 1;
                }
                Some(Undo::Tier { tier, was }) => self.state.tier(tier, &was, false),
                Some(Undo::Seal { node }) => self.state.seal(node, false),
                Some(Undo::Admit { pod }) => {
                    self.state.take(pod);
                    let at = self.queue.partition_point(|p| *p < pod);
                    self.queue.insert(at, pod);
                }
                None => return,
            }
        }
    }

    /// The GPUs of a request, then its CPU and the rest.
    fn size(&self, pod: usize) -> (u64, u64) {
        let p = &self.problem.pods[pod];
        (p.milli_gpus, p.request.iter().copied().fold(0, u64::saturating_add))
    }

    /// A pod of a tier that was changed is a new one, whose name nobody knows: it stays for now.
    fn moves(&self, pod: usize) -> bool {
        let p = &self.problem.pods[pod];
        p.how.moves() && !p.tier.is_some_and(|t| self.state.tiered[t])
    }

    /// All pods of the tier go where it lets them, at once; none of them has moved before, so that their names are known.
    fn tier(&mut self, tier: usize) -> bool {
        let pods = &self.problem.tiers[tier].pods;
        let there = |p: &usize| self.state.place[*p].is_some() && self.state.place[*p] == self.problem.pods[*p].node;
        if self.state.tiered[tier] || !pods.iter().all(there) || self.found.moves + pods.len() > self.most() {
            return false;
        }
        let groups = self.groups_of[self.problem.tiers[tier].after.places].clone();
        let emptying = self.emptying;
        let (problem, fixed) = (self.problem, self.style == Style::Fixed);
        let Some(to) = self.state.raise_tier(tier, |state, pod| {
            let mut best: Option<(bool, Entry)> = None;
            for &group in &groups {
                let need = problem.groups[group].gpus.iter();
                let need = need.map(|r| problem.tiers[tier].after.request[*r]).sum();
                let fit = |e: &&Entry| Some(e.3) != emptying && state.fits_as(pod, e.3, As::Tier);
                // One node after the other: which of several takes how many is the scheduler's choice.
                let mut all = state.with_free(group, need).filter(fit).map(|e| (fixed && e.1, *e));
                let first = if fixed { all.min() } else { all.next() };
                best = best.into_iter().chain(first).min();
            }
            best.map(|b| b.1.3)
        }) else {
            return false;
        };
        let was: Vec<usize> = pods.iter().filter_map(|p| self.state.place[*p]).collect();
        self.state.tier(tier, &to, true);
        self.log.push(Undo::Tier { tier, was: was.clone() });
        let mut used = to.iter().map(|n| self.problem.nodes[*n].group);
        if !used.all(|g| self.state.has_headroom(g, None)) {
            if let Some(Undo::Tier { tier, was }) = self.log.pop() {
                self.state.tier(tier, &was, false);
            }
            return false;
        }
        let mut targets = to.clone();
        targets.sort_unstable();
        targets.dedup();
        // Where there are several nobody counts on what is left of one of them.
        if targets.len() > 1 {
            for &node in targets.iter().filter(|n| !self.state.is_out(**n)).collect::<Vec<_>>() {
                self.state.seal(node, true);
                self.log.push(Undo::Seal { node });
            }
        }
        self.found.moves += pods.len();
        self.found.milli_gpus += pods.iter().map(|p| self.problem.pods[*p].milli_gpus).sum::<u64>();
        self.found.actions.push(Action::Tier { tier, to });
        let mut freed = was;
        freed.sort_unstable();
        freed.dedup();
        for node in freed {
            self.settle(node);
        }
        true
    }

    fn empty(&mut self, node: usize) -> bool {
        let mut pods = self.state.on[node].clone();
        pods.sort_by_key(|&p| (Reverse(self.size(p)), p));
        for pod in pods {
            let p = &self.problem.pods[pod];
            let left = self.state.place[pod] != Some(node);
            if left || p.how == crate::model::How::WithNode {
                continue;
            }
            let done = match p.node {
                // Its room is only kept for it.
                None => self.relocate(pod, node),
                Some(_) => {
                    self.end(pod)
                        || (self.moves(pod) && (self.relocate(pod, node) || self.make_room(pod, node)))
                        || p.tier.is_some_and(|t| self.tier(t))
                }
            };
            if !done {
                return false;
            }
        }
        true
    }

    /// The change that the pod is in ends it, with all others where it ends all.
    fn end(&mut self, pod: usize) -> bool {
        let Some(change) = self.problem.pods[pod].change.filter(|c| self.left[*c] > 0) else {
            return false;
        };
        let ends = &self.problem.changes[change];
        let pods: Vec<usize> = if ends.ends_all() { ends.pods.clone() } else { vec![pod] };
        let mut freed = Vec::new();
        for &p in &pods {
            let was = self.state.place[p];
            self.state.take(p);
            self.state.ended[p] = true;
            self.left[change] -= 1;
            self.log.push(Undo::Place { pod: p, was });
            self.log.push(Undo::End { pod: p, change });
            freed.extend(was);
        }
        freed.sort_unstable();
        freed.dedup();
        for node in freed {
            self.settle(node);
        }
        self.found.moves += 1;
        self.found.actions.push(Action::End { change, pods });
        true
    }

    fn go(&mut self, pod: usize, to: usize) {
        let was = self.state.place[pod];
        self.log.push(Undo::Place { pod, was });
        self.state.move_to(pod, to);
        if let (Some(from), Some(_)) = (was, self.problem.pods[pod].node) {
            self.found.moves += 1;
            self.found.milli_gpus += self.problem.pods[pod].milli_gpus;
            self.found.actions.push(Action::Move { pod, from, to });
            self.settle(from);
        }
    }

    fn relocate(&mut self, pod: usize, from: usize) -> bool {
        match self.target(pod, from) {
            Some(to) => {
                self.go(pod, to);
                true
            }
            None => false,
        }
    }

    /// Groups that have nodes where it may run, and the GPUs that it needs in each.
    fn groups(&self, pod: usize) -> impl Iterator<Item = (usize, u64)> + use<'_> {
        let p = &self.problem.pods[pod];
        self.groups_of[p.places].iter().map(|&g| {
            let gpus = self.problem.groups[g].gpus.iter();
            (g, gpus.map(|r| p.request[*r]).sum())
        })
    }

    /// The node with room that suits best; `except` is the one that it leaves.
    fn target(&self, pod: usize, except: usize) -> Option<usize> {
        let mut best: Option<(bool, Entry)> = None;
        for (group, gpus) in self.groups(pod) {
            for entry in self.state.with_free(group, gpus) {
                // What comes later in a group suits less.
                let key = (self.style == Style::Fixed && entry.1, *entry);
                if best.is_some_and(|b| b < key) {
                    if self.style == Style::Tight || best.is_some_and(|b| !b.0) {
                        break;
                    }
                    continue;
                }
                if entry.3 != except && self.state.fits(pod, entry.3) {
                    best = Some(key);
                }
            }
        }
        best.map(|b| b.1.3)
    }

    fn steps_aside(&self, pod: usize, larger: usize) -> bool {
        let p = &self.problem.pods[pod];
        self.moves(pod) && p.node.is_some() && self.size(pod) < self.size(larger)
    }

    /// Smaller pods step aside on some node, so that this one has room there.
    fn make_room(&mut self, pod: usize, from: usize) -> bool {
        let mut nodes: Vec<(Reverse<u64>, usize)> = Vec::new();
        for (group, need) in self.groups(pod) {
            let gpus = &self.problem.groups[group].gpus;
            // Stepping aside must be able to bring enough.
            let can = |e: &&Entry| {
                self.state.looked.set(self.state.looked.get() + 1);
                let aside = self.state.on[e.3].iter().filter(|p| self.steps_aside(**p, pod));
                let more = aside.map(|p| gpus.iter().map(|r| self.problem.pods[*p].request[*r]).sum::<u64>());
                e.3 != from && self.state.may(pod, e.3) && more.fold(e.0, u64::saturating_add) >= need
            };
            let most = self.state.with_free(group, 0).rev().filter(can).take(ASIDE_NODES);
            nodes.extend(most.map(|e| (Reverse(e.0), e.3)));
        }
        nodes.sort_unstable();
        let (log, actions) = (self.log.len(), self.found.actions.len());
        let (moves, gpus) = (self.found.moves, self.found.milli_gpus);
        for (_, node) in nodes.into_iter().take(ASIDE_NODES) {
            let mut aside: Vec<usize> = self.state.on[node]
                .iter()
                .copied()
                .filter(|&p| self.steps_aside(p, pod))
                .collect();
            aside.sort_by_key(|&p| (self.size(p), p));
            for other in aside.into_iter().take(ASIDE) {
                let target = self.target(other, node).filter(|t| *t != from);
                let Some(to) = target else { continue };
                self.go(other, to);
                if self.state.fits(pod, node) {
                    self.go(pod, node);
                    return true;
                }
            }
            self.back_to(log);
            self.found.actions.truncate(actions);
            (self.found.moves, self.found.milli_gpus) = (moves, gpus);
        }
        false
    }
}
