//! Sizing on MIG instances: smaller profiles, instances that hold too little, what is never promised.

use super::sizing_tests::{load, replica};
use super::tests::{Case, DAY, HOUR, ago, fired, node, report, scrape, snapshot};
use crate::catalog::{gpus, mig, models};
use crate::fit::{self, FitVerdict, Parallelism};
use crate::report::document::{Report, ReportFinding};
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{Condition, ContainerState, Exit, Node, Pod};
use crate::snapshot::engine::ServerIdentity;
use crate::units::Tokens;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// 3.2 GiB of weights.
const TINY: &str = "Qwen/Qwen3-1.7B";
/// 14.2 GiB of weights.
const SMALL: &str = "Qwen/Qwen2.5-7B-Instruct";
const CARD: f64 = 55.04 / 8.0;
const SEVENTH: &str = "nvidia.com/mig-1g.10gb";
const HALF: &str = "nvidia.com/mig-3g.40gb";

/// A p5.48xlarge in no region: only what the cluster has is within reach.
fn cut(devices: &[(&str, u64)]) -> Node {
    let mut node = node("n", 30 * DAY, true);
    node.labels.remove("topology.kubernetes.io/region");
    let devices: std::collections::BTreeMap<String, u64> = devices.iter().map(|(k, v)| ((*k).into(), *v)).collect();
    node.capacity.devices.clone_from(&devices);
    node.allocatable.devices = devices;
    node
}

fn pod(model: &str, resource: &str) -> Pod {
    let mut pod = replica("app", 0, 1, model);
    pod.containers[0].requests.devices = [(resource.to_string(), 1)].into();
    if let Some(settings) = pod.containers[0].server.as_mut() {
        settings.engine_version = Some("0.21.0".into());
        // Its default leaves 0.3 GiB of the smallest instance to what comes after the pool.
        settings.gpu_memory_utilization = Some(0.85);
        settings.max_num_batched_tokens = Some(2048);
        settings.max_num_seqs = Some(16);
    }
    pod
}

/// A server on one `resource` that had `requests` in ten days, on a node with `devices`.
fn on(model: &str, requests: f64, resource: &str, devices: &[(&str, u64)]) -> Snapshot {
    let pod = pod(model, resource);
    let mut engine = scrape(&pod, 10 * DAY, load(requests));
    engine.identity = ServerIdentity {
        model_root: Some(model.into()),
        max_model_len: Some(8192),
        ..ServerIdentity::default()
    };
    let mut snap = snapshot(vec![cut(devices)], vec![pod], vec![engine]);
    snap.clusters[0].disruption_budgets = Some(Vec::new());
    snap
}

/// One card in a half and four sevenths, seven whole.
const BOTH: &[(&str, u64)] = &[("nvidia.com/gpu", 7), (HALF, 1), (SEVENTH, 4)];

fn failing(model: &str) -> Snapshot {
    let mut pod = pod(model, SEVENTH);
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
    snapshot(vec![cut(BOTH)], vec![pod], Vec::new())
}

/// `seqs` at once, at 660 tokens each, where the server tells its cache.
fn limited(seqs: u64) -> Snapshot {
    let mut snap = on(TINY, 1e5, SEVENTH, BOTH);
    if let Some(settings) = snap.clusters[0].pods[0].containers[0].server.as_mut() {
        settings.max_num_seqs = Some(seqs);
    }
    snap
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        (
            ("oversized-tier", None),
            on(TINY, 1e5, HALF, BOTH),
            on(TINY, 2e7, HALF, BOTH),
        ),
        (("undersized-tier", None), failing(SMALL), failing(TINY)),
        (("kv-pressure", Some("config")), limited(512), limited(16)),
    ]
}

fn find<'r>(found: &'r Report, check: &str) -> Option<&'r ReportFinding> {
    found.findings.iter().find(|f| f.check == check)
}

