//! idle-schedule: hours of the week without any request, in every week seen: nights and weekends, priced.

use super::finding::{ClaimRank, Confidence, Evidence, Finding, FindingKind, Fix};
use super::sizing::Judgement;
use super::support::{self, Judged};
use super::{Check, Context, Outcome, by_the_clock, documented};
use crate::fleet::{Bins, Fleet, SlotId, SlotState, Workload, WorkloadClass, WorkloadId};
use crate::settings::Thresholds;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

documented! {
    since "0.1.0";
    /// What it finds. Servers with traffic that get no request in the same hours of every week seen: nights, weekends. Runs of two hours
    /// and more count, twenty hours a week and more are reported.
    ///
    /// Why it costs. GPUs held through the night cost as much as by day.
    ///
    /// How the dollars are computed. Quiet hours of the week / 168 x the replicas that are always there (5th percentile over the window) x
    /// their GPUs' price. Each run is shortened by a cold start: weights / 0.2 GB/s + 130 s. Taken after oversized-tier, of what stays.
    ///
    /// When it is wrong. One week may be a holiday: with less than two weeks it is 'estimated' (--window 14d). Batch windows once a month
    /// are not seen. Hours are UTC and begin at the scan's minute. An hour without samples is never called quiet.
    ///
    /// What to do. The KEDA ScaledObject that the finding prints (where no autoscaler has it yet), or a CronJob that scales to zero and back. It stops the bill only where the pool scales down.
    pub(crate) struct IdleSchedule;
}

const ID: &str = "idle-schedule";
/// Hours of a week.
const WEEK: usize = 168;

impl Check for IdleSchedule {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        "Servers without a request in the same hours of every week seen: nights and weekends that could be switched off."
    }

    fn needs_activity(&self) -> bool {
        true
    }

    fn run(&self, context: &Context<'_>, out: &mut Outcome) {
        let t = &context.settings.thresholds;
        for (id, workload) in support::workloads(context.fleet).filter(|(_, w)| w.class == WorkloadClass::Server) {
            let slots = support::slots_of(workload);
            match workload.observed.bins.as_deref().filter(|b| covered(b)) {
                Some(bins) => {
                    out.assessed.extend(&slots);
                    let kept = kept(context, id, workload);
                    out.findings
                        .extend(schedule(context.fleet, t, (id, workload), bins, kept));
                }
                None => out.not_assessed(
                    "a week of its hourly traffic is not known",
                    "give Prometheus with the engine's metrics and a --window of at least 7d",
                    slots,
                ),
            }
        }
    }
}

/// Whole weeks seen. The window begins at its first whole bin: up to an hour of it is not there, and counts as unseen.
fn weeks(bins: &Bins) -> usize {
    (bins.hourly.len() + 1) / WEEK
}

/// At least a week, with samples in 80 % of its hours.
fn covered(bins: &Bins) -> bool {
    let seen = bins.hourly.iter().flatten().count();
    weeks(bins) >= 1 && seen as f64 >= crate::fleet::history::COVERED * bins.hourly.len() as f64
}

/// Hours of the week, counted back from the window's end, without a request in any week seen.
pub fn quiet(hourly: &[Option<f64>]) -> Vec<bool> {
    let mut cells: Vec<Option<bool>> = vec![None; WEEK];
    for (back, value) in hourly.iter().rev().enumerate() {
        let cell = &mut cells[back % WEEK];
        // An hour without a sample is not known to be quiet.
        let quiet = value.is_some_and(|v| v <= 0.0);
        *cell = Some(cell.unwrap_or(true) && quiet);
    }
    // Oldest first, as a week is read.
    cells.into_iter().rev().map(|c| c == Some(true)).collect()
}

/// Runs of quiet hours as (first cell, length); the week is a circle.
fn runs(quiet: &[bool], shortest: usize) -> Vec<(usize, usize)> {
    let Some(start) = quiet.iter().position(|q| !q) else {
        return vec![(0, quiet.len())];
    };
    let mut found = Vec::new();
    let mut run: Option<(usize, usize)> = None;
    for step in 0..=quiet.len() {
        let cell = (start + step) % quiet.len();
        if step < quiet.len() && quiet[cell] {
            run = Some(run.map_or((cell, 1), |(first, n)| (first, n + 1)));
        } else if let Some((first, n)) = run.take().filter(|(_, n)| *n >= shortest) {
            found.push((first, n));
        }
    }
    found.sort_unstable();
    found
}

