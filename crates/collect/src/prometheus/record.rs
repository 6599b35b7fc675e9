//! One store's window: which questions, in which pieces, and what their answers say.

use super::answer::{AskError, Data, Row, Told};
use super::ask::{Asker, Scope, pack};
use super::client::Store;
use super::open::Flavoured;
use super::read::Reader;
use super::rounds::{Rebuild, Round, run};
use super::tag::{Size, Tag};
use super::words::{CpuLimit, DEVICE_FIGURES, Maker, Owner, Words, names_pattern};
use super::{ALL, gap, remedy, stamp, window};
use crate::options::CollectOptions;
use crate::snapshot::Gap;
use crate::snapshot::cluster::{Cluster, Container, Pod};
use crate::snapshot::history::History;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

/// Bins of the check definitions (R7); coarser where a fleet is so large that they would be a burden to the store.
const BINS: [u64; 5] = [300, 600, 900, 1800, 3600];
/// Series × bins that one expression may touch.
const BUDGET: u64 = 450_000;

pub(super) struct Recorded {
    pub(super) history: History,
    words: Words,
    seconds: f64,
    /// Some questions were not answered.
    pub(super) partly: bool,
}

pub(super) async fn record(
    store: &Store,
    mut words: Words,
    flavour: &Flavoured,
    cluster: &Cluster,
    options: &CollectOptions,
    at: Timestamp,
    gaps: &mut Vec<Gap>,
) -> Result<Recorded, (Gap, bool)> {
    let begun = std::time::Instant::now();
    // The window ends now, whatever the store calls it.
    let (now, at) = (at, store.by_its_clock(at));
    let fail = |reason: String, remedy: String, lost: bool| (gap(&store.name, ALL, reason, remedy), lost);
    let others = words.without_holders().join(" and ");
    if !words.has_devices() && !words.has_engines() {
        let remedy = "let it scrape dcgm-exporter and the servers (ServiceMonitor, PodMonitor), or name another store";
        let reason = if others.is_empty() {
            "it has neither a GPU exporter's nor a serving engine's metrics in the window".into()
        } else {
            format!(
                "it has of GPU exporters only {others}, whose series do not say who holds a GPU, and no serving engine's metrics in the window"
            )
        };
        return Err(fail(reason, remedy.into(), false));
    }
    if !words.has_devices() && !others.is_empty() {
        gaps.push(Gap {
            effect: "what GPUs did is judged by live samples alone".into(),
            ..gap(
                &store.name,
                "the window's history of GPUs",
                format!("it has of GPU exporters only {others}, whose series do not say who holds a GPU"),
                "let it scrape dcgm-exporter too (ServiceMonitor, PodMonitor)".into(),
            )
        });
    }
    pick_cluster(store, &mut words, cluster, options, at)
        .await
        .map_err(|(reason, remedy, lost)| fail(reason, remedy, lost))?;
    let window_seconds = options.window.as_secs();
    let mut scope = Scope {
        window: window_seconds,
        bin: BINS[0],
        rate: BINS[0],
        limits: options.limits,
        devices: String::new(),
        pods: String::new(),
    };
    held_by(&mut words, cluster);
    measure(store, &mut words, &mut scope, at)
        .await
        .map_err(|error| fail(error.to_string(), remedy(&error), true))?;
    if !words.pins {
        gaps.push(Gap {
            effect: "GPUs that wait for CPU are seen only in times with a queue".into(),
            ..gap(
                &store.name,
                "how busy each server usually is, bin by bin",
                "the store does not know PromQL's @ modifier".into(),
                "Prometheus has it since 2.33".into(),
            )
        });
    }
    let mut history = History {
        store: store.name.clone(),
        flavour: flavour.name.to_lowercase(),
        scope: Some(words.scope.trim_end_matches(',').to_string()).filter(|s| !s.is_empty()),
        end: now,
        window_seconds,
        bin_seconds: scope.bin,
        limits: scope.limits,
        ..History::default()
    };
    let asker = Asker {
        words: &words,
        scope: &scope,
    };
    let rounds = questions(&asker);
    let mut reader = Reader::default();
    let mut trouble = Trouble::default();
    let (answers, profile) = futures::join!(
        run(store, &words, &scope, rounds, at),
        profile(store, &asker, at, window_seconds)
    );
    for answer in answers {
        match answer {
            Ok((told, scale, before)) => {
                trouble.warned(&told);
                for row in &told.data.result {
                    reader.row(row, &words, scale, before);
                }
            }
            Err(error) => trouble.failed(error),
        }
    }
    match profile {
        Some(Ok((told, hours))) => {
            trouble.warned(&told);
            reader.hourly(&told.data.result, &words, at.as_second() as f64, hours);
        }
        Some(Err(error)) => trouble.failed(error),
        None => {}
    }
    let nodes: BTreeSet<String> = cluster.nodes.iter().flatten().map(|n| n.name.clone()).collect();
    reader.finish(&mut history, &nodes);
    let partly = !trouble.errors.is_empty() || !trouble.warnings.is_empty();
    gaps.extend(trouble.gaps(&store.name));
    Ok(Recorded {
        partly,
        history,
        words,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// All but the two that stand alone: the size of it, and the hourly profile.
fn questions(asker: &Asker<'_>) -> Vec<Round> {
    let mut rounds: Vec<Round> = Vec::new();
    let mut add = |before: bool, again: Rebuild| {
        rounds.extend(
            pack(again(asker))
                .into_iter()
                .map(|packed| Round { packed, before, again }),
        );
    };
    add(false, |a| {
        [
            a.device_parts(),
            a.load_parts(),
            a.histogram_parts(),
            a.joint_parts(),
            a.cpu_parts(),
            a.state_parts(),
            a.usage_parts(),
        ]
        .concat()
    });
    add(true, |a| [a.usage_parts(), a.work_parts()].concat());
    rounds
}

/// The hours of the window, as many as are whole: 168 for a week, never more than a query may have points.
async fn profile(
    store: &Store,
    asker: &Asker<'_>,
    at: Timestamp,
    window: u64,
) -> Option<Result<(Told<Data>, usize), AskError>> {
    let hours = (window / 3600).min(10_000) as usize;
    let query = asker.hourly().filter(|_| hours >= 24)?;
    let end = Timestamp::from_second(at.as_second()).unwrap_or(at);
    let start = end - SignedDuration::from_hours(hours as i64 - 1);
    let (start, end) = (stamp(start), stamp(end));
    let parameters = [
        ("query", query.as_str()),
        ("start", start.as_str()),
        ("end", end.as_str()),
        ("step", "3600"),
    ];
    Some(
        store
            .query("/api/v1/query_range", &parameters)
            .await
            .map(|told| (told, hours)),
    )
}

/// A store of several clusters is asked about this one only.
async fn pick_cluster(
    store: &Store,
    words: &mut Words,
    cluster: &Cluster,
    options: &CollectOptions,
    at: Timestamp,
) -> Result<(), (String, String, bool)> {
    if !words.scope.is_empty() {
        return Ok(());
    }
    let label = ["cluster", "k8s_cluster", "cluster_name", "k8s_cluster_name"]
        .into_iter()
        .find(|l| words.gpu_labels.contains(*l) || words.engine_labels.contains(*l));
    let Some(label) = label else { return Ok(()) };
    let asked = format!("{{__name__=~\"{}\"}}", names_pattern());
    let (from, until) = (stamp(at - window(options)), stamp(at));
    let told: Told<Vec<String>> = store
        .look_up(
            &format!("/api/v1/label/{label}/values"),
            &[("match[]", &asked), ("start", &from), ("end", &until)],
        )
        .await
        .map_err(|e| (e.to_string(), remedy(&e), true))?;
    let values: Vec<&String> = told.data.iter().filter(|v| !v.is_empty()).collect();
    if values.len() <= 1 {
        return Ok(());
    }
    let name = cluster.name.as_str();
    let matching: Vec<&&String> = values
        .iter()
        .filter(|v| **v == name || name.ends_with(&format!("/{v}")) || name.ends_with(&format!("_{v}")))
        .collect();
    match matching.as_slice() {
        [one] => {
            words.scope = format!("{label}=\"{one}\",");
            Ok(())
        }
        _ => Err((
            format!(
                "it holds {} clusters under the label '{label}', and none is called '{name}'",
                values.len()
            ),
            format!(
                "say which: --prometheus-match '{label}=\"{}\"' (or --cluster-name as the label has it)",
                values[0]
            ),
            false,
        )),
    }
}

/// Names of namespaces and containers that hold GPUs: what keeps cAdvisor's other series out of the CPU questions.
fn held_by(words: &mut Words, cluster: &Cluster) {
    const FEW: usize = 24;
    let plain = |s: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let held = || {
        cluster
            .pods
            .iter()
            .flat_map(|p| p.containers.iter().map(move |c| (p, c)))
            .filter(|(_, c)| c.has_devices())
    };
    let containers: BTreeSet<String> = held().map(|(_, c)| c.name.clone()).filter(|n| plain(n)).collect();
    let namespaces: BTreeSet<String> = held().map(|(p, _)| p.namespace.clone()).filter(|n| plain(n)).collect();
    if containers.len() <= FEW {
        words.containers = containers.into_iter().collect();
    }
    if namespaces.len() <= FEW {
        words.namespaces = namespaces.into_iter().collect();
    }
    words.cpu_limits = limits(held().filter(|(p, c)| plain(&p.namespace) && plain(&c.name)));
}

/// CPU limits of containers with GPUs by their names. A name of which pods differ in it tells nothing, nor does one of which a pod has
/// none: nobody can say in a question which of them a series is of.
fn limits<'a>(held: impl Iterator<Item = (&'a Pod, &'a Container)>) -> Vec<CpuLimit> {
    /// More would make the questions longer than stores take them.
    const MOST: usize = 4;
    let mut by_name: BTreeMap<(&str, &str), BTreeSet<Option<u64>>> = BTreeMap::new();
    for (pod, container) in held {
        let cores = container.limits.cpu.map(|c| c.0).filter(|c| *c > 0);
        by_name
            .entry((&pod.namespace, &container.name))
            .or_default()
            .insert(cores);
    }
    let told = by_name.into_iter().filter_map(|((namespace, container), all)| {
        let only = all.first().copied().flatten().filter(|_| all.len() == 1)?;
        Some(CpuLimit {
            namespace: namespace.into(),
            container: container.into(),
            cores: only as f64 / 1000.0,
        })
    });
    told.take(MOST).collect()
}

/// How much there is, how often it is scraped, where devices name their holders.
async fn measure(store: &Store, words: &mut Words, scope: &mut Scope, at: Timestamp) -> Result<(), AskError> {
    let time = stamp(at);
    let first = Asker { words, scope }.size();
    let told = match store
        .query("/api/v1/query", &[("query", &first), ("time", &time)])
        .await
    {
        Err(AskError::Status {
            code: 400 | 422,
            message,
        }) if message.contains('@') => {
            words.pins = false;
            let plain = Asker { words, scope }.size();
            store
                .query("/api/v1/query", &[("query", &plain), ("time", &time)])
                .await?
        }
        other => other?,
    };
    let value = |size: Size| {
        told.data
            .result
            .iter()
            .find(|r| Tag::parse(r.label("s")) == Some(Tag::Size(size)))
            .and_then(Row::number)
    };
    let has = |label: &str| words.gpu_labels.contains(label);
    words.owner = match (
        has("exported_pod"),
        has("pod"),
        value(Size::Plain).is_some_and(|n| n > 0.0),
    ) {
        // The job's id is copied there.
        _ if words.of_jobs() && (has("jobid") || has("slurmjobid")) => Owner::Plain,
        _ if words.of_jobs() => Owner::Nobody,
        // Each maker's exporter has a way of its own.
        _ if words.foreign() && ["exported_pod", "pod", "pod_name"].into_iter().any(has) => Owner::Both,
        (true, _, true) => Owner::Both,
        (true, ..) => Owner::Exported,
        (false, true, _) => Owner::Plain,
        (false, false, _) => Owner::Nobody,
    };
    let series = value(Size::Devices)
        .unwrap_or(0.0)
        .max(value(Size::Engines).unwrap_or(0.0)) as u64;
    // Samples of an hour → seconds between them; a rate needs two, and gaps happen.
    let interval = |size| value(size).filter(|n| *n > 0.0).map_or(60.0, |n| 3600.0 / n);
    let slowest = interval(Size::GpuScrapes).max(interval(Size::EngineScrapes)) as u64;
    let fits = |bin: &u64| series * (scope.window / bin) <= BUDGET && *bin >= slowest;
    scope.bin = BINS.into_iter().find(fits).unwrap_or(BINS[4]);
    scope.rate = scope.bin.max(4 * slowest);
    Ok(())
}

#[derive(Default)]
struct Trouble {
    warnings: BTreeSet<String>,
    errors: Vec<AskError>,
}

impl Trouble {
    fn warned(&mut self, told: &Told<Data>) {
        self.warnings.extend(
            told.warnings
                .iter()
                .map(|w| w.chars().filter(|c| !c.is_control()).take(160).collect()),
        );
    }

    fn failed(&mut self, error: AskError) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    fn gaps(self, store: &str) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = self
            .errors
            .iter()
            .map(|e| gap(store, "a part of the window's history", e.to_string(), remedy(e)))
            .collect();
        gaps.extend(self.warnings.into_iter().map(|warning| Gap {
            effect: "some series may be missing: figures of history may be too low".into(),
            ..gap(
                store,
                "a part of the window's history",
                format!("a partial answer: {warning}"),
                "look at the store's own components (sidecars, store gateways, ingesters)".into(),
            )
        }));
        gaps
    }
}

/// One line: what it is, how far back it reaches, which names and labels it uses, what asking it took.
pub(super) fn detail(store: &Store, flavour: &Flavoured, recorded: &Recorded) -> String {
    let words = &recorded.words;
    // Of NVIDIA's names the older one stands first.
    let has = |place: usize| DEVICE_FIGURES.iter().any(|f| words.has(f.names[place].name));
    let dcgm = match (words.makes(Maker::Nvidia), has(0), has(1)) {
        (true, true, true) => Some("DCGM names of both generations"),
        (true, true, false) => Some("DCGM names before 4.9"),
        (true, ..) => Some("DCGM names since 4.9"),
        (false, ..) => None,
    };
    let amd = words.makes(Maker::Amd).then_some("AMD's device metrics");
    let gaudi = words.makes(Maker::Gaudi).then_some("Gaudi's metrics");
    let jobstats = words.makes(Maker::Jobstats).then_some("jobstats' series");
    let of_jobs = words.makes(Maker::SlurmJob).then_some("slurm-job-exporter's series");
    let mut devices = [dcgm, amd, gaudi, jobstats, of_jobs]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ");
    if devices.is_empty() {
        devices = "no device metrics".into();
    }
    let owner = match words.owner {
        Owner::Plain if words.of_jobs() => "jobs by their ids",
        Owner::Plain => "holders under 'pod'",
        Owner::Exported => "holders under 'exported_pod' (honorLabels: false)",
        Owner::Both => "holders under 'pod' and 'exported_pod'",
        Owner::Nobody => "devices without holders",
    };
    let retention = flavour
        .retention
        .as_deref()
        .map(|r| format!(", keeps {r}"))
        .unwrap_or_default();
    let scope = words.scope.trim_end_matches(',');
    let scope = if scope.is_empty() {
        String::new()
    } else {
        format!("; only {scope}")
    };
    let engines = if words.has_engines() {
        "engine metrics"
    } else {
        "no engine metrics"
    };
    format!(
        "{} {}{retention}; {devices}, {owner}; {engines}{scope}; bins of {} min; {} queries and {} look-ups, {:.1} MB, {:.1} s",
        flavour.name,
        flavour.version,
        recorded.history.bin_seconds / 60,
        store.queries.load(Relaxed),
        store.lookups.load(Relaxed),
        store.bytes.load(Relaxed) as f64 / 1e6,
        recorded.seconds,
    )
}

#[cfg(test)]
mod tests {
    use super::super::ask::{MAX_QUERY, Packed};
    use super::super::tag::{Handed, Held, Value};
    use super::*;
    use crate::engine::ENGINES;
    use crate::engine::metrics::figures::LoadKind;
    use crate::snapshot::history::BinLimits;
    use crate::snapshot::server::EngineKind;

    const DCGM: [&str; 14] = [
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_DEV_GPU_UTIL_RATIO",
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO",
        "DCGM_FI_PROF_SM_ACTIVE",
        "DCGM_FI_PROF_SM_UTIL_RATIO",
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "DCGM_FI_PROF_TENSOR_UTIL_RATIO",
        "DCGM_FI_PROF_DRAM_ACTIVE",
        "DCGM_FI_PROF_DRAM_UTIL_RATIO",
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_BOARD_POWER_WATTS",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_FB_USED_BYTES",
    ];
    const CLUSTER: [&str; 10] = [
        "container_cpu_usage_seconds_total",
        "machine_cpu_cores",
        "container_cpu_cfs_periods_total",
        "container_cpu_cfs_throttled_periods_total",
        "kube_pod_container_resource_limits",
        "kube_pod_container_resource_requests",
        "kube_pod_status_phase",
        "kube_pod_container_status_restarts_total",
        "kube_pod_container_status_last_terminated_reason",
        "kube_pod_container_status_last_terminated_exitcode",
    ];
    const AMD: [&str; 4] = [
        "gpu_gfx_activity",
        "gpu_umc_activity",
        "gpu_package_power",
        "gpu_used_vram",
    ];

    /// A store with these names, and the labels that make questions longest.
    fn words(engines: &[EngineKind], others: &[&str]) -> Words {
        let set = |list: &[&str]| list.iter().map(|n| (*n).to_string()).collect::<BTreeSet<_>>();
        let mut names = set(others);
        names.extend(set(&CLUSTER));
        for engine in ENGINES.engines().iter().filter(|e| engines.contains(&e.facts().kind)) {
            let vocabulary = &engine.facts().vocabulary;
            for told in vocabulary.figures {
                let written = told.series.iter().flat_map(|s| vocabulary.names(s.name));
                match told.figure.kind() {
                    LoadKind::Histogram => {
                        names.extend(written.flat_map(|n| [format!("{n}_bucket"), format!("{n}_sum")]));
                    }
                    _ => names.extend(written),
                }
            }
        }
        let mut words = Words {
            names,
            gpu_labels: set(&[
                "UUID",
                "GPU_I_ID",
                "GPU_I_PROFILE",
                "modelName",
                "Hostname",
                "hostname",
                "pod",
                "exported_pod",
            ]),
            engine_labels: set(&["namespace", "pod", "job", "prometheus_replica", "tp_rank"]),
            owner: Owner::Both,
            scope: String::new(),
            containers: vec!["server".into(), "vllm".into()],
            namespaces: vec!["ml".into(), "search".into()],
            cpu_limits: Vec::new(),
            pins: true,
            hosts_by_address: false,
        };
        if words.foreign() {
            words.gpu_labels.remove("GPU_I_ID");
        }
        words
    }

    fn asked(words: &Words) -> Vec<Round> {
        let scope = Scope {
            window: 604_800,
            bin: 300,
            rate: 300,
            limits: BinLimits::default(),
            devices: String::new(),
            pods: String::new(),
        };
        questions(&Asker { words, scope: &scope })
    }

    #[test]
    fn a_scan_is_25_queries_at_most_and_none_is_too_long() {
        let all: Vec<EngineKind> = ENGINES.engines().iter().map(|e| e.facts().kind).collect();
        let both: Vec<&str> = DCGM.into_iter().chain(AMD).collect();
        for (engines, devices, most) in [
            (&[EngineKind::Vllm][..], &DCGM[..], 25),
            (
                &[EngineKind::Vllm, EngineKind::Sglang, EngineKind::Tgi][..],
                &DCGM[..],
                25,
            ),
            (&[EngineKind::Vllm][..], &AMD[..], 25),
            // A museum: more queries, but each still passes through proxies.
            (&all[..], &both[..], 45),
        ] {
            let words = words(engines, devices);
            let rounds = asked(&words);
            // And the two that stand alone.
            let lengths: Vec<usize> = rounds.iter().map(|r| r.packed.query.len()).collect();
            assert!(
                rounds.len() + 2 <= most,
                "{engines:?}: {} queries of {lengths:?}",
                rounds.len() + 2
            );
            for round in &rounds {
                assert!(
                    round.packed.query.len() <= MAX_QUERY,
                    "{engines:?}: {}",
                    round.packed.query
                );
            }
            for tag in [
                Tag::WorkloadValue(Value::Starved),
                Tag::WorkloadValue(Value::Crashes),
                Tag::WorkloadValue(Value::KvBad),
                Tag::Held(Held::Gpus),
                Tag::Handed(Handed::P80),
            ] {
                assert!(
                    rounds.iter().any(|r| r.packed.tags.contains(&tag)) || devices == AMD,
                    "{engines:?} {tag}"
                );
            }
        }
    }

    #[test]
    fn limits_of_the_specifications_stand_in_where_no_metric_tells_them() {
        use crate::units::MilliCores;
        let pod = |namespace: &str, name: &str, cores: Option<u64>| {
            let mut container = Container {
                name: name.into(),
                ..Container::default()
            };
            container.requests.devices.insert("nvidia.com/gpu".into(), 1);
            container.limits.cpu = cores.map(|c| MilliCores(c * 1000));
            Pod {
                namespace: namespace.into(),
                containers: vec![container],
                ..Pod::default()
            }
        };
        let cluster = Cluster {
            pods: vec![
                pod("ml", "server", Some(16)),
                pod("ml", "server", Some(16)),
                // Two limits of one name, and one pod without: nobody can say which is whose.
                pod("ml", "vllm", Some(8)),
                pod("ml", "vllm", Some(24)),
                pod("search", "server", Some(4)),
                pod("search", "server", None),
            ],
            ..Cluster::default()
        };
        let mut told = words(&[EngineKind::Vllm], &DCGM);
        held_by(&mut told, &cluster);
        assert_eq!(
            told.cpu_limits,
            [CpuLimit {
                namespace: "ml".into(),
                container: "server".into(),
                cores: 16.0
            }]
        );
        let text = |words: &Words| asked(words).into_iter().map(|r| r.packed.query).collect::<String>();
        let stated = "namespace=\"ml\",}[300s]))/16";
        // kube-state-metrics' own limits come first.
        assert!(!text(&told).contains(stated));
        for limit in [
            "kube_pod_container_resource_limits",
            "container_spec_cpu_quota",
            "container_spec_cpu_period",
        ] {
            told.names.remove(limit);
        }
        assert!(text(&told).contains(stated), "{}", text(&told));
        parsed(&told, ("", ""), &mut BTreeSet::new());
        told.cpu_limits.clear();
        assert!(!text(&told).contains(stated));
    }

    /// Where holders stand, whether `@` is known, matchers of the whole store.
    type Labelled = (Owner, bool, &'static str);
    /// Matchers of devices and of pods.
    type Shard = (&'static str, &'static str);

    /// Every way in which stores name things: a question that only some store gets is still PromQL, and each of its rows is read.
    #[test]
    fn every_question_is_promql_and_says_what_its_rows_tell() {
        let gaudi = DEVICE_FIGURES.iter().flat_map(|f| f.names);
        let gaudi: Vec<&str> = gaudi.filter(|n| n.maker == Maker::Gaudi).map(|n| n.name).collect();
        let (whole, any) = (("", ""), (Owner::Both, true, ""));
        let mut stores: Vec<(Vec<EngineKind>, &[&str], Labelled, Shard)> = Vec::new();
        let engines = ENGINES.engines().iter().map(|e| vec![e.facts().kind]);
        stores.extend(engines.map(|engine| (engine, &DCGM[..1], any, whole)));
        let makers: [&[&str]; 5] = [&DCGM, &DCGM[..1], &AMD, &gaudi, &[]];
        stores.extend(makers.map(|devices| (Vec::new(), devices, any, whole)));
        let owners = [
            (Owner::Plain, false, "cluster=\"a\","),
            (Owner::Exported, true, ""),
            (Owner::Nobody, true, "site=~\"x|y\","),
        ];
        stores.extend(owners.map(|owner| (vec![EngineKind::Vllm], &DCGM[..], owner, whole)));
        let shards = [("UUID=~\"GPU-[0-3].+\",", ""), ("", "pod=~\"[a-f].*\",")];
        stores.extend(shards.map(|shard| (vec![EngineKind::Vllm], &DCGM[..], any, shard)));
        let mut seen = BTreeSet::new();
        for (engines, devices, (owner, pins, scope), shard) in stores {
            let mut words = words(&engines, devices);
            (words.owner, words.pins, words.scope) = (owner, pins, scope.into());
            parsed(&words, shard, &mut seen);
        }
        assert!(seen.len() > 100, "{}", seen.len());
    }

    /// Each question, in a shard or whole, parsed once.
    fn parsed(words: &Words, (devices, pods): Shard, seen: &mut BTreeSet<String>) {
        let scope = Scope {
            window: 604_800,
            bin: 300,
            rate: 300,
            limits: BinLimits::default(),
            devices: devices.into(),
            pods: pods.into(),
        };
        let asker = Asker { words, scope: &scope };
        let packed = questions(&asker).into_iter().map(|r| r.packed);
        let size = Some(asker.size()).filter(|q| !q.is_empty());
        let bare = super::super::bare::asked(words);
        let alone = size.into_iter().chain(asker.hourly()).chain(bare).map(|query| Packed {
            query,
            tags: BTreeSet::new(),
        });
        for Packed { query, tags } in packed.chain(alone) {
            for tag in &tags {
                assert!(query.contains(&format!("\"s\",\"{tag}\"")), "{tag}: {query}");
            }
            let error = promql_parser::parser::parse(&query).err();
            assert_eq!(error, None, "{query}");
            seen.insert(query);
        }
    }

    #[test]
    fn the_policys_limits_are_in_the_questions() {
        let words = words(&[EngineKind::Vllm], &DCGM);
        let scope = Scope {
            window: 604_800,
            bin: 300,
            rate: 300,
            limits: BinLimits {
                kv_full: 0.91,
                kv_calm: 0.72,
                throttled: 0.13,
                saturated: 0.84,
                starved: 0.27,
                loaded: 0.46,
                crash_seconds: 90,
            },
            devices: String::new(),
            pods: String::new(),
        };
        let text: String = questions(&Asker {
            words: &words,
            scope: &scope,
        })
        .into_iter()
        .map(|r| r.packed.query)
        .collect();
        for part in [
            ">=0.91)",
            ">0.72)",
            ">=0.13)",
            ">=0.84)",
            "<0.27)",
            "(0.46*quantile",
            "[390s]",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
