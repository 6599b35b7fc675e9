//! Generated fleets, for tests and for the benchmark: the same in every run.

use crate::model::{Change, Group, Headroom, How, Node, Pod, Problem, Rule, RuleKind, Tier};
use std::collections::BTreeSet;

/// The resource that is the GPUs, in every one of them.
pub(crate) const GPU: usize = 0;

/// Splitmix64: the fleets are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

/// A fleet of `size` nodes; `hard`: with all kinds of constraints.
pub(crate) fn fleet(seed: u64, size: usize, hard: bool) -> Problem {
    let mut dice = Dice(seed);
    let groups = if dice.chance(30) { 2 } else { 1 };
    let nodes: Vec<Node> = (0..size)
        .map(|i| {
            let gpus = [8, 8, 8, 4][dice.roll(4) as usize];
            Node {
                group: i % groups,
                allocatable: vec![gpus, gpus * 24, 30],
                price: (!hard || dice.chance(95)).then(|| gpus as i64 * (1_000_000 + 500_000 * (i % groups) as i64)),
                returnable: !hard || dice.chance(85),
                open: !hard || dice.chance(92),
            }
        })
        .collect();
    let mut problem = Problem {
        resources: 3,
        places: (0..groups)
            .map(|g| nodes.iter().map(|n| n.group == g).collect())
            .chain([vec![true; size]])
            .collect(),
        groups: (0..groups)
            .map(|g| Group {
                name: format!("g{g}"),
                gpus: vec![GPU],
            })
            .collect(),
        nodes,
        ..Problem::default()
    };
    let fill = 20 + dice.roll(65);
    for node in 0..size {
        let [gpus, cpu, _] = problem.nodes[node].allocatable[..] else {
            continue;
        };
        let (mut gpus_left, mut cpu_left) = (gpus * fill / 100 + dice.roll(2), cpu);
        while gpus_left > 0 {
            let want = [1, 1, 2, 4, 8][dice.roll(5) as usize].min(gpus_left).min(gpus);
            let cores = want * (4 + dice.roll(18));
            if cores > cpu_left {
                break;
            }
            (gpus_left, cpu_left) = (gpus_left - want, cpu_left - cores);
            let pod = Pod {
                node: Some(node),
                request: vec![want, cores, 1],
                milli_gpus: want * 1000,
                places: problem.nodes[node].group,
                how: match dice.roll(40) {
                    _ if !hard => How::Raise,
                    0..=2 => How::Stays,
                    3..=14 => How::Evict,
                    _ => How::Raise,
                },
                ..Pod::default()
            };
            problem.pods.push(pod);
        }
        if hard {
            problem.pods.push(Pod {
                node: Some(node),
                request: vec![0, 1, 1],
                how: How::WithNode,
                ..Pod::default()
            });
            if dice.chance(40) && cpu_left > 8 {
                problem.pods.push(Pod {
                    node: Some(node),
                    request: vec![0, 8, 1],
                    places: groups,
                    how: How::Evict,
                    ..Pod::default()
                });
            }
        }
    }
    if hard {
        constrain(&mut problem, &mut dice);
    }
    problem
}

