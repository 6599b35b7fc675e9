//! The checks: one file a check, one line in [`CHECKS`].

mod cost_growth;
mod cpu_pods;
mod dark_capacity;
pub mod examples;
mod explain;
#[cfg(test)]
mod exporters_tests;
pub mod finding;
#[cfg(test)]
mod history_tests;
mod hygiene;
mod idle_schedule;
mod kv_pressure;
mod low_utilization;
pub mod manifest;
mod mig_layout;
#[cfg(test)]
mod mig_tests;
mod over_replicated;
mod oversized;
#[cfg(test)]
mod policy_tests;
mod sharing;
#[cfg(test)]
mod sharing_tests;
mod sizing;
#[cfg(test)]
mod sizing_tests;
mod starved;
mod stranded;
mod support;
#[cfg(test)]
mod tests;
mod undersized;
#[cfg(test)]
mod witness_tests;

use crate::fleet::{Fleet, SlotId};
use crate::settings::Settings;
use crate::snapshot::Gap;
use finding::{Finding, NotAssessed};
use sizing::Sizing;
use std::cell::OnceCell;

/// A check. [`Check::explain`] is its user documentation (`gpuwaste explain CHECK`).
pub trait Check: Sync {
    /// Stable kebab-case id.
    fn id(&self) -> &'static str;

    /// What it finds, in one sentence.
    fn summary(&self) -> &'static str;

    /// What it finds, why it costs, how the dollars are computed, when it is wrong, what to do.
    fn explain(&self) -> &'static str;

    /// The parts its findings come in; `None`: findings without one.
    fn parts(&self) -> &'static [Option<&'static str>] {
        &[None]
    }

    /// Judges the whole fleet. Pure: everything it needs is in its arguments.
    fn run(&self, context: &Context<'_>, out: &mut Outcome);
}

/// What every check gets.
pub struct Context<'a> {
    pub fleet: &'a Fleet,
    pub settings: &'a Settings,
    /// Made by the first check that asks: three of them speak from one plan.
    sizing: OnceCell<Sizing>,
}

impl<'a> Context<'a> {
    pub fn new(fleet: &'a Fleet, settings: &'a Settings) -> Self {
        Self {
            fleet,
            settings,
            sizing: OnceCell::new(),
        }
    }

    fn sizing(&self) -> &Sizing {
        self.sizing
            .get_or_init(|| Sizing::new(self.fleet, &self.settings.thresholds))
    }
}

/// What one check found, judged, and could not judge.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub findings: Vec<Finding>,
    /// Slots that the check could judge, finding or not.
    pub assessed: Vec<SlotId>,
    pub not_assessed: Vec<NotAssessed>,
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
    &hygiene::CpuGpuImbalance,
    &hygiene::ParallelismMismatch,
    &idle_schedule::IdleSchedule,
    &cost_growth::CostGrowth,
    &sharing::SharingMismatch,
    &mig_layout::MigLayout,
    &cpu_pods::CpuPodsOnGpuNode,
    &low_utilization::LowUtilization,
    &manifest::SpecHygiene,
];

/// Its check is known, and says that it has this part.
fn is_declared(finding: &Finding) -> bool {
    CHECKS
        .iter()
        .any(|c| c.id() == finding.check && c.parts().contains(&finding.part))
}

/// Runs the checks that `wanted` accepts, in the registry's order.
pub fn run(context: &Context<'_>, wanted: impl Fn(&str) -> bool) -> Vec<(&'static str, Outcome)> {
    CHECKS
        .iter()
        .filter(|c| wanted(c.id()))
        .map(|check| {
            let mut out = Outcome::default();
            check.run(context, &mut out);
            support::set_aside_unread_owners(context.fleet, &mut out);
            for finding in &mut out.findings {
                debug_assert!(is_declared(finding), "{}/{:?}", finding.check, finding.part);
                support::apply_opt_out(context.fleet, finding);
            }
            (check.id(), out)
        })
        .collect()
}
