//! Stable ids of findings: a baseline written today still matches after pods, nodes and context names changed.

use crate::analyze::finding::{Finding, Subject};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Hex digits kept: 64 bits, so that a clash among a million findings is less likely than 1 in 10^7.
const DIGITS: usize = 16;

/// Owner kind that marks a finding about nodes instead of a workload.
const NODE_POOL: &str = "NodePool";

/// Owner kind of a finding about a whole cluster.
const CLUSTER: &str = "Cluster";

/// One id a finding. Findings with the same key ("two pools without a name") get "-2", "-3" … in the order of subject and claims.
pub(crate) fn ids(findings: &[&Finding]) -> Vec<String> {
    let mut same: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, finding) in findings.iter().enumerate() {
        same.entry(fingerprint(finding)).or_default().push(i);
    }
    let mut ids = vec![String::new(); findings.len()];
    for (id, mut members) in same {
        members.sort_by_key(|&i| (&findings[i].subject, findings[i].claims.first().map(|c| c.slot), i));
        for (n, i) in members.into_iter().enumerate() {
            ids[i] = if n == 0 { id.clone() } else { format!("{id}-{}", n + 1) };
        }
    }
    ids
}

/// Check, part, cluster, and owner or pool + GPU: no figures, no pod, node or context names.
fn fingerprint(finding: &Finding) -> String {
    let Subject {
        kind,
        namespace,
        name,
        pool,
        gpu,
        cluster_key,
        ..
    } = &finding.subject;
    let text = |field: &'_ Option<String>| field.clone().unwrap_or_default();
    let owned = name.is_some() && kind.as_deref() != Some(NODE_POOL);
    let subject = if kind.as_deref() == Some(CLUSTER) {
        // Its key says which; its name is the context's.
        [CLUSTER.to_owned(), String::new(), String::new()]
    } else if owned {
        [text(kind), text(namespace), text(name)]
    } else {
        [NODE_POOL.to_owned(), text(pool), text(gpu)]
    };
    let mut hash = Sha256::new();
    for field in [finding.check, finding.part.unwrap_or_default(), cluster_key] {
        hash.update(field.as_bytes());
        hash.update([0]);
    }
    for field in subject {
        hash.update(field.as_bytes());
        hash.update([0]);
    }
    let mut id: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    id.truncate(DIGITS);
    id
}
