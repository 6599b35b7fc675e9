//! dark-capacity: GPUs that are paid for and do nothing.

mod idle;
mod stuck;
mod unallocated;
mod unhealthy;
mod unmanaged;

use super::finding::Evidence;
use super::support::gpus;
use super::words;
use super::{Check, Context, Outcome, documented};
use crate::analyze::rights;
use crate::fleet::state::Reason;
use crate::fleet::witness::{Fact, Facts};
use crate::fleet::{Fleet, SlotId, SlotState, WorkloadClass};
use jiff::Timestamp;
use std::collections::BTreeSet;

documented! {
    since "0.1.0";
    /// What it finds. GPUs that are paid for and do nothing, in four parts, and GPUs that nobody holds and that work:
    ///   unallocated  on a Ready, schedulable node older than an hour, and no pod or claim holds them
    ///   unhealthy    the node has not been Ready for an hour, is cordoned for a day, or its health monitor has called its GPUs broken
    ///                for an hour (and nobody holds them); devices are missing from its allocatable, tainted by their driver, or full of
    ///                what dead processes left; or nobody holds them and their exporter says that row remapping failed, or that the last
    ///                XID is one after which a card has to be reset (48, 64, 79, 95 and others; not those that programs cause)
    ///   stuck        held by a pod that has not been Ready for an hour (longer where its startup probe or its weights need longer):
    ///                image pulls, crash loops of five restarts and more, init containers, deletions that do not end
    ///   idle         held by a server whose counters show no request and no token in all its replicas since it started (a day at
    ///                least for 'measured'), or by a notebook or job without GPU activity in a day of history, or by a claim that no
    ///                pod uses
    ///   (Slurm: drained or down for an hour, with the reason that was typed; jobs COMPLETING or CONFIGURING for an hour; free GPUs of a
    ///                node whose last_busy is a day ago are 'measured'; what a reservation keeps, or a suspended job holds, is not judged;
    ///                jobs are idle two hours after their start if they have used no GPU, and after five hours at rest: 'estimated')
    ///   unmanaged    something computes there outside of the scheduler, which may hand them out at any time: listed without dollars
    ///
    /// Why it costs. A node's price does not depend on what its GPUs do.
    ///
    /// How the dollars are computed. Each GPU costs its share of its node's price; a MIG instance its compute slices of that. The
    /// finding claims those shares, each GPU once: stuck before unhealthy before free before idle. 'now' means that the whole node
    /// becomes empty and is on-demand or spot, so that the bill can stop; else the GPUs are 'reusable'.
    ///
    /// When it is wrong. A free GPU is one look: it may be taken a minute later, so it is 'estimated' (with history: 'measured' where it
    /// was free for 80 % of a day). Standby capacity that an
    /// autoscaler keeps on purpose is 'estimated' too. Pods with a priority below 0 and pause images are placeholders and never idle.
    /// A server whose metrics could not be read is not assessed, never idle.
    ///
    /// What to do. Scale pools down, repair nodes, fix or remove what is stuck, ask owners of idle servers. What must stay: annotate
    /// it with gpuwaste.dev/ignore: "dark-capacity REASON".
    pub(crate) struct DarkCapacity;
}

const ID: &str = "dark-capacity";

impl Check for DarkCapacity {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "GPUs that are paid for and do nothing: free, broken, held by something stuck, or held by something idle."
    }

    fn parts(&self) -> &'static [Option<&'static str>] {
        &[
            Some("unallocated"),
            Some("unhealthy"),
            Some("stuck"),
            Some("idle"),
            Some("unmanaged"),
        ]
    }

    fn needs_activity(&self) -> bool {
        true
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let fleet = context.fleet;
        let t = &context.settings.thresholds;
        unallocated::unallocated(fleet, t, out);
        unhealthy::unhealthy(fleet, t, out);
        stuck::stuck(context, out);
        idle::idle(fleet, t, out);
        unmanaged::unmanaged(fleet, out);
        coverage(fleet, out);
    }
}

fn age(at: Timestamp, since: Option<Timestamp>) -> Option<f64> {
    since.map(|s| at.duration_since(s).as_secs_f64())
}

/// Pool-level findings: nodes come and go, pools stay.
type PoolKey = (usize, String, String);

fn pool_key(fleet: &Fleet, slot: SlotId) -> PoolKey {
    let node = fleet.node(fleet.slot(slot).node);
    (
        node.cluster,
        if node.pool.is_empty() {
            node.instance_type.clone().unwrap_or_default()
        } else {
            node.pool.clone()
        },
        fleet.gpu_name(slot).to_string(),
    )
}

/// The nodes of the slots, by name: "n1", "n1 and n2", "n1, n2 and 3 more".
fn node_names(fleet: &Fleet, slots: &[SlotId]) -> String {
    let names: BTreeSet<&str> = slots
        .iter()
        .map(|s| fleet.node(fleet.slot(*s).node).name.as_str())
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    match names.as_slice() {
        [] => "no node".into(),
        [one] => (*one).to_string(),
        [first, second] => format!("{first} and {second}"),
        [first, second, third] => format!("{first}, {second} and {third}"),
        [first, second, rest @ ..] => format!("{first}, {second} and {} more", rest.len()),
    }
}

/// The longest that sources which saw nothing compute have looked, and in how far they agree; for the evidence (R11).
fn witnesses(fleet: &Fleet, slots: &[SlotId]) -> Vec<Evidence> {
    let mut out = Vec::new();
    let facts = || slots.iter().map(|s| &fleet.slot(*s).facts);
    for (name, of) in [
        ("witness_held", (|f: &Facts| &f.held) as fn(&Facts) -> &Fact),
        ("witness_works", |f: &Facts| &f.works),
    ] {
        // The worst of all: one GPU that is contradicted spoils the lot.
        if let Some(worst) = facts().map(of).max_by_key(|f| f.verdict()) {
            out.push(Evidence::text(name, &worst.words(), "witness"));
        }
    }
    out
}

