//! The checks: one file a check, one line in [`CHECKS`].

pub(crate) mod finding;

use crate::fleet::{Fleet, SlotId};
use crate::settings::Settings;
use finding::{Finding, NotAssessed};

/// A check. The doc comment of each implementing module is its user documentation (`gpuwaste explain CHECK`).
pub(crate) trait Check: Sync {
    /// Stable kebab-case id.
    fn id(&self) -> &'static str;

    /// What it finds, why it costs, how the dollars are computed, when it is wrong, what to do.
    fn explain(&self) -> &'static str;

    /// Judges the whole fleet. Pure: everything it needs is in its arguments.
    fn run(&self, context: &Context<'_>, out: &mut Outcome);
}

/// What every check gets.
pub(crate) struct Context<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) settings: &'a Settings,
}

/// What one check found, judged, and could not judge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) findings: Vec<Finding>,
    /// Slots that the check could judge, finding or not.
    pub(crate) assessed: Vec<SlotId>,
    pub(crate) not_assessed: Vec<NotAssessed>,
}

/// The registry: adding a check is a file and a line here.
pub(crate) const CHECKS: &[&dyn Check] = &[];
