//! `gpuwaste.dev/ignore`: `check[,check] reason`, or a reason alone, which opts out of all checks.

use super::CHECKS;
use super::finding::Finding;
use crate::fleet::{Fleet, Workload};
use crate::snapshot::Gap;
use crate::snapshot::cluster::Ignore;
use std::collections::BTreeSet;

/// Names that are this alike are one misspelt, by Damerau and Levenshtein (ours: "dark-capcity" is 0.92, "idle" 0.31).
const ALIKE: f64 = 0.75;

/// An annotation, read by who knows the checks.
struct OptOut<'a> {
    /// `None`: all.
    checks: Option<Vec<&'a str>>,
    reason: String,
    /// Words in its list that no check has, as far as it is one.
    unknown: Vec<&'a str>,
}

/// A check, a part of one ("dark-capacity/idle"), or all of them.
fn is_known(name: &str) -> bool {
    name == "all" || names().any(|known| known == name)
}

/// Every name that an opt-out or a suppression may give.
pub fn names() -> impl Iterator<Item = String> {
    CHECKS.iter().flat_map(|check| {
        let parts = check.parts().iter().flatten();
        let named = parts.map(|part| format!("{}/{part}", check.id()));
        std::iter::once(check.id().to_string()).chain(named)
    })
}

/// The known names that are like this one, the nearest first.
pub fn near(name: &str) -> Vec<String> {
    let mut all: Vec<(f64, String)> = names()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, &known), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    all.into_iter().map(|(_, known)| known).take(3).collect()
}

/// Meant as a name, and of no check.
fn is_misspelt(word: &str) -> bool {
    let of_check = word.split_once('/').is_some_and(|(check, _)| is_known(check));
    !is_known(word) && (of_check || !near(word).is_empty())
}

impl<'a> OptOut<'a> {
    fn of(ignore: &'a Ignore) -> Self {
        let words = || ignore.checks.iter().map(String::as_str);
        let (known, others): (Vec<&str>, Vec<&str>) = words().partition(|w| is_known(w));
        let misspelt = others.iter().any(|w| is_misspelt(w));
        if known.is_empty() && !misspelt {
            // No list at all: the words in front are the reason's own.
            return Self {
                checks: None,
                reason: [ignore.checks.join(", "), ignore.reason.clone()]
                    .join(" ")
                    .trim()
                    .into(),
                unknown: Vec::new(),
            };
        }
        Self {
            checks: Some(known),
            reason: ignore.reason.clone(),
            unknown: others,
        }
    }

    fn covers(&self, finding: &Finding) -> bool {
        let part = finding.part.map(|p| format!("{}/{p}", finding.check));
        let is = |c: &&str| *c == "all" || *c == finding.check || part.as_deref() == Some(*c);
        !self.reason.is_empty() && self.checks.as_ref().is_none_or(|checks| checks.iter().any(is))
    }

    /// What of it is of no effect, and why.
    fn trouble(&self) -> Option<(String, &'static str)> {
        if !self.unknown.is_empty() {
            let said = |word: &&str| match near(word).first() {
                Some(near) => format!("'{word}' (did you mean '{near}'?)"),
                None => format!("'{word}'"),
            };
            let words: Vec<String> = self.unknown.iter().map(said).collect();
            let effect = match &self.checks {
                Some(checks) if !checks.is_empty() => "only the checks that it names rightly are opted out of",
                _ => "it opts out of nothing",
            };
            return Some((format!("there is no check {}", words.join(", ")), effect));
        }
        let nothing = self.reason.is_empty();
        nothing.then(|| ("it gives no reason".into(), "it opts out of nothing"))
    }
}

/// Marks a finding that the owner of its subject opted out of.
pub(super) fn apply(fleet: &Fleet, finding: &mut Finding) {
    let by = |ignore: Option<&Ignore>| -> Option<String> {
        let opt_out = OptOut::of(ignore?);
        opt_out.covers(finding).then_some(opt_out.reason)
    };
    let of_workload = finding.workload.and_then(|w| by(fleet.workload(w).ignore.as_ref()));
    let of_nodes = || {
        let ignores: Option<Vec<String>> = finding
            .claims
            .iter()
            .map(|c| by(fleet.node(fleet.slot(c.slot).node).ignore.as_ref()))
            .collect();
        // A pool's finding is opted out only where every node of it is.
        ignores.filter(|_| finding.workload.is_none())?.into_iter().next()
    };
    finding.ignored = of_workload.or_else(of_nodes);
}

