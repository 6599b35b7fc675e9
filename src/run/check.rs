//! check: manifests through the same fleet, checks and report as what runs.

use super::{output, policy, scan};
use crate::analyze::{self, Context as CheckContext, Outcome, manifest};
use crate::catalog::gpus::{self, GpuFacts};
use crate::catalog::instances;
use crate::catalog::prices::PriceSource;
use crate::cli::CheckArgs;
use crate::collect;
use crate::collect::manifests::{self, Manifests};
use crate::fleet::Fleet;
use crate::judge::{self, Case};
use crate::report::rows::GroupBy;
use crate::snapshot::cluster::{Cluster, Condition, Node, Pod, PodPhase, PodPlacement, PodsRead};
use crate::snapshot::{SCHEMA, Snapshot, SourceStatus};
use crate::units::{Confidence, UsdPerHour};
use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::process::ExitCode;

const SECONDS_PER_DAY: i64 = 86_400;

/// Checks that need nothing but the specification.
const CHECKS: &[&str] = &["cpu-gpu-imbalance", "parallelism-mismatch", "spec-hygiene"];

const INSTANCE_TYPE: &[&str] = &[
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "karpenter.azure.com/sku-name",
];
const PRODUCT: &str = "nvidia.com/gpu.product";
/// Labels by which pods choose a GPU, that describe a node in turn.
const CHOICES: &[&str] = &[
    PRODUCT,
    "nvidia.com/gpu.memory",
    "karpenter.k8s.aws/instance-gpu-memory",
    "eks.amazonaws.com/instance-gpu-memory",
    "cloud.google.com/gke-accelerator",
    "cloud.google.com/gke-gpu-partition-size",
    "gpu.nvidia.com/class",
    "gpu.nvidia.com/model",
    "karpenter.k8s.aws/instance-gpu-name",
    "eks.amazonaws.com/instance-gpu-name",
    "karpenter.azure.com/sku-gpu-name",
    "amd.com/gpu.product-name",
    "k8s.amazonaws.com/accelerator",
    "skypilot.co/accelerator",
    "karpenter.sh/capacity-type",
    "eks.amazonaws.com/capacityType",
    "kubernetes.azure.com/scalesetpriority",
    "cloud.google.com/gke-spot",
    "topology.kubernetes.io/region",
    "karpenter.sh/nodepool",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "agentpool",
];

pub(super) fn check(args: &CheckArgs) -> Result<ExitCode> {
    let outputs = output::parse(&args.report)?;
    let mut settings = policy::settings(&args.report)?;
    // Nothing is measured before it runs, and the price of a GPU known by its name alone is a median: with the defaults of
    // a scan no gate would ever fail.
    settings.gates.confidence.get_or_insert(Confidence::Assumed);
    settings.gates.min_coverage.get_or_insert(0.0);
    let gpu = args.gpu.as_deref().map(known_gpu).transpose()?;
    let known = args.report.baseline.as_deref().map(scan::baseline).transpose()?;
    let group_by: Option<GroupBy> = args.report.group_by.as_deref().and_then(|g| g.parse().ok());
    let read = manifests::read(&args.manifests, |kind| instances::gpu_of_type(kind).map(|(_, n)| n));
    if read.objects == 0 {
        let failed = read.sources.iter().find(|s| s.status == SourceStatus::Failed);
        match failed {
            Some(source) => bail!("{}: {}", source.name, source.detail),
            None => match read.gaps.first() {
                Some(gap) => bail!("{}: {}; {}", gap.source, gap.reason, gap.remedy),
                None => {
                    bail!(
                        "no Kubernetes object was found: name a manifest, or a folder with .yaml, .yml or .json files"
                    )
                }
            },
        }
    }
    let (mut snapshot, types) = snapshot(read, gpu, args.region.as_deref(), today()?);
    if let Some(folder) = &args.report.models {
        let (book, gaps) = collect::models::read(folder)?;
        settings.models = book;
        snapshot.gaps.extend(gaps);
    }
    let mut fleet = judge::join(&snapshot, &settings);
    settle(&mut fleet, &types);
    drop_unasked(&mut fleet);
    let context = CheckContext::new(&fleet, &settings);
    let wanted = |id: &str| scan::wanted(id, &args.report, &settings);
    let mut outcomes = analyze::run(&context, |id| CHECKS.contains(&id) && wanted(id));
    let expected = manifest::Expected {
        context_tokens: args.context_tokens,
        concurrency: args.concurrency,
    };
    for (id, outcome) in manifest::sizes(&context, expected) {
        if wanted(id) {
            merge(&mut outcomes, id, outcome);
        }
    }
    let case = Case {
        snapshot: &snapshot,
        fleet: &fleet,
        outcomes: &outcomes,
        settings: &settings,
        group_by: group_by.as_ref(),
        baseline: known.as_ref(),
    };
    scan::conclude(&case, &outputs, &args.report, args.quiet, args.verbose)
}

