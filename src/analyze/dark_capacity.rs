//! dark-capacity: GPUs that are paid for and do nothing.

use super::finding::{ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::support::{self, Judged, gpus, span};
use super::{Check, Context, Outcome, explain};
use crate::fleet::state::{self, Reason};
use crate::fleet::{Fleet, Node, ObservedBy, SlotId, SlotState, StuckReason, Workload, WorkloadClass, WorkloadId};
use crate::settings::Thresholds;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct DarkCapacity;

const ID: &str = "dark-capacity";

impl Check for DarkCapacity {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "GPUs that are paid for and do nothing: free, broken, held by something stuck, or held by something idle."
    }

    fn explain(&self) -> &'static str {
        explain::DARK_CAPACITY
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[Some("unallocated"), Some("unhealthy"), Some("stuck"), Some("idle")]
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        let t = &context.settings.thresholds;
        unallocated(fleet, t, out);
        unhealthy(fleet, t, out);
        stuck(context, out);
        idle(fleet, t, out);
        coverage(fleet, out);
    }
}

fn age(at: Timestamp, since: Option<Timestamp>) -> Option<f64> {
    since.map(|s| at.duration_since(s).as_secs_f64())
}

/// Pool-level findings: nodes come and go, pools stay.
type PoolKey = (usize, String, String);

fn pool_key(node: &Node) -> PoolKey {
    (
        node.cluster,
        if node.pool.is_empty() {
            node.instance_type.clone().unwrap_or_default()
        } else {
            node.pool.clone()
        },
        node.gpu_name.clone(),
    )
}

fn unallocated(fleet: &Fleet, t: &Thresholds, out: &mut Outcome) {
    let mut pools: BTreeMap<PoolKey, Vec<SlotId>> = BTreeMap::new();
    let mut placeholders: BTreeMap<PoolKey, u64> = BTreeMap::new();
    for (index, slot) in fleet.slots.iter().enumerate() {
        let node = fleet.node(slot.node);
        if slot.reason == Reason::Placeholder {
            *placeholders.entry(pool_key(node)).or_default() += 1;
        }
        let young = age(fleet.taken_at, node.created_at).is_none_or(|a| a < t.node_grace_seconds as f64);
        if slot.state == SlotState::Free && !young && !node.being_removed {
            pools.entry(pool_key(node)).or_default().push(SlotId(index));
        }
    }
    let mut waiting = wanted_by_waiting(fleet, t);
    for (key, mut slots) in pools {
        // A pod that has just begun to wait and fits here will take them: leave it ten minutes.
        slots.retain(|s| !waiting.remove(s));
        let kept = usize::try_from(t.free_gpu_allowance)
            .unwrap_or(usize::MAX)
            .min(slots.len());
        slots.drain(..kept);
        if slots.is_empty() {
            continue;
        }
        let node = fleet.node(fleet.slot(slots[0]).node);
        let nodes: BTreeSet<usize> = slots.iter().map(|s| fleet.slot(*s).node.0).collect();
        let whole = nodes
            .iter()
            .filter(|n| fleet.nodes[**n].slot_ids().all(|s| slots.contains(&s)))
            .count();
        let mut judged = if slots.iter().all(|s| fleet.slot(*s).free_for_a_day) {
            Judged::measured("history shows them free for at least 80 % of the last 24 h")
        } else {
            Judged::at(
                Confidence::Estimated,
                "one look: the GPUs are free now; nothing tells for how long",
            )
        };
        judged.cap_by_price(fleet, &slots);
        let subject = support::of_pool(fleet, node);
        let title = format!(
            "{} of {} free in pool {}",
            gpus_weighted(fleet, &slots),
            node.gpu_name,
            subject.name.as_deref().unwrap_or("?")
        );
        let mut evidence = vec![
            Evidence::number("free_gpus", weight(fleet, &slots), "gpus", "kubernetes")
                .expected(t.free_gpu_allowance as f64),
            Evidence::number("nodes_with_free_gpus", nodes.len() as f64, "nodes", "kubernetes"),
            Evidence::number("nodes_wholly_free", whole as f64, "nodes", "kubernetes"),
        ];
        if let Some(held) = placeholders.get(&key) {
            evidence.push(Evidence::number(
                "gpus_held_by_placeholders",
                *held as f64,
                "gpus",
                "kubernetes",
            ));
        }
        let summary = if whole > 0 {
            format!(
                "Scale the pool down by {whole} {} (wholly free), or give the GPUs to work that waits.",
                if whole == 1 { "node" } else { "nodes" }
            )
        } else {
            "Give the free GPUs to work that waits, or drain a node and scale the pool down: a part-empty node is paid in full.".into()
        };
        out.findings.push(Finding {
            check: ID,
            part: Some("unallocated"),
            kind: FindingKind::Recoverable,
            rank: ClaimRank::Unallocated,
            title,
            subject,
            workload: None,
            confidence: judged.level,
            confidence_reasons: judged.reasons,
            evidence,
            claims: support::claims(fleet, &slots, true),
            fix: Fix {
                summary,
                ..Fix::default()
            },
            ignored: None,
            trend_usd_per_hour: None,
        });
    }
}

