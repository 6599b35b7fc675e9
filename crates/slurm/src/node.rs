//! Nodes: `scontrol show nodes --json` (23.02 and later), `sinfo --json` (22.05's lists nodes, later ones groups of them), and
//! `scontrol -d -o show node`.

use crate::Listed;
use crate::gres::{self, Gres};
use crate::hostlist;
use crate::lenient::{Num, Texts, told};
use crate::text;
use gpuwaste_facts::text::harmless;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What people type as a reason is kept in short.
const REASON: usize = 160;

/// One node. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// What the host calls itself, as exporters show it; empty: not told.
    pub hostname: String,
    /// Base state and flags: "IDLE", "MIXED", "DRAIN", "NOT_RESPONDING" …
    pub states: Vec<String>,
    pub gres: Vec<Gres>,
    /// What of it is allocated; `None`: not told.
    pub used: Option<Vec<Gres>>,
    pub drained: Vec<Gres>,
    pub cpus: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    pub reason: Option<String>,
    pub reason_at: Option<i64>,
    /// Since when nothing runs there.
    pub last_busy: Option<i64>,
    pub boot_at: Option<i64>,
    pub partitions: Vec<String>,
    pub features: Vec<String>,
    /// Its resources are written in a way that nobody reads.
    pub gres_unread: bool,
    /// Of a group of nodes: what is the group's own is not told of each.
    pub grouped: bool,
}

impl Node {
    pub fn is(&self, state: &str) -> bool {
        self.states.iter().any(|s| s == state)
    }

