//! Fixtures of the checks that size, and their guards: a busy fleet of real models on one p5.48xlarge.

use super::tests::{Case, DAY, HOUR, ago, fired, node, now, reading, report, scrape, server, snapshot};
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{
    Autoscaler, Condition, ContainerState, Exit, Node, OwnerRef, Pod, PodPlacement, Resources,
};
use crate::snapshot::engine::{EngineReading, Histogram, ServerIdentity};
use crate::snapshot::history::{Figure, History, LoadHistory};
use crate::units::{Bytes, MilliCores, Tokens};
use jiff::SignedDuration;

const SMALL: &str = "Qwen/Qwen2.5-7B-Instruct";
const LARGE: &str = "meta-llama/Llama-3.1-405B-Instruct";

/// A pod of Deployment `app`, one replica, with this model.
pub(super) fn replica(app: &str, index: usize, gpus: u64, model: &str) -> Pod {
    let mut pod = server(&format!("{app}-5d9c7f6b8-{index:05}"), "n", gpus, 20 * DAY);
    pod.owner = Some(OwnerRef {
        group: "apps".into(),
        kind: "Deployment".into(),
        name: app.into(),
    });
    pod.containers[0].requests.cpu = Some(MilliCores(8000));
    pod.containers[0].requests.memory = Some(Bytes::from_gib(24.0));
    if let Some(settings) = pod.containers[0].server.as_mut() {
        settings.model = Some(model.into());
        settings.engine_version = Some("0.11.0".into());
        settings.max_model_len = Some(8192);
        settings.max_num_seqs = Some(64);
    }
    pod
}

fn histogram(mean: f64, count: f64, bounds: &[f64]) -> Histogram {
    Histogram {
        sum: mean * count,
        count,
        buckets: bounds
            .iter()
            .map(|b| (*b, if *b >= mean { count } else { 0.0 }))
            .collect(),
    }
}

/// `requests` of 600 + 60 tokens since start, half a second each.
pub(super) fn load(requests: f64) -> EngineReading {
    let mut r = reading(requests);
    (r.prompt_tokens, r.output_tokens) = (Some(600.0 * requests), Some(60.0 * requests));
    r.running = Some(1.0);
    r.kv_usage = Some(0.02);
    r.e2e_latency = Some(histogram(0.5, requests, &[0.25, 0.5, 1.0]));
    r.time_to_first_token = Some(histogram(0.05, requests, &[0.04, 0.06]));
    r.inter_token_latency = Some(histogram(0.008, 60.0 * requests, &[0.005, 0.01]));
    r.prompt_length = Some(histogram(600.0, requests, &[500.0, 700.0]));
    r.output_length = Some(histogram(60.0, requests, &[50.0, 70.0]));
    r
}

/// `count` replicas that share `requests` in ten days, told by counters alone.
pub(super) fn served(count: usize, model: &str, requests: f64) -> Snapshot {
    let pods: Vec<Pod> = (0..count).map(|i| replica("app", i, 1, model)).collect();
    let engines = pods
        .iter()
        .map(|p| {
            let mut engine = scrape(p, 10 * DAY, load(requests / count as f64));
            engine.identity = ServerIdentity {
                model_root: Some(model.into()),
                max_model_len: Some(8192),
                ..ServerIdentity::default()
            };
            engine
        })
        .collect();
    let mut snap = snapshot(vec![node("n", 30 * DAY, true)], pods, engines);
    snap.clusters[0].autoscalers = Some(Vec::new());
    snap.clusters[0].disruption_budgets = Some(Vec::new());
    snap
}

fn scaled(mut snap: Snapshot, minimum: u64) -> Snapshot {
    snap.clusters[0].autoscalers = Some(vec![Autoscaler {
        namespace: "ml".into(),
        name: "app".into(),
        target: OwnerRef {
            group: "apps".into(),
            kind: "Deployment".into(),
            name: "app".into(),
        },
        min_replicas: minimum,
        max_replicas: 9,
    }]);
    snap
}

/// Restarting, too seldom to count as stuck yet.
fn failing(model: &str) -> Snapshot {
    let mut pod = replica("big", 0, 8, model);
    pod.ready = Some(Condition {
        status: Some(false),
        since: ago(HOUR / 2),
        reason: None,
    });
    pod.containers[0].state = Some(ContainerState::Waiting {
        reason: Some("CrashLoopBackOff".into()),
    });
    pod.containers[0].restarts = 3;
    pod.containers[0].last_exit = Some(Exit {
        code: 1,
        ..Exit::default()
    });
    snapshot(vec![node("n", 9 * DAY, true)], vec![pod], Vec::new())
}

