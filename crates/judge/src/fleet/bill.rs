//! What a bill and a fleet have of one another, and what not.

use super::Fleet;
use crate::catalog::bill::Bill;
use crate::snapshot::Gap;
use crate::snapshot::cluster::Cluster;
use crate::units::UsdPerHour;
use gpuwaste_facts::text::plural;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

/// Names that a message lists.
const NAMED: usize = 3;

/// What does not join: nodes whose machines are not on the bill, machines with GPUs on the bill that are no node, and
/// commitments that were paid for nothing.
pub(super) fn gaps<C: Borrow<Cluster>>(fleet: &Fleet, clusters: &[C], bill: &Bill) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut missing: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (index, cluster) in clusters.iter().enumerate() {
        let cluster = cluster.borrow();
        let with_gpus: BTreeSet<&str> = fleet
            .nodes
            .iter()
            .filter(|n| n.cluster == index)
            .map(|n| n.name.as_str())
            .collect();
        for node in cluster.nodes.iter().flatten() {
            seen.extend(node.billed_as.as_deref());
            if !with_gpus.contains(node.name.as_str()) {
                continue;
            }
            let because = match node.billed_as.as_deref() {
                _ if node.planned => ("manifests name no machines", "give prices with --prices"),
                None => (
                    "they do not tell which machines they are (spec.providerID of AWS, Azure, Google or Oracle)",
                    "take the snapshot anew where an older version took it; else give their prices with --prices",
                ),
                Some(machine) if bill.machines.contains_key(machine) => continue,
                Some(machine) => (
                    bill.unpriced
                        .get(machine)
                        .copied()
                        .unwrap_or("their machines are not on it"),
                    "export days up to now, of all accounts in which the clusters run; or give their prices with --prices",
                ),
            };
            missing
                .entry(because)
                .or_default()
                .push(format!("{}/{}", cluster.name, node.name));
        }
    }
    for ((why, remedy), nodes) in missing {
        gaps.push(Gap {
            source: format!("bill {}", bill.name),
            what: format!(
                "what {} with GPUs cost ({})",
                plural(nodes.len(), "node"),
                listed(&nodes)
            ),
            reason: why.into(),
            effect: "they are priced as without a bill".into(),
            remedy: remedy.into(),
        });
    }
    let others: Vec<_> = bill
        .machines
        .iter()
        .filter(|(machine, billed)| billed.lasts && billed.gpu_type.is_some() && !seen.contains(machine.as_str()))
        .map(|(_, billed)| billed)
        .collect();
    if !others.is_empty() {
        let usd: UsdPerHour = others.iter().map(|b| b.usd_per_hour).sum();
        let types: BTreeSet<String> = others.iter().filter_map(|b| b.gpu_type).map(String::from).collect();
        gaps.push(Gap {
            source: format!("bill {}", bill.name),
            what: format!(
                "{} with GPUs ({}), ${:.2}/h",
                plural(others.len(), "machine"),
                listed(&types.into_iter().collect::<Vec<_>>()),
                usd.usd()
            ),
            reason: "they are charged to the end of the bill, and no node that was read is one of them".into(),
            effect: "they are in no figure here".into(),
            remedy: "read the clusters that they belong to, too (--context); what belongs to none runs outside of them, or for nothing".into(),
        });
    }
    if let Some((rows, why)) = &bill.bad_rows {
        gaps.push(Gap {
            source: format!("bill {}", bill.name),
            what: plural(*rows, "row"),
            reason: why.clone(),
            effect: "what they charge is in no price".into(),
            remedy: "export it again, without a change by hand".into(),
        });
    }
    if bill.repeated > 0 {
        gaps.push(Gap {
            source: format!("bill {}", bill.name),
            what: format!("{} that it has twice", plural(bill.repeated, "row")),
            reason: "files of it tell the same charges: exports that were delivered again, or copies".into(),
            effect: "each counts once".into(),
            remedy: "name the newest export of each period alone".into(),
        });
    }
    for (kind, usd) in &bill.unused {
        gaps.push(Gap {
            source: format!("bill {}", bill.name),
            what: format!("commitments of {kind} that nothing used, ${:.2}/h", usd.usd()),
            reason: "the bill calls them unused: they were paid beside all machines that ran".into(),
            effect: "they are in no figure here".into(),
            remedy: format!(
                "let nodes of {kind} that are paid by the hour take their place, sell them, or let them end"
            ),
        });
    }
    gaps
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}
