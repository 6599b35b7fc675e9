//! Finding a store in a cluster by the labels that charts and operators give their services.

use super::client::{Place, Store};
use crate::kube::answer::ApiObject;
use crate::kube::api::{Api, List, ReadError};
use crate::kube::path::{ApiPath, Name};
use crate::kube::raw::RawMeta;
use crate::kube::rights::SERVICES;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a store is, best reach first: Thanos, Mimir and VictoriaMetrics keep more than one Prometheus does, and count
/// the series of HA pairs once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flavour {
    Thanos,
    Mimir,
    VmSelect,
    VmSingle,
    Prometheus,
}

struct Known {
    key: &'static str,
    values: &'static [&'static str],
    flavour: Flavour,
}

/// Service labels (robusta-krr's list, the charts of kube-prometheus-stack, Thanos, VictoriaMetrics and Mimir).
const KNOWN: &[Known] = &[
    Known {
        key: "app.kubernetes.io/name",
        values: &["thanos-query", "thanos-query-frontend", "thanos-querier"],
        flavour: Flavour::Thanos,
    },
    Known {
        key: "app",
        values: &["thanos-query", "thanos-querier"],
        flavour: Flavour::Thanos,
    },
    Known {
        key: "app.kubernetes.io/name",
        values: &["mimir"],
        flavour: Flavour::Mimir,
    },
    Known {
        key: "app.kubernetes.io/name",
        values: &["vmselect"],
        flavour: Flavour::VmSelect,
    },
    Known {
        key: "app",
        values: &["vmselect"],
        flavour: Flavour::VmSelect,
    },
    Known {
        key: "app.kubernetes.io/name",
        values: &["vmsingle", "victoria-metrics-single"],
        flavour: Flavour::VmSingle,
    },
    Known {
        key: "app",
        values: &[
            "kube-prometheus-stack-prometheus",
            "prometheus",
            "prometheus-server",
            "prometheus-operator-prometheus",
            "rancher-monitoring-prometheus",
            "prometheus-prometheus",
            "stack-prometheus",
        ],
        flavour: Flavour::Prometheus,
    },
    Known {
        key: "app.kubernetes.io/name",
        values: &["prometheus"],
        flavour: Flavour::Prometheus,
    },
    Known {
        key: "operated-prometheus",
        values: &["true"],
        flavour: Flavour::Prometheus,
    },
];

/// Components of a chart that answer no queries.
const NOT_QUERIERS: &[&str] = &[
    "alertmanager",
    "pushgateway",
    "kube-state-metrics",
    "node-exporter",
    "operator",
    "sidecar",
    "store",
    "storegateway",
    "compact",
    "receive",
    "ruler",
    "ingester",
    "distributor",
    "store-gateway",
    "compactor",
    "querier-headless",
];

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawService {
    metadata: RawMeta,
    spec: Spec,
}

impl ApiObject for RawService {
    fn meta(&self) -> &RawMeta {
        &self.metadata
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    ports: Vec<RawPort>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawPort {
    name: Option<String>,
    port: u16,
}

/// A service that may answer queries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    /// Outside the namespaces where stores are kept: whoever may make a Service there can label it so.
    pub(super) anybodys: bool,
    pub(super) flavour: Flavour,
    pub(super) namespace: Name,
    pub(super) service: Name,
    pub(super) port: u16,
    https: bool,
}

/// Selectors of the lists that find them: one a label key.
pub fn selectors() -> Vec<String> {
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for known in KNOWN {
        by_key.entry(known.key).or_default().extend(known.values);
    }
    // `app.kubernetes.io/name=thanos` with component query is the chart's other spelling.
    by_key.entry("app.kubernetes.io/name").or_default().push("thanos");
    by_key
        .into_iter()
        .map(|(key, values)| format!("{key} in ({})", values.join(",")))
        .collect()
}

/// Where charts, operators and distributions put a store by their own documentation: kube-prometheus-stack, Prometheus
/// Operator's and Bitnami's examples, Thanos, VictoriaMetrics, Mimir, Rancher, OpenShift, GKE.
pub(crate) const MONITORING: &[&str] = &[
    "monitoring",
    "prometheus",
    "observability",
    "kube-prometheus-stack",
    "thanos",
    "victoria-metrics",
    "vm",
    "mimir",
    "cattle-monitoring-system",
    "openshift-monitoring",
    "openshift-user-workload-monitoring",
    "gmp-public",
];

/// Namespaces that operators of the cluster keep for themselves, by their names.
fn is_monitoring(namespace: &str) -> bool {
    const PARTS: &[&str] = &[
        "monitor",
        "prometheus",
        "observability",
        "thanos",
        "mimir",
        "victoria",
        "metrics",
    ];
    MONITORING.contains(&namespace)
        || namespace
            .split('-')
            .any(|part| PARTS.iter().any(|p| part.starts_with(p)))
}

/// Below which paths stores have Prometheus' API: most, Mimir, VictoriaMetrics' vmselect.
pub(crate) const PREFIXES: [&str; 3] = ["", "/prometheus", "/select/0/prometheus"];

/// What a search came upon.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) found: Vec<Candidate>,
    /// Services of all namespaces may not be listed: those whose were, and those that refused too.
    pub(super) partly: Option<(Vec<String>, Vec<String>)>,
}

