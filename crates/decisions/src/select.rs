//! Which findings a command means: ids by their beginnings, or a check and a subject.

use crate::entry::{check_name, subject};
use crate::report::document::{Report, ReportFinding};
use std::collections::BTreeSet;

/// Letters that an id's beginning has at least: fewer are more likely a slip.
const SHORTEST: usize = 4;

/// An id is a part of a file's name: nothing else is accepted.
pub fn is_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=64).contains(&id.len()) && id.chars().all(plain) && !id.starts_with('-')
}

/// The ids that these beginnings mean.
///
/// # Errors
/// Names the beginning that means none or several, and those.
pub fn by_prefix<'a>(wanted: &[String], known: &BTreeSet<&'a str>) -> Result<Vec<&'a str>, String> {
    let mut chosen: Vec<&str> = Vec::new();
    for prefix in wanted {
        let id = one(prefix, known)?;
        if !chosen.contains(&id) {
            chosen.push(id);
        }
    }
    Ok(chosen)
}

fn one<'a>(prefix: &str, known: &BTreeSet<&'a str>) -> Result<&'a str, String> {
    if let Some(exact) = known.get(prefix) {
        return Ok(exact);
    }
    if prefix.len() < SHORTEST {
        return Err(format!(
            "'{prefix}' is too short: give at least {SHORTEST} letters of the id"
        ));
    }
    let all: Vec<&str> = known.iter().copied().filter(|id| id.starts_with(prefix)).collect();
    match all.as_slice() {
        [] => Err(format!(
            "no finding has an id that begins with '{prefix}': the JSON report and the HTML details have the ids"
        )),
        [one] => Ok(one),
        several => Err(format!(
            "'{prefix}' is the beginning of several ids: {}",
            several.join(", ")
        )),
    }
}

/// Findings of a check (or a part of one) and of a subject; each `None`: any. `*` matches any run of characters.
pub fn by_kind<'r>(report: &'r Report, check: Option<&str>, subject_like: Option<&str>) -> Vec<&'r ReportFinding> {
    let glob = gpuwaste_judge::glob;
    let fits = |f: &&ReportFinding| {
        let full = check_name(&f.check, f.part.as_deref());
        check.is_none_or(|c| c == f.check || c == full) && subject_like.is_none_or(|s| glob(s, &subject(f)))
    };
    report.findings.iter().filter(fits).collect()
}
