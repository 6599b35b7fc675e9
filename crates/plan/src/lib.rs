//! Which moves, in which order, empty whole GPU nodes, and what the bill is after each step.
//!
//! The flow: `adapter` (a snapshot, its fleet and its report → [`model`]) → [`mod@solve`] (which nodes go, by which moves) →
//! `steps` (commands in an order that is valid at every point) → [`document`] and the formats. Nothing is ever carried out.

mod adapter;
mod bound;
pub mod document;
pub mod model;
mod render;
pub mod solve;
mod state;
mod steps;
#[cfg(test)]
mod tests;

pub use adapter::Options;
pub use render::Format;
pub use solve::solve;

use gpuwaste_facts::{snapshot, text, units};
use gpuwaste_judge as judge;

use adapter::Input;
use adapter::leaving::{Leaving, Tie};
use document::{ByPerson, Pinned, Plan, PlanNode, Refused, SCHEMA, Stay, StayingPod, Totals, Waiting};
use judge::fleet::{Fleet, SlotState};
use judge::report::document::{Report, Status};
use model::{Action, Headroom, Solution};
use snapshot::Snapshot;
use state::State;
use units::UsdPerHour;

/// Fleets of up to so many nodes are also planned with what only a person can move (ours: it doubles the time).
const WITH_PERSONS: usize = 300;
/// Fleets of up to so many nodes are planned by every scan (ours: it stays below half a second).
const BRIEF: usize = 100;

/// The plan for a fleet that was judged.
pub fn plan(snapshot: &Snapshot, fleet: &Fleet, report: &Report, options: &Options) -> Plan {
    let input = Input::new(snapshot, fleet, report, options, false);
    let (solution, bound) = solve(&input.problem);
    let spend = report.totals.spend_usd_per_hour;
    let (steps, after) = steps::steps(&input, &solution, spend);
    let usd = UsdPerHour::from_micros;
    let made = !input.nodes.is_empty();
    let mut plan = Plan {
        schema: SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        taken_at: snapshot.taken_at.to_string(),
        allow: allowed(options),
        headroom: match options.headroom {
            Headroom::None => "0".into(),
            Headroom::Percent(p) => format!("{p}%"),
            Headroom::OneNode => "node".into(),
        },
        max_moves: options.max_moves,
        totals: Totals {
            spend_usd_per_hour: spend,
            spend_after_usd_per_hour: spend.filter(|_| made).map(|s| s - usd(solution.saved)),
            saved_usd_per_hour: made.then(|| usd(solution.saved)),
            at_most_usd_per_hour: made.then(|| usd(bound)),
            empty_already_usd_per_hour: made.then(|| usd(already(&input, &solution))),
            with_person_usd_per_hour: with_persons(snapshot, fleet, report, options, &input, &solution),
            nodes: fleet.nodes.len() as u64,
            nodes_returned: solution.returned.len() as u64,
            moves: solution.moves as u64,
            gpus_disturbed: solution.milli_gpus as f64 / 1000.0,
        },
        steps,
        nodes: nodes(&input, &solution),
        stays: stays(&input, &solution),
        pinned: pinned(&input),
        waiting: waiting(&input, after),
        refused: Vec::new(),
        by_person: by_person(&input, report, &solution),
    };
    plan.refused = input
        .refused
        .iter()
        .map(|(cluster, reason, remedy)| Refused {
            cluster: cluster.clone(),
            reason: (*reason).into(),
            remedy: (*remedy).into(),
        })
        .collect();
    plan
}

/// What every scan says of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief {
    pub moves: u64,
    /// What moves alone turn into money: nodes that hold somebody today.
    pub turned: UsdPerHour,
    /// All that then stops: the nodes that can go today, and these.
    pub now_after_plan: UsdPerHour,
}

/// Moves alone, for fleets that are small enough; `None`: no plan was made.
pub fn brief(snapshot: &Snapshot, fleet: &Fleet, report: &Report) -> Option<Brief> {
    let now = report.totals.waste_now_usd_per_hour?;
    if fleet.nodes.len() > BRIEF {
        return None;
    }
    let input = Input::new(snapshot, fleet, report, &Options::default(), false);
    if input.nodes.is_empty() || !input.refused.is_empty() {
        return None;
    }
    let (solution, _) = solve(&input.problem);
    // A node that findings empty is counted as "now" already.
    let counted = |node: &usize| is_now(&input, report, *node);
    let price = |n: &usize| input.problem.nodes[*n].price.unwrap_or(0);
    let turned: i64 = solution.returned.iter().filter(|n| !counted(n)).map(price).sum();
    let turned = UsdPerHour::from_micros(turned);
    Some(Brief {
        moves: if turned.is_positive() { solution.moves as u64 } else { 0 },
        turned,
        now_after_plan: now + turned,
    })
}

