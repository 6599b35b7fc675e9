//! parallelism-mismatch: servers whose parallelism is not the GPUs that they hold.

use super::finding::{ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::spread::{self, Spread};
use super::support::{self, Judged, lack};
use super::{Check, Context, Outcome, documented, kv_pressure, sizing, undersized};
use crate::fit::FitVerdict;
use crate::fleet::{Fleet, Replica, SlotId, SlotState, Workload, WorkloadClass, WorkloadId};
use crate::snapshot::Gap;
use crate::snapshot::owners;

documented! {
    since "0.1.0";
    /// What it finds. A server that holds more GPUs than tensor x pipeline x data parallelism uses.
    ///   too-few      not running yet: it asks for fewer GPUs than its parallelism needs, and will not start
    ///
    /// Why it costs. The GPUs beyond that product are never touched, but nobody else can have them.
    ///
    /// How the dollars are computed. (held - used) GPUs of each replica. too-few: at risk, the GPUs that it asks for.
    ///
    /// When it is wrong. What an engine takes without a flag differs: vLLM and SGLang one GPU, NIM, TGI and llama.cpp all of them. Where
    /// that is not known, or the parallelism, or a setting that memory hangs on, stands where it could not be read, it is not assessed. A
    /// running server whose model would not fit the GPUs that its settings name, or of whose GPUs more are at work, refutes this: then a
    /// gap says so. Groups over several nodes and replicas that Ray places are left out.
    ///
    /// What to do. Lower the GPU request, or raise the parallelism if the load needs it.
    pub(crate) struct ParallelismMismatch;
}

const ID: &str = "parallelism-mismatch";

impl Check for ParallelismMismatch {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Servers that hold more GPUs than their tensor, pipeline and data parallelism uses, or fewer than it needs."
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[None, Some("too-few")]
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        for (id, workload) in support::workloads(context.fleet).filter(|(_, w)| w.class == WorkloadClass::Server) {
            judge(context, id, workload, out);
        }
    }
}

fn judge(context: &Context<'_>, id: WorkloadId, workload: &Workload, out: &mut Outcome) {
    let fleet = context.fleet;
    let slots = support::slots_of(workload);
    if support::on_unseen_nodes(fleet, &slots) {
        return out.not_assessed(support::UNSEEN.0, support::UNSEEN.1, slots);
    }
    let spread = match spread::of(workload) {
        Ok(spread) if spread.floating => return out.lacks(&spread::FLOATING, slots),
        Ok(spread) => spread,
        Err(lack) => {
            doubt(context, id, workload, &lack, out);
            return out.lacks(&lack, slots);
        }
    };
    let Some(held) = workload.gpus_per_replica else {
        return;
    };
    if spread.gpus > held && workload.settings.as_ref().is_some_and(|s| s.ranks_by_ray) {
        let elsewhere = lack("its ranks are placed by Ray, and may be in other pods", "nothing to do");
        return out.lacks(&elsewhere, slots);
    }
    if spread.gpus > held {
        return too_few(fleet, id, workload, spread, held, out);
    }
    let several = |r: &Replica| r.pods.len() > 1 || r.pods.iter().any(|p| fleet.pod(*p).device_containers > 1);
    if spread.gpus < held && workload.replicas.iter().any(several) {
        let several = lack(
            "a replica is several pods or servers: each uses a part of the parallelism",
            "nothing to do",
        );
        return out.lacks(&several, slots);
    }
    // Whether the model would fit fewer GPUs at all, which would refute it, hangs on these.
    let unread = workload.settings.as_ref().and_then(sizing::memory_unread);
    if let Some(lack) = unread.filter(|_| spread.gpus < held) {
        doubt(context, id, workload, &lack, out);
        return out.lacks(&lack, slots);
    }
    if let Some(lack) = refuted(fleet, workload, out) {
        return out.lacks(&lack, slots);
    }
    if spread.gpus < held && !undersized::is_misfit(fleet, workload) {
        let Some(unused) = unused(context, workload, spread, out) else {
            return;
        };
        if unused.witness == Witness::Absent && sizing::unconfirmed(workload) {
            out.doubts(FindingKind::Recoverable, id, unused.slots.iter().copied());
        }
        out.findings.extend(too_many(context, id, workload, spread, &unused));
    }
    out.assessed.extend(slots);
}

