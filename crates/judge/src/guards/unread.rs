//! R12 in settings: whatever is stated may stand where it cannot be read. Then no finding appears, no dollars rise and no
//! confidence rises: no default stands in for what nobody read.

use super::monotone::{asked, key};
use super::{Dice, Judged, fleets, judge};
use crate::analyze::finding::{Confidence, Finding, Subject};
use crate::catalog::prices::PriceBook;
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{Cluster, Container, Unread, UnreadKind};
use crate::snapshot::engine::{EngineReading, EngineScrape, Histogram, ServerIdentity};
use crate::snapshot::server::{EngineSettings, Setting, UnreadSetting};
use std::collections::BTreeMap;

const FLEETS: u64 = 500;
/// Settings of each fleet that are not read, one at a time.
const TRIES: u64 = 5;

/// Models that the catalogue knows.
const MODELS: &[&str] = &[
    "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-1.7B",
    "meta-llama/Llama-3.3-70B-Instruct",
];

/// What stands where nobody could read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hidden {
    /// A setting of the server that was read before.
    Stated(Setting),
    /// One that was never stated on the command line: a file or a variable may have it.
    Elsewhere(Setting),
    /// All of them: the command itself.
    Command,
    /// The pod's ConfigMap.
    ConfigMap,
    /// One rank's page.
    Rank,
    /// What the server says of itself.
    Identity,
    /// A label of a node.
    Label,
}

const SETTINGS: &[Setting] = &[
    Setting::Any,
    Setting::Engine,
    Setting::EngineVersion,
    Setting::Model,
    Setting::TensorParallel,
    Setting::PipelineParallel,
    Setting::DataParallel,
    Setting::FurtherParallel,
    Setting::MaxModelLen,
    Setting::MaxNumSeqs,
    Setting::MaxNumBatchedTokens,
    Setting::MemoryShare,
    Setting::Quantization,
    Setting::Dtype,
    Setting::KvCacheDtype,
    Setting::Role,
    Setting::Sizing,
    Setting::Other,
];

pub(super) fn all() -> Vec<Hidden> {
    let each = SETTINGS
        .iter()
        .flat_map(|s| [Hidden::Stated(*s), Hidden::Elsewhere(*s)]);
    let others = [
        Hidden::Command,
        Hidden::ConfigMap,
        Hidden::Rank,
        Hidden::Identity,
        Hidden::Label,
    ];
    each.chain(others).collect()
}

/// Gives servers models that are known, settings that matter and loads that can be sized.
pub(super) fn enrich(snapshot: &mut Snapshot, dice: &mut Dice) {
    for cluster in &mut snapshot.clusters {
        let mut more = Vec::new();
        // Pods of one workload are made of one template.
        let mut templates: BTreeMap<(String, Option<String>), EngineSettings> = BTreeMap::new();
        for pod in &mut cluster.pods {
            let container = &mut pod.containers[0];
            let gpus: u64 = container.requests.devices.values().sum();
            let Some(server) = &mut container.server else { continue };
            let owner = pod.owner.as_ref().map(|o| o.name.clone());
            let template = templates
                .entry((pod.namespace.clone(), owner))
                .or_insert_with(|| EngineSettings {
                    engine_version: Some("0.11.0".into()),
                    model: Some((*dice.pick(MODELS)).into()),
                    max_model_len: Some(*dice.pick(&[2048, 4096, 8192, 16_384])),
                    max_num_seqs: Some(*dice.pick(&[16, 64, 256, 512])),
                    max_num_batched_tokens: Some(2048),
                    gpu_memory_utilization: dice.chance(50).then_some(0.9),
                    quantization: dice.chance(20).then(|| "fp8".into()),
                    dtype: dice.chance(50).then(|| "bfloat16".into()),
                    kv_cache_dtype: dice.chance(30).then(|| "fp8".into()),
                    ..EngineSettings::default()
                });
            **server = EngineSettings {
                engine: server.engine,
                tensor_parallel: server.tensor_parallel,
                nodes: server.nodes,
                role: server.role,
                ..template.clone()
            };
            let model = server.model.clone().unwrap_or_default();
            // Ranks with a page of their own each.
            let ranked = server.nodes.is_none() && server.tensor_parallel == Some(gpus as u32) && matches!(gpus, 2 | 4);
            if ranked {
                (server.tensor_parallel, server.data_parallel, server.apis) =
                    (Some(1), Some(gpus as u32), Some(gpus as u32));
            }
            let own = cluster
                .engines
                .iter_mut()
                .find(|e| e.pod == pod.name && e.namespace == pod.namespace);
            let Some(engine) = own else { continue };
            tell(engine, &model, server.max_model_len, dice);
            if ranked {
                more.extend((1..gpus).map(|rank| EngineScrape {
                    port: 8000 + rank as u16,
                    ..engine.clone()
                }));
            }
        }
        cluster.engines.extend(more);
    }
}

