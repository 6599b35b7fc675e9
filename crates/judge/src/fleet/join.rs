//! Snapshot → Fleet: nodes and slots, pods on slots, workloads above pods, states below findings.

use super::bill;
use super::nodes::{self, Around, DraView, Shown, SlotPlan};
use super::{
    ClusterInfo, Fleet, Node, NodeId, Pod, PodId, SlotId, Stuck, StuckReason, WHOLE_GPU, doubt, dra, history, identity,
    observed, past, state, witness, workloads,
};
use crate::catalog::{self, prices::PriceBook};
use crate::engine;
use crate::engine::metrics::plausible;
use crate::settings::Settings;
use crate::snapshot::cluster::{
    ClockOf, Cluster, Condition, Container, ContainerRole, ContainerState, Node as SeenNode, Pod as Seen, PodPhase,
    Resources,
};
use crate::snapshot::gpu::{GpuScrape, each_once};
use crate::snapshot::resources::{self, ResourceKind};
use crate::snapshot::{Gap, Snapshot};
use crate::units::{Bytes, MilliCores};
use gpuwaste_facts::text::plural;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Joins what was seen into what it means. Pure: the same snapshot, prices and settings give the same fleet.
pub fn join(snapshot: &Snapshot, prices: &PriceBook, settings: &Settings) -> Fleet {
    let mut fleet = Fleet {
        taken_at: snapshot.taken_at,
        window_seconds: snapshot.window_seconds,
        looks: if snapshot.observe_seconds.is_some() { 2 } else { 1 },
        models: settings.models.clone(),
        ..Fleet::default()
    };
    let mut used_prices = PricesUsed::default();
    let clusters = identity::once(snapshot, &mut fleet.gaps);
    for cluster in &clusters {
        // A recording may be older than the limits of what can be true.
        let sifted = plausible::sift(cluster).map(|(sifted, gaps)| {
            fleet.gaps.extend(gaps);
            sifted
        });
        let cluster = sifted.as_ref().unwrap_or(cluster);
        join_cluster(&mut fleet, cluster, prices, settings, &mut used_prices);
    }
    used_prices.tell(&mut fleet, prices, settings);
    if let Some(bill) = &prices.bill {
        let told = bill::gaps(&fleet, &clusters, bill);
        fleet.gaps.extend(told);
    }
    witness::attach(&mut fleet, &settings.thresholds);
    state::decide(&mut fleet, settings);
    doubt::attach(&mut fleet, &clusters);
    fleet
}

/// Which of the user's price entries decided about a node.
#[derive(Default)]
struct PricesUsed {
    used: BTreeSet<usize>,
    /// Entries that match nodes, and the earlier ones that took them.
    behind: BTreeMap<usize, BTreeSet<usize>>,
}

impl PricesUsed {
    fn add(&mut self, decides: Option<usize>, behind: &[usize]) {
        let Some(decides) = decides else { return };
        self.used.insert(decides);
        for later in behind {
            self.behind.entry(*later).or_default().insert(decides);
        }
    }

    /// Entries that decided about nothing, each with why.
    fn tell(&self, fleet: &mut Fleet, prices: &PriceBook, settings: &Settings) {
        // Those of --prices stand before the policy's, and each file counts its own.
        let of_flag = |i: &usize| settings.origins.get(&format!("price.{i}"));
        let flagged = (0..prices.entries.len()).filter(|i| of_flag(i).is_some()).count();
        let place = |i: usize| match of_flag(&i) {
            Some(origin) => format!("price entry {} of {origin}", i + 1),
            None => format!("price entry {} of the policy", i + 1 - flagged),
        };
        for (index, entry) in prices.entries.iter().enumerate() {
            if self.used.contains(&index) {
                continue;
            }
            let taken: Vec<String> = self
                .behind
                .get(&index)
                .into_iter()
                .flatten()
                .map(|i| place(*i))
                .collect();
            let (reason, remedy) = if taken.is_empty() {
                (
                    "it matches no node of this fleet".to_string(),
                    "compare its keys with 'nodes' in the JSON report, or remove it",
                )
            } else {
                (
                    format!(
                        "it is never reached: {} stands before it and takes its nodes",
                        taken.join(", ")
                    ),
                    "put it before them, since the first entry that matches wins, or remove it",
                )
            };
            fleet.gaps.push(Gap {
                source: "prices".into(),
                what: format!("{} ({})", place(index), entry.keys()),
                reason,
                effect: "it has no effect".into(),
                remedy: remedy.into(),
            });
        }
    }
}

