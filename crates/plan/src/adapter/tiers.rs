//! Smaller tiers that findings name, as far as a plan can carry them out: a Deployment that nobody else writes or scales, an exact
//! patch, and nodes of that tier in its own cluster.

use super::changes::{own_replicas, workload};
use super::leaving::Leaving;
use super::{Input, Options, Resources, places};
use crate::judge::analyze::finding::{Confidence, FindingKind};
use crate::judge::fleet::{self, WorkloadId};
use crate::judge::report::document::{Report, ReportFinding, Status};
use crate::model::{Pod, Tier};
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::{self as seen, PodPlacement, Rollout};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a tier change stands for.
#[derive(Clone, Debug)]
pub(crate) struct Smaller {
    pub(crate) workload: WorkloadId,
    pub(crate) finding: String,
    pub(crate) title: String,
    /// What the finding says to do, as `kubectl patch` takes it: JSON of one line.
    pub(crate) patch: String,
    /// Where its pods may run afterwards.
    pub(crate) placement: PodPlacement,
    pub(crate) replicas: u64,
    /// Old replicas that may be away before a new one is Ready, by its own rule.
    pub(crate) away: u64,
    /// Why it is not measured; `None`: it is.
    pub(crate) doubt: Option<String>,
    pub(crate) helm: bool,
    /// Devices that each of its pods holds afterwards.
    pub(crate) devices: u64,
}