/// Each of its GPUs is one that findings vacate.
fn is_now(input: &Input<'_>, report: &Report, node: usize) -> bool {
    let name = &input.nodes[node].joined.name;
    let vacated: std::collections::BTreeSet<&str> = report
        .findings
        .iter()
        .filter(|f| f.status != Status::Suppressed && f.waste_usd_per_hour.is_some())
        .flat_map(|f| &f.claims)
        .filter(|c| c.vacates && c.node == *name)
        .map(|c| c.gpu.as_str())
        .collect();
    let slots = input.states(input.nodes[node].id);
    slots
        .iter()
        .all(|(s, _)| vacated.contains(input.fleet.slot(*s).name.as_str()))
}

fn allowed(options: &Options) -> Vec<String> {
    let all = [
        (options.now, "now"),
        (options.reusable, "reusable"),
        (options.tier, "tier"),
        (options.replicas, "replicas"),
    ];
    all.iter().filter(|a| a.0).map(|a| a.1.to_string()).collect()
}

/// Micro-dollars of nodes that nobody has to leave.
fn already(input: &Input<'_>, solution: &Solution) -> i64 {
    let stays = |n: &usize| {
        input
            .problem
            .pods
            .iter()
            .all(|p| p.node != Some(*n) || p.how == model::How::WithNode)
    };
    let empty = solution.returned.iter().filter(|n| stays(n));
    empty.map(|n| input.problem.nodes[*n].price.unwrap_or(0)).sum()
}

fn with_persons(
    snapshot: &Snapshot,
    fleet: &Fleet,
    report: &Report,
    options: &Options,
    input: &Input<'_>,
    solution: &Solution,
) -> Option<UsdPerHour> {
    let some = input.pods.iter().any(|p| matches!(p.leaving, Leaving::Person(..)));
    if !some || fleet.nodes.len() > WITH_PERSONS {
        return None;
    }
    let with = Input::new(snapshot, fleet, report, options, true);
    let (more, _) = solve(&with.problem);
    (more.saved > solution.saved).then(|| UsdPerHour::from_micros(more.saved))
}

fn nodes(input: &Input<'_>, solution: &Solution) -> Vec<PlanNode> {
    let mut cells: Vec<Vec<(Option<judge::fleet::SlotId>, SlotState)>> = input
        .nodes
        .iter()
        .map(|n| {
            input
                .states(n.id)
                .into_iter()
                .map(|(s, state)| (Some(s), state))
                .collect()
        })
        .collect();
    let before: Vec<Vec<SlotState>> = cells.iter().map(|c| c.iter().map(|(_, s)| *s).collect()).collect();
    for action in &solution.actions {
        match action {
            Action::Move { pod, from, to } => {
                for state in vacate(input, &mut cells[*from], *pod) {
                    if let Some(free) = cells[*to].iter_mut().find(|c| c.1 == SlotState::Free) {
                        *free = (input.fleet.pod(input.pods[*pod].id).slots.first().copied(), state);
                    }
                }
            }
            Action::End { pods, .. } => {
                for pod in pods {
                    if let Some(node) = input.problem.pods[*pod].node {
                        vacate(input, &mut cells[node], *pod);
                    }
                }
            }
            Action::Tier { tier, to } => {
                let pods = &input.problem.tiers[*tier].pods;
                let mut states = Vec::new();
                for pod in pods {
                    if let Some(node) = input.problem.pods[*pod].node {
                        states.extend(vacate(input, &mut cells[node], *pod));
                    }
                }
                let state = states.first().copied().unwrap_or(SlotState::Unknown);
                for (pod, node) in pods.iter().zip(to) {
                    let slot = input.fleet.pod(input.pods[*pod].id).slots.first().copied();
                    for _ in 0..input.tiers[*tier].devices {
                        if let Some(free) = cells[*node].iter_mut().find(|c| c.1 == SlotState::Free) {
                            *free = (slot, state);
                        }
                    }
                }
            }
            Action::Return { .. } | Action::Open { .. } => {}
        }
    }
    let names = |states: Vec<SlotState>| states.into_iter().map(|s| s.name().to_string()).collect();
    let all = input.nodes.iter().enumerate().zip(before).zip(cells);
    all.map(|(((i, n), before), after)| {
        let returned = solution.returned.contains(&i);
        PlanNode {
            cluster: n.cluster.into(),
            name: n.joined.name.clone(),
            gpu: n.joined.gpu_name.clone(),
            usd_per_hour: n.joined.price.usd_per_hour,
            bill_stops: n.joined.capacity_type.can_be_returned(),
            returned,
            before: names(before),
            after: if returned {
                Vec::new()
            } else {
                names(after.into_iter().map(|(_, s)| s).collect())
            },
        }
    })
    .collect()
}

/// The pod's cells become free; what they were.
fn vacate(input: &Input<'_>, cells: &mut [(Option<judge::fleet::SlotId>, SlotState)], pod: usize) -> Vec<SlotState> {
    let own = &input.fleet.pod(input.pods[pod].id).slots;
    let held = cells
        .iter_mut()
        .filter(|c| c.0.is_some_and(|s| own.contains(&s)) && c.1 != SlotState::Free);
    held.map(|c| std::mem::replace(&mut c.1, SlotState::Free)).collect()
}

