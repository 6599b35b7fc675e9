//! The report: findings ranked, claims resolved, totals that add up; one file a format.

pub mod act;
pub mod columns;
mod csv;
pub mod decision;
pub mod difference;
pub mod document;
pub mod example;
mod fingerprint;
#[cfg(test)]
mod gate_tests;
mod github;
mod html;
pub mod inventory;
mod json;
mod junit;
pub mod ledger;
pub mod lines;
mod markdown;
pub mod order;
mod past;
pub mod people;
mod prometheus;
pub mod rows;
mod sarif;
pub mod show;
mod table;
pub mod terminal;
pub mod text;
pub(crate) mod totals;

use crate::analyze::Outcome;
use crate::analyze::finding::{Evidence, Finding, FindingKind};
use crate::snapshot::{Gap, Source, SourceKind, SourceStatus};
use document::{Grade, PolicyUse, Report, ReportClaim, ReportFinding, ReportFix, SCHEMA, Status, Tool};
use ledger::{Ledger, Resolution, Resolved, is_swallowed};
use rows::GroupBy;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::{self, Write};

/// What a report is made of, beside the ledger.
pub struct Input<'a> {
    pub outcomes: &'a [(&'static str, Outcome)],
    pub sources: &'a [Source],
    pub gaps: &'a [Gap],
    pub group_by: Option<&'a GroupBy>,
    /// Parallel to [`Ledger::findings`]: why it is suppressed; `None`: it is not.
    pub suppressed: &'a [Option<String>],
    pub policy: PolicyUse,
    /// Labels that name an owner.
    pub owner_labels: &'a [String],
}

/// Builds the report. Findings that count are served before suppressed ones, so suppressing never hides another's money.
pub fn build(ledger: &Ledger<'_>, input: &Input<'_>) -> Report {
    let fleet = ledger.fleet;
    let suppressed = |i: usize| input.suppressed.get(i).is_some_and(Option::is_some);
    let resolution = ledger.resolve(|i| Some(u8::from(suppressed(i))));
    let mut findings: Vec<ReportFinding> = (0..ledger.findings.len())
        .filter(|&i| !is_swallowed(ledger.findings[i], &resolution.findings[i]))
        .map(|i| finding(ledger, &resolution, i, input))
        .collect();
    findings.sort_by(|a, b| order(a).cmp(&order(b)));
    let (counts, costs) = (|i| !suppressed(i), rows::unit_costs(fleet));
    let groups = input
        .group_by
        .map(|by| rows::groups(ledger, &resolution, counts, (by, input.owner_labels), &costs));
    let learnt = input.outcomes.iter().flat_map(|(_, outcome)| &outcome.gaps);
    let gaps: BTreeSet<&Gap> = input.gaps.iter().chain(&fleet.gaps).chain(learnt).collect();
    let mut report = Report {
        schema: SCHEMA,
        tool: Tool {
            name: "gpuwaste".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        taken_at: fleet.taken_at,
        window_seconds: fleet.window_seconds,
        sources: sources(input.sources),
        totals: totals::of(fleet, &costs),
        findings,
        checks: totals::checks(fleet, input.outcomes),
        gates: Vec::new(),
        workloads: rows::workloads(ledger, &resolution, counts, &costs, input.owner_labels),
        nodes: rows::nodes(fleet),
        gaps: gaps.into_iter().cloned().collect(),
        groups,
        fixed: None,
        policy: input.policy.clone(),
        plan: None,
        ranked_by_expected: false,
    };
    let lost =
        |s: &Source| matches!(s.kind, SourceKind::Kubernetes | SourceKind::Slurm) && s.status == SourceStatus::Failed;
    let written = |s: &Source| s.kind == SourceKind::Manifest;
    if input.sources.iter().any(lost) {
        report.totals.gpus_uncounted = true;
    }
    if input.sources.iter().any(|s| lost(s) || written(s)) {
        // Its nodes are unread: which share of all GPUs the rest is, nobody knows (R9). Manifests run nothing yet.
        report.totals.coverage_percent = None;
    }
    let priced = report.totals.spend_usd_per_hour;
    report.totals.doubted_usd_per_hour = priced.and_then(|_| ledger.doubted(FindingKind::Recoverable));
    // Totals are the sum of what is listed: nothing is rounded or computed twice.
    totals::add_up(&mut report);
    report
}

fn sources(sources: &[Source]) -> Vec<Source> {
    let mut sources = sources.to_vec();
    sources.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    sources
}

fn finding(ledger: &Ledger<'_>, resolution: &Resolution, i: usize, input: &Input<'_>) -> ReportFinding {
    let finding = ledger.findings[i];
    let resolved = &resolution.findings[i];
    let reason = input.suppressed.get(i).cloned().flatten();
    let many = ledger.fleet.clusters.len() > 1;
    let recoverable = finding.kind == FindingKind::Recoverable;
    let waste = resolved.usd_per_hour.filter(|_| recoverable);
    let mut told = ReportFinding {
        id: ledger.ids[i].clone(),
        check: finding.check.to_owned(),
        part: finding.part.map(str::to_owned),
        title: finding.title.clone(),
        kind: finding.kind,
        grade: recoverable.then_some(if waste.is_some_and(|w| w.is_positive() && w == resolved.now) {
            Grade::Now
        } else {
            Grade::Reusable
        }),
        subject: finding.subject.clone(),
        usd_per_hour: if finding.kind == FindingKind::Trend {
            finding.trend_usd_per_hour
        } else {
            resolved.usd_per_hour
        },
        waste_usd_per_hour: waste,
        waste_now_usd_per_hour: waste.map(|_| resolved.now),
        now_with: resolved.now_with.iter().map(|i| ledger.ids[*i].clone()).collect(),
        at_risk_usd_per_hour: resolved.usd_per_hour.filter(|_| finding.kind == FindingKind::AtRisk),
        confidence: ledger.confidence(i),
        confidence_reasons: reasons(ledger, i),
        evidence: evidence(ledger, finding, resolved),
        claims: claims(ledger, finding, resolved),
        fix: ReportFix {
            summary: finding.fix.summary.clone(),
            placement: finding.fix.placement.clone(),
            patch: finding.fix.patch.clone(),
            action: None,
            commands: Vec::new(),
        },
        status: if reason.is_some() {
            Status::Suppressed
        } else {
            Status::New
        },
        status_reason: reason,
        owner: rows::owner(ledger.fleet, finding, input.owner_labels),
        decision: None,
        expected_usd_per_hour: None,
        record: None,
    };
    told.fix.action = Some(act::short(&told));
    let context = told.subject.cluster.clone().filter(|_| many);
    told.fix.commands = act::commands(&told, context.as_deref());
    told
}

/// Why it is no surer: what the record of such findings says comes first, where it decides.
fn reasons(ledger: &Ledger<'_>, i: usize) -> Vec<String> {
    let own = &ledger.findings[i].confidence_reasons;
    let capped = ledger.caps.get(i).cloned().flatten();
    let capped = capped.filter(|_| ledger.confidence(i) < ledger.findings[i].confidence);
    capped.into_iter().chain(own.iter().cloned()).collect()
}

/// Ranks what can be recovered by what is expected of it, where a record tells; the order of what no record tells of stays.
pub fn rank_by_expected(report: &mut Report) {
    report.ranked_by_expected = true;
    report.findings.sort_by_key(|f| {
        let expected = f.expected_usd_per_hour.or(f.usd_per_hour);
        (f.kind, expected.is_none(), Reverse(expected))
    });
}

/// What the check saw, and what else has to be done before a node can go.
fn evidence(ledger: &Ledger<'_>, finding: &Finding, resolved: &Resolved) -> Vec<Evidence> {
    let mut evidence = finding.evidence.clone();
    if !resolved.with.is_empty() {
        let named = |i: &usize| {
            let other = ledger.findings[*i];
            let subject = text::subject_name(&other.subject);
            let part = other.part.map(|p| format!("/{p}")).unwrap_or_default();
            format!("{}{part} of {subject} ({})", other.check, other.confidence.name())
        };
        let all: Vec<String> = resolved.with.iter().map(named).collect();
        evidence.push(Evidence::text("node_empties_only_with", &all.join("; "), "ledger"));
    }
    evidence
}

fn claims(ledger: &Ledger<'_>, finding: &Finding, resolved: &Resolved) -> Vec<ReportClaim> {
    let mut claims: Vec<ReportClaim> = finding
        .claims
        .iter()
        .zip(&resolved.claims)
        .map(|(claim, usd)| {
            let (node, slot) = ledger.place(claim);
            ReportClaim {
                node: node.name.clone(),
                gpu: slot.name.clone(),
                usd_per_hour: *usd,
                vacates: claim.vacates,
            }
        })
        .collect();
    claims.sort_by(|a, b| (&a.node, &a.gpu).cmp(&(&b.node, &b.gpu)));
    claims
}

type Order<'a> = (
    FindingKind,
    bool,
    Reverse<i64>,
    (&'a str, &'a Option<String>),
    &'a crate::analyze::finding::Subject,
    &'a str,
);

