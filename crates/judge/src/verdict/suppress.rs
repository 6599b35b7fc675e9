//! Suppressions: findings that their owners decided to live with, by annotation or in the policy file. One that
//! matches nothing, or has expired, is itself reported: it hides the next finding of that name.

use crate::analyze::finding::Finding;
use crate::catalog::prices::glob;
use crate::report::document::{SuppressionState, SuppressionUse};
use crate::report::ledger::Ledger;
use crate::settings::{Settings, Suppression};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What suppressing came to.
pub struct Suppressed {
    /// Parallel to [`Ledger::findings`]: why it is suppressed; `None`: it is not.
    pub reasons: Vec<Option<String>>,
    /// Every suppression of the policy file, in its order.
    pub uses: Vec<SuppressionUse>,
}

/// Matches findings with annotations and with the policy's suppressions; `ran` says which checks were run.
pub fn suppress(ledger: &Ledger<'_>, settings: &Settings, ran: impl Fn(&str) -> bool) -> Suppressed {
    let mut counts = vec![0; settings.suppressions.len()];
    let reasons = (0..ledger.findings.len())
        .map(|i| {
            let finding = ledger.findings[i];
            // A suppression that repeats an annotation is used: removing the annotation would bring the finding back.
            let by = settings
                .suppressions
                .iter()
                .position(|s| !is_expired(s, ledger.fleet.taken_at) && covers(s, finding, &ledger.ids[i]));
            if let Some(by) = by {
                counts[by] += 1;
            }
            let annotated = finding
                .ignored
                .as_ref()
                .map(|why| format!("gpuwaste.dev/ignore: {why}"));
            annotated.or_else(|| by.map(|by| settings.suppressions[by].reason.clone()))
        })
        .collect();
    // With a part of the fleet out of sight, a suppression without a finding may have one there.
    let clusters = &ledger.fleet.clusters;
    let sees_all = clusters.iter().all(|c| c.nodes_known && c.pods_known && !c.scoped);
    let uses = settings
        .suppressions
        .iter()
        .zip(counts)
        .map(|(s, findings)| SuppressionUse {
            check: s.check.clone(),
            subject: s.subject.clone(),
            cluster: s.cluster.clone(),
            reason: s.reason.clone(),
            expires: s.expires.map(|day| day.to_string()),
            line: s.line as u64,
            findings,
            state: match findings {
                _ if is_expired(s, ledger.fleet.taken_at) => SuppressionState::Expired,
                0 if !sees_all || !ran(&s.check) => SuppressionState::NotJudged,
                0 => SuppressionState::Unused,
                _ => SuppressionState::Used,
            },
        })
        .collect();
    Suppressed { reasons, uses }
}

/// After the end of its last day, UTC. The snapshot's time counts, not the clock's: a scan of an old snapshot is stable.
fn is_expired(suppression: &Suppression, at: Timestamp) -> bool {
    let today = TimeZone::UTC.to_datetime(at).date();
    suppression.expires.is_some_and(|last| today > last)
}

fn covers(suppression: &Suppression, finding: &Finding, id: &str) -> bool {
    let check = &suppression.check;
    let part = finding.part.map(|p| format!("{}/{p}", finding.check));
    if check != "all" && check != finding.check && part.as_ref() != Some(check) {
        return false;
    }
    let subject = &finding.subject;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    if suppression
        .cluster
        .as_ref()
        .is_some_and(|c| !glob(c, &text(&subject.cluster)))
    {
        return false;
    }
    let name = text(&subject.name);
    let names = match &subject.namespace {
        Some(namespace) => vec![
            format!("{namespace}/{name}"),
            format!("{} {namespace}/{name}", text(&subject.kind)),
        ],
        None => vec![name],
    };
    suppression.subject == id || names.iter().any(|n| glob(&suppression.subject, n))
}
