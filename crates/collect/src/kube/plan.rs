//! What one run may ask an API server, made of its options: `--dry-run` prints it, `rbac` grants it, and an [`super::api::Api`]
//! sends nothing else. What is not printed cannot be read.

use super::path::{ApiPath, Resource, is_version};
use super::rights::{self, PROXIED_STORE, Right, SERVICES};
use super::{config_maps, dra, owners, pods};
use crate::engine::ENGINES;
use crate::options::{CollectOptions, StoreMode};
use crate::prometheus;
use std::collections::BTreeSet;

/// What may stand in the query of a list.
const LIST_KEYS: &[&str] = &["limit", "continue", "fieldSelector", "labelSelector"];

/// One kind of request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The path; a word in capitals stands for any one segment (or part of it) that an object may be called.
    path: String,
    /// As it is printed: with `limit`, or with a selector; "[a|b]" stands for one of them or nothing.
    shown: String,
    verb: Verb,
    /// "nodes", "pods/proxy"; empty where no right is needed.
    resource: String,
    group: String,
    why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    List,
    /// Through a proxy: what follows is the other side's.
    Proxy,
    /// Open to everybody who is known.
    Open,
}

/// All that a run may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    asks: Vec<Ask>,
}

impl Plan {
    /// The one place that says what the reads in this folder, of `scrape` and of `prometheus` ask for.
    pub fn of(options: &CollectOptions) -> Self {
        let mut plan = Self::default();
        plan.open("/version", "which version it is");
        plan.open("/apis", "which API groups it serves");
        for right in rights::reads() {
            plan.reads(&right, options);
        }
        let of_maps = "server settings that stand there, where 'rbac --with configmaps=NAMESPACE/NAME' grants it";
        plan.one(&config_maps::CONFIG_MAPS, of_maps);
        if options.scrape {
            let twice = match options.observe_seconds() {
                Some(seconds) => format!("; twice, {seconds} s apart"),
                None => String::new(),
            };
            for page in pages() {
                let path = format!("/api/v1/namespaces/NAMESPACE/pods/POD:PORT/proxy{page}");
                let why = format!("{}{twice}", rights::SCRAPE.why);
                plan.proxy(path.clone(), path, rights::SCRAPE.resource.plural, why);
            }
        }
        if options.store.mode == StoreMode::Auto {
            let [_, mimir, select] = prometheus::find::PREFIXES;
            let others = format!("{mimir}|{select}");
            for scheme in ["", "https:"] {
                for prefix in prometheus::find::PREFIXES {
                    for (path, why) in prometheus::PATHS {
                        let service = "/api/v1/namespaces/NAMESPACE/services";
                        let shown = format!("{service}/[https:]NAME:PORT/proxy[{others}]{path}");
                        let path = format!("{service}/{scheme}NAME:PORT/proxy{prefix}{path}");
                        plan.proxy(path, shown, PROXIED_STORE, (*why).into());
                    }
                }
            }
        }
        plan
    }

    fn reads(&mut self, right: &Right, options: &CollectOptions) {
        let resource = &right.resource;
        let named = |list: &'static str| format!("{}{list}", right.why);
        if *resource == SERVICES {
            if options.store.mode == StoreMode::Auto {
                let selected = "?labelSelector=LABELS&limit=500";
                self.list(&resource.all(), selected, resource, named(""));
                let places = options.namespaces.iter().map(String::as_str);
                let usual = prometheus::find::MONITORING.iter().copied();
                for namespace in places.chain(usual).collect::<BTreeSet<_>>() {
                    self.listed_within(namespace, selected, resource, &named("; where all may not be listed"));
                }
            }
            return;
        }
        if let Some(name) = right.name {
            self.ask(
                format!("{}/{name}", resource.all()),
                "",
                Verb::Get,
                resource,
                right.why.into(),
            );
            return;
        }
        let owner = owners::KINDS.iter().find(|k| k.resource == *resource);
        let placed = root(resource);
        let list = named(if owner.is_some() {
            "; where more than 60 are named, or one is gone"
        } else {
            ""
        });
        if let Some(kind) = owner {
            let of_one = format!("{placed}/namespaces/NAMESPACE/{}/NAME", resource.plural);
            self.ask(of_one, "", Verb::Get, &kind.resource, right.why.into());
            let within = format!("{placed}/namespaces/NAMESPACE/{}", resource.plural);
            self.ask(within, "?limit=500", Verb::List, &kind.resource, list.clone());
        }
        self.ask(
            format!("{placed}/{}", resource.plural),
            "?limit=500",
            Verb::List,
            resource,
            list,
        );
        if *resource == pods::PODS {
            self.pods(resource, options);
        }
        // One of `-n` is read alone where all together may not be.
        if !right.cluster_wide && owner.is_none() {
            for namespace in &options.namespaces {
                let path = format!("{placed}/namespaces/{namespace}/{}", resource.plural);
                let why = named("; where those of all namespaces may not be listed");
                self.ask(path, "?limit=500", Verb::List, resource, why);
            }
        }
    }

