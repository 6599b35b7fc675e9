//! What custom resources say of the servers in their pods, written into the pods' settings. The resources are dropped.

use crate::engine;
use crate::manifests::{Described, described};
use crate::snapshot::cluster::{Container, Pod, PodPhase};
use crate::snapshot::server::{EngineKind, EngineSettings};
use serde_json::Value;
use std::collections::HashMap;

/// KubeRay's port for metrics, the same on every Ray pod (its samples, and Ray's `--metrics-export-port` there).
const RAY_METRICS: u16 = 8080;

/// Fills in what the pods' own containers leave open.
pub(super) fn apply(pods: &mut [Pod], objects: &[Value]) {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let known: HashMap<(String, String, String), Described> = objects
        .iter()
        .map(|o| {
            let key = (
                text(&o["kind"]),
                text(&o["metadata"]["namespace"]),
                text(&o["metadata"]["name"]),
            );
            (key, described(o))
        })
        .collect();
    for pod in pods.iter_mut().filter(|p| p.phase != PodPhase::Succeeded) {
        let chain: Vec<_> = pod.owner_above().into_iter().collect();
        let named = pod.owners_by_label(&chain);
        let claims = !pod.resource_claims.is_empty();
        for owner in chain.iter().chain(&named) {
            let key = (owner.kind.clone(), pod.namespace.clone(), owner.name.clone());
            let described = known.get(&key);
            for container in pod
                .containers
                .iter_mut()
                .filter(|c| claims || !c.requests.devices.is_empty())
            {
                if owner.kind == "RayService" {
                    ray(container, described.and_then(|d| d.server.as_ref()));
                }
                if let Some(model) = described.and_then(|d| d.model.as_ref())
                    && let Some(settings) = &mut container.server
                {
                    engine::mounted(settings, model);
                }
            }
        }
    }
}

/// A Ray pod runs `ray start`, whatever it serves. Without the RayService its metrics alone tell what that is.
fn ray(container: &mut Container, server: Option<&EngineSettings>) {
    let own = container.server.as_ref().and_then(|s| s.engine);
    if container.role.is_some() || own.is_some_and(|e| e != EngineKind::RayServe) {
        return;
    }
    let named = container
        .ports
        .iter()
        .find(|p| p.name.as_deref().is_some_and(|n| n.contains("metrics")));
    let mut settings = server.cloned().unwrap_or_else(|| EngineSettings {
        engine: Some(EngineKind::RayServe),
        ..EngineSettings::default()
    });
    settings.port = Some(named.map_or(RAY_METRICS, |p| p.number));
    settings.ray = true;
    container.server = Some(Box::new(settings));
}