/// Free slots that pods waiting for less than the grace would take.
fn wanted_by_waiting(fleet: &Fleet, t: &Thresholds) -> BTreeSet<SlotId> {
    let mut taken = BTreeSet::new();
    for pod in fleet
        .pods
        .iter()
        .filter(|p| p.node.is_none() && p.wanted() > 0 && p.phase == crate::snapshot::cluster::PodPhase::Pending)
    {
        let since = pod.scheduled.as_ref().and_then(|c| c.since).or(pod.created_at);
        if age(fleet.taken_at, since).is_none_or(|a| a >= t.pending_wait_seconds as f64) {
            continue;
        }
        let need = pod.wanted();
        let fits = fleet
            .nodes
            .iter()
            .filter(|n| n.cluster == pod.cluster && super::stranded::may_run(pod, n))
            .find_map(|node| {
                let free: Vec<SlotId> = node
                    .slot_ids()
                    .filter(|s| fleet.slot(*s).state == SlotState::Free && !taken.contains(s))
                    .filter(|s| fleet.gives(fleet.slot(*s), pod))
                    .take(need)
                    .collect();
                (free.len() == need).then_some(free)
            });
        taken.extend(fits.into_iter().flatten());
    }
    taken
}

fn weight(fleet: &Fleet, slots: &[SlotId]) -> f64 {
    slots.iter().map(|s| fleet.slot(*s).weight).sum::<u64>() as f64 / crate::fleet::WHOLE_GPU as f64
}

fn gpus_weighted(fleet: &Fleet, slots: &[SlotId]) -> String {
    let whole = weight(fleet, slots);
    if whole.fract() == 0.0 {
        gpus(whole as usize)
    } else {
        format!("{whole:.2} GPUs")
    }
}