/// Replicas that are there once it is told to do with fewer.
fn kept(context: &Context<'_>, id: WorkloadId, workload: &Workload) -> usize {
    match &context.sizing().judgements[id.0] {
        Judgement::Sized(plan) if plan.cut.is_ok() && !plan.leave.is_empty() => plan.stay.len(),
        _ => workload.replicas.len(),
    }
}

fn schedule(
    fleet: &Fleet,
    t: &Thresholds,
    (id, workload): (WorkloadId, &Workload),
    bins: &Bins,
    kept: usize,
) -> Option<Finding> {
    let o = &workload.observed;
    let works = bins.hourly.iter().flatten().any(|v| *v > 0.0);
    let slots: Vec<SlotId> = support::slots_of(workload)
        .into_iter()
        .filter(|s| fleet.slot(*s).state == SlotState::Working)
        .collect();
    if !works || slots.is_empty() {
        return None;
    }
    let quiet = quiet(&bins.hourly);
    let runs = runs(&quiet, t.idle_run_hours as usize);
    let silent = quiet.iter().filter(|q| **q).count();
    // Each run ends with a cold start: loading the weights, and what the engine does beside.
    let cold = cold_start_hours(workload, t);
    let hours: f64 = runs.iter().map(|(_, n)| (*n as f64 - cold).max(0.0)).sum();
    if hours < t.idle_hours_per_week as f64 {
        return None;
    }
    let replicas = workload.replicas.len().max(1);
    let low = bins
        .replicas_low
        .map_or(replicas, |r| (r.floor() as usize).clamp(1, replicas));
    let share = hours / WEEK as f64 * low as f64 / replicas as f64;
    let weeks = weeks(bins);
    let mut judged = if weeks >= 2 {
        Judged::measured("quiet in the same hours of every week seen")
    } else {
        Judged::at(
            Confidence::Estimated,
            "one week was seen: --window 14d tells whether it is so every week",
        )
    };
    judged.cap_by_price(fleet, &slots);
    let claims = support::part_of(fleet, workload, &slots, share);
    let spoken = spoken(bins.hourly_end, &runs);
    let object = by_the_clock::scaled_object(workload, bins.hourly_end, &runs, (cold * 60.0).ceil() as u64, kept);
    let by = match (&object, workload.autoscaler_min) {
        (Some(_), _) => "the object does it with KEDA, a cold start before it is needed; a CronJob can, too",
        (None, Some(_)) => "its autoscaler would undo it: give that a KEDA cron trigger in its place",
        (None, None) => "KEDA cron scaler, CronJob",
    };
    let number = |name: &str, value: f64, unit: &str| {
        Evidence::number(name, value, unit, "prometheus").window(o.window_seconds, o.coverage)
    };
    Some(Finding {
        check: ID,
        part: None,
        kind: FindingKind::Recoverable,
        rank: ClaimRank::IdleSchedule,
        title: format!("{}: no request in {silent} of 168 hours of the week", workload.name),
        subject: support::of_workload(fleet, workload),
        workload: Some(id),
        confidence: judged.level,
        confidence_reasons: judged.reasons,
        evidence: vec![
            number("hours_without_requests", silent as f64, "hours"),
            number("idle_hours_per_week", hours, "hours").expected(t.idle_hours_per_week as f64),
            number("replicas_low", low as f64, "replicas"),
            number("weeks_seen", weeks as f64, "weeks"),
            number("cold_start", cold * 3600.0, "seconds"),
            Evidence::text("idle_hours_utc", &spoken, "prometheus"),
        ],
        claims,
        fix: Fix {
            summary: format!(
                "Scale {} {}/{} to 0 by the clock ({by}) in these hours, UTC: {spoken}. It pays where the pool scales down or others use the GPUs.",
                workload.kind, workload.namespace, workload.name
            ),
            placement: None,
            patch: object,
        },
        ignored: None,
        trend_usd_per_hour: None,
    })
}

