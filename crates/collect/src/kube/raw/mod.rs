//! API objects, trimmed while they are decoded: fields that are not named here never reach memory.

mod annotations;
mod node;
mod owners;
mod placement;
mod pod;
mod status;

pub(super) use node::{RawNode, RawTaint};
pub(super) use owners::{RawAutoscaler, RawBudget, RawController, RawPodMetrics};
pub(super) use pod::RawPod;
pub use pod::pod_of_template;

use annotations::RawAnnotations;

use super::answer::{ApiObject, plausible};
use super::path::is_name;
use crate::snapshot::cluster::{Condition, Ignore, OwnerRef};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// `null` and a missing field are the default.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// RFC 3339, of a time that an object can have; anything else is unread.
fn time<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(d)?
        .and_then(|t| t.parse().ok())
        .and_then(plausible))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    pub(super) git_version: String,
}

/// A namespace, of which only the identity matters.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) metadata: RawMeta,
}

impl ApiObject for Named {
    const NAMESPACED: bool = false;

    fn meta(&self) -> &RawMeta {
        &self.metadata
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RawMeta {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: Option<String>,
    #[serde(deserialize_with = "time")]
    creation_timestamp: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    deletion_timestamp: Option<Timestamp>,
    #[serde(deserialize_with = "lenient")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient")]
    annotations: RawAnnotations,
    #[serde(deserialize_with = "lenient")]
    owner_references: Vec<RawOwner>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawOwner {
    api_version: String,
    kind: String,
    name: String,
    controller: Option<bool>,
}

impl RawMeta {
    pub(super) fn created_at(&self) -> Option<Timestamp> {
        self.creation_timestamp
    }

    pub(super) fn deleted_at(&self) -> Option<Timestamp> {
        self.deletion_timestamp
    }

    /// The controlling owner. A reference whose name no object can have points nowhere: what carries it stands for itself.
    fn owner(&self) -> Option<OwnerRef> {
        let owner = self
            .owner_references
            .iter()
            .find(|o| o.controller == Some(true))
            .or_else(|| self.owner_references.first())
            .filter(|o| is_name(&o.name))?;
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        Some(OwnerRef {
            group: group.into(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        })
    }

    /// Of a reference to an owner that [`Self::owner`] does not follow.
    pub(super) fn points_nowhere(&self) -> bool {
        self.owner().is_none() && !self.owner_references.is_empty()
    }

    fn ignore(&self) -> Option<Ignore> {
        self.annotations.ignore.as_deref().and_then(parse_ignore)
    }
}

/// `"check[,check] reason"`; without a reason it is no opt-out.
fn parse_ignore(text: &str) -> Option<Ignore> {
    let (checks, reason) = text.trim().split_once(char::is_whitespace)?;
    let checks: Vec<String> = checks
        .split(',')
        .map(|c| c.trim().to_string())
        .filter(|c| !c.is_empty())
        .collect();
    let reason: String = reason.trim().chars().take(200).collect();
    (!checks.is_empty() && !reason.is_empty()).then_some(Ignore { checks, reason })
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
    #[serde(deserialize_with = "time")]
    last_transition_time: Option<Timestamp>,
}

impl RawCondition {
    fn condition(&self) -> Condition {
        let status = match self.status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        };
        Condition {
            status,
            since: self.last_transition_time,
            reason: self.reason.clone().filter(|r| !r.is_empty()),
        }
    }
}

fn condition(all: &[RawCondition], kind: &str) -> Option<Condition> {
    all.iter().find(|c| c.kind == kind).map(RawCondition::condition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opt_out_needs_a_reason() {
        assert_eq!(
            parse_ignore("dark-capacity,kv-pressure canary until Friday"),
            Some(Ignore {
                checks: vec!["dark-capacity".into(), "kv-pressure".into()],
                reason: "canary until Friday".into()
            })
        );
        assert_eq!(parse_ignore("dark-capacity"), None);
        assert_eq!(parse_ignore(" "), None);
    }
}
