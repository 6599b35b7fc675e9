//! Two generated clusters: what servers of one are measured at, in the judgement of the other; and what false facts can do.

use super::measured;
use crate::analyze::finding::{Confidence, EvidenceValue};
use crate::analyze::sizing_tests::{load, replica, with_history};
use crate::analyze::tests::{DAY, node, scrape, snapshot};
use crate::catalog::prices::PriceBook;
use crate::fit::book::facts::{Fact, Speed};
use crate::fleet;
use crate::report::document::ReportFinding;
use crate::settings::{LearnedFact, Settings};
use crate::snapshot::Snapshot;
use crate::snapshot::engine::ServerIdentity;
use crate::snapshot::figure::Figure;
use crate::snapshot::server::{Setting, UnreadSetting};
use crate::units::Tokens;

const MODEL: &str = "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4";

/// A cluster of one's own machines, one of eight A40 and one of eight L40S, with one server of a 70B on a pair of a kind, a week of
/// history behind it.
fn cluster(name: &str, app: &str, card: &str, itl: f64, kv: u64) -> Snapshot {
    let mut pod = replica(app, 0, 2, MODEL);
    pod.containers[0].server.as_mut().unwrap().tensor_parallel = Some(2);
    pod.node = Some(card.into());
    let mut reading = load(1e5);
    if let Some(h) = reading.inter_token_latency.as_mut() {
        h.sum = h.count * itl;
        h.buckets = vec![(itl * 0.9, 0.0), (itl, h.count)];
    }
    let seen = reading.clone();
    let mut engine = scrape(&pod, 10 * DAY, reading);
    engine.identity = ServerIdentity {
        model_root: Some(MODEL.into()),
        version: Some("0.11.0".into()),
        max_model_len: Some(8192),
        kv_capacity: Some(Tokens(kv)),
        ..ServerIdentity::default()
    };
    let nodes = ["A40", "L40S"].map(|card| {
        let mut node = node(card, 30 * DAY, true);
        node.provider = None;
        node.labels = [("nvidia.com/gpu.product".into(), format!("NVIDIA-{card}"))].into();
        node
    });
    let mut snap = snapshot(nodes.to_vec(), vec![pod], vec![engine]);
    snap.clusters[0].name = name.into();
    snap.clusters[0].uid = Some(format!("uid-{name}"));
    snap.clusters[0].autoscalers = Some(Vec::new());
    snap.clusters[0].disruption_budgets = Some(Vec::new());
    let flat = |value: f64| {
        Some(Figure {
            mean: Some(value),
            p50: Some(value),
            p95: Some(value),
            p99: Some(value),
            max: Some(value),
            bins: Some(7.0 * 288.0),
            coverage: None,
        })
    };
    with_history(snap, |told| {
        told.name = app.into();
        told.output_tokens = flat(30.0);
        told.prompt_tokens = flat(300.0);
        told.inter_token_latency.clone_from(&seen.inter_token_latency);
        told.time_to_first_token.clone_from(&seen.time_to_first_token);
        told.prompt_length.clone_from(&seen.prompt_length);
        told.output_length.clone_from(&seen.output_length);
    })
}

fn facts(snap: &Snapshot) -> Vec<Fact> {
    let settings = Settings::default();
    let fleet = fleet::join(snap, &PriceBook::default(), &settings);
    let (facts, left_out) = measured::of(&fleet, &settings);
    assert!(left_out.is_empty(), "{}", left_out[0].why);
    assert_eq!(facts.check(), Ok(()));
    facts.facts
}

fn judged(snap: &Snapshot, facts: &[Fact]) -> (Option<ReportFinding>, f64, Vec<String>) {
    let learned = facts.iter().map(|fact| LearnedFact {
        fact: fact.clone(),
        file: "facts.json".into(),
    });
    let prices =
        "[[price]]\nnode = \"A40\"\nusd_per_gpu_hour = 3.0\n[[price]]\nnode = \"L40S\"\nusd_per_gpu_hour = 2.0\n";
    let settings = Settings {
        prices: PriceBook::parse(prices).unwrap().entries,
        learned: learned.collect(),
        ..Settings::default()
    };
    let report = crate::report_of(snap, &settings);
    let gaps = report
        .gaps
        .iter()
        .map(|g| format!("{}: {}", g.source, g.reason))
        .collect();
    let usd = report
        .totals
        .waste_usd_per_hour
        .map_or(0.0, crate::units::UsdPerHour::usd);
    let found = report.findings.into_iter().find(|f| f.check == "oversized-tier");
    (found, usd, gaps)
}