fn tell(engine: &mut EngineScrape, model: &str, length: Option<u64>, dice: &mut Dice) {
    engine.identity = if dice.chance(50) {
        ServerIdentity {
            model_root: Some(model.into()),
            max_model_len: length,
            ..ServerIdentity::default()
        }
    } else {
        ServerIdentity::default()
    };
    let busy = dice.chance(50);
    for reading in &mut engine.readings {
        fill(reading, if busy { 1.0 } else { 0.05 });
    }
}

fn fill(reading: &mut EngineReading, scale: f64) {
    let Some(requests) = reading.requests.map(|r| (r * scale).round()) else {
        return;
    };
    let told = |mean: f64, count: f64| {
        Some(Histogram {
            sum: mean * count,
            count,
            buckets: vec![(mean / 2.0, 0.0), (mean, count)],
        })
    };
    reading.requests = Some(requests);
    reading.prompt_tokens = Some(requests * 600.0);
    reading.output_tokens = Some(requests * 60.0);
    reading.preemptions = reading.preemptions.map(|p| (p * scale).round());
    reading.e2e_latency = told(1.2, requests);
    reading.time_to_first_token = told(0.15, requests);
    reading.inter_token_latency = told(0.02, 60.0 * requests);
    reading.prompt_length = told(600.0, requests);
    reading.output_length = told(60.0, requests);
}

/// Takes the value of `setting`, where one is stated; `false`: none is.
fn take(s: &mut EngineSettings, setting: Setting) -> bool {
    match setting {
        Setting::Any => {
            let before = s.clone();
            *s = EngineSettings {
                engine: s.engine,
                engine_version: s.engine_version.clone(),
                role: s.role,
                nodes: s.nodes,
                ..EngineSettings::default()
            };
            *s != before
        }
        Setting::Engine => s.engine.take().is_some(),
        Setting::EngineVersion => s.engine_version.take().is_some(),
        Setting::Model => s.model.take().is_some(),
        Setting::TensorParallel => s.tensor_parallel.take().is_some(),
        Setting::PipelineParallel => s.pipeline_parallel.take().is_some(),
        Setting::DataParallel => s.data_parallel.take().is_some(),
        // How many pods serve together.
        Setting::FurtherParallel => s.nodes.take().is_some(),
        Setting::MaxModelLen => s.max_model_len.take().is_some(),
        Setting::MaxNumSeqs => s.max_num_seqs.take().is_some(),
        Setting::MaxNumBatchedTokens => s.max_num_batched_tokens.take().is_some(),
        Setting::MemoryShare => s.gpu_memory_utilization.take().is_some(),
        Setting::Quantization => s.quantization.take().is_some(),
        Setting::Dtype => s.dtype.take().is_some(),
        Setting::KvCacheDtype => s.kv_cache_dtype.take().is_some(),
        Setting::Role => s.role.take().is_some(),
        Setting::Sizing | Setting::Other => false,
    }
}

