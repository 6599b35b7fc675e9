//! Metrics of exporters and engines, pod by pod: rate-limited, budgeted, only paths without side effects.

use super::kube::api::{Api, ReadError};
use super::options::CollectOptions;
use crate::engine::{self, metrics};
use crate::snapshot::cluster::{Cluster, Container, ContainerState, Pod, PodPhase};
use crate::snapshot::engine::{EngineScrape, ServerIdentity};
use crate::snapshot::gpu::GpuScrape;
use crate::snapshot::server::EngineKind;
use crate::snapshot::{Gap, Source, SourceKind, SourceStatus};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A page is read to here; what is longer is a gap (a 200 MB page has been seen from a mislabelled exporter).
const MAX_PAGE_BYTES: usize = 8 << 20;
/// Requests a second through one API server: 1,000 exporters twice in under a minute, and far below what kubectl's own limit of 50 allows.
const PER_SECOND: f64 = 40.0;
const AT_ONCE: usize = 24;

/// What is read, and how to reach it.
#[derive(Clone, Debug)]
struct Job {
    namespace: String,
    pod: String,
    uid: String,
    ip: Option<String>,
    node: String,
    container: String,
    port: u16,
    path: &'static str,
    /// Where other versions have it.
    other_paths: &'static [&'static str],
    /// One of several pods of which any may answer for all: the Ray cluster.
    any_of: Option<String>,
    /// `None`: a GPU exporter.
    engine: Option<EngineKind>,
    identity_paths: &'static [&'static str],
    devices: u64,
}

/// How pods are reached.
enum Fetcher<'a> {
    /// Through the API server: from a laptop.
    Proxy(&'a Api),
    /// Straight to pod addresses: inside the cluster.
    Direct(reqwest::Client, Duration),
}

/// Hands out start times, one after the other.
struct Pace {
    next: Mutex<Instant>,
    every: Duration,
}

impl Pace {
    async fn wait(&self) {
        let at = {
            let Ok(mut next) = self.next.lock() else { return };
            let at = (*next).max(Instant::now());
            *next = at + self.every;
            at
        };
        sleep_until(at).await;
    }
}

/// Reads all exporters and servers of the cluster, twice where `--observe` says so.
pub(super) async fn scrape(
    api: &Api,
    inside: bool,
    cluster: &mut Cluster,
    options: &CollectOptions,
) -> (Vec<Source>, Vec<Gap>) {
    let fetcher = if inside {
        direct(options).unwrap_or(Fetcher::Proxy(api))
    } else {
        Fetcher::Proxy(api)
    };
    let origin = format!("kubernetes {}", cluster.name);
    run(&fetcher, &origin, cluster, options).await
}

/// The same for the servers of this host, at their own addresses.
pub(super) async fn scrape_host(
    origin: &str,
    cluster: &mut Cluster,
    options: &CollectOptions,
) -> (Vec<Source>, Vec<Gap>) {
    match direct(options) {
        Some(fetcher) => run(&fetcher, origin, cluster, options).await,
        None => (Vec::new(), Vec::new()),
    }
}

async fn run(
    fetcher: &Fetcher<'_>,
    origin: &str,
    cluster: &mut Cluster,
    options: &CollectOptions,
) -> (Vec<Source>, Vec<Gap>) {
    let jobs = jobs(cluster);
    if jobs.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let begun = Instant::now();
    let deadline = begun + options.scrape_budget;
    let pace = Pace {
        next: Mutex::new(begun),
        every: Duration::from_secs_f64(1.0 / PER_SECOND),
    };
    let mut results = Results::default();
    pass(fetcher, &pace, &jobs, deadline, true, &mut results).await;
    if !options.observe.is_zero() && begun + options.observe < deadline {
        sleep_until(begun + options.observe).await;
        let again: Vec<Job> = jobs
            .iter()
            .filter(|j| results.read.contains(&key(j)))
            .cloned()
            .collect();
        pass(fetcher, &pace, &again, deadline, false, &mut results).await;
    }
    results.finish(origin, cluster, &jobs)
}

fn direct<'a>(options: &CollectOptions) -> Option<Fetcher<'a>> {
    // Metrics are plain HTTP, but a client cannot be made without a TLS provider; one that is installed already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(super::options::CONNECT_TIMEOUT)
        .build()
        .ok()?;
    Some(Fetcher::Direct(client, options.timeout))
}

type Key = (String, String, u16);

fn key(job: &Job) -> Key {
    (job.namespace.clone(), job.pod.clone(), job.port)
}