fn cold_start_hours(workload: &Workload, t: &Thresholds) -> f64 {
    let loading = workload
        .model
        .as_ref()
        .and_then(crate::fleet::state::weight_bytes)
        .map_or(0.0, |bytes| bytes / t.load_bytes_per_second);
    (loading + t.cold_start_seconds as f64) / 3600.0
}

/// "Fri 18:00 - Mon 08:00, Mon-Thu 18:00 - 08:00": days that are alike are said once.
fn spoken(end: Timestamp, runs: &[(usize, usize)]) -> String {
    const DAY: usize = 24;
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let begin = end - SignedDuration::from_hours(WEEK as i64);
    let from = |first: usize| begin + SignedDuration::from_hours(first as i64);
    let clock = |t: Timestamp| t.strftime("%H:%M").to_string();
    let mut said: Vec<String> = Vec::new();
    let mut daily: BTreeMap<(String, String), BTreeSet<usize>> = BTreeMap::new();
    for (first, hours) in runs {
        let (from, until) = (from(*first), from(first + hours));
        if *hours < DAY {
            // 1970-01-01 was a Thursday.
            let day = (from.as_second().div_euclid(DAY as i64 * 3600) + 3).rem_euclid(7) as usize;
            daily.entry((clock(from), clock(until))).or_default().insert(day);
        } else {
            said.push(format!(
                "{} - {}",
                from.strftime("%a %H:%M"),
                until.strftime("%a %H:%M")
            ));
        }
    }
    for ((from, until), days) in daily {
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for day in days {
            match spans.last_mut() {
                Some((_, last)) if *last + 1 == day => *last = day,
                _ => spans.push((day, day)),
            }
        }
        let names: Vec<String> = spans
            .into_iter()
            .map(|(a, b)| match b - a {
                0 => DAYS[a].to_string(),
                1 => format!("{}, {}", DAYS[a], DAYS[b]),
                _ => format!("{}-{}", DAYS[a], DAYS[b]),
            })
            .collect();
        said.push(format!("{} {from} - {until}", names.join(", ")));
    }
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bins(hourly: Vec<Option<f64>>) -> Bins {
        Bins {
            hourly,
            ..Bins::default()
        }
    }

    #[test]
    fn an_hour_is_quiet_only_if_it_is_so_in_every_week() {
        let mut hourly = vec![Some(0.0); 2 * WEEK];
        hourly[5] = Some(1.0);
        hourly[WEEK + 7] = None;
        let quiet = quiet(&bins(hourly).hourly);
        assert!(!quiet[5] && !quiet[7] && quiet[6]);
        assert_eq!(quiet.iter().filter(|q| **q).count(), WEEK - 2);
    }

    #[test]
    fn a_window_of_whole_weeks_may_lack_the_hour_that_it_began_in() {
        for (hours, seen) in [(166, 0), (167, 1), (168, 1), (334, 1), (335, 2)] {
            let bins = bins(vec![Some(0.0); hours]);
            assert_eq!((weeks(&bins), covered(&bins)), (seen, seen > 0), "{hours}");
        }
        // That hour is not known to be quiet.
        let quiet = quiet(&bins(vec![Some(0.0); WEEK - 1]).hourly);
        assert!(!quiet[0] && quiet[1..].iter().all(|q| *q));
    }

    #[test]
    fn days_that_are_alike_are_said_once() {
        // A Wednesday, 18:00: the week seen begins then.
        let end: Timestamp = "2026-11-25T18:00:00Z".parse().unwrap();
        let night = |day: usize| (5 + 24 * day, 14);
        let runs = [night(0), night(1), (5 + 48, 14 + 48), night(5), night(6)];
        assert_eq!(spoken(end, &runs), "Fri 23:00 - Mon 13:00, Mon-Thu 23:00 - 13:00");
        assert_eq!(spoken(end, &[night(0), night(2)]), "Wed, Fri 23:00 - 13:00");
        assert_eq!(spoken(end, &[night(5), night(6)]), "Mon, Tue 23:00 - 13:00");
    }

    #[test]
    fn runs_go_round_the_end_of_the_week() {
        let mut quiet = vec![false; WEEK];
        for cell in [166, 167, 0, 1, 50, 80, 81] {
            quiet[cell] = true;
        }
        assert_eq!(runs(&quiet, 2), [(80, 2), (166, 4)]);
        assert_eq!(runs(&[true; 4], 2), [(0, 4)]);
    }
}
