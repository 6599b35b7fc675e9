//! Jobs of the past, summed up by who answers for them and by the kind of machine that they were on.
//!
//! The rules look at one job at a time, and only here are jobs seen by themselves. Their numbers are those of Princeton's Job Defense Shield
//! (docs/alert of its repository), which sends mails by them; what is enough of it to be told is the policy's matter.

use crate::account::{Accounting, Record};
use crate::gres::mig_of;
use crate::hostlist;
use gpuwaste_facts::snapshot::cluster::Node;
use gpuwaste_facts::snapshot::owners::USER;
use gpuwaste_facts::snapshot::past::{Asked, PastUse};
use gpuwaste_facts::text::harmless;
use std::collections::{BTreeMap, HashMap};

/// What is judged of the past, seconds.
pub const WINDOW: i64 = 7 * 86_400;
const HOUR: f64 = 3600.0;
/// Seconds that a job must have run: for low efficiency more than half an hour, for what it asked for more than an hour (61 min).
const BRIEF: i64 = 30 * 60;
const LONG: i64 = 61 * 60;
/// Mean activity, GPU memory, CPUs and host memory a GPU up to which a far smaller GPU would have done (15 %, 10 GB, 12 cores, 32 GB).
const SMALL_ACTIVITY: f64 = 0.15;
const SMALL_MEMORY: f64 = 10e9;
const SMALL_CPUS: f64 = 12.0;
const SMALL_HOST: f64 = 32e9;
/// CPUs a GPU over its share of the node's (half as much again), and the used part of memory from which nobody asked for too much.
const OVER: f64 = 1.5;
const MEMORY_USED: f64 = 0.8;

/// What a kind of machine has.
#[derive(Clone, Debug, Default)]
struct Machine {
    /// One of them.
    name: String,
    cpus: f64,
    memory: f64,
    gpus: f64,
    /// Its GPUs are handed out whole.
    whole: bool,
}

/// The kinds of the cluster's machines, and which node is of which.
struct Machines {
    kinds: Vec<Machine>,
    of: HashMap<String, usize>,
}

impl Machines {
    fn of(nodes: &[Node]) -> Self {
        let mut known = HashMap::new();
        let mut all = Self {
            kinds: Vec::new(),
            of: HashMap::new(),
        };
        for node in nodes {
            let kind = *known
                .entry((node.like(), node.capacity.cpu, node.capacity.memory))
                .or_insert_with(|| {
                    all.kinds.push(machine(node));
                    all.kinds.len() - 1
                });
            all.of.insert(node.name.clone(), kind);
        }
        all
    }

    /// The kind that every node of a list is of; `None`: they differ, or are not known.
    fn kind(&self, list: &str) -> Option<usize> {
        let names = hostlist::expand(list).filter(|n| !n.is_empty())?;
        let mut kinds = names.iter().map(|n| self.of.get(n).copied());
        let first = kinds.next().flatten()?;
        kinds.all(|k| k == Some(first)).then_some(first)
    }
}

fn machine(node: &Node) -> Machine {
    let cards = node.labels.get("nvidia.com/gpu.count").and_then(|n| n.parse().ok());
    let devices: u64 = node.capacity.devices.values().fold(0, |a, b| a.saturating_add(*b));
    Machine {
        name: node.name.clone(),
        cpus: node.capacity.cpu.map_or(0.0, gpuwaste_facts::units::MilliCores::cores),
        memory: node.capacity.memory.map_or(0.0, |m| m.0 as f64),
        gpus: cards.unwrap_or(devices as f64),
        whole: node.capacity.devices.keys().all(|k| k == crate::cluster::GPU),
    }
}

impl Accounting {
    /// Sums by user, account, partition and kind of machine, over the days before `until` (seconds since 1970).
    pub fn by_owner(&self, until: i64, nodes: &[Node]) -> Vec<PastUse> {
        let machines = Machines::of(nodes);
        let from = until - WINDOW;
        let mut sums: BTreeMap<([String; 4], Option<usize>), PastUse> = BTreeMap::new();
        // Floats add up to the same in the same order only.
        let mut jobs: Vec<(&String, &Record)> = self.jobs.iter().filter(|(_, j)| j.gpus() > 0).collect();
        jobs.sort_by_key(|(id, _)| *id);
        for (_, job) in jobs {
            let Some(start) = job.start else { continue };
            let end = job.end.unwrap_or(start.saturating_add(job.elapsed)).min(until);
            // A job that was suspended ran for less than its life.
            let seconds = (end - start.max(from)).clamp(0, job.elapsed.max(0));
            if seconds == 0 {
                continue;
            }
            let kind = machines.kind(&job.nodes);
            let words = [&job.user, &job.account, &job.partition].map(|w| short(w));
            let [user, account, partition] = words;
            let gpu = job.tres.kind.as_deref().map_or_else(String::new, short);
            let words = [user, account, partition, gpu];
            let sum = sums.entry((words.clone(), kind)).or_insert_with(|| PastUse {
                labels: labels(&words),
                node: kind.map(|k| machines.kinds[k].name.clone()),
                window_seconds: WINDOW.unsigned_abs(),
                ..PastUse::default()
            });
            add(sum, job, seconds as f64 / HOUR, kind.map(|k| &machines.kinds[k]));
        }
        sums.into_values().collect()
    }
}