#[test]
fn a_smaller_profile_saves_the_difference_of_the_slices() {
    let found = report(&on(TINY, 1e5, HALF, BOTH));
    let tier = find(&found, "oversized-tier").unwrap();
    // Three sevenths held, one needed.
    let usd = tier.waste_usd_per_hour.unwrap().usd();
    assert!((usd - 2.0 / 7.0 * CARD).abs() < 1e-4, "{usd}");
    assert_eq!(tier.grade.map(|g| format!("{g:?}")), Some("Reusable".into()));
    let placement = tier.fix.placement.as_ref().unwrap();
    assert_eq!(
        (placement.gpu.as_str(), placement.gpus),
        ("H100-SXM5-80GB-MIG-1g.10gb", 1)
    );
    let words = format!("(ask for {SEVENTH}; 4 free now)");
    assert!(tier.fix.summary.contains(&words), "{}", tier.fix.summary);
    assert!(tier.title.contains("H100-SXM5-80GB-MIG-3g.40gb"), "{}", tier.title);
    assert_eq!(tier.confidence.name(), "estimated");
    let patch = tier.fix.patch.as_deref().unwrap();
    for line in [format!("{HALF}: null"), format!("{SEVENTH}: \"1\"")] {
        assert_eq!(patch.matches(&line).count(), 2, "limits and requests: {patch}");
    }
}

#[test]
fn a_profile_that_no_node_offers_is_cut_only_where_it_must_be_and_never_patched() {
    let found = report(&on(TINY, 1e5, HALF, &[("nvidia.com/gpu", 7), (HALF, 2)]));
    let tier = find(&found, "oversized-tier").unwrap();
    // Two halves of a card: the slice in between belongs to both. One seventh is needed.
    let usd = tier.waste_usd_per_hour.unwrap().usd();
    assert!((usd - (0.5 - 1.0 / 7.0) * CARD).abs() < 1e-4, "{usd}");
    assert_eq!(tier.fix.patch, None);
    assert!(
        tier.fix.summary.contains("no node hands out yet") && tier.fix.summary.contains(SEVENTH),
        "{}",
        tier.fix.summary
    );
    assert!(
        tier.confidence_reasons.iter().any(|r| r.contains("layout")),
        "{:?}",
        tier.confidence_reasons
    );
    assert_eq!(tier.grade.map(|g| format!("{g:?}")), Some("Reusable".into()));
    // What is there is taken first, though it saves less.
    let quarter = "nvidia.com/mig-2g.20gb";
    let found = report(&on(TINY, 1e5, HALF, &[("nvidia.com/gpu", 7), (HALF, 1), (quarter, 2)]));
    let placement = find(&found, "oversized-tier").unwrap().fix.placement.clone().unwrap();
    assert_eq!(placement.gpu, "H100-SXM5-80GB-MIG-2g.20gb");
}

/// Without a latency of its own the model alone would speak, and it may be the rosier one.
#[test]
fn speed_on_an_instance_is_scaled_from_what_the_server_measures_or_not_told() {
    for held in [HALF, "nvidia.com/gpu"] {
        assert!(fired(&on(TINY, 1e5, held, BOTH)).contains(&("oversized-tier", None)));
        for field in 0..2 {
            let mut snap = on(TINY, 1e5, held, BOTH);
            let reading = &mut snap.clusters[0].engines[0].readings[0];
            if field == 0 {
                reading.inter_token_latency = None;
            } else {
                reading.time_to_first_token = None;
            }
            assert!(!fired(&snap).contains(&("oversized-tier", None)), "{held} {field}");
        }
    }
}

#[test]
fn slices_without_memory_for_them_are_no_saving() {
    // 2g.20gb and 1g.20gb have the same memory: nobody could use the slice between them.
    let held = "nvidia.com/mig-2g.20gb";
    let mut snap = on(SMALL, 1e5, held, &[("nvidia.com/gpu", 7), (held, 3)]);
    if let Some(settings) = snap.clusters[0].pods[0].containers[0].server.as_mut() {
        settings.max_model_len = Some(4096);
    }
    assert!(!fired(&snap).contains(&("oversized-tier", None)), "{:?}", fired(&snap));
}

#[test]
fn a_whole_card_moves_to_an_instance_only_where_the_cluster_has_one() {
    let with = report(&on(TINY, 1e5, "nvidia.com/gpu", BOTH));
    let tier = find(&with, "oversized-tier").unwrap();
    // 8 ms a token on the card would be more than 50 on a seventh of it.
    assert_eq!(tier.fix.placement.as_ref().unwrap().gpu, "H100-SXM5-80GB-MIG-3g.40gb");
    let usd = tier.waste_usd_per_hour.unwrap().usd();
    assert!((usd - 4.0 / 7.0 * CARD).abs() < 1e-4, "{usd}");
    assert_ne!(tier.confidence.name(), "measured");
    assert!(tier.fix.patch.as_deref().unwrap().contains("nvidia.com/gpu: null"));
    let without = on(TINY, 1e5, "nvidia.com/gpu", &[("nvidia.com/gpu", 8)]);
    assert!(
        !fired(&without).contains(&("oversized-tier", None)),
        "{:?}",
        fired(&without)
    );
}

