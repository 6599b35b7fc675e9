//! What stands about a finding on a day: events folded in time, what expired, and what reopened by itself.

use crate::entry::{Entry, Event, Reason, Seen, Told};
use crate::report::decision::{Decision, DecisionState};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, civil::Date};

/// Days that a dismissal holds, and one that says that the tool was wrong: whoever wrote the check should look again soon.
pub const DISMISSED_DAYS: i32 = 90;
pub const WRONG_DAYS: i32 = 30;
/// Days that a claim or a snooze holds where no day is named (ours).
pub const CLAIMED_DAYS: i32 = 30;

pub fn day(at: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(at).date()
}

/// `None`: past the end of the calendar.
pub fn days_after(at: Timestamp, days: i32) -> Option<Date> {
    day(at).checked_add(Span::new().days(days)).ok()
}

/// Days that `told` holds at most; `None`: it does not expire.
pub fn longest(told: Told, reason: Option<Reason>) -> Option<i32> {
    match (told, reason) {
        (Told::Dismissed, Some(Reason::Wrong)) => Some(WRONG_DAYS),
        (Told::Dismissed, _) => Some(DISMISSED_DAYS),
        _ => None,
    }
}

/// The last day an event holds; `None`: it does not expire.
pub fn last_day(event: &Event) -> Option<Date> {
    let built_in = match event.state {
        Told::Dismissed => longest(event.state, event.reason),
        Told::Claimed | Told::Snoozed => Some(CLAIMED_DAYS),
        _ => None,
    };
    let end = built_in.and_then(|days| days_after(event.at, days));
    match (event.until, end) {
        (Some(until), Some(end)) if event.state == Told::Dismissed => Some(until.min(end)),
        (Some(until), _) => Some(until),
        (None, end) => end,
    }
}

/// Days after which what was applied must be gone: a node 1, replicas 2, another tier 7, a schedule 14.
pub fn waiting_days(check: &str) -> i32 {
    match check {
        "over-replicated" => 2,
        "oversized-tier" | "undersized-tier" | "low-utilization" => 7,
        "idle-schedule" => 14,
        // A node, or who is on it.
        _ => 1,
    }
}

/// What stands on the day of `at`. `now`: what is seen of the finding; `None`: it is not listed.
pub fn standing(entry: &Entry, now: Option<&Seen>, at: Timestamp) -> Decision {
    let Some(last) = entry.in_time().last().copied() else {
        return Decision::default();
    };
    let until = last_day(last);
    let mut decision = Decision {
        state: match last.state {
            Told::Claimed => DecisionState::Claimed,
            Told::Applied => DecisionState::Applied,
            Told::Dismissed => DecisionState::Dismissed,
            Told::Snoozed => DecisionState::Snoozed,
            Told::Open | Told::Verified | Told::Reverted | Told::Regressed => DecisionState::Open,
        },
        since: Some(last.at),
        reason: last.reason.map(|r| r.name().to_owned()),
        note: last.note.clone(),
        until,
        reference: last.reference.clone(),
        by: last.by.clone(),
        predicted_usd_per_hour: last.seen.as_ref().and_then(|s| s.usd_per_hour),
        reopened: None,
    };
    if let Some(why) = reopened(entry, last, now, at) {
        decision.state = DecisionState::Open;
        decision.until = None;
        decision.reopened = Some(why);
    }
    decision
}

/// Why it is open again.
fn reopened(entry: &Entry, last: &Event, now: Option<&Seen>, at: Timestamp) -> Option<String> {
    let said = day(last.at);
    let over = last_day(last).filter(|end| day(at) > *end);
    match last.state {
        Told::Claimed => over.map(|end| format!("it was claimed until {end}, and is still here")),
        Told::Dismissed | Told::Snoozed => {
            if let Some(end) = over {
                return Some(format!("{} until {end}", last.state.name()));
            }
            let moved = last.seen.as_ref()?.moved(now?)?;
            Some(format!("{} on {said}, but {moved}", last.state.name()))
        }
        Told::Applied => {
            let end = days_after(last.at, waiting_days(&entry.finding.check))?;
            (now.is_some() && day(at) > end).then(|| format!("applied on {said}, and still here"))
        }
        Told::Verified => now.map(|_| format!("it was verified on {said}, and is back")),
        Told::Reverted => Some(format!("it was reverted on {said}")),
        Told::Regressed => Some(format!("it did harm, seen on {said}")),
        Told::Open => None,
    }
}
