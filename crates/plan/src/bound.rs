//! The most that any plan could save: what stays needs room, so nodes must stay. Each argument is about one group (pods on
//! GPUs stay within theirs); the smallest figure of a group counts, and groups add up. No argument depends on the search.

mod packing;

use crate::model::{Change, Headroom, How, Pod, Problem, Solution, Tier};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Kinds of waiting pods that are told apart, each of which doubles the cases (ours).
const WAITING: usize = 3;

/// Tier changes that are told apart, each of which doubles the cases (ours); of the others it is only said that their pods need no
/// room, neither here nor there.
const TIERS: usize = 3;

/// Micro-dollars per hour that no plan exceeds, by arguments about sums and counts.
pub(crate) fn most(problem: &Problem) -> i64 {
    let free = Fleet::new(problem, 0).most(&|_, group| group.by_sums());
    let needs = needs(problem);
    free.min(by_moves(problem, &needs))
        .min(by_paid_moves(problem, &needs, free))
}

/// The same by how pods can share nodes, where that is less: a search, which ends where `found` is proven to be the best.
pub(crate) fn most_by_packing(problem: &Problem, found: &Solution, known: i64) -> i64 {
    let fleet = Fleet::new(problem, 0);
    known.min(fleet.most(&|g, group| by_packing(group, fleet.own(g, found))))
}

fn by_packing(group: &Group<'_>, found: i64) -> i64 {
    let most = group.by_sums();
    if most > found {
        most.min(packing::most(group, found))
    } else {
        most
    }
}

/// Of each group: what no plan exceeds, whatever the number of moves, and what `found` saves there. Of fleets without tier changes.
#[cfg(test)]
pub(crate) fn by_group(problem: &Problem, found: &Solution) -> Vec<(i64, i64)> {
    let fleet = Fleet::new(problem, 0);
    let of = |g: usize| {
        let own = fleet.own(g, found);
        (fleet.of(g, &[], &|_, group| by_packing(group, own)), own)
    };
    (0..problem.groups.len()).map(of).collect()
}

/// What is known of a tier change in one case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Made {
    /// Its pods ask for nothing: less than they do in any case.
    Unknown,
    No,
    Yes,
}

/// All groups, and which tier changes tie them together.
struct Fleet<'p> {
    problem: &'p Problem,
    on: Vec<Vec<&'p Pod>>,
    waiting: Vec<&'p Pod>,
    /// What a move costs in micro-dollars per hour (a price of the relaxation, not of anybody), by node: of those that must leave it.
    paid: Vec<i64>,
    /// Tier changes that are told apart.
    tiers: Vec<usize>,
    /// By tier: the groups that its pods are in now, and the one where all of them would be.
    touches: Vec<(BTreeSet<usize>, Option<usize>)>,
}

impl<'p> Fleet<'p> {
    fn new(problem: &'p Problem, move_costs: i64) -> Self {
        let mut on: Vec<Vec<&Pod>> = vec![Vec::new(); problem.nodes.len()];
        for pod in &problem.pods {
            if let Some(node) = pod.node {
                on[node].push(pod);
            }
        }
        let touches: Vec<_> = problem.tiers.iter().map(|tier| touches(problem, tier)).collect();
        let gpus = |t: &usize| -> u64 { problem.tiers[*t].pods.iter().map(|p| problem.pods[*p].milli_gpus).sum() };
        let mut tiers: Vec<usize> = (0..problem.tiers.len()).collect();
        tiers.sort_by_key(|t| (Reverse(gpus(t)), *t));
        tiers.truncate(TIERS);
        let needs = needs(problem);
        Self {
            problem,
            on,
            waiting: problem.pods.iter().filter(|p| p.node.is_none()).collect(),
            paid: needs
                .iter()
                .map(|n| n.map_or(0, |n| move_costs.saturating_mul(i64::try_from(n).unwrap_or(i64::MAX))))
                .collect(),
            tiers,
            touches,
        }
    }

