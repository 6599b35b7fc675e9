//! R11: what independent sources say of one fact, laid side by side, with one verdict. Checks ask this, never a raw source.
//!
//! A fact is *agreed* where two independent sources say the same, *alone* where one speaks, *contradicted* where they
//! differ, *unread* where none could be asked. Contradicted is never waste.

use super::{Fleet, GpuActivity, SlotId, plausible};
use crate::catalog::gpus::GpuFacts;
use crate::settings::Thresholds;
use crate::snapshot::cluster::Scheduler;
use crate::snapshot::figure::Figure;

/// Who says something of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Pods and claims, as the API server lists them.
    Kubernetes,
    /// Jobs, and what nodes call allocated.
    Slurm,
    /// The node's exporter, read now.
    Exporter,
    /// Device series of a Prometheus-compatible store.
    History,
    /// Counters of the server that holds it.
    Engine,
}

impl Source {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Slurm => "slurm",
            Self::Exporter => "exporter",
            Self::History => "prometheus",
            Self::Engine => "engine",
        }
    }
}

/// What one source says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Testimony {
    pub source: Source,
    pub says: bool,
    /// Over so many seconds; 0: one look.
    pub seconds: f64,
}

/// How far the sources agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Agreed,
    Alone,
    Contradicted,
    #[default]
    Unread,
}

impl Verdict {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Alone => "alone",
            Self::Contradicted => "contradicted",
            Self::Unread => "unread",
        }
    }
}

/// One fact, as every source that was read tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fact {
    pub says: Vec<Testimony>,
    /// A source's own figures contradict each other: it says neither yes nor no.
    pub doubted_by: Option<Source>,
}

impl Fact {
    pub fn verdict(&self) -> Verdict {
        match self.says.as_slice() {
            _ if self.doubted_by.is_some() => Verdict::Contradicted,
            [] => Verdict::Unread,
            [_] => Verdict::Alone,
            [first, rest @ ..] if rest.iter().all(|t| t.says == first.says) => Verdict::Agreed,
            _ => Verdict::Contradicted,
        }
    }

    /// Any source says yes.
    pub fn claimed(&self) -> bool {
        self.says.iter().any(|t| t.says)
    }

    /// At least one source speaks, all of them say no, and none is in doubt.
    pub fn denied(&self) -> bool {
        !self.says.is_empty() && !self.claimed() && self.doubted_by.is_none()
    }

    /// The longest that a source that says no has looked, seconds.
    pub fn denied_for(&self) -> f64 {
        self.says
            .iter()
            .filter(|t| !t.says)
            .map(|t| t.seconds)
            .fold(0.0, f64::max)
    }

    pub fn source(&self, source: Source) -> Option<&Testimony> {
        self.says.iter().find(|t| t.source == source)
    }

    fn tell(&mut self, source: Source, says: Option<bool>, seconds: f64) {
        if let Some(says) = says {
            self.says.push(Testimony { source, says, seconds });
        }
    }

    /// "contradicted: kubernetes no, exporter yes".
    pub fn words(&self) -> String {
        let one = |t: &Testimony| format!("{} {}", t.source.name(), if t.says { "yes" } else { "no" });
        let mut all: Vec<String> = self.says.iter().map(one).collect();
        all.extend(self.doubted_by.map(|s| format!("{}'s own figures differ", s.name())));
        if all.is_empty() {
            return self.verdict().name().into();
        }
        format!("{}: {}", self.verdict().name(), all.join(", "))
    }
}

/// The facts of one slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// A pod or a claim holds it.
    pub held: Fact,
    /// Something computes on it.
    pub works: Fact,
    /// More of its memory is taken than a driver at rest takes.
    pub memory: Fact,
}

/// What a device says of work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Device {
    /// Nothing computes.
    Calm,
    /// Something does.
    Works,
    /// Its own figures contradict each other.
    Doubtful,
    /// It is there, and does not tell enough.
    Blind,
}