fn join_cluster(
    fleet: &mut Fleet,
    cluster: &Cluster,
    prices: &PriceBook,
    settings: &Settings,
    used_prices: &mut PricesUsed,
) {
    let index = fleet.clusters.len();
    fleet.clusters.push(ClusterInfo {
        name: cluster.name.clone(),
        key: cluster.uid.clone().unwrap_or_else(|| cluster.name.clone()),
        nodes_known: cluster.nodes.is_some(),
        scheduler: cluster.scheduler,
        metrics_only: cluster.metrics_only,
        pods_known: cluster.pods_read.complete,
        claims_known: cluster.dra.as_ref().is_none_or(|d| d.claims_complete),
        by_class: cluster
            .dra
            .iter()
            .flat_map(|d| d.classes.iter().flatten())
            .filter(|c| c.driver.is_some())
            .flat_map(|c| {
                let own = format!("{BY_CLASS}{}", c.name);
                c.extended_resource.clone().into_iter().chain([own])
            })
            .collect(),
        clock_in_doubt: cluster.clock_ahead_seconds.is_some(),
        read_at: cluster.read_at.unwrap_or(fleet.taken_at),
        store_clock_in_doubt: cluster.clocks.iter().any(|c| c.of == ClockOf::Store),
        scoped: !cluster.pods_read.namespaces.is_empty() || cluster.pods_read.selector.is_some(),
        namespaces: cluster.pods_read.namespaces.clone(),
        selected_only: cluster.pods_read.selector.is_some(),
        autoscalers_known: cluster.autoscalers.is_some(),
        budgets_known: cluster.disruption_budgets.is_some(),
    });
    let mut plans: Vec<SlotPlan> = Vec::new();
    let first_slot = fleet.slots.len();
    let mut by_name: HashMap<&str, NodeId> = HashMap::new();
    let mut unknown: BTreeMap<(String, bool), u32> = BTreeMap::new();
    let published = dra::inventory(cluster, &mut fleet.gaps);
    let taken = dra::allocated(cluster.dra.as_deref());
    let unseen = unseen_nodes(cluster);
    let shown = shown_by_node(cluster);
    let layers = sharing_layers(cluster);
    let clocks: BTreeSet<(ClockOf, Option<&str>, &str)> = cluster
        .clocks
        .iter()
        .filter_map(|c| Some((c.of, c.namespace.as_deref(), c.name.as_deref()?)))
        .collect();
    for seen in cluster.nodes.iter().flatten().chain(&unseen) {
        let around = Around {
            cluster: index,
            cluster_name: &cluster.name,
            at: fleet.taken_at,
            prices,
            stale_days: settings.thresholds.stale_price_days,
            exporter: shown.get(seen.name.as_str()).map_or(&[], Vec::as_slice),
            sharing_layer: layers.contains(seen.name.as_str()),
            unseen: cluster.nodes.is_none(),
            dra: DraView {
                devices: published.get(seen.name.as_str()),
                taken: &taken,
                refused: cluster.dra.as_ref().is_some_and(|d| d.pools.is_none()),
            },
        };
        let mut described = nodes::describe(seen, &around);
        if described.slots.is_empty() {
            continue;
        }
        if let Some(known_by) = &described.node.not_a_machine {
            fleet.gaps.push(Gap {
                source: format!("cluster {}, node {}", cluster.name, seen.name),
                what: format!("its {}", plural(described.node.gpus, "GPU")),
                reason: format!("it is no machine ({known_by}): simulated, another cluster's, or billed by the pod"),
                effect:
                    "they have no price but one that is given (--prices), and nothing of them is called free or idle"
                        .into(),
                remedy: "scan the cluster whose machines they are".into(),
            });
        }
        if let Some(doubt) = described.doubt.take() {
            fleet.gaps.push(Gap {
                source: format!("cluster {}, node {}", cluster.name, seen.name),
                what: doubt.what,
                reason: doubt.reason,
                effect: doubt.effect,
                remedy: doubt.remedy,
            });
        }
        if cluster.nodes.is_none() {
            described.node.unseen = true;
            described.node.price = super::NodePrice::default();
            // The rest of a card of which a pod holds an instance is nobody's that was seen.
            described.slots.retain(|s| s.resource.is_some() || !s.dra.is_empty());
        } else {
            used_prices.add(described.price_entry, &described.price_entries_behind);
            if let Some(name) = described.unknown_gpu {
                *unknown.entry((name, described.node.planned)).or_default() += described.node.gpus;
            }
        }
        let id = NodeId(fleet.nodes.len());
        described.node.clock_in_doubt = clocks.contains(&(ClockOf::Node, None, seen.name.as_str()));
        described.node.holders_unread = cluster.pods_read.unread_on.contains(&seen.name);
        described.node.first_slot = fleet.slots.len();
        described.node.slot_count = described.slots.len();
        fleet
            .slots
            .extend(nodes::slots_of(&described.node, id, &described.slots));
        plans.extend(described.slots);
        by_name.insert(&seen.name, id);
        fleet.nodes.push(described.node);
    }
    for ((name, planned), gpus) in unknown {
        fleet.gaps.push(unknown_gpu(cluster, &name, gpus, planned));
    }
    let first_pod = fleet.pods.len();
    for seen in &cluster.pods {
        let node = seen.node.as_deref().and_then(|n| by_name.get(n).copied());
        let mut pod = pod_of(seen, index, node);
        pod.clock_in_doubt = clocks.contains(&(ClockOf::Pod, Some(seen.namespace.as_str()), seen.name.as_str()));
        if node.is_some_and(|n| fleet.node(n).planned) {
            // What is not there yet waits for nothing.
            pod.stuck = None;
        }
        fleet.pods.push(pod);
        let id = PodId(fleet.pods.len() - 1);
        if let Some(node) = node.filter(|_| seen.holds()) {
            let node = &mut fleet.nodes[node.0];
            let pod = &fleet.pods[id.0];
            node.holders_unread |= pod.unread_devices;
            node.custom_sharing |= resources::NEURON_OTHERWISE.iter().any(|r| pod.devices.contains_key(*r));
            node.pods.push(id);
            node.requested_cpu += pod.cpu;
            node.requested_memory += pod.memory;
        }
    }
    // Claims name their devices; what a device plugin gave is placed around them.
    dra::assign(fleet, cluster, first_pod, first_slot, &plans);
    assign(fleet, cluster, first_pod, first_slot, &plans);
    workloads::build(fleet, cluster, index, first_pod);
    unused(fleet, index);
    observed::attach(fleet, cluster, index, first_pod);
    history::attach(fleet, cluster, index, settings);
    past::attach(fleet, cluster, index);
}

