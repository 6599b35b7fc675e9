//! Ways out that an administrator of the cluster gives. Each stands once: what nobody can grant, since there is no cluster, is
//! told otherwise.

pub(super) const READ: &str = "grant what 'gpuwaste rbac' prints";
pub(super) const PAGES: &str = "grant pods/proxy ('gpuwaste rbac --with scrape --namespace NS')";
pub(super) const PAGES_OR_STORE: &str =
    "give Prometheus, or grant pods/proxy ('gpuwaste rbac --with scrape --namespace NS')";

/// Whether a remedy is one of these.
pub(crate) fn grants(remedy: &str) -> bool {
    [READ, PAGES, PAGES_OR_STORE].contains(&remedy)
}