    fn pods(&mut self, resource: &Resource<'_>, options: &CollectOptions) {
        let sparse = "who holds which GPU; instead, where few nodes have GPUs: of each that does, and of none";
        self.list(
            &resource.all(),
            "?fieldSelector=spec.nodeName=NODE&limit=500",
            resource,
            sparse.into(),
        );
        self.list(
            &resource.all(),
            "?labelSelector=SELECTOR&limit=500",
            resource,
            "where pods are spread over zones: whether such pods are on nodes without GPUs, too".into(),
        );
        if let Some(selector) = &options.selector {
            let (query, why) = (format!("?labelSelector={selector}&limit=500"), "whom -l selects");
            if options.namespaces.is_empty() {
                self.list(&resource.all(), &query, resource, why.into());
            }
            for namespace in &options.namespaces {
                self.listed_within(namespace, &query, resource, why);
            }
        }
    }

    fn listed_within(&mut self, namespace: &str, query: &str, resource: &Resource<'_>, why: &str) {
        let path = format!("{}/namespaces/{namespace}/{}", root(resource), resource.plural);
        self.ask(path, query, Verb::List, resource, why.into());
    }

    fn list(&mut self, path: &ApiPath, query: &str, resource: &Resource<'_>, why: String) {
        self.ask(path.to_string(), query, Verb::List, resource, why);
    }

    fn one(&mut self, resource: &Resource<'_>, why: &str) {
        let path = format!("{}/namespaces/NAMESPACE/{}/NAME", root(resource), resource.plural);
        self.ask(path, "", Verb::Get, resource, why.into());
    }

    fn open(&mut self, path: &str, why: &str) {
        let none = Resource::new("", "", "", "");
        self.ask(path.into(), "", Verb::Open, &none, why.into());
    }

    fn proxy(&mut self, path: String, shown: String, resource: &'static str, why: String) {
        let proxied = Resource::new("", "v1", resource, "");
        self.ask(path, "", Verb::Proxy, &proxied, why);
        if let Some(ask) = self.asks.last_mut() {
            ask.shown = shown;
        }
    }

    fn ask(&mut self, path: String, query: &str, verb: Verb, resource: &Resource<'_>, why: String) {
        self.asks.push(Ask {
            shown: format!("{path}{query}"),
            path,
            verb,
            resource: resource.plural.into(),
            group: resource.group.into(),
            why,
        });
    }

    /// Whether a request is one of these.
    pub(super) fn allows(&self, path: &ApiPath) -> bool {
        let keys = |verb: Verb| match verb {
            Verb::Proxy => true,
            Verb::List => path.keys().all(|k| LIST_KEYS.contains(&k)),
            Verb::Get | Verb::Open => path.keys().next().is_none(),
        };
        self.asks.iter().any(|a| fits(&a.path, path.path()) && keys(a.verb))
    }

    /// "GET /api/v1/nodes?limit=500  # list nodes: GPUs, prices, health", one a kind of request.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ask in &self.asks {
            let right = match ask.verb {
                Verb::Open => "no right needed".to_string(),
                Verb::List => format!("list {}", ask.resource),
                Verb::Get | Verb::Proxy => format!("get {}", ask.resource),
            };
            let line = format!("GET {}  # {right}: {}", ask.shown, ask.why);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }

    /// Pages that are read of pods.
    pub fn pages(&self) -> impl Iterator<Item = &str> {
        let of_pods = self
            .asks
            .iter()
            .filter(|a| a.resource == rights::SCRAPE.resource.plural);
        of_pods.filter_map(|a| a.path.split_once("/proxy").map(|(_, page)| page))
    }

    /// (group, resource, verb) of all that a right is needed for.
    pub fn needed(&self) -> BTreeSet<(String, String, &'static str)> {
        let verb = |v: Verb| match v {
            Verb::Open => None,
            Verb::List => Some("list"),
            Verb::Get | Verb::Proxy => Some("get"),
        };
        let asks = self.asks.iter();
        asks.filter_map(|a| Some((a.group.clone(), a.resource.clone(), verb(a.verb)?)))
            .collect()
    }
}

