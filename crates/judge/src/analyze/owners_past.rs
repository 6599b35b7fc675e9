//! The accounts of the last days by owner: what several checks read of jobs that have ended. Nothing of it claims a GPU or is in a
//! total: it is over.

use super::finding::{ClaimRank, Confidence, Finding, FindingKind, Fix, Subject};
use super::support::Judged;
use crate::fleet::past::{PARTITION, Past};
use crate::fleet::{Fleet, SlotId};
use crate::settings::Settings;
use crate::snapshot::owners::USER;
use crate::snapshot::past::{Asked, PastUse};
use crate::units::UsdPerHour;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const SECONDS_PER_HOUR: f64 = 3600.0;

/// One owner's rows.
pub(super) struct OfOwner<'a> {
    pub(super) cluster: usize,
    pub(super) owner: String,
    pub(super) rows: Vec<&'a Past>,
}

/// Owners by cluster, as far as the scan is about them: by the policy's labels, else by user, else by account.
pub(super) fn owners<'a>(fleet: &'a Fleet, settings: &Settings) -> Vec<OfOwner<'a>> {
    let mut all: BTreeMap<(usize, String), Vec<&Past>> = BTreeMap::new();
    for row in &fleet.past {
        let cluster = &fleet.clusters[row.cluster];
        let label = |key: &str| row.used.labels.get(key).cloned();
        let account = label("slurm/account").unwrap_or_else(|| "slurm".into());
        if cluster.selected_only || !(cluster.namespaces.is_empty() || cluster.namespaces.contains(&account)) {
            continue;
        }
        let owner = settings
            .owner_labels
            .iter()
            .find_map(|k| label(k))
            .or_else(|| label(USER));
        all.entry((row.cluster, owner.unwrap_or(account)))
            .or_default()
            .push(row);
    }
    let of = |((cluster, owner), rows)| OfOwner { cluster, owner, rows };
    all.into_iter().map(of).collect()
}

impl OfOwner<'_> {
    pub(super) fn sum(&self, of: impl Fn(&PastUse) -> f64) -> f64 {
        self.rows.iter().map(|r| of(&r.used)).sum()
    }

    pub(super) fn count(&self, of: impl Fn(&PastUse) -> u64) -> u64 {
        self.rows.iter().map(|r| of(&r.used)).fold(0, u64::saturating_add)
    }

    pub(super) fn asked(&self, of: impl Fn(&PastUse) -> Asked) -> Asked {
        self.rows
            .iter()
            .map(|r| of(&r.used))
            .fold(Asked::default(), |a, b| Asked {
                jobs: a.jobs.saturating_add(b.jobs),
                gpu_hours: a.gpu_hours + b.gpu_hours,
                beside_gpu_hours: a.beside_gpu_hours + b.beside_gpu_hours,
            })
    }

    pub(super) fn window(&self) -> f64 {
        self.rows.iter().map(|r| r.used.window_seconds).max().unwrap_or(0) as f64
    }

    /// Dollars of these GPU-hours; `None`: some of them have no price.
    pub(super) fn usd(&self, of: impl Fn(&PastUse) -> f64) -> Option<f64> {
        let mut sum = 0.0;
        for row in self.rows.iter().filter(|r| of(&r.used) > 0.0) {
            sum += row.price?.usd() * of(&row.used);
        }
        Some(sum)
    }

    /// The same as a rate over the days that were looked at: how trends are told.
    pub(super) fn rate(&self, of: impl Fn(&PastUse) -> f64) -> Option<UsdPerHour> {
        let hours = self.window() / SECONDS_PER_HOUR;
        UsdPerHour::from_usd(self.usd(of)? / hours).filter(|_| hours > 0.0)
    }

    /// Partitions that its jobs were in.
    pub(super) fn partitions(&self) -> BTreeSet<&str> {
        let named = self.rows.iter().filter_map(|r| r.used.labels.get(PARTITION));
        named.map(String::as_str).collect()
    }

    /// What the summaries and the prices behind these rows allow.
    pub(super) fn judged(&self, fleet: &Fleet, why: &str, of: impl Fn(&PastUse) -> f64) -> Judged {
        let mut judged = Judged::measured(why);
        let rows = || self.rows.iter().filter(|r| of(&r.used) > 0.0);
        if rows().any(|r| r.least) {
            judged.cap(
                Confidence::Estimated,
                "machines that it may have been on differ in price: the least is taken",
            );
        }
        let slots: Vec<SlotId> = rows().flat_map(|r| r.priced_by.iter().copied()).collect();
        judged.cap_by_price(fleet, &slots);
        judged
    }

    /// A finding about the owner; what it says is the check's own.
    pub(super) fn finding(
        &self,
        fleet: &Fleet,
        (check, part): (&'static str, &'static str),
        judged: Judged,
    ) -> Finding {
        let cluster = &fleet.clusters[self.cluster];
        let accounts: BTreeSet<&String> = self
            .rows
            .iter()
            .filter_map(|r| r.used.labels.get("slurm/account"))
            .collect();
        Finding {
            check,
            part: Some(part),
            kind: FindingKind::Trend,
            rank: ClaimRank::None,
            title: String::new(),
            subject: Subject {
                cluster: Some(cluster.name.clone()),
                kind: Some("Owner".into()),
                namespace: (accounts.len() == 1)
                    .then(|| accounts.into_iter().next().cloned())
                    .flatten(),
                name: Some(self.owner.clone()),
                cluster_key: cluster.key.clone(),
                ..Subject::default()
            },
            workload: None,
            confidence: judged.level,
            confidence_reasons: judged.reasons,
            evidence: Vec::new(),
            claims: Vec::new(),
            fix: Fix::default(),
            ignored: None,
            trend_usd_per_hour: None,
        }
    }
}

/// "312", "4.5": GPU-hours as people write them.
pub(super) fn hours(value: f64) -> String {
    if value >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}
