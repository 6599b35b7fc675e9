//! Line-oriented formats: CSV for spreadsheets, Prometheus text for a textfile collector, Markdown for pull requests.

use super::RenderOptions;
use super::document::{Report, ReportFinding, Status};
use super::text::{self, plain};
use std::io::{self, Write};

/// A cell that a spreadsheet must not take for a formula.
fn cell(value: &str) -> String {
    let value = plain(value);
    if value.starts_with(['=', '+', '-', '@']) {
        format!("'{value}")
    } else {
        value
    }
}

pub(super) fn csv(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record([
        "id",
        "check",
        "part",
        "kind",
        "grade",
        "status",
        "confidence",
        "usd_per_hour",
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
    ])?;
    for f in &report.findings {
        let s = &f.subject;
        let text = |value: &Option<String>| cell(value.as_deref().unwrap_or_default());
        writer.write_record([
            f.id.clone(),
            f.check.clone(),
            f.part.clone().unwrap_or_default(),
            text::ledger_name(f)
                .replace(' ', "-")
                .replace("now", "recoverable")
                .replace("reusable", "recoverable"),
            f.grade.map(|_| text::ledger_name(f).to_string()).unwrap_or_default(),
            text::status_name(f.status).into(),
            f.confidence.name().into(),
            f.usd_per_hour.map(|u| u.usd().to_string()).unwrap_or_default(),
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
        ])?;
    }
    writer.flush()
}

fn label(value: &str) -> String {
    plain(value).replace('\\', "\\\\").replace('"', "\\\"")
}

pub(super) fn prometheus(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let t = &report.totals;
    let mut gauge = |name: &str, help: &str, rows: Vec<(String, f64)>| -> io::Result<()> {
        writeln!(out, "# HELP gpuwaste_{name} {help}\n# TYPE gpuwaste_{name} gauge")?;
        rows.into_iter()
            .try_for_each(|(labels, value)| writeln!(out, "gpuwaste_{name}{labels} {value}"))
    };
    gauge(
        "spend_usd_per_hour",
        "Cost of all GPU nodes with a known price.",
        vec![(String::new(), t.spend_usd_per_hour.usd())],
    )?;
    let counted = |f: &&ReportFinding| f.status != Status::Suppressed && f.waste_usd_per_hour.is_some();
    let rows = report
        .findings
        .iter()
        .filter(counted)
        .map(|f| {
            let s = &f.subject;
            let of = |v: &Option<String>| label(v.as_deref().unwrap_or_default());
            let labels = format!(
                "{{id=\"{}\",check=\"{}\",grade=\"{}\",confidence=\"{}\",cluster=\"{}\",namespace=\"{}\",name=\"{}\",gpu=\"{}\"}}",
                f.id,
                text::check_name(f),
                text::ledger_name(f),
                f.confidence.name(),
                of(&s.cluster),
                of(&s.namespace),
                of(&s.name),
                of(&s.gpu)
            );
            (labels, f.waste_usd_per_hour.map_or(0.0, super::super::units::UsdPerHour::usd))
        })
        .collect();
    gauge("waste_usd_per_hour", "Recoverable waste by finding.", rows)?;
    gauge(
        "at_risk_usd_per_hour",
        "Spend whose work is failing.",
        vec![(String::new(), t.at_risk_usd_per_hour.usd())],
    )?;
    let states = [
        ("free", t.gpus_free),
        ("working", t.gpus_working),
        ("idle", t.gpus_idle),
        ("stuck", t.gpus_stuck),
        ("unhealthy", t.gpus_unhealthy),
        ("unknown", t.gpus_unknown),
    ];
    gauge(
        "gpus",
        "Physical GPUs by state.",
        states.iter().map(|(n, v)| (format!("{{state=\"{n}\"}}"), *v)).collect(),
    )?;
    // Unknown coverage has no sample: a missing series is not a zero.
    gauge(
        "coverage_percent",
        "Share of the fleet's cost that could be judged.",
        t.coverage_percent.map(|c| (String::new(), c)).into_iter().collect(),
    )
}

/// A cell of a Markdown table, with everything that could end it or become markup escaped.
fn md(value: &str) -> String {
    let mut out = String::new();
    for c in plain(value).chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("@\u{2060}"),
            c => out.push(c),
        }
    }
    out
}

pub(super) fn markdown(report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let t = &report.totals;
    writeln!(
        out,
        "## GPU waste: {} of {} ({})\n",
        text::money(t.waste_usd_per_hour),
        text::money(t.spend_usd_per_hour),
        text::percent(t.waste_percent)
    )?;
    writeln!(
        out,
        "| now | reusable | at risk | GPUs | coverage |\n|---:|---:|---:|---:|---:|"
    )?;
    let coverage = t
        .coverage_percent
        .map_or_else(|| "unknown".into(), |c| format!("{c:.0} %"));
    writeln!(
        out,
        "| {} | {} | {} | {} | {coverage} |\n",
        text::money(t.waste_now_usd_per_hour),
        text::money(t.waste_reusable_usd_per_hour),
        text::money(t.at_risk_usd_per_hour),
        text::count(t.gpus)
    )?;
    for gate in &report.gates {
        writeln!(
            out,
            "- gate **{}**: {} (limit {:.2}, actual {})",
            md(&gate.name),
            if gate.breached { "**breached**" } else { "passed" },
            gate.limit,
            gate.actual.map_or_else(|| "unknown".into(), |a| format!("{a:.2}"))
        )?;
    }
    let all: Vec<&ReportFinding> = report
        .findings
        .iter()
        .filter(|f| f.status != Status::Suppressed)
        .collect();
    if !all.is_empty() {
        writeln!(
            out,
            "\n| $/h | money | sure | finding | where |\n|---:|---|---|---|---|"
        )?;
        for f in all.iter().take(options.top.unwrap_or(20)) {
            let amount = f.usd_per_hour.map_or_else(|| "–".into(), |u| format!("{:.2}", u.usd()));
            writeln!(
                out,
                "| {amount} | {} | {} | {} | {} |",
                text::ledger_name(f),
                f.confidence.name(),
                md(&f.title),
                md(&text::subject_name(&f.subject))
            )?;
        }
        writeln!(out, "\n<details><summary>What to do</summary>\n")?;
        for (index, f) in all.iter().take(options.top.unwrap_or(20)).enumerate() {
            writeln!(out, "{}. {}", index + 1, md(&f.fix.summary))?;
        }
        writeln!(out, "\n</details>")?;
    }
    if !report.gaps.is_empty() {
        writeln!(
            out,
            "\n<details><summary>{} in what could be read</summary>\n",
            text::plural(report.gaps.len() as u64, "gap")
        )?;
        for gap in &report.gaps {
            writeln!(out, "- {}: {}; {}", md(&gap.what), md(&gap.reason), md(&gap.remedy))?;
        }
        writeln!(out, "\n</details>")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_gets_no_formula_and_a_pull_request_no_markup() {
        assert_eq!(cell("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
        assert_eq!(cell("plain"), "plain");
        assert_eq!(md("a|b<script>*x*"), "a\\|b&lt;script&gt;\\*x\\*");
        assert_eq!(label("a\"b\\c\n"), "a\\\"b\\\\c ");
    }
}