    /// What `found` saves of a group.
    fn own(&self, group: usize, found: &Solution) -> i64 {
        let nodes = found.returned.iter().map(|n| &self.problem.nodes[*n]);
        nodes.filter(|n| n.group == group).map(|n| n.price.unwrap_or(0)).sum()
    }

    /// The sum over all groups, in the best case: each tier change that is told apart is made or not, everywhere.
    fn most(&self, bound: &dyn Fn(usize, &Group<'_>) -> i64) -> i64 {
        let mut known: BTreeMap<(usize, Vec<Made>), i64> = BTreeMap::new();
        let mut case = |bits: usize| -> i64 {
            let mut made = vec![Made::Unknown; self.problem.tiers.len()];
            for (i, tier) in self.tiers.iter().enumerate() {
                made[*tier] = if bits >> i & 1 == 1 { Made::Yes } else { Made::No };
            }
            let of = |group: usize| {
                // What does not touch it makes no other case of it.
                let own: Vec<Made> = (0..made.len())
                    .map(|t| {
                        if self.is_touched(group, t) {
                            made[t]
                        } else {
                            Made::Unknown
                        }
                    })
                    .collect();
                *known
                    .entry((group, own.clone()))
                    .or_insert_with(|| self.of(group, &own, bound))
            };
            (0..self.problem.groups.len()).map(of).sum()
        };
        (0..1 << self.tiers.len()).map(&mut case).max().unwrap_or(0)
    }

    fn is_touched(&self, group: usize, tier: usize) -> bool {
        let (from, to) = &self.touches[tier];
        from.contains(&group) || *to == Some(group)
    }

    /// The best of a group's cases.
    fn of(&self, group: usize, made: &[Made], bound: &dyn Fn(usize, &Group<'_>) -> i64) -> i64 {
        let cases = self.cases(group, made);
        cases.iter().map(|c| bound(group, c)).max().unwrap_or(0)
    }

    /// Pods as tier changes make them, of those that are made in this case and put all of them into the group.
    fn changed(&self, group: usize, made: &[Made]) -> Vec<&'p Pod> {
        let tiers = self.problem.tiers.iter().zip(made).zip(&self.touches);
        let here = tiers.filter(|((_, made), (_, to))| **made == Made::Yes && *to == Some(group));
        here.flat_map(|((tier, _), _)| tier.pods.iter().map(move |_| &tier.after))
            .collect()
    }
}

/// It asks for room as it is in every plan of this case.
fn asks(pod: &Pod, made: &[Made]) -> bool {
    pod.tier.is_none_or(|t| made.get(t) == Some(&Made::No))
}

/// The groups of its pods, and the one group of all its places; `None`: there are several.
fn touches(problem: &Problem, tier: &Tier) -> (BTreeSet<usize>, Option<usize>) {
    let from = tier.pods.iter().filter_map(|p| problem.pods[*p].node);
    let from = from.map(|n| problem.nodes[n].group).collect();
    let places = &problem.places[tier.after.places];
    let to: BTreeSet<usize> = (0..places.len())
        .filter(|n| places[*n])
        .map(|n| problem.nodes[n].group)
        .collect();
    (from, to.first().copied().filter(|_| to.len() == 1))
}

/// One group, and what of it is the same in every plan.
struct Group<'p> {
    problem: &'p Problem,
    gpus: &'p [usize],
    /// Nodes whose room counts.
    nodes: Vec<usize>,
    /// Prices of those that could go, the dearest first, with their places in `nodes`.
    can_go: Vec<(i64, usize)>,
    /// Pods on its GPUs that must find room in every plan, wherever.
    items: Vec<&'p Pod>,
    /// What these could have of each node at most, by node (parallel to `nodes`) and resource: beside what stays for good.
    room: Vec<Vec<u64>>,
    /// The same of pods on its GPUs that stay on their nodes.
    fixed: Vec<&'p Pod>,
    /// Pods on each node (parallel to `nodes`).
    on: Vec<Vec<&'p Pod>>,
}