/// Nothing of a node was given to anybody for a day, as its scheduler tells.
fn unused(fleet: &mut Fleet, index: usize) {
    const DAY: f64 = 86_400.0;
    for n in 0..fleet.nodes.len() {
        let node = &fleet.nodes[n];
        let long = |since: Timestamp| fleet.now(index).duration_since(since).as_secs_f64() >= DAY;
        if node.cluster == index && node.unused_since.is_some_and(long) {
            let slots: Vec<SlotId> = node.slot_ids().collect();
            for slot in slots
                .into_iter()
                .filter(|s| !fleet.slot(*s).is_allocated())
                .collect::<Vec<_>>()
            {
                fleet.slots[slot.0].free_for_a_day = true;
            }
        }
    }
}

/// GPUs whose model is not in the catalogue, or that nothing names.
fn unknown_gpu(cluster: &Cluster, name: &str, gpus: u32, planned: bool) -> Gap {
    if planned && (name == nodes::UNNAMED || name.contains('/')) {
        return Gap {
            source: "manifests".into(),
            what: format!("the GPU model of {}", plural(gpus, "GPU")),
            reason: "neither a node selector nor an affinity says which GPU".into(),
            effect: "they have no price, and no model is sized against them".into(),
            remedy: "give --gpu NAME, or select nodes by GPU or instance type".into(),
        };
    }
    let several = catalog::gpus::may_be(name);
    let (reason, remedy) = if several.is_empty() {
        (
            "the catalogue has no such GPU".to_owned(),
            "give its price with --prices; 'gpuwaste catalog gpus' lists the known ones",
        )
    } else {
        (
            format!("that may be {}", several.join(", ")),
            "let an exporter be read that tells which (its page, or --prometheus URL), or give its price with --prices",
        )
    };
    Gap {
        source: format!("cluster {}", cluster.name),
        what: format!("GPU model '{name}' on {}", plural(gpus, "GPU")),
        reason,
        effect: "no list price, and no model is sized against it".into(),
        remedy: remedy.into(),
    }
}