fn index<T>(of: &[T], dice: &mut Dice, is: impl Fn(&T) -> bool) -> Option<usize> {
    let found: Vec<usize> = of.iter().enumerate().filter(|(_, x)| is(x)).map(|(i, _)| i).collect();
    (!found.is_empty()).then(|| *dice.pick(&found))
}

/// The snapshot as the collector would have written it; `false`: there was nothing of this kind.
pub(super) fn hide(snapshot: &mut Snapshot, hidden: Hidden, dice: &mut Dice) -> bool {
    let at = dice.below(snapshot.clusters.len() as u64) as usize;
    let cluster = &mut snapshot.clusters[at];
    let place = |setting| UnreadSetting {
        setting,
        place: "key X of ConfigMap ml/args".into(),
    };
    match hidden {
        Hidden::Stated(_) | Hidden::Elsewhere(_) | Hidden::Command | Hidden::ConfigMap => {
            let Some(i) = index(&cluster.pods, dice, |p| p.containers[0].server.is_some()) else {
                return false;
            };
            // Pods of one workload are made of one template.
            let of = cluster.pods[i].owner.clone();
            let (namespace, name) = (cluster.pods[i].namespace.clone(), cluster.pods[i].name.clone());
            let mut changed = false;
            for pod in cluster
                .pods
                .iter_mut()
                .filter(|p| p.owner == of && p.namespace == namespace)
            {
                let container = &mut pod.containers[0];
                let Some(server) = &mut container.server else { continue };
                match hidden {
                    Hidden::Stated(setting) => {
                        changed |= take(server, setting);
                        server.unread.push(place(setting));
                    }
                    Hidden::Elsewhere(setting) => {
                        server.unread.push(place(setting));
                        changed = true;
                    }
                    Hidden::ConfigMap => {
                        server.unread.push(place(Setting::Any));
                        changed = true;
                    }
                    _ => {
                        container.server = None;
                        container.command_unread = Some("a Secret".into());
                        changed = true;
                    }
                }
            }
            if hidden == Hidden::Command {
                // Nobody asks a pod of which nothing tells that it serves.
                let bare = |p: &crate::snapshot::cluster::Pod| p.containers[0].server.is_none();
                let pods: Vec<_> = cluster
                    .pods
                    .iter()
                    .filter(|p| bare(p))
                    .map(|p| (&p.namespace, &p.name))
                    .collect();
                cluster.engines.retain(|e| !pods.contains(&(&e.namespace, &e.pod)));
            }
            if hidden == Hidden::ConfigMap {
                cluster.unread.push(Unread {
                    what: UnreadKind::ConfigMap,
                    namespace: Some(namespace),
                    name: Some(name),
                    ..Unread::default()
                });
            }
            changed
        }
        Hidden::Rank => {
            let Some(i) = index(&cluster.engines, dice, |e| e.port > 8000) else {
                return false;
            };
            let gone = cluster.engines.remove(i);
            cluster.unread.push(Unread {
                what: UnreadKind::Engine,
                namespace: Some(gone.namespace),
                name: Some(gone.pod),
                ..Unread::default()
            });
            true
        }
        Hidden::Identity => match index(&cluster.engines, dice, |e| e.identity != ServerIdentity::default()) {
            Some(i) => {
                cluster.engines[i].identity = ServerIdentity {
                    unread: true,
                    ..ServerIdentity::default()
                };
                true
            }
            None => false,
        },
        Hidden::Label => label(cluster, dice),
    }
}