/// What an unread setting might have told of: all but one of a replica's GPUs that are not seen at work, or ranks without one.
fn doubt(context: &Context<'_>, id: WorkloadId, workload: &Workload, lack: &support::Lack, out: &mut Outcome) {
    if !lack.unread {
        return;
    }
    let (fleet, t) = (context.fleet, &context.settings.thresholds);
    let mut spare = Vec::new();
    for replica in workload.replicas.iter().filter(|r| r.pods.len() == 1) {
        let at_work = |s: &SlotId| spread::is_at_work(fleet, *s, t) == Some(true);
        let unused: Vec<SlotId> = replica
            .slots
            .iter()
            .copied()
            .filter(|s| support::is_open(fleet, *s) && !at_work(s))
            .collect();
        let one_is_used = usize::from(unused.len() == replica.slots.len());
        spare.extend(unused.into_iter().skip(one_is_used));
    }
    out.doubts(FindingKind::Recoverable, id, spare);
    let fails = workload.planned || workload.pods.iter().any(|p| fleet.pod(*p).stuck.is_some());
    let unknown = |s: &SlotId| fleet.slot(*s).state == SlotState::Unknown;
    if fails && workload.replicas.iter().all(|r| r.ready_since.is_none()) {
        out.doubts(
            FindingKind::AtRisk,
            id,
            support::slots_of(workload).into_iter().filter(unknown),
        );
    }
}

/// A server that runs fits the GPUs that it uses: where the model does not, not all of its parallelism was read.
fn refuted(fleet: &Fleet, workload: &Workload, out: &mut Outcome) -> Option<support::Lack> {
    let ready = workload.replicas.iter().any(|r| r.ready_since.is_some());
    let held = sizing::held(fleet, workload).ok().filter(|_| ready)?;
    let placed = held.placed();
    if placed.verdict != FitVerdict::DoesNotFit {
        return None;
    }
    out.gaps.push(Gap {
        source: format!("cluster {}", fleet.clusters[workload.cluster].name),
        what: format!(
            "parallelism of {} {}/{}",
            workload.kind, workload.namespace, workload.name
        ),
        reason: format!(
            "it runs, and by its settings it could not: {}",
            placed.reason.trim_end_matches('.')
        ),
        effect: "how many of its GPUs it uses is unknown".into(),
        remedy: "state the parallelism in its arguments".into(),
    });
    Some(lack(
        "it runs, and its model would not fit the GPUs that its settings name: they are not all that was set",
        "state the parallelism in its arguments",
    ))
}

/// What is known of the GPUs beyond the parallelism.
struct Unused {
    slots: Vec<SlotId>,
    witness: Witness,
}

/// What the exporter says of them; the worst of several replicas decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Witness {
    /// The others work while these do not.
    Agrees,
    /// None works: what is not used is not to be told from what is.
    AllAtRest,
    /// There is none.
    Absent,
}

/// GPUs that nothing uses; `None`, and said: more of them may work than the parallelism names.
fn unused(context: &Context<'_>, workload: &Workload, spread: Spread, out: &mut Outcome) -> Option<Unused> {
    let (fleet, t) = (context.fleet, &context.settings.thresholds);
    let used = spread.gpus as usize;
    let mut all = Unused {
        slots: Vec::new(),
        witness: Witness::Agrees,
    };
    for replica in &workload.replicas {
        let is_held = |s: &SlotId| {
            let state = fleet.slot(*s).state;
            matches!(state, SlotState::Working | SlotState::Unknown | SlotState::Idle)
        };
        if replica.slots.len() <= used || !replica.slots.iter().all(is_held) {
            continue;
        }
        let seen = |is: Option<bool>| -> Vec<SlotId> {
            let slots = replica.slots.iter().copied();
            slots.filter(|s| spread::is_at_work(fleet, *s, t) == is).collect()
        };
        let (working, at_rest, unseen) = (seen(Some(true)), seen(Some(false)), seen(None));
        let shown = replica.slots.iter().any(|s| {
            let node = fleet.node(fleet.slot(*s).node);
            node.has_exporter || !node.devices.is_empty()
        });
        if working.len() > used {
            contradiction(fleet, workload, working.len(), used, out);
            return None;
        }
        if shown && working.len() + unseen.len() > used {
            out.not_assessed(
                "which of its GPUs work is not told, where an exporter would tell",
                "let a GPU exporter that names pods be scraped (pods/proxy), or give Prometheus",
                support::slots_of(workload),
            );
            return None;
        }
        all.witness = all.witness.max(match (shown, working.len() == used) {
            (false, _) => Witness::Absent,
            (true, false) => Witness::AllAtRest,
            (true, true) => Witness::Agrees,
        });
        // Those that are seen at rest before those that nobody sees.
        let spare = replica.slots.len() - used;
        let free = |s: &SlotId| !working.contains(s);
        let mut order: Vec<SlotId> = replica.slots.iter().rev().copied().filter(free).collect();
        order.sort_by_key(|s| !at_rest.contains(s));
        all.slots.extend(order.into_iter().take(spare));
    }
    all.slots.sort_unstable();
    Some(all)
}

