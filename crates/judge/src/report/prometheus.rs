//! `--format prometheus`: text for node_exporter's textfile collector. What is not known has no sample.

use super::document::{Gate, GateResult, Report, ReportFinding, Status};
use super::lines;
use super::text;
use crate::units::UsdPerHour;
use gpuwaste_facts::text::is_harmful;
use std::io::{self, Write};

/// A label's value: quotes and backslashes escaped; what is not shown stands as its number, so that two names that look
/// alike stay two series.
fn escaped(value: &str) -> String {
    let mut all = String::new();
    for c in value.chars() {
        match c {
            '\\' => all.push_str("\\\\"),
            '"' => all.push_str("\\\""),
            c if is_harmful(c) => all.push_str(&format!("<U+{:04X}>", u32::from(c))),
            // CI systems read "##[" and "##word[" as commands.
            '#' if all.ends_with('#') => all.push_str("<U+0023>"),
            c => all.push(c),
        }
    }
    all
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}=\"{}\"", escaped(v))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn of_finding(f: &ReportFinding) -> String {
    let s = &f.subject;
    let text = |v: &'_ Option<String>| v.clone().unwrap_or_default();
    labels(&[
        ("id", &f.id),
        ("check", &f.check),
        ("part", &text(&f.part)),
        ("grade", if f.grade.is_some() { text::ledger_name(f) } else { "" }),
        ("confidence", f.confidence.name()),
        ("status", text::status_name(f.status)),
        ("cluster", &text(&s.cluster)),
        ("namespace", &text(&s.namespace)),
        ("kind", &text(&s.kind)),
        ("name", &text(&s.name)),
        ("pool", &text(&s.pool)),
        ("gpu", &text(&s.gpu)),
        ("model", &text(&s.model)),
        ("engine", &text(&s.engine)),
        ("owner", &text(&f.owner)),
    ])
}

