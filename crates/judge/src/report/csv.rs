//! `--format csv`: a row a finding, for spreadsheets; with `--group-by` also a row a group.

use super::document::{Report, ReportFinding};
use super::text::{self, plain};
use crate::analyze::finding::Location;
use crate::units::UsdPerHour;
use std::io::{self, Write};

const COLUMNS: [&str; 28] = [
    "record",
    "id",
    "check",
    "part",
    "kind",
    "grade",
    "status",
    "status_reason",
    "confidence",
    "usd_per_hour",
    "waste_usd_per_hour",
    "waste_now_usd_per_hour",
    "at_risk_usd_per_hour",
    "spend_usd_per_hour",
    "gpus",
    "cluster",
    "namespace",
    "subject_kind",
    "subject",
    "pool",
    "gpu",
    "model",
    "engine",
    "title",
    "fix",
    "file",
    "line",
    "path",
];

/// Text that a spreadsheet must not take for a formula: whatever follows leading blanks decides.
///
/// Where lists are separated by semicolons, as in most of Europe, a cell begins behind one, too, quoted or not.
fn cell(value: &str) -> String {
    const FORMULA: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    let value = plain(value);
    let parts = value.split(';').map(|part| {
        let at = part
            .find(|c: char| !c.is_whitespace() && c != '"')
            .unwrap_or(part.len());
        if part[at..].starts_with(FORMULA) {
            format!("'{part}")
        } else {
            part.to_owned()
        }
    });
    parts.collect::<Vec<_>>().join(";")
}

/// As itself, so that a closed pipe is seen as one.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

pub(super) fn render(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(COLUMNS).map_err(io_error)?;
    for f in &report.findings {
        writer.write_record(finding(f)).map_err(io_error)?;
    }
    for (by, row) in report
        .groups
        .iter()
        .flat_map(|g| g.rows.iter().map(move |r| (&g.by, r)))
    {
        let mut record = vec![String::new(); COLUMNS.len()];
        record[0] = "group".into();
        record[10] = number(row.waste_usd_per_hour);
        record[12] = number(row.at_risk_usd_per_hour);
        record[13] = number(row.spend_usd_per_hour);
        record[14] = row.gpus.to_string();
        record[17] = cell(by);
        record[18] = cell(&row.name);
        writer.write_record(record).map_err(io_error)?;
    }
    writer.flush()
}

/// Empty where unknown, never 0.
fn number(usd: Option<UsdPerHour>) -> String {
    usd.map(|u| u.usd().to_string()).unwrap_or_default()
}

fn finding(f: &ReportFinding) -> Vec<String> {
    let s = &f.subject;
    let text = |value: &Option<String>| cell(value.as_deref().unwrap_or_default());
    let at = |of: fn(&Location) -> String| s.location.as_ref().map(of).unwrap_or_default();
    vec![
        "finding".into(),
        f.id.clone(),
        f.check.clone(),
        f.part.clone().unwrap_or_default(),
        text::kind_name(f.kind).into(),
        f.grade.map(|_| text::ledger_name(f).into()).unwrap_or_default(),
        text::status_name(f.status).into(),
        text(&f.status_reason),
        f.confidence.name().into(),
        number(f.usd_per_hour),
        number(f.waste_usd_per_hour),
        number(f.waste_now_usd_per_hour),
        number(f.at_risk_usd_per_hour),
        String::new(),
        text::claimed_gpus(f).map(|n| n.to_string()).unwrap_or_default(),
        text(&s.cluster),
        text(&s.namespace),
        text(&s.kind),
        text(&s.name),
        text(&s.pool),
        text(&s.gpu),
        text(&s.model),
        text(&s.engine),
        cell(&f.title),
        cell(&f.fix.summary),
        at(|l| cell(&l.file)),
        at(|l| l.line.to_string()),
        at(|l| cell(&l.path)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_gets_no_formula() {
        assert_eq!(cell("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
        assert_eq!(cell("\t=1+1"), "' =1+1");
        assert_eq!(cell("＝1+1"), "'＝1+1");
        assert_eq!(cell("plain"), "plain");
    }
}
