//! `--format csv`: a row a finding, for spreadsheets; with `--group-by` also a row a group; and the chargeback sheet, a row a
//! workload over the time that was counted, and a row for each of its days where history tells them.

use super::document::{Report, ReportFinding, ReportWorkload, Status, UnitCosts};
use super::text::{self, plain};
use crate::analyze::finding::Location;
use crate::fleet::unit_cost::per_million;
use crate::units::UsdPerHour;
use std::io::{self, Write};

const COLUMNS: [&str; 45] = [
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
    // Of workloads and groups: the chargeback sheet.
    "owner",
    "day",
    "hours",
    "gpu_hours",
    "spend_usd",
    "waste_usd",
    "input_tokens",
    "output_tokens",
    "usd_per_million_output_tokens",
    "usd_per_million_input_tokens",
    "usd_per_million_output_tokens_used",
    "usd_per_million_input_tokens_used",
    // Of findings, with a ledger of decisions.
    "decision",
    "decision_reason",
    "decision_until",
    "decision_note",
    "expected_usd_per_hour",
];

/// The first column of decisions.
const DECISION: usize = 40;

/// The first column of the chargeback sheet.
const CHARGEBACK: usize = 28;

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
        record[CHARGEBACK + 8..DECISION].clone_from_slice(&prices(&row.unit_costs));
        if let Some(past) = &row.past {
            // The rates above are of now; these are sums of the days behind.
            record[CHARGEBACK + 2] = (past.window_seconds / 3600).to_string();
            record[CHARGEBACK + 3] = past.gpu_hours.to_string();
            record[CHARGEBACK + 4] = figure(past.usd);
            record[CHARGEBACK + 5] = figure(past.unused_usd);
            record[23] = super::past::mail_line(report, row).map_or_else(String::new, |line| cell(&line));
        }
        writer.write_record(record).map_err(io_error)?;
    }
    for w in &report.workloads {
        for record in chargeback(w) {
            writer.write_record(record).map_err(io_error)?;
        }
    }
    writer.flush()
}

/// `--format chargeback`: what each group has to be billed, as CSV with a header of its own. What nobody holds is a row of its own; the
/// rows add up to the totals.
pub(super) fn chargeback_sheet(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let by = report.groups.as_ref().map_or("owner", |g| g.by.as_str());
    let month =
        |usd: Option<UsdPerHour>| figure(usd.map(|u| (u.usd() * text::HOURS_PER_MONTH * 100.0).round() / 100.0));
    let row = |g: &super::document::Group| {
        vec![
            g.name.clone(),
            g.gpus.to_string(),
            number(g.spend_usd_per_hour),
            month(g.spend_usd_per_hour),
            number(g.waste_usd_per_hour),
            month(g.waste_usd_per_hour),
            number(g.at_risk_usd_per_hour),
            figure(g.unit_costs.usd_per_million_output_tokens),
            figure(g.unit_costs.usd_per_million_input_tokens),
        ]
    };
    let head = [
        by,
        "gpus",
        "spend_usd_per_hour",
        "spend_usd_per_month",
        "waste_usd_per_hour",
        "waste_usd_per_month",
        "at_risk_usd_per_hour",
        "usd_per_million_output_tokens",
        "usd_per_million_input_tokens",
    ]
    .map(plain);
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    table(
        &head,
        report.groups.iter().flat_map(|g| &g.rows).map(row).collect(),
        out,
    )
}

