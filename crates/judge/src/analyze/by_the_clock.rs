//! Replicas by the clock: the object by which KEDA runs a server in its busy hours and scales it to 0 in the others.

use crate::fleet::Workload;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const DAY: i64 = 24 * 60;
const WEEK: i64 = 7 * DAY;

/// Busy minutes of the week: (begin, length), the begin counted from Sunday 00:00 UTC.
type Span = (i64, i64);

/// A ScaledObject with a cron trigger (keda.sh/docs/latest/scalers/cron) for each time of day at which it is needed: between `start` and
/// `end` KEDA keeps `desiredReplicas`, outside of all of them `minReplicaCount`. `runs`: quiet hours as (first, length), counted from
/// a week before `end`; each busy span begins `cold_minutes` before its first request. `None`: an autoscaler has it already (KEDA
/// refuses a second one), it has no scale subresource that is known here, or nothing is left to switch off.
pub(super) fn scaled_object(
    workload: &Workload,
    end: Timestamp,
    runs: &[(usize, usize)],
    cold_minutes: u64,
    replicas: usize,
) -> Option<String> {
    let api = match workload.kind.as_str() {
        "Deployment" | "StatefulSet" => "apps/v1",
        "LeaderWorkerSet" => "leaderworkerset.x-k8s.io/v1",
        _ => return None,
    };
    if workload.autoscaler_min.is_some() {
        return None;
    }
    let busy = busy(end, runs, i64::try_from(cold_minutes).ok()?)?;
    // Spans of the same hours are one trigger.
    let mut daily: BTreeMap<(i64, i64), BTreeSet<i64>> = BTreeMap::new();
    for (begin, length) in busy {
        daily.entry((begin % DAY, length)).or_default().insert(begin / DAY);
    }
    let text = |value: &str| serde_json::to_string(value).ok();
    let (name, namespace) = (text(&workload.name)?, text(&workload.namespace)?);
    let mut yaml = format!(
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  \
         scaleTargetRef: {{apiVersion: {api}, kind: {}, name: {name}}}\n  minReplicaCount: 0\n  maxReplicaCount: {replicas}\n  triggers:\n",
        workload.kind
    );
    for ((clock, length), days) in daily {
        let ends: BTreeSet<i64> = days.iter().map(|d| (d * DAY + clock + length) % WEEK / DAY).collect();
        let _ = write!(
            yaml,
            "  - type: cron\n    metadata: {{timezone: Etc/UTC, start: {}, end: {}, desiredReplicas: \"{replicas}\"}}\n",
            cron(clock, &days),
            cron((clock + length) % DAY, &ends)
        );
    }
    Some(yaml)
}

/// What is not quiet, each span begun so much earlier; quiet runs that this fills up are none.
fn busy(end: Timestamp, runs: &[(usize, usize)], cold: i64) -> Option<Vec<Span>> {
    let begin = end - SignedDuration::from_hours(WEEK / 60);
    // 1970-01-01 was a Thursday.
    let minute = (begin.as_second().div_euclid(60) + 4 * DAY).rem_euclid(WEEK);
    let quiet: Vec<Span> = runs
        .iter()
        .map(|(first, hours)| (minute + *first as i64 * 60, *hours as i64 * 60 - cold))
        .filter(|(_, length)| *length > 0)
        .collect();
    let first = quiet.first()?.0;
    let spans = quiet.iter().enumerate().map(|(i, (from, length))| {
        let next = quiet.get(i + 1).map_or(first + WEEK, |next| next.0);
        let begin = from + length;
        (begin.rem_euclid(WEEK), next - begin)
    });
    Some(spans.filter(|(_, length)| *length > 0).collect())
}

