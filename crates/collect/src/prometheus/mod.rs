//! History: Prometheus, Thanos, VictoriaMetrics, Mimir and what speaks their API. Found by label in the cluster, or named.

mod answer;
mod ask;
mod auth;
pub mod bare;
mod client;
pub mod find;
mod knows;
mod open;
mod read;
mod record;
mod rounds;
mod tag;
mod words;

use super::kube::api::Api;
use super::kube::clock;
use super::options::{CollectOptions, StoreMode};
use crate::snapshot::cluster::{ClockOf, Cluster, ServerClock, Unread, UnreadKind};
use crate::snapshot::{Gap, Source, SourceKind, SourceStatus};
use answer::AskError;
pub(crate) use auth::plain_client;
use client::Store;
pub(crate) use client::cause;
use jiff::{SignedDuration, Timestamp};

/// All that a store is ever asked for; a [`client::Store`] asks nothing else.
pub(crate) const PATHS: &[(&str, &str)] = &[
    ("/api/v1/label/__name__/values", "which metric names it has"),
    ("/api/v1/labels", "how devices and pods are labelled"),
    ("/api/v1/label/cluster/values", "which clusters it holds"),
    ("/api/v1/label/k8s_cluster/values", "which clusters it holds"),
    ("/api/v1/label/cluster_name/values", "which clusters it holds"),
    ("/api/v1/label/k8s_cluster_name/values", "which clusters it holds"),
    ("/api/v1/status/buildinfo", "what it is"),
    ("/api/v1/status/runtimeinfo", "how long it keeps data"),
    ("/api/v1/query", "aggregates over the window, and its time"),
    ("/api/v1/query_range", "hourly work of the window"),
];

/// Every request to a store that was named, for `--dry-run`. What is searched for in a cluster is in the cluster's plan.
pub fn dry_run(mode: &StoreMode) -> Vec<String> {
    let StoreMode::Url(url) = mode else { return Vec::new() };
    let base = without_credentials(open::base(url));
    let line = |(path, why): &(&str, &str)| {
        let verb = if path.contains("/query") { "POST" } else { "GET" };
        format!("{verb} {base}{path}  # {why}")
    };
    PATHS.iter().map(line).collect()
}

/// What a cluster's store gave.
#[derive(Default)]
pub struct HistoryRead {
    pub sources: Vec<Source>,
    pub gaps: Vec<Gap>,
    /// A store was there, or may have been, and did not answer as one does.
    lost: bool,
    /// One is there, and the API server refuses the way to it.
    refused: bool,
}

/// Reads a cluster's history into it. `api`: the way into the cluster, for the search.
pub async fn read(api: &Api, cluster: &mut Cluster, options: &CollectOptions, at: Timestamp) -> HistoryRead {
    let mut out = HistoryRead::default();
    let found = match &options.store.mode {
        StoreMode::None => return out,
        StoreMode::Url(url) => open::named(url, false, options, at, &mut out).await,
        StoreMode::Auto => open::search(api, cluster, options, at, &mut out).await,
    };
    let Some((store, words, flavour)) = found else {
        if out.lost || out.refused {
            let refused = !out.lost;
            cluster.unread.push(Unread {
                refused,
                ..whole(UnreadKind::History)
            });
        }
        return out;
    };
    cluster.clocks.extend(store_clock(&store, &mut out.gaps));
    match record::record(&store, words, &flavour, cluster, options, at, &mut out.gaps).await {
        Ok(history) => {
            if history.partly {
                cluster.unread.push(whole(UnreadKind::HistoryPart));
            }
            let partial = !out.gaps.is_empty();
            out.sources.push(source(
                &store.name,
                if partial {
                    SourceStatus::Partial
                } else {
                    SourceStatus::Ok
                },
                record::detail(&store, &flavour, &history),
                options,
            ));
            cluster.history = Some(Box::new(history.history));
        }
        Err((gap, lost)) => {
            if lost {
                cluster.unread.push(whole(UnreadKind::History));
            }
            out.sources
                .push(source(&store.name, SourceStatus::Failed, gap.reason.clone(), options));
            out.gaps.push(gap);
        }
    }
    out
}

/// The store's clock, where that is not ours: it is asked about the window that ends now by its own, and believed less.
fn store_clock(store: &Store, gaps: &mut Vec<Gap>) -> Option<ServerClock> {
    if !store.tells_time() {
        gaps.push(Gap {
            effect: "its series are taken as if its clock were this machine's".into(),
            ..gap(
                &store.name,
                CLOCK,
                "neither an answer to 'vector(time())' nor a Date tells its time".into(),
                "let whatever stands in front of it pass its Date on".into(),
            )
        });
    }
    let ahead_seconds = store.ahead()?;
    gaps.push(Gap {
        effect: "the window ends now by the store's clock; what history tells is not measured, and gates that it could change give no verdict".into(),
        ..gap(
            &store.name,
            CLOCK,
            format!("its clock is {} this machine's", clock::words(ahead_seconds)),
            "set the clocks (NTP) of this machine and of the store".into(),
        )
    });
    Some(ServerClock {
        of: ClockOf::Store,
        ahead_seconds,
        ..ServerClock::default()
    })
}

const CLOCK: &str = "of when its series are";

fn whole(what: UnreadKind) -> Unread {
    Unread {
        what,
        ..Unread::default()
    }
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
pub(crate) fn without_credentials(url: &str) -> String {
    // Whatever has no scheme may be a user and a password all the same.
    let url = if url.contains("://") {
        url
    } else {
        url.rsplit_once('@').map_or(url, |(_, host)| host)
    };
    gpuwaste_facts::text::without_secrets(url.split(['?', '#']).next().unwrap_or_default())
}

fn window(options: &CollectOptions) -> SignedDuration {
    SignedDuration::from_secs(options.window.as_secs() as i64)
}

fn stamp(at: Timestamp) -> String {
    format!("{:.3}", at.as_millisecond() as f64 / 1000.0)
}