fn shared_node() -> Node {
    let mut shared = node("n", 9 * DAY, true);
    for (key, value) in [
        ("nvidia.com/gpu.replicas", "4"),
        ("nvidia.com/gpu.sharing-strategy", "time-slicing"),
    ] {
        shared.labels.insert(key.into(), value.into());
    }
    for amounts in [&mut shared.capacity, &mut shared.allocatable] {
        amounts.devices = [("nvidia.com/gpu".to_string(), 4)].into();
    }
    shared.labels.insert("nvidia.com/gpu.count".into(), "1".into());
    shared
}

fn shares(count: u64) -> Snapshot {
    snapshot(vec![shared_node()], vec![replica("a", 0, count, SMALL)], Vec::new())
}

fn utilization(each: f64) -> Snapshot {
    let pods = ["a", "b"].map(|name| {
        let mut pod = replica(name, 0, 1, SMALL);
        if let Some(settings) = pod.containers[0].server.as_mut() {
            settings.gpu_memory_utilization = Some(each);
        }
        pod
    });
    snapshot(vec![shared_node()], pods.to_vec(), Vec::new())
}

fn guest(cores: u64) -> Snapshot {
    let mut pod = replica("spark", 0, 0, SMALL);
    pod.containers[0].requests = Resources {
        cpu: Some(MilliCores(cores * 1000)),
        ..Resources::default()
    };
    pod.containers[0].server = None;
    snapshot(
        vec![node("n", 9 * DAY, true)],
        vec![pod, replica("a", 0, 8, SMALL)],
        Vec::new(),
    )
}

fn killed(hours: i64) -> Snapshot {
    let mut pod = replica("o", 0, 8, SMALL);
    pod.containers[0].restarts = 2;
    pod.containers[0].last_exit = Some(Exit {
        code: 137,
        reason: Some("OOMKilled".into()),
        finished_at: ago(hours * HOUR),
    });
    let engine = scrape(&pod, 2 * DAY, load(1000.0));
    snapshot(vec![node("n", 9 * DAY, true)], vec![pod], vec![engine])
}

/// A week of five-minute bins.
pub(super) fn with_history(mut snap: Snapshot, change: impl FnOnce(&mut LoadHistory)) -> Snapshot {
    let bins = 7.0 * 288.0;
    let flat = |value: f64| {
        Some(Figure {
            mean: Some(value),
            p50: Some(value),
            p95: Some(value),
            p99: Some(value),
            max: Some(value),
            bins: Some(bins),
            coverage: None,
        })
    };
    let mut told = LoadHistory {
        namespace: "ml".into(),
        name: "app".into(),
        first: ago(7 * DAY),
        running: flat(1.0),
        waiting: flat(0.0),
        kv_usage: flat(0.02),
        kv_usage_sum: flat(0.05),
        requests: flat(1.0),
        prompt_tokens: flat(600.0),
        output_tokens: flat(60.0),
        preemptions: flat(0.0),
        requests_total: Some(6e5),
        prompt_tokens_total: Some(3.6e8),
        output_tokens_total: Some(3.6e7),
        preemptions_total: Some(0.0),
        traffic_bins: Some(bins),
        ..LoadHistory::default()
    };
    change(&mut told);
    let pods = snap.clusters[0]
        .pods
        .iter()
        .map(|p| LoadHistory {
            name: p.name.clone(),
            ..told.clone()
        })
        .collect();
    snap.clusters[0].history = Some(Box::new(History {
        store: "test".into(),
        flavour: "prometheus".into(),
        end: now(),
        window_seconds: 7 * 86_400,
        bin_seconds: 300,
        pods,
        workloads: vec![told],
        ..History::default()
    }));
    snap
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        (("oversized-tier", None), served(1, SMALL, 1e5), served(1, SMALL, 2e7)),
        (("over-replicated", None), served(6, SMALL, 1e5), served(6, SMALL, 2e8)),
        (
            ("over-replicated", None),
            scaled(served(6, SMALL, 1e5), 5),
            scaled(served(6, SMALL, 1e5), 6),
        ),
        (
            ("undersized-tier", None),
            failing(LARGE),
            failing("meta-llama/Llama-3.1-70B-Instruct"),
        ),
        (("sharing-mismatch", Some("shares")), shares(2), shares(1)),
        (
            ("sharing-mismatch", Some("memory")),
            utilization(0.51),
            utilization(0.5),
        ),
        (("cpu-pods-on-gpu-node", None), guest(48), guest(47)),
        (("kv-pressure", Some("oom")), killed(23), killed(25)),
    ]
}