/// Whole devices that exporters show, by node, each once and in the order of their indices.
fn shown_by_node(cluster: &Cluster) -> HashMap<&str, Vec<Shown<'_>>> {
    let mut by_node: HashMap<&str, Vec<&GpuScrape>> = HashMap::new();
    for device in each_once(&cluster.gpus) {
        if device.mig.is_none() && device.uuid.is_some() {
            by_node.entry(&device.node).or_default().push(device);
        }
    }
    by_node
        .into_iter()
        .map(|(node, mut devices)| {
            devices.sort_by_key(|g| (g.index, g.uuid.clone()));
            devices.dedup_by(|a, b| a.uuid == b.uuid);
            (node, devices.into_iter().filter_map(shown_of).collect())
        })
        .collect()
}

fn shown_of(device: &GpuScrape) -> Option<Shown<'_>> {
    Some(Shown {
        uuid: device.uuid.as_deref()?,
        model: device.model.as_deref().filter(|m| !m.is_empty()),
    })
}

/// Nodes with pods that ask for parts of GPUs in a sharing layer's resources.
fn sharing_layers(cluster: &Cluster) -> BTreeSet<&str> {
    let asks = |pod: &&Seen| {
        let mut names = pod
            .containers
            .iter()
            .flat_map(|c| c.requests.devices.keys().chain(c.limits.devices.keys()));
        names.any(|r| {
            let part = matches!(resources::kind(r), ResourceKind::Share | ResourceKind::Amount);
            part && !r.ends_with("_monitoring")
        })
    };
    let holders = cluster.pods.iter().filter(|p| p.holds()).filter(asks);
    holders.filter_map(|p| p.node.as_deref()).collect()
}

/// Where the nodes could not be read (rights of some namespaces only): one for each that visible pods name, with what these
/// hold there. Neither a GPU's kind nor its price nor its sharers are known, but that somebody holds it is.
fn unseen_nodes(cluster: &Cluster) -> Vec<SeenNode> {
    let mut nodes: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    let holders = cluster.pods.iter().filter(|p| cluster.nodes.is_none() && p.holds());
    for pod in holders.filter(|p| !infrastructure(p)) {
        let Some(node) = pod.node.as_deref() else { continue };
        for (resource, count) in pod.requests().devices {
            let all = nodes.entry(node).or_default().entry(resource).or_default();
            *all = all.saturating_add(count);
        }
    }
    nodes
        .into_iter()
        .map(|(name, devices)| SeenNode {
            name: name.into(),
            capacity: Resources {
                devices: devices.clone(),
                ..Resources::default()
            },
            allocatable: Resources {
                devices,
                ..Resources::default()
            },
            ready: Some(Condition {
                status: Some(true),
                ..Condition::default()
            }),
            ..SeenNode::default()
        })
        .collect()
}

