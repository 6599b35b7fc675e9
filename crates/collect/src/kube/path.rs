//! Paths below an API server. They are built here and nowhere else, of parts that are Kubernetes names: nothing that a
//! tenant may call something can reach another resource or verb.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt;

/// Longest name of an object (Kubernetes: DNS subdomain, 253 characters).
const LONGEST: usize = 253;

/// What may stand in a path segment as it is (RFC 3986, unreserved). A checked name holds nothing else: the second lock.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Text that is no name, made harmless and short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddName(String);

impl fmt::Display for OddName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is no Kubernetes name", self.0)
    }
}

impl std::error::Error for OddName {}

/// A name of an object or a namespace: lower-case DNS labels, joined by dots. All kinds that are read demand it, and no
/// path segment needs more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// # Errors
    /// Anything that Kubernetes would not have accepted as a name.
    pub fn parse(text: &str) -> Result<Self, OddName> {
        if is_name(text) {
            Ok(Self(text.into()))
        } else {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
            Err(OddName(shown))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A DNS-1123 subdomain, as the API server validates names.
pub fn is_name(text: &str) -> bool {
    let label = |l: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !l.is_empty() && l.bytes().all(inner) && !l.starts_with('-') && !l.ends_with('-')
    };
    text.len() <= LONGEST && text.split('.').all(label)
}

/// "v1", "v1beta2", "v2alpha1": what may stand where a version does.
pub fn is_version(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('v') else {
        return false;
    };
    let number = |t: &str| !t.is_empty() && t.len() <= 4 && t.bytes().all(|b| b.is_ascii_digit());
    ["alpha", "beta"]
        .iter()
        .find_map(|word| rest.split_once(word))
        .map_or_else(|| number(rest), |(major, minor)| number(major) && number(minor))
}

/// A kind of objects: where they are, and what answers must call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource<'a> {
    /// Empty: the core group.
    pub group: &'a str,
    pub version: &'a str,
    pub plural: &'a str,
    /// Of one object; a list's is this with "List".
    pub kind: &'a str,
}

impl<'a> Resource<'a> {
    pub const fn new(group: &'a str, version: &'a str, plural: &'a str, kind: &'a str) -> Self {
        Self {
            group,
            version,
            plural,
            kind,
        }
    }

    /// The same in another version, which must be one by [`is_version`].
    pub fn at(self, version: &'a str) -> Self {
        Self { version, ..self }
    }

    /// As answers name it: "v1", "apps/v1".
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.into(),
            group => format!("{group}/{}", self.version),
        }
    }

    fn root(&self) -> String {
        match self.group {
            "" => format!("/api/{}", segment(self.version)),
            group => format!("/apis/{}/{}", segment(group), segment(self.version)),
        }
    }

    /// All objects of the cluster.
    pub fn all(&self) -> ApiPath {
        ApiPath(format!("{}/{}", self.root(), segment(self.plural)))
    }

    pub fn within(&self, namespace: &Name) -> ApiPath {
        let (root, plural) = (self.root(), segment(self.plural));
        ApiPath(format!("{root}/namespaces/{}/{plural}", segment(namespace.as_str())))
    }

    /// One object; without a namespace: one that belongs to the cluster.
    pub fn one(&self, namespace: Option<&Name>, name: &Name) -> ApiPath {
        let folder = namespace.map_or_else(|| self.all(), |ns| self.within(ns));
        ApiPath(format!("{}/{}", folder.0, segment(name.as_str())))
    }
}

fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A path and query of one GET.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiPath(String);

impl ApiPath {
    /// Written down here, with no part of it from outside.
    pub fn fixed(path: &'static str) -> Self {
        Self(path.into())
    }

