//! `gpuwaste ls`: what there is, before anything is judged of it: cluster > node > GPU > pod, and workload by workload.

use super::RenderOptions;
use super::columns::{Column, column, table};
use super::document::{ReportNode, ReportWorkload, SCHEMA, Tool};
use super::rows::cluster_name;
use super::terminal::{Paint, cut};
use super::text::{self, plain};
use super::totals;
use crate::fleet::{Fleet, Node, Slot};
use crate::report::document::Report;
use crate::units::UsdPerHour;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use std::io::{self, Write};

/// Everything that was seen. `null` is not known, never 0.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Inventory {
    pub schema: u32,
    pub tool: Tool,
    #[schemars(with = "String")]
    pub taken_at: Timestamp,
    pub clusters: Vec<InventoryCluster>,
    pub workloads: Vec<ReportWorkload>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct InventoryCluster {
    pub name: Option<String>,
    pub nodes: Vec<InventoryNode>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct InventoryNode {
    #[serde(flatten)]
    pub node: ReportNode,
    /// GPUs, MIG instances and parts.
    pub slots: Vec<InventorySlot>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct InventorySlot {
    /// UUID, else "slot-0".
    pub gpu: String,
    pub model: Option<String>,
    pub mig_profile: Option<String>,
    pub state: String,
    pub usd_per_hour: Option<UsdPerHour>,
    /// Several where the GPU is shared.
    pub pods: Vec<InventoryPod>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct InventoryPod {
    pub namespace: String,
    pub name: String,
    /// "Deployment ml/chat"; `null`: nobody owns it.
    pub workload: Option<String>,
}

/// The fleet as it was joined; workloads with what the report knows of them.
pub fn of(fleet: &Fleet, report: &Report) -> Inventory {
    let clusters = (0..fleet.clusters.len())
        .map(|at| {
            let mut nodes: Vec<InventoryNode> = fleet
                .nodes
                .iter()
                .filter(|n| n.cluster == at)
                .map(|n| node(fleet, n))
                .collect();
            nodes.sort_by(|a, b| a.node.name.cmp(&b.node.name));
            InventoryCluster {
                name: cluster_name(fleet, at),
                nodes,
            }
        })
        .collect();
    Inventory {
        schema: SCHEMA,
        tool: report.tool.clone(),
        taken_at: report.taken_at,
        clusters,
        workloads: report.workloads.clone(),
    }
}

fn node(fleet: &Fleet, node: &Node) -> InventoryNode {
    let slot = |slot: &Slot, model: &str| InventorySlot {
        gpu: slot.name.clone(),
        model: Some(model.to_owned()).filter(|m| !m.is_empty() && m != "unknown"),
        mig_profile: slot.mig_profile.clone(),
        state: slot.state.name().to_owned(),
        usd_per_hour: slot.price,
        pods: slot
            .holders
            .iter()
            .map(|&p| {
                let pod = fleet.pod(p);
                let workload = pod.workload.map(|w| fleet.workload(w));
                InventoryPod {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                    workload: workload.map(|w| format!("{} {}/{}", w.kind, w.namespace, w.name)),
                }
            })
            .collect(),
    };
    InventoryNode {
        node: super::rows::node_row(fleet, node),
        slots: node
            .slot_ids()
            .map(|id| slot(fleet.slot(id), fleet.gpu_name(id)))
            .collect(),
    }
}

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Workloads,
    Nodes,
    Gpus,
    Tree,
}

const WORKLOADS: [Column; 11] = [
    column("workload", false, 18, 0),
    column("model", false, 14, 0),
    column("engine", false, 6, 110),
    column("GPUs", false, 14, 0),
    column("fits", false, 5, 0),
    column("activity", false, 8, 0),
    column("req/s", true, 5, 140),
    column("$/h", true, 5, 0),
    column("$/1M out", true, 8, 130),
    column("age", true, 4, 96),
    column("owner", false, 6, 150),
];

/// Of manifests: nothing runs yet.
const WRITTEN: [Column; 8] = [
    column("workload", false, 16, 0),
    column("engine", false, 6, 0),
    column("model", false, 14, 0),
    column("parallel", false, 8, 90),
    column("GPUs", false, 14, 0),
    column("fits", false, 4, 0),
    column("KV tokens", true, 9, 0),
    column("$/month", true, 7, 0),
];
/// Workloads of manifests that are listed; the JSON has all.
const MOST_WRITTEN: usize = 20;

const NODES: [Column; 8] = [
    column("node", false, 20, 0),
    column("pool", false, 8, 0),
    column("type", false, 10, 110),
    column("region", false, 9, 140),
    column("capacity", false, 9, 140),
    column("GPUs", false, 14, 0),
    column("$/h", true, 6, 0),
    column("states", false, 12, 0),
];

const GPUS: [Column; 6] = [
    column("node", false, 20, 0),
    column("GPU", false, 14, 0),
    column("model", false, 10, 0),
    column("state", false, 9, 0),
    column("$/h", true, 6, 0),
    column("pods", false, 20, 0),
];

fn usd(value: Option<UsdPerHour>) -> String {
    text::known_amount(value)
}

/// "3 d", "5 h".
fn age(taken_at: Timestamp, created: Option<Timestamp>) -> String {
    let Some(created) = created else { return "–".into() };
    let seconds = taken_at.duration_since(created).as_secs().max(0);
    match seconds {
        0..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// "2 × 4 H100-SXM5-80GB": replicas, GPUs of each.
fn held(w: &ReportWorkload) -> String {
    if w.gpu.is_none() && w.gpus_per_replica.is_none() {
        // Nothing of it was placed yet.
        return "–".into();
    }
    let gpu = w.gpu.as_deref().unwrap_or("?");
    let each = w.gpus_per_replica.map_or_else(|| "?".to_owned(), |n| n.to_string());
    match w.replicas {
        Some(1) => format!("{each} {gpu}"),
        Some(n) => format!("{n} × {each} {gpu}"),
        None => format!("? × {each} {gpu}"),
    }
}

fn fits(w: &ReportWorkload) -> &str {
    match w.fits.as_deref() {
        Some("does-not-fit") => "no",
        Some("fits") => "yes",
        Some(other) => other,
        None => "–",
    }
}

fn workload_cells(taken_at: Timestamp, w: &ReportWorkload) -> Vec<String> {
    let model = w.model.as_deref().map(|m| m.rsplit('/').next().unwrap_or(m));
    let requests = w
        .observed
        .requests_per_second
        .as_ref()
        .and_then(|f| f.p95.or(f.max).or(f.p50));
    vec![
        format!("{}/{}", w.namespace, w.name),
        model
            .unwrap_or(if w.class == "server" { "?" } else { &w.class })
            .to_owned(),
        w.engine.clone().unwrap_or_else(|| "–".into()),
        held(w),
        fits(w).into(),
        w.state.clone(),
        requests.map_or_else(|| "–".into(), |r| format!("{r:.1}")),
        usd(w.usd_per_hour),
        text::per_million(w.unit_costs.usd_per_million_output_tokens),
        age(taken_at, w.created_at),
        w.owner.clone().unwrap_or_else(|| "–".into()),
    ]
}

fn states(node: &ReportNode) -> String {
    let all = node.states.iter().filter(|(_, n)| **n > 0.0);
    let told: Vec<String> = all.map(|(s, n)| format!("{} {s}", text::count(*n))).collect();
    told.join(", ")
}

fn node_cells(n: &ReportNode) -> Vec<String> {
    let or = |v: Option<&String>| v.cloned().unwrap_or_else(|| "–".into());
    vec![
        n.name.clone(),
        or(n.pool.as_ref()),
        or(n.instance_type.as_ref()),
        or(n.region.as_ref()),
        or(n.capacity_type.as_ref()),
        format!("{} {}", n.gpus, n.gpu.as_deref().unwrap_or("?")),
        usd(n.price.usd_per_hour),
        states(n),
    ]
}

fn gpu_cells(node: &ReportNode, s: &InventorySlot) -> Vec<String> {
    let pods: Vec<String> = s.pods.iter().map(|p| format!("{}/{}", p.namespace, p.name)).collect();
    let model = s.model.as_deref().unwrap_or("?");
    vec![
        node.name.clone(),
        s.gpu.clone(),
        s.mig_profile
            .as_ref()
            .map_or_else(|| model.to_owned(), |p| format!("{model} {p}")),
        s.state.clone(),
        usd(s.usd_per_hour),
        if pods.is_empty() { "–".into() } else { pods.join(", ") },
    ]
}

pub fn render(inventory: &Inventory, level: Level, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let nodes = || inventory.clusters.iter().flat_map(|c| &c.nodes);
    match level {
        Level::Workloads => workloads(inventory.taken_at, &inventory.workloads, options, out),
        Level::Nodes => {
            let rows: Vec<Vec<String>> = nodes().map(|n| node_cells(&n.node)).collect();
            table(&NODES, &rows, options, out)
        }
        Level::Gpus => {
            let rows: Vec<Vec<String>> = nodes()
                .flat_map(|n| n.slots.iter().map(|s| gpu_cells(&n.node, s)))
                .collect();
            table(&GPUS, &rows, options, out)
        }
        Level::Tree => tree(inventory, options, out),
    }
}

/// The dearest first; what has no price last.
pub(super) fn workloads(
    taken_at: Timestamp,
    workloads: &[ReportWorkload],
    options: &RenderOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut all: Vec<&ReportWorkload> = workloads.iter().collect();
    all.sort_by(|a, b| {
        b.usd_per_hour
            .cmp(&a.usd_per_hour)
            .then_with(|| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)))
    });
    let rows: Vec<Vec<String>> = all.iter().map(|w| workload_cells(taken_at, w)).collect();
    table(&WORKLOADS, &rows, options, out)
}

/// What each manifest would run: a line a workload.
pub(super) fn written(all: &[ReportWorkload], options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut sorted: Vec<&ReportWorkload> = all.iter().collect();
    sorted.sort_by(|a, b| {
        b.usd_per_hour
            .cmp(&a.usd_per_hour)
            .then_with(|| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)))
    });
    let rows: Vec<Vec<String>> = sorted
        .iter()
        .take(options.top.unwrap_or(MOST_WRITTEN))
        .map(|w| written_cells(w))
        .collect();
    table(&WRITTEN, &rows, options, out)?;
    if sorted.len() > rows.len() {
        writeln!(out, "… {} more: --top {}", sorted.len() - rows.len(), sorted.len())?;
    }
    Ok(())
}