/// Labels that tell what a node's GPUs are and how they are handed out. Those of its price are R1's: without them the price
/// is a guess, and says so.
fn label(cluster: &mut Cluster, dice: &mut Dice) -> bool {
    const PRICE: &[&str] = &[
        "instance-type",
        "region",
        "zone",
        "capacity",
        "lifecycle",
        "spot",
        "preempt",
        "priority",
        "provisioning",
    ];
    let nodes = cluster.nodes.get_or_insert_default();
    let Some(i) = index(nodes, dice, |n| !n.labels.is_empty()) else {
        return false;
    };
    let keys: Vec<String> = nodes[i].labels.keys().cloned().collect();
    let other = |k: &&String| !PRICE.iter().any(|p| k.contains(p));
    let keys: Vec<String> = keys.iter().filter(other).cloned().collect();
    !keys.is_empty() && nodes[i].labels.remove(dice.pick(&keys)).is_some()
}

pub(super) type Key = (&'static str, Option<&'static str>, Subject, Option<String>);

/// Dollars, GPUs and confidence of each finding that counts.
pub(super) fn findings(judged: &Judged) -> BTreeMap<Key, (i64, usize, Confidence)> {
    let mut all = BTreeMap::new();
    let found = judged.outcomes.iter().flat_map(|(_, o)| &o.findings);
    for finding in found.filter(|f| f.ignored.is_none()) {
        let entry = all.entry(named(finding)).or_insert((0, 0, finding.confidence));
        entry.0 += asked(finding);
        entry.1 += finding.claims.len();
        entry.2 = entry.2.max(finding.confidence);
    }
    all
}

/// Without what the hidden thing itself would have told of the subject; pools are named by a label.
fn named(finding: &Finding) -> Key {
    let (check, part, subject, cause) = key(finding);
    let name = subject.name.clone().filter(|_| subject.namespace.is_some());
    let subject = Subject {
        engine: None,
        pool: None,
        gpu: None,
        name,
        ..subject
    };
    (check, part, subject, cause)
}

fn assert_no_more(whole: &Judged, part: &Judged, what: &str) {
    let slack = whole.fleet.slots.len() as i64;
    let before = findings(whole);
    for (key, (usd, claims, confidence)) in findings(part) {
        let Some((old_usd, old_claims, old_confidence)) = before.get(&key) else {
            panic!("{what}: {key:?} is new ({usd}, {claims} GPUs, {confidence:?})");
        };
        assert!(usd <= old_usd + slack, "{what}: {key:?} asks {old_usd} → {usd}");
        assert!(claims <= *old_claims, "{what}: {key:?} claims {old_claims} → {claims}");
        assert!(
            confidence <= *old_confidence,
            "{what}: {key:?} {old_confidence:?} → {confidence:?}"
        );
    }
    let waste = |j: &Judged| j.report.totals.waste_usd_per_hour.unwrap_or_default().micros();
    assert!(
        waste(part) <= waste(whole) + slack,
        "{what}: waste {} → {}",
        waste(whole),
        waste(part)
    );
    let coverage = |j: &Judged| j.report.totals.coverage_percent.unwrap_or(-1.0);
    assert!(
        coverage(part) <= coverage(whole) + 1e-6,
        "{what}: coverage {} → {}",
        coverage(whole),
        coverage(part)
    );
    for (before, after) in whole.report.gates.iter().zip(&part.report.gates) {
        let (before, after) = (before.actual.unwrap_or(0.0), after.actual.unwrap_or(0.0));
        assert!(
            after <= before + slack as f64 * 1e-6,
            "{what}: a gate counts {before} → {after}"
        );
    }
}

