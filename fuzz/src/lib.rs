//! What the targets share: a fleet is judged and shown in every form, and nothing of it may steer whoever reads it.

use gpuwaste_facts::snapshot::Snapshot;
use gpuwaste_facts::text::is_harmful;
use gpuwaste_judge::report::document::Report;
use gpuwaste_judge::report::{Format, RenderOptions};
use gpuwaste_judge::settings::Settings;
use gpuwaste_judge::verdict::Verdict;
use gpuwaste_judge::{join, report_on};

/// As `scan` does, by these settings.
pub fn judged(snapshot: &Snapshot, settings: &Settings) -> (Report, Verdict) {
    report_on(snapshot, &join(snapshot, settings), settings)
}

/// Renders the report in every format and looks at what comes out as those do who read it.
pub fn shown(report: &Report) {
    for (format, name) in Format::ALL {
        let mut out = Vec::new();
        format
            .render(
                report,
                &RenderOptions {
                    verbose: true,
                    hints: true,
                    ..RenderOptions::default()
                },
                &mut out,
            )
            .unwrap();
        let text = String::from_utf8(out).expect("every format is UTF-8");
        let bad = text
            .chars()
            .find(|c| is_harmful(*c) && !matches!(c, '\n' | '\t' | '\r'));
        assert_eq!(bad, None, "{name} holds what steers a terminal");
        match format {
            Format::Json | Format::Sarif => {
                serde_json::from_str::<serde_json::Value>(&text).expect(name);
            }
            Format::Csv | Format::Chargeback => {
                for row in csv::Reader::from_reader(text.as_bytes()).records() {
                    for cell in &row.expect(name) {
                        let formula = cell.starts_with(['=', '+', '-', '@']) && cell.parse::<f64>().is_err();
                        assert!(!formula, "{name} holds a formula: {cell:?}");
                    }
                }
            }
            Format::Html => assert!(!text.contains("<script src"), "{name} loads a script"),
            Format::Github => {
                let commands = ["::error ", "::warning ", "::notice "];
                let other = text
                    .lines()
                    .find(|l| l.trim_start().starts_with("::") && !commands.iter().any(|c| l.starts_with(c)));
                assert_eq!(other, None, "{name} holds a command of somebody else's");
            }
            _ => {}
        }
    }
    let totals = &report.totals;
    for dollars in [
        totals.spend_usd_per_hour,
        totals.waste_usd_per_hour,
        totals.at_risk_usd_per_hour,
    ]
    .into_iter()
    .flatten()
    {
        assert!(dollars.micros() >= 0, "negative dollars");
    }
    if let (Some(spend), Some(waste)) = (totals.spend_usd_per_hour, totals.waste_usd_per_hour) {
        assert!(waste <= spend, "more waste than spend");
    }
}

/// Values that stand where others are expected.
pub const ODD: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "1",
    "1e308",
    "-1e308",
    "9223372036854775807",
    "18446744073709551615",
    "1e-320",
    "\"\"",
    "\"0\"",
    "\"-1\"",
    "\"1e400\"",
    "\"NaN\"",
    "\"9999-12-31T23:59:59Z\"",
    "\"1969-12-31T23:59:59Z\"",
    "\"1e18Gi\"",
    "\"a\\u001b[2Jb\"",
    "\"=HYPERLINK(1)\"",
    "\"::error::x\\n::set-output name=a::b\"",
    "\"$(touch x);`id`\"",
    "\"<img src=x onerror=alert(1)>\"",
    "\"https://user:pass@host/model?sig=abc\"",
    "\"../../secrets/x\"",
    "\"\\u202eevil\"",
    "[]",
    "{}",
    "[[]]",
    "[null]",
    "{\"a\":null}",
];

/// Puts an odd value, or a value from elsewhere in the document, at the `at`-th place of a document.
pub fn spoil(document: &mut serde_json::Value, at: usize, value: usize) {
    let places = count(document);
    let other = (value >= ODD.len()).then(|| nth(document, value % places).clone());
    let new = other.unwrap_or_else(|| serde_json::from_str(ODD[value]).unwrap());
    *nth_mut(document, &mut (at % places)).unwrap() = new;
}

fn children(value: &serde_json::Value) -> Vec<&serde_json::Value> {
    match value {
        serde_json::Value::Array(all) => all.iter().collect(),
        serde_json::Value::Object(all) => all.values().collect(),
        _ => Vec::new(),
    }
}

fn count(value: &serde_json::Value) -> usize {
    1 + children(value).into_iter().map(count).sum::<usize>()
}

fn nth(value: &serde_json::Value, at: usize) -> &serde_json::Value {
    let mut left = at;
    let mut value = value;
    'down: while left > 0 {
        left -= 1;
        for child in children(value) {
            let size = count(child);
            if left < size {
                value = child;
                continue 'down;
            }
            left -= size;
        }
        return value;
    }
    value
}

fn nth_mut<'a>(value: &'a mut serde_json::Value, left: &mut usize) -> Option<&'a mut serde_json::Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        serde_json::Value::Array(all) => all.iter_mut().find_map(|v| nth_mut(v, left)),
        serde_json::Value::Object(all) => all.values_mut().find_map(|v| nth_mut(v, left)),
        _ => None,
    }
}