/// Lists services by label: of the cluster, or where that is refused of the namespaces that a store may be in.
pub(super) async fn candidates(api: &Api, namespaces: &[String]) -> Result<Search, ReadError> {
    let mut search = Search::default();
    match labelled(api, None).await {
        Ok(found) => search.found = found,
        Err(error) if error.is_forbidden() => {
            let usual = MONITORING.iter().map(|n| (*n).to_string());
            let mut places: Vec<String> = namespaces.to_vec();
            places.extend(usual.filter(|n| !namespaces.contains(n)));
            let places: Vec<Name> = places.iter().filter_map(|n| Name::parse(n).ok()).collect();
            let reads = places.iter().map(|n| labelled(api, Some(n)));
            let (mut looked, mut refused) = (Vec::new(), Vec::new());
            for (place, read) in places.iter().zip(futures::future::join_all(reads).await) {
                match read {
                    Ok(found) => {
                        looked.push(place.as_str().to_string());
                        search.found.extend(found);
                    }
                    Err(error) if error.is_forbidden() => refused.push(place.as_str().to_string()),
                    Err(error) => return Err(error),
                }
            }
            search.partly = Some((looked, refused));
        }
        Err(error) => return Err(error),
    }
    search.found.sort();
    search
        .found
        .dedup_by(|a, b| a.namespace == b.namespace && a.service == b.service);
    Ok(search)
}

async fn labelled(api: &Api, namespace: Option<&Name>) -> Result<Vec<Candidate>, ReadError> {
    let mut found = Vec::new();
    for selector in selectors() {
        let list = namespace.map_or(List::all(SERVICES), |ns| List::within(SERVICES, ns));
        let list = list.matching("labelSelector", &selector);
        let services = api.list(&list, |service: RawService| candidate(&service)).await?;
        found.extend(services.items);
    }
    Ok(found)
}

fn candidate(service: &RawService) -> Option<Candidate> {
    let labels = &service.metadata.labels;
    let label = |key: &str| labels.get(key).map(String::as_str);
    let component = label("app.kubernetes.io/component")
        .or(label("component"))
        .unwrap_or_default();
    if NOT_QUERIERS.contains(&component) {
        return None;
    }
    let flavour = if label("app.kubernetes.io/name") == Some("thanos") && component.starts_with("query") {
        Flavour::Thanos
    } else {
        KNOWN
            .iter()
            .find(|k| label(k.key).is_some_and(|v| k.values.contains(&v)))?
            .flavour
    };
    if flavour == Flavour::Mimir && !matches!(component, "query-frontend" | "gateway" | "nginx" | "") {
        return None;
    }
    let usual: &[u16] = match flavour {
        Flavour::Thanos => &[9090, 10902, 9091, 80],
        Flavour::Mimir => &[8080, 80],
        Flavour::VmSelect => &[8481],
        Flavour::VmSingle => &[8428, 8429],
        Flavour::Prometheus => &[9090, 80],
    };
    let ports = &service.spec.ports;
    let named = |p: &&RawPort| {
        p.name
            .as_deref()
            .is_some_and(|n| matches!(n, "http" | "web" | "http-web" | "https" | "http-metrics"))
    };
    let port = usual
        .iter()
        .find_map(|u| ports.iter().find(|p| p.port == *u))
        .or_else(|| ports.iter().find(named))
        .or_else(|| {
            ports
                .iter()
                .find(|p| !p.name.as_deref().is_some_and(|n| n.contains("grpc")))
        })?;
    Some(Candidate {
        anybodys: !is_monitoring(&service.metadata.namespace),
        flavour,
        namespace: Name::parse(&service.metadata.namespace).ok()?,
        service: Name::parse(&service.metadata.name).ok()?,
        port: port.port,
        https: port.port == 443 || port.name.as_deref() == Some("https"),
    })
}

