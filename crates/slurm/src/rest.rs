//! What slurmrestd says of itself: which paths it has, who it is, and why it has nothing to tell.

use crate::lenient::{Num, Texts};
use gpuwaste_facts::text::harmless;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// "Nothing found with query" (slurm_errno.h: `ESLURM_REST_EMPTY_RESULT`): an empty list, told as an error.
const EMPTY: u64 = 9003;
/// Words of a refusal.
const MOST_WORDS: usize = 300;

/// Paths of its newest API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub nodes: String,
    pub jobs: String,
    /// `None`: it was started without slurmdbd's part.
    pub past: Option<String>,
}

/// Of its description (`/openapi/v3`).
///
/// # Errors
/// What is no such description, in words for people.
pub fn paths(text: &str) -> Result<Paths, String> {
    #[derive(Deserialize)]
    struct Description<'a> {
        #[serde(borrow)]
        paths: BTreeMap<String, &'a RawValue>,
    }
    let described: Description<'_> =
        serde_json::from_str(text).map_err(|_| "its description is not OpenAPI's JSON".to_owned())?;
    let newest = |room: &str, what: &str| {
        let found = described.paths.keys().filter_map(|path| {
            let rest = path.strip_prefix(&format!("/{room}/v"))?;
            let (version, rest) = rest.split_once('/')?;
            let numbers: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
            (rest.trim_end_matches('/') == what).then(|| (numbers, path.clone()))
        });
        found.max().map(|(_, path)| path)
    };
    match (newest("slurm", "nodes"), newest("slurm", "jobs")) {
        (Some(nodes), Some(jobs)) => Ok(Paths {
            nodes,
            jobs,
            past: newest("slurmdb", "jobs"),
        }),
        _ => Err("it describes no path of nodes and jobs ('/slurm/vX/nodes')".into()),
    }
}

/// Which cluster and which release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub cluster: Option<String>,
    pub release: Option<String>,
}

impl About {
    /// Of one answer: newer releases tell the cluster beside each, older ones with each job.
    pub fn learn(&mut self, text: &str) {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Slurm {
            release: Texts,
            cluster: Texts,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Meta {
            #[serde(alias = "Slurm")]
            slurm: Slurm,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct OfJob {
            cluster: Texts,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Answer {
            meta: Meta,
            jobs: Vec<OfJob>,
        }
        let Ok(answer) = serde_json::from_str::<Answer>(text) else {
            return;
        };
        let slurm = answer.meta.slurm;
        let jobs = answer.jobs.iter().map(|j| &j.cluster);
        let cluster = std::iter::once(&slurm.cluster).chain(jobs).find_map(name);
        self.cluster = self.cluster.take().or(cluster);
        self.release = self.release.take().or_else(|| name(&slurm.release));
    }
}

fn name(text: &Texts) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let text = text.text();
    (!text.is_empty() && text.len() <= 64 && text.chars().all(plain)).then(|| text.to_owned())
}

/// Why an answer is none, in its own words; `None`: it has no errors.
pub fn refusal(text: &str) -> Option<String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Fault {
        description: Texts,
        error: Texts,
        error_number: Num,
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        errors: Vec<Fault>,
    }
    let errors = serde_json::from_str::<Answer>(text).ok()?.errors;
    let first = errors.into_iter().find(|e| e.error_number.0 != Some(EMPTY))?;
    let words = [first.error.text(), first.description.text()].map(str::to_owned);
    let words: Vec<String> = words.into_iter().filter(|w| !w.is_empty()).collect();
    let words: String = harmless(&words.join(": ")).chars().take(MOST_WORDS).collect();
    Some(if words.is_empty() {
        "it answered with an error".into()
    } else {
        words
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_api_is_asked() {
        let text = r#"{"paths":{"/slurm/v0.0.9/nodes":{},"/slurm/v0.0.40/nodes/":{},"/slurm/v0.0.39/jobs/":{},"/slurm/v0.0.40/jobs/":{},
            "/slurm/v0.0.40/node/{node_name}":{},"/slurmdb/v0.0.40/jobs/":{},"/slurm/vX/nodes":{}}}"#;
        assert_eq!(
            paths(text),
            Ok(Paths {
                nodes: "/slurm/v0.0.40/nodes/".into(),
                jobs: "/slurm/v0.0.40/jobs/".into(),
                past: Some("/slurmdb/v0.0.40/jobs/".into()),
            })
        );
        assert!(paths("<html>").is_err_and(|e| e.contains("OpenAPI")));
        assert!(paths(r#"{"paths":{"/api/v1/pods":{}}}"#).is_err_and(|e| e.contains("nodes")));
    }

    #[test]
    fn both_forms_say_who_they_are() {
        let mut old = About::default();
        old.learn(r#"{"meta":{"Slurm":{"release":"22.05.8"}},"nodes":[]}"#);
        old.learn(r#"{"meta":{},"jobs":[{"cluster":"hpc"}]}"#);
        let mut new = About::default();
        new.learn(r#"{"meta":{"slurm":{"release":"24.05.1","cluster":"hpc"}},"jobs":[{"cluster":"other"}]}"#);
        assert_eq!(old.cluster.as_deref(), Some("hpc"));
        assert_eq!(
            (new.cluster.as_deref(), new.release.as_deref()),
            (Some("hpc"), Some("24.05.1"))
        );
        let mut odd = About::default();
        odd.learn(r#"{"meta":{"slurm":{"cluster":"a b\u001b"}}}"#);
        assert_eq!(odd, About::default());
    }

    #[test]
    fn an_empty_list_that_is_told_as_an_error_is_empty() {
        let empty = r#"{"errors":[{"description":"Nothing found","error_number":9003,"error":"Nothing found with query"}],"jobs":[]}"#;
        assert_eq!(refusal(empty), None);
    }

    #[test]
    fn an_answer_with_errors_is_none() {
        assert_eq!(refusal(r#"{"errors":[],"jobs":[]}"#), None);
        let text =
            r#"{"errors":[{"description":"Unable to parse","error_number":9000,"error":"Query empty"}],"jobs":[]}"#;
        assert_eq!(refusal(text).as_deref(), Some("Query empty: Unable to parse"));
        assert_eq!(
            refusal(r#"{"errors":[{}]}"#).as_deref(),
            Some("it answered with an error")
        );
    }
}