/// The patch of a finding, and nothing else that a patch could hold.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    spec: Spec,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    template: Template,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    spec: PodSpec,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PodSpec {
    #[serde(rename = "nodeSelector")]
    node_selector: BTreeMap<String, Option<String>>,
    containers: [Container; 1],
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Container {
    name: String,
    resources: Amounts,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Amounts {
    limits: BTreeMap<String, Option<String>>,
    requests: BTreeMap<String, Option<String>>,
}

pub(super) fn find(
    input: &mut Input<'_>,
    resources: &Resources,
    snapshot: &Snapshot,
    report: &Report,
    options: &Options,
) {
    let counts = |f: &&ReportFinding| {
        options.tier
            && f.check == "oversized-tier"
            && f.kind == FindingKind::Recoverable
            && f.status != Status::Suppressed
            && options.concerns(
                f.subject.namespace.as_deref().unwrap_or_default(),
                f.subject.name.as_deref(),
            )
    };
    for finding in report.findings.iter().filter(counts) {
        match of(input, resources, snapshot, finding) {
            Ok((tier, smaller)) => {
                for &pod in &tier.pods {
                    input.problem.pods[pod].tier = Some(input.problem.tiers.len());
                }
                input.problem.tiers.push(tier);
                input.tiers.push(smaller);
            }
            Err(why) => input.left.push((finding.id.clone(), why)),
        }
    }
}

/// The change, or why no step makes it.
fn of(
    input: &mut Input<'_>,
    resources: &Resources,
    snapshot: &Snapshot,
    finding: &ReportFinding,
) -> Result<(Tier, Smaller), String> {
    if finding.confidence == Confidence::Assumed {
        return Err("it is assumed, which no step counts on".into());
    }
    let id = WorkloadId(workload(input.fleet, finding).ok_or("its workload is not in this plan")?);
    let workload = input.fleet.workload(id);
    let name = &input.fleet.clusters[workload.cluster].name;
    let cluster = snapshot.clusters.iter().find(|c| c.name == *name);
    let cluster = cluster.ok_or("its cluster is not in this plan")?;
    if workload.kind != "Deployment" {
        return Err(format!(
            "a {} is not raised first: it is for its owner to change",
            workload.kind
        ));
    }
    let (replicas, rollout) = owner(cluster, workload)?;
    let placement = finding.fix.placement.as_ref().ok_or("it names no placement")?;
    if u64::from(placement.replicas) != replicas {
        return Err("it takes replicas away as well: do that first (--allow replicas)".into());
    }
    let text = finding.fix.patch.as_ref();
    let text =
        text.ok_or("no exact patch of it can be written (parallelism, affinity or other devices are in the way)")?;
    let patch: Patch = serde_saphyr::from_str(text).map_err(|_| "its patch is not one that a step may carry")?;
    let pods = pods_of(input, id, replicas)?;
    let first = *pods.first().ok_or("none of its pods is bound")?;
    let home = input.problem.pods[first].node.ok_or("none of its pods is bound")?;
    let after = after(&input.problem.pods[first], input.pods[first].joined, resources, &patch)?;
    let placed = patched(input.pods[first].seen.placement.as_ref(), &patch);
    let set = places::of_tier(&input.nodes, &placed, home, &placement.gpu);
    if !set.iter().any(|s| *s) {
        return Err(format!("no node of this cluster with {} takes its pods", placement.gpu));
    }
    let devices = patch.spec.template.spec.containers[0].resources.limits.values();
    let devices = devices.flatten().filter_map(|n| n.parse::<u64>().ok()).sum();
    input.problem.places.push(set);
    let after = Pod {
        node: None,
        places: input.problem.places.len() - 1,
        ..after
    };
    let smaller = Smaller {
        workload: id,
        finding: finding.id.clone(),
        title: finding.title.clone(),
        patch: serde_json::to_string(&patch).map_err(|e| e.to_string())?,
        placement: placed,
        replicas,
        away: away(&rollout.max_unavailable, replicas),
        doubt: (finding.confidence != Confidence::Measured)
            .then(|| finding.confidence_reasons.first().cloned().unwrap_or_default()),
        helm: rollout.applied_by.is_some(),
        devices,
    };
    Ok((Tier { pods, after }, smaller))
}

/// Its replicas and how it rolls out, where nobody else writes or scales it.
fn owner<'s>(cluster: &'s seen::Cluster, workload: &fleet::Workload) -> Result<(u64, &'s Rollout), String> {
    let (kind, namespace, name) = (&workload.kind, &workload.namespace, &workload.name);
    let is =
        |c: &&seen::Controller| c.group == "apps" && c.kind == *kind && c.namespace == *namespace && c.name == *name;
    let own = cluster
        .controllers
        .iter()
        .find(is)
        .ok_or("its Deployment could not be read")?;
    if let Some(above) = &own.owner {
        return Err(format!("{} {} writes it: change that", above.kind, above.name));
    }
    let replicas = own_replicas(cluster, kind, namespace, name)
        .ok_or("an autoscaler decides its replicas, or whether one does could not be read")?;
    let rollout = own
        .rollout
        .as_ref()
        .ok_or("how it rolls out is not in this snapshot: record it again ('gpuwaste collect')")?;
    match rollout.applied_by.as_deref() {
        None | Some("Helm") => {}
        Some(other) => {
            return Err(format!(
                "{other} applies its manifest, and would undo it: change it there"
            ));
        }
    }
    if rollout.recreate {
        return Err("its strategy is Recreate: nothing would serve while it moves".into());
    }
    if rollout.paused {
        return Err("its rollouts are paused".into());
    }
    Ok((replicas, rollout))
}

/// All its pods, each of which can be raised first.
fn pods_of(input: &Input<'_>, id: WorkloadId, replicas: u64) -> Result<Vec<usize>, String> {
    let pods: Vec<usize> = (0..input.pods.len())
        .filter(|&p| input.pods[p].joined.workload == Some(id))
        .collect();
    for &p in &pods {
        match &input.pods[p].leaving {
            Leaving::Raise { .. } => {}
            Leaving::Person(_, why) | Leaving::Stays(why) => return Err(why.clone()),
            Leaving::Evict { .. } | Leaving::WithNode => return Err("not all of its pods can be raised first".into()),
        }
        let problem = &input.problem;
        if !problem.pods[p].bound_by.is_empty() || !problem.pods[p].spread.is_empty() {
            return Err("its pods are kept apart or spread over domains, old ones and new ones together".into());
        }
        if problem.pods[p].change.is_some() {
            return Err("another finding ends replicas of it in this plan: do that first".into());
        }
    }
    let same = pods.windows(2).all(|w| {
        let of = |p: usize| (&input.problem.pods[p].request, &input.pods[p].seen.placement);
        of(w[0]) == of(w[1])
    });
    let all = pods.len() == input.fleet.workload(id).pods.len() && pods.len() as u64 == replicas;
    if !same || !all {
        return Err("its pods are not all there, or not all alike".into());
    }
    Ok(pods)
}