fn is_item(pod: &Pod) -> bool {
    pod.change.is_none() && pod.how.moves()
}

/// Of the pods that a change may end as many as remain in any case, where they are alike.
fn remaining<'p>(problem: &'p Problem, change: &'p Change) -> impl Iterator<Item = &'p Pod> {
    let pods = change.pods.iter().map(|p| &problem.pods[*p]);
    let first = pods.clone().next();
    let alike = pods.clone().all(|p| {
        p.node.is_some() && p.how.moves() && first.is_some_and(|f| (&f.request, f.places) == (&p.request, p.places))
    });
    pods.skip(if alike { change.most } else { usize::MAX })
}

/// It is an item, or may be one of those that remain.
fn may_be_item(problem: &Problem, pod: &Pod) -> bool {
    pod.how.moves() && pod.change.is_none_or(|c| !problem.changes[c].ends_all())
}

/// It is there for as long as its node is.
fn is_fixed(pod: &Pod) -> bool {
    pod.how == How::WithNode || (pod.change.is_none() && pod.how == How::Stays)
}

fn sum(pods: &[&Pod], resource: usize, of: fn(&Pod) -> bool) -> u64 {
    pods.iter().filter(|p| of(p)).map(|p| p.request[resource]).sum()
}

impl<'p> Fleet<'p> {
    /// A pod that waits is given the first node that is emptied and fits it. So either it has its room in the end, or none of the
    /// nodes that fit it goes: a case each.
    fn cases(&self, group: usize, made: &[Made]) -> Vec<Group<'p>> {
        let none = Group::of(self, group, made, &[], &BTreeSet::new());
        let mut kinds: BTreeMap<BTreeSet<usize>, Vec<&Pod>> = BTreeMap::new();
        for pod in self
            .waiting
            .iter()
            .filter(|p| none.gpus.iter().any(|r| p.request[*r] > 0))
        {
            kinds.entry(none.fit(group, pod)).or_default().push(pod);
        }
        kinds.remove(&BTreeSet::new());
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(fit, _)| Reverse(fit.len()));
        kinds.truncate(WAITING);
        let case = |served: usize| {
            let (mut items, mut kept) = (Vec::new(), BTreeSet::new());
            for (i, (fit, pods)) in kinds.iter().enumerate() {
                if served >> i & 1 == 1 {
                    items.extend(pods);
                } else {
                    kept.extend(fit);
                }
            }
            Group::of(self, group, made, &items, &kept)
        };
        (0..1 << kinds.len()).map(case).collect()
    }
}