fn find<'r>(
    found: &'r crate::report::document::Report,
    check: &str,
) -> Option<&'r crate::report::document::ReportFinding> {
    found.findings.iter().find(|f| f.check == check)
}

/// A10G costs less there than what is named, and its generation was measured; itself it never was.
#[test]
fn no_card_is_named_that_nobody_measured_with_such_a_model() {
    let found = report(&served(6, SMALL, 1e5));
    let tier = find(&found, "oversized-tier").unwrap();
    let named = tier.fix.placement.clone().unwrap();
    assert_eq!(named.gpu, "L40S", "{named:?}");
}

#[test]
fn one_plan_for_replicas_and_tier_with_no_gpu_hour_twice() {
    let found = report(&served(6, SMALL, 1e5));
    let (over, tier) = (
        find(&found, "over-replicated").unwrap(),
        find(&found, "oversized-tier").unwrap(),
    );
    assert_eq!(over.fix.placement, tier.fix.placement, "one joint plan");
    let plan = over.fix.placement.clone().unwrap();
    let stay = u64::from(plan.replicas);
    assert!((2..6).contains(&stay), "{stay}");
    // Dollars by hand: replicas that go are saved whole, those that stay down to the plan's cost.
    let gpu = 55.04 / 8.0;
    let over_usd = over.waste_usd_per_hour.unwrap().usd();
    assert!((over_usd - (6 - stay) as f64 * gpu).abs() < 1e-4, "{over_usd}");
    let cost = plan.usd_per_hour.unwrap().usd();
    let tier_usd = tier.waste_usd_per_hour.unwrap().usd();
    assert!(
        (tier_usd - (stay as f64 * gpu - cost)).abs() < 1e-4,
        "{tier_usd} {cost}"
    );
    assert!(cost > 0.0 && tier.confidence.name() == "estimated");
    let ratio = tier.evidence.iter().find(|e| e.name == "tier_ratio").unwrap();
    assert_eq!(
        ratio.value,
        crate::analyze::finding::EvidenceValue::Number(stay as f64 * gpu / cost)
    );
    // The patch names the container, the node and the replicas.
    let patch = tier.fix.patch.as_deref().unwrap();
    for line in [
        format!("replicas: {stay}"),
        "- name: server".into(),
        "nvidia.com/gpu: \"1\"".into(),
        "nodeSelector:".into(),
    ] {
        assert!(patch.contains(&line), "{line}: {patch}");
    }
}

#[test]
fn what_is_not_known_is_not_sized() {
    let silent = |snap: &Snapshot, check: &str| assert!(!fired(snap).iter().any(|(c, _)| *c == check), "{check}");
    // One replica's counters missing: the load would look smaller than it is.
    let mut part = served(6, SMALL, 1e5);
    part.clusters[0].engines.pop();
    silent(&part, "over-replicated");
    silent(&part, "oversized-tier");
    // Autoscalers unreadable: their minimum is not 0.
    let mut blind = served(6, SMALL, 1e5);
    blind.clusters[0].autoscalers = None;
    silent(&blind, "over-replicated");
    // Less than a day.
    let mut young = served(1, SMALL, 1e5);
    young.clusters[0].engines[0].process_started_at = ago(23 * HOUR);
    silent(&young, "oversized-tier");
    // A model by its name only.
    silent(&served(1, "acme/Secret-7B", 1e5), "oversized-tier");
    // Prefill and decode, adapters without a number.
    for change in [0, 1] {
        let mut snap = served(1, SMALL, 1e5);
        if let Some(s) = snap.clusters[0].pods[0].containers[0].server.as_mut() {
            if change == 0 {
                s.role = Some(crate::snapshot::server::ServerRole::Decode);
            } else {
                s.lora = Some(true);
            }
        }
        silent(&snap, "oversized-tier");
    }
    // Ordinals of a StatefulSet are addressed one by one.
    let mut ordinal = served(6, SMALL, 1e5);
    let cluster = &mut ordinal.clusters[0];
    for (i, (pod, engine)) in cluster.pods.iter_mut().zip(&mut cluster.engines).enumerate() {
        pod.owner = Some(OwnerRef {
            group: "apps".into(),
            kind: "StatefulSet".into(),
            name: "app".into(),
        });
        pod.name = format!("app-{i}");
        engine.pod = format!("app-{i}");
    }
    silent(&ordinal, "over-replicated");
}

