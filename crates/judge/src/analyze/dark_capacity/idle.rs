//! GPUs held by what does no work: servers without requests, notebooks and jobs at rest, claims that no pod uses.

use super::{ID, age, gpus_weighted, weight, witnesses};
use crate::analyze::finding::{ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix, Subject};
use crate::analyze::stop::Stop;
use crate::analyze::support::{self, Judged, span};
use crate::analyze::{Outcome, words};
use crate::fleet::history::COVERED;
use crate::fleet::state::{self, Reason};
use crate::fleet::{Fleet, NodeId, ObservedBy, SlotId, SlotState, Workload, WorkloadClass, WorkloadId};
use crate::settings::Thresholds;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn idle(fleet: &Fleet, t: &Thresholds, out: &mut Outcome) {
    for (id, workload) in support::workloads(fleet) {
        let slots: Vec<SlotId> = support::slots_of(workload)
            .into_iter()
            .filter(|s| fleet.slot(*s).state == SlotState::Idle)
            .collect();
        if !slots.is_empty() {
            out.findings.push(idle_finding(fleet, t, id, workload, &slots));
        }
    }
    doubts(fleet, t, out);
    unused_claims(fleet, out);
}

/// What was read of them is idle, and how many servers there are, or whose half they are, stands where it could not be read.
fn doubts(fleet: &Fleet, t: &Thresholds, out: &mut Outcome) {
    for (id, workload) in support::workloads(fleet) {
        if state::idle_but_for_unread(fleet, workload, t) {
            let slots = support::slots_of(workload);
            let shared = |s: &&SlotId| fleet.slot(**s).sharers > 1;
            // Where cards are shared the whole node is judged by each of its pods.
            let nodes: BTreeSet<NodeId> = slots.iter().filter(shared).map(|s| fleet.slot(*s).node).collect();
            let beside = nodes.into_iter().flat_map(|n| fleet.node(n).slot_ids());
            let all: BTreeSet<SlotId> = slots.iter().copied().chain(beside).collect();
            out.doubts(FindingKind::Recoverable, id, all);
        }
    }
}

/// Devices that a claim holds and no pod uses: nobody else can have them, and nobody works on them.
fn unused_claims(fleet: &Fleet, out: &mut Outcome) {
    let mut by_claim: BTreeMap<usize, Vec<SlotId>> = BTreeMap::new();
    for (index, slot) in fleet
        .slots
        .iter()
        .enumerate()
        .filter(|(_, s)| s.reason == Reason::UnusedClaim)
    {
        if let Some(claim) = slot.claims.first() {
            by_claim.entry(*claim).or_default().push(SlotId(index));
        }
    }
    for (id, slots) in by_claim {
        let claim = &fleet.claims[id];
        let cluster = &fleet.clusters[claim.cluster];
        if cluster.selected_only || !(cluster.namespaces.is_empty() || cluster.namespaces.contains(&claim.namespace)) {
            continue;
        }
        let mut judged = Judged::at(
            Confidence::Estimated,
            "one look: no pod uses the claim now; nothing tells since when",
        );
        judged.cap_by_price(fleet, &slots);
        let exists = age(fleet.now(claim.cluster), claim.created_at).unwrap_or(0.0);
        let node = fleet.node(fleet.slot(slots[0]).node);
        out.findings.push(Finding {
            title: format!(
                "claim {} holds {} that no pod uses",
                claim.name,
                gpus_weighted(fleet, &slots)
            ),
            evidence: vec![
                Evidence::number("claimed_gpus", weight(fleet, &slots), "gpus", "kubernetes").expected(0.0),
                Evidence::number("pods_using_the_claim", 0.0, "pods", "kubernetes").expected(1.0),
                Evidence::number("claim_age", exists, "seconds", "kubernetes"),
            ],
            claims: support::claims(fleet, &slots, true),
            fix: Fix::told(format!(
                "Delete the claim if nothing will use it: kubectl delete resourceclaim -n {} {}",
                claim.namespace, claim.name
            )),
            ..judged.recoverable(
                ID,
                "idle",
                ClaimRank::Idle,
                Subject {
                    kind: Some("ResourceClaim".into()),
                    namespace: Some(claim.namespace.clone()),
                    name: Some(claim.name.clone()),
                    ..support::of_pool(fleet, node)
                },
            )
        });
    }
}