/// Memory that contexts of the driver, its daemons and exporters take without any program (ours: 1 GiB; real idle GPUs show
/// 0 to 600 MiB).
const TAKEN_BYTES: f64 = (1_u64 << 30) as f64;

/// Lays the sources side by side for every slot. Activity must be attached.
pub(super) fn attach(fleet: &mut Fleet, t: &Thresholds) {
    plausible::keep(fleet);
    for index in 0..fleet.slots.len() {
        let id = SlotId(index);
        let facts = Facts {
            held: held(fleet, id),
            works: works(fleet, id, t),
            memory: memory(fleet, id),
        };
        fleet.slots[index].facts = facts;
    }
}

fn held(fleet: &Fleet, id: SlotId) -> Fact {
    let slot = fleet.slot(id);
    let cluster = &fleet.clusters[fleet.node(slot.node).cluster];
    let mut fact = Fact::default();
    let listed = slot.is_allocated();
    fact.tell(
        match cluster.scheduler {
            Scheduler::Kubernetes => Source::Kubernetes,
            Scheduler::Slurm => Source::Slurm,
        },
        (listed || cluster.pods_known).then_some(listed),
        0.0,
    );
    for (source, activity) in readings(slot) {
        fact.tell(source, activity.held, activity.window_seconds);
    }
    fact
}

fn works(fleet: &Fleet, id: SlotId, t: &Thresholds) -> Fact {
    let slot = fleet.slot(id);
    let gpu = fleet.gpu_of(id);
    let mut fact = Fact::default();
    for (source, activity) in readings(slot) {
        let says = match device(activity, gpu, t) {
            Device::Works => Some(true),
            // Another exporter of the node was not read, and may have seen it work.
            Device::Calm if source == Source::Exporter && fleet.node(slot.node).exporter_lost => None,
            Device::Calm => Some(false),
            Device::Doubtful | Device::Blind => None,
        };
        if device(activity, gpu, t) == Device::Doubtful {
            fact.doubted_by = Some(source);
        }
        fact.tell(source, says, activity.window_seconds);
    }
    fact
}

fn memory(fleet: &Fleet, id: SlotId) -> Fact {
    let mut fact = Fact::default();
    for (source, activity) in readings(fleet.slot(id)) {
        let used = activity.memory_used.and_then(|s| s.p50.or(s.mean).or(s.max));
        fact.tell(source, used.map(|b| b > TAKEN_BYTES), activity.window_seconds);
    }
    fact
}

/// What the slot's own device shows, live and by history.
fn readings(slot: &super::Slot) -> impl Iterator<Item = (Source, &GpuActivity)> {
    let stored = slot
        .activity
        .as_ref()
        .filter(|a| a.history)
        .map(|a| (Source::History, a));
    let live = slot.live.as_deref().or(slot.activity.as_ref().filter(|a| !a.history));
    live.map(|a| (Source::Exporter, a))
        .into_iter()
        .chain(stored)
        .filter(|(_, a)| a.attributed)
}

/// Cards of so little power draw a larger part of it at rest (an A10 60 of 150 W, an L4 30 of 72 W), watts.
const SMALL_CARD: f64 = 150.0;

