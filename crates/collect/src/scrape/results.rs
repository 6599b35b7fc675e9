//! What came back, and what did not.

use super::clocks::Clocks;
use super::jobs::{Job, Key, key};
use crate::engine::metrics::plausible::{self, Dropped};
use crate::engine::{self, LoadFigure, Tells, metrics};
use crate::kube::api::ReadError;
use crate::kube::clock::Clock;
use crate::snapshot::cluster::{Cluster, Unread, UnreadKind};
use crate::snapshot::engine::{EngineScrape, ServerIdentity};
use crate::snapshot::gpu::GpuScrape;
use crate::snapshot::server::EngineKind;
use crate::snapshot::{Gap, Source, SourceKind, SourceStatus};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What came back, by pod and port.
#[derive(Default)]
pub(super) struct Results {
    pub(super) read: BTreeSet<Key>,
    pub(super) clocks: Clocks,
    gpus: BTreeMap<Key, Vec<GpuScrape>>,
    engines: BTreeMap<Key, EngineScrape>,
    /// What failed: (reason, remedy) → which.
    failed: BTreeMap<(String, String), Vec<String>>,
    forbidden: BTreeSet<String>,
    /// What can be no reading.
    dropped: Vec<Dropped>,
    out_of_time: usize,
    /// Pages that should have come and did not.
    lost: BTreeSet<Unread>,
    /// Pods whose page holds no engine, by namespace and Ray cluster, and the clusters in which another pod's does.
    silent: BTreeMap<(String, String), Vec<String>>,
    answered: BTreeSet<(String, String)>,
}

/// What the page would have told about.
fn lost(job: &Job) -> Unread {
    let engine = job.engine.is_some();
    Unread {
        what: if engine {
            UnreadKind::Engine
        } else {
            UnreadKind::Exporter
        },
        namespace: engine.then(|| job.namespace.clone()),
        name: Some(if engine { job.pod.clone() } else { job.node.clone() }),
        refused: false,
    }
}

pub(super) enum Got {
    /// Pages by path, when, whether they were cut, why the metrics are not among them, the clock of whoever wrote them, and
    /// whether a path by which servers say what they are did not answer.
    Page(
        Vec<(&'static str, Vec<u8>)>,
        Timestamp,
        bool,
        Option<ReadError>,
        Clock,
        bool,
    ),
    Failed(ReadError),
    OutOfTime,
}

/// A server may have no such page at all: its engine shows metrics only where it is told to, or never, or another pod has
/// them. Of the others a page that is not there was lost.
fn may_be_off(job: &Job) -> bool {
    let facts = engine::facts(job.engine);
    let always = facts.is_some_and(|f| f.endpoints.metrics_flag.is_none());
    let figures = [LoadFigure::Running, LoadFigure::Requests, LoadFigure::OutputTokens];
    let told = figures
        .into_iter()
        .any(|f| engine::tells(job.engine, f) == Tells::Always);
    job.engine.is_some() && (!always || !told || job.any_of.is_some())
}

/// How an engine is made to show its metrics.
fn switch_on(engine: Option<EngineKind>) -> String {
    match engine::facts(engine) {
        Some(facts) if let Some(flag) = facts.endpoints.metrics_flag => {
            format!("{} has metrics with {flag} only", facts.kind.name())
        }
        _ => "look at what the pod serves at that port and path".into(),
    }
}

impl Results {
    pub(super) fn add(&mut self, job: &Job, got: Got, first: bool) {
        let name = format!("{}/{}", job.namespace, job.pod);
        let (pages, at, cut, refused, unread) = match got {
            Got::OutOfTime => {
                self.out_of_time += usize::from(first);
                self.lost.extend(first.then(|| lost(job)));
                return;
            }
            Got::Failed(error) if error.is_rbac() => {
                self.forbidden.insert(job.namespace.clone());
                let refused = |unread| Unread {
                    refused: true,
                    ..unread
                };
                self.lost.extend(first.then(|| refused(lost(job))));
                return;
            }
            Got::Failed(error) => {
                if first {
                    let off = matches!(error, ReadError::Status { code: 404, .. }) && may_be_off(job);
                    self.lost.extend((!off).then(|| lost(job)));
                    self.fail(
                        &error.to_string(),
                        "look at the pod; NetworkPolicies must let the API server in",
                        name,
                    );
                }
                return;
            }
            Got::Page(pages, at, cut, refused, clock, unread) => {
                self.clocks.add(job, &clock);
                (pages, at, cut, refused, unread)
            }
        };
        if let Some(error) = refused.filter(|_| first) {
            self.lost.extend((!may_be_off(job)).then(|| lost(job)));
            self.fail(&error.to_string(), &switch_on(job.engine), name.clone());
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
            None => self.add_gpus(job, main, at, name),
            Some(engine) => self.add_engine(job, engine, &pages, at, name),
        }
        if let Some(scrape) = self.engines.get_mut(&key(job)).filter(|_| unread) {
            scrape.identity.unread = true;
        }
    }

    fn fail(&mut self, reason: &str, remedy: &str, what: String) {
        self.failed
            .entry((reason.into(), remedy.into()))
            .or_default()
            .push(what);
    }

    fn add_gpus(&mut self, job: &Job, page: &[u8], at: Timestamp, name: String) {
        let told = metrics::exporter::read(page, at, &job.node);
        self.dropped
            .extend(told.impossible.into_iter().map(|(device, figure, why)| Dropped {
                of: device,
                figure: figure.name(),
                why,
            }));
        let found = told.gpus;
        if found.is_empty() {
            let (reason, remedy) = metrics::exporter::nothing(page);
            self.lost.insert(lost(job));
            self.fail(reason, remedy, name);
            return;
        }
        self.read.insert(key(job));
        let known = self.gpus.entry(key(job)).or_default();
        for gpu in found {
            match known
                .iter_mut()
                .find(|k| k.uuid == gpu.uuid && k.mig == gpu.mig && k.index == gpu.index)
            {
                Some(known) => {
                    known.readings.extend(gpu.readings);
                    known.health = gpu.health.or(known.health);
                }
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
        let impossible = page.iter().flat_map(|p| &p.impossible);
        self.dropped.extend(impossible.map(|(figure, why)| Dropped {
            of: format!("pod {name}"),
            figure: figure.row().name,
            why: *why,
        }));
        let mut told = page.as_ref().map(|p| p.identity.clone()).unwrap_or_default();
        for (path, body) in pages {
            engine::ENGINES.identify(engine, path, body, &mut told);
        }
        if page.is_none() && told == ServerIdentity::default() {
            if let Some(cluster) = &job.any_of {
                self.silent
                    .entry((job.namespace.clone(), cluster.clone()))
                    .or_default()
                    .push(name);
                return;
            }
            self.lost.extend((!may_be_off(job)).then(|| lost(job)));
            self.fail(
                "the page holds no metrics of a known engine",
                &switch_on(Some(engine)),
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

    pub(super) fn finish(mut self, origin: &str, cluster: &mut Cluster, jobs: &[Job]) -> (Vec<Source>, Vec<Gap>) {
        let mut gaps = plausible::gaps(&cluster.name, &self.dropped);
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
                remedy: format!("'gpuwaste rbac --with scrape --namespace {namespace} | kubectl apply -f -', or --no-scrape to be judged without"),
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
        cluster.unread.extend(self.lost);
        cluster.gpus = self.gpus.into_values().flatten().collect();
        cluster.engines = self.engines.into_values().collect();
        (sources.into_iter().flatten().collect(), gaps)
    }
}