#[test]
fn half_of_a_split_server_is_not_sized_whether_or_not_its_role_is_told() {
    let sized = |snap: &Snapshot| fired(snap).iter().any(|(c, _)| *c == "oversized-tier");
    assert!(sized(&served(1, SMALL, 1e5)), "the whole one is");
    // Each request ends after its first token: the other half writes the rest.
    let mut prefill = served(1, SMALL, 1e5);
    for reading in &mut prefill.clusters[0].engines[0].readings {
        reading.output_tokens = reading.requests;
    }
    assert!(!sized(&prefill));
    // A connector that both sends and takes (kv_both), as far as anybody is told.
    let mut connected = served(1, SMALL, 1e5);
    if let Some(settings) = connected.clusters[0].pods[0].containers[0].server.as_mut() {
        settings.kv_transfer = true;
    }
    assert!(!sized(&connected));
}

#[test]
fn a_running_server_that_tells_its_blocks_fits_whatever_the_model_says() {
    // 8 × H100 cannot hold 405B in 16 bits, but here it runs.
    let mut pod = replica("app", 0, 8, LARGE);
    pod.containers[0].server.as_mut().unwrap().tensor_parallel = Some(8);
    let mut engine = scrape(&pod, 10 * DAY, load(1e5));
    engine.identity = ServerIdentity {
        model_root: Some(LARGE.into()),
        kv_capacity: Some(Tokens(100_000)),
        ..ServerIdentity::default()
    };
    let snap = snapshot(vec![node("n", 30 * DAY, true)], vec![pod], vec![engine]);
    let found = report(&snap);
    assert!(
        found
            .findings
            .iter()
            .all(|f| f.check != "undersized-tier" && f.check != "oversized-tier"),
        "{:?}",
        fired(&snap)
    );
    assert!(
        found.gaps.iter().any(|g| g.reason.contains("fit model disagrees")),
        "{:?}",
        found.gaps
    );
}

#[test]
fn what_the_server_loaded_wins_over_the_spec() {
    let told = |root: &str| {
        let mut snap = served(1, SMALL, 1e5);
        snap.clusters[0].engines[0].identity.model_root = Some(root.into());
        snap
    };
    // In no catalogue: then nothing that is known of the spec's model holds.
    let other = told("acme/unheard-of");
    let found = report(&other);
    assert_eq!(found.workloads[0].model.as_deref(), Some("acme/unheard-of"));
    assert!(
        found
            .gaps
            .iter()
            .any(|g| g.reason == format!("the spec names {SMALL}, the server says acme/unheard-of")),
        "{:?}",
        found.gaps
    );
    assert!(!fired(&other).contains(&("oversized-tier", None)));
    assert!(fired(&told(SMALL)).contains(&("oversized-tier", None)));
}

#[test]
fn a_misfit_that_is_stuck_is_told_once() {
    let mut snap = failing(LARGE);
    snap.clusters[0].pods[0].containers[0].restarts = 60;
    snap.clusters[0].pods[0].ready.as_mut().unwrap().since = ago(30 * HOUR);
    let found = report(&snap);
    let stuck = find(&found, "dark-capacity").unwrap();
    assert!(
        stuck.title.contains("does not fit") && stuck.fix.placement.is_some(),
        "{stuck:?}"
    );
    assert!(find(&found, "undersized-tier").is_none());
}

#[test]
fn a_rollouts_surge_is_not_a_replica_too_many() {
    let mut snap = served(6, SMALL, 1e5);
    for (i, pod) in snap.clusters[0].pods.iter_mut().enumerate() {
        let hash = if i < 4 { "old" } else { "new" };
        pod.labels.insert("pod-template-hash".into(), hash.into());
        pod.created_at = Some(now() - SignedDuration::from_secs(if i < 4 { 20 * DAY } else { 2 * HOUR }));
    }
    assert!(
        !fired(&snap).iter().any(|(c, _)| *c == "over-replicated"),
        "{:?}",
        fired(&snap)
    );
}