fn written_cells(w: &ReportWorkload) -> Vec<String> {
    let model = w.model.as_deref().map(|m| m.rsplit('/').next().unwrap_or(m));
    let spread = [
        ("TP", w.tensor_parallel),
        ("PP", w.pipeline_parallel),
        ("DP", w.data_parallel),
    ];
    let spread: Vec<String> = spread
        .iter()
        .filter_map(|(n, v)| v.map(|v| format!("{n}{v}")))
        .collect();
    vec![
        format!("{}/{}", w.namespace, w.name),
        w.engine.clone().unwrap_or_else(|| "–".into()),
        model.unwrap_or("–").to_owned(),
        if spread.is_empty() {
            "–".into()
        } else {
            spread.join(" ")
        },
        held(w),
        fits(w).into(),
        w.kv_capacity_tokens
            .map_or_else(|| "–".into(), |n| text::figure(n as f64)),
        w.usd_per_hour.map_or_else(|| "–".into(), text::monthly),
    ]
}

fn tree(inventory: &Inventory, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let paint = Paint(options.color);
    for cluster in &inventory.clusters {
        let gpus: f64 = cluster.nodes.iter().flat_map(|n| n.node.states.values()).sum();
        let price = totals::any_known(cluster.nodes.iter().map(|n| n.node.price.usd_per_hour));
        let line = format!(
            "{}  {}, {}, {}",
            plain(cluster.name.as_deref().unwrap_or("(cluster)")),
            text::plural(cluster.nodes.len() as u64, "node"),
            text::gpus(gpus),
            text::known(price)
        );
        writeln!(out, "{}", paint.bold(&cut(&line, options.width)))?;
        for (i, n) in cluster.nodes.iter().enumerate() {
            let last = i + 1 == cluster.nodes.len();
            let line = format!(
                "{} {}  {} {}, {}: {}",
                if last { "└" } else { "├" },
                n.node.name,
                n.node.gpus,
                n.node.gpu.as_deref().unwrap_or("?"),
                text::known(n.node.price.usd_per_hour),
                states(&n.node)
            );
            writeln!(out, "{}", cut(&plain(&line), options.width))?;
            let stem = if last { " " } else { "│" };
            for (j, s) in n.slots.iter().enumerate() {
                let branch = if j + 1 == n.slots.len() { "└" } else { "├" };
                let cells = gpu_cells(&n.node, s);
                let line = format!("{stem} {branch} {:<9} {}  {}", cells[3], cells[1], cells[5]);
                writeln!(out, "{}", cut(&plain(&line), options.width))?;
            }
        }
    }
    Ok(())
}