fn unhealthy(fleet: &Fleet, t: &Thresholds, out: &mut Outcome) {
    let mut pools: BTreeMap<(PoolKey, &'static str), Vec<SlotId>> = BTreeMap::new();
    for (index, slot) in fleet.slots.iter().enumerate() {
        let node = fleet.node(slot.node);
        if slot.state != SlotState::Unhealthy || !fleet.clusters[node.cluster].pods_known || node.being_removed {
            continue;
        }
        if !fleet.clusters[node.cluster].pods_known {
            // R2: the spend of GPUs whose holders are invisible is not counted, nor is its waste.
            out.not_assessed(
                "pods of all namespaces could not be read: somebody unseen may hold it",
                "grant what 'gpuwaste rbac' prints",
                [SlotId(index)],
            );
            continue;
        }
        let young = age(fleet.taken_at, node.created_at).is_none_or(|a| a < t.node_grace_seconds as f64);
        let since = age(fleet.taken_at, slot.since);
        let (why, fires) = match slot.reason {
            Reason::NodeNotReady => ("node not ready", since.is_some_and(|s| s >= t.unhealthy_seconds as f64)),
            Reason::Cordoned => ("node cordoned", since.is_some_and(|s| s >= t.cordon_seconds as f64)),
            Reason::Tainted => (
                "device tainted by its driver",
                since.map_or(!young, |s| s >= t.unhealthy_seconds as f64),
            ),
            _ => ("device lost", !young),
        };
        if fires && !young {
            pools.entry((pool_key(node), why)).or_default().push(SlotId(index));
        } else if since.is_none() && !matches!(slot.reason, Reason::LostDevice | Reason::Tainted) {
            out.not_assessed(
                "since when a node is unhealthy is not told",
                "scan again later, or look at the node's conditions",
                [SlotId(index)],
            );
        }
    }
    for ((_, why), slots) in pools {
        let node = fleet.node(fleet.slot(slots[0]).node);
        let since = slots
            .iter()
            .filter_map(|s| age(fleet.taken_at, fleet.slot(*s).since))
            .fold(0.0, f64::max);
        let mut judged = if since > 0.0 {
            Judged::measured("the API tells since when")
        } else {
            Judged::at(
                Confidence::Estimated,
                "the API does not tell since when a device is missing",
            )
        };
        judged.cap_by_price(fleet, &slots);
        let mut evidence = vec![
            Evidence::text("cause", why, "kubernetes"),
            Evidence::number("unhealthy_gpus", weight(fleet, &slots), "gpus", "kubernetes").expected(0.0),
        ];
        if since > 0.0 {
            evidence.push(Evidence::number("longest", since, "seconds", "kubernetes"));
        }
        let names: BTreeSet<&str> = slots
            .iter()
            .map(|s| fleet.node(fleet.slot(*s).node).name.as_str())
            .collect();
        let lasting = if since > 0.0 {
            format!(" for {}", span(since))
        } else {
            String::new()
        };
        out.findings.push(Finding {
            check: ID,
            part: Some("unhealthy"),
            kind: FindingKind::Recoverable,
            rank: ClaimRank::Unhealthy,
            title: format!(
                "{} of {} unusable, {why}{lasting}",
                gpus_weighted(fleet, &slots),
                node.gpu_name
            ),
            subject: support::of_pool(fleet, node),
            workload: None,
            confidence: judged.level,
            confidence_reasons: judged.reasons,
            evidence,
            claims: support::claims(fleet, &slots, false),
            fix: Fix {
                summary: format!(
                    "Repair or replace {}: the nodes are paid for while nothing can run there.",
                    names.into_iter().collect::<Vec<_>>().join(", ")
                ),
                ..Fix::default()
            },
            ignored: None,
            trend_usd_per_hour: None,
        });
    }
}

fn stuck(context: &Context<'_>, out: &mut Outcome) {
    let fleet = context.fleet;
    for (id, workload) in support::workloads(fleet) {
        let pods: Vec<_> = workload
            .pods
            .iter()
            .filter(|p| {
                fleet
                    .pod(**p)
                    .slots
                    .iter()
                    .any(|s| fleet.slot(*s).state == SlotState::Stuck)
            })
            .collect();
        let mut slots: Vec<SlotId> = pods
            .iter()
            .flat_map(|p| fleet.pod(**p).slots.iter().copied())
            .filter(|s| fleet.slot(*s).state == SlotState::Stuck)
            .collect();
        slots.sort_unstable();
        slots.dedup();
        // A gang of which one member cannot start is stuck as a whole: one finding.
        let Some(worst) = pods
            .iter()
            .filter_map(|p| fleet.pod(**p).stuck.as_ref())
            .max_by_key(|s| state::stuck_for(s, fleet.taken_at))
        else {
            continue;
        };
        let seconds = state::stuck_for(worst, fleet.taken_at).unwrap_or(0) as f64;
        let mut judged = Judged::measured("the pod's own conditions tell since when it is not Ready");
        judged.cap_by_price(fleet, &slots);
        let mut evidence = vec![
            Evidence::text("cause", worst.reason.name(), "kubernetes"),
            Evidence::number("not_ready_for", seconds, "seconds", "kubernetes"),
            Evidence::number("restarts", worst.restarts as f64, "restarts", "kubernetes"),
        ];
        if let Some(exit) = &worst.last_exit {
            evidence.push(Evidence::number(
                "last_exit_code",
                exit.code as f64,
                "code",
                "kubernetes",
            ));
            if let Some(reason) = &exit.reason {
                evidence.push(Evidence::text("last_exit_reason", reason, "kubernetes"));
            }
        }
        let what = match worst.reason {
            StuckReason::ImagePull => "cannot pull its image",
            StuckReason::CrashLoop => "crashes and restarts",
            StuckReason::Init => "waits in its init containers",
            StuckReason::Creating => "cannot create its containers",
            StuckReason::NotReady => "never becomes Ready",
            StuckReason::Terminating => "does not end",
            StuckReason::NodeLost => "is on a node that does not answer",
        };
        // A model that cannot fit is the cause, told here and not a second time.
        let cause = matches!(worst.reason, StuckReason::CrashLoop | StuckReason::NotReady)
            .then(|| super::undersized::cause(fleet, &context.sizing().market, workload))
            .flatten();
        let what = if cause.is_some() {
            "does not fit its GPUs, and restarts"
        } else {
            what
        };
        let mut fix = Fix::default();
        if let Some((reason, placement)) = cause {
            evidence.push(Evidence::text("fit_verdict", "does-not-fit", "fit"));
            evidence.push(Evidence::text("fit_reason", &reason, "fit"));
            fix.summary = super::undersized::advice(placement.as_ref());
            fix.placement = placement;
        }
        let summary = match worst.reason {
            StuckReason::ImagePull => {
                "Correct the image's name or pull secret, or scale to 0 until it exists.".to_string()
            }
            StuckReason::Terminating => {
                "Find what blocks deletion (finalizers, a node that is gone) and remove it.".into()
            }
            _ => format!(
                "Scale {} {}/{} to 0 until the cause is fixed: it holds GPUs and serves nothing.",
                workload.kind, workload.namespace, workload.name
            ),
        };
        out.findings.push(Finding {
            check: ID,
            part: Some("stuck"),
            kind: FindingKind::Recoverable,
            rank: ClaimRank::Stuck,
            title: format!(
                "{} {what}, holding {} for {}",
                workload.name,
                gpus_weighted(fleet, &slots),
                span(seconds)
            ),
            subject: support::of_workload(fleet, workload),
            workload: Some(id),
            confidence: judged.level,
            confidence_reasons: judged.reasons,
            evidence,
            claims: support::claims_of(fleet, workload, &slots),
            fix: Fix {
                summary: [fix.summary, summary].join(" ").trim().to_string(),
                ..fix
            },
            ignored: None,
            trend_usd_per_hour: None,
        });
    }
}

fn idle(fleet: &Fleet, t: &Thresholds, out: &mut Outcome) {
    for (id, workload) in support::workloads(fleet) {
        let slots: Vec<SlotId> = support::slots_of(workload)
            .into_iter()
            .filter(|s| fleet.slot(*s).state == SlotState::Idle)
            .collect();
        if !slots.is_empty() {
            out.findings.push(idle_finding(fleet, t, id, workload, &slots));
        }
    }
    unused_claims(fleet, out);
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
        let exists = age(fleet.taken_at, claim.created_at).unwrap_or(0.0);
        let node = fleet.node(fleet.slot(slots[0]).node);
        out.findings.push(Finding {
            check: ID,
            part: Some("idle"),
            kind: FindingKind::Recoverable,
            rank: ClaimRank::Idle,
            title: format!(
                "claim {} holds {} that no pod uses",
                claim.name,
                gpus_weighted(fleet, &slots)
            ),
            subject: super::finding::Subject {
                kind: Some("ResourceClaim".into()),
                namespace: Some(claim.namespace.clone()),
                name: Some(claim.name.clone()),
                ..support::of_pool(fleet, node)
            },
            workload: None,
            confidence: judged.level,
            confidence_reasons: judged.reasons,
            evidence: vec![
                Evidence::number("claimed_gpus", weight(fleet, &slots), "gpus", "kubernetes").expected(0.0),
                Evidence::number("pods_using_the_claim", 0.0, "pods", "kubernetes").expected(1.0),
                Evidence::number("claim_age", exists, "seconds", "kubernetes"),
            ],
            claims: support::claims(fleet, &slots, true),
            fix: Fix {
                summary: format!(
                    "Delete the claim if nothing will use it: kubectl delete resourceclaim -n {} {}",
                    claim.namespace, claim.name
                ),
                ..Fix::default()
            },
            ignored: None,
            trend_usd_per_hour: None,
        });
    }
}