impl<'p> Group<'p> {
    /// `waiting`: pods that get room; `kept`: places in `nodes` of those that do not go.
    fn of(fleet: &Fleet<'p>, group: usize, made: &[Made], waiting: &[&'p Pod], kept: &BTreeSet<usize>) -> Self {
        let (problem, all) = (fleet.problem, &fleet.on);
        let gpus = &problem.groups[group].gpus[..];
        let nodes: Vec<usize> = (0..problem.nodes.len())
            .filter(|&n| problem.nodes[n].group == group)
            .collect();
        let on: Vec<Vec<&Pod>> = nodes.iter().map(|n| all[*n].clone()).collect();
        let stuck = |at: usize| on[at].iter().any(|p| p.change.is_none() && p.how == How::Stays);
        let mut can_go: Vec<(i64, usize)> = (0..nodes.len())
            .filter(|&at| problem.nodes[nodes[at]].returnable && !stuck(at) && !kept.contains(&at))
            .filter_map(|at| {
                let price = problem.nodes[nodes[at]].price?.saturating_sub(fleet.paid[nodes[at]]);
                Some((Some(price).filter(|p| *p > 0)?, at))
            })
            .collect();
        can_go.sort_by_key(|(price, at)| (Reverse(*price), *at));
        let on_gpus = |p: &&&Pod| gpus.iter().any(|r| p.request[*r] > 0);
        let of = |what: fn(&Pod) -> bool| on.iter().flatten().filter(on_gpus).filter(move |p| what(p)).copied();
        let fixed = of(|p| p.change.is_none() && p.how == How::Stays).collect();
        let here = |p: &&Pod| p.node.is_some_and(|n| problem.nodes[n].group == group);
        let remain = problem
            .changes
            .iter()
            .flat_map(|c| remaining(problem, c))
            .filter(here)
            .filter(|p| on_gpus(&p));
        let own = of(is_item).filter(|p| asks(p, made));
        let items = own
            .chain(remain)
            .chain(waiting.iter().copied())
            .chain(fleet.changed(group, made).into_iter().filter(|p| on_gpus(&p)))
            .collect();
        let room = (0..nodes.len()).map(|at| room(problem, nodes[at], &on[at])).collect();
        let mut group = Self {
            problem,
            gpus,
            nodes,
            can_go,
            items,
            room,
            fixed,
            on,
        };
        group.carry();
        group
    }

    /// Of the nodes that could go those that would fit the pod once they are empty; none where it could go to other groups.
    fn fit(&self, group: usize, pod: &Pod) -> BTreeSet<usize> {
        let places = &self.problem.places[pod.places];
        let alone = pod.apart.is_empty() && pod.spread.is_empty() && pod.member.is_empty() && pod.ports.is_empty();
        let other = |n: usize| places[n] && self.problem.nodes[n].group != group;
        if !alone || (0..places.len()).any(other) {
            return BTreeSet::new();
        }
        let fits = |at: usize| {
            let of = &self.problem.nodes[self.nodes[at]];
            let has = |r: usize| of.allocatable[r].saturating_sub(sum(&self.on[at], r, |p| p.how == How::WithNode));
            let room = (0..self.problem.resources).all(|r| pod.request[r] == 0 || pod.request[r] <= has(r));
            of.open && places[self.nodes[at]] && room
        };
        self.can_go.iter().map(|(_, at)| *at).filter(|at| fits(*at)).collect()
    }

    /// No more GPUs than CPU and memory carry with the pod that asks for the least of them per GPU.
    fn carry(&mut self) {
        for &gpu in self.gpus {
            for other in (0..self.problem.resources).filter(|r| !self.gpus.contains(r)) {
                let per_gpu = self.items.iter().filter(|p| p.request[gpu] > 0);
                let per_gpu = per_gpu.map(|p| (p.request[other], p.request[gpu]));
                // The least of a/b, without fractions.
                let least = per_gpu
                    .min_by(|a, b| (u128::from(a.0) * u128::from(b.1)).cmp(&(u128::from(b.0) * u128::from(a.1))));
                let Some((amount, count)) = least.filter(|l| l.0 > 0) else {
                    continue;
                };
                for room in &mut self.room {
                    let carried = u128::from(room[other]) * u128::from(count) / u128::from(amount);
                    room[gpu] = room[gpu].min(u64::try_from(carried).unwrap_or(u64::MAX));
                }
            }
        }
    }

    fn by_sums(&self) -> i64 {
        let all: i64 = self.can_go.iter().map(|(price, _)| price).sum();
        let rooms = (0..self.problem.resources).map(|r| self.by_room(r));
        let counts = self.gpus.iter().map(|r| self.by_count(*r));
        let rest = [self.by_distance(), self.by_headroom()];
        rooms.chain(counts).chain(rest).fold(all, i64::min)
    }

    /// What pods that move have of a node now.
    fn own(&self, at: usize, resource: usize) -> u64 {
        let own = self.on[at].iter().filter(|p| may_be_item(self.problem, p));
        own.map(|p| p.request[resource]).sum()
    }

    /// The dearest of those that could go, where so many nodes stay.
    fn without(&self, staying: usize) -> i64 {
        let go = self.nodes.len().saturating_sub(staying);
        self.can_go.iter().take(go).map(|(price, _)| price).sum()
    }

    /// Room of one resource: what goes is at most what all have beyond what is asked for.
    fn by_room(&self, resource: usize) -> i64 {
        let asked: u64 = self.items.iter().map(|p| p.request[resource]).sum();
        let all: u64 = self.room.iter().map(|r| r[resource]).sum();
        let items: Vec<(i64, u64)> = self
            .can_go
            .iter()
            .map(|(price, at)| (*price, self.room[*at][resource]))
            .collect();
        all.checked_sub(asked).map_or(0, |spare| within(&items, spare))
    }

    /// Pods that take more than 1/(m+1) of the largest node: at most m of them share one.
    fn by_count(&self, resource: usize) -> i64 {
        let has = |at: usize| {
            let own: u64 = self.on[at].iter().map(|p| p.request[resource]).sum();
            own.max(self.problem.nodes[self.nodes[at]].allocatable[resource])
        };
        let Some(largest) = (0..self.nodes.len()).map(has).max().filter(|l| *l > 0) else {
            return i64::MAX;
        };
        let mut most = i64::MAX;
        for share in 1..=largest.min(16) {
            let pods = self.items.iter().chain(&self.fixed);
            let big = pods.filter(|p| p.request[resource] * (share + 1) > largest).count();
            most = most.min(self.without(big.div_ceil(share as usize)));
        }
        most
    }

    /// Pods that keep apart from each other need a node each.
    fn by_distance(&self) -> i64 {
        let mut each = vec![0; self.problem.selections.len()];
        for pod in self.items.iter().chain(&self.fixed) {
            for s in pod.apart.iter().filter(|s| pod.member.contains(s)) {
                each[*s] += 1;
            }
        }
        each.into_iter()
            .max()
            .filter(|e| *e > 0)
            .map_or(i64::MAX, |e| self.without(e))
    }

    /// Of each node (parallel to `nodes`): its GPUs, and those that are free on it or held by pods that move; and how many these
    /// pods need.
    fn free(&self) -> (Vec<(i128, i128)>, i128) {
        let amount = |p: &Pod| self.gpus.iter().map(|r| p.request[*r]).sum::<u64>();
        let open = |at: usize| self.problem.nodes[self.nodes[at]].open;
        let of = |at: usize| {
            // A closed one counts for nothing, and holds those that are on it until it goes.
            if !open(at) {
                return (0, self.gpus.iter().map(|r| i128::from(self.own(at, *r))).sum());
            }
            let (mut all, mut free) = (0, 0);
            for &r in self.gpus {
                let own = self.problem.nodes[self.nodes[at]].allocatable[r];
                let used: u64 = self.on[at].iter().map(|p| p.request[r]).sum();
                all += i128::from(own);
                free += i128::from(own.max(used)) - i128::from(sum(&self.on[at], r, is_fixed));
            }
            (all, free)
        };
        let asked: u64 = self.items.iter().map(|p| amount(p)).sum();
        ((0..self.nodes.len()).map(of).collect(), i128::from(asked))
    }

    /// The headroom as one condition: what each node (parallel to `nodes`) gives while it stays, and what all must give.
    fn headroom(&self) -> Option<(Vec<i64>, i64)> {
        let (nodes, asked) = self.free();
        let (gives, must): (Vec<i128>, i128) = match self.problem.headroom {
            Headroom::None => return None,
            Headroom::Percent(p) => {
                let of = |n: &(i128, i128)| 100 * n.1 - i128::from(p) * n.0;
                (nodes.iter().map(of).collect(), 100 * asked)
            }
            Headroom::OneNode => {
                // The largest that stays is no smaller than any that cannot go.
                let can: BTreeSet<usize> = self.can_go.iter().map(|c| c.1).collect();
                let stays = (0..nodes.len())
                    .filter(|at| !can.contains(at))
                    .map(|at| nodes[at].0)
                    .max();
                (nodes.iter().map(|n| n.1).collect(), asked + stays.unwrap_or(0))
            }
        };
        let gives: Option<Vec<i64>> = gives.into_iter().map(|g| i64::try_from(g).ok()).collect();
        gives.zip(i64::try_from(must).ok())
    }

    /// GPUs that must be left free on nodes that take pods, when the last of the group goes.
    fn by_headroom(&self) -> i64 {
        let open = |at: usize| self.problem.nodes[self.nodes[at]].open;
        let (nodes, asked) = self.free();
        let with = |keep: i128, weight: &dyn Fn(usize) -> i128, gone: &dyn Fn(usize) -> bool| {
            let all: i128 = (0..nodes.len()).map(weight).sum();
            let can: Vec<(i64, i128)> = self.can_go.iter().map(|(price, at)| (*price, weight(*at))).collect();
            let first = self.can_go.iter().filter(|(_, at)| gone(*at));
            let (paid, taken) = first.fold((0, 0), |(p, t), (price, at)| (p + price, t + weight(*at)));
            // A node that brings room by going does.
            let more: i128 = can.iter().map(|(_, w)| (-w).max(0)).sum();
            let rest = self.can_go.iter().filter(|(_, at)| !gone(*at));
            let rest: Vec<(i64, u64)> = rest
                .map(|(price, at)| (*price, u64::try_from(weight(*at)).unwrap_or(0)))
                .collect();
            let spare = all - keep - taken + more;
            u64::try_from(spare).map_or(0, |spare| paid + within(&rest, spare))
        };
        match self.problem.headroom {
            Headroom::None => i64::MAX,
            Headroom::Percent(p) => {
                let weight = |at: usize| 100 * nodes[at].1 - i128::from(p) * nodes[at].0;
                with(100 * asked, &weight, &|_| false)
            }
            Headroom::OneNode => {
                let mut sizes: Vec<i128> = (0..nodes.len()).filter(|at| open(*at)).map(|at| nodes[at].0).collect();
                sizes.sort_unstable();
                sizes.dedup();
                let can = |at: usize| self.can_go.iter().any(|c| c.1 == at);
                // The largest that stays is of one of these sizes: whatever is larger has gone.
                let of = |size: &i128| {
                    let larger = |at: usize| open(at) && nodes[at].0 > *size;
                    let possible = (0..nodes.len()).all(|at| !larger(at) || can(at));
                    if possible {
                        with(asked + *size, &|at| nodes[at].1, &larger)
                    } else {
                        0
                    }
                };
                let none = self.can_go.iter().map(|c| c.0).sum();
                // Or nothing that takes pods stays.
                let closed: i128 = (0..nodes.len()).filter(|at| !open(*at)).map(|at| nodes[at].1).sum();
                let empty = asked <= closed && (0..nodes.len()).all(|at| !open(at) || can(at));
                sizes
                    .iter()
                    .map(of)
                    .max()
                    .unwrap_or(0)
                    .max(if empty { none } else { 0 })
            }
        }
    }
}