/// Exporters, plugins, drivers: they see GPUs and ask for none. What asks for GPUs holds them, whatever its image is called.
fn infrastructure(seen: &Seen) -> bool {
    let is = |c: &Container| c.role == Some(ContainerRole::GpuInfrastructure);
    let asks = |c: &Container| {
        let named = c.requests.devices.iter().filter(|(_, n)| **n > 0).map(|(r, _)| r);
        named.chain(&c.requests.unread).any(|r| resources::is_device(r))
    };
    seen.containers.iter().any(is) && !seen.containers.iter().any(asks)
}

fn pod_of(seen: &Seen, cluster: usize, node: Option<NodeId>) -> Pod {
    let mut requests = seen.requests();
    // A claim provides these, not a device plugin.
    requests
        .devices
        .retain(|name, _| !seen.claimed_resources.contains(name));
    let owner = seen.owner.as_ref();
    let daemon = owner.is_some_and(|o| o.kind == "DaemonSet");
    let device = seen.containers.iter().find(|c| c.has_devices());
    Pod {
        cluster,
        namespace: seen.namespace.clone(),
        name: seen.name.clone(),
        uid: seen.uid.clone(),
        node: node.filter(|_| seen.holds()),
        phase: seen.phase,
        devices: requests.devices,
        foreign_image: seen.containers.iter().find_map(foreign_image),
        cpu: requests.cpu.unwrap_or(MilliCores(0)),
        memory: requests.memory.unwrap_or(Bytes(0)),
        node_bound: daemon || seen.mirror || owner.is_some_and(|o| o.kind == "Node"),
        infrastructure: infrastructure(seen),
        // Its priority lets others have its place; an image that is called "pause" does not.
        placeholder: seen.priority.is_some_and(|p| p < 0),
        reservation: is_reservation(seen),
        stuck: stuck_of(seen),
        ready: seen.ready.clone(),
        scheduled: seen.scheduled.clone(),
        waits_for_gpus: seen.waits_for_gpus,
        placement: seen.placement.clone(),
        created_at: seen.created_at,
        started_at: seen.started_at,
        restarts: seen.containers.iter().map(|c| c.restarts).max().unwrap_or(0),
        ignore: seen.ignore.clone(),
        device_containers: seen.containers.iter().filter(|c| c.has_devices()).count(),
        device_container: device.map(|c| c.name.clone()),
        device_cpu: device.and_then(|c| c.limits.cpu.or(c.requests.cpu)),
        extended: seen
            .containers
            .iter()
            .flat_map(|c| c.requests.extended.iter().chain(&c.limits.extended).cloned())
            .collect(),
        device_request_cpu: device.and_then(|c| c.requests.cpu),
        device_request_memory: device.and_then(|c| c.requests.memory),
        oom_killed_at: device
            .and_then(|c| c.last_exit.as_ref())
            .filter(|e| e.reason.as_deref() == Some("OOMKilled"))
            .and_then(|e| e.finished_at),
        revision: ["pod-template-hash", "rollouts-pod-template-hash"]
            .iter()
            .find_map(|key| seen.labels.get(*key).cloned()),
        claims: !seen.resource_claims.is_empty(),
        selected: seen.labels.contains_key(crate::snapshot::cluster::SELECTED),
        unread: seen.unread,
        gpu_indices: seen.gpu_indices.clone(),
        suspended: seen.suspended,
        step_gpus: seen.step_gpus,
        unread_devices: requests.unread.iter().any(|name| resources::is_device(name)),
        ..Pod::default()
    }
}