#[test]
fn a_selector_that_pins_the_old_tier_goes_and_affinity_forbids_a_patch() {
    let pinned = |placement: PodPlacement| {
        let mut snap = served(1, SMALL, 1e5);
        snap.clusters[0].pods[0].placement = Some(placement);
        let found = report(&snap);
        find(&found, "oversized-tier").unwrap().fix.patch.clone()
    };
    let selector = PodPlacement {
        node_selector: [("karpenter.sh/nodepool".to_string(), "h100".to_string())].into(),
        ..PodPlacement::default()
    };
    assert!(pinned(selector).unwrap().contains("karpenter.sh/nodepool: null"));
    let affinity = PodPlacement {
        affinity_terms: vec![Vec::new()],
        ..PodPlacement::default()
    };
    assert_eq!(pinned(affinity), None);
}

/// The week of history that R6 asks for, and what it still lacks: each alone keeps the finding from being measured.
#[test]
fn a_week_of_history_raises_confidence_and_a_prefix_cache_lowers_it() {
    let found = |change: fn(&mut LoadHistory)| {
        let snap = with_history(served(6, SMALL, 6e5), |h| {
            h.replicas = h.requests;
            h.replicas_low = Some(6.0);
            h.replica_capacity = Some(400.0);
            change(h);
        });
        report(&snap)
    };
    let whole = found(|_| {});
    let over = find(&whole, "over-replicated").unwrap();
    assert_eq!(over.confidence.name(), "measured", "{:?}", over.confidence_reasons);
    // 1.3 × 60 tokens/s ÷ 400 = 1, one more for a failure: 2 stay.
    assert_eq!(over.fix.placement.as_ref().unwrap().replicas, 2);
    // The quietest time counts, not the moment: autoscaling already gave four back.
    let breathing = found(|h| h.replicas_low = Some(2.0));
    assert!(find(&breathing, "over-replicated").is_none());
    // Half a week is less than a week.
    let short = found(|h| h.first = ago(3 * DAY));
    assert_eq!(find(&short, "over-replicated").unwrap().confidence.name(), "estimated");
}

/// A slow server would else be taken for as fast as its card could be: deleting a series must not raise a claim, whichever
/// engine tells it.
#[test]
fn a_server_whose_latencies_were_not_read_is_not_moved() {
    use crate::engine::{ENGINES, LoadFigure, Tells};
    type Drop = fn(&mut EngineReading);
    let drops: [(LoadFigure, Drop); 2] = [
        (LoadFigure::InterTokenLatency, |r| r.inter_token_latency = None),
        (LoadFigure::TimeToFirstToken, |r| r.time_to_first_token = None),
    ];
    let mut tried = 0;
    for (figure, drop) in drops {
        for kind in ENGINES.engines().iter().map(|e| e.facts().kind) {
            let mut snap = served(1, SMALL, 1e5);
            for pod in &mut snap.clusters[0].pods {
                if let Some(settings) = pod.containers[0].server.as_mut() {
                    settings.engine = Some(kind);
                }
            }
            let moved = fired(&snap).contains(&("oversized-tier", None));
            for reading in snap.clusters[0].engines.iter_mut().flat_map(|e| &mut e.readings) {
                drop(reading);
            }
            let now = fired(&snap).contains(&("oversized-tier", None));
            assert!(moved || !now, "{kind:?}: less is known, more is claimed");
            if !moved || ENGINES.tells(kind, figure) != Tells::Always {
                continue;
            }
            tried += 1;
            assert!(!now, "{kind:?} tells {figure:?}");
            let found = report(&snap);
            let coverage = found.checks.iter().find(|c| c.id == "oversized-tier").unwrap();
            assert!(
                coverage
                    .not_assessed
                    .iter()
                    .any(|n| n.reason.contains("could not be read") && n.gpus > 0.0)
            );
        }
    }
    // vLLM, SGLang, NIM, LMDeploy, TensorRT-LLM, Ray Serve's engine tell both, TGI the time between tokens.
    assert!(tried >= 10, "{tried}");
}
