//! The most that any plan could save: what stays needs room, so nodes must stay. Each argument is about one group (pods on
//! GPUs stay within theirs); the smallest figure of a group counts, and groups add up. No argument depends on the search.

use crate::model::{How, Pod, Problem};
use std::cmp::Reverse;

/// Micro-dollars per hour that no plan exceeds.
pub(crate) fn most(problem: &Problem) -> i64 {
    (0..problem.groups.len()).map(|g| of_group(problem, g)).sum()
}

struct Group<'p> {
    problem: &'p Problem,
    /// Nodes whose room counts.
    nodes: Vec<usize>,
    /// Prices of those that could go, the dearest first, with the node.
    can_go: Vec<(i64, usize)>,
    /// Pods on its GPUs that stay in any plan.
    pods: Vec<&'p Pod>,
    /// What of each node's amounts pods on GPUs could have, by node (parallel to `nodes`) and resource.
    room: Vec<Vec<u64>>,
}

fn of_group(problem: &Problem, group: usize) -> i64 {
    let gpus = &problem.groups[group].gpus;
    let stuck: Vec<bool> = {
        let mut stuck = vec![false; problem.nodes.len()];
        for pod in &problem.pods {
            if let (Some(node), How::Stays, None) = (pod.node, pod.how, pod.change) {
                stuck[node] = true;
            }
        }
        stuck
    };
    let nodes: Vec<usize> = (0..problem.nodes.len())
        .filter(|&n| problem.nodes[n].group == group)
        .collect();
    let mut can_go: Vec<(i64, usize)> = nodes
        .iter()
        .filter(|&&n| problem.nodes[n].returnable && !stuck[n])
        .filter_map(|&n| Some((problem.nodes[n].price.filter(|p| *p > 0)?, n)))
        .collect();
    can_go.sort_by_key(|(price, n)| (Reverse(*price), *n));
    // Pods that a change may end are none that must find room.
    let pods: Vec<&Pod> = problem
        .pods
        .iter()
        .filter(|p| p.change.is_none() && p.how != How::WithNode)
        .filter(|p| p.node.is_some_and(|n| problem.nodes[n].group == group))
        .filter(|p| gpus.iter().any(|r| p.request[*r] > 0))
        .collect();
    let all: i64 = can_go.iter().map(|(price, _)| price).sum();
    let room = nodes.iter().map(|n| room(problem, *n, &pods, gpus)).collect();
    let group = Group {
        problem,
        nodes,
        can_go,
        pods,
        room,
    };
    let rooms = (0..problem.resources).map(|r| group.by_room(r));
    let counts = gpus.iter().map(|r| group.by_count(*r));
    let apart = (0..problem.selections.len()).map(|s| group.by_distance(s));
    rooms.chain(counts).chain(apart).fold(all, i64::min)
}

/// What pods on GPUs can have of a node, at most: beside what others hold for good, and no more GPUs than its CPU and memory
/// carry with the pod that asks for the least of them per GPU.
fn room(problem: &Problem, node: usize, pods: &[&Pod], gpus: &[usize]) -> Vec<u64> {
    let mut room = problem.nodes[node].allocatable.clone();
    let on_gpus = |p: &Pod| gpus.iter().any(|r| p.request[*r] > 0);
    for pod in problem.pods.iter().filter(|p| p.node == Some(node) && !on_gpus(p)) {
        if pod.change.is_none() && matches!(pod.how, How::Stays | How::WithNode) {
            for (r, amount) in pod.request.iter().enumerate() {
                room[r] = room[r].saturating_sub(*amount);
            }
        }
    }
    for &gpu in gpus {
        for other in (0..room.len()).filter(|r| !gpus.contains(r)) {
            let per_gpu = pods
                .iter()
                .filter(|p| p.request[gpu] > 0)
                .map(|p| (p.request[other], p.request[gpu]));
            // The least of a/b, without fractions.
            let least =
                per_gpu.min_by(|a, b| (u128::from(a.0) * u128::from(b.1)).cmp(&(u128::from(b.0) * u128::from(a.1))));
            if let Some((amount, count)) = least.filter(|l| l.0 > 0) {
                let carried = u128::from(room[other]) * u128::from(count) / u128::from(amount);
                room[gpu] = room[gpu].min(u64::try_from(carried).unwrap_or(u64::MAX));
            }
        }
    }
    room
}

/// Steps of room up to which the exact answer is looked for; beyond, fractions of nodes.
const EXACT: u64 = 100_000;

impl Group<'_> {
    /// The dearest `n` of those that could go.
    fn dearest(&self, n: usize) -> i64 {
        self.can_go.iter().take(n).map(|(price, _)| price).sum()
    }

    /// Room of one resource: what goes is at most what all have beyond what is asked for.
    fn by_room(&self, resource: usize) -> i64 {
        let asked: u64 = self.pods.iter().map(|p| p.request[resource]).sum();
        let has = |n: usize| {
            let at = self.nodes.iter().position(|own| *own == n);
            at.map_or(0, |at| self.room[at][resource])
        };
        let all: u64 = self.room.iter().map(|r| r[resource]).sum();
        let spare = all.saturating_sub(asked);
        let items: Vec<(i64, u64)> = self.can_go.iter().map(|(price, n)| (*price, has(*n))).collect();
        if items.len() as u64 * spare <= EXACT * 100 && spare <= EXACT {
            knapsack(&items, spare)
        } else {
            fractions(&items, spare)
        }
    }

    /// Pods that take more than 1/(m+1) of the largest node: at most m of them share one.
    fn by_count(&self, resource: usize) -> i64 {
        let largest = self
            .nodes
            .iter()
            .map(|&n| self.problem.nodes[n].allocatable[resource])
            .max();
        let Some(largest) = largest.filter(|l| *l > 0) else {
            return i64::MAX;
        };
        let mut most = i64::MAX;
        for share in 1..=largest.min(16) {
            let big = self
                .pods
                .iter()
                .filter(|p| p.request[resource] * (share + 1) > largest)
                .count();
            let needed = big.div_ceil(share as usize);
            most = most.min(self.dearest(self.nodes.len().saturating_sub(needed)));
        }
        most
    }

    /// Pods that keep apart from each other need a node each.
    fn by_distance(&self, selection: usize) -> i64 {
        let each = self
            .pods
            .iter()
            .filter(|p| p.apart.contains(&selection) && p.member.contains(&selection))
            .count();
        if each == 0 {
            return i64::MAX;
        }
        self.dearest(self.nodes.len().saturating_sub(each))
    }
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