fn idle_finding(fleet: &Fleet, t: &Thresholds, id: WorkloadId, workload: &Workload, slots: &[SlotId]) -> Finding {
    let server = workload.class == WorkloadClass::Server;
    let o = &workload.observed;
    let window = if server {
        o.window_seconds
    } else {
        slots
            .iter()
            .filter_map(|s| fleet.slot(*s).activity.as_ref())
            .map(|a| a.window_seconds)
            .fold(f64::INFINITY, f64::min)
    };
    let mut judged = match o.by {
        ObservedBy::History => Judged::measured("history covers the window"),
        ObservedBy::LifetimeCounters => {
            Judged::measured("counters since the process started show no request and no token")
        }
        _ if !server => Judged::measured("device activity over the window"),
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
    judged.cap_by_price(fleet, slots);
    let source = match o.by {
        ObservedBy::History => "prometheus",
        _ if server => "engine",
        _ => "exporter",
    };
    let mut evidence = vec![];
    for (name, value) in [
        ("requests", o.requests),
        ("prompt_tokens", o.prompt_tokens),
        ("output_tokens", o.output_tokens),
    ] {
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
    if o.asleep == Some(true) {
        evidence.push(Evidence::text("sleep_state", "asleep", "engine"));
    }
    let (summary, patch) = if floor || floor_unknown {
        (
            format!(
                "If nobody needs it as a standby, let the autoscaler go to zero (KEDA, Knative) or remove {} {}/{}.",
                workload.kind, workload.namespace, workload.name
            ),
            None,
        )
    } else {
        let patch = matches!(workload.kind.as_str(), "Deployment" | "StatefulSet" | "LeaderWorkerSet")
            .then(|| "spec:\n  replicas: 0\n".to_string());
        (
            format!(
                "Ask its owner; scale {} {}/{} to 0 if it is not needed (annotate gpuwaste.dev/ignore with a reason if it is).",
                workload.kind, workload.namespace, workload.name
            ),
            patch,
        )
    };
    let what = match workload.class {
        WorkloadClass::Server => "no request",
        WorkloadClass::Notebook => "notebook with no GPU activity",
        _ => "no GPU activity",
    };
    Finding {
        check: ID,
        part: Some("idle"),
        kind: FindingKind::Recoverable,
        rank: ClaimRank::Idle,
        title: format!(
            "{}: {what} in {}, holding {}",
            workload.name,
            span(window),
            gpus_weighted(fleet, slots)
        ),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence,
        claims: support::claims_of(fleet, workload, slots),
        fix: Fix {
            summary,
            placement: None,
            patch,
        },
        ignored: None,
        trend_usd_per_hour: None,
    }
}

/// Every slot is either judged, or not with the reason.
fn coverage(fleet: &Fleet, out: &mut Outcome) {
    let left_out: BTreeSet<SlotId> = out.not_assessed.iter().flat_map(|n| n.slots.iter().copied()).collect();
    for (index, slot) in fleet.slots.iter().enumerate() {
        let id = SlotId(index);
        if left_out.contains(&id) {
            continue;
        }
        if slot.state != SlotState::Unknown {
            out.assessed.push(id);
            continue;
        }
        let class = slot
            .holders
            .first()
            .and_then(|p| fleet.pod(*p).workload)
            .map(|w| fleet.workload(w).class);
        let (reason, remedy) = match (slot.reason, class) {
            (Reason::HoldersInvisible, _) => (
                "pods of all namespaces could not be read: somebody unseen may hold it",
                "grant what 'gpuwaste rbac' prints",
            ),
            (Reason::ClaimsInvisible, _) => (
                "resource claims could not be listed: one of them may hold it",
                "grant what 'gpuwaste rbac' prints",
            ),
            (Reason::CustomSharing, _) => (
                "GPUs are handed out by DRA claims or a sharing layer whose holders cannot be told",
                "read its exporter through Prometheus",
            ),
            (Reason::SharerUnknown, _) => (
                "which of its node's shared cards it is on is not told, and another pod on them works",
                "let a GPU exporter that names pods be scraped (pods/proxy), or give Prometheus",
            ),
            (Reason::Starting, _) => (
                "its pod is not Ready, but within the time that starting may take",
                "scan again in an hour",
            ),
            (Reason::Contradicted, _) => (
                "counters say idle, but the device draws power or computes",
                "look at what runs there besides the server",
            ),
            (_, Some(WorkloadClass::Server)) => (
                "what the server did could not be read for long enough",
                "grant pods/proxy ('gpuwaste rbac --with scrape --namespace NS')",
            ),
            (_, Some(_)) => (
                "a notebook, job or unknown pod can be called idle only by a day of GPU history",
                "give Prometheus with DCGM metrics",
            ),
            (_, None) => ("its holder is not known", "scan again"),
        };
        out.not_assessed(reason, remedy, [id]);
    }
}