/// The image of a container that asks for one vendor's cards and is built for another's.
fn foreign_image(container: &Container) -> Option<(String, &'static str)> {
    const VENDORS: &[(&str, &str)] = &[
        ("nvidia.com/", "nvidia"),
        ("amd.com/", "amd"),
        ("gpu.intel.com/", "intel"),
        ("habana.ai/", "intel"),
    ];
    let image = container.image.as_deref()?;
    let asked = container.requests.devices.iter().filter(|(_, n)| **n > 0);
    let mut vendors = asked.filter_map(|(r, _)| VENDORS.iter().find(|(prefix, _)| r.starts_with(prefix)));
    let (_, vendor) = vendors.next()?;
    let built = engine::built_for(image)?;
    (built != *vendor).then(|| (image.to_string(), built))
}

/// KAI's and run:ai's schedulers hold a GPU by a pod of their own, in a namespace of their own, for pods that share it.
fn is_reservation(seen: &Seen) -> bool {
    matches!(
        seen.namespace.as_str(),
        "kai-resource-reservation" | "runai-reservation"
    )
}

/// Bound and not Ready: why, and since when as far as the API tells.
fn stuck_of(seen: &Seen) -> Option<Stuck> {
    let ready = seen.ready.as_ref().is_some_and(|r| r.status == Some(true));
    let terminating = seen.deleted_at.is_some();
    if !seen.holds() || seen.unread || (ready && !terminating) {
        return None;
    }
    let waiting = |c: &Container| match &c.state {
        Some(ContainerState::Waiting { reason }) => reason.clone(),
        _ => None,
    };
    let words: Vec<String> = seen.containers.iter().filter_map(waiting).collect();
    let has = |names: &[&str]| words.iter().any(|w| names.contains(&w.as_str()));
    let gpu = seen.containers.iter().find(|c| c.has_devices());
    let restarts = seen.containers.iter().map(|c| c.restarts).max().unwrap_or(0);
    // Between two crashes the container runs; a restart long ago is another story.
    let last_ended_badly = gpu.and_then(|c| c.last_exit.as_ref()).is_some_and(|e| {
        e.code != 0
            && matches!(
                &gpu.and_then(|c| c.state.clone()),
                Some(ContainerState::Running { .. } | ContainerState::Terminated(_))
            )
    });
    let init_open = seen.containers.iter().any(|c| {
        c.kind == crate::snapshot::cluster::ContainerKind::Init
            && !matches!(&c.state, Some(ContainerState::Terminated(exit)) if exit.code == 0)
    });
    let reason = if terminating {
        StuckReason::Terminating
    } else if has(&[
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "ErrImageNeverPull",
    ]) {
        StuckReason::ImagePull
    } else if has(&["CrashLoopBackOff"]) || (restarts > 0 && last_ended_badly) {
        StuckReason::CrashLoop
    } else if seen.phase == PodPhase::Unknown || seen.ready.as_ref().is_some_and(|r| r.status.is_none()) {
        StuckReason::NodeLost
    } else if init_open && seen.phase == PodPhase::Pending && !has(&["ContainerCreating"]) {
        StuckReason::Init
    } else if seen.phase == PodPhase::Pending {
        StuckReason::Creating
    } else {
        StuckReason::NotReady
    };
    // Since the pod last was Ready (or began): the Ready condition's own transition, else the pod's start.
    let since = if terminating {
        seen.deleted_at
    } else {
        seen.ready
            .as_ref()
            .and_then(|r| r.since)
            .or(seen.started_at)
            .or(seen.created_at)
    };
    Some(Stuck {
        reason,
        since,
        restarts,
        last_exit: gpu.and_then(|c| c.last_exit.clone()),
        startup_seconds: seen.containers.iter().filter_map(|c| c.startup_seconds).max(),
    })
}

