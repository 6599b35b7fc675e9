//! The checks: one file a check, one line in [`CHECKS`].

mod by_the_clock;
#[cfg(test)]
mod clock_tests;
mod cost_growth;
mod cpu_gpu_imbalance;
mod cpu_pods;
mod dark_capacity;
mod documented;
pub mod examples;
#[cfg(test)]
mod exporters_tests;
pub mod finding;
#[cfg(test)]
mod history_tests;
pub mod idle_schedule;
mod kv_pressure;
mod low_utilization;
mod mig_layout;
#[cfg(test)]
mod mig_tests;
pub mod opt_out;
mod over_replicated;
mod oversized;
mod owners_past;
mod parallelism_mismatch;
#[cfg(test)]
mod policy_tests;
pub(crate) mod rights;
mod sharing;
#[cfg(test)]
mod sharing_tests;
mod sizing;
#[cfg(test)]
mod sizing_tests;
#[cfg(test)]
mod slurm_past_tests;
#[cfg(test)]
mod slurm_tests;
mod spec_hygiene;
mod spread;
mod starved;
pub mod stop;
mod stranded;
mod support;
#[cfg(test)]
mod tests;
mod undersized;
#[cfg(test)]
mod unit_cost_tests;
#[cfg(test)]
mod witness_tests;
mod words;

use crate::fleet::{Fleet, SlotId, WorkloadId};
use crate::settings::Settings;
use crate::snapshot::Gap;
pub use cost_growth::{Bill, lmdi};
pub use documented::Documented;
use documented::documented;
use finding::{Finding, FindingKind, NotAssessed};
use sizing::Sizing;
pub use sizing::{LeftOut, ServerLoad, facts, placed, server_load};
use std::cell::OnceCell;

/// A check. The doc comment of its type, made by `documented!`, is its user documentation (`gpuwaste explain CHECK` and its page
/// in `docs/checks`).
pub trait Check: Documented + Sync {
    /// Stable kebab-case id.
    fn id(&self) -> &'static str;

    /// What it finds, in one sentence.
    fn summary(&self) -> &'static str;

    /// The parts its findings come in; `None`: findings without one.
    fn parts(&self) -> &'static [Option<&'static str>] {
        &[None]
    }

    /// It judges what was done: of a plan, which nothing runs of yet, it has nothing to say.
    fn needs_activity(&self) -> bool {
        false
    }

    /// Judges the whole fleet. Pure: everything it needs is in its arguments.
    fn run(&self, context: &Context<'_>, out: &mut Outcome);
}

/// What the user expects of servers that nobody has seen at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Tokens of one request, prompt and output.
    pub context_tokens: Option<u64>,
    /// Requests at once on one replica.
    pub concurrency: Option<u64>,
}

/// What every check gets.
pub struct Context<'a> {
    pub fleet: &'a Fleet,
    pub settings: &'a Settings,
    pub expected: Expected,
    /// Made by the first check that asks: three of them speak from one plan.
    sizing: OnceCell<Sizing>,
}

impl<'a> Context<'a> {
    pub fn new(fleet: &'a Fleet, settings: &'a Settings) -> Self {
        Self {
            fleet,
            settings,
            expected: Expected::default(),
            sizing: OnceCell::new(),
        }
    }

    pub fn expecting(self, expected: Expected) -> Self {
        Self { expected, ..self }
    }

    fn sizing(&self) -> &Sizing {
        self.sizing.get_or_init(|| Sizing::new(self))
    }
}

/// Slots of which a check might have found more, had a setting of their workload been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Of what it would have found.
    pub kind: FindingKind,
    pub workload: WorkloadId,
    pub slots: Vec<SlotId>,
}

/// What one check found, judged, and could not judge.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub findings: Vec<Finding>,
    /// Slots that the check could judge, finding or not.
    pub assessed: Vec<SlotId>,
    pub not_assessed: Vec<NotAssessed>,
    /// Where it could not judge, or not as surely, for a setting that stands where it could not be read.
    pub in_doubt: Vec<Doubt>,
    /// What the check learnt of its own inputs: contradictions that no read could show.
    pub gaps: Vec<Gap>,
}

impl Outcome {
    pub fn not_assessed(&mut self, reason: &str, remedy: &str, slots: impl IntoIterator<Item = SlotId>) {
        let slots: Vec<SlotId> = slots.into_iter().collect();
        if slots.is_empty() {
            return;
        }
        match self
            .not_assessed
            .iter_mut()
            .find(|n| n.reason == reason && n.remedy == remedy)
        {
            Some(known) => known.slots.extend(slots),
            None => self.not_assessed.push(NotAssessed {
                reason: reason.into(),
                remedy: remedy.into(),
                slots,
            }),
        }
    }
}

/// The registry: adding a check is a file and a line here.
pub const CHECKS: &[&dyn Check] = &[
    &dark_capacity::DarkCapacity,
    &stranded::StrandedGpu,
    &undersized::UndersizedTier,
    &oversized::OversizedTier,
    &over_replicated::OverReplicated,
    &kv_pressure::KvPressure,
    &cpu_gpu_imbalance::CpuGpuImbalance,
    &parallelism_mismatch::ParallelismMismatch,
    &idle_schedule::IdleSchedule,
    &cost_growth::CostGrowth,
    &sharing::SharingMismatch,
    &mig_layout::MigLayout,
    &cpu_pods::CpuPodsOnGpuNode,
    &low_utilization::LowUtilization,
    &spec_hygiene::SpecHygiene,
];

/// Its check is known, and says that it has this part.
fn is_declared(finding: &Finding) -> bool {
    CHECKS
        .iter()
        .any(|c| c.id() == finding.check && c.parts().contains(&finding.part))
}

/// Runs the checks that `wanted` accepts, in the registry's order. Those that judge what was done are left out where nothing
/// runs yet.
pub fn run(context: &Context<'_>, wanted: impl Fn(&str) -> bool) -> Vec<(&'static str, Outcome)> {
    let fleet = context.fleet;
    let has_life = !fleet.is_a_plan();
    let mut outcomes: Vec<(&'static str, Outcome)> = CHECKS
        .iter()
        .filter(|c| wanted(c.id()) && (has_life || !c.needs_activity()))
        .map(|check| {
            let mut out = Outcome::default();
            check.run(context, &mut out);
            support::set_aside_unread_owners(fleet, &mut out);
            words::finish(fleet, &mut out);
            for finding in &mut out.findings {
                debug_assert!(is_declared(finding), "{}/{:?}", finding.check, finding.part);
                support::cap_by_clock(fleet, finding);
                opt_out::apply(fleet, finding);
            }
            support::settle_doubts(fleet, check.id(), &mut out);
            (check.id(), out)
        })
        .collect();
    if let Some((_, first)) = outcomes.first_mut() {
        first.gaps.extend(opt_out::gaps(fleet));
    }
    outcomes
}