/// A header of its own, a row a workload, node or GPU.
pub fn csv(inventory: &Inventory, level: Level, out: &mut dyn Write) -> io::Result<()> {
    let nodes = || {
        inventory
            .clusters
            .iter()
            .flat_map(|c| c.nodes.iter().map(move |n| (c.name.clone(), n)))
    };
    let (head, rows): (Vec<&str>, Vec<Vec<String>>) = match level {
        Level::Workloads => (
            vec![
                "cluster",
                "kind",
                "namespace",
                "name",
                "owner",
                "engine",
                "engine_version",
                "model",
                "gpu",
                "replicas",
                "gpus_per_replica",
                "tensor_parallel",
                "fits",
                "kv_capacity_tokens",
                "state",
                "requests_per_second_p95",
                "usd_per_hour",
                "usd_per_million_output_tokens",
                "created_at",
            ],
            inventory.workloads.iter().map(workload_record).collect(),
        ),
        Level::Nodes => (
            vec![
                "cluster",
                "name",
                "pool",
                "instance_type",
                "region",
                "capacity_type",
                "gpu",
                "gpus",
                "usd_per_hour",
                "price_source",
                "states",
            ],
            nodes().map(|(c, n)| node_record(c, &n.node)).collect(),
        ),
        Level::Gpus | Level::Tree => (
            vec![
                "cluster",
                "node",
                "gpu",
                "model",
                "mig_profile",
                "state",
                "usd_per_hour",
                "pods",
            ],
            nodes()
                .flat_map(|(c, n)| n.slots.iter().map(move |s| slot_record(c.clone(), &n.node, s)))
                .collect(),
        ),
    };
    super::csv::table(&head, rows, out)
}