/// Manifests have no time of their own; prices have an age. The day decides, so that two runs print the same bytes;
/// `SOURCE_DATE_EPOCH` (reproducible-builds.org) sets it.
fn today() -> Result<Timestamp> {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().filter(|v| !v.is_empty());
    let seconds = if let Some(text) = given {
        text.trim()
            .parse()
            .map_err(|_| anyhow!("SOURCE_DATE_EPOCH is '{text}': give seconds since 1970, or unset it"))?
    } else {
        let now = Timestamp::now().as_second();
        now - now.rem_euclid(SECONDS_PER_DAY)
    };
    Timestamp::from_second(seconds)
        .map_err(|_| anyhow!("SOURCE_DATE_EPOCH is {seconds}: no calendar has that second; unset it"))
}

fn known_gpu(name: &str) -> Result<&'static str> {
    if let Some(gpu) = gpus::find(name) {
        return Ok(&gpu.name);
    }
    let near = gpus::nearest(name).join(", ");
    bail!(
        "--gpu {name}: no such GPU is in the catalogue{}",
        if near.is_empty() {
            String::new()
        } else {
            format!("; near: {near}")
        }
    )
}

fn merge(outcomes: &mut Vec<(&'static str, Outcome)>, id: &'static str, more: Outcome) {
    match outcomes.iter_mut().find(|(known, _)| *known == id) {
        Some((_, outcome)) => {
            outcome.findings.extend(more.findings);
            outcome.assessed.extend(more.assessed);
            outcome.assessed.sort_unstable();
            outcome.assessed.dedup();
            outcome.not_assessed.extend(more.not_assessed);
        }
        None => outcomes.push((id, more)),
    }
}

/// One node a pod, with just the GPUs it asks for: nothing else of the cluster is known.
fn snapshot(
    read: Manifests,
    gpu: Option<&str>,
    region: Option<&str>,
    at: Timestamp,
) -> (Snapshot, BTreeMap<String, String>) {
    let mut pods = read.pods;
    let mut nodes = Vec::new();
    let mut types = BTreeMap::new();
    for (index, pod) in pods.iter_mut().enumerate() {
        let devices = pod.requests().devices;
        if devices.is_empty() {
            pod.phase = PodPhase::Pending;
            continue;
        }
        let name = format!("for-{}-{index}", pod.name);
        let (mut labels, kind) = chosen(pod);
        if let Some(kind) = kind {
            if let Some((facts, _)) = instances::gpu_of_type(&kind) {
                labels.insert(PRODUCT.into(), facts.name.clone());
            }
            types.insert(name.clone(), kind);
        }
        let named = names_a_gpu(&labels);
        let whole = devices
            .keys()
            .any(|r| r.starts_with("nvidia.com/") || r.starts_with("amd.com/"));
        if let Some(gpu) = gpu.filter(|_| !named && whole) {
            labels.insert(PRODUCT.into(), gpu.into());
        }
        if let Some(region) = region {
            labels
                .entry("topology.kubernetes.io/region".into())
                .or_insert_with(|| region.into());
        }
        let ready = Condition {
            status: Some(true),
            ..Condition::default()
        };
        let mut node = Node {
            name: name.clone(),
            labels,
            ready: Some(ready.clone()),
            ..Node::default()
        };
        node.capacity.devices.clone_from(&devices);
        node.allocatable.devices = devices;
        nodes.push(node);
        pod.node = Some(name);
        pod.phase = PodPhase::Running;
        pod.ready = Some(ready);
    }
    let cluster = Cluster {
        name: "manifests".into(),
        nodes: Some(nodes),
        pods,
        pods_read: PodsRead {
            complete: true,
            ..PodsRead::default()
        },
        controllers: read.controllers,
        unread: read.unread,
        ..Cluster::default()
    };
    let snapshot = Snapshot {
        schema: SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        taken_at: at,
        window_seconds: None,
        observe_seconds: None,
        clusters: vec![cluster],
        sources: read.sources,
        gaps: read.gaps,
    };
    (snapshot, types)
}

/// Labels that the pod demands of its node, by selector or by affinity; its instance type apart, where there is one choice.
fn chosen(pod: &Pod) -> (BTreeMap<String, String>, Option<String>) {
    let Some(placement) = &pod.placement else {
        return (BTreeMap::new(), None);
    };
    let all = demanded(placement);
    let only = |key: &str| match all.get(key).map(Vec::as_slice) {
        Some([one]) => Some((*one).to_string()),
        _ => None,
    };
    let kind = INSTANCE_TYPE.iter().find_map(|k| only(k));
    let mut labels: BTreeMap<String, String> = CHOICES
        .iter()
        .filter_map(|k| Some(((*k).to_string(), only(k)?)))
        .collect();
    let of_kind = kind.as_deref().and_then(instances::gpu_of_type).map(|(gpu, _)| gpu);
    if of_kind.is_none() && !names_a_gpu(&labels) {
        let mut tolerated = placement.tolerations.iter().filter_map(|t| t.value.as_deref());
        // A toleration only lets the pod onto such nodes: what selects comes first.
        let gpu = all
            .values()
            .find_map(|values| one_gpu(values))
            .or_else(|| kind.as_deref().and_then(in_words))
            .or_else(|| tolerated.find_map(gpus::find));
        if let Some(gpu) = gpu {
            labels.insert(PRODUCT.into(), gpu.name.clone());
        }
    }
    (labels, kind)
}

/// Values that a node may have by key; a key counts only where every affinity term speaks of it.
fn demanded(placement: &PodPlacement) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = placement
        .node_selector
        .iter()
        .map(|(k, v)| (k.as_str(), vec![v.as_str()]))
        .collect();
    let terms = &placement.affinity_terms;
    for expression in terms.iter().flatten().filter(|e| e.operator == "In") {
        let key = expression.key.as_str();
        let everywhere = terms
            .iter()
            .all(|t| t.iter().any(|e| e.operator == "In" && e.key == key));
        if everywhere && !placement.node_selector.contains_key(key) {
            let values = all.entry(key).or_default();
            values.extend(expression.values.iter().map(String::as_str));
            values.sort_unstable();
            values.dedup();
        }
    }
    all
}