    /// A page of a pod, through the API server.
    pub fn of_pod(namespace: &Name, pod: &Name, port: u16, page: &'static str) -> Self {
        let (namespace, pod) = (segment(namespace.as_str()), segment(pod.as_str()));
        Self(format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{page}"))
    }

    /// A service's folder, through the API server; [`Self::below`] goes on.
    pub fn of_service(namespace: &Name, https: bool, service: &Name, port: u16, folder: &'static str) -> Self {
        let (namespace, service) = (segment(namespace.as_str()), segment(service.as_str()));
        let scheme = if https { "https:" } else { "" };
        Self(format!(
            "/api/v1/namespaces/{namespace}/services/{scheme}{service}:{port}/proxy{folder}"
        ))
    }

    /// Further segments; each is encoded, whatever it holds.
    pub fn below(&self, path: &str) -> Self {
        let parts: Vec<String> = path
            .split('/')
            .filter(|p| !matches!(*p, "." | ".."))
            .map(segment)
            .collect();
        Self(format!("{}{}", self.0, parts.join("/")))
    }

    /// A parameter; the value is encoded, whatever it holds.
    #[must_use]
    pub fn with(self, key: &'static str, value: &str) -> Self {
        let sign = if self.0.contains('?') { '&' } else { '?' };
        Self(format!(
            "{}{sign}{key}={}",
            self.0,
            utf8_percent_encode(value, NON_ALPHANUMERIC)
        ))
    }

    /// A query that is encoded already.
    #[must_use]
    pub fn with_form(self, form: &str) -> Self {
        let sign = if form.is_empty() { "" } else { "?" };
        Self(format!("{}{sign}{form}", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names of the query's parameters.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let query = self.0.split_once('?').map_or("", |(_, query)| query);
        let parts = query.split('&').filter(|p| !p.is_empty());
        parts.map(|p| p.split_once('=').map_or(p, |(key, _)| key))
    }

    /// Without the query.
    pub fn path(&self) -> &str {
        self.0.split('?').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PODS: Resource<'_> = Resource::new("", "v1", "pods", "Pod");

    #[test]
    fn names_are_what_the_api_server_would_accept() {
        for good in ["a", "web-5d9c", "ip-10-0-0-1.eu-west-1.compute.internal", "0"] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(254);
        for odd in [
            "",
            ".",
            "..",
            "a..b",
            "-a",
            "a-",
            "A",
            "x y",
            "a/b",
            "a%2Fb",
            "?watch=true&x=",
            "../secrets/db",
            "a\n",
            "ä",
            "a:b",
            &long,
        ] {
            assert!(Name::parse(odd).is_err(), "{odd:?}");
        }
        for (text, is) in [
            ("v1", true),
            ("v1beta2", true),
            ("v2alpha10", true),
            ("1", false),
            ("v", false),
            ("v1/..", false),
        ] {
            assert_eq!(is_version(text), is, "{text}");
        }
    }

    #[test]
    fn paths_are_kubernetes_own() {
        let name = |t: &str| Name::parse(t).unwrap();
        assert_eq!(PODS.all().as_str(), "/api/v1/pods");
        assert_eq!(PODS.within(&name("ml")).as_str(), "/api/v1/namespaces/ml/pods");
        let deployments = Resource::new("apps", "v1", "deployments", "Deployment");
        assert_eq!(
            deployments.one(Some(&name("ml")), &name("web")).as_str(),
            "/apis/apps/v1/namespaces/ml/deployments/web"
        );
        assert_eq!(
            PODS.all().with("continue", "a+b=").with("limit", "5").as_str(),
            "/api/v1/pods?continue=a%2Bb%3D&limit=5"
        );
        assert_eq!(
            ApiPath::of_pod(&name("ml"), &name("p"), 8000, "/metrics").as_str(),
            "/api/v1/namespaces/ml/pods/p:8000/proxy/metrics"
        );
        let store = ApiPath::of_service(&name("mon"), true, &name("prom"), 9090, "/prometheus");
        assert_eq!(
            store.below("/api/v1/label/x?y/values").as_str(),
            "/api/v1/namespaces/mon/services/https:prom:9090/proxy/prometheus/api/v1/label/x%3Fy/values"
        );
    }

    proptest! {
        /// Whatever it is called: it is refused, or it is one segment of the path that was meant.
        #[test]
        fn no_name_leaves_its_segment(text in "\\PC{0,12}|[a-z.%/?#&=:@ -]{0,12}") {
            if let Ok(name) = Name::parse(&text) {
                let path = PODS.one(Some(&name), &name);
                let parts: Vec<&str> = path.as_str().split('/').collect();
                prop_assert_eq!(parts, ["", "api", "v1", "namespaces", &text, "pods", &text]);
            }
        }

        /// A value of a query stays one, and what goes below a service stays below it.
        #[test]
        fn no_value_leaves_its_place(text in "\\PC{0,20}") {
            let path = PODS.all().with("labelSelector", &text);
            prop_assert_eq!(path.as_str().matches(['?', '&', '#']).count(), 1);
            prop_assert_eq!(path.path(), "/api/v1/pods");
            let store = ApiPath::of_service(&Name::parse("m").unwrap(), false, &Name::parse("s").unwrap(), 80, "");
            let below = store.below(&text);
            prop_assert_eq!(below.as_str().matches(['?', '&', '#', ' ']).count(), 0);
        }
    }
}
