//! What to read, settled from the flags.

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
    /// Labels to keep beside the allow-list (ownership, group-by).
    pub(crate) keep_labels: Vec<String>,
    /// Instance types known to have GPUs: a node whose device plugin is down is still a GPU node.
    pub(crate) is_gpu_instance: fn(&str) -> bool,
}

impl CollectOptions {
    pub(crate) fn observe_seconds(&self) -> Option<u64> {
        (self.scrape && !self.observe.is_zero()).then_some(self.observe.as_secs())
    }
}

/// Connecting takes at most this long, whatever the request's own limit.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