impl Candidate {
    pub(super) fn name(&self) -> String {
        format!("{}/{}:{}", self.namespace.as_str(), self.service.as_str(), self.port)
    }

    /// The API's path prefix below the proxy.
    fn prefix(&self) -> &'static str {
        let [plain, mimir, select] = PREFIXES;
        match self.flavour {
            Flavour::VmSelect => select,
            Flavour::Mimir => mimir,
            _ => plain,
        }
    }

    pub(super) fn store(&self, api: &Api, timeout: Duration) -> Store {
        let path = ApiPath::of_service(&self.namespace, self.https, &self.service, self.port, self.prefix());
        let mut store = Store::new(
            Place::Proxy {
                api: Api { timeout, ..api.clone() },
                path,
            },
            self.name(),
            timeout,
        );
        store.tenant = self.flavour == Flavour::Mimir;
        store
    }

    /// What to run and which flag to give where the proxy does not do.
    pub(super) fn way_round(&self, with_token: bool) -> String {
        let (scheme, local) = (if self.https { "https" } else { "http" }, 19090);
        let token = if with_token {
            " --prometheus-token-file FILE"
        } else {
            ""
        };
        format!(
            "'kubectl port-forward -n {} svc/{} {local}:{}', then '--prometheus {scheme}://127.0.0.1:{local}{}{token}'",
            self.namespace.as_str(),
            self.service.as_str(),
            self.port,
            self.prefix()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(labels: &[(&str, &str)], ports: &[(&str, u16)]) -> RawService {
        RawService {
            metadata: {
                let mut meta = RawMeta::default();
                (meta.name, meta.namespace) = ("s".into(), "monitoring".into());
                meta.labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
                meta
            },
            spec: Spec {
                ports: ports
                    .iter()
                    .map(|(n, p)| RawPort {
                        name: Some(n.to_string()),
                        port: *p,
                    })
                    .collect(),
            },
        }
    }

    #[test]
    fn monitorings_own_store_stands_before_anybodys() {
        let of = |namespace: &str, label: &str| {
            let mut one = service(&[("app.kubernetes.io/name", label)], &[("http", 9090)]);
            one.metadata.namespace = namespace.into();
            candidate(&one).unwrap()
        };
        let mut all = [
            of("team-a", "thanos-query"),
            of("monitoring", "prometheus"),
            of("vm", "vmsingle"),
            of("cattle-monitoring-system", "prometheus"),
        ];
        all.sort();
        let places: Vec<&str> = all.iter().map(|c| c.namespace.as_str()).collect();
        assert_eq!(places, ["vm", "cattle-monitoring-system", "monitoring", "team-a"]);
        assert_eq!(all.iter().filter(|c| c.anybodys).count(), 1);
    }

    #[test]
    fn queriers_are_told_from_the_rest_of_their_charts() {
        let name = "app.kubernetes.io/name";
        let part = "app.kubernetes.io/component";
        let found = |labels: &[(&str, &str)], ports: &[(&str, u16)]| {
            candidate(&service(labels, ports)).map(|c| (c.flavour, c.port))
        };
        assert_eq!(
            found(
                &[("app", "kube-prometheus-stack-prometheus")],
                &[("http-web", 9090), ("reloader-web", 8080)]
            ),
            Some((Flavour::Prometheus, 9090))
        );
        assert_eq!(
            found(
                &[(name, "thanos"), (part, "query")],
                &[("grpc", 10901), ("http", 10902)]
            ),
            Some((Flavour::Thanos, 10902))
        );
        assert_eq!(
            found(&[(name, "prometheus"), (part, "alertmanager")], &[("http", 9093)]),
            None
        );
        assert_eq!(found(&[(name, "mimir"), (part, "ingester")], &[("http", 8080)]), None);
        assert_eq!(
            found(&[(name, "vmselect")], &[("http", 8481)]),
            Some((Flavour::VmSelect, 8481))
        );
        assert_eq!(found(&[(name, "grafana")], &[("http", 80)]), None);
    }
}