/// Prefix of requests for a device of a named class (Kubernetes 1.34).
const BY_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// Puts pods on slots: where an exporter says, else the emptiest first, in the pods' order. NVIDIA's device plugin spreads
/// the replicas of shared GPUs in the same way (its preferred allocation takes the least shared device), and where pods
/// that left have made it otherwise, a card is rather called held than free.
fn assign(fleet: &mut Fleet, cluster: &Cluster, first_pod: usize, first_slot: usize, plans: &[SlotPlan]) {
    let mut names = name_slots(fleet, cluster, first_slot, plans);
    given(fleet, first_pod, &mut names);
    let mut crowded: BTreeMap<String, u64> = BTreeMap::new();
    let mut guessed: BTreeSet<(NodeId, String)> = BTreeSet::new();
    for index in first_pod..fleet.pods.len() {
        let pod = &fleet.pods[index];
        let Some(node) = pod.node.filter(|_| !pod.infrastructure) else {
            continue;
        };
        let (devices, key) = (pod.devices.clone(), (pod.namespace.clone(), pod.name.clone()));
        let slots: Vec<SlotId> = fleet.nodes[node.0].slot_ids().collect();
        // A class that provides an extended resource is the claims' business, where no plugin advertises it.
        // Amounts of memory or cores are no devices, and network functions no GPUs.
        let devices = devices
            .into_iter()
            .filter(|(name, _)| !name.starts_with(BY_CLASS) && resources::kind(name) == ResourceKind::Device)
            .filter(|(name, _)| !resources::NEURON_OTHERWISE.contains(&name.as_str()));
        for (resource, count) in devices {
            let told = names.get(&key);
            for placed in 0..count {
                let free = |id: &&SlotId| {
                    let plan = &plans[id.0 - first_slot];
                    plan.resource.as_deref() == Some(resource.as_str())
                        && (fleet.slots[id.0].holders.len() as u64) < plan.sharers.max(1)
                };
                // What is no longer handed out stays with the pod that was given it.
                let kept = |id: &&SlotId| {
                    let plan = &plans[id.0 - first_slot];
                    plan.resource.is_none()
                        && plan.dra.is_empty()
                        && plan.weight == WHOLE_GPU
                        && fleet.slots[id.0].holders.is_empty()
                };
                let healthy_first = |id: &&SlotId| {
                    let plan = &plans[id.0 - first_slot];
                    (
                        !told.is_some_and(|t| t.contains(id)),
                        // A device plugin and DRA on the same cards: a claim's device is the claim's.
                        !fleet.slots[id.0].claims.is_empty(),
                        !plan.healthy,
                        fleet.slots[id.0].holders.len(),
                        id.0,
                    )
                };
                let advertised = slots.iter().filter(free).min_by_key(healthy_first);
                let slot = advertised
                    .or_else(|| slots.iter().filter(kept).min_by_key(healthy_first))
                    .copied();
                if let Some(slot) = slot {
                    if !told.is_some_and(|t| t.contains(&slot)) {
                        guessed.insert((node, resource.clone()));
                    }
                    fleet.slots[slot.0].holders.push(PodId(index));
                    if !fleet.pods[index].slots.contains(&slot) {
                        fleet.pods[index].slots.push(slot);
                    }
                } else {
                    let name = format!("{resource} on node {}", fleet.nodes[node.0].name);
                    let over = crowded.entry(name).or_default();
                    *over = over.saturating_add(count - placed);
                    break;
                }
            }
        }
    }
    for (node, resource) in guessed {
        let of_resource = |s: &SlotId| plans[s.0 - first_slot].resource.as_ref() == Some(&resource);
        let same: Vec<SlotId> = fleet.nodes[node.0].slot_ids().filter(of_resource).collect();
        for slot in same.iter().filter(|_| same.len() > 1) {
            fleet.slots[slot.0].guessed = fleet.slots[slot.0].sharers > 1;
        }
    }
    for (what, count) in crowded {
        fleet.gaps.push(Gap {
            source: format!("cluster {}", cluster.name),
            what,
            reason: format!("pods hold {count} more than the node has"),
            effect: "these requests are attributed to no GPU".into(),
            remedy: "the node changed while it was read, or its device plugin restarted: scan again".into(),
        });
    }
    for (offset, plan) in plans.iter().enumerate() {
        if !plan.healthy {
            fleet.slots[first_slot + offset].state = super::SlotState::Unhealthy;
            fleet.slots[first_slot + offset].since = plan.tainted_since;
        }
        if plan.resource.is_none() && plan.dra.is_empty() && plan.mig_profile.is_some() {
            fleet.slots[first_slot + offset].unpartitioned = true;
        }
    }
}

