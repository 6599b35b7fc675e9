//! Jobs: `squeue --json`, and `scontrol -d -o show job`.

use crate::Listed;
use crate::gres::{self, Gres, Tres};
use crate::hostlist;
use crate::lenient::{Flag, Num, Texts, told};
use crate::text;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// Tasks of one array that wait, counted: Slurm's own limit is 4,000,000.
const MOST_TASKS: u64 = 4_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    Pending,
    /// Nodes are allocated and get ready.
    Configuring,
    Running,
    /// Stopped by somebody; it keeps its GPUs.
    Suspended,
    /// It has ended, and its nodes are not free yet.
    Completing,
    Ended,
    #[default]
    Unknown,
}

/// One job: a task of an array, or a component of a heterogeneous one. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    pub id: u64,
    pub array: Option<u64>,
    pub task: Option<u64>,
    /// Tasks that this entry stands for: 1, but for an array that waits.
    pub tasks: u64,
    /// The first component's id, of a heterogeneous job.
    pub het: Option<u64>,
    pub name: String,
    pub user: String,
    pub account: String,
    pub partitions: Vec<String>,
    pub qos: String,
    pub state: State,
    /// Why it waits, in Slurm's word.
    pub reason: String,
    /// A script; `Some(false)`: somebody sits in front of it (`salloc`, `srun`).
    pub batch: Option<bool>,
    pub submitted_at: Option<i64>,
    pub eligible_at: Option<i64>,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub limit_seconds: Option<u64>,
    /// Where it is, and what it has there.
    pub places: Vec<Place>,
    /// Nodes that it has, or asks for.
    pub nodes: u64,
    /// GPUs of each node, where it waits.
    pub wants: Vec<Gres>,
    /// What it has, or asks for, in all.
    pub tres: Tres,
    /// It asks for features or nodes by name.
    pub constrained: bool,
    /// What it has on its nodes does not match them.
    pub places_unread: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub node: String,
    pub gres: Vec<Gres>,
    pub cpus: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Document<'a> {
    #[serde(borrow)]
    jobs: Option<Vec<&'a RawValue>>,
    last_update: Num,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    job_id: Num,
    array_job_id: Num,
    array_task_id: Num,
    array_task_string: Texts,
    het_job_id: Num,
    name: Texts,
    user_name: Texts,
    user_id: Texts,
    account: Texts,
    partition: Texts,
    qos: Texts,
    job_state: Texts,
    state_reason: Texts,
    batch_flag: Flag,
    submit_time: Num,
    eligible_time: Num,
    start_time: Num,
    end_time: Num,
    /// Minutes.
    time_limit: Num,
    nodes: Texts,
    node_count: Num,
    gres_detail: Option<Vec<Texts>>,
    tres_per_node: Texts,
    tres_per_job: Texts,
    tres_req_str: Texts,
    tres_alloc_str: Texts,
    cpus: Num,
    features: Texts,
    required_nodes: Texts,
    excluded_nodes: Texts,
    job_resources: Resources,
}

/// 22.05 to 23.11: `allocated_nodes`; 24.05 and later: `nodes.allocation`.
#[derive(Default)]
struct Resources(Vec<(String, Option<u64>, Option<u64>)>);

impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let old = value.get("allocated_nodes").and_then(|v| v.as_array());
        let new = value.pointer("/nodes/allocation").and_then(|v| v.as_array());
        let all = old.or(new).map_or(&[][..], Vec::as_slice);
        let number = |v: &serde_json::Value, at: &str| v.pointer(at).and_then(serde_json::Value::as_u64);
        let of = |v: &serde_json::Value| {
            let name = ["nodename", "name"].iter().find_map(|k| v.get(*k)?.as_str())?;
            let memory = number(v, "/memory_allocated").or_else(|| number(v, "/memory/allocated"));
            // MiB.
            let memory = memory.and_then(|m| m.checked_mul(1 << 20));
            Some((name.to_string(), number(v, "/cpus/count"), memory))
        };
        Ok(Self(all.iter().filter_map(of).collect()))
    }
}

/// Jobs of a JSON document.
///
/// # Errors
/// What is no JSON, or no list of jobs, in words for people.
pub fn of_json(text: &str) -> Result<Listed<Job>, String> {
    let document: Document<'_> = serde_json::from_str(text).map_err(|e| format!("it is no JSON of Slurm's: {e}"))?;
    let mut listed = Listed {
        at: document.last_update.time(),
        ..Listed::default()
    };
    let Some(jobs) = document.jobs else {
        return Err("it lists no jobs ('jobs' is missing)".into());
    };
    for raw in jobs {
        match serde_json::from_str::<Raw>(raw.get()).ok().and_then(of_raw) {
            Some(job) => listed.items.push(job),
            None => listed.odd += 1,
        }
    }
    Ok(listed)
}

