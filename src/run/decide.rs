//! decide: what people decide about findings, into the ledger of decisions.

use super::{clock, diff, policy};
use crate::cli::{DecideArgs, ReasonArg};
use crate::report::document::{Report, ReportFinding, Status};
use crate::report::text::{self, plain};
use anyhow::{Result, anyhow, bail};
use gpuwaste_decisions::entry::{Entry, Event, Reason, Seen, Told};
use gpuwaste_decisions::standing::Book;
use gpuwaste_decisions::state::{days_after, last_day, longest};
use gpuwaste_decisions::store::{Append, Folder};
use gpuwaste_decisions::{entry, select};
use jiff::Timestamp;
use jiff::civil::Date;
use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// What can be decided, as users write it.
const STATES: [(&str, Told); 5] = [
    ("claim", Told::Claimed),
    ("applied", Told::Applied),
    ("dismiss", Told::Dismissed),
    ("snooze", Told::Snoozed),
    ("reopen", Told::Open),
];

pub(super) fn decide(args: &DecideArgs) -> Result<ExitCode> {
    let (ids, told) = words(args)?;
    let event = event(args, told, clock::now()?)?;
    let folder = Folder::new(&args.ledger);
    let book = folder.read_or_empty().map_err(|why| anyhow!(why))?;
    let report = match &args.report {
        Some(path) => Some(diff::read(path, &policy::file(None)?)?),
        None => None,
    };
    let by_kind = args.check.is_some() || args.subject.is_some();
    if by_kind && !ids.is_empty() {
        bail!("name findings by their ids or by --check and --subject, not both");
    }
    let chosen: Vec<Append> = match &report {
        Some(report) => {
            let findings = if by_kind {
                select::by_kind(report, args.check.as_deref(), args.subject.as_deref())
                    .into_iter()
                    .filter(|f| f.status != Status::Suppressed)
                    .collect()
            } else {
                named(report, &ids)?
            };
            if by_kind && !agreed(&findings, args)? {
                return Ok(ExitCode::SUCCESS);
            }
            findings
                .into_iter()
                .map(|f| of_report(report, f, &event, &book))
                .collect()
        }
        None => of_ledger(&book, &ids, &event, args)?,
    };
    let mut out = io::stdout().lock();
    for add in chosen {
        let known = book.entries.get(&add.entry.finding.id);
        if told == Told::Open && known.is_none_or(|k| k.in_time().last().is_none_or(|e| e.state == Told::Open)) {
            bail!("{}: nothing is decided about it", add.entry.finding.id);
        }
        let path = folder.append(&add).map_err(|why| anyhow!(why))?;
        writeln!(out, "{}", said(&add, &path))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The ids, and what is decided about them: the last word.
fn words(args: &DecideArgs) -> Result<(Vec<String>, Told)> {
    let known: Vec<&str> = STATES.iter().map(|(n, _)| *n).collect();
    let Some((last, ids)) = args.words.split_last() else {
        bail!("say what is decided: {}", known.join(", "));
    };
    let Some((_, told)) = STATES.iter().find(|(name, _)| name == last) else {
        bail!(
            "the last word says what is decided, and '{last}' is none of {}",
            known.join(", ")
        );
    };
    if ids.is_empty() && args.check.is_none() && args.subject.is_none() {
        bail!("about which findings? Give ids (their beginnings do), or --check and --subject");
    }
    Ok((ids.to_vec(), *told))
}

fn event(args: &DecideArgs, told: Told, at: Timestamp) -> Result<Event> {
    let reason = args.reason.map(|r| match r {
        ReasonArg::Wrong => Reason::Wrong,
        ReasonArg::Intended => Reason::Intended,
        ReasonArg::Cannot => Reason::Cannot,
        ReasonArg::NotWorth => Reason::NotWorth,
        ReasonArg::Later => Reason::Later,
    });
    let known: Vec<&str> = Reason::ALL.iter().map(|r| r.name()).collect();
    let (told, reason) = match (told, reason) {
        (Told::Dismissed, None) => bail!("why? --reason is one of {}", known.join(", ")),
        // To decide later is to snooze.
        (Told::Dismissed | Told::Snoozed, Some(Reason::Later)) => (Told::Snoozed, None),
        (Told::Dismissed, reason) => (told, reason),
        (_, Some(reason)) => bail!("--reason {} belongs to dismiss", reason.name()),
        (_, None) => (told, None),
    };
    let until = args.until.as_deref().map(|text| last(text, at)).transpose()?;
    if until.is_some() && matches!(told, Told::Applied | Told::Open) {
        bail!("--until belongs to claim, snooze and dismiss");
    }
    if let (Some(until), Some(days)) = (until, longest(told, reason))
        && days_after(at, days).is_some_and(|end| until > end)
    {
        bail!(
            "--until {until}: a dismissal holds {days} days at most, so that somebody looks again; a [[suppress]] of the policy with 'expires' holds longer"
        );
    }
    let text = |t: &Option<String>| t.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(plain);
    Ok(Event {
        at,
        state: told,
        reason,
        note: text(&args.note),
        until,
        reference: text(&args.reference),
        by: text(&args.by),
        inferred: false,
        seen: None,
    })
}

/// "2027-01-31", or "14d" from today on.
fn last(text: &str, at: Timestamp) -> Result<Date> {
    let expected = "a day that is still to come is expected, such as 2027-01-31, or 14d";
    let days: Option<i32> = text.strip_suffix('d').and_then(|d| d.parse().ok());
    let day: Date = match days {
        Some(days) => days_after(at, days).ok_or_else(|| anyhow!("--until {text}: {expected}"))?,
        None => text.parse().map_err(|_| anyhow!("--until {text}: {expected}"))?,
    };
    if day < gpuwaste_decisions::state::day(at) {
        bail!("--until {text}: {expected}");
    }
    Ok(day)
}

fn named<'r>(report: &'r Report, ids: &[String]) -> Result<Vec<&'r ReportFinding>> {
    let known: BTreeSet<&str> = report.findings.iter().map(|f| f.id.as_str()).collect();
    let chosen = select::by_prefix(ids, &known).map_err(|why| anyhow!(why))?;
    let find = |id: &str| report.findings.iter().find(|f| f.id == id);
    Ok(chosen.into_iter().filter_map(find).collect())
}