/// The GPU that all values lead to, as names of GPUs or of instances.
fn one_gpu(values: &[&str]) -> Option<&'static GpuFacts> {
    // Some clouds call an instance "a100", which of its two GPUs it does not say.
    let kind = |value: &str| instances::gpu_of_type(value).filter(|_| value.contains(['.', '_', '-']));
    let of = |value: &str| gpus::find(value).or_else(|| kind(value).map(|(gpu, _)| gpu));
    let first = of(values.first()?)?;
    values
        .iter()
        .all(|v| of(v).is_some_and(|g| g.name == first.name))
        .then_some(first)
}

/// The GPU in an instance type that the catalogue lacks: "gd-8xh200ib-i128", "gpu-h100x8", "8xL40S.224V".
fn in_words(kind: &str) -> Option<&'static GpuFacts> {
    let lower = kind.to_ascii_lowercase();
    lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .flat_map(|word| word.split('x'))
        .map(|word| word.strip_suffix("ib").unwrap_or(word))
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.len() >= 2)
        .find_map(gpus::find)
}

fn names_a_gpu(labels: &BTreeMap<String, String>) -> bool {
    let memory = [
        "karpenter.k8s.aws/instance-gpu-memory",
        "eks.amazonaws.com/instance-gpu-memory",
    ]
    .iter()
    .find_map(|k| labels.get(*k)?.parse().ok());
    labels.values().any(|v| gpus::find_with_memory(v, memory).is_some())
}

