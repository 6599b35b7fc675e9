//! The way to a store: the one that was named, or the first in the cluster that has what a scan asks for.

use super::answer::{AskError, Told};
use super::client::{Place, Store};
use super::find::{self, Candidate};
use super::knows::knows;
use super::words::{Owner, Words, device_names_pattern, names_pattern};
use super::{ALL, HistoryRead, auth, gap, remedy, source, stamp, window, without_credentials};
use crate::engine::ENGINES;
use crate::kube::api::Api;
use crate::options::CollectOptions;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::{Gap, SourceStatus};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Services that are tried before the search is given up.
const MOST_CANDIDATES: usize = 6;

/// What stands before "/api/v1".
pub(super) fn base(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    url.strip_suffix("/api/v1").unwrap_or(url)
}

/// `hosts`: it is asked for hosts, not for a cluster's pods.
pub(super) async fn named(
    url: &str,
    hosts: bool,
    options: &CollectOptions,
    at: Timestamp,
    out: &mut HistoryRead,
) -> Option<(Store, Words, Flavoured)> {
    let base = base(url);
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
        .and_then(|a| Ok((a, auth::client(base, &options.store.auth, options.timeout * 2)?)));
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
    match introduce(&store, hosts, options, at).await {
        Ok((words, flavour)) => Some((store, words, flavour)),
        Err(error) => {
            out.sources
                .push(source(&name, SourceStatus::Failed, error.to_string(), options));
            out.gaps.push(gap(&name, ALL, error.to_string(), remedy(&error)));
            out.lost = true;
            None
        }
    }
}

pub(super) async fn search(
    api: &Api,
    cluster: &Cluster,
    options: &CollectOptions,
    at: Timestamp,
    out: &mut HistoryRead,
) -> Option<(Store, Words, Flavoured)> {
    let place = format!("in {}", cluster.name);
    let search = match find::candidates(api, &options.namespaces).await {
        Ok(search) => search,
        Err(error) => {
            out.lost = true;
            out.gaps.push(gap(
                &place,
                ALL,
                format!("no store was looked for: {error}"),
                NAME_IT.into(),
            ));
            return None;
        }
    };
    // Where the cluster's own store may be, nobody else's is asked, even if that one does not answer.
    let own = search.found.iter().any(|c| !c.anybodys);
    let candidates: Vec<&Candidate> = search.found.iter().filter(|c| !own || !c.anybodys).collect();
    let mut refused = Vec::new();
    let mut empty: Option<(Store, Words, Flavoured)> = None;
    for candidate in candidates.into_iter().take(MOST_CANDIDATES) {
        let store = candidate.store(api, options.timeout);
        let (words, flavour) = match introduce(&store, false, options, at).await {
            Ok(introduced) => introduced,
            Err(error) => {
                let forbidden = matches!(error, AskError::ProxyForbidden);
                (out.lost, out.refused) = (out.lost || !forbidden, out.refused || forbidden);
                refused.push(refusal(candidate, &error));
                continue;
            }
        };
        if !words.has_devices() && !words.has_engines() {
            empty.get_or_insert((store, words, flavour));
            continue;
        }
        if knows(&store, &words, cluster, options.window.as_secs(), at).await == Some(false) {
            let reason = "it knows no node and no pod of this cluster".to_string();
            refused.push(gap(&candidate.name(), ALL, reason, NAME_IT.into()));
            continue;
        }
        out.gaps.extend(candidate.anybodys.then(|| found_by_label(candidate)));
        (out.lost, out.refused) = (false, false);
        return Some((store, words, flavour));
    }
    if empty.is_none() && refused.is_empty() {
        // Under the rights of some namespaces the search is what it can be.
        out.lost |= search.partly.is_some() && options.namespaces.is_empty();
        let (reason, remedy) = not_found(search.partly.as_ref());
        out.gaps.push(gap(&place, ALL, reason, remedy));
    }
    out.gaps.extend(refused);
    empty
}

/// Said, where nothing but a label tells that a store is the cluster's.
fn found_by_label(candidate: &Candidate) -> Gap {
    let namespace = candidate.namespace.as_str();
    Gap {
        effect: format!("whoever may make Services in {namespace} decides what history says"),
        ..gap(
            &candidate.name(),
            "whose store it is",
            format!("it was found by its labels, and '{namespace}' is no monitoring namespace"),
            "name it with --prometheus URL if it is yours, or say --prometheus none".into(),
        )
    }
}