fn contradiction(fleet: &Fleet, workload: &Workload, working: usize, used: usize, out: &mut Outcome) {
    out.gaps.push(Gap {
        source: format!("cluster {}", fleet.clusters[workload.cluster].name),
        what: format!(
            "parallelism of {} {}/{}",
            workload.kind, workload.namespace, workload.name
        ),
        reason: format!("its settings use {used} GPUs, and the exporter shows {working} at work"),
        effect: "how many of its GPUs it uses is unknown".into(),
        remedy: "state the parallelism in its arguments, or look at what else runs in the pod".into(),
    });
    out.not_assessed(
        "more of its GPUs work than its settings name",
        "state the parallelism in its arguments, or look at what else runs in the pod",
        support::slots_of(workload),
    );
}

fn too_many(
    context: &Context<'_>,
    id: WorkloadId,
    workload: &Workload,
    spread: Spread,
    unused: &Unused,
) -> Option<Finding> {
    let fleet = context.fleet;
    if unused.slots.is_empty() {
        return None;
    }
    let (held, used) = (workload.gpus_per_replica?, spread.gpus);
    let mut judged = confidence(workload, unused);
    judged.cap_by_price(fleet, &unused.slots);
    let summary = if kv_pressure::is_short(context, id).unwrap_or(false) {
        format!(
            "Raise the tensor parallelism: it is short of KV cache beside {} that it never touches.",
            support::gpus((held - used) as usize)
        )
    } else {
        format!(
            "Ask for {used} GPUs, or raise the tensor parallelism if the load needs it: the others are never touched."
        )
    };
    Some(Finding {
        kind: FindingKind::Recoverable,
        rank: ClaimRank::Unused,
        title: format!("{}: holds {held} GPUs a replica and uses {used}", workload.name),
        evidence: vec![
            Evidence::number("gpus_held_per_replica", f64::from(held), "gpus", "kubernetes").expected(f64::from(used)),
            Evidence::number("gpus_used_per_replica", f64::from(used), "gpus", "kubernetes"),
        ],
        claims: support::claims_of(fleet, workload, &unused.slots),
        fix: Fix::told(summary),
        ..support::of_one(fleet, ID, None, (id, workload), judged)
    })
}

/// Measured where the arguments and what the GPUs do say the same, or where nothing shows what these do (R6).
fn confidence(workload: &Workload, unused: &Unused) -> Judged {
    let mut judged = Judged::measured(match unused.witness {
        Witness::Agrees => "the server's own arguments, and its other GPUs work while these do not",
        Witness::AllAtRest | Witness::Absent => "the server's own arguments and the pod's own request",
    });
    if unused.witness == Witness::AllAtRest {
        judged.cap(
            Confidence::Estimated,
            "none of its GPUs works now: that these never do, the arguments alone say",
        );
    }
    if unused.witness == Witness::Absent && !workload.settings_confirmed {
        judged.cap(
            Confidence::Estimated,
            "the arguments as written; the server itself was not asked",
        );
    }
    judged
}

/// More ranks than GPUs: the engine refuses to start.
fn too_few(fleet: &Fleet, id: WorkloadId, workload: &Workload, spread: Spread, held: u32, out: &mut Outcome) {
    let slots = support::slots_of(workload);
    if workload.replicas.iter().any(|r| r.ready_since.is_some()) {
        return out.not_assessed(
            "it runs on fewer GPUs than its settings name: they are not all that was set",
            "look at its arguments",
            slots,
        );
    }
    let known = workload.kind == "Pod" || owners::WHOLE.contains(&workload.kind.as_str());
    if !known {
        return out.not_assessed(
            "how many pods of such a kind are one server is not known",
            "look at its parallelism by hand",
            slots,
        );
    }
    out.assessed.extend(&slots);
    // Live, the stuck part of dark-capacity has what it holds once it is told as such.
    let failing: Vec<SlotId> = slots
        .into_iter()
        .filter(|s| fleet.slot(*s).state == SlotState::Unknown)
        .collect();
    let fails = workload.planned || workload.pods.iter().any(|p| fleet.pod(*p).stuck.is_some());
    if failing.is_empty() || !fails {
        return;
    }
    let needed = spread.gpus;
    let p = spread.parallelism;
    let mut judged = Judged::at(
        Confidence::Estimated,
        "the arguments as written, and the GPUs asked for",
    );
    judged.cap_by_price(fleet, &failing);
    out.findings.push(Finding {
        rank: ClaimRank::AtRisk,
        title: format!("{}: needs {needed} GPUs a replica and asks for {held}", workload.name),
        evidence: vec![
            Evidence::number("gpus_asked_per_replica", f64::from(held), "gpus", "manifest").expected(f64::from(needed)),
        ],
        claims: support::part_of(fleet, workload, &failing, 1.0),
        fix: Fix::told(format!(
            "Ask for {needed} GPUs: tensor {} x pipeline {} x data parallelism {} needs one each.",
            p.tensor, p.pipeline, p.data
        )),
        ..support::of_one(fleet, ID, Some("too-few"), (id, workload), judged)
    });
}