/// "0 8 * * 1,2,3": days from Sunday on.
fn cron(minute: i64, days: &BTreeSet<i64>) -> String {
    let days: Vec<String> = days.iter().map(i64::to_string).collect();
    let days = if days.len() == 7 { "*".into() } else { days.join(",") };
    format!("\"{} {} * * {days}\"", minute % 60, minute / 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn server() -> Workload {
        Workload {
            kind: "Deployment".into(),
            namespace: "ml".into(),
            name: "chat".into(),
            ..Workload::default()
        }
    }

    /// Minutes of the week that a cron expression with days names.
    fn times(expression: &str) -> Vec<i64> {
        let fields: Vec<&str> = expression.split(' ').collect();
        let [minute, hour, "*", "*", days] = fields[..] else {
            unreachable!("{expression}")
        };
        let days: Vec<i64> = match days {
            "*" => (0..7).collect(),
            some => some.split(',').map(|d| d.parse().unwrap()).collect(),
        };
        let clock = hour.parse::<i64>().unwrap() * 60 + minute.parse::<i64>().unwrap();
        days.into_iter().map(|d| d * DAY + clock).collect()
    }

    /// KEDA's rule (pkg/scalers/cron_scaler.go): active from a start on until the next end.
    fn is_active(object: &Value, minute: i64) -> bool {
        let next = |of: &Value| {
            let all = times(of.as_str().unwrap()).into_iter();
            all.map(|t| (t - minute - 1).rem_euclid(WEEK)).min().unwrap()
        };
        let triggers = object["spec"]["triggers"].as_array().unwrap();
        triggers.iter().any(|t| {
            let of = &t["metadata"];
            next(&of["end"]) < next(&of["start"])
        })
    }

    #[test]
    fn keda_runs_it_whenever_it_was_asked_and_a_cold_start_before() {
        // A Wednesday; the week seen begins a week before.
        let end: Timestamp = "2026-11-25T18:20:00Z".parse().unwrap();
        let night = |day: usize| (5 + 24 * day, 14);
        let weekend = [night(0), night(1), (5 + 48, 14 + 48), night(5), night(6)];
        for (runs, cold) in [
            (&weekend[..], 13),
            (&[(0, 3), (100, 40)], 0),
            (&[(160, 30)], 61),
            (&[(3, 2), (50, 30)], 150),
        ] {
            let text = scaled_object(&server(), end, runs, cold, 3).unwrap();
            let object: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(object["kind"], "ScaledObject");
            assert_eq!(object["spec"]["scaleTargetRef"]["name"], "chat");
            assert_eq!(
                (&object["spec"]["minReplicaCount"], &object["spec"]["maxReplicaCount"]),
                (&0.into(), &3.into())
            );
            assert_eq!(object["spec"]["triggers"][0]["metadata"]["desiredReplicas"], "3");
            // Minute by minute of the week: asleep in each quiet run until a cold start before its end, else at work.
            let begin = (end.as_second() / 60 + 4 * DAY).rem_euclid(WEEK);
            for minute in 0..WEEK {
                let at = (begin + minute).rem_euclid(WEEK);
                let asleep = runs.iter().any(|(first, hours)| {
                    let since = (minute - *first as i64 * 60).rem_euclid(WEEK);
                    since < *hours as i64 * 60 - cold as i64
                });
                // At the very minute of a start or an end either will do.
                let edge = ["start", "end"].iter().any(|key| {
                    let triggers = object["spec"]["triggers"].as_array().unwrap();
                    triggers
                        .iter()
                        .any(|t| times(t["metadata"][key].as_str().unwrap()).contains(&at))
                });
                assert!(edge || is_active(&object, at) != asleep, "{runs:?}: {at}\n{text}");
            }
        }
        // Days that are alike are one trigger.
        let text = scaled_object(&server(), end, &weekend, 13, 3).unwrap();
        assert_eq!(text.matches("type: cron").count(), 1, "{text}");
        assert!(
            text.contains("start: \"7 13 * * 1,2,3,4,5\", end: \"20 23 * * 1,2,3,4,5\""),
            "{text}"
        );
    }

    #[test]
    fn what_has_an_autoscaler_or_cannot_be_scaled_gets_none() {
        let end: Timestamp = "2026-11-25T18:00:00Z".parse().unwrap();
        let of = |w: &Workload, cold| scaled_object(w, end, &[(0, 40)], cold, 1);
        assert!(of(&server(), 10).is_some());
        assert_eq!(
            of(&server(), 40 * 60),
            None,
            "its cold start is as long as it would rest"
        );
        let scaled = Workload {
            autoscaler_min: Some(1),
            ..server()
        };
        let other = Workload {
            kind: "InferenceService".into(),
            ..server()
        };
        assert_eq!((of(&scaled, 10), of(&other, 10)), (None, None));
    }
}
