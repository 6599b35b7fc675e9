//! `--format sarif`: SARIF 2.1.0, for code scanning. A finding about manifests points at file and line; one about a
//! running fleet has a logical location, and a made-up path beside it, since code scanning refuses results without one.

use super::decision::DecisionState;
use super::document::{GateResult, Report, ReportFinding, Status};
use super::text::{self, plain};
use crate::analyze::CHECKS;
use crate::analyze::finding::{Confidence, FindingKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

pub(super) fn render(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut rules: BTreeMap<String, Value> = BTreeMap::new();
    for f in &report.findings {
        rules.entry(text::check_name(f)).or_insert_with(|| rule(f));
    }
    let index: BTreeMap<String, usize> = rules.keys().cloned().zip(0..).collect();
    let results: Vec<Value> = report
        .findings
        .iter()
        .map(|f| result(report, f, index[&text::check_name(f)]))
        .collect();
    let notifications: Vec<Value> = report
        .gaps
        .iter()
        .map(|g| {
            let message = format!("{}: {} ({}); {}; {}", g.source, g.what, g.reason, g.effect, g.remedy);
            json!({ "level": "note", "message": { "text": message_text(&message) } })
        })
        .collect();
    // What nobody could decide is no successful run: an empty list of results would read as one.
    let undecided = report.gates.iter().filter(|g| g.result() == GateResult::NoVerdict);
    let undecided = undecided.map(|g| {
        let message = format!("gate {}: {}; {}", g.name, g.result().name(), text::gate_figures(g));
        json!({ "level": "error", "message": { "text": message_text(&message) } })
    });
    let undecided: Vec<Value> = undecided.collect();
    let decided = undecided.is_empty();
    let notifications: Vec<Value> = undecided.into_iter().chain(notifications).collect();
    let document = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "gpuwaste",
                "version": report.tool.version,
                "semanticVersion": report.tool.version,
                "rules": rules.into_values().collect::<Vec<_>>(),
            }},
            "invocations": [{
                "executionSuccessful": decided,
                "endTimeUtc": report.taken_at.to_string(),
                "toolExecutionNotifications": notifications,
            }],
            "columnKind": "unicodeCodePoints",
            "results": results,
            "properties": { "totals": report.totals, "gates": report.gates, "groups": report.groups },
        }],
    });
    super::json::write(&document, &mut *out)?;
    writeln!(out)
}

/// RFC 3986: unreserved characters stand as they are; code scanning compares paths letter by letter.
const RESERVED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn rule(f: &ReportFinding) -> Value {
    let check = CHECKS.iter().find(|c| c.id() == f.check);
    let summary = check.map_or("", |c| c.summary());
    let explain = check.map(|c| c.explain()).unwrap_or_default();
    json!({
        "id": text::check_name(f),
        "shortDescription": { "text": if summary.is_empty() { &f.check } else { summary } },
        "fullDescription": { "text": if explain.is_empty() { &f.check } else { &explain } },
        "help": { "text": format!("gpuwaste explain {}", f.check) },
        "defaultConfiguration": { "level": level(f) },
        "properties": { "tags": ["gpu", "cost", text::kind_name(f.kind)] },
    })
}

/// Only what is measured warns; what cannot run at all is an error.
fn level(f: &ReportFinding) -> &'static str {
    match (f.check.as_str(), f.kind, f.confidence) {
        ("undersized-tier", ..) => "error",
        (_, FindingKind::Trend, _) => "note",
        (_, _, Confidence::Measured) => "warning",
        _ => "note",
    }
}

/// SARIF 2.1.0, 3.11.5 and 3.11.6: `{0}` is a placeholder and `[text](target)` a link in a message; neither is meant.
fn message_text(text: &str) -> String {
    let mut all = String::new();
    for c in plain(text).chars() {
        match c {
            '{' => all.push_str("{{"),
            '}' => all.push_str("}}"),
            '[' | ']' | '\\' => all.extend(['\\', c]),
            c => all.push(c),
        }
    }
    all
}

fn result(report: &Report, f: &ReportFinding, rule_index: usize) -> Value {
    let spend = report.totals.spend_usd_per_hour.unwrap_or_default().usd();
    let dollars = f.usd_per_hour.map_or_else(|| "no known price".into(), text::money);
    let message = format!(
        "{} ({dollars}, {}, {}). {}",
        message_text(&f.title),
        text::ledger_name(f),
        f.confidence.name(),
        message_text(&f.fix.summary)
    );
    let mut result = json!({
        "ruleId": text::check_name(f),
        "ruleIndex": rule_index,
        "level": level(f),
        "message": { "text": message },
        "locations": [location(f)],
        "partialFingerprints": { "gpuwaste/v1": f.id },
        "properties": {
            "usd_per_hour": f.usd_per_hour,
            "waste_usd_per_hour": f.waste_usd_per_hour,
            "at_risk_usd_per_hour": f.at_risk_usd_per_hour,
            "confidence": f.confidence,
            "grade": f.grade,
            "owner": f.owner,
            "decision": f.decision,
            "evidence": f.evidence,
        },
    });
    if let (Some(usd), true) = (f.usd_per_hour, spend > 0.0) {
        result["rank"] = json!((usd.usd() / spend * 100.0).clamp(0.0, 100.0));
    }
    if report.fixed.is_some() {
        result["baselineState"] = json!(if f.status == Status::Baseline {
            "unchanged"
        } else {
            "new"
        });
    }
    if f.status == Status::Suppressed {
        let why = plain(f.status_reason.as_deref().unwrap_or_default());
        result["suppressions"] = json!([{ "kind": "external", "justification": why }]);
    }
    // 3.35: `accepted` takes a result out of the list, `underReview` does not.
    if let Some(d) = f.decision.as_ref().filter(|_| f.status != Status::Suppressed) {
        let status = match d.state {
            DecisionState::Snoozed | DecisionState::Dismissed => Some("accepted"),
            DecisionState::Claimed | DecisionState::Applied => Some("underReview"),
            DecisionState::Open => None,
        };
        if let Some(status) = status {
            let why = d.justification();
            result["suppressions"] = json!([{ "kind": "external", "status": status, "justification": why }]);
        }
    }
    result
}

fn location(f: &ReportFinding) -> Value {
    let s = &f.subject;
    let parts: Vec<String> = [&s.cluster, &s.namespace, &s.kind, &s.name]
        .into_iter()
        .flatten()
        .map(|p| plain(p))
        .filter(|p| !p.is_empty())
        .collect();
    let encode = |p: &String| percent_encoding::utf8_percent_encode(p, RESERVED).to_string();
    let path: Vec<String> = std::iter::once("fleet".to_owned())
        .chain(parts.iter().map(encode))
        .collect();
    let physical = match &s.location {
        Some(at) => {
            let file = plain(&at.file);
            let uri: Vec<String> = file
                .trim_start_matches("./")
                .split('/')
                .map(|p| encode(&p.to_owned()))
                .collect();
            json!({ "artifactLocation": { "uri": uri.join("/") }, "region": { "startLine": at.line.max(1) } })
        }
        None => json!({ "artifactLocation": { "uri": path.join("/") } }),
    };
    json!({
        "physicalLocation": physical,
        "logicalLocations": [{ "fullyQualifiedName": parts.join("/"), "kind": "resource" }],
    })
}
