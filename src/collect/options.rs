//! What to read, settled from the flags.

use crate::snapshot::history::BinLimits;
use std::path::PathBuf;
use std::time::Duration;

/// Settled options of a collection.
#[derive(Clone, Debug)]
pub(crate) struct CollectOptions {
    /// Contexts by name; empty: the current one.
    pub(crate) contexts: Vec<String>,
    pub(crate) all_contexts: bool,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) selector: Option<String>,
    pub(crate) cluster_name: Option<String>,
    /// Read exporters and engines through the pod proxy.
    pub(crate) scrape: bool,
    pub(crate) scrape_budget: Duration,
    /// Time between two passes; zero: one pass.
    pub(crate) observe: Duration,
    /// Of one request.
    pub(crate) timeout: Duration,
    /// Where history is read, and of how long.
    pub(crate) store: StoreOptions,
    pub(crate) window: Duration,
    /// What a bad bin is.
    pub(crate) limits: BinLimits,
    /// Labels to keep beside the allow-list (ownership, group-by).
    pub(crate) keep_labels: Vec<String>,
    /// Instance types known to have GPUs: a node whose device plugin is down is still a GPU node.
    pub(crate) is_gpu_instance: fn(&str) -> bool,
}

/// `--prometheus` and what belongs to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreOptions {
    pub(crate) mode: StoreMode,
    /// Matchers that every selector gets: `cluster="prod"`.
    pub(crate) matcher: Option<String>,
    pub(crate) auth: StoreAuth,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum StoreMode {
    /// Look for one in each cluster.
    #[default]
    Auto,
    None,
    /// Without a trailing path below the API.
    Url(String),
}

/// How a named store wants to be asked. Never printed: `Debug` shows which kinds are set at most.
#[derive(Clone, Default)]
pub(crate) struct StoreAuth {
    /// "NAME: VALUE".
    pub(crate) headers: Vec<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) user: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) client_cert: Option<PathBuf>,
    pub(crate) client_key: Option<PathBuf>,
    /// Requests are signed for Amazon Managed Service for Prometheus.
    pub(crate) sigv4_region: Option<String>,
}

impl std::fmt::Debug for StoreAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreAuth").finish_non_exhaustive()
    }
}

impl CollectOptions {
    pub(crate) fn observe_seconds(&self) -> Option<u64> {
        (self.scrape && !self.observe.is_zero()).then_some(self.observe.as_secs())
    }
}

/// Connecting takes at most this long, whatever the request's own limit.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