pub(super) fn render(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let t = &report.totals;
    let mut gauge = |name: &str, help: &str, rows: Vec<(String, f64)>| -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(out, "# HELP gpuwaste_{name} {help}\n# TYPE gpuwaste_{name} gauge")?;
        rows.into_iter()
            .try_for_each(|(labels, value)| writeln!(out, "gpuwaste_{name}{labels} {value}"))
    };
    let one = |value: f64| vec![(String::new(), value)];
    let known = |usd: Option<UsdPerHour>| usd.map(|u| (String::new(), u.usd())).into_iter().collect::<Vec<_>>();
    let counted = |money: fn(&ReportFinding) -> Option<UsdPerHour>| {
        let findings = report.findings.iter().filter(|f| f.status != Status::Suppressed);
        findings
            .filter_map(|f| Some((of_finding(f), money(f)?.usd())))
            .collect::<Vec<_>>()
    };
    let version = labels(&[("version", &report.tool.version)]);
    gauge("build_info", "The gpuwaste that wrote this.", vec![(version, 1.0)])?;
    let at = report.taken_at.as_second() as f64;
    gauge("taken_at_seconds", "When the fleet was read, Unix time.", one(at))?;
    gauge(
        "spend_usd_per_hour",
        "Cost of all GPU nodes with a known price.",
        known(t.spend_usd_per_hour),
    )?;
    let waste = counted(|f| f.waste_usd_per_hour);
    gauge(
        "waste_usd_per_hour",
        "Recoverable waste by finding; adds up to gpuwaste_total_waste_usd_per_hour.",
        waste,
    )?;
    let at_risk = counted(|f| f.at_risk_usd_per_hour);
    gauge(
        "at_risk_usd_per_hour",
        "Spend whose work is failing, by finding.",
        at_risk,
    )?;
    gauge(
        "total_waste_usd_per_hour",
        "Recoverable waste.",
        known(t.waste_usd_per_hour),
    )?;
    gauge(
        "total_waste_now_usd_per_hour",
        "Waste on nodes that can go.",
        known(t.waste_now_usd_per_hour),
    )?;
    gauge(
        "total_at_risk_usd_per_hour",
        "Spend whose work is failing.",
        known(t.at_risk_usd_per_hour),
    )?;
    let decided = t.decisions.iter().flatten();
    let decided = decided.filter_map(|s| Some((labels(&[("state", s.state.name())]), s.waste_usd_per_hour?.usd())));
    gauge(
        "decided_waste_usd_per_hour",
        "Recoverable waste by what was decided about it; adds up to gpuwaste_total_waste_usd_per_hour.",
        decided.collect(),
    )?;
    let costs = &t.unit_costs;
    let bases = [
        ("output", "held", costs.usd_per_million_output_tokens),
        ("input", "held", costs.usd_per_million_input_tokens),
        ("output", "used", costs.usd_per_million_output_tokens_used),
        ("input", "used", costs.usd_per_million_input_tokens_used),
    ];
    let priced = bases.into_iter();
    let priced =
        priced.filter_map(|(tokens, basis, usd)| Some((labels(&[("tokens", tokens), ("basis", basis)]), usd?)));
    gauge(
        "usd_per_million_tokens",
        "What a million tokens cost where they are known: of all that is held, and of the share in use.",
        priced.collect(),
    )?;
    let states = lines::states(t).map(|(state, gpus)| (labels(&[("state", state)]), gpus));
    gauge("gpus", "Physical GPUs by state.", states.into())?;
    gauge("gpus_unpriced", "GPUs without a known price.", one(t.gpus_unpriced))?;
    let coverage = t.coverage_percent.map(|c| (String::new(), c));
    gauge(
        "coverage_percent",
        "Share of the fleet's cost that could be judged.",
        coverage.into_iter().collect(),
    )?;
    gauge("gaps", "Things that could not be read.", one(report.gaps.len() as f64))?;
    let one_where = |result: GateResult, known: &[GateResult]| {
        let gates = report.gates.iter().filter(|g| known.contains(&g.result()));
        let sample = |g: &Gate| (labels(&[("gate", &g.name)]), f64::from(u8::from(g.result() == result)));
        gates.map(sample).collect::<Vec<_>>()
    };
    let decided = [GateResult::Passed, GateResult::Breached];
    gauge(
        "gate_breached",
        "1 where a gate's limit was not held, 0 where it was; no sample where nobody knows.",
        one_where(GateResult::Breached, &decided),
    )?;
    gauge(
        "gate_undecided",
        "1 where too little could be read for a gate's verdict.",
        one_where(
            GateResult::NoVerdict,
            &[GateResult::Passed, GateResult::Breached, GateResult::NoVerdict],
        ),
    )?;
    if let Some(groups) = &report.groups {
        let rows = |of: fn(&super::document::Group) -> Option<f64>| {
            let rows = groups.rows.iter();
            rows.filter_map(|r| Some((labels(&[("by", &groups.by), ("name", &r.name)]), of(r)?)))
                .collect::<Vec<_>>()
        };
        gauge("group_gpus", "GPUs by group.", rows(|r| Some(r.gpus)))?;
        gauge(
            "group_spend_usd_per_hour",
            "Spend by group.",
            rows(|r| r.spend_usd_per_hour.map(UsdPerHour::usd)),
        )?;
        gauge(
            "group_waste_usd_per_hour",
            "Recoverable waste by group.",
            rows(|r| r.waste_usd_per_hour.map(UsdPerHour::usd)),
        )?;
        gauge(
            "group_at_risk_usd_per_hour",
            "Spend at risk by group.",
            rows(|r| r.at_risk_usd_per_hour.map(UsdPerHour::usd)),
        )?;
        gauge(
            "group_usd_per_million_output_tokens",
            "What a million output tokens cost by group, of all that is held.",
            rows(|r| r.unit_costs.usd_per_million_output_tokens),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_be_broken_out_of() {
        assert_eq!(labels(&[("a", "x\"} 1\ny\\")]), "{a=\"x\\\"} 1<U+000A>y\\\\\"}");
    }
}
