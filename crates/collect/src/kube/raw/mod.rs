//! API objects, trimmed while they are decoded: fields that are not named here never reach memory.

mod annotations;
mod constraints;
mod node;
mod owners;
mod placement;
mod pod;
mod scheduler;
mod status;

pub(super) use constraints::Unresolved;
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

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
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

/// `gpuwaste.dev/ignore`: `"check[, check] reason"`, or a reason alone: the words of the list in front, and what stands behind them.
pub fn parse_ignore(text: &str) -> Option<Ignore> {
    let text: String = text.chars().take(MAX_IGNORE).collect();
    let mut words = text.split_whitespace();
    let mut checks: Vec<String> = Vec::new();
    for word in words.by_ref() {
        // "dark-capacity: standby" is how people write a list and its reason, too.
        let named = word.split(',').map(|c| c.trim_end_matches([':', ';']));
        checks.extend(named.filter(|c| !c.is_empty()).map(String::from));
        if !word.ends_with(',') {
            break;
        }
    }
    let reason = words.collect::<Vec<_>>().join(" ");
    (!checks.is_empty()).then_some(Ignore { checks, reason })
}

/// Characters of an opt-out that are kept.
const MAX_IGNORE: usize = 240;

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
    fn an_opt_out_is_a_list_and_what_stands_behind_it() {
        assert_eq!(
            parse_ignore("dark-capacity,kv-pressure canary until Friday"),
            Some(Ignore {
                checks: vec!["dark-capacity".into(), "kv-pressure".into()],
                reason: "canary until Friday".into()
            })
        );
        let read = |text: &str| parse_ignore(text).map(|i| (i.checks.join("|"), i.reason));
        let is = |checks: &str, reason: &str| Some((checks.to_string(), reason.to_string()));
        assert_eq!(
            read("dark-capacity, kv-pressure  canary"),
            is("dark-capacity|kv-pressure", "canary")
        );
        assert_eq!(read("dark-capacity"), is("dark-capacity", ""));
        assert_eq!(
            read("dark-capacity, kv-pressure: standby"),
            is("dark-capacity|kv-pressure", "standby")
        );
        assert_eq!(read("failover spare, reviewed"), is("failover", "spare, reviewed"));
        assert_eq!(parse_ignore(" "), None);
    }
}