#[test]
fn an_instance_too_small_is_told_with_a_profile_that_holds_the_model() {
    let found = report(&failing(SMALL));
    let small = find(&found, "undersized-tier").unwrap();
    assert!(
        small.title.contains("1 × H100-SXM5-80GB-MIG-1g.10gb"),
        "{}",
        small.title
    );
    let usd = small.at_risk_usd_per_hour.unwrap().usd();
    assert!((usd - CARD / 7.0).abs() < 1e-4, "{usd}");
    let placement = small.fix.placement.as_ref().unwrap();
    assert!(
        ["2g.20gb", "3g.40gb", "1g.20gb"]
            .iter()
            .any(|p| placement.gpu.ends_with(p)),
        "{placement:?}"
    );
    assert!(small.fix.summary.contains("nvidia.com/mig-"), "{}", small.fix.summary);
}

#[test]
fn a_ready_server_on_an_instance_fits_whatever_the_model_says() {
    let mut snap = on(SMALL, 1e5, SEVENTH, BOTH);
    snap.clusters[0].engines[0].identity.kv_capacity = Some(Tokens(20_000));
    let found = report(&snap);
    assert!(
        !fired(&snap).iter().any(|(c, _)| c.ends_with("-tier")),
        "{:?}",
        fired(&snap)
    );
    assert!(
        found.gaps.iter().any(|g| g.reason.contains("fit model disagrees")),
        "{:?}",
        found.gaps
    );
}

fn reasons(snap: &Snapshot, check: &str) -> Vec<String> {
    let found = report(snap);
    let own = found.checks.iter().find(|c| c.id == check).unwrap();
    own.not_assessed.iter().map(|n| n.reason.clone()).collect()
}

#[test]
fn what_is_no_instance_of_a_known_size_is_not_sized() {
    let told = |snap: &Snapshot, word: &str| {
        let all = reasons(snap, "oversized-tier");
        assert!(all.iter().any(|r| r.contains(word)), "{word}: {all:?}");
        assert!(!fired(snap).contains(&("oversized-tier", None)));
    };
    // Two instances for one engine.
    let mut two = on(TINY, 1e5, HALF, &[("nvidia.com/gpu", 6), (HALF, 4)]);
    two.clusters[0].pods[0].containers[0].requests.devices = [(HALF.to_string(), 2)].into();
    if let Some(settings) = two.clusters[0].pods[0].containers[0].server.as_mut() {
        settings.tensor_parallel = Some(2);
    }
    told(&two, "several MIG instances");
    // A profile that an H100 does not have.
    let odd = "nvidia.com/mig-1g.5gb";
    told(
        &on(TINY, 1e5, odd, &[("nvidia.com/gpu", 7), (odd, 7)]),
        "not one that the catalogue knows",
    );
    // A part of an instance's compute.
    let part = "nvidia.com/mig-1c.3g.40gb";
    told(
        &on(TINY, 1e5, part, &[("nvidia.com/gpu", 7), (part, 2)]),
        "not one that the catalogue knows",
    );
    // What the node says of the profile is not what it is known to have.
    let label = |mib: &str| {
        let mut snap = on(TINY, 1e5, HALF, BOTH);
        let node = &mut snap.clusters[0].nodes.as_mut().unwrap()[0];
        node.labels.insert("nvidia.com/mig-3g.40gb.memory".into(), mib.into());
        snap
    };
    told(&label("20096"), "labels another memory");
    assert!(fired(&label("40448")).contains(&("oversized-tier", None)));
    // AMD's partitions.
    let mut amd = on(TINY, 1e5, "amd.com/cpx_nps4", &[("amd.com/cpx_nps4", 64)]);
    if let Some(nodes) = amd.clusters[0].nodes.as_mut() {
        nodes[0].labels = [(
            "amd.com/gpu.product-name".to_string(),
            "AMD_Instinct_MI300X_OAM".to_string(),
        )]
        .into();
    }
    told(&amd, "memory mode");
}

