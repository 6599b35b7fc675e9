//! History: Prometheus, Thanos, VictoriaMetrics, Mimir and what speaks their API. Found by label in the cluster, or named.

mod ask;
mod auth;
mod client;
pub(crate) mod find;
mod read;
mod words;

use super::kube::api::{Api, ReadError};
use super::options::{CollectOptions, StoreMode};
use crate::snapshot::cluster::Cluster;
use crate::snapshot::history::History;
use crate::snapshot::{Gap, Source, SourceKind, SourceStatus};
use ask::{Asker, Cut, Part, Scope, pack};
use client::{AskError, Data, Place, Store, Told};
use find::Candidate;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use read::Reader;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use words::{DEVICE_FIGURES, Owner, Words, names_pattern};

/// Bins of the check definitions (R7); coarser where a fleet is so large that they would be a burden to the store.
const BINS: [u64; 5] = [300, 600, 900, 1800, 3600];
/// Series × bins that one expression may touch.
const BUDGET: u64 = 450_000;
/// Queries of one cluster, shards included.
const MOST_QUERIES: u64 = 160;
/// Services that are tried before the search is given up.
const MOST_CANDIDATES: usize = 6;

/// Every request to a store, for `--dry-run`.
pub(crate) fn dry_run(mode: &StoreMode) -> Vec<String> {
    let paths = [
        ("GET", "/api/v1/label/__name__/values", "which metric names it has"),
        ("GET", "/api/v1/labels", "how devices and pods are labelled"),
        ("GET", "/api/v1/label/cluster/values", "which clusters it holds"),
        ("GET", "/api/v1/status/buildinfo", "what it is"),
        ("GET", "/api/v1/status/runtimeinfo", "how long it keeps data"),
        ("QUERY", "/api/v1/query", "aggregates over the window"),
        ("QUERY", "/api/v1/query_range", "hourly work of the window"),
    ];
    let (base, query) = match mode {
        StoreMode::None => return Vec::new(),
        StoreMode::Auto => (
            "/api/v1/namespaces/NAMESPACE/services/NAME:PORT/proxy".to_string(),
            "GET",
        ),
        StoreMode::Url(url) => (without_credentials(url.trim_end_matches('/')), "POST"),
    };
    paths
        .iter()
        .map(|(verb, path, why)| {
            let verb = if *verb == "QUERY" { query } else { verb };
            format!("{verb} {base}{path}  # {why}")
        })
        .collect()
}

/// What a cluster's store gave.
#[derive(Default)]
pub(crate) struct HistoryRead {
    pub(crate) sources: Vec<Source>,
    pub(crate) gaps: Vec<Gap>,
}

/// Reads a cluster's history into it. `api`: the way into the cluster, for the search.
pub(crate) async fn read(api: &Api, cluster: &mut Cluster, options: &CollectOptions, at: Timestamp) -> HistoryRead {
    let mut out = HistoryRead::default();
    let found = match &options.store.mode {
        StoreMode::None => return out,
        StoreMode::Url(url) => named(url, options, at, &mut out).await,
        StoreMode::Auto => search(api, cluster, options, at, &mut out).await,
    };
    let Some((store, words, flavour)) = found else {
        return out;
    };
    match record(&store, words, &flavour, cluster, options, at, &mut out.gaps).await {
        Ok(history) => {
            let partial = !out.gaps.is_empty();
            out.sources.push(source(
                &store.name,
                if partial {
                    SourceStatus::Partial
                } else {
                    SourceStatus::Ok
                },
                detail(&store, &flavour, &history),
                options,
            ));
            cluster.history = Some(Box::new(history.history));
        }
        Err(gap) => {
            out.sources
                .push(source(&store.name, SourceStatus::Failed, gap.reason.clone(), options));
            out.gaps.push(gap);
        }
    }
    out
}

fn source(name: &str, status: SourceStatus, detail: String, options: &CollectOptions) -> Source {
    Source {
        kind: SourceKind::Prometheus,
        name: name.into(),
        status,
        detail,
        named: matches!(options.store.mode, StoreMode::Url(_)),
    }
}

fn gap(store: &str, what: &str, reason: String, remedy: String) -> Gap {
    Gap {
        source: format!("prometheus {store}"),
        what: what.into(),
        reason,
        effect: "what it would tell is not judged by history: counters and live samples are all there is".into(),
        remedy,
    }
}

const ALL: &str = "the window's history";

