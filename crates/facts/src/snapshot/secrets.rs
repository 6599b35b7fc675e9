//! What a snapshot holds of texts that may be URLs: credentials, signatures and tokens stay behind.

use super::server::EngineSettings;
use super::{Gap, Snapshot, Source};
use crate::text::without_secrets;

/// Takes secrets out of everything in which a URL, an argument or an error may stand.
pub fn scrub(snapshot: &mut Snapshot) {
    for Source { name, detail, .. } in &mut snapshot.sources {
        clean(name);
        clean(detail);
    }
    for Gap {
        source,
        what,
        reason,
        effect: _,
        remedy,
    } in &mut snapshot.gaps
    {
        for text in [source, what, reason, remedy] {
            clean(text);
        }
    }
    for cluster in &mut snapshot.clusters {
        for container in cluster.pods.iter_mut().flat_map(|p| &mut p.containers) {
            container.image.iter_mut().for_each(clean);
            if let Some(server) = &mut container.server {
                of_settings(server);
            }
        }
        for outage in cluster.nodes.iter_mut().flatten().filter_map(|n| n.outage.as_mut()) {
            outage.reason.iter_mut().for_each(clean);
        }
        for engine in &mut cluster.engines {
            let told = &mut engine.identity;
            let names = told.served_names.iter_mut().chain(&mut told.lora_names);
            names
                .chain(&mut told.model_root)
                .chain(&mut told.version)
                .for_each(clean);
        }
        if let Some(history) = &mut cluster.history {
            clean(&mut history.store);
            history.scope.iter_mut().for_each(clean);
        }
    }
}

fn of_settings(s: &mut EngineSettings) {
    s.model.iter_mut().for_each(clean);
    s.served_names.iter_mut().for_each(clean);
    for text in [
        &mut s.engine_version,
        &mut s.quantization,
        &mut s.dtype,
        &mut s.kv_cache_dtype,
    ] {
        text.iter_mut().for_each(clean);
    }
    for unread in &mut s.unread {
        clean(&mut unread.place);
    }
}

fn clean(text: &mut String) {
    let kept = without_secrets(text);
    if kept != *text {
        *text = kept;
    }
}