fn said(finding: &ReportFinding) -> Vec<&str> {
    let learned = finding.evidence.iter().filter(|e| e.source == "learned");
    learned.map(|e| e.name.as_str()).collect()
}

/// What A's server on a pair tells: the pool that is left there, and its time.
fn pair() -> Vec<Fact> {
    facts(&cluster("a", "chat", "L40S", 0.033, 130_000))
}

/// The same model on a dearer pair.
fn dearer() -> Snapshot {
    cluster("b", "other", "A40", 0.042, POOL)
}

/// Tokens that it holds there.
const POOL: u64 = 135_000;

#[test]
fn a_pair_that_runs_elsewhere_makes_the_same_move_measured() {
    let facts = pair();
    assert_eq!(facts.len(), 1);
    let text = serde_json::to_string(&facts).unwrap();
    for name in ["chat", "\"ml", "uid", "usd"] {
        assert!(!text.contains(name), "{name}: {text}");
    }
    let (without, usd, _) = judged(&dearer(), &[]);
    let without = without.expect("the cheaper cards would do");
    assert_eq!(
        without.confidence,
        Confidence::Estimated,
        "{:?}",
        without.confidence_reasons
    );
    let (with, same, gaps) = judged(&dearer(), &facts);
    let with = with.unwrap();
    assert_eq!(
        with.confidence,
        Confidence::Measured,
        "{:?} {gaps:?}",
        with.confidence_reasons
    );
    assert_eq!(with.fix.placement, without.fix.placement);
    assert!((usd - same).abs() < 1e-9, "no dollars more");
    assert_eq!(said(&with), ["learned_memory", "learned_speed"]);
    let reasons = with.confidence_reasons.join("; ");
    assert!(reasons.contains("facts.json"), "{reasons}");
    let told =
        |e: &&crate::analyze::finding::Evidence| matches!(&e.value, EvidenceValue::Text(t) if t.contains("facts.json"));
    assert!(with.evidence.iter().any(|e| told(&e)));
}

/// The servers of the very fleet in the file: they are not their own witnesses.
#[test]
fn what_a_fleet_told_itself_changes_nothing() {
    let own = facts(&dearer());
    let (before, after) = (judged(&dearer(), &[]), judged(&dearer(), &own));
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
}

type Change = &'static dyn Fn(&mut Fact);

#[test]
fn a_fact_of_something_else_measures_nothing() {
    let change = |f: &dyn Fn(&mut Fact)| {
        let mut facts = pair();
        f(&mut facts[0]);
        judged(&dearer(), &facts).0
    };
    let cases: [(&str, Change); 5] = [
        ("another version", &|f| {
            f.combination.settings.engine_version = Some("0.12.0".into());
        }),
        ("another step", &|f| f.combination.settings.max_num_seqs = Some(16)),
        ("a server that restarted", &|f| f.restarts = Some(3)),
        ("more than the model has room for", &|f| {
            f.kv_capacity_tokens = f.kv_capacity_tokens.map(|n| n * 5 / 4);
        }),
        ("another card", &|f| f.combination.gpu = "A100-SXM4-80GB".into()),
    ];
    for (what, case) in cases {
        // One that makes careful may take it away.
        let Some(found) = change(case) else { continue };
        assert_eq!(
            found.confidence,
            Confidence::Estimated,
            "{what}: {:?}",
            found.confidence_reasons
        );
    }
}