async fn named(
    url: &str,
    options: &CollectOptions,
    at: Timestamp,
    out: &mut HistoryRead,
) -> Option<(Store, Words, Flavoured)> {
    let base = url.trim_end_matches('/');
    let base = base.strip_suffix("/api/v1").unwrap_or(base);
    if !base.starts_with("http://") && !base.starts_with("https://") {
        let reason = "it is no URL: http:// or https:// is missing".to_string();
        let shown = without_credentials(base);
        out.sources
            .push(source(&shown, SourceStatus::Failed, reason.clone(), options));
        out.gaps.push(gap(
            &shown,
            ALL,
            reason,
            "write --prometheus https://HOST[:PORT][/PATH], auto or none".into(),
        ));
        return None;
    }
    let name = without_credentials(base);
    let opened = auth::Auth::new(&options.store.auth)
        .and_then(|a| Ok((a, auth::client(&options.store.auth, options.timeout * 2)?)));
    let (auth, client) = match opened {
        Ok(both) => both,
        Err(error) => {
            let reason = format!("{error:#}");
            out.sources
                .push(source(&name, SourceStatus::Failed, reason.clone(), options));
            out.gaps.push(gap(&name, ALL, reason, "correct the flag".into()));
            return None;
        }
    };
    let place = Place::Url {
        client,
        base: base.into(),
        auth,
    };
    let store = Store::new(place, name.clone(), options.timeout);
    match introduce(&store, options, at).await {
        Ok((words, flavour)) => Some((store, words, flavour)),
        Err(error) => {
            out.sources
                .push(source(&name, SourceStatus::Failed, error.to_string(), options));
            out.gaps.push(gap(&name, ALL, error.to_string(), remedy(&error)));
            None
        }
    }
}

fn remedy(error: &AskError) -> String {
    match error {
        AskError::Unauthorized(_) => {
            "give --prometheus-token-file, --prometheus-user with --prometheus-password-file, --prometheus-header, --prometheus-client-cert or --prometheus-sigv4-region".into()
        }
        AskError::NotPrometheus(_) => "give the URL below which /api/v1/query answers (Mimir: …/prometheus, vmselect: …/select/0/prometheus), and credentials that pass the login".into(),
        AskError::TimedOut(_) => "raise --timeout, or ask for a shorter --window".into(),
        AskError::Connect(_) => "check the address, VPN and proxy; --prometheus-ca-file names a CA of your own".into(),
        AskError::Status { .. } => "ask for a shorter --window, or look at the store's own health".into(),
        AskError::ProxyForbidden => "grant services/proxy".into(),
    }
}

/// Scheme, host and path; never user, password or query.
fn without_credentials(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, ""), |(h, p)| (h, p));
            let host = host.rsplit_once('@').map_or(host, |(_, h)| h);
            format!("{scheme}://{host}{}{path}", if path.is_empty() { "" } else { "/" })
        }
        None => url.into(),
    }
}

async fn search(
    api: &Api,
    cluster: &Cluster,
    options: &CollectOptions,
    at: Timestamp,
    out: &mut HistoryRead,
) -> Option<(Store, Words, Flavoured)> {
    let place = format!("in {}", cluster.name);
    let candidates = match find::candidates(api).await {
        Ok(candidates) => candidates,
        Err(error) => {
            let reason = match error {
                ReadError::Status { code: 403, .. } => "403 Forbidden on services".to_string(),
                other => other.to_string(),
            };
            out.gaps.push(gap(
                &place,
                ALL,
                format!("no store was looked for: {reason}"),
                "'gpuwaste rbac | kubectl apply -f -' grants the list of services, or name the store with --prometheus URL".into(),
            ));
            return None;
        }
    };
    let mut refused = Vec::new();
    let mut empty: Option<(Store, Words, Flavoured)> = None;
    for candidate in candidates.iter().take(MOST_CANDIDATES) {
        let store = candidate.store(api, options.timeout);
        match introduce(&store, options, at).await {
            Ok((words, flavour)) if words.has_devices() || words.has_engines() => return Some((store, words, flavour)),
            Ok((words, flavour)) => {
                empty.get_or_insert((store, words, flavour));
            }
            Err(error) => refused.push(refusal(candidate, &error)),
        }
    }
    if empty.is_none() && refused.is_empty() {
        out.gaps.push(gap(
            &place,
            ALL,
            "no service has the labels of Prometheus, Thanos, VictoriaMetrics or Mimir".into(),
            "name the store with --prometheus URL, or say --prometheus none".into(),
        ));
    }
    out.gaps.extend(refused);
    empty
}