/// What showed that nothing is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decided {
    /// The server's counters.
    Counters,
    /// The devices' own history: of all GPUs, or of some of a pod at work.
    Devices,
    Partly,
}

fn decided(fleet: &Fleet, workload: &Workload, slots: &[SlotId]) -> Decided {
    let by = |reason: Reason| slots.iter().any(|s| fleet.slot(*s).reason == reason);
    if by(Reason::PartlyIdle) || slots.len() < support::slots_of(workload).len() {
        Decided::Partly
    } else if by(Reason::NoRequests) {
        Decided::Counters
    } else {
        Decided::Devices
    }
}

fn idle_finding(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload, slots: &[SlotId]) -> Finding {
    let decided = decided(fleet, workload, slots);
    let o = &workload.observed;
    let window = if decided == Decided::Counters {
        o.window_seconds
    } else {
        slots
            .iter()
            .filter_map(|s| state::rest_of(fleet.slot(*s).activity.as_ref()?, t))
            .fold(f64::INFINITY, f64::min)
    };
    let mut judged = match (decided, o.by) {
        (Decided::Devices | Decided::Partly, _) => Judged::measured("device history over the window shows no activity"),
        (_, ObservedBy::History) if o.coverage.is_none_or(|c| c < COVERED) => Judged::measured(
            "counters stand the same on both sides of the holes in the history, and no process began in between",
        ),
        (_, ObservedBy::History) => Judged::measured("history covers the window"),
        (_, ObservedBy::LifetimeCounters) => {
            Judged::measured("counters since the process started show no request and no token")
        }
        _ => Judged::at(Confidence::Estimated, "live samples only"),
    };
    if window < t.minimum_window_seconds as f64 {
        judged.cap(Confidence::Estimated, "seen for less than 24 h");
    }
    // Nobody is told to delete a standby: a floor the autoscaler keeps is somebody's decision.
    let floor = workload.autoscaler_min.is_some_and(|m| m >= 1);
    if floor {
        judged.cap(
            Confidence::Estimated,
            "an autoscaler keeps a minimum: it may be a standby on purpose",
        );
    }
    let floor_unknown = !fleet.clusters[workload.cluster].autoscalers_known;
    if floor_unknown {
        judged.cap(
            Confidence::Estimated,
            "autoscalers could not be listed: it may be a standby that one of them keeps",
        );
    }
    let parked = Parked::of(workload);
    if decided != Decided::Partly
        && let Some(parked) = parked
    {
        judged.cap(Confidence::Estimated, parked.reason());
    }
    judged.cap_by_price(fleet, slots);
    let source = match o.by {
        ObservedBy::History => "prometheus",
        _ => "engine",
    };
    let mut evidence = vec![];
    let counters = [
        ("requests", o.requests),
        ("prompt_tokens", o.prompt_tokens),
        ("output_tokens", o.output_tokens),
    ];
    for (name, value) in counters.into_iter().filter(|_| decided == Decided::Counters) {
        if let Some(value) = value {
            evidence.push(
                Evidence::number(
                    name,
                    value,
                    if name == "requests" { "requests" } else { "tokens" },
                    source,
                )
                .expected(1.0)
                .window(window, o.coverage),
            );
        }
    }
    let activity: Vec<f64> = slots
        .iter()
        .filter_map(|s| fleet.slot(*s).activity.as_ref()?.engine_active?.max)
        .collect();
    if let Some(max) = activity.iter().copied().reduce(f64::max) {
        evidence.push(Evidence::number("gpu_engine_active_max", max, "ratio", "exporter"));
    }
    if decided != Decided::Counters {
        evidence.push(Evidence::number("at_rest", window, "seconds", "prometheus"));
    }
    let power: Vec<f64> = slots
        .iter()
        .filter_map(|s| fleet.slot(*s).activity.as_ref()?.power_watts?.mean)
        .collect();
    if !power.is_empty() {
        evidence.push(Evidence::number(
            "power_mean",
            power.iter().sum::<f64>() / power.len() as f64,
            "watts",
            "exporter",
        ));
    }
    evidence.extend(witnesses(fleet, slots));
    if o.asleep == Some(true) {
        evidence.push(Evidence::text("sleep_state", "asleep", "engine"));
    }
    let (summary, patch) = match words::idle(fleet, workload, slots, decided == Decided::Partly) {
        Some(told) => (told, None),
        None if parked == Some(Parked::Asleep) && decided != Decided::Partly => (asleep_advice(workload), None),
        None => advice(workload, decided, floor || floor_unknown || parked.is_some()),
    };
    let held = weight(fleet, &support::slots_of(workload));
    let title = match (decided, workload.class) {
        (Decided::Partly, _) => format!(
            "{}: {} of its {} without activity in {}",
            workload.name,
            gpus_weighted(fleet, slots),
            held,
            span(window)
        ),
        (_, WorkloadClass::Server) if parked == Some(Parked::Asleep) => format!(
            "{}: put to sleep, no request in {}, holding {}",
            workload.name,
            span(window),
            gpus_weighted(fleet, slots)
        ),
        (Decided::Counters, _) => format!(
            "{}: no request in {}, holding {}",
            workload.name,
            span(window),
            gpus_weighted(fleet, slots)
        ),
        (_, WorkloadClass::Notebook) => format!(
            "{}: notebook with no GPU activity in {}, holding {}",
            workload.name,
            span(window),
            gpus_weighted(fleet, slots)
        ),
        _ => format!(
            "{}: no GPU activity in {}, holding {}",
            workload.name,
            span(window),
            gpus_weighted(fleet, slots)
        ),
    };
    Finding {
        title,
        workload: Some(id),
        evidence,
        claims: support::claims_of(fleet, workload, slots),
        fix: Fix {
            summary,
            placement: None,
            patch,
        },
        ..judged.recoverable(ID, "idle", ClaimRank::Idle, support::of_workload(fleet, workload))
    }
}