/// What exporters say of the health of these GPUs, a few of them: "GPU-1 (n1): row remapping failed".
fn ailments(fleet: &Fleet, slots: &[SlotId]) -> Option<String> {
    const FEW: usize = 3;
    let told: Vec<String> = slots
        .iter()
        .map(|s| fleet.slot(*s))
        .filter_map(|s| {
            Some(format!(
                "{} ({}): {}",
                s.name,
                fleet.node(s.node).name,
                s.health.words()?
            ))
        })
        .collect();
    let more = match told.len().saturating_sub(FEW) {
        0 => String::new(),
        n => format!("; and {n} more"),
    };
    let first: Vec<&str> = told.iter().take(FEW).map(String::as_str).collect();
    (!first.is_empty()).then(|| format!("{}{more}", first.join("; ")))
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
        let slurm = words::is_slurm(fleet, fleet.node(slot.node).cluster);
        let (reason, remedy) = match (slot.reason, class) {
            (Reason::Kept, _) => (
                "nobody holds it, and it is spoken for: a reservation, a job that is planned there, or a node that is being powered",
                "look at 'scontrol show reservation', or scan again later",
            ),
            (Reason::Suspended, _) => (
                "its job is suspended: somebody paused it",
                "ask who suspended it, or let it go on ('scontrol resume JOB')",
            ),
            (Reason::Unread, _) if slurm => (
                "it is allocated to a job that is not shown, or its node's state is not told",
                "run as an operator, or let an administrator save the outputs (--slurm-dir)",
            ),
            (Reason::HoldersInvisible, _) if slurm => (
                "its node does not tell which of its GPUs are allocated",
                "save 'scontrol -d show nodes --json' (before Slurm 23.02 'sinfo --json')",
            ),
            (Reason::Starting, _) if slurm => (
                "its job begins or ends, but within the time that this may take",
                "scan again in an hour",
            ),
            (_, Some(WorkloadClass::Job | WorkloadClass::Notebook | WorkloadClass::Unknown)) if slurm => (
                "whether a job uses its GPUs is not told: Slurm knows who holds them, not what they do",
                "give --prometheus URL of a store with dcgm-exporter's series of the nodes",
            ),
            (Reason::HoldersInvisible, _) => (
                "pods of all namespaces could not be read: somebody unseen may hold it",
                rights::READ,
            ),
            (Reason::NodeUnread, _) => (
                "nodes could not be read: others may share the GPU, and what it costs is unknown",
                rights::READ,
            ),
            (Reason::Planned, _) => ("it is planned: nothing runs of it yet", "scan once it runs"),
            (Reason::ClaimsInvisible, _) => (
                "resource claims could not be listed: one of them may hold it",
                rights::READ,
            ),
            (Reason::CustomSharing, _) => (
                "GPUs are handed out by DRA claims or a sharing layer whose holders cannot be told",
                "read its exporter through Prometheus",
            ),
            (Reason::SharerUnknown, _) => (
                "which of its node's shared cards it is on is not told, and another pod on them works",
                "let a GPU exporter that names pods be scraped (pods/proxy), or give Prometheus",
            ),
            (Reason::Unread, _) => (
                "its node or its pod is not told of as the API tells it: parts are missing or impossible",
                "look at what stands between you and the API server",
            ),
            (Reason::Starting, _) => (
                "its pod is not Ready, but within the time that starting may take",
                "scan again in an hour",
            ),
            (Reason::Contradicted, _) => (
                "one source says idle or free, another says that it is used",
                "look at what runs there, and which of the two is right: 'witness_works' and 'witness_held' name them",
            ),
            (Reason::WitnessUnread, _) => (
                "it would be idle or free, and an exporter of its node, which could object, was not read",
                "let the exporter be read (pods/proxy, or its series in Prometheus)",
            ),
            (Reason::ServersUnread, _) => (
                "not every server of its pods was read: each data-parallel rank has a metrics page of its own",
                "let the ranks' ports be declared in the pod and read (pods/proxy), or its GPUs' history (Prometheus with DCGM)",
            ),
            (Reason::Unmanaged, _) => (
                "it computes, and no pod or claim holds it",
                "look at the processes on the node: something runs outside of the scheduler",
            ),
            (Reason::MemoryHeld, _) => (
                "nobody holds it and nothing computes, but its memory is taken",
                "look at the processes on the node; with an hour of its history it can be told from a program that waits",
            ),
            (Reason::NotAMachine, _) => (
                "its node is no machine: it is simulated, another cluster's, or billed by the pod",
                "scan the cluster whose machines they are",
            ),
            (Reason::NotShown, _) => (
                "its node's exporter shows fewer GPUs than the node hands out: it may be the one that is lost",
                "compare 'nvidia-smi -L' on the node with its allocatable",
            ),
            (Reason::MigChanging, _) => (
                "its MIG layout is being changed",
                "scan again when the MIG manager is done",
            ),
            (_, Some(WorkloadClass::Server)) => {
                ("what the server did could not be read for long enough", rights::PAGES)
            }
            (_, Some(_)) => (
                "a notebook, job or unknown pod can be called idle only by a day of GPU history",
                "give Prometheus with DCGM metrics",
            ),
            (_, None) => ("its holder is not known", "scan again"),
        };
        out.not_assessed(reason, remedy, [id]);
    }
}