/// One job, of which `hours` lie in the window.
fn add(sum: &mut PastUse, job: &Record, hours: f64, machine: Option<&Machine>) {
    let gpus = job.gpus() as f64;
    let held = hours * gpus;
    sum.jobs += 1;
    sum.gpu_hours += held;
    if let Some(summary) = &job.summary {
        // GPUs that the summary leaves out are not known.
        let watched = summary.gpus as f64;
        let idle = hours * summary.idle_gpus as f64;
        sum.watched_gpu_hours += hours * watched;
        sum.unused_gpu_hours += hours * watched * (1.0 - summary.utilization);
        sum.idle_gpu_hours += idle;
        sum.idle_jobs += u64::from(summary.idle_gpus > 0);
        if summary.idle_gpus < summary.gpus {
            sum.partly_idle_gpu_hours += idle;
        }
        if job.elapsed > BRIEF {
            let open = summary.open_gpus as f64;
            sum.open_gpu_hours += hours * open;
            sum.open_unused_gpu_hours += hours * (open - summary.open_activity);
        }
        if let Some(memory) = small(job, gpus) {
            sum.small_gpu_hours += held;
            sum.small_jobs += 1;
            sum.small_memory = sum.small_memory.max(memory);
        }
    }
    if job.elapsed > LONG && job.completed {
        // The whole of it, whatever lies before the window.
        if let Some(limit) = job.limit.filter(|l| *l > 0) {
            let used = (job.elapsed as f64).min(limit as f64);
            sum.limit_gpu_hours += gpus * limit as f64 / HOUR;
            sum.limit_used_gpu_hours += gpus * used / HOUR;
        }
    }
    if let Some(machine) = machine.filter(|m| m.whole && m.gpus > 0.0 && job.elapsed > LONG) {
        asked(sum, job, hours, machine);
    }
}

/// The most GPU memory that a job took which a far smaller GPU would have carried; `None`: it is no such job, or not known to be one.
fn small(job: &Record, gpus: f64) -> Option<f64> {
    let summary = job.summary.as_ref()?;
    let whole = job.tres.kind.as_deref().is_none_or(|k| mig_of(k).is_none());
    let told = summary.gpus == job.gpus() && summary.idle_gpus == 0;
    let host = summary.host_memory.or(job.tres.memory.map(|m| m as f64))?;
    let memory = summary.memory?;
    let fits = summary.utilization <= SMALL_ACTIVITY
        && memory <= SMALL_MEMORY
        && job.tres.cpus? as f64 <= SMALL_CPUS * gpus
        && host <= SMALL_HOST * gpus;
    (job.elapsed > LONG && whole && told && fits).then_some(memory)
}

/// What it asked for beside its GPUs. Jobs that fill their nodes leave nobody anything.
fn asked(sum: &mut PastUse, job: &Record, hours: f64, machine: &Machine) {
    let nodes = job.tres.nodes.unwrap_or(1).max(1) as f64;
    let gpus = job.gpus() as f64;
    let (own, left) = (gpus / nodes, machine.gpus - gpus / nodes);
    let tell = |asked: &mut Asked, beside: f64| {
        asked.jobs += 1;
        asked.gpu_hours += hours * gpus;
        asked.beside_gpu_hours += hours * beside;
    };
    // GPUs of each node whose share of it the job took beside that of its own.
    let taken = |amount: Option<u64>, all: f64| {
        let share = all / machine.gpus;
        let each = amount? as f64 / nodes;
        (share > 0.0).then_some((each, share, (each / share - own).floor().clamp(0.0, left.max(0.0))))
    };
    if let Some((each, share, beside)) = taken(job.tres.cpus, machine.cpus)
        && each > OVER * share * own
        && beside > 0.0
    {
        tell(&mut sum.cpus, beside * nodes);
    }
    let used = job.summary.as_ref().and_then(|s| s.host_memory);
    if let Some((each, share, beside)) = taken(job.tres.memory, machine.memory)
        && used.is_some_and(|used| used < MEMORY_USED * each * nodes)
        && each > share * own
        && beside > 0.0
    {
        tell(&mut sum.memory, beside * nodes);
    }
    let needed = (gpus / machine.gpus).ceil().max(1.0);
    let idle = job.summary.as_ref().is_some_and(|s| s.idle_gpus > 0);
    if nodes > needed && !idle {
        tell(&mut sum.spread, (nodes - needed) * left.max(0.0));
    }
}

fn labels(words: &[String; 4]) -> BTreeMap<String, String> {
    [USER, "slurm/account", "slurm/partition", "slurm/gpu-type"]
        .into_iter()
        .zip(words)
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_string(), value.clone()))
        .collect()
}

fn short(text: &str) -> String {
    harmless(text).chars().take(64).collect()
}

#[cfg(test)]
#[path = "past_tests.rs"]
mod tests;
