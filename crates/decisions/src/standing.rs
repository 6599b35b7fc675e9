//! The ledger over a report: what stands about each of its findings.

use crate::entry::{Entry, Seen};
use crate::report::decision::Decision;
use crate::report::document::{Report, ReportFinding};
use crate::state;
use crate::verdict::Decisions;
use std::collections::BTreeMap;

/// All files of a ledger, by finding.
#[derive(Clone, Debug, Default)]
pub struct Book {
    pub entries: BTreeMap<String, Entry>,
}

impl Decisions for Book {
    fn of(&self, id: &str, listed: Option<&ReportFinding>, report: &Report) -> Decision {
        let Some(entry) = self.entries.get(id) else {
            return Decision::default();
        };
        let now = listed.map(|f| Seen::of(report, f));
        state::standing(entry, now.as_ref(), report.taken_at)
    }
}