const NAME_IT: &str = "name the store with --prometheus URL, or say --prometheus none";

/// `partly`: the namespaces whose services were listed, and those that refused, where the cluster's may not be.
fn not_found(partly: Option<&(Vec<String>, Vec<String>)>) -> (String, String) {
    let none = "no service has the labels of Prometheus, Thanos, VictoriaMetrics or Mimir";
    let Some((looked, refused)) = partly else {
        return (none.into(), NAME_IT.into());
    };
    let in_those = if looked.is_empty() {
        String::new()
    } else {
        format!("{none} in {}; ", some(looked))
    };
    (
        format!(
            "{in_those}403 Forbidden on services of all namespaces and of {}",
            some(refused)
        ),
        format!(
            "{NAME_IT}; 'kubectl port-forward -n NAMESPACE svc/NAME 9090' makes http://127.0.0.1:9090 of a store inside; 'gpuwaste rbac | kubectl apply -f -' grants the search"
        ),
    )
}

fn some(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more where stores usually are"),
    }
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
pub(super) struct Flavoured {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) retention: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Build {
    application: Option<String>,
    version: String,
    go_version: Option<String>,
}

impl Build {
    /// What answers: Mimir names itself, Thanos counts from 0, VictoriaMetrics tells no more than the version of
    /// Prometheus whose API it speaks; who keeps silent is a managed service or a proxy.
    fn product(&self) -> (String, String) {
        let version = self.version.clone();
        match &self.application {
            Some(name) => (name.clone(), version),
            None if version.is_empty() => ("Prometheus' API".into(), "of an unknown make".into()),
            None if self.go_version.is_none() => ("VictoriaMetrics".into(), format!("(Prometheus' API {version})")),
            None if version.starts_with("0.") => ("Thanos".into(), version),
            None => ("Prometheus".into(), version),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Runtime {
    storage_retention: Option<String>,
}

async fn introduce(
    store: &Store,
    hosts: bool,
    options: &CollectOptions,
    at: Timestamp,
) -> Result<(Words, Flavoured), AskError> {
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
    let (devices, engines) = (labels(&device_names_pattern()), labels(&ENGINES.store_pattern()));
    // The first answer decides whether this is a store at all; the rest may be missing in managed ones.
    let names: Told<BTreeSet<String>> = store
        .look_up(
            "/api/v1/label/__name__/values",
            &[("match[]", &asked), limits[0], limits[1]],
        )
        .await?;
    let device_ask = [("match[]", devices.as_str()), limits[0], limits[1]];
    let engine_ask = [("match[]", engines.as_str()), limits[0], limits[1]];
    let (gpu_labels, engine_labels, build, runtime, ()) = futures::join!(
        store.look_up::<BTreeSet<String>>("/api/v1/labels", &device_ask),
        store.look_up::<BTreeSet<String>>("/api/v1/labels", &engine_ask),
        store.look_up::<Build>("/api/v1/status/buildinfo", &[]),
        store.look_up::<Runtime>("/api/v1/status/runtimeinfo", &[]),
        store.ask_time(),
    );
    let build = build.map(|b| b.data).unwrap_or_default();
    let mut words = Words {
        names: names.data,
        gpu_labels: gpu_labels?.data,
        engine_labels: engine_labels?.data,
        owner: Owner::Nobody,
        scope,
        containers: Vec::new(),
        namespaces: Vec::new(),
        cpu_limits: Vec::new(),
        pins: true,
        hosts_by_address: false,
    };
    words.settle(hosts);
    let (name, version) = build.product();
    let flavour = Flavoured {
        name,
        version,
        retention: runtime.ok().and_then(|r| r.data.storage_retention),
    };
    Ok((words, flavour))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_called_by_their_names() {
        let product = |json: &str| serde_json::from_str::<Build>(json).unwrap().product().0;
        assert_eq!(
            product(r#"{"version":"2.42.0+ds","revision":"x","goVersion":"go1.19"}"#),
            "Prometheus"
        );
        assert_eq!(product(r#"{"version":"2.24.0"}"#), "VictoriaMetrics");
        assert_eq!(
            product(r#"{"version":"0.36.1","revision":"x","goVersion":"go1.22"}"#),
            "Thanos"
        );
        assert_eq!(
            product(r#"{"application":"Grafana Mimir","version":"2.14.0"}"#),
            "Grafana Mimir"
        );
        assert_eq!(Build::default().product().0, "Prometheus' API");
    }
}