/// "/apis/ray.io/VERSION": the version of what is not built in is the one that is served.
fn root(resource: &Resource<'_>) -> String {
    let own = owners::KINDS.iter().find(|k| k.resource == *resource);
    let open = resource.group == dra::GROUP || own.is_some_and(|k| !k.built_in);
    match resource.group {
        "" => format!("/api/{}", resource.version),
        group if open => format!("/apis/{group}/VERSION"),
        group => format!("/apis/{group}/{}", resource.version),
    }
}

/// Pages of exporters and engines.
fn pages() -> BTreeSet<&'static str> {
    let of_engines = ENGINES.engines().iter().flat_map(|engine| {
        let endpoints = &engine.facts().endpoints;
        let metrics = endpoints
            .metrics
            .into_iter()
            .chain(endpoints.other_metrics.iter().copied());
        metrics.chain(endpoints.identity_paths())
    });
    of_engines.chain(["/metrics"]).collect()
}

/// A path fits a pattern segment by segment.
fn fits(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(p), Some(s)) if segment_fits(p, s) => {}
            _ => return false,
        }
    }
}

/// "NAME" is any name, "VERSION" any version, "https:NAME:PORT" what looks so; everything else is itself.
fn segment_fits(pattern: &str, segment: &str) -> bool {
    let plain = |s: &str| !s.is_empty() && !matches!(s, "." | "..") && !s.contains([':', '%']);
    let port = |s: &str| s.parse::<u16>().is_ok();
    let two = |s: &str| {
        s.rsplit_once(':')
            .is_some_and(|(name, number)| plain(name) && port(number))
    };
    match pattern {
        "NAMESPACE" | "NAME" => plain(segment),
        "VERSION" => is_version(segment),
        "POD:PORT" | "NAME:PORT" => two(segment),
        "https:NAME:PORT" => segment.strip_prefix("https:").is_some_and(two),
        own => own == segment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::path::Name;
    use crate::kube::rights::SCRAPE;

    fn options() -> CollectOptions {
        CollectOptions {
            namespaces: vec!["ml".into()],
            selector: Some("app=web".into()),
            ..CollectOptions::test()
        }
    }

    #[test]
    fn rights_are_what_a_run_may_need_and_nothing_else() {
        let needed = Plan::of(&options()).needed();
        let mut granted: BTreeSet<(String, String, &str)> = BTreeSet::new();
        for right in rights::reads().iter().chain([&SCRAPE]) {
            for verb in right.verbs {
                granted.insert((right.resource.group.into(), right.resource.plural.into(), *verb));
            }
        }
        granted.insert((String::new(), "configmaps".into(), "get"));
        granted.insert((String::new(), PROXIED_STORE.into(), "get"));
        assert_eq!(needed, granted);
    }

    #[test]
    fn only_what_was_planned_may_be_asked() {
        let plan = Plan::of(&options());
        let (ml, web) = (Name::parse("ml").unwrap(), Name::parse("web").unwrap());
        let pods = pods::PODS;
        for path in [
            pods.all().with("limit", "500").with("continue", "a?b"),
            pods.all().with("fieldSelector", "spec.nodeName=gpu-1"),
            pods.within(&ml).with("limit", "500"),
            ApiPath::of_pod(&ml, &web, 8000, "/metrics"),
            ApiPath::of_service(&ml, true, &web, 9090, "/prometheus").below("/api/v1/query"),
            owners::KINDS[1].resource.one(Some(&ml), &web),
        ] {
            assert!(plan.allows(&path), "{path}");
        }
        for path in [
            pods.all().with("watch", "true"),
            pods.one(Some(&ml), &web),
            pods.within(&web),
            ApiPath::of_pod(&ml, &web, 8000, "/shutdown"),
            ApiPath::of_service(&ml, false, &web, 9090, "").below("/api/v1/admin/tsdb/snapshot"),
            Resource::new("", "v1", "secrets", "Secret").within(&ml),
        ] {
            assert!(!plan.allows(&path), "{path}");
        }
        let none = Plan::of(&CollectOptions {
            scrape: false,
            store: crate::options::StoreOptions {
                mode: StoreMode::None,
                ..Default::default()
            },
            ..CollectOptions::test()
        });
        assert!(!none.allows(&ApiPath::of_pod(&ml, &web, 8000, "/metrics")));
        assert!(!none.allows(&SERVICES.all()) && !none.allows(&pods.within(&ml)));
        assert!(!none.lines().iter().any(|l| l.contains("proxy")), "{:?}", none.lines());
    }
}