/// Lists what is meant, and asks. Where nobody can answer, nothing is decided.
fn agreed(findings: &[&ReportFinding], args: &DecideArgs) -> Result<bool> {
    if findings.is_empty() {
        bail!("no finding of the report is of that check and subject");
    }
    let mut err = io::stderr().lock();
    for f in findings {
        let usd = f.usd_per_hour.map_or_else(|| "no price".into(), text::money);
        writeln!(
            err,
            "{usd:>12}  {}  {}  [{}]",
            text::check_name(f),
            plain(&f.title),
            f.id
        )?;
    }
    if args.yes {
        return Ok(true);
    }
    let count = text::plural(findings.len() as u64, "finding");
    let verb = args.words.last().map_or("", String::as_str);
    if !io::stdin().is_terminal() || args.report.as_deref().is_some_and(|p| p.as_os_str() == "-") {
        bail!("{verb} {count}? Nobody can be asked here: --yes decides");
    }
    write!(err, "{verb} {count}? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn of_report(report: &Report, finding: &ReportFinding, event: &Event, book: &Book) -> Append {
    let known = book.entries.get(&finding.id);
    Append {
        entry: known.cloned().unwrap_or_else(|| Entry::new(report, finding)),
        events: vec![Event {
            seen: Some(Seen::of(report, finding)),
            ..event.clone()
        }],
        outcomes: Vec::new(),
    }
}

/// Without a report: findings of the ledger, as they were seen last.
fn of_ledger(book: &Book, ids: &[String], event: &Event, args: &DecideArgs) -> Result<Vec<Append>> {
    let known: BTreeSet<&str> = book.entries.keys().map(String::as_str).collect();
    if known.is_empty() {
        bail!(
            "the ledger {} has no finding yet: give the report with --report",
            args.ledger.display()
        );
    }
    let chosen =
        select::by_prefix(ids, &known).map_err(|why| anyhow!("in the ledger, {why}; --report names another report"))?;
    let add = |id: &str| {
        let entry = book.entries.get(id)?.clone();
        let seen = entry.in_time().iter().rev().find_map(|e| e.seen.clone());
        Some(Append {
            events: vec![Event { seen, ..event.clone() }],
            entry,
            outcomes: Vec::new(),
        })
    };
    Ok(chosen.into_iter().filter_map(add).collect())
}

fn said(add: &Append, path: &std::path::Path) -> String {
    let Some(event) = add.events.first() else {
        return String::new();
    };
    let known = &add.entry.finding;
    let usd = event.seen.as_ref().and_then(|s| s.usd_per_hour);
    let reason = event.reason.map(|r| format!(" as {}", r.name())).unwrap_or_default();
    let until = last_day(event).map(|d| format!(" until {d}")).unwrap_or_default();
    format!(
        "{}{reason}{until}: {} of {}, {} → {}",
        event.state.name(),
        entry::check_name(&known.check, known.part.as_deref()),
        plain(&known.subject),
        text::known(usd),
        path.display()
    )
}
