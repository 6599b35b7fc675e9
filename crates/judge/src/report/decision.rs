//! What people decided about findings, as a report carries it: the state on each finding, and the money of each state, so
//! that nothing leaves the totals unseen.

use super::document::{Report, ReportFinding, Status};
use super::text::{self, plain};
use super::totals::any_known;
use crate::units::UsdPerHour;
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands about a finding on the day of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionState {
    /// Nobody decided, or what was decided does not hold any more.
    #[default]
    Open,
    /// Somebody does it.
    Claimed,
    /// It was done; what it saved is not measured yet.
    Applied,
    /// Somebody decides later.
    Snoozed,
    /// Somebody decided against it.
    Dismissed,
}

impl DecisionState {
    pub const ALL: [Self; 5] = [Self::Open, Self::Claimed, Self::Applied, Self::Snoozed, Self::Dismissed];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Claimed => "claimed",
            Self::Applied => "applied",
            Self::Snoozed => "snoozed",
            Self::Dismissed => "dismissed",
        }
    }

    /// Out of the lists that people work through; never out of the totals.
    pub const fn is_hidden(self) -> bool {
        matches!(self, Self::Snoozed | Self::Dismissed)
    }
}

/// A decision of the ledger, where it stands on the day of the report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Decision {
    pub state: DecisionState,
    /// When it was decided; `null`: nobody decided anything.
    #[schemars(with = "Option<String>")]
    pub since: Option<jiff::Timestamp>,
    /// Of a dismissal: wrong, intended, cannot or not-worth.
    pub reason: Option<String>,
    pub note: Option<String>,
    /// The last day it holds.
    #[schemars(with = "Option<String>")]
    pub until: Option<Date>,
    /// A pull request, a ticket.
    pub reference: Option<String>,
    pub by: Option<String>,
    /// What the finding was worth when it was decided.
    pub predicted_usd_per_hour: Option<UsdPerHour>,
    /// Why it is open although somebody decided.
    pub reopened: Option<String>,
}

impl Decision {
    /// For people, after the title: "claimed until 2026-12-01", "open again: …"; `None`: nobody decided anything.
    pub fn said(&self) -> Option<String> {
        if let Some(why) = &self.reopened {
            return Some(format!("open again: {why}"));
        }
        if self.state == DecisionState::Open {
            return None;
        }
        let mut said = self.state.name().to_owned();
        if let Some(reason) = &self.reason {
            said.push_str(&format!(" as {reason}"));
        }
        if let Some(until) = self.until {
            said.push_str(&format!(" until {until}"));
        }
        Some(said)
    }

    /// Everything there is to justify it, in one line.
    pub fn justification(&self) -> String {
        let parts = [
            self.said(),
            self.note.clone(),
            self.reference.clone(),
            self.by.as_ref().map(|by| format!("by {by}")),
        ];
        plain(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// Findings of one state and their money.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OfState {
    pub state: DecisionState,
    pub findings: u64,
    /// `null`: none of them has a known price.
    pub waste_usd_per_hour: Option<UsdPerHour>,
    pub at_risk_usd_per_hour: Option<UsdPerHour>,
}

/// The states of a finding's decision that a list of work leaves out.
pub fn is_hidden(finding: &ReportFinding) -> bool {
    finding.decision.as_ref().is_some_and(|d| d.state.is_hidden())
}

/// Money of every state; together it is the totals' waste and at-risk money.
pub(crate) fn add_up(findings: &[ReportFinding]) -> Vec<OfState> {
    DecisionState::ALL
        .into_iter()
        .map(|state| {
            let of: Vec<&ReportFinding> = findings
                .iter()
                .filter(|f| f.status != Status::Suppressed)
                .filter(|f| f.decision.as_ref().map(|d| d.state).unwrap_or_default() == state)
                .collect();
            let sum = |kind: super::FindingKind, money: fn(&ReportFinding) -> Option<UsdPerHour>| {
                any_known(
                    of.iter()
                        .filter(|f| f.kind == kind && !f.claims.is_empty())
                        .map(|f| money(f)),
                )
            };
            OfState {
                state,
                findings: of.len() as u64,
                waste_usd_per_hour: sum(super::FindingKind::Recoverable, |f| f.waste_usd_per_hour),
                at_risk_usd_per_hour: sum(super::FindingKind::AtRisk, |f| f.at_risk_usd_per_hour),
            }
        })
        .collect()
}

/// Lines of a report's head: a name, waste, and what there is to say; none without a ledger. States that nothing is in are
/// left out, but for the open one.
pub fn lines(report: &Report) -> Vec<(&'static str, String, String)> {
    let Some(states) = &report.totals.decisions else {
        return Vec::new();
    };
    states
        .iter()
        .filter(|s| s.findings > 0 || s.state == DecisionState::Open)
        .map(|s| {
            let what = match s.state {
                DecisionState::Open => "nobody decided, or it does not hold any more",
                DecisionState::Claimed => "somebody does it",
                DecisionState::Applied => "done; 'gpuwaste settle' measures what it saved",
                DecisionState::Snoozed => "to be decided later",
                DecisionState::Dismissed => "decided against, until it expires or its evidence moves",
            };
            let risk = s.at_risk_usd_per_hour.filter(|u| u.is_positive());
            let risk = risk
                .map(|u| format!(" and {} at risk", text::money(u)))
                .unwrap_or_default();
            let count = text::plural(s.findings, "finding");
            (
                title(s.state),
                text::known(s.waste_usd_per_hour),
                format!("waste{risk} in {count}: {what}"),
            )
        })
        .collect()
}

const fn title(state: DecisionState) -> &'static str {
    match state {
        DecisionState::Open => "Open",
        DecisionState::Claimed => "Claimed",
        DecisionState::Applied => "Applied",
        DecisionState::Snoozed => "Snoozed",
        DecisionState::Dismissed => "Dismissed",
    }
}