fn refusal(candidate: &Candidate, error: &AskError) -> Gap {
    let remedy = match error {
        AskError::ProxyForbidden => format!(
            "'gpuwaste rbac --with prometheus={} | kubectl apply -f -', or {}",
            candidate.name(),
            candidate.way_round(false)
        ),
        AskError::Unauthorized(_) | AskError::NotPrometheus(_) => format!(
            "the API server keeps your Authorization header for itself: {}",
            candidate.way_round(true)
        ),
        _ => candidate.way_round(false),
    };
    gap(&candidate.name(), ALL, error.to_string(), remedy)
}

/// What the store says of itself.
struct Flavoured {
    name: String,
    version: String,
    retention: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Build {
    application: Option<String>,
    version: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Runtime {
    storage_retention: Option<String>,
}

async fn introduce(store: &Store, options: &CollectOptions, at: Timestamp) -> Result<(Words, Flavoured), AskError> {
    let scope = match options
        .store
        .matcher
        .as_deref()
        .map(str::trim)
        .filter(|m| !m.is_empty())
    {
        Some(matcher) => format!("{},", matcher.trim_matches(['{', '}', ','])),
        None => String::new(),
    };
    let from = stamp(at - 2 * window(options));
    let until = stamp(at);
    let asked = format!("{{__name__=~\"{}\",{scope}}}", names_pattern());
    let limits = [("start", from.as_str()), ("end", until.as_str())];
    let labels = |pattern: &str| format!("{{__name__=~\"{pattern}\",{scope}}}");
    let (devices, engines) = (
        labels("DCGM_FI_.+"),
        labels(
            "(ray_)?vllm[:_].+|(sglang|llamacpp|lmdeploy)[:_].+|(tgi|trtllm|te|nv_inference)_.+|num_requests_running",
        ),
    );
    // The first answer decides whether this is a store at all; the rest may be missing in managed ones.
    let names: Told<BTreeSet<String>> = store
        .look_up(
            "/api/v1/label/__name__/values",
            &[("match[]", &asked), limits[0], limits[1]],
        )
        .await?;
    let device_ask = [("match[]", devices.as_str()), limits[0], limits[1]];
    let engine_ask = [("match[]", engines.as_str()), limits[0], limits[1]];
    let (gpu_labels, engine_labels, build, runtime) = futures::join!(
        store.look_up::<BTreeSet<String>>("/api/v1/labels", &device_ask),
        store.look_up::<BTreeSet<String>>("/api/v1/labels", &engine_ask),
        store.look_up::<Build>("/api/v1/status/buildinfo", &[]),
        store.look_up::<Runtime>("/api/v1/status/runtimeinfo", &[]),
    );
    let build = build.map(|b| b.data).unwrap_or_default();
    let words = Words {
        names: names.data,
        gpu_labels: gpu_labels?.data,
        engine_labels: engine_labels?.data,
        owner: Owner::Nobody,
        scope,
        containers: Vec::new(),
        namespaces: Vec::new(),
    };
    let flavour = Flavoured {
        name: build.application.unwrap_or_else(|| "Prometheus".into()),
        version: build.version,
        retention: runtime.ok().and_then(|r| r.data.storage_retention),
    };
    Ok((words, flavour))
}

fn window(options: &CollectOptions) -> SignedDuration {
    SignedDuration::from_secs(options.window.as_secs() as i64)
}

fn stamp(at: Timestamp) -> String {
    format!("{:.3}", at.as_millisecond() as f64 / 1000.0)
}

struct Recorded {
    history: History,
    words: Words,
    seconds: f64,
}

#[allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the methods' own lifetimes are less general"
)]
async fn record(
    store: &Store,
    mut words: Words,
    flavour: &Flavoured,
    cluster: &Cluster,
    options: &CollectOptions,
    at: Timestamp,
    gaps: &mut Vec<Gap>,
) -> Result<Recorded, Gap> {
    let begun = std::time::Instant::now();
    let fail = |reason: String, remedy: String| gap(&store.name, ALL, reason, remedy);
    if !words.has_devices() && !words.has_engines() {
        return Err(fail(
            "it has neither DCGM's nor a serving engine's metrics in the window".into(),
            "let it scrape dcgm-exporter and the servers (ServiceMonitor, PodMonitor), or name another store".into(),
        ));
    }
    pick_cluster(store, &mut words, cluster, options, at)
        .await
        .map_err(|(reason, remedy)| fail(reason, remedy))?;
    let window_seconds = options.window.as_secs();
    let mut scope = Scope {
        window: window_seconds,
        bin: BINS[0],
        rate: BINS[0],
        devices: String::new(),
        pods: String::new(),
    };
    held_by(&mut words, cluster);
    measure(store, &mut words, &mut scope, at)
        .await
        .map_err(|error| fail(error.to_string(), remedy(&error)))?;
    let mut history = History {
        store: store.name.clone(),
        flavour: flavour.name.to_lowercase(),
        end: at,
        window_seconds,
        bin_seconds: scope.bin,
        ..History::default()
    };
    let asker = Asker {
        words: &words,
        scope: &scope,
    };
    let mut rounds: Vec<Round> = Vec::new();
    let mut add = |parts: Vec<Part>, before: bool, again: Rebuild| {
        rounds.extend(pack(parts).into_iter().map(|(cut, query)| Round {
            query,
            cut,
            before,
            again,
        }));
    };
    add(asker.device_parts(), false, |a| a.device_parts());
    add(asker.load_parts(), false, |a| a.load_parts());
    add(asker.histogram_parts(), false, |a| a.histogram_parts());
    add(asker.joint_parts(), false, |a| a.joint_parts());
    let rest = |a: &Asker<'_>| [a.cpu_parts(), a.state_parts(), a.usage_parts()].concat();
    add(rest(&asker), false, rest);
    add(asker.usage_parts(), true, |a| a.usage_parts());
    add(asker.work_parts(), true, |a| a.work_parts());
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
    gaps.extend(trouble.gaps(&store.name));
    Ok(Recorded {
        history,
        words,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

type Rebuild = fn(&Asker<'_>) -> Vec<Part>;

/// One query, and how to ask it again in smaller pieces.
struct Round {
    query: String,
    cut: Cut,
    before: bool,
    again: Rebuild,
}

type Answer = Result<(Told<Data>, f64, bool), AskError>;

async fn run(store: &Store, words: &Words, scope: &Scope, rounds: Vec<Round>, at: Timestamp) -> Vec<Answer> {
    futures::stream::iter(rounds)
        .map(|round| async move { one(store, words, scope, &round, at).await })
        .buffered(8)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// A query; where the server finds it too much, the same figures once more in shards, then in coarser bins.
async fn one(store: &Store, words: &Words, scope: &Scope, round: &Round, at: Timestamp) -> Vec<Answer> {
    let at = if round.before {
        at - SignedDuration::from_secs(scope.window as i64)
    } else {
        at
    };
    let time = stamp(at);
    let first = store
        .query("/api/v1/query", &[("query", &round.query), ("time", &time)])
        .await;
    let error = match first {
        Ok(told) => return vec![Ok((told, 1.0, round.before))],
        Err(error) if !error.is_too_much() => return vec![Err(error)],
        Err(error) => error,
    };
    let tags: BTreeSet<String> = tags_of(&round.query);
    let mut answers = Vec::new();
    for shard in shards(round.cut, words, scope) {
        let mut last = error.clone();
        let mut told = None;
        for bin in [scope.bin, (scope.bin * 6).min(3600)] {
            if store.queries.load(Relaxed) >= MOST_QUERIES {
                break;
            }
            let finer = Scope {
                bin,
                rate: scope.rate.max(bin),
                ..shard.clone()
            };
            // Only what this query asked for, and one expression less heavy at a time.
            let asker = Asker { words, scope: &finer };
            let parts = (round.again)(&asker)
                .into_iter()
                .filter(|p| p.cut == round.cut && tags.contains(&tag_of(&p.text)))
                .collect();
            if bin == scope.bin && round.cut == Cut::Nothing {
                continue;
            }
            let scale = bin as f64 / scope.bin as f64;
            let mut all = Vec::new();
            for (_, query) in pack(parts) {
                match store
                    .query("/api/v1/query", &[("query", &query), ("time", &time)])
                    .await
                {
                    Ok(answer) => all.push(Ok((answer, scale, round.before))),
                    Err(error) => {
                        last = error;
                        all.clear();
                        break;
                    }
                }
            }
            if !all.is_empty() {
                told = Some(all);
                break;
            }
        }
        match told {
            Some(told) => answers.extend(told),
            None => return vec![Err(last)],
        }
    }
    answers
}

fn tag_of(part: &str) -> String {
    part.rsplit_once(",\"s\",\"")
        .and_then(|(_, rest)| rest.split('"').next())
        .unwrap_or_default()
        .to_string()
}

fn tags_of(query: &str) -> BTreeSet<String> {
    query
        .split(",\"s\",\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(String::from)
        .collect()
}

/// By a device's own id and by the first letter of a pod: every series of a workload is in one shard, and no list of
/// pods is in any query.
fn shards(cut: Cut, words: &Words, scope: &Scope) -> Vec<Scope> {
    let with = |devices: String, pods: String| Scope {
        devices,
        pods,
        ..scope.clone()
    };
    let uuid = words.uuid();
    let (_, pod) = words.pod_labels();
    match cut {
        Cut::Devices => ["[0-3]", "[4-7]", "[89ab]"]
            .iter()
            .map(|c| with(format!("{uuid}=~\"GPU-{c}.+\","), String::new()))
            .chain([with(format!("{uuid}!~\"GPU-[0-9ab].+\","), String::new())])
            .collect(),
        Cut::Pods => ["[a-f]", "[g-m]", "[n-s]", "[^a-s]"]
            .iter()
            .map(|c| with(String::new(), format!("{pod}=~\"{c}.*\",")))
            .collect(),
        Cut::Nothing => vec![scope.clone()],
    }
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
) -> Result<(), (String, String)> {
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
        .map_err(|e| (e.to_string(), remedy(&e)))?;
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
            .filter(|(_, c)| !c.requests.devices.is_empty())
    };
    let containers: BTreeSet<String> = held().map(|(_, c)| c.name.clone()).filter(|n| plain(n)).collect();
    let namespaces: BTreeSet<String> = held().map(|(p, _)| p.namespace.clone()).filter(|n| plain(n)).collect();
    if containers.len() <= FEW {
        words.containers = containers.into_iter().collect();
    }
    if namespaces.len() <= FEW {
        words.namespaces = namespaces.into_iter().collect();
    }
}

/// How much there is, how often it is scraped, where devices name their holders.
async fn measure(store: &Store, words: &mut Words, scope: &mut Scope, at: Timestamp) -> Result<(), AskError> {
    let query = Asker { words, scope }.size();
    let time = stamp(at);
    let told = store
        .query("/api/v1/query", &[("query", &query), ("time", &time)])
        .await?;
    let value = |tag: &str| {
        told.data
            .result
            .iter()
            .find(|r| r.label("s") == tag)
            .and_then(client::Row::number)
    };
    let has = |label: &str| words.gpu_labels.contains(label);
    words.owner = match (
        has("exported_pod"),
        has("pod"),
        value("size.plain").is_some_and(|n| n > 0.0),
    ) {
        (true, _, true) => Owner::Both,
        (true, ..) => Owner::Exported,
        (false, true, _) => Owner::Plain,
        (false, false, _) => Owner::Nobody,
    };
    let series = value("size.devices")
        .unwrap_or(0.0)
        .max(value("size.engines").unwrap_or(0.0)) as u64;
    // Samples of an hour → seconds between them; a rate needs two, and gaps happen.
    let interval = |tag: &str| value(tag).filter(|n| *n > 0.0).map_or(60.0, |n| 3600.0 / n);
    let slowest = interval("size.gpuscrapes").max(interval("size.enginescrapes")) as u64;
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
fn detail(store: &Store, flavour: &Flavoured, recorded: &Recorded) -> String {
    let words = &recorded.words;
    let has = |place: usize| DEVICE_FIGURES.iter().any(|f| words.has(f.names[place].0));
    let generation = match (has(0), has(1)) {
        (true, true) => "DCGM names of both generations",
        (true, false) => "DCGM names before 4.9",
        (false, true) => "DCGM names since 4.9",
        (false, false) => "no DCGM metrics",
    };
    let owner = match words.owner {
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
        "{} {}{retention}; {generation}, {owner}; {engines}{scope}; bins of {} min; {} queries and {} look-ups, {:.1} MB, {:.1} s",
        flavour.name,
        flavour.version,
        recorded.history.bin_seconds / 60,
        store.queries.load(Relaxed),
        store.lookups.load(Relaxed),
        store.bytes.load(Relaxed) as f64 / 1e6,
        recorded.seconds,
    )
}
