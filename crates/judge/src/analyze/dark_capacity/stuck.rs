//! GPUs held by pods that never become Ready.

use super::{ID, gpus_weighted};
use crate::analyze::finding::{ClaimRank, Evidence, Finding, Fix};
use crate::analyze::stop::Stop;
use crate::analyze::support::{self, Judged, span};
use crate::analyze::{Context, Outcome, undersized, words};
use crate::fleet::state;
use crate::fleet::{SlotId, SlotState, StuckReason};

pub(super) fn stuck(context: &Context<'_>, out: &mut Outcome) {
    let fleet = context.fleet;
    for (id, workload) in support::workloads(fleet) {
        let pods: Vec<_> = workload
            .pods
            .iter()
            .filter(|p| {
                fleet
                    .pod(**p)
                    .slots
                    .iter()
                    .any(|s| fleet.slot(*s).state == SlotState::Stuck)
            })
            .collect();
        let mut slots: Vec<SlotId> = pods
            .iter()
            .flat_map(|p| fleet.pod(**p).slots.iter().copied())
            .filter(|s| fleet.slot(*s).state == SlotState::Stuck)
            .collect();
        slots.sort_unstable();
        slots.dedup();
        // A gang of which one member cannot start is stuck as a whole: one finding.
        let Some(worst) = pods
            .iter()
            .filter_map(|p| fleet.pod(**p).stuck.as_ref())
            .max_by_key(|s| state::stuck_for(s, fleet.now(workload.cluster)))
        else {
            continue;
        };
        let seconds = state::stuck_for(worst, fleet.now(workload.cluster)).unwrap_or(0) as f64;
        let mut judged = Judged::measured("the pod's own conditions tell since when it is not Ready");
        judged.cap_by_price(fleet, &slots);
        let mut evidence = vec![
            Evidence::text("cause", worst.reason.name(), "kubernetes"),
            Evidence::number("not_ready_for", seconds, "seconds", "kubernetes"),
            Evidence::number("restarts", worst.restarts as f64, "restarts", "kubernetes"),
        ];
        if let Some(exit) = &worst.last_exit {
            evidence.push(Evidence::number(
                "last_exit_code",
                exit.code as f64,
                "code",
                "kubernetes",
            ));
            if let Some(reason) = &exit.reason {
                evidence.push(Evidence::text("last_exit_reason", reason, "kubernetes"));
            }
        }
        let what = match worst.reason {
            StuckReason::ImagePull => "cannot pull its image",
            StuckReason::CrashLoop => "crashes and restarts",
            StuckReason::Init => "waits in its init containers",
            StuckReason::Creating => "cannot create its containers",
            StuckReason::NotReady => "never becomes Ready",
            StuckReason::Terminating => "does not end",
            StuckReason::NodeLost => "is on a node that does not answer",
        };
        // A model that cannot fit is the cause, told here and not a second time.
        let cause = matches!(worst.reason, StuckReason::CrashLoop | StuckReason::NotReady)
            .then(|| undersized::cause(context, workload))
            .flatten();
        let what = if cause.is_some() {
            "does not fit its GPUs, and restarts"
        } else {
            what
        };
        let mut fix = Fix::default();
        if let Some((reason, placement)) = cause {
            evidence.push(Evidence::text("fit_verdict", "does-not-fit", "fit"));
            evidence.push(Evidence::text("fit_reason", &reason, "fit"));
            fix.summary = undersized::advice(placement.as_ref());
            fix.placement = placement;
        }
        let (name, stop) = (
            format!("{} {}/{}", workload.kind, workload.namespace, workload.name),
            Stop::of(&workload.kind),
        );
        // What is being deleted needs no stop.
        fix.patch = stop
            .patch()
            .filter(|_| worst.reason != StuckReason::Terminating)
            .map(str::to_owned);
        let summary = match worst.reason {
            StuckReason::ImagePull => {
                format!(
                    "Correct the image's name or pull secret, or {} until it exists.",
                    stop.of_named(&name)
                )
            }
            StuckReason::Terminating => {
                "Find what blocks deletion (finalizers, a node that is gone) and remove it.".into()
            }
            _ => format!(
                "Until the cause is fixed, {}: it holds GPUs and serves nothing.",
                stop.of_named(&name)
            ),
        };
        let (what, summary) = words::stuck(fleet, workload, worst.reason).unwrap_or((what, summary));
        out.findings.push(Finding {
            title: format!(
                "{} {what}, holding {} for {}",
                workload.name,
                gpus_weighted(fleet, &slots),
                span(seconds)
            ),
            workload: Some(id),
            evidence,
            claims: support::claims_of(fleet, workload, &slots),
            fix: Fix {
                summary: [fix.summary, summary].join(" ").trim().to_string(),
                ..fix
            },
            ..judged.recoverable(ID, "stuck", ClaimRank::Stuck, support::of_workload(fleet, workload))
        });
    }
}