/// Servers first, those with the most GPUs in front: if the budget ends, it ends with the cheap ones.
fn jobs(cluster: &Cluster) -> Vec<Job> {
    let mut jobs: Vec<Job> = cluster
        .pods
        .iter()
        .filter(|p| p.phase == PodPhase::Running && p.node.is_some())
        .flat_map(of_pod)
        .collect();
    jobs.sort_by(|a, b| {
        (a.engine.is_none(), std::cmp::Reverse(a.devices), &a.namespace, &a.pod).cmp(&(
            b.engine.is_none(),
            std::cmp::Reverse(b.devices),
            &b.namespace,
            &b.pod,
        ))
    });
    jobs
}

fn of_pod(pod: &Pod) -> Vec<Job> {
    let devices: u64 = pod.requests().devices.values().sum();
    let job = |container: &Container,
               port: u16,
               path: &'static str,
               engine: Option<EngineKind>,
               other_paths: &'static [&'static str],
               identity_paths: &'static [&'static str]| Job {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        ip: pod.ip.clone(),
        node: pod.node.clone().unwrap_or_default(),
        container: container.name.clone(),
        port,
        path,
        other_paths,
        any_of: None,
        engine,
        identity_paths,
        devices,
    };
    let claims = !pod.resource_claims.is_empty();
    let mut jobs = Vec::new();
    // A container that does not run answers nobody.
    let runs = |c: &&Container| matches!(c.state, None | Some(ContainerState::Running { .. }));
    for container in pod.containers.iter().filter(runs) {
        if let Some(settings) = container.server.as_ref().filter(|_| devices > 0 || claims) {
            let Some(engine) = settings.engine.and_then(engine::of) else {
                continue;
            };
            // The leader of a multi-node group answers for it.
            if settings.headless || (pod.is_follower() && !settings.api_per_node) {
                continue;
            }
            if settings.dynamo || settings.ray {
                // Dynamo's operator names the port "system"; without it the documented one.
                let port = settings
                    .port
                    .or_else(|| named_port(container, "system"))
                    .unwrap_or(8081);
                jobs.push(Job {
                    any_of: pod.labels.get("ray.io/cluster").filter(|_| settings.ray).cloned(),
                    ..job(container, port, "/metrics", Some(engine.kind()), &[], &[])
                });
                continue;
            }
            let Some(path) = engine.metrics_path().or(engine.identity_paths().first().copied()) else {
                continue;
            };
            if let Some(port) = settings.port.or_else(|| port_of(container, engine.default_port())) {
                let others = engine.other_metrics_paths();
                let identities = engine.identity_paths();
                jobs.push(job(container, port, path, Some(engine.kind()), others, identities));
            }
        } else if let Some(default) = container.exporter_port()
            && let Some(port) = port_of(container, Some(default))
        {
            jobs.push(job(container, port, "/metrics", None, &[], &[]));
        }
    }
    jobs
}

fn named_port(container: &Container, name: &str) -> Option<u16> {
    let port = container.ports.iter().find(|p| p.name.as_deref() == Some(name))?;
    Some(port.number)
}

/// The engine's own port where it is declared; else a declared port that is named for it; else the only one; else the default.
fn port_of(container: &Container, default: Option<u16>) -> Option<u16> {
    let declared = &container.ports;
    let by_name = |names: &[&str]| {
        declared
            .iter()
            .find(|p| p.name.as_deref().is_some_and(|n| names.iter().any(|w| n.contains(w))))
            .map(|p| p.number)
    };
    default
        .filter(|d| declared.iter().any(|p| p.number == *d))
        .or_else(|| by_name(&["metrics"]))
        .or_else(|| by_name(&["http", "api", "serve"]))
        .or_else(|| declared.first().map(|p| p.number))
        .or(default)
}

/// What came back, by pod and port.
#[derive(Default)]
struct Results {
    read: BTreeSet<Key>,
    gpus: BTreeMap<Key, Vec<GpuScrape>>,
    engines: BTreeMap<Key, EngineScrape>,
    /// What failed: (reason, remedy) → which.
    failed: BTreeMap<(String, String), Vec<String>>,
    forbidden: BTreeSet<String>,
    out_of_time: usize,
    /// Pods whose page holds no engine, by namespace and Ray cluster, and the clusters in which another pod's does.
    silent: BTreeMap<(String, String), Vec<String>>,
    answered: BTreeSet<(String, String)>,
}

