//! Everything that is I/O: Kubernetes, exporters, engines. Fetch in a few lines, then pure parsing into the snapshot.
//!
//! The clock is read once, here; what cannot be read becomes a gap. How to add a source: docs/adding.md.

// Tests compare figures that must be exact.
#![cfg_attr(test, allow(clippy::float_cmp))]

pub mod bill;
pub mod held;
pub mod input;
pub mod kube;
pub mod local;
mod machine;
pub mod manifests;
pub mod models;
pub mod options;
pub mod progress;
pub mod prometheus;
mod scrape;
pub mod slurm;

use gpuwaste_catalog as catalog;
use gpuwaste_engine as engine;
use gpuwaste_facts::{snapshot, units};

use crate::snapshot::{SCHEMA, Snapshot, Source, SourceKind, SourceStatus};
use anyhow::{Result, bail};
use jiff::Timestamp;
use options::{CollectOptions, StoreMode};

/// Reads every context that was asked for, at once.
///
/// # Errors
/// When no context could be read at all; one that fails beside others is a failed source and a gap.
pub async fn collect(options: &CollectOptions) -> Result<Snapshot> {
    kube::check_names(options)?;
    // A credential plugin may wait for somebody to log in: it blocks, and Ctrl-C must still be heard.
    let known = options.clone();
    let targets = match tokio::task::spawn_blocking(move || kube::connect::targets(&known)).await? {
        Ok(targets) => targets,
        // No cluster, but a store: what it tells of hosts is a fleet, too.
        Err(error) if error.is::<kube::connect::NoCluster>() && matches!(options.store.mode, StoreMode::Url(_)) => {
            return prometheus::bare::collect(options).await;
        }
        Err(error) => return Err(error),
    };
    let taken_at = Timestamp::now();
    let reads = targets.into_iter().map(|target| async move {
        let read = match &target.client {
            Ok(client) => kube::read_cluster(client, &target, options, taken_at).await,
            Err(error) => Err(error.clone()),
        };
        progress::at(&target.name, "");
        (target, read)
    });
    let mut snapshot = Snapshot {
        schema: SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        taken_at,
        window_seconds: None,
        observe_seconds: options.observe_seconds(),
        clusters: Vec::new(),
        sources: Vec::new(),
        gaps: Vec::new(),
    };
    let mut failures = Vec::new();
    for (target, read) in futures::future::join_all(reads).await {
        match read {
            Ok(read) => {
                snapshot.sources.push(Source {
                    kind: SourceKind::Kubernetes,
                    name: target.name.clone(),
                    status: if read.gaps.is_empty() {
                        SourceStatus::Ok
                    } else {
                        SourceStatus::Partial
                    },
                    detail: read.detail,
                    named: target.named,
                });
                snapshot.sources.extend(read.sources);
                snapshot.gaps.extend(read.gaps);
                snapshot.gaps.extend(read.history.gaps);
                snapshot.sources.extend(read.history.sources);
                if read.cluster.history.is_some() {
                    snapshot.window_seconds = Some(options.window.as_secs());
                }
                snapshot.clusters.push(read.cluster);
            }
            Err(error) => {
                failures.push(format!("context '{}': {error}", target.name));
                snapshot.gaps.push(error.gap(
                    &format!("kubernetes {}", target.name),
                    "the whole cluster",
                    "nothing of this cluster is in the report",
                ));
                snapshot.sources.push(Source {
                    kind: SourceKind::Kubernetes,
                    name: target.name,
                    status: SourceStatus::Failed,
                    detail: error.to_string(),
                    named: target.named,
                });
            }
        }
    }
    if snapshot.clusters.is_empty() {
        bail!("nothing could be read\n  {}", failures.join("\n  "));
    }
    snapshot.gaps.sort();
    snapshot.gaps.dedup();
    Ok(snapshot)
}
