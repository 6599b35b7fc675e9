//! `--group-by`: a key of the report, else a label. A slip of the hand is a label that nobody has.

use crate::report::document::Report;
use crate::report::rows::GroupBy;
use anyhow::{Result, bail};

/// Keys that are no label.
const KEYS: [&str; 10] = [
    "namespace",
    "workload",
    "model",
    "gpu",
    "node",
    "cluster",
    "owner",
    "user",
    "account",
    "partition",
];
/// As alike as a slip of the hand is: a letter or two of the word ("username" is a label, and no slip of "user").
const ALIKE: f64 = 0.75;

fn alike(text: &str, key: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(text, key)
}

pub(super) fn parse(text: &str) -> Result<GroupBy> {
    if !KEYS.contains(&text) {
        let near = KEYS.iter().max_by(|a, b| alike(text, a).total_cmp(&alike(text, b)));
        if let Some(near) = near.filter(|k| alike(text, k) >= ALIKE) {
            bail!(
                "--group-by {text}: did you mean '{near}'? Known are {}; anything else is a label",
                KEYS.join(", ")
            );
        }
        if text.trim().is_empty() {
            bail!("--group-by: name one of {}, or a label", KEYS.join(", "));
        }
    }
    match text.parse() {
        Ok(by) => Ok(by),
        Err(never) => match never {},
    }
}

/// A label that no workload and no node has sums nothing up.
pub(super) fn doubt(by: &GroupBy, report: &Report) -> Option<String> {
    let of_labels = matches!(
        by,
        GroupBy::Label(_) | GroupBy::User | GroupBy::Account | GroupBy::Partition
    );
    let label = Some(by).filter(|_| of_labels)?;
    let groups = report.groups.as_ref()?;
    let named = groups.rows.iter().any(|g| !g.name.starts_with('('));
    (!named && !groups.rows.is_empty()).then(|| {
        format!(
            "--group-by {label}: no workload and no node has a label of that name; known keys are {}",
            KEYS.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_no_label() {
        assert!(parse("namspace").is_err_and(|e| e.to_string().contains("'namespace'")));
        assert!(parse("modle").is_err() && parse("nodes").is_err());
        for label in ["username", "team", "app.kubernetes.io/part-of", "nodepool", "workspace"] {
            assert_eq!(parse(label).ok(), Some(GroupBy::Label(label.into())));
        }
        assert_eq!(parse("team").ok(), Some(GroupBy::Label("team".into())));
        assert_eq!(parse("owner").ok(), Some(GroupBy::Owner));
    }
}
