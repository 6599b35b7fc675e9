//! Changes that findings of the report allow: workloads that end, or that need fewer replicas.

use super::Input;
use super::Options;
use crate::judge::analyze::finding::{Confidence, FindingKind};
use crate::judge::fleet::{Fleet, SlotId, WorkloadId};
use crate::judge::report::document::{Grade, Report, ReportFinding, Status};
use crate::model::Change;
use crate::snapshot::Snapshot;
use crate::snapshot::cluster as seen;
use std::collections::BTreeSet;

/// What a change stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) workload: WorkloadId,
    pub(crate) finding: String,
    pub(crate) title: String,
    /// Replicas that its owner asks for now.
    pub(crate) replicas: u64,
}

/// It is of a kind that a plan may act on, as the user allows.
fn allowed(finding: &ReportFinding, options: &Options) -> bool {
    let counts = finding.kind == FindingKind::Recoverable && finding.status != Status::Suppressed;
    let subject = &finding.subject;
    counts
        && options.concerns(
            subject.namespace.as_deref().unwrap_or_default(),
            subject.name.as_deref(),
        )
        && match (finding.check.as_str(), finding.part.as_deref()) {
            ("dark-capacity", Some("idle" | "stuck")) => match finding.grade {
                Some(Grade::Now) => options.now,
                _ => options.reusable,
            },
            ("over-replicated", _) => options.replicas,
            _ => false,
        }
}

pub(super) fn find(input: &mut Input<'_>, snapshot: &Snapshot, report: &Report, options: &Options) {
    let mut seen_workloads: BTreeSet<usize> = BTreeSet::new();
    for finding in report.findings.iter().filter(|f| allowed(f, options)) {
        match of(input, snapshot, finding) {
            Ok((pods, most, ending)) if seen_workloads.insert(ending.workload.0) => {
                for &p in &pods {
                    input.problem.pods[p].change = Some(input.problem.changes.len());
                }
                input.problem.changes.push(Change { pods, most });
                input.changes.push(ending);
            }
            Ok(_) => {
                let why = "another finding of this workload is acted on".into();
                input.left.push((finding.id.clone(), why));
            }
            Err(why) => input.left.push((finding.id.clone(), why)),
        }
    }
}

/// The pods that may end, how many of them, and what that stands for; or why no step ends them.
fn of(input: &Input<'_>, snapshot: &Snapshot, finding: &ReportFinding) -> Result<(Vec<usize>, usize, Ending), String> {
    if finding.confidence != Confidence::Measured {
        let why = finding.confidence_reasons.first().map_or("", String::as_str);
        return Err(format!("it is {}, not measured ({why})", finding.confidence.name()));
    }
    let id = WorkloadId(workload(input.fleet, finding).ok_or("what it is about is no workload of this plan")?);
    let workload = input.fleet.workload(id);
    let name = &input.fleet.clusters[workload.cluster].name;
    let cluster = snapshot.clusters.iter().find(|c| c.name == *name);
    let cluster = cluster.ok_or("its cluster is not in this plan")?;
    let replicas = own_replicas(cluster, &workload.kind, &workload.namespace, &workload.name).ok_or_else(|| {
        format!(
            "a plan scales Deployments and StatefulSets that nobody else scales; of this {} that is not so, or not known",
            workload.kind
        )
    })?;
    let pods: Vec<usize> = (0..input.pods.len())
        .filter(|&p| input.pods[p].joined.workload == Some(id) && input.problem.pods[p].node.is_some())
        .collect();
    if workload.ignore.is_some() || workload.owner_unread {
        return Err("its owner opted out, or could not be read".into());
    }
    if pods.is_empty() || pods.len() != workload.pods.len() || pods.len() as u64 != replicas {
        return Err(format!(
            "its owner asks for {replicas}, and not just as many pods of it hold a node"
        ));
    }
    let most = if finding.check == "over-replicated" {
        let stay = finding.fix.placement.as_ref().map(|p| u64::from(p.replicas));
        let same = finding.fix.placement.as_ref().map(|p| p.gpus) == workload.gpus_per_replica;
        match stay {
            Some(stay) if same && workload.kind == "Deployment" && stay < replicas => (replicas - stay) as usize,
            _ => return Err("it is no Deployment, or its replicas change their size as well".into()),
        }
    } else if claims_all(input.fleet, finding, id) {
        pods.len()
    } else {
        return Err("it is about a part of what its workload holds".into());
    };
    let ending = Ending {
        workload: id,
        finding: finding.id.clone(),
        title: finding.title.clone(),
        replicas,
    };
    Ok((pods, most, ending))
}

pub(super) fn workload(fleet: &Fleet, finding: &ReportFinding) -> Option<usize> {
    let subject = &finding.subject;
    fleet.workloads.iter().position(|w| {
        subject
            .cluster
            .as_ref()
            .is_none_or(|c| *c == fleet.clusters[w.cluster].name)
            && subject.kind.as_deref() == Some(w.kind.as_str())
            && subject.namespace.as_deref() == Some(w.namespace.as_str())
            && subject.name.as_deref() == Some(w.name.as_str())
    })
}

/// Replicas of an owner whom nobody else scales; `None`: somebody does, or it is not known.
pub(super) fn own_replicas(cluster: &seen::Cluster, kind: &str, namespace: &str, name: &str) -> Option<u64> {
    let scales = matches!(kind, "Deployment" | "StatefulSet");
    let same =
        |c: &&seen::Controller| c.kind == kind && c.namespace == namespace && c.name == name && c.group == "apps";
    let owner = cluster
        .controllers
        .iter()
        .find(same)
        .filter(|c| scales && c.owner.is_none())?;
    let target = |a: &seen::Autoscaler| a.namespace == namespace && a.target.kind == kind && a.target.name == name;
    let autoscalers = cluster.autoscalers.as_ref()?;
    owner.replicas.filter(|_| !autoscalers.iter().any(target))
}

/// The finding is about all that the workload holds.
fn claims_all(fleet: &Fleet, finding: &ReportFinding, workload: WorkloadId) -> bool {
    let held: BTreeSet<SlotId> = fleet
        .workload(workload)
        .pods
        .iter()
        .flat_map(|p| fleet.pod(*p).slots.clone())
        .collect();
    let name = |s: &SlotId| {
        (
            fleet.node(fleet.slot(*s).node).name.as_str(),
            fleet.slot(*s).name.as_str(),
        )
    };
    let claimed: BTreeSet<(&str, &str)> = finding
        .claims
        .iter()
        .filter(|c| c.vacates)
        .map(|c| (c.node.as_str(), c.gpu.as_str()))
        .collect();
    !held.is_empty() && held.iter().all(|s| claimed.contains(&name(s)))
}
