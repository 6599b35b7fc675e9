//! The ledger over a report: what stands about each of its findings.

use crate::entry::{Entry, Seen, check_name};
use crate::record::{self, Figures, Record};
use crate::report::decision::Decision;
use crate::report::document::{Report, ReportFinding};
use crate::state;
use crate::verdict::Decisions;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The ledger over a report, with the record of what became of such findings.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    book: Book,
    figures: BTreeMap<String, Figures>,
}

impl Standing {
    /// As of `at`: votes lose weight with time. `others`: records of other fleets.
    pub fn new(book: Book, others: &Record, at: Timestamp) -> Self {
        let own = Record::of(&book);
        let names: BTreeSet<&String> = own.checks.keys().chain(others.checks.keys()).collect();
        let figures = names
            .into_iter()
            .map(|c| (c.clone(), record::figures(&own, others, c, at)));
        Self {
            figures: figures.collect(),
            book,
        }
    }

    fn figures(&self, check: &str, part: Option<&str>) -> Option<(String, &Figures)> {
        let name = check_name(check, part);
        let figures = self.figures.get(&name)?;
        Some((name, figures))
    }
}

impl Decisions for Standing {
    fn of(&self, id: &str, listed: Option<&ReportFinding>, report: &Report) -> Decision {
        self.book.of(id, listed, report)
    }

    fn cap(&self, check: &str, part: Option<&str>) -> Option<String> {
        let (name, figures) = self.figures(check, part)?;
        figures.cap(&name)
    }

    fn record(&self, finding: &ReportFinding) -> Option<(String, Option<f64>)> {
        let (_, figures) = self.figures(&finding.check, finding.part.as_deref())?;
        Some((figures.said()?, figures.expected()))
    }
}

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