/// What a device's own figures say: any sign of work wins. Utilization alone is the weakest: ranks that wait in a collective
/// show 100 % of it, so that beside little power and units at rest nobody can tell.
pub(super) fn device(activity: &GpuActivity, gpu: Option<&GpuFacts>, t: &Thresholds) -> Device {
    let value = |s: Option<Figure>| s.and_then(|s| s.p95.or(s.mean).or(s.max));
    let hot = gpu
        .and_then(|g| g.tdp)
        .zip(value(activity.power_watts))
        .map(|(tdp, watts)| {
            let small = tdp.0 <= SMALL_CARD;
            watts
                > tdp.0
                    * if small {
                        t.idle_power_share_small
                    } else {
                        t.idle_power_share
                    }
        });
    let inside = [activity.tensor, activity.dram].map(|s| value(s).map(|v| v > t.idle_activity));
    let at_rest = inside == [Some(false), Some(false)];
    let engines = [activity.engine_active, activity.gpu_util]
        .into_iter()
        .filter_map(value);
    let engine = engines.reduce(f64::max).map(|v| v > t.idle_gpu_activity);
    match (engine, hot) {
        _ if inside.contains(&Some(true)) => Device::Works,
        // Nothing runs, and the card is hot; or something runs that computes nothing and draws nothing.
        (Some(false), Some(true)) => Device::Doubtful,
        (Some(true), Some(false)) | (None, Some(true)) if at_rest => Device::Doubtful,
        (Some(true), _) | (_, Some(true)) => Device::Works,
        (Some(false), _) | (_, Some(false)) => Device::Calm,
        (None, None) if at_rest => Device::Calm,
        (None, None) => Device::Blind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::gpus;

    fn fact(says: &[(Source, bool)]) -> Fact {
        let one = |(source, says): &(Source, bool)| Testimony {
            source: *source,
            says: *says,
            seconds: 60.0,
        };
        Fact {
            says: says.iter().map(one).collect(),
            doubted_by: None,
        }
    }

    #[test]
    fn one_source_is_alone_two_agree_or_contradict() {
        use Source::{Exporter, History, Kubernetes};
        for (says, verdict) in [
            (&[][..], Verdict::Unread),
            (&[(Kubernetes, false)], Verdict::Alone),
            (&[(Kubernetes, false), (Exporter, false)], Verdict::Agreed),
            (&[(Kubernetes, false), (Exporter, true)], Verdict::Contradicted),
            (
                &[(Kubernetes, true), (Exporter, true), (History, false)],
                Verdict::Contradicted,
            ),
        ] {
            assert_eq!(fact(says).verdict(), verdict, "{says:?}");
        }
        assert!(
            !fact(&[]).denied() && !fact(&[]).claimed(),
            "unread is neither yes nor no"
        );
        assert_eq!(
            fact(&[(Kubernetes, false), (Exporter, true)]).words(),
            "contradicted: kubernetes no, exporter yes"
        );
    }

    fn seen(tensor: Option<f64>, dram: Option<f64>, util: Option<f64>, watts: Option<f64>) -> Device {
        let stat = |v: Option<f64>| {
            v.map(|v| Figure {
                mean: Some(v),
                max: Some(v),
                ..Figure::default()
            })
        };
        let activity = GpuActivity {
            tensor: stat(tensor),
            dram: stat(dram),
            engine_active: stat(util),
            power_watts: stat(watts),
            attributed: true,
            ..GpuActivity::default()
        };
        device(&activity, gpus::find("H100-SXM5-80GB"), &Thresholds::default())
    }

    #[test]
    fn a_device_at_work_is_never_calm() {
        // Tensor units at work beside little power: a small model.
        assert_eq!(seen(Some(0.1), Some(0.1), Some(0.5), Some(150.0)), Device::Works);
        assert_eq!(seen(None, None, Some(1.0), Some(650.0)), Device::Works);
        // Utilization without anything computed: a rank that spins in a collective.
        assert_eq!(seen(Some(0.0), Some(0.001), Some(1.0), Some(130.0)), Device::Doubtful);
        // Nobody tells what is computed.
        assert_eq!(seen(None, None, Some(1.0), Some(100.0)), Device::Works);
        assert_eq!(seen(Some(0.0), Some(0.0), Some(0.0), Some(100.0)), Device::Calm);
        assert_eq!(seen(None, None, Some(0.0), Some(100.0)), Device::Calm);
        assert_eq!(seen(None, None, Some(0.0), None), Device::Calm);
        assert_eq!(seen(None, None, None, None), Device::Blind);
        // Hot, and nothing computed that counters show: they may be stuck.
        assert_eq!(seen(Some(0.0), Some(0.0), Some(0.0), Some(600.0)), Device::Doubtful);
        assert_eq!(seen(None, None, None, Some(600.0)), Device::Works);
    }
}