fn constrain(problem: &mut Problem, dice: &mut Dice) {
    // A workload whose replicas keep apart, where they already do; one that is spread; one that a finding ends; one that shrinks.
    for kind in 0..4 {
        let (mut seen, mut like) = (BTreeSet::new(), None);
        let all: Vec<usize> = (0..problem.pods.len())
            .filter(|&p| {
                problem.pods[p].request[GPU] > 0
                    && problem.pods[p].change.is_none()
                    && problem.pods[p].member.is_empty()
            })
            .filter(|_| dice.chance(25))
            // Replicas ask for the same.
            .filter(|&p| like.get_or_insert(&problem.pods[p].request) == &&problem.pods[p].request)
            .filter(|&p| seen.insert(problem.pods[p].node))
            .take(4)
            .collect();
        if all.is_empty() {
            continue;
        }
        match kind {
            0 | 1 => {
                let selection = problem.selections.len();
                problem.selections.push(all.iter().copied().collect());
                for &p in &all {
                    problem.pods[p].member.push(selection);
                    if kind == 0 {
                        problem.pods[p].apart.push(selection);
                    } else {
                        problem.pods[p].spread.push((selection, 2));
                    }
                }
            }
            _ => {
                let most = if kind == 2 { all.len() } else { 1 };
                for &p in &all {
                    problem.pods[p].change = Some(problem.changes.len());
                }
                problem.changes.push(Change { pods: all, most });
            }
        }
    }
    over_zones(problem, dice);
    tiers(problem, dice);
    for pod in &mut problem.pods {
        if pod.how == How::Evict && dice.chance(20) {
            pod.ports.push(8080);
        }
    }
    // Two pods with one port on one node were never bound there.
    let mut taken = BTreeSet::new();
    for pod in &mut problem.pods {
        if !pod.ports.is_empty() && !taken.insert(pod.node) {
            pod.ports.clear();
        }
    }
    // A card fell ill under its pod: more is held than there is.
    for node in &mut problem.nodes {
        if dice.chance(5) {
            node.allocatable[GPU] -= 1;
        }
    }
    for _ in 0..dice.roll(3) {
        let want = [1, 4, 8][dice.roll(3) as usize];
        problem.pods.push(Pod {
            request: vec![want, want * 8, 1],
            places: 0,
            ..Pod::default()
        });
    }
    problem.headroom =
        [Headroom::None, Headroom::None, Headroom::Percent(15), Headroom::OneNode][dice.roll(4) as usize];
    problem.max_moves = dice.chance(20).then(|| dice.roll(6) as usize);
}

/// Pods that are alike, on GPUs, and of which nothing else is asked.
fn alike(problem: &Problem, dice: &mut Dice, most: usize, which: impl Fn(&Pod) -> bool) -> Vec<usize> {
    let mut like = None;
    (0..problem.pods.len())
        .filter(|&p| {
            let p = &problem.pods[p];
            p.node.is_some()
                && p.request[GPU] > 0
                && p.change.is_none()
                && p.member.is_empty()
                && p.counted_by.is_empty()
                && which(p)
        })
        .filter(|_| dice.chance(40))
        .filter(|&p| {
            let p = &problem.pods[p];
            like.get_or_insert((&p.request, p.places)) == &(&p.request, p.places)
        })
        .take(most)
        .collect()
}

/// Three zones, and workloads that are spread over them or kept apart by them, some of them worse than they may be.
fn over_zones(problem: &mut Problem, dice: &mut Dice) {
    let zones: Vec<Option<usize>> = problem.nodes.iter().map(|_| Some(dice.roll(3) as usize)).collect();
    for _ in 0..2 {
        let all = alike(problem, dice, 6, |_| true);
        if !dice.chance(70) || all.is_empty() {
            continue;
        }
        let zone = |p: usize, problem: &Problem| problem.pods[p].node.and_then(|n| zones[n]);
        let mut seen = BTreeSet::new();
        let apart = all.iter().all(|p| seen.insert(zone(*p, problem))) && dice.chance(50);
        let rule = problem.rules.len();
        problem.rules.push(Rule {
            kind: if apart {
                RuleKind::Apart
            } else {
                RuleKind::Spread {
                    max_skew: 1 + dice.roll(2) as u32,
                    min_domains: [1, 1, 1, 2, 3][dice.roll(5) as usize],
                }
            },
            domain: zones.clone(),
            // A zone without GPUs, now and then.
            domains: 3 + usize::from(dice.chance(10)),
            honors_taints: dice.chance(20),
        });
        for p in all {
            problem.pods[p].counted_by.push(rule);
            // One that is counted, and of which nothing is asked.
            if dice.chance(90) {
                problem.pods[p].bound_by.push(rule);
            }
        }
    }
}