/// The rest of a card of which a pod asks for an instance or a partition: others will have it, nobody pays for it here.
fn drop_unasked(fleet: &mut Fleet) {
    for index in 0..fleet.nodes.len() {
        let slots: Vec<_> = fleet.nodes[index].slot_ids().collect();
        if slots.iter().all(|s| fleet.slots[s.0].is_allocated()) {
            continue;
        }
        for id in &slots {
            let slot = &mut fleet.slots[id.0];
            if !slot.is_allocated() {
                slot.weight = 0;
                slot.price = slot.price.map(|_| UsdPerHour::from_micros(0));
            }
        }
        let price = slots.iter().map(|s| fleet.slots[s.0].price).sum::<Option<UsdPerHour>>();
        fleet.nodes[index].price.usd_per_hour = price;
    }
}

/// The share of an instance's price where the type is named; and gaps in words that fit a manifest.
fn settle(fleet: &mut Fleet, types: &BTreeMap<String, String>) {
    for index in 0..fleet.nodes.len() {
        let node = &mut fleet.nodes[index];
        let Some(kind) = types.get(&node.name) else { continue };
        node.instance_type = Some(kind.clone());
        if node.price.source == PriceSource::User {
            continue;
        }
        let rows: Vec<_> = instances::of_type(kind).filter(|r| !r.is_special_offer()).collect();
        let here = rows
            .iter()
            .find(|r| node.region.as_deref() == Some(r.region.as_str()) && r.on_demand.is_some());
        let main = rows
            .iter()
            .find(|r| instances::main_region(&r.cloud) == Some(r.region.as_str()) && r.on_demand.is_some());
        let Some(row) = here.or(main) else { continue };
        let (Some(usd), Some(gpus)) = (row.on_demand, row.gpus.filter(|n| *n > 0)) else {
            continue;
        };
        if node.gpus > gpus {
            continue;
        }
        let own = usd.split(gpus as usize).into_iter().take(node.gpus as usize).sum();
        node.cloud = Some(row.cloud.clone());
        node.price.usd_per_hour = Some(own);
        node.price.source = if here.is_some() {
            PriceSource::Catalog
        } else {
            PriceSource::RegionGuess
        };
        node.price.as_of = Some(row.as_of.clone());
        let slots: Vec<_> = node.slot_ids().collect();
        let weights: Vec<u64> = slots.iter().map(|s| fleet.slots[s.0].weight).collect();
        for (slot, price) in slots.iter().zip(own.split_by(&weights)) {
            fleet.slots[slot.0].price = Some(price);
        }
    }
    for gap in &mut fleet.gaps {
        if gap.what.contains("no label names it") {
            gap.source = "manifests".into();
            gap.what = gap.what.replace("GPU model 'no label names it' on", "the GPU model of");
            gap.reason = "neither a node selector nor an affinity says which GPU".into();
            gap.effect = "they have no price, and no model is sized against them".into();
            gap.remedy = "give --gpu NAME, or select nodes by GPU or instance type".into();
        }
    }
}