fn stays(input: &Input<'_>, solution: &Solution) -> Vec<Stay> {
    let of = |i: usize| {
        let node = &input.nodes[i];
        let pods = input.pods.iter().enumerate().filter(|(p, of)| {
            input.problem.pods[*p].node == Some(i) && matches!(of.leaving, Leaving::Person(..) | Leaving::Stays(_))
        });
        let pods: Vec<StayingPod> = pods
            .filter(|(p, _)| input.problem.pods[*p].change.is_none())
            .map(|(_, of)| {
                let (reason, by_person) = match &of.leaving {
                    Leaving::Person(_, why) => (why.clone(), true),
                    Leaving::Stays(why) => (why.clone(), false),
                    _ => (String::new(), false),
                };
                StayingPod {
                    pod: format!("{}/{}", of.seen.namespace, of.seen.name),
                    reason,
                    by_person,
                }
            })
            .collect();
        let reason = node.reason.clone().or_else(|| {
            node.joined
                .price
                .usd_per_hour
                .is_none()
                .then(|| "what it costs is not known".into())
        });
        let open = reason.is_none() && pods.is_empty();
        let kept = solution
            .kept_for_queue
            .contains(&i)
            .then(|| "pods that wait for GPUs have room on it".to_string());
        Stay {
            cluster: node.cluster.into(),
            node: node.joined.name.clone(),
            usd_per_hour: node.joined.price.usd_per_hour,
            reason: kept
                .or(reason)
                .or_else(|| open.then(|| "what runs on it finds no room elsewhere".into())),
            pods,
        }
    };
    let mut all: Vec<Stay> = (0..input.nodes.len())
        .filter(|i| input.nodes[*i].joined.capacity_type.can_be_returned() && !solution.returned.contains(i))
        .map(of)
        .collect();
    all.sort_by(|a, b| (b.usd_per_hour, &a.cluster, &a.node).cmp(&(a.usd_per_hour, &b.cluster, &b.node)));
    all
}

/// Pods that are tied to where they are, by what ties them, the most GPUs first.
fn pinned(input: &Input<'_>) -> Vec<Pinned> {
    let mut all: std::collections::BTreeMap<Tie, (u64, u64)> = std::collections::BTreeMap::new();
    for (pod, of) in input.problem.pods.iter().zip(&input.pods) {
        if let (Leaving::Person(tie, _), Some(_), None) = (&of.leaving, pod.node, pod.change) {
            let own = all.entry(*tie).or_default();
            *own = (own.0 + 1, own.1 + pod.milli_gpus);
        }
    }
    let mut all: Vec<(Tie, (u64, u64))> = all.into_iter().collect();
    all.sort_by_key(|(tie, (pods, gpus))| (std::cmp::Reverse((*gpus, *pods)), *tie));
    all.into_iter()
        .map(|(tie, (pods, gpus))| Pinned {
            what: tie.text().into(),
            pods,
            gpus: gpus as f64 / 1000.0,
        })
        .collect()
}

/// Who waits, and where there is room in the end, first come, first served.
fn waiting(input: &Input<'_>, mut after: State<'_>) -> Vec<Waiting> {
    let mut all = Vec::new();
    for (i, of) in input
        .pods
        .iter()
        .enumerate()
        .filter(|(i, _)| input.problem.pods[*i].node.is_none())
    {
        let node = (0..input.nodes.len()).find(|n| after.fits(i, *n));
        if let Some(node) = node {
            after.put(i, node);
        }
        all.push(Waiting {
            cluster: input.fleet.clusters[of.joined.cluster].name.clone(),
            pod: format!("{}/{}", of.seen.namespace, of.seen.name),
            node: node.map(|n| input.nodes[n].joined.name.clone()),
        });
    }
    all
}

/// What the user allows and no step does, and why.
fn by_person(input: &Input<'_>, report: &Report, solution: &Solution) -> Vec<ByPerson> {
    let made = |change: usize, tier: bool| {
        solution.actions.iter().any(|a| match a {
            Action::Tier { tier: own, .. } => tier && *own == change,
            Action::End { change: own, .. } => !tier && *own == change,
            _ => false,
        })
    };
    let nothing = "no bill stops by it in this plan: the node does not empty by it, or other pods find no room";
    let ends = input.changes.iter().enumerate().filter(|(c, _)| !made(*c, false));
    let ends = ends.map(|(_, e)| (e.finding.clone(), nothing.to_string()));
    let tiers = input.tiers.iter().enumerate().filter(|(t, _)| !made(*t, true));
    let tiers = tiers.map(|(_, t)| (t.finding.clone(), nothing.to_string()));
    let left = input.left.iter().cloned();
    let why: std::collections::BTreeMap<String, String> = ends.chain(tiers).chain(left).collect();
    let found = report.findings.iter().filter_map(|f| Some((f, why.get(&f.id)?)));
    found
        .map(|(f, why)| ByPerson {
            finding: Some(f.id.clone()),
            what: format!("{}: {} Not a step: {why}.", f.title, f.fix.summary),
            usd_per_hour: f.waste_usd_per_hour,
        })
        .collect()
}