fn state(words: &[String]) -> State {
    let has = |names: &[&str]| words.iter().any(|w| names.contains(&w.as_str()));
    if has(&["COMPLETING"]) {
        State::Completing
    } else if has(&["CONFIGURING", "POWER_UP_NODE"]) {
        State::Configuring
    } else if has(&["SUSPENDED", "STOPPED"]) {
        State::Suspended
    } else if has(&["RUNNING", "SIGNALING", "STAGE_OUT", "RESIZING"]) {
        State::Running
    } else if has(&[
        "PENDING",
        "REQUEUED",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
    ]) {
        State::Pending
    } else if has(&[
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "BOOT_FAIL",
        "DEADLINE",
        "OUT_OF_MEMORY",
        "REVOKED",
    ]) {
        State::Ended
    } else {
        State::Unknown
    }
}

fn of_raw(raw: Raw) -> Option<Job> {
    let id = raw.job_id.positive()?;
    let array = raw.array_job_id.positive();
    let waiting = raw.array_task_string.text();
    let allocated = raw.tres_alloc_str.text();
    let mut job = Job {
        id,
        array,
        task: raw.array_task_id.0.filter(|_| array.is_some() && waiting.is_empty()),
        tasks: tasks(waiting),
        het: raw.het_job_id.positive(),
        name: raw.name.text().to_string(),
        user: [raw.user_name.text(), raw.user_id.text()]
            .into_iter()
            .find(|u| !u.is_empty())
            .unwrap_or_default()
            .to_string(),
        account: raw.account.text().to_string(),
        partitions: raw.partition.list(),
        qos: raw.qos.text().to_string(),
        state: state(&raw.job_state.words()),
        reason: raw.state_reason.text().to_string(),
        batch: raw.batch_flag.0,
        submitted_at: raw.submit_time.time(),
        eligible_at: raw.eligible_time.time(),
        started_at: raw.start_time.time(),
        ended_at: raw.end_time.time(),
        limit_seconds: raw.time_limit.positive().and_then(|m| m.checked_mul(60)),
        nodes: raw.node_count.positive().unwrap_or(1),
        tres: gres::tres(if allocated.is_empty() {
            raw.tres_req_str.text()
        } else {
            allocated
        }),
        constrained: [&raw.features, &raw.required_nodes, &raw.excluded_nodes]
            .iter()
            .any(|t| !t.text().is_empty()),
        ..Job::default()
    };
    job.wants = wants(&[raw.tres_per_node.text(), raw.tres_per_job.text()], &job);
    let details: Vec<String> = raw.gres_detail.into_iter().flatten().map(|t| t.0.join(",")).collect();
    let cpus = raw.cpus.positive();
    place(&mut job, raw.nodes.text(), &details, cpus, &raw.job_resources.0);
    Some(job)
}

/// GPUs a node that a job waits for: as it says, else its total in equal parts.
fn wants(asked: &[&str], job: &Job) -> Vec<Gres> {
    let [of_node, of_job] = asked else { return Vec::new() };
    let of_node = gres::parse(of_node).unwrap_or_default();
    if of_node.iter().any(|g| g.is_gpu() || g.is_shard()) {
        return of_node;
    }
    let kind = gres::parse(of_job)
        .unwrap_or_default()
        .into_iter()
        .find(Gres::is_gpu)
        .and_then(|g| g.kind)
        .or_else(|| job.tres.kind.clone());
    let count = job.tres.gpus.unwrap_or(0).div_ceil(job.nodes.max(1));
    let gpu = Gres {
        name: "gpu".into(),
        kind,
        count,
        indices: None,
    };
    if count > 0 { vec![gpu] } else { Vec::new() }
}