fn order(f: &ReportFinding) -> Order<'_> {
    let micros = f.usd_per_hour.map(super::units::UsdPerHour::micros);
    (
        f.kind,
        micros.is_none(),
        Reverse(micros.unwrap_or_default()),
        (&f.check, &f.part),
        &f.subject,
        &f.id,
    )
}

/// A finding's title without anything that could steer a terminal.
pub fn plain_title(finding: &ReportFinding) -> String {
    text::plain(&finding.title)
}

/// What `--format` accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Json,
    Csv,
    Markdown,
    Html,
    Sarif,
    Junit,
    Prometheus,
    Github,
    Chargeback,
}

/// How to print; the caller looks at terminals and the environment.
#[derive(Clone, Debug)]
pub struct RenderOptions {
    /// Columns of the terminal; 120 in a pipe.
    pub width: usize,
    pub color: bool,
    /// `--top`: findings shown by formats that people read; each has its own number without it.
    pub top: Option<usize>,
    /// Lines of the terminal; `None` in a pipe.
    pub height: Option<usize>,
    /// `-v`: the table with everything that it rests on.
    pub verbose: bool,
    /// `--hints`: findings without dollars are listed, too.
    pub hints: bool,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            width: 120,
            color: false,
            top: None,
            height: None,
            verbose: false,
            hints: false,
        }
    }
}

impl Format {
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Table, "table"),
        (Self::Json, "json"),
        (Self::Csv, "csv"),
        (Self::Markdown, "markdown"),
        (Self::Html, "html"),
        (Self::Sarif, "sarif"),
        (Self::Junit, "junit"),
        (Self::Prometheus, "prometheus"),
        (Self::Github, "github"),
        (Self::Chargeback, "chargeback"),
    ];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(f, _)| *f)
    }

    pub fn render(self, report: &Report, options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Table => table::render(report, options, out),
            Self::Json => json::render(report, out),
            Self::Csv => csv::render(report, out),
            Self::Markdown => markdown::render(report, options, out),
            Self::Html => html::render(report, out),
            Self::Sarif => sarif::render(report, out),
            Self::Junit => junit::render(report, out),
            Self::Prometheus => prometheus::render(report, out),
            Self::Github => github::render(report, out),
            Self::Chargeback => csv::chargeback_sheet(report, out),
        }
    }
}