/// What pods that move can have of a node: what is beside those that stay for good, or what they have of it now. Where more is
/// held than there is, nobody comes, and nobody needs to go.
fn room(problem: &Problem, node: usize, on: &[&Pod]) -> Vec<u64> {
    let of = &problem.nodes[node];
    let room = |r: usize| {
        let own: u64 = on
            .iter()
            .filter(|p| may_be_item(problem, p))
            .map(|p| p.request[r])
            .sum();
        let beside = of.allocatable[r].saturating_sub(sum(on, r, is_fixed));
        if of.open { beside.max(own) } else { own }
    };
    (0..problem.resources).map(room).collect()
}

/// Moves that each node needs before it can go: each pod that cannot end with others needs one of its own. `None`: it cannot go.
fn needs(problem: &Problem) -> Vec<Option<u64>> {
    let mut needs = vec![Some(0u64); problem.nodes.len()];
    for pod in &problem.pods {
        let own = match pod.change {
            Some(change) => u64::from(!problem.changes[change].ends_all()),
            None if pod.how == How::Stays => {
                if let Some(n) = pod.node {
                    needs[n] = None;
                }
                continue;
            }
            None => u64::from(pod.how.moves()),
        };
        if let Some(need) = pod.node.and_then(|n| needs[n].as_mut()) {
            *need += own;
        }
    }
    needs
}