/// Its owner opted out of all that the check may find.
pub(super) fn of_check(workload: &Workload, check: &str) -> bool {
    let is = |c: &&str| *c == "all" || *c == check;
    workload.ignore.as_ref().is_some_and(|ignore| {
        let opt_out = OptOut::of(ignore);
        !opt_out.reason.is_empty() && opt_out.checks.as_ref().is_none_or(|checks| checks.iter().any(is))
    })
}

/// Annotations that do not do what they say.
pub(super) fn gaps(fleet: &Fleet) -> Vec<Gap> {
    let of_workloads = fleet.workloads.iter().filter_map(|w| {
        let what = format!("{} {}/{}", w.kind, w.namespace, w.name);
        Some((w.cluster, what, w.ignore.as_ref()?))
    });
    let of_nodes = fleet
        .nodes
        .iter()
        .filter_map(|n| Some((n.cluster, format!("node {}", n.name), n.ignore.as_ref()?)));
    let all: BTreeSet<Gap> = of_workloads
        .chain(of_nodes)
        .filter_map(|(cluster, what, ignore)| {
            let (reason, effect) = OptOut::of(ignore).trouble()?;
            Some(Gap {
                source: format!("cluster {}", fleet.clusters[cluster].name),
                what: format!("annotation gpuwaste.dev/ignore of {what}"),
                reason,
                effect: effect.into(),
                remedy: "write \"CHECK[,CHECK] REASON\", or a reason alone to opt out of all checks".into(),
            })
        })
        .collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the collector splits it.
    fn read(checks: &[&str], reason: &str) -> Ignore {
        Ignore {
            checks: checks.iter().map(ToString::to_string).collect(),
            reason: reason.into(),
        }
    }

    #[test]
    fn a_reason_alone_opts_out_of_all_and_a_misspelt_check_of_nothing() {
        let scope = |checks: &[&str], reason: &str| {
            let ignore = read(checks, reason);
            let o = OptOut::of(&ignore);
            let named = o
                .checks
                .as_ref()
                .map(|c| c.iter().map(ToString::to_string).collect::<Vec<_>>());
            (named, o.reason.clone(), o.trouble().map(|(why, _)| why))
        };
        let all = |reason: &str| (None, reason.to_string(), None);
        assert_eq!(
            scope(&["failover"], "spare, reviewed 2026-10"),
            all("failover spare, reviewed 2026-10")
        );
        assert_eq!(scope(&["standby"], ""), all("standby"));
        assert_eq!(scope(&["idle"], "on purpose"), all("idle on purpose"));
        let some = |names: &[&str], reason: &str, why: Option<&str>| {
            let names = names.iter().map(ToString::to_string).collect();
            (Some(names), reason.to_string(), why.map(String::from))
        };
        assert_eq!(
            scope(&["dark-capacity/idle", "kv-pressure"], "canary"),
            some(&["dark-capacity/idle", "kv-pressure"], "canary", None)
        );
        assert_eq!(
            scope(&["dark-capcity"], "canary"),
            some(
                &[],
                "canary",
                Some("there is no check 'dark-capcity' (did you mean 'dark-capacity'?)")
            )
        );
        assert_eq!(
            scope(&["kv-pressure", "latency"], "canary"),
            some(&["kv-pressure"], "canary", Some("there is no check 'latency'"))
        );
        assert_eq!(
            scope(&["dark-capacity/asleep"], "canary"),
            some(
                &[],
                "canary",
                Some("there is no check 'dark-capacity/asleep' (did you mean 'dark-capacity/idle'?)")
            )
        );
        assert_eq!(
            scope(&["dark-capacity"], ""),
            some(&["dark-capacity"], "", Some("it gives no reason"))
        );
    }

    #[test]
    fn a_suppression_names_a_check_or_a_part_that_some_check_declares() {
        let known: Vec<String> = names().collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let policy = |check: &str| {
            let text = format!("[[suppress]]\ncheck = \"{check}\"\nsubject = \"*\"\nreason = \"r\"\n");
            crate::settings::parse(&text, "gpuwaste.toml", &known).map(|_| ())
        };
        for name in &known {
            assert_eq!(policy(name), Ok(()), "{name}");
        }
        for (wrong, near) in [
            ("parallelism-mismatch/to-few", "parallelism-mismatch/too-few"),
            ("spec-hygiene/memory-reqest", "spec-hygiene/memory-request"),
            ("kv-presure", "kv-pressure"),
        ] {
            let refused = policy(wrong).expect_err(wrong);
            assert!(refused.contains(&format!("did you mean '{near}'")), "{refused}");
        }
    }
}