/// Where the scheduler itself says which of a node's GPUs a pod was given, nothing is guessed.
fn given(fleet: &Fleet, first_pod: usize, told: &mut HashMap<(String, String), Vec<SlotId>>) {
    for pod in fleet.pods[first_pod..].iter().filter(|p| !p.gpu_indices.is_empty()) {
        let Some(node) = pod.node else { continue };
        let whole = fleet
            .node(node)
            .slot_ids()
            .filter(|s| fleet.slot(*s).mig_profile.is_none());
        let whole: Vec<SlotId> = whole.collect();
        let slots = pod.gpu_indices.iter().filter_map(|i| whole.get(*i as usize).copied());
        told.insert((pod.namespace.clone(), pod.name.clone()), slots.collect());
    }
}

/// Gives slots the UUIDs that exporters tell, in index order, and remembers which pod the exporter saw on which slot.
fn name_slots(
    fleet: &mut Fleet,
    cluster: &Cluster,
    first_slot: usize,
    plans: &[SlotPlan],
) -> HashMap<(String, String), Vec<SlotId>> {
    let mut told: HashMap<(String, String), Vec<SlotId>> = HashMap::new();
    let first_node = fleet
        .nodes
        .iter()
        .position(|n| n.first_slot >= first_slot && n.cluster + 1 == fleet.clusters.len())
        .unwrap_or(fleet.nodes.len());
    let shown = each_once(&cluster.gpus);
    for node in first_node..fleet.nodes.len() {
        let (name, range) = (fleet.nodes[node].name.clone(), fleet.nodes[node].slot_ids());
        let whole: Vec<SlotId> = range.filter(|s| fleet.slots[s.0].mig_profile.is_none()).collect();
        let mut devices: Vec<_> = shown
            .iter()
            .copied()
            .filter(|g| g.node == name && g.mig.is_none() && g.uuid.is_some())
            .collect();
        devices.sort_by_key(|g| (g.index, g.uuid.clone()));
        devices.dedup_by(|a, b| a.uuid == b.uuid);
        // DRA names its devices itself.
        for slot in whole.iter().filter(|s| plans[s.0 - first_slot].name.is_some()) {
            let own = |g: &&&GpuScrape| g.uuid.as_ref() == Some(&fleet.slots[slot.0].name);
            for holder in devices.iter().find(own).iter().flat_map(|g| &g.holders) {
                told.entry((holder.namespace.clone(), holder.name.clone()))
                    .or_default()
                    .push(*slot);
            }
        }
        let named: BTreeSet<String> = whole
            .iter()
            .filter(|s| plans[s.0 - first_slot].name.is_some())
            .map(|s| fleet.slots[s.0].name.clone())
            .collect();
        devices.retain(|g| !g.uuid.as_ref().is_some_and(|u| named.contains(u)));
        let whole: Vec<SlotId> = whole
            .into_iter()
            .filter(|s| plans[s.0 - first_slot].name.is_none())
            .collect();
        // A device that is lost is in no exporter's list: then those listed are the healthy ones.
        let healthy: Vec<SlotId> = whole
            .iter()
            .copied()
            .filter(|s| plans[s.0 - first_slot].healthy)
            .collect();
        let listed = if devices.len() == whole.len() { whole } else { healthy };
        if devices.len() != listed.len() {
            continue;
        }
        for (slot, device) in listed.iter().zip(devices) {
            if plans[slot.0 - first_slot].name.is_none() {
                fleet.slots[slot.0].name = device.uuid.clone().unwrap_or_default();
            }
            for holder in &device.holders {
                told.entry((holder.namespace.clone(), holder.name.clone()))
                    .or_default()
                    .push(*slot);
            }
        }
    }
    told
}

impl Node {
    /// Ready as far as the node says; a node without the condition is not.
    pub fn is_ready(&self) -> bool {
        self.ready.as_ref().is_some_and(|r| r.status == Some(true))
    }
}