/// Rows under a head of their own; no cell is a formula.
pub(super) fn table(head: &[&str], rows: Vec<Vec<String>>, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(head).map_err(io_error)?;
    for row in rows {
        writer.write_record(row.iter().map(|c| cell(c))).map_err(io_error)?;
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
    let counts = f.status != Status::Suppressed;
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
        // What is suppressed is in no total: a column adds up to it without a filter.
        number(f.waste_usd_per_hour.filter(|_| counts)),
        number(f.waste_now_usd_per_hour.filter(|_| counts)),
        number(f.at_risk_usd_per_hour.filter(|_| counts)),
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
    .into_iter()
    .chain(std::iter::repeat_n(String::new(), DECISION - CHARGEBACK))
    .chain(decision(f))
    .collect()
}

/// State, reason (of one that is open again: why), last day, what there is to justify it, and what is expected of it.
fn decision(f: &ReportFinding) -> [String; 5] {
    let expected = number(f.expected_usd_per_hour);
    let Some(d) = &f.decision else {
        return [String::new(), String::new(), String::new(), String::new(), expected];
    };
    let why = d.reopened.as_deref().or(d.reason.as_deref()).unwrap_or_default();
    let until = d.until.map(|day| day.to_string()).unwrap_or_default();
    [
        d.state.name().into(),
        cell(why),
        until,
        cell(&d.justification()),
        expected,
    ]
}

/// Empty where unknown, never 0.
fn figure(value: Option<f64>) -> String {
    value.map(|v| ((v * 1e6).round() / 1e6).to_string()).unwrap_or_default()
}

/// On the allocation basis (output, input), then on the use basis.
fn prices(costs: &UnitCosts) -> [String; 4] {
    [
        costs.usd_per_million_output_tokens,
        costs.usd_per_million_input_tokens,
        costs.usd_per_million_output_tokens_used,
        costs.usd_per_million_input_tokens_used,
    ]
    .map(figure)
}

/// What a workload held, cost and did over the time that was counted, then day by day.
fn chargeback(w: &ReportWorkload) -> Vec<Vec<String>> {
    let text = |value: &Option<String>| cell(value.as_deref().unwrap_or_default());
    let costs = &w.unit_costs;
    let row = |kind: &str, day: String, hours: Option<f64>, share: Option<f64>| {
        let mut record = vec![String::new(); COLUMNS.len()];
        record[0] = kind.into();
        record[10] = number(w.waste_usd_per_hour);
        record[13] = number(w.usd_per_hour);
        record[14] = figure(w.replicas.zip(w.gpus_per_replica).map(|(n, each)| (n * each) as f64));
        record[15] = text(&w.cluster);
        record[16] = cell(&w.namespace);
        record[17] = cell(&w.kind);
        record[18] = cell(&w.name);
        record[20] = text(&w.gpu);
        record[21] = text(&w.model);
        record[22] = text(&w.engine);
        let over = |usd: Option<UsdPerHour>| figure(usd.zip(hours).map(|(u, h)| u.usd() * h));
        let tokens = |rate: Option<f64>| {
            rate.zip(w.counted_hours)
                .zip(share)
                .map(|((r, h), share)| r * h * share)
        };
        let (input, output) = (
            tokens(costs.input_tokens_per_hour),
            tokens(costs.output_tokens_per_hour),
        );
        let of_day = [
            text(&w.owner),
            day,
            figure(hours),
            figure(w.mean_gpus.zip(hours).map(|(g, h)| g * h)),
            over(costs.token_spend_usd_per_hour),
            over(w.waste_usd_per_hour),
            figure(input.map(f64::round)),
            figure(output.map(f64::round)),
        ];
        record[CHARGEBACK..CHARGEBACK + 8].clone_from_slice(&of_day);
        record
    };
    let mut whole = row("workload", String::new(), w.counted_hours, Some(1.0));
    whole[CHARGEBACK + 8..DECISION].clone_from_slice(&prices(costs));
    let mut rows = vec![whole];
    let Some(hourly) = w.hourly.as_ref().filter(|_| w.counted_hours.is_some()) else {
        return rows;
    };
    // History keeps the work of each hour, not its tokens: a day has its share of them, and the mean of what was held.
    let all: f64 = hourly.values.iter().flatten().sum();
    for (date, work, hours) in hourly.by_date() {
        let share = (all > 0.0).then(|| work / all);
        let mut record = row("workload-day", date, Some(hours), share);
        let per_hour = |tokens: &str| tokens.parse::<f64>().ok().map(|t| t / hours);
        let (input, output) = (per_hour(&record[CHARGEBACK + 6]), per_hour(&record[CHARGEBACK + 7]));
        let price =
            |usd: Option<UsdPerHour>, tokens: Option<f64>| figure(usd.zip(tokens).and_then(|(u, t)| per_million(u, t)));
        let held = costs.token_spend_usd_per_hour;
        record[CHARGEBACK + 8] = price(held, output);
        record[CHARGEBACK + 9] = price(held, input);
        rows.push(record);
    }
    rows
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