fn or(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

fn exact(value: Option<UsdPerHour>) -> String {
    value.map(|u| u.usd().to_string()).unwrap_or_default()
}

fn workload_record(w: &ReportWorkload) -> Vec<String> {
    let n = |v: Option<u64>| v.map(|n| n.to_string()).unwrap_or_default();
    let requests = w.observed.requests_per_second.as_ref().and_then(|f| f.p95);
    vec![
        or(w.cluster.as_ref()),
        w.kind.clone(),
        w.namespace.clone(),
        w.name.clone(),
        or(w.owner.as_ref()),
        or(w.engine.as_ref()),
        or(w.engine_version.as_ref()),
        or(w.model.as_ref()),
        or(w.gpu.as_ref()),
        n(w.replicas),
        n(w.gpus_per_replica),
        n(w.tensor_parallel),
        or(w.fits.as_ref()),
        n(w.kv_capacity_tokens),
        w.state.clone(),
        requests.map(|r| r.to_string()).unwrap_or_default(),
        exact(w.usd_per_hour),
        w.unit_costs
            .usd_per_million_output_tokens
            .map(|v| v.to_string())
            .unwrap_or_default(),
        w.created_at.map(|t| t.to_string()).unwrap_or_default(),
    ]
}

fn node_record(cluster: Option<String>, n: &ReportNode) -> Vec<String> {
    vec![
        cluster.unwrap_or_default(),
        n.name.clone(),
        or(n.pool.as_ref()),
        or(n.instance_type.as_ref()),
        or(n.region.as_ref()),
        or(n.capacity_type.as_ref()),
        or(n.gpu.as_ref()),
        n.gpus.to_string(),
        exact(n.price.usd_per_hour),
        n.price.source.clone(),
        states(n),
    ]
}

fn slot_record(cluster: Option<String>, node: &ReportNode, s: &InventorySlot) -> Vec<String> {
    let pods: Vec<String> = s.pods.iter().map(|p| format!("{}/{}", p.namespace, p.name)).collect();
    vec![
        cluster.unwrap_or_default(),
        node.name.clone(),
        s.gpu.clone(),
        or(s.model.as_ref()),
        or(s.mig_profile.as_ref()),
        s.state.clone(),
        exact(s.usd_per_hour),
        pods.join(" "),
    ]
}
