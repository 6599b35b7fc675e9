//! What to read, settled from the flags.

use crate::snapshot::history::BinLimits;
use std::path::PathBuf;
use std::time::Duration;

/// Settled options of a collection.
#[derive(Clone, Debug)]
pub struct CollectOptions {
    /// Contexts by name; empty: the current one.
    pub contexts: Vec<String>,
    pub all_contexts: bool,
    pub kubeconfig: Option<PathBuf>,
    pub namespaces: Vec<String>,
    pub selector: Option<String>,
    pub cluster_name: Option<String>,
    /// Read exporters and engines through the pod proxy.
    pub scrape: bool,
    pub scrape_budget: Duration,
    /// Time between two passes; zero: one pass.
    pub observe: Duration,
    /// Of one request.
    pub timeout: Duration,
    /// Where history is read, and of how long.
    pub store: StoreOptions,
    pub window: Duration,
    /// What a bad bin is.
    pub limits: BinLimits,
    /// Labels to keep beside the allow-list (ownership, group-by).
    pub keep_labels: Vec<String>,
    /// Instance types known to have GPUs: a node whose device plugin is down is still a GPU node.
    pub is_gpu_instance: fn(&str) -> bool,
}

/// `--prometheus` and what belongs to it.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    pub mode: StoreMode,
    /// Matchers that every selector gets: `cluster="prod"`.
    pub matcher: Option<String>,
    pub auth: StoreAuth,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreMode {
    /// Look for one in each cluster.
    #[default]
    Auto,
    None,
    /// Without a trailing path below the API.
    Url(String),
}

/// How a named store wants to be asked. Never printed: `Debug` shows which kinds are set at most.
#[derive(Clone, Default)]
pub struct StoreAuth {
    /// "NAME: VALUE".
    pub headers: Vec<String>,
    pub token_file: Option<PathBuf>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub client_cert: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    /// Requests are signed for Amazon Managed Service for Prometheus.
    pub sigv4_region: Option<String>,
}

impl std::fmt::Debug for StoreAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreAuth").finish_non_exhaustive()
    }
}

impl CollectOptions {
    pub fn observe_seconds(&self) -> Option<u64> {
        (self.scrape && !self.observe.is_zero()).then_some(self.observe.as_secs())
    }
}

/// `NO_PROXY=*`: no proxy of the environment at all, for addresses either.
pub(crate) fn goes_without_proxies() -> bool {
    let set = |name: &&str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let named = ["NO_PROXY", "no_proxy"].iter().find_map(set).unwrap_or_default();
    named.split(',').any(|part| part.trim() == "*")
}

#[cfg(test)]
impl CollectOptions {
    /// As a plain scan has them.
    pub(crate) fn test() -> Self {
        Self {
            contexts: Vec::new(),
            all_contexts: false,
            kubeconfig: None,
            namespaces: Vec::new(),
            selector: None,
            cluster_name: None,
            scrape: true,
            scrape_budget: Duration::from_secs(60),
            observe: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            store: StoreOptions::default(),
            window: Duration::from_secs(7 * 86_400),
            limits: BinLimits::default(),
            keep_labels: Vec::new(),
            is_gpu_instance: |_| false,
        }
    }
}

/// Connecting takes at most this long, whatever the request's own limit.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
