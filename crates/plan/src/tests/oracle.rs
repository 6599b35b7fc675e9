//! The best that a plan could leave behind, by a mixed-integer program that knows nothing of the search or of its bound: who is where in
//! the end. It asks for no order of moves, so no plan is better.

use crate::model::{Headroom, How, Pod, Problem, RuleKind};
use good_lp::solvers::SolutionStatus;
use good_lp::{
    Expression, ResolutionError, Solution, SolverModel, Variable, WithTimeLimit, constraint, microlp, variable,
    variables,
};
use std::collections::BTreeMap;

/// Pods that are one to the program: as many as there are, each with its home where it must be told apart.
struct Kind<'p> {
    pod: &'p Pod,
    homes: BTreeMap<usize, u64>,
    count: u64,
    /// It may have ended instead.
    ended: Option<Variable>,
    /// They are there only without, or only with, this tier change.
    tier: Option<(usize, bool)>,
}

/// Seconds for one program (ours: most take a hundredth, and a few, of many nodes that are almost the same, minutes).
const LIMIT: f64 = 2.0;

/// Micro-dollars per hour of the nodes of these groups (which have the same resources for GPUs) that can go; of pods that wait nothing
/// is asked. `None`: not in that time.
pub(super) fn optimum(problem: &Problem, group: &[usize]) -> Result<Option<i64>, String> {
    let own_gpus = &problem.groups[group[0]].gpus;
    let gpus = |amounts: &[u64]| own_gpus.iter().map(|r| amounts[*r]).sum::<u64>();
    let nodes: Vec<usize> = (0..problem.nodes.len())
        .filter(|n| group.contains(&problem.nodes[*n].group))
        .collect();
    let on = |n: usize| problem.pods.iter().enumerate().filter(move |(_, p)| p.node == Some(n));
    let stays = |p: &Pod| p.change.is_none() && p.how == How::Stays;
    let fixed = |n: usize, r: usize| -> u64 {
        let fixed = on(n).filter(|(_, p)| stays(p) || p.how == How::WithNode);
        fixed.map(|(_, p)| p.request[r]).sum()
    };
    let mut vars = variables!();
    let mut kept: BTreeMap<usize, Variable> = BTreeMap::new();
    for &n in &nodes {
        let price = problem.nodes[n].price.unwrap_or(0);
        if problem.nodes[n].returnable && price > 0 && !on(n).any(|(_, p)| stays(p)) {
            kept.insert(n, vars.add(variable().binary()));
        }
    }
    // Pods of a change end one by one, or all.
    let mut ended: BTreeMap<usize, Variable> = BTreeMap::new();
    let mut alike: Vec<(Expression, f64)> = Vec::new();
    for change in &problem.changes {
        let own: Vec<Variable> = change.pods.iter().map(|_| vars.add(variable().binary())).collect();
        ended.extend(change.pods.iter().copied().zip(own.iter().copied()));
        let all = own.iter().fold(Expression::from(0.0), |e, v| e + *v);
        alike.push((all, change.most as f64));
    }
    let mut kinds: BTreeMap<_, Kind<'_>> = BTreeMap::new();
    for &n in &nodes {
        for (i, pod) in on(n).filter(|(_, p)| gpus(&p.request) > 0 && p.how != How::WithNode && !stays(p)) {
            let single = pod.change.is_some() || !pod.member.is_empty() || !pod.counted_by.is_empty();
            let key = (pod.request.clone(), pod.places, single.then_some(i), pod.tier);
            let kind = kinds.entry(key).or_insert(Kind {
                pod,
                homes: BTreeMap::new(),
                count: 0,
                ended: ended.get(&i).copied(),
                tier: pod.tier.map(|t| (t, false)),
            });
            kind.count += 1;
            *kind.homes.entry(n).or_insert(0) += 1;
        }
    }
    let mut kinds: Vec<Kind<'_>> = kinds.into_values().collect();
    // Each tier change is made or not; then its pods are others.
    let made: Vec<Variable> = problem.tiers.iter().map(|_| vars.add(variable().binary())).collect();
    kinds.extend(problem.tiers.iter().enumerate().map(|(t, tier)| Kind {
        pod: &tier.after,
        homes: BTreeMap::new(),
        count: tier.pods.len() as u64,
        ended: None,
        tier: Some((t, true)),
    }));
    // How many of each kind are on each node.
    let mut here: BTreeMap<(usize, usize), Variable> = BTreeMap::new();
    for (k, kind) in kinds.iter().enumerate() {
        for &n in &nodes {
            let home = kind.homes.get(&n).copied().unwrap_or(0);
            let may = kind.pod.how.moves() && problem.nodes[n].open && problem.places[kind.pod.places][n];
            let most = if may { kind.count } else { home };
            if most > 0 {
                here.insert((k, n), vars.add(variable().integer().min(0).max(most as f64)));
            }
        }
    }
    let price = |n: usize| problem.nodes[n].price.unwrap_or(0);
    let cost = kept
        .iter()
        .fold(Expression::from(0.0), |e, (n, v)| e + price(*n) as f64 / 1e6 * *v);
    let goes: BTreeMap<usize, Variable> = group.iter().map(|g| (*g, vars.add(variable().binary()))).collect();
    let largest: BTreeMap<usize, Variable> = group.iter().map(|g| (*g, vars.add(variable().min(0.0)))).collect();
    let mut model = vars.minimise(cost).using(microlp).with_time_limit(LIMIT);
    for (change, (all, most)) in problem.changes.iter().zip(alike) {
        if change.ends_all() {
            let pairs = change.pods.windows(2).map(|w| (ended[&w[0]], ended[&w[1]]));
            model = pairs.fold(model, |m, (a, b)| m.with(constraint!(a == b)));
        } else {
            model = model.with(constraint!(all <= most));
        }
    }
    for (k, kind) in kinds.iter().enumerate() {
        let all = nodes.iter().filter_map(|n| here.get(&(k, *n)));
        let mut all = all.fold(Expression::from(0.0), |e, v| e + *v);
        if let Some(ended) = kind.ended {
            all += ended;
        }
        match kind.tier {
            Some((t, false)) => all += kind.count as f64 * made[t],
            Some((t, true)) => all += kind.count as f64 * (1.0 - made[t]),
            None => {}
        }
        model = model.with(constraint!(all >= kind.count as f64));
    }
    // Nodes that are the same stay in turn: one of many equal answers is enough.
    let room = |n: usize, r: usize| {
        let own = kinds
            .iter()
            .map(|k| k.homes.get(&n).unwrap_or(&0) * k.pod.request[r])
            .sum::<u64>();
        problem.nodes[n].allocatable[r].saturating_sub(fixed(n, r)).max(own)
    };
    let mut same: BTreeMap<_, usize> = BTreeMap::new();
    for (&n, v) in &kept {
        let rooms: Vec<u64> = (0..problem.resources).map(|r| room(n, r)).collect();
        let places: Vec<bool> = problem.places.iter().map(|p| p[n]).collect();
        let zones: Vec<Option<usize>> = problem.rules.iter().map(|r| r.domain[n]).collect();
        let foreign = |k: &Kind<'_>| k.homes.contains_key(&n) && !(k.pod.how.moves() && places[k.pod.places]);
        if problem.nodes[n].open
            && !kinds.iter().any(foreign)
            && let Some(before) = same.insert((rooms, places, price(n), problem.nodes[n].group, zones), n)
        {
            model = model.with(constraint!(kept[&before] >= *v));
        }
    }
    let mut free: BTreeMap<usize, Expression> = BTreeMap::new();
    for &n in &nodes {
        let own_group = problem.nodes[n].group;
        let node = &problem.nodes[n];
        for r in 0..problem.resources {
            let room = room(n, r) as f64;
            let asked = kinds.iter().enumerate().filter(|(_, kind)| kind.pod.request[r] > 0);
            let asked = asked.filter_map(|(k, kind)| Some((here.get(&(k, n))?, kind.pod.request[r] as f64)));
            let asked = asked.fold(Expression::from(0.0), |e, (v, own)| e + own / room.max(1.0) * *v);
            let room = if room > 0.0 { 1.0 } else { 0.0 };
            model = match kept.get(&n) {
                Some(v) => model.with(constraint!(asked <= room * *v)),
                None => model.with(constraint!(asked <= room)),
            };
        }
        for (s, members) in problem.selections.iter().enumerate() {
            let own = |k: &&Kind<'_>| k.pod.member.contains(&s);
            let apart = kinds.iter().filter(own).any(|k| k.pod.apart.contains(&s));
            let there = kinds.iter().enumerate().filter(|(_, k)| k.pod.member.contains(&s));
            let there = there.filter_map(|(k, _)| here.get(&(k, n)));
            if apart && !members.is_empty() {
                let all = there.fold(Expression::from(0.0), |e, v| e + *v);
                model = model.with(constraint!(all <= 1.0));
            }
        }
        if node.open {
            let (own, held) = (
                gpus(&node.allocatable) as f64,
                own_gpus.iter().map(|r| fixed(n, *r)).sum::<u64>(),
            );
            let part = match problem.headroom {
                Headroom::Percent(p) => own * (100.0 - f64::from(p)) / 100.0,
                _ => own,
            };
            let stays = kept.get(&n).map_or(Expression::from(1.0), |v| Expression::from(*v));
            // What is held beyond what there is takes nothing from others.
            let beyond = own_gpus.iter().map(|r| {
                let used = on(n).map(|(_, p)| p.request[*r]).sum::<u64>();
                used.saturating_sub(node.allocatable[*r])
            });
            let beyond = beyond.sum::<u64>() as f64;
            let free = free.entry(own_group).or_insert_with(|| Expression::from(0.0));
            *free += (part + beyond - held as f64) * stays.clone();
            if problem.headroom == Headroom::OneNode {
                model = model.with(constraint!(own * stays <= largest[&own_group]));
            }
            for (k, kind) in kinds.iter().enumerate() {
                if let Some(v) = here.get(&(k, n)) {
                    *free -= gpus(&kind.pod.request) as f64 * *v;
                }
            }
        }
    }
    for (g, free) in free {
        // It is asked for where a node goes.
        let all: u64 = nodes.iter().map(|n| gpus(&problem.nodes[*n].allocatable)).sum();
        let lacks = 2.0 * all as f64 * (1.0 - Expression::from(goes[&g]));
        model = match problem.headroom {
            Headroom::None => model,
            Headroom::Percent(_) => model.with(constraint!(free + lacks >= 0.0)),
            Headroom::OneNode => model.with(constraint!(free + lacks >= largest[&g])),
        };
    }
    for (n, v) in &kept {
        model = model.with(constraint!(goes[&problem.nodes[*n].group] + *v >= 1.0));
    }
    for (index, rule) in problem.rules.iter().enumerate() {
        let counted: Vec<&Pod> = problem.pods.iter().filter(|p| p.counted_by.contains(&index)).collect();
        let inside = |p: &&&Pod| p.node.is_some_and(|n| nodes.contains(&n)) && p.change.is_none();
        let few = matches!(rule.kind, RuleKind::Spread { min_domains, .. } if min_domains > 1);
        // What asks for a number of domains is not asked here: no plan is better for it.
        if few || !counted.iter().all(|p| inside(&p)) {
            continue;
        }
        let in_domain = |n: usize, d: usize| rule.domain[n] == Some(d);
        let now = |d: usize| {
            counted
                .iter()
                .filter(|p| p.node.is_some_and(|n| in_domain(n, d)))
                .count()
        };
        let now: Vec<usize> = (0..rule.domains).map(now).collect();
        let (most, least) = (now.iter().max().unwrap_or(&0), now.iter().min().unwrap_or(&0));
        let then: Vec<Expression> = (0..rule.domains)
            .map(|d| {
                let fixed = counted
                    .iter()
                    .filter(|p| stays(p) && p.node.is_some_and(|n| in_domain(n, d)))
                    .count();
                let own = kinds
                    .iter()
                    .enumerate()
                    .filter(|(_, k)| k.pod.counted_by.contains(&index));
                let own = own.flat_map(|(k, _)| nodes.iter().map(move |n| (*n, (k, *n))));
                let own = own
                    .filter(|(n, _)| in_domain(*n, d))
                    .filter_map(|(_, at)| here.get(&at));
                own.fold(Expression::from(fixed as f64), |e, v| e + *v)
            })
            .collect();
        for (d, own) in then.iter().enumerate() {
            match rule.kind {
                // One that only counts, and of whom nothing is asked, keeps nobody off another such.
                RuleKind::Apart if *most <= 1 && counted.iter().all(|p| p.bound_by.contains(&index)) => {
                    model = model.with(constraint!(own.clone() <= 1.0));
                }
                RuleKind::Apart => {}
                RuleKind::Spread { max_skew, .. } => {
                    let skew = (most - least).max(max_skew as usize) as f64;
                    for other in then.iter().enumerate().filter(|(o, _)| *o != d) {
                        model = model.with(constraint!(own.clone() - other.1.clone() <= skew));
                    }
                }
            }
        }
    }
    let all: i64 = kept.keys().map(|n| price(*n)).sum();
    match model.solve() {
        Ok(found) if matches!(found.status(), SolutionStatus::Optimal) => {
            let stay = kept.iter().filter(|(_, v)| found.value(**v) > 0.5);
            Ok(Some(all - stay.map(|(n, _)| price(*n)).sum::<i64>()))
        }
        // As it is the headroom is not there, and then no node goes.
        Err(ResolutionError::Infeasible) => Ok(Some(0)),
        Ok(_) | Err(ResolutionError::Other(_)) => Ok(None),
        Err(why) => Err(why.to_string()),
    }
}