/// The most money within the moves that there may be, whoever finds room.
fn by_moves(problem: &Problem, needs: &[Option<u64>]) -> i64 {
    let Some(most) = problem.max_moves else {
        return i64::MAX;
    };
    within(&by_need(problem, needs), most as u64)
}

/// Prices of nodes that could go, and the moves that each needs.
fn by_need(problem: &Problem, needs: &[Option<u64>]) -> Vec<(i64, u64)> {
    let nodes = problem.nodes.iter().zip(needs).filter(|(n, _)| n.returnable);
    nodes
        .filter_map(|(n, need)| Some((n.price.filter(|p| *p > 0)?, (*need)?)))
        .collect()
}

/// Prices of a move that are tried (ours).
const PRICES: usize = 12;

/// Moves and room together: each move is paid for, and the moves that there may be are given back. Whatever a move costs, no plan
/// saves more; the prices that are tried are those at which a node is no longer worth its moves.
fn by_paid_moves(problem: &Problem, needs: &[Option<u64>], free: i64) -> i64 {
    let Some(most) = problem.max_moves else {
        return i64::MAX;
    };
    let mut prices: Vec<i64> = by_need(problem, needs)
        .into_iter()
        .filter(|(_, need)| *need > 0)
        .map(|(price, need)| price / i64::try_from(need).unwrap_or(i64::MAX))
        .filter(|p| *p > 0)
        .collect();
    prices.sort_unstable();
    prices.dedup();
    let every = prices.len().div_ceil(PRICES).max(1);
    let paid = |price: &i64| {
        let back = price.saturating_mul(i64::try_from(most).unwrap_or(i64::MAX));
        Fleet::new(problem, *price)
            .most(&|_, group| group.by_sums())
            .saturating_add(back)
    };
    prices.iter().step_by(every).map(paid).fold(free, i64::min)
}