/// Three times the capacity is more than the card has: refused, with the file named.
#[test]
fn what_physics_forbids_is_a_gap_and_measures_nothing() {
    let mut facts = pair();
    facts[0].kv_capacity_tokens = facts[0].kv_capacity_tokens.map(|n| n * 3);
    facts[0].speed = facts[0].speed.map(|s| Speed {
        inter_token_latency: 0.005,
        ..s
    });
    let (found, _, gaps) = judged(&dearer(), &facts);
    assert_eq!(found.unwrap().confidence, Confidence::Estimated);
    assert!(
        gaps.iter().any(|g| g.starts_with("facts.json: it cannot be")),
        "{gaps:?}"
    );
}

/// Of a setting that could not be read nobody knows that it is the same.
#[test]
fn an_unread_setting_is_no_exact_match() {
    let mut blind = dearer();
    let server = blind.clusters[0].pods[0].containers[0].server.as_mut().unwrap();
    server.unread = vec![UnreadSetting {
        setting: Setting::Sizing,
        place: "the file of --config".into(),
    }];
    let (found, ..) = judged(&blind, &pair());
    assert!(found.is_none_or(|f| f.confidence < Confidence::Measured));
    assert!(measured_none(&blind), "and it tells nothing to others");
}

fn measured_none(snap: &Snapshot) -> bool {
    let settings = Settings::default();
    let fleet = fleet::join(snap, &PriceBook::default(), &settings);
    measured::of(&fleet, &settings).0.facts.is_empty()
}

/// Held out: facts that are wrong in capacity, version, dtype or time, on servers whose truth is known. A finding that appears with
/// them must hold in truth, or was there without them; and none is surer than it would be with the true fact.
#[test]
fn false_facts_make_no_finding_that_the_truth_does_not_allow() {
    let truth = pair();
    let true_kv = truth[0].kv_capacity_tokens.unwrap() as f64;
    let mut tried = 0;
    // Servers that fill a growing part of what a pair truly holds; beyond it, the move is wrong.
    for kv in [0.1, 0.3, 0.6, 0.9, 1.2, 2.0] {
        let peak = kv * true_kv;
        let mut snap = dearer();
        let usage = peak / POOL as f64;
        let history = snap.clusters[0].history.as_mut().unwrap();
        let told = history.pods.iter_mut().chain(history.workloads.iter_mut());
        for load in told {
            for figure in [&mut load.kv_usage, &mut load.kv_usage_sum].into_iter().flatten() {
                for value in [
                    &mut figure.mean,
                    &mut figure.p50,
                    &mut figure.p95,
                    &mut figure.p99,
                    &mut figure.max,
                ] {
                    *value = Some(usage);
                }
            }
        }
        let without = judged(&snap, &[]).0;
        let best = judged(&snap, &truth).0;
        for times in [0.5, 1.5, 2.0, 3.0] {
            for (version, dtype, count) in [
                ("0.11.0", None, 1),
                ("0.12.0", None, 1),
                ("0.11.0", Some("fp8"), 1),
                ("0.11.0", None, 6),
            ] {
                let lie = (0..count).map(|i| {
                    let mut lie = truth[0].clone();
                    lie.server = format!("{i:016x}");
                    lie.kv_capacity_tokens = Some((true_kv * times) as u64);
                    lie.combination.settings.engine_version = Some(version.into());
                    lie.combination.settings.kv_cache_dtype = dtype.map(String::from);
                    lie.speed = lie.speed.map(|s| Speed {
                        inter_token_latency: s.inter_token_latency / times,
                        ..s
                    });
                    lie
                });
                let lies: Vec<Fact> = lie.collect();
                let Some(found) = judged(&snap, &lies).0 else { continue };
                tried += 1;
                let place = found.fix.placement.as_ref().unwrap();
                let on_pair = place.gpu == "L40S" && place.gpus == 2;
                let holds = 1.3 * peak <= true_kv;
                let was = without.as_ref().is_some_and(|w| w.fix.placement == found.fix.placement);
                assert!(!on_pair || holds || was, "{kv} {times} {version} {count}: {place:?}");
                let sure = best
                    .as_ref()
                    .map(|b| b.confidence)
                    .max(without.as_ref().map(|w| w.confidence));
                assert!(
                    Some(found.confidence) <= sure,
                    "{kv} {times} {version} {count}: {:?}",
                    found.confidence_reasons
                );
            }
        }
    }
    assert!(tried > 25, "{tried}");
}