/// "1-5%2", "0,3,7-9": how many.
fn tasks(text: &str) -> u64 {
    let text = text.split('%').next().unwrap_or_default();
    let count = |part: &str| {
        let part = part.split(':').next().unwrap_or(part);
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    let sum = text.split(',').filter_map(count).fold(0, u64::saturating_add);
    sum.clamp(1, MOST_TASKS)
}

/// Lays what it has beside its nodes: one entry of `details` a node, in the nodes' order.
fn place(
    job: &mut Job,
    nodes: &str,
    details: &[String],
    cpus: Option<u64>,
    resources: &[(String, Option<u64>, Option<u64>)],
) {
    if matches!(job.state, State::Pending | State::Ended) {
        return;
    }
    let Some(names) = hostlist::expand(nodes) else {
        job.places_unread = true;
        return;
    };
    let read: Vec<Option<Vec<Gres>>> = details.iter().map(|d| gres::parse(d)).collect();
    // A job without GPUs has no details; details that do not match the nodes are of no node.
    job.places_unread = !details.is_empty() && details.len() != names.len() || read.iter().any(Option::is_none);
    let count = names.len().max(1) as u64;
    let each = |total: Option<u64>| total.map(|t| t.div_ceil(count));
    for (at, node) in names.into_iter().enumerate() {
        let own = resources.iter().find(|(name, ..)| *name == node);
        let gres = if job.places_unread {
            Vec::new()
        } else {
            read.get(at).cloned().flatten().unwrap_or_default()
        };
        job.places.push(Place {
            node,
            gres,
            cpus: own
                .and_then(|(_, cpus, _)| *cpus)
                .or_else(|| each(cpus.or(job.tres.cpus))),
            memory: own.and_then(|(_, _, memory)| *memory).or_else(|| each(job.tres.memory)),
        });
    }
}

/// Jobs of `scontrol -d -o show job`. `zone`: where local times were written.
pub fn of_text(text: &str, zone: &TimeZone) -> Listed<Job> {
    let mut listed = Listed::default();
    for line in text
        .lines()
        .filter(|l| !l.trim().is_empty() && !l.starts_with("No jobs"))
    {
        match of_line(line, zone) {
            Some(job) => listed.items.push(job),
            None => listed.odd += 1,
        }
    }
    listed
}

/// Keys of each node's part, which may stand several times.
const OF_NODES: [&str; 4] = ["Nodes", "CPU_IDs", "Mem", "GRES"];

fn of_line(line: &str, zone: &TimeZone) -> Option<Job> {
    let pairs = text::pairs(line);
    // A name, a comment or a path that looks like a key is somebody's trick, or cannot be told from one.
    let mut seen = BTreeSet::new();
    if !pairs.iter().all(|(k, _)| OF_NODES.contains(k) || seen.insert(*k)) {
        return None;
    }
    let get = |key: &str| pairs.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| told(v));
    let number = |key: &str| get(key).parse::<u64>().ok();
    let time = |key: &str| text::time(get(key), zone);
    let id = number("JobId").filter(|n| *n > 0)?;
    let array = number("ArrayJobId").filter(|n| *n > 0);
    let task = get("ArrayTaskId");
    let mut job = Job {
        id,
        array,
        task: task.parse().ok().filter(|_| array.is_some()),
        tasks: if task.parse::<u64>().is_ok() { 1 } else { tasks(task) },
        het: number("HetJobId").or(number("PackJobId")).filter(|n| *n > 0),
        name: get("JobName").to_string(),
        user: get("UserId").split('(').next().unwrap_or_default().to_string(),
        account: get("Account").to_string(),
        partitions: Texts(vec![get("Partition").to_string()]).list(),
        qos: get("QOS").to_string(),
        state: state(&Texts(vec![get("JobState").to_string()]).words()),
        reason: get("Reason").to_string(),
        batch: number("BatchFlag").map(|n| n != 0),
        submitted_at: time("SubmitTime"),
        eligible_at: time("EligibleTime"),
        started_at: time("StartTime"),
        ended_at: time("EndTime"),
        limit_seconds: text::span(get("TimeLimit")),
        nodes: get("NumNodes")
            .split('-')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(1),
        tres: gres::tres(
            [get("TRES"), get("AllocTRES"), get("ReqTRES")]
                .into_iter()
                .find(|t| !t.is_empty())
                .unwrap_or(""),
        ),
        constrained: [get("Features"), get("ReqNodeList"), get("ExcNodeList")]
            .iter()
            .any(|t| !t.is_empty()),
        ..Job::default()
    };
    job.wants = wants(&[get("TresPerNode"), get("TresPerJob")], &job);
    let (names, details) = places(&pairs)?;
    if details.iter().any(|d| !d.gres.is_empty()) {
        job.places = details;
    } else {
        place(&mut job, get("NodeList"), &[], number("NumCPUs"), &[]);
        job.places_unread |= names > 0 && job.tres.gpus.is_some_and(|g| g > 0);
    }
    Some(job)
}

/// The `Nodes=… CPU_IDs=… Mem=… GRES=…` groups: how many, and each node's.
fn places(pairs: &[(&str, String)]) -> Option<(usize, Vec<Place>)> {
    let mut all: Vec<Place> = Vec::new();
    let (mut nodes, mut groups): (Vec<String>, usize) = (Vec::new(), 0);
    let (mut cpus, mut memory) = (None, None);
    // Only behind JOB_GRES are these keys the nodes' own.
    let from = pairs.iter().position(|(k, _)| *k == "JOB_GRES").unwrap_or(0);
    for (key, value) in &pairs[from..] {
        match *key {
            "Nodes" => {
                nodes = hostlist::expand(value)?;
                groups += 1;
            }
            "CPU_IDs" => cpus = gres::index_set(value).map(|s| s.len() as u64),
            "Mem" => memory = value.parse::<u64>().ok().and_then(|m| m.checked_mul(1 << 20)),
            "GRES" => {
                let gres = gres::parse(value)?;
                all.extend(nodes.drain(..).map(|node| Place {
                    node,
                    gres: gres.clone(),
                    cpus,
                    memory,
                }));
            }
            _ => {}
        }
    }
    Some((groups, all))
}
