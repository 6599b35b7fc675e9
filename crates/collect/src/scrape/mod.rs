//! Metrics of exporters and engines, pod by pod: rate-limited, budgeted, only paths without side effects.

mod clocks;
mod fetch;
mod jobs;
mod results;

use super::kube::api::{Api, ReadError};
use super::kube::clock::Clock;
use super::options::CollectOptions;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::{Gap, Source};
use clocks::Clocks;
use fetch::{Fetcher, Reach, direct, fetch};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use jobs::{Job, jobs, key};
use results::{Got, Results};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Requests a second through one API server: 1,000 exporters twice in under a minute, and far below what kubectl's own limit of 50 allows.
const PER_SECOND: f64 = 40.0;
const AT_ONCE: usize = 24;

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
        direct(options, Reach::Pods).unwrap_or(Fetcher::Proxy(api))
    } else {
        Fetcher::Proxy(api)
    };
    let origin = format!("kubernetes {}", cluster.name);
    let (sources, mut gaps, clocks) = run(&fetcher, &origin, cluster, options).await;
    gaps.extend(clocks.settle(&origin, cluster));
    (sources, gaps)
}

/// The same for the servers of this host, at their own addresses.
pub(super) async fn scrape_host(
    origin: &str,
    cluster: &mut Cluster,
    options: &CollectOptions,
) -> (Vec<Source>, Vec<Gap>) {
    match direct(options, Reach::Host) {
        // They have this machine's clock.
        Some(fetcher) => {
            let (sources, gaps, _) = run(&fetcher, origin, cluster, options).await;
            (sources, gaps)
        }
        None => (Vec::new(), Vec::new()),
    }
}

async fn run(
    fetcher: &Fetcher<'_>,
    origin: &str,
    cluster: &mut Cluster,
    options: &CollectOptions,
) -> (Vec<Source>, Vec<Gap>, Clocks) {
    let jobs = jobs(cluster);
    if jobs.is_empty() {
        return (Vec::new(), Vec::new(), Clocks::default());
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
    let clocks = std::mem::take(&mut results.clocks);
    let (sources, gaps) = results.finish(origin, cluster, &jobs);
    (sources, gaps, clocks)
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
                    own: true,
                }),
            );
        }
        if Instant::now() >= deadline {
            return (job, Got::OutOfTime);
        }
        let got = one(fetcher, pace, job, deadline, first).await;
        if let Got::Failed(error) = &got
            && error.is_rbac()
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
    let identities = if first { job.identity } else { &[] };
    let mut at = Timestamp::now();
    let clock = Clock::default();
    let (mut refused, mut unread) = (None, false);
    let paths = std::iter::once(&job.path).chain(job.other_paths);
    let places = paths
        .map(|path| (job.port, *path))
        .chain(job.other_ports.iter().map(|port| (*port, job.path)));
    for (port, path) in places {
        let elsewhere = Job { port, ..job.clone() };
        pace.wait().await;
        match tokio::time::timeout_at(deadline, fetch(fetcher, &elsewhere, path)).await {
            Err(_) => return Got::OutOfTime,
            Ok(Ok(told)) => {
                at = Timestamp::now();
                cut = told.cut;
                told.look.into_iter().for_each(|l| clock.keep(l));
                // Under the name that is looked for, wherever it was.
                pages.push((job.path, told.body));
                refused = None;
                break;
            }
            // Nothing there, or switched off (llama.cpp answers 501 without --metrics): the server may still say what it is.
            Ok(Err(
                error @ ReadError::Status {
                    code: 404 | 405 | 501, ..
                },
            )) => refused = refused.or(Some(error)),
            // What the first port said is the answer.
            Ok(Err(_)) if port != job.port => {}
            Ok(Err(error)) => return Got::Failed(error),
        }
    }
    for path in identities.iter().map(|i| i.path).filter(|p| *p != job.path) {
        pace.wait().await;
        // /v1/models behind an API key, an old /version: the metrics page stands on its own.
        match tokio::time::timeout_at(deadline, fetch(fetcher, job, path)).await {
            Ok(Ok(told)) => {
                cut |= told.cut;
                told.look.into_iter().for_each(|l| clock.keep(l));
                pages.push((path, told.body));
            }
            // An older server has no such path: there is nothing to read.
            Ok(Err(ReadError::Status {
                code: 404 | 405 | 501, ..
            })) => {}
            Err(_) | Ok(Err(_)) => unread = true,
        }
    }
    match refused {
        Some(error) if pages.is_empty() => Got::Failed(error),
        refused => Got::Page(pages, at, cut, refused, clock, unread),
    }
}