    /// GPUs, or instances of them.
    pub fn gpus(&self) -> u64 {
        let of = self.gres.iter().filter(|g| g.is_gpu());
        of.map(|g| g.count).fold(0, u64::saturating_add)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Document<'a> {
    #[serde(borrow)]
    nodes: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    sinfo: Option<Vec<&'a RawValue>>,
    last_update: Num,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    name: Texts,
    hostname: Texts,
    state: Texts,
    state_flags: Texts,
    gres: Texts,
    gres_used: Texts,
    gres_drained: Texts,
    cpus: Num,
    effective_cpus: Num,
    /// MiB.
    real_memory: Num,
    reason: Texts,
    reason_changed_at: Num,
    last_busy: Num,
    boot_time: Num,
    partitions: Texts,
    active_features: Texts,
    features: Texts,
    instance_type: Texts,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Group {
    node: State,
    nodes: Members,
    gres: Amounts,
    partition: Named,
    reason: Reason,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct State {
    state: Texts,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Members {
    nodes: Texts,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Amounts {
    total: Texts,
    used: Texts,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    name: Texts,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Reason {
    description: Texts,
    time: Num,
}

/// Nodes of a JSON document.
///
/// # Errors
/// What is no JSON, or no list of nodes, in words for people.
pub fn of_json(text: &str) -> Result<Listed<Node>, String> {
    let document: Document<'_> = serde_json::from_str(text).map_err(|e| format!("it is no JSON of Slurm's: {e}"))?;
    let mut listed = Listed {
        at: document.last_update.time(),
        ..Listed::default()
    };
    match (document.nodes, document.sinfo) {
        (Some(nodes), _) => {
            for raw in nodes {
                match serde_json::from_str::<Raw>(raw.get()).ok().and_then(|r| of_raw(&r)) {
                    Some(node) => listed.items.push(node),
                    None => listed.odd += 1,
                }
            }
        }
        (None, Some(groups)) => {
            for raw in groups {
                match serde_json::from_str::<Group>(raw.get()).ok().and_then(of_group) {
                    Some(nodes) => merge(&mut listed.items, nodes),
                    None => listed.odd += 1,
                }
            }
        }
        (None, None) => return Err("it lists no nodes ('nodes' and 'sinfo' are missing)".into()),
    }
    Ok(listed)
}

fn of_raw(raw: &Raw) -> Option<Node> {
    let name = one_name(raw.name.text())?;
    let mut states = raw.state.words();
    states.extend(raw.state_flags.words());
    let (gres, unread) = read(raw.gres.text());
    let (drained, _) = read(raw.gres_drained.text());
    let told_use = !raw.gres_used.0.is_empty();
    let (used, used_unread) = read(raw.gres_used.text());
    let mut features = raw.active_features.list();
    features.extend(raw.features.list());
    features.extend(raw.instance_type.list());
    Some(Node {
        name,
        hostname: raw.hostname.text().to_string(),
        states,
        gres,
        used: (told_use && !used_unread).then_some(used),
        drained,
        cpus: raw.effective_cpus.positive().or(raw.cpus.positive()),
        memory: raw.real_memory.positive().and_then(|m| m.checked_mul(1 << 20)),
        reason: reason(raw.reason.text()),
        reason_at: raw.reason_changed_at.time(),
        last_busy: raw.last_busy.time(),
        boot_at: raw.boot_time.time(),
        partitions: raw.partitions.list(),
        features,
        gres_unread: unread,
        grouped: false,
    })
}

fn of_group(raw: Group) -> Option<Vec<Node>> {
    let (gres, unread) = read(raw.gres.total.text());
    let states = raw.node.state.words();
    let mut names = Vec::new();
    for list in raw.nodes.nodes.0 {
        names.extend(hostlist::expand(&list)?);
    }
    // What a group of several uses is no node's own.
    let used = match names.len() {
        1 => gres::parse(raw.gres.used.text()).filter(|_| !raw.gres.used.0.is_empty()),
        _ => None,
    };
    let all = names.into_iter().map(|name| Node {
        name,
        states: states.clone(),
        gres: gres.clone(),
        used: used.clone(),
        reason: reason(raw.reason.description.text()),
        reason_at: raw.reason.time.time(),
        partitions: raw.partition.name.list(),
        gres_unread: unread,
        grouped: true,
        ..Node::default()
    });
    Some(all.collect())
}

/// A node stands once in each of its partitions.
fn merge(known: &mut Vec<Node>, more: Vec<Node>) {
    for node in more {
        match known.iter_mut().find(|k| k.name == node.name) {
            Some(same) => {
                same.partitions.extend(node.partitions);
                same.partitions.sort();
                same.partitions.dedup();
            }
            None => known.push(node),
        }
    }
}

/// Nodes of `scontrol -d -o show node`. `zone`: where local times were written.
pub fn of_text(text: &str, zone: &TimeZone) -> Listed<Node> {
    let mut listed = Listed::default();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        match of_line(line, zone) {
            Some(node) => listed.items.push(node),
            None => listed.odd += 1,
        }
    }
    listed
}

fn of_line(line: &str, zone: &TimeZone) -> Option<Node> {
    // What somebody typed stands last, and may look like anything.
    let (line, typed) = match line.split_once(" Reason=") {
        Some((line, typed)) => (line, typed.trim()),
        None => (line, ""),
    };
    let pairs = text::pairs(line);
    let get = |key: &str| pairs.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| told(v));
    let number = |key: &str| get(key).parse::<u64>().ok();
    let list = |key: &str| Texts(vec![get(key).to_string()]).list();
    let (gres, unread) = read(get("Gres"));
    let (drained, _) = read(get("GresDrain"));
    let told_use = pairs.iter().any(|(k, _)| *k == "GresUsed");
    let (used, used_unread) = read(get("GresUsed"));
    // "bad board [root@1796004392]"
    let (words, at) = match typed.rsplit_once('[') {
        Some((words, by)) if by.ends_with(']') => (words, by.trim_end_matches(']').rsplit_once('@').map(|(_, at)| at)),
        _ => (typed, None),
    };
    let mut features = list("ActiveFeatures");
    features.extend(list("InstanceType"));
    Some(Node {
        name: one_name(get("NodeName"))?,
        hostname: get("NodeHostName").to_string(),
        states: Texts(vec![get("State").to_string()]).words(),
        gres,
        used: (told_use && !used_unread).then_some(used),
        drained,
        cpus: number("CPUEfctv").or(number("CPUTot")),
        memory: number("RealMemory").and_then(|m| m.checked_mul(1 << 20)),
        reason: reason(words),
        reason_at: at.and_then(|at| text::time(at, zone)),
        last_busy: text::time(get("LastBusyTime"), zone),
        boot_at: text::time(get("BootTime"), zone),
        partitions: list("Partitions"),
        features,
        gres_unread: unread,
        grouped: false,
    })
}

fn one_name(text: &str) -> Option<String> {
    match hostlist::expand(text)?.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    }
}

fn read(text: &str) -> (Vec<Gres>, bool) {
    match gres::parse(text) {
        Some(all) => (all, false),
        None => (Vec::new(), true),
    }
}

fn reason(text: &str) -> Option<String> {
    let text = gpuwaste_facts::text::without_secrets(&harmless(told(text)));
    let short: String = text.trim().chars().take(REASON).collect();
    (!short.is_empty()).then_some(short)
}
