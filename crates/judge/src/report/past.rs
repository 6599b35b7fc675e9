//! GPU-hours of jobs of the last days in the groups of the report, and the line that an administrator sends to whom they were.

use super::document::{Group, GroupPast, Report, ReportFinding};
use super::rows::{GroupBy, NONE};
use super::{order, text};
use crate::fleet::Fleet;
use crate::fleet::past::Past;
use crate::snapshot::owners::USER;
use crate::snapshot::past::PastUse;
use std::collections::BTreeMap;

/// Adds to each group what its jobs had; groups that hold nothing now are new rows.
pub(super) fn add(fleet: &Fleet, (by, owner_labels): (&GroupBy, &[String]), rows: &mut Vec<Group>) {
    let mut sums: BTreeMap<String, Vec<&Past>> = BTreeMap::new();
    for past in &fleet.past {
        let cluster = &fleet.clusters[past.cluster];
        let label = |key: &str| past.used.labels.get(key).cloned();
        let account = || label("slurm/account").unwrap_or_else(|| "slurm".into());
        if cluster.selected_only || !(cluster.namespaces.is_empty() || cluster.namespaces.contains(&account())) {
            continue;
        }
        let first = |keys: Vec<String>| keys.iter().find_map(|k| label(k));
        let name = match by {
            GroupBy::Namespace => Some(account()),
            GroupBy::Cluster => Some(cluster.name.clone()).filter(|n| !n.is_empty()),
            GroupBy::Owner => by.labels(owner_labels).and_then(first).or_else(|| label(USER)),
            // What jobs ran, and on which GPU, no account tells.
            GroupBy::Workload | GroupBy::Model | GroupBy::Gpu | GroupBy::Node => return,
            _ => by.labels(owner_labels).and_then(first),
        };
        sums.entry(name.unwrap_or_else(|| NONE.into())).or_default().push(past);
    }
    for (name, all) in sums {
        let past = Some(sum(&all));
        match rows.iter_mut().find(|r| r.name == name) {
            Some(row) => row.past = past,
            None => rows.push(Group {
                name,
                past,
                ..Group::default()
            }),
        }
    }
}

fn sum(all: &[&Past]) -> GroupPast {
    let hours = |of: fn(&PastUse) -> f64| (all.iter().map(|p| of(&p.used)).sum::<f64>() * 1e3).round() / 1e3;
    let usd = |of: fn(&PastUse) -> f64| {
        let priced = all.iter().filter(|p| of(&p.used) > 0.0);
        let each = priced.map(|p| Some(p.price?.usd() * of(&p.used)));
        each.sum::<Option<f64>>().map(|usd| (usd * 100.0).round() / 100.0 + 0.0)
    };
    GroupPast {
        window_seconds: all.iter().map(|p| p.used.window_seconds).max().unwrap_or(0),
        jobs: all.iter().map(|p| p.used.jobs).fold(0, u64::saturating_add),
        gpu_hours: hours(|p| p.gpu_hours),
        usd: usd(|p| p.gpu_hours),
        known_gpu_hours: hours(|p| p.watched_gpu_hours),
        idle_gpu_hours: hours(|p| p.idle_gpu_hours),
        idle_usd: usd(|p| p.idle_gpu_hours),
        unused_gpu_hours: hours(|p| p.unused_gpu_hours),
        unused_usd: usd(|p| p.unused_gpu_hours),
    }
}

/// What is the matter with a person's GPUs, in one line that can be sent; `None`: nothing is, or the group is nobody.
pub(super) fn mail_line(report: &Report, group: &Group) -> Option<String> {
    if group.name.starts_with('(') {
        return None;
    }
    let mut parts = Vec::new();
    if let Some(waste) = group.waste_usd_per_hour.filter(|w| w.is_positive()) {
        parts.push(format!(
            "now ${:.2}/h of {} GPUs is wasted",
            waste.usd(),
            text::count(group.gpus)
        ));
    }
    if let Some(past) = group.past.as_ref().filter(|p| p.unused_gpu_hours > 0.0) {
        parts.push(format!(
            "in {} {} of {} GPU-hours did nothing{}, and {} more were not used{}",
            days(past.window_seconds),
            text::count(past.idle_gpu_hours.round()),
            text::count(past.known_gpu_hours.round()),
            money(past.idle_usd),
            text::count((past.unused_gpu_hours - past.idle_gpu_hours).round().max(0.0)),
            money(past.unused_usd.zip(past.idle_usd).map(|(all, idle)| all - idle)),
        ));
    }
    let own = |f: &&&ReportFinding| f.owner.as_deref() == Some(&group.name);
    let all = order::all(report);
    let what: Vec<String> = all
        .iter()
        .filter(own)
        .take(3)
        .map(|f| format!("{} ({})", f.title, super::act::short(f)))
        .collect();
    if !what.is_empty() {
        parts.push(what.join("; "));
    }
    (!parts.is_empty()).then(|| format!("{}: {}.", group.name, parts.join(". ")))
}

pub(super) fn days(seconds: u64) -> String {
    format!("{} d", seconds / 86_400)
}

/// " ($624)"
fn money(usd: Option<f64>) -> String {
    usd.map_or_else(String::new, |usd| format!(" (${usd:.0})"))
}