/// Workloads that a smaller tier would carry: half of their GPUs, in the other group where there is one.
fn tiers(problem: &mut Problem, dice: &mut Dice) {
    for _ in 0..2 {
        let all = alike(problem, dice, 3, |p| p.how == How::Raise && p.tier.is_none());
        if !dice.chance(60) || all.is_empty() {
            continue;
        }
        let first = problem.pods[all[0]].clone();
        let groups = problem.groups.len();
        let half = |n: u64| n.div_ceil(2);
        let nodes: BTreeSet<Option<usize>> = all.iter().map(|p| problem.pods[*p].node).collect();
        if nodes.len() == all.len() && dice.chance(30) {
            let selection = problem.selections.len();
            problem.selections.push(all.iter().copied().collect());
            for &p in &all {
                problem.pods[p].member.push(selection);
                problem.pods[p].apart.push(selection);
            }
        }
        let places = if first.places < groups {
            (first.places + 1) % groups
        } else {
            first.places
        };
        for &p in &all {
            problem.pods[p].tier = Some(problem.tiers.len());
        }
        let after = Pod {
            node: None,
            request: vec![half(first.request[GPU]), half(first.request[1]), first.request[2]],
            places,
            ..problem.pods[all[0]].clone()
        };
        problem.tiers.push(Tier { pods: all, after });
    }
}

/// A fleet as a company has it: three kinds of cards in pools of unequal size, 8 or 4 a node, DaemonSets everywhere, pods without GPUs
/// beside the servers, CPU or memory that runs out before the GPUs on some nodes, pods that stay, committed nodes.
pub(crate) fn company(seed: u64, size: usize) -> Problem {
    // GPUs, millicores, MiB, pods; what a node of each pool has, and what an hour of it costs.
    const POOLS: [([u64; 4], i64, u64); 3] = [
        ([8, 192_000, 2_000_000, 110], 55_040_000, 60),
        ([8, 96_000, 1_100_000, 110], 32_770_000, 25),
        ([4, 48_000, 384_000, 58], 4_600_000, 15),
    ];
    let mut dice = Dice(seed);
    let mut problem = Problem {
        resources: 4,
        groups: (0..POOLS.len())
            .map(|g| Group {
                name: format!("pool {g}"),
                gpus: vec![GPU],
            })
            .collect(),
        ..Problem::default()
    };
    // A workload's replicas ask for the same.
    let templates: Vec<[u64; 3]> = (0..40)
        .map(|_| {
            let gpus = [1, 1, 1, 2, 2, 4, 8][dice.roll(7) as usize];
            let cores = [4_000, 8_000, 12_000, 16_000, 24_000][dice.roll(5) as usize];
            [gpus, gpus * cores, gpus * (40_000 + 20_000 * dice.roll(8))]
        })
        .collect();
    for _ in 0..size {
        let pool = match dice.roll(100) {
            n if n < POOLS[0].2 => 0,
            n if n < POOLS[0].2 + POOLS[1].2 => 1,
            _ => 2,
        };
        problem.nodes.push(Node {
            group: pool,
            allocatable: POOLS[pool].0.to_vec(),
            price: Some(POOLS[pool].1),
            returnable: dice.chance(80),
            open: dice.chance(97),
        });
    }
    for g in 0..POOLS.len() {
        let own = problem.nodes.iter().map(|n| n.group == g).collect();
        problem.places.push(own);
    }
    problem.places.push(vec![true; size]);
    for node in 0..size {
        let pool = problem.nodes[node].group;
        let mut left = problem.nodes[node].allocatable.clone();
        let mut put = |request: [u64; 4], places: usize, how: How| {
            if (0..4).all(|r| left[r] >= request[r]) {
                (0..4).for_each(|r| left[r] -= request[r]);
                problem.pods.push(Pod {
                    node: Some(node),
                    request: request.to_vec(),
                    milli_gpus: request[GPU] * 1000,
                    places,
                    how,
                    ..Pod::default()
                });
            }
        };
        for _ in 0..4 {
            put([0, 250, 512, 1], POOLS.len(), How::WithNode);
        }
        for _ in 0..dice.roll(3) {
            put([0, 1_000 + 1_000 * dice.roll(6), 8_000, 1], POOLS.len(), How::Evict);
        }
        let fill = dice.roll(6);
        for _ in 0..fill {
            let [gpus, cores, memory] = templates[dice.roll(40) as usize];
            let how = if dice.chance(4) {
                How::Stays
            } else if dice.chance(30) {
                How::Evict
            } else {
                How::Raise
            };
            put([gpus, cores, memory, 1], pool, how);
        }
    }
    problem
}