const MODELS: &[&str] = &[
    TINY,
    SMALL,
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-8B",
    "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen2.5-14B-Instruct",
];

/// What is held, what else the node has, model, load and length.
type Draw = (usize, usize, Vec<(usize, u64)>, f64, u64);

/// Whatever is held and offered: no more dollars than the price of what is held, only candidates that fit at the bad end
/// with headroom, and nothing that counts on a node going away which the server stays on.
fn promise((model, held, offered, log, length): Draw) -> Result<Option<String>, TestCaseError> {
    let h100 = gpus::find("H100").unwrap();
    let profile = |g: &'static gpus::GpuFacts| g.instance.as_ref().unwrap().profile.as_str();
    let profiles: Vec<&str> = mig::of(h100).map(profile).collect();
    let resource = |i: usize| format!("nvidia.com/mig-{}", profiles[i]);
    let mut devices: std::collections::BTreeMap<String, u64> = [("nvidia.com/gpu".to_string(), 4)].into();
    for (profile, count) in offered.into_iter().chain([(held, 1)]) {
        devices.entry(resource(profile)).or_insert(count);
    }
    let devices: Vec<(&str, u64)> = devices.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    let requests = 10_f64.powf(log);
    let mut snap = on(MODELS[model], requests, &resource(held), &devices);
    let settings = snap.clusters[0].pods[0].containers[0].server.as_mut().unwrap();
    settings.max_model_len = Some(length);
    let settings = settings.clone();
    snap.clusters[0].engines[0].identity.max_model_len = Some(length);
    let found = report(&snap);
    prop_assert!(
        found.totals.waste_usd_per_hour.unwrap_or_default() <= found.totals.spend_usd_per_hour.unwrap_or_default()
    );
    let Some(tier) = find(&found, "oversized-tier") else {
        return Ok(None);
    };
    let placement = tier.fix.placement.clone().unwrap();
    let Some(crate::analyze::finding::EvidenceValue::Number(held_usd)) = tier
        .evidence
        .iter()
        .find(|e| e.name == "cost_held")
        .map(|e| e.value.clone())
    else {
        panic!("{:?}", tier.evidence)
    };
    let saved = tier.waste_usd_per_hour.unwrap().usd();
    prop_assert!(saved <= held_usd + 1e-6 && saved >= 0.25 - 1e-6);
    prop_assert!((saved + placement.usd_per_hour.unwrap().usd() - held_usd).abs() < 1e-5);
    prop_assert!(tier.claims.iter().all(|c| !c.vacates), "the server stays on its node");
    prop_assert_eq!(tier.confidence.name(), "estimated");
    let facts = mig::named(&placement.gpu).unwrap();
    let fits = fit::place(
        &models::find(MODELS[model]).unwrap(),
        &settings,
        facts,
        Parallelism::ONE,
        None,
    );
    prop_assert_eq!(fits.verdict, FitVerdict::Fits);
    // Three requests and 3 × the mean, of half a second each; 1.3 × 660 tokens, of which the middle bucket tells 550.
    let peak = 3.0 + 3.0 * requests * 0.5 / (10.0 * 86_400.0);
    prop_assert!(fits.kv_capacity.unwrap().low.0 as f64 >= 1.3 * peak * 550.0);
    Ok(Some(placement.gpu))
}

#[test]
fn no_more_is_promised_than_is_held_and_only_what_fits() {
    let seen = std::cell::RefCell::new(Vec::new());
    let drawn = (
        0..MODELS.len(),
        0..6_usize,
        proptest::collection::vec((0..6_usize, 1..4_u64), 0..3),
        3.0..7.5_f64,
        prop::sample::select(vec![2048_u64, 8192, 32_768]),
    );
    let config = ProptestConfig::with_cases(200);
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng)
        .run(&drawn, |draw| {
            seen.borrow_mut().extend(promise(draw)?);
            Ok(())
        })
        .unwrap();
    let mut targets = seen.into_inner();
    let count = targets.len();
    targets.sort();
    targets.dedup();
    assert!(count >= 40 && targets.len() >= 3, "{count} findings: {targets:?}");
}