#[test]
fn what_was_not_read_is_no_default() {
    let mut dice = Dice(47);
    let mut done: BTreeMap<Hidden, u64> = BTreeMap::new();
    let mut found: BTreeMap<(&str, Option<&str>), u64> = BTreeMap::new();
    let hidden = all();
    let mut wrong: BTreeMap<Hidden, Vec<String>> = BTreeMap::new();
    for seed in 0..FLEETS {
        let made = fleets::make(seed);
        let mut snapshot = made.snapshot.clone();
        enrich(&mut snapshot, &mut dice);
        let whole = judge(&snapshot, &made.prices);
        for finding in whole.outcomes.iter().flat_map(|(_, o)| &o.findings) {
            *found.entry((finding.check, finding.part)).or_default() += 1;
        }
        for _ in 0..TRIES {
            let what = *dice.pick(&hidden);
            let mut less = snapshot.clone();
            if !hide(&mut less, what, &mut dice) {
                continue;
            }
            *done.entry(what).or_default() += 1;
            let part = judge(&less, &made.prices);
            let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                assert_no_more(&whole, &part, &format!("fleet {seed} without {what:?}"));
            }));
            if let Err(why) = tried {
                wrong
                    .entry(what)
                    .or_default()
                    .push(why.downcast_ref::<String>().cloned().unwrap_or_default());
            }
        }
    }
    println!("{done:?}\n{found:?}");
    for (what, why) in &wrong {
        println!("{what:?}: {} of {}: {}", why.len(), done[what], why[0]);
    }
    assert!(wrong.is_empty());
    for what in hidden {
        let never = matches!(
            what,
            Hidden::Stated(Setting::PipelineParallel | Setting::Sizing | Setting::Other)
        );
        // Few servers are one side of a split.
        let least = if what == Hidden::Stated(Setting::Role) { 1 } else { 5 };
        assert!(
            never || done.get(&what).is_some_and(|n| *n >= least),
            "{what:?}: {:?}",
            done.get(&what)
        );
    }
    for check in [
        "parallelism-mismatch",
        "oversized-tier",
        "undersized-tier",
        "kv-pressure",
        "dark-capacity",
    ] {
        let n: u64 = found.iter().filter(|((c, _), _)| *c == check).map(|(_, n)| n).sum();
        assert!(n >= 20, "{check} fired {n} times");
    }
}

/// The demo's servers with more replicas than they need, and what reads of them: no generated fleet has one, since none has loads.
pub(super) fn with_spare_replicas() -> Snapshot {
    let mut demo = super::recorded_demo();
    let whole = judge(&demo, &PriceBook::default());
    let spare = spare(&whole);
    assert!(spare.len() >= 2, "{spare:?}");
    for cluster in &mut demo.clusters {
        cluster.pods.retain(|p| {
            let asks = p.containers.iter().any(Container::has_devices);
            let its = |(of, namespace, name): &(String, String, String)| {
                *of == cluster.name && *namespace == p.namespace && p.name.starts_with(&format!("{name}-"))
            };
            !asks || spare.iter().any(its)
        });
    }
    demo
}

/// Cluster, namespace and name of what runs more replicas than it needs.
fn spare(judged: &Judged) -> Vec<(String, String, String)> {
    let all = judged.outcomes.iter().flat_map(|(_, o)| &o.findings);
    all.filter(|f| f.check == "over-replicated")
        .filter_map(|f| {
            let s = &f.subject;
            Some((s.cluster.clone()?, s.namespace.clone()?, s.name.clone()?))
        })
        .collect()
}

#[test]
fn what_was_not_read_of_spare_replicas_is_no_default() {
    let (mut dice, demo) = (Dice(53), with_spare_replicas());
    let whole = judge(&demo, &PriceBook::default());
    let before = spare(&whole).len();
    assert!(before >= 2);
    let (mut done, mut lost) = (BTreeMap::new(), 0);
    for what in all() {
        for _ in 0..6 {
            let mut less = demo.clone();
            if !hide(&mut less, what, &mut dice) {
                continue;
            }
            *done.entry(what).or_insert(0) += 1;
            let part = judge(&less, &PriceBook::default());
            assert_no_more(&whole, &part, &format!("spare replicas without {what:?}"));
            lost += usize::from(spare(&part).len() < before);
        }
    }
    assert!(done.len() >= 25, "{done:?}");
    // What decides how many are needed is among what was hidden.
    assert!(lost >= 5, "{lost} of {done:?} mattered");
}