/// Steps of a weight, and steps times items, up to which the exact answer is looked for; beyond, fractions of items.
const EXACT: (u64, u64) = (100_000, 10_000_000);

/// The most value within a weight.
fn within(items: &[(i64, u64)], weight: u64) -> i64 {
    let unit = items.iter().fold(0, |unit, (_, own)| gcd(unit, *own)).max(1);
    let items: Vec<(i64, u64)> = items.iter().map(|(value, own)| (*value, own / unit)).collect();
    let weight = (weight / unit).min(items.iter().map(|i| i.1).sum());
    if weight <= EXACT.0 && items.len() as u64 * weight <= EXACT.1 {
        knapsack(&items, weight)
    } else {
        fractions(&items, weight)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The most value within a weight, each item at most once.
fn knapsack(items: &[(i64, u64)], weight: u64) -> i64 {
    let mut best = vec![0i64; weight as usize + 1];
    for &(value, own) in items {
        let own = own as usize;
        for w in (own..best.len()).rev() {
            best[w] = best[w].max(best[w - own] + value);
        }
    }
    best.last().copied().unwrap_or(0)
}

/// The same with fractions of items: never less.
fn fractions(items: &[(i64, u64)], weight: u64) -> i64 {
    let mut items = items.to_vec();
    items.sort_by(|a, b| (i128::from(b.0) * i128::from(a.1)).cmp(&(i128::from(a.0) * i128::from(b.1))));
    let (mut value, mut left) = (0i64, weight);
    for (price, own) in items {
        if own <= left {
            value += price;
            left -= own;
        } else {
            let part = i128::from(price) * i128::from(left) / i128::from(own.max(1));
            return value + part as i64 + 1;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_never_give_less_than_whole_items() {
        let items = [(60, 10), (100, 20), (120, 30), (5, 0)];
        assert_eq!(knapsack(&items, 50), 225);
        assert!(fractions(&items, 50) >= 225);
        assert_eq!(knapsack(&items, 0), 5);
        assert_eq!(fractions(&items, 1000), 285);
    }
}