/// A server that somebody lets rest on purpose, as vLLM's sleep mode does: its memory is free, and its GPUs stay its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parked {
    Asleep,
    /// It can be put to sleep, and whether it is was not read.
    Unread,
}

impl Parked {
    fn of(workload: &Workload) -> Option<Self> {
        let may = workload.settings.as_ref().is_some_and(|s| s.sleep_mode == Some(true));
        match workload.observed.asleep {
            Some(true) => Some(Self::Asleep),
            None if may => Some(Self::Unread),
            _ => None,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Asleep => {
                "the server says that it was put to sleep: parked on purpose, to be woken when it is needed"
            }
            Self::Unread => {
                "it runs with sleep mode, and whether it was put to sleep was not read: it may be parked on purpose"
            }
        }
    }
}

fn asleep_advice(workload: &Workload) -> String {
    let name = format!("{} {}/{}", workload.kind, workload.namespace, workload.name);
    let stop = Stop::of(&workload.kind);
    format!(
        "It sleeps (its API's /sleep): its GPUs' memory is free, and the GPUs are still its own. Ask its owner whether others may share them while it sleeps, wake it, or {} if it is not needed.",
        stop.of_named(&name)
    )
}

/// What to do, and the patch where one can be written exactly.
fn advice(workload: &Workload, decided: Decided, standby: bool) -> (String, Option<String>) {
    let name = format!("{} {}/{}", workload.kind, workload.namespace, workload.name);
    if decided == Decided::Partly {
        let told = match workload.class {
            WorkloadClass::Server => "check its parallelism and its processes: a rank that died serves nobody",
            _ => "check that each of its processes has a GPU of its own (local rank, CUDA_VISIBLE_DEVICES)",
        };
        return (format!("Ask {name} for fewer GPUs, or use them: {told}."), None);
    }
    if standby {
        return (
            format!("If nobody needs it as a standby, let the autoscaler go to zero (KEDA, Knative) or remove {name}."),
            // Of KServe's a request wakes it again.
            Some(Stop::of(&workload.kind))
                .filter(|s| *s == Stop::MinReplicas)
                .and_then(Stop::patch)
                .map(str::to_owned),
        );
    }
    let stop = Stop::of(&workload.kind);
    (
        format!(
            "Ask its owner; {} if it is not needed (annotate gpuwaste.dev/ignore with a reason if it is).",
            stop.of_named(&name)
        ),
        stop.patch().map(str::to_owned),
    )
}