enum Got {
    /// Pages by path, and why the metrics are not among them.
    Page(Vec<(&'static str, Vec<u8>)>, Timestamp, bool, Option<ReadError>),
    Failed(ReadError),
    OutOfTime,
}

async fn pass(fetcher: &Fetcher<'_>, pace: &Pace, jobs: &[Job], deadline: Instant, first: bool, results: &mut Results) {
    let forbidden: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let forbidden = &forbidden;
    let mut reads = stream::iter(jobs.iter().map(|job| async move {
        // One refusal in a namespace is the answer for all its pods.
        if forbidden.lock().is_ok_and(|f| f.contains(&job.namespace)) {
            return (
                job,
                Got::Failed(ReadError::Status {
                    code: 403,
                    message: String::new(),
                }),
            );
        }
        if Instant::now() >= deadline {
            return (job, Got::OutOfTime);
        }
        let got = one(fetcher, pace, job, deadline, first).await;
        if let Got::Failed(error) = &got
            && error.is_forbidden()
            && let Ok(mut f) = forbidden.lock()
        {
            f.insert(job.namespace.clone());
        }
        (job, got)
    }))
    .buffered(AT_ONCE);
    while let Some((job, got)) = reads.next().await {
        results.add(job, got, first);
    }
}

async fn one(fetcher: &Fetcher<'_>, pace: &Pace, job: &Job, deadline: Instant, first: bool) -> Got {
    let mut pages = Vec::new();
    let mut cut = false;
    let identities: &[&str] = if first { job.identity_paths } else { &[] };
    let mut at = Timestamp::now();
    let mut refused = None;
    for path in std::iter::once(&job.path).chain(job.other_paths) {
        pace.wait().await;
        match tokio::time::timeout_at(deadline, fetch(fetcher, job, path)).await {
            Err(_) => return Got::OutOfTime,
            Ok(Ok((body, was_cut))) => {
                at = Timestamp::now();
                cut = was_cut;
                // Under the name that is looked for, wherever it was.
                pages.push((job.path, body));
                refused = None;
                break;
            }
            // Nothing there, or switched off (llama.cpp answers 501 without --metrics): the server may still say what it is.
            Ok(Err(
                error @ ReadError::Status {
                    code: 404 | 405 | 501, ..
                },
            )) => refused = Some(error),
            Ok(Err(error)) => return Got::Failed(error),
        }
    }
    for path in identities.iter().filter(|p| **p != job.path) {
        pace.wait().await;
        // /v1/models behind an API key, an old /version: the metrics page stands on its own.
        if let Ok(Ok((body, was_cut))) = tokio::time::timeout_at(deadline, fetch(fetcher, job, path)).await {
            cut |= was_cut;
            pages.push((*path, body));
        }
    }
    match refused {
        Some(error) if pages.is_empty() => Got::Failed(error),
        refused => Got::Page(pages, at, cut, refused),
    }
}

async fn fetch(fetcher: &Fetcher<'_>, job: &Job, path: &str) -> Result<(Vec<u8>, bool), ReadError> {
    match fetcher {
        Fetcher::Proxy(api) => {
            let full = format!(
                "/api/v1/namespaces/{}/pods/{}:{}/proxy{path}",
                job.namespace, job.pod, job.port
            );
            let answer = api.once(&full, MAX_PAGE_BYTES).await?;
            if answer.code == 404 {
                return Err(ReadError::Status {
                    code: 404,
                    message: format!("nothing at port {} path {path}", job.port),
                });
            }
            if answer.code >= 300 {
                return Err(answer.error(&full));
            }
            Ok((answer.body, answer.cut))
        }
        Fetcher::Direct(client, timeout) => {
            let ip = job
                .ip
                .as_deref()
                .ok_or_else(|| ReadError::Body("the pod has no address".into()))?;
            let host = if ip.contains(':') {
                format!("[{ip}]")
            } else {
                ip.to_string()
            };
            let url = format!("http://{host}:{}{path}", job.port);
            let read = async {
                let response = client.get(url).send().await.map_err(|e| ReadError::Body(plain(&e)))?;
                let code = response.status().as_u16();
                if code >= 300 {
                    return Err(ReadError::Status {
                        code,
                        message: String::new(),
                    });
                }
                let mut body = Vec::new();
                let mut chunks = response.bytes_stream();
                while let Some(chunk) = chunks.next().await {
                    let chunk = chunk.map_err(|e| ReadError::Body(plain(&e)))?;
                    let room = MAX_PAGE_BYTES - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if chunk.len() > room {
                        return Ok((body, true));
                    }
                }
                Ok((body, false))
            };
            tokio::time::timeout(*timeout, read)
                .await
                .map_err(|_| ReadError::TimedOut(*timeout))?
        }
    }
}

fn plain(error: &reqwest::Error) -> String {
    let kind = if error.is_connect() {
        "no connection to the pod"
    } else if error.is_timeout() {
        "the pod did not answer"
    } else {
        "the answer was cut off"
    };
    kind.into()
}

impl Results {
    fn add(&mut self, job: &Job, got: Got, first: bool) {
        let name = format!("{}/{}", job.namespace, job.pod);
        let (pages, at, cut, refused) = match got {
            Got::OutOfTime => {
                self.out_of_time += usize::from(first);
                return;
            }
            Got::Failed(error) if error.is_forbidden() => {
                self.forbidden.insert(job.namespace.clone());
                return;
            }
            Got::Failed(error) => {
                if first {
                    self.fail(
                        &error.to_string(),
                        "look at the pod; NetworkPolicies must let the API server in",
                        name,
                    );
                }
                return;
            }
            Got::Page(pages, at, cut, refused) => (pages, at, cut, refused),
        };
        if let Some(error) = refused.filter(|_| first) {
            let remedy = "SGLang needs --enable-metrics, llama.cpp --metrics";
            self.fail(&error.to_string(), remedy, name.clone());
        }
        if cut {
            self.fail(
                "the page is longer than 8 MiB; what was read to there is used",
                "look at what the exporter exports",
                name.clone(),
            );
        }
        let main = pages.iter().find(|(path, _)| *path == job.path);
        let main = main.map(|(_, body)| body.as_slice()).unwrap_or_default();
        match job.engine {
            None => self.add_gpus(job, metrics::exporter::page(main, at, &job.node), name),
            Some(engine) => self.add_engine(job, engine, &pages, at, name),
        }
    }

    fn fail(&mut self, reason: &str, remedy: &str, what: String) {
        self.failed
            .entry((reason.into(), remedy.into()))
            .or_default()
            .push(what);
    }

    fn add_gpus(&mut self, job: &Job, found: Vec<GpuScrape>, name: String) {
        if found.is_empty() {
            self.fail(
                "the page holds no GPU figures",
                "check the exporter's counters file and that it answers with text",
                name,
            );
            return;
        }
        self.read.insert(key(job));
        let known = self.gpus.entry(key(job)).or_default();
        for gpu in found {
            match known
                .iter_mut()
                .find(|k| k.uuid == gpu.uuid && k.mig == gpu.mig && k.index == gpu.index)
            {
                Some(known) => known.readings.extend(gpu.readings),
                None => known.push(gpu),
            }
        }
    }

    fn add_engine(
        &mut self,
        job: &Job,
        engine: EngineKind,
        pages: &[(&'static str, Vec<u8>)],
        at: Timestamp,
        name: String,
    ) {
        let main = pages.iter().find(|(path, _)| *path == job.path);
        let main = main.map(|(_, body)| body.as_slice()).unwrap_or_default();
        let page = metrics::engine_page(main, at, Some(engine));
        let mut told = page.as_ref().map(|p| p.identity.clone()).unwrap_or_default();
        for (path, body) in pages {
            metrics::identity::read(path, body, &mut told);
        }
        if page.is_none() && told == ServerIdentity::default() {
            if let Some(cluster) = &job.any_of {
                self.silent
                    .entry((job.namespace.clone(), cluster.clone()))
                    .or_default()
                    .push(name);
                return;
            }
            self.fail(
                "the page holds no metrics of a known engine",
                "SGLang needs --enable-metrics, llama.cpp --metrics",
                name,
            );
            return;
        }
        self.read.insert(key(job));
        if let Some(cluster) = &job.any_of {
            self.answered.insert((job.namespace.clone(), cluster.clone()));
        }
        let scrape = self.engines.entry(key(job)).or_insert_with(|| EngineScrape {
            namespace: job.namespace.clone(),
            pod: job.pod.clone(),
            pod_uid: job.uid.clone(),
            container: job.container.clone(),
            port: job.port,
            engine: page.as_ref().map(|p| p.engine),
            identity: told,
            process_started_at: page.as_ref().and_then(|p| p.process_started_at),
            readings: Vec::new(),
        });
        scrape.readings.extend(page.map(|p| p.reading));
    }

    fn finish(mut self, origin: &str, cluster: &mut Cluster, jobs: &[Job]) -> (Vec<Source>, Vec<Gap>) {
        let mut gaps = Vec::new();
        let origin = origin.to_string();
        // The engine's own process is on one pod of its Ray cluster; the others lend their GPUs.
        let (silent, answered) = (std::mem::take(&mut self.silent), std::mem::take(&mut self.answered));
        for (_, pods) in silent.into_iter().filter(|(cluster, _)| !answered.contains(cluster)) {
            let reason = "no pod of the Ray cluster shows metrics of a known engine";
            for pod in pods {
                self.fail(reason, "set log_engine_metrics: true in the LLM's configuration", pod);
            }
        }
        for namespace in &self.forbidden {
            let pods = jobs.iter().filter(|j| j.namespace == *namespace).count();
            gaps.push(Gap {
                source: origin.clone(),
                what: format!("metrics of {pods} pods in namespace {namespace}"),
                reason: "403 Forbidden on pods/proxy".into(),
                effect: "whether they work or idle is unknown; nothing there is called idle or oversized".into(),
                remedy: format!("'gpuwaste rbac --with scrape --namespace {namespace} | kubectl apply -f -'"),
            });
        }
        for ((reason, remedy), mut pods) in self.failed {
            pods.sort();
            pods.dedup();
            let shown = pods.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            let more = if pods.len() > 3 {
                format!(" and {} more", pods.len() - 3)
            } else {
                String::new()
            };
            gaps.push(Gap {
                source: origin.clone(),
                what: format!("metrics of {shown}{more}"),
                reason,
                effect: "what they do is unknown".into(),
                remedy,
            });
        }
        if self.out_of_time > 0 {
            gaps.push(Gap {
                source: origin,
                what: format!("metrics of {} of {} pods", self.out_of_time, jobs.len()),
                reason: "the time for scraping was used up".into(),
                effect: "what they do is unknown".into(),
                remedy: "raise --scrape-budget".into(),
            });
        }
        let source = |kind: SourceKind, read: usize, asked: usize| {
            (asked > 0).then(|| Source {
                kind,
                name: cluster.name.clone(),
                status: if read == asked {
                    SourceStatus::Ok
                } else if read > 0 {
                    SourceStatus::Partial
                } else {
                    SourceStatus::Failed
                },
                detail: format!("{read} of {asked} pods answered"),
                named: false,
            })
        };
        let asked = |engine: bool| jobs.iter().filter(|j| j.engine.is_some() == engine).count();
        let sources = [
            source(SourceKind::Exporter, self.gpus.len(), asked(false)),
            source(SourceKind::Engine, self.engines.len(), asked(true)),
        ];
        cluster.gpus = self.gpus.into_values().flatten().collect();
        cluster.engines = self.engines.into_values().collect();
        (sources.into_iter().flatten().collect(), gaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::cluster::{Port, Resources};
    use crate::snapshot::server::EngineSettings;

    fn container(ports: &[(Option<&str>, u16)]) -> Container {
        Container {
            ports: ports
                .iter()
                .map(|(n, p)| Port {
                    name: n.map(String::from),
                    number: *p,
                })
                .collect(),
            ..Container::default()
        }
    }

    #[test]
    fn the_port_is_the_engines_own_where_it_is_declared() {
        assert_eq!(
            port_of(&container(&[(Some("grpc"), 9000), (Some("http"), 8000)]), Some(8000)),
            Some(8000)
        );
        assert_eq!(
            port_of(&container(&[(Some("grpc"), 9000), (Some("metrics"), 8081)]), Some(8000)),
            Some(8081)
        );
        assert_eq!(port_of(&container(&[]), Some(8000)), Some(8000));
        assert_eq!(port_of(&container(&[]), None), None);
    }

    #[test]
    fn a_server_without_a_gpu_is_not_asked() {
        let server = |devices: u64| Pod {
            phase: PodPhase::Running,
            node: Some("n".into()),
            containers: vec![Container {
                server: Some(Box::new(EngineSettings {
                    engine: Some(EngineKind::Vllm),
                    ..EngineSettings::default()
                })),
                requests: Resources {
                    devices: [("nvidia.com/gpu".to_string(), devices)]
                        .into_iter()
                        .filter(|(_, n)| *n > 0)
                        .collect(),
                    ..Resources::default()
                },
                ..Container::default()
            }],
            ..Pod::default()
        };
        assert_eq!(of_pod(&server(0)).len(), 0);
        assert_eq!(of_pod(&server(2)).len(), 1);
    }

    #[test]
    fn only_paths_without_side_effects_are_ever_asked() {
        for engine in engine::ENGINES {
            for path in engine
                .metrics_path()
                .into_iter()
                .chain(engine.identity_paths().iter().copied())
            {
                assert!(
                    ![
                        "/sleep",
                        "/wake_up",
                        "/health_generate",
                        "/shutdown",
                        "/reset_prefix_cache"
                    ]
                    .contains(&path),
                    "{path}"
                );
            }
        }
        let trtllm = engine::of(EngineKind::Trtllm).and_then(engine::Engine::metrics_path);
        assert_eq!(trtllm, Some("/prometheus/metrics"), "its /metrics drains a queue");
    }
}