/// What one of its pods asks for, patched.
fn after(now: &Pod, own: &fleet::Pod, resources: &Resources, patch: &Patch) -> Result<Pod, String> {
    const ODD: &str = "its patch is not one that a step may carry";
    let container = &patch.spec.template.spec.containers[0];
    if own.device_container.as_ref() != Some(&container.name) {
        return Err(ODD.into());
    }
    let mut request = now.request.clone();
    for (name, amount) in &container.resources.requests {
        let amount = amount.as_deref();
        let (at, others) = match name.as_str() {
            "cpu" => (0, now.request[0].checked_sub(own.device_request_cpu.map_or(0, |c| c.0))),
            "memory" => (
                1,
                now.request[1].checked_sub(own.device_request_memory.map_or(0, |m| m.0)),
            ),
            device => {
                let at = *resources.index.get(device).ok_or(ODD)?;
                let taken = own.devices.get(device).copied().unwrap_or(0);
                (at, now.request[at].checked_sub(taken))
            }
        };
        let asked = match (name.as_str(), amount) {
            ("cpu", Some(text)) => text.strip_suffix('m').and_then(|n| n.parse::<u64>().ok()),
            ("memory", Some(text)) => text
                .strip_suffix("Mi")
                .and_then(|n| n.parse::<u64>().ok()?.checked_mul(1 << 20)),
            (_, Some(text)) => text.parse().ok(),
            (_, None) => Some(0),
        };
        request[at] = others.zip(asked).and_then(|(a, b)| a.checked_add(b)).ok_or(ODD)?;
    }
    Ok(Pod { request, ..now.clone() })
}

fn patched(now: Option<&PodPlacement>, patch: &Patch) -> PodPlacement {
    let mut placed = now.cloned().unwrap_or_default();
    for (key, value) in &patch.spec.template.spec.node_selector {
        placed.node_selector.remove(key);
        placed.node_selector.extend(value.clone().map(|v| (key.clone(), v)));
    }
    placed
}

/// maxUnavailable of so many replicas: a percentage is rounded down. What cannot be read may be all.
fn away(most: &str, replicas: u64) -> u64 {
    let number = |text: &str| text.parse::<u64>().ok();
    let all = match most.strip_suffix('%') {
        Some(percent) => number(percent).map(|p| p.saturating_mul(replicas) / 100),
        None => number(most),
    };
    all.unwrap_or(replicas).min(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_holds_what_findings_patch_and_nothing_else() {
        let good = "spec:\n  template:\n    spec:\n      nodeSelector:\n        gpu: null\n        kind: \"l4\"\n      containers:\n        - name: server\n          resources:\n            limits:\n              nvidia.com/gpu: \"1\"\n            requests:\n              cpu: 4000m\n              nvidia.com/gpu: \"1\"\n";
        let patch: Patch = serde_saphyr::from_str(good).unwrap();
        let json = serde_json::to_string(&patch).unwrap();
        assert_eq!(
            json,
            r#"{"spec":{"template":{"spec":{"nodeSelector":{"gpu":null,"kind":"l4"},"containers":[{"name":"server","resources":{"limits":{"nvidia.com/gpu":"1"},"requests":{"cpu":"4000m","nvidia.com/gpu":"1"}}}]}}}}"#
        );
        for (a, b) in [
            ("name: server", "name: server\n          image: other"),
            ("  template:", "  replicas: 0\n  template:"),
            ("      containers:", "      hostNetwork: true\n      containers:"),
            ("spec:\n  t", "metadata: {}\nspec:\n  t"),
        ] {
            assert!(serde_saphyr::from_str::<Patch>(&good.replace(a, b)).is_err(), "{b}");
        }
    }

    #[test]
    fn what_may_be_away_is_rounded_as_kubernetes_does() {
        let cases = [
            ("25%", 3, 0),
            ("25%", 4, 1),
            ("1", 1, 1),
            ("0", 9, 0),
            ("100%", 2, 2),
            ("odd", 3, 3),
        ];
        for (most, replicas, expected) in cases {
            assert_eq!(away(most, replicas), expected, "{most} of {replicas}");
        }
    }
}
